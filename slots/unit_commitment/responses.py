"""The best schedule of one unit while all others keep theirs (coordinate descent).

One dispatch with the unit on in all periods and one with it off tell what its state is worth in each period; a
dynamic programme over its minimum times and start costs then finds its best schedule. That is exact where nothing
but the commitment couples the periods, and an estimate where ramps or storages do.
"""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from slots.linear_model import LinearModel
from slots.unit_commitment.contract import FREE, Inputs
from slots.unit_commitment.start_costs import start_classes

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


def best_schedule(
    inputs: Inputs, unit: int, known: IntArray, on_eur: FloatArray, least: tuple[int, int]
) -> BoolArray | None:
    """Return the commitment of a unit that costs least, (period,); None if no schedule keeps the minimum times.

    Parameters
    ----------
    known : (period,)
        1 on, 0 off, -1 free.
    on_eur : (period,)
        What it costs to be on, besides starts and stops.
    least : (int, int)
        Minimum times off and on, in periods.
    """
    h, n_period = inputs.period_h, known.size
    hours, eur = start_classes(inputs.grid.units, unit)
    size = max(*least, (-(-int(hours[-1]) // h) if hours.size else 0) + 1)
    lasted = np.arange(size + 1)
    start = np.zeros(size + 1)
    if eur.size:
        start = eur[np.maximum(np.searchsorted(hours, lasted * h, side="right") - 1, 0)]
    change = np.stack([start, np.full(size + 1, inputs.grid.units.shutdown_eur[unit])])
    change[lasted[None, :] < np.array(least)[:, None]] = np.inf
    value = np.full((2, size + 1), np.inf)
    if inputs.free_start:
        value[:, size] = 0.0
    else:
        before = min(max(-(-abs(int(inputs.initial_h[unit])) // h), 1), size)
        value[int(inputs.initial_on[unit]), before] = 0.0
    came = np.zeros((n_period, 2, size + 1), np.int64)
    for t in range(n_period):
        after = np.full_like(value, np.inf)
        after[:, 2:] = value[:, 1:-1]
        came[t] = lasted - 1 + np.array([[0], [size + 1]])
        longer = value[:, size] < after[:, size]
        after[longer, size] = value[longer, size]
        came[t, longer, size] += 1
        if t or not inputs.free_start:
            leave = value + change
            best = leave.argmin(1)
            after[:, 1] = leave[(1, 0), best[::-1]]
            came[t, :, 1] = best[::-1] + np.array([size + 1, 0])
        after[1] += on_eur[t]
        if known[t] != FREE:
            after[1 - known[t]] = np.inf
        value = after
    state = int(np.argmin(value))
    if not np.isfinite(value.ravel()[state]):
        return None
    on = np.zeros(n_period, bool)
    for t in range(n_period - 1, -1, -1):
        on[t] = state > size
        state = int(came[t].ravel()[state])
    return on
