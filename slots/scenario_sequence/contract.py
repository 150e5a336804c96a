"""The promise of the scenario-sequence slot: a year of hourly profiles and unit availability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, StrArray, Units
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding
from bos_core.objects.ontology import HOURS_PER_YEAR


@dataclass(frozen=True, eq=False)
class Inputs:
    """Historical profiles of one year and the units whose outages are sampled.

    `profile_kind` is one of load_p, load_q, wind, solar, hydro, biomass, exchange, other. `profile_partner` is
    the position of the active-power profile that a reactive one follows, -1 otherwise. Hour 0 is 1 January
    00:00; `first_weekday` is its weekday, 0 = Monday.
    """

    profile_value: Annotated[FloatArray, Array(("hour", "profile"), "1", "hourly means, relative to scale")]
    profile_name: Annotated[StrArray, Array(("profile",), "", "", "U")]
    profile_kind: Annotated[StrArray, Array(("profile",), "", "", "U")]
    profile_scale_mw: Annotated[FloatArray, Array(("profile",), "MW", "sum of what it drives", minimum=0)]
    units: Units
    first_weekday: int
    seed: int


@dataclass(frozen=True, eq=False)
class Outputs:
    """Hourly profiles of the plan year and the availability of units."""

    profile_value: Annotated[FloatArray, Array(("hour", "profile"), "1", "")]
    unit_in_service: Annotated[BoolArray, Array(("hour", "unit"), "", "not on maintenance or forced out", "b")]


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """8760 hours; not a day repeated; renewable profiles not negative."""
    findings: list[Finding] = []
    value = outputs.profile_value
    if value.shape[0] != HOURS_PER_YEAR:
        findings.append(Finding("profile", (), f"has {value.shape[0]} hours", f"give {HOURS_PER_YEAR}"))
        return findings
    days = value.reshape(HOURS_PER_YEAR // 24, 24, -1)
    varying = np.ptp(inputs.profile_value, axis=0) > 1e-9
    same = varying & (np.ptp(days, axis=0).max(axis=0) < 1e-12)
    if same.any():
        findings.append(Finding("profile", tuple(inputs.profile_name[same]), "repeats one day", "vary the days"))
    renewable = np.isin(inputs.profile_kind, ["wind", "solar", "hydro", "biomass"])
    negative = renewable & (value.min(axis=0) < -1e-9)
    if negative.any():
        findings.append(Finding("profile", tuple(inputs.profile_name[negative]), "is negative", "clip it at 0"))
    return findings


CONTRACT = SlotContract(
    name="scenario_sequence",
    version=1,
    kind="algorithm",
    summary="Make 8760 hourly states from historical or typical data.",
    inputs=Inputs,
    outputs=Outputs,
    default="historical",
    verify=verify,
)
