"""A six-bus grid with one of every kind of device: for examples and tests, invented numbers.

Two areas, buses 0-2 (cheap units) and 3-5 (demand, wind), are joined by two lines, a phase shifter and an HVDC
line.
"""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import (
    BranchKind,
    Grid,
    HvdcLines,
    Loads,
    Network,
    Shunts,
    Storages,
    StrArray,
    Svgs,
    Units,
)


def _names(kind: str, count: int) -> StrArray:
    return np.array([f"{kind} {i}" for i in range(count)])


def _network() -> Network:
    ends = np.array([(0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 4), (3, 5), (4, 5), (2, 5)])
    m, n = len(ends), 6
    kind = np.full(m, int(BranchKind.LINE))
    kind[8] = BranchKind.TRANSFORMER
    shift = np.zeros(m)
    shift[8] = 0.03
    none = np.zeros(0, np.int64)
    return Network(
        base_mva=100.0,
        bus_id=_names("bus", n),
        bus_name=_names("bus", n),
        base_kv=np.full(n, 220.0),
        vm_pu_min=np.full(n, 0.95),
        vm_pu_max=np.full(n, 1.05),
        g_shunt_pu=np.zeros(n),
        b_shunt_pu=np.zeros(n),
        longitude_deg=np.array([9.0, 9.5, 10.0, 10.5, 11.0, 11.5]),
        latitude_deg=np.array([48.0, 48.5, 48.0, 48.5, 48.0, 48.5]),
        slack=0,
        branch_id=_names("branch", m),
        branch_name=_names("branch", m),
        branch_kind=kind,
        from_bus=ends[:, 0].astype(np.int64),
        to_bus=ends[:, 1].astype(np.int64),
        r_pu=np.full(m, 0.004),
        x_pu=np.array([0.04, 0.05, 0.06, 0.08, 0.07, 0.04, 0.05, 0.06, 0.09]),
        g_from_pu=np.zeros(m),
        b_from_pu=np.full(m, 0.02),
        g_to_pu=np.zeros(m),
        b_to_pu=np.full(m, 0.02),
        ratio=np.where(kind == BranchKind.TRANSFORMER, 1.02, 1.0),
        shift_rad=shift,
        i_max_from_pu=np.full(m, 3.0),
        i_max_to_pu=np.full(m, 3.0),
        outage_candidate=np.ones(m, bool),
        tap_branch=none,
        tap=none,
        tap_min=none,
        tap_max=none,
        tap_neutral=none,
        tap_step=np.zeros(0),
        tap_step_rad=np.zeros(0),
        tap_at_from=np.zeros(0, bool),
        tap_phase_shifter=np.zeros(0, bool),
    )


