"""What every database under the ledger must keep; run on SQLite here, on PostgreSQL in tests/integration.

Fixtures: `engine` (empty index), `ledger`.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from bos_core.index.database import connect, migrate, reading, writing
from bos_core.index.ledger import AlreadyDone, Busy, Claim, Ledger, LogLine, Output
from bos_core.index.tables import OUTPUT, TASK
from bos_core.objects.errors import FencedError, IllegalTransitionError, LedgerError, NotFoundError
from bos_core.objects.task import LEGAL_MOVES, ProgramRef, Task, TaskInput, TaskSetContext, TaskState

S = TaskState


def open_set(ledger: Ledger) -> TaskSetContext:
    context = TaskSetContext(str(uuid.uuid4()), "ada", "grid-2030", "base@1", "planning-chain")
    ledger.open_task_set(context, {"hours": 168})
    return context


def make_tasks(context: TaskSetContext, n: int, step: str = "n1_verification", subtasks: int = 10) -> list[Task]:
    program = ProgramRef("n1_verification", "batched_newton", "1.0", "d1")
    return [
        Task(context.trace_id, step, TaskInput("v1", f"in-{step}", f"hours={i:04d}", {"i": i}), program, subtasks)
        for i in range(n)
    ]


def registered(ledger: Ledger, n: int = 1) -> list[str]:
    return ledger.register(make_tasks(open_set(ledger), n))


def output(task_id: str, attempt: int, name: str = "pairs") -> Output:
    address = f"attempts/x/{task_id}/{attempt}/{name}.parquet"
    columns = {"hour": {"type": "int64", "unit": "h"}}
    return Output(task_id, name, attempt, address, "s" * 64, "c" * 64, 24, 1000, columns)


def let_lease_run_out(engine: Engine, task_id: str) -> None:
    with writing(engine) as connection:
        connection.execute(sa.update(TASK).where(TASK.c.id == task_id).values(lease_until_s=0.0))


def force(engine: Engine, task_id: str, **values: Any) -> None:
    with writing(engine) as connection:
        connection.execute(sa.update(TASK).where(TASK.c.id == task_id).values(**values))


def claimed(ledger: Ledger, task_id: str, holder: str = "h1", lease_s: float = 60.0) -> int:
    answer = ledger.claim(task_id, holder, lease_s)
    assert isinstance(answer, Claim)
    return answer.attempt


# --- task sets and registration


def test_opening_a_task_set_twice_changes_nothing(ledger: Ledger) -> None:
    context = open_set(ledger)
    again = ledger.open_task_set(context, {"hours": 8760})
    assert again.parameters == {"hours": 168}
    assert again.context == context
    assert [s.trace_id for s in ledger.task_sets()] == [context.trace_id]


def test_a_trace_id_belongs_to_one_request(ledger: Ledger) -> None:
    context = open_set(ledger)
    with pytest.raises(LedgerError, match="belongs to"):
        ledger.open_task_set(TaskSetContext(context.trace_id, "eve", "p", "s", "b"))


def test_a_task_set_is_found_by_the_start_of_its_trace_id(ledger: Ledger) -> None:
    context = open_set(ledger)
    assert ledger.task_set(context.trace_id[:8]).trace_id == context.trace_id
    for wrong in ("", "zz", "%"):
        with pytest.raises(NotFoundError, match=r"bos ps|not unique"):
            ledger.task_set(wrong)


def test_the_state_of_a_task_set(ledger: Ledger) -> None:
    context = open_set(ledger)
    ledger.set_task_set_state(context.trace_id, S.EXECUTING)
    assert ledger.task_set(context.trace_id).finished_s is None
    ledger.set_task_set_state(context.trace_id, S.FAILED, "2 tasks failed")
    record = ledger.task_set(context.trace_id)
    assert (record.state, record.message) == (S.FAILED, "2 tasks failed")
    assert record.finished_s is not None
    with pytest.raises(NotFoundError):
        ledger.set_task_set_state("nobody", S.FAILED)


def test_registering_again_keeps_what_was_done(ledger: Ledger) -> None:
    tasks = make_tasks(open_set(ledger), 3)
    ids = ledger.register(tasks)
    assert ids == [t.id for t in tasks]
    attempt = claimed(ledger, ids[0])
    ledger.finish(ids[0], attempt, S.SUCCESS, [output(ids[0], attempt)])
    assert ledger.register(tasks) == ids
    assert ledger.counts(tasks[0].task_set) == {
        S.PENDING: 2, S.EXECUTING: 0, S.SUCCESS: 1, S.FAILED: 0, S.RETRYING: 0
    }  # fmt: skip


def test_tasks_of_an_unknown_task_set_are_refused_as_a_whole(ledger: Ledger, engine: Engine) -> None:
    good = make_tasks(open_set(ledger), 1)
    bad = make_tasks(TaskSetContext(str(uuid.uuid4()), "a", "p", "s", "b"), 1)
    with pytest.raises(NotFoundError, match="open_task_set"):
        ledger.register([*good, *bad])
    with reading(engine) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(TASK)).scalar_one() == 0


def test_dependencies_are_kept(ledger: Ledger) -> None:
    context = open_set(ledger)
    first, second = make_tasks(context, 2)
    third = Task(
        context.trace_id, "later", TaskInput("v1", "x", "c"), first.program, depends_on=(second.id, first.id)
    )
    ledger.register([first, second, third])
    ledger.register([first, second, third])
    assert ledger.depends_on(third.id) == sorted([first.id, second.id])


def test_a_task_record_says_all_that_was_registered(ledger: Ledger) -> None:
    (task,) = make_tasks(open_set(ledger), 1)
    ledger.register([task])
    record = ledger.task(task.id)
    assert record.parameters == {"i": 0}
    assert (record.chunk, record.subtasks, record.state) == ("hours=0000", 10, S.PENDING)
    assert (record.slot, record.program, record.program_digest) == ("n1_verification", "batched_newton", "d1")
    assert ledger.tasks(task.task_set) == [record]
    assert ledger.tasks(task.task_set, "other") == []
    assert ledger.tasks(task.task_set, states=[S.FAILED]) == []


# --- claim, renew, finish


def test_claim_and_finish(ledger: Ledger) -> None:
    (task,) = registered(ledger)
    attempt = claimed(ledger, task)
    assert attempt == 1
    assert ledger.task(task).state is S.EXECUTING
    receipt = ledger.finish(task, 1, S.SUCCESS, [output(task, 1)], 2.5, 0.5, 300.0, "fine")
    assert receipt.executed
    again = ledger.claim(task, "h2", 60)
    assert isinstance(again, AlreadyDone)
    assert not again.receipt.executed
    assert (again.receipt.state, again.receipt.wall_s, again.receipt.message) == (S.SUCCESS, 2.5, "fine")
    assert [o.name for o in ledger.task_outputs(task)] == ["pairs"]
    assert ledger.task_outputs(task)[0].columns["hour"]["unit"] == "h"


def test_a_failed_task_waits_for_the_users_resume(ledger: Ledger) -> None:
    (task,) = registered(ledger)
    ledger.finish(task, claimed(ledger, task), S.FAILED, message="infeasible")
    answer = ledger.claim(task, "h2", 60)
    assert isinstance(answer, AlreadyDone)
    assert answer.receipt.state is S.FAILED
    trace_id = ledger.task(task).task_set
    assert ledger.reset_failed(trace_id, "another step") == []
    assert ledger.reset_failed(trace_id) == [task]
    assert ledger.reset_failed(trace_id) == []
    assert claimed(ledger, task) == 2


def test_a_live_lease_is_busy(ledger: Ledger) -> None:
    (task,) = registered(ledger)
    claimed(ledger, task, "h1", 60)
    answer = ledger.claim(task, "h2", 60)
    assert isinstance(answer, Busy)
    assert answer.holder == "h1"
    assert 50 < answer.remaining_s <= 60


def test_an_expired_lease_is_taken_over_and_the_old_attempt_is_fenced(ledger: Ledger, engine: Engine) -> None:
    (task,) = registered(ledger)
    old = claimed(ledger, task, "h1")
    let_lease_run_out(engine, task)
    new = claimed(ledger, task, "h2")
    assert new == old + 1
    for late in (
        lambda: ledger.finish(task, old, S.SUCCESS, [output(task, old)]),
        lambda: ledger.finish(task, old, S.FAILED),
        lambda: ledger.renew(task, old),
    ):
        with pytest.raises(FencedError, match="attempt 2 is executing"):
            late()
    assert ledger.task_outputs(task) == []
    ledger.finish(task, new, S.SUCCESS, [output(task, new)])
    assert [o.attempt for o in ledger.task_outputs(task)] == [new]


def test_renewing_keeps_the_lease(ledger: Ledger, engine: Engine) -> None:
    (task,) = registered(ledger)
    attempt = claimed(ledger, task)
    let_lease_run_out(engine, task)
    ledger.renew(task, attempt, 60)
    assert isinstance(ledger.claim(task, "h2", 60), Busy)


def test_an_expired_lease_that_nobody_took_may_still_finish(ledger: Ledger, engine: Engine) -> None:
    (task,) = registered(ledger)
    attempt = claimed(ledger, task)
    let_lease_run_out(engine, task)
    assert ledger.finish(task, attempt, S.SUCCESS).state is S.SUCCESS


def test_finishing_twice_gives_the_same_receipt(ledger: Ledger) -> None:
    (task,) = registered(ledger)
    attempt = claimed(ledger, task)
    first = ledger.finish(task, attempt, S.SUCCESS, [output(task, attempt)], wall_s=1.5)
    assert ledger.finish(task, attempt, S.SUCCESS, [output(task, attempt)], wall_s=1.5) == first
    with pytest.raises(FencedError):
        ledger.finish(task, attempt, S.FAILED)
    assert len(ledger.outbox()) == 1


def test_outputs_come_with_success_only(ledger: Ledger) -> None:
    (task,) = registered(ledger)
    attempt = claimed(ledger, task)
    with pytest.raises(IllegalTransitionError):
        ledger.finish(task, attempt, S.FAILED, [output(task, attempt)])
    for state in (S.PENDING, S.EXECUTING):
        with pytest.raises(IllegalTransitionError):
            ledger.finish(task, attempt, state)
    assert ledger.task(task).state is S.EXECUTING


def test_a_finish_whose_outputs_clash_leaves_nothing(ledger: Ledger) -> None:
    (task,) = registered(ledger)
    attempt = claimed(ledger, task)
    with pytest.raises(IntegrityError):
        ledger.finish(task, attempt, S.SUCCESS, [output(task, attempt), output(task, attempt)])
    assert ledger.task(task).state is S.EXECUTING
    assert ledger.task_outputs(task) == []
    assert ledger.outbox() == []


def test_unknown_tasks(ledger: Ledger) -> None:
    for call in (
        lambda: ledger.claim("nobody", "h", 1),
        lambda: ledger.finish("nobody", 1, S.FAILED),
        lambda: ledger.renew("nobody", 1),
        lambda: ledger.task("nobody"),
    ):
        with pytest.raises(NotFoundError, match="nobody"):
            call()
    with pytest.raises(LedgerError, match="holder"):
        ledger.claim("nobody", "", 1)


def test_memory_is_reserved_while_executing(ledger: Ledger, engine: Engine) -> None:
    one, two, three = registered(ledger, 3)
    ledger.claim(one, "h1", 60, memory_mb=700)
    ledger.claim(two, "h1", 60, memory_mb=200)
    ledger.claim(three, "h2", 60, memory_mb=100)
    assert ledger.reserved_mb() == {"h1": 900, "h2": 100}
    ledger.finish(one, 1, S.RETRYING, message="out of memory")
    let_lease_run_out(engine, three)
    assert ledger.reserved_mb() == {"h1": 200}


def test_tasks_of_dead_holders_are_released(ledger: Ledger) -> None:
    tasks = registered(ledger, 4)
    for task, holder in zip(tasks, ("dead", "alive", "dead"), strict=False):
        claimed(ledger, task, holder)
    trace_id = ledger.task(tasks[0]).task_set
    assert ledger.release_dead(trace_id, {"dead", "unknown"}) == sorted([tasks[0], tasks[2]])
    assert [ledger.task(t).state for t in tasks] == [S.RETRYING, S.EXECUTING, S.RETRYING, S.PENDING]
    with pytest.raises(FencedError):
        ledger.finish(tasks[0], 1, S.SUCCESS)
    assert ledger.release_dead(trace_id, ()) == []


def test_waiting_tasks_can_be_failed(ledger: Ledger) -> None:
    waiting, running = registered(ledger, 2)
    claimed(ledger, running)
    assert ledger.fail_waiting([waiting, running], "cancelled") == 1
    assert ledger.task(waiting).message == "cancelled"
    assert ledger.task(running).state is S.EXECUTING


# --- races


def test_of_many_claimers_in_threads_exactly_one_wins(ledger: Ledger) -> None:
    tasks, workers = registered(ledger, 12), 4
    answers: list[list[object]] = [[] for _ in range(workers)]
    barrier = threading.Barrier(workers)

    def work(k: int) -> None:
        for task in tasks:
            barrier.wait()
            answers[k].append(ledger.claim(task, f"h{k}", 60))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in zip(*answers, strict=True):
        assert sum(isinstance(a, Claim) for a in one) == 1
        assert sum(isinstance(a, Busy) for a in one) == workers - 1


def test_of_many_takeovers_exactly_one_wins(ledger: Ledger, engine: Engine) -> None:
    (task,) = registered(ledger)
    claimed(ledger, task, "dead")
    let_lease_run_out(engine, task)
    answers: list[object] = []
    barrier = threading.Barrier(4)

    def work(k: int) -> None:
        barrier.wait()
        answers.append(ledger.claim(task, f"h{k}", 60))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(a, Claim) for a in answers) == 1
    assert ledger.task(task).attempt == 2


_CLAIM_ALL = """
import sys
from bos_core.index.database import connect
from bos_core.index.ledger import Claim, Ledger
url, holder, *tasks = sys.stdin.read().split()
ledger = Ledger(connect(url))
print(sum(isinstance(ledger.claim(task, holder, 60), Claim) for task in tasks))
"""


def test_of_two_processes_each_task_goes_to_one(ledger: Ledger, engine: Engine) -> None:
    tasks = registered(ledger, 40)
    url = engine.url.render_as_string(hide_password=False)
    processes = []
    for holder in ("p1", "p2"):
        process = subprocess.Popen(
            [sys.executable, "-c", _CLAIM_ALL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        process.stdin.write("\n".join([url, holder, *tasks]))
        process.stdin.close()
        processes.append(process)
    won = []
    for process in processes:
        assert process.wait(60) == 0
        assert process.stdout is not None
        won.append(int(process.stdout.read()))
        process.stdout.close()
    assert sum(won) == len(tasks)
    assert {ledger.task(t).attempt for t in tasks} == {1}


def test_creating_tables_twice_and_at_once(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            connect(url).dispose()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    migrate(engine)


# --- the database guards the states itself


@pytest.mark.parametrize("old", list(S))
@pytest.mark.parametrize("new", list(S))
def test_raw_updates_obey_the_legal_moves(ledger: Ledger, engine: Engine, old: TaskState, new: TaskState) -> None:
    (task,) = registered(ledger)
    if old is not S.PENDING:
        attempt = claimed(ledger, task)
        if old is not S.EXECUTING:
            ledger.finish(task, attempt, old)
    attempt = ledger.task(task).attempt
    raised = attempt + (new is S.EXECUTING and old is not S.EXECUTING)
    lease = {"holder": "raw", "lease_until_s": 1e12} if new is S.EXECUTING else {}
    if new in LEGAL_MOVES[old] or new is old:
        force(engine, task, state=new.value, attempt=raised, **lease)
        assert ledger.task(task).state is new
        return
    with pytest.raises(IllegalTransitionError, match="illegal task state move"):
        force(engine, task, state=new.value, attempt=raised, **lease)
    assert ledger.task(task).state is old


@pytest.mark.parametrize("values", [{"attempt": 7}, {"state": "executing", "holder": "x", "lease_until_s": 1e12}])
def test_the_fence_number_rises_with_a_claim_and_only_then(
    ledger: Ledger, engine: Engine, values: dict[str, Any]
) -> None:
    (task,) = registered(ledger)
    with pytest.raises(IllegalTransitionError):
        force(engine, task, **values)


def test_states_outside_the_five_and_leaseless_execution_are_refused(ledger: Ledger, engine: Engine) -> None:
    (task,) = registered(ledger)
    with pytest.raises((IntegrityError, IllegalTransitionError)):
        force(engine, task, state="lost")
    with pytest.raises(IntegrityError):
        force(engine, task, state="executing", attempt=1)
    with pytest.raises(IntegrityError):
        force(engine, task, memory_mb=-1)


def test_a_task_is_born_pending(ledger: Ledger, engine: Engine) -> None:
    (task,) = registered(ledger)
    with reading(engine) as connection:
        row = dict(connection.execute(sa.select(TASK).where(TASK.c.id == task)).mappings().one())
    with pytest.raises(IllegalTransitionError), writing(engine) as connection:
        connection.execute(sa.insert(TASK).values({**row, "id": "x", "chunk": "x", "state": "success"}))


def test_one_output_of_a_name_a_task(ledger: Ledger, engine: Engine) -> None:
    (task,) = registered(ledger)
    ledger.finish(task, claimed(ledger, task), S.SUCCESS, [output(task, 1)])
    with reading(engine) as connection:
        row = dict(connection.execute(sa.select(OUTPUT)).mappings().one())
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(sa.insert(OUTPUT).values({**row, "address": "elsewhere"}))


_EVENTS = st.one_of(
    st.tuples(st.just("claim"), st.sampled_from(["h1", "h2"])),
    st.tuples(st.just("finish"), st.tuples(st.integers(-1, 0), st.sampled_from(list(S)))),
    st.tuples(st.just("renew"), st.integers(-1, 0)),
    st.tuples(st.just("expire"), st.none()),
    st.tuples(st.just("release"), st.sampled_from([(), ("h1",), ("h1", "h2")])),
    st.tuples(st.just("reset"), st.none()),
    st.tuples(st.just("cancel"), st.none()),
    st.tuples(st.just("raw"), st.sampled_from(list(S))),
)


def _apply(ledger: Ledger, engine: Engine, task: str, event: str, argument: Any) -> None:
    record = ledger.task(task)
    if event == "claim":
        ledger.claim(task, argument, 60)
    elif event == "finish":
        back, state = argument
        attempt = max(record.attempt + back, 0)
        ledger.finish(task, attempt, state, [output(task, attempt)] if state is S.SUCCESS else [])
    elif event == "renew":
        ledger.renew(task, record.attempt + argument)
    elif event == "expire":
        let_lease_run_out(engine, task)
    elif event == "release":
        ledger.release_dead(record.task_set, argument)
    elif event == "reset":
        ledger.reset_failed(record.task_set)
    elif event == "cancel":
        ledger.fail_waiting([task], "cancelled")
    else:
        raised = int(argument is S.EXECUTING and record.state is not S.EXECUTING)
        force(
            engine, task, state=argument.value, attempt=record.attempt + raised, holder="raw", lease_until_s=1e12
        )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_EVENTS, min_size=1, max_size=14))
def test_no_sequence_of_events_makes_an_illegal_state(
    ledger: Ledger, engine: Engine, events: Sequence[tuple[str, Any]]
) -> None:
    (task,) = registered(ledger)
    winner: int | None = None
    for event, argument in events:
        before = ledger.task(task)
        try:
            _apply(ledger, engine, task, event, argument)
        except (FencedError, IllegalTransitionError):
            assert ledger.task(task) == before
            continue
        after = ledger.task(task)
        taken_over = before.state is after.state is S.EXECUTING and after.attempt == before.attempt + 1
        assert after.state is before.state or after.state in LEGAL_MOVES[before.state]
        rises = after.state is S.EXECUTING and (before.state is not S.EXECUTING or taken_over)
        assert after.attempt == before.attempt + rises
        if event == "finish" and after.state is S.SUCCESS and before.state is S.EXECUTING:
            winner = after.attempt
        outputs = [o.attempt for o in ledger.task_outputs(task)]
        assert outputs == ([winner] if winner is not None else [])


# --- readers


def test_outputs_by_step_and_name_in_order_of_chunks(ledger: Ledger) -> None:
    context = open_set(ledger)
    tasks = make_tasks(context, 3)
    ledger.register(tasks)
    for task in reversed(tasks):
        attempt = claimed(ledger, task.id)
        both = [output(task.id, attempt, name) for name in ("pairs", "base")]
        ledger.finish(task.id, attempt, S.SUCCESS, both)
    found = ledger.outputs(context.trace_id, "n1_verification", "pairs")
    assert [o.chunk for o in found] == [t.input.chunk for t in tasks]
    assert len(ledger.outputs(context.trace_id)) == 6
    assert ledger.outputs(context.trace_id, "other") == []


def test_outputs_of_tasks_that_work_on_some_hours(ledger: Ledger) -> None:
    context = open_set(ledger)
    program = ProgramRef("n1_verification", "batched_newton", "1.0", "d1")
    for start in (0, 24, 48):
        parameters = {"start": start, "stop": start + 24}
        task = Task(context.trace_id, "n1", TaskInput("v1", "in", f"hours={start:04d}", parameters), program, 24)
        ledger.register([task])
        ledger.finish(task.id, claimed(ledger, task.id), S.SUCCESS, [output(task.id, 1)])

    def starts(hours: slice) -> list[str]:
        return [o.chunk[-2:] for o in ledger.outputs(context.trace_id, "n1", "pairs", hours)]

    assert starts(slice(0, 72)) == ["00", "24", "48"]
    assert starts(slice(24, 48)) == ["24"]
    assert starts(slice(47, 49)) == ["24", "48"]
    assert starts(slice(72, 96)) == []


def test_the_report_aggregates_each_step(ledger: Ledger) -> None:
    context = open_set(ledger)
    first, second = make_tasks(context, 2, "a", 24), make_tasks(context, 3, "b", 100)
    ledger.register([*second, *first])
    for k, task in enumerate([*first, *second[:2]]):
        attempt = claimed(ledger, task.id)
        ledger.finish(task.id, attempt, S.SUCCESS, wall_s=k + 1.0, io_s=0.5, peak_rss_mb=100.0 * k)
    attempt = claimed(ledger, second[2].id)
    ledger.finish(second[2].id, attempt, S.FAILED, wall_s=1000.0, message="infeasible")
    a, b = ledger.report(context.trace_id)
    assert (a.step, a.tasks, a.subtasks, a.wall_s_sum, a.wall_s_mean) == ("a", 2, 48, 3.0, 1.5)
    assert (b.step, b.tasks, b.subtasks, b.wall_s_sum, b.io_s_sum) == ("b", 3, 200, 7.0, 1.0)
    assert b.states[S.FAILED] == 1
    assert b.wall_s_mean_subtask == pytest.approx(0.035)
    assert b.peak_rss_mb_max == 300.0
    assert 0 <= a.elapsed_s < 60
    assert sum(ledger.counts(context.trace_id, "b").values()) == 3


def test_the_log_keeps_order_and_cuts_monsters(ledger: Ledger) -> None:
    context = open_set(ledger)
    lines = [LogLine(context.trace_id, "t1", 1, "INFO", "x", f"line {k}") for k in range(3)]
    ledger.log([*lines, LogLine(context.trace_id, "", 0, "ERROR", "x", "y" * 50_000)])
    found = ledger.logs(context.trace_id)
    assert [line.message for line in found[:3]] == ["line 0", "line 1", "line 2"]
    assert len(found[3].message) == 10_000
    assert len(ledger.logs(context.trace_id, "t1")) == 3
    ledger.log([])


def test_the_outbox_is_drained_once(ledger: Ledger) -> None:
    tasks = registered(ledger, 3)
    for task in tasks:
        ledger.finish(task, claimed(ledger, task), S.SUCCESS, [output(task, 1)])
    entries = ledger.outbox()
    assert [e.key for e in entries] == tasks
    assert entries[0].payload["outputs"] == [output(tasks[0], 1).address]
    ledger.mark_drained([entries[1].sequence])
    assert [e.key for e in ledger.outbox()] == [tasks[0], tasks[2]]
