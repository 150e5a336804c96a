"""Every kind of branch of the ontology as one pi model with an ideal transformer at the from end, per unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bos_core.grid.columns import MISSING_INT, Columns, Tables, in_service_of, look_up, pick, places
from bos_core.grid.model import BoolArray, BranchKind, ComplexArray, FloatArray, IntArray, StrArray

WINDINGS = ("high", "medium", "low")


@dataclass(frozen=True, eq=False)
class Branches:
    """Branches with positions of the bus table (and of star buses behind it) at their ends."""

    id: StrArray
    name: StrArray
    kind: IntArray
    from_bus: IntArray
    to_bus: IntArray
    r_pu: FloatArray
    x_pu: FloatArray
    g_from_pu: FloatArray
    b_from_pu: FloatArray
    g_to_pu: FloatArray
    b_to_pu: FloatArray
    ratio: FloatArray
    shift_rad: FloatArray
    i_max_from_pu: FloatArray
    i_max_to_pu: FloatArray
    outage_candidate: BoolArray
    in_service: BoolArray
    open_from: BoolArray
    open_to: BoolArray
    tap: IntArray
    """`MISSING_INT`: no tap changer."""
    tap_min: IntArray
    tap_max: IntArray
    tap_neutral: IntArray
    tap_step: FloatArray
    tap_step_rad: FloatArray
    tap_at_from: BoolArray
    tap_phase_shifter: BoolArray

    def choose(self, rows: NDArray[np.generic]) -> Branches:
        """Return some of the branches."""
        return Branches(**{k: v[rows] for k, v in self.__dict__.items()})


def tap_turn(steps: FloatArray, step: FloatArray, step_rad: FloatArray, phase_shifter: BoolArray) -> ComplexArray:
    """Return the complex turn of a winding `steps` above neutral.

    Ratio changers add a voltage of `step` per unit at the angle `step_rad` a step (0: longitudinal, pi/2:
    quadrature); an ideal phase shifter turns by `step_rad` a step.
    """
    added = 1.0 + steps * step * np.exp(1j * step_rad)
    return np.asarray(np.where(phase_shifter, np.exp(1j * steps * step_rad), added), dtype=np.complex128)


def t_to_pi(z: ComplexArray, y: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
    """Convert a T model (z/2 on either side of the shunt y) to (series z, shunt y at each end) of a pi model."""
    delta = z + 0.25 * z * z * y
    with np.errstate(divide="ignore", invalid="ignore"):
        end = np.where(delta == 0, 0.5 * y, 0.5 * z * y / np.where(delta == 0, 1.0, delta))
    return delta, end


def branches_of(**columns: NDArray[np.generic] | float | bool) -> Branches:
    """Fill absent columns with what an ordinary line has."""
    n = np.shape(columns["id"])[0]
    defaults: dict[str, float | bool | int] = {
        "g_from_pu": 0.0,
        "b_from_pu": 0.0,
        "g_to_pu": 0.0,
        "b_to_pu": 0.0,
        "ratio": 1.0,
        "shift_rad": 0.0,
        "i_max_from_pu": np.inf,
        "i_max_to_pu": np.inf,
        "outage_candidate": True,
        "open_from": False,
        "open_to": False,
        "tap": MISSING_INT,
        "tap_min": 0,
        "tap_max": 0,
        "tap_neutral": 0,
        "tap_step": 0.0,
        "tap_step_rad": 0.0,
        "tap_at_from": True,
        "tap_phase_shifter": False,
    }
    filled = {**defaults, **columns}
    return Branches(**{k: np.array(np.broadcast_to(np.asarray(v), (n,))) for k, v in filled.items()})


def _unrated(limit: FloatArray) -> FloatArray:
    return np.asarray(np.where(np.isfinite(limit) & (limit > 0), limit, np.inf))


def joined(parts: list[Branches]) -> Branches:
    """Return branches one behind the other."""
    return Branches(**{k: np.concatenate([getattr(p, k) for p in parts]) for k in Branches.__annotations__})


class BranchReader:
    """Turns the tables into `_Buses` and `Branches`."""

    def __init__(self, columns: Columns) -> None:
        self.tables = Tables(columns)
        t = self.tables
        self.base_mva = float(t.real("system", "base_mva")[0]) if t.size("system") else 100.0
        self.bus_id = t.text("bus", "id")
        self.base_kv = t.real("bus", "base_kv")
        self.bus_live = in_service_of(t, "bus_state", self.bus_id)
        self.place = places(self.bus_id)
        names = dict(zip(t.text("entity", "id").tolist(), t.text("entity", "name").tolist(), strict=True))
        self.names = names
        star = t.text("transformer3", "id")
        self.star_id = np.char.add(star, ":star") if star.size else star

    def buses(self, ids: StrArray) -> IntArray:
        """Return the row of each bus, -1 where unknown."""
        return look_up(self.place, ids)

    def named(self, ids: StrArray, suffix: str = "") -> StrArray:
        """Return the names of entities, the id where it has none."""
        return np.array([self.names.get(i, i) + suffix for i in ids.tolist()], dtype=np.str_)

    def kv(self, bus: IntArray) -> FloatArray:
        """Return the nominal voltage of bus rows, NaN for -1."""
        return np.asarray(np.where(bus >= 0, self.base_kv[bus], np.nan))

    def state(self, ids: StrArray) -> tuple[BoolArray, IntArray]:
        """Return (in service, tap) of branches."""
        rows = self.tables.aligned("branch_state", ids)
        service = np.asarray(pick(self.tables.flag("branch_state", "in_service"), rows, True), dtype=np.bool_)
        tap = np.asarray(pick(self.tables.whole("branch_state", "tap"), rows, MISSING_INT), dtype=np.int64)
        return service, tap

    def ends(self, table: str) -> tuple[StrArray, IntArray, IntArray]:
        """Return (ids, from bus rows, to bus rows) of a branch table."""
        t = self.tables
        return t.text(table, "id"), self.buses(t.text(table, "from_bus")), self.buses(t.text(table, "to_bus"))

    def lines(self) -> Branches:
        """Return the lines."""
        t, (ids, f, to) = self.tables, self.ends("line")
        base_ohm = self.kv(f) ** 2 / self.base_mva
        base_ka = self.base_mva / (np.sqrt(3.0) * self.kv(f))
        half_g, half_b = (0.5 * t.real("line", c) * base_ohm for c in ("g_s", "b_s"))
        limit = _unrated(t.real("line", "i_max_ka"))
        return branches_of(
            id=ids,
            name=self.named(ids),
            kind=BranchKind.LINE,
            from_bus=f,
            to_bus=to,
            r_pu=t.real("line", "r_ohm") / base_ohm,
            x_pu=t.real("line", "x_ohm") / base_ohm,
            g_from_pu=half_g,
            b_from_pu=half_b,
            g_to_pu=half_g,
            b_to_pu=half_b,
            i_max_from_pu=limit / base_ka,
            i_max_to_pu=limit / base_ka,
            in_service=self.state(ids)[0],
        )

    def transformers(self) -> Branches:
        """Return the two-winding transformers at their present taps."""
        t, (ids, f, to) = self.tables, self.ends("transformer")
        service, tap = self.state(ids)
        side = t.text("transformer", "tap_side")
        neutral = t.whole("transformer", "tap_neutral")
        has_tap = (side != "none") & (side != "") & (neutral != MISSING_INT)
        tap = np.where(has_tap & (tap != MISSING_INT), tap, np.where(has_tap, neutral, MISSING_INT))
        step = np.nan_to_num(t.real("transformer", "tap_step_percent")) / 100.0
        step_rad = np.deg2rad(np.nan_to_num(t.real("transformer", "tap_step_deg")))
        shifter = t.flag("transformer", "tap_phase_shifter")
        turn = tap_turn(np.where(has_tap, tap - neutral, 0).astype(float), step, step_rad, shifter)
        at_from = side != "to"
        kv_from, kv_to = t.real("transformer", "rated_from_kv"), t.real("transformer", "rated_to_kv")
        scale = np.where(at_from | ~has_tap, 1.0, np.abs(turn))
        rated = t.real("transformer", "rated_mva")
        unit = (kv_to * scale / self.kv(to)) ** 2 * self.base_mva / rated
        z = (t.real("transformer", "r_pu") + 1j * t.real("transformer", "x_pu")) * unit
        y = (t.real("transformer", "g_pu") + 1j * t.real("transformer", "b_pu")) / unit
        series, y_from, y_to = _magnetized(z, y, t.text("transformer", "model"))
        whole_turn = (kv_from / self.kv(f)) / (kv_to / self.kv(to)) * np.where(at_from, turn, 1.0 / turn)
        nominal = rated / self.base_mva
        given = t.real("transformer", "i_max_from_ka") * np.sqrt(3.0) * self.kv(f) / self.base_mva
        by_rating = nominal * self.kv(f) / kv_from
        limit = np.where(np.isnan(given), by_rating, given)
        return branches_of(
            id=ids,
            name=self.named(ids),
            kind=BranchKind.TRANSFORMER,
            from_bus=f,
            to_bus=to,
            r_pu=series.real,
            x_pu=series.imag,
            g_from_pu=y_from.real,
            b_from_pu=y_from.imag,
            g_to_pu=y_to.real,
            b_to_pu=y_to.imag,
            ratio=np.abs(whole_turn),
            shift_rad=np.angle(turn) * np.where(at_from, 1.0, -1.0)
            + np.deg2rad(np.nan_to_num(t.real("transformer", "shift_deg"))),
            i_max_from_pu=_unrated(limit),
            i_max_to_pu=_unrated(limit / by_rating * nominal * self.kv(to) / kv_to),
            in_service=service,
            tap=np.where(has_tap, tap, MISSING_INT),
            tap_min=t.whole("transformer", "tap_min"),
            tap_max=t.whole("transformer", "tap_max"),
            tap_neutral=neutral,
            tap_step=step,
            tap_step_rad=step_rad,
            tap_at_from=at_from,
            tap_phase_shifter=shifter,
        )

    def _live(self, bus: IntArray) -> BoolArray:
        return np.asarray((bus >= 0) & self.bus_live[bus])

    def windings(self) -> list[Branches]:
        """Three branches for each three-winding transformer: high bus to star, star to medium and to low bus."""
        if not self.tables.size("transformer3"):
            return []
        return [self._winding(w) for w in WINDINGS]

    def _winding(self, winding: str) -> Branches:
        t = self.tables
        ids = t.text("transformer3", "id")
        service, tap = self.state(ids)
        star = np.arange(ids.size) + self.bus_id.size
        high = self.buses(t.text("transformer3", "high_bus"))
        outer = self.buses(t.text("transformer3", f"{winding}_bus"))
        neutral = t.whole("transformer3", "tap_neutral")
        mine = (t.text("transformer3", "tap_side") == winding) & (neutral != MISSING_INT)
        tap = np.where(mine & (tap != MISSING_INT), tap, np.where(mine, neutral, MISSING_INT))
        step = np.nan_to_num(t.real("transformer3", "tap_step_percent")) / 100.0
        step_rad = np.deg2rad(np.nan_to_num(t.real("transformer3", "tap_step_deg")))
        off = np.zeros(ids.size, bool)
        turn = tap_turn(np.where(mine, tap - neutral, 0).astype(float), step, step_rad, off)
        at_star = t.flag("transformer3", "tap_at_star_point")
        rated_kv = t.real("transformer3", f"rated_{winding}_kv")
        high_kv = t.real("transformer3", "rated_high_kv")
        is_high = winding == "high"
        to_kv = high_kv / self.kv(high) if is_high else rated_kv / self.kv(outer)
        # The impedance sits on the to side: taps of that side scale it. At the star point sides swap.
        scaled = (mine & at_star) if is_high else (mine & ~at_star)
        scale = np.where(scaled, np.abs(turn) ** (-1.0 if is_high else 1.0), 1.0)
        unit = (to_kv * scale) ** 2
        z = (t.real("transformer3", f"r_{winding}_pu") + 1j * t.real("transformer3", f"x_{winding}_pu")) * unit
        place = t.text("transformer3", "magnetizing_at")
        y = np.where(place == winding, t.real("transformer3", "g_pu") + 1j * t.real("transformer3", "b_pu"), 0.0)
        series, y_from, y_to = _magnetized(z, y / unit, np.full(ids.size, "t"))
        rated = t.real("transformer3", f"rated_{winding}_mva") / self.base_mva
        ratio = np.abs(turn) if is_high else (high_kv / self.kv(high)) / to_kv / np.abs(turn)
        shift = np.zeros(ids.size) if is_high else np.deg2rad(t.real("transformer3", f"shift_{winding}_deg"))
        limit = _unrated(rated * self.kv(outer) / rated_kv)
        changes = mine & ~at_star
        return branches_of(
            id=np.char.add(ids, f":{winding}"),
            name=self.named(ids, f" ({winding})"),
            kind=BranchKind.TRANSFORMER,
            from_bus=outer if is_high else star,
            to_bus=star if is_high else outer,
            r_pu=series.real,
            x_pu=series.imag,
            g_from_pu=y_from.real,
            b_from_pu=y_from.imag,
            g_to_pu=y_to.real,
            b_to_pu=y_to.imag,
            ratio=ratio,
            shift_rad=shift + np.angle(turn) * (1.0 if is_high else -1.0),
            i_max_from_pu=limit if is_high else np.inf,
            i_max_to_pu=np.inf if is_high else limit,
            in_service=service,
            tap=np.where(changes, tap, MISSING_INT),
            tap_min=t.whole("transformer3", "tap_min"),
            tap_max=t.whole("transformer3", "tap_max"),
            tap_neutral=neutral,
            tap_step=step,
            tap_step_rad=step_rad,
            tap_at_from=is_high,
        )

    def star_shunts(self) -> tuple[IntArray, ComplexArray]:
        """Return (star bus, admittance) of three-winding transformers magnetized at the star point."""
        t = self.tables
        n = t.size("transformer3")
        place = t.text("transformer3", "magnetizing_at")
        at_star = ~np.isin(place, WINDINGS)
        high = self.buses(t.text("transformer3", "high_bus"))
        y = t.real("transformer3", "g_pu") + 1j * t.real("transformer3", "b_pu")
        y = y * (self.kv(high) / t.real("transformer3", "rated_high_kv")) ** 2
        return np.flatnonzero(at_star) + self.bus_id.size, y[at_star] if n else np.zeros(0, complex)

    def equivalents(self) -> Branches:
        """Return the branches given per unit."""
        t, (ids, f, to) = self.tables, self.ends("equivalent_branch")
        rated = _unrated(t.real("equivalent_branch", "rating_mva") / self.base_mva)
        return branches_of(
            id=ids,
            name=self.named(ids),
            kind=BranchKind.EQUIVALENT,
            from_bus=f,
            to_bus=to,
            **{
                c: t.real("equivalent_branch", c)
                for c in ("r_pu", "x_pu", "g_from_pu", "b_from_pu", "g_to_pu", "b_to_pu", "ratio")
            },
            shift_rad=np.deg2rad(np.nan_to_num(t.real("equivalent_branch", "shift_deg"))),
            i_max_from_pu=rated,
            i_max_to_pu=rated,
            outage_candidate=~t.flag("equivalent_branch", "fictitious"),
            in_service=self.state(ids)[0],
        )

    def switches(self) -> tuple[Branches, IntArray, IntArray, StrArray, IntArray]:
        """Return (switches with resistance, bus pairs to merge (2), open branch ids, bus of each)."""
        t = self.tables
        ids = t.text("switch", "id")
        rows = t.aligned("switch_state", ids)
        closed = np.asarray(pick(t.flag("switch_state", "closed"), rows, True), dtype=np.bool_)
        bus, element = self.buses(t.text("switch", "bus")), t.text("switch", "element")
        other = self.buses(element)
        r_ohm = np.nan_to_num(t.real("switch", "r_ohm"))
        couples = (other >= 0) & closed & self._live(bus) & self._live(other) if ids.size else closed
        ideal, resistive = couples & (r_ohm <= 0), couples & (r_ohm > 0)
        base_ohm = self.kv(bus[resistive]) ** 2 / self.base_mva
        branches = branches_of(
            id=ids[resistive],
            name=self.named(ids[resistive]),
            kind=BranchKind.EQUIVALENT,
            from_bus=bus[resistive],
            to_bus=other[resistive],
            r_pu=r_ohm[resistive] / base_ohm,
            x_pu=0.5 * r_ohm[resistive] / base_ohm,
            outage_candidate=False,
            in_service=True,
        )
        opened = (other < 0) & ~closed
        return branches, bus[ideal], other[ideal], element[opened], bus[opened]


def _magnetized(
    z: NDArray[Any], y: NDArray[Any], model: StrArray
) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
    """Return (series, from shunt, to shunt) of pi models: T converted, pi halved, gamma all at the from side."""
    z_pi, end = t_to_pi(z, y)
    is_t, gamma = model == "t", model == "gamma"
    y_from = np.where(is_t, end, np.where(gamma, y, 0.5 * y))
    return np.where(is_t, z_pi, z), y_from, np.where(is_t, end, np.where(gamma, 0.0, 0.5 * y))
