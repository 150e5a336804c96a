"""What becomes of a version when elements are lost: the islands that are left, and what loses its supply.

Buses hang together by devices in service with two terminals or more and by closed switches between buses. An
HVDC line joins no islands: each end is a part of its own AC network. The graph says what is connected and
contained; the tables say what is out of service, which switches are open, and what the elements are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bos_core.access.question import KINDS, Answer, Plan, PlanStep, Steps, carry_out, check_kind
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


@dataclass
class _Found:
    """What the steps have found so far.

    out, open: elements out of service, open switches. links: terminals as (device, bus). cut_off: by kind.
    """

    out: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    switches: list[dict[str, str]] = field(default_factory=list)
    elements: dict[str, Element] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    links: list[tuple[str, str]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    islands: list[list[str]] = field(default_factory=list)
    before: set[str] = field(default_factory=set)
    cut_off: dict[str, list[Element]] = field(default_factory=dict)
    power: dict[str, dict[str, float]] = field(default_factory=dict)
    rows: dict[str, pa.Table] = field(default_factory=dict)
    island_of: dict[str, int] = field(default_factory=dict)


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
        return OutageAnswer(_islands(found), _impact(found), Plan(steps, self.ontology.notes))

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
        raise_if_any(check_kind(self.kind, self.columns), OptionError)

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
    """Return the steps that find the islands after an outage, and what loses its supply."""
    graph, reader, engine = ontology.graph, ontology.reader, ontology.graph.store.engine
    names = ", ".join(f"{element.kind} {element.name}" for element in lost) or "any outage"

    def states(found: _Found) -> int:
        for name in _STATES:
            found.out.update(reader.table(name).filter(~pc.field("in_service"))["id"].to_pylist())
        found.open.update(reader.table("switch_state").filter(~pc.field("closed"))["id"].to_pylist())
        return len(found.out) + len(found.open)

    def switches(found: _Found) -> int:
        found.switches = ontology.attributes("switch", None, ["bus", "element"]).to_pylist()
        return len(found.switches)

    def elements(found: _Found) -> int:
        found.elements = {element.uuid: element for element in graph.all()}
        return len(found.elements)

    def containment(found: _Found) -> int:
        found.parents = {row["child"]: row["parent"] for row in graph.containment()}
        return len(found.parents)

    def terminals(found: _Found) -> int:
        found.links = [(row["device"], row["bus"]) for row in graph.connections()]
        return len(found.links)

    def split(found: _Found) -> int:
        found.lost = _with_contents(found.parents, {element.uuid for element in lost})
        largest = min(_parts(found, ()), key=lambda part: (-len(part), min(part)), default=[])
        found.before = set(largest)
        parts = _parts(found, found.lost)
        parts.sort(key=lambda part: (-len(found.before.intersection(part)), -len(part), min(part)))
        found.islands = parts
        return len(parts)

    def unsupplied(found: _Found) -> int:
        _find_unsupplied(found)
        return sum(map(len, found.cut_off.values()))

    return [
        (PlanStep("files", "elements out of service, open switches"), states),
        (PlanStep(ontology.source_of("switch"), "rows of switch: bus, element"), switches),
        (PlanStep(engine, "all elements"), elements),
        (PlanStep(engine, "what contains what"), containment),
        (PlanStep(engine, "terminals of all devices"), terminals),
        (PlanStep(_HERE, f"islands without {names}"), split),
        (PlanStep(_HERE, "elements that lose their supply"), unsupplied),
    ]


def _with_contents(parents: dict[str, str], lost: set[str]) -> set[str]:
    """Return the elements with all that they contain."""
    children: dict[str, list[str]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    found, frontier = set(lost), list(lost)
    while frontier:
        below = [child for child in children.get(frontier.pop(), ()) if child not in found]
        found.update(below)
        frontier += below
    return found


def _closed(found: _Found, lost: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield device and bus of the terminals through which power can flow."""
    gone = found.out.union(lost)
    opened = {
        (row["element"], row["bus"]) for row in found.switches if row["id"] in found.open or row["id"] in gone
    }
    for device, bus in found.links:
        if device not in gone and bus not in gone and (device, bus) not in opened:
            yield device, bus


