"""Every dispatch program keeps the slot's promise, and all find the same optimum."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from bos_core.grid import schedule
from bos_core.grid.dc import dc_flow
from bos_core.grid.six_bus import day_of, six_bus
from bos_core.objects.contracts import check
from bos_core.objects.errors import InputError
from bos_core.programs.registry import program_names, resolve
from slots.active_dispatch.contract import CONTRACT, Inputs, Outputs

PROGRAMS = program_names("active_dispatch")
GRID = six_bus()


def day(load_factor: float = 1.0, limit_mw: float = 110.0) -> Inputs:
    load, available = day_of(GRID)
    on = np.ones(available.shape, bool)
    on[:6, 4] = on[:3, 3] = False
    return Inputs(
        grid=GRID,
        on=on,
        load_p_mw=load * load_factor,
        available_mw=available,
        reserve_up_mw=0.05 * load.sum(1),
        reserve_down_mw=np.full(24, 20.0),
        branch_mw_max=np.full(9, limit_mw),
        initial_on=on[0],
        initial_p_mw=np.where(on[0], [250.0, 180.0, 100.0, 0, 0, 0, 0, 0, 0], np.nan),
        storage_initial_mwh=np.array([60.0]),
        storage_final_mwh=np.array([60.0]),
        losses_mw=np.full(24, 8.0),
    )


CASES = {
    "congested": day(),
    "short": day(1.6),
    "free network": day(limit_mw=np.inf),
    "light": day(0.9),
}


@cache
def solved(program: str, case: str) -> Outputs:
    outputs = resolve("active_dispatch", program).run(CASES[case], {})
    assert isinstance(outputs, Outputs)
    return outputs


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_contract_and_independent_checks(program: str, case: str) -> None:
    inputs, outputs = CASES[case], solved(program, case)
    assert check(outputs) == []
    assert CONTRACT.verify(inputs, outputs) == []
    before_p = np.vstack([inputs.initial_p_mw, outputs.p_mw[:-1]])
    before_on = np.vstack([inputs.initial_on, inputs.on[:-1]])
    excess = schedule.ramp_excess_mw(before_p, outputs.p_mw, before_on, inputs.on, GRID.units)
    assert excess.max() < schedule.TOLERANCE_MW
    load = inputs.load_p_mw + inputs.losses_mw[:, None] / 4
    imbalance = schedule.imbalance_mw(
        GRID,
        load,
        outputs.p_mw,
        outputs.storage_p_mw,
        outputs.hvdc_p_mw,
        outputs.shed_mw.sum(1),
        outputs.surplus_mw,
    )
    assert np.abs(imbalance).max() < 1e-5
    energy = schedule.storage_excess_mwh(
        GRID, outputs.storage_p_mw, outputs.storage_energy_mwh, inputs.storage_initial_mwh
    )
    assert energy.max() < 1e-5
    assert outputs.storage_energy_mwh[-1] >= 60 - 1e-6
    held = outputs.reserve_up_mw.sum(1) + outputs.reserve_down_mw.sum(1) + outputs.reserve_short_mw
    assert (held >= inputs.reserve_up_mw + inputs.reserve_down_mw - 1e-5).all()
    assert (outputs.shed_mw <= inputs.load_p_mw + 1e-6).all()
    assert outputs.fallback == ""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_objective_is_the_cost_of_what_is_reported(program: str, case: str) -> None:
    inputs, outputs = CASES[case], solved(program, case)
    slacks = inputs.overload_eur_per_mwh * outputs.overload_mw.sum()
    slacks += inputs.reserve_eur_per_mwh * outputs.reserve_short_mw.sum()
    price = np.where(GRID.loads.sheddable, 1.0, 10.0) * inputs.unserved_eur_per_mwh
    slacks += (outputs.shed_mw * price).sum() + inputs.unserved_eur_per_mwh * outputs.surplus_mw.sum()
    assert outputs.objective_eur == pytest.approx(outputs.cost_eur.sum() + slacks, rel=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_all_formulations_find_the_same_optimum(program: str, case: str) -> None:
    assert solved(program, case).objective_eur == pytest.approx(solved("lazy_ptdf", case).objective_eur, rel=1e-6)


@pytest.mark.parametrize("program", PROGRAMS)
def test_flows_are_those_of_the_dc_network(program: str) -> None:
    inputs, outputs = CASES["congested"], solved(program, "congested")
    network, hvdc = GRID.network, GRID.hvdc
    injection = np.zeros((24, network.n_bus))
    sign = outputs.hvdc_p_mw >= 0
    received = np.abs(outputs.hvdc_p_mw) * (1 - hvdc.loss_share)
    parts = [
        (GRID.units.bus, outputs.p_mw),
        (GRID.storages.bus, outputs.storage_p_mw),
        (GRID.loads.bus, outputs.shed_mw - inputs.load_p_mw),
        (hvdc.from_bus, np.where(sign, -outputs.hvdc_p_mw, received)),
        (hvdc.to_bus, np.where(sign, received, outputs.hvdc_p_mw) - hvdc.loss_mw),
        (GRID.loads.bus, -inputs.losses_mw[:, None] * inputs.load_p_mw / inputs.load_p_mw.sum(1, keepdims=True)),
    ]
    for bus, values in parts:
        np.add.at(injection.T, bus, values.T)
    np.testing.assert_allclose(dc_flow(network, injection), outputs.flow_mw, atol=1e-5)


@pytest.mark.parametrize("program", PROGRAMS)
def test_prices_are_what_one_more_megawatt_costs(program: str) -> None:
    inputs = CASES["light"]
    outputs = solved(program, "light")
    run = resolve("active_dispatch", program).run
    for hour, load in ((8, 1), (19, 2)):
        step = 0.01
        shifted = []
        for sign in (1, -1):
            demand = inputs.load_p_mw.copy()
            demand[hour, load] += sign * step
            total = inputs.load_p_mw.sum(1)
            shifted.append(run(replace(inputs, load_p_mw=demand, losses_mw=8.0 * demand.sum(1) / total), {}))
        # Losses are spread by demand, so that more demand at one bus moves their place a little.
        slope = (shifted[0].objective_eur - shifted[1].objective_eur) / (2 * step)
        price = outputs.price_eur_per_mwh[hour, GRID.loads.bus[load]]
        assert slope == pytest.approx(price * (1 + 8.0 / inputs.load_p_mw[hour].sum()), rel=0.02)


@pytest.mark.parametrize("program", PROGRAMS)
def test_shortage_is_shed_and_reported(program: str) -> None:
    outputs = solved(program, "short")
    assert outputs.shed_mw.sum() > 1
    assert outputs.shed_mw[:, ~GRID.loads.sheddable].sum() == pytest.approx(0.0, abs=1e-6)
    assert outputs.overload_mw.sum() > 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_surplus_never_burns_energy_in_a_storage(program: str) -> None:
    inputs = replace(day(0.3), reserve_up_mw=np.zeros(24), reserve_down_mw=np.zeros(24))
    inputs = replace(
        inputs,
        on=inputs.on[:3],
        **{f: getattr(inputs, f)[:3] for f in ("load_p_mw", "available_mw", "losses_mw", "reserve_up_mw")},
        reserve_down_mw=np.zeros(3),
    )
    outputs = resolve("active_dispatch", program).run(inputs, {})
    assert outputs.surplus_mw.sum() > 1
    leak = schedule.storage_excess_mwh(GRID, outputs.storage_p_mw, outputs.storage_energy_mwh, np.array([60.0]))
    assert leak.max() < 1e-3


@pytest.mark.parametrize("program", PROGRAMS)
def test_impossible_commitment_is_dispatched_and_named(program: str) -> None:
    inputs = day()
    on = inputs.on.copy()
    on[0, 1] = False
    outputs = resolve("active_dispatch", program).run(replace(inputs, on=on), {})
    assert "waived" in outputs.status
    violations = schedule.ramp_violations(
        inputs.initial_p_mw, outputs.p_mw[0], inputs.initial_on, on[0], GRID.units
    )
    assert violations == [(1, pytest.approx(180 - 90))]


@pytest.mark.parametrize("program", PROGRAMS)
def test_unknown_output_before_the_day_binds_nothing(program: str) -> None:
    inputs = day()
    unknown = replace(inputs, initial_p_mw=np.full(inputs.initial_p_mw.shape, np.nan))
    off = replace(unknown, initial_on=np.zeros_like(inputs.initial_on))
    free, starting = (resolve("active_dispatch", program).run(each, {}) for each in (unknown, off))
    started = np.maximum(GRID.units.startup_mw, GRID.units.p_mw_min)[GRID.units.committable]
    assert (starting.p_mw[0, GRID.units.committable] <= started + 1e-6).all()
    assert (free.p_mw[0, GRID.units.committable] > started + 1.0).any()


@pytest.mark.parametrize("program", PROGRAMS)
def test_answers_repeat_exactly(program: str) -> None:
    again = resolve("active_dispatch", program).run(CASES["congested"], {})
    first = solved(program, "congested")
    assert np.array_equal(again.p_mw, first.p_mw)
    assert np.array_equal(again.price_eur_per_mwh, first.price_eur_per_mwh)


@pytest.mark.parametrize("program", PROGRAMS)
def test_storage_outside_its_limits_is_refused(program: str) -> None:
    with pytest.raises(InputError, match="energy limits"):
        resolve("active_dispatch", program).run(replace(day(), storage_initial_mwh=np.array([500.0])), {})
