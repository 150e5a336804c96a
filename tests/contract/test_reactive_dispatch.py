"""Every program of the reactive-dispatch slot on small grids."""

from dataclasses import fields, replace

import numpy as np
import pytest

from bos_core.grid import power_flow
from bos_core.grid.injections import bus_injections
from bos_core.grid.model import Grid, Snapshot, stack
from bos_core.grid.optimal_flow_reactive import TapTable, Twins
from bos_core.grid.six_bus import six_bus
from bos_core.objects.contracts import check
from bos_core.programs.registry import Program, program_names, resolve
from slots.reactive_dispatch.contract import CONTRACT, DIVERGED, OPTIMAL, POWER_FLOW_ONLY, SOFT, Inputs, Outputs

SLOT = "reactive_dispatch"


@pytest.fixture(params=program_names(SLOT))
def program(request: pytest.FixtureRequest) -> Program:
    return resolve(SLOT, request.param)


def grid_with_taps() -> Grid:
    """The six buses with ten taps of 1.5 % each way on the last branch and on branch 5, at their to sides."""
    grid = six_bus()
    network = replace(
        grid.network,
        tap_branch=np.array([8, 5]),
        tap=np.array([0, 0]),
        tap_min=np.array([-10, -4]),
        tap_max=np.array([10, 4]),
        tap_neutral=np.array([0, 0]),
        tap_step=np.array([0.015, 0.015]),
        tap_step_rad=np.zeros(2),
        tap_at_from=np.array([True, False]),
        tap_phase_shifter=np.zeros(2, bool),
    )
    return replace(grid, network=network)


def state(grid: Grid, scale: float = 1.0) -> Snapshot:
    units, n = grid.units, grid.network.n_bus
    on = np.array([True, True, True, True, False, True, True, True, True])
    p = np.array([250.0, 100.0, 80.0, 70.0, 0.0, 20.0, 60.0, 20.0, 30.0])
    return Snapshot(
        unit_on=on,
        unit_p_mw=p,
        unit_q_mvar=np.zeros(units.n),
        unit_vm_set_pu=np.where(on & units.voltage_control, 1.0, np.nan),
        load_p_mw=np.array([120.0, 200.0, 190.0, 100.0]) * scale,
        load_q_mvar=np.array([30.0, 50.0, 60.0, 30.0]) * scale,
        storage_p_mw=np.zeros(1),
        storage_q_mvar=np.zeros(1),
        svg_q_mvar=np.zeros(1),
        svg_vm_set_pu=np.full(1, np.nan),
        hvdc_p_mw=np.full(1, 40.0),
        hvdc_q_from_mvar=np.zeros(1),
        hvdc_q_to_mvar=np.zeros(1),
        hvdc_vm_from_set_pu=np.full(1, np.nan),
        hvdc_vm_to_set_pu=np.full(1, np.nan),
        tap=np.zeros(grid.network.tap.size, np.int64),
        shunt_step=np.zeros(1, np.int64),
        vm_pu=np.ones(n),
        va_rad=np.zeros(n),
    )


def inputs(grid: Grid, states: Snapshot, low: float = 0.95, high: float = 1.05, loading: float = 1.0) -> Inputs:
    n, m = grid.network.n_bus, grid.network.n_branch
    return Inputs(grid, states, np.full(n, low), np.full(n, high), np.full(m, loading))


def run(program: Program, given: Inputs, **values: object) -> Outputs:
    outputs: Outputs = program.run(given, values)
    assert check(outputs) == []
    assert CONTRACT.verify(given, outputs) == []
    return outputs


def same(first: Outputs, second: Outputs) -> bool:
    def equal(a: object, b: object) -> bool:
        return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind == "f")

    return all(
        equal(getattr(first.states, f.name), getattr(second.states, f.name)) for f in fields(Snapshot)
    ) and all(
        equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(Outputs) if f.name != "states"
    )


def test_saves_losses_and_keeps_limits(program: Program) -> None:
    grid = grid_with_taps()
    flat = power_flow.solve_hours(grid, state(grid).block())
    assert flat.outcome[0] == power_flow.CONVERGED
    given = inputs(grid, state(grid).block())
    outputs = run(program, given)
    solved = outputs.states.hour(0)
    assert outputs.outcome[0] == OPTIMAL
    assert outputs.residual_pu[0] <= 1e-8
    assert outputs.losses_mw[0] < flat.losses_mw[0] - 0.2
    assert solved.vm_pu.min() >= 0.95 - 1e-4
    assert solved.vm_pu.max() <= 1.05 + 1e-4
    units = grid.units
    controlling = solved.unit_on & units.voltage_control
    assert (solved.unit_q_mvar[controlling] <= units.q_mvar_max[controlling] + 1e-3).all()
    assert (solved.unit_q_mvar[controlling] >= units.q_mvar_min[controlling] - 1e-3).all()
    assert -50.0 <= solved.svg_q_mvar[0] <= 50.0
    assert 0 <= solved.shunt_step[0] <= 3
    assert (solved.tap >= grid.network.tap_min).all()
    assert (solved.tap <= grid.network.tap_max).all()
    assert np.isnan(solved.svg_vm_set_pu).all(), "an SVG that runs at given Q must stay so"


