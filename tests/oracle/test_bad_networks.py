"""Bad networks: every message names the element and the next step."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pyarrow as pa
import pytest

from bos_core.exchange import (
    ImportedGrid,
    Series,
    export_grid,
    import_grid,
    to_columns,
    validate_grid,
    validate_tables,
)
from bos_core.exchange.pandapower_net import NetReader
from bos_core.grid.assembly import assemble
from bos_core.objects.errors import Finding, FormatError, GridError, InputError
from bos_core.objects.ontology import HOURS_PER_YEAR, TABLES

pytestmark = pytest.mark.filterwarnings("ignore")

YARDSTICKS = Path(__file__).parents[3] / "shared" / "yardsticks"


@pytest.fixture(scope="module")
def sound() -> ImportedGrid:
    """A grid with one of everything that can be broken."""
    net = pn.case9()
    for kind in ("bus", "line", "gen", "load", "ext_grid"):
        net[kind]["name"] = [f"{kind.title()} {k}" for k in net[kind].index]
    new = pp.create_bus(net, 110.0, name="Bus T")
    pp.create_transformer_from_parameters(
        net, 4, new, 100.0, 345.0, 110.0, 0.3, 10.0, 20.0, 0.1, name="Trafo 0", tap_side="hv", tap_pos=1,
        tap_neutral=0, tap_min=-5, tap_max=5, tap_step_percent=1.0, tap_changer_type="Ratio",
    )  # fmt: skip
    pp.create_shunt(net, new, q_mvar=-5.0, step=1, max_step=3, name="Shunt 0")
    pp.create_storage(net, new, 1.0, 10.0, name="Storage 0", min_q_mvar=-1.0, max_q_mvar=1.0)
    pp.create_dcline(net, 5, 7, 10.0, 1.0, 0.1, 1.0, 1.0, name="Dc 0", max_p_mw=50.0, in_service=False)
    pp.create_impedance(net, new, 5, 0.01, 0.1, 100.0, name="Impedance 0", in_service=False)
    pp.create_switch(net, 5, 2, "l", name="Switch 0")
    builder = NetReader(net, "sound").read()
    grid = builder.finish()
    assert validate_tables(grid.tables) == []
    return grid


def changed(grid: ImportedGrid, table: str, column: str, value: Any, row: int = 0) -> dict[str, pa.Table]:
    """Return the tables with one value replaced."""
    source = grid.tables[table]
    values = source.column(column).to_pylist()
    values[row] = value
    at = source.schema.get_field_index(column)
    field = source.schema.field(at).with_nullable(True)
    return {**grid.tables, table: source.set_column(at, field, pa.array(values, type=field.type))}


def assert_says(findings: list[Finding], element: str, *words: str) -> None:
    """Some finding names the element and holds the words; all have a next step."""
    texts = [str(f) for f in findings]
    assert any(element in t and all(w in t for w in words) for t in texts), texts
    assert all(f.remedy and f.problem for f in findings)


VALUES = [
    ("bus", "base_kv", 0.0, "Bus 0", "nominal voltage in kV"),
    ("bus", "base_kv", -110.0, "Bus 0", "-110"),
    ("bus", "base_kv", None, "Bus 0", "give base_kv"),
    ("bus", "vm_pu_min", 1.3, "Bus 0", "above vm_pu_max"),
    ("bus", "latitude_deg", 95.0, "Bus 0", "WGS 84"),
    ("line", "x_ohm", 0.0, "Line 0", "merge its buses or give x_ohm > 0"),
    ("line", "x_ohm", float("nan"), "Line 0", "x_ohm is missing or NaN"),
    ("line", "r_ohm", float("inf"), "Line 0", "infinite"),
    ("line", "i_max_ka", -1.0, "Line 0", "permanent rating"),
    ("line", "i_max_ka", 0.0, "Line 0", "nothing if unrated"),
    ("line", "from_bus", "bus 99", "Line 0", "bus 99"),
    ("line", "length_km", -3.0, "Line 0", "0 or more"),
    ("transformer", "x_pu", 0.0, "Trafo 0", "merge its buses or give x_pu > 0"),
    ("transformer", "rated_mva", 0.0, "Trafo 0", "rated power in MVA"),
    ("transformer", "rated_from_kv", 20.0, "Trafo 0", "swap its ends"),
    ("transformer", "tap_min", 9, "Trafo 0", "above tap_max"),
    ("transformer", "model", "star", "Trafo 0", "t, pi, gamma"),
    ("transformer", "tap_side", "hv", "Trafo 0", "from, to, none"),
    ("transformer", "loading_max", -1.0, "Trafo 0", "rated power"),
    ("equivalent_branch", "ratio", 0.0, "Impedance 0", "nominal ratio"),
    ("shunt", "step_min", 7, "Shunt 0", "above step_max"),
    ("shunt_state", "step", 9, "Shunt 0", "correct the step"),
    ("shunt", "bus", "bus 77", "Shunt 0", "bus 77"),
    ("unit", "p_mw_min", 900.0, "Ext_Grid 0", "above p_mw_max"),
    ("unit", "q_mvar_min", 1e5, "Ext_Grid 0", "above q_mvar_max"),
    ("unit", "ramp_up_mw_per_h", -5.0, "Ext_Grid 0", "0 or more"),
    ("unit", "technology", "", "Ext_Grid 0", "technology table"),
    ("unit", "bus", "bus 12", "Ext_Grid 0", "bus 12"),
    ("unit_state", "vm_set_pu", 345.0, "Ext_Grid 0", "per unit of base_kv"),
    ("unit_state", "vm_set_pu", None, "Ext_Grid 0", "give vm_set_pu"),
    ("load", "bus", "bus 42", "Load 0", "bus 42"),
    ("load", "share_z", 1.5, "Load 0", "0 to 1"),
    ("load_state", "p_mw", float("nan"), "Load 0", "p_mw is missing or NaN"),
    ("storage", "efficiency_charge", 1.4, "Storage 0", "up to 1"),
    ("storage", "energy_mwh_min", 1e6, "Storage 0", "above energy_mwh_max"),
    ("hvdc", "p_mw_min", 900.0, "Dc 0", "above p_mw_max"),
    ("hvdc", "loss_percent", 120.0, "Dc 0", "0 to 99"),
    ("switch", "element", "line 9", "Switch 0", "line 9"),
    ("cost_segment", "p_mw_from", 1e6, "Ext_Grid 0", "above p_mw_to"),
    ("system", "base_mva", 0.0, "system", "system base"),
    ("voltage_criterion", "vm_pu_min", 2.0, "voltage_criterion", "above vm_pu_max"),
    ("loading_criterion", "loading_max", 0.0, "loading_criterion", "1 for the rating"),
    ("reserve_requirement", "product", "spin", "reserve_requirement", "positive, negative"),
    ("reserve_requirement", "share_of_load", -0.1, "reserve_requirement", "0 or more"),
]


@pytest.mark.parametrize(("table", "column", "value", "element", "words"), VALUES)
def test_bad_value(sound: ImportedGrid, table: str, column: str, value: Any, element: str, words: str) -> None:
    assert_says(validate_tables(changed(sound, table, column, value)), element, words)


def test_one_import_reports_everything(sound: ImportedGrid) -> None:
    tables = sound.tables
    for table, column, value, _, _ in VALUES[5:25:4]:
        tables = changed(ImportedGrid(tables), table, column, value, 0)
    findings = validate_tables(tables)
    assert len(findings) >= 5


def test_duplicate_ids(sound: ImportedGrid) -> None:
    line = sound.tables["line"]
    assert_says(
        validate_tables({**sound.tables, "line": pa.concat_tables([line, line.slice(0, 1)])}),
        "Line 0",
        "more than once",
        "keep one",
    )


def test_missing_column_and_wrong_type(sound: ImportedGrid) -> None:
    line = sound.tables["line"]
    assert_says(validate_tables({**sound.tables, "line": line.drop_columns(["x_ohm"])}), "line.x_ohm", "add it")
    text = line.set_column(3, "r_ohm", line["r_ohm"].cast(pa.string()))
    assert_says(validate_tables({**sound.tables, "line": text}), "line.r_ohm", "give double")


def test_missing_state(sound: ImportedGrid) -> None:
    tables = {**sound.tables, "load_state": sound.tables["load_state"].slice(1)}
    assert_says(validate_tables(tables), "Load 0", "add its state")
    assert validate_tables(tables, need_state=False) == []


def test_tap_out_of_range(sound: ImportedGrid) -> None:
    row = sound.tables["branch_state"]["id"].to_pylist().index(sound.tables["transformer"]["id"][0].as_py())
    assert_says(validate_tables(changed(sound, "branch_state", "tap", 17, row)), "Trafo 0", "tap 17", "-5 to 5")


def test_no_slack(sound: ImportedGrid) -> None:
    bus = sound.tables["bus"]
    flags = pa.array([False] * bus.num_rows)
    tables = {**sound.tables, "bus": bus.set_column(bus.schema.get_field_index("slack"), "slack", flags)}
    tables["bus"] = tables["bus"].cast(TABLES["bus"].arrow)
    assert_says(validate_tables(tables), "bus.slack", "no bus is marked as slack", "largest unit")


def test_slack_without_a_unit(sound: ImportedGrid) -> None:
    assert_says(validate_tables(changed(sound, "unit_state", "in_service", False)), "bus.slack", "largest unit")


def test_island_is_named_with_its_size(sound: ImportedGrid) -> None:
    row = sound.tables["branch_state"]["id"].to_pylist().index(sound.tables["transformer"]["id"][0].as_py())
    findings = validate_tables(changed(sound, "branch_state", "in_service", False, row))
    assert_says(findings, "Bus T", "1 buses", "has no slack", "drop_islands=True")


def test_no_bus(sound: ImportedGrid) -> None:
    empty = {name: schema.empty() for name, schema in TABLES.items()}
    assert_says(validate_tables(empty), "grid", "has no bus")


def test_costs_that_fall_and_gaps(sound: ImportedGrid) -> None:
    rows = sound.tables["cost_segment"].to_pylist()
    several = next(r["device"] for r in rows if r["segment"] == 1)
    at = next(k for k, r in enumerate(rows) if r["device"] == several and r["segment"] == 1)
    cheaper = changed(sound, "cost_segment", "marginal_eur_per_mwh", 0.1, at)
    assert_says(validate_tables(cheaper), "Ext_Grid 0", "give a convex cost")
    gap = changed(sound, "cost_segment", "p_mw_from", rows[at]["p_mw_from"] - 1, at)
    assert_says(validate_tables(gap), "Ext_Grid 0", "follow")


def test_two_set_points_at_one_bus() -> None:
    net = pn.case9()
    pp.create_gen(net, 1, p_mw=1.0, vm_pu=0.97, name="Second", max_p_mw=5.0)
    tables = NetReader(net, "x").read().finish().tables
    assert_says(validate_tables(tables), "Second", "another unit holds its bus", "equal set points")


def test_profile_without_values_and_short_series(sound: ImportedGrid) -> None:
    load = sound.tables["load"]["id"][0].as_py()
    row = {"device": [load], "quantity": ["p_mw"], "profile": ["H0"], "scale": [1.0]}
    tables = {**sound.tables, "profile_assignment": TABLES["profile_assignment"].build(row)}
    assert_says(validate_tables(tables), "H0", "Load 0", "profile.value")
    short = {"profile.value": Series("profile.value", ("H0",), np.ones((8784, 1)))}
    assert_says(validate_tables(tables, short), "profile.value", "8784 hours", "8760")
    holes = np.ones((HOURS_PER_YEAR, 1))
    holes[5] = np.nan
    assert_says(
        validate_tables(tables, {"profile.value": Series("profile.value", ("H0",), holes)}), "H0", "gaps", "fill"
    )


def test_assembled_arrays_are_checked(sound: ImportedGrid) -> None:
    grid, snapshot = assemble(to_columns(sound.tables))
    assert validate_grid(grid, snapshot) == []
    x = grid.network.x_pu.copy()
    x[0] = 0.0
    broken = replace(grid, network=replace(grid.network, x_pu=x))
    assert_says(validate_grid(broken, snapshot), "Line 0", "x_pu is 0", "merge its buses or give x_pu > 0")
    units = replace(grid.units, p_mw_min=grid.units.p_mw_max + 1)
    load = replace(snapshot, load_p_mw=np.full(grid.loads.n, np.nan))
    findings = validate_grid(replace(grid, units=units), load)
    assert_says(findings, "Gen", "above p_mw_max")
    assert_says(findings, "Load 0", "p_mw is NaN")
    names = [f.name for f in fields(grid.network)]
    names = names[names.index("branch_id") : names.index("outage_candidate") + 1]
    last = grid.network.n_branch - 1
    assert grid.network.branch_name[last] == "Trafo 0"
    taps = [n for n in (f.name for f in fields(grid.network)) if n.startswith("tap")]
    cut = {n: getattr(grid.network, n)[:last] for n in names} | {n: getattr(grid.network, n)[:0] for n in taps}
    findings = validate_grid(replace(grid, network=replace(grid.network, **cut)), snapshot)
    assert_says(findings, "Bus T", "is not connected")


ELEMENTS: list[tuple[str, Callable[[Any], object], str, str]] = [
    ("svc", lambda n: pp.create_svc(n, 3, 1, -10, 1.0, 90, name="Svc 0"), "Svc 0", "svg overlay"),
    ("ssc", lambda n: pp.create_ssc(n, 3, 0.0, 5.0, 1.0, name="Ssc 0"), "Ssc 0", "take it out of service"),
    ("tcsc", lambda n: pp.create_tcsc(n, 3, 4, 1, -10, -50, 100, name="Tcsc 0"), "Tcsc 0", "dcline"),
    (
        "impedance",
        lambda n: pp.create_impedance(n, 3, 4, 0.1, 0.1, 10, rtf_pu=0.2, xtf_pu=0.1, name="Skew"),
        "Skew",
        "give rtf_pu = rft_pu",
    ),
]


@pytest.mark.parametrize(("kind", "make", "element", "words"), ELEMENTS)
def test_elements_that_cannot_be_imported(
    kind: str, make: Callable[[Any], object], element: str, words: str
) -> None:
    net = pn.case9()
    make(net)
    reader = NetReader(net, "x").read()
    assert_says(reader.findings, element, words)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


CASE = "mpc.version='2'; mpc.baseMVA = 100;\nmpc.bus = [1 3 0 0 0 0 1 1 0 110 1 1.1 0.9];\n"
GEN = "mpc.gen = [1 0 0 9 -9 1 100 1 9 0];\n"
BRANCH = "mpc.branch = [1 2 0 0.1 0 0 0 0 0 0 1];\n"

FILES: list[tuple[str, str | bytes, str]] = [
    ("grid.xyz", "hello", "give one of"),
    ("grid.m", "", "is empty"),
    ("grid.m", "hello world", "does not assign mpc"),
    ("grid.m", CASE + GEN, "has no mpc.branch"),
    ("grid.m", CASE + GEN + "mpc.branch = [1 2 0 0.1 0", "copy the whole file"),
    ("grid.m", CASE + GEN + "mpc.branch = [1 2 0 zero 0 0 0 0 0 0 1];", "'zero', not a number"),
    ("grid.m", CASE + GEN + "mpc.branch = [1 2 0 0.1];", "4 columns instead of 11"),
    ("grid.m", CASE + GEN + "mpc.branch = [1 2 0 1 0 0 0 0 0 0 1; 1 2 3];", "row 2 has 3 values"),
    ("grid.m", CASE + GEN + BRANCH + "mpc.branch(:,3) = 2 * mpc.branch(:,3);", "savecase"),
    ("grid.m", CASE.replace("100", "0") + GEN + BRANCH, "baseMVA is 0"),
    ("grid.m", CASE.replace("'2'", "'1'") + GEN + BRANCH, "version 1"),
    ("grid.mat", b"not a mat file", "savecase"),
    ("grid.json", "{", "pandapower.to_json"),
    ("grid.json", '{"a": 1}', "not a pandapower net"),
    ("grid.json", b"\xff\xfe\x00", "pandapower.to_json"),
    ("grid.zip", "no zip", "copy or export it again"),
    ("grid.raw", "garbage", "fits its suffix"),
    ("grid.xiidm", "<?xml version='1.0'?><a/>", "export it again"),
    ("grid.uct", "##C\nrubbish", "export it again"),
]


@pytest.mark.parametrize(("name", "content", "words"), FILES)
def test_bad_file(name: str, content: str | bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        import_grid(write(tmp_path / name, content))
    assert_says(list(caught.value.findings), name, words)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("no/such/file.m", "give an existing path"),
        ("1-EHV-mixed--9-no_sw", "give an existing path"),
        ("1-XYZ-mixed--0-no_sw", "use one of 1-"),
        ("pandapower:case99999", "use one of case"),
        ("pandapower:os", "is not a case"),
        ("pandapower:__doc__", "is not a case"),
    ],
)
def test_bad_source(source: str, words: str) -> None:
    with pytest.raises(FormatError) as caught:
        import_grid(source)
    assert_says(list(caught.value.findings), source.rpartition("/")[2][:10], words)


def test_folder_that_is_no_grid(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="RTS-GMLC"):
        import_grid(tmp_path)
    (tmp_path / "SourceData").mkdir()
    write(tmp_path / "SourceData" / "bus.csv", "Bus ID,BaseKV\n1,110\n")
    with pytest.raises(FormatError, match=r"bus\.csv.*lacks the columns Bus Type"):
        import_grid(tmp_path)


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("pandapower.control", "ConstControl"), ("subprocess", "Popen")],
)
def test_json_that_names_code_is_not_built(module: str, name: str, tmp_path: Path) -> None:
    content = json.loads(pp.to_json(pn.case4gs()))
    content["_object"]["extra"] = {"_module": module, "_class": name, "_object": "true"}
    with pytest.raises(FormatError) as caught:
        import_grid(write(tmp_path / "evil.json", json.dumps(content)))
    assert_says(list(caught.value.findings), "evil.json", f"{module}.{name}", "may run code")


def test_json_that_hides_code_in_a_table(tmp_path: Path) -> None:
    content = json.loads(pp.to_json(pn.case4gs()))
    inner = json.dumps({"_module": "os", "_class": "system", "_object": "true"})
    content["_object"]["bus"]["_object"] = json.dumps({"columns": ["a"], "index": [0], "data": [[inner]]})
    with pytest.raises(FormatError, match=r"os\.system"):
        import_grid(write(tmp_path / "evil.json", json.dumps(content)))


def test_truncated_and_altered_native_file(sound: ImportedGrid, tmp_path: Path) -> None:
    path = tmp_path / "grid.zip"
    export_grid(sound.tables, path)
    whole = path.read_bytes()
    with pytest.raises(FormatError, match="again"):
        import_grid(write(tmp_path / "short.zip", whole[: len(whole) // 2]))
    altered = tmp_path / "altered.zip"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(altered, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, source.read("tables/bus.parquet") if name == "tables/line.parquet" else data)
    with pytest.raises(FormatError, match=r"altered\.zip.*line.parquet was altered"):
        import_grid(altered)
    future = tmp_path / "future.zip"
    with zipfile.ZipFile(future, "w") as target:
        target.writestr("bos.json", json.dumps({"format": "bos-grid", "version": 99, "members": {}}))
    with pytest.raises(FormatError, match="version 99"):
        import_grid(future)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "o.toml",
            "[[set]]\ntable='unit'\nelement='Nobody'\nvalues={p_mw_max=1}",
            "'Nobody', which does not exist",
        ),
        ("o.toml", "[[set]]\ntable='units'\nelement='Gen 0'\nvalues={p_mw_max=1}", "use one of"),
        ("o.toml", "[[set]]\ntable='unit'\nelement='Gen 0'\nvalues={pmax=1}", "has no column 'pmax'"),
        ("o.toml", "[[set]]\ntable='unit'\nelement='Gen 0'\nvalues={p_mw_max='much'}", "give a double"),
        ("o.toml", "[[set]]\ntable='unit'\nwhere={technology='x'}\nvalues={p_mw_max=1}", "correct the condition"),
        ("o.toml", "[[set]]\ntable='unit'\nelement='Gen 0'\nvalues={min_up_h=1.5}", "give a int64"),
        ("o.toml", "[[add]]\ntable='svg'\nname='S'\nvalues={bus='Bus 77'}", "'Bus 77', which does not exist"),
        ("o.toml", "[[add]]\ntable='hvdc'\nname='H'\nvalues={from_bus='Bus 1'}", "lacks to_bus"),
        ("o.toml", "[[add]]\ntable='load'\nname='Load 0'\nvalues={}", "a name of its own"),
        ("o.toml", "[[drop]]\ntable='load'", "use [[set]] and [[add]]"),
        ("o.toml", "[[set]]\ntable='unit'\nwhat=1", "has odd keys"),
        ("o.toml", "this is = not [toml", "is not TOML"),
        ("o.csv", "a,b\n1,2", "give the columns table,element,column,value"),
        ("o.csv", "table,element,column,value\nline,Line 0,x_ohm,abc", "x_ohm is 'abc'"),
        ("o.txt", "x", "give .toml or .csv"),
        ("o.toml", "[[set]]\ntable='line'\nelement='Line 0'\nvalues={x_ohm=0}", "merge its buses"),
    ],
)
def test_bad_overlay(sound: ImportedGrid, name: str, content: str, words: str, tmp_path: Path) -> None:
    grid = tmp_path / "grid.zip"
    export_grid(sound.tables, grid)
    with pytest.raises(InputError) as caught:
        import_grid(grid, overlay=write(tmp_path / name, content))
    assert_says(list(caught.value.findings), "", words)


def test_bad_matpower_network_names_its_elements(tmp_path: Path) -> None:
    two = CASE.replace("0.9];", "0.9; 2 1 5 1 0 0 1 1 0 110 1 1.1 0.9];")
    with pytest.raises(GridError) as caught:
        import_grid(write(tmp_path / "g.m", two + GEN + BRANCH.replace("0.1 0 0", "0 0 0")))
    assert_says(list(caught.value.findings), "branch 1 (1-2)", "merge its buses or give x_ohm > 0")
    with pytest.raises(GridError) as caught:
        import_grid(write(tmp_path / "g.m", two + GEN + BRANCH.replace("[1 2", "[1 7")))
    assert_says(list(caught.value.findings), "branch 1 (1-7)", "bus 7")
    with pytest.raises(GridError) as caught:
        import_grid(write(tmp_path / "g.m", two.replace("1 3 0", "1 2 0") + GEN + BRANCH))
    assert_says(list(caught.value.findings), "bus.slack", "largest unit")
    with pytest.raises(GridError) as caught:
        import_grid(write(tmp_path / "g.m", two + GEN.replace("9 0]", "9 20]") + BRANCH))
    assert_says(list(caught.value.findings), "gen 1", "above p_mw_max")


def test_bad_export(sound: ImportedGrid, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"give \.zip"):
        export_grid(sound.tables, tmp_path / "grid.docx")
    with pytest.raises(FormatError, match="make the folder"):
        export_grid(sound.tables, tmp_path / "nowhere" / "grid.zip")
    assert list(tmp_path.iterdir()) == []
