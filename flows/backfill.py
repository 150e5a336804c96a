"""Backfill: a step's validated results become a new scenario version; nothing is changed in place."""

from __future__ import annotations

from bos_core.access.audit import lost_outputs
from bos_core.objects.errors import RunFailedError
from bos_core.objects.task import TaskState
from flows.step import Step, StepRun


def write_back(run: StepRun, step: Step) -> tuple[str, str]:
    """Write the results of a finished step; return (version id, message).

    Raises
    ------
    RunFailedError
        While a task of the step has not succeeded, or a result's file is not what was committed: only complete
        results, each checked against its slot's contract, are written back.
    """
    ledger, trace_id = run.workspace.ledger, run.context.trace_id
    counts = ledger.counts(trace_id, step.name)
    waiting = sum(count for state, count in counts.items() if state is not TaskState.SUCCESS)
    if waiting or not any(counts.values()):
        what = f"{waiting} tasks have not succeeded" if waiting else "it has no tasks"
        raise RunFailedError(f"{step.title}: {what}; resume the run before writing back")
    lost = lost_outputs(run.workspace.store, ledger.outputs(trace_id, step.name))
    if lost:
        raise RunFailedError(
            f"{step.title}: {len(lost)} results cannot be trusted ({', '.join(map(str, lost[:3]))}); "
            f"`bos rebuild {trace_id[:8]}/{step.name}` makes them again, then resume the run"
        )
    writer = run.workspace.writer(parent=run.version)
    message = step.backfill(run, writer)
    version = writer.commit(message, step=step.name, trace_id=run.context.trace_id)
    return version, message
