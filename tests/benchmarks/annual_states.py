"""Annual states: no peer makes them, so our two programs are shown with how near they come to the history."""

from __future__ import annotations

import numpy as np
from frame import OURS, Accuracy, Bench, Row
from home import planned_day
from timing import best_of

from bos_core.access.plan_year import PlanYear
from bos_core.grid.statistics import autocorrelation, duration_distance
from bos_core.objects.ontology import HOURS_PER_YEAR
from flows.step4_annual_states import describe_profiles
from slots.scenario_sequence import block_bootstrap, historical
from slots.scenario_sequence.contract import Inputs, Outputs

TITLE = "Annual states: 8760 hours of profiles and unit outages; no peer exists"
PACKAGES = ("numpy", "scipy", "simbench")
SIZE = "hours"
SEED = 1


def run(bench: Bench, budget_s: float) -> None:
    """Make a year with both programs."""
    bench.settings |= {
        "peer": "none: no tool makes a year of states for a given grid; accuracy is against the historical year",
        "energy": "largest deviation of a profile's yearly energy; peak: of its highest value",
        "duration": "mean over profiles of the distance of duration curves, relative to the mean value",
        "autocorrelation": "mean absolute difference at a lag of one hour; correlation: of all pairs of profiles",
    }
    with bench.doing("preparing the planned day"):
        inputs = _inputs(bench)
    group = f"{HOURS_PER_YEAR} hours, {inputs.profile_name.size} profiles, {inputs.units.n} units"
    for tool, program in ((f"{OURS} historical", historical), (f"{OURS} block_bootstrap", block_bootstrap)):
        with bench.doing(tool):
            times, made = best_of(lambda p=program: p.run(inputs, p.Parameters()), runs_max=3, budget_s=6.0)
        figures = _figures(inputs, made)
        note = ", ".join(f"{key} {value:.2g}" for key, value in figures.items())
        accuracy = (Accuracy("energy", figures["energy"], 0.02),)
        bench.add(
            Row(
                group,
                HOURS_PER_YEAR,
                tool,
                "year",
                times,
                accuracy,
                figures,
                note,
                reference=program is historical,
            )
        )


def _inputs(bench: Bench) -> Inputs:
    reader = planned_day(bench).reader("equivalence")
    grid, _ = reader.grid()
    history = reader.series("profile.value")
    kinds, partners, scales = describe_profiles(reader, history.ids)
    year = PlanYear.of(reader)
    return Inputs(
        profile_value=history.values, profile_name=history.ids, profile_kind=kinds, profile_partner=partners,
        profile_scale_mw=scales, units=grid.units, first_weekday=year.first_weekday, seed=SEED,
        leap_year=year.is_leap,
    )  # fmt: skip


def _figures(inputs: Inputs, made: Outputs) -> dict[str, float]:
    before, after = inputs.profile_value, made.profile_value
    varying = np.ptp(before, axis=0) > 1e-9
    before, after = before[:, varying], after[:, varying]
    energy = np.abs(after.sum(axis=0) / before.sum(axis=0) - 1)
    peak = np.abs(after.max(axis=0) / before.max(axis=0) - 1)
    lag = np.abs(autocorrelation(after, (1,)) - autocorrelation(before, (1,)))
    together = np.corrcoef(after.T) - np.corrcoef(before.T)
    return {
        "energy": float(energy.max()), "peak": float(peak.max()),
        "duration": float(duration_distance(after, before).mean()), "autocorrelation": float(lag.mean()),
        "correlation": float(np.abs(together).mean()), "unit hours out": float((~made.unit_in_service).mean()),
    }  # fmt: skip
