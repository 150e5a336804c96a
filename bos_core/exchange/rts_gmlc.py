"""RTS-GMLC: a folder of CSV files with real unit data and a leap year of hourly series.

Barrows et al. 2020, "The IEEE Reliability Test System: A Proposed 2019 Update", IEEE Trans. Power Systems 35(1).
Money is in USD of the source and kept as it is. Powers of series are in MW; 29 February is dropped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bos_core.exchange.tables import OwnCost, TableBuilder
from bos_core.grid.model import FloatArray, StrArray
from bos_core.objects.errors import Finding, FormatError
from bos_core.objects.ontology import HOURS_PER_YEAR, element_id

POUND_PER_TONNE = 2204.6226

_TECHNOLOGY = {
    "Coal": "hard_coal",
    "Gas CC": "gas_ccgt",
    "Gas CT": "gas_ocgt",
    "Oil CT": "oil",
    "Oil ST": "oil",
    "Nuclear": "nuclear",
    "Hydro": "hydro",
    "Solar PV": "solar",
    "Solar RTPV": "solar",
    "CSP": "solar",
    "Wind": "wind_onshore",
    "Sync_Cond": "condenser",
}
_SERIES_FILES = ("hydro", "pv", "rtpv", "wind", "Natural_Inflow")
_KEYS = ("Year", "Month", "Day", "Period")


def read_rts_gmlc(folder: Path) -> TableBuilder:
    """Read ``SourceData`` and the day-ahead series of ``timeseries`` (or ``timeseries_data_files``).

    Raises
    ------
    FormatError
        A file or column is missing.
    """
    return _Reader(folder).read()


class _Reader:
    """Reads one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables = TableBuilder("RTS-GMLC", frequency_hz=60.0)
        self.years: set[int] = set()
        self.bus = self._csv("bus.csv", "Bus ID", "BaseKV", "Bus Type", "MW Load", "MVAR Load", "Area")
        self.gen = self._csv("gen.csv", "GEN UID", "Bus ID", "Category", "PMax MW", "PMin MW")

    def _csv(self, name: str, *columns: str) -> pd.DataFrame:
        path = self.folder / "SourceData" / name
        try:
            frame = pd.read_csv(path)
        except FileNotFoundError:
            raise self._refused(name, "is missing", "give the whole RTS-GMLC folder") from None
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise self._refused(name, f"is not CSV ({error})"[:200], "download it again") from error
        missing = [c for c in columns if c not in frame.columns]
        if missing:
            raise self._refused(name, f"lacks the columns {', '.join(missing)}", "download it again")
        return frame

    def _refused(self, name: str, problem: str, remedy: str) -> FormatError:
        return FormatError((Finding("file", (name,), problem, remedy),))

    def read(self) -> TableBuilder:
        self._buses()
        self._branches()
        self._loads()
        self._units()
        self._storages()
        self._hvdc()
        self._profiles()
        areas = [f"area {a}" for a in self.bus["Area"]]
        self.tables.organise(areas)
        self._reserves()
        return self.tables

    def _buses(self) -> None:
        bus = self.bus
        ids = self.tables.add(
            "bus",
            bus["Bus ID"],
            bus["Bus Name"],
            base_kv=_numbers(bus["BaseKV"]),
            vm_pu_min=0.95,
            vm_pu_max=1.05,
            slack=bus["Bus Type"] == "Ref",
            longitude_deg=_numbers(bus["lng"]),
            latitude_deg=_numbers(bus["lat"]),
        )
        self.known = dict(zip(bus["Bus ID"].tolist(), ids.tolist(), strict=True))
        reference = (bus["Bus Type"] == "Ref").to_numpy()
        angle = np.where(reference, _numbers(bus["V Angle"]), np.nan)
        self.tables.state("bus", ids, in_service=True, vm_pu=np.nan, va_deg=angle)
        rows = bus[(_numbers(bus["MW Shunt G"]) != 0) | (_numbers(bus["MVAR Shunt B"]) != 0)]
        shunts = self.tables.add(
            "shunt",
            rows["Bus ID"],
            [f"shunt {n}" for n in rows["Bus Name"]],
            bus=self._at(rows["Bus ID"]),
            g_step_mw=_numbers(rows["MW Shunt G"]),
            b_step_mvar=_numbers(rows["MVAR Shunt B"]),
            step_min=0,
            step_max=1,
            controllable=False,
        )
        self.tables.state("shunt", shunts, in_service=True, step=1)

    def _at(self, buses: pd.Series) -> StrArray:
        return np.array([self.known.get(b, f"bus {b}") for b in buses.tolist()], dtype=np.str_)

    def _branches(self) -> None:
        frame = self._csv("branch.csv", "UID", "From Bus", "To Bus", "R", "X", "B", "Cont Rating", "Tr Ratio")
        base = self.tables.base_mva
        kv = dict(zip(self.bus["Bus ID"].tolist(), _numbers(self.bus["BaseKV"]).tolist(), strict=True))
        kv_from, kv_to = (np.array([kv.get(b, np.nan) for b in frame[c].tolist()]) for c in ("From Bus", "To Bus"))
        r, x, b, rated, ratio = (_numbers(frame[c]) for c in ("R", "X", "B", "Cont Rating", "Tr Ratio"))
        wound = (ratio != 0) | (kv_from != kv_to)
        rows = np.flatnonzero(~wound)
        part, ohm = frame.iloc[rows], kv_from[rows] ** 2 / base
        ids = self.tables.add(
            "line",
            part["UID"],
            part["UID"],
            from_bus=self._at(part["From Bus"]),
            to_bus=self._at(part["To Bus"]),
            r_ohm=r[rows] * ohm,
            x_ohm=x[rows] * ohm,
            g_s=0.0,
            b_s=b[rows] / ohm,
            i_max_ka=rated[rows] / (np.sqrt(3.0) * kv_from[rows]),
            length_km=_numbers(part["Length"]) * 1.609344,
        )
        self.tables.state("branch", ids, in_service=True, tap=np.nan)
        rows = np.flatnonzero(wound)
        part, size = frame.iloc[rows], rated[rows]
        ids = self.tables.add(
            "transformer",
            part["UID"],
            part["UID"],
            from_bus=self._at(part["From Bus"]),
            to_bus=self._at(part["To Bus"]),
            rated_mva=size,
            rated_from_kv=np.where(ratio[rows] == 0, 1.0, ratio[rows]) * kv_from[rows],
            rated_to_kv=kv_to[rows],
            r_pu=r[rows] * size / base,
            x_pu=x[rows] * size / base,
            g_pu=0.0,
            b_pu=b[rows] * base / size,
            model="pi",
            shift_deg=0.0,
            tap_side="none",
            tap_phase_shifter=False,
            i_max_from_ka=size / (np.sqrt(3.0) * kv_from[rows]),
        )
        self.tables.state("branch", ids, in_service=True, tap=np.nan)

    def _loads(self) -> None:
        bus = self.bus[(_numbers(self.bus["MW Load"]) != 0) | (_numbers(self.bus["MVAR Load"]) != 0)]
        self.load_ids = self.tables.add(
            "load",
            bus["Bus ID"],
            [f"load {n}" for n in bus["Bus Name"]],
            bus=self._at(bus["Bus ID"]),
            share_z=0.0,
            share_i=0.0,
            sheddable=True,
        )
        p, q = _numbers(bus["MW Load"]), _numbers(bus["MVAR Load"])
        self.tables.state("load", self.load_ids, in_service=True, p_mw=p, q_mvar=q)
        self.load_area, self.load_p, self.load_q = bus["Area"].astype(str).to_numpy(), p, q

    def _units(self) -> None:
        gen = self.gen[self.gen["Category"] != "Storage"]
        technology = np.array([_TECHNOLOGY.get(c, "other") for c in gen["Category"]])
        top = _numbers(gen["PMax MW"])
        condenser = technology == "condenser"
        q_min, q_max = _numbers(gen["QMin MVAR"]), _numbers(gen["QMax MVAR"])
        ramp = _numbers(gen["Ramp Rate MW/Min"]) * 60.0
        low = np.where(np.isin(technology, ["solar", "wind_onshore", "hydro"]), 0.0, _numbers(gen["PMin MW"]))
        controls = (q_max > q_min) | condenser
        ids = self.tables.add_units(
            gen["GEN UID"],
            gen["GEN UID"],
            technology=technology,
            p_mw_min=low,
            p_mw_max=top,
            technical_minimum=False,
            given={
                "ramp_up_mw_per_h": ramp,
                "ramp_down_mw_per_h": ramp,
                "min_up_h": np.ceil(_numbers(gen["Min Up Time Hr"])).astype(np.int64),
                "min_down_h": np.ceil(_numbers(gen["Min Down Time Hr"])).astype(np.int64),
                "startup_mw": np.maximum(low, np.minimum(ramp, top)),
                "shutdown_mw": np.maximum(low, np.minimum(ramp, top)),
            },
            bus=self._at(gen["Bus ID"]),
            rated_mva=_numbers(gen["Base MVA"]),
            q_mvar_min=q_min,
            q_mvar_max=q_max,
            voltage_control=controls,
        )
        power = _numbers(gen["MW Inj"])
        on = (power > 0) | condenser
        self.tables.state(
            "unit",
            ids,
            in_service=True,
            on=on,
            p_mw=power,
            q_mvar=np.where(on, _numbers(gen["MVAR Inj"]), 0.0),
            vm_set_pu=np.where(controls, self._set_points(gen), np.nan),
        )
        self.unit_ids = dict(zip(gen["GEN UID"], ids.tolist(), strict=True))
        self.unit_size = dict(zip(gen["GEN UID"], top.tolist(), strict=True))
        for device, row, kind in zip(ids.tolist(), gen.to_dict("records"), technology.tolist(), strict=True):
            if kind in ("hard_coal", "gas_ccgt", "gas_ocgt", "oil", "nuclear"):
                self.tables.own_cost(device, _thermal_cost({str(k): v for k, v in row.items()}))
        self.tables.note("unit_cost", len(gen), "costs in USD of the source, kept as they are")

    def _set_points(self, gen: pd.DataFrame) -> FloatArray:
        """Return the bus voltage of the source: the generators of a bus share it."""
        voltage = dict(zip(self.bus["Bus ID"].tolist(), _numbers(self.bus["V Mag"]).tolist(), strict=True))
        return np.array([voltage.get(b, np.nan) for b in gen["Bus ID"].tolist()])

    def _storages(self) -> None:
        gen = self.gen[self.gen["Category"] == "Storage"]
        if not len(gen):
            return
        content = self._csv("storage.csv", "GEN UID", "Max Volume GWh", "Initial Volume GWh")
        head = content[content["position"] == "head"].set_index("GEN UID") if "position" in content else content
        size = head["Max Volume GWh"].reindex(gen["GEN UID"]).to_numpy(dtype=float) * 1000.0
        fill = head["Initial Volume GWh"].reindex(gen["GEN UID"]).to_numpy(dtype=float) * 1000.0
        each_way = np.sqrt(_numbers(gen["Storage Roundtrip Efficiency"]) / 100.0)
        ids = self.tables.add(
            "storage",
            gen["GEN UID"],
            gen["GEN UID"],
            bus=self._at(gen["Bus ID"]),
            technology="battery",
            p_charge_mw_max=_numbers(gen["Pump Load MW"]),
            p_discharge_mw_max=_numbers(gen["PMax MW"]),
            q_mvar_min=_numbers(gen["QMin MVAR"]),
            q_mvar_max=_numbers(gen["QMax MVAR"]),
            energy_mwh_min=0.0,
            energy_mwh_max=size,
            efficiency_charge=each_way,
            efficiency_discharge=each_way,
        )
        self.tables.state("storage", ids, in_service=True, p_mw=0.0, q_mvar=0.0, energy_mwh=fill)

    def _hvdc(self) -> None:
        frame = self._csv("dc_branch.csv", "UID", "From Bus", "To Bus", "MW Load", "R Line", "V Mag kV")
        power, ohm, kv = (_numbers(frame[c]) for c in ("MW Load", "R Line", "V Mag kV"))
        ids = self.tables.add(
            "hvdc",
            frame["UID"],
            frame["UID"],
            from_bus=self._at(frame["From Bus"]),
            to_bus=self._at(frame["To Bus"]),
            p_mw_min=-power,
            p_mw_max=power,
            # R I^2 at full power, spread over the power.
            loss_percent=ohm * power / kv**2 * 100.0,
            loss_mw=0.0,
            q_from_mvar_min=0.0,
            q_from_mvar_max=0.0,
            q_to_mvar_min=0.0,
            q_to_mvar_max=0.0,
        )
        self.tables.state(
            "hvdc",
            ids,
            in_service=True,
            p_mw=0.0,
            q_from_mvar=0.0,
            q_to_mvar=0.0,
            vm_from_set_pu=np.nan,
            vm_to_set_pu=np.nan,
        )
        self.tables.note("hvdc", len(frame), "idle at first: the solved case of the source leaves it out")

    def _year(self, name: str) -> pd.DataFrame:
        """Return a day-ahead series of 8760 hours in MW, one column an object."""
        found = sorted(self.folder.rglob(f"DAY_AHEAD_{name}.csv"))
        if not found:
            raise self._refused(f"DAY_AHEAD_{name}.csv", "is missing", "give the folder with its time series")
        frame = pd.read_csv(found[0])
        missing = [k for k in _KEYS if k not in frame.columns]
        if missing:
            raise self._refused(found[0].name, f"lacks the columns {', '.join(missing)}", "download it again")
        self.years.update(frame["Year"].tolist())
        frame = frame.sort_values(list(_KEYS), kind="stable")
        frame = frame[~((frame["Month"] == 2) & (frame["Day"] == 29))].drop(columns=list(_KEYS))
        if len(frame) != HOURS_PER_YEAR:
            remedy = f"give {HOURS_PER_YEAR} hours besides 29 February"
            raise self._refused(found[0].name, f"has {len(frame)} hours", remedy)
        return frame.reset_index(drop=True)

    def _profiles(self) -> None:
        """Load by area in proportion to the buses' load; availability per unit, relative to its size."""
        load = self._year("regional_Load")
        values: dict[str, FloatArray] = {}
        for area in load.columns:
            here = self.load_area == str(area)
            values[f"load area {area}"] = load[area].to_numpy(dtype=float) / self.load_p[here].sum()
        profile = np.array([f"load area {a}" for a in self.load_area.tolist()])
        for quantity, scale in (("p_mw", self.load_p), ("q_mvar", self.load_q)):
            self.tables.put(
                "profile_assignment",
                device=self.load_ids,
                quantity=np.full(scale.size, quantity),
                profile=profile,
                scale=scale,
            )
        for name in _SERIES_FILES:
            for unit, series in self._year(name).items():
                if unit in self.unit_ids:
                    size = self.unit_size[unit]
                    values[str(unit)] = np.clip(series.to_numpy(dtype=float) / size, 0.0, 1.0)
                    self.tables.put(
                        "profile_assignment",
                        device=[self.unit_ids[unit]],
                        quantity=["available_mw"],
                        profile=[str(unit)],
                        scale=[size],
                    )
        names = tuple(values)
        table = np.stack([values[n] for n in names], axis=1)
        self.tables.put_profiles(names, table, int(min(self.years)))
        self.tables.note("profile", len(names), "day-ahead series, 29 February dropped: 8760 hours")
        self.tables.note("unit", 1, "CSP: natural inflow is its availability, its heat storage is left out")

    def _reserves(self) -> None:
        frame = self._csv("reserves.csv", "Reserve Product", "Requirement (MW)", "Direction")
        rows: list[dict[str, Any]] = []
        for product, need, direction in zip(
            frame["Reserve Product"], frame["Requirement (MW)"], frame["Direction"], strict=True
        ):
            up = str(direction).lower() == "up"
            area = str(product).rpartition("_R")[2] if "Spin" in str(product) else ""
            kind = (
                ("ramp_up" if up else "ramp_down")
                if "Flex" in str(product)
                else ("positive" if up else "negative")
            )
            region = element_id(self.tables.name, "region", f"area {area}") if area else None
            rows.append({"id": str(product), "region": region, "product": kind, "minimum_mw": float(need)})
        self.tables.put(
            "reserve_requirement",
            id=[element_id(self.tables.name, "reserve_requirement", r["id"]) for r in rows],
            region=np.array([r["region"] for r in rows], dtype=object),
            product=[r["product"] for r in rows],
            share_of_load=np.zeros(len(rows)),
            share_of_renewable=np.zeros(len(rows)),
            minimum_mw=[r["minimum_mw"] for r in rows],
        )
        self.tables.note("reserve_requirement", len(rows), "constant requirement of reserves.csv")


