"""Hourly quantities as wide tables: a row an hour, a column an element."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bos_core.grid.model import IntArray, StrArray
from bos_core.objects.ontology import SERIES

HOUR = pa.field("hour", pa.int64(), nullable=False, metadata={"unit": "h", "doc": "hour of the year, 0 to 8759"})


def hourly_table(
    series: str, hours: int | IntArray, ids: StrArray | Sequence[str], values: np.ndarray
) -> pa.Table:
    """Make a wide table of a series; the unit stands in every column's metadata.

    Parameters
    ----------
    series : str
        Name in `SERIES`.
    hours : int or (hour,) int
        Hours of the year of the rows, or the first of consecutive ones.
    ids : (element,) str
    values : (hour, element)
    """
    schema = SERIES[series]
    metadata = {"unit": schema.unit, "doc": schema.doc}
    rows = np.arange(hours, hours + values.shape[0]) if isinstance(hours, int) else hours
    fields = [pa.field(str(i), schema.type, nullable=True, metadata=metadata) for i in ids]
    columns = [pa.array(values[:, k], schema.type) for k in range(values.shape[1])]
    return pa.Table.from_arrays(
        [pa.array(rows, pa.int64()), *columns], schema=pa.schema([HOUR, *fields], metadata={"series": series})
    )


def hourly_rows(table: pa.Table) -> tuple[IntArray, StrArray, np.ndarray]:
    """Return (hours, ids, values (hour, element)) of a wide table in order of hours, which may have gaps."""
    ordered = table.sort_by(HOUR.name)
    names = [name for name in ordered.column_names if name != HOUR.name]
    hours = ordered[HOUR.name].to_numpy()
    kind = SERIES[(table.schema.metadata or {})[b"series"].decode()].type.to_pandas_dtype()
    values = np.empty((hours.size, len(names)), dtype=kind)
    for k, name in enumerate(names):
        values[:, k] = ordered[name].to_numpy(zero_copy_only=False)
    return hours, np.array(names, dtype=np.str_), values


def hourly_values(table: pa.Table) -> tuple[int, StrArray, np.ndarray]:
    """Return (first hour, ids, values (hour, element)) of a wide table; hours must be without a gap.

    Raises
    ------
    ValueError
        When an hour is missing or repeated.
    """
    hours, names, values = hourly_rows(table)
    if hours.size and not np.array_equal(hours, np.arange(hours[0], hours[0] + hours.size)):
        raise ValueError(f"hours {hours[:3]}... are not consecutive; commit every chunk of the step first")
    return (int(hours[0]) if hours.size else 0), names, values
