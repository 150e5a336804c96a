"""Two thousand workloads with faults, and some thirty planted bugs that the same checks must find."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fault_scenarios import POLICIES, campaign, play

from bos_core.scheduling import machine as machine_module
from bos_core.scheduling.events import ServerJoined
from bos_core.scheduling.fleet_state import FleetState, Phase
from bos_core.scheduling.instructions import AssignTask, FailTask, Reason
from bos_core.scheduling.machine import Machine
from bos_core.scheduling.policies import Policies

SEEDS = 2000
SEEDS_OF_A_BUG = 400


def test_nothing_is_broken_in_two_thousand_seeds() -> None:
    broken = campaign(range(SEEDS))
    assert not broken, f"python tests/simulation/fault_scenarios.py --seed {min(broken)} plays the first again"


def test_the_seeds_hold_what_they_are_meant_to_hold() -> None:
    seen: Counter[str] = Counter()
    for seed in range(100):
        simulation, _ = play(seed)
        for _, sort, message in simulation.result.log:
            kind = type(message).__name__
            seen[kind] += 1
            if isinstance(message, FailTask):
                seen[message.reason] += 1
            if sort == "event" and isinstance(message, ServerJoined) and message.containers:
                seen["containers of a server that comes back"] += 1
        assert simulation.result.unfinished == 0
    wanted = {
        "StartContainer", "StopContainer", "ResizeContainer", "AssignTask", "RetryTask", "CompleteTask",
        "RefuseTask", "QueueOpen", "ShortOfResources", "ServerLost", "ContainerLost", "ContainerStartFailed",
        "MemorySampled", "containers of a server that comes back", "out of memory", "quarantined",
        "program failed", "predecessor failed",
    }  # fmt: skip
    assert not wanted - set(seen)


@pytest.mark.parametrize("seed", [3, 14, 159])
def test_a_seed_replays_exactly(seed: int) -> None:
    first, second = play(seed)[0], play(seed)[0]
    assert [json.dumps(line) for line in first.lines()] == [json.dumps(line) for line in second.lines()]


# --- planted bugs: each a change of the machine that somebody could have made

Patch = Callable[[pytest.MonkeyPatch], Policies]
BUGS: dict[str, Patch] = {}


def bug(plant: Callable[[pytest.MonkeyPatch], Policies | None]) -> Callable[[pytest.MonkeyPatch], Policies]:
    def planted(patch: pytest.MonkeyPatch) -> Policies:
        return plant(patch) or POLICIES

    BUGS[plant.__name__] = planted
    return planted


def wrapped(patch: pytest.MonkeyPatch, owner: Any, name: str, wrap: Callable[..., Any]) -> None:
    """Replace a method by `wrap(original, self, ...)`."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **kwargs: wrap(original, *args, **kwargs))


def limit(patch: pytest.MonkeyPatch, **values: Any) -> None:
    """Let the machine believe other limits than those that it was given."""

    def started(original: Any, self: Machine, algorithms: Any, limits: Any, *args: Any, **kwargs: Any) -> None:
        original(self, algorithms, dataclasses.replace(limits, **values), *args, **kwargs)

    wrapped(patch, Machine, "__init__", started)


@bug
def admission_forgets_the_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FleetState, "admits", lambda self, server, cpu, memory: self.servers[server].is_up)


@bug
def a_reservation_ends_when_a_stop_is_asked_for(patch: pytest.MonkeyPatch) -> None:
    def stop(original: Any, self: Any, row: Any, *args: Any) -> Any:
        found = original(self, row, *args)
        self.fleet.remove(self.fleet.containers[row.container])
        return found

    wrapped(patch, machine_module.ContainerScheduling, "stop", stop)


@bug
def a_resized_container_counts_as_the_smallest(patch: pytest.MonkeyPatch) -> None:
    def changed(original: Any, self: Machine, event: Any) -> Any:
        found = original(self, event)
        if (row := self.fleet.containers.get(event.container)) is not None:
            self.fleet.change(row, memory_mb=self.limits.levels[0].memory_mb)
        return found

    wrapped(patch, Machine, "_quota_changed", changed)


@bug
def containers_of_a_server_that_comes_back_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    def joined(original: Any, self: Any, event: ServerJoined) -> Any:
        return original(self, dataclasses.replace(event, containers=()))

    wrapped(patch, Machine, "_server_joined", joined)


@bug
def tasks_of_a_lost_server_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    wrapped(patch, Machine, "_server_lost", lambda original, self, event: original(self, event)[:0])


@bug
def a_killed_task_gets_no_more_memory(patch: pytest.MonkeyPatch) -> None:
    def killed(original: Any, self: Any, row: int, container: Any, form: Any) -> Any:
        found = original(self, row, container, form)
        self.tasks.floor_mb[row] = 0
        return found

    wrapped(patch, Machine, "_killed", killed)
    patch.setattr(machine_module.Forecasts, "learn", lambda self, outcome: None)


@bug
def the_killed_child_is_taken_for_a_failed_program(patch: pytest.MonkeyPatch) -> None:
    wrapped(
        patch, Machine, "_failed", lambda original, self, e: original(self, dataclasses.replace(e, oom_kills=0))
    )


@bug
def the_killed_child_of_a_hanging_parent_is_not_seen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Machine, "_sampled", lambda self, event: [])


