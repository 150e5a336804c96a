"""Scenario versions: copy on write, the two layouts, types, and what a reader says when it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from bos_core.access import scenario_data, series_chunks
from bos_core.access.scenario_data import ScenarioReader, ScenarioWriter
from bos_core.access.series_chunks import Layout, Recent
from bos_core.access.store import ResultStore
from bos_core.grid.assembly import MISSING_INT
from bos_core.index.scenarios import ScenarioIndex
from bos_core.objects.columns import numpy_columns
from bos_core.objects.errors import InputError, NotFoundError
from bos_core.objects.ontology import TABLES, months_between


@pytest.fixture
def index(engine: Engine) -> ScenarioIndex:
    return ScenarioIndex(engine, "ada", "p")


@pytest.fixture
def writer(store: ResultStore, index: ScenarioIndex) -> ScenarioWriter:
    return ScenarioWriter(store, index, scenario="base")


def regions(*names: str) -> pa.Table:
    return TABLES["region"].build({"id": list(names), "name": list(names), "system": ["s"] * len(names)})


def names(n: int) -> list[str]:
    return [f"unit-{k}" for k in range(n)]


def walk(hours: int, elements: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(hours, elements)).cumsum(axis=0)


def files(store: ResultStore) -> list[str]:
    return [address for address, _ in store.walk("chunks")]


# --- tables and versions


def test_tables_come_back(store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter) -> None:
    writer.put_table("region", regions("north", "south"))
    reader = ScenarioReader(store, index, writer.commit("import"))
    assert reader.table("region").equals(regions("north", "south"))
    assert reader.table("region").schema.field("name").metadata[b"doc"] == b"region name"
    assert reader.table("bus").num_rows == 0
    assert reader.table("bus").schema.equals(TABLES["bus"].arrow)
    assert reader.has("region")
    assert not reader.has("bus")
    assert reader.tables() == ["region"]
    with pytest.raises(NotFoundError, match="no table 'nothing'"):
        reader.table("nothing")


def test_nothing_is_visible_before_commit(
    store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter
) -> None:
    writer.put_table("region", regions("north"))
    assert files(store)
    with pytest.raises(NotFoundError):
        index.get("base")


def test_bad_tables_give_every_finding(store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter) -> None:
    bad = pa.table({"id": ["a", "a"], "name": pa.array([1, 2]), "color": ["red", "red"]})
    with pytest.raises(InputError) as error:
        writer.put_table("region", bad)
    assert {(f.field, f.ids) for f in error.value.findings} == {("name", ()), ("system", ()), ("", ("color",))}
    with pytest.raises(InputError, match="not part of the ontology"):
        writer.put_table("nothing", bad)
    with pytest.raises(InputError, match="more than once"):
        writer.put_table("region", regions("north", "north"))
    assert files(store) == []


def test_unchanged_chunks_are_shared_with_the_parent(
    store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter
) -> None:
    writer.put_table("region", regions("north"))
    writer.put_series("unit.p_mw", names(3), walk(48, 3))
    parent = writer.commit("import")
    before = files(store)
    child = ScenarioWriter(store, index, parent)
    child.put_series("load.p_mw", ["l"], walk(48, 1))
    version = child.commit("backfill", step="annual_states")
    assert len(files(store)) == len(before) + 2
    old, new = index.chunks(parent), index.chunks(version)
    assert all(new[key] == chunk for key, chunk in old.items())
    assert index.get(version).parent == parent
    assert not ScenarioReader(store, index, parent).has("load.p_mw")
    reader = ScenarioReader(store, index, version)
    assert reader.series_names() == ["load.p_mw", "unit.p_mw"]
    assert reader.tables_digest == ScenarioReader(store, index, parent).tables_digest
    assert reader.digest != ScenarioReader(store, index, parent).digest


def test_equal_content_has_an_equal_digest(store: ResultStore, index: ScenarioIndex) -> None:
    digests = set()
    for name in ("one", "two"):
        writer = ScenarioWriter(store, index, scenario=name)
        writer.put_table("region", regions("north"))
        writer.put_series("unit.p_mw", names(3), walk(48, 3))
        digests.add(ScenarioReader(store, index, writer.commit("x")).digest)
    assert len(digests) == 1
    assert len(files(store)) == 3


def test_putting_back_the_same_content_gives_the_old_digest(
    store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter
) -> None:
    writer.put_table("region", regions("north"))
    first = writer.commit("a")
    child = ScenarioWriter(store, index, first)
    child.put_table("region", regions("south"))
    second = child.commit("b")
    grandchild = ScenarioWriter(store, index, second)
    grandchild.put_table("region", regions("north"))
    third = grandchild.commit("c")
    assert index.get(third).digest == index.get(first).digest != index.get(second).digest
    assert [v.number for v in index.chain(third)] == [3, 2, 1]


def test_dropping(store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter) -> None:
    writer.put_table("region", regions("north"))
    writer.put_series("unit.on", names(2), np.ones((3, 2), bool))
    child = ScenarioWriter(store, index, writer.commit("a"))
    child.drop_table("region")
    child.drop_table("bus")
    child.drop_series("unit.on")
    reader = ScenarioReader(store, index, child.commit("b"))
    assert reader.tables() == reader.series_names() == []


def test_a_branch_into_another_scenario(store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter) -> None:
    writer.put_table("region", regions("north"))
    parent = writer.commit("a")
    what_if = ScenarioWriter(store, index, parent, scenario="what-if").commit("branched")
    assert index.get(what_if).label == "what-if@1"
    assert index.get(what_if).parent == parent
    with pytest.raises(InputError, match="name one"):
        ScenarioWriter(store, index)
    with pytest.raises(InputError, match="no scenario name"):
        ScenarioWriter(store, index, scenario="base@1")


# --- series


@pytest.mark.parametrize(
    ("series", "values"),
    [
        ("unit.p_mw", walk(50, 4)),
        ("unit.on", np.random.default_rng(2).random((50, 4)) > 0.5),
        ("branch.tap", np.random.default_rng(3).integers(-9, 9, (50, 4))),
        ("bus.vm_set_pu", np.where(np.random.default_rng(4).random((50, 4)) > 0.5, np.nan, 1.02)),
    ],
)
@pytest.mark.parametrize("layout", list(Layout))
def test_series_keep_values_and_types_in_both_layouts(
    store: ResultStore,
    index: ScenarioIndex,
    writer: ScenarioWriter,
    monkeypatch: pytest.MonkeyPatch,
    series: str,
    values: np.ndarray,
    layout: Layout,
) -> None:
    writer.put_series(series, names(4), values, first_hour=100)
    reader = ScenarioReader(store, index, writer.commit("a"))
    other = Layout.BY_DEVICE if layout is Layout.BY_HOUR else Layout.BY_HOUR
    monkeypatch.setattr(series_chunks, "_cost", _never(other))
    whole = reader.series(series)
    assert whole.values.dtype == values.dtype
    np.testing.assert_array_equal(whole.values, values)
    assert whole.ids.tolist() == names(4)
    assert whole.hours == slice(100, 150) == reader.hours(series)
    part = reader.series(series, slice(123, 125), ["unit-3", "unit-0", "unit-3"])
    np.testing.assert_array_equal(part.values, values[23:25][:, [3, 0, 3]])
    assert part.first_hour == 123
    assert reader.last_plan is not None
    assert reader.last_plan.layout is layout
    assert reader.aligned(series, np.array([], np.str_), slice(100, 110)).shape == (10, 0)
    assert reader.aligned(series, names(4), slice(110, 110)).shape == (0, 4)


def _never(layout: Layout) -> Any:
    cost = series_chunks._cost

    def forced(file: Any, *args: Any) -> int:
        return 10**12 if file.layout is layout else cost(file, *args)

    return forced


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_part_of_a_series_equals_the_part_of_the_array(
    store: ResultStore, index: ScenarioIndex, data: st.DataObject
) -> None:
    hours, elements = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 6))
    first = data.draw(st.integers(0, 8760 - hours))
    values = walk(hours, elements)
    writer = ScenarioWriter(store, index, scenario="base")
    writer.put_series("unit.p_mw", names(elements), values, first)
    reader = ScenarioReader(store, index, writer.commit("a"))
    start = data.draw(st.integers(0, hours))
    stop = data.draw(st.integers(start, hours))
    picked = data.draw(st.lists(st.integers(0, elements - 1), max_size=5))
    found = reader.series("unit.p_mw", slice(first + start, first + stop), [f"unit-{k}" for k in picked])
    np.testing.assert_array_equal(found.values, values[start:stop][:, picked])


def test_the_reader_chooses_the_file_that_fetches_less(
    store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter
) -> None:
    values = np.zeros((8760, 40))
    writer.put_series("unit.p_mw", names(40), values)
    version = writer.commit("a")
    reader, chunks = ScenarioReader(store, index, version), index.chunks(version)
    for hours, ids, layout in (
        (slice(100, 101), None, Layout.BY_HOUR),
        (slice(0, 168), None, Layout.BY_HOUR),
        (slice(0, 168), names(40), Layout.BY_HOUR),
        (None, names(1), Layout.BY_DEVICE),
        (None, names(10), Layout.BY_DEVICE),
        (slice(0, 8000), names(2), Layout.BY_DEVICE),
        (slice(0, 24), names(1), Layout.BY_HOUR),
        (None, None, Layout.BY_HOUR),
    ):
        reader.series("unit.p_mw", hours, ids)
        plan = reader.last_plan
        assert plan is not None
        assert plan.layout is layout, (hours, ids)
        months = months_between(*(slice(0, 8760) if hours is None else hours).indices(8760)[:2])
        keys = [f"series/unit.p_mw/{layout}/{month:02d}" for month in months]
        assert plan.addresses == tuple(store.chunk_address(chunks[key].digest) for key in keys)
        assert plan.cost_values[layout] == min(plan.cost_values.values())


def test_a_missing_layout_is_served_from_the_other(
    store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter
) -> None:
    values = walk(48, 3)
    writer.put_series("unit.p_mw", names(3), values)
    full = index.chunks(writer.commit("a"))
    for layout in Layout:
        key = f"series/unit.p_mw/{layout}/01"
        only = index.add_version("base", [full[key]], message=str(layout))
        reader = ScenarioReader(store, index, only.id)
        for hours, ids in ((slice(0, 1), None), (None, names(1))):
            reader.series("unit.p_mw", hours, ids)
            assert reader.last_plan is not None
            assert reader.last_plan.layout is layout


def test_the_files_are_as_documented(store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter) -> None:
    writer.put_series("unit.p_mw", names(20), walk(60, 20), first_hour=24)
    chunks = index.chunks(writer.commit("a"))
    root = Path(store.url)
    by_hour, by_device = (
        pq.ParquetFile(root / store.chunk_address(chunks[f"series/unit.p_mw/{layout}/01"].digest))
        for layout in Layout
    )
    assert [by_hour.metadata.row_group(k).num_rows for k in range(by_hour.num_row_groups)] == [24, 24, 12]
    assert by_hour.schema_arrow.field("values").type.list_size == 20
    assert [by_device.metadata.row_group(k).num_rows for k in range(by_device.num_row_groups)] == [16, 4]
    assert by_device.schema_arrow.field("values").type.list_size == 60
    for file in (by_hour, by_device):
        assert file.schema_arrow.names == ["values"]
        assert file.schema_arrow.field("values").metadata[b"unit"] == b"MW"
        assert json.loads(file.schema_arrow.metadata[b"ids"]) == names(20)
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    detail = dict(chunks["series/unit.p_mw/by_hour/01"].detail)
    assert (detail["first_hour"], detail["hours"], detail["elements"]) == (24, 60, 20)


def test_a_series_is_cut_by_month(store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter) -> None:
    values = walk(100, 3)
    writer.put_series("unit.p_mw", names(3), values, first_hour=700)
    parent = writer.commit("a")
    keys = [f"series/unit.p_mw/{layout}/{month}" for layout in ("by_device", "by_hour") for month in ("01", "02")]
    assert list(index.chunks(parent)) == keys
    assert [c.detail["hours"] for c in index.chunks(parent).values()] == [44, 56, 44, 56]
    child = ScenarioWriter(store, index, parent)
    values[:44] += 1.0
    child.put_series("unit.p_mw", names(3), values, first_hour=700)
    before, after = index.chunks(parent), index.chunks(child.commit("b"))
    assert [key for key in keys if before[key].digest == after[key].digest] == [keys[1], keys[3]]


def test_bad_series_give_every_finding(writer: ScenarioWriter) -> None:
    for series, ids, values, first_hour, words in (
        ("nothing", ["a"], np.zeros((1, 1)), 0, "not part of the ontology"),
        ("unit.p_mw", ["a"], np.zeros((3, 2)), 0, "shape"),
        ("unit.p_mw", ["a"], np.zeros(3), 0, "shape"),
        ("unit.p_mw", ["a"], np.zeros((0, 1)), 0, "covers 0 hours"),
        ("unit.p_mw", ["a"], np.zeros((2, 1)), 8759, "covers 2 hours from hour 8759"),
        ("unit.p_mw", ["a"], np.zeros((2, 1)), -1, "covers 2 hours from hour -1"),
        ("unit.p_mw", ["a", "a"], np.zeros((2, 2)), 0, "more than one column"),
        ("unit.on", ["a"], np.zeros((2, 1)), 0, "give bool values"),
        ("branch.tap", ["a"], np.zeros((2, 1)), 0, "give int64 values"),
        ("unit.p_mw", ["a"], np.array([["x"]]), 0, "give double values"),
    ):
        with pytest.raises(InputError, match=words):
            writer.put_series(series, ids, values, first_hour)
    with pytest.raises(InputError) as error:
        writer.put_series("unit.on", ["a", "a"], np.zeros((2, 3)), 0)
    assert len(error.value.findings) == 3


def test_what_a_series_lacks_is_named(store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter) -> None:
    writer.put_series("unit.p_mw", names(3), walk(24, 3), first_hour=48)
    reader = ScenarioReader(store, index, writer.commit("a"))
    for hours, ids, words in (
        (slice(0, 24), None, "covers hours 48 to 71, not 0 to 23"),
        (slice(60, 80), None, "not 60 to 79"),
        (slice(48, 72, 2), None, "without a step"),
        (slice(48, 49), ["nobody"], "no element nobody"),
        (None, ["unit-0", "nobody"], "no element nobody"),
    ):
        with pytest.raises(NotFoundError, match=words):
            reader.series("unit.p_mw", hours, ids)
    for call in (lambda: reader.series("load.p_mw"), lambda: reader.hours("load.p_mw")):
        with pytest.raises(NotFoundError, match=r"no series 'load\.p_mw'; it has unit\.p_mw"):
            call()


def test_a_series_without_elements(store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter) -> None:
    writer.put_series("svg.q_mvar", [], np.zeros((30, 0)))
    reader = ScenarioReader(store, index, writer.commit("a"))
    assert reader.has_series("svg.q_mvar")
    assert reader.series("svg.q_mvar").values.shape == (30, 0)
    assert reader.series("svg.q_mvar", slice(3, 5), []).values.shape == (2, 0)


# --- grid


def test_nulls_become_what_the_assembly_wants() -> None:
    schema = pa.schema([("x", pa.float64()), ("s", pa.string()), ("i", pa.int64()), ("b", pa.bool_())])
    table = pa.table([[1.0, None], ["a", None], [5, None], [True, None]], schema=schema)
    columns = numpy_columns(table)
    np.testing.assert_array_equal(columns["x"], [1.0, np.nan])
    assert columns["s"].tolist() == ["a", ""]
    assert columns["s"].dtype.kind == "U"
    assert columns["i"].tolist() == [5, MISSING_INT]
    assert columns["b"].tolist() == [True, False]
    assert {k: v.dtype.kind for k, v in numpy_columns(table.slice(0, 0)).items()} == {
        "x": "f", "s": "U", "i": "i", "b": "b"
    }  # fmt: skip


def test_the_grid_is_assembled_once_for_all_versions_with_these_tables(
    store: ResultStore, index: ScenarioIndex, writer: ScenarioWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def assemble(columns: Any) -> tuple[str, str]:
        calls.append(columns)
        return "grid", "snapshot"

    monkeypatch.setattr(scenario_data, "assemble", assemble)
    monkeypatch.setattr(scenario_data, "_GRIDS", Recent(2))
    writer.put_table("region", regions("north"))
    first = writer.commit("a")
    child = ScenarioWriter(store, index, first)
    child.put_series("unit.p_mw", names(1), walk(24, 1))
    second = child.commit("b")
    for version in (first, second, first):
        assert ScenarioReader(store, index, version).grid() == ("grid", "snapshot")
    assert len(calls) == 1
    assert calls[0]["region"]["name"].tolist() == ["north"]
    grandchild = ScenarioWriter(store, index, second)
    grandchild.put_table("region", regions("south"))
    ScenarioReader(store, index, grandchild.commit("c")).grid()
    assert len(calls) == 2
