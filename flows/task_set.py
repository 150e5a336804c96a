"""Open a business request: a task set with its context, new or resumed."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from bos_core.access.workspace import Workspace
from bos_core.index.ledger import Ledger
from bos_core.objects.errors import Finding, OptionError, raise_if_any
from bos_core.objects.task import TaskSetContext, TaskState
from bos_core.objects.text import storable
from bos_core.programs.catalogue import Catalogue
from bos_core.programs.registry import Program
from flows.execution import is_alive
from flows.request import BusinessRequest

_TRACE_ID = re.compile("[0-9A-Za-z-]{1,64}")
"""Addresses of results begin with it."""
PINNED = "scenario_version"
"""Parameter of a task set that the request does not have: the version that its scenario meant at first."""


def open_task_set(
    workspace: Workspace, request: BusinessRequest, trace_id: str, business: str
) -> tuple[TaskSetContext, str]:
    """Register the request, or take up an unfinished one; what a dead process held is set free.

    Returns
    -------
    TaskSetContext, str
        The context, and the scenario version to start from. It is pinned when the request is first opened: the
        request's own results are newer versions of the same scenario.

    Raises
    ------
    OptionError
        With every unknown program and parameter; if the trace id is none.
    """
    if trace_id and not _TRACE_ID.fullmatch(trace_id):
        remedy = "leave it empty for a new run; `bos ps` lists earlier ones"
        raise OptionError((Finding("run", (storable(trace_id[:40]),), "is no trace id", remedy),))
    check_programs(workspace, request)
    version = workspace.scenarios.get(request.scenario).id
    settings = workspace.settings
    context = TaskSetContext(
        trace_id or str(uuid.uuid4()), settings.user, settings.project, request.scenario, business
    )
    parameters = {**request.model_dump(mode="json"), PINNED: version}
    record = workspace.ledger.open_task_set(context, parameters)
    _check_unchanged(workspace, record.trace_id)
    executing = workspace.ledger.tasks(record.trace_id, states=[TaskState.EXECUTING])
    workspace.ledger.release_dead(record.trace_id, {t.holder for t in executing if not is_alive(t.holder)})
    workspace.ledger.reset_failed(record.trace_id)
    workspace.ledger.set_task_set_state(record.trace_id, TaskState.EXECUTING)
    return record.context, str(record.parameters[PINNED])


@contextmanager
def recording_failure(ledger: Ledger, trace_id: str) -> Iterator[None]:
    """Put a task set that is broken off, by an error or from outside, into the failed state, with the reason."""
    try:
        yield
    except BaseException as error:
        ledger.set_task_set_state(trace_id, TaskState.FAILED, str(error) or "interrupted")
        raise


def _check_unchanged(workspace: Workspace, trace_id: str) -> None:
    """Refuse to mix two versions of a program in one run."""
    used = {(t.slot, t.program, t.program_digest) for t in workspace.ledger.tasks(trace_id)}
    resolve = Catalogue(workspace).resolve
    changed = [f"{slot}/{name}" for slot, name, digest in used if resolve(slot, name).digest != digest]
    findings = [
        Finding("program", (name,), "has changed since the run was started", "start a new run") for name in changed
    ]
    raise_if_any(findings, OptionError)


def check_programs(workspace: Workspace, request: BusinessRequest) -> None:
    """Check the programs of the steps to run, and their parameters, and put them into the index."""
    catalogue, used = Catalogue(workspace), list[Program]()
    findings: list[Finding] = []
    for slot in sorted(set(request.slots())):
        try:
            program = catalogue.resolve(slot, request.program(slot))
            used.append(program)
            program.parameters(request.program_parameters.get(slot, {}))
        except OptionError as error:
            findings += error.findings
    raise_if_any(findings, OptionError)
    catalogue.record(used)
