"""A grid as a MATPOWER case: what the power flow sees, at the present taps and switch positions.

Switches, stars of three-winding transformers and open ends are resolved as in the assembly; what a symmetric pi
model cannot hold becomes a bus shunt, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bos_core.exchange.model import Note, to_columns
from bos_core.grid.assembly import assemble
from bos_core.grid.model import FloatArray, Grid, Network, Snapshot

UNRATED_MVA = 0.0


def write_matpower(tables: Mapping[str, pa.Table], path: Path) -> tuple[Note, ...]:
    """Write a case as text (``.m``) or as a struct (``.mat``)."""
    grid, snapshot = assemble(to_columns(tables))
    case, names, notes = _case(grid, snapshot)
    suffix = path.suffix.lower()
    partial = path.with_name(path.name + ".part")
    try:
        if suffix == ".m":
            partial.write_text(_text(case, names, path.stem), encoding="utf-8")
        else:
            _write_mat(case, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return notes


Matrices = dict[str, Any]


def _case(grid: Grid, snapshot: Snapshot) -> tuple[Matrices, dict[str, list[str]], tuple[Note, ...]]:
    network = grid.network
    number = np.arange(1, network.n_bus + 1)
    branch, shunt = _branches(network, number)
    gen, cost = _generators(grid, snapshot, number)
    bus = _buses(grid, snapshot, number, shunt)
    notes = []
    shares = (grid.loads.share_z + grid.loads.share_i) > 0
    if shares.any():
        notes.append(Note("load", int(shares.sum()), "MATPOWER has no voltage dependence: constant power"))
    case: Matrices = {"version": "2", "baseMVA": network.base_mva, "bus": bus, "gen": gen, "branch": branch}
    case["gencost"] = cost
    if grid.hvdc.id.size:
        case["dcline"] = _dc_lines(grid, snapshot, number)
    names = {
        "bus_name": network.bus_name.tolist(),
        "branch_name": network.branch_name.tolist(),
        "gen_name": [*grid.units.name.tolist(), *grid.storages.id.tolist(), *grid.svgs.id.tolist()],
    }
    return case, names, tuple(notes)


def _buses(grid: Grid, snapshot: Snapshot, number: NDArray[np.int64], shunt: NDArray[np.complex128]) -> FloatArray:
    network, n = grid.network, grid.network.n_bus
    base = network.base_mva
    kind = np.ones(n)
    controls = grid.units.voltage_control & snapshot.unit_on
    kind[grid.units.bus[controls]] = 2
    kind[grid.svgs.bus[np.isfinite(snapshot.svg_vm_set_pu)]] = 2
    kind[network.slack] = 3
    demand = np.zeros((n, 2))
    np.add.at(demand, grid.loads.bus, np.stack([snapshot.load_p_mw, snapshot.load_q_mvar], axis=1))
    return np.column_stack(
        [
            number,
            kind,
            demand,
            (network.g_shunt_pu + shunt.real) * base,
            (network.b_shunt_pu + shunt.imag) * base,
            np.ones(n),
            snapshot.vm_pu,
            np.rad2deg(snapshot.va_rad),
            network.base_kv,
            np.ones(n),
            network.vm_pu_max,
            network.vm_pu_min,
        ]
    )


def _branches(network: Network, number: NDArray[np.int64]) -> tuple[FloatArray, NDArray[np.complex128]]:
    """Return the branch matrix and what its symmetric pi models cannot hold, as bus admittances."""
    m, base = network.n_branch, network.base_mva
    half = network.b_to_pu
    shunt = np.zeros(network.n_bus, complex)
    rest = network.g_from_pu + 1j * (network.b_from_pu - half)
    np.add.at(shunt, network.from_bus, rest / network.ratio**2)
    np.add.at(shunt, network.to_bus, network.g_to_pu.astype(complex))
    rating = network.i_max_from_pu * base
    rating = np.where(np.isfinite(rating), rating, UNRATED_MVA)
    wound = (network.ratio != 1.0) | (network.shift_rad != 0.0) | (network.branch_kind != 0)
    matrix = np.column_stack(
        [
            number[network.from_bus],
            number[network.to_bus],
            network.r_pu,
            network.x_pu,
            2.0 * half,
            rating,
            rating,
            rating,
            np.where(wound, network.ratio, 0.0),
            np.rad2deg(network.shift_rad),
            np.ones(m),
            np.full(m, -360.0),
            np.full(m, 360.0),
        ]
    )
    return matrix, shunt


def _generators(grid: Grid, snapshot: Snapshot, number: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    units, storages, svgs = grid.units, grid.storages, grid.svgs
    on = snapshot.unit_on.astype(float)
    unit = [
        number[units.bus],
        snapshot.unit_p_mw,
        snapshot.unit_q_mvar,
        units.q_mvar_max,
        units.q_mvar_min,
        np.nan_to_num(snapshot.unit_vm_set_pu, nan=1.0),
        on,
        units.p_mw_max,
        units.p_mw_min,
    ]
    storage = [
        number[storages.bus],
        snapshot.storage_p_mw,
        snapshot.storage_q_mvar,
        storages.q_mvar_max,
        storages.q_mvar_min,
        np.ones(storages.id.size),
        np.ones(storages.id.size),
        storages.p_discharge_mw_max,
        -storages.p_charge_mw_max,
    ]
    zero = np.zeros(svgs.id.size)
    svg = [
        number[svgs.bus],
        zero,
        snapshot.svg_q_mvar,
        svgs.q_mvar_max,
        svgs.q_mvar_min,
        np.nan_to_num(snapshot.svg_vm_set_pu, nan=1.0),
        zero + 1.0,
        zero,
        zero,
    ]
    joined = [np.concatenate(parts) for parts in zip(unit, storage, svg, strict=True)]
    bus, p, q, q_max, q_min, vm, live, p_max, p_min = joined
    vm = _set_points(grid, bus, vm, number)
    base = np.full(bus.size, grid.network.base_mva)
    matrix = np.column_stack([bus, p, q, q_max, q_min, vm, base, live, p_max, p_min, np.zeros((bus.size, 11))])
    return matrix, _costs(grid, bus.size)


def _set_points(grid: Grid, bus: NDArray[np.int64], vm: FloatArray, number: NDArray[np.int64]) -> FloatArray:
    """Give every generator at a controlled bus the set point of its controlling unit; MATPOWER has one a bus."""
    point = np.full(grid.network.n_bus + 1, np.nan)
    controls = grid.units.voltage_control
    at = number[grid.units.bus[controls]]
    point[at[::-1]] = vm[: grid.units.n][controls][::-1]
    return np.where(np.isfinite(point[bus]), point[bus], vm)


def _costs(grid: Grid, count: int) -> FloatArray:
    """Return piecewise-linear costs through the segments' ends."""
    units = grid.units
    segments = np.bincount(units.segment_unit.astype(np.int64), minlength=units.n)
    width = int(max(segments.max(initial=1), 1)) + 1
    rows = np.zeros((count, 4 + 2 * width))
    rows[:, 0], rows[:, 3] = 1, 2
    rows[:, 6] = 1.0
    first = np.zeros(units.n, np.int64)
    first[1:] = np.cumsum(segments)[:-1]
    for k in range(units.n):
        own = slice(first[k], first[k] + segments[k])
        steps, prices = units.segment_mw[own], units.segment_eur_per_mwh[own]
        if not steps.size or steps.sum() <= 0:
            continue
        start = units.p_mw_min[k] if units.committable[k] else max(0.0, units.p_mw_min[k])
        p = start + np.r_[0.0, np.cumsum(steps)]
        up_to_start = 0.0 if units.committable[k] else prices[0] * start
        eur = units.minimum_output_eur_per_h[k] + up_to_start + np.r_[0.0, np.cumsum(steps * prices)]
        rows[k, 3] = p.size
        rows[k, 4 : 4 + 2 * p.size : 2], rows[k, 5 : 5 + 2 * p.size : 2] = p, eur
    _, hottest = np.unique(units.start_unit, return_index=True)
    rows[units.start_unit[hottest], 1] = units.start_eur[hottest]
    rows[: units.n, 2] = units.shutdown_eur
    return rows


