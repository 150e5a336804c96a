"""Content digests: equal for equal content, different for every difference that matters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bos_core.access.digest import table_digest

_ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats()),
        st.one_of(st.none(), st.text(max_size=3)),
        st.one_of(st.none(), st.booleans()),
        st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    ),
    max_size=12,
)
_SCHEMA = pa.schema([("x", pa.float64()), ("s", pa.string()), ("b", pa.bool_()), ("i", pa.int64())])


def build(rows: list[Any]) -> pa.Table:
    columns = [list(c) for c in zip(*rows, strict=True)] if rows else [[], [], [], []]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
    )


@settings(max_examples=50, deadline=None)
@given(_ROWS, st.integers(0, 12))
def test_chunks_and_offsets_do_not_count(rows: list[Any], cut: int) -> None:
    table = build(rows)
    padded = build([*rows[:1], *rows, *rows[:1]])
    shifted = padded.slice(min(len(rows), 1), len(rows))
    assert table_digest(pa.concat_tables([table.slice(0, cut), table.slice(cut)])) == table_digest(table)
    assert table_digest(shifted) == table_digest(table)


def _equal(a: pa.Table, b: pa.Table) -> bool:
    def bits(table: pa.Table) -> list[Any]:
        return [[repr(v) for v in column.to_pylist()] for column in table.columns]

    return a.num_rows == b.num_rows and bits(a) == bits(b)


@settings(max_examples=60, deadline=None)
@given(_ROWS, _ROWS)
def test_equal_digests_mean_equal_content(one: list[Any], two: list[Any]) -> None:
    a, b = build(one), build(two)
    assert (table_digest(a) == table_digest(b)) == _equal(a, b)


def test_bytes_under_nulls_and_nan_payloads_do_not_count() -> None:
    payload = np.array([0x7FF8000000000001, 0x7FF8000000000000], np.uint64).view(np.float64)
    assert table_digest(pa.table({"x": payload[:1]})) == table_digest(pa.table({"x": payload[1:]}))
    garbage = pa.array([1.0, 7.0], mask=np.array([False, True]))
    assert table_digest(pa.table({"x": garbage})) == table_digest(pa.table({"x": pa.array([1.0, None])}))
    texts = pc.if_else(pa.array([True, None]), pa.array(["a", "zzz"]), pa.array(["b", "c"]))
    assert table_digest(pa.table({"x": texts})) == table_digest(pa.table({"x": pa.array(["a", None])}))


def test_names_types_units_and_meaningful_metadata_count() -> None:
    base = pa.table({"x": pa.array([1, 2])})
    unit = pa.schema([pa.field("x", pa.int64(), metadata={"unit": "MW"})])
    variants = [
        base.rename_columns(["y"]),
        base.cast(pa.schema([("x", pa.int32())])),
        base.cast(unit),
        base.replace_schema_metadata({"first_hour": "24"}),
        base.slice(0, 1),
        base.slice(0, 0),
    ]
    digests = {table_digest(t) for t in [base, *variants]}
    assert len(digests) == len(variants) + 1
    assert table_digest(base.replace_schema_metadata({"bos.attempt": "2"})) == table_digest(base)


def test_lists_and_dictionaries() -> None:
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6.0)), 3)
    table = pa.table({"v": values})
    assert table_digest(pa.concat_tables([table.slice(0, 1), table.slice(1)])) == table_digest(table)
    assert table_digest(pa.table({"v": values.slice(1)})) != table_digest(pa.table({"v": values.slice(0, 1)}))
    words = pa.array(["a", "b", "a"]).dictionary_encode()
    other = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1], words.indices.type), pa.array(["b", "a"]))
    assert table_digest(pa.table({"w": words})) == table_digest(pa.table({"w": other}))
    with pytest.raises(TypeError, match="canonical"):
        table_digest(pa.table({"m": pa.array([{"a": 1}])}))
