"""What programs add to the ontology, and how it is taken back; shared with tests/integration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from extending_program import ELECTROLYSER, GROWTH, program

from bos_core.access.added_elements import added_elements
from bos_core.access.projection import Projector
from bos_core.access.workspace import Workspace
from bos_core.api import Scenarios
from bos_core.exchange import import_grid
from bos_core.index.database import reading
from bos_core.index.graph_memory import MemoryGraph
from bos_core.index.ontology_index import OntologyIndex
from bos_core.index.programs import ProgramIndex
from bos_core.objects.errors import InputError, OptionError
from bos_core.objects.extension import AddedColumn, Extension, check_extensions
from bos_core.objects.ontology import TABLES, TIME_VARYING, DataType
from bos_core.programs import submission
from bos_core.programs.catalogue import Catalogue

GRID = "pandapower:case9"
Write = Callable[..., Path]


@pytest.fixture
def catalogue(workspace: Workspace) -> Catalogue:
    return Catalogue(workspace)


@pytest.fixture
def scenarios(workspace: Workspace) -> Scenarios:
    return Scenarios(workspace)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str = "year", **parts: str) -> Path:
        path = tmp_path / "given" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(program(name, **parts))
        return path

    return written


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    path = tmp_path / "electrolysers.toml"
    path.write_text(
        '[[add]]\ntable = "electrolyser"\nname = "H2 North"\n'
        'values = {bus = "5", p_mw = 20, owner = "Gas AG"}\n'
        '[[add]]\ntable = "electrolyser"\nname = "H2 South"\nvalues = {bus = "9"}\n'
    )
    return path


def schema_of(workspace: Workspace) -> dict[str, tuple[object, ...]]:
    """Return columns, keys and indexes of every table, as the database tells."""
    with reading(workspace.engine) as connection:
        looked = sa.inspect(connection)
        return {
            name: (
                [(c["name"], str(c["type"]), c["nullable"]) for c in looked.get_columns(name)],
                looked.get_pk_constraint(name)["constrained_columns"],
                sorted(index["name"] or "" for index in looked.get_indexes(name)),
                [(k["constrained_columns"], k["referred_table"]) for k in looked.get_foreign_keys(name)],
            )
            for name in looked.get_table_names()
        }


def rows_of(workspace: Workspace, version: str, kind: str) -> pa.Table:
    """Return the rows that SQL has of a kind, projected where they are missing."""
    Projector(workspace, MemoryGraph()).project(workspace.scenarios.get(version).id)
    return OntologyIndex(workspace.engine).rows(kind, workspace.reader(version).table_digests()[kind])


def test_columns_and_kinds_come_and_go(catalogue: Catalogue, scenarios: Scenarios, write: Write) -> None:
    workspace = catalogue.workspace
    before, digest = schema_of(workspace), scenarios.import_(GRID, "nine").digest
    submission.add(catalogue, write())
    during = schema_of(workspace)
    gained = [c[0] for c in during["t_load"][0] if c not in before["t_load"][0]]  # type: ignore[attr-defined]
    assert gained == ["growth", "priority"]
    assert [c[0] for c in during["t_electrolyser"][0]] == [  # type: ignore[attr-defined]
        "content", "id", "bus", "p_mw", "owner", "flexible",
    ]  # fmt: skip
    assert during["t_electrolyser"][2] == ["t_electrolyser_by_bus"]
    assert {n: t for n, t in during.items() if n not in ("t_load", "t_electrolyser")} == {
        n: t for n, t in before.items() if n != "t_load"
    }
    assert catalogue.entry("year").type == "model"
    assert scenarios.import_(GRID, "again").digest == digest
    assert workspace.reader("nine").table("load")["growth"].null_count == 3
    submission.remove(catalogue, "year")
    assert schema_of(workspace) == before
    assert workspace.scenarios.ontology() == TABLES


def test_a_version_of_the_program_migrates_to_the_next(
    catalogue: Catalogue, scenarios: Scenarios, write: Write
) -> None:
    workspace = catalogue.workspace
    scenarios.import_(GRID, "nine")
    submission.add(catalogue, write())
    scenarios.edit("nine", "load.growth:*=1.2", "load.priority:*=1")
    other = GROWTH.replace('"priority", "int", "1"', '"rank", "int", "1"').replace("10.0", "20.0")
    with pytest.raises(OptionError, match=r"load\.priority: holds values in 1 scenarios \(nine\)"):
        submission.add(catalogue, write(version="2.0.0", extends=other))
    assert "priority" in {c.name for c in workspace.scenarios.ontology()["load"].columns}
    submission.add(catalogue, write(version="2.0.0", extends=other), drop_values=True)
    columns = [c[0] for c in schema_of(workspace)["t_load"][0]]  # type: ignore[attr-defined]
    assert columns[-2:] == ["growth", "rank"]
    assert "t_electrolyser" not in schema_of(workspace)
    assert workspace.reader("nine").table("load")["growth"].to_pylist() == [1.2] * 3
    assert scenarios.edit("nine", "load.growth:*=15").version.number == 3
    text = other.replace('"growth", "float"', '"growth", "text"').replace("1.0, 0.0, 20.0", '"none"')
    submission.add(catalogue, write(version="3.0.0", extends=text), drop_values=True)
    assert workspace.reader("nine").table("load")["growth"].to_pylist() == [None] * 3
    assert rows_of(workspace, "nine", "load")["growth"].to_pylist() == [None] * 3


def test_values_are_kept_in_versions_and_in_sql(
    catalogue: Catalogue, scenarios: Scenarios, write: Write, overlay: Path
) -> None:
    workspace = catalogue.workspace
    scenarios.import_(GRID, "nine")
    assert rows_of(workspace, "nine", "load").num_rows == 3
    submission.add(catalogue, write())
    assert rows_of(workspace, "nine", "load")["growth"].null_count == 3
    first = workspace.reader("nine").table("entity").filter(pa.compute.field("kind") == "load")["name"][0].as_py()
    scenarios.edit("nine", f"load.growth:{first}=1.5")
    version, before, notes = scenarios.overlay("nine", overlay)
    assert (version.label, before.label) == ("nine@3", "nine@2")
    assert [str(note) for note in notes] == ["2 x electrolyser: added by overlay electrolysers.toml"]
    growth = [1.5, None, None]
    assert sorted(rows_of(workspace, "nine", "load")["growth"].to_pylist(), key=str) == growth
    assert sorted(rows_of(workspace, "nine", "electrolyser")["owner"].to_pylist(), key=str) == ["Gas AG", None]
    found = scenarios.diff("nine@1", "nine")
    cells = [(c.column, c.before, c.after) for t in found.tables for c in t.cells]
    assert cells == [("growth", None, 1.5)]
    assert {t.table: len(t.added) for t in found.tables if t.added} == {
        "connects": 2, "contains": 2, "electrolyser": 2, "entity": 2,
    }  # fmt: skip
    with pytest.raises(InputError, match=r"growth .*: has 11\.0 1; give at most 10"):
        scenarios.edit("nine", f"load.growth:{first}=11")
    with pytest.raises(InputError, match=r"p_mw H2 North|electrolyser"):
        scenarios.edit("nine", "electrolyser.p_mw:H2 North=-1")

    digest = version.digest
    with pytest.raises(OptionError) as caught:
        submission.remove(catalogue, "year")
    assert [f.ids for f in caught.value.findings] == [("load.growth",), ("table electrolyser",)]
    assert catalogue.entry("year").state == "trial"
    submission.remove(catalogue, "year", drop_values=True)
    reader = workspace.reader("nine")
    assert "growth" not in reader.table("load").column_names
    assert "electrolyser" not in reader.tables()
    assert rows_of(workspace, "nine", "load").num_rows == 3
    submission.add(catalogue, write())
    assert workspace.scenarios.get("nine").digest == digest
    assert sorted(rows_of(workspace, "nine", "load")["growth"].to_pylist(), key=str) == growth
    assert rows_of(workspace, "nine", "electrolyser").num_rows == 2


def test_clearing_the_values_gives_the_digest_of_before(
    catalogue: Catalogue, scenarios: Scenarios, write: Write
) -> None:
    digest = scenarios.import_(GRID, "nine").digest
    submission.add(catalogue, write())
    assert scenarios.edit("nine", "load.growth:*=1.5").version.digest != digest
    assert scenarios.edit("nine", "load.growth:*=null").version.digest == digest
    submission.remove(catalogue, "year")


def test_a_program_gets_the_values_of_its_kinds(
    catalogue: Catalogue, scenarios: Scenarios, write: Write, overlay: Path
) -> None:
    workspace = catalogue.workspace
    submission.add(catalogue, write())
    scenarios.import_(GRID, "nine", overlay=overlay)
    reader = workspace.reader("nine")
    name = reader.table("entity").filter(pa.compute.field("kind") == "load")["name"][1].as_py()
    scenarios.edit("nine", f"load.growth:{name}=2")
    reader = workspace.reader("nine")
    grid, _ = reader.grid()
    extensions = catalogue.resolve("power_flow", "year").manifest.extends
    found = added_elements(reader, extensions, grid)
    assert found["load"]["id"].tolist() == grid.loads.id.tolist()
    assert found["load"]["growth"].tolist() == [2.0 if n == name else 1.0 for n in grid.loads.name]
    assert found["load"]["priority"].dtype == np.int64
    made = found["electrolyser"]
    assert grid.network.bus_name[made["bus"]].tolist() == ["5", "9"]
    assert made["p_mw"].tolist() == [20.0, 0.0]
    assert made["owner"].tolist() == ["Gas AG", "unknown"]
    assert made["flexible"].tolist() == [False, False]
    submission.remove(catalogue, "year", drop_values=True)
    later = added_elements(workspace.reader("nine"), extensions, grid)
    assert later["load"]["growth"].tolist() == found["load"]["growth"].tolist()
    assert later["electrolyser"]["p_mw"].tolist() == [20.0, 0.0]


def test_programs_may_share_what_they_declare_alike(catalogue: Catalogue, write: Write) -> None:
    submission.add(catalogue, write("one", extends=GROWTH))
    submission.add(catalogue, write("two", extends=GROWTH + ELECTROLYSER))
    submission.remove(catalogue, "one")
    assert "growth" in {c.name for c in catalogue.workspace.scenarios.ontology()["load"].columns}
    with pytest.raises(
        OptionError, match=r"load\.growth: is declared otherwise by power_flow/two than by power_flow/"
    ):
        submission.add(catalogue, write("three", extends=GROWTH.replace("10.0", "3.0")))
    with pytest.raises(OptionError, match=r"electrolyser: has terminals"):
        submission.add(catalogue, write("three", extends=ELECTROLYSER.replace('("bus",)', '("from", "to")')))
    submission.remove(catalogue, "two")
    assert catalogue.workspace.scenarios.ontology() == TABLES


class Crash(BaseException):
    """The process dies here."""


@pytest.fixture
def dies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the process die when tables and columns are changed, before the transaction ends."""
    real = submission.migrate_ontology

    def dying(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(submission, "migrate_ontology", dying)
        yield


def test_what_dies_between_the_columns_and_the_commit_has_done_nothing(
    catalogue: Catalogue, write: Write, dies: None
) -> None:
    before = schema_of(catalogue.workspace)
    with pytest.raises(Crash):
        submission.add(catalogue, write())
    assert schema_of(catalogue.workspace) == before
    assert catalogue.index.changes() == ()
    assert Catalogue(catalogue.workspace).check() == []


def test_what_dies_while_it_is_taken_back_is_all_there(
    catalogue: Catalogue, write: Write, request: pytest.FixtureRequest
) -> None:
    submission.add(catalogue, write())
    during = schema_of(catalogue.workspace)
    request.getfixturevalue("dies")
    with suppress(Crash):
        submission.remove(catalogue, "year")
    assert schema_of(catalogue.workspace) == during
    assert ProgramIndex(catalogue.workspace.engine).present().keys() == {("power_flow", "year")}


def test_bad_extensions_are_refused_with_everything_that_is_wrong() -> None:
    column = AddedColumn("growth", "float", "1", "what it is", 1.0)
    bad = [
        Extension("load", (replace(column, name="bus"), replace(column, name="share_z"), column, column)),
        Extension("unit", ()),
        Extension("Elektrolyseur; DROP TABLE task", (column,), ("bus", "earth"), ""),
        Extension("bus_state", (column,)),
        Extension("storage", (replace(column, type="float32", doc=" "),), ("bus",)),  # type: ignore[arg-type]
        Extension(
            "line",
            (
                replace(column, name="a", default="x"),
                replace(column, name="b", default=2.0, maximum=1.0),
                replace(column, name="c", type="bool", default=True, minimum=0.0),
                replace(column, name="content", default=float("nan")),
                replace(column, name="d", type="int", default=True),
            ),
        ),
    ]
    said = "\n".join(map(str, check_extensions(bad)))
    for words in (
        "load.bus: is a column already",
        "load.share_z: is a column already",
        "load.growth: is added twice",
        "unit: gains no column",
        "is no name of a table",
        "is a new kind with terminals ('bus', 'earth')",
        "is a new kind that nobody knows",
        "bus_state: holds E_ES, no static models",
        "storage: is there already, with terminals",
        "storage.growth: says nothing",
        "storage.growth: has type 'float32'",
        "line.a: has default 'x'",
        "line.b: has a default outside its bounds",
        "line.c: has bounds that are none",
        "line.content: is no name of a column",
        "line.content: has a default outside its bounds, or one that is not finite",
        "line.d: has default True",
    ):
        assert words in said, words


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("GROWTH", "is no literal"),
        ("Extension(table=1),", "Extension has table that is no text"),
        ("Extension(),", "Extension lacks table"),
        ("Extension('load', colour=1),", "Extension has colour; it takes table, columns, terminals, doc"),
        ("Extension('load', (AddedColumn('x'),)),", "AddedColumn lacks type, unit, doc, default"),
        ("Extension('load', (3,)),", "Extension has columns that is no tuple of AddedColumn"),
        ("AddedColumn('x', 'float', '1', 'x', 1.0),", "is no tuple of Extension"),
        ("Extension('load', (AddedColumn('x', 'float', '1', 'x', open('/etc/passwd')),)),", "is no literal"),
    ],
)
def test_what_is_no_extension_is_refused_unread(
    catalogue: Catalogue, write: Write, extends: str, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        submission.add(catalogue, write(extends=extends))


def test_the_ontology_tells_kinds_that_can_be_extended() -> None:
    extended = {name for name, schema in TABLES.items() if schema.data_type is DataType.E_SM}
    assert {"bus", "unit", "load", "line"} <= extended
    assert not any(TABLES[name].data_type in TIME_VARYING for name in extended)


def test_a_native_file_carries_what_was_added(
    catalogue: Catalogue, scenarios: Scenarios, write: Write, overlay: Path, tmp_path: Path
) -> None:
    plain, rich = tmp_path / "plain.zip", tmp_path / "rich.zip"
    scenarios.import_(GRID, "nine")
    scenarios.export("nine", plain)
    submission.add(catalogue, write())
    scenarios.export("nine", rich)
    assert rich.read_bytes() == plain.read_bytes()
    version = scenarios.overlay("nine", overlay)[0]
    scenarios.export("nine", rich)
    assert scenarios.import_(rich, "copy").digest == version.digest
    submission.remove(catalogue, "year", drop_values=True)
    with pytest.raises(InputError, match="or add the program that brings it"):
        import_grid(rich)
