"""Choosing among schedules is the same problem as deciding by binaries, with a valid bound."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from bos_core.grid.six_bus import day_of, six_bus
from slots.highs_session import HighsSession
from slots.linear_model import LinearModel
from slots.unit_commitment import highs_uc
from slots.unit_commitment.contract import FREE, Inputs
from slots.unit_commitment.schedule_choice import depend_on_prices_alone
from slots.unit_commitment.search import Search, SearchLimits

SEEDS = range(6)


def quick(seed: int) -> Inputs:
    """Return ten hours of units whose ramps do not bind, with limits of starts and stops, and an outage."""
    rng = np.random.default_rng(seed)
    grid, n_period = six_bus(), 10
    units = grid.units
    low = units.p_mw_min
    limit = np.where(units.committable, low + rng.uniform(0, 1, units.n) * (units.p_mw_max - low), np.inf)
    fast = np.full(units.n, 1e4)
    units = replace(units, ramp_up_mw_per_h=fast, ramp_down_mw_per_h=fast, startup_mw=limit, shutdown_mw=limit)
    grid = replace(grid, units=units)
    load, available = day_of(grid, float(rng.uniform(550, 800)), 14)
    load, available = load[4:], available[4:]
    service = np.ones((n_period, units.n), bool)
    service[6:8, int(rng.integers(0, 3))] = False
    return Inputs(
        grid=grid,
        period_h=1,
        look_ahead=0,
        free_start=bool(seed % 2),
        load_p_mw=load,
        available_mw=available,
        in_service=service,
        reserve_up_mw=0.1 * load.sum(1),
        reserve_down_mw=np.full(n_period, 20.0),
        branch_mw_max=np.full(9, 110.0),
        integer=units.committable,
        fixed_on=np.full((n_period, units.n), FREE),
        initial_on=np.array([1, 1, 0, 0, 0, 1, 1, 1, 1], bool),
        initial_h=np.array([100, 20, -6, -3, -10, 9, 9, 9, 9]),
        initial_p_mw=np.array([200, 120, 0, 0, 0, 0, 0, 0, 0.0]),
        energy_mwh_max=np.full(units.n, np.inf),
        storage_initial_mwh=np.array([60.0]),
        storage_final_mwh=np.array([60.0]),
    )


def limits(gap: float) -> SearchLimits:
    chosen = highs_uc.Parameters(gap=gap).model_dump(exclude={"time_limit_s", "window_periods_max"})
    return SearchLimits(**chosen)


def search(inputs: Inputs, gap: float = 1e-5, *, by_schedules: bool = True) -> Search:
    def opened(model: LinearModel) -> HighsSession:
        return HighsSession(model, 60.0)

    return Search(inputs, opened, limits(gap), by_schedules=by_schedules)


@cache
def exact_eur(seed: int) -> float:
    return search(quick(seed), by_schedules=False).run().objective_eur


@pytest.mark.parametrize("seed", SEEDS)
def test_a_commitment_costs_the_same_in_both_models(seed: int) -> None:
    inputs = quick(seed)
    chosen, binary = search(inputs, 0.05), search(inputs, 0.05, by_schedules=False)
    assert chosen.choice.unit.size > 1
    assert not binary.choice.unit.size
    found = chosen._dispatch(chosen._dive(chosen._relax()[0]), -np.inf)
    assert found is not None
    on = np.zeros(inputs.fixed_on.shape, bool)
    on[:, chosen.decided] = found.on
    same = binary._dispatch(on[:, binary.decided], -np.inf)
    assert same is not None
    assert found.objective == pytest.approx(same.objective, rel=1e-7)
    outputs = chosen._outputs(found, "")
    assert np.array_equal(outputs.on[:, chosen.decided], found.on)
    assert outputs.p_mw.sum() == pytest.approx(binary._outputs(same, "").p_mw.sum())


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bound_holds_and_is_as_tight_as_that_of_binaries(seed: int) -> None:
    inputs = quick(seed)
    bound = search(inputs).relaxation_bound()
    assert bound <= exact_eur(seed) + 1e-7 * abs(exact_eur(seed))
    assert bound >= search(inputs, by_schedules=False).relaxation_bound() - 1e-5 * abs(exact_eur(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_search_ends_at_the_optimum_whatever_the_model(seed: int) -> None:
    outputs = search(quick(seed)).run()
    assert outputs.objective_eur == pytest.approx(exact_eur(seed), rel=2e-5)
    assert outputs.bound_eur <= exact_eur(seed) + 1e-7 * abs(exact_eur(seed))


def test_units_that_more_than_prices_bind_keep_binaries() -> None:
    inputs = quick(0)
    units = inputs.grid.units
    slow = np.where(np.arange(units.n) == 1, 5.0, units.ramp_up_mw_per_h)
    budget = np.where(np.arange(units.n) == 2, 100.0, np.inf)
    grid = replace(inputs.grid, units=replace(units, ramp_up_mw_per_h=slow))
    changed = search(replace(inputs, grid=grid, energy_mwh_max=budget))
    horizon = changed.horizon
    loose = np.arange(units.n) == 3
    found = depend_on_prices_alone(changed.inputs, horizon.known, loose, horizon.high_mw)
    assert not set(found.tolist()) & {1, 2, 3}
    assert {1, 2} <= set(horizon.free.unit.tolist())
