"""Rows of a result by what people call them: hour, and elements by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bos_core.access.scenario_data import ScenarioReader
from bos_core.grid.model import StrArray
from bos_core.objects.errors import Finding, NotFoundError, OptionError

ELEMENT = "element"
"""Key that stands for the column that says whose row it is: the first of `_OWNERS` that a table has."""

_OWNERS = (ELEMENT, "id", "branch", "bus", "unit", "load", "contingency")
_KEYS = ("hour", "round", *_OWNERS)
_BRANCHES = ("branch", "contingency", "loading_branch")
_BUSES = ("bus", "vm_min_bus", "vm_max_bus")
_SIMILAR_SHOWN = 5


class ElementNames:
    """Names of elements, their ids, and their places in the grid of a scenario version.

    Parameters
    ----------
    readers : sequence of ScenarioReader
        Versions that know the elements; places are those of the first one's grid.
    """

    def __init__(self, readers: Sequence[ScenarioReader]) -> None:
        self._readers = readers

    @cached_property
    def _entities(self) -> tuple[StrArray, StrArray]:
        tables = [reader.table("entity").select(["id", "name"]) for reader in self._readers]
        both = pa.concat_tables(tables)
        ids, first = np.unique(np.array(both["id"].to_pylist(), dtype=np.str_), return_index=True)
        return ids, np.array(both["name"].to_pylist(), dtype=np.str_)[first]

    @cached_property
    def _folded(self) -> StrArray:
        return np.char.lower(self._entities[1])

    def ids(self, name: str) -> list[str]:
        """Return the ids of the elements of this name or id; where none is spelled so, without regard to case.

        Raises
        ------
        NotFoundError
            With names that are similar.
        """
        ids, names = self._entities
        for found in (names == name, ids == name, self._folded == name.lower()):
            if found.any():
                return [str(i) for i in ids[found]]
        similar = ", ".join(self._similar(name.lower()))
        where = self._readers[0].version.label
        raise NotFoundError(
            f"no element of {where} is called {name!r}; "
            + (f"similar: {similar}" if similar else f"`bos elements {where} line --within STATION` lists some")
        )

    def _similar(self, text: str) -> list[str]:
        """Return names that contain the text, else those that begin as it does for longest."""
        near = np.char.find(self._folded, text) >= 0
        for length in range(len(text) - 1, 0, -1):
            if near.any():
                break
            near = np.char.startswith(self._folded, text[:length])
        return sorted({str(n) for n in self._entities[1][near]})[:_SIMILAR_SHOWN]

    def name(self, id: str) -> str:
        """Return the name of an id; the id where it is unknown."""
        ids, names = self._entities
        place = min(int(np.searchsorted(ids, id)), ids.size - 1)
        return str(names[place]) if ids.size and ids[place] == id else id

    def places(self, column: str, name: str) -> list[int]:
        """Return the places of a name or id in the grid's axis that a column of numbers counts along."""
        ids = _axis(self._readers[0], column)
        return [int(k) for k in np.flatnonzero(np.isin(ids, self.ids(name)))]

    def at(self, column: str, place: int) -> str:
        """Return the name of the element at a place; of -1, "none"."""
        return "none" if place < 0 else self.name(str(_axis(self._readers[0], column)[place]))


def _axis(reader: ScenarioReader, column: str) -> StrArray:
    network = reader.grid()[0].network
    return network.branch_id if column in _BRANCHES else network.bus_id


def owner_column(names: Iterable[str]) -> str:
    """Return the column that says whose row it is; empty when there is none."""
    known = set(names)
    return next((name for name in _OWNERS if name in known), "")


def value_columns(names: Iterable[str]) -> list[str]:
    """Return the columns that are values and not keys."""
    return [name for name in names if name not in _KEYS]


def matching(table: pa.Table, keys: Mapping[str, str], names: ElementNames) -> pa.Table:
    """Return the rows that keys name.

    Raises
    ------
    OptionError
        When there is no such column, or a number is none.
    NotFoundError
        When no element has the name.
    """
    for key, text in sorted(keys.items(), key=lambda item: item[0] != "hour"):  # the cheapest first
        column = owner_column(table.column_names) if key == ELEMENT else key
        if column not in table.column_names:
            known = ", ".join(name for name in table.column_names if name in _KEYS) or "none"
            raise OptionError(
                (Finding("key", (key,), "is no column of these rows", f"rows are told apart by: {known}"),)
            )
        table = table.filter(_equal(table, column, text, names))
    return table


def _equal(table: pa.Table, column: str, text: str, names: ElementNames) -> pa.ChunkedArray:
    kind = table.schema.field(column).type
    if pa.types.is_integer(kind) and column in (*_BRANCHES, *_BUSES) and not text.lstrip("-").isdecimal():
        return pc.is_in(table[column].cast(pa.int64()), pa.array(names.places(column, text), pa.int64()))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        try:
            return pc.equal(table[column].cast(pa.float64()), float(text))
        except ValueError:
            finding = Finding("key", (f"{column}={text}",), f"{text!r} is no number", f"{column} is a number")
            raise OptionError((finding,)) from None
    words = table[column].cast(pa.string())
    if pc.any(pc.equal(words, text)).as_py():
        return pc.equal(words, text)
    return pc.is_in(words, pa.array(names.ids(text), pa.string()))


def shown_rows(table: pa.Table, names: ElementNames) -> list[dict[str, Any]]:
    """Return rows as plain values, with elements by name."""
    rows: list[dict[str, Any]] = table.to_pylist()
    for field in table.schema:
        column = field.name
        if pa.types.is_integer(field.type) and column in (*_BRANCHES, *_BUSES):
            for row in rows:
                row[column] = None if row[column] is None else names.at(column, row[column])
        elif column in _OWNERS:
            for row in rows:
                row[column] = None if row[column] is None else names.name(str(row[column]))
    return rows
