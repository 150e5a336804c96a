"""The co-scheduling machine, told what happens step by step."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import pytest

from bos_core.coscheduling import policies
from bos_core.objects.errors import OptionError
from bos_core.objects.task import TaskState
from bos_core.scheduling.decisions import why
from bos_core.scheduling.events import (
    ContainerLost,
    ContainerStarted,
    ContainerStartFailed,
    ContainerStopped,
    Event,
    FoundContainer,
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
from bos_core.scheduling.fleet_state import Phase
from bos_core.scheduling.forecasts import Outcome
from bos_core.scheduling.instructions import (
    AssignTask,
    CompleteTask,
    FailTask,
    Instruction,
    QueueOpen,
    Reason,
    RefuseTask,
    ResizeContainer,
    RetryTask,
    ShortOfResources,
    StartContainer,
    StopContainer,
)
from bos_core.scheduling.invariants import InvariantError
from bos_core.scheduling.machine import Machine
from bos_core.scheduling.policies import Level, Limits
from bos_core.scheduling.task_table import STATES

LEVELS = (Level(1.0, 1000, 1.0), Level(1.0, 2000, 1.2), Level(1.0, 4000, 1.6))
POLICIES = policies({"container_sizing": "greedy_levels"})
SOLVED = [Outcome("uc/milp", (), 1.0, 10.0, 600.0)] * 5


class Told:
    """A machine and the time; every instruction of a kind is at hand."""

    def __init__(self, memory_mb: int = 8000, cores: float = 4.0, history: Any = SOLVED, **limits: Any) -> None:
        self.machine = Machine(POLICIES, Limits(levels=LEVELS, **limits), history)
        self.now = 0.0
        self.tell(ServerJoined("one", cores, memory_mb))

    def tell(self, *events: Event) -> list[Instruction]:
        found: list[Instruction] = []
        for event in events:
            found += self.machine.handle(event, self.now, check_all=True)
        return found

    def submit(self, *names: str, **fields: Any) -> list[Instruction]:
        return self.tell(*(TaskSubmitted(n, slot="uc", program="milp", **fields) for n in names))

    def tick(self, after: float = 5.0) -> list[Instruction]:
        self.now += after
        return self.tell(Tick())

    def running(self) -> AssignTask:
        """Start what is asked for, and return the first assignment."""
        for _ in range(5):
            for instruction in self.tick():
                if isinstance(instruction, StartContainer):
                    self.tell(ContainerStarted(instruction.container))
                if isinstance(instruction, StopContainer):
                    self.tell(ContainerStopped(instruction.container, 0))
                if isinstance(instruction, AssignTask):
                    self.tell(TaskStarted(instruction.task, instruction.attempt, instruction.container))
                    return instruction
        raise AssertionError("nothing was assigned")

    def state(self, task: str) -> TaskState:
        return STATES[self.machine.tasks.state[self.machine.tasks.row_of[task]]]


def only(kind: type, instructions: list[Instruction]) -> Any:
    found = [i for i in instructions if isinstance(i, kind)]
    assert len(found) == 1, instructions
    return found[0]


def finished(run: AssignTask, peak: float = 600.0) -> TaskFinished:
    return TaskFinished(run.task, run.attempt, run.container, 10.0, peak)


def test_a_task_gets_a_container_runs_and_succeeds() -> None:
    told = Told()
    assert told.submit("a") == []
    start = only(StartContainer, told.tick())
    assert (start.server, start.memory_mb, start.trial) == ("one", 1000, False)
    told.tell(ContainerStarted(start.container))
    assigned = only(AssignTask, told.tick(1))
    assert assigned == AssignTask("a", 1, start.container, 1000)
    assert told.state("a") is TaskState.EXECUTING
    assert told.tell(finished(assigned)) == [CompleteTask("a", 1)]
    assert told.state("a") is TaskState.SUCCESS


def test_a_program_never_seen_gets_the_prior_and_then_what_it_needs() -> None:
    told = Told(history=())
    told.submit("a", "b")
    first = told.running()
    assert first.memory_mb == 2000
    told.tell(finished(first, peak=300.0))
    told.tick(10)
    assert told.machine.forecasts.memory_mb[0] < 1000
    assert told.machine.forecasts.observations[0] == 1


@pytest.mark.parametrize("form", ["daemon", "exit code", "child failed", "child hangs"])
def test_an_out_of_memory_kill_is_recognised_and_retried_with_more(form: str) -> None:
    told = Told()
    told.submit("a")
    run = told.running()
    event: Event = {
        "daemon": ContainerStopped(run.container, 137, True),
        "exit code": ContainerStopped(run.container, 137, False),
        "child failed": TaskFailed("a", 1, run.container, "BrokenProcessPool", oom_kills=1),
        "child hangs": MemorySampled(run.container, 900.0, oom_kills=1),
    }[form]
    retry = only(RetryTask, told.tell(event))
    assert retry.memory_mb == 1500
    assert told.state("a") is TaskState.RETRYING
    assert told.running().memory_mb >= 2000


def test_at_the_largest_size_a_kill_is_a_verdict_with_the_shortfall() -> None:
    told = Told()
    told.submit("a")
    for memory in (1000, 2000, 4000):
        run = told.running()
        assert run.memory_mb >= memory
        last = told.tell(ContainerStopped(run.container, 137, True))
    verdict = only(FailTask, last)
    assert verdict.reason is Reason.OUT_OF_MEMORY
    assert (verdict.needed_mb, verdict.largest_mb, verdict.shortfall_mb) == (4001, 4000, 1)
    assert told.state("a") is TaskState.FAILED


def test_what_its_owner_knows_to_be_too_large_is_refused_at_once() -> None:
    verdict = only(FailTask, Told().submit("a", memory_mb=9000))
    assert (verdict.reason, verdict.attempt, verdict.shortfall_mb) == (Reason.OUT_OF_MEMORY, 0, 5000)


def test_poison_is_quarantined_after_two_containers_and_innocents_are_not() -> None:
    told = Told()
    told.submit("poison")
    first = told.running()
    assert only(RetryTask, told.tell(ContainerStopped(first.container, 139))).attempt == 1
    second = told.running()
    verdict = only(FailTask, told.tell(ContainerStopped(second.container, 139)))
    assert verdict.reason is Reason.QUARANTINED
    assert verdict.containers == (first.container, second.container)
    told.submit("innocent")
    for _ in range(4):  # stopped from outside, or lost: not its fault
        run = told.running()
        told.tell(ContainerStopped(run.container, 143))
        run = told.running()
        told.tell(ContainerLost(run.container), ContainerStopped(run.container, 0))
    told.tell(finished(told.running()))
    assert told.state("innocent") is TaskState.SUCCESS


def test_attempts_are_limited_whoever_is_to_blame() -> None:
    told = Told(attempts_max=3)
    told.submit("a")
    for _ in range(3):
        last = told.tell(ContainerLost(told.running().container))
    assert only(FailTask, last).reason is Reason.ATTEMPTS


def test_a_failed_program_fails_the_task_and_all_that_need_it() -> None:
    told = Told()
    told.submit("a")
    told.submit("b", depends_on=("a",))
    told.submit("c", depends_on=("b",))
    run = told.running()
    verdicts = told.tell(TaskFailed("a", 1, run.container, "no solution"))
    reasons = [v.reason for v in verdicts if isinstance(v, FailTask)]
    assert reasons == [Reason.PROGRAM_FAILED, Reason.PREDECESSOR_FAILED, Reason.PREDECESSOR_FAILED]
    assert only(FailTask, told.submit("d", depends_on=("c",))).reason is Reason.PREDECESSOR_FAILED


def test_a_task_waits_for_what_it_needs() -> None:
    told = Told()
    told.submit("b", depends_on=("a",))
    assert told.tick() == []
    told.submit("a")
    run = told.running()
    assert run.task == "a"
    told.tell(finished(run))
    assert only(AssignTask, told.tick(1)).task == "b"


def test_full_queues_refuse_and_open_again() -> None:
    told = Told(queue_max=4)
    told.submit("a", "b", "c", "d")
    refused = told.submit("e")
    assert refused == [RefuseTask("e", Queue.NORMAL, 4)]
    assert told.submit("u", queue=Queue.URGENT) == []
    opened: list[Instruction] = []
    while not opened:
        run = told.running()
        opened = [i for i in told.tell(finished(run)) if isinstance(i, QueueOpen)]
    assert opened[0].room >= 2
    assert told.submit("e") == []


def test_urgent_tasks_go_first_and_trial_tasks_only_to_trial_containers() -> None:
    told = Told(cores=1.0, memory_mb=1000)
    told.submit("n1", "n2")
    told.submit("t", queue=Queue.TRIAL)
    told.submit("u", queue=Queue.URGENT)
    run = told.running()
    assert run.task == "u"
    told.tell(finished(run))
    order = []
    for _ in range(2):
        run = told.running()
        order.append(run.task)
        told.tell(finished(run))
    assert order == ["n1", "n2"]
    told.now += 100
    run = told.running()  # the launched container has made room for a trial one
    assert run.task == "t"
    assert told.machine.fleet.containers[run.container].trial


def test_guarantee_mode_grows_for_a_deadline_and_normal_mode_shrinks_after_a_while() -> None:
    told = Told(hold_s=60.0)
    told.submit(*"abcd", deadline_s=30.0)
    starts = [i for i in told.tick(5) if isinstance(i, StartContainer)]
    assert len(starts) == 2  # 10 s each, 25 s left
    told.tell(*(ContainerStarted(s.container) for s in starts))
    for _ in range(2):
        for run in [i for i in told.tick(1) if isinstance(i, AssignTask)]:
            told.tell(finished(run))
    stopped_at = []
    for _ in range(40):
        if any(isinstance(i, StopContainer) for i in told.tick()):
            stopped_at.append(told.now)
    assert stopped_at
    assert stopped_at[0] >= 60
    assert not told.machine.fleet.idle


def test_at_r_limit_a_verdict_names_the_shortfall_once() -> None:
    told = Told(cores=2.0, memory_mb=2000)
    told.submit(*(f"t{n}" for n in range(100)), deadline_s=60.0)
    short = only(ShortOfResources, told.tick())
    assert short.late > 50
    assert short.missing_cpu_cores > 5
    assert not [i for i in told.tick() if isinstance(i, ShortOfResources)]


def test_without_a_server_the_shortage_is_named_and_nothing_breaks() -> None:
    told = Told()
    told.tell(ServerLost("one"))
    told.submit("a", deadline_s=100.0)
    assert only(ShortOfResources, told.tick()).late == 1


def test_a_large_task_is_not_starved_by_small_ones() -> None:
    told = Told(memory_mb=4000, history=[*SOLVED, *[Outcome("uc/large", (), 1.0, 10.0, 3000.0)] * 5])
    told.submit(*(f"s{n}" for n in range(40)))
    running = {}
    told.tell(TaskSubmitted("large", slot="uc", program="large", deadline_s=60.0))
    done = []
    for _ in range(200):
        for i in told.tick(2):
            if isinstance(i, StartContainer):
                told.tell(ContainerStarted(i.container))
            if isinstance(i, ResizeContainer):
                told.tell(QuotaChanged(i.container, i.cpu_cores, i.memory_mb))
            if isinstance(i, StopContainer):
                told.tell(ContainerStopped(i.container, 0))
            if isinstance(i, AssignTask):
                running[i.task] = (i, told.now)
        for task, (run, since) in list(running.items()):
            if told.now - since >= 10:
                del running[task]
                done.append(task)
                for i in told.tell(finished(run)):
                    if isinstance(i, StopContainer):
                        told.tell(ContainerStopped(i.container, 0))
    assert "large" in done[:25]
    assert len(done) == 41


def test_an_idle_container_is_resized_where_that_gives_the_memory_others_need() -> None:
    told = Told(memory_mb=4000, cores=1.0, history=[*SOLVED, *[Outcome("uc/large", (), 1.0, 10.0, 3000.0)] * 5])
    told.submit("small")
    run = told.running()
    told.tell(finished(run))
    told.tell(TaskSubmitted("large", slot="uc", program="large", deadline_s=100.0))
    resize = only(ResizeContainer, told.tick())
    assert (resize.container, resize.memory_mb) == (run.container, 4000)
    assert told.machine.fleet.reserved["one"][1] == 4000
    told.tell(QuotaChanged(run.container, 1.0, 4000))
    assert only(AssignTask, told.tick(1)).task == "large"


def test_a_lost_server_gives_its_tasks_to_the_other_and_blames_nobody() -> None:
    told = Told(cores=1.0, memory_mb=1000)
    told.tell(ServerJoined("two", 1.0, 1000))
    told.submit("a", "b", deadline_s=40.0)
    first, second = told.running(), None
    for i in told.tick(1):
        second = i if isinstance(i, AssignTask) else second
    lost = told.machine.fleet.containers[first.container].server
    retries = [i for i in told.tell(ServerLost(lost)) if isinstance(i, RetryTask)]
    assert {r.task for r in retries} >= {first.task}
    assert all("was lost" in r.why for r in retries)
    assert all(c.server != lost for c in told.machine.fleet.containers.values())
    stops = told.tell(ServerJoined(lost, 1.0, 1000, (FoundContainer("old-1", 1.0, 1000),)))
    assert only(StopContainer, stops).container == "old-1"
    assert told.machine.fleet.reserved[lost] == (1.0, 1000)  # until it has stopped
    told.tell(ContainerStopped("old-1", 0))
    assert told.machine.fleet.reserved[lost] == (0.0, 0)
    assert second is None or told.state(second.task) in (TaskState.EXECUTING, TaskState.RETRYING)


def test_a_container_that_nobody_asked_for_is_stopped_and_stale_news_are_passed_over() -> None:
    told = Told()
    assert only(StopContainer, told.tell(ContainerStarted("stranger"))).container == "stranger"
    told.submit("a")
    run = told.running()
    told.tell(ContainerLost(run.container))
    assert told.tell(finished(run), TaskFailed("a", 1, run.container, "late"), ContainerLost("nobody")) == []
    assert told.state("a") is TaskState.RETRYING
    assert told.submit("a") == []


def test_an_assignment_without_an_answer_is_given_to_another_container() -> None:
    told = Told(silence_s=20.0)
    told.submit("a")
    start = only(StartContainer, told.tick())
    told.tell(ContainerStarted(start.container))
    told.tick(1)
    found: list[Instruction] = []
    for _ in range(8):
        found += told.tick(4)
    assert only(RetryTask, found).task == "a"
    assert any(isinstance(i, StopContainer) and i.container == start.container for i in found)


def test_failing_starts_are_tried_again_at_growing_intervals() -> None:
    told = Told()
    told.submit("a")
    tried = []
    for _ in range(60):
        for i in told.tick(1):
            if isinstance(i, StartContainer):
                tried.append(told.now)
                told.tell(ContainerStartFailed(i.container, "no such image"))
    gaps = [b - a for a, b in itertools.pairwise(tried)]
    assert gaps == sorted(gaps)
    assert len(tried) <= 6


def test_a_cancelled_task_stops_its_container() -> None:
    told = Told()
    told.submit("a", "b")
    run = told.running()
    found = told.tell(TaskCancelled(run.task))
    assert only(StopContainer, found).container == run.container
    assert only(FailTask, found).reason is Reason.CANCELLED
    assert told.tell(TaskCancelled(run.task), TaskCancelled("nobody")) == []


def test_a_decision_keeps_the_snapshot_that_it_was_made_on() -> None:
    told = Told()
    told.submit("a")
    run = told.running()
    decision = next(d for d in reversed(told.machine.decisions) if d.choices)
    before = {row.container: row for row in decision.snapshot}
    assert before[run.container].task == ""  # as the cycle found it
    told.tell(ContainerLost(run.container))
    assert {row.container: row for row in decision.snapshot} == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        decision.snapshot[0].task = "b"  # type: ignore[misc]
    plain = json.loads(json.dumps(decision.as_json()))
    assert plain["choices"][0]["task"] == "a"
    assert plain["instructions"][0]["kind"] == "AssignTask"
    assert plain["snapshot"][0]["phase"] == "running"


def test_why_tells_the_story_of_a_task() -> None:
    told = Told()
    told.submit("a")
    told.tell(ContainerStopped(told.running().container, 137, True))
    told.tell(finished(told.running()))
    story = list(why("a", told.machine.decisions))
    assert "forecast from 5 outcomes, 1000 MB reserved" in story[0]
    assert any("killed with 1000 MB: the container daemon reports" in line for line in story)
    assert story[-1].endswith("attempt 2 succeeded")


def test_equal_events_lead_to_equal_instructions() -> None:
    def played() -> list[Instruction]:
        told, found = Told(candidates="random"), []
        told.submit(*"abcdef", deadline_s=100.0)
        for _ in range(6):
            found += told.tick()
            for i in found[-6:]:
                if isinstance(i, StartContainer):
                    told.tell(ContainerStarted(i.container))
        return found

    assert played() == played()


def test_a_machine_that_contradicts_itself_says_so() -> None:
    told = Told()
    told.submit("a")
    run = told.running()
    row = told.machine.fleet.containers[run.container]
    told.machine.fleet.containers[run.container] = dataclasses.replace(row, phase=Phase.STOPPING)
    with pytest.raises(InvariantError, match="is stopping and executes a"):
        told.tell(Tick())


def test_programs_are_chosen_by_slot() -> None:
    with pytest.raises(OptionError, match="task_assignment"):
        policies({"task_asignment": "sort_or_lsa"})
    with pytest.raises(OptionError, match="did you mean 'sort_or_lsa'"):
        policies({"task_assignment": "sort_or_lsq"})
