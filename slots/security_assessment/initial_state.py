"""A merit-order start: who runs, and at what power, before the network has had its say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bos_core.grid.injections import hvdc_injections
from bos_core.grid.model import BoolArray, FloatArray, Grid, IntArray, Snapshot

RESERVE_SHARE = 0.05
"""Capacity beyond the need that is kept running."""


def full_load_cost(grid: Grid) -> FloatArray:
    """Return each unit's mean cost at full load, EUR/MWh, (unit,)."""
    units = grid.units
    variable = np.bincount(units.segment_unit, units.segment_mw * units.segment_eur_per_mwh, units.n)
    return (units.minimum_output_eur_per_h + variable) / np.maximum(units.p_mw_max, 1e-6)


def initial_dispatch(
    grid: Grid,
    need_mw: float,
    available_mw: FloatArray,
    in_service: BoolArray,
) -> tuple[BoolArray, FloatArray]:
    """Return who runs and at what power (unit,), by merit order.

    Variable units give what is available, taken back in proportion where the rest cannot go lower. Committable
    units start in the order of their full-load cost, those that must run and those at the slack first, until
    the need and a reserve are covered; then all cost segments are filled in order of price.

    Parameters
    ----------
    grid : Grid
    need_mw : float
        Demand and losses less what storages and HVDC lines bring.
    available_mw : (unit,)
    in_service : (unit,) bool
    """
    units = grid.units
    high = np.where(in_service, np.minimum(units.p_mw_max, available_mw), 0.0)
    low = np.minimum(units.p_mw_min, high)
    fixed = in_service & ~units.variable & ~units.committable
    infeed = np.where(units.variable, high, 0.0)
    on = in_service & (units.variable | fixed)
    first = in_service & units.committable & (units.must_run | (units.bus == grid.network.slack))
    cost = full_load_cost(grid)
    candidates = np.flatnonzero(in_service & units.committable & (low <= high))
    order = candidates[np.lexsort((candidates, cost[candidates], ~first[candidates]))]
    wanted = need_mw * (1 + RESERVE_SHARE) - infeed.sum() - high[fixed].sum()
    before = np.cumsum(high[order]) - high[order]
    on[order[(before < wanted) | first[order]]] = True
    bottom = np.where(on & ~units.variable, low, 0.0)
    excess = bottom.sum() + infeed.sum() - need_mw
    kept = 1.0 - np.clip(excess / max(infeed.sum(), 1e-6), 0.0, 1.0)
    p = bottom + infeed * kept
    return on, p + _filled(grid, on & ~units.variable, bottom, high, need_mw - p.sum())


def _filled(grid: Grid, on: BoolArray, bottom: FloatArray, high: FloatArray, rest_mw: float) -> FloatArray:
    """Fill cost segments in order of price until `rest_mw` is covered; return the additions (unit,)."""
    unit, width, price = segments_above(grid, bottom, high)
    width = np.where(on[unit], width, 0.0)
    order = np.lexsort((unit, price))
    before = np.cumsum(width[order]) - width[order]
    taken = np.clip(rest_mw - before, 0.0, width[order])
    return np.asarray(np.bincount(unit[order], taken, grid.units.n), dtype=np.float64)


def segments_above(grid: Grid, bottom: FloatArray, high: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return (unit, width in MW, price) of the cost segments between `bottom` and `high`.

    Segments start at p_mw_min, those of units without commitment at 0; the last one is open-ended, and a unit
    without segments has one that costs nothing.
    """
    units = grid.units
    order = np.lexsort((np.arange(units.segment_unit.size), units.segment_unit))
    bare = np.setdiff1d(np.arange(units.n), units.segment_unit)
    unit = np.concatenate([units.segment_unit[order], bare])
    width = np.concatenate([units.segment_mw[order], np.zeros(bare.size)])
    price = np.concatenate([units.segment_eur_per_mwh[order], np.zeros(bare.size)])
    sort = np.argsort(unit, kind="stable")
    unit, width, price = unit[sort], width[sort], price[sort]
    run = np.cumsum(width)
    first = np.searchsorted(unit, unit)
    start = np.where(units.committable, units.p_mw_min, 0.0)[unit]
    top = start + run - (run[first] - width[first])
    floor = top - width
    last = np.append(unit[1:] != unit[:-1], True)
    floor[first] = -np.inf
    top[last] = np.inf
    clipped = np.minimum(top, high[unit]) - np.maximum(floor, bottom[unit])
    return unit, np.maximum(clipped, 0.0), price


def merit_order_snapshot(
    grid: Grid, snapshot: Snapshot, available_mw: FloatArray, in_service: BoolArray, loss_share: float
) -> Snapshot:
    """Return the snapshot with a merit-order dispatch; loads, storages and HVDC lines stay."""
    from_mw, to_mw = hvdc_injections(grid.hvdc, snapshot.hvdc_p_mw)
    need = snapshot.load_p_mw.sum() * (1 + loss_share)
    need -= snapshot.storage_p_mw.sum() + from_mw.sum() + to_mw.sum()
    on, p = initial_dispatch(grid, float(need), available_mw, in_service)
    return replace(snapshot, unit_on=on, unit_p_mw=p)


def with_set_points(grid: Grid, snapshot: Snapshot) -> Snapshot:
    """Give every unit with voltage control a set point: its own, another one's at its bus, or the voltage."""
    units = grid.units
    wanted = np.where(units.voltage_control, snapshot.unit_vm_set_pu, np.nan)
    at_bus = snapshot.vm_pu.copy()
    known = np.flatnonzero(np.isfinite(wanted))[::-1]
    at_bus[units.bus[known]] = wanted[known]
    missing = units.voltage_control & ~np.isfinite(wanted)
    return replace(snapshot, unit_vm_set_pu=np.where(missing, at_bus[units.bus], wanted))
