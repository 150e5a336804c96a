"""Step 1: the static model, without any state, judged and validated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from bos_core.access.result_table import result_table
from bos_core.access.scenario_data import ScenarioWriter
from bos_core.objects.errors import Finding, GridError
from bos_core.objects.ontology import SERIES, TABLES, TIME_VARYING
from bos_core.objects.task import Task
from flows.step import Job, Step, StepRun
from slots.system_model.contract import Inputs, Outputs


def plan(run: StepRun) -> list[Task]:
    """Make the step's single task."""
    return [run.task("system_model", "system_model", "model", 1)]


def carry_out(job: Job) -> Mapping[str, pa.Table]:
    """Judge the model; several islands are an error that names them."""
    with job.reading() as reader:
        grid, _ = reader.grid()
    outputs = job.run(Inputs(grid))
    assert isinstance(outputs, Outputs)
    if outputs.island.max(initial=0) > 0:
        network = grid.network
        parts = [
            network.bus_name[np.flatnonzero(outputs.island == k)[:3]] for k in range(1, outputs.island.max() + 1)
        ]
        raise GridError(
            tuple(
                Finding(
                    "island", tuple(map(str, names)), "is not connected to the slack", "connect it or take it out"
                )
                for names in parts
            )
        )
    remarks = result_table({"element": outputs.remark_element.tolist(), "remark": outputs.remark_text.tolist()})
    ratings = result_table({"branch": grid.network.branch_id.tolist(), "rating_factor": outputs.rating_factor})
    return {"remarks": remarks, "ratings": ratings}


def backfill(run: StepRun, writer: ScenarioWriter) -> str:
    """Keep what does not vary in time; state data wait for step 2."""
    varying = [name for name, table in TABLES.items() if table.data_type in TIME_VARYING]
    for name in varying:
        writer.drop_table(name)
    for name in SERIES:
        writer.drop_series(name)
    remarks = run.tables("system_model", "remarks").num_rows
    return f"static model, {remarks} remarks for review"


STEP = Step("system_model", "System model", plan, carry_out, backfill)
