"""Newton's power flow in polar form, compiled: one network, one state (Tinney & Hart 1967).

Voltages are kept in rectangular form and turned by the angle and stretched by the relative magnitude step, so
the unknowns of every bus are (angle, ln magnitude) and the Jacobian blocks are [[b, a], [-a, b]] off the
diagonal. A bus that holds its voltage has a unit row for its magnitude; a fixed bus has two.

Buses are numbered by their position in the elimination order (`bos_core.grid.elimination`).
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from bos_core.grid.elimination import (
    Factors,
    Pattern,
    clear_row,
    eliminate_row,
    substitute,
    substitute_back,
    substitute_row,
)
from bos_core.grid.model import BoolArray, FloatArray

Int8Array = NDArray[np.int8]

PQ, PV, FIXED = 0, 1, 2
"""What a bus is given: both powers; active power and magnitude; the voltage itself (slack, dead bus)."""

LIMIT_TOLERANCE_PU = 1e-6
"""A reactive limit or voltage set point is passed when it is passed by more than this."""

MAX_RETURNS = 3
"""How often one bus may take up voltage control again, so that switching always ends."""

MAX_ROUNDS = 60

_NEAR_PU = 1e-3

DIVERGED_PU = 1e8

LOST = 10
"""Newton's method that has not come closer for so many iterations wanders; it is given up."""


class State(NamedTuple):
    """What a power flow is given, and its voltages; (bus,) by position. Voltages and kinds are updated.

    load: injections are p - p_current |v|, the same for q; constant-impedance loads are in the admittances.
    weight: share of each bus in the active balance; all zero but the slack's: the slack bears it alone.
    """

    kind: Int8Array
    p: FloatArray
    q: FloatArray
    p_current: FloatArray
    q_current: FloatArray
    weight: FloatArray
    vr: FloatArray
    vi: FloatArray


class Control(NamedTuple):
    """Voltage control with reactive limits; (bus,) by position.

    q_fixed: reactive injection without the controlling devices. state: 0 in control, +1 at the upper limit,
    -1 at the lower; updated.
    """

    active: BoolArray
    vm_set: FloatArray
    q_fixed: FloatArray
    q_min: FloatArray
    q_max: FloatArray
    state: Int8Array


class Workspace(NamedTuple):
    """Room for one Newton iteration."""

    jacobian: FloatArray
    work: FloatArray
    x: FloatArray
    z: FloatArray
    p: FloatArray
    q: FloatArray


def new_workspace(pattern: Pattern) -> Workspace:
    """Return room for the power flow of one pattern."""
    n = pattern.y_ptr.size - 1
    return Workspace(
        np.empty((pattern.y_column.size, 4)),
        np.empty((n, 4)),
        np.empty((n, 2)),
        np.empty((n, 2)),
        np.empty(n),
        np.empty(n),
    )


@nb.njit(cache=True, nogil=True, error_model="numpy")
def bus_powers(
    pattern: Pattern,
    g: FloatArray,
    b: FloatArray,
    vr: FloatArray,
    vi: FloatArray,
    p: FloatArray,
    q: FloatArray,
) -> None:
    """Write the power that flows from every bus into the network."""
    for i in range(vr.size):
        cr, ci = 0.0, 0.0
        for k in range(pattern.y_ptr[i], pattern.y_ptr[i + 1]):
            j = pattern.y_column[k]
            cr += g[k] * vr[j] - b[k] * vi[j]
            ci += g[k] * vi[j] + b[k] * vr[j]
        p[i] = vr[i] * cr + vi[i] * ci
        q[i] = vi[i] * cr - vr[i] * ci


