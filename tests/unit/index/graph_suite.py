"""The conformance suite of graph engines: whatever `store` is, it answers as brute force does.

Shared with tests/integration, which runs it on Neo4j.
"""

from __future__ import annotations

import uuid
from collections import deque
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bos_core.index.graph import TOPOLOGY_TABLES, Element, Graph, GraphStore, Statement, Topology, topology_digest

HOSTILE = "x'}) DETACH DELETE (n) //\\ \" ` \n {$key}"


def topology(seed: int, buses: int = 30, branches: int = 45, loads: int = 40) -> Topology:
    """Make a random grid: some islands, parallel branches, a loop branch, three-winding transformers."""
    rng = np.random.default_rng(seed)
    stations = [f"s{k}" for k in range(buses // 2)]
    kind = {f"b{k}": "bus" for k in range(buses)}
    kind |= {f"l{k}": "line" for k in range(branches)} | {"t0": "transformer3"}
    kind |= {f"d{k}": "load" for k in range(loads)}
    kind |= {"e0": "electrolyser", "e1": "electrolyser", "c0": "converter"}  # of programs that extend the ontology
    names = {k: f"name of {k}" for k in kind} | {"d0": "Station 3"}
    connects = [(f"l{k}", end, f"b{rng.integers(buses)}") for k in range(branches) for end in ("from", "to")]
    connects += [("t0", end, f"b{k}") for k, end in enumerate(("high", "medium", "low"))]
    connects += [(f"d{k}", "bus", f"b{rng.integers(buses)}") for k in range(loads)]
    connects += [("e0", "bus", "b1"), ("e1", "bus", "b2"), ("c0", "from", "b1"), ("c0", "to", "b2")]
    contains = [("system", "north"), ("system", "south"), *((rng.choice(["north", "south"]), s) for s in stations)]
    contains += [(stations[rng.integers(len(stations))], device) for device in kind]
    tables = {
        "system": pa.table({"id": ["system"], "name": ["the system"]}),
        "region": pa.table({"id": ["north", "south"], "name": ["North", HOSTILE]}),
        "station": pa.table({"id": stations, "name": [f"Station {k // 2}" for k in range(len(stations))]}),
        "entity": pa.table({"id": [*kind], "kind": [*kind.values()], "name": [*names.values()]}),
        "contains": pa.table({"parent": [str(p) for p, _ in contains], "child": [c for _, c in contains]}),
        "connects": pa.table({name: [row[k] for row in connects]
                              for k, name in enumerate(("device", "terminal", "bus"))}),
    }  # fmt: skip
    return Topology.of(uuid.uuid4().hex, tables)


@pytest.fixture
def built(store: GraphStore) -> Any:
    """A topology and its graph; another one stands beside it."""
    made, other = topology(1), topology(2)
    assert store.put(made)
    assert store.put(other)
    yield made, Graph(store, made.digest)
    for digest in (made.digest, other.digest):
        store.drop(digest)


def known(made: Topology) -> dict[str, Element]:
    return {row["uuid"]: Element(**row) for row in made.elements.to_pylist()}


def uuids(elements: list[Element]) -> set[str]:
    return {element.uuid for element in elements}


def below(made: Topology, start: str) -> set[str]:
    rows = made.contains.to_pylist()
    found: set[str] = set()
    queue = deque([start])
    while queue:
        parent = queue.popleft()
        children = {row["child"] for row in rows if row["parent"] == parent}
        queue.extend(children - found)
        found |= children
    return found


def distances(made: Topology, start: str, without: set[str]) -> dict[str, int]:
    buses_of: dict[str, set[str]] = {}
    for row in made.connects.to_pylist():
        buses_of.setdefault(row["device"], set()).add(row["bus"])
    near, queue = {start: 0}, deque([start])
    while queue:
        bus = queue.popleft()
        for device, buses in buses_of.items():
            if bus in buses and device not in without:
                for other in buses - near.keys():
                    near[other] = near[bus] + 1
                    queue.append(other)
    return near


def test_a_graph_holds_each_element_once_and_nothing_else(built: Any) -> None:
    made, graph = built
    assert {element.uuid: element for element in graph.all()} == known(made)
    assert len(graph.all()) == made.elements.num_rows


def test_building_again_changes_nothing(store: GraphStore, built: Any) -> None:
    made, graph = built
    assert not store.put(made)
    assert made.digest in store.topologies()
    assert len(graph.terminals(known(made))) == made.connects.num_rows


def test_elements_are_found_by_uuid_and_by_name(built: Any) -> None:
    made, graph = built
    assert graph.elements(["b3", "l7", "nobody"]) == [known(made)[k] for k in ("b3", "l7")]
    assert uuids(graph.named("station", "Station 3")) == {"s6", "s7"}
    assert graph.named("region", "Station 3") == []
    assert uuids(graph.named("load", "Station 3")) == {"d0"}
    assert uuids(graph.named("", "Station 3")) == {"s6", "s7", "d0"}
    assert graph.elements([]) == []


def test_texts_are_values_and_never_statements(built: Any) -> None:
    made, graph = built
    assert graph.named("region", HOSTILE) == [Element("south", "region", HOSTILE)]
    assert graph.elements([HOSTILE]) == []
    assert len(graph.all()) == made.elements.num_rows


@pytest.mark.parametrize("start", ["system", "north", "s2", "b4", "d1"])
def test_containment_agrees_with_brute_force(built: Any, start: str) -> None:
    made, graph = built
    inside = below(made, start)
    assert uuids(graph.contents([start])) == inside
    assert uuids(graph.children([start])) == {
        row["child"] for row in made.contains.to_pylist() if row["parent"] == start
    }
    assert uuids(graph.containers([start])) == {e for e in known(made) if start in below(made, e)}


def test_all_containment_is_that_of_the_table(built: Any) -> None:
    made, graph = built
    found = {(row["parent"], row["child"]) for row in graph.containment()}
    assert found == {(row["parent"], row["child"]) for row in made.contains.to_pylist()}


@pytest.mark.parametrize("count", [1, 49, 200], ids=["one", "some", "many"])
def test_terminals_agree_with_the_table(built: Any, count: int) -> None:
    made, graph = built
    asked = list(known(made))[:count]
    rows = sorted(made.connects.to_pylist(), key=lambda r: (r["device"], r["terminal"], r["bus"]))
    assert graph.terminals(asked) == [row for row in rows if row["device"] in asked]
    assert graph.devices(asked) == [row for row in rows if row["bus"] in asked]


def test_all_connections_are_those_of_the_table(built: Any) -> None:
    made, graph = built
    found = sorted((row["device"], row["terminal"], row["bus"]) for row in graph.connections())
    assert found == sorted((row["device"], row["terminal"], row["bus"]) for row in made.connects.to_pylist())


@pytest.mark.parametrize("hops", [0, 1, 3, 60])
@pytest.mark.parametrize("without", [set(), {"l1", "l2", "t0"}], ids=["whole", "outage"])
def test_walks_agree_with_breadth_first_search(built: Any, hops: int, without: set[str]) -> None:
    made, graph = built
    for start in ("b0", "b9", "b29"):
        found = {bus: d for bus, d in distances(made, start, without).items() if d <= hops}
        assert graph.walk([start], hops, without) == found


@pytest.mark.parametrize("start", ["b0", "b9", "b29"])
def test_what_contains_elements_is_as_far_as_the_nearest_of_them(built: Any, start: str) -> None:
    made, graph = built
    distance = graph.walk([start], 3)
    found = graph.nearest_contents(distance)
    inside = {e.uuid: below(made, e.uuid) & distance.keys() for e in known(made).values() if e.kind != "bus"}
    assert found == {uuid: min(distance[bus] for bus in buses) for uuid, buses in inside.items() if buses}
    assert {"system"} < found.keys()


def test_a_dropped_graph_leaves_the_others(store: GraphStore, built: Any) -> None:
    made, graph = built
    other = topology(3)
    store.put(other)
    store.drop(other.digest)
    store.drop("unknown")
    assert other.digest not in store.topologies()
    assert Graph(store, other.digest).all() == []
    assert len(graph.all()) == made.elements.num_rows


def test_a_build_that_is_cut_short_is_not_seen_and_can_be_repeated(store: GraphStore) -> None:
    whole = topology(4)
    torn = Topology(
        whole.digest, whole.elements, whole.contains, whole.connects.slice(0, 5).rename_columns(["a", "b", "c"])
    )
    with pytest.raises(Exception, match=r".+"):
        store.put(torn)
    assert whole.digest not in store.topologies()
    assert store.put(whole)
    graph = Graph(store, whole.digest)
    assert len(graph.all()) == whole.elements.num_rows
    assert len(graph.terminals(known(whole))) == whole.connects.num_rows
    store.drop(whole.digest)


@pytest.mark.parametrize("statement", list(Statement))
def test_every_statement_runs(store: GraphStore, statement: Statement) -> None:
    given = {name: [] if name == "keys" else "x" for name in ("keys", "topology", "kind", "name")}
    assert store.ask(statement, **{k: v for k, v in given.items() if f"${k}" in statement.value}) == []


def test_the_digest_of_a_topology_is_that_of_its_tables() -> None:
    digests = {name: name for name in TOPOLOGY_TABLES}
    assert topology_digest(digests) == topology_digest({**digests, "line": "other"})
    assert topology_digest(digests) != topology_digest({**digests, "contains": "other"})
    assert topology_digest(digests) != topology_digest({k: v for k, v in digests.items() if k != "region"})
