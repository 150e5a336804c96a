"""Hourly results: what is written is read back, whatever order chunks and elements come in."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bos_core.access.commit import without_nan
from bos_core.access.digest import table_digest
from bos_core.access.hourly import hourly_rows, hourly_table, hourly_values
from bos_core.access.store import encode

SERIES = "unit.p_mw"
VALUES = np.arange(12.0).reshape(4, 3)
IDS = np.array(["c", "a", "b"])


def test_a_row_is_an_hour_and_an_element_with_its_unit() -> None:
    table = hourly_table(SERIES, 7, IDS, VALUES)
    assert table.slice(0, 4).select(["hour", "element", "value"]).to_pylist() == [
        {"hour": 7, "element": "c", "value": 0.0},
        {"hour": 7, "element": "a", "value": 1.0},
        {"hour": 7, "element": "b", "value": 2.0},
        {"hour": 8, "element": "c", "value": 3.0},
    ]
    assert table.schema.field("value").metadata[b"unit"] == b"MW"


@pytest.mark.parametrize(
    ("series", "values"),
    [
        (SERIES, np.where(VALUES == 5.0, np.nan, VALUES)),
        ("unit.on", VALUES > 4),
        ("branch.tap", VALUES.astype(np.int64)),
        ("hvdc.p_mw", np.zeros((4, 0))),
    ],
)
def test_a_file_gives_back_what_was_written(series: str, values: np.ndarray) -> None:
    ids = IDS[: values.shape[1]]
    table = without_nan(hourly_table(series, 7, ids, values))
    stored = pq.read_table(io.BytesIO(encode(table)))
    assert table_digest(stored) == table_digest(table)
    first, names, read = hourly_values(stored)
    assert (first, names.tolist(), read.dtype) == (7, ids.tolist(), values.dtype)
    np.testing.assert_array_equal(read, values)


def test_chunks_may_come_in_any_order_and_with_elements_in_any_order() -> None:
    turned = [2, 0, 1]
    parts = [hourly_table(SERIES, 9, IDS[turned], VALUES[2:, turned]), hourly_table(SERIES, 7, IDS, VALUES[:2])]
    first, names, read = hourly_values(pa.concat_tables(parts))
    assert first == 7
    np.testing.assert_array_equal(read[:, np.argsort(names)], VALUES[:, np.argsort(IDS)])


def test_hours_may_have_gaps_where_they_are_named() -> None:
    table = hourly_table(SERIES, np.array([3, 5, 6, 9]), IDS, VALUES)
    hours, names, read = hourly_rows(table)
    assert (hours.tolist(), names.tolist()) == ([3, 5, 6, 9], IDS.tolist())
    np.testing.assert_array_equal(read, VALUES)
    with pytest.raises(ValueError, match="not consecutive"):
        hourly_values(table)


@pytest.mark.parametrize("again", [slice(0, 4), slice(0, 1)], ids=["all hours", "one hour"])
def test_an_hour_twice_is_refused(again: slice) -> None:
    table = hourly_table(SERIES, 0, IDS, VALUES)
    repeated = pa.concat_tables([table, hourly_table(SERIES, 0, IDS, VALUES[again])])
    with pytest.raises(ValueError, match=r"twice|differ"):
        hourly_values(repeated)


@pytest.mark.parametrize("ids", [["c", "a"], ["c", "a", "d"]], ids=["fewer", "others"])
def test_hours_with_other_elements_are_refused(ids: list[str]) -> None:
    other = hourly_table(SERIES, 4, ids, VALUES[:1, : len(ids)])
    with pytest.raises(ValueError, match="differ"):
        hourly_rows(pa.concat_tables([hourly_table(SERIES, 0, IDS, VALUES), other]))


def test_the_order_of_a_dictionary_is_no_content() -> None:
    table = hourly_table(SERIES, 0, IDS, VALUES)
    element = pa.array(table["element"].to_pylist()).dictionary_encode()
    backwards = pa.DictionaryArray.from_arrays(
        pa.array([2 - i for i in element.indices.to_pylist()], pa.int32()), element.dictionary[::-1]
    )
    other = table.set_column(1, table.schema.field("element"), backwards)
    assert other["element"].to_pylist() == table["element"].to_pylist()
    assert table_digest(other) == table_digest(table)
    assert table_digest(hourly_table(SERIES, 0, IDS[::-1], VALUES)) != table_digest(table)
