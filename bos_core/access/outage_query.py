"""What becomes of a version when elements are lost: the islands that are left, and what loses its supply.

Buses hang together by devices in service with two terminals or more and by closed switches between buses. An
HVDC line joins no islands: each end is a part of its own AC network. The graph says what an element contains and
what the elements are; what hangs together in the whole network is found in the columns of the version's files.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bos_core.access.question import Answer, Plan, PlanStep, Steps, carry_out, check_kind, kinds
from bos_core.access.scenario_data import ScenarioReader
from bos_core.grid.model import BoolArray, IntArray
from bos_core.index.graph import Element
from bos_core.objects.errors import OptionError, raise_if_any
from bos_core.objects.ontology import TABLES

if TYPE_CHECKING:
    from bos_core.access.ontology_query import Ontology

_HERE = "this process"
_STATES = tuple(name for name, schema in TABLES.items() if "in_service" in {c.name for c in schema.columns})
_CAPACITY = {"unit": "p_mw_max", "storage": "p_discharge_mw_max", "hvdc": "p_mw_max"}
_POWER = ("load", "unit", "storage", "hvdc")
_MW = {"unit": "MW"}


@dataclass(frozen=True, eq=False)
class OutageAnswer:
    """What an outage does.

    Attributes
    ----------
    islands : pa.Table
        A row an island that is left: its number, buses, how many of these are cut off, loads and units there.
        Island 1 holds most of what hung together in the largest island before; a bus is cut off when it was part
        of that and is not in island 1.
    impact : pa.Table
        A row a kind of element that loses its supply: how many, p_mw of the snapshot, and capacity.
    plan : Plan
    """

    islands: pa.Table
    impact: pa.Table
    plan: Plan


@dataclass(frozen=True, eq=False)
class _Network:
    """Buses, devices and what joins them, in arrays.

    Attributes
    ----------
    buses, devices : pa.Array
        Ids of the buses in service, and of the devices in service that are connected to one of them.
    device, bus : (terminal,) int
        Closed terminals, by row of `devices` and `buses`.
    joins : (device,) bool
        Whether a device joins the AC networks at its terminals.
    coupled : (switch, 2) int
        Buses at both sides of the closed switches between buses.
    """

    buses: pa.Array
    devices: pa.Array
    device: IntArray
    bus: IntArray
    joins: BoolArray
    coupled: IntArray

    def islands(self) -> IntArray:
        """Return the number of every bus's island, (bus,)."""
        n = len(self.buses)
        links = self.joins[self.device]
        first = np.concatenate([n + self.device[links], self.coupled[:, 0]])
        second = np.concatenate([self.bus[links], self.coupled[:, 1]])
        matrix = coo_array((np.ones(first.size, np.int8), (first, second)), shape=(n + len(self.devices),) * 2)
        return np.unique(connected_components(matrix, directed=False)[1][:n], return_inverse=True)[1]

    def supplied_by(self, buses: BoolArray) -> BoolArray:
        """Return which devices have a closed terminal at one of these buses (mask), (device,)."""
        return np.bincount(self.device[buses[self.bus]], minlength=len(self.devices)) > 0

    def count(self, ids: pa.ChunkedArray, number: IntArray) -> IntArray:
        """Return how many of these devices are in each island, (island,); number: (bus,) counted from 1."""
        wanted = pc.is_in(self.devices, ids.combine_chunks()).to_numpy(zero_copy_only=False)
        return np.bincount(number[self.bus[wanted[self.device]]], minlength=number.max(initial=0) + 1)[1:]


@dataclass
class _Found:
    """What the steps have found so far.

    out, open: ids of elements out of service and of open switches. island_of: number of the island in which a bus
    or device is left. cut_off: elements by kind, power and rows of these too.
    """

    out: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    switches: pa.Table = field(default_factory=TABLES["switch"].empty)
    lost: set[str] = field(default_factory=set)
    islands: pa.Table = field(default_factory=lambda: pa.table({}))
    cut_off_ids: set[str] = field(default_factory=set)
    island_of: dict[str, int] = field(default_factory=dict)
    cut_off: dict[str, list[Element]] = field(default_factory=dict)
    power: dict[str, dict[str, float]] = field(default_factory=dict)
    rows: dict[str, pa.Table] = field(default_factory=dict)


