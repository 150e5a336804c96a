"""One sparse linear model for every optimiser: columns and rows are added as whole arrays.

The model only grows: rows that are added later may hold any columns, old rows gain none but new columns. A back
end (`slots.highs_session`, `slots.glpk_session`) sends what is new and solves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import scipy.sparse as sp

from bos_core.grid.model import BoolArray, FloatArray, IntArray

INF = float("inf")
Term: TypeAlias = tuple[IntArray, FloatArray | float]
"""Columns and their coefficients; leading axes are the rows' axes, further axes are summed."""


def _filled(shape: tuple[int, ...], value: np.ndarray | float, kind: type = float) -> np.ndarray:
    """Return one value for each place of a shape, flat; as `np.broadcast_to`, and quicker for small blocks."""
    block = np.empty(shape, kind)
    block[...] = value
    return block.ravel()


@dataclass(frozen=True, eq=False)
class Solution:
    """What an optimiser found.

    Attributes
    ----------
    status : str
        ``optimal`` (within the gap), ``feasible`` (a limit stopped the search), ``infeasible``, ``unbounded`` or
        ``no solution`` (a limit stopped the search before any solution).
    x : (column,)
        Values; empty without a solution.
    objective, bound : float
        Both in the objective's unit; the bound is the optimiser's own proof.
    row_dual : (row,)
        Change of the objective per unit of the row's bound; empty for integer models.
    column_dual : (column,)
        Reduced cost: change of the objective per unit of the column's bound; empty for integer models.
    """

    status: str
    x: FloatArray
    objective: float
    bound: float
    row_dual: FloatArray = field(default_factory=lambda: np.zeros(0))
    column_dual: FloatArray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def missing(cls, status: str, bound: float = -INF) -> Solution:
        """Return the answer of a solve without a solution."""
        return cls(status, np.zeros(0), INF, bound)

    @property
    def found(self) -> bool:
        """Whether there is a solution."""
        return self.x.size > 0


