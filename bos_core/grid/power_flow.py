"""AC power flow of one connected network, or of every hour of a block.

Newton's method in polar form with float64 residuals; voltage control gives way at reactive limits and returns
when it can. The slack's devices take the active balance alone unless participation weights are given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numba as nb
import numpy as np
from numpy.typing import NDArray

from bos_core.grid.assembly import with_state
from bos_core.grid.dc import susceptance
from bos_core.grid.elimination import Elimination, Factors, eliminate, solve_scalar
from bos_core.grid.injections import BusInjections, bus_injections, sum_by_bus, update_snapshot
from bos_core.grid.model import ComplexArray, FloatArray, Grid, IntArray, Network, Snapshot, stack
from bos_core.grid.newton import (
    FIXED,
    PQ,
    Control,
    State,
    Workspace,
    bus_powers,
    hold,
    mismatch,
    new_workspace,
    newton_with_limits,
    set_kinds,
)

CONVERGED, DIVERGED = 0, 1

TOLERANCE_PU = 1e-8
MAX_ITERATIONS = 30

_SHORT_PU = 1e-6
"""Reactance of a branch without impedance where start angles are sought."""


@dataclass(frozen=True, eq=False)
class PowerFlowSolution:
    """The state of one hour; arrays are (bus,).

    Attributes
    ----------
    vm_pu, va_rad : voltages; of a diverged case the last iterate.
    p_pu, q_pu : power from each bus into the network.
    q_control_pu : reactive power of the voltage-controlling devices of each bus; 0 where there are none.
    p_slack_pu : active power that the balance adds to the scheduled injection of each bus.
    q_state : 0 in control or nothing to control, +1 held at the upper reactive limit, -1 at the lower.
    outcome : CONVERGED, or DIVERGED where no state within the reactive limits was found.
    iterations : Newton iterations, all rounds of limit switching together.
    residual_pu : largest power mismatch.
    """

    vm_pu: FloatArray
    va_rad: FloatArray
    p_pu: FloatArray
    q_pu: FloatArray
    q_control_pu: FloatArray
    p_slack_pu: FloatArray
    q_state: IntArray
    outcome: int
    iterations: int
    residual_pu: float

    @property
    def v_pu(self) -> ComplexArray:
        """Complex voltages."""
        v: ComplexArray = self.vm_pu * np.exp(1j * self.va_rad)
        return v


def dc_start(
    network: Network,
    injections: BusInjections,
    va_slack_rad: float = 0.0,
    elimination: Elimination | None = None,
) -> ComplexArray:
    """Return start voltages: DC angles (phase shifts included), magnitudes near the controlled level.

    Magnitudes start at the mean set point because 1 p.u. is too low for grids run above it. If reactances cancel
    and the DC network is singular, all angles are that of the slack.
    """
    elimination = elimination or eliminate(network)
    n, f, t = network.n_bus, network.from_bus, network.to_bus
    reactance = np.where(network.x_pu == 0.0, network.r_pu, network.x_pu)
    b = susceptance(replace(network, x_pu=np.where(reactance == 0.0, _SHORT_PU, reactance)))
    pattern, slots = elimination.pattern, elimination.branch_slot
    matrix = np.bincount(slots.ravel(), np.outer(b, (1.0, -1.0, -1.0, 1.0)).ravel(), pattern.y_column.size)
    matrix[pattern.y_diagonal[elimination.position[network.slack]]] += np.abs(b).max(initial=1.0)
    shifted = b * network.shift_rad
    power = injections.p_nominal_pu + np.bincount(f, shifted, n) - np.bincount(t, shifted, n)
    power[network.slack] -= power.sum()
    angles = power[elimination.order]
    if not solve_scalar(pattern, matrix, angles):
        angles[:] = 0.0
    angles = angles[elimination.position]
    vm = np.where(injections.voltage_control, injections.vm_set_pu, np.nanmean(injections.vm_set_pu))
    v: ComplexArray = vm * np.exp(1j * (angles - angles[network.slack] + va_slack_rad))
    return v


def admittances_with_loads(
    elimination: Elimination, network: Network, injections: BusInjections
) -> tuple[FloatArray, FloatArray]:
    """Return g and b of the y entries with the constant-impedance loads on the diagonal."""
    g, b = elimination.admittances(network)
    diagonal, order = elimination.pattern.y_diagonal, elimination.order
    g[diagonal] += injections.p_impedance_pu[order]
    b[diagonal] -= injections.q_impedance_pu[order]
    return g, b


def prepare(
    elimination: Elimination,
    network: Network,
    injections: BusInjections,
    v0: ComplexArray,
    participation: FloatArray | None,
) -> tuple[State, Control]:
    """Return what the compiled power flow takes, buses in elimination order; the slack is at its set point."""
    order = elimination.order
    n, slack = network.n_bus, int(elimination.position[network.slack])
    kind = np.full(n, PQ, np.int8)
    kind[slack] = FIXED
    weight = np.zeros(n)
    weight[slack] = 1.0
    if participation is not None and participation.sum() > 0:
        weight = participation[order] / participation.sum()
    v = v0[order]
    size = np.abs(v[slack])
    v[slack] = injections.vm_set_pu[network.slack] * (v[slack] / size if size > 0.0 else 1.0)
    active = injections.voltage_control[order]
    active[slack] = False
    state = State(
        kind=kind,
        p=injections.p_pu[order],
        q=injections.q_pu[order],
        p_current=injections.p_current_pu[order],
        q_current=injections.q_current_pu[order],
        weight=weight,
        vr=np.ascontiguousarray(v.real),
        vi=np.ascontiguousarray(v.imag),
    )
    control = Control(
        active=active,
        vm_set=injections.vm_set_pu[order],
        q_fixed=injections.q_pu[order],
        q_min=injections.q_pu_min[order],
        q_max=injections.q_pu_max[order],
        state=np.zeros(n, np.int8),
    )
    return state, control


def solve(
    network: Network,
    injections: BusInjections,
    v0: ComplexArray | None = None,
    *,
    tol: float = TOLERANCE_PU,
    max_iterations: int = MAX_ITERATIONS,
    enforce_q_limits: bool = True,
    participation: FloatArray | None = None,
    elimination: Elimination | None = None,
) -> PowerFlowSolution:
    """Solve the power flow of one connected network.

    Parameters
    ----------
    injections : BusInjections
        Of one hour, arrays (bus,).
    v0 : (bus,) complex, optional
        Start voltages, p.u.; the slack keeps their angle. Default `dc_start`.
    tol : float
        Largest mismatch, p.u.
    max_iterations : int
        Of one round; limit switching starts a new round.
    enforce_q_limits : bool
        Whether voltage control ends at reactive limits. The slack's limits are never enforced.
    participation : (bus,), optional
        Weights by which buses share the active balance; default the slack alone.
    elimination : Elimination, optional
        Of the same topology, to save its computation.
    """
    elimination = elimination or eliminate(network)
    room = elimination.new_factors(), new_workspace(elimination.pattern)
    hour = _Hour(elimination, network, injections, participation, room)
    start = dc_start(network, injections, elimination=elimination) if v0 is None else v0
    return hour.solve(start, tol, max_iterations, enforce_q_limits)


class _Hour:
    """One hour ready to be solved, from one start or another."""

    def __init__(
        self,
        elimination: Elimination,
        network: Network,
        injections: BusInjections,
        participation: FloatArray | None,
        room: tuple[Factors, Workspace],
    ) -> None:
        self.elimination, self.network, self.injections = elimination, network, injections
        self.participation = participation
        self.factors, self.room = room
        self.g, self.b = admittances_with_loads(elimination, network, injections)

    def starts(self, v0: ComplexArray) -> Iterator[ComplexArray]:
        """Yield the start voltages to try: those given first where they are near a solution, else DC angles.

        The solution of other injections misses these by no more than the injections differ.
        """
        near = self._mismatch(v0) < 2.0 * np.abs(self.injections.p_nominal_pu).max(initial=0.0)
        if near:
            yield v0
        yield dc_start(self.network, self.injections, elimination=self.elimination)
        if not near:
            yield v0

    def _mismatch(self, v0: ComplexArray) -> float:
        pattern, room = self.elimination.pattern, self.room
        state, control = prepare(self.elimination, self.network, self.injections, v0, None)
        set_kinds(state, control)
        hold(state, control)
        bus_powers(pattern, self.g, self.b, state.vr, state.vi, room.p, room.q)
        return float(mismatch(state, 0.0, room.p, room.q, room.x))

    def solve(
        self, v0: ComplexArray, tol: float, max_iterations: int, enforce_q_limits: bool
    ) -> PowerFlowSolution:
        """Solve from these start voltages."""
        elimination, network, injections = self.elimination, self.network, self.injections
        state, control = prepare(elimination, network, injections, v0, self.participation)
        slack = int(elimination.position[network.slack])
        iterations, residual, balance, solved = newton_with_limits(
            elimination.pattern, self.g, self.b, state, control, slack, self.factors, self.room, tol,
            max_iterations, enforce_q_limits,
        )  # fmt: skip
        return _solution(
            elimination, network, injections, state, control, self.room, iterations, residual, balance, solved
        )


def _solution(
    elimination: Elimination,
    network: Network,
    injections: BusInjections,
    state: State,
    control: Control,
    room: Workspace,
    iterations: int,
    residual: float,
    balance: float,
    solved: bool,
) -> PowerFlowSolution:
    position, slack = elimination.position, network.slack
    v = (state.vr + 1j * state.vi)[position]
    vm = np.abs(v)
    p, q = room.p[position], room.q[position]
    p_load = injections.p_impedance_pu * vm**2
    q_load = injections.q_impedance_pu * vm**2
    p_network, q_network = p - p_load, q - q_load
    p_slack = balance * state.weight[position]
    p_slack[slack] = p[slack] - injections.p_pu[slack] + injections.p_current_pu[slack] * vm[slack]
    q_control = np.where(injections.voltage_control, q - injections.q_pu + injections.q_current_pu * vm, 0.0)
    return PowerFlowSolution(
        vm_pu=vm,
        va_rad=np.angle(v),
        p_pu=p_network,
        q_pu=q_network,
        q_control_pu=q_control,
        p_slack_pu=p_slack,
        q_state=control.state[position].astype(np.int64),
        outcome=CONVERGED if solved else DIVERGED,
        iterations=iterations,
        residual_pu=residual,
    )


def network_at(grid: Grid, snapshot: Snapshot) -> Network:
    """Return the network at the tap positions and shunt steps of one hour."""
    network, shunts = grid.network, grid.shunts
    if np.array_equal(snapshot.tap, network.tap) and np.array_equal(snapshot.shunt_step, shunts.step):
        return network
    return with_state(network, snapshot.tap, snapshot.shunt_step, shunts)


def participation(grid: Grid, snapshot: Snapshot) -> FloatArray:
    """Return the weights of a distributed slack, (bus,): p_mw_max of the running units that are not variable."""
    units = grid.units
    taking_part = snapshot.unit_on & ~units.variable
    return sum_by_bus(units.bus, np.where(taking_part, np.maximum(units.p_mw_max, 0.0), 0.0), grid.network.n_bus)


@dataclass(frozen=True, eq=False)
class HourlySolution:
    """Solved states of a block; a diverged hour keeps its start values.

    Attributes
    ----------
    states : Snapshot
    outcome, iterations : (hour,) int
    residual_pu, slack_p_mw, losses_mw : (hour,)
    q_state : (hour, bus) int8
        As in `PowerFlowSolution`; 0 in a diverged hour.
    """

    states: Snapshot
    outcome: IntArray
    iterations: IntArray
    residual_pu: FloatArray
    slack_p_mw: FloatArray
    losses_mw: FloatArray
    q_state: NDArray[np.int8]


def solve_hours(
    grid: Grid,
    states: Snapshot,
    *,
    tol: float = TOLERANCE_PU,
    max_iterations: int = MAX_ITERATIONS,
    enforce_q_limits: bool = True,
    distributed_slack: bool = False,
) -> HourlySolution:
    """Solve every hour of a block, with its own taps and shunt steps.

    An hour starts from its own voltages where they solve it or hours like it, else from `dc_start`; where one of
    them leads nowhere, from the other. No hour is started from another, so that its result does not depend on
    the block that it is in; what hours share is the pattern of the factors.

    Parameters
    ----------
    distributed_slack : bool
        Whether `participation` shares the active balance, instead of the slack alone.
    """
    elimination = eliminate(grid.network)
    room = elimination.new_factors(), new_workspace(elimination.pattern)
    hours = states.vm_pu.shape[0]
    solved: list[Snapshot] = []
    outcome, iterations = np.zeros(hours, np.int64), np.zeros(hours, np.int64)
    residual, slack_p, losses = np.zeros(hours), np.zeros(hours), np.zeros(hours)
    q_state = np.zeros((hours, grid.network.n_bus), np.int8)
    for h in range(hours):
        snapshot = states.hour(h)
        network = network_at(grid, snapshot)
        injections = bus_injections(grid, snapshot)
        weights = participation(grid, snapshot) if distributed_slack else None
        hour = _Hour(elimination, network, injections, weights, room)
        for v0 in hour.starts(snapshot.vm_pu * np.exp(1j * snapshot.va_rad)):
            solution = hour.solve(v0, tol, max_iterations, enforce_q_limits)
            iterations[h] += solution.iterations
            if solution.outcome == CONVERGED:
                break
        outcome[h], residual[h] = solution.outcome, solution.residual_pu
        if solution.outcome == CONVERGED:
            slack_p[h] = solution.p_slack_pu.sum() * network.base_mva
            losses[h] = solution.p_pu.sum() * network.base_mva
            q_state[h] = solution.q_state
            snapshot = update_snapshot(
                grid, snapshot, solution.vm_pu, solution.va_rad, solution.p_slack_pu, solution.q_control_pu
            )
        solved.append(snapshot)
    return HourlySolution(stack(solved), outcome, iterations, residual, slack_p, losses, q_state)


@dataclass(frozen=True, eq=False)
class BranchFlows:
    """Power that enters every branch at its ends, and its loading; each array is (hour, branch).

    Attributes
    ----------
    p_from_mw, q_from_mvar, p_to_mw, q_to_mvar : (hour, branch)
    loading : (hour, branch)
        Current / rating at the worse end; NaN where the branch is unrated.
    """

    p_from_mw: FloatArray
    q_from_mvar: FloatArray
    p_to_mw: FloatArray
    q_to_mvar: FloatArray
    loading: FloatArray


def branch_flows(grid: Grid, states: Snapshot) -> BranchFlows:
    """Return the flows of every branch in every hour of a block, from its voltages, taps and shunt steps."""
    hours, count = states.vm_pu.shape[0], grid.network.n_branch
    flows = BranchFlows(*(np.empty((hours, count)) for _ in range(5)))
    for h in range(hours):
        network = network_at(grid, states.hour(h))
        yff, yft, ytf, ytt = network.branch_admittances()
        _branch_flows(
            network.from_bus, network.to_bus, yff, yft, ytf, ytt, network.i_max_from_pu, network.i_max_to_pu,
            states.vm_pu[h] * np.exp(1j * states.va_rad[h]), network.base_mva,
            flows.p_from_mw[h], flows.q_from_mvar[h], flows.p_to_mw[h], flows.q_to_mvar[h], flows.loading[h],
        )  # fmt: skip
    return flows


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _branch_flows(
    f: IntArray,
    t: IntArray,
    yff: ComplexArray,
    yft: ComplexArray,
    ytf: ComplexArray,
    ytt: ComplexArray,
    i_max_from: FloatArray,
    i_max_to: FloatArray,
    v: ComplexArray,
    base_mva: float,
    p_from: FloatArray,
    q_from: FloatArray,
    p_to: FloatArray,
    q_to: FloatArray,
    loading: FloatArray,
) -> None:
    for k in range(f.size):
        i_from = yff[k] * v[f[k]] + yft[k] * v[t[k]]
        i_to = ytf[k] * v[f[k]] + ytt[k] * v[t[k]]
        s_from, s_to = v[f[k]] * np.conj(i_from) * base_mva, v[t[k]] * np.conj(i_to) * base_mva
        p_from[k], q_from[k], p_to[k], q_to[k] = s_from.real, s_from.imag, s_to.real, s_to.imag
        loading[k] = max(abs(i_from) / i_max_from[k], abs(i_to) / i_max_to[k])
        if i_max_from[k] == np.inf and i_max_to[k] == np.inf:
            loading[k] = np.nan
