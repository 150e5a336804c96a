"""Months of series as chunks: overlays of single edits, what they share, and series that are not cut."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from bos_core.access import series_chunks
from bos_core.access.scenario_data import ScenarioReader, ScenarioWriter
from bos_core.access.series_chunks import Layout, SeriesChunks
from bos_core.access.store import ResultStore
from bos_core.index.scenarios import Chunk, ScenarioIndex
from bos_core.objects.errors import InputError, NotFoundError

HOURS, ELEMENTS = 1500, 20
"""January, February and the first hours of March."""


@pytest.fixture
def index(engine: Engine) -> ScenarioIndex:
    return ScenarioIndex(engine, "ada", "p")


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(HOURS, ELEMENTS)).round(3)


@pytest.fixture
def base(store: ResultStore, index: ScenarioIndex, values: np.ndarray) -> str:
    writer = ScenarioWriter(store, index, scenario="base")
    writer.put_series("load.p_mw", names(), values)
    return writer.commit("import")


def names(n: int = ELEMENTS) -> list[str]:
    return [f"load-{k}" for k in range(n)]


def keys(index: ScenarioIndex, version: str, kind: str = "edit") -> list[str]:
    return [key for key in index.chunks(version) if key.startswith(f"{kind}/")]


def test_an_edit_of_one_value_writes_one_small_chunk(
    store: ResultStore, index: ScenarioIndex, base: str, values: np.ndarray
) -> None:
    writer = ScenarioWriter(store, index, base)
    assert writer.edit_series("load.p_mw", slice(800, 801), ["load-7"], np.array([[5]])) == 1
    assert writer.bytes_written < 3000
    version = writer.commit("edit")
    assert keys(index, version) == ["edit/load.p_mw/02"]
    before, after = index.chunks(base), index.chunks(version)
    assert all(after[key] == chunk for key, chunk in before.items())
    reader = ScenarioReader(store, index, version)
    values[800, 7] = 5.0
    np.testing.assert_array_equal(reader.series("load.p_mw").values, values)
    assert ScenarioReader(store, index, base).aligned("load.p_mw", ["load-7"], slice(800, 801))[0, 0] != 5.0


@pytest.mark.parametrize("layout", list(Layout))
def test_both_layouts_see_the_edit(
    store: ResultStore, index: ScenarioIndex, base: str, values: np.ndarray, layout: Layout
) -> None:
    writer = ScenarioWriter(store, index, base)
    writer.edit_series("load.p_mw", slice(740, 750), ["load-3", "load-1"], np.full((10, 2), 9.5))
    values[740:750, [3, 1]] = 9.5
    reader = ScenarioReader(store, index, writer.commit("edit"))
    cost = series_chunks._cost
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series_chunks, "_cost", lambda f, *a: cost(f, *a) + 10**9 * (f.layout is not layout))
        for hours, picked in (
            (slice(0, HOURS), None),
            (slice(745, 746), [5, 3, 3, 0, 1]),
            (slice(700, 760), [1, 1]),
            (slice(0, 700), [3]),
            (slice(743, 745), []),
        ):
            ids = None if picked is None else [f"load-{k}" for k in picked]
            found = reader.series("load.p_mw", hours, ids).values
            wanted = values[hours] if picked is None else values[hours][:, picked]
            np.testing.assert_array_equal(found, wanted)
            assert reader.last_plan is not None
            assert reader.last_plan.layout is layout


def test_what_is_edited_back_is_what_it_was(
    store: ResultStore, index: ScenarioIndex, base: str, values: np.ndarray
) -> None:
    first = ScenarioWriter(store, index, base)
    first.edit_series("load.p_mw", slice(3, 4), ["load-1"], np.array([[1e3]]))
    edited = first.commit("edit")
    second = ScenarioWriter(store, index, edited)
    second.edit_series("load.p_mw", slice(3, 4), ["load-1"], values[3:4, 1:2])
    back = second.commit("back")
    assert index.get(back).digest == index.get(base).digest != index.get(edited).digest
    assert back != base


def test_the_order_of_edits_does_not_count(store: ResultStore, index: ScenarioIndex, base: str) -> None:
    digests = []
    for order in ((0, 1, 2), (2, 0, 1)):
        writer = ScenarioWriter(store, index, base)
        for k in order:
            writer.edit_series("load.p_mw", slice(k, k + 1), [f"load-{k}"], np.array([[7.0]]))
        digests.append(index.get(writer.commit("edit")).digest)
    assert digests[0] == digests[1]


def test_many_edits_become_the_months_own_files(
    store: ResultStore, index: ScenarioIndex, base: str, values: np.ndarray
) -> None:
    writer = ScenarioWriter(store, index, base)
    writer.edit_series("load.p_mw", slice(700, 1000), names(), values[700:1000] * 1.1)
    version = writer.commit("edit")
    assert keys(index, version) == ["edit/load.p_mw/01"]
    before, after = index.chunks(base), index.chunks(version)
    changed = [key for key in before if before[key].digest != after[key].digest]
    assert changed == ["series/load.p_mw/by_device/02", "series/load.p_mw/by_hour/02"]
    values[700:1000] *= 1.1
    np.testing.assert_array_equal(ScenarioReader(store, index, version).series("load.p_mw").values, values)


def test_replacing_a_series_drops_its_edits(
    store: ResultStore, index: ScenarioIndex, base: str, values: np.ndarray
) -> None:
    writer = ScenarioWriter(store, index, base)
    writer.edit_series("load.p_mw", slice(3, 4), ["load-1"], np.array([[1e3]]))
    writer.put_series("load.p_mw", names(), values)
    assert index.get(writer.commit("again")).digest == index.get(base).digest
    dropped = ScenarioWriter(store, index, base)
    dropped.edit_series("load.p_mw", slice(3, 4), ["load-1"], np.array([[1e3]]))
    dropped.drop_series("load.p_mw")
    assert index.chunks(dropped.commit("gone")) == {}


def test_nothing_changed_is_nothing_written(
    store: ResultStore, index: ScenarioIndex, base: str, values: np.ndarray
) -> None:
    writer = ScenarioWriter(store, index, base)
    assert writer.edit_series("load.p_mw", slice(0, HOURS), names(), values) == 0
    assert writer.bytes_written == 0


def test_nan_is_a_value(store: ResultStore, index: ScenarioIndex) -> None:
    writer = ScenarioWriter(store, index, scenario="base")
    writer.put_series("bus.vm_set_pu", ["b"], np.array([[np.nan], [1.0]]))
    assert writer.edit_series("bus.vm_set_pu", slice(0, 2), ["b"], np.array([[np.nan], [np.nan]])) == 1
    reader = ScenarioReader(store, index, writer.commit("a"))
    assert np.isnan(reader.series("bus.vm_set_pu").values).all()


def test_bad_blocks_are_refused(store: ResultStore, index: ScenarioIndex, base: str) -> None:
    writer = ScenarioWriter(store, index, base)
    with pytest.raises(NotFoundError, match=r"there is load\.p_mw"):
        writer.edit_series("unit.p_mw", slice(0, 1), ["a"], np.zeros((1, 1)))
    with pytest.raises(NotFoundError, match="no element nobody"):
        writer.edit_series("load.p_mw", slice(0, 1), ["nobody"], np.zeros((1, 1)))
    for hours, rows in ((slice(1499, 1501), 2), (slice(0, 2), 3)):
        with pytest.raises(InputError, match="stay within hours 0 to 1499"):
            writer.edit_series("load.p_mw", hours, ["load-0"], np.zeros((rows, 1)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_history_of_edits_reads_as_the_array(
    store: ResultStore, index: ScenarioIndex, data: st.DataObject
) -> None:
    first, hours, elements = data.draw(st.integers(600, 760)), data.draw(st.integers(1, 900)), 5
    whole = np.random.default_rng(1).integers(0, 3, (hours, elements)).astype(float)
    writer = ScenarioWriter(store, index, scenario="base")
    writer.put_series("load.p_mw", names(elements), whole, first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series_chunks, "OVERLAY_CELLS_MAX", 40)
        for _ in range(data.draw(st.integers(1, 5))):
            start = data.draw(st.integers(0, hours - 1))
            stop = data.draw(st.integers(start + 1, min(hours, start + 30)))
            picked = data.draw(st.lists(st.integers(0, elements - 1), unique=True))
            block = np.full((stop - start, len(picked)), float(data.draw(st.integers(0, 3))))
            new = int((whole[start:stop, picked] != block).sum())
            ids = [f"load-{k}" for k in picked]
            assert writer.edit_series("load.p_mw", slice(first + start, first + stop), ids, block) == new
            whole[start:stop, picked] = block
            if data.draw(st.booleans()):
                writer = ScenarioWriter(store, index, writer.commit("next"))
    reader = ScenarioReader(store, index, writer.commit("last"))
    np.testing.assert_array_equal(reader.series("load.p_mw").values, whole)
    start = data.draw(st.integers(0, hours - 1))
    picked = data.draw(st.lists(st.integers(0, elements - 1), max_size=4))
    part = reader.series("load.p_mw", slice(first + start, first + hours), [f"load-{k}" for k in picked])
    np.testing.assert_array_equal(part.values, whole[start:][:, picked])


# --- versions from before months were cut


def uncut(store: ResultStore, index: ScenarioIndex, ids: list[str], values: np.ndarray, first: int) -> str:
    """Commit a series as it was written then: one file a layout, by device a column an element."""
    hours, elements = values.shape
    kind = pa.list_(pa.field("element", pa.float64(), nullable=False), elements)
    by_hour = pa.Table.from_arrays(
        [pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=kind)],
        schema=pa.schema([pa.field("values", kind)], metadata={"series": "load.p_mw", "ids": json.dumps(ids)}),
    )
    by_device = pa.table(
        {"hour": np.arange(first, first + hours), **{i: values[:, k] for k, i in enumerate(ids)}}
    ).replace_schema_metadata({"series": "load.p_mw"})
    detail = {"first_hour": first, "hours": hours, "elements": elements}
    chunks = [
        Chunk(f"series/load.p_mw/{layout}", store.put_chunk(table, group).digest, hours, table.nbytes, detail)
        for layout, table, group in ((Layout.BY_HOUR, by_hour, 24), (Layout.BY_DEVICE, by_device, 8760))
    ]
    index.create("old")
    return index.add_version("old", chunks).id


@pytest.mark.parametrize("layout", list(Layout))
def test_versions_with_one_file_a_layout_stay_readable(
    store: ResultStore, index: ScenarioIndex, values: np.ndarray, layout: Layout
) -> None:
    version = uncut(store, index, names(), values, 100)
    reader = ScenarioReader(store, index, version)
    cost = series_chunks._cost
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series_chunks, "_cost", lambda f, *a: cost(f, *a) + 10**9 * (f.layout is not layout))
        np.testing.assert_array_equal(reader.series("load.p_mw").values, values)
        found = reader.series("load.p_mw", slice(900, 1000), ["load-4", "load-4", "load-0"])
        np.testing.assert_array_equal(found.values, values[800:900][:, [4, 4, 0]])
        assert reader.last_plan is not None
        assert reader.last_plan.layout is layout
        assert len(reader.last_plan.addresses) == 1
    assert reader.hours("load.p_mw") == slice(100, 1600)
    assert reader.elements("load.p_mw").tolist() == names()


def test_a_single_edit_leaves_an_uncut_series_uncut(
    store: ResultStore, index: ScenarioIndex, values: np.ndarray
) -> None:
    writer = ScenarioWriter(store, index, uncut(store, index, names(), values, 100))
    writer.edit_series("load.p_mw", slice(900, 901), ["load-3"], np.array([[77.0]]))
    values[800, 3] = 77.0
    version = writer.commit("edit")
    assert sorted(index.chunks(version)) == [
        "edit/load.p_mw/02", "series/load.p_mw/by_device", "series/load.p_mw/by_hour"
    ]  # fmt: skip
    np.testing.assert_array_equal(ScenarioReader(store, index, version).series("load.p_mw").values, values)


def test_a_large_edit_cuts_it(store: ResultStore, index: ScenarioIndex, values: np.ndarray) -> None:
    writer = ScenarioWriter(store, index, uncut(store, index, names(), values, 100))
    writer.edit_series("load.p_mw", slice(200, 201), ["load-3"], np.array([[77.0]]))
    writer.edit_series("load.p_mw", slice(900, 1300), names(), values[800:1200] * 2)
    values[800:1200] *= 2
    values[100, 3] = 77.0
    version = writer.commit("edit")
    assert keys(index, version) == []
    assert keys(index, version, "series") == [
        f"series/load.p_mw/{layout}/{month:02d}" for layout in ("by_device", "by_hour") for month in (1, 2, 3)
    ]
    np.testing.assert_array_equal(ScenarioReader(store, index, version).series("load.p_mw").values, values)


def test_fingerprints_say_which_months_may_differ(store: ResultStore, index: ScenarioIndex, base: str) -> None:
    writer = ScenarioWriter(store, index, base)
    writer.edit_series("load.p_mw", slice(800, 801), ["load-7"], np.array([[5]]))
    one, two = (
        SeriesChunks(store, index.chunks(version)).fingerprints("load.p_mw")
        for version in (base, writer.commit("edit"))
    )
    assert list(one) == list(two) == [1, 2, 3]
    assert [month for month in one if one[month] != two[month]] == [2]
