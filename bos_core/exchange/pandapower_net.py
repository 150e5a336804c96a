"""A pandapower net as ontology tables.

Electrical meaning follows pandapower's own power flow (``build_branch.py``, ``build_bus.py``, ``build_gen.py``,
version 3.5): T-model transformers, impedances scaled by taps of the low-voltage side, open-ended branches.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bos_core.exchange.pandapower_transformers import add_transformers, add_transformers3
from bos_core.exchange.tables import OwnCost, TableBuilder
from bos_core.grid.model import FloatArray, StrArray

UNRATED_KA = 9e4
"""pandapower's converters write 99999 kA for unrated branches."""

BASE_MVA_MIN = 100.0
"""System base where the net has a smaller one (pandapower's default is 1 MVA): keeps residuals above rounding."""

COS_PHI = 0.95
"""Power factor that gives a reactive range to units without one: +-0.33 of their rating (VDE-AR-N 4110, 4120)."""

_REFUSED = ("svc", "tcsc", "ssc", "vsc", "vsc_stacked", "vsc_bipolar", "line_dc", "source_dc", "load_dc")
_IGNORED = ("measurement", "controller", "characteristic", "group", "bus_dc")

_WORDS = (
    ("nuclear", "nuclear"),
    ("lignite", "lignite"),
    ("coal", "hard_coal"),
    ("oil", "oil"),
    ("waste", "waste"),
    ("biomass", "biomass"),
    ("river", "run_of_river"),
    ("hydro", "run_of_river"),
    ("offshore", "wind_offshore"),
    ("wind", "wind_onshore"),
    ("wp", "wind_onshore"),
    ("pv", "solar"),
    ("solar", "solar"),
    ("imp", "import"),
    ("mixed", "renewable_mix"),
    ("res", "renewable_mix"),
    ("mv_", "renewable_mix"),
    ("hv_", "renewable_mix"),
    ("lv_", "renewable_mix"),
)
LARGE_GAS_MW = 100.0
"""A gas-fired unit of this size or more counts as combined cycle."""


def technology_of(kind: object, size_mw: float, default: str) -> str:
    """Return the technology key for a free-text type: the first word found in it decides."""
    text = str(kind).lower()
    if "ccgt" in text or "gas" in text or "ocgt" in text:
        large = "ccgt" in text or ("ocgt" not in text and size_mw >= LARGE_GAS_MW)
        return "gas_ccgt" if large else "gas_ocgt"
    return next((key for word, key in _WORDS if word in text), default)


