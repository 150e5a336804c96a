"""Step 7: adjust the hours that fail, verify them again, and list what remains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from bos_core.access.criteria import Criteria, criteria
from bos_core.access.hourly import hourly_rows, hourly_table
from bos_core.access.result_table import result_table
from bos_core.access.scenario_data import ScenarioReader, ScenarioWriter
from bos_core.access.state_series import read_states
from bos_core.grid.model import BoolArray, FloatArray, Grid, IntArray, Snapshot, stack
from bos_core.grid.power_flow import network_losses_mw
from bos_core.grid.schedule import ramp_excess_mw
from bos_core.objects.task import Task
from bos_core.programs.catalogue import Catalogue
from flows.step import Job, Step, StepRun, hour_blocks
from flows.step5c_reactive_dispatch import state_tables
from flows.step6_n1_verification import base_overloads, contingencies, n1_tables
from slots.n1_verification.contract import DIVERGED as N1_DIVERGED
from slots.n1_verification.contract import Inputs as VerificationInputs
from slots.n1_verification.contract import Outputs as VerificationOutputs
from slots.state_adjustment.contract import Inputs, Outputs

_BASE_CASE = -1
_VIOLATIONS = ("overloads", "base_overloads", "voltages")


def plan(run: StepRun) -> list[Task]:
    """A task for each block with a failing hour, then one boundary task over all hours.

    Which hours fail is a result of step 6, so the plan reads it.
    """
    failing = failing_hours(run)
    tasks: list[Task] = []
    for start, stop in hour_blocks(run.request):
        hours = [int(h) for h in failing if start <= h < stop]
        if hours and run.request.adjustment_rounds:
            chunk = f"hours={start:04d}-{stop - 1:04d}"
            tasks.append(
                run.task(
                    "state_adjustment",
                    "state_adjustment",
                    chunk,
                    len(hours),
                    start=start,
                    stop=stop,
                    failing=hours,
                )
            )
    low, high = run.request.horizon.start_hour, run.request.horizon.stop_hour
    needs = [task.id for task in tasks]
    boundary = run.task("state_adjustment", "state_adjustment", "boundary", 1, needs, start=low, stop=high)
    return [*tasks, boundary]


def failing_hours(run: StepRun) -> IntArray:
    """Return the hours with a new or worsened violation, an overload before any outage, or a divergence."""
    reader, step = run.reader, "n1_verification"
    trace = verified_by(reader, run.context.trace_id)
    results = run.workspace.results
    diverged = results.table(trace, step, "pairs", ["hour"], [("outcome", "==", N1_DIVERGED)])
    found = [diverged["hour"].to_numpy()]
    found += [results.table(trace, step, name, ["hour"])["hour"].to_numpy() for name in _VIOLATIONS]
    return np.unique(np.concatenate(found))


def verified_by(reader: ScenarioReader, trace_id: str) -> str:
    """Return the run whose step 6 verified the input version: the given one, or the one that made the version."""
    made = reader.version
    return made.trace_id if made.step == "n1_verification" and made.trace_id else trace_id


def carry_out(job: Job) -> Mapping[str, pa.Table]:
    """Adjust and re-verify a block's failing hours, or check the boundaries between hours."""
    if job.task.chunk == "boundary":
        return _verify_boundaries(job)
    hours = np.array(job.task.parameters["failing"], dtype=np.int64)
    with job.reading() as reader:
        grid, base = reader.grid()
        block = read_states(reader, grid, base, job.hours)
        states = stack([block.hour(int(h) - job.hours.start) for h in hours])
        limits = criteria(grid, reader.table)
        low, high = room(reader, grid, hours)
        wanted = np.concatenate([reader.aligned("load.p_mw", grid.loads.id, slice(h, h + 1)) for h in hours])
        found = _violations(job, reader, hours)
    adjusted: list[pa.Table] = []
    tables: dict[str, pa.Table] = {}
    for number in range(1, job.request.adjustment_rounds + 1):
        outputs = _adjust(job, grid, limits, states, (low, high), found)
        verified = _verify_again(job, grid, limits, outputs.states)
        adjusted.append(_summary(grid, hours, number, outputs, verified))
        tables = _result_tables(job, grid, limits, hours, outputs, verified, wanted)
        states = outputs.states
        found = _found(verified, contingencies(grid, job.request), limits)
        if not (found["overload_hour"].size or found["voltage_hour"].size):
            break
    return {**tables, "summary": pa.concat_tables(adjusted)}


