"""The section of a time-series power flow: loadings, voltages, losses and balance over the hours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bos_core.report.addresses import of_result
from bos_core.report.blocks import Block, Figure, Paragraph, Section, TableBlock, View, missing
from bos_core.report.charts import (
    TimeAxis,
    axis,
    fan,
    limit,
    line,
    numbers,
    ranking,
    ranking_layout,
    stacked_bars,
    with_limits,
)
from bos_core.report.data import PowerFlow, ReportData
from bos_core.report.palette import CATEGORICAL
from bos_core.report.tables import Cells, number, power_flow_cells

_CURVE_POINTS = 400

_NOTHING_MW = 1e-3


def power_flow_section(data: ReportData) -> Section:
    """Summary, duration of loading, voltage band, worst branches and buses, losses and balance."""
    title, short = "Power flow", "Power flow"
    flow = data.power_flow
    if flow is None:
        return Section("power-flow", title, short, [missing("Power flow")])
    time = TimeAxis(data.head.start, data.head.hours)
    blocks: list[Block] = [TableBlock("Summary", power_flow_cells(flow, time.label), text_columns=4)]
    if not (flow.outcome == 0).any():
        why = "No hour converged: check the slack, reactances and the balance of load and generation."
        return Section("power-flow", title, short, [*blocks, Paragraph(why, "warning")])
    if flow.outcome.size > 1:
        blocks += [_duration(flow), _voltages(flow, time), _losses(flow, time), *_balance(flow, time)]
        blocks += _limits(flow, time)
    blocks += [_worst_branches(flow), _branch_table(data, flow, time), _bus_table(data, flow, time)]
    return Section("power-flow", title, short, blocks)


def _duration(flow: PowerFlow) -> Figure:
    known = flow.loading_max[np.isfinite(flow.loading_max)]
    share = np.linspace(0, 100, min(_CURVE_POINTS, max(known.size, 2)))
    values = 100 * np.percentile(known, 100 - share) if known.size else np.full(share.size, np.nan)
    traces = [
        line({"x": numbers(share, 4)}, values, "Highest loading", CATEGORICAL[0], ".1f} %", showlegend=False)
    ]
    layout = {
        "xaxis": axis("Share of hours in %", type="linear", range=[0, 100]),
        "yaxis": axis("Highest loading in %", rangemode="tozero"),
    }
    note = "Loading of the most loaded branch of each hour, highest first."
    views = [View("", traces, with_limits(layout, [limit(100, "rating")]))]
    return Figure("Duration of the highest loading", views, 320, note, half=True)


def _voltages(flow: PowerFlow, time: TimeAxis) -> Figure:
    bands = {
        "min": time.smallest(flow.vm_min_pu),
        "p05": time.mean(flow.vm_p05_pu),
        "p50": time.mean(flow.vm_p50_pu),
        "p95": time.mean(flow.vm_p95_pu),
        "max": time.largest(flow.vm_max_pu),
    }
    marks = (
        limit(flow.vm_pu_low, f"lowest limit {flow.vm_pu_low:g}"),
        limit(flow.vm_pu_high, f"highest limit {flow.vm_pu_high:g}"),
    )
    layout = with_limits({"yaxis": axis("Voltage in p.u.")}, marks)
    note = "Median, 5 to 95 % of the buses, and the extremes; limits of single buses may be narrower."
    views = [View("", fan(time.x, bands, CATEGORICAL[0], ".4f} p.u."), layout)]
    return Figure("Voltage band over buses", views, 320, note, half=True)


def _losses(flow: PowerFlow, time: TimeAxis) -> Figure:
    traces = [line(time.x, time.mean(flow.losses_mw), "Losses", CATEGORICAL[0], ".1f} MW", showlegend=False)]
    note = "Daily means." if time.bin_h > 1 else ""
    layout = {"yaxis": axis("Losses in MW", rangemode="tozero")}
    return Figure("Network losses", [View("", traces, layout)], 300, note, half=True)


def _balance(flow: PowerFlow, time: TimeAxis) -> list[Block]:
    """What balances the hours, unless the schedule does so by itself."""
    if np.nanmax(np.abs(flow.slack_p_mw)) < _NOTHING_MW:
        return []
    low, high = time.smallest(flow.slack_p_mw), time.largest(flow.slack_p_mw)
    traces = [line(time.x, high, "Balance", CATEGORICAL[0], ".1f} MW", showlegend=False)]
    note = "What the slack, or the units that share it, add to the schedule."
    if time.bin_h > 1:
        traces.append(line(time.x, low, "Lowest of the day", CATEGORICAL[1], ".1f} MW"))
        traces[0] |= {"name": "Highest of the day", "showlegend": True}
    return [Figure("Active balance", [View("", traces, {"yaxis": axis("Power in MW")})], 300, note, half=True)]


def _limits(flow: PowerFlow, time: TimeAxis) -> list[Block]:
    """Elements beyond their limits by hour, where there are any."""
    label = "Elements" if time.bin_h == 1 else "Elements, daily mean"
    layout = {"yaxis": axis(label, rangemode="tozero"), "bargap": 0, "showlegend": False}
    views = [
        View(name, stacked_bars(time.x, [(name, colour, time.mean(values.astype(np.float64)))], ".1f}"), layout)
        for name, colour, values in (
            ("Branches above their rating", CATEGORICAL[3], flow.overloaded),
            ("Buses beyond their voltage limits", CATEGORICAL[1], flow.voltage_violations),
            ("Buses at a reactive limit", CATEGORICAL[6], flow.q_limited),
        )
        if values.any()
    ]
    return [Figure("Limits reached", views, 300, label="Limit")] if views else []


def _worst_branches(flow: PowerFlow) -> Block:
    if not flow.branches:
        return missing("Most loaded branches", "No branch has a rating.")
    names = _distinct([branch.name for branch in flow.branches])
    values = 100 * np.array([branch.loading_max for branch in flow.branches])
    layout = ranking_layout(names, "Highest loading in %")
    traces = [ranking(names, values, CATEGORICAL[0], ".1f} %")]
    return Figure("Most loaded branches", [View("", traces, layout)], 130 + 19 * len(names))


def _distinct(names: Sequence[str]) -> list[str]:
    """Two branches of one name stay two bars."""
    return [f"{name} ({names[:k].count(name) + 1})" if name in names[:k] else name for k, name in enumerate(names)]


def _branch_table(data: ReportData, flow: PowerFlow, time: TimeAxis) -> TableBlock:
    rows = tuple(
        (
            *(b.name, time.label(b.hour), number(100 * b.loading_max, 1, "%")),
            *(number(b.overload_hours), number(b.losses_mwh, 1)),
        )
        for b in flow.branches
    )
    header = ("Branch", "Hour", "Highest loading", "Hours overloaded", "Losses in MWh")
    first = data.head.first_hour
    traces = [
        of_result(data, "power_flow", "branches", "loading", hour=b.hour + first, branch=b.name)
        for b in flow.branches
    ]
    return TableBlock("Most loaded branches", Cells(header, rows), 2, folded=True, traces=traces)


def _bus_table(data: ReportData, flow: PowerFlow, time: TimeAxis) -> TableBlock:
    rows = tuple(
        (
            *(b.name, time.label(b.hour), number(b.vm_pu, 4), number(b.vm_pu_min, 3), number(b.vm_pu_max, 3)),
            number(b.violation_hours),
        )
        for b in flow.buses
    )
    header = ("Bus", "Hour", "Voltage in p.u.", "Lowest allowed", "Highest allowed", "Hours beyond")
    note = "Buses whose voltage goes farthest beyond its limits, or comes nearest to them."
    first = data.head.first_hour
    traces = [of_result(data, "power_flow", "buses", "vm_pu", hour=b.hour + first, bus=b.name) for b in flow.buses]
    return TableBlock("Voltages at their limits", Cells(header, rows), 2, note, folded=True, traces=traces)
