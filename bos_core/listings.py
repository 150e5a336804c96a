"""The tables that `bos` prints: runs, tasks, scenarios, programs. All fit a terminal of 80 columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bos_core.objects.task import TaskState

if TYPE_CHECKING:  # `bos --help` must not pay for them
    import pyarrow as pa

    from bos_core.index.ledger import Ledger
    from bos_core.index.lineage import StepUse
    from bos_core.index.records import TaskRecord, TaskSetRecord
    from bos_core.index.scenarios import VersionRecord

FAILURES_SHOWN = 10
LOG_LINES_SHOWN = 3


def runs(ledger: Ledger, limit: int) -> Table:
    """Return the newest runs, a line each; what went wrong is told by `run`."""
    table = listing("run", "started", "state", "done", "failed", "business")
    table.add_column("scenario", overflow="ellipsis")  # the only column that may shrink
    for record in ledger.task_sets(limit):
        counts = ledger.counts(record.trace_id)
        failed = counts[TaskState.FAILED]
        table.add_row(
            record.trace_id[:8],
            moment(record.created_s),
            record.state.value,
            f"{counts[TaskState.SUCCESS]}/{sum(counts.values())}",
            str(failed) if failed else "",
            record.business,
            escape(record.scenario),
        )
    return table


def run(ledger: Ledger, record: TaskSetRecord) -> RenderableType:
    """Return everything about one run: who asked, the state of each step's tasks, and what failed."""
    head = [
        f"run       {record.trace_id}",
        f"business  {record.business}, scenario {escape(record.scenario)}",
        f"asked by  {escape(record.user)}, project {escape(record.project)}, {moment(record.created_s)}",
        f"state     {record.state.value}",
    ]
    if record.message:
        head.append(f"message   {escape(record.message)}")
    if record.state is not TaskState.SUCCESS:
        head.append(f"go on     bos run --resume {record.trace_id[:8]}")
    tasks = ledger.tasks(record.trace_id)
    from bos_core.index.lineage import Lineage

    results = Lineage(ledger.engine).steps([task.id for task in tasks])
    return Group(*head, _by_step(tasks, results), *_failures(ledger, tasks))


def _by_step(tasks: Iterable[TaskRecord], results: Iterable[StepUse]) -> Table:
    states = list(TaskState)
    steps: dict[str, dict[TaskState, int]] = {}
    for task in sorted(tasks, key=lambda t: t.created_s):
        counts = steps.setdefault(task.step, dict.fromkeys(states, 0))
        counts[task.state] += 1
    shown = [s for s in states if any(counts[s] for counts in steps.values())]
    table = listing("step", "tasks", *(s.value for s in shown), "results", "rows")
    for step, counts in steps.items():
        made = [use for use in results if use.step == step]
        totals = (f"{sum(u.outputs for u in made):,}", f"{sum(u.rows for u in made):,}")
        table.add_row(step, str(sum(counts.values())), *(str(counts[s] or "") for s in shown), *totals)
    return table


def _failures(ledger: Ledger, tasks: Iterable[TaskRecord]) -> Iterator[str]:
    failed = [task for task in tasks if task.state is TaskState.FAILED]
    for task in failed[:FAILURES_SHOWN]:
        yield f"[red]{task.step} {escape(task.chunk)}[/], attempt {task.attempt}: {escape(task.message)}"
        for line in ledger.logs(task.task_set, task.id)[-LOG_LINES_SHOWN:]:
            yield f"  [dim]{escape(line.message.splitlines()[0] if line.message else '')}[/]"
    if len(failed) > FAILURES_SHOWN:
        yield f"{len(failed) - FAILURES_SHOWN} more failed tasks are not shown"


def scenarios(versions: Iterable[VersionRecord]) -> Table:
    """Return the versions of all scenarios."""
    table = listing("version", "run", "step")
    table.add_column("message", ratio=1)
    for version in versions:
        table.add_row(escape(version.label), version.trace_id[:8], version.step, escape(version.message))
    return table


def elements(found: pa.Table) -> Table:
    """Return rows of elements; a column's unit stands under its name."""
    units = [(field.metadata or {}).get(b"unit", b"").decode().removeprefix("1") for field in found.schema]
    table = listing(
        *(f"{name}\n{unit}" if unit else name for name, unit in zip(found.column_names, units, strict=True))
    )
    for row in found.to_pylist():
        cells = (f"{v:,.6g}" if isinstance(v, float) else "" if v is None else str(v) for v in row.values())
        table.add_row(*(escape(cell) for cell in cells))
    return table


def pairs(values: Mapping[str, str]) -> Table:
    """Return names and values under each other."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name, escape(value))
    return table


def listing(*columns: str) -> Table:
    """Return an empty table with these columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption_justify="left")
    for name in columns:
        table.add_column(name, no_wrap=True)
    return table


def moment(created_s: float) -> str:
    """Return a time as month, day and minute."""
    return dt.datetime.fromtimestamp(created_s).strftime("%m-%d %H:%M")
