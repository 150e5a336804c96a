"""Keep a few child processes running: start, restart with back-off, stop without leaving orphans."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bos_core.objects.errors import ServiceError

GRACE_S = 10.0
"""How long a child may take to end by itself."""
TAIL_LINES = 12

TETHER = (sys.executable, "-m", "bos_core.scheduling.tethered")
"""Before a command: it ends when the process that starts it dies."""
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Backoff:
    """When to start a crashed child again.

    Attributes
    ----------
    first_s, longest_s : float
        The delay doubles from the first to the longest.
    steady_s : float
        A child that lived this long starts anew at the first delay.
    crashes_max : int
        More crashes in a row than this end the service.
    """

    first_s: float = 1.0
    longest_s: float = 30.0
    steady_s: float = 60.0
    crashes_max: int = 6

    def crashes(self, before: int, lived_s: float) -> int:
        """Return the number of crashes in a row, this one included."""
        return 1 if lived_s >= self.steady_s else before + 1

    def delay_s(self, crashes: int) -> float | None:
        """Return the seconds to wait after so many crashes in a row; None = give up."""
        if crashes > self.crashes_max:
            return None
        return float(min(self.first_s * 2 ** (crashes - 1), self.longest_s))


@dataclass
class Child:
    """One supervised process and what happened to it.

    Attributes
    ----------
    name : str
        What users read.
    command : sequence of str
    environment : mapping
        The whole environment of the process.
    log : Path
        Its output is appended here.
    vital : bool
        Whether the service ends when this child crashes again and again.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    vital: bool = True
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    crashes: int = 0
    restart_at_s: float | None = None
    _told_bytes: int = 0

    def start(self) -> None:
        """Start the process in a session of its own, so that a Ctrl-C reaches the supervisor only."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            if self.process is None:
                self._told_bytes = output.tell()
            self.process = subprocess.Popen(
                (*TETHER, *self.command),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started_s, self.restart_at_s = time.monotonic(), None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def stop(self, grace_s: float) -> None:
        """Ask the process to end, then make it; `Supervisor.stop` reaches what it started, too."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def news(self) -> list[str]:
        """Return the lines that it has written since it was first started, each once."""
        with self.log.open("rb") as log:
            log.seek(self._told_bytes)
            whole = log.read().rpartition(b"\n")[0]
        self._told_bytes += len(whole) + bool(whole)
        return whole.decode(errors="replace").splitlines()

    def tail(self) -> str:
        """Return the last lines of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-TAIL_LINES:])


@dataclass
class Supervisor:
    """Watches children from the main thread of one process; `watch` never blocks.

    It adopts what its children leave behind; processes that existed before it are none of its business.
    """

    backoff: Backoff = Backoff()
    children: list[Child] = field(default_factory=list)
    _strangers: frozenset[psutil.Process] = frozenset()

    def __post_init__(self) -> None:
        self._strangers = frozenset(_descendants(os.getpid()))
        if sys.platform == "linux":
            # Grandchildren of a crashed child come to us instead of to init, so that stopping finds them.
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(self, child: Child) -> None:
        """Start a child and watch it from now on."""
        self.children.append(child)
        child.start()

    def watch(self) -> list[str]:
        """Restart what has crashed and is due; return what happened, for the user.

        Raises
        ------
        ServiceError
            When a vital child crashes again and again.
        """
        events: list[str] = []
        for child in self.children:
            if child.running:
                continue
            now = time.monotonic()
            if child.restart_at_s is None:
                events.append(self._crashed(child, now))
            elif now >= child.restart_at_s:
                child.start()
                events.append(f"{child.name} started again")
        self._reap()
        return events

    def _crashed(self, child: Child, now: float) -> str:
        assert child.process is not None
        child.crashes = self.backoff.crashes(child.crashes, now - child.started_s)
        delay_s = self.backoff.delay_s(child.crashes)
        if delay_s is None and not child.vital:
            delay_s = self.backoff.longest_s
        if delay_s is None:
            raise ServiceError(
                f"the {child.name} ended {child.crashes} times in a row (exit code {child.process.returncode}); "
                f"see {child.log}, which ends with:\n{child.tail()}"
            )
        child.restart_at_s = now + delay_s
        return f"{child.name} ended with exit code {child.process.returncode}; it starts again in {delay_s:g} s"

    def _reap(self) -> None:
        """Collect adopted processes that have ended."""
        own = {child.process.pid for child in self.children if child.process}
        for process in set(psutil.Process().children()) - self._strangers:
            with suppress(psutil.Error, ChildProcessError):
                if process.pid not in own and process.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(process.pid, os.WNOHANG)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop the children, last started first, each with everything that it started.

        A child's own children are asked first: a flow run can still tell the server that it ends.
        """
        for child in reversed(self.children):
            if child.process is None:
                continue
            family = _descendants(child.process.pid)
            _end([p for p in family if _parent(p) == child.process.pid], grace_s)
            child.stop(grace_s)
            _end(family, 1.0)
        self.children.clear()
        _end(set(_descendants(os.getpid())) - self._strangers, 1.0)


def environment(*parts: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment, changed by `parts`."""
    merged = dict(os.environ)
    for part in parts:
        merged.update(part)
    return merged


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _parent(process: psutil.Process) -> int | None:
    try:
        return int(process.ppid())
    except psutil.Error:
        return None


def _end(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """Ask the processes to end, then make them."""
    processes = list(processes)
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=grace_s)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=grace_s)
