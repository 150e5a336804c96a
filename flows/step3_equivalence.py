"""Step 3: a static equivalent of the validated snapshot at the chosen voltage level."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from bos_core.access.added_elements import added_to_reduced, buses_of_added_kinds
from bos_core.access.reduced_model import reduced_tables
from bos_core.access.result_table import result_table
from bos_core.access.scenario_data import ScenarioWriter
from bos_core.grid.assembly import assemble
from bos_core.grid.equivalence import Equivalent
from bos_core.grid.model import BoolArray, Grid
from bos_core.grid.reduction import reduce_grid, reduce_snapshot
from bos_core.objects.columns import numpy_columns
from bos_core.objects.ontology import TABLES, DataType
from bos_core.objects.task import Task
from flows.step import Job, Step, StepRun
from flows.step2_snapshot import STATE_TABLES, source_of
from slots.equivalence.contract import Inputs, Outputs


def plan(run: StepRun) -> list[Task]:
    """Make the step's single task; it needs the second operating point of step 2."""
    second = [t for t in run.workspace.ledger.tasks(run.context.trace_id, "snapshot") if t.chunk == "second"]
    return [
        run.task(
            "equivalence",
            "equivalence",
            "network",
            1,
            [t.id for t in second],
            base_kv_min=run.request.base_kv_min,
            source=source_of(run.workspace, run.workspace.reader(run.reader.version.parent or run.version)).id,
        )
    ]


def carry_out(job: Job) -> Mapping[str, pa.Table]:
    """Reduce the network; write the reduced model's tables and the errors at both operating points."""
    with job.reading() as reader:
        grid, validated = reader.grid()
        second = validated
        for task_id in job.needs:
            states = {name: numpy_columns(job.output(task_id, name)) for name in STATE_TABLES}
            _, second = assemble({**reader.columns(), **states})
        located = buses_of_added_kinds(reader)
    keep = kept_buses(grid, float(job.task.parameters["base_kv_min"]))
    keep[located] = True
    outputs = job.run(Inputs(grid=grid, snapshot=validated, keep_bus=keep, second=second))
    assert isinstance(outputs, Outputs)
    reduction = reduce_grid(grid, Equivalent.of(outputs), validated)
    state = reduce_snapshot(reduction, validated)
    with job.reading():
        tables = {name: schema.conform(reader.table(name)) for name, schema in TABLES.items()}
        # The profiles lie in the source; what they drive is the same device.
        tables["profile_assignment"] = job.read(job.task.parameters["source"]).table("profile_assignment")
    made = reduced_tables(tables, grid, reduction, state)
    made |= added_to_reduced(reader, made, grid, validated, reduction)
    return {**made, **_report(grid, outputs, reduction.grid)}


def kept_buses(grid: Grid, base_kv_min: float) -> BoolArray:
    """Return which buses to keep: the chosen voltage level and above, HVDC terminals and the slack."""
    network = grid.network
    keep = network.base_kv >= base_kv_min
    keep[grid.hvdc.from_bus] = True
    keep[grid.hvdc.to_bus] = True
    keep[network.slack] = True
    return keep


def _report(grid: Grid, outputs: Outputs, reduced: Grid) -> dict[str, pa.Table]:
    sizes = {
        "what": ["bus", "branch", "unit", "load", "hvdc"],
        "before": [grid.network.n_bus, grid.network.n_branch, grid.units.n, grid.loads.n, grid.hvdc.id.size],
        "after": [
            reduced.network.n_bus,
            reduced.network.n_branch,
            reduced.units.n,
            reduced.loads.n,
            reduced.hvdc.id.size,
        ],
    }
    errors = {
        "quantity": ["voltage, base", "voltage, second point", "flow, base", "flow, second point"],
        "unit": ["p.u.", "p.u.", "MVA", "MVA"],
    }
    values = (outputs.base_dvm_pu, outputs.second_dvm_pu, outputs.base_dflow_mva, outputs.second_dflow_mva)
    for name, measure in (("median", np.median), ("p99", lambda x: np.percentile(x, 99)), ("max", np.max)):
        errors[name] = [float(measure(np.abs(v))) if v.size else 0.0 for v in values]
    return {"sizes": result_table(sizes), "errors": result_table(errors)}


def backfill(run: StepRun, writer: ScenarioWriter) -> str:
    """Write the reduced model with its validated state, and the profiles that drive it."""
    source = source_of(run.workspace, run.reader)
    outputs = {o.name: o for o in run.workspace.ledger.outputs(run.context.trace_id, "equivalence")}
    for name, schema in writer.ontology.items():
        if name in outputs:
            writer.put_table(name, run.workspace.store.get_table(outputs[name].address))
        elif schema.data_type in (DataType.E_SM, DataType.E_ES):
            writer.drop_table(name)
    profiles = source.series("profile.value")
    writer.put_series("profile.value", profiles.ids, profiles.values)
    sizes = run.workspace.store.get_table(outputs["sizes"].address).to_pylist()
    return "; ".join(f"{row['what']} {row['before']} ► {row['after']}" for row in sizes)


STEP = Step("equivalence", "Network equivalence", plan, carry_out, backfill)
