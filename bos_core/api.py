"""The Python API: connect, import a grid, run a business, read its results.

>>> bos = bos_core.connect()
>>> scenario = bos.scenarios.import_("grid.zip")
>>> run = bos.run("planning-chain", scenario=scenario, hours=168)
>>> run.wait().n1.worst(10)
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bos_core.access import scenario_versions
from bos_core.access.audit import Losses, losses
from bos_core.access.openlineage import openlineage_events
from bos_core.access.scenario_data import ScenarioReader
from bos_core.access.scenario_diff import Difference, difference
from bos_core.access.scenario_edit import Edit, parse_edits, read_edits
from bos_core.access.scenario_merge import Settle
from bos_core.access.scenario_versions import Edited, LogEntry, Merged
from bos_core.access.trace import NEWEST, Trace, trace, trace_file, trace_task
from bos_core.access.uses import Uses, uses
from bos_core.access.workspace import Workspace
from bos_core.grid.model import FloatArray, Network, StrArray
from bos_core.index.containers import ContainerIndex, ContainerTree, Use
from bos_core.index.lineage import Lineage
from bos_core.index.records import LogLine
from bos_core.index.scenarios import VersionRecord
from bos_core.objects.address import ValueAddress, parse_address
from bos_core.objects.errors import Finding, NotFoundError, OptionError, RunFailedError, StorageError
from bos_core.objects.ontology import SERIES, Tables
from bos_core.objects.settings import Settings
from bos_core.objects.task import TaskState
from bos_core.report.data import OUTCOME_NAMES, Table6Row

if TYPE_CHECKING:  # here and below: what takes long to load and most commands do not need
    from bos_core.access.ontology_query import Ontology
    from bos_core.exchange.model import ImportedGrid, Note
    from bos_core.index.programs import ProgramChange
    from bos_core.programs.catalogue import Catalogue
    from bos_core.programs.submission import Added
    from bos_core.rebuilding import Rebuilt

BUSINESSES = ("planning-chain", "power-flow")
_TASK_ID_LENGTH_MIN = 6
_Tables: TypeAlias = Mapping[str, pa.Table]


def connect(**settings: Any) -> Bos:
    """Open the installation of the environment's settings; keyword arguments win over the environment.

    Raises
    ------
    OptionError
        With every bad setting.
    StorageError
        If the index cannot be reached.
    """
    return Bos(Workspace.open(Settings.load(**settings)))


@dataclass(frozen=True)
class Bos:
    """An open installation."""

    workspace: Workspace

    @property
    def scenarios(self) -> Scenarios:
        """Scenarios and their versions."""
        return Scenarios(self.workspace)

    @property
    def programs(self) -> Programs:
        """Programs that fill the slots, and what experts add to them."""
        return Programs(self.workspace)

    def run(
        self,
        business: str,
        scenario: VersionRecord | str,
        hours: int | None = None,
        start: int | None = None,
        programs: Mapping[str, str] | None = None,
        program_parameters: Mapping[str, Mapping[str, object]] | None = None,
        **options: object,
    ) -> Run:
        """Start a business request in a process of its own and return at once.

        Parameters
        ----------
        business : str
            ``"planning-chain"`` or ``"power-flow"``.
        scenario : VersionRecord or str
            What `Scenarios.import_` returned, or a name, ``name@version`` or id.
        hours, start : int
            Horizon; hour 0 is 1 January 00:00. Default: the first 168 hours, of a power flow all hours whose state
            the scenario holds, or its snapshot.
        programs : mapping of slot to program name
        program_parameters : mapping of slot to parameters
        options
            Further fields of the request, e.g. ``base_kv_min``, ``contingencies``, ``from_step``.

        Raises
        ------
        OptionError
            If the process finds the request impossible, it says so when you wait.
        """
        if business not in BUSINESSES:
            known = " or ".join(repr(name) for name in BUSINESSES)
            raise OptionError((Finding("business", (business,), "does not exist", f"use {known}"),))
        horizon = {k: v for k, v in (("start_hour", start), ("hours", hours)) if v is not None}
        name = scenario if isinstance(scenario, str) else scenario.label
        request = {
            "scenario": name,
            **({"horizon": horizon} if horizon else {}),
            "programs": dict(programs or {}),
            "program_parameters": {k: dict(v) for k, v in (program_parameters or {}).items()},
            **options,
        }
        return self.start(request, str(uuid.uuid4()), business)

    def start(self, request: Mapping[str, object], trace_id: str, business: str = BUSINESSES[0]) -> Run:
        """Start the process that carries out a request; its output goes to the run's log file."""
        settings = self.workspace.settings
        folder = settings.home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "bos_core.cli", "run", business, "--request", json.dumps(request)]
        with (folder / f"{trace_id}.txt").open("ab") as log:
            process = subprocess.Popen(
                [*command, "--trace-id", trace_id],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **settings.environment()},
                start_new_session=True,
            )
        return Run(self.workspace, trace_id, process)

    @contextmanager
    def ontology(self, scenario: VersionRecord | str) -> Iterator[Ontology]:
        """Open the elements of a scenario version for questions about containment and neighbourhood.

        >>> with bos.ontology("grid") as grid:
        ...     station = grid.element("Station 5", "station")
        ...     answer = grid.near(station, "transformer", hops=3).select("rated_mva").run()
        """
        from bos_core.access.ontology_query import opened_ontology

        reference = scenario if isinstance(scenario, str) else scenario.id
        with opened_ontology(self.workspace, reference) as opened:
            yield opened

    def trace(
        self, what: str = "", *, hour: int | None = None, element: str | None = None, column: str = "", **keys: str
    ) -> Trace:
        """Tell where something comes from, back to the imported grid.

        Parameters
        ----------
        what : str
            Address of a value (``RUN/step/output[hour=410,branch=Line 17].loading``, ``NAME@8/bus.vm_pu[...]``) or
            the front part of one; a run, a step (of the newest run), a task, a scenario version; a Parquet file or
            its address in the store. Empty: the newest run.
        hour, element, column
            Hour of the year, name or id of an element, quantity; as in the brackets of an address.
        keys
            Further columns of the rows, e.g. ``contingency="Line 3"``.

        Raises
        ------
        NotFoundError, OptionError
            Nothing answers to it.
        """
        from bos_core.report.collection_tasks import STAGES

        if what.endswith(".parquet"):
            path = Path(what)
            return trace_file(self.workspace, what, path.read_bytes() if path.is_file() else None)
        address = parse_address(what, frozenset(STAGES))
        asked = address.with_keys(column, hour=None if hour is None else str(hour), element=element, **keys)
        if asked.root not in NEWEST and not asked.is_of_version:
            return self._of_a_name(asked, difflib.get_close_matches(asked.root, STAGES) or list(STAGES))
        return trace(self.workspace, asked)

    def _of_a_name(self, address: ValueAddress, steps: list[str]) -> Trace:
        """Trace what begins with a run; by itself, the name may be a task or a scenario as well."""
        try:
            self.workspace.ledger.task_set(address.root)
        except NotFoundError:
            name = address.root
            tasks = (
                Lineage(self.workspace.engine).tasks_starting_with(name)
                if len(name) >= _TASK_ID_LENGTH_MIN
                else []
            )
            if len(tasks) == 1 and not address.parts:
                return trace_task(self.workspace, tasks[0])
            scenarios = [s for s in self.workspace.scenarios.scenarios() if s.name == name]
            if not scenarios or len(address.parts) > 1:
                raise NotFoundError(
                    f"nothing is called {name!r}; begin with a run (`bos ps`), a step ({', '.join(steps)}), a "
                    "scenario version (`bos scenarios`) or a task id"
                ) from None
            label = self.workspace.scenarios.get(name).label
            return trace(self.workspace, replace(address, root=label))
        return trace(self.workspace, address)

    def uses(self, what: str) -> Uses:
        """Tell what was made from a scenario, a version, a run, a step, a task or a program.

        Raises
        ------
        NotFoundError
            Nothing answers to it.
        """
        return uses(self.workspace, what)

    def containers(self, ended_within_s: float | None = None) -> ContainerTree:
        """Return the servers, their containers and the service instances in them, with what they use now.

        A monitor keeps them in the index; `bos up` starts one. Without it this machine and the Docker daemons of
        the settings are looked at now, which takes half a second and tells nothing of what has ended.

        Parameters
        ----------
        ended_within_s : float, optional
            Also the containers that ended in these last seconds.
        """
        index = ContainerIndex(self.workspace.engine)
        tree = index.tree(None if ended_within_s is None else index.clock_s() - ended_within_s)
        if tree.is_fresh:
            return tree
        from bos_core.scheduling.container_monitor import look_now

        return look_now(self.workspace.settings, index)

    def used(self, id: str, last_s: float = 3600.0) -> Use:
        """Return what a server or container used: by seconds in the last hour, by minutes in the week before.

        Parameters
        ----------
        id : str
            As the tree tells it.
        last_s : float
            How far back.
        """
        index = ContainerIndex(self.workspace.engine)
        now_s = index.clock_s()
        return index.use(id, now_s - last_s, now_s + 1.0)

    def runs(self) -> list[Run]:
        """Return the newest runs first."""
        return [Run(self.workspace, record.trace_id) for record in self.workspace.ledger.task_sets()]

    def open(self, trace_id: str) -> Run:
        """Return a run by its trace id or the start of it."""
        return Run(self.workspace, self.workspace.ledger.task_set(trace_id).trace_id)


