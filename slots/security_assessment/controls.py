"""What an operator may move, as columns: how much, at what price, and what it injects at which bus."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from bos_core.grid.model import BoolArray, FloatArray, Grid, IntArray, Snapshot
from slots.security_assessment.assessment import Assessment, Assessor

MOVE_EUR = 1e-3
"""Price of moving what costs nothing by its whole range: keeps the answer unique and the state in place."""


@dataclass(frozen=True, eq=False)
class Injections:
    """Controls that inject power: variable units, shed loads, storages, HVDC lines, SVGs, shunts, startable units.

    All arrays are (control,); `p_per_unit` and `q_per_unit` are (bus, control), p.u. for one unit (MW, Mvar or
    step) of the control. `kind` tells the groups apart, `element` is the position within its group.
    """

    kind: IntArray
    element: IntArray
    value: FloatArray
    lower: FloatArray
    upper: FloatArray
    cost: FloatArray
    p_per_unit: sp.csc_matrix
    q_per_unit: sp.csc_matrix


VARIABLE, SHED, STORAGE, HVDC, SVG, SHUNT, FIXED, STARTABLE = range(8)


@dataclass(frozen=True, eq=False)
class _Group:
    kind: int
    element: IntArray
    value: FloatArray
    lower: FloatArray
    upper: FloatArray
    cost: FloatArray
    bus: tuple[IntArray, ...]
    p: tuple[FloatArray, ...]
    q: tuple[FloatArray, ...]


def injection_controls(assessor: Assessor, state: Assessment) -> Injections:
    """Collect the controls of the state that inject power."""
    grid, snapshot = assessor.grid, state.snapshot
    groups = [
        _variable(assessor, snapshot),
        _fixed(assessor, snapshot),
        _shed(assessor, snapshot),
        _storage(grid, snapshot),
        _hvdc(grid, snapshot),
        _svg(grid, snapshot),
        _shunt(grid, state),
        _startable(assessor, state),
    ]
    n, base = grid.network.n_bus, grid.network.base_mva
    first = np.cumsum([0, *(g.element.size for g in groups)])
    columns = [np.arange(g.element.size) + start for g, start in zip(groups, first, strict=False)]

    def matrix(which: str) -> sp.csc_matrix:
        rows = np.concatenate([bus for g in groups for bus in g.bus])
        values = np.concatenate([v for g in groups for v in getattr(g, which)])
        cols = np.concatenate([c for g, c in zip(groups, columns, strict=True) for _ in g.bus])
        return sp.csc_matrix((values / base, (rows, cols)), shape=(n, int(first[-1])))

    def joined(name: str) -> FloatArray:
        return np.concatenate([np.asarray(getattr(g, name), dtype=np.float64) for g in groups])

    return Injections(
        kind=np.concatenate([np.full(g.element.size, g.kind) for g in groups]),
        element=np.concatenate([g.element for g in groups]),
        value=joined("value"),
        lower=joined("lower"),
        upper=joined("upper"),
        cost=joined("cost"),
        p_per_unit=matrix("p"),
        q_per_unit=matrix("q"),
    )


def price_at(grid: Grid) -> FloatArray:
    """Return the price of each unit's first cost segment, EUR/MWh, (unit,); 0 without segments."""
    units = grid.units
    price = np.zeros(units.n)
    order = np.arange(units.segment_unit.size)[::-1]
    price[units.segment_unit[order]] = units.segment_eur_per_mwh[order]
    return price


def _unit_group(assessor: Assessor, snapshot: Snapshot, chosen: IntArray, kind: int, cost: FloatArray) -> _Group:
    units = assessor.grid.units
    high = np.minimum(units.p_mw_max, assessor.inputs.available_mw)[chosen]
    low = np.minimum(units.p_mw_min[chosen], high)
    one, nothing = np.ones(chosen.size), np.zeros(chosen.size)
    value = snapshot.unit_p_mw[chosen]
    return _Group(
        kind,
        chosen,
        value,
        np.minimum(low, value),
        np.maximum(high, value),
        cost,
        (units.bus[chosen],),
        (one,),
        (nothing,),
    )


def _variable(assessor: Assessor, snapshot: Snapshot) -> _Group:
    grid = assessor.grid
    units = grid.units
    chosen = np.flatnonzero(units.variable & snapshot.unit_on & (units.bus != grid.network.slack))
    cost = price_at(grid)[chosen] - units.curtailment_eur_per_mwh[chosen]
    group = _unit_group(assessor, snapshot, chosen, VARIABLE, cost)
    return replace(group, lower=np.minimum(0.0, group.value))


def _fixed(assessor: Assessor, snapshot: Snapshot) -> _Group:
    grid = assessor.grid
    units = grid.units
    neither = ~units.variable & ~units.committable & snapshot.unit_on
    chosen = np.flatnonzero(neither & (units.bus != grid.network.slack))
    return _unit_group(assessor, snapshot, chosen, FIXED, price_at(grid)[chosen])


def _shed(assessor: Assessor, snapshot: Snapshot) -> _Group:
    loads, given = assessor.grid.loads, assessor.inputs.snapshot
    chosen = np.flatnonzero(loads.sheddable & (given.load_p_mw > 0))
    wanted = given.load_p_mw[chosen]
    ratio = given.load_q_mvar[chosen] / wanted
    price = np.full(chosen.size, assessor.inputs.shed_eur_per_mwh)
    zero = np.zeros(chosen.size)
    shed = np.clip(wanted - snapshot.load_p_mw[chosen], 0.0, wanted)
    return _Group(SHED, chosen, shed, zero, wanted, price, (loads.bus[chosen],), (zero + 1,), (ratio,))


