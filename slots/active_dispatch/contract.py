"""The promise of the active-dispatch slot: network-constrained set points of P for a day.

Rules that every program follows: those of unit commitment, with the commitment given. `losses_mw` is spread over
the buses like demand. Shed is decided by bus and shared by demand; loads that are not sheddable are shed last, at
ten times the price. Steps that the commitment makes impossible have no ramp; `status` counts them.
`cost_eur` holds the costs of minimum output, of energy above it and of curtailment, no start costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, Grid
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding

_HU, _HOUR = ("hour", "unit"), ("hour",)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Commitment is given.

    `initial_p_mw` is NaN for units that were off before the day or whose output then is unknown; one that was on
    with unknown output has no ramp into the first hour.
    """

    grid: Grid
    on: Annotated[BoolArray, Array(_HU, "", "commitment", "b")]
    load_p_mw: Annotated[FloatArray, Array(("hour", "load"), "MW", "demand")]
    available_mw: Annotated[FloatArray, Array(_HU, "MW", "upper bound of output", minimum=0)]
    reserve_up_mw: Annotated[FloatArray, Array(_HOUR, "MW", "positive spinning reserve", minimum=0)]
    reserve_down_mw: Annotated[FloatArray, Array(_HOUR, "MW", "negative spinning reserve", minimum=0)]
    branch_mw_max: Annotated[FloatArray, Array(("branch",), "MW", "limit, inf = none", minimum=0, finite=False)]
    initial_on: Annotated[BoolArray, Array(("unit",), "", "", "b")]
    initial_p_mw: Annotated[FloatArray, Array(("unit",), "MW", "output before the first hour", finite=False)]
    storage_initial_mwh: Annotated[FloatArray, Array(("storage",), "MWh", "", minimum=0)]
    storage_final_mwh: Annotated[FloatArray, Array(("storage",), "MWh", "energy at the end of the day", minimum=0)]
    losses_mw: Annotated[FloatArray, Array(("hour",), "MW", "network losses to be covered, estimate", minimum=0)]
    unserved_eur_per_mwh: float = 10_000.0
    reserve_eur_per_mwh: float = 2_000.0
    overload_eur_per_mwh: float = 1_000.0


@dataclass(frozen=True, eq=False)
class Outputs:
    """Set points, flows and prices; slacks are priced and reported."""

    p_mw: Annotated[FloatArray, Array(_HU, "MW", "")]
    reserve_up_mw: Annotated[FloatArray, Array(_HU, "MW", "", minimum=-1e-6)]
    reserve_down_mw: Annotated[FloatArray, Array(_HU, "MW", "", minimum=-1e-6)]
    storage_p_mw: Annotated[FloatArray, Array(("hour", "storage"), "MW", "positive: discharging")]
    storage_energy_mwh: Annotated[FloatArray, Array(("hour", "storage"), "MWh", "at the end of the hour")]
    hvdc_p_mw: Annotated[FloatArray, Array(("hour", "hvdc"), "MW", "sent from the from end")]
    shed_mw: Annotated[FloatArray, Array(("hour", "load"), "MW", "load shed", minimum=-1e-6)]
    flow_mw: Annotated[FloatArray, Array(("hour", "branch"), "MW", "DC flow, from►to")]
    overload_mw: Annotated[FloatArray, Array(("hour", "branch"), "MW", "excess over the limit", minimum=-1e-6)]
    surplus_mw: Annotated[FloatArray, Array(_HOUR, "MW", "infeed that nobody can use", minimum=-1e-6)]
    reserve_short_mw: Annotated[FloatArray, Array(_HOUR, "MW", "missing reserve", minimum=-1e-6)]
    price_eur_per_mwh: Annotated[FloatArray, Array(("hour", "bus"), "EUR/MWh", "locational marginal price")]
    cost_eur: Annotated[FloatArray, Array(_HOUR, "EUR", "production cost, slacks not included")]
    objective_eur: float
    status: str
    fallback: str


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """Balance, limits, and flows within limit + reported overload."""
    findings: list[Finding] = []
    units, hvdc = inputs.grid.units, inputs.grid.hvdc
    lost = np.abs(outputs.hvdc_p_mw) * hvdc.loss_share
    total = inputs.load_p_mw.sum(1)
    served = outputs.p_mw.sum(1) + outputs.storage_p_mw.sum(1) - lost.sum(1) + outputs.shed_mw.sum(1)
    served -= outputs.surplus_mw + inputs.losses_mw
    off = np.abs(served - total) > 1e-3 + 1e-6 * total + hvdc.loss_mw.sum()
    if off.any():
        findings.append(
            Finding("hour", tuple(map(str, np.flatnonzero(off))), "power does not balance", "balance it")
        )
    over = outputs.p_mw > np.minimum(units.p_mw_max, inputs.available_mw) * inputs.on + 1e-3
    if over.any():
        findings.append(Finding("unit", tuple(units.name[over.any(0)]), "is above its limit", "bound it"))
    hidden = np.abs(outputs.flow_mw) > inputs.branch_mw_max + outputs.overload_mw + 1e-2
    if hidden.any():
        names = tuple(inputs.grid.network.branch_name[hidden.any(0)])
        findings.append(Finding("branch", names, "flows above its limit unreported", "report overload_mw"))
    return findings


CONTRACT = SlotContract(
    name="active_dispatch",
    version=1,
    kind="algorithm",
    summary="Dispatch active power for a day under network limits.",
    inputs=Inputs,
    outputs=Outputs,
    default="lazy_ptdf",
    verify=verify,
    services=("planning-chain/active-dispatch",),
)
