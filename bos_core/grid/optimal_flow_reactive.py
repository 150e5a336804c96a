"""Reactive dispatch of single hours: from a grid's state to an optimal flow and back to a confirmed state.

Active powers are given. The imbalance of the schedule (losses above the estimate) is spread over running
dispatchable units by the room they have, or left to the slack bus. Taps and shunt steps are continuous in a first
solution, rounded, and held in a second one; a power flow with the set points found and reactive limits enforced
is the answer. Every hour depends on its own inputs only.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np

from bos_core.grid import power_flow
from bos_core.grid.branch_models import tap_turn
from bos_core.grid.elimination import elimination_of
from bos_core.grid.injections import UNLIMITED_MVAR, BusInjections, bus_injections, sum_by_bus, update_snapshot
from bos_core.grid.model import BoolArray, FloatArray, Grid, IntArray, Network, Snapshot, stack
from bos_core.grid.optimal_flow import (
    I2_FROM,
    I2_TO,
    FlowAnswer,
    FlowHour,
    FlowNetwork,
    FlowWeights,
    branch_coefficients,
    branch_quantities,
)

OPTIMAL, SOFT, POWER_FLOW_ONLY, DIVERGED = 0, 1, 2, 3
EXCESS_TOLERANCE = 1e-4
"""An excess of voltage (p.u.) or loading up to this is rounding, not a softened limit."""

WATCHED_SHARE = 0.6
"""A branch above this share of its limit before the dispatch has the limit in the optimal flow from the start."""

FLOW_BASE_MVA = 100.0
"""Base of the optimal flow, whatever the grid's own: tolerances and weights are meant for it."""

Solver = Callable[[FlowNetwork, FlowHour, FlowWeights, FlowAnswer | None], FlowAnswer]
"""Solves an hour; the last argument answers nearly the same problem, if there is such an answer."""


@dataclass(frozen=True)
class ReactiveOptions:
    """What is decided, and the price of things."""

    voltage_target_pu: float = 1.03
    optimise_taps: bool = True
    optimise_shunts: bool = True
    distribute_balance: bool = True
    weights: FlowWeights = field(default_factory=FlowWeights)


@dataclass(frozen=True, eq=False)
class Limits:
    """Base-case limits: (bus,), (bus,), (branch,)."""

    vm_pu_min: FloatArray
    vm_pu_max: FloatArray
    loading_max: FloatArray


@dataclass(frozen=True, eq=False)
class ReactiveAnswer:
    """One hour; fields as in the contract of the reactive-dispatch slot."""

    state: Snapshot
    outcome: int
    residual_pu: float
    iterations: int
    losses_mw: float
    slack_p_mw: float
    voltage_excess_pu: float
    loading_excess: float


@dataclass(frozen=True, eq=False)
class ReactiveBlock:
    """A block of hours; fields as in the contract of the reactive-dispatch slot."""

    states: Snapshot
    outcome: IntArray
    residual_pu: FloatArray
    iterations: IntArray
    losses_mw: FloatArray
    slack_p_mw: FloatArray
    voltage_excess_pu: FloatArray
    loading_excess: FloatArray


def dispatch_block(
    grid: Grid, states: Snapshot, limits: Limits, options: ReactiveOptions, solver: Solver
) -> ReactiveBlock:
    """Dispatch every hour of a block on its own."""
    dispatch = ReactiveDispatch(grid, limits, options, solver)
    hours = [dispatch.hour(states.hour(h)) for h in range(states.vm_pu.shape[0])]

    def column(name: str, kind: type) -> np.ndarray:
        return np.array([getattr(hour, name) for hour in hours], kind)

    return ReactiveBlock(
        states=stack([hour.state for hour in hours]) if hours else states,
        outcome=column("outcome", np.int64),
        iterations=column("iterations", np.int64),
        **{
            name: column(name, np.float64)
            for name in ("residual_pu", "losses_mw", "slack_p_mw", "voltage_excess_pu", "loading_excess")
        },
    )


