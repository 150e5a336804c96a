"""Formula (2) at work: demand by class of task and size of container, and the way from a plan to instructions.

Guarantee mode grows: it is asked for when a task cannot keep its deadline with the containers that there are.
Normal mode shrinks, once containers have been superfluous for a while. Idle containers change their quota where
that gives the memory that others need; busy ones end after their task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from bos_core.scheduling.feasibility import completion_s
from bos_core.scheduling.fleet_state import ContainerState, FleetState, Phase, ServerState
from bos_core.scheduling.instructions import (
    Instruction,
    ResizeContainer,
    ShortOfResources,
    StartContainer,
    StopContainer,
)
from bos_core.scheduling.policies import FloatArray, IntArray, Limits, Sizing

NORMAL, GUARANTEE = "normal", "guarantee"
HARD_COST, SOFT_COST = 1000.0, 10.0
"""Cost of a container that is missing where tasks miss a deadline, or the patience of who set none, per hour."""


@dataclass(frozen=True, eq=False)
class Waiting:
    """The tasks that are ready to start, for one run of formula (2).

    Attributes
    ----------
    need_mb : (task,)
    trial : (task,) bool
    duration_s : (task, level)
    slack_s : (task,)
        Until it is to be complete.
    is_hard : (task,) bool
        Whether its owner has set the deadline.
    """

    need_mb: IntArray
    trial: np.ndarray
    duration_s: FloatArray
    slack_s: FloatArray
    is_hard: np.ndarray


@dataclass(frozen=True, eq=False)
class Demand:
    """The tasks that wait by class: equal kind and memory level, and slack in one interval; by slack.

    Attributes
    ----------
    count, slack_s : (class,)
        The slack is the least of the class.
    is_hard, trial : (class,) bool
    need_mb : (class,)
        Memory of the smallest level that its tasks fit.
    duration_s : (class, level)
        Mean of its tasks.
    """

    count: IntArray
    slack_s: FloatArray
    is_hard: np.ndarray
    trial: np.ndarray
    need_mb: IntArray
    duration_s: FloatArray


def demand(waiting: Waiting, level_mb: IntArray) -> Demand:
    """Return the tasks by class; slacks of one class differ by less than a factor of two.

    Parameters
    ----------
    level_mb : (level,)
        Memory of the levels, ascending.
    """
    level = np.minimum(np.searchsorted(level_mb, waiting.need_mb), level_mb.size - 1)
    interval = np.floor(np.log2(np.maximum(waiting.slack_s, 1e-3))).astype(np.int64) + 16
    key = ((interval * 2 + waiting.is_hard) * 2 + waiting.trial) * level_mb.size + level
    _, first, of_class, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    slack = np.full(count.size, np.inf)
    np.minimum.at(slack, of_class, waiting.slack_s)
    duration = np.zeros((count.size, waiting.duration_s.shape[1]))
    np.add.at(duration, of_class, waiting.duration_s)
    order = np.argsort(slack, kind="stable")
    return Demand(
        count=count[order],
        slack_s=slack[order],
        is_hard=waiting.is_hard[first][order],
        trial=waiting.trial[first][order],
        need_mb=level_mb[level[first]][order],
        duration_s=(duration / count[:, None])[order],
    )


@dataclass(frozen=True)
class Plan:
    """Mode, and what to do."""

    mode: str
    instructions: tuple[Instruction, ...]


class ContainerScheduling:
    """The container scheduling module: decides which containers there are, and how large they are.

    Parameters
    ----------
    fleet : FleetState
        Changed by the plans that this makes.
    call : callable
        The program of slot ``container_sizing``.
    limits : Limits
    random : Random
        For the paper's random candidates.
    prefix : str
        What names of containers begin with.
    """

    def __init__(
        self, fleet: FleetState, call: Callable[..., Sizing], limits: Limits, random: Random, prefix: str
    ) -> None:
        self.fleet, self._call, self._limits, self._random, self._prefix = fleet, call, limits, random, prefix
        levels = limits.levels
        self._level_of = {(level.cpu_cores, level.memory_mb): place for place, level in enumerate(levels)}
        self._level_mb = np.array([level.memory_mb for level in levels], np.int64)
        self._memory_mb = np.tile(self._level_mb, 2)
        self._cpu_cores = np.array([level.cpu_cores for level in levels] * 2)
        self._cost = np.array([level.cost_per_h for level in levels] * 2)
        self._trial = np.repeat([False, True], len(levels))
        self._started = 0
        self._surplus: dict[tuple[str, int], tuple[float, int]] = {}
        self._short = 0

    # --- looking

    def level(self, row: ContainerState) -> int:
        """Return the level of a container's quota."""
        return self._level_of[row.target_cpu_cores, row.target_memory_mb]

    def _size(self, row: ContainerState) -> int:
        """Return the size of a container: its level; those of trial containers come after the others."""
        return self.level(row) + self._level_mb.size * row.trial

    def largest_mb(self) -> int:
        """Return the memory of the largest container that some server can hold; 0 where none is up."""
        return int(self._memory_mb[self._possible()].max(initial=0))

    def _possible(self) -> np.ndarray:
        """Return which sizes some server that is up can hold."""
        possible = np.zeros(self._trial.size, bool)
        for server in self.fleet.servers.values():
            if server.is_up:
                possible |= (self._memory_mb <= server.memory_mb) & (self._cpu_cores <= server.cpu_cores)
        return possible

    def is_feasible(self, waiting: Waiting, busy_s: Mapping[str, float]) -> bool:
        """Whether the containers that stay can complete every task in time, earliest deadline first.

        Parameters
        ----------
        busy_s : mapping
            Seconds that a busy container still needs, as far as it is forecast.
        """
        free_s: list[list[float]] = [[] for _ in self._trial]
        for row in self.fleet.containers.values():
            if row.is_staying:
                start_s = self._limits.start_s if row.phase is Phase.STARTING else 0.0
                free_s[self._size(row)].append(busy_s.get(row.container, start_s))
        duration = np.tile(waiting.duration_s, 2)
        done = completion_s(duration, self._fits(waiting.need_mb, waiting.trial), waiting.slack_s, free_s)
        return bool((done <= waiting.slack_s).all())

    def _fits(self, need_mb: IntArray, trial: np.ndarray) -> np.ndarray:
        fits: np.ndarray = (need_mb[:, None] <= self._memory_mb) & (trial[:, None] == self._trial)
        return fits

    # --- deciding

    def plan(self, waiting: Waiting, busy_s: Mapping[str, float], now_s: float) -> Plan:
        """Decide which containers start, stop or change, and mark them so."""
        mode = NORMAL if self.is_feasible(waiting, busy_s) else GUARANTEE
        servers = [server for server in self.fleet.servers.values() if server.is_up]
        wanted = demand(waiting, self._level_mb)
        if not servers:
            return Plan(mode, tuple(self._shortage(wanted, wanted.count)))
        change, late = self._change(servers, wanted, busy_s, may_grow=mode == GUARANTEE)
        names = [server.server for server in servers]
        if mode == GUARANTEE:
            self._surplus.clear()
            hard = np.where(wanted.is_hard, late, 0.0)
            return Plan(mode, (*self._grow(names, change, now_s), *self._shortage(wanted, hard)))
        self._short = 0
        return Plan(mode, tuple(self._shrink(names, -change, now_s)))

    def _change(
        self, servers: Sequence[ServerState], wanted: Demand, busy_s: Mapping[str, float], may_grow: bool
    ) -> tuple[IntArray, FloatArray]:
        """Solve formula (2): return the containers that a server gains of each size, and late tasks by class."""
        place = {server.server: row for row, server in enumerate(servers)}
        current = np.zeros((len(servers), self._trial.size), np.int64)
        for row in self.fleet.containers.values():
            if row.is_staying:
                current[place[row.server], self._size(row)] += 1
        fits = self._fits(wanted.need_mb, wanted.trial) & self._possible()
        used = fits.any(axis=0) | current.any(axis=0)
        if may_grow:
            fits = self._candidates(wanted, fits)
        quickest = wanted.duration_s.min(axis=1, initial=np.inf)
        slack = np.maximum.accumulate(np.maximum(wanted.slack_s - self._limits.start_s, quickest))
        # A task costs its share of a container when it is late, and a class no less than a whole one.
        share = np.clip(quickest / slack, 1 / wanted.count, 1.0)
        answer = self._call(
            count=wanted.count,
            slack_s=slack,
            late_cost=np.where(wanted.is_hard, HARD_COST, SOFT_COST) * share,
            fits=fits[:, used],
            duration_s=np.tile(wanted.duration_s, 2)[:, used],
            busy_s=self._busy(slack, busy_s)[:, used],
            size_cpu_cores=self._cpu_cores[used],
            size_memory_mb=self._memory_mb[used],
            size_cost=self._cost[used],
            server_cpu_cores=np.array([server.cpu_cores for server in servers]),
            server_memory_mb=np.array([server.memory_mb for server in servers], np.int64),
            current=current[:, used],
            change_cost=self._limits.change_cost,
            may_grow=may_grow,
        )
        change = -current
        change[:, used] += answer.containers
        return change, answer.late

    def _candidates(self, wanted: Demand, fits: np.ndarray) -> np.ndarray:
        """Return the relaxed virtual assignment of guarantee mode: a few sizes for each class."""
        duration = np.tile(wanted.duration_s, 2)
        found = np.zeros_like(fits)
        for row, possible in enumerate(fits):
            sizes = np.flatnonzero(possible).tolist()
            if self._limits.candidates == "random":
                self._random.shuffle(sizes)
            else:
                sizes.sort(key=lambda size: (duration[row, size], self._cost[size]))
            found[row, sizes[: self._limits.candidates_max]] = True
        return found

    def _busy(self, slack_s: FloatArray, busy_s: Mapping[str, float]) -> FloatArray:
        """Return for how long the containers of a size are busy before the slack of each class has passed."""
        found = np.zeros((slack_s.size, self._trial.size))
        for container, remaining in busy_s.items():
            row = self.fleet.containers[container]
            if row.is_staying:
                found[:, self._size(row)] += np.minimum(slack_s, remaining)
        return found

    # --- acting

    def _grow(self, servers: Sequence[str], change: IntArray, now_s: float) -> Iterator[Instruction]:
        for place, server in enumerate(servers):
            missing = [size for size in np.argsort(-self._memory_mb) for _ in range(change[place, size])]
            if not missing or self.fleet.servers[server].next_start_s > now_s:
                continue
            spare = self._superfluous(server, -change[place])
            blocked = []
            for size in missing:
                cpu, memory = float(self._cpu_cores[size]), int(self._memory_mb[size])
                if self.fleet.admits(server, cpu, memory):
                    yield self._start(server, size, now_s)
                elif (row := self._resizable(spare, size)) is not None:
                    spare.remove(row)
                    yield self._resize(row, size, now_s)
                else:
                    blocked.append(size)
            yield from self._make_room(server, spare, blocked, now_s)

    def _start(self, server: str, size: int, now_s: float) -> StartContainer:
        self._started += 1
        name = f"{self._prefix}-{self._started:06d}"
        cpu, memory, trial = float(self._cpu_cores[size]), int(self._memory_mb[size]), bool(self._trial[size])
        self.fleet.put(ContainerState(name, server, trial, cpu, memory, cpu, memory, since_s=now_s))
        return StartContainer(name, server, trial, cpu, memory)

    def _resizable(self, spare: Sequence[ContainerState], size: int) -> ContainerState | None:
        """Return an idle container that may become one of this size where it is."""
        cpu, memory = float(self._cpu_cores[size]), int(self._memory_mb[size])
        for row in spare:
            free_cpu, free_mb = self.fleet.room(row.server)
            is_room = cpu <= free_cpu + row.cpu_cores + 1e-9 and memory <= free_mb + row.memory_mb
            if row.is_idle and row.trial == self._trial[size] and is_room:
                return row
        return None

    def _resize(self, row: ContainerState, size: int, now_s: float) -> ResizeContainer:
        cpu, memory = float(self._cpu_cores[size]), int(self._memory_mb[size])
        self.fleet.change(
            row,
            phase=Phase.RESIZING,
            cpu_cores=max(cpu, row.cpu_cores),
            memory_mb=max(memory, row.memory_mb),
            target_cpu_cores=cpu,
            target_memory_mb=memory,
            since_s=now_s,
        )
        return ResizeContainer(row.container, row.server, cpu, memory)

    def _superfluous(self, server: str, surplus: IntArray) -> list[ContainerState]:
        """Return containers that the plan does without: idle ones first, then those with the youngest task."""
        left = surplus.copy()
        rows = [r for r in self.fleet.of_server(server) if r.is_staying and r.phase is Phase.RUNNING]
        found = []
        for row in sorted(rows, key=lambda r: (not r.is_idle, -r.since_s, r.container)):
            if left[size := self._size(row)] > 0:
                left[size] -= 1
                found.append(row)
        return found

    def _make_room(
        self, server: str, spare: Sequence[ContainerState], blocked: Sequence[int], now_s: float
    ) -> Iterator[Instruction]:
        """Stop idle containers, and let busy ones end after their task, until what is blocked will fit."""
        room_cpu, room_mb = self.fleet.room(server)
        leaving = [row for row in self.fleet.of_server(server) if not row.is_staying]
        lack_cpu = self._cpu_cores[blocked].sum() - room_cpu - sum(row.cpu_cores for row in leaving)
        lack_mb = self._memory_mb[blocked].sum() - room_mb - sum(row.memory_mb for row in leaving)
        for row in spare:
            if lack_cpu <= 1e-9 and lack_mb <= 0:
                return
            lack_cpu, lack_mb = lack_cpu - row.cpu_cores, lack_mb - row.memory_mb
            if row.is_idle:
                yield self.stop(row, "another size is needed", now_s)
            else:
                self.fleet.change(row, draining=True)

    def _shrink(self, servers: Sequence[str], surplus: IntArray, now_s: float) -> Iterator[Instruction]:
        """Stop idle containers that the plan has done without for a while."""
        for place, server in enumerate(servers):
            for size in range(surplus.shape[1]):
                key, count = (server, size), int(surplus[place, size])
                if count <= 0:
                    self._surplus.pop(key, None)
                    continue
                since, least = self._surplus.get(key, (now_s, count))
                least = min(least, count)
                self._surplus[key] = (since, least)
                if now_s - since < self._limits.hold_s:
                    continue
                del self._surplus[key]
                idle = [
                    row for row in self.fleet.idle.values() if row.server == server and self._size(row) == size
                ]
                for row in sorted(idle, key=lambda r: (r.since_s, r.container))[:least]:
                    yield self.stop(row, f"superfluous for {self._limits.hold_s:g} s", now_s)

    def stop(self, row: ContainerState, why: str, now_s: float) -> StopContainer:
        """Mark a container as stopping and return the instruction."""
        self.fleet.change(row, phase=Phase.STOPPING, task="", attempt=0, task_began=False, since_s=now_s)
        return StopContainer(row.container, row.server, why)

    def _shortage(self, wanted: Demand, late: np.ndarray) -> Iterator[ShortOfResources]:
        """Say what is missing, once, and again when it has doubled."""
        count = int(np.ceil(late[wanted.is_hard].sum() - 1e-6))
        if count == 0:
            self._short = 0
        if count <= 2 * self._short:
            return
        self._short = count
        level = np.searchsorted(self._level_mb, wanted.need_mb)
        duration = wanted.duration_s[np.arange(level.size), level]
        containers = np.ceil(np.where(wanted.is_hard, late, 0.0) * duration / wanted.slack_s)
        cpu, memory = containers @ self._cpu_cores[level], containers @ self._level_mb[level]
        yield ShortOfResources(count, float(cpu), int(memory))
