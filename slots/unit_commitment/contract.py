"""The promise of the unit-commitment slot: who is on, for a month in blocks or a day in hours.

Rules that every program follows
--------------------------------
- A unit out of service is off. Then `fixed_on` holds, then the minimum time that still runs at the start, then
  must-run. Where prescriptions contradict minimum times, ramps or stop limits, they prevail; `status` says so.
- A unit that trips or goes into maintenance needs no ramp and no shutdown limit.
- Output of a derated unit may fall below its minimum, down to what is available.
- Spinning reserve comes from committable units that are on, as far as they can move within an hour and within
  their ramp; downward reserve also from the output of variable units.
- Relaxed units (`integer` False) stand for decisions that are made later: they run at any output from zero on,
  along the convex envelope of their costs, to which their cheapest start adds, spread over `RELAXED_RUN_H` hours.
  No minimum time, ramp or start limit binds them, and all that they can add or take back is reserve. Where their
  state is prescribed or known for all periods, they are units like the others.
- `unserved_mw` and `surplus_mw` are spread over the buses like demand; both cost `unserved_eur_per_mwh`, and so do
  missing storage energy at the end and output beyond an energy budget.
- Costs count over the whole horizon, look-ahead included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, Grid, IntArray
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding

FREE = -1
RELAXED_RUN_H = 8
"""Length of the runs over which relaxed units spread the cost of their starts."""

_PU, _UNIT, _PERIOD = ("period", "unit"), ("unit",), ("period",)


@dataclass(frozen=True, eq=False)
class Inputs:
    """A horizon of equal periods of `period_h` hours; the last `look_ahead` of them only guide the decision.

    `integer` says which units get binary decisions; the others are relaxed (month layer). `fixed_on` prescribes
    commitments (1 on, 0 off, -1 free). `initial_h` is the time already on (positive) or off (negative).
    `free_start` lets the first period's commitment be chosen without start cost (no history known).
    """

    grid: Grid
    period_h: int
    look_ahead: int
    free_start: bool
    load_p_mw: Annotated[FloatArray, Array(("period", "load"), "MW", "mean demand of the period")]
    available_mw: Annotated[FloatArray, Array(_PU, "MW", "upper bound of output", minimum=0)]
    in_service: Annotated[BoolArray, Array(_PU, "", "not on maintenance or forced out", "b")]
    reserve_up_mw: Annotated[FloatArray, Array(_PERIOD, "MW", "positive spinning reserve", minimum=0)]
    reserve_down_mw: Annotated[FloatArray, Array(_PERIOD, "MW", "negative spinning reserve", minimum=0)]
    branch_mw_max: Annotated[FloatArray, Array(("branch",), "MW", "limit, inf = none", minimum=0, finite=False)]
    integer: Annotated[BoolArray, Array(_UNIT, "", "binary decision", "b")]
    fixed_on: Annotated[IntArray, Array(_PU, "1", "1 on, 0 off, -1 free", "i", -1, 1)]
    initial_on: Annotated[BoolArray, Array(_UNIT, "", "", "b")]
    initial_h: Annotated[IntArray, Array(_UNIT, "h", "hours on (+) or off (-)", "i")]
    initial_p_mw: Annotated[FloatArray, Array(_UNIT, "MW", "output just before the horizon")]
    energy_mwh_max: Annotated[FloatArray, Array(_UNIT, "MWh", "budget, inf = none", minimum=0, finite=False)]
    storage_initial_mwh: Annotated[FloatArray, Array(("storage",), "MWh", "", minimum=0)]
    storage_final_mwh: Annotated[FloatArray, Array(("storage",), "MWh", "least energy at the end", minimum=0)]
    unserved_eur_per_mwh: float = 10_000.0
    reserve_eur_per_mwh: float = 2_000.0
    overload_eur_per_mwh: float = 1_000.0


@dataclass(frozen=True, eq=False)
class Outputs:
    """Commitment and its plan; look-ahead periods included. Slacks are priced and reported, never hidden.

    `network_limits` says how many branch limits bind or were generated; `fallback` names a degraded method.
    """

    on: Annotated[BoolArray, Array(_PU, "", "", "b")]
    p_mw: Annotated[FloatArray, Array(_PU, "MW", "")]
    reserve_up_mw: Annotated[FloatArray, Array(_PU, "MW", "", minimum=-1e-6)]
    reserve_down_mw: Annotated[FloatArray, Array(_PU, "MW", "", minimum=-1e-6)]
    storage_p_mw: Annotated[FloatArray, Array(("period", "storage"), "MW", "positive: discharging")]
    storage_energy_mwh: Annotated[FloatArray, Array(("period", "storage"), "MWh", "at the end of the period")]
    hvdc_p_mw: Annotated[FloatArray, Array(("period", "hvdc"), "MW", "sent from the from end")]
    unserved_mw: Annotated[FloatArray, Array(_PERIOD, "MW", "demand not served", minimum=-1e-6)]
    surplus_mw: Annotated[FloatArray, Array(_PERIOD, "MW", "infeed that nobody can use", minimum=-1e-6)]
    reserve_short_mw: Annotated[
        FloatArray, Array(_PERIOD, "MW", "missing reserve, both directions", minimum=-1e-6)
    ]
    overload_mw: Annotated[FloatArray, Array(_PERIOD, "MW", "sum of excess over branch limits", minimum=-1e-6)]
    objective_eur: float
    bound_eur: float
    gap: float
    network_limits: int
    status: str
    fallback: str


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """Power balance, limits, fixed commitments, and the gap is honest."""
    findings: list[Finding] = []
    units = inputs.grid.units
    hvdc = inputs.grid.hvdc
    received = outputs.hvdc_p_mw - np.abs(outputs.hvdc_p_mw) * hvdc.loss_share
    served = (
        outputs.p_mw.sum(1)
        + outputs.storage_p_mw.sum(1)
        + (received - outputs.hvdc_p_mw).sum(1)
        + outputs.unserved_mw
        - outputs.surplus_mw
    )
    off = np.abs(served - inputs.load_p_mw.sum(1)) > 1e-3 + 1e-6 * inputs.load_p_mw.sum(1) + hvdc.loss_mw.sum()
    if off.any():
        findings.append(
            Finding("period", tuple(map(str, np.flatnonzero(off))), "power does not balance", "balance it")
        )
    high = np.minimum(units.p_mw_max, inputs.available_mw) * (outputs.on | ~units.committable)
    over = (outputs.p_mw > high + 1e-3) & inputs.integer
    if over.any():
        findings.append(
            Finding("unit", tuple(units.name[over.any(0)]), "is above its limit or runs while off", "bound it")
        )
    broken = (inputs.fixed_on != FREE) & (outputs.on != (inputs.fixed_on == 1)) & inputs.integer
    broken &= inputs.in_service
    if broken.any():
        findings.append(
            Finding("unit", tuple(units.name[broken.any(0)]), "breaks a fixed commitment", "respect it")
        )
    if outputs.bound_eur > outputs.objective_eur * (1 + 1e-6) + 1e-3:
        findings.append(Finding("bound_eur", (), "lies above the objective", "report the solver's true bound"))
    return findings


CONTRACT = SlotContract(
    name="unit_commitment",
    version=1,
    kind="algorithm",
    summary="Decide which units are on, with reserve, start costs and network limits.",
    inputs=Inputs,
    outputs=Outputs,
    default="highs_uc",
    verify=verify,
    services=("planning-chain/unit-commitment",),
)
