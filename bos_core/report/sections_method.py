"""Sections about how the states came about: validated snapshot, equivalence, annual states."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from bos_core.grid.statistics import Comparison, autocorrelation, compare, duration_curve, ramps
from bos_core.report.blocks import Block, Figure, Section, Spec, TableBlock, View, missing
from bos_core.report.charts import TimeAxis, axis, line, numbers, stacked
from bos_core.report.data import AnnualStates, ReportData
from bos_core.report.palette import CATEGORICAL, TECHNOLOGY, technology_style
from bos_core.report.tables import Cells, number

TABLE_ROWS_MAX = 100

_PAST, _PLAN = "--past", CATEGORICAL[0]

_CURVE_POINTS = 300

_UNIT_ENDINGS = {
    "mw": "MW",
    "mvar": "Mvar",
    "mva": "MVA",
    "mwh": "MWh",
    "pu": "p.u.",
    "kv": "kV",
    "deg": "°",
    "rad": "rad",
    "percent": "%",
    "eur": "EUR",
    "h": "h",
    "s": "s",
}
"""Units as names of columns end, where the schema says nothing."""

_LAGS = tuple(range(0, 169, 2))


def method_section(data: ReportData) -> Section:
    """Step 2 (validated snapshot) and step 3 (equivalence)."""
    blocks: list[Block] = []
    for table, title in (
        (data.snapshot_log, "Validation of the snapshot: iterations of step 2"),
        (data.equivalence, "Static equivalence: errors at the base and a second operating point"),
    ):
        if table is None:
            blocks.append(missing(title))
            continue
        note = f"The first {TABLE_ROWS_MAX} of {table.num_rows} rows." if table.num_rows > TABLE_ROWS_MAX else ""
        cells, text = arrow_cells(table)
        blocks.append(TableBlock(title, cells, 0, note, text))
    return Section("method", "Validated snapshot and equivalence", "Snapshot, equivalence", blocks)


def arrow_cells(table: pa.Table) -> tuple[Cells, tuple[int, ...]]:
    """Return an Arrow table as cells, and which columns are text; units join the header."""
    header, columns, text = [], [], []
    for position, name in enumerate(table.column_names):
        field = table.schema.field(name)
        header.append(_header(name, (field.metadata or {}).get(b"unit", b"").decode()))
        columns.append([_cell(value) for value in table[name].slice(0, TABLE_ROWS_MAX).to_pylist()])
        if not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)):
            text.append(position)
    return Cells(tuple(header), tuple(zip(*columns, strict=True))), tuple(text)


def _header(name: str, unit: str) -> str:
    """Column title: the words of the name, and the unit from the schema or from the end of the name."""
    words, named = name.split("_"), ""
    if len(words) > 1 and words[-1] in _UNIT_ENDINGS:
        named = _UNIT_ENDINGS[words.pop()]
    if len(words) > 2 and words[-1] == "per" and words[-2] in _UNIT_ENDINGS:
        named = f"{_UNIT_ENDINGS[words[-2]]}/{named}"
        del words[-2:]
    unit = unit or named
    title = " ".join("V" if word == "vm" else word for word in words)
    return f"{title[:1].upper()}{title[1:]}" + (f" in {unit}" if unit not in {"", "1"} else "")


def _cell(value: object) -> str:
    if value is None:
        return number(None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return number(value)
    if isinstance(value, float):
        size = abs(value)
        if not np.isfinite(value):
            return number(None)
        if 0 < size < 1e-3:
            return f"{value:.2e}"
        return number(value, 1 if size >= 100 else 2 if size >= 10 else 4)
    return str(value)


def annual_section(data: ReportData) -> Section:
    """Step 4: statistics of the planned year beside the historical one."""
    title, short = "Annual states (step 4)", "Annual states"
    a = data.annual
    if a is None:
        return Section("annual", title, short, [missing("Statistics of the annual states")])
    found = compare(a.planned_mw, a.historical_mw)
    names = [str(n) for n in a.name]
    blocks: list[Block] = [_statistics_table(found, names)]
    if found.correlation.shape[1] > 1:
        blocks.append(_correlation_table(found, names))
    blocks += [_duration(a, names), _autocorrelation(a, names), _ramps(a, names)]
    if a.outage_mw:
        blocks.append(_outages(a, TimeAxis(data.head.start[:4] + "-01-01T00:00", a.planned_mw.shape[0])))
    lead = f"Made by the program {a.program}: {number(a.planned_mw.shape[0])} hours, planned beside historical."
    return Section("annual", title, short, blocks, lead)


def _statistics_table(found: Comparison, names: list[str]) -> TableBlock:
    lag = {int(h): i for i, h in enumerate(found.lags_h)}
    rows = []
    for i, name in enumerate(names):
        for year, label in ((0, "historical"), (1, "planned")):
            rows.append(
                (
                    name if year == 0 else "",
                    label,
                    number(found.mean[year, i]),
                    number(found.minimum[year, i]),
                    number(found.maximum[year, i]),
                    number(found.standard_deviation[year, i]),
                    *(number(found.autocorrelation[year, lag[h], i], 3) if h in lag else "" for h in (1, 24, 168)),
                    number(found.ramp_p01[year, 0, i]),
                    number(found.ramp_p99[year, 0, i]),
                    number(100 * found.duration_distance[i], 2, "%") if year else "",
                )
            )
    header = (
        *("Series", "Year", "Mean in MW", "Lowest", "Highest", "Std. deviation"),
        *("Autocorr. 1 h", "24 h", "168 h", "Ramp 1 % in MW/h", "Ramp 99 %", "Distance of duration curves"),
    )
    return TableBlock("Statistics", Cells(header, tuple(rows)), 2)


def _correlation_table(found: Comparison, names: list[str]) -> TableBlock:
    rows = tuple(
        (f"{names[i]} – {names[j]}", number(found.correlation[0, i, j], 3), number(found.correlation[1, i, j], 3))
        for i in range(len(names))
        for j in range(i + 1, len(names))
    )
    note = f"Root mean square difference {number(found.correlation_error, 3)}."
    return TableBlock("Cross correlation", Cells(("Pair", "Historical", "Planned"), rows), note=note)


def _pair(x_past: Spec, past: np.ndarray, x_plan: Spec, plan: np.ndarray, hover: str) -> list[Spec]:
    wide = {"color": _PAST, "width": 5}
    return [
        line(x_past, past, "historical", _PAST, hover, line=wide),
        line(x_plan, plan, "planned", _PLAN, hover),
    ]


def _duration(a: AnnualStates, names: list[str]) -> Figure:
    pick = np.linspace(0, a.planned_mw.shape[0] - 1, _CURVE_POINTS).astype(int)
    x = {"x": numbers(100 * pick / (a.planned_mw.shape[0] - 1), 4)}
    past, plan = duration_curve(a.historical_mw)[pick] / 1e3, duration_curve(a.planned_mw)[pick] / 1e3
    layout = {"xaxis": axis("Share of hours in %", type="linear", range=[0, 100]), "yaxis": axis("Power in GW")}
    views = [View(n, _pair(x, past[:, i], x, plan[:, i], ".2f} GW"), layout) for i, n in enumerate(names)]
    return Figure("Duration curves", views, 290, half=True, label="Series")


def _autocorrelation(a: AnnualStates, names: list[str]) -> Figure:
    x = {"x": list(_LAGS)}
    past, plan = autocorrelation(a.historical_mw, _LAGS), autocorrelation(a.planned_mw, _LAGS)
    layout = {
        "xaxis": axis("Lag in h", type="linear", dtick=24, range=[0, _LAGS[-1]]),
        "yaxis": axis("Autocorrelation"),
    }
    views = [View(n, _pair(x, past[:, i], x, plan[:, i], ".3f}"), layout) for i, n in enumerate(names)]
    return Figure("Autocorrelation", views, 290, half=True, label="Series")


def _ramps(a: AnnualStates, names: list[str]) -> Figure:
    share = np.concatenate([np.linspace(0.1, 2, 40), np.linspace(2.5, 97.5, 96), np.linspace(98, 99.9, 40)])
    x = {"x": numbers(share, 4)}
    past = np.percentile(ramps(a.historical_mw), share, axis=0)
    plan = np.percentile(ramps(a.planned_mw), share, axis=0)
    layout = {"xaxis": axis("Share of hours in %", type="linear"), "yaxis": axis("Change in MW/h")}
    views = [View(n, _pair(x, past[:, i], x, plan[:, i], ",.0f} MW/h"), layout) for i, n in enumerate(names)]
    return Figure("Hourly ramps, sorted", views, 290, half=True, label="Series")


def _outages(a: AnnualStates, time: TimeAxis) -> Figure:
    assert a.outage_mw is not None
    kinds = list(a.outage_mw)
    if set(kinds) <= set(TECHNOLOGY):
        style = technology_style(kinds)
    else:
        style = {kind: (kind.capitalize(), CATEGORICAL[i % len(CATEGORICAL)]) for i, kind in enumerate(kinds)}
    layers = [(label, colour, time.mean(a.outage_mw[kind]) / 1e3) for kind, (label, colour) in style.items()]
    layout = {"yaxis": axis("Capacity out in GW")}
    title = "Capacity on maintenance or forced out"
    return Figure(title, [View("", stacked(time.x, layers, ".2f} GW"), layout)], 290, "Daily means.", half=True)
