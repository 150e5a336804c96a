"""Readers: what the numbers become, checked on small inputs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandapower.networks as pn
import pandas as pd
import pytest

from bos_core.exchange import ImportedGrid, Note, import_grid, to_columns, validate_tables
from bos_core.exchange.matpower import read_case, read_matpower
from bos_core.exchange.pandapower_net import NetReader
from bos_core.exchange.simbench_data import _is_joined, calendar_year, hourly, is_code
from bos_core.exchange.tables import OwnCost, TableBuilder
from bos_core.exchange.technology import figures, technologies
from bos_core.objects.errors import FormatError
from bos_core.objects.ontology import TABLES

YARDSTICKS = Path(__file__).parents[4] / "shared" / "yardsticks"
README = Path(__file__).parents[3] / "bos_core" / "exchange" / "README.md"

CASE = """function mpc = two
%% a comment with mpc.bus = [
mpc.version = '2';
mpc.baseMVA = 100;
mpc.bus = [
 1 3 0 0 0 0 1 1.02 5 110 1 1.1 0.9;
 2 1 50 10 1 -5 1 1 0 110 1 1.1 0.9; % trailing
 3 4 5 1 0 0 1 1 0 20 1 1.1 0.9;
];
mpc.gen = [1 50 0 Inf -40 1.02 100 1 90 20; 2 10 2 5 -5 1 100 1 20 0];
mpc.branch = [1 2 0.01 0.1 0.02 80 0 0 0 0 1; 2 3 0 0.2 0 0 0 0 0.98 30 1];
mpc.gencost = [2 300 7 3 0.02 20 100 0 0 0; 1 0 0 3 0 0 10 100 20 300];
mpc.bus_name = {'North 100%'; 'South'; 'Dead'};
mpc.genfuel = {'coal'; 'wind'};
"""


@pytest.fixture
def case(tmp_path: Path) -> Path:
    path = tmp_path / "two.m"
    path.write_text(CASE)
    return path


def finished(builder: TableBuilder) -> ImportedGrid:
    grid = builder.finish()
    assert validate_tables(grid.tables, grid.series) == []
    return grid


def test_matpower_case(case: Path) -> None:
    grid = finished(read_matpower(case))
    columns = to_columns(grid.tables)
    assert columns["entity"]["name"][:3].tolist() == ["North 100%", "South", "Dead"]
    assert columns["bus_state"]["in_service"].tolist() == [True, True, False]
    assert columns["bus_state"]["va_deg"][0] == 5.0
    assert columns["line"]["x_ohm"].tolist() == pytest.approx([12.1])
    assert columns["line"]["i_max_ka"].tolist() == pytest.approx([80 / (np.sqrt(3) * 110)])
    assert columns["transformer"]["rated_from_kv"].tolist() == pytest.approx([0.98 * 110])
    assert columns["transformer"]["shift_deg"].tolist() == [30.0]
    assert np.isinf(columns["transformer"]["i_max_from_ka"][0])
    assert columns["shunt"]["b_step_mvar"].tolist() == [-5.0]
    assert columns["unit"]["technology"].tolist() == ["hard_coal", "wind_onshore"]
    assert columns["unit"]["voltage_control"].tolist() == [True, False]
    assert columns["unit"]["q_mvar_max"].tolist() == [9999.0, 5.0]


def test_matpower_costs(case: Path) -> None:
    columns = to_columns(finished(read_matpower(case)).tables)
    segment = columns["cost_segment"]
    coal = columns["unit"]["id"][0]
    mine = segment["device"] == coal
    p = np.r_[segment["p_mw_from"][mine], segment["p_mw_to"][mine][-1]]
    np.testing.assert_allclose(p, np.linspace(20, 90, 4))
    no_load = columns["unit_cost"]["no_load_eur_per_h"][columns["unit_cost"]["device"] == coal][0]
    price = segment["marginal_eur_per_mwh"][mine]
    total = no_load + price[0] * p[0] + np.r_[0.0, np.cumsum(np.diff(p) * price)]
    np.testing.assert_allclose(total, 0.02 * p**2 + 20 * p + 100)
    starts = columns["start_cost"]
    assert starts["cost_eur"][starts["device"] == coal].tolist() == [300.0]


def test_matpower_text_is_parsed_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.m"
    path.write_text(CASE + "\nsystem('true');\n")
    assert read_case(path).base_mva == 100.0


@pytest.mark.parametrize("name", ["pglib_opf_case5_pjm", "pglib_opf_case14_ieee", "pglib_opf_case30_ieee"])
def test_pglib_cases_import(name: str) -> None:
    grid = import_grid(YARDSTICKS / "pglib_opf" / f"{name}.m")
    case = read_case(YARDSTICKS / "pglib_opf" / f"{name}.m")
    assert grid.tables["bus"].num_rows == len(case.matrix("bus"))
    branches = grid.tables["line"].num_rows + grid.tables["transformer"].num_rows
    assert branches == len(case.matrix("branch"))


def test_rts_gmlc_year() -> None:
    grid = import_grid(YARDSTICKS / "rts_gmlc")
    folder = YARDSTICKS / "rts_gmlc"
    series = grid.series["profile.value"]
    assert series.values.shape[0] == 8760
    columns = to_columns(grid.tables)
    assert columns["system"]["calendar_year"].tolist() == [2020]
    # Hour 1416 of the year without 29 February is 1 March 00:00.
    raw = pd.read_csv(folder / "timeseries" / "DAY_AHEAD_regional_Load.csv")
    march = raw[(raw.Month == 3) & (raw.Day == 1) & (raw.Period == 1)][["1", "2", "3"]].to_numpy().sum()
    rows = columns["profile_assignment"]
    place = {name: k for k, name in enumerate(series.elements)}
    mine = rows["quantity"] == "p_mw"
    at = [place[p] for p in rows["profile"][mine]]
    assert (series.values[1416, at] * rows["scale"][mine]).sum() == pytest.approx(march)
    unit = columns["unit"]
    names = dict(zip(columns["entity"]["id"], columns["entity"]["name"], strict=True))
    by_name = {names[i]: k for k, i in enumerate(unit["id"])}
    coal = by_name["101_STEAM_3"]
    assert unit["min_up_h"][coal] == 8
    assert unit["ramp_up_mw_per_h"][coal] == 120.0
    assert columns["storage"]["energy_mwh_max"].tolist() == [150.0]
    assert columns["storage"]["efficiency_charge"][0] ** 2 == pytest.approx(0.85)
    assert columns["hvdc"]["p_mw_max"].tolist() == [100.0]
    assert {"positive", "negative", "ramp_up"} <= set(columns["reserve_requirement"]["product"])
    assert len(columns["region"]["name"]) == 3
    # Heat rates: the cost of the first coal unit at full power.
    gen = pd.read_csv(folder / "SourceData" / "gen.csv").set_index("GEN UID").loc["101_STEAM_3"]
    p = np.array([float(gen[f"Output_pct_{k}"]) for k in range(4)]) * gen["PMax MW"]
    heat = float(gen["HR_avg_0"]) * p[0] + sum(float(gen[f"HR_incr_{k}"]) * (p[k] - p[k - 1]) for k in range(1, 4))
    device = unit["id"][coal]
    segments = columns["cost_segment"]
    own = segments["device"] == device
    width = segments["p_mw_to"][own] - segments["p_mw_from"][own]
    cost = columns["unit_cost"]
    no_load = cost["no_load_eur_per_h"][cost["device"] == device][0]
    price = segments["marginal_eur_per_mwh"][own]
    total = no_load + price[0] * p[0] + (width * price).sum()
    assert total == pytest.approx(heat * gen["Fuel Price $/MMBTU"] / 1000.0, rel=1e-6)


def test_simbench_year_has_8760_hours() -> None:
    time = pd.date_range("2016-01-01", periods=35136, freq="15min").strftime("%d.%m.%Y %H:%M")
    values = np.arange(35136.0)
    found = hourly(pd.DataFrame({"time": time, "x": values}))
    assert found.shape == (8760, 1)
    assert found["x"][0] == np.mean([0, 1, 2, 3])
    assert calendar_year(pd.DataFrame({"time": time, "x": values})) == 2016
    # 31 January + 28 days of February, then 1 March follows 28 February.
    last, first = found["x"][(31 + 28) * 24 - 1], found["x"][(31 + 28) * 24]
    assert first - last == 4 * 25
    with pytest.raises(FormatError, match="multiple of 8760"):
        hourly(pd.DataFrame({"time": time[:-3], "x": values[:-3]}))


def test_superseded_means_joined_not_merely_named() -> None:
    joined = {("MV1.101", "LV1.101"), ("LV1.101", "MV1.101")}
    assert _is_joined(joined, "MV1.101", "LV1.101")
    assert _is_joined(joined, "LV1.101", "MV1")
    assert not _is_joined(joined, "MV1.102", "LV1.101")
    assert not _is_joined(set(), "MV1.101", "LV1.101")


def test_simbench_codes_are_told_from_paths() -> None:
    assert is_code("1-complete_data-mixed-all-0-no_sw")
    assert is_code("1-EHV-mixed--0-sw")
    assert is_code("1-LV-semiurb5--2-no_sw")
    assert is_code("1-MVLV-rural-1.108-0-no_sw")
    assert not is_code("grid.zip")
    assert not is_code("1-EHV-mixed--0")


def test_technology_table_is_complete_and_cited() -> None:
    table = technologies()
    assert {"nuclear", "lignite", "hard_coal", "gas_ccgt", "gas_ocgt", "oil", "solar", "import", "other"} <= set(
        table.key
    )
    known = re.findall(r"^\| ([\w, -]+) \|", README.read_text(encoding="utf-8").split("## Sources")[1], re.M)
    keys = {key.strip() for row in known for key in row.split(",")} | {"assumption"}
    for technology, source in zip(table.key, table.source, strict=True):
        cited = [part.partition(": ") for part in source.split(" (")[0].split("; ")]
        columns = [c for _, _, named in cited for c in named.split(", ") if c not in ("all", "the rest")]
        assert {key for key, _, _ in cited} <= keys, technology
        assert cited[-1][0] == "assumption", technology
        assert len(set(columns)) == len(columns), technology
        assert set(columns) <= set(table.columns), technology
    for name, values in table.columns.items():
        assert np.isfinite(values).all(), name
    assert (table.columns["efficiency"] > 0).all()


def test_carbon_contents_are_those_of_the_ipcc() -> None:
    """2006 Guidelines, volume 2, table 2.2: kg CO2 a TJ, lower heating value."""
    table = technologies()
    content = dict(zip(table.key, table.columns["co2_t_per_mwh_th"].tolist(), strict=True))
    for technology, kg_per_tj in (
        ("lignite", 101_000),
        ("hard_coal", 94_600),
        ("gas_ccgt", 56_100),
        ("gas_ocgt", 56_100),
        ("oil", 77_400),
        ("waste", 91_700),
    ):
        assert content[technology] == pytest.approx(kg_per_tj * 3.6e-6, abs=5e-4), technology


def test_part_load_follows_the_heat_rates_of_rts_gmlc() -> None:
    gen = pd.read_csv(YARDSTICKS / "rts_gmlc" / "SourceData" / "gen.csv")
    table = technologies()
    for technology, groups in (
        ("hard_coal", ["U155", "U350"]),
        ("gas_ccgt", ["U355"]),
        ("gas_ocgt", ["U55"]),
        ("oil", ["U12"]),
    ):
        share, tilt = [], []
        for group in groups:
            unit = gen[gen["Unit Group"] == group].iloc[0]
            points = unit[[f"Output_pct_{k}" for k in range(4)]].astype(float).to_numpy()
            rates = unit[[f"HR_incr_{k}" for k in range(1, 4)]].astype(float).to_numpy()
            full = float(unit["HR_avg_0"]) * points[0] + (np.diff(points) * rates).sum()
            share.append((float(unit["HR_avg_0"]) - rates[0]) * points[0] / full)
            tilt.append(np.ptp(rates) / 2 / rates.mean())
        row = table.key.index(technology)
        assert table.columns["no_load_share"][row] == pytest.approx(np.mean(share), abs=5e-3), technology
        assert table.columns["segment_spread"][row] == pytest.approx(np.mean(tilt), abs=0.035), technology


def test_figures_are_convex_and_cover_the_range() -> None:
    keys = np.array(technologies().key)
    low, high = np.zeros(keys.size), np.full(keys.size, 200.0)
    found = figures(keys, low, high)
    for k in range(keys.size):
        own = found.segments["owner"] == k
        assert (np.diff(found.segments["marginal_eur_per_mwh"][own]) >= 0).all()
        assert found.segments["p_mw_to"][own][-1] == pytest.approx(200.0)
        expected = found.limits["p_mw_min"][k] if found.limits["committable"][k] else 0.0
        assert found.segments["p_mw_from"][own][0] == pytest.approx(expected)
    assert (found.limits["startup_mw"] >= found.limits["p_mw_min"]).all()
    again = figures(keys, low, high)
    np.testing.assert_array_equal(found.segments["marginal_eur_per_mwh"], again.segments["marginal_eur_per_mwh"])


def test_larger_units_are_more_efficient() -> None:
    found = figures(np.array(["hard_coal"] * 3), np.zeros(3), np.array([80.0, 400.0, 900.0]))
    assert (np.diff(found.cost["co2_t_per_mwh"]) < 0).all()


def test_costs_that_fall_are_merged() -> None:
    builder = TableBuilder("x")
    ids = builder.add_units(
        ["u"],
        ["U"],
        technology=np.array(["gas_ccgt"]),
        p_mw_min=np.zeros(1),
        p_mw_max=np.array([100.0]),
        bus="b",
        rated_mva=1.0,
        q_mvar_min=0.0,
        q_mvar_max=0.0,
        voltage_control=False,
    )
    builder.own_cost(ids[0], OwnCost(0.0, [(0, 20, 30.0), (20, 60, 10.0), (60, 100, 40.0)]))
    rows = builder.finish().tables["cost_segment"].to_pydict()
    assert rows["p_mw_from"] == [0.0, 60.0]
    assert rows["marginal_eur_per_mwh"] == pytest.approx([1000 / 60, 40.0])


def test_overlay_changes_and_adds(case: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "o.toml"
    overlay.write_text(
        """
[[set]]
table = "unit"
where = {technology = "hard_coal"}
values = {min_up_h = 9, must_run = true}

[[set]]
table = "load_state"
element = "load South"
values = {p_mw = 33}

[[add]]
table = "svg"
name = "SVG 1"
values = {bus = "South", q_mvar_min = -20, q_mvar_max = 30}
state = {vm_set_pu = 1.01}

[[add]]
table = "hvdc"
name = "Link"
[add.values]
from_bus = "North 100%"
to_bus = "South"
p_mw_min = -100
p_mw_max = 100
loss_percent = 1.5
loss_mw = 0
q_from_mvar_min = 0
q_from_mvar_max = 0
q_to_mvar_min = 0
q_to_mvar_max = 0
"""
    )
    grid = import_grid(case, overlay=overlay)
    columns = to_columns(grid.tables)
    assert columns["unit"]["min_up_h"][0] == 9
    assert columns["unit"]["must_run"].tolist() == [True, False]
    assert columns["load_state"]["p_mw"][0] == 33.0
    assert columns["svg_state"]["vm_set_pu"].tolist() == [1.01]
    assert columns["hvdc"]["loss_percent"].tolist() == [1.5]
    assert "Link" in columns["entity"]["name"]
    assert any("overlay o.toml" in str(n) for n in grid.notes)
    csv = tmp_path / "o.csv"
    csv.write_text("table,element,column,value\nunit,gen 1,p_mw_max,80\nline,branch 1 (1-2),i_max_ka,\n")
    columns = to_columns(import_grid(case, overlay=csv).tables)
    assert columns["unit"]["p_mw_max"][0] == 80.0
    assert np.isnan(columns["line"]["i_max_ka"][0])


def test_overlay_sets_the_calendar_year(case: Path, tmp_path: Path) -> None:
    assert import_grid(case).tables["system"]["calendar_year"].to_pylist() == [None]
    overlay = tmp_path / "o.toml"
    overlay.write_text('[[set]]\ntable = "system"\nelement = "two"\nvalues = {calendar_year = 2019}\n')
    assert import_grid(case, overlay=overlay).tables["system"]["calendar_year"].to_pylist() == [2019]


def test_own_loading_limits_are_kept() -> None:
    net = pn.case9()
    net.line["max_loading_percent"] = [80.0, np.nan, *[100.0] * (len(net.line) - 2)]
    columns = to_columns(NetReader(net, "net").read().finish().tables)
    assert columns["line"]["loading_max"][0] == 0.8
    assert np.isnan(columns["line"]["loading_max"][1])


def test_ids_are_stable_and_unique(case: Path) -> None:
    first, second = (import_grid(case).tables for _ in range(2))
    for name in TABLES:
        assert first[name].equals(second[name]), name
    ids = first["entity"]["id"].to_pylist()
    assert len(set(ids)) == len(ids)


def test_every_device_is_contained_and_connected() -> None:
    tables = import_grid("pandapower:example_multivoltage").tables
    contained = set(tables["contains"]["child"].to_pylist())
    assert set(tables["entity"]["id"].to_pylist()) <= contained
    pairs = {(r["device"], r["terminal"]) for r in tables["connects"].to_pylist()}
    for line in tables["line"]["id"].to_pylist():
        assert {(line, "from"), (line, "to")} <= pairs


def test_notes_read_as_sentences() -> None:
    assert str(Note("load", 3, "no profile: constant")) == "3 x load: no profile: constant"