def test_answer_is_a_power_flow_solution(program: Program) -> None:
    grid = grid_with_taps()
    outputs = run(program, inputs(grid, state(grid).block()))
    again = power_flow.solve_hours(grid, outputs.states)
    assert again.outcome[0] == power_flow.CONVERGED
    np.testing.assert_allclose(again.states.vm_pu, outputs.states.vm_pu, atol=1e-8)
    np.testing.assert_allclose(again.states.unit_p_mw, outputs.states.unit_p_mw, atol=1e-4)
    assert again.losses_mw[0] == pytest.approx(outputs.losses_mw[0], abs=1e-4)


def test_a_slack_whose_units_rest_gives_no_reactive_power(program: Program) -> None:
    grid = grid_with_taps()
    grid = replace(grid, hvdc=replace(grid.hvdc, from_bus=np.array([1])))
    units, slack = grid.units, grid.network.slack
    start = state(grid, 0.6)
    on = start.unit_on & (units.bus != slack)
    set_point = np.where(on, start.unit_vm_set_pu, np.nan)
    start = replace(start, unit_on=on, unit_p_mw=np.where(on, start.unit_p_mw, 0.0), unit_vm_set_pu=set_point)
    outputs = run(program, inputs(grid, start.block()))
    assert outputs.outcome[0] == OPTIMAL
    solved = outputs.states.hour(0)
    network = power_flow.network_at(grid, solved)
    v = solved.vm_pu * np.exp(1j * solved.va_rad)
    current = (network.g_shunt_pu + 1j * network.b_shunt_pu) * v
    for bus, flow in zip((network.from_bus, network.to_bus), network.branch_currents(v), strict=True):
        np.add.at(current, bus, flow)
    brought = (v * np.conj(current)).imag[slack] - bus_injections(grid, solved).q_pu[slack]
    assert brought == pytest.approx(0.0, abs=1e-4)


def test_balance_is_spread_by_room_and_reported(program: Program) -> None:
    grid = grid_with_taps()
    start = state(grid)
    outputs = run(program, inputs(grid, start.block()))
    moved = outputs.states.unit_p_mw[0] - start.unit_p_mw
    assert outputs.slack_p_mw[0] == pytest.approx(moved.sum(), abs=1e-6)
    fixed = grid.units.variable | ~start.unit_on
    assert np.abs(moved[fixed]).max() == 0.0
    assert np.count_nonzero(np.abs(moved) > 1e-3) >= 3
    alone = run(program, inputs(grid, start.block()), distribute_balance=False)
    moved = alone.states.unit_p_mw[0] - start.unit_p_mw
    assert set(np.flatnonzero(np.abs(moved) > 1e-9)) <= set(np.flatnonzero(grid.units.bus == grid.network.slack))


def test_impossible_voltage_is_softened_and_counted(program: Program) -> None:
    grid = grid_with_taps()
    outputs = run(program, inputs(grid, state(grid).block(), low=1.2, high=1.21))
    assert outputs.outcome[0] == SOFT
    vm = outputs.states.vm_pu[0]
    outside = np.maximum(1.2 - vm, vm - 1.21)
    assert outputs.voltage_excess_pu[0] == pytest.approx(outside[outside > 1e-4].sum())
    assert outputs.voltage_excess_pu[0] > 0


def test_impossible_loading_is_softened_and_counted(program: Program) -> None:
    grid = grid_with_taps()
    outputs = run(program, inputs(grid, state(grid).block(), loading=0.1))
    solved = outputs.states.hour(0)
    over = power_flow.network_at(grid, solved).loading(solved.vm_pu * np.exp(1j * solved.va_rad)) - 0.1
    assert outputs.outcome[0] == SOFT
    assert outputs.loading_excess[0] == pytest.approx(over[over > 1e-4].sum())


