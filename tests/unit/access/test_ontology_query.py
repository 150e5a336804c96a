"""Projections of a version and questions in two phases, on a grid of 118 buses, against brute force."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest

from bos_core.access.ontology_query import Ontology, opened_ontology
from bos_core.access.projection import Projected, Projector, topology_of
from bos_core.access.scenario_data import ScenarioReader
from bos_core.access.workspace import Workspace
from bos_core.cli import run_command
from bos_core.exchange import import_grid
from bos_core.index.graph import Element, GraphStore, Statement, Topology
from bos_core.index.graph_ladybug import LadybugGraph
from bos_core.index.graph_memory import MemoryGraph
from bos_core.objects.errors import NotFoundError, OptionError, StorageError
from bos_core.objects.settings import Settings

GRID = "pandapower:case118"


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return dict(import_grid(GRID).tables)


@pytest.fixture
def workspace(tmp_path: Path, tables: dict[str, pa.Table]) -> Workspace:
    workspace = Workspace.open(Settings(home=tmp_path))
    writer = workspace.writer(scenario="grid")
    for name, table in tables.items():
        writer.put_table(name, table)
    writer.commit("import")
    return workspace


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LadybugGraph]:
    store = LadybugGraph(tmp_path / "graph.lbug")
    yield store
    store.close()


def edited(workspace: Workspace, name: str, table: pa.Table) -> str:
    writer = workspace.writer(parent="grid")
    writer.put_table(name, table)
    writer.commit(f"edit {name}")
    return workspace.scenarios.versions("grid")[-1].id


def hops_by_networkx(tables: dict[str, pa.Table], start: str, kind: str) -> dict[str, int]:
    """Distances by a shortest path over a graph of buses and devices, every relationship of length 1."""
    graph = nx.Graph()
    for row in tables["connects"].to_pylist():
        graph.add_edge(row["device"], row["bus"])
    kinds = dict(zip(*(tables["entity"][n].to_pylist() for n in ("id", "kind")), strict=True))
    length = nx.single_source_shortest_path_length(graph, start)
    ends = {device: graph.degree(device) for device in kinds if device in graph}
    return {
        element: (far if kinds[element] == "bus" else far + (ends[element] > 1)) // 2
        for element, far in length.items()
        if kinds[element] == kind and element != start
    }


def nearest_inside(tables: dict[str, pa.Table], hops: dict[str, int], kind: str) -> dict[str, int]:
    """Distance of the nearest bus of every element of a kind that contains some, by a walk up a tree."""
    above = nx.DiGraph((row["child"], row["parent"]) for row in tables["contains"].to_pylist())
    wanted, found = set(tables[kind]["id"].to_pylist()), dict[str, int]()
    for bus, far in hops.items():
        for container in nx.descendants(above, bus) & wanted:
            found[container] = min(far, found.get(container, far))
    return found


@pytest.mark.parametrize("projected", [True, False], ids=["graph and SQL", "files"])
@pytest.mark.parametrize("kind", ["station", "region", "system"])
@pytest.mark.parametrize("start", ["bus", "line", "station"])
def test_what_contains_a_bus_within_some_hops(
    workspace: Workspace, store: GraphStore, tables: dict[str, pa.Table], projected: bool, kind: str, start: str
) -> None:
    """A station is as far away as its nearest bus."""
    if projected:
        Projector(workspace, store).drain()
    ontology = Ontology(workspace, "grid", store)
    begin = ontology.element(tables[start]["id"][7].as_py())
    home = nx.DiGraph((row["parent"], row["child"]) for row in tables["contains"].to_pylist())
    ends = [r["bus"] for r in tables["connects"].to_pylist() if r["device"] == begin.uuid]
    own = nx.descendants(home, begin.uuid) & set(tables["bus"]["id"].to_pylist())
    starts = ends or list(own) or [begin.uuid]
    for hops in (0, 1, 3, 200):
        answer = ontology.near(begin, kind, hops).select("name").run().table
        far: dict[str, int] = dict.fromkeys(starts, 0)
        for bus in starts:
            for other, away in hops_by_networkx(tables, bus, "bus").items():
                far[other] = min(away, far.get(other, away))
        wanted = nearest_inside(tables, {bus: away for bus, away in far.items() if away <= hops}, kind)
        wanted.pop(begin.uuid, None)
        assert wanted or kind == start
        assert dict(zip(answer["id"].to_pylist(), answer["hops"].to_pylist(), strict=True)) == wanted


@pytest.mark.parametrize("projected", [True, False], ids=["graph and SQL", "files"])
@pytest.mark.parametrize("kind", ["bus", "line", "transformer", "load", "unit"])
@pytest.mark.parametrize("hops", [0, 1, 3, 200])
def test_elements_within_some_hops(
    workspace: Workspace, store: GraphStore, tables: dict[str, pa.Table], projected: bool, kind: str, hops: int
) -> None:
    if projected:
        Projector(workspace, store).drain()
    ontology = Ontology(workspace, "grid", store)
    start = ontology.element(tables["bus"]["id"][40].as_py())
    answer = ontology.near(start, kind, hops).run()
    wanted = {k: far for k, far in hops_by_networkx(tables, start.uuid, kind).items() if far <= hops}
    assert dict(zip(answer.table["id"].to_pylist(), answer.table["hops"].to_pylist(), strict=True)) == wanted
    assert answer.table["hops"].to_pylist() == sorted(answer.table["hops"].to_pylist())


def test_attributes_come_from_the_tables_with_their_units(
    workspace: Workspace, store: GraphStore, tables: dict[str, pa.Table]
) -> None:
    Projector(workspace, store).drain()
    ontology = Ontology(workspace, "grid", store)
    start = ontology.element(tables["bus"]["id"][10].as_py())
    found = ontology.near(start, "line", 4).select("x_ohm", "i_max_ka").run().table
    by_id = {row["id"]: row for row in tables["line"].to_pylist()}
    assert found.num_rows > 5
    for row in found.to_pylist():
        assert (row["x_ohm"], row["i_max_ka"]) == (by_id[row["id"]]["x_ohm"], by_id[row["id"]]["i_max_ka"])
    assert found.schema.field("x_ohm").metadata[b"unit"] == b"ohm"


def test_a_plan_says_who_answers_before_and_after(workspace: Workspace, store: GraphStore) -> None:
    ontology = Ontology(workspace, "grid", store)
    start = next(e for e in ontology.graph.all() if e.kind == "bus")
    query = ontology.near(start, "transformer", 3).select("rated_mva")
    before = str(query.plan())
    assert before.splitlines()[1] == "2  tables: buses at most 3 hops away"
    assert before.splitlines()[3] == "4  files: rows of transformer for these ids: rated_mva"
    assert "the tables stand in for the graph: the graph has no topology" in before
    Projector(workspace, store).drain()
    ontology = Ontology(workspace, "grid", store)
    plan = ontology.near(start, "transformer", 3).select("rated_mva").run().plan
    assert [step.source for step in plan.steps] == ["ladybug", "ladybug", "ladybug", "sqlite"]
    assert all(step.found is not None and step.seconds is not None for step in plan.steps)
    assert plan.notes == ()


def test_a_graph_that_fails_is_replaced_and_named(workspace: Workspace) -> None:
    class Broken(MemoryGraph):
        def topologies(self) -> frozenset[str]:
            raise StorageError("graph bolt://here: it cannot be reached; start the Neo4j server")

    ontology = Ontology(workspace, "grid", Broken())
    assert "it cannot be reached" in str(
        ontology.within(ontology.graph.named("system", _name(ontology))[0], "bus").plan()
    )


def _name(ontology: Ontology) -> str:
    return next(e.name for e in ontology.graph.all() if e.kind == "system")


def test_an_outage_is_not_crossed(workspace: Workspace, tables: dict[str, pa.Table]) -> None:
    ontology = Ontology(workspace, "grid", "no graph is wanted")
    line = ontology.element(tables["line"]["id"][0].as_py())
    ends = [row["bus"] for row in ontology.graph.terminals([line.uuid])]
    start = ontology.element(ends[0])
    assert ends[1] in ontology.near(start, "bus", 1).run().table["id"].to_pylist()
    assert ends[1] not in ontology.near(start, "bus", 1, [line]).run().table["id"].to_pylist()


def test_what_a_region_contains(workspace: Workspace, tables: dict[str, pa.Table]) -> None:
    ontology = Ontology(workspace, "grid", "no graph is wanted")
    region = next(e for e in ontology.graph.all() if e.kind == "region")
    inside = ontology.within(region, "load").run().table
    assert set(inside["id"].to_pylist()) <= set(tables["load"]["id"].to_pylist())
    assert inside.column_names == ["id", "name"]
    assert {e.kind for e in ontology.containers(Element(inside["id"][0].as_py(), "load", ""))} >= {
        "region",
        "system",
    }


def test_bad_questions_are_findings_all_at_once(workspace: Workspace, tables: dict[str, pa.Table]) -> None:
    ontology = Ontology(workspace, "grid", "no graph is wanted")
    start = ontology.element(tables["bus"]["id"][0].as_py())
    with pytest.raises(OptionError) as error:
        ontology.near(start, "contains", -1)
    assert {finding.field for finding in error.value.findings} == {"kind", "hops"}
    for table in ("interface", "entity", "dynamic_model"):  # they have ids, but are no nodes of the graph
        with pytest.raises(
            OptionError, match="is no kind of element; use one of system, region, station, bus"
        ) as error:
            ontology.within(start, table)
        assert "interface" not in error.value.findings[0].remedy
    with pytest.raises(OptionError, match="colour"):
        ontology.near(start, "line", 1).select("colour")
    with pytest.raises(NotFoundError, match="has no bus 'nowhere'"):
        ontology.element("nowhere", "bus")


def test_an_opened_ontology_is_projected_first(workspace: Workspace) -> None:
    for _ in range(2):
        with opened_ontology(workspace, "grid") as ontology:
            start = next(e for e in ontology.graph.all() if e.kind == "bus")
            plan = ontology.near(start, "line", 1).run().plan
            assert [step.source for step in plan.steps] == ["ladybug", "ladybug", "ladybug", "sqlite"]


def test_an_embedded_graph_in_use_elsewhere_is_replaced_by_the_tables(workspace: Workspace) -> None:
    program = (
        "import sys, time; from pathlib import Path; from bos_core.index.graph_ladybug import LadybugGraph\n"
        "graph = LadybugGraph(Path(sys.argv[1])); print('open', flush=True); time.sleep(60)"
    )
    path = str(workspace.settings.home / "graph.lbug")
    other = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with opened_ontology(workspace, "grid") as ontology:
            assert "another process has it open" in ontology.notes[0]
            assert ontology.graph.store.engine == "tables"
    finally:
        other.kill()
        other.wait()


def test_an_error_inside_the_block_is_the_users(workspace: Workspace) -> None:
    with pytest.raises(StorageError, match="mine"), opened_ontology(workspace, "grid"):
        raise StorageError("mine")


# --- the projector


def test_draining_projects_every_version_once(workspace: Workspace, store: GraphStore) -> None:
    projector = Projector(workspace, store)
    first = projector.drain()
    assert (len(first.versions), len(first.graphs)) == (1, 1)
    assert first.tables > 5
    assert projector.drain().versions == ()
    assert workspace.ledger.outbox() == []


def test_an_edit_that_leaves_the_topology_shares_its_graph(
    workspace: Workspace, store: GraphStore, tables: dict[str, pa.Table]
) -> None:
    projector = Projector(workspace, store)
    projector.drain()
    line = tables["line"]
    place = line.column_names.index("x_ohm")
    edited(workspace, "line", line.set_column(place, line.schema.field(place), pa.array([9.0] * line.num_rows)))
    done = projector.drain()
    assert (len(done.versions), done.tables, done.graphs) == (1, 1, ())
    values = Ontology(workspace, "grid@2", store)
    start = values.element(tables["bus"]["id"][0].as_py())
    assert set(values.near(start, "line", 2).select("x_ohm").run().table["x_ohm"].to_pylist()) == {9.0}
    old = Ontology(workspace, "grid@1", store)
    assert 9.0 not in old.near(start, "line", 2).select("x_ohm").run().table["x_ohm"].to_pylist()


def test_an_entry_stays_until_both_projections_hold_it(workspace: Workspace, store: GraphStore) -> None:
    class Failing(MemoryGraph):
        def put(self, topology: Topology) -> bool:
            raise StorageError("graph bolt://here: it cannot be reached")

    with pytest.raises(StorageError):
        Projector(workspace, Failing()).drain()
    assert len(workspace.ledger.outbox()) == 1
    assert len(Projector(workspace, store).drain().graphs) == 1


def test_a_version_whose_files_are_gone_does_not_hold_up_the_others(
    workspace: Workspace, store: GraphStore, tables: dict[str, pa.Table]
) -> None:
    lost = tables["load"].slice(1)
    edited(workspace, "load", lost)
    edited(workspace, "load", tables["load"].slice(2))
    digest = workspace.reader("grid@2").table_digests()["load"]
    workspace.store.delete([workspace.store.chunk_address(digest)])
    projector = Projector(workspace, store)
    for _ in range(2):
        with pytest.raises(NotFoundError, match="no such object"):
            projector.drain()
        assert [entry.key for entry in workspace.ledger.outbox()] == [workspace.scenarios.get("grid@2").id]
    assert projector.ontology.contents() >= {workspace.reader("grid@3").table_digests()["load"]}


class Tampered(MemoryGraph):
    """A graph that answers wrongly as long as it lies; building heals it, or does not."""

    lies = False
    heals = True

    def put(self, topology: Topology) -> bool:
        self.lies = self.lies and not self.heals
        return super().put(topology)

    def ask(self, statement: Statement, **parameters: object) -> list[dict[str, object]]:
        rows = super().ask(statement, **parameters)
        if not self.lies:
            return rows
        if statement is Statement.ALL:
            return [{**rows[1], "name": "other"}, *rows[2:], {"uuid": "ghost", "kind": "bus", "name": "ghost"}]
        return rows[1:] if statement in (Statement.CONTAINMENT, Statement.CONNECTIONS) else rows


def test_drift_is_found_and_mended(workspace: Workspace) -> None:
    store = Tampered()
    projector = Projector(workspace, store)
    with pytest.raises(NotFoundError, match="no topology"):
        projector.drift("grid")
    projector.drain()
    assert projector.drift("grid").is_none
    store.lies = True
    drift = projector.drift("grid")
    assert (len(drift.missing), drift.unknown, len(drift.changed)) == (1, ("ghost",), 1)
    assert drift.relationships >= 2
    store.lies = False
    assert projector.rebuild("grid").graphs == (topology_of(workspace.reader("grid")).digest,)
    assert projector.drift("grid").is_none


@pytest.mark.parametrize(
    ("lies", "heals", "code"),
    [(False, True, 0), (True, True, 0), (True, False, 1)],
    ids=["sound", "mended", "broken"],
)
def test_the_graph_of_every_topology_is_compared_once(
    workspace: Workspace,
    tables: dict[str, pa.Table],
    lies: bool,
    heals: bool,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edited(workspace, "load", tables["load"])
    station = tables["station"]
    name = station.column_names.index("name")
    other = station.set_column(name, station.schema.field(name), pa.array(["other"] * station.num_rows))
    edited(workspace, "station", other)
    store = Tampered()
    Projector(workspace, store).drain()
    store.lies, store.heals = lies, heals
    found = list(Projector(workspace, store).mend())
    assert [one.version.label for one in found] == ["grid@1", "grid@3"]
    assert found[0].drift.is_none is not lies
    assert all(one.left.is_none for one in found) is (code == 0)

    store.lies = lies
    monkeypatch.setattr("bos_core.access.projection.opened_graph", lambda settings: nullcontext(store))
    monkeypatch.setenv("BOS_HOME", str(workspace.settings.home))
    assert run_command(["doctor", "--graph"]) == code
    assert ("still differs" in capsys.readouterr().out) == (code == 1)


def test_graphs_that_no_version_has_are_dropped(workspace: Workspace, store: GraphStore) -> None:
    projector = Projector(workspace, store)
    (wanted,) = projector.drain().graphs
    topology = topology_of(workspace.reader("grid"))
    store.put(replace(topology, digest="of no version"))
    assert projector.collect() == ("of no version",)
    assert store.topologies() == {wanted}
    assert projector.collect() == ()
    assert projector.drift("grid").is_none


def test_a_version_that_changes_no_table_reads_none(
    workspace: Workspace, store: GraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    projector = Projector(workspace, store)
    projector.drain()
    writer = workspace.writer(parent="grid")
    writer.put_series("load.p_mw", ["a"], np.ones((1, 1)))
    version = writer.commit("as a step of the chain does")
    monkeypatch.setattr(ScenarioReader, "table", lambda self, name: pytest.fail(f"read {name}"))
    assert projector.drain() == Projected((version,), 0, ())
    assert projector.project(version) == Projected((version,), 0, ())


def test_a_name_is_looked_up_once_for_all_kinds(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ontology = Ontology(workspace, "grid", "no graph is wanted")
    name, asked, ask = _name(ontology), list[Statement](), MemoryGraph.ask

    def noted(graph: MemoryGraph, statement: Statement, **given: object) -> list[dict[str, object]]:
        asked.append(statement)
        return ask(graph, statement, **given)

    monkeypatch.setattr(MemoryGraph, "ask", noted)
    assert ontology.element(name).kind == "system"
    assert asked == [Statement.ELEMENTS, Statement.NAMED]
