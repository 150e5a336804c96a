import base64
import dataclasses
import io
import json
import re
import zlib

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from bos_core.objects.errors import InputError, StorageError
from bos_core.report import data as rd
from bos_core.report import violations
from bos_core.report.blocks import PackStore
from bos_core.report.page import render, write
from bos_core.report.sections_method import arrow_cells
from bos_core.report.sections_operation import dispatch_section
from bos_core.report.sections_schedule import schedule_section
from bos_core.report.sections_security import contingency_section, contingency_severity

SECTIONS = [
    *("summary", "table6", "network", "schedule", "contingency", "dispatch", "costs", "use", "commitment"),
    *("security", "adjustment", "method", "annual", "provenance"),
]


@pytest.fixture(scope="module")
def small(example):
    return example.make(48, 40, 70, 30)


@pytest.fixture(scope="module")
def tiny(example):
    return dataclasses.replace(example.make(6, 12, 16, 12), annual=None)


def page_of(html):
    return json.loads(re.search(r'<script type="application/json" id="page">(.*?)</script>', html, re.S)[1])


def test_every_section_is_there_and_in_the_contents(small):
    html = render(small)
    for name in SECTIONS:
        assert f'id="{name}"' in html
        assert f'href="#{name}"' in html


def test_every_chart_has_a_place_and_every_pack_its_data(small):
    html = render(small)
    page = page_of(html)
    for name in page["charts"]:
        assert f'id="{name}"' in html
    used = set(re.findall(r'"pack":"(p\d+)"', json.dumps(page["charts"], separators=(",", ":"))))
    assert used == set(page["packs"])
    for name in used:
        assert f'id="pack-{name}"' in html


def test_every_axis_has_a_title_with_its_quantity(small):
    for name, chart in page_of(render(small))["charts"].items():
        if chart["kind"] != "figure" or name.startswith("network"):
            continue
        for view in chart["views"]:
            heat = view["data"][0]["type"] == "heatmap"
            ranking = view["data"][0].get("orientation") == "h"
            if not heat:
                assert view["layout"]["xaxis" if ranking else "yaxis"]["title"]["text"], name
            else:
                assert view["data"][0]["colorbar"]["title"]["text"], name


def test_nothing_is_loaded_from_elsewhere(small):
    html = render(small)
    own = re.sub(r'<script type="text/plain".*?</script>', "", html, flags=re.S)
    assert not re.search(r'(src|href)="(?!#)', own)
    assert "default-src 'none'" in html
    assert "url(" not in own


def test_same_data_give_the_same_bytes(tiny):
    assert render(tiny) == render(tiny)


def carried(html):
    """The file of violations inside a page."""
    data = re.search(r'data-file="violations.csv".*?<script type="text/plain">(.*?)</script>', html, re.S)[1]
    return csv.read_csv(io.BytesIO(zlib.decompress(base64.b64decode(data))))


class TestViolations:
    def test_the_file_holds_every_violation(self, small):
        left = small.security.remaining
        rows = carried(render(small))
        assert rows.num_rows == left.num_rows > 0
        assert rows.column_names == ["time", *[name for name in left.column_names if name != "hour"]]
        assert rows["element"].to_pylist() == left["element"].to_pylist()
        assert rows["value"].to_numpy() == pytest.approx(left["value"].to_numpy(), abs=1e-5)

    def test_what_does_not_fit_is_left_out_and_named(self, small, monkeypatch):
        whole = render(small)
        monkeypatch.setattr("bos_core.report.sections_security.FILE_BYTES_MAX", 250)
        monkeypatch.setattr("bos_core.report.sections_security.GROUPS_SHOWN", 3)
        monkeypatch.setattr("bos_core.report.sections_security.GROUPS_FOLDED", 5)
        html = render(small)
        assert 0 < carried(html).num_rows < carried(whole).num_rows
        assert "the others are left out" in html
        assert "the 3 elements with the worst are shown" in html
        assert "2 more elements" in html
        assert "elements are left out here" in html

    def test_none_left_is_said(self, small):
        security = dataclasses.replace(small.security, remaining=violations.table([]))
        assert "Nothing is violated any more" in render(dataclasses.replace(small, security=security))


def test_names_cannot_break_out_of_the_page(small):
    nasty = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    head = dataclasses.replace(small.head, title=nasty, outcome=nasty)
    names = small.schedule.bus_name.astype("U80")
    names[0] = nasty
    pairs = (dataclasses.replace(small.security.worst[0], contingency=nasty),)
    html = render(
        dataclasses.replace(
            small,
            head=head,
            schedule=dataclasses.replace(small.schedule, bus_name=names),
            security=dataclasses.replace(small.security, worst=pairs),
        )
    )
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert nasty in page_of(html)["charts"]["schedule-7"]["names"]


def test_a_run_that_has_nothing_yet_says_so(small):
    html = render(rd.ReportData(head=small.head))
    for name in SECTIONS:
        assert f'id="{name}"' in html
    assert html.count("not available") >= 15
    assert page_of(html)["charts"] == {}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(rd.Schedule)])
def test_any_missing_field_of_the_schedule_is_survived(tiny, field):
    without = dataclasses.replace(tiny.schedule, **{field: None})
    render(dataclasses.replace(tiny, schedule=without))


@pytest.mark.parametrize(
    "field",
    [f.name for f in dataclasses.fields(rd.ReportData) if f.name not in {"head", "figures"}],
)
def test_any_missing_part_is_survived(tiny, field):
    empty = () if field in {"programs", "table6", "provenance"} else None
    render(dataclasses.replace(tiny, **{field: empty}))


