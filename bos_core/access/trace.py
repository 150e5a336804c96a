"""Where a value comes from: task, attempt, program, process, scenario versions, back to the import.

`trace` answers for whatever an address names: a value, a step, a run, a scenario version; `trace_file` for a file.
Values are read from the file that the ledger names, and the file is compared with the ledger.
"""

from __future__ import annotations

import difflib
import io
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bos_core.access.audit import FileState, chunk_state, read_output, state_of
from bos_core.access.scenario_data import ScenarioReader
from bos_core.access.store import ResultStore
from bos_core.access.value_rows import ELEMENT, ElementNames, matching, owner_column, shown_rows, value_columns
from bos_core.access.workspace import Workspace
from bos_core.index.containers import ContainerIndex
from bos_core.index.lineage import Lineage
from bos_core.index.records import Output, TaskRecord
from bos_core.index.scenarios import Chunk, VersionRecord
from bos_core.objects.address import ValueAddress
from bos_core.objects.container import Container, Server
from bos_core.objects.errors import Finding, NotFoundError, OptionError
from bos_core.objects.ontology import SERIES

ROWS_SHOWN = 10
PARTS_NAMED = 5
PART = "part"
"""Key that names one task of a step by its part of the work: several may hold the same hour, in a look-ahead."""

NEWEST = ("", "last")
_SERIES_VALUE = "value"


@dataclass(frozen=True)
class TracedFile:
    """The file that values were read from.

    Attributes
    ----------
    address, digest : str
        Where it lies in the store; sha256 of its bytes (outputs) or of its content (chunks of a version).
    state : FileState
        What the comparison with the index says.
    """

    address: str
    digest: str
    state: FileState


@dataclass(frozen=True)
class TracedRows:
    """Rows of one file that an address names.

    Attributes
    ----------
    address : str
        Address of the value, or of the rows.
    units : mapping of str to str
        Value columns with their units.
    rows : tuple of mapping
        Column to value, elements by name; the first `ROWS_SHOWN`.
    total : int
        How many rows there are.
    files : tuple of TracedFile
        Those that the rows were read from.
    task_id : str
        Whose output it is; empty for content of a version that no task committed.
    """

    address: str
    units: Mapping[str, str]
    rows: tuple[Mapping[str, Any], ...]
    total: int
    files: tuple[TracedFile, ...]
    task_id: str

    @property
    def bad_files(self) -> list[TracedFile]:
        """Files that are not what was committed."""
        return [file for file in self.files if file.state is not FileState.COMMITTED]


@dataclass(frozen=True)
class TracedContainer:
    """The container in which a task was carried out; of a process by itself, image and digest are empty."""

    id: str
    name: str
    server: str
    image: str
    image_digest: str


