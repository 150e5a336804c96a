"""Scenario versions: a year is branched, edited, compared, merged and read, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from databases import disk, new_postgresql
from frame import OURS, Accuracy, Bench, Row
from timing import best_of

from bos_core.access import scenario_versions, series_chunks
from bos_core.access.scenario_data import ScenarioReader
from bos_core.access.scenario_diff import difference
from bos_core.access.scenario_edit import Edit, Operation
from bos_core.access.series_chunks import Layout
from bos_core.access.workspace import Workspace
from bos_core.index.scenarios import Chunk
from bos_core.objects.errors import Finding
from bos_core.objects.ontology import HOURS_PER_YEAR, SERIES, TABLES
from bos_core.objects.settings import Settings

TITLE = "Scenario versions: 8760 hours of 849 elements and of 23 small series"
PACKAGES = ("numpy", "pyarrow", "sqlalchemy", "psycopg")
SIZE = "values"
ELEMENTS, SMALL = 849, 4
NAME = "bus.vm_pu"
BRANCHES = 20
SEED = 1


def run(bench: Bench, budget_s: float) -> None:
    """Measure versions on both databases, then how a year is read."""
    bench.settings |= {
        "year": f"{NAME} of {ELEMENTS} elements, the other {len(SERIES) - 1} series of {SMALL}; files in a folder",
        "PostgreSQL": "on the same machine over loopback",
        "before": "one file a layout for all hours, by device a column an element, as versions once were written",
    }
    with tempfile.TemporaryDirectory(dir=disk()) as folder:
        home = Path(folder)
        with bench.doing("writing the year"):
            sqlite = _Versions(Workspace._open(Settings(home=home)), home)
        _versions(bench, sqlite, f"{OURS} on SQLite")
        with bench.peer(f"{OURS} on PostgreSQL"), new_postgresql() as url:
            workspace = Workspace._open(Settings(home=home, database_url=url))
            with bench.doing("writing the year"):
                other = _Versions(workspace, home)
            _versions(bench, other, f"{OURS} on PostgreSQL")
            workspace.engine.dispose()
        _reading(bench, sqlite)
        sqlite.workspace.engine.dispose()


@dataclass
class _Versions:
    """A workspace whose scenario ``year`` holds every series for all hours."""

    workspace: Workspace
    home: Path
    values: np.ndarray = field(init=False)
    ids: list[str] = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(SEED)
        self.values = 1 + 0.001 * rng.normal(size=(HOURS_PER_YEAR, ELEMENTS)).cumsum(axis=0).round(3)
        self.ids = [str(uuid.UUID(int=int(k))) for k in rng.integers(1, 2**62, ELEMENTS)]
        writer = self.workspace.writer(scenario="year")
        for name, schema in SERIES.items():
            small = np.zeros((HOURS_PER_YEAR, SMALL), schema.type.to_pandas_dtype())
            ids, values = (self.ids, self.values) if name == NAME else (self.ids[:SMALL], small)
            writer.put_series(name, ids, values)
        names = [f"Bus {k}" for k in range(ELEMENTS)]
        entity = {"id": self.ids, "kind": ["bus"] * ELEMENTS, "name": names, "source_id": names}
        writer.put_table("entity", TABLES["entity"].build(entity))
        writer.commit("a year")

    def branch(self, source: str = "year") -> str:
        """Branch a scenario and return the new name."""
        self.count += 1
        name = f"branch {self.count}"
        scenario_versions.branch(self.workspace, source, name)
        return name

    def edit(self, name: str, *edits: Edit) -> str:
        """Edit a scenario and return its name."""
        scenario_versions.edit(self.workspace, name, edits, _nothing)
        return name

    def bytes(self) -> int:
        """Bytes of the database and of the chunks."""
        with self.workspace.engine.connect() as connection:
            if self.workspace.engine.dialect.name == "postgresql":
                index = connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one()
            else:
                pages, size = (
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                    for name in ("page_count", "page_size")
                )
                index = pages * size
        return int(index) + sum(p.stat().st_size for p in (self.home / "store" / "chunks").rglob("*.parquet"))


def _nothing(before: object, after: object) -> list[Finding]:
    return []


_HOUR = Edit(NAME, "Bus 17", 1.1, Operation.SET, "4000")
_YEAR = Edit(NAME, "Bus 17", 1.1, Operation.SCALE)
_OTHER_HOUR = Edit(NAME, "Bus 18", 0.9, Operation.SET, "4001")
_ALL_OF_A_DAY = Edit(NAME, "*", 1.01, Operation.SCALE, "01-18")


def _versions(bench: Bench, year: _Versions, tool: str) -> None:
    """Branch, edit, compare and merge; how many bytes each adds."""
    first = "SQLite" in tool

    def measured(group: str, work: Callable[..., Any], prepare: Callable[[], tuple[Any, ...]], runs: int) -> None:
        with bench.doing(f"{tool}: {group}"):
            best_of(work, prepare=prepare, runs_max=1)
            before = year.bytes()
            times, _ = best_of(work, prepare=prepare, runs_max=runs, budget_s=10.0, warm_up=False)
            added = (year.bytes() - before) / times.runs
        note = f"Adds {added / 1e3:,.0f} kB"
        figures = {"added_bytes": added}
        bench.add(Row(group, ELEMENTS * HOURS_PER_YEAR, tool, "run", times, (), figures, note, reference=first))

    measured("branch the year", year.branch, tuple, BRANCHES)
    for group, edit in (
        ("branch, edit an hour of one element", _HOUR),
        ("branch, edit one element over the year", _YEAR),
        ("branch, edit a day of all elements", _ALL_OF_A_DAY),
    ):
        measured(group, lambda edit=edit: year.edit(year.branch(), edit), tuple, 6)
    small = [year.workspace.reader(name) for name in (year.edit(year.branch(), _HOUR), "year")]
    large = [year.workspace.reader(name) for name in (year.edit(year.branch(), _ALL_OF_A_DAY), "year")]
    for group, pair in (("diff of an hour", small), ("diff of a day of all elements", large)):
        measured(group, lambda pair=pair: difference(*pair), tuple, 6)

    def sides() -> tuple[str, str]:
        return year.edit(year.branch(), _HOUR), year.edit(year.branch(), _OTHER_HOUR)

    def merge(ours: str, theirs: str) -> None:
        scenario_versions.merge(year.workspace, ours, theirs, _nothing)

    measured("two branches edited an hour each, merged", lambda: merge(*sides()), tuple, 6)


# --- reading


def _reading(bench: Bench, year: _Versions) -> None:
    """Read a year as it is written now and as it was, in the layout that the reader chooses and in the other."""
    edited = year.edit(year.branch(), _HOUR)
    readers = {
        "months": year.workspace.reader("year"),
        "months, edited": year.workspace.reader(edited),
        "one file": year.workspace.reader(_uncut(year)),
    }
    held = {"months, edited": year.values.copy()}
    held["months, edited"][4000, 17] = _HOUR.value
    for group, hours, ids in (
        ("read one hour of all elements", slice(4000, 4001), None),
        ("read a day of all elements", slice(3984, 4008), None),
        ("read one element over the year", None, year.ids[17:18]),
        ("read everything", None, None),
    ):
        for label, reader in readers.items():
            chosen = _chosen(reader, hours, ids)
            wanted = held.get(label, year.values)[hours or slice(None)][:, [17] if ids else slice(None)]
            for layout in Layout:
                tool = f"{label}, {layout.value}"
                with bench.doing(f"{group}: {tool}"), _forced(layout):
                    times, found = best_of(partial(reader.series, NAME, hours, ids), runs_max=9)
                apart = float(np.abs(found.values - wanted).max())
                note = "The reader chooses this layout" if layout is chosen else ""
                first = label == "months" and layout is chosen
                accuracy = (Accuracy("values", apart, 0.0),)
                bench.add(Row(group, float(wanted.size), tool, "read", times, accuracy, {}, note, reference=first))


def _chosen(reader: ScenarioReader, hours: slice | None, ids: list[str] | None) -> Layout:
    reader.series(NAME, hours, ids)
    assert reader.last_plan is not None
    return reader.last_plan.layout


@contextmanager
def _forced(layout: Layout) -> Iterator[None]:
    """Make the reader take a layout."""
    cost = series_chunks._cost
    series_chunks._cost = lambda file, *rest: cost(file, *rest) + 10**12 * (file.layout is not layout)
    try:
        yield
    finally:
        series_chunks._cost = cost


def _uncut(year: _Versions) -> str:
    """Commit the year as versions once were written: one file a layout."""
    kind = pa.list_(pa.field("element", pa.float64(), nullable=False), ELEMENTS)
    by_hour = pa.Table.from_arrays(
        [pa.FixedSizeListArray.from_arrays(pa.array(year.values.ravel()), type=kind)],
        schema=pa.schema([pa.field("values", kind)], metadata={"series": NAME, "ids": json.dumps(year.ids)}),
    )
    columns = {"hour": np.arange(HOURS_PER_YEAR)} | {i: year.values[:, k].copy() for k, i in enumerate(year.ids)}
    detail = {"first_hour": 0, "hours": HOURS_PER_YEAR, "elements": ELEMENTS}
    chunks = [
        Chunk(f"series/{NAME}/{layout.value}", stored.digest, HOURS_PER_YEAR, stored.bytes, detail)
        for layout, table, group in (
            (Layout.BY_HOUR, by_hour, series_chunks.HOURS_PER_ROW_GROUP),
            (Layout.BY_DEVICE, pa.table(columns), HOURS_PER_YEAR),
        )
        for stored in [year.workspace.store.put_chunk(table, group)]
    ]
    year.workspace.scenarios.create("uncut")
    return year.workspace.scenarios.add_version("uncut", chunks).id
