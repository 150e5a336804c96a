"""What is still violated: one table of (hour, outage, element) rows, worst first, and its groups by element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bos_core.grid.model import FloatArray, IntArray

BASE_CASE = "base case"
"""Name of the outage of a violation that needs none."""

OVERLOAD, UNDERVOLTAGE, OVERVOLTAGE, DIVERGENCE = "overload", "undervoltage", "overvoltage", "diverged"

_NAME = pa.dictionary(pa.int32(), pa.string())


def _field(name: str, kind: pa.DataType, unit: str, doc: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "doc": doc})


SCHEMA = pa.schema(
    [
        _field("hour", pa.int64(), "h", "hour of the year, or of the report"),
        _field("outage", _NAME, "", f"contingency, or {BASE_CASE!r}"),
        _field("element", _NAME, "", "branch above its limit, bus outside its limits, '' when diverged"),
        _field("kind", _NAME, "", f"{OVERLOAD}, {UNDERVOLTAGE}, {OVERVOLTAGE} or {DIVERGENCE}"),
        _field("value", pa.float64(), "1 or p.u.", "loading (1 = 100 %) or voltage"),
        _field("limit", pa.float64(), "1 or p.u.", "limit after an outage, or of the base case"),
        _field("relaxation", pa.float64(), "1 or p.u.", "least relaxation of the limit"),
        _field("shed_mw", pa.float64(), "MW", "load whose shedding would remove it by itself; NaN = not known"),
    ]
)

_VOLTAGE_WEIGHT = 10.0
"""A voltage 1 % outside its limits is as severe as an overload of 10 %."""


@dataclass(frozen=True)
class Group:
    """The violations of one kind at one element.

    Attributes
    ----------
    element, kind : str
    rows : int
        (hour, outage) pairs.
    hours, outages : int
        Distinct ones; the base case is no outage.
    value, limit, worst_outage, worst_hour
        Of the most severe row.
    relaxation : float
        The relaxation of the limit that covers every row of the group.
    shed_mw : float
        The most load that a row of the group asks for; NaN when that of any row is not known.
    """

    element: str
    kind: str
    rows: int
    hours: int
    outages: int
    value: float
    limit: float
    worst_outage: str
    worst_hour: int
    relaxation: float
    shed_mw: float


def table(parts: list[Mapping[str, object]]) -> pa.Table:
    """Join columns by name into one table, worst first; a part without a column holds NaN there."""
    pieces = []
    for part in parts:
        count = len(part["hour"])  # type: ignore[arg-type]
        empty = np.full(count, np.nan)
        columns = []
        for field in SCHEMA:
            values = part.get(field.name, empty)
            columns.append(values if isinstance(values, pa.Array) else pa.array(values, field.type))
        pieces.append(pa.Table.from_arrays(columns, schema=SCHEMA))
    joined = pa.concat_tables(pieces).unify_dictionaries().combine_chunks() if pieces else SCHEMA.empty_table()
    order = np.lexsort((_codes(joined, "outage"), joined["hour"].to_numpy(), -severity(joined)))
    return joined.take(order)


def names(known: np.ndarray, places: IntArray) -> pa.Array:
    """Return ``known[places]`` as a column of names."""
    distinct, place = np.unique(known, return_inverse=True)
    return pa.DictionaryArray.from_arrays(
        pa.array(place.ravel()[places], pa.int32()), pa.array(distinct.tolist(), pa.string())
    )


def repeated(name: str, count: int) -> pa.Array:
    """Return a column that holds one name."""
    return names(np.array([name]), np.zeros(count, np.int64))


def severity(rows: pa.Table) -> FloatArray:
    """Return how severe each row is, (row,): excess over the limit; voltages weigh ten times; inf = diverged."""
    kind = _codes(rows, "kind")
    weight = np.array([1.0 if k == OVERLOAD else _VOLTAGE_WEIGHT for k in _dictionary(rows, "kind")] or [1.0])
    excess = np.abs(rows["value"].to_numpy() - rows["limit"].to_numpy()) * (weight[kind] if kind.size else 1.0)
    return np.where(np.isnan(excess), np.inf, excess)


def by_element(rows: pa.Table) -> tuple[Group, ...]:
    """Return the groups of a table that is sorted worst first, most severe group first."""
    if not rows.num_rows:
        return ()
    element, kind, outage = (_codes(rows, name) for name in ("element", "kind", "outage"))
    hour = rows["hour"].to_numpy()
    outages = _dictionary(rows, "outage")
    key = element.astype(np.int64) * 8 + kind
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    count = first.size
    at_outage = np.array([name != BASE_CASE for name in outages])[outage]
    relaxation = np.full(count, -np.inf)
    np.fmax.at(relaxation, group, rows["relaxation"].to_numpy())
    shed, unknown = np.zeros(count), np.zeros(count, bool)
    np.fmax.at(shed, group, rows["shed_mw"].to_numpy())
    np.logical_or.at(unknown, group, np.isnan(rows["shed_mw"].to_numpy()))
    hours, distinct = _distinct(group, hour, count), _distinct(group[at_outage], outage[at_outage], count)
    total = np.bincount(group, minlength=count)
    elements, kinds = _dictionary(rows, "element"), _dictionary(rows, "kind")
    value, limit = rows["value"].to_numpy(), rows["limit"].to_numpy()
    return tuple(
        Group(
            element=elements[element[first[g]]],
            kind=kinds[kind[first[g]]],
            rows=int(total[g]),
            hours=int(hours[g]),
            outages=int(distinct[g]),
            value=float(value[first[g]]),
            limit=float(limit[first[g]]),
            worst_outage=outages[outage[first[g]]],
            worst_hour=int(hour[first[g]]),
            relaxation=float(relaxation[g]) if np.isfinite(relaxation[g]) else float("nan"),
            shed_mw=float("nan") if unknown[g] else float(shed[g]),
        )
        for g in np.argsort(first, kind="stable")
    )


def _distinct(group: IntArray, values: IntArray, count: int) -> IntArray:
    """Count the distinct values of each group."""
    width = int(values.max(initial=0)) + 1
    pairs = np.unique(group * width + values)
    return np.bincount(pairs // width, minlength=count)


def _codes(rows: pa.Table, name: str) -> IntArray:
    column = rows[name].combine_chunks()
    return np.asarray(column.indices.to_numpy(zero_copy_only=False), np.int64)


def _dictionary(rows: pa.Table, name: str) -> list[str]:
    return [str(value) for value in rows[name].combine_chunks().dictionary.to_pylist()]
