"""Questions about the elements of a version in two phases: the graph says which elements, SQL says what they are.

The graph knows containment and terminals and nothing else; the tables know everything and walk badly. So a
question is answered by uuids from the graph, and by rows of the tables for these uuids. Where a projection is
missing or cannot be reached, the files of the version answer in its place, and the plan says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from bos_core.access.outage_query import CutOffQuery, OutageQuery
from bos_core.access.projection import Projector, opened_graph, tables_as_graph
from bos_core.access.question import Answer, Plan, PlanStep, Steps, carry_out, check_kind
from bos_core.access.workspace import Workspace
from bos_core.index.graph import LEVELS, Element, Graph, GraphStore, topology_digest
from bos_core.index.ontology_index import OntologyIndex
from bos_core.objects.errors import Finding, NotFoundError, OptionError, StorageError, raise_if_any
from bos_core.objects.text import is_storable

_HOPS_MAX = 1000
_SIMILAR_NAMED = 5


class Ontology:
    """The elements of a scenario version.

    Parameters
    ----------
    workspace : Workspace
    version : str
        Id, name or ``name@N``.
    store : GraphStore or str
        Where graphs are, or why there is none: then the version's files answer.
    """

    def __init__(self, workspace: Workspace, version: str, store: GraphStore | str) -> None:
        self.reader = workspace.reader(version)
        self.version = self.reader.version
        self.rows = OntologyIndex(workspace.engine)
        self._digests = self.reader.table_digests()
        self._stored = self.rows.contents()
        self.graph, self._why = self._graph(store)

    def _graph(self, store: GraphStore | str) -> tuple[Graph, str]:
        digest, why = topology_digest(self._digests), store
        if not isinstance(store, str):
            why = f"the graph has no topology {digest[:12]} yet"
            try:
                if digest in store.topologies():
                    return Graph(store, digest), ""
            except StorageError as error:
                why = str(error)
        return tables_as_graph(self.reader), str(why)

    def element(self, reference: str, kind: str = "") -> Element:
        """Return the element of a uuid, or of a name and kind.

        Raises
        ------
        NotFoundError
            If there is none, or more than one.
        """
        known: list[Element] = []
        if is_storable(reference) and is_storable(kind):
            known = self.graph.elements([reference]) or self.graph.named(kind, reference)
        if len(known) == 1:
            return known[0]
        what = f"{kind or 'element'} {reference!r}"
        if not known:
            raise NotFoundError(f"version {self.version.label} has no {what}; give its uuid, or its name and kind")
        some = ", ".join(f"{e.kind} {e.uuid}" for e in known[:_SIMILAR_NAMED])
        raise NotFoundError(
            f"{what} is {len(known)} elements of version {self.version.label} ({some}); give a uuid"
        )

    def within(self, element: Element, kind: str) -> Query:
        """Ask for the elements of a kind that an element contains, at every level."""
        return Query(self, element, kind)

    def near(self, element: Element, kind: str, hops: int, without: Sequence[Element] = ()) -> Query:
        """Ask for the elements of a kind at most some hops away.

        A hop crosses a device from bus to bus. A branch is as far away as the hop that crosses it, a device with
        one terminal and a bus as far as the bus, a station, region or system as far as its nearest bus. Distances
        from one of these are those from its nearest bus, from a branch those from its ends. The start itself does
        not count.

        Parameters
        ----------
        without : sequence of Element
            Devices that are out and cannot be crossed.
        """
        return Query(self, element, kind, hops, tuple(device.uuid for device in without))

    def outage(self, *lost: Element) -> OutageQuery:
        """Ask for the islands that are left when elements are lost, and for what loses its supply, by kind."""
        return OutageQuery(self, lost)

    def cut_off(self, *lost: Element, kind: str) -> CutOffQuery:
        """Ask for the elements of a kind that lose their supply when others are lost."""
        return CutOffQuery(self, lost, kind)

    def containers(self, element: Element) -> list[Element]:
        """Return station, region and system of an element."""
        return self.graph.containers([element.uuid])

    @property
    def notes(self) -> tuple[str, ...]:
        """Why the graph database does not answer; empty where it does."""
        return (f"the tables stand in for the graph: {self._why}",) if self._why else ()

    def source_of(self, kind: str) -> str:
        """Return who holds the rows of a kind: the database, or the version's files where it lacks them."""
        return self.rows.engine.dialect.name if self._digests.get(kind) in self._stored else "files"

    def attributes(self, kind: str, uuids: Sequence[str] | None, columns: Sequence[str]) -> pa.Table:
        """Return rows of a table with these columns after the id; all rows where no uuids are given."""
        wanted = ["id", *(c for c in columns if c != "id")]
        digest = self._digests.get(kind)
        if digest is not None and digest in self._stored:
            return self.rows.rows(kind, digest, uuids, wanted)
        table = self.reader.table(kind).select(wanted)
        if uuids is None:
            return table
        return table.filter(pc.is_in(table["id"], pa.array(sorted(set(uuids)), pa.string())))


