"""The task ledger: claims and finishes a second on SQLite and PostgreSQL, and a task set of 100,000 tasks."""

from __future__ import annotations

import multiprocessing
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import psycopg
import sqlalchemy as sa
from databases import disk, new_postgresql
from frame import OURS, Accuracy, Bench, Row
from timing import Timing, best_of, cpu_s

from bos_core.index.database import BUSY_TIMEOUT_S, connect, writing
from bos_core.index.ledger import Claim, Ledger, LogLine, Output
from bos_core.index.tables import OUTPUT, TASK
from bos_core.objects.task import ProgramRef, Task, TaskInput, TaskSetContext, TaskState

TITLE = "Ledger of 100,000 tasks: insertion, claims and finishes, aggregation"
PACKAGES = ("sqlalchemy", "psycopg")
SIZE = "processes"
TASKS = 100_000
PAIRS = 2_000
"""Claims and finishes of a run, shared by its processes."""
PROCESSES = (1, 2, 4, 8)
RUNS = 3
WARM_UP = 20
FAILED_EACH = 50
"""One task in so many has failed when the set is aggregated."""

_Work = Callable[[Sequence[str]], None]
_processes = multiprocessing.get_context("spawn")


def run(bench: Bench, budget_s: float) -> None:
    """Measure the ledger on both databases, and queues of a few statements on the drivers alone."""
    bench.settings |= {
        "claim and finish": "two transactions a task, one output each, in a ledger of 100,000; wall is elapsed "
        "time over tasks, CPU that of the processes without a database server's",
        "SQLite": "write-ahead log, synchronous=NORMAL: safe when a process dies; for both",
        "PostgreSQL": "on the same machine over loopback, as it comes: every commit reaches the disk",
        "queue": "what the driver can do: a table of key and state, taken in order; no attempt, lease, check of "
        "moves, output or outbox",
    }
    with tempfile.TemporaryDirectory(dir=disk()) as folder:
        tool, raw = f"{OURS} on SQLite", "queue on sqlite3"
        with bench.peer(tool):
            _ledger(bench, tool, f"sqlite:///{folder}/index.sqlite", first=True)
        with bench.peer(raw):
            _queue(bench, raw, _on_sqlite, f"{folder}/queue.sqlite")
    tool, raw = f"{OURS} on PostgreSQL", "queue on psycopg, SKIP LOCKED"
    with bench.peer(tool), new_postgresql() as url:
        _ledger(bench, tool, url, first=False)
    with bench.peer(raw), new_postgresql() as url:
        _queue(bench, raw, _on_postgresql, url)


def _ledger(bench: Bench, tool: str, url: str, first: bool) -> None:
    engine = connect(url)
    ledger = Ledger(engine)
    tasks = _tasks(ledger)
    with bench.doing(f"{tool}: inserting"):
        times, ids = best_of(partial(ledger.register, tasks), runs_max=1, warm_up=False)
    note = f"{TASKS:,} in {times.wall_s:.2g} s"
    bench.add(Row("insert", TASKS, tool, "task", times.per(TASKS), note=note, panel="insertion", reference=first))
    _claims(bench, tool, partial(_on_ledger, url), ids)
    _aggregate(bench, tool, ledger, tasks[0].task_set, first)
    engine.dispose()


def _tasks(ledger: Ledger) -> list[Task]:
    context = TaskSetContext(str(uuid.uuid4()), "planner", "default", "base@1", "planning-chain")
    ledger.open_task_set(context)
    program = ProgramRef("n1_verification", "batched_newton", "1.0", "d1")
    inputs = (
        TaskInput("v1", "in", f"hours={k:06d}", {"start": k, "stop": k + 1, "outages": 705}) for k in range(TASKS)
    )
    return [Task(context.trace_id, "n1_verification", chunk, program, 705) for chunk in inputs]


def _queue(bench: Bench, tool: str, opened: Callable[[str], _Work], place: str) -> None:
    with bench.doing(f"{tool}: inserting"):
        opened(place)
    _claims(bench, tool, partial(opened, place), [str(k) for k in range(TASKS)])


