"""One Prefect flow a step: register the tasks, have them carried out on Dask, write the results back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from prefect import Flow, flow, task
from prefect.artifacts import create_table_artifact
from pydantic import Field

from bos_core.access.workspace import Workspace
from bos_core.objects.errors import RunFailedError
from bos_core.objects.settings import Settings
from bos_core.objects.task import Receipt, TaskSetContext, TaskState, task_set_scope
from bos_core.scheduling.dask_runner import GovernedDaskTaskRunner, WorkOrder, governed_map
from flows.backfill import write_back
from flows.execution import execute
from flows.progress import StepProgress
from flows.request import PlanRequest, StepName
from flows.step import Step, StepRun
from flows.steps import STEPS
from flows.tagging import tagged
from flows.task_set import open_task_set

TraceId = Annotated[
    str, Field(title="Trace id", description="Run that the step belongs to; empty = a request of its own.")
]
Version = Annotated[
    str, Field(title="Scenario version", description="Version to start from; empty = the request's scenario.")
]


def run_step(step: Step, request: PlanRequest, context: TaskSetContext, version: str) -> str:
    """Run one step of a task set on a scenario version; return the id of the version that it makes.

    Raises
    ------
    RunFailedError
        When a task did not succeed; the others are committed and stay.
    """
    settings = Settings.load()
    workspace = Workspace.open(settings)
    run = StepRun(workspace, request, context, version)
    known = [v for v in workspace.scenarios.versions(trace_id=context.trace_id) if v.step == step.name]
    for found in known:
        if found.parent == version:  # a resumed run: the step was complete when it was written back
            StepProgress(step.name, step.title, 0).finish(f"{found.message} (already done)")
            return found.id
    tasks = step.plan(run)
    workspace.ledger.register(tasks)
    progress = StepProgress(step.name, step.title, sum(t.subtasks for t in tasks))
    subtasks = {t.id: t.subtasks for t in tasks}
    orders = [WorkOrder(t.id, t.depends_on) for t in tasks]
    receipts: list[Receipt] = []
    for receipt in governed_map(execute, orders, settings, request):
        receipts.append(receipt)
        progress.advance(subtasks[receipt.task_id])
    _publish(step, receipts, {t.id: t.input.chunk for t in tasks})
    _raise_if_failed(step, receipts, {t.id: t.input.chunk for t in tasks})
    made, message = backfill.submit(step.name, settings, request, context, version).result()
    progress.finish(message)
    return made


@task(name="backfill", persist_result=False)
def backfill(
    step: str, settings: Settings, request: PlanRequest, context: TaskSetContext, version: str
) -> tuple[str, str]:
    """Write a step's validated results into a new scenario version; runs on the Dask cluster."""
    return write_back(StepRun(Workspace.open(settings), request, context, version), STEPS[step])


def _publish(step: Step, receipts: list[Receipt], chunks: dict[str, str]) -> None:
    rows = [
        {
            "task": chunks[r.task_id],
            "state": r.state.value,
            "attempt": r.attempt,
            "time (s)": round(r.wall_s, 2),
            "reading and writing (s)": round(r.io_s, 2),
            "peak memory (MB)": round(r.peak_rss_mb),
            "message": r.message[:200],
        }
        for r in sorted(receipts, key=lambda r: chunks[r.task_id])
    ]
    create_table_artifact(
        rows[:500], key=f"tasks-{step.name.replace('_', '-')}", description=f"Tasks of {step.title}"
    )


def _raise_if_failed(step: Step, receipts: list[Receipt], chunks: dict[str, str]) -> None:
    failed = [r for r in receipts if r.state is not TaskState.SUCCESS]
    if failed:
        causes = [r for r in failed if r.state is TaskState.FAILED]
        lines = [f"  - {chunks[r.task_id]}: {r.message}" for r in causes[:5]]
        raise RunFailedError(
            "\n".join(
                [
                    f"{step.title}: {len(causes)} tasks failed, {len(failed) - len(causes)} wait for them, "
                    f"{len(receipts) - len(failed)} are committed; correct the cause and resume the run",
                    *lines,
                ]
            )
        )


