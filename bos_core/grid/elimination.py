"""Symbolic and numeric elimination of bus-block matrices: the sparse LU behind every power flow here.

A power-flow Jacobian has one 2x2 block (angle, voltage magnitude) per bus and per pair of neighbours. Every bus
keeps both of its rows whatever it controls, so pattern, order and fill depend on the topology alone and are
computed once per network; which bus holds its voltage is only a matter of values. Elimination runs bus by bus
without pivoting between buses (2x2 blocks are inverted as a whole), which power-flow Jacobians permit.

Buses are numbered by their position in the elimination order throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

from bos_core.grid.model import FloatArray, IntArray, Network

Int32Array = NDArray[np.int32]


class Pattern(NamedTuple):
    """Positions of nonzero blocks, rows in compressed form; what the compiled functions take.

    y: admittance matrix with its diagonal; l and u: strict triangles of the factors; l_of_u: place of the
    transposed entry of each u entry; path: buses from a bus to the root of the elimination tree.
    """

    y_ptr: Int32Array
    y_column: Int32Array
    y_diagonal: Int32Array
    l_ptr: Int32Array
    l_column: Int32Array
    u_ptr: Int32Array
    u_column: Int32Array
    l_of_u: Int32Array
    path_ptr: Int32Array
    path: Int32Array


class Factors(NamedTuple):
    """Numeric LU: blocks (entry, 4) in row-major order, unit lower triangle, inverted diagonal."""

    lower: FloatArray
    upper: FloatArray
    diagonal_inverse: FloatArray


@dataclass(frozen=True, eq=False)
class Elimination:
    """Elimination order and pattern of one topology.

    Attributes
    ----------
    order : (bus,) int
        Bus at each position.
    position : (bus,) int
        Position of each bus.
    from_position, to_position : (branch,) int32
        Ends of the branches by position.
    branch_slot : (branch, 4) int32
        Places of yff, yft, ytf, ytt among the y entries.
    pattern : Pattern
    """

    order: IntArray
    position: IntArray
    from_position: Int32Array
    to_position: Int32Array
    branch_slot: Int32Array
    pattern: Pattern

    @property
    def n_bus(self) -> int:
        """Number of buses."""
        return self.order.size

    def admittances(self, network: Network) -> tuple[FloatArray, FloatArray]:
        """Return conductances and susceptances of the y entries for the network's present values."""
        pattern, order = self.pattern, self.order
        g, b = np.zeros(pattern.y_column.size), np.zeros(pattern.y_column.size)
        g[pattern.y_diagonal], b[pattern.y_diagonal] = network.g_shunt_pu[order], network.b_shunt_pu[order]
        _add_branches(
            self.branch_slot, network.r_pu, network.x_pu, network.g_from_pu, network.b_from_pu, network.g_to_pu,
            network.b_to_pu, network.ratio, network.shift_rad, g, b,
        )  # fmt: skip
        return g, b

    def new_factors(self) -> Factors:
        """Return uninitialised room for a factorization."""
        pattern = self.pattern
        return Factors(
            np.empty((pattern.l_column.size, 4)), np.empty((pattern.u_column.size, 4)), np.empty((self.n_bus, 4))
        )


def eliminate(network: Network) -> Elimination:
    """Order the buses for little fill and find the pattern of the factors.

    Buses at the ends of radial branches go first, again and again, and cause no fill; what is left of the network
    follows by minimum degree.
    """
    n = network.n_bus
    f, t = network.from_bus.astype(np.int32), network.to_bus.astype(np.int32)
    start, neighbour = _neighbours(n, f, t)
    order, pruned = _prune(start, neighbour)
    order[pruned:] = order[pruned:][_order_among(order[pruned:], start, neighbour)]
    position = np.empty(n, np.int32)
    position[order] = np.arange(n, dtype=np.int32)
    y_ptr, y_column, y_diagonal = _rows(start, neighbour, order, position)
    parent, count = _tree(y_ptr, y_column)
    u_ptr = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    u_column = _fill(y_ptr, y_column, parent, u_ptr)
    l_ptr, l_column, l_of_u = _transpose(u_ptr, u_column)
    path_ptr, path = _paths(parent)
    return Elimination(
        order=order.astype(np.int64),
        position=position.astype(np.int64),
        from_position=position[f],
        to_position=position[t],
        branch_slot=_slots(y_ptr, y_column, y_diagonal, position[f], position[t]),
        pattern=Pattern(
            y_ptr=y_ptr,
            y_column=y_column,
            y_diagonal=y_diagonal,
            l_ptr=l_ptr,
            l_column=l_column,
            u_ptr=u_ptr,
            u_column=u_column,
            l_of_u=l_of_u,
            path_ptr=path_ptr,
            path=path,
        ),
    )


