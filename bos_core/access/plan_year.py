"""The calendar of a scenario's plan year: 8760 hours, with the weekdays of a year and without its 29 February."""

from __future__ import annotations

import calendar
import datetime as dt
from dataclasses import dataclass
from typing import Self

from bos_core.access.scenario_data import ScenarioReader

ASSUMED_YEAR = 2018
"""Stands for a year that the data do not tell: it begins on a Monday and is no leap year."""


@dataclass(frozen=True)
class PlanYear:
    """A calendar year.

    Attributes
    ----------
    year : int
    known : bool
        Whether the scenario tells it; otherwise it is `ASSUMED_YEAR`.
    """

    year: int
    known: bool

    @classmethod
    def of(cls, reader: ScenarioReader) -> Self:
        """Return the calendar year of a scenario version's profiles."""
        told = reader.table("system")["calendar_year"].drop_null().to_pylist()
        return cls(int(told[0]) if told else ASSUMED_YEAR, bool(told))

    @property
    def is_leap(self) -> bool:
        """Whether the year has a 29 February, which the plan year skips."""
        return calendar.isleap(self.year)

    @property
    def first_weekday(self) -> int:
        """Weekday of 1 January, 0 = Monday."""
        return dt.date(self.year, 1, 1).weekday()

    @property
    def start(self) -> str:
        """ISO date and time at which hour 0 begins."""
        return dt.datetime(self.year, 1, 1).isoformat(timespec="minutes")
