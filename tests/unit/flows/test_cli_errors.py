"""A user's mistakes at the command: a typed message, an exit code that is not 0, and never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from bos_core.cli import hour_of, run_command
from bos_core.objects.errors import OptionError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOS_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "no-such-business", "--grid", "x.m"], ["x.m"]),
        (["run", "planning-chain"], ["--grid", "missing"]),
        (["run", "planning-chain", "--grid", "absent.raw"], ["absent.raw"]),
        (["import", "absent.zip"], ["absent.zip"]),
        (["import", "pandapower:no_such_case"], ["no_such_case"]),
        (["import", "1-NOWHERE-mixed--0-sw"], ["1-NOWHERE"]),
        (["report"], ["no run yet", "bos demo"]),
        (["logs", "deadbeef"], ["deadbeef"]),
        (["trace", "deadbeef"], ["deadbeef"]),
        (["run", "--resume", "last"], ["no unfinished run"]),
        (["export", "nowhere", "x.zip"], ["nowhere"]),
        (["programs", "unit_comitment"], ["unit_comitment", "unit_commitment"]),
        (["run", "--hours", "many"], ["--hours", "integer"]),
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


@pytest.mark.parametrize("text", ["13-01", "02-29", "-5", "noon", "1e3"])
def test_a_bad_start_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="no hour and no date"):
        hour_of(text)


def test_dates_become_hours_without_a_leap_day() -> None:
    assert hour_of("03-01") == 59 * 24
    assert hour_of("17") == 17
