"""PSS/E, CGMES, XIIDM, UCTE and IEEE-CDF through pypowsybl; electrical meaning as in IIDM.

Buses are those of the bus view: switches are already resolved. In IIDM a two-winding transformer has its ideal
transformer at side 1 and its impedance and magnetizing admittance behind it, in ohm and siemens of side 2.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bos_core.exchange.pandapower_net import technology_of
from bos_core.exchange.powsybl_steps import LINEAR, Taps, section_admittances, shunt_steps
from bos_core.exchange.tables import TableBuilder
from bos_core.grid.model import FloatArray, StrArray
from bos_core.objects.errors import Finding, FormatError

LIMIT_MW = 9000.0
"""Active limits of this size or more are a converter's placeholder."""
Q_LIMIT_MVAR = 9999.0

_SOURCES = {"NUCLEAR": "nuclear", "WIND": "wind_onshore", "SOLAR": "solar", "HYDRO": "hydro"}


def read_powsybl(path: Path) -> TableBuilder:
    """Read a file that pypowsybl understands.

    Raises
    ------
    FormatError
        pypowsybl cannot read the file.
    """
    import pypowsybl.network as pn

    for name in ("pypowsybl", "powsybl"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        network = pn.load(str(path))
    except Exception as error:
        problem = f"cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"[:300]
        remedy = "check that its content fits its suffix and export it again"
        raise FormatError((Finding("file", (path.name,), problem, remedy),)) from error
    return _Reader(pn, network, path.stem).read()


class _Reader:
    """Reads one pypowsybl network."""

    def __init__(self, pn: Any, network: Any, name: str) -> None:
        self.network = network
        self.tables = TableBuilder(name)
        three = len(network.get_3_windings_transformers())
        if three:
            pn.replace_3_windings_transformers_with_3_2_windings_transformers(network)
            self.tables.note("transformer3", three, "imported as three two-winding transformers")
        levels = network.get_voltage_levels()
        self.levels = levels
        self.kv_of_level = levels["nominal_v"]
        self.level_limits = levels[["low_voltage_limit", "high_voltage_limit"]]
        self.substation = levels["substation_id"]

    def read(self) -> TableBuilder:
        self._buses()
        self._boundaries()
        self._lines()
        self._transformers()
        self._generators()
        self._loads()
        self._shunts()
        self._static_var_compensators()
        self._batteries()
        self._hvdc()
        n = len(self.tables.column("bus", "id"))
        stations = [*self.stations, *[""] * (n - len(self.stations))]
        self.tables.organise(None, stations)
        return self.tables

    def _names(self, frame: pd.DataFrame) -> list[str]:
        return [str(n) if isinstance(n, str) and n else str(i) for i, n in frame["name"].items()]

    def _buses(self) -> None:
        frame = self.network.get_buses()
        level = frame["voltage_level_id"]
        self.kv = self.kv_of_level.reindex(level).set_axis(frame.index)
        low, high = (self.level_limits[c].reindex(level).to_numpy() for c in self.level_limits.columns)
        kv = self.kv.to_numpy()
        slack = self._slack(frame)
        # The bus view numbers the buses of a level; a bus that is alone there is called as the level.
        alone = ~level.duplicated(keep=False)
        names = self._names(self.levels.reindex(level))
        ids = self.tables.add(
            "bus",
            frame.index,
            np.where(alone, names, self._names(frame)),
            base_kv=kv,
            vm_pu_min=low / kv,
            vm_pu_max=high / kv,
            slack=frame.index == slack,
            longitude_deg=np.nan,
            latitude_deg=np.nan,
        )
        self.bus_ids = pd.Series(ids, index=frame.index)
        self.tables.state("bus", ids, in_service=True, vm_pu=np.nan, va_deg=np.nan)
        names = self.network.get_substations()["name"]
        substation = self.substation.reindex(level)
        self.stations = [str(names.get(s) or s or "") for s in substation.tolist()]

    def _slack(self, buses: pd.DataFrame) -> str:
        """Return the slack of the file, else the bus of the largest voltage-controlling generator."""
        given = self.network.get_extensions("slackTerminal")
        if len(given) and given["bus_id"].iloc[0] in buses.index:
            return str(given["bus_id"].iloc[0])
        gen = self.network.get_generators()
        gen = gen[gen["voltage_regulator_on"] & gen["connected"] & gen["bus_id"].isin(buses.index)]
        if not len(gen):
            return ""
        main = buses["connected_component"].reindex(gen["bus_id"]).to_numpy() == 0
        gen = gen[main] if main.any() else gen
        size = gen["max_p"].where(gen["max_p"] < LIMIT_MW, gen["target_p"].abs())
        self.tables.note("bus", 1, "the file names no slack: bus of the largest voltage-controlling generator")
        return str(gen["bus_id"].loc[size.idxmax()])

    def _ids(self, buses: pd.Series) -> StrArray:
        return np.array([self.bus_ids.get(b, "") or "" for b in buses.tolist()], dtype=np.str_)

    def _connected(self, what: str, frame: pd.DataFrame, *ends: str) -> pd.DataFrame:
        """Return the rows connected at every end; the others are noted and left out."""
        live = np.logical_and.reduce([frame[e].isin(self.bus_ids.index).to_numpy() for e in ends])
        self.tables.note(what, int((~live).sum()), "not connected at every end: not imported")
        return frame[live]

    def _limits_ka(self) -> dict[str, FloatArray]:
        """Return permanent current limits by element: [side 1, side 2] in kA, NaN where there is none."""
        limits = self.network.get_operational_limits().reset_index()
        found: dict[str, FloatArray] = {}
        if not len(limits):
            return found
        permanent = limits[(limits["type"] == "CURRENT") & (limits["acceptable_duration"] < 0)]
        columns = (permanent[c] for c in ("element_id", "side", "value"))
        for element, side, value in zip(*columns, strict=True):
            pair = found.setdefault(str(element), np.full(2, np.nan))
            at = 1 if side == "TWO" else 0
            pair[at] = np.fmin(pair[at], value / 1000.0)
        return found

    def _boundaries(self) -> None:
        """Boundary lines: a bus at the boundary, the line to it, and what is beyond as a load."""
        getter = getattr(self.network, "get_boundary_lines", None) or self.network.get_dangling_lines
        frame = self._connected("boundary line", getter(all_attributes=True), "bus_id")
        if not len(frame):
            return
        tie = frame["tie_line_id"].fillna("").astype(str) if "tie_line_id" in frame else pd.Series("", frame.index)
        key = [t or f"boundary {i}" for i, t in zip(frame.index, tie, strict=True)]
        kv = self.kv.reindex(frame["bus_id"]).to_numpy()
        first = ~pd.Series(key).duplicated().to_numpy()
        boundary = [k for k, f in zip(key, first, strict=True) if f]
        ids = self.tables.add(
            "bus",
            boundary,
            boundary,
            base_kv=kv[first],
            vm_pu_min=np.nan,
            vm_pu_max=np.nan,
            slack=False,
            longitude_deg=np.nan,
            latitude_deg=np.nan,
        )
        self.tables.state("bus", ids, in_service=True, vm_pu=np.nan, va_deg=np.nan)
        place = dict(zip(boundary, ids.tolist(), strict=True))
        ohm = kv**2 / self.tables.base_mva
        limits, nothing = self._limits_ka(), np.full(2, np.nan)
        branch = self.tables.add(
            "equivalent_branch",
            [f"boundary {i}" for i in frame.index],
            self._names(frame),
            from_bus=self._ids(frame["bus_id"]),
            to_bus=np.array([place[k] for k in key]),
            r_pu=frame["r"].to_numpy() / ohm,
            x_pu=frame["x"].to_numpy() / ohm,
            # IIDM has the whole shunt of a boundary line at its side of the network.
            g_from_pu=frame["g"].to_numpy() * ohm,
            b_from_pu=frame["b"].to_numpy() * ohm,
            g_to_pu=0.0,
            b_to_pu=0.0,
            ratio=1.0,
            shift_deg=0.0,
            rating_mva=np.sqrt(3.0) * kv * np.array([np.fmin(*limits.get(str(i), nothing)) for i in frame.index]),
            fictitious=False,
        )
        self.tables.state("branch", branch, in_service=True, tap=np.nan)
        alone = (tie == "").to_numpy()
        rows = frame[alone]
        given = self._beyond(rows)
        loads = self.tables.add(
            "load",
            [f"boundary {i}" for i in rows.index],
            [f"beyond {n}" for n in self._names(rows)],
            bus=np.array([place[k] for k, a in zip(key, alone, strict=True) if a], dtype=np.str_),
            share_z=0.0,
            share_i=0.0,
            sheddable=False,
        )
        self.tables.state(
            "load",
            loads,
            in_service=True,
            p_mw=rows["p0"].to_numpy() - given["target_p"].to_numpy(),
            q_mvar=rows["q0"].to_numpy() - given["target_q"].to_numpy(),
        )
        self.tables.note("boundary line", len(rows), "what lies beyond is a fixed load")
        controls = given["voltage_regulator_on"].to_numpy(dtype=bool)
        self.tables.note("boundary line", int(controls.sum()), "voltage control beyond the border is left out")

    def _beyond(self, lines: pd.DataFrame) -> pd.DataFrame:
        """Return generation at the far end of boundary lines, 0 where there is none."""
        network = self.network
        getter = getattr(network, "get_boundary_lines_generation", None) or network.get_dangling_lines_generation
        found: pd.DataFrame = getter(all_attributes=True).reindex(lines.index)
        return found.assign(
            target_p=found["target_p"].astype(float).fillna(0.0),
            target_q=found["target_q"].astype(float).fillna(0.0),
            voltage_regulator_on=found["voltage_regulator_on"].eq(True),
        )

    def _lines(self) -> None:
        frame = self._connected("line", self.network.get_lines(), "bus1_id", "bus2_id")
        limits = self._limits_ka()
        kv1, kv2 = (self.kv.reindex(frame[c]).to_numpy() for c in ("bus1_id", "bus2_id"))
        r, x, g1, b1, g2, b2 = (frame[c].to_numpy(dtype=float) for c in ("r", "x", "g1", "b1", "g2", "b2"))
        even = np.isclose(g1, g2, rtol=LINEAR, atol=1e-15) & np.isclose(b1, b2, rtol=LINEAR, atol=1e-15)
        even &= kv1 == kv2
        names = np.array(self._names(frame))
        rated = np.array([np.fmin(*limits.get(str(i), np.full(2, np.nan))) for i in frame.index])
        rows = np.flatnonzero(even)
        ids = self.tables.add(
            "line",
            frame.index[rows],
            names[rows],
            from_bus=self._ids(frame["bus1_id"].iloc[rows]),
            to_bus=self._ids(frame["bus2_id"].iloc[rows]),
            r_ohm=r[rows],
            x_ohm=x[rows],
            g_s=(g1 + g2)[rows],
            b_s=(b1 + b2)[rows],
            i_max_ka=rated[rows] if rows.size else np.zeros(0),
            length_km=np.nan,
        )
        self.tables.state("branch", ids, in_service=True, tap=np.nan)
        self.tables.note("line", int(np.isnan(rated).sum()), "unrated")
        # Ends that differ: per unit on the to side behind an ideal transformer that undoes the two base voltages.
        rows = np.flatnonzero(~even)
        ohm = kv2[rows] ** 2 / self.tables.base_mva
        ids = self.tables.add(
            "equivalent_branch",
            frame.index[rows],
            names[rows],
            from_bus=self._ids(frame["bus1_id"].iloc[rows]),
            to_bus=self._ids(frame["bus2_id"].iloc[rows]),
            r_pu=r[rows] / ohm,
            x_pu=x[rows] / ohm,
            g_from_pu=g1[rows] * ohm,
            b_from_pu=b1[rows] * ohm,
            g_to_pu=g2[rows] * ohm,
            b_to_pu=b2[rows] * ohm,
            ratio=kv2[rows] / kv1[rows],
            shift_deg=0.0,
            rating_mva=np.sqrt(3.0) * kv1[rows] * rated[rows] if rows.size else np.zeros(0),
            fictitious=False,
        )
        self.tables.state("branch", ids, in_service=True, tap=np.nan)

    def _transformers(self) -> None:
        getter = self.network.get_2_windings_transformers
        frame = self._connected("transformer", getter(all_attributes=True), "bus1_id", "bus2_id")
        if not len(frame):
            return
        taps = Taps(self.network, frame)
        limits = self._limits_ka()
        u1, u2 = frame["rated_u1"].to_numpy(dtype=float), frame["rated_u2"].to_numpy(dtype=float)
        one, two = np.array([limits.get(str(i), np.full(2, np.nan)) for i in frame.index]).T
        # Limits of the ends come first; the rated power stands for that of the to end.
        power = np.sqrt(3.0) * np.where(np.isnan(two), u1 * one, u2 * two)
        power = np.where(np.isnan(power), frame["rated_s"].to_numpy(dtype=float), power)
        unrated = np.isnan(power)
        size = np.where(unrated, self.tables.base_mva, power)
        self.tables.note("transformer", int(unrated.sum()), "unrated")
        ohm = u2**2 / size
        r, x, g, b = (frame[f"{c}_at_current_tap"].to_numpy(dtype=float) for c in "rxgb")
        ids = self.tables.add(
            "transformer",
            frame.index,
            self._names(frame),
            from_bus=self._ids(frame["bus1_id"]),
            to_bus=self._ids(frame["bus2_id"]),
            rated_mva=size,
            rated_from_kv=u2 / frame["rho"].to_numpy(dtype=float) / np.abs(taps.present),
            rated_to_kv=u2,
            r_pu=r / ohm,
            x_pu=x / ohm,
            g_pu=g * ohm,
            b_pu=b * ohm,
            model="gamma",
            shift_deg=-frame["alpha"].to_numpy(dtype=float) - np.rad2deg(np.angle(taps.present)),
            tap_side=np.where(taps.movable, "from", "none"),
            tap_neutral=taps.neutral,
            tap_min=taps.low,
            tap_max=taps.high,
            tap_step_percent=taps.step_percent,
            tap_step_deg=taps.step_deg,
            tap_phase_shifter=taps.shifter,
            i_max_from_ka=np.where(unrated, np.inf, one),
        )
        self.tables.state("branch", ids, in_service=True, tap=np.where(taps.movable, taps.position, np.nan))
        self.tables.note(
            "transformer", taps.frozen, "tap changer fixed at its position (no even steps, or a second one)"
        )

    def _generators(self) -> None:
        frame = self._connected("generator", self.network.get_generators(all_attributes=True), "bus_id")
        if not len(frame):
            return
        kv = self.kv.reindex(frame["bus_id"]).to_numpy()
        power = frame["target_p"].to_numpy(dtype=float)
        top, bottom = frame["max_p"].to_numpy(dtype=float), frame["min_p"].to_numpy(dtype=float)
        open_top = top >= LIMIT_MW
        self.tables.note("generator", int(open_top.sum()), "no real power limit: its present power")
        top = np.where(open_top, np.maximum(power, 0.0), top)
        bottom = np.where(bottom <= -LIMIT_MW, np.minimum(power, 0.0), bottom)
        controls = frame["voltage_regulator_on"].to_numpy(dtype=bool)
        remote = controls & (frame["regulated_bus_id"].astype(str) != frame["bus_id"].astype(str)).to_numpy()
        self.tables.note("generator", int(remote.sum()), "regulates another bus: taken as regulating its own")
        target = frame["target_v"].to_numpy(dtype=float)
        at = self.kv.reindex(frame["regulated_bus_id"]).to_numpy()
        point = target / np.where(np.isfinite(at), at, kv)
        technology = np.array(
            [
                _SOURCES.get(str(s), technology_of(str(s), p, "other")) if p > 0 else "condenser"
                for s, p in zip(frame["energy_source"], top.tolist(), strict=True)
            ]
        )
        self.tables.note("generator", int((technology == "other").sum()), "no energy source: technology other")
        low, high = (frame[c].to_numpy(dtype=float) for c in ("min_q_at_target_p", "max_q_at_target_p"))
        ids = self.tables.add_units(
            frame.index,
            self._names(frame),
            technology=technology,
            p_mw_min=bottom,
            p_mw_max=top,
            technical_minimum=False,
            bus=self._ids(frame["bus_id"]),
            rated_mva=frame["rated_s"].to_numpy(dtype=float),
            q_mvar_min=np.clip(np.nan_to_num(low, nan=-Q_LIMIT_MVAR), -Q_LIMIT_MVAR, Q_LIMIT_MVAR),
            q_mvar_max=np.clip(np.nan_to_num(high, nan=Q_LIMIT_MVAR), -Q_LIMIT_MVAR, Q_LIMIT_MVAR),
            voltage_control=controls,
        )
        self.tables.state(
            "unit",
            ids,
            in_service=True,
            on=True,
            p_mw=power,
            q_mvar=np.nan_to_num(frame["target_q"].to_numpy(dtype=float)),
            vm_set_pu=np.where(controls, _one_set_point(frame["bus_id"], controls, point), np.nan),
        )

    def _loads(self) -> None:
        frame = self._connected("load", self.network.get_loads(), "bus_id")
        ids = self.tables.add(
            "load",
            frame.index,
            self._names(frame),
            bus=self._ids(frame["bus_id"]),
            share_z=0.0,
            share_i=0.0,
            sheddable=True,
        )
        self.tables.state("load", ids, in_service=True, p_mw=frame["p0"].to_numpy(), q_mvar=frame["q0"].to_numpy())

    def _shunts(self) -> None:
        frame = self._connected("shunt", self.network.get_shunt_compensators(), "bus_id")
        if not len(frame):
            return
        kv2 = self.kv.reindex(frame["bus_id"]).to_numpy() ** 2
        rows = []
        fixed = 0
        for y, present in zip(
            section_admittances(self.network, frame), frame["section_count"].tolist(), strict=True
        ):
            found = shunt_steps(y, int(present))
            fixed += found is None
            rows.append(found or (complex(y[int(present)]), 0, 1, 1))
        self.tables.note("shunt", fixed, "sections are no multiples of a step: fixed as they are")
        step, low, high, now = (np.array(column) for column in zip(*rows, strict=True))
        ids = self.tables.add(
            "shunt",
            frame.index,
            self._names(frame),
            bus=self._ids(frame["bus_id"]),
            g_step_mw=step.real * kv2,
            b_step_mvar=step.imag * kv2,
            step_min=low,
            step_max=high,
            controllable=high - low > 1,
        )
        self.tables.state("shunt", ids, in_service=True, step=now)

    def _static_var_compensators(self) -> None:
        getter = self.network.get_static_var_compensators
        frame = self._connected("svg", getter(all_attributes=True), "bus_id")
        if not len(frame):
            return
        kv = self.kv.reindex(frame["bus_id"]).to_numpy()
        on = frame["regulating"].to_numpy(dtype=bool) if "regulating" in frame else np.ones(len(frame), bool)
        voltage = (frame["regulation_mode"] == "VOLTAGE").to_numpy() & on
        ids = self.tables.add(
            "svg",
            frame.index,
            self._names(frame),
            bus=self._ids(frame["bus_id"]),
            q_mvar_min=frame["b_min"].to_numpy(dtype=float) * kv**2,
            q_mvar_max=frame["b_max"].to_numpy(dtype=float) * kv**2,
        )
        # IIDM counts power into the device.
        power = -np.nan_to_num(frame["target_q"].to_numpy(dtype=float)) * on
        point = np.where(voltage, frame["target_v"].to_numpy(dtype=float) / kv, np.nan)
        self.tables.state("svg", ids, in_service=True, q_mvar=np.where(voltage, 0.0, power), vm_set_pu=point)

    def _batteries(self) -> None:
        frame = self._connected("battery", self.network.get_batteries(), "bus_id")
        if not len(frame):
            return
        top, bottom = frame["max_p"].to_numpy(dtype=float), frame["min_p"].to_numpy(dtype=float)
        ids = self.tables.add(
            "storage",
            frame.index,
            self._names(frame),
            bus=self._ids(frame["bus_id"]),
            technology="battery",
            p_charge_mw_max=np.maximum(-bottom, 0.0),
            p_discharge_mw_max=np.maximum(top, 0.0),
            q_mvar_min=np.nan_to_num(frame["min_q"].to_numpy(dtype=float), nan=-Q_LIMIT_MVAR),
            q_mvar_max=np.nan_to_num(frame["max_q"].to_numpy(dtype=float), nan=Q_LIMIT_MVAR),
            energy_mwh_min=0.0,
            energy_mwh_max=4.0 * np.maximum(top, 0.0),
            efficiency_charge=0.95,
            efficiency_discharge=0.95,
        )
        self.tables.note("storage", len(frame), "content 4 h and efficiency 0.95 each way: not in the file")
        self.tables.state(
            "storage",
            ids,
            in_service=True,
            p_mw=frame["target_p"].to_numpy(dtype=float),
            q_mvar=frame["target_q"].to_numpy(dtype=float),
            energy_mwh=2.0 * np.maximum(top, 0.0),
        )

    def _hvdc(self) -> None:
        frame = self.network.get_hvdc_lines()
        if not len(frame):
            return
        stations = self._converters()
        swap = (frame["converters_mode"] == "SIDE_1_INVERTER_SIDE_2_RECTIFIER").to_numpy()
        one, two = frame["converter_station1_id"].to_numpy(), frame["converter_station2_id"].to_numpy()
        send = stations.reindex(np.where(swap, two, one)).set_axis(frame.index)
        receive = stations.reindex(np.where(swap, one, two)).set_axis(frame.index)
        known = send["bus_id"].isin(self.bus_ids.index) & receive["bus_id"].isin(self.bus_ids.index)
        live = (known & frame["connected1"] & frame["connected2"]).to_numpy()
        self.tables.note("hvdc", int((~live).sum()), "not connected at every end: not imported")
        frame, send, receive = frame[live], send[live], receive[live]
        # target_p is what the rectifier takes from the AC side; the line's loss is taken at that power.
        sent, largest = frame["target_p"].to_numpy(dtype=float), frame["max_p"].to_numpy(dtype=float)
        keeps = [1.0 - s["loss_factor"].to_numpy(dtype=float) / 100.0 for s in (send, receive)]
        line = frame["r"].to_numpy(dtype=float) * keeps[0] * sent / frame["nominal_v"].to_numpy(dtype=float) ** 2
        share = keeps[0] * (1.0 - line) * keeps[1]
        ids = self.tables.add(
            "hvdc",
            frame.index,
            self._names(frame),
            from_bus=self._ids(send["bus_id"]),
            to_bus=self._ids(receive["bus_id"]),
            p_mw_min=-largest,
            p_mw_max=largest,
            loss_percent=(1.0 - share) * 100.0,
            loss_mw=0.0,
            q_from_mvar_min=send["min_q"].to_numpy(),
            q_from_mvar_max=send["max_q"].to_numpy(),
            q_to_mvar_min=receive["min_q"].to_numpy(),
            q_to_mvar_max=receive["max_q"].to_numpy(),
        )
        received = sent * share
        self.tables.state(
            "hvdc",
            ids,
            in_service=True,
            p_mw=sent,
            q_from_mvar=(send["q"] - np.abs(sent) * send["q_per_p"]).to_numpy(),
            q_to_mvar=(receive["q"] - np.abs(received) * receive["q_per_p"]).to_numpy(),
            vm_from_set_pu=send["vm"].to_numpy(),
            vm_to_set_pu=receive["vm"].to_numpy(),
        )
        self.tables.note("hvdc", int((line > 0).sum()), "loss of the DC line: its share at the present power")

    def _converters(self) -> pd.DataFrame:
        """Return VSC and LCC stations with bus, loss factor, Q range, Q, set point and Q taken per MW."""
        vsc = self.network.get_vsc_converter_stations(all_attributes=True)
        kv = self.kv.reindex(vsc["bus_id"]).to_numpy()
        on = vsc["voltage_regulator_on"].to_numpy(dtype=bool)
        columns = {
            "bus_id": vsc["bus_id"],
            "loss_factor": vsc["loss_factor"],
            "min_q": vsc["min_q_at_target_p"].clip(-Q_LIMIT_MVAR, Q_LIMIT_MVAR).fillna(-Q_LIMIT_MVAR),
            "max_q": vsc["max_q_at_target_p"].clip(-Q_LIMIT_MVAR, Q_LIMIT_MVAR).fillna(Q_LIMIT_MVAR),
            "q": np.where(on, 0.0, vsc["target_q"].fillna(0.0)),
            "vm": np.where(on, vsc["target_v"] / kv, np.nan),
            "q_per_p": 0.0,
        }
        lcc = self.network.get_lcc_converter_stations(all_attributes=True)
        factor = lcc["power_factor"].abs()
        line = {
            "bus_id": lcc["bus_id"],
            "loss_factor": lcc["loss_factor"],
            "min_q": -Q_LIMIT_MVAR,
            "max_q": 0.0,
            "q": 0.0,
            "vm": np.nan,
            "q_per_p": np.sqrt(1.0 - factor**2) / factor,
        }
        return pd.concat([pd.DataFrame(columns, index=vsc.index), pd.DataFrame(line, index=lcc.index)])


def _one_set_point(bus: pd.Series, controls: NDArray[np.bool_], point: FloatArray) -> FloatArray:
    """Return the first controlling generator's set point for all generators of a bus."""
    first: dict[str, float] = {}
    for name, control, value in zip(bus.tolist(), controls.tolist(), point.tolist(), strict=True):
        if control:
            first.setdefault(name, value)
    return np.array([first.get(name, np.nan) for name in bus.tolist()])
