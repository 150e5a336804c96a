"""One factorization for all outages of an hour: low-rank compensation between the two substitutions.

An outage changes at most four rows of the Jacobian, a switch between voltage control and reactive limit one
more. With J = L U of the base case and J' = J + sum_m e_m r_m', the step of the changed system is

    y = L^-1 rhs,   y' = y - A (I + B A)^-1 B y,   x = U^-1 y',      A = L^-1 [e_m],  B = [r_m'] U^-1,

mid-compensation (Alsac, Stott & Tinney 1983). Columns of A and rows of B live on paths of the elimination tree,
which are short.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from bos_core.grid.elimination import Factors, Int32Array, Pattern
from bos_core.grid.model import FloatArray
from bos_core.grid.newton import FIXED, State

BRANCH_ROWS = 4
MAX_SWITCHED = 48
MAX_ROWS = BRANCH_ROWS + MAX_SWITCHED


class Paths(NamedTuple):
    """Per hour, entries along the tree path of each bus (pattern.path_ptr), 2x2 blocks in row-major order.

    column: L^-1 of the bus's two unit vectors (rows: the path's bus). row: the bus's two unit rows times U^-1
    (columns: the path's bus).
    """

    column: FloatArray
    row: FloatArray


class SwitchRows(NamedTuple):
    """Per controlled bus: (its Q row - unit row of its magnitude) times U^-1, on a few buses."""

    ptr: Int32Array
    bus: Int32Array
    value: FloatArray


@nb.njit(cache=True, nogil=True, error_model="numpy")
def follow_paths(pattern: Pattern, factors: Factors) -> Paths:
    """Compute the path entries of all buses, from the root down."""
    n = pattern.y_ptr.size - 1
    column, row = np.zeros((pattern.path.size, 4)), np.zeros((pattern.path.size, 4))
    for i in range(n - 1, -1, -1):
        begin, end = pattern.path_ptr[i], pattern.path_ptr[i + 1]
        for p in range(pattern.u_ptr[i], pattern.u_ptr[i + 1]):
            j = pattern.u_column[p]
            l0, l1, l2, l3 = factors.lower[pattern.l_of_u[p]]
            u0, u1, u2, u3 = factors.upper[p]
            theirs = pattern.path_ptr[j]
            shift = end - pattern.path_ptr[j + 1]
            for q in range(theirs, pattern.path_ptr[j + 1]):
                w, v = column[q], row[q]
                column[q + shift, 0] -= w[0] * l0 + w[1] * l2
                column[q + shift, 1] -= w[0] * l1 + w[1] * l3
                column[q + shift, 2] -= w[2] * l0 + w[3] * l2
                column[q + shift, 3] -= w[2] * l1 + w[3] * l3
                row[q + shift, 0] -= u0 * v[0] + u1 * v[2]
                row[q + shift, 1] -= u0 * v[1] + u1 * v[3]
                row[q + shift, 2] -= u2 * v[0] + u3 * v[2]
                row[q + shift, 3] -= u2 * v[1] + u3 * v[3]
        column[begin, 0], column[begin, 3] = 1.0, 1.0
        row[begin, 0], row[begin, 3] = 1.0, 1.0
        d0, d1, d2, d3 = factors.diagonal_inverse[i]
        for q in range(begin, end):
            a, b, c, d = row[q]
            row[q, 0], row[q, 1], row[q, 2], row[q, 3] = (
                d0 * a + d1 * c,
                d0 * b + d1 * d,
                d2 * a + d3 * c,
                d2 * b + d3 * d,
            )
    return Paths(column, row)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def switch_rows(pattern: Pattern, jacobian_all_pq: FloatArray, paths: Paths, controlled: Int32Array) -> SwitchRows:
    """Compute the switch rows of the controlled buses from the Jacobian with every bus as PQ."""
    n = pattern.y_ptr.size - 1
    ptr = np.zeros(controlled.size + 1, np.int32)
    size = 0
    for i in controlled:
        for k in range(pattern.y_ptr[i], pattern.y_ptr[i + 1]):
            j = pattern.y_column[k]
            size += pattern.path_ptr[j + 1] - pattern.path_ptr[j]
    bus, value = np.empty(size, np.int32), np.empty((size, 2))
    dense, seen = np.zeros((n, 2)), np.zeros(n, np.bool_)
    used = 0
    for c in range(controlled.size):
        i = controlled[c]
        begin = used
        for k in range(pattern.y_ptr[i], pattern.y_ptr[i + 1]):
            j = pattern.y_column[k]
            a, b = jacobian_all_pq[k, 2], jacobian_all_pq[k, 3] - (1.0 if j == i else 0.0)
            for q in range(pattern.path_ptr[j], pattern.path_ptr[j + 1]):
                m = pattern.path[q]
                if not seen[m]:
                    seen[m] = True
                    bus[used] = m
                    used += 1
                dense[m, 0] += a * paths.row[q, 0] + b * paths.row[q, 2]
                dense[m, 1] += a * paths.row[q, 1] + b * paths.row[q, 3]
        for q in range(begin, used):
            m = bus[q]
            value[q, 0], value[q, 1] = dense[m, 0], dense[m, 1]
            dense[m, 0], dense[m, 1], seen[m] = 0.0, 0.0, False
        ptr[c + 1] = used
    return SwitchRows(ptr, bus[:used], value[:used])


@nb.njit(cache=True, nogil=True, error_model="numpy")
def branch_change(
    state: State,
    f: int,
    t: int,
    y: FloatArray,
    held_from: bool,
    held_to: bool,
    dead_from: bool,
    dead_to: bool,
    out: FloatArray,
) -> None:
    """Write the change of the Jacobian by an outage, (4, 4) over angle and magnitude of from and to bus.

    Rows of a dead end stay as they are, so that the dead part keeps hanging on the live one and the matrix stays
    regular; nothing live depends on it. Rows of held magnitudes do not change.
    """
    out[:] = 0.0
    for side in range(2):
        i, j = (f, t) if side == 0 else (t, f)
        held, dead = (held_from, dead_from) if side == 0 else (held_to, dead_to)
        if dead or state.kind[i] == FIXED:
            continue
        own_r, own_i = (y[0], y[1]) if side == 0 else (y[6], y[7])
        far_r, far_i = (y[2], y[3]) if side == 0 else (y[4], y[5])
        a, b = state.vr[i], state.vi[i]
        square = a * a + b * b
        alpha_own, beta_own = square * own_r, -square * own_i
        cr, ci = far_r * state.vr[j] - far_i * state.vi[j], far_r * state.vi[j] + far_i * state.vr[j]
        alpha, beta = a * cr + b * ci, b * cr - a * ci
        p, q = alpha_own + alpha, beta_own + beta
        r, mine, theirs = 2 * side, 2 * side, 2 - 2 * side
        out[r, theirs], out[r, theirs + 1] = -beta, -alpha
        out[r, mine], out[r, mine + 1] = q - beta_own, -p - alpha_own
        if not held:
            out[r + 1, theirs], out[r + 1, theirs + 1] = alpha, -beta
            out[r + 1, mine], out[r + 1, mine + 1] = alpha_own - p, -q - beta_own


@nb.njit(cache=True, nogil=True, error_model="numpy")
def weigh_rows(
    pattern: Pattern,
    paths: Paths,
    rows: SwitchRows,
    f: int,
    t: int,
    change: FloatArray,
    switched: Int32Array,
    switched_row: Int32Array,
    sign: FloatArray,
    n_switched: int,
    y0: FloatArray,
    y1: FloatArray,
    out: FloatArray,
) -> None:
    """Write B y for a y given by its angle and magnitude parts, (bus,)."""
    out[:] = 0.0
    for side in range(2):
        i = f if side == 0 else t
        d0, d1 = 0.0, 0.0
        for q in range(pattern.path_ptr[i], pattern.path_ptr[i + 1]):
            m = pattern.path[q]
            d0 += paths.row[q, 0] * y0[m] + paths.row[q, 1] * y1[m]
            d1 += paths.row[q, 2] * y0[m] + paths.row[q, 3] * y1[m]
        for r in range(BRANCH_ROWS):
            out[r] += change[r, 2 * side] * d0 + change[r, 2 * side + 1] * d1
    for s in range(n_switched):
        total = 0.0
        for q in range(rows.ptr[switched[s]], rows.ptr[switched[s] + 1]):
            m = rows.bus[q]
            total += rows.value[q, 0] * y0[m] + rows.value[q, 1] * y1[m]
        out[switched_row[s]] += sign[s] * total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def add_column(
    pattern: Pattern, paths: Paths, bus: int, angle: float, magnitude: float, y0: FloatArray, y1: FloatArray
) -> None:
    """Add L^-1 (angle e_angle + magnitude e_magnitude) of a bus to y."""
    for q in range(pattern.path_ptr[bus], pattern.path_ptr[bus + 1]):
        m = pattern.path[q]
        y0[m] += paths.column[q, 0] * angle + paths.column[q, 1] * magnitude
        y1[m] += paths.column[q, 2] * angle + paths.column[q, 3] * magnitude


@nb.njit(cache=True, nogil=True, error_model="numpy")
def invert(matrix: FloatArray, size: int, out: FloatArray) -> bool:
    """Invert the leading block of a small matrix, which is destroyed; False when it is singular."""
    for i in range(size):
        for j in range(size):
            out[i, j] = 1.0 if i == j else 0.0
    for k in range(size):
        pivot = k
        for i in range(k + 1, size):
            if abs(matrix[i, k]) > abs(matrix[pivot, k]):
                pivot = i
        if not abs(matrix[pivot, k]) > 1e-10:
            return False
        for j in range(size):
            matrix[k, j], matrix[pivot, j] = matrix[pivot, j], matrix[k, j]
            out[k, j], out[pivot, j] = out[pivot, j], out[k, j]
        scale = 1.0 / matrix[k, k]
        for j in range(size):
            matrix[k, j] *= scale
            out[k, j] *= scale
        for i in range(size):
            factor = matrix[i, k]
            if i == k or factor == 0.0:
                continue
            for j in range(size):
                matrix[i, j] -= factor * matrix[k, j]
                out[i, j] -= factor * out[k, j]
    return True
