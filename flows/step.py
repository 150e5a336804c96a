"""What a step of the chain is made of, and what its code sees on a worker."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from bos_core.access.added_elements import added_elements
from bos_core.access.scenario_data import ScenarioReader, ScenarioWriter
from bos_core.access.workspace import Workspace
from bos_core.index.records import TaskRecord
from bos_core.objects.task import ProgramRef, Task, TaskInput, TaskSetContext
from bos_core.programs.catalogue import Catalogue
from bos_core.programs.registry import Program
from flows.request import BusinessRequest


@dataclass(frozen=True)
class StepRun:
    """One run of a step in the flow's process: where it reads, what it was asked."""

    workspace: Workspace
    request: BusinessRequest
    context: TaskSetContext
    version: str

    @property
    def reader(self) -> ScenarioReader:
        """The input scenario version."""
        return self.workspace.reader(self.version)

    def task(
        self,
        step: str,
        slot: str,
        chunk: str,
        subtasks: int,
        depends_on: Sequence[str] = (),
        **parameters: object,
    ) -> Task:
        """Make a task of this step; `parameters` say which part of the work it is."""
        program: ProgramRef = Catalogue(self.workspace).resolve(slot, self.request.program(slot)).ref
        settings = {**parameters, "program": self.request.program_parameters.get(slot, {})}
        return Task(
            task_set=self.context.trace_id,
            step=step,
            input=TaskInput(self.version, self.reader.digest, chunk, settings),
            program=program,
            subtasks=subtasks,
            depends_on=tuple(depends_on),
        )

    def tables(self, step: str, name: str) -> pa.Table:
        """Return a committed output of every task of a step, in order of chunks."""
        return self.workspace.results.table(self.context.trace_id, step, name)


@dataclass
class Job:
    """One ledger task on a worker."""

    task: TaskRecord
    workspace: Workspace
    request: BusinessRequest
    program: Program
    needs: Sequence[str] = ()
    io_s: float = field(default=0.0)

    @property
    def hours(self) -> slice:
        """The hours of the year that the task covers."""
        return slice(int(self.task.parameters["start"]), int(self.task.parameters["stop"]))

    def read(self, version: str | None = None) -> ScenarioReader:
        """Return the reader of the task's input version, or of another."""
        return self.workspace.reader(version or self.task.scenario_version)

    @contextmanager
    def reading(self) -> Iterator[ScenarioReader]:
        """Count the time inside the block as reading."""
        start = time.perf_counter()
        try:
            yield self.read()
        finally:
            self.io_s += time.perf_counter() - start

    def run(self, inputs: object) -> object:
        """Run the task's program, checked against its slot's contract."""
        added = self.program.manifest.extends
        elements = added_elements(self.read(), added, getattr(inputs, "grid", None)) if added else None
        return self.program.run(inputs, self.task.parameters["program"], elements)

    def output(self, task_id: str, name: str) -> pa.Table:
        """Return a committed output of another task."""
        return self.workspace.results.task_table(task_id, name)


@dataclass(frozen=True)
class Step:
    """A step of a business: decide the tasks, carry one out on a worker, write the results back.

    Attributes
    ----------
    name : str
    title : str
        What users read.
    plan : callable
        Tasks of the step, predecessors first.
    carry_out : callable
        Runs on a worker: binds arrays, calls the slot's program, returns output tables.
    backfill : callable or None
        Writes validated results into the next scenario version; returns a message for its log.
    conclude : callable or None
        Of a step that changes no scenario: returns what its results come to, in a few words.
    """

    name: str
    title: str
    plan: Callable[[StepRun], list[Task]]
    carry_out: Callable[[Job], Mapping[str, pa.Table]]
    backfill: Callable[[StepRun, ScenarioWriter], str] | None = None
    conclude: Callable[[StepRun], str] | None = None


def hour_blocks(request: BusinessRequest) -> list[tuple[int, int]]:
    """Split the horizon at multiples of `chunk_hours` of the year; return (start, stop) pairs."""
    size = request.chunk_hours
    start, end = request.horizon.start_hour, request.horizon.stop_hour
    edges = [start, *range((start // size + 1) * size, end, size), end]
    return list(itertools.pairwise(edges))
