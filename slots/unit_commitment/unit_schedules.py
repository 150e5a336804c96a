"""Schedules of single units at given costs of being on: minimum times and start classes, exactly."""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import FloatArray, IntArray
from bos_core.grid.schedule import PeriodLimits, ScheduleCosts, schedule_costs
from slots.unit_commitment.contract import Inputs
from slots.unit_commitment.start_costs import start_classes


def unit_schedules(
    inputs: Inputs, unit: IntArray, known: IntArray, on_eur: FloatArray, edge_eur: FloatArray | None = None
) -> ScheduleCosts:
    """Return what schedules of some units cost, starts and stops included.

    Parameters
    ----------
    unit : (chosen,)
    known : (period, chosen)
        1 on, 0 off, -1 free.
    on_eur : (period, chosen)
        What it costs to be on, besides starts and stops.
    edge_eur : (3, period, chosen), optional
        What the first, the last and the only period of a run costs on top.

    Notes
    -----
    A stop may have been later in its period than at the beginning, so a start costs what its class says at least.
    """
    units, h = inputs.grid.units, inputs.period_h
    limits = PeriodLimits.of(units, h)
    classes = [start_classes(units, int(u)) for u in unit]
    coldest = max((int(hours[-1]) for hours, _ in classes if hours.size), default=0)
    off_h = np.maximum(np.arange(-(-coldest // h) + 2) * h - (h - 1), 0)
    start = np.zeros((off_h.size, unit.size))
    for i, (hours, eur) in enumerate(classes):
        if eur.size:
            place = np.maximum(np.searchsorted(hours, off_h, side="right") - 1, 0)
            start[:, i] = eur[place]
    lasted = np.maximum(-(-np.abs(inputs.initial_h[unit]) // h), 1)
    return schedule_costs(
        on_eur,
        known,
        start,
        units.shutdown_eur[unit],
        inputs.initial_on[unit],
        np.zeros_like(lasted) if inputs.free_start else lasted,
        limits.min_up[unit],
        limits.min_down[unit],
        edge_eur,
    )
