"""A simulated world for the co-scheduling machine: the same machine on a virtual clock.

The world carries out instructions with delays, runs tasks for as long as they take, kills what needs more memory
than its container has, and does what faults it was given; equal seeds give equal logs.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from bos_core.scheduling.decisions import as_json
from bos_core.scheduling.events import (
    ContainerLost,
    ContainerStarted,
    ContainerStartFailed,
    ContainerStopped,
    Event,
    FoundContainer,
    KillForm,
    MemorySampled,
    Queue,
    QuotaChanged,
    ServerJoined,
    ServerLost,
    TaskFailed,
    TaskFinished,
    TaskStarted,
    TaskSubmitted,
    Tick,
)
from bos_core.scheduling.instructions import (
    AssignTask,
    CompleteTask,
    FailTask,
    QueueOpen,
    RefuseTask,
    ResizeContainer,
    RetryTask,
    ShortOfResources,
    StartContainer,
    StopContainer,
)
from bos_core.scheduling.machine import Machine
from bos_core.scheduling.workload import Arrival, Workload, truths

SEGMENTATION_FAULT, KILLED = 139, 137


@dataclass(frozen=True)
class Outage:
    """A server that cannot be reached for a while; with `power`, its containers are gone too."""

    server: str
    at_s: float
    for_s: float
    power: bool


@dataclass(frozen=True)
class World:
    """Delays and faults.

    Attributes
    ----------
    start_s : tuple of float
        Least and most time that a container takes to start.
    message_s : float
        Most time that an event or instruction is under way; above 0, they may overtake each other.
    start_failure, container_loss, lost_assignment, repeated_event, stopped_from_outside : float
        Probabilities: a start, an execution, an assignment, an event, an execution.
    outages : tuple of Outage
    end_s : float
        When the simulation gives up.
    rest_s : float
        How long it goes on after the last task.
    tick_s : float
        Period of the cycles without any event.
    cycle_s : float
        Least time between two cycles; what happens meanwhile is decided together.
    """

    start_s: tuple[float, float] = (2.0, 2.0)
    message_s: float = 0.0
    start_failure: float = 0.0
    container_loss: float = 0.0
    lost_assignment: float = 0.0
    repeated_event: float = 0.0
    stopped_from_outside: float = 0.0
    outages: tuple[Outage, ...] = ()
    end_s: float = 30 * 24 * 3600.0
    rest_s: float = 0.0
    tick_s: float = 1.0
    cycle_s: float = 0.0


@dataclass
class _Container:
    server: str
    cpu_cores: float
    memory_mb: int
    runs: bool = False
    kills: int = 0
    execution: int = 0
    task: str = ""


@dataclass
class TaskRun:
    """What became of a task: when it arrived, first started and ended, in which state."""

    arrived_s: float
    stage: str
    queue: Queue
    started_s: float = math.nan
    ended_s: float = math.nan
    outcome: str = ""
    attempts: int = 0
    due_s: float = math.inf


@dataclass
class Result:
    """What a simulation gave.

    Attributes
    ----------
    log : list of (float, str, object)
        Time, ``truth``, ``event`` or ``instruction``, and the message.
    tasks : dict of str to TaskRun
    containers : list of (float, int, int, float)
        Time, containers that run, MB that they reserve, and how many are busy: a row a change.
    starts, stops, resizes, kills, retries : int
    short : list of (float, ShortOfResources)
    unfinished : int
    """

    log: list[tuple[float, str, Any]] = field(default_factory=list)
    tasks: dict[str, TaskRun] = field(default_factory=dict)
    containers: list[tuple[float, int, int, int]] = field(default_factory=list)
    starts: int = 0
    stops: int = 0
    resizes: int = 0
    kills: int = 0
    retries: int = 0
    cycles: int = 0
    short: list[tuple[float, ShortOfResources]] = field(default_factory=list)
    unfinished: int = 0

    @property
    def makespan_s(self) -> float:
        """When the last task ended."""
        return max((run.ended_s for run in self.tasks.values() if run.outcome), default=0.0)


class Simulation:
    """One run of a machine in a simulated world.

    Parameters
    ----------
    machine : Machine
    workload : Workload
    world : World
    random : Random
        Of the world; the machine has its own.
    keep_log : bool
        Large workloads need not keep every message.
    check_all : bool
        Check all invariants after each event.
    """

    def __init__(
        self,
        machine: Machine,
        workload: Workload,
        world: World | None = None,
        random: Random | None = None,
        keep_log: bool = True,
        check_all: bool = True,
    ) -> None:
        self.machine, self.workload = machine, workload
        self.world, self._random = world or World(), random or Random(0)
        self.result = Result()
        self._keep_log, self._check_all = keep_log, check_all
        self._now, self._sequence = 0.0, 0
        self._next_cycle_s, self._cycle_is_due = 0.0, False
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._containers: dict[str, _Container] = {}
        self._unreachable: set[str] = set()
        self._truth = {arrival.request.task: arrival for arrival in truths(workload)}
        self._open_stages = {stage.name: len(stage.arrivals) for stage in workload.stages}
        self._refused: dict[Queue, deque[TaskSubmitted]] = {queue: deque() for queue in Queue}
        self._running = self._reserved = self._busy = 0
        self._carry_out: dict[type, Callable[[Any], None]] = {
            StartContainer: self._start,
            StopContainer: self._stop,
            ResizeContainer: self._resize,
            AssignTask: self._assign,
            RetryTask: self._retried,
            CompleteTask: self._completed,
            FailTask: self._given_up,
            RefuseTask: self._was_refused,
            QueueOpen: self._reopened,
            ShortOfResources: self._ran_short,
        }

    def lines(self) -> Iterator[tuple[float, str, dict[str, Any]]]:
        """Yield the log as what JSON can hold."""
        return ((at_s, sort, as_json(message)) for at_s, sort, message in self.result.log)

    def run(self) -> Result:
        """Run until every task has ended, and rest."""
        for arrival in self._truth.values():
            self._write("truth", arrival)
        for server in self.workload.servers:
            joined = ServerJoined(server.server, server.cpu_cores, server.memory_mb)
            self._later(0.0, lambda joined=joined: self._tell(joined))  # type: ignore[misc]
        for outage in self.world.outages:
            self._later(outage.at_s, lambda outage=outage: self._lose_server(outage))  # type: ignore[misc]
        for stage in self.workload.stages:
            if not stage.after:
                self._later(stage.at_s, lambda name=stage.name: self._begin(name))  # type: ignore[misc]
        self._later(0.0, self._tick)
        end_s, is_over = self.world.end_s, False
        while self._agenda and self._agenda[0][0] <= end_s:
            self._now, _, act = heapq.heappop(self._agenda)
            act()
            if not self._agenda or self._agenda[0][0] > self._now:
                self._cycle()
            if not is_over and not any(self._open_stages.values()):
                is_over, end_s = True, min(end_s, self._now + self.world.rest_s)
        self.result.unfinished = sum(not run.outcome for run in self.result.tasks.values())
        self.result.unfinished += self.workload.tasks - len(self.result.tasks)
        return self.result

    # --- clock

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._agenda, (self._now + delay_s, self._sequence, act))

    def _delay(self) -> float:
        return self._random.uniform(0, self.world.message_s) if self.world.message_s else 0.0

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability

    def _tick(self) -> None:
        self._later(self.world.tick_s, self._tick)

    def _cycle(self) -> None:
        if self._now + 1e-9 < self._next_cycle_s:
            if not self._cycle_is_due:
                self._cycle_is_due = True
                self._later(self._next_cycle_s - self._now, lambda: None)
            return
        self._next_cycle_s, self._cycle_is_due = self._now + self.world.cycle_s, False
        self.result.cycles += 1
        self._tell(Tick())

    def _write(self, kind: str, message: object) -> None:
        if self._keep_log and not isinstance(message, Tick):
            self.result.log.append((self._now, kind, message))

    def _tell(self, event: Event) -> None:
        """Hand an event to the machine, and carry out what it wants."""
        self._write("event", event)
        for instruction in self.machine.handle(event, self._now, self._check_all):
            self._write("instruction", instruction)
            self._carry_out[type(instruction)](instruction)

    def _report(self, server: str, event: Event) -> None:
        """Send an event from a server, once or twice."""
        for _ in range(2 if self._happens(self.world.repeated_event) else 1):

            def arrive() -> None:
                if server not in self._unreachable:
                    self._tell(event)

            self._later(self._delay(), arrive)

    # --- stages

    def _begin(self, name: str) -> None:
        stage = next(stage for stage in self.workload.stages if stage.name == name)
        for arrival in stage.arrivals:
            if arrival.at_s:
                self._later(arrival.at_s, lambda arrival=arrival: self._arrive(name, arrival))  # type: ignore[misc]
            else:
                self._arrive(name, arrival)

    def _arrive(self, stage: str, arrival: Arrival) -> None:
        request = arrival.request
        if request.deadline_s is not None:
            request = replace(request, deadline_s=self._now + request.deadline_s)
        due = math.inf if request.deadline_s is None else request.deadline_s
        self.result.tasks[request.task] = TaskRun(self._now, stage, request.queue, due_s=due)
        self._tell(request)

    def _ended(self, task: str, outcome: str) -> None:
        run = self.result.tasks[task]
        run.ended_s, run.outcome = self._now, outcome
        self._open_stages[run.stage] -= 1
        if self._open_stages[run.stage] == 0:
            for stage in self.workload.stages:
                if run.stage in stage.after and not any(self._open_stages[name] for name in stage.after):
                    self._later(stage.at_s, lambda name=stage.name: self._begin(name))  # type: ignore[misc]

    # --- what the machine wants of the ledger and the user

    def _retried(self, instruction: RetryTask) -> None:
        self.result.retries += 1

    def _completed(self, instruction: CompleteTask) -> None:
        self._ended(instruction.task, "success")

    def _given_up(self, instruction: FailTask) -> None:
        self._ended(instruction.task, instruction.reason)

    def _was_refused(self, instruction: RefuseTask) -> None:
        run, arrival = self.result.tasks[instruction.task], self._truth[instruction.task]
        deadline = None if math.isinf(run.due_s) else run.due_s
        self._refused[instruction.queue].append(replace(arrival.request, deadline_s=deadline))

    def _reopened(self, instruction: QueueOpen) -> None:
        self._later(0.0, lambda: self._submit_again(self._refused[instruction.queue]))

    def _submit_again(self, waiting: deque[TaskSubmitted]) -> None:
        """Submit what was refused, in order, until one is refused again."""
        for _ in range(len(waiting)):
            request, left = waiting.popleft(), len(waiting)
            self._tell(request)
            if len(waiting) > left:
                waiting.rotate(1)
                return

    def _ran_short(self, instruction: ShortOfResources) -> None:
        self.result.short.append((self._now, instruction))

    # --- containers

    def _count(self, running: int, reserved: int, busy: int) -> None:
        self._running, self._reserved = self._running + running, self._reserved + reserved
        self._busy += busy
        self.result.containers.append((self._now, self._running, self._reserved, self._busy))

    def _start(self, instruction: StartContainer) -> None:
        self.result.starts += 1
        name, server = instruction.container, instruction.server
        delay = self._random.uniform(*self.world.start_s)
        if self._happens(self.world.start_failure):
            failed = ContainerStartFailed(name, "no such image")
            self._later(delay, lambda: self._report(server, failed))
            return
        self._containers[name] = _Container(server, instruction.cpu_cores, instruction.memory_mb)

        def started() -> None:
            if name in self._containers:
                self._containers[name].runs = True
                self._count(1, instruction.memory_mb, 0)
                self._report(server, ContainerStarted(name))

        self._later(delay, started)

    def _stop(self, instruction: StopContainer) -> None:
        self.result.stops += 1
        name = instruction.container
        server = self._containers[name].server if name in self._containers else instruction.server

        def stopped() -> None:
            if name not in self._containers:  # as a container host answers that has no such container
                self._report(server, ContainerStopped(name, 0))
            elif server not in self._unreachable:
                self._end(name, 0, False)

        self._later(0.1 + self._delay(), stopped)

    def _end(self, name: str, exit_code: int, oom_killed: bool) -> None:
        """End a container and report it."""
        container = self._containers.pop(name, None)
        if container is None:
            return
        if container.runs:
            self._count(-1, -container.memory_mb, -bool(container.task))
        self._report(container.server, ContainerStopped(name, exit_code, oom_killed))

    def _resize(self, instruction: ResizeContainer) -> None:
        self.result.resizes += 1
        name = instruction.container

        def changed() -> None:
            container = self._containers.get(name)
            if container is not None and container.server not in self._unreachable:
                self._count(0, instruction.memory_mb - container.memory_mb, 0)
                container.cpu_cores, container.memory_mb = instruction.cpu_cores, instruction.memory_mb
                self._report(container.server, QuotaChanged(name, container.cpu_cores, container.memory_mb))

        self._later(0.2 + self._delay(), changed)

    # --- executions

    def _assign(self, instruction: AssignTask) -> None:
        run = self.result.tasks[instruction.task]
        run.attempts += 1
        if not self._happens(self.world.lost_assignment):
            self._later(self._delay(), lambda: self._execute(instruction))

    def _execute(self, assigned: AssignTask) -> None:
        name = assigned.container
        container = self._containers.get(name)
        if container is None or container.server in self._unreachable or container.task:
            return
        run, truth = self.result.tasks[assigned.task], self._truth[assigned.task]
        if math.isnan(run.started_s):
            run.started_s = self._now
        container.execution += 1
        container.task = assigned.task
        execution = container.execution
        self._count(0, 0, 1)
        self._report(container.server, TaskStarted(assigned.task, assigned.attempt, name))
        duration = truth.duration_s / container.cpu_cores
        end, act = duration, self._succeeds
        if truth.peak_mb > container.memory_mb:
            end, act = duration * container.memory_mb / truth.peak_mb, self._runs_out_of_memory
        elif truth.behaviour == "crashes":
            end, act = 0.3 * duration, self._crashes
        elif truth.behaviour == "fails":
            end, act = 0.5 * duration, self._fails
        elif self._happens(self.world.container_loss):
            end, act = self._random.random() * duration, self._is_lost
        elif self._happens(self.world.stopped_from_outside):
            end, act = self._random.random() * duration, self._is_stopped

        def ends() -> None:
            now = self._containers.get(name)
            if now is container and now.execution == execution and now.task:
                act(assigned, container, duration)

        self._later(end, ends)

    def _free(self, container: _Container) -> None:
        container.task = ""
        self._count(0, 0, -1)

    def _succeeds(self, assigned: AssignTask, container: _Container, duration_s: float) -> None:
        self._free(container)
        peak = self._truth[assigned.task].peak_mb
        finished = TaskFinished(
            assigned.task, assigned.attempt, assigned.container, duration_s, peak, container.kills
        )
        self._report(container.server, finished)

    def _fails(self, assigned: AssignTask, container: _Container, duration_s: float) -> None:
        self._free(container)
        failed = TaskFailed(assigned.task, assigned.attempt, assigned.container, "no solution", container.kills)
        self._report(container.server, failed)

    def _crashes(self, assigned: AssignTask, container: _Container, duration_s: float) -> None:
        self._end(assigned.container, SEGMENTATION_FAULT, False)

    def _is_stopped(self, assigned: AssignTask, container: _Container, duration_s: float) -> None:
        self._end(assigned.container, 143, False)

    def _is_lost(self, assigned: AssignTask, container: _Container, duration_s: float) -> None:
        self._free(container)
        self._report(container.server, ContainerLost(assigned.container))

    def _runs_out_of_memory(self, assigned: AssignTask, container: _Container, duration_s: float) -> None:
        self.result.kills += 1
        form = self._random.choice(list(KillForm))
        if form is KillForm.DAEMON:
            self._end(assigned.container, KILLED, True)
        elif form is KillForm.EXIT_CODE:
            self._end(assigned.container, KILLED, False)
        else:
            container.kills += 1
            if self._random.random() < 0.5:
                self._fails(assigned, container, duration_s)
            else:  # the parent waits for its child for ever
                sample = MemorySampled(assigned.container, 0.0, container.kills)
                self._report(container.server, sample)

    # --- servers

    def _lose_server(self, outage: Outage) -> None:
        server = outage.server
        self._unreachable.add(server)
        for name in [name for name, c in self._containers.items() if c.server == server]:
            container = self._containers[name]
            if outage.power:
                if container.runs:
                    self._count(-1, -container.memory_mb, -bool(container.task))
                del self._containers[name]
        self._later(self._delay(), lambda: self._tell(ServerLost(server)))
        self._later(outage.for_s, lambda: self._return_server(server))

    def _return_server(self, server: str) -> None:
        self._unreachable.discard(server)
        part = next(part for part in self.workload.servers if part.server == server)
        found = []
        for name, container in self._containers.items():
            if container.server == server and container.runs:
                container.execution += 1  # what it did is of an attempt that is given up
                if container.task:
                    self._free(container)
                found.append(FoundContainer(name, container.cpu_cores, container.memory_mb))
        self._tell(ServerJoined(server, part.cpu_cores, part.memory_mb, tuple(found)))
