"""pandapower's transformers: short-circuit data to per unit, tap changers, stars of three windings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bos_core.grid.branch_models import tap_turn
from bos_core.grid.model import BoolArray, ComplexArray, FloatArray

if TYPE_CHECKING:
    from bos_core.exchange.pandapower_net import NetReader


class _Taps:
    """One tap changer of every row of an element table, as pandapower's power flow sees it."""

    def __init__(self, reader: NetReader, element: str, prefix: str) -> None:
        frame = reader.frame(element)
        n = len(frame)
        self.side = reader.column(element, f"{prefix}_side", "").astype(str)
        self.position = reader.column(element, f"{prefix}_pos", np.nan)
        self.neutral = reader.column(element, f"{prefix}_neutral", np.nan)
        self.low = reader.column(element, f"{prefix}_min", np.nan)
        self.high = reader.column(element, f"{prefix}_max", np.nan)
        self.step = np.nan_to_num(reader.column(element, f"{prefix}_step_percent", 0.0)) / 100.0
        self.step_deg = np.nan_to_num(reader.column(element, f"{prefix}_step_degree", 0.0))
        named = f"{prefix}_changer_type" in frame.columns
        kind = reader.column(element, f"{prefix}_changer_type", "").astype(str)
        if not named and f"{prefix}_phase_shifter" in frame.columns:
            kind = np.where(reader.column(element, f"{prefix}_phase_shifter", False), "Ideal", "Ratio")
        known = np.isin(kind, ["Ratio", "Symmetrical", "Ideal"])
        self.ideal = kind == "Ideal"
        complete = np.isfinite(self.position) & np.isfinite(self.neutral) & (self.side != "")
        effect = (self.step != 0) | (self.step_deg != 0)
        self.acts: BoolArray = complete & known & effect
        self.untyped: BoolArray = complete & ~known & effect if n else np.zeros(0, bool)

    def turn(self) -> ComplexArray:
        """Return the complex turn at the present position, 1 where the changer does not act."""
        steps = np.where(self.acts, np.nan_to_num(self.position) - np.nan_to_num(self.neutral), 0.0)
        by_percent = self.ideal & (self.step_deg == 0)
        angle = 2.0 * np.arcsin(np.clip(steps * self.step / 2.0, -1.0, 1.0))
        turn = tap_turn(steps, self.step, np.deg2rad(self.step_deg), self.ideal)
        return np.where(by_percent, np.exp(1j * angle), turn)