@lru_cache(maxsize=4)
def elimination_of(network: Network) -> Elimination:
    """Return `eliminate` of a network; of the last ones it is kept, as the hours of a grid share their network.

    A network is known by being the same object, and no array of it is changed in place, so what is kept holds.
    """
    return eliminate(network)


@nb.njit(cache=True, error_model="numpy")
def _add_branches(
    slot: Int32Array,
    r: FloatArray,
    x: FloatArray,
    g_from: FloatArray,
    b_from: FloatArray,
    g_to: FloatArray,
    b_to: FloatArray,
    ratio: FloatArray,
    shift: FloatArray,
    g: FloatArray,
    b: FloatArray,
) -> None:
    """Add the pi models of all branches to the y entries; see `Network.branch_admittances`."""
    for k in range(r.size):
        square = r[k] * r[k] + x[k] * x[k]
        g_series, b_series = r[k] / square, -x[k] / square
        c, s = 1.0 / ratio[k], 0.0
        if shift[k] != 0.0:
            c, s = np.cos(shift[k]) / ratio[k], np.sin(shift[k]) / ratio[k]
        g[slot[k, 0]] += (g_series + g_from[k]) / (ratio[k] * ratio[k])
        b[slot[k, 0]] += (b_series + b_from[k]) / (ratio[k] * ratio[k])
        g[slot[k, 1]] -= g_series * c - b_series * s
        b[slot[k, 1]] -= g_series * s + b_series * c
        g[slot[k, 2]] -= g_series * c + b_series * s
        b[slot[k, 2]] -= b_series * c - g_series * s
        g[slot[k, 3]] += g_series + g_to[k]
        b[slot[k, 3]] += b_series + b_to[k]


@nb.njit(cache=True)
def _neighbours(n: int, f: Int32Array, t: Int32Array) -> tuple[Int32Array, Int32Array]:
    """Return the neighbours of every bus, each once, as (start, neighbour) in compressed rows."""
    first = np.zeros(n + 1, np.int32)
    for k in range(f.size):
        if f[k] != t[k]:
            first[f[k] + 1] += 1
            first[t[k] + 1] += 1
    for i in range(n):
        first[i + 1] += first[i]
    place = first[:-1].copy()
    every = np.empty(first[n], np.int32)
    for k in range(f.size):
        if f[k] != t[k]:
            every[place[f[k]]] = t[k]
            every[place[t[k]]] = f[k]
            place[f[k]] += 1
            place[t[k]] += 1
    start = np.zeros(n + 1, np.int32)
    mark = np.full(n, -1, np.int32)
    count = 0
    for i in range(n):
        for p in range(first[i], first[i + 1]):
            if mark[every[p]] != i:
                mark[every[p]] = i
                every[count] = every[p]
                count += 1
        start[i + 1] = count
    return start, every[:count].copy()


@nb.njit(cache=True)
def _prune(start: Int32Array, neighbour: Int32Array) -> tuple[Int32Array, int]:
    """Return the buses, first those that fall off as ends of radial branches, and how many these are."""
    n = start.size - 1
    order = np.empty(n, np.int32)
    degree = start[1:] - start[:-1]
    gone = np.zeros(n, np.bool_)
    count = 0
    for i in range(n):
        if degree[i] == 1:
            order[count] = i
            count += 1
    done = 0
    while done < count:
        i = order[done]
        done += 1
        gone[i] = True
        for p in range(start[i], start[i + 1]):
            j = neighbour[p]
            if not gone[j]:
                degree[j] -= 1
                if degree[j] == 1:
                    order[count] = j
                    count += 1
    pruned = count
    for i in range(n):
        if not gone[i]:
            order[count] = i
            count += 1
    return order, pruned


def minimum_degree(n_bus: int, from_bus: NDArray[Any], to_bus: NDArray[Any]) -> IntArray:
    """Return the buses of a graph in an order of little fill, by SuperLU's multiple minimum degree."""
    start, neighbour = _neighbours(n_bus, from_bus.astype(np.int32), to_bus.astype(np.int32))
    return _order_among(np.arange(n_bus, dtype=np.int32), start, neighbour)


