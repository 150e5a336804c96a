"""A schedule where none was planned: infeed as available, the other units share the rest by size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bos_core.grid.injections import hvdc_injections
from bos_core.grid.model import BoolArray, FloatArray, Grid, Snapshot


def balanced(grid: Grid, states: Snapshot, available_mw: FloatArray, in_service: BoolArray) -> Snapshot:
    """Return a block of hours whose units meet the load, without losses.

    Variable units feed in what is available. All other units in service share the rest of the load in proportion
    to p_mw_max, between 0 and p_mw_max; where variable infeed alone exceeds the load, it is curtailed in
    proportion and the others stand at 0. Storages and HVDC lines keep their powers. What the units cannot cover
    stays with the balance of the power flow. A unit that the snapshot had off controls its bus's voltage of the
    snapshot.

    Parameters
    ----------
    states : Snapshot
        A block; its loads, storages and HVDC lines count.
    available_mw : (hour, unit)
    in_service : (hour, unit) bool
    """
    units = grid.units
    from_mw, to_mw = hvdc_injections(grid.hvdc, states.hvdc_p_mw)
    demand = states.load_p_mw.sum(axis=1) - states.storage_p_mw.sum(axis=1) - (from_mw + to_mw).sum(axis=1)
    capacity = np.where(in_service, np.maximum(units.p_mw_max, 0.0), 0.0)
    infeed = np.where(units.variable, np.clip(available_mw, 0.0, capacity), 0.0)
    steerable = np.where(units.variable, 0.0, capacity)
    rest = demand - infeed.sum(axis=1)
    used = np.clip(_ratio(demand, infeed.sum(axis=1)), 0.0, 1.0)
    share = np.clip(_ratio(rest, steerable.sum(axis=1)), 0.0, 1.0)
    p_mw = infeed * np.where(rest < 0.0, used, 1.0)[:, None] + steerable * share[:, None]
    set_point = np.where(np.isfinite(states.unit_vm_set_pu), states.unit_vm_set_pu, states.vm_pu[:, units.bus])
    return replace(
        states,
        unit_on=in_service.copy(),
        unit_p_mw=p_mw,
        unit_vm_set_pu=np.where(in_service & units.voltage_control, set_point, np.nan),
    )


def _ratio(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return a / b, 0 where b is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0.0)
