"""Symbolic and numeric elimination of bus-block matrices: the sparse LU behind every power flow here.

A power-flow Jacobian has one 2x2 block (angle, voltage magnitude) per bus and per pair of neighbours. Every bus
keeps both of its rows whatever it controls, so pattern, order and fill depend on the topology alone and are
computed once per network; which bus holds its voltage is only a matter of values. Elimination runs bus by bus
without pivoting between buses (2x2 blocks are inverted as a whole), which power-flow Jacobians permit.

Buses are numbered by their position in the elimination order throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

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
        values = np.stack(network.branch_admittances(), axis=1).ravel()
        slots, size = self.branch_slot.ravel(), self.pattern.y_column.size
        g: FloatArray = np.bincount(slots, weights=values.real, minlength=size).astype(np.float64)
        b: FloatArray = np.bincount(slots, weights=values.imag, minlength=size).astype(np.float64)
        g[self.pattern.y_diagonal] += network.g_shunt_pu[self.order]
        b[self.pattern.y_diagonal] += network.b_shunt_pu[self.order]
        return g, b

    def new_factors(self) -> Factors:
        """Return uninitialised room for a factorization."""
        pattern = self.pattern
        return Factors(
            np.empty((pattern.l_column.size, 4)), np.empty((pattern.u_column.size, 4)), np.empty((self.n_bus, 4))
        )


def eliminate(network: Network) -> Elimination:
    """Order the buses for little fill and find the pattern of the factors."""
    n = network.n_bus
    order = _minimum_degree(n, network.from_bus, network.to_bus)
    position = np.empty(n, np.int64)
    position[order] = np.arange(n)
    f, t = position[network.from_bus], position[network.to_bus]
    everyone = np.arange(n)
    graph = sp.csr_matrix(
        (np.ones(2 * f.size + n), (np.concatenate([f, t, everyone]), np.concatenate([t, f, everyone]))), (n, n)
    )
    graph.sum_duplicates()
    graph.sort_indices()
    y_ptr, y_column = graph.indptr.astype(np.int32), graph.indices.astype(np.int32)
    keys = np.repeat(everyone, np.diff(y_ptr)) * n + y_column
    slots = np.stack([np.searchsorted(keys, a * n + b) for a, b in ((f, f), (f, t), (t, f), (t, t))], axis=1)
    parent, count = _tree(y_ptr, y_column)
    u_ptr = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    u_column = _fill(y_ptr, y_column, parent, u_ptr)
    l_ptr, l_column, l_of_u = _transpose(u_ptr, u_column)
    path_ptr, path = _paths(parent)
    return Elimination(
        order=order,
        position=position,
        from_position=f.astype(np.int32),
        to_position=t.astype(np.int32),
        branch_slot=slots.astype(np.int32),
        pattern=Pattern(
            y_ptr=y_ptr,
            y_column=y_column,
            y_diagonal=np.searchsorted(keys, everyone * n + everyone).astype(np.int32),
            l_ptr=l_ptr,
            l_column=l_column,
            u_ptr=u_ptr,
            u_column=u_column,
            l_of_u=l_of_u,
            path_ptr=path_ptr,
            path=path,
        ),
    )


def _minimum_degree(n: int, from_bus: IntArray, to_bus: IntArray) -> IntArray:
    """Return the minimum-degree order of the bus graph, by SuperLU's multiple minimum degree."""
    graph = sp.csc_matrix((-np.ones(from_bus.size), (from_bus, to_bus)), (n, n))
    laplacian = graph + graph.T
    laplacian = laplacian - sp.diags(np.asarray(laplacian.sum(axis=1)).ravel() - 1.0)
    factors = splu(
        laplacian.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    order = np.empty(n, np.int64)
    order[factors.perm_c] = np.arange(n)
    return order


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
    for i in range(n):
        k = np.int32(i)
        for p in range(path_ptr[i], path_ptr[i + 1]):
            path[p] = k
            k = parent[k]
    return path_ptr, path


@nb.njit(cache=True, nogil=True, error_model="numpy")
def factorize(pattern: Pattern, matrix: FloatArray, factors: Factors, work: FloatArray) -> bool:
    """Factorize a block matrix given on the y pattern, (entry, 4); work is (bus, 4). False when singular."""
    lower, upper, inverse = factors.lower, factors.upper, factors.diagonal_inverse
    l_ptr, u_ptr, y_ptr = pattern.l_ptr, pattern.u_ptr, pattern.y_ptr
    for i in range(y_ptr.size - 1):
        for p in range(l_ptr[i], l_ptr[i + 1]):
            work[pattern.l_column[p]] = 0.0
        for p in range(u_ptr[i], u_ptr[i + 1]):
            work[pattern.u_column[p]] = 0.0
        for p in range(y_ptr[i], y_ptr[i + 1]):
            work[pattern.y_column[p]] = matrix[p]
        for p in range(l_ptr[i], l_ptr[i + 1]):
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
            upper[p] = work[pattern.u_column[p]]
        a, b, c, d = work[i, 0], work[i, 1], work[i, 2], work[i, 3]
        determinant = a * d - b * c
        if not abs(determinant) > 1e-14 * (abs(a * d) + abs(b * c)):
            return False
        inverse[i, 0], inverse[i, 1] = d / determinant, -b / determinant
        inverse[i, 2], inverse[i, 3] = -c / determinant, a / determinant
    return True


@nb.njit(cache=True, nogil=True, error_model="numpy")
def substitute(pattern: Pattern, factors: Factors, x: FloatArray) -> None:
    """Solve in place; x is (bus, 2)."""
    lower, upper, inverse = factors.lower, factors.upper, factors.diagonal_inverse
    n = pattern.y_ptr.size - 1
    for i in range(n):
        s, t = x[i, 0], x[i, 1]
        for p in range(pattern.l_ptr[i], pattern.l_ptr[i + 1]):
            k = pattern.l_column[p]
            s -= lower[p, 0] * x[k, 0] + lower[p, 1] * x[k, 1]
            t -= lower[p, 2] * x[k, 0] + lower[p, 3] * x[k, 1]
        x[i, 0], x[i, 1] = s, t
    for i in range(n - 1, -1, -1):
        s, t = x[i, 0], x[i, 1]
        for p in range(pattern.u_ptr[i], pattern.u_ptr[i + 1]):
            k = pattern.u_column[p]
            s -= upper[p, 0] * x[k, 0] + upper[p, 1] * x[k, 1]
            t -= upper[p, 2] * x[k, 0] + upper[p, 3] * x[k, 1]
        x[i, 0] = inverse[i, 0] * s + inverse[i, 1] * t
        x[i, 1] = inverse[i, 2] * s + inverse[i, 3] * t