def _dc_lines(grid: Grid, snapshot: Snapshot, number: NDArray[np.int64]) -> FloatArray:
    hvdc, n = grid.hvdc, grid.hvdc.id.size
    vm = [np.nan_to_num(v, nan=1.0) for v in (snapshot.hvdc_vm_from_set_pu, snapshot.hvdc_vm_to_set_pu)]
    limits = []
    for low, high, q, point in (
        (hvdc.q_from_mvar_min, hvdc.q_from_mvar_max, snapshot.hvdc_q_from_mvar, snapshot.hvdc_vm_from_set_pu),
        (hvdc.q_to_mvar_min, hvdc.q_to_mvar_max, snapshot.hvdc_q_to_mvar, snapshot.hvdc_vm_to_set_pu),
    ):
        # Without a set point the reactive power is fixed: equal limits say so.
        limits += [np.where(np.isnan(point), q, low), np.where(np.isnan(point), q, high)]
    sent = snapshot.hvdc_p_mw
    received = np.abs(sent) * (1.0 - hvdc.loss_share) - hvdc.loss_mw
    return np.column_stack(
        [
            number[hvdc.from_bus],
            number[hvdc.to_bus],
            np.ones(n),
            sent,
            np.where(sent >= 0, received, sent),
            snapshot.hvdc_q_from_mvar,
            snapshot.hvdc_q_to_mvar,
            *vm,
            hvdc.p_mw_min,
            hvdc.p_mw_max,
            *limits,
            hvdc.loss_mw,
            hvdc.loss_share,
        ]
    )


def _text(case: Matrices, names: dict[str, list[str]], title: str) -> str:
    word = "".join(c if c.isalnum() else "_" for c in title)
    lines = [f"function mpc = case_{word}", "mpc.version = '2';", f"mpc.baseMVA = {case['baseMVA']!r};", ""]
    for name, matrix in case.items():
        if isinstance(matrix, np.ndarray):
            lines.append(f"mpc.{name} = [")
            lines += ["\t" + "\t".join(_digits(v) for v in row) + ";" for row in matrix.tolist()]
            lines += ["];", ""]
    for name, words in names.items():
        lines.append(f"mpc.{name} = {{")
        lines += ["\t'" + w.replace("'", "").replace("{", "(").replace("}", ")") + "';" for w in words]
        lines += ["};", ""]
    return "\n".join(lines)


def _digits(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _write_mat(case: Matrices, path: Path) -> None:
    from scipy.io import savemat

    with path.open("wb") as file:
        savemat(file, {"mpc": case})
