"""Every commitment program keeps the slot's promise; independent formulations find the same optimum."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from bos_core.grid import schedule
from bos_core.grid.model import FloatArray
from bos_core.grid.six_bus import day_of, six_bus
from bos_core.objects.contracts import check
from bos_core.objects.errors import InputError
from bos_core.programs.registry import program_names, resolve
from slots.active_dispatch.contract import Inputs as Day
from slots.highs_session import HighsSession
from slots.linear_model import Solution
from slots.unit_commitment import highs_uc
from slots.unit_commitment.contract import CONTRACT, FREE, Inputs, Outputs
from slots.unit_commitment.search import SearchLimits
from slots.unit_commitment.start_costs import switching_cost_eur
from slots.unit_commitment.windows import commit

PROGRAMS = program_names("unit_commitment")
GRID = six_bus()
UNITS = GRID.units
GAP = 5e-4


def horizon(
    periods: int = 12, peak_mw: float = 620.0, period_h: int = 1, limit_mw: float = 110.0, first: int = 4
) -> Inputs:
    load, available = day_of(GRID, peak_mw, first + periods * period_h)
    load, available = load[first:], available[first:]
    if period_h > 1:
        load = load.reshape(periods, period_h, -1).mean(1)
        available = available.reshape(periods, period_h, -1).mean(1)
    n = UNITS.n
    return Inputs(
        grid=GRID,
        period_h=period_h,
        look_ahead=2,
        free_start=False,
        load_p_mw=load,
        available_mw=available,
        in_service=np.ones((periods, n), bool),
        reserve_up_mw=0.05 * load.sum(1),
        reserve_down_mw=np.full(periods, 20.0),
        branch_mw_max=np.full(9, limit_mw),
        integer=UNITS.committable,
        fixed_on=np.full((periods, n), FREE),
        initial_on=np.array([1, 1, 0, 0, 0, 1, 1, 1, 1], bool),
        initial_h=np.array([100, 20, -6, -3, -10, 9, 9, 9, 9]),
        initial_p_mw=np.array([200, 120, 0, 0, 0, 0, 0, 0, 0.0]),
        energy_mwh_max=np.full(n, np.inf),
        storage_initial_mwh=np.array([60.0]),
        storage_final_mwh=np.array([60.0]),
    )


def with_outage() -> Inputs:
    """The coal unit trips at full load, another one is prescribed, a gas unit is derated and has a budget."""
    inputs = horizon()
    service, fixed, available = inputs.in_service.copy(), inputs.fixed_on.copy(), inputs.available_mw.copy()
    service[5:9, 1] = False
    fixed[2:8, 2] = 1
    fixed[4, 4] = 1
    available[:, 3] = 40.0
    budget = np.where(np.arange(UNITS.n) == 3, 200.0, np.inf)
    power = np.array([200, 190, 0, 0, 0, 0, 0, 0, 0.0])
    return replace(
        inputs,
        in_service=service,
        fixed_on=fixed,
        available_mw=available,
        energy_mwh_max=budget,
        initial_p_mw=power,
    )


CASES = {
    "congested": horizon(),
    "short": horizon(peak_mw=1300.0),
    "surplus": horizon(peak_mw=170.0, periods=6, first=0),
    "free network": horizon(limit_mw=np.inf),
    "free start": replace(horizon(), free_start=True),
    "blocks": horizon(periods=8, period_h=4, first=0),
    "outage": with_outage(),
}


@cache
def solved(program: str, case: str) -> Outputs:
    outputs = resolve("unit_commitment", program).run(CASES[case], {"gap": GAP})
    assert isinstance(outputs, Outputs)
    return outputs


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_contract(program: str, case: str) -> None:
    outputs = solved(program, case)
    assert check(outputs) == []
    assert CONTRACT.verify(CASES[case], outputs) == []
    assert outputs.fallback == ""
    assert outputs.gap <= GAP * 1.001


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_an_independent_reading_finds_nothing(program: str, case: str) -> None:
    inputs, outputs = CASES[case], solved(program, case)
    forced = ~inputs.in_service
    if not inputs.free_start:
        before_on = np.vstack([inputs.initial_on, outputs.on[:-1]])
        before_p = np.vstack([inputs.initial_p_mw, outputs.p_mw[:-1]])
        excess = schedule.ramp_excess_mw(before_p, outputs.p_mw, before_on, outputs.on, UNITS, inputs.period_h)
        assert np.where(forced, 0.0, excess).max() < schedule.TOLERANCE_MW
        assert not schedule.updown_violations(
            outputs.on, UNITS, inputs.initial_on, inputs.initial_h, inputs.period_h, forced
        )
    assert outputs.on[inputs.in_service & UNITS.must_run].all()
    low = np.minimum(UNITS.p_mw_min, np.minimum(inputs.available_mw, UNITS.p_mw_max))
    assert (outputs.p_mw >= np.where(outputs.on & ~UNITS.variable, low, 0.0) - 1e-4).all()
    imbalance = schedule.imbalance_mw(
        GRID,
        inputs.load_p_mw,
        outputs.p_mw,
        outputs.storage_p_mw,
        outputs.hvdc_p_mw,
        outputs.unserved_mw,
        outputs.surplus_mw,
    )
    assert np.abs(imbalance).max() < 1e-4
    energy = schedule.storage_excess_mwh(
        GRID, outputs.storage_p_mw, outputs.storage_energy_mwh, inputs.storage_initial_mwh, inputs.period_h
    )
    assert energy.max() < 1e-4
    assert outputs.storage_energy_mwh[-1] >= inputs.storage_final_mwh - 1e-4
    used = (outputs.p_mw * inputs.period_h).sum(0)
    assert (used <= inputs.energy_mwh_max + 1e-4).all()
    held = outputs.reserve_up_mw.sum(1) + outputs.reserve_down_mw.sum(1) + outputs.reserve_short_mw
    assert (held >= inputs.reserve_up_mw + inputs.reserve_down_mw - 1e-4).all()
    headroom = np.minimum(inputs.available_mw, UNITS.p_mw_max) - outputs.p_mw
    assert (outputs.reserve_up_mw <= np.maximum(headroom, 0.0) + 1e-4).all()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_objective_is_the_cost_of_what_is_reported(program: str, case: str) -> None:
    inputs, outputs = CASES[case], solved(program, case)
    h = inputs.period_h
    cost = schedule.production_cost_eur_per_h(UNITS, outputs.on, outputs.p_mw, inputs.available_mw).sum() * h
    cost += switching_cost_eur(UNITS, outputs.on, inputs.initial_on, inputs.initial_h, h, inputs.free_start).sum()
    slack = (outputs.unserved_mw + outputs.surplus_mw).sum() * inputs.unserved_eur_per_mwh
    slack += outputs.reserve_short_mw.sum() * inputs.reserve_eur_per_mwh
    slack += outputs.overload_mw.sum() * inputs.overload_eur_per_mwh
    assert outputs.objective_eur == pytest.approx(cost + slack * h, rel=1e-6, abs=0.5)


@pytest.mark.parametrize("case", CASES)
def test_programs_bracket_each_other(case: str) -> None:
    """No program's proven bound lies above what another program found."""
    found = {name: solved(name, case) for name in PROGRAMS}
    lowest = min(o.objective_eur for o in found.values())
    highest = max(o.objective_eur for o in found.values())
    assert max(o.bound_eur for o in found.values()) <= lowest + 1e-6 * abs(lowest)
    assert highest - lowest <= GAP * abs(highest) * 1.001


