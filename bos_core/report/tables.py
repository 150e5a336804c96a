"""Table 6 and the list of what is still violated, for the terminal and as cells for the page.

Both show the same words and figures: the terminal and the page call the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from bos_core.report.data import Table6Row, Violation

__all__ = ["TABLE6_HEADER", "Table6Row", "Violation", "duration", "table6", "table6_cells", "violations"]

NONE = "–"
"""Shown where there is no value."""

TABLE6_HEADER = (
    "Stage",
    "Tasks",
    "Subtasks",
    "Mean time a subtask",
    "Estimated serial time",
    "Actual time",
    "Speed-up",
    "Reading and writing",
)

_SAMPLE_HEADER = "Speed-up against serial sample"


@dataclass(frozen=True)
class Cells:
    """A table as text: header and rows of equal length; `total` is the last row or None."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] | None = None


def number(value: float | int | None, digits: int = 0, unit: str = "") -> str:
    """Format with thin-space thousands and a unit; a dash for None and NaN."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:,.{digits}f}".replace(",", "\u202f")
    if text.lstrip("-").strip("0.") == "":
        text = text.lstrip("-")
    return f"{text}\u202f{unit}" if unit else text


def duration(seconds: float | None) -> str:
    """Format a time with three significant digits, from microseconds to days."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    for limit, factor, unit in (
        (1e-3, 1e6, "µs"),
        (1.0, 1e3, "ms"),
        (120.0, 1.0, "s"),
        (7200.0, 1 / 60, "min"),
        (172_800.0, 1 / 3600, "h"),
        (math.inf, 1 / 86_400, "d"),
    ):
        if seconds < limit:
            value = seconds * factor
            digits = 0 if value >= 100 or value == 0 else 1 if value >= 10 else 2
            return number(value, digits, unit)
    raise AssertionError("the last limit is infinite")


def table6_cells(rows: Sequence[Table6Row]) -> Cells:
    """Return Table 6 as text with a total; the sampled speed-up only where a sample exists."""
    sampled = any(row.serial_sample_s is not None for row in rows)
    header = TABLE6_HEADER + ((_SAMPLE_HEADER,) if sampled else ())
    cells = tuple(_table6_row(row, sampled) for row in rows)
    return Cells(header, cells, _table6_total(rows, sampled) if len(rows) > 1 else None)


def _table6_row(row: Table6Row, sampled: bool) -> tuple[str, ...]:
    cells = (
        row.stage,
        number(row.tasks),
        number(row.subtasks),
        duration(row.mean_subtask_s),
        duration(row.serial_s),
        duration(row.wall_s),
        _ratio(row.speed_up),
        _percent(row.io_share),
    )
    return (*cells, _ratio(row.speed_up_sampled)) if sampled else cells


def _table6_total(rows: Sequence[Table6Row], sampled: bool) -> tuple[str, ...]:
    """Sums where every row has the figure; the speed-up is the ratio of sums."""
    serial = _sum([row.serial_s for row in rows])
    wall = _sum([row.wall_s for row in rows])
    busy = [(row.io_share, row.serial_s) for row in rows]
    io = _sum([None if share is None or s is None else share * s for share, s in busy])
    cells = (
        "Total",
        number(sum(row.tasks for row in rows)),
        number(sum(row.subtasks for row in rows)),
        "",
        duration(serial),
        duration(wall),
        _ratio(serial / wall if serial is not None and wall else None),
        _percent(io / serial if io is not None and serial else None),
    )
    sample = _sum([None if r.serial_sample_s is None else r.subtasks * r.serial_sample_s for r in rows])
    return (*cells, _ratio(sample / wall if sample is not None and wall else None)) if sampled else cells


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _ratio(value: float | None) -> str:
    return NONE if value is None else number(value, 2 if value < 100 else 1)


def _percent(share: float | None) -> str:
    return NONE if share is None else number(100 * share, 1, "%")


VIOLATION_HEADER = ("Hour", "Outage", "Element", "Kind", "Value", "Limit", "Least relaxation", "Shedding instead")


def violation_cells(rows: Sequence[Violation], most: int = 50) -> Cells:
    """Return the violations as text, in the order given, at most `most` of them."""
    return Cells(VIOLATION_HEADER, tuple(_violation_row(row) for row in rows[:most]))


def _violation_row(row: Violation) -> tuple[str, ...]:
    loading = row.kind == "overload"

    def quantity(value: float) -> str:
        return number(100 * value, 1, "%") if loading else number(value, 4, "p.u.")

    return (
        number(row.hour),
        row.outage,
        row.element,
        row.kind,
        quantity(row.value),
        quantity(row.limit),
        number(100 * row.relaxation, 1, "points") if loading else number(row.relaxation, 4, "p.u."),
        number(row.shed_mw, 1, "MW"),
    )


def table6(rows: Sequence[Table6Row]) -> Table:
    """Return Table 6 for the terminal."""
    return _rich(table6_cells(rows), "Planning chain by stage (Table 6)", text_columns=1)


def violations(rows: Sequence[Violation], most: int = 50) -> Table:
    """Return what is still violated, for the terminal; the caption says how many are left out."""
    table = _rich(violation_cells(rows, most), "Still violated after adjustment", text_columns=4)
    if not rows:
        table.caption = "Nothing is violated any more."
    elif len(rows) > most:
        table.caption = f"{len(rows) - most:,} more are not shown."
    return table


def _rich(cells: Cells, title: str, text_columns: int) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", show_footer=cells.total is not None)
    for position, name in enumerate(cells.header):
        table.add_column(
            name,
            footer=cells.total[position] if cells.total else "",
            justify="left" if position < text_columns else "right",
        )
    for row in cells.rows:
        table.add_row(*row)
    return table