def _order_among(buses: Int32Array, start: Int32Array, neighbour: Int32Array) -> IntArray:
    """Return the minimum-degree order of the graph among these buses, as places in them."""
    n = buses.size
    if n < 3:
        return np.arange(n)
    matrix = sp.csc_matrix(_diagonally_dominant(buses, start, neighbour), shape=(n, n))
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return np.argsort(factors.perm_c).astype(np.int64)


@nb.njit(cache=True)
def _diagonally_dominant(
    buses: Int32Array, start: Int32Array, neighbour: Int32Array
) -> tuple[FloatArray, Int32Array, Int32Array]:
    """Return a regular matrix on the graph among these buses by columns: (values, rows, first of each column)."""
    number = np.full(start.size - 1, -1, np.int32)
    for k in range(buses.size):
        number[buses[k]] = k
    first = np.zeros(buses.size + 1, np.int32)
    row = np.empty(neighbour.size + buses.size, np.int32)
    value = np.empty(row.size)
    count = 0
    for k in range(buses.size):
        diagonal = count
        row[count] = k
        count += 1
        for p in range(start[buses[k]], start[buses[k] + 1]):
            if number[neighbour[p]] >= 0:
                row[count], value[count] = number[neighbour[p]], -1.0
                count += 1
        value[diagonal] = count - diagonal
        first[k + 1] = count
    return value[:count], row[:count], first


@nb.njit(cache=True)
def _rows(
    start: Int32Array, neighbour: Int32Array, order: Int32Array, position: Int32Array
) -> tuple[Int32Array, Int32Array, Int32Array]:
    """Return the rows of the admittance matrix by position, columns ascending, and where its diagonal is."""
    n = order.size
    y_ptr = np.zeros(n + 1, np.int32)
    for i in range(n):
        y_ptr[i + 1] = y_ptr[i] + start[order[i] + 1] - start[order[i]] + 1
    place = y_ptr[:-1].copy()
    y_column = np.empty(y_ptr[n], np.int32)
    y_diagonal = np.empty(n, np.int32)
    for j in range(n):
        y_diagonal[j] = place[j]
        y_column[place[j]] = j
        place[j] += 1
        for p in range(start[order[j]], start[order[j] + 1]):
            i = position[neighbour[p]]
            y_column[place[i]] = j
            place[i] += 1
    return y_ptr, y_column, y_diagonal


@nb.njit(cache=True)
def _slots(
    y_ptr: Int32Array, y_column: Int32Array, y_diagonal: Int32Array, f: Int32Array, t: Int32Array
) -> Int32Array:
    """Return where (ff, ft, tf, tt) of every branch are among the y entries."""
    slots = np.empty((f.size, 4), np.int32)
    for k in range(f.size):
        i, j = f[k], t[k]
        slots[k, 0], slots[k, 3] = y_diagonal[i], y_diagonal[j]
        slots[k, 1] = y_ptr[i] + np.searchsorted(y_column[y_ptr[i] : y_ptr[i + 1]], j)
        slots[k, 2] = y_ptr[j] + np.searchsorted(y_column[y_ptr[j] : y_ptr[j + 1]], i)
    return slots


@nb.njit(cache=True)
def _tree(y_ptr: Int32Array, y_column: Int32Array) -> tuple[Int32Array, Int32Array]:
    """Return the elimination tree and the number of u entries of each row (Liu 1990)."""
    n = y_ptr.size - 1
    parent = np.full(n, -1, np.int32)
    count = np.zeros(n, np.int32)
    mark = np.full(n, -1, np.int32)
    for i in range(n):
        mark[i] = i
        for p in range(y_ptr[i], y_ptr[i + 1]):
            k = y_column[p]
            while k < i and mark[k] != i:
                if parent[k] == -1:
                    parent[k] = i
                count[k] += 1
                mark[k] = i
                k = parent[k]
    return parent, count


@nb.njit(cache=True)
def _fill(y_ptr: Int32Array, y_column: Int32Array, parent: Int32Array, u_ptr: Int32Array) -> Int32Array:
    """Return the columns of the u entries, ascending in each row."""
    n = y_ptr.size - 1
    u_column = np.empty(u_ptr[n], np.int32)
    place = u_ptr[:-1].copy()
    mark = np.full(n, -1, np.int32)
    for i in range(n):
        mark[i] = i
        for p in range(y_ptr[i], y_ptr[i + 1]):
            k = y_column[p]
            while k < i and mark[k] != i:
                u_column[place[k]] = i
                place[k] += 1
                mark[k] = i
                k = parent[k]
    return u_column


