"""Table 6, programs and provenance of a run, from its task rows."""

from __future__ import annotations

from collections.abc import Mapping

from bos_core.access.workspace import Workspace
from bos_core.index.records import StepReport
from bos_core.objects.task import TaskState
from bos_core.report.data import Program, Provenance, Table6Row, Unfinished
from bos_core.report.run_sources import RunSources

LOG_LINES_SHOWN = 5

STAGES: Mapping[str, str] = {
    "system_model": "System model",
    "snapshot": "Snapshot",
    "equivalence": "Equivalence",
    "annual_states": "Annual states",
    "unit_commitment": "Unit commitment",
    "active_dispatch": "Active dispatch",
    "reactive_dispatch": "Reactive dispatch",
    "n1_verification": "N-1 verification",
    "state_adjustment": "State adjustment",
    "power_flow": "Power flow",
}
"""Steps in their order, with names short enough for a terminal of 80 columns."""


def table6_rows(workspace: Workspace, trace_id: str) -> list[Table6Row]:
    """Return Table 6 of a run, by SQL over its task rows."""
    found = {report.step: report for report in workspace.ledger.report(trace_id)}
    return [_table6_row(title, found[step]) for step, title in STAGES.items() if step in found]


def _table6_row(title: str, report: StepReport) -> Table6Row:
    done = report.wall_s_sum > 0
    return Table6Row(
        stage=title,
        tasks=report.tasks,
        subtasks=report.subtasks,
        mean_subtask_s=report.wall_s_mean_subtask if done else None,
        wall_s=report.elapsed_s if done else None,
        io_share=report.io_s_sum / report.wall_s_sum if done else None,
        memory_gib=report.peak_rss_mb_max / 1024 if done else None,
    )


def programs(sources: RunSources) -> tuple[Program, ...]:
    """Return the programs that the run's tasks used, in the order of the steps."""
    seen = {
        (t.step, t.slot, t.program, t.program_version, t.program_digest)
        for t in sources.workspace.ledger.tasks(sources.trace)
    }
    order = list(STAGES)
    return tuple(Program(*row) for row in sorted(seen, key=lambda row: (order.index(row[0]), row)))


def provenance(sources: RunSources) -> tuple[Provenance, ...]:
    """Return for each step where its results come from, in the order of the steps."""
    ledger, scenarios = sources.workspace.ledger, sources.workspace.scenarios
    made = {version.step: version for version in sources.versions}
    labels = {version.id: version.label for version in sources.versions}
    order = list(STAGES)
    rows = []
    for report in sorted(ledger.report(sources.trace), key=lambda report: order.index(report.step)):
        first = ledger.tasks(sources.trace, report.step)[0]
        version = made.get(report.step)
        rows.append(
            Provenance(
                step=STAGES[report.step],
                program=f"{first.slot}/{first.program}@{first.program_digest[:12]}",
                tasks=report.tasks,
                succeeded=report.states[TaskState.SUCCESS],
                failed=report.states[TaskState.FAILED],
                retried=max(report.attempts - report.tasks, 0),
                subtasks=report.subtasks,
                scenario_in=labels.get(first.scenario_version) or scenarios.get(first.scenario_version).label,
                scenario_out=version.label if version else "",
            )
        )
    return tuple(rows)


def unfinished(sources: RunSources) -> tuple[Unfinished, ...]:
    """Return the tasks without a result, failed ones first, with the end of their logs."""
    ledger = sources.workspace.ledger
    states = [state for state in TaskState if state is not TaskState.SUCCESS]
    tasks = ledger.tasks(sources.trace, states=states)
    order = list(STAGES)
    tasks.sort(key=lambda t: (t.state is not TaskState.FAILED, order.index(t.step), t.chunk))
    return tuple(
        Unfinished(
            step=STAGES[task.step],
            part=task.chunk,
            state=task.state.value,
            attempts=task.attempt,
            message=task.message,
            log="\n".join(line.message for line in ledger.logs(sources.trace, task.id)[-LOG_LINES_SHOWN:]),
        )
        for task in tasks
    )


def elapsed_s(sources: RunSources) -> float | None:
    """Return the time from the first start of a task to the last end, None before that."""
    reports = sources.workspace.ledger.report(sources.trace)
    starts = [r.started_s for r in reports if r.started_s is not None]
    ends = [r.finished_s for r in reports if r.finished_s is not None]
    return max(ends) - min(starts) if starts and ends else None
