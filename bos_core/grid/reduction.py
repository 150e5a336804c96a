"""The reduced grid: what an equivalent makes of every device, with the way back to the original ones.

Devices at kept buses stay as they are. Of the rest, units that are not variable and storages move undivided to
the kept bus with the largest share of their bus and give up voltage control; variable units join one unit per
kept bus and technology; loads join one load per kept bus, sheddable ones apart from the others. `Links` say
which original device goes with which weight into which reduced one, so that hourly profiles and states can be
carried over.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from bos_core.grid.equivalence import Equivalent
from bos_core.grid.injections import bus_injections
from bos_core.grid.model import (
    BoolArray,
    BranchKind,
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
from bos_core.grid.power_flow import PowerFlowSolution, network_at, solve

NAMESPACE = uuid.UUID("0c0d8a52-4d0f-5d0b-8f0e-2c9b9d3f1a77")
"""Ids of made-up devices are uuid5 of this and of what they stand for: the same reduction, the same ids."""

HELD_PU = 1e-6
"""A bus holds its voltage when it is this near to the set point."""

_Devices = TypeVar("_Devices", Loads, Svgs, Storages, HvdcLines, Shunts)

_UNIT_SUMS = (
    "p_mw_min",
    "p_mw_max",
    "q_mvar_min",
    "q_mvar_max",
    "ramp_up_mw_per_h",
    "ramp_down_mw_per_h",
    "startup_mw",
    "shutdown_mw",
    "energy_mwh_max",
    "minimum_output_eur_per_h",
    "shutdown_eur",
)
_UNIT_MEANS = ("co2_t_per_mwh", "curtailment_eur_per_mwh")
_UNIT_ANY = ("must_run", "variable", "committable")
_UNIT_MOST = ("min_up_h", "min_down_h")


@dataclass(frozen=True, eq=False)
class Links:
    """Original device `source` goes with `weight` into reduced device `target`; sorted by target, source."""

    source: IntArray
    target: IntArray
    weight: FloatArray

    def sums(self, values: FloatArray, size: int) -> FloatArray:
        """Carry a quantity over: (..., original) to (..., size)."""
        flat = values.reshape(-1, values.shape[-1])
        total = np.empty((flat.shape[0], size))
        for position, row in enumerate(flat):
            total[position] = np.bincount(self.target, self.weight * row[self.source], size)
        return total.reshape(*values.shape[:-1], size)


@dataclass(frozen=True, eq=False)
class Reduction:
    """A reduced grid and where everything in it comes from.

    Attributes
    ----------
    grid : Grid
        Slack, taps and shunt steps as in the original.
    bus, tap, storage, svg, hvdc : (reduced,) int
        Original position of each.
    branch, shunt : (reduced,) int
        Original position; -1 for what the equivalent added.
    unit, load : Links
    unit_kept, load_kept : (reduced,) int
        Original position of those that were not merged; -1 for merged ones and residuals.
    residual_load : (residual,) int
        Positions of the reduced loads that stand for the residual injection.
    residual_p_mw, residual_q_mvar : (residual,)
        Their constant power, drawn.
    """

    grid: Grid
    bus: IntArray
    branch: IntArray
    tap: IntArray
    shunt: IntArray
    unit: Links
    unit_kept: IntArray
    load: Links
    load_kept: IntArray
    storage: IntArray
    svg: IntArray
    hvdc: IntArray
    residual_load: IntArray
    residual_p_mw: FloatArray
    residual_q_mvar: FloatArray


def undivided_buses(grid: Grid) -> BoolArray:
    """Return the buses whose injection cannot be split: those of storages and of units that are not variable."""
    whole = np.zeros(grid.network.n_bus, dtype=np.bool_)
    whole[grid.units.bus[~grid.units.variable]] = True
    whole[grid.storages.bus] = True
    return whole


def reduce_grid(grid: Grid, equivalent: Equivalent, base: Snapshot) -> Reduction:
    """Build the reduced grid.

    Parameters
    ----------
    grid : Grid
        The original one.
    equivalent : Equivalent
        `Equivalent.of(outputs)` of an equivalence program.
    base : Snapshot
        The solved state that the equivalent was made at: its voltages turn the nominal power of moved
        voltage-dependent loads into the power they draw, which the reduced load draws at any voltage.
    """
    place = np.full(grid.network.n_bus, -1, dtype=np.int64)
    place[equivalent.kept_bus] = np.arange(equivalent.kept_bus.size)
    network, branch, tap = _network(grid.network, equivalent, place)
    shunts, shunt = _shunts(grid, equivalent, place)
    home = _home(equivalent, place)
    units, unit, unit_kept = _units(grid, equivalent, place, home)
    loads, load, load_kept, residual = _loads(grid, equivalent, place, base)
    svgs, svg = _moved(grid.svgs, home, "bus")
    storages, storage = _moved(grid.storages, home, "bus")
    hvdc, line = _moved(grid.hvdc, place, "from_bus", "to_bus")
    return Reduction(
        grid=Grid(network, units, loads, shunts, svgs, storages, hvdc),
        bus=equivalent.kept_bus,
        branch=branch,
        tap=tap,
        shunt=shunt,
        unit=unit,
        unit_kept=unit_kept,
        load=load,
        load_kept=load_kept,
        storage=storage,
        svg=svg,
        hvdc=line,
        residual_load=load_kept.size - residual.size + np.arange(residual.size),
        residual_p_mw=-equivalent.residual_p_mw[residual],
        residual_q_mvar=-equivalent.residual_q_mvar[residual],
    )


def reduce_snapshot(reduction: Reduction, snapshot: Snapshot) -> Snapshot:
    """Carry a state of the original grid over: one hour (element,) or a block (hour, element)."""
    grid = reduction.grid
    hours = snapshot.unit_p_mw.shape[:-1]
    p = reduction.load.sums(snapshot.load_p_mw, grid.loads.n)
    q = reduction.load.sums(snapshot.load_q_mvar, grid.loads.n)
    p[..., reduction.residual_load] = reduction.residual_p_mw
    q[..., reduction.residual_load] = reduction.residual_q_mvar
    on = np.where(snapshot.unit_on, 1.0, 0.0)
    kept = reduction.unit_kept
    at_home = (kept >= 0) & grid.units.voltage_control
    vm_set = np.where(at_home, snapshot.unit_vm_set_pu[..., kept], np.nan)
    added = reduction.shunt < 0
    step = np.where(added, 1, 0)
    if snapshot.shunt_step.shape[-1]:
        step = np.where(added, 1, snapshot.shunt_step[..., reduction.shunt])
    return Snapshot(
        unit_on=reduction.unit.sums(on, grid.units.n) > 0,
        unit_p_mw=reduction.unit.sums(on * snapshot.unit_p_mw, grid.units.n),
        unit_q_mvar=reduction.unit.sums(on * snapshot.unit_q_mvar, grid.units.n),
        unit_vm_set_pu=vm_set,
        load_p_mw=p,
        load_q_mvar=q,
        storage_p_mw=snapshot.storage_p_mw[..., reduction.storage],
        storage_q_mvar=snapshot.storage_q_mvar[..., reduction.storage],
        svg_q_mvar=snapshot.svg_q_mvar[..., reduction.svg],
        svg_vm_set_pu=snapshot.svg_vm_set_pu[..., reduction.svg],
        hvdc_p_mw=snapshot.hvdc_p_mw[..., reduction.hvdc],
        hvdc_q_from_mvar=snapshot.hvdc_q_from_mvar[..., reduction.hvdc],
        hvdc_q_to_mvar=snapshot.hvdc_q_to_mvar[..., reduction.hvdc],
        hvdc_vm_from_set_pu=snapshot.hvdc_vm_from_set_pu[..., reduction.hvdc],
        hvdc_vm_to_set_pu=snapshot.hvdc_vm_to_set_pu[..., reduction.hvdc],
        tap=snapshot.tap[..., reduction.tap],
        shunt_step=np.broadcast_to(step, (*hours, added.size)).astype(np.int64),
        vm_pu=snapshot.vm_pu[..., reduction.bus],
        va_rad=snapshot.va_rad[..., reduction.bus],
    )


def replay(reduction: Reduction, snapshot: Snapshot) -> PowerFlowSolution:
    """Solve the reduced grid's power flow for a solved state of the original grid.

    Devices hold their voltage exactly where they do in the given state, so a difference is the equivalent's.
    """
    reduced = reduce_snapshot(reduction, snapshot)
    network = network_at(reduction.grid, reduced)
    injections = bus_injections(reduction.grid, reduced)
    held = injections.voltage_control & (np.abs(injections.vm_set_pu - reduced.vm_pu) <= HELD_PU)
    held[network.slack] = True
    free = replace(
        reduced,
        unit_vm_set_pu=np.where(held[reduction.grid.units.bus], reduced.unit_vm_set_pu, np.nan),
        svg_vm_set_pu=np.where(held[reduction.grid.svgs.bus], reduced.svg_vm_set_pu, np.nan),
        hvdc_vm_from_set_pu=np.where(held[reduction.grid.hvdc.from_bus], reduced.hvdc_vm_from_set_pu, np.nan),
        hvdc_vm_to_set_pu=np.where(held[reduction.grid.hvdc.to_bus], reduced.hvdc_vm_to_set_pu, np.nan),
    )
    start = reduced.vm_pu * np.exp(1j * reduced.va_rad)
    return solve(network, bus_injections(reduction.grid, free), start, enforce_q_limits=False)


def _home(equivalent: Equivalent, place: IntArray) -> IntArray:
    """Return the reduced bus to which undivided devices of each original bus go."""
    order = np.lexsort((equivalent.share_to, -equivalent.share_weight, equivalent.share_from))
    source, first = np.unique(equivalent.share_from[order], return_index=True)
    home = place.copy()
    home[source] = place[equivalent.share_to[order][first]]
    return home


def _ids(kind: str, parts: Sequence[str]) -> StrArray:
    return np.array([str(uuid.uuid5(NAMESPACE, f"{kind}\x1f{part}")) for part in parts], dtype=np.str_)


def _joined(first: StrArray, second: StrArray) -> StrArray:
    return np.concatenate([first.astype(np.str_), second.astype(np.str_)])


def _network(network: Network, equivalent: Equivalent, place: IntArray) -> tuple[Network, IntArray, IntArray]:
    bus, branch = equivalent.kept_bus, equivalent.kept_branch
    f, t = equivalent.from_bus, equivalent.to_bus
    added = f.size
    zero, unrated = np.zeros(added), np.full(added, np.inf)
    ends = [f"{network.bus_id[a]}\x1f{network.bus_id[b]}" for a, b in zip(f, t, strict=True)]
    keys = _numbered(ends)
    names = [f"equivalent {network.bus_name[a]} - {network.bus_name[b]}" for a, b in zip(f, t, strict=True)]
    branch_place = np.full(network.n_branch, -1, dtype=np.int64)
    branch_place[branch] = np.arange(branch.size)
    tap = np.flatnonzero(branch_place[network.tap_branch] >= 0)

    def append(values: FloatArray, more: FloatArray) -> FloatArray:
        return np.concatenate([values[branch], more])

    reduced = replace(
        network,
        **{
            name: getattr(network, name)[bus]
            for name in (
                "bus_id",
                "bus_name",
                "base_kv",
                "vm_pu_min",
                "vm_pu_max",
                "longitude_deg",
                "latitude_deg",
            )
        },
        g_shunt_pu=network.g_shunt_pu[bus] + equivalent.g_shunt_pu,
        b_shunt_pu=network.b_shunt_pu[bus] + equivalent.b_shunt_pu,
        slack=int(place[network.slack]),
        branch_id=_joined(network.branch_id[branch], _ids("branch", keys)),
        branch_name=_joined(network.branch_name[branch], np.array(names, dtype=np.str_)),
        branch_kind=np.concatenate([network.branch_kind[branch], np.full(added, int(BranchKind.EQUIVALENT))]),
        from_bus=place[np.concatenate([network.from_bus[branch], f])],
        to_bus=place[np.concatenate([network.to_bus[branch], t])],
        r_pu=append(network.r_pu, equivalent.r_pu),
        x_pu=append(network.x_pu, equivalent.x_pu),
        g_from_pu=append(network.g_from_pu, zero),
        b_from_pu=append(network.b_from_pu, zero),
        g_to_pu=append(network.g_to_pu, zero),
        b_to_pu=append(network.b_to_pu, zero),
        ratio=append(network.ratio, equivalent.ratio),
        shift_rad=append(network.shift_rad, equivalent.shift_rad),
        i_max_from_pu=append(network.i_max_from_pu, unrated),
        i_max_to_pu=append(network.i_max_to_pu, unrated),
        outage_candidate=np.concatenate([network.outage_candidate[branch], np.zeros(added, dtype=np.bool_)]),
        tap_branch=branch_place[network.tap_branch[tap]],
        **{
            f.name: getattr(network, f.name)[tap]
            for f in fields(Network)
            if f.name.startswith("tap") and f.name != "tap_branch"
        },
    )
    return reduced, np.concatenate([branch, np.full(added, -1)]), tap


def _numbered(keys: Sequence[str]) -> list[str]:
    """Tell the branches of one pair of buses apart: it may have a second one in quadrature."""
    seen: dict[str, int] = {}
    numbered = []
    for key in keys:
        seen[key] = seen.get(key, -1) + 1
        numbered.append(f"{key}\x1f{seen[key]}")
    return numbered


def _moved(devices: _Devices, place: IntArray, *ends: str) -> tuple[_Devices, IntArray]:
    """Take the devices whose buses have a place, renumbered, and their original positions."""
    there = np.all([place[getattr(devices, end)] >= 0 for end in ends], axis=0)
    chosen = np.flatnonzero(there)
    taken = {f.name: getattr(devices, f.name)[chosen] for f in fields(devices)}
    taken.update({end: place[taken[end]] for end in ends})
    return replace(devices, **taken), chosen


def _shunts(grid: Grid, equivalent: Equivalent, place: IntArray) -> tuple[Shunts, IntArray]:
    kept, source = _moved(grid.shunts, place, "bus")
    added = np.flatnonzero((equivalent.g_shunt_pu != 0) | (equivalent.b_shunt_pu != 0))
    one = np.ones(added.size, dtype=np.int64)
    return Shunts(
        id=_joined(kept.id, _ids("shunt", list(grid.network.bus_id[equivalent.kept_bus[added]]))),
        bus=np.concatenate([kept.bus, added]),
        g_step_pu=np.concatenate([kept.g_step_pu, equivalent.g_shunt_pu[added]]),
        b_step_pu=np.concatenate([kept.b_step_pu, equivalent.b_shunt_pu[added]]),
        step=np.concatenate([kept.step, one]),
        step_min=np.concatenate([kept.step_min, one]),
        step_max=np.concatenate([kept.step_max, one]),
        controllable=np.concatenate([kept.controllable, np.zeros(added.size, dtype=np.bool_)]),
    ), np.concatenate([source, np.full(added.size, -1)])


def _sort(source: IntArray, target: IntArray, weight: FloatArray) -> Links:
    order = np.lexsort((source, target))
    return Links(source[order].astype(np.int64), target[order].astype(np.int64), weight[order])


def _spread(bus: IntArray, devices: IntArray, equivalent: Equivalent, place: IntArray) -> Links:
    """Link devices at eliminated buses to reduced buses by the shares of their buses."""
    start = np.searchsorted(equivalent.share_from, bus[devices], side="left")
    count = np.searchsorted(equivalent.share_from, bus[devices], side="right") - start
    entry = np.repeat(start - (np.cumsum(count) - count), count) + np.arange(count.sum())
    return Links(np.repeat(devices, count), place[equivalent.share_to[entry]], equivalent.share_weight[entry])


def _units(grid: Grid, equivalent: Equivalent, place: IntArray, home: IntArray) -> tuple[Units, Links, IntArray]:
    units = grid.units
    alone = np.flatnonzero((place[units.bus] >= 0) | ~units.variable)
    merged = np.flatnonzero((place[units.bus] < 0) & units.variable)
    spread = _spread(units.bus, merged, equivalent, place)
    _, kind = np.unique(units.technology, return_inverse=True)
    keys, group = np.unique(np.stack([spread.target, kind[spread.source]], axis=1), axis=0, return_inverse=True)
    group = group.reshape(-1)
    example = np.zeros(keys.shape[0], dtype=np.int64)
    example[group[::-1]] = spread.source[::-1]
    links = _sort(
        np.concatenate([alone, spread.source]),
        np.concatenate([np.arange(alone.size), alone.size + group]),
        np.concatenate([np.ones(alone.size), spread.weight]),
    )
    bus = np.concatenate([home[units.bus[alone]], keys[:, 0]])
    names = grid.network.bus_name[equivalent.kept_bus[keys[:, 0]]]
    technology = units.technology[example]
    labels = [f"{tech} below {name}" for tech, name in zip(technology, names, strict=True)]
    at = grid.network.bus_id[equivalent.kept_bus[keys[:, 0]]]
    stay = np.concatenate([place[units.bus[alone]] >= 0, np.zeros(keys.shape[0], dtype=np.bool_)])
    source = np.concatenate([alone, example])
    reduced = replace(
        units,
        id=_joined(
            units.id[alone], _ids("unit", [f"{b}\x1f{tech}" for b, tech in zip(at, technology, strict=True)])
        ),
        name=_joined(units.name[alone], np.array(labels, dtype=np.str_)),
        technology=units.technology[source],
        bus=bus,
        voltage_control=units.voltage_control[source] & stay,
        **_merged_values(units, links, bus.size),
        **_costs(units, links),
    )
    return reduced, links, np.concatenate([alone, np.full(keys.shape[0], -1)])


def _merged_values(units: Units, links: Links, size: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in _UNIT_SUMS:
        values[name] = links.sums(getattr(units, name), size)
    mass = np.maximum(links.weight * units.p_mw_max[links.source], 1e-12)
    total = np.bincount(links.target, mass, size)
    for name in _UNIT_MEANS:
        values[name] = np.bincount(links.target, mass * getattr(units, name)[links.source], size) / total
    for name in _UNIT_ANY:
        values[name] = np.bincount(links.target, getattr(units, name)[links.source], size) > 0
    for name in _UNIT_MOST:
        most = np.zeros(size, dtype=np.int64)
        np.maximum.at(most, links.target, getattr(units, name)[links.source])
        values[name] = most
    return values


def _costs(units: Units, links: Links) -> dict[str, Any]:
    """Cost segments of the reduced units: those of their members side by side in order of cost."""
    link, segment = _expand(links, units.segment_unit, units.n)
    target, mw = links.target[link], links.weight[link] * units.segment_mw[segment]
    price = units.segment_eur_per_mwh[segment]
    keys, group = np.unique(np.stack([target.astype(float), price], axis=1), axis=0, return_inverse=True)
    link, start = _expand(links, units.start_unit, units.n)
    return {
        "segment_unit": keys[:, 0].astype(np.int64),
        "segment_mw": np.bincount(group.reshape(-1), mw, keys.shape[0]),
        "segment_eur_per_mwh": keys[:, 1],
        "start_unit": links.target[link],
        "start_off_h": units.start_off_h[start],
        "start_eur": units.start_eur[start],
    }


def _expand(links: Links, owner: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """Return (link, row) for every row of a table owned by units and every link of its owner."""
    order = np.argsort(owner, kind="stable")
    count_of = np.bincount(owner, minlength=size)
    first_of = np.cumsum(count_of) - count_of
    count = count_of[links.source]
    link = np.repeat(np.arange(links.source.size), count)
    row = np.repeat(first_of[links.source] - (np.cumsum(count) - count), count) + np.arange(count.sum())
    return link, order[row]


def _loads(
    grid: Grid, equivalent: Equivalent, place: IntArray, base: Snapshot
) -> tuple[Loads, Links, IntArray, IntArray]:
    loads = grid.loads
    stay = np.flatnonzero(place[loads.bus] >= 0)
    spread = _spread(loads.bus, np.flatnonzero(place[loads.bus] < 0), equivalent, place)
    keys, group = np.unique(
        np.stack([spread.target, loads.sheddable[spread.source]], axis=1), axis=0, return_inverse=True
    )
    vm = base.vm_pu[loads.bus]
    drawn = 1.0 - loads.share_z - loads.share_i + loads.share_i * vm + loads.share_z * vm**2
    residual = np.flatnonzero((equivalent.residual_p_mw != 0) | (equivalent.residual_q_mvar != 0))
    links = _sort(
        np.concatenate([stay, spread.source]),
        np.concatenate([np.arange(stay.size), stay.size + group.reshape(-1)]),
        np.concatenate([np.ones(stay.size), spread.weight * drawn[spread.source]]),
    )
    bus_id, bus_name = (a[equivalent.kept_bus] for a in (grid.network.bus_id, grid.network.bus_name))
    kinds = ["loads" if sheddable else "firm loads" for sheddable in keys[:, 1]]
    ids = [f"{bus_id[b]}\x1f{kind}" for b, kind in zip(keys[:, 0], kinds, strict=True)]
    names = [f"{kind} below {bus_name[b]}" for b, kind in zip(keys[:, 0], kinds, strict=True)]
    ids += [f"{bus_id[b]}\x1fresidual" for b in residual]
    names += [f"residual of the equivalent at {bus_name[b]}" for b in residual]
    more = keys.shape[0] + residual.size
    nothing = np.zeros(more)
    reduced = Loads(
        id=_joined(loads.id[stay], _ids("load", ids)),
        name=_joined(loads.name[stay], np.array(names, dtype=np.str_)),
        bus=np.concatenate([place[loads.bus[stay]], keys[:, 0], residual]).astype(np.int64),
        share_z=np.concatenate([loads.share_z[stay], nothing]),
        share_i=np.concatenate([loads.share_i[stay], nothing]),
        sheddable=np.concatenate(
            [loads.sheddable[stay], keys[:, 1].astype(np.bool_), np.zeros(residual.size, dtype=np.bool_)]
        ),
    )
    return reduced, links, np.concatenate([stay, np.full(more, -1)]), residual