@nb.njit(cache=True, nogil=True, error_model="numpy")
def jacobian(
    pattern: Pattern, g: FloatArray, b: FloatArray, state: State, p: FloatArray, q: FloatArray, out: FloatArray
) -> None:
    """Write the blocks of d(flow - injection)/d(angle, ln magnitude) on the y pattern; p, q from `bus_powers`."""
    vr, vi = state.vr, state.vi
    for i in range(vr.size):
        held = state.kind[i] != PQ
        fixed = state.kind[i] == FIXED
        for k in range(pattern.y_ptr[i], pattern.y_ptr[i + 1]):
            j = pattern.y_column[k]
            cr, ci = g[k] * vr[j] - b[k] * vi[j], g[k] * vi[j] + b[k] * vr[j]
            alpha, beta = vr[i] * cr + vi[i] * ci, vi[i] * cr - vr[i] * ci
            out[k, 0], out[k, 1], out[k, 2], out[k, 3] = beta, alpha, -alpha, beta
            if j == i:
                vm = np.sqrt(vr[i] * vr[i] + vi[i] * vi[i])
                out[k, 0], out[k, 1] = beta - q[i], alpha + p[i] + state.p_current[i] * vm
                out[k, 2], out[k, 3] = p[i] - alpha, beta + q[i] + state.q_current[i] * vm
            if held:
                out[k, 2], out[k, 3] = 0.0, 1.0 if j == i else 0.0
            if fixed:
                out[k, 0], out[k, 1] = 1.0 if j == i else 0.0, 0.0


@nb.njit(cache=True, nogil=True, error_model="numpy")
def mismatch(state: State, balance: float, p: FloatArray, q: FloatArray, x: FloatArray) -> float:
    """Write injection - flow to x, (bus, 2), zero where nothing is asked; return the largest magnitude."""
    largest = 0.0
    for i in range(p.size):
        x[i, 0], x[i, 1] = 0.0, 0.0
        if state.kind[i] == FIXED:
            continue
        vm = np.sqrt(state.vr[i] * state.vr[i] + state.vi[i] * state.vi[i])
        x[i, 0] = state.p[i] + balance * state.weight[i] - state.p_current[i] * vm - p[i]
        if state.kind[i] == PQ:
            x[i, 1] = state.q[i] - state.q_current[i] * vm - q[i]
        for r in (abs(x[i, 0]), abs(x[i, 1])):
            if r > largest or np.isnan(r):
                largest = r
    return largest


@nb.njit(cache=True, nogil=True, error_model="numpy")
def advance(
    pattern: Pattern,
    g: FloatArray,
    b: FloatArray,
    state: State,
    balance: float,
    factors: Factors,
    room: Workspace,
) -> tuple[float, bool]:
    """Write the mismatch and the factors of its Jacobian, and substitute forward, in one pass over the rows.

    As `bus_powers`, `mismatch`, `jacobian`, `factorize` and the first half of `substitute` one after the other,
    yet no Jacobian is stored: a row is eliminated as soon as it is made. Room gets p, q and x.

    Returns
    -------
    largest : float
        Largest mismatch, p.u.
    regular : bool
        Whether the Jacobian could be factorized.
    """
    work, x = room.work, room.x
    y_ptr, y_column, vr, vi, kinds = pattern.y_ptr, pattern.y_column, state.vr, state.vi, state.kind
    largest = 0.0
    for i in range(vr.size):
        clear_row(pattern, i, work)
        vr_i, vi_i, kind = vr[i], vi[i], kinds[i]
        p, q = 0.0, 0.0
        for k in range(y_ptr[i], y_ptr[i + 1]):
            j = y_column[k]
            cr, ci = g[k] * vr[j] - b[k] * vi[j], g[k] * vi[j] + b[k] * vr[j]
            alpha, beta = vr_i * cr + vi_i * ci, vi_i * cr - vr_i * ci
            p += alpha
            q += beta
            work[j, 0], work[j, 1], work[j, 2], work[j, 3] = beta, alpha, -alpha, beta
        room.p[i], room.q[i] = p, q
        vm = np.sqrt(vr_i * vr_i + vi_i * vi_i)
        p_load, q_load = state.p_current[i] * vm, state.q_current[i] * vm
        work[i, 0] -= q
        work[i, 1] += p + p_load
        work[i, 2] += p
        work[i, 3] += q + q_load
        x[i, 0] = state.p[i] + balance * state.weight[i] - p_load - p
        x[i, 1] = state.q[i] - q_load - q
        if kind != PQ:
            for k in range(y_ptr[i], y_ptr[i + 1]):
                j = y_column[k]
                work[j, 2], work[j, 3] = 0.0, 0.0
                if kind == FIXED:
                    work[j, 0], work[j, 1] = 0.0, 0.0
            work[i, 3], x[i, 1] = 1.0, 0.0
            if kind == FIXED:
                work[i, 0], x[i, 0] = 1.0, 0.0
        for r in (abs(x[i, 0]), abs(x[i, 1])):
            if r > largest or np.isnan(r):
                largest = r
        if not eliminate_row(pattern, i, factors, work):
            return largest, False
        substitute_row(pattern, i, factors, x)
    return largest, True


