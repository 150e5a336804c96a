"""The tables that `bos scenario` prints: history, differences, what edits did."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from bos_core.access.scenario_diff import Difference, SeriesDifference, TableDifference
from bos_core.access.scenario_edit import Applied
from bos_core.access.scenario_merge import shown
from bos_core.access.scenario_versions import LogEntry
from bos_core.objects.ontology import MONTH_STARTS

_UNITS = ("B", "kB", "MB", "GB")


def log(entries: Sequence[LogEntry]) -> Table:
    """Return the history of a version, newest first."""
    table = _table("version", "when, who")
    table.add_column("adds", justify="right", no_wrap=True)
    table.add_column("message", ratio=1, overflow="fold")
    for entry in entries:
        version = entry.version
        when = dt.datetime.fromtimestamp(version.created_s).strftime("%m-%d %H:%M")
        origin = f"[dim]from {escape(' and '.join(entry.parents))}[/]" if entry.parents else ""
        table.add_row(
            f"{escape(version.label)}\n[dim]{version.step}[/]",
            escape("\n".join([when, *[version.author] * bool(version.author)])),
            size(entry.delta_bytes),
            "\n".join([escape(version.message), *[origin] * bool(origin)]),
        )
    return table


def size(count: int) -> str:
    """Return a number of bytes with three digits and a unit."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_UNITS[unit]}"


def applied(done: Sequence[Applied]) -> Table:
    """Return what each edit did."""
    table = _table()
    table.add_column("edit", overflow="fold")
    for name in ("elements", "values changed"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in done:
        table.add_row(escape(str(one.edit)), f"{one.elements:,}", f"{one.values:,}")
    return table


def difference(found: Difference, rows: int) -> Iterator[RenderableType]:
    """Yield what differs: tables, their first values, series."""
    if found.is_none:
        yield f"{escape(found.before.label)} and {escape(found.after.label)} have the same content"
        return
    if found.tables:
        yield _tables(found.tables)
        yield from _cells(found, rows)
    if found.series:
        yield _series(found.series)


def _tables(tables: Sequence[TableDifference]) -> Table:
    shape = _table("table")
    for name in ("rows added", "removed", "changed", "values"):
        shape.add_column(name, justify="right", no_wrap=True)
    for one in tables:
        counts = (len(one.added), len(one.removed), one.rows, len(one.cells))
        shape.add_row(one.table, *(f"{count:,}" if count else "" for count in counts))
    return shape


def _cells(found: Difference, rows: int) -> Iterator[RenderableType]:
    table = _table("table")
    table.add_column("element", overflow="fold", ratio=1)
    table.add_column("column", no_wrap=True)
    for label in (found.before.label, found.after.label):
        table.add_column(escape(label), justify="right", overflow="fold")
    lines = [
        (one.table, cell.row, cell.column, shown(cell.before), shown(cell.after))
        for one in found.tables
        for cell in one.cells
    ]
    lines += [(one.table, row, "", "", "added") for one in found.tables for row in one.added]
    lines += [(one.table, row, "", "removed", "") for one in found.tables for row in one.removed]
    for line in lines[:rows]:
        table.add_row(*map(escape, line))
    if rows:
        yield table
    if len(lines) > rows > 0:
        yield f"{len(lines) - rows:,} more; --rows shows more of them"


def _series(series: Sequence[SeriesDifference]) -> Table:
    table = _table("series")
    for name in ("elements", "values"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("hours", no_wrap=True)
    table.add_column("sum", justify="right", no_wrap=True)
    table.add_column("largest change", ratio=1, overflow="fold")
    for one in series:
        hours = f"{one.first_hour}-{one.last_hour}" if one.values else ""
        total = f"{one.total.sum():+,.4g}" if one.values else ""
        elements = len(one.ids) or len(one.added) + len(one.removed)
        values = f"{one.values:,}" if one.values else ""
        table.add_row(one.series, f"{elements:,}", values, hours, total, escape(_largest(one)))
    return table


def _largest(one: SeriesDifference) -> str:
    """Say what changed most: one value, or which hours and elements there are."""
    if one.hours_before is None or one.hours_after is None:
        return "only in the " + ("second" if one.hours_before is None else "first")
    said = []
    if one.hours_before != one.hours_after:
        before, after = (f"{h.start}-{h.stop - 1}" for h in (one.hours_before, one.hours_after))
        said.append(f"covers hours {after}, not {before}")
    for names, what in ((one.added, "added"), (one.removed, "removed")):
        if names:
            said.append(f"{len(names):,} elements {what} ({', '.join(names[:2])}{', ...' * (len(names) > 2)})")
    if one.values:
        place = int(abs(one.after - one.before).argmax())
        values = f"{shown(float(one.before[place]))} to {shown(float(one.after[place]))} {one.unit}".strip()
        said.append(f"{one.names[place]}, {moment(int(one.hour[place]))}: {values}")
    return "; ".join(said)


def moment(hour: int) -> str:
    """Return an hour of the year as date and time."""
    month = next(m for m in range(12, 0, -1) if MONTH_STARTS[m - 1] <= hour)
    day, clock = divmod(hour - MONTH_STARTS[month - 1], 24)
    return f"{month:02d}-{day + 1:02d} {clock:02d}:00"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption_justify="left")
    for name in columns:
        table.add_column(name, no_wrap=True)
    return table