@nb.njit(cache=True)
def _transpose(u_ptr: Int32Array, u_column: Int32Array) -> tuple[Int32Array, Int32Array, Int32Array]:
    """Return the pattern of the lower triangle and where each u entry's mirror image is."""
    n = u_ptr.size - 1
    l_ptr = np.zeros(n + 1, np.int32)
    for p in range(u_column.size):
        l_ptr[u_column[p] + 1] += 1
    for i in range(n):
        l_ptr[i + 1] += l_ptr[i]
    place = l_ptr[:-1].copy()
    l_column = np.empty(u_column.size, np.int32)
    l_of_u = np.empty(u_column.size, np.int32)
    for i in range(n):
        for p in range(u_ptr[i], u_ptr[i + 1]):
            j = u_column[p]
            l_column[place[j]] = i
            l_of_u[p] = place[j]
            place[j] += 1
    return l_ptr, l_column, l_of_u


@nb.njit(cache=True)
def _paths(parent: Int32Array) -> tuple[Int32Array, Int32Array]:
    """Return for every bus the way to the root of the elimination tree, itself first."""
    n = parent.size
    length = np.ones(n, np.int32)
    for i in range(n - 1, -1, -1):
        if parent[i] >= 0:
            length[i] = length[parent[i]] + 1
    path_ptr = np.zeros(n + 1, np.int32)
    for i in range(n):
        path_ptr[i + 1] = path_ptr[i] + length[i]
    path = np.empty(path_ptr[n], np.int32)
    for i in range(n - 1, -1, -1):
        path[path_ptr[i]] = i
        if parent[i] >= 0:
            above = path_ptr[parent[i]]
            for p in range(length[i] - 1):
                path[path_ptr[i] + 1 + p] = path[above + p]
    return path_ptr, path


@nb.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def clear_row(pattern: Pattern, i: int, work: FloatArray) -> None:
    """Make room for the blocks of row i in work, (bus, 4): all of its factors' columns, its own included."""
    for p in range(pattern.l_ptr[i], pattern.l_ptr[i + 1]):
        j = pattern.l_column[p]
        work[j, 0], work[j, 1], work[j, 2], work[j, 3] = 0.0, 0.0, 0.0, 0.0
    for p in range(pattern.u_ptr[i], pattern.u_ptr[i + 1]):
        j = pattern.u_column[p]
        work[j, 0], work[j, 1], work[j, 2], work[j, 3] = 0.0, 0.0, 0.0, 0.0


@nb.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def eliminate_row(pattern: Pattern, i: int, factors: Factors, work: FloatArray) -> bool:
    """Factorize row i, whose blocks are in work; the rows before it are done. False when singular."""
    lower, upper, inverse = factors.lower, factors.upper, factors.diagonal_inverse
    u_ptr = pattern.u_ptr
    for p in range(pattern.l_ptr[i], pattern.l_ptr[i + 1]):
        k = pattern.l_column[p]
        a, b, c, d = work[k, 0], work[k, 1], work[k, 2], work[k, 3]
        e, f, g, h = inverse[k, 0], inverse[k, 1], inverse[k, 2], inverse[k, 3]
        l0, l1, l2, l3 = a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h
        lower[p, 0], lower[p, 1], lower[p, 2], lower[p, 3] = l0, l1, l2, l3
        for q in range(u_ptr[k], u_ptr[k + 1]):
            j = pattern.u_column[q]
            u0, u1, u2, u3 = upper[q, 0], upper[q, 1], upper[q, 2], upper[q, 3]
            work[j, 0] -= l0 * u0 + l1 * u2
            work[j, 1] -= l0 * u1 + l1 * u3
            work[j, 2] -= l2 * u0 + l3 * u2
            work[j, 3] -= l2 * u1 + l3 * u3
    for p in range(u_ptr[i], u_ptr[i + 1]):
        j = pattern.u_column[p]
        upper[p, 0], upper[p, 1], upper[p, 2], upper[p, 3] = work[j, 0], work[j, 1], work[j, 2], work[j, 3]
    a, b, c, d = work[i, 0], work[i, 1], work[i, 2], work[i, 3]
    determinant = a * d - b * c
    if not abs(determinant) > 1e-14 * (abs(a * d) + abs(b * c)):
        return False
    inverse[i, 0], inverse[i, 1] = d / determinant, -b / determinant
    inverse[i, 2], inverse[i, 3] = -c / determinant, a / determinant
    return True


