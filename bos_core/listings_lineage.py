"""What `bos trace` and `bos uses` print: where a value comes from, and what became of something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from bos_core.access.audit import FileState, Losses
from bos_core.access.store import ResultStore
from bos_core.access.trace import Change, Trace, TracedRows, TracedTask, TracedVersion
from bos_core.access.uses import Uses
from bos_core.listings import listing, moment, pairs

TASKS_IN_FULL = 2
TASKS_SHOWN = 20
COLUMNS_ABREAST = 5
COLUMNS_SHOWN = 7
CHANGES_SHOWN = 4
NEEDS_SHOWN = 3
DIGEST_SHOWN = 12


def trace(found: Trace) -> Iterator[RenderableType]:
    """Yield what is known of an origin: values and files, tasks, run, versions back to the import."""
    for rows in found.found:
        yield from _rows(rows)
    for note in found.notes:
        yield f"[yellow]note:[/] {escape(note)}"
    if len(found.tasks) <= TASKS_IN_FULL:
        yield from (_task(task) for task in found.tasks)
    else:
        yield _tasks(found.tasks)
    if found.run is not None:
        run = found.run
        asked = f"{run.user}, project {run.project}, {moment(run.created_s)}"
        head = {"run": f"{run.trace_id}, {run.business} of {run.scenario}, {run.state}", "asked by": asked}
        yield pairs(head)
    if found.versions:
        yield _versions(found.versions, found.run.trace_id if found.run else "")


def _rows(found: TracedRows) -> Iterator[RenderableType]:
    yield f"[bold]{escape(found.address)}[/]"
    columns = list(found.rows[0]) if found.rows else []
    if len(found.rows) == 1 and len(columns) > COLUMNS_ABREAST:
        (row,) = found.rows
        units = {name: unit for name, unit in found.units.items() if unit != "1" and row[name] is not None}
        yield pairs({name: f"{_cell(name, row[name])} {units.get(name, '')}".rstrip() for name in columns})
    elif found.rows:
        left_out, columns = columns[COLUMNS_SHOWN:], columns[:COLUMNS_SHOWN]
        heads = [f"{name}\n{found.units[name]}" if found.units.get(name, "1") != "1" else name for name in columns]
        shown = listing(*heads)
        for row in found.rows:
            shown.add_row(*(escape(_cell(name, row[name])) for name in columns))
        yield shown
        if left_out:
            yield f"further columns: {', '.join(left_out)}; --column shows one of them"
    if found.total > len(found.rows) > 0:
        left = found.total - len(found.rows)
        yield f"{left:,} more rows fit; narrow it down with --hour, --element or key=value in brackets"
    for file in found.files:
        good = file.state is FileState.COMMITTED
        mark = "[green]✓[/] as committed" if good else f"[bold red]✗ {file.state.value}[/]"
        yield f"file {escape(file.address)}"
        yield f"     digest {file.digest[:DIGEST_SHOWN]}… {mark}"


def _cell(name: str, value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g} ({100 * value:.1f} %)" if "loading" in name else f"{value:.6g}"
    return str(value)


def _task(task: TracedTask) -> Table:
    needs = [" ".join(need.split()[:-1]) for need in task.needs]
    digest = f"digest {task.program_digest[:DIGEST_SHOWN]}…"
    shown = {
        "task": f"{task.step} {task.chunk}, attempt {task.attempt}, {task.state}",
        "id": task.id,
        "program": f"{task.slot}/{task.program} {task.program_version}, {digest}",
        **({"code": task.program_address} if task.program_address else {}),
        "executed": f"{task.executor}"
        + (f"; {moment(task.started_s)}, {task.wall_s:.1f} s" if task.started_s else ""),
        "reads": task.scenario_version,
    }
    if needs:
        more = f" and {len(needs) - NEEDS_SHOWN} more" if len(needs) > NEEDS_SHOWN else ""
        shown["needs"] = "; ".join(needs[:NEEDS_SHOWN]) + more
    if task.message:
        shown["message"] = task.message
    return pairs(shown)


def _tasks(tasks: Sequence[TracedTask]) -> Table:
    shown = listing("step", "part", "state", "program", "digest")
    for task in tasks[:TASKS_SHOWN]:
        cells = (task.step, task.chunk, task.state, task.program, task.program_digest[:8])
        shown.add_row(*(escape(cell) for cell in cells))
    if len(tasks) > TASKS_SHOWN:
        shown.caption = f"{len(tasks) - TASKS_SHOWN} more tasks; --hour shows those of one hour"
    return shown


def _versions(versions: Sequence[TracedVersion], trace_id: str) -> Table:
    shown = Table.grid(padding=(0, 2))
    shown.add_row("version", "[dim]made by, and what differs from the version below[/]")
    for version in versions:
        shown.add_row(escape(version.label), escape(_made_by(version, trace_id)))
        shown.add_row("", f"[dim]{escape(_changes(version.changes))}[/]")
    return shown


def _made_by(version: TracedVersion, trace_id: str) -> str:
    if not version.tasks:
        return f"{version.step or 'a user'}: {version.message}"
    elsewhere = "" if version.trace_id == trace_id else f" of run {version.trace_id[:8]}"
    programs = (f"{name} {digest[:8]}" for name, _, digest in (text.rpartition(" ") for text in version.programs))
    count = f"{version.tasks} task{'s' if version.tasks > 1 else ''}"
    lines = [f"{version.step}{elsewhere}, {count}, {', '.join(programs)}"]
    if version.chunks:
        lines.append(f"this hour: {'; '.join(version.chunks)}")
    return "\n".join(lines)


def _changes(changes: Sequence[Change]) -> str:
    by_kind: dict[str, list[str]] = {}
    for change in changes:
        by_kind.setdefault(change.kind, []).append(change.name)
    words = []
    for kind, names in by_kind.items():
        more = f" +{len(names) - CHANGES_SHOWN}" if len(names) > CHANGES_SHOWN else ""
        words.append(f"{kind} {', '.join(names[:CHANGES_SHOWN])}{more}")
    return "; ".join(words) or "the same"


def uses(found: Uses) -> Iterator[RenderableType]:
    """Yield what was made from something: results by run and step, versions, reports."""
    yield f"[bold]{escape(found.what)}[/]"
    if not (found.steps or found.versions or found.runs):
        yield "nothing was made from it"
        return
    shown = listing("run", "step", "tasks", "results", "rows", "MB", "reads", "made")
    label = _labels(found)
    for step in found.steps:
        done = str(step.tasks) if step.succeeded == step.tasks else f"{step.succeeded}/{step.tasks}"
        counts = (done, f"{step.outputs:,}", f"{step.rows:,}", f"{step.bytes / 1e6:.1f}")
        shown.add_row(step.trace_id[:8], step.step, *counts, escape(label(step.reads)), escape(label(step.made)))
    if found.steps:
        yield shown
    waiting = [run for run in found.runs if run not in {step.trace_id for step in found.steps}]
    if waiting:
        yield f"runs without tasks: {', '.join(run[:8] for run in waiting)}"
    yield f"versions: {escape(', '.join(found.versions)) or 'none'}"
    for report in found.reports:
        yield f"report: {escape(report)}"


def _labels(found: Uses) -> Callable[[str], str]:
    """Return how to write a version's label: by its number alone where all are of one scenario."""
    labels = {label for step in found.steps for label in (step.reads, step.made) if label}
    one = len({label.rpartition("@")[0] for label in labels}) == 1
    return lambda label: f"@{label.rpartition('@')[2]}" if one and label else label


def losses(found: Losses) -> Iterator[str]:
    """Yield a line for each file that is missing or changed, and a sum."""
    lines = [f"{loss.output.address}: {loss.state.value}" for loss in found.outputs]
    lines += [f"manifest of task {task}: missing or changed" for task in found.manifests]
    lines += [
        f"{ResultStore.chunk_address(digest)}: missing or changed"
        for lost in found.chunks.values()
        for digest in lost
    ]
    for line in (*lines, *found.inputs):
        yield f"[red]✗[/] {escape(line)}"
    if found:
        yield f"{found.checked:,} files compared; `bos rebuild` makes what is lost again"
    else:
        yield f"[green]✓[/] {found.checked:,} files compared, all as committed"