def test_reactive_flow_makes_room_for_a_tight_rating(program: Program) -> None:
    grid = grid_with_taps()
    free = run(program, inputs(grid, state(grid).block()), optimise_shunts=False, voltage_weight=10.0)
    solved = free.states.hour(0)
    loading = power_flow.network_at(grid, solved).loading(solved.vm_pu * np.exp(1j * solved.va_rad))
    given = inputs(grid, state(grid).block())
    limit = given.loading_max.copy()
    worst = int(np.argmax(loading))
    limit[worst] = loading[worst] * 0.99
    outputs = run(program, replace(given, loading_max=limit), optimise_shunts=False, voltage_weight=10.0)
    assert outputs.outcome[0] == OPTIMAL
    assert outputs.loading_excess[0] == 0.0


def test_hours_do_not_depend_on_their_block(program: Program) -> None:
    grid = grid_with_taps()
    hours = [state(grid, scale) for scale in (1.0, 0.7, 0.9)]
    together = run(program, inputs(grid, stack(hours)))
    for position, hour in enumerate(hours):
        alone = run(program, inputs(grid, hour.block()))
        for f in fields(Snapshot):
            a, b = getattr(together.states, f.name)[position], getattr(alone.states, f.name)[0]
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), f.name


def test_same_inputs_same_bits(program: Program) -> None:
    grid = grid_with_taps()
    given = inputs(grid, state(grid).block())
    assert same(run(program, given), run(program, given))


def test_impossible_demand_diverges_and_says_so(program: Program) -> None:
    grid = grid_with_taps()
    given = inputs(grid, state(grid, 20.0).block())
    outputs = run(program, given)
    assert outputs.outcome[0] == DIVERGED
    assert np.isnan(outputs.losses_mw[0])
    assert np.array_equal(outputs.states.vm_pu, given.states.vm_pu)


def test_iteration_limit_leaves_a_plain_power_flow(program: Program) -> None:
    grid = grid_with_taps()
    outputs = run(program, inputs(grid, state(grid).block(), low=1.04, high=1.041), iterations_max=10)
    assert outputs.outcome[0] in {SOFT, POWER_FLOW_ONLY}
    assert outputs.residual_pu[0] <= 1e-8


def grid_with_twins() -> Grid:
    """Branch 5 is a second branch 8, with the same tap changer."""
    grid = grid_with_taps()
    network = grid.network
    branches = {
        f.name: getattr(network, f.name).copy()
        for f in fields(network)
        if np.shape(getattr(network, f.name)) == (network.n_branch,) and f.name not in ("branch_id", "branch_name")
    }
    for values in branches.values():
        values[5] = values[8]
    taps = {name: getattr(network, name)[[0, 0]] for name in ("tap_min", "tap_max", "tap_neutral", "tap_at_from")}
    return replace(grid, network=replace(network, **branches, **taps))


def test_twin_transformers_move_together(program: Program) -> None:
    grid = grid_with_twins()
    given = replace(state(grid), tap=np.array([3, 0]))
    outputs = run(program, inputs(grid, given.block(), loading=10.0))
    assert outputs.outcome[0] in (OPTIMAL, SOFT)
    assert outputs.states.tap[0, 0] == outputs.states.tap[0, 1]
    apart = run(program, inputs(grid, given.block(), loading=10.0), optimise_taps=False)
    assert apart.states.tap[0].tolist() == [3, 0]


def test_twins_with_other_limits_stay_apart() -> None:
    grid = grid_with_twins()
    taps, limit = TapTable.of(grid.network), np.ones(grid.network.n_branch)
    assert Twins.of(grid.network, taps, limit, True).count.max() == 2
    limit[5] = 0.5
    assert Twins.of(grid.network, taps, limit, True).count.max() == 1


def test_taps_and_shunts_stay_when_told(program: Program) -> None:
    grid = grid_with_taps()
    outputs = run(program, inputs(grid, state(grid).block()), optimise_taps=False, optimise_shunts=False)
    assert (outputs.states.tap == 0).all()
    assert (outputs.states.shunt_step == 0).all()


@pytest.mark.parametrize("discrete", [False, True])
def test_programs_agree(discrete: bool) -> None:
    grid = grid_with_taps()
    given = inputs(grid, state(grid).block())
    choice = {"optimise_taps": discrete, "optimise_shunts": discrete}
    losses = [run(resolve(SLOT, name), given, **choice).losses_mw[0] for name in program_names(SLOT)]
    assert len(losses) >= 2
    # continuous answers are one and the same; a tap at the middle of two positions may round either way
    np.testing.assert_allclose(losses, losses[0], rtol=5e-3 if discrete else 1e-4)
