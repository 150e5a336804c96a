"""The program index: which programs exist, what they fill, and by which digest a task pinned them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from bos_core.index.database import DatabaseClock, insert_new, reading, writing
from bos_core.index.tables import PROGRAM
from bos_core.objects.contracts import ProgramManifest
from bos_core.objects.errors import NotFoundError

_NOW = DatabaseClock()


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
        Where the code lies.
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


class ProgramIndex:
    """Which programs were ever registered."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def record(
        self, manifest: ProgramManifest, digest: str, type: str = "algorithm", storage_address: str = ""
    ) -> ProgramRecord:
        """Insert the program, or refresh what is said about this slot, name and digest."""
        key = {"slot": manifest.slot, "name": manifest.name, "digest": digest}
        values = {
            "version": manifest.version,
            "title": manifest.title,
            "description": manifest.description,
            "type": type,
            "elements": list(manifest.elements),
            "references": list(manifest.references),
            "parameters": manifest.parameters.model_json_schema(),
            "storage_address": storage_address,
        }
        same = sa.and_(*(PROGRAM.c[name] == value for name, value in key.items()))
        with writing(self.engine) as connection:
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
        with reading(self.engine) as connection:
            row = connection.execute(query.order_by(PROGRAM.c.created_s.desc()).limit(1)).mappings().one_or_none()
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
