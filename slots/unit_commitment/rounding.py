"""A whole commitment from a relaxed one, without any optimiser."""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray
from slots.unit_commitment.formulation import FreeUnits

ON_FROM = 0.01
"""Relaxed share from which a unit is taken on: too much capacity costs less than too little."""


def rounded_commitment(u: FloatArray, free: FreeUnits) -> FloatArray:
    """Round u (period, free) up, then lengthen runs that are too short by staying on."""
    on = np.where(free.known == -1, u > ON_FROM, free.known == 1)
    initial = free.initial_on > 0
    for i in range(on.shape[1]):
        on[:, i] = _mend(
            on[:, i], free.known[:, i] == 0, bool(initial[i]), int(free.min_up[i]), int(free.min_down[i])
        )
    return on.astype(float)


def _mend(on: BoolArray, forbidden: BoolArray, initial: bool, min_up: int, min_down: int) -> BoolArray:
    """Fill short stops, then drop the short runs that an outage cuts, then lengthen the rest."""
    path = on.copy()
    edges = np.flatnonzero(np.diff(np.r_[initial, path]))
    for start, stop in zip(edges, [*edges[1:], None], strict=True):
        if not path[start] and stop is not None and stop - start < min_down and not forbidden[start:stop].any():
            path[start:stop] = True
    previous, since = initial, -path.size
    for t in range(path.size):
        if previous and not path[t] and t - since < min_up and not forbidden[t]:
            path[t] = True
        if path[t] and not previous:
            since = t
            if forbidden[t : t + min_up].any():
                path[t] = False
        previous = bool(path[t])
    return path