@dataclass(frozen=True)
class TracedTask:
    """A task, who carried it out, and what it needed.

    Attributes
    ----------
    program_address : str
        Where the code lies, ``repository:path@commit``; empty where nobody recorded it.
    executor : str
        In words: process and host, container and image.
    container : TracedContainer or None
        None: no monitor has seen who carried it out.
    needs : tuple of str
        Chunks and ids of the tasks that it needed, directly or through others.
    """

    id: str
    step: str
    chunk: str
    state: str
    attempt: int
    message: str
    started_s: float | None
    wall_s: float
    slot: str
    program: str
    program_version: str
    program_digest: str
    program_address: str
    parameters: Mapping[str, Any]
    scenario_version: str
    executor: str
    container: TracedContainer | None
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A table or series that a version does not share with its parent."""

    name: str
    kind: str


@dataclass(frozen=True)
class TracedVersion:
    """A scenario version, who made it, and how it differs from its parent.

    Attributes
    ----------
    programs : tuple of str
        ``slot/name version digest`` of the step that made it.
    tasks : int
        How many tasks that step had.
    chunks : tuple of str
        Those that worked on the hour in question; empty when there is none.
    changes : tuple of Change
    """

    label: str
    id: str
    digest: str
    parent: str
    trace_id: str
    step: str
    message: str
    created_s: float
    tasks: int
    programs: tuple[str, ...]
    chunks: tuple[str, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class TracedRun:
    """Who asked for what."""

    trace_id: str
    business: str
    state: str
    user: str
    project: str
    scenario: str
    created_s: float
    request: Mapping[str, Any]


@dataclass(frozen=True)
class Trace:
    """What is known of the origin of what an address names.

    Attributes
    ----------
    address : str
    found : tuple of TracedRows
        Values; empty when the address names none.
    tasks : tuple of TracedTask
        That made the values; else those that the address names.
    run : TracedRun or None
        That the tasks belong to.
    versions : tuple of TracedVersion
        The version that the tasks read, or that the address names, and its ancestors back to the import.
    notes : tuple of str
        What else one should know.
    """

    address: str
    found: tuple[TracedRows, ...]
    tasks: tuple[TracedTask, ...]
    run: TracedRun | None
    versions: tuple[TracedVersion, ...]
    notes: tuple[str, ...] = ()

    @property
    def bad_files(self) -> list[TracedFile]:
        """Files that are not what was committed."""
        return [file for rows in self.found for file in rows.bad_files]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


def trace(workspace: Workspace, address: ValueAddress) -> Trace:
    """Tell where something comes from.

    Raises
    ------
    NotFoundError
        No such run, step, output, version, series, element, or no row that fits.
    OptionError
        For a key that the rows do not have.
    """
    hour = _hour(address)
    if address.is_of_version:
        return _version_trace(workspace, address, hour)
    sets = workspace.ledger.task_sets(1) if address.root in NEWEST else []
    if address.root in NEWEST and not sets:
        raise NotFoundError("there is no run yet; start one with `bos demo` or `bos run`")
    record = sets[0] if sets else workspace.ledger.task_set(address.root)
    named = replace(address, root=record.trace_id[:8])
    tasks = _tasks(workspace, record.trace_id, named)
    if named.keys.keys() - {"hour", PART} or named.output or named.column:
        found = _found_in_outputs(workspace, named, tasks)
        tasks = [task for task in tasks if task.id in {rows.task_id for rows in found}]
        told = _of_tasks(workspace, str(named), found, tasks, hour)
        return replace(told, notes=_verified_again(workspace, record.trace_id, named, hour))
    if named.part:
        return _of_tasks(workspace, str(named), (), tasks, hour)
    newest = workspace.scenarios.versions(trace_id=record.trace_id)
    last = (
        max(newest, key=lambda version: version.number).id if newest else record.parameters.get("scenario_version")
    )
    versions = traced_versions(workspace, str(last), hour) if last else ()
    return Trace(str(named), (), (), _run(workspace, record.trace_id), versions)


def trace_task(workspace: Workspace, task_id: str) -> Trace:
    """Tell where a task comes from."""
    record = workspace.ledger.task(task_id)
    return _of_tasks(workspace, f"{record.task_set[:8]}/{record.step}", (), [record], None)


def trace_file(workspace: Workspace, address: str, data: bytes | None = None) -> Trace:
    """Tell where a Parquet file comes from.

    Parameters
    ----------
    address : str
        In the store; or a name to show for `data`.
    data : bytes, optional
        A copy of a file that lies elsewhere: what its schema says of its origin leads to the ledger.

    Raises
    ------
    NotFoundError
        The file was not made here.
    """
    lineage = Lineage(workspace.engine)
    if data is not None:
        metadata = _metadata(address, data)
        if b"bos.address" not in metadata:
            raise NotFoundError(f"{address} does not say which task made it; give its address in the store")
        at = metadata[b"bos.address"].decode()
    else:
        at = address
    if at.startswith("chunks/"):
        return _chunk_trace(workspace, at)
    place = lineage.output_at(at)
    if place is None:
        raise NotFoundError(f"no committed output lies at {at}; `bos ps` lists the runs of this index")
    task_id, name = place
    output = next(o for o in workspace.ledger.task_outputs(task_id) if o.name == name)
    record = workspace.ledger.task(task_id)
    names = _names(workspace, record)
    named = ValueAddress(record.task_set[:8], (record.step, name))
    found = _rows_of(workspace, named, output, names, data)
    return _of_tasks(workspace, str(named), (found,), [record], None)


# --- values of runs


def _hour(address: ValueAddress) -> int | None:
    text = address.keys.get("hour")
    if text is None:
        return None
    if not text.isdecimal():
        finding = Finding("key", (f"hour={text}",), f"{text!r} is no hour of the year", "give 0 to 8759")
        raise OptionError((finding,))
    return int(text)


def _tasks(workspace: Workspace, trace_id: str, address: ValueAddress) -> list[TaskRecord]:
    """Return the tasks of a step, or all, that work on the hour; the one part where an address names it."""
    step, hour = address.part, _hour(address)
    found = workspace.ledger.tasks(trace_id, step or None)
    if not found:
        known = ", ".join(report.step for report in workspace.ledger.report(trace_id)) or "none yet"
        raise NotFoundError(f"run {trace_id[:8]} has no step {step!r}; it has: {known}")
    if PART in address.keys:
        named = [task for task in found if task.chunk == address.keys[PART]]
        if not named:
            known = "; ".join(task.chunk for task in found[:PARTS_NAMED])
            raise NotFoundError(f"step {step} has no part {address.keys[PART]!r}; it has: {known}")
        return named
    covering = [task for task in found if covers(task, hour)]
    if not covering:
        starts = [int(task.parameters["start"]) for task in found if "start" in task.parameters]
        stops = [int(task.parameters["stop"]) for task in found if "stop" in task.parameters]
        raise NotFoundError(
            f"no task of run {trace_id[:8]} works on hour {hour}; it has hours {min(starts)} to {max(stops) - 1}"
        )
    return covering


def covers(task: TaskRecord, hour: int | None) -> bool:
    """Whether a task works on an hour; one that is not cut by hours does."""
    low, high = task.parameters.get("start"), task.parameters.get("stop")
    return hour is None or low is None or high is None or int(low) <= hour < int(high)


def _found_in_outputs(
    workspace: Workspace, address: ValueAddress, tasks: Sequence[TaskRecord]
) -> tuple[TracedRows, ...]:
    """Read the rows that an address names from every output that may hold them."""
    records = {task.id: task for task in tasks}
    named = [o for task in tasks for o in workspace.ledger.task_outputs(task.id) if _is_meant(o, address)]
    if not named:
        steps = sorted({task.step for task in tasks})
        outputs = sorted({o.name for task in tasks for o in workspace.ledger.task_outputs(task.id)})
        what = (
            f"output {address.output!r}" if address.output else f"output with {', '.join(address.keys) or 'that'}"
        )
        what += f" and column {address.column!r}" if address.column else ""
        raise NotFoundError(
            f"step {', '.join(steps)} of run {address.root} has no committed {what}; it has: "
            f"{', '.join(outputs) or 'none'}"
        )
    found = []
    for output in named:
        record = records[output.task_id]
        place = replace(address, parts=(record.step, output.name))
        if [other.name for other in named].count(output.name) > 1:
            place = place.with_keys(part=record.chunk)
        rows = _rows_of(workspace, place, output, _names(workspace, record))
        if rows.total or rows.bad_files:
            found.append(rows)
    if not found:
        names = ", ".join(sorted({output.name for output in named}))
        raise NotFoundError(
            f"no row of {names} fits {address}: what was not violated or not kept in that hour has none"
        )
    return tuple(found)


def _verified_again(
    workspace: Workspace, trace_id: str, address: ValueAddress, hour: int | None
) -> tuple[str, ...]:
    """Say where the values of an hour are that was adjusted after its verification."""
    if address.part != "n1_verification" or hour is None:
        return ()
    adjusted = workspace.ledger.tasks(trace_id, "state_adjustment")
    if not any(hour in task.parameters.get("failing", ()) for task in adjusted):
        return ()
    output = f"verified.{address.output}" if address.output else ""
    after = replace(address, parts=tuple(filter(None, ("state_adjustment", output))))
    return (f"hour {hour} was adjusted and verified again, which the report shows as well: bos trace '{after}'",)


def _is_meant(output: Output, address: ValueAddress) -> bool:
    """Whether an output may hold what an address names, by its name and its columns."""
    if address.output:
        return output.name == address.output
    quantity = output.name.rsplit(".", 1)[-1] if _SERIES_VALUE in output.columns else ""
    columns = set(output.columns)
    if address.column and address.column not in columns | {quantity}:
        return False
    owner = owner_column(columns)
    return all(owner if key == ELEMENT else key in columns for key in address.keys.keys() - {PART})


def _rows_of(
    workspace: Workspace, address: ValueAddress, output: Output, names: ElementNames, data: bytes | None = None
) -> TracedRows:
    """Read the rows of an output, from its file or from the bytes of a copy."""
    state, data = read_output(workspace.store, output) if data is None else (state_of(data, output), data)
    file = TracedFile(output.address, output.sha256, state)
    try:
        table = pq.read_table(io.BytesIO(data)) if state is not FileState.MISSING else None
    except (pa.ArrowInvalid, OSError):
        table = None
    if table is None:
        return TracedRows(str(address), {}, (), 0, (file,), output.task_id)
    return _traced_rows(address, table, names, (file,), output.task_id)


def _traced_rows(
    address: ValueAddress, table: pa.Table, names: ElementNames, files: tuple[TracedFile, ...], task_id: str
) -> TracedRows:
    table = matching(table, {key: text for key, text in address.keys.items() if key != PART}, names)
    columns = value_columns(table.column_names)
    if address.column and address.column in columns:
        columns = [address.column]
    elif address.column and _SERIES_VALUE in columns:
        columns = [_SERIES_VALUE]
    elif address.column:
        finding = Finding("column", (address.column,), "is not in these rows", f"they have: {', '.join(columns)}")
        raise OptionError((finding,))
    if "loading" in columns:
        table = table.sort_by([("loading", "descending")])
    kept = [
        name for name in table.column_names if name in columns or name not in value_columns(table.column_names)
    ]
    rows = shown_rows(table.select(kept).slice(0, ROWS_SHOWN), names)
    units = {name: (table.schema.field(name).metadata or {}).get(b"unit", b"").decode() for name in columns}
    if table.num_rows == 1:
        keys = {name: str(value) for name, value in rows[0].items() if name not in columns and value is not None}
        keys |= {key: text for key, text in address.keys.items() if key == PART}
        address = replace(address, keys=keys, column=columns[0] if len(columns) == 1 else address.column)
    return TracedRows(str(address), units, tuple(rows), table.num_rows, files, task_id)


def _names(workspace: Workspace, record: TaskRecord) -> ElementNames:
    """Return the names that a task's results count by: of the version it read, then of the one its step made."""
    made = [v for v in workspace.scenarios.versions(trace_id=record.task_set) if v.step == record.step]
    return ElementNames([workspace.reader(id) for id in (record.scenario_version, *(v.id for v in made))])


