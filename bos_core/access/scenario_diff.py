"""What differs between two versions: rows and columns of tables; elements, hours and values of series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from bos_core.access.ontology_names import OntologyNames
from bos_core.access.scenario_data import ScenarioReader
from bos_core.access.series_chunks import differs
from bos_core.grid.model import FloatArray, IntArray
from bos_core.index.scenarios import VersionRecord
from bos_core.objects.ontology import SERIES, TableSchema, months_between

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """A value of a table that differs: row (what to call it), column, and both values."""

    row: str
    column: str
    before: Any
    after: Any


@dataclass(frozen=True)
class TableDifference:
    """Rows of a table that only one version has, and values that differ in those that both have."""

    table: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def rows(self) -> int:
        """How many rows both versions have that differ."""
        return len({cell.row for cell in self.cells})


@dataclass(frozen=True, eq=False)
class SeriesDifference:
    """Where a series differs.

    Attributes
    ----------
    series : str
    unit : str
    hours_before, hours_after : slice or None
        Hours covered; None in a version without the series.
    added, removed : tuple of str
        Elements that only one version has, by name.
    ids, names : sequence of str
        Elements with values that differ, those with the largest sum of differences first.
    count : (element,) int
        Hours that differ.
    total : (element,) float
        Sum of differences, after less before; NaN counts as 0, False and True as 0 and 1.
    hour, before, after : (element,)
        The hour of the largest difference, and both values there.
    first_hour, last_hour : int
        First and last hour with a difference; 0 and -1 where there is none.
    """

    series: str
    unit: str
    hours_before: slice | None
    hours_after: slice | None
    added: tuple[str, ...]
    removed: tuple[str, ...]
    ids: Sequence[str]
    names: Sequence[str]
    count: IntArray
    total: FloatArray
    hour: IntArray
    before: FloatArray
    after: FloatArray
    first_hour: int
    last_hour: int

    @property
    def values(self) -> int:
        """How many values differ."""
        return int(self.count.sum())


@dataclass(frozen=True)
class Difference:
    """What differs between two versions; tables and series that are equal are not listed."""

    before: VersionRecord
    after: VersionRecord
    tables: tuple[TableDifference, ...]
    series: tuple[SeriesDifference, ...]

    @property
    def is_none(self) -> bool:
        """Whether both versions have the same content."""
        return not self.tables and not self.series


def difference(before: ScenarioReader, after: ScenarioReader) -> Difference:
    """Compare two versions. Chunks that they share are not read."""
    names = OntologyNames(after, before)
    tables = (_table_difference(name, before, after, names) for name in _either(before.tables(), after.tables()))
    series = (
        _series_difference(name, before, after, names)
        for name in _either(before.series_names(), after.series_names())
    )
    return Difference(
        before.version,
        after.version,
        tuple(found for found in tables if found is not None),
        tuple(one for one in series if one is not None),
    )


def _either(one: Sequence[str], other: Sequence[str]) -> list[str]:
    return sorted({*one, *other})


# --- tables


def keyed_rows(schema: TableSchema, table: pa.Table) -> dict[Key, dict[str, Any]]:
    """Return the rows of a table of the ontology by their key."""
    key = schema.key
    return {tuple(row[part] for part in key): row for row in table.to_pylist()}


def same(one: Any, other: Any) -> bool:
    """Say whether two values of a table are equal; NaN equals NaN."""
    return bool(one == other) or (
        isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    )


def changed_columns(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the columns in which two rows differ."""
    if before == after:
        return []
    return [column for column in before if not same(before[column], after[column])]


def _table_difference(
    name: str, before: ScenarioReader, after: ScenarioReader, names: OntologyNames
) -> TableDifference | None:
    if before.table_digest(name) == after.table_digest(name):
        return None
    old, new = before.table(name), after.table(name)
    if old.equals(new):
        return None
    schema = after.ontology[name]
    rows_before, rows_after = keyed_rows(schema, old), keyed_rows(schema, new)
    cells = [
        Cell(names.label(key), column, row[column], rows_after[key][column])
        for key, row in rows_before.items()
        if key in rows_after
        for column in changed_columns(row, rows_after[key])
    ]
    return TableDifference(
        name,
        tuple(names.label(key) for key in rows_after if key not in rows_before),
        tuple(names.label(key) for key in rows_before if key not in rows_after),
        tuple(cells),
    )


