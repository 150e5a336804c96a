"""The AC side of an adjustment: states solved, outages checked, voltages dispatched."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from bos_core.grid import power_flow
from bos_core.grid.elimination import elimination_of
from bos_core.grid.injections import bus_injections, sum_by_bus, update_snapshot
from bos_core.grid.model import FloatArray, IntArray, Snapshot
from bos_core.grid.n1 import Criteria, verify_outages
from bos_core.grid.n1_cases import CRITERION_TOLERANCE, DIVERGED
from bos_core.grid.optimal_flow_barrier import solve_from_power_flow
from bos_core.grid.optimal_flow_reactive import OPTIMAL, SOFT, Limits, ReactiveDispatch, ReactiveOptions
from slots.state_adjustment.contract import Inputs
from slots.state_adjustment.cuts import BASE_CASE, BaseFlows, Cuts, Pairs
from slots.state_adjustment.parameters import Parameters

_BALANCE_PASSES = 3
_BALANCE_TOLERANCE_MW = 0.01
_CHECK_TOLERANCE_PU = 1e-6
"""Mismatch that a check of outages leaves; loadings are then exact to 1e-6."""
_DISPATCH_TOLERANCE = 1e-4
"""Of the reactive dispatch, whose set points a power flow takes up; the limits it is given are guesses anyway."""


@dataclass(frozen=True, eq=False)
class Check:
    """What an AC check of one state found; outages by branch, base case -1."""

    overloads: Pairs
    voltage_outage: IntArray
    voltage_bus: IntArray
    voltage_vm_pu: FloatArray
    diverged: IntArray

    @classmethod
    def nothing(cls) -> Check:
        """Return a check that found nothing."""
        whole = np.zeros(0, np.int64)
        return cls(Pairs(whole, whole, np.zeros(0)), whole, whole, np.zeros(0), whole)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.overloads.outage.size or self.voltage_bus.size or self.diverged.size)

    def joined(self, other: Check) -> Check:
        """Return what both found; they looked at different outages."""
        voltages = (
            np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("voltage_outage", "voltage_bus", "voltage_vm_pu", "diverged")
        )
        return Check(self.overloads.joined(other.overloads), *voltages)

    def outages(self) -> IntArray:
        """Return the outages that violate something or diverge."""
        named = np.concatenate([self.overloads.outage, self.voltage_outage, self.diverged])
        return np.unique(named[named != BASE_CASE])


@dataclass(frozen=True, eq=False)
class Hour:
    """The state of one hour, the rounds that led there, what its check found, and the outages that it has seen."""

    state: Snapshot
    rounds: int
    residual_pu: float
    check: Check
    checked: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))


def loading_limits(inputs: Inputs, pairs: Pairs | Cuts) -> FloatArray:
    """Return the loading limit of each pair."""
    base = pairs.outage == BASE_CASE
    return np.where(base, inputs.loading_max[pairs.branch], inputs.loading_contingency_max[pairs.branch])


def voltage_excess(inputs: Inputs, check: Check) -> FloatArray:
    """Return how far each listed voltage is outside its limits: negative below, positive above."""
    bus, vm, base = check.voltage_bus, check.voltage_vm_pu, check.voltage_outage == BASE_CASE
    low = np.where(base, inputs.vm_pu_min[bus], inputs.vm_contingency_pu_min[bus])
    high = np.where(base, inputs.vm_pu_max[bus], inputs.vm_contingency_pu_max[bus])
    return np.minimum(vm - low, 0.0) + np.maximum(vm - high, 0.0)


class AcChecks:
    """What all hours of a block share."""

    def __init__(self, inputs: Inputs, parameters: Parameters) -> None:
        self.inputs, self.parameters, self.grid = inputs, parameters, inputs.grid
        self.elimination = elimination_of(inputs.grid.network)
        self._dispatch = ReactiveDispatch(
            inputs.grid,
            Limits(inputs.vm_pu_min, inputs.vm_pu_max, inputs.loading_max),
            ReactiveOptions(distribute_balance=False),
            partial(solve_from_power_flow, tolerance=_DISPATCH_TOLERANCE),
        )
        self.criteria = Criteria(
            inputs.vm_contingency_pu_min, inputs.vm_contingency_pu_max, inputs.loading_contingency_max
        )

    def solved(self, state: Snapshot, low: FloatArray, high: FloatArray) -> tuple[Snapshot | None, float]:
        """Return the AC solution; the balance goes to running units with room, the rest to the slack bus."""
        grid, injections = self.grid, bus_injections(self.grid, state)
        network, start = power_flow.network_at(grid, state), state.vm_pu * np.exp(1j * state.va_rad)
        for left in reversed(range(_BALANCE_PASSES)):
            solution = power_flow.solve(
                network,
                injections,
                start,
                enforce_q_limits=self.parameters.enforce_q_limits,
                elimination=self.elimination,
            )
            if solution.outcome == power_flow.DIVERGED:
                return None, float(solution.residual_pu)
            balance = float(solution.p_slack_pu.sum()) * network.base_mva
            change = self._spread(state.unit_p_mw, balance, low, high) - state.unit_p_mw
            if not left or np.abs(change).max(initial=0.0) < _BALANCE_TOLERANCE_MW:
                break
            state, start = replace(state, unit_p_mw=state.unit_p_mw + change), solution.v_pu
            moved = sum_by_bus(grid.units.bus, change, network.n_bus) / network.base_mva
            injections = replace(injections, p_pu=injections.p_pu + moved)
        solved = update_snapshot(
            grid, state, solution.vm_pu, solution.va_rad, solution.p_slack_pu, solution.q_control_pu
        )
        return solved, float(solution.residual_pu)

    def _spread(self, p: FloatArray, balance_mw: float, low: FloatArray, high: FloatArray) -> FloatArray:
        units = self.grid.units
        end = high if balance_mw > 0 else low
        room = np.where(units.variable, 0.0, np.maximum((end - p) * np.sign(balance_mw), 0.0))
        total = float(room.sum())
        if total <= 0.0:
            return p
        moved: FloatArray = p + np.sign(balance_mw) * room * min(1.0, abs(balance_mw) / total)
        return moved

    def base_case(self, state: Snapshot) -> Check:
        """Return the base-case violations of a state."""
        inputs = self.inputs
        network = power_flow.network_at(self.grid, state)
        loading = network.loading(state.vm_pu * np.exp(1j * state.va_rad))
        over = np.flatnonzero(loading > inputs.loading_max + CRITERION_TOLERANCE)
        vm = state.vm_pu
        off = (vm < inputs.vm_pu_min - CRITERION_TOLERANCE) | (vm > inputs.vm_pu_max + CRITERION_TOLERANCE)
        bus = np.flatnonzero(off)
        return Check(
            overloads=Pairs(np.full(over.size, BASE_CASE), over, loading[over]),
            voltage_outage=np.full(bus.size, BASE_CASE),
            voltage_bus=bus,
            voltage_vm_pu=vm[bus],
            diverged=np.zeros(0, np.int64),
        )

    def outages(self, state: Snapshot, outage: IntArray) -> Check:
        """Solve some outages of a state."""
        result = verify_outages(
            self.grid,
            state.block(),
            outage,
            self.criteria,
            enforce_q_limits=self.parameters.enforce_q_limits,
            tol=_CHECK_TOLERANCE_PU,
        )
        over, volt = result.overloads, result.voltages
        return Check(
            overloads=Pairs(outage[over.contingency], over.element, over.value),
            voltage_outage=outage[volt.contingency],
            voltage_bus=volt.element,
            voltage_vm_pu=volt.value,
            diverged=outage[result.extremes.outcome[0] == DIVERGED],
        )

    def whole(self, hour: Hour) -> Hour:
        """Check an hour's state after the outages that its check has not seen."""
        every = self.inputs.contingency_branch
        others = self.outages(hour.state, np.setdiff1d(every, hour.checked))
        return replace(hour, check=hour.check.joined(others), checked=every)

    def listed(self, position: int) -> Check:
        """Return what the caller found after outages of an hour."""
        inputs = self.inputs
        over = (inputs.overload_hour == position) & (inputs.overload_outage != BASE_CASE)
        volt = (inputs.voltage_hour == position) & (inputs.voltage_outage != BASE_CASE)
        return Check(
            Pairs(inputs.overload_outage[over], inputs.overload_branch[over], inputs.overload_loading[over]),
            inputs.voltage_outage[volt],
            inputs.voltage_bus[volt],
            inputs.voltage_vm_pu[volt],
            np.zeros(0, np.int64),
        )

    def base_flows(self, state: Snapshot) -> BaseFlows:
        """Return a state as the cuts see it."""
        return BaseFlows.of(power_flow.network_at(self.grid, state), state.vm_pu, state.va_rad)

    def tightened(self, hour: Hour, limits: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Raise and lower base-case limits by what the outages take the voltages beyond theirs."""
        state, excess, bus = hour.state, voltage_excess(self.inputs, hour.check), hour.check.voltage_bus
        margin = self.parameters.voltage_margin_pu
        wanted = state.vm_pu[bus] - excess
        low, high = limits[0].copy(), limits[1].copy()
        np.maximum.at(low, bus[excess < 0], wanted[excess < 0] + margin)
        np.minimum.at(high, bus[excess > 0], wanted[excess > 0] - margin)
        middle = np.clip((low + high) / 2, self.inputs.vm_pu_min, self.inputs.vm_pu_max)
        crossed = low > high
        low, high = np.where(crossed, middle, low), np.where(crossed, middle, high)
        return np.minimum(low, self.inputs.vm_pu_max), np.maximum(high, self.inputs.vm_pu_min)

    def reactive(self, state: Snapshot, limits: tuple[FloatArray, FloatArray]) -> Snapshot:
        """Dispatch reactive power within the tighter limits; active power stays."""
        dispatch = self._dispatch.within(Limits(limits[0], limits[1], self.inputs.loading_max))
        answer = dispatch.hour(state)
        if answer.outcome not in {OPTIMAL, SOFT}:
            return state
        return replace(answer.state, unit_p_mw=state.unit_p_mw)
