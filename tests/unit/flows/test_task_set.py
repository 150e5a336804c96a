"""A task set is opened under a trace id, and says so in the ledger when it is broken off."""

from __future__ import annotations

from pathlib import Path

import pytest

from bos_core.access.workspace import Workspace
from bos_core.index.database import connect
from bos_core.index.ledger import Ledger
from bos_core.objects.errors import OptionError, RunFailedError
from bos_core.objects.settings import Settings
from bos_core.objects.task import TaskSetContext, TaskState
from flows.request import PlanRequest
from flows.task_set import open_task_set, recording_failure


@pytest.mark.parametrize(
    ("error", "message"),
    [(RunFailedError("2 tasks failed"), "2 tasks failed"), (KeyboardInterrupt(), "interrupted")],
)
def test_what_breaks_a_task_set_off_is_recorded(tmp_path: Path, error: BaseException, message: str) -> None:
    ledger = Ledger(connect(f"sqlite:///{tmp_path / 'index.sqlite'}"))
    ledger.open_task_set(TaskSetContext("t", "someone", "a project", "a scenario", "planning-chain"), {})
    ledger.set_task_set_state("t", TaskState.EXECUTING)
    with recording_failure(ledger, "t"):
        pass
    assert ledger.task_set("t").state is TaskState.EXECUTING
    with pytest.raises(type(error)), recording_failure(ledger, "t"):
        raise error
    assert (ledger.task_set("t").state, ledger.task_set("t").message) == (TaskState.FAILED, message)


@pytest.mark.parametrize(
    "trace_id", ["../../x", "a/b", "a b", "\x00", "'; DROP TABLE task; --", "\ud800", "x" * 65]
)
def test_what_could_lead_out_of_the_store_is_no_trace_id(tmp_path: Path, trace_id: str) -> None:
    workspace = Workspace.open(Settings(home=tmp_path))
    request = PlanRequest.model_validate({"scenario": "six"})
    with pytest.raises(OptionError, match=r"is no trace id; leave it empty for a new run"):
        open_task_set(workspace, request, trace_id, "planning-chain")
    assert workspace.ledger.task_sets() == []