@nb.njit(cache=True, nogil=True, error_model="numpy")
def turn(state: State, x: FloatArray) -> None:
    """Apply an angle and relative magnitude step to the voltages."""
    for i in range(state.vr.size):
        stretch = 1.0 + min(max(x[i, 1], -0.5), 0.5)
        c, s = np.cos(x[i, 0]) * stretch, np.sin(x[i, 0]) * stretch
        a, b = state.vr[i], state.vi[i]
        state.vr[i], state.vi[i] = a * c - b * s, a * s + b * c


@nb.njit(cache=True, nogil=True, error_model="numpy")
def newton(
    pattern: Pattern,
    g: FloatArray,
    b: FloatArray,
    state: State,
    slack: int,
    factors: Factors,
    room: Workspace,
    tol: float,
    max_iterations: int,
) -> tuple[int, float, float]:
    """Solve; return the iterations, the largest mismatch (p.u.) and the balance shared by the weights (p.u.).

    Not converged when the mismatch is above tol (or NaN).
    """
    distributed = state.weight.sum() > state.weight[slack]
    balance, x, z = 0.0, room.x, room.z
    largest, closest, closest_at, regular = 0.0, np.inf, 0, True
    for iteration in range(max_iterations + 1):
        done = False
        if largest < _NEAR_PU and not distributed:  # it may be solved: cheaper to find out without factors
            bus_powers(pattern, g, b, state.vr, state.vi, room.p, room.q)
            largest = mismatch(state, balance, room.p, room.q, x)
            done = largest <= tol
        if not done:
            largest, regular = advance(pattern, g, b, state, balance, factors, room)
        if not regular:
            bus_powers(pattern, g, b, state.vr, state.vi, room.p, room.q)
            largest = mismatch(state, balance, room.p, room.q, x)
        slack_gap = 0.0
        if distributed:
            vm = np.sqrt(state.vr[slack] ** 2 + state.vi[slack] ** 2)
            slack_gap = state.p[slack] + balance * state.weight[slack] - state.p_current[slack] * vm
            slack_gap -= room.p[slack]
            if not abs(slack_gap) <= largest:
                largest = abs(slack_gap)
        if largest < closest:
            closest, closest_at = largest, iteration
        lost = iteration == max_iterations or iteration - closest_at >= LOST
        if largest <= tol or lost or not (regular and largest < DIVERGED_PU):
            return iteration, largest, balance
        substitute_back(pattern, factors, x)
        if distributed:
            for i in range(x.shape[0]):
                z[i, 0], z[i, 1] = state.weight[i] if state.kind[i] != FIXED else 0.0, 0.0
            substitute(pattern, factors, z)
            step = -(slack_gap - _slack_flow(pattern, g, b, state, slack, x)) / (
                state.weight[slack] - _slack_flow(pattern, g, b, state, slack, z)
            )
            balance += step
            for i in range(x.shape[0]):
                x[i, 0] += step * z[i, 0]
                x[i, 1] += step * z[i, 1]
        turn(state, x)
    return max_iterations, largest, balance


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _slack_flow(pattern: Pattern, g: FloatArray, b: FloatArray, state: State, slack: int, x: FloatArray) -> float:
    """Return the change of the active power out of the slack for a step x of its neighbours."""
    total = 0.0
    for k in range(pattern.y_ptr[slack], pattern.y_ptr[slack + 1]):
        j = pattern.y_column[k]
        if j == slack:
            continue
        cr, ci = g[k] * state.vr[j] - b[k] * state.vi[j], g[k] * state.vi[j] + b[k] * state.vr[j]
        alpha = state.vr[slack] * cr + state.vi[slack] * ci
        beta = state.vi[slack] * cr - state.vr[slack] * ci
        total += beta * x[j, 0] + alpha * x[j, 1]
    return total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def set_kinds(state: State, control: Control) -> None:
    """Give every live bus its kind and reactive injection from the state of its control."""
    for i in range(control.state.size):
        if state.kind[i] == FIXED:
            continue
        state.kind[i] = PV if control.active[i] and control.state[i] == 0 else PQ
        limit = 0.0
        if control.active[i] and control.state[i] != 0:
            limit = control.q_max[i] if control.state[i] > 0 else control.q_min[i]
        state.q[i] = control.q_fixed[i] + limit


