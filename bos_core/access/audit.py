"""Whether files are still what was committed: outputs by the sha256 of their bytes, chunks by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bos_core.access.commit import manifest
from bos_core.access.digest import table_digest
from bos_core.access.store import ResultStore
from bos_core.access.workspace import Workspace
from bos_core.index.records import Output, TaskRecord
from bos_core.index.scenarios import VersionRecord
from bos_core.objects.errors import NotFoundError, StorageError


class FileState(StrEnum):
    """What has become of a file."""

    COMMITTED = "as committed"
    MISSING = "missing"
    CHANGED = "changed since it was committed"


@dataclass(frozen=True)
class Loss:
    """An output whose file is missing or changed."""

    output: Output
    state: FileState

    def __str__(self) -> str:
        return f"{self.output.address} is {self.state.value}"


@dataclass(frozen=True)
class Losses:
    """What a run has committed and the store lacks, or has otherwise.

    Attributes
    ----------
    checked : int
        How many files were compared.
    outputs : tuple of Loss
    manifests : tuple of str
        Ids of tasks whose manifest is missing or changed.
    chunks : mapping of str to tuple of str
        Scenario version (made by this run) to digests of its own content that is missing or changed.
    inputs : tuple of str
        What the run reads and cannot make: content of versions that other runs or users made, in words.
    """

    checked: int
    outputs: tuple[Loss, ...] = ()
    manifests: tuple[str, ...] = ()
    chunks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.outputs or self.manifests or self.chunks or self.inputs)

    @property
    def tasks(self) -> list[str]:
        """Ids of the tasks that must be carried out again."""
        return list(dict.fromkeys(loss.output.task_id for loss in self.outputs))


def losses(workspace: Workspace, trace_id: str, step: str = "", output: str = "") -> Losses:
    """Compare every file of a run with the index; of one step or one output of it, when named."""
    ledger, store = workspace.ledger, workspace.store
    record = ledger.task_set(trace_id)
    outputs = ledger.outputs(record.trace_id, step or None, output or None)
    by_task: dict[str, list[Output]] = {}
    for item in outputs:
        by_task.setdefault(item.task_id, []).append(item)
    manifests = (
        ()
        if output
        else tuple(task for task in by_task if not _has_manifest(store, ledger.task(task), by_task[task]))
    )
    made = {v.id: v for v in workspace.scenarios.versions(trace_id=record.trace_id)}
    own = {id: own_chunks(workspace, v) for id, v in made.items() if not output and step in ("", v.step)}
    chunks = {id: _lost_chunks(store, digests) for id, digests in own.items()}
    read = {task.scenario_version for task in ledger.tasks(record.trace_id)} - made.keys()
    inputs = [] if step else [line for id in sorted(read) for line in _lost_inputs(workspace, id)]
    return Losses(
        checked=len(outputs) + len({digest for digests in own.values() for digest in digests}),
        outputs=tuple(lost_outputs(store, outputs)),
        manifests=manifests,
        chunks={id: lost for id, lost in chunks.items() if lost},
        inputs=tuple(inputs),
    )


def own_chunks(workspace: Workspace, version: VersionRecord) -> list[str]:
    """Return the digests of a version's content that its parent does not have."""
    before = workspace.scenarios.chunks(version.parent) if version.parent else {}
    shared = {chunk.digest for chunk in before.values()}
    return [c.digest for c in workspace.scenarios.chunks(version.id).values() if c.digest not in shared]


def _lost_chunks(store: ResultStore, digests: Iterable[str]) -> tuple[str, ...]:
    return tuple(digest for digest in digests if chunk_state(store, digest) is not FileState.COMMITTED)


def _lost_inputs(workspace: Workspace, version_id: str) -> Iterator[str]:
    """Say what is lost of a version that the run reads, and of its ancestors, and who can make it again."""
    for version in workspace.scenarios.chain(version_id):
        lost = _lost_chunks(workspace.store, own_chunks(workspace, version))
        if lost:
            remedy = f"`bos rebuild {version.trace_id[:8]}` makes it" if version.trace_id else "import it again"
            yield f"content of {version.label} is lost ({len(lost)} files): {remedy}"


def _has_manifest(store: ResultStore, task: TaskRecord, outputs: list[Output]) -> bool:
    address, data = manifest(task, outputs)
    try:
        return store.get(address) == data
    except NotFoundError:
        return False


def read_output(store: ResultStore, output: Output) -> tuple[FileState, bytes]:
    """Read an output's file and compare it with the ledger; return its state and bytes (none when missing)."""
    try:
        data = store.get(output.address)
    except NotFoundError:
        return FileState.MISSING, b""
    return state_of(data, output), data


def state_of(data: bytes, output: Output) -> FileState:
    """Compare bytes with what the ledger says of an output."""
    same = hashlib.sha256(data).hexdigest() == output.sha256
    return FileState.COMMITTED if same else FileState.CHANGED


def lost_outputs(store: ResultStore, outputs: Iterable[Output]) -> list[Loss]:
    """Return the outputs whose file is missing or changed; reads every file."""
    states = ((output, read_output(store, output)[0]) for output in outputs)
    return [Loss(output, state) for output, state in states if state is not FileState.COMMITTED]


def chunk_state(store: ResultStore, digest: str) -> FileState:
    """Compare the content of a scenario chunk with its digest; reads the file."""
    try:
        same = table_digest(store.get_table(store.chunk_address(digest))) == digest
    except NotFoundError:
        return FileState.MISSING
    except StorageError:  # no Parquet any more
        return FileState.CHANGED
    return FileState.COMMITTED if same else FileState.CHANGED
