"""The chunks of hourly series: a month a file in two layouts, and single edits laid over a month.

A month of a series is stored twice, because no single file serves both questions:

* ``by_hour``: a row an hour, all elements in one fixed-size list, 24 hours a row group. One hour of all elements
  is one contiguous read.
* ``by_device``: a row an element, the hours of the month in one fixed-size list, 16 elements a row group. One
  element over the year is twelve short reads. (One column an element needs a footer entry for each: twelve footers
  of 849 columns take 45 ms to read, these 7 ms.)

Both lists lie in the column ``values``; the elements stand in the schema's metadata under ``ids``.

An edit of a few values writes neither: the *overlay* of a month lists the cells whose value differs from the
month's files. It holds what differs and nothing else, sorted, so that two ways to the same values give the same
digest. What outgrows `OVERLAY_CELLS_MAX` is written into the month's files instead.

Versions that were written before months were cut have one file a layout for all hours, ``by_device`` with a column
an element. They are read as they are, and cut when one of their months is rewritten.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from bos_core.access.store import ResultStore
from bos_core.grid.model import BoolArray, IntArray, StrArray
from bos_core.index.scenarios import Chunk
from bos_core.objects.errors import NotFoundError
from bos_core.objects.ontology import SERIES, SeriesSchema, months_between

HOURS_PER_ROW_GROUP = 24
ELEMENTS_PER_ROW_GROUP = 16
FOOTER_COST_VALUES = 250
"""What a column costs in the footer of a wide file, in values read (2.7 us against 10 ns a value)."""

OVERLAY_CELLS_MAX = 4096
"""Cells of a month's overlay: five elements over a whole month, or a few hours of all. Every read of the month
reads the overlay too, so it may not become a third copy of the month."""

_ELEMENTS_KEPT = 64
_OVERLAYS_KEPT = 64
_DTYPES: Mapping[str, type[np.generic]] = {"double": np.float64, "int64": np.int64, "bool": np.bool_}
_SERIES, _EDIT = "series", "edit"

_T = TypeVar("_T")


class Layout(StrEnum):
    """How a series lies in its files."""

    BY_HOUR = "by_hour"
    BY_DEVICE = "by_device"


@dataclass(frozen=True)
class ReadPlan:
    """How a series was read.

    Attributes
    ----------
    series, layout : str, Layout
        What, and from files of which layout.
    addresses : tuple of str
        The files, a month each, then the edits that lie over them.
    cost_values : mapping
        Estimated cost of each layout that exists, in values fetched.
    """

    series: str
    layout: Layout
    addresses: tuple[str, ...]
    cost_values: Mapping[Layout, int]


@dataclass(frozen=True)
class _File:
    """Consecutive hours of a series in one layout; `month` is 0 where one file holds all hours."""

    chunk: Chunk
    layout: Layout
    month: int

    @cached_property
    def first(self) -> int:
        return int(self.chunk.detail["first_hour"])

    @cached_property
    def stop(self) -> int:
        return self.first + int(self.chunk.detail["hours"])

    @property
    def elements(self) -> int:
        return int(self.chunk.detail["elements"])

    @property
    def address(self) -> str:
        return ResultStore.chunk_address(self.chunk.digest)

    @property
    def wide(self) -> bool:
        """Whether it has a column an element."""
        return self.layout is Layout.BY_DEVICE and not self.month


@dataclass(frozen=True, eq=False)
class Elements:
    """Elements of a series in the order of its columns, and the place of each."""

    ids: StrArray
    place: Mapping[str, int]

    def places(self, series: str, wanted: StrArray) -> IntArray:
        """Return the places of elements.

        Raises
        ------
        NotFoundError
            Naming those that the series does not have.
        """
        found = np.fromiter((self.place.get(i, -1) for i in wanted.tolist()), np.int64, wanted.size)
        absent = wanted[found < 0]
        if absent.size:
            shown = ", ".join(absent[:5].tolist()) + (f" (+{absent.size - 5} more)" if absent.size > 5 else "")
            raise NotFoundError(f"series {series} has no element {shown}; ask for elements of this scenario")
        return found


@dataclass(frozen=True, eq=False)
class _Overlay:
    """Cells that differ from a month's files: hour, element (as a place in `names`) and value of each."""

    hour: IntArray
    element: IntArray
    names: StrArray
    value: np.ndarray


