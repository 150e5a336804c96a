"""Power flow of a series of hours on SimBench's extra-high-voltage grid."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import tools
from frame import OURS, Accuracy, Bench, Row
from home import planned_day, steady
from networks import TOLERANCE_PU, Case, angle_free, largest
from power_flow import pgm_arrays, residual
from timing import Timing, best_of

from bos_core.grid.injections import BusInjections, bus_injections
from bos_core.grid.model import Grid, Snapshot
from bos_core.grid.power_flow import CONVERGED, solve_hours

TITLE = "Power flow of a series of hours, 1e-8 p.u., single slack, no reactive limits"
PACKAGES = ("numpy", "scipy", "numba", "pandapower", "lightsim2grid", "pypowsybl", "simbench")
SIZE = "hours"
SAME_PU = 1e-6
FEW_HOURS = 6
"""Hours that the slower tools solve."""

DAYS_A_THREAD = 8


def run(bench: Bench, budget_s: float) -> None:
    """Solve the day's hours; every hour starts from the first hour's voltages."""
    bench.settings |= {
        "all": "power of loads and units changes by hour; taps, shunts and voltage control stay",
        OURS: "solve_hours: from device set points to bus injections, and back to every device's P and Q",
        "lightsim2grid": "TimeSeries in C++, KLU: injections given as arrays, voltages back",
        "power-grid-model": "batch; given the Q of our solution instead of voltage control, an easier problem",
        "OpenLoadFlow": "by pypowsybl: generators and loads updated as data frames, previous voltages as start",
        "pandapower": "runpp, numba, from the first hour's voltages; time of updating its tables not counted",
    }
    day = planned_day(bench)
    states = steady(day.grid, day.states)
    count = states.vm_pu.shape[0]
    given = bus_injections(day.grid, states)
    with bench.doing(OURS):
        times, answer = best_of(lambda: solve_hours(day.grid, states, enforce_q_limits=False), budget_s=4.0)
    if (answer.outcome != CONVERGED).any():
        raise RuntimeError(f"{(answer.outcome != CONVERGED).sum()} hours did not converge")
    v = answer.states.vm_pu * np.exp(1j * answer.states.va_rad)
    group = f"{count} hours, {day.grid.network.n_bus} buses (SimBench EHV)"
    figures = {"iterations_mean": float(answer.iterations.mean()), "residual_pu": float(answer.residual_pu.max())}
    bench.add(Row(group, count, OURS, "hour", times.per(count), figures=figures, reference=True))
    _variants(bench, day.grid, states, day.states)
    first = states.hour(0)
    with bench.doing("exporting"):
        case = day.case(first, "ehv-first")

    def row(
        tool: str, times: Timing, found: np.ndarray, hours: int, note: str = "", failed: Sequence[int] = ()
    ) -> None:
        slack = day.grid.network.slack
        solved = [h for h in range(hours) if h not in failed]
        off = max((largest(angle_free(found[h], v[h], slack), v[h]) for h in solved), default=np.inf)
        accuracy = [Accuracy("max |dV| p.u.", off, SAME_PU)]
        if solved and off > SAME_PU:
            left = max(residual(case, found[h], v[h]) for h in solved)
            note = f"{note}; residual in our equations {left:.0e} p.u.".removeprefix("; ")
        if failed:
            accuracy.append(Accuracy("hours without an answer", len(failed), 0))
        bench.add(Row(group, count, tool, "hour", times.per(hours), tuple(accuracy), {"hours": hours}, note))

    with bench.peer("lightsim2grid"):
        times, found = _lightsim(case, given)
        row("lightsim2grid", times, found, count)
    with bench.peer("power-grid-model"):
        arrays = pgm_arrays(case, v[0])
        into = v * np.conj((case.grid.network.admittance_matrix() @ v.T).T)
        arrays |= {"p_hours": into.real, "q_hours": into.imag}
        facts, made = tools.in_environment("pgm_power_flow.py", arrays)
        bench.versions["power-grid-model"] = facts["version"]
        row("power-grid-model", Timing(**facts["timing"]), made["v"], count, failed=facts["failed"])
    note = f"First {FEW_HOURS} hours"
    with bench.peer("OpenLoadFlow"):
        times, found = _open_load_flow(case, states)
        row("OpenLoadFlow", times, found, FEW_HOURS, note)
    with bench.peer("pandapower"):
        times, found = _pandapower(case, [day.case(states.hour(h), "hour") for h in range(FEW_HOURS)])
        row("pandapower", times, found, FEW_HOURS, note)


def _variants(bench: Bench, grid: Grid, states: Snapshot, planned: Snapshot) -> None:
    """Measure what reactive limits, taps of every hour's own and two threads cost or save."""
    count = states.vm_pu.shape[0]
    days = Snapshot(**{name: np.concatenate([values] * DAYS_A_THREAD) for name, values in vars(states).items()})
    long = days.vm_pu.shape[0]

    def free(hours: Snapshot) -> None:
        solve_hours(grid, hours, enforce_q_limits=False)

    def threads() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(free, (days, days)))

    variants = {
        "reactive_limits": (count, lambda: solve_hours(grid, states)),
        "own_taps_and_shunt_steps": (count, lambda: free(planned)),
        f"one_thread_with_{long}_hours": (long, lambda: free(days)),
        f"two_threads_with_{long}_hours_each": (2 * long, threads),
    }
    for name, (hours, work) in variants.items():
        with bench.doing(name.replace("_", " ")):
            times, _ = best_of(work, budget_s=3.0)
        each = times.per(hours)
        bench.facts[name] = {"cpu_us_an_hour": 1e6 * each.cpu_s, "wall_us_an_hour": 1e6 * each.wall_s}
    bench.save()


