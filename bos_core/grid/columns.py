"""Ontology tables as numpy columns, and typed access to them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bos_core.grid.model import BoolArray, FloatArray, IntArray, StrArray

MISSING_INT = -(2**62)
"""Stands for a null integer."""

Columns = Mapping[str, Mapping[str, NDArray[Any]]]


class Tables:
    """Typed access to the columns."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._places: dict[tuple[str, str], dict[str, int]] = {}

    def size(self, table: str, key: str = "id") -> int:
        """Return the number of rows, counted in column `key`."""
        column = self._columns.get(table, {}).get(key)
        return 0 if column is None else int(column.shape[0])

    def text(self, table: str, column: str) -> StrArray:
        """Return a string column; ``""`` where absent."""
        return np.asarray(self._get(table, column, ""), dtype=np.str_)

    def real(self, table: str, column: str) -> FloatArray:
        """Return a float column; NaN where absent."""
        return np.asarray(self._get(table, column, np.nan), dtype=np.float64)

    def whole(self, table: str, column: str) -> IntArray:
        """Return an integer column; `MISSING_INT` where absent."""
        return np.asarray(self._get(table, column, MISSING_INT), dtype=np.int64)

    def flag(self, table: str, column: str) -> BoolArray:
        """Return a boolean column; False where absent."""
        return np.asarray(self._get(table, column, False), dtype=np.bool_)

    def _get(self, table: str, column: str, missing: object) -> NDArray[np.generic]:
        found = self._columns.get(table, {}).get(column)
        return found if found is not None else np.full(self.size(table), missing)

    def aligned(self, table: str, ids: StrArray, key: str = "id") -> IntArray:
        """Return the row of `table` for each id, -1 where there is none; the first of duplicates."""
        place = self._places.get((table, key))
        if place is None:
            place = places(self.text(table, key)) if self.size(table, key) else {}
            self._places[table, key] = place
        return look_up(place, ids)


def places(known: StrArray) -> dict[str, int]:
    """Return the position of every id, the first of duplicates."""
    return dict(zip(reversed(known.tolist()), range(known.size - 1, -1, -1), strict=True))


def look_up(place: Mapping[str, int], wanted: StrArray) -> IntArray:
    """Return the position of every id of `wanted`, -1 where absent."""
    return np.fromiter(map(place.get, wanted.tolist(), repeat(-1)), np.int64, wanted.size)


def pick(values: NDArray[Any], rows: IntArray, missing: Any) -> NDArray[Any]:
    """Return values[rows] with `missing` where a row is -1."""
    if not values.size:
        return np.full(rows.size, missing)
    return np.asarray(np.where(rows >= 0, values[rows], missing))


def in_service_of(tables: Tables, table: str, ids: StrArray) -> BoolArray:
    """Return column in_service of a state table for each id; elements without a state are in service."""
    rows = tables.aligned(table, ids)
    return np.asarray(pick(tables.flag(table, "in_service"), rows, True), dtype=np.bool_)
