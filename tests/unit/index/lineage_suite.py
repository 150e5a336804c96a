"""Lineage against brute force on random histories; run on SQLite here, on PostgreSQL in tests/integration."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace

import pytest
from ledger_suite import claimed, open_set, output
from sqlalchemy.engine import Engine

from bos_core.index.ledger import Ledger
from bos_core.index.lineage import Lineage
from bos_core.index.scenarios import Chunk, ScenarioIndex, VersionRecord
from bos_core.objects.task import ProgramRef, Task, TaskInput, TaskSetContext, TaskState

STEPS = ("a", "b", "c")


class History:
    """Random runs on random versions; remembers what was made from what, edge by edge."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.ledger, self.scenarios = Ledger(engine), ScenarioIndex(engine)
        self.random = random.Random(seed)
        self.made_from: dict[str, set[str]] = {}
        self.versions: list[VersionRecord] = []
        self.tasks: list[Task] = []
        for k in range(2):
            self.scenarios.create(f"grid{k}")
            self.version(f"grid{k}")
        for _ in range(4):
            self.run()

    def version(self, scenario: str, parent: VersionRecord | None = None, run: str = "", step: str = "") -> None:
        chunk = Chunk("table/bus", uuid.UUID(int=self.random.getrandbits(128)).hex, 1, 1)
        made = self.scenarios.add_version(scenario, [chunk], parent.id if parent else None, "", None, run, step)
        self.versions.append(made)
        sources = {task.id for task in self.tasks if (task.task_set, task.step) == (run, step)}
        self.made_from[made.id] = sources | ({parent.id} if parent else set())

    def run(self) -> None:
        base = self.random.choice(self.versions)
        context = TaskSetContext(str(uuid.uuid4()), "ada", "p", base.label, "planning-chain")
        self.ledger.open_task_set(context, {"scenario_version": base.id})
        self.made_from[context.trace_id] = {base.id}
        for step in STEPS:
            self.step(context, base, step)
            self.version(base.scenario_name, base, context.trace_id, step)
            base = self.versions[-1]

    def step(self, context: TaskSetContext, base: VersionRecord, step: str) -> None:
        for k in range(self.random.randint(1, 3)):
            older = [t for t in self.tasks if t.task_set == context.trace_id]
            needs = self.random.sample([t.id for t in older], min(len(older), self.random.randint(0, 2)))
            parameters = {"source": self.random.choice(self.versions).id} if self.random.random() < 0.3 else {}
            program = ProgramRef("slot", self.random.choice("xy"), "1.0", self.random.choice(["d1", "d2"]) * 32)
            task = Task(
                context.trace_id, step, TaskInput(base.id, "in", f"k={k}", parameters), program, 1, tuple(needs)
            )
            self.ledger.register([task])
            self.tasks.append(task)
            self.made_from[task.id] = {base.id, *needs, *parameters.values()}

    def downstream(self, start: set[str]) -> set[str]:
        found = set(start)
        while True:
            more = {made for made, sources in self.made_from.items() if sources & found} - found
            if not more:
                return found - start
            found |= more


@pytest.mark.parametrize("seed", range(4))
def test_everything_made_from_something_is_found(engine: Engine, seed: int) -> None:
    history, lineage = History(engine, seed), Lineage(engine)
    set_of = {task.id: task.task_set for task in history.tasks}
    for node in (*(v.id for v in history.versions), *set_of):
        versions, tasks = ((), [node]) if node in set_of else ([node], ())
        found = lineage.downstream(versions, tasks)
        expected = history.downstream({node})
        assert found.versions == expected & {v.id for v in history.versions}
        assert found.tasks == expected & set_of.keys()
        runs = expected & {t.task_set for t in history.tasks}
        assert found.trace_ids == runs | {set_of[t] for t in found.tasks} | {set_of[t] for t in tasks}


@pytest.mark.parametrize("seed", range(4))
def test_everything_that_a_task_needed_is_found_nearest_first(engine: Engine, seed: int) -> None:
    history, lineage = History(engine, seed), Lineage(engine)
    needs = {task.id: set(task.depends_on) for task in history.tasks}
    for task in history.tasks:
        expected: set[str] = set()
        frontier = needs[task.id]
        while frontier:
            expected |= frontier
            frontier = {n for t in frontier for n in needs[t]} - expected
        found = lineage.upstream(task.id)
        assert len(found) == len(set(found))
        assert set(found) == expected
        assert set(found[: len(needs[task.id])]) == needs[task.id]


def test_results_are_counted_by_step_and_version_read(engine: Engine) -> None:
    history, lineage = History(engine, 1), Lineage(engine)
    done = history.tasks[::2]
    for task in done:
        attempt = claimed(history.ledger, task.id)
        outputs = [output(task.id, attempt, name) for name in ("pairs", "base")]
        history.ledger.finish(task.id, attempt, TaskState.SUCCESS, outputs)
    counted = lineage.steps([task.id for task in history.tasks])
    assert len({(s.trace_id, s.step, s.scenario_version) for s in counted}) == len(counted)
    for step in counted:
        of_step = [t for t in history.tasks if (t.task_set, t.step) == (step.trace_id, step.step)]
        finished = [t for t in of_step if t in done]
        assert {t.input.scenario_version for t in of_step} == {step.scenario_version}
        assert (step.tasks, step.succeeded, step.outputs) == (len(of_step), len(finished), 2 * len(finished))
        assert (step.rows, step.bytes) == (48 * len(finished), 2000 * len(finished))
    assert sum(step.tasks for step in counted) == len(history.tasks)
    assert [s.trace_id for s in counted] == [
        t for t in dict.fromkeys(x.task_set for x in history.tasks) for _ in STEPS
    ]


def test_more_ids_than_one_statement_takes(ledger: Ledger, engine: Engine) -> None:
    context = open_set(ledger)
    program = ProgramRef("slot", "x", "1.0", "d1" * 32)
    tasks = [Task(context.trace_id, "a", TaskInput("v", "in", f"k={k}"), program) for k in range(1201)]
    last = Task(context.trace_id, "b", TaskInput("v", "in", "all"), program, 1, tuple(t.id for t in tasks))
    ledger.register([*tasks, last])
    lineage = Lineage(engine)
    assert lineage.upstream(last.id) == sorted(t.id for t in tasks)
    assert [s.tasks for s in lineage.steps([t.id for t in (*tasks, last)])] == [1201, 1]
    assert lineage.downstream(tasks=[t.id for t in tasks]).tasks == {last.id}


def test_programs_tasks_and_files_are_found_by_what_people_have(ledger: Ledger, engine: Engine) -> None:
    history, lineage = History(engine, 2), Lineage(engine)
    by_digest = {t.id for t in history.tasks if t.program.digest == "d1" * 32}
    assert set(lineage.tasks_of_program("d1d1d1")) == by_digest
    assert set(lineage.tasks_of_program("d1", "slot", "x")) == {
        t.id for t in history.tasks if t.id in by_digest and t.program.name == "x"
    }
    assert lineage.tasks_of_program("d%") == []
    task = history.tasks[0]
    assert lineage.tasks_starting_with(task.id[:12]) == [task.id]
    made = replace(output(task.id, claimed(ledger, task.id)), address="attempts/x/y.parquet")
    ledger.finish(task.id, 1, TaskState.SUCCESS, [made])
    assert lineage.output_at("attempts/x/y.parquet") == (task.id, "pairs")
    assert lineage.output_at("attempts/x/z.parquet") is None
    version = history.versions[0]
    digest = history.scenarios.chunks(version.id)["table/bus"].digest
    assert lineage.versions_with(digest) == [(version.id, "table/bus")]
