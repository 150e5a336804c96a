"""Step 5c: reactive power dispatch, an independent power flow of every hour, and set points that jump."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pyarrow as pa

from bos_core.access.criteria import criteria
from bos_core.access.hourly import hourly_table, hourly_values
from bos_core.access.result_table import result_table
from bos_core.access.scenario_data import ScenarioWriter
from bos_core.access.state_series import VOLTAGE_SERIES, read_states, voltage_series
from bos_core.grid.model import FloatArray, Grid, IntArray, Snapshot
from bos_core.grid.power_flow import CONVERGED, network_at, solve_hours
from bos_core.objects.task import Task
from flows.step import Job, Step, StepRun, hour_blocks
from slots.reactive_dispatch.contract import Inputs, Outputs

VOLTAGE_STEP_PU_MAX = 0.05
"""A set point that moves more than this between hours is reported by the boundary task."""


def plan(run: StepRun) -> list[Task]:
    """Blocks of hours in parallel, then one boundary task."""
    blocks = hour_blocks(run.request)
    tasks = [
        run.task("reactive_dispatch", "reactive_dispatch", f"hours={a:04d}-{b - 1:04d}", b - a, start=a, stop=b)
        for a, b in blocks
    ]
    low, high = run.request.horizon.start_hour, run.request.horizon.stop_hour
    needs = [task.id for task in tasks]
    boundary = run.task("reactive_dispatch", "reactive_dispatch", "boundary", 1, needs, start=low, stop=high)
    return [*tasks, boundary]


def carry_out(job: Job) -> Mapping[str, pa.Table]:
    """Dispatch a block and solve what was written once more, or compare the borders of blocks."""
    if job.task.chunk == "boundary":
        return _compare_borders(job)
    with job.reading() as reader:
        grid, base = reader.grid()
        states = read_states(reader, grid, base, job.hours)
        limits = criteria(grid, reader.table)
    outputs = job.run(
        Inputs(
            grid=grid,
            states=states,
            vm_pu_min=limits.vm_pu_min,
            vm_pu_max=limits.vm_pu_max,
            loading_max=limits.loading_max,
        )
    )
    assert isinstance(outputs, Outputs)
    start = job.hours.start
    tables = state_tables(grid, outputs.states, start)
    with job.reading() as reader:
        written = read_states(BlockReader(reader, tables), grid, base, job.hours)
    _, ids, set_points = hourly_values(tables["bus.vm_set_pu"])
    jumps = np.r_[0, _jumps(set_points)]
    return tables | {
        "hours": _summary(start, outputs, _vm_difference(grid, written), jumps),
        "border": result_table({"bus": ids, "first_vm_set_pu": set_points[0], "last_vm_set_pu": set_points[-1]}),
    }


def _vm_difference(grid: Grid, written: Snapshot) -> FloatArray:
    """Solve the power flow of every hour from its set points alone; return how far voltages are off, (hour,).

    NaN where there is no solution.
    """
    solved = solve_hours(grid, written)
    difference = np.abs(solved.states.vm_pu - written.vm_pu).max(axis=1)
    return np.where(solved.outcome == CONVERGED, difference, np.nan)


def state_tables(grid: Grid, states: Snapshot, hours: int | IntArray) -> dict[str, pa.Table]:
    """Return everything that AC-solved hours decide, as hourly tables; hours as in `hourly_table`."""
    voltage = states.vm_pu * np.exp(1j * states.va_rad)
    rows = range(voltage.shape[0])  # taps differ by hour
    loading = np.stack([network_at(grid, states.hour(k)).loading(voltage[k]) for k in rows])
    series = {
        **voltage_series(grid, states),
        "unit.p_mw": (grid.units.id, states.unit_p_mw),
        "branch.loading": (grid.network.branch_id, loading),
    }
    return {name: hourly_table(name, hours, ids, values) for name, (ids, values) in series.items()}


def _jumps(set_points: FloatArray) -> IntArray:
    """Return how many set points (hour, bus) are far from those of the hour before, (hour - 1,)."""
    far: IntArray = (np.abs(np.diff(set_points, axis=0)) > VOLTAGE_STEP_PU_MAX).sum(axis=1)
    return far


def _summary(start: int, outputs: Outputs, vm_difference_pu: FloatArray, jumps: IntArray) -> pa.Table:
    return result_table(
        {
            "hour": np.arange(start, start + outputs.outcome.size),
            "outcome": outputs.outcome,
            "residual_pu": outputs.residual_pu,
            "iterations": outputs.iterations,
            "losses_mw": outputs.losses_mw,
            "slack_p_mw": outputs.slack_p_mw,
            "voltage_excess_pu": outputs.voltage_excess_pu,
            "loading_excess": outputs.loading_excess,
            "vm_difference_pu": vm_difference_pu,
            "jumps": jumps,
        }
    )


def _compare_borders(job: Job) -> dict[str, pa.Table]:
    """Count the set points that jump from the last hour of a block to the first of the next."""
    ledger = job.workspace.ledger
    starts = {task_id: int(ledger.task(task_id).parameters["start"]) for task_id in job.needs}
    borders = [job.output(task_id, "border") for task_id in sorted(starts, key=starts.__getitem__)]
    jumps = [
        _jumps(np.stack([before["last_vm_set_pu"].to_numpy(), after["first_vm_set_pu"].to_numpy()]))[0]
        for before, after in pairwise(borders)
    ]
    hours = np.array(sorted(starts.values())[1:], np.int64)
    return {"boundary": result_table({"hour": hours, "jumps": np.array(jumps, np.int64)})}


_STATE_SERIES = ("unit.p_mw", *VOLTAGE_SERIES)


class BlockReader:
    """A scenario version with the fresh tables of one block laid over it."""

    def __init__(self, reader: object, tables: Mapping[str, pa.Table]) -> None:
        self.reader, self.tables = reader, tables

    def has_series(self, name: str) -> bool:
        """Whether the block or the version below holds the series."""
        return name in self.tables or self.reader.has_series(name)

    def aligned(self, name: str, ids: np.ndarray, hours: slice) -> np.ndarray:
        """Return values (hour, id) in the order of `ids`."""
        if name not in self.tables:
            return self.reader.aligned(name, ids, hours)
        first, known, values = hourly_values(self.tables[name])
        position = {str(i): k for k, i in enumerate(known)}
        return values[hours.start - first : hours.stop - first][:, [position[str(i)] for i in ids]]


def backfill(run: StepRun, writer: ScenarioWriter) -> str:
    """Write the AC states."""
    for name in (*_STATE_SERIES, "branch.loading"):
        first, ids, values = hourly_values(run.tables("reactive_dispatch", name))
        writer.put_series(name, ids, values, first_hour=first)
    outcome = run.tables("reactive_dispatch", "hours")["outcome"].to_numpy()
    counts = np.bincount(outcome, minlength=4)
    return "AC states: {} optimal, {} softened, {} power flow only, {} diverged".format(*counts)


STEP = Step("reactive_dispatch", "Reactive power dispatch", plan, carry_out, backfill)