class SeriesChunks:
    """The series among the chunks of one version.

    Parameters
    ----------
    store : ResultStore
    chunks : mapping of key to Chunk
        All chunks of the version. `replace`, `lay` and `drop` change it; files are only added.
    """

    def __init__(self, store: ResultStore, chunks: MutableMapping[str, Chunk]) -> None:
        self._store, self._chunks = store, chunks
        self.bytes_written = 0

    # --- what there is

    def names(self) -> list[str]:
        """Return the names of the series, sorted."""
        return sorted({key.split("/")[1] for key in self._chunks if key.startswith(f"{_SERIES}/")})

    def has(self, name: str) -> bool:
        """Say whether there is a series of this name."""
        return bool(self._files(name))

    def hours(self, name: str) -> slice:
        """Return the hours of the year that a series covers."""
        files = next(iter(self._files(name).values()))
        return slice(files[0].first, files[-1].stop)

    def elements(self, name: str) -> Elements:
        """Return the elements of a series, which are the same in all its months."""
        file = next(iter(self._files(name).values()))[0]
        key = str(file.chunk.detail.get("ids", file.chunk.digest))
        found = _ELEMENTS.get(key)
        if found is None:
            schema = self._store.get_schema(file.address)
            listed = schema.names[1:] if file.wide else json.loads(schema.metadata[b"ids"])
            found = Elements(
                np.array(listed, dtype=np.str_), {element: place for place, element in enumerate(listed)}
            )
            _ELEMENTS.put(key, found)
        return found

    def fingerprints(self, name: str) -> dict[int, tuple[str, ...]]:
        """Return what decides the values of each month: equal fingerprints, equal values (not the reverse)."""
        files = [file for layout in self._files(name).values() for file in layout]
        hours = self.hours(name)
        return {
            month: (
                *sorted(file.chunk.digest for file in files if file.month in (0, month)),
                *(chunk.digest for chunk in [self._chunks.get(_edit_key(name, month))] if chunk),
            )
            for month in months_between(hours.start, hours.stop)
        }

    def _files(self, name: str) -> dict[Layout, list[_File]]:
        """Return the files of each layout that the version has, in the order of hours."""
        found: dict[Layout, list[_File]] = {}
        for layout in Layout:
            months = [(month, self._chunks.get(_series_key(name, layout, month))) for month in range(13)]
            files = [_File(chunk, layout, month) for month, chunk in months if chunk is not None]
            if files:
                found[layout] = files
        return found

    # --- reading

    def read(
        self, name: str, start: int, stop: int, ids: StrArray | None = None, edited: bool = True
    ) -> tuple[StrArray, np.ndarray, ReadPlan]:
        """Return elements, values (hour, element) of hours that the series covers, and how they were read.

        Parameters
        ----------
        ids : (element,) str, optional
            Elements wanted, in any order and number; all by default.
        edited : bool
            Whether the edits count; without them it is what lies in the months' files.

        Raises
        ------
        NotFoundError
            If an element is unknown.
        """
        elements = self.elements(name)
        places = None if ids is None else elements.places(name, ids)
        files = {
            layout: [file for file in of_layout if file.first < stop and start < file.stop]
            for layout, of_layout in self._files(name).items()
        }
        costs = {layout: sum(_cost(f, start, stop, places) for f in chosen) for layout, chosen in files.items()}
        layout = min(costs, key=lambda item: costs[item])
        wanted = elements.ids if ids is None else ids
        parts = [
            _READ[file.layout, file.wide](
                self._store, file, max(start, file.first), min(stop, file.stop), elements, places
            )
            for file in files[layout]
        ]
        empty = np.empty((0, wanted.size), _dtype(name))
        values = parts[0] if len(parts) == 1 else np.concatenate([empty, *parts])
        if edited:
            values = self._with_edits(name, start, values, elements, places)
        edits = [self._chunks.get(_edit_key(name, month)) for month in months_between(start, stop) if edited]
        addresses = [file.address for file in files[layout]]
        addresses += [self._store.chunk_address(edit.digest) for edit in edits if edit is not None]
        return wanted, values, ReadPlan(name, layout, tuple(addresses), costs)

    def _with_edits(
        self, name: str, start: int, values: np.ndarray, elements: Elements, places: IntArray | None
    ) -> np.ndarray:
        """Lay the overlays of their months over values of hours from `start`, in place where that can be."""
        stop = start + values.shape[0]
        for month in months_between(start, stop):
            overlay = self._overlay(name, month)
            if overlay is None:
                continue
            here = (overlay.hour >= start) & (overlay.hour < stop)
            row, element, value = overlay.hour[here] - start, overlay.element[here], overlay.value[here]
            place = elements.places(name, overlay.names)[element]
            if not values.flags.writeable:
                values = values.copy()
            if places is None:
                values[row, place] = value
                continue
            columns, first, which = np.unique(places, return_index=True, return_inverse=True)
            column = np.full(elements.ids.size, -1)
            column[columns] = first
            known = column[place] >= 0
            values[row[known], column[place[known]]] = value[known]
            if columns.size < places.size:  # an element that is asked for twice
                values = values[:, first[which]]
        return values

    def _overlay(self, name: str, month: int) -> _Overlay | None:
        chunk = self._chunks.get(_edit_key(name, month))
        if chunk is None:
            return None
        found = _OVERLAYS.get(chunk.digest)
        if found is None:
            table = self._store.get_table(self._store.chunk_address(chunk.digest))
            element = table["element"].combine_chunks().dictionary_encode()
            found = _Overlay(
                table["hour"].to_numpy(),
                element.indices.to_numpy(),
                np.array(element.dictionary.to_pylist(), dtype=np.str_),
                table["value"].to_numpy(),
            )
            _OVERLAYS.put(chunk.digest, found)
        return found

    # --- writing

    def replace(self, name: str, ids: StrArray, values: np.ndarray, first_hour: int) -> None:
        """Write a series anew; months whose content is stored already share its files."""
        self.drop(name)
        for month, hours in months_between(first_hour, first_hour + values.shape[0]).items():
            part = values[hours.start - first_hour : hours.stop - first_hour]
            self._put_month(name, month, ids, part, hours.start)

    def lay(self, name: str, hours: slice, ids: StrArray, values: np.ndarray) -> int:
        """Replace a block of values (hour, element) within a series; return how many of them are new.

        Months that are not touched stay; of those that are, an overlay or the files are written.
        """
        elements, covered = self.elements(name), self.hours(name)
        places, months = elements.places(name, ids), months_between(covered.start, covered.stop)
        changed = 0
        for month, part in months_between(hours.start, hours.stop).items():
            whole = months[month]
            _, base, _ = self.read(name, whole.start, whole.stop, edited=False)
            before = self._with_edits(name, whole.start, base.copy(), elements, None)
            after = before.copy()
            after[part.start - whole.start : part.stop - whole.start, places] = values[
                part.start - hours.start : part.stop - hours.start
            ]
            new = int(differs(before, after).sum())
            if new:
                self._put_edited(name, month, whole.start, base, after, elements)
            changed += new
        return changed

    def take(self, name: str, other: SeriesChunks) -> None:
        """Replace a series by that of another version, or leave it out when that has none; no file is written."""
        self.drop(name)
        self._chunks.update({key: other._chunks[key] for key in other._keys(name)})

    def drop(self, name: str) -> None:
        """Leave a series out."""
        for key in self._keys(name):
            del self._chunks[key]

    def _keys(self, name: str) -> list[str]:
        return [key for key in self._chunks if key.startswith((f"{_SERIES}/{name}/", f"{_EDIT}/{name}/"))]

    def _put_edited(
        self, name: str, month: int, first: int, base: np.ndarray, after: np.ndarray, elements: Elements
    ) -> None:
        """Write a month that differs from its files: as an overlay, or as files where it differs much."""
        hour, place = np.nonzero(differs(base, after))
        if hour.size > OVERLAY_CELLS_MAX:
            if any(file.month == 0 for files in self._files(name).values() for file in files):
                self._cut(name)
            self._chunks.pop(_edit_key(name, month), None)
            self._put_month(name, month, elements.ids, after, first)
        elif hour.size:
            cells = (hour + first, elements.ids[place], after[hour, place])
            self._put(_edit_key(name, month), _overlay_table(SERIES[name], *cells), {}, OVERLAY_CELLS_MAX)
        else:
            self._chunks.pop(_edit_key(name, month), None)

    def _cut(self, name: str) -> None:
        """Cut a series that lies in one file a layout into months, with its edits."""
        span = self.hours(name)
        ids, values, _ = self.read(name, span.start, span.stop)
        self.replace(name, ids, values, span.start)

    def _put_month(self, name: str, month: int, ids: StrArray, values: np.ndarray, first: int) -> None:
        schema = SERIES[name]
        listed = json.dumps(ids.tolist())
        hours, elements = values.shape
        known = hashlib.sha256(listed.encode()).hexdigest()[:16]
        detail = {"first_hour": first, "hours": hours, "elements": elements, "ids": known}
        for layout, rows, group in (
            (Layout.BY_HOUR, values, HOURS_PER_ROW_GROUP),
            (Layout.BY_DEVICE, values.T, ELEMENTS_PER_ROW_GROUP),
        ):
            table = _list_table(schema, rows, {"first_hour": str(first), "ids": listed})
            self._put(_series_key(name, layout, month), table, detail, group)

    def _put(self, key: str, table: pa.Table, detail: Mapping[str, Any], group: int) -> None:
        stored = self._store.put_chunk(table, group)
        self.bytes_written += stored.bytes if stored.is_new else 0
        self._chunks[key] = Chunk(key, stored.digest, table.num_rows, stored.bytes, dict(detail))


