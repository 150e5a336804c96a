"""From devices to buses and back: what a power flow is given, and what its solution means for each device.

Devices that control the voltage of their bus have no fixed reactive power; their ranges are summed per bus and
the solved reactive power is shared among them in proportion to their ranges. Everything else is a fixed
injection, or a load that depends on the voltage (constant current, constant impedance).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, Grid, HvdcLines, IntArray, Snapshot

UNLIMITED_MVAR = 1e4
"""Stands for an infinite reactive limit when ranges are compared."""


@dataclass(frozen=True, eq=False)
class BusInjections:
    """Power put into every bus, per unit; each array is (bus,) for one hour or (hour, bus) for a block.

    The injection at voltage v is ``p_pu - p_current_pu v - p_impedance_pu v^2`` and the same for q. At buses
    with `voltage_control` q_pu holds only the uncontrolled part; the controlling devices add between
    q_pu_min and q_pu_max to keep vm_set_pu (NaN elsewhere; the slack always has one).
    """

    p_pu: FloatArray
    q_pu: FloatArray
    p_current_pu: FloatArray
    q_current_pu: FloatArray
    p_impedance_pu: FloatArray
    q_impedance_pu: FloatArray
    voltage_control: BoolArray
    vm_set_pu: FloatArray
    q_pu_min: FloatArray
    q_pu_max: FloatArray

    def hour(self, position: int) -> BusInjections:
        """Return one hour of a block."""
        return BusInjections(**{f.name: getattr(self, f.name)[position] for f in fields(self)})

    @property
    def p_nominal_pu(self) -> FloatArray:
        """Active injection at 1 p.u. voltage."""
        return self.p_pu - self.p_current_pu - self.p_impedance_pu


def sum_by_bus(bus: IntArray, values: FloatArray, n_bus: int) -> FloatArray:
    """Sum values of devices (..., device) at their buses: (..., bus), in the order of the devices."""
    if values.ndim == 1:
        return np.asarray(np.bincount(bus, values, n_bus), dtype=np.float64)
    rows = math.prod(values.shape[:-1])
    place = (np.arange(rows)[:, None] * n_bus + bus).ravel()
    return np.bincount(place, values.ravel(), rows * n_bus).astype(np.float64).reshape(*values.shape[:-1], n_bus)


def hvdc_injections(hvdc: HvdcLines, p_mw: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the active power that HVDC lines put into their from and to buses.

    Parameters
    ----------
    p_mw : (..., hvdc)
        Power sent from the from end; negative: sent from the to end. Losses are borne by the receiving end.

    Returns
    -------
    (..., hvdc) float, twice, in MW.
    """
    received = np.abs(p_mw) * (1.0 - hvdc.loss_share) - hvdc.loss_mw
    forward = p_mw >= 0
    return np.where(forward, -p_mw, received), np.where(forward, received, p_mw)


@dataclass(frozen=True, eq=False)
class _Controllers:
    """Devices that can control a voltage, all kinds side by side: units, SVGs, HVDC from ends, HVDC to ends."""

    bus: IntArray
    q_mvar_min: FloatArray
    q_mvar_max: FloatArray
    q_mvar: FloatArray
    vm_set_pu: FloatArray
    active: BoolArray


def _controllers(grid: Grid, snapshot: Snapshot) -> _Controllers:
    units, svgs, hvdc = grid.units, grid.svgs, grid.hvdc
    bus = np.concatenate([units.bus, svgs.bus, hvdc.from_bus, hvdc.to_bus]).astype(np.int64)
    vm_set = np.concatenate(
        [
            np.where(snapshot.unit_on, snapshot.unit_vm_set_pu, np.nan),
            snapshot.svg_vm_set_pu,
            snapshot.hvdc_vm_from_set_pu,
            snapshot.hvdc_vm_to_set_pu,
        ],
        axis=-1,
    )
    slack = grid.network.slack
    active = np.isfinite(vm_set)
    orphan = ~(active & (bus == slack)).any(axis=-1)
    held_by_units = np.zeros(vm_set.shape, bool)
    held_by_units[..., : units.n] = (units.bus == slack) & snapshot.unit_on
    return _Controllers(
        bus=bus,
        q_mvar_min=np.concatenate(
            [units.q_mvar_min, svgs.q_mvar_min, hvdc.q_from_mvar_min, hvdc.q_to_mvar_min]
        ).clip(-UNLIMITED_MVAR, UNLIMITED_MVAR),
        q_mvar_max=np.concatenate(
            [units.q_mvar_max, svgs.q_mvar_max, hvdc.q_from_mvar_max, hvdc.q_to_mvar_max]
        ).clip(-UNLIMITED_MVAR, UNLIMITED_MVAR),
        q_mvar=np.concatenate(
            [
                np.where(snapshot.unit_on, snapshot.unit_q_mvar, 0.0),
                snapshot.svg_q_mvar,
                snapshot.hvdc_q_from_mvar,
                snapshot.hvdc_q_to_mvar,
            ],
            axis=-1,
        ),
        vm_set_pu=vm_set,
        active=active | (orphan[..., None] & held_by_units),
    )


