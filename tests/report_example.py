"""A seeded, plausible ReportData of any size and length: nothing in it was computed, all of it looks real."""

import numpy as np
import pyarrow as pa

from bos_core.report import data as rd
from bos_core.report import violations

TECHNOLOGIES = {
    "nuclear": (0.02, 1200, 0.92),
    "lignite": (0.08, 450, 0.7),
    "hard_coal": (0.14, 350, 0.45),
    "gas_ccgt": (0.12, 300, 0.35),
    "gas_ocgt": (0.1, 90, 0.05),
    "oil": (0.03, 60, 0.02),
    "biomass": (0.06, 60, 0.7),
    "waste": (0.03, 40, 0.6),
    "run_of_river": (0.07, 50, 0.5),
    "import": (0.05, 800, 0.2),
    "wind_offshore": (0.04, 500, 0.4),
    "wind_onshore": (0.16, 220, 0.25),
    "solar": (0.1, 250, 0.11),
}
VARIABLE = ("run_of_river", "wind_offshore", "wind_onshore", "solar")


def make(hours: int = 168, buses: int = 500, branches: int = 1000, units: int = 300, coordinates: bool = True):
    rng = np.random.default_rng(20160101)
    lon, lat = rng.uniform(6.2, 14.8, buses), rng.uniform(47.5, 54.8, buses)
    base_kv = np.where(rng.random(buses) < 0.55, 380.0, 220.0)
    from_bus, to_bus = _neighbours(lon, lat, branches)
    load, wind, sun, hydro = _weather(hours, rng)
    schedule = _schedule(hours, buses, branches, units, base_kv, load, wind, sun, hydro, rng)
    contingencies = _contingencies(hours, branches, load, rng)
    violated = _violated(contingencies)
    before = violated.sum(axis=1) + rng.poisson(6 * (load > 0.85))
    after = np.where(rng.random(hours) < 0.05, np.minimum(before, 3), 0)
    adjusted = np.flatnonzero(before > after)
    network = rd.Network(
        bus_name=schedule.bus_name,
        base_kv=base_kv,
        longitude_deg=lon if coordinates else np.full(buses, np.nan),
        latitude_deg=lat if coordinates else np.full(buses, np.nan),
        branch_name=schedule.branch_name,
        from_bus=from_bus,
        to_bus=to_bus,
        is_transformer=base_kv[from_bus] != base_kv[to_bus],
        is_fictitious=rng.random(branches) < 0.03,
        snapshot_title=np.array(["Highest loading, after adjustment", "Peak load", "Lowest load"]),
        loading=schedule.branch_loading[
            [schedule.branch_loading.max(axis=1).argmax(), load.argmax(), load.argmin()]
        ],
        vm_pu=schedule.bus_vm_pu[[0, load.argmax(), load.argmin()]],
    )
    pairs = hours * branches
    return rd.ReportData(
        head=_head(hours, buses, branches, units, after),
        figures=_figures(schedule, pairs, before, after, adjusted.size),
        programs=_programs(),
        table6=_table6(hours, branches, adjusted.size),
        network=network,
        schedule=schedule,
        contingencies=contingencies,
        security=_security(contingencies, schedule, before, after, pairs, rng),
        adjustment=rd.Adjustment(
            hour=adjusted,
            outcome=np.where(after[adjusted] > 0, 1, 0),
            rounds=rng.integers(1, 5, adjusted.size),
            moved_mw=rng.gamma(2, 90, adjusted.size),
            curtailed_mw=rng.gamma(1, 25, adjusted.size),
            shed_mw=np.where(rng.random(adjusted.size) < 0.03, rng.gamma(1, 15, adjusted.size), 0.0),
            cost_eur=rng.gamma(2, 4000, adjusted.size),
        ),
        snapshot_log=_snapshot_log(),
        equivalence=_equivalence(),
        annual=_annual(rng),
        provenance=_provenance(hours, branches, adjusted.size),
    )


def _neighbours(lon, lat, branches):
    distance = np.hypot((lon[:, None] - lon) * 0.63, lat[:, None] - lat)
    np.fill_diagonal(distance, np.inf)
    pairs, chosen = [], set()
    reached, left = [0], set(range(1, lon.size))
    nearest = {b: (distance[0, b], 0) for b in left}
    while left:
        bus = min(left, key=lambda b: nearest[b])
        pairs.append((nearest[bus][1], bus))
        left.remove(bus)
        reached.append(bus)
        for other in left:
            nearest[other] = min(nearest[other], (distance[bus, other], bus))
    chosen = {tuple(sorted(p)) for p in pairs}
    rest = sorted((distance[i, j], i, j) for i in range(lon.size) for j in np.argsort(distance[i])[:5] if i < j)
    pairs += [(i, int(j)) for _, i, j in rest if (i, int(j)) not in chosen]
    while len(pairs) < branches:
        pairs += pairs[: branches - len(pairs)]
    ends = np.array(pairs[:branches])
    return ends[:, 0], ends[:, 1]


