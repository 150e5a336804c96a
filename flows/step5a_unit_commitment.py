"""Step 5a: unit commitment, months first, then days inside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from bos_core.access.hourly import hourly_table, hourly_values
from bos_core.access.result_table import result_table
from bos_core.access.scenario_data import ScenarioWriter
from bos_core.grid.model import BoolArray, FloatArray, IntArray, Storages, Units
from bos_core.objects.ontology import HOURS_PER_YEAR, months_between
from bos_core.objects.task import Task
from flows.request import PlanRequest
from flows.schedule_inputs import ScheduleHours, schedule_hours
from flows.step import Job, Step, StepRun
from slots.unit_commitment.contract import FREE, Inputs, Outputs

MONTH_PERIOD_H = 4
SLOW_MIN_UP_H = 8
"""Units with at least this minimum up time are decided by the month."""
MONTH_LOOK_AHEAD_H = 24
DAY_LOOK_AHEAD_H = 12
LONG_AGO_H = 1000

_SERIES = ("unit.on", "unit.p_mw", "unit.reserve_up_mw", "unit.reserve_down_mw", "storage.p_mw", "hvdc.p_mw")


def plan(run: StepRun) -> list[Task]:
    """Months in sequence; the days of each month in sequence, beside those of other months.

    The plan of a month hands its boundary (who is on, since when, at what output) to the next month and to its
    first day, and the decisions on slow units to its own days. A day hands its true end state to the next day. The
    last day of a month is decided after the first day of the next one, whose commitment it prepares.
    """

    def task(chunk: str, layer: str, hours: tuple[int, int], needs: list[str]) -> Task:
        start, stop = hours
        chunk = f"{chunk} hours={start:04d}-{stop - 1:04d}"
        slot = "unit_commitment"
        return run.task(slot, slot, chunk, 1, needs, start=start, stop=stop, layer=layer)

    planned: list[Task] = []
    for month, hours in months(run.request).items():
        before = [planned[-1].id] if planned else []
        planned.append(task(f"month={month:02d}", "month", hours, before))
    days: list[Task] = []
    after: list[str] = []
    for month_task in reversed(planned):
        start, stop = (int(month_task.input.parameters[edge]) for edge in ("start", "stop"))
        before, chain = list(month_task.depends_on), []
        for first in range(start, stop, 24):
            last = min(first + 24, stop)
            needs = [month_task.id, *before, *(after if last == stop else [])]
            chain.append(task(f"day={first // 24 + 1:03d}", "day", (first, last), needs))
            before = [chain[-1].id]
        after = [chain[0].id]
        days += chain
    return [*planned, *days]


def months(request: PlanRequest) -> dict[int, tuple[int, int]]:
    """Return the part of each month that lies in the horizon: month ► (first hour, stop hour)."""
    hours = months_between(request.horizon.start_hour, request.horizon.stop_hour)
    return {month: (part.start, part.stop) for month, part in hours.items()}


def carry_out(job: Job) -> Mapping[str, pa.Table]:
    """Commit one month or one day."""
    month = job.task.parameters["layer"] == "month"
    period = MONTH_PERIOD_H if month else 1
    ahead = MONTH_LOOK_AHEAD_H if month else DAY_LOOK_AHEAD_H
    start, stop = job.hours.start, job.hours.stop
    horizon = slice(start, min(stop + ahead, HOURS_PER_YEAR))
    with job.reading() as reader:
        data = schedule_hours(reader, horizon)
        known = _Neighbours.of(job)
        before = _end_state(job, known.before) if known.before else None
        fixed = _decisions(job, known, horizon, data) if not month else None
    units = data.grid.units
    count = -(-(horizon.stop - horizon.start) // period)
    decided = -(-(stop - start) // period)
    storages = data.grid.storages
    middle = 0.5 * (storages.energy_mwh_min + storages.energy_mwh_max)
    on, hours_in_state, p_before, energy = before or (
        np.zeros(units.n, bool),
        np.full(units.n, -LONG_AGO_H),
        np.zeros(units.n),
        middle,
    )
    in_service = blocks(data.in_service, period, "all")
    outputs = job.run(
        Inputs(
            grid=data.grid,
            period_h=period,
            look_ahead=count - decided,
            free_start=before is None,
            load_p_mw=blocks(data.load_p_mw, period, "mean") + _losses_share(data, period),
            available_mw=blocks(data.available_mw, period, "mean"),
            in_service=in_service,
            reserve_up_mw=blocks(data.reserve_up_mw, period, "max"),
            reserve_down_mw=blocks(data.reserve_down_mw, period, "max"),
            branch_mw_max=data.branch_mw_max,
            integer=_slow(units) if month else units.committable,
            fixed_on=_without_conflict(fixed, in_service, units, on, hours_in_state, before is None)
            if fixed is not None
            else np.full((count, units.n), FREE),
            initial_on=on,
            initial_h=hours_in_state,
            initial_p_mw=p_before,
            energy_mwh_max=units.energy_mwh_max * (count * period / HOURS_PER_YEAR),
            storage_initial_mwh=energy_within_limits(energy, storages),
            storage_final_mwh=middle,
        )
    )
    assert isinstance(outputs, Outputs)
    return _tables(data, outputs, start, stop, period, month, (on, hours_in_state))


def _slow(units: Units) -> BoolArray:
    """Return the units that the month decides, (unit,)."""
    return np.asarray(units.committable & (units.min_up_h >= SLOW_MIN_UP_H))


def _losses_share(data: ScheduleHours, period: int) -> FloatArray:
    """Spread the network losses over the loads, as the dispatch does."""
    load = blocks(data.load_p_mw, period, "mean")
    total = np.maximum(load.sum(axis=1, keepdims=True), 1e-9)
    return load / total * blocks(data.losses_mw, period, "mean")[:, None]


def blocks(values: np.ndarray, period: int, how: str) -> np.ndarray:
    """Aggregate hours (axis 0) to periods; a last, shorter period counts the hours it has."""
    edges = range(0, values.shape[0], period)
    reduce = {"mean": np.mean, "max": np.max, "all": np.all}[how]
    return np.stack([reduce(values[k : k + period], axis=0) for k in edges])


@dataclass(frozen=True)
class _Neighbours:
    """Tasks that a month or a day builds on, None where there is none.

    Attributes
    ----------
    month : str
        The month that a day belongs to.
    before : str
        Whose end is this one's start: the day before, at the start of a month the month before.
    after : str
        The day after, where it is decided already.
    """

    month: str | None
    before: str | None
    after: str | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Tell the tasks that a job needs apart by their hours."""
        start, stop = job.hours.start, job.hours.stop
        needs = [job.workspace.ledger.task(task) for task in job.needs]
        return cls(
            next((t.id for t in needs if t.parameters["start"] <= start < t.parameters["stop"]), None),
            next((t.id for t in needs if t.parameters["stop"] == start), None),
            next((t.id for t in needs if t.parameters["start"] == stop), None),
        )


