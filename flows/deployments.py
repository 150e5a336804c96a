"""Every deployment of BOS, in one place: what users start from Prefect's UI, a schedule or `run_deployment`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from bos_core.access.workspace import Workspace
from bos_core.objects.ontology import HOURS_PER_YEAR
from bos_core.scheduling.pool import CoschedulingProcessWorker
from flows.forms import Choices, form, step_before
from flows.planned_hours import needs_plan
from flows.planning_chain import planning_chain
from flows.power_flow import power_flow
from flows.request import StepName
from flows.step_flows import STEP_FLOWS

POOL_NAME = "bos"
POOL_TYPE = CoschedulingProcessWorker.type
"""Type of the work pool and of the worker that serves it; both read it from here."""
QUEUES = {"urgent": 1, "normal": 2, "trial": 3}
"""Work queues and their priorities, 1 first."""
WEEK_HOURS = 168
NIGHTLY = "0 1 * * *"


@dataclass(frozen=True)
class Deployment:
    """One way to start a flow.

    Attributes
    ----------
    flow : Flow
        Importable by its module's name, so that a worker needs the installed package and no source copy.
    name : str
    description : str
        Markdown, shown on the deployment's page.
    hours : int or None
        Horizon that the form starts with.
    cron : str
        Schedule, made inactive: users turn it on. Empty = none.
    queue : str
    single : StepName or None
        The step, where the flow is a step of the chain by itself.
    """

    flow: Flow[..., Any]
    name: str
    description: str
    hours: int | None = None
    cron: str = ""
    queue: str = "normal"
    single: StepName | None = None

    @property
    def full_name(self) -> str:
        """What `run_deployment` takes."""
        return f"{self.flow.name}/{self.name}"

    @property
    def entrypoint(self) -> str:
        """Dotted path of the flow."""
        return f"{self.flow.fn.__module__}.{self.flow.fn.__name__}"

    def parameters(self, choices: Choices) -> dict[str, Any]:
        """Return the values that the form and the schedule start with; the newest scenario if there is one."""
        request: dict[str, Any] = {}
        if choices.scenarios:
            request["scenario"] = choices.starting_with(step_before(self.single))[0]
        if self.hours:
            request["horizon"] = {"start_hour": 0, "hours": self.hours}
        return {"request": request} if request else {}


def deployments() -> Iterator[Deployment]:
    """Yield every deployment."""
    chain = "The seven steps of the planning chain, in order, as subflows."
    yield Deployment(
        planning_chain,
        "annual",
        f"{chain} A whole year of {HOURS_PER_YEAR} hours. The nightly schedule is off until you turn it on.",
        HOURS_PER_YEAR,
        NIGHTLY,
    )
    yield Deployment(planning_chain, "week", f"{chain} One week of {WEEK_HOURS} hours.", WEEK_HOURS)
    text = f"{power_flow.description} Reactive limits, slack and what is kept are in the form."
    yield Deployment(power_flow, "default", text)
    for name, flow in STEP_FLOWS.items():
        before = step_before(name)
        start = f"a version that the step {before} made" if before else "the scenario that you choose"
        text = f"{flow.description} One step of the planning chain by itself, from {start}."
        yield Deployment(flow, "default", text, None if needs_plan(name) else WEEK_HOURS, single=name)


def register(workspace: Workspace) -> list[str]:
    """Make pool, queues and deployments on the server, or bring them up to date; return their full names.

    What users have set on a deployment stays: its schedules, its default parameters, whether it is paused.
    """
    choices = Choices.present(workspace)
    with get_client(sync_client=True) as client:
        _make_pool(client)
        for deployment in deployments():
            _register(client, deployment, choices)
    return [deployment.full_name for deployment in deployments()]


def refresh_forms(workspace: Workspace, choices: Choices | None = None) -> Choices:
    """Bring the drop-downs of every registered deployment up to date; return what they offer now.

    A program or scenario that came after the deployment appears with no redeploy.
    """
    choices = choices or Choices.present(workspace)
    with get_client(sync_client=True) as client:
        for deployment in deployments():
            try:
                found = client.read_deployment_by_name(deployment.full_name)
            except ObjectNotFound:
                continue
            client.update_deployment(found.id, _form_update(deployment, choices, found.parameters))
    return choices


def _make_pool(client: SyncPrefectClient) -> None:
    description = "Runs the planning chain on this machine; tasks and containers are co-scheduled."
    template = CoschedulingProcessWorker.get_default_base_job_template()
    new = WorkPoolCreate(name=POOL_NAME, type=POOL_TYPE, description=description, base_job_template=template)
    try:
        client.create_work_pool(new)
    except ObjectAlreadyExists:
        if client.read_work_pool(POOL_NAME).type == POOL_TYPE:
            client.update_work_pool(POOL_NAME, WorkPoolUpdate(description=description))
        else:  # of an earlier version of BOS; deployments find the new one by its name
            client.delete_work_pool(POOL_NAME)
            client.create_work_pool(new)
    for name, priority in QUEUES.items():
        try:
            client.create_work_queue(name=name, priority=priority, work_pool_name=POOL_NAME)
        except ObjectAlreadyExists:
            continue


def _register(client: SyncPrefectClient, deployment: Deployment, choices: Choices) -> UUID:
    common = {
        "description": deployment.description,
        "entrypoint": deployment.entrypoint,
        "tags": ["bos"],
        "work_pool_name": POOL_NAME,
        "work_queue_name": deployment.queue,
        "enforce_parameter_schema": True,
    }
    try:
        found = client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return client.create_deployment(
            flow_id=client.create_flow_from_name(deployment.flow.name),
            name=deployment.name,
            parameters=deployment.parameters(choices),
            parameter_openapi_schema=form(deployment.flow, choices, deployment.single),
            schedules=_schedules(deployment),
            **common,
        )
    client.update_deployment(found.id, DeploymentUpdate(**common))
    client.update_deployment(found.id, _form_update(deployment, choices, found.parameters))
    return found.id


def _schedules(deployment: Deployment) -> list[DeploymentScheduleCreate]:
    if not deployment.cron:
        return []
    cron = CronSchedule(cron=deployment.cron, timezone="UTC")
    return [DeploymentScheduleCreate(schedule=cron, active=False, slug="nightly")]


def _form_update(deployment: Deployment, choices: Choices, parameters: dict[str, Any]) -> DeploymentUpdate:
    """Return the new form; a scenario to start with is filled in only while there is none."""
    schema = form(deployment.flow, choices, deployment.single)
    request = parameters.get("request", {})
    if request.get("scenario") or not choices.scenarios:
        return DeploymentUpdate(parameter_openapi_schema=schema)
    values = {**parameters, "request": {**deployment.parameters(choices)["request"], **request}}
    return DeploymentUpdate(parameter_openapi_schema=schema, parameters=values)
