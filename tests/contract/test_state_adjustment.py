"""Every program of the state-adjustment slot on grids whose answer is known."""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest

from bos_core.grid import power_flow
from bos_core.grid.model import (
    BranchKind,
    Grid,
    HvdcLines,
    Loads,
    Network,
    Shunts,
    Snapshot,
    Storages,
    Svgs,
    Units,
    stack,
)
from bos_core.grid.n1 import Criteria, verify_outages
from bos_core.objects.contracts import check
from bos_core.programs.registry import Program, program_names, resolve
from slots.state_adjustment.contract import CONTRACT, DIVERGED, RELAXED, SECURE, Inputs, Outputs
from slots.state_adjustment.shedding import least_shedding

SLOT = "state_adjustment"


@pytest.fixture(params=program_names(SLOT))
def program(request: pytest.FixtureRequest) -> Program:
    return resolve(SLOT, request.param)


def small_grid(
    lines: list[tuple[int, int, float]],
    units: list[tuple[int, float, float]],
    loads: list[tuple[int, float]],
) -> tuple[Grid, Snapshot]:
    """Lines (from, to, rating in MW at 1 p.u.), units (bus, output, price), loads (bus, demand).

    Bus 0 is the slack; lines have no losses; every unit holds 1 p.u. and may run between 0 and 400 MW.
    """
    n, m, g, d = 1 + max(max(a, b) for a, b, _ in lines), len(lines), len(units), len(loads)
    none, no_id, whole = np.zeros(0), np.zeros(0, "U1"), np.zeros(0, np.int64)

    def ids(size: int) -> np.ndarray:
        return np.arange(size).astype(str)

    rating = np.array([limit for _, _, limit in lines]) / 100.0
    network = Network(
        base_mva=100.0, bus_id=ids(n), bus_name=ids(n), base_kv=np.full(n, 220.0), vm_pu_min=np.full(n, 0.9),
        vm_pu_max=np.full(n, 1.1), g_shunt_pu=np.zeros(n), b_shunt_pu=np.zeros(n),
        longitude_deg=np.full(n, np.nan), latitude_deg=np.full(n, np.nan), slack=0, branch_id=ids(m),
        branch_name=ids(m), branch_kind=np.full(m, int(BranchKind.LINE)),
        from_bus=np.array([a for a, _, _ in lines]), to_bus=np.array([b for _, b, _ in lines]),
        r_pu=np.zeros(m), x_pu=np.full(m, 0.01), g_from_pu=np.zeros(m), b_from_pu=np.zeros(m),
        g_to_pu=np.zeros(m), b_to_pu=np.zeros(m), ratio=np.ones(m), shift_rad=np.zeros(m),
        i_max_from_pu=rating, i_max_to_pu=rating, outage_candidate=np.ones(m, bool), tap_branch=whole, tap=whole,
        tap_min=whole, tap_max=whole, tap_neutral=whole, tap_step=none, tap_step_rad=none,
        tap_at_from=np.zeros(0, bool), tap_phase_shifter=np.zeros(0, bool),
    )  # fmt: skip
    high = np.full(g, 400.0)
    fleet = Units(
        id=ids(g), name=ids(g), technology=np.full(g, "ccgt"), bus=np.array([b for b, _, _ in units]),
        p_mw_min=np.zeros(g), p_mw_max=high, q_mvar_min=-high, q_mvar_max=high, voltage_control=np.ones(g, bool),
        variable=np.zeros(g, bool), committable=np.ones(g, bool), must_run=np.zeros(g, bool),
        ramp_up_mw_per_h=high, ramp_down_mw_per_h=high, startup_mw=high, shutdown_mw=high,
        min_up_h=np.zeros(g, int), min_down_h=np.zeros(g, int), energy_mwh_max=np.full(g, np.inf),
        minimum_output_eur_per_h=np.zeros(g), shutdown_eur=np.zeros(g), co2_t_per_mwh=np.zeros(g),
        curtailment_eur_per_mwh=np.zeros(g), segment_unit=np.arange(g), segment_mw=high,
        segment_eur_per_mwh=np.array([price for _, _, price in units]), start_unit=whole, start_off_h=whole,
        start_eur=none,
    )  # fmt: skip
    grid = Grid(
        network=network,
        units=fleet,
        loads=Loads(
            id=ids(d), name=ids(d), bus=np.array([b for b, _ in loads]), share_z=np.zeros(d), share_i=np.zeros(d),
            sheddable=np.ones(d, bool),
        ),
        shunts=Shunts(no_id, whole, none, none, whole, whole, whole, np.zeros(0, bool)),
        svgs=Svgs(no_id, whole, none, none),
        storages=Storages(no_id, whole, *[none] * 8),
        hvdc=HvdcLines(no_id, no_id, whole, whole, *[none] * 8),
    )  # fmt: skip
    start = Snapshot(
        unit_on=np.ones(g, bool), unit_p_mw=np.array([p for _, p, _ in units]), unit_q_mvar=np.zeros(g),
        unit_vm_set_pu=np.ones(g), load_p_mw=np.array([p for _, p in loads]), load_q_mvar=np.zeros(d),
        storage_p_mw=none, storage_q_mvar=none, svg_q_mvar=none, svg_vm_set_pu=none, hvdc_p_mw=none,
        hvdc_q_from_mvar=none, hvdc_q_to_mvar=none, hvdc_vm_from_set_pu=none, hvdc_vm_to_set_pu=none,
        tap=whole, shunt_step=whole, vm_pu=np.ones(n), va_rad=np.zeros(n),
    )  # fmt: skip
    return grid, start


