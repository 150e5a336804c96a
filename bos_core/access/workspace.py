"""A workspace: index and store of one installation, opened from its settings."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.engine import Engine

from bos_core.access.results import ResultReader
from bos_core.access.scenario_data import ScenarioReader, ScenarioWriter
from bos_core.access.store import ResultStore
from bos_core.index.database import DatabaseClock, connect, reading, shown
from bos_core.index.ledger import Ledger
from bos_core.index.lineage import Lineage
from bos_core.index.programs import ProgramIndex
from bos_core.index.scenarios import ScenarioIndex
from bos_core.index.tables import OUTPUT
from bos_core.objects.errors import BosError, Finding, InputError
from bos_core.objects.settings import Settings

FREE_BYTES_MIN = 2_000_000_000
CLOCK_DIFFERENCE_S_MAX = 5.0
FILES_EXPLAINED_MAX = 100
"""So many absent files are asked who made them."""


@dataclass(frozen=True, eq=False)
class Workspace:
    """Everything that a flow or a worker needs to reach data. Pickled as its settings, opened again there.

    Attributes
    ----------
    settings : Settings
    engine : Engine
    ledger, scenarios, programs
        The index.
    store, results
        The data.
    """

    settings: Settings
    engine: Engine
    ledger: Ledger
    scenarios: ScenarioIndex
    programs: ProgramIndex
    store: ResultStore
    results: ResultReader

    @classmethod
    def open(cls, settings: Settings | None = None) -> Workspace:
        """Open the workspace of these settings (default: the environment's); once a process.

        Raises
        ------
        OptionError
            If a setting is bad.
        StorageError
            If the index cannot be reached.
        """
        settings = settings or Settings.load()
        key = (os.getpid(), settings.model_dump_json(), settings.database, repr(_secrets(settings)))
        with _LOCK:
            if key not in _OPEN:
                _OPEN[key] = cls._open(settings)
            return _OPEN[key]

    @classmethod
    def _open(cls, settings: Settings) -> Workspace:
        engine = connect(settings.database)
        ledger, store = Ledger(engine), ResultStore(settings.store, settings.store_options)
        return cls(
            settings=settings,
            engine=engine,
            ledger=ledger,
            scenarios=ScenarioIndex(engine, settings.user, settings.project),
            programs=ProgramIndex(engine),
            store=store,
            results=ResultReader(store, ledger),
        )

    def __reduce__(self) -> tuple[Callable[[Settings], Workspace], tuple[Settings]]:
        return Workspace.open, (self.settings,)

    def reader(self, version: str) -> ScenarioReader:
        """Return a reader of a scenario version (id, name, ``name@N`` or start of an id)."""
        return ScenarioReader(self.store, self.scenarios, version)

    def writer(self, parent: str | None = None, scenario: str | None = None) -> ScenarioWriter:
        """Return a writer of a new version that starts from `parent`, or empty in the named scenario."""
        return ScenarioWriter(self.store, self.scenarios, parent, scenario)


def check_workspace(settings: Settings) -> list[Finding]:
    """Check that index and store can be used and agree; return everything that is wrong.

    Covers: connection and schema of the index, its clock, writing and reading in the store, conditional
    puts, free space, and files that the index names but the store lacks.
    """
    findings: list[Finding] = []
    try:
        workspace = Workspace._open(settings)
    except InputError as error:
        return list(error.findings)
    except BosError as error:
        return [broken("index", error), *_check_space(settings)]
    try:
        findings += _check_clock(workspace)
        findings += _check_store(workspace.store)
        findings += _check_space(settings)
        if not findings:
            findings += _check_files(workspace)
    except BosError as error:
        findings.append(broken("store", error))
    finally:
        workspace.engine.dispose()
    return findings


def broken(component: str, error: BosError) -> Finding:
    """Return the finding of an error whose message says what, which and the next step."""
    problem, _, remedy = str(error).removeprefix(f"{component} ").rpartition("; ")
    return Finding(component, (), problem or str(error), remedy if problem else "see the message")


def _check_clock(workspace: Workspace) -> list[Finding]:
    with reading(workspace.engine) as connection:
        difference = abs(connection.execute(sa.select(DatabaseClock())).scalar_one() - time.time())
    if difference <= CLOCK_DIFFERENCE_S_MAX:
        return []
    where = shown(workspace.engine.url)
    problem = f"its clock differs by {difference:.0f} s from this host's"
    return [Finding("index", (where,), problem, "synchronise the clocks (leases use the database's)")]


def _check_store(store: ResultStore) -> list[Finding]:
    store.check()
    if store.conditional_put:
        return []
    remedy = "commits stay safe (the index decides); prefer a server that honours If-None-Match"
    return [Finding("store", (store.url,), "ignores conditional puts", remedy)]


def _check_space(settings: Settings) -> list[Finding]:
    findings = []
    folders = [Path(settings.store)] if "://" not in settings.store else []
    if settings.database.startswith("sqlite:///"):
        folders.append(Path(settings.database.removeprefix("sqlite:///")).parent)
    for folder in dict.fromkeys(folders):
        free = shutil.disk_usage(folder).free if folder.exists() else FREE_BYTES_MIN
        if free < FREE_BYTES_MIN:
            problem = f"has {free / 1e9:.1f} GB free"
            findings.append(Finding("disk", (str(folder),), problem, f"keep {FREE_BYTES_MIN / 1e9:.0f} GB free"))
    return findings


def _check_files(workspace: Workspace) -> list[Finding]:
    present = {address for prefix in ("attempts", "chunks") for address, _ in workspace.store.walk(prefix)}
    with reading(workspace.engine) as connection:
        wanted = set(connection.execute(sa.select(OUTPUT.c.address)).scalars())
    wanted |= {ResultStore.chunk_address(digest) for digest in workspace.scenarios.referenced_digests()}
    absent = tuple(sorted(wanted - present))
    if not absent:
        return []
    makers = {_maker(workspace, address) for address in absent[:FILES_EXPLAINED_MAX]}
    remedies = [f"`bos rebuild {run[:8]}` makes them again" for run in sorted(makers - {""})]
    remedies += ["import the scenarios again that were put in"] if "" in makers else []
    return [Finding("store", absent, "files that the index names are gone", "; ".join(remedies))]


def _maker(workspace: Workspace, address: str) -> str:
    """Return the run that made a file, empty for content that a user put in."""
    room, _, rest = address.partition("/")
    if room == "attempts":
        return rest.partition("/")[0]
    (version, _), *_ = Lineage(workspace.engine).versions_with(rest.rpartition("/")[2].removesuffix(".parquet"))
    return workspace.scenarios.get(version).trace_id


def _secrets(settings: Settings) -> tuple[str, ...]:
    values = (*dict(settings).values(), *dict(settings.store_options).values())
    return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))


_OPEN: dict[tuple[int, str, str, str], Workspace] = {}
_LOCK = threading.Lock()
