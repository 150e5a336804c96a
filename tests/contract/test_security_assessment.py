"""Every program of the security-assessment slot on small grids."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from bos_core.exchange import import_grid, to_columns
from bos_core.grid.assembly import assemble
from bos_core.grid.injections import bus_injections
from bos_core.grid.model import Grid, Snapshot
from bos_core.grid.power_flow import CONVERGED, network_at, solve
from bos_core.grid.six_bus import day_of, six_bus
from bos_core.objects.contracts import check
from bos_core.programs.registry import Program, program_names, resolve
from slots.security_assessment.contract import CONTRACT, Inputs, Outputs

SLOT = "security_assessment"
CASES = ("case9", "case14", "case30", "case118")


@pytest.fixture(params=program_names(SLOT))
def program(request: pytest.FixtureRequest) -> Program:
    return resolve(SLOT, request.param)


def six_bus_inputs(scale: float = 1.0, low: float = 0.95, high: float = 1.05, loading: float = 1.0) -> Inputs:
    """Hour 18 of the six buses' day with no unit named as running, ten taps of 1.5 % on the last branch."""
    grid = six_bus()
    network = replace(
        grid.network, tap_branch=np.array([8]), tap=np.array([0]), tap_min=np.array([-10]), tap_max=np.array([10]),
        tap_neutral=np.array([0]), tap_step=np.array([0.015]), tap_step_rad=np.zeros(1),
        tap_at_from=np.array([True]), tap_phase_shifter=np.zeros(1, bool),
    )  # fmt: skip
    grid = replace(grid, network=network)
    load, available = (values[18] for values in day_of(grid))
    units, n, nothing = grid.units, grid.network.n_bus, np.zeros(1)
    snapshot = Snapshot(
        unit_on=np.zeros(units.n, bool), unit_p_mw=np.zeros(units.n), unit_q_mvar=np.zeros(units.n),
        unit_vm_set_pu=np.full(units.n, np.nan), load_p_mw=load * scale, load_q_mvar=0.25 * load * scale,
        storage_p_mw=nothing, storage_q_mvar=nothing, svg_q_mvar=nothing, svg_vm_set_pu=np.full(1, np.nan),
        hvdc_p_mw=nothing, hvdc_q_from_mvar=nothing, hvdc_q_to_mvar=nothing,
        hvdc_vm_from_set_pu=np.full(1, np.nan), hvdc_vm_to_set_pu=np.full(1, np.nan), tap=network.tap,
        shunt_step=np.zeros(1, np.int64), vm_pu=np.ones(n), va_rad=np.zeros(n),
    )  # fmt: skip
    return inputs(grid, snapshot, available, low, high, loading)


def inputs(
    grid: Grid, snapshot: Snapshot, available: np.ndarray, low: float, high: float, loading: float
) -> Inputs:
    n, m = grid.network.n_bus, grid.network.n_branch
    in_service = np.ones(grid.units.n, bool)
    return Inputs(grid, snapshot, in_service, available, np.full(n, low), np.full(n, high), np.full(m, loading))


def imported(name: str) -> Inputs:
    """Return a case of pandapower's as it is given, 6 % of voltage either way."""
    grid, snapshot = assemble(to_columns(import_grid(f"pandapower:{name}").tables))
    return inputs(grid, snapshot, np.maximum(grid.units.p_mw_max, 0.0), 0.94, 1.06, 1.0)


def run(program: Program, given: Inputs, **values: object) -> Outputs:
    outputs: Outputs = program.run(given, values)
    assert check(outputs) == []
    assert CONTRACT.verify(given, outputs) == []
    return outputs


def solved_again(given: Inputs, outputs: Outputs):
    """Solve the adjusted snapshot afresh, with reactive limits enforced."""
    grid, snapshot = given.grid, outputs.snapshot
    network = network_at(grid, snapshot)
    start = snapshot.vm_pu * np.exp(1j * snapshot.va_rad)
    solution = solve(network, bus_injections(grid, snapshot), start)
    assert solution.outcome == CONVERGED
    return network, solution


