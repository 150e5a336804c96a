"""Units whose commitment is left to a later decision: which they are, and the rules that all programs share."""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.grid.schedule import TOLERANCE_MW
from slots.unit_commitment.contract import FREE, RELAXED_RUN_H, Inputs
from slots.unit_commitment.start_costs import start_classes


def relaxed_units(inputs: Inputs, known: IntArray) -> IntArray:
    """Return the relaxed units with something undecided in `known` (period, unit)."""
    return np.flatnonzero(inputs.grid.units.committable & ~inputs.integer & (known == FREE).any(0))


def relaxed_low_mw(inputs: Inputs, unit: IntArray, known: IntArray, high_mw: FloatArray) -> FloatArray:
    """Return the least output of relaxed units, (period, chosen): zero unless they are known to be on.

    `known` and `high_mw`, the highest output, are (period, unit).
    """
    low = np.minimum(inputs.grid.units.p_mw_min[unit], high_mw[:, unit])
    return np.asarray(np.where(known[:, unit] == 1, low, 0.0))


def relaxed_start_eur_per_h(inputs: Inputs, unit: IntArray) -> FloatArray:
    """Return what the starts of relaxed units add to each hour of running, (chosen,); 0 for the others."""
    units, added = inputs.grid.units, np.zeros(unit.size)
    for i in np.flatnonzero(~inputs.integer[unit]):
        cost = start_classes(units, int(unit[i]))[1]
        added[i] = cost[0] / RELAXED_RUN_H if cost.size else 0.0
    return added


def counts_as_on(inputs: Inputs, unit: IntArray, known: IntArray, p_mw: FloatArray) -> BoolArray:
    """Return whether relaxed units count as on, (period, chosen): from half their minimum output on.

    `known` and `p_mw` are (period, unit).
    """
    enough = np.maximum(inputs.grid.units.p_mw_min[unit] / 2, TOLERANCE_MW)
    return np.asarray((p_mw[:, unit] >= enough) | (known[:, unit] == 1))
