"""Questions about elements of SimBench's complete grid: graph and tables together, against brute force."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from frame import CACHE, OURS, Accuracy, Bench, Row
from networks import SIMBENCH
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra
from timing import best_of

from bos_core.access.ontology_query import Ontology
from bos_core.access.projection import Projector, opened_graph
from bos_core.access.scenario_data import ScenarioReader
from bos_core.access.workspace import Workspace
from bos_core.api import Scenarios
from bos_core.grid.columns import look_up, places
from bos_core.grid.model import IntArray
from bos_core.objects.settings import Settings

TITLE = "Who is near, and what an outage cuts off, among 34,479 buses"
PACKAGES = ("ladybug", "neo4j", "pyarrow", "scipy", "sqlalchemy")
HOME = CACHE / "ontology"
NAME = "complete"
HOPS = 3
FILES = "no graph is wanted"
BRANCHES = ("line", "transformer", "equivalent_branch")


@dataclass(frozen=True)
class Question:
    """A question, and two ways to answer it with a few numbers."""

    group: str
    ask: Callable[[Ontology], tuple[int, ...]]
    force: Callable[[ScenarioReader], tuple[int, ...]]


def run(bench: Bench, budget_s: float) -> None:
    """Ask the same questions of the embedded graph, of a Neo4j server, and of the files."""
    bench.settings |= {
        f"{OURS} ladybug, {OURS} Neo4j": "graph and SQL rows, both built before, which does not count",
        f"{OURS} tables": "no graph database: a version's files are read in its place, which counts",
        "brute force": "csgraph on the tables in the version's files, only numbers of elements; reading counts",
    }
    with bench.doing("importing the grid"):
        workspace = Workspace.open(Settings(home=HOME, graph_url=""))
        if not workspace.scenarios.versions(NAME):
            Scenarios(workspace).import_(SIMBENCH, name=NAME)
    questions = _questions(workspace)
    wanted = {question: question.force(workspace.reader(NAME)) for question in questions}

    def measure(tool: str, answer: Callable[[Question], tuple[int, ...]]) -> None:
        for question in questions:
            with bench.doing(f"{tool}: {question.group}"):
                times, found = best_of(lambda q=question: answer(q), runs_max=5, budget_s=6.0)
            apart = float(np.abs(np.subtract(found, wanted[question])).sum())
            accuracy = (Accuracy("elements apart", apart, 0.0),)
            reference = tool == f"{OURS} ladybug"
            bench.add(Row(question.group, 34_479, tool, "question", times, accuracy, reference=reference))

    for tool, settings in ((f"{OURS} ladybug", workspace.settings), (f"{OURS} Neo4j", Settings())):
        with bench.peer(tool):
            if tool.endswith("Neo4j") and not os.environ.get("BOS_GRAPH_URL"):
                raise RuntimeError("BOS_GRAPH_URL names no server")
            with opened_graph(settings) as store:
                Projector(workspace, store).project(NAME)
                measure(tool, lambda q, store=store: q.ask(Ontology(workspace, NAME, store)))
    measure(f"{OURS} tables", lambda q: q.ask(Ontology(workspace, NAME, FILES)))
    measure("brute force", lambda q: q.force(workspace.reader(NAME)))


def _questions(workspace: Workspace) -> list[Question]:
    """Start from the station with the most buses, and lose it, or the line nearby that cuts off most."""
    grid = Ontology(workspace, NAME, FILES)
    home = {row["child"]: row["parent"] for row in grid.graph.containment()}
    stations, counts = np.unique(
        [home[bus] for bus in grid.reader.table("bus")["id"].to_pylist()], return_counts=True
    )
    station = grid.element(str(stations[counts.argmax()]))
    buses = [element.uuid for element in grid.graph.children([station.uuid]) if element.kind == "bus"]
    lines = grid.near(station, "line", HOPS).run().table["id"].to_pylist()[:20]
    line = grid.element(max(lines, key=lambda uuid: brute_outage(grid.reader, [uuid])))
    inside = [station.uuid, *(element.uuid for element in grid.graph.contents([station.uuid]))]

    def near(ontology: Ontology) -> tuple[int, ...]:
        found = ontology.near(station, "line", HOPS).select("i_max_ka").run().table
        return tuple(np.bincount(found["hops"].to_numpy(), minlength=HOPS + 1).tolist())

    return [
        Question(f"lines within {HOPS} hops of a station", near, lambda reader: brute_near(reader, buses)),
        Question("outage of a line", lambda o: _sizes(o, line.uuid), lambda r: brute_outage(r, [line.uuid])),
        Question("outage of a station", lambda o: _sizes(o, station.uuid), lambda r: brute_outage(r, inside)),
    ]


def _sizes(ontology: Ontology, lost: str) -> tuple[int, ...]:
    """Return buses cut off (lost ones too), islands left, and buses of the largest."""
    answer = ontology.outage(ontology.element(lost)).run()
    cut_off = {row["kind"]: row["elements"] for row in answer.impact.to_pylist()}.get("bus", 0)
    return cut_off, answer.islands.num_rows, answer.islands["buses"][0].as_py()


def _ends(reader: ScenarioReader, bus: dict[str, int]) -> tuple[list[str], IntArray]:
    """Return ids of the branches in service and the rows of their buses, (branch, 2); the grid has no switches."""
    tables = [reader.table(kind) for kind in BRANCHES]
    ids = [uuid for table in tables for uuid in table["id"].to_pylist()]
    sides = [
        look_up(bus, np.array([uuid for table in tables for uuid in table[side].to_pylist()]))
        for side in ("from_bus", "to_bus")
    ]
    state = reader.table("branch_state")
    service = dict(zip(state["id"].to_pylist(), state["in_service"].to_pylist(), strict=True))
    live = np.array([service.get(uuid, True) for uuid in ids])
    return [uuid for uuid, on in zip(ids, live, strict=True) if on], np.stack(sides, axis=1)[live]


def brute_outage(reader: ScenarioReader, lost: list[str]) -> tuple[int, ...]:
    """Return what `_sizes` does, from the tables of buses and branches alone."""
    ids = reader.table("bus")["id"].to_pylist()
    bus, gone = places(np.array(ids)), set(lost)
    branches, ends = _ends(reader, bus)
    dead = np.array([uuid in gone for uuid in ids])

    def parts(links: IntArray) -> IntArray:
        matrix = coo_array((np.ones(len(links)), links.T), shape=(len(ids), len(ids)))
        return np.asarray(connected_components(matrix, directed=False)[1], np.int64)

    before = parts(ends)
    largest = before == np.bincount(before).argmax()
    kept = np.array([uuid not in gone for uuid in branches]) & ~dead[ends].any(axis=1)
    after = parts(ends[kept])
    main = np.bincount(after[largest & ~dead]).argmax()
    left = after[~dead]
    return int((largest & (dead | (after != main))).sum()), np.unique(left).size, int((left == main).sum())


def brute_near(reader: ScenarioReader, start: list[str]) -> tuple[int, ...]:
    """Return how many lines are 0, 1, ... hops away, by shortest paths over all branches and HVDC lines."""
    bus = places(np.array(reader.table("bus")["id"].to_pylist()))
    tables = [reader.table(kind) for kind in (*BRANCHES, "hvdc")]
    sides = [
        look_up(bus, np.array([uuid for table in tables for uuid in table[side].to_pylist()]))
        for side in ("from_bus", "to_bus")
    ]
    matrix = coo_array((np.ones(sides[0].size), (sides[0], sides[1])), shape=(len(bus), len(bus))).tocsr()
    from_start = look_up(bus, np.array(start))
    far = dijkstra(matrix, directed=False, indices=from_start, unweighted=True, limit=HOPS, min_only=True)
    lines = reader.table("line").num_rows  # the first of the tables
    hops = np.minimum(far[sides[0][:lines]], far[sides[1][:lines]]) + 1
    return tuple(np.bincount(hops[hops <= HOPS].astype(np.int64), minlength=HOPS + 1).tolist())