@dataclass(frozen=True)
class Programs:
    """The programs of an installation: those that come with BOS, and those that its experts have added."""

    workspace: Workspace

    @property
    def catalogue(self) -> Catalogue:
        """Names, code and history of all programs."""
        from bos_core.programs.catalogue import Catalogue

        return Catalogue(self.workspace)

    def add(self, path: str | Path, slot: str = "", message: str = "", drop_values: bool = False) -> Added:
        """Check a program file and put it into the custom repository; make what it adds to the ontology.

        Parameters
        ----------
        path : str or Path
        slot, message : str
            Default: the slot that the file names; no reason.
        drop_values : bool
            Go on where it no longer adds what scenarios hold values of.

        Raises
        ------
        OptionError
            With everything that is wrong with the file; nothing is changed then.
        """
        from bos_core.programs import submission

        return submission.add(self.catalogue, Path(path), slot, message, drop_values)

    def promote(self, name: str, message: str = "") -> ProgramChange:
        """Move a program that has proved itself to the official repository.

        Raises
        ------
        OptionError
            If it is official already, or its present code has failed a task or finished none.
        """
        from bos_core.programs import submission

        return submission.promote(self.catalogue, name, message)

    def remove(self, name: str, message: str = "", drop_values: bool = False) -> tuple[ProgramChange, ...]:
        """Take a program out of the repositories; every commit stays, and so does what it made.

        What it has added to the ontology is taken back; where scenarios hold values of that, only with
        `drop_values`.
        """
        from bos_core.programs import submission

        return submission.remove(self.catalogue, name, message, drop_values)

    def log(self, name: str) -> tuple[ProgramChange, ...]:
        """Return what became of a program, newest first, also of one that is gone.

        Raises
        ------
        NotFoundError
            If no program was ever called so.
        """
        return self.catalogue.history(name)