def test_slacks_are_reported() -> None:
    assert solved("highs_uc", "short").overload_mw.sum() > 1
    assert solved("highs_uc", "short").unserved_mw.sum() + solved("highs_uc", "short").reserve_short_mw.sum() > 1
    assert (
        solved("highs_uc", "surplus").surplus_mw.sum() + solved("highs_uc", "surplus").reserve_short_mw.sum() > 1
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_prescriptions_prevail(program: str) -> None:
    outputs = solved(program, "outage")
    assert not outputs.on[5:9, 1].any()
    assert outputs.on[2:8, 2].all()
    assert outputs.on[4, 4]
    assert outputs.p_mw[:, 3].max() <= 40 + 1e-6


@pytest.mark.parametrize("program", PROGRAMS)
def test_contradicting_prescriptions_give_an_answer_that_says_so(program: str) -> None:
    inputs = horizon(periods=6)
    fixed = inputs.fixed_on.copy()
    fixed[:, 1] = [0, 1, 0, 1, 1, 1]
    changed = replace(inputs, fixed_on=fixed, initial_p_mw=np.array([200, 200, 0, 0, 0, 0, 0, 0, 0.0]))
    outputs = resolve("unit_commitment", program).run(changed, {"gap": 0.01})
    assert outputs.on[:, 1].astype(int).tolist() == [0, 1, 0, 1, 1, 1]
    if program != "pyomo_uc":
        assert "contradict" in outputs.status
        assert "waived" in outputs.status


def with_relaxed_units() -> Inputs:
    """Six blocks of four hours; fast units are relaxed, one of them must rest, then run."""
    inputs = horizon(periods=6, period_h=4, first=0)
    slow = UNITS.committable & (UNITS.min_up_h >= 5)
    fixed = inputs.fixed_on.copy()
    fixed[1:3, np.flatnonzero(UNITS.committable & ~slow)[0]] = [0, 1]
    return replace(inputs, integer=slow, fixed_on=fixed)


@cache
def relaxed_by(program: str) -> Outputs:
    return resolve("unit_commitment", program).run(with_relaxed_units(), {"gap": GAP})


@pytest.mark.parametrize("program", PROGRAMS)
def test_relaxed_units_run_at_any_output_along_their_cost_envelope(program: str) -> None:
    inputs, outputs, other = with_relaxed_units(), relaxed_by(program), relaxed_by("pyomo_uc")
    assert check(outputs) == []
    assert CONTRACT.verify(inputs, outputs) == []
    assert outputs.bound_eur <= other.objective_eur * (1 + 1e-6)
    assert other.bound_eur <= outputs.objective_eur * (1 + 1e-6)
    unit = int(np.flatnonzero(UNITS.committable & ~inputs.integer)[0])
    assert outputs.p_mw[1, unit] == pytest.approx(0.0, abs=1e-6)
    assert outputs.p_mw[2, unit] >= UNITS.p_mw_min[unit] - 1e-6
    whole = replace(inputs, integer=UNITS.committable, fixed_on=np.full(inputs.fixed_on.shape, FREE))
    free = resolve("unit_commitment", program).run(replace(whole, integer=inputs.integer), {"gap": GAP})
    decided = resolve("unit_commitment", program).run(whole, {"gap": GAP})
    assert free.bound_eur <= decided.objective_eur


def tiny(seed: int) -> Inputs:
    rng = np.random.default_rng(seed)
    inputs = horizon(periods=5, peak_mw=float(rng.uniform(450, 700)), first=int(rng.integers(3, 14)))
    fixed = np.ones(inputs.fixed_on.shape, int)
    fixed[:, 2] = 0
    fixed[:, 3:5] = FREE
    return replace(inputs, look_ahead=0, fixed_on=fixed)


@cache
def enumerated_eur(seed: int) -> float:
    """Cost of the best of all commitments of two units in five hours, each dispatched by the other slot."""
    inputs, best = tiny(seed), np.inf
    dispatch = resolve("active_dispatch", "lazy_ptdf")
    for bits in itertools.product((False, True), repeat=10):
        on = inputs.fixed_on == 1
        on[:, 3:5] = np.array(bits).reshape(5, 2)
        if schedule.updown_violations(on, UNITS, inputs.initial_on, inputs.initial_h):
            continue
        start = switching_cost_eur(UNITS, on, inputs.initial_on, inputs.initial_h, 1, False).sum()
        if start >= best:
            continue
        shared = ("available_mw", "load_p_mw", "reserve_up_mw", "reserve_down_mw", "branch_mw_max", "initial_on")
        day = Day(
            grid=replace(GRID, loads=replace(GRID.loads, sheddable=np.zeros(4, bool))),
            on=on,
            initial_p_mw=np.where(inputs.initial_on, inputs.initial_p_mw, np.nan),
            storage_initial_mwh=inputs.storage_initial_mwh,
            storage_final_mwh=inputs.storage_final_mwh,
            losses_mw=np.zeros(5),
            **{name: getattr(inputs, name) for name in shared},
        )
        best = min(best, dispatch.module.run(day, dispatch.parameters({})).objective_eur + start)
    return best


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("seed", range(2))
def test_tiny_horizons_equal_enumeration(program: str, seed: int) -> None:
    outputs = resolve("unit_commitment", program).run(tiny(seed), {"gap": 1e-5})
    assert outputs.objective_eur == pytest.approx(enumerated_eur(seed), rel=2e-5)


def test_long_horizons_are_decided_in_windows_with_a_valid_bound() -> None:
    inputs = replace(horizon(periods=34, peak_mw=500.0, first=0), look_ahead=0)
    whole = resolve("unit_commitment", "highs_uc").run(inputs, {"gap": 0.002})
    split = resolve("unit_commitment", "highs_uc").run(inputs, {"gap": 0.002, "window_periods_max": 30})
    assert "windows" in split.status
    assert CONTRACT.verify(inputs, split) == []
    assert split.bound_eur <= whole.bound_eur * (1 + 1e-6)
    assert whole.bound_eur <= split.objective_eur <= whole.objective_eur * 1.01
    assert not schedule.updown_violations(split.on, UNITS, inputs.initial_on, inputs.initial_h)
    assert (split.storage_energy_mwh[-1] >= inputs.storage_final_mwh - 1e-4).all()


class Impatient(HighsSession):
    """A session whose time limit ends every solve of a model with something to decide."""

    def solve_relaxation(self) -> Solution:
        if not self.model.integer.any():
            return super().solve_relaxation()
        self.timed_out = True
        return Solution.missing("no solution")

    def solve_integer(self, gap: float, nodes_max: int, start: FloatArray | None = None) -> Solution:
        if not self.model.integer.any():
            return super().solve_integer(gap, nodes_max, start)
        self.timed_out = True
        return Solution.missing("no solution")


@pytest.mark.parametrize("window_periods_max", [30, 60])
def test_too_little_time_gives_a_marked_answer_with_a_valid_bound(window_periods_max: int) -> None:
    inputs = replace(horizon(periods=34, peak_mw=500.0, first=0), look_ahead=0)
    limits = SearchLimits(**highs_uc.Parameters().model_dump(exclude={"time_limit_s", "window_periods_max"}))
    rough = commit(inputs, lambda model: Impatient(model, 600.0), limits, window_periods_max)
    assert rough.fallback == "a solve reached its time limit"
    assert CONTRACT.verify(inputs, rough) == []
    whole = resolve("unit_commitment", "highs_uc").run(inputs, {"gap": 0.002})
    assert 0 < rough.bound_eur <= whole.objective_eur <= rough.objective_eur * (1 + 1e-6)
    assert rough.gap > 0
    assert not schedule.updown_violations(rough.on, UNITS, inputs.initial_on, inputs.initial_h)
    before = np.vstack([inputs.initial_on, rough.on[:-1]]), np.vstack([inputs.initial_p_mw, rough.p_mw[:-1]])
    excess = schedule.ramp_excess_mw(before[1], rough.p_mw, before[0], rough.on, UNITS)
    assert excess.max() < schedule.TOLERANCE_MW


def test_start_costs_depend_on_the_time_off() -> None:
    on = np.zeros((30, UNITS.n), bool)
    on[[0, 1, 2, 3, 4, 9, 10, 11, 12, 13, 29], 1] = True
    was = np.arange(UNITS.n) == 1
    cost = switching_cost_eur(UNITS, on, was, np.where(was, 9, -99), 1, False)[:, 1]
    assert np.flatnonzero(cost).tolist() == [5, 9, 14, 29]
    assert cost[[5, 9, 14, 29]].tolist() == [100, 3000, 100, 4500]


def test_answers_repeat_exactly() -> None:
    first, again = (
        solved("highs_uc", "congested"),
        resolve("unit_commitment", "highs_uc").run(CASES["congested"], {"gap": GAP}),
    )
    assert np.array_equal(first.p_mw, again.p_mw)
    assert first.objective_eur == again.objective_eur


@pytest.mark.parametrize("program", PROGRAMS)
def test_impossible_input_is_refused_with_every_finding(program: str) -> None:
    inputs = replace(horizon(), storage_initial_mwh=np.array([500.0]), look_ahead=12)
    with pytest.raises(InputError) as caught:
        resolve("unit_commitment", program).run(inputs, {})
    assert len(caught.value.findings) == 2