@dataclass(frozen=True)
class OutageQuery:
    """The outage of some elements; `plan` says how it is looked into, `run` does it.

    A station, region or system is lost with all that it contains, a bus with everything connected to it alone.
    """

    ontology: Ontology
    lost: tuple[Element, ...]

    def plan(self) -> Plan:
        """Return how the question would be answered, without asking."""
        return Plan(tuple(step for step, _ in self._steps()), self.ontology.notes)

    def run(self) -> OutageAnswer:
        """Return the islands that are left and what loses its supply."""
        found = _Found()
        steps = carry_out(self._steps(), found)
        return OutageAnswer(
            found.islands, _impact(kinds(self.ontology.reader.ontology), found), Plan(steps, self.ontology.notes)
        )

    def _steps(self) -> Steps[_Found]:
        capacities = ", ".join(f"{column} of {kind}" for kind, column in _CAPACITY.items())
        return [
            *find_cut_off(self.ontology, self.lost),
            (PlanStep("files", f"p_mw of {', '.join(_POWER)} that lose their supply"), self._powers),
            (PlanStep(self.ontology.source_of("unit"), f"{capacities} for these ids"), self._capacities),
        ]

    def _powers(self, found: _Found) -> int:
        return sum(_read_power(self.ontology, found, kind) for kind in _POWER)

    def _capacities(self, found: _Found) -> int:
        for kind, column in _CAPACITY.items():
            ids = [element.uuid for element in found.cut_off.get(kind, ())]
            found.rows[kind] = self.ontology.attributes(kind, ids, [column])
        return sum(len(rows) for rows in found.rows.values())


@dataclass(frozen=True)
class CutOffQuery:
    """The elements of a kind that an outage deprives of their supply."""

    ontology: Ontology
    lost: tuple[Element, ...]
    kind: str
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        raise_if_any(check_kind(self.ontology.reader.ontology, self.kind, self.columns), OptionError)

    def select(self, *columns: str) -> CutOffQuery:
        """Ask for these columns of the kind's table too."""
        return replace(self, columns=columns)

    def plan(self) -> Plan:
        """Return how the question would be answered, without asking."""
        return Plan(tuple(step for step, _ in self._steps()), self.ontology.notes)

    def run(self) -> Answer:
        """Answer the question.

        Returns
        -------
        Answer
            Rows of id, name, island (null: lost itself), p_mw of the snapshot (of kinds that have power) and the
            columns selected, in order of the names.
        """
        found = _Found()
        steps = carry_out(self._steps(), found)
        return Answer(self._table(found), Plan(steps, self.ontology.notes))

    def _steps(self) -> Steps[_Found]:
        steps = find_cut_off(self.ontology, self.lost)
        if self.kind in _POWER:
            action = f"p_mw of {self.kind}_state for these ids"
            steps.append((PlanStep("files", action), lambda found: _read_power(self.ontology, found, self.kind)))
        columns = ", ".join(self.columns) or "no further columns"
        source = self.ontology.source_of(self.kind)
        return [*steps, (PlanStep(source, f"rows of {self.kind} for these ids: {columns}"), self._looked_up)]

    def _looked_up(self, found: _Found) -> int:
        ids = [element.uuid for element in found.cut_off.get(self.kind, ())]
        found.rows[self.kind] = self.ontology.attributes(self.kind, ids, self.columns)
        return len(found.rows[self.kind])

    def _table(self, found: _Found) -> pa.Table:
        order = sorted(found.cut_off.get(self.kind, ()), key=lambda e: (e.name, e.uuid))
        ids = [element.uuid for element in order]
        table = pa.table({
            "id": pa.array(ids, pa.string()),
            "name": pa.array([element.name for element in order], pa.string()),
            "island": pa.array([found.island_of.get(uuid) for uuid in ids], pa.int64()),
        })  # fmt: skip
        if self.kind in _POWER:
            power = pa.array([found.power[self.kind].get(uuid) for uuid in ids], pa.float64())
            table = table.append_column(pa.field("p_mw", pa.float64(), metadata=_MW), power)
        rows = found.rows[self.kind]
        place = pc.index_in(table["id"], value_set=rows["id"])
        for name in self.columns:
            if name not in table.column_names:
                table = table.append_column(rows.schema.field(name).with_nullable(True), rows[name].take(place))
        return table


