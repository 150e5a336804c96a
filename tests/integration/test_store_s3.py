"""The store and the commit on a real S3 server (versitygw) and PostgreSQL, and what only a server can do wrong."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
from commit_suite import *  # noqa: F403
from commit_suite import commit, prepared, tables
from ledger_suite import claimed, let_lease_run_out
from sqlalchemy.engine import Engine
from store_suite import *  # noqa: F403

from bos_core.access.commit import collect_garbage
from bos_core.access.results import ResultReader
from bos_core.access.store import ResultStore
from bos_core.access.workspace import Workspace, check_workspace
from bos_core.index.ledger import AlreadyDone, Ledger
from bos_core.objects.errors import FencedError, StorageError
from bos_core.objects.settings import Settings, StoreOptions


def test_the_server_honours_conditional_puts(store: ResultStore) -> None:
    assert store.conditional_put
    assert ResultStore(store.url, store.options).conditional_put  # the object of the first question is there now


@pytest.mark.parametrize("user", ["worker", "task"])
def test_workers_and_tasks_commit_and_delete_nothing(
    user: str, s3_url: str, s3_options: StoreOptions, store: ResultStore, ledger: Ledger
) -> None:
    options = {"worker": s3_options.of_worker(), "task": s3_options.of_task()}[user]
    assert options.key == {"worker": s3_options.worker_key, "task": s3_options.task_key}[user]
    own, beside = ResultStore(s3_url, options), ResultStore(s3_url.rpartition("/")[0], options)
    own.check()
    assert own.conditional_put
    context, (task,) = prepared(ledger)
    commit(own, ledger, task, claimed(ledger, task.id), context)
    assert ResultReader(own, ledger).table(context.trace_id, task.step, "pairs").equals(tables(task)["pairs"])
    chunk = store.chunk_address(store.put_chunk(tables(task)["pairs"]).digest)
    before = {address: own.get(address) for address in (chunk, *(a for a, _ in own.walk("attempts")))}
    for address in before:
        with pytest.raises(StorageError, match="access is refused"):
            own.delete([address])
    for place, address in ((own, "elsewhere/x"), (own, "attempt"), (beside, "x"), (beside, "attempts/x")):
        with pytest.raises(StorageError, match="access is refused"):
            place.put(address, b"1")
    assert {address: store.get(address) for address in before} == before
    assert not store.exists("elsewhere/x")


def test_workers_write_scenarios_and_tasks_do_not(
    s3_url: str, s3_options: StoreOptions, store: ResultStore
) -> None:
    table = pa.table({"x": [1.0, 2.0]})  # noqa: F405
    of_worker, of_task = (ResultStore(s3_url, o) for o in (s3_options.of_worker(), s3_options.of_task()))
    with pytest.raises(StorageError, match="access is refused"):
        of_task.put_chunk(table)
    address = store.chunk_address(of_worker.put_chunk(table).digest)
    with pytest.raises(StorageError, match="access is refused"):
        of_task.put(address, b"forged")
    assert of_task.get_table(address).equals(table)


def test_a_commit_needs_no_conditional_put(store: ResultStore, ledger: Ledger, engine: Engine) -> None:
    """A server that ignores If-None-Match: the attempt's prefix and the index keep two writers apart."""
    store._files._conditional = False  # type: ignore[attr-defined]
    context, (task,) = prepared(ledger)
    slow = claimed(ledger, task.id, "slow")
    let_lease_run_out(engine, task.id)
    quick = claimed(ledger, task.id, "quick")
    commit(store, ledger, task, quick, context)
    with pytest.raises(FencedError):
        commit(store, ledger, task, slow, context)
    assert {output.attempt for output in ledger.task_outputs(task.id)} == {quick}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": "nobody"}, "access key is unknown"),
        ({"secret": "wrong"}, "secret key is wrong"),
        ({"endpoint_url": "http://127.0.0.1:1", "attempts_max": 1}, "cannot be reached"),
    ],
)
def test_an_unusable_server_is_explained(
    s3_url: str, s3_options: StoreOptions, change: dict[str, object], words: str
) -> None:
    options = StoreOptions(**{**s3_options.model_dump(), **change})
    with pytest.raises(StorageError, match=words) as error:
        ResultStore(s3_url, options).put("a", b"1")
    assert s3_options.secret.get_secret_value() not in str(error.value)


