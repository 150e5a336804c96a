"""The DC network: power transfer and line outage distribution factors, DC flows.

Lossless linear model, angles in rad, voltages 1 p.u.: ``flow = b (va_from - va_to - shift)`` with
``b = 1 / (x ratio)`` (Stott, Jardim & Alsac 2009, "DC power flow revisited").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numba import njit
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import SuperLU, splu

from bos_core.grid.model import BoolArray, BranchKind, FloatArray, IntArray, Network


def susceptance(network: Network) -> FloatArray:
    """Return the DC susceptance of each branch in p.u., shape (branch,).

    An equivalent branch may be mostly resistive; it counts with the imaginary part of its admittance.

    Raises
    ------
    ValueError
        A branch has no reactance; the importer merges such buses.
    """
    dead = np.flatnonzero(network.x_pu == 0.0)
    if dead.size:
        names = ", ".join(network.branch_name[dead[:5]])
        raise ValueError(f"branch {names}: x_pu is 0; merge its buses or give x_pu > 0")
    equivalent = network.branch_kind == BranchKind.EQUIVALENT
    square = network.x_pu**2 + np.where(equivalent, network.r_pu**2, 0.0)
    b_pu: FloatArray = network.x_pu / square / network.ratio
    return b_pu


def incidence(network: Network) -> sp.csr_matrix:
    """Return the branch-bus incidence matrix: +1 at the from bus, -1 at the to bus."""
    rows = np.arange(network.n_branch)
    ones = np.ones(network.n_branch)
    return sp.csr_matrix(
        (np.r_[ones, -ones], (np.r_[rows, rows], np.r_[network.from_bus, network.to_bus])),
        shape=(network.n_branch, network.n_bus),
    )


@dataclass(frozen=True, eq=False)
class DcModel:
    """A network factorized once for many DC solutions.

    Attributes
    ----------
    network : Network
    b_pu : (branch,)
    incidence : sparse (branch, bus)
    """

    network: Network
    b_pu: FloatArray
    incidence: sp.csr_matrix

    @classmethod
    def of(cls, network: Network) -> DcModel:
        """Prepare the model.

        Raises
        ------
        ValueError
            The network has a branch without reactance, or buses that no branch connects to the slack.
        """
        matrix = incidence(network)
        n_island, island = connected_components(abs(matrix.T) @ abs(matrix), directed=False)
        if n_island > 1:
            lost = np.flatnonzero(island != island[network.slack])
            names = ", ".join(network.bus_name[lost[:5]])
            raise ValueError(f"{lost.size} buses are not connected to the slack ({names}); keep one island")
        return cls(network, susceptance(network), matrix)

    @cached_property
    def kept(self) -> IntArray:
        """Buses other than the slack."""
        return np.delete(np.arange(self.network.n_bus), self.network.slack)

    @cached_property
    def factor(self) -> SuperLU:
        """LU of the reduced susceptance matrix."""
        matrix = (self.incidence.T @ sp.diags(self.b_pu) @ self.incidence).tocsc()
        return splu(matrix[self.kept][:, self.kept], permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})

    def angles(self, injection_pu: FloatArray) -> FloatArray:
        """Return bus angles in rad, (..., bus), for injections (..., bus); the slack takes the remainder."""
        stacked = np.atleast_2d(injection_pu) + self.shift_injection_pu
        va = np.zeros_like(stacked)
        va[:, self.kept] = self.factor.solve(np.ascontiguousarray(stacked[:, self.kept].T)).T
        return va.reshape(injection_pu.shape)

    @cached_property
    def shift_injection_pu(self) -> FloatArray:
        """Bus injections that stand for the phase shifters, (bus,)."""
        return np.asarray(self.incidence.T @ (self.b_pu * self.network.shift_rad))

    def flow_mw(self, injection_mw: FloatArray) -> FloatArray:
        """Return branch flows from►to in MW, (..., branch), for injections (..., bus) in MW."""
        network = self.network
        va = self.angles(injection_mw / network.base_mva)
        across = va[..., network.from_bus] - va[..., network.to_bus] - network.shift_rad
        return np.asarray(across * self.b_pu * network.base_mva)

    def rows(self, branches: IntArray) -> FloatArray:
        """Return the PTDF rows of some branches, (chosen, bus)."""
        demand = (sp.diags(self.b_pu[branches]) @ self.incidence[branches]).toarray()
        rows = np.zeros((branches.size, self.network.n_bus))
        rows[:, self.kept] = self.factor.solve(np.ascontiguousarray(demand[:, self.kept].T), trans="T").T
        return rows


def ptdf(network: Network) -> FloatArray:
    """Return the power transfer distribution factors, (branch, bus), withdrawal at the slack.

    MW of flow from►to per MW injected at a bus. Flows of the whole grid are
    ``injection_mw @ ptdf.T + phase_shift_flow(network)``. Dense: for large networks take `DcModel.rows`.

    Raises
    ------
    ValueError
        See `DcModel.of`.
    """
    model = DcModel.of(network)
    reactance = np.zeros((network.n_bus, network.n_bus))
    inner = model.factor.solve(np.eye(model.kept.size))
    reactance[np.ix_(model.kept, model.kept)] = inner
    return np.asarray((sp.diags(model.b_pu) @ model.incidence) @ reactance)


def phase_shift_flow(network: Network) -> FloatArray:
    """Return the flows in MW that the phase shifters drive without any injection, (branch,)."""
    return DcModel.of(network).flow_mw(np.zeros(network.n_bus))


def dc_flow(network: Network, injection_mw: FloatArray) -> FloatArray:
    """Return DC flows from►to in MW, (..., branch), for bus injections (..., bus); the slack balances."""
    return DcModel.of(network).flow_mw(injection_mw)


@njit(cache=True)
def _bridges(start: IntArray, neighbour: IntArray, edge: IntArray, n_edge: int) -> BoolArray:
    """Tarjan's bridges by an explicit stack over the adjacency of a multigraph."""
    n = start.size - 1
    bridge = np.zeros(n_edge, np.bool_)
    order = np.full(n, -1, np.int64)
    low = np.zeros(n, np.int64)
    stack = np.zeros(n, np.int64)
    via = np.full(n, -1, np.int64)
    place = start[:-1].copy()
    clock = 0
    for root in range(n):
        if order[root] >= 0:
            continue
        depth = 0
        stack[0] = root
        order[root] = low[root] = clock
        clock += 1
        while depth >= 0:
            bus = stack[depth]
            if place[bus] < start[bus + 1]:
                k = place[bus]
                place[bus] += 1
                other = neighbour[k]
                if edge[k] == via[bus]:
                    continue
                if order[other] < 0:
                    order[other] = low[other] = clock
                    clock += 1
                    via[other] = edge[k]
                    depth += 1
                    stack[depth] = other
                else:
                    low[bus] = min(low[bus], order[other])
            else:
                depth -= 1
                if depth >= 0:
                    parent = stack[depth]
                    low[parent] = min(low[parent], low[bus])
                    if low[bus] > order[parent]:
                        bridge[via[bus]] = True
    return bridge


