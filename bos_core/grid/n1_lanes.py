"""All outages of one hour side by side: every lane of a vector register carries one outage.

The lanes iterate x = J'^-1 (injection - flow) with the factors of the base case in float32, compensated for
their outage, and with float64 residuals; so the answer is as exact as Newton's, only the steps are cheaper. A
lane whose outage is solved takes the next one. What does not settle here is left to Newton's method.

A lane never sees its neighbours: results depend neither on the order nor on the company of the outages.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from bos_core.grid.elimination import Factors, Int32Array, Pattern
from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.grid.n1_cases import (
    CONVERGED,
    ISLANDED,
    Extremes,
    Listed,
    Monitor,
    watch_branches,
    watch_buses,
    with_room,
)
from bos_core.grid.n1_compensation import (
    BRANCH_ROWS,
    MAX_ROWS,
    MAX_SWITCHED,
    Paths,
    SwitchRows,
    add_column,
    branch_change,
    follow_paths,
    invert,
    switch_rows,
    weigh_rows,
)
from bos_core.grid.newton import (
    FIXED,
    MAX_RETURNS,
    PQ,
    PV,
    Control,
    State,
    bus_powers,
    jacobian,
    next_control,
)

FloatRows = NDArray[np.float32]

LANES = 32
_GIVE_UP_PU = 1e3
_GOING, _DONE, _FAILED = 0, 1, 2
_EMPTY, _IDLE = -1, -2
_SETTLED_PU = 1e-4
"""Controls are looked at from this mismatch on: a limit passed by then is passed at the solution as well, and to
iterate a round that is not the last to its end is wasted. The last round is judged at its end."""
_SLOW = 0.6
_PATIENCE = 8


class Outages(NamedTuple):
    """The outages of a block, by elimination position.

    branch: (contingency,). dead_first, dead_last, dead: the buses that an outage cuts off. alone: cases that
    change more than one branch does (HVDC terminal cut off, slack lost, loop branch), solved by Newton's method.
    expected: (contingency,) iterations that each may need. They order the compiled kernel's work, so that outages
    side by side end together; no result depends on them.
    """

    branch: IntArray
    dead_first: IntArray
    dead_last: IntArray
    dead: IntArray
    alone: BoolArray
    expected: IntArray


class Base(NamedTuple):
    """The solved base case of an hour, its factors and what compensation needs."""

    pattern: Pattern
    g: FloatArray
    b: FloatArray
    state: State
    control: Control
    slack: int
    controlled: Int32Array
    place: Int32Array
    paths: Paths
    rows: SwitchRows
    lower: FloatRows
    upper: FloatRows
    diagonal_inverse: FloatRows


class Leftover(NamedTuple):
    """Outages that have to be solved alone, and how many."""

    case: IntArray
    used: IntArray


class Lanes(NamedTuple):
    """What the lanes hold; the lane is the last axis.

    free: (controlled, lane) 1 where the bus's magnitude is free; limit: reactive power of its devices there.
    change, inverse: (lane, row, row) of compensation. switched*: (lane, place) switches against the base case.
    """

    case: IntArray
    age: IntArray
    best: FloatArray
    stalled: IntArray
    stale: BoolArray
    seen: BoolArray
    f: IntArray
    t: IntArray
    vr: FloatArray
    vi: FloatArray
    y0: FloatRows
    y1: FloatRows
    residual: FloatArray
    total: FloatArray
    balance: FloatArray
    weight_live: FloatArray
    free: FloatArray
    limit: FloatArray
    control_state: NDArray[np.int8]
    returns: NDArray[np.int8]
    change: FloatArray
    inverse: FloatArray
    n_rows: IntArray
    n_switched: IntArray
    switched: NDArray[np.int32]
    switched_row: NDArray[np.int32]
    sign: FloatArray


class Scratch(NamedTuple):
    """Room for one lane at a time."""

    vr: FloatArray
    vi: FloatArray
    p: FloatArray
    q: FloatArray
    y0: FloatArray
    y1: FloatArray
    matrix: FloatArray
    weights: FloatArray
    step: FloatArray
    dead: BoolArray


@nb.njit(cache=True, nogil=True, error_model="numpy")
def prepare_base(
    pattern: Pattern, g: FloatArray, b: FloatArray, state: State, control: Control, slack: int, factors: Factors
) -> Base:
    """Prepare the compensation of an hour; factors are those of the solved base case."""
    n = state.vr.size
    count = 0
    for i in range(n):
        count += 1 if control.active[i] and state.kind[i] != FIXED else 0
    controlled, place = np.empty(count, np.int32), np.full(n, -1, np.int32)
    count = 0
    for i in range(n):
        if control.active[i] and state.kind[i] != FIXED:
            controlled[count], place[i] = i, count
            count += 1
    paths = follow_paths(pattern, factors)
    p, q, blocks = np.empty(n), np.empty(n), np.empty((pattern.y_column.size, 4))
    bus_powers(pattern, g, b, state.vr, state.vi, p, q)
    everywhere_pq = State(
        np.zeros(n, np.int8), state.p, state.q, state.p_current, state.q_current, state.weight, state.vr, state.vi
    )
    jacobian(pattern, g, b, everywhere_pq, p, q, blocks)
    return Base(
        pattern,
        g,
        b,
        state,
        control,
        slack,
        controlled,
        place,
        paths,
        switch_rows(pattern, blocks, paths, controlled),
        factors.lower.astype(np.float32),
        factors.upper.astype(np.float32),
        factors.diagonal_inverse.astype(np.float32),
    )


@nb.njit(cache=True, nogil=True)
def _new_lanes(n: int, controlled: int) -> Lanes:
    w = LANES
    return Lanes(
        case=np.full(w, -1),
        age=np.zeros(w, np.int64),
        best=np.zeros(w),
        stalled=np.zeros(w, np.int64),
        stale=np.zeros(w, np.bool_),
        seen=np.zeros(w, np.bool_),
        f=np.full(w, -1),
        t=np.full(w, -1),
        vr=np.empty((n, w)),
        vi=np.empty((n, w)),
        y0=np.zeros((n, w), np.float32),
        y1=np.zeros((n, w), np.float32),
        residual=np.zeros(w),
        total=np.zeros(w),
        balance=np.zeros(w),
        weight_live=np.ones(w),
        free=np.zeros((controlled, w)),
        limit=np.zeros((controlled, w)),
        control_state=np.zeros((controlled, w), np.int8),
        returns=np.zeros((controlled, w), np.int8),
        change=np.zeros((w, BRANCH_ROWS, BRANCH_ROWS)),
        inverse=np.zeros((w, MAX_ROWS, MAX_ROWS)),
        n_rows=np.zeros(w, np.int64),
        n_switched=np.zeros(w, np.int64),
        switched=np.zeros((w, MAX_SWITCHED), np.int32),
        switched_row=np.zeros((w, MAX_SWITCHED), np.int32),
        sign=np.zeros((w, MAX_SWITCHED)),
    )


@nb.njit(cache=True, nogil=True)
def _new_scratch(n: int) -> Scratch:
    return Scratch(
        np.empty(n),
        np.empty(n),
        np.empty(n),
        np.empty(n),
        np.zeros(n),
        np.zeros(n),
        np.empty((MAX_ROWS, MAX_ROWS)),
        np.empty(MAX_ROWS),
        np.empty(MAX_ROWS),
        np.zeros(n, np.bool_),
    )


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _fill_lane(base: Base, lanes: Lanes, lane: int, case: int, f: int, t: int) -> None:
    """Start a lane at the base case; case -1 leaves it idle there."""
    state, control = base.state, base.control
    lanes.case[lane], lanes.age[lane], lanes.f[lane], lanes.t[lane] = case, 0, f, t
    lanes.best[lane], lanes.stalled[lane], lanes.balance[lane] = np.inf, 0, 0.0
    lanes.n_rows[lane], lanes.n_switched[lane] = 0, 0
    lanes.total[lane], lanes.weight_live[lane], lanes.stale[lane] = 0.0, 1.0, case >= 0
    lanes.seen[lane] = False
    for i in range(state.vr.size):
        lanes.vr[i, lane], lanes.vi[i, lane] = state.vr[i], state.vi[i]
    for c in range(base.controlled.size):
        i = base.controlled[c]
        lanes.returns[c, lane] = 0
        now = control.state[i]
        lanes.control_state[c, lane] = now
        lanes.free[c, lane] = 0.0 if now == 0 else 1.0
        lanes.limit[c, lane] = 0.0 if now == 0 else control.q_max[i] if now > 0 else control.q_min[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _compensate_for(base: Base, lanes: Lanes, lane: int, y: FloatArray, dead: BoolArray, room: Scratch) -> bool:
    """Prepare the compensation of a lane for its outage and its switches; False when it cannot be done."""
    f, t = lanes.f[lane], lanes.t[lane]
    held_f = base.state.kind[f] != PQ if base.place[f] < 0 else lanes.control_state[base.place[f], lane] == 0
    held_t = base.state.kind[t] != PQ if base.place[t] < 0 else lanes.control_state[base.place[t], lane] == 0
    branch_change(base.state, f, t, y, held_f, held_t, dead[f], dead[t], lanes.change[lane])
    n_rows, n_switched = BRANCH_ROWS, 0
    for c in range(base.controlled.size):
        i = base.controlled[c]
        held_now, held_in_base = lanes.control_state[c, lane] == 0, base.state.kind[i] == PV
        if held_now == held_in_base or dead[i]:
            continue
        if n_switched == MAX_SWITCHED:
            return False
        lanes.switched[lane, n_switched] = c
        lanes.sign[lane, n_switched] = -1.0 if held_now else 1.0
        row = n_rows
        if i == f:
            row = 1
        elif i == t:
            row = 3
        else:
            n_rows += 1
        lanes.switched_row[lane, n_switched] = row
        n_switched += 1
    lanes.n_rows[lane], lanes.n_switched[lane] = n_rows, n_switched
    for m in range(n_rows):
        bus, magnitude = (f if m < 2 else t), m % 2 == 1
        for s in range(n_switched):
            if lanes.switched_row[lane, s] == m and m >= BRANCH_ROWS:
                bus, magnitude = base.controlled[lanes.switched[lane, s]], True
        add_column(
            base.pattern, base.paths, bus, 0.0 if magnitude else 1.0, 1.0 if magnitude else 0.0, room.y0, room.y1
        )
        weigh_rows(
            base.pattern, base.paths, base.rows, f, t, lanes.change[lane], lanes.switched[lane],
            lanes.switched_row[lane], lanes.sign[lane], n_switched, room.y0, room.y1, room.weights,
        )  # fmt: skip
        for r in range(n_rows):
            room.matrix[r, m] = room.weights[r] + (1.0 if r == m else 0.0)
        for q in range(base.pattern.path_ptr[bus], base.pattern.path_ptr[bus + 1]):
            room.y0[base.pattern.path[q]] = 0.0
            room.y1[base.pattern.path[q]] = 0.0
    return bool(invert(room.matrix, n_rows, lanes.inverse[lane]))


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _compensate(base: Base, lanes: Lanes, lane: int, room: Scratch) -> None:
    """Apply the compensation of a lane between the substitutions."""
    f, t, n_rows = lanes.f[lane], lanes.t[lane], lanes.n_rows[lane]
    y0, y1 = lanes.y0[:, lane], lanes.y1[:, lane]
    weigh_rows(
        base.pattern, base.paths, base.rows, f, t, lanes.change[lane], lanes.switched[lane],
        lanes.switched_row[lane], lanes.sign[lane], lanes.n_switched[lane], y0, y1, room.weights,
    )  # fmt: skip
    for r in range(n_rows):
        total = 0.0
        for m in range(n_rows):
            total -= lanes.inverse[lane, r, m] * room.weights[m]
        room.step[r] = total
    add_column(base.pattern, base.paths, f, room.step[0], room.step[1], y0, y1)
    add_column(base.pattern, base.paths, t, room.step[2], room.step[3], y0, y1)
    for s in range(lanes.n_switched[lane]):
        row = lanes.switched_row[lane, s]
        if row >= BRANCH_ROWS:
            bus = base.controlled[lanes.switched[lane, s]]
            add_column(base.pattern, base.paths, bus, 0.0, room.step[row], y0, y1)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _mismatch(  # noqa: PLR0912 - one pass over the buses, or every call would hand over all arrays
    base: Base, lanes: Lanes, touched: IntArray, admittance: FloatArray, branch: IntArray, distributed: bool
) -> None:
    """Write injection - flow of all lanes to y, and the largest magnitude of each lane to residual."""
    state, pattern = base.state, base.pattern
    cr, ci, p, q = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    residual, total = lanes.residual, lanes.total
    for lane in range(LANES):
        residual[lane], total[lane] = 0.0, 0.0
    for i in range(state.vr.size):
        kind, c = state.kind[i], base.place[i]
        y0, y1 = lanes.y0[i], lanes.y1[i]
        if kind == FIXED and not distributed:
            for lane in range(LANES):
                y0[lane], y1[lane] = 0.0, 0.0
            continue
        for lane in range(LANES):
            cr[lane], ci[lane] = 0.0, 0.0
        for k in range(pattern.y_ptr[i], pattern.y_ptr[i + 1]):
            j, g, b = pattern.y_column[k], base.g[k], base.b[k]
            vr, vi = lanes.vr[j], lanes.vi[j]
            for lane in range(LANES):
                cr[lane] += g * vr[lane] - b * vi[lane]
                ci[lane] += g * vi[lane] + b * vr[lane]
        vr, vi = lanes.vr[i], lanes.vi[i]
        ps, qs = state.p[i], base.control.q_fixed[i] if c >= 0 else state.q[i]
        for lane in range(LANES):
            p[lane] = ps - (vr[lane] * cr[lane] + vi[lane] * ci[lane])
            q[lane] = qs - (vi[lane] * cr[lane] - vr[lane] * ci[lane])
        if state.p_current[i] != 0.0 or state.q_current[i] != 0.0:
            for lane in range(LANES):
                vm = np.sqrt(vr[lane] * vr[lane] + vi[lane] * vi[lane])
                p[lane] -= state.p_current[i] * vm
                q[lane] -= state.q_current[i] * vm
        if touched[i] > 0:
            _give_back(lanes, i, admittance, branch, p, q)
        if distributed:
            for lane in range(LANES):
                p[lane] += state.weight[i] * lanes.balance[lane]
                total[lane] += p[lane]
        if kind == FIXED:
            for lane in range(LANES):
                residual[lane] = max(residual[lane], abs(p[lane]))
                y0[lane], y1[lane] = 0.0, 0.0
            continue
        if c >= 0:
            free, limit = lanes.free[c], lanes.limit[c]
            for lane in range(LANES):
                q[lane] = (q[lane] + limit[lane]) * free[lane]
        for lane in range(LANES):
            residual[lane] = max(residual[lane], abs(p[lane]), abs(q[lane]))
        for lane in range(LANES):
            y0[lane] = p[lane]
            y1[lane] = q[lane]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _give_back(
    lanes: Lanes, bus: int, admittance: FloatArray, branch: IntArray, p: FloatArray, q: FloatArray
) -> None:
    """Add the flow of the branch taken out to the mismatch of the lanes whose outage touches a bus."""
    for lane in range(LANES):
        f, t = lanes.f[lane], lanes.t[lane]
        if bus not in (f, t):
            continue
        y = admittance[branch[lanes.case[lane]]]
        for_from = bus == f
        own_r, own_i = (y[0], y[1]) if for_from else (y[6], y[7])
        far_r, far_i = (y[2], y[3]) if for_from else (y[4], y[5])
        far = t if for_from else f
        a, b = lanes.vr[bus, lane], lanes.vi[bus, lane]
        c, d = lanes.vr[far, lane], lanes.vi[far, lane]
        cr = own_r * a - own_i * b + far_r * c - far_i * d
        ci = own_r * b + own_i * a + far_r * d + far_i * c
        p[lane] += a * cr + b * ci
        q[lane] += b * cr - a * ci


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _forget_dead(lanes: Lanes, lane: int, dead: IntArray, distributed: bool) -> None:
    """Take the dead buses out of a lane's mismatch."""
    for i in dead:
        lanes.total[lane] -= lanes.y0[i, lane]
        lanes.y0[i, lane], lanes.y1[i, lane] = 0.0, 0.0
    largest = 0.0
    for i in range(lanes.y0.shape[0]):
        largest = max(largest, abs(lanes.y0[i, lane]), abs(lanes.y1[i, lane]))
    lanes.residual[lane] = max(largest, abs(lanes.total[lane])) if distributed else largest


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _share_balance(base: Base, lanes: Lanes) -> None:
    """Move the imbalance of every lane to the participating buses (quasi-Newton: losses counted as fixed)."""
    state = base.state
    for lane in range(LANES):
        lanes.total[lane] = -lanes.total[lane] / lanes.weight_live[lane]
        lanes.balance[lane] += lanes.total[lane]
    for i in range(state.vr.size):
        if state.weight[i] > 0.0 and state.kind[i] != FIXED:
            for lane in range(LANES):
                lanes.y0[i, lane] += state.weight[i] * lanes.total[lane]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _forward(base: Base, lanes: Lanes) -> None:
    pattern = base.pattern
    for i in range(base.place.size):
        s, t = lanes.y0[i], lanes.y1[i]
        for p in range(pattern.l_ptr[i], pattern.l_ptr[i + 1]):
            k = pattern.l_column[p]
            a, b, c, d = base.lower[p, 0], base.lower[p, 1], base.lower[p, 2], base.lower[p, 3]
            y0, y1 = lanes.y0[k], lanes.y1[k]
            for lane in range(LANES):
                s[lane] -= a * y0[lane] + b * y1[lane]
                t[lane] -= c * y0[lane] + d * y1[lane]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _backward(base: Base, lanes: Lanes) -> None:
    """Substitute backwards and turn the voltages: by a Cayley rotation, which keeps held magnitudes exactly."""
    pattern, kind = base.pattern, base.state.kind
    half, most = np.float32(0.5), np.float32(0.3)
    for i in range(base.place.size - 1, -1, -1):
        s, t = lanes.y0[i], lanes.y1[i]
        for p in range(pattern.u_ptr[i], pattern.u_ptr[i + 1]):
            k = pattern.u_column[p]
            a, b, c, d = base.upper[p, 0], base.upper[p, 1], base.upper[p, 2], base.upper[p, 3]
            y0, y1 = lanes.y0[k], lanes.y1[k]
            for lane in range(LANES):
                s[lane] -= a * y0[lane] + b * y1[lane]
                t[lane] -= c * y0[lane] + d * y1[lane]
        inverse = base.diagonal_inverse[i]
        a, b, c, d = inverse[0], inverse[1], inverse[2], inverse[3]
        for lane in range(LANES):
            x, y = s[lane], t[lane]
            s[lane] = a * x + b * y
            t[lane] = c * x + d * y
        if kind[i] == FIXED:
            continue
        vr, vi = lanes.vr[i], lanes.vi[i]
        place = base.place[i]
        if place >= 0:
            free = lanes.free[place]
            for lane in range(LANES):
                t[lane] = t[lane] * np.float32(free[lane])
        for lane in range(LANES):
            stretch = 1.0 + np.float64(min(max(t[lane], -most), most))
            h = np.float64(s[lane] * half)
            scale = stretch / (1.0 + h * h)
            cosine, sine = (1.0 - h * h) * scale, (h + h) * scale
            a64, b64 = vr[lane], vi[lane]
            vr[lane] = a64 * cosine - b64 * sine
            vi[lane] = a64 * sine + b64 * cosine


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _inspect(base: Base, lanes: Lanes, lane: int, y: FloatArray, distributed: bool, room: Scratch) -> float:
    """Copy a lane's voltages and flows to the scratch room; return its largest mismatch, computed anew."""
    state, f, t = base.state, lanes.f[lane], lanes.t[lane]
    for i in range(state.vr.size):
        room.vr[i], room.vi[i] = lanes.vr[i, lane], lanes.vi[i, lane]
    bus_powers(base.pattern, base.g, base.b, room.vr, room.vi, room.p, room.q)
    a, b, c, d = room.vr[f], room.vi[f], room.vr[t], room.vi[t]
    cr, ci = y[0] * a - y[1] * b + y[2] * c - y[3] * d, y[0] * b + y[1] * a + y[2] * d + y[3] * c
    room.p[f] -= a * cr + b * ci
    room.q[f] -= b * cr - a * ci
    cr, ci = y[4] * a - y[5] * b + y[6] * c - y[7] * d, y[4] * b + y[5] * a + y[6] * d + y[7] * c
    room.p[t] -= c * cr + d * ci
    room.q[t] -= d * cr - c * ci
    largest = 0.0
    for i in range(state.vr.size):
        if room.dead[i] or (state.kind[i] == FIXED and not distributed):
            continue
        vm = np.sqrt(room.vr[i] ** 2 + room.vi[i] ** 2)
        gap = state.p[i] + lanes.balance[lane] * state.weight[i] - state.p_current[i] * vm - room.p[i]
        if not abs(gap) <= largest:
            largest = abs(gap)
        place = base.place[i]
        if state.kind[i] == FIXED:
            continue
        if place < 0:
            gap = state.q[i] - state.q_current[i] * vm - room.q[i]
        elif lanes.control_state[place, lane] == 0:
            gap = vm - base.control.vm_set[i]
        else:
            gap = base.control.q_fixed[i] + lanes.limit[place, lane] - state.q_current[i] * vm - room.q[i]
        if not abs(gap) <= largest:
            largest = abs(gap)
    return largest


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _switch_lane(base: Base, lanes: Lanes, lane: int, room: Scratch) -> int:
    """Switch the controls of a lane whose flows are in the scratch room, which starts a round; return how many."""
    switched, control = 0, base.control
    for c in range(base.controlled.size):
        i = base.controlled[c]
        if room.dead[i]:
            continue
        vm = np.sqrt(room.vr[i] ** 2 + room.vi[i] ** 2)
        own = room.q[i] - control.q_fixed[i] + base.state.q_current[i] * vm
        now = lanes.control_state[c, lane]
        may_return = lanes.returns[c, lane] < MAX_RETURNS
        new = next_control(own, vm, control.vm_set[i], control.q_min[i], control.q_max[i], now, may_return)
        if new == now:
            continue
        switched += 1
        lanes.control_state[c, lane] = new
        lanes.free[c, lane] = 0.0 if new == 0 else 1.0
        lanes.limit[c, lane] = 0.0 if new == 0 else control.q_max[i] if new > 0 else control.q_min[i]
        if new == 0:
            lanes.returns[c, lane] += 1
            lanes.vr[i, lane] *= control.vm_set[i] / vm
            lanes.vi[i, lane] *= control.vm_set[i] / vm
    if switched > 0:
        lanes.best[lane], lanes.stalled[lane], lanes.stale[lane], lanes.seen[lane] = np.inf, 0, True, False
    return switched


