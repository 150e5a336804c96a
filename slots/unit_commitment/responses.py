"""The best schedule of one unit while all others keep theirs (coordinate descent).

One dispatch with the unit on in all periods and one with it off tell what its state is worth in each period; a
dynamic programme over its minimum times and start costs then finds its best schedule. That is exact where nothing
but the commitment couples the periods, and an estimate where ramps or storages do.
"""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import FloatArray, IntArray
from slots.linear_model import LinearModel

_STEPS = 3
"""Steps from the balance over rows and columns: output, injection of a bus, slack of a branch limit."""


class PeriodCosts:
    """Splits the cost of a dispatch by periods: a column belongs where its power counts in the balance.

    Columns that do not count there belong to the period of the rows that they share with others; a column that
    couples periods belongs to the first of them.

    Parameters
    ----------
    model : LinearModel
    balance : (period,)
        Rows of the power balance.
    fixed : (column,)
        Columns that a commitment fixes: their cost is left out.
    """

    def __init__(self, model: LinearModel, balance: IntArray, fixed: IntArray) -> None:
        self._n_period = balance.size
        entries = model.matrix().tocoo()
        row, column = entries.row, entries.col
        of_row = np.full(model.n_row, self._n_period)
        of_row[balance] = np.arange(self._n_period)
        self._period = np.full(model.n_column, self._n_period)
        for _ in range(_STEPS):
            _spread(of_row, self._period, row, column, self._n_period)
            _spread(self._period, of_row, column, row, self._n_period)
        self._cost = model.cost.copy()
        self._cost[fixed] = 0.0
        self.n_column = model.n_column

    def of(self, x: FloatArray) -> FloatArray:
        """Return the cost of each period's dispatch, (period,)."""
        n = x.size
        cost = np.bincount(self._period[:n], self._cost[:n] * x, minlength=self._n_period + 1)
        return cost[: self._n_period]


def _spread(known: IntArray, unknown: IntArray, source: IntArray, target: IntArray, none: int) -> None:
    """Give each target without a period the first one among its neighbours."""
    new = unknown[target] == none
    np.minimum.at(unknown, target[new], known[source[new]])
