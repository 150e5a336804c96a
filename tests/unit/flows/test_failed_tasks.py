"""A run of which some tasks failed: its results, its failures and one report; nothing unsound is written back."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from bos_core import listings
from bos_core.api import Bos, Run, connect
from bos_core.objects.errors import NotFoundError, ProgramError, RunFailedError
from bos_core.objects.task import TaskState
from bos_core.report.collection import collect
from bos_core.report.page import render
from flows import step1_system_model
from flows.backfill import write_back
from flows.execution import execute
from flows.power_flow_step import plan
from flows.request import BusinessRequest, PlanRequest, PowerFlowRequest
from flows.step import Job, StepRun
from flows.steps import STEPS
from flows.task_set import open_task_set

RTS = Path(__file__).parents[4] / "shared" / "yardsticks" / "rts_gmlc"
WHY = "hour 4825: the sun <fell> down"


@pytest.fixture(scope="module")
def bos(tmp_path_factory: pytest.TempPathFactory) -> Bos:
    opened = connect(home=tmp_path_factory.mktemp("home"), user="planner", project="tests")
    opened.scenarios.import_(RTS, name="rts")
    return opened


def failing(step: str, monkeypatch: pytest.MonkeyPatch, from_hour: int = 0) -> None:
    """Let the tasks of a step fail that begin at an hour or later."""
    sound = STEPS[step]

    def carry_out(job: Job) -> Mapping[str, pa.Table]:
        if int(job.task.parameters.get("start", 0)) >= from_hour:
            raise ProgramError(WHY)
        return sound.carry_out(job)

    monkeypatch.setattr("flows.execution.STEPS", {**STEPS, step: replace(sound, carry_out=carry_out)})


def opened(bos: Bos, request: BusinessRequest, business: str) -> StepRun:
    context, version = open_task_set(bos.workspace, request, str(uuid.uuid4()), business)
    return StepRun(bos.workspace, request, context, version)


@pytest.fixture
def half(bos: Bos, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A power flow of 30 hours whose second task failed."""
    horizon = {"start_hour": 4800, "hours": 30}
    request = PowerFlowRequest.model_validate({"scenario": "rts", "horizon": horizon, "chunk_hours": 24})
    run = opened(bos, request, "power-flow")
    tasks = plan(run)
    bos.workspace.ledger.register(tasks)
    failing("power_flow", monkeypatch, from_hour=4824)
    states = [execute(task.id, bos.workspace.settings, request).state for task in tasks]
    assert states == [TaskState.SUCCESS, TaskState.FAILED]
    return bos.open(run.context.trace_id)


def test_the_report_has_the_results_and_names_what_failed(half: Run) -> None:
    data = collect(half.workspace, half.trace_id)
    assert data.power_flow is not None
    assert data.power_flow.outcome.size == 24
    assert not np.isnan(data.power_flow.loading_max).any()
    (task,) = data.unfinished
    assert (task.state, task.part, task.attempts, task.message) == ("failed", "hours=4824-4829", 1, WHY)
    assert WHY in task.log
    assert "1 tasks failed" in " ".join(data.head.warnings)
    html = render(data)
    assert "Tasks without a result" in html
    assert "the sun &lt;fell&gt; down" in html
    assert [row["hour"] for row in half.power_flow.hours().to_pylist()] == list(range(4800, 4824))


def test_the_terminal_says_it_in_one_answer(half: Run) -> None:
    ledger = half.workspace.ledger
    console = Console(width=100, record=True)
    console.print(listings.run(ledger, ledger.task_set(half.trace_id)))
    text = console.export_text()
    rows = sum(output.rows for output in ledger.outputs(half.trace_id))
    assert f"{rows:,}" in text
    assert text.count(WHY) == 2  # the message, and the log line
    assert "hours=4824-4829" in text


def test_a_trace_of_what_failed_says_so(half: Run) -> None:
    (task,) = half.trace("power_flow", hour=4825).tasks
    assert (task.state, task.message) == ("failed", WHY)
    with pytest.raises(NotFoundError, match="has no committed output 'hours'; it has: none"):
        half.trace("power_flow", "hours", hour=4825)


def test_a_run_that_fails_at_its_first_step_has_a_report(bos: Bos, monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened(bos, PlanRequest(scenario="rts"), "planning-chain")
    (task,) = step1_system_model.plan(run)
    bos.workspace.ledger.register([task])
    with pytest.raises(NotFoundError, match="no results yet"):
        collect(bos.workspace, run.context.trace_id)
    failing("system_model", monkeypatch)
    execute(task.id, bos.workspace.settings, run.request)
    data = collect(bos.workspace, run.context.trace_id)
    assert data.head.outcome == "1 tasks failed; the run is not complete."
    assert data.head.scenario_version == "rts@1"
    assert "the sun &lt;fell&gt; down" in render(data)


def test_only_complete_and_sound_results_are_written_back(bos: Bos, monkeypatch: pytest.MonkeyPatch) -> None:
    request = PlanRequest(scenario="rts")
    run = opened(bos, request, "planning-chain")
    (task,) = step1_system_model.plan(run)
    step, before = STEPS["system_model"], bos.workspace.scenarios.versions()
    with pytest.raises(RunFailedError, match="it has no tasks"):
        write_back(run, step)
    bos.workspace.ledger.register([task])
    with pytest.raises(RunFailedError, match="1 tasks have not succeeded"):
        write_back(run, step)
    with monkeypatch.context() as patched:
        failing("system_model", patched)
        execute(task.id, bos.workspace.settings, request)
        with pytest.raises(RunFailedError, match="1 tasks have not succeeded"):
            write_back(run, step)
    bos.workspace.ledger.reset_failed(run.context.trace_id)
    assert execute(task.id, bos.workspace.settings, request).state is TaskState.SUCCESS
    output = bos.workspace.ledger.task_outputs(task.id)[0]
    sound, table = bos.workspace.store.get(output.address), bos.workspace.store.get_table(output.address)
    bos.workspace.store.put_table(output.address, pa.concat_tables([table, table]))
    with pytest.raises(RunFailedError, match=rf"cannot be trusted \({output.address} is changed.*bos rebuild"):
        write_back(run, step)
    assert bos.workspace.scenarios.versions() == before
    bos.workspace.store.put(output.address, sound)
    version, _ = write_back(run, step)
    assert bos.workspace.scenarios.get(version).step == "system_model"
