"""Annual states of a run beside the historical year: system totals, and capacity out of service."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bos_core.access.scenario_data import ScenarioReader
from bos_core.grid.model import FloatArray, Grid
from bos_core.report.data import AnnualStates
from bos_core.report.run_sources import RunSources


def annual(sources: RunSources) -> AnnualStates | None:
    """Return totals of the profiles before and after step 4; None when the run did not make annual states."""
    made = next((v for v in sources.versions if v.step == "annual_states"), None)
    if made is None or made.parent is None:
        return None
    planned, history = sources.workspace.reader(made.id), sources.workspace.reader(made.parent)
    tasks = sources.workspace.ledger.tasks(sources.trace, "annual_states")
    assignment = planned.table("profile_assignment")
    values, old = planned.series("profile.value"), history.series("profile.value")
    position = {str(i): k for k, i in enumerate(values.ids)}
    names: list[str] = []
    now: list[FloatArray] = []
    past: list[FloatArray] = []
    for title, devices, quantity in _profile_groups(sources.grid):
        rows = assignment.filter(
            pc.and_(
                pc.is_in(assignment["device"], pa.array(devices, pa.string())),
                pc.equal(assignment["quantity"], quantity),
            )
        )
        if not rows.num_rows:
            continue
        column = np.array([position[name] for name in rows["profile"].to_pylist()])
        weight = np.bincount(column, rows["scale"].to_numpy(), values.ids.size)
        names.append(title)
        now.append(values.values @ weight)
        past.append(old.values @ weight)
    if not names:
        return None
    return AnnualStates(
        program=tasks[0].program if tasks else "",
        name=np.array(names, dtype=np.str_),
        historical_mw=np.stack(past, axis=1),
        planned_mw=np.stack(now, axis=1),
        outage_mw=_outages(sources.grid, planned),
    )


def _profile_groups(grid: Grid) -> list[tuple[str, list[str], str]]:
    """Return (title, devices, quantity) of the totals that are compared."""
    units = grid.units
    wind = np.char.find(units.technology, "wind") >= 0
    solar = (np.char.find(units.technology, "solar") >= 0) | (np.char.find(units.technology, "pv") >= 0)
    return [
        ("Load", grid.loads.id.tolist(), "p_mw"),
        ("Wind", units.id[wind].tolist(), "available_mw"),
        ("Solar", units.id[solar].tolist(), "available_mw"),
        ("Other variable", units.id[units.variable & ~wind & ~solar].tolist(), "available_mw"),
    ]


def _outages(grid: Grid, reader: ScenarioReader) -> dict[str, FloatArray] | None:
    """Return the capacity out of service by technology, (hour,) in MW."""
    if not reader.has_series("unit.in_service"):
        return None
    units = grid.units
    out = np.where(reader.series("unit.in_service", None, units.id).values, 0.0, units.p_mw_max)
    by_technology = {
        str(technology): out[:, units.technology == technology].sum(axis=1)
        for technology in np.unique(units.technology[units.committable])
    }
    return {name: values for name, values in by_technology.items() if values.any()} or None
