"""The power flow of imported and assembled grids against pandapower's own, and against other people's answers."""

from __future__ import annotations

import copy
import itertools
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pyarrow as pa
import pytest

from bos_core.exchange import ImportedGrid, export_grid, import_grid, to_columns
from bos_core.exchange.importer import settle_islands
from bos_core.exchange.pandapower_net import NetReader
from bos_core.exchange.simbench_data import drop_superseded, read_simbench_net
from bos_core.exchange.validation import validate_tables
from bos_core.grid.assembly import assemble, locate_buses, with_state
from bos_core.grid.injections import bus_injections
from bos_core.grid.model import Grid, Snapshot
from bos_core.grid.power_flow import CONVERGED, PowerFlowSolution, solve

YARDSTICKS = Path(__file__).parents[3] / "shared" / "yardsticks"
TOLERANCE_PU = 1e-8

pytestmark = pytest.mark.filterwarnings("ignore")


def power_flow(grid: ImportedGrid, tol: float = 1e-10) -> tuple[Grid, Snapshot, PowerFlowSolution]:
    """Assemble and solve; reactive limits are not enforced, as in pandapower's default."""
    arrays, snapshot = assemble(to_columns(grid.tables))
    injections = bus_injections(arrays, snapshot)
    for vm_pu in (snapshot.vm_pu, np.where(injections.voltage_control, snapshot.vm_pu, 1.0)):
        start = vm_pu * np.exp(1j * snapshot.va_rad)
        answer = solve(arrays.network, injections, start, tol=tol, enforce_q_limits=False)
        if answer.outcome == CONVERGED:
            break
    return arrays, snapshot, answer


def run_pandapower(net: pp.pandapowerNet, model: str = "t", start: np.ndarray | None = None) -> None:
    """Solve as tightly as rounding allows: large grids do not reach 1e-9 MVA.

    From a DC start, or from `start` (complex voltages) where Newton's method does not find its way from there;
    whatever the start, pandapower iterates to a solution of its own model.
    """
    starts: list[dict[str, object]] = [{"init": "dc"}]
    if start is not None:
        starts.insert(0, {"init_vm_pu": np.abs(start), "init_va_degree": np.rad2deg(np.angle(start))})
    for init, tolerance_mva in itertools.product(starts, (1e-9, 1e-8, 1e-7)):
        try:
            pp.runpp(
                net,
                calculate_voltage_angles=True,
                trafo_model=model,
                tolerance_mva=tolerance_mva,
                max_iteration=25,
                lightsim2grid=False,
                **init,
            )
        except pp.LoadflowNotConverged:
            continue
        return
    pytest.fail("pandapower does not converge")


def agree(
    net: pp.pandapowerNet, grid: ImportedGrid, tol: float = 1e-10, *, whole: bool = True, model: str = "t"
) -> None:
    """Voltages, line and transformer loadings of a net and of its import agree on every energized bus."""
    arrays, _, answer = power_flow(grid, tol)
    assert answer.outcome == CONVERGED
    columns = to_columns(grid.tables)
    where = locate_buses(columns)[: len(net.bus)]
    run_pandapower(net, model, np.where(where >= 0, answer.v_pu[where], 1.0) if len(net.bus) > 500 else None)
    reference = net.res_bus.vm_pu.to_numpy() * np.exp(1j * np.deg2rad(net.res_bus.va_degree.to_numpy()))
    live = where >= 0
    if whole:
        np.testing.assert_array_equal(live, np.isfinite(net.res_bus.vm_pu.to_numpy()))
    assert np.abs(answer.v_pu[where[live]] - reference[live]).max() < TOLERANCE_PU
    loading = dict(zip(arrays.network.branch_id.tolist(), arrays.network.loading(answer.v_pu), strict=True))
    entity = columns["entity"]
    checked = 0
    for kind, element in (("line", "line"), ("transformer", "trafo")):
        mine = entity["kind"] == kind
        ids = dict(zip(entity["source_id"][mine].tolist(), entity["id"][mine].tolist(), strict=True))
        for index, percent in net[f"res_{element}"]["loading_percent"].items():
            found = loading.get(ids[str(index)])
            if found is not None and found > 0 and np.isfinite(percent):
                assert found == pytest.approx(percent / 100.0, abs=1e-7), (element, index)
                checked += 1
    outer = {"high": "hv", "medium": "mv", "low": "lv"}
    mine = entity["kind"] == "transformer3"
    for identifier, index in zip(entity["id"][mine].tolist(), entity["source_id"][mine].tolist(), strict=True):
        percent = net.res_trafo3w.loading_percent[int(index)]
        legs = [loading.get(f"{identifier}:{w}", 0.0) for w in outer]
        assert max(legs) == pytest.approx(percent / 100.0, abs=1e-7) or not whole
        checked += 1
    assert checked or not np.isfinite(arrays.network.i_max_from_pu).any()


