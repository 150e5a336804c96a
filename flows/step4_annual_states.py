"""Step 4: 8760 hourly states of demand, available infeed and unit outages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from bos_core.access.hourly import hourly_table, hourly_values
from bos_core.access.plan_year import PlanYear
from bos_core.access.profiles import assigned
from bos_core.access.result_table import result_table
from bos_core.access.scenario_data import ScenarioReader, ScenarioWriter
from bos_core.grid.model import FloatArray, IntArray, StrArray
from bos_core.objects.ontology import HOURS_PER_YEAR
from bos_core.objects.task import Task
from flows.step import Job, Step, StepRun
from slots.scenario_sequence.contract import Inputs, Outputs

SERIES_MADE = ("load.p_mw", "load.q_mvar", "unit.available_mw", "unit.in_service", "profile.value")
_RENEWABLE = {
    "wind": "wind",
    "solar": "solar",
    "pv": "solar",
    "hydro": "hydro",
    "river": "hydro",
    "bio": "biomass",
    "mix": "other",
}


def plan(run: StepRun) -> list[Task]:
    """Make the step's single task: the year is one random sequence."""
    return [run.task("annual_states", "scenario_sequence", "year", HOURS_PER_YEAR, seed=run.request.seed)]


def carry_out(job: Job) -> Mapping[str, pa.Table]:
    """Make the plan year's profiles and turn them into hourly quantities of devices."""
    with job.reading() as reader:
        grid, base = reader.grid()
        history = reader.series("profile.value")
        assignment = reader.table("profile_assignment")
        kinds, partners, scales = describe_profiles(reader, history.ids)
        year = PlanYear.of(reader)
    outputs = job.run(
        Inputs(
            profile_value=history.values,
            profile_name=history.ids,
            profile_kind=kinds,
            profile_partner=partners,
            profile_scale_mw=scales,
            units=grid.units,
            first_weekday=year.first_weekday,
            seed=int(job.task.parameters["seed"]),
            leap_year=year.is_leap,
        )
    )
    assert isinstance(outputs, Outputs)
    values = outputs.profile_value

    def quantity(name: str, ids: StrArray, constant: FloatArray) -> FloatArray:
        wanted, known = assigned(assignment, name, ids, history.ids, values)
        return np.where(known, wanted, constant)

    available = np.maximum(quantity("available_mw", grid.units.id, grid.units.p_mw_max), 0.0)
    made = {
        "load.p_mw": (grid.loads.id, quantity("p_mw", grid.loads.id, base.load_p_mw)),
        "load.q_mvar": (grid.loads.id, quantity("q_mvar", grid.loads.id, base.load_q_mvar)),
        "unit.available_mw": (grid.units.id, available),
        "unit.in_service": (grid.units.id, outputs.unit_in_service),
        "profile.value": (history.ids, values),
    }
    unknown = "" if year.known else f"calendar year of the profiles unknown: weekdays as in {year.year}"
    fallback = "; ".join(text for text in (unknown, outputs.fallback) if text)
    return {
        **{name: hourly_table(name, 0, ids, series) for name, (ids, series) in made.items()},
        "summary": result_table({"fallback": [fallback]}),
    }


def describe_profiles(reader: ScenarioReader, names: StrArray) -> tuple[StrArray, IntArray, FloatArray]:
    """Return each profile's kind, active-power partner and driven power in MW, from what it drives."""
    assignment = reader.table("profile_assignment")
    units = reader.table("unit")
    technology = dict(zip(units["id"].to_pylist(), units["technology"].to_pylist(), strict=True))
    position = {str(name): k for k, name in enumerate(names)}
    kind = np.full(names.size, "other", dtype="<U12")
    partner = np.full(names.size, -1)
    scale = np.zeros(names.size)
    active: dict[str, int] = {}
    rows = assignment.sort_by("quantity").to_pylist()  # available_mw, p_mw, q_mvar: partners before followers
    for row in rows:
        k, device = position[row["profile"]], row["device"]
        scale[k] += abs(row["scale"])
        if row["quantity"] == "available_mw":
            word = technology.get(device, "")
            kind[k] = next((found for part, found in _RENEWABLE.items() if part in word), "exchange")
        elif row["quantity"] == "p_mw":
            kind[k] = "load_p" if kind[k] == "other" else kind[k]
            active[device] = k
        elif kind[k] == "other":
            kind[k] = "load_q"
            partner[k] = active.get(device, -1)
    return kind.astype(np.str_), partner.astype(np.int64), scale


def backfill(run: StepRun, writer: ScenarioWriter) -> str:
    """Write the year's series."""
    for name in SERIES_MADE:
        first, ids, values = hourly_values(run.tables("annual_states", name))
        writer.put_series(name, ids, values, first_hour=first)
    return "8760 hourly states"


STEP = Step("annual_states", "Annual states", plan, carry_out, backfill)
