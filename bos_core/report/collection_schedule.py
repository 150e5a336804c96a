"""The schedule of a run: hourly states of its newest version, and the network with chosen hours of it."""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import BranchKind, FloatArray, StrArray
from bos_core.report.collection_costs import costs
from bos_core.report.collection_violations import congested_hours
from bos_core.report.data import Network, Schedule
from bos_core.report.run_sources import RunSources, renewed


def schedule(sources: RunSources) -> Schedule | None:
    """Return the hourly states, None without a dispatch."""
    grid, network, units = sources.grid, sources.grid.network, sources.grid.units
    series = sources.series
    p = series("unit.p_mw", units.id)
    if p is None:
        return None
    on = series("unit.on", units.id)
    available = series("unit.available_mw", units.id)
    set_points = series("bus.vm_set_pu", network.bus_id)
    unit_set = None
    if set_points is not None and on is not None:
        unit_set = np.where(units.voltage_control & (on > 0.5), set_points[:, units.bus], np.nan)
    curtailed = None if available is None else np.where(units.variable, np.maximum(available - p, 0.0), 0.0)
    dispatch, repaired = (sources.table("active_dispatch", name) for name in ("hours", "repaired.hours"))
    if dispatch is not None and repaired is not None:
        dispatch = renewed(dispatch, repaired, repaired["hour"].to_numpy())
    return Schedule(
        unit_name=units.name,
        unit_technology=units.technology,
        unit_p_mw_max=units.p_mw_max,
        unit_p_mw=p,
        unit_on=None if on is None else on > 0.5,
        unit_committable=units.committable,
        unit_vm_set_pu=unit_set,
        unit_curtailed_mw=curtailed,
        svg_name=grid.svgs.id,
        svg_q_mvar=_devices(sources, "svg.q_mvar", grid.svgs.id),
        bus_name=network.bus_name,
        bus_base_kv=network.base_kv,
        bus_vm_pu=series("bus.vm_pu", network.bus_id),
        bus_vm_pu_min=sources.limits.vm_pu_min,
        bus_vm_pu_max=sources.limits.vm_pu_max,
        branch_name=network.branch_name,
        branch_loading=_branch_loading(sources),
        branch_loading_max=sources.limits.loading_max,
        branch_overload_hours_n1=congested_hours(sources),
        load_mw=_total(series("load.p_mw", grid.loads.id)),
        losses_mw=_losses(sources),
        shed_mw=_total(series("load.shed_mw", grid.loads.id)),
        reserve_up_mw=_total(series("unit.reserve_up_mw", units.id)),
        reserve_down_mw=_total(series("unit.reserve_down_mw", units.id)),
        reserve_up_required_mw=sources.by_hour(dispatch, "reserve_required_mw"),
        reserve_down_required_mw=sources.by_hour(dispatch, "reserve_down_required_mw"),
        storage_name=grid.storages.id,
        storage_p_mw=_devices(sources, "storage.p_mw", grid.storages.id),
        storage_energy_mwh=_devices(sources, "storage.energy_mwh", grid.storages.id),
        hvdc_name=grid.hvdc.name,
        hvdc_p_mw=_devices(sources, "hvdc.p_mw", grid.hvdc.id),
        lmp_eur_per_mwh=series("bus.price_eur_per_mwh", network.bus_id),
        cost_eur=costs(sources),
        co2_t=(p * units.co2_t_per_mwh).sum(axis=1),
    )


def _devices(sources: RunSources, name: str, ids: StrArray) -> FloatArray | None:
    """Return a series of devices that a grid may lack: no column then, where None would be a missing result."""
    return sources.series(name, ids) if ids.size else np.zeros((sources.hours, 0))


def _total(values: FloatArray | None) -> FloatArray | None:
    return None if values is None else values.sum(axis=1)


def _losses(sources: RunSources) -> FloatArray | None:
    """Return the losses of the newest states, (hour,): of adjusted hours those after their last round."""
    dispatched = sources.by_hour(sources.table("reactive_dispatch", "hours"), "losses_mw")
    rounds = sources.table("state_adjustment", "summary")
    if dispatched is None or rounds is None:
        return dispatched
    adjusted = sources.by_hour(rounds.sort_by("round"), "losses_mw")
    return dispatched if adjusted is None else np.where(np.isnan(adjusted), dispatched, adjusted)


def _branch_loading(sources: RunSources) -> FloatArray | None:
    """Return base-case loadings, (hour, branch), NaN where a branch has no rating."""
    network = sources.grid.network
    loading = sources.series("branch.loading", network.branch_id)
    if loading is None:
        return None
    rated = np.isfinite(np.minimum(network.i_max_from_pu, network.i_max_to_pu))
    return np.where(rated, loading, np.nan)


def network(sources: RunSources, states: Schedule | None) -> Network:
    """Return the network, with loadings and voltages of the hours that a planner looks at first."""
    grid = sources.grid.network
    titles, loading, voltage = [], [], []
    if states is not None and states.branch_loading is not None and states.bus_vm_pu is not None:
        highest = np.where(np.isnan(states.branch_loading), -1.0, states.branch_loading).max(axis=1, initial=-1.0)
        chosen = [("Highest loading", int(highest.argmax()))]
        if states.load_mw is not None:
            chosen += [
                ("Highest load", int(states.load_mw.argmax())),
                ("Lowest load", int(states.load_mw.argmin())),
            ]
        for title, hour in chosen:
            titles.append(f"{title} ({sources.year.date(sources.start + hour):%a %d %b %H:%M})")
            loading.append(states.branch_loading[hour])
            voltage.append(states.bus_vm_pu[hour])
    return Network(
        bus_name=grid.bus_name,
        base_kv=grid.base_kv,
        longitude_deg=grid.longitude_deg,
        latitude_deg=grid.latitude_deg,
        branch_name=grid.branch_name,
        from_bus=grid.from_bus,
        to_bus=grid.to_bus,
        is_transformer=grid.branch_kind == BranchKind.TRANSFORMER,
        is_fictitious=grid.branch_kind == BranchKind.EQUIVALENT,
        snapshot_title=np.array(titles, dtype=np.str_),
        loading=np.array(loading).reshape(len(titles), grid.n_branch),
        vm_pu=np.array(voltage).reshape(len(titles), grid.n_bus),
    )