def bridges(network: Network) -> BoolArray:
    """Return which branches split the network when they trip, (branch,); Tarjan 1974."""
    n_branch = network.n_branch
    ends = np.r_[network.from_bus, network.to_bus]
    others = np.r_[network.to_bus, network.from_bus]
    number = np.r_[np.arange(n_branch), np.arange(n_branch)]
    order = np.argsort(ends, kind="stable")
    start = np.searchsorted(ends[order], np.arange(network.n_bus + 1))
    return np.asarray(_bridges(start, others[order], number[order], n_branch))


def lodf(ptdf_branch_bus: FloatArray, network: Network) -> tuple[FloatArray, BoolArray]:
    """Return line outage distribution factors and the bridges.

    Parameters
    ----------
    ptdf_branch_bus : (branch, bus)
        From `ptdf`.
    network : Network

    Returns
    -------
    lodf : (branch monitored, branch out)
        Flow after the outage = ``flow + lodf[:, k] * flow[k]``; -1 on the diagonal. The columns of bridges are
        zero off the diagonal: their outage islands the grid and has no such factor.
    bridge : (branch,) bool
    """
    transfer = ptdf_branch_bus[:, network.from_bus] - ptdf_branch_bus[:, network.to_bus]
    bridge = bridges(network)
    remaining = 1.0 - np.diag(transfer)
    factors = transfer / np.where(bridge | (remaining == 0.0), 1.0, remaining)
    factors[:, bridge] = 0.0
    np.fill_diagonal(factors, -1.0)
    return factors, bridge


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def most_loading(
    first: IntArray,
    outage: IntArray,
    factor: FloatArray,
    flow: FloatArray,
    per_flow: FloatArray,
    least: FloatArray,
    count: int,
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the outages that load each branch most, above its least loading.

    Parameters
    ----------
    first, outage, factor : (branch + 1,) int, (factor,) int, (factor,)
        Outage distribution factors as compressed rows: those of branch m are `first[m]` to `first[m + 1]`.
    flow, per_flow, least : (branch,)
        Flow before any outage, loading for a flow of 1 (0: not looked at), loading that counts.
    count : int
        Most outages a branch.

    Returns
    -------
    outage, branch, loading : (found,)
    """
    n_branch = per_flow.size
    room = 0
    for m in range(n_branch):
        room += min(count, first[m + 1] - first[m])
    found_outage, found_branch = np.empty(room, np.int64), np.empty(room, np.int64)
    found_loading = np.empty(room)
    end = 0
    for m in range(n_branch):
        if per_flow[m] == 0.0 or count == 0:
            continue
        start, lowest = end, least[m]
        for k in range(first[m], first[m + 1]):
            loading = abs(flow[m] + factor[k] * flow[outage[k]]) * per_flow[m]
            if loading <= lowest:
                continue
            if end - start == count:
                place = start + int(np.argmin(found_loading[start:end]))
            else:
                place, end = end, end + 1
            found_outage[place], found_branch[place], found_loading[place] = outage[k], m, loading
            if end - start == count:
                lowest = found_loading[start:end].min()
    return found_outage[:end], found_branch[:end], found_loading[:end]
