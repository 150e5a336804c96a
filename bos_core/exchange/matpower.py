"""MATPOWER cases (format version 2), ``.m`` and ``.mat``; the file's text is parsed, never run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bos_core.exchange.pandapower_net import technology_of
from bos_core.exchange.tables import OwnCost, TableBuilder
from bos_core.grid.model import FloatArray, StrArray
from bos_core.objects.errors import Finding, FormatError

PQ, PV, REFERENCE, ISOLATED = 1, 2, 3, 4

WIDTH_MIN = {"bus": 13, "gen": 10, "branch": 11, "gencost": 5, "dcline": 17}
Q_UNLIMITED_MVAR = 9999.0

_FUELS = {"ng": "gas", "gas": "gas", "coal": "coal", "dfo": "oil", "rfo": "oil", "oil": "oil", "wnd": "wind"}
_FUELS |= {"wind": "wind", "nuc": "nuclear", "nuclear": "nuclear", "hyd": "hydro", "hydro": "hydro"}
_FUELS |= {"solar": "solar", "pv": "solar", "wdw": "biomass", "biomass": "biomass", "lig": "lignite"}


@dataclass(frozen=True)
class Case:
    """The matrices and lists of a case."""

    base_mva: float
    matrices: dict[str, FloatArray]
    names: dict[str, list[str]]

    def matrix(self, name: str) -> FloatArray:
        """Return a matrix, empty if the case has none."""
        return self.matrices.get(name, np.zeros((0, WIDTH_MIN.get(name, 1))))


def _refused(path: Path, problem: str, remedy: str, field: str = "") -> FormatError:
    return FormatError((Finding("file", (path.name,), problem, remedy, field),))


def read_case(path: Path) -> Case:
    """Read a case file.

    Raises
    ------
    FormatError
        Not a case of version 2, a matrix missing or too narrow, or data computed by statements.
    """
    case = _read_mat(path) if path.suffix.lower() == ".mat" else _read_m(path)
    for name in ("bus", "branch", "gen"):
        if name not in case.matrices:
            raise _refused(path, f"has no mpc.{name}", "give a MATPOWER case of format version 2")
    for name, width in WIDTH_MIN.items():
        found = case.matrices.get(name)
        if found is not None and found.size and found.shape[1] < width:
            problem = f"mpc.{name} has {found.shape[1]} columns instead of {width} or more"
            raise _refused(path, problem, "save it as format version 2 (savecase)")
    if not case.base_mva > 0:
        raise _refused(path, f"baseMVA is {case.base_mva:g}", "give the system base in MVA", "baseMVA")
    return case


def _read_m(path: Path) -> Case:
    try:
        text = path.read_text(encoding="utf-8", errors="strict")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")
    clean = "\n".join(_without_comment(line) for line in text.splitlines())
    if not re.search(r"\bmpc\s*\.", clean):
        raise _refused(path, "does not assign mpc", "give a MATPOWER case of format version 2")
    if "'1'" in "".join(re.findall(r"mpc\.version\s*=\s*([^;]*)", clean)):
        raise _refused(path, "is of format version 1", "save it as version 2 (savecase)")
    computed = re.search(r"mpc\.\w+\s*\(", clean)
    if computed:
        line = clean[: computed.start()].count("\n") + 1
        remedy = "run it in MATPOWER or Octave and save the result with savecase"
        raise _refused(path, f"computes data in statements (line {line})", remedy)
    matrices: dict[str, FloatArray] = {}
    for match in re.finditer(r"mpc\.(\w+)\s*=\s*\[(.*?)\]", clean, re.DOTALL):
        matrices[match[1]] = _parse_matrix(path, match[1], match[2])
    names = {
        match[1]: re.findall(r"'((?:[^']|'')*)'", match[2])
        for match in re.finditer(r"mpc\.(\w+)\s*=\s*\{(.*?)\}", clean, re.DOTALL)
    }
    base = re.search(r"mpc\.baseMVA\s*=\s*([^;\s]+)", clean)
    if base is None:
        raise _refused(path, "has no mpc.baseMVA", "give the system base in MVA", "baseMVA")
    for name in ("bus", "branch", "gen"):
        if re.search(rf"mpc\.{name}\s*=\s*\[[^\]]*$", clean):
            raise _refused(path, f"ends inside mpc.{name}", "copy the whole file again")
    return Case(_number(path, "baseMVA", base[1]), matrices, names)


def _without_comment(line: str) -> str:
    """Cut a comment off; a percent sign inside quotes stays."""
    quoted = False
    for position, sign in enumerate(line):
        if sign == "'":
            quoted = not quoted
        elif sign == "%" and not quoted:
            return line[:position]
    return line.replace("...", " ") if line.rstrip().endswith("...") else line


def _number(path: Path, where: str, word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise _refused(path, f"mpc.{where} holds '{word}', not a number", "correct it", where) from None


def _parse_matrix(path: Path, name: str, body: str) -> FloatArray:
    rows = [r.replace(",", " ").split() for r in re.split(r"[;\n]", body)]
    rows = [r for r in rows if r]
    if not rows:
        return np.zeros((0, WIDTH_MIN.get(name, 1)))
    width = max(len(r) for r in rows)
    uneven = next((k for k, r in enumerate(rows) if len(r) != width), None)
    if uneven is not None:
        problem = f"mpc.{name} row {uneven + 1} has {len(rows[uneven])} values, others {width}"
        raise _refused(path, problem, "complete the row", name)
    return np.array([[_number(path, name, w) for w in r] for r in rows])


def _read_mat(path: Path) -> Case:
    from scipy.io import loadmat

    try:
        content = loadmat(path, squeeze_me=True, struct_as_record=False)
    except Exception as error:
        problem = f"cannot be read as a .mat file ({type(error).__name__})"
        raise _refused(path, problem, "save the case with savecase, version 5 or 7") from error
    mpc = content.get("mpc")
    if mpc is None or not hasattr(mpc, "bus"):
        raise _refused(path, "holds no struct mpc", "save the case with savecase")
    matrices, names = {}, {}
    for field in getattr(mpc, "_fieldnames", []):
        value = np.asarray(getattr(mpc, field))
        if value.dtype.kind in "fiu" and field != "baseMVA":
            matrices[field] = np.atleast_2d(value.astype(float))
        elif value.dtype.kind in "OUS":
            names[field] = [str(v) for v in np.atleast_1d(value).tolist()]
    return Case(float(np.asarray(getattr(mpc, "baseMVA", 0)).ravel()[0]), matrices, names)


def read_matpower(path: Path) -> TableBuilder:
    """Read a case into tables; see `read_case` for errors."""
    return _CaseReader(read_case(path), path.stem).read()


class _CaseReader:
    """Columns as in MATPOWER's manual, appendix B."""

    def __init__(self, case: Case, name: str) -> None:
        self.case = case
        self.tables = TableBuilder(name, base_mva=case.base_mva)

    def read(self) -> TableBuilder:
        self._buses()
        self._loads_and_shunts()
        self._branches()
        self._generators()
        self._dc_lines()
        bus = self.case.matrix("bus")
        area = [f"area {a:g}" for a in bus[:, 6]]
        self.tables.organise(area)
        return self.tables

    def _names(self, field: str, default: str, keys: list[Any]) -> list[str]:
        given = self.case.names.get(field, [])
        plain = [f"{default} {k}" for k in keys]
        return [g.strip() or p for g, p in zip(given, plain, strict=True)] if len(given) == len(keys) else plain

    def _buses(self) -> None:
        bus = self.case.matrix("bus")
        self.numbers = [f"{n:g}" if n != int(n) else str(int(n)) for n in bus[:, 0]]
        self.names = self._names("bus_name", "bus", self.numbers)
        self.type = bus[:, 1]
        ids = self.tables.add(
            "bus",
            self.numbers,
            self.names,
            base_kv=bus[:, 9],
            vm_pu_min=np.where(bus[:, 12] > 0, bus[:, 12], np.nan),
            vm_pu_max=np.where(bus[:, 11] > 0, bus[:, 11], np.nan),
            slack=self.type == REFERENCE,
            longitude_deg=np.nan,
            latitude_deg=np.nan,
        )
        known: dict[str, str] = {}
        for number, identifier in zip(self.numbers, ids.tolist(), strict=True):
            known.setdefault(number, identifier)
        self.known = known
        reference = self.type == REFERENCE
        self.tables.state(
            "bus",
            ids,
            in_service=self.type != ISOLATED,
            vm_pu=np.nan,
            va_deg=np.where(reference, bus[:, 8], np.nan),
        )

    def _ids(self, numbers: FloatArray) -> StrArray:
        keys = [str(int(n)) if float(n).is_integer() else f"{n:g}" for n in numbers.tolist()]
        return np.array([self.known.get(k, f"bus {k}") for k in keys], dtype=np.str_)

    def _loads_and_shunts(self) -> None:
        bus = self.case.matrix("bus")
        ids = self._ids(bus[:, 0])
        rows = np.flatnonzero((bus[:, 2] != 0) | (bus[:, 3] != 0))
        loads = self.tables.add(
            "load",
            [self.numbers[k] for k in rows],
            [f"load {self.names[k]}" for k in rows],
            bus=ids[rows],
            share_z=0.0,
            share_i=0.0,
            sheddable=True,
        )
        self.tables.state("load", loads, in_service=True, p_mw=bus[rows, 2], q_mvar=bus[rows, 3])
        rows = np.flatnonzero((bus[:, 4] != 0) | (bus[:, 5] != 0))
        shunts = self.tables.add(
            "shunt",
            [self.numbers[k] for k in rows],
            [f"shunt {self.names[k]}" for k in rows],
            bus=ids[rows],
            g_step_mw=bus[rows, 4],
            b_step_mvar=bus[rows, 5],
            step_min=0,
            step_max=1,
            controllable=False,
        )
        self.tables.state("shunt", shunts, in_service=True, step=1)

    def _branches(self) -> None:
        branch, base = self.case.matrix("branch"), self.case.base_mva
        if not len(branch):
            return
        kv_of = dict(zip(self.numbers, self.case.matrix("bus")[:, 9].tolist(), strict=True))
        kv_from, kv_to = (
            np.array([kv_of.get(str(int(n)), np.nan) for n in branch[:, end].tolist()]) for end in (0, 1)
        )
        names = self._branch_names(branch)
        wound = (branch[:, 8] != 0) | (branch[:, 9] != 0) | (kv_from != kv_to)
        rated = np.where(branch[:, 5] > 0, branch[:, 5], np.nan)
        self.tables.note("branch", int(np.isnan(rated).sum()), "unrated (rateA is 0)")
        rows = np.flatnonzero(~wound)
        ohm = kv_from[rows] ** 2 / base
        with np.errstate(divide="ignore", invalid="ignore"):
            lines = self.tables.add(
                "line",
                rows + 1,
                names[rows],
                from_bus=self._ids(branch[rows, 0]),
                to_bus=self._ids(branch[rows, 1]),
                r_ohm=branch[rows, 2] * ohm,
                x_ohm=branch[rows, 3] * ohm,
                g_s=0.0,
                b_s=branch[rows, 4] / ohm,
                i_max_ka=rated[rows] / (np.sqrt(3.0) * kv_from[rows]),
                length_km=np.nan,
            )
        self.tables.state("branch", lines, in_service=branch[rows, 10] > 0, tap=np.nan)
        rows = np.flatnonzero(wound)
        size = np.where(np.isnan(rated[rows]), base, rated[rows])
        ratio = np.where(branch[rows, 8] == 0, 1.0, branch[rows, 8])
        transformers = self.tables.add(
            "transformer",
            rows + 1,
            names[rows],
            from_bus=self._ids(branch[rows, 0]),
            to_bus=self._ids(branch[rows, 1]),
            rated_mva=size,
            rated_from_kv=ratio * kv_from[rows],
            rated_to_kv=kv_to[rows],
            r_pu=branch[rows, 2] * size / base,
            x_pu=branch[rows, 3] * size / base,
            g_pu=0.0,
            b_pu=branch[rows, 4] * base / size,
            model="pi",
            shift_deg=branch[rows, 9],
            tap_side="none",
            tap_phase_shifter=False,
            i_max_from_ka=np.where(np.isnan(rated[rows]), np.inf, size / (np.sqrt(3.0) * kv_from[rows])),
        )
        self.tables.state("branch", transformers, in_service=branch[rows, 10] > 0, tap=np.nan)
        self.tables.note("transformer", rows.size, "MATPOWER gives no tap steps: fixed ratio")

    def _branch_names(self, branch: FloatArray) -> NDArray[Any]:
        given = self.case.names.get("branch_name", [])
        if len(given) == len(branch):
            return np.array(given)
        ends = branch[:, :2].astype(np.int64).tolist()
        return np.array([f"branch {k} ({f}-{t})" for k, (f, t) in enumerate(ends, 1)])

    def _generators(self) -> None:
        gen = self.case.matrix("gen")
        if not len(gen):
            return
        kind = dict(zip(self.numbers, self.type.tolist(), strict=True))
        controls = np.array([kind.get(str(int(n)), PQ) in (PV, REFERENCE) for n in gen[:, 0].tolist()])
        names = self._names("gen_name", "gen", list(range(1, len(gen) + 1)))
        fuels = self.case.names.get("genfuel", [""] * len(gen))
        fuels = fuels if len(fuels) == len(gen) else [""] * len(gen)
        top, bottom = gen[:, 8], gen[:, 9]
        idle = (top == 0) & (bottom == 0)
        technology = np.array(
            [
                "condenser" if off else technology_of(_FUELS.get(f.lower(), f), size, "other")
                for f, size, off in zip(fuels, top.tolist(), idle.tolist(), strict=True)
            ]
        )
        q_min, q_max = (np.clip(gen[:, c], -Q_UNLIMITED_MVAR, Q_UNLIMITED_MVAR) for c in (4, 3))
        live = gen[:, 7] > 0
        ids = self.tables.add_units(
            range(1, len(gen) + 1),
            names,
            technology=technology,
            p_mw_min=bottom,
            p_mw_max=top,
            given=self._ramps(gen),
            technical_minimum=False,
            bus=self._ids(gen[:, 0]),
            rated_mva=np.where(gen[:, 6] > 0, gen[:, 6], np.nan),
            q_mvar_min=q_min,
            q_mvar_max=q_max,
            voltage_control=controls,
        )
        self.tables.note("unit", int((technology == "other").sum()), "no fuel: technology other")
        self.tables.state(
            "unit",
            ids,
            in_service=live,
            on=live,
            p_mw=gen[:, 1],
            q_mvar=gen[:, 2],
            vm_set_pu=np.where(controls, gen[:, 5], np.nan),
        )
        self._costs(ids)

    def _ramps(self, gen: FloatArray) -> dict[str, NDArray[Any]]:
        """Return ramps per hour from RAMP_30 or RAMP_10; nothing where the case has none."""
        per_hour = np.zeros(len(gen))
        for column, factor in ((17, 6.0), (18, 2.0)):
            if gen.shape[1] > column:
                per_hour = np.where(gen[:, column] > 0, gen[:, column] * factor, per_hour)
        return {"ramp_up_mw_per_h": per_hour, "ramp_down_mw_per_h": per_hour} if (per_hour > 0).all() else {}

    def _costs(self, ids: StrArray) -> None:
        for device, row in zip(ids.tolist(), self.case.matrix("gencost")[: ids.size], strict=False):
            count, values = int(row[3]), row[4:]
            more: dict[str, Any] = {"shutdown_eur": float(row[2])}
            if row[1] > 0:
                more["starts"] = [(1, float(row[1]))]
            if row[0] == 2 and count > 0:
                self.tables.polynomial_cost(device, values[:count].tolist(), **more)
            elif row[0] == 1 and count > 1:
                p, cost = values[: 2 * count : 2], values[1 : 2 * count : 2]
                price = np.diff(cost) / np.diff(p)
                segments = list(zip(p[:-1].tolist(), p[1:].tolist(), price.tolist(), strict=True))
                self.tables.own_cost(device, OwnCost(float(cost[0] - price[0] * p[0]), segments, **more))

    def _dc_lines(self) -> None:
        line = self.case.matrix("dcline")
        if not len(line):
            return
        sent = line[:, 3]
        ids = self.tables.add(
            "hvdc",
            range(1, len(line) + 1),
            self._names("dcline_name", "dcline", list(range(1, len(line) + 1))),
            from_bus=self._ids(line[:, 0]),
            to_bus=self._ids(line[:, 1]),
            p_mw_min=line[:, 9],
            p_mw_max=line[:, 10],
            loss_percent=line[:, 16] * 100.0,
            loss_mw=line[:, 15],
            q_from_mvar_min=line[:, 11],
            q_from_mvar_max=line[:, 12],
            q_to_mvar_min=line[:, 13],
            q_to_mvar_max=line[:, 14],
        )
        free = (line[:, 11] != line[:, 12]), (line[:, 13] != line[:, 14])
        self.tables.state(
            "hvdc",
            ids,
            in_service=line[:, 2] > 0,
            p_mw=sent,
            q_from_mvar=line[:, 5],
            q_to_mvar=line[:, 6],
            vm_from_set_pu=np.where(free[0], line[:, 7], np.nan),
            vm_to_set_pu=np.where(free[1], line[:, 8], np.nan),
        )
