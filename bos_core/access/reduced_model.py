"""A reduced grid as ontology tables: what step 3 writes into the next scenario version.

Devices that were kept keep their rows (with bus references of merged buses resolved); what the equivalence
made becomes `equivalent_branch`, `shunt`, `load` and `unit` rows; profile assignments follow the weights.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bos_core.grid.model import FloatArray, Grid, IntArray, Snapshot, StrArray
from bos_core.grid.reduction import NAMESPACE, Links, Reduction
from bos_core.objects.ontology import TABLES

Tables = Mapping[str, pa.Table]
_KEPT_WHOLE = (
    "system",
    "region",
    "reserve_requirement",
    "voltage_criterion",
    "loading_criterion",
    "agc_control",
    "adjustment_coefficient",
    "station",
)
_BY_DEVICE = {
    "dynamic_model": "device",
    "protection": "device",
    "construction_cost": "device",
    "service_period": "device",
    "transient_event": "device",
    "interface_branch": "branch",
    "avc_control": "pilot_bus",
}


def reduced_tables(tables: Tables, original: Grid, reduction: Reduction, state: Snapshot) -> dict[str, pa.Table]:
    """Return every table of the reduced model.

    Parameters
    ----------
    tables : mapping of table name to pa.Table
        The original model's static tables and its profile assignments.
    original : Grid
        What was reduced.
    reduction : Reduction
    state : Snapshot
        The validated state, carried over to the reduced grid.
    """
    grid = reduction.grid
    made = {name: tables[name] for name in _KEPT_WHOLE if name in tables}
    made |= _buses(grid, state)
    made |= _branches(tables, grid, state)
    made |= _shunts(tables, grid, state)
    made |= _units(grid, state)
    made |= _loads(grid, state)
    made |= _moved_devices(tables, grid, state)
    made["profile_assignment"] = _assignments(tables["profile_assignment"], original, reduction)
    made |= _organisation(tables, made, grid)
    devices = pa.array(made["entity"]["id"].to_pylist(), pa.string())
    for name, column in _BY_DEVICE.items():
        if name in tables:
            made[name] = tables[name].filter(pc.is_in(tables[name][column], devices))
    if "dynamic_parameter" in tables:
        kept = tables["dynamic_parameter"]
        made["dynamic_parameter"] = kept.filter(pc.is_in(kept["model"], made["dynamic_model"]["id"]))
    if "interface" in tables:
        made["interface"] = tables["interface"].filter(
            pc.is_in(tables["interface"]["id"], made["interface_branch"]["interface"])
        )
    return made


def _rows(table: pa.Table, ids: StrArray) -> tuple[pa.Table, IntArray]:
    """Return the table's rows for `ids` that it knows, in that order, and the positions in `ids`."""
    row = pc.index_in(pa.array(ids.tolist(), pa.string()), table["id"].combine_chunks())
    found = np.flatnonzero(np.asarray(pc.is_valid(row)))
    return table.take(row.drop_null()), found


def _replace(table: pa.Table, **columns: Sequence[object] | np.ndarray) -> pa.Table:
    for name, values in columns.items():
        field = table.schema.field(name)
        array = pa.array(
            values.tolist() if isinstance(values, np.ndarray) else values, field.type, from_pandas=True
        )
        table = table.set_column(table.schema.get_field_index(name), field, array)
    return table


def _build(name: str, **columns: Sequence[object] | np.ndarray) -> pa.Table:
    return TABLES[name].build(
        {k: v.tolist() if isinstance(v, np.ndarray) else list(v) for k, v in columns.items()}
    )


def _buses(grid: Grid, state: Snapshot) -> dict[str, pa.Table]:
    network = grid.network
    slack = np.arange(network.n_bus) == network.slack
    bus = _build(
        "bus",
        id=network.bus_id,
        base_kv=network.base_kv,
        vm_pu_min=network.vm_pu_min,
        vm_pu_max=network.vm_pu_max,
        slack=slack,
        longitude_deg=network.longitude_deg,
        latitude_deg=network.latitude_deg,
    )
    in_service = np.ones(network.n_bus, bool)
    solved = _build(
        "bus_state", id=network.bus_id, in_service=in_service, vm_pu=state.vm_pu, va_deg=np.rad2deg(state.va_rad)
    )
    return {"bus": bus, "bus_state": solved}


