"""What is violated in the states that were verified last, row by row, with relaxation and shedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from bos_core.grid.model import FloatArray, IntArray
from bos_core.grid.n1_cases import CRITERION_TOLERANCE
from bos_core.report.pair_survey import PairSurvey
from bos_core.report.run_sources import RunSources, renewed
from bos_core.report.violations import (
    BASE_CASE,
    DIVERGENCE,
    OVERLOAD,
    OVERVOLTAGE,
    UNDERVOLTAGE,
    names,
    repeated,
    table,
)

_NO_OUTAGE = -1


def verified(sources: RunSources, name: str) -> pa.Table | None:
    """Return an output of N-1 verification as it is now: adjusted hours were verified again."""
    first, again = sources.table("n1_verification", name), sources.table("state_adjustment", f"verified.{name}")
    hours = sources.table("state_adjustment", "verified.base")
    if first is None or again is None or hours is None:
        return first
    return renewed(first, again, hours["hour"].to_numpy())


def congested_hours(sources: RunSources) -> IntArray | None:
    """Return in how many hours each branch is overloaded after an outage, (branch,)."""
    overloads = verified(sources, "overloads")
    if overloads is None:
        return None
    seen = overloads.group_by(["branch", "hour"]).aggregate([])
    return np.bincount(seen["branch"].to_numpy(), minlength=sources.grid.network.n_branch)


def remaining(sources: RunSources, pairs: PairSurvey | None) -> pa.Table | None:
    """Return what is still violated, worst first, hours of the year; None before step 6.

    See `bos_core.report.violations.SCHEMA` for the columns.
    """
    overloads, voltages = (verified(sources, name) for name in ("overloads", "voltages"))
    if overloads is None or voltages is None or pairs is None:
        return None
    low, high = sources.limits.vm_contingency_pu_min, sources.limits.vm_contingency_pu_max
    of_bus = _arrays(voltages, "hour", "contingency", "bus", "vm_pu")
    of_branch = _arrays(overloads, "hour", "contingency", "branch", "loading")
    parts = [
        _overloads(sources, of_branch, sources.limits.loading_contingency_max),
        _base_overloads(sources),
        *_voltages(sources, of_bus, low, high),
        *_base_voltages(sources),
        {
            "hour": pairs.diverged[0],
            "outage": names(sources.grid.network.branch_name, pairs.diverged[1]),
            "element": repeated("", pairs.diverged.shape[1]),
            "kind": repeated(DIVERGENCE, pairs.diverged.shape[1]),
        },
    ]
    return table([part for part in parts if part is not None])


def _arrays(rows: pa.Table, *columns: str) -> list[np.ndarray]:
    return [rows[name].to_numpy() for name in columns]


def _overloads(sources: RunSources, found: Sequence[np.ndarray], limit: FloatArray) -> Mapping[str, object]:
    hour, outage, branch, loading = found
    relaxation, shed = _relaxed(sources, hour, outage, branch, np.full(hour.size, -1))
    return {
        "hour": hour,
        "outage": _outages(sources, outage),
        "element": names(sources.grid.network.branch_name, branch),
        "kind": repeated(OVERLOAD, hour.size),
        "value": loading,
        "limit": limit[branch],
        "relaxation": relaxation,
        "shed_mw": shed,
    }


def _base_overloads(sources: RunSources) -> Mapping[str, object] | None:
    table = verified(sources, "base_overloads")
    if table is None:
        return None
    hour, branch, loading = _arrays(table, "hour", "branch", "loading")
    none = np.full(hour.size, _NO_OUTAGE)
    return _overloads(sources, (hour, none, branch, loading), sources.limits.loading_max)


def _voltages(
    sources: RunSources, found: Sequence[np.ndarray], low: FloatArray, high: FloatArray
) -> list[Mapping[str, object]]:
    hour, outage, bus, vm_pu = found
    relaxation, shed = _relaxed(sources, hour, outage, np.full(hour.size, -1), bus)
    below = vm_pu < low[bus]
    parts: list[Mapping[str, object]] = []
    for kind, limit, chosen in ((UNDERVOLTAGE, low, below), (OVERVOLTAGE, high, ~below)):
        parts.append(
            {
                "hour": hour[chosen],
                "outage": _outages(sources, outage[chosen]),
                "element": names(sources.grid.network.bus_name, bus[chosen]),
                "kind": repeated(kind, int(chosen.sum())),
                "value": vm_pu[chosen],
                "limit": limit[bus[chosen]],
                "relaxation": relaxation[chosen],
                "shed_mw": shed[chosen],
            }
        )
    return parts


def _base_voltages(sources: RunSources) -> list[Mapping[str, object]]:
    low, high = sources.limits.vm_pu_min, sources.limits.vm_pu_max
    vm_pu = sources.series("bus.vm_pu", sources.grid.network.bus_id)
    if vm_pu is None:
        return []
    hour, bus = np.nonzero((vm_pu < low - CRITERION_TOLERANCE) | (vm_pu > high + CRITERION_TOLERANCE))
    none = np.full(hour.size, _NO_OUTAGE)
    return _voltages(sources, (hour + sources.start, none, bus, vm_pu[hour, bus]), low, high)


def _outages(sources: RunSources, outage: IntArray) -> pa.Array:
    known = np.append(sources.grid.network.branch_name, BASE_CASE)
    return names(known, np.where(outage == _NO_OUTAGE, known.size - 1, outage))


def _relaxed(
    sources: RunSources, hour: IntArray, outage: IntArray, branch: IntArray, bus: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Return least relaxation and shedding instead as the adjustment listed them; NaN where it did not."""
    listed = sources.table("state_adjustment", "relaxed")
    unknown = np.full(hour.size, np.nan)
    if listed is None or not listed.num_rows:
        return unknown, unknown
    network = sources.grid.network

    def key(hour: IntArray, outage: IntArray, branch: IntArray, bus: IntArray) -> IntArray:
        place = hour.astype(np.int64) * (network.n_branch + 1) + outage + 1
        return (place * (network.n_branch + 1) + branch + 1) * (network.n_bus + 1) + bus + 1

    known = key(*(listed[name].to_numpy() for name in ("hour", "contingency", "branch", "bus")))
    order = np.argsort(known, kind="stable")
    wanted = key(hour, outage, branch, bus)
    place = np.minimum(np.searchsorted(known[order], wanted), known.size - 1)
    found = known[order][place] == wanted
    amount, shed = (
        np.where(found, listed[name].to_numpy()[order][place], np.nan) if name in listed.column_names else unknown
        for name in ("amount", "shed_mw")
    )
    return amount, shed
