"""A run as OpenLineage events: what specification 2-0-2 requires of them, checked with our own reading of it."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pyarrow.parquet as pq
import pytest

from bos_core.api import Bos, Run, connect
from bos_core.cli import run_command
from bos_core.objects.errors import StorageError
from bos_core.objects.task import TaskState
from flows import step1_system_model
from flows.backfill import write_back
from flows.execution import execute
from flows.request import PlanRequest
from flows.step import StepRun
from flows.steps import STEPS
from flows.task_set import open_task_set

RTS = Path(__file__).parents[4] / "shared" / "yardsticks" / "rts_gmlc"
TYPES = {"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"}


@pytest.fixture(scope="module")
def bos(tmp_path_factory: pytest.TempPathFactory) -> Bos:
    return connect(home=tmp_path_factory.mktemp("home"), user="planner", project="tests")


@pytest.fixture(scope="module")
def run(bos: Bos) -> Run:
    """The first step of a plan, written back."""
    bos.scenarios.import_(RTS, name="rts")
    request = PlanRequest(scenario="rts")
    context, version = open_task_set(bos.workspace, request, str(uuid.uuid4()), "planning-chain")
    step = StepRun(bos.workspace, request, context, version)
    (task,) = step1_system_model.plan(step)
    bos.workspace.ledger.register([task])
    execute(task.id, bos.workspace.settings, request)
    write_back(step, STEPS["system_model"])
    bos.workspace.ledger.set_task_set_state(context.trace_id, TaskState.SUCCESS)
    return bos.open(context.trace_id)


@pytest.fixture(scope="module")
def events(run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    count = run.openlineage(path)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(found) == count
    return found


def facets(value: object) -> Iterator[dict[str, Any]]:
    """Everything that says how it is to be read."""
    if isinstance(value, dict):
        if "_producer" in value or "_schemaURL" in value:
            yield value
        for item in value.values():
            yield from facets(item)
    elif isinstance(value, list):
        for item in value:
            yield from facets(item)


def test_events_have_what_the_specification_requires(events: list[dict[str, Any]]) -> None:
    for event in events:
        assert event["eventType"] in TYPES
        assert dt.datetime.fromisoformat(event["eventTime"]).tzinfo is not None
        assert event["schemaURL"] == "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
        assert urlparse(event["producer"]).scheme
        assert str(uuid.UUID(event["run"]["runId"])) == event["run"]["runId"]
        for named in (event["job"], *event["inputs"], *event["outputs"]):
            assert named["namespace"]
            assert named["name"]
        for facet in facets(event):
            assert urlparse(facet["_producer"]).scheme
            assert facet["_schemaURL"].startswith("https://openlineage.io/spec/")
    assert [e["eventTime"] for e in events] == sorted(e["eventTime"] for e in events)


def test_each_run_starts_once_and_ends_once(events: list[dict[str, Any]]) -> None:
    kinds = Counter((e["run"]["runId"], e["eventType"]) for e in events)
    assert set(kinds.values()) == {1}
    assert {kind for _, kind in kinds} == {"START", "COMPLETE"}
    assert len(kinds) == 2 * 3  # the run, its task, the version it wrote back


def test_datasets_lead_from_the_import_to_the_new_version(
    bos: Bos, run: Run, events: list[dict[str, Any]]
) -> None:
    ended = {e["job"]["name"]: e for e in events if e["eventType"] == "COMPLETE"}
    (task,) = bos.workspace.ledger.tasks(run.trace_id)
    step = ended["planning-chain.system_model"]
    assert step["run"]["runId"] == task.id
    assert step["run"]["facets"]["parent"]["run"]["runId"] == run.trace_id
    assert step["job"]["facets"]["bos_program"]["digest"] == task.program_digest
    assert [d["name"] for d in step["inputs"]] == ["rts@1"]
    assert step["inputs"][0]["facets"]["version"]["datasetVersion"] == bos.scenarios.get("rts@1").digest
    for dataset in step["outputs"]:
        table = pq.read_table(dataset["name"])
        columns = [(field["name"], field["type"]) for field in dataset["facets"]["schema"]["fields"]]
        assert columns == [(field.name, str(field.type)) for field in table.schema]
        assert dataset["outputFacets"]["outputStatistics"]["rowCount"] == table.num_rows
        assert dataset["outputFacets"]["outputStatistics"]["size"] == Path(dataset["name"]).stat().st_size
    backfill = ended["planning-chain.system_model.backfill"]
    assert {d["name"] for d in backfill["inputs"]} == {"rts@1", *(d["name"] for d in step["outputs"])}
    assert [d["name"] for d in backfill["outputs"]] == ["rts@2"]


def test_a_task_that_failed_says_why(bos: Bos, run: Run, tmp_path: Path) -> None:
    request = PlanRequest(scenario="rts")
    context, version = open_task_set(bos.workspace, request, str(uuid.uuid4()), "planning-chain")
    (task,) = step1_system_model.plan(StepRun(bos.workspace, request, context, version))
    bos.workspace.ledger.register([task])
    claim = bos.workspace.ledger.claim(task.id, "host/1/2.0")
    bos.workspace.ledger.finish(task.id, claim.attempt, TaskState.FAILED, message="no sun")  # type: ignore[union-attr]
    bos.open(context.trace_id).openlineage(tmp_path / "events.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    (failed,) = [e for e in lines if e["eventType"] == "FAIL"]
    assert failed["run"]["facets"]["errorMessage"]["message"] == "no sun"


def test_the_command_writes_them_or_says_why_not(
    bos: Bos, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in bos.workspace.settings.environment().items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "events.jsonl"
    assert run_command(["trace", run.trace_id[:8], "--openlineage", str(path)]) == 0
    assert path.read_text()
    assert run_command(["trace", "--openlineage", str(tmp_path / "no" / "events.jsonl")]) == StorageError.exit_code
    assert "choose a file that can be written" in capsys.readouterr().err.replace("\n", " ")
