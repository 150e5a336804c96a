"""The graph of an ontology: containment and terminals, for questions about neighbourhood.

The graph is a projection: SQL says what a version is made of, and the graph of a topology can be dropped and built
again at any time. A topology is the part of a version that the graph shows; versions that differ elsewhere share
it. Nodes carry the uuid, kind and name of an element, and nothing that SQL knows better. Branches are nodes: a
branch is connected to the buses at its ends.

Both engines, Neo4j and the embedded ladybug, answer the same few statements, written once (`Statement`): patterns
of one relationship. Longer ways are walked in rounds, since engines differ in the walks that a pattern of variable
length takes, and in the side from which they begin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

TOPOLOGY_TABLES = ("system", "region", "station", "entity", "contains", "connects")
"""Tables of the ontology that the graph shows."""
LEVELS = ("system", "region", "station")
"""Kinds of element that contain others."""


@dataclass(frozen=True, eq=False)
class Topology:
    """What the graph of a topology holds.

    Attributes
    ----------
    digest : str
    elements : pa.Table
        uuid, kind, name.
    contains : pa.Table
        parent, child.
    connects : pa.Table
        device, terminal, bus.
    """

    digest: str
    elements: pa.Table
    contains: pa.Table
    connects: pa.Table

    @classmethod
    def of(cls, digest: str, tables: Mapping[str, pa.Table]) -> Topology:
        """Take the topology from the tables of a version (`TOPOLOGY_TABLES`)."""
        parts = [
            pa.table(
                {"uuid": tables[kind]["id"], "kind": [kind] * tables[kind].num_rows, "name": tables[kind]["name"]}
            )
            for kind in LEVELS
        ]
        entity = tables["entity"]
        parts.append(pa.table({"uuid": entity["id"], "kind": entity["kind"], "name": entity["name"]}))
        elements = pa.concat_tables(parts).combine_chunks()
        contains = tables["contains"].select(["parent", "child"]).replace_schema_metadata()
        connects = tables["connects"].select(["device", "terminal", "bus"]).replace_schema_metadata()
        return cls(digest, elements, contains, connects)

    def keyed(self) -> tuple[pa.Table, pa.Table, pa.Table]:
        """Return nodes, containment and terminals with the keys of the graph."""

        def keys(values: pa.ChunkedArray) -> pa.ChunkedArray:
            return pc.binary_join_element_wise(pa.scalar(self.digest), values, ":")

        nodes = self.elements.append_column("key", keys(self.elements["uuid"]))
        nodes = nodes.append_column("topology", pa.array([self.digest] * nodes.num_rows))
        contains = pa.table({"from": keys(self.contains["parent"]), "to": keys(self.contains["child"])})
        connects = pa.table({
            "from": keys(self.connects["device"]), "to": keys(self.connects["bus"]),
            "terminal": self.connects["terminal"],
        })  # fmt: skip
        return nodes.select(["key", "topology", "uuid", "kind", "name"]), contains, connects


def topology_digest(digests: Mapping[str, str]) -> str:
    """Return the digest of a topology from those of its tables; a table that a version lacks counts as empty."""
    lines = [f"{name}\x1f{digests.get(name, '')}" for name in TOPOLOGY_TABLES]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


BY_KEY = "UNWIND $keys AS key MATCH (a:Element {key: key})"
"""How a statement begins that asks about elements by their keys."""


class Statement(Enum):
    """Every question that is put to a graph; both engines answer each alike (see the conformance suite)."""

    ELEMENTS = f"{BY_KEY} RETURN a.uuid AS uuid, a.kind AS kind, a.name AS name"
    NAMED = (
        "MATCH (a:Element) WHERE a.topology = $topology AND a.name = $name "
        "RETURN a.uuid AS uuid, a.kind AS kind, a.name AS name"
    )
    ALL = "MATCH (a:Element) WHERE a.topology = $topology RETURN a.uuid AS uuid, a.kind AS kind, a.name AS name"
    CHILDREN = f"{BY_KEY}-[:CONTAINS]->(b:Element) RETURN b.uuid AS uuid, b.kind AS kind, b.name AS name"
    PARENTS = f"{BY_KEY}<-[:CONTAINS]-(b:Element) RETURN b.uuid AS uuid, b.kind AS kind, b.name AS name"
    HOMES = f"{BY_KEY}<-[:CONTAINS]-(b:Element) RETURN a.uuid AS child, b.uuid AS parent"
    CONTAINMENT = (
        "MATCH (a:Element)-[:CONTAINS]->(b:Element) WHERE a.topology = $topology "
        "RETURN a.uuid AS parent, b.uuid AS child"
    )
    TERMINALS = (
        f"{BY_KEY}-[c:CONNECTS]->(b:Element) RETURN a.uuid AS device, c.terminal AS terminal, b.uuid AS bus"
    )
    CONNECTIONS = (
        "MATCH (a:Element)-[c:CONNECTS]->(b:Element) WHERE a.topology = $topology "
        "RETURN a.uuid AS device, c.terminal AS terminal, b.uuid AS bus"
    )
    DEVICES = f"{BY_KEY}<-[c:CONNECTS]-(b:Element) RETURN b.uuid AS device, c.terminal AS terminal, a.uuid AS bus"


class GraphStore(Protocol):
    """A graph database that holds the graphs of topologies."""

    engine: str
    url: str

    def put(self, topology: Topology) -> bool:
        """Build a graph; return False where it is complete already. Until it is complete nobody sees it."""

    def topologies(self) -> frozenset[str]:
        """Return the digests of the complete graphs."""

    def drop(self, digest: str) -> None:
        """Delete a graph; an unknown one is no error."""

    def ask(self, statement: Statement, **parameters: Any) -> list[dict[str, Any]]:
        """Return the rows that answer a statement, in no particular order."""

    def close(self) -> None:
        """Give the connection back."""


@dataclass(frozen=True)
class Element:
    """A node of the graph."""

    uuid: str
    kind: str
    name: str


class Graph:
    """The complete graph of one topology."""

    def __init__(self, store: GraphStore, digest: str) -> None:
        self.store, self.digest = store, digest

    def elements(self, uuids: Iterable[str]) -> list[Element]:
        """Return those of these elements that the graph knows."""
        return self._elements(Statement.ELEMENTS, keys=self._keys(uuids))

    def named(self, kind: str, name: str) -> list[Element]:
        """Return the elements of a kind and name; ``""`` stands for every kind."""
        found = self._elements(Statement.NAMED, topology=self.digest, name=name)
        return [element for element in found if kind in {"", element.kind}]

    def all(self) -> list[Element]:
        """Return every element."""
        return self._elements(Statement.ALL, topology=self.digest)

    def children(self, uuids: Iterable[str]) -> list[Element]:
        """Return what the elements contain directly."""
        return self._elements(Statement.CHILDREN, keys=self._keys(uuids))

    def contents(self, uuids: Iterable[str]) -> list[Element]:
        """Return what the elements contain, at every level."""
        return self._levels(Statement.CHILDREN, uuids)

    def containers(self, uuids: Iterable[str]) -> list[Element]:
        """Return what contains the elements, at every level."""
        return self._levels(Statement.PARENTS, uuids)

    def nearest_contents(self, distance: Mapping[str, int]) -> dict[str, int]:
        """Return what contains some elements, at every level, as far away as the nearest element inside."""
        found: dict[str, int] = {}
        level = distance
        while level:
            above: dict[str, int] = {}
            for row in self.store.ask(Statement.HOMES, keys=self._keys(level)):
                away = level[row["child"]]
                above[row["parent"]] = min(away, above.get(row["parent"], away))
            level = {uuid: away for uuid, away in above.items() if away < found.get(uuid, away + 1)}
            found |= level
        return found

    def containment(self) -> list[dict[str, Any]]:
        """Return parent and child of everything that is contained in something."""
        return self.store.ask(Statement.CONTAINMENT, topology=self.digest)

    def connections(self) -> list[dict[str, Any]]:
        """Return device, terminal and bus of every terminal of all devices."""
        return self.store.ask(Statement.CONNECTIONS, topology=self.digest)

    def terminals(self, devices: Iterable[str]) -> list[dict[str, Any]]:
        """Return device, terminal and bus of every terminal of these devices."""
        return _sorted(self.store.ask(Statement.TERMINALS, keys=self._keys(devices)))

    def devices(self, buses: Iterable[str]) -> list[dict[str, Any]]:
        """Return device, terminal and bus of everything that is connected to these buses."""
        return _sorted(self.store.ask(Statement.DEVICES, keys=self._keys(buses)))

    def walk(self, buses: Iterable[str], hops: int, without: Iterable[str] = ()) -> dict[str, int]:
        """Return the buses that can be reached, with the least number of devices crossed.

        Parameters
        ----------
        hops : int
            Most devices to cross; a line, transformer or HVDC line is crossed from bus to bus.
        without : iterable of str
            Devices that may not be crossed: an outage.
        """
        barred = set(without)
        reached = dict.fromkeys(buses, 0)
        frontier = set(reached)
        for hop in range(1, hops + 1):
            crossed = {row["device"] for row in self.devices(frontier)} - barred
            beyond = {row["bus"] for row in self.terminals(crossed)} - reached.keys()
            reached |= dict.fromkeys(beyond, hop)
            frontier = beyond
            if not frontier:
                break
        return reached

    def _levels(self, statement: Statement, uuids: Iterable[str]) -> list[Element]:
        found: dict[str, Element] = {}
        frontier = set(uuids)
        while frontier:
            beyond = self._elements(statement, keys=self._keys(frontier))
            frontier = {element.uuid for element in beyond} - found.keys()
            found |= {element.uuid: element for element in beyond}
        return sorted(found.values(), key=_place)

    def _keys(self, uuids: Iterable[str]) -> list[str]:
        return sorted(f"{self.digest}:{uuid}" for uuid in set(uuids))

    def _elements(self, statement: Statement, **parameters: Any) -> list[Element]:
        rows = self.store.ask(statement, **parameters)
        return sorted({Element(**row) for row in rows}, key=_place)


def _place(element: Element) -> tuple[str, str, str]:
    return element.kind, element.name, element.uuid


def _sorted(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["device"], row["terminal"], row["bus"]))
