"""`bos scenario` as a planner types it: what is shown, what is written, and what is said about mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bos_core.api import Bos, connect
from bos_core.cli import run_command
from bos_core.objects.errors import InputError
from bos_core.objects.ontology import HOURS_PER_YEAR


@pytest.fixture(scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def _imported(_home: Path) -> Bos:
    """New England's 39 buses, with a year of its loads."""
    bos = connect(home=_home, user="planner")
    bos.scenarios.import_("pandapower:case39", name="ne")
    writer = bos.workspace.writer("ne")
    loads = bos.scenarios.read("ne").table("load")["id"].to_pylist()
    rng = np.random.default_rng(7)
    writer.put_series("load.p_mw", loads, rng.random((HOURS_PER_YEAR, len(loads))).round(3) * 100)
    writer.commit("a year of loads")
    return bos


@pytest.fixture
def bos(_imported: Bos, _home: Path, monkeypatch: pytest.MonkeyPatch) -> Bos:
    monkeypatch.setenv("BOS_HOME", str(_home))
    monkeypatch.setenv("BOS_USER", "planner")
    monkeypatch.setenv("COLUMNS", "80")
    return _imported


@pytest.fixture
def said(bos: Bos, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `bos scenario` and return what it printed, on one line."""

    def run(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert run_command(["scenario", *arguments]) == code
        shown = capsys.readouterr()
        text = shown.err if code else shown.out
        assert all(len(line) <= 80 for line in text.splitlines() if line[:7] not in ("picture", "settled"))
        return re.sub(r"\s+", " ", text)

    return run


def test_a_branch_is_edited_compared_and_logged(said: Callable[..., str], bos: Bos, tmp_path: Path) -> None:
    assert "hot@1: branch of ne@2" in said("branch", "ne", "hot")
    shown = said(
        "edit", "hot", "--set", "load.p_mw:load 3[01-02]*=2", "--set", "line.i_max_ka:*=1", "-m", "hot day"
    )
    assert "hot@2 from hot@1" in shown
    assert "load.p_mw:load 3[01-02]*=2 1 24" in shown
    shown = said("diff", "ne", "hot", "--rows", "3", "--picture", str(tmp_path / "d.html"))
    assert "line 35 35" in shown
    assert "32 more; --rows shows more of them" in shown
    assert "load.p_mw 1 24 24-47" in shown
    page = (tmp_path / "d.html").read_text()
    assert "<h1>ne@2 and hot@2</h1>" in page
    charts = json.loads(re.search(r'id="page">(.*?)</script>', page, re.S)[1])["charts"]  # type: ignore[index]
    (curves,) = [chart for name, chart in charts.items() if name.startswith("series-")]
    assert [trace["name"] for trace in curves["views"][0]["data"]] == ["Before", "After"]
    shown = said("log", "hot")
    for word in ("hot day edit planner from hot@1", "0 B branch of ne@2 branch planner from ne@2", "ne@1"):
        assert word in shown
    assert "ne@2 and hot@1 have the same content" in said(
        "diff", "ne", "hot@1", "--picture", str(tmp_path / "e.html")
    )
    assert "There are none." in (tmp_path / "e.html").read_text()


def test_conflicts_are_shown_and_settled(said: Callable[..., str], bos: Bos) -> None:
    for name, value in (("left", 5), ("right", 6)):
        bos.scenarios.branch("ne", name)
        bos.scenarios.edit(name, f"load.p_mw:load 1[7]={value}", f"line.length_km:*={value}")
    bos.scenarios.edit("right", "load.p_mw:load 2[9]=1")
    shown = said("merge", "left", "right", code=2)
    assert shown.startswith("error: 36 conflicts; nothing was merged")
    assert "load.p_mw load 1 in hours 7: left@2 has 5, right@3 has 6, ne@2 has" in shown
    assert "are both given" in said("merge", "left", "right", "--ours", "--theirs", code=2)
    shown = said("merge", "left", "right", "--theirs", "--into", "both")
    assert "settled: load.p_mw load 1 in hours 7" in shown
    assert "both@1: merge of right@3 into left@2; common ancestor ne@2" in shown
    assert "left@3: merge of right@3 into left@2" in said("merge", "left", "right", "--ours")
    assert "left@3 has all of right already" in said("merge", "left", "right")
    loads = bos.scenarios.read("left").table("load")["id"].to_pylist()
    assert bos.scenarios.read("left").aligned("load.p_mw", loads[1:3], slice(7, 10))[[0, 2], [0, 1]].tolist() == [
        5,
        1,
    ]


ROWS = [
    {"target": "load.p_mw", "element": "load 4", "hours": "0:2", "operation": "+=", "value": 10},
    {"target": "line.length_km", "element": "*", "hours": "", "operation": "=", "value": 3.5},
    {"target": "bus_state.in_service", "element": "*", "hours": "", "operation": "=", "value": True},
]


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_edits_come_from_files(said: Callable[..., str], bos: Bos, tmp_path: Path, suffix: str) -> None:
    path, rows = tmp_path / f"edits.{suffix}", ROWS
    if suffix == "json":
        path.write_text(json.dumps(rows))
    elif suffix == "csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\ufeff" + "\n".join(lines) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows[:2]), path)
    bos.scenarios.branch("ne", f"from {suffix}")
    assert f"from {suffix}@2 from from {suffix}@1" in said("edit", f"from {suffix}", "--file", str(path))
    reader = bos.scenarios.read(f"from {suffix}")
    assert set(reader.table("line")["length_km"].to_pylist()) == {3.5}
    (load,) = [e["id"] for e in reader.table("entity").to_pylist() if e["name"] == "load 4"]
    delta = reader.aligned("load.p_mw", [load]) - bos.scenarios.read("ne").aligned("load.p_mw", [load])
    assert np.flatnonzero(delta).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("absent.csv", None, "cannot be read: No such file"),
        ("e.xlsx", "x", ".xlsx is no known format"),
        ("e.json", "{", "cannot be read"),
        ("e.json", '{"a": 1}', "no list of objects"),
        ("e.parquet", "no parquet", "cannot be read"),
        ("e.csv", "target,value\nload.p_mw,3\n", "e.csv, row 1: lacks element"),
        ("e.csv", "target,element,value,colour\nload.p_mw,*,3,red\n", "has unknown columns colour"),
        ("e.csv", "target,element,value,operation\nload.p_mw,*,3,-=\n", "has operation '-='"),
        ("e.csv", "target,element,value\nload.p_mw,Nobody,3\n", "Nobody=3 (e.csv, row 1)"),
        ("e.csv", "target,element,value\n", "there is none"),
        ("e.csv", "target,element,value\nload.p_mw,*,\n", "cannot be null"),
    ],
)
def test_bad_files_are_explained(
    said: Callable[..., str], tmp_path: Path, name: str, text: str | None, words: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    assert words in said("edit", "ne", "--file", str(path), code=2)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("branch", "nowhere", "x"), 6, "no scenario version 'nowhere'"),
        (("branch", "ne", "a@b"), 2, "is no scenario name"),
        (("branch", "ne@1", "ne"), 9, "choose another name"),
        (("edit", "ne"), 2, "give --set or --file"),
        (("edit", "ne", "--set", "load"), 2, "write TARGET:ELEMENT"),
        (("edit", "ne", "--set", "load.p_mw:[bold]=1"), 2, "has no element '[bold]'"),
        (("edit", "ne", "--set", "line.x_ohm:*=0"), 2, "x_ohm is 0"),
        (("diff", "ne", "nowhere"), 6, "nowhere"),
        (("diff", "ne", "ne", "--picture", "x.svg"), 2, "end it with .html"),
        (("log", "nowhere"), 6, "nowhere"),
        (("merge", "ne", "nowhere"), 6, "nowhere"),
    ],
)
def test_mistakes_are_told_in_words(
    said: Callable[..., str], bos: Bos, arguments: tuple[str, ...], code: int, words: str
) -> None:
    before = [version.id for version in bos.workspace.scenarios.versions()]
    assert words in said(*arguments, code=code)
    assert [version.id for version in bos.workspace.scenarios.versions()] == before


def test_an_edit_must_leave_the_grid_sound(bos: Bos) -> None:
    with pytest.raises(InputError, match="no bus is marked as slack"):
        bos.scenarios.edit("ne", "bus.slack:*=false")
    assert bos.scenarios.get("ne").label == "ne@2"
