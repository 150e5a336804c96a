"""The grid as arrays: what every kernel and every slot program computes on.

All network quantities are per unit on `Network.base_mva`; powers of units, loads and HVDC lines are in MW and
Mvar. Positions along an axis are the identity of an element inside a kernel; `*_id` arrays lead back to the
ontology. Arrays are read-only by convention: `dataclasses.replace` makes a new grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
ComplexArray: TypeAlias = NDArray[np.complex128]
StrArray: TypeAlias = NDArray[np.str_]


class BranchKind(IntEnum):
    """What a branch stands for."""

    LINE = 0
    TRANSFORMER = 1
    EQUIVALENT = 2


@dataclass(frozen=True, eq=False)
class Network:
    """Buses and branches; only elements in service.

    Attributes
    ----------
    base_mva : float
        System base.
    bus_id : (bus,) str
    bus_name : (bus,) str
    base_kv, vm_pu_min, vm_pu_max : (bus,)
    g_shunt_pu, b_shunt_pu : (bus,)
        Fixed shunt admittance (positive b: capacitive).
    longitude_deg, latitude_deg : (bus,)
        NaN where unknown.
    slack : int
        Position of the angle reference bus.
    branch_id, branch_name : (branch,) str
    branch_kind : (branch,) int
        `BranchKind`.
    from_bus, to_bus : (branch,) int
    r_pu, x_pu : (branch,)
        Series impedance.
    g_from_pu, b_from_pu, g_to_pu, b_to_pu : (branch,)
        Shunt admittances of the pi model, both on the inner side of the ideal transformer.
    ratio, shift_rad : (branch,)
        Ideal transformer at the from end.
    i_max_from_pu, i_max_to_pu : (branch,)
        Current ratings on the base current of each end's bus; inf = unrated.
    outage_candidate : (branch,) bool
        Whether a contingency may take the branch out (fictitious branches never).
    tap_branch : (tap,) int
        Branches with a tap changer.
    tap, tap_min, tap_max, tap_neutral : (tap,) int
    tap_step : (tap,)
        Voltage change a step, relative.
    tap_step_rad : (tap,)
        Angle of the added voltage; for a phase shifter the turn a step.
    tap_at_from : (tap,) bool
        Winding that carries the taps.
    tap_phase_shifter : (tap,) bool
    """

    base_mva: float
    bus_id: StrArray
    bus_name: StrArray
    base_kv: FloatArray
    vm_pu_min: FloatArray
    vm_pu_max: FloatArray
    g_shunt_pu: FloatArray
    b_shunt_pu: FloatArray
    longitude_deg: FloatArray
    latitude_deg: FloatArray
    slack: int
    branch_id: StrArray
    branch_name: StrArray
    branch_kind: IntArray
    from_bus: IntArray
    to_bus: IntArray
    r_pu: FloatArray
    x_pu: FloatArray
    g_from_pu: FloatArray
    b_from_pu: FloatArray
    g_to_pu: FloatArray
    b_to_pu: FloatArray
    ratio: FloatArray
    shift_rad: FloatArray
    i_max_from_pu: FloatArray
    i_max_to_pu: FloatArray
    outage_candidate: BoolArray
    tap_branch: IntArray
    tap: IntArray
    tap_min: IntArray
    tap_max: IntArray
    tap_neutral: IntArray
    tap_step: FloatArray
    tap_step_rad: FloatArray
    tap_at_from: BoolArray
    tap_phase_shifter: BoolArray

    @property
    def n_bus(self) -> int:
        """Number of buses."""
        return self.bus_id.size

    @property
    def n_branch(self) -> int:
        """Number of branches."""
        return self.branch_id.size

    def branch_admittances(self) -> tuple[ComplexArray, ComplexArray, ComplexArray, ComplexArray]:
        """Return (yff, yft, ytf, ytt), each of shape (branch,), in p.u."""
        return self._branch_admittances

    @cached_property
    def _branch_admittances(self) -> tuple[ComplexArray, ComplexArray, ComplexArray, ComplexArray]:
        series = 1.0 / (self.r_pu + 1j * self.x_pu).astype(np.complex128)
        turn = (self.ratio * np.exp(1j * self.shift_rad)).astype(np.complex128)
        shunt_from = (self.g_from_pu + 1j * self.b_from_pu).astype(np.complex128)
        shunt_to = (self.g_to_pu + 1j * self.b_to_pu).astype(np.complex128)
        yff = np.asarray((series + shunt_from) / self.ratio**2, dtype=np.complex128)
        yft = -series / np.conj(turn)
        ytf = -series / turn
        ytt = np.asarray(series + shunt_to, dtype=np.complex128)
        return yff, yft, ytf, ytt

    def admittance_matrix(self) -> sp.csr_matrix:
        """Return the bus admittance matrix, (bus, bus) complex, with sorted indices."""
        yff, yft, ytf, ytt = self.branch_admittances()
        f, t, n = self.from_bus, self.to_bus, self.n_bus
        diagonal = np.arange(n)
        rows = np.concatenate([f, f, t, t, diagonal])
        columns = np.concatenate([f, t, f, t, diagonal])
        values = np.concatenate([yff, yft, ytf, ytt, self.g_shunt_pu + 1j * self.b_shunt_pu])
        matrix = sp.csr_matrix((values, (rows, columns)), shape=(n, n))
        matrix.sum_duplicates()
        return matrix

    def branch_currents(self, v_pu: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """Return the currents that enter each branch at its from and to end.

        Parameters
        ----------
        v_pu : (..., bus) complex

        Returns
        -------
        (..., branch) complex, twice, in p.u.
        """
        yff, yft, ytf, ytt = self.branch_admittances()
        vf, vt = v_pu[..., self.from_bus], v_pu[..., self.to_bus]
        return yff * vf + yft * vt, ytf * vf + ytt * vt

    def loading(self, v_pu: ComplexArray) -> FloatArray:
        """Return current / rating of each branch, the worse end; 0 where unrated. Shape (..., branch)."""
        i_from, i_to = self.branch_currents(v_pu)
        return np.maximum(np.abs(i_from) / self.i_max_from_pu, np.abs(i_to) / self.i_max_to_pu)


@dataclass(frozen=True, eq=False)
class Units:
    """Generating units; axis ``unit``. Powers in MW and Mvar.

    `variable` units are bounded by an availability series, `committable` ones have an on/off decision. A unit
    that is neither (e.g. a fixed import) is always on between its limits.
    """

    id: StrArray
    name: StrArray
    technology: StrArray
    bus: IntArray
    p_mw_min: FloatArray
    p_mw_max: FloatArray
    q_mvar_min: FloatArray
    q_mvar_max: FloatArray
    voltage_control: BoolArray
    variable: BoolArray
    committable: BoolArray
    must_run: BoolArray
    ramp_up_mw_per_h: FloatArray
    ramp_down_mw_per_h: FloatArray
    startup_mw: FloatArray
    shutdown_mw: FloatArray
    min_up_h: IntArray
    min_down_h: IntArray
    energy_mwh_max: FloatArray
    """Energy budget of the year; inf = none."""
    minimum_output_eur_per_h: FloatArray
    """Cost of running at p_mw_min, of committable units; segments come on top."""
    shutdown_eur: FloatArray
    co2_t_per_mwh: FloatArray
    curtailment_eur_per_mwh: FloatArray
    segment_unit: IntArray
    """(segment,) unit of each cost segment, segments of a unit in order of power."""
    segment_mw: FloatArray
    """(segment,) width; the first starts at p_mw_min (at 0 for units without commitment)."""
    segment_eur_per_mwh: FloatArray
    """(segment,) marginal cost, not decreasing within a unit."""
    start_unit: IntArray
    """(start,) unit of each start-cost class, in order of time off."""
    start_off_h: IntArray
    """(start,) class applies from this many hours off."""
    start_eur: FloatArray

    @property
    def n(self) -> int:
        """Number of units."""
        return self.id.size


@dataclass(frozen=True, eq=False)
class Loads:
    """Loads; axis ``load``."""

    id: StrArray
    name: StrArray
    bus: IntArray
    share_z: FloatArray
    share_i: FloatArray
    sheddable: BoolArray

    @property
    def n(self) -> int:
        """Number of loads."""
        return self.id.size


@dataclass(frozen=True, eq=False)
class Shunts:
    """Switchable shunts; axis ``shunt``. Fixed ones are in `Network.b_shunt_pu` too, at their present step.

    `Network.g_shunt_pu` and `b_shunt_pu` hold ALL shunts at `step`; changing a step changes them by the
    difference.
    """

    id: StrArray
    bus: IntArray
    g_step_pu: FloatArray
    b_step_pu: FloatArray
    step: IntArray
    step_min: IntArray
    step_max: IntArray
    controllable: BoolArray


@dataclass(frozen=True, eq=False)
class Svgs:
    """Static var generators; axis ``svg``."""

    id: StrArray
    bus: IntArray
    q_mvar_min: FloatArray
    q_mvar_max: FloatArray


@dataclass(frozen=True, eq=False)
class Storages:
    """Storages; axis ``storage``."""

    id: StrArray
    bus: IntArray
    p_charge_mw_max: FloatArray
    p_discharge_mw_max: FloatArray
    q_mvar_min: FloatArray
    q_mvar_max: FloatArray
    energy_mwh_min: FloatArray
    energy_mwh_max: FloatArray
    efficiency_charge: FloatArray
    efficiency_discharge: FloatArray


@dataclass(frozen=True, eq=False)
class HvdcLines:
    """HVDC lines; axis ``hvdc``. Received power = sent - loss_mw - loss_share x sent."""

    id: StrArray
    name: StrArray
    from_bus: IntArray
    to_bus: IntArray
    p_mw_min: FloatArray
    p_mw_max: FloatArray
    loss_share: FloatArray
    loss_mw: FloatArray
    q_from_mvar_min: FloatArray
    q_from_mvar_max: FloatArray
    q_to_mvar_min: FloatArray
    q_to_mvar_max: FloatArray


@dataclass(frozen=True, eq=False)
class Grid:
    """A whole grid: the static part of every slot's input."""

    network: Network
    units: Units
    loads: Loads
    shunts: Shunts
    svgs: Svgs
    storages: Storages
    hvdc: HvdcLines


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The state of a grid in one hour, or in a block of hours: what a power flow needs besides the grid.

    Every array has the shape (element,) for one hour or (hour, element) for a block. `unit_vm_set_pu`,
    `svg_vm_set_pu` and `hvdc_vm_*_set_pu` are NaN where the device does not control voltage. Voltages are a
    start value or the solution. A unit that is off has zero power and does not control voltage.
    """

    unit_on: BoolArray
    unit_p_mw: FloatArray
    unit_q_mvar: FloatArray
    unit_vm_set_pu: FloatArray
    load_p_mw: FloatArray
    load_q_mvar: FloatArray
    storage_p_mw: FloatArray
    storage_q_mvar: FloatArray
    svg_q_mvar: FloatArray
    svg_vm_set_pu: FloatArray
    hvdc_p_mw: FloatArray
    hvdc_q_from_mvar: FloatArray
    hvdc_q_to_mvar: FloatArray
    hvdc_vm_from_set_pu: FloatArray
    hvdc_vm_to_set_pu: FloatArray
    tap: IntArray
    shunt_step: IntArray
    vm_pu: FloatArray
    va_rad: FloatArray

    def hour(self, position: int) -> Snapshot:
        """Return one hour of a block."""
        return Snapshot(**{f.name: getattr(self, f.name)[position] for f in fields(self)})

    def block(self) -> Snapshot:
        """Return a single hour as a block of one."""
        return Snapshot(**{f.name: getattr(self, f.name)[None] for f in fields(self)})


def stack(hours: Sequence[Snapshot]) -> Snapshot:
    """Stack single hours into a block."""
    return Snapshot(**{f.name: np.stack([getattr(s, f.name) for s in hours]) for f in fields(Snapshot)})