def inputs(grid: Grid, states: Snapshot, **changes: object) -> Inputs:
    """Inputs with the violations that an AC verification finds, as the chain would list them."""
    n, m, hours = grid.network.n_bus, grid.network.n_branch, states.vm_pu.shape[0]
    outages = np.arange(m)
    found = verify_outages(grid, states, outages, Criteria(np.full(n, 0.9), np.full(n, 1.1), np.ones(m)))
    given = Inputs(
        grid=grid,
        states=states,
        contingency_branch=outages,
        p_mw_low=np.zeros((hours, grid.units.n)),
        p_mw_high=np.full((hours, grid.units.n), 400.0),
        vm_pu_min=np.full(n, 0.9),
        vm_pu_max=np.full(n, 1.1),
        vm_contingency_pu_min=np.full(n, 0.9),
        vm_contingency_pu_max=np.full(n, 1.1),
        loading_max=np.ones(m),
        loading_contingency_max=np.ones(m),
        overload_hour=found.overloads.hour,
        overload_outage=found.overloads.contingency,
        overload_branch=found.overloads.element,
        overload_loading=found.overloads.value,
        voltage_hour=found.voltages.hour,
        voltage_outage=found.voltages.contingency,
        voltage_bus=found.voltages.element,
        voltage_vm_pu=found.voltages.value,
    )
    return replace(given, **changes)


def run(program: Program, given: Inputs, **values: object) -> Outputs:
    outputs: Outputs = program.run(given, values)
    assert check(outputs) == []
    assert CONTRACT.verify(given, outputs) == []
    return outputs


def overloads(given: Inputs, states: Snapshot) -> np.ndarray:
    """Loadings above the criterion that an independent verification of the answer finds."""
    criteria = Criteria(given.vm_contingency_pu_min, given.vm_contingency_pu_max, given.loading_contingency_max)
    return verify_outages(given.grid, states, given.contingency_branch, criteria).overloads.value


def corridor() -> tuple[Grid, Snapshot]:
    """150 MW over two lines of 120 MW to a load of 180 MW, where units at 50 and at 80 EUR/MWh stand ready."""
    return small_grid(
        lines=[(0, 1, 120.0), (0, 1, 120.0)],
        units=[(0, 150.0, 20.0), (1, 30.0, 50.0), (1, 0.0, 80.0)],
        loads=[(1, 180.0)],
    )


