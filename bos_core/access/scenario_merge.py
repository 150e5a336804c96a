"""Three-way merge of two versions with their nearest common ancestor.

What one side changed and the other did not is taken from that side: rows and columns of tables, values of series.
Where both changed the same thing differently there is a conflict. All conflicts are found before anything is
written.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa

from bos_core.access.ontology_names import OntologyNames
from bos_core.access.scenario_data import ScenarioReader, ScenarioWriter
from bos_core.access.scenario_diff import Key, changed_columns, keyed_rows, same
from bos_core.access.scenario_edit import TableCheck
from bos_core.access.series_chunks import differs
from bos_core.grid.model import BoolArray, IntArray
from bos_core.objects.errors import Finding, InputError, raise_if_any
from bos_core.objects.ontology import months_between

_REMEDY = "settle with --ours or --theirs, or make one side like the other"
Row = Mapping[str, Any]


class Settle(StrEnum):
    """Whose values count where both sides changed the same thing."""

    OURS = "ours"
    THEIRS = "theirs"


class MergeConflictError(InputError):
    """Both sides changed the same things differently; a finding an element and column."""

    def __str__(self) -> str:
        count = len(self.findings)
        head = f"{count} conflict{'s' if count != 1 else ''}; nothing was merged"
        return "\n".join([head, *(f"  - {finding}" for finding in self.findings)])


class Merge:
    """A merge of two versions into a writer.

    Parameters
    ----------
    ancestor, ours, theirs : ScenarioReader
    settle : Settle, optional
        How to settle conflicts; without it they are findings.
    """

    def __init__(
        self, ancestor: ScenarioReader, ours: ScenarioReader, theirs: ScenarioReader, settle: Settle | None = None
    ) -> None:
        self._ancestor, self._ours, self._theirs, self._settle = ancestor, ours, theirs, settle
        self._sides = (ancestor, ours, theirs)
        self._names = OntologyNames(ours, theirs, ancestor)
        self.conflicts: list[Finding] = []

    def write(self, writer: ScenarioWriter, check: TableCheck) -> None:
        """Write what theirs adds to ours; `conflicts` lists what was settled.

        Parameters
        ----------
        writer : ScenarioWriter
            Started from ours.
        check : callable
            Finds what is wrong with the merged tables as a whole.

        Raises
        ------
        MergeConflictError
            With every conflict, unless it is said how to settle them.
        InputError
            If the merged tables do not fit each other, though each side's do.
        """
        tables = {name: self._table(name) for name in sorted({n for side in self._sides for n in side.tables()})}
        changed = {name: table for name, table in tables.items() if table is not None}
        series = sorted({name for side in self._sides for name in side.series_names()})
        for name in series:
            self._find_conflicts(name)
        if self._settle is None:
            raise_if_any(self.conflicts, MergeConflictError)
        if changed:
            self._check(changed, check)
        for name, table in changed.items():
            if table.num_rows:
                writer.put_table(name, table)
            else:
                writer.drop_table(name)
        for name in series:
            self._write_series(name, writer)

    def _check(self, changed: Mapping[str, pa.Table], check: TableCheck) -> None:
        """Refuse tables that are wrong in a way that neither side's are."""
        ours, theirs = ({n: side.table(n) for n in side.ontology} for side in (self._ours, self._theirs))
        merged = ours | dict(changed)
        new_to_theirs = set(check(theirs, merged))
        raise_if_any([finding for finding in check(ours, merged) if finding in new_to_theirs])

    def _conflict(
        self, component: str, ids: tuple[str, ...], values: tuple[str, str, str], field: str = ""
    ) -> bool:
        """Note a conflict; return whether theirs counts."""
        said = (
            f"{side.version.label} has {value}"
            for side, value in zip((self._ours, self._theirs, self._ancestor), values, strict=True)
        )
        self.conflicts.append(Finding(component, ids, ", ".join(said), _REMEDY, field))
        return self._settle is Settle.THEIRS

    # --- tables

    def _table(self, name: str) -> pa.Table | None:
        """Return the merged table, None where it is ours."""
        old, ours, theirs = (side.table_digest(name) for side in self._sides)
        if theirs in (old, ours):
            return None
        if ours == old:
            return self._theirs.table(name)
        schema = self._ours.ontology[name]
        before, mine, other = (keyed_rows(schema, side.table(name)) for side in self._sides)
        keys = [*mine, *(key for key in other if key not in mine)]
        merged = [self._row(name, key, before.get(key), mine.get(key), other.get(key)) for key in keys]
        return pa.Table.from_pylist([row for row in merged if row is not None], schema=schema.arrow)

    def _row(self, name: str, key: Key, old: Row | None, ours: Row | None, theirs: Row | None) -> Row | None:
        """Return the merged row of a key, None where there is none."""
        if _equal(ours, theirs) or _equal(theirs, old):
            return ours
        if _equal(ours, old):
            return theirs
        label = (self._names.label(key),)
        if ours is None or theirs is None:
            values = (_changes(old, ours), _changes(old, theirs), "the row")
            return theirs if self._conflict(name, label, values) else ours
        return {column: self._cell(name, label, column, old, ours, theirs) for column in ours}

    def _cell(
        self, name: str, label: tuple[str, ...], column: str, old: Row | None, ours: Row, theirs: Row
    ) -> object:
        mine, other = ours[column], theirs[column]
        if same(mine, other) or (old is not None and same(other, old[column])):
            return mine
        if old is not None and same(mine, old[column]):
            return other
        before = "no such row" if old is None else shown(old[column])
        return other if self._conflict(name, label, (shown(mine), shown(other), before), column) else mine

    # --- series

    def _find_conflicts(self, name: str) -> None:
        """Note the conflicts of a series, one an element."""
        how = self._how(name)
        if how is _How.CONFLICT:
            covers = {side: _coverage(side, name) for side in self._sides}
            values = (covers[self._ours], covers[self._theirs], covers[self._ancestor])
            self._conflict("series", (name,), values)
        if how is not _How.MONTHS:
            return
        hours: list[IntArray] = []
        elements: list[IntArray] = []
        found: list[np.ndarray] = []
        for month, part in self._months(name).items():
            if not self._both_changed(name, month):
                continue
            old, ours, theirs = self._values(name, part)
            hour, element = np.nonzero(_in_conflict(old, ours, theirs))
            at = (hour, element)
            before = np.full(hour.size, np.nan) if old is None else old[at]
            hours.append(hour + part.start)
            elements.append(element)
            found.append(np.array([ours[at], theirs[at], before], dtype=np.float64))
        if hours:
            self._note(name, np.concatenate(hours), np.concatenate(elements), np.concatenate(found, axis=1))

    def _note(self, name: str, hour: IntArray, element: IntArray, values: np.ndarray) -> None:
        ids = self._ours.elements(name)
        for place in np.unique(element).tolist():
            mine = element == place
            said = [_extent(row) for row in values[:, mine]]
            label = f"{self._names.name(str(ids[place]))} in hours {ranges(hour[mine])}"
            self._conflict(name, (label,), (said[0], said[1], said[2]))

    def _how(self, name: str) -> _How:
        """Say how a series is merged."""
        prints = [side.stored.fingerprints(name) if side.has_series(name) else None for side in self._sides]
        old, ours, theirs = prints
        if theirs in (old, ours):
            return _How.OURS
        if ours == old:
            return _How.THEIRS
        shapes = [
            (side.hours(name), side.elements(name).tolist()) if side.has_series(name) else None
            for side in self._sides
        ]
        fits = shapes[1] == shapes[2] is not None and shapes[0] in (None, shapes[1])
        return _How.MONTHS if fits else _How.CONFLICT

    def _write_series(self, name: str, writer: ScenarioWriter) -> None:
        how = self._how(name)
        if how is _How.THEIRS or (how is _How.CONFLICT and self._settle is Settle.THEIRS):
            writer.stored.take(name, self._theirs.stored)
        if how is not _How.MONTHS:
            return
        ids = self._ours.elements(name)
        for part in self._months(name).values():
            old, ours, theirs = self._values(name, part)
            change = differs(ours, theirs)
            if old is not None:
                change &= differs(theirs, old)
            if self._settle is not Settle.THEIRS:
                change &= ~_in_conflict(old, ours, theirs)
            writer.edit_series(name, part, ids, np.where(change, theirs, ours))

    def _months(self, name: str) -> dict[int, slice]:
        """Return the months that theirs has changed, and not to what ours is."""
        hours = self._ours.hours(name)
        old, ours, theirs = self._fingerprints(name)
        return {
            month: part
            for month, part in months_between(hours.start, hours.stop).items()
            if theirs[month] not in (old.get(month), ours[month])
        }

    def _both_changed(self, name: str, month: int) -> bool:
        old, ours, _ = self._fingerprints(name)
        return ours[month] != old.get(month)

    def _fingerprints(self, name: str) -> list[dict[int, tuple[str, ...]]]:
        return [side.stored.fingerprints(name) if side.has_series(name) else {} for side in self._sides]

    def _values(self, name: str, hours: slice) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        old = self._ancestor.series(name, hours).values if self._ancestor.has_series(name) else None
        return old, self._ours.series(name, hours).values, self._theirs.series(name, hours).values


