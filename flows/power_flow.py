"""Time-series AC power flow as a business of its own: one Prefect flow, resumable by its trace id."""

from __future__ import annotations

from prefect import flow, get_run_logger

from blocks import run_settings
from bos_core.access.workspace import Workspace
from bos_core.objects.task import TaskState, task_set_scope
from bos_core.scheduling.dask_runner import GovernedDaskTaskRunner
from flows.power_flow_step import STEP, horizon_of
from flows.publication import publish
from flows.request import PowerFlowRequest
from flows.step_flows import TraceId, run_step
from flows.tagging import tagged
from flows.task_set import open_task_set, recording_failure


@flow(
    name="power-flow",
    flow_run_name="power flow {request.scenario}",
    task_runner=GovernedDaskTaskRunner(),
    persist_result=False,
)
def power_flow(request: PowerFlowRequest, trace_id: TraceId = "") -> str:
    """Solve the AC power flow of every hour that a scenario holds, or of its snapshot.

    A trace id of an earlier run resumes it: what its ledger calls finished is not computed again.

    Returns
    -------
    str
        Trace id of the run.
    """
    workspace = Workspace.open(run_settings())
    horizon_of(workspace.reader(request.scenario), request)
    context, version = open_task_set(workspace, request, trace_id, "power-flow")
    label = workspace.scenarios.get(version).label
    get_run_logger().info("%s solves the power flow of %s for %s", context.trace_id, label, context.user)
    with tagged(f"trace:{context.trace_id}", f"scenario:{request.scenario}"), task_set_scope(context):
        with recording_failure(workspace.ledger, context.trace_id):
            run_step(STEP, request, context, version)
        publish(workspace, context.trace_id)
    workspace.ledger.set_task_set_state(context.trace_id, TaskState.SUCCESS)
    return context.trace_id