def test_removes_the_overload_at_least_cost(program: Program) -> None:
    grid, start = corridor()
    given = inputs(grid, start.block())
    assert overloads(given, given.states).size == 2
    outputs = run(program, given)
    moved = outputs.states.unit_p_mw[0] - start.unit_p_mw
    assert outputs.outcome[0] == SECURE
    assert overloads(given, outputs.states).size == 0
    np.testing.assert_allclose(moved, [-30.0, 30.0, 0.0], atol=0.8)
    assert outputs.cost_eur[0] == pytest.approx(30.0 * (50.0 - 20.0), rel=0.03)
    assert outputs.moved_mw[0] == pytest.approx(30.0, abs=0.8)
    assert outputs.shed_mw.sum() == 0.0
    assert outputs.relaxed_hour.size == 0


def test_room_ends_and_the_dearer_unit_follows(program: Program) -> None:
    grid, start = corridor()
    high = np.array([[400.0, 40.0, 400.0]])
    outputs = run(program, inputs(grid, start.block(), p_mw_high=high))
    moved = outputs.states.unit_p_mw[0] - start.unit_p_mw
    np.testing.assert_allclose(moved, [-30.0, 10.0, 20.0], atol=0.8)
    assert outputs.outcome[0] == SECURE


def test_what_nothing_can_remove_is_relaxed_by_exactly_the_overload(program: Program) -> None:
    grid, start = small_grid(
        lines=[(0, 1, 200.0), (0, 1, 200.0), (1, 2, 80.0), (1, 2, 80.0)],
        units=[(0, 150.0, 20.0), (1, 0.0, 50.0)],
        loads=[(1, 50.0), (2, 100.0)],
    )
    given = inputs(grid, start.block())
    outputs = run(program, given)
    left = overloads(given, outputs.states)
    assert outputs.outcome[0] == RELAXED
    assert outputs.moved_mw[0] == pytest.approx(0.0, abs=0.1)
    assert set(zip(outputs.relaxed_outage, outputs.relaxed_branch, strict=True)) == {(2, 3), (3, 2)}
    np.testing.assert_allclose(outputs.relaxed_amount, left - 1.0, atol=1e-6)
    np.testing.assert_allclose(outputs.relaxed_amount, 0.25, atol=2e-3)
    assert (outputs.relaxed_bus == -1).all()
    np.testing.assert_allclose(outputs.relaxed_shed_mw, 20.0, atol=0.5)


def test_shedding_for_one_overload_takes_the_best_loads_and_units_first() -> None:
    factor = np.array([[0.0, -0.01, -0.02, 0.005]])
    loads, units = (np.array([1, 2]), np.array([50.0, 10.0])), (np.array([3, 0]), np.array([4.0, 100.0]))
    # 4 MW at 0.025, 6 MW at 0.020, then load of bus 1 against the unit of bus 0 at 0.010
    for excess, shed in ((0.1, 4.0), (0.16, 7.0), (0.22, 10.0), (0.32, 20.0), (0.0, 0.0)):
        assert least_shedding(factor, np.array([excess]), *loads, *units) == pytest.approx([shed])
    assert np.isnan(least_shedding(factor, np.array([0.73]), *loads, *units)).all()
    assert np.isnan(least_shedding(-factor, np.array([0.1]), *loads, np.array([0]), np.array([9.0]))).all()


def test_load_is_shed_where_that_is_cheaper_than_overload(program: Program) -> None:
    grid, start = small_grid(lines=[(0, 1, 80.0), (0, 1, 80.0)], units=[(0, 100.0, 20.0)], loads=[(1, 100.0)])
    given = inputs(grid, start.block(), shed_eur_per_mwh=1_000.0, overload_eur_per_mwh=1_000.0)
    outputs = run(program, given)
    assert outputs.outcome[0] == SECURE
    assert outputs.shed_mw[0, 0] == pytest.approx(20.0, abs=0.5)
    assert outputs.states.load_p_mw[0, 0] == pytest.approx(100.0 - outputs.shed_mw[0, 0])
    assert overloads(given, outputs.states).size == 0