def add_transformers(reader: NetReader) -> None:
    """Add ``net.trafo``."""
    frame, tables = reader.frame("trafo"), reader.tables
    if not len(frame):
        return
    names = np.array(reader.names("trafo"))

    def value(name: str, default: float = np.nan) -> FloatArray:
        return reader.column("trafo", name, default)

    live = reader.column("trafo", "in_service", True)
    _refuse_tables(reader, "trafo", names, live)
    rated = value("sn_mva") * value("parallel", 1.0)
    pfe = value("pfe_kw", 0.0) * 1e-3 / value("sn_mva")
    short, resistive = value("vk_percent") / 100.0, value("vkr_percent") / 100.0
    taps, second = _Taps(reader, "trafo", "tap"), _Taps(reader, "trafo", "tap2")
    # What the ontology's changer cannot move is fixed at its present position in the rated voltages and the shift.
    whole = taps.position == np.round(np.nan_to_num(taps.position))
    movable = (taps.acts | taps.untyped) & whole & ~(taps.ideal & (taps.step_deg == 0))
    frozen = np.where(taps.acts & ~movable, taps.turn(), 1.0)
    kv = {"hv": value("vn_hv_kv"), "lv": value("vn_lv_kv")}
    shift = value("shift_degree", 0.0)
    for turn, side in ((frozen, taps.side), (second.turn(), second.side)):
        for end, sign in (("hv", 1.0), ("lv", -1.0)):
            at = side == end
            kv[end] = np.where(at, kv[end] * np.abs(turn), kv[end])
            shift = shift + np.where(at, sign * np.rad2deg(np.angle(turn)), 0.0)
    tables.note("trafo", int((taps.acts & ~movable).sum()), "tap changer fixed at its position (no whole steps)")
    tables.note("trafo", int(second.acts.sum()), "second tap changer fixed at its present position")
    tables.note("trafo", int(taps.untyped.sum()), "no tap changer type: taken as a ratio changer")
    moved = taps.untyped & (taps.position != taps.neutral)
    tables.note("trafo", int(moved.sum()), "no tap changer type and off neutral: at neutral, as in pandapower")
    ratio_high = [reader.column("trafo", f"leakage_{q}_ratio_hv", 0.5) for q in ("resistance", "reactance")]
    skew = live & ((ratio_high[0] != 0.5) | (ratio_high[1] != 0.5)) & (value("i0_percent", 0.0) != 0)
    remedy = "give leakage ratios of 0.5, or i0_percent 0"
    tables.finding("trafo", names[skew], "has an uneven leakage ratio", remedy)
    derating = value("df", 1.0)
    full = rated / (np.sqrt(3.0) * value("vn_hv_kv"))
    ids = tables.add(
        "transformer",
        frame.index,
        names,
        from_bus=reader.bus_id("trafo", "hv_bus"),
        to_bus=reader.bus_id("trafo", "lv_bus"),
        rated_mva=rated,
        rated_from_kv=kv["hv"],
        rated_to_kv=kv["lv"],
        r_pu=resistive,
        x_pu=np.sign(short) * np.sqrt(np.maximum(short**2 - resistive**2, 0.0)),
        g_pu=pfe,
        b_pu=-np.sqrt(np.maximum((value("i0_percent", 0.0) / 100.0) ** 2 - pfe**2, 0.0)),
        model="t",
        shift_deg=shift,
        tap_side=np.where(movable, np.where(taps.side == "lv", "to", "from"), "none"),
        **_steps(taps, movable),
        tap_phase_shifter=taps.ideal & movable,
        i_max_from_ka=np.where((derating != 1.0) | (kv["hv"] != value("vn_hv_kv")), full * derating, np.nan),
        loading_max=reader.column("trafo", "max_loading_percent", np.nan) / 100.0,
    )
    reader.remember("trafo", ids)
    position = np.where(taps.untyped, taps.neutral, taps.position)
    tables.state("branch", ids, in_service=live, tap=np.where(movable, position, np.nan))


def _steps(taps: _Taps, movable: BoolArray) -> dict[str, FloatArray]:
    low = np.where(np.isnan(taps.low), np.fmin(taps.position, taps.neutral), taps.low)
    high = np.where(np.isnan(taps.high), np.fmax(taps.position, taps.neutral), taps.high)
    values = {
        "tap_neutral": taps.neutral,
        "tap_min": np.fmin(low, high),
        "tap_max": np.fmax(low, high),
        "tap_step_percent": taps.step * 100.0,
        "tap_step_deg": taps.step_deg,
    }
    return {name: np.where(movable, v, np.nan) for name, v in values.items()}


def _refuse_tables(reader: NetReader, element: str, names: NDArray[Any], live: BoolArray) -> None:
    reader.tables.finding(
        element,
        names[reader.column(element, "tap_dependency_table", False) & live],
        "takes its impedance from a tap table",
        "give vk_percent at the present tap and set tap_dependency_table to False",
    )


