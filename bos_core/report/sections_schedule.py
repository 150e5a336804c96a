"""Fig. 11: the annual schedule as heat maps and as curves of a chosen element."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import FloatArray, IntArray
from bos_core.report.addresses import of_series
from bos_core.report.blocks import Block, Explorer, Figure, PackStore, Section, Spec, View, missing
from bos_core.report.charts import TimeAxis, group_borders, heat_map, row_groups
from bos_core.report.data import ReportData, Schedule
from bos_core.report.palette import technology_style
from bos_core.report.tables import number

CURVE_VALUES_MAX = 1_300_000
"""Hourly values of one quantity that go into the page; with more, the elements that vary most are kept."""

MAP_ROWS_MAX = 400
"""Rows of a heat map; with more, the elements that vary most are kept."""


@dataclass(frozen=True, eq=False)
class _Quantity:
    """A quantity of the schedule: (hour, element) values, names and groups of the elements, units."""

    title: str
    element: str
    elements: str
    name: str
    unit: str
    values: FloatArray
    names: list[str]
    groups: list[str]
    resolution: float
    digits: int
    low: FloatArray | None = None
    high: FloatArray | None = None
    series: str = ""
    """Name of the values in the ontology; empty where they are derived."""


def schedule_section(data: ReportData, store: PackStore) -> Section:
    """P and V set points, SVG reactive power and bus voltages of every hour."""
    time = TimeAxis(data.head.start, data.head.hours)
    schedule = data.schedule or Schedule()
    blocks: list[Block] = []
    for what, quantity in (
        ("P set points of units", _unit_power(schedule)),
        ("V set points of units", _unit_voltage(schedule)),
        ("Reactive power of static var generators", _svg_power(schedule)),
        ("Bus voltages", _bus_voltage(schedule)),
    ):
        if quantity is None or not quantity.names:
            why = "The network has none." if quantity is not None else "The run has no such results yet."
            blocks.append(missing(what, why))
        else:
            trace = of_series(data, quantity.series) if quantity.series else ""
            blocks += _blocks(quantity, time, store, trace)
    lead = f"{number(data.head.hours)} sequential states of the devices, from {time.label(0)}."
    return Section("schedule", "Schedule of devices (Fig. 11)", "Schedule (Fig. 11)", blocks, lead)


def _unit_power(s: Schedule) -> _Quantity | None:
    if s.unit_p_mw is None or s.unit_name is None:
        return None
    order, groups = _by_technology(s, s.unit_p_mw.sum(axis=0))
    return _Quantity(
        "P set points of units",
        "Unit",
        "units",
        "P",
        "MW",
        s.unit_p_mw[:, order],
        [str(n) for n in s.unit_name[order]],
        groups,
        0.05,
        1,
        high=None if s.unit_p_mw_max is None else s.unit_p_mw_max[order],
        series="unit.p_mw",
    )


def _unit_voltage(s: Schedule) -> _Quantity | None:
    if s.unit_vm_set_pu is None or s.unit_name is None:
        return None
    order, groups = _by_technology(s, -np.arange(s.unit_name.size, dtype=float))
    controls = np.flatnonzero(np.isfinite(s.unit_vm_set_pu[:, order]).any(axis=0))
    order, groups = order[controls], [groups[i] for i in controls]
    return _Quantity(
        "V set points of units",
        "Unit",
        "voltage-controlling units",
        "V",
        "p.u.",
        s.unit_vm_set_pu[:, order],
        [str(n) for n in s.unit_name[order]],
        groups,
        1e-4,
        4,
    )


def _svg_power(s: Schedule) -> _Quantity | None:
    if s.svg_q_mvar is None or s.svg_name is None:
        return None
    names = [str(n) for n in s.svg_name]
    title = "Reactive power of static var generators"
    return _Quantity(
        *(title, "SVG", "static var generators", "Q", "Mvar", s.svg_q_mvar, names, [""] * len(names), 0.05, 1),
        series="svg.q_mvar",
    )


def _bus_voltage(s: Schedule) -> _Quantity | None:
    if s.bus_vm_pu is None or s.bus_name is None:
        return None
    kv = np.zeros(s.bus_name.size) if s.bus_base_kv is None else s.bus_base_kv
    order = np.lexsort((s.bus_vm_pu.mean(axis=0), kv))
    return _Quantity(
        "Bus voltages",
        "Bus",
        "buses",
        "V",
        "p.u.",
        s.bus_vm_pu[:, order],
        [str(n) for n in s.bus_name[order]],
        [f"{kv[b]:g} kV" if kv[b] else "" for b in order],
        1e-4,
        4,
        None if s.bus_vm_pu_min is None else s.bus_vm_pu_min[order],
        None if s.bus_vm_pu_max is None else s.bus_vm_pu_max[order],
        series="bus.vm_pu",
    )


def _by_technology(s: Schedule, key: FloatArray) -> tuple[IntArray, list[str]]:
    """Order of units by technology, then by descending key; and the label of each one's technology."""
    assert s.unit_name is not None
    if s.unit_technology is None:
        return np.argsort(-key, kind="stable"), [""] * s.unit_name.size
    style = technology_style(str(t) for t in s.unit_technology)
    rank = {technology: i for i, technology in enumerate(style)}
    ranks = np.array([rank[str(t)] for t in s.unit_technology])
    order = np.lexsort((-key, ranks))
    return order, [style[str(s.unit_technology[u])][0] for u in order]


