"""The promise of the N-1 slot: a full AC power flow for every pair of hour and branch outage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import FloatArray, Grid, IntArray, Snapshot
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding

CONVERGED, ISLANDED, DIVERGED = 0, 1, 2

_PAIR = ("hour", "contingency")


@dataclass(frozen=True, eq=False)
class Inputs:
    """States to verify, contingencies, and the criteria after a contingency."""

    grid: Grid
    states: Snapshot
    contingency_branch: Annotated[IntArray, Array(("contingency",), "1", "branch taken out", "i", 0)]
    vm_pu_min: Annotated[FloatArray, Array(("bus",), "p.u.", "criterion after a contingency")]
    vm_pu_max: Annotated[FloatArray, Array(("bus",), "p.u.", "criterion after a contingency")]
    loading_max: Annotated[FloatArray, Array(("branch",), "1", "criterion after a contingency", minimum=0)]
    enforce_q_limits: bool = True


@dataclass(frozen=True, eq=False)
class Outputs:
    """One entry a pair; extremes of islanded pairs are those of the main island, dead elements left out.

    Extremes of a diverged pair are NaN. The violation lists hold every violated element of every pair that is
    new or worse than in the base case of that hour.
    """

    outcome: Annotated[IntArray, Array(_PAIR, "1", "0 converged, 1 islanded, 2 diverged", "i", 0, 2)]
    iterations: Annotated[IntArray, Array(_PAIR, "1", "", "i", 0)]
    residual_pu: Annotated[FloatArray, Array(_PAIR, "p.u.", "largest power mismatch", finite=False)]
    loading_max: Annotated[FloatArray, Array(_PAIR, "1", "highest current / rating", finite=False)]
    loading_branch: Annotated[IntArray, Array(_PAIR, "1", "where; -1 none", "i", -1)]
    overloaded: Annotated[IntArray, Array(_PAIR, "1", "branches above the criterion", "i", 0)]
    vm_min_pu: Annotated[FloatArray, Array(_PAIR, "p.u.", "lowest voltage", finite=False)]
    vm_min_bus: Annotated[IntArray, Array(_PAIR, "1", "where; -1 none", "i", -1)]
    vm_max_pu: Annotated[FloatArray, Array(_PAIR, "p.u.", "highest voltage", finite=False)]
    vm_max_bus: Annotated[IntArray, Array(_PAIR, "1", "where; -1 none", "i", -1)]
    voltage_violations: Annotated[IntArray, Array(_PAIR, "1", "buses outside the criterion", "i", 0)]
    q_switches: Annotated[IntArray, Array(_PAIR, "1", "buses switched between PV and PQ", "i", 0)]
    lost_load_mw: Annotated[FloatArray, Array(_PAIR, "MW", "load cut off with an island", minimum=0)]
    lost_generation_mw: Annotated[FloatArray, Array(_PAIR, "MW", "generation cut off with an island", minimum=0)]
    base_outcome: Annotated[IntArray, Array(("hour",), "1", "base case: 0 converged, 2 diverged", "i", 0, 2)]
    base_loading: Annotated[FloatArray, Array(("hour", "branch"), "1", "base case", finite=False)]
    base_vm_pu: Annotated[FloatArray, Array(("hour", "bus"), "p.u.", "base case", finite=False)]
    overload_hour: Annotated[IntArray, Array(("overload",), "1", "position of the hour in the block", "i", 0)]
    overload_contingency: Annotated[IntArray, Array(("overload",), "1", "position of the contingency", "i", 0)]
    overload_branch: Annotated[IntArray, Array(("overload",), "1", "overloaded branch", "i", 0)]
    overload_loading: Annotated[FloatArray, Array(("overload",), "1", "current / rating after the outage")]
    voltage_hour: Annotated[IntArray, Array(("voltage",), "1", "position of the hour in the block", "i", 0)]
    voltage_contingency: Annotated[IntArray, Array(("voltage",), "1", "position of the contingency", "i", 0)]
    voltage_bus: Annotated[IntArray, Array(("voltage",), "1", "bus outside its criterion", "i", 0)]
    voltage_vm_pu: Annotated[FloatArray, Array(("voltage",), "p.u.", "voltage after the outage")]


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """Every pair has an outcome; a solved pair has a small residual."""
    findings: list[Finding] = []
    hours, contingencies = inputs.states.vm_pu.shape[0], inputs.contingency_branch.size
    if outputs.outcome.shape != (hours, contingencies):
        findings.append(
            Finding(
                "outcome",
                (),
                f"has shape {outputs.outcome.shape}",
                f"give one per pair: {(hours, contingencies)}",
            )
        )
        return findings
    bad = (outputs.outcome != DIVERGED) & ~(outputs.residual_pu <= 1e-6)
    if bad.any():
        places = tuple(str(tuple(map(int, p))) for p in np.argwhere(bad))
        findings.append(Finding("pair", places, "is called solved with a residual above 1e-6 p.u.", "iterate on"))
    return findings


CONTRACT = SlotContract(
    name="n1_verification",
    version=1,
    kind="algorithm",
    summary="Verify every single-branch outage in every hour with full AC power flow.",
    inputs=Inputs,
    outputs=Outputs,
    default="batched_newton",
    verify=verify,
    services=("planning-chain/n1-verification", "planning-chain/state-adjustment"),
)