def find_cut_off(ontology: Ontology, lost: Sequence[Element]) -> Steps[_Found]:
    """Return the steps that find the islands after an outage, and what loses its supply.

    What hangs together in a whole network is read from the files in columns: no graph hands out so much so fast.
    """
    graph, reader, engine = ontology.graph, ontology.reader, ontology.graph.store.engine
    names = ", ".join(f"{element.kind} {element.name}" for element in lost) or "any outage"

    def contents(found: _Found) -> int:
        uuids = [element.uuid for element in lost]
        found.lost = {*uuids, *(element.uuid for element in graph.contents(uuids))}
        return len(found.lost)

    def states(found: _Found) -> int:
        for name in _STATES:
            found.out.update(reader.table(name).filter(~pc.field("in_service"))["id"].to_pylist())
        found.open.update(reader.table("switch_state").filter(~pc.field("closed"))["id"].to_pylist())
        return len(found.out) + len(found.open)

    def switches(found: _Found) -> int:
        found.switches = ontology.attributes("switch", None, ["bus", "element"])
        return len(found.switches)

    def split(found: _Found) -> int:
        _split(reader, found)
        return int(found.islands.num_rows)

    def unsupplied(found: _Found) -> int:
        for element in graph.elements(found.cut_off_ids):
            found.cut_off.setdefault(element.kind, []).append(element)
        return len(found.cut_off_ids)

    return [
        (PlanStep(engine, f"what is lost with {names}"), contents),
        (PlanStep("files", "elements out of service, open switches"), states),
        (PlanStep(ontology.source_of("switch"), "rows of switch: bus, element"), switches),
        (PlanStep("files", f"terminals of all devices; islands without {names}"), split),
        (PlanStep(engine, "kind and name of what loses its supply"), unsupplied),
    ]


def _network(reader: ScenarioReader, found: _Found, lost: Collection[str]) -> _Network:
    """Return the network without what is lost, out of service or switched off."""
    gone = pa.array(sorted(found.out.union(lost)), pa.string())
    unusable = pa.array(sorted(found.out.union(found.open, lost)), pa.string())
    buses = _without(reader.table("bus"), "id", gone)["id"].combine_chunks()
    off = found.switches.filter(pc.is_in(found.switches["id"], unusable))
    connects = reader.table("connects")
    terminals = _without(connects.filter(pc.is_in(connects["bus"], buses)), "device", gone)
    opened = pc.is_in(_pairs(terminals["device"], terminals["bus"]), _pairs(off["element"], off["bus"]))
    terminals = terminals.filter(pc.invert(opened))
    device = terminals["device"].combine_chunks().dictionary_encode()
    on = _without(found.switches, "id", unusable)
    on = on.filter(pc.and_(pc.is_in(on["bus"], buses), pc.is_in(on["element"], buses)))
    hvdc = reader.table("hvdc")["id"].combine_chunks()
    return _Network(
        buses,
        device.dictionary,
        _rows(device.indices),
        _rows(pc.index_in(terminals["bus"], buses)),
        ~pc.is_in(device.dictionary, hvdc).to_numpy(zero_copy_only=False),
        np.stack([_rows(pc.index_in(on[side], buses)) for side in ("bus", "element")], axis=1),
    )


def _without(table: pa.Table, column: str, ids: pa.Array) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table[column], ids)))


