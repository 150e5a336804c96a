"""The planning chain: seven steps, in order, as one Prefect flow of subflows."""

from __future__ import annotations

from prefect import flow, get_run_logger

from blocks import run_settings
from bos_core.access.workspace import Workspace
from bos_core.objects.task import TaskState, task_set_scope
from bos_core.scheduling.dask_runner import GovernedDaskTaskRunner
from flows.planned_hours import with_planned_hours
from flows.publication import publish
from flows.request import PlanRequest, StepName
from flows.step_flows import STEP_FLOWS, TraceId, Version
from flows.tagging import tagged
from flows.task_set import open_task_set, recording_failure

SIMULATION_STEPS: tuple[StepName, ...] = ("unit_commitment", "active_dispatch", "reactive_dispatch")


@flow(
    name="planning-chain",
    flow_run_name="planning {request.scenario} {request.horizon.hours} h",
    task_runner=GovernedDaskTaskRunner(),
    persist_result=False,
)
def planning_chain(request: PlanRequest, trace_id: TraceId = "") -> str:
    """Plan a horizon: model, snapshot, equivalence, states, simulation, N-1 verification, adjustment.

    A trace id of an earlier run resumes it: what its ledger calls finished is not computed again.

    Returns
    -------
    str
        Trace id of the run.
    """
    workspace = Workspace.open(run_settings())
    request = with_planned_hours(workspace, request, trace_id)
    context, version = open_task_set(workspace, request, trace_id, "planning-chain")
    label, horizon = workspace.scenarios.get(version).label, request.horizon
    get_run_logger().info(
        "%s plans %s, hours %d to %d, for %s; all log lines: bos logs %s",
        *(context.trace_id, label, horizon.start_hour, horizon.stop_hour - 1, context.user, context.trace_id[:8]),
    )
    with tagged(f"trace:{context.trace_id}", f"scenario:{request.scenario}"), task_set_scope(context):
        with recording_failure(workspace.ledger, context.trace_id):
            for name in request.steps():
                if name in SIMULATION_STEPS[1:] and name != request.from_step:
                    continue
                if name in SIMULATION_STEPS:
                    version = annual_simulation(request, context.trace_id, version)
                else:
                    version = STEP_FLOWS[name](request, context.trace_id, version)
        publish(workspace, context.trace_id)
    workspace.ledger.set_task_set_state(context.trace_id, TaskState.SUCCESS)
    return context.trace_id


@flow(
    name="step-5-annual-simulation",
    flow_run_name="Annual simulation {request.scenario} {request.horizon.hours} h",
    task_runner=GovernedDaskTaskRunner(),
    persist_result=False,
)
def annual_simulation(request: PlanRequest, trace_id: TraceId, version: Version) -> str:
    """Simulate the horizon on three levels: unit commitment, active dispatch, reactive dispatch."""
    for name in SIMULATION_STEPS:
        if name in request.steps():
            version = STEP_FLOWS[name](request, trace_id, version)
    return version