def _weather(hours, rng):
    hour = np.arange(hours)
    season = np.cos(2 * np.pi * hour / 8760)
    weekend = np.isin((hour // 24 + 4) % 7, [5, 6])
    clock = hour % 24
    front = np.zeros(hours)
    for t in range(1, hours):
        front[t] = 0.985 * front[t - 1] + 0.17 * rng.standard_normal()
    morning = np.exp(-(((clock - 10.5) / 4.5) ** 2)) + 0.9 * np.exp(-(((clock - 19) / 3) ** 2))
    load = 0.55 + 0.08 * season + 0.28 * morning - 0.1 * weekend + 0.01 * rng.standard_normal(hours)
    wind = np.clip(0.32 + 0.1 * season + 0.25 * front, 0.01, 0.97)
    half_day = 6 - 2 * season
    sun = np.clip(np.cos(np.pi * (clock - 12.5) / (2 * half_day)), 0, None) * (np.abs(clock - 12.5) < half_day)
    sun *= (0.55 - 0.3 * season) * np.clip(
        0.85 + 0.2 * rng.standard_normal(hours // 24 + 1)[hour // 24], 0.25, 1.2
    )
    return load, wind, sun, 0.5 + 0.2 * season


def _schedule(hours, buses, branches, units, base_kv, load, wind, sun, hydro, rng):
    names = list(TECHNOLOGIES)
    share = np.array([TECHNOLOGIES[n][0] for n in names])
    technology = rng.choice(names, units, p=share / share.sum())
    size = np.array([TECHNOLOGIES[t][1] for t in technology]) * rng.uniform(0.5, 1.5, units)
    p = np.zeros((hours, units))
    variable = {"run_of_river": hydro, "wind_offshore": np.sqrt(wind), "wind_onshore": wind, "solar": sun}
    curtailed = np.zeros((hours, units))
    for u in np.flatnonzero(np.isin(technology, VARIABLE)):
        own = np.clip(variable[technology[u]] * (1 + 0.1 * rng.standard_normal()), 0, 1)
        available = size[u] * own
        curtailed[:, u] = np.where((own > 0.9) & (technology[u] != "run_of_river"), 0.2 * available, 0)
        p[:, u] = available - curtailed[:, u]
    demand = load * 0.75 * size.sum()
    residual = np.maximum(demand * 1.015 - p.sum(axis=1), 0)
    thermal = [u for n in names for u in np.flatnonzero(technology == n) if n not in VARIABLE]
    on = np.zeros((hours, units), bool)
    on[:, np.isin(technology, VARIABLE)] = True
    for u in thermal:
        p[:, u] = np.clip(residual, 0, size[u] * (0.93 + 0.07 * rng.random()))
        p[:, u] = np.where(p[:, u] < 0.3 * size[u], 0, p[:, u])
        on[:, u] = p[:, u] > 0
        residual -= p[:, u]
    shed = np.maximum(residual - 500, 0) * 0
    losses = 0.012 * demand * load / load.mean()
    kv_offset = np.where(base_kv == 380, 0.025, 0.01)
    vm = 1.0 + kv_offset + 0.012 * rng.standard_normal(buses) - 0.03 * (load[:, None] - 0.7)
    vm += 0.004 * rng.standard_normal((hours, buses))
    controls = (rng.random(units) < 0.5) & ~np.isin(technology, VARIABLE)
    v_set = np.where(
        on & controls, 1.02 + 0.02 * rng.standard_normal(units) - 0.02 * (load[:, None] - 0.7), np.nan
    )
    loading = np.abs(rng.gamma(2.2, 0.17, branches) * (0.4 + 0.8 * load[:, None] * (0.6 + 0.8 * wind[:, None])))
    loading = np.minimum(loading + 0.02 * rng.standard_normal((hours, branches)), 1.0).clip(0.01)
    price = 25 + 45 * np.clip((load - 0.35 * wind - 0.4 * sun), 0, 1) ** 2
    congestion = (wind[:, None] > 0.55) * rng.standard_normal(buses) * 9
    lmp = price[:, None] + congestion + 0.02 * price[:, None] * rng.standard_normal(buses)
    pumped = 800 * np.sin(2 * np.pi * (np.arange(hours)[:, None] % 24 - np.array([6, 7, 8])) / 24)
    starts = (on[1:] & ~on[:-1]).sum(axis=1)
    cost_energy = (p * np.where(np.isin(technology, VARIABLE), 0.0, 32.0)).sum(axis=1)
    return rd.Schedule(
        unit_name=np.array([f"{t.split('_')[0]} {i}" for i, t in enumerate(technology)]),
        unit_technology=technology,
        unit_p_mw_max=size,
        unit_p_mw=p,
        unit_on=on,
        unit_committable=~np.isin(technology, VARIABLE),
        unit_vm_set_pu=v_set,
        unit_curtailed_mw=curtailed,
        svg_name=np.array([f"SVG {i}" for i in range(12)]),
        svg_q_mvar=120
        * np.tanh(rng.standard_normal(12) + 6 * (load[:, None] - 0.7) + 0.2 * rng.standard_normal(12)),
        bus_name=np.array([f"EHV Bus {i}" for i in range(buses)]),
        bus_base_kv=base_kv,
        bus_vm_pu=vm,
        bus_vm_pu_min=np.full(buses, 0.9),
        bus_vm_pu_max=np.full(buses, 1.1),
        branch_name=np.array([f"EHV Line {i}" for i in range(branches)]),
        branch_loading=loading,
        branch_loading_max=np.ones(branches),
        branch_overload_hours_n1=rng.binomial(hours, np.clip(loading.mean(axis=0) - 0.55, 0, 1) * 0.4),
        load_mw=demand,
        losses_mw=losses,
        shed_mw=shed,
        reserve_up_mw=demand * 0.055 + 200 * rng.random(hours),
        reserve_down_mw=demand * 0.03 + 150 * rng.random(hours),
        reserve_up_required_mw=demand * 0.05,
        reserve_down_required_mw=demand * 0.025,
        storage_name=np.array(["Goldisthal", "Markersbach", "Waldeck"]),
        storage_p_mw=pumped,
        storage_energy_mwh=4000 - np.cumsum(pumped, axis=0) * 0.9,
        hvdc_name=np.array(["SuedLink", "Ultranet"]),
        hvdc_p_mw=np.stack([1800 * wind, 1200 * wind**2], axis=1),
        lmp_eur_per_mwh=lmp,
        cost_eur={
            "energy above": cost_energy,
            "minimum output": 0.08 * cost_energy,
            "start-up": np.append(0, starts) * 12000.0,
            "curtailment": curtailed.sum(axis=1) * 5.0,
            "shedding": shed * 10000,
            "adjustment": 0.01 * cost_energy,
        },
        co2_t=0.4 * cost_energy / 32,
    )


def _contingencies(hours, branches, load, rng):
    count = min(branches, 705)
    stress = rng.gamma(3, 0.16, count)
    loading = 0.35 + stress * (0.3 + load[:, None]) + 0.03 * rng.standard_normal((hours, count))
    low = 0.985 - 0.05 * stress * load[:, None] - np.abs(0.004 * rng.standard_normal((hours, count)))
    high = 1.06 + 0.008 * stress + 0.006 * rng.standard_normal((hours, count))
    outcome = np.zeros((hours, count), np.int64)
    outcome[:, rng.choice(count, count // 40, replace=False)] = rd.ISLANDED
    outcome[(stress > np.quantile(stress, 0.995)) & (load[:, None] > 0.93)] = rd.DIVERGED
    diverged = outcome == rd.DIVERGED
    return rd.Contingencies(
        name=np.array([f"EHV Line {i}" for i in range(count)]),
        total=count,
        outcome=outcome,
        loading_max=np.where(diverged, np.nan, loading),
        vm_min_pu=np.where(diverged, np.nan, low),
        vm_max_pu=np.where(diverged, np.nan, high),
        stage="before adjustment",
    )


def _violated(c):
    return (c.outcome == rd.DIVERGED) | (c.loading_max > 1.45) | (c.vm_min_pu < c.vm_pu_low)


def _security(c, schedule, before, after, pairs, rng):
    worst = np.argsort(-np.nan_to_num(c.loading_max, nan=9).ravel(), kind="stable")[:25]
    rows = []
    for place in worst:
        h, k = np.unravel_index(place, c.outcome.shape)
        rows.append(
            rd.Pair(
                int(h),
                str(c.name[k]),
                int(c.outcome[h, k]),
                float(c.loading_max[h, k]),
                f"EHV Line {int(k) + 3}",
                float(c.vm_min_pu[h, k]),
                f"EHV Bus {int(k) % 90}",
                float(c.vm_max_pu[h, k]),
                f"EHV Bus {int(k) % 70}",
                12.5 if k % 7 == 0 else 0.0,
            )
        )
    monitored = tuple(
        rd.Monitored(
            f"EHV Line {i * 7}", int(9000 / (i + 1)), int(150 / (i + 1)) + 1, 1.6 - 0.02 * i, f"EHV Line {i}"
        )
        for i in range(22)
    )
    hour = np.repeat(np.flatnonzero(after), 12)
    name = np.array([*(f"EHV Line {i}" for i in range(700)), "EHV Bus 7", "EHV Bus 8", violations.BASE_CASE])
    low = np.arange(hour.size) % 3 == 0
    remaining = violations.table(
        [
            {
                "hour": hour[chosen],
                "outage": violations.names(name, rng.choice([5, 9, 17, 702], int(chosen.sum()))),
                "element": violations.names(name, rng.choice(elements, int(chosen.sum()))),
                "kind": violations.repeated(kind, int(chosen.sum())),
                "value": np.full(int(chosen.sum()), value),
                "limit": np.full(int(chosen.sum()), limit),
                "relaxation": np.full(int(chosen.sum()), abs(value - limit)),
                **({"shed_mw": np.full(int(chosen.sum()), 14.2)} if kind == violations.OVERLOAD else {}),
            }
            for chosen, kind, elements, value, limit in (
                (low, violations.UNDERVOLTAGE, [700, 701], 0.893, 0.9),
                (~low, violations.OVERLOAD, np.arange(60), 1.07, 1.0),
            )
        ]
    )
    islanded = int((c.outcome == rd.ISLANDED).sum())
    diverged = int((c.outcome == rd.DIVERGED).sum())
    return rd.Security(
        outcome_pairs={"converged": pairs - islanded - diverged, "islanded": islanded, "diverged": diverged},
        violations_before=before.astype(np.int64),
        violations_after=after.astype(np.int64),
        worst=tuple(rows),
        monitored=monitored,
        remaining=remaining,
    )


def _head(hours, buses, branches, units, after):
    return rd.Head(
        title=f"Planning chain: example grid, {hours} h",
        outcome=f"The schedule is N-1 secure in {hours - int((after > 0).sum()):,} of {hours:,} hours; "
        f"{int(after.sum()):,} pairs stay violated and are listed with their least relaxation.",
        trace_id="0193a1d2-7b7e-7c40-9d57-6a1c0f2f3b11",
        run_id="brave-falcon",
        scenario="example",
        scenario_version="v9 5d2e71c0",
        created="2026-11-22 21:40",
        start="2016-01-01T00:00",
        hours=hours,
        sizes={"buses": buses, "branches": branches, "units": units, "loads": 480, "HVDC lines": 2},
        source_sizes={"buses": 34479, "branches": 36410},
        user="planner",
        project="demo",
        warnings=("Daily unit commitment of 4 January stopped at a gap of 0.4 %.",),
    )


def _figures(s, pairs, before, after, adjusted):
    load = float(s.load_mw.sum())
    renewable = float(s.unit_p_mw[:, np.isin(s.unit_technology, [*VARIABLE, "biomass"])].sum())
    return rd.KeyFigures(
        cost_eur=float(sum(v.sum() for v in s.cost_eur.values())),
        co2_t=float(s.co2_t.sum()),
        load_mwh=load,
        renewable_share=renewable / load,
        curtailed_mwh=float(s.unit_curtailed_mw.sum()),
        shed_mwh=0.0,
        losses_mwh=float(s.losses_mw.sum()),
        pairs_verified=pairs,
        pairs_converged=pairs - 2500,
        pairs_islanded=2400,
        pairs_diverged=100,
        violations_before=int(before.sum()),
        violations_after=int(after.sum()),
        hours_adjusted=adjusted,
        wall_s=412.0,
        memory_gib=0.71,
    )


def _programs():
    return (
        rd.Program("Unit commitment", "unit_commitment", "highs_uc", "1.0.0", "9f2c61ab0d3e"),
        rd.Program("Active dispatch", "active_dispatch", "lazy_ptdf", "1.0.0", "41d0c2ee7a90"),
        rd.Program("Reactive dispatch", "reactive_dispatch", "ipopt_rpd", "1.0.0", "c77b12f09a15"),
        rd.Program("N-1 verification", "n1_verification", "batched_newton", "1.0.0", "02a9b3c4d5e6"),
    )


def _table6(hours, branches, adjusted):
    days = -(-hours // 24)
    return (
        rd.Table6Row("Unit commitment", days + 1, days + 1, 0.61, 22.0, 0.02, 0.71),
        rd.Table6Row("Active dispatch", days + 1, days + 1, 0.21, 5.1, 0.04, 0.42),
        rd.Table6Row("Reactive dispatch", days, hours + 1, 0.048, 0.048 * hours / 1.8, 0.05, 0.35),
        rd.Table6Row("N-1 verification", days, hours * branches, 11.2e-6, hours * branches * 6e-6, 0.07, 0.57),
        rd.Table6Row(
            "State adjustment", max(adjusted // 8, 1), adjusted, 0.33, 0.19 * max(adjusted, 1), 0.03, 0.63
        ),
        rd.Table6Row("Annual states", 1, 1, 1.4, 1.4, 0.3, 0.5),
    )


def _snapshot_log():
    unit = lambda u: {b"unit": u.encode()}  # noqa: E731
    schema = pa.schema(
        [
            pa.field("iteration", pa.int64()),
            pa.field("action", pa.string()),
            pa.field("loading_max", pa.float64(), metadata=unit("%")),
            pa.field("vm_min", pa.float64(), metadata=unit("p.u.")),
            pa.field("vm_max", pa.float64(), metadata=unit("p.u.")),
            pa.field("violations", pa.int64()),
            pa.field("accepted", pa.bool_()),
        ]
    )
    columns = [
        [0, 1, 2, 3],
        ["as imported", "redispatch 3 412 MW", "switch 6 shunts", "redispatch 220 MW"],
        [512.3, 131.0, 104.2, 99.9],
        [0.765, 0.931, 0.957, 0.961],
        [1.142, 1.113, 1.091, 1.088],
        [97, 12, 3, 0],
        [False, False, False, True],
    ]
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def _equivalence():
    return pa.table(
        {
            "operating_point": ["base", "second", "40 heavy outages"],
            "vm_error_max": [3.1e-9, 2.4e-3, 4.9e-3],
            "vm_error_median": [4.0e-10, 3.5e-4, 6.1e-4],
            "flow_error_max_mw": [2.2e-6, 8.31, 17.4],
            "boundary_mismatch_mva": [1.1e-6, 5.2, 9.9],
        }
    )


def _annual(rng):
    load, wind, sun, _ = _weather(8760, rng)
    past = np.stack([load * 60000, wind * 45000, sun * 40000], axis=1)
    load, wind, sun, _ = _weather(8760, rng)
    plan = np.stack([load * 60000, wind * 45000, sun * 40000], axis=1)
    low = 1.3 - load.reshape(365, 24).max(axis=1).repeat(24)
    return rd.AnnualStates(
        program="block_bootstrap",
        name=np.array(["Load", "Wind", "Solar"]),
        historical_mw=past,
        planned_mw=plan,
        outage_mw={
            "nuclear": 1300.0 * (np.arange(8760) // 900 % 3 == 1),
            "hard_coal": 4000 * low,
            "gas_ccgt": 1800 * low + 300 * rng.random(8760),
        },
    )


def _provenance(hours, branches, adjusted):
    days = -(-hours // 24)
    rows = (
        ("System model", "exchange/simbench@77aa01", 1, 1, 1, "v0", "v1"),
        ("Snapshot", "security_assessment/redispatch@1b2c3d", 1, 4, 1, "v1", "v2"),
        ("Equivalence", "equivalence/extended_ward@90fe12", 1, 1, 0, "v2", "v3"),
        ("Annual states", "scenario_sequence/historical@aa12cd", 1, 8760, 0, "v3", "v4"),
        ("Unit commitment", "unit_commitment/highs_uc@9f2c61", days + 1, days + 1, 0, "v4", "v5"),
        ("Active dispatch", "active_dispatch/lazy_ptdf@41d0c2", days + 1, days + 1, 0, "v5", "v6"),
        ("Reactive dispatch", "reactive_dispatch/ipopt_rpd@c77b12", days, hours, 2, "v6", "v7"),
        ("N-1 verification", "n1_verification/batched_newton@02a9b3", days, hours * branches, 0, "v7", "v8"),
        ("State adjustment", "state_adjustment/redispatch@5d6e7f", max(adjusted // 8, 1), adjusted, 1, "v8", "v9"),
    )
    return tuple(rd.Provenance(s, p, t, t, 0, r, n, a, b) for s, p, t, n, r, a, b in rows)
