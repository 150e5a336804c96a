"""PGLib-UC's RTS-GMLC day: the schedule is read back with the instance's own words and costs."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bos_core.grid.model import Units
from bos_core.grid.six_bus import six_bus
from bos_core.programs.registry import resolve
from slots.unit_commitment.contract import FREE, Inputs, Outputs

INSTANCE = Path(__file__).parents[3] / "shared/yardsticks/pglib_uc/2020-01-27.json"
pytestmark = pytest.mark.skipif(
    not INSTANCE.exists(), reason="the PGLib-UC yardstick is not beside the repository"
)
UNLIMITED_MW = 1e6


@cache
def instance() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(INSTANCE.read_text())
    return found


def thermal() -> list[dict[str, Any]]:
    return list(instance()["thermal_generators"].values())


def renewable(hours: int) -> tuple[np.ndarray, np.ndarray]:
    units = instance()["renewable_generators"].values()
    low = np.array([u["power_output_minimum"][:hours] for u in units]).T
    return low, np.array([u["power_output_maximum"][:hours] for u in units]).T


def pglib_units(hours: int) -> Units:
    own = thermal()
    low, high = renewable(hours)
    n_own, n_other = len(own), low.shape[1]

    def values(key: str, other: float = 0.0) -> np.ndarray:
        return np.r_[np.array([g[key] for g in own], float), np.full(n_other, other)]

    def pairs(g: dict[str, Any]) -> list[tuple[float, float]]:
        points = g["piecewise_production"]
        return [
            (b["mw"] - a["mw"], (b["cost"] - a["cost"]) / (b["mw"] - a["mw"]))
            for a, b in itertools.pairwise(points)
        ]

    segments = [(i, *pair) for i, g in enumerate(own) for pair in pairs(g)]
    starts = [(i, s["lag"], s["cost"]) for i, g in enumerate(own) for s in g["startup"]]
    n = n_own + n_other
    names, zero = np.array([f"unit {i}" for i in range(n)]), np.zeros(n)
    p_max = np.r_[values("power_output_maximum")[:n_own], (high - low).max(0)]
    return Units(
        id=names,
        name=names,
        technology=names,
        bus=np.zeros(n, int),
        p_mw_min=values("power_output_minimum"),
        p_mw_max=p_max,
        q_mvar_min=-p_max,
        q_mvar_max=p_max,
        voltage_control=np.ones(n, bool),
        variable=np.arange(n) >= n_own,
        committable=np.arange(n) < n_own,
        must_run=values("must_run").astype(bool),
        ramp_up_mw_per_h=values("ramp_up_limit", UNLIMITED_MW),
        ramp_down_mw_per_h=values("ramp_down_limit", UNLIMITED_MW),
        startup_mw=values("ramp_startup_limit", UNLIMITED_MW),
        shutdown_mw=values("ramp_shutdown_limit", UNLIMITED_MW),
        min_up_h=values("time_up_minimum").astype(int),
        min_down_h=values("time_down_minimum").astype(int),
        energy_mwh_max=np.full(n, np.inf),
        minimum_output_eur_per_h=np.r_[
            np.array([g["piecewise_production"][0]["cost"] for g in own]), np.zeros(n_other)
        ],
        shutdown_eur=zero,
        co2_t_per_mwh=zero,
        curtailment_eur_per_mwh=zero,
        segment_unit=np.array([s[0] for s in segments]),
        segment_mw=np.array([s[1] for s in segments]),
        segment_eur_per_mwh=np.array([s[2] for s in segments]),
        start_unit=np.array([s[0] for s in starts]),
        start_off_h=np.array([s[1] for s in starts]),
        start_eur=np.array([s[2] for s in starts], float),
    )


def pglib_inputs(hours: int) -> Inputs:
    """The instance on one bus of a network without limits; what renewables must give is taken off the demand."""

    def first(devices: Any, count: int) -> Any:
        return type(devices)(**{f.name: getattr(devices, f.name)[:count] for f in fields(devices)})

    grid, units = six_bus(), pglib_units(hours)
    grid = replace(
        grid, units=units, loads=first(grid.loads, 1), storages=first(grid.storages, 0), hvdc=first(grid.hvdc, 0)
    )
    own, (low, high) = thermal(), renewable(hours)
    more = units.n - len(own)
    on = np.r_[np.array([bool(g["unit_on_t0"]) for g in own]), np.ones(more, bool)]
    lasted = np.array([g["time_up_t0"] if g["unit_on_t0"] else -g["time_down_t0"] for g in own])
    return Inputs(
        grid=grid,
        period_h=1,
        look_ahead=0,
        free_start=False,
        load_p_mw=(np.array(instance()["demand"][:hours]) - low.sum(1))[:, None],
        available_mw=np.hstack([np.tile(units.p_mw_max[: len(own)], (hours, 1)), high - low]),
        in_service=np.ones((hours, units.n), bool),
        reserve_up_mw=np.array(instance()["reserves"][:hours], float),
        reserve_down_mw=np.zeros(hours),
        branch_mw_max=np.full(grid.network.n_branch, np.inf),
        integer=units.committable,
        fixed_on=np.full((hours, units.n), FREE),
        initial_on=on,
        initial_h=np.r_[lasted, np.ones(more, int)],
        initial_p_mw=np.r_[np.array([g["power_output_t0"] for g in own]), np.zeros(more)],
        energy_mwh_max=np.full(units.n, np.inf),
        storage_initial_mwh=np.zeros(0),
        storage_final_mwh=np.zeros(0),
    )


def cost_in_own_words(outputs: Outputs) -> float:
    """Cost of a schedule by the instance's piecewise costs and start-up lags."""
    total = 0.0
    for i, g in enumerate(thermal()):
        points = g["piecewise_production"]
        mw, cost = [p["mw"] for p in points], [p["cost"] for p in points]
        off = 0 if g["unit_on_t0"] else g["time_down_t0"]
        for on, p in zip(outputs.on[:, i], outputs.p_mw[:, i], strict=True):
            if on:
                total += float(np.interp(p, mw, cost))
                if off:
                    total += [s["cost"] for s in g["startup"] if s["lag"] <= off][-1]
                off = 0
            else:
                off += 1
    return total


