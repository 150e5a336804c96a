"""Which buses are one node, which branches carry current, which nodes hang together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from bos_core.grid.branch_models import Branches, BranchReader, joined
from bos_core.grid.columns import Columns, in_service_of
from bos_core.grid.model import BoolArray, BranchKind, ComplexArray, FloatArray, IntArray, StrArray


@dataclass(frozen=True, eq=False)
class Topology:
    """Everything about buses and branches before the island of the slack is cut out."""

    reader: BranchReader
    node_id: StrArray
    node_kv: FloatArray
    representative: IntArray
    """(node,) the node that stands for it; itself where not merged."""
    branches: Branches
    y_shunt: ComplexArray
    """(node,) admittance of open-ended branches and star points, at the representative."""
    live: BoolArray
    island: IntArray
    """(node,) label of its island."""


def read_topology(columns: Columns) -> Topology:
    """Merge buses, open ends, fold what dangles, and label the islands."""
    reader = BranchReader(columns)
    n_bus = reader.bus_id.size
    n = n_bus + reader.star_id.size
    high = reader.buses(reader.tables.text("transformer3", "high_bus"))
    node_kv = np.concatenate([reader.base_kv, reader.kv(high)])
    resistive, left, right, opened, opened_at = reader.switches()
    _, label = connected_components(
        sp.csr_matrix((np.ones(left.size), (left, right)), shape=(n, n)), directed=False
    )
    first = np.full(n, n)
    np.minimum.at(first, label, np.arange(n))
    representative = first[label]
    branches = joined([reader.lines(), reader.transformers(), *reader.windings(), reader.equivalents(), resistive])
    live = np.concatenate([reader.bus_live, np.ones(reader.star_id.size, bool)])
    branches = _open_ends(reader, branches, opened, opened_at, live)
    y_shunt = np.zeros(n, complex)
    branches, folded_at, folded = _fold(branches)
    np.add.at(y_shunt, representative[folded_at], folded)
    star, y_star = reader.star_shunts()
    np.add.at(y_shunt, star, y_star)
    branches = replace(
        branches, from_bus=representative[branches.from_bus], to_bus=representative[branches.to_bus]
    )
    branches, looped_at, looped = _fold_loops(branches)
    np.add.at(y_shunt, looped_at, looped)
    links = sp.csr_matrix((np.ones(branches.id.size), (branches.from_bus, branches.to_bus)), shape=(n, n))
    _, island = connected_components(links, directed=False)
    return Topology(
        reader,
        np.concatenate([reader.bus_id, reader.star_id]),
        node_kv,
        representative,
        branches,
        y_shunt,
        live,
        island[representative],
    )


def _open_ends(
    reader: BranchReader, branches: Branches, opened: StrArray, opened_at: IntArray, live: BoolArray
) -> Branches:
    """Mark the ends at open switches and at buses out of service; drop what is out of service altogether."""
    open_from, open_to = branches.open_from.copy(), branches.open_to.copy()
    if opened.size:
        wanted = set(opened.tolist())
        rows_of: dict[str, list[int]] = {}
        for row, item in enumerate(branches.id.tolist()):
            plain = item.partition(":")[0]
            if plain in wanted:
                rows_of.setdefault(plain, []).append(row)
        for item, bus in zip(opened.tolist(), opened_at.tolist(), strict=True):
            for row in rows_of.get(item, ()):
                # As pandapower: a switch at the to bus opens the to end, also where both ends are one bus.
                if branches.to_bus[row] == bus:
                    open_to[row] = True
                elif branches.from_bus[row] == bus:
                    open_from[row] = True
    known = (branches.from_bus >= 0) & (branches.to_bus >= 0)
    dead_from, dead_to = ~live[branches.from_bus] & ~open_from, ~live[branches.to_bus] & ~open_to
    lost = (branches.kind != BranchKind.LINE) & (dead_from | dead_to)
    open_from |= dead_from
    open_to |= dead_to
    keep = branches.in_service & known & ~lost & ~(open_from & open_to)
    return replace(branches, open_from=open_from, open_to=open_to).choose(keep)


def _fold(branches: Branches) -> tuple[Branches, IntArray, ComplexArray]:
    """Replace branches open at one end by a shunt at the other: (remaining branches, bus, admittance)."""
    dangling = branches.open_from | branches.open_to
    if not dangling.any():
        return branches, np.zeros(0, np.int64), np.zeros(0, complex)
    d = branches.choose(dangling)
    series = 1.0 / (d.r_pu + 1j * d.x_pu)
    y_from, y_to = d.g_from_pu + 1j * d.b_from_pu, d.g_to_pu + 1j * d.b_to_pu

    def behind(near: ComplexArray, far: ComplexArray) -> ComplexArray:
        total = series + far
        return np.asarray(near + np.where(total == 0, 0.0, series * far / np.where(total == 0, 1.0, total)))

    y = np.where(d.open_to, behind(y_from, y_to) / d.ratio**2, behind(y_to, y_from))
    return branches.choose(~dangling), np.where(d.open_to, d.from_bus, d.to_bus), y


def _fold_loops(branches: Branches) -> tuple[Branches, IntArray, ComplexArray]:
    """Replace branches from a node to itself by a shunt: (remaining branches, bus, admittance)."""
    loop = branches.from_bus == branches.to_bus
    d = branches.choose(loop)
    series = 1.0 / (d.r_pu + 1j * d.x_pu)
    turn = d.ratio * np.exp(1j * d.shift_rad)
    y = (series + d.g_from_pu + 1j * d.b_from_pu) / d.ratio**2 + series + d.g_to_pu + 1j * d.b_to_pu
    return branches.choose(~loop), d.from_bus, y - series / np.conj(turn) - series / turn


def slack_candidates(topology: Topology) -> IntArray:
    """Return the nodes marked as slack that have a voltage-controlling unit in service; in table order."""
    t = topology.reader.tables
    marked = np.zeros(topology.node_id.size, bool)
    rows = np.flatnonzero(t.flag("bus", "slack") & topology.reader.bus_live)
    marked[topology.representative[rows]] = True
    unit, bus = t.text("unit", "id"), topology.reader.buses(t.text("unit", "bus"))
    ready = in_service_of(t, "unit_state", unit) & t.flag("unit", "voltage_control") & (bus >= 0)
    held = np.zeros(topology.node_id.size, bool)
    held[topology.representative[bus[ready]]] = True
    ordered = topology.representative[rows]
    return np.asarray(list(dict.fromkeys(ordered[held[ordered]].tolist())), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Islands:
    """Islands of a grid, for validation.

    Attributes
    ----------
    bus : (bus of the table,) int
        Island of each bus; -1 where the bus is out of service.
    slack : (slack,) int
        Rows of the bus table that are angle references candidates, the reference first.
    """

    bus: IntArray
    slack: IntArray


def find_islands(columns: Columns) -> Islands:
    """Return the islands of the bus table and the buses that can be the angle reference."""
    topology = read_topology(columns)
    n_bus = topology.reader.bus_id.size
    island = np.where(topology.live, topology.island, -1)[:n_bus]
    return Islands(island, slack_candidates(topology))


def locate_buses(columns: Columns) -> IntArray:
    """Return the position in `Network` of every bus of the table, -1 where it is not energized.

    Merged buses share a position.
    """
    topology = read_topology(columns)
    where, _ = bus_positions(topology)
    return where[: topology.reader.bus_id.size]


def bus_positions(topology: Topology) -> tuple[IntArray, int]:
    """Return (position of every node or -1, position of the slack)."""
    slack = slack_candidates(topology)
    if not slack.size:
        raise ValueError("no bus is marked as slack with a voltage-controlling unit in service; mark one")
    own = topology.representative == np.arange(topology.node_id.size)
    kept = own & topology.live & (topology.island == topology.island[slack[0]])
    place = np.where(kept, np.cumsum(kept) - 1, -1)
    return np.where(topology.live, place[topology.representative], -1), int(place[slack[0]])