def _pairs(device: pa.ChunkedArray, bus: pa.ChunkedArray) -> pa.Array:
    return pc.binary_join_element_wise(device, bus, ":").combine_chunks()


def _rows(values: pa.Array | pa.ChunkedArray) -> IntArray:
    return np.asarray(values.to_numpy(zero_copy_only=False), np.int64)


def _split(reader: ScenarioReader, found: _Found) -> None:
    """Find the islands that are left, and the ids of what is supplied by the largest before but not by island 1.

    Island 1 is that with most of the largest one's buses; equals are ordered by size and by the row of a bus.
    """
    before, after = _network(reader, found, ()), _network(reader, found, found.lost)
    label = before.islands()
    was_main = label == np.bincount(label).argmax() if label.size else np.zeros(0, np.bool_)
    kept = pc.is_in(after.buses, before.buses.filter(pa.array(was_main))).to_numpy(zero_copy_only=False)
    label = after.islands()
    size, of_main = np.bincount(label), np.bincount(label[kept], minlength=label.max(initial=-1) + 1)
    order = np.lexsort((-size, -of_main))
    number = np.empty(size.size, np.int64)
    number[order] = np.arange(1, size.size + 1)
    number_of_bus = number[label]
    main = number_of_bus == 1
    found.islands = pa.table({
        "island": np.arange(1, size.size + 1),
        "buses": size[order],
        "cut_off": np.where(np.arange(size.size) == 0, 0, of_main[order]),
        **{f"{kind}s": after.count(reader.table(kind)["id"], number_of_bus) for kind in ("load", "unit")},
    })  # fmt: skip
    found.cut_off_ids = _supplied(reader, before, was_main) - _supplied(reader, after, main)
    cut_off = pa.array(sorted(found.cut_off_ids), pa.string())
    at_device = after.devices.take(pa.array(after.device))
    for ids, numbers in ((after.buses, number_of_bus), (at_device, number_of_bus[after.bus])):
        chosen = pc.is_in(ids, cut_off)
        islands = pa.array(numbers).filter(chosen)
        found.island_of.update(zip(ids.filter(chosen).to_pylist(), islands.to_pylist(), strict=True))


def _supplied(reader: ScenarioReader, network: _Network, buses: BoolArray) -> set[str]:
    """Return some buses (mask), the devices with a closed terminal there, and stations, regions, system above."""
    at = network.buses.filter(pa.array(buses))
    found = {*at.to_pylist(), *network.devices.filter(pa.array(network.supplied_by(buses))).to_pylist()}
    contains, level = reader.table("contains"), at
    while len(level):
        parents = contains["parent"].filter(pc.is_in(contains["child"], level))
        level = parents.combine_chunks().unique()
        found.update(level.to_pylist())
    return found


def _read_power(ontology: Ontology, found: _Found, kind: str) -> int:
    """Read the power of the snapshot of the elements of a kind that lose their supply."""
    state = ontology.reader.table(f"{kind}_state")
    ids = pa.array([element.uuid for element in found.cut_off.get(kind, ())], pa.string())
    rows = state.filter(pc.is_in(state["id"], ids))
    found.power[kind] = dict(zip(rows["id"].to_pylist(), rows["p_mw"].to_pylist(), strict=True))
    return len(rows)


def _impact(order: Sequence[str], found: _Found) -> pa.Table:
    def row(kind: str) -> dict[str, Any]:
        rows, column = found.rows.get(kind), _CAPACITY.get(kind)
        return {
            "kind": kind,
            "elements": len(found.cut_off[kind]),
            "p_mw": sum(found.power[kind].values()) if kind in found.power else None,
            "capacity_mw": pc.sum(rows[column]).as_py() if rows is not None else None,
        }

    schema = pa.schema([
        pa.field("kind", pa.string()), pa.field("elements", pa.int64()),
        pa.field("p_mw", pa.float64(), metadata=_MW), pa.field("capacity_mw", pa.float64(), metadata=_MW),
    ])  # fmt: skip
    return pa.Table.from_pylist([row(kind) for kind in order if kind in found.cut_off], schema=schema)
