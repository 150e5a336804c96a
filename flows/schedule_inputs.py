"""What unit commitment and active dispatch both read: demand, infeed, reserve and limits of some hours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.access.criteria import reserve
from bos_core.access.scenario_data import ScenarioReader
from bos_core.grid.model import BoolArray, FloatArray, Grid, Snapshot
from bos_core.grid.power_flow import network_losses_mw

DISPATCH_LOADING_MAX = 0.95
"""Share of a rating that DC schedules may use for active power; the rest is for reactive power and losses."""


@dataclass(frozen=True, eq=False)
class ScheduleHours:
    """Hourly arrays; axes as in the grid.

    Attributes
    ----------
    grid : Grid
    base : Snapshot
        The validated snapshot.
    load_p_mw : (hour, load)
    available_mw : (hour, unit)
        Infeed of variable units, capacity of the others, 0 when out of service.
    in_service : (hour, unit)
    losses_mw : (hour,)
        Losses of the validated snapshot, scaled with the square of the demand.
    reserve_up_mw, reserve_down_mw : (hour,)
    branch_mw_max : (branch,)
    """

    grid: Grid
    base: Snapshot
    load_p_mw: FloatArray
    available_mw: FloatArray
    in_service: BoolArray
    losses_mw: FloatArray
    reserve_up_mw: FloatArray
    reserve_down_mw: FloatArray
    branch_mw_max: FloatArray


def schedule_hours(reader: ScenarioReader, hours: slice) -> ScheduleHours:
    """Read the hours of a version that has annual states."""
    grid, base = reader.grid()
    load = reader.aligned("load.p_mw", grid.loads.id, hours)
    in_service = reader.aligned("unit.in_service", grid.units.id, hours).astype(bool)
    available = np.where(in_service, reader.aligned("unit.available_mw", grid.units.id, hours), 0.0)
    demand = load.sum(axis=1)
    variable = grid.units.variable
    wanted = reserve(reader.table("reserve_requirement"), demand, available[:, variable].sum(axis=1))
    network = grid.network
    rating = np.minimum(network.i_max_from_pu, network.i_max_to_pu) * network.base_mva
    return ScheduleHours(
        grid=grid,
        base=base,
        load_p_mw=load,
        available_mw=available,
        in_service=in_service,
        losses_mw=network_losses_mw(grid, base.block())[0] * (demand / max(base.load_p_mw.sum(), 1e-9)) ** 2,
        reserve_up_mw=wanted.up_mw,
        reserve_down_mw=wanted.down_mw,
        branch_mw_max=DISPATCH_LOADING_MAX * rating,
    )
