"""Hours of the plan year have the dates of a calendar year, without its 29 February."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from bos_core.access.plan_year import PlanYear
from bos_core.report.charts import TimeAxis


@pytest.mark.parametrize(
    ("year", "hour", "date"),
    [
        (2016, 0, "2016-01-01T00:00"),
        (2016, 59 * 24 - 1, "2016-02-28T23:00"),
        (2016, 59 * 24, "2016-03-01T00:00"),
        (2016, 8759, "2016-12-31T23:00"),
        (2018, 59 * 24, "2018-03-01T00:00"),
        (2018, 8759, "2018-12-31T23:00"),
    ],
)
def test_dates_skip_29_february(year: int, hour: int, date: str) -> None:
    calendar = TimeAxis(PlanYear(year, known=True).start, 8760)
    assert calendar.date(hour).isoformat(timespec="minutes") == date
    assert calendar.iso(hour) == date


@pytest.mark.parametrize(("told", "year", "known"), [(2020, 2020, True), (None, 2018, False)])
def test_the_year_is_that_of_the_profiles(told: int | None, year: int, known: bool) -> None:
    table = pa.table({"calendar_year": pa.array([told], pa.int64())})
    reader: Any = SimpleNamespace(table=lambda name: table)
    assert PlanYear.of(reader) == PlanYear(year, known)
