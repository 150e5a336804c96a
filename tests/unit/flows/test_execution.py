"""Carrying out a ledger task: what becomes of an attempt that another one overtakes."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from bos_core.api import connect
from bos_core.objects.task import Receipt, TaskState
from flows.execution import execute, holder
from flows.power_flow_step import plan
from flows.request import PowerFlowRequest
from flows.step import Job, StepRun
from flows.steps import STEPS
from flows.task_set import open_task_set


def test_an_overtaken_attempt_ends_with_the_receipt_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bos = connect(home=tmp_path, user="planner", project="tests")
    bos.scenarios.import_("pandapower:case14", name="one")
    request = PowerFlowRequest.model_validate({"scenario": "one"})
    context, version = open_task_set(bos.workspace, request, str(uuid.uuid4()), "power-flow")
    ledger, settings = bos.workspace.ledger, bos.workspace.settings
    (task,) = plan(StepRun(bos.workspace, request, context, version))
    ledger.register([task])
    step = STEPS["power_flow"]
    calls: list[int] = []
    started = threading.Event()
    other: list[Receipt] = []
    thread = threading.Thread(target=lambda: other.append(execute(task.id, settings, request)))

    def carry_out(job: Job) -> Mapping[str, pa.Table]:
        calls.append(job.task.attempt)
        if len(calls) == 1:
            assert ledger.release_dead(context.trace_id, {holder()}) == [task.id]
            thread.start()
            assert started.wait(60)
        else:
            started.set()
        return step.carry_out(job)

    monkeypatch.setattr("flows.execution.STEPS", {**STEPS, "power_flow": replace(step, carry_out=carry_out)})
    receipt = execute(task.id, settings, request)
    thread.join(60)
    assert len(calls) == 2
    assert receipt.state is TaskState.SUCCESS
    assert other[0].state is TaskState.SUCCESS
    assert [receipt.executed, other[0].executed] == [False, True]
    assert len(ledger.task_outputs(task.id)) > 0