def _storage(grid: Grid, snapshot: Snapshot) -> _Group:
    s = grid.storages
    chosen, one = np.arange(s.bus.size), np.ones(s.bus.size)
    price = MOVE_EUR * one
    high, low = s.p_discharge_mw_max, -s.p_charge_mw_max
    value = snapshot.storage_p_mw
    low, high = np.minimum(low, value), np.maximum(high, value)
    return _Group(STORAGE, chosen, value, low, high, price, (s.bus,), (one,), (0 * one,))


def _hvdc(grid: Grid, snapshot: Snapshot) -> _Group:
    h = grid.hvdc
    chosen, one = np.arange(h.from_bus.size), np.ones(h.from_bus.size)
    value = snapshot.hvdc_p_mw
    forward = value >= 0
    at_from = np.where(forward, -1.0, -(1.0 - h.loss_share))
    at_to = np.where(forward, 1.0 - h.loss_share, 1.0)
    low, high = np.minimum(h.p_mw_min, value), np.maximum(h.p_mw_max, value)
    # Losses turn with the direction, so one step ends at standstill.
    low, high = np.where(forward, np.maximum(low, 0.0), low), np.where(forward, high, np.minimum(high, 0.0))
    zero = 0 * one
    return _Group(HVDC, chosen, value, low, high, zero, (h.from_bus, h.to_bus), (at_from, at_to), (zero, zero))


def _svg(grid: Grid, snapshot: Snapshot) -> _Group:
    s = grid.svgs
    chosen = np.flatnonzero(~np.isfinite(snapshot.svg_vm_set_pu))
    zero, one = np.zeros(chosen.size), np.ones(chosen.size)
    value = snapshot.svg_q_mvar[chosen]
    low, high = s.q_mvar_min[chosen], s.q_mvar_max[chosen]
    return _Group(SVG, chosen, value, low, high, zero, (s.bus[chosen],), (zero,), (one,))


def _shunt(grid: Grid, state: Assessment) -> _Group:
    s = grid.shunts
    chosen = np.flatnonzero(s.controllable)
    vm = state.solution.vm_pu[s.bus[chosen]] ** 2 * grid.network.base_mva
    value = state.snapshot.shunt_step[chosen].astype(np.float64)
    low, high = s.step_min[chosen].astype(float), s.step_max[chosen].astype(float)
    zero = np.zeros(chosen.size)
    p, q = -s.g_step_pu[chosen] * vm, s.b_step_pu[chosen] * vm
    return _Group(SHUNT, chosen, value, low, high, zero, (s.bus[chosen],), (p,), (q,))


def _startable(assessor: Assessor, state: Assessment) -> _Group:
    """Reactive power that units at rest would bring to buses where no device holds the voltage."""
    units, snapshot = assessor.grid.units, state.snapshot
    usable = assessor.inputs.unit_in_service & (np.minimum(units.p_mw_max, assessor.inputs.available_mw) > 0)
    at_rest = units.committable & units.voltage_control & usable & ~snapshot.unit_on
    chosen = np.flatnonzero(at_rest & ~held_buses(assessor, state)[units.bus])
    zero, one = np.zeros(chosen.size), np.ones(chosen.size)
    low, high = np.minimum(units.q_mvar_min[chosen], 0.0), np.maximum(units.q_mvar_max[chosen], 0.0)
    return _Group(STARTABLE, chosen, zero, low, high, zero, (units.bus[chosen],), (zero,), (one,))


def held_buses(assessor: Assessor, state: Assessment) -> BoolArray:
    """Return the buses whose set point a device keeps, the slack included, (bus,) bool."""
    held = state.injections.voltage_control.copy()
    held[assessor.grid.network.slack] = True
    return held


def applied(grid: Grid, snapshot: Snapshot, controls: Injections, value: FloatArray, given: Snapshot) -> Snapshot:
    """Return the snapshot with new values of the injecting controls; shunts go to the nearest step.

    Parameters
    ----------
    value : (control,)
    given : Snapshot
        Holds the loads as wanted.
    """

    def chosen(kind: int) -> tuple[IntArray, FloatArray]:
        mine = controls.kind == kind
        return controls.element[mine], value[mine]

    def put(old: FloatArray, kind: int) -> FloatArray:
        element, new = chosen(kind)
        result = old.copy()
        result[element] = new
        return result

    unit_p = put(put(snapshot.unit_p_mw, VARIABLE), FIXED)
    load, shed = chosen(SHED)
    served = np.ones(grid.loads.n)
    served[load] = 1.0 - shed / given.load_p_mw[load]
    touched = np.zeros(grid.loads.n, dtype=np.bool_)
    touched[load] = True
    step = snapshot.shunt_step.copy()
    shunt, wanted = chosen(SHUNT)
    step[shunt] = np.rint(wanted).astype(np.int64)
    return replace(
        snapshot,
        unit_p_mw=unit_p,
        unit_q_mvar=put(snapshot.unit_q_mvar, STARTABLE),
        load_p_mw=np.where(touched, given.load_p_mw * served, snapshot.load_p_mw),
        load_q_mvar=np.where(touched, given.load_q_mvar * served, snapshot.load_q_mvar),
        storage_p_mw=put(snapshot.storage_p_mw, STORAGE),
        hvdc_p_mw=put(snapshot.hvdc_p_mw, HVDC),
        svg_q_mvar=put(snapshot.svg_q_mvar, SVG),
        shunt_step=step,
    )
