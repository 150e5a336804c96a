"""Linear models of what produces, stores and transmits power: shared by commitment and dispatch.

A `Plant` collects, per period, the terms of the power balance, of the reserve requirements and of the bus
injections, while units, storages and HVDC lines are added to a `LinearModel`.

Rules
-----
- Reserve comes from committable units that are on: what they can add (or take back) within one hour. Variable
  units give downward reserve by curtailment.
- Variable units run between 0 and what is available, at the price of their first cost segment; what is not
  taken is priced as curtailment. Those of equal prices at one bus share their output.
- Units that are neither committable nor variable run always while in service; their cost segments start at 0,
  output below 0 (exports) earns the first segment's price. The last segment of every unit is open-ended.
- The constant loss of an HVDC line is borne at its to end, or at its from end if it can only send backwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, Grid, IntArray
from bos_core.grid.schedule import PeriodLimits, waive_unreachable
from slots.linear_model import INF, LinearModel, Term
from slots.network_limits import PointInjection, SpreadInjection

RIVAL_TOLERANCE_MW = 1e-4


@dataclass(frozen=True, eq=False)
class Segments:
    """Cost segments of some units in a rectangle, (unit, segment); missing ones have zero width."""

    width_mw: FloatArray
    eur_per_mwh: FloatArray

    @classmethod
    def of(cls, grid: Grid, chosen: IntArray) -> Segments:
        """Collect the segments of the chosen units; the last one is open-ended, none means free of cost."""
        units = grid.units
        order = np.argsort(units.segment_unit, kind="stable")
        count = np.bincount(units.segment_unit, minlength=units.n)[chosen]
        first = np.searchsorted(units.segment_unit[order], chosen)
        size = max(int(count.max(initial=1)), 1)
        place = first[:, None] + np.arange(size)[None, :]
        there = np.arange(size)[None, :] < count[:, None]
        place = np.where(there, place, order.size)
        width = np.append(units.segment_mw[order], 0.0)[place]
        price = np.append(units.segment_eur_per_mwh[order], 0.0)[place]
        last = np.maximum(count, 1) - 1
        width[np.arange(chosen.size), last] = INF
        return cls(width, np.where(there | (count == 0)[:, None], price, price.max(1, keepdims=True, initial=0.0)))

    @property
    def single(self) -> BoolArray:
        """Units with one price."""
        return np.asarray(np.isinf(self.width_mw[:, 0]))


@dataclass(frozen=True, eq=False)
class SettledUnits:
    """Units whose commitment is known, in the model."""

    unit: IntArray
    columns: IntArray
    low_mw: FloatArray
    high_mw: FloatArray
    waived: int
    """Number of steps whose ramp or shutdown limit no output could keep."""


@dataclass(frozen=True, eq=False)
class VariablePools:
    """Variable units of one bus and price, in the model."""

    unit: IntArray
    pool: IntArray
    columns: IntArray
    available_mw: FloatArray

    def p_mw(self, x: FloatArray) -> FloatArray:
        """Return the output of each variable unit, (period, unit): the pool's, shared by availability."""
        total = np.zeros((self.available_mw.shape[0], self.columns.shape[1]))
        for t in range(total.shape[0]):
            total[t] = np.bincount(self.pool, self.available_mw[t], minlength=total.shape[1])
        share = np.divide(x[self.columns], total, out=np.zeros_like(total), where=total > 0)
        return np.asarray(np.clip(share, 0.0, 1.0)[:, self.pool] * self.available_mw)