def _branches(tables: Tables, grid: Grid, state: Snapshot) -> dict[str, pa.Table]:
    """Lines and transformers keep their rows; every other branch becomes a per-unit branch."""
    network = grid.network
    made: dict[str, pa.Table] = {}
    rest = np.ones(network.n_branch, bool)
    for name in ("line", "transformer"):
        rows, found = _rows(tables[name], network.branch_id)
        made[name] = _replace(
            rows,
            from_bus=network.bus_id[network.from_bus[found]],
            to_bus=network.bus_id[network.to_bus[found]],
        )
        rest[found] = False
    k = np.flatnonzero(rest)
    rating = np.minimum(network.i_max_from_pu, network.i_max_to_pu)[k] * network.base_mva
    made["equivalent_branch"] = _build(
        "equivalent_branch",
        id=network.branch_id[k],
        from_bus=network.bus_id[network.from_bus[k]],
        to_bus=network.bus_id[network.to_bus[k]],
        r_pu=network.r_pu[k],
        x_pu=network.x_pu[k],
        g_from_pu=network.g_from_pu[k],
        b_from_pu=network.b_from_pu[k],
        g_to_pu=network.g_to_pu[k],
        b_to_pu=network.b_to_pu[k],
        ratio=network.ratio[k],
        shift_deg=np.rad2deg(network.shift_rad[k]),
        rating_mva=np.where(np.isfinite(rating), rating, np.nan),
        fictitious=~network.outage_candidate[k],
    )
    tap = np.full(network.n_branch, np.nan)
    tap[network.tap_branch] = state.tap
    taps = [None if np.isnan(t) else int(t) for t in tap]
    made["branch_state"] = _build(
        "branch_state", id=network.branch_id, in_service=np.ones(network.n_branch, bool), tap=taps
    )
    return made


def _shunts(tables: Tables, grid: Grid, state: Snapshot) -> dict[str, pa.Table]:
    """Kept shunts keep their rows; the rest of a bus's admittance becomes one fixed shunt."""
    network, shunts = grid.network, grid.shunts
    rows, found = _rows(tables["shunt"], shunts.id)
    bus = shunts.bus[found]
    kept = _replace(rows, bus=network.bus_id[bus])
    steps = shunts.step[found]
    g = network.g_shunt_pu - np.bincount(bus, steps * shunts.g_step_pu[found], network.n_bus)
    b = network.b_shunt_pu - np.bincount(bus, steps * shunts.b_step_pu[found], network.n_bus)
    fixed = np.flatnonzero((np.abs(g) > 1e-12) | (np.abs(b) > 1e-12))
    ids = [str(uuid.uuid5(NAMESPACE, f"fixed shunt\x1f{i}")) for i in network.bus_id[fixed]]
    one = np.ones(fixed.size, np.int64)
    added = _build(
        "shunt",
        id=ids,
        bus=network.bus_id[fixed],
        g_step_mw=g[fixed] * network.base_mva,
        b_step_mvar=b[fixed] * network.base_mva,
        step_min=one,
        step_max=one,
        controllable=np.zeros(fixed.size, bool),
    )
    every = pa.concat_tables([kept, added])
    step = np.concatenate([state.shunt_step[found], one])
    status = _build("shunt_state", id=every["id"].to_pylist(), in_service=[True] * every.num_rows, step=step)
    return {"shunt": every, "shunt_state": status}