@nb.njit(cache=True, nogil=True, error_model="numpy")
def hold(state: State, control: Control) -> None:
    """Put every bus in control to its voltage set point."""
    for i in range(control.state.size):
        if state.kind[i] == PV:
            scale = control.vm_set[i] / np.sqrt(state.vr[i] ** 2 + state.vi[i] ** 2)
            state.vr[i] *= scale
            state.vi[i] *= scale


@nb.njit(cache=True, nogil=True, error_model="numpy")
def next_control(
    q: float, vm: float, vm_set: float, q_min: float, q_max: float, now: int, may_return: bool
) -> int:
    """Return the state of a voltage control after its reactive power q and voltage have been seen."""
    if now == 0:
        if q > q_max + LIMIT_TOLERANCE_PU:
            return 1
        if q < q_min - LIMIT_TOLERANCE_PU:
            return -1
        return 0
    if may_return and (vm - vm_set) * now > LIMIT_TOLERANCE_PU:
        return 0
    return now


@nb.njit(cache=True, nogil=True, error_model="numpy")
def switch(state: State, control: Control, q: FloatArray, returns: Int8Array, share: float) -> int:
    """Switch buses at their limits, and back; return how many. q is the flow out of each bus.

    Only buses at least `share` as far beyond their limit as the farthest are taken from control.
    """
    n = control.state.size
    new = np.zeros(n, np.int8)
    excess = np.zeros(n)
    for i in range(n):
        if not control.active[i] or state.kind[i] == FIXED:
            continue
        vm = np.sqrt(state.vr[i] ** 2 + state.vi[i] ** 2)
        own = q[i] - control.q_fixed[i] + state.q_current[i] * vm
        low, high = control.q_min[i], control.q_max[i]
        new[i] = next_control(own, vm, control.vm_set[i], low, high, control.state[i], returns[i] < MAX_RETURNS)
        if new[i] != control.state[i] and new[i] != 0:
            excess[i] = max(own - high, low - own)
    least = share * excess.max()
    switched = 0
    for i in range(n):
        if new[i] != control.state[i] and (new[i] == 0 or excess[i] >= least):
            returns[i] += 1 if new[i] == 0 else 0
            control.state[i] = new[i]
            switched += 1
    return switched


@nb.njit(cache=True, nogil=True, error_model="numpy")
def newton_with_limits(
    pattern: Pattern,
    g: FloatArray,
    b: FloatArray,
    state: State,
    control: Control,
    slack: int,
    factors: Factors,
    room: Workspace,
    tol: float,
    max_iterations: int,
    enforce: bool,
) -> tuple[int, float, float, bool]:
    """Solve, switching buses between voltage control and reactive limit until all agree.

    All buses beyond a limit are switched together; where that leads to no solution, only the farthest.

    Returns
    -------
    iterations : int
        Of all rounds together.
    residual : float
        Largest mismatch, p.u.
    balance : float
        Active power shared by the weights, p.u. (0 with a single slack).
    solved : bool
        Whether the residual is within tol and every limit is kept.
    """
    n = control.state.size
    returns = np.zeros(n, np.int8)
    good_vr, good_vi, good_q = np.empty(n), np.empty(n), np.empty(n)
    good_state = np.empty(n, np.int8)
    total, residual, balance, share, any_solution = 0, np.inf, 0.0, 0.0, False
    for _ in range(MAX_ROUNDS):
        set_kinds(state, control)
        hold(state, control)
        iterations, residual, balance = newton(pattern, g, b, state, slack, factors, room, tol, max_iterations)
        total += iterations
        if residual <= tol:
            if not enforce:
                return total, residual, balance, True
            any_solution = True
            good_vr[:], good_vi[:], good_q[:], good_state[:] = state.vr, state.vi, room.q, control.state
        elif share == 1.0 or not any_solution:
            return total, residual, balance, False
        else:
            share = 0.5 if share == 0.0 else 1.0
            state.vr[:], state.vi[:], room.q[:], control.state[:] = good_vr, good_vi, good_q, good_state
        if switch(state, control, room.q, returns, share) == 0:
            return total, residual, balance, residual <= tol
    return total, residual, balance, False
