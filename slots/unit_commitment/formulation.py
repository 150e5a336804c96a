"""The tight three-binary model of unit commitment as whole arrays.

On/off (u), start (v) and stop (w) as in Morales-Espana, Latorre & Ramos 2013; limits of output and of cost
segments tightened by starts and stops as in Knueven, Ostrowski & Watson 2020. Output of a free unit is split
into its minimum (with u) and what lies above (p).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.grid.schedule import TOLERANCE_MW, PeriodLimits, waive_unreachable
from slots.linear_model import INF, Term
from slots.plant import Plant, Segments, by_period, pick_limits, present
from slots.unit_commitment.contract import Inputs
from slots.unit_commitment.start_costs import start_classes

AGES_MATCHED_MAX = 8
"""Longest span of stops, in periods, that are matched one by one with starts."""


@dataclass(frozen=True, eq=False)
class UnitRange:
    """Limits of units with something to decide, (period, chosen) unless said otherwise.

    Attributes
    ----------
    low_mw, width_mw
        Least output while on, and what may be added.
    after_start_mw, before_stop_mw
        By how much a start in the period, or a stop in the next one, lowers the upper limit.
    step_waived
        The ramp into the period has no limit, as no output could keep it.
    first_stop_barred : (chosen,)
        The output before the horizon is too high to stop at once.
    rise_mw, fall_mw
        Most by which the output above the minimum may grow or shrink into the period.
    rises, falls
        Whether these can bind.
    """

    low_mw: FloatArray
    width_mw: FloatArray
    after_start_mw: FloatArray
    before_stop_mw: FloatArray
    step_waived: BoolArray
    first_stop_barred: BoolArray
    rise_mw: FloatArray
    fall_mw: FloatArray
    rises: BoolArray
    falls: BoolArray

    @classmethod
    def of(
        cls, inputs: Inputs, unit: IntArray, limits: PeriodLimits, known: IntArray, high: FloatArray
    ) -> UnitRange:
        """Prepare the limits of some units; steps that no output can take lose theirs.

        Parameters
        ----------
        limits : PeriodLimits
            Of these units.
        known, high : (period, chosen)
            Commitment known in advance (-1 free), highest output.
        """
        low = np.minimum(inputs.grid.units.p_mw_min[unit], high)
        width = high - low
        on = known != 0
        initial_p = np.where(inputs.initial_on, np.nan_to_num(inputs.initial_p_mw), 0.0)[unit]
        if inputs.free_start:
            initial_on, initial = on[0], np.full(unit.size, np.nan)
        else:
            initial_on, initial = inputs.initial_on[unit], initial_p
        step, stop = waive_unreachable(low, high, on, initial, initial_on, limits)
        service = inputs.in_service[:, unit]
        stop |= ~service
        after_start = np.maximum(high - np.maximum(limits.startup_mw, low), 0.0)
        before_stop = np.maximum(high - np.maximum(limits.shutdown_mw, low), 0.0)
        before_stop[:-1][stop[1:]] = 0.0
        before_stop[-1] = 0.0
        barred = initial_on & (initial > limits.shutdown_mw + TOLERANCE_MW) & ~stop[0]
        before_low = np.vstack([inputs.grid.units.p_mw_min[unit][None, :], low[:-1]])
        rise = limits.ramp_up_mw - (low - before_low)
        fall = limits.ramp_down_mw + (low - before_low)
        usable = ~step
        usable[0] &= not inputs.free_start
        above = np.where(inputs.initial_on[unit], initial_p - before_low[0], 0.0)
        before_width = np.vstack([np.maximum(above, width[0])[None, :], width[:-1]])
        rises = usable & (rise >= 0) & (rise < width)
        falls = usable & service & (fall >= 0) & (fall < before_width)
        return cls(low, width, after_start, before_stop, step, barred, rise, fall, rises, falls)


class FreeUnits:
    """Units with a commitment to decide, added to a plant.

    Attributes
    ----------
    unit : (free,)
    u, v, w, p : (period, free)
        Columns: on, start, stop, output above the minimum.
    """

    def __init__(
        self, plant: Plant, inputs: Inputs, unit: IntArray, known: IntArray, loose: BoolArray, high_mw: FloatArray
    ) -> None:
        self.plant, self.inputs, self.unit = plant, inputs, unit
        self.limits = pick_limits(plant.limits, unit)
        self.shape = (inputs.load_p_mw.shape[0], unit.size)
        self.known = known[:, unit]
        self.min_up = np.where(loose[unit], 1, np.minimum(self.limits.min_up, self.shape[0]))
        self.min_down = np.where(loose[unit], 1, np.minimum(self.limits.min_down, self.shape[0]))
        self.initial_on = inputs.initial_on[unit].astype(float)
        self.initial_p = np.where(inputs.initial_on, np.nan_to_num(inputs.initial_p_mw), 0.0)[unit]
        self.range = UnitRange.of(inputs, unit, self.limits, self.known, high_mw[:, unit])
        self.matched: dict[int, list[tuple[IntArray, IntArray]]] = {}
        self._add_columns()
        self._add_logic()
        for columns, least, off in ((self.v, self.min_up, False), (self.w, self.min_down, True)):
            self._add_minimum_times(columns, least, off)
        self._add_start_classes()
        self.up, self.down = self._add_reserve_columns()
        self._add_upper_limits()
        self._add_ramps()
        self._add_segments()

    def _add_columns(self) -> None:
        model, units, h = self.plant.model, self.inputs.grid.units, self.inputs.period_h
        free = self.known == -1
        lower, upper = np.where(free, 0.0, self.known), np.where(free, 1.0, self.known)
        at_minimum = units.minimum_output_eur_per_h[self.unit] * h
        self.u = model.add_columns(self.shape, lower, upper, at_minimum, free)
        cold = np.zeros(self.unit.size)
        for i, unit in enumerate(self.unit):
            costs = start_classes(units, int(unit))[1]
            cold[i] = costs[-1] if costs.size else 0.0
        top = np.ones(self.shape)
        first_w = np.where(self.range.first_stop_barred, 0.0, 1.0)
        if self.inputs.free_start:
            top[0] = first_w = np.zeros(self.unit.size)
        self.v = model.add_columns(self.shape, 0.0, top, cold)
        top_w = top.copy()
        top_w[0] = first_w
        self.w = model.add_columns(self.shape, 0.0, top_w, units.shutdown_eur[self.unit])
        self.segments = Segments.of(self.inputs.grid, self.unit)
        price = self.segments.eur_per_mwh[:, 0] * h
        self.p = model.add_columns(self.shape, 0.0, self.range.width_mw, price)
        bus = units.bus[self.unit]
        self.plant.inject(self.p, bus)
        self.plant.inject(self.u, bus, self.range.low_mw)
        self.plant.output.append((self.unit, [(self.p, 1.0), (self.u, self.range.low_mw)]))

    def _add_logic(self) -> None:
        """u(t) - u(t-1) = v(t) - w(t)."""
        model, (n_period, n) = self.plant.model, self.shape
        if not self.inputs.free_start:
            first: list[Term] = [(self.u[0], 1.0), (self.v[0], -1.0), (self.w[0], 1.0)]
            model.add_rows(first, self.initial_on, self.initial_on, (n,))
        later: list[Term] = [(self.u[1:], 1.0), (self.u[:-1], -1.0), (self.v[1:], -1.0), (self.w[1:], 1.0)]
        model.add_rows(later, 0.0, 0.0, (n_period - 1, n))

    def _add_minimum_times(self, switch: IntArray, least: IntArray, off: bool) -> None:
        """Switches within the last `least` periods imply the state still holds (Rajan & Takriti 2005)."""
        n_period = self.shape[0]
        for span in np.unique(least):
            i = np.flatnonzero(least == span)
            t = np.arange(n_period)[:, None] - np.arange(span)[None, :]
            window = switch[np.maximum(t, 0)][:, :, i].transpose(0, 2, 1)
            inside = np.where(t >= 0, 1.0, 0.0)[:, None, :] * np.ones((1, i.size, 1))
            state = (self.u[:, i], 1.0 if off else -1.0)
            self.plant.model.add_rows([(window, inside), state], -INF, float(off), (n_period, i.size))

    def _add_start_classes(self) -> None:
        """A start is cheaper than cold if there was a stop recently enough.

        Tightest is to match each start with a stop (Knueven et al. 2020, "match"); where that takes too many
        columns, a start may use the stops of a window of time (Morales-Espana et al. 2013).
        """
        units, h = self.inputs.grid.units, self.inputs.period_h
        for i, unit in enumerate(self.unit):
            hours, cost = start_classes(units, int(unit))
            if cost.size < 2 or cost[0] == cost[-1]:
                continue
            first, last = max(int(self.min_down[i]), 1), -(-int(hours[-1]) // h) - 1
            age = np.arange(first, max(min(last, self.shape[0] - 1), first - 1) + 1)
            if age.size > AGES_MATCHED_MAX:
                self._add_windows(i, hours, cost)
                continue
            stop = np.repeat(np.arange(self.shape[0]), age.size)
            start = stop + np.tile(age, self.shape[0])
            keep = start < self.shape[0]
            stop, start = stop[keep], start[keep]
            saved = cost[-1] - cost[np.maximum(np.searchsorted(hours, (start - stop) * h, side="right") - 1, 0)]
            self._match(i, stop, start, saved)
            self._match_first_start(i, hours, cost)

    def _add_windows(self, i: int, hours: IntArray, cost: FloatArray) -> None:
        """Let a start be of a class as far as stops of the right age go with it."""
        model, h, n_period = self.plant.model, self.inputs.period_h, self.shape[0]
        unit, period = self.unit[i], np.arange(n_period)
        edges = np.r_[0, hours[1:]]
        x = model.add_columns((n_period, edges.size - 1), 0.0, 1.0, cost[:-1] - cost[-1])
        model.add_rows([(x, 1.0), (self.v[:, i], -1.0)], -INF, 0.0, (n_period,))
        was_off = not self.inputs.free_start and not self.inputs.initial_on[unit]
        off_h = abs(int(self.inputs.initial_h[unit])) + period * h
        for s in range(edges.size - 1):
            age = np.arange(max(-(-int(edges[s]) // h), 1), -(-int(edges[s + 1]) // h))
            t = period[:, None] - age[None, :]
            given = was_off & (off_h >= edges[s]) & (off_h < edges[s + 1])
            stops: Term = (self.w[np.maximum(t, 0), i], np.where(t >= 0, -1.0, 0.0))
            model.add_rows([(x[:, s], 1.0), stops], -INF, given.astype(float), (n_period,))

    def _match(self, i: int, stop: IntArray, start: IntArray, saved: FloatArray) -> None:
        if not stop.size:
            return
        model, n_period = self.plant.model, self.shape[0]
        pair = model.add_columns(stop.shape, 0.0, 1.0, -saved)
        self.matched.setdefault(i, [])
        self.matched[i].append((start, pair))
        by_stop = by_period(stop, pair, n_period)
        model.add_rows([by_stop, (self.w[:, i], -1.0)], -INF, 0.0, (n_period,))

    def _match_first_start(self, i: int, hours: IntArray, cost: FloatArray) -> None:
        """Match the first start with the stop before the horizon, then bound the matches of each start."""
        model, n_period, h = self.plant.model, self.shape[0], self.inputs.period_h
        unit = self.unit[i]
        if not self.inputs.free_start and not self.inputs.initial_on[unit]:
            off_h = abs(int(self.inputs.initial_h[unit])) + np.arange(n_period) * h
            start = np.flatnonzero((off_h < hours[-1]) & (self.known[:, i] != 0))
            if start.size:
                place = np.maximum(np.searchsorted(hours, off_h[start], side="right") - 1, 0)
                pair = model.add_columns(start.shape, 0.0, 1.0, cost[place] - cost[-1])
                model.add_rows([(pair[None, :], 1.0)], -INF, 1.0, (1,))
                self.matched.setdefault(i, []).append((start, pair))
        if i in self.matched:
            start = np.concatenate([m[0] for m in self.matched[i]])
            pair = np.concatenate([m[1] for m in self.matched[i]])
            model.add_rows([by_period(start, pair, n_period), (self.v[:, i], -1.0)], -INF, 0.0, (n_period,))

    def _tight_two_sided(self) -> BoolArray:
        """Units that may start and stop in neighbouring periods with limits for both: they need two rows."""
        both = (self.range.after_start_mw > 0).any(0) & (self.range.before_stop_mw > 0).any(0)
        return np.asarray((self.min_up < 2) & both)

    def _add_reserve_columns(self) -> tuple[IntArray, IntArray]:
        """Return reserve columns (period, free), -1 where a unit's headroom as such is its reserve."""
        up, down = np.full(self.shape, -1), np.full(self.shape, -1)
        if not self.plant.reserve:
            return up, down
        units, model, r = self.inputs.grid.units, self.plant.model, self.range
        widest = r.width_mw.max(0)
        rise, fall = units.ramp_up_mw_per_h[self.unit], units.ramp_down_mw_per_h[self.unit]
        explicit_up = (rise < widest) | self._tight_two_sided()
        explicit_down = fall < widest
        i = np.flatnonzero(explicit_up)
        up[:, i] = model.add_columns((self.shape[0], i.size), 0.0, np.minimum(rise[i], r.width_mw[:, i]))
        self.plant.up.append((up[:, i], 1.0))
        i = np.flatnonzero(~explicit_up)
        self.plant.up += [
            (self.u[:, i], r.width_mw[:, i]),
            (self.v[:, i], -r.after_start_mw[:, i]),
            self._next_stop(i, -r.before_stop_mw[:, i]),
            (self.p[:, i], -1.0),
        ]
        i = np.flatnonzero(explicit_down)
        down[:, i] = model.add_columns((self.shape[0], i.size), 0.0, np.minimum(fall[i], r.width_mw[:, i]))
        model.add_rows([(down[:, i], 1.0), (self.p[:, i], -1.0)], -INF, 0.0, (self.shape[0], i.size))
        self.plant.down += [(down[:, i], 1.0), (self.p[:, np.flatnonzero(~explicit_down)], 1.0)]
        return up, down

    def _next_stop(self, i: IntArray, factor: FloatArray) -> Term:
        """Return the stops of the next period as a term, absent after the last period."""
        return np.vstack([self.w[1:, i], self.w[-1:, i]]), np.vstack([factor[:-1], np.zeros((1, i.size))])

    def _add_upper_limits(self) -> None:
        """Keep p + reserve below width x u, lowered next to starts and stops."""
        model, r = self.plant.model, self.range
        two = self._tight_two_sided()
        explicit = (self.up >= 0).any(0)
        one = np.flatnonzero(~two & (explicit | self.segments.single))
        start, stop = r.after_start_mw, r.before_stop_mw
        sides = [(one, start, stop)]
        both = np.flatnonzero(two)
        if both.size:
            sides.append((both, start, np.maximum(stop - start, 0.0)))
            sides.append((both, np.maximum(start - stop, 0.0), stop))
        for i, at_start, at_stop in sides:
            terms: list[Term] = [(self.p[:, i], 1.0), present(self.up[:, i]), (self.u[:, i], -r.width_mw[:, i])]
            terms += [(self.v[:, i], at_start[:, i]), self._next_stop(i, at_stop[:, i])]
            model.add_rows(terms, -INF, 0.0, (self.shape[0], i.size))

    def _add_ramps(self) -> None:
        """Ramps with start and stop limits, where they can bind; waived steps have none."""
        r, limits = self.range, self.limits
        before_low = np.vstack([self.inputs.grid.units.p_mw_min[self.unit][None, :], r.low_mw[:-1]])
        rise, fall = r.rise_mw, r.fall_mw
        start = np.maximum(limits.startup_mw, r.low_mw) - r.low_mw - rise
        stop = np.maximum(limits.shutdown_mw, before_low) - before_low - fall
        p0 = np.where(self.initial_on > 0, self.initial_p - before_low[0], 0.0)
        t, i = np.nonzero(r.rises)
        earlier = np.maximum(t - 1, 0)
        later = np.where(t > 0, 1.0, 0.0)
        terms: list[Term] = [(self.p[t, i], 1.0), present(self.up[t, i]), (self.p[earlier, i], -later)]
        terms += [(self.u[t, i], -rise[t, i]), (self.v[t, i], -start[t, i])]
        self.plant.model.add_rows(terms, -INF, np.where(t > 0, 0.0, p0[i]), (t.size,))
        t, i = np.nonzero(r.falls)
        earlier = np.maximum(t - 1, 0)
        later = np.where(t > 0, 1.0, 0.0)
        terms = [(self.p[earlier, i], later), (self.p[t, i], -1.0), present(self.down[t, i])]
        terms += [(self.u[earlier, i], -fall[t, i] * later), (self.w[t, i], -stop[t, i])]
        right = np.where(t > 0, 0.0, fall[t, i] * self.initial_on[i] - p0[i])
        self.plant.model.add_rows(terms, -INF, right, (t.size,))

    def _add_segments(self) -> None:
        """Split p into segments: the first is what the later columns leave of p; each is limited while on."""
        many = np.flatnonzero(~self.segments.single)
        if not many.size:
            return
        model, r, h = self.plant.model, self.range, self.inputs.period_h
        width, price = self.segments.width_mw[many], self.segments.eur_per_mwh[many]
        finite = np.where(np.isinf(width), 0.0, width)
        below = np.cumsum(finite, axis=1) - finite
        room = np.clip(r.width_mw[:, many, None] - below[None], 0.0, width[None])
        z = model.add_columns(room[:, :, 1:].shape, 0.0, room[:, :, 1:], (price[:, 1:] - price[:, :1]) * h)
        at_start, at_stop = self._segment_cuts(many, below[None] + room, room)
        for s in range(width.shape[1]):
            used: list[Term] = [(z[:, :, s - 1], 1.0)] if s else [(self.p[:, many], 1.0), (z, -1.0)]
            terms: list[Term] = [*used, (self.u[:, many], -room[:, :, s]), (self.v[:, many], at_start[:, :, s])]
            terms.append(self._next_stop(many, at_stop[:, :, s]))
            there = np.flatnonzero(width[:, s] > 0)
            rows = [(c[:, there], np.broadcast_to(f, c.shape)[:, there]) for c, f in terms]
            model.add_rows(rows, -INF, 0.0, (self.shape[0], there.size))

    def _segment_cuts(self, many: IntArray, top: FloatArray, room: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return by how much a start and a following stop lower each segment, (period, many, segment)."""
        r = self.range

        def lowered(cut: FloatArray) -> FloatArray:
            left = (r.width_mw - cut)[:, many, None]
            return np.asarray(np.clip(top - left, 0.0, room))

        at_start, at_stop = lowered(r.after_start_mw), lowered(r.before_stop_mw)
        at_stop[:, self.min_up[many] < 2] = 0.0
        return at_start, at_stop

    def p_mw(self, x: FloatArray) -> FloatArray:
        """Return the output of the free units, (period, free)."""
        return np.asarray(x[self.p] + x[self.u] * self.range.low_mw)