class ReactiveDispatch:
    """The dispatch of one grid: its structure is prepared once."""

    def __init__(self, grid: Grid, limits: Limits, options: ReactiveOptions, solver: Solver) -> None:
        self.grid, self.limits, self.options, self.solver = grid, limits, options, solver
        self.elimination = elimination_of(grid.network)
        self.scale = grid.network.base_mva / FLOW_BASE_MVA
        self.taps = TapTable.of(grid.network)
        self.shunt = np.flatnonzero(grid.shunts.controllable & (grid.shunts.b_step_pu != 0.0))
        units, svgs, hvdc = grid.units, grid.svgs, grid.hvdc
        self.q_bus = np.unique(
            np.concatenate([[grid.network.slack], units.bus, svgs.bus, hvdc.from_bus, hvdc.to_bus]).astype(
                np.int64
            )
        )
        devices = (units.bus[units.voltage_control], svgs.bus, hvdc.from_bus, hvdc.to_bus)
        self.slack_has_devices = bool(np.isin(grid.network.slack, np.concatenate(devices)))
        self.twins = Twins.of(grid.network, self.taps, limits.loading_max, options.optimise_taps)
        lead = self.twins.lead
        self._at: tuple[Network, FloatArray] | None = None
        self.flow = FlowNetwork(
            n_bus=grid.network.n_bus,
            reference=grid.network.slack,
            from_bus=grid.network.from_bus[lead],
            to_bus=grid.network.to_bus[lead],
            tap_branch=self.twins.place[self.taps.branch[self.twins.lead_tap]],
            q_bus=np.concatenate([self.q_bus, grid.shunts.bus[self.shunt]]).astype(np.int64),
            p_bus=np.zeros(0, np.int64),
        )

    def within(self, limits: Limits) -> ReactiveDispatch:
        """Return the same dispatch within other voltage limits."""
        other = copy(self)
        other.limits = limits
        return other

    def hour(self, given: Snapshot) -> ReactiveAnswer:
        """Dispatch one hour."""
        state = self._together(controlled(self.grid, given))
        start = self._power_flow(state, enforce=False)
        if start.outcome == power_flow.DIVERGED:
            start = self._power_flow(state, enforce=False, flat=True)
        if start.outcome == power_flow.CONVERGED:
            state = self._balanced(self._written(state, start), state, start.p_slack_pu.sum())
        iterations, answer, watched = 0, None, self._loading_share(state) > WATCHED_SHARE
        for free in (True, False):
            answer, watched = self._stage(state, free, watched, answer)
            iterations += answer.iterations
            if not answer.solved:
                return self._plain(given, iterations)
            found = self._in_grid_units(answer)
            state = self._rounded(state, found) if free else replace(state, vm_pu=found.vm, va_rad=found.va)
            state = self._balanced(state, state, found.balance_pu)
        return self._confirmed(given, self._with_set_points(given, state, found), iterations)

    def _stage(
        self, state: Snapshot, free: bool, watched: BoolArray, before: FlowAnswer | None
    ) -> tuple[FlowAnswer, BoolArray]:
        """Solve with the loading limits of the watched branches, and again where another one is passed.

        Where only the solution without limits exists, it is the answer: what it overloads is counted as excess.
        """
        iterations = 0
        while True:
            before = self._solve(state, free, watched, before)
            iterations += before.iterations
            if not before.solved:
                break
            share = self._loading_share(state, before)
            if not ((share > 1.0) & ~watched).any():
                return replace(before, iterations=iterations), watched
            watched = watched | (share > WATCHED_SHARE)
        if watched.any():
            before = self._solve(state, free, np.zeros_like(watched), None)
            iterations += before.iterations
        return replace(before, iterations=iterations), watched

    # --- parts of an hour

    def _network(self, state: Snapshot) -> tuple[Network, FloatArray]:
        """Return the network at the taps and steps of a state, and the coefficients of its leading branches."""
        network = power_flow.network_at(self.grid, state)
        if self._at is None or self._at[0] is not network:
            self._at = (network, branch_coefficients(network)[self.twins.lead])
        return self._at

    def _together(self, state: Snapshot) -> Snapshot:
        """Return the state with twins at the position of the one that leads them."""
        tap = state.tap.copy()
        tap[self.taps.tap] = tap[self.taps.tap[self.twins.leader_tap]]
        return replace(state, tap=tap)

    def _power_flow(self, state: Snapshot, *, enforce: bool, flat: bool = False) -> power_flow.PowerFlowSolution:
        start = None if flat else state.vm_pu * np.exp(1j * state.va_rad)
        return power_flow.solve(
            self._network(state)[0],
            bus_injections(self.grid, state),
            start,
            enforce_q_limits=enforce,
            elimination=self.elimination,
        )

    def _written(self, state: Snapshot, solution: power_flow.PowerFlowSolution) -> Snapshot:
        """Take over voltages and reactive powers, not the active balance."""
        nothing = np.zeros(self.grid.network.n_bus)
        return update_snapshot(self.grid, state, solution.vm_pu, solution.va_rad, nothing, solution.q_control_pu)

    def _balanced(self, state: Snapshot, schedule: Snapshot, balance_pu: float) -> Snapshot:
        if not self.options.distribute_balance:
            return replace(state, unit_p_mw=schedule.unit_p_mw)
        return replace(state, unit_p_mw=distribute(self.grid, schedule, balance_pu * self.grid.network.base_mva))

    def _solve(self, state: Snapshot, free: bool, watched: BoolArray, before: FlowAnswer | None) -> FlowAnswer:
        return self.solver(self.flow, self._flow_hour(state, free, watched), self.options.weights, before)

    def _in_grid_units(self, answer: FlowAnswer) -> FlowAnswer:
        """Return an answer on the grid's own base, with the inverse ratio of every branch."""
        return replace(
            answer,
            q=answer.q / self.scale,
            balance_pu=answer.balance_pu / self.scale,
            inverse_ratio=answer.inverse_ratio[self.twins.place],
        )

    def _flow_hour(self, state: Snapshot, free: bool, watched: BoolArray) -> FlowHour:
        """Return the numbers of an hour; `free` lets taps and shunts move, `watched` branches have limits."""
        network, coefficient = self._network(state)
        injections = bus_injections(self.grid, state)
        inverse, twins = 1.0 / network.ratio, self.twins
        lead, count = twins.lead, twins.count
        low, high = (end[twins.lead_tap] for end in self.taps.inverse_ratio_range(inverse, state.tap))
        if not (free and self.options.optimise_taps):
            low = high = inverse[lead][self.flow.tap_branch]
        steps, scale = free and self.options.optimise_shunts, self.scale
        q_low, q_high = self._shunt_range(state, injections, steps)
        no_limit = np.full(lead.size, np.inf)
        power = count * scale
        scales = np.stack([power] * 4 + [power**2] * 2, axis=1)
        limit_from, limit_to = (
            np.where(watched, (i_max * self.limits.loading_max)[lead] * power, np.inf)
            for i_max in (network.i_max_from_pu, network.i_max_to_pu)
        )
        nothing = np.zeros(0)
        q_min, q_max = self._controlled_range(state, injections)
        return FlowHour(
            p_pu=injections.p_pu * scale,
            q_pu=injections.q_pu * scale,
            p_linear=injections.p_current_pu * scale,
            q_linear=injections.q_current_pu * scale,
            p_square=(injections.p_impedance_pu + network.g_shunt_pu) * scale,
            q_square=(injections.q_impedance_pu - network.b_shunt_pu) * scale,
            balanced=True,
            coefficient=coefficient * scales[:, :, None],
            inverse_ratio=inverse[lead],
            inverse_ratio_min=low,
            inverse_ratio_max=high,
            q_min=np.concatenate([q_min, q_low]) * scale,
            q_max=np.concatenate([np.maximum(q_max, q_min), q_high]) * scale,
            q_start=np.concatenate([self._controlled_q(state), np.zeros(self.shunt.size)]) * scale,
            p_min=nothing,
            p_max=nothing,
            p_start=nothing,
            p_cost_linear=nothing,
            p_cost_square=nothing,
            vm_min=self.limits.vm_pu_min,
            vm_max=self.limits.vm_pu_max,
            vm_target=np.clip(self.options.voltage_target_pu, self.limits.vm_pu_min, self.limits.vm_pu_max),
            limit_from=limit_from,
            limit_to=limit_to,
            angle_max=no_limit,
            vm=state.vm_pu,
            va=state.va_rad,
        )

    def _controlled_range(self, state: Snapshot, injections: BusInjections) -> tuple[FloatArray, FloatArray]:
        """Reactive range of the devices of each source bus; unlimited at a slack to which no device belongs."""
        low, high = injections.q_pu_min.copy(), injections.q_pu_max.copy()
        slack = self.grid.network.slack
        if not self.slack_has_devices:
            low[slack], high[slack] = (
                -UNLIMITED_MVAR / self.grid.network.base_mva,
                UNLIMITED_MVAR / self.grid.network.base_mva,
            )
        return low[self.q_bus], high[self.q_bus]

    def _shunt_range(
        self, state: Snapshot, injections: BusInjections, steps: bool
    ) -> tuple[FloatArray, FloatArray]:
        shunts, at = self.grid.shunts, self.shunt
        if not steps:
            return np.zeros(at.size), np.zeros(at.size)
        square = state.vm_pu[shunts.bus[at]] ** 2
        ends = np.stack([(end[at] - state.shunt_step[at]) for end in (shunts.step_min, shunts.step_max)])
        q = ends * shunts.b_step_pu[at] * square
        return np.asarray(q.min(0)), np.asarray(q.max(0))

    def _controlled_q(self, state: Snapshot) -> FloatArray:
        """Reactive power of the controlling devices of each source bus, from the state."""
        grid = self.grid
        total = sum_by_bus(grid.units.bus, np.where(state.unit_on, state.unit_q_mvar, 0.0), grid.network.n_bus)
        total = total + sum_by_bus(grid.svgs.bus, state.svg_q_mvar, grid.network.n_bus)
        total = total + sum_by_bus(grid.hvdc.from_bus, state.hvdc_q_from_mvar, grid.network.n_bus)
        total = total + sum_by_bus(grid.hvdc.to_bus, state.hvdc_q_to_mvar, grid.network.n_bus)
        return np.asarray(total[self.q_bus] / grid.network.base_mva)

    def _loading_share(self, state: Snapshot, answer: FlowAnswer | None = None) -> FloatArray:
        """Return the loading over its limit of the leading branches, of an answer or of the state itself."""
        lead, (network, coefficient) = self.twins.lead, self._network(state)
        vm, va = (state.vm_pu, state.va_rad) if answer is None else (answer.vm, answer.va)
        inverse = 1.0 / network.ratio[lead] if answer is None else answer.inverse_ratio
        flow = branch_quantities(self.flow, coefficient, vm, va, inverse)
        at_from = np.sqrt(np.maximum(flow[:, I2_FROM], 0.0)) * inverse / network.i_max_from_pu[lead]
        at_to = np.sqrt(np.maximum(flow[:, I2_TO], 0.0)) / network.i_max_to_pu[lead]
        share: FloatArray = np.maximum(at_from, at_to) / (self.limits.loading_max[lead] + EXCESS_TOLERANCE)
        return share

    def _rounded(self, state: Snapshot, answer: FlowAnswer) -> Snapshot:
        """Return the state at the nearest tap positions and shunt steps."""
        tap, step = state.tap.copy(), state.shunt_step.copy()
        if self.options.optimise_taps:
            inverse = 1.0 / self._network(state)[0].ratio
            tap[self.taps.tap] = self.taps.nearest(inverse, state.tap, answer.inverse_ratio)
        if self.options.optimise_shunts and self.shunt.size:
            shunts, at = self.grid.shunts, self.shunt
            moved = answer.q[self.q_bus.size :] / (answer.vm[shunts.bus[at]] ** 2 * shunts.b_step_pu[at])
            step[at] = np.clip(
                step[at] + np.rint(moved).astype(np.int64), shunts.step_min[at], shunts.step_max[at]
            )
        return replace(state, tap=tap, shunt_step=step, vm_pu=answer.vm, va_rad=answer.va)

    def _with_set_points(self, given: Snapshot, state: Snapshot, answer: FlowAnswer) -> Snapshot:
        """Return the state with set points and reactive powers of the answer, devices in their own mode."""
        grid, n = self.grid, self.grid.network.n_bus
        q_control = np.zeros(n)
        q_control[self.q_bus] = answer.q[: self.q_bus.size]
        state = update_snapshot(grid, state, answer.vm, answer.va, np.zeros(n), q_control)

        def mode(own: FloatArray, bus: IntArray) -> FloatArray:
            return np.where(np.isfinite(own), answer.vm[bus], np.nan)

        return replace(
            state,
            unit_vm_set_pu=mode(state.unit_vm_set_pu, grid.units.bus),
            svg_vm_set_pu=mode(given.svg_vm_set_pu, grid.svgs.bus),
            hvdc_vm_from_set_pu=mode(given.hvdc_vm_from_set_pu, grid.hvdc.from_bus),
            hvdc_vm_to_set_pu=mode(given.hvdc_vm_to_set_pu, grid.hvdc.to_bus),
        )

    def _loading(self, state: Snapshot) -> FloatArray:
        network = self._network(state)[0]
        return network.loading(state.vm_pu * np.exp(1j * state.va_rad))

    def _plain(self, given: Snapshot, iterations: int) -> ReactiveAnswer:
        """No optimisation: a power flow with the set points as given."""
        return self._confirmed(given, controlled(self.grid, given), iterations, POWER_FLOW_ONLY)

    def _confirmed(
        self, given: Snapshot, state: Snapshot, iterations: int, outcome: int = OPTIMAL
    ) -> ReactiveAnswer:
        solution = self._power_flow(state, enforce=True)
        if solution.outcome == power_flow.DIVERGED:
            solution = self._power_flow(state, enforce=True, flat=True)
        if solution.outcome == power_flow.DIVERGED:
            if outcome == OPTIMAL:
                return self._plain(given, iterations)
            nan = float("nan")
            return ReactiveAnswer(given, DIVERGED, solution.residual_pu, iterations, nan, nan, nan, nan)
        base = self.grid.network.base_mva
        solved = update_snapshot(
            self.grid, state, solution.vm_pu, solution.va_rad, solution.p_slack_pu, solution.q_control_pu
        )
        vm, limits = solution.vm_pu, self.limits
        outside = np.maximum(limits.vm_pu_min - vm, vm - limits.vm_pu_max)
        over = self._loading(solved) - limits.loading_max
        if outcome == OPTIMAL and max(outside.max(), over.max(initial=0.0)) > EXCESS_TOLERANCE:
            outcome = SOFT
        scheduled = np.where(given.unit_on, given.unit_p_mw, 0.0).sum()
        before_slack = np.where(state.unit_on, state.unit_p_mw, 0.0).sum()
        return ReactiveAnswer(
            state=solved,
            outcome=outcome,
            residual_pu=float(solution.residual_pu),
            iterations=iterations,
            losses_mw=float(solution.p_pu.sum() * base),
            slack_p_mw=float(before_slack - scheduled + solution.p_slack_pu.sum() * base),
            voltage_excess_pu=float(outside[outside > EXCESS_TOLERANCE].sum()),
            loading_excess=float(over[over > EXCESS_TOLERANCE].sum()),
        )


