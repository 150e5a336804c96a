"""Step 5b: active power dispatch, a day a task, and the check of the boundaries between days."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from bos_core.access.hourly import hourly_table, hourly_values
from bos_core.access.result_table import result_table
from bos_core.access.scenario_data import ScenarioWriter
from bos_core.grid.model import BoolArray, FloatArray
from bos_core.grid.schedule import ramp_violations
from bos_core.objects.task import Task
from flows.schedule_inputs import ScheduleHours, schedule_hours
from flows.step import Job, Step, StepRun
from slots.active_dispatch.contract import Inputs, Outputs

_SERIES = (
    "unit.p_mw",
    "unit.reserve_up_mw",
    "unit.reserve_down_mw",
    "storage.p_mw",
    "storage.energy_mwh",
    "hvdc.p_mw",
    "load.shed_mw",
    "bus.price_eur_per_mwh",
)


def plan(run: StepRun) -> list[Task]:
    """Days in parallel, each starting from the committed plan of the hour before; then one boundary task."""
    low, high = run.request.horizon.start_hour, run.request.horizon.stop_hour
    days = []
    for first in range(low, high, 24):
        last = min(first + 24, high)
        chunk = f"day={first // 24 + 1:03d} hours={first:04d}-{last - 1:04d}"
        days.append(run.task("active_dispatch", "active_dispatch", chunk, 1, start=first, stop=last, horizon=low))
    needs = [day.id for day in days]
    boundary = run.task(
        "active_dispatch",
        "active_dispatch",
        "boundary",
        1,
        needs,
        start=low,
        stop=high,
        horizon=low,
    )
    return [*days, boundary]


def carry_out(job: Job) -> Mapping[str, pa.Table]:
    """Dispatch a day, or verify and repair the boundaries between days."""
    if job.task.chunk == "boundary":
        return _verify_boundaries(job)
    start, first = job.hours.start, int(job.task.parameters["horizon"])
    with job.reading():
        data, on, on_before, p_before = _day(job, job.hours, known_before=start > first)
    return _tables(data, start, _dispatch(job, data, on, on_before, p_before))


def _day(job: Job, hours: slice, known_before: bool) -> tuple[ScheduleHours, BoolArray, BoolArray, FloatArray]:
    """Return the day's data, its commitment, and the committed plan of the hour before.

    Before the first hour of all the commitment is that of the first hour, with unknown output: as in unit
    commitment, nothing starts there.
    """
    reader = job.read()
    data = schedule_hours(reader, hours)
    ids = data.grid.units.id
    on = reader.aligned("unit.on", ids, hours).astype(bool)
    if not known_before:
        return data, on, on[0], np.full(ids.size, np.nan)
    hour = slice(hours.start - 1, hours.start)
    before = reader.aligned("unit.on", ids, hour)[0].astype(bool)
    p_before = np.where(before, reader.aligned("unit.p_mw", ids, hour)[0], 0.0)
    return data, on, before, p_before


def _dispatch(job: Job, data: ScheduleHours, on: BoolArray, on_before: BoolArray, p_before: FloatArray) -> Outputs:
    outputs = job.run(dispatch_inputs(data, on, on_before, p_before))
    assert isinstance(outputs, Outputs)
    return outputs


def dispatch_inputs(data: ScheduleHours, on: BoolArray, on_before: BoolArray, p_before: FloatArray) -> Inputs:
    """Return what the slot is given: a commitment (hour, unit), and state and power of the hour before, (unit,).

    Storages begin and end in the middle of their range; a power of NaN in the hour before is unknown.
    """
    storages = data.grid.storages
    middle = 0.5 * (storages.energy_mwh_min + storages.energy_mwh_max)
    return Inputs(
        grid=data.grid,
        on=on,
        load_p_mw=data.load_p_mw,
        available_mw=data.available_mw,
        reserve_up_mw=data.reserve_up_mw,
        reserve_down_mw=data.reserve_down_mw,
        branch_mw_max=data.branch_mw_max,
        initial_on=on_before,
        initial_p_mw=p_before,
        storage_initial_mwh=middle,
        storage_final_mwh=middle,
        losses_mw=data.losses_mw,
    )


def _tables(data: ScheduleHours, start: int, outputs: Outputs) -> dict[str, pa.Table]:
    grid = data.grid
    series = {
        "unit.p_mw": (grid.units.id, outputs.p_mw),
        "unit.reserve_up_mw": (grid.units.id, outputs.reserve_up_mw),
        "unit.reserve_down_mw": (grid.units.id, outputs.reserve_down_mw),
        "storage.p_mw": (grid.storages.id, outputs.storage_p_mw),
        "storage.energy_mwh": (grid.storages.id, outputs.storage_energy_mwh),
        "hvdc.p_mw": (grid.hvdc.id, outputs.hvdc_p_mw),
        "load.shed_mw": (grid.loads.id, np.maximum(outputs.shed_mw, 0.0)),
        "bus.price_eur_per_mwh": (grid.network.bus_id, outputs.price_eur_per_mwh),
    }
    hours = np.arange(start, start + outputs.p_mw.shape[0])
    summary = {
        "hour": hours,
        "cost_eur": outputs.cost_eur,
        "shed_mw": outputs.shed_mw.sum(axis=1),
        "surplus_mw": outputs.surplus_mw,
        "reserve_short_mw": outputs.reserve_short_mw,
        "overload_mw": outputs.overload_mw.sum(axis=1),
        "losses_mw": data.losses_mw,
        "reserve_required_mw": data.reserve_up_mw,
        "reserve_down_required_mw": data.reserve_down_mw,
        "status": [outputs.status] * hours.size,
        "fallback": [outputs.fallback] * hours.size,
    }
    over_hour, over_branch = np.nonzero(outputs.overload_mw > 1e-3)
    overloads = {
        "hour": hours[over_hour],
        "branch": grid.network.branch_id[over_branch].tolist(),
        "overload_mw": outputs.overload_mw[over_hour, over_branch],
    }
    tables = {name: hourly_table(name, start, ids, values) for name, (ids, values) in series.items()}
    return {**tables, "hours": result_table(summary), "overloads": result_table(overloads)}


def _verify_boundaries(job: Job) -> dict[str, pa.Table]:
    """Check ramps over every midnight; dispatch the offending days again from the true output before.

    A repaired day may break the next boundary: days are walked in order, so the last check of a boundary is
    against final values.
    """
    low, high = job.hours.start, job.hours.stop
    days = {int(job.workspace.ledger.task(t).parameters["start"]): t for t in job.needs}
    repaired: dict[int, dict[str, pa.Table]] = {}
    found: list[tuple[int, str, float, bool]] = []
    before: tuple[BoolArray, FloatArray] | None = None
    for start in sorted(days):
        stop = min(start + 24, high)
        with job.reading() as reader:
            grid, _ = reader.grid()
            on = reader.aligned("unit.on", grid.units.id, slice(start, stop)).astype(bool)
            p = hourly_values(job.output(days[start], "unit.p_mw"))[2]
        if before is not None:
            broken = ramp_violations(before[1], p[0], before[0], on[0], grid.units)
            if broken:
                data, on, _, _ = _day(job, slice(start, stop), known_before=start > low)
                outputs = _dispatch(job, data, on, *before)
                repaired[start] = _tables(data, start, outputs)
                p = outputs.p_mw
                left = dict(ramp_violations(before[1], p[0], before[0], on[0], grid.units))
                found += [(start, str(grid.units.id[u]), excess, u not in left) for u, excess in broken]
        before = (on[-1], p[-1])
    names = ("hour", "unit", "excess_mw", "repaired")
    table = pa.table({name: [row[k] for row in found] for k, name in enumerate(names)}, schema=_BOUNDARY)
    merged = {
        name: pa.concat_tables([tables[name] for tables in repaired.values()])
        for name in next(iter(repaired.values()), {})
    }
    return {"boundary": table, **{f"repaired.{name}": value for name, value in merged.items()}}


_BOUNDARY = pa.schema(
    [
        pa.field("hour", pa.int64(), metadata={"unit": "h"}),
        pa.field("unit", pa.string()),
        pa.field("excess_mw", pa.float64(), metadata={"unit": "MW"}),
        pa.field("repaired", pa.bool_()),
    ]
)


def with_repairs(run: StepRun, name: str) -> pa.Table:
    """Return an hourly output of the step with the repaired days in place; these come last."""
    table = run.tables("active_dispatch", name)
    outputs = run.workspace.ledger.outputs(run.context.trace_id, "active_dispatch", f"repaired.{name}")
    if not outputs:
        return table
    new = run.workspace.store.get_table(outputs[0].address)
    kept = table.filter(~np.isin(table["hour"].to_numpy(), new["hour"].to_numpy()))
    return pa.concat_tables([kept, new])


def backfill(run: StepRun, writer: ScenarioWriter) -> str:
    """Write set points and prices."""
    for name in _SERIES:
        first, ids, values = hourly_values(with_repairs(run, name))
        writer.put_series(name, ids, values, first_hour=first)
    boundary = run.tables("active_dispatch", "boundary")
    return f"dispatch; {boundary.num_rows} ramps over midnight found and repaired"


STEP = Step("active_dispatch", "Active power dispatch", plan, carry_out, backfill)
