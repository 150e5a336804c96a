"""Atomic commit of a task's outputs, and the collection of what was never committed.

Order: files under an attempt-scoped prefix, then the manifest, then one SQL transaction. That transaction IS the
commit: readers find files only through the index, so a crash before it leaves nothing visible.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from bos_core.access.digest import table_digest
from bos_core.access.store import ResultStore, encode
from bos_core.index.ledger import Ledger
from bos_core.index.ontology_index import OntologyIndex
from bos_core.index.records import Output, TaskRecord
from bos_core.index.scenarios import ScenarioIndex
from bos_core.objects.errors import FencedError, Finding, InputError, NotFoundError
from bos_core.objects.result import ResultMetadata
from bos_core.objects.task import Receipt, Task, TaskSetContext, TaskState

COLUMNS_LISTED_MAX = 64
CHUNK_GRACE_S = 24 * 3600.0
"""An unreferenced scenario chunk may belong to a version that is being written; a day is ample."""


def attempt_prefix(trace_id: str, task_id: str, attempt: int) -> str:
    """Return the folder of one attempt's files."""
    return f"attempts/{trace_id}/{task_id}/{attempt}"


def commit_outputs(
    store: ResultStore,
    ledger: Ledger,
    task: Task | TaskRecord,
    attempt: int,
    tables: Mapping[str, pa.Table],
    context: TaskSetContext,
    wall_s: float = 0.0,
    io_s: float = 0.0,
    peak_rss_mb: float = 0.0,
    message: str = "",
) -> Receipt:
    """Write the outputs of an attempt and finish it with success.

    Parameters
    ----------
    task : Task or TaskRecord
        The claimed task.
    attempt : int
        From the claim.
    tables : mapping of str to pyarrow.Table
        Output name to table; units in the fields' metadata under ``unit``. NaN becomes null.
    context : TaskSetContext
        Of the task set.
    wall_s, io_s : float
        Spent so far, reading included; the time of this call's writing is added to both.

    Raises
    ------
    FencedError
        If the attempt lost its claim; its files are left to the collector.
    StorageError
        If a file cannot be written; the task is still executing and may be finished as failed or retrying.
    """
    start = time.perf_counter()
    _check_names(tables)
    record = _ref(task, context.trace_id)
    outputs = []
    for name, table in sorted(tables.items()):
        output, data = _encoded(record, attempt, name, table)
        store.put(output.address, data)
        outputs.append(output)
    address, data = _manifest(record, attempt, outputs)
    if not store.put_if_absent(address, data) and store.get(address) != data:
        raise FencedError(f"attempt {attempt} of task {record.id} already has another manifest; drop this outcome")
    spent_s = time.perf_counter() - start
    return ledger.finish(
        record.id,
        attempt,
        TaskState.SUCCESS,
        outputs,
        wall_s=wall_s + spent_s,
        io_s=io_s + spent_s,
        peak_rss_mb=peak_rss_mb,
        message=message,
    )


def without_nan(table: pa.Table) -> pa.Table:
    """Return the table with null where a value is NaN: what is not known is null in a file."""
    for position, field in enumerate(table.schema):
        if not pa.types.is_floating(field.type):
            continue
        unknown = pc.is_nan(table.column(position))
        if pc.any(unknown).as_py():
            values = pc.if_else(unknown, pa.scalar(None, field.type), table.column(position))
            table = table.set_column(position, field, values)
    return table


@dataclass(frozen=True)
class Garbage:
    """What the collector found.

    Attributes
    ----------
    deleted : tuple of str
        Addresses that were (or, in a dry run, would be) deleted.
    unknown : tuple of str
        Files of tasks that this index does not know; never deleted, they may belong to another index.
    contents : tuple of str
        Digests of the tables whose rows in SQL were (or would be) deleted.
    """

    deleted: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()


def collect_garbage(
    store: ResultStore, ledger: Ledger, trace_id: str | None = None, dry_run: bool = False
) -> Garbage:
    """Delete files of attempts that ended without a commit.

    Files of an attempt are garbage when the task is no longer executing that attempt and did not succeed with it.
    The store is listed before the ledger is read: an attempt seen in the store has been claimed, so its state
    can only have moved on.
    """
    prefix = "attempts" if trace_id is None else f"attempts/{trace_id}"
    files: dict[tuple[str, int], list[str]] = {}
    for address, _ in store.walk(prefix):
        parts = address.split("/")
        if len(parts) == 5 and parts[3].isdecimal():
            files.setdefault((parts[2], int(parts[3])), []).append(address)
    deleted: list[str] = []
    unknown: list[str] = []
    for (task_id, attempt), addresses in sorted(files.items()):
        try:
            record = ledger.task(task_id)
        except NotFoundError:
            unknown += addresses
            continue
        kept = record.attempt == attempt and record.state in (TaskState.EXECUTING, TaskState.SUCCESS)
        if not kept:
            deleted += addresses
    if not dry_run:
        store.delete(deleted)
    return Garbage(tuple(deleted), tuple(unknown))


