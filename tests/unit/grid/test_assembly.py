"""Assembly of ontology columns into arrays: small grids whose admittances can be written down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bos_core.grid.assembly import MISSING_INT, assemble, find_islands, locate_buses, with_state
from bos_core.grid.branch_models import t_to_pi, tap_turn
from bos_core.grid.model import BranchKind

Columns = dict[str, dict[str, np.ndarray]]


def text(*values: str) -> np.ndarray:
    return np.array(values, dtype=np.str_)


def small() -> Columns:
    """Three 110 kV buses in a row, a transformer to 20 kV, a unit at the first, a load at the last."""
    return {
        "system": {"id": text("s"), "base_mva": np.array([100.0]), "frequency_hz": np.array([50.0])},
        "entity": {"id": text("a", "b", "c", "d", "l1", "t1"), "name": text("A", "B", "C", "D", "Line 1", "T 1")},
        "bus": {
            "id": text("a", "b", "c", "d"),
            "base_kv": np.array([110.0, 110.0, 110.0, 20.0]),
            "vm_pu_min": np.array([np.nan, 0.93, np.nan, np.nan]),
            "vm_pu_max": np.full(4, np.nan),
            "slack": np.array([True, False, False, False]),
            "longitude_deg": np.full(4, np.nan),
            "latitude_deg": np.full(4, np.nan),
        },
        "line": {
            "id": text("l1", "l2"),
            "from_bus": text("a", "b"),
            "to_bus": text("b", "c"),
            "r_ohm": np.array([1.21, 2.42]),
            "x_ohm": np.array([12.1, 24.2]),
            "g_s": np.zeros(2),
            "b_s": np.array([1e-4, 2e-4]),
            "i_max_ka": np.array([0.5, np.nan]),
        },
        "transformer": {
            "id": text("t1"),
            "from_bus": text("c"),
            "to_bus": text("d"),
            "rated_mva": np.array([40.0]),
            "rated_from_kv": np.array([115.0]),
            "rated_to_kv": np.array([21.0]),
            "r_pu": np.array([0.004]),
            "x_pu": np.array([0.12]),
            "g_pu": np.array([0.0005]),
            "b_pu": np.array([-0.001]),
            "model": text("t"),
            "shift_deg": np.array([150.0]),
            "tap_side": text("from"),
            "tap_neutral": np.array([0]),
            "tap_min": np.array([-9]),
            "tap_max": np.array([9]),
            "tap_step_percent": np.array([1.5]),
            "tap_step_deg": np.array([0.0]),
            "tap_phase_shifter": np.array([False]),
            "i_max_from_ka": np.array([np.nan]),
            "loading_max": np.array([1.0]),
        },
        "voltage_criterion": {
            "id": text("v"),
            "base_kv_min": np.array([100.0]),
            "base_kv_max": np.array([120.0]),
            "vm_pu_min": np.array([0.95]),
            "vm_pu_max": np.array([1.08]),
        },
        "unit": {
            "id": text("u"),
            "bus": text("a"),
            "technology": text("hard_coal"),
            "voltage_control": np.array([True]),
            "committable": np.array([True]),
            **{c: np.array([10.0]) for c in ("p_mw_min", "ramp_up_mw_per_h", "ramp_down_mw_per_h")},
            **{c: np.array([90.0]) for c in ("p_mw_max", "startup_mw", "shutdown_mw", "q_mvar_max")},
            "q_mvar_min": np.array([-30.0]),
            "min_up_h": np.array([4]),
            "min_down_h": np.array([3]),
            "energy_mwh_max": np.array([np.nan]),
        },
        "unit_state": {
            "id": text("u"),
            "in_service": np.array([True]),
            "on": np.array([True]),
            "p_mw": np.array([30.0]),
            "q_mvar": np.array([0.0]),
            "vm_set_pu": np.array([1.04]),
        },
        "load": {
            "id": text("x"),
            "bus": text("d"),
            "share_z": np.array([0.2]),
            "share_i": np.array([0.3]),
            "sheddable": np.array([True]),
        },
        "load_state": {
            "id": text("x"),
            "in_service": np.array([True]),
            "p_mw": np.array([20.0]),
            "q_mvar": np.array([5.0]),
        },
    }


def with_switch(columns: Columns, bus: str, element: str, *, closed: bool, r_ohm: float = 0.0) -> Columns:
    return {
        **columns,
        "switch": {"id": text("w"), "bus": text(bus), "element": text(element), "r_ohm": np.array([r_ohm])},
        "switch_state": {"id": text("w"), "closed": np.array([closed])},
    }


def test_lines_per_unit_and_ratings() -> None:
    n = assemble(small())[0].network
    np.testing.assert_allclose(n.r_pu[:2], [0.01, 0.02])
    np.testing.assert_allclose(n.x_pu[:2], [0.1, 0.2])
    np.testing.assert_allclose(n.b_from_pu[:2], np.array([0.5e-4, 1e-4]) * 121)
    np.testing.assert_array_equal(n.b_from_pu[:2], n.b_to_pu[:2])
    assert n.i_max_from_pu[0] == pytest.approx(0.5 * np.sqrt(3) * 110 / 100)
    assert np.isinf(n.i_max_from_pu[1])
    assert n.branch_name.tolist() == ["Line 1", "l2", "T 1"]
    assert n.branch_kind.tolist() == [BranchKind.LINE, BranchKind.LINE, BranchKind.TRANSFORMER]


def test_transformer_ratio_shift_and_t_model() -> None:
    columns = small()
    columns["branch_state"] = {"id": text("t1"), "in_service": np.array([True]), "tap": np.array([4])}
    n = assemble(columns)[0].network
    assert n.ratio[2] == pytest.approx(115 * 1.06 / 110 / (21 / 20))
    assert np.rad2deg(n.shift_rad[2]) == pytest.approx(150)
    unit = (21 / 20) ** 2 * 100 / 40
    z, y = (0.004 + 0.12j) * unit, (0.0005 - 0.001j) / unit
    series, end = t_to_pi(np.array([z]), np.array([y]))
    # The T circuit by hand: two half impedances around the shunt.
    half = 0.5 * z
    delta = half * half + 2 * half / y
    np.testing.assert_allclose(series, delta * y)
    np.testing.assert_allclose(end, half / delta)
    assert n.r_pu[2] + 1j * n.x_pu[2] == pytest.approx(series[0])
    assert n.g_to_pu[2] + 1j * n.b_to_pu[2] == pytest.approx(end[0])
    assert n.i_max_from_pu[2] == pytest.approx(0.4 * 110 / 115)
    assert n.i_max_to_pu[2] == pytest.approx(0.4 * 20 / 21)


def test_magnetizing_places() -> None:
    columns = small()
    unit = (21 / 20) ** 2 * 100 / 40
    for model, share in (("pi", 0.5), ("gamma", 1.0)):
        columns["transformer"]["model"] = text(model)
        n = assemble(columns)[0].network
        assert n.b_from_pu[2] == pytest.approx(-0.001 / unit * share)
        assert n.b_to_pu[2] == pytest.approx(-0.001 / unit * (1 - share))
        assert n.x_pu[2] == pytest.approx(0.12 * unit)


def test_limits_come_from_the_bus_or_its_voltage_criterion() -> None:
    n = assemble(small())[0].network
    np.testing.assert_allclose(n.vm_pu_min, [0.95, 0.93, 0.95, 0.9])
    np.testing.assert_allclose(n.vm_pu_max, [1.08, 1.08, 1.08, 1.1])


def test_closed_switch_merges_buses_and_folds_the_line_between() -> None:
    columns = with_switch(small(), "b", "c", closed=True)
    n = assemble(columns)[0].network
    assert n.bus_id.tolist() == ["a", "b", "d"]
    assert locate_buses(columns).tolist() == [0, 1, 1, 2]
    assert n.branch_id.tolist() == ["l1", "t1"]
    # Both half charging susceptances of the line remain at the node.
    assert n.b_shunt_pu[1] == pytest.approx(2e-4 * 121)
    apart = assemble(with_switch(small(), "b", "c", closed=False))[0].network
    assert apart.n_bus == 4


def test_switch_with_resistance_is_a_branch() -> None:
    n = assemble(with_switch(small(), "a", "c", closed=True, r_ohm=2.42))[0].network
    assert n.r_pu[-1] == pytest.approx(0.02)
    assert n.x_pu[-1] == pytest.approx(0.01)
    assert not n.outage_candidate[-1]


def test_open_end_becomes_a_shunt_with_the_same_admittance() -> None:
    columns = small()
    columns["line"] = {k: np.concatenate([v, v[1:]]) for k, v in columns["line"].items()}
    columns["line"]["id"] = text("l1", "l2", "l3")
    whole = assemble(columns)[0].network
    n = assemble(with_switch(columns, "c", "l3", closed=False))[0].network
    assert n.branch_id.tolist() == ["l1", "l2", "t1"]
    yff, yft, ytf, ytt = (y[2] for y in whole.branch_admittances())
    assert n.g_shunt_pu[1] + 1j * n.b_shunt_pu[1] == pytest.approx(yff - yft * ytf / ytt)


def test_bus_out_of_service_leaves_its_line_dangling_and_its_transformer_out() -> None:
    columns = small()
    columns["bus_state"] = {
        "id": text("a", "b", "c", "d"),
        "in_service": np.array([True, True, False, True]),
        "vm_pu": np.full(4, np.nan),
        "va_deg": np.full(4, np.nan),
    }
    grid, snapshot = assemble(columns)
    assert grid.network.bus_id.tolist() == ["a", "b"]
    assert grid.network.branch_id.tolist() == ["l1"]
    assert grid.network.b_shunt_pu[1] > 0
    assert grid.loads.n == 0
    assert snapshot.load_p_mw.size == 0
    assert locate_buses(columns).tolist() == [0, 1, -1, -1]
    assert find_islands(columns).bus[2] == -1


def test_slack_needs_a_unit_that_controls_voltage() -> None:
    columns = small()
    columns["unit_state"]["in_service"] = np.array([False])
    assert find_islands(columns).slack.size == 0
    with pytest.raises(ValueError, match="slack"):
        assemble(columns)


def test_second_slack_is_an_ordinary_voltage_controlled_bus() -> None:
    columns = small()
    columns["bus"]["slack"] = np.array([True, False, True, False])
    columns["unit"] = {k: np.concatenate([v, v]) for k, v in columns["unit"].items()}
    columns["unit"] |= {"id": text("u", "v"), "bus": text("c", "a")}
    columns["unit_state"] = {k: np.concatenate([v, v]) for k, v in columns["unit_state"].items()}
    columns["unit_state"] |= {"id": text("u", "v")}
    grid, snapshot = assemble(columns)
    assert grid.network.slack == 0
    assert find_islands(columns).slack.tolist() == [0, 2]
    np.testing.assert_allclose(snapshot.unit_vm_set_pu, 1.04)


def test_costs_follow_their_units_in_order() -> None:
    columns = small()
    columns["cost_segment"] = {
        "device": text("u", "other", "u"),
        "segment": np.array([1, 0, 0]),
        "p_mw_from": np.array([50.0, 0.0, 10.0]),
        "p_mw_to": np.array([90.0, 5.0, 50.0]),
        "marginal_eur_per_mwh": np.array([40.0, 1.0, 30.0]),
    }
    columns["start_cost"] = {
        "device": text("u", "u"),
        "off_h_min": np.array([8, 1]),
        "cost_eur": np.array([900.0, 500.0]),
    }
    units = assemble(columns)[0].units
    assert units.segment_unit.tolist() == [0, 0]
    assert units.segment_mw.tolist() == [40.0, 40.0]
    assert units.segment_eur_per_mwh.tolist() == [30.0, 40.0]
    assert units.start_off_h.tolist() == [1, 8]
    assert units.start_eur.tolist() == [500.0, 900.0]
    assert np.isinf(units.energy_mwh_max[0])


def test_start_is_a_dc_power_flow_with_the_phase_shift() -> None:
    _, snapshot = assemble(small())
    assert snapshot.vm_pu.tolist() == [1.04] * 4
    assert np.rad2deg(snapshot.va_rad[3]) == pytest.approx(-150, abs=15)
    columns = small()
    columns["bus_state"] = {
        "id": text("a", "b", "c", "d"),
        "in_service": np.full(4, True),
        "vm_pu": np.array([1.04, 1.03, 1.02, 1.01]),
        "va_deg": np.array([3.0, 2.0, 1.0, -150.0]),
    }
    _, solved = assemble(columns)
    np.testing.assert_allclose(solved.vm_pu, [1.04, 1.03, 1.02, 1.01])
    assert np.rad2deg(solved.va_rad[0]) == pytest.approx(3.0)


@pytest.mark.parametrize("side", ["from", "to"])
@pytest.mark.parametrize(("angle", "shifter"), [(0.0, False), (90.0, False), (25.0, False), (1.2, True)])
def test_with_state_equals_assembling_at_that_tap(side: str, angle: float, shifter: bool) -> None:
    columns = small()
    columns["transformer"] |= {
        "tap_side": text(side),
        "tap_step_deg": np.array([angle]),
        "tap_phase_shifter": np.array([shifter]),
        "tap_neutral": np.array([2]),
    }

    def at(tap: int) -> Columns:
        return {
            **columns,
            "branch_state": {"id": text("t1"), "in_service": np.array([True]), "tap": np.array([tap])},
        }

    start, goal = assemble(at(-3))[0], assemble(at(6))[0]
    moved = with_state(start.network, np.array([6]), start.shunts.step, start.shunts)
    for mine, other in zip(moved.branch_admittances(), goal.network.branch_admittances(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-13)
    assert moved.tap.tolist() == [6]
    back = with_state(moved, np.array([-3]), start.shunts.step, start.shunts)
    np.testing.assert_allclose(back.r_pu, start.network.r_pu, rtol=1e-13)


def test_with_state_switches_shunts() -> None:
    columns = small()
    columns["shunt"] = {
        "id": text("k"),
        "bus": text("d"),
        "g_step_mw": np.array([0.1]),
        "b_step_mvar": np.array([4.0]),
        "step_min": np.array([0]),
        "step_max": np.array([5]),
        "controllable": np.array([True]),
    }
    columns["shunt_state"] = {"id": text("k"), "in_service": np.array([True]), "step": np.array([2])}
    grid, snapshot = assemble(columns)
    assert grid.network.b_shunt_pu[3] == pytest.approx(0.08)
    assert snapshot.shunt_step.tolist() == [2]
    moved = with_state(grid.network, grid.network.tap, np.array([5]), grid.shunts)
    assert moved.b_shunt_pu[3] == pytest.approx(0.2)
    assert moved.g_shunt_pu[3] == pytest.approx(0.005)
    later = replace(grid.shunts, step=np.array([5]))
    assert with_state(moved, moved.tap, np.array([0]), later).b_shunt_pu[3] == pytest.approx(0.0, abs=1e-15)


def test_tap_turn_of_a_quadrature_booster() -> None:
    turn = tap_turn(np.array([2.0]), np.array([0.05]), np.array([np.pi / 2]), np.array([False]))
    assert np.abs(turn[0]) == pytest.approx(np.hypot(1, 0.1))
    assert np.angle(turn[0]) == pytest.approx(np.arctan(0.1))


def test_missing_states_mean_in_service_at_neutral() -> None:
    columns = small()
    del columns["unit_state"], columns["load_state"]
    grid, snapshot = assemble(columns)
    assert grid.network.tap.tolist() == [0]
    assert snapshot.unit_on.all()
    assert snapshot.load_p_mw.tolist() == [0.0]
    assert MISSING_INT < 0
