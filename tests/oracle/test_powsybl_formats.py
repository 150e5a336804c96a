"""Files that pypowsybl reads (XIIDM, CGMES, PSS/E, UCTE, IEEE-CDF): our power flow against OpenLoadFlow's."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pypowsybl.loadflow as lf
import pypowsybl.network as pw
import pytest

from bos_core.exchange import ImportedGrid, export_grid, import_grid, to_columns
from bos_core.grid.assembly import assemble, locate_buses
from bos_core.grid.columns import MISSING_INT, Columns
from bos_core.grid.injections import bus_injections
from bos_core.grid.power_flow import CONVERGED, solve

YARDSTICKS = Path(__file__).parents[3] / "shared" / "yardsticks"
TOLERANCE_PU = 1e-8

pytestmark = pytest.mark.filterwarnings("ignore")


def open_load_flow(network: Any, slack: str) -> dict[str, complex]:
    """Return OpenLoadFlow's voltages by bus, in p.u., with every control off but that of voltages."""
    parameters = lf.Parameters(
        voltage_init_mode=lf.VoltageInitMode.DC_VALUES,
        distributed_slack=False,
        use_reactive_limits=False,
        transformer_voltage_control_on=False,
        phase_shifter_regulation_on=False,
        shunt_compensator_voltage_control_on=False,
        hvdc_ac_emulation=False,
        provider_parameters={
            "newtonRaphsonConvEpsPerEq": "1e-11",
            "slackBusSelectionMode": "NAME",
            "slackBusesIds": slack,
            "voltageRemoteControl": "false",
            "generatorsWithZeroMwTargetAreNotStarted": "false",
        },
    )
    result = lf.run_ac(network, parameters)[0]
    assert result.status == lf.ComponentStatus.CONVERGED
    buses = network.get_buses()
    level = network.get_voltage_levels().nominal_v.reindex(buses.voltage_level_id).to_numpy()
    voltage = buses.v_mag.to_numpy() / level * np.exp(1j * np.deg2rad(buses.v_angle.to_numpy()))
    return dict(zip(buses.index, voltage.tolist(), strict=True))


def distance(columns: Columns, network: Any) -> float:
    """Return the largest distance of two complex bus voltages, ours and OpenLoadFlow's, in p.u."""
    arrays, snapshot = assemble(columns)
    start = snapshot.vm_pu * np.exp(1j * snapshot.va_rad)
    answer = solve(arrays.network, bus_injections(arrays, snapshot), start, tol=1e-11, enforce_q_limits=False)
    assert answer.outcome == CONVERGED
    source = dict(zip(columns["entity"]["id"].tolist(), columns["entity"]["source_id"].tolist(), strict=True))
    names = [source[i] for i in columns["bus"]["id"].tolist()]
    where = dict(zip(names, locate_buses(columns).tolist(), strict=True))
    slack = next(name for name, place in where.items() if place == arrays.network.slack)
    reference = open_load_flow(network, slack)
    live = [k for k in reference if where.get(k, -1) >= 0 and np.isfinite(reference[k])]
    assert len(live) >= 2
    turn = np.exp(1j * (np.angle(reference[slack]) - np.angle(answer.v_pu[arrays.network.slack])))
    return max(abs(answer.v_pu[where[k]] * turn - reference[k]) for k in live)


