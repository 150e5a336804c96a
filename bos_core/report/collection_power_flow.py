"""A time-series power flow: its hours, its worst branches and buses, and the network at its highest loadings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from bos_core.grid.model import BranchKind, FloatArray, StrArray
from bos_core.objects.errors import NotFoundError
from bos_core.report.data import BranchExtreme, BusExtreme, Network, PowerFlow
from bos_core.report.run_sources import RunSources

WORST_SHOWN = 20

BUSES_DRAWN_MAX = 3000
"""A larger network is drawn from the voltage level up at which it has no more buses."""

_COUNTS = ("iterations", "overloaded", "voltage_violations", "q_limited")
_VALUES = (
    *("residual_pu", "load_mw", "losses_mw", "slack_p_mw", "loading_max"),
    *("vm_min_pu", "vm_05_pu", "vm_50_pu", "vm_95_pu", "vm_max_pu"),
)


def power_flow(sources: RunSources) -> tuple[int, PowerFlow]:
    """Return the first hour of the year and the results of a run, as far as it has come.

    Raises
    ------
    NotFoundError
        If no task has committed anything yet.
    """
    table = sources.table("power_flow", "hours")
    if table is None:
        raise NotFoundError(f"run {sources.trace} has no results yet; see `bos ps` and `bos logs`")
    hour = table["hour"].to_numpy()
    first = int(hour.min())
    place, count = hour - first, int(hour.max()) - first + 1
    network, limits = sources.grid.network, sources.limits

    def column(name: str, otherwise: float) -> Any:
        values = np.full(count, otherwise)
        values[place] = table[name].to_numpy()
        return values

    def element(name: str, names: StrArray) -> StrArray:
        found = column(name, -1).astype(np.int64)
        return np.where(found >= 0, names[found], "")

    values = {name.replace("vm_0", "vm_p0"): column(name, np.nan) for name in _VALUES}
    values |= {f"vm_p{p}_pu": values.pop(f"vm_{p}_pu") for p in (50, 95)}
    return first, PowerFlow(
        schedule=table["schedule"][0].as_py(),
        outcome=column("outcome", -1).astype(np.int64),
        loading_branch=element("loading_branch", network.branch_name),
        vm_min_bus=element("vm_min_bus", network.bus_name),
        vm_max_bus=element("vm_max_bus", network.bus_name),
        vm_pu_low=float(limits.vm_pu_min.min()),
        vm_pu_high=float(limits.vm_pu_max.max()),
        branches=_branches(sources, first),
        buses=_buses(sources, first),
        **{name: column(name, 0).astype(np.int64) for name in _COUNTS},
        **values,
    )


def _extremes(table: pa.Table, element: str, value: str, largest: bool) -> tuple[FloatArray, np.ndarray]:
    """Return the extreme value of every element over all blocks, and the row that holds it."""
    of, values = table[element].to_numpy(), table[value].to_numpy(zero_copy_only=False)
    ranked = np.lexsort((-values if largest else values, of))
    _, first = np.unique(of[ranked], return_index=True)
    rows = ranked[first]
    return values[rows], rows


def _total(table: pa.Table, element: str, value: str) -> FloatArray:
    return np.bincount(table[element].to_numpy(), table[value].to_numpy()).astype(np.float64)


def _branches(sources: RunSources, first: int) -> tuple[BranchExtreme, ...]:
    table = sources.table("power_flow", "branch_extremes")
    if table is None:
        return ()
    loading, rows = _extremes(table, "branch", "loading_max", True)
    hour = table["loading_max_hour"].to_numpy()[rows] - first
    over, losses = _total(table, "branch", "overload_hours"), _total(table, "branch", "losses_mwh")
    worst = [k for k in np.argsort(-loading, kind="stable")[:WORST_SHOWN] if np.isfinite(loading[k])]
    name = sources.grid.network.branch_name
    return tuple(
        BranchExtreme(str(name[k]), float(loading[k]), int(hour[k]), int(over[k]), float(losses[k])) for k in worst
    )


def _buses(sources: RunSources, first: int) -> tuple[BusExtreme, ...]:
    table = sources.table("power_flow", "bus_extremes")
    if table is None:
        return ()
    (low, low_row), (high, high_row) = (
        _extremes(table, "bus", f"vm_{name}_pu", largest) for name, largest in (("min", False), ("max", True))
    )
    limits, name = sources.limits, sources.grid.network.bus_name
    below, above = limits.vm_pu_min - low, high - limits.vm_pu_max
    excess = np.maximum(below, above)
    hour = np.where(
        below >= above,
        table["vm_min_hour"].to_numpy()[low_row],
        table["vm_max_hour"].to_numpy()[high_row],
    )
    vm, hours = np.where(below >= above, low, high), _total(table, "bus", "violation_hours")
    return tuple(
        BusExtreme(
            name=str(name[k]),
            vm_pu=float(vm[k]),
            hour=int(hour[k]) - first,
            vm_pu_min=float(limits.vm_pu_min[k]),
            vm_pu_max=float(limits.vm_pu_max[k]),
            violation_hours=int(hours[k]),
        )
        for k in np.argsort(-excess, kind="stable")[:WORST_SHOWN]
    )


def power_flow_network(sources: RunSources) -> Network:
    """Return the network with the highest loading of every branch and the lowest voltage of every bus."""
    grid = sources.grid.network
    buses, branches = (sources.table("power_flow", name) for name in ("bus_extremes", "branch_extremes"))
    titles, loading, voltage = [], np.zeros((0, grid.n_branch)), np.zeros((0, grid.n_bus))
    if buses is not None and branches is not None:
        titles = ["Highest loading of each branch, lowest voltage of each bus"]
        loading = _extremes(branches, "branch", "loading_max", True)[0][None]
        voltage = _extremes(buses, "bus", "vm_min_pu", False)[0][None]
    levels = np.unique(grid.base_kv)
    lowest = next((kv for kv in levels if (grid.base_kv >= kv).sum() <= BUSES_DRAWN_MAX), levels[-1])
    bus = grid.base_kv >= lowest
    branch = bus[grid.from_bus] & bus[grid.to_bus]
    place = np.cumsum(bus) - 1
    return Network(
        bus_name=grid.bus_name[bus],
        base_kv=grid.base_kv[bus],
        longitude_deg=grid.longitude_deg[bus],
        latitude_deg=grid.latitude_deg[bus],
        branch_name=grid.branch_name[branch],
        from_bus=place[grid.from_bus[branch]],
        to_bus=place[grid.to_bus[branch]],
        is_transformer=grid.branch_kind[branch] == BranchKind.TRANSFORMER,
        is_fictitious=grid.branch_kind[branch] == BranchKind.EQUIVALENT,
        snapshot_title=np.array(titles, dtype=np.str_),
        loading=loading[:, branch],
        vm_pu=voltage[:, bus],
    )


def power_flow_outcome(sources: RunSources, flow: PowerFlow) -> tuple[str, tuple[str, ...]]:
    """Return the result in one sentence, and what a planner must know about it."""
    hours, diverged = flow.outcome.size, int((flow.outcome == 1).sum())
    waiting = int((flow.outcome < 0).sum())
    secure = int(((flow.outcome == 0) & (flow.overloaded == 0) & (flow.voltage_violations == 0)).sum())
    text = f"{hours - diverged - waiting} of {hours} hours converged; {secure} of them keep every limit."
    if flow.schedule == "snapshot":
        verdict = "keeps every limit" if secure else "does not keep every limit"
        text = "The snapshot diverged." if diverged else f"The snapshot converged and {verdict}."
    warnings = []
    if waiting:
        warnings.append(f"{waiting} hours are not solved yet.")
    if diverged and flow.schedule != "snapshot":
        warnings.append(f"{diverged} hours diverged and are in no figure but the count.")
    if flow.schedule == "balanced":
        warnings.append(
            "The scenario holds no dispatch: variable units feed in what is available, all others share the rest "
            "of the load, and the losses, in proportion to their size."
        )
    if flow.schedule == "snapshot":
        warnings.append("The scenario holds no hourly states: its snapshot was solved as one hour.")
    grid = sources.grid.network
    if grid.n_bus > BUSES_DRAWN_MAX:
        warnings.append(f"The map shows the upper voltage levels, at most {BUSES_DRAWN_MAX:,} buses.")
    return text, tuple(warnings)