def bus_injections(grid: Grid, snapshot: Snapshot) -> BusInjections:
    """Return what every bus is given in one hour, or in every hour of a block.

    The slack keeps its devices' set point, or the snapshot's voltage where none of them has one. Where several
    devices control one bus the first set point counts, in the order units, SVGs, HVDC ends.
    """
    network, loads, base = grid.network, grid.loads, grid.network.base_mva
    n = network.n_bus
    from_mw, to_mw = hvdc_injections(grid.hvdc, snapshot.hvdc_p_mw)
    devices = _controllers(grid, snapshot)
    constant = 1.0 - loads.share_z - loads.share_i

    def at(bus: IntArray, values: FloatArray) -> FloatArray:
        return sum_by_bus(bus, values, n) / base

    p = (
        at(grid.units.bus, np.where(snapshot.unit_on, snapshot.unit_p_mw, 0.0))
        + at(grid.storages.bus, snapshot.storage_p_mw)
        + at(grid.hvdc.from_bus, from_mw)
        + at(grid.hvdc.to_bus, to_mw)
        - at(loads.bus, snapshot.load_p_mw * constant)
    )
    q = (
        at(devices.bus, np.where(devices.active, 0.0, devices.q_mvar))
        + at(grid.storages.bus, snapshot.storage_q_mvar)
        - at(loads.bus, snapshot.load_q_mvar * constant)
    )
    vm_set = _set_points(devices, n)
    vm_set[..., network.slack] = np.where(
        np.isfinite(vm_set[..., network.slack]), vm_set[..., network.slack], snapshot.vm_pu[..., network.slack]
    )
    return BusInjections(
        p_pu=p,
        q_pu=q,
        p_current_pu=at(loads.bus, snapshot.load_p_mw * loads.share_i),
        q_current_pu=at(loads.bus, snapshot.load_q_mvar * loads.share_i),
        p_impedance_pu=at(loads.bus, snapshot.load_p_mw * loads.share_z),
        q_impedance_pu=at(loads.bus, snapshot.load_q_mvar * loads.share_z),
        voltage_control=np.isfinite(vm_set),
        vm_set_pu=vm_set,
        q_pu_min=at(devices.bus, np.where(devices.active, devices.q_mvar_min, 0.0)),
        q_pu_max=at(devices.bus, np.where(devices.active, devices.q_mvar_max, 0.0)),
    )


def _set_points(devices: _Controllers, n_bus: int) -> FloatArray:
    hours_of_block = math.prod(devices.vm_set_pu.shape[:-1])
    flat = devices.vm_set_pu.reshape(hours_of_block, devices.bus.size)
    vm_set = np.full((hours_of_block, n_bus), np.nan)
    hours, members = np.nonzero(np.isfinite(flat)[:, ::-1])
    members = devices.bus.size - 1 - members
    vm_set[hours, devices.bus[members]] = flat[hours, members]
    return vm_set.reshape(*devices.vm_set_pu.shape[:-1], n_bus)


def share_q(
    grid: Grid, snapshot: Snapshot, q_control_pu: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Share the reactive power of controlled buses among their devices, in proportion to their ranges.

    Parameters
    ----------
    q_control_pu : (..., bus)
        Reactive power of all controlling devices of each bus together; ignored elsewhere.

    Returns
    -------
    unit_q_mvar, svg_q_mvar, hvdc_q_from_mvar, hvdc_q_to_mvar : (..., device)
        Devices without voltage control keep the snapshot's value, units that are off have none.
    """
    devices = _controllers(grid, snapshot)
    n, bus = grid.network.n_bus, devices.bus
    low = np.where(devices.active, devices.q_mvar_min, 0.0)
    width = np.where(devices.active, np.maximum(devices.q_mvar_max - devices.q_mvar_min, 0.0), 0.0)
    width_bus = sum_by_bus(bus, width, n)[..., bus]
    count_bus = sum_by_bus(bus, devices.active.astype(float), n)[..., bus]
    surplus = (q_control_pu * grid.network.base_mva - sum_by_bus(bus, low, n))[..., bus]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(width_bus > 0, width / width_bus, 1.0 / count_bus)
        q = np.where(devices.active, low + surplus * share, devices.q_mvar)
    ends = np.cumsum([grid.units.n, grid.svgs.bus.size, grid.hvdc.from_bus.size])
    unit_q, svg_q, from_q, to_q = np.split(q, ends, axis=-1)
    return unit_q, svg_q, from_q, to_q


def share_slack(grid: Grid, snapshot: Snapshot, p_slack_pu: FloatArray) -> FloatArray:
    """Return unit_p_mw (..., unit) with the balance of each bus added to its running units, by p_mw_max.

    Parameters
    ----------
    p_slack_pu : (..., bus)
        Active power that the balance adds to the set points of each bus. A bus with no running unit takes the
        balance as an import from outside: no unit changes.
    """
    units = grid.units
    weight = np.where(snapshot.unit_on, np.maximum(units.p_mw_max, 1e-6), 0.0)
    total = sum_by_bus(units.bus, weight, grid.network.n_bus)[..., units.bus]
    extra = (p_slack_pu * grid.network.base_mva)[..., units.bus]
    with np.errstate(divide="ignore", invalid="ignore"):
        added = np.where(weight > 0, extra * weight / total, 0.0)
    return snapshot.unit_p_mw + added


def update_snapshot(
    grid: Grid,
    snapshot: Snapshot,
    vm_pu: FloatArray,
    va_rad: FloatArray,
    p_slack_pu: FloatArray,
    q_control_pu: FloatArray,
) -> Snapshot:
    """Return the snapshot with a solution written to its devices.

    Parameters
    ----------
    vm_pu, va_rad : (..., bus)
    p_slack_pu : (..., bus)
        Active balance, see `share_slack`.
    q_control_pu : (..., bus)
        Reactive power of the controlling devices, see `share_q`.
    """
    unit_q, svg_q, from_q, to_q = share_q(grid, snapshot, q_control_pu)
    return replace(
        snapshot,
        unit_p_mw=share_slack(grid, snapshot, p_slack_pu),
        unit_q_mvar=unit_q,
        svg_q_mvar=svg_q,
        hvdc_q_from_mvar=from_q,
        hvdc_q_to_mvar=to_q,
        vm_pu=vm_pu,
        va_rad=va_rad,
    )