@bug
def exit_code_137_counts_as_a_crash(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(machine_module, "_KILLED", -1)


@bug
def whoever_is_stopped_from_outside_is_blamed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(machine_module, "_TERMINATED", -1)


@bug
def poison_may_bring_down_three_containers(patch: pytest.MonkeyPatch) -> None:
    limit(patch, crashes_max=3)


@bug
def one_crash_is_enough_for_quarantine(patch: pytest.MonkeyPatch) -> None:
    limit(patch, crashes_max=1)


@bug
def the_first_kill_is_the_verdict(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(machine_module.ContainerScheduling, "largest_mb", lambda self: 1000)


@bug
def an_old_attempt_may_finish_a_task(patch: pytest.MonkeyPatch) -> None:
    def current(self: Machine, event: Any) -> Any:
        row = self.tasks.row_of.get(event.task)
        return None if row is None else self.fleet.containers.get(event.container)

    patch.setattr(Machine, "_current", current)


@bug
def tasks_do_not_wait_for_what_they_need(patch: pytest.MonkeyPatch) -> None:
    def add(original: Any, self: Any, request: Any, *args: Any) -> Any:
        return original(self, dataclasses.replace(request, depends_on=()), *args)

    wrapped(patch, machine_module.TaskTable, "add", add)


@bug
def followers_of_a_failed_task_wait_for_ever(patch: pytest.MonkeyPatch) -> None:
    def give_up(original: Any, self: Any, row: int, reason: Any, *args: Any, **kwargs: Any) -> Any:
        self.tasks.followers.pop(self.tasks.request[row].task, None)
        return original(self, row, reason, *args, **kwargs)

    wrapped(patch, Machine, "_give_up", give_up)


@bug
def containers_that_are_resized_take_tasks(patch: pytest.MonkeyPatch) -> None:
    def is_idle(row: Any) -> bool:
        return row.phase in (Phase.RUNNING, Phase.RESIZING) and not row.task and not row.draining

    patch.setattr(machine_module.ContainerState, "is_idle", property(is_idle))


@bug
def containers_that_start_take_tasks(patch: pytest.MonkeyPatch) -> None:
    def is_idle(row: Any) -> bool:
        return row.phase in (Phase.RUNNING, Phase.STARTING) and not row.task and not row.draining

    patch.setattr(machine_module.ContainerState, "is_idle", property(is_idle))


@bug
def a_container_that_nobody_asked_for_goes_on(patch: pytest.MonkeyPatch) -> None:
    def started(original: Any, self: Any, event: Any) -> Any:
        return [i for i in original(self, event) if i.server]

    wrapped(patch, Machine, "_container_started", started)


@bug
def the_youngest_task_goes_first(patch: pytest.MonkeyPatch) -> Policies:
    def prioritise(**arrays: Any) -> Any:
        answer = POLICIES.prioritise(**arrays)
        return type(answer)(1.0 / (1.0 + arrays["waited_s"]))

    return dataclasses.replace(POLICIES, prioritise=prioritise)


@bug
def urgent_tasks_go_last(patch: pytest.MonkeyPatch) -> None:
    limit(patch, queue_weight=(1.0, 1000.0, 1.0))


@bug
def queues_have_no_bound(patch: pytest.MonkeyPatch) -> None:
    limit(patch, queue_max=10**9)


@bug
def a_queue_that_was_full_never_opens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Machine, "_room", lambda self, row: [])


@bug
def superfluous_containers_stop_at_once(patch: pytest.MonkeyPatch) -> None:
    limit(patch, hold_s=0.0)


@bug
def assignments_without_an_answer_are_waited_for(patch: pytest.MonkeyPatch) -> None:
    limit(patch, silence_s=1e9)


@bug
def only_one_task_is_assigned_in_a_cycle(patch: pytest.MonkeyPatch) -> None:
    wrapped(patch, Machine, "_assign", lambda original, self, ready: original(self, ready)[:1])


@bug
def attempts_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    def dispatch(original: Any, self: Any, choice: Any) -> AssignTask:
        found: AssignTask = original(self, choice)
        return dataclasses.replace(found, attempt=1)

    wrapped(patch, Machine, "_dispatch", dispatch)


@bug
def a_program_assigns_two_tasks_to_a_container(patch: pytest.MonkeyPatch) -> Policies:
    def assign(**arrays: Any) -> Any:
        answer = POLICIES.assign(**arrays)
        return dataclasses.replace(answer, container=np.zeros_like(answer.container))

    return dataclasses.replace(POLICIES, assign=assign)


@bug
def a_program_sends_trial_tasks_anywhere(patch: pytest.MonkeyPatch) -> Policies:
    def assign(**arrays: Any) -> Any:
        return POLICIES.assign(**{**arrays, "allowed": np.ones_like(arrays["allowed"])})

    return dataclasses.replace(POLICIES, assign=assign)


@bug
def a_busy_container_is_stopped_for_another_size(patch: pytest.MonkeyPatch) -> None:
    def make_room(original: Any, self: Any, server: str, spare: Any, blocked: Any, now_s: float) -> Any:
        return [self.stop(row, "another size is needed", now_s) for row in spare] if blocked else []

    wrapped(patch, machine_module.ContainerScheduling, "_make_room", make_room)


@bug
def a_lost_container_is_a_failed_task(patch: pytest.MonkeyPatch) -> None:
    def retry(original: Any, self: Any, row: int, why: str) -> Any:
        if "reached" in why:
            return self._give_up(row, Reason.ATTEMPTS, why)
        return original(self, row, why)

    wrapped(patch, Machine, "_retry", retry)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithms = BUGS[name](monkeypatch)
    for seed in range(SEEDS_OF_A_BUG):
        try:
            broken = play(seed, algorithms)[1]
        except Exception as error:  # a machine that falls over is found as well
            broken = [repr(error)]
        if broken:
            print(f"seed {seed}: {broken[0]}")
            return
    raise AssertionError(f"{name} passes {SEEDS_OF_A_BUG} seeds unseen")