def imported_from(source: str | Path) -> str:
    """Say what a scenario was imported from; a file by its content as well."""
    path = Path(source)
    if not path.is_file():
        return f"imported from {path.name}"
    with path.open("rb") as file:
        return f"imported from {path.name}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


@dataclass(frozen=True)
class Scenarios:
    """Scenarios by name; every version is immutable."""

    workspace: Workspace

    def import_(
        self, source: str | Path, name: str | None = None, overlay: str | Path | None = None
    ) -> VersionRecord:
        """Import a grid (file, folder, SimBench code, ``pandapower:case118``) as a new scenario version.

        Raises
        ------
        FormatError, GridError
            With every finding; nothing is written then.
        """
        from bos_core.exchange import import_grid  # the format readers take seconds to load

        imported = import_grid(
            source, overlay=Path(overlay) if overlay else None, ontology=self.workspace.scenarios.ontology()
        )
        return self.add(imported, name or Path(str(source)).stem, imported_from(source))

    def add(self, imported: ImportedGrid, name: str, message: str) -> VersionRecord:
        """Store an imported grid as a version of the scenario `name`."""
        writer = self.workspace.writer(scenario=name)
        for table_name, table in imported.tables.items():
            if table.num_rows:
                writer.put_table(table_name, table)
        for series_name, series in imported.series.items():
            writer.put_series(series_name, list(series.elements), series.values)
        return self.workspace.scenarios.get(writer.commit(message, step="import"))

    def overlay(
        self, reference: str, path: str | Path, message: str = ""
    ) -> tuple[VersionRecord, VersionRecord, tuple[Note, ...]]:
        """Lay an overlay over a scenario, as its next version: change columns, add devices.

        Parameters
        ----------
        reference : str
            What the scenario's name means; an older version must be branched first.
        path : str or Path
            TOML or CSV, as beside an import.

        Returns
        -------
        version, before, notes
            The new version, or the old one when nothing changed; what it was made from; what was done.

        Raises
        ------
        FormatError, GridError, InputError
            With every finding; nothing is stored then.
        """
        from bos_core.exchange.model import ImportedGrid
        from bos_core.exchange.overlay import apply_overlay

        def change(tables: _Tables) -> tuple[_Tables, tuple[Note, ...]]:
            laid = apply_overlay(ImportedGrid(tables), Path(path), self.workspace.scenarios.ontology())
            return laid.tables, laid.notes

        said = message or f"overlay {Path(path).name}"
        version, before, notes = scenario_versions.lay_over(self.workspace, reference, change, self._check(), said)
        return version, before, tuple(notes)

    def export(self, reference: str, path: Path) -> tuple[Note, ...]:
        """Write a version to a file; the suffix decides the format (.zip keeps everything).

        Returns
        -------
        tuple of Note
            What the format cannot hold.
        """
        from bos_core.exchange import export_grid
        from bos_core.exchange.model import Series

        reader = self.workspace.reader(reference)
        series = {name: reader.series(name) for name in reader.series_names()}
        return export_grid(
            {
                name: schema.trimmed(reader.table(name))
                for name, schema in reader.ontology.items()
                if not schema.added or reader.has(name)
            },
            path,
            {name: Series(name, tuple(s.ids.tolist()), s.values) for name, s in series.items()},
        )

    def get(self, reference: str) -> VersionRecord:
        """Return a version by name (newest), ``name@number``, id or start of an id."""
        return self.workspace.scenarios.get(reference)

    def read(self, reference: str) -> ScenarioReader:
        """Return a reader of a version's tables, series and grid."""
        return self.workspace.reader(reference)

    def branch(self, source: str, name: str, message: str = "") -> VersionRecord:
        """Start a new scenario with the content of a version; nothing is copied.

        Raises
        ------
        ConflictError
            If there is a scenario of this name already.
        """
        return scenario_versions.branch(self.workspace, source, name, message)

    def edit(
        self, reference: str, *edits: str | Edit, file: str | Path | None = None, message: str = ""
    ) -> Edited:
        """Change values of tables and series of a scenario, as its next version.

        >>> bos.scenarios.branch("mine", "hot-summer")
        >>> bos.scenarios.edit("hot-summer", "load.p_mw:*@North[06-01:09-01]*=1.1", "line.i_max_ka:Line 7=2.1")

        Parameters
        ----------
        edits : str or Edit
            ``TARGET:ELEMENT[HOURS]=VALUE``; `bos_core.access.scenario_edit` has the whole grammar.
        file : path, optional
            CSV, Parquet or JSON of further edits: target, element, hours, operation, value.

        Raises
        ------
        InputError
            With all findings; nothing is written then.
        """
        typed = [one if isinstance(one, Edit) else parse_edits([one])[0] for one in edits]
        read = read_edits(Path(file)) if file else []
        return scenario_versions.edit(self.workspace, reference, [*typed, *read], self._check(), message)

    def diff(self, before: str, after: str) -> Difference:
        """Return what differs between two versions."""
        return difference(self.read(before), self.read(after))

    def log(self, reference: str) -> list[LogEntry]:
        """Return the version and all that it was made from, newest first, with what each added."""
        return scenario_versions.log(self.workspace, reference)

    def merge(
        self, ours: str, theirs: str, into: str = "", settle: Settle | str | None = None, message: str = ""
    ) -> Merged:
        """Merge what `theirs` changed since the nearest common ancestor into `ours`, as its next version.

        Parameters
        ----------
        into : str
            New scenario for the merged version.
        settle : {"ours", "theirs"}, optional
            Whose values count where both changed the same thing.

        Raises
        ------
        MergeConflictError
            With all conflicts; nothing is written then.
        """
        how = Settle(settle) if settle else None
        return scenario_versions.merge(self.workspace, ours, theirs, self._check(), into, how, message)

    def _check(self) -> Callable[[_Tables, _Tables], list[Finding]]:
        return partial(_new_findings, self.workspace.scenarios.ontology())


