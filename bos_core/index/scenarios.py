"""Scenarios: lines of immutable versions. A version is a set of keyed chunks; equal content, equal digest."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping
from sqlalchemy.exc import IntegrityError

from bos_core.index.database import DatabaseClock, insert_new, reading, writing
from bos_core.index.tables import CHUNK, OUTBOX, PROJECT, SCENARIO, USER, VERSION
from bos_core.objects.errors import Finding, NotFoundError, OptionError, raise_if_any
from bos_core.objects.text import check_texts, is_storable

_NAMESPACE = uuid.UUID("f7a6b2f0-57a5-5d53-8d0b-8a5f6f0d3a11")
_NOW = DatabaseClock()
_DIGITS_MAX = 10
_PREFIX_LENGTH_MIN = 6


@dataclass(frozen=True)
class Chunk:
    """One piece of content.

    Attributes
    ----------
    key : str
        ``table/<name>`` or ``series/<name>/<layout>``.
    digest : str
        Digest of the content; the store finds the file by it.
    rows, bytes : int
    detail : mapping
        What a reader must know to plan, e.g. first hour, hours and elements of a series.
    """

    key: str
    digest: str
    rows: int
    bytes: int
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScenarioRecord:
    """A scenario: a name and its newest version's number (0 = none yet)."""

    id: str
    name: str
    project: str
    owner: str
    description: str
    versions: int
    created_s: float


@dataclass(frozen=True)
class VersionRecord:
    """An immutable version and where it came from."""

    id: str
    scenario: str
    scenario_name: str
    number: int
    parent: str | None
    made_by_task: str | None
    trace_id: str
    step: str
    message: str
    digest: str
    created_s: float

    @property
    def label(self) -> str:
        """What people type: ``name@number``."""
        return f"{self.scenario_name}@{self.number}"


def content_digest(chunks: Iterable[Chunk]) -> str:
    """Return the digest of a version: sha256 over its sorted keys and chunk digests."""
    lines = sorted(f"{chunk.key}\x1f{chunk.digest}" for chunk in chunks)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_name(name: str) -> list[Finding]:
    """Return a finding when a scenario's name is empty, too long, or could be mistaken for a version."""
    if re.fullmatch(r"[^@\s][^@\n]{0,199}", name) and is_storable(name) and not _is_uuid(name):
        return []
    remedy = "use up to 200 characters without @, and no UUID"
    return [Finding("scenario", (name,), "is no scenario name", remedy, "name")]