# --- values of versions


def _version_trace(workspace: Workspace, address: ValueAddress, hour: int | None) -> Trace:
    reader = workspace.reader(address.root)
    if not address.part:
        return _of_version(workspace, str(address), (), reader.version, hour)
    if not reader.has(address.part):
        known = [*reader.series_names(), *reader.tables()]
        near = difflib.get_close_matches(address.part, known) or known
        raise NotFoundError(
            f"version {address.root} has no table or series {address.part!r}; it has: {', '.join(near)}"
        )
    names = ElementNames([reader])
    if address.part in reader.ontology:
        chunk = workspace.scenarios.chunks(reader.id)[f"table/{address.part}"]
        table, read = reader.table(address.part), [ResultStore.chunk_address(chunk.digest)]
    else:
        table, read = _series_rows(reader, address, names, hour)
    files = tuple(_traced_chunk(workspace, at) for at in read)
    if address.part in reader.ontology and ELEMENT in address.keys and "id" not in table.column_names:
        finding = Finding(
            "key", (ELEMENT,), f"is no column of {address.part}", f"it has: {', '.join(table.column_names)}"
        )
        raise OptionError((finding,))
    found = _traced_rows(address, table, names, files, "")
    if not found.total:
        raise NotFoundError(f"no row fits {address}")
    return _written_by(workspace, reader, found, hour)