def _blocks(q: _Quantity, time: TimeAxis, store: PackStore, trace: str) -> list[Block]:
    rows = _most_varying(q.values, min(MAP_ROWS_MAX, len(q.names)))
    kept = _most_varying(q.values, min(max(CURVE_VALUES_MAX // time.hours, 1), len(q.names)))
    explorer = Explorer(
        f"{q.title}: one {q.element if q.element.isupper() else q.element.lower()}",
        q.element,
        q.name,
        q.unit,
        [q.names[i] for i in kept],
        [q.groups[i] for i in kept],
        store.add(q.values[:, kept].T, q.resolution),
        q.digits,
        _limits(q.low, kept),
        _limits(q.high, kept),
        note=_kept_note(len(kept), len(q.names), q.elements),
        trace=trace,
    )
    return [_map_figure(q, rows, time, store), explorer]


def _map_figure(q: _Quantity, rows: IntArray, time: TimeAxis, store: PackStore) -> Figure:
    values = q.values[:, rows]
    groups = [q.groups[i] for i in rows]
    names = [f"{q.element} {q.names[i]}" for i in rows]
    more: Spec = {}
    if q.unit == "p.u.":
        shown, bar, hover = time.farthest(values, 1.0), "V in p.u.", ".4f} p.u."
        known = shown[np.isfinite(shown)]
        reach = float(np.percentile(np.abs(known - 1.0), 99.5)) if known.size else 0.1
        more = {"colorscale": "--diverging", "zmid": 1.0, "zmin": 1 - reach, "zmax": 1 + reach}
        binned = "the value farthest from 1 p.u. in each day"
        resolution = 1e-4
    elif q.high is not None:
        size = np.where(q.high[rows] > 0, q.high[rows], np.nan)
        shown, bar, hover = 100 * time.mean(values) / size, "P in % of the maximum", ".1f} % of the maximum"
        more = {"zmin": 0, "zmax": 100}
        binned = "the mean of each day"
        resolution = 0.05
    else:
        shown, bar, hover = time.mean(values), f"{q.name} in {q.unit}", f".1f}} {q.unit}"
        if np.nanmin(shown, initial=0.0) < 0:
            reach = float(np.nanmax(np.abs(shown)))
            more = {"colorscale": "--diverging", "zmid": 0.0, "zmin": -reach, "zmax": reach}
        binned = "the mean of each day"
        resolution = 0.05
    trace = heat_map(store.add(shown.T, resolution), time.x, names, bar, hover, **more)
    layout = {"yaxis": row_groups(groups), "shapes": group_borders(groups), "hovermode": "closest"}
    note = [_kept_note(len(rows), len(q.names), q.elements), f"A cell shows {binned}." if time.bin_h > 1 else ""]
    height = int(np.clip(120 + 3.2 * len(rows), 240, 560))
    return Figure(
        f"{q.title}: all {q.elements}", [View("", [trace], layout)], height, " ".join(filter(None, note))
    )


def _most_varying(values: FloatArray, count: int) -> IntArray:
    """Positions of the columns with the widest range, in their order."""
    if count >= values.shape[1]:
        return np.arange(values.shape[1])
    known = np.isfinite(values)
    high = np.where(known, values, -np.inf).max(axis=0)
    low = np.where(known, values, np.inf).min(axis=0)
    return np.sort(np.argsort(-(high - low), kind="stable")[:count])


def _limits(values: FloatArray | None, kept: IntArray) -> list[float | None] | None:
    if values is None:
        return None
    return [round(float(v), 4) if np.isfinite(v) else None for v in values[kept]]


def _kept_note(kept: int, total: int, elements: str) -> str:
    return "" if kept == total else f"{kept} of {total} {elements}: those with the widest range."
