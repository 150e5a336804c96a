"""300 texts that have broken other programs, through every field that a user can set.

Each is read back as given, or refused.

Run on SQLite, ladybug and a folder by the unit tests, on PostgreSQL, Neo4j and S3 by the integration tests.
"""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from bos_core.access.commit import commit_outputs
from bos_core.access.ontology_query import Ontology
from bos_core.access.projection import Projector
from bos_core.access.scenario_edit import Edit
from bos_core.access.scenario_versions import branch, edit
from bos_core.access.workspace import Workspace
from bos_core.exchange import import_grid
from bos_core.index.graph import Graph, GraphStore, topology_digest
from bos_core.index.ontology_index import OntologyIndex
from bos_core.index.records import LogLine
from bos_core.index.scenarios import ScenarioIndex
from bos_core.objects.errors import BosError, Finding, InputError, NotFoundError, OptionError, ProgramError
from bos_core.objects.ontology import NAME_LENGTH_MAX
from bos_core.objects.settings import Settings
from bos_core.objects.task import ProgramRef, Task, TaskInput, TaskSetContext
from bos_core.programs.catalogue import Catalogue

COUNT = 300
_LONG = "".join(random.Random(2).choices("abcdefghij klmnopqrstuvwxyz", k=9000))  # no database compresses it away
_SEEDS = (
    *(
        "'",
        '"',
        "`",
        "''",
        '""',
        "\\",
        "\\\\",
        "\\'",
        "\\n",
        "\\u0000",
        "\\x00",
        "/",
        "//",
        "--",
        "/*",
        "*/",
        ";",
        "#",
    ),
    *(
        "%",
        "%s",
        "%(a)s",
        "%%",
        "{0}",
        "{}",
        "{a}",
        "${a}",
        "$a",
        ":a",
        ":1",
        "?",
        "?1",
        "@",
        "@1",
        "$1",
        "$$",
        "&",
    ),
    *(
        "'; DROP TABLE task; --",
        '"; DROP TABLE task; --',
        "' OR '1'='1",
        "1; SELECT pg_sleep(1)",
        "') RETURNING *--",
    ),
    *("}) DETACH DELETE n //", "' }) DETACH DELETE n //", '"}) MATCH (n) DETACH DELETE n //', "`) DELETE n //"),
    *(
        "\n",
        "\r",
        "\r\n",
        "\t",
        "\v",
        "\f",
        "\x01",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\u2028",
        "\u2029",
        "\ufeff",
        "\x00",
    ),
    *(
        "\u202eabc",
        "\u200f",
        "\u061c",
        "عربي",
        "עברית",
        "汉字",
        "日本語",
        "한국어",
        "Ελληνικά",
        "Дом",
        "ß",
        "İ",
        "ı",
    ),
    *(
        "😀",
        "👩‍👩‍👧‍👦",
        "🇩🇪",
        "e\u0301",
        "a" + "\u0300" * 50,
        "\u200d",
        "\u200b",
        "ﬀ",
        "Ⅷ",
        "\U0010ffff",
        "\ufffd",
        "\ud800",
    ),
    *("null", "None", "NaN", "true", "0", "-1", "1e400", "inf", "[]", "{}", '{"a": 1}', "<b>x</b>", "&lt;", "]]>"),
    *(
        "../../etc/passwd",
        "C:\\x",
        "a/b",
        "..",
        ".",
        "~",
        "=1+1",
        "+1",
        "-1",
        "@SUM(1)",
        "x" * 199,
        _LONG,
        " ",
        "",
    ),
)


def texts() -> list[str]:
    """Return the seeds, then random pairs and triples of them."""
    found = list(dict.fromkeys(_SEEDS))
    draw = random.Random(1)
    while len(found) < COUNT:
        text = "".join(draw.sample(_SEEDS, draw.choice((2, 3))))
        if text not in found:
            found.append(text)
    return found


TEXTS = texts()
_NEVER = ("\x00", "\ud800")
"""No database takes these: every field refuses them."""


def refused(text: str) -> bool:
    """Whether a text may not be stored anywhere."""
    return any(mark in text for mark in _NEVER)


def each(act: Callable[[str], str], may_refuse: Callable[[str], bool] = refused) -> int:
    """Put every text through `act`, which gives back what was stored; return how many were stored."""
    wrong: list[tuple[str, str]] = []
    stored = 0
    for text in TEXTS:
        try:
            found = act(text)
        except InputError as error:
            if not (may_refuse(text) and error.findings):
                wrong.append((text[:60], str(error)))
            continue
        stored += 1
        if found != text or refused(text):
            wrong.append((text[:60], found[:60]))
    assert wrong == []
    return stored


def _context(scenario: str = "base", user: str = "ada", project: str = "plans") -> TaskSetContext:
    return TaskSetContext(str(uuid.uuid4()), user, project, scenario, "planning-chain")


def test_there_are_three_hundred_of_them() -> None:
    assert len(set(TEXTS)) == COUNT
    assert sum(map(refused, TEXTS)) < COUNT / 6