class LinearModel:
    """min cost @ x + offset, subject to row bounds, column bounds and integrality."""

    def __init__(self) -> None:
        self.n_column = 0
        self.n_row = 0
        self.offset = 0.0
        self._columns: list[tuple[FloatArray, FloatArray, FloatArray, BoolArray]] = []
        self._row_bounds: list[tuple[FloatArray, FloatArray]] = []
        self._entries: list[tuple[IntArray, IntArray, FloatArray]] = []

    def add_columns(
        self,
        shape: tuple[int, ...],
        lower: FloatArray | float = 0.0,
        upper: FloatArray | float = INF,
        cost: FloatArray | float = 0.0,
        integer: BoolArray | bool = False,
    ) -> IntArray:
        """Add a block of columns; bounds, cost and integrality broadcast to `shape`.

        Returns
        -------
        IntArray
            Positions of the columns, with `shape`.
        """
        size = int(np.prod(shape))
        self._columns.append(
            (
                _filled(shape, lower),
                _filled(shape, upper),
                _filled(shape, cost),
                _filled(shape, integer, bool),
            )
        )
        first, self.n_column = self.n_column, self.n_column + size
        return np.arange(first, self.n_column).reshape(shape)

    def add_rows(
        self,
        terms: Sequence[Term],
        lower: FloatArray | float,
        upper: FloatArray | float,
        shape: tuple[int, ...],
    ) -> IntArray:
        """Add a block of rows ``lower <= sum of terms <= upper`` and return their positions."""
        size = int(np.prod(shape))
        first, self.n_row = self.n_row, self.n_row + size
        rows = np.arange(first, self.n_row).reshape(shape)
        for columns, coefficient in terms:
            place = rows.reshape(shape + (1,) * (columns.ndim - len(shape)))
            values = _filled(columns.shape, coefficient)
            keep = values != 0.0
            entry_rows = _filled(columns.shape, place, int)
            self._entries.append((entry_rows[keep], columns.ravel()[keep], values[keep]))
        self._row_bounds.append((_filled(shape, lower), _filled(shape, upper)))
        return rows

    def add_entries(self, rows: IntArray, columns: IntArray, values: FloatArray) -> None:
        """Add coefficients, arrays of one shape; of row and column, one must be new to all sessions."""
        self._entries.append((rows.ravel(), columns.ravel(), values.ravel()))

    def _merge(self) -> None:
        """Join the blocks so that each list holds one block: repeated reading stays cheap."""
        if len(self._columns) > 1:
            self._columns = [tuple(np.concatenate(part) for part in zip(*self._columns, strict=True))]  # type: ignore[list-item]
        if len(self._row_bounds) > 1:
            self._row_bounds = [tuple(np.concatenate(part) for part in zip(*self._row_bounds, strict=True))]  # type: ignore[list-item]
        if len(self._entries) > 1:
            self._entries = [tuple(np.concatenate(part) for part in zip(*self._entries, strict=True))]  # type: ignore[list-item]

    def _all_entries(self) -> tuple[IntArray, IntArray, FloatArray]:
        self._merge()
        empty = np.zeros(0, int)
        return self._entries[0] if self._entries else (empty, empty, np.zeros(0))

    @property
    def lower(self) -> FloatArray:
        """Lower bounds of the columns."""
        self._merge()
        return self._columns[0][0] if self._columns else np.zeros(0)

    @property
    def upper(self) -> FloatArray:
        """Upper bounds of the columns."""
        self._merge()
        return self._columns[0][1] if self._columns else np.zeros(0)

    @property
    def cost(self) -> FloatArray:
        """Cost of the columns."""
        self._merge()
        return self._columns[0][2] if self._columns else np.zeros(0)

    @property
    def integer(self) -> BoolArray:
        """Which columns are integer."""
        self._merge()
        return self._columns[0][3] if self._columns else np.zeros(0, bool)

    @property
    def row_lower(self) -> FloatArray:
        """Lower bounds of the rows."""
        self._merge()
        return self._row_bounds[0][0] if self._row_bounds else np.zeros(0)

    @property
    def row_upper(self) -> FloatArray:
        """Upper bounds of the rows."""
        self._merge()
        return self._row_bounds[0][1] if self._row_bounds else np.zeros(0)

    def columns_matrix(self, first_column: int, stop_row: int) -> sp.csc_matrix:
        """Return the columns from `first_column` on, within the rows before `stop_row`."""
        rows, columns, values = self._all_entries()
        keep = (columns >= first_column) & (rows < stop_row)
        shape = (stop_row, self.n_column - first_column)
        found = sp.csc_matrix((values[keep], (rows[keep], columns[keep] - first_column)), shape=shape)
        found.sum_duplicates()
        return found

    def matrix(self, first_row: int = 0) -> sp.csr_matrix:
        """Return the rows from `first_row` on, sorted and without repeated entries."""
        rows, columns, values = self._all_entries()
        if first_row:
            keep = rows >= first_row
            rows, columns, values = rows[keep] - first_row, columns[keep], values[keep]
        found = sp.csr_matrix((values, (rows, columns)), shape=(self.n_row - first_row, self.n_column))
        found.sum_duplicates()
        return found


class Session(Protocol):
    """A solver that holds a growing model.

    `set_bounds` changes column bounds for the solves that follow; the model itself keeps its own. `timed_out`
    says whether any solve was ended by its time limit, so that the answer may not repeat.
    """

    model: LinearModel
    timed_out: bool

    def set_bounds(self, columns: IntArray, lower: FloatArray, upper: FloatArray) -> None:
        """Replace the bounds of some columns."""

    def solve_relaxation(self) -> Solution:
        """Solve without integrality."""

    def solve_integer(self, gap: float, nodes_max: int, start: FloatArray | None = None) -> Solution:
        """Solve with integrality to a relative gap; `start` is a known solution."""