def _lightsim(case: Case, given: BusInjections) -> tuple[Timing, np.ndarray]:
    from lightsim2grid.algorithm import AlgorithmType
    from lightsim2grid.lightsim2grid_cpp import TimeSeriesCPP

    # Every bus that is not controlled has a load in some hour or in none: the model is made of the hour with most.
    controls, base = given.voltage_control[0], case.grid.network.base_mva
    some = given.hour(0)
    loaded = ~controls & ((given.p_pu != 0) | (given.q_pu != 0)).any(axis=0)
    marked = replace(some, p_pu=np.where(loaded & (some.p_pu == 0), 1e-9, some.p_pu))
    shown = replace(case)
    shown.__dict__["injections"] = marked
    model, _ = tools.lightsim(shown)
    start = model.ac_pf(case.start, 30, TOLERANCE_PU)
    if not len(start):
        raise RuntimeError("the first hour diverged")
    gen = np.ascontiguousarray(given.p_pu[:, controls] * base)
    load_p, load_q = (np.ascontiguousarray(-values[:, loaded] * base) for values in (given.p_pu, given.q_pu))
    nothing = np.zeros((gen.shape[0], 0))

    def fresh() -> tuple[Any]:
        tool = TimeSeriesCPP(model)
        tool.change_algorithm(AlgorithmType.NR_KLU)
        return (tool,)

    first = case.snapshot.vm_pu * np.exp(1j * case.snapshot.va_rad)

    def work(tool: Any) -> Any:
        tool.compute_Vs(gen, nothing, load_p, load_q, first.copy(), 30, TOLERANCE_PU)
        return tool

    times, tool = best_of(work, prepare=fresh, budget_s=4.0)
    return times, tool.get_voltages()


def _open_load_flow(case: Case, states: Snapshot) -> tuple[Timing, np.ndarray]:
    import pypowsybl.loadflow as lf

    network, parameters = tools.powsybl(case), tools.open_load_flow(case)
    parameters.voltage_init_mode = lf.VoltageInitMode.PREVIOUS_VALUES
    generators, loads = network.get_generators(), network.get_loads()
    unit = {str(key): k for k, key in enumerate(case.grid.units.id)}
    load = {str(key): k for k, key in enumerate(case.grid.loads.id)}
    rows_g = [(key, unit[key]) for key in generators.index if key in unit]
    rows_l = [(key, load[key]) for key in loads.index if key in load]
    if len(rows_l) != case.grid.loads.n:
        raise RuntimeError("the export has other loads")
    at_g, at_l = [k for _, k in rows_g], [k for _, k in rows_l]
    controlled = np.isfinite(states.unit_vm_set_pu[0])[at_g]

    def set_hour(h: int) -> None:
        network.update_generators(
            id=[key for key, _ in rows_g], target_p=states.unit_p_mw[h, at_g],
            target_q=np.where(controlled, 0.0, states.unit_q_mvar[h, at_g]),
        )  # fmt: skip
        network.update_loads(
            id=[key for key, _ in rows_l], p0=states.load_p_mw[h, at_l], q0=states.load_q_mvar[h, at_l]
        )

    found = []

    def work() -> None:
        found.clear()
        for h in range(FEW_HOURS):
            set_hour(h)
            result = lf.run_ac(network, parameters)
            if result[0].status != lf.ComponentStatus.CONVERGED:
                raise RuntimeError(f"hour {h}: {result[0].status_text}")
            found.append(tools.powsybl_voltages(network, case))

    lf.run_ac(network, tools.open_load_flow(case))
    times, _ = best_of(work, budget_s=4.0)
    return times, np.array(found)


def _pandapower(case: Case, hours: list[Case]) -> tuple[Timing, np.ndarray]:
    start = case.snapshot.vm_pu * np.exp(1j * case.snapshot.va_rad)
    tools.run_pandapower(case, start=start)
    cpu = wall = 0.0
    found = []
    for hour in hours:
        for table in ("load", "gen", "sgen", "storage", "dcline"):
            columns = [c for c in ("p_mw", "q_mvar") if c in hour.net[table]]
            case.net[table][columns] = hour.net[table][columns]
        times, _ = best_of(lambda: tools.run_pandapower(case, start=start), runs_max=3, budget_s=1.0)
        cpu, wall = cpu + times.cpu_s, wall + times.wall_s
        found.append(case.voltages())
    return Timing(cpu, wall, 1), np.array(found)