def _traced_chunk(workspace: Workspace, address: str) -> TracedFile:
    digest = address.rpartition("/")[2].removesuffix(".parquet")
    return TracedFile(address, digest, chunk_state(workspace.store, digest))


def _series_rows(
    reader: ScenarioReader, address: ValueAddress, names: ElementNames, hour: int | None
) -> tuple[pa.Table, list[str]]:
    """Return hour, element and value of a series, and the addresses of the files that they were read from."""
    name = address.part
    unknown = tuple(key for key in address.keys if key not in ("hour", ELEMENT))
    if unknown or not address.keys:
        problem = "are no keys of a series" if unknown else "names every value of the series"
        raise OptionError((Finding("key", unknown or (str(address),), problem, "give hour, element or both"),))
    ids = reader.elements(name).tolist()
    if ELEMENT in address.keys:
        wanted = [address.keys[ELEMENT]] if address.keys[ELEMENT] in ids else names.ids(address.keys[ELEMENT])
        ids = [i for i in wanted if i in set(ids)]
        if not ids:
            raise NotFoundError(f"series {name} of {address.root} has no element {address.keys[ELEMENT]!r}")
    series = reader.series(name, None if hour is None else slice(hour, hour + 1), ids)
    assert reader.last_plan is not None
    hours = [h for h in range(series.hours.start, series.hours.stop) for _ in ids]
    value = pa.field(_SERIES_VALUE, SERIES[name].type, metadata={"unit": SERIES[name].unit})
    schema = pa.schema([pa.field("hour", pa.int64()), pa.field(ELEMENT, pa.string()), value])
    columns = [hours, ids * (series.hours.stop - series.hours.start), series.values.ravel().tolist()]
    return pa.table(columns, schema=schema), list(reader.last_plan.addresses)