def assert_secure(given: Inputs, outputs: Outputs) -> None:
    """The program's word is checked by a power flow of its own, in which reactive limits are enforced."""
    assert outputs.accepted
    network, solution = solved_again(given, outputs)
    assert (network.loading(solution.v_pu) <= given.loading_max + 1e-4).all()
    assert (solution.vm_pu >= given.vm_pu_min - 1e-4).all()
    assert (solution.vm_pu <= given.vm_pu_max + 1e-4).all()
    units, snapshot = given.grid.units, outputs.snapshot
    running = snapshot.unit_on & (units.bus != given.grid.network.slack)
    assert (snapshot.unit_p_mw <= np.minimum(units.p_mw_max, given.available_mw) + 1e-3)[running].all()
    assert (snapshot.tap >= given.grid.network.tap_min).all()
    assert (snapshot.tap <= given.grid.network.tap_max).all()


def test_a_day_of_six_buses_becomes_secure(program):
    given = six_bus_inputs()
    outputs = run(program, given)
    assert_secure(given, outputs)
    assert outputs.load_shed_mw.sum() == 0


@pytest.mark.parametrize("name", CASES)
def test_imported_cases_become_secure(program, name):
    given = imported(name)
    outputs = run(program, given)
    assert_secure(given, outputs)
    assert outputs.round_shed_mw[-1] == pytest.approx(outputs.load_shed_mw.sum())


def test_units_start_for_their_reactive_power(program):
    """The cheapest two units of the case cover its load, but not its reactive power."""
    given = imported("case14")
    pair = np.arange(given.grid.units.n) < 2
    given = replace(given, snapshot=replace(given.snapshot, unit_on=given.snapshot.unit_on & pair))
    outputs = run(program, given)
    assert_secure(given, outputs)
    assert outputs.round_q_violations[0] > 0
    assert outputs.snapshot.unit_on[~pair].any()
    assert outputs.load_shed_mw.sum() == 0


def test_tight_ratings_are_met_by_moving_power_or_load(program):
    given = six_bus_inputs()
    free = run(program, given)
    network, solution = solved_again(given, free)
    tight = replace(given, loading_max=np.full(network.n_branch, 0.8 * network.loading(solution.v_pu).max()))
    outputs = run(program, tight)
    assert_secure(tight, outputs)
    assert outputs.round_loading_max[-1] < free.round_loading_max[-1]


def test_what_no_control_can_mend_is_named(program):
    given = six_bus_inputs(low=1.02, high=1.0200001)
    outputs = run(program, given)
    assert outputs.converged
    assert not outputs.accepted
    outside = (outputs.violated_vm_pu < 1.02) | (outputs.violated_vm_pu > 1.0200001)
    assert outputs.violated_bus.size
    assert outside.all()
    assert outputs.round_voltage_violations[-1] == outputs.violated_bus.size


def test_load_is_shed_where_units_cannot_cover_it(program):
    given = six_bus_inputs()
    given = replace(given, available_mw=0.5 * given.available_mw)
    outputs = run(program, given)
    capacity = np.minimum(given.grid.units.p_mw_max, given.available_mw).sum()
    assert outputs.load_shed_mw.sum() >= given.snapshot.load_p_mw.sum() - capacity - 60.0
    assert outputs.load_shed_mw.sum() > 0


def test_a_snapshot_without_a_solution_is_recovered_by_shedding(program):
    given = six_bus_inputs(scale=5.0)
    outputs = run(program, given)
    assert np.isnan(outputs.round_merit_eur_per_h[0])
    assert outputs.converged
    assert outputs.load_shed_mw.sum() > 0


def test_results_repeat_bit_by_bit(program):
    first, second = (run(program, imported("case30")) for _ in range(2))
    for field in fields(first.snapshot):
        np.testing.assert_array_equal(getattr(first.snapshot, field.name), getattr(second.snapshot, field.name))
    np.testing.assert_array_equal(first.round_merit_eur_per_h, second.round_merit_eur_per_h)


def test_a_secure_state_never_becomes_insecure(program):
    outputs = run(program, imported("case118"))
    broken = outputs.round_overloaded + outputs.round_voltage_violations + outputs.round_q_violations
    if (broken == 0).any():
        assert (broken[np.argmax(broken == 0) :] == 0).all()
