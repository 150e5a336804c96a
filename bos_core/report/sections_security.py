"""Sections about N-1 security: Fig. 12, the overview of all pairs, what adjustment did."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from bos_core.grid.model import FloatArray, IntArray
from bos_core.report.addresses import AGAIN, FIRST, of_result, of_verification, of_violation
from bos_core.report.blocks import (
    Block,
    ContingencyExplorer,
    Download,
    Figure,
    PackStore,
    Paragraph,
    Section,
    Spec,
    TableBlock,
    View,
    missing,
)
from bos_core.report.charts import TimeAxis, axis, numbers, ranking, ranking_layout, stacked_bars
from bos_core.report.data import (
    DIVERGED,
    OUTCOME_NAMES,
    Adjustment,
    Contingencies,
    Pair,
    ReportData,
    Security,
)
from bos_core.report.packing import deflated
from bos_core.report.palette import CATEGORICAL
from bos_core.report.tables import Cells, group_cells, nothing_violated, number, violated, violation_cells
from bos_core.report.violations import by_element

CONTINGENCY_VALUES_MAX = 500_000
"""Hours x contingencies that go into the page."""

CONTINGENCIES_MAX = 400

WORST_SHOWN = 20

_ADJUSTED_OUTCOME = {0: "secure", 1: "limits relaxed", 2: "not converged"}

GROUPS_SHOWN = 20
"""Elements whose violations are seen at once; up to `GROUPS_FOLDED` are there when unfolded."""

GROUPS_FOLDED = 300

VIOLATIONS_SHOWN = 500

FILE_ROWS_MAX = 200_000

FILE_BYTES_MAX = 800_000
"""Size of the packed list of violations in the page."""


def contingency_section(data: ReportData, store: PackStore) -> Section:
    """Fig. 12: one contingency over all hours."""
    title, short = "One contingency over all hours (Fig. 12)", "Contingency (Fig. 12)"
    c = data.contingencies
    if c is None or not c.name.size:
        return Section("contingency", title, short, [missing("Results of contingencies")])
    time = TimeAxis(data.head.start, data.head.hours)
    severity = contingency_severity(c)
    order = np.argsort(-severity, kind="stable")
    order = order[: max(1, min(CONTINGENCIES_MAX, CONTINGENCY_VALUES_MAX // time.hours))]
    note = (
        "Sorted by severity: hours diverged, then the sum over hours of what exceeds the limits. Limits: loading "
        f"{100 * c.loading_limit:g} %, voltage {c.vm_pu_low:g} to {c.vm_pu_high:g} p.u."
    )
    if order.size < c.total:
        note = f"The {number(order.size)} most severe of {number(c.total)} contingencies. {note}"
    explorer = ContingencyExplorer(
        "Extremes after the contingency" + (f", {c.stage}" if c.stage else ""),
        [str(n) for n in c.name[order]],
        [_summary(c, i) for i in order],
        store.add(100 * c.loading_max[:, order].T, 0.05),
        store.add(c.vm_min_pu[:, order].T, 1e-4),
        store.add(c.vm_max_pu[:, order].T, 1e-4),
        store.add(c.outcome[:, order].T.astype(float), 1.0),
        store.add(100 * time.largest(c.loading_max[:, order]).T, 0.1),
        time.bin_h,
        100 * c.loading_limit,
        c.vm_pu_low,
        c.vm_pu_high,
        note,
        {
            "first": of_result(data, FIRST, "pairs"),
            "again": of_result(data, AGAIN, "verified.pairs"),
        },
        [] if data.adjustment is None else data.adjustment.hour.tolist(),
    )
    return Section("contingency", title, short, [explorer])


def contingency_severity(c: Contingencies) -> FloatArray:
    """Return a severity for each contingency, (contingency,): diverged hours weigh most, then excess."""
    loading, low, high = (
        np.nan_to_num(v, nan=n) for v, n in ((c.loading_max, 0), (c.vm_min_pu, 1), (c.vm_max_pu, 1))
    )
    excess = np.maximum(loading - c.loading_limit, 0)
    excess += 10 * (np.maximum(c.vm_pu_low - low, 0) + np.maximum(high - c.vm_pu_high, 0))
    # secure contingencies are ranked by their highest loading, far below any violation
    quiet = 1e-6 * np.minimum(loading.max(axis=0), 1e3)
    return np.asarray(100.0 * (c.outcome == DIVERGED).sum(axis=0) + excess.sum(axis=0) + quiet)


def _summary(c: Contingencies, i: int) -> str:
    hours = c.outcome.shape[0]
    counts = [f"{name} {number(int((c.outcome[:, i] == code).sum()))}" for code, name in enumerate(OUTCOME_NAMES)]
    over = int((c.loading_max[:, i] > c.loading_limit).sum())
    volts = int(((c.vm_min_pu[:, i] < c.vm_pu_low) | (c.vm_max_pu[:, i] > c.vm_pu_high)).sum())
    worst = float(np.fmax.reduce(c.loading_max[:, i]))
    parts = [
        f"{number(hours)} hours: {', '.join(counts)}",
        f"overloaded in {over}",
        f"voltage violated in {volts}",
    ]
    return "; ".join([*parts, f"highest loading {number(100 * worst, 1, '%')}"]) + "."


def security_section(data: ReportData) -> Section:
    """Classes of pairs, worst pairs, violations over time, monitored branches, what remains."""
    title, short = "N-1 verification", "N-1 verification"
    s = data.security
    if s is None:
        return Section("security", title, short, [missing("N-1 verification")])
    time = TimeAxis(data.head.start, data.head.hours)
    blocks: list[Block] = [_classes(s), *_violations_over_time(s, time), *_worst(data, s, time), *_monitored(s)]
    blocks += _remaining(data, s, time)
    return Section("security", title, short, blocks)


def _classes(s: Security) -> TableBlock:
    total = sum(s.outcome_pairs.values())
    meaning = {
        "converged": "full AC solution found",
        "islanded": "the outage cuts a part off; the main part is solved",
        "diverged": "no solution found; counted as a violation",
    }
    rows = tuple(
        (name, meaning.get(name, ""), number(count), number(100 * count / total, 3, "%") if total else "")
        for name, count in s.outcome_pairs.items()
    )
    last = ("Total", "", number(total), "")
    return TableBlock("Pairs by outcome", Cells(("Outcome", "Meaning", "Pairs", "Share"), rows, last), 2)


def _violations_over_time(s: Security, time: TimeAxis) -> list[Block]:
    if s.violations_before is None:
        return [missing("Violations by hour")]
    traces = []
    known = (
        ("before adjustment", s.violations_before, "#9db4c0"),
        ("after adjustment", s.violations_after, "#cc3311"),
    )
    for name, values, colour in known:
        if values is not None:
            y = numbers(time.total(values.astype(float)), 9)
            hover = f"{name}: %{{y:,.0f}} pairs<extra></extra>"
            traces.append(
                {
                    "type": "bar",
                    "name": name,
                    **time.x,
                    "y": y,
                    "marker": {"color": colour},
                    "hovertemplate": hover,
                }
            )
    layout = {
        "yaxis": axis(f"Pairs with a violation per {time.per_bin}", rangemode="tozero"),
        "barmode": "overlay",
        "bargap": 0,
    }
    before = int((s.violations_before > 0).sum())
    note = f"Hours with at least one violation: {number(before)} before"
    if s.violations_after is not None:
        note += f", {number(int((s.violations_after > 0).sum()))} after adjustment"
    return [Figure("Violations over time", [View("", traces, layout)], 280, note + ".")]


def _worst(data: ReportData, s: Security, time: TimeAxis) -> list[Block]:
    if not s.worst:
        return [missing("Worst pairs", "None were given.")]
    header = (
        "Contingency",
        "Diverged in",
        "Worst at",
        "Outcome",
        "Loaded most",
        "Loading",
        "Lowest V",
        "at",
        "Highest V",
        "at",
        "Lost load",
    )
    rows = tuple(_pair_row(p, time) for p in s.worst[:WORST_SHOWN])
    return [
        TableBlock(
            f"The {len(rows)} worst contingencies, each in its worst hour",
            Cells(header, rows),
            also_text=(2, 3, 4, 7, 9),
            traces=[
                of_verification(data, p.hour, "pairs", contingency=p.contingency) for p in s.worst[:WORST_SHOWN]
            ],
        )
    ]


def _pair_row(p: Pair, time: TimeAxis) -> tuple[str, ...]:
    return (
        p.contingency,
        number(p.diverged_hours, 0, "h") if p.diverged_hours else "",
        time.label(p.hour),
        OUTCOME_NAMES[p.outcome],
        p.loading_branch,
        number(100 * p.loading, 1, "%"),
        number(p.vm_min_pu, 4),
        p.vm_min_bus,
        number(p.vm_max_pu, 4),
        p.vm_max_bus,
        number(p.lost_load_mw, 1, "MW") if p.lost_load_mw else "",
    )


def _monitored(s: Security) -> list[Block]:
    if not s.monitored:
        return [missing("Overloaded branches", "No branch is overloaded after a contingency, or none were given.")]
    top = s.monitored[:WORST_SHOWN]
    names = [m.branch for m in top]
    trace = ranking(names, np.array([m.pairs for m in top], float), CATEGORICAL[0], ",.0f} pairs")
    header = ("Branch", "Worst contingency", "Pairs", "Hours", "Highest loading")
    rows = tuple(
        (m.branch, m.worst_contingency, number(m.pairs), number(m.hours), number(100 * m.loading_worst, 1, "%"))
        for m in top
    )
    layout = ranking_layout(names, "Pairs in which the branch is overloaded")
    return [
        Figure("Overloaded branches after contingencies", [View("", [trace], layout)], 110 + 19 * len(top)),
        TableBlock("", Cells(header, rows), 2),
    ]


def _remaining(data: ReportData, s: Security, time: TimeAxis) -> list[Block]:
    """What is still violated: by element, the worst pairs in full, and a file with all that fit."""
    left = s.remaining
    if left is None:
        return [missing("What is still violated", "The hours have not been adjusted and verified again.")]
    if not left.num_rows:
        when = " after adjustment" if s.adjusted else ""
        return [Paragraph(f"{nothing_violated(s.adjusted)}: every pair meets its limits{when}.")]
    groups = by_element(left)
    hours = number(np.unique(left["hour"].to_numpy()).size)
    shown = min(GROUPS_SHOWN, len(groups))
    note = (
        f"{number(left.num_rows)} violations of {number(len(groups))} elements in {hours} hours"
        f"{'' if shown == len(groups) else f'; the {shown} elements with the worst are shown'}. "
        "Least relaxation = how far the limit must give way so that every row of the element is met. Shedding "
        "instead = the most load that one of them asks for, each alone and with output lowered where that helps "
        "most, by distribution factors; – = not known, or no shedding would do."
    )
    blocks: list[Block] = [TableBlock(f"{violated(s.adjusted)}, by element", group_cells(groups[:shown]), 3, note)]
    if len(groups) > shown:
        rest = groups[shown:GROUPS_FOLDED]
        title = f"{number(len(rest))} more elements"
        left_out = len(groups) - shown - len(rest)
        note = f"{number(left_out)} elements are left out here; the file below has them." if left_out else ""
        blocks.append(TableBlock(title, group_cells(rest), 3, note, folded=True))
    worst = violation_cells(left, VIOLATIONS_SHOWN, time.label)
    traces = [of_violation(data, row) for row in left.slice(0, VIOLATIONS_SHOWN).to_pylist()]
    title = f"The {len(worst.rows)} worst violations, one by one"
    blocks.append(TableBlock(title, worst, 4, folded=True, traces=traces))
    blocks.append(_file(left, time))
    return blocks


def _file(left: pa.Table, time: TimeAxis) -> Download:
    """Pack the violations as CSV; of too many, the worst that fit."""
    rows = left.slice(0, FILE_ROWS_MAX)
    data = deflated(_csv(rows, time))
    while len(data) > FILE_BYTES_MAX:
        rows = rows.slice(0, rows.num_rows // 2)
        data = deflated(_csv(rows, time))
    kept = number(rows.num_rows)
    whole = rows.num_rows == left.num_rows
    note = (
        f"All {kept} rows."
        if whole
        else f"The {kept} worst of {number(left.num_rows)} rows; the others are left out."
    )
    if not whole:
        note += " run.violations() in Python returns all of them."
    return Download("Download violations as CSV", "violations.csv", data, note)


def _csv(rows: pa.Table, time: TimeAxis) -> bytes:
    hours, place = np.unique(rows["hour"].to_numpy(), return_inverse=True)
    stamps = np.array([time.iso(hour) for hour in hours.tolist()])[place]
    columns = {"time": pa.array(stamps), **{name: rows[name] for name in rows.column_names if name != "hour"}}
    for name in ("outage", "element", "kind"):
        columns[name] = columns[name].cast(pa.string())
    for name in ("value", "limit", "relaxation"):
        columns[name] = pc.round(columns[name], 5)
    columns["shed_mw"] = pc.round(columns["shed_mw"], 1)
    sink = pa.BufferOutputStream()
    csv.write_csv(pa.table(columns), sink)
    return bytes(sink.getvalue())


def adjustment_section(data: ReportData) -> Section:
    """What the adjustment moved, shed, curtailed, and what that cost."""
    title, short = "Adjustment of failing hours", "Adjustment"
    a = data.adjustment
    if a is None:
        return Section("adjustment", title, short, [missing("Adjustment")])
    if not a.hour.size:
        return Section("adjustment", title, short, [Paragraph("No hour had to be adjusted.")])
    time = TimeAxis(data.head.start, data.head.hours)
    blocks: list[Block] = [_adjustment_table(a)]
    for name, values, unit, colour, hover in (
        ("Power moved", a.moved_mw, "MWh", CATEGORICAL[0], ",.1f} MWh"),
        ("Infeed curtailed", a.curtailed_mw, "MWh", CATEGORICAL[5], ",.1f} MWh"),
        ("Load shed", a.shed_mw, "MWh", CATEGORICAL[3], ",.1f} MWh"),
        ("Cost of adjustment", a.cost_eur / 1e3, "k EUR", CATEGORICAL[1], ",.1f} k EUR"),
    ):
        if np.abs(values).max() < 1e-6:
            continue
        hourly = np.zeros(time.hours)
        np.add.at(hourly, a.hour, values)
        layers = [(name, colour, time.total(hourly))]
        layout: Spec = {"yaxis": axis(f"{unit} per {time.per_bin}"), "bargap": 0, "showlegend": False}
        blocks.append(Figure(name, [View("", stacked_bars(time.x, layers, hover), layout)], 240, half=True))
    return Section("adjustment", title, short, blocks)


def _adjustment_table(a: Adjustment) -> TableBlock:
    def row(name: str, chosen: IntArray) -> tuple[str, ...]:
        rounds = float(a.rounds[chosen].mean()) if chosen.size else None
        return (
            name,
            number(chosen.size),
            number(rounds, 1),
            number(float(a.moved_mw[chosen].sum()), 1),
            number(float(a.curtailed_mw[chosen].sum()), 1),
            number(float(a.shed_mw[chosen].sum()), 1),
            number(float(a.cost_eur[chosen].sum()) / 1e3, 1),
        )

    rows = tuple(
        row(name, np.flatnonzero(a.outcome == code))
        for code, name in _ADJUSTED_OUTCOME.items()
        if (a.outcome == code).any()
    )
    header = (
        "Outcome",
        "Hours",
        "Mean rounds",
        "Moved in MWh",
        "Curtailed in MWh",
        "Shed in MWh",
        "Cost in k EUR",
    )
    return TableBlock("Adjusted hours", Cells(header, rows, row("Total", np.arange(a.hour.size))))
