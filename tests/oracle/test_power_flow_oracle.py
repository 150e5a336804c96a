"""AC power flow against pandapower's, with and without reactive limits."""

import warnings

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pytest

from bos_core.exchange import import_grid, to_columns
from bos_core.grid.assembly import assemble
from bos_core.grid.injections import bus_injections
from bos_core.grid.model import Grid, Snapshot
from bos_core.grid.power_flow import CONVERGED, PowerFlowSolution, network_at, solve, solve_hours


def read(name: str) -> tuple[Grid, Snapshot]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return assemble(to_columns(import_grid(f"pandapower:{name}").tables))


def solved_by_pandapower(name: str, **options: object) -> np.ndarray:
    net = getattr(pn, name)()
    pp.runpp(
        net,
        init="dc",
        trafo_model="t",
        calculate_voltage_angles=True,
        tolerance_mva=1e-9,
        max_iteration=50,
        **options,
    )
    return (net.res_bus.vm_pu * np.exp(1j * np.deg2rad(net.res_bus.va_degree))).to_numpy()


def start_of(snapshot: Snapshot) -> np.ndarray:
    return snapshot.vm_pu * np.exp(1j * snapshot.va_rad)


def assert_agrees(solution: PowerFlowSolution, expected: np.ndarray) -> None:
    assert solution.outcome == CONVERGED
    assert solution.vm_pu.size == expected.size
    assert np.abs(solution.v_pu - expected).max() < 1e-8


@pytest.mark.parametrize("name", ["case9", "case14", "case30", "case57", "case118", "case300", "case1354pegase"])
def test_voltages_agree(name: str) -> None:
    grid, snapshot = read(name)
    network = network_at(grid, snapshot)
    solution = solve(network, bus_injections(grid, snapshot), start_of(snapshot), enforce_q_limits=False)
    assert_agrees(solution, solved_by_pandapower(name))


@pytest.mark.parametrize("name", ["case14", "case39", "case118"])
def test_voltages_agree_within_reactive_limits(name: str) -> None:
    """These cases need no return to voltage control, which pandapower does not offer."""
    grid, snapshot = read(name)
    result = solve_hours(grid, snapshot.block())
    expected = solved_by_pandapower(name, enforce_q_lims=True)
    assert result.outcome[0] == CONVERGED
    v = result.states.vm_pu[0] * np.exp(1j * result.states.va_rad[0])
    assert np.abs(v - expected).max() < 1e-7


def test_flat_and_warm_start_meet() -> None:
    grid, snapshot = read("case1354pegase")
    network, given = network_at(grid, snapshot), bus_injections(grid, snapshot)
    a = solve(network, given)
    b = solve(network, given, a.v_pu)
    assert a.outcome == b.outcome == CONVERGED
    assert np.abs(a.v_pu - b.v_pu).max() < 1e-9
