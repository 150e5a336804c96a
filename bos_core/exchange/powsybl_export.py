"""A grid as a pypowsybl network in XIIDM: one voltage level a bus, the pi models of the assembled grid.

A branch with a ratio, a shift or two base voltages is a two-winding transformer; what such branches join is a
substation. Its ideal transformer sits at side 1 and its shunt beside it; the shunt at its to end becomes a shunt
compensator. Three-winding transformers are their three legs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from bos_core.exchange.model import Note, to_columns
from bos_core.grid.assembly import assemble
from bos_core.grid.branch_models import tap_turn
from bos_core.grid.model import BranchKind, ComplexArray, Grid, IntArray, Snapshot

NEGLIGIBLE_PU = 1e-12

_GROUP = "DEFAULT"
_SOURCES = {"nuclear": "NUCLEAR", "wind": "WIND", "solar": "SOLAR", "hydro": "HYDRO", "river": "HYDRO"}
_THERMAL = ("lignite", "coal", "gas", "oil", "waste", "biomass")


def write_powsybl(tables: Mapping[str, pa.Table], path: Path) -> tuple[Note, ...]:
    """Write a network as XIIDM; returns what could not be kept."""
    import pypowsybl.network as pn

    for name in ("pypowsybl", "powsybl"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    columns = to_columns(tables)
    grid, snapshot = assemble(columns)
    writer = _Writer(pn.create_empty(str(columns["system"]["name"][0])), grid, snapshot)
    writer.write()
    partial = path.with_name(f"part-{path.stem}.xiidm")
    try:
        writer.network.save(str(partial), format="XIIDM")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return tuple(writer.notes)


class _Writer:
    """Fills one pypowsybl network, kind by kind."""

    def __init__(self, network: Any, grid: Grid, snapshot: Snapshot) -> None:
        self.network, self.grid, self.snapshot = network, grid, snapshot
        self.notes: list[Note] = []
        self.kv = grid.network.base_kv
        self.base_mva = grid.network.base_mva
        self.level = np.char.add("VL ", grid.network.bus_id)
        self.fixed = np.zeros(grid.network.n_bus, complex)
        """Admittance of every bus in p.u. that no shunt device holds."""

    def write(self) -> None:
        self._buses()
        self._branches()
        self._units()
        self._loads()
        self._shunts()
        self._svgs()
        self._storages()
        self._hvdc()

    def _note(self, component: str, count: int, what: str) -> None:
        if count:
            self.notes.append(Note(component, int(count), what))

    def _at(self, bus: IntArray) -> dict[str, Any]:
        return {"voltage_level_id": self.level[bus].tolist(), "bus_id": self.grid.network.bus_id[bus].tolist()}

    def _wound(self) -> NDArray[np.bool_]:
        n = self.grid.network
        wound = (n.ratio != 1.0) | (n.shift_rad != 0.0) | (n.branch_kind == BranchKind.TRANSFORMER)
        wound |= self.kv[n.from_bus] != self.kv[n.to_bus]
        return np.asarray(wound | np.isin(np.arange(n.n_branch), n.tap_branch))

    def _buses(self) -> None:
        n = self.grid.network
        k = np.flatnonzero(self._wound())
        joins = sp.csr_matrix((np.ones(k.size), (n.from_bus[k], n.to_bus[k])), shape=(n.n_bus, n.n_bus))
        label = connected_components(joins, directed=False)[1]
        _, first = np.unique(label, return_index=True)
        substation = np.char.add("S ", n.bus_id[first])
        self.network.create_substations(id=substation.tolist(), name=n.bus_name[first].tolist())
        self.network.create_voltage_levels(
            id=self.level.tolist(),
            substation_id=substation[label].tolist(),
            name=n.bus_name.tolist(),
            topology_kind=["BUS_BREAKER"] * n.n_bus,
            nominal_v=self.kv.tolist(),
            low_voltage_limit=(n.vm_pu_min * self.kv).tolist(),
            high_voltage_limit=(n.vm_pu_max * self.kv).tolist(),
        )
        self.network.create_buses(
            id=n.bus_id.tolist(), voltage_level_id=self.level.tolist(), name=n.bus_name.tolist()
        )

    def _ends(self, k: IntArray) -> dict[str, Any]:
        n = self.grid.network
        ends: dict[str, Any] = {"id": n.branch_id[k].tolist(), "name": n.branch_name[k].tolist()}
        for side, bus in (("1", n.from_bus[k]), ("2", n.to_bus[k])):
            ends |= {name.replace("_id", f"{side}_id"): value for name, value in self._at(bus).items()}
        return ends

    def _branches(self) -> None:
        n, wound = self.grid.network, self._wound()
        k = np.flatnonzero(~wound)
        ohm = self.kv[n.from_bus[k]] ** 2 / self.base_mva
        self.network.create_lines(
            **self._ends(k),
            r=n.r_pu[k] * ohm,
            x=n.x_pu[k] * ohm,
            g1=n.g_from_pu[k] / ohm,
            b1=n.b_from_pu[k] / ohm,
            g2=n.g_to_pu[k] / ohm,
            b2=n.b_to_pu[k] / ohm,
        )
        k = np.flatnonzero(wound)
        ohm = self.kv[n.to_bus[k]] ** 2 / self.base_mva
        np.add.at(self.fixed, n.to_bus[k], n.g_to_pu[k] + 1j * n.b_to_pu[k])
        present = np.ones(n.n_branch, complex)
        present[n.tap_branch] = self._turns(np.arange(n.tap_branch.size), n.tap)
        at_from = np.ones(n.n_branch, bool)
        at_from[n.tap_branch] = n.tap_at_from
        part = np.where(at_from[k], np.abs(present[k]), 1.0 / np.abs(present[k]))
        self.network.create_2_windings_transformers(
            **self._ends(k),
            rated_u1=self.kv[n.from_bus[k]] * n.ratio[k] / part,
            rated_u2=self.kv[n.to_bus[k]],
            r=n.r_pu[k] * ohm,
            x=n.x_pu[k] * ohm,
            g=n.g_from_pu[k] / ohm,
            b=n.b_from_pu[k] / ohm,
        )
        self._tap_changers(present)
        self._limits()

    def _turns(self, changer: IntArray, tap: IntArray) -> ComplexArray:
        """Return the turn of the winding that carries each changer's taps, at the given positions."""
        n = self.grid.network
        above = (tap - n.tap_neutral[changer]).astype(float)
        return tap_turn(above, n.tap_step[changer], n.tap_step_rad[changer], n.tap_phase_shifter[changer])

    def _tap_changers(self, present: ComplexArray) -> None:
        """Changers that turn are phase tap changers, which also hold the shift that every transformer has."""
        n = self.grid.network
        turning = n.tap_phase_shifter | (np.sin(n.tap_step_rad) != 0.0)
        steps: dict[str, list[pd.DataFrame]] = {"ratio": [], "phase": []}
        taps: dict[str, list[tuple[str, int, int]]] = {"ratio": [], "phase": []}
        rest = n.shift_rad.copy()
        for j, k in enumerate(n.tap_branch.tolist()):
            kind = "phase" if turning[j] else "ratio"
            frame, static = self._steps(j, k, present[k])
            rest[k] = 0.0 if turning[j] else static
            steps[kind].append(frame if turning[j] else frame.drop(columns="alpha"))
            taps[kind].append((str(n.branch_id[k]), int(n.tap[j]), int(n.tap_min[j])))
        for k in np.flatnonzero(rest != 0.0).tolist():
            one = {"id": n.branch_id[k], "rho": 1.0, "alpha": -np.rad2deg(rest[k])} | dict.fromkeys("rxgb", 0.0)
            steps["phase"].append(pd.DataFrame(one, index=[0]))
            taps["phase"].append((str(n.branch_id[k]), 0, 0))
        self._note("transformer", int((~n.tap_at_from).sum()), "taps at the to side: steps correct the impedance")
        for kind, create, fixed in (
            ("ratio", self.network.create_ratio_tap_changers, {"regulating": False, "oltc": True}),
            (
                "phase",
                self.network.create_phase_tap_changers,
                {"regulating": False, "regulation_mode": "CURRENT_LIMITER"},
            ),
        ):
            if steps[kind]:
                changers = pd.DataFrame(taps[kind], columns=["id", "tap", "low_tap"]).assign(**fixed)
                create(changers.set_index("id"), pd.concat(steps[kind]).set_index("id"))

    def _steps(self, j: int, k: int, present: complex) -> tuple[pd.DataFrame, float]:
        """Return the steps of changer `j` on branch `k`, and the shift in rad that the branch has besides."""
        n = self.grid.network
        position = np.arange(n.tap_min[j], n.tap_max[j] + 1)
        turn = self._turns(np.full(position.size, j), position)
        at_from = bool(n.tap_at_from[j])
        along, now = (turn, present) if at_from else (1.0 / turn, 1.0 / present)
        static = float(n.shift_rad[k] - np.angle(now))
        # Taps of the to side stretch the impedance, which sits there.
        stretch = np.ones(position.size) if at_from else np.abs(turn) ** 2 / np.abs(present) ** 2
        columns = {
            "id": np.full(position.size, n.branch_id[k]),
            "rho": 1.0 / np.abs(along),
            "alpha": -np.rad2deg(np.angle(along) + static),
            **dict.fromkeys("rx", 100.0 * (stretch - 1.0)),
            **dict.fromkeys("gb", 100.0 * (1.0 / stretch - 1.0)),
        }
        return pd.DataFrame(columns), static

    def _limits(self) -> None:
        n = self.grid.network
        for side, bus, limit in (("ONE", n.from_bus, n.i_max_from_pu), ("TWO", n.to_bus, n.i_max_to_pu)):
            k = np.flatnonzero(np.isfinite(limit))
            if k.size:
                self.network.create_operational_limits(
                    element_id=n.branch_id[k].tolist(),
                    side=[side] * k.size,
                    name=["permanent"] * k.size,
                    type=["CURRENT"] * k.size,
                    value=limit[k] * self.base_mva / np.sqrt(3.0) / self.kv[bus[k]] * 1000.0,
                    acceptable_duration=[-1] * k.size,
                    group_name=[_GROUP] * k.size,
                )
                number = "1" if side == "ONE" else "2"
                wound = self._wound()[k]
                for update, rows in (
                    (self.network.update_lines, k[~wound]),
                    (self.network.update_2_windings_transformers, k[wound]),
                ):
                    if rows.size:
                        chosen = {f"selected_limits_group_{number}": [_GROUP] * rows.size}
                        update(id=n.branch_id[rows].tolist(), **chosen)

    def _units(self) -> None:
        u, s = self.grid.units, self.snapshot
        controls = u.voltage_control & s.unit_on & np.isfinite(s.unit_vm_set_pu)
        self._note("unit", int((~s.unit_on).sum()), "off: idle, without voltage control")
        self._note(
            "unit", u.n, "costs, times, ramps and profiles are not written; of the technology only its source"
        )
        target = np.where(np.isfinite(s.unit_vm_set_pu), s.unit_vm_set_pu, 1.0) * self.kv[u.bus]
        self.network.create_generators(
            id=u.id.tolist(),
            name=u.name.tolist(),
            **self._at(u.bus),
            energy_source=[_source(t) for t in u.technology.tolist()],
            min_p=u.p_mw_min,
            max_p=np.maximum(u.p_mw_max, u.p_mw_min),
            target_p=np.where(s.unit_on, s.unit_p_mw, 0.0),
            target_q=np.where(s.unit_on, s.unit_q_mvar, 0.0),
            target_v=target,
            voltage_regulator_on=controls.tolist(),
        )
        slack = self.grid.network.slack
        first = u.id[controls & (u.bus == slack)][:1].tolist()
        if first:
            self.network.create_extensions(
                "slackTerminal", voltage_level_id=str(self.level[slack]), element_id=first[0]
            )
        self.network.create_minmax_reactive_limits(
            id=u.id.tolist(), min_q=u.q_mvar_min, max_q=np.maximum(u.q_mvar_max, u.q_mvar_min)
        )

    def _loads(self) -> None:
        c, s = self.grid.loads, self.snapshot
        self._note("load", int(((c.share_z != 0) | (c.share_i != 0)).sum()), "constant power only")
        if c.id.size:
            self.network.create_loads(
                id=c.id.tolist(), name=c.name.tolist(), **self._at(c.bus), p0=s.load_p_mw, q0=s.load_q_mvar
            )

    def _shunts(self) -> None:
        n, c = self.grid.network, self.grid.shunts
        unit = c.g_step_pu + 1j * c.b_step_pu
        self.fixed += n.g_shunt_pu + 1j * n.b_shunt_pu
        np.add.at(self.fixed, c.bus, -c.step * unit)
        # Sections count from none to all; a shunt that goes below, or never moves, is fixed at its present step.
        free = (c.step_min >= 0) & (c.step_max > 0) & (unit.imag != 0.0)
        np.add.at(self.fixed, c.bus[~free], (c.step * unit)[~free])
        rest = np.flatnonzero(np.abs(self.fixed) > NEGLIGIBLE_PU)
        self._note("shunt", rest.size, "fixed admittance of a bus, ends of transformers among it")
        bus = np.concatenate([c.bus[free], rest])
        ids = np.concatenate([c.id[free], np.char.add("fixed ", n.bus_id[rest])])
        y = np.concatenate([unit[free], self.fixed[rest]]) * self.base_mva / self.kv[bus] ** 2
        most = np.concatenate([c.step_max[free], np.ones(rest.size, np.int64)])
        now = np.concatenate([np.asarray(self.snapshot.shunt_step)[free], np.ones(rest.size, np.int64)])
        if not ids.size:
            return
        frame = pd.DataFrame({"id": ids, **self._at(bus), "model_type": "LINEAR", "section_count": now})
        model = {"id": ids, "g_per_section": y.real, "b_per_section": y.imag, "max_section_count": most}
        self.network.create_shunt_compensators(frame.set_index("id"), pd.DataFrame(model).set_index("id"))

    def _svgs(self) -> None:
        c, s = self.grid.svgs, self.snapshot
        if not c.id.size:
            return
        controls = np.isfinite(s.svg_vm_set_pu)
        self.network.create_static_var_compensators(
            id=c.id.tolist(),
            **self._at(c.bus),
            b_min=c.q_mvar_min / self.kv[c.bus] ** 2,
            b_max=c.q_mvar_max / self.kv[c.bus] ** 2,
            regulation_mode=np.where(controls, "VOLTAGE", "REACTIVE_POWER").tolist(),
            regulating=[True] * c.id.size,
            target_v=np.where(controls, s.svg_vm_set_pu, 1.0) * self.kv[c.bus],
            target_q=-s.svg_q_mvar,
        )

    def _storages(self) -> None:
        c, s = self.grid.storages, self.snapshot
        if not c.id.size:
            return
        self._note("storage", c.id.size, "energy content and efficiencies are not written")
        self.network.create_batteries(
            id=c.id.tolist(),
            **self._at(c.bus),
            min_p=-c.p_charge_mw_max,
            max_p=c.p_discharge_mw_max,
            target_p=s.storage_p_mw,
            target_q=s.storage_q_mvar,
        )

    def _hvdc(self) -> None:
        """Write every line with the loss at its receiving converter that it has now."""
        c, s = self.grid.hvdc, self.snapshot
        if not c.id.size:
            return
        sent = np.abs(s.hvdc_p_mw)
        lost = sent * c.loss_share + c.loss_mw
        factor = np.divide(100.0 * lost, sent, out=np.zeros_like(sent), where=sent > 0)
        self._note("hvdc", int((c.loss_mw != 0).sum()), "constant loss becomes a share of the present power")
        forward = s.hvdc_p_mw >= 0
        ends = (
            ("1", c.from_bus, s.hvdc_q_from_mvar, s.hvdc_vm_from_set_pu, forward),
            ("2", c.to_bus, s.hvdc_q_to_mvar, s.hvdc_vm_to_set_pu, ~forward),
        )
        for side, bus, q, vm, sends in ends:
            controls = np.isfinite(vm)
            self.network.create_vsc_converter_stations(
                id=np.char.add(c.id, f" {side}").tolist(),
                **self._at(bus),
                loss_factor=np.where(sends, 0.0, factor),
                voltage_regulator_on=controls.tolist(),
                target_v=np.where(controls, vm, 1.0) * self.kv[bus],
                target_q=q,
            )
        one, two = "SIDE_1_RECTIFIER_SIDE_2_INVERTER", "SIDE_1_INVERTER_SIDE_2_RECTIFIER"
        self.network.create_hvdc_lines(
            id=c.id.tolist(),
            name=c.name.tolist(),
            converter_station1_id=np.char.add(c.id, " 1").tolist(),
            converter_station2_id=np.char.add(c.id, " 2").tolist(),
            r=np.zeros(c.id.size),
            nominal_v=self.kv[c.from_bus],
            max_p=np.maximum(c.p_mw_max, sent),
            target_p=sent,
            converters_mode=np.where(forward, one, two).tolist(),
        )


def _source(technology: str) -> str:
    for word, source in _SOURCES.items():
        if word in technology:
            return source
    return "THERMAL" if any(word in technology for word in _THERMAL) else "OTHER"