def test_scenario_names(workspace: Workspace) -> None:
    def name(text: str) -> str:
        workspace.scenarios.create(text)
        version = workspace.scenarios.add_version(text, [], message=text[:9])
        assert workspace.scenarios.get(version.id).scenario_name == text
        assert workspace.scenarios.get(f"{text}@1").id == version.id
        return next(record.name for record in workspace.scenarios.scenarios() if record.name == text)

    assert each(name, _no_name) > 150


def _no_name(text: str) -> bool:
    """Whether a scenario may not be called so."""
    return refused(text) or "@" in text or "\n" in text or len(text) > 200 or not text[:1].strip()


def test_names_and_messages_of_branches(workspace: Workspace) -> None:
    workspace.scenarios.create("trunk")
    workspace.scenarios.add_version("trunk", [])
    names = (f"b{number}" for number in itertools.count())
    assert each(lambda text: branch(workspace, "trunk", text).scenario_name, _no_name) > 150
    assert each(lambda text: branch(workspace, "trunk", next(names), text).message if text else text) > 250


def test_descriptions_and_messages_of_scenarios(workspace: Workspace) -> None:
    names = (f"s{number}" for number in itertools.count())
    workspace.scenarios.create("messages")

    def described(text: str) -> str:
        return workspace.scenarios.create(next(names), text).description

    def message(text: str) -> str:
        made = workspace.scenarios.add_version("messages", [], message=text, trace_id=uuid.uuid4().hex)
        return workspace.scenarios.get(made.id).message

    assert each(described) == each(message) > 250


def test_users_and_projects(workspace: Workspace) -> None:
    def of_task_set(text: str) -> str:
        settings = Settings.load(user=text, project=text)
        record = workspace.ledger.open_task_set(_context(user=settings.user, project=settings.project))
        assert workspace.ledger.task_set(record.trace_id).project == text
        return record.user

    def of_scenario(text: str) -> str:
        settings = Settings.load(user=text, project=text)
        index = ScenarioIndex(workspace.engine, settings.user, settings.project)
        return index.create(f"s-{uuid.uuid4().hex}").owner

    def unusual(text: str) -> bool:
        return refused(text) or not 0 < len(text) <= 200

    assert each(of_task_set, unusual) == each(of_scenario, unusual) > 230


def test_requests_and_program_parameters(workspace: Workspace) -> None:
    ledger, context = workspace.ledger, _context()
    ledger.open_task_set(context)
    program = ProgramRef("unit_commitment", "highs_uc", "1", "d")

    def of_request(text: str) -> str:
        record = ledger.open_task_set(_context(), {"note": text, "deep": {"list": [text]}, text: 1})
        found = ledger.task_set(record.trace_id).parameters
        assert found[text] == 1 or text in {"note", "deep"}
        return str(found["deep"]["list"][0])

    def of_task(text: str) -> str:
        task = Task(
            context.trace_id,
            "uc",
            TaskInput("v", uuid.uuid4().hex, text[:100], {"program": {"note": text}}),
            program,
        )
        ledger.register([task])
        record = ledger.task(task.id)
        assert record.chunk == text[:100]
        return str(record.parameters["program"]["note"])

    assert each(of_request) == each(of_task) > 250


def test_names_of_scenarios_in_requests(workspace: Workspace) -> None:
    assert each(lambda text: workspace.ledger.open_task_set(_context(text)).scenario) > 250


def test_messages_of_tasks_and_log_lines_are_never_refused(workspace: Workspace) -> None:
    """What a program says must not end its task: what cannot be stored is replaced."""
    ledger, context = workspace.ledger, _context()
    ledger.open_task_set(context)
    lines = [LogLine(context.trace_id, "", 0, "INFO", text[:50], text, 0.0) for text in TEXTS]
    ledger.log(lines)
    found = ledger.logs(context.trace_id)
    for text, line in zip(TEXTS, found, strict=True):
        assert line.message == text.translate({0: 0xFFFD, 0xD800: 0xFFFD})
    for text in TEXTS[::10]:
        ledger.set_task_set_state(context.trace_id, ledger.task_set(context.trace_id).state, text)
        assert ledger.task_set(context.trace_id).message == text.translate({0: 0xFFFD, 0xD800: 0xFFFD})


@pytest.fixture(scope="module")
def grid() -> dict[str, pa.Table]:
    return dict(import_grid("pandapower:case118").tables)


def _with_names(grid: dict[str, pa.Table], names: list[str]) -> dict[str, pa.Table]:
    tables, left = dict(grid), iter(names)
    for name in ("system", "region", "station", "entity"):
        table = tables[name]
        place = table.column_names.index("name")
        given = [next(left, old) for old in table["name"].to_pylist()]
        tables[name] = table.set_column(place, table.schema.field(place), pa.array(given))
    return tables


