"""The promise of the state-adjustment slot: move the failing hours so that N-1 holds, or say what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import FloatArray, Grid, IntArray, Snapshot
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding

SECURE, RELAXED, DIVERGED = 0, 1, 2

_HOUR, _HU = ("hour",), ("hour", "unit")


@dataclass(frozen=True, eq=False)
class Inputs:
    """Failing hours (start: the reactive-dispatch point), their N-1 violations, and the room to move.

    `p_mw_low` and `p_mw_high` already hold availability, ramps to the neighbouring hours and commitment.
    The overload list names (hour position, outaged branch, overloaded branch, loading); outaged branch -1
    means the base case. The voltage list names (hour position, outaged branch, bus, voltage).
    """

    grid: Grid
    states: Snapshot
    contingency_branch: Annotated[IntArray, Array(("contingency",), "1", "branches that may fail", "i", 0)]
    p_mw_low: Annotated[FloatArray, Array(_HU, "MW", "")]
    p_mw_high: Annotated[FloatArray, Array(_HU, "MW", "")]
    vm_pu_min: Annotated[FloatArray, Array(("bus",), "p.u.", "base case")]
    vm_pu_max: Annotated[FloatArray, Array(("bus",), "p.u.", "base case")]
    vm_contingency_pu_min: Annotated[FloatArray, Array(("bus",), "p.u.", "after a contingency")]
    vm_contingency_pu_max: Annotated[FloatArray, Array(("bus",), "p.u.", "after a contingency")]
    loading_max: Annotated[FloatArray, Array(("branch",), "1", "base case", minimum=0)]
    loading_contingency_max: Annotated[FloatArray, Array(("branch",), "1", "after a contingency", minimum=0)]
    overload_hour: Annotated[IntArray, Array(("overload",), "1", "", "i", 0)]
    overload_outage: Annotated[IntArray, Array(("overload",), "1", "outaged branch, -1 = base case", "i", -1)]
    overload_branch: Annotated[IntArray, Array(("overload",), "1", "", "i", 0)]
    overload_loading: Annotated[FloatArray, Array(("overload",), "1", "")]
    voltage_hour: Annotated[IntArray, Array(("voltage",), "1", "", "i", 0)]
    voltage_outage: Annotated[IntArray, Array(("voltage",), "1", "outaged branch, -1 = base case", "i", -1)]
    voltage_bus: Annotated[IntArray, Array(("voltage",), "1", "", "i", 0)]
    voltage_vm_pu: Annotated[FloatArray, Array(("voltage",), "p.u.", "")]
    shed_eur_per_mwh: float = 10_000.0
    overload_eur_per_mwh: float = 1_000.0


@dataclass(frozen=True, eq=False)
class Outputs:
    """Adjusted states (AC-solved) and what could not be removed, with its minimum relaxation.

    Outcome: 0 the program expects N-1 to hold, 1 some limits had to be relaxed (listed), 2 the adjusted state
    does not converge and the given one is returned. Final truth is the re-verification. An outage without a
    solution is listed as relaxed with branch and bus -1 and the amount 0. `relaxed_shed_mw` is what would
    have to be shed instead of relaxing that limit, NaN for voltages and outages without a solution.
    """

    states: Snapshot
    outcome: Annotated[IntArray, Array(_HOUR, "1", "", "i", 0, 2)]
    rounds: Annotated[IntArray, Array(_HOUR, "1", "", "i", 0)]
    residual_pu: Annotated[FloatArray, Array(_HOUR, "p.u.", "power-flow mismatch", finite=False)]
    moved_mw: Annotated[FloatArray, Array(_HOUR, "MW", "half the sum of |change of P|", minimum=0)]
    curtailed_mw: Annotated[FloatArray, Array(_HOUR, "MW", "variable infeed taken back", minimum=0)]
    shed_mw: Annotated[FloatArray, Array(("hour", "load"), "MW", "load shed", minimum=-1e-6)]
    cost_eur: Annotated[FloatArray, Array(_HOUR, "EUR", "cost of the redispatch", finite=False)]
    relaxed_hour: Annotated[IntArray, Array(("relaxed",), "1", "", "i", 0)]
    relaxed_outage: Annotated[IntArray, Array(("relaxed",), "1", "outaged branch, -1 = base case", "i", -1)]
    relaxed_branch: Annotated[IntArray, Array(("relaxed",), "1", "-1 for a voltage", "i", -1)]
    relaxed_bus: Annotated[IntArray, Array(("relaxed",), "1", "-1 for a branch", "i", -1)]
    relaxed_amount: Annotated[FloatArray, Array(("relaxed",), "1 or p.u.", "least relaxation of the limit")]
    relaxed_shed_mw: Annotated[
        FloatArray,
        Array(
            ("relaxed",), "MW", "load that would remove it by itself; NaN = none would", minimum=0, finite=False
        ),
    ]


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """The AC equations hold and units stay inside the room they were given."""
    findings: list[Finding] = []
    solved = outputs.outcome != DIVERGED
    bad = np.flatnonzero(solved & ~(outputs.residual_pu <= 1e-6))
    if bad.size:
        findings.append(
            Finding("hour", tuple(map(str, bad)), "violates the power-flow equations", "solve the power flow")
        )
    slack = inputs.grid.units.bus == inputs.grid.network.slack
    p = outputs.states.unit_p_mw
    outside = ((p < inputs.p_mw_low - 1e-2) | (p > inputs.p_mw_high + 1e-2)) & ~slack & solved[:, None]
    if outside.any():
        names = tuple(inputs.grid.units.name[outside.any(0)])
        findings.append(Finding("unit", names, "leaves the room it was given", "bound it"))
    return findings


CONTRACT = SlotContract(
    name="state_adjustment",
    version=1,
    kind="algorithm",
    summary="Adjust the hours that fail N-1 verification.",
    inputs=Inputs,
    outputs=Outputs,
    default="security_constrained_redispatch",
    verify=verify,
    services=("planning-chain/state-adjustment",),
)