def _numbers(column: pd.Series) -> FloatArray:
    return np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)


def _thermal_cost(row: dict[str, Any]) -> OwnCost:
    """Return cost from heat rates: average up to the first output point, incremental beyond (BTU/kWh)."""

    def number(name: str) -> float:
        try:
            return float(row.get(name, np.nan))
        except ValueError:
            return float("nan")

    price, vom, size = number("Fuel Price $/MMBTU"), number("VOM"), number("PMax MW")
    points = [number(f"Output_pct_{k}") * size for k in range(5)]
    rates = [number(f"HR_incr_{k}") for k in range(1, 5)]
    segments = [
        (a, b, rate * price / 1000.0 + vom)
        for a, b, rate in zip(points[:-1], points[1:], rates, strict=True)
        if np.isfinite(b) and np.isfinite(rate) and b > a
    ]
    at_low = number("HR_avg_0") * points[0] * price / 1000.0 + vom * points[0]
    no_load = at_low - (segments[0][2] * points[0] if segments else 0.0)
    starts: list[tuple[int, float]] = []
    before = -1.0
    for word, hours in (
        ("Hot", 1.0),
        ("Warm", number("Start Time Warm Hr")),
        ("Cold", number("Start Time Cold Hr")),
    ):
        eur = number(f"Start Heat {word} MBTU") * price + number("Non Fuel Start Cost $")
        if eur > before:
            off = max(1, int(np.ceil(hours)))
            starts = [s for s in starts if s[0] != off] + [(off, eur)]
            before = eur
    above = sum((b - a) * rate for (a, b, _), rate in zip(segments, rates, strict=False))
    full_heat = number("HR_avg_0") * points[0] + above
    co2 = full_heat / 1000.0 * number("Emissions CO2 Lbs/MMBTU") / POUND_PER_TONNE / size if size else 0.0
    shutdown = number("Non Fuel Shutdown Cost $")
    return OwnCost(max(no_load, 0.0), segments or [(points[0], size, vom)], starts, shutdown, co2)