def _end_state(job: Job, task_id: str) -> tuple[BoolArray, IntArray, FloatArray, FloatArray]:
    end = job.output(task_id, "end_state")
    storage = job.output(task_id, "storage_end")
    return (
        end["on"].to_numpy(zero_copy_only=False),
        end["hours_in_state"].to_numpy(),
        end["p_mw"].to_numpy(),
        storage["energy_mwh"].to_numpy(),
    )


def _decisions(job: Job, known: _Neighbours, horizon: slice, data: ScheduleHours) -> IntArray:
    """Return what is decided in the day's hours: slow units by the month, the look-ahead by a day after."""
    units = data.grid.units
    fixed = np.full((horizon.stop - horizon.start, units.n), FREE)
    for task, which in ((known.month, _slow(units)), (known.after, units.committable)):
        if task is None:
            continue
        first, _, on = hourly_values(job.output(task, "unit.on"))
        low, high = max(first, horizon.start), min(first + on.shape[0], horizon.stop)
        rows = on[low - first : high - first].astype(np.int64)
        fixed[low - horizon.start : high - horizon.start, which] = rows[:, which]
    return fixed


def _without_conflict(
    fixed: IntArray, in_service: BoolArray, units: Units, on: BoolArray, hours_in_state: IntArray, free_start: bool
) -> IntArray:
    """Free a unit for the day where the month's plan contradicts what the unit really does before it.

    A plan in blocks cannot see hourly outages or the true end of the previous day.
    """
    held = np.where(on, units.min_up_h - hours_in_state, units.min_down_h + hours_in_state)
    conflict = np.zeros(units.n, bool)
    if not free_start:
        for unit in np.flatnonzero(held > 0):
            wanted = fixed[: held[unit], unit]
            conflict[unit] = bool(((wanted != FREE) & (wanted != int(on[unit]))).any())
    conflict |= ((fixed == 1) & ~in_service).any(axis=0)
    return np.where(conflict[None, :], FREE, fixed)


