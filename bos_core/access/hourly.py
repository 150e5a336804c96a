"""Hourly quantities as results: a row an hour and element."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bos_core.grid.model import IntArray, StrArray
from bos_core.objects.ontology import SERIES

HOUR = pa.field("hour", pa.int64(), nullable=False, metadata={"unit": "h", "doc": "hour of the year, 0 to 8759"})
ELEMENT = pa.field("element", pa.dictionary(pa.int32(), pa.string()), metadata={"doc": "UUID of the element"})


def hourly_table(
    series: str, hours: int | IntArray, ids: StrArray | Sequence[str], values: np.ndarray
) -> pa.Table:
    """Make the table of a series: hour, element and value, hour by hour with all elements in the same order.

    Where there are no elements, an hour has one row without element and value.

    Parameters
    ----------
    series : str
        Name in `SERIES`; its unit stands in the metadata of the value.
    hours : int or (hour,) int
        Hours of the year, or the first of consecutive ones.
    ids : (element,) str
    values : (hour, element)
    """
    schema = SERIES[series]
    value = pa.field("value", schema.type, nullable=True, metadata={"unit": schema.unit, "doc": schema.doc})
    fields = pa.schema([HOUR, ELEMENT, value], metadata={"series": series})
    count, width = values.shape
    rows = np.arange(hours, hours + count) if isinstance(hours, int) else hours
    if not width:
        return pa.Table.from_arrays(
            [pa.array(rows, pa.int64()), pa.nulls(count, ELEMENT.type), pa.nulls(count, schema.type)],
            schema=fields,
        )
    names = pa.array([str(i) for i in ids], pa.string())
    places = np.tile(np.arange(width, dtype=np.int32), count)
    return pa.Table.from_arrays(
        [
            pa.array(np.repeat(rows, width), pa.int64()),
            pa.DictionaryArray.from_arrays(places, names),
            pa.array(values.ravel(), schema.type),
        ],
        schema=fields,
    )


def hourly_rows(table: pa.Table) -> tuple[IntArray, StrArray, np.ndarray]:
    """Return (hours, ids, values (hour, element)) of the table of a series in order of hours, which may have gaps.

    Raises
    ------
    ValueError
        When not every hour has the same elements, once each.
    """
    name = (table.schema.metadata or {})[b"series"].decode()
    kind = SERIES[name].type.to_pandas_dtype()
    table = table.unify_dictionaries().combine_chunks()
    hour = table[HOUR.name].to_numpy()
    if (np.diff(hour) < 0).any():
        table = table.take(np.argsort(hour, kind="stable"))
        hour = table[HOUR.name].to_numpy()
    hours, count = np.unique(hour, return_counts=True)
    element = table[ELEMENT.name].combine_chunks()
    if not hours.size or element.null_count == len(element):
        return hours, np.zeros(0, np.str_), np.zeros((hours.size, 0), kind)
    if element.null_count or (count != count[0]).any():
        raise ValueError(f"{name}: hours differ in their elements")
    place = element.indices.to_numpy().reshape(hours.size, -1)
    values = table["value"].to_numpy().astype(kind, copy=False).reshape(place.shape)
    if (place != place[0]).any():
        order = np.argsort(place, axis=1, kind="stable")
        place, values = np.take_along_axis(place, order, 1), np.take_along_axis(values, order, 1)
    if (place != place[0]).any() or np.unique(place[0]).size != place.shape[1]:
        raise ValueError(f"{name}: hours differ in their elements, or an element is there twice")
    return hours, np.array(element.dictionary.take(pa.array(place[0])).to_pylist(), dtype=np.str_), values


def hourly_values(table: pa.Table) -> tuple[int, StrArray, np.ndarray]:
    """Return (first hour, ids, values (hour, element)) of the table of a series; hours must be without a gap.

    Raises
    ------
    ValueError
        When an hour is missing or repeated, or when not every hour has the same elements.
    """
    hours, names, values = hourly_rows(table)
    if hours.size and not np.array_equal(hours, np.arange(hours[0], hours[0] + hours.size)):
        raise ValueError(f"hours {hours[:3]}... are not consecutive; commit every chunk of the step first")
    return (int(hours[0]) if hours.size else 0), names, values