@contextmanager
def opened_ontology(workspace: Workspace, version: str) -> Iterator[Ontology]:
    """Open the ontology of a version for the length of a block, its projections made where they are missing.

    Where the graph cannot be opened, the version's files answer in its place; the plans of questions say why.
    """
    found = workspace.scenarios.get(version)
    store: GraphStore | str
    with ExitStack() as stack:
        try:
            store = stack.enter_context(opened_graph(workspace.settings))
            Projector(workspace, store).project(found.id)
        except StorageError as error:
            store = str(error)
        yield Ontology(workspace, found.id, store)


@dataclass(frozen=True)
class Query:
    """A question; `select` says which columns, `plan` how it is answered, `run` answers it."""

    ontology: Ontology
    start: Element
    kind: str
    hops: int | None = None
    without: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        findings = check_kind(self.ontology.reader.ontology, self.kind, self.columns)
        if self.hops is not None and not 0 <= self.hops <= _HOPS_MAX:
            findings.append(
                Finding("option", (str(self.hops),), "is no number of hops", f"0 to {_HOPS_MAX}", "hops")
            )
        raise_if_any(findings, OptionError)

    def select(self, *columns: str) -> Query:
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
            Rows of id, name, hops (where asked by hops) and the columns selected, nearest first, then by name.
        """
        found = _Found()
        steps = carry_out(self._steps(), found)
        return Answer(self._table(found), Plan(steps, self.ontology.notes))

    def _steps(self) -> Steps[_Found]:
        graph, start = self.ontology.graph, f"{self.start.kind} {self.start.name}"
        engine, kind = graph.store.engine, self.kind
        if self.hops is None:
            steps = [(PlanStep(engine, f"elements of kind {kind} that {start} contains"), self._contained)]
        else:
            out = f" without {len(self.without)} devices" if self.without else ""
            steps = [
                (PlanStep(engine, f"buses of {start}"), self._buses_of_start),
                (PlanStep(engine, f"buses at most {self.hops} hops away{out}"), self._walked),
                (PlanStep(engine, f"elements of kind {kind} there"), self._there),
            ]
        source = self.ontology.source_of(kind)
        columns = ", ".join(self.columns) or "no further columns"
        return [*steps, (PlanStep(source, f"rows of {kind} for these ids: {columns}"), self._looked_up)]

    def _contained(self, found: _Found) -> int:
        inside = self.ontology.graph.contents([self.start.uuid])
        found.elements = {element.uuid: element for element in inside if element.kind == self.kind}
        return len(found.elements)

    def _buses_of_start(self, found: _Found) -> int:
        graph, start = self.ontology.graph, self.start
        if start.kind == "bus":
            buses = {start.uuid}
        elif start.kind in LEVELS:
            buses = {element.uuid for element in graph.contents([start.uuid]) if element.kind == "bus"}
        else:
            buses = {row["bus"] for row in graph.terminals([start.uuid])}
        found.distance = dict.fromkeys(buses, 0)
        return len(buses)

    def _walked(self, found: _Found) -> int:
        assert self.hops is not None
        found.distance = self.ontology.graph.walk(found.distance, self.hops, self.without)
        return len(found.distance)

    def _there(self, found: _Found) -> int:
        if self.kind in LEVELS:
            hops = self.ontology.graph.nearest_contents(found.distance)
        else:
            hops = found.distance if self.kind == "bus" else self._hops_of_devices(found.distance)
        barred = {*self.without, self.start.uuid}
        near = [uuid for uuid, away in hops.items() if away <= (self.hops or 0) and uuid not in barred]
        there = self.ontology.graph.elements(near)
        found.elements = {element.uuid: element for element in there if element.kind == self.kind}
        found.hops = {uuid: hops[uuid] for uuid in found.elements}
        return len(found.elements)

    def _hops_of_devices(self, distance: Mapping[str, int]) -> dict[str, int]:
        """Return how far each device at these buses is: a branch as far as the hop that crosses it."""
        graph, hops = self.ontology.graph, dict[str, int]()
        rows = graph.devices(distance)
        ends = Counter(row["device"] for row in graph.terminals({row["device"] for row in rows}))
        for row in rows:
            away = distance[row["bus"]] + (ends[row["device"]] > 1)
            hops[row["device"]] = min(away, hops.get(row["device"], away))
        return hops

    def _looked_up(self, found: _Found) -> int:
        found.rows = self.ontology.attributes(self.kind, [*found.elements], self.columns)
        return len(found.rows)

    def _table(self, found: _Found) -> pa.Table:
        order = sorted(found.elements.values(), key=lambda e: (found.hops.get(e.uuid, 0), e.name, e.uuid))
        ids = [element.uuid for element in order]
        columns = {"id": pa.array(ids, pa.string()), "name": pa.array([e.name for e in order], pa.string())}
        if self.hops is not None:
            columns["hops"] = pa.array([found.hops[uuid] for uuid in ids], pa.int64())
        table = pa.table(columns)
        place = pc.index_in(table["id"], value_set=found.rows["id"])
        for name in self.columns:
            if name not in columns:
                table = table.append_column(
                    found.rows.schema.field(name).with_nullable(True), found.rows[name].take(place)
                )
        return table


@dataclass
class _Found:
    """What the steps of a question have found so far."""

    distance: dict[str, int] = field(default_factory=dict)
    hops: dict[str, int] = field(default_factory=dict)
    elements: dict[str, Element] = field(default_factory=dict)
    rows: pa.Table = field(default_factory=lambda: pa.table({"id": pa.array([], pa.string())}))