def differs(a: np.ndarray, b: np.ndarray) -> BoolArray:
    """Return where two arrays of one type differ; NaN equals NaN."""
    different = a != b
    if a.dtype.kind == "f":
        different &= ~(np.isnan(a) & np.isnan(b))
    return np.asarray(different)


def _series_key(name: str, layout: Layout, month: int) -> str:
    """Return the key of a month's file; month 0 is a file of all hours."""
    return f"{_SERIES}/{name}/{layout.value}" + (f"/{month:02d}" if month else "")


def _edit_key(name: str, month: int) -> str:
    return f"{_EDIT}/{name}/{month:02d}"


def _dtype(name: str) -> type[np.generic]:
    return _DTYPES[str(SERIES[name].type)]


# --- tables


def _metadata(schema: SeriesSchema) -> dict[str, str]:
    return {
        "series": schema.name,
        "data_type": schema.data_type.value,
        "element": schema.element,
        "unit": schema.unit,
    }


def _list_table(schema: SeriesSchema, rows: np.ndarray, metadata: Mapping[str, str]) -> pa.Table:
    """Return a table whose rows hold one list each; an empty list, which Parquet lacks, becomes one value."""
    count, length = rows.shape
    unit = {"unit": schema.unit, "doc": schema.doc}
    kind = pa.list_(pa.field("element", schema.type, nullable=False), max(length, 1))
    field = pa.field("values", kind, nullable=False, metadata=unit)
    flat = np.ascontiguousarray(rows).ravel() if length else np.zeros(count, rows.dtype)
    array = pa.FixedSizeListArray.from_arrays(pa.array(flat, schema.type), type=kind)
    return pa.Table.from_arrays([array], schema=pa.schema([field], {**_metadata(schema), **metadata}))


