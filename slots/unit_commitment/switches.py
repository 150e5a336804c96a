"""Single changes of a commitment, valued by the reduced costs of a dispatch (price-based decommitment).

With a commitment fixed, the cost of the best dispatch is convex in it, so the reduced costs of the on/off
columns bound from above what a change can gain (Tseng, Li & Oren 2000, "Solving the unit commitment problem by
a unit decommitment method").
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from slots.unit_commitment.contract import FREE


@dataclass(frozen=True, order=True)
class Switch:
    """Turn a unit on or off in the periods first .. stop - 1; `gain_eur` is the most that it can save."""

    gain_eur: float
    unit: int
    first: int
    stop: int
    on: bool


@dataclass(frozen=True, eq=False)
class SwitchRules:
    """What a unit's commitment must obey; arrays over (free,) or (period, free) units."""

    known: IntArray
    initial_on: BoolArray
    free_start: bool
    min_up: IntArray
    min_down: IntArray
    first_stop_barred: BoolArray


def best_switches(on: BoolArray, price_eur: FloatArray, rules: SwitchRules, least_eur: float) -> list[Switch]:
    """Return the best switch of each unit with a gain of at least `least_eur`, the best first.

    Parameters
    ----------
    on : (period, free)
    price_eur : (period, free)
        Reduced costs of the on/off columns.
    """
    found = []
    for i in range(on.shape[1]):
        if (rules.known[:, i] == FREE).any():
            best = max(_switches(i, on[:, i], price_eur[:, i], rules), default=None)
            if best is not None and best.gain_eur >= least_eur:
                found.append(best)
    return sorted(found, reverse=True)


def _switches(i: int, on: BoolArray, price: FloatArray, rules: SwitchRules) -> Iterator[Switch]:
    """Yield the best switch inside each run of a unit: all of it, its beginning, its end, or a piece."""
    n = on.size
    edges = [0, *(np.flatnonzero(np.diff(on)) + 1).tolist(), n]
    for a, b in itertools.pairwise(edges):
        running = bool(on[a])
        worth = np.concatenate([[0.0], np.cumsum(price[a:b] if running else -price[a:b])])
        held = np.concatenate([[0], np.cumsum(rules.known[a:b, i] == int(running))])
        least, other = rules.min_up[i], rules.min_down[i]
        if not running:
            least, other = other, least
        began_before = a == 0 and not rules.free_start and bool(rules.initial_on[i]) == running
        unbounded = a == 0 and (rules.free_start or began_before)
        c, d = np.arange(b - a)[:, None], np.arange(1, b - a + 1)[None, :]
        fits = (d > c) & ((c == 0) | (c >= least) | unbounded)
        fits &= (d == b - a) | (b - a - d >= least) | (b == n)
        fits &= (d == b - a) | (d - c >= other) | ((c == 0) & (not began_before))
        fits &= held[d] == held[c]
        if running and a == 0 and rules.first_stop_barred[i]:
            fits[0] = False
        gain = np.where(fits, worth[d] - worth[c], -np.inf)
        first, last = np.unravel_index(int(np.argmax(gain)), gain.shape)
        if np.isfinite(gain[first, last]):
            yield Switch(float(gain[first, last]), i, a + int(first), a + int(last) + 1, not running)
