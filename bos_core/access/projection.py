"""Brings the SQL tables of the ontology and the graph to the scenario versions that the index names.

Both are projections of a version's tables, which the index names by digest: each can be lost and made again.
Versions that share tables share rows and graphs, so a version that a step of the chain makes costs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bos_core.access.scenario_data import ScenarioReader
from bos_core.access.workspace import Workspace
from bos_core.index.graph import TOPOLOGY_TABLES, Element, Graph, GraphStore, Topology, topology_digest
from bos_core.index.graph_memory import MemoryGraph
from bos_core.index.ontology_index import OntologyIndex
from bos_core.index.scenarios import VersionRecord
from bos_core.objects.errors import BosError, NotFoundError
from bos_core.objects.ontology import TIME_VARYING
from bos_core.objects.settings import Settings

_AT_ONCE = 200


@dataclass(frozen=True)
class Drift:
    """Where the graph of a topology differs from the tables.

    Attributes
    ----------
    topology : str
    missing, unknown, changed : tuple of str
        Elements that the graph lacks, that only the graph has, and whose kind or name differ there.
    relationships : int
        Relationships that are missing or too many.
    """

    topology: str
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    relationships: int = 0

    @property
    def is_none(self) -> bool:
        """Whether graph and tables agree."""
        return not (self.missing or self.unknown or self.changed or self.relationships)

    def __str__(self) -> str:
        counts = {
            "elements missing": self.missing,
            "elements that the tables do not have": self.unknown,
            "elements with another kind or name": self.changed,
        }
        parts = [
            f"{len(ids)} {what} ({', '.join(ids[:3])}{', ...' * (len(ids) > 3)})"
            for what, ids in counts.items()
            if ids
        ]
        parts += [f"{self.relationships} relationships differ"] if self.relationships else []
        return "; ".join(parts) or "no difference"


@dataclass(frozen=True)
class Checked:
    """A graph that was compared with the tables.

    Attributes
    ----------
    version : VersionRecord
        One of the versions that share the topology.
    drift : Drift
    left : Drift
        What still differs, after the graph was built anew where it differed.
    """

    version: VersionRecord
    drift: Drift
    left: Drift


@dataclass(frozen=True)
class _Present:
    """Contents and topologies that are projected already."""

    contents: set[str]
    topologies: set[str]


@dataclass(frozen=True)
class Projected:
    """What a call of the projector has done: versions looked at, tables stored, graphs built."""

    versions: tuple[str, ...] = ()
    tables: int = 0
    graphs: tuple[str, ...] = field(default=())


class Projector:
    """Writes the projections of versions.

    Parameters
    ----------
    workspace : Workspace
    graph : GraphStore
    """

    def __init__(self, workspace: Workspace, graph: GraphStore) -> None:
        self.workspace, self.graph = workspace, graph
        self.ontology = OntologyIndex(workspace.engine)

    def drain(self) -> Projected:
        """Project every version that the outbox names, and take the entries out of it.

        An entry is taken out only when both projections hold its version: after a failure it is there again. A
        version that cannot be projected does not hold up the others.

        Raises
        ------
        BosError
            The first that a version has met with, after all have been tried.
        """
        versions: list[str] = []
        graphs: list[str] = []
        failures: list[BosError] = []
        tables = last = 0
        present = self._present()
        while entries := self.workspace.ledger.outbox(_AT_ONCE, last):
            last, done = entries[-1].sequence, []
            for entry in entries:
                if entry.kind == "scenario_version":
                    try:
                        projected = self._project(entry.key, present)
                    except BosError as error:
                        failures.append(error)
                        continue
                    versions.append(entry.key)
                    tables += projected.tables
                    graphs += projected.graphs
                done.append(entry.sequence)
            self.workspace.ledger.mark_drained(done)
        if failures:
            raise failures[0]
        return Projected(tuple(versions), tables, tuple(graphs))

    def project(self, version: str) -> Projected:
        """Store the static tables of a version and build the graph of its topology, where they are not there."""
        return self._project(version, self._present())

    def _present(self) -> _Present:
        return _Present(set(self.ontology.contents()), set(self.graph.topologies()))

    def _project(self, version: str, present: _Present) -> Projected:
        reader = self.workspace.reader(version)
        digests = reader.table_digests()
        topology = topology_digest(digests)
        static = [name for name, schema in reader.ontology.items() if schema.data_type not in TIME_VARYING]
        new = [name for name in static if name in digests and digests[name] not in present.contents]
        stored = sum(self.ontology.put(name, digests[name], reader.table(name)) for name in new)
        built = topology not in present.topologies and self.graph.put(topology_of(reader))
        present.contents.update(digests.values())
        present.topologies.add(topology)
        return Projected((version,), stored, (topology,) if built else ())

    def rebuild(self, version: str) -> Projected:
        """Build the graph of a version's topology anew."""
        self.graph.drop(topology_digest(self.workspace.reader(version).table_digests()))
        return self.project(version)

    def mend(self) -> Iterator[Checked]:
        """Project every version, compare each graph with the tables, and build anew what differs."""
        self.drain()
        for version in self._topologies().values():
            self.project(version.id)
            drift = left = self.drift(version.id)
            if not drift.is_none:
                self.rebuild(version.id)
                left = self.drift(version.id)
            yield Checked(version, drift, left)

    def collect(self) -> tuple[str, ...]:
        """Drop the graphs of topologies that no version has any more, and return these."""
        built = self.graph.topologies()
        unneeded = tuple(sorted(built - self._topologies().keys()))
        for topology in unneeded:
            self.graph.drop(topology)
        return unneeded

    def _topologies(self) -> dict[str, VersionRecord]:
        """Return the topologies of all versions, each with the first version that has it."""
        found: dict[str, VersionRecord] = {}
        for version in self.workspace.scenarios.versions():
            found.setdefault(topology_digest(self.workspace.reader(version.id).table_digests()), version)
        return found

    def drift(self, version: str) -> Drift:
        """Compare the graph of a version's topology with its tables.

        Raises
        ------
        NotFoundError
            If the graph has not been built.
        """
        expected = topology_of(self.workspace.reader(version))
        if expected.digest not in self.graph.topologies():
            raise NotFoundError(
                f"the graph has no topology {expected.digest[:12]} yet; `bos doctor --graph` builds it"
            )
        graph = Graph(self.graph, expected.digest)
        wanted = {row["uuid"]: Element(**row) for row in expected.elements.to_pylist()}
        found = {element.uuid: element for element in graph.all()}
        shared = wanted.keys() & found.keys()
        rows = {(r["device"], r["terminal"], r["bus"]) for r in graph.connections()}
        terminals = {tuple(r.values()) for r in expected.connects.to_pylist()}
        inside = {(r["parent"], r["child"]) for r in expected.contains.to_pylist()}
        contained = {(r["parent"], r["child"]) for r in graph.containment()}
        return Drift(
            expected.digest,
            tuple(sorted(wanted.keys() - found.keys())),
            tuple(sorted(found.keys() - wanted.keys())),
            tuple(sorted(uuid for uuid in shared if wanted[uuid] != found[uuid])),
            len(rows ^ terminals) + len(inside ^ contained),
        )


@contextmanager
def opened_graph(settings: Settings) -> Iterator[GraphStore]:
    """Open the graph that the settings name, the embedded one where they name none, for the length of a block.

    Raises
    ------
    StorageError
        If it cannot be reached, or another process has the embedded one.
    """
    store: GraphStore
    if settings.graph_url:  # each engine takes long to load, and most commands need none
        from bos_core.index.graph_neo4j import Neo4jGraph

        store = Neo4jGraph(settings.graph_url, settings.graph_user, settings.graph_password.get_secret_value())
    else:
        from bos_core.index.graph_ladybug import LadybugGraph

        store = LadybugGraph(settings.home / "graph.lbug")
    try:
        yield store
    finally:
        store.close()


def topology_of(reader: ScenarioReader) -> Topology:
    """Return the topology of a version."""
    digest = topology_digest(reader.table_digests())
    return Topology.of(digest, {name: reader.table(name) for name in TOPOLOGY_TABLES})


def tables_as_graph(reader: ScenarioReader) -> Graph:
    """Return the graph of a version made of its tables, in memory."""
    store, topology = MemoryGraph(), topology_of(reader)
    store.put(topology)
    return Graph(store, topology.digest)
