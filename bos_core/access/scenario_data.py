"""Scenario versions as data: tables, hourly series and the grid.

A series is stored twice, because no single file serves both questions:

* ``by_hour``: a row an hour, all elements in one fixed-size list, 24 hours a row group. One hour of all elements
  is one contiguous read. (One column an element would need a footer entry for each element and row group: at 849
  elements and 8760 hours that file takes 180 ms to open for one day; this one takes 1 ms.)
* ``by_device``: a row an hour, one column an element, one row group. One element over all hours is one contiguous
  read, and any tool shows the file as a plain wide table.

The reader chooses by what is asked and says what it chose in `ScenarioReader.last_plan`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa

from bos_core.access.store import ResultStore
from bos_core.grid.assembly import assemble
from bos_core.grid.model import Grid, Snapshot, StrArray
from bos_core.index.scenarios import Chunk, ScenarioIndex, VersionRecord, check_name
from bos_core.objects.columns import numpy_columns
from bos_core.objects.errors import Finding, InputError, NotFoundError, OptionError, raise_if_any
from bos_core.objects.ontology import HOURS_PER_YEAR, SERIES, TABLES, SeriesSchema, check_table

HOURS_PER_ROW_GROUP = 24
FOOTER_COST_VALUES = 250
"""What a column costs in the footer of the by-device file, in values read (2.7 us against 10 ns a value)."""

GRIDS_KEPT = 4
_ID_POSITIONS_KEPT = 64
_DTYPES: Mapping[str, type[np.generic]] = {"double": np.float64, "int64": np.int64, "bool": np.bool_}


class Layout(StrEnum):
    """How a series lies in its file."""

    BY_HOUR = "by_hour"
    BY_DEVICE = "by_device"


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


@dataclass(frozen=True)
class ReadPlan:
    """How a series was read.

    Attributes
    ----------
    series, layout, address : str, Layout, str
        What, and from which file.
    cost_values : mapping
        Estimated cost of each layout that exists, in values fetched.
    """

    series: str
    layout: Layout
    address: str
    cost_values: Mapping[Layout, int]


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
        self._chunks = index.chunks(self.version.id)
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

    def has(self, name: str) -> bool:
        """Say whether the version holds the table or the series."""
        return _table_key(name) in self._chunks or self.has_series(name)

    def has_series(self, name: str) -> bool:
        """Say whether the version holds the series."""
        return any(_series_key(name, layout) in self._chunks for layout in Layout)

    def tables(self) -> list[str]:
        """Return the names of the tables that the version holds."""
        return [key.removeprefix("table/") for key in self._chunks if key.startswith("table/")]

    def table_digests(self) -> dict[str, str]:
        """Return the digest of the content of each table that the version holds, by name."""
        return {name: self._chunks[_table_key(name)].digest for name in self.tables()}

    def series_names(self) -> list[str]:
        """Return the names of the series that the version holds."""
        return sorted({key.split("/")[1] for key in self._chunks if key.startswith("series/")})

    def table(self, name: str) -> pa.Table:
        """Return a table of the ontology; empty when the version has none.

        Columns that the ontology has gained since the version was written are null.

        Raises
        ------
        NotFoundError
            If the ontology has no such table.
        """
        if name not in TABLES:
            raise NotFoundError(f"the ontology has no table {name!r}; it has {', '.join(sorted(TABLES))}")
        chunk = self._chunks.get(_table_key(name))
        if chunk is None:
            return TABLES[name].empty()
        return TABLES[name].widen(self._store.get_table(self._store.chunk_address(chunk.digest)))

    def series(self, name: str, hours: slice | None = None, ids: Sequence[str] | StrArray | None = None) -> Series:
        """Return a series, or some hours (of the year) and elements of it, in the order of `ids`.

        Raises
        ------
        NotFoundError
            If the version lacks the series, an hour or an element.
        """
        chunks = {layout: self._chunks.get(_series_key(name, layout)) for layout in Layout}
        present = {layout: chunk for layout, chunk in chunks.items() if chunk is not None}
        if not present:
            raise NotFoundError(f"version {self.version.label} has no series {name!r}; {self._known_series()}")
        stored = next(iter(present.values()))
        start, stop = self._hours(name, stored, hours)
        wanted = None if ids is None else np.asarray(ids, dtype=np.str_)
        plan = _plan(name, present, start, stop, None if wanted is None else wanted.size)
        chunk = present[plan.layout]
        read = _read_by_hour if plan.layout is Layout.BY_HOUR else _read_by_device
        found, values = read(self._store, chunk, start, stop, wanted)
        self.last_plan = plan
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
        for layout in Layout:
            chunk = self._chunks.get(_series_key(name, layout))
            if chunk is not None:
                first = int(chunk.detail["first_hour"])
                return slice(first, first + int(chunk.detail["hours"]))
        raise NotFoundError(f"version {self.version.label} has no series {name!r}; {self._known_series()}")

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

    def _hours(self, name: str, chunk: Chunk, hours: slice | None) -> tuple[int, int]:
        first = int(chunk.detail["first_hour"])
        last = first + int(chunk.detail["hours"])
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
        self._store, self._index = store, index
        self._parent = None if parent is None else index.get(parent)
        self._chunks = {} if self._parent is None else index.chunks(self._parent.id)
        self._scenario = scenario or (self._parent.scenario_name if self._parent else "")
        self.bytes_written = 0

    def put_table(self, name: str, table: pa.Table) -> None:
        """Replace a table.

        Raises
        ------
        InputError
            With all findings of `check_table`, and one for columns that the ontology does not know.
        """
        findings = check_table(name, table)
        schema = TABLES.get(name)
        unknown = tuple(sorted(set(table.column_names) - {c.name for c in schema.columns})) if schema else ()
        if unknown:
            findings.append(Finding(name, unknown, "columns are not part of the ontology", "leave them out"))
        raise_if_any(findings)
        assert schema is not None
        clean = table.select([c.name for c in schema.columns]).cast(schema.arrow)
        self._put(_table_key(name), clean, {})

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
        schema = SERIES[name]
        clean = np.ascontiguousarray(values, dtype=schema.type.to_pandas_dtype())
        hours, elements = clean.shape
        detail = {"first_hour": first_hour, "hours": hours, "elements": elements}
        for layout, table, group in (
            (Layout.BY_HOUR, _by_hour(schema, columns, clean, first_hour), HOURS_PER_ROW_GROUP),
            (Layout.BY_DEVICE, _by_device(schema, columns, clean, first_hour), HOURS_PER_YEAR),
        ):
            self._put(_series_key(name, layout), table, detail, group)

    def drop_series(self, name: str) -> None:
        """Leave a series out of the new version."""
        for layout in Layout:
            self._chunks.pop(_series_key(name, layout), None)

    def commit(self, message: str, task_id: str | None = None, step: str = "", trace_id: str = "") -> str:
        """Make the version visible in one transaction; return its id.

        Raises
        ------
        NotFoundError
            If the task is not registered.
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
        )
        return version.id

    def _put(self, key: str, table: pa.Table, detail: Mapping[str, Any], group: int = 262_144) -> None:
        digest, written = self._store.put_chunk(table, group)
        self.bytes_written += written
        self._chunks[key] = Chunk(key, digest, table.num_rows, table.nbytes, dict(detail))


