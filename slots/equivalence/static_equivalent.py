"""What the static equivalents share: choose buses, reduce, and measure the error at both operating points."""

from __future__ import annotations

import logging
from dataclasses import fields

import numpy as np
from pydantic import Field

from bos_core.grid import equivalence as eq
from bos_core.grid.model import FloatArray, Snapshot
from bos_core.grid.power_flow import CONVERGED, network_at
from bos_core.grid.reduction import HELD_PU, Reduction, reduce_grid, replay, undivided_buses
from bos_core.objects.contracts import ProgramParameters
from bos_core.objects.errors import Finding, GridError, ProgramError
from slots.equivalence.contract import Inputs, Outputs

_log = logging.getLogger(__name__)


class Parameters(ProgramParameters):
    """Parameters of a static equivalent."""

    weak_mva: float = Field(10.0, ge=0)
    """Equivalent branches with a smaller series admittance (power at 1 p.u. and 1 rad) are dropped."""
    keep_unit_mw: float = Field(300.0, ge=0)
    """Buses whose committable units and storages together reach this power are kept below the chosen level."""
    share_min: float = Field(0.01, ge=0, le=0.5)
    """Smaller shares of an eliminated bus's injection are dropped and the rest scaled up."""


def build(inputs: Inputs, parameters: Parameters, *, support: bool) -> Outputs:
    """Reduce the grid and replay both operating points on it.

    Parameters
    ----------
    support : bool
        Whether eliminated voltage control and the voltage dependence of the eliminated part are represented.

    Raises
    ------
    GridError
        When a bus can be neither kept nor reduced because no kept bus is connected to it.
    ProgramError
        When the reduced grid has no solution at the snapshot, i.e. the snapshot is none.
    """
    grid, snapshot = inputs.grid, inputs.snapshot
    network = network_at(grid, snapshot)
    keep = eq.necessary_buses(grid, inputs.keep_bus, parameters.keep_unit_mw)
    lost = eq.unreachable_buses(network, keep)
    if lost.size:
        names = tuple(map(str, network.bus_name[lost]))
        raise GridError([Finding("bus", names, "is connected to no kept bus", "keep a bus of its island")])
    v = snapshot.vm_pu * np.exp(1j * snapshot.va_rad)
    parts = eq.partition(network, keep)
    shares = eq.participation(network, parts, undivided_buses(grid), parameters.share_min)
    shunts = eq.support_shunts(network, parts, v, held_buses(inputs)) if support else None
    equivalent = eq.reduce_network(network, parts, v, shares, shunts, parameters.weak_mva)
    reduction = reduce_grid(grid, equivalent, snapshot)
    base_dvm, base_dflow, solved = _errors(inputs, reduction, snapshot)
    if not solved:
        raise ProgramError("the reduced grid has no solution at the snapshot; is the snapshot solved?")
    second_dvm, second_dflow, second_solved = _errors(inputs, reduction, inputs.second)
    kept, added = parts.kept.size, equivalent.from_bus.size
    _log.info("%d buses reduced to %d, %d equivalent branches added", network.n_bus, kept, added)
    if not second_solved:
        _log.warning("the reduced grid's power flow diverges at the second operating point")
    return Outputs(
        **{f.name: getattr(equivalent, f.name) for f in fields(equivalent)},
        base_dvm_pu=base_dvm,
        second_dvm_pu=second_dvm,
        base_dflow_mva=base_dflow,
        second_dflow_mva=second_dflow,
        second_converged=second_solved,
    )


def held_buses(inputs: Inputs) -> np.ndarray:
    """Return the buses whose voltage is at the set point of a device that controls it, (bus,) bool."""
    grid, snapshot = inputs.grid, inputs.snapshot
    held = np.zeros(grid.network.n_bus, dtype=np.bool_)
    set_points = (
        (grid.units.bus, np.where(snapshot.unit_on, snapshot.unit_vm_set_pu, np.nan)),
        (grid.svgs.bus, snapshot.svg_vm_set_pu),
        (grid.hvdc.from_bus, snapshot.hvdc_vm_from_set_pu),
        (grid.hvdc.to_bus, snapshot.hvdc_vm_to_set_pu),
    )
    for bus, vm_set in set_points:
        held[bus[np.abs(vm_set - snapshot.vm_pu[bus]) <= HELD_PU]] = True
    return held


def _errors(inputs: Inputs, reduction: Reduction, snapshot: Snapshot) -> tuple[FloatArray, FloatArray, bool]:
    """Replay a solved state; return (kept bus) voltage and (kept branch) flow differences, NaN if unsolved."""
    solution = replay(reduction, snapshot)
    kept = reduction.branch[reduction.branch >= 0]
    if solution.outcome != CONVERGED:
        return np.full(reduction.bus.size, np.nan), np.full(kept.size, np.nan), False
    network = network_at(inputs.grid, snapshot)
    v = snapshot.vm_pu * np.exp(1j * snapshot.va_rad)
    reduced = np.zeros_like(v)
    reduced[reduction.bus] = solution.v_pu
    f = network.from_bus[kept]
    flow = v[f] * np.conj(network.branch_currents(v)[0][kept])
    flow_reduced = reduced[f] * np.conj(network.branch_currents(reduced)[0][kept])
    dvm = solution.vm_pu - snapshot.vm_pu[reduction.bus]
    return dvm, np.abs(flow_reduced - flow) * network.base_mva, True