def test_names_of_elements(workspace: Workspace, graph: GraphStore, grid: dict[str, pa.Table]) -> None:
    """In the tables' files, in SQL, in the graph, and asked for by name."""
    names = [text for text in TEXTS if not refused(text) and 0 < len(text) <= NAME_LENGTH_MAX]
    tables = _with_names(grid, names)
    writer = workspace.writer(scenario="hostile")
    for name, table in tables.items():
        if table.num_rows:
            writer.put_table(name, table)
    version = writer.commit("import")
    Projector(workspace, graph).project(version)
    reader = workspace.reader(version)
    known = Graph(graph, topology_digest(reader.table_digests()))
    elements = {(element.kind, element.uuid): element.name for element in known.all()}
    shown = 0
    for kind in ("system", "region", "station", "entity"):
        rows = OntologyIndex(workspace.engine).rows(kind, reader.table_digests()[kind])
        stored = dict(zip(rows["id"].to_pylist(), rows["name"].to_pylist(), strict=True))
        for row in reader.table(kind).to_pylist():
            own = row.get("kind", kind)
            assert stored[row["id"]] == row["name"] == elements[own, row["id"]]
            assert row["id"] in {element.uuid for element in known.named(own, row["name"])}
            shown += row["name"] in names
    assert shown >= len(names)
    assert len(elements) == sum(tables[kind].num_rows for kind in ("system", "region", "station", "entity"))


def test_questions_are_only_data(workspace: Workspace, graph: GraphStore, grid: dict[str, pa.Table]) -> None:
    """Kinds and columns come from closed lists; names and uuids are parameters of every statement."""
    writer = workspace.writer(scenario="asked")
    for name, table in grid.items():
        if table.num_rows:
            writer.put_table(name, table)
    version = writer.commit("import")
    Projector(workspace, graph).project(version)
    ontology = Ontology(workspace, version, graph)
    before = ontology.graph.all()
    bus = next(element for element in before if element.kind == "bus")
    names = {element.name for element in before}
    for text in TEXTS:
        asked: list[tuple[type[BosError], Callable[[], object]]] = [
            (OptionError, lambda text=text: ontology.within(bus, text)),
            (OptionError, lambda text=text: ontology.near(bus, text, 1)),
            (OptionError, lambda text=text: ontology.near(bus, "line", 1).select(text)),
            (OptionError, lambda text=text: ontology.cut_off(bus, kind=text)),
            (NotFoundError, lambda text=text: ontology.element(bus.name, text or "none")),
            (InputError, lambda text=text: edit(workspace, "asked", [Edit("load.p_mw", text, 1.0)], _sound)),
            (InputError, lambda text=text: edit(workspace, "asked", [Edit(text, "*", text)], _sound)),
        ]
        if text not in names:
            asked.append((NotFoundError, lambda text=text: ontology.element(text, "bus")))
        for error, ask in asked:
            with pytest.raises(error):
                ask()
    assert ontology.graph.all() == before


def _sound(before: object, after: object) -> list[Finding]:
    return []


def test_names_of_programs_slots_and_files(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue(workspace)
    monkeypatch.chdir(tmp_path)
    for text in TEXTS:
        for resolve in (
            lambda text=text: catalogue.resolve("unit_commitment", text or "none"),
            lambda text=text: catalogue.resolve(text),
            lambda text=text: catalogue.resolve("unit_commitment", text or "none", text),
        ):
            with pytest.raises((OptionError, ProgramError)):
                resolve()
        with pytest.raises(InputError):
            import_grid(text)


def test_unusable_names_of_elements_are_found(workspace: Workspace, grid: dict[str, pa.Table]) -> None:
    writer = workspace.writer(scenario="hostile")
    with pytest.raises(InputError) as error:
        writer.put_table("station", _with_names(grid, ["", "", "a\x00b"])["station"])
    (finding,) = error.value.findings
    assert (finding.component, finding.field, finding.ids) == ("station", "name", ("a\ufffdb",))
    with pytest.raises(InputError, match=f"station.name {_LONG[:40]}...: is longer than"):
        writer.put_table("station", _with_names(grid, ["", "", _LONG])["station"])


def test_references_to_nothing_are_not_found(workspace: Workspace) -> None:
    for text in [*TEXTS, f"base@{'9' * 40}"]:
        for get in (workspace.scenarios.get, workspace.ledger.task_set, workspace.ledger.task):
            with pytest.raises(NotFoundError):
                get(text)


def test_texts_in_results(workspace: Workspace) -> None:
    ledger, context = workspace.ledger, _context()
    ledger.open_task_set(context)
    task = Task(
        context.trace_id, "uc", TaskInput("v", "d", "all"), ProgramRef("unit_commitment", "highs_uc", "1", "d")
    )
    ledger.register([task])
    claim = ledger.claim(task.id, "holder")
    names = [text for text in TEXTS if "\ud800" not in text]
    table = pa.table({"name": names})
    commit_outputs(workspace.store, ledger, task, claim.attempt, {"names": table}, context)  # type: ignore[union-attr]
    assert workspace.results.task_table(task.id, "names")["name"].to_pylist() == names