class Plant:
    """The growing collection of terms; every list is read by the model that owns the plant."""

    def __init__(self, model: LinearModel, grid: Grid, n_period: int, period_h: int, reserve: bool) -> None:
        self.model, self.grid, self.n_period, self.period_h = model, grid, n_period, period_h
        self.reserve = reserve
        self.limits = PeriodLimits.of(grid.units, period_h)
        self.balance: list[Term] = []
        self.points: list[PointInjection] = []
        self.spreads: list[SpreadInjection] = []
        self.fixed_mw = np.zeros((n_period, grid.network.n_bus))
        self.up: list[Term] = []
        self.up_fixed_mw = np.zeros(n_period)
        self.down: list[Term] = []
        self.down_fixed_mw = np.zeros(n_period)
        self.reserve_rows = [np.zeros(0, np.int64), np.zeros(0, np.int64)]
        """Rows of upward and downward reserve, (period,); empty where none is required."""
        self.rivals: list[tuple[IntArray, IntArray]] = []
        """Pairs of columns of which at most one may be positive."""
        self.directions = np.zeros(0, np.int64)
        """Binary columns that `settle_rivals` added."""
        self.output: list[tuple[IntArray, list[Term]]] = []
        """Output of (unit,) as terms of shape (period, unit), for energy budgets."""

    def inject(self, columns: IntArray, bus: IntArray, factor: FloatArray | float = 1.0) -> None:
        """Let columns (period, device) inject at their buses and count in the balance."""
        factors = np.broadcast_to(np.asarray(factor, float), columns.shape)
        self.points.append(PointInjection(columns, bus, factors))
        self.balance.append((columns, factors))

    def spread(self, columns: IntArray, share: FloatArray) -> None:
        """Let columns (period,) inject by shares (period, bus) and count in the balance."""
        self.spreads.append(SpreadInjection(columns, share))
        self.balance.append((columns, share.sum(1)))

    def add_settled(
        self, unit: IntArray, on: BoolArray, high_mw: FloatArray, initial_on: BoolArray, initial_mw: FloatArray
    ) -> SettledUnits:
        """Add units with known commitment.

        Parameters
        ----------
        unit : (chosen,)
        on, high_mw : (period, chosen)
            Commitment and upper bound.
        initial_on, initial_mw : (chosen,)
            State before the first period; NaN where the output is unknown.
        """
        units, limits = self.grid.units, pick_limits(self.limits, unit)
        low = np.minimum(units.p_mw_min[unit], high_mw)
        step, stop = waive_unreachable(low, high_mw, on, initial_mw, initial_on, limits)
        committable = units.committable[unit]
        before = np.vstack([initial_on[None, :], on[:-1]])
        starts = on & ~before & committable & ~step
        ends = np.zeros_like(on)
        ends[:-1] = on[:-1] & ~on[1:] & ~stop[1:] & committable
        high = np.where(starts, np.minimum(high_mw, np.maximum(limits.startup_mw, low)), high_mw)
        high = np.where(ends, np.minimum(high, np.maximum(limits.shutdown_mw, low)), high)
        known = on[0] & initial_on & ~np.isnan(initial_mw) & ~step[0]
        tight_high, tight_low = high.copy(), low.copy()
        tight_high[0] = np.where(known, np.minimum(high[0], initial_mw + limits.ramp_up_mw), high[0])
        tight_low[0] = np.where(known, np.maximum(low[0], initial_mw - limits.ramp_down_mw), low[0])
        tight_low, tight_high = np.where(on, tight_low, 0.0), np.where(on, tight_high, 0.0)
        tight_low = np.minimum(tight_low, tight_high)
        p = self._priced_output(unit, on, low, tight_low, tight_high)
        up, down = self._settled_reserve(unit, on & committable, p, tight_low, tight_high)
        self._settled_ramps(p, up, down, (low, high), on & before & ~step, limits)
        self.inject(p, units.bus[unit])
        self.output.append((unit, [(p, np.ones(p.shape))]))
        return SettledUnits(unit, p, tight_low, tight_high, int(step.sum() + stop.sum()))

    def _priced_output(
        self, unit: IntArray, on: BoolArray, low: FloatArray, tight_low: FloatArray, tight_high: FloatArray
    ) -> IntArray:
        """Add output columns with their segment costs; returns (period, chosen).

        The output has the first segment's price, further columns what later segments cost on top.
        """
        units, model, h = self.grid.units, self.model, self.period_h
        segments = Segments.of(self.grid, unit)
        base = np.where(on & units.committable[unit], low, 0.0)
        price = segments.eur_per_mwh[:, 0]
        p = model.add_columns(on.shape, tight_low, tight_high, price * h)
        model.offset -= float((base * price * h).sum())
        model.offset += float((on * (units.minimum_output_eur_per_h * units.committable)[unit]).sum() * h)
        many = np.flatnonzero(~segments.single)
        if many.size:
            width = np.broadcast_to(segments.width_mw[many], (self.n_period, *segments.width_mw[many].shape))
            dearer = (segments.eur_per_mwh[many, 1:] - segments.eur_per_mwh[many, :1]) * h
            z = model.add_columns(width[:, :, 1:].shape, 0.0, width[:, :, 1:], dearer)
            first = base[:, many] + width[:, :, 0]
            model.add_rows([(p[:, many], 1.0), (z, -1.0)], -INF, first, (self.n_period, many.size))
        return p

    def _settled_reserve(
        self, unit: IntArray, able: BoolArray, p: IntArray, low: FloatArray, high: FloatArray
    ) -> tuple[IntArray, IntArray]:
        """Let units give reserve; returns the reserve columns (period, chosen), -1 where headroom suffices."""
        units = self.grid.units
        none = np.full(p.shape, -1)
        if not self.reserve:
            return none, none
        up, down = none.copy(), none.copy()
        for kind, ramp, columns in (
            ("up", units.ramp_up_mw_per_h[unit], up),
            ("down", units.ramp_down_mw_per_h[unit], down),
        ):
            limited = (able & (ramp < high - low)).any(0)
            t, i = np.nonzero(able & limited)
            r = self.model.add_columns((t.size,), 0.0, np.minimum(ramp[i], (high - low)[t, i]))
            columns[t, i] = r
            rise = kind == "up"
            bounds = (-INF, high[t, i]) if rise else (low[t, i], INF)
            self.model.add_rows([(p[t, i], 1.0), (r, 1.0 if rise else -1.0)], *bounds, (t.size,))
            free = able & ~limited
            terms, fixed = (self.up, self.up_fixed_mw) if rise else (self.down, self.down_fixed_mw)
            terms.append((p, np.where(free, -1.0 if rise else 1.0, 0.0)))
            fixed += np.where(free, high if rise else -low, 0.0).sum(1)
            terms.append(by_period(t, r, self.n_period))
        return up, down

    def _settled_ramps(
        self,
        p: IntArray,
        up: IntArray,
        down: IntArray,
        bounds: tuple[FloatArray, FloatArray],
        runs: BoolArray,
        limits: PeriodLimits,
    ) -> None:
        """Add ramp rows between periods in which a unit stays on, where the ramp can bind."""
        low, high = bounds
        rise = runs[1:] & (limits.ramp_up_mw < high[1:] - low[:-1])
        t, i = np.nonzero(rise)
        terms: list[Term] = [(p[t + 1, i], 1.0), (p[t, i], -1.0), present(up[t + 1, i])]
        self.model.add_rows(terms, -INF, limits.ramp_up_mw[i], (t.size,))
        fall = runs[1:] & (limits.ramp_down_mw < high[:-1] - low[1:])
        t, i = np.nonzero(fall)
        terms = [(p[t, i], 1.0), (p[t + 1, i], -1.0), present(down[t + 1, i])]
        self.model.add_rows(terms, -INF, limits.ramp_down_mw[i], (t.size,))

    def add_variable(self, unit: IntArray, available_mw: FloatArray) -> VariablePools:
        """Add variable units, pooled by bus and price; `available_mw` is (period, chosen)."""
        units, model, h = self.grid.units, self.model, self.period_h
        price = Segments.of(self.grid, unit).eur_per_mwh[:, 0]
        lost = units.curtailment_eur_per_mwh[unit]
        keys, pool = np.unique(np.column_stack([units.bus[unit], price, lost]), axis=0, return_inverse=True)
        budget = np.isfinite(units.energy_mwh_max[unit])
        if budget.any():
            keys, pool = keys[pool], np.arange(unit.size)
        total = np.zeros((self.n_period, keys.shape[0]))
        for t in range(self.n_period):
            total[t] = np.bincount(pool, available_mw[t], minlength=keys.shape[0])
        columns = model.add_columns(total.shape, 0.0, total, (keys[:, 1] - keys[:, 2]) * h)
        model.offset += float((total * keys[:, 2]).sum() * h)
        self.inject(columns, keys[:, 0].astype(int))
        if budget.any():
            self.output.append((unit, [(columns, np.ones(columns.shape))]))
        if self.reserve:
            self.down.append((columns, 1.0))
        return VariablePools(unit, pool, columns, available_mw)

    def add_storages(self, initial_mwh: FloatArray, final_mwh: FloatArray, missing_eur_per_mwh: float) -> IntArray:
        """Add storages; returns columns (period, storage, [charge, discharge, energy]).

        NaN in `initial_mwh` leaves the energy at the start free.
        """
        s, model, h = self.grid.storages, self.model, self.period_h
        shape = (self.n_period, s.id.size)
        charge = model.add_columns(shape, 0.0, s.p_charge_mw_max)
        discharge = model.add_columns(shape, 0.0, s.p_discharge_mw_max)
        energy = model.add_columns(shape, s.energy_mwh_min, s.energy_mwh_max)
        known = ~np.isnan(initial_mwh)
        start = model.add_columns(
            (1, shape[1]), *(np.where(known, initial_mwh, b) for b in (s.energy_mwh_min, s.energy_mwh_max))
        )
        rhs = np.zeros(shape)
        flow: list[Term] = [
            (energy, 1.0),
            (charge, -h * s.efficiency_charge),
            (discharge, h / s.efficiency_discharge),
        ]
        model.add_rows([*[(c[:1], v) for c, v in flow], (start, -1.0)], rhs[:1], rhs[:1], (1, shape[1]))
        later: list[Term] = [*[(c[1:], v) for c, v in flow], (energy[:-1], -1.0)]
        model.add_rows(later, rhs[1:], rhs[1:], (shape[0] - 1, shape[1]))
        missing = model.add_columns((shape[1],), 0.0, INF, missing_eur_per_mwh)
        model.add_rows(
            [(energy[-1], 1.0), (missing, 1.0)], np.minimum(final_mwh, s.energy_mwh_max), INF, (shape[1],)
        )
        power = np.maximum(np.stack([s.p_charge_mw_max, s.p_discharge_mw_max]), 1e-9)
        model.add_rows([(charge, 1 / power[0]), (discharge, 1 / power[1])], -INF, 1.0, shape)
        self.inject(charge, s.bus, -1.0)
        self.inject(discharge, s.bus, 1.0)
        self.rivals.append((charge, discharge))
        return np.stack([charge, discharge, energy], axis=2)

    def add_hvdc(self) -> IntArray:
        """Add HVDC lines; returns columns (period, hvdc, [sent forwards, sent backwards])."""
        hvdc, model = self.grid.hvdc, self.model
        shape = (self.n_period, hvdc.id.size)
        forward = model.add_columns(shape, np.maximum(hvdc.p_mw_min, 0.0), np.maximum(hvdc.p_mw_max, 0.0))
        back = model.add_columns(shape, np.maximum(-hvdc.p_mw_max, 0.0), np.maximum(-hvdc.p_mw_min, 0.0))
        kept = 1.0 - hvdc.loss_share
        self.inject(forward, hvdc.from_bus, -1.0)
        self.inject(forward, hvdc.to_bus, kept)
        self.inject(back, hvdc.to_bus, -1.0)
        self.inject(back, hvdc.from_bus, kept)
        receiver = np.where((hvdc.p_mw_max <= 0) & (hvdc.p_mw_min < 0), hvdc.from_bus, hvdc.to_bus)
        np.subtract.at(self.fixed_mw, (slice(None), receiver), hvdc.loss_mw)
        lossy = hvdc.loss_share > 0
        self.rivals.append((forward[:, lossy], back[:, lossy]))
        return np.stack([forward, back], axis=2)

    def add_budgets(self, energy_mwh_max: FloatArray, excess_eur_per_mwh: float) -> IntArray:
        """Add energy budgets of units over the horizon, priced when they cannot be kept; returns the slacks."""
        slacks = []
        for unit, terms in self.output:
            chosen = np.flatnonzero(np.isfinite(energy_mwh_max[unit]))
            if chosen.size:
                slack = self.model.add_columns((chosen.size,), 0.0, INF, excess_eur_per_mwh)
                used: list[Term] = [
                    (columns[:, chosen].T, np.broadcast_to(factor, columns.shape)[:, chosen].T * self.period_h)
                    for columns, factor in terms
                ]
                self.model.add_rows([*used, (slack, -1.0)], -INF, energy_mwh_max[unit[chosen]], (chosen.size,))
                slacks.append(slack)
        return np.concatenate(slacks) if slacks else np.zeros(0, int)

    def add_reserve(
        self, up_mw: FloatArray, down_mw: FloatArray, missing_eur_per_mwh: float
    ) -> tuple[IntArray, IntArray]:
        """Add the reserve requirements; returns the columns of what is missing, up and down, (period,).

        `reserve_rows` tells the rows afterwards.
        """
        short = self.model.add_columns((2, self.n_period), 0.0, INF, missing_eur_per_mwh * self.period_h)
        for k, (required, terms, fixed, slack) in enumerate(
            (
                (up_mw, self.up, self.up_fixed_mw, short[0]),
                (down_mw, self.down, self.down_fixed_mw, short[1]),
            )
        ):
            if required.any():
                self.reserve_rows[k] = self.model.add_rows(
                    [*terms, (slack, 1.0)], required - fixed, INF, (self.n_period,)
                )
        return short[0], short[1]

    def settle_rivals(self, x: FloatArray) -> int:
        """Give each pair of rival columns that a solution uses at once a binary direction; returns how many.

        Only prices below zero make such pairs pay (energy is burnt in losses), so most models need none.
        """
        count = 0
        for first, second in self.rivals:
            both = np.minimum(x[first], x[second]) > RIVAL_TOLERANCE_MW
            a, b = first[both], second[both]
            if not a.size:
                continue
            direction = self.model.add_columns(a.shape, 0.0, 1.0, 0.0, True)
            self.directions = np.append(self.directions, direction)
            self.model.add_rows([(a, 1.0), (direction, -self.model.upper[a])], -INF, 0.0, a.shape)
            self.model.add_rows([(b, 1.0), (direction, self.model.upper[b])], -INF, self.model.upper[b], a.shape)
            count += a.size
        return count

    def add_balance(self) -> IntArray:
        """Add the power balance; returns its rows, (period,)."""
        demand = -self.fixed_mw.sum(1)
        return self.model.add_rows(self.balance, demand, demand, (self.n_period,))


