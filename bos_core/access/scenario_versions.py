"""Branch, edit and merge scenarios: each makes a version in one transaction, or nothing.

Only the version that a scenario's bare name means can be edited or merged into: a change of an older one, or of
what a run has made, would silently leave out what came after it. Branch such a version first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from bos_core.access.scenario_data import ScenarioReader, ScenarioWriter
from bos_core.access.scenario_edit import Applied, Edit, TableCheck, apply_edits
from bos_core.access.scenario_merge import Merge, Settle
from bos_core.access.workspace import Workspace
from bos_core.index.scenarios import VersionRecord
from bos_core.objects.errors import ConflictError, Finding, NotFoundError, OptionError, raise_if_any

ATTEMPTS_MAX = 5
"""How often an edit is made again on top of what somebody else has committed meanwhile."""

MESSAGE_LENGTH_MAX = 200

_Note = TypeVar("_Note")


@dataclass(frozen=True)
class Edited:
    """What became of edits: the new version, or the old one when they changed nothing."""

    version: VersionRecord
    before: VersionRecord
    applied: Sequence[Applied]


@dataclass(frozen=True)
class Merged:
    """What became of a merge: the new version, or ours when theirs had nothing new."""

    version: VersionRecord
    before: VersionRecord
    ancestor: VersionRecord
    settled: Sequence[Finding]


@dataclass(frozen=True)
class LogEntry:
    """A version in the history of another, its parents' labels, and the bytes that it does not share with them."""

    version: VersionRecord
    parents: Sequence[str]
    delta_bytes: int


def branch(workspace: Workspace, source: str, name: str, message: str = "") -> VersionRecord:
    """Start a scenario with the content of a version; see `ScenarioIndex.branch`."""
    version = workspace.scenarios.get(source)
    return workspace.scenarios.branch(version, name, message or f"branch of {version.label}")


def edit(
    workspace: Workspace, reference: str, edits: Sequence[Edit], check: TableCheck, message: str = ""
) -> Edited:
    """Make edits of the version that a scenario's name means, as its next version.

    Edits by two at once are both kept: who comes second makes them again on top of the other's.

    Raises
    ------
    InputError
        With all findings.
    OptionError
        If the reference is not the version that its scenario's name means, or there are no edits.
    ConflictError
        If others keep committing.
    """
    if not edits:
        raise OptionError((Finding("edit", (), "there is none", "give --set or --file"),))

    def prepare(reader: ScenarioReader, writer: ScenarioWriter) -> tuple[Sequence[Applied], bool]:
        applied = apply_edits(reader, writer, edits, check)
        return applied, any(one.values for one in applied)

    said = message or shortened("; ".join(str(one) for one in edits))
    return Edited(*_as_next(workspace, reference, prepare, said))


def lay_over(
    workspace: Workspace,
    reference: str,
    change: Callable[[Mapping[str, pa.Table]], tuple[Mapping[str, pa.Table], Sequence[_Note]]],
    check: TableCheck,
    message: str,
) -> tuple[VersionRecord, VersionRecord, Sequence[_Note]]:
    """Change the tables of the version that a scenario's name means, as its next version.

    Parameters
    ----------
    change : callable
        Returns the tables changed, and what it has done to them.
    check : callable
        Finds what is wrong with the changed tables as a whole.

    Returns
    -------
    version, before, notes
        The new version, or the old one when nothing changed; what it was made from; what `change` has done.

    Raises
    ------
    InputError
        With all findings.
    OptionError
        If the reference is not the version that its scenario's name means.
    ConflictError
        If others keep committing.
    """

    def prepare(reader: ScenarioReader, writer: ScenarioWriter) -> tuple[Sequence[_Note], bool]:
        before = {name: reader.table(name) for name in reader.ontology}
        after, notes = change(before)
        raise_if_any(check(before, after))
        changed = [name for name, table in after.items() if not table.equals(before[name])]
        for name in changed:
            writer.put_table(name, after[name])
        return notes, bool(changed)

    return _as_next(workspace, reference, prepare, message)


def _as_next(
    workspace: Workspace,
    reference: str,
    prepare: Callable[[ScenarioReader, ScenarioWriter], tuple[Sequence[_Note], bool]],
    message: str,
) -> tuple[VersionRecord, VersionRecord, Sequence[_Note]]:
    """Commit what is prepared on top of a scenario's newest version, again where somebody else was first."""
    for last in (*[False] * (ATTEMPTS_MAX - 1), True):
        before = _head(workspace, reference)
        writer = workspace.writer(before.id)
        said, changed = prepare(workspace.reader(before.id), writer)
        if not changed:
            return before, before, said
        try:
            return workspace.scenarios.get(writer.commit(message, step="edit", head=before.id)), before, said
        except ConflictError:
            if last:
                raise
    raise AssertionError("unreachable")


def merge(
    workspace: Workspace,
    ours: str,
    theirs: str,
    check: TableCheck,
    into: str = "",
    settle: Settle | None = None,
    message: str = "",
) -> Merged:
    """Merge the changes of `theirs` since the nearest common ancestor into `ours`.

    Parameters
    ----------
    ours, theirs : str
        Version references; `ours` must be what its scenario's name means, unless `into` names a new scenario.
    into : str
        New scenario that gets the merged version.
    settle : Settle, optional
        Whose values count in a conflict.

    Raises
    ------
    MergeConflictError
        With all conflicts, when `settle` is not given.
    NotFoundError
        If there is no common ancestor.
    ConflictError
        If somebody else has committed to the scenario meanwhile, or `into` exists.
    """
    scenarios = workspace.scenarios
    mine = scenarios.get(ours) if into else _head(workspace, ours)
    other = scenarios.get(theirs)
    ancestor = scenarios.common_ancestor(mine.id, other.id)
    if ancestor is None:
        raise NotFoundError(
            f"{mine.label} and {other.label} have no common ancestor, so nothing tells who changed what; "
            "merge branches of one import"
        )
    if ancestor.id == other.id and not into:
        return Merged(mine, mine, ancestor, ())
    old, first, second = (workspace.reader(version.id) for version in (ancestor, mine, other))
    merging = Merge(old, first, second, settle)
    writer = workspace.writer(mine.id, into or None)
    merging.write(writer, check)
    said = message or f"merge of {other.label} into {mine.label}"
    version = writer.commit(said, step="merge", merged=other.id, head="" if into else mine.id)
    return Merged(scenarios.get(version), mine, ancestor, tuple(merging.conflicts))


def log(workspace: Workspace, reference: str) -> list[LogEntry]:
    """Return a version and all that it was made from, newest first."""
    scenarios = workspace.scenarios
    history, bytes_of = scenarios.history(scenarios.get(reference).id), scenarios.delta_bytes()
    label = {version.id: version.label for version in history}
    return [LogEntry(v, [label[p] for p in v.parents], bytes_of.get(v.id, 0)) for v in history]


def _head(workspace: Workspace, reference: str) -> VersionRecord:
    """Return the version, which must be the one that its scenario's bare name means."""
    version = workspace.scenarios.get(reference)
    if reference == version.scenario_name:
        return version
    head = workspace.scenarios.get(version.scenario_name)
    if head.id != version.id:
        problem = f"is not the version that {version.scenario_name!r} means, which is {head.label}"
        remedy = f"`bos scenario branch {version.label} NAME`, then change NAME"
        raise OptionError((Finding("scenario", (version.label,), problem, remedy),))
    return version


def shortened(text: str) -> str:
    """Return a text that fits into a message."""
    return text if len(text) <= MESSAGE_LENGTH_MAX else text[: MESSAGE_LENGTH_MAX - 3] + "..."
