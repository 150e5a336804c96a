"""The promise of the equivalence slot: a smaller network that behaves the same at the kept buses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, Grid, IntArray, Snapshot
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding

_EQ, _KEPT, _SHARE = ("equivalent",), ("kept",), ("share",)


@dataclass(frozen=True, eq=False)
class Inputs:
    """A validated snapshot (solved voltages), the buses to keep, and a second solved operating point."""

    grid: Grid
    snapshot: Snapshot
    keep_bus: Annotated[BoolArray, Array(("bus",), "", "buses to keep", "b")]
    second: Snapshot


@dataclass(frozen=True, eq=False)
class Outputs:
    """The reduction, in positions of the original grid; everything at kept buses stays as it is.

    Injections of eliminated buses move to kept buses: bus `share_from` gives the share `share_weight` of its
    net injection to kept bus `share_to`; shares of a bus sum to 1. `residual_*` is the constant injection that
    makes the base point exact (losses and charging of the eliminated part).
    """

    kept_bus: Annotated[IntArray, Array(_KEPT, "1", "positions in the original grid, ascending", "i", 0)]
    kept_branch: Annotated[IntArray, Array(("kept_branch",), "1", "both ends kept", "i", 0)]
    g_shunt_pu: Annotated[FloatArray, Array(_KEPT, "p.u.", "added shunt conductance")]
    b_shunt_pu: Annotated[FloatArray, Array(_KEPT, "p.u.", "added shunt susceptance")]
    residual_p_mw: Annotated[FloatArray, Array(_KEPT, "MW", "added constant injection")]
    residual_q_mvar: Annotated[FloatArray, Array(_KEPT, "Mvar", "added constant injection")]
    from_bus: Annotated[IntArray, Array(_EQ, "1", "position in the original grid", "i", 0)]
    to_bus: Annotated[IntArray, Array(_EQ, "1", "position in the original grid", "i", 0)]
    r_pu: Annotated[FloatArray, Array(_EQ, "p.u.", "")]
    x_pu: Annotated[FloatArray, Array(_EQ, "p.u.", "")]
    ratio: Annotated[FloatArray, Array(_EQ, "1", "", minimum=1e-6)]
    shift_rad: Annotated[FloatArray, Array(_EQ, "rad", "")]
    share_from: Annotated[IntArray, Array(_SHARE, "1", "eliminated bus", "i", 0)]
    share_to: Annotated[IntArray, Array(_SHARE, "1", "kept bus (position in the original grid)", "i", 0)]
    share_weight: Annotated[FloatArray, Array(_SHARE, "1", "")]
    base_dvm_pu: Annotated[FloatArray, Array(_KEPT, "p.u.", "voltage error at the validated snapshot")]
    second_dvm_pu: Annotated[FloatArray, Array(_KEPT, "p.u.", "voltage error, second point", finite=False)]
    base_dflow_mva: Annotated[FloatArray, Array(("kept_branch",), "MVA", "flow error, validated snapshot")]
    second_dflow_mva: Annotated[
        FloatArray, Array(("kept_branch",), "MVA", "flow error, second point", finite=False)
    ]
    pruned: int
    """Equivalent branches dropped as weak (row sums of the admittance matrix stay)."""
    second_converged: bool
    """Whether the reduced grid has a solution at the second point; if not, the errors there are NaN."""


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """Shares of every eliminated bus sum to one; kept buses are the wanted ones."""
    findings: list[Finding] = []
    if not np.isin(np.flatnonzero(inputs.keep_bus), outputs.kept_bus).all():
        findings.append(Finding("bus", (), "a bus to keep was eliminated", "keep all of keep_bus"))
    eliminated = np.setdiff1d(np.arange(inputs.keep_bus.size), outputs.kept_bus)
    total = np.bincount(outputs.share_from, outputs.share_weight, inputs.keep_bus.size)[eliminated]
    off = eliminated[np.abs(total - 1) > 1e-6]
    if off.size:
        findings.append(
            Finding("bus", tuple(inputs.grid.network.bus_name[off]), "shares do not sum to 1", "normalise them")
        )
    unsolved = np.isnan(outputs.second_dvm_pu).any() or np.isnan(outputs.second_dflow_mva).any()
    if unsolved == outputs.second_converged:
        findings.append(
            Finding("second_converged", (), f"is {outputs.second_converged}", "give errors exactly when converged")
        )
    return findings


CONTRACT = SlotContract(
    name="equivalence",
    version=1,
    kind="algorithm",
    summary="Reduce the network to the kept buses by a static equivalent.",
    inputs=Inputs,
    outputs=Outputs,
    default="extended_ward",
    verify=verify,
    services=("planning-chain/equivalence",),
)