def _new_findings(ontology: Tables, before: _Tables, after: _Tables) -> list[Finding]:
    """Return what is wrong with tables and was not before."""
    from bos_core.exchange.validation import validate_tables  # the format readers beside it take seconds to load

    known = set(validate_tables(before, ontology=ontology))
    return [finding for finding in validate_tables(after, ontology=ontology) if finding not in known]


class Run:
    """A business request: its progress, its results."""

    def __init__(
        self, workspace: Workspace, trace_id: str, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.workspace, self.trace_id = workspace, trace_id
        self._process = process

    def wait(self, timeout_s: float | None = None) -> Run:
        """Wait for the process of this run to end.

        Raises
        ------
        RunFailedError
            With the end of its log when it failed.
        subprocess.TimeoutExpired
            When it is still running after `timeout_s`.
        """
        if self._process is not None and self._process.wait(timeout_s) != 0:
            raise RunFailedError(f"run {self.trace_id} failed; its last lines:\n{self._tail()}")
        return self

    def _tail(self) -> str:
        path = self.workspace.settings.home / "logs" / f"{self.trace_id}.txt"
        return "\n".join(path.read_text(errors="replace").splitlines()[-15:]) if path.exists() else "(no log)"

    @property
    def task_state(self) -> TaskState:
        """State of the whole request."""
        return self.workspace.ledger.task_set(self.trace_id).state

    def log(self) -> list[LogLine]:
        """Return the log lines of all tasks."""
        return self.workspace.ledger.logs(self.trace_id)

    def trace(
        self,
        step: str = "",
        output: str = "",
        *,
        hour: int | None = None,
        element: str | None = None,
        column: str = "",
        **keys: str,
    ) -> Trace:
        """Tell where results of this run come from; see `Bos.trace`."""
        what = "/".join(filter(None, (self.trace_id, step, output)))
        return Bos(self.workspace).trace(what, hour=hour, element=element, column=column, **keys)

    def openlineage(self, path: str | Path) -> int:
        """Write the run as OpenLineage events, a line of JSON each; return how many.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        lines = [json.dumps(event) for event in openlineage_events(self.workspace, self.trace_id)]
        try:
            Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}; choose a file that can be written") from error
        return len(lines)

    def losses(self, step: str = "", output: str = "") -> Losses:
        """Compare the files of the run (of a step, of an output) with the index; say which are lost or changed."""
        return losses(self.workspace, self.trace_id, step, output)

    def rebuild(
        self, step: str = "", output: str = "", told: Callable[[str], None] = lambda address: None
    ) -> Rebuilt:
        """Make lost or changed files again, byte by byte; see `bos_core.rebuilding.rebuild`.

        A report page that is gone is written again as well; it carries the time of its writing.
        """
        from bos_core.rebuilding import rebuild
        from bos_core.report.collection import report_path

        rebuilt = rebuild(self.workspace, self.trace_id, step, output, told)
        page = report_path(self.workspace.settings, self.trace_id)
        if not (step or rebuilt.failures or page.exists()):
            self.report()
            rebuilt = replace(rebuilt, restored=(*rebuilt.restored, str(page)))
            told(str(page))
        return rebuilt

    def table6(self) -> list[Table6Row]:
        """Return times and speed-up by stage, in the form of the paper's Table 6."""
        from bos_core.report.collection import table6_rows

        return table6_rows(self.workspace, self.trace_id)

    def table(self, step: str, name: str, columns: list[str] | None = None) -> pa.Table:
        """Return a committed output of a step, over all its tasks."""
        return self.workspace.results.table(self.trace_id, step, name, columns)

    def state(self, step: str) -> State:
        """Return the scenario version that a step made, as hourly states of elements."""
        versions = self.workspace.scenarios.versions(trace_id=self.trace_id)
        made = [version for version in versions if version.step == step]
        if not made:
            known = ", ".join(version.step for version in versions) or "none yet"
            raise NotFoundError(f"run {self.trace_id} has no version of step {step!r}; it has: {known}")
        return State(self.workspace.reader(made[-1].id))

    @property
    def n1(self) -> Contingencies:
        """Results of N-1 verification, re-verified hours included."""
        return Contingencies(self)

    @property
    def power_flow(self) -> PowerFlowResults:
        """Results of a power flow."""
        return PowerFlowResults(self)

    def violations(self) -> pa.Table:
        """Return what is still violated after adjustment, a row an hour, outage and element, worst first.

        With value, limit, least relaxation of the limit, and the load that could be shed instead.

        Raises
        ------
        NotFoundError
            Before N-1 verification.
        """
        from bos_core.report.collection import remaining_violations

        found = remaining_violations(self.workspace, self.trace_id)
        if found is None:
            raise NotFoundError(f"run {self.trace_id} has not verified its hours; run it to step n1_verification")
        return found

    def report(self, path: str | Path | None = None) -> Path:
        """Write the HTML report and return its path."""
        from bos_core.report.collection import collect, report_path
        from bos_core.report.page import write

        target = Path(path) if path else report_path(self.workspace.settings, self.trace_id)
        write(collect(self.workspace, self.trace_id), target)
        return target


class State:
    """Hourly states in a scenario version."""

    def __init__(self, reader: ScenarioReader) -> None:
        self.reader = reader

    def bus(self, name: str) -> Element:
        """Return a bus by name or id."""
        return self._element("bus", name)

    def unit(self, name: str) -> Element:
        """Return a unit by name or id."""
        return self._element("unit", name)

    def load(self, name: str) -> Element:
        """Return a load by name or id."""
        return self._element("load", name)

    def branch(self, name: str) -> Element:
        """Return a line, transformer or equivalent branch by name or id."""
        return self._element("branch", name)

    def _element(self, kind: str, name: str) -> Element:
        entities = self.reader.table("entity")
        kinds = ["line", "transformer", "equivalent_branch"] if kind == "branch" else [kind]
        of_kind = entities.filter(pc.is_in(entities["kind"], pa.array(kinds)))
        match = of_kind.filter(pc.or_(pc.equal(of_kind["name"], name), pc.equal(of_kind["id"], name)))
        if match.num_rows != 1:
            near = [n for n in of_kind["name"].to_pylist() if name.lower() in n.lower()][:5]
            hint = f"; similar: {', '.join(near)}" if near else ""
            raise NotFoundError(f"{match.num_rows} {kind} elements are called {name!r}{hint}")
        return Element(self.reader, kind, match["id"][0].as_py(), match["name"][0].as_py())


@dataclass(frozen=True)
class Element:
    """One element over the hours; each series of its kind is an attribute, e.g. ``bus.vm_pu``."""

    reader: ScenarioReader
    kind: str
    id: str
    name: str

    def __getattr__(self, quantity: str) -> FloatArray:
        if quantity.startswith("_") or f"{self.kind}.{quantity}" not in SERIES:
            known = ", ".join(n.split(".")[1] for n in SERIES if n.startswith(f"{self.kind}."))
            raise AttributeError(f"a {self.kind} has no series {quantity!r}; it has {known}")
        return np.asarray(self.reader.aligned(f"{self.kind}.{quantity}", [self.id])[:, 0])


@dataclass(frozen=True)
class PowerFlowResults:
    """Hours, buses and branches of a power flow; hours that diverged have no values."""

    run: Run

    def hours(self) -> pa.Table:
        """Return a row an hour: outcome, iterations, residual, balance, losses, extremes with their elements.

        Elements are named, "" where an hour has none.
        """
        table = self.run.table("power_flow", "hours")
        network = self._network
        for column, names in (
            ("loading_branch", network.branch_name),
            ("vm_min_bus", network.bus_name),
            ("vm_max_bus", network.bus_name),
        ):
            place = table[column].to_numpy()
            position = table.schema.get_field_index(column)
            table = table.set_column(position, column, pa.array(np.where(place >= 0, names[place], "").tolist()))
        return table

    def bus(self, name: str) -> pa.Table:
        """Return voltage and angle of a bus (name or id) over the hours.

        Raises
        ------
        NotFoundError
            No such bus, or the run kept no single elements.
        """
        return self._element("bus", name, self._network.bus_name, self._network.bus_id)

    def branch(self, name: str) -> pa.Table:
        """Return flows at both ends and loading of a branch (name or id) over the hours; see `bus`."""
        return self._element("branch", name, self._network.branch_name, self._network.branch_id)

    @property
    def _network(self) -> Network:
        record = self.run.workspace.ledger.task_set(self.run.trace_id)
        return self.run.workspace.reader(str(record.parameters["scenario_version"])).grid()[0].network

    def _element(self, kind: str, name: str, names: StrArray, ids: StrArray) -> pa.Table:
        found = np.flatnonzero((names == name) | (ids == name))
        if found.size != 1:
            near = [str(n) for n in names if name.lower() in str(n).lower()][:5]
            hint = f"; similar: {', '.join(near)}" if near else ""
            raise NotFoundError(f"{found.size} {kind} elements are called {name!r}{hint}")
        parts = f"{kind}es"
        rows = self.run.workspace.results.table(
            self.run.trace_id, "power_flow", parts, filters=[(kind, "==", int(found[0]))]
        )
        return rows.drop_columns([kind]).sort_by("hour")


@dataclass(frozen=True)
class Contingencies:
    """N-1 results of a run."""

    run: Run

    def pairs(self, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of all (hour, contingency) pairs."""
        return self.run.table("n1_verification", "pairs", columns)

    def counts(self) -> dict[str, int]:
        """Return pairs by class."""
        outcome = np.bincount(self.pairs(["outcome"])["outcome"].to_numpy(), minlength=3)
        return dict(zip(OUTCOME_NAMES, map(int, outcome), strict=True))

    def worst(self, count: int = 10) -> pa.Table:
        """Return the pairs with the highest loading, with names; diverged ones, which have no figures, first."""
        table = self.pairs()
        severity = np.nan_to_num(table["loading_max"].to_numpy(), nan=np.inf)
        top = table.take(np.argsort(-severity, kind="stable")[:count])
        grid, _ = self.run.state("n1_verification").reader.grid()
        branch, bus, outcome = grid.network.branch_name, grid.network.bus_name, np.array(OUTCOME_NAMES)
        of = {
            "contingency": branch,
            "loading_branch": branch,
            "vm_min_bus": bus,
            "vm_max_bus": bus,
            "outcome": outcome,
        }
        for column, names in of.items():
            place = top[column].to_numpy()
            position = top.schema.get_field_index(column)
            values = pa.array(names[place].tolist(), pa.string(), mask=place < 0)
            top = top.set_column(position, column, values)
        return top