def _units() -> Units:
    technology = np.array(["nuclear", "coal", "coal", "ccgt", "turbine", "exchange", "wind", "solar", "solar"])
    n = technology.size
    committable = np.arange(n) < 5
    p_max = np.array([300.0, 200.0, 160.0, 180.0, 80.0, 60.0, 180.0, 60.0, 90.0])
    ramp = np.array([60.0, 50.0, 60.0, 120.0, 80.0, 60.0, np.inf, np.inf, np.inf])
    segment = [(0, 300.0, 9.0), (1, 60.0, 24.0), (1, 60.0, 28.0), (2, 50.0, 27.0), (2, 50.0, 31.0)]
    segment += [(3, 60.0, 42.0), (3, 60.0, 45.0), (4, 70.0, 71.0), (5, 60.0, 65.0)]
    start = [(0, 24, 60000.0), (1, 4, 3000.0), (1, 8, 4500.0), (1, 24, 7000.0), (2, 3, 2500.0), (2, 12, 4000.0)]
    start += [(3, 2, 1500.0), (3, 6, 2400.0), (4, 1, 400.0)]
    return Units(
        id=_names("unit", n),
        name=technology,
        technology=technology,
        bus=np.array([0, 0, 1, 2, 3, 5, 4, 4, 4]),
        p_mw_min=np.array([150.0, 80.0, 60.0, 60.0, 10.0, -40.0, 0.0, 0.0, 0.0]),
        p_mw_max=p_max,
        q_mvar_min=-0.3 * p_max,
        q_mvar_max=0.4 * p_max,
        voltage_control=committable.copy(),
        variable=np.arange(n) > 5,
        committable=committable,
        must_run=np.arange(n) == 0,
        ramp_up_mw_per_h=ramp,
        ramp_down_mw_per_h=ramp * 1.1,
        startup_mw=np.array([150.0, 100.0, 80.0, 100.0, 60.0, 60.0, 180.0, 60.0, 90.0]),
        shutdown_mw=np.array([150.0, 90.0, 80.0, 100.0, 50.0, 60.0, 180.0, 60.0, 90.0]),
        min_up_h=np.array([24, 5, 4, 2, 1, 0, 0, 0, 0]),
        min_down_h=np.array([24, 4, 3, 2, 1, 0, 0, 0, 0]),
        energy_mwh_max=np.full(n, np.inf),
        minimum_output_eur_per_h=np.array([1600.0, 2300.0, 1900.0, 2900.0, 800.0, 0.0, 0.0, 0.0, 0.0]),
        shutdown_eur=np.array([0.0, 100.0, 80.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        co2_t_per_mwh=np.array([0.0, 0.9, 0.9, 0.36, 0.6, 0.0, 0.0, 0.0, 0.0]),
        curtailment_eur_per_mwh=np.where(np.arange(n) > 5, 20.0, 0.0),
        segment_unit=np.array([s[0] for s in segment]),
        segment_mw=np.array([s[1] for s in segment]),
        segment_eur_per_mwh=np.array([s[2] for s in segment]),
        start_unit=np.array([s[0] for s in start]),
        start_off_h=np.array([s[1] for s in start]),
        start_eur=np.array([s[2] for s in start]),
    )


def six_bus() -> Grid:
    """Return the grid: 9 units, 4 loads, a storage, an HVDC line, a shunt and a static var generator."""
    return Grid(
        network=_network(),
        units=_units(),
        loads=Loads(
            id=_names("load", 4),
            name=_names("load", 4),
            bus=np.array([1, 3, 4, 5]),
            share_z=np.zeros(4),
            share_i=np.zeros(4),
            sheddable=np.array([True, True, True, False]),
        ),
        shunts=Shunts(
            id=_names("shunt", 1),
            bus=np.array([4]),
            g_step_pu=np.zeros(1),
            b_step_pu=np.full(1, 0.1),
            step=np.zeros(1, np.int64),
            step_min=np.zeros(1, np.int64),
            step_max=np.full(1, 3),
            controllable=np.ones(1, bool),
        ),
        svgs=Svgs(
            id=_names("svg", 1), bus=np.array([5]), q_mvar_min=np.array([-50.0]), q_mvar_max=np.array([50.0])
        ),
        storages=Storages(
            id=_names("storage", 1),
            bus=np.array([4]),
            p_charge_mw_max=np.array([40.0]),
            p_discharge_mw_max=np.array([50.0]),
            q_mvar_min=np.array([-20.0]),
            q_mvar_max=np.array([20.0]),
            energy_mwh_min=np.array([10.0]),
            energy_mwh_max=np.array([160.0]),
            efficiency_charge=np.array([0.9]),
            efficiency_discharge=np.array([0.92]),
        ),
        hvdc=HvdcLines(
            id=_names("hvdc", 1),
            name=_names("hvdc", 1),
            from_bus=np.array([0]),
            to_bus=np.array([5]),
            p_mw_min=np.array([-60.0]),
            p_mw_max=np.array([60.0]),
            loss_share=np.array([0.03]),
            loss_mw=np.array([0.5]),
            q_from_mvar_min=np.array([-20.0]),
            q_from_mvar_max=np.array([20.0]),
            q_to_mvar_min=np.array([-20.0]),
            q_to_mvar_max=np.array([20.0]),
        ),
    )


DAILY_SHAPE = np.array(
    [62, 60, 58, 57, 58, 62, 70, 80, 88, 91, 92, 94, 95, 92, 89, 87, 88, 93, 100, 99, 93, 85, 76, 68], float
)
SUN = np.array([0, 0, 0, 0, 0, 0, 4, 15, 32, 50, 65, 75, 78, 75, 66, 52, 35, 16, 4, 0, 0, 0, 0, 0], float) / 100
WIND = np.array(
    [55, 60, 66, 70, 72, 70, 64, 55, 45, 36, 30, 26, 24, 22, 20, 20, 22, 26, 32, 38, 42, 46, 50, 52], float
)


def day_of(grid: Grid, peak_mw: float = 720.0, hours: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Return demand (hour, load) and available power (hour, unit) of a repeating example day, in MW."""
    hour = np.arange(hours) % 24
    load = peak_mw * np.outer(DAILY_SHAPE[hour] / 100, [0.2, 0.3, 0.25, 0.25])
    available = np.tile(np.maximum(grid.units.p_mw_max, 0.0), (hours, 1))
    available[:, 6] *= WIND[hour] / 100
    available[:, 7:] *= SUN[hour][:, None]
    return load, available