def _table_key(name: str) -> str:
    return f"table/{name}"


def _series_key(name: str, layout: Layout) -> str:
    return f"series/{name}/{layout.value}"


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


def _metadata(schema: SeriesSchema, first_hour: int) -> dict[str, str]:
    return {
        "series": schema.name,
        "data_type": schema.data_type.value,
        "element": schema.element,
        "unit": schema.unit,
        "first_hour": str(first_hour),
    }


def _by_hour(schema: SeriesSchema, ids: StrArray, values: np.ndarray, first_hour: int) -> pa.Table:
    unit = {"unit": schema.unit, "doc": schema.doc}
    kind = pa.list_(pa.field("element", schema.type, nullable=False), max(ids.size, 1))
    hours, elements = values.shape
    flat = values.ravel() if elements else np.zeros(hours, values.dtype)
    metadata = {**_metadata(schema, first_hour), "ids": json.dumps(ids.tolist())}
    arrow = pa.schema([pa.field("values", kind, nullable=False, metadata=unit)], metadata=metadata)
    array = pa.FixedSizeListArray.from_arrays(pa.array(flat, schema.type), type=kind)
    return pa.Table.from_arrays([array], schema=arrow)


def _by_device(schema: SeriesSchema, ids: StrArray, values: np.ndarray, first_hour: int) -> pa.Table:
    unit = {"unit": schema.unit, "doc": schema.doc}
    hour = pa.field("hour", pa.int64(), nullable=False, metadata={"unit": "h", "doc": "hour of the year"})
    fields = [hour, *(pa.field(str(i), schema.type, nullable=False, metadata=unit) for i in ids)]
    transposed = np.ascontiguousarray(values.T)
    columns = [pa.array(np.arange(first_hour, first_hour + values.shape[0]), pa.int64())]
    columns += [pa.array(row, schema.type) for row in transposed]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=_metadata(schema, first_hour)))


