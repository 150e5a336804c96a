"""From ontology tables to grid arrays: merging buses, bringing every branch to one pi model, taps and stars.

Input are tables as columns: ``{table: {column: array}}``. Missing values are NaN (float), ``""`` (string),
`MISSING_INT` (integer) and False (boolean). A table may be absent; an element without a state row is in service
at neutral tap, at zero power.

What happens to the elements:

* Buses joined by closed switches without resistance become one; the first in the table stands for all
  (`locate_buses` tells where every bus went). A closed switch with resistance becomes a branch with X = R/2.
* A branch that is open at both ends, or out of service, is left out. Open at one end it is folded into a shunt at
  the other: exact, because nothing is connected to the open end. A line to a bus that is out of service is open
  there; a transformer to such a bus is left out.
* A three-winding transformer becomes three branches around a star bus with the base voltage of its high bus; ids
  end in ``:high``, ``:medium``, ``:low`` and ``:star``.
* A T model (magnetizing branch in the middle) is converted to the equivalent pi model, exactly.
* A branch whose two ends became one bus is folded into a shunt as well.
* Line impedances are per unit on the base voltage of the from bus.
* Several buses may be marked as slack: the first one with a voltage-controlling unit in service is the angle
  reference, the others keep their voltage and have a fixed power like any other voltage-controlled bus.
* Only the island of the reference is kept. Validate first: islands are findings there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bos_core.grid.branch_models import BranchReader, tap_turn
from bos_core.grid.columns import MISSING_INT, Columns, Tables, in_service_of, look_up, pick, places
from bos_core.grid.injections import bus_injections
from bos_core.grid.model import (
    BoolArray,
    FloatArray,
    Grid,
    HvdcLines,
    IntArray,
    Loads,
    Network,
    Shunts,
    Snapshot,
    Storages,
    StrArray,
    Svgs,
    Units,
)
from bos_core.grid.topology import Topology, bus_positions, find_islands, locate_buses, read_topology

__all__ = ["DEFAULT_VM_PU", "MISSING_INT", "assemble", "find_islands", "locate_buses", "with_state"]

DEFAULT_VM_PU = (0.9, 1.1)
"""Admissible voltages where neither the bus nor a voltage criterion gives any."""

_At = Callable[..., IntArray]


def assemble(columns: Columns) -> tuple[Grid, Snapshot]:
    """Assemble ontology tables into grid arrays and the snapshot of the ``*_state`` tables.

    Parameters
    ----------
    columns : mapping of table name to mapping of column name to array
        See the module's text for missing values.

    Returns
    -------
    Grid, Snapshot
        Snapshot of one hour. Voltages are the solved ones where `bus_state` gives them all, else a start: set
        points where controlled, the mean set point elsewhere, angles of a DC power flow.

    Raises
    ------
    ValueError
        No slack bus. Everything else is for validation to find.
    """
    topology = read_topology(columns)
    where, slack = bus_positions(topology)
    network = _network(topology, where, slack)
    t, reader = topology.reader.tables, topology.reader

    def at(table: str, column: str = "bus") -> IntArray:
        bus = reader.buses(t.text(table, column))
        return np.where(bus >= 0, where[bus], -1)

    shunts = _shunts(t, at, reader.base_mva)
    network = _with_shunts(network, shunts)
    units = _units(t, at, reader)
    loads = _loads(t, at, reader)
    svgs = _svgs(t, at)
    storages = _storages(t, at)
    hvdc = _hvdc(t, at, reader)
    grid = Grid(network, units, loads, shunts, svgs, storages, hvdc)
    unit, load = _State(t, "unit_state", units.id), _State(t, "load_state", loads.id)
    svg, storage = _State(t, "svg_state", svgs.id), _State(t, "storage_state", storages.id)
    line = _State(t, "hvdc_state", hvdc.id)
    vm_set = unit.real("vm_set_pu", np.nan)
    snapshot = Snapshot(
        unit_on=unit.flag("on"),
        unit_p_mw=unit.real("p_mw"),
        unit_q_mvar=unit.real("q_mvar"),
        unit_vm_set_pu=np.where(units.voltage_control, vm_set, np.nan),
        load_p_mw=load.real("p_mw"),
        load_q_mvar=load.real("q_mvar"),
        storage_p_mw=storage.real("p_mw"),
        storage_q_mvar=storage.real("q_mvar"),
        svg_q_mvar=svg.real("q_mvar"),
        svg_vm_set_pu=svg.real("vm_set_pu", np.nan),
        hvdc_p_mw=line.real("p_mw"),
        hvdc_q_from_mvar=line.real("q_from_mvar"),
        hvdc_q_to_mvar=line.real("q_to_mvar"),
        hvdc_vm_from_set_pu=line.real("vm_from_set_pu", np.nan),
        hvdc_vm_to_set_pu=line.real("vm_to_set_pu", np.nan),
        tap=network.tap,
        shunt_step=shunts.step,
        vm_pu=np.ones(network.n_bus),
        va_rad=np.zeros(network.n_bus),
    )
    return grid, _with_start(grid, snapshot, topology, where)


class _State:
    """Reads a state table for chosen elements; `missing` where an element has no state."""

    def __init__(self, tables: Tables, table: str, ids: StrArray) -> None:
        self._tables, self._table, self._rows = tables, table, tables.aligned(table, ids)

    def real(self, column: str, missing: float = 0.0) -> FloatArray:
        return np.asarray(pick(self._tables.real(self._table, column), self._rows, missing), dtype=np.float64)

    def flag(self, column: str) -> BoolArray:
        return np.asarray(pick(self._tables.flag(self._table, column), self._rows, True), dtype=np.bool_)

    def whole(self, column: str) -> IntArray:
        return np.asarray(pick(self._tables.whole(self._table, column), self._rows, 0), dtype=np.int64)


def _network(topology: Topology, where: IntArray, slack: int) -> Network:
    reader, t = topology.reader, topology.reader.tables
    own = (topology.representative == np.arange(where.size)) & (where >= 0)
    node = np.flatnonzero(own)
    row = np.where(node < reader.bus_id.size, node, -1)
    b = topology.branches
    b = b.choose((where[b.from_bus] >= 0) & (where[b.to_bus] >= 0))
    taps = np.flatnonzero(b.tap != MISSING_INT)
    low, high = voltage_limits(t, topology.node_kv[node], row)
    return Network(
        base_mva=reader.base_mva,
        bus_id=topology.node_id[node],
        bus_name=reader.named(topology.node_id[node]),
        base_kv=topology.node_kv[node],
        vm_pu_min=low,
        vm_pu_max=high,
        g_shunt_pu=topology.y_shunt[node].real.copy(),
        b_shunt_pu=topology.y_shunt[node].imag.copy(),
        longitude_deg=np.asarray(pick(t.real("bus", "longitude_deg"), row, np.nan), dtype=np.float64),
        latitude_deg=np.asarray(pick(t.real("bus", "latitude_deg"), row, np.nan), dtype=np.float64),
        slack=slack,
        branch_id=b.id,
        branch_name=b.name,
        branch_kind=b.kind.astype(np.int64),
        from_bus=where[b.from_bus],
        to_bus=where[b.to_bus],
        r_pu=b.r_pu,
        x_pu=b.x_pu,
        g_from_pu=b.g_from_pu,
        b_from_pu=b.b_from_pu,
        g_to_pu=b.g_to_pu,
        b_to_pu=b.b_to_pu,
        ratio=b.ratio,
        shift_rad=b.shift_rad,
        i_max_from_pu=b.i_max_from_pu,
        i_max_to_pu=b.i_max_to_pu,
        outage_candidate=b.outage_candidate,
        tap_branch=taps,
        tap=b.tap[taps],
        tap_min=np.where(b.tap_min[taps] == MISSING_INT, b.tap[taps], b.tap_min[taps]),
        tap_max=np.where(b.tap_max[taps] == MISSING_INT, b.tap[taps], b.tap_max[taps]),
        tap_neutral=b.tap_neutral[taps],
        tap_step=b.tap_step[taps],
        tap_step_rad=b.tap_step_rad[taps],
        tap_at_from=b.tap_at_from[taps],
        tap_phase_shifter=b.tap_phase_shifter[taps],
    )


def voltage_limits(tables: Tables, base_kv: FloatArray, row: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return the admissible base-case voltages: the bus's own, else the criterion of its voltage level."""
    limits = []
    for column, default in zip(("vm_pu_min", "vm_pu_max"), DEFAULT_VM_PU, strict=True):
        criterion = criterion_by_voltage(tables, column, base_kv, default)
        own = np.asarray(pick(tables.real("bus", column), row, np.nan), dtype=np.float64)
        limits.append(np.where(np.isfinite(own), own, criterion))
    return limits[0], limits[1]


