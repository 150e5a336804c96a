"""Add a program to the custom repository, promote it to the official one, take it out again.

Each step prepares its commits first; one transaction of the index then makes all of it count, and the branches of
the repositories follow. Whatever breaks off before that transaction has done nothing; what breaks off after it is
brought up by the next step, or by `bos doctor --programs`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.engine import Connection

from bos_core.index.extensions import Held, held_values, migrate_ontology
from bos_core.index.lineage import Lineage
from bos_core.index.programs import (
    PRESENT,
    Action,
    ProgramChange,
    ProgramRecord,
    extensions,
    ontology_after,
    present,
)
from bos_core.objects.contracts import ProgramManifest
from bos_core.objects.errors import ConflictError, Finding, NotFoundError, OptionError, raise_if_any
from bos_core.objects.extension import check_together, to_json
from bos_core.objects.task import TaskState
from bos_core.objects.text import check_texts
from bos_core.programs import registry
from bos_core.programs.catalogue import CUSTOM, OFFICIAL, Catalogue, heads
from bos_core.programs.declaration import declared
from bos_core.programs.probe import probe

ATTEMPTS = 5
"""How often a step is prepared again when others change the programs at the same time."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Added:
    """What came of adding a file: the program's change, and whether the repository had just this file already."""

    change: ProgramChange
    is_new: bool


