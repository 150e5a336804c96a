"""One step of the chain in a process of its own, from claim to graph; it may die or lose an answer on the way.

And the checker, which reads only SQL, S3 and the graph.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from bos_core.access.projection import Projector, opened_graph
from bos_core.access.store import ResultStore
from bos_core.access.workspace import Workspace
from bos_core.index.graph_neo4j import Neo4jGraph
from bos_core.index.ledger import Ledger
from bos_core.index.ontology_index import OntologyIndex
from bos_core.index.scenarios import ScenarioIndex
from bos_core.objects.errors import BosError, StorageError
from bos_core.objects.settings import Settings
from bos_core.objects.task import TaskState

STEP = "system_model"
POINTS: dict[str, tuple[str, type[Any], str]] = {
    "claim": ("execute", Ledger, "claim"),
    "commit: file": ("execute", ResultStore, "put"),
    "commit: manifest": ("execute", ResultStore, "put_if_absent"),
    "commit: transaction": ("execute", Ledger, "finish"),
    "backfill: chunk": ("backfill", ResultStore, "put_chunk"),
    "backfill: version": ("backfill", ScenarioIndex, "add_version"),
    "project: rows": ("project", OntologyIndex, "put"),
    "project: graph": ("project", Neo4jGraph, "put"),
    "project: outbox": ("project", Ledger, "mark_drained"),
}
"""Every write: in which phase, and the method that makes it."""
MODES = ("before", "after", "reply lost")

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["flows.steps", "flows.execution", "prefect"])


@dataclass(frozen=True)
class Fault:
    """Where a process dies, or loses the answer to a write that has happened."""

    point: str
    mode: str


def run(settings: Settings, trace_id: str, log: Path, fault: Fault | None = None) -> int:
    """Carry out the step in a process; return its exit code: -9 killed, 1 refused with a message, 0 done."""
    process = begin(settings, trace_id, log, fault)
    process.join(120)
    assert process.exitcode is not None, "the process hangs"
    return int(process.exitcode)


def begin(settings: Settings, trace_id: str, log: Path, fault: Fault | None = None) -> Any:
    """Start the process that carries out the step."""
    process = _processes.Process(target=_main, args=(settings, trace_id, log, fault))
    process.start()
    return process


def _main(settings: Settings, trace_id: str, log: Path, fault: Fault | None) -> None:
    with log.open("a") as file:
        try:
            _carry_out(settings, trace_id, fault)
        except BosError as error:
            print(f"error: {error}", file=file)
            sys.exit(1)
        except Exception:
            traceback.print_exc(file=file)
            sys.exit(2)


def _carry_out(settings: Settings, trace_id: str, fault: Fault | None) -> None:
    from flows.backfill import write_back
    from flows.execution import execute
    from flows.request import PlanRequest
    from flows.step import StepRun
    from flows.steps import STEPS
    from flows.task_set import open_task_set

    phase = [""]
    if fault is not None:
        _plant(fault, phase)
    workspace = Workspace.open(settings)
    request = PlanRequest.model_validate({"scenario": "six", "horizon": {"start_hour": 0, "hours": 24}})
    context, version = open_task_set(workspace, request, trace_id, "planning-chain")
    done = StepRun(workspace, request, context, version)
    tasks = STEPS[STEP].plan(done)
    workspace.ledger.register(tasks)
    phase[0] = "execute"
    for task in tasks:
        receipt = execute(task.id, settings, request)
        if receipt.state is not TaskState.SUCCESS:
            raise StorageError(receipt.message)
    phase[0] = "backfill"
    write_back(done, replace(STEPS[STEP], backfill=_renamed))
    phase[0] = "project"
    with opened_graph(settings) as graph:
        Projector(workspace, graph).drain()


def _renamed(run: Any, writer: Any) -> str:
    """Write a table back: stations get other names."""
    stations = run.reader.table("station")
    place = stations.column_names.index("name")
    names = pa.array([f"{name}, planned" for name in stations["name"].to_pylist()])
    writer.put_table("station", stations.set_column(place, stations.schema.field(place), names))
    return "stations renamed"


def _plant(fault: Fault, phase: list[str]) -> None:
    """Make the first call of the point's method in its phase go wrong."""
    wanted, owner, name = POINTS[fault.point]
    method: Callable[..., Any] = getattr(owner, name)
    left = [1]

    def faulty(*arguments: Any, **options: Any) -> Any:
        if phase[0] != wanted or not left[0]:
            return method(*arguments, **options)
        left[0] = 0
        if fault.mode == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        method(*arguments, **options)
        if fault.mode == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        raise StorageError(f"{fault.point}: the answer was lost; run again")

    setattr(owner, name, faulty)


@dataclass(frozen=True)
class Verdict:
    """What a checker found: contents of results and of the version, attempts, files that no commit names."""

    contents: dict[str, str]
    attempts: int
    orphans: int


def check(settings: Settings, trace_id: str) -> Verdict:
    """Check that everything is there once, whole, and the same in SQL, S3 and the graph."""
    workspace = Workspace.open(settings)
    ledger, store = workspace.ledger, workspace.store
    (task,) = ledger.tasks(trace_id)
    assert task.state is TaskState.SUCCESS
    outputs = ledger.task_outputs(task.id)
    assert {output.attempt for output in outputs} <= {task.attempt}
    for output in outputs:
        assert hashlib.sha256(store.get(output.address)).hexdigest() == output.sha256
    (version,) = [v for v in workspace.scenarios.versions("six") if v.step == STEP]
    chunks = workspace.scenarios.chunks(version.id)
    for chunk in chunks.values():
        assert store.exists(store.chunk_address(chunk.digest))
    assert ledger.outbox() == []
    with opened_graph(settings) as graph:
        projector = Projector(workspace, graph)
        for one in workspace.scenarios.versions("six"):
            assert projector.drift(one.id).is_none
    stored = projector.ontology.contents()
    assert {d for v in workspace.scenarios.versions("six") for d in _static(workspace, v.id)} <= stored
    named = {output.address for output in outputs}
    files = [a for a, _ in store.walk("attempts") if not a.endswith("manifest.json")]
    contents = {output.name: output.content_digest for output in outputs}
    return Verdict(contents | {"version": version.digest}, task.attempt, len(set(files) - named))


def _static(workspace: Workspace, version: str) -> list[str]:
    from bos_core.index.ontology_tables import STATIC

    return [digest for name, digest in workspace.reader(version).table_digests().items() if name in STATIC]
