"""Open a business request: a task set with its context, new or resumed."""

from __future__ import annotations

import uuid

from bos_core.access.workspace import Workspace
from bos_core.objects.errors import Finding, OptionError, raise_if_any
from bos_core.objects.task import TaskSetContext, TaskState
from bos_core.programs import registry
from flows.execution import is_alive
from flows.request import PlanRequest, Programs


def open_task_set(workspace: Workspace, request: PlanRequest, trace_id: str, business: str) -> TaskSetContext:
    """Register the request, or take up an unfinished one; what a dead process held is set free.

    Raises
    ------
    OptionError
        With every unknown program and parameter.
    """
    check_programs(request)
    workspace.scenarios.get(request.scenario)
    settings = workspace.settings
    context = TaskSetContext(
        trace_id or str(uuid.uuid4()), settings.user, settings.project, request.scenario, business
    )
    record = workspace.ledger.open_task_set(context, request.model_dump(mode="json"))
    executing = workspace.ledger.tasks(record.trace_id, states=[TaskState.EXECUTING])
    workspace.ledger.release_dead(record.trace_id, {t.holder for t in executing if is_alive(t.holder)})
    workspace.ledger.reset_failed(record.trace_id)
    workspace.ledger.set_task_set_state(record.trace_id, TaskState.EXECUTING)
    return record.context


def check_programs(request: PlanRequest) -> None:
    """Check every chosen program and its parameters before anything runs."""
    findings: list[Finding] = []
    for slot in Programs.model_fields:
        try:
            program = registry.resolve(slot, request.program(slot))
            program.parameters(request.program_parameters.get(slot, {}))
        except OptionError as error:
            findings += error.findings
    known = sorted(Programs.model_fields)
    findings += [
        Finding("program parameters", (slot,), "is not a slot", f"use one of {', '.join(known)}")
        for slot in request.program_parameters
        if slot not in Programs.model_fields
    ]
    raise_if_any(findings, OptionError)
