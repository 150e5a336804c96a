"""Scenario versions as data: tables, hourly series and the grid.

A table is one chunk. A series is a chunk a month in two layouts, with single edits laid over it; `series_chunks`
says how. The reader chooses the layout by what is asked and says what it chose in `ScenarioReader.last_plan`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bos_core.access.series_chunks import ReadPlan, Recent, SeriesChunks
from bos_core.access.store import ResultStore
from bos_core.grid.assembly import assemble
from bos_core.grid.model import Grid, Snapshot, StrArray
from bos_core.index.extensions import ADDED
from bos_core.index.scenarios import Chunk, ScenarioIndex, VersionRecord, check_name
from bos_core.objects.columns import numpy_columns
from bos_core.objects.errors import Finding, InputError, NotFoundError, OptionError, raise_if_any
from bos_core.objects.ontology import HOURS_PER_YEAR, SERIES, TableSchema, check_table

GRIDS_KEPT = 4


@dataclass(frozen=True, eq=False)
class Series:
    """An hourly quantity of some elements.

    Attributes
    ----------
    name : str
        Name in `SERIES`.
    ids : (element,) str
    values : (hour, element)
        float64, int64 or bool, as the ontology says.
    first_hour : int
        Hour of the year of the first row.
    """

    name: str
    ids: StrArray
    values: np.ndarray
    first_hour: int = 0

    @property
    def hours(self) -> slice:
        """The hours of the year that the rows stand for."""
        return slice(self.first_hour, self.first_hour + self.values.shape[0])


class ScenarioReader:
    """Reads one immutable version.

    Parameters
    ----------
    store, index
        Where the chunks lie, and which of them make up the version.
    version : str
        Any reference that `ScenarioIndex.get` understands.
    """

    def __init__(self, store: ResultStore, index: ScenarioIndex, version: str) -> None:
        self._store = store
        self.version: VersionRecord = index.get(version)
        self.ontology = index.ontology()
        self._chunks = index.chunks(self.version.id)
        self.stored = SeriesChunks(store, self._chunks)
        self.last_plan: ReadPlan | None = None

    @property
    def id(self) -> str:
        """Id of the version."""
        return self.version.id

    @property
    def digest(self) -> str:
        """Digest of the version's content."""
        return self.version.digest

    @property
    def tables_digest(self) -> str:
        """Digest of the tables alone: equal as long as only series change."""
        lines = (f"{key}\x1f{chunk.digest}" for key, chunk in self._chunks.items() if key.startswith("table/"))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def table_digest(self, name: str) -> str | None:
        """Return the digest of a table, None where the version has none."""
        chunk = self._chunks.get(_table_key(name))
        return None if chunk is None else chunk.digest

    def has(self, name: str) -> bool:
        """Say whether the version holds the table or the series."""
        return _table_key(name) in self._chunks or self.has_series(name)

    def has_series(self, name: str) -> bool:
        """Say whether the version holds the series."""
        return self.stored.has(name)

    def tables(self) -> list[str]:
        """Return the names of the tables of the ontology that the version holds."""
        names = (key.removeprefix("table/") for key in self._chunks if key.startswith("table/"))
        return [name for name in names if name in self.ontology]

    def table_digests(self) -> dict[str, str]:
        """Return the digest of the content of each table that the version holds, by name."""
        return {name: self._chunks[_table_key(name)].digest for name in self.tables()}

    def series_names(self) -> list[str]:
        """Return the names of the series that the version holds."""
        return self.stored.names()

    def table(self, name: str) -> pa.Table:
        """Return a table of the ontology; empty when the version has none.

        Columns that the ontology has gained since the version was written are null, those that it has lost are
        left out.

        Raises
        ------
        NotFoundError
            If the ontology has no such table.
        """
        if name not in self.ontology:
            raise NotFoundError(f"the ontology has no table {name!r}; it has {', '.join(sorted(self.ontology))}")
        return self.table_as(self.ontology[name])

    def table_as(self, schema: TableSchema) -> pa.Table:
        """Return a table under a schema of one's own, such as one that the ontology had earlier."""
        chunk = self._chunks.get(_table_key(schema.name))
        if chunk is None:
            return schema.empty()
        return schema.conform(self._store.get_table(self._store.chunk_address(chunk.digest)))

    def series(self, name: str, hours: slice | None = None, ids: Sequence[str] | StrArray | None = None) -> Series:
        """Return a series, or some hours (of the year) and elements of it, in the order of `ids`.

        Raises
        ------
        NotFoundError
            If the version lacks the series, an hour or an element.
        """
        start, stop = self._hours(name, hours)
        wanted = None if ids is None else np.asarray(ids, dtype=np.str_)
        found, values, self.last_plan = self.stored.read(name, start, stop, wanted)
        return Series(name, found, values, start)

    def aligned(self, name: str, ids: Sequence[str] | StrArray, hours: slice | None = None) -> np.ndarray:
        """Return values (hour, id) in the order of `ids`; see `series`."""
        return self.series(name, hours, ids).values

    def hours(self, name: str) -> slice:
        """Return the hours of the year that a series covers.

        Raises
        ------
        NotFoundError
            If the version lacks the series.
        """
        if not self.stored.has(name):
            raise NotFoundError(f"version {self.version.label} has no series {name!r}; {self._known_series()}")
        return self.stored.hours(name)

    def elements(self, name: str) -> StrArray:
        """Return the ids of a series' elements, in the order of its columns; see `hours`."""
        self.hours(name)
        return self.stored.elements(name).ids

    def columns(self) -> dict[str, dict[str, np.ndarray]]:
        """Return all tables as numpy columns, nulls as `bos_core.grid.assembly` wants them."""
        return {name: numpy_columns(self.table(name)) for name in self.tables()}

    def grid(self) -> tuple[Grid, Snapshot]:
        """Return the grid and its snapshot as arrays; kept in this process by the digest of the tables."""
        key = self.tables_digest
        found = _GRIDS.get(key)
        if found is None:
            found = assemble(self.columns())
            _GRIDS.put(key, found)
        grid, snapshot = found
        return grid, snapshot

    def _hours(self, name: str, hours: slice | None) -> tuple[int, int]:
        covered = self.hours(name)
        first, last = covered.start, covered.stop
        if hours is None:
            return first, last
        if hours.step not in (None, 1):
            raise NotFoundError(f"series {name} is read by consecutive hours; give a slice without a step")
        start = first if hours.start is None else int(hours.start)
        stop = last if hours.stop is None else int(hours.stop)
        if not first <= start <= stop <= last:
            raise NotFoundError(
                f"series {name} of version {self.version.label} covers hours {first} to {last - 1}, not "
                f"{start} to {stop - 1}; ask within that range or build the missing hours"
            )
        return start, stop

    def _known_series(self) -> str:
        return f"it has {', '.join(self.series_names()) or 'none'}; run the step that makes it"


