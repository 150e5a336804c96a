"""The Dask half of the governor: holds every task until the co-scheduling machine gives it a container.

A held task is restricted to an address that no worker has, so that Dask leaves it in its state ``no-worker``.
To assign it is to restrict it to one worker and to ask for the transition. Dask's own ways to move, steal, retry
or blame tasks are out of the game: a task whose worker dies is held again, and the machine decides.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol.serialize import Serialized, serialize
from distributed.utils import key_split

from bos_core.objects.errors import TaskGivenUpError
from bos_core.scheduling.decisions import words
from bos_core.scheduling.events import (
    ContainerStarted,
    Event,
    Queue,
    TaskCancelled,
    TaskFailed,
    TaskFinished,
    TaskStarted,
    TaskSubmitted,
)
from bos_core.scheduling.instructions import AssignTask, FailTask, QueueOpen, RefuseTask, RetryTask

FETCH_S_MAX = 0.5
"""How long a container waits for its sender to fetch a result before it takes the next task."""
NOWHERE = "bos://hold"
"""Address of no worker."""
ANNOTATION = "bos"
"""Of a Dask task: the fields of `TaskSubmitted` that its sender knows."""

DASK_SETTINGS = {
    "distributed.scheduler.allowed-failures": 1_000_000,  # the machine knows whom to blame
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.no-workers-timeout": None,
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.terminate": False,
    "distributed.comm.timeouts.connect": "60s",
    "distributed.admin.large-graph-warning-threshold": "1GB",
}


@dataclass
class _Held:
    """A Dask task and what the machine calls it. A result that was lost makes it another task of the machine."""

    key: str
    task: str
    submission: TaskSubmitted
    attempt: int = 0
    container: str = ""
    ended: bool = False
    outcome: TaskFinished | None = None
    """Of a task whose result lies in its container still: the next task there may be its death."""


class GovernorPlugin(SchedulerPlugin):
    """Tells the machine what happens in Dask's scheduler, and carries out there what the machine says of tasks.

    Parameters
    ----------
    scheduler : Scheduler
        Has no tasks yet.
    tell : callable
        Takes an event; must only queue it, because Dask is in the middle of its transitions.
    peak_memory_mb : callable
        Returns the most memory that a container has held since its task was assigned.
    clock : callable
        The machine's, in seconds; a client gives deadlines in seconds from submission.
    """

    name = "bos-governor"

    def __init__(
        self,
        scheduler: Scheduler,
        tell: Callable[[Event], None],
        peak_memory_mb: Callable[[str], float],
        clock: Callable[[], float],
    ) -> None:
        self._scheduler, self._tell, self._peak_memory_mb, self._clock = scheduler, tell, peak_memory_mb, clock
        self._held: dict[str, _Held] = {}
        self._by_task: dict[str, _Held] = {}
        self._refused: dict[Queue, deque[str]] = {queue: deque() for queue in Queue}
        self._numbers = itertools.count(2)

    # ------------------------------------------------------------------------------- what happens in Dask

    def update_graph(
        self,
        scheduler: Scheduler,
        *,
        tasks: Sequence[Any],
        annotations: Mapping[str, Mapping[Any, Any]],
        **others: Any,
    ) -> None:
        """Hold what a client sent, and tell the machine of it."""
        known = annotations.get(ANNOTATION, {})
        for key in tasks:
            state = scheduler.tasks[key]
            if key not in self._held and state.run_spec is not None and state.state in ("released", "waiting"):
                needs = [self._held[d.key].task for d in state.dependencies if d.key in self._held]
                self._hold(key, str(key), known.get(key, {}), tuple(needs))

    def transition(self, key: Any, start: str, finish: str, *args: Any, **others: Any) -> None:
        """Follow a task through Dask's states."""
        held = self._held.get(key)
        if held is None:
            return
        if finish == "processing":
            self._tell(TaskStarted(held.task, held.attempt, held.container))
        elif start == "processing":
            self._left_worker(held, finish, others)
        elif finish == "waiting" and held.ended:  # its result was lost, or a client asks for it once more
            self._by_task.pop(held.task)
            known = self._scheduler.tasks[key].annotations.get(ANNOTATION, {})
            self._hold(key, f"{key}#{next(self._numbers)}", known, ())
        if start == "memory":
            self._tell_outcome(held)
        if finish == "forgotten":
            if not held.ended:
                self._tell(TaskCancelled(held.task))
            self._held.pop(key, None)
            self._by_task.pop(held.task, None)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """A container has registered."""
        self._tell(ContainerStarted(str(scheduler.workers[worker].name)))

    # ---------------------------------------------------------------------------- what the machine asks for

    def assign(self, order: AssignTask) -> None:
        """Send a task to its container; if Dask no longer knows one of them, another event is on its way."""
        held = self._by_task.get(order.task)
        address = self._scheduler.aliases.get(order.container)
        if held is None or address is None:
            return
        held.attempt, held.container = order.attempt, order.container
        state = self._scheduler.tasks[held.key]
        state.worker_restrictions = {address}
        if state.state == "no-worker":
            self._scheduler.transitions({held.key: "processing"}, f"{self.name}-assign-{time.time()}")

    def retry(self, order: RetryTask) -> None:
        """Hold a task again whose attempt came to nothing; if Dask still runs it, take it away from there."""
        held = self._by_task.get(order.task)
        if held is None or held.attempt != order.attempt:
            return
        state = self._scheduler.tasks[held.key]
        state.worker_restrictions = {NOWHERE}
        held.container = ""
        if state.state == "processing":
            self._scheduler.transitions({held.key: "released"}, f"{self.name}-retry-{time.time()}")

    def give_up(self, order: FailTask) -> None:
        """Let whoever waits for a task know that it will not succeed."""
        held = self._by_task.get(order.task)
        if held is None or held.ended:
            return
        held.ended = True
        state = self._scheduler.tasks[held.key]
        stimulus = f"{self.name}-give-up-{time.time()}"
        state.worker_restrictions = {NOWHERE}
        if state.state == "processing":
            self._scheduler.transitions({held.key: "released"}, stimulus)
        error = TaskGivenUpError(words(order))
        if state.state == "no-worker":
            header, frames = serialize(error)
            recommended = self._scheduler.transition(
                held.key,
                "erred",
                stimulus,
                cause=held.key,
                exception=Serialized(header, frames),
                exception_text=str(error),
            )
            self._scheduler.transitions(recommended, stimulus)

    def refuse(self, order: RefuseTask) -> None:
        """Keep a task for which its queue has no room now."""
        self._refused[order.queue].append(order.task)

    def open(self, order: QueueOpen) -> None:
        """Submit as many of the refused tasks as there is room for, longest waiting first."""
        waiting, room = self._refused[order.queue], order.room
        while waiting and room:
            held = self._by_task.get(waiting.popleft())
            if held is not None and not held.ended:
                self._tell(held.submission)
                room -= 1

    # -------------------------------------------------------------------------------------------- inside

    def _hold(self, key: str, task: str, known: Mapping[str, Any], needs: tuple[str, ...]) -> None:
        held = _Held(key, task, self._submission(task, known, needs))
        self._held[key] = self._by_task[task] = held
        self._scheduler.tasks[key].worker_restrictions = {NOWHERE}
        self._tell(held.submission)

    def _tell_outcome(self, held: _Held) -> None:
        if held.outcome is not None:
            self._tell(held.outcome)
            held.outcome = None

    def _submission(self, task: str, known: Mapping[str, Any], needs: tuple[str, ...]) -> TaskSubmitted:
        """Fill in what the sender did not say: a task of Prefect's is known by its function's name only."""
        others = (self._held.get(key) for key in known.get("depends_on", ()))
        fields: dict[str, Any] = {
            "program": key_split(task),
            **known,
            "queue": Queue(known.get("queue", Queue.NORMAL)),
            "features": tuple((name, value) for name, value in known.get("features", ())),
            "depends_on": (*needs, *(held.task for held in others if held is not None)),
        }
        if fields.get("deadline_s") is not None:
            fields["deadline_s"] += self._clock()
        return TaskSubmitted(task, **fields)

    def _left_worker(self, held: _Held, finish: str, others: Mapping[str, Any]) -> None:
        if finish == "memory":
            spans = [s["stop"] - s["start"] for s in others.get("startstops") or () if s["action"] == "compute"]
            peak_mb = self._peak_memory_mb(held.container)
            held.ended = True
            held.outcome = TaskFinished(held.task, held.attempt, held.container, sum(spans), peak_mb)
            self._scheduler.loop.call_later(FETCH_S_MAX, self._tell_outcome, held)
        elif finish == "erred":
            text = str(others.get("exception_text") or "its program failed")
            held.ended = True
            self._tell(TaskFailed(held.task, held.attempt, held.container, text))
        elif (state := self._scheduler.tasks.get(held.key)) is not None:
            state.worker_restrictions = {NOWHERE}