def controlled(grid: Grid, state: Snapshot) -> Snapshot:
    """Return the state with every device that can give reactive power controlling its bus.

    Units that are on and able to control voltage, SVGs, and HVDC ends with a reactive range; a device without a
    set point gets the present voltage of its bus.
    """

    def set_point(own: FloatArray, able: BoolArray, bus: IntArray) -> FloatArray:
        return np.where(np.isfinite(own), own, np.where(able, state.vm_pu[bus], np.nan))

    units, svgs, hvdc = grid.units, grid.svgs, grid.hvdc
    unit_set = set_point(state.unit_vm_set_pu, units.voltage_control, units.bus)
    return replace(
        state,
        unit_vm_set_pu=np.where(state.unit_on, unit_set, np.nan),
        svg_vm_set_pu=set_point(state.svg_vm_set_pu, svgs.q_mvar_max > svgs.q_mvar_min, svgs.bus),
        hvdc_vm_from_set_pu=set_point(
            state.hvdc_vm_from_set_pu, hvdc.q_from_mvar_max > hvdc.q_from_mvar_min, hvdc.from_bus
        ),
        hvdc_vm_to_set_pu=set_point(state.hvdc_vm_to_set_pu, hvdc.q_to_mvar_max > hvdc.q_to_mvar_min, hvdc.to_bus),
    )


