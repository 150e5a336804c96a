"""Atomic commit on every pair of store and database. Fixtures: `store`, `ledger`, `engine`.

A crash is injected before and after every write: a reader sees all of an attempt or nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from ledger_suite import claimed, let_lease_run_out, make_tasks, open_set
from sqlalchemy.engine import Engine

from bos_core.access.commit import (
    Garbage,
    attempt_prefix,
    collect_chunks,
    collect_garbage,
    commit_outputs,
    without_nan,
)
from bos_core.access.digest import table_digest
from bos_core.access.results import ResultReader
from bos_core.access.scenario_data import ScenarioReader, ScenarioWriter
from bos_core.access.store import ResultStore
from bos_core.index.ledger import AlreadyDone, Ledger
from bos_core.index.ontology_index import OntologyIndex
from bos_core.index.ontology_tables import ONTOLOGY
from bos_core.index.scenarios import ScenarioIndex
from bos_core.objects.errors import FencedError, InputError, NotFoundError
from bos_core.objects.ontology import TABLES
from bos_core.objects.task import ProgramRef, Task, TaskInput, TaskSetContext, TaskState


class Crash(BaseException):
    """The process dies here."""


def tables(task: Task) -> dict[str, pa.Table]:
    hour = int(task.input.chunk.removeprefix("hours="))
    field = pa.field("hour", pa.int64(), metadata={"unit": "h"})
    return {
        "pairs": pa.table([[hour] * 3, [0, 1, 2]], schema=pa.schema([field, ("outcome", pa.int64())])),
        "base": pa.table([[hour]], schema=pa.schema([field])),
    }


def prepared(ledger: Ledger, n: int = 1) -> tuple[TaskSetContext, list[Task]]:
    context = open_set(ledger)
    tasks = make_tasks(context, n)
    ledger.register(tasks)
    return context, tasks


def commit(store: ResultStore, ledger: Ledger, task: Task, attempt: int, context: TaskSetContext) -> None:
    receipt = commit_outputs(store, ledger, task, attempt, tables(task), context, wall_s=1.0)
    assert receipt.state is TaskState.SUCCESS


def test_a_commit_makes_everything_visible(store: ResultStore, ledger: Ledger) -> None:
    context, (task,) = prepared(ledger)
    commit(store, ledger, task, claimed(ledger, task.id), context)
    outputs = {o.name: o for o in ledger.task_outputs(task.id)}
    assert sorted(outputs) == ["base", "pairs"]
    pairs = outputs["pairs"]
    data = store.get(pairs.address)
    assert (hashlib.sha256(data).hexdigest(), len(data), pairs.rows) == (pairs.sha256, pairs.bytes, 3)
    assert pairs.content_digest == table_digest(tables(task)["pairs"])
    assert pairs.columns == {"hour": {"type": "int64", "unit": "h"}, "outcome": {"type": "int64", "unit": ""}}
    manifest = json.loads(store.get(attempt_prefix(context.trace_id, task.id, 1) + "/manifest.json"))
    assert [o["sha256"] for o in manifest["outputs"]] == [outputs["base"].sha256, pairs.sha256]
    metadata = ResultReader(store, ledger).metadata(task.id, "pairs")
    assert (metadata.task_id, metadata.attempt, metadata.address) == (task.id, 1, pairs.address)
    assert metadata.program == "n1_verification/batched_newton@d1"
    record = ledger.task(task.id)
    assert record.wall_s > 1.0
    assert 0 < record.io_s < record.wall_s


class Crashing:
    """Counts the writes of store and ledger, and dies before or after one of them."""

    def __init__(self, target: Any, names: tuple[str, ...], counter: list[int], at: int, before: bool) -> None:
        self._target, self._names, self._counter, self._at, self._before = target, names, counter, at, before

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if name not in self._names:
            return value

        def call(*args: Any, **options: Any) -> Any:
            self._counter[0] += 1
            if self._counter[0] == self._at and self._before:
                raise Crash
            result = value(*args, **options)
            if self._counter[0] == self._at:
                raise Crash
            return result

        return call


WRITES = 4  # two files, the manifest, the transaction


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, WRITES + 1))
def test_a_crash_at_any_write_shows_all_or_nothing(
    store: ResultStore, ledger: Ledger, engine: Engine, at: int, before: bool
) -> None:
    context, (task,) = prepared(ledger)
    results, counter = ResultReader(store, ledger), [0]
    dying_store: Any = Crashing(store, ("put", "put_if_absent"), counter, at, before)
    dying_ledger: Any = Crashing(ledger, ("finish",), counter, at, before)
    attempt = claimed(ledger, task.id)
    with pytest.raises(Crash):
        commit(dying_store, dying_ledger, task, attempt, context)
    committed = at == WRITES and not before
    if committed:
        assert isinstance(ledger.claim(task.id, "h2", 60), AlreadyDone)
    else:
        with pytest.raises(NotFoundError, match="no committed output"):
            results.table(context.trace_id, task.step, "pairs")
        assert ledger.outbox() == []
        let_lease_run_out(engine, task.id)
        commit(store, ledger, task, claimed(ledger, task.id, "h2"), context)
    winner = ledger.task(task.id).attempt
    assert winner == (1 if committed else 2)
    assert results.table(context.trace_id, task.step, "pairs").equals(tables(task)["pairs"])
    collect_garbage(store, ledger)
    left = {address.split("/")[3] for address, _ in store.walk("attempts")}
    assert left == {str(winner)}
    assert results.table(context.trace_id, task.step, "base").num_rows == 1


def test_the_transaction_itself_rolls_back(
    store: ResultStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, (task,) = prepared(ledger)
    attempt = claimed(ledger, task.id)

    def die(*args: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("bos_core.index.ledger._announce", die)
        with pytest.raises(Crash):
            commit(store, ledger, task, attempt, context)
    assert ledger.task(task.id).state is TaskState.EXECUTING
    assert ledger.task_outputs(task.id) == []
    commit(store, ledger, task, attempt, context)
    assert len(ledger.task_outputs(task.id)) == 2


def test_a_fenced_attempt_shows_nothing(store: ResultStore, ledger: Ledger, engine: Engine) -> None:
    context, (task,) = prepared(ledger)
    old = claimed(ledger, task.id, "slow")
    let_lease_run_out(engine, task.id)
    new = claimed(ledger, task.id, "quick")
    commit(store, ledger, task, new, context)
    with pytest.raises(FencedError):
        commit(store, ledger, task, old, context)
    assert {o.attempt for o in ledger.task_outputs(task.id)} == {new}
    garbage = collect_garbage(store, ledger, dry_run=True)
    assert len(garbage.deleted) == 3
    assert collect_garbage(store, ledger, context.trace_id) == garbage
    assert collect_garbage(store, ledger).deleted == ()


def test_a_foreign_manifest_stops_the_commit(store: ResultStore, ledger: Ledger) -> None:
    context, (task,) = prepared(ledger)
    attempt = claimed(ledger, task.id)
    store.put(attempt_prefix(context.trace_id, task.id, attempt) + "/manifest.json", b"{}")
    with pytest.raises(FencedError, match="another manifest"):
        commit(store, ledger, task, attempt, context)
    assert ledger.task(task.id).state is TaskState.EXECUTING


def test_the_collector_spares_what_runs_and_what_it_does_not_know(store: ResultStore, ledger: Ledger) -> None:
    context, (running, failed) = prepared(ledger, 2)
    for task in (running, failed):
        store.put(attempt_prefix(context.trace_id, task.id, claimed(ledger, task.id)) + "/pairs.parquet", b"1")
    ledger.finish(failed.id, 1, TaskState.FAILED)
    store.put("attempts/other/stranger/1/pairs.parquet", b"1")
    garbage = collect_garbage(store, ledger)
    assert garbage.deleted == (attempt_prefix(context.trace_id, failed.id, 1) + "/pairs.parquet",)
    assert garbage.unknown == ("attempts/other/stranger/1/pairs.parquet",)
    assert [a.split("/")[2] for a, _ in store.walk("attempts")] == sorted([running.id, "stranger"])


@pytest.mark.parametrize("name", ["", "Über", "a/b", "..", "A"])
def test_output_names_are_plain(store: ResultStore, ledger: Ledger, name: str) -> None:
    context, (task,) = prepared(ledger)
    attempt = claimed(ledger, task.id)
    with pytest.raises(InputError, match="unusable name"):
        commit_outputs(store, ledger, task, attempt, {name: tables(task)["base"]}, context)


def test_a_task_without_outputs_commits(store: ResultStore, ledger: Ledger) -> None:
    context, (task,) = prepared(ledger)
    receipt = commit_outputs(store, ledger, ledger.task(task.id), claimed(ledger, task.id), {}, context)
    assert receipt.state is TaskState.SUCCESS


def test_results_of_many_tasks_come_in_order_of_chunks(store: ResultStore, ledger: Ledger) -> None:
    context, tasks = prepared(ledger, 5)
    for task in reversed(tasks[:4]):
        commit(store, ledger, task, claimed(ledger, task.id), context)
    results = ResultReader(store, ledger)
    where = (context.trace_id, "n1_verification", "pairs")
    assert results.rows(*where) == 12
    whole = results.table(*where)
    assert whole["hour"].to_pylist() == sorted(whole["hour"].to_pylist())
    assert results.table(*where, columns=["outcome"]).column_names == ["outcome"]
    assert results.table(*where, filters=[("outcome", "==", 2)])["hour"].to_pylist() == [0, 1, 2, 3]
    assert pa.Table.from_batches(results.batches(*where)).equals(whole)
    assert whole.schema.field("hour").metadata == {b"unit": b"h"}
    assert not any(key.startswith(b"bos.") for key in whole.schema.metadata or {})
    assert results.task_table(tasks[0].id, "pairs").num_rows == 3
    for wrong in (
        lambda: results.table(context.trace_id, "n1_verification", "nothing"),
        lambda: results.task_table(tasks[4].id, "pairs"),
    ):
        with pytest.raises(NotFoundError, match="it has"):
            wrong()


def test_numbers_in_chunks_count_as_numbers(store: ResultStore, ledger: Ledger) -> None:
    context = open_set(ledger)
    program = ProgramRef("unit_commitment", "highs_uc", "1", "d")
    tasks = [Task(context.trace_id, "uc", TaskInput("v", "d", f"month={k}"), program) for k in (10, 2, 1, 11)]
    ledger.register(tasks)
    for task in tasks:
        month = pa.table({"month": [int(task.input.chunk.removeprefix("month="))]})
        commit_outputs(store, ledger, task, claimed(ledger, task.id), {"plan": month}, context)
    found = ResultReader(store, ledger).table(context.trace_id, "uc", "plan")
    assert found["month"].to_pylist() == [1, 2, 10, 11]


def test_old_unreferenced_chunks_are_collected(store: ResultStore, ledger: Ledger, engine: Engine) -> None:
    index = ScenarioIndex(engine)
    region = TABLES["region"]
    writer = ScenarioWriter(store, index, scenario="base")
    writer.put_table("region", region.build({"id": ["a"], "name": ["n"], "system": ["s"]}))
    version = writer.commit("kept")
    ScenarioWriter(store, index, version).put_table("region", region.empty())
    assert collect_chunks(store, index).deleted == ()
    assert len(collect_chunks(store, index, older_than_s=-60.0).deleted) == 1
    assert ScenarioReader(store, index, version).table("region").num_rows == 1


def test_rows_of_tables_that_no_version_has_are_collected(store: ResultStore, engine: Engine) -> None:
    index, rows, region = ScenarioIndex(engine), OntologyIndex(engine), TABLES["region"]
    table = region.build({"id": ["a"], "name": ["n"], "system": ["s"]})
    writer = ScenarioWriter(store, index, scenario="base")
    writer.put_table("region", table)
    (kept,) = ScenarioReader(store, index, writer.commit("kept")).table_digests().values()
    rows.put("region", kept, table)
    rows.put("region", "of no version", table)
    assert collect_chunks(store, index, dry_run=True).contents == ("of no version",)
    assert collect_chunks(store, index) == Garbage((), (), ("of no version",))
    assert rows.contents() == {kept}
    assert rows.rows("region", kept).num_rows == 1
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(ONTOLOGY["region"])).scalar_one() == 1
    assert collect_chunks(store, index).contents == ()


def test_the_order_of_writes(store: ResultStore, ledger: Ledger) -> None:
    """Files, manifest, transaction: any other order could show half a result."""
    context, (task,) = prepared(ledger)
    seen: list[str] = []

    class Watching:
        def __init__(self, target: Any) -> None:
            self._target = target

        def __getattr__(self, name: str) -> Callable[..., Any]:
            if name in {"put", "put_if_absent", "finish"}:
                seen.append(name)
            value: Callable[..., Any] = getattr(self._target, name)
            return value

    watching_store: Any = Watching(store)
    watching_ledger: Any = Watching(ledger)
    commit(watching_store, watching_ledger, task, claimed(ledger, task.id), context)
    assert seen == ["put", "put", "put_if_absent", "finish"]


def test_what_is_not_known_is_null_and_never_nan() -> None:
    table = pa.table({"hour": [1, 2, 3], "loading": [0.5, float("nan"), None], "class": ["a", "b", "c"]})
    clean = without_nan(table)
    assert clean["loading"].to_pylist() == [0.5, None, None]
    assert clean.schema == table.schema
    assert without_nan(clean) is clean
