"""What branches, edits and merges must keep on every database and store. Fixtures: `engine`, `store`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from bos_core.access import series_chunks
from bos_core.access.commit import collect_chunks
from bos_core.access.results import ResultReader
from bos_core.access.scenario_diff import Difference, difference
from bos_core.access.scenario_edit import Edit, Operation, parse_edits
from bos_core.access.scenario_merge import MergeConflictError, Settle
from bos_core.access.scenario_versions import ATTEMPTS_MAX, Merged, branch, edit, log, merge
from bos_core.access.store import ResultStore
from bos_core.access.workspace import Workspace
from bos_core.index.ledger import Ledger
from bos_core.index.programs import ProgramIndex
from bos_core.index.scenarios import ScenarioIndex, VersionRecord
from bos_core.objects.errors import ConflictError, Finding, InputError, NotFoundError, OptionError
from bos_core.objects.ontology import TABLES
from bos_core.objects.settings import Settings

FIRST, HOURS, LOADS = 700, 100, 4
"""The end of January and the beginning of February."""


@pytest.fixture
def workspace(engine: Engine, store: ResultStore, tmp_path: Path) -> Workspace:
    ledger = Ledger(engine)
    return Workspace(
        settings=Settings(home=tmp_path),
        engine=engine,
        ledger=ledger,
        scenarios=ScenarioIndex(engine, "ada", "p"),
        programs=ProgramIndex(engine),
        store=store,
        results=ResultReader(store, ledger),
    )


def ids(n: int = LOADS) -> list[str]:
    return [f"load-{k}" for k in range(n)]


def start_values() -> np.ndarray:
    return np.arange(HOURS * LOADS, dtype=float).reshape(HOURS, LOADS)


@pytest.fixture
def base(workspace: Workspace) -> VersionRecord:
    """Two regions, a station in one of them, four loads, two of them in the station; costs of the first."""
    writer = workspace.writer(scenario="base")
    put(writer, "system", id=["s"], name=["All"], base_mva=[100.0], frequency_hz=[50.0], calendar_year=[2018])
    put(writer, "region", id=["r1", "r2"], name=["North", "South"], system=["s", "s"])
    put(writer, "station", id=["t1"], name=["Hill"], region=["r1"])
    names = ["Load 0", "Load 1", "Twin", "Twin"]
    put(writer, "entity", id=ids(), kind=["load"] * 4, name=names, source_id=["1", "2", "3", "4"])
    shares = {"share_z": [0.0] * 4, "share_i": [0.0] * 4, "sheddable": [True] * 4}
    put(writer, "load", id=ids(), bus=["b"] * 4, **shares)
    parents, children = ["s", "s", "r1", "t1", "t1"], ["r1", "r2", "t1", "load-0", "load-2"]
    put(writer, "contains", parent=parents, child=children)
    segments = {"p_mw_from": [0.0, 5.0], "p_mw_to": [5.0, 9.0], "marginal_eur_per_mwh": [1.0, 2.0]}
    put(writer, "cost_segment", device=["load-0"] * 2, segment=[0, 1], **segments)
    put(writer, "bus", id=["b"], base_kv=[110.0], vm_pu_min=[None], vm_pu_max=[1.1], slack=[True])
    writer.put_series("load.p_mw", ids(), start_values(), FIRST)
    writer.put_series("unit.on", ["u"], np.ones((3, 1), bool))
    writer.put_series("shunt.step", ["c"], np.array([[1], [2]]))
    return workspace.scenarios.get(writer.commit("import", step="import"))


def put(writer: Any, table: str, /, **columns: list[Any]) -> None:
    writer.put_table(table, TABLES[table].build(columns))


def sound(before: object, after: object) -> list[Finding]:
    """Find nothing: what the tables mean is not asked here."""
    return []


def change(workspace: Workspace, reference: str, *texts: str) -> VersionRecord:
    return edit(workspace, reference, parse_edits(texts), sound).version


def loads(workspace: Workspace, reference: str) -> np.ndarray:
    return workspace.reader(reference).series("load.p_mw").values


def versions(workspace: Workspace) -> list[str]:
    return [version.label for version in workspace.scenarios.versions()]


# --- edits


@pytest.mark.parametrize(
    ("text", "rows", "columns", "value"),
    [
        ("load.p_mw:load-1[703]=5", slice(3, 4), [1], lambda old: 5.0),
        ("load.p_mw:Load 1[:703, 790:]=5", [0, 1, 2, *range(90, 100)], [1], lambda old: 5.0),
        ("load.p_mw:*[01-31]*=1.5", slice(20, 44), [0, 1, 2, 3], lambda old: old * 1.5),
        ("load.p_mw:*@North+=2", slice(None), [0, 2], lambda old: old + 2),
        ("load.p_mw:*@Hill=-3", slice(None), [0, 2], lambda old: -3.0),
        ("load.p_mw:*@All[799]=nan", slice(99, 100), [0, 2], lambda old: np.nan),
        ('load.p_mw:"Load 0"=0', slice(None), [0], lambda old: 0.0),
    ],
)
def test_edits_of_series(
    workspace: Workspace,
    base: VersionRecord,
    text: str,
    rows: Any,
    columns: list[int],
    value: Callable[[np.ndarray], Any],
) -> None:
    wanted = start_values()
    picked = wanted[rows][:, columns]
    wanted[np.ix_(np.arange(HOURS)[rows], columns)] = value(picked)
    done = edit(workspace, "base", parse_edits([text]), sound)
    assert done.version.label == "base@2"
    np.testing.assert_array_equal(loads(workspace, "base"), wanted)
    np.testing.assert_array_equal(loads(workspace, "base@1"), start_values())
    assert done.applied[0].elements == len(columns)
    assert done.applied[0].values == int(series_chunks.differs(wanted, start_values()).sum())


@pytest.mark.parametrize(
    ("text", "table", "column", "wanted"),
    [
        ("bus.base_kv:b=220", "bus", "base_kv", [220.0]),
        ("bus.vm_pu_max:b=null", "bus", "vm_pu_max", [None]),
        ("bus.vm_pu_min:b*=2", "bus", "vm_pu_min", [None]),
        ("load.sheddable:*=false", "load", "sheddable", [False] * 4),
        ("load.share_z:*@North+=0.25", "load", "share_z", [0.25, 0.0, 0.25, 0.0]),
        ("region.name:North=Far=North", "region", "name", ["Far=North", "South"]),
        ("cost_segment.marginal_eur_per_mwh:Load 0*=10", "cost_segment", "marginal_eur_per_mwh", [10.0, 20.0]),
        ("cost_segment.marginal_eur_per_mwh:Load 0/1=7", "cost_segment", "marginal_eur_per_mwh", [1.0, 7.0]),
        ("system.calendar_year:All=2020", "system", "calendar_year", [2020]),
    ],
)
def test_edits_of_tables(
    workspace: Workspace, base: VersionRecord, text: str, table: str, column: str, wanted: list[Any]
) -> None:
    change(workspace, "base", text)
    reader = workspace.reader("base")
    assert reader.table(table)[column].to_pylist() == wanted
    assert reader.table(table).schema.equals(TABLES[table].arrow)
    before = workspace.reader("base@1")
    changed = [name for name in reader.tables() if reader.table_digest(name) != before.table_digest(name)]
    assert changed == ([table] if before.table(table)[column].to_pylist() != wanted else [])


def test_an_edit_sees_what_the_ones_before_it_left(workspace: Workspace, base: VersionRecord) -> None:
    change(workspace, "base", "load.p_mw:Load 1[700]=5", "load.p_mw:Load 1[700]*=3", "load.p_mw:*[700]+=1")
    assert loads(workspace, "base")[0].tolist() == [1.0, 16.0, 3.0, 4.0]
    change(workspace, "base", "bus.base_kv:b=10", "bus.base_kv:*+=1")
    assert workspace.reader("base").table("bus")["base_kv"].to_pylist() == [11.0]


BAD = (
    ("load.p_mw:Nobody=1", "has no element 'Nobody'"),
    ("load.p_mw:Load=1", "similar: Load 0, Load 1"),
    ("load.p_mw:Twin=1", "2 elements are called 'Twin'; give one id: load-2, load-3"),
    ("load.p_mw:*@Nowhere=1", "no station, region or system called 'Nowhere'"),
    ("load.p_mw:*@South=1", "names no element"),
    ("load.p_mw:*[699]=1", "'699' is not within hours 700 to 799"),
    ("load.p_mw:*[790:801]=1", "'790:801' is not within"),
    ("load.p_mw:*[02-30]=1", "is no hour, no date"),
    ("load.p_mw:*[702:701]=1", "'702:701' is not within"),
    ("load.p_mw:*=much", "'much' is no number"),
    ("load.p_mw:*=*1.1", r"\*= scales"),
    ("load.p_mw:*=inf", "'inf' is infinite"),
    ("load.p_mw:*=null", "cannot be null"),
    ("load.p_mw:*=true", "'true' is no number"),
    ("load.p_mw:**=nan", "'nan' is no number"),
    ("unit.on:*=2", "neither true nor false"),
    ("unit.on:**=1", "holds no numbers"),
    ("shunt.step:*=1.5", "no whole number"),
    ("shunt.step:**=1.5", "no whole number"),
    ("shunt.step:*=1e3", "no whole number"),
    ("shunt.step:*=99999999999999999999", "no whole number"),
    ("unit.p_mw:*=1", "has no series unit.p_mw; it has load.p_mw, shunt.step, unit.on"),
    ("nothing.at_all:*=1", "neither a series nor a column"),
    ("line.x_ohm:*=1", "neither a series nor a column"),
    ("bus.colour:*=1", "no column 'colour'; it has base_kv"),
    ("bus.id:*=x", "says which element a row is about"),
    ("load.bus:*=x", "says which element a row is about"),
    ("bus.base_kv:b[3]=1", "has no hours"),
    ("bus.base_kv:b=null", "cannot be null"),
    ("bus.base_kv:b=nan", "null where it is not known"),
    ("bus.slack:b=maybe", "neither true nor false"),
    ("region.name:*+=x", "holds no numbers"),
    ("cost_segment.p_mw_to:Load 0/7=1", "has no element 'Load 0/7'"),
)


@pytest.mark.parametrize(("text", "words"), BAD)
def test_bad_edits_are_explained(workspace: Workspace, base: VersionRecord, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        change(workspace, "base", text)


def test_all_bad_edits_are_found_at_once_and_nothing_is_written(workspace: Workspace, base: VersionRecord) -> None:
    files = workspace.store.walk("chunks")
    texts = ["load.p_mw:Load 1=5", "bus.base_kv:b=3", *(text for text, _ in BAD)]
    with pytest.raises(InputError) as error:
        change(workspace, "base", *texts)
    assert len(error.value.findings) == len(BAD)
    assert [f.ids[0] for f in error.value.findings] == [str(one) for one in parse_edits(t for t, _ in BAD)]
    assert [address for address, _ in workspace.store.walk("chunks")] == [address for address, _ in files]
    assert versions(workspace) == ["base@1"]


def test_too_large_values_are_refused(workspace: Workspace, base: VersionRecord) -> None:
    for texts in (
        ["load.p_mw:*=1e300", "load.p_mw:**=1e300"],
        ["bus.base_kv:*=1e300", "bus.base_kv:**=1e300"],
        ["shunt.step:*=9007199254740992", "shunt.step:*+=9007199254740992"],
        ["system.calendar_year:*=9007199254740992", "system.calendar_year:**=2"],
    ):
        with pytest.raises(InputError, match=r"too large|infinite"):
            change(workspace, "base", *texts)
    assert versions(workspace) == ["base@1"]


@pytest.mark.parametrize(
    "text", ["", "load.p_mw", "load.p_mw=5", "load.p_mw:=5", ":a=5", "load.p_mw:a", 'l.p:"a=5']
)
def test_what_is_no_edit_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="write TARGET:ELEMENT"):
        parse_edits([text])


def test_what_makes_tables_unsound_is_refused(workspace: Workspace, base: VersionRecord) -> None:
    def check(before: Any, after: Any) -> list[Finding]:
        assert before["bus"]["base_kv"].to_pylist() == [110.0]
        assert set(after) == set(TABLES)
        bad = after["bus"]["base_kv"].to_pylist() == [0.0]
        return [Finding("bus", ("b",), "base_kv is 0", "give it")] if bad else []

    with pytest.raises(InputError, match="base_kv is 0"):
        edit(workspace, "base", parse_edits(["bus.base_kv:b=0"]), check)
    assert edit(workspace, "base", parse_edits(["bus.base_kv:b=1"]), check).version.number == 2


def test_nothing_changed_makes_no_version(workspace: Workspace, base: VersionRecord) -> None:
    done = edit(workspace, "base", parse_edits(["load.p_mw:load-0[700]=0", "bus.base_kv:b=110"]), sound)
    assert done.version == base
    assert [one.values for one in done.applied] == [0, 0]
    again = change(workspace, "base", "bus.base_kv:b=50")
    assert change(workspace, "base", "bus.base_kv:b=50") == again


def test_only_what_a_name_means_is_edited(workspace: Workspace, base: VersionRecord) -> None:
    change(workspace, "base", "bus.base_kv:b=50")
    with pytest.raises(OptionError, match="which is base@2; `bos scenario branch base@1 NAME`"):
        change(workspace, "base@1", "bus.base_kv:b=51")
    assert change(workspace, "base@2", "bus.base_kv:b=51").label == "base@3"
    with pytest.raises(OptionError, match="there is none"):
        edit(workspace, "base", [], sound)


NASTY = (
    "x' OR 1=1 --", 'a"b', "é ☃ 電", "[3]", "=", "*=", "a=b", "a:b", "..", "*@North", "{curly}", "100%",
    "back\\slash", "line\nbreak", "\t", "' ; DROP TABLE scenario", "[bold]", "\x7f",
)  # fmt: skip


def test_hostile_names_are_only_names(workspace: Workspace) -> None:
    writer = workspace.writer(scenario="nasty")
    keys = [f"e{k}" for k in range(len(NASTY))]
    put(writer, "entity", id=keys, kind=["load"] * len(NASTY), name=list(NASTY), source_id=keys)
    writer.put_series("load.p_mw", keys, np.zeros((2, len(NASTY))))
    writer.commit("import")
    literal = {"*@North"}
    edits = [Edit("load.p_mw", name, float(k)) for k, name in enumerate(NASTY, 1) if name not in literal]
    edit(workspace, "nasty", edits, sound)
    values = loads(workspace, "nasty")[0]
    assert values.tolist() == [0.0 if name in literal else float(k) for k, name in enumerate(NASTY, 1)]
    found = difference(workspace.reader("nasty@1"), workspace.reader("nasty"))
    assert set(found.series[0].names) == set(NASTY) - literal
    for k, name in enumerate(NASTY[:4]):
        made = branch(workspace, "nasty", f"branch {name}")
        assert made.scenario_name == f"branch {name}"
        change(workspace, f"branch {name}", f"load.p_mw:{keys[k]}=99")
        assert loads(workspace, made.scenario_name)[0, k] == 99.0


def test_two_at_once_lose_nothing(workspace: Workspace, base: VersionRecord) -> None:
    writers = min(4, ATTEMPTS_MAX)
    errors: list[BaseException] = []

    def add(k: int) -> None:
        try:
            change(workspace, "base", f"load.p_mw:load-{k}[750]=77", "load.p_mw:*[700]+=1")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=add, args=(k,)) for k in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    values = loads(workspace, "base")
    assert values[50].tolist() == [77.0] * writers
    assert values[0].tolist() == [float(k + writers) for k in range(LOADS)]
    chain = workspace.scenarios.chain(workspace.scenarios.get("base").id)
    assert [version.number for version in chain] == [*range(writers + 1, 0, -1)]


def test_who_keeps_coming_second_gives_up(
    workspace: Workspace, base: VersionRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*args: object, **options: object) -> str:
        raise ConflictError("gone on")

    monkeypatch.setattr("bos_core.access.scenario_data.ScenarioWriter.commit", late)
    with pytest.raises(ConflictError):
        change(workspace, "base", "bus.base_kv:b=50")


# --- differences


def compared(workspace: Workspace, before: str, after: str) -> Difference:
    return difference(workspace.reader(before), workspace.reader(after))


def test_a_difference_names_rows_columns_elements_and_hours(workspace: Workspace, base: VersionRecord) -> None:
    change(
        workspace, "base", "bus.base_kv:b=50", "region.name:r2=Deep South",
        "load.p_mw:Load 1[710:712]+=1", "load.p_mw:load-3[790]*=2",
    )  # fmt: skip
    found = compared(workspace, "base@1", "base")
    cells = [(t.table, c.row, c.column, c.before, c.after) for t in found.tables for c in t.cells]
    assert cells == [
        ("bus", "b", "base_kv", 110.0, 50.0), ("region", "Deep South", "name", "South", "Deep South")
    ]  # fmt: skip
    (series,) = found.series
    old = start_values()[90, 3]
    assert (series.series, series.unit, list(series.names)) == ("load.p_mw", "MW", ["Twin", "Load 1"])
    assert (series.count.tolist(), series.values) == ([1, 2], 3)
    assert series.total.tolist() == [old, 2.0]
    assert (series.hour.tolist(), series.before[0], series.after[0]) == ([790, 710], old, 2 * old)
    assert (series.first_hour, series.last_hour) == (710, 790)
    assert compared(workspace, "base", "base").is_none


def test_rows_elements_and_series_that_one_side_lacks(workspace: Workspace, base: VersionRecord) -> None:
    writer = workspace.writer("base")
    put(writer, "region", id=["r2", "r3"], name=["South", "West"], system=["s", "s"])
    writer.put_series("load.p_mw", ["load-1", "load-0", "new"], np.zeros((40, 3)), 720)
    writer.drop_series("unit.on")
    writer.drop_table("bus")
    writer.commit("changed")
    found = compared(workspace, "base@1", "base")
    tables = {one.table: (one.added, one.removed, one.cells) for one in found.tables}
    assert tables == {"bus": ((), ("b",), ()), "region": (("West",), ("North",), ())}
    series = {one.series: one for one in found.series}
    assert list(series) == ["load.p_mw", "unit.on"]
    assert (series["load.p_mw"].added, series["load.p_mw"].removed) == (("new",), ("Twin", "Twin"))
    assert series["load.p_mw"].hours_after == slice(720, 760)
    assert series["load.p_mw"].count.tolist() == [40, 40]
    assert (series["unit.on"].hours_before, series["unit.on"].hours_after) == (slice(0, 3), None)


# --- merges


def merged(workspace: Workspace, ours: str, theirs: str, **options: Any) -> Merged:
    return merge(workspace, ours, theirs, sound, **options)


def test_what_only_one_side_changed_is_taken(workspace: Workspace, base: VersionRecord) -> None:
    branch(workspace, "base", "other")
    change(workspace, "base", "bus.base_kv:b=50", "load.p_mw:Load 0[700:710]=1", "shunt.step:c[0]=9")
    change(
        workspace, "other", "bus.vm_pu_max:b=1.2", "region.name:r1=N", "load.p_mw:Load 0[710:720]=2",
        "load.p_mw:Load 1[760]=3", "unit.on:u=false",
    )  # fmt: skip
    done = merged(workspace, "base", "other")
    assert (done.version.label, done.ancestor.label, done.settled) == ("base@3", "base@1", ())
    assert done.version.parents == tuple(workspace.scenarios.get(r).id for r in ("base@2", "other"))
    reader, wanted = workspace.reader("base"), start_values()
    assert reader.table("bus").select(["base_kv", "vm_pu_max"]).to_pylist() == [
        {"base_kv": 50.0, "vm_pu_max": 1.2}
    ]
    assert reader.table("region")["name"].to_pylist() == ["N", "South"]
    wanted[0:10, 0], wanted[10:20, 0], wanted[60, 1] = 1, 2, 3
    np.testing.assert_array_equal(reader.series("load.p_mw").values, wanted)
    assert not reader.series("unit.on").values.any()
    assert reader.series("shunt.step").values.tolist() == [[9], [2]]
    assert merged(workspace, "base", "other").version == done.version


def test_merging_either_way_gives_the_same_content(workspace: Workspace, base: VersionRecord) -> None:
    branch(workspace, "base", "other")
    change(workspace, "base", "load.p_mw:Load 0[700:710]=1", "bus.base_kv:b=50")
    change(workspace, "other", "load.p_mw:Load 1[705:715]=2", "region.name:r1=N")
    one = merged(workspace, "base", "other", into="one").version
    other = merged(workspace, "other", "base", into="two").version
    assert one.digest == other.digest
    assert (one.label, other.label) == ("one@1", "two@1")
    assert merged(workspace, "base", "other", into="one").version == one
    assert compared(workspace, one.id, other.id).is_none


CONFLICTING = (
    ("bus.base_kv:b=50", "bus.base_kv:b=60"),
    ("load.p_mw:Load 1[700:710, 720]=1", "load.p_mw:Load 1[705:730]=2"),
    ("unit.on:u[1]=false", "region.name:r1=N"),
)


def prepare_conflict(workspace: Workspace) -> None:
    branch(workspace, "base", "other")
    change(workspace, "base", *(ours for ours, _ in CONFLICTING))
    change(workspace, "other", *(theirs for _, theirs in CONFLICTING))


def test_all_conflicts_are_named_and_nothing_is_written(workspace: Workspace, base: VersionRecord) -> None:
    prepare_conflict(workspace)
    before, files = versions(workspace), workspace.store.walk("chunks")
    with pytest.raises(MergeConflictError) as error:
        merged(workspace, "base", "other")
    table, series = error.value.findings
    assert (table.component, table.field, table.ids) == ("bus", "base_kv", ("b",))
    assert table.problem == "base@2 has 50, other@2 has 60, base@1 has 110"
    assert (series.component, series.ids) == ("load.p_mw", ("Load 1 in hours 705-709, 720",))
    assert series.problem == "base@2 has 1, other@2 has 2, base@1 has 21 to 81"
    assert "2 conflicts; nothing was merged" in str(error.value)
    assert versions(workspace) == before
    assert len(workspace.store.walk("chunks")) == len(files)


@pytest.mark.parametrize("settle", list(Settle))
def test_conflicts_are_settled_as_told(workspace: Workspace, base: VersionRecord, settle: Settle) -> None:
    prepare_conflict(workspace)
    done = merged(workspace, "base", "other", settle=settle)
    assert len(done.settled) == 2
    ours = settle is Settle.OURS
    reader, wanted = workspace.reader("base"), start_values()
    wanted[5:30, 1] = 2
    wanted[0:5, 1] = 1
    if ours:
        wanted[[5, 6, 7, 8, 9, 20], 1] = 1
    np.testing.assert_array_equal(reader.series("load.p_mw").values, wanted)
    assert reader.table("bus")["base_kv"].to_pylist() == [50.0 if ours else 60.0]
    assert reader.table("region")["name"].to_pylist() == ["N", "South"]
    assert reader.series("unit.on").values.ravel().tolist() == [True, False, True]


def test_rows_added_removed_and_changed(workspace: Workspace, base: VersionRecord) -> None:
    branch(workspace, "base", "other")
    for name, columns in (
        ("base", {"id": ["r1", "r2", "a"], "name": ["N", "South", "same"]}),
        ("other", {"id": ["b", "r2", "a"], "name": ["theirs", "S", "same"]}),
    ):
        writer = workspace.writer(name)
        put(writer, "region", **columns, system=["s"] * 3)
        writer.commit("regions")
    with pytest.raises(MergeConflictError) as error:
        merged(workspace, "base", "other")
    (conflict,) = error.value.findings
    assert conflict.problem == "base@2 has name N, other@2 has no such row any more, base@1 has the row"
    for settle, names in ((Settle.OURS, ["N", "S", "same", "theirs"]), (Settle.THEIRS, ["S", "same", "theirs"])):
        done = merged(workspace, "base", "other", settle=settle, into=settle.value)
        assert workspace.reader(done.version.id).table("region")["name"].to_pylist() == names


def test_a_series_that_one_side_made_or_dropped(workspace: Workspace, base: VersionRecord) -> None:
    branch(workspace, "base", "other")
    writer = workspace.writer("other")
    writer.put_series("unit.p_mw", ["u"], np.ones((5, 1)))
    writer.drop_series("shunt.step")
    writer.drop_table("cost_segment")
    writer.commit("planned")
    change(workspace, "base", "bus.base_kv:b=50")
    reader = workspace.reader(merged(workspace, "base", "other").version.id)
    assert reader.series_names() == ["load.p_mw", "unit.on", "unit.p_mw"]
    assert not reader.has("cost_segment")


@pytest.mark.parametrize("settle", [None, *Settle])
def test_series_of_other_hours_conflict_as_a_whole(
    workspace: Workspace, base: VersionRecord, settle: Settle | None
) -> None:
    branch(workspace, "base", "other")
    writer = workspace.writer("other")
    writer.put_series("load.p_mw", ids(), np.ones((50, LOADS)))
    writer.commit("other hours")
    change(workspace, "base", "load.p_mw:*[700]=9")
    if settle is None:
        with pytest.raises(
            MergeConflictError, match="other@2 has hours 0 to 49 of 4 elements, base@1 has hours 700"
        ):
            merged(workspace, "base", "other")
        return
    done = merged(workspace, "base", "other", settle=settle)
    hours = workspace.reader(done.version.id).hours("load.p_mw")
    assert hours == (slice(700, 800) if settle is Settle.OURS else slice(0, 50))


def test_tables_that_do_not_fit_each_other_are_refused(workspace: Workspace, base: VersionRecord) -> None:
    branch(workspace, "base", "other")
    change(workspace, "base", "bus.base_kv:b=50")
    change(workspace, "other", "load.share_z:*=1")

    def check(before: Any, after: Any) -> list[Finding]:
        both = after["bus"]["base_kv"][0].as_py() == 50.0 and after["load"]["share_z"][0].as_py() == 1.0
        return [Finding("load", (), "do not fit", "mend them")] if both else []

    with pytest.raises(InputError, match="do not fit"):
        merge(workspace, "base", "other", check)
    assert merge(workspace, "base", "other", lambda a, b: []).version.number == 3


def test_merges_that_cannot_be(workspace: Workspace, base: VersionRecord) -> None:
    writer = workspace.writer(scenario="stranger")
    writer.put_series("load.p_mw", ids(), start_values())
    writer.commit("import")
    with pytest.raises(NotFoundError, match="no common ancestor"):
        merged(workspace, "base", "stranger")
    change(workspace, "base", "bus.base_kv:b=50")
    with pytest.raises(OptionError, match="is not the version that 'base' means"):
        merged(workspace, "base@1", "base@2")
    assert merged(workspace, "base", "base@1").version.label == "base@2"
    branch(workspace, "base@1", "other")
    change(workspace, "other", "bus.vm_pu_max:b=1.3")
    with pytest.raises(ConflictError, match="choose another name"):
        merged(workspace, "base", "other", into="stranger")


def test_the_log_tells_who_made_what(workspace: Workspace, base: VersionRecord) -> None:
    branch(workspace, "base", "other")
    change(workspace, "other", "load.p_mw:Load 0[700]=1")
    change(workspace, "base", "bus.base_kv:b=50")
    merged(workspace, "base", "other")
    entries = log(workspace, "base")
    told = [(e.version.label, e.version.step, e.version.author, list(e.parents)) for e in entries]
    assert told == [
        ("base@3", "merge", "ada", ["base@2", "other@2"]),
        ("base@2", "edit", "ada", ["base@1"]),
        ("other@2", "edit", "ada", ["other@1"]),
        ("other@1", "branch", "ada", ["base@1"]),
        ("base@1", "import", "ada", []),
    ]
    size = {e.version.label: e.delta_bytes for e in entries}
    assert size["other@1"] == 0
    assert 0 < size["other@2"] < size["base@1"]
    assert entries[2].version.message == "load.p_mw:Load 0[700]=1"


# --- what is kept


def test_collecting_keeps_what_any_version_needs(workspace: Workspace, base: VersionRecord) -> None:
    prepare_conflict(workspace)
    with pytest.raises(MergeConflictError):
        merged(workspace, "base", "other")
    merged(workspace, "base", "other", settle=Settle.THEIRS)
    change(workspace, "other", "load.p_mw:**=2")
    merged(workspace, "other", "base", settle=Settle.OURS, into="third")
    abandoned = workspace.writer("base")
    abandoned.edit_series("load.p_mw", slice(700, 701), ["load-0"], np.array([[123.0]]))
    kept = {v.id: contents(workspace, v.id) for v in workspace.scenarios.versions()}
    (digest,) = {c.digest for c in abandoned.stored._chunks.values()} - workspace.scenarios.referenced_digests()
    gone = collect_chunks(workspace.store, workspace.scenarios, older_than_s=-60.0)
    assert workspace.store.chunk_address(digest) in gone.deleted
    series_chunks._OVERLAYS = series_chunks.Recent(8)
    for version, before in kept.items():
        assert contents(workspace, version) == before
    needed = {workspace.store.chunk_address(digest) for digest in workspace.scenarios.referenced_digests()}
    assert {address for address, _ in workspace.store.walk("chunks")} == needed


def contents(workspace: Workspace, version: str) -> dict[str, Any]:
    reader = workspace.reader(version)
    series = {name: reader.series(name).values.tolist() for name in reader.series_names()}
    return {name: reader.table(name).to_pylist() for name in reader.tables()} | series


class Model:
    """Every version as whole arrays in memory, and who was made from whom: what the real one must equal."""

    def __init__(self) -> None:
        self.load: dict[str, np.ndarray] = {}
        self.kv: dict[str, tuple[float, ...]] = {}
        self.parents: dict[str, tuple[str, ...]] = {}

    def ancestors(self, version: str) -> set[str]:
        return {version}.union(*(self.ancestors(parent) for parent in self.parents[version]))

    def nearest(self, one: str, other: str) -> set[str]:
        common = self.ancestors(one) & self.ancestors(other)
        return {v for v in common if not any(v in self.ancestors(w) for w in common - {v})}

    def put(self, version: VersionRecord, load: np.ndarray, kv: tuple[float, ...]) -> None:
        self.load[version.id], self.kv[version.id] = load, kv
        self.parents[version.id] = version.parents


def three_way(
    old: np.ndarray, ours: np.ndarray, theirs: np.ndarray, settle: Settle | None
) -> tuple[np.ndarray, bool]:
    """Return merged values, and whether there is a conflict."""
    conflict = (ours != old) & (theirs != old) & (ours != theirs)
    take = (theirs != old) & ~(conflict if settle is not Settle.THEIRS else np.zeros_like(conflict))
    return np.where(take, theirs, ours), bool(conflict.any())


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31))
def test_any_history_equals_whole_arrays_in_memory(workspace: Workspace, seed: int) -> None:
    rng, tag = np.random.default_rng(seed), f"{seed}-{len(workspace.scenarios.scenarios())}"
    writer = workspace.writer(scenario=f"{tag}-0")
    load, kv = rng.integers(0, 3, (60, 3)).astype(float), (110.0, 220.0, 380.0)
    writer.put_series("load.p_mw", ids(3), load, 714)
    put(writer, "bus", id=["b0", "b1", "b2"], base_kv=list(kv), slack=[False] * 3)
    model, names = Model(), [f"{tag}-0"]
    model.put(workspace.scenarios.get(writer.commit("import")), load, kv)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series_chunks, "OVERLAY_CELLS_MAX", 8)
        for _ in range(8):
            step(workspace, model, names, rng)
    for version in model.load:
        reader = workspace.reader(version)
        np.testing.assert_array_equal(reader.series("load.p_mw").values, model.load[version])
        assert reader.table("bus")["base_kv"].to_pylist() == list(model.kv[version])


def step(workspace: Workspace, model: Model, names: list[str], rng: np.random.Generator) -> None:
    """Do one random thing, in the model too."""
    name = names[rng.integers(len(names))]
    head = workspace.scenarios.get(name)
    load, kv = model.load[head.id].copy(), list(model.kv[head.id])
    kind = rng.integers(4)
    if kind == 0:
        source = list(model.load)[rng.integers(len(model.load))]
        names.append(f"{names[0]}-{len(names)}")
        model.put(branch(workspace, source, names[-1]), model.load[source], model.kv[source])
    elif kind in (1, 2):
        first, value = int(rng.integers(60)), float(rng.integers(3))
        stop, place = int(min(60, first + rng.integers(1, 9))), int(rng.integers(3))
        load[first:stop, place] = value
        edits = [Edit("load.p_mw", f"load-{place}", value, Operation.SET, f"{714 + first}:{714 + stop}")]
        if rng.random() < 0.4:
            bus = int(rng.integers(3))
            kv[bus] = float(rng.integers(1, 3))
            edits.append(Edit("bus.base_kv", f"b{bus}", kv[bus]))
        model.put(edit(workspace, name, edits, sound).version, load, tuple(kv))
    else:
        other = workspace.scenarios.get(names[rng.integers(len(names))])
        random_merge(workspace, model, head, other, [None, *Settle][rng.integers(3)])


def random_merge(
    workspace: Workspace, model: Model, ours: VersionRecord, theirs: VersionRecord, settle: Settle | None
) -> None:
    ancestor = workspace.scenarios.common_ancestor(ours.id, theirs.id)
    assert ancestor is not None
    assert ancestor.id in model.nearest(ours.id, theirs.id)
    of = (ancestor.id, ours.id, theirs.id)
    load, first = three_way(*(model.load[v] for v in of), settle)
    kv, second = three_way(*(np.array(model.kv[v]) for v in of), settle)
    before = versions(workspace)
    if (first or second) and settle is None:
        with pytest.raises(MergeConflictError):
            merged(workspace, ours.scenario_name, theirs.id)
        assert versions(workspace) == before
        return
    done = merged(workspace, ours.scenario_name, theirs.id, settle=settle)
    assert bool(done.settled) == (first or second)
    model.put(done.version, load, tuple(kv.tolist()))


def test_edits_lie_in_arrow_types(workspace: Workspace, base: VersionRecord) -> None:
    change(workspace, "base", "shunt.step:c=7", "unit.on:u[2]=false", "load.p_mw:*[700]=1")
    reader = workspace.reader("base")
    kinds = {name: reader.series(name).values.dtype.kind for name in reader.series_names()}
    assert kinds == {"load.p_mw": "f", "shunt.step": "i", "unit.on": "b"}
    assert reader.table("region").schema.field("id").type == pa.string()
