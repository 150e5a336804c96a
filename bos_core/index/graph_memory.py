"""The graph of a topology in memory, from its tables: what answers where a graph database has it not yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bos_core.index.graph import Element, Statement, Topology

_Row = dict[str, Any]


class MemoryGraph:
    """Graphs of topologies, as long as this process lives."""

    engine = "tables"
    url = "memory"

    def __init__(self) -> None:
        self._graphs: dict[str, _Adjacency] = {}

    def put(self, topology: Topology) -> bool:
        """Read the tables of a topology; return False where it is known already."""
        if topology.digest in self._graphs:
            return False
        self._graphs[topology.digest] = _Adjacency(topology)
        return True

    def topologies(self) -> frozenset[str]:
        """Return the digests of the topologies that were put."""
        return frozenset(self._graphs)

    def drop(self, digest: str) -> None:
        """Forget a topology; an unknown one is no error."""
        self._graphs.pop(digest, None)

    def ask(self, statement: Statement, **parameters: Any) -> list[_Row]:
        """Return the rows that answer a statement."""
        if statement in _OF_ALL:
            graph = self._graphs.get(parameters["topology"])
            return list(_OF_ALL[statement](graph, parameters)) if graph else []
        return [row for digest, uuid in _split(parameters["keys"]) for row in self._about(statement, digest, uuid)]

    def close(self) -> None:
        """Forget everything."""
        self._graphs.clear()

    def _about(self, statement: Statement, digest: str, uuid: str) -> Iterator[_Row]:
        graph = self._graphs.get(digest)
        if graph is not None:
            yield from _OF_ONE[statement](graph, uuid)


class _Adjacency:
    """What stands next to what."""

    def __init__(self, topology: Topology) -> None:
        columns = [topology.elements[name].to_pylist() for name in ("uuid", "kind", "name")]
        self.elements = {row[0]: Element(*row) for row in zip(*columns, strict=True)}
        self.children: dict[str, list[str]] = {}
        self.parents: dict[str, list[str]] = {}
        for parent, child in zip(*(topology.contains[n].to_pylist() for n in ("parent", "child")), strict=True):
            self.children.setdefault(parent, []).append(child)
            self.parents.setdefault(child, []).append(parent)
        self.terminals: dict[str, list[_Row]] = {}
        self.devices: dict[str, list[_Row]] = {}
        names = ("device", "terminal", "bus")
        for values in zip(*(topology.connects[n].to_pylist() for n in names), strict=True):
            row = dict(zip(names, values, strict=True))
            self.terminals.setdefault(row["device"], []).append(row)
            self.devices.setdefault(row["bus"], []).append(row)

    def rows(self, uuids: list[str]) -> Iterator[_Row]:
        for uuid in uuids:
            if uuid in self.elements:
                yield vars(self.elements[uuid])


def _named(graph: _Adjacency, wanted: _Row) -> Iterator[_Row]:
    for element in graph.elements.values():
        if element.name == wanted["name"]:
            yield vars(element)


_OF_ALL: dict[Statement, Callable[[_Adjacency, _Row], Any]] = {
    Statement.ALL: lambda graph, _: graph.rows(list(graph.elements)),
    Statement.NAMED: _named,
    Statement.CONNECTIONS: lambda graph, _: (row for rows in graph.terminals.values() for row in rows),
    Statement.CONTAINMENT: lambda graph, _: (
        {"parent": parent, "child": child} for parent, children in graph.children.items() for child in children
    ),
}
_OF_ONE: dict[Statement, Callable[[_Adjacency, str], Any]] = {
    Statement.ELEMENTS: lambda graph, uuid: graph.rows([uuid]),
    Statement.CHILDREN: lambda graph, uuid: graph.rows(graph.children.get(uuid, [])),
    Statement.PARENTS: lambda graph, uuid: graph.rows(graph.parents.get(uuid, [])),
    Statement.HOMES: lambda graph, uuid: ({"child": uuid, "parent": home} for home in graph.parents.get(uuid, [])),
    Statement.TERMINALS: lambda graph, uuid: graph.terminals.get(uuid, []),
    Statement.DEVICES: lambda graph, uuid: graph.devices.get(uuid, []),
}


def _split(keys: list[str]) -> Iterator[tuple[str, str]]:
    for key in keys:
        digest, _, uuid = key.partition(":")
        yield digest, uuid
