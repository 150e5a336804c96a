"""Sensitivities against differences of solved power flows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bos_core.grid.assembly import with_state
from bos_core.grid.injections import BusInjections, bus_injections
from bos_core.grid.model import Network
from bos_core.grid.power_flow import PowerFlowSolution, network_at, solve
from bos_core.grid.sensitivity import Rows, Sensitivities

STEP = 1e-4
TOLERANCE = 1e-5


class Case:
    """The eight-bus grid, solved, and everything that can be watched in it."""

    def __init__(self, spur_case, **options):
        self.grid, self.snapshot = spur_case(**options)
        self.network = network_at(self.grid, self.snapshot)
        self.injections = bus_injections(self.grid, self.snapshot)
        self.base = self.solved(self.network, self.injections)
        up, down = (
            with_state(self.grid.network, self.snapshot.tap + d, self.snapshot.shunt_step, self.grid.shunts)
            for d in (1, -1)
        )
        self.sensitivities = Sensitivities(self.network, self.injections, self.base, up, down)
        self.branch = np.arange(self.network.n_branch)
        self.at_from = self.branch % 2 == 0
        self.bus = np.arange(self.network.n_bus)
        self.held = np.flatnonzero(self.sensitivities.held)

    def solved(self, network: Network, injections: BusInjections) -> PowerFlowSolution:
        start = None if not hasattr(self, "base") else self.base.v_pu
        return solve(network, injections, start, tol=1e-12, enforce_q_limits=False)

    def rows(self) -> list[Rows]:
        s = self.sensitivities
        return [
            s.branch_currents(self.branch, self.at_from),
            s.voltages(self.bus),
            s.slack_power(),
            s.reactive_powers(self.held),
            s.losses(),
        ]

    def watched(self, network: Network, solution: PowerFlowSolution) -> list[np.ndarray]:
        v = solution.v_pu
        i_from, i_to = network.branch_currents(v)
        power = v * np.conj(network.admittance_matrix() @ v)
        return [
            np.abs(np.where(self.at_from, i_from, i_to)),
            solution.vm_pu,
            power.real[[network.slack]],
            power.imag[self.held],
            np.array([power.real.sum()]),
        ]

    def slope(self, plus, minus, step: float) -> list[np.ndarray]:
        """Central differences; `plus` and `minus` are (network, injections)."""
        a, b = (self.watched(network, self.solved(network, inj)) for network, inj in (plus, minus))
        return [(x - y) / (2 * step) for x, y in zip(a, b, strict=True)]


def unit(size: int, at: int) -> np.ndarray:
    vector = np.zeros(size)
    vector[at] = STEP
    return vector


@pytest.fixture(params=[{}, {"slack": 3, "share_z": 0.5, "share_i": 0.3}], ids=["mixed loads", "other slack"])
def case(spur_case, request):
    return Case(spur_case, **request.param)


def test_values_are_those_of_the_state(case):
    for rows, value in zip(case.rows(), case.watched(case.network, case.base), strict=True):
        np.testing.assert_allclose(rows.value, value, atol=1e-12)


@pytest.mark.parametrize("quantity", ["p", "q"])
def test_injections(case, quantity):
    rows = case.rows()[:4]
    for bus in case.bus:
        change = unit(case.bus.size, bus)
        name = f"{quantity}_pu"
        plus, minus = (
            (case.network, replace(case.injections, **{name: getattr(case.injections, name) + sign * change}))
            for sign in (1, -1)
        )
        fixed = bus == case.network.slack or (quantity == "q" and case.sensitivities.held[bus])
        for row, slope in zip(rows, case.slope(plus, minus, STEP), strict=False):
            found = getattr(row, f"d_{quantity}")[:, bus]
            np.testing.assert_allclose(found, np.zeros_like(slope) if fixed else slope, atol=TOLERANCE)


def test_set_points(case):
    rows = case.rows()[:4]
    for bus in case.bus:
        found = [row.d_vm_set[:, bus] for row in rows]
        if not case.sensitivities.held[bus]:
            assert all((column == 0).all() for column in found)
            continue
        change = unit(case.bus.size, bus)
        plus, minus = (
            (case.network, replace(case.injections, vm_set_pu=case.injections.vm_set_pu + sign * change))
            for sign in (1, -1)
        )
        for column, slope in zip(found, case.slope(plus, minus, STEP), strict=False):
            np.testing.assert_allclose(column, slope, rtol=1e-3, atol=1e-5)


def test_taps(case):
    step = 1e-3
    plus, minus = (
        (
            with_state(
                case.grid.network, case.snapshot.tap + sign * step, case.snapshot.shunt_step, case.grid.shunts
            ),
            case.injections,
        )
        for sign in (1, -1)
    )
    for row, slope in zip(case.rows(), case.slope(plus, minus, step), strict=True):
        np.testing.assert_allclose(row.d_tap[:, 0], slope, atol=1e-4)


def test_a_shunt_injects_its_susceptance_times_the_voltage_squared(case):
    bus = int(np.flatnonzero(~case.sensitivities.held)[0])
    b = case.network.b_shunt_pu
    plus, minus = (
        (replace(case.network, b_shunt_pu=b + sign * unit(b.size, bus)), case.injections) for sign in (1, -1)
    )
    row = case.rows()[1]
    slope = case.slope(plus, minus, STEP)[1]
    np.testing.assert_allclose(row.d_q[:, bus] * case.base.vm_pu[bus] ** 2, slope, atol=TOLERANCE)


def test_losses_change_with_injections_when_loads_are_constant(spur_case):
    case = Case(spur_case, share_z=0.0, share_i=0.0)
    losses = case.rows()[4]
    for bus in case.bus[case.bus != case.network.slack]:
        change = unit(case.bus.size, bus)
        plus, minus = (
            (case.network, replace(case.injections, p_pu=case.injections.p_pu + sign * change)) for sign in (1, -1)
        )
        np.testing.assert_allclose(losses.d_p[:, bus], case.slope(plus, minus, STEP)[4], atol=TOLERANCE)


def test_a_current_along_another_phase_is_never_above_its_magnitude(case):
    phase = np.exp(1j * np.linspace(0, 6, case.branch.size))
    along = case.sensitivities.branch_currents(case.branch, case.at_from, phase)
    magnitude = case.sensitivities.branch_currents(case.branch, case.at_from)
    assert (along.value <= magnitude.value + 1e-12).all()


def test_without_tap_networks_taps_have_no_effect(case):
    plain = Sensitivities(case.network, case.injections, case.base)
    assert (plain.branch_currents(case.branch, case.at_from).d_tap == 0).all()
