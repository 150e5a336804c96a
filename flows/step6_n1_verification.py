"""Step 6: every single-branch outage in every hour, by full AC power flow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from bos_core.access.criteria import Criteria, criteria
from bos_core.access.result_table import result_table
from bos_core.access.scenario_data import ScenarioWriter
from bos_core.access.state_series import SeriesReader, read_states
from bos_core.grid.model import BranchKind, FloatArray, Grid, IntArray
from bos_core.grid.n1_cases import CRITERION_TOLERANCE
from bos_core.objects.ontology import TABLES
from bos_core.objects.task import Task
from flows.request import PlanRequest
from flows.step import Job, Step, StepRun, hour_blocks
from slots.n1_verification.contract import Inputs, Outputs

PAIR_UNITS = {
    "residual_pu": "p.u.",
    "loading_max": "1",
    "vm_min_pu": "p.u.",
    "vm_max_pu": "p.u.",
    "lost_load_mw": "MW",
    "lost_generation_mw": "MW",
}
_SMALL = {"outcome", "iterations"}


def contingencies(grid: Grid, request: PlanRequest) -> IntArray:
    """Return the branches whose outage is verified, in the order of the grid."""
    kind = grid.network.branch_kind
    wanted = {"lines": kind == BranchKind.LINE, "transformers": kind == BranchKind.TRANSFORMER}
    candidate = grid.network.outage_candidate & wanted.get(request.contingencies, np.ones(kind.size, bool))
    return np.flatnonzero(candidate).astype(np.int64)


def plan(run: StepRun) -> list[Task]:
    """Blocks of hours; a pair is a subtask."""
    pairs = contingencies(run.reader.grid()[0], run.request).size
    return [
        run.task(
            "n1_verification", "n1_verification", f"hours={a:04d}-{b - 1:04d}", (b - a) * pairs, start=a, stop=b
        )
        for a, b in hour_blocks(run.request)
    ]


def carry_out(job: Job) -> Mapping[str, pa.Table]:
    """Verify one block of hours."""
    with job.reading() as reader:
        grid, _ = reader.grid()
    return verify_hours(job, job.read(), np.arange(job.hours.start, job.hours.stop), grid)


def verify_hours(job: Job, source: SeriesReader, hours: IntArray, grid: Grid) -> dict[str, pa.Table]:
    """Verify consecutive hours whose states come from `source`; return the pair rows and the violations."""
    with job.reading() as reader:
        _, base = reader.grid()
        states = read_states(source, grid, base, slice(int(hours[0]), int(hours[-1]) + 1))
        limits = criteria(grid, reader.table)
    outage = contingencies(grid, job.request)
    outputs = job.run(
        Inputs(
            grid=grid,
            states=states,
            contingency_branch=outage,
            vm_pu_min=limits.vm_contingency_pu_min,
            vm_pu_max=limits.vm_contingency_pu_max,
            loading_max=limits.loading_contingency_max,
        )
    )
    assert isinstance(outputs, Outputs)
    return n1_tables(outage, hours, limits, outputs)


def base_overloads(outputs: Outputs, limits: Criteria) -> tuple[IntArray, IntArray, FloatArray]:
    """Return row of the hour, branch and loading of what is overloaded before any outage."""
    row, branch = np.nonzero(outputs.base_loading > limits.loading_max + CRITERION_TOLERANCE)
    return row, branch, outputs.base_loading[row, branch]


def n1_tables(outage: IntArray, hours: IntArray, limits: Criteria, outputs: Outputs) -> dict[str, pa.Table]:
    """Return pair rows with extremes, worst elements and class; violated elements; the base cases."""
    count = outage.size
    columns: dict[str, np.ndarray] = {
        "hour": np.repeat(hours, count),
        "contingency": np.tile(outage, hours.size),
    }
    for name in (
        "outcome",
        "iterations",
        "residual_pu",
        "loading_max",
        "loading_branch",
        "overloaded",
        "vm_min_pu",
        "vm_min_bus",
        "vm_max_pu",
        "vm_max_bus",
        "voltage_violations",
        "q_switches",
        "lost_load_mw",
        "lost_generation_mw",
    ):
        values = getattr(outputs, name).ravel()
        columns[name] = (
            values.astype(np.int16 if name in _SMALL else np.int32) if values.dtype.kind == "i" else values
        )
    fields = [
        pa.field(name, pa.from_numpy_dtype(values.dtype), metadata={"unit": PAIR_UNITS.get(name, "1")})
        for name, values in columns.items()
    ]
    pairs = pa.Table.from_arrays([pa.array(v) for v in columns.values()], schema=pa.schema(fields))
    overloads = {
        "hour": hours[outputs.overload_hour],
        "contingency": outage[outputs.overload_contingency],
        "branch": outputs.overload_branch,
        "loading": outputs.overload_loading,
    }
    voltages = {
        "hour": hours[outputs.voltage_hour],
        "contingency": outage[outputs.voltage_contingency],
        "bus": outputs.voltage_bus,
        "vm_pu": outputs.voltage_vm_pu,
    }
    base = result_table({"hour": hours, "outcome": outputs.base_outcome})
    row, branch, loading = base_overloads(outputs, limits)
    before = {"hour": hours[row], "branch": branch, "loading": loading}
    return {
        "pairs": pairs,
        "overloads": result_table(overloads),
        "voltages": result_table(voltages),
        "base": base,
        "base_overloads": result_table(before),
    }


def backfill(run: StepRun, writer: ScenarioWriter) -> str:
    """Write the contingency set that was verified (E_SV)."""
    grid, _ = run.reader.grid()
    outage = contingencies(grid, run.request)
    ids, names = grid.network.branch_id[outage].tolist(), grid.network.branch_name[outage].tolist()
    keys = [f"n1:{i}" for i in ids]
    writer.put_table(
        "contingency", TABLES["contingency"].build({"id": keys, "name": names, "set": ["n-1"] * len(keys)})
    )
    writer.put_table(
        "contingency_element", TABLES["contingency_element"].build({"contingency": keys, "element": ids})
    )
    return f"{outage.size} contingencies verified"


STEP = Step("n1_verification", "N-1 verification", plan, carry_out, backfill)
