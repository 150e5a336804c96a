"""The states that a scenario version holds, whatever made them: planned hours, hourly demand, or one snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from bos_core.access.profiles import assigned
from bos_core.access.scenario_data import ScenarioReader
from bos_core.access.state_series import read_states
from bos_core.grid.balance import balanced
from bos_core.grid.model import FloatArray, Grid, Snapshot, StrArray
from bos_core.objects.ontology import HOURS_PER_YEAR


class Schedule(StrEnum):
    """Where the powers of the units come from."""

    PLANNED = "planned"
    """A dispatch that the version holds."""
    BALANCED = "balanced"
    """Hourly demand and infeed of the version; the other units share the rest (`bos_core.grid.balance`)."""
    SNAPSHOT = "snapshot"
    """The version has no hourly states: its snapshot, as one hour."""


@dataclass(frozen=True)
class GivenStates:
    """What states a version holds.

    Attributes
    ----------
    schedule : Schedule
    hours : slice
        Hours of the year that have a state; hour 0 alone for a snapshot.
    """

    schedule: Schedule
    hours: slice

    @classmethod
    def of(cls, reader: ScenarioReader) -> GivenStates:
        """Say what a version holds."""
        if reader.has_series("unit.p_mw"):
            return cls(Schedule.PLANNED, reader.hours("unit.p_mw"))
        if reader.has_series("load.p_mw"):
            return cls(Schedule.BALANCED, reader.hours("load.p_mw"))
        if reader.has_series("profile.value") and reader.has("profile_assignment"):
            return cls(Schedule.BALANCED, slice(0, HOURS_PER_YEAR))
        return cls(Schedule.SNAPSHOT, slice(0, 1))


def read_given_states(reader: ScenarioReader, given: GivenStates, hours: slice) -> tuple[Grid, Snapshot]:
    """Return the grid and a block of its states.

    Parameters
    ----------
    hours : slice
        Hours of the year, within ``given.hours``.
    """
    grid, base = reader.grid()
    if given.schedule is Schedule.SNAPSHOT:
        return grid, base.block()
    if given.schedule is Schedule.PLANNED:
        return grid, read_states(reader, grid, base, hours)
    demand = reader if reader.has_series("load.p_mw") else ProfileSeries(reader, grid, base)
    states = read_states(demand, grid, base, hours)
    available = _taken(demand, "unit.available_mw", grid.units.id, hours, grid.units.p_mw_max)
    in_service = _taken(demand, "unit.in_service", grid.units.id, hours, np.ones(grid.units.n)) > 0.5
    return grid, balanced(grid, states, available, in_service)


def _taken(
    source: ScenarioReader | ProfileSeries, name: str, ids: StrArray, hours: slice, otherwise: FloatArray
) -> FloatArray:
    """Return a series as floats, or a constant where there is none."""
    if source.has_series(name) and ids.size:
        return source.aligned(name, ids, hours).astype(np.float64)
    return np.repeat(otherwise[None], hours.stop - hours.start, axis=0)


class ProfileSeries:
    """Demand and available infeed straight from the profiles of an imported grid, as series of devices."""

    def __init__(self, reader: ScenarioReader, grid: Grid, base: Snapshot) -> None:
        self._reader = reader
        self._assignment = reader.table("profile_assignment")
        self._constant = {
            "load.p_mw": ("p_mw", base.load_p_mw),
            "load.q_mvar": ("q_mvar", base.load_q_mvar),
            "unit.available_mw": ("available_mw", grid.units.p_mw_max),
        }

    def has_series(self, name: str) -> bool:
        """Whether profiles give the series."""
        return name in self._constant

    def aligned(self, name: str, ids: StrArray, hours: slice) -> np.ndarray:
        """Return values (hour, id) in the order of the grid's devices; devices without a profile are constant."""
        quantity, constant = self._constant[name]
        profiles = self._reader.series("profile.value", hours)
        values, known = assigned(self._assignment, quantity, ids, profiles.ids, profiles.values)
        return np.where(known, values, constant)
