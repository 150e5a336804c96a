"""The program index: which programs exist, what they fill, and by which digest a task pinned them.

Programs that experts gave lie in two git repositories. The index says which commit each repository stands at and
what became of every program: its transaction is what counts, the repositories follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from bos_core.index.database import DatabaseClock, insert_new, reading, writing
from bos_core.index.tables import PROGRAM, PROGRAM_CHANGE
from bos_core.objects.contracts import ProgramManifest
from bos_core.objects.errors import ConflictError, NotFoundError
from bos_core.objects.extension import Extension, extended, from_json
from bos_core.objects.ontology import Tables
from bos_core.objects.text import is_storable

_NOW = DatabaseClock()
_KNOWN: WeakKeyDictionary[Engine, tuple[int, Tables]] = WeakKeyDictionary()
"""The ontology of a database after a change; made again when there is a later one."""


class Action(StrEnum):
    """What may become of a program in a repository."""

    ADDED = "added"
    PROMOTED = "promoted"
    MOVED = "moved"
    """To the other repository."""
    REMOVED = "removed"


PRESENT = frozenset({Action.ADDED, Action.PROMOTED})
"""After these, the repository holds the program."""


@dataclass(frozen=True)
class ProgramRecord:
    """A registered program; one row for each digest of its source.

    Attributes
    ----------
    slot, name, version, digest : str
    title, description : str
    type : str
        ``"algorithm"`` or ``"model"``.
    elements : sequence of str
        Database elements that a model corresponds to.
    references : sequence of str
    parameters : mapping
        JSON schema of the parameters: forms come from it.
    storage_address : str
        Where the code lies: ``repository:path@commit``.
    """

    slot: str
    name: str
    digest: str
    version: str
    title: str
    description: str
    type: str
    elements: Sequence[str] = ()
    references: Sequence[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    storage_address: str = ""
    created_s: float = 0.0


@dataclass(frozen=True)
class ProgramChange:
    """A commit of a repository, and what it did to one program.

    Attributes
    ----------
    repository, commit : str
        ``"custom"`` or ``"official"``; full name of the commit.
    slot, name, version : str
    action : Action
    digest : str
        sha256 of the file; empty where it was taken out.
    declaration : mapping
        What the file declares about itself.
    author, message : str
    sequence : int
        Position in the history of both repositories, from 1.
    created_s : float
    """

    repository: str
    commit: str
    slot: str
    name: str
    action: Action
    version: str
    digest: str
    declaration: Mapping[str, Any] = field(default_factory=dict)
    author: str = ""
    message: str = ""
    sequence: int = 0
    created_s: float = 0.0

    @property
    def address(self) -> str:
        """Where the code lies: ``repository:path@commit``."""
        return f"{self.repository}:{self.slot}/{self.name}.py@{self.commit}"


class ProgramIndex:
    """Which programs were ever registered, and which of them experts may use now."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def record(
        self, manifest: ProgramManifest, digest: str, type: str = "algorithm", storage_address: str = ""
    ) -> ProgramRecord:
        """Insert the program, or refresh what is said about this slot, name and digest."""
        record = ProgramRecord(
            manifest.slot,
            manifest.name,
            digest,
            manifest.version,
            manifest.title,
            manifest.description,
            type,
            manifest.elements,
            manifest.references,
            manifest.parameters.model_json_schema(),
            storage_address,
        )
        with writing(self.engine) as connection:
            return self._put(connection, record)

    def _put(self, connection: Connection, record: ProgramRecord) -> ProgramRecord:
        values = asdict(record) | {"elements": list(record.elements), "references": list(record.references)}
        key = {name: values.pop(name) for name in ("slot", "name", "digest")}
        del values["created_s"]
        same = sa.and_(*(PROGRAM.c[name] == value for name, value in key.items()))
        connection.execute(insert_new(self.engine, PROGRAM).values(**key, **values, created_s=_NOW))
        connection.execute(sa.update(PROGRAM).where(same).values(**values))
        return ProgramRecord(**connection.execute(sa.select(PROGRAM).where(same)).mappings().one())

    def get(self, slot: str, name: str, digest: str | None = None) -> ProgramRecord:
        """Return a program: the given digest, or the newest.

        Raises
        ------
        NotFoundError
            If it was never recorded.
        """
        query = sa.select(PROGRAM).where(PROGRAM.c.slot == slot, PROGRAM.c.name == name)
        if digest is not None:
            query = query.where(PROGRAM.c.digest == digest)
        row = None
        if all(map(is_storable, (slot, name, digest or ""))):
            with reading(self.engine) as connection:
                row = (
                    connection.execute(query.order_by(PROGRAM.c.created_s.desc()).limit(1))
                    .mappings()
                    .one_or_none()
                )
        if row is None:
            known = ", ".join(sorted({record.name for record in self.list(slot)})) or "none"
            raise NotFoundError(f"no program {name!r} in slot {slot!r}; known: {known}")
        return ProgramRecord(**row)

    def list(self, slot: str | None = None) -> list[ProgramRecord]:
        """Return all recorded programs by slot and name, newest digest first."""
        query = sa.select(PROGRAM).order_by(PROGRAM.c.slot, PROGRAM.c.name, PROGRAM.c.created_s.desc())
        if slot is not None:
            query = query.where(PROGRAM.c.slot == slot)
        with reading(self.engine) as connection:
            return [ProgramRecord(**row) for row in connection.execute(query).mappings()]

    def digests(self) -> frozenset[tuple[str, str, str]]:
        """Return slot, name and digest of every recorded program."""
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(PROGRAM.c.slot, PROGRAM.c.name, PROGRAM.c.digest))
            return frozenset((slot, name, digest) for slot, name, digest in rows)

    def changes(self) -> tuple[ProgramChange, ...]:
        """Return the history of both repositories, oldest first."""
        with reading(self.engine) as connection:
            return _changes(connection)

    def present(self) -> dict[tuple[str, str], ProgramChange]:
        """Return the programs that experts may use now, by slot and name."""
        return present(self.changes())

    def commit(
        self,
        changes: Sequence[ProgramChange],
        after: int,
        record: ProgramRecord | None = None,
        work: Callable[[Connection], None] = lambda connection: None,
    ) -> None:
        """Append to the history, in one transaction with what belongs to it.

        Parameters
        ----------
        changes : sequence of ProgramChange
            In order; they get their numbers here.
        after : int
            The number of the change that was the last when these were prepared, 0 for none.
        record : ProgramRecord, optional
            Row of the program index.
        work : callable
            What else must be done or not at all.

        Raises
        ------
        ConflictError
            If there is a later change: prepare again.
        """
        try:
            with writing(self.engine) as connection:
                if connection.execute(sa.select(sa.func.max(PROGRAM_CHANGE.c.sequence))).scalar() not in (
                    *([None] if after == 0 else []),
                    after,
                ):
                    raise _overtaken()
                for sequence, change in enumerate(changes, after + 1):
                    values = asdict(replace(change, sequence=sequence)) | {"created_s": _NOW}
                    connection.execute(sa.insert(PROGRAM_CHANGE).values(**values))
                if record is not None:
                    self._put(connection, record)
                work(connection)
        except IntegrityError as error:
            if PROGRAM_CHANGE.name not in str(error):
                raise
            raise _overtaken() from error