def imported(net: pp.pandapowerNet, *, drop_islands: bool = False) -> ImportedGrid:
    builder = NetReader(net, "net").read()
    assert not builder.findings
    grid = settle_islands(builder.finish(), drop_islands)
    assert validate_tables(grid.tables, grid.series) == []
    return grid


def shifter_net() -> pp.pandapowerNet:
    """Phase shifter, quadrature and to-side taps, open ends, couplers, and one of every other element."""
    net = pp.create_empty_network(sn_mva=1.0)
    b = [pp.create_bus(net, kv, name=f"B{k}") for k, kv in enumerate((380, 380, 110, 110, 20, 20, 110, 110, 380))]
    pp.create_ext_grid(net, b[0], vm_pu=1.02, va_degree=7.0)
    line = {"r_ohm_per_km": 0.03, "x_ohm_per_km": 0.3, "c_nf_per_km": 12.0, "max_i_ka": 1.2, "g_us_per_km": 0.4}
    pp.create_line_from_parameters(net, b[0], b[1], 80.0, **line, parallel=2, df=0.9)
    low = line | {"c_nf_per_km": 300.0}
    pp.create_line_from_parameters(net, b[2], b[3], 25.0, **line)
    pp.create_line_from_parameters(net, b[2], b[3], 30.0, **line)
    dangling = pp.create_line_from_parameters(net, b[4], b[5], 12.0, **low)
    pp.create_line_from_parameters(net, b[4], b[5], 9.0, **low)
    out = pp.create_line_from_parameters(net, b[3], b[6], 9.0, **low)
    pp.create_line_from_parameters(net, b[3], b[7], 9.0, **low)
    pp.create_line_from_parameters(net, b[0], b[8], 50.0, **line)
    pp.create_switch(net, b[5], dangling, "l", closed=False)
    net.bus.loc[b[6], "in_service"] = False
    assert out == net.line.index[5]
    trafo = {"vn_hv_kv": 390.0, "vn_lv_kv": 115.0, "sn_mva": 300.0, "vkr_percent": 0.3, "vk_percent": 11.0}
    trafo |= {"pfe_kw": 90.0, "i0_percent": 0.08, "tap_min": -10, "tap_max": 10, "tap_neutral": 0}
    common = {"hv_bus": b[1], "lv_bus": b[2], **trafo}
    pp.create_transformer_from_parameters(
        net, **common, tap_side="lv", tap_pos=3, tap_step_percent=1.25, tap_changer_type="Ratio", parallel=2
    )
    pp.create_transformer_from_parameters(
        net,
        **common,
        tap_side="hv",
        tap_pos=-4,
        tap_step_degree=1.5,
        tap_step_percent=0.0,
        tap_changer_type="Ideal",
    )
    pp.create_transformer_from_parameters(
        net,
        **common,
        tap_side="hv",
        tap_pos=5,
        tap_step_percent=1.0,
        tap_step_degree=60.0,
        tap_changer_type="Ratio",
    )
    pp.create_transformer_from_parameters(
        net, b[2], b[4], 40.0, 110.0, 21.0, 0.4, 12.0, 20.0, 0.1, shift_degree=150.0, tap_side="lv", tap_pos=-2,
        tap_neutral=0, tap_min=-5, tap_max=5, tap_step_percent=1.5, tap_step_degree=20.0,
        tap_changer_type="Symmetrical", max_loading_percent=80.0, df=0.9,
    )  # fmt: skip
    open_end = pp.create_transformer_from_parameters(
        net, b[3], b[5], 40.0, 110.0, 20.0, 0.4, 12.0, 20.0, 0.1, shift_degree=150.0, tap_side="hv", tap_pos=1,
        tap_neutral=0, tap_min=-5, tap_max=5, tap_step_percent=1.5, tap_changer_type="Ratio",
    )  # fmt: skip
    pp.create_switch(net, b[5], open_end, "t", closed=False)
    tie = pp.create_bus(net, 20.0, name="tie")
    pp.create_switch(net, b[4], tie, "b", closed=True)
    soft = pp.create_bus(net, 20.0, name="soft")
    pp.create_switch(net, b[5], soft, "b", closed=True, z_ohm=0.4)
    pp.create_load(net, tie, p_mw=8.0, q_mvar=2.0, scaling=1.1)
    shares = dict.fromkeys(("const_z_p_percent", "const_i_q_percent"), 30.0) | {"const_z_q_percent": 60.0}
    pp.create_load(net, soft, p_mw=3.0, q_mvar=1.0, const_i_p_percent=20.0, **shares)
    pp.create_load(net, b[3], p_mw=60.0, q_mvar=25.0)
    pp.create_load(net, b[7], p_mw=20.0, q_mvar=5.0, in_service=False)
    pp.create_gen(net, b[3], p_mw=45.0, vm_pu=1.01)
    pp.create_sgen(net, b[7], p_mw=12.0, q_mvar=-3.0, scaling=0.8)
    pp.create_shunt(net, b[4], q_mvar=-1.5, p_mw=0.02, step=2, max_step=4, vn_kv=21.0)
    pp.create_storage(net, b[5], p_mw=1.5, max_e_mwh=10.0, q_mvar=0.3)
    pp.create_ward(net, b[7], 2.0, 1.0, 1.5, -0.7)
    pp.create_xward(net, b[3], 1.0, 0.5, 0.7, 0.2, 0.4, 9.0, 1.0)
    pp.create_impedance(net, b[3], b[7], 0.01, 0.06, 100.0, gf_pu=0.001, bf_pu=0.002, gt_pu=0.003, bt_pu=0.001)
    pp.create_motor(net, b[5], 0.6, 0.85, efficiency_percent=95.0)
    pp.create_dcline(net, b[8], b[2], p_mw=40.0, loss_percent=1.2, loss_mw=0.5, vm_from_pu=1.015, vm_to_pu=1.0)
    return net