@nb.njit(cache=True, nogil=True)
def _count_switched(base: Base, lanes: Lanes, lane: int, dead: BoolArray) -> int:
    """Return how many live controls of a lane are in another state than in the base case."""
    count = 0
    for c in range(base.controlled.size):
        i = base.controlled[c]
        if not dead[i] and lanes.control_state[c, lane] != base.control.state[i]:
            count += 1
    return count


@nb.njit(cache=True, nogil=True)
def _mark(mask: BoolArray, buses: IntArray, value: bool) -> None:
    for i in buses:
        mask[i] = value


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _refill(
    base: Base, outages: Outages, monitor: Monitor, lanes: Lanes, upcoming: int, touched: IntArray, left: Leftover
) -> int:
    """Give every empty lane the next outage, or let it idle at the base case; return the next outage."""
    n_cases = outages.branch.size
    for lane in range(LANES):
        if lanes.case[lane] >= 0:
            continue
        while upcoming < n_cases and outages.alone[upcoming]:
            left.case[left.used[0]] = upcoming
            left.used[0] += 1
            upcoming += 1
        case = upcoming if upcoming < n_cases else -1
        if case < 0 and lanes.case[lane] == _IDLE:
            continue
        f = np.int64(monitor.from_position[outages.branch[case]]) if case >= 0 else -1
        t = np.int64(monitor.to_position[outages.branch[case]]) if case >= 0 else -1
        _fill_lane(base, lanes, lane, case if case >= 0 else _IDLE, f, t)
        if case >= 0:
            upcoming += 1
            touched[f] += 1
            touched[t] += 1
    return upcoming


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _renew_compensation(
    base: Base, outages: Outages, monitor: Monitor, lanes: Lanes, touched: IntArray, room: Scratch, left: Leftover
) -> int:
    """Renew the compensation of lanes that are new or have switched a control; return how many are busy."""
    busy = 0
    for lane in range(LANES):
        case = lanes.case[lane]
        if case < 0:
            continue
        busy += 1
        if not lanes.stale[lane]:
            continue
        lanes.stale[lane] = False
        dead = outages.dead[outages.dead_first[case] : outages.dead_last[case]]
        lanes.weight_live[lane] = 0.0
        _mark(room.dead, dead, True)
        for i in range(base.place.size):
            lanes.weight_live[lane] += 0.0 if room.dead[i] else base.state.weight[i]
        if not _compensate_for(base, lanes, lane, monitor.admittance[outages.branch[case]], room.dead, room):
            _release(lanes, lane, touched)
            left.case[left.used[0]] = case
            left.used[0] += 1
        _mark(room.dead, dead, False)
    return busy


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _judge(
    base: Base,
    lanes: Lanes,
    lane: int,
    y: FloatArray,
    limits: tuple[float, int],
    enforce: bool,
    distributed: bool,
    room: Scratch,
) -> int:
    """Return _GOING, _DONE or _FAILED for a lane after its mismatch; one that is done is in the scratch room."""
    tol, max_iterations = limits
    residual = lanes.residual[lane]
    if enforce and tol < residual <= _SETTLED_PU and not lanes.seen[lane]:
        _inspect(base, lanes, lane, y, distributed, room)
        lanes.seen[lane] = True
        if _switch_lane(base, lanes, lane, room) > 0:
            return _GOING
    if residual > tol:
        if residual < _SLOW * lanes.best[lane]:
            lanes.best[lane], lanes.stalled[lane] = residual, 0
        else:
            lanes.stalled[lane] += 1
        stuck = lanes.stalled[lane] > _PATIENCE or lanes.age[lane] >= max_iterations
        return _FAILED if stuck or residual > _GIVE_UP_PU else _GOING
    exact = _inspect(base, lanes, lane, y, distributed, room)
    lanes.residual[lane] = exact
    if not exact <= tol:
        return _GOING if lanes.age[lane] < max_iterations else _FAILED
    return _DONE if not enforce or _switch_lane(base, lanes, lane, room) == 0 else _GOING


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _release(lanes: Lanes, lane: int, touched: IntArray) -> None:
    """Take a lane's outage out of it."""
    touched[lanes.f[lane]] -= 1
    touched[lanes.t[lane]] -= 1
    lanes.case[lane], lanes.f[lane], lanes.t[lane] = _EMPTY, -1, -1
    for i in range(lanes.y0.shape[0]):
        lanes.y0[i, lane], lanes.y1[i, lane] = 0.0, 0.0


