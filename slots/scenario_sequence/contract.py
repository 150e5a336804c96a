"""The promise of the scenario-sequence slot: a year of hourly profiles and unit availability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray, StrArray, Units
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding
from bos_core.objects.ontology import HOURS_PER_YEAR

PROFILE_KINDS = ("load_p", "load_q", "wind", "solar", "hydro", "biomass", "exchange", "other")

_DAY_OF_1_MARCH = 59

RENEWABLE_KINDS = ("wind", "solar", "hydro", "biomass")


@dataclass(frozen=True, eq=False)
class Inputs:
    """Historical profiles of one year and the units whose outages are sampled.

    `profile_kind` is one of `PROFILE_KINDS`. `profile_partner` is the position of the active-power profile that
    a reactive one follows, -1 otherwise. Hour 0 is 1 January 00:00; `first_weekday` is its weekday, 0 = Monday.
    `leap_year` says that the history is a leap year whose 29 February was dropped: weekdays jump there.
    """

    profile_value: Annotated[FloatArray, Array(("hour", "profile"), "1", "hourly means, relative to scale")]
    profile_name: Annotated[StrArray, Array(("profile",), "", "unique", "U")]
    profile_kind: Annotated[StrArray, Array(("profile",), "", "one of PROFILE_KINDS", "U")]
    profile_partner: Annotated[IntArray, Array(("profile",), "1", "active-power partner, -1 none", "i", -1)]
    profile_scale_mw: Annotated[FloatArray, Array(("profile",), "MW", "sum of what it drives", minimum=0)]
    units: Units
    first_weekday: int
    seed: int
    leap_year: bool = False


@dataclass(frozen=True, eq=False)
class Outputs:
    """Hourly profiles of the plan year and the availability of units.

    `fallback` names what had to be degraded (a maintenance that found no room, a technology without rates of
    its own), empty when nothing was.
    """

    profile_value: Annotated[FloatArray, Array(("hour", "profile"), "1", "")]
    unit_in_service: Annotated[BoolArray, Array(("hour", "unit"), "", "not on maintenance or forced out", "b")]
    fallback: str


def validate(inputs: Inputs) -> list[Finding]:
    """Return what makes the inputs unusable, beyond shapes and bounds."""
    findings: list[Finding] = []
    hours, count = inputs.profile_value.shape
    if hours != HOURS_PER_YEAR:
        findings.append(Finding("profile", (), f"has {hours} hours", f"give {HOURS_PER_YEAR} hourly means"))
    names, counts = np.unique(inputs.profile_name, return_counts=True)
    if (counts > 1).any():
        findings.append(Finding("profile", tuple(names[counts > 1]), "occurs more than once", "make names unique"))
    unknown = ~np.isin(inputs.profile_kind, PROFILE_KINDS)
    if unknown.any():
        kinds = ", ".join(PROFILE_KINDS)
        ids = tuple(inputs.profile_name[unknown])
        findings.append(Finding("profile", ids, "is of an unknown kind", f"use one of {kinds}", "profile_kind"))
    lost = inputs.profile_partner >= count
    if lost.any():
        ids = tuple(inputs.profile_name[lost])
        findings.append(Finding("profile", ids, "has a partner that does not exist", "point to a profile or -1"))
    if not 0 <= inputs.first_weekday <= 6:
        findings.append(
            Finding("first_weekday", (), f"is {inputs.first_weekday}", "give 0 (Monday) to 6 (Sunday)")
        )
    if inputs.seed < 0:
        findings.append(Finding("seed", (), f"is {inputs.seed}", "give an integer of at least 0"))
    return findings


def weekdays(inputs: Inputs) -> IntArray:
    """Return the weekday of each of the 365 days, 0 = Monday."""
    day = np.arange(HOURS_PER_YEAR // 24)
    return np.asarray((inputs.first_weekday + day + (inputs.leap_year & (day >= _DAY_OF_1_MARCH))) % 7)


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """8760 hours; not a day repeated; renewables not negative; only committable units are taken out."""
    findings: list[Finding] = []
    value = outputs.profile_value
    if value.shape != (HOURS_PER_YEAR, inputs.profile_name.size):
        want = (HOURS_PER_YEAR, inputs.profile_name.size)
        findings.append(Finding("profile", (), f"has shape {value.shape}", f"give {want}"))
        return findings
    days = value.reshape(HOURS_PER_YEAR // 24, 24, -1)
    varying = np.ptp(inputs.profile_value, axis=0) > 1e-9
    same = varying & (np.ptp(days, axis=0).max(axis=0) < 1e-12)
    if same.any():
        findings.append(Finding("profile", tuple(inputs.profile_name[same]), "repeats one day", "vary the days"))
    negative = np.isin(inputs.profile_kind, RENEWABLE_KINDS) & (value.min(axis=0, initial=0.0) < -1e-9)
    if negative.any():
        findings.append(Finding("profile", tuple(inputs.profile_name[negative]), "is negative", "clip it at 0"))
    if outputs.unit_in_service.shape != (HOURS_PER_YEAR, inputs.units.n):
        want = (HOURS_PER_YEAR, inputs.units.n)
        findings.append(Finding("unit", (), f"has shape {outputs.unit_in_service.shape}", f"give {want}"))
        return findings
    out = ~inputs.units.committable & ~outputs.unit_in_service.all(axis=0)
    if out.any():
        ids = tuple(inputs.units.name[out])
        findings.append(Finding("unit", ids, "is taken out but not committable", "leave it in service"))
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
    services=("planning-chain/annual-states",),
)