class ScenarioWriter:
    """Prepares a new version: what is not replaced is shared with the parent.

    Chunks are stored as they are put; they become visible with `commit` and not before.

    Parameters
    ----------
    parent : str, optional
        Reference of the version to start from; without it the version starts empty.
    scenario : str, optional
        Scenario that gets the version, made if absent; default is the parent's.
    """

    def __init__(
        self, store: ResultStore, index: ScenarioIndex, parent: str | None = None, scenario: str | None = None
    ) -> None:
        if parent is None and scenario is None:
            finding = Finding("option", (), "neither parent nor scenario is given", "name one", "scenario")
            raise InputError((finding,))
        raise_if_any(check_name(scenario) if scenario is not None else (), OptionError)
        self._store, self._index, self.ontology = store, index, index.ontology()
        self._parent = None if parent is None else index.get(parent)
        self._chunks = {} if self._parent is None else index.chunks(self._parent.id)
        self.stored = SeriesChunks(store, self._chunks)
        self._scenario = scenario or (self._parent.scenario_name if self._parent else "")
        self._table_bytes = 0

    @property
    def bytes_written(self) -> int:
        """What the store has gained through this writer."""
        return self._table_bytes + self.stored.bytes_written

    def put_table(self, name: str, table: pa.Table) -> None:
        """Replace a table. Added columns without any value are left out, so that the digest is as without them.

        Raises
        ------
        InputError
            With all findings of `check_table`, and one for columns that the ontology does not know.
        """
        findings = check_table(name, table, self.ontology)
        schema = self.ontology.get(name)
        unknown = tuple(sorted(set(table.column_names) - {c.name for c in schema.columns})) if schema else ()
        if unknown:
            findings.append(Finding(name, unknown, "columns are not part of the ontology", "leave them out"))
        raise_if_any(findings)
        assert schema is not None
        trimmed = schema.trimmed(table)
        fields = [schema.arrow.field(name) for name in trimmed.column_names]
        clean = trimmed.cast(pa.schema(fields, metadata=schema.arrow.metadata))
        stored = self._store.put_chunk(clean)
        self._table_bytes += stored.bytes if stored.is_new else 0
        given = [c.name for c in schema.columns if c.added and c.name in clean.column_names]
        key, detail = _table_key(name), {ADDED: given} if given else {}
        self._chunks[key] = Chunk(key, stored.digest, clean.num_rows, stored.bytes, detail)

    def drop_table(self, name: str) -> None:
        """Leave a table out of the new version."""
        self._chunks.pop(_table_key(name), None)

    def put_series(
        self, name: str, ids: Sequence[str] | StrArray, values: np.ndarray, first_hour: int = 0
    ) -> None:
        """Replace a series, in both layouts.

        Parameters
        ----------
        name : str
            Name in `SERIES`.
        ids : (element,) str
        values : (hour, element)
            Of the series' type; integers are accepted for float series. NaN is a value (e.g. "no set point").
        first_hour : int
            Hour of the year of the first row.

        Raises
        ------
        InputError
            With all findings: unknown series, shapes, types, hours outside the year, repeated ids.
        """
        columns = np.asarray(ids, dtype=np.str_)
        raise_if_any(_check_series(name, columns, np.asarray(values), first_hour))
        clean = np.ascontiguousarray(values, dtype=SERIES[name].type.to_pandas_dtype())
        self.stored.replace(name, columns, clean, first_hour)

    def edit_series(self, name: str, hours: slice, ids: Sequence[str] | StrArray, values: np.ndarray) -> int:
        """Replace a block of values within a series; return how many values it changes.

        Parameters
        ----------
        hours : slice
            Hours of the year, within those that the series covers.
        ids : (element,) str
            Elements of the series.
        values : (hour, element)
            As in `put_series`.

        Raises
        ------
        InputError
            With all findings of `put_series`, and one for hours that the series lacks.
        NotFoundError
            If there is no such series, or it lacks an element.
        """
        columns = np.asarray(ids, dtype=np.str_)
        if not self.stored.has(name):
            known = ", ".join(self.stored.names()) or "none"
            raise NotFoundError(f"there is no series {name!r} to edit; there is {known}")
        findings = _check_series(name, columns, np.asarray(values), hours.start)
        covered = self.stored.hours(name)
        if not covered.start <= hours.start <= hours.stop <= covered.stop or values.shape[0] != (
            hours.stop - hours.start
        ):
            problem = f"has {values.shape[0]} rows for hours {hours.start} to {hours.stop - 1}"
            remedy = f"stay within hours {covered.start} to {covered.stop - 1}, a row each"
            findings.append(Finding(name, (), problem, remedy))
        raise_if_any(findings)
        clean = np.ascontiguousarray(values, dtype=SERIES[name].type.to_pandas_dtype())
        return self.stored.lay(name, hours, columns, clean)

    def drop_series(self, name: str) -> None:
        """Leave a series out of the new version."""
        self.stored.drop(name)

    def commit(
        self,
        message: str,
        task_id: str | None = None,
        step: str = "",
        trace_id: str = "",
        merged: str | None = None,
        head: str | None = None,
    ) -> str:
        """Make the version visible in one transaction; return its id.

        `merged` and `head` are as in `ScenarioIndex.add_version`.

        Raises
        ------
        NotFoundError
            If the task is not registered.
        ConflictError
            If the scenario's name means another version than `head` by now.
        """
        self._index.create(self._scenario)
        version = self._index.add_version(
            self._scenario,
            list(self._chunks.values()),
            parent=self._parent.id if self._parent else None,
            message=message,
            made_by_task=task_id,
            trace_id=trace_id,
            step=step,
            merged=merged,
            head=head,
        )
        return version.id