# --- claims and finishes


def _claims(bench: Bench, tool: str, opened: Callable[[], _Work], ids: Sequence[str]) -> None:
    """Let 1 to 8 processes claim and finish tasks side by side, as on the containers of one run."""
    rates = {}
    ours = tool.startswith(OURS)
    first = ours and "SQLite" in tool
    for count in PROCESSES:
        unit = f"{count} process{'es' if count > 1 else ''}"
        needed = count * WARM_UP + RUNS * PAIRS
        now, ids = ids[:needed], ids[needed:]
        with bench.doing(f"{tool}: {unit}"):
            times = _side_by_side(opened, now, count)
        rates[unit] = round(1 / times.wall_s)
        group, note = f"claim and finish, {unit}", f"{rates[unit]:,} a second"
        bench.add(
            Row(group, count, tool, "task", times, note=note, panel="claims", reference=first, comparable=ours)
        )
    bench.facts.setdefault("claims_and_finishes_a_second", []).append({"by": tool, **rates})


def _side_by_side(opened: Callable[[], _Work], ids: Sequence[str], count: int) -> Timing:
    """Return the best times a task of the runs; a run lasts from the first start to the last end."""
    barrier, answers = _processes.Barrier(count), _processes.SimpleQueue()
    workers = [
        _processes.Process(target=_work, args=(opened, ids[k::count], PAIRS // count, barrier, answers))
        for k in range(count)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise RuntimeError(f"RuntimeError: a process ended with code {worker.exitcode}")
    runs = list(zip(*(answers.get() for _ in workers), strict=True))
    elapsed = [max(end for _, end, _ in run) - min(start for start, _, _ in run) for run in runs]
    return Timing(min(sum(used for *_, used in run) for run in runs), min(elapsed), RUNS).per(PAIRS)


def _work(opened: Callable[[], _Work], ids: Sequence[str], each: int, barrier: Any, answers: Any) -> None:
    """Do some tasks that do not count, then those of each run together with the other processes."""
    do, measured = opened(), []
    do(ids[:WARM_UP])
    for first in range(WARM_UP, WARM_UP + RUNS * each, each):
        barrier.wait(300)
        start, used = time.monotonic(), cpu_s()
        do(ids[first : first + each])
        measured.append((start, time.monotonic(), cpu_s() - used))
    answers.put(measured)


def _on_ledger(url: str) -> _Work:
    ledger = Ledger(connect(url))

    def do(ids: Sequence[str]) -> None:
        for task in ids:
            claim = ledger.claim(task, "host/1")
            assert isinstance(claim, Claim)
            ledger.finish(task, claim.attempt, TaskState.SUCCESS, [_output(task, claim.attempt)], 1.0, 0.1, 100.0)

    return do


def _output(task: str, attempt: int) -> Output:
    address = f"attempts/trace/n1_verification/{task}/{attempt}/pairs.parquet"
    columns = {"hour": {"type": "int64", "unit": "h"}, "loading": {"type": "double", "unit": ""}}
    return Output(task, "pairs", attempt, address, "s" * 64, "c" * 64, 705, 20_000, columns)


def _on_sqlite(path: str) -> _Work:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")
    _fill(connection)
    take = (
        "UPDATE task SET state = 'executing' WHERE id = (SELECT id FROM task WHERE state = 'pending' LIMIT 1) "
        "RETURNING id"
    )

    def do(ids: Sequence[str]) -> None:
        for _ in ids:
            connection.execute("BEGIN IMMEDIATE")
            (found,) = connection.execute(take).fetchone()
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE task SET state = 'success' WHERE id = ?", (found,))
            connection.execute("COMMIT")

    return do


def _on_postgresql(url: str) -> _Work:
    connection = psycopg.connect(url, autocommit=True)
    _fill(connection)
    take = (
        "UPDATE task SET state = 'executing' WHERE id = (SELECT id FROM task WHERE state = 'pending' "
        "FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id"
    )

    def do(ids: Sequence[str]) -> None:
        for _ in ids:
            (found,) = connection.execute(take).fetchone() or ()
            connection.execute("UPDATE task SET state = 'success' WHERE id = %s", (found,))

    return do


def _fill(connection: Any) -> None:
    """Make the table of a queue where it is not there yet, with an index of what is pending."""
    connection.execute("CREATE TABLE IF NOT EXISTS task (id INTEGER PRIMARY KEY, state TEXT NOT NULL)")
    connection.execute("CREATE INDEX IF NOT EXISTS task_pending ON task (id) WHERE state = 'pending'")
    if connection.execute("SELECT count(*) FROM task").fetchone()[0] == 0:
        numbers = f"WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < {TASKS})"
        connection.execute(f"INSERT INTO task {numbers} SELECT k, 'pending' FROM n")


# --- aggregation


def _aggregate(bench: Bench, tool: str, ledger: Ledger, trace: str, first: bool) -> None:
    """Take a task set apart: results of the successful, state and log of the others, one report."""
    with bench.doing(f"{tool}: finishing all tasks"):
        failed = _finish_all(ledger, trace)
    others = [state for state in TaskState if state is not TaskState.SUCCESS]
    parts: dict[str, Callable[[], Sequence[Any]]] = {
        "report": partial(ledger.report, trace),
        "results of the successful": partial(ledger.outputs, trace),
        "state of the others": partial(ledger.tasks, trace, states=others),
        "log of the others": partial(ledger.logs, trace),
    }
    wanted = (1, TASKS - failed, failed, failed)
    for (part, work), rows in zip(parts.items(), wanted, strict=True):
        with bench.doing(f"{tool}: {part}"):
            times, found = best_of(work, runs_max=5, budget_s=10.0)
        note = f"{rows:,} rows" if rows > 1 else ""
        agrees = (Accuracy("rows", abs(len(found) - rows), 0.0),)
        bench.add(
            Row(part, TASKS, tool, "task set", times, agrees, note=note, panel="aggregation", reference=first)
        )
    with bench.doing(f"{tool}: all four"):
        times, _ = best_of(lambda: [work() for work in parts.values()], runs_max=5, budget_s=10.0)
    bench.add(Row("all four", TASKS, tool, "task set", times, panel="aggregation", reference=first))


def _finish_all(ledger: Ledger, trace: str) -> int:
    """End every task that is not finished, one in `FAILED_EACH` without success; return how many failed."""
    with writing(ledger.engine) as connection:
        waiting = sa.select(TASK.c.id).where(TASK.c.state == "pending").order_by(TASK.c.id)
        ids = list(connection.execute(waiting).scalars())
        ending = {
            TaskState.FAILED: ids[::FAILED_EACH],
            TaskState.SUCCESS: sorted(set(ids) - set(ids[::FAILED_EACH])),
        }
        taken = {"state": "executing", "attempt": 1, "holder": "host/1", "started_s": 1.0, "lease_until_s": 2.0}
        connection.execute(sa.update(TASK).where(TASK.c.state == "pending").values(**taken))
        for state, some in ending.items():
            ended = {"state": state.value, "finished_s": 2.0, "lease_until_s": None, "wall_s": 1.0}
            query = sa.update(TASK).where(TASK.c.id == sa.bindparam("of_task")).values(**ended)
            connection.execute(query, [{"of_task": task} for task in some])
        outputs = [asdict(_output(task, 1)) for task in ending[TaskState.SUCCESS]]
        rows = [{"task": row.pop("task_id"), **row} for row in outputs]
        connection.execute(sa.insert(OUTPUT), [{k: v for k, v in row.items() if k != "chunk"} for row in rows])
    failed = ending[TaskState.FAILED]
    ledger.log(LogLine(trace, task, 1, "ERROR", "bos", "branch 17: x_pu is 0; give x_pu > 0") for task in failed)
    return len(failed)
