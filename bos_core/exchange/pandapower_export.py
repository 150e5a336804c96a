"""A grid as a pandapower net: element for element where pandapower has the element; notes name what changes.

What pandapower cannot hold is replaced by elements with the same effect at the present taps: a transformer with
capacitive or one-sided magnetizing branch gets shunts at its buses, an equivalent branch with a ratio becomes a
transformer, a three-winding transformer magnetized at its star point three two-winding ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from bos_core.exchange.model import Note, to_columns
from bos_core.exchange.validation import STATES
from bos_core.grid.branch_models import BranchReader, t_to_pi
from bos_core.grid.columns import MISSING_INT, look_up, places
from bos_core.grid.model import ComplexArray, FloatArray

SIDES = {"from": "hv", "to": "lv", "high": "hv", "medium": "mv", "low": "lv"}


def write_pandapower_json(tables: Mapping[str, pa.Table], path: Path) -> tuple[Note, ...]:
    """Write a net as JSON; returns what could not be kept."""
    import pandapower

    net, _, notes = pandapower_net(tables)
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_text(pandapower.to_json(net), encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return notes


def pandapower_net(tables: Mapping[str, pa.Table]) -> tuple[Any, dict[str, tuple[str, int]], tuple[Note, ...]]:
    """Return a net, where each branch id is (``l`` line, ``t`` or ``t3`` transformer, and row), and notes."""
    writer = _Writer(to_columns(tables))
    net = writer.net()
    return net, writer.branch, tuple(writer.notes)


class _Writer:
    """Builds the tables of a net column by column."""

    def __init__(self, columns: dict[str, dict[str, NDArray[Any]]]) -> None:
        self.columns = columns
        self.notes: list[Note] = []
        self.frames: dict[str, list[pd.DataFrame]] = {}
        entity = columns["entity"]
        self.name_of = dict(zip(entity["id"].tolist(), entity["name"].tolist(), strict=True))
        self.bus = places(columns["bus"]["id"])
        self.base_mva = float(columns["system"]["base_mva"][0])
        self.kv = columns["bus"]["base_kv"]
        self.branch: dict[str, tuple[str, int]] = {}

    def net(self) -> Any:
        """Return the net."""
        import pandapower

        frequency = float(self.columns["system"]["frequency_hz"][0])
        net = pandapower.create_empty_network(
            str(self.columns["system"]["name"][0]), f_hz=frequency, sn_mva=self.base_mva, add_stdtypes=False
        )
        self._buses()
        self._lines(frequency)
        self._transformers()
        self._transformers3()
        self._equivalents()
        self._switches()
        self._units()
        self._svgs()
        self._loads()
        self._shunts()
        self._storages()
        self._hvdc()
        for element, parts in self.frames.items():
            frame = pd.concat(parts, ignore_index=True)
            known = net[element]
            for column in known.columns:
                if column in frame.columns:
                    frame[column] = frame[column].astype(known[column].dtype, errors="ignore")
            net[element] = pd.concat([known, frame], ignore_index=True) if len(known) else _like(known, frame)
        return net

    def _put(self, element: str, /, **columns: Any) -> range:
        """Add rows; returns their index in the element's table."""
        frame = pd.DataFrame(columns)
        start = sum(len(p) for p in self.frames.get(element, ()))
        if len(frame):
            self.frames.setdefault(element, []).append(frame)
        return range(start, start + len(frame))

    def _names(self, ids: NDArray[Any]) -> list[str]:
        return [self.name_of.get(i, i) for i in ids.tolist()]

    def _at(self, values: NDArray[Any]) -> NDArray[np.int64]:
        return look_up(self.bus, values)

    def _state(self, kind: str, column: str, missing: Any) -> NDArray[Any]:
        """Return a state column along the devices of a kind."""
        state = self.columns[STATES[kind]]
        row = look_up(places(state["id"]), self.columns[kind]["id"])
        if not state["id"].size:
            return np.full(row.size, missing)
        return np.where(row >= 0, state[column][row], missing)

    def _live(self, kind: str) -> NDArray[np.bool_]:
        return self._state(kind, "in_service", True).astype(bool)

    def _buses(self) -> None:
        c = self.columns["bus"]
        geo = [
            f'{{"type": "Point", "coordinates": [{x}, {y}]}}' if np.isfinite(x) else None
            for x, y in zip(c["longitude_deg"].tolist(), c["latitude_deg"].tolist(), strict=True)
        ]
        self._put(
            "bus",
            name=self._names(c["id"]),
            vn_kv=c["base_kv"],
            type="b",
            in_service=self._live("bus"),
            geo=geo,
            min_vm_pu=c["vm_pu_min"],
            max_vm_pu=c["vm_pu_max"],
        )

    def _lines(self, frequency: float) -> None:
        c = self.columns["line"]
        length = np.where(np.isfinite(c["length_km"]) & (c["length_km"] > 0), c["length_km"], 1.0)
        index = self._put(
            "line",
            name=self._names(c["id"]),
            std_type=None,
            from_bus=self._at(c["from_bus"]),
            to_bus=self._at(c["to_bus"]),
            length_km=length,
            r_ohm_per_km=c["r_ohm"] / length,
            x_ohm_per_km=c["x_ohm"] / length,
            c_nf_per_km=c["b_s"] / (2.0 * np.pi * frequency) * 1e9 / length,
            g_us_per_km=c["g_s"] * 1e6 / length,
            max_i_ka=np.where(np.isnan(c["i_max_ka"]), 99999.0, c["i_max_ka"]),
            df=1.0,
            parallel=1,
            type="ol",
            in_service=self._live("line"),
            max_loading_percent=c["loading_max"] * 100.0,
        )
        self.branch.update(zip(c["id"].tolist(), (("l", k) for k in index), strict=True))

    def _transformers(self) -> None:
        c = self.columns["transformer"]
        y = c["g_pu"] + 1j * c["b_pu"]
        # pandapower knows inductive magnetizing branches of T models only.
        plain = ((c["model"] == "t") & (c["b_pu"] <= 0) & (c["g_pu"] >= 0)) | (y == 0)
        tap = self._state("transformer", "tap", MISSING_INT)
        side = np.array([SIDES.get(s, "") for s in c["tap_side"].tolist()], dtype=object)
        rated = np.sqrt(3.0) * c["rated_from_kv"] * c["i_max_from_ka"] / c["rated_mva"]
        limited = np.isfinite(rated)
        index = self._add_transformers(
            name=self._names(c["id"]),
            hv_bus=self._at(c["from_bus"]),
            lv_bus=self._at(c["to_bus"]),
            sn_mva=c["rated_mva"],
            kv=(c["rated_from_kv"], c["rated_to_kv"]),
            z=c["r_pu"] + 1j * c["x_pu"],
            y=np.where(plain, y, 0.0),
            shift_degree=c["shift_deg"],
            in_service=self._live("transformer"),
            df=np.where(limited & (rated > 0), rated, 1.0),
            max_loading_percent=c["loading_max"] * 100.0,
            tap_side=_or_none(side == "", side),
            tap_pos=_whole(tap),
            **_tap_columns(c),
            tap_changer_type=_or_none(side == "", np.where(c["tap_phase_shifter"], "Ideal", "Ratio")),
        )
        self.branch.update(zip(c["id"].tolist(), (("t", k) for k in index), strict=True))
        free = np.isinf(c["i_max_from_ka"])
        if free.any():
            self.notes.append(Note("transformer", int(free.sum()), "unrated: pandapower takes the rated power"))
        if (~plain).any():
            self._end_shunts(~plain & self._live("transformer"))
            what = "magnetizing branch written as shunts at its buses, fixed at the present tap"
            self.notes.append(Note("transformer", int((~plain).sum()), what))

    def _end_shunts(self, chosen: NDArray[np.bool_]) -> None:
        """Write the end admittances of some transformers as shunts; pandapower's part has none."""
        model = BranchReader(self.columns).transformers()
        c = self.columns["transformer"]
        # The T conversion changes the series impedance as well, so a T model keeps its pi form's impedance.
        bare_t = chosen & (c["model"] == "t")
        if bare_t.any():
            frame = self.frames["trafo"][0]
            z, _ = t_to_pi(c["r_pu"] + 1j * c["x_pu"], c["g_pu"] + 1j * c["b_pu"])
            frame.loc[bare_t, ["vk_percent", "vkr_percent"]] = np.column_stack(
                [np.sign(z.imag) * np.abs(z) * 100.0, z.real * 100.0]
            )[bare_t]
        y_from = (model.g_from_pu + 1j * model.b_from_pu) / model.ratio**2
        y_to = model.g_to_pu + 1j * model.b_to_pu
        for end, y in (("from_bus", y_from), ("to_bus", y_to)):
            self._add_shunts(self._names(c["id"][chosen]), self._at(c[end])[chosen], y[chosen] * self.base_mva)

    def _add_transformers(
        self,
        *,
        kv: tuple[FloatArray, FloatArray],
        z: ComplexArray,
        y: ComplexArray,
        sn_mva: FloatArray,
        **columns: Any,
    ) -> range:
        return self._put(
            "trafo",
            std_type=None,
            sn_mva=sn_mva,
            vn_hv_kv=kv[0],
            vn_lv_kv=kv[1],
            vk_percent=np.where(z.imag < 0, -1.0, 1.0) * np.abs(z) * 100.0,
            vkr_percent=z.real * 100.0,
            pfe_kw=y.real * sn_mva * 1e3,
            i0_percent=np.abs(y) * 100.0,
            parallel=1,
            **columns,
        )

    def _add_shunts(self, names: list[str], bus: NDArray[np.int64], y_mva: NDArray[Any]) -> None:
        self._put(
            "shunt",
            bus=bus,
            name=names,
            q_mvar=-y_mva.imag,
            p_mw=y_mva.real,
            vn_kv=self.kv[bus],
            step=1,
            max_step=1,
            in_service=True,
        )

    def _transformers3(self) -> None:
        c = self.columns["transformer3"]
        if not c["id"].size:
            return
        sides = ("high", "medium", "low")
        size = np.stack([c[f"rated_{s}_mva"] for s in sides])
        z = np.stack([c[f"r_{s}_pu"] + 1j * c[f"x_{s}_pu"] for s in sides]) / self.base_mva
        pairs = np.stack([z[0] + z[1], z[1] + z[2], z[0] + z[2]]) * np.minimum(size[[0, 1, 0]], size[[1, 2, 2]])
        magnetized = (c["g_pu"] != 0) | (c["b_pu"] != 0)
        place = np.where(np.isin(c["magnetizing_at"], sides), c["magnetizing_at"], "high")
        star = magnetized & ~np.isin(c["magnetizing_at"], sides)
        if star.any():
            what = "magnetized at the star point: written at its high winding"
            self.notes.append(Note("transformer3", int(star.sum()), what))
        own = np.select([place == s for s in sides], list(size))
        y = (c["g_pu"] + 1j * c["b_pu"]) * self.base_mva
        side = np.array([SIDES.get(s, "") for s in c["tap_side"].tolist()], dtype=object)
        short = ("hv", "mv", "lv")
        index = self._put(
            "trafo3w",
            name=self._names(c["id"]),
            std_type=None,
            **{f"{s}_bus": self._at(c[f"{w}_bus"]) for s, w in zip(short, sides, strict=True)},
            **{f"sn_{s}_mva": c[f"rated_{w}_mva"] for s, w in zip(short, sides, strict=True)},
            **{f"vn_{s}_kv": c[f"rated_{w}_kv"] for s, w in zip(short, sides, strict=True)},
            **{f"vk_{s}_percent": np.abs(pairs[k]) * 100.0 for k, s in enumerate(short)},
            **{f"vkr_{s}_percent": pairs[k].real * 100.0 for k, s in enumerate(short)},
            pfe_kw=y.real * 1e3,
            i0_percent=np.abs(y) / own * 100.0,
            shift_mv_degree=c["shift_medium_deg"],
            shift_lv_degree=c["shift_low_deg"],
            tap_side=_or_none(side == "", side),
            tap_pos=_whole(self._state("transformer3", "tap", MISSING_INT)),
            **_tap_columns(c),
            tap_at_star_point=c["tap_at_star_point"],
            tap_changer_type=_or_none(side == "", np.full(side.size, "Ratio")),
            loss_side=[SIDES[p] for p in place.tolist()],
            in_service=self._live("transformer3"),
        )
        self.branch.update(zip(c["id"].tolist(), (("t3", k) for k in index), strict=True))

    def _equivalents(self) -> None:
        c = self.columns["equivalent_branch"]
        live = self._live("equivalent_branch")
        wound = (c["ratio"] != 1.0) | (c["shift_deg"] != 0.0)
        rows = np.flatnonzero(~wound)
        names = np.array(self._names(c["id"]), dtype=object)
        f, t = self._at(c["from_bus"]), self._at(c["to_bus"])
        self._put(
            "impedance",
            name=names[rows],
            from_bus=f[rows],
            to_bus=t[rows],
            **{f"{q}{d}_pu": c[f"{q}_pu"][rows] for q in "rx" for d in ("ft", "tf")},
            **{f"{q}{d}_pu": c[f"{q}_{e}_pu"][rows] for q in "gb" for d, e in (("f", "from"), ("t", "to"))},
            sn_mva=self.base_mva,
            in_service=live[rows],
        )
        rows = np.flatnonzero(wound)
        if not rows.size:
            return
        self.notes.append(Note("equivalent_branch", rows.size, "with a ratio or shift: written as transformer"))
        size = np.full(rows.size, self.base_mva)
        self._add_transformers(
            name=names[rows],
            hv_bus=f[rows],
            lv_bus=t[rows],
            sn_mva=size,
            kv=(self.kv[f[rows]] * c["ratio"][rows], self.kv[t[rows]]),
            z=(c["r_pu"] + 1j * c["x_pu"])[rows],
            y=np.zeros(rows.size, complex),
            shift_degree=c["shift_deg"][rows],
            in_service=live[rows],
            df=1.0,
            max_loading_percent=100.0,
            tap_side=None,
            tap_pos=np.nan,
            tap_changer_type=None,
        )
        rows = np.flatnonzero(wound & live)
        y_from = (c["g_from_pu"] + 1j * c["b_from_pu"])[rows] / c["ratio"][rows] ** 2
        y_to = (c["g_to_pu"] + 1j * c["b_to_pu"])[rows]
        for bus, y in ((f[rows], y_from), (t[rows], y_to)):
            self._add_shunts(names[rows].tolist(), bus, y * self.base_mva)

    def _switches(self) -> None:
        c = self.columns["switch"]
        other = look_up(self.bus, c["element"])
        pairs = zip(other.tolist(), c["element"].tolist(), strict=True)
        found = [("b", o) if o >= 0 else self.branch.get(e, ("", -1)) for o, e in pairs]
        known = np.array([k >= 0 for _, k in found], dtype=bool)
        if (~known).any():
            self.notes.append(Note("switch", int((~known).sum()), "at an equivalent branch: not written"))
        closed = self._state("switch", "closed", True).astype(bool)
        self._put(
            "switch",
            bus=self._at(c["bus"])[known],
            element=[k for _, k in found if k >= 0],
            et=[e for e, k in found if k >= 0],
            type=None,
            closed=closed[known],
            name=np.array(self._names(c["id"]), dtype=object)[known],
            z_ohm=c["r_ohm"][known] * np.sqrt(5.0) / 2.0,
            in_ka=np.nan,
        )

    def _units(self) -> None:
        c = self.columns["unit"]
        bus, live = self._at(c["bus"]), self._live("unit")
        on = live & self._state("unit", "on", True).astype(bool)
        controls = c["voltage_control"]
        candidate = controls & on & self.columns["bus"]["slack"][bus] if bus.size else np.zeros(0, bool)
        _, first = np.unique(np.where(candidate, bus, -1), return_index=True)
        slack = np.zeros(bus.size, bool)
        slack[first] = candidate[first]
        names = np.array(self._names(c["id"]), dtype=object)
        power, reactive = (self._state("unit", q, 0.0) for q in ("p_mw", "q_mvar"))
        vm = self._state("unit", "vm_set_pu", np.nan)
        common = {
            "min_q_mvar": c["q_mvar_min"],
            "max_q_mvar": c["q_mvar_max"],
            "min_p_mw": c["p_mw_min"],
            "max_p_mw": c["p_mw_max"],
            "type": c["technology"],
            "sn_mva": c["rated_mva"],
            "name": names,
            "bus": bus,
        }

        def rows(mask: NDArray[np.bool_], **more: NDArray[Any]) -> dict[str, NDArray[Any]]:
            return {k: v[mask] for k, v in {**common, **more}.items()}

        angle = self.columns["bus_state"]["va_deg"]
        row = look_up(places(self.columns["bus_state"]["id"]), c["bus"])
        at = np.nan_to_num(np.where(row >= 0, angle[row], 0.0)) if angle.size else np.zeros(row.size)
        self._put("ext_grid", **rows(slack, vm_pu=vm, va_degree=at, in_service=on), slack_weight=1.0)
        gen = controls & ~slack
        self._put(
            "gen", **rows(gen, p_mw=power, vm_pu=vm, in_service=on), scaling=1.0, slack=False, slack_weight=0.0
        )
        static = ~controls
        self._put(
            "sgen",
            **rows(static, p_mw=power, q_mvar=reactive, in_service=on),
            scaling=1.0,
            current_source=True,
        )

    def _svgs(self) -> None:
        c = self.columns["svg"]
        vm, live = self._state("svg", "vm_set_pu", np.nan), self._live("svg")
        names = np.array(self._names(c["id"]), dtype=object)
        controls = np.isfinite(vm)
        for element, mask in (("gen", controls), ("sgen", ~controls)):
            more: dict[str, Any] = {"vm_pu": vm[mask], "slack": False, "slack_weight": 0.0}
            if element == "sgen":
                more = {"q_mvar": self._state("svg", "q_mvar", 0.0)[mask], "current_source": True}
            self._put(
                element,
                name=names[mask],
                bus=self._at(c["bus"])[mask],
                p_mw=0.0,
                type="condenser",
                min_q_mvar=c["q_mvar_min"][mask],
                max_q_mvar=c["q_mvar_max"][mask],
                max_p_mw=0.0,
                min_p_mw=0.0,
                scaling=1.0,
                in_service=live[mask],
                **more,
            )

    def _loads(self) -> None:
        c = self.columns["load"]
        self._put(
            "load",
            name=self._names(c["id"]),
            bus=self._at(c["bus"]),
            p_mw=self._state("load", "p_mw", 0.0),
            q_mvar=self._state("load", "q_mvar", 0.0),
            **{f"const_{kind}_{q}_percent": c[f"share_{kind}"] * 100.0 for kind in "zi" for q in "pq"},
            scaling=1.0,
            in_service=self._live("load"),
            type="wye",
        )

    def _shunts(self) -> None:
        c = self.columns["shunt"]
        bus = self._at(c["bus"])
        self._put(
            "shunt",
            bus=bus,
            name=self._names(c["id"]),
            q_mvar=-c["b_step_mvar"],
            p_mw=c["g_step_mw"],
            vn_kv=self.kv[bus],
            step=self._state("shunt", "step", 0),
            max_step=c["step_max"],
            in_service=self._live("shunt"),
        )

    def _storages(self) -> None:
        c = self.columns["storage"]
        energy = self._state("storage", "energy_mwh", 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            fill = np.nan_to_num(energy / c["energy_mwh_max"]) * 100.0
        self._put(
            "storage",
            name=self._names(c["id"]),
            bus=self._at(c["bus"]),
            p_mw=-self._state("storage", "p_mw", 0.0),
            q_mvar=-self._state("storage", "q_mvar", 0.0),
            sn_mva=np.maximum(c["p_charge_mw_max"], c["p_discharge_mw_max"]),
            soc_percent=fill,
            min_e_mwh=c["energy_mwh_min"],
            max_e_mwh=c["energy_mwh_max"],
            max_p_mw=c["p_charge_mw_max"],
            min_p_mw=-c["p_discharge_mw_max"],
            min_q_mvar=c["q_mvar_min"],
            max_q_mvar=c["q_mvar_max"],
            scaling=1.0,
            type=c["technology"],
            in_service=self._live("storage"),
        )

    def _hvdc(self) -> None:
        """Write HVDC lines; pandapower's dcline always controls both voltages, else fixed infeeds stand for it."""
        c = self.columns["hvdc"]
        vm = {end: self._state("hvdc", f"vm_{end}_set_pu", np.nan) for end in ("from", "to")}
        sent, live = self._state("hvdc", "p_mw", 0.0), self._live("hvdc")
        controls = np.isfinite(vm["from"]) & np.isfinite(vm["to"])
        names = np.array(self._names(c["id"]), dtype=object)
        k = np.flatnonzero(controls)
        self._put(
            "dcline",
            name=names[k],
            from_bus=self._at(c["from_bus"])[k],
            to_bus=self._at(c["to_bus"])[k],
            p_mw=sent[k],
            loss_percent=c["loss_percent"][k],
            loss_mw=c["loss_mw"][k],
            vm_from_pu=vm["from"][k],
            vm_to_pu=vm["to"][k],
            max_p_mw=c["p_mw_max"][k],
            **{f"{b}_q_{e}_mvar": c[f"q_{e}_mvar_{b}"][k] for b in ("min", "max") for e in ("from", "to")},
            in_service=live[k],
        )
        k = np.flatnonzero(~controls)
        if not k.size:
            return
        self.notes.append(Note("hvdc", k.size, "without control of both voltages: two fixed infeeds"))
        received = np.abs(sent) * (1.0 - c["loss_percent"] / 100.0) - c["loss_mw"]
        forward = sent >= 0
        for end, power in (
            ("from", np.where(forward, -sent, received)),
            ("to", np.where(forward, received, sent)),
        ):
            self._put(
                "sgen",
                name=[f"{n} ({end})" for n in names[k]],
                bus=self._at(c[f"{end}_bus"])[k],
                p_mw=power[k],
                q_mvar=self._state("hvdc", f"q_{end}_mvar", 0.0)[k],
                scaling=1.0,
                type="imp",
                current_source=True,
                in_service=live[k],
            )


def _or_none(empty: NDArray[np.bool_], words: NDArray[Any]) -> NDArray[Any]:
    """Return words as objects, None where empty."""
    found = words.astype(object)
    found[empty] = None
    return found


def _whole(values: NDArray[Any]) -> FloatArray:
    return np.where(values == MISSING_INT, np.nan, values.astype(float))


def _tap_columns(c: Mapping[str, NDArray[Any]]) -> dict[str, FloatArray]:
    return {
        **{f"tap_{word}": _whole(c[f"tap_{word}"]) for word in ("neutral", "min", "max")},
        "tap_step_percent": c["tap_step_percent"],
        "tap_step_degree": c["tap_step_deg"],
    }


def _like(known: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with every column that the empty table has."""
    for column in known.columns:
        if column not in frame.columns:
            kind = known[column].dtype
            frame[column] = False if kind.kind == "b" else pd.Series([None] * len(frame), dtype=object)
    return frame