def _run(name: StepName, request: PlanRequest, trace_id: str, version: str) -> str:
    """Run a step inside a chain (trace id and version given) or as a request of its own."""
    workspace = Workspace.open(Settings.load())
    alone = not (trace_id and version)
    if alone:
        context, source = open_task_set(workspace, request, trace_id, name.replace("_", "-"))
    else:
        context, source = workspace.ledger.task_set(trace_id).context, version
    source = version or source
    with tagged(f"trace:{context.trace_id}", f"step:{name}"), task_set_scope(context):
        try:
            made = run_step(STEPS[name], request, context, source)
        except BaseException as error:
            if alone:
                workspace.ledger.set_task_set_state(context.trace_id, TaskState.FAILED, str(error))
            raise
    if alone:
        workspace.ledger.set_task_set_state(context.trace_id, TaskState.SUCCESS)
    return made


@flow(name="step-1-system-model", task_runner=GovernedDaskTaskRunner(), persist_result=False)
def system_model(request: PlanRequest, trace_id: TraceId = "", version: Version = "") -> str:
    """Build and judge the static model, without state data; return the new scenario version."""
    return _run("system_model", request, trace_id, version)


@flow(name="step-2-snapshot", task_runner=GovernedDaskTaskRunner(), persist_result=False)
def snapshot(request: PlanRequest, trace_id: TraceId = "", version: Version = "") -> str:
    """Establish an initial snapshot and adjust it until it meets every criterion."""
    return _run("snapshot", request, trace_id, version)


@flow(name="step-3-equivalence", task_runner=GovernedDaskTaskRunner(), persist_result=False)
def equivalence(request: PlanRequest, trace_id: TraceId = "", version: Version = "") -> str:
    """Reduce the network to the chosen voltage level."""
    return _run("equivalence", request, trace_id, version)


@flow(name="step-4-annual-states", task_runner=GovernedDaskTaskRunner(), persist_result=False)
def annual_states(request: PlanRequest, trace_id: TraceId = "", version: Version = "") -> str:
    """Make 8760 hourly states."""
    return _run("annual_states", request, trace_id, version)


@flow(name="step-5a-unit-commitment", task_runner=GovernedDaskTaskRunner(), persist_result=False)
def unit_commitment(request: PlanRequest, trace_id: TraceId = "", version: Version = "") -> str:
    """Commit units by months and days."""
    return _run("unit_commitment", request, trace_id, version)


@flow(name="step-5b-active-dispatch", task_runner=GovernedDaskTaskRunner(), persist_result=False)
def active_dispatch(request: PlanRequest, trace_id: TraceId = "", version: Version = "") -> str:
    """Dispatch active power day by day and verify the boundaries."""
    return _run("active_dispatch", request, trace_id, version)


@flow(name="step-5c-reactive-dispatch", task_runner=GovernedDaskTaskRunner(), persist_result=False)
def reactive_dispatch(request: PlanRequest, trace_id: TraceId = "", version: Version = "") -> str:
    """Set voltages, reactive power, taps and shunts hour by hour."""
    return _run("reactive_dispatch", request, trace_id, version)


@flow(name="step-6-n1-verification", task_runner=GovernedDaskTaskRunner(), persist_result=False)
def n1_verification(request: PlanRequest, trace_id: TraceId = "", version: Version = "") -> str:
    """Verify every single-branch outage in every hour."""
    return _run("n1_verification", request, trace_id, version)


@flow(name="step-7-state-adjustment", task_runner=GovernedDaskTaskRunner(), persist_result=False)
def state_adjustment(request: PlanRequest, trace_id: TraceId = "", version: Version = "") -> str:
    """Adjust the hours that fail N-1 and verify them again."""
    return _run("state_adjustment", request, trace_id, version)


STEP_FLOWS: Mapping[StepName, Flow[..., str]] = {
    "system_model": system_model,
    "snapshot": snapshot,
    "equivalence": equivalence,
    "annual_states": annual_states,
    "unit_commitment": unit_commitment,
    "active_dispatch": active_dispatch,
    "reactive_dispatch": reactive_dispatch,
    "n1_verification": n1_verification,
    "state_adjustment": state_adjustment,
}
