"""N-1 verification and adjustment of a run: pairs by class and hour, worst pairs, what adjusting took."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bos_core.grid.model import FloatArray, IntArray
from bos_core.report.collection_violations import verified
from bos_core.report.data import (
    OUTCOME_NAMES,
    Adjustment,
    Contingencies,
    Monitored,
    Pair,
    Security,
)
from bos_core.report.pair_survey import PairSurvey
from bos_core.report.run_sources import RunSources

WORST_SHOWN = 20


def contingencies(sources: RunSources, pairs: PairSurvey | None) -> Contingencies | None:
    """Return the extremes of the most severe contingencies over all hours; None when pairs are missing."""
    if pairs is None or pairs.rows != sources.hours * pairs.worst.num_rows:
        return None
    limits = sources.limits
    return Contingencies(
        name=sources.grid.network.branch_name[pairs.shown],
        total=pairs.worst.num_rows,
        outcome=pairs.extremes["outcome"].astype(np.int64),
        loading_max=pairs.extremes["loading_max"],
        vm_min_pu=pairs.extremes["vm_min_pu"],
        vm_max_pu=pairs.extremes["vm_max_pu"],
        loading_limit=float(limits.loading_contingency_max.max(initial=1.0)),
        vm_pu_low=float(limits.vm_contingency_pu_min.min(initial=np.inf)),
        vm_pu_high=float(limits.vm_contingency_pu_max.max(initial=0.0)),
        stage="after adjustment" if _adjusted(sources) else "",
    )


def _adjusted(sources: RunSources) -> bool:
    return sources.has_table("state_adjustment", "verified.pairs")


def security(sources: RunSources, pairs: PairSurvey | None, left: pa.Table | None) -> Security | None:
    """Return the overview of all pairs; `left` is what is still violated, with hours of the year."""
    if pairs is None:
        return None
    first = tuple(sources.table("n1_verification", name) for name in ("overloads", "voltages"))
    last = tuple(verified(sources, name) for name in ("overloads", "voltages"))
    if left is not None:
        left = left.set_column(0, left.schema.field("hour"), pc.subtract(left["hour"], sources.start))
    return Security(
        outcome_pairs=dict(zip(OUTCOME_NAMES, map(int, pairs.outcome_pairs), strict=True)),
        violations_before=_violating_pairs(sources, pairs.diverged_before, first),
        violations_after=_violating_pairs(sources, pairs.diverged, last) if _adjusted(sources) else None,
        worst=_worst(sources, pairs.worst),
        monitored=_monitored(sources),
        remaining=left,
    )


def _violating_pairs(sources: RunSources, diverged: IntArray, violations: tuple[pa.Table | None, ...]) -> IntArray:
    """Count pairs by hour that diverged or have a violation that is new or worse than before the outage."""
    branches = sources.grid.network.n_branch
    keys = [diverged[0] * branches + diverged[1]]
    for table in violations:
        if table is not None:
            keys.append(table["hour"].to_numpy().astype(np.int64) * branches + table["contingency"].to_numpy())
    hour = np.unique(np.concatenate(keys)) // branches
    return np.bincount(hour - sources.start, minlength=sources.hours)


def _worst(sources: RunSources, worst: pa.Table) -> tuple[Pair, ...]:
    """Return the worst pair of each of the most severe contingencies: one that fails every hour is listed once."""
    rows = worst.slice(0, WORST_SHOWN).to_pylist()
    rows = [{name: np.nan if value is None else value for name, value in row.items()} for row in rows]
    branch, bus = sources.grid.network.branch_name, sources.grid.network.bus_name

    def name(known: np.ndarray, k: int) -> str:
        return str(known[k]) if k >= 0 else ""

    return tuple(
        Pair(
            hour=row["hour"] - sources.start,
            contingency=str(branch[row["contingency"]]),
            outcome=row["outcome"],
            loading=row["loading_max"],
            loading_branch=name(branch, row["loading_branch"]),
            vm_min_pu=row["vm_min_pu"],
            vm_min_bus=name(bus, row["vm_min_bus"]),
            vm_max_pu=row["vm_max_pu"],
            vm_max_bus=name(bus, row["vm_max_bus"]),
            lost_load_mw=row["lost_load_mw"],
            diverged_hours=row["diverged_hours"],
        )
        for row in rows
    )


def _monitored(sources: RunSources) -> tuple[Monitored, ...]:
    table = verified(sources, "overloads")
    if table is None or not table.num_rows:
        return ()
    name = sources.grid.network.branch_name
    grouped = table.group_by("branch").aggregate(
        [("loading", "max"), ("hour", "count_distinct"), ("hour", "count")]
    )
    found = []
    rows = grouped.sort_by([("hour_count", "descending"), ("branch", "ascending")]).slice(0, WORST_SHOWN)
    for row in rows.to_pylist():
        of_branch = table.filter(pc.equal(table["branch"], row["branch"]))
        top = int(of_branch["contingency"][int(np.argmax(of_branch["loading"].to_numpy()))].as_py())
        found.append(
            Monitored(
                branch=str(name[row["branch"]]),
                pairs=row["hour_count"],
                hours=row["hour_count_distinct"],
                loading_worst=row["loading_max"],
                worst_contingency=str(name[top]),
            )
        )
    return tuple(found)


def adjustment(sources: RunSources) -> Adjustment | None:
    """Return what adjusting moved, shed and cost in each hour, over all its rounds."""
    table = sources.table("state_adjustment", "summary")
    if table is None:
        return None
    ordered = table.sort_by([("hour", "ascending"), ("round", "ascending")])
    hours = ordered["hour"].to_numpy()
    last = np.append(np.flatnonzero(np.diff(hours)), hours.size - 1)

    def total(name: str) -> FloatArray:
        return np.add.reduceat(ordered[name].to_numpy(), np.append(0, last[:-1] + 1))

    return Adjustment(
        hour=hours[last] - sources.start,
        outcome=ordered["outcome"].to_numpy()[last],
        rounds=ordered["round"].to_numpy()[last],
        moved_mw=total("moved_mw"),
        curtailed_mw=total("curtailed_mw"),
        shed_mw=total("shed_mw"),
        cost_eur=total("cost_eur"),
    )