class _How(StrEnum):
    """How a series is merged: as one side has it, month by month, or not at all without being told."""

    OURS = "ours"
    THEIRS = "theirs"
    MONTHS = "months"
    CONFLICT = "conflict"


def _equal(one: Row | None, other: Row | None) -> bool:
    if one is None or other is None:
        return one is other
    return not changed_columns(one, other)


def _changes(old: Row | None, new: Row | None) -> str:
    """Say what became of a row."""
    if new is None:
        return "no such row any more"
    return ", ".join(f"{column} {shown(new[column])}" for column in changed_columns(old or {}, new)) or "a new row"


def shown(value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return "null"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _in_conflict(old: np.ndarray | None, ours: np.ndarray, theirs: np.ndarray) -> BoolArray:
    """Return where both sides changed a value differently."""
    conflict = differs(ours, theirs)
    return conflict if old is None else conflict & differs(ours, old) & differs(theirs, old)


def _coverage(side: ScenarioReader, name: str) -> str:
    if not side.has_series(name):
        return "no such series"
    hours = side.hours(name)
    return f"hours {hours.start} to {hours.stop - 1} of {side.elements(name).size} elements"


def _extent(values: np.ndarray) -> str:
    """Return one value, or the least and largest of several."""
    if np.isnan(values).all():
        return "no value"
    low, high = shown(float(np.nanmin(values))), shown(float(np.nanmax(values)))
    return low if low == high else f"{low} to {high}"


def ranges(hours: IntArray) -> str:
    """Return sorted hours as text: ``0-23, 48``."""
    breaks = np.flatnonzero(np.diff(hours) > 1) + 1
    parts = [(int(run[0]), int(run[-1])) for run in np.split(hours, breaks) if run.size]
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
