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
from bos_core.index.programs import ontology_of
from bos_core.index.tables import CHUNK, OUTBOX, PROJECT, SCENARIO, USER, VERSION
from bos_core.objects.errors import ConflictError, Finding, NotFoundError, OptionError, raise_if_any
from bos_core.objects.ontology import Tables
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
        ``table/<name>``, ``series/<name>/<layout>/<month>`` or ``edit/<name>/<month>``; older versions have
        ``series/<name>/<layout>`` for all months.
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
    """An immutable version and where it came from; `merged` is the second parent of a merge."""

    id: str
    scenario: str
    scenario_name: str
    number: int
    parent: str | None
    merged: str | None
    author: str
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

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids of the versions that it was made from: none, one, or two of a merge."""
        return tuple(parent for parent in (self.parent, self.merged) if parent is not None)


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

    def ontology(self) -> Tables:
        """Return the tables of the ontology, with what programs have added."""
        return ontology_of(self.engine)

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
            self._create(connection, name, description)
            return _scenario(connection, name)

    def _create(self, connection: Connection, name: str, description: str = "") -> None:
        for table, key in ((USER, self.user), (PROJECT, self.project)):
            connection.execute(insert_new(self.engine, table).values(name=key, created_s=_NOW))
        values = {"id": str(uuid.uuid5(_NAMESPACE, name)), "name": name, "description": description}
        owner = {"owner": self.user, "project": self.project, "versions": 0}
        connection.execute(insert_new(self.engine, SCENARIO).values(**values, **owner, created_s=_NOW))

    def add_version(
        self,
        scenario: str,
        chunks: Sequence[Chunk],
        parent: str | None = None,
        message: str = "",
        made_by_task: str | None = None,
        trace_id: str = "",
        step: str = "",
        merged: str | None = None,
        head: str | None = None,
    ) -> VersionRecord:
        """Add a version to the scenario of this name; the same version again returns the stored one.

        The id follows from scenario, parents, content, task set and step, so a step that is run again after a
        crash finds its own version.

        Parameters
        ----------
        merged : str, optional
            Second parent, of a merge.
        head : str, optional
            Version that the scenario's bare name must still mean; "" when it may not have any.

        Raises
        ------
        NotFoundError
            If scenario, parents or task do not exist.
        ConflictError
            If the bare name means another version than `head` by now.
        """
        raise_if_any(check_texts("version", {"message": message}), OptionError)
        digest = content_digest(chunks)
        origin = {"made_by_task": made_by_task, "trace_id": trace_id, "step": step, "message": message}
        new = {"id": _version_id(scenario, digest, parent, merged, origin), "digest": digest}
        try:
            with writing(self.engine) as connection:
                made, is_new = self._add(
                    connection, scenario, {**new, "parent": parent, "merged": merged}, origin, head
                )
                if is_new and chunks:
                    connection.execute(
                        sa.insert(CHUNK), [{"version": made.id, **asdict(chunk)} for chunk in chunks]
                    )
                return made
        except IntegrityError as error:
            raise NotFoundError(
                f"parent version {parent} or {merged}, or task {made_by_task}, is unknown; commit the parents and "
                "register the task before the version"
            ) from error

    def branch(self, source: VersionRecord, name: str, message: str = "") -> VersionRecord:
        """Start a scenario with the content of a version, in one transaction that copies no file.

        Doing it again returns the same version, unless the scenario has gone on.

        Raises
        ------
        OptionError
            If `check_name` objects.
        ConflictError
            If there is a scenario of this name already.
        """
        raise_if_any([*check_name(name), *check_texts("version", {"message": message})], OptionError)
        origin = {"made_by_task": None, "trace_id": "", "step": "branch", "message": message}
        new = {"id": _version_id(name, source.digest, source.id, None, origin), "digest": source.digest}
        columns = [column for column in CHUNK.c if column.name != "version"]
        with writing(self.engine) as connection:
            self._create(connection, name)
            made, is_new = self._add(
                connection, name, {**new, "parent": source.id, "merged": None}, origin, head=""
            )
            if not is_new:
                known = _head(connection, name)
                if known is not None and known.id != made.id:
                    raise _exists(known)
                return made
            copied = sa.select(sa.literal(made.id), *columns).where(CHUNK.c.version == source.id)
            names = ["version", *(column.name for column in columns)]
            connection.execute(sa.insert(CHUNK).from_select(names, copied))
            return made

    def _add(
        self,
        connection: Connection,
        scenario: str,
        new: Mapping[str, str | None],
        origin: Mapping[str, str | None],
        head: str | None,
    ) -> tuple[VersionRecord, bool]:
        """Insert a version without its chunks; return it and whether it is new."""
        # Raising the counter first locks the scenario's row: numbers are dense and in order of commit.
        raised = sa.update(SCENARIO).where(SCENARIO.c.name == scenario)
        counter = raised.values(versions=SCENARIO.c.versions + 1).returning(SCENARIO.c.id, SCENARIO.c.versions)
        owner = connection.execute(counter).one_or_none()
        if owner is None:
            raise NotFoundError(f"no scenario {scenario!r}; create it first")
        known = connection.execute(_versions().where(VERSION.c.id == new["id"])).mappings().one_or_none()
        if known is not None:
            connection.execute(raised.values(versions=SCENARIO.c.versions - 1))
            return _version(known), False
        found = None if head is None else _head(connection, scenario, owner.versions - 1)
        if found is not None and found.id != head:
            if not head:
                raise _exists(found)
            raise ConflictError(f"scenario {scenario!r} has gone on to {found.label}; do it again from there")
        values = {**new, **origin, "scenario": owner.id, "number": owner.versions, "author": self.user}
        connection.execute(sa.insert(VERSION).values(**values, created_s=_NOW))
        payload = {"scenario": scenario, "number": owner.versions, "parent": new["parent"], **origin}
        event = {"kind": "scenario_version", "key": new["id"], "payload": payload}
        connection.execute(sa.insert(OUTBOX).values(**event, created_s=_NOW))
        return _version(connection.execute(_versions().where(VERSION.c.id == new["id"])).mappings().one()), True

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
                else sa.and_(SCENARIO.c.name == reference, VERSION.c.number == newest_given()),
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
        """Return the version, its parent, its parent's parent, ... up to the root; merged ones are left out."""
        found = [self.get(version_id)]
        while (parent := found[-1].parent) is not None:
            found.append(self.get(parent))
        return found

    def history(self, version_id: str) -> list[VersionRecord]:
        """Return the version and all that it was made from, through both parents of merges, newest first."""
        known = {version.id: version for version in self.versions()}
        parents = {version.id: version.parents for version in known.values()}
        found = [known[i] for i in _distances(parents, version_id)]
        return sorted(found, key=lambda v: (v.created_s, v.scenario_name, v.number), reverse=True)

    def common_ancestor(self, one: str, other: str) -> VersionRecord | None:
        """Return the nearest version that two versions were both made from; one of them may be it.

        Of several that are not made from each other, as after merges crosswise, it is the one with the shortest
        way to both.
        """
        parents = {version.id: version.parents for version in self.versions()}
        far = {version: _distances(parents, version) for version in (one, other)}
        common = far[one].keys() & far[other].keys()
        older = {old for version in common for old in _distances(parents, version) if old != version}
        best = sorted(common - older, key=lambda i: (far[one][i] + far[other][i], i))
        return self.get(best[0]) if best else None

    def delta_bytes(self) -> dict[str, int]:
        """Return how many bytes of chunks each version has that its parents do not have."""
        inherited = CHUNK.alias()
        same = sa.and_(inherited.c.key == CHUNK.c.key, inherited.c.digest == CHUNK.c.digest)
        of_parent = sa.or_(inherited.c.version == VERSION.c.parent, inherited.c.version == VERSION.c.merged)
        query = (
            sa.select(VERSION.c.id, sa.func.sum(CHUNK.c.bytes))
            .join(CHUNK, CHUNK.c.version == VERSION.c.id)
            .where(~sa.exists().where(of_parent, same))
            .group_by(VERSION.c.id)
        )
        with reading(self.engine) as connection:
            return {row[0]: int(row[1]) for row in connection.execute(query)}

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