def broken_rules(outputs: Outputs) -> list[str]:
    """Check ramps with reserve, start and shutdown limits, minimum times, by the instance's own fields."""
    found = []
    p, r, on = outputs.p_mw, outputs.reserve_up_mw, outputs.on
    for i, g in enumerate(thermal()):
        before_on, before_p = bool(g["unit_on_t0"]), g["power_output_t0"]
        lasted = g["time_up_t0"] if before_on else g["time_down_t0"]
        for t in range(len(p)):
            top = p[t, i] + r[t, i]
            now = bool(on[t, i])
            high = g["power_output_maximum"] if before_on else g["ramp_startup_limit"]
            rise = g["ramp_up_limit"] if before_on and now else np.inf
            fall = g["ramp_down_limit"] if before_on and now else np.inf
            if now and not g["power_output_minimum"] - 1e-4 <= p[t, i] <= top <= high + 1e-4:
                found.append(f"{g['name']} at {t}: {p[t, i]} + {r[t, i]} MW is outside its limits")
            if not now and abs(p[t, i]) > 1e-4:
                found.append(f"{g['name']} at {t}: runs while off")
            if top - before_p > rise + 1e-4 or before_p - p[t, i] > fall + 1e-4:
                found.append(f"{g['name']} at {t}: ramps {before_p} to {p[t, i]} MW")
            if before_on and not now and before_p > g["ramp_shutdown_limit"] + 1e-4:
                found.append(f"{g['name']} at {t}: stops from {before_p} MW")
            if now != before_on:
                if lasted < g["time_up_minimum" if before_on else "time_down_minimum"]:
                    found.append(f"{g['name']} at {t}: switched after {lasted} h")
                lasted = 0
            before_on, before_p, lasted = now, p[t, i], lasted + 1
    return found


def test_two_days_of_rts_gmlc() -> None:
    inputs = pglib_inputs(48)
    outputs = resolve("unit_commitment", "highs_uc").run(inputs, {"gap": 0.01, "mip_binaries_max": 0})
    assert broken_rules(outputs) == []
    assert outputs.unserved_mw.sum() + outputs.surplus_mw.sum() + outputs.reserve_short_mw.sum() < 1e-4
    assert outputs.objective_eur == pytest.approx(cost_in_own_words(outputs), rel=1e-7)
    assert outputs.gap < 0.02
    assert outputs.bound_eur > 1.22e6


def test_the_first_hours_are_bracketed_by_an_independent_model() -> None:
    inputs = pglib_inputs(8)
    tight = resolve("unit_commitment", "highs_uc").run(inputs, {"gap": 0.005})
    plain = resolve("unit_commitment", "pyomo_uc").run(inputs, {"gap": 0.005})
    for outputs in (tight, plain):
        assert broken_rules(outputs) == []
        assert outputs.objective_eur == pytest.approx(cost_in_own_words(outputs), rel=1e-7)
        assert outputs.gap <= 0.005
    assert plain.bound_eur <= tight.objective_eur * (1 + 1e-9)
    assert tight.bound_eur <= plain.objective_eur * (1 + 1e-9)
