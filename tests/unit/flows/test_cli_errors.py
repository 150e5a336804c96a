"""A user's mistakes at the command: a typed message, an exit code that is not 0, and never a traceback."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import pytest
from rich.console import Console

from bos_core import listings
from bos_core.access.workspace import Workspace
from bos_core.cli import _name, hour_of, run_command
from bos_core.objects.errors import OptionError
from bos_core.objects.task import TaskSetContext, TaskState


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOS_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "no-such-business", "--grid", "x.m"], ["no-such-business", "planning-chain", "n1-verification"]),
        (["run", "planning-chain"], ["--grid", "missing"]),
        (["run", "planning-chain", "--grid", "absent.raw"], ["absent.raw"]),
        (["import", "absent.zip"], ["absent.zip"]),
        (["import", "pandapower:no_such_case"], ["no_such_case"]),
        (["import", "1-NOWHERE-mixed--0-sw"], ["1-NOWHERE"]),
        (["report"], ["no run yet", "bos demo"]),
        (["logs", "deadbeef"], ["deadbeef"]),
        (["trace", "deadbeef"], ["deadbeef"]),
        (["trace", "n1_verification", "--hour", "3"], ["no run yet", "bos demo"]),
        (["trace", "a/b[c"], ["a/b[c", "RUN/step/output"]),
        (["trace", "absent.parquet"], ["absent.parquet"]),
        (["uses", "nowhere"], ["nowhere", "bos scenarios", "bos ps"]),
        (["rebuild", "deadbeef"], ["deadbeef", "bos ps"]),
        (["ps", "deadbeef"], ["deadbeef", "bos ps"]),
        (["run", "--resume", "last"], ["no unfinished run"]),
        (["export", "nowhere", "x.zip"], ["nowhere"]),
        (["programs", "unit_comitment"], ["unit_comitment", "unit_commitment"]),
        (["run", "--hours", "many"], ["--hours", "integer"]),
        (["elements", "nowhere", "line", "--near", "x"], ["nowhere", "bos scenarios"]),
        (["elements", "nowhere", "line"], ["--near", "--within"]),
        (["fly"], ["fly"]),
    ],
)
def test_a_mistake_is_told_in_words(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) != 0
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    for word in words:
        assert word in shown.replace("\n", " ")


def test_doctor_tells_by_its_exit_code_that_something_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert run_command(["doctor"]) == 1
    assert "glpk-utils" in capsys.readouterr().out


def test_an_interrupt_is_told_by_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bos_core.api.connect", interrupted)
    assert run_command(["ps"]) == 130


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("annual-states", "annual_states"),
        ("annual_states", "annual_states"),
        ("step-4-annual-states", "annual_states"),
        ("step-5a-unit-commitment", "unit_commitment"),
        ("N1-Verification", "n1_verification"),
        ("", ""),
    ],
)
def test_steps_are_spelled_as_people_do(text: str, name: str) -> None:
    assert _name(text) == name


def test_the_list_of_runs_fits_80_columns() -> None:
    workspace = Workspace.open()
    for scenario in ("six", "a scenario with quite a long name@12"):
        context = TaskSetContext(str(uuid.uuid4()), "planner", "default", scenario, "reactive-dispatch")
        workspace.ledger.open_task_set(context, {})
        workspace.ledger.set_task_set_state(context.trace_id, TaskState.EXECUTING)
    console = Console(width=80, file=io.StringIO())
    console.print(listings.runs(workspace.ledger, 20))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len([line for line in lines if "executing" in line and "reactive-dispatch" in line]) == 2


@pytest.mark.parametrize("text", ["13-01", "02-29", "-5", "noon", "1e3"])
def test_a_bad_start_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="no hour and no date"):
        hour_of(text)


def test_dates_become_hours_without_a_leap_day() -> None:
    assert hour_of("03-01") == 59 * 24
    assert hour_of("17") == 17


def test_elements_near_another_one_are_listed_with_units_and_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["import", "pandapower:case39", "--name", "ne"]) == 0
    near = ["--near", "10", "--start-kind", "bus", "--hops", "3"]
    assert run_command(["elements", "ne", "transformer", *near, "--columns", "rated_mva"]) == 0
    shown = capsys.readouterr().out
    for word in ("trafo 1", "trafo 4", "rated_mva", "MVA", "1,800", "at most 3 hops away", "rows of transformer"):
        assert word in shown
    assert run_command(["elements", "ne", "bus", *near, "--rows", "2"]) == 0
    assert "9 more" in capsys.readouterr().out
    assert run_command(["elements", "ne", "colour", *near]) != 0
    assert "is no kind of element" in capsys.readouterr().err
    assert run_command(["doctor", "--graph"]) == 0
    assert "graph and tables agree" in capsys.readouterr().out


def test_an_outage_shows_islands_and_what_loses_its_supply(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["import", "pandapower:case39", "--name", "ne"]) == 0
    lost = ["line 15", "line 16"]
    assert run_command(["outage", "ne", *lost, "--kind", "bus"]) != 0
    assert "has no bus 'line 15'" in capsys.readouterr().err
    assert run_command(["outage", "ne", "10", "--kind", "bus"]) == 0
    shown = capsys.readouterr().out
    for word in ("island", "cut_off", "capacity_mw", "islands without bus 10", "p_mw of load"):
        assert word in shown
    one = ["--cut-off-by", "10", "--start-kind", "bus"]
    assert run_command(["elements", "ne", "bus", *one]) == 0
    assert "islands without bus 10" in capsys.readouterr().out
    assert run_command(["elements", "ne", "bus", *one, "--near", "10"]) != 0
    assert "are given together" in capsys.readouterr().err
    assert run_command(["elements", "ne", "bus"]) != 0
    assert "--cut-off-by" in capsys.readouterr().err