def _plan(name: str, present: Mapping[Layout, Chunk], start: int, stop: int, n_ids: int | None) -> ReadPlan:
    """Choose the layout that fetches less; a tie goes to the first of `Layout`."""
    costs: dict[Layout, int] = {}
    for layout, chunk in present.items():
        first, hours, elements = (int(chunk.detail[key]) for key in ("first_hour", "hours", "elements"))
        if layout is Layout.BY_HOUR:
            costs[layout] = len(_row_groups(first, start, stop)) * HOURS_PER_ROW_GROUP * elements
        else:
            columns = elements if n_ids is None else n_ids
            costs[layout] = (hours + FOOTER_COST_VALUES) * columns + FOOTER_COST_VALUES * elements
    layout = min(costs, key=lambda item: costs[item])
    return ReadPlan(name, layout, ResultStore.chunk_address(present[layout].digest), costs)


def _row_groups(first: int, start: int, stop: int) -> range:
    """Row groups of the by-hour file that hold hours `start` to `stop`."""
    if stop == start:
        return range(0)
    return range((start - first) // HOURS_PER_ROW_GROUP, (stop - 1 - first) // HOURS_PER_ROW_GROUP + 1)


def _read_by_hour(
    store: ResultStore, chunk: Chunk, start: int, stop: int, ids: StrArray | None
) -> tuple[StrArray, np.ndarray]:
    first = int(chunk.detail["first_hour"])
    groups = _row_groups(first, start, stop)
    address = store.chunk_address(chunk.digest)
    table = store.get_table(address, row_groups=groups)
    known, position = _ids_of(chunk.digest, table.schema)
    column = table.column("values").combine_chunks()
    flat = column.values.slice(column.offset * column.type.list_size, len(column) * column.type.list_size)
    block = flat.to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)[:, : known.size]
    offset = first + groups.start * HOURS_PER_ROW_GROUP
    rows = block[start - offset : stop - offset]
    if ids is None:
        return known, np.ascontiguousarray(rows)
    places = _places(table.schema, ids, position)
    return ids, rows[:, places]


def _read_by_device(
    store: ResultStore, chunk: Chunk, start: int, stop: int, ids: StrArray | None
) -> tuple[StrArray, np.ndarray]:
    address = store.chunk_address(chunk.digest)
    first = int(chunk.detail["first_hour"])
    table = store.get_table(address, columns=None if ids is None else list(dict.fromkeys(ids.tolist())))
    if ids is not None:
        _places(table.schema, ids, {name: k for k, name in enumerate(table.column_names)})
    found = np.array([name for name in table.column_names if name != "hour"], dtype=np.str_)
    wanted = found if ids is None else ids
    values: np.ndarray = np.empty((stop - start, wanted.size), _DTYPES[str(_kind(table, wanted))])
    for k, name in enumerate(wanted.tolist()):
        values[:, k] = table.column(name).slice(start - first, stop - start).to_numpy()
    return wanted, values


def _kind(table: pa.Table, ids: StrArray) -> pa.DataType:
    if ids.size:
        return table.schema.field(str(ids[0])).type
    return SERIES[table.schema.metadata[b"series"].decode()].type


def _places(schema: pa.Schema, ids: StrArray, position: Mapping[str, int]) -> np.ndarray:
    places = np.fromiter((position.get(i, -1) for i in ids.tolist()), np.int64, ids.size)
    absent = ids[places < 0]
    if absent.size:
        name = schema.metadata[b"series"].decode()
        shown = ", ".join(absent[:5].tolist()) + (f" (+{absent.size - 5} more)" if absent.size > 5 else "")
        raise NotFoundError(f"series {name} has no element {shown}; ask for elements of this scenario")
    return places


def _ids_of(digest: str, schema: pa.Schema) -> tuple[StrArray, Mapping[str, int]]:
    found = _IDS.get(digest)
    if found is None:
        known = np.array(json.loads(schema.metadata[b"ids"]), dtype=np.str_)
        found = known, {name: k for k, name in enumerate(known.tolist())}
        _IDS.put(digest, found)
    ids, position = found
    return ids, position


class _Recent:
    """A small cache that forgets what was not used for longest; safe for threads."""

    def __init__(self, size: int) -> None:
        self._size, self._items, self._lock = size, OrderedDict[str, Any](), threading.Lock()

    def get(self, key: str) -> Any:
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: str, value: Any) -> None:
        with self._lock:
            self._items[key] = value
            while len(self._items) > self._size:
                self._items.popitem(last=False)


_GRIDS = _Recent(GRIDS_KEPT)
_IDS = _Recent(_ID_POSITIONS_KEPT)