def criterion_by_voltage(tables: Tables, column: str, base_kv: FloatArray, default: float) -> FloatArray:
    """Return a column of `voltage_criterion` for each nominal voltage; the first row that covers it."""
    found = np.full(base_kv.size, np.nan)
    rows = zip(
        tables.real("voltage_criterion", "base_kv_min"),
        tables.real("voltage_criterion", "base_kv_max"),
        tables.real("voltage_criterion", column),
        strict=True,
    )
    for low, high, value in rows:
        found = np.where(np.isnan(found) & (base_kv >= low) & (base_kv <= high), value, found)
    return np.asarray(np.where(np.isnan(found), default, found))


def _shunts(t: Tables, at: _At, base_mva: float) -> Shunts:
    bus, ids = at("shunt"), t.text("shunt", "id")
    keep = (bus >= 0) & in_service_of(t, "shunt_state", ids)
    ids = ids[keep]
    return Shunts(
        id=ids,
        bus=bus[keep],
        g_step_pu=t.real("shunt", "g_step_mw")[keep] / base_mva,
        b_step_pu=t.real("shunt", "b_step_mvar")[keep] / base_mva,
        step=_State(t, "shunt_state", ids).whole("step"),
        step_min=t.whole("shunt", "step_min")[keep],
        step_max=t.whole("shunt", "step_max")[keep],
        controllable=t.flag("shunt", "controllable")[keep],
    )


