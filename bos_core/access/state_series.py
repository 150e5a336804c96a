"""Hourly states of a scenario version as a block of snapshots, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from bos_core.grid.model import FloatArray, Grid, IntArray, Snapshot, StrArray

DISPATCH_SERIES = ("unit.on", "unit.p_mw", "storage.p_mw", "hvdc.p_mw", "load.shed_mw")
VOLTAGE_SERIES = (
    "unit.q_mvar",
    "svg.q_mvar",
    "hvdc.q_from_mvar",
    "hvdc.q_to_mvar",
    "bus.vm_set_pu",
    "bus.vm_pu",
    "bus.va_rad",
    "branch.tap",
    "shunt.step",
)


class SeriesReader(Protocol):
    """The part of a scenario reader that is needed here."""

    def has_series(self, name: str) -> bool:
        """Whether the version holds the series."""

    def aligned(self, name: str, ids: StrArray, hours: slice) -> np.ndarray:
        """Return values (hour, id) in the order of `ids`."""


def read_states(reader: SeriesReader, grid: Grid, base: Snapshot, hours: slice) -> Snapshot:
    """Return the states of a range of hours; what has no series yet stays as in `base`.

    Parameters
    ----------
    reader
        Scenario version.
    grid : Grid
    base : Snapshot
        A single hour: start values and devices that no series describes.
    hours : slice
        Hours of the year.
    """
    count = hours.stop - hours.start
    block = base.block()
    states = {name: np.repeat(values, count, axis=0) for name, values in vars(block).items()}

    def take(field: str, series: str, ids: StrArray) -> None:
        if reader.has_series(series) and ids.size:
            states[field] = reader.aligned(series, ids, hours).astype(states[field].dtype)

    take("load_p_mw", "load.p_mw", grid.loads.id)
    take("load_q_mvar", "load.q_mvar", grid.loads.id)
    if reader.has_series("load.shed_mw") and grid.loads.n:
        shed = reader.aligned("load.shed_mw", grid.loads.id, hours)
        share = np.divide(shed, states["load_p_mw"], out=np.zeros_like(shed), where=states["load_p_mw"] > 0)
        states["load_p_mw"] = states["load_p_mw"] - shed
        states["load_q_mvar"] = states["load_q_mvar"] * (1 - share)
    take("unit_on", "unit.on", grid.units.id)
    take("unit_p_mw", "unit.p_mw", grid.units.id)
    take("unit_q_mvar", "unit.q_mvar", grid.units.id)
    take("storage_p_mw", "storage.p_mw", grid.storages.id)
    take("svg_q_mvar", "svg.q_mvar", grid.svgs.id)
    take("hvdc_p_mw", "hvdc.p_mw", grid.hvdc.id)
    take("hvdc_q_from_mvar", "hvdc.q_from_mvar", grid.hvdc.id)
    take("hvdc_q_to_mvar", "hvdc.q_to_mvar", grid.hvdc.id)
    take("vm_pu", "bus.vm_pu", grid.network.bus_id)
    take("va_rad", "bus.va_rad", grid.network.bus_id)
    take("tap", "branch.tap", grid.network.branch_id[grid.network.tap_branch])
    take("shunt_step", "shunt.step", grid.shunts.id)
    set_points = (
        reader.aligned("bus.vm_set_pu", grid.network.bus_id, hours)
        if reader.has_series("bus.vm_set_pu")
        else np.full((count, grid.network.n_bus), np.nan)
    )
    return _with_set_points(grid, Snapshot(**states), set_points)


def _with_set_points(grid: Grid, states: Snapshot, set_points: FloatArray) -> Snapshot:
    """Give controlling devices their bus's set point; a unit that is off controls nothing."""

    def at(bus: IntArray, before: FloatArray) -> FloatArray:
        wanted = set_points[:, bus]
        return np.where(np.isfinite(wanted) & np.isfinite(before), wanted, before)

    unit = at(grid.units.bus, _start_set_point(grid, states))
    return replace(
        states,
        unit_vm_set_pu=np.where(states.unit_on & grid.units.voltage_control, unit, np.nan),
        svg_vm_set_pu=at(grid.svgs.bus, states.svg_vm_set_pu),
        hvdc_vm_from_set_pu=at(grid.hvdc.from_bus, states.hvdc_vm_from_set_pu),
        hvdc_vm_to_set_pu=at(grid.hvdc.to_bus, states.hvdc_vm_to_set_pu),
    )


def _start_set_point(grid: Grid, states: Snapshot) -> FloatArray:
    """A unit that was off in the base snapshot has no set point yet: start from its bus's voltage."""
    return np.where(np.isfinite(states.unit_vm_set_pu), states.unit_vm_set_pu, states.vm_pu[:, grid.units.bus])


def voltage_series(grid: Grid, states: Snapshot) -> dict[str, tuple[StrArray, np.ndarray]]:
    """Return the series that a reactive dispatch decides: name ► (ids, values (hour, element))."""
    network = grid.network
    set_points = np.full(states.vm_pu.shape, np.nan)
    for bus, value in (
        (grid.units.bus, states.unit_vm_set_pu),
        (grid.svgs.bus, states.svg_vm_set_pu),
        (grid.hvdc.from_bus, states.hvdc_vm_from_set_pu),
        (grid.hvdc.to_bus, states.hvdc_vm_to_set_pu),
    ):
        for k in range(bus.size):
            known = np.isfinite(value[:, k])
            set_points[known, bus[k]] = value[known, k]
    return {
        "unit.q_mvar": (grid.units.id, states.unit_q_mvar),
        "svg.q_mvar": (grid.svgs.id, states.svg_q_mvar),
        "hvdc.q_from_mvar": (grid.hvdc.id, states.hvdc_q_from_mvar),
        "hvdc.q_to_mvar": (grid.hvdc.id, states.hvdc_q_to_mvar),
        "bus.vm_set_pu": (network.bus_id, set_points),
        "bus.vm_pu": (network.bus_id, states.vm_pu),
        "bus.va_rad": (network.bus_id, states.va_rad),
        "branch.tap": (network.branch_id[network.tap_branch], states.tap),
        "shunt.step": (grid.shunts.id, states.shunt_step),
    }
