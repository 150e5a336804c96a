"""Bridges: branches whose outage cuts the network in two, and what they cut off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba as nb
import numpy as np

from bos_core.grid.model import BoolArray, IntArray, Network


@dataclass(frozen=True, eq=False)
class CutOffs:
    """The far side of every bridge, seen from the slack.

    Attributes
    ----------
    order : (bus,) int
        Buses in the order of a depth-first walk from the slack; the far side of a bridge is a run of it.
    first, last : (branch,) int
        The run (last exclusive); empty for branches that are no bridges.
    """

    order: IntArray
    first: IntArray
    last: IntArray

    @property
    def is_bridge(self) -> BoolArray:
        """(branch,) whether the outage of a branch cuts the network."""
        bridge: BoolArray = self.last > self.first
        return bridge

    def far_side(self, branch: int) -> IntArray:
        """Return the buses that the outage of a branch cuts off from the slack; none if it is no bridge."""
        return self.order[self.first[branch] : self.last[branch]]


@lru_cache(maxsize=4)
def find_cut_offs(network: Network) -> CutOffs:
    """Find all bridges of a connected network, what each cuts off (Tarjan 1974); kept for the last networks."""
    n, m = network.n_bus, network.n_branch
    ends = np.concatenate([network.from_bus, network.to_bus])
    by_bus = np.argsort(ends, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=n))])
    neighbour = np.concatenate([network.to_bus, network.from_bus])[by_bus]
    edge = np.concatenate([np.arange(m), np.arange(m)])[by_bus]
    return CutOffs(*_walk(start, neighbour, edge, m, network.slack))


@nb.njit(cache=True)
def _walk(
    start: IntArray, neighbour: IntArray, edge: IntArray, n_edge: int, root: int
) -> tuple[IntArray, IntArray, IntArray]:
    n = start.size - 1
    order = np.empty(n, np.int64)
    number = np.full(n, -1, np.int64)
    low = np.zeros(n, np.int64)
    arrived_by = np.full(n, -1, np.int64)
    place = start[:-1].copy()
    first, last = np.zeros(n_edge, np.int64), np.zeros(n_edge, np.int64)
    stack = np.empty(n, np.int64)
    stack[0], depth, count = root, 1, 1
    order[0], number[root], low[root] = root, 0, 0
    while depth > 0:
        bus = stack[depth - 1]
        if place[bus] < start[bus + 1]:
            other, by = neighbour[place[bus]], edge[place[bus]]
            place[bus] += 1
            if by == arrived_by[bus]:
                continue
            if number[other] >= 0:
                low[bus] = min(low[bus], number[other])
                continue
            order[count], number[other], low[other] = other, count, count
            arrived_by[other] = by
            stack[depth] = other
            count += 1
            depth += 1
            continue
        depth -= 1
        if depth > 0:
            before = stack[depth - 1]
            low[before] = min(low[before], low[bus])
            if low[bus] > number[before]:
                first[arrived_by[bus]], last[arrived_by[bus]] = number[bus], count
    return order[:count], first, last