def _with_shunts(network: Network, shunts: Shunts) -> Network:
    g, b = network.g_shunt_pu.copy(), network.b_shunt_pu.copy()
    np.add.at(g, shunts.bus, shunts.g_step_pu * shunts.step)
    np.add.at(b, shunts.bus, shunts.b_step_pu * shunts.step)
    return replace(network, g_shunt_pu=g, b_shunt_pu=b)


def _units(t: Tables, at: _At, reader: BranchReader) -> Units:
    bus, ids = at("unit"), t.text("unit", "id")
    keep = (bus >= 0) & in_service_of(t, "unit_state", ids)
    ids = ids[keep]

    def real(column: str) -> FloatArray:
        return t.real("unit", column)[keep]

    def flag(column: str) -> BoolArray:
        return t.flag("unit", column)[keep]

    cost = t.aligned("unit_cost", ids, "device")

    def price(column: str) -> FloatArray:
        return np.nan_to_num(np.asarray(pick(t.real("unit_cost", column), cost, 0.0), dtype=np.float64))

    budget = real("energy_mwh_max")
    segment, order = _owned(t, "cost_segment", ids, "segment")
    start, start_order = _owned(t, "start_cost", ids, "off_h_min")
    width = t.real("cost_segment", "p_mw_to") - t.real("cost_segment", "p_mw_from")
    marginal = t.real("cost_segment", "marginal_eur_per_mwh")[order]
    first_price = np.zeros(ids.size)
    first_price[segment[::-1]] = marginal[::-1]
    up_to_minimum = np.where(flag("committable"), first_price * real("p_mw_min"), 0.0)
    return Units(
        id=ids,
        name=reader.named(ids),
        technology=t.text("unit", "technology")[keep],
        bus=bus[keep],
        p_mw_min=real("p_mw_min"),
        p_mw_max=real("p_mw_max"),
        q_mvar_min=real("q_mvar_min"),
        q_mvar_max=real("q_mvar_max"),
        voltage_control=flag("voltage_control"),
        variable=flag("variable"),
        committable=flag("committable"),
        must_run=flag("must_run"),
        ramp_up_mw_per_h=real("ramp_up_mw_per_h"),
        ramp_down_mw_per_h=real("ramp_down_mw_per_h"),
        startup_mw=real("startup_mw"),
        shutdown_mw=real("shutdown_mw"),
        min_up_h=t.whole("unit", "min_up_h")[keep],
        min_down_h=t.whole("unit", "min_down_h")[keep],
        energy_mwh_max=np.where(np.isfinite(budget), budget, np.inf),
        minimum_output_eur_per_h=price("no_load_eur_per_h") + up_to_minimum,
        shutdown_eur=price("shutdown_eur"),
        co2_t_per_mwh=price("co2_t_per_mwh"),
        curtailment_eur_per_mwh=price("curtailment_eur_per_mwh"),
        segment_unit=segment,
        segment_mw=width[order],
        segment_eur_per_mwh=marginal,
        start_unit=start,
        start_off_h=t.whole("start_cost", "off_h_min")[start_order],
        start_eur=t.real("start_cost", "cost_eur")[start_order],
    )


