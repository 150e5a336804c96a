"""`bos containers` and `bos.containers()` over an index that a monitor has filled, and without a monitor."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bos_core.api import Bos, connect
from bos_core.cli import run_command
from bos_core.index.containers import ContainerIndex
from bos_core.objects.container import (
    ENDED,
    EXECUTOR,
    Changes,
    Container,
    Sample,
    Server,
    ServerKind,
    ServerState,
    ServiceInstance,
)
from bos_core.objects.errors import NotFoundError

ONE = Server(
    "s1",
    "one",
    ServerKind.DOCKER,
    "unix:///one.sock",
    cpu_cores=4.0,
    memory_mb=16_000,
    memory_reserve_mb=1_024,
    attributes={"hardware": {"memory": "16 GB"}, "os": {"name": "Debian"}, "software": {"Docker": "29.0"}},
)
TWO = Server("s2", "two", ServerKind.DOCKER, "unix:///two.sock", ServerState.LOST, "cannot reach it; start Docker")
WORKER = Container(
    "aaaaaaaaaaaa",
    "s1",
    "[red]worker",
    image="bos:1",
    image_digest="sha256:abc",
    instances=(ServiceInstance(EXECUTOR, "aaaaaaaaaaaa"),),
    slots=("unit_commitment",),
    cpu_cores=1.5,
    memory_mb=2_000,
    attributes={"access": {"user": "1000", "network": "none"}},
    started_s=1_000_000.0,
)
KILLED = "out of memory (exit code 137)"
OLD = replace(WORKER, id="bbbbbbbbbbbb", name="old", state=ENDED, mode="trial", message=KILLED)


@pytest.fixture
def bos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bos:
    monkeypatch.setenv("BOS_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    opened = connect()
    index = ContainerIndex(opened.workspace.engine)
    now_s = int(index.clock_s())
    samples = tuple(Sample(subject, now_s, 0.5, 300.0) for subject in ("s1", WORKER.id))
    index.apply(Changes((ONE, TWO), (WORKER, replace(OLD, ended_s=now_s - 60.0)), samples))
    return opened


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        code = run_command(["containers", *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_the_tree_shows_quota_use_and_what_is_lost(bos: Bos, said: Callable[..., tuple[int, str]]) -> None:
    code, text = said()
    assert code == 0
    assert "one 0.50 of 4 cores, 300 of 16,000 MB; 2,000 MB reserved unix:///one.sock" in text
    assert "two lost: cannot reach it; start Docker" in text
    (row,) = [line.split() for line in text.splitlines() if "worker" in line]
    assert row == ["[red]worker", "dask-worker", "running", "0.50", "of", "1.5", "300", "of", "2,000"]
    assert "old" not in text
    assert "no monitor" not in text


def test_what_ended_lately_is_shown_on_request(bos: Bos, said: Callable[..., tuple[int, str]]) -> None:
    (row,) = [line for line in said("--ended")[1].splitlines() if "old" in line]
    assert "dask-worker (trial)" in row
    assert KILLED in row


def test_everything_about_a_server_and_a_container(bos: Bos, said: Callable[..., tuple[int, str]]) -> None:
    server = said("one")[1]
    for words in (
        "4 cores, 16,000 MB; 1,024 MB are left alone",
        "2,000 MB by 1 container",
        "os",
        "name: Debian",
        "Docker: 29.0",
    ):
        assert words in server
    container = said("aaaa")[1]
    for words in ("[red]worker", "bos:1, sha256:abc", "launched, of unit_commitment", "1.5 cores, 2,000 MB",
                  "user: 1000; network: none", "dask-worker at aaaaaaaaaaaa",
                  "mean 0.50 cores, 300 MB; most 0.50 cores, 300 MB"):  # fmt: skip
        assert words in container
    assert "out of memory" in said("old")[1]


def test_json_holds_all_of_it(bos: Bos, said: Callable[..., tuple[int, str]]) -> None:
    tree = json.loads(said("--json")[1])
    assert [s["server"]["name"] for s in tree["servers"]] == ["one", "two"]
    container = json.loads(said("aaaa", "--json")[1])
    assert container["container"]["image_digest"] == "sha256:abc"
    assert container["use"]["memory_mb"] == 300.0


def test_a_name_that_nobody_has_names_those_there_are(bos: Bos, said: Callable[..., tuple[int, str]]) -> None:
    code, text = said("nobody")
    assert code != 0
    assert "no server or container is called 'nobody'" in text
    with pytest.raises(NotFoundError):
        bos.containers().find("nobody")


def test_the_api_tells_the_same(bos: Bos) -> None:
    tree = bos.containers()
    assert tree.is_fresh
    assert [c.id for c in tree.executors("unit_commitment")] == [WORKER.id]
    assert len(bos.containers(ended_within_s=3600).servers[0].containers) == 2
    assert len(bos.containers(ended_within_s=10).servers[0].containers) == 1
    assert bos.used(WORKER.id).cpu_cores == [0.5]


def test_without_a_monitor_this_machine_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[..., tuple[int, str]]
) -> None:
    monkeypatch.setenv("BOS_HOME", str(tmp_path))
    monkeypatch.setenv("BOS_CONTAINER_HOSTS", json.dumps([{"url": "unix:///nowhere/d.sock", "name": "away"}]))
    (machine,) = [s for s in connect().containers().servers if s.is_up]
    assert machine.server.attributes["software"]["Python"] == sys.version.split()[0]
    text = said()[1]
    assert "no monitor is running" in text
    assert "away lost: cannot reach unix:///nowhere/d.sock: no such file" in " ".join(text.split())