def _overlay_table(schema: SeriesSchema, hour: IntArray, element: StrArray, value: np.ndarray) -> pa.Table:
    fields = [
        pa.field("hour", pa.int64(), nullable=False, metadata={"unit": "h", "doc": "hour of the year"}),
        pa.field("element", pa.string(), nullable=False, metadata={"doc": "id of the element"}),
        pa.field("value", schema.type, nullable=False, metadata={"unit": schema.unit, "doc": schema.doc}),
    ]
    columns = [pa.array(hour, pa.int64()), pa.array(element.tolist(), pa.string()), pa.array(value, schema.type)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, _metadata(schema)))


# --- files


def _cost(file: _File, start: int, stop: int, places: IntArray | None) -> int:
    """Return what reading hours and elements from a file costs, in values fetched."""
    if file.layout is Layout.BY_HOUR:
        return len(_hour_groups(file, start, stop)) * HOURS_PER_ROW_GROUP * file.elements
    hours = file.stop - file.first
    if file.wide:
        columns = file.elements if places is None else places.size
        return (hours + FOOTER_COST_VALUES) * columns + FOOTER_COST_VALUES * file.elements
    groups = len(_element_groups(file, places))
    return min(groups * ELEMENTS_PER_ROW_GROUP, file.elements) * hours


