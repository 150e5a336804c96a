"""The co-scheduling machine: events in, instructions out, and nothing else.

Time comes with each event and randomness is given, so the same events lead to the same instructions; a governor
drives it with real containers, the simulator with a virtual clock. The rules are those of section 3.3 of the paper
with the mends of X1 to X5: deadlines bound completion times, admission is by reservation of memory and CPU, quotas
are discrete levels.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import numpy as np

from bos_core.objects.task import TaskState
from bos_core.scheduling import invariants
from bos_core.scheduling.decisions import Choice, Decision
from bos_core.scheduling.events import (
    ContainerLost,
    ContainerStarted,
    ContainerStartFailed,
    ContainerStopped,
    Event,
    KillForm,
    MemorySampled,
    Queue,
    QuotaChanged,
    ServerJoined,
    ServerLost,
    TaskCancelled,
    TaskFailed,
    TaskFinished,
    TaskStarted,
    TaskSubmitted,
    Tick,
)
from bos_core.scheduling.fleet_state import ContainerState, FleetState, Phase, ServerState
from bos_core.scheduling.forecasts import Forecasts, Outcome
from bos_core.scheduling.instructions import (
    AssignTask,
    CompleteTask,
    FailTask,
    Instruction,
    QueueOpen,
    Reason,
    RefuseTask,
    RetryTask,
    StopContainer,
)
from bos_core.scheduling.policies import IntArray, Limits, Policies
from bos_core.scheduling.sizing import ContainerScheduling, Waiting
from bos_core.scheduling.task_table import EXECUTING, FAILED, QUEUES, SUCCESS, TaskTable

_KILLED, _TERMINATED = 137, 143
_START_PAUSE_S_MAX = 60.0
_REFUSALS_END = 0.5
"""A queue that was full takes tasks again when so much of it is filled."""


class Machine:
    """Task and container scheduling as one state machine.

    Parameters
    ----------
    policies : Policies
        Programs for A1, A2, A3 and formula (2).
    limits : Limits
    history : iterable of Outcome
        What the ledger knows of earlier runs.
    random : Random
    prefix : str
        What names of containers begin with.
    """

    def __init__(
        self,
        policies: Policies,
        limits: Limits | None = None,
        history: Iterable[Outcome] = (),
        random: Random | None = None,
        prefix: str = "bos",
    ) -> None:
        self.limits, self._policies = limits or Limits(), policies
        self.tasks, self.fleet = TaskTable(), FleetState()
        self.forecasts = Forecasts(policies.forecast, self.limits, history)
        self.sizing = ContainerScheduling(self.fleet, policies.size, self.limits, random or Random(0), prefix)
        self.decisions: deque[Decision] = deque(maxlen=self.limits.decisions_max)
        self.now_s = -np.inf
        self._number = 0
        self._next_sizing_s = self._next_look_s = -np.inf
        self._refusing: set[Queue] = set()
        self._touched: set[str] = set()
        self._handlers: dict[type, Callable[[Any], list[Instruction]]] = {
            TaskSubmitted: self._submitted,
            TaskCancelled: self._cancelled,
            TaskStarted: self._began,
            TaskFinished: self._finished,
            TaskFailed: self._failed,
            ContainerStarted: self._container_started,
            ContainerStartFailed: self._container_start_failed,
            ContainerStopped: self._container_stopped,
            ContainerLost: self._container_lost,
            QuotaChanged: self._quota_changed,
            MemorySampled: self._sampled,
            ServerJoined: self._server_joined,
            ServerLost: self._server_lost,
        }

    def handle(self, event: Event, now_s: float, check_all: bool = False) -> list[Instruction]:
        """Take one event and return what is to be done.

        Parameters
        ----------
        event : Event
        now_s : float
            Time of the event; earlier than that of the last one counts as the same.
        check_all : bool
            Check the invariants of all containers and tasks, not only of those that the event touched.

        Raises
        ------
        InvariantError
            If the machine contradicts itself.
        """
        self.now_s = max(self.now_s, now_s)
        self._touched = {name} if (name := getattr(event, "container", "")) else set()
        if isinstance(event, Tick):
            instructions = self._cycle()
        else:
            instructions = self._handlers[type(event)](event)
            if instructions:
                self._record(event, (), 0, "", (), instructions)
        self._check(instructions, check_all)
        return instructions

    def _record(
        self,
        event: Event,
        snapshot: tuple[ContainerState, ...],
        waiting: int,
        mode: str,
        choices: tuple[Choice, ...],
        instructions: list[Instruction],
    ) -> None:
        self._number += 1
        done, cause = tuple(instructions), type(event).__name__
        self.decisions.append(Decision(self._number, self.now_s, cause, snapshot, waiting, mode, choices, done))

    def _check(self, instructions: Iterable[Instruction], check_all: bool) -> None:
        rows = None
        if not check_all:
            names = self._touched | {getattr(i, "container", "") for i in instructions}
            rows = tuple(self.fleet.containers[name] for name in sorted(names) if name in self.fleet.containers)
        broken = list(invariants.violations(self, rows))
        if broken:
            raise invariants.InvariantError("; ".join(broken))

    # --- tasks

    def _submitted(self, event: TaskSubmitted) -> list[Instruction]:
        if event.task in self.tasks.row_of:
            return []
        if self.tasks.waiting(event.queue) >= self.limits.queue_max:
            self._refusing.add(event.queue)
            return [RefuseTask(event.task, event.queue, self.limits.queue_max)]
        row = self.tasks.add(event, self.forecasts.group(event), self.now_s)
        largest = max(level.memory_mb for level in self.limits.levels)
        if event.memory_mb > largest:
            return self._give_up(row, Reason.OUT_OF_MEMORY, "its owner says so", event.memory_mb, largest)
        lost = [name for name in event.depends_on if self._has_failed(name)]
        return self._give_up(row, Reason.PREDECESSOR_FAILED, lost[0]) if lost else []

    def _has_failed(self, task: str) -> bool:
        row = self.tasks.row_of.get(task)
        return row is not None and bool(self.tasks.state[row] == FAILED)

    def _cancelled(self, event: TaskCancelled) -> list[Instruction]:
        row = self.tasks.row_of.get(event.task)
        if row is None or self.tasks.state[row] in (SUCCESS, FAILED):
            return []
        stops: list[Instruction] = []
        if (container := self._container_of(row)) is not None:
            stops.append(self.sizing.stop(container, f"task {event.task} was cancelled", self.now_s))
        return [*stops, *self._give_up(row, Reason.CANCELLED)]

    def _began(self, event: TaskStarted) -> list[Instruction]:
        if (container := self._current(event)) is not None:
            self.fleet.change(container, task_began=True)
        return []

    def _finished(self, event: TaskFinished) -> list[Instruction]:
        container = self._current(event)
        if container is None:
            return []
        row = self.tasks.row_of[event.task]
        self._learn(row, container, event.wall_s, event.peak_memory_mb)
        stop = self._release(container, event.oom_kills)
        self.tasks.move(row, TaskState.SUCCESS)
        self.tasks.container[row] = ""
        for follower in self.tasks.followers.pop(event.task, ()):
            self.tasks.blockers[follower] -= 1
        return [CompleteTask(event.task, event.attempt), *stop, *self._room(row)]

    def _failed(self, event: TaskFailed) -> list[Instruction]:
        container = self._current(event)
        if container is None:
            return []
        row = self.tasks.row_of[event.task]
        stop = self._release(container, event.oom_kills)
        if event.oom_kills > container.oom_kills:
            return [*stop, *self._killed(row, container, KillForm.CHILD)]
        return [*stop, *self._give_up(row, Reason.PROGRAM_FAILED, event.message)]

    def _current(self, event: TaskStarted | TaskFinished | TaskFailed) -> ContainerState | None:
        """Return the container of the attempt that an event speaks of; None if that is not the current one."""
        container = self.fleet.containers.get(event.container)
        if container is None or (container.task, container.attempt) != (event.task, event.attempt):
            return None
        return container

    def _container_of(self, row: int) -> ContainerState | None:
        return self.fleet.containers.get(self.tasks.container[row])

    def _release(self, container: ContainerState, oom_kills: int) -> list[Instruction]:
        """Make a container idle, or stop it where it was only to end its task."""
        seen = max(oom_kills, container.seen_kills)
        idle = self.fleet.change(
            container, task="", attempt=0, task_began=False, seen_kills=seen, oom_kills=seen, since_s=self.now_s
        )
        return [self.sizing.stop(idle, "another size is needed", self.now_s)] if idle.draining else []

    def _learn(
        self, row: int, container: ContainerState, duration_s: float, memory_mb: float, killed: bool = False
    ) -> None:
        request = self.tasks.request[row]
        program = f"{request.slot}/{request.program}"
        self.forecasts.learn(
            Outcome(program, request.features, container.cpu_cores, duration_s, memory_mb, killed)
        )

    # --- attempts that come to nothing

    def _killed(self, row: int, container: ContainerState, form: KillForm) -> list[Instruction]:
        """Retry with more memory, as long as there is more."""
        self._learn(row, container, max(1e-3, self.now_s - container.since_s), container.memory_mb, killed=True)
        self.tasks.oom_kills[row] += 1
        largest = self.sizing.largest_mb() or max(level.memory_mb for level in self.limits.levels)
        if container.memory_mb >= largest:
            crashed = self.tasks.crashed.get(row, ())
            if form is KillForm.EXIT_CODE and not crashed:  # somebody may have killed it for another reason
                self.tasks.crashed[row] = (container.container,)
                return self._retry(row, f"killed with {container.memory_mb} MB: {form}")
            detail = f"killed with {container.memory_mb} MB: {form}"
            return self._give_up(row, Reason.OUT_OF_MEMORY, detail, container.memory_mb + 1, largest)
        more = min(largest, round(container.memory_mb * self.limits.growth))
        self.tasks.floor_mb[row] = max(more, self.tasks.floor_mb[row])
        return self._retry(row, f"killed with {container.memory_mb} MB: {form}")

    def _crashed(self, row: int, container: ContainerState, exit_code: int) -> list[Instruction]:
        """Retry elsewhere, until the task has brought down too many containers."""
        crashed = (*self.tasks.crashed.get(row, ()), container.container)
        self.tasks.crashed[row] = crashed
        detail = f"{container.container} ended with exit code {exit_code}"
        if len(crashed) >= self.limits.crashes_max:
            return self._give_up(row, Reason.QUARANTINED, detail, containers=crashed)
        return self._retry(row, detail)

    def _retry(self, row: int, why: str) -> list[Instruction]:
        task, attempt = self.tasks.request[row].task, int(self.tasks.attempt[row])
        if attempt >= self.limits.attempts_max:
            return self._give_up(row, Reason.ATTEMPTS, why)
        self.tasks.move(row, TaskState.RETRYING)
        self.tasks.container[row] = ""
        return [RetryTask(task, attempt, int(self.tasks.floor_mb[row]), why)]

    def _give_up(
        self,
        row: int,
        reason: Reason,
        detail: str = "",
        needed_mb: int = 0,
        largest_mb: int = 0,
        containers: tuple[str, ...] = (),
    ) -> list[Instruction]:
        """Fail a task, and all that need it."""
        task = self.tasks.request[row].task
        verdict = FailTask(task, int(self.tasks.attempt[row]), reason, detail, needed_mb, largest_mb, containers)
        self.tasks.move(row, TaskState.FAILED)
        self.tasks.container[row] = ""
        found: list[Instruction] = [verdict, *self._room(row)]
        for follower in self.tasks.followers.pop(task, ()):
            if self.tasks.state[follower] != FAILED:
                found += self._give_up(follower, Reason.PREDECESSOR_FAILED, task)
        return found

    def _room(self, row: int) -> list[Instruction]:
        """Open a queue that refused tasks, once enough of it is empty."""
        queue = self.tasks.request[row].queue
        if queue not in self._refusing:
            return []
        room = self.limits.queue_max - self.tasks.waiting(queue)
        if room < self.limits.queue_max * _REFUSALS_END:
            return []
        self._refusing.discard(queue)
        return [QueueOpen(queue, room)]

    # --- containers

    def _container_started(self, event: ContainerStarted) -> list[Instruction]:
        row = self.fleet.containers.get(event.container)
        if row is None:
            return [StopContainer(event.container, "", "nobody asked for it")]
        if row.phase is Phase.STARTING:
            self.fleet.change(row, phase=Phase.RUNNING, since_s=self.now_s)
            server = self.fleet.servers[row.server]
            self._put_server(server, start_failures=0, next_start_s=0.0)
        return []

    def _container_start_failed(self, event: ContainerStartFailed) -> list[Instruction]:
        row = self.fleet.containers.get(event.container)
        if row is None or row.phase not in (Phase.STARTING, Phase.STOPPING):
            return []
        self.fleet.remove(row)
        server = self.fleet.servers[row.server]
        failures = server.start_failures + 1
        pause = min(_START_PAUSE_S_MAX, 2.0**failures)
        self._put_server(server, start_failures=failures, next_start_s=self.now_s + pause)
        return []

    def _container_stopped(self, event: ContainerStopped) -> list[Instruction]:
        container = self.fleet.containers.get(event.container)
        if container is None:
            return []
        self.fleet.remove(container)
        if not container.task:
            return []
        row = self.tasks.row_of[container.task]
        if event.oom_killed:
            return self._killed(row, container, KillForm.DAEMON)
        if event.exit_code == _KILLED:
            return self._killed(row, container, KillForm.EXIT_CODE)
        if event.exit_code in (0, _TERMINATED):
            return self._retry(row, f"{container.container} was stopped from outside")
        return self._crashed(row, container, event.exit_code)

    def _container_lost(self, event: ContainerLost) -> list[Instruction]:
        row = self.fleet.containers.get(event.container)
        if row is None or row.phase is Phase.STOPPING:
            return []
        return self._abandon(row, "it cannot be reached")

    def _abandon(self, container: ContainerState, why: str) -> list[Instruction]:
        """Stop a container; what it executed is retried, and not to blame."""
        stop = self.sizing.stop(container, why, self.now_s)
        if not container.task:
            return [stop]
        return [stop, *self._retry(self.tasks.row_of[container.task], f"{container.container}: {why}")]

    def _quota_changed(self, event: QuotaChanged) -> list[Instruction]:
        row = self.fleet.containers.get(event.container)
        wanted = (event.cpu_cores, event.memory_mb)
        if (
            row is None
            or row.phase is not Phase.RESIZING
            or wanted != (row.target_cpu_cores, row.target_memory_mb)
        ):
            return []
        self.fleet.change(
            row, phase=Phase.RUNNING, cpu_cores=event.cpu_cores, memory_mb=event.memory_mb, since_s=self.now_s
        )
        return []

    def _sampled(self, event: MemorySampled) -> list[Instruction]:
        container = self.fleet.containers.get(event.container)
        if container is None or event.oom_kills <= container.seen_kills:
            return []
        container = self.fleet.change(container, seen_kills=event.oom_kills)
        if not container.task:
            return []
        row = self.tasks.row_of[container.task]
        stop = self.sizing.stop(container, KillForm.CHILD, self.now_s)
        return [stop, *self._killed(row, container, KillForm.CHILD)]

    # --- servers

    def _put_server(self, server: ServerState, **changes: Any) -> None:
        values = {name: getattr(server, name) for name in ServerState.__dataclass_fields__}
        self.fleet.servers[server.server] = ServerState(**{**values, **changes})

    def _server_joined(self, event: ServerJoined) -> list[Instruction]:
        found = self._server_lost(ServerLost(event.server)) if event.server in self.fleet.servers else []
        self.fleet.servers[event.server] = ServerState(event.server, event.cpu_cores, event.memory_mb)
        self.fleet.reserved[event.server] = (0.0, 0)
        for old in event.containers:
            row = ContainerState(
                old.container, event.server, False, old.cpu_cores, old.memory_mb, old.cpu_cores, old.memory_mb
            )
            found.append(self.sizing.stop(row, "it ran before its server joined", self.now_s))
        return found

    def _server_lost(self, event: ServerLost) -> list[Instruction]:
        server = self.fleet.servers.get(event.server)
        if server is None or not server.is_up:
            return []
        self._put_server(server, is_up=False)
        found: list[Instruction] = []
        for row in list(self.fleet.of_server(event.server)):
            self.fleet.remove(row)
            if row.task:
                found += self._retry(self.tasks.row_of[row.task], f"server {event.server} was lost")
        return found

    # --- the cycle

    def _cycle(self) -> list[Instruction]:
        found = self._overdue()
        self.forecasts.refresh(self.now_s)
        snapshot = self.fleet.snapshot()
        ready = self.tasks.ready()
        choices: tuple[Choice, ...] = ()
        while self.fleet.idle and (part := self._assign(self.tasks.ready())):
            found += [self._dispatch(choice) for choice in part]
            choices += part
            if len(part) < self.limits.window:
                break
        mode = ""
        if self.now_s >= self._next_sizing_s:
            self._next_sizing_s = self.now_s + self.limits.sizing_period_s
            plan = self.sizing.plan(self._waiting(self.tasks.ready()), self._busy_s(), self.now_s)
            mode = plan.mode
            found += plan.instructions
        if found:
            self._record(Tick(), snapshot, ready.size, mode, choices, found)
        return found

    def _overdue(self) -> list[Instruction]:
        """Act where an answer to an instruction is overdue."""
        found: list[Instruction] = []
        if self.now_s < self._next_look_s:
            return found
        self._next_look_s = self.now_s + self.limits.silence_s / 10
        before = self.now_s - self.limits.silence_s
        late = [r for r in self.fleet.containers.values() if r.since_s < before and not r.is_idle]
        for row in late:
            if row.phase is Phase.STOPPING:
                found.append(self.sizing.stop(row, "it has not stopped yet", self.now_s))
            elif row.phase is not Phase.RUNNING or (row.task and not row.task_began):
                found += self._abandon(row, f"no word for {self.limits.silence_s:g} s")
        return found

    def _need_mb(self, rows: IntArray) -> IntArray:
        """Return the memory that tasks must have: the forecast, and more than what they were killed with.

        A forecast alone never keeps a task from the largest container that there is.
        """
        forecast = np.minimum(self.forecasts.memory_mb[self.tasks.group[rows]], self.sizing.largest_mb())
        needs: IntArray = np.maximum(forecast, self.tasks.floor_mb[rows])
        return needs

    def _slack_s(self, rows: IntArray) -> tuple[np.ndarray, np.ndarray]:
        """Return the time until tasks are to be complete, and whether their owners have said so."""
        deadline = self.tasks.deadline_s[rows]
        is_hard = np.isfinite(deadline)
        due = np.where(is_hard, deadline, self.tasks.submitted_s[rows] + self.limits.patience_s)
        return due - self.now_s, is_hard

    def _assign(self, ready: IntArray) -> tuple[Choice, ...]:
        """Let A2 weigh all tasks that wait, and A3 match the first of them with a window of idle containers."""
        if not ready.size:
            return ()
        idle = list(itertools.islice(self.fleet.idle.values(), self.limits.window))
        need, group = self._need_mb(ready), self.tasks.group[ready]
        slack, is_hard = self._slack_s(ready)
        waited = self.now_s - self.tasks.submitted_s[ready]
        quickest = self.forecasts.duration_s.min(axis=1)[group]
        queue = self.tasks.queue[ready]
        criticality = self.tasks.criticality[ready] * np.array(self.limits.queue_weight)[queue]
        spare = np.where(is_hard, slack - quickest, np.inf)
        weight = self._policies.prioritise(
            criticality=criticality, waited_s=waited, slack_s=spare, duration_s=quickest
        ).weight
        trial = queue == QUEUES.index(Queue.TRIAL)
        memory = np.array([row.memory_mb for row in idle], np.int64)
        is_trial = np.array([row.trial for row in idle])
        first = shortlist(weight, need, trial, memory, is_trial)
        if not first.size:
            return ()
        levels = [self.sizing.level(row) for row in idle]
        duration = self.forecasts.duration_s[group[first]][:, levels]
        answer = self._policies.assign(
            weight=weight[first],
            duration_s=duration,
            allowed=(need[first, None] <= memory) & (trial[first, None] == is_trial),
            slack_s=np.where(is_hard, slack, np.inf)[first],
            deferred_s=np.full(first.size, duration.max() + self.limits.sizing_period_s),
            container_memory_mb=memory,
        )
        order = np.sort(weight)
        ahead = weight.size - np.searchsorted(order, weight[first], side="right")
        return tuple(
            Choice(
                task=self.tasks.request[ready[task]].task,
                container=idle[place].container,
                weight=float(weight[task]),
                ahead=int(ahead[row]),
                duration_s=float(duration[row, place]),
                need_mb=int(need[task]),
                container_mb=idle[place].memory_mb,
                observations=int(self.forecasts.observations[group[task]]),
                waited_s=float(waited[task]),
                slack_s=float(spare[task]),
            )
            for row, (task, place) in enumerate(zip(first.tolist(), answer.container.tolist(), strict=True))
            if place >= 0
        )

    def _dispatch(self, choice: Choice) -> AssignTask:
        row, container = self.tasks.row_of[choice.task], self.fleet.containers[choice.container]
        self.tasks.move(row, TaskState.EXECUTING)
        self.tasks.attempt[row] += 1
        self.tasks.container[row] = container.container
        attempt = int(self.tasks.attempt[row])
        self.fleet.change(
            container,
            task=choice.task,
            attempt=attempt,
            task_began=False,
            oom_kills=container.seen_kills,
            since_s=self.now_s,
        )
        return AssignTask(choice.task, attempt, container.container, container.memory_mb)

    def _waiting(self, ready: IntArray) -> Waiting:
        """Return what waits, for formula (2); what fits nowhere counts as having a deadline: it will be named."""
        slack, is_hard = self._slack_s(ready)
        duration = self.forecasts.duration_s[self.tasks.group[ready]]
        soon = np.maximum(slack, duration.min(axis=1, initial=np.inf))  # what is late already: as soon as possible
        trial = self.tasks.queue[ready] == QUEUES.index(Queue.TRIAL)
        need = self._need_mb(ready)
        return Waiting(need, trial, duration, soon, is_hard | (need > self.sizing.largest_mb()))

    def _busy_s(self) -> dict[str, float]:
        """Return for how long containers are still busy, by the forecast of what they execute."""
        rows = np.flatnonzero(self.tasks.state == EXECUTING)
        found = {}
        for row in rows.tolist():
            container = self.fleet.containers[self.tasks.container[row]]
            whole = self.forecasts.duration_s[self.tasks.group[row], self.sizing.level(container)]
            found[container.container] = max(0.0, float(whole) - (self.now_s - container.since_s))
        return found


def shortlist(
    weight: np.ndarray, need_mb: np.ndarray, trial: np.ndarray, memory_mb: np.ndarray, is_trial: np.ndarray
) -> IntArray:
    """Return the tasks that A3 needs to look at: of those with equal needs, as many as containers that fit.

    Parameters
    ----------
    weight, need_mb, trial : (task,) arrays
    memory_mb, is_trial : (container,) arrays
        Of the idle containers.

    Returns
    -------
    (chosen,) array
        Positions of tasks, by weight.
    """
    chosen = []
    for kind in (False, True):
        sizes = np.sort(memory_mb[is_trial == kind])
        of_kind = np.flatnonzero(trial == kind)
        if not sizes.size or not of_kind.size:
            continue
        smaller = np.searchsorted(sizes, need_mb[of_kind])
        for count in np.unique(smaller).tolist():
            room = sizes.size - count
            tasks = of_kind[smaller == count]
            if tasks.size > room > 0:
                tasks = tasks[np.lexsort((tasks, -weight[tasks]))[:room]]
            if room:
                chosen.append(tasks)
    if not chosen:
        return np.zeros(0, np.int64)
    found = np.concatenate(chosen)
    return found[np.lexsort((found, -weight[found]))]
