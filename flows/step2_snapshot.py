"""Step 2: an initial snapshot, adjusted until it meets every criterion, and a second operating point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import pyarrow as pa

from bos_core.access.criteria import criteria
from bos_core.access.profiles import assigned
from bos_core.access.result_table import result_table
from bos_core.access.scenario_data import ScenarioReader, ScenarioWriter
from bos_core.access.state_tables import snapshot_tables
from bos_core.access.workspace import Workspace
from bos_core.grid.assembly import assemble
from bos_core.grid.model import FloatArray, Grid, Snapshot
from bos_core.objects.columns import numpy_columns
from bos_core.objects.contracts import array_fields
from bos_core.objects.ontology import TABLES
from bos_core.objects.task import Task
from flows.step import Job, Step, StepRun
from slots.security_assessment.contract import Inputs, Outputs

STATE_TABLES = tuple(name for name in TABLES if name.endswith("_state") and name != "system_state")


def plan(run: StepRun) -> list[Task]:
    """One task for the snapshot to validate, one for the second operating point."""
    source = source_of(run.workspace, run.reader)
    demand = _demand(source, run.request.horizon.start_hour, run.request.horizon.stop_hour)
    first = run.request.snapshot_hour
    if first is None:
        first = run.request.horizon.start_hour + int(np.argmax(demand))
    second = run.request.horizon.start_hour + int(np.argmin(demand))
    if second == first:
        second = (first + 12) % 8760
    return [
        run.task("snapshot", "security_assessment", role, 1, hour=hour, source=source.id)
        for role, hour in (("snapshot", first), ("second", second))
    ]


def source_of(workspace: Workspace, reader: ScenarioReader) -> ScenarioReader:
    """Return the nearest version, this one or an ancestor, that holds historical profiles; else the first."""
    while not reader.has("profile_assignment") and reader.version.parent:
        reader = workspace.reader(reader.version.parent)
    return reader


def _demand(source: ScenarioReader, start: int, stop: int) -> FloatArray:
    ids = np.array(source.table("load")["id"].to_pylist(), dtype=np.str_)
    profiles = source.series("profile.value", slice(start, stop))
    values, _ = assigned(source.table("profile_assignment"), "p_mw", ids, profiles.ids, profiles.values)
    return np.asarray(values.sum(axis=1))


def carry_out(job: Job) -> Mapping[str, pa.Table]:
    """Put the hour's state on the static model, adjust it, write the state and the log."""
    hour = int(job.task.parameters["hour"])
    with job.reading() as static:
        source = job.read(job.task.parameters["source"])
        states = {name: source.table(name) for name in STATE_TABLES}
        columns = {name: numpy_columns(table) for name, table in states.items() if table.num_rows}
        grid, given = assemble({**static.columns(), **columns})
        initial, available, in_service = hour_state(grid, given, source, hour)
        limits = criteria(grid, static.table)
    outputs = job.run(
        Inputs(
            grid=grid,
            snapshot=initial,
            unit_in_service=in_service,
            available_mw=available,
            vm_pu_min=limits.vm_pu_min,
            vm_pu_max=limits.vm_pu_max,
            loading_max=limits.loading_max,
        )
    )
    assert isinstance(outputs, Outputs)
    return {**snapshot_tables(states, grid, outputs.snapshot), **_log_tables(grid, outputs)}


def hour_state(
    grid: Grid, given: Snapshot, source: ScenarioReader, hour: int
) -> tuple[Snapshot, FloatArray, np.ndarray]:
    """Return the given state with this hour's demand, what is available (unit,), and what is in service."""
    assignment = source.table("profile_assignment")
    profiles = source.series("profile.value", slice(hour, hour + 1))

    def values(quantity: str, ids: np.ndarray, otherwise: FloatArray) -> FloatArray:
        wanted, known = assigned(assignment, quantity, ids, profiles.ids, profiles.values)
        return np.where(known, wanted[0], otherwise)

    available = values("available_mw", grid.units.id, grid.units.p_mw_max)
    snapshot = replace(
        given,
        load_p_mw=values("p_mw", grid.loads.id, given.load_p_mw),
        load_q_mvar=values("q_mvar", grid.loads.id, given.load_q_mvar),
        unit_on=np.zeros(grid.units.n, bool),
        unit_p_mw=np.zeros(grid.units.n),
        unit_q_mvar=np.zeros(grid.units.n),
    )
    return snapshot, np.maximum(available, 0.0), np.ones(grid.units.n, bool)


def _log_tables(grid: Grid, outputs: Outputs) -> dict[str, pa.Table]:
    rounds = {
        f.name.removeprefix("round_"): getattr(outputs, f.name)
        for f in fields(outputs)
        if f.name in array_fields(Outputs) and f.name.startswith("round_")
    }
    network = grid.network
    overload = {
        "branch": network.branch_id[outputs.overloaded_branch].tolist(),
        "loading": outputs.overloaded_loading,
    }
    voltage = {
        "bus": network.bus_id[outputs.violated_bus].tolist(),
        "vm_pu": outputs.violated_vm_pu,
    }
    shed = outputs.load_shed_mw > 0
    return {
        "rounds": result_table({"round": np.arange(outputs.round_loading_max.size), **rounds}),
        "verdict": result_table({"converged": [outputs.converged], "accepted": [outputs.accepted]}),
        "overloads": result_table(overload),
        "voltages": result_table(voltage),
        "shed": result_table({"load": grid.loads.id[shed].tolist(), "shed_mw": outputs.load_shed_mw[shed]}),
    }


def backfill(run: StepRun, writer: ScenarioWriter) -> str:
    """Write the validated snapshot's state."""
    outputs = {
        o.name: o for o in run.workspace.ledger.outputs(run.context.trace_id, "snapshot") if o.chunk == "snapshot"
    }
    for name in STATE_TABLES:
        writer.put_table(name, run.workspace.store.get_table(outputs[name].address))
    verdict = run.workspace.store.get_table(outputs["verdict"].address).to_pylist()[0]
    left = outputs["overloads"].rows + outputs["voltages"].rows
    state = "meets every criterion" if verdict["accepted"] else f"still has {left} violations"
    return f"snapshot {state}"


STEP = Step("snapshot", "Validated snapshot", plan, carry_out, backfill)
