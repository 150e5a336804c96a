"""N-1 by AC power flow: outages of networks of 9 to 34,479 buses, and of the planned day of SimBench's grid."""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandapower
import tools
from frame import OURS, Accuracy, Bench, Row
from home import PlannedDay, planned_day
from networks import CASES, TOLERANCE_PU, Case, builtin, simbench
from power_flow import pgm_arrays
from timing import Timing, best_of

from bos_core.grid.elimination import elimination_of
from bos_core.grid.model import Grid, IntArray, Snapshot
from bos_core.grid.n1 import CONVERGED, DIVERGED, ISLANDED, Criteria, N1Result, verify_outages
from bos_core.grid.n1_cases import Extremes
from bos_core.grid.n1_kernels import KERNELS
from bos_core.grid.power_flow import network_at, solve_hours

TITLE = "N-1 by full AC power flow, 1e-8 p.u.: a pair of hour and outage on one core"
PACKAGES = ("numpy", "scipy", "numba", "pandapower", "lightsim2grid", "pypowsybl", "simbench")
SAME_PU, SAME_LOADING = 1e-6, 1e-5
OUTAGES_MAX = 2000
PEER_S = 10.0
"""Roughly what a peer may take for its sample of outages."""
SAMPLES = {"OpenLoadFlow": 100, "pandapower": 10, "power-grid-model": 50}
DAY_PEER_HOURS = (8, 18)
GROWTH_PAIRS = (10_000, 100_000, 1_000_000, 10_000_000)
BLOCK_HOURS = 24
BLOCKS_SIZED = (1, 8, 24, 96)
"""Hours of blocks whose results are measured."""
CACHE_BYTES = 512 * 1024
"""About what a group of outages works on; fits the second-level cache."""
PROCESS_RUNS = 3


@dataclass(frozen=True, eq=False)
class Task:
    """Outages of some hours of a grid, with the options of the verification."""

    label: str
    grid: Grid
    states: Snapshot
    outages: IntArray
    criteria: Criteria
    q_limits: bool = False
    distributed: bool = False
    panel: str = "networks"
    kernel: str = KERNELS[0]

    @property
    def pairs(self) -> int:
        return self.outages.size * self.states.vm_pu.shape[0]

    def verify(self) -> N1Result:
        return verify_outages(
            self.grid, self.states, self.outages, self.criteria, enforce_q_limits=self.q_limits,
            distributed_slack=self.distributed, tol=TOLERANCE_PU, kernel=self.kernel,
        )  # fmt: skip


def run(bench: Bench, budget_s: float) -> None:
    """Verify outages of every network with every tool, then what only the day can show."""
    bench.settings |= {
        OURS: "extremes, loadings and violation lists of every pair included, and the base case",
        "lightsim2grid": "ContingencyAnalysis, NR_KLU, compute and compute_flows (the currents), the same pairs",
        "OpenLoadFlow": "pypowsybl security analysis of a sample of the pairs, its base case included",
        "pandapower": "runpp of a sample of the pairs, one by one, numba, from the base case's voltages",
        "power-grid-model": "batch of a sample of the pairs; no voltage-controlled buses, so another problem",
    }
    with bench.doing("preparing the planned day"):
        day = planned_day(bench)
    for name in (*CASES, "simbench"):
        with bench.doing(f"reading {name}"):
            case = simbench() if name == "simbench" else builtin(name)
        _network(bench, case)
        del case
        gc.collect()
    _day(bench, day)
    _kernels(bench, day)
    _limits(bench, day)
    _growth(bench, day, budget_s)
    _two_processes(bench, day)