def _owned(t: Tables, table: str, ids: StrArray, by: str) -> tuple[IntArray, IntArray]:
    """Return (owner, row) of a table's rows that belong to `ids`, ordered by owner and column `by`."""
    if not t.size(table, "device"):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    owner = look_up(places(ids), t.text(table, "device"))
    order = np.lexsort((t.whole(table, by), owner))
    order = order[owner[order] >= 0]
    return owner[order], order


def _loads(t: Tables, at: _At, reader: BranchReader) -> Loads:
    bus, ids = at("load"), t.text("load", "id")
    keep = (bus >= 0) & in_service_of(t, "load_state", ids)
    ids = ids[keep]
    return Loads(
        id=ids,
        name=reader.named(ids),
        bus=bus[keep],
        share_z=t.real("load", "share_z")[keep],
        share_i=t.real("load", "share_i")[keep],
        sheddable=t.flag("load", "sheddable")[keep],
    )


def _svgs(t: Tables, at: _At) -> Svgs:
    bus, ids = at("svg"), t.text("svg", "id")
    keep = (bus >= 0) & in_service_of(t, "svg_state", ids)
    q_min, q_max = t.real("svg", "q_mvar_min")[keep], t.real("svg", "q_mvar_max")[keep]
    return Svgs(ids[keep], bus[keep], q_min, q_max)


def _storages(t: Tables, at: _At) -> Storages:
    bus, ids = at("storage"), t.text("storage", "id")
    keep = (bus >= 0) & in_service_of(t, "storage_state", ids)
    columns = (
        "p_charge_mw_max",
        "p_discharge_mw_max",
        "q_mvar_min",
        "q_mvar_max",
        "energy_mwh_min",
        "energy_mwh_max",
        "efficiency_charge",
        "efficiency_discharge",
    )
    values = {column: t.real("storage", column)[keep] for column in columns}
    return Storages(id=ids[keep], bus=bus[keep], **values)


def _hvdc(t: Tables, at: _At, reader: BranchReader) -> HvdcLines:
    f, to, ids = at("hvdc", "from_bus"), at("hvdc", "to_bus"), t.text("hvdc", "id")
    keep = (f >= 0) & (to >= 0) & in_service_of(t, "hvdc_state", ids)
    ids = ids[keep]
    columns = (
        "p_mw_min",
        "p_mw_max",
        "loss_mw",
        "q_from_mvar_min",
        "q_from_mvar_max",
        "q_to_mvar_min",
        "q_to_mvar_max",
    )
    return HvdcLines(
        id=ids,
        name=reader.named(ids),
        from_bus=f[keep],
        to_bus=to[keep],
        loss_share=t.real("hvdc", "loss_percent")[keep] / 100.0,
        **{column: t.real("hvdc", column)[keep] for column in columns},
    )


