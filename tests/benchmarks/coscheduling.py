"""The co-scheduling machine: time of a cycle, and a workload of millions of subtasks. It has no peer."""

from __future__ import annotations

import time
from random import Random

from frame import OURS, Bench, Row
from timing import Timing, best_of, cpu_s

from bos_core.coscheduling import policies
from bos_core.scheduling.events import ContainerStarted, ServerJoined, TaskFinished, TaskSubmitted, Tick
from bos_core.scheduling.forecasts import Outcome
from bos_core.scheduling.instructions import AssignTask, StartContainer
from bos_core.scheduling.machine import Machine
from bos_core.scheduling.policies import Limits
from bos_core.scheduling.simulation import Simulation, World
from bos_core.scheduling.workload import Arrival, ServerPart, Stage, Workload

TITLE = "Co-scheduling: cycles of the machine, and 6 million subtasks in chunks"
PACKAGES = ("numpy", "scipy", "highspy")
SIZE = "tasks pending"
CONTAINERS = 300
KNOWN = [Outcome("n1/newton", (), 1.0, 10.0, 500.0)] * 50


def run(bench: Bench, budget_s: float) -> None:
    """Measure cycles, then play the large workload."""
    bench.settings |= {
        "cycle": f"all of {CONTAINERS} containers have just become idle: weigh all tasks, match as many",
        "sizing cycle": "no container is idle: deadlines checked by list simulation, formula (2) solved",
    }
    for pending in (100, 3_000, 31_000):
        for tool, sizing in ((f"{OURS} greedy_levels", "greedy_levels"), (f"{OURS} level_milp", "level_milp")):
            with bench.doing(f"{pending} pending, {tool}"):
                _cycles(bench, pending, tool, sizing)
    with bench.doing("6,175,800 subtasks on 10,000 containers"):
        _large(bench)


def _cycles(bench: Bench, pending: int, tool: str, sizing: str) -> None:
    def full(now_s: float = 20.0) -> tuple[Machine, list[AssignTask]]:
        machine = Machine(policies({"container_sizing": sizing}), Limits(patience_s=3600.0), KNOWN)
        machine.handle(ServerJoined("one", float(CONTAINERS), 1_000_000), 0.0)
        for number in range(pending + CONTAINERS):
            deadline_s = 12.0 if number < CONTAINERS else 3_000.0 + number
            task = TaskSubmitted(f"t{number}", slot="n1", program="newton", deadline_s=deadline_s)
            machine.handle(task, 0.0)
        starts = [i for i in machine.handle(Tick(), 0.0) if isinstance(i, StartContainer)]
        for start in starts:
            machine.handle(ContainerStarted(start.container), 1.0)
        running = [i for i in machine.handle(Tick(), 1.0) if isinstance(i, AssignTask)]
        return machine, running

    def idle() -> tuple[Machine]:
        machine, running = full()
        for i in running:
            machine.handle(TaskFinished(i.task, i.attempt, i.container, 10.0, 500.0), 2.0)
        return (machine,)

    size = {"group": f"cycle, {pending:,} pending", "size": pending, "tool": tool, "unit": "cycle"}
    matched: list[int] = []
    times, _ = best_of(lambda m: matched.append(len(m.handle(Tick(), 3.0))), prepare=idle, runs_max=5)
    note = f"{matched[-1]} tasks assigned"
    bench.add(Row(**size, times=times, note=note, reference=tool.endswith("greedy_levels"), panel="cycle"))
    times, _ = best_of(lambda m, _: m.handle(Tick(), 10.0), prepare=full, runs_max=5)
    size["group"] = f"sizing cycle, {pending:,} pending"
    bench.add(Row(**size, times=times, reference=tool.endswith("greedy_levels"), panel="sizing cycle"))


def _large(bench: Bench) -> None:
    containers, chunks, pairs = 10_000, 61_758, 100
    request = TaskSubmitted("", slot="n1", program="newton", subtasks=pairs)
    random = Random(0)
    arrivals = tuple(
        Arrival(TaskSubmitted(f"0/{n}", slot="n1", program="newton", subtasks=request.subtasks), 0.0,
                85.0 * random.uniform(0.9, 1.1), 500.0)
        for n in range(chunks)
    )  # fmt: skip
    servers = tuple(ServerPart(server=f"s{n}", cpu_cores=500, memory_mb=600_000) for n in range(20))
    workload = Workload(servers, (Stage("N-1", arrivals),))
    machine = Machine(policies({"container_sizing": "greedy_levels"}), Limits(patience_s=60.0), KNOWN)
    simulation = Simulation(
        machine, workload, World(tick_s=5.0, cycle_s=0.5), Random(0), keep_log=False, check_all=False
    )
    cpu, wall = cpu_s(), time.perf_counter()
    result = simulation.run()
    times = Timing(cpu_s() - cpu, time.perf_counter() - wall, 1)
    figures = {
        "subtasks": workload.subtasks, "containers": max(row[1] for row in result.containers),
        "cycles": result.cycles, "makespan s": result.makespan_s, "unfinished": result.unfinished,
    }  # fmt: skip
    note = ", ".join(f"{key} {value:,.0f}" for key, value in figures.items())
    group = f"{workload.subtasks:,} subtasks on {containers:,} containers"
    bench.add(Row(group, chunks, f"{OURS} simulation", "run", times, (), figures, note, "large", reference=True))
