"""Units that choose among a growing set of schedules (column generation, Dantzig & Wolfe 1960).

Where nothing but prices couples a unit to the rest of the model (no ramp that can bind, no energy budget), a
dynamic programme finds its best schedule at given prices exactly. The model then needs no rows for minimum times
and start classes: a unit has a few schedules to begin with, and gets another one whenever the prices of a
relaxation say that it would be cheaper. Rows exist only where the schedules of a unit differ. Once no unit finds a
better schedule, the relaxation is that of all schedules; before that, what the units would still save at the
prices, taken off its cost, bounds the cost from below (Lagrangian relaxation; Muckstadt & Koenig 1977).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.grid.schedule import PeriodLimits, ScheduleCosts
from slots.linear_model import INF
from slots.plant import Plant, Segments, pick_limits
from slots.unit_commitment.contract import FREE, Inputs
from slots.unit_commitment.envelopes import segment_room
from slots.unit_commitment.formulation import UnitRange
from slots.unit_commitment.start_costs import COLD_H, schedule_switching_eur
from slots.unit_commitment.unit_schedules import unit_schedules

_SAME_MW = 1e-9


@dataclass(frozen=True, eq=False)
class Prices:
    """Prices of energy (period, bus) and of reserve in both directions (period,), in EUR/MW for a period."""

    energy: FloatArray
    up: FloatArray
    down: FloatArray


@dataclass(frozen=True, eq=False)
class Offers:
    """The best schedule of each unit at some prices.

    Attributes
    ----------
    on : (period, chosen)
    regret_eur : (chosen,)
        By how much it is cheaper than the best one that the unit has.
    """

    on: BoolArray
    regret_eur: FloatArray


class PricedUnits:
    """Units that depend on nothing but prices, and what their schedules cost at given ones.

    Parameters
    ----------
    inputs : Inputs
    unit : (chosen,)
    known, high_mw : (period, unit)
        Commitment known in advance (-1 free) and highest output of all units.
    """

    def __init__(self, inputs: Inputs, unit: IntArray, known: IntArray, high_mw: FloatArray) -> None:
        self.inputs, self.unit = inputs, unit
        limits = pick_limits(PeriodLimits.of(inputs.grid.units, inputs.period_h), unit)
        self.range = UnitRange.of(inputs, unit, limits, known[:, unit], high_mw[:, unit])
        self.known = known[:, unit].copy()
        self.known[0] = np.where(self.range.first_stop_barred, 1, self.known[0])
        self.segments = Segments.of(inputs.grid, unit)

    def room_mw(self, who: IntArray, on: BoolArray) -> FloatArray:
        """Return how much of each segment some schedules (schedule, period) of units `who` allow to use.

        Less next to starts and stops; shape (schedule, period, segment).
        """
        r, inputs = self.range, self.inputs
        initial = on[:, 0] if inputs.free_start else inputs.initial_on[self.unit[who]]
        starts = on & ~np.column_stack([initial, on[:, :-1]])
        stops = on & ~np.column_stack([on[:, 1:], on[:, -1]])
        cut = np.maximum(r.after_start_mw.T[who] * starts, r.before_stop_mw.T[who] * stops)
        return self._room(who, (r.width_mw.T[who] - cut) * on)

    def _room(self, who: IntArray, width_mw: FloatArray) -> FloatArray:
        """Return how much of each segment widths (schedule, period) reach, (schedule, period, segment)."""
        chosen = Segments(self.segments.width_mw[who][:, None], self.segments.eur_per_mwh[who][:, None])
        return segment_room(chosen, width_mw)

    def widest_mw(self) -> FloatArray:
        """Return how much of each segment a unit uses at most, (chosen, period, segment)."""
        return self._room(np.arange(self.unit.size), self.range.width_mw.T)

    def earnings_eur(self, prices: Prices) -> tuple[FloatArray, FloatArray]:
        """Return what the minimum output costs less what it earns, and what a MW of each segment earns.

        Shapes (chosen, period) and (chosen, period, segment), in EUR for a period.
        """
        units, h = self.inputs.grid.units, self.inputs.period_h
        energy = prices.energy[:, units.bus[self.unit]].T
        running = energy[:, :, None] - self.segments.eur_per_mwh[:, None] * h + prices.down[:, None]
        margin = np.maximum(running, prices.up[:, None])
        at_minimum = units.minimum_output_eur_per_h[self.unit][:, None] * h - energy * self.range.low_mw.T
        return at_minimum, np.maximum(margin, 0.0)

    def best(self, prices: Prices) -> ScheduleCosts:
        """Return the schedules that are best at some prices and what they cost, less what they earn."""
        at_minimum, margin = self.earnings_eur(prices)
        r, who = self.range, np.arange(self.unit.size)

        def earned(cut: FloatArray) -> FloatArray:
            return np.asarray((self._room(who, (r.width_mw - cut).T) * margin).sum(2).T)

        whole = earned(np.zeros_like(r.width_mw))
        cuts = r.after_start_mw, r.before_stop_mw, np.maximum(r.after_start_mw, r.before_stop_mw)
        edges = np.stack([whole - earned(cut) for cut in cuts])
        return unit_schedules(self.inputs, self.unit, self.known, at_minimum.T - whole, edges)

    def switching_eur(self, who: IntArray, on: BoolArray) -> FloatArray:
        """Return what starts and stops of some schedules (schedule, period) cost, (schedule,)."""
        inputs, units = self.inputs, self.inputs.grid.units
        cost = np.zeros(who.size)
        for k, (i, path) in enumerate(zip(self.unit[who].tolist(), on, strict=True)):
            before = bool(path[0]) if inputs.free_start else bool(inputs.initial_on[i])
            off_h = COLD_H if inputs.free_start else abs(int(inputs.initial_h[i]))
            cost[k] = schedule_switching_eur(units, i, path, before, off_h, inputs.period_h).sum()
        return cost


def depend_on_prices_alone(inputs: Inputs, known: IntArray, loose: BoolArray, high_mw: FloatArray) -> IntArray:
    """Return the undecided units whose ramps cannot bind and that have no energy budget.

    Parameters
    ----------
    known, high_mw : (period, unit)
    loose : (unit,)
        Units whose minimum times are given up.
    """
    units = inputs.grid.units
    undecided = units.committable & inputs.integer & (known == FREE).any(0) & ~loose
    unit = np.flatnonzero(undecided & ~np.isfinite(inputs.energy_mwh_max))
    limits = pick_limits(PeriodLimits.of(units, inputs.period_h), unit)
    r = UnitRange.of(inputs, unit, limits, known[:, unit], high_mw[:, unit])
    within_hour = np.minimum(units.ramp_up_mw_per_h, units.ramp_down_mw_per_h)[unit] >= r.width_mw.max(0)
    return unit[within_hour & ~(r.rises | r.falls).any(0)]


class ScheduleChoice:
    """Units with a set of schedules each, added to a plant.

    Parameters
    ----------
    plant : Plant
    priced : PricedUnits
    on : (period, chosen)
        Each unit's first schedule.

    Attributes
    ----------
    unit : (chosen,)
    u : (period, chosen)
        Columns: on.
    p : (period, chosen, segment)
        Columns: output above the minimum, by segment.
    """

    def __init__(self, plant: Plant, priced: PricedUnits, on: BoolArray) -> None:
        self.plant, self.priced, self.unit = plant, priced, priced.unit
        units, h, n = priced.inputs.grid.units, priced.inputs.period_h, self.unit.size
        self.owner = np.arange(n)
        self.on = np.ascontiguousarray(on.T)
        self.room = priced.room_mw(self.owner, self.on)
        self.switching = priced.switching_eur(self.owner, self.on)
        self.column = np.full(n, -1)
        self._place = {(k, path.tobytes()): k for k, path in enumerate(self.on)}
        model, bus = plant.model, units.bus[self.unit]
        self.u = model.add_columns(on.shape, 0.0, 1.0, units.minimum_output_eur_per_h[self.unit] * h)
        whole = priced.widest_mw()
        self.p = model.add_columns(
            (*on.shape, whole.shape[2]), 0.0, whole.transpose(1, 0, 2), priced.segments.eur_per_mwh * h
        )
        plant.inject(self.u, bus, priced.range.low_mw)
        for s in range(self.p.shape[2]):
            plant.inject(self.p[:, :, s], bus)
            if plant.reserve:
                plant.up.append((self.p[:, :, s], -1.0))
                plant.down.append((self.p[:, :, s], 1.0))
        if plant.reserve:
            plant.up_fixed_mw += self.room.sum((0, 2))
        model.offset += float(self.switching.sum())
        self._u_row = np.full(self.u.shape, -1)
        self._p_row = np.full(self.p.shape, -1)
        self._sum_row = np.full(n, -1)

    def bounds(self) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return columns with the bounds that hold while the schedules of a unit agree, each (column,)."""
        first, n = self.on[: self.unit.size].T.astype(float), self.unit.size
        top = np.where(self._p_row < 0, self.room[:n].transpose(1, 0, 2), self.plant.model.upper[self.p])
        lower, upper = np.where(self._u_row < 0, first, 0.0), np.where(self._u_row < 0, first, 1.0)
        return (
            np.concatenate([self.u.ravel(), self.p.ravel()]),
            np.concatenate([lower.ravel(), np.zeros(self.p.size)]),
            np.concatenate([upper.ravel(), top.ravel()]),
        )

    def offers(self, prices: Prices, place: IntArray | None = None) -> Offers:
        """Return the best schedule of each unit at some prices.

        Regret is in comparison with the schedules at `place` (chosen,), or else with the best that a unit has.
        """
        best = self.priced.best(prices)
        at_minimum, margin = self.priced.earnings_eur(prices)
        cost = self.switching + (self.on * at_minimum[self.owner]).sum(1)
        cost -= (self.room * margin[self.owner]).sum((1, 2))
        own = np.full(self.unit.size, np.inf)
        among = np.arange(self.owner.size) if place is None else place
        np.minimum.at(own, self.owner[among], cost[among])
        return Offers(best.on, np.maximum(own - best.least_eur, 0.0))

    def take(self, who: IntArray, on: BoolArray) -> IntArray:
        """Return the places of schedules (schedule, period) of units `who` in the set; new ones are added."""
        keys = [(int(i), path.tobytes()) for i, path in zip(who, on, strict=True)]
        new = [k for k, key in enumerate(keys) if key not in self._place]
        if new:
            self._add(who[new], on[new], [keys[k] for k in new])
        return np.array([self._place[key] for key in keys], np.int64)

    def _add(self, who: IntArray, on: BoolArray, keys: list[tuple[int, bytes]]) -> None:
        """Add a share of each new schedule, and rows where it differs from the unit's first one."""
        model = self.plant.model
        for k, key in enumerate(keys):
            self._place[key] = self.owner.size + k
        room, switching = self.priced.room_mw(who, on), self.priced.switching_eur(who, on)
        share = model.add_columns((who.size,), 0.0, 1.0, switching - self.switching[who])
        self._open_rows(who, on, room)
        k, t = np.nonzero(on != self.on[who])
        model.add_entries(self._u_row[t, who[k]], share[k], np.where(on[k, t], -1.0, 1.0))
        more = room - self.room[who]
        k, t, s = np.nonzero(np.abs(more) > _SAME_MW)
        model.add_entries(self._p_row[t, who[k], s], share[k], -more[k, t, s])
        model.add_entries(self._sum_row[who], share, np.ones(who.size))
        up = self.plant.reserve_rows[0]
        if up.size:
            k, t = np.nonzero(np.abs(more.sum(2)) > _SAME_MW)
            model.add_entries(up[t], share[k], more.sum(2)[k, t])
        self.owner, self.column = np.append(self.owner, who), np.append(self.column, share)
        self.on, self.room = np.concatenate([self.on, on]), np.concatenate([self.room, room])
        self.switching = np.append(self.switching, switching)

    def _open_rows(self, who: IntArray, on: BoolArray, room: FloatArray) -> None:
        """Add rows that link on and output to the shares of schedules, where these differ for the first time."""
        model, first = self.plant.model, self.on[: self.unit.size]
        differ = np.zeros(self.u.shape, bool)
        k, t = np.nonzero(on != first[who])
        differ[t, who[k]] = True
        t, i = np.nonzero(differ & (self._u_row < 0))
        value = first[i, t].astype(float)
        self._u_row[t, i] = model.add_rows([(self.u[t, i], 1.0)], value, value, (t.size,))
        wide = np.zeros(self.p.shape, bool)
        k, t, s = np.nonzero(np.abs(room - self.room[who]) > _SAME_MW)
        wide[t, who[k], s] = True
        t, i, s = np.nonzero(wide & (self._p_row < 0))
        self._p_row[t, i, s] = model.add_rows([(self.p[t, i, s], 1.0)], -INF, self.room[i, t, s], (t.size,))
        i = np.unique(who[self._sum_row[who] < 0])
        self._sum_row[i] = model.add_rows([], -INF, 1.0, (i.size,))

    def shares(self, x: FloatArray) -> FloatArray:
        """Return the share of each schedule in a solution, (schedule,)."""
        n = self.unit.size
        share = np.zeros(self.owner.size)
        there = np.flatnonzero((self.column >= 0) & (self.column < x.size))
        share[there] = x[self.column[there]]
        share[:n] = 1.0 - np.bincount(self.owner[there], share[there], minlength=n)
        return share

    def p_mw(self, x: FloatArray) -> FloatArray:
        """Return the output of the units, (period, chosen)."""
        return np.asarray(x[self.u] * self.priced.range.low_mw + x[self.p].sum(2))