def _table_key(name: str) -> str:
    return f"table/{name}"


def _check_series(name: str, ids: StrArray, values: np.ndarray, first_hour: int) -> list[Finding]:
    if name not in SERIES:
        return [Finding("series", (name,), "is not part of the ontology", f"use one of {sorted(SERIES)}")]
    findings = []
    wanted = SERIES[name].type
    kinds = {"bool": "b", "int64": "iu", "double": "fiu"}[str(wanted)]
    if values.dtype.kind not in kinds:
        findings.append(Finding(name, (), f"has dtype {values.dtype}", f"give {wanted} values"))
    if values.ndim != 2 or values.shape[1:] != ids.shape:
        problem = f"has shape {values.shape} for {ids.size} elements"
        findings.append(Finding(name, (), problem, "give values[hour, element] and one id an element"))
    elif not 0 <= first_hour <= first_hour + values.shape[0] <= HOURS_PER_YEAR or not values.shape[0]:
        problem = f"covers {values.shape[0]} hours from hour {first_hour}"
        findings.append(Finding(name, (), problem, f"stay within hours 0 to {HOURS_PER_YEAR - 1}"))
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        repeated = tuple(str(i) for i in unique[counts > 1])
        findings.append(Finding(name, repeated, "has more than one column", "give each element once"))
    return findings


_GRIDS: Recent[tuple[Grid, Snapshot]] = Recent(GRIDS_KEPT)
