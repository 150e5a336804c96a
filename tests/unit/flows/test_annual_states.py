"""Step 4 takes the calendar of the year that the profiles come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bos_core.exchange import ImportedGrid, import_grid, to_columns
from bos_core.grid.assembly import assemble
from bos_core.objects.ontology import TABLES
from flows.step4_annual_states import carry_out
from slots.scenario_sequence.contract import Inputs, Outputs

RTS = Path(__file__).parents[4] / "shared" / "yardsticks" / "rts_gmlc"


class FakeJob:
    """Serves an imported grid to the step and keeps what the program was asked."""

    def __init__(self, grid: ImportedGrid) -> None:
        arrays = assemble(to_columns(grid.tables))
        profiles = grid.series["profile.value"]
        series = SimpleNamespace(ids=np.array(profiles.elements), values=profiles.values)
        self.reader = SimpleNamespace(
            grid=lambda: arrays, table=grid.tables.__getitem__, series=lambda name: series
        )
        self.task = SimpleNamespace(parameters={"seed": 1})
        self.inputs: Any = None

    @contextmanager
    def reading(self) -> Iterator[Any]:
        yield self.reader

    def run(self, inputs: Inputs) -> Outputs:
        self.inputs = inputs
        on = np.ones((inputs.profile_value.shape[0], inputs.units.n), bool)
        return Outputs(inputs.profile_value, on, "a unit had no rates")


@pytest.fixture(scope="module")
def rts() -> ImportedGrid:
    return import_grid(RTS)


def without_year(grid: ImportedGrid) -> ImportedGrid:
    system = grid.tables["system"]
    position = system.schema.get_field_index("calendar_year")
    blank = system.set_column(position, system.schema.field(position), pa.nulls(1, pa.int64()))
    return ImportedGrid({**grid.tables, "system": blank}, grid.series)


def test_the_calendar_is_that_of_the_profiles(rts: ImportedGrid) -> None:
    job: Any = FakeJob(rts)
    made = carry_out(job)
    assert (job.inputs.first_weekday, job.inputs.leap_year) == (2, True)  # 1 January 2020 was a Wednesday
    assert made["summary"]["fallback"].to_pylist() == ["a unit had no rates"]


def test_an_unknown_year_is_named(rts: ImportedGrid) -> None:
    job: Any = FakeJob(without_year(rts))
    made = carry_out(job)
    assert (job.inputs.first_weekday, job.inputs.leap_year) == (0, False)
    assert "calendar year of the profiles unknown" in made["summary"]["fallback"][0].as_py()


def test_versions_of_an_older_ontology_gain_the_column() -> None:
    old = (
        TABLES["system"]
        .build({"id": ["s"], "name": ["S"], "base_mva": [100.0], "frequency_hz": [50.0]})
        .drop_columns(["calendar_year"])
    )
    assert TABLES["system"].conform(old).schema.equals(TABLES["system"].arrow)