def _tables(
    data: ScheduleHours,
    outputs: Outputs,
    start: int,
    stop: int,
    period: int,
    month: bool,
    initial: tuple[BoolArray, IntArray],
) -> dict[str, pa.Table]:
    grid = data.grid
    kept = slice(None) if month else slice(0, stop - start)

    def hourly(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, period, axis=0)[kept]

    series = {
        "unit.on": (grid.units.id, outputs.on),
        "unit.p_mw": (grid.units.id, outputs.p_mw),
        "unit.reserve_up_mw": (grid.units.id, outputs.reserve_up_mw),
        "unit.reserve_down_mw": (grid.units.id, outputs.reserve_down_mw),
        "storage.p_mw": (grid.storages.id, outputs.storage_p_mw),
        "hvdc.p_mw": (grid.hvdc.id, outputs.hvdc_p_mw),
    }
    last = -(-(stop - start) // period) - 1
    p_end = outputs.p_mw[last]
    if month:  # a relaxed unit may have ended between rest and minimum output
        at_least = np.where(outputs.on[last], np.maximum(p_end, grid.units.p_mw_min), 0.0)
        p_end = np.where(grid.units.committable & ~_slow(grid.units), at_least, p_end)
    on = np.repeat(outputs.on[: last + 1], period, axis=0)[: stop - start]
    end = result_table(
        {
            "unit": grid.units.id.tolist(),
            "on": outputs.on[last],
            "hours_in_state": hours_in_last_state(on, *initial),
            "p_mw": p_end,
        }
    )
    storage = outputs.storage_energy_mwh[last]
    summary = {
        "layer": ["month" if month else "day"],
        "objective_eur": [outputs.objective_eur],
        "bound_eur": [outputs.bound_eur],
        "gap": [outputs.gap],
        "network_limits": [outputs.network_limits],
        "unserved_mwh": [float(outputs.unserved_mw[: last + 1].sum()) * period],
        "surplus_mwh": [float(outputs.surplus_mw[: last + 1].sum()) * period],
        "reserve_short_mwh": [float(outputs.reserve_short_mw[: last + 1].sum()) * period],
        "overload_mwh": [float(outputs.overload_mw[: last + 1].sum()) * period],
        "status": [outputs.status],
        "fallback": [outputs.fallback],
    }
    tables = {name: hourly_table(name, start, ids, hourly(values)) for name, (ids, values) in series.items()}
    return {
        **tables,
        "end_state": end,
        "storage_end": result_table({"storage": grid.storages.id.tolist(), "energy_mwh": storage}),
        "summary": result_table(summary),
    }


def energy_within_limits(energy_mwh: FloatArray, storages: Storages) -> FloatArray:
    """Return the energy (storage,) for the next day to start with: a solver keeps limits to a tolerance only."""
    return np.clip(energy_mwh, storages.energy_mwh_min, storages.energy_mwh_max)


def hours_in_last_state(on: BoolArray, initial_on: BoolArray, initial_h: IntArray) -> IntArray:
    """Return hours on (positive) or off (negative) at the end of a schedule; on has the shape (hour, unit)."""
    last = on[-1]
    changed = on[::-1] != last
    run = np.where(changed.any(axis=0), changed.argmax(axis=0), on.shape[0])
    whole = ~changed.any(axis=0) & (initial_on == last)
    hours = run + np.where(whole, np.abs(initial_h), 0)
    return np.where(last, hours, -hours).astype(np.int64)


def backfill(run: StepRun, writer: ScenarioWriter) -> str:
    """Write the days' commitments; the months only guided them."""
    for name in _SERIES:
        made = run.workspace.ledger.outputs(run.context.trace_id, "unit_commitment", name)
        days = [output for output in made if output.chunk.startswith("day=")]
        tables: Sequence[pa.Table] = [run.workspace.store.get_table(o.address) for o in days]
        first, ids, values = hourly_values(pa.concat_tables(tables))
        writer.put_series(name, ids, values, first_hour=first)
    return f"commitment of {len(days)} days"


STEP = Step("unit_commitment", "Unit commitment", plan, carry_out, backfill)