class NetReader:
    """Reads one pandapower net into a `TableBuilder`; `ids` gives the id of every element by its index."""

    def __init__(self, net: Any, name: str) -> None:
        self.net = net
        base_mva = max(BASE_MVA_MIN, float(net.sn_mva))
        self.tables = TableBuilder(name, base_mva=base_mva, frequency_hz=float(net.f_hz))
        self.ids: dict[str, pd.Series] = {}

    def read(self) -> TableBuilder:
        """Read every element; what is not understood becomes a finding or a note."""
        self._refuse()
        self._buses()
        self._lines()
        add_transformers(self)
        add_transformers3(self)
        self._impedances()
        self._switches()
        self._external_grids()
        self._generators()
        self._static_generators()
        self._loads()
        self._shunts()
        self._wards()
        self._extended_wards()
        self._storages()
        self._hvdc()
        self._costs()
        self.tables.organise(*self.places())
        return self.tables

    def places(self) -> tuple[list[str], list[str]]:
        """Return (region, station) names of the buses in the order of the table; empty = unknown."""
        n = len(self.tables.column("bus", "id"))
        zone = [_text(z) for z in self.column("bus", "zone", "").tolist()]
        station = [_text(s) for s in self.column("bus", "substation", "").tolist()]
        pad = [""] * (n - len(zone))
        return zone + pad, station + pad

    def frame(self, element: str) -> pd.DataFrame:
        """Return an element's table, empty if the net has none."""
        found = self.net.get(element) if hasattr(self.net, "get") else None
        return found if isinstance(found, pd.DataFrame) else pd.DataFrame()

    def column(self, element: str, name: str, default: Any) -> NDArray[Any]:
        """Return a column with `default` where the column or a value is missing; its type is the default's."""
        frame = self.frame(element)
        if name not in frame.columns:
            return np.full(len(frame), default)
        values = frame[name]
        if isinstance(default, bool):
            return np.array([default if pd.isna(v) else bool(v) for v in values.tolist()], dtype=bool)
        if isinstance(default, float):
            return np.asarray(pd.to_numeric(values, errors="coerce").fillna(default), dtype=np.float64)
        return np.array([default if _missing(v) else v for v in values.tolist()], dtype=object)

    def names(self, element: str) -> list[str]:
        """Return the names of an element's rows; kind and index where it has none."""
        given = self.column(element, "name", "").tolist()
        index = self.frame(element).index.tolist()
        return [_text(n) or f"{element} {i}" for n, i in zip(given, index, strict=True)]

    def bus_id(self, element: str, column: str = "bus") -> StrArray:
        """Return bus ids; an unknown bus keeps its number so that validation can name it."""
        return self.bus_id_of(self.frame(element)[column].tolist())

    def bus_id_of(self, buses: list[Any]) -> StrArray:
        """Return the ids of bus indices."""
        known = self._bus_ids
        return np.array([known.get(b, f"bus {b}") for b in buses], dtype=np.str_)

    def remember(self, element: str, ids: StrArray) -> None:
        """Keep the ids of an element by index."""
        self.ids[element] = pd.Series(ids, index=self.frame(element).index, dtype=object)

    def _refuse(self) -> None:
        for element in _REFUSED:
            frame = self.frame(element)
            if len(frame):
                live = self.column(element, "in_service", True)
                names = np.array(self.names(element))
                self.tables.finding(
                    element,
                    names[live],
                    "cannot be imported",
                    "replace it by a dcline, a gen or an svg overlay, or take it out of service",
                )
                self.tables.note(element, int((~live).sum()), "out of service, not imported")
        for element in _IGNORED:
            self.tables.note(element, len(self.frame(element)), "not part of the grid model, not imported")

    def _buses(self) -> None:
        frame = self.frame("bus")
        longitude, latitude = _coordinates(self.column("bus", "geo", ""))
        reference = self.column("gen", "slack", False)
        slack = set(self._slack_grids())
        slack |= set(self.column("gen", "bus", -1)[reference].tolist())
        live = self.column("ext_grid", "in_service", True)
        angle = dict(
            zip(
                self.column("ext_grid", "bus", -1)[live].tolist(),
                self.column("ext_grid", "va_degree", 0.0)[live].tolist(),
                strict=True,
            )
        )
        low, high = (self.column("bus", f"{b}_vm_pu", np.nan) for b in ("min", "max"))
        ids = self.tables.add(
            "bus",
            frame.index,
            self.names("bus"),
            base_kv=self.column("bus", "vn_kv", np.nan),
            # 0 and 2 p.u. are pandapower's fillers for "no limit".
            vm_pu_min=np.where(low > 0.0, low, np.nan),
            vm_pu_max=np.where(high < 2.0, high, np.nan),
            slack=[b in slack for b in frame.index],
            longitude_deg=longitude,
            latitude_deg=latitude,
        )
        self._bus_ids = dict(zip(frame.index.tolist(), ids.tolist(), strict=True))
        self.tables.state(
            "bus",
            ids,
            in_service=self.column("bus", "in_service", True),
            vm_pu=np.nan,
            va_deg=np.array([angle.get(b, np.nan) for b in frame.index]),
        )

    def _slack_grids(self) -> list[int]:
        """Return the buses of external grids; of power plants with a planned power only the largest is slack."""
        buses = self.column("ext_grid", "bus", -1)
        planned = self.column("ext_grid", "p_disp_mw", np.nan)
        plants = np.isfinite(planned) & self.column("ext_grid", "in_service", True)
        if plants.any() and plants.all():
            return [int(buses[int(np.nanargmax(planned))])]
        return [int(b) for b in buses.tolist()]

    def _lines(self) -> None:
        if not len(self.frame("line")):
            return

        def per_km(name: str) -> FloatArray:
            return np.asarray(self.column("line", name, np.nan) * length)

        length = self.column("line", "length_km", np.nan)
        parallel = self.column("line", "parallel", 1.0)
        omega = 2.0 * np.pi * float(self.net.f_hz)
        limit = self.column("line", "max_i_ka", np.nan)
        unrated = limit >= UNRATED_KA
        self.tables.note("line", int((unrated | np.isnan(limit)).sum()), "unrated")
        ids = self.tables.add(
            "line",
            self.frame("line").index,
            self.names("line"),
            from_bus=self.bus_id("line", "from_bus"),
            to_bus=self.bus_id("line", "to_bus"),
            r_ohm=per_km("r_ohm_per_km") / parallel,
            x_ohm=per_km("x_ohm_per_km") / parallel,
            g_s=np.nan_to_num(self.column("line", "g_us_per_km", 0.0)) * length * 1e-6 * parallel,
            b_s=per_km("c_nf_per_km") * omega * 1e-9 * parallel,
            i_max_ka=np.where(unrated, np.nan, limit * self.column("line", "df", 1.0) * parallel),
            length_km=length,
            loading_max=self.column("line", "max_loading_percent", np.nan) / 100.0,
        )
        self.remember("line", ids)
        self.tables.state("branch", ids, in_service=self.column("line", "in_service", True), tap=np.nan)

    def _impedances(self) -> None:
        frame = self.frame("impedance")
        if not len(frame):
            return
        names = np.array(self.names("impedance"))

        def value(name: str) -> FloatArray:
            return self.column("impedance", name, 0.0)

        skew = (value("rft_pu") != value("rtf_pu")) | (value("xft_pu") != value("xtf_pu"))
        live = self.column("impedance", "in_service", True)
        self.tables.finding(
            "impedance", names[skew & live], "differs by direction", "give rtf_pu = rft_pu and xtf_pu = xft_pu"
        )
        scale = self.tables.base_mva / value("sn_mva")
        ids = self.tables.add(
            "equivalent_branch",
            [f"impedance {i}" for i in frame.index],
            names,
            from_bus=self.bus_id("impedance", "from_bus"),
            to_bus=self.bus_id("impedance", "to_bus"),
            r_pu=value("rft_pu") * scale,
            x_pu=value("xft_pu") * scale,
            g_from_pu=value("gf_pu") / scale,
            b_from_pu=value("bf_pu") / scale,
            g_to_pu=value("gt_pu") / scale,
            b_to_pu=value("bt_pu") / scale,
            ratio=1.0,
            shift_deg=0.0,
            rating_mva=np.nan,
            fictitious=False,
        )
        self.remember("impedance", ids)
        self.tables.state("branch", ids, in_service=live, tap=np.nan)

    def _switches(self) -> None:
        frame = self.frame("switch")
        if not len(frame):
            return
        kinds = {"l": "line", "t": "trafo", "t3": "trafo3w"}
        elements = [
            self._bus_ids.get(e, f"bus {e}")
            if t == "b"
            else self.ids.get(kinds.get(t, ""), pd.Series(dtype=object)).get(e, f"{kinds.get(t, t)} {e}")
            for t, e in zip(frame["et"], frame["element"], strict=True)
        ]
        z_ohm = np.where(frame["et"].to_numpy() == "b", self.column("switch", "z_ohm", 0.0), 0.0)
        ids = self.tables.add(
            "switch",
            frame.index,
            self.names("switch"),
            bus=self.bus_id("switch"),
            element=np.array(elements, dtype=np.str_),
            # pandapower splits the impedance of a switch with R/X = 2.
            r_ohm=np.maximum(z_ohm, 0.0) * 2.0 / np.sqrt(5.0),
        )
        self.tables.state("switch", ids, closed=self.column("switch", "closed", True))

    def _reactive(self, element: str, rated: FloatArray) -> tuple[FloatArray, FloatArray]:
        low = self.column(element, "min_q_mvar", np.nan)
        high = self.column(element, "max_q_mvar", np.nan)
        share = np.sqrt(1.0 - COS_PHI**2) / COS_PHI
        self.tables.note(
            element,
            int(np.isnan(low).sum()),
            f"no reactive limits: +-{share:.2f} of the rating",
        )
        return np.where(np.isnan(low), -share * rated, low), np.where(np.isnan(high), share * rated, high)

    def _external_grids(self) -> None:
        frame = self.frame("ext_grid")
        if not len(frame):
            return
        live = self.column("ext_grid", "in_service", True)
        planned = self.column("ext_grid", "p_disp_mw", np.nan)
        results = self.frame("res_ext_grid")
        solved = np.full(len(frame), np.nan)
        if len(results) == len(frame) and "p_mw" in results:
            solved = results["p_mw"].to_numpy(dtype=float)
        power = np.where(np.isnan(planned), np.nan_to_num(solved), planned)
        kinds = self.column("ext_grid", "type", "").tolist()
        tech = [technology_of(k, p, "external_grid") for k, p in zip(kinds, power, strict=True)]
        total = float(np.abs(self.column("load", "p_mw", 0.0)).sum()) or 1.0
        largest = self.column("ext_grid", "max_p_mw", np.nan)
        top = np.where(np.isnan(largest), np.where(np.isnan(planned), total, planned), largest)
        lowest = self.column("ext_grid", "min_p_mw", np.nan)
        bottom = np.where(np.isnan(lowest), np.where(np.isnan(planned), -total, 0.0), lowest)
        bare = np.isnan(largest) & np.isnan(planned)
        self.tables.note("ext_grid", int(bare.sum()), f"no power limits: +-{total:.0f} MW, the total load")
        rated = self.column("ext_grid", "sn_mva", np.nan)
        q_min, q_max = self._reactive("ext_grid", np.where(np.isnan(rated), np.maximum(top, total), rated))
        ids = self.tables.add_units(
            [f"ext_grid {i}" for i in frame.index],
            self.names("ext_grid"),
            technology=np.array(tech),
            p_mw_min=bottom,
            p_mw_max=top,
            bus=self.bus_id("ext_grid"),
            rated_mva=rated,
            q_mvar_min=q_min,
            q_mvar_max=q_max,
            voltage_control=True,
        )
        self.remember("ext_grid", ids)
        self.tables.state(
            "unit",
            ids,
            in_service=live,
            on=live,
            p_mw=power,
            q_mvar=0.0,
            vm_set_pu=self.column("ext_grid", "vm_pu", 1.0),
        )
        extra = int((live & np.isnan(planned)).sum()) - 1
        self.tables.note("ext_grid", max(extra, 0), "further slack in an island becomes a voltage-controlled unit")
        self.tables.note("ext_grid", int(np.isfinite(planned).sum()), "power plant with a planned power: a unit")

    def _generators(self) -> None:
        self._machines("gen", "other", voltage_control=True)

    def _static_generators(self) -> None:
        self._machines("sgen", "renewable_mix", voltage_control=False)
        frame = self.frame("asymmetric_sgen")
        if len(frame):
            self.tables.note("asymmetric_sgen", len(frame), "imported with the sum of its phases")
            self._injection_units("asymmetric_sgen", _phases(frame, "p", "mw"), _phases(frame, "q", "mvar"))

    def _machines(self, element: str, default: str, *, voltage_control: bool) -> None:
        frame = self.frame(element)
        if not len(frame):
            return
        scaling = self.column(element, "scaling", 1.0)
        power = self.column(element, "p_mw", np.nan) * scaling
        rated = self.column(element, "sn_mva", np.nan)
        largest = self.column(element, "max_p_mw", np.nan)
        top = np.where(np.isnan(largest), np.fmax(np.maximum(power, 0.0), 0.0), largest)
        self.tables.note(element, int(np.isnan(largest).sum()), "no largest power: the present one")
        bottom = np.minimum(self.column(element, "min_p_mw", 0.0), top)
        kinds = self.column(element, "type", "").tolist()
        tech = np.array([technology_of(k, p, default) for k, p in zip(kinds, top.tolist(), strict=True)])
        size = np.where(np.isnan(rated), np.abs(top) / COS_PHI, rated)
        q_min, q_max = self._reactive(element, size)
        live = self.column(element, "in_service", True)
        self.tables.note(element, int((tech == default).sum()), f"no type that tells the technology: {default}")
        ids = self.tables.add_units(
            [f"{element} {i}" for i in frame.index],
            self.names(element),
            technology=tech,
            p_mw_min=bottom,
            p_mw_max=top,
            bus=self.bus_id(element),
            rated_mva=rated,
            q_mvar_min=q_min,
            q_mvar_max=q_max,
            voltage_control=voltage_control,
        )
        self.remember(element, ids)
        self.tables.state(
            "unit",
            ids,
            in_service=live,
            on=live,
            p_mw=power,
            q_mvar=self.column(element, "q_mvar", 0.0) * scaling,
            vm_set_pu=self.column(element, "vm_pu", 1.0) if voltage_control else np.nan,
        )

    def _injection_units(self, element: str, p_mw: FloatArray, q_mvar: FloatArray) -> None:
        frame, live = self.frame(element), self.column(element, "in_service", True)
        scaling = self.column(element, "scaling", 1.0)
        size = np.abs(p_mw * scaling)
        ids = self.tables.add_units(
            [f"{element} {i}" for i in frame.index],
            self.names(element),
            technology=np.full(len(frame), "renewable_mix"),
            p_mw_min=np.zeros(len(frame)),
            p_mw_max=size,
            bus=self.bus_id(element),
            rated_mva=np.nan,
            q_mvar_min=-size,
            q_mvar_max=size,
            voltage_control=False,
        )
        self.tables.state(
            "unit", ids, in_service=live, on=live, p_mw=p_mw * scaling, q_mvar=q_mvar * scaling, vm_set_pu=np.nan
        )

    def _loads(self) -> None:
        frame = self.frame("load")
        if len(frame):
            scaling = self.column("load", "scaling", 1.0)
            self._add_loads(
                "load",
                self.column("load", "p_mw", np.nan) * scaling,
                self.column("load", "q_mvar", 0.0) * scaling,
                *(self.column("load", f"const_{c}_percent", 0.0) / 100.0 for c in ("z_p", "i_p", "z_q", "i_q")),
            )
        frame = self.frame("asymmetric_load")
        if len(frame):
            self.tables.note("asymmetric_load", len(frame), "imported with the sum of its phases")
            scaling = self.column("asymmetric_load", "scaling", 1.0)
            self._add_loads(
                "asymmetric_load", _phases(frame, "p", "mw") * scaling, _phases(frame, "q", "mvar") * scaling
            )
        frame = self.frame("motor")
        if len(frame):
            scale = self.column("motor", "loading_percent", 100.0) / 100.0 * self.column("motor", "scaling", 1.0)
            p = (
                self.column("motor", "pn_mech_mw", np.nan)
                / self.column("motor", "efficiency_percent", 100.0)
                * 100.0
            )
            p = p * scale
            q = np.sqrt(np.maximum((p / self.column("motor", "cos_phi", 1.0)) ** 2 - p**2, 0.0))
            self._add_loads("motor", p, q)

    def _add_loads(self, element: str, p: FloatArray, q: FloatArray, *shares: FloatArray) -> None:
        """Add loads; one whose active and reactive part depend on the voltage differently becomes two."""
        frame = self.frame(element)
        z_p, i_p, z_q, i_q = shares or [np.zeros(len(frame))] * 4
        split = ((z_p != z_q) | (i_p != i_q)) & (q != 0)
        prefix = "" if element == "load" else f"{element} "
        names, live = np.array(self.names(element)), self.column(element, "in_service", True)
        key = np.array([f"{prefix}{i}" for i in frame.index])
        bus = self.bus_id(element)
        only_q = np.flatnonzero(split)
        rows = np.r_[np.arange(len(frame)), only_q]
        second = np.arange(rows.size) >= len(frame)
        ids = self.tables.add(
            "load",
            np.where(second, np.char.add(key[rows], " (Q)"), key[rows]),
            np.where(second, np.char.add(names[rows], " (Q)"), names[rows]),
            bus=bus[rows],
            share_z=np.where(second, z_q[rows], z_p[rows]),
            share_i=np.where(second, i_q[rows], i_p[rows]),
            sheddable=True,
        )
        self.tables.note("load", only_q.size, "split in two: P and Q depend on the voltage differently")
        self.remember(element, ids[: len(frame)])
        carries_q = pd.Series(ids[: len(frame)], index=frame.index, dtype=object)
        carries_q.iloc[only_q] = ids[len(frame) :]
        self.ids[f"{element} (Q)"] = carries_q
        self.tables.state(
            "load",
            ids,
            in_service=live[rows],
            p_mw=np.where(second, 0.0, p[rows]),
            q_mvar=np.where(~second & split[rows], 0.0, q[rows]),
        )

    def _shunts(self) -> None:
        frame = self.frame("shunt")
        if not len(frame):
            return
        names = np.array(self.names("shunt"))
        self.tables.finding(
            "shunt",
            names[self.column("shunt", "step_dependency_table", False)],
            "takes its steps from a table",
            "give p_mw and q_mvar a step and set step_dependency_table to False",
        )
        nominal = self.frame("bus")["vn_kv"].reindex(frame["bus"]).to_numpy(dtype=float)
        rated = self.column("shunt", "vn_kv", np.nan)
        scale = (nominal / np.where(np.isnan(rated), nominal, rated)) ** 2
        step = self.column("shunt", "step", 1.0)
        largest = np.maximum(self.column("shunt", "max_step", 1.0), step)
        self._add_shunts(
            [str(i) for i in frame.index],
            names,
            self.bus_id("shunt"),
            self.column("shunt", "p_mw", 0.0) * scale,
            -self.column("shunt", "q_mvar", 0.0) * scale,
            step,
            largest,
            self.column("shunt", "in_service", True),
        )

    def _add_shunts(
        self,
        source: list[str],
        names: NDArray[Any],
        bus: StrArray,
        g_step_mw: FloatArray,
        b_step_mvar: FloatArray,
        step: FloatArray,
        step_max: FloatArray,
        in_service: NDArray[np.bool_],
    ) -> None:
        ids = self.tables.add(
            "shunt",
            source,
            names,
            bus=bus,
            g_step_mw=g_step_mw,
            b_step_mvar=b_step_mvar,
            step_min=np.zeros(len(source), dtype=np.int64),
            step_max=step_max.astype(np.int64),
            controllable=step_max > 1,
        )
        self.tables.state("shunt", ids, in_service=in_service, step=step.astype(np.int64))

    def _wards(self) -> None:
        for element in ("ward", "xward"):
            frame = self.frame(element)
            if not len(frame):
                continue
            live, one = self.column(element, "in_service", True), np.ones(len(frame))
            self._add_loads(element, self.column(element, "ps_mw", 0.0), self.column(element, "qs_mvar", 0.0))
            self._add_shunts(
                [f"{element} {i}" for i in frame.index],
                np.array(self.names(element)),
                self.bus_id(element),
                self.column(element, "pz_mw", 0.0),
                -self.column(element, "qz_mvar", 0.0),
                one,
                one,
                live,
            )
            self.tables.note(element, len(frame), "imported as a load and a shunt")

    def _extended_wards(self) -> None:
        """The voltage source behind an impedance of an xward: an inner bus, a branch and a condenser."""
        frame = self.frame("xward")
        if not len(frame):
            return
        names, live = self.names("xward"), self.column("xward", "in_service", True)
        nominal = self.frame("bus")["vn_kv"].reindex(frame["bus"]).to_numpy(dtype=float)
        base_ohm = nominal**2 / self.tables.base_mva
        keys = [f"xward {i}" for i in frame.index]
        inner = self.tables.add(
            "bus",
            keys,
            [f"{n} (inner)" for n in names],
            base_kv=nominal,
            vm_pu_min=np.nan,
            vm_pu_max=np.nan,
            slack=False,
            longitude_deg=np.nan,
            latitude_deg=np.nan,
        )
        self.tables.state("bus", inner, in_service=live, vm_pu=np.nan, va_deg=np.nan)
        branch = self.tables.add(
            "equivalent_branch",
            keys,
            names,
            from_bus=self.bus_id("xward"),
            to_bus=inner,
            r_pu=self.column("xward", "r_ohm", 0.0) / base_ohm,
            x_pu=self.column("xward", "x_ohm", 0.0) / base_ohm,
            **dict.fromkeys(("g_from_pu", "b_from_pu", "g_to_pu", "b_to_pu", "shift_deg"), 0.0),
            ratio=1.0,
            rating_mva=np.nan,
            fictitious=True,
        )
        self.tables.state("branch", branch, in_service=live, tap=np.nan)
        zero = np.zeros(len(frame))
        source = self.tables.add_units(
            keys,
            names,
            technology=np.full(len(frame), "condenser"),
            p_mw_min=zero,
            p_mw_max=zero,
            bus=inner,
            rated_mva=np.nan,
            q_mvar_min=-1e4,
            q_mvar_max=1e4,
            voltage_control=True,
        )
        self.tables.state(
            "unit",
            source,
            in_service=live,
            on=live,
            p_mw=0.0,
            q_mvar=0.0,
            vm_set_pu=self.column("xward", "vm_pu", 1.0),
        )

    def _storages(self) -> None:
        frame = self.frame("storage")
        if not len(frame):
            return
        scaling, live = self.column("storage", "scaling", 1.0), self.column("storage", "in_service", True)
        power = -self.column("storage", "p_mw", 0.0) * scaling
        rated = self.column("storage", "sn_mva", np.nan)
        size = np.where(np.isnan(rated), np.abs(power), rated)
        largest = self.column("storage", "max_e_mwh", np.nan)
        content = np.where(np.isnan(largest), 4.0 * size, largest)
        charge = self.column("storage", "max_p_mw", np.nan)
        discharge = -self.column("storage", "min_p_mw", np.nan)
        fill = self.column("storage", "soc_percent", 50.0) / 100.0
        ids = self.tables.add(
            "storage",
            frame.index,
            self.names("storage"),
            bus=self.bus_id("storage"),
            technology="battery",
            p_charge_mw_max=np.where(np.isnan(charge), size, charge),
            p_discharge_mw_max=np.where(np.isnan(discharge), size, discharge),
            q_mvar_min=self.column("storage", "min_q_mvar", 0.0),
            q_mvar_max=self.column("storage", "max_q_mvar", 0.0),
            energy_mwh_min=self.column("storage", "min_e_mwh", 0.0),
            energy_mwh_max=content,
            efficiency_charge=0.95,
            efficiency_discharge=0.95,
        )
        self.remember("storage", ids)
        self.tables.note("storage", len(frame), "efficiency 0.95 each way; 4 h of content where none is given")
        self.tables.state(
            "storage",
            ids,
            in_service=live,
            p_mw=power,
            q_mvar=-self.column("storage", "q_mvar", 0.0) * scaling,
            energy_mwh=fill * content,
        )

    def _hvdc(self) -> None:
        frame = self.frame("dcline")
        if not len(frame):
            return
        power = self.column("dcline", "p_mw", np.nan)
        largest = self.column("dcline", "max_p_mw", np.nan)
        size = np.where(np.isnan(largest), np.abs(power), largest)
        ids = self.tables.add(
            "hvdc",
            frame.index,
            self.names("dcline"),
            from_bus=self.bus_id("dcline", "from_bus"),
            to_bus=self.bus_id("dcline", "to_bus"),
            p_mw_min=-size,
            p_mw_max=size,
            loss_percent=self.column("dcline", "loss_percent", 0.0),
            loss_mw=self.column("dcline", "loss_mw", 0.0),
            **{
                f"q_{end}_mvar_{bound}": np.where(np.isnan(limit), sign * 0.33 * size, limit)
                for end in ("from", "to")
                for bound, sign in (("min", -1.0), ("max", 1.0))
                for limit in (self.column("dcline", f"{bound}_q_{end}_mvar", np.nan),)
            },
        )
        self.remember("dcline", ids)
        self.tables.state(
            "hvdc",
            ids,
            in_service=self.column("dcline", "in_service", True),
            p_mw=power,
            q_from_mvar=0.0,
            q_to_mvar=0.0,
            vm_from_set_pu=self.column("dcline", "vm_from_pu", np.nan),
            vm_to_set_pu=self.column("dcline", "vm_to_pu", np.nan),
        )

    def _costs(self) -> None:
        """Costs that the net gives replace those of the technology table."""
        for row in self.frame("poly_cost").to_dict("records"):
            device = self._device(row)
            if device:
                powers = ("cp2_eur_per_mw2", "cp1_eur_per_mw", "cp0_eur")
                self.tables.polynomial_cost(device, [float(row.get(k) or 0.0) for k in powers])
        for row in self.frame("pwl_cost").to_dict("records"):
            device = self._device(row)
            if device and row.get("power_type", "p") == "p":
                points = [(float(a), float(b), float(m)) for a, b, m in row["points"]]
                self.tables.own_cost(device, OwnCost(0.0, points))

    def _device(self, row: dict[Any, Any]) -> str:
        kind, index = row.get("et"), row.get("element")
        found = str(self.ids.get(str(kind), pd.Series(dtype=object)).get(index, ""))
        if not found or kind in ("load", "dcline", "storage"):
            self.tables.note("cost", 1, f"of {kind} {index} not imported: only costs of units are")
            return ""
        return found


def _phases(frame: pd.DataFrame, quantity: str, unit: str) -> FloatArray:
    columns = [f"{quantity}_{phase}_{unit}" for phase in "abc"]
    return np.asarray(frame[columns].sum(axis=1), dtype=np.float64)


def _missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and bool(np.isnan(value)))


def _text(value: object) -> str:
    return "" if _missing(value) else str(value)


def _coordinates(geo: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Return (longitude, latitude) of GeoJSON points; NaN where there is none."""
    points = np.full((geo.size, 2), np.nan)
    for k, text in enumerate(geo.tolist()):
        if isinstance(text, str) and text:
            try:
                found = json.loads(text)["coordinates"]
                points[k] = [float(found[0]), float(found[1])]
            except (ValueError, KeyError, TypeError, IndexError):
                continue
    inside = (np.abs(points[:, 0]) <= 180) & (np.abs(points[:, 1]) <= 90)
    points[~inside] = np.nan
    return points[:, 0], points[:, 1]
