"""Step 5c: reactive power dispatch, and an independent power flow of every hour as its boundary check."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from bos_core.access.criteria import criteria
from bos_core.access.hourly import hourly_table, hourly_values
from bos_core.access.result_table import result_table
from bos_core.access.scenario_data import ScenarioWriter
from bos_core.access.state_series import VOLTAGE_SERIES, read_states, voltage_series
from bos_core.grid.model import FloatArray, Grid, IntArray, Snapshot
from bos_core.grid.power_flow import network_at, solve_hours
from bos_core.objects.task import Task
from flows.step import Job, Step, StepRun, hour_blocks
from slots.reactive_dispatch.contract import DIVERGED, Inputs, Outputs

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
    """Dispatch a block, or verify the boundaries."""
    if job.task.chunk == "boundary":
        return _verify_boundaries(job)
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
    return state_tables(grid, outputs.states, job.hours.start) | {"hours": _summary(job.hours.start, outputs)}


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


def _summary(start: int, outputs: Outputs) -> pa.Table:
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
        }
    )


def _verify_boundaries(job: Job) -> dict[str, pa.Table]:
    """Solve the power flow of every hour from its set points alone and compare; list set-point jumps."""
    blocks = sorted(job.needs, key=lambda t: int(job.workspace.ledger.task(t).parameters["start"]))
    rows: list[pa.Table] = []
    previous: FloatArray | None = None
    with job.reading() as reader:
        grid, base = reader.grid()
    for task_id in blocks:
        with job.reading() as reader:
            task = job.workspace.ledger.task(task_id)
            hours = slice(int(task.parameters["start"]), int(task.parameters["stop"]))
            overlay = BlockReader(reader, {n: job.output(task_id, n) for n in _STATE_SERIES})
            states = read_states(overlay, grid, base, hours)
            outcome = job.output(task_id, "hours")["outcome"].to_numpy()
        solved = solve_hours(grid, states)
        set_points = hourly_values(overlay.tables["bus.vm_set_pu"])[2]
        stacked = np.vstack([set_points[:1] if previous is None else previous[None], set_points])
        jumps = np.abs(np.diff(stacked, axis=0))
        previous = set_points[-1]
        difference = np.where(outcome == DIVERGED, np.nan, np.abs(solved.states.vm_pu - states.vm_pu).max(axis=1))
        rows.append(
            result_table(
                {
                    "hour": np.arange(hours.start, hours.stop),
                    "vm_difference_pu": difference,
                    "residual_pu": solved.residual_pu,
                    "jumps": np.nansum(jumps > VOLTAGE_STEP_PU_MAX, axis=1).astype(np.int64),
                }
            )
        )
    return {"boundary": pa.concat_tables(rows)}


_STATE_SERIES = ("unit.p_mw", *VOLTAGE_SERIES)


class BlockReader:
    """A scenario version with the fresh outputs of one block laid over it."""

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
