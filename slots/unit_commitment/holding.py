"""Units that clearly hold one state: what it would cost at given prices to do anything else.

At the prices of a relaxation, the units are independent of each other, and a dynamic programme finds each one's
best schedule exactly. A unit whose state is not in doubt needs no columns for its decisions; that it is really
better off so at the prices of the final relaxation is checked, and what it is not, is taken off the bound
(Lagrangian relaxation; Muckstadt & Koenig 1977).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import FloatArray, IntArray
from bos_core.grid.schedule import PeriodLimits
from slots.plant import Segments
from slots.unit_commitment.contract import FREE, Inputs
from slots.unit_commitment.envelopes import segment_room
from slots.unit_commitment.outline import Outline
from slots.unit_commitment.unit_schedules import unit_schedules

UNUSED = 1e-6
"""Share of a range that counts as no use of it, or as all but."""


@dataclass(frozen=True, eq=False)
class Prices:
    """Prices of energy (period, bus) and of reserve in both directions (period,), in EUR/MW for a period."""

    energy: FloatArray
    up: FloatArray
    down: FloatArray


def holders(inputs: Inputs, known: IntArray, found: Outline, least_eur: float) -> IntArray:
    """Return the known commitment with that of units added that clearly stay as they are, (period, unit).

    A unit is held if the outline never changes its use, any other schedule costs at least `least_eur` more at the
    outline's prices, and nothing but the prices matters to it: ramps that cannot bind, no energy budget.
    """
    units, h = inputs.grid.units, inputs.period_h
    limits = PeriodLimits.of(units, h)
    width = units.p_mw_max - units.p_mw_min
    plain = inputs.integer & ~np.isfinite(inputs.energy_mwh_max) & (known == FREE).any(0)
    for ramp in (limits.ramp_up_mw, limits.ramp_down_mw, units.ramp_up_mw_per_h, units.ramp_down_mw_per_h):
        plain &= ramp >= width
    none = np.zeros(known.shape[0])
    prices = Prices(found.price_eur_per_mwh * h, none, none)
    held = known.copy()
    for state, used in ((0, (found.used < UNUSED).all(0)), (1, (found.used > 1 - UNUSED).all(0))):
        same = inputs.free_start | (inputs.initial_on == bool(state))
        unit = np.flatnonzero(plain & used & same & (known != 1 - state).all(0))
        cost = _state_cost(inputs, unit, prices)
        other = unit_schedules(inputs, unit, known[:, unit], cost).through_eur[:, 1 - state].min(0)
        held[:, unit[other >= state * cost.sum(0) + least_eur]] = state
    return held


def regret_eur(inputs: Inputs, known: IntArray, held: IntArray, prices: Prices) -> FloatArray:
    """Return by how much the best schedule of each held unit is cheaper than its own at some prices, (unit,)."""
    regret = np.zeros(known.shape[1])
    for state in (0, 1):
        unit = np.flatnonzero((known == FREE).any(0) & (held == state).all(0))
        cost = _state_cost(inputs, unit, prices)
        best = unit_schedules(inputs, unit, known[:, unit], cost).least_eur
        regret[unit] = np.maximum(state * cost.sum(0) - best, 0.0)
    return regret


def _state_cost(inputs: Inputs, unit: IntArray, prices: Prices) -> FloatArray:
    """Return what it costs to be on, at the best output for the prices, (period, chosen)."""
    units, h = inputs.grid.units, inputs.period_h
    high = np.minimum(inputs.available_mw, units.p_mw_max)[:, unit]
    low = np.minimum(units.p_mw_min[unit], high)
    segments = Segments.of(inputs.grid, unit)
    energy = prices.energy[:, units.bus[unit]]
    running = energy[:, :, None] - segments.eur_per_mwh * h + prices.down[:, None, None]
    best = np.maximum(running, prices.up[:, None, None])
    earned = energy * low + (segment_room(segments, high - low) * best).sum(2)
    return np.asarray(units.minimum_output_eur_per_h[unit] * h - earned)