def test_a_missing_bucket_is_explained(s3_options: StoreOptions) -> None:
    store = ResultStore(f"s3://no-bucket-{uuid.uuid4().hex[:8]}/x", s3_options)
    for call in (lambda: store.put("a", b"1"), lambda: store.get("a"), lambda: store.put_if_absent("a", b"1")):
        with pytest.raises(StorageError, match="bucket does not exist; create it"):
            call()


def test_a_large_table_is_read_in_parts(store: ResultStore) -> None:
    table = pa.table({f"c{k}": np.random.default_rng(k).random(200_000) for k in range(8)})  # noqa: F405
    store.put_table("big.parquet", table, row_group_rows=20_000)
    assert store.get_table("big.parquet", ["c3"], row_groups=[4])["c3"].equals(table["c3"].slice(80_000, 20_000))
    assert sum(batch.num_rows for batch in store.batches("big.parquet", ["c1"])) == 200_000


@pytest.fixture
def settings(
    tmp_path: Path, engine: Engine, postgresql_url: str, s3_url: str, s3_options: StoreOptions
) -> Settings:
    return Settings.load(
        home=tmp_path, database_url=postgresql_url, store_url=s3_url, store_options=s3_options, user="ada"
    )


def test_a_workspace_on_both_servers(settings: Settings) -> None:
    assert check_workspace(settings) == []
    workspace = Workspace.open(settings)
    writer = workspace.writer(scenario="base")
    values = np.random.default_rng(0).random((8760, 30))
    names = [f"unit-{k}" for k in range(30)]
    writer.put_series("unit.p_mw", names, values)
    reader = workspace.reader(writer.commit("a"))
    np.testing.assert_array_equal(reader.series("unit.p_mw", slice(4000, 4024)).values, values[4000:4024])
    np.testing.assert_array_equal(reader.aligned("unit.p_mw", names[7:8])[:, 0], values[:, 7])
    assert writer.bytes_written > 0
    again = workspace.writer("base")
    again.put_series("unit.p_mw", names, values)
    assert again.bytes_written == 0


_DIE = """
import os, pickle, signal, sys
sys.path[:0] = sys.argv[3:]
at = int(sys.argv[1])
workspace, task, attempt, context = pickle.load(open(sys.argv[2], "rb"))
from commit_suite import Crashing, tables
from bos_core.access.commit import commit_outputs
import commit_suite
counter = [0]
store = Crashing(workspace.store, ("put", "put_if_absent"), counter, at, False)
ledger = Crashing(workspace.ledger, ("finish",), counter, at, False)
try:
    commit_outputs(store, ledger, task, attempt, tables(task), context)
except commit_suite.Crash:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_killed_process_leaves_all_or_nothing(
    settings: Settings, store: ResultStore, ledger: Ledger, engine: Engine, tmp_path: Path, at: int
) -> None:
    import pickle

    context, (task,) = prepared(ledger)
    attempt = claimed(ledger, task.id, "victim")
    job = tmp_path / "job"
    job.write_bytes(pickle.dumps((Workspace.open(settings), task, attempt, context)))
    unit = Path(__file__).parents[1] / "unit"
    command = [sys.executable, "-c", _DIE, str(at), str(job), str(unit / "access"), str(unit / "index")]
    assert subprocess.run(command, check=False, timeout=120).returncode == -9
    if at == 4:
        assert isinstance(ledger.claim(task.id, "other", 60), AlreadyDone)
    else:
        assert ledger.task_outputs(task.id) == []
        let_lease_run_out(engine, task.id)
        commit(store, ledger, task, claimed(ledger, task.id, "other"), context)
    assert ResultReader(store, ledger).table(context.trace_id, task.step, "pairs").equals(tables(task)["pairs"])
    collect_garbage(store, ledger)
    assert {a.split("/")[3] for a, _ in store.walk("attempts")} == {str(ledger.task(task.id).attempt)}
