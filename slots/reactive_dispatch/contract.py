"""The promise of the reactive-dispatch slot: AC-feasible voltages, Q, taps and shunts, hour by hour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import FloatArray, Grid, IntArray, Snapshot
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding

OPTIMAL, SOFT, POWER_FLOW_ONLY, DIVERGED = 0, 1, 2, 3

_HOUR = ("hour",)


@dataclass(frozen=True, eq=False)
class Inputs:
    """States with P given; voltages are a start. Limits of the base case."""

    grid: Grid
    states: Snapshot
    vm_pu_min: Annotated[FloatArray, Array(("bus",), "p.u.", "")]
    vm_pu_max: Annotated[FloatArray, Array(("bus",), "p.u.", "")]
    loading_max: Annotated[FloatArray, Array(("branch",), "1", "", minimum=0)]


@dataclass(frozen=True, eq=False)
class Outputs:
    """Solved states: set points, taps, shunts, and the AC solution that they give.

    Outcome: 0 all limits kept, 1 limits softened (amount reported), 2 no optimisation, plain power flow,
    3 not even that converged.
    """

    states: Snapshot
    outcome: Annotated[IntArray, Array(_HOUR, "1", "", "i", 0, 3)]
    residual_pu: Annotated[FloatArray, Array(_HOUR, "p.u.", "power-flow mismatch of the answer", finite=False)]
    iterations: Annotated[IntArray, Array(_HOUR, "1", "", "i", 0)]
    losses_mw: Annotated[FloatArray, Array(_HOUR, "MW", "active losses", finite=False)]
    slack_p_mw: Annotated[
        FloatArray, Array(_HOUR, "MW", "change of the scheduled P that the balance needed", finite=False)
    ]
    voltage_excess_pu: Annotated[FloatArray, Array(_HOUR, "p.u.", "sum outside the limits", finite=False)]
    loading_excess: Annotated[FloatArray, Array(_HOUR, "1", "sum above the limits", finite=False)]


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """The AC equations hold; voltages are inside the limits when the outcome says so."""
    findings: list[Finding] = []
    solved = outputs.outcome != DIVERGED
    bad = np.flatnonzero(solved & ~(outputs.residual_pu <= 1e-6))
    if bad.size:
        findings.append(
            Finding("hour", tuple(map(str, bad)), "violates the power-flow equations", "solve the power flow")
        )
    vm = outputs.states.vm_pu
    outside = ((vm < inputs.vm_pu_min - 1e-4) | (vm > inputs.vm_pu_max + 1e-4)).any(1)
    hidden = np.flatnonzero((outputs.outcome == OPTIMAL) & outside)
    if hidden.size:
        findings.append(Finding("hour", tuple(map(str, hidden)), "hides a voltage violation", "report outcome 1"))
    return findings


CONTRACT = SlotContract(
    name="reactive_dispatch",
    version=1,
    kind="algorithm",
    summary="Set voltages, reactive power, taps and shunts so that every hour is AC-feasible.",
    inputs=Inputs,
    outputs=Outputs,
    default="barrier_rpd",
    verify=verify,
    services=("planning-chain/reactive-dispatch",),
)
