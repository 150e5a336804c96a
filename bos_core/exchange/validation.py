"""Everything that can be wrong with ontology tables or a grid, found at once.

A finding names the element as the user knows it and says what to do next. `validate_tables` looks at tables and
series, `validate_grid` at assembled arrays (also those that a reduction or an adjustment made).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from bos_core.exchange.model import Series, to_columns
from bos_core.exchange.rules import RULES
from bos_core.grid.columns import MISSING_INT, look_up, places
from bos_core.grid.model import Grid, Snapshot
from bos_core.grid.topology import find_islands
from bos_core.objects.errors import Finding
from bos_core.objects.ontology import HOURS_PER_YEAR, TABLES, Tables, check_table

STATES = {
    "bus": "bus_state",
    **dict.fromkeys(("line", "transformer", "transformer3", "equivalent_branch"), "branch_state"),
    **{kind: f"{kind}_state" for kind in ("unit", "load", "shunt", "svg", "switch", "storage", "hvdc")},
}
"""The state table of every kind of device."""

NEIGHBOUR_KV_RATIO_MAX = 1.3
"""Nominal voltages that a line or a closed switch may join."""


class TableCheck:
    """Columns of all tables with the names of their elements, and the findings so far."""

    def __init__(self, tables: Mapping[str, pa.Table], ontology: Tables = TABLES) -> None:
        self.tables, self.ontology = tables, ontology
        self.columns = to_columns(tables, ontology)
        self.findings: list[Finding] = []
        entity = self.columns.get("entity", {})
        self.names = dict(zip(entity.get("id", _NONE).tolist(), entity.get("name", _NONE).tolist(), strict=True))
        for table in ("region", "station", "interface", "contingency"):
            rows = self.columns.get(table, {})
            pairs = zip(rows.get("id", _NONE).tolist(), rows.get("name", _NONE).tolist(), strict=True)
            self.names.update(dict(pairs))

    def size(self, table: str) -> int:
        """Return the number of rows of a table."""
        return self.tables[table].num_rows if table in self.tables else 0

    def name(self, identifier: str) -> str:
        """Return the name of an element, its id where it has none."""
        return self.names.get(identifier) or identifier

    def row_names(self, table: str, rows: Iterable[int]) -> tuple[str, ...]:
        """Return what to call rows of a table: the names of the elements in its key."""
        keys = self.ontology[table].key
        columns = [self.columns[table][k].tolist() for k in keys]
        return tuple(" / ".join(self.name(str(c[r])) for c in columns) for r in rows)

    def report(
        self, table: str, bad: NDArray[np.bool_], problem: str, remedy: str, field: str = "", show: str = ""
    ) -> None:
        """Report the rows of a table that are `bad`; `show` names a column whose first values are quoted."""
        rows = np.flatnonzero(bad)
        if rows.size:
            if show:
                shown = ", ".join(_number(v) for v in self.columns[table][show][rows[:5]].tolist())
                problem = problem.replace("{value}", shown)
            self.findings.append(Finding(table, self.row_names(table, rows.tolist()), problem, remedy, field))


_NONE = np.zeros(0, dtype=np.str_)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "nothing" if value == MISSING_INT else str(value)


def validate_tables(
    tables: Mapping[str, pa.Table],
    series: Mapping[str, Series] | None = None,
    *,
    need_state: bool = True,
    ontology: Tables = TABLES,
) -> list[Finding]:
    """Return everything that is wrong with ontology tables and series.

    Parameters
    ----------
    tables : mapping of table name to Arrow table
    series : mapping of series name to `Series`, optional
    need_state : bool
        Whether every device must have a state row; off for a static model.
    ontology : mapping of table name to TableSchema
    """
    structural = [f for name, table in tables.items() for f in _schema(name, table, ontology)]
    if structural:
        return structural
    check = TableCheck(tables, ontology)
    for name in tables:
        _nulls(check, name)
        _duplicates(check, name)
        _references(check, name)
        _finite(check, name)
    for rule in RULES:
        if check.size(rule.table):
            check.report(
                rule.table, rule.bad(check.columns[rule.table]), rule.problem, rule.remedy, rule.field, rule.field
            )
    sound = not check.findings
    for extra in (_taps, _levels, _set_points, _costs, _profiles(series or {})):
        extra(check)
    if need_state:
        _states(check)
    if sound or not any(f.component in ("bus", "switch") for f in check.findings):
        check.findings += island_findings(check.columns, check.name)
    return check.findings


def _schema(name: str, table: pa.Table, ontology: Tables) -> list[Finding]:
    """Schema findings but for nulls and repeated keys, which are reported with names of elements."""
    if name not in ontology:
        return check_table(name, table)
    return [f for f in check_table(name, table.slice(0, 0), ontology) if "nulls" not in f.problem]


def _nulls(check: TableCheck, name: str) -> None:
    for column in check.ontology[name].columns:
        values = check.tables[name].column(column.name)
        lost = pc.is_null(values, nan_is_null=pa.types.is_floating(column.type))
        if not column.nullable and pc.any(lost).as_py():
            bad = np.asarray(lost.to_numpy(zero_copy_only=False), dtype=bool)
            missing = "is missing or NaN" if pa.types.is_floating(column.type) else "is missing"
            check.report(name, bad, f"{column.name} {missing}", f"give {column.name} ({column.doc})", column.name)


def _duplicates(check: TableCheck, name: str) -> None:
    table, key = check.tables[name], list(check.ontology[name].key)
    if table.num_rows == table.group_by(key).aggregate([]).num_rows:
        return
    keys = [check.columns[name][k].tolist() for k in key]
    seen: dict[tuple[Any, ...], int] = {}
    bad = np.zeros(check.size(name), bool)
    for row, values in enumerate(zip(*keys, strict=True)):
        bad[row] = seen.setdefault(values, row) != row
    check.report(name, bad, "is defined more than once", "keep one row each")


def _references(check: TableCheck, name: str) -> None:
    for column in check.ontology[name].columns:
        if not column.references or column.name not in check.columns[name]:
            continue
        targets = [check.tables[t]["id"] for t in column.references.split("|") if t in check.tables]
        known = pa.chunked_array([chunk for t in targets for chunk in t.chunks], type=pa.string())
        values = check.tables[name][column.name]
        lost = pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, known)))
        bad = np.asarray(lost.to_numpy(zero_copy_only=False), dtype=bool)
        what = column.references.replace("|", " or ")
        check.report(
            name,
            bad,
            f"{column.name} refers to {{value}}, which does not exist",
            f"name an existing {what}",
            column.name,
            column.name,
        )


def _finite(check: TableCheck, name: str) -> None:
    for column in check.ontology[name].columns:
        if pa.types.is_floating(column.type) and not {"max", "min"} & set(column.name.split("_")):
            values = check.columns[name][column.name]
            check.report(name, np.isinf(values), f"{column.name} is infinite", "give a finite number", column.name)


def _taps(check: TableCheck) -> None:
    state = check.columns["branch_state"]
    place = places(state["id"])
    for table in ("transformer", "transformer3"):
        c = check.columns[table]
        row = look_up(place, c["id"])
        tap = np.where(row >= 0, state["tap"][row], MISSING_INT) if state["id"].size else row
        has = (tap != MISSING_INT) & (row >= 0) & (c["tap_min"] != MISSING_INT) & (c["tap_max"] != MISSING_INT)
        outside = has & ((tap < c["tap_min"]) | (tap > c["tap_max"]))
        for k in np.flatnonzero(outside):
            limits = f"{c['tap_min'][k]} to {c['tap_max'][k]}"
            check.findings.append(
                Finding(
                    table,
                    check.row_names(table, [int(k)]),
                    f"stands on tap {tap[k]}, outside {limits}",
                    "correct the tap position or its limits",
                    "tap",
                )
            )
    c, state = check.columns["shunt"], check.columns["shunt_state"]
    row = look_up(places(state["id"]), c["id"])
    step = np.where(row >= 0, state["step"][row], c["step_min"]) if state["id"].size else c["step_min"]
    check.report(
        "shunt",
        (step < c["step_min"]) | (step > c["step_max"]),
        "has more or fewer steps in use than it has",
        "correct the step or its limits",
        "step",
    )


def _levels(check: TableCheck) -> None:
    """Lines and closed switches join equal voltages; transformers fit their buses."""
    bus = check.columns["bus"]
    place, kv = places(bus["id"]), bus["base_kv"]

    def level(values: NDArray[Any]) -> NDArray[Any]:
        row = look_up(place, values)
        return np.where(row >= 0, kv[row], np.nan) if kv.size else np.full(values.size, np.nan)

    def apart(a: NDArray[Any], b: NDArray[Any], factor: float) -> NDArray[np.bool_]:
        with np.errstate(all="ignore"):
            return np.asarray(np.maximum(a / b, b / a) > factor)

    for table, left, right in (("line", "from_bus", "to_bus"), ("switch", "bus", "element")):
        c = check.columns[table]
        check.report(
            table,
            apart(level(c[left]), level(c[right]), NEIGHBOUR_KV_RATIO_MAX),
            "joins buses of different nominal voltage",
            "correct base_kv or use a transformer",
        )
    for table, ends in (
        ("transformer", (("from_bus", "rated_from_kv"), ("to_bus", "rated_to_kv"))),
        ("transformer3", tuple((f"{w}_bus", f"rated_{w}_kv") for w in ("high", "medium", "low"))),
    ):
        c = check.columns[table]
        for end, rated in ends:
            check.report(
                table,
                apart(level(c[end]), c[rated], 2.0),
                f"{rated} is {{value}}, far from its bus",
                "swap its ends or correct the rated voltage",
                rated,
                rated,
            )


def _set_points(check: TableCheck) -> None:
    """Devices that control one bus agree on its voltage."""
    unit, state = check.columns["unit"], check.columns["unit_state"]
    row = look_up(places(state["id"]), unit["id"])
    if not state["id"].size:
        return
    vm = np.where((row >= 0) & unit["voltage_control"] & state["in_service"][row], state["vm_set_pu"][row], np.nan)
    missing = unit["voltage_control"] & (row >= 0) & state["in_service"][row] & np.isnan(vm)
    check.report("unit", missing, "controls its voltage without a set point", "give vm_set_pu", "vm_set_pu")
    odd = np.isfinite(vm) & ((vm < 0.5) | (vm > 1.5))
    check.report("unit", odd, "vm_set_pu is not between 0.5 and 1.5", "give it per unit of base_kv", "vm_set_pu")
    known = np.flatnonzero(np.isfinite(vm))
    first: dict[str, float] = {}
    bad = np.zeros(vm.size, bool)
    for k in known.tolist():
        bad[k] = abs(first.setdefault(str(unit["bus"][k]), float(vm[k])) - vm[k]) > 1e-6
    check.report(
        "unit", bad, "another unit holds its bus at another voltage", "give equal set points", "vm_set_pu"
    )


def _costs(check: TableCheck) -> None:
    """Segments of a unit follow each other and do not get cheaper."""
    c = check.columns["cost_segment"]
    if not check.size("cost_segment"):
        return
    order = np.lexsort((c["segment"], c["device"]))
    same = c["device"][order][1:] == c["device"][order][:-1]
    gap = np.abs(c["p_mw_from"][order][1:] - c["p_mw_to"][order][:-1]) > 1e-6
    falls = c["marginal_eur_per_mwh"][order][1:] < c["marginal_eur_per_mwh"][order][:-1] - 1e-9
    for broken, problem, remedy in (
        (gap, "does not start where the segment before it ends", "let segments follow each other"),
        (falls, "is cheaper than the segment before it", "give a convex cost"),
    ):
        bad = np.zeros(order.size, bool)
        bad[order[1:][same & broken]] = True
        check.report("cost_segment", bad, problem, remedy)
    unit = check.columns["unit"]
    without = unit["committable"] & ~np.isin(unit["id"], c["device"])
    check.report("unit", without, "has no cost", "give rows of cost_segment")


def _profiles(series: Mapping[str, Series]) -> Callable[[TableCheck], None]:
    def run(check: TableCheck) -> None:
        values = series.get("profile.value")
        known = set(values.elements) if values else set()
        c = check.columns["profile_assignment"]
        missing = np.array([p not in known for p in c["profile"].tolist()], dtype=bool)
        for profile in dict.fromkeys(c["profile"][missing].tolist()):
            rows = np.flatnonzero(c["profile"] == profile)
            check.findings.append(
                Finding(
                    "profile",
                    (profile,),
                    f"has no values but drives {rows.size} devices ({check.name(str(c['device'][rows[0]]))}, ...)",
                    "add the column to profile.value or drop the assignment",
                )
            )
        for name, one in series.items():
            hours = one.values.shape[0]
            if hours != HOURS_PER_YEAR:
                check.findings.append(
                    Finding("series", (name,), f"has {hours} hours", f"give {HOURS_PER_YEAR} hourly means")
                )
            elif one.values.dtype.kind == "f":
                gaps = np.array(one.elements)[np.isnan(one.values.astype(float)).any(axis=0)]
                if gaps.size and name == "profile.value":
                    check.findings.append(Finding("profile", tuple(gaps), "has gaps (NaN)", "fill every hour"))

    return run


def _states(check: TableCheck) -> None:
    for kind, table in STATES.items():
        ids = check.columns[kind]["id"]
        bad = ~np.isin(ids, check.columns[table]["id"]) if ids.size else np.zeros(0, bool)
        check.report(kind, bad, f"has no row in {table}", f"add its state to {table}")


def island_findings(
    columns: Mapping[str, Mapping[str, NDArray[Any]]], name: Callable[[str], str] = str
) -> list[Finding]:
    """Return what is wrong with the connection of the grid: no slack, islands with devices."""
    bus = columns["bus"]["id"]
    if not bus.size:
        return [Finding("grid", (), "has no bus", "check that the file holds a network")]
    islands = find_islands(columns)
    if not islands.slack.size:
        problem = "no bus is marked as slack and has a voltage-controlling unit in service"
        return [Finding("bus", (), problem, "mark the bus of the largest unit as slack", "slack")]
    findings = []
    home = islands.bus[islands.slack[0]]
    busy = np.isin(bus, list(busy_buses(columns)))
    for label in np.unique(islands.bus[busy & (islands.bus >= 0) & (islands.bus != home)]):
        members = np.flatnonzero(islands.bus == label)
        own = "has a slack of its own" if np.isin(islands.slack, members).any() else "has no slack"
        findings.append(
            Finding(
                "island",
                tuple(name(str(b)) for b in bus[members].tolist()),
                f"of {members.size} buses with load, units or other devices is not connected and {own}",
                "connect it, take its devices out of service, or import with drop_islands=True",
            )
        )
    return findings


def busy_buses(columns: Mapping[str, Mapping[str, NDArray[Any]]]) -> set[str]:
    """Return buses with a device in service."""
    found: set[str] = set()
    for kind, ends in (
        *((k, ("bus",)) for k in ("unit", "load", "shunt", "svg", "storage")),
        ("hvdc", ("from_bus", "to_bus")),
    ):
        ids, state = columns[kind]["id"], columns[STATES[kind]]
        row = look_up(places(state["id"]), ids)
        live = np.where(row >= 0, state["in_service"][row], True) if state["id"].size else np.ones(ids.size, bool)
        for column in ends:
            found |= set(columns[kind][column][live.astype(bool)].tolist())
    return found


def validate_grid(grid: Grid, snapshot: Snapshot) -> list[Finding]:
    """Return everything that is wrong with an assembled grid and its snapshot."""
    n, findings = grid.network, []

    def report(component: str, names: NDArray[Any], bad: NDArray[np.bool_], problem: str, remedy: str) -> None:
        if bad.any():
            findings.append(Finding(component, tuple(map(str, names[bad])), problem, remedy))

    report("branch", n.branch_name, n.x_pu == 0, "x_pu is 0", "merge its buses or give x_pu > 0")
    report("branch", n.branch_name, ~np.isfinite(n.r_pu + n.x_pu), "impedance is NaN or infinite", "give r and x")
    report("branch", n.branch_name, ~(n.ratio > 0), "ratio is not positive", "correct its rated voltages")
    limits = np.minimum(n.i_max_from_pu, n.i_max_to_pu)
    report("branch", n.branch_name, ~(limits > 0), "rating is not positive", "give a rating, or none if unrated")
    report("bus", n.bus_name, ~(n.base_kv > 0), "base_kv is not positive", "give the nominal voltage")
    report(
        "bus", n.bus_name, ~(n.vm_pu_min < n.vm_pu_max), "vm_pu_min is not below vm_pu_max", "correct the limits"
    )
    low, high = n.tap < n.tap_min, n.tap > n.tap_max
    report("branch", n.branch_name[n.tap_branch], low | high, "tap is outside its limits", "correct the tap")
    units = grid.units
    report("unit", units.name, units.p_mw_min > units.p_mw_max, "p_mw_min is above p_mw_max", "correct the limits")
    report(
        "unit", units.name, units.q_mvar_min > units.q_mvar_max, "q_mvar_min is above q_mvar_max", "correct them"
    )
    report("unit", units.name, np.isnan(_hours(snapshot.unit_p_mw)), "p_mw is NaN", "give its set point")
    report("load", grid.loads.name, np.isnan(_hours(snapshot.load_p_mw)), "p_mw is NaN", "give its demand")
    links = csr_matrix((np.ones(n.n_branch), (n.from_bus, n.to_bus)), shape=(n.n_bus, n.n_bus))
    count, label = connected_components(links, directed=False)
    for k in range(count):
        if k != label[n.slack]:
            report(
                "island", n.bus_name, label == k, f"of {(label == k).sum()} buses is not connected", "connect it"
            )
    return findings


def _hours(values: NDArray[Any]) -> NDArray[Any]:
    """Return one value an element: NaN if any hour is."""
    return values if values.ndim == 1 else np.asarray(values.sum(axis=0))