def _hour_groups(file: _File, start: int, stop: int) -> range:
    """Row groups of a by-hour file that hold hours `start` to `stop`."""
    low, high = max(start, file.first) - file.first, min(stop, file.stop) - file.first
    return range(low // HOURS_PER_ROW_GROUP, (high - 1) // HOURS_PER_ROW_GROUP + 1)


def _element_groups(file: _File, places: IntArray | None) -> Sequence[int]:
    """Row groups of a by-device file that hold elements."""
    if places is None:
        return range(-(-file.elements // ELEMENTS_PER_ROW_GROUP))
    groups: list[int] = np.unique(places // ELEMENTS_PER_ROW_GROUP).tolist()
    return groups


def _lists(store: ResultStore, file: _File, groups: Sequence[int], width: int) -> np.ndarray:
    """Return the lists of some row groups as (row, position)."""
    table = store.get_table(file.address, row_groups=groups)
    column = table.column("values").combine_chunks()
    length = column.type.list_size
    flat = column.values.slice(column.offset * length, len(column) * length)
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(column), length)[:, :width]


def _read_by_hour(
    store: ResultStore, file: _File, start: int, stop: int, elements: Elements, places: IntArray | None
) -> np.ndarray:
    groups = _hour_groups(file, start, stop)
    offset = file.first + groups.start * HOURS_PER_ROW_GROUP
    rows = _lists(store, file, groups, elements.ids.size)[start - offset : stop - offset]
    return np.ascontiguousarray(rows if places is None else rows[:, places])


def _read_by_device(
    store: ResultStore, file: _File, start: int, stop: int, elements: Elements, places: IntArray | None
) -> np.ndarray:
    groups = np.asarray(_element_groups(file, places), np.int64)
    if not groups.size:
        return np.empty((stop - start, 0), _dtype(file.chunk.key.split("/")[1]))
    lists = _lists(store, file, groups.tolist(), file.stop - file.first)[:, start - file.first : stop - file.first]
    if places is not None:
        group, within = np.divmod(places, ELEMENTS_PER_ROW_GROUP)
        lists = lists[np.searchsorted(groups, group) * ELEMENTS_PER_ROW_GROUP + within]
    return np.ascontiguousarray(lists.T)


def _read_wide(
    store: ResultStore, file: _File, start: int, stop: int, elements: Elements, places: IntArray | None
) -> np.ndarray:
    wanted = (elements.ids if places is None else elements.ids[places]).tolist()
    table = store.get_table(file.address, columns=None if places is None else list(dict.fromkeys(wanted)))
    values: np.ndarray = np.empty((stop - start, len(wanted)), _dtype(file.chunk.key.split("/")[1]))
    for column, element in enumerate(wanted):
        values[:, column] = table.column(element).slice(start - file.first, stop - start).to_numpy()
    return values


_READ = {
    (Layout.BY_HOUR, False): _read_by_hour,
    (Layout.BY_DEVICE, False): _read_by_device,
    (Layout.BY_DEVICE, True): _read_wide,
}


class Recent(Generic[_T]):
    """A small cache that forgets what was not used for longest; safe for threads."""

    def __init__(self, size: int) -> None:
        self._size, self._items, self._lock = size, OrderedDict[str, _T](), threading.Lock()

    def get(self, key: str) -> _T | None:
        """Return what was put under a key, None when it was not or is forgotten."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: str, value: _T) -> None:
        """Keep a value."""
        with self._lock:
            self._items[key] = value
            while len(self._items) > self._size:
                self._items.popitem(last=False)


_ELEMENTS: Recent[Elements] = Recent(_ELEMENTS_KEPT)
_OVERLAYS: Recent[_Overlay] = Recent(_OVERLAYS_KEPT)