def room(reader: ScenarioReader, grid: Grid, hours: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return how far each unit may move in each hour, (hour, unit) in MW.

    Commitment and availability bound the output. Of the ramp that is left to a neighbouring hour, half belongs
    to each: both may then move without looking at the other.
    """
    units = grid.units
    covered = reader.hours("unit.p_mw")
    first, last = max(int(hours[0]) - 1, covered.start), min(int(hours[-1]) + 2, covered.stop)
    span = slice(first, last)
    p = reader.aligned("unit.p_mw", units.id, span)
    on = reader.aligned("unit.on", units.id, span).astype(bool)
    available = reader.aligned("unit.available_mw", units.id, span)
    low = np.where(on, np.where(units.variable, 0.0, units.p_mw_min), 0.0)
    high = np.where(on, np.minimum(units.p_mw_max, available), 0.0)
    both = on[:-1] & on[1:] & ~units.variable
    step = np.diff(p, axis=0)
    up = np.where(both, np.maximum(units.ramp_up_mw_per_h - step, 0.0) / 2, np.inf)
    down = np.where(both, np.maximum(units.ramp_down_mw_per_h + step, 0.0) / 2, np.inf)
    raise_max, lower_max = np.full(p.shape, np.inf), np.full(p.shape, np.inf)
    raise_max[1:], lower_max[1:] = np.minimum(raise_max[1:], up), np.minimum(lower_max[1:], down)
    raise_max[:-1] = np.minimum(raise_max[:-1], down)
    lower_max[:-1] = np.minimum(lower_max[:-1], up)
    rows = hours - first
    low, high = np.maximum(low, p - lower_max)[rows], np.minimum(high, p + raise_max)[rows]
    return np.minimum(low, p[rows]), np.maximum(high, p[rows])


def _violations(job: Job, reader: ScenarioReader, hours: IntArray) -> dict[str, np.ndarray]:
    """Return the violations that step 6 found in these hours, in positions of the block's failing hours."""
    trace = verified_by(reader, job.task.task_set)
    wanted = [("hour", "in", hours.tolist())]
    overloads, voltages, base = (
        job.workspace.results.table(trace, "n1_verification", name, filters=wanted, hours=job.hours)
        for name in ("overloads", "voltages", "base_overloads")
    )
    return {
        "overload_hour": np.searchsorted(
            hours, np.concatenate([overloads["hour"].to_numpy(), base["hour"].to_numpy()])
        ),
        "overload_outage": np.concatenate(
            [overloads["contingency"].to_numpy(), np.full(base.num_rows, _BASE_CASE)]
        ),
        "overload_branch": np.concatenate([overloads["branch"].to_numpy(), base["branch"].to_numpy()]),
        "overload_loading": np.concatenate([overloads["loading"].to_numpy(), base["loading"].to_numpy()]),
        "voltage_hour": np.searchsorted(hours, voltages["hour"].to_numpy()),
        "voltage_outage": voltages["contingency"].to_numpy(),
        "voltage_bus": voltages["bus"].to_numpy(),
        "voltage_vm_pu": voltages["vm_pu"].to_numpy(),
    }


def _adjust(
    job: Job,
    grid: Grid,
    limits: Criteria,
    states: Snapshot,
    space: tuple[FloatArray, FloatArray],
    found: dict[str, np.ndarray],
) -> Outputs:
    outputs = job.run(
        Inputs(
            grid=grid,
            states=states,
            contingency_branch=contingencies(grid, job.request),
            p_mw_low=space[0],
            p_mw_high=space[1],
            vm_pu_min=limits.vm_pu_min,
            vm_pu_max=limits.vm_pu_max,
            vm_contingency_pu_min=limits.vm_contingency_pu_min,
            vm_contingency_pu_max=limits.vm_contingency_pu_max,
            loading_max=limits.loading_max,
            loading_contingency_max=limits.loading_contingency_max,
            **found,
        )
    )
    assert isinstance(outputs, Outputs)
    return outputs


def _verify_again(job: Job, grid: Grid, limits: Criteria, states: Snapshot) -> VerificationOutputs:
    """Run step 6's program on the adjusted hours: the loop closes with the same judge."""
    judge = Catalogue(job.workspace).resolve("n1_verification", job.request.program("n1_verification"))
    outputs = judge.run(
        VerificationInputs(
            grid=grid,
            states=states,
            contingency_branch=contingencies(grid, job.request),
            vm_pu_min=limits.vm_contingency_pu_min,
            vm_pu_max=limits.vm_contingency_pu_max,
            loading_max=limits.loading_contingency_max,
        ),
        job.request.program_parameters.get("n1_verification", {}),
    )
    assert isinstance(outputs, VerificationOutputs)
    return outputs


def _found(verified: VerificationOutputs, outage: IntArray, limits: Criteria) -> dict[str, np.ndarray]:
    """Return the violations that are left, in positions of the block's failing hours."""
    hour, branch, loading = base_overloads(verified, limits)
    before_any = np.full(hour.size, _BASE_CASE)
    return {
        "overload_hour": np.concatenate([verified.overload_hour, hour]),
        "overload_outage": np.concatenate([outage[verified.overload_contingency], before_any]),
        "overload_branch": np.concatenate([verified.overload_branch, branch]),
        "overload_loading": np.concatenate([verified.overload_loading, loading]),
        "voltage_hour": verified.voltage_hour,
        "voltage_outage": outage[verified.voltage_contingency],
        "voltage_bus": verified.voltage_bus,
        "voltage_vm_pu": verified.voltage_vm_pu,
    }


def _summary(
    grid: Grid, hours: IntArray, number: int, outputs: Outputs, verified: VerificationOutputs
) -> pa.Table:
    count = hours.size
    return result_table(
        {
            "hour": hours,
            "round": np.full(count, number),
            "outcome": outputs.outcome,
            "inner_rounds": outputs.rounds,
            "residual_pu": outputs.residual_pu,
            "moved_mw": outputs.moved_mw,
            "curtailed_mw": outputs.curtailed_mw,
            "shed_mw": outputs.shed_mw.sum(axis=1),
            "cost_eur": outputs.cost_eur,
            "losses_mw": network_losses_mw(grid, outputs.states),
            "overloads": np.bincount(verified.overload_hour, minlength=count),
            "voltages": np.bincount(verified.voltage_hour, minlength=count),
            "diverged": (verified.outcome == N1_DIVERGED).sum(axis=1),
        }
    )


def _result_tables(
    job: Job,
    grid: Grid,
    limits: Criteria,
    hours: IntArray,
    outputs: Outputs,
    verified: VerificationOutputs,
    wanted_mw: FloatArray,
) -> dict[str, pa.Table]:
    """Return adjusted states by hour (hours may have gaps), the re-verification, and the relaxations.

    Load shed is what the states lack of the load wanted (hour, load): by the dispatch, and by every round here.
    """
    lacking = np.maximum(wanted_mw - outputs.states.load_p_mw, 0.0)
    relaxed = {
        "hour": hours[outputs.relaxed_hour],
        "contingency": outputs.relaxed_outage,
        "branch": outputs.relaxed_branch,
        "bus": outputs.relaxed_bus,
        "amount": outputs.relaxed_amount,
        "shed_mw": outputs.relaxed_shed_mw,
    }
    again = n1_tables(contingencies(grid, job.request), hours, limits, verified)
    return {
        **state_tables(grid, outputs.states, hours),
        "load.shed_mw": hourly_table("load.shed_mw", hours, grid.loads.id, lacking),
        "relaxed": result_table(relaxed),
        **{f"verified.{name}": table for name, table in again.items()},
    }


def _verify_boundaries(job: Job) -> dict[str, pa.Table]:
    """Check ramps between all hours of the final schedule; adjusted hours stand next to untouched ones."""
    with job.reading() as reader:
        grid, _ = reader.grid()
        p = reader.aligned("unit.p_mw", grid.units.id, job.hours).copy()
        on: BoolArray = reader.aligned("unit.on", grid.units.id, job.hours).astype(bool)
        for task_id in job.needs:
            table = job.output(task_id, "unit.p_mw")
            changed, _, values = hourly_rows(table)
            p[changed - job.hours.start] = values
    excess = ramp_excess_mw(p[:-1], p[1:], on[:-1], on[1:], grid.units)
    # The slack's units balance losses hour by hour; their set point is not the dispatch's to keep.
    excess[:, grid.units.bus == grid.network.slack] = 0.0
    hour, unit = np.nonzero(excess > 1e-2)
    return {
        "boundary": result_table(
            {
                "hour": hour + job.hours.start + 1,
                "unit": grid.units.id[unit],
                "excess_mw": excess[hour, unit],
            }
        )
    }


def backfill(run: StepRun, writer: ScenarioWriter) -> str:
    """Lay the adjusted hours over the schedule."""
    trace = run.context.trace_id
    names = [o.name for o in run.workspace.ledger.outputs(trace, "state_adjustment") if o.name.count(".") == 1]
    series = sorted({name for name in names if not name.startswith("verified.")})
    reader, adjusted = run.reader, 0
    for name in series:
        hours, ids, values = hourly_rows(run.tables("state_adjustment", name))
        adjusted = hours.size  # every series has the same hours
        if reader.has_series(name):
            before = reader.series(name)
            whole, first = before.values.copy(), before.first_hour
            order = {str(i): k for k, i in enumerate(before.ids)}
            columns = np.array([order[i] for i in ids], dtype=np.int64)
            whole[np.ix_(hours - first, columns)] = values
            writer.put_series(name, before.ids, whole, first_hour=first)
    return f"{adjusted} hours adjusted"


STEP = Step("state_adjustment", "State adjustment", plan, carry_out, backfill)
