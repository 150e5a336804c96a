"""Maintenance and forced outages of committable units.

Rates are those of the RTS-GMLC data set (``SourceData/gen.csv``: MTTF, MTTR, scheduled maintenance weeks), which
took them from the IEEE Reliability Test System (Grigg et al., "The IEEE Reliability Test System-1996", IEEE
Trans. Power Systems 14(3), 1999). Coal classes use its 350 MW steam units, small steam its 76 MW units.

Every unit draws from a stream of its own, seeded by its id, and units are treated in the order of their size and
id, so that neither their order in the grid nor parallel runs change a number.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bos_core.grid.model import BoolArray, FloatArray, IntArray, Units
from bos_core.objects.contracts import ProgramParameters
from bos_core.objects.ontology import HOURS_PER_YEAR
from slots.scenario_sequence.contract import Inputs, weekdays

_LOG = logging.getLogger(__name__)

_DAYS = HOURS_PER_YEAR // 24


class OutageRate(BaseModel):
    """Outage rates of a technology."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mean_time_to_failure_h: float = Field(gt=1)
    """Mean time in service between forced outages, h."""
    mean_time_to_repair_h: float = Field(ge=1)
    """Mean length of a forced outage, h."""
    maintenance_weeks: float = Field(ge=0, le=26)
    """Planned maintenance a year, weeks."""


def _rate(failure_h: float, repair_h: float, weeks: float) -> OutageRate:
    return OutageRate(mean_time_to_failure_h=failure_h, mean_time_to_repair_h=repair_h, maintenance_weeks=weeks)


RATES: Mapping[str, OutageRate] = {
    "nuclear": _rate(1100, 150, 6),
    "hard_coal": _rate(1150, 100, 5),
    "lignite": _rate(1150, 100, 5),
    "coal": _rate(1150, 100, 5),
    "gas": _rate(967, 33, 1.07),
    "gas_ccgt": _rate(967, 33, 1.07),
    "gas_ocgt": _rate(969, 31, 0.79),
    "oil": _rate(450, 50, 2),
    "hydro": _rate(1980, 20, 2),
    "biomass": _rate(1960, 40, 3),
    "waste": _rate(1960, 40, 3),
    "other": _rate(1960, 40, 3),
}
"""Rates by technology. A technology is looked up by its key, then by the word before its first underscore, then
as ``other``."""


class OutageParameters(ProgramParameters):
    """Parameters of the outages, shared by the programs of the slot."""

    maintenance: bool = True
    """Sample planned maintenance."""
    forced_outages: bool = True
    """Sample forced outages."""
    maintenance_share_max: float = Field(0.15, gt=0, le=1)
    """Largest share of the committable capacity on maintenance at once."""
    outage_rates: dict[str, OutageRate] = Field(default_factory=dict)
    """Rates by technology that replace the documented ones."""


@dataclass(frozen=True, eq=False)
class Availability:
    """Sampled availability.

    Attributes
    ----------
    in_service : (hour, unit) bool
    fallback : str
        What was degraded, empty when nothing was.
    """

    in_service: BoolArray
    fallback: str


def random_stream(seed: int, purpose: str, entity: str) -> np.random.Generator:
    """Return the random stream of one entity: the same wherever and in whatever order it is drawn from."""
    digest = hashlib.sha256(f"{purpose}\0{entity}".encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "big") for i in range(0, 32, 4)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words])))


