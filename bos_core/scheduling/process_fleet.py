"""Containers for machines without Docker: processes whose memory this fleet bounds itself.

A worker process and what it starts (a solver, say) may hold as much resident memory as the container's quota
says. The fleet looks ten times a second and kills a family of processes that holds more: a fence, not a wall,
because memory that is taken within a fraction of a second gets past it. CPU is not bounded: a worker has one
thread.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bos_core.objects.container import CPU_CORES_VARIABLE, EXECUTOR, MEMORY_MB_VARIABLE, SERVICE_VARIABLE
from bos_core.scheduling.events import (
    ContainerStartFailed,
    ContainerStopped,
    Event,
    MemorySampled,
    QuotaChanged,
    ServerJoined,
)
from bos_core.scheduling.instructions import ResizeContainer, StartContainer, StopContainer
from bos_core.scheduling.supervisor import TETHER

MB = 1_000_000
WATCH_S = 0.1
SAMPLE_S = 1.0
DEATH_TIMEOUT_S = 30
"""How long a worker looks for its scheduler before it ends."""


@dataclass
class _Worker:
    process: Process
    memory_mb: int
    over_limit: bool = False
    stopping: bool = False
    peak_mb: float = 0.0


class ProcessFleet:
    """The machine that the governor runs on, as a server whose containers are processes.

    Parameters
    ----------
    scheduler : str
        Address of Dask's scheduler.
    tell : callable
        Takes events.
    directory : Path
        For logs and for what workers need for a while.
    cpu_cores, memory_mb : float, int
        What containers may reserve together.
    environment : mapping
        Of the worker processes, besides this one's.
    """

    def __init__(
        self,
        scheduler: str,
        tell: Callable[[Event], None],
        directory: Path,
        cpu_cores: float,
        memory_mb: int,
        environment: Mapping[str, str],
    ) -> None:
        self.server = platform.node()
        self._scheduler, self._tell, self._directory = scheduler, tell, directory
        self._cpu_cores, self._memory_mb = cpu_cores, memory_mb
        self._environment = {**os.environ, **environment}
        self._workers: dict[str, _Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        directory.mkdir(parents=True, exist_ok=True)
        self._background(self._watch())

    def joined(self) -> ServerJoined:
        """Return this machine; processes of an earlier governor have ended with it."""
        return ServerJoined(self.server, self._cpu_cores, self._memory_mb)

    async def start(self, order: StartContainer) -> None:
        """Start a worker process; what it writes goes to a log of its own."""
        command = (
            *(*TETHER, sys.executable, "-m", "distributed.cli.dask_worker", self._scheduler),
            *("--name", order.container, "--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--no-dashboard"),
            *("--host", "127.0.0.1", "--local-directory", str(self._directory)),
            *("--death-timeout", str(DEATH_TIMEOUT_S)),
        )
        marks = {
            SERVICE_VARIABLE: EXECUTOR,
            CPU_CORES_VARIABLE: f"{order.cpu_cores:g}",
            MEMORY_MB_VARIABLE: str(order.memory_mb),
        }
        try:
            with (self._directory / f"{order.container}.log").open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    env={**self._environment, **marks},
                    stdin=DEVNULL,
                    stdout=log,
                    stderr=STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            self._tell(ContainerStartFailed(order.container, str(error)))
            return
        self._workers[order.container] = worker = _Worker(process, order.memory_mb)
        self._background(self._await_end(order.container, worker))

    async def stop(self, order: StopContainer) -> None:
        """Kill a worker with all that it started."""
        worker = self._workers.get(order.container)
        if worker is None:
            self._tell(ContainerStopped(order.container, 0))
            return
        worker.stopping = True
        _kill(worker)

    async def resize(self, order: ResizeContainer) -> None:
        """Change the memory that a worker may hold."""
        worker = self._workers.get(order.container)
        if worker is not None:
            worker.memory_mb = order.memory_mb
            self._tell(QuotaChanged(order.container, order.cpu_cores, order.memory_mb))

    def forget_peak(self, container: str) -> None:
        """Let the kernel's and our own memory of the peak start anew."""
        worker = self._workers.get(container)
        if worker is not None:
            worker.peak_mb = 0.0
            with suppress(OSError):
                Path(f"/proc/{worker.process.pid}/clear_refs").write_text("5", encoding="ascii")

    def peak_memory_mb(self, container: str) -> float:
        """Return the larger of the worker's own peak, by the kernel, and that of the family, as sampled."""
        worker = self._workers.get(container)
        if worker is None:
            return 0.0
        with suppress(OSError, StopIteration, ValueError):
            status = Path(f"/proc/{worker.process.pid}/status").read_text(encoding="ascii", errors="replace")
            line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
            worker.peak_mb = max(worker.peak_mb, int(line.split()[1]) * 1024 / MB)
        return worker.peak_mb

    async def close(self) -> None:
        """Kill all workers and wait for them."""
        for worker in self._workers.values():
            worker.stopping = True
            _kill(worker)
        await asyncio.gather(*(worker.process.wait() for worker in self._workers.values()))
        for task in self._tasks:
            task.cancel()

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _await_end(self, container: str, worker: _Worker) -> None:
        code = await worker.process.wait()
        _kill(worker)  # a family without its worker serves nobody
        self._workers.pop(container, None)
        exit_code = 0 if worker.stopping else 128 - code if code < 0 else code
        self._tell(ContainerStopped(container, exit_code, oom_killed=worker.over_limit))

    async def _watch(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(WATCH_S)
            ticks += 1
            for container, worker in list(self._workers.items()):
                held_mb = _family_mb(worker.process.pid)
                worker.peak_mb = max(worker.peak_mb, held_mb)
                if held_mb > worker.memory_mb and not worker.stopping:
                    worker.over_limit = True
                    _kill(worker)
                elif ticks * WATCH_S >= SAMPLE_S:
                    self._tell(MemorySampled(container, held_mb))
            if ticks * WATCH_S >= SAMPLE_S:
                ticks = 0


def _family_mb(pid: int) -> float:
    """Return the resident memory of a process and its descendants."""
    total = 0
    with suppress(psutil.Error):
        leader = psutil.Process(pid)
        for process in (leader, *leader.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total / MB


def _kill(worker: _Worker) -> None:
    """Kill the session of a worker; a process that left it ends with its parent's pipe or is none of ours."""
    with suppress(ProcessLookupError):
        os.killpg(worker.process.pid, signal.SIGKILL)
