"""Symmetric indefinite block factorization for optimal flow.

The matrix has one dense symmetric 4 x 4 block a bus and one a pair of neighbours: the unknowns of a bus are
(angle, magnitude, active price, reactive price). Eliminating whole buses keeps the pivots away from the zero
diagonal of the multipliers, so that no regularization is needed; inside a block, 1 x 1 and 2 x 2 pivots are
chosen by size (Bunch & Parlett 1971). The order of the buses is of minimum degree and found once a network.

A matrix is one array (block, 16), row-major inside a block: first the diagonal blocks by bus, then, for every
eliminated bus, the blocks of its row to the right of the diagonal. The factorization U' D U with D = inv(pivots)
leaves U in their places.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from bos_core.grid.elimination import minimum_degree
from bos_core.grid.model import BoolArray, FloatArray, IntArray

BLOCK = 4
AREA = BLOCK * BLOCK
_PIVOT_SHARE = (1 + np.sqrt(17)) / 8
_LEAST_SHARE, _MOST_GROWTH = 1e-2, 1e2
"""A pair is a poor pivot where its determinant cancels to less than this share, or its multipliers exceed this."""


class BlockPattern(NamedTuple):
    """Elimination order and fill of a bus graph.

    Attributes
    ----------
    order : (bus,)
        Buses in order of elimination.
    first : (bus + 1,)
        Start of each eliminated bus's row of blocks, by position in the order; blocks are counted with the
        diagonal ones before them.
    column : (bus + block,)
        Bus of each block's column.
    target : (pair,)
        For each eliminated bus and each pair (p, q >= p) of blocks of its row: the block that their product
        updates.
    branch_block : (branch,)
        Block that couples the ends of a branch.
    branch_flipped : (branch,) bool as int
        Whether that block's row is the to bus.
    """

    order: IntArray
    first: IntArray
    column: IntArray
    target: IntArray
    branch_block: IntArray
    branch_flipped: IntArray

    @property
    def n_block(self) -> int:
        """Number of blocks, diagonal ones included."""
        return int(self.column.size)


def block_pattern(n_bus: int, from_bus: IntArray, to_bus: IntArray) -> BlockPattern:
    """Order the buses and find the fill (symbolic factorization)."""
    order = minimum_degree(n_bus, from_bus, to_bus)
    rank = np.empty(n_bus, np.int64)
    rank[order] = np.arange(n_bus)
    later: list[set[int]] = [set() for _ in range(n_bus)]
    low, high = np.minimum(rank[from_bus], rank[to_bus]), np.maximum(rank[from_bus], rank[to_bus])
    for a, b in zip(low.tolist(), high.tolist(), strict=True):
        later[a].add(b)
    for k in range(n_bus):
        if later[k]:
            parent = min(later[k])
            later[parent] |= later[k] - {parent}
    columns = [sorted(item) for item in later]
    first = n_bus + np.concatenate([[0], np.cumsum([len(c) for c in columns])]).astype(np.int64)
    place = {(k, i): int(first[k]) + p for k, column in enumerate(columns) for p, i in enumerate(column)}
    place |= {(k, k): int(order[k]) for k in range(n_bus)}
    target = [place[i, j] for column in columns for p, i in enumerate(column) for j in column[p:]]
    ranks = np.fromiter((i for column in columns for i in column), np.int64, int(first[-1]) - n_bus)
    return BlockPattern(
        order=order,
        first=first,
        column=np.concatenate([np.arange(n_bus), order[ranks]]),
        target=np.array(target, np.int64),
        branch_block=np.array([place[a, b] for a, b in zip(low.tolist(), high.tolist(), strict=True)], np.int64),
        branch_flipped=(rank[from_bus] > rank[to_bus]).astype(np.int64),
    )


@njit(cache=True, error_model="numpy")
def _largest(a: FloatArray, done: BoolArray) -> tuple[int, int, int, float, float]:
    """Return where the largest diagonal and off-diagonal entries are among those not done, and their sizes."""
    r, i1, i2, diagonal, beside = -1, 0, 0, -1.0, 0.0
    for i in range(BLOCK):
        if done[i]:
            continue
        if abs(a[i, i]) > diagonal:
            diagonal, r = abs(a[i, i]), i
        for j in range(i):
            if not done[j] and abs(a[i, j]) > beside:
                beside, i1, i2 = abs(a[i, j]), i, j
    return r, i1, i2, diagonal, beside


@njit(cache=True, error_model="numpy")
def invert_block(a: FloatArray) -> int:
    """Replace a symmetric 4 x 4 block by its inverse; return how many eigenvalues are negative, -1 if singular."""
    done = np.zeros(BLOCK, np.bool_)
    negative = 0
    left = BLOCK
    while left > 0:
        r, i1, i2, diagonal, beside = _largest(a, done)
        if diagonal >= _PIVOT_SHARE * beside:
            if diagonal == 0.0:
                return -1
            negative += a[r, r] < 0.0
            _sweep_one(a, r)
            done[r] = True
            left -= 1
        else:
            r, s = i1, i2
            determinant = a[r, r] * a[s, s] - a[r, s] * a[r, s]
            if determinant < 0.0:
                negative += 1
            elif a[r, r] < 0.0:
                negative += 2
            _sweep_two(a, r, s, determinant)
            done[r] = True
            done[s] = True
            left -= 2
    for i in range(BLOCK):
        for j in range(BLOCK):
            a[i, j] = -a[i, j]
    return negative


@njit(cache=True, inline="always")
def _sweep_one(a: FloatArray, r: int) -> None:
    inverse = 1.0 / a[r, r]
    for i in range(BLOCK):
        if i == r:
            continue
        scaled = a[i, r] * inverse
        for j in range(BLOCK):
            if j != r:
                a[i, j] -= scaled * a[r, j]
    for i in range(BLOCK):
        if i != r:
            a[i, r] *= inverse
            a[r, i] = a[i, r]
    a[r, r] = -inverse


@njit(cache=True, inline="always")
def _sweep_two(a: FloatArray, r: int, s: int, determinant: float) -> None:
    e_rr, e_ss, e_rs = a[s, s] / determinant, a[r, r] / determinant, -a[r, s] / determinant
    for i in range(BLOCK):
        if i in (r, s):
            continue
        x = a[i, r] * e_rr + a[i, s] * e_rs
        y = a[i, r] * e_rs + a[i, s] * e_ss
        for j in range(BLOCK):
            if j not in (r, s):
                a[i, j] -= x * a[r, j] + y * a[s, j]
    for i in range(BLOCK):
        if i in (r, s):
            continue
        x = a[i, r] * e_rr + a[i, s] * e_rs
        y = a[i, r] * e_rs + a[i, s] * e_ss
        a[i, r], a[i, s] = x, y
        a[r, i], a[s, i] = x, y
    a[r, r], a[s, s] = -e_rr, -e_ss
    a[r, s] = -e_rs
    a[s, r] = -e_rs


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _invert_by_pairs(a: FloatArray, own: int) -> int:
    """Replace a symmetric block by its inverse, the pivots (angle, active price), (magnitude, reactive price).

    That is the usual case, and quick. Returns as `invert_block`, and -1, changing nothing, where pivots are poor.
    """
    x0, x1, x2 = a[own, 0], a[own, 2], a[own, 10]
    y0, y1, y2 = a[own, 5], a[own, 7], a[own, 15]
    z00, z01, z10, z11 = a[own, 1], a[own, 3], a[own, 6], a[own, 11]
    determinant = x0 * x2 - x1 * x1
    if not abs(determinant) > _LEAST_SHARE * max(abs(x0 * x2), x1 * x1):
        return -1
    negative = 1 if determinant < 0.0 else 2 * (x0 < 0.0)
    i0, i1, i2 = x2 / determinant, -x1 / determinant, x0 / determinant
    w00, w01 = i0 * z00 + i1 * z10, i0 * z01 + i1 * z11
    w10, w11 = i1 * z00 + i2 * z10, i1 * z01 + i2 * z11
    s0 = y0 - z00 * w00 - z10 * w10
    s1 = y1 - z00 * w01 - z10 * w11
    s2 = y2 - z01 * w01 - z11 * w11
    determinant = s0 * s2 - s1 * s1
    growth = max(abs(w00), abs(w01), abs(w10), abs(w11))
    if growth > _MOST_GROWTH or not abs(determinant) > _LEAST_SHARE * max(abs(s0 * s2), s1 * s1):
        return -1
    negative += 1 if determinant < 0.0 else 2 * (s0 < 0.0)
    j0, j1, j2 = s2 / determinant, -s1 / determinant, s0 / determinant
    u00, u01 = w00 * j0 + w01 * j1, w00 * j1 + w01 * j2
    u10, u11 = w10 * j0 + w11 * j1, w10 * j1 + w11 * j2
    cross = i1 + u00 * w10 + u01 * w11
    a[own, 0], a[own, 10] = i0 + u00 * w00 + u01 * w01, i2 + u10 * w10 + u11 * w11
    a[own, 2], a[own, 8] = cross, cross
    a[own, 5], a[own, 15] = j0, j2
    a[own, 7], a[own, 13] = j1, j1
    a[own, 1], a[own, 4] = -u00, -u00
    a[own, 3], a[own, 12] = -u01, -u01
    a[own, 6], a[own, 9] = -u10, -u10
    a[own, 11], a[own, 14] = -u11, -u11
    return negative


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def factorize(pattern: BlockPattern, matrix: FloatArray) -> int:
    """Factorize in place, (block, 16); return the number of negative eigenvalues, -1 if a pivot is singular."""
    order, first, target = pattern.order, pattern.first, pattern.target
    a = matrix
    pivot = np.empty((BLOCK, BLOCK))
    negative = 0
    at = 0
    for k in range(order.size):
        own = order[k]
        count = _invert_by_pairs(a, own)
        if count < 0:
            pivot[:] = a[own].reshape((BLOCK, BLOCK))
            count = invert_block(pivot)
            if count < 0:
                return -1
            a[own] = pivot.ravel()
        negative += count
        end = first[k + 1]
        for p in range(first[k], end):
            l00, l01, l02, l03 = _row_times_pivot(a, p, 0, own)
            l10, l11, l12, l13 = _row_times_pivot(a, p, 1, own)
            l20, l21, l22, l23 = _row_times_pivot(a, p, 2, own)
            l30, l31, l32, l33 = _row_times_pivot(a, p, 3, own)
            for q in range(p, end):
                t = target[at]
                at += 1
                for j in range(BLOCK):
                    u0, u1, u2, u3 = a[q, j], a[q, 4 + j], a[q, 8 + j], a[q, 12 + j]
                    a[t, j] -= l00 * u0 + l01 * u1 + l02 * u2 + l03 * u3
                    a[t, 4 + j] -= l10 * u0 + l11 * u1 + l12 * u2 + l13 * u3
                    a[t, 8 + j] -= l20 * u0 + l21 * u1 + l22 * u2 + l23 * u3
                    a[t, 12 + j] -= l30 * u0 + l31 * u1 + l32 * u2 + l33 * u3
    return negative


@njit(cache=True, inline="always")
def _row_times_pivot(a: FloatArray, p: int, i: int, own: int) -> tuple[float, float, float, float]:
    """Return a row of (block p)' times the inverted pivot of a bus."""
    u0, u1, u2, u3 = a[p, i], a[p, 4 + i], a[p, 8 + i], a[p, 12 + i]
    return (
        u0 * a[own, 0] + u1 * a[own, 4] + u2 * a[own, 8] + u3 * a[own, 12],
        u0 * a[own, 1] + u1 * a[own, 5] + u2 * a[own, 9] + u3 * a[own, 13],
        u0 * a[own, 2] + u1 * a[own, 6] + u2 * a[own, 10] + u3 * a[own, 14],
        u0 * a[own, 3] + u1 * a[own, 7] + u2 * a[own, 11] + u3 * a[own, 15],
    )


