"""What differs between two scenario versions, as a page in the style of the report."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from bos_core.access.plan_year import PlanYear
from bos_core.access.scenario_data import ScenarioReader
from bos_core.access.scenario_diff import Difference, SeriesDifference
from bos_core.access.scenario_merge import shown
from bos_core.grid.model import FloatArray
from bos_core.objects.ontology import HOURS_PER_YEAR
from bos_core.report.blocks import Block, Figure, PackStore, Section, Spec, TableBlock, View, missing
from bos_core.report.charts import HOURS_SHOWN_MAX, TimeAxis, axis, heat_map, line, ranking, ranking_layout
from bos_core.report.page import Cover, render_page, write_page
from bos_core.report.palette import CATEGORICAL
from bos_core.report.tables import Cells, number

SERIES_SHOWN = 8
CURVES_SHOWN = 6
ROWS_SHOWN = 60
CELLS_SHOWN = 100

_MARGIN_H = 24
_SUMMED = frozenset({"MW", "Mvar", "MWh"})
_HOURLY = {"xaxis": {"hoverformat": "%a %d %b, %H:%M"}}


def write(found: Difference, before: ScenarioReader, after: ScenarioReader, path: str | os.PathLike[str]) -> Path:
    """Write the page, whole or not at all, and return its path."""
    return write_page(render(found, before, after), path)


def render(found: Difference, before: ScenarioReader, after: ScenarioReader) -> str:
    """Return the page: counts, values of tables, curves and maps of series.

    Parameters
    ----------
    found : Difference
    before, after : ScenarioReader
        The versions that were compared.
    """
    time, store = TimeAxis(PlanYear.of(after).start, HOURS_PER_YEAR), PackStore()
    sections = [_overview(found), *([_tables(found)] if found.tables else [])]
    changed = sorted((one for one in found.series if one.values), key=lambda one: -one.values)
    sections += [_series(one, before, after, time, store) for one in changed[:SERIES_SHOWN]]
    left = len(changed) - SERIES_SHOWN
    outcome = "The versions have the same content." if found.is_none else _outcome(found)
    warnings = (
        [f"{left} more series differ; the {SERIES_SHOWN} with the most values are drawn."] if left > 0 else []
    )
    title = f"{found.before.label} and {found.after.label}"
    facts = [
        (what, f"{v.label}, {v.message}", v.id) for what, v in (("Before", found.before), ("After", found.after))
    ]
    return render_page(Cover(title, outcome, warnings, _figures(found), facts), time, sections, store)


def _outcome(found: Difference) -> str:
    tables = len(found.tables)
    return f"{tables} table{'s' * (tables != 1)} and {len(found.series)} series differ."


def _figures(found: Difference) -> list[tuple[str, str, str]]:
    rows = sum(len(one.added) + len(one.removed) + one.rows for one in found.tables)
    cells = sum(len(one.cells) for one in found.tables)
    elements = len({element for one in found.series for element in one.ids})
    return [
        ("Rows of tables", number(rows), f"{number(cells)} values"),
        ("Values of series", number(sum(one.values for one in found.series)), ""),
        ("Elements in series", number(elements), ""),
    ]


def _overview(found: Difference) -> Section:
    counts = [(one.table, len(one.cells) + len(one.added) + len(one.removed)) for one in found.tables]
    counts += [(one.series, one.values) for one in found.series if one.values]
    blocks: list[Block] = []
    if found.is_none:
        blocks.append(missing("Changes", "There are none."))
    if counts:
        names, values = zip(*sorted(counts, key=lambda item: -item[1]), strict=True)
        layout = ranking_layout(names, "Values and rows that differ")
        layout["xaxis"] |= {"type": "log", "rangemode": "normal", "dtick": 1, "hoverformat": ",d"}
        bars = ranking(names, np.array(values, float), CATEGORICAL[0], ",}")
        blocks.append(Figure("How much differs", [View("", [bars], layout)], 110 + 19 * len(names)))
    if found.series:
        rows = tuple(_summary(one) for one in found.series)
        header = (
            "Series",
            "Largest difference",
            "Elements",
            "Values",
            "Sum of differences",
            "Before",
            "After",
            "Unit",
        )
        blocks.append(TableBlock("Series", Cells(header, rows), 2, also_text=(7,)))
    return Section("changes", "Changes", "Changes", blocks)


def _summary(one: SeriesDifference) -> tuple[str, ...]:
    if not one.values:
        said = f"{len(one.added)} elements added, {len(one.removed)} removed"
        return (one.series, said, *[""] * 5, one.unit)
    place = int(np.abs(np.nan_to_num(one.after) - np.nan_to_num(one.before)).argmax())
    return (
        one.series,
        f"{one.names[place]}, hour {one.hour[place]}",
        number(len(one.ids)),
        number(one.values),
        number(float(one.total.sum()), 1),
        shown(float(one.before[place])),
        shown(float(one.after[place])),
        one.unit,
    )


def _tables(found: Difference) -> Section:
    header = ("Table", "Element", "Column", "Before", "After")
    rows = [
        (one.table, cell.row, cell.column, shown(cell.before), shown(cell.after))
        for one in found.tables
        for cell in one.cells
    ]
    rows += [(one.table, row, "", "", "added") for one in found.tables for row in one.added]
    rows += [(one.table, row, "", "removed", "") for one in found.tables for row in one.removed]
    left = len(rows) - CELLS_SHOWN
    note = f"{number(left)} more are not shown." if left > 0 else ""
    return Section(
        "tables", "Tables", "Tables", [TableBlock("", Cells(header, tuple(rows[:CELLS_SHOWN])), 3, note)]
    )


# --- series


def _series(
    one: SeriesDifference, before: ScenarioReader, after: ScenarioReader, time: TimeAxis, store: PackStore
) -> Section:
    first, stop = _span(one)
    hours = slice(first, stop)
    part = TimeAxis(time.iso(first), stop - first)
    old, new = (r.aligned(one.series, one.ids, hours).astype(float) for r in (before, after))
    x = time.span(first, stop, part.bin_h)
    blocks: list[Block] = [_curves(one, old, new, part, x)]
    if len(one.ids) > 1:
        blocks.append(_map(one, new - old, part, x, store))
    return Section(f"series-{one.series.replace('.', '-')}", one.series, one.series, blocks)


def _span(one: SeriesDifference) -> tuple[int, int]:
    """Return the hours drawn: those that differ and a day around them, in whole days where days are drawn."""
    assert one.hours_before is not None
    assert one.hours_after is not None
    low = max(one.hours_before.start, one.hours_after.start)
    high = min(one.hours_before.stop, one.hours_after.stop)
    first, stop = max(low, one.first_hour - _MARGIN_H), min(high, one.last_hour + 1 + _MARGIN_H)
    if stop - first > HOURS_SHOWN_MAX:
        first = max(low, first // 24 * 24)
    return first, stop


def _curves(one: SeriesDifference, old: FloatArray, new: FloatArray, part: TimeAxis, x: Spec) -> Figure:
    """Before and after: all elements that differ together, then those that differ most."""
    chosen = [(name, old[:, k], new[:, k]) for k, name in enumerate(one.names[:CURVES_SHOWN])]
    if one.unit in _SUMMED and len(one.ids) > 1:
        total = (f"{len(one.ids)} elements together", np.nansum(old, axis=1), np.nansum(new, axis=1))
        chosen.insert(0, total)
    hover = f".5}} {one.unit}"
    layout = {"yaxis": axis(f"{one.series} in {one.unit}" if one.unit not in ("", "1") else one.series)}
    views = [
        View(
            name,
            [
                line(x, part.mean(values), label, colour, hover)
                for label, colour, values in (
                    ("Before", CATEGORICAL[0], one_old),
                    ("After", CATEGORICAL[1], one_new),
                )
            ],
            layout | (_HOURLY if part.bin_h == 1 else {}),
        )
        for name, one_old, one_new in chosen
    ]
    note = "" if part.bin_h == 1 else "Daily means."
    return Figure("Before and after", views, 320, note, label="Element")


def _map(one: SeriesDifference, delta: FloatArray, part: TimeAxis, x: Spec, store: PackStore) -> Figure:
    """After less before, a row an element."""
    values = part.mean(np.nan_to_num(delta))[:, :ROWS_SHOWN].T
    reach = float(np.abs(values).max()) or 1.0
    more = {"colorscale": "--diverging", "zmid": 0.0, "zmin": -reach, "zmax": reach}
    names = list(one.names[:ROWS_SHOWN])
    bar = f"Change in {one.unit}" if one.unit not in ("", "1") else "Change"
    trace = heat_map(store.add(values, reach / 1000), x, names, bar, f".4}} {one.unit}", **more)
    layout = {
        "yaxis": {
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "autorange": "reversed",
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
            "ticks": "",
            "tickfont": {"size": 10},
        },
        "hovermode": "closest",
    } | (_HOURLY if part.bin_h == 1 else {})
    left = len(one.ids) - len(names)
    notes = [f"The {ROWS_SHOWN} elements that differ most; {number(left)} more differ."] if left > 0 else []
    notes += ["Daily means."] if part.bin_h > 1 else []
    height = int(np.clip(110 + 14 * len(names), 180, 900))
    return Figure("After less before", [View("", [trace], layout)], height, " ".join(notes))
