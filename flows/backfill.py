"""Backfill: a step's validated results become a new scenario version; nothing is changed in place."""

from __future__ import annotations

from bos_core.objects.errors import RunFailedError
from bos_core.objects.task import TaskState
from flows.step import Step, StepRun


def write_back(run: StepRun, step: Step) -> tuple[str, str]:
    """Write the results of a finished step; return (version id, message).

    Raises
    ------
    RunFailedError
        While a task of the step has not succeeded: only complete results are written back.
    """
    counts = run.workspace.ledger.counts(run.context.trace_id, step.name)
    waiting = sum(count for state, count in counts.items() if state is not TaskState.SUCCESS)
    if waiting:
        raise RunFailedError(
            f"{step.title}: {waiting} tasks have not succeeded; resume the run before writing back"
        )
    writer = run.workspace.writer(parent=run.version)
    message = step.backfill(run, writer)
    version = writer.commit(message, step=step.name, trace_id=run.context.trace_id)
    return version, message