def agrees(path: Path) -> ImportedGrid:
    """Import a file, compare its power flow with OpenLoadFlow's of the same file, and return the import."""
    grid = import_grid(path, drop_islands=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = pw.load(str(path))
    assert distance(to_columns(grid.tables), network) < TOLERANCE_PU
    return grid


NETWORKS = {
    "ieee9": pw.create_ieee9,
    "ieee14": pw.create_ieee14,
    "ieee30": pw.create_ieee30,
    "ieee57": pw.create_ieee57,
    "ieee118": pw.create_ieee118,
    "ieee300": pw.create_ieee300,
    "eurostag": pw.create_eurostag_tutorial_example1_network,
    "tie lines": pw.create_eurostag_tutorial_example1_with_tie_lines_and_areas,
    "node breaker": pw.create_four_substations_node_breaker_network,
    "six buses": pw.create_metrix_tutorial_six_buses_network,
    "belgium": pw.create_micro_grid_be_network,
    "netherlands": pw.create_micro_grid_nl_network,
}
FORMATS = {"XIIDM": ".xiidm", "CGMES": ".zip", "PSS/E": ".raw"}
NOT_IN_CGMES = {
    # Written without the base voltages of the boundary: pypowsybl cannot read its own file.
    "belgium",
    "netherlands",
    # Lines between voltage levels have one shunt in CGMES, two that differ in the network: another network.
    "ieee30",
    "ieee118",
    "ieee300",
}
CASES = [(name, form) for name in NETWORKS for form in FORMATS if form != "CGMES" or name not in NOT_IN_CGMES]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_files_written_by_pypowsybl(name: str, form: str, tmp_path: Path) -> None:
    network = NETWORKS[name]()
    path = tmp_path / f"grid{FORMATS[form]}"
    network.save(str(path), format=form)
    agrees(path)


def loadings(columns: Columns) -> np.ndarray:
    arrays, snapshot = assemble(columns)
    start = snapshot.vm_pu * np.exp(1j * snapshot.va_rad)
    answer = solve(arrays.network, bus_injections(arrays, snapshot), start, tol=1e-11, enforce_q_limits=False)
    assert answer.outcome == CONVERGED
    return np.sort(arrays.network.loading(answer.v_pu)[np.isfinite(arrays.network.i_max_from_pu)])


@pytest.mark.parametrize("name", ["ucte", "psse", "belgium", "case118", "multivoltage", "rts"])
def test_written_xiidm(name: str, tmp_path: Path) -> None:
    """OpenLoadFlow gives our voltages on the file that we write; reading it again gives our loadings."""
    (tmp_path / "nodes.uct").write_text(UCTE)
    (tmp_path / "small.raw").write_text(PSSE)
    pw.create_micro_grid_be_network().save(str(tmp_path / "belgium.xiidm"), format="XIIDM")
    sources: dict[str, str | Path] = {
        "ucte": tmp_path / "nodes.uct",
        "psse": tmp_path / "small.raw",
        "belgium": tmp_path / "belgium.xiidm",
        "case118": "pandapower:case118",
        "multivoltage": "pandapower:example_multivoltage",
        "rts": YARDSTICKS / "rts_gmlc",
    }
    grid = import_grid(sources[name])
    path = tmp_path / "again.xiidm"
    notes = export_grid(grid.tables, path, grid.series)
    again = agrees(path)
    before, after = to_columns(grid.tables), to_columns(again.tables)
    assert any("costs" in note.what for note in notes)
    # Shunts at the to end of transformers become those of buses, and limits of three-winding ends are mirrored.
    if name not in ("case118", "multivoltage"):
        np.testing.assert_allclose(loadings(after), loadings(before), atol=1e-7)
    if name != "multivoltage":
        moving = [(c["branch_state"]["tap"] != MISSING_INT).sum() for c in (after, before)]
        assert moving[0] == moving[1]
    assert not list(tmp_path.glob("part-*"))


def fields(*parts: tuple[int, object]) -> str:
    """Return a line of fixed columns; a field starts at the given column, counted from 1."""
    line = ""
    for start, value in parts:
        assert len(line) < start, (line, value)
        line = line.ljust(start - 1) + str(value)
    return line


def cdf_bus(number: int, name: str, kind: int, load: complex, power: float, kv: float, **more: float) -> str:
    return fields(
        (1, f"{number:4d}"), (6, name), (19, " 1"), (21, "  1"), (25, f"{kind:2d}"), (28, "1.000"), (34, "  0.00"),
        (41, f"{load.real:9.2f}"), (50, f"{load.imag:9.2f}"), (60, f"{power:8.2f}"), (68, "    0.00"),
        (77, f"{kv:7.2f}"), (85, f"{more.get('vm', 0.0):6.3f}"), (91, f"{more.get('q_max', 0.0):8.2f}"),
        (99, f"{more.get('q_min', 0.0):8.2f}"), (107, f"{more.get('g', 0.0):8.4f}"),
        (115, f"{more.get('b', 0.0):8.4f}"), (124, "   0"),
    )  # fmt: skip


def cdf_branch(f: int, t: int, kind: int, r: float, x: float, b: float, ratio: float = 0, deg: float = 0) -> str:
    return fields(
        (1, f"{f:4d}"), (6, f"{t:4d}"), (11, " 1"), (13, " 1"), (17, "1"), (19, kind), (20, f"{r:10.6f}"),
        (30, f"{x:11.6f}"), (41, f"{b:10.5f}"), (51, "  200"), (57, "    0"), (63, "    0"), (69, "   0"),
        (74, "0"), (77, f"{ratio:6.4f}"), (84, f"{deg:7.2f}"), (91, " 0.0000"), (98, " 0.0000"), (106, "0.0000"),
        (113, " 0.0000"), (120, " 0.0000"),
    )  # fmt: skip


CDF = "\n".join(
    [
        fields((2, "01/01/26"), (11, "FIVE BUSES"), (32, " 100.0"), (39, "2026"), (44, "W"), (46, "Taps")),
        "BUS DATA FOLLOWS                            5 ITEMS",
        cdf_bus(1, "North", 3, 0j, 0, 220, vm=1.03, q_max=300, q_min=-300),
        cdf_bus(2, "South", 2, 20 + 5j, 60, 220, vm=1.02, q_max=80, q_min=-60),
        cdf_bus(3, "Middle", 0, 90 + 30j, 0, 220, b=0.18, g=0.01),
        cdf_bus(4, "Low", 0, 40 + 12j, 0, 110),
        cdf_bus(5, "Turned", 0, 25 - 3j, 0, 220),
        "-999",
        "BRANCH DATA FOLLOWS                         6 ITEMS",
        cdf_branch(1, 2, 0, 0.01, 0.09, 0.04),
        cdf_branch(1, 3, 0, 0.012, 0.1, 0.05),
        cdf_branch(2, 3, 0, 0.02, 0.15, 0.03),
        cdf_branch(3, 4, 1, 0.002, 0.12, 0, 0.9625),
        cdf_branch(2, 5, 1, 0.003, 0.11, 0, 1.01, 8.0),
        cdf_branch(5, 3, 0, 0.015, 0.12, 0.02),
        "-999",
        "LOSS ZONES FOLLOWS                     1 ITEMS",
        "  1 ZONE",
        "-99",
        "INTERCHANGE DATA FOLLOWS                 0 ITEMS",
        "-9",
        "TIE LINES FOLLOWS                     0 ITEMS",
        "-999",
        "END OF DATA",
        "",
    ]
)


def test_ieee_cdf(tmp_path: Path) -> None:
    path = tmp_path / "five.txt"
    path.write_text(CDF)
    grid = agrees(path)
    columns = to_columns(grid.tables)
    assert sorted(columns["bus"]["base_kv"].tolist()) == [110, 220, 220, 220, 220]
    assert columns["transformer"]["rated_from_kv"] / [220, 220] == pytest.approx([0.9625, 1.01])
    assert columns["shunt"]["b_step_mvar"] == pytest.approx([18.0])
    assert columns["load_state"]["p_mw"].sum() == pytest.approx(175.0)


PSSE = """0, 100.00, 33, 0, 0, 50.00 / a small grid
with phase shifter, three windings, shunts
and parallel circuits
1,'NORTH       ',380.0,3,1,1,1,1.02,0.0,1.1,0.9,1.1,0.9
2,'SOUTH       ',380.0,2,1,1,1,1.01,0.0,1.1,0.9,1.1,0.9
3,'WEST        ',380.0,1,1,1,1,1.0,0.0,1.1,0.9,1.1,0.9
4,'CITY        ',110.0,1,1,1,1,1.0,0.0,1.1,0.9,1.1,0.9
5,'TERTIARY    ', 20.0,1,1,1,1,1.0,0.0,1.1,0.9,1.1,0.9
6,'EAST        ',380.0,1,1,1,1,1.0,0.0,1.1,0.9,1.1,0.9
7,'DEAD        ',380.0,4,1,1,1,1.0,0.0,1.1,0.9,1.1,0.9
0 / END OF BUS DATA, BEGIN LOAD DATA
3,'1 ',1,1,1,210.0,60.0,0,0,0,0,1,1,0
4,'1 ',1,1,1,80.0,25.0,0,0,0,0,1,1,0
4,'2 ',0,1,1,999.0,99.0,0,0,0,0,1,1,0
5,'1 ',1,1,1,12.0,-4.0,0,0,0,0,1,1,0
0 / END OF LOAD DATA, BEGIN FIXED SHUNT DATA
3,'1 ',1,1.5,-20.0
0 / END OF FIXED SHUNT DATA, BEGIN GENERATOR DATA
1,'1 ',100.0,0,400,-400,1.02,0,500,0,0.2,0,0,1,1,100,500,0,1,1
2,'1 ',150.0,0,200,-150,1.01,0,300,0,0.2,0,0,1,1,100,250,50,1,1
2,'2 ',40.0,0,40,-30,1.01,0,60,0,0.2,0,0,1,1,100,60,10,1,1
0 / END OF GENERATOR DATA, BEGIN BRANCH DATA
1,2,'1 ',0.001,0.012,0.35,1200,0,0,0,0,0,0,1,1,0,1,1
1,3,'1 ',0.0012,0.014,0.30,1200,0,0,0,0.01,0,0.02,1,1,0,1,1
1,3,'2 ',0.0014,0.016,0.28,1200,0,0,0,0,0,0,1,1,0,1,1
2,3,'1 ',0.002,0.02,0.2,1200,0,0,0,0,0,0,0,1,0,1,1
6,3,'1 ',0.0011,0.013,0.15,1200,0,0,0,0,0,0,1,1,0,1,1
0 / END OF BRANCH DATA, BEGIN TRANSFORMER DATA
2,6,0,'1 ',1,1,1,0.0002,-0.001,2,'SHIFTER     ',1,1,1
0.0004,0.018,100
1.0,0,12.5,800,0,0,0,0,30,-30,1.1,0.9,25,0,0,0
1.0,0
3,4,0,'1 ',1,2,1,0,0,2,'STEPPED     ',1,1,1
0.003,0.12,300
1.025,0,0,300,0,0,1,-4,1.1,0.9,1.02,0.98,17,0,0,0
0.98,0
3,4,5,'1 ',1,2,1,0.0001,-0.0008,2,'THREE       ',1,1,1
0.002,0.11,300,0.004,0.09,100,0.005,0.17,100,1.0,0
1.01,0,0,300,0,0,0,0,1.1,0.9,1.1,0.9,33,0,0,0
0.99,0,0,300,0,0,0,0,1.1,0.9,1.1,0.9,33,0,0,0
1.0,0,30.0,100,0,0,0,0,1.1,0.9,1.1,0.9,33,0,0,0
0 / END OF TRANSFORMER DATA, BEGIN AREA DATA
0 / END OF AREA DATA, BEGIN TWO-TERMINAL DC DATA
0 / END OF TWO-TERMINAL DC DATA, BEGIN VSC DC LINE DATA
0 / END OF VSC DC LINE DATA, BEGIN IMPEDANCE CORRECTION DATA
0 / END OF IMPEDANCE CORRECTION DATA, BEGIN MULTI-TERMINAL DC DATA
0 / END OF MULTI-TERMINAL DC DATA, BEGIN MULTI-SECTION LINE DATA
0 / END OF MULTI-SECTION LINE DATA, BEGIN ZONE DATA
0 / END OF ZONE DATA, BEGIN INTER-AREA TRANSFER DATA
0 / END OF INTER-AREA TRANSFER DATA, BEGIN OWNER DATA
0 / END OF OWNER DATA, BEGIN FACTS DEVICE DATA
0 / END OF FACTS DEVICE DATA, BEGIN SWITCHED SHUNT DATA
4,1,0,1,1.05,0.95,0,100,'            ',20.0,3,10.0
0 / END OF SWITCHED SHUNT DATA, BEGIN GNE DATA
0 / END OF GNE DATA, BEGIN INDUCTION MACHINE DATA
0 / END OF INDUCTION MACHINE DATA
Q
"""


def ucte_node(
    code: str, kind: int, kv: float, load: complex, power: float, q: tuple[float, float] = (0.0, 0.0)
) -> str:
    """Return a node; production is negative in UCTE-DEF."""
    return fields(
        (1, code), (10, code[1:6]), (23, 0), (25, kind), (27, f"{kv:6.2f}"), (34, f"{load.real:7.1f}"),
        (42, f"{load.imag:7.1f}"), (50, f"{-power:7.1f}"), (58, "    0.0"), (66, f"{-0.0:7.1f}"),
        (74, f"{-2.0 * power:7.1f}"), (82, f"{-q[0]:7.1f}"), (90, f"{-q[1]:7.1f}"),
    )  # fmt: skip


def ucte_line(f: str, t: str, order: str, status: int, r: float, x: float, b_us: float, amps: int) -> str:
    return fields(
        (1, f), (10, t), (19, order), (21, status), (23, f"{r:6.3f}"), (30, f"{x:6.3f}"), (37, f"{b_us:8.2f}"),
        (46, f"{amps:6d}"),
    )  # fmt: skip


def ucte_transformer(
    f: str, t: str, order: str, kv_f: float, kv_t: float, mva: float, r: float, x: float, b: float, g: float
) -> str:
    return fields(
        (1, f), (10, t), (19, order), (21, 0), (23, f"{kv_f:5.1f}"), (29, f"{kv_t:5.1f}"), (35, f"{mva:5.0f}"),
        (41, f"{r:6.3f}"), (48, f"{x:6.3f}"), (55, f"{b:8.2f}"), (64, f"{g:6.2f}"), (71, f"{1000:6d}"),
    )  # fmt: skip


def ucte_changer(
    f: str,
    t: str,
    order: str,
    ratio: tuple[float, int, int] | None = None,
    angle: tuple[float, float, int, int, str] | None = None,
) -> str:
    parts: list[tuple[int, object]] = [(1, f), (10, t), (19, order)]
    if ratio is not None:
        parts += [(21, f"{ratio[0]:5.2f}"), (27, f"{ratio[1]:2d}"), (30, f"{ratio[2]:3d}")]
    if angle is not None:
        step, theta, most, now, kind = angle
        parts += [(40, f"{step:5.2f}"), (46, f"{theta:5.1f}"), (52, f"{most:2d}"), (55, f"{now:3d}"), (65, kind)]
    return fields(*parts)


UCTE = "\n".join(
    [
        "##C 2007.05.01",
        "five nodes and a border",
        "##N",
        "##ZFR",
        ucte_node("FNORTH11", 3, 405.0, load=0j, power=0.0),
        ucte_node("FSOUTH11", 2, 402.0, load=50 + 10j, power=300.0, q=(-200.0, 250.0)),
        ucte_node("FWEST_11", 0, 0.0, load=420 + 90j, power=0.0),
        ucte_node("FCITY_51", 0, 0.0, load=120 + 35j, power=30.0),
        ucte_node("FEAST_11", 0, 0.0, load=60 + 5j, power=0.0),
        "##ZXX",
        ucte_node("XBORDE11", 0, 0.0, load=150 - 20j, power=40.0),
        "##L",
        ucte_line("FNORTH11", "FSOUTH11", "1", 0, 1.2, 14.0, 90.0, 1500),
        ucte_line("FNORTH11", "FSOUTH11", "2", 0, 1.3, 15.0, 85.0, 1500),
        ucte_line("FNORTH11", "FWEST_11", "1", 0, 1.6, 18.0, 120.0, 1500),
        ucte_line("FSOUTH11", "FWEST_11", "1", 8, 1.6, 18.0, 120.0, 1500),
        ucte_line("FSOUTH11", "XBORDE11", "1", 0, 0.8, 9.5, 60.0, 1400),
        ucte_line("FEAST_11", "FWEST_11", "1", 0, 0.9, 11.0, 70.0, 1400),
        "##T",
        ucte_transformer("FWEST_11", "FCITY_51", "1", 400.0, 115.0, 300, 1.1, 60.0, -8.0, 1.5),
        ucte_transformer("FSOUTH11", "FEAST_11", "1", 400.0, 400.0, 700, 0.3, 21.0, -6.0, 1.0),
        "##R",
        ucte_changer("FWEST_11", "FCITY_51", "1", ratio=(1.25, 9, -3)),
        ucte_changer("FSOUTH11", "FEAST_11", "1", angle=(1.1, 70.0, 10, 4, "ASYM")),
        "",
    ]
)


def test_ucte(tmp_path: Path) -> None:
    path = tmp_path / "nodes.uct"
    path.write_text(UCTE)
    grid = agrees(path)
    columns = to_columns(grid.tables)
    entity = columns["entity"]
    names = dict(zip(entity["id"].tolist(), entity["source_id"].tolist(), strict=True))
    load = dict(zip(columns["load"]["id"].tolist(), columns["load_state"]["p_mw"].tolist(), strict=True))
    beyond = [p for i, p in load.items() if names[i].startswith("boundary")]
    assert beyond == pytest.approx([110.0])
    rated = columns["equivalent_branch"]["rating_mva"]
    assert rated == pytest.approx([np.sqrt(3.0) * 380.0 * 1.4])
    movable = dict(zip(columns["transformer"]["id"].tolist(), columns["transformer"]["tap_side"], strict=True))
    assert sorted(movable.values()) == ["from", "from"]


def test_taps_and_shunts_elsewhere(tmp_path: Path) -> None:
    """Moved taps, shifter steps and shunt steps give OpenLoadFlow's answer at those positions."""
    (tmp_path / "nodes.uct").write_text(UCTE)
    (tmp_path / "small.raw").write_text(PSSE)
    belgium = pw.create_micro_grid_be_network()
    belgium.save(str(tmp_path / "belgium.xiidm"), format="XIIDM")
    for name, shift in (("nodes.uct", 3), ("nodes.uct", -4), ("small.raw", -1), ("belgium.xiidm", 2)):
        network = pw.load(str(tmp_path / name))
        grid = import_grid(tmp_path / name)
        columns = to_columns(grid.tables)
        source = dict(zip(columns["entity"]["id"].tolist(), columns["entity"]["source_id"].tolist(), strict=True))
        table = columns["branch_state"]
        moved = np.zeros(table["id"].size, bool)
        two_windings = network.get_2_windings_transformers().index
        for k in np.flatnonzero(table["tap"] != MISSING_INT):
            key = source[table["id"][k]]
            if key in two_windings:
                moved[k] = True
                ratio = key in network.get_ratio_tap_changers().index
                update = network.update_ratio_tap_changers if ratio else network.update_phase_tap_changers
                update(id=key, tap=int(table["tap"][k]) + shift)
        table["tap"] = table["tap"] + shift * moved
        switched = columns["shunt"]["step_max"] > 1
        assert moved.any() or switched.any()
        for identifier in columns["shunt"]["id"][switched].tolist():
            count = network.get_shunt_compensators().loc[source[identifier], "section_count"]
            network.update_shunt_compensators(id=source[identifier], section_count=count + shift)
        columns["shunt_state"]["step"] = columns["shunt_state"]["step"] + shift * switched
        assert distance(columns, network) < TOLERANCE_PU


def test_psse(tmp_path: Path) -> None:
    path = tmp_path / "small.raw"
    path.write_text(PSSE)
    grid = agrees(path)
    columns = to_columns(grid.tables)
    # The circuit with line shunts that differ at its ends is kept as a per-unit branch.
    assert (columns["line"]["id"].size, columns["equivalent_branch"]["id"].size) == (3, 1)
    assert columns["transformer"]["id"].size == 5
    assert columns["shunt_state"]["step"].tolist() == [1, 2]
    notes = {(n.component, n.count) for n in grid.notes}
    assert ("transformer3", 1) in notes
    assert ("line", 1) in notes
