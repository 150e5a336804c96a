"""One Prefect flow a step: register the tasks, have them carried out on Dask, write the results back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Annotated

from prefect import Flow, flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from pydantic import Field

from blocks import run_settings
from bos_core.access.workspace import Workspace
from bos_core.objects.errors import RunFailedError
from bos_core.objects.settings import Settings
from bos_core.objects.task import Receipt, Task, TaskSetContext, TaskState, task_set_scope
from bos_core.scheduling.dask_runner import GovernedDaskTaskRunner, WorkOrder, governed_map
from flows.backfill import write_back
from flows.execution import execute, give_up
from flows.governor import features
from flows.planned_hours import with_planned_hours
from flows.progress import StepProgress
from flows.request import BusinessRequest, PlanRequest, StepName
from flows.step import Step, StepRun
from flows.steps import STEPS
from flows.tagging import tagged
from flows.task_set import open_task_set, recording_failure

TraceId = Annotated[
    str, Field(title="Trace id", description="Run that the step belongs to; empty = a request of its own.")
]
Version = Annotated[
    str, Field(title="Scenario version", description="Version to start from; empty = the request's scenario.")
]


def run_step(step: Step, request: BusinessRequest, context: TaskSetContext, version: str) -> str:
    """Run one step of a task set on a scenario version; return the id of the version that it makes, or leaves.

    Raises
    ------
    RunFailedError
        When a task did not succeed; the others are committed and stay.
    """
    settings = run_settings()
    workspace = Workspace.open(settings)
    run = StepRun(workspace, request, context, version)
    log, mark = get_run_logger(), context.trace_id[:8]
    for found in workspace.scenarios.versions(trace_id=context.trace_id):
        if found.step == step.name and found.parent == version:  # complete when the run was interrupted
            StepProgress(step.name, step.title, 0).finish(f"{found.message} (already done)")
            log.info("%s %s was already done: %s", mark, step.title, found.label)
            return found.id
    tasks = step.plan(run)
    workspace.ledger.register(tasks)
    progress = StepProgress(step.name, step.title, sum(t.subtasks for t in tasks))
    log.info("%s %s of %s: %d tasks", mark, step.title, workspace.scenarios.get(version).label, len(tasks))
    subtasks = {t.id: t.subtasks for t in tasks}
    orders = [_order(t) for t in tasks]
    receipts: list[Receipt] = []
    for receipt in governed_map(execute, orders, settings.of_task(), request, given_up=partial(give_up, settings)):
        receipts.append(receipt)
        progress.advance(subtasks[receipt.task_id])
    _publish(step, receipts, {t.id: t.input.chunk for t in tasks})
    _raise_if_failed(step, receipts, {t.id: t.input.chunk for t in tasks})
    if step.conclude is not None:
        message = step.conclude(run)
        progress.finish(message)
        log.info("%s %s: %s", mark, step.title, message)
        return version
    made, message = backfill.submit(step.name, settings, request, context, version).result()
    progress.finish(message)
    log.info("%s %s: %s; made %s", mark, step.title, message, workspace.scenarios.get(made).label)
    return made


def _order(task: Task) -> WorkOrder:
    return WorkOrder(
        task.id,
        task.task_set,
        task.program.slot,
        task.program.name,
        features(task.subtasks, task.input.parameters),
        task.subtasks,
        tuple(task.depends_on),
    )


@task(name="backfill", persist_result=False)
def backfill(
    step: str, settings: Settings, request: BusinessRequest, context: TaskSetContext, version: str
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
    if not failed:
        return
    causes = [r for r in failed if r.state is TaskState.FAILED]
    head = (
        f"{step.title}: of {len(receipts)} tasks {len(causes)} failed, {len(failed) - len(causes)} wait for them, "
        f"{len(receipts) - len(failed)} succeeded; correct the cause and resume the run"
    )
    raise RunFailedError("\n".join([head, *(f"  - {chunks[r.task_id]}: {r.message}" for r in causes[:5])]))


def _run(name: StepName, request: PlanRequest, trace_id: str, version: str) -> str:
    """Run a step inside a chain (trace id and version given) or as a request of its own."""
    workspace = Workspace.open(run_settings())
    alone = not (trace_id and version)
    if alone:
        request = request.model_copy(update={"from_step": name, "to_step": name})
        request = with_planned_hours(workspace, request, trace_id)
        context, pinned = open_task_set(workspace, request, trace_id, name.replace("_", "-"))
    else:
        context, pinned = workspace.ledger.task_set(trace_id).context, version
    source = version or pinned
    recording = recording_failure(workspace.ledger, context.trace_id) if alone else nullcontext()
    with tagged(f"trace:{context.trace_id}", f"step:{name}"), task_set_scope(context), recording:
        made = run_step(STEPS[name], request, context, source)
    if alone:
        workspace.ledger.set_task_set_state(context.trace_id, TaskState.SUCCESS)
    return made


def _step_flow(number: str, step: Step, summary: str) -> Flow[..., str]:
    """Return the flow of a step; workers and deployments find it in this module under the step's name."""

    def run(request: PlanRequest, trace_id: TraceId = "", version: Version = "") -> str:
        return _run(step.name, request, trace_id, version)

    run.__name__ = run.__qualname__ = step.name
    run.__doc__ = summary
    return flow(
        name=f"step-{number}-{step.name.replace('_', '-')}",
        flow_run_name=f"{step.title} {{request.scenario}} {{request.horizon.hours}} h",
        task_runner=GovernedDaskTaskRunner(),
        persist_result=False,
    )(run)


system_model = _step_flow("1", STEPS["system_model"], "Build and judge the static model, without state data.")
snapshot = _step_flow(
    "2", STEPS["snapshot"], "Establish an initial snapshot and adjust it until it meets every criterion."
)
equivalence = _step_flow("3", STEPS["equivalence"], "Reduce the network to the chosen voltage level.")
annual_states = _step_flow("4", STEPS["annual_states"], "Make 8760 hourly states.")
unit_commitment = _step_flow("5a", STEPS["unit_commitment"], "Commit units by months and days.")
active_dispatch = _step_flow(
    "5b", STEPS["active_dispatch"], "Dispatch active power day by day and verify the boundaries."
)
reactive_dispatch = _step_flow(
    "5c", STEPS["reactive_dispatch"], "Set voltages, reactive power, taps and shunts hour by hour."
)
n1_verification = _step_flow("6", STEPS["n1_verification"], "Verify every single-branch outage in every hour.")
state_adjustment = _step_flow(
    "7", STEPS["state_adjustment"], "Adjust the hours that fail N-1 and verify them again."
)

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
