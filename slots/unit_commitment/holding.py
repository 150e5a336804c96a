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
from slots.unit_commitment.outline import Outline, segment_room
from slots.unit_commitment.start_costs import start_classes

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
    plain = units.committable & ~np.isfinite(inputs.energy_mwh_max) & (known == FREE).any(0)
    for ramp in (limits.ramp_up_mw, limits.ramp_down_mw, units.ramp_up_mw_per_h, units.ramp_down_mw_per_h):
        plain &= ramp >= width
    n_period = known.shape[0]
    prices = Prices(found.price_eur_per_mwh * h, np.zeros(n_period), np.zeros(n_period))
    held = known.copy()
    for state, used in ((0, (found.used < UNUSED).all(0)), (1, (found.used > 1 - UNUSED).all(0))):
        same = inputs.free_start | (inputs.initial_on == bool(state))
        unit = np.flatnonzero(plain & used & same & (known != 1 - state).all(0))
        cost = _state_cost(inputs, unit, prices)
        other = _cheapest(inputs, unit, known[:, unit], cost, state)[1]
        stay = unit[other >= state * cost.sum(0) + least_eur]
        held[:, stay] = state
    return held


def regret_eur(inputs: Inputs, known: IntArray, held: IntArray, prices: Prices) -> FloatArray:
    """Return by how much the best schedule of each held unit is cheaper than its own at some prices, (unit,)."""
    regret = np.zeros(known.shape[1])
    for state in (0, 1):
        unit = np.flatnonzero((known == FREE).any(0) & (held == state).all(0))
        cost = _state_cost(inputs, unit, prices)
        other = _cheapest(inputs, unit, known[:, unit], cost, state)[1]
        regret[unit] = np.maximum(state * cost.sum(0) - other, 0.0)
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


def _cheapest(
    inputs: Inputs, unit: IntArray, known: IntArray, cost: FloatArray, state: int
) -> tuple[FloatArray, FloatArray]:
    """Return the least cost of always being in a state, and of any schedule that is not, (chosen,).

    Dynamic programme over (left the state or not, off or on, periods in that state); a start costs what its class
    says, at least. Both are inf where no such schedule keeps the minimum times.
    """
    units, h, (n_period, n) = inputs.grid.units, inputs.period_h, known.shape
    limits = PeriodLimits.of(units, h)
    least = np.stack([limits.min_down[unit], limits.min_up[unit]])
    classes = [start_classes(units, int(u)) for u in unit]
    cold = [int(hours[-1]) if hours.size else 0 for hours, _ in classes]
    size = max(int(least.max(initial=1)), -(-max(cold, default=0) // h) + 1)
    period = np.arange(size + 1)
    start = np.zeros((size + 1, n))
    for i, (hours, eur) in enumerate(classes):
        if eur.size:
            age = np.searchsorted(hours, period * h - (h - 1), side="right") - 1
            start[:, i] = eur[np.maximum(age, 0)] if inputs.integer[unit[i]] else eur[0]
    start[period[:, None] < least[0]] = np.inf
    stop = np.where(period[:, None] < least[1], np.inf, units.shutdown_eur[unit])
    value = np.full((2, 2, size + 1, n), np.inf)
    if inputs.free_start:
        value[0, :, size] = 0.0
    else:
        lasted = np.clip(-(-np.abs(inputs.initial_h[unit]) // h), 1, size)
        value[0, inputs.initial_on[unit].astype(int), lasted, np.arange(n)] = 0.0
    for t in range(n_period):
        switched = np.stack([(value[:, 1] + stop).min(1), (value[:, 0] + start).min(1)], axis=1)
        if t == 0 and inputs.free_start:
            switched[:] = np.inf
        aged = np.full_like(value, np.inf)
        aged[:, :, 2:] = value[:, :, 1:-1]
        aged[:, :, size] = np.minimum(aged[:, :, size], value[:, :, size])
        aged[:, :, 1] = switched
        aged[:, 1] += cost[t]
        aged[:, 0][:, :, known[t] == 1] = np.inf
        aged[:, 1][:, :, known[t] == 0] = np.inf
        value = aged
        value[1, 1 - state] = np.minimum(value[1, 1 - state], value[0, 1 - state])
        value[0, 1 - state] = np.inf
    return value[0].min((0, 1)), value[1].min((0, 1))
