"""N-1 against tools of other people: pandapower case by case, lightsim2grid on a larger grid."""

import warnings
from dataclasses import fields, replace

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pytest
from lightsim2grid.contingencyAnalysis import ContingencyAnalysisCPP
from lightsim2grid.network import init_from_pandapower

from bos_core.exchange import import_grid, to_columns
from bos_core.grid.assembly import assemble
from bos_core.grid.model import Grid, Snapshot
from slots.n1_verification import batched_newton, full_newton
from slots.n1_verification.contract import CONVERGED, DIVERGED, ISLANDED, Inputs, Outputs


def read(name: str) -> tuple[Grid, Snapshot]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return assemble(to_columns(import_grid(f"pandapower:{name}").tables))


def inputs_of(grid: Grid, snapshot: Snapshot, branches: np.ndarray, enforce: bool) -> Inputs:
    """Rate every branch at 2 p.u., so that loading is a current."""
    n, m = grid.network.n_bus, grid.network.n_branch
    rated = replace(grid.network, i_max_from_pu=np.full(m, 2.0), i_max_to_pu=np.full(m, 2.0))
    grid = replace(grid, network=rated)
    return Inputs(grid, snapshot.block(), branches, np.full(n, 0.95), np.full(n, 1.05), np.full(m, 1.0), enforce)


def outage_by_pandapower(net: pp.pandapowerNet, name: str) -> tuple[int, np.ndarray, np.ndarray]:
    """Return class, voltages (NaN where dead) and currents (branch, p.u. of 2) of one outage."""
    table, row = name.split()
    net[table].loc[int(row), "in_service"] = False
    try:
        pp.runpp(
            net, init="dc", trafo_model="t", calculate_voltage_angles=True, tolerance_mva=1e-8, max_iteration=30,
        )  # fmt: skip
    except pp.LoadflowNotConverged:
        return DIVERGED, np.zeros(0), np.zeros(0)
    finally:
        net[table].loc[int(row), "in_service"] = True
    vm = net.res_bus.vm_pu.to_numpy()
    kv = net.bus.vn_kv
    base = net.sn_mva
    i_line = np.maximum(net.res_line.i_from_ka, net.res_line.i_to_ka) * np.sqrt(3) / base
    i_line = (i_line * net.line.from_bus.map(kv)).to_numpy()
    high, low = net.res_trafo.i_hv_ka * net.trafo.hv_bus.map(kv), net.res_trafo.i_lv_ka * net.trafo.lv_bus.map(kv)
    i_trafo = (np.maximum(high, low) * np.sqrt(3) / base).to_numpy()
    current = np.concatenate([i_line, i_trafo]) / 2.0
    return (ISLANDED if np.isnan(vm).any() else CONVERGED), vm, current


@pytest.mark.parametrize(("name", "every"), [("case118", 1), ("case300", 12)])
def test_outages_agree_with_pandapower(name: str, every: int) -> None:
    grid, snapshot = read(name)
    names = grid.network.branch_name
    kinds = np.array([str(n).split()[0] for n in names])
    assert set(kinds) <= {"line", "trafo", "impedance"}
    branches = np.flatnonzero(np.isin(kinds, ["line", "trafo"]))[::every]
    outputs = batched_newton.run(inputs_of(grid, snapshot, branches, False), batched_newton.Parameters())
    net = getattr(pn, name)()
    compared = 0
    for c, branch in enumerate(branches):
        outcome, vm, current = outage_by_pandapower(net, str(names[branch]))
        mine = outputs.outcome[0, c]
        slack_lost = mine == ISLANDED and outcome != DIVERGED and 2 * np.isnan(vm).sum() > vm.size
        if slack_lost:
            continue
        assert mine == outcome, names[branch]
        if mine == DIVERGED:
            continue
        compared += 1
        assert abs(outputs.vm_min_pu[0, c] - np.nanmin(vm)) < 1e-6
        assert abs(outputs.vm_max_pu[0, c] - np.nanmax(vm)) < 1e-6
        assert abs(vm[outputs.vm_min_bus[0, c]] - np.nanmin(vm)) < 1e-6
        watched = kinds[outputs.loading_branch[0, c]] != "impedance"
        if watched:
            assert abs(outputs.loading_max[0, c] - np.nanmax(current)) < 1e-6
    assert compared > 0.8 * branches.size


def same(a: Outputs, b: Outputs) -> None:
    for field in fields(Outputs):
        if field.name in ("iterations", "residual_pu", "vm_min_bus", "vm_max_bus"):
            continue
        x, y = getattr(a, field.name), getattr(b, field.name)
        np.testing.assert_allclose(x, y, atol=5e-7, rtol=0, err_msg=field.name)


@pytest.mark.parametrize(("name", "every"), [("case14", 1), ("case39", 1), ("case118", 4)])
def test_programs_agree_within_reactive_limits(name: str, every: int) -> None:
    grid, snapshot = read(name)
    inputs = inputs_of(grid, snapshot, np.arange(0, grid.network.n_branch, every), True)
    mine = batched_newton.run(inputs, batched_newton.Parameters())
    same(mine, full_newton.run(inputs, full_newton.Parameters()))
    assert name != "case118" or mine.q_switches.sum() > 0


def test_larger_grid_agrees_with_lightsim2grid() -> None:
    """2,869 buses; lightsim2grid does not solve outages that cut the grid."""
    grid, snapshot = read("case2869pegase")
    branches = np.arange(0, grid.network.n_branch, 23)
    mine = batched_newton.run(inputs_of(grid, snapshot, branches, False), batched_newton.Parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = pn.case2869pegase()
        pp.runpp(net, init="dc", trafo_model="t", calculate_voltage_angles=True)
        model = init_from_pandapower(net)
    base = model.ac_pf(net._ppc["internal"]["V"].astype(complex), 10, 1e-9)
    tool = ContingencyAnalysisCPP(model)
    tool.add_multiple_n1(branches.tolist())
    tool.compute(base, 20, 1e-9)
    vm = np.abs(tool.get_voltages())
    solved = np.array(tool.converged_mask())
    np.testing.assert_array_equal(mine.outcome[0] == CONVERGED, solved)
    assert solved.sum() > 100
    assert np.abs(mine.vm_min_pu[0] - vm.min(axis=1))[solved].max() < 1e-7
    assert np.abs(mine.vm_max_pu[0] - vm.max(axis=1))[solved].max() < 1e-7