def _units(grid: Grid, state: Snapshot) -> dict[str, pa.Table]:
    units = grid.units
    columns: dict[str, Any] = {
        name: getattr(units, name) for name in TABLES["unit"].arrow.names if hasattr(units, name)
    }
    columns["bus"] = grid.network.bus_id[units.bus]
    columns["energy_mwh_max"] = np.where(np.isfinite(units.energy_mwh_max), units.energy_mwh_max, np.nan)
    start = np.where(units.committable, units.p_mw_min, 0.0)[units.segment_unit]
    end = start + _running_sum(units.segment_unit, units.segment_mw)
    first_price = np.zeros(units.n)
    first_price[units.segment_unit[::-1]] = units.segment_eur_per_mwh[::-1]
    return {
        "unit": _build("unit", **columns),
        "unit_cost": _build(
            "unit_cost",
            device=units.id,
            no_load_eur_per_h=units.minimum_output_eur_per_h
            - first_price * np.where(units.committable, units.p_mw_min, 0.0),
            shutdown_eur=units.shutdown_eur,
            co2_t_per_mwh=units.co2_t_per_mwh,
            curtailment_eur_per_mwh=units.curtailment_eur_per_mwh,
            source=["original model, merged by the equivalence where units were"] * units.n,
        ),
        "cost_segment": _build(
            "cost_segment",
            device=units.id[units.segment_unit],
            segment=_running_sum(units.segment_unit, np.ones(units.segment_unit.size)).astype(np.int64) - 1,
            p_mw_from=end - units.segment_mw,
            p_mw_to=end,
            marginal_eur_per_mwh=units.segment_eur_per_mwh,
        ),
        "start_cost": _build(
            "start_cost",
            device=units.id[units.start_unit],
            off_h_min=units.start_off_h,
            cost_eur=units.start_eur,
        ),
        "unit_state": _build(
            "unit_state",
            id=units.id,
            in_service=np.ones(units.n, bool),
            on=state.unit_on,
            p_mw=state.unit_p_mw,
            q_mvar=state.unit_q_mvar,
            vm_set_pu=state.unit_vm_set_pu,
        ),
    }


def _running_sum(owner: IntArray, values: FloatArray) -> FloatArray:
    """Return the sum within each owner up to and including each row; rows of an owner are together."""
    total = np.cumsum(values)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    base = np.concatenate([[0.0], total])[first]
    return np.asarray(total - np.repeat(base, np.diff(np.append(first, owner.size))))


def _loads(grid: Grid, state: Snapshot) -> dict[str, pa.Table]:
    loads = grid.loads
    return {
        "load": _build(
            "load",
            id=loads.id,
            bus=grid.network.bus_id[loads.bus],
            share_z=loads.share_z,
            share_i=loads.share_i,
            sheddable=loads.sheddable,
        ),
        "load_state": _build(
            "load_state",
            id=loads.id,
            in_service=np.ones(loads.n, bool),
            p_mw=state.load_p_mw,
            q_mvar=state.load_q_mvar,
        ),
    }


def _moved_devices(tables: Tables, grid: Grid, state: Snapshot) -> dict[str, pa.Table]:
    bus_id = grid.network.bus_id
    svg, at_svg = _rows(tables["svg"], grid.svgs.id)
    storage, at_storage = _rows(tables["storage"], grid.storages.id)
    hvdc, at_line = _rows(tables["hvdc"], grid.hvdc.id)
    middle = 0.5 * (grid.storages.energy_mwh_min + grid.storages.energy_mwh_max)
    return {
        "svg": _replace(svg, bus=bus_id[grid.svgs.bus[at_svg]]),
        "storage": _replace(storage, bus=bus_id[grid.storages.bus[at_storage]]),
        "hvdc": _replace(
            hvdc, from_bus=bus_id[grid.hvdc.from_bus[at_line]], to_bus=bus_id[grid.hvdc.to_bus[at_line]]
        ),
        "svg_state": _build(
            "svg_state",
            id=grid.svgs.id,
            in_service=np.ones(grid.svgs.id.size, bool),
            q_mvar=state.svg_q_mvar,
            vm_set_pu=state.svg_vm_set_pu,
        ),
        "storage_state": _build(
            "storage_state",
            id=grid.storages.id,
            in_service=np.ones(grid.storages.id.size, bool),
            p_mw=state.storage_p_mw,
            q_mvar=state.storage_q_mvar,
            energy_mwh=middle,
        ),
        "hvdc_state": _build(
            "hvdc_state",
            id=grid.hvdc.id,
            in_service=np.ones(grid.hvdc.id.size, bool),
            p_mw=state.hvdc_p_mw,
            q_from_mvar=state.hvdc_q_from_mvar,
            q_to_mvar=state.hvdc_q_to_mvar,
            vm_from_set_pu=state.hvdc_vm_from_set_pu,
            vm_to_set_pu=state.hvdc_vm_to_set_pu,
        ),
    }


