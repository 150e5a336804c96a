"""The planning chain: seven steps, in order, as one Prefect flow of subflows."""

from __future__ import annotations

from prefect import flow, get_run_logger
from prefect.artifacts import create_link_artifact, create_table_artifact

from bos_core.access.workspace import Workspace
from bos_core.objects.settings import Settings
from bos_core.objects.task import TaskState, task_set_scope
from bos_core.report.collection import collect, report_path
from bos_core.report.page import write
from bos_core.report.tables import Cells, table6_cells, violated, violation_cells
from bos_core.scheduling.dask_runner import GovernedDaskTaskRunner
from bos_core.scheduling.prefect_server import publish_page
from flows.request import PlanRequest, StepName
from flows.step_flows import STEP_FLOWS, TraceId, Version
from flows.tagging import tagged
from flows.task_set import open_task_set

SIMULATION_STEPS: tuple[StepName, ...] = ("unit_commitment", "active_dispatch", "reactive_dispatch")
VIOLATIONS_SHOWN = 100


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
    workspace = Workspace.open(Settings.load())
    context, version = open_task_set(workspace, request, trace_id, "planning-chain")
    label, horizon = workspace.scenarios.get(version).label, request.horizon
    get_run_logger().info(
        "%s plans %s, hours %d to %d, for %s; all log lines: bos logs %s",
        *(context.trace_id, label, horizon.start_hour, horizon.stop_hour - 1, context.user, context.trace_id[:8]),
    )
    with tagged(f"trace:{context.trace_id}", f"scenario:{request.scenario}"), task_set_scope(context):
        try:
            for name in request.steps():
                if name in SIMULATION_STEPS[1:] and name != request.from_step:
                    continue
                if name in SIMULATION_STEPS:
                    version = annual_simulation(request, context.trace_id, version)
                else:
                    version = STEP_FLOWS[name](request, context.trace_id, version)
        except BaseException as error:
            workspace.ledger.set_task_set_state(context.trace_id, TaskState.FAILED, str(error) or "interrupted")
            raise
        _publish(workspace, context.trace_id)
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


def _publish(workspace: Workspace, trace_id: str) -> None:
    """Write the report; show Table 6, what is still violated and the report's link in Prefect's UI."""
    data = collect(workspace, trace_id)
    path = write(data, report_path(workspace.settings, trace_id))
    time_by_stage = _rows(table6_cells(data.table6))
    create_table_artifact(time_by_stage, key="table-6", description=f"Time by stage, run {trace_id}")
    security = data.security
    if security is not None and security.remaining is not None:
        remaining = security.remaining
        shown = violation_cells(remaining, VIOLATIONS_SHOWN)
        create_table_artifact(
            _rows(shown),
            key="violations",
            description=f"{violated(security.adjusted)}: {len(remaining):,}, shown: {len(shown.rows):,}",
        )
    create_link_artifact(
        publish_page(workspace.settings.home, path) or path.as_uri(),
        key="report",
        link_text="Open the report",
        description=f"Report of run {trace_id}, also in the file {path}",
    )
    get_run_logger().info("%s report: %s", trace_id[:8], path)


def _rows(cells: Cells) -> list[dict[str, str]]:
    lines = [*cells.rows, cells.total] if cells.total else cells.rows
    return [dict(zip(cells.header, line, strict=True)) for line in lines]