@nb.njit(cache=True, nogil=True, error_model="numpy")
def factorize(pattern: Pattern, matrix: FloatArray, factors: Factors, work: FloatArray) -> bool:
    """Factorize a block matrix given on the y pattern, (entry, 4); work is (bus, 4). False when singular."""
    y_ptr = pattern.y_ptr
    for i in range(y_ptr.size - 1):
        clear_row(pattern, i, work)
        for p in range(y_ptr[i], y_ptr[i + 1]):
            j = pattern.y_column[p]
            work[j, 0], work[j, 1], work[j, 2], work[j, 3] = matrix[p, 0], matrix[p, 1], matrix[p, 2], matrix[p, 3]
        if not eliminate_row(pattern, i, factors, work):
            return False
    return True


@nb.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def substitute_row(pattern: Pattern, i: int, factors: Factors, x: FloatArray) -> None:
    """Substitute forward in row i of x, (bus, 2); the rows before it are done."""
    lower = factors.lower
    s, t = x[i, 0], x[i, 1]
    for p in range(pattern.l_ptr[i], pattern.l_ptr[i + 1]):
        k = pattern.l_column[p]
        s -= lower[p, 0] * x[k, 0] + lower[p, 1] * x[k, 1]
        t -= lower[p, 2] * x[k, 0] + lower[p, 3] * x[k, 1]
    x[i, 0], x[i, 1] = s, t


@nb.njit(cache=True, nogil=True, error_model="numpy")
def substitute_back(pattern: Pattern, factors: Factors, x: FloatArray) -> None:
    """Substitute backward in place, after every row has been substituted forward; x is (bus, 2)."""
    upper, inverse = factors.upper, factors.diagonal_inverse
    for i in range(pattern.y_ptr.size - 2, -1, -1):
        s, t = x[i, 0], x[i, 1]
        for p in range(pattern.u_ptr[i], pattern.u_ptr[i + 1]):
            k = pattern.u_column[p]
            s -= upper[p, 0] * x[k, 0] + upper[p, 1] * x[k, 1]
            t -= upper[p, 2] * x[k, 0] + upper[p, 3] * x[k, 1]
        x[i, 0] = inverse[i, 0] * s + inverse[i, 1] * t
        x[i, 1] = inverse[i, 2] * s + inverse[i, 3] * t


@nb.njit(cache=True, nogil=True, error_model="numpy")
def substitute(pattern: Pattern, factors: Factors, x: FloatArray) -> None:
    """Solve in place; x is (bus, 2)."""
    for i in range(pattern.y_ptr.size - 1):
        substitute_row(pattern, i, factors, x)
    substitute_back(pattern, factors, x)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def solve_scalar(pattern: Pattern, matrix: FloatArray, x: FloatArray) -> bool:
    """Solve a system of one equation a bus in place; matrix is (entry,) on the y pattern. False when singular."""
    l_ptr, u_ptr, y_ptr = pattern.l_ptr, pattern.u_ptr, pattern.y_ptr
    n = y_ptr.size - 1
    upper, inverse, work = np.empty(pattern.u_column.size), np.empty(n), np.empty(n)
    for i in range(n):
        for p in range(l_ptr[i], l_ptr[i + 1]):
            work[pattern.l_column[p]] = 0.0
        for p in range(u_ptr[i], u_ptr[i + 1]):
            work[pattern.u_column[p]] = 0.0
        for p in range(y_ptr[i], y_ptr[i + 1]):
            work[pattern.y_column[p]] = matrix[p]
        largest = abs(work[i])
        for p in range(l_ptr[i], l_ptr[i + 1]):
            k = pattern.l_column[p]
            factor = work[k] * inverse[k]
            for q in range(u_ptr[k], u_ptr[k + 1]):
                work[pattern.u_column[q]] -= factor * upper[q]
            x[i] -= factor * x[k]
        for p in range(u_ptr[i], u_ptr[i + 1]):
            upper[p] = work[pattern.u_column[p]]
        if not abs(work[i]) > 1e-14 * largest:
            return False
        inverse[i] = 1.0 / work[i]
    for i in range(n - 1, -1, -1):
        for p in range(u_ptr[i], u_ptr[i + 1]):
            x[i] -= upper[p] * x[pattern.u_column[p]]
        x[i] *= inverse[i]
    return True
