"""The governor: one event loop that drives the co-scheduling machine with a real Dask scheduler and containers.

Everything that happens becomes an event with its time; the machine answers with instructions; the governor carries
them out. It decides nothing itself, and its memory may be lost: senders submit again what has not ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from distributed import Scheduler

from bos_core.scheduling.events import ContainerStartFailed, Event, Tick
from bos_core.scheduling.fleet import Fleet
from bos_core.scheduling.governor_plugin import GovernorPlugin
from bos_core.scheduling.instructions import (
    AssignTask,
    CompleteTask,
    FailTask,
    Instruction,
    QueueOpen,
    RefuseTask,
    ResizeContainer,
    RetryTask,
    ShortOfResources,
    StartContainer,
    StopContainer,
)
from bos_core.scheduling.machine import Machine

CYCLE_S = 1.0
"""A scheduling cycle comes at least so often, and soon after each event."""
PAUSE_S = 0.02
"""What happens within so short a time is answered by one cycle."""
RETIRE_S = 5.0
"""How long results may take to move away from a container that shall stop."""

_log = logging.getLogger(__name__)


class Governor:
    """Drives a machine until it is closed.

    Parameters
    ----------
    scheduler : Scheduler
        Started, without tasks.
    machine : Machine
    clock : callable
        Returns seconds; deadlines of tasks are counted from their submission.
    """

    def __init__(
        self, scheduler: Scheduler, machine: Machine, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.scheduler, self.machine = scheduler, machine
        self._clock = clock
        self._fleets: dict[str, Fleet] = {}
        self._fleet_of: dict[str, Fleet] = {}
        self._events: deque[tuple[float, Event]] = deque()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._plugin = GovernorPlugin(scheduler, self.tell, self._peak_memory_mb, clock)
        scheduler.add_plugin(self._plugin)

    def tell(self, event: Event) -> None:
        """Queue an event; the machine hears of it as soon as the event loop is free."""
        self._events.append((self._clock(), event))
        self._wake.set()

    def join(self, fleet: Fleet) -> None:
        """Let a server take part."""
        joined = fleet.joined()
        self._fleets[joined.server] = fleet
        self._fleet_of.update(dict.fromkeys((c.container for c in joined.containers), fleet))
        self.tell(joined)

    async def run(self) -> None:
        """Answer events, and run a cycle after them, until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), CYCLE_S)
            self._wake.clear()
            while self._events:
                at_s, event = self._events.popleft()
                self._carry_out(self.machine.handle(event, at_s))
            self._carry_out(self.machine.handle(Tick(), self._clock()))
            await asyncio.sleep(PAUSE_S)

    async def close(self) -> None:
        """Stop all containers."""
        await asyncio.gather(*(fleet.close() for fleet in self._fleets.values()))

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for order in instructions:
            match order:
                case StartContainer():
                    self._fleet_of[order.container] = self._fleets[order.server]
                    self._background(self._start(order))
                case StopContainer():
                    self._background(self._stop(order))
                case ResizeContainer():
                    self._background(self._fleet_of[order.container].resize(order))
                case AssignTask():
                    self._fleet_of[order.container].forget_peak(order.container)
                    self._plugin.assign(order)
                case RetryTask():
                    _log.warning("task %s: %s", order.task, order.why)
                    self._plugin.retry(order)
                case FailTask():
                    self._plugin.give_up(order)
                case RefuseTask():
                    self._plugin.refuse(order)
                case QueueOpen():
                    self._plugin.open(order)
                case ShortOfResources():
                    _log.warning(
                        "%d tasks will be late: %g cores and %d MB are missing",
                        *(order.late, order.missing_cpu_cores, order.missing_memory_mb),
                    )
                case CompleteTask():
                    pass

    async def _start(self, order: StartContainer) -> None:
        try:
            await self._fleets[order.server].start(order)
        except Exception as error:  # whatever a container engine raises: the machine waits and tries again
            self.tell(ContainerStartFailed(order.container, repr(error)))

    async def _stop(self, order: StopContainer) -> None:
        """Stop a container; an idle one after results that nobody has fetched have moved to another."""
        fleet = self._fleet_of.get(order.container)
        if fleet is None:
            return
        address = self.scheduler.aliases.get(order.container)
        worker = self.scheduler.workers.get(address)
        if worker is not None and not worker.processing and worker.has_what:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.scheduler.retire_workers(workers=[address]), RETIRE_S)
        await fleet.stop(order)

    def _peak_memory_mb(self, container: str) -> float:
        fleet = self._fleet_of.get(container)
        return fleet.peak_memory_mb(container) if fleet else 0.0

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