def _written_by(workspace: Workspace, reader: ScenarioReader, found: TracedRows, hour: int | None) -> Trace:
    """Find the version and the task that wrote rows of a version: most versions only share them."""
    name = found.address.partition("[")[0].rpartition("/")[2]
    version, parent = reader.version, None
    while version.parent is not None:
        parent = workspace.scenarios.get(version.parent)
        committed = (
            _committed(workspace, version, name, hour, found) if not _shares(workspace, version, name) else None
        )
        if committed is not None:
            record = workspace.ledger.task(committed.task_id)
            return _of_tasks(workspace, found.address, (found, committed), [record], hour)
        if not _shares(workspace, version, name) and not _same_in(workspace, parent, name, hour, found):
            break
        version = parent
    return _of_version(workspace, found.address, (found,), version, hour)


def _shares(workspace: Workspace, version: VersionRecord, name: str) -> bool:
    """Whether a version has a table or series from its parent."""
    if version.parent is None:
        return False
    own, before = (_chunks_of(workspace.scenarios.chunks(id), name) for id in (version.id, version.parent))
    return own == before


def _chunks_of(chunks: Mapping[str, Chunk], name: str) -> dict[str, str]:
    return {key: chunk.digest for key, chunk in chunks.items() if key.split("/")[1] == name}


