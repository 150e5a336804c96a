"""AC power flow of one connected network, or of every hour of a block.

Newton's method in polar form with float64 residuals; voltage control gives way at reactive limits and returns
when it can. The slack's devices take the active balance alone unless participation weights are given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numba as nb
import numpy as np
from numpy.typing import NDArray

from bos_core.grid.assembly import with_state, with_states
from bos_core.grid.dc import susceptance
from bos_core.grid.elimination import Elimination, eliminate, elimination_of, solve_scalar
from bos_core.grid.hours_lanes import KERNELS, ONE_BY_ONE, Networks, solve_in_lanes, start_at
from bos_core.grid.injections import BusInjections, bus_injections, sum_by_bus, update_snapshot
from bos_core.grid.model import ComplexArray, FloatArray, Grid, IntArray, Network, Shunts, Snapshot, stack
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
    matrix, shifted = _dc_system(elimination, network)
    power = injections.p_nominal_pu + shifted
    power[network.slack] -= power.sum()
    angles = power[elimination.order]
    if not solve_scalar(elimination.pattern, matrix, angles):
        angles[:] = 0.0
    angles = angles[elimination.position]
    vm = np.where(injections.voltage_control, injections.vm_set_pu, np.nanmean(injections.vm_set_pu))
    v: ComplexArray = vm * np.exp(1j * (angles - angles[network.slack] + va_slack_rad))
    return v


def _dc_system(elimination: Elimination, network: Network) -> tuple[FloatArray, FloatArray]:
    """Return the susceptance matrix on the y pattern, regular, and the power that phase shifts add, (bus,)."""
    n, f, t = network.n_bus, network.from_bus, network.to_bus
    if not network.x_pu.all():
        reactance = np.where(network.x_pu == 0.0, network.r_pu, network.x_pu)
        network = replace(network, x_pu=np.where(reactance == 0.0, _SHORT_PU, reactance))
    b = susceptance(network)
    pattern, slots = elimination.pattern, elimination.branch_slot
    matrix = np.bincount(slots.ravel(), np.outer(b, (1.0, -1.0, -1.0, 1.0)).ravel(), pattern.y_column.size)
    matrix[pattern.y_diagonal[elimination.position[network.slack]]] += np.abs(b).max(initial=1.0)
    shifted = b * network.shift_rad
    power: FloatArray = (np.bincount(f, shifted, n) - np.bincount(t, shifted, n)).astype(np.float64)
    return matrix.astype(np.float64), power


def admittances_with_loads(
    elimination: Elimination, network: Network, injections: BusInjections
) -> tuple[FloatArray, FloatArray]:
    """Return g and b of the y entries with the constant-impedance loads on the diagonal."""
    g, b = elimination.admittances(network)
    return _with_loads(elimination, g, b, injections)


def _with_loads(
    elimination: Elimination, g: FloatArray, b: FloatArray, injections: BusInjections
) -> tuple[FloatArray, FloatArray]:
    """Add the constant-impedance loads to the diagonal."""
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
    start = dc_start(network, injections, elimination=elimination) if v0 is None else v0
    solver = _Solver(elimination, tol, max_iterations, enforce_q_limits)
    solver.take(network, injections, participation)
    return solver.solve(*prepare(elimination, network, injections, start, participation))


class _Solver:
    """Solves hours of one topology in the same room, from one start or another."""

    def __init__(self, elimination: Elimination, tol: float, max_iterations: int, enforce_q_limits: bool) -> None:
        self.elimination = elimination
        self.factors, self.room = elimination.new_factors(), new_workspace(elimination.pattern)
        self.tol, self.max_iterations, self.enforce_q_limits = tol, max_iterations, enforce_q_limits

    def take(self, network: Network, injections: BusInjections, participation: FloatArray | None) -> None:
        """Take up an hour; admittances are kept while the network stays the same."""
        if network is not getattr(self, "network", None):
            self.network, self.without_loads = network, self.elimination.admittances(network)
        self.injections, self.participation = injections, participation
        self.g, self.b = self.without_loads
        if injections.p_impedance_pu.any() or injections.q_impedance_pu.any():
            self.g, self.b = _with_loads(self.elimination, self.g.copy(), self.b.copy(), injections)

    def solve_from(self, v0: ComplexArray) -> PowerFlowSolution:
        """Solve from these voltages where they are near a solution, else from DC angles; failing that, the other.

        The solution of other injections misses these by no more than the injections differ.
        """
        pattern, room = self.elimination.pattern, self.room
        given = prepare(self.elimination, self.network, self.injections, v0, self.participation)
        set_kinds(*given)
        hold(*given)
        bus_powers(pattern, self.g, self.b, given[0].vr, given[0].vi, room.p, room.q)
        far = mismatch(given[0], 0.0, room.p, room.q, room.x)
        near = far < 2.0 * np.abs(self.injections.p_nominal_pu).max(initial=0.0)
        if near:
            first = self.solve(*given)
            if first.outcome == CONVERGED:
                return first
        va_slack = float(np.nan_to_num(np.angle(v0[self.network.slack])))
        dc = dc_start(self.network, self.injections, va_slack, self.elimination)
        second = self.solve(*prepare(self.elimination, self.network, self.injections, dc, self.participation))
        if second.outcome == CONVERGED or near:
            return replace(second, iterations=second.iterations + (first.iterations if near else 0))
        last = self.solve(*given)
        return replace(last, iterations=second.iterations + last.iterations)

    def solve(self, state: State, control: Control) -> PowerFlowSolution:
        """Solve from what `prepare` returned."""
        elimination = self.elimination
        slack = int(elimination.position[self.network.slack])
        iterations, residual, balance, solved = newton_with_limits(
            elimination.pattern, self.g, self.b, state, control, slack, self.factors, self.room, self.tol,
            self.max_iterations, self.enforce_q_limits,
        )  # fmt: skip
        return _solution(
            elimination, self.network, self.injections, state, control, self.room,
            iterations, residual, balance, solved,
        )  # fmt: skip


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
    """Return the network at the tap positions and shunt steps of one hour; the same object where they stay."""
    network, shunts = grid.network, grid.shunts
    if np.array_equal(snapshot.tap, network.tap) and np.array_equal(snapshot.shunt_step, shunts.step):
        return network
    tap, shunt_step = (np.asarray(values, np.int64) for values in (snapshot.tap, snapshot.shunt_step))
    return _network_with(network, shunts, tap.tobytes(), shunt_step.tobytes())


@lru_cache(maxsize=4)
def _network_with(network: Network, shunts: Shunts, tap: bytes, shunt_step: bytes) -> Network:
    return with_state(
        network, np.frombuffer(tap, np.int64).copy(), np.frombuffer(shunt_step, np.int64).copy(), shunts
    )


def networks_at(grid: Grid, states: Snapshot) -> tuple[list[Network], IntArray]:
    """Return the different networks of a block of hours, as `network_at` does, and which one each hour has."""
    steps = np.concatenate([states.tap, states.shunt_step], axis=1)
    own = np.concatenate([grid.network.tap, grid.shunts.step])
    place = {own.astype(steps.dtype).tobytes(): 0}
    of_hour = np.array([place.setdefault(row.tobytes(), len(place)) for row in steps], np.int64)
    if len(place) == 1:
        return [grid.network], of_hour
    _, first = np.unique(of_hour, return_index=True)
    others = first[of_hour[first] > 0]
    networks = with_states(grid.network, states.tap[others], states.shunt_step[others], grid.shunts)
    return [grid.network, *networks], of_hour


def participation(grid: Grid, snapshot: Snapshot) -> FloatArray:
    """Return the weights of a distributed slack, (..., bus): p_mw_max of running units that are not variable."""
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
    kernel: str = KERNELS[0],
) -> HourlySolution:
    """Solve every hour of a block, with its own taps and shunt steps.

    An hour starts from its own voltages where they solve it or hours like it, else from `dc_start`; where one of
    them leads nowhere, from the other. No hour is started from another, so that its result does not depend on
    the block that it is in; what hours share is the pattern of the factors.

    Parameters
    ----------
    distributed_slack : bool
        Whether `participation` shares the active balance, instead of the slack alone.
    kernel : str
        One of `bos_core.grid.hours_lanes.KERNELS`.
    """
    network, base = grid.network, grid.network.base_mva
    elimination, slack = elimination_of(network), network.slack
    block = bus_injections(grid, states)
    weights = participation(grid, states) if distributed_slack else None
    found = start_at(states.vm_pu, states.va_rad)
    if kernel != ONE_BY_ONE:
        shares = None if weights is None else _shares(weights, slack)
        solve_in_lanes(
            kernel, elimination, slack, _networks(grid, states, elimination), block, shares, found, tol,
            max_iterations, enforce_q_limits,
        )  # fmt: skip
    solved = found.solved[:, None]
    vm = np.sqrt(found.vr**2 + found.vi**2)
    p_slack = np.zeros(vm.shape) if weights is None else found.balance[:, None] * _shares(weights, slack)
    p_slack[:, slack] = (found.p - block.p_pu + block.p_current_pu * vm)[:, slack]
    q_control = found.q - block.q_pu + block.q_current_pu * vm
    p_slack, q_control = np.where(solved, p_slack, 0.0), np.where(solved & block.voltage_control, q_control, 0.0)
    losses = (found.p - block.p_impedance_pu * vm**2).sum(axis=1) * base
    vm_pu, va_rad = (
        np.where(solved, vm, states.vm_pu),
        np.where(solved, np.arctan2(found.vi, found.vr), states.va_rad),
    )
    outcome = np.full(vm.shape[0], CONVERGED)
    solver = _Solver(elimination, tol, max_iterations, enforce_q_limits)
    for h in map(int, np.flatnonzero(~found.solved)):
        solver.take(network_at(grid, states.hour(h)), block.hour(h), None if weights is None else weights[h])
        one = solver.solve_from(states.vm_pu[h] * np.exp(1j * states.va_rad[h]))
        outcome[h], found.iterations[h], found.residual[h] = one.outcome, one.iterations, one.residual_pu
        losses[h] = 0.0
        if one.outcome == CONVERGED:
            vm_pu[h], va_rad[h], losses[h] = one.vm_pu, one.va_rad, one.p_pu.sum() * base
            p_slack[h], q_control[h], found.control[h] = one.p_slack_pu, one.q_control_pu, one.q_state
    after = update_snapshot(grid, states, vm_pu, va_rad, p_slack, q_control)
    if (outcome != CONVERGED).any():
        after = stack([(states if outcome[h] != CONVERGED else after).hour(h) for h in range(vm.shape[0])])
    slack_p = p_slack.sum(axis=1) * base
    return HourlySolution(after, outcome, found.iterations, found.residual, slack_p, losses, found.control)


def _shares(weights: FloatArray, slack: int) -> FloatArray:
    """Return weights (hour, bus) as shares of one; an hour without weights is the slack's."""
    total = weights.sum(axis=1, keepdims=True)
    shares = weights / np.where(total > 0.0, total, 1.0)
    shares[total[:, 0] <= 0.0, slack] = 1.0
    return shares


def _networks(grid: Grid, states: Snapshot, elimination: Elimination) -> Networks:
    """Return the different networks of a block of hours as its kernel takes them."""
    networks, of_hour = networks_at(grid, states)
    admittances = [elimination.admittances(network) for network in networks]
    g, b = (np.array(values) for values in zip(*admittances, strict=True))
    return Networks(g, b, *_dc_system(elimination, grid.network), of_hour)


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


def network_losses_mw(grid: Grid, states: Snapshot) -> FloatArray:
    """Return what branches and shunts take in every hour of a block of solved states, (hour,) in MW."""
    losses = np.empty(states.vm_pu.shape[0])
    for h in range(losses.size):
        network = network_at(grid, states.hour(h))
        v = states.vm_pu[h] * np.exp(1j * states.va_rad[h])
        i_from, i_to = network.branch_currents(v)
        power = v[network.from_bus] @ np.conj(i_from) + v[network.to_bus] @ np.conj(i_to)
        losses[h] = (power.real + network.g_shunt_pu @ np.abs(v) ** 2) * network.base_mva
    return losses


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