def distribute(grid: Grid, state: Snapshot, amount_mw: float) -> FloatArray:
    """Return unit_p_mw with an imbalance spread over running dispatchable units, by the room they have.

    What exceeds the room of all of them together is left to the slack bus.
    """
    units = grid.units
    ready = state.unit_on & ~units.variable
    end = units.p_mw_max if amount_mw > 0 else units.p_mw_min
    room = np.where(ready, np.abs(end - state.unit_p_mw), 0.0)
    room[ready & ((end - state.unit_p_mw) * amount_mw <= 0)] = 0.0
    total = room.sum()
    if total <= 0.0:
        return state.unit_p_mw
    moved: FloatArray = state.unit_p_mw + np.sign(amount_mw) * room * min(1.0, abs(amount_mw) / total)
    return moved


@dataclass(frozen=True, eq=False)
class TapTable:
    """In-phase tap changers and the inverse ratio at each of their positions.

    Attributes
    ----------
    tap : (controlled,)
        Positions along the tap axis.
    low : (controlled,)
        First tap position.
    factor : (controlled, position)
        Inverse ratio over that at the neutral position; NaN beyond the last position.
    """

    tap: IntArray
    branch: IntArray
    low: IntArray
    factor: FloatArray

    @classmethod
    def of(cls, network: Network) -> TapTable:
        """Tabulate the tap changers of a network; those that turn the angle are left out."""
        ranged = np.flatnonzero((network.tap_max > network.tap_min) & ~network.tap_phase_shifter)
        width = int((network.tap_max - network.tap_min)[ranged].max(initial=0)) + 1
        position = network.tap_min[ranged, None] + np.arange(width)
        turn = np.stack(
            [
                tap_turn(
                    (position[:, k] - network.tap_neutral[ranged]).astype(float),
                    network.tap_step[ranged],
                    network.tap_step_rad[ranged],
                    network.tap_phase_shifter[ranged],
                )
                for k in range(width)
            ],
            axis=1,
        )
        inside = position <= network.tap_max[ranged, None]
        size = np.where(inside, np.abs(turn), np.nan)
        factor = np.where(network.tap_at_from[ranged, None], 1.0 / size, size)
        in_phase = ~(inside & (np.abs(np.angle(turn)) > 1e-6)).any(1)
        moves = np.nanmax(size, axis=1, initial=1.0) - np.nanmin(size, axis=1, initial=1.0) > 1e-6
        chosen = in_phase & moves
        tap = ranged[chosen]
        return cls(tap, network.tap_branch[tap], network.tap_min[tap], factor[chosen])

    def _table(self, inverse: FloatArray, tap: IntArray) -> FloatArray:
        """Inverse ratio of every position, given that of the present ones."""
        now = self.factor[np.arange(self.tap.size), np.clip(tap[self.tap] - self.low, 0, self.factor.shape[1] - 1)]
        table: FloatArray = self.factor * (inverse[self.branch] / now)[:, None]
        return table

    def inverse_ratio_range(self, inverse: FloatArray, tap: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return lower and upper bounds, (controlled,) each."""
        if not self.tap.size:
            return np.zeros(0), np.zeros(0)
        table = self._table(inverse, tap)
        return np.nanmin(table, axis=1), np.nanmax(table, axis=1)

    def nearest(self, inverse: FloatArray, tap: IntArray, wanted: FloatArray) -> IntArray:
        """Return the tap positions with the inverse ratios nearest to those wanted, (branch,)."""
        if not self.tap.size:
            return np.zeros(0, np.int64)
        distance = np.abs(self._table(inverse, tap) - wanted[self.branch][:, None])
        position: IntArray = self.low + np.nanargmin(distance, axis=1)
        return position


@dataclass(frozen=True, eq=False)
class Twins:
    """Transformers of equal data beside each other: they move together, as in operation.

    Apart they would only drive current through each other, and that makes the problem nonconvex. One of them leads
    and stands for all in the optimal flow.

    Attributes
    ----------
    lead : (leading branch,)
        Branches in the optimal flow: the leaders, and all branches without a twin.
    count : (leading branch,)
        How many branches each of them stands for.
    place : (branch,)
        Where a branch's leader is in `lead`.
    lead_tap : (leading tap,)
        Rows of the tap table whose branch leads.
    leader_tap : (controlled,)
        Row of the tap table that leads a row.
    """

    lead: IntArray
    count: FloatArray
    place: IntArray
    lead_tap: IntArray
    leader_tap: IntArray

    @classmethod
    def of(cls, network: Network, taps: TapTable, loading_max: FloatArray, together: bool) -> Twins:
        """Find the twins among the tap changers of a network; without `together` every branch is on its own."""
        leader, leader_tap = np.arange(network.n_branch), np.arange(taps.tap.size)
        if together and taps.tap.size:
            at = taps.branch
            data = (
                network.from_bus, network.to_bus, network.r_pu, network.x_pu, network.g_from_pu, network.b_from_pu,
                network.g_to_pu, network.b_to_pu, network.ratio, network.shift_rad, network.i_max_from_pu,
                network.i_max_to_pu, loading_max,
            )  # fmt: skip
            rows = np.column_stack([column[at] for column in data] + [taps.low, np.nan_to_num(taps.factor)])
            _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
            leader_tap = first[group.ravel()]
            leader[at] = at[leader_tap]
        lead, place, count = np.unique(leader, return_inverse=True, return_counts=True)
        leads = np.flatnonzero(leader_tap == np.arange(taps.tap.size))
        return cls(lead, count.astype(np.float64), place.ravel(), leads, leader_tap)
