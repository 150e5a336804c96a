"""The hours of a request that begins behind unit commitment: those that its scenario version has planned."""

from __future__ import annotations

from bos_core.access.workspace import Workspace
from bos_core.objects.errors import Finding, NotFoundError, OptionError
from flows.request import STEP_ORDER, Horizon, PlanRequest, StepName

_PLAN = "unit.on"
"""Series that every later step reads; its hours are those of the plan."""


def needs_plan(step: StepName) -> bool:
    """Whether a step works on hours that an earlier one has planned."""
    return STEP_ORDER.index(step) > STEP_ORDER.index("unit_commitment")


def with_planned_hours(workspace: Workspace, request: PlanRequest, trace_id: str = "") -> PlanRequest:
    """Return the request with the hours that it leaves open taken from the plan that its scenario holds.

    Requests that plan hours themselves, and those that are resumed, stay as they are.

    Raises
    ------
    OptionError
        When the scenario has no plan, or when hours are asked for that it does not hold.
    """
    if not needs_plan(request.from_step) or _is_known(workspace, trace_id):
        return request
    reader = workspace.reader(request.scenario)
    if not reader.has_series(_PLAN):
        problem = f"holds no planned hours for {request.from_step.replace('_', '-')}"
        remedy = (
            "plan some first: bos run planning-chain, or name a version that a later step made (bos scenarios)"
        )
        raise OptionError((Finding("scenario", (reader.version.label,), problem, remedy),))
    planned, asked = reader.hours(_PLAN), request.horizon
    given = asked.model_fields_set if "horizon" in request.model_fields_set else set()
    start = asked.start_hour if "start_hour" in given else planned.start
    stop = start + asked.hours if "hours" in given else planned.stop
    if not planned.start <= start < stop <= planned.stop:
        problem = (
            f"holds planned hours {planned.start} to {planned.stop - 1}, not {start} to {max(start, stop - 1)}"
        )
        remedy = "ask within them, or leave --hours and --start out for all of them"
        raise OptionError((Finding("scenario", (reader.version.label,), problem, remedy),))
    return request.model_copy(update={"horizon": Horizon(start_hour=start, hours=stop - start)})


def _is_known(workspace: Workspace, trace_id: str) -> bool:
    if not trace_id:
        return False
    try:
        workspace.ledger.task_set(trace_id)
    except NotFoundError:
        return False
    return True
