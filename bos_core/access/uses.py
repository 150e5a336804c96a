"""What was made from a scenario version, a run, a task or a program: versions, runs, results, reports."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bos_core.access.workspace import Workspace
from bos_core.index.lineage import Downstream, Lineage, StepUse
from bos_core.index.scenarios import VersionRecord
from bos_core.objects.errors import NotFoundError

_PREFIX_LENGTH_MIN = 6


@dataclass(frozen=True)
class UsedStep:
    """Tasks of one step of a run: what they read, and the version that their results became.

    Attributes
    ----------
    reads, made : str
        Labels of versions; `made` is empty when the step makes none, or has not yet.
    outputs, rows, bytes : int
        Of committed results.
    """

    trace_id: str
    step: str
    tasks: int
    succeeded: int
    outputs: int
    rows: int
    bytes: int
    reads: str
    made: str


@dataclass(frozen=True)
class Uses:
    """All that was made from something.

    Attributes
    ----------
    what : str
        In words.
    steps : tuple of UsedStep
        In order of creation.
    versions : tuple of str
        Labels of all versions made, also of those that a user made by hand.
    runs : tuple of str
        Trace ids, also of runs that have no task yet.
    reports : tuple of str
        Files of reports of those runs.
    """

    what: str
    steps: tuple[UsedStep, ...]
    versions: tuple[str, ...]
    runs: tuple[str, ...]
    reports: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


def uses(workspace: Workspace, reference: str) -> Uses:
    """Tell what was made from something.

    Parameters
    ----------
    reference : str
        A scenario (all that was put into it), ``name@number``, a run, ``RUN/step``, a task, a program
        (``slot/name``, ``slot/name@digest``) or a digest. Ids may be shortened to six characters.

    Raises
    ------
    NotFoundError
        When nothing answers to the reference.
    """
    lineage = Lineage(workspace.engine)
    for find in (_scenario, _run, _task, _program):
        found = find(workspace, lineage, reference)
        if found is not None:
            return _uses(workspace, lineage, *found)
    raise NotFoundError(
        f"nothing is called {reference!r}; give a scenario version (`bos scenarios`), a run (`bos ps`), RUN/step, "
        "a task id, or a program as slot/name or digest (`bos programs`)"
    )


_Start = tuple[str, Collection[str], Collection[str], Collection[str]]
"""In words; versions and tasks to start from; tasks that count as made themselves."""


def _scenario(workspace: Workspace, lineage: Lineage, reference: str) -> _Start | None:
    if any(scenario.name == reference for scenario in workspace.scenarios.scenarios()):
        given = [version for version in workspace.scenarios.versions(reference) if not version.trace_id]
        if given:
            labels = ", ".join(version.label for version in given)
            return f"scenario {reference} as it was put in ({labels})", [v.id for v in given], (), ()
    try:
        version = workspace.scenarios.get(reference)
    except NotFoundError:
        return None
    return f"version {version.label}", [version.id], (), ()


def _run(workspace: Workspace, lineage: Lineage, reference: str) -> _Start | None:
    trace_id, _, step = reference.partition("/")
    try:
        record = workspace.ledger.task_set(trace_id)
    except NotFoundError:
        return None
    tasks = [task.id for task in workspace.ledger.tasks(record.trace_id, step.replace("-", "_") or None)]
    if step and not tasks:
        return None
    return f"run {record.trace_id}" + (f", step {step}" if step else ""), (), tasks, tasks


def _task(workspace: Workspace, lineage: Lineage, reference: str) -> _Start | None:
    found = lineage.tasks_starting_with(reference) if len(reference) >= _PREFIX_LENGTH_MIN else []
    if len(found) > 1:
        raise NotFoundError(f"task {reference!r} is not unique; give more of its id")
    if not found:
        return None
    record = workspace.ledger.task(found[0])
    return f"task {record.step} {record.chunk} of run {record.task_set}", (), found, found


def _program(workspace: Workspace, lineage: Lineage, reference: str) -> _Start | None:
    path, _, digest = reference.rpartition("@") if "@" in reference else (reference, "", "")
    slot, _, name = path.partition("/")
    if not name:
        slot, digest = "", reference
    if not name and len(digest) < _PREFIX_LENGTH_MIN:
        return None
    tasks = lineage.tasks_of_program(digest, slot, name)
    return (f"program {reference}", (), tasks, tasks) if tasks else None


def _uses(
    workspace: Workspace,
    lineage: Lineage,
    what: str,
    versions: Collection[str],
    tasks: Collection[str],
    made_tasks: Collection[str],
) -> Uses:
    found = lineage.downstream(versions, tasks)
    steps = lineage.steps(found.tasks | set(made_tasks))
    made = sorted((workspace.scenarios.get(id) for id in found.versions), key=_order)
    by_step = {(version.trace_id, version.step): version.label for version in made if version.trace_id}
    runs = _runs(workspace, found, steps)
    reports = (workspace.settings.home / "reports" / f"{run}.html" for run in runs)
    return Uses(
        what,
        tuple(_used(workspace, step, by_step) for step in steps),
        tuple(version.label for version in made),
        tuple(runs),
        tuple(str(path) for path in reports if Path(path).is_file()),
    )


def _order(version: VersionRecord) -> tuple[str, int]:
    return version.scenario_name, version.number


def _runs(workspace: Workspace, found: Downstream, steps: Collection[StepUse]) -> list[str]:
    ordered = dict.fromkeys(step.trace_id for step in steps)
    ordered.update(dict.fromkeys(sorted(found.trace_ids)))
    return list(ordered)


def _used(workspace: Workspace, step: StepUse, made: dict[tuple[str, str], str]) -> UsedStep:
    return UsedStep(
        step.trace_id,
        step.step,
        step.tasks,
        step.succeeded,
        step.outputs,
        step.rows,
        step.bytes,
        workspace.scenarios.get(step.scenario_version).label,
        made.get((step.trace_id, step.step), ""),
    )
