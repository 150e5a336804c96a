"""A task set that is broken off says so in the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from bos_core.index.database import connect
from bos_core.index.ledger import Ledger
from bos_core.objects.errors import RunFailedError
from bos_core.objects.task import TaskSetContext, TaskState
from flows.task_set import recording_failure


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