def winding_net(**changes: object) -> pp.pandapowerNet:
    """A three-winding transformer with losses, its taps anywhere."""
    net = pp.create_empty_network(sn_mva=10.0)
    b = [pp.create_bus(net, kv) for kv in (110.0, 20.0, 10.0)]
    pp.create_ext_grid(net, b[0], vm_pu=1.03)
    values = {
        "vn_hv_kv": 112.0, "vn_mv_kv": 21.0, "vn_lv_kv": 10.5, "sn_hv_mva": 63.0, "sn_mv_mva": 40.0,
        "sn_lv_mva": 25.0, "vk_hv_percent": 10.4, "vk_mv_percent": 11.2, "vk_lv_percent": 10.9,
        "vkr_hv_percent": 0.28, "vkr_mv_percent": 0.32,
        "vkr_lv_percent": 0.35, "pfe_kw": 55.0, "i0_percent": 0.2, "shift_mv_degree": 30.0,
        "shift_lv_degree": 150.0, "tap_side": "hv", "tap_pos": 3, "tap_neutral": 0, "tap_min": -8, "tap_max": 8,
        "tap_step_percent": 1.25, "tap_step_degree": 15.0, "tap_changer_type": "Ratio",
    }  # fmt: skip
    pp.create_transformer3w_from_parameters(net, *b, **{**values, **changes})
    pp.create_load(net, b[1], p_mw=22.0, q_mvar=8.0)
    pp.create_load(net, b[2], p_mw=9.0, q_mvar=4.0)
    return net


CASES = (
    "case4gs", "case5", "case6ww", "case9", "case14", "case24_ieee_rts", "case30", "case33bw", "case39", "case57",
    "case89pegase", "case118", "case_illinois200", "case300", "case1354pegase", "GBnetwork",
    "example_simple", "example_multivoltage", "create_cigre_network_hv", "create_cigre_network_mv",
    "create_cigre_network_lv", "create_kerber_dorfnetz", "panda_four_load_branch",
)  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_case_agrees_with_pandapower(name: str) -> None:
    net = getattr(pn, name)()
    agree(net, imported(net))


@pytest.mark.parametrize("model", ["t", "pi"])
def test_phase_shifters_taps_switches_and_odd_elements(model: str) -> None:
    net = shifter_net()
    grid = imported(net)
    table = grid.tables["transformer"]
    column = table.schema.get_field_index("model")
    changed = table.set_column(column, table.schema.field(column), pa.array([model] * table.num_rows))
    agree(net, replace(grid, tables={**grid.tables, "transformer": changed}), model=model)