class ScenarioIndex:
    """Which scenarios and versions exist and what they are made of."""

    def __init__(self, engine: Engine, user: str = "unknown", project: str = "default") -> None:
        self.engine, self.user, self.project = engine, user, project

    def create(self, name: str, description: str = "") -> ScenarioRecord:
        """Return the scenario of this name, made if absent.

        Raises
        ------
        OptionError
            If `check_name` objects.
        """
        texts = {"description": description, "owner": self.user, "project": self.project}
        raise_if_any([*check_name(name), *check_texts("scenario", texts)], OptionError)
        with writing(self.engine) as connection:
            for table, key in ((USER, self.user), (PROJECT, self.project)):
                connection.execute(insert_new(self.engine, table).values(name=key, created_s=_NOW))
            values = {"id": str(uuid.uuid5(_NAMESPACE, name)), "name": name, "description": description}
            owner = {"owner": self.user, "project": self.project, "versions": 0}
            connection.execute(insert_new(self.engine, SCENARIO).values(**values, **owner, created_s=_NOW))
            return _scenario(connection, name)

    def add_version(
        self,
        scenario: str,
        chunks: Sequence[Chunk],
        parent: str | None = None,
        message: str = "",
        made_by_task: str | None = None,
        trace_id: str = "",
        step: str = "",
    ) -> VersionRecord:
        """Add a version to the scenario of this name; the same version again returns the stored one.

        The id follows from scenario, parent, content, task set and step, so a step that is run again after a
        crash finds its own version.

        Raises
        ------
        NotFoundError
            If scenario, parent or task do not exist.
        """
        raise_if_any(check_texts("version", {"message": message}), OptionError)
        digest = content_digest(chunks)
        key = "\x1f".join([scenario, parent or "", digest, trace_id, step, made_by_task or ""])
        version_id = str(uuid.uuid5(_NAMESPACE, key))
        try:
            with writing(self.engine) as connection:
                # Raising the counter first locks the scenario's row: numbers are dense and in order of commit.
                raised = sa.update(SCENARIO).where(SCENARIO.c.name == scenario)
                counter = raised.values(versions=SCENARIO.c.versions + 1).returning(
                    SCENARIO.c.id, SCENARIO.c.versions
                )
                owner = connection.execute(counter).one_or_none()
                if owner is None:
                    raise NotFoundError(f"no scenario {scenario!r}; create it first")
                known = connection.execute(_versions().where(VERSION.c.id == version_id)).mappings().one_or_none()
                if known is not None:
                    connection.execute(raised.values(versions=SCENARIO.c.versions - 1))
                    return _version(known)
                values = {"id": version_id, "scenario": owner.id, "number": owner.versions, "parent": parent}
                origin = {"made_by_task": made_by_task, "trace_id": trace_id, "step": step, "message": message}
                connection.execute(sa.insert(VERSION).values(**values, **origin, digest=digest, created_s=_NOW))
                if chunks:
                    connection.execute(
                        sa.insert(CHUNK), [{"version": version_id, **asdict(chunk)} for chunk in chunks]
                    )
                payload = {"scenario": scenario, "number": owner.versions, "parent": parent, **origin}
                connection.execute(
                    sa.insert(OUTBOX).values(
                        kind="scenario_version", key=version_id, payload=payload, created_s=_NOW
                    )
                )
                made = connection.execute(_versions().where(VERSION.c.id == version_id)).mappings().one()
                return _version(made)
        except IntegrityError as error:
            raise NotFoundError(
                f"parent version {parent} or task {made_by_task} is unknown; commit the parent and register the "
                "task before the version"
            ) from error

    def get(self, reference: str) -> VersionRecord:
        """Return a version by id, ``name``, ``name@N`` or the start of an id.

        A bare name means the newest version that no run has made: planning a scenario twice starts twice from
        what the user put in, not from the first plan's results.

        Raises
        ------
        NotFoundError
            If nothing, or more than one version, answers to the reference.
        """
        if not is_storable(reference):
            raise NotFoundError(f"no scenario version {reference!r}; `bos scenarios` lists the known ones")
        name, _, number = reference.rpartition("@")
        with reading(self.engine) as connection:
            for condition in (
                VERSION.c.id == reference,
                sa.and_(SCENARIO.c.name == name, VERSION.c.number == int(number))
                if name and number.isdecimal() and len(number) < _DIGITS_MAX
                else sa.and_(SCENARIO.c.name == reference, VERSION.c.number == _newest_given()),
                VERSION.c.id.startswith(reference, autoescape=True)
                if len(reference) >= _PREFIX_LENGTH_MIN
                else sa.false(),
            ):
                rows = connection.execute(_versions().where(condition).limit(2)).mappings().all()
                if len(rows) == 1:
                    return _version(rows[0])
                if rows:
                    raise NotFoundError(f"version {reference!r} is not unique; give more of its id")
        raise NotFoundError(f"no scenario version {reference!r}; `bos scenarios` lists the known ones")

    def chunks(self, version_id: str) -> dict[str, Chunk]:
        """Return the pieces of a version by key, keys sorted."""
        query = sa.select(CHUNK).where(CHUNK.c.version == version_id).order_by(CHUNK.c.key)
        with reading(self.engine) as connection:
            rows = connection.execute(query).mappings().all()
        return {
            row["key"]: Chunk(row["key"], row["digest"], row["rows"], row["bytes"], row["detail"]) for row in rows
        }

    def chain(self, version_id: str) -> list[VersionRecord]:
        """Return the version, its parent, its parent's parent, ... up to the root."""
        found = [self.get(version_id)]
        while (parent := found[-1].parent) is not None:
            found.append(self.get(parent))
        return found

    def versions(self, scenario: str | None = None, trace_id: str | None = None) -> list[VersionRecord]:
        """Return versions, oldest first, of a scenario (by name) and/or of a task set."""
        query = _versions().order_by(SCENARIO.c.name, VERSION.c.number)
        if scenario is not None:
            query = query.where(SCENARIO.c.name == scenario)
        if trace_id is not None:
            query = query.where(VERSION.c.trace_id == trace_id)
        with reading(self.engine) as connection:
            return [_version(row) for row in connection.execute(query).mappings()]

    def scenarios(self) -> list[ScenarioRecord]:
        """Return all scenarios by name."""
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(SCENARIO).order_by(SCENARIO.c.name)).mappings().all()
        return [ScenarioRecord(**row) for row in rows]

    def referenced_digests(self) -> frozenset[str]:
        """Return the digests of all chunks that some version needs."""
        with reading(self.engine) as connection:
            return frozenset(connection.execute(sa.select(CHUNK.c.digest).distinct()).scalars())


def _newest_given() -> sa.ScalarSelect[int]:
    """Number of a scenario's newest version that no run has made; the newest of all if runs made all."""
    version = VERSION.alias()
    numbers = sa.select(sa.func.max(version.c.number)).where(version.c.scenario == SCENARIO.c.id)
    given = numbers.where(version.c.trace_id == "").correlate(SCENARIO).scalar_subquery()
    return sa.select(sa.func.coalesce(given, SCENARIO.c.versions)).correlate(SCENARIO).scalar_subquery()


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _versions() -> sa.Select[Any]:
    joined = VERSION.join(SCENARIO, SCENARIO.c.id == VERSION.c.scenario)
    return sa.select(VERSION, SCENARIO.c.name.label("scenario_name")).select_from(joined)


def _version(row: RowMapping) -> VersionRecord:
    return VersionRecord(**row)


def _scenario(connection: Connection, name: str) -> ScenarioRecord:
    row = connection.execute(sa.select(SCENARIO).where(SCENARIO.c.name == name)).mappings().one()
    return ScenarioRecord(**row)