def add(catalogue: Catalogue, path: Path, slot: str = "", message: str = "", drop_values: bool = False) -> Added:
    """Check a program file and put it into the custom repository, as a commit.

    Parameters
    ----------
    path : Path
        ``<name of the program>.py``.
    slot : str
        The slot that it shall fill; default: what it says itself.
    message : str
        Why.
    drop_values : bool
        Go on where it no longer adds to the ontology what scenarios hold values of.

    Raises
    ------
    OptionError
        With everything that is wrong with the file; nothing is changed then.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        finding = Finding("file", (str(path),), f"cannot be read: {error.strerror}", "give the path of a .py file")
        raise OptionError((finding,)) from None
    name = path.stem
    raise_if_any(_wrong_file(path) + check_texts("option", {"message": message}), OptionError)
    found = declared(source, name, slot)
    raise_if_any(found.findings, OptionError)
    manifest = found.manifest
    schema, findings = probe(manifest.slot, path.absolute())
    raise_if_any(findings, OptionError)
    return _again(lambda: _add(catalogue, manifest, source, schema, message, drop_values))


def _wrong_file(path: Path) -> list[Finding]:
    if path.suffix == ".py":
        return []
    return [Finding("file", (path.name,), "is no .py file", "give the program as one file, NAME.py")]


def _add(
    catalogue: Catalogue,
    manifest: ProgramManifest,
    source: bytes,
    schema: dict[str, Any],
    message: str,
    drop_values: bool,
) -> Added:
    changes = catalogue.index.changes()
    catalogue.follow()
    slot, name, digest = manifest.slot, manifest.name, hashlib.sha256(source).hexdigest()
    old = present(changes).get((slot, name))
    if old is not None and old.digest == digest:
        return Added(old, is_new=False)
    findings = _same_version(manifest, changes, digest) + _other_columns(manifest, changes)
    raise_if_any(findings, OptionError)
    message = message or f"{slot}/{name} {manifest.version}"
    commit = _commit(catalogue, CUSTOM, changes, {_path(slot, name): source}, message)
    change = ProgramChange(
        CUSTOM, commit, slot, name, Action.ADDED, manifest.version, digest, _declaration(manifest, schema),
        catalogue.workspace.settings.user, message,
    )  # fmt: skip
    record = ProgramRecord(
        slot,
        name,
        registry.file_digest(slot, name, source),
        manifest.version,
        manifest.title,
        manifest.description,
        "model" if manifest.extends else registry.contract(slot).kind,
        manifest.elements,
        manifest.references,
        schema,
        change.address,
    )
    _commit_with_ontology(catalogue, changes, [change], record, drop_values)
    return Added(change, is_new=True)


def _other_columns(manifest: ProgramManifest, changes: tuple[ProgramChange, ...]) -> list[Finding]:
    """Refuse additions to the ontology that another program declares otherwise."""
    own = f"{manifest.slot}/{manifest.name}"
    others = {program: added for program, added in extensions(changes).items() if program != own}
    return check_together({**others, own: manifest.extends})


def _commit_with_ontology(
    catalogue: Catalogue,
    changes: tuple[ProgramChange, ...],
    made: list[ProgramChange],
    record: ProgramRecord | None,
    drop_values: bool,
) -> None:
    """Make changes count, and with them the tables and columns that they bring and take, in one transaction."""
    before, after = (ontology_after(history) for history in (changes, (*changes, *made)))

    def migrate(connection: Connection) -> None:
        if not drop_values:
            raise_if_any([_in_use(held) for held in held_values(connection, before, after)], OptionError)
        migrate_ontology(connection, before, after)

    catalogue.index.commit(made, len(changes), record, migrate)
    catalogue.follow()


def _in_use(held: Held) -> Finding:
    scenarios = ", ".join(held.scenarios[:5]) + ", ..." * (len(held.scenarios) > 5)
    problem = f"holds values in {len(held.scenarios)} scenarios ({scenarios})"
    remedy = (
        "keep the program, or say --drop-values: nobody sees them then, until the program is added again to the "
        "versions that have them"
    )
    return Finding("ontology", (held.what,), problem, remedy)


def _same_version(manifest: ProgramManifest, changes: tuple[ProgramChange, ...], digest: str) -> list[Finding]:
    """Refuse other code under a version that official code had: people rely on it."""
    same = [
        c
        for c in changes
        if (c.slot, c.name, c.version) == (manifest.slot, manifest.name, manifest.version)
        and c.action is Action.PROMOTED
        and c.digest != digest
    ]
    problem = f"version {manifest.version} is official with other code"
    return [Finding("program", (manifest.name,), problem, "raise the version", "version")] if same else []


def promote(catalogue: Catalogue, reference: str, message: str = "") -> ProgramChange:
    """Move a program from the custom repository to the official one.

    It must have proved itself: its present code has finished a task here, and every task that it finished kept the
    contract of the slot.

    Raises
    ------
    NotFoundError
        If there is no such program.
    OptionError
        If it is official already or has not proved itself.
    """
    entry = catalogue.entry(reference)
    raise_if_any(check_texts("option", {"message": message}), OptionError)
    return _again(lambda: _promote(catalogue, entry.contract.name, entry.name, message))


def _promote(catalogue: Catalogue, slot: str, name: str, message: str) -> ProgramChange:
    changes = catalogue.index.changes()
    catalogue.follow()
    old = present(changes).get((slot, name))
    if old is None or old.repository == OFFICIAL:
        problem = "is official already" if old else "comes with BOS and is official"
        raise OptionError((Finding("program", (name,), problem, "only programs on trial are promoted"),))
    source = catalogue.source(old.address)
    declared_now = declared(source, name, slot)
    raise_if_any([*declared_now.findings, *_unproved(catalogue, slot, name)], OptionError)
    author, path = catalogue.workspace.settings.user, _path(slot, name)
    message = message or f"promote {slot}/{name} {old.version}"
    given = _commit(catalogue, OFFICIAL, changes, {path: source}, message)
    left = _commit(catalogue, CUSTOM, changes, {path: None}, message)
    moved = dataclasses.replace(
        old, commit=left, action=Action.MOVED, digest="", declaration={}, author=author, message=message
    )
    promoted = dataclasses.replace(
        old, repository=OFFICIAL, commit=given, action=Action.PROMOTED, author=author, message=message
    )
    program = catalogue.resolve(slot, name)
    record = dataclasses.replace(catalogue.index.get(slot, name, program.digest), storage_address=promoted.address)
    catalogue.index.commit([moved, promoted], len(changes), record)
    catalogue.follow()
    return promoted


def _unproved(catalogue: Catalogue, slot: str, name: str) -> list[Finding]:
    program = catalogue.resolve(slot, name)
    states = Lineage(catalogue.workspace.engine).states_of_program(slot, name, program.digest)
    if failed := states.get(TaskState.FAILED, 0):
        problem = f"{failed} tasks of its present code have failed"
        return [
            Finding(
                "program",
                (name,),
                problem,
                f"`bos uses {slot}/{name}` names the runs; correct it and add it again",
            )
        ]
    if not states.get(TaskState.SUCCESS):
        remedy = f"run it first: bos run ... --program {slot}={name}"
        return [Finding("program", (name,), "its present code has finished no task yet", remedy)]
    return []


def remove(
    catalogue: Catalogue, reference: str, message: str = "", drop_values: bool = False
) -> tuple[ProgramChange, ...]:
    """Take a program out of the repositories; what it made stays, and so does every commit.

    What it has added to the ontology is taken back, unless another program adds it too.

    Raises
    ------
    NotFoundError
        If there is no such program.
    OptionError
        If it comes with BOS, or scenarios hold values of what it has added and `drop_values` is False.
    """
    entry = catalogue.entry(reference)
    raise_if_any(check_texts("option", {"message": message}), OptionError)
    if entry.repository == registry.INSTALLED:
        problem = "comes with BOS"
        raise OptionError((Finding("program", (entry.name,), problem, "only what was added can be taken out"),))
    return _again(lambda: _remove(catalogue, entry.contract.name, entry.name, message, drop_values))


def _remove(
    catalogue: Catalogue, slot: str, name: str, message: str, drop_values: bool
) -> tuple[ProgramChange, ...]:
    changes = catalogue.index.changes()
    catalogue.follow()
    if (slot, name) not in present(changes):
        raise NotFoundError(f"program {slot}/{name} is gone already")
    last = {c.repository: c for c in changes if (c.slot, c.name) == (slot, name)}
    message = message or f"remove {slot}/{name}"
    author = catalogue.workspace.settings.user
    gone = [
        dataclasses.replace(
            change,
            commit=_commit(catalogue, change.repository, changes, {_path(slot, name): None}, message),
            action=Action.REMOVED,
            digest="",
            declaration={},
            author=author,
            message=message,
        )
        for change in last.values()
        if change.action in PRESENT
    ]
    _commit_with_ontology(catalogue, changes, gone, None, drop_values)
    return tuple(gone)


def _commit(
    catalogue: Catalogue,
    repository: str,
    changes: tuple[ProgramChange, ...],
    files: dict[str, bytes | None],
    message: str,
) -> str:
    author = catalogue.workspace.settings.user
    return catalogue.repositories[repository].prepare(heads(changes).get(repository), files, author, message)


def _path(slot: str, name: str) -> str:
    return f"{slot}/{name}.py"


def _declaration(manifest: ProgramManifest, schema: dict[str, Any]) -> dict[str, Any]:
    texts = ("title", "description", "references", "elements")
    said = {**{name: getattr(manifest, name) for name in texts}, "parameters": schema}
    return {**said, "extends": to_json(manifest.extends)} if manifest.extends else said


def _again(step: Callable[[], _Result]) -> _Result:
    """Carry out a step, prepared again where somebody else was first."""
    for _ in range(ATTEMPTS - 1):
        try:
            return step()
        except ConflictError:
            continue
    return step()
