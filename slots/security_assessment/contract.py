"""The promise of the security-assessment slot: adjust one snapshot until every criterion is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, Grid, IntArray, Snapshot
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding

_ROUND = ("round",)


@dataclass(frozen=True, eq=False)
class Inputs:
    """A grid, its initial state, and the steady-state criteria of the base case."""

    grid: Grid
    snapshot: Snapshot
    unit_in_service: Annotated[BoolArray, Array(("unit",), "", "may be committed", "b")]
    available_mw: Annotated[FloatArray, Array(("unit",), "MW", "upper bound in this hour", minimum=0)]
    vm_pu_min: Annotated[FloatArray, Array(("bus",), "p.u.", "criterion", finite=False)]
    vm_pu_max: Annotated[FloatArray, Array(("bus",), "p.u.", "criterion", finite=False)]
    loading_max: Annotated[FloatArray, Array(("branch",), "1", "criterion", minimum=0)]
    shed_eur_per_mwh: float = 10_000.0


@dataclass(frozen=True, eq=False)
class Outputs:
    """The adjusted snapshot, the log of the rounds and what is still violated.

    The log's first entry is the snapshot as given, with a merit-order dispatch where it names no running unit;
    NaN where it has no power-flow solution. `round_merit_eur_per_h` is cost and priced violations. What is
    listed as overloaded or violated could not be removed by any admissible adjustment at the given prices.
    """

    snapshot: Snapshot
    converged: bool
    accepted: bool
    round_merit_eur_per_h: Annotated[
        FloatArray, Array(_ROUND, "EUR/h", "cost and priced violations", finite=False)
    ]
    round_loading_max: Annotated[FloatArray, Array(_ROUND, "1", "highest loading", finite=False)]
    round_overloaded: Annotated[IntArray, Array(_ROUND, "1", "branches above the criterion", "i", 0)]
    round_vm_min_pu: Annotated[FloatArray, Array(_ROUND, "p.u.", "", finite=False)]
    round_vm_max_pu: Annotated[FloatArray, Array(_ROUND, "p.u.", "", finite=False)]
    round_voltage_violations: Annotated[IntArray, Array(_ROUND, "1", "buses outside the criterion", "i", 0)]
    round_q_violations: Annotated[IntArray, Array(_ROUND, "1", "units outside their Q range", "i", 0)]
    round_residual_pu: Annotated[FloatArray, Array(_ROUND, "p.u.", "power-flow mismatch", finite=False)]
    round_moved_mw: Annotated[FloatArray, Array(_ROUND, "MW", "redispatched in this round", minimum=0)]
    round_curtailed_mw: Annotated[FloatArray, Array(_ROUND, "MW", "curtailed so far", minimum=0)]
    round_shed_mw: Annotated[FloatArray, Array(_ROUND, "MW", "load shed so far", minimum=0)]
    round_taps_moved: Annotated[IntArray, Array(_ROUND, "1", "tap steps moved in this round", "i", 0)]
    load_shed_mw: Annotated[FloatArray, Array(("load",), "MW", "shed in the adjusted snapshot", minimum=0)]
    overloaded_branch: Annotated[IntArray, Array(("overload",), "1", "still above the criterion", "i", 0)]
    overloaded_loading: Annotated[FloatArray, Array(("overload",), "1", "")]
    violated_bus: Annotated[IntArray, Array(("violation",), "1", "still outside the criterion", "i", 0)]
    violated_vm_pu: Annotated[FloatArray, Array(("violation",), "p.u.", "")]
    slack_excess_mw: float
    """Balance that the slack's running units cannot give."""


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """An accepted snapshot converged and has nothing left that is violated."""
    findings: list[Finding] = []
    left = outputs.overloaded_branch.size + outputs.violated_bus.size
    if outputs.accepted and (left or not outputs.converged):
        findings.append(Finding("snapshot", (), f"is accepted with {left} violations", "report accepted = False"))
    p, high = outputs.snapshot.unit_p_mw, np.minimum(inputs.grid.units.p_mw_max, inputs.available_mw)
    over = np.flatnonzero(outputs.snapshot.unit_on & (p > high + 1e-3) & ~_slack(inputs.grid))
    if over.size:
        findings.append(
            Finding("unit", tuple(inputs.grid.units.name[over]), "is above its available power", "bound it")
        )
    return findings


def _slack(grid: Grid) -> BoolArray:
    at_slack: BoolArray = grid.units.bus == grid.network.slack
    return at_slack


CONTRACT = SlotContract(
    name="security_assessment",
    version=1,
    kind="algorithm",
    summary="Adjust a snapshot until power flow, loading and voltage criteria are met.",
    inputs=Inputs,
    outputs=Outputs,
    default="successive_lp",
    verify=verify,
    services=("planning-chain/snapshot",),
)
