"""Collect a run's committed results into the data of its report; a partial run gives a partial report.

One module a subject: `collection_tasks` (Table 6, provenance), `collection_schedule`, `collection_costs`,
`collection_security`, `collection_violations`, `collection_annual`. Here they become one `ReportData`, with its
head and its key figures.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bos_core.access.workspace import Workspace
from bos_core.grid.model import FloatArray
from bos_core.objects.settings import Settings
from bos_core.objects.task import TaskState
from bos_core.report.collection_annual import annual
from bos_core.report.collection_power_flow import power_flow, power_flow_network, power_flow_outcome
from bos_core.report.collection_schedule import network, schedule
from bos_core.report.collection_security import adjustment, contingencies, security
from bos_core.report.collection_tasks import STAGES, elapsed_s, programs, provenance, table6_rows, unfinished
from bos_core.report.collection_violations import remaining
from bos_core.report.data import Adjustment, Head, KeyFigures, ReportData, Schedule, Security, Table6Row
from bos_core.report.pair_survey import survey_pairs
from bos_core.report.run_sources import RunSources

__all__ = ["collect", "remaining_violations", "report_path", "table6_rows"]

_WORTH_TELLING_MWH = 0.5


def collect(workspace: Workspace, trace_id: str) -> ReportData:
    """Return everything that a report of the run can show now.

    Raises
    ------
    NotFoundError
        If there is no such run, or none of its tasks has begun.
    """
    sources = RunSources(workspace, trace_id)
    if sources.record.business == "power-flow":
        return _power_flow_report(sources)
    pairs = survey_pairs(sources)
    left = remaining(sources, pairs)
    states, verification, adjusted = schedule(sources), security(sources, pairs, left), adjustment(sources)
    table6 = tuple(table6_rows(workspace, sources.trace))
    return ReportData(
        head=_head(sources, left),
        figures=_figures(sources, table6, states, verification, adjusted),
        programs=programs(sources),
        table6=table6,
        network=network(sources, states),
        schedule=states,
        contingencies=contingencies(sources, pairs),
        security=verification,
        adjustment=adjusted,
        snapshot_log=sources.task_table("snapshot", "rounds", "snapshot"),
        equivalence=sources.table("equivalence", "errors"),
        annual=annual(sources),
        provenance=provenance(sources),
        unfinished=unfinished(sources),
    )


def _power_flow_report(sources: RunSources) -> ReportData:
    first, flow = power_flow(sources)
    table6 = tuple(table6_rows(sources.workspace, sources.trace))
    memory = [row.memory_gib for row in table6 if row.memory_gib is not None]
    outcome, warnings = power_flow_outcome(sources, flow)
    if failed := _failed(sources):
        warnings = (f"{failed} tasks failed; Provenance says why.", *warnings)
    hours = "snapshot" if flow.schedule == "snapshot" else f"{flow.outcome.size} hours"
    return ReportData(
        head=Head(
            title=f"Power flow of {sources.record.scenario}, {hours}",
            outcome=outcome,
            trace_id=sources.trace,
            scenario=sources.record.scenario,
            scenario_version=sources.version.label,
            created=dt.datetime.now().strftime("%Y-%m-%d %H:%M"),
            start=sources.year.iso(first),
            hours=flow.outcome.size,
            first_hour=first,
            sizes=_sizes(sources),
            user=sources.record.user,
            project=sources.record.project,
            warnings=warnings,
        ),
        figures=KeyFigures(
            load_mwh=float(np.nansum(flow.load_mw)),
            losses_mwh=float(np.nansum(flow.losses_mw)),
            wall_s=elapsed_s(sources),
            memory_gib=max(memory, default=None),
        ),
        programs=programs(sources),
        table6=table6,
        network=power_flow_network(sources),
        power_flow=flow,
        provenance=provenance(sources),
        unfinished=unfinished(sources),
    )


def _sizes(sources: RunSources) -> dict[str, int]:
    grid = sources.grid
    return {
        "buses": grid.network.n_bus,
        "branches": grid.network.n_branch,
        "units": grid.units.n,
        "loads": grid.loads.n,
        "HVDC lines": int(grid.hvdc.id.size),
    }


def remaining_violations(workspace: Workspace, trace_id: str) -> pa.Table | None:
    """Return all that is still violated in a run, worst first, hours of the year; None before step 6."""
    sources = RunSources(workspace, trace_id)
    return remaining(sources, survey_pairs(sources))


def report_path(settings: Settings, trace_id: str) -> Path:
    """Return where the report of a run is written."""
    return settings.home / "reports" / f"{trace_id}.html"


def _head(sources: RunSources, left: pa.Table | None) -> Head:
    before = sources.table("equivalence", "sizes")
    source = {}
    if before is not None:
        words = {"bus": "buses", "branch": "branches", "unit": "units", "load": "loads", "hvdc": "HVDC lines"}
        source = {words[row["what"]]: row["before"] for row in before.to_pylist()}
    return Head(
        title=f"Planning of {sources.record.scenario}, {sources.hours} hours",
        outcome=_outcome(sources, left),
        trace_id=sources.trace,
        scenario=sources.record.scenario,
        scenario_version=sources.version.label,
        created=dt.datetime.now().strftime("%Y-%m-%d %H:%M"),
        start=sources.year.iso(sources.start),
        hours=sources.hours,
        first_hour=sources.start,
        sizes=_sizes(sources),
        source_sizes=source,
        user=sources.record.user,
        project=sources.record.project,
        warnings=tuple(_warnings(sources)),
    )


def _outcome(sources: RunSources, left: pa.Table | None) -> str:
    failed = _failed(sources)
    if failed:
        return f"{failed} tasks failed; the run is not complete."
    if not sources.versions:
        return "No step has ended yet."
    if left is None:
        last = sources.versions[-1].step
        return f"The run ends after {STAGES.get(last, last).lower()}."
    if not left.num_rows:
        return "Every hour is secure against every single-branch outage."
    hours = np.unique(left["hour"].to_numpy()).size
    adjusted = any(version.step == "state_adjustment" for version in sources.versions)
    when = "still have violations after adjustment" if adjusted else "have violations and are not adjusted"
    return f"{hours} of {sources.hours} hours {when}; each is listed below."


def _failed(sources: RunSources) -> int:
    steps = sources.workspace.ledger.report(sources.trace)
    return sum(step.states[TaskState.FAILED] for step in steps)


def _warnings(sources: RunSources) -> list[str]:
    """Return the degraded answers of all steps."""
    found: list[str] = []
    verdict = sources.task_table("snapshot", "verdict", "snapshot")
    if verdict is not None and not verdict["accepted"][0].as_py():
        overloads = sources.task_table("snapshot", "overloads", "snapshot")
        count = overloads.num_rows if overloads is not None else 0
        found.append(f"The snapshot could not be made secure: {count} branches stay overloaded.")
    for step, name in (("annual_states", "summary"), ("unit_commitment", "summary"), ("active_dispatch", "hours")):
        table = sources.table(step, name)
        fallbacks = sorted(set(table["fallback"].to_pylist()) - {""}) if table is not None else []
        found += [f"{STAGES[step]}: {text}" for text in fallbacks]
    dispatch = sources.table("active_dispatch", "hours")
    if dispatch is not None:
        for column, text in (("shed_mw", "MWh of load shed"), ("overload_mw", "MWh above branch limits")):
            total = float(pc.sum(dispatch[column]).as_py() or 0.0)
            if total > _WORTH_TELLING_MWH:
                found.append(f"{STAGES['active_dispatch']}: {total:,.0f} {text}.")
    reactive = sources.table("reactive_dispatch", "hours")
    if reactive is not None:
        outcome = np.bincount(reactive["outcome"].to_numpy(), minlength=4)
        for code, text in ((1, "with softened limits"), (2, "by power flow only"), (3, "diverged")):
            if outcome[code]:
                found.append(f"{STAGES['reactive_dispatch']}: {outcome[code]} hours {text}.")
    return found


def _figures(
    sources: RunSources,
    table6: tuple[Table6Row, ...],
    states: Schedule | None,
    verification: Security | None,
    adjusted: Adjustment | None,
) -> KeyFigures:
    memory = [row.memory_gib for row in table6 if row.memory_gib is not None]
    known: dict[str, float | int | None] = {
        "wall_s": elapsed_s(sources),
        "memory_gib": max(memory, default=None),
        "hours_adjusted": None if adjusted is None else int(adjusted.hour.size),
    }
    if states is not None and states.unit_p_mw is not None:
        known |= _totals(sources, states, states.unit_p_mw)
    if verification is not None:
        before, after = verification.violations_before, verification.violations_after
        known |= {f"pairs_{name}": count for name, count in verification.outcome_pairs.items()}
        known |= {
            "pairs_verified": sum(verification.outcome_pairs.values()),
            "violations_before": None if before is None else int(before.sum()),
            "violations_after": None if after is None else int(after.sum()),
        }
    return KeyFigures(**known)  # type: ignore[arg-type]


def _totals(sources: RunSources, states: Schedule, p_mw: FloatArray) -> dict[str, float | int | None]:
    """Return energies, cost and emissions over the run's hours."""

    def total(values: FloatArray | None) -> float | None:
        return None if values is None else float(np.nansum(values))

    units, load = sources.grid.units, total(states.load_mw)
    variable = units.variable & ~np.char.startswith(units.technology, "import")
    return {
        "cost_eur": sum(float(values.sum()) for values in (states.cost_eur or {}).values()),
        "co2_t": total(states.co2_t),
        "load_mwh": load,
        "renewable_share": float(p_mw[:, variable].sum()) / load if load else None,
        "curtailed_mwh": total(states.unit_curtailed_mw),
        "shed_mwh": total(states.shed_mw),
        "losses_mwh": total(states.losses_mw),
    }