def _network(bench: Bench, case: Case) -> None:
    """One state of a network, every branch rated at 2 p.u. so that a loading is a current."""
    n, m = case.n_bus, case.grid.network.n_branch
    rated = replace(case.grid.network, i_max_from_pu=np.full(m, 2.0), i_max_to_pu=np.full(m, 2.0))
    grid = replace(case.grid, network=rated)
    solved = solve_hours(grid, case.snapshot.block(), enforce_q_limits=False)
    every = max(1, -(-m // OUTAGES_MAX))
    outages = np.arange(0, m, every)
    label = f"{n:,} buses ({case.name}), {outages.size:,} of {m:,} outages"
    criteria = Criteria(np.full(n, 0.9), np.full(n, 1.1), np.ones(m))
    task = Task(label, grid, solved.states, outages, criteria)
    result = _ours(bench, task, n)
    case = replace(case, snapshot=task.states.hour(0))
    _peers(bench, case, task, result, n)


def _ours(bench: Bench, task: Task, size: float) -> N1Result:
    with bench.doing(f"{OURS} {task.label}"):
        times, result = best_of(task.verify, runs_max=5, budget_s=4.0)
    outcome = result.extremes.outcome
    figures = {
        "kernel": task.kernel,
        "pairs": task.pairs,
        **{name: int((outcome == k).sum()) for name, k in _CLASSES},
        "solved_alone": int(result.solved_alone.sum()),
        "residual_pu": float(np.nanmax(np.where(outcome == DIVERGED, np.nan, result.extremes.residual_pu))),
        "iterations_mean": float(result.extremes.iterations.mean()),
        "q_switched_share": float((result.extremes.q_switches > 0).mean()),
    }
    note = (
        f"{figures['converged']:,} converged, {figures['islanded']:,} islanded, {figures['diverged']:,} diverged; "
        f"kernel {figures['kernel']}"
    )
    bench.add(Row(task.label, size, OURS, "pair", times.per(task.pairs), figures=figures, note=note,
                  panel=task.panel, reference=True))  # fmt: skip
    return result


_CLASSES = (("converged", CONVERGED), ("islanded", ISLANDED), ("diverged", DIVERGED))


def _peers(bench: Bench, case: Case, task: Task, result: N1Result, size: float) -> None:
    """Every peer on one hour's outages, without reactive limits and with a single slack."""
    with bench.peer("lightsim2grid", task.label):
        _lightsim(bench, case, task, result, size)
    with bench.peer("OpenLoadFlow", task.label):
        _security_analysis(bench, case, task, result, size)
    with bench.peer("pandapower", task.label):
        _pandapower(bench, case, task, result, size)
    with bench.peer("power-grid-model", task.label):
        _power_grid_model(bench, case, task, size)


def _lightsim(bench: Bench, case: Case, task: Task, result: N1Result, size: float) -> None:
    from lightsim2grid.contingencyAnalysis import AlgorithmType, ContingencyAnalysisCPP

    model, number = tools.lightsim(case)
    state = task.states.hour(0)
    base = model.ac_pf(state.vm_pu * np.exp(1j * state.va_rad), 20, TOLERANCE_PU)
    if not len(base):
        raise RuntimeError("its base case diverged")

    def analysis() -> tuple[Any]:
        tool = ContingencyAnalysisCPP(model)
        tool.change_algorithm(AlgorithmType.NR_KLU)
        tool.handle_disconnected_grid = True
        tool.add_multiple_n1(number[task.outages].tolist())
        return (tool,)

    def work(tool: Any) -> Any:
        tool.compute(base, 20, TOLERANCE_PU)
        tool.compute_flows()
        return tool

    times, tool = best_of(work, prepare=analysis, runs_max=3, budget_s=PEER_S, warm_up=size < 2000)
    accuracy, figures, note = _compared(task, result, np.argsort(number[task.outages]), tool)
    bench.add(
        Row(
            task.label,
            size,
            "lightsim2grid",
            "pair",
            times.per(task.outages.size),
            accuracy,
            figures,
            note,
            task.panel,
        )
    )


def _compared(
    task: Task, result: N1Result, order: IntArray, tool: Any
) -> tuple[tuple[Accuracy, ...], dict[str, Any], str]:
    """Compare classes, extreme voltages and the highest loading of every outage.

    lightsim2grid orders outages by its own numbers (`order`), and keeps the slack's part of a cut network; outages
    whose larger part has lost the slack are another question and only counted.
    """
    voltages, solved = tool.get_voltages(), np.asarray(tool.converged_mask())
    extremes, network = result.extremes, network_at(task.grid, task.states.hour(0))
    worst_v = worst_loading = 0.0
    other_class = other_part = 0
    for row, position in enumerate(order):
        ours = int(extremes.outcome[0, position])
        v, branch = voltages[row], int(task.outages[position])
        live = np.abs(v) > 0
        if ours == ISLANDED and (2 * live.sum() < v.size):
            other_part += 1
            continue
        if (ours != DIVERGED) != bool(solved[row]):
            other_class += 1
            continue
        if ours == DIVERGED:
            continue
        vm = np.abs(v[live])
        loading = network.loading(v)
        loading[branch] = 0.0
        loading[~(live[network.from_bus] & live[network.to_bus])] = 0.0
        off = (vm.min() - extremes.vm_min_pu[0, position], vm.max() - extremes.vm_max_pu[0, position])
        worst_v = max(worst_v, *np.abs(off))
        worst_loading = max(worst_loading, abs(loading.max() - extremes.loading_max[0, position]))
    accuracy = (
        Accuracy("classes apart", other_class, 0),
        Accuracy("dV p.u.", worst_v, SAME_PU),
        Accuracy("d loading", worst_loading, SAME_LOADING),
    )
    note = f"{other_part} outages not compared: it keeps the smaller part" if other_part else ""
    return accuracy, {"pairs": int(order.size), "other_part": other_part}, note


def _sample(task: Task, result: N1Result, tool: str, size: float) -> IntArray:
    """Return positions of outages that we solved as converged, evenly spread."""
    count = SAMPLES[tool] if size < 2000 else max(3, SAMPLES[tool] // (5 if size < 20_000 else 20))
    solved = np.flatnonzero(result.extremes.outcome[0] == CONVERGED)
    return solved[np.unique(np.linspace(0, solved.size - 1, min(count, solved.size)).astype(int))]


def _security_analysis(
    bench: Bench, case: Case, task: Task, result: N1Result, size: float, *, same: float = SAME_PU
) -> None:
    import pypowsybl.security as ps

    network = tools.powsybl(case)
    parameters = tools.open_load_flow(case, q_limits=task.q_limits, distributed=task.distributed)
    chosen = _sample(task, result, "OpenLoadFlow", size)
    ids = task.grid.network.branch_id[task.outages[chosen]].tolist()

    def work(watched: list[str], levels: list[str]) -> Any:
        analysis = ps.create_analysis()
        analysis.add_single_element_contingencies(watched)
        if levels:
            analysis.add_postcontingency_monitored_elements(contingency_ids=watched, voltage_level_ids=levels)
        return analysis.run_ac(network, parameters)

    times, _ = best_of(lambda: work(ids, []), runs_max=3, budget_s=PEER_S, warm_up=size < 2000)
    few = ids[:: max(1, len(ids) // 20)]
    places = chosen[:: max(1, len(ids) // 20)]
    levels = ["VL " + str(i) for i in task.grid.network.bus_id]
    answer = work(few, levels)
    vm = answer.bus_results.reset_index()
    vm["vm"] = vm.v_mag.to_numpy() / network.get_voltage_levels().nominal_v.loc[vm.voltage_level_id].to_numpy()
    extreme = vm.groupby("contingency_id").vm.agg(["min", "max"])
    apart, off = 0, []
    for key, position in zip(few, places, strict=True):
        if str(answer.post_contingency_results[key].status) != "ComputationStatus.CONVERGED":
            apart += 1
            continue
        low, high = extreme.loc[key]
        e = result.extremes
        off.append(max(abs(low - e.vm_min_pu[0, position]), abs(high - e.vm_max_pu[0, position])))
    accuracy = (Accuracy("classes apart", apart, 0), Accuracy("dV p.u.", max(off, default=np.inf), same))
    bench.add(
        Row(task.label, size, "OpenLoadFlow", "pair", times.per(len(ids)), accuracy, {"pairs": len(ids)},
            note=f"Sample of {len(ids)}, {len(few)} compared", panel=task.panel)
    )  # fmt: skip


def _pandapower(bench: Bench, case: Case, task: Task, result: N1Result, size: float) -> None:
    state = task.states.hour(0)
    start = state.vm_pu * np.exp(1j * state.va_rad)
    usable = [k for k in _sample(task, result, "pandapower", size) if case.element[task.outages[k]][0]]
    options = {"enforce_q_lims": task.q_limits}
    tools.run_pandapower(case, start=start, **options)
    total, off, apart = Timing(0.0, 0.0, 1), [], 0
    for position in usable:
        table, row = case.element[task.outages[position]]
        case.net[table].loc[row, "in_service"] = False
        try:
            times, _ = best_of(
                lambda: tools.run_pandapower(case, start=start, **options), runs_max=1, warm_up=False
            )
        except pandapower.LoadflowNotConverged:
            apart += 1
            continue
        finally:
            case.net[table].loc[row, "in_service"] = True
        total = Timing(total.cpu_s + times.cpu_s, total.wall_s + times.wall_s, 1)
        vm, e = np.abs(case.voltages()), result.extremes
        off.append(max(abs(vm.min() - e.vm_min_pu[0, position]), abs(vm.max() - e.vm_max_pu[0, position])))
    accuracy = (Accuracy("classes apart", apart, 0), Accuracy("dV p.u.", max(off, default=np.inf), SAME_PU))
    note = f"Sample of {len(usable)}"
    bench.add(
        Row(task.label, size, "pandapower", "pair", total.per(max(len(off), 1)), accuracy, {"pairs": len(off)},
            note, task.panel)
    )  # fmt: skip


def _power_grid_model(bench: Bench, case: Case, task: Task, size: float) -> None:
    state = task.states.hour(0)
    v = state.vm_pu * np.exp(1j * state.va_rad)
    chosen = np.unique(np.linspace(0, task.outages.size - 1, SAMPLES["power-grid-model"]).astype(int))
    arrays = pgm_arrays(case, v) | {"outage": task.outages[chosen], "budget": np.array(PEER_S)}
    facts, _ = tools.in_environment("pgm_power_flow.py", arrays)
    bench.versions["power-grid-model"] = facts["version"]
    times = Timing(**facts["timing"]).per(chosen.size)
    bench.add(
        Row(task.label, size, "power-grid-model", "pair", times, figures={"pairs": chosen.size},
            note=f"Sample of {chosen.size}, {len(facts['failed'])} of them not solved", panel=task.panel,
            comparable=False)
    )  # fmt: skip


def hours_of(states: Snapshot, chosen: IntArray) -> Snapshot:
    """Return some hours of a block."""
    return Snapshot(**{f.name: getattr(states, f.name)[chosen] for f in fields(Snapshot)})


def _criteria(day: PlannedDay) -> Criteria:
    c = day.criteria
    return Criteria(c.vm_contingency_pu_min, c.vm_contingency_pu_max, c.loading_contingency_max)


def _day(bench: Bench, day: PlannedDay) -> None:
    """All outages of the day's hours: the cost of reactive limits and of a distributed slack, and the peers."""
    size = day.grid.network.n_bus
    count = day.states.vm_pu.shape[0]
    criteria = _criteria(day)
    for hour in DAY_PEER_HOURS:
        solved = solve_hours(day.grid, hours_of(day.states, np.array([hour])), enforce_q_limits=False)
        label = f"{size} buses (SimBench EHV, hour {day.hours.start + hour}), {day.outages.size:,} outages"
        task = Task(label, day.grid, solved.states, day.outages, criteria, panel="day")
        result = _ours(bench, task, size)
        with bench.doing(f"exporting hour {hour}"):
            case = day.case(solved.states.hour(0), f"ehv-{hour}")
        _peers(bench, case, task, result, size)
    first = None
    for q_limits in (False, True):
        for distributed in (False, True):
            slack = "distributed slack" if distributed else "single slack"
            limits = "reactive limits" if q_limits else "no reactive limits"
            label = f"{size} buses, {count} hours x {day.outages.size:,} outages, {limits}, {slack}"
            task = Task(label, day.grid, day.states, day.outages, criteria, q_limits, distributed, "options")
            _ours(bench, task, size)
            cost = bench.rows[-1].times
            first = first or cost
            bench.facts.setdefault("cost_of_options", {})[f"{limits}, {slack}"] = cost.cpu_s / first.cpu_s
    hour = DAY_PEER_HOURS[0]
    state = hours_of(day.states, np.array([hour]))
    with bench.doing(f"exporting hour {hour}"):
        case = day.case(state.hour(0), f"ehv-{hour}-limits")
    for q_limits, distributed in ((True, False), (False, True)):
        what = "reactive limits" if q_limits else "distributed slack"
        label = f"{size} buses (SimBench EHV, hour {day.hours.start + hour}), {day.outages.size:,} outages, {what}"
        task = Task(label, day.grid, state, day.outages, criteria, q_limits, distributed, "options")
        result = _ours(bench, task, size)
        with bench.peer("OpenLoadFlow", label):
            _security_analysis(bench, case, task, result, size)
        if q_limits:
            with bench.peer("pandapower", label):
                _pandapower(bench, case, task, result, size)


def _kernels(bench: Bench, day: PlannedDay) -> None:
    """The same outages by every kernel of this machine: their speed, and that they answer alike."""
    size = day.grid.network.n_bus
    states = hours_of(day.states, np.array(DAY_PEER_HOURS))
    group = f"{size} buses, {len(DAY_PEER_HOURS)} hours x {day.outages.size:,} outages, reactive limits, by kernel"
    first: N1Result | None = None
    for kernel in KERNELS:
        task = Task(group, day.grid, states, day.outages, _criteria(day), True, kernel=kernel)
        with bench.peer(f"kernel {kernel}", group):
            times, result = best_of(task.verify, runs_max=3, budget_s=4.0)
            accuracy = _alike(first.extremes, result.extremes) if first else ()
            tool = f"{OURS} {kernel}"
            bench.add(
                Row(group, size, tool, "pair", times.per(task.pairs), accuracy, panel="kernels",
                    reference=first is None)
            )  # fmt: skip
            first = first or result


def _alike(a: Extremes, b: Extremes) -> tuple[Accuracy, ...]:
    """Compare two answers to the same outages."""
    both = (a.outcome != DIVERGED) & (b.outcome != DIVERGED)

    def far(name: str) -> float:
        return float(np.abs(getattr(a, name) - getattr(b, name))[both].max(initial=0.0))

    return (
        Accuracy("classes apart", int((a.outcome != b.outcome).sum()), 0),
        Accuracy("dV p.u.", max(far("vm_min_pu"), far("vm_max_pu")), SAME_PU),
        Accuracy("d loading", far("loading_max"), SAME_LOADING),
    )


def _limits(bench: Bench, day: PlannedDay) -> None:
    """What the time of a pair goes to, and how far its arithmetic and its traffic are from what a core can do."""
    task = Task("", day.grid, day.states, day.outages, _criteria(day), True)
    with bench.doing("where the time goes"):
        times, result = best_of(task.verify, runs_max=1)  # time and its parts must be of the same run
        matrix = np.ones((1024, 1024), np.float32)
        product, _ = best_of(lambda: matrix @ matrix, budget_s=1.0)
        source = np.ones(CACHE_BYTES // 16)
        target = np.empty_like(source)
        copy, _ = best_of(lambda: [np.copyto(target, source) for _ in range(100)], budget_s=1.0)
    inside = sum(result.kernel_s.values())
    bench.facts["time_of_a_pair"] = {
        **{f"{part}_%": 100 * seconds / inside for part, seconds in result.kernel_s.items()},
        "kernel_us": 1e6 * inside / task.pairs,
        "base_case_and_outages_solved_alone_us": 1e6 * (times.cpu_s - inside) / task.pairs,
    }
    pattern, n = elimination_of(day.grid.network).pattern, day.grid.network.n_bus
    entries, factors = pattern.y_column.size, pattern.l_column.size + pattern.u_column.size
    steps = float(result.extremes.iterations.mean())
    # Of one lane, in the order of the terms. Operations: in every mismatch 8 a complex y entry and 8 a bus; in a
    # step two substitutions, 8 a block of 2 x 2, and 24 to turn a bus's voltage. Bytes: in a mismatch 16 for the
    # voltage at a y entry, 24 for a bus's own and its result; in a substitution two float32 a block, and a bus's
    # read and written; 40 to turn a bus. What all lanes share, compensation, verdicts and records do not count.
    solves = 2 * steps - 1
    flops = steps * (8 * (entries + n) + 24 * n) + solves * 8 * (factors + n)
    traffic = steps * (16 * entries + 64 * n) + solves * 8 * (factors + 2 * n)
    per_s, product_flops, copy_bytes = task.pairs / inside, 2 * 1024**3, 100 * 2 * source.nbytes
    bench.facts["distance_from_the_machine"] = {
        "iterations": steps, "flops_a_pair": flops, "bytes_a_pair": traffic,
        "gflop_per_s": flops * per_s / 1e9, "gb_per_s": traffic * per_s / 1e9,
        "of_a_float32_matrix_product_%": 100 * flops * per_s * product.cpu_s / product_flops,
        "of_a_copy_within_the_cache_%": 100 * traffic * per_s * copy.cpu_s / copy_bytes,
    }  # fmt: skip
    bench.save()


def _growth(bench: Bench, day: PlannedDay, budget_s: float) -> None:
    """Pairs against time up to the budget, and memory: in a process that has seen no larger network."""
    cost = next(r.times.cpu_s for r in reversed(bench.rows) if "hours x" in r.group and r.times)
    context = multiprocessing.get_context("spawn")
    with bench.doing(f"up to {GROWTH_PAIRS[-1]:,} pairs"), ProcessPoolExecutor(1, context) as alone:
        found = alone.submit(growth_of_a_process, cost, budget_s).result()
    bench.facts["growth"], bench.facts["memory_of_a_block"] = found
    bench.save()


def growth_of_a_process(cost_s: float, budget_s: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Verify more and more pairs in blocks of hours, as the product does; return times, and sizes of results.

    Parameters
    ----------
    cost_s : float
        What a pair is expected to take.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        day = planned_day(Bench("n1", "", ()))
    count, per_hour, criteria = day.states.vm_pu.shape[0], day.outages.size, _criteria(day)

    def task(hours: IntArray) -> Task:
        return Task("", day.grid, hours_of(day.states, hours % count), day.outages, criteria, True)

    task(np.arange(1)).verify()
    points: list[dict[str, Any]] = []
    for pairs in GROWTH_PAIRS:
        if pairs * cost_s > budget_s:
            expected = f"would take {pairs * cost_s:.0f} s; --budget is {budget_s:g} s"
            points.append({"pairs": pairs, "skipped": expected})
            continue
        hours = -(-pairs // per_hour)
        wall, cpu, done = time.perf_counter(), time.process_time(), 0
        for first in range(0, hours, BLOCK_HOURS):
            done += task(np.arange(first, min(first + BLOCK_HOURS, hours))).verify().extremes.outcome.size
        points.append({
            "pairs": done, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        })  # fmt: skip
    blocks = [hours for hours in BLOCKS_SIZED if hours * per_hour * cost_s <= budget_s]
    memory = [{"hours": h, "result_mib": _bytes(task(np.arange(h)).verify()) / 2**20} for h in blocks]
    return points, memory


def _bytes(value: Any) -> int:
    """Return the size of all arrays in a result."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    parts = vars(value).values() if hasattr(value, "__dict__") else value if isinstance(value, tuple) else ()
    return sum(_bytes(part) for part in parts)


def _two_processes(bench: Bench, day: PlannedDay) -> None:
    """Half of the day's hours in each of two processes, against the whole day in one; the best of some runs."""
    if len(os.sched_getaffinity(0)) < 2:
        return
    context = multiprocessing.get_context("spawn")
    best: dict[int, tuple[float, float]] = {}
    with bench.doing("one and two processes"):
        for count in (1, 2):
            barrier, answers = context.Barrier(count), context.Queue()
            workers = [
                context.Process(target=work_of_a_process, args=(k, count, barrier, answers)) for k in range(count)
            ]
            for worker in workers:
                worker.start()
            spans = np.array([answers.get() for _ in workers])
            for worker in workers:
                worker.join()
            best[count] = float(spans[:, :, 0].max(axis=0).min()), float(spans[:, :, 1].sum(axis=0).min())
    (wall_one, cpu_one), (wall_two, cpu_two) = best[1], best[2]
    bench.facts["two_processes"] = {
        "wall_s_one": wall_one, "wall_s_two": wall_two, "speed_up": wall_one / wall_two,
        "cpu_s_one": cpu_one, "cpu_s_two": cpu_two,
    }  # fmt: skip
    bench.save()


def work_of_a_process(number: int, count: int, barrier: threading.Barrier, answers: Any) -> None:
    """Verify every `count`-th hour of the day several times; send wall and CPU time of each, (run, 2)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        day = planned_day(Bench("n1", "", ()))
        chosen = np.arange(number, day.states.vm_pu.shape[0], count)
        task = Task("", day.grid, hours_of(day.states, chosen), day.outages, _criteria(day), True)
        task.verify()
        times = []
        for _ in range(PROCESS_RUNS):
            barrier.wait()
            wall, cpu = time.perf_counter(), time.process_time()
            task.verify()
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        answers.put(times)