def _committed(
    workspace: Workspace, version: VersionRecord, name: str, hour: int | None, found: TracedRows
) -> TracedRows | None:
    """Return the rows as a task of the version's step committed them; None where none did."""
    hours = {} if hour is None else {"hour": str(hour)}
    element = {ELEMENT: str(found.rows[0][ELEMENT])} if found.total == 1 and ELEMENT in found.rows[0] else {}
    outputs = [
        (task, output)
        for task in workspace.ledger.tasks(version.trace_id, version.step)
        if version.trace_id and covers(task, hour)
        for output in workspace.ledger.task_outputs(task.id)
        if output.name == name or output.name.endswith(f".{name}")
        if not element or owner_column(output.columns)
    ]
    for task, output in sorted(outputs, key=_precedence):
        address = ValueAddress(task.task_set[:8], (task.step, output.name), {**hours, **element})
        rows = _rows_of(workspace, address, output, _names(workspace, task))
        if rows.total and (rows.total > 1 or not element or _equal(rows, found)):
            return rows
    return None


def _precedence(pair: tuple[TaskRecord, Output]) -> tuple[int, int]:
    """Sort key: a repaired day comes before a day, a day before the month around it."""
    task, output = pair
    low, high = (int(task.parameters.get(edge, 0)) for edge in ("start", "stop"))
    return -len(output.name), high - low


def _same_in(workspace: Workspace, version: VersionRecord, name: str, hour: int | None, found: TracedRows) -> bool:
    """Whether a version holds the same value of one element and hour."""
    reader = workspace.reader(version.id)
    if hour is None or found.total != 1 or ELEMENT not in found.rows[0] or not reader.has_series(name):
        return False
    if not reader.hours(name).start <= hour < reader.hours(name).stop:
        return False
    address = ValueAddress(version.label, (name,), {"hour": str(hour), ELEMENT: str(found.rows[0][ELEMENT])})
    try:
        table, _ = _series_rows(reader, address, ElementNames([reader]), hour)
    except NotFoundError:
        return False
    return _same(table[_SERIES_VALUE][0].as_py(), found.rows[0][_SERIES_VALUE])


def _equal(rows: TracedRows, found: TracedRows) -> bool:
    return _same(rows.rows[0].get(_SERIES_VALUE), found.rows[0].get(_SERIES_VALUE))


def _same(a: Any, b: Any) -> bool:
    """Whether two values are equal; what is unknown (null in outputs, NaN in series) equals what is unknown."""
    unknown = [value is None or (isinstance(value, float) and math.isnan(value)) for value in (a, b)]
    return all(unknown) if any(unknown) else bool(a == b)


def _chunk_trace(workspace: Workspace, address: str) -> Trace:
    digest = address.rpartition("/")[2].removesuffix(".parquet")
    uses = Lineage(workspace.engine).versions_with(digest)
    if not uses:
        raise NotFoundError(f"no scenario version holds {address}; `bos scenarios` lists the versions")
    first, key = uses[0]
    version = workspace.scenarios.get(first)
    named = ValueAddress(version.label, (key.split("/")[1],))
    rows = workspace.scenarios.chunks(first)[key].rows
    found = TracedRows(str(named), {}, (), rows, (_traced_chunk(workspace, address),), "")
    return _of_version(workspace, str(named), (found,), version, None)


# --- tasks, runs and versions


def _of_tasks(
    workspace: Workspace,
    address: str,
    found: tuple[TracedRows, ...],
    tasks: Sequence[TaskRecord],
    hour: int | None,
) -> Trace:
    newest = max(tasks, key=lambda task: workspace.scenarios.get(task.scenario_version).number)
    lineage = Lineage(workspace.engine)
    ran_in = ContainerIndex(workspace.engine).holders(task.holder for task in tasks)
    return Trace(
        address,
        found,
        tuple(_task(workspace, lineage, task, ran_in.get(task.holder)) for task in tasks),
        _run(workspace, newest.task_set),
        traced_versions(workspace, newest.scenario_version, hour),
    )


def _of_version(
    workspace: Workspace, address: str, found: tuple[TracedRows, ...], version: VersionRecord, hour: int | None
) -> Trace:
    run = _run(workspace, version.trace_id) if version.trace_id else None
    return Trace(address, found, (), run, traced_versions(workspace, version.id, hour))