def collect_chunks(
    store: ResultStore, scenarios: ScenarioIndex, older_than_s: float = CHUNK_GRACE_S, dry_run: bool = False
) -> Garbage:
    """Delete scenario chunks that no version needs and that nobody has put for `older_than_s`, and their SQL rows.

    Rows are stored only after a version names their table, so they need no grace.
    """
    rows = OntologyIndex(scenarios.engine)
    found, stored = store.walk("chunks"), rows.contents()
    digests = scenarios.referenced_digests()  # read last: what was found is named by now, if it ever is
    needed = {store.chunk_address(digest) for digest in digests}
    deleted = tuple(address for address, age_s in found if address not in needed and age_s > older_than_s)
    contents = tuple(sorted(stored - digests))
    if not dry_run:
        store.delete(deleted)
        rows.drop(contents)
    return Garbage(deleted, contents=contents)


@dataclass(frozen=True)
class _TaskRef:
    id: str
    trace_id: str
    slot: str
    program: str
    scenario_version: str


def _ref(task: Task | TaskRecord, trace_id: str) -> _TaskRef:
    if isinstance(task, Task):
        program = task.program
        name = f"{program.slot}/{program.name}@{program.digest}"
        return _TaskRef(task.id, trace_id, program.slot, name, task.input.scenario_version)
    name = f"{task.slot}/{task.program}@{task.program_digest}"
    return _TaskRef(task.id, trace_id, task.slot, name, task.scenario_version)


def manifest(task: TaskRecord, outputs: Sequence[Output]) -> tuple[str, bytes]:
    """Return address and bytes of the manifest of a finished task."""
    committed = [replace(output, chunk="") for output in sorted(outputs, key=lambda output: output.name)]
    return _manifest(_ref(task, task.task_set), task.attempt, committed)


def _manifest(task: _TaskRef, attempt: int, outputs: Sequence[Output]) -> tuple[str, bytes]:
    content = {
        "trace_id": task.trace_id,
        "task_id": task.id,
        "attempt": attempt,
        "program": task.program,
        "scenario_version": task.scenario_version,
        "outputs": [asdict(output) for output in outputs],
    }
    address = f"{attempt_prefix(task.trace_id, task.id, attempt)}/manifest.json"
    return address, json.dumps(content, sort_keys=True, indent=1).encode()


def _check_names(tables: Mapping[str, pa.Table]) -> None:
    bad = tuple(name for name in tables if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,99}", name))
    if bad:
        remedy = "use lower-case letters, digits, dot, dash, underscore"
        raise InputError((Finding("output", bad, "has an unusable name", remedy),))


def encoded_again(task: TaskRecord, name: str, table: pa.Table) -> tuple[Output, bytes]:
    """Return what the finished attempt of a task would commit as an output, and the bytes of its file."""
    return _encoded(_ref(task, task.task_set), task.attempt, name, table)


def _encoded(task: _TaskRef, attempt: int, name: str, table: pa.Table) -> tuple[Output, bytes]:
    """Return an output of an attempt and the bytes of its file."""
    table = without_nan(table)
    address = f"{attempt_prefix(task.trace_id, task.id, attempt)}/{name}.parquet"
    metadata = ResultMetadata(
        business_type=task.slot,
        task_id=task.id,
        attempt=attempt,
        address=address,
        trace_id=task.trace_id,
        scenario_version=task.scenario_version,
        program=task.program,
    )
    data = encode(table, metadata.to_schema())
    output = Output(
        task_id=task.id,
        name=name,
        attempt=attempt,
        address=address,
        sha256=hashlib.sha256(data).hexdigest(),
        content_digest=table_digest(table),
        rows=table.num_rows,
        bytes=len(data),
        columns=_columns(table.schema),
    )
    return output, data


def _columns(schema: pa.Schema) -> dict[str, dict[str, str]]:
    """Return type and unit of each column; wide tables list the first ones, the file has them all."""
    listed: Sequence[pa.Field] = [schema.field(k) for k in range(min(len(schema), COLUMNS_LISTED_MAX))]
    columns = {
        field.name: {"type": str(field.type), "unit": (field.metadata or {}).get(b"unit", b"").decode()}
        for field in listed
    }
    if len(schema) > COLUMNS_LISTED_MAX:
        columns["..."] = {"type": f"{len(schema) - COLUMNS_LISTED_MAX} more", "unit": ""}
    return columns
