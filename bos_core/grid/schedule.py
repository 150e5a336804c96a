"""Rules of a unit schedule over time: limits between periods, and an independent check of them.

The checks read a schedule only, never the model that made it. A period may be a block of hours; powers are
means of the period.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from bos_core.grid.model import BoolArray, FloatArray, Grid, IntArray, Units

TOLERANCE_MW = 1e-3
"""What an optimiser's feasibility tolerance may amount to."""
UNLIMITED_MW_PER_H = 1e9
"""Stands for an infinite ramp in products."""


@dataclass(frozen=True, eq=False)
class PeriodLimits:
    """Limits between the mean powers of neighbouring periods, each (unit,), in MW.

    A ramp of r MW/h moves the mean of a block of h hours by at most h r. A unit that starts at the beginning
    of a block at its start limit s reaches on average the mean of min(p_max, s + k r), k = 0 .. h - 1.
    """

    ramp_up_mw: FloatArray
    ramp_down_mw: FloatArray
    startup_mw: FloatArray
    shutdown_mw: FloatArray
    min_up: IntArray
    """(unit,) least number of periods on."""
    min_down: IntArray

    @classmethod
    def of(cls, units: Units, period_h: int) -> PeriodLimits:
        """Scale a unit's hourly limits to periods of `period_h` hours."""
        hour = np.arange(period_h)[:, None]

        def mean_first(limit_mw: FloatArray, ramp_mw_per_h: FloatArray) -> FloatArray:
            reached = np.maximum(limit_mw, units.p_mw_min) + hour * np.minimum(ramp_mw_per_h, UNLIMITED_MW_PER_H)
            return np.asarray(np.minimum(reached, np.maximum(units.p_mw_max, units.p_mw_min)).mean(0))

        return cls(
            ramp_up_mw=units.ramp_up_mw_per_h * period_h,
            ramp_down_mw=units.ramp_down_mw_per_h * period_h,
            startup_mw=mean_first(units.startup_mw, units.ramp_up_mw_per_h),
            shutdown_mw=mean_first(units.shutdown_mw, units.ramp_down_mw_per_h),
            min_up=np.maximum(-(-units.min_up_h // period_h), 1),
            min_down=np.maximum(-(-units.min_down_h // period_h), 1),
        )


def ramp_excess_mw(
    p_before: FloatArray,
    p_after: FloatArray,
    on_before: BoolArray,
    on_after: BoolArray,
    units: Units,
    period_h: int = 1,
) -> FloatArray:
    """Return by how much each step breaks the unit's ramp, start-up or shutdown limit, in MW, >= 0.

    Parameters
    ----------
    p_before, p_after, on_before, on_after : (..., unit)
        Two neighbouring periods, or whole schedules shifted by one. A NaN before means unknown: no excess.
    """
    limits = PeriodLimits.of(units, period_h)
    up = np.where(on_before, p_after - p_before - limits.ramp_up_mw, p_after - limits.startup_mw)
    down = np.where(on_after, p_before - p_after - limits.ramp_down_mw, p_before - limits.shutdown_mw)
    excess = np.maximum(np.where(on_after, up, 0.0), np.where(on_before, down, 0.0))
    excess = np.where(units.variable | np.isnan(p_before), 0.0, np.maximum(excess, 0.0))
    return np.asarray(excess)


def ramp_violations(
    p_before: FloatArray,
    p_after: FloatArray,
    on_before: BoolArray,
    on_after: BoolArray,
    units: Units,
    tolerance_mw: float = TOLERANCE_MW,
) -> list[tuple[int, float]]:
    """Return (unit, excess in MW) of the units that break a limit between two hours, each (unit,)."""
    excess = ramp_excess_mw(p_before, p_after, on_before, on_after, units)
    return [(int(i), float(excess[i])) for i in np.flatnonzero(excess > tolerance_mw)]


@dataclass(frozen=True)
class ShortRun:
    """A unit that was on (or off) for less than its minimum time.

    `period` is the first period after the run, i.e. where the unit switched too early.
    """

    unit: int
    period: int
    was_on: bool
    lasted_h: int
    required_h: int


def updown_violations(
    on: BoolArray,
    units: Units,
    initial_on: BoolArray,
    initial_h: IntArray,
    period_h: int = 1,
    forced: BoolArray | None = None,
) -> list[ShortRun]:
    """Return every run of a schedule that is shorter than the unit's minimum up or down time.

    Parameters
    ----------
    on : (period, unit)
    initial_on : (unit,)
    initial_h : (unit,)
        Hours on (positive) or off (negative) before the first period.
    forced : (period, unit), optional
        Periods in which the unit had to be off (outage, maintenance): stopping for them breaks no rule.

    Notes
    -----
    Required times are rounded up to whole periods. The run that is still going on at the end is not judged.
    """
    found: list[ShortRun] = []
    outage = np.zeros(on.shape, bool) if forced is None else forced
    for i in np.flatnonzero(units.committable):
        state, lasted = bool(initial_on[i]), abs(int(initial_h[i]))
        for t in range(on.shape[0]):
            if bool(on[t, i]) != state:
                required = int(units.min_up_h[i] if state else units.min_down_h[i])
                if lasted < required and not (state and outage[t, i]):
                    found.append(ShortRun(int(i), t, state, lasted, required))
                state, lasted = not state, 0
            lasted += period_h
    return found


def imbalance_mw(
    grid: Grid,
    load_p_mw: FloatArray,
    unit_p_mw: FloatArray,
    storage_p_mw: FloatArray,
    hvdc_p_mw: FloatArray,
    shed_mw: FloatArray,
    surplus_mw: FloatArray,
) -> FloatArray:
    """Return generation less demand of each period in MW, (period,); 0 where the schedule balances.

    Parameters
    ----------
    load_p_mw : (period, load)
    unit_p_mw : (period, unit)
    storage_p_mw : (period, storage)
    hvdc_p_mw : (period, hvdc)
    shed_mw, surplus_mw : (period,)
    """
    lost = np.abs(hvdc_p_mw) * grid.hvdc.loss_share + grid.hvdc.loss_mw
    supply = unit_p_mw.sum(1) + storage_p_mw.sum(1) + shed_mw
    return np.asarray(supply - lost.sum(1) - surplus_mw - load_p_mw.sum(1))


def storage_excess_mwh(
    grid: Grid,
    storage_p_mw: FloatArray,
    storage_energy_mwh: FloatArray,
    initial_mwh: FloatArray,
    period_h: int = 1,
) -> FloatArray:
    """Return by how much each storage's energy breaks its balance or its limits, (period, storage)."""
    storages = grid.storages
    drawn = np.where(
        storage_p_mw > 0, storage_p_mw / storages.efficiency_discharge, storage_p_mw * storages.efficiency_charge
    )
    before = np.vstack([initial_mwh[None, :], storage_energy_mwh[:-1]])
    leak = np.abs(storage_energy_mwh - before + drawn * period_h)
    high = storage_energy_mwh - storages.energy_mwh_max
    low = storages.energy_mwh_min - storage_energy_mwh
    return np.asarray(np.maximum(np.maximum(leak, 0.0), np.maximum(high, low)))


def waive_unreachable(
    low_mw: FloatArray,
    high_mw: FloatArray,
    on: BoolArray,
    initial_mw: FloatArray,
    initial_on: BoolArray,
    limits: PeriodLimits,
) -> tuple[BoolArray, BoolArray]:
    """Find the steps that no output within the limits can take, so that a model can leave their ramp out.

    A schedule that is prescribed (an outage, a derating, last day's output) may contradict the ramps. The set
    of outputs that a unit can reach is an interval; it is followed from period to period, and where it leaves
    [low, high] the limit of that step is waived and the interval restarts.

    Parameters
    ----------
    low_mw, high_mw : (period, unit)
        Limits of the output while on, low <= high.
    on : (period, unit)
    initial_mw : (unit,)
        NaN where unknown.
    initial_on : (unit,)

    Returns
    -------
    step : (period, unit) bool
        The step into this period is waived: ramp, start limit.
    stop : (period, unit) bool
        The shutdown limit of the step into this period is waived.
    """
    step, stop = np.zeros(on.shape, bool), np.zeros(on.shape, bool)
    known = initial_on & ~np.isnan(initial_mw)
    reach_low = np.where(known, initial_mw, -np.inf)
    reach_high = np.where(known, initial_mw, np.inf)
    before = initial_on
    for t in range(on.shape[0]):
        stop[t] = before & ~on[t] & (reach_low > limits.shutdown_mw + TOLERANCE_MW)
        running, starting = before & on[t], ~before & on[t]
        bottom = np.where(running, reach_low - limits.ramp_down_mw, -np.inf)
        top = np.where(running, reach_high + limits.ramp_up_mw, np.where(starting, limits.startup_mw, np.inf))
        step[t] = on[t] & ((bottom > high_mw[t] + TOLERANCE_MW) | (top < low_mw[t] - TOLERANCE_MW))
        reach_low = np.where(step[t], low_mw[t], np.clip(bottom, low_mw[t], high_mw[t]))
        reach_high = np.where(step[t], high_mw[t], np.clip(top, low_mw[t], high_mw[t]))
        before = on[t]
    return step, stop


def production_cost_eur_per_h(
    units: Units, on: BoolArray, p_mw: FloatArray, available_mw: FloatArray
) -> FloatArray:
    """Return the running cost of each unit, (period, unit): minimum output, energy above, curtailment; no starts.

    Parameters
    ----------
    on, p_mw, available_mw : (period, unit)

    Notes
    -----
    Segments start at p_mw_min for committable units (at the available power where a derating is lower) and at 0
    for others; the last one is open-ended. Variable units cost their first segment's price.
    """
    base = np.where(
        units.committable & on, np.minimum(units.p_mw_min, np.minimum(units.p_mw_max, available_mw)), 0.0
    )
    rest = np.where(on, p_mw - base, 0.0)
    cost = np.where(on & units.committable, units.minimum_output_eur_per_h, 0.0)
    order = np.argsort(units.segment_unit, kind="stable")
    count = np.bincount(units.segment_unit, minlength=units.n)
    place = np.cumsum(count) - count
    for k in range(int(count.max(initial=0))):
        there = np.flatnonzero(count > k)
        segment = order[place[there] + k]
        last = (count[there] == k + 1) | units.variable[there]
        part = np.where(last, rest[:, there], np.minimum(rest[:, there], units.segment_mw[segment]))
        cost[:, there] += part * units.segment_eur_per_mwh[segment]
        rest[:, there] -= part
    lost = np.where(units.variable & on, np.minimum(available_mw, units.p_mw_max) - p_mw, 0.0)
    return np.asarray(cost + np.maximum(lost, 0.0) * units.curtailment_eur_per_mwh)


@njit(cache=True)
def _change(change: FloatArray, edge: FloatArray, t: int, state: int, age: int) -> float:
    """Return what leaving a state after a number of periods in it costs, between the periods t - 1 and t."""
    cost = float(change[state, age])
    if state == 0:
        cost += edge[0, t]
    elif t > 0:
        cost += edge[1, t - 1] if age > 1 else edge[2, t - 1] - edge[0, t - 1]
    return cost


@njit(cache=True)
def _costs_after(own: FloatArray, change: FloatArray, edge: FloatArray) -> FloatArray:
    """Return the least cost of what follows each (period, off or on, periods in that state).

    `own` (period, 2) is what a period costs; `change` (2, age) what leaving a state after that time costs; `edge`
    (3, period) what the first, last and only period of a run costs on top.
    """
    n, size = own.shape[0], change.shape[1] - 1
    after = np.zeros((n, 2, size + 1))
    for t in range(n - 2, -1, -1):
        for s in range(2):
            leave = own[t + 1, 1 - s] + after[t + 1, 1 - s, 1]
            for k in range(1, size + 1):
                stay = own[t + 1, s] + after[t + 1, s, min(k + 1, size)]
                after[t, s, k] = min(stay, _change(change, edge, t + 1, s, k) + leave)
    return after


@njit(cache=True)
def _costs_before(own: FloatArray, change: FloatArray, edge: FloatArray, state: int, lasted: int) -> FloatArray:
    """Return the least cost up to and with each (period, off or on, periods in that state)."""
    n, size = own.shape[0], change.shape[1] - 1
    before = np.full((n, 2, size + 1), np.inf)
    if lasted > 0:
        age = min(lasted, size)
        before[0, state, min(age + 1, size)] = own[0, state]
        before[0, 1 - state, 1] = _change(change, edge, 0, state, age) + own[0, 1 - state]
    else:
        before[0, :, size] = own[0]
    for t in range(1, n):
        for s in range(2):
            for k in range(1, size + 1):
                value, older = before[t - 1, s, k], min(k + 1, size)
                before[t, s, older] = min(before[t, s, older], value + own[t, s])
                changed = value + _change(change, edge, t, s, k) + own[t, 1 - s]
                before[t, 1 - s, 1] = min(before[t, 1 - s, 1], changed)
    return before


@njit(cache=True)
def _follow(
    own: FloatArray, change: FloatArray, edge: FloatArray, after: FloatArray, state: int, age: int
) -> BoolArray:
    """Return a schedule of least cost from (state, age) in the first period on, (period,)."""
    n, size = own.shape[0], change.shape[1] - 1
    on = np.zeros(n, np.bool_)
    on[0] = state == 1
    for t in range(1, n):
        older = min(age + 1, size)
        leave = _change(change, edge, t, state, age) + own[t, 1 - state] + after[t, 1 - state, 1]
        if leave < own[t, state] + after[t, state, older]:
            state, age = 1 - state, 1
        else:
            age = older
        on[t] = state == 1
    return on


@dataclass(frozen=True, eq=False)
class ScheduleCosts:
    """What schedules cost at least.

    Attributes
    ----------
    through_eur : (period, state, unit)
        Least cost of a schedule that is off (0) or on (1) in a period; inf where none keeps the minimum times.
    on : (period, unit)
        A schedule of least cost; meaningless where there is none.
    """

    through_eur: FloatArray
    on: BoolArray

    @property
    def least_eur(self) -> FloatArray:
        """Cost of the cheapest schedule, (unit,); inf if none keeps the minimum times."""
        return np.asarray(self.through_eur[0].min(0))


def schedule_costs(
    on_eur: FloatArray,
    known: IntArray,
    start_eur: FloatArray,
    stop_eur: FloatArray,
    initial_on: BoolArray,
    initial_periods: IntArray,
    min_up: IntArray,
    min_down: IntArray,
    edge_eur: FloatArray | None = None,
) -> ScheduleCosts:
    """Return exactly what unit schedules that keep all minimum times cost at least.

    Parameters
    ----------
    on_eur : (period, unit)
        What it costs to be on; negative where being on is wanted.
    known : (period, unit)
        1 on, 0 off, -1 free.
    start_eur : (age, unit)
        Cost of a start after `age` periods off; the last one holds for longer times.
    stop_eur : (unit,)
    initial_on : (unit,)
    initial_periods : (unit,)
        Periods already in that state; 0 = no history: the first state costs nothing and may end at any time.
    min_up, min_down : (unit,)
        In periods, at least 1.
    edge_eur : (3, period, unit), optional
        What the first, the last and the only period of a run costs on top of being on. A run that began before
        the horizon has no first period, one that lasts to its end no last one.
    """
    n_period, n = on_eur.shape
    edges = np.zeros((3, n_period, n)) if edge_eur is None else edge_eur
    through, on = np.zeros((n_period, 2, n)), np.zeros((n_period, n), bool)
    size = max(start_eur.shape[0] - 1, int(min_up.max(initial=2)), int(min_down.max(initial=2)))
    age = np.arange(size + 1)
    start = start_eur[np.minimum(age, start_eur.shape[0] - 1)]
    for i in range(n):
        change = np.stack([start[:, i], np.full(size + 1, stop_eur[i])])
        change[0, age < min_down[i]] = change[1, age < min_up[i]] = np.inf
        own = np.stack(
            [np.where(known[:, i] == 1, np.inf, 0.0), np.where(known[:, i] == 0, np.inf, on_eur[:, i])], 1
        )
        edge = np.ascontiguousarray(edges[:, :, i])
        before = _costs_before(own, change, edge, int(initial_on[i]), int(initial_periods[i]))
        after = _costs_after(own, change, edge)
        total = before + after
        through[:, :, i] = total.min(2)
        state, first_age = divmod(int(np.argmin(total[0])), size + 1)
        on[:, i] = _follow(own, change, edge, after, state, first_age)
    return ScheduleCosts(through, on)


def cheapest_schedule(
    price: FloatArray,
    known: IntArray,
    initial_on: BoolArray,
    initial_periods: IntArray,
    min_up: IntArray,
    min_down: IntArray,
) -> BoolArray:
    """Return the commitment of least ``sum(price * on)`` that keeps all minimum times, exactly, (period, unit).

    Parameters
    ----------
    price : (period, unit)
        What it costs to be on; negative where being on is wanted.
    known : (period, unit)
        1 on, 0 off, -1 free.
    initial_on : (unit,)
    initial_periods : (unit,)
        Periods already in that state; 0 = no history, both states are possible.
    min_up, min_down : (unit,)
        In periods, at least 1.

    Raises
    ------
    ValueError
        A unit's known periods contradict its minimum times.
    """
    n = price.shape[1]
    free = np.zeros((1, n)), np.zeros(n)
    found = schedule_costs(price, known, *free, initial_on, initial_periods, min_up, min_down)
    wrong = np.flatnonzero(np.isinf(found.least_eur))
    if wrong.size:
        raise ValueError(f"unit {wrong[0]}: the known commitment contradicts its minimum times")
    return found.on
