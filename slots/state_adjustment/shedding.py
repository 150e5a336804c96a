"""The load that would have to be shed to remove one overload, by distribution factors."""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import FloatArray, IntArray

_SMALL_EFFECT = 1e-9
"""A change of loading per MW below this is none."""


def least_shedding(
    factor: FloatArray,
    excess: FloatArray,
    load_bus: IntArray,
    load_mw: FloatArray,
    unit_bus: IntArray,
    unit_mw: FloatArray,
) -> FloatArray:
    """Return the least load that removes each overload alone, (cut,), in MW; NaN where no shedding can.

    Every MW shed is matched by a MW less of generation. For one overload the best pairs of load and unit come
    first, so filling them in the order of their effect solves the linear programme of that overload exactly.
    What the shedding does to other branches is not looked at.

    Parameters
    ----------
    factor : (cut, bus)
        Change of the loading for one MW more injection.
    excess : (cut,)
        Loading above the limit.
    load_bus, load_mw : (load,)
        Where load can be shed, and how much.
    unit_bus, unit_mw : (unit,)
        Where output can be lowered, and by how much.
    """
    sheds, lowers = load_mw > 0.0, unit_mw > 0.0
    load_bus, load_mw, unit_bus, unit_mw = load_bus[sheds], load_mw[sheds], unit_bus[lowers], unit_mw[lowers]
    return np.array(
        [
            _least(row[load_bus], load_mw, row[unit_bus], unit_mw, float(beyond))
            for row, beyond in zip(factor, excess, strict=True)
        ],
        dtype=np.float64,
    )


def _least(
    at_load: FloatArray, load_mw: FloatArray, at_unit: FloatArray, unit_mw: FloatArray, excess: float
) -> float:
    if excess <= 0.0:
        return 0.0
    loads, units = np.argsort(at_load, kind="stable"), np.argsort(-at_unit, kind="stable")
    load_end, unit_end = np.cumsum(load_mw[loads]), np.cumsum(unit_mw[units])
    if not load_end.size or not unit_end.size:
        return float("nan")
    end = np.unique(np.concatenate([load_end, unit_end]))
    end = end[(end > 0.0) & (end <= min(load_end[-1], unit_end[-1]))]
    load = loads[np.searchsorted(load_end, end)]
    unit = units[np.searchsorted(unit_end, end)]
    effect = at_unit[unit] - at_load[load]
    useful = effect > _SMALL_EFFECT
    effect, end = effect[useful], end[useful]
    start = np.r_[0.0, end[:-1]]
    removed = np.cumsum(effect * (end - start))
    place = int(np.searchsorted(removed, excess))
    if place == end.size:
        return float("nan")
    before = removed[place - 1] if place else 0.0
    return float(start[place] + (excess - before) / effect[place])
