"""Islands and lost supply after outages, against brute force on the tables of the devices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bos_core.access.ontology_query import Ontology
from bos_core.access.projection import Projector
from bos_core.access.workspace import Workspace
from bos_core.exchange import import_grid
from bos_core.grid.topology import find_islands
from bos_core.index.graph_ladybug import LadybugGraph
from bos_core.objects.columns import numpy_columns
from bos_core.objects.errors import OptionError
from bos_core.objects.ontology import TABLES
from bos_core.objects.settings import Settings

Tables = dict[str, pa.Table]
ENDS = {
    "line": ("from_bus", "to_bus"),
    "transformer": ("from_bus", "to_bus"),
    "equivalent_branch": ("from_bus", "to_bus"),
    "transformer3": ("high_bus", "medium_bus", "low_bus"),
}


def switched_off(table: pa.Table, column: str, rows: list[int]) -> pa.Table:
    values = np.array(table[column].to_pylist())
    values[rows] = False
    place = table.column_names.index(column)
    return table.set_column(place, table.schema.field(place), pa.array(values.tolist()))


@pytest.fixture(scope="module", params=["pandapower:example_multivoltage", "pandapower:case118"])
def tables(request: pytest.FixtureRequest) -> Tables:
    """A grid with open switches, and with a bus, branches, a load and a unit out of service."""
    made = dict(import_grid(request.param).tables)
    for name, column, rows in (
        ("bus_state", "in_service", [7]),
        ("branch_state", "in_service", [3, 11, 12, 20]),
        ("load_state", "in_service", [2]),
        ("unit_state", "in_service", [1]),
    ):
        made[name] = switched_off(made[name], column, rows)
    if made["switch_state"].num_rows:
        made["switch_state"] = switched_off(made["switch_state"], "closed", [5, 40, 41, 70, 80, 86])
    return made


@pytest.fixture
def ontology(tmp_path: Path, tables: Tables) -> Iterator[Ontology]:
    workspace = Workspace.open(Settings(home=tmp_path))
    writer = workspace.writer(scenario="grid")
    for name, table in tables.items():
        writer.put_table(name, table)
    writer.commit("import")
    store = LadybugGraph(tmp_path / "graph.lbug")
    Projector(workspace, store).drain()
    yield Ontology(workspace, "grid", store)
    store.close()


@dataclass(frozen=True)
class Force:
    """Brute force on the tables of the devices, which know their buses themselves."""

    tables: Tables

    def off(self, state: str, column: str = "in_service") -> set[str]:
        return {row["id"] for row in self.tables[state].to_pylist() if not row[column]}

    def contents(self, start: str) -> set[str]:
        below = {row["child"] for row in self.tables["contains"].to_pylist() if row["parent"] == start}
        return {start}.union(*map(self.contents, below))

    def parts(self, lost: set[str]) -> list[set[str]]:
        out = self.off("bus_state") | self.off("branch_state") | lost
        opened = self.off("switch_state", "closed") | lost
        buses = [bus for bus in self.tables["bus"]["id"].to_pylist() if bus not in out]
        switches = self.tables["switch"].to_pylist()
        ends_open = {(row["element"], row["bus"]) for row in switches if row["id"] in opened}
        pairs = [(row["bus"], row["element"]) for row in switches if row["id"] not in opened]
        for kind, columns in ENDS.items():
            for row in self.tables[kind].to_pylist():
                ends = [row[c] for c in columns if row["id"] not in out and (row["id"], row[c]) not in ends_open]
                ends = [bus for bus in ends if bus not in out]
                pairs += [(a, b) for a in ends for b in ends]
        place = {bus: k for k, bus in enumerate(buses)}
        known = np.array([(place[a], place[b]) for a, b in pairs if a in place and b in place]).reshape(-1, 2)
        links = coo_array((np.ones(len(known)), known.T), shape=(len(buses), len(buses)))
        _, label = connected_components(links, directed=False)
        return [{bus for bus, at in zip(buses, label, strict=True) if at == part} for part in set(label)]

    def main(self, lost: set[str]) -> tuple[set[str], set[str]]:
        """Return the buses of the largest island before, and those of the island that keeps most of it."""
        before = min(self.parts(set()), key=lambda part: (-len(part), min(part)))
        after = min(self.parts(lost), key=lambda part: (-len(part & before), -len(part), min(part)), default=set())
        return before, after

    def cut_off(self, kind: str, lost: set[str]) -> set[str]:
        before, after = self.main(lost)
        out = self.off(f"{kind}_state")
        rows = [row for row in self.tables[kind].to_pylist() if row["bus"] in before and row["id"] not in out]
        return {row["id"] for row in rows if row["bus"] not in after or row["id"] in lost}


def losses(tables: Tables) -> list[list[str]]:
    """Draw outages: none, each of some elements of every kind, some pairs, a switch, everything."""
    rng = np.random.default_rng(5)
    drawn: list[list[str]] = [[], [tables["system"]["id"][0].as_py()]]
    for kind in ("bus", "line", "transformer", "transformer3", "station", "load", "unit", "switch"):
        ids = tables[kind]["id"].to_pylist()
        drawn += [[str(i)] for i in rng.permutation(ids)[:8]]
        drawn += [[str(i) for i in rng.permutation(ids)[:3]] for _ in range(2) if ids]
    return drawn


def test_islands_and_lost_supply_are_those_of_brute_force(ontology: Ontology, tables: Tables) -> None:
    force = Force(tables)
    power = {kind: dict(zip(*(tables[f"{kind}_state"][c].to_pylist() for c in ("id", "p_mw")), strict=True))
             for kind in ("load", "unit")}  # fmt: skip
    torn = 0
    for ids in losses(tables):
        lost = set().union(*map(force.contents, ids))
        answer = ontology.outage(*(ontology.element(uuid) for uuid in ids)).run()
        parts = force.parts(lost)
        assert sorted(answer.islands["buses"].to_pylist()) == sorted(map(len, parts))
        before, after = force.main(lost)
        impact = {row["kind"]: row for row in answer.impact.to_pylist()}
        assert impact.get("bus", {"elements": 0})["elements"] == len(before - after)
        assert sum(answer.islands["cut_off"].to_pylist()) == len(before - after - lost)
        for kind in ("load", "unit"):
            wanted = force.cut_off(kind, lost)
            found = impact.get(kind, {"elements": 0, "p_mw": 0.0})
            assert found["elements"] == len(wanted)
            assert found["p_mw"] == pytest.approx(sum(power[kind][uuid] for uuid in wanted))
        torn += len(before - after) > 1
    assert torn > 5


def test_islands_without_an_outage_are_those_of_the_power_flow(ontology: Ontology, tables: Tables) -> None:
    island = find_islands({name: numpy_columns(table) for name, table in tables.items()}).bus
    sizes = np.unique(island[island >= 0], return_counts=True)[1]
    answer = ontology.outage().run()
    assert sorted(answer.islands["buses"].to_pylist()) == sorted(sizes.tolist())
    assert answer.impact.num_rows == 0


@pytest.mark.parametrize("kind", ["bus", "load", "unit"])
def test_what_is_cut_off_comes_with_its_island(ontology: Ontology, tables: Tables, kind: str) -> None:
    force = Force(tables)
    home = "id" if kind == "bus" else "bus"
    bus_of = dict(zip(*(tables[kind][name].to_pylist() for name in ("id", home)), strict=True))
    sizes_seen = set()
    for ids in (ids for ids in losses(tables) if len(ids) == 3):
        lost = set().union(*map(force.contents, ids))
        elements = [ontology.element(uuid) for uuid in ids]
        before, after = force.main(lost)
        rows = ontology.cut_off(*elements, kind=kind).run().table.to_pylist()
        wanted = before - after if kind == "bus" else force.cut_off(kind, lost)
        assert {row["id"] for row in rows} == wanted
        sizes = dict(enumerate(ontology.outage(*elements).run().islands["buses"].to_pylist(), 1))
        parts = {bus: len(part) for part in force.parts(lost) for bus in part}
        for row in rows:
            size = None if row["id"] in lost else parts.get(bus_of[row["id"]])
            assert sizes.get(row["island"]) == size
            sizes_seen.add(size)
    assert len(sizes_seen) > 1


def test_a_station_is_cut_off_with_the_last_of_its_buses(ontology: Ontology, tables: Tables) -> None:
    force = Force(tables)
    station_of = {row["child"]: row["parent"] for row in tables["contains"].to_pylist()}
    for ids in losses(tables):
        before, after = force.main(set().union(*map(force.contents, ids)))
        query = ontology.cut_off(*(ontology.element(uuid) for uuid in ids), kind="station")
        wanted = {station_of[bus] for bus in before} - {station_of[bus] for bus in after}
        assert set(query.run().table["id"].to_pylist()) == wanted


def test_rows_carry_power_and_the_columns_asked_for(ontology: Ontology, tables: Tables) -> None:
    system = ontology.element(tables["system"]["id"][0].as_py())
    found = ontology.cut_off(system, kind="unit").select("p_mw_max", "technology").run().table
    assert found.column_names == ["id", "name", "island", "p_mw", "p_mw_max", "technology"]
    assert found.schema.field("p_mw").metadata[b"unit"] == b"MW"
    by_id = {row["id"]: row for row in tables["unit"].to_pylist()}
    state = {row["id"]: row for row in tables["unit_state"].to_pylist()}
    assert found.num_rows > 3
    for row in found.to_pylist():
        assert (row["p_mw_max"], row["p_mw"]) == (by_id[row["id"]]["p_mw_max"], state[row["id"]]["p_mw"])
    impact = {row["kind"]: row for row in ontology.outage(system).run().impact.to_pylist()}
    assert impact["unit"]["capacity_mw"] == pytest.approx(sum(found["p_mw_max"].to_pylist()))


def test_plans_say_who_answers_before_and_after(ontology: Ontology, tables: Tables) -> None:
    bus = ontology.element(tables["bus"]["id"][0].as_py())
    for query in (ontology.outage(bus), ontology.cut_off(bus, kind="load")):
        before, after = query.plan(), query.run().plan
        assert [step.source for step in before.steps[:5]] == ["ladybug", "files", "sqlite", "files", "ladybug"]
        assert before.steps[3].action == f"terminals of all devices; islands without bus {bus.name}"
        assert [(step.source, step.action) for step in after.steps] == [
            (step.source, step.action) for step in before.steps
        ]
        assert all(step.found is not None and step.seconds is not None for step in after.steps)


def test_the_files_answer_alike(ontology: Ontology, tables: Tables, tmp_path: Path) -> None:
    files = Ontology(Workspace.open(Settings(home=tmp_path)), "grid", "no graph is wanted")
    for ids in losses(tables)[2:12]:
        lost = [ontology.element(uuid) for uuid in ids]
        here, there = ontology.outage(*lost).run(), files.outage(*lost).run()
        assert (here.islands, here.impact) == (there.islands, there.impact)
        assert there.plan.notes


def test_an_hvdc_line_joins_no_islands(tmp_path: Path, tables: Tables) -> None:
    def links(table: pa.Table) -> Tables:
        """Let HVDC lines of the same name stand in for all lines."""
        ids = tables["line"]["id"].to_pylist()
        columns = {c.name: [0.0] * len(ids) for c in TABLES["hvdc"].columns}
        ends = {name: tables["line"][name].to_pylist() for name in ("from_bus", "to_bus")}
        return {
            **tables,
            "line": TABLES["line"].empty(),
            "hvdc": TABLES["hvdc"].build({**columns, "id": ids, **ends}),
        }

    made = links(tables["line"])
    workspace = Workspace.open(Settings(home=tmp_path))
    writer = workspace.writer(scenario="hvdc")
    for name, table in made.items():
        writer.put_table(name, table)
    writer.commit("lines are HVDC lines")
    answer = Ontology(workspace, "hvdc", "no graph is wanted").outage().run()
    assert sorted(answer.islands["buses"].to_pylist()) == sorted(map(len, Force(made).parts(set())))
    assert answer.islands.num_rows > len(Force(tables).parts(set()))


def test_bad_questions_are_findings(ontology: Ontology, tables: Tables) -> None:
    bus = ontology.element(tables["bus"]["id"][0].as_py())
    with pytest.raises(OptionError, match="is no kind of element"):
        ontology.cut_off(bus, kind="contains")
    with pytest.raises(OptionError, match="colour"):
        ontology.cut_off(bus, kind="load").select("colour")