def newest_given(versions: int | None = None) -> sa.ScalarSelect[int]:
    """Number of a scenario's newest version that no run has made; the newest of all if runs made all.

    `versions` is how many the scenario has, where its row does not say so.
    """
    version = VERSION.alias()
    numbers = sa.select(sa.func.max(version.c.number)).where(version.c.scenario == SCENARIO.c.id)
    given = numbers.where(version.c.trace_id == "").correlate(SCENARIO).scalar_subquery()
    newest = SCENARIO.c.versions if versions is None else sa.literal(versions)
    return sa.select(sa.func.coalesce(given, newest)).correlate(SCENARIO).scalar_subquery()


def _version_id(
    scenario: str, digest: str, parent: str | None, merged: str | None, origin: Mapping[str, str | None]
) -> str:
    parts = [
        scenario,
        parent or "",
        digest,
        *(origin[name] or "" for name in ("trace_id", "step", "made_by_task")),
    ]
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join([*parts, *([merged] if merged else [])])))


def _head(connection: Connection, scenario: str, versions: int | None = None) -> VersionRecord | None:
    """Return the version that a scenario's bare name means; `versions` as in `newest_given`."""
    query = _versions().where(SCENARIO.c.name == scenario, VERSION.c.number == newest_given(versions))
    found = connection.execute(query).mappings().one_or_none()
    return None if found is None else _version(found)


def _exists(version: VersionRecord) -> ConflictError:
    return ConflictError(
        f"there is a scenario {version.scenario_name!r} already, at {version.label}; choose another name"
    )


def _distances(parents: Mapping[str, Sequence[str]], start: str) -> dict[str, int]:
    """Return every version that `start` was made from, itself included, and how many steps ago at the least."""
    found, front = {start: 0}, [start]
    while front:
        front = list(dict.fromkeys(p for version in front for p in parents[version] if p not in found))
        found.update(dict.fromkeys(front, max(found.values()) + 1))
    return found


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