def _couplers(found: _Found, lost: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the buses at both sides of every closed switch between buses."""
    gone = found.out.union(found.open, lost)
    for row in found.switches:
        other = found.elements.get(row["element"])
        if other is not None and other.kind == "bus" and gone.isdisjoint(row.values()):
            yield row["bus"], row["element"]


def _parts(found: _Found, lost: Collection[str]) -> list[list[str]]:
    """Return the buses of every island."""
    gone = found.out.union(lost)
    buses = [uuid for uuid, element in found.elements.items() if element.kind == "bus" and uuid not in gone]
    joining = [link for link in _closed(found, lost) if found.elements[link[0]].kind != "hvdc"]
    return _components(buses, [*joining, *_couplers(found, lost)])


def _components(nodes: Sequence[str], links: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return the nodes by connected component; links may lead over others."""
    place = {node: k for k, node in enumerate(nodes)}
    ends = np.array([place.setdefault(end, len(place)) for link in links for end in link], np.int64).reshape(-1, 2)
    matrix = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(len(place),) * 2)
    _, label = connected_components(matrix, directed=False)
    found: dict[int, list[str]] = {}
    for node, part in zip(nodes, label[: len(nodes)].tolist(), strict=True):
        found.setdefault(part, []).append(node)
    return list(found.values())


def _find_unsupplied(found: _Found) -> None:
    """Find what was supplied by the largest island before and is not supplied by island 1."""
    main = set(found.islands[0]) if found.islands else set[str]()
    found.island_of = {bus: number for number, part in enumerate(found.islands, 1) for bus in part}
    supplied = {*found.before, *(device for device, bus in _closed(found, ()) if bus in found.before)}
    still = {*main, *(device for device, bus in _closed(found, found.lost) if bus in main)}
    for device, bus in _closed(found, found.lost):
        if device not in still:
            found.island_of.setdefault(device, found.island_of[bus])
    without = {*(supplied - still), *_empty_levels(found, main)}
    for uuid in sorted(without):
        found.cut_off.setdefault(found.elements[uuid].kind, []).append(found.elements[uuid])


def _empty_levels(found: _Found, main: set[str]) -> Iterator[str]:
    """Yield the stations, regions and systems of which no bus is left in the main island."""

    def above(buses: Iterable[str]) -> set[str]:
        levels: set[str] = set()
        for bus in buses:
            parent = found.parents.get(bus)
            while parent is not None and parent not in levels:
                levels.add(parent)
                parent = found.parents.get(parent)
        return levels

    yield from above(found.before) - above(main)


def _read_power(ontology: Ontology, found: _Found, kind: str) -> int:
    """Read the power of the snapshot of the elements of a kind that lose their supply."""
    state = ontology.reader.table(f"{kind}_state")
    ids = pa.array([element.uuid for element in found.cut_off.get(kind, ())], pa.string())
    rows = state.filter(pc.is_in(state["id"], ids))
    found.power[kind] = dict(zip(rows["id"].to_pylist(), rows["p_mw"].to_pylist(), strict=True))
    return len(rows)


def _islands(found: _Found) -> pa.Table:
    at: dict[str, Counter[int]] = {"load": Counter(), "unit": Counter()}
    for device, bus in _closed(found, found.lost):
        if (count := at.get(found.elements[device].kind)) is not None:
            count[found.island_of[bus]] += 1
    rows = [
        {
            "island": number,
            "buses": len(part),
            "cut_off": len(found.before.intersection(part)) if number > 1 else 0,
            "loads": at["load"][number],
            "units": at["unit"][number],
        }
        for number, part in enumerate(found.islands, 1)
    ]
    names = ("island", "buses", "cut_off", "loads", "units")
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.int64()) for name in names]))


def _impact(found: _Found) -> pa.Table:
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
    return pa.Table.from_pylist([row(kind) for kind in KINDS if kind in found.cut_off], schema=schema)