def test_many_outages_of_one_branch_do_not_outbid_shedding(program: Program) -> None:
    """Every outage of a long way round leaves 100 MW to a line of 98 MW: one overload, not twenty."""
    stations = 20
    way = [0, *range(2, stations + 1), 1]
    around = [(a, b, 400.0) for a, b in itertools.pairwise(way)]
    grid, start = small_grid(lines=[(0, 1, 98.0), *around], units=[(0, 100.0, 20.0)], loads=[(1, 100.0)])
    outputs = run(program, inputs(grid, start.block()))
    assert outputs.shed_mw.sum() == 0.0
    assert outputs.outcome[0] == RELAXED
    assert set(zip(outputs.relaxed_outage, outputs.relaxed_branch, strict=True)) == {
        (outage, 0) for outage in range(1, stations + 1)
    }


def test_base_case_overload_is_removed(program: Program) -> None:
    grid, start = small_grid(
        lines=[(0, 1, 120.0), (0, 2, 300.0), (1, 2, 300.0)],
        units=[(0, 280.0, 20.0), (1, 20.0, 50.0), (2, 0.0, 60.0)],
        loads=[(1, 250.0), (2, 50.0)],
    )
    listed = [
        f.name for f in fields(Inputs) if f.name.startswith("overload_") and f.name != "overload_eur_per_mwh"
    ]
    given = inputs(grid, start.block(), contingency_branch=np.zeros(0, np.int64))
    given = replace(given, **{name: getattr(given, name)[:0] for name in listed})
    before = power_flow.solve_hours(grid, start.block()).states
    assert grid.network.loading(before.vm_pu[0] * np.exp(1j * before.va_rad[0])).max() > 1.3
    outputs = run(program, given)
    solved = outputs.states
    loading = grid.network.loading(solved.vm_pu[0] * np.exp(1j * solved.va_rad[0]))
    assert loading.max() <= 1.0 + 1e-3
    assert outputs.outcome[0] == SECURE


def test_secure_hour_is_left_alone(program: Program) -> None:
    grid, start = corridor()
    calm = replace(start, unit_p_mw=np.array([100.0, 80.0, 0.0]))
    outputs = run(program, inputs(grid, calm.block()))
    assert outputs.outcome[0] == SECURE
    assert outputs.rounds[0] == 0
    np.testing.assert_allclose(outputs.states.unit_p_mw[0], calm.unit_p_mw, atol=1e-6)
    assert outputs.cost_eur[0] == pytest.approx(0.0, abs=1e-3)


def test_voltage_after_an_outage_is_lifted(program: Program) -> None:
    grid, start = small_grid(lines=[(0, 1, 900.0), (0, 1, 900.0)], units=[(0, 300.0, 20.0)], loads=[(1, 300.0)])
    network = replace(grid.network, x_pu=np.full(2, 0.06))
    grid = replace(grid, network=network)
    start = replace(start, load_q_mvar=np.array([120.0]))
    low = np.array([0.9, 0.92])
    criteria = Criteria(low, np.full(2, 1.1), np.ones(2))
    assert verify_outages(grid, start.block(), np.arange(2), criteria).voltages.value.size == 2
    given = inputs(grid, start.block(), vm_contingency_pu_min=low)
    outputs = run(program, given)
    assert outputs.outcome[0] == SECURE
    assert verify_outages(grid, outputs.states, np.arange(2), criteria).voltages.value.size == 0
    assert outputs.states.vm_pu.max() <= 1.1 + 1e-4


def test_state_without_power_flow_is_given_back(program: Program) -> None:
    grid, start = corridor()
    hopeless = replace(start, load_p_mw=np.array([60_000.0]))
    given = inputs(grid, hopeless.block())
    outputs = run(program, given)
    assert outputs.outcome[0] == DIVERGED
    assert np.array_equal(outputs.states.unit_p_mw, given.states.unit_p_mw)


def test_hours_do_not_depend_on_their_block(program: Program) -> None:
    grid, start = corridor()
    hours = [replace(start, load_p_mw=start.load_p_mw + extra) for extra in (0.0, 10.0, -20.0)]
    together = run(program, inputs(grid, stack(hours)))
    for position, hour in enumerate(hours):
        alone = run(program, inputs(grid, hour.block()))
        for f in fields(Snapshot):
            a, b = getattr(together.states, f.name)[position], getattr(alone.states, f.name)[0]
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), f.name