def _with_start(grid: Grid, snapshot: Snapshot, topology: Topology, where: IntArray) -> Snapshot:
    """Give the snapshot its voltages: solved ones if all are known, else set points and a DC power flow."""
    network, t = grid.network, topology.reader.tables
    state = _State(t, "bus_state", network.bus_id)
    real_bus = np.isin(network.bus_id, topology.reader.bus_id)
    vm = state.real("vm_pu", np.nan)
    va = np.deg2rad(state.real("va_deg", np.nan))
    reference = va[network.slack] if np.isfinite(va[network.slack]) else 0.0
    if np.isfinite(vm[real_bus]).all() and np.isfinite(va[real_bus]).all():
        star = ~real_bus[network.to_bus]
        vm[network.to_bus[star]] = vm[network.from_bus[star]]
        va[network.to_bus[star]] = va[network.from_bus[star]]
        return replace(snapshot, vm_pu=vm, va_rad=va)
    injections = bus_injections(grid, replace(snapshot, vm_pu=np.ones(network.n_bus)))
    level = injections.vm_set_pu[injections.voltage_control].mean()
    start = np.where(injections.voltage_control, injections.vm_set_pu, level)
    resistive = replace(network, x_pu=np.where(network.x_pu == 0.0, network.r_pu, network.x_pu))
    from bos_core.grid.dc import DcModel  # loading its kernels takes longer than to assemble a small grid

    angles = DcModel.of(resistive).angles(injections.p_nominal_pu)
    return replace(snapshot, vm_pu=start, va_rad=angles + reference)


def with_state(network: Network, tap: IntArray, shunt_step: IntArray, shunts: Shunts) -> Network:
    """Return the network at other tap positions and shunt steps, exactly.

    A tap at the from side changes ratio and shift; at the to side it scales the series impedance as well (the
    impedance sits on the to side of the ideal transformer), and the shunts of the pi model inversely.

    Parameters
    ----------
    network : Network
        Holds the shunts at ``shunts.step``.
    tap : (tap,) int
    shunt_step : (shunt,) int
    shunts : Shunts

    Returns
    -------
    Network
        With `tap` set. Use ``replace(shunts, step=shunt_step)`` beside it.
    """
    return with_states(network, np.atleast_2d(tap), np.atleast_2d(shunt_step), shunts)[0]


def with_states(network: Network, tap: IntArray, shunt_step: IntArray, shunts: Shunts) -> list[Network]:
    """Return the network at taps (state, tap) and shunt steps (state, shunt), as `with_state` for each."""
    at, states = network.tap_branch, tap.shape[0]
    args = (network.tap_step, network.tap_step_rad, network.tap_phase_shifter)
    old = tap_turn((network.tap - network.tap_neutral).astype(float), *args)
    new = tap_turn((tap - network.tap_neutral).astype(float), *args)
    change = new / old
    turn = np.where(network.tap_at_from, change, 1.0 / change)
    scale = np.where(network.tap_at_from, 1.0, np.abs(change) ** 2)

    def of_states(name: str) -> FloatArray:
        return np.repeat(getattr(network, name)[None], states, axis=0)

    series = {name: of_states(name) for name in ("r_pu", "x_pu")}
    shunt = {name: of_states(name) for name in ("g_from_pu", "b_from_pu", "g_to_pu", "b_to_pu")}
    ratio, shift, g, b = map(of_states, ("ratio", "shift_rad", "g_shunt_pu", "b_shunt_pu"))
    ratio[:, at] *= np.abs(turn)
    shift[:, at] += np.angle(turn)
    for values in series.values():
        values[:, at] *= scale
    for values in shunt.values():
        values[:, at] /= scale
    added = np.asarray(shunt_step - shunts.step, dtype=np.float64)
    np.add.at(g.T, shunts.bus, (shunts.g_step_pu * added).T)
    np.add.at(b.T, shunts.bus, (shunts.b_step_pu * added).T)
    changed = {**series, **shunt, "ratio": ratio, "shift_rad": shift, "g_shunt_pu": g, "b_shunt_pu": b}
    return [
        replace(network, tap=tap[k].astype(np.int64), **{name: values[k] for name, values in changed.items()})
        for k in range(states)
    ]