def _task(
    workspace: Workspace, lineage: Lineage, task: TaskRecord, ran_in: tuple[Container, Server] | None
) -> TracedTask:
    needs = [workspace.ledger.task(id) for id in lineage.upstream(task.id)]
    container = None
    if ran_in is not None:
        seen, server = ran_in
        container = TracedContainer(seen.id, seen.name, server.name, seen.image, seen.image_digest)
    return TracedTask(
        id=task.id,
        step=task.step,
        chunk=task.chunk,
        state=task.state.value,
        attempt=task.attempt,
        message=task.message,
        started_s=task.started_s,
        wall_s=task.wall_s,
        slot=task.slot,
        program=task.program,
        program_version=task.program_version,
        program_digest=task.program_digest,
        program_address=_program_address(workspace, task),
        parameters=task.parameters,
        scenario_version=workspace.scenarios.get(task.scenario_version).label,
        executor=_executor(task.holder, container),
        container=container,
        needs=tuple(f"{need.step} {need.chunk} {need.id}" for need in needs),
    )


def _executor(holder: str, container: TracedContainer | None) -> str:
    if not holder:
        return "nobody yet"
    host, _, process = holder.partition("/")
    said = f"process {process.partition('/')[0]} on {host}"
    if container is None:
        return f"{said}; no container, no image"
    image = f"image {container.image}, {container.image_digest}" if container.image else "no image"
    return f"{said}; container {container.name} of server {container.server}, {image}"


def _program_address(workspace: Workspace, task: TaskRecord) -> str:
    with suppress(NotFoundError):
        return workspace.programs.get(task.slot, task.program, task.program_digest).storage_address
    return ""


def _run(workspace: Workspace, trace_id: str) -> TracedRun:
    record = workspace.ledger.task_set(trace_id)
    return TracedRun(
        record.trace_id,
        record.business,
        record.state.value,
        record.user,
        record.project,
        record.scenario,
        record.created_s,
        record.request,
    )


def traced_versions(workspace: Workspace, version_id: str, hour: int | None = None) -> tuple[TracedVersion, ...]:
    """Return a version and its ancestors back to the first, with who made each and what it changed."""
    chain = workspace.scenarios.chain(version_id)
    chunks = [workspace.scenarios.chunks(version.id) for version in chain]
    found = []
    for k, version in enumerate(chain):
        tasks = workspace.ledger.tasks(version.trace_id, version.step) if version.trace_id else []
        cut = [task for task in tasks if hour is not None and "start" in task.parameters and covers(task, hour)]
        used = {f"{t.slot}/{t.program} {t.program_version} {t.program_digest}" for t in tasks}
        found.append(
            TracedVersion(
                label=version.label,
                id=version.id,
                digest=version.digest,
                parent=chain[k + 1].label if k + 1 < len(chain) else "",
                trace_id=version.trace_id,
                step=version.step,
                message=version.message,
                created_s=version.created_s,
                tasks=len(tasks),
                programs=tuple(sorted(used)),
                chunks=tuple(task.chunk for task in cut),
                changes=tuple(changes(chunks[k + 1] if k + 1 < len(chain) else {}, chunks[k])),
            )
        )
    return tuple(found)


def changes(before: Mapping[str, Chunk], after: Mapping[str, Chunk]) -> list[Change]:
    """Return which tables and series differ between two versions' chunks."""

    def by_name(chunks: Mapping[str, Chunk]) -> dict[str, list[Chunk]]:
        found: dict[str, list[Chunk]] = {}
        for key in sorted(chunks):
            found.setdefault(key.split("/")[1], []).append(chunks[key])
        return found

    old, new, found = by_name(before), by_name(after), []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name, []), new.get(name, [])
        if [chunk.digest for chunk in a] != [chunk.digest for chunk in b]:
            kind = "added" if not a else "removed" if not b else "changed"
            found.append(Change(name, kind))
    return found


def _metadata(name: str, data: bytes) -> Mapping[bytes, bytes]:
    try:
        return pq.read_schema(io.BytesIO(data)).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise NotFoundError(
            f"{name} is no Parquet file that can be read ({str(error).splitlines()[0]})"
        ) from error
