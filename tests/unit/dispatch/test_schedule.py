"""Rules of schedules: the checks find what is broken, and only that."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bos_core.grid import schedule
from bos_core.grid.six_bus import six_bus

UNITS = six_bus().units
COAL = 1


def one_hot(value: float) -> np.ndarray:
    p = np.zeros(UNITS.n)
    p[COAL] = value
    return p


@pytest.mark.parametrize(
    ("before", "after", "on_before", "on_after", "excess"),
    [
        (100.0, 150.0, True, True, 0.0),
        (100.0, 157.0, True, True, 7.0),
        (160.0, 100.0, True, True, 5.0),
        (0.0, 100.0, False, True, 0.0),
        (0.0, 112.0, False, True, 12.0),
        (95.0, 0.0, True, False, 5.0),
        (90.0, 0.0, True, False, 0.0),
    ],
)
def test_ramp_start_and_stop_limits(
    before: float, after: float, on_before: bool, on_after: bool, excess: float
) -> None:
    on = np.zeros(UNITS.n, bool)
    found = schedule.ramp_violations(
        one_hot(before), one_hot(after), on | (one_hot(1) * on_before > 0), on | (one_hot(1) * on_after > 0), UNITS
    )
    assert found == ([(COAL, pytest.approx(excess))] if excess else [])


def test_unknown_output_before_breaks_nothing() -> None:
    on = np.ones(UNITS.n, bool)
    assert not schedule.ramp_violations(np.full(UNITS.n, np.nan), UNITS.p_mw_max, on, on, UNITS)


def test_short_runs_are_found_unless_an_outage_forces_them() -> None:
    on = np.zeros((12, UNITS.n), bool)
    on[2:5, COAL] = True
    off, hours = np.zeros(UNITS.n, bool), np.full(UNITS.n, -50)
    found = schedule.updown_violations(on, UNITS, off, hours)
    assert found == [schedule.ShortRun(COAL, 5, True, 3, 5)]
    forced = np.zeros(on.shape, bool)
    forced[5, COAL] = True
    assert not schedule.updown_violations(on, UNITS, off, hours, forced=forced)


def test_time_before_the_horizon_counts() -> None:
    on = np.zeros((3, UNITS.n), bool)
    was_on = np.arange(UNITS.n) == COAL
    assert not schedule.updown_violations(on, UNITS, was_on, np.where(was_on, 5, -50))
    short = schedule.updown_violations(on, UNITS, was_on, np.where(was_on, 4, -50))
    assert [(v.unit, v.lasted_h) for v in short] == [(COAL, 4)]


def test_block_limits() -> None:
    limits = schedule.PeriodLimits.of(UNITS, 4)
    assert limits.ramp_up_mw[COAL] == 200
    assert limits.startup_mw[COAL] == pytest.approx(np.mean([100, 150, 200, 200]))
    assert limits.min_up[COAL] == 2
    assert limits.min_down[COAL] == 1


def test_production_cost_follows_the_segments() -> None:
    on = np.zeros((1, UNITS.n), bool)
    on[0, [COAL, 6]] = True
    p = np.zeros((1, UNITS.n))
    p[0, COAL], p[0, 6] = 150.0, 30.0
    available = UNITS.p_mw_max[None, :] * 1.0
    cost = schedule.production_cost_eur_per_h(UNITS, on, p, available)
    assert cost[0, COAL] == pytest.approx(2300 + 60 * 24 + 10 * 28)
    assert cost[0, 6] == pytest.approx((180 - 30) * 20)
    assert cost.sum() == pytest.approx(cost[0, COAL] + cost[0, 6])


def test_exports_earn_the_first_segments_price() -> None:
    on = np.zeros((1, UNITS.n), bool)
    on[0, 5] = True
    p = np.zeros((1, UNITS.n))
    p[0, 5] = -40.0
    cost = schedule.production_cost_eur_per_h(UNITS, on, p, UNITS.p_mw_max[None, :])
    assert cost.sum() == pytest.approx(-40 * 65)


def test_unreachable_steps_are_waived_and_no_others() -> None:
    limits = schedule.PeriodLimits.of(UNITS, 1)
    n = UNITS.n
    high = np.tile(UNITS.p_mw_max, (4, 1))
    high[2, COAL] = 90.0
    low = np.minimum(np.tile(np.maximum(UNITS.p_mw_min, 0), (4, 1)), high)
    on = np.ones((4, n), bool)
    initial = UNITS.p_mw_max
    step, stop = schedule.waive_unreachable(low, high, on, initial, on[0], limits)
    assert not stop.any()
    assert not step[:, COAL].any()
    high[0, COAL] = 90.0
    low = np.minimum(low, high)
    step, _ = schedule.waive_unreachable(low, high, on, initial, on[0], limits)
    assert np.flatnonzero(step[:, COAL]).tolist() == [0]
    off = on.copy()
    off[0, COAL] = False
    _, stop = schedule.waive_unreachable(low, high, off, initial, on[0], limits)
    assert np.argwhere(stop).tolist() == [[0, COAL]]


@pytest.mark.parametrize("seed", range(12))
def test_cheapest_schedule_equals_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, up, down = 9, int(rng.integers(1, 5)), int(rng.integers(1, 5))
    price = rng.normal(0, 1, n)
    known = np.where(rng.random(n) < 0.1, rng.integers(0, 2, n), -1)
    initial_on, lasted = bool(rng.integers(2)), int(rng.integers(0, 4))

    def legal(path: tuple[int, ...]) -> bool:
        state, age = (path[0], 99) if lasted == 0 else (int(initial_on), lasted)
        for value in path:
            if value != state:
                if age < (up if state else down):
                    return False
                state, age = value, 0
            age += 1
        return True

    paths = [p for p in itertools.product((0, 1), repeat=n) if legal(p)]
    paths = [p for p in paths if all(k in (-1, v) for k, v in zip(known, p, strict=True))]
    arguments = (price[:, None], known[:, None], np.array([initial_on]), np.array([lasted]))
    if not paths:
        with pytest.raises(ValueError, match="contradicts"):
            schedule.cheapest_schedule(*arguments, np.array([up]), np.array([down]))
        return
    found = schedule.cheapest_schedule(*arguments, np.array([up]), np.array([down]))[:, 0]
    assert tuple(found.astype(int)) in paths
    assert price @ found == pytest.approx(min(price @ np.array(p) for p in paths))


@pytest.mark.parametrize("edged", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_schedule_costs_equal_enumeration(seed: int, edged: bool) -> None:
    rng = np.random.default_rng(seed)
    n, up, down = 8, int(rng.integers(1, 4)), int(rng.integers(1, 4))
    price, start = rng.normal(0, 1, n), np.sort(rng.random(5))
    stop, initial_on, lasted = float(rng.random()), bool(rng.integers(2)), int(rng.integers(0, 4))
    known = np.full(n, -1)
    edge = rng.random((3, n)) * edged

    def edges(path: tuple[int, ...]) -> float:
        before = path[0] if lasted == 0 else int(initial_on)
        total = 0.0
        for t, on in enumerate(path):
            first, last = not (path[t - 1] if t else before), t < n - 1 and not path[t + 1]
            kind = 2 if first and last else 0 if first else 1
            total += edge[kind, t] if on and (first or last) else 0.0
        return total

    def cost(path: tuple[int, ...]) -> float:
        state, age = (path[0], 99) if lasted == 0 else (int(initial_on), lasted)
        total = 0.0
        for t, value in enumerate(path):
            if value != state:
                if age < (up if state else down):
                    return np.inf
                total += stop if state else start[min(age, 4)]
                state, age = value, 0
            total += value * price[t]
            age += 1
        return total + edges(path)

    paths = list(itertools.product((0, 1), repeat=n))
    costs = np.array([cost(p) for p in paths])
    found = schedule.schedule_costs(
        price[:, None], known[:, None], start[:, None], np.array([stop]),
        np.array([initial_on]), np.array([lasted]), np.array([up]), np.array([down]), edge[:, :, None],
    )  # fmt: skip
    for t, state in itertools.product(range(n), (0, 1)):
        least = min(costs[[p[t] == state for p in paths]])
        assert found.through_eur[t, state, 0] == pytest.approx(least)
    assert cost(tuple(found.on[:, 0].astype(int))) == pytest.approx(costs.min())


def test_balance_counts_losses_of_hvdc() -> None:
    grid = six_bus()
    grid = replace(grid, hvdc=replace(grid.hvdc, loss_mw=np.array([2.0])))
    load, none = np.full((1, 4), 25.0), np.zeros(1)
    unit = np.zeros((1, 9))
    unit[0, 0] = 100 + 2 + 0.03 * 50
    found = schedule.imbalance_mw(grid, load, unit, np.zeros((1, 1)), np.array([[-50.0]]), none, none)
    assert found == pytest.approx(0.0)


def test_storage_check_finds_energy_from_nowhere() -> None:
    grid = six_bus()
    p, start = np.array([[46.0], [-40.0]]), np.array([60.0])
    energy = np.array([[10.0], [46.0]])
    assert schedule.storage_excess_mwh(grid, p, energy, start).max() == pytest.approx(0.0, abs=1e-9)
    assert schedule.storage_excess_mwh(grid, p, energy + np.array([[0], [7]]), start).max() == pytest.approx(7.0)
