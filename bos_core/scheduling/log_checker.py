"""An independent check of the co-scheduling machine: reads the log of a run, and shares no code with the machine.

The log is what the machine was told and what it asked for, and of a simulation also what is true of the tasks. The
checker keeps books of its own from that, and names every line that breaks a rule.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Line = tuple[float, str, Mapping[str, Any]]
"""Time; ``truth``, ``event`` or ``instruction``; the message with its name as ``kind``."""

_OOM_EXIT, _STOPPED_EXITS, _CRASHES_MAX = 137, (0, 143), 2


@dataclass
class _Task:
    stage: str
    queue: str
    needs: tuple[str, ...]
    arrived_s: float
    order: int
    deadline_s: float | None
    attempt: int = 0
    container: str = ""
    began: bool = False
    last_mb: int = 0
    killed_mb: int = 0
    crashed: list[str] = field(default_factory=list)
    ended: str = ""


@dataclass
class _Container:
    server: str
    trial: bool
    cpu_cores: float
    memory_mb: int
    started_at_s: float
    target: tuple[float, int] | None = None
    is_running: bool = False
    is_asked_to_stop: bool = False
    task: str = ""
    kills: int = 0


class LogChecker:
    """Reads lines in order; `findings` says what was broken.

    Parameters
    ----------
    levels_mb : sequence of int
        Memory of the quotas that containers may have.
    queue_max, attempts_max : int
        Bounds of the machine.
    hold_s : float
        How long a container must have been superfluous before it is stopped.
    """

    def __init__(self, levels_mb: Sequence[int], queue_max: int, attempts_max: int, hold_s: float) -> None:
        self.levels_mb, self.queue_max = tuple(levels_mb), queue_max
        self.attempts_max, self.hold_s = attempts_max, hold_s
        self.findings: list[str] = []
        self._truth: dict[str, Any] = {}
        self._tasks: dict[str, _Task] = {}
        self._containers: dict[str, _Container] = {}
        self._limits: dict[str, tuple[float, int]] = {}
        self._down: set[str] = set()
        self._last_start: dict[tuple[str, bool, int], float] = {}
        self._owed: list[tuple[str, str]] = []
        self._passed: list[tuple[str, str]] = []
        self._at_s = 0.0
        self._what = ""

    def read(self, lines: Iterable[Line], is_complete: bool = True) -> list[str]:
        """Check a whole log and return what is broken.

        Parameters
        ----------
        is_complete : bool
            Whether all tasks should have ended.
        """
        for at_s, sort, message in lines:
            if at_s > self._at_s:
                self._end_of_moment()
            self._at_s, self._what = at_s, str(message["kind"])
            if sort == "truth":
                self._truth[message["request"]["task"]] = message
                continue
            if sort == "event":
                self._settle()
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", self._what).lower()
            rule = getattr(self, f"_told_{name}" if sort == "event" else f"_asked_{name}", None)
            if rule is not None:
                rule(message)
        self._settle()
        if is_complete:
            for name, task in self._tasks.items():
                if not task.ended:
                    self._broken(f"task {name} never ended")
        return self.findings

    def _broken(self, what: str) -> None:
        self.findings.append(f"{self._at_s:.2f} s, {self._what}: {what}")

    def _owe(self, instruction: str, subject: str) -> None:
        """Expect an instruction before the next event."""
        self._owed.append((instruction, subject))

    def _settle(self) -> None:
        for instruction, subject in self._owed:
            self._broken(f"{instruction} of {subject} is missing")
        self._owed.clear()

    def _paid(self, instruction: str, subject: str) -> None:
        if (instruction, subject) in self._owed:
            self._owed.remove((instruction, subject))

    # --- events about tasks

    def _told_task_submitted(self, m: Mapping[str, Any]) -> None:
        if m["task"] in self._tasks:
            return
        self._tasks[m["task"]] = _Task(
            m["program"],
            str(m["queue"]),
            m["depends_on"],
            self._at_s,
            len(self._tasks),
            m["deadline_s"],
        )
        waiting = self._waiting(str(m["queue"]))
        if waiting > self.queue_max:
            self._owe("RefuseTask", m["task"])

    def _waiting(self, queue: str) -> int:
        return sum(t.queue == queue and not t.container and not t.ended for t in self._tasks.values())

    def _current(self, m: Mapping[str, Any]) -> _Task | None:
        """Return the task whose current attempt a message speaks of."""
        task = self._tasks.get(m["task"])
        if task is None or task.ended or (task.attempt, task.container) != (m["attempt"], m["container"]):
            return None
        return task

    def _told_task_started(self, m: Mapping[str, Any]) -> None:
        if (task := self._current(m)) is not None:
            task.began = True

    def _told_task_finished(self, m: Mapping[str, Any]) -> None:
        if self._current(m) is not None:
            self._see_kills(m["container"], m["oom_kills"])
            self._release(m["task"])
            self._owe("CompleteTask", m["task"])

    def _told_task_failed(self, m: Mapping[str, Any]) -> None:
        if self._current(m) is None:
            return
        is_kill = self._see_kills(m["container"], m["oom_kills"])
        self._release(m["task"])
        if is_kill:
            self._killed(m["task"])
        else:
            self._owe("FailTask", m["task"])

    def _told_task_cancelled(self, m: Mapping[str, Any]) -> None:
        task = self._tasks.get(m["task"])
        if task is not None and not task.ended:
            self._release(m["task"])
            self._owe("FailTask", m["task"])

    def _see_kills(self, container: str, kills: int) -> bool:
        """Note a cgroup's counter; return whether it has risen."""
        row = self._containers.get(container)
        if row is None or kills <= row.kills:
            return False
        row.kills = kills
        return True

    def _killed(self, name: str) -> None:
        self._tasks[name].killed_mb = self._tasks[name].last_mb
        self._owe_an_end(name)

    def _owe_an_end(self, name: str) -> None:
        self._owe("RetryTask or FailTask", name)

    def _release(self, name: str) -> None:
        task = self._tasks[name]
        if task.container in self._containers:
            self._containers[task.container].task = ""
        task.container, task.began = "", False

    # --- events about containers and servers

    def _told_container_started(self, m: Mapping[str, Any]) -> None:
        row = self._containers.get(m["container"])
        if row is None:
            self._owe("StopContainer", m["container"])
        else:
            row.is_running = True

    def _told_container_start_failed(self, m: Mapping[str, Any]) -> None:
        row = self._containers.get(m["container"])
        if row is not None and not row.is_running and not row.is_asked_to_stop:
            del self._containers[m["container"]]

    def _told_container_stopped(self, m: Mapping[str, Any]) -> None:
        row = self._containers.pop(m["container"], None)
        if row is None or not row.task:
            return
        name, task = row.task, self._tasks[row.task]
        task.container, task.began = "", False
        if m["oom_killed"] or m["exit_code"] == _OOM_EXIT:
            self._killed(name)
            if not m["oom_killed"] and not task.crashed and task.last_mb >= self._largest_up():
                task.crashed.append(m["container"])
                task.killed_mb = 0  # once more with as much, since nothing says that memory was short
            return
        if m["exit_code"] not in _STOPPED_EXITS:
            task.crashed.append(m["container"])
            if len(task.crashed) > _CRASHES_MAX:
                self._broken(f"task {name} has brought down {len(task.crashed)} containers")
        self._owe_an_end(name)

    def _told_container_lost(self, m: Mapping[str, Any]) -> None:
        row = self._containers.get(m["container"])
        if row is None or row.is_asked_to_stop:
            return
        self._owe("StopContainer", m["container"])
        if row.task:
            name = row.task
            self._release(name)
            self._owe_an_end(name)

    def _told_memory_sampled(self, m: Mapping[str, Any]) -> None:
        row = self._containers.get(m["container"])
        if self._see_kills(m["container"], m["oom_kills"]) and row is not None and row.task:
            name = row.task
            self._release(name)
            self._killed(name)

    def _told_quota_changed(self, m: Mapping[str, Any]) -> None:
        row = self._containers.get(m["container"])
        if row is not None and row.target == (m["cpu_cores"], m["memory_mb"]):
            row.cpu_cores, row.memory_mb = row.target
            row.target = None

    def _told_server_joined(self, m: Mapping[str, Any]) -> None:
        if m["server"] in self._limits and m["server"] not in self._down:
            self._told_server_lost(m)
        self._limits[m["server"]] = (m["cpu_cores"], m["memory_mb"])
        self._down.discard(m["server"])
        for old in m["containers"]:
            name = old["container"]
            row = _Container(m["server"], False, old["cpu_cores"], old["memory_mb"], self._at_s)
            self._containers[name] = row
            self._owe("StopContainer", name)

    def _told_server_lost(self, m: Mapping[str, Any]) -> None:
        if m["server"] in self._down or m["server"] not in self._limits:
            return
        self._down.add(m["server"])
        for name in [name for name, row in self._containers.items() if row.server == m["server"]]:
            task = self._containers[name].task
            del self._containers[name]
            if task:
                self._tasks[task].container, self._tasks[task].began = "", False
                self._owe_an_end(task)

    # --- instructions about containers

    def _reserved(self, server: str) -> tuple[float, int]:
        rows = [row for row in self._containers.values() if row.server == server]
        cpu = sum(max(row.cpu_cores, row.target[0] if row.target else 0.0) for row in rows)
        return cpu, sum(max(row.memory_mb, row.target[1] if row.target else 0) for row in rows)

    def _check_limits(self, server: str) -> None:
        cpu, memory = self._reserved(server)
        if cpu > self._limits[server][0] + 1e-6 or memory > self._limits[server][1]:
            self._broken(f"{cpu:g} cores and {memory} MB are reserved on {server}")

    def _asked_start_container(self, m: Mapping[str, Any]) -> None:
        if m["container"] in self._containers:
            self._broken(f"container {m['container']} exists")
        if m["server"] in self._down:
            self._broken(f"server {m['server']} is lost")
        row = _Container(m["server"], m["trial"], m["cpu_cores"], m["memory_mb"], self._at_s)
        self._containers[m["container"]] = row
        self._last_start[m["server"], m["trial"], m["memory_mb"]] = self._at_s
        self._check_limits(m["server"])

    def _asked_stop_container(self, m: Mapping[str, Any]) -> None:
        self._paid("StopContainer", m["container"])
        row = self._containers.get(m["container"])
        if row is None:
            return
        if row.task:
            task = self._tasks[row.task]
            if task.began:
                self._broken(f"container {m['container']} was working on {row.task}")
            name = row.task
            self._release(name)
            self._owe_an_end(name)
        if m["why"].startswith("superfluous"):
            last = self._last_start.get((row.server, row.trial, row.memory_mb), -math.inf)
            if self._at_s - last < self.hold_s - 1e-6:
                self._broken(f"one like {m['container']} was started {self._at_s - last:.1f} s ago")
        row.is_asked_to_stop = True

    def _asked_resize_container(self, m: Mapping[str, Any]) -> None:
        row = self._containers.get(m["container"])
        if row is None or not row.is_running or row.is_asked_to_stop or row.task:
            self._broken(f"container {m['container']} is not idle")
            return
        row.target = (m["cpu_cores"], m["memory_mb"])
        self._check_limits(row.server)

    # --- instructions about tasks

    def _asked_assign_task(self, m: Mapping[str, Any]) -> None:
        name, task, row = m["task"], self._tasks[m["task"]], self._containers.get(m["container"])
        if row is None or not row.is_running or row.is_asked_to_stop or row.target:
            self._broken(f"{m['container']} does not run")
            return
        if row.task:
            self._broken(f"{m['container']} executes {row.task}, and gets {name}")
        if task.container or task.ended:
            self._broken(f"{name} is assigned although it {'executes' if task.container else 'has ended'}")
        if row.trial != (task.queue == "trial"):
            self._broken(f"{name} of queue {task.queue} and container {m['container']} do not match")
        if m["attempt"] != task.attempt + 1:
            self._broken(f"attempt {m['attempt']} of {name} follows attempt {task.attempt}")
        if m["memory_mb"] != row.memory_mb:
            self._broken(f"{m['container']} has {row.memory_mb} MB, not {m['memory_mb']} MB")
        if task.killed_mb >= row.memory_mb:
            self._broken(f"{name} was killed with {task.killed_mb} MB and gets {row.memory_mb} MB")
        if any(self._tasks[n].ended != "success" for n in task.needs if n in self._tasks):
            self._broken(f"{name} needs tasks that have not succeeded")
        self._check_order(name, task, row)
        task.attempt, task.container, task.last_mb = m["attempt"], m["container"], row.memory_mb
        row.task = name

    def _check_order(self, name: str, task: _Task, row: _Container) -> None:
        """Of equal tasks the older one first; and before a normal one any urgent one, where all fit."""
        for other_name, other in self._tasks.items():
            if other is task or not self._is_ready(other):
                continue
            alike = (other.stage, other.queue, other.deadline_s) == (task.stage, task.queue, task.deadline_s)
            if alike and not other.attempt and not task.attempt and other.arrived_s < task.arrived_s - 1e-6:
                self._broken(f"{name} passes {other_name}, which is like it and has waited longer")
            fits_all = row.memory_mb >= max(self.levels_mb)
            if fits_all and (task.queue, task.deadline_s, other.queue) == ("normal", None, "urgent"):
                self._passed.append((other_name, name))

    def _is_ready(self, task: _Task) -> bool:
        waits = not task.container and not task.ended
        return waits and all(n in self._tasks and self._tasks[n].ended == "success" for n in task.needs)

    def _asked_retry_task(self, m: Mapping[str, Any]) -> None:
        self._paid("RetryTask or FailTask", m["task"])
        task = self._tasks[m["task"]]
        if task.container or task.ended:
            self._broken(f"{m['task']} is to be retried, but {'has ended' if task.ended else 'executes'}")

    def _asked_complete_task(self, m: Mapping[str, Any]) -> None:
        if ("CompleteTask", m["task"]) not in self._owed:
            self._broken(f"{m['task']} did not finish")
        self._paid("CompleteTask", m["task"])
        self._end(m["task"], "success")

    def _asked_fail_task(self, m: Mapping[str, Any]) -> None:
        self._paid("FailTask", m["task"])
        self._paid("RetryTask or FailTask", m["task"])
        self._end(m["task"], str(m["reason"]))
        self._check_reason(m, self._tasks[m["task"]])

    def _end(self, name: str, how: str) -> None:
        if self._tasks[name].ended:
            self._broken(f"{name} has ended before, as {self._tasks[name].ended}")
        if self._tasks[name].container:
            self._broken(f"{name} still executes")
        self._tasks[name].ended = how

    def _check_reason(self, m: Mapping[str, Any], task: _Task) -> None:
        """A task fails only for what is true of it."""
        truth = self._truth.get(m["task"])
        if truth is None:
            return
        is_right = {
            "program failed": truth["behaviour"] == "fails",
            "out of memory": truth["peak_mb"] > self._largest_up(),
            "quarantined": truth["behaviour"] == "crashes" and len(task.crashed) == _CRASHES_MAX,
            "attempts": task.attempt >= self.attempts_max,
            "predecessor failed": any(
                self._tasks[n].ended not in ("", "success") for n in task.needs if n in self._tasks
            ),
        }.get(str(m["reason"]), True)
        if not is_right:
            self._broken(f"{m['task']} is innocent: peak {truth['peak_mb']:.0f} MB, {truth['behaviour']}")

    def _largest_up(self) -> int:
        """Return the largest quota that a server which is up can give."""
        memory = max((limit[1] for server, limit in self._limits.items() if server not in self._down), default=0)
        return max((level for level in self.levels_mb if level <= memory), default=max(self.levels_mb))

    def _asked_refuse_task(self, m: Mapping[str, Any]) -> None:
        self._paid("RefuseTask", m["task"])
        waiting = self._waiting(self._tasks[m["task"]].queue)
        if waiting <= self.queue_max:
            self._broken(f"{m['task']} is refused although only {waiting - 1} wait")
        del self._tasks[m["task"]]

    # --- between moments

    def _end_of_moment(self) -> None:
        """Nothing waits beside an idle container that is large enough for anything."""
        self._settle()
        for urgent, normal in self._passed:
            if urgent in self._tasks and self._is_ready(self._tasks[urgent]):
                self._broken(f"{normal} of queue normal goes before {urgent} of queue urgent")
        self._passed.clear()
        ready: Counter[bool] = Counter()
        for task in self._tasks.values():
            if self._is_ready(task):
                ready[task.queue == "trial"] += 1
        if not ready:
            return
        for name, row in self._containers.items():
            is_idle = row.is_running and not row.is_asked_to_stop and not row.target and not row.task
            if is_idle and row.memory_mb >= max(self.levels_mb) and ready[row.trial]:
                self._broken(f"{name} is idle while {ready[row.trial]} tasks wait")
