"""A schedule where none was planned: the load is met, nothing exceeds what it can give."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bos_core.grid.balance import balanced
from bos_core.grid.injections import hvdc_injections
from bos_core.grid.model import Grid, Snapshot
from bos_core.grid.power_flow import CONVERGED, solve_hours

Case = tuple[Grid, Snapshot]


def demand(grid: Grid, states: Snapshot) -> np.ndarray:
    from_mw, to_mw = hvdc_injections(grid.hvdc, states.hvdc_p_mw)
    return states.load_p_mw.sum(axis=1) - states.storage_p_mw.sum(axis=1) - (from_mw + to_mw).sum(axis=1)


@pytest.mark.parametrize("load", [0.2, 1.0])
def test_the_load_is_met_and_units_share_it_by_size(spur_case: Callable[..., Case], load: float) -> None:
    grid, snapshot = spur_case(load)
    on = np.ones((1, grid.units.n), bool)
    available = np.where(grid.units.variable, 0.1 * grid.units.p_mw_max, 0.0)[None]
    states = balanced(grid, snapshot.block(), available, on)
    assert states.unit_p_mw.sum(axis=1) == pytest.approx(demand(grid, states))
    steerable = ~grid.units.variable & (grid.units.p_mw_max > 0)
    share = states.unit_p_mw[0, steerable] / grid.units.p_mw_max[steerable]
    assert np.ptp(share) < 1e-12
    assert ((share >= 0) & (share <= 1)).all()
    assert np.array_equal(states.unit_p_mw[:, grid.units.variable], available[:, grid.units.variable])


def test_infeed_above_the_load_is_curtailed(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case(0.05)
    on = np.ones((1, grid.units.n), bool)
    states = balanced(grid, snapshot.block(), grid.units.p_mw_max[None], on)
    assert grid.units.p_mw_max[grid.units.variable].sum() > demand(grid, states)[0]
    assert states.unit_p_mw.sum(axis=1) == pytest.approx(demand(grid, states))
    assert (states.unit_p_mw[:, ~grid.units.variable] == 0).all()


def test_what_units_cannot_cover_stays_with_the_balance(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case(50.0)
    states = balanced(grid, snapshot.block(), grid.units.p_mw_max[None], np.ones((1, grid.units.n), bool))
    assert (states.unit_p_mw <= grid.units.p_mw_max + 1e-9).all()
    assert states.unit_p_mw.sum() < demand(grid, states)[0]


def test_units_out_of_service_stand_still_and_control_nothing(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    on = np.ones((1, grid.units.n), bool)
    on[0, 2] = False
    states = balanced(grid, snapshot.block(), np.zeros((1, grid.units.n)), on)
    assert states.unit_p_mw[0, 2] == 0
    assert np.isnan(states.unit_vm_set_pu[0, 2])


def test_a_unit_that_was_off_holds_the_voltage_of_its_bus(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    off = int(np.flatnonzero(~snapshot.unit_on)[0])
    voltage = snapshot.vm_pu.copy()
    voltage[grid.units.bus[off]] = 1.013
    snapshot = replace(
        snapshot, vm_pu=voltage, unit_vm_set_pu=np.where(snapshot.unit_on, snapshot.unit_vm_set_pu, np.nan)
    )
    states = balanced(grid, snapshot.block(), np.zeros((1, grid.units.n)), np.ones((1, grid.units.n), bool))
    assert grid.units.voltage_control[off]
    assert states.unit_vm_set_pu[0, off] == 1.013
    assert solve_hours(grid, states, distributed_slack=True).outcome[0] == CONVERGED


def test_a_block_is_its_hours(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    block = snapshot.block()
    two = Snapshot(**{name: np.repeat(values, 2, axis=0) for name, values in vars(block).items()})
    two = replace(two, load_p_mw=two.load_p_mw * np.array([[1.0], [0.5]]))
    available, on = np.full((2, grid.units.n), 20.0), np.ones((2, grid.units.n), bool)
    both = balanced(grid, two, available, on)
    alone = balanced(grid, two.hour(1).block(), available[1:], on[1:])
    assert np.array_equal(both.unit_p_mw[1], alone.unit_p_mw[0])
