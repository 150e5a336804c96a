"""What every store must keep; run on a folder here, on a real S3 server in tests/integration. Fixture: `store`."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pyarrow as pa
import pytest

from bos_core.access.digest import table_digest
from bos_core.access.store import ResultStore
from bos_core.objects.errors import NotFoundError, StorageError


def numbers(rows: int = 1000) -> pa.Table:
    unit = {"unit": "MW"}
    schema = pa.schema(
        [pa.field("hour", pa.int64(), metadata={"unit": "h"}), pa.field("p_mw", pa.float64(), metadata=unit)]
    )
    return pa.table([np.arange(rows), np.arange(rows) * 0.5], schema=schema)


def test_what_is_put_can_be_got(store: ResultStore) -> None:
    store.put("a/b.bin", b"one")
    assert store.get("a/b.bin") == b"one"
    store.put("a/b.bin", b"two")
    assert store.get("a/b.bin") == b"two"
    assert store.exists("a/b.bin")
    assert not store.exists("a/c.bin")
    assert not store.exists("a")
    store.put("empty", b"")
    assert store.get("empty") == b""


def test_put_if_absent_never_replaces(store: ResultStore) -> None:
    assert store.put_if_absent("m.json", b"first")
    assert not store.put_if_absent("m.json", b"second")
    assert store.get("m.json") == b"first"


def test_of_many_putters_exactly_one_wins(store: ResultStore) -> None:
    assert store.conditional_put
    won: list[int] = []
    barrier = threading.Barrier(6)

    def work(k: int) -> None:
        barrier.wait()
        if store.put_if_absent("m.json", str(k).encode()):
            won.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get("m.json") == str(won[0]).encode()


def test_walk_and_delete(store: ResultStore) -> None:
    for address in ("a/x/1", "a/x/2", "a/y/1", "b/1"):
        store.put(address, b"1")
    assert [address for address, _ in store.walk("a")] == ["a/x/1", "a/x/2", "a/y/1"]
    assert all(-5 < age_s < 60 for _, age_s in store.walk("a"))
    store.delete(["a/x/1", "a/x/2", "a/never"])
    assert [address for address, _ in store.walk("a")] == ["a/y/1"]
    assert store.walk("nothing") == []
    store.delete([])


def test_absent_objects_are_named(store: ResultStore) -> None:
    for call in (
        lambda: store.get("no/thing"),
        lambda: store.get_table("no/thing.parquet"),
        lambda: store.get_schema("no/thing.parquet"),
        lambda: list(store.batches("no/thing.parquet")),
    ):
        with pytest.raises(NotFoundError, match="no/thing"):
            call()


def test_tables_come_back_with_units(store: ResultStore) -> None:
    table = numbers()
    store.put_table("t.parquet", table, {b"bos.task_id": b"t1"})
    back = store.get_table("t.parquet")
    assert back.equals(table)
    assert back.schema.field("p_mw").metadata == {b"unit": b"MW"}
    assert store.get_schema("t.parquet").metadata[b"bos.task_id"] == b"t1"
    assert store.get_table("t.parquet", ["p_mw"]).column_names == ["p_mw"]
    assert store.get_table("t.parquet", filters=[("hour", ">=", 990)])["hour"].to_pylist() == list(
        range(990, 1000)
    )


def test_row_groups_and_batches(store: ResultStore) -> None:
    store.put_table("t.parquet", numbers(), row_group_rows=100)
    assert store.get_table("t.parquet", row_groups=[3])["hour"].to_pylist() == list(range(300, 400))
    batches = list(store.batches("t.parquet", ["hour"], rows=150))
    assert sum(b.num_rows for b in batches) == 1000
    assert max(b.num_rows for b in batches) <= 150


def test_equal_content_lies_in_one_chunk(store: ResultStore) -> None:
    digest, size, is_new = store.put_chunk(numbers())
    assert is_new
    assert size == len(store.get(store.chunk_address(digest)))
    pieces = pa.concat_tables([numbers().slice(0, 300), numbers().slice(300)])
    assert store.put_chunk(pieces) == (digest, size, False)
    assert digest == table_digest(numbers())
    assert [address for address, _ in store.walk("chunks")] == [store.chunk_address(digest)]
    assert store.put_chunk(numbers(999)).digest != digest


def test_a_damaged_table_is_explained(store: ResultStore) -> None:
    store.put("t.parquet", b"PAR1 this is nothing PAR1")
    with pytest.raises(StorageError, match=r"t\.parquet.*damaged"):
        store.get_table("t.parquet")


def test_a_store_travels_to_another_process(store: ResultStore) -> None:
    store.put("a", b"1")
    assert pickle.loads(pickle.dumps(store)).get("a") == b"1"