def add_transformers3(reader: NetReader) -> None:
    """Add ``net.trafo3w`` as stars; magnetizing losses in the high winding, pandapower's default place."""
    frame, tables = reader.frame("trafo3w"), reader.tables
    if not len(frame):
        return
    names = np.array(reader.names("trafo3w"))
    live = reader.column("trafo3w", "in_service", True)
    _refuse_tables(reader, "trafo3w", names, live)

    def value(name: str, default: float = np.nan) -> FloatArray:
        return reader.column("trafo3w", name, default)

    base = tables.base_mva
    sides = {"high": "hv", "medium": "mv", "low": "lv"}
    z = _star(
        np.stack([value(f"vk_{s}_percent") for s in sides.values()]),
        np.stack([value(f"vkr_{s}_percent") for s in sides.values()]),
        np.stack([value(f"sn_{s}_mva") for s in sides.values()]),
        base,
    )
    place = reader.column("trafo3w", "loss_side", "hv").astype(str)
    place = np.where(np.isin(place, list(sides.values())), place, "hv")
    size = {s: value(f"sn_{s}_mva") for s in sides.values()}
    loss_mva = np.select([place == s for s in size], list(size.values()))
    loss_mw = value("pfe_kw", 0.0) * 1e-3
    current_mva = value("i0_percent", 0.0) / 100.0 * loss_mva
    taps = _Taps(reader, "trafo3w", "tap")
    whole = taps.position == np.round(np.nan_to_num(taps.position))
    movable = (taps.acts | taps.untyped) & whole & ~taps.ideal
    shift = _frozen_shift(taps, movable, value("shift_mv_degree", 0.0), value("shift_lv_degree", 0.0))
    stuck = taps.acts & ~movable & ~taps.ideal
    tables.finding("trafo3w", names[stuck & live], "has a fractional tap position", "give a whole tap_pos")
    tables.note("trafo3w", int((taps.ideal & taps.acts).sum()), "phase shifter fixed at its present position")
    tables.note("trafo3w", int(taps.untyped.sum()), "no tap changer type: taken as a ratio changer")
    back = {short: long for long, short in sides.items()}
    ids = tables.add(
        "transformer3",
        frame.index,
        names,
        **{f"{w}_bus": reader.bus_id("trafo3w", f"{s}_bus") for w, s in sides.items()},
        **{f"rated_{w}_mva": size[s] for w, s in sides.items()},
        **{f"rated_{w}_kv": value(f"vn_{s}_kv") for w, s in sides.items()},
        **{f"r_{w}_pu": z[k].real for k, w in enumerate(sides)},
        **{f"x_{w}_pu": z[k].imag for k, w in enumerate(sides)},
        g_pu=loss_mw / base,
        b_pu=-np.sqrt(np.maximum(current_mva**2 - loss_mw**2, 0.0)) / base,
        shift_medium_deg=shift[0],
        shift_low_deg=shift[1],
        tap_side=np.where(movable, [back.get(s, "none") for s in taps.side.tolist()], "none"),
        **_steps(taps, movable),
        tap_at_star_point=reader.column("trafo3w", "tap_at_star_point", False),
        magnetizing_at=np.array([back[s] for s in place.tolist()]),
    )
    reader.remember("trafo3w", ids)
    position = np.where(taps.untyped, taps.neutral, taps.position)
    tables.state("branch", ids, in_service=live, tap=np.where(movable, position, np.nan))


def _frozen_shift(
    taps: _Taps, movable: BoolArray, medium: FloatArray, low: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Fold ideal phase shifters into the shifts of the windings."""
    angle = np.where(taps.acts & ~movable & taps.ideal, np.rad2deg(np.angle(taps.turn())), 0.0)
    high = taps.side == "hv"
    medium = medium + np.where(high, angle, np.where(taps.side == "mv", -angle, 0.0))
    low = low + np.where(high, angle, np.where(taps.side == "lv", -angle, 0.0))
    return medium, low


def _star(vk_percent: FloatArray, vkr_percent: FloatArray, sn_mva: FloatArray, base_mva: float) -> ComplexArray:
    """Return star impedances (winding, transformer) per unit on `base_mva`, as pandapower derives them.

    Short-circuit voltages hold between high-medium, medium-low, high-low, each on the smaller of two ratings.
    """
    pairs = np.minimum(sn_mva[[0, 1, 0]], sn_mva[[1, 2, 2]])
    z_pair, r_pair = vk_percent / 100.0 / pairs, vkr_percent / 100.0 / pairs
    x_pair = np.sqrt(np.maximum(z_pair**2 - r_pair**2, 0.0))

    def to_star(v: FloatArray) -> FloatArray:
        return 0.5 * np.stack([v[0] + v[2] - v[1], v[1] + v[0] - v[2], v[2] + v[1] - v[0]])

    return np.asarray((to_star(r_pair) + 1j * to_star(x_pair)) * base_mva)
