"""Operating cost of a run by kind: of the schedule as dispatched, and what its adjustment adds."""

from __future__ import annotations

import numpy as np

from bos_core.access.scenario_data import ScenarioReader
from bos_core.grid.model import BoolArray, FloatArray, Units
from bos_core.grid.schedule import production_cost_eur_per_h
from bos_core.report.run_sources import RunSources

SHEDDING_EUR_PER_MWH = 10_000.0
"""Price of load shed, as in the contracts of dispatch and adjustment."""
_COLD_H = 10_000


def costs(sources: RunSources) -> dict[str, FloatArray] | None:
    """Return the operating cost by kind, each (hour,) in EUR; None without a dispatch.

    The kinds are those of the schedule before adjustment; ``adjustment`` is what the adjusted states cost more.
    """
    kinds = _kinds(sources, sources.reader)
    adjusted = next((v for v in sources.versions if v.step == "state_adjustment"), None)
    if kinds is None or adjusted is None or adjusted.parent is None:
        return kinds
    before = _kinds(sources, sources.workspace.reader(adjusted.parent))
    if before is None:
        return kinds
    added: FloatArray = np.sum(list(kinds.values()), axis=0) - np.sum(list(before.values()), axis=0)
    return {**before, "adjustment": added}


def _kinds(sources: RunSources, reader: ScenarioReader) -> dict[str, FloatArray] | None:
    units = sources.grid.units
    p = sources.series("unit.p_mw", units.id, reader)
    if p is None:
        return None
    known = sources.series("unit.on", units.id, reader)
    on: BoolArray = np.ones(p.shape, bool) if known is None else known > 0.5
    available = sources.series("unit.available_mw", units.id, reader)
    if available is None:
        available = np.broadcast_to(units.p_mw_max, p.shape)
    running = production_cost_eur_per_h(units, on, p, available).sum(axis=1)
    at_minimum = (on * np.where(units.committable, units.minimum_output_eur_per_h, 0.0)).sum(axis=1)
    lost = np.where(units.variable & on, np.minimum(available, units.p_mw_max) - p, 0.0)
    curtailment = (np.maximum(lost, 0.0) * units.curtailment_eur_per_mwh).sum(axis=1)
    above = running - at_minimum - curtailment
    kinds = {"minimum output": at_minimum, "energy above": above, "curtailment": curtailment}
    if known is not None:
        kinds["start-up"] = start_costs(units, on)
    shed = sources.series("load.shed_mw", sources.grid.loads.id, reader)
    if shed is not None:
        kinds["shedding"] = shed.sum(axis=1) * SHEDDING_EUR_PER_MWH
    return kinds


def start_costs(units: Units, on: BoolArray) -> FloatArray:
    """Return start-up costs by hour, (hour,); a unit off since before the first hour counts as cold."""
    cost = np.zeros(on.shape[0])
    for unit in np.flatnonzero(units.committable):
        classes = np.flatnonzero(units.start_unit == unit)
        if not classes.size:
            continue
        off_h = _COLD_H
        for hour in range(on.shape[0]):
            if on[hour, unit]:
                if off_h and hour:
                    usable = classes[units.start_off_h[classes] <= off_h]
                    cost[hour] += units.start_eur[usable[-1] if usable.size else classes[0]]
                off_h = 0
            else:
                off_h += 1
    return cost
