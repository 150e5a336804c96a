"""What the sections of one report read: a run's scenario versions, grid, limits, committed tables and series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from bos_core.access.criteria import Criteria, criteria
from bos_core.access.plan_year import PlanYear
from bos_core.access.scenario_data import ScenarioReader
from bos_core.access.workspace import Workspace
from bos_core.grid.model import FloatArray, Grid
from bos_core.index.records import TaskSetRecord
from bos_core.index.scenarios import VersionRecord
from bos_core.objects.errors import NotFoundError
from bos_core.objects.ontology import HOURS_PER_YEAR
from bos_core.report.charts import TimeAxis


class RunSources:
    """A run's results; each is read when it is first asked for, and once.

    Attributes
    ----------
    workspace : Workspace
    record : TaskSetRecord
        The request.
    trace : str
    versions : list of VersionRecord
        What the run has made, oldest first; none by a run that changes no scenario.
    version : VersionRecord
        The newest of them; where there is none, the version that the run reads.
    reader : ScenarioReader
        Of that version.
    start, hours : int
        First hour of the year, and how many.

    Raises
    ------
    NotFoundError
        If there is no such run, or none of its tasks has begun.
    """

    def __init__(self, workspace: Workspace, trace_id: str) -> None:
        self.workspace = workspace
        self.record: TaskSetRecord = workspace.ledger.task_set(trace_id)
        self.trace = self.record.trace_id
        made = workspace.scenarios.versions(trace_id=self.trace)
        if not made and not any(task.attempt for task in workspace.ledger.tasks(self.trace)):
            raise NotFoundError(f"run {self.trace} has no results yet; see `bos ps` and `bos logs`")
        self.versions: list[VersionRecord] = sorted(made, key=lambda version: version.number)
        read = str(self.record.parameters.get("scenario_version", ""))
        self.version = self.versions[-1] if made else workspace.scenarios.get(read)
        self.reader: ScenarioReader = workspace.reader(self.version.id)
        horizon = self.record.parameters.get("horizon") or {}
        self.start = int(horizon.get("start_hour", 0))
        self.hours = int(horizon.get("hours", 1))
        self._tables: dict[tuple[str, str], pa.Table | None] = {}

    @cached_property
    def grid(self) -> Grid:
        """The grid of the newest version."""
        return self.reader.grid()[0]

    @cached_property
    def year(self) -> TimeAxis:
        """Dates of the hours of the plan year."""
        return TimeAxis(PlanYear.of(self.reader).start, HOURS_PER_YEAR)

    @cached_property
    def limits(self) -> Criteria:
        """Limits of voltages and loadings, before and after an outage."""
        return criteria(self.grid, self.reader.table)

    def table(self, step: str, name: str) -> pa.Table | None:
        """Return a committed output of a step over all its tasks, None when there is none."""
        if (step, name) not in self._tables:
            try:
                self._tables[step, name] = self.workspace.results.table(self.trace, step, name)
            except NotFoundError:
                self._tables[step, name] = None
        return self._tables[step, name]

    def has_table(self, step: str, name: str) -> bool:
        """Whether any task of a step has committed this output."""
        return bool(self.workspace.ledger.outputs(self.trace, step, name))

    def pieces(self, step: str, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of a committed output piece by piece, in the order of its tasks."""
        for batch in self.workspace.results.batches(self.trace, step, name, columns):
            yield pa.Table.from_batches([batch])

    def task_table(self, step: str, name: str, chunk: str) -> pa.Table | None:
        """Return the output of one task of a step, None when there is none."""
        for output in self.workspace.ledger.outputs(self.trace, step, name):
            if output.chunk == chunk:
                return self.workspace.store.get_table(output.address)
        return None

    def series(
        self, name: str, ids: Sequence[str] | np.ndarray, reader: ScenarioReader | None = None
    ) -> FloatArray | None:
        """Return a series over the run's hours, None when the version lacks it or has no such element."""
        source = reader or self.reader
        if not source.has_series(name) or not len(ids):
            return None
        return source.aligned(name, ids, slice(self.start, self.start + self.hours)).astype(np.float64)

    def by_hour(self, table: pa.Table | None, column: str) -> FloatArray | None:
        """Return a column of an hourly table along the run's hours, NaN where an hour has no row."""
        if table is None or column not in table.column_names:
            return None
        values = np.full(self.hours, np.nan)
        values[table["hour"].to_numpy() - self.start] = table[column].to_numpy()
        return values


def renewed(first: pa.Table, again: pa.Table, hours: np.ndarray) -> pa.Table:
    """Return an hourly table in which the rows of `again` replace those of these hours."""
    kept = first.filter(pa.array(~np.isin(first["hour"].to_numpy(), np.unique(hours))))
    return pa.concat_tables([kept, again])