# --- series


def _series_difference(
    name: str, before: ScenarioReader, after: ScenarioReader, names: OntologyNames
) -> SeriesDifference | None:
    hours = [r.hours(name) if r.has_series(name) else None for r in (before, after)]
    ids = [r.elements(name).tolist() if r.has_series(name) else [] for r in (before, after)]
    if None not in hours and before.stored.fingerprints(name) == after.stored.fingerprints(name):
        return None
    both = [element for element in ids[0] if element in set(ids[1])]
    found = _compare(name, before, after, both, _overlap(hours))
    gone, come = set(ids[0]) - set(both), set(ids[1]) - set(both)
    if not found.count.any() and not gone and not come and hours[0] == hours[1]:
        return None
    order = [k for k in np.argsort(-found.weight, kind="stable") if found.count[k]]
    at = np.flatnonzero(found.of_hour)
    return SeriesDifference(
        series=name,
        unit=SERIES[name].unit,
        hours_before=hours[0],
        hours_after=hours[1],
        added=tuple(names.name(i) for i in ids[1] if i in come),
        removed=tuple(names.name(i) for i in ids[0] if i in gone),
        ids=[both[k] for k in order],
        names=[names.name(both[k]) for k in order],
        count=found.count[order],
        total=found.total[order],
        hour=found.hour[order],
        before=found.before[order],
        after=found.after[order],
        first_hour=int(at[0]) if at.size else 0,
        last_hour=int(at[-1]) if at.size else -1,
    )


def _overlap(hours: Sequence[slice | None]) -> slice:
    one, other = hours
    if one is None or other is None:
        return slice(0, 0)
    start = max(one.start, other.start)
    return slice(start, max(start, min(one.stop, other.stop)))


class _Comparison:
    """Differences of some elements, gathered month by month; axes as in `SeriesDifference`."""

    def __init__(self, elements: int, stop: int) -> None:
        self.count = np.zeros(elements, np.int64)
        self.total = np.zeros(elements)
        self.weight = np.zeros(elements)
        self.largest = np.full(elements, -1.0)
        self.hour = np.zeros(elements, np.int64)
        self.before, self.after = np.full(elements, np.nan), np.full(elements, np.nan)
        self.of_hour = np.zeros(stop, np.int64)

    def add(self, first: int, old: np.ndarray, new: np.ndarray) -> None:
        """Add a block (hour, element)."""
        changed = differs(old, new)
        self.count += changed.sum(axis=0)
        self.of_hour[first : first + old.shape[0]] = changed.sum(axis=1)
        old, new = old.astype(np.float64), new.astype(np.float64)
        delta = np.where(changed, np.nan_to_num(new) - np.nan_to_num(old), 0.0)
        self.total += delta.sum(axis=0)
        self.weight += np.abs(delta).sum(axis=0)
        size = np.where(changed, np.abs(delta), -1.0)
        row = size.argmax(axis=0)
        place = np.flatnonzero(size.max(axis=0) > self.largest)
        row = row[place]
        self.largest[place], self.hour[place] = size[row, place], first + row
        self.before[place], self.after[place] = old[row, place], new[row, place]


def _compare(
    name: str, before: ScenarioReader, after: ScenarioReader, ids: Sequence[str], hours: slice
) -> _Comparison:
    """Compare the months whose chunks differ."""
    found = _Comparison(len(ids), hours.stop)
    if hours.start == hours.stop:
        return found
    old, new = before.stored.fingerprints(name), after.stored.fingerprints(name)
    for month, part in months_between(hours.start, hours.stop).items():
        if old[month] != new[month]:
            found.add(part.start, before.aligned(name, ids, part), after.aligned(name, ids, part))
    return found
