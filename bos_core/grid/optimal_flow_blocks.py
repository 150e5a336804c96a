"""Symmetric indefinite block factorization for optimal flow.

The matrix has one dense symmetric 4 x 4 block a bus and one a pair of neighbours: the unknowns of a bus are
(angle, magnitude, active price, reactive price). Eliminating whole buses keeps the pivots away from the zero
diagonal of the multipliers, so that no regularization is needed; inside a block, 1 x 1 and 2 x 2 pivots are
chosen by size (Bunch & Parlett 1971). The order of the buses is of minimum degree and found once a network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numba import njit
from scipy.sparse.linalg import splu

from bos_core.grid.model import BoolArray, FloatArray, IntArray

BLOCK = 4
_PIVOT_SHARE = (1 + np.sqrt(17)) / 8


@dataclass(frozen=True, eq=False)
class BlockPattern:
    """Elimination order and fill of a bus graph.

    Attributes
    ----------
    order : (bus,)
        Buses in order of elimination.
    first : (bus + 1,)
        Start of each eliminated bus's column of blocks, by position in the order.
    row : (block,)
        Bus of each block.
    first_target : (bus + 1,), target : (pair,)
        For each pair (p, q <= p) of blocks of a column: the block that their product updates; -1 - bus for a
        diagonal block.
    branch_block : (branch,)
        Block that couples the ends of a branch.
    branch_flipped : (branch,) bool as int
        Whether that block's row is the from bus.
    """

    order: IntArray
    first: IntArray
    row: IntArray
    first_target: IntArray
    target: IntArray
    branch_block: IntArray
    branch_flipped: IntArray


def block_pattern(n_bus: int, from_bus: IntArray, to_bus: IntArray) -> BlockPattern:
    """Order the buses and find the fill (symbolic factorization)."""
    order = _minimum_degree(n_bus, from_bus, to_bus)
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
    first = np.concatenate([[0], np.cumsum([len(c) for c in columns])]).astype(np.int64)
    place = {(i, k): int(first[k]) + p for k, column in enumerate(columns) for p, i in enumerate(column)}
    target: list[int] = []
    first_target = np.zeros(n_bus + 1, np.int64)
    for k, column in enumerate(columns):
        for p, i in enumerate(column):
            target += [place[i, j] for j in column[:p]]
            target.append(-1 - int(order[i]))
        first_target[k + 1] = len(target)
    ranks = np.fromiter((i for column in columns for i in column), np.int64, int(first[-1]))
    return BlockPattern(
        order=order,
        first=first,
        row=order[ranks],
        first_target=first_target,
        target=np.array(target, np.int64),
        branch_block=np.array([place[b, a] for a, b in zip(low.tolist(), high.tolist(), strict=True)], np.int64),
        branch_flipped=(rank[from_bus] > rank[to_bus]).astype(np.int64),
    )


def _minimum_degree(n_bus: int, from_bus: IntArray, to_bus: IntArray) -> IntArray:
    """Return a minimum-degree order of the bus graph."""
    ones = np.ones(from_bus.size)
    graph = sp.csc_matrix((ones, (from_bus, to_bus)), shape=(n_bus, n_bus))
    degree = np.asarray(graph.sum(0)).ravel() + np.asarray(graph.sum(1)).ravel()
    matrix = sp.csc_matrix(sp.diags(degree + 1.0) - graph - graph.T)
    factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return np.argsort(factor.perm_c).astype(np.int64)


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True, inline="always")
def _multiply(left: FloatArray, right: FloatArray, out: FloatArray) -> None:
    """Set out = left right."""
    for i in range(BLOCK):
        for j in range(BLOCK):
            total = 0.0
            for m in range(BLOCK):
                total += left[i, m] * right[m, j]
            out[i, j] = total


@njit(cache=True, inline="always")
def _subtract_product(left: FloatArray, right: FloatArray, out: FloatArray) -> None:
    """Subtract left right' from out."""
    for i in range(BLOCK):
        for j in range(BLOCK):
            total = 0.0
            for m in range(BLOCK):
                total += left[i, m] * right[j, m]
            out[i, j] -= total


@njit(cache=True)
def factorize(
    order: IntArray,
    first: IntArray,
    row: IntArray,
    first_target: IntArray,
    target: IntArray,
    diagonal: FloatArray,
    beside: FloatArray,
) -> int:
    """Factorize in place; return the number of negative eigenvalues, -1 if a pivot block is singular.

    Parameters
    ----------
    diagonal : (bus, 4, 4)
        Replaced by the inverses of the pivots.
    beside : (block, 4, 4)
        Replaced by the factor.
    """
    negative = 0
    widest = 0
    for k in range(order.size):
        widest = max(widest, first[k + 1] - first[k])
    scaled = np.empty((widest, BLOCK, BLOCK))
    for k in range(order.size):
        pivot = diagonal[order[k]]
        count = invert_block(pivot)
        if count < 0:
            return -1
        negative += count
        begin, end = first[k], first[k + 1]
        for p in range(begin, end):
            _multiply(beside[p], pivot, scaled[p - begin])
        at = first_target[k]
        for p in range(begin, end):
            for q in range(begin, p + 1):
                place = target[at]
                at += 1
                goal = diagonal[-1 - place] if place < 0 else beside[place]
                _subtract_product(scaled[p - begin], beside[q], goal)
        for p in range(begin, end):
            beside[p] = scaled[p - begin]
    return negative


@njit(cache=True)
def solve_blocks(
    order: IntArray, first: IntArray, row: IntArray, diagonal: FloatArray, beside: FloatArray, x: FloatArray
) -> None:
    """Solve in place with a factorization; `x` has the shape (bus, 4)."""
    for k in range(order.size):
        own = x[order[k]]
        for p in range(first[k], first[k + 1]):
            other = x[row[p]]
            for i in range(BLOCK):
                for j in range(BLOCK):
                    other[i] -= beside[p, i, j] * own[j]
    product = np.empty(BLOCK)
    for k in range(order.size - 1, -1, -1):
        own = x[order[k]]
        for i in range(BLOCK):
            total = 0.0
            for j in range(BLOCK):
                total += diagonal[order[k], i, j] * own[j]
            product[i] = total
        for i in range(BLOCK):
            own[i] = product[i]
        for p in range(first[k], first[k + 1]):
            other = x[row[p]]
            for i in range(BLOCK):
                for j in range(BLOCK):
                    own[i] -= beside[p, j, i] * other[j]


@njit(cache=True)
def multiply_blocks(
    from_bus: IntArray,
    to_bus: IntArray,
    branch_block: IntArray,
    branch_flipped: IntArray,
    diagonal: FloatArray,
    beside: FloatArray,
    x: FloatArray,
) -> FloatArray:
    """Return matrix times `x` (bus, 4), before factorization; each neighbour pair must be counted once."""
    y = np.zeros_like(x)
    for b in range(x.shape[0]):
        for i in range(BLOCK):
            for j in range(BLOCK):
                y[b, i] += diagonal[b, i, j] * x[b, j]
    seen = np.zeros(beside.shape[0], np.bool_)
    for k in range(from_bus.size):
        p = branch_block[k]
        if seen[p]:
            continue
        seen[p] = True
        r, c = (from_bus[k], to_bus[k]) if branch_flipped[k] else (to_bus[k], from_bus[k])
        for i in range(BLOCK):
            for j in range(BLOCK):
                y[r, i] += beside[p, i, j] * x[c, j]
                y[c, j] += beside[p, i, j] * x[r, i]
    return y