def present(columns: IntArray) -> Term:
    """Return a term of columns, absent (-1) ones with coefficient 0."""
    return np.maximum(columns, 0), np.where(columns >= 0, 1.0, 0.0)


def by_period(period: IntArray, columns: IntArray, n_period: int) -> Term:
    """Return a term that sums loose columns within their periods, as a padded rectangle (period, most)."""
    count = np.bincount(period, minlength=n_period)
    order = np.argsort(period, kind="stable")
    place = np.arange(period.size) - np.repeat(np.cumsum(count) - count, count)
    padded = np.full((n_period, int(count.max(initial=0))), -1)
    padded[period[order], place] = columns[order]
    return present(padded)


def pick_limits(limits: PeriodLimits, unit: IntArray) -> PeriodLimits:
    """Return the limits of some units."""
    return PeriodLimits(**{name: value[unit] for name, value in vars(limits).items()})


def reserve_ability(
    grid: Grid,
    limits: PeriodLimits,
    on: BoolArray,
    p_mw: FloatArray,
    bounds: tuple[FloatArray, FloatArray],
    initial_mw: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return what each unit could give of upward and downward reserve, (period, unit) in MW.

    `bounds` are the lowest and highest output (period, unit); `initial_mw` is NaN where the unit was off.
    """
    units = grid.units
    low, high = bounds
    ran = np.vstack([~np.isnan(initial_mw)[None, :], on[:-1]])
    before = np.where(ran, np.vstack([np.nan_to_num(initial_mw)[None, :], p_mw[:-1]]), np.nan)
    rise = np.fmin(np.fmin(high - p_mw, units.ramp_up_mw_per_h), before + limits.ramp_up_mw - p_mw)
    fall = np.fmin(np.fmin(p_mw - low, units.ramp_down_mw_per_h), p_mw - before + limits.ramp_down_mw)
    able = on & units.committable
    up = np.where(able, np.maximum(rise, 0.0), 0.0)
    down = np.where(able, np.maximum(fall, 0.0), np.where(units.variable, np.maximum(p_mw, 0.0), 0.0))
    return up, down


def share_reserve(required_mw: FloatArray, short_mw: FloatArray, able_mw: FloatArray) -> FloatArray:
    """Share the reserve held among units in proportion to what each could give, (period, unit)."""
    total = able_mw.sum(1)
    held = np.clip(required_mw - short_mw, 0.0, total)
    return np.asarray(able_mw * np.divide(held, total, out=np.zeros_like(total), where=total > 0)[:, None])