def _assignments(assignment: pa.Table, original: Grid, reduction: Reduction) -> pa.Table:
    """Carry profile assignments over the links: scale x weight, summed per reduced device and profile."""
    parts = []
    for links, old, new in (
        (reduction.unit, original.units.id, reduction.grid.units.id),
        (reduction.load, original.loads.id, reduction.grid.loads.id),
    ):
        parts.append(_linked(assignment, links, old, new))
    return pa.concat_tables(parts)


def _linked(assignment: pa.Table, links: Links, old: StrArray, new: StrArray) -> pa.Table:
    moved = pa.table(
        {
            "device": pa.array(old[links.source].tolist(), pa.string()),
            "target": pa.array(new[links.target].tolist(), pa.string()),
            "weight": links.weight,
        }
    )
    joined = moved.join(assignment, "device", join_type="inner")
    scaled = joined.append_column("scaled", pc.multiply(joined["scale"], joined["weight"]))
    keys = ["target", "quantity", "profile"]
    # Sorted before summing: the order of a hash join is not fixed, and sums of floats depend on it.
    ordered = scaled.sort_by([(k, "ascending") for k in [*keys, "device"]])
    summed = ordered.group_by(keys, use_threads=False).aggregate([("scaled", "sum")])
    return TABLES["profile_assignment"].build(
        {
            "device": summed["target"].to_pylist(),
            "quantity": summed["quantity"].to_pylist(),
            "profile": summed["profile"].to_pylist(),
            "scale": summed["scaled_sum"].to_pylist(),
        }
    )


def _organisation(tables: Tables, made: Tables, grid: Grid) -> dict[str, pa.Table]:
    """Entities, containment and terminals of the devices that exist now."""
    network = grid.network
    known = {row["id"]: row for row in tables["entity"].to_pylist()}
    parent = dict(
        zip(tables["contains"]["child"].to_pylist(), tables["contains"]["parent"].to_pylist(), strict=True)
    )
    names: dict[str, str] = {}
    for ids, labels in (
        (network.bus_id, network.bus_name),
        (network.branch_id, network.branch_name),
        (grid.units.id, grid.units.name),
        (grid.loads.id, grid.loads.name),
        (grid.hvdc.id, grid.hvdc.name),
    ):
        names.update(zip(ids.tolist(), labels.tolist(), strict=True))
    entities: list[dict[str, object]] = []
    contains: list[dict[str, object]] = []
    connects: list[dict[str, object]] = []
    for kind in (
        "bus",
        "line",
        "transformer",
        "equivalent_branch",
        "shunt",
        "svg",
        "unit",
        "load",
        "storage",
        "hvdc",
    ):
        for row in made[kind].to_pylist():
            key = row["id"]
            old = known.get(key, {})
            name = old.get("name") or names.get(key) or f"fixed shunt at {names.get(row.get('bus', ''), '')}"
            entities.append({"id": key, "kind": kind, "name": name, "source_id": old.get("source_id", "")})
            ends = (
                {end: row[f"{end}_bus"] for end in ("from", "to")}
                if "from_bus" in row
                else {"bus": row.get("bus", key)}
            )
            if kind != "bus":
                connects += [{"device": key, "terminal": end, "bus": bus} for end, bus in ends.items()]
            station = parent.get(key) or parent.get(next(iter(ends.values())))
            if station:
                contains.append({"parent": station, "child": key})
    places = set(tables["station"]["id"].to_pylist()) | set(tables["region"]["id"].to_pylist())
    upper = [row for row in tables["contains"].to_pylist() if row["child"] in places]
    return {
        "entity": pa.Table.from_pylist(entities, TABLES["entity"].arrow),
        "contains": pa.Table.from_pylist([*upper, *contains], TABLES["contains"].arrow),
        "connects": pa.Table.from_pylist(connects, TABLES["connects"].arrow),
    }
