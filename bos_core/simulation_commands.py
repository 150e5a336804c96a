"""`bos simulate`: a workload on a virtual clock, with the machine that schedules tasks and containers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from bos_core.objects.errors import Finding, OptionError

if TYPE_CHECKING:
    from bos_core.scheduling.instructions import ShortOfResources
    from bos_core.scheduling.simulation import Simulation

out = Console()

BUILT_IN = {"table6": "table6.json"}
_CHART_COLUMNS, _BARS = 60, " ▁▂▃▄▅▆▇█"


def simulate(
    workload: Annotated[str, typer.Argument(help="Workload file (JSON, Parquet), or table6: that of the paper.")],
    policy: Annotated[list[str] | None, typer.Option(help="slot=program, may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="For spreads of the workload and delays of the world.")] = 0,
    patience: Annotated[
        float, typer.Option(help="Seconds in which a task without a deadline shall be complete.", min=0.001)
    ] = 60.0,
    why: Annotated[str, typer.Option(help="Tell what was decided about this task, e.g. 0/3.")] = "",
    log: Annotated[
        Path | None, typer.Option(help="Write all events and instructions there, as JSON lines.")
    ] = None,
) -> None:
    """Simulate a workload: makespan, waiting times, containers and memory over time."""
    from bos_core.coscheduling import policies
    from bos_core.scheduling import decisions
    from bos_core.scheduling import workload as workloads
    from bos_core.scheduling.log_checker import LogChecker
    from bos_core.scheduling.machine import Machine
    from bos_core.scheduling.policies import Limits
    from bos_core.scheduling.simulation import Simulation, World

    chosen = {"container_sizing": "greedy_levels", **dict(_pair(item) for item in policy or [])}
    path = Path(workloads.__file__).with_name(BUILT_IN[workload]) if workload in BUILT_IN else Path(workload)
    read = workloads.read(path, seed)
    limits = Limits(levels=read.levels or Limits().levels, patience_s=patience, decisions_max=1_000_000)
    machine = Machine(policies(chosen, checked=False), limits, random=Random(seed))
    is_logged = log is not None or read.tasks <= 2_000
    simulation = Simulation(
        machine, read, World(tick_s=5.0, cycle_s=0.1), Random(seed), keep_log=is_logged, check_all=False
    )
    with out.status(f"{read.tasks:,} tasks, {read.subtasks:,} subtasks on {len(read.servers)} servers ..."):
        result = simulation.run()
    for part in _report(simulation):
        out.print(part, highlight=False)
    if is_logged:
        levels = [level.memory_mb for level in limits.levels]
        checker = LogChecker(levels, limits.queue_max, limits.attempts_max, limits.hold_s)
        broken = checker.read(simulation.lines(), is_complete=not result.unfinished)
        out.print(f"independent check of the log: {len(broken)} findings")
        for line in broken[:10]:
            out.print(f"  {escape(line)}", highlight=False)
    if log is not None:
        with log.open("w", encoding="utf-8") as file:
            for at_s, sort, message in simulation.lines():
                file.write(json.dumps({"at_s": at_s, "sort": sort, **message}) + "\n")
    if why:
        if why not in result.tasks:
            remedy = f"tasks are called STAGE/NUMBER, from 0/0 to {next(reversed(result.tasks))}"
            raise OptionError((Finding("task", (why,), "is not in this workload", remedy),))
        for line in decisions.why(why, machine.decisions):
            out.print(escape(line), highlight=False)


def _pair(item: str) -> tuple[str, str]:
    slot, equals, program = item.partition("=")
    if not equals:
        raise OptionError((Finding("option", ("--policy",), f"is {item!r}", "write slot=program"),))
    return slot.strip().replace("-", "_"), program.strip().replace("-", "_")


def _report(simulation: Simulation) -> Iterator[RenderableType]:
    """Yield the tables of a simulation."""
    import numpy as np

    result = simulation.result
    table = Table(title="stages", title_justify="left", title_style="bold")
    table.add_column("stage")
    for name in ("tasks", "subtasks", "serial", "wall", "speed-up", "wait p50", "p95", "late"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in simulation.workload.stages:
        runs = [result.tasks[a.request.task] for a in stage.arrivals if a.request.task in result.tasks]
        waits = np.array([run.started_s - run.arrived_s for run in runs if not math.isnan(run.started_s)] or [0.0])
        serial = sum(arrival.duration_s for arrival in stage.arrivals)
        ended = [run.ended_s for run in runs if run.outcome]
        wall = max(ended, default=0.0) - min((run.arrived_s for run in runs), default=0.0)
        subtasks = sum(arrival.request.subtasks for arrival in stage.arrivals)
        late = sum(run.ended_s > run.due_s for run in runs)
        row = [f"{len(runs):,}", f"{subtasks:,}", _seconds(serial), _seconds(wall)]
        row += [f"{serial / wall:.1f}" if wall else "", *(_seconds(w) for w in np.quantile(waits, [0.5, 0.95]))]
        table.add_row(escape(stage.name), *row, str(late))
    yield table
    serial = sum(arrival.duration_s for stage in simulation.workload.stages for arrival in stage.arrivals)
    span = result.makespan_s
    outcomes = sorted({run.outcome or "unfinished" for run in result.tasks.values()})
    counted = ", ".join(
        f"{sum((run.outcome or 'unfinished') == o for run in result.tasks.values()):,} {o}" for o in outcomes
    )
    yield f"makespan {_seconds(span)}, speed-up {serial / span if span else 0:.1f}; tasks: {counted}"
    yield (
        f"containers: {result.starts} started, {result.stops} stopped, {result.resizes} resized; "
        f"{result.kills} out-of-memory kills, {result.retries} retries, {result.cycles:,} cycles"
    )
    for at_s, short in result.short:
        yield f"{_seconds(at_s)}: {escape(_words(short))}"
    times = [at_s for at_s, *_ in result.containers]
    for name, column in (("containers", 1), ("busy", 3), ("reserved GB", 2)):
        values = [row[column] / (1000 if column == 2 else 1) for row in result.containers]
        yield f"{name:>12} {_chart(times, values, span)} at most {max(values, default=0):g}"


def _words(short: ShortOfResources) -> str:
    from bos_core.scheduling.decisions import words

    return words(short)


def _seconds(value: float) -> str:
    return f"{value:,.0f} s" if value >= 100 else f"{value:.3g} s"


def _chart(times: Iterable[float], values: Iterable[float], span_s: float) -> str:
    """Return the mean of a step function over equal parts of a span, as a line of bars."""
    import numpy as np

    at, level = np.array([0.0, *times]), np.array([0.0, *values])
    if span_s <= 0:
        return ""
    edges = np.linspace(0, span_s, _CHART_COLUMNS + 1)
    area = np.concatenate([[0.0], np.cumsum(np.diff(at) * level[:-1])])
    place = np.searchsorted(at, edges, side="right") - 1
    total = area[place] + (edges - at[place]) * level[place]
    mean = np.diff(total) / np.diff(edges)
    top = max(float(mean.max()), 1e-9)
    return "".join(_BARS[round(value / top * (len(_BARS) - 1))] for value in mean)
