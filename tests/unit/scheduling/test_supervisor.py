"""The supervisor with tiny real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bos_core.objects.errors import ServiceError
from bos_core.scheduling.supervisor import Backoff, Child, Supervisor

QUICK = Backoff(first_s=0.0, longest_s=0.0, crashes_max=2)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor(QUICK)
    yield made
    made.stop(2.0)


def _child(tmp_path: Path, code: str) -> Child:
    return Child("toy", (sys.executable, "-c", code), dict(os.environ), tmp_path / "toy.log")


def _wait(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_delays_double_up_to_a_limit_and_then_end() -> None:
    backoff = Backoff(first_s=1, longest_s=5, steady_s=60, crashes_max=4)
    assert [backoff.delay_s(n) for n in range(1, 6)] == [1, 2, 4, 5, None]
    assert backoff.crashes(3, lived_s=1) == 4
    assert backoff.crashes(3, lived_s=61) == 1


def test_a_killed_child_starts_again(supervisor: Supervisor, tmp_path: Path) -> None:
    child = _child(tmp_path, "import time; time.sleep(100)")
    supervisor.start(child)
    assert child.process is not None
    first = child.process
    assert supervisor.watch() == []
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert supervisor.watch() == ["toy ended with exit code -9; it starts again in 0 s"]
    assert supervisor.watch() == ["toy started again"]
    assert child.running
    assert child.process.pid != first.pid


def test_a_child_that_always_crashes_is_given_up_with_its_last_words(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    child = _child(tmp_path, "import sys; sys.exit('the database is broken')")
    supervisor.start(child)

    def watch() -> None:
        while True:
            supervisor.watch()
            time.sleep(0.02)

    with pytest.raises(ServiceError) as caught:
        watch()
    assert "the toy ended 3 times in a row (exit code 1)" in str(caught.value)
    assert str(caught.value).endswith("the database is broken")


def test_stopping_ends_grandchildren_even_of_a_crashed_child(supervisor: Supervisor, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'], start_new_session=True)\n"
        f"open({str(note)!r}, 'w').write(str(p.pid))\n"
        "time.sleep(100)"
    )
    child = _child(tmp_path, code)
    supervisor.start(child)
    assert _wait(lambda: note.exists() and note.read_text() != "")
    grandchild = psutil.Process(int(note.read_text()))
    assert child.process is not None
    child.process.kill()
    child.process.wait()
    supervisor.stop(2.0)
    assert _wait(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_stopping_spares_processes_that_were_there_before(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]) as stranger:
        supervisor = Supervisor(QUICK)
        supervisor.start(_child(tmp_path, "import time; time.sleep(100)"))
        supervisor.stop(2.0)
        assert stranger.poll() is None
        stranger.kill()


def test_a_child_that_ignores_the_request_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "time.sleep(100)"
    )
    child = _child(tmp_path, code)
    supervisor.start(child)
    assert _wait(lambda: "deaf" in child.tail())
    assert child.process is not None
    process = child.process
    supervisor.stop(0.2)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_children_end_when_the_supervising_process_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from bos_core.scheduling.supervisor import Child, Supervisor\n"
        "s = Supervisor()\n"
        "c = Child('toy', (sys.executable, '-c', 'import time; time.sleep(100)'), dict(os.environ), "
        f"Path({str(tmp_path / 'log')!r}))\n"
        "s.start(c)\n"
        "time.sleep(0.5)\n"
        f"open({str(note)!r}, 'w').write(str(c.process.pid))\n"
        "time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        assert _wait(lambda: note.exists() and note.read_text() != "")
        child = psutil.Process(int(note.read_text()))
        parent.kill()
    assert _wait(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_what_is_not_vital_is_never_given_up(supervisor: Supervisor, tmp_path: Path) -> None:
    child = _child(tmp_path, "print('no graph'); raise SystemExit(5)")
    child.vital = False
    supervisor.start(child)
    for _ in range(QUICK.crashes_max + 3):
        assert child.process is not None
        child.process.wait()
        assert "ended with exit code 5" in supervisor.watch()[0]
        assert supervisor.watch() == ["toy started again"]


def test_each_line_of_a_child_is_told_once(supervisor: Supervisor, tmp_path: Path) -> None:
    (tmp_path / "toy.log").write_text("of an earlier service\n")
    child = _child(
        tmp_path, "import sys, time; print('one\\ntwo'); print('half', end='', flush=True); time.sleep(100)"
    )
    supervisor.start(child)
    told: list[str] = []
    assert _wait(lambda: bool(told.extend(child.news())) or len(told) == 2)
    assert told == ["one", "two"]
    assert child.news() == []
    with child.log.open("a") as log:
        log.write(" a line\n")
    assert child.news() == ["half a line"]
