"""Where buses are drawn: their coordinates, or a schematic when these are missing.

The schematic is a pivot multidimensional scaling of hop distances (Brandes & Pich, Graph Drawing 2006), which is
deterministic and fast, made readable on small networks by a few rounds of Fruchterman & Reingold's forces (1991).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.report.data import Network

_PIVOTS = 40
_FORCES_MAX_BUSES = 1200
_ROUNDS = 60


@dataclass(frozen=True, eq=False)
class Layout:
    """Positions of buses.

    Attributes
    ----------
    x, y : (bus,)
        NaN for buses without a place on a map.
    geographic : bool
        Longitude and latitude in degrees, else a schematic without scale.
    aspect : float
        Length of a unit of y over a unit of x.
    """

    x: FloatArray
    y: FloatArray
    geographic: bool
    aspect: float


def place(network: Network) -> Layout:
    """Return a map when at least half of the buses have coordinates, a schematic otherwise."""
    known = np.isfinite(network.longitude_deg) & np.isfinite(network.latitude_deg)
    apart = known.any() and (np.ptp(network.longitude_deg[known]) > 0 or np.ptp(network.latitude_deg[known]) > 0)
    if apart and known.mean() >= 0.5:
        x = np.where(known, network.longitude_deg, np.nan)
        y = np.where(known, network.latitude_deg, np.nan)
        middle = np.deg2rad(float(np.nanmean(y)))
        return Layout(x, y, True, float(1 / max(np.cos(middle), 0.1)))
    x, y = schematic(network.bus_name.size, network.from_bus, network.to_bus)
    return Layout(x, y, False, 1.0)


def schematic(buses: int, from_bus: IntArray, to_bus: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return positions in the unit square from the topology alone."""
    if buses < 3:
        return np.linspace(0.0, 1.0, buses), np.full(buses, 0.5)
    start, neighbour = _adjacency(buses, from_bus, to_bus)
    distance = _pivot_distances(buses, start, neighbour)
    squared = distance**2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean()
    _, vectors = np.linalg.eigh(np.einsum("bi,bj->ij", centred, centred))
    # the sign of an eigenvector is free: fix it, so that the drawing is the same everywhere
    axes = vectors[:, [-1, -2]] if vectors.shape[1] > 1 else np.repeat(vectors, 2, axis=1)
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    place_xy = np.einsum("bi,ia->ba", centred, axes)
    # a golden-angle nudge separates buses with equal distances to all pivots
    angle = np.arange(buses) * 2.399963
    place_xy = _unit(place_xy) + 0.01 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if buses <= _FORCES_MAX_BUSES:
        place_xy = _forces(place_xy, from_bus, to_bus)
    place_xy = _unit(place_xy)
    return place_xy[:, 0], place_xy[:, 1]


def _adjacency(buses: int, from_bus: IntArray, to_bus: IntArray) -> tuple[IntArray, IntArray]:
    ends = np.concatenate([from_bus, to_bus])
    others = np.concatenate([to_bus, from_bus])
    order = np.argsort(ends, kind="stable")
    start = np.zeros(buses + 1, np.int64)
    np.cumsum(np.bincount(ends, minlength=buses), out=start[1:])
    return start, others[order]


def _pivot_distances(buses: int, start: IntArray, neighbour: IntArray) -> FloatArray:
    """Hop distances to pivots that are far from each other, (bus, pivot)."""
    columns: list[FloatArray] = []
    nearest = np.full(buses, np.inf)
    pivot = 0
    for _ in range(min(_PIVOTS, buses)):
        hops = _hops(buses, start, neighbour, pivot)
        reached = np.isfinite(hops)
        hops[~reached] = hops[reached].max() + 3
        columns.append(hops)
        nearest = np.minimum(nearest, hops)
        pivot = int(nearest.argmax())
    return np.stack(columns, axis=1)


def _hops(buses: int, start: IntArray, neighbour: IntArray, source: int) -> FloatArray:
    hops = np.full(buses, np.inf)
    hops[source] = 0
    front: IntArray = np.array([source], np.int64)
    level = 0
    while front.size:
        level += 1
        around = np.concatenate([neighbour[start[b] : start[b + 1]] for b in front])
        front = np.unique(around[np.isinf(hops[around])])
        hops[front] = level
    return hops


def _forces(place_xy: FloatArray, from_bus: IntArray, to_bus: IntArray) -> FloatArray:
    """Fruchterman-Reingold rounds with cooling."""
    buses = len(place_xy)
    xy = place_xy.copy()
    ideal = 1.0 / np.sqrt(buses)
    apart: BoolArray = ~np.eye(buses, dtype=bool)
    for temperature in np.linspace(0.05, 0.002, _ROUNDS):
        delta = xy[:, None, :] - xy[None, :, :]
        square = np.maximum((delta**2).sum(axis=2), 1e-9)
        force = (delta * (ideal**2 / square * apart)[:, :, None]).sum(axis=1)
        span = xy[from_bus] - xy[to_bus]
        pull = span * (np.sqrt((span**2).sum(axis=1)) / ideal)[:, None]
        np.add.at(force, from_bus, -pull)
        np.add.at(force, to_bus, pull)
        size = np.maximum(np.sqrt((force**2).sum(axis=1)), 1e-12)
        xy += force * (np.minimum(size, temperature) / size)[:, None]
    return xy


def _unit(xy: FloatArray) -> FloatArray:
    low, high = xy.min(axis=0), xy.max(axis=0)
    return np.asarray((xy - low) / max(float((high - low).max()), 1e-12))
