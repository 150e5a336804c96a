"""Security criteria (E_SC) of a scenario version as arrays along a grid's axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bos_core.grid.assembly import criterion_by_voltage
from bos_core.grid.columns import Tables, look_up, places
from bos_core.grid.model import BranchKind, FloatArray, Grid, Network
from bos_core.objects.columns import numpy_columns


@dataclass(frozen=True, eq=False)
class Criteria:
    """Limits of the base case and after a contingency.

    Attributes
    ----------
    vm_pu_min, vm_pu_max, vm_contingency_pu_min, vm_contingency_pu_max : (bus,)
    loading_max, loading_contingency_max : (branch,)
    """

    vm_pu_min: FloatArray
    vm_pu_max: FloatArray
    vm_contingency_pu_min: FloatArray
    vm_contingency_pu_max: FloatArray
    loading_max: FloatArray
    loading_contingency_max: FloatArray


_BRANCH_KINDS = {"line": BranchKind.LINE, "transformer": BranchKind.TRANSFORMER}


def criteria(grid: Grid, table: Callable[[str], pa.Table]) -> Criteria:
    """Return the criteria of every bus and branch.

    A bus's or branch's own limit, where the source gives one, is that of the base case; after a contingency the
    wider of it and the criterion holds. Where no row of ``voltage_criterion`` applies, voltages are free after a
    contingency; where none of ``loading_criterion`` applies, the rating holds.

    Parameters
    ----------
    grid : Grid
    table : callable
        Gives an ontology table by its name; `ScenarioReader.table`.
    """
    network = grid.network
    voltage = Tables({"voltage_criterion": numpy_columns(table("voltage_criterion"))})
    low_after = criterion_by_voltage(voltage, "vm_contingency_pu_min", network.base_kv, 0.0)
    high_after = criterion_by_voltage(voltage, "vm_contingency_pu_max", network.base_kv, np.inf)
    base, after = np.ones(network.n_branch), np.ones(network.n_branch)
    for row in table("loading_criterion").to_pylist():
        at = network.branch_kind == _BRANCH_KINDS[row["kind"]]
        base[at], after[at] = row["loading_max"], row["loading_contingency_max"]
    own = _own_loading(network, table)
    base = np.where(np.isfinite(own), own, base)
    return Criteria(
        vm_pu_min=network.vm_pu_min,
        vm_pu_max=network.vm_pu_max,
        vm_contingency_pu_min=np.minimum(network.vm_pu_min, low_after),
        vm_contingency_pu_max=np.maximum(network.vm_pu_max, high_after),
        loading_max=base,
        loading_contingency_max=np.maximum(base, after),
    )


def _own_loading(network: Network, table: Callable[[str], pa.Table]) -> FloatArray:
    """Return the loading limit that a line or transformer has of its own, NaN where it has none; (branch,)."""
    own = np.full(network.n_branch, np.nan)
    for kind in _BRANCH_KINDS:
        columns = numpy_columns(table(kind).select(["id", "loading_max"]))
        row = look_up(places(columns["id"]), network.branch_id)
        own[row >= 0] = columns["loading_max"][row[row >= 0]]
    return own


@dataclass(frozen=True, eq=False)
class Reserve:
    """Required spinning reserve of the whole system by hour, in MW; shape (hour,)."""

    up_mw: FloatArray
    down_mw: FloatArray


def reserve(requirement: pa.Table, load_mw: FloatArray, renewable_mw: FloatArray) -> Reserve:
    """Return the hourly reserve requirement of the system.

    Parameters
    ----------
    requirement : pa.Table
        Ontology table ``reserve_requirement``; rows of regions add to those of the system.
    load_mw, renewable_mw : (hour,)
        Demand and available wind and solar infeed.
    """
    total = {"up": np.zeros_like(load_mw), "down": np.zeros_like(load_mw)}
    for row in requirement.to_pylist():
        wanted = row["share_of_load"] * load_mw + row["share_of_renewable"] * renewable_mw
        direction = "up" if row["product"] in ("positive", "ramp_up") else "down"
        total[direction] += np.maximum(wanted, row["minimum_mw"])
    return Reserve(total["up"], total["down"])