def sample_availability(inputs: Inputs, load_mw: FloatArray, parameters: OutageParameters) -> Availability:
    """Sample which units are in service in each hour.

    Parameters
    ----------
    inputs : Inputs
    load_mw : (hour,)
        System load of the plan year; maintenance goes where it is low.
    parameters : OutageParameters
    """
    units = inputs.units
    in_service = np.ones((HOURS_PER_YEAR, units.n), bool)
    rates, notes = _rates(units, parameters)
    chosen = np.flatnonzero(units.committable)
    if parameters.maintenance and chosen.size:
        mondays = np.flatnonzero(weekdays(inputs) == 0)
        on_maintenance, homeless = _maintenance(units, rates, load_mw, mondays, inputs.seed, parameters)
        in_service &= ~np.repeat(on_maintenance, 24, axis=0)
        if homeless:
            notes.append(
                f"no room for the maintenance of {_some(homeless)} under the limit on capacity out at once"
            )
    if parameters.forced_outages:
        for u in chosen:
            in_service[:, u] &= _up_and_down(
                rates[u], random_stream(inputs.seed, "forced outage", str(units.id[u]))
            )
    for note in notes:
        _LOG.warning("%s", note)
    return Availability(in_service, "; ".join(notes))


def _rates(units: Units, parameters: OutageParameters) -> tuple[dict[int, OutageRate], list[str]]:
    table = {**RATES, **parameters.outage_rates}
    found: dict[int, OutageRate] = {}
    unknown: set[str] = set()
    for u in np.flatnonzero(units.committable):
        technology = str(units.technology[u])
        key = next((k for k in (technology, technology.split("_", maxsplit=1)[0]) if k in table), "other")
        if key == "other" and technology != "other":
            unknown.add(technology)
        found[int(u)] = table[key]
    notes = [f"no outage rates for {_some(sorted(unknown))}: those of 'other' used"] if unknown else []
    return found, notes


def _maintenance(
    units: Units,
    rates: Mapping[int, OutageRate],
    load_mw: FloatArray,
    mondays: IntArray,
    seed: int,
    parameters: OutageParameters,
) -> tuple[BoolArray, list[str]]:
    """Place each unit's maintenance where load + capacity out is lowest (levelised reserve, Garver 1972).

    Starts are Mondays. Returns (day, unit) and the names of units that found no room.
    """
    days_out = {
        u: _maintenance_days(rates[u], random_stream(seed, "maintenance", str(units.id[u]))) for u in rates
    }
    capacity = units.p_mw_max
    limit = parameters.maintenance_share_max * float(capacity[list(rates)].sum())
    peak = load_mw.reshape(_DAYS, 24).max(axis=1)
    out = np.zeros(_DAYS)
    plan = np.zeros((_DAYS, units.n), bool)
    homeless: list[str] = []
    for u in sorted(rates, key=lambda u: (-capacity[u] * days_out[u], str(units.id[u]))):
        length = days_out[u]
        starts = mondays[mondays <= _DAYS - length]
        if length == 0:
            continue
        windows = starts[:, None] + np.arange(length)
        room = out[windows].max(axis=1) + capacity[u] <= limit + 1e-9
        if not room.any():
            homeless.append(str(units.name[u]))
            continue
        height = np.where(room, (peak + out)[windows].max(axis=1), np.inf)
        days = windows[int(np.argmin(height))]
        plan[days, u] = True
        out[days] += capacity[u]
    return plan, homeless


def _maintenance_days(rate: OutageRate, stream: np.random.Generator) -> int:
    """Whole days whose expected value is the documented length."""
    days = rate.maintenance_weeks * 7
    return int(days) + int(stream.random() < days - int(days))


def _up_and_down(rate: OutageRate, stream: np.random.Generator) -> BoolArray:
    """Two-state Markov chain of a year, started from its stationary distribution; True = in service."""
    mean_h = {True: rate.mean_time_to_failure_h, False: rate.mean_time_to_repair_h}
    up = bool(stream.random() < mean_h[True] / (mean_h[True] + mean_h[False]))
    state = np.empty(HOURS_PER_YEAR, bool)
    hour = 0
    while hour < HOURS_PER_YEAR:
        length = int(stream.geometric(1.0 / mean_h[up]))
        state[hour : hour + length] = up
        hour, up = hour + length, not up
    return state


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} (+{len(names) - 5} more)"