@pytest.mark.parametrize("star", [False, True])
@pytest.mark.parametrize("side", ["hv", "mv", "lv"])
def test_three_winding_taps(side: str, star: bool) -> None:
    net = winding_net(tap_side=side, tap_at_star_point=star)
    agree(net, imported(net))


@pytest.mark.parametrize("end", [0, 1, 2])
def test_three_winding_with_an_open_switch(end: int) -> None:
    net = winding_net()
    pp.create_switch(net, int(net.trafo3w[("hv_bus", "mv_bus", "lv_bus")[end]][0]), 0, "t3", closed=False)
    if end == 0:
        pp.create_ext_grid(net, 1)
    if end:
        net.load.loc[net.load.bus == end, "in_service"] = False
    grid = imported(net, drop_islands=True)
    agree(net, grid, whole=False)


@pytest.mark.parametrize("keep", [0, 1])
def test_oberrhein_by_island(keep: int) -> None:
    net = pn.mv_oberrhein()
    net.ext_grid.loc[net.ext_grid.index[1 - keep], "in_service"] = False
    agree(net, imported(net, drop_islands=True), whole=False)


def test_two_islands_with_slacks_keep_the_larger() -> None:
    net = pn.mv_oberrhein()
    grid = imported(net, drop_islands=True)
    agree(net, grid, whole=False)
    assert (locate_buses(to_columns(grid.tables)) >= 0).sum() == 109


@cache
def _simbench_net(code: str) -> pp.pandapowerNet:
    import simbench

    return simbench.get_simbench_net(code)


def simbench_net(code: str) -> pp.pandapowerNet:
    """Return a net of one's own; reading one from the package takes seconds."""
    return copy.deepcopy(_simbench_net(code))


@pytest.mark.parametrize("code", ["1-MVLV-rural-1.108-0-sw", "1-LV-semiurb5--2-no_sw"])
def test_simbench_agrees_with_pandapower(code: str) -> None:
    net = simbench_net(code)
    grid = settle_islands(read_simbench_net(net, code).finish(), False)
    assert validate_tables(grid.tables, grid.series) == []
    drop_superseded(net)
    agree(as_units(net), grid)


def test_simbench_by_its_code() -> None:
    grid = import_grid("1-LV-semiurb5--2-no_sw")
    assert power_flow(grid)[2].outcome == CONVERGED
    assert grid.series["profile.value"].values.shape[0] == 8760


def as_units(net: pp.pandapowerNet) -> pp.pandapowerNet:
    """Turn external grids with a planned power, but for the largest, into generators, as the import does."""
    if "p_disp_mw" in net.ext_grid and net.ext_grid.p_disp_mw.notna().all():
        for row in net.ext_grid.drop(net.ext_grid.p_disp_mw.astype(float).idxmax()).itertuples():
            pp.create_gen(net, row.bus, p_mw=float(row.p_disp_mw), vm_pu=row.vm_pu, name=row.name)
            net.ext_grid = net.ext_grid.drop(row.Index)
    return net


def test_simbench_hours_equal_the_packages_own() -> None:
    import simbench

    code = "1-LV-semiurb5--2-no_sw"
    net = simbench_net(code)
    grid = read_simbench_net(net, code).finish()
    columns, series = to_columns(grid.tables), grid.series["profile.value"]
    place = {name: k for k, name in enumerate(series.elements)}
    rows = columns["profile_assignment"]
    absolute = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
    keep = ~net.profiles["load"]["time"].str.startswith("29.02").to_numpy()
    for quantity, key in (
        ("p_mw", ("load", "p_mw")),
        ("q_mvar", ("load", "q_mvar")),
        ("available_mw", ("sgen", "p_mw")),
    ):
        mine = rows["quantity"] == quantity
        at = [place[p] for p in rows["profile"][mine].tolist()]
        total = series.values[:, at] @ rows["scale"][mine]
        reference = absolute[key].to_numpy()[keep].sum(axis=1).reshape(8760, 4).mean(axis=1)
        np.testing.assert_allclose(total, reference, rtol=1e-9, atol=1e-12)


