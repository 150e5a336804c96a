"""Hard inputs of power flow and N-1: every hour and outage gets an outcome with a name; no exception, no NaN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bos_core.access.commit import without_nan
from bos_core.access.criteria import criteria
from bos_core.exchange import import_grid, to_columns
from bos_core.exchange.pandapower_net import NetReader
from bos_core.grid.assembly import assemble
from bos_core.grid.model import Grid, Snapshot
from bos_core.grid.power_flow import branch_flows
from flows.power_flow_step import results
from flows.step6_n1_verification import n1_tables
from slots.n1_verification import batched_newton, full_newton
from slots.n1_verification import contract as n1
from slots.power_flow import contract, newton

pytestmark = pytest.mark.filterwarnings("ignore")

Case = tuple[Grid, Snapshot]


def with_network(case: Case, **changes: tuple[Any, Any]) -> Case:
    """Return the case with values of the network changed at some positions."""
    network = case[0].network
    columns = {}
    for name, (at, value) in changes.items():
        columns[name] = getattr(network, name).copy()
        columns[name][at] = value
    return replace(case[0], network=replace(network, **columns)), case[1]


def with_state(case: Case, **changes: Any) -> Case:
    return case[0], replace(case[1], **changes)


@pytest.fixture(scope="module")
def case14() -> Case:
    return assemble(to_columns(import_grid("pandapower:case14").tables))


def phase_shifter(case: Case) -> Case:
    return with_network(case, shift_rad=(0, np.pi / 2))


def same_bus(case: Case) -> Case:
    """All units but the first at one bus, with set points that contradict each other."""
    grid, snapshot = case
    bus = grid.units.bus.copy()
    bus[1:] = bus[1]
    controlled = np.isfinite(snapshot.unit_vm_set_pu)
    points = np.where(controlled, np.linspace(0.97, 1.05, bus.size), np.nan)
    return replace(grid, units=replace(grid.units, bus=bus)), replace(snapshot, unit_vm_set_pu=points)


def cancelling(case: Case) -> Case:
    """Two parallel branches whose impedances cancel: the DC network is singular."""
    n = case[0].network
    changes = {"from_bus": n.from_bus[0], "to_bus": n.to_bus[0], "x_pu": -n.x_pu[0], "r_pu": -n.r_pu[0]}
    return with_network(case, **{name: (1, value) for name, value in changes.items()})


def limits_of_nothing(case: Case) -> Case:
    """Reactive ranges of no width."""
    units = case[0].units
    return replace(case[0], units=replace(units, q_mvar_min=units.q_mvar_max)), case[1]


HARD: Mapping[str, tuple[Callable[[Case], Case], bool | None]] = {
    "as it is": (lambda c: c, True),
    "voltage collapse": (lambda c: with_state(c, load_p_mw=20 * c[1].load_p_mw), False),
    "negative loads": (lambda c: with_state(c, load_p_mw=-c[1].load_p_mw, load_q_mvar=-c[1].load_q_mvar), True),
    "no load": (lambda c: with_state(c, load_p_mw=0 * c[1].load_p_mw, load_q_mvar=0 * c[1].load_q_mvar), True),
    "no unit runs": (lambda c: with_state(c, unit_on=np.zeros_like(c[1].unit_on)), True),
    "a very short line": (lambda c: with_network(c, x_pu=(3, 1e-7), r_pu=(3, 0.0)), True),
    "a branch without impedance": (lambda c: with_network(c, x_pu=(3, 0.0), r_pu=(3, 0.0)), False),
    "a resistive branch": (lambda c: with_network(c, x_pu=(3, 0.0), r_pu=(3, 0.05)), None),
    "a series capacitor": (lambda c: with_network(c, x_pu=(3, -0.05)), None),
    "impedances that cancel": (cancelling, None),
    "a phase shifter of 90 degrees": (phase_shifter, None),
    "units at one bus with different set points": (same_bus, True),
    "reactive ranges of no width": (limits_of_nothing, True),
    "no branch is rated": (
        lambda c: with_network(c, i_max_from_pu=(slice(None), np.inf), i_max_to_pu=(slice(None), np.inf)),
        True,
    ),
    "start values unknown": (lambda c: with_state(c, vm_pu=np.full_like(c[1].vm_pu, np.nan)), True),
    "start values of zero": (lambda c: with_state(c, vm_pu=np.zeros_like(c[1].vm_pu)), True),
    "an impossible set point": (lambda c: with_state(c, unit_vm_set_pu=0.2 * c[1].unit_vm_set_pu), None),
}


def assert_nothing_is_nan(tables: Mapping[str, pa.Table]) -> None:
    for name, table in tables.items():
        for column in table.column_names:
            if pa.types.is_floating(table.schema.field(column).type):
                finite = pc.is_finite(without_nan(table)[column].drop_null())
                assert pc.all(finite).as_py() is not False, f"{name}.{column}"


@pytest.mark.parametrize("distributed", [False, True])
@pytest.mark.parametrize("name", HARD)
def test_power_flow_names_the_outcome(case14: Case, name: str, distributed: bool) -> None:
    change, expected = HARD[name]
    grid, snapshot = change(case14)
    limits = criteria(grid, import_grid("pandapower:case14").tables.__getitem__)
    inputs = contract.Inputs(grid, snapshot.block(), distributed_slack=distributed)
    outputs = newton.run(inputs, newton.Parameters())
    tables = results(np.arange(1), outputs, branch_flows(grid, outputs.states), limits, "snapshot", True)
    assert contract.CONTRACT.verify(inputs, outputs) == []
    if expected is not None:
        assert (outputs.outcome[0] == contract.CONVERGED) == expected
    assert_nothing_is_nan(tables)
    assert ("buses" in tables) == (outputs.outcome[0] == contract.CONVERGED)


@pytest.mark.parametrize("program", [batched_newton, full_newton])
@pytest.mark.parametrize("name", [name for name in HARD if not name.startswith("start")])
def test_n1_names_the_outcome_of_every_outage(case14: Case, name: str, program: Any) -> None:
    change, expected = HARD[name]
    grid, snapshot = change(case14)
    limits = criteria(grid, import_grid("pandapower:case14").tables.__getitem__)
    network = grid.network
    outage = np.flatnonzero(network.outage_candidate)
    inputs = n1.Inputs(
        grid=grid,
        states=snapshot.block(),
        contingency_branch=outage,
        vm_pu_min=np.full(network.n_bus, 0.9),
        vm_pu_max=np.full(network.n_bus, 1.1),
        loading_max=np.ones(network.n_branch),
    )
    outputs = program.run(inputs, program.Parameters())
    assert n1.CONTRACT.verify(inputs, outputs) == []
    if expected is False:
        assert (outputs.outcome == n1.DIVERGED).all()
    assert_nothing_is_nan(n1_tables(outage, np.arange(1), limits, outputs))


def test_a_bridge_says_what_it_cuts_off() -> None:
    net = pn.case9()
    last = pp.create_bus(net, 345.0, name="Spur")
    pp.create_line_from_parameters(net, 4, last, 1.0, 1.0, 10.0, 0.0, 1.0, name="Bridge")
    pp.create_load(net, last, p_mw=7.0, q_mvar=1.0, name="Cut off")
    grid, snapshot = assemble(to_columns(NetReader(net, "spur").read().finish().tables))
    network = grid.network
    bridge = int(np.flatnonzero(network.branch_name == "Bridge")[0])
    inputs = n1.Inputs(
        grid=grid,
        states=snapshot.block(),
        contingency_branch=np.array([bridge]),
        vm_pu_min=np.full(network.n_bus, 0.9),
        vm_pu_max=np.full(network.n_bus, 1.1),
        loading_max=np.ones(network.n_branch),
    )
    outputs = batched_newton.run(inputs, batched_newton.Parameters())
    assert outputs.outcome.tolist() == [[n1.ISLANDED]]
    assert outputs.lost_load_mw.tolist() == [[7.0]]
