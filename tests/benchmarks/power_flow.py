"""Base power flow: one state of networks of 9 to 34,479 buses."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import tools
from frame import OURS, Accuracy, Bench, Row
from networks import CASES, TOLERANCE_PU, Case, angle_free, builtin, largest, simbench
from timing import Timing, best_of

from bos_core.grid.elimination import eliminate
from bos_core.grid.power_flow import CONVERGED, PowerFlowSolution, dc_start, solve

TITLE = "Power flow of one state, 1e-8 p.u., single slack, no reactive limits"
PACKAGES = ("numpy", "scipy", "numba", "pandapower", "lightsim2grid", "pypowsybl", "simbench")
SAME_PU = 1e-6
BUDGET_S = 1.0


def run(bench: Bench, budget_s: float) -> None:
    """Solve every network with every tool."""
    bench.settings |= {
        "first": "nothing is known of the topology; DC start included. Reading and converting data never counts",
        "again": "the same topology once more, with what each tool keeps of it, from common start voltages",
        "pandapower": "the whole of runpp, its tables included, numba, from the common start",
        "lightsim2grid": "KLU, single slack; our pi models and bus injections",
        "OpenLoadFlow": "by pypowsybl, from our XIIDM export; the threads of its Java image count as CPU",
        "power-grid-model": "has no voltage-controlled buses: given the Q of our solution, an easier problem",
    }
    for name in (*CASES, "simbench"):
        with bench.doing(f"reading {name}"):
            case = simbench() if name == "simbench" else builtin(name)
        _solve(bench, case)
        del case
        gc.collect()


def _solve(bench: Bench, case: Case) -> None:
    reference = _ours(bench, case)
    slack = case.grid.network.slack

    def row(what: str, tool: str, times: Timing, v: np.ndarray) -> None:
        far = largest(angle_free(v, reference, slack), reference)
        note = "" if far <= SAME_PU else f"Residual in our equations {residual(case, v, reference):.0e} p.u."
        accuracy = Accuracy("max |dV| p.u.", far, SAME_PU)
        bench.add(Row(_group(case, what), case.n_bus, tool, "solve", times, (accuracy,), note=note, panel=what))

    with bench.peer("pandapower", case.name):
        times, _ = best_of(lambda: tools.run_pandapower(case, start=case.start), budget_s=BUDGET_S)
        row("first", "pandapower", times, case.voltages())
    with bench.peer("lightsim2grid", case.name):
        _lightsim(case, row)
    with bench.peer("OpenLoadFlow", case.name):
        _open_load_flow(case, row)
    with bench.peer("power-grid-model", case.name):
        _power_grid_model(bench, case, reference, row)


def residual(case: Case, v: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest difference of bus powers to those of the reference, without the slack, p.u."""
    y = case.grid.network.admittance_matrix()
    gap = np.abs(v * np.conj(y @ v) - reference * np.conj(y @ reference))
    gap[case.grid.network.slack] = 0.0
    return float(gap.max())


def _group(case: Case, what: str) -> str:
    return f"{case.n_bus:,} buses ({case.name}), {what}"


def _ours(bench: Bench, case: Case) -> np.ndarray:
    network, injections = case.grid.network, case.injections

    def first() -> PowerFlowSolution:
        found = eliminate(network)
        start = dc_start(network, injections, case.slack_rad, elimination=found)
        return solve(network, injections, start, tol=TOLERANCE_PU, enforce_q_limits=False, elimination=found)

    known = eliminate(network)

    def again() -> PowerFlowSolution:
        return solve(network, injections, case.start, tol=TOLERANCE_PU, enforce_q_limits=False, elimination=known)

    for what, work in (("first", first), ("again", again)):
        with bench.doing(f"{OURS} {case.name} {what}"):
            times, solution = best_of(work, budget_s=BUDGET_S)
        if solution.outcome != CONVERGED:
            raise RuntimeError(f"{case.name} did not converge")
        figures = {"iterations": solution.iterations, "residual_pu": solution.residual_pu}
        bench.add(
            Row(_group(case, what), case.n_bus, OURS, "solve", times, figures=figures, panel=what, reference=True)
        )
    return solution.v_pu


def _lightsim(case: Case, row: Callable[..., None]) -> None:
    model, _ = tools.lightsim(case)
    flat = np.full(case.n_bus, np.mean(case.injections.vm_set_pu[case.injections.voltage_control]), complex)
    flat *= np.exp(1j * case.slack_rad)

    def first(fresh: Any) -> np.ndarray:
        return fresh.ac_pf(fresh.dc_pf(flat, 1, TOLERANCE_PU), 30, TOLERANCE_PU)

    times, v = best_of(first, prepare=lambda: (model.copy(),), budget_s=BUDGET_S)
    if not len(v):
        raise RuntimeError("diverged")
    row("first", "lightsim2grid", times, v)
    times, v = best_of(lambda: model.ac_pf(case.start, 30, TOLERANCE_PU), budget_s=BUDGET_S)
    if not len(v):
        raise RuntimeError("diverged from the common start")
    row("again", "lightsim2grid", times, v)


def _open_load_flow(case: Case, row: Callable[..., None]) -> None:
    import pypowsybl.loadflow as lf

    network, parameters = tools.powsybl(case), tools.open_load_flow(case)
    times, result = best_of(lambda: lf.run_ac(network, parameters), budget_s=BUDGET_S)
    if result[0].status != lf.ComponentStatus.CONVERGED:
        raise RuntimeError(f"{result[0].status_text}")
    row("first", "OpenLoadFlow", times, tools.powsybl_voltages(network, case))


def _power_grid_model(bench: Bench, case: Case, reference: np.ndarray, row: Callable[..., None]) -> None:
    facts, found = tools.in_environment("pgm_power_flow.py", pgm_arrays(case, reference))
    bench.versions["power-grid-model"] = facts["version"]
    row("first", "power-grid-model", Timing(**facts["first"]), found["v"])
    row("again", "power-grid-model", Timing(**facts["again"]), found["v"])


def pgm_arrays(case: Case, v: np.ndarray) -> dict[str, np.ndarray]:
    """Return what power-grid-model's script takes; every bus has the injection of the solution `v`."""
    network = case.grid.network
    into = v * np.conj(network.admittance_matrix() @ v)
    unequal_g = (network.g_from_pu - network.g_to_pu) / network.ratio**2
    unequal_b = (network.b_from_pu - network.b_to_pu) / network.ratio**2
    g, b = network.g_shunt_pu.copy(), network.b_shunt_pu.copy()
    np.add.at(g, network.from_bus, unequal_g)
    np.add.at(b, network.from_bus, unequal_b)
    names = ("from_bus", "to_bus", "r_pu", "x_pu", "g_to_pu", "b_to_pu", "ratio", "shift_rad")
    return {
        **{name: getattr(network, name) for name in names},
        "g_shunt_pu": g, "b_shunt_pu": b, "p_pu": into.real, "q_pu": into.imag,
        "slack": np.array(network.slack), "vm_slack": np.abs(v[network.slack]),
        "va_slack": np.angle(v[network.slack]),
        "tolerance": np.array(TOLERANCE_PU), "budget": np.array(BUDGET_S),
    }  # fmt: skip
