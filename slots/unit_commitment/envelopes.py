"""Units without commitment: any output from zero on, along the convex envelope of their costs.

Up to the output of least average cost a unit pays that average, beyond it its cost segments. That is what a unit
costs at best whose state is not decided: the hull of being off and of running at any output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import FloatArray, IntArray
from slots.linear_model import Term
from slots.plant import Plant, Segments, present

_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Envelopes:
    """Units without commitment, in a model.

    Attributes
    ----------
    unit : (chosen,)
    first : (period, chosen)
        Columns of the output up to that of least average cost.
    later : (segment, period, chosen)
        Columns of the output beyond it; -1 where there is none.
    low_mw, high_mw : (period, chosen)
        Limits of the output.
    """

    unit: IntArray
    first: IntArray
    later: IntArray
    low_mw: FloatArray
    high_mw: FloatArray

    @property
    def output(self) -> list[Term]:
        """Terms of the output, (period, chosen)."""
        return [(self.first, 1.0), *(present(columns) for columns in self.later)]

    def p_mw(self, x: FloatArray) -> FloatArray:
        """Return the output of a solution, (period, chosen)."""
        return np.asarray(sum(x[columns] * factor for columns, factor in self.output))


def add_envelopes(
    plant: Plant, unit: IntArray, low_mw: FloatArray, high_mw: FloatArray, run_eur_per_h: FloatArray
) -> Envelopes:
    """Add the output of units without commitment.

    Parameters
    ----------
    unit : (chosen,)
    low_mw, high_mw : (period, chosen)
        Limits of the output; the lower one lies at most at the minimum output.
    run_eur_per_h : (chosen,)
        What running costs on top of the minimum output and the segments.
    """
    units, model, h = plant.grid.units, plant.model, plant.period_h
    bottom, top = units.p_mw_min[unit], units.p_mw_max[unit]
    segments = Segments.of(plant.grid, unit)
    room = segment_room(segments, np.maximum(top - bottom, 0.0))
    ends = np.column_stack([bottom, bottom[:, None] + np.cumsum(room, axis=1)])
    cost = np.column_stack([np.zeros(unit.size), np.cumsum(room * segments.eur_per_mwh, axis=1)])
    fixed = units.minimum_output_eur_per_h[unit] + run_eur_per_h
    average = (fixed[:, None] + cost) / np.maximum(ends, _TINY)
    best = average.argmin(1)
    end = ends[np.arange(unit.size), best]
    first = model.add_columns(high_mw.shape, low_mw, np.minimum(end, high_mw), average.min(1) * h)
    plant.inject(first, units.bus[unit])
    later = np.full((room.shape[1], *high_mw.shape), -1)
    for s in range(room.shape[1]):
        i = np.flatnonzero((s >= best) & (room[:, s] > 0))
        width = np.clip(high_mw[:, i] - ends[i, s], 0.0, room[i, s])
        later[s][:, i] = model.add_columns(width.shape, 0.0, width, segments.eur_per_mwh[i, s] * h)
        plant.inject(later[s][:, i], units.bus[unit[i]])
    added = Envelopes(unit, first, later, low_mw, high_mw)
    plant.output.append((unit, added.output))
    return added


def segment_room(segments: Segments, width_mw: FloatArray) -> FloatArray:
    """Return how much of each segment a width above the minimum output uses, (..., unit, segment)."""
    finite = np.where(np.isinf(segments.width_mw), 0.0, segments.width_mw)
    below = np.cumsum(finite, axis=-1) - finite
    return np.asarray(np.clip(width_mw[..., None] - below, 0.0, segments.width_mw))