@njit(cache=True, inline="always")
def _times(a: FloatArray, p: int, x0: float, x1: float, x2: float, x3: float) -> tuple[float, float, float, float]:
    """Return block p times a vector."""
    return (
        a[p, 0] * x0 + a[p, 1] * x1 + a[p, 2] * x2 + a[p, 3] * x3,
        a[p, 4] * x0 + a[p, 5] * x1 + a[p, 6] * x2 + a[p, 7] * x3,
        a[p, 8] * x0 + a[p, 9] * x1 + a[p, 10] * x2 + a[p, 11] * x3,
        a[p, 12] * x0 + a[p, 13] * x1 + a[p, 14] * x2 + a[p, 15] * x3,
    )


@njit(cache=True, inline="always")
def _subtract_transposed(
    a: FloatArray, p: int, x0: float, x1: float, x2: float, x3: float, y: FloatArray, c: int
) -> None:
    """Subtract (block p)' times a vector from row c of `y`."""
    y[c, 0] -= a[p, 0] * x0 + a[p, 4] * x1 + a[p, 8] * x2 + a[p, 12] * x3
    y[c, 1] -= a[p, 1] * x0 + a[p, 5] * x1 + a[p, 9] * x2 + a[p, 13] * x3
    y[c, 2] -= a[p, 2] * x0 + a[p, 6] * x1 + a[p, 10] * x2 + a[p, 14] * x3
    y[c, 3] -= a[p, 3] * x0 + a[p, 7] * x1 + a[p, 11] * x2 + a[p, 15] * x3


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def solve_blocks(pattern: BlockPattern, factor: FloatArray, x: FloatArray) -> None:
    """Solve in place with a factorization; `x` has the shape (bus, 4)."""
    order, first, column, a = pattern.order, pattern.first, pattern.column, factor
    for k in range(order.size):
        b = order[k]
        y0, y1, y2, y3 = _times(a, b, x[b, 0], x[b, 1], x[b, 2], x[b, 3])
        x[b, 0], x[b, 1], x[b, 2], x[b, 3] = y0, y1, y2, y3
        for p in range(first[k], first[k + 1]):
            _subtract_transposed(a, p, y0, y1, y2, y3, x, column[p])
    for k in range(order.size - 1, -1, -1):
        b = order[k]
        s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
        for p in range(first[k], first[k + 1]):
            c = column[p]
            t0, t1, t2, t3 = _times(a, p, x[c, 0], x[c, 1], x[c, 2], x[c, 3])
            s0 += t0
            s1 += t1
            s2 += t2
            s3 += t3
        y0, y1, y2, y3 = _times(a, b, s0, s1, s2, s3)
        x[b, 0] -= y0
        x[b, 1] -= y1
        x[b, 2] -= y2
        x[b, 3] -= y3


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def subtract_product(pattern: BlockPattern, matrix: FloatArray, x: FloatArray, y: FloatArray) -> None:
    """Subtract the matrix, before factorization, times `x` (bus, 4) from `y`."""
    order, first, column, a = pattern.order, pattern.first, pattern.column, matrix
    for k in range(order.size):
        b = order[k]
        x0, x1, x2, x3 = x[b, 0], x[b, 1], x[b, 2], x[b, 3]
        s0, s1, s2, s3 = _times(a, b, x0, x1, x2, x3)
        for p in range(first[k], first[k + 1]):
            c = column[p]
            t0, t1, t2, t3 = _times(a, p, x[c, 0], x[c, 1], x[c, 2], x[c, 3])
            s0 += t0
            s1 += t1
            s2 += t2
            s3 += t3
            _subtract_transposed(a, p, x0, x1, x2, x3, y, c)
        y[b, 0] -= s0
        y[b, 1] -= s1
        y[b, 2] -= s2
        y[b, 3] -= s3
