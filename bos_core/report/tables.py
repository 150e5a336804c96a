"""Table 6, what is still violated and a power flow's summary, for the terminal and as cells for the page.

Both show the same figures; the terminal, which may have no more than 80 columns, shows fewer of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from rich import box
from rich.console import Group as Printed
from rich.table import Table
from rich.text import Text

from bos_core.report.data import PowerFlow, Table6Row
from bos_core.report.violations import OVERLOAD, Group, by_element

__all__ = ["TABLE6_HEADER", "Table6Row", "duration", "group_cells", "table6", "table6_cells", "violations"]

NONE = "–"
"""Shown where there is no value."""

TABLE6_HEADER = (
    "Stage",
    "Tasks",
    "Subtasks",
    "Mean time a subtask",
    "Estimated serial time",
    "Actual time",
    "Estimated speed-up",
    "Reading and writing",
    "Peak memory",
)

_TABLE6_SHORT = ("Stage", "Tasks", "Subtasks", "Mean", "Serial*", "Actual", "Speed*", "I/O")
"""For a terminal of 80 columns; memory is told beside the table."""

TABLE6_NOTE = (
    "Estimated serial time = subtasks × mean measured time of a subtask; estimated speed-up = estimated serial "
    "time / actual time (the paper's definition). No serial run was measured: subtasks are timed while the "
    "machine is busy, which inflates both."
)

_TABLE6_NOTE_SHORT = "* estimate: subtasks × mean time on a busy machine"


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
    """Return Table 6 as text with a total."""
    cells = tuple(_table6_row(row) for row in rows)
    return Cells(TABLE6_HEADER, cells, _table6_total(rows) if len(rows) > 1 else None)


def _table6_row(row: Table6Row) -> tuple[str, ...]:
    return (
        row.stage,
        number(row.tasks),
        number(row.subtasks),
        duration(row.mean_subtask_s),
        duration(row.serial_s),
        duration(row.wall_s),
        _ratio(row.speed_up),
        _percent(row.io_share),
        number(row.memory_gib, 2, "GiB"),
    )


def _table6_total(rows: Sequence[Table6Row]) -> tuple[str, ...]:
    """Sums where every row has the figure; the speed-up is the ratio of sums, the memory the highest."""
    serial = _sum([row.serial_s for row in rows])
    wall = _sum([row.wall_s for row in rows])
    busy = [(row.io_share, row.serial_s) for row in rows]
    io = _sum([None if share is None or s is None else share * s for share, s in busy])
    memory = [row.memory_gib for row in rows if row.memory_gib is not None]
    return (
        "Total",
        number(sum(row.tasks for row in rows)),
        number(sum(row.subtasks for row in rows)),
        "",
        duration(serial),
        duration(wall),
        _ratio(serial / wall if serial is not None and wall else None),
        _percent(io / serial if io is not None and serial else None),
        number(max(memory, default=None), 2, "GiB"),
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _ratio(value: float | None) -> str:
    return NONE if value is None else number(value, 2 if value < 100 else 1)


def _percent(share: float | None) -> str:
    return NONE if share is None else number(100 * share, 1, "%")


GROUP_HEADER = (
    *("Element", "Kind", "Worst outage"),
    *("Worst value", "Limit", "Hours", "Outages", "Least relaxation", "Shedding instead"),
)

VIOLATION_HEADER = (
    *("Time", "Outage", "Element", "Kind"),
    *("Value", "Limit", "Least relaxation", "Shedding instead"),
)


def group_cells(groups: Sequence[Group]) -> Cells:
    """Return the violations by element as text."""
    return Cells(GROUP_HEADER, tuple(_group_row(group) for group in groups))


def _group_row(group: Group) -> tuple[str, ...]:
    return (
        *(group.element or NONE, group.kind, group.worst_outage),
        *(_quantity(group.kind, group.value), _quantity(group.kind, group.limit)),
        *(number(group.hours), number(group.outages)),
        *(_relaxation(group.kind, group.relaxation), _small(group.shed_mw, 1, "MW")),
    )


def violation_cells(rows: pa.Table, most: int = 50, label: Callable[[int], str] = number) -> Cells:
    """Return the first `most` rows of violations as text; `label` names an hour."""
    cells = tuple(
        (
            *(label(row["hour"]), row["outage"], row["element"] or NONE, row["kind"]),
            *(_quantity(row["kind"], row["value"]), _quantity(row["kind"], row["limit"])),
            *(_relaxation(row["kind"], row["relaxation"]), _small(row["shed_mw"], 1, "MW")),
        )
        for row in rows.slice(0, most).to_pylist()
    )
    return Cells(VIOLATION_HEADER, cells)


def _quantity(kind: str, value: float) -> str:
    return number(100 * value, 1, "%") if kind == OVERLOAD else number(value, 4, "p.u.")


def _relaxation(kind: str, value: float) -> str:
    return _small(100 * value, 1, "points") if kind == OVERLOAD else _small(value, 4, "p.u.")


def _small(value: float, digits: int, unit: str) -> str:
    """Format an amount above 0 that rounding must not make 0."""
    least = 10.0**-digits
    return f"< {number(least, digits, unit)}" if 0.0 < value < least / 2 else number(value, digits, unit)


def table6(rows: Sequence[Table6Row]) -> Printed:
    """Return Table 6 for the terminal, no wider than 80 columns."""
    cells = table6_cells(rows)
    count = len(_TABLE6_SHORT)
    table = _rich("Work by stage (Table 6)")
    for position, name in enumerate(_TABLE6_SHORT):
        footer = cells.total[position] if cells.total else ""
        table.add_column(name, footer=footer, justify="left" if position == 0 else "right", no_wrap=position > 0)
    table.show_footer = cells.total is not None
    for row in cells.rows:
        table.add_row(*row[:count])
    memory = cells.total[-1] if cells.total else cells.rows[0][-1] if cells.rows else NONE
    return Printed(table, Text(f"{_TABLE6_NOTE_SHORT}\nPeak memory of a process: {memory}", style="dim"))


def violated(adjusted: bool) -> str:
    """Return what to call violations, of hours that have been adjusted or not."""
    return "Still violated after adjustment" if adjusted else "Violated, not adjusted"


def nothing_violated(adjusted: bool) -> str:
    """Return how to say that there are none."""
    return "Nothing is violated any more" if adjusted else "Nothing is violated"


def violations(rows: pa.Table, adjusted: bool, most: int = 15) -> Printed:
    """Return what is violated for the terminal, by element, no wider than 80 columns unless names are long.

    A line below says how much is left out and where all of it is.
    """
    if not rows.num_rows:
        return Printed(Text(f"{nothing_violated(adjusted)}."))
    table = _rich(f"{violated(adjusted)}, by element")
    for name in ("Element", "Worst outage"):
        table.add_column(name, overflow="fold")
    for name in ("Worst", "Hours", "Outages", "Relax by", "Or shed"):
        table.add_column(name, justify="right", no_wrap=True)
    groups = by_element(rows)
    for group in groups[:most]:
        loading = group.kind == OVERLOAD
        table.add_row(
            group.element or group.kind,
            group.worst_outage,
            number(100 * group.value, 1, "%") if loading else number(group.value, 3, "p.u."),
            number(group.hours),
            number(group.outages),
            _small(100 * group.relaxation, 1, "%") if loading else _small(group.relaxation, 3, "p.u."),
            _small(group.shed_mw, 0, "MW"),
        )
    hours = np.unique(rows["hour"].to_numpy()).size
    more = f"; {number(len(groups) - most)} elements are not shown" if len(groups) > most else ""
    told = (
        f"{number(rows.num_rows)} violations of {number(len(groups))} elements in {number(hours)} hours{more}.\n"
        "Each of them: in the report, or run.violations() in Python."
    )
    return Printed(table, Text(told, style="dim"))


POWER_FLOW_HEADER = ("", "Value", "Where", "When")


def power_flow_cells(flow: PowerFlow, label: Callable[[int], str]) -> Cells:
    """Return the summary of a power flow as text; `label` names an hour of the run."""
    solved = flow.outcome == 0
    rows = [
        ("Hours converged", f"{number(int(solved.sum()))} of {number(flow.outcome.size)}", "", ""),
        ("Hours diverged", number(int((flow.outcome == 1).sum())), "", _when(flow.outcome == 1, label)),
    ]
    if not solved.any():
        return Cells(POWER_FLOW_HEADER, tuple(rows))

    def extreme(name: str, values: np.ndarray, at: int, where: str, factor: float, digits: int, unit: str) -> None:
        rows.append((name, number(factor * float(values[at]), digits, unit), where, label(at)))

    if np.isfinite(flow.loading_max).any():
        top = int(np.nanargmax(flow.loading_max))
        extreme("Highest loading", flow.loading_max, top, str(flow.loading_branch[top]), 100, 1, "%")
    low, high = int(np.nanargmin(flow.vm_min_pu)), int(np.nanargmax(flow.vm_max_pu))
    extreme("Lowest voltage", flow.vm_min_pu, low, str(flow.vm_min_bus[low]), 1, 4, "p.u.")
    extreme("Highest voltage", flow.vm_max_pu, high, str(flow.vm_max_bus[high]), 1, 4, "p.u.")
    losses, load = float(np.nansum(flow.losses_mw)), float(np.nansum(flow.load_mw[solved]))
    share = f"{number(100 * losses / load, 2, '%')} of the load" if load > 0 else ""
    most = int(np.nanargmax(flow.losses_mw))
    rows.append(("Losses", number(losses, 1, "MWh"), share, f"most at {label(most)}"))
    far = int(np.nanargmax(np.abs(flow.slack_p_mw)))
    extreme("Largest balance", flow.slack_p_mw, far, "", 1, 1, "MW")
    for name, counts in (
        ("Branches overloaded", flow.overloaded),
        ("Voltage violations", flow.voltage_violations),
        ("At a reactive limit", flow.q_limited),
    ):
        hours = int((counts > 0).sum())
        rows.append((name, f"in {number(hours, 0, 'h')}", f"up to {number(int(counts.max()))} at once", ""))
    iterations, residual = float(flow.iterations[solved].mean()), float(flow.residual_pu[solved].max())
    rows.append(("Iterations an hour", number(iterations, 1), f"residual up to {residual:.1e} p.u.", ""))
    return Cells(POWER_FLOW_HEADER, tuple(rows))


def _when(chosen: np.ndarray, label: Callable[[int], str]) -> str:
    """Name the first of some hours."""
    found = np.flatnonzero(chosen)
    more = f" and {number(found.size - 1)} more" if found.size > 1 else ""
    return f"{label(int(found[0]))}{more}" if found.size else ""


def power_flow(flow: PowerFlow, label: Callable[[int], str]) -> Table:
    """Return the summary of a power flow for the terminal, no wider than 80 columns unless names are long."""
    table = _rich("Power flow")
    for position, name in enumerate(POWER_FLOW_HEADER):
        table.add_column(name, justify="right" if position == 1 else "left", overflow="fold")
    for row in power_flow_cells(flow, label).rows:
        table.add_row(*row)
    return table


def _rich(title: str) -> Table:
    return Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0),
        pad_edge=False, show_edge=False,
    )  # fmt: skip