def present(changes: Sequence[ProgramChange]) -> dict[tuple[str, str], ProgramChange]:
    """Return what a history leaves, by slot and name: the last change of each program that is still there."""
    last = {(change.slot, change.name): change for change in changes}
    return {key: change for key, change in last.items() if change.action in PRESENT}


def extensions(changes: Sequence[ProgramChange]) -> dict[str, tuple[Extension, ...]]:
    """Return what the programs that a history leaves add to the ontology, by slot and name, in this order."""
    found = {
        f"{slot}/{name}": from_json(change.declaration.get("extends", ()))
        for (slot, name), change in sorted(present(changes).items())
    }
    return {program: added for program, added in found.items() if added}


def ontology_after(changes: Sequence[ProgramChange]) -> Tables:
    """Return the tables of the ontology with what the programs that a history leaves add to it."""
    return extended(extension for added in extensions(changes).values() for extension in added)


def ontology_of(engine: Engine) -> Tables:
    """Return the tables of the ontology with what the programs of a database add to it."""
    with reading(engine) as connection:
        last = connection.execute(sa.select(sa.func.max(PROGRAM_CHANGE.c.sequence))).scalar() or 0
        known = _KNOWN.get(engine)
        if known is None or known[0] != last:
            known = _KNOWN[engine] = last, ontology_after(_changes(connection))
    return known[1]


def _changes(connection: Connection) -> tuple[ProgramChange, ...]:
    rows = connection.execute(sa.select(PROGRAM_CHANGE).order_by(PROGRAM_CHANGE.c.sequence)).mappings()
    return tuple(ProgramChange(**{**row, "action": Action(row["action"])}) for row in rows)


def _overtaken() -> ConflictError:
    return ConflictError("somebody else has changed the programs meanwhile; do it again")