def test_complete_simbench() -> None:
    import simbench

    code = "1-complete_data-mixed-all-0-no_sw"
    net = simbench.get_simbench_net(code)
    builder = read_simbench_net(net, code)
    grid = settle_islands(builder.finish(), False)
    assert validate_tables(grid.tables, grid.series) == []
    arrays, _ = assemble(to_columns(grid.tables))
    assert arrays.network.n_bus == 34_479
    assert (arrays.units.technology == "nuclear").sum() == 7
    assert (arrays.units.technology == "import").sum() == 27
    dropped = drop_superseded(net)
    assert dropped == {"ext_grid": 444, "load": 440, "sgen": 440}
    agree(as_units(net), grid, tol=1e-8)


def test_rts_gmlc_agrees_with_matpower() -> None:
    """RTS_GMLC.m against MATPOWER's printed AC power flow (three decimals)."""
    folder = YARDSTICKS / "rts_gmlc" / "matpower"
    text = (folder / "MATPOWER-out.txt").read_text()
    section = text[text.index("AC Power Flow") :]
    rows = re.findall(r"^\s+(\d{3})\s+([\d.]+)\s+(-?[\d.]+)\*?\s", section[section.index("Bus Data") :], re.M)[:73]
    _, _, answer = power_flow(import_grid(folder / "RTS_GMLC.m"))
    assert answer.outcome == CONVERGED
    np.testing.assert_allclose(answer.vm_pu, [float(r[1]) for r in rows], atol=6e-4)
    np.testing.assert_allclose(np.rad2deg(answer.va_rad), [float(r[2]) for r in rows], atol=2e-3)


@pytest.mark.parametrize("suffix", [".m", ".mat", ".json", ".zip", ".xiidm"])
@pytest.mark.parametrize("name", ["case118", "example_multivoltage", "shifter", "winding", "rts"])
def test_round_trip_keeps_the_power_flow(name: str, suffix: str, tmp_path: Path) -> None:
    nets = {"shifter": shifter_net, "winding": winding_net}
    if name == "rts":
        grid = import_grid(YARDSTICKS / "rts_gmlc")
    else:
        net = nets[name]() if name in nets else getattr(pn, name)()
        if name == "shifter":
            # MATPOWER and pandapower treat voltage-dependent loads differently.
            net.load[["const_z_p_percent", "const_i_p_percent", "const_z_q_percent", "const_i_q_percent"]] = 0.0
        grid = imported(net)
    path = tmp_path / f"grid{suffix}"
    export_grid(grid.tables, path, grid.series)
    again = import_grid(path)
    first, second = power_flow(grid)[2], power_flow(again)[2]
    assert first.outcome == second.outcome == CONVERGED
    assert np.abs(np.sort(first.vm_pu) - np.sort(second.vm_pu)).max() < TOLERANCE_PU
    # pandapower's own power flow agrees with the file as well.
    if suffix == ".json":
        written = pp.from_json(str(path))
        agree(written, again)


def test_with_state_equals_pandapower_at_other_taps() -> None:
    """Moving taps and shunt steps on the arrays gives pandapower's power flow at those positions."""
    net = shifter_net()
    grid = imported(net)
    arrays, snapshot = assemble(to_columns(grid.tables))
    taps = {0: -5, 1: 7, 2: -2, 3: 4}
    entity = to_columns(grid.tables)["entity"]
    ids = {
        i: int(s)
        for i, s, k in zip(entity["id"], entity["source_id"], entity["kind"], strict=True)
        if k == "transformer"
    }
    order = [ids[i] for i in arrays.network.branch_id[arrays.network.tap_branch].tolist()]
    wanted = np.array([taps[k] for k in order])
    fixed = (net.shunt.bus.size, np.array([3, *arrays.shunts.step[1:]]))
    moved = with_state(arrays.network, wanted, fixed[1], arrays.shunts)
    for index, tap in taps.items():
        net.trafo.loc[index, "tap_pos"] = tap
    net.shunt.loc[0, "step"] = 3
    start = snapshot.vm_pu * np.exp(1j * snapshot.va_rad)
    answer = solve(moved, bus_injections(arrays, snapshot), start, tol=1e-10, enforce_q_limits=False)
    run_pandapower(net)
    where = locate_buses(to_columns(grid.tables))[: len(net.bus)]
    live = where >= 0
    reference = (net.res_bus.vm_pu * np.exp(1j * np.deg2rad(net.res_bus.va_degree))).to_numpy()
    assert np.abs(answer.v_pu[where[live]] - reference[live]).max() < TOLERANCE_PU
