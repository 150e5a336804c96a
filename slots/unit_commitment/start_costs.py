"""Start-up costs that depend on the time off."""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray, Units


def start_classes(units: Units, unit: int) -> tuple[IntArray, FloatArray]:
    """Return (hours off from which a class applies, cost in EUR) of a unit; never cheaper after a longer stop."""
    chosen = np.flatnonzero(units.start_unit == unit)
    chosen = chosen[np.argsort(units.start_off_h[chosen], kind="stable")]
    return units.start_off_h[chosen], np.maximum.accumulate(units.start_eur[chosen])


def start_cost_eur(units: Units, unit: int, off_h: int) -> float:
    """Return the cost of a start after `off_h` hours off."""
    hours, cost = start_classes(units, unit)
    if not cost.size:
        return 0.0
    return float(cost[max(int(np.searchsorted(hours, off_h, side="right")) - 1, 0)])


def switching_cost_eur(
    units: Units, on: BoolArray, initial_on: BoolArray, initial_h: IntArray, period_h: int, free_start: bool
) -> FloatArray:
    """Return start and shutdown costs of a schedule, (period, unit) in EUR; read from the schedule alone.

    Parameters
    ----------
    on : (period, unit)
    initial_on : (unit,)
    initial_h : (unit,)
        Hours on (positive) or off (negative) before the first period.
    free_start : bool
        The first period's commitment costs nothing, and a unit that is off in it counts as cold.
    """
    cost = np.zeros(on.shape)
    for i in np.flatnonzero(units.committable):
        before = bool(on[0, i]) if free_start else bool(initial_on[i])
        off_h = COLD_H if free_start else abs(int(initial_h[i]))
        cost[:, i] = schedule_switching_eur(units, int(i), on[:, i], before, off_h, period_h)
    return cost


def schedule_switching_eur(
    units: Units, unit: int, on: BoolArray, initial_on: bool, off_h: int, period_h: int
) -> FloatArray:
    """Return start and shutdown costs of a unit's schedule, (period,) in EUR; `off_h` are hours off before it."""
    cost = np.zeros(on.size)
    for t in np.flatnonzero(np.diff(on, prepend=initial_on)).tolist():
        if on[t]:
            cost[t] = start_cost_eur(units, unit, off_h + t * period_h)
        else:
            cost[t], off_h = units.shutdown_eur[unit], -t * period_h
    return cost


COLD_H = 1_000_000
"""Hours off that stand for an unknown, long time."""