@nb.njit(cache=True, nogil=True, error_model="numpy")
def solve_in_lanes(
    base: Base,
    outages: Outages,
    monitor: Monitor,
    limits: tuple[float, int],
    enforce: bool,
    distributed: bool,
    extremes: Extremes,
    overloads: Listed,
    voltages: Listed,
) -> tuple[Listed, int, Listed, int, IntArray]:
    """Solve the outages of an hour.

    Parameters
    ----------
    limits : (tol, max_iterations)
        Largest mismatch, p.u.; iterations after which a lane gives up.
    enforce, distributed : bool
        Whether reactive limits are enforced; whether the weights share the active balance.

    Returns
    -------
    overloads, n_overloads, voltages, n_voltages
        The violation lists with their lengths.
    left : (case,) int
        Outages that have to be solved alone.
    """
    n, n_branch = base.place.size, monitor.from_position.size
    lanes, room = _new_lanes(n, base.controlled.size), _new_scratch(n)
    left = Leftover(np.empty(outages.branch.size, np.int64), np.zeros(1, np.int64))
    touched = np.zeros(n, np.int64)
    n_overloads, n_voltages, upcoming = 0, 0, 0
    while True:
        upcoming = _refill(base, outages, monitor, lanes, upcoming, touched, left)
        busy = _renew_compensation(base, outages, monitor, lanes, touched, room, left)
        if busy == 0:
            break
        _mismatch(base, lanes, touched, monitor.admittance, outages.branch, distributed)
        for lane in range(LANES):
            case = lanes.case[lane]
            if case < 0:
                continue
            k, dead = outages.branch[case], outages.dead[outages.dead_first[case] : outages.dead_last[case]]
            if dead.size > 0:
                _forget_dead(lanes, lane, dead, distributed)
            _mark(room.dead, dead, True)
            verdict = _judge(base, lanes, lane, monitor.admittance[k], limits, enforce, distributed, room)
            if verdict == _DONE:
                extremes.outcome[case] = ISLANDED if dead.size > 0 else CONVERGED
                extremes.iterations[case], extremes.residual_pu[case] = lanes.age[lane], lanes.residual[lane]
                extremes.q_switches[case] = _count_switched(base, lanes, lane, room.dead)
                overloads = with_room(overloads, n_overloads, n_branch)
                voltages = with_room(voltages, n_voltages, n)
                n_overloads = watch_branches(
                    monitor, case, k, room.vr, room.vi, room.dead, extremes, overloads, n_overloads
                )
                n_voltages = watch_buses(
                    monitor, case, room.vr, room.vi, room.dead, extremes, voltages, n_voltages
                )
            elif verdict == _FAILED:
                left.case[left.used[0]] = case
                left.used[0] += 1
            _mark(room.dead, dead, False)
            lanes.age[lane] += 1
            if verdict != _GOING:
                _release(lanes, lane, touched)
        if distributed:
            _share_balance(base, lanes)
        _forward(base, lanes)
        for lane in range(LANES):
            if lanes.case[lane] >= 0:
                _compensate(base, lanes, lane, room)
        _backward(base, lanes)
    return overloads, n_overloads, voltages, n_voltages, left.case[: left.used[0]]