def test_elements_that_a_network_lacks(small):
    none = dataclasses.replace(
        small.schedule,
        svg_name=np.array([], "U1"),
        svg_q_mvar=np.zeros((48, 0)),
        storage_name=np.array([], "U1"),
        storage_p_mw=np.zeros((48, 0)),
        storage_energy_mwh=np.zeros((48, 0)),
        hvdc_name=np.array([], "U1"),
        hvdc_p_mw=np.zeros((48, 0)),
    )
    html = render(dataclasses.replace(small, schedule=none))
    assert html.count("The network has none.") == 3


def test_one_hour_is_enough(example):
    render(example.make(1, 10, 15, 12))


def test_hours_that_are_not_known_yet_are_gaps(small):
    losses = small.schedule.losses_mw.copy()
    losses[10:] = np.nan
    voltage = small.schedule.bus_vm_pu.copy()
    voltage[20] = np.nan
    render(
        dataclasses.replace(
            small, schedule=dataclasses.replace(small.schedule, losses_mw=losses, bus_vm_pu=voltage)
        )
    )


def test_arrays_that_do_not_fit_are_all_named(small):
    bad = dataclasses.replace(
        small,
        head=dataclasses.replace(small.head, start="yesterday"),
        schedule=dataclasses.replace(
            small.schedule, load_mw=np.zeros(7), bus_name=np.array(["a"]), unit_p_mw=np.zeros(3)
        ),
    )
    with pytest.raises(InputError) as caught:
        render(bad)
    text = str(caught.value)
    for part in ("start", "load_mw", "bus_base_kv", "unit_p_mw"):
        assert part in text


class TestChoice:
    def test_a_long_run_keeps_the_elements_that_vary_most_and_says_so(self, small, monkeypatch):
        monkeypatch.setattr("bos_core.report.sections_schedule.CURVE_VALUES_MAX", 48 * 25)
        buses = schedule_section(small, PackStore()).blocks[-1]
        assert "25 of 40 buses" in buses.note
        spread = np.ptp(small.schedule.bus_vm_pu, axis=0)
        assert set(buses.names) == set(small.schedule.bus_name[np.argsort(-spread)[:25]])

    def test_contingencies_are_sorted_by_severity_and_the_choice_is_named(self, example):
        small = example.make(24, 40, 70, 20).contingencies
        severity = contingency_severity(small)
        worst = int(np.argmax(severity))
        data = rd.ReportData(
            head=example.make(24, 10, 12, 5).head, contingencies=dataclasses.replace(small, total=99)
        )
        block = contingency_section(data, PackStore()).blocks[0]
        assert block.names[0] == small.name[worst]
        assert "The 70 most severe of 99" in block.note

    def test_a_diverged_hour_weighs_more_than_any_overload(self):
        loading = np.array([[1.9, np.nan, 0.2], [1.9, 0.5, 0.3]])
        outcome = np.array([[0, 2, 0], [0, 0, 0]])
        ones = np.where(np.isnan(loading), np.nan, 1.0)
        severity = contingency_severity(
            rd.Contingencies(np.array(["a", "b", "c"]), 3, outcome, loading, ones, ones)
        )
        assert list(np.argsort(-severity)) == [1, 0, 2]

    def test_a_low_voltage_is_severe(self):
        loading = np.full((2, 2), 0.5)
        low = np.array([[0.95, 0.88], [0.95, 0.95]])
        zero = np.zeros((2, 2), int)
        severity = contingency_severity(rd.Contingencies(np.array(["a", "b"]), 2, zero, loading, low, low * 0 + 1))
        assert severity[1] > severity[0]


def test_energy_balance_adds_up(small):
    table = next(b for b in dispatch_section(small).blocks if getattr(b, "title", "") == "Energy balance")
    value = {row[0]: float(row[1].replace("\u202f", "")) for row in table.cells.rows}
    remainder = float(table.cells.total[1].replace("\u202f", ""))
    assert sum(value.values()) == pytest.approx(remainder, abs=0.1 * len(value))
    assert value["Load"] == pytest.approx(-small.schedule.load_mw.sum() / 1e3, abs=0.06)


def test_columns_of_a_table_take_their_unit_from_schema_or_name():
    schema = pa.schema(
        [
            pa.field("step", pa.string()),
            pa.field("vm_min", pa.float64(), metadata={"unit": "p.u."}),
            ("flow_mw", pa.float64()),
        ]
    )
    table = pa.table({"step": ["a"], "vm_min": [0.95], "flow_mw": [None]}, schema=schema)
    cells, text = arrow_cells(table)
    assert cells.header == ("Step", "V min in p.u.", "Flow in MW")
    assert cells.rows == (("a", "0.9500", "–"),)
    assert text == (0,)


class TestWrite:
    def test_writes_the_page_whole(self, tiny, tmp_path):
        path = write(tiny, tmp_path / "deep" / "report.html")
        assert path.read_text(encoding="utf-8") == render(tiny)
        assert [p.name for p in path.parent.iterdir()] == ["report.html"]

    def test_a_place_that_cannot_be_written_is_named(self, tiny, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="choose a directory that can be written"):
            write(tiny, tmp_path / "file" / "report.html")

    def test_a_failed_write_leaves_the_old_report(self, tiny, tmp_path, monkeypatch):
        path = write(tiny, tmp_path / "report.html")
        before = path.read_bytes()

        def full(self, target):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("pathlib.Path.replace", full)
        with pytest.raises(StorageError, match="No space left"):
            write(tiny, path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
