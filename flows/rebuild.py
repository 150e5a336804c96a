"""Make lost files of a run again: the same program on the same inputs, kept only if the bytes are the same.

`python -m flows.rebuild TRACE_ID [STEP [OUTPUT]]` works as a worker does and prints a line of JSON a file:
``{"address", "problem"}``, the problem empty where the file is restored. The ledger's truth is not changed: a
success is final, and its files have one content each. Nothing that differs is written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

import pyarrow as pa

from bos_core.access.audit import Losses, losses
from bos_core.access.commit import encoded_again, manifest
from bos_core.access.digest import table_digest
from bos_core.access.scenario_data import ScenarioWriter
from bos_core.access.store import ResultStore, StoredChunk
from bos_core.access.workspace import Workspace
from bos_core.index.records import LogLine, Output, TaskRecord
from bos_core.index.scenarios import VersionRecord
from bos_core.objects.errors import BosError
from bos_core.programs.catalogue import Catalogue
from flows.request import RECORDED, BusinessRequest, PlanRequest, PowerFlowRequest
from flows.step import Job, StepRun
from flows.steps import STEPS

Outcome = tuple[str, str]
"""Address, and what went wrong: empty where the file is restored."""


def rebuild(workspace: Workspace, trace_id: str, step: str = "", output: str = "") -> Iterator[Outcome]:
    """Make what a run has lost again, step by step, so that each finds what it reads."""
    ledger = workspace.ledger
    record = ledger.task_set(trace_id)
    model = PowerFlowRequest if record.business == "power-flow" else PlanRequest
    request: BusinessRequest = model.model_validate(record.request, context=RECORDED)
    lost = losses(workspace, record.trace_id, step, output)
    tasks = sorted(ledger.tasks(record.trace_id), key=lambda task: task.created_s)
    versions = {workspace.scenarios.get(id).step: id for id in lost.chunks}
    for name in dict.fromkeys(task.step for task in tasks):
        of_step = {task.id: task for task in tasks if task.step == name}
        for task_id in _needed_first(workspace, of_step):
            yield from _restore_task(workspace, request, of_step[task_id], lost)
        if name in versions:
            version = workspace.scenarios.get(versions[name])
            yield from _restore_version(workspace, request, version, lost.chunks[version.id])


def _needed_first(workspace: Workspace, tasks: dict[str, TaskRecord]) -> list[str]:
    """Return the ids of a step's tasks, each behind those that it needs."""
    ordered: dict[str, None] = {}

    def visit(task_id: str) -> None:
        for needed in workspace.ledger.depends_on(task_id):
            if needed in tasks and needed not in ordered:
                visit(needed)
        ordered[task_id] = None

    for task_id in tasks:
        visit(task_id)
    return list(ordered)


def _restore_task(
    workspace: Workspace, request: BusinessRequest, task: TaskRecord, lost: Losses
) -> Iterator[Outcome]:
    wanted = {loss.output.name: loss.output for loss in lost.outputs if loss.output.task_id == task.id}
    if wanted:
        try:
            program = Catalogue(workspace).resolve(task.slot, task.program, task.program_digest)
            job = Job(task, workspace, request, program, workspace.ledger.depends_on(task.id))
            tables = STEPS[task.step].carry_out(job)
        except BosError as error:
            yield from ((output.address, str(error)) for output in wanted.values())
            return
        for name, output in wanted.items():
            yield output.address, _restore_output(workspace, task, output, tables.get(name))
    if task.id in lost.manifests:
        address, data = manifest(task, workspace.ledger.task_outputs(task.id))
        workspace.store.put(address, data)
        yield address, ""


def _restore_output(workspace: Workspace, task: TaskRecord, committed: Output, table: pa.Table | None) -> str:
    """Write an output again if it is the committed one, byte by byte; return what is wrong otherwise."""
    if table is None:
        return f"the program no longer makes output {committed.name!r}"
    made, data = encoded_again(task, committed.name, table)
    if made.content_digest != committed.content_digest:
        return f"its content differs: {made.content_digest[:12]}, committed was {committed.content_digest[:12]}"
    if made.sha256 != committed.sha256:
        return f"its content is the same but not its bytes: another pyarrow than {pa.__version__} wrote the file"
    workspace.store.put(committed.address, data)
    text = f"{committed.address} was lost and is restored, sha256 {committed.sha256}"
    workspace.ledger.log([LogLine(task.task_set, task.id, task.attempt, "INFO", "flows.rebuild", text)])
    return ""


class _RestoringStore(ResultStore):
    """A store that writes those chunks again that are wanted, and no other."""

    def __init__(self, store: ResultStore, wanted: Sequence[str]) -> None:
        super().__init__(store.url, store.options)
        self.waiting = set(wanted)

    def put_chunk(self, table: pa.Table, row_group_rows: int = 262_144) -> StoredChunk:
        """Write the chunk if it is wanted, whatever lies at its address."""
        digest = table_digest(table)
        if digest not in self.waiting:
            return StoredChunk(digest, 0, is_new=False)
        self.waiting.remove(digest)
        data = self.put_table(self.chunk_address(digest), table, row_group_rows=row_group_rows)
        return StoredChunk(digest, len(data), is_new=True)


def _restore_version(
    workspace: Workspace, request: BusinessRequest, version: VersionRecord, digests: Sequence[str]
) -> Iterator[Outcome]:
    """Write a step's results back once more, without a new version: content lies at the digest of itself."""
    assert version.parent is not None
    store = _RestoringStore(workspace.store, digests)
    problem = f"writing back {version.step} no longer makes this content of {version.label}"
    context = workspace.ledger.task_set(version.trace_id).context
    try:
        writer = ScenarioWriter(store, workspace.scenarios, version.parent)
        backfill = STEPS[version.step].backfill
        assert backfill is not None
        backfill(StepRun(workspace, request, context, version.parent), writer)
    except BosError as error:
        problem = str(error)
    for digest in digests:
        yield store.chunk_address(digest), problem if digest in store.waiting else ""


def main(arguments: Sequence[str]) -> int:
    """Carry out `rebuild` for another process; errors are lines as well."""
    try:
        for address, problem in rebuild(Workspace.open(), *arguments):
            print(json.dumps({"address": address, "problem": problem}), flush=True)
    except BosError as error:
        print(json.dumps({"address": "", "problem": str(error)}), flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
