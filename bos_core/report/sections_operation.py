"""Sections about the operation of the system: dispatch, balance, costs, congestion, voltages, prices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bos_core.grid.model import FloatArray
from bos_core.report.blocks import Block, Figure, PackStore, Section, Spec, TableBlock, View, missing
from bos_core.report.charts import (
    TimeAxis,
    axis,
    fan,
    group_borders,
    heat_map,
    limit,
    line,
    numbers,
    percentile_bands,
    ranking,
    ranking_layout,
    row_groups,
    stacked,
    stacked_bars,
    with_limits,
)
from bos_core.report.data import ReportData, Schedule
from bos_core.report.palette import CATEGORICAL, TECHNOLOGY, technology_style
from bos_core.report.tables import Cells, number

TOP_BRANCHES = 20

CONGESTED_AT = 0.999
"""Share of its limit from which a branch counts as congested (a binding limit is met to solver accuracy)."""

_VARIABLE = ("wind", "solar", "pv", "run_of_river")

_CURVE_POINTS = 400

_DEVICES_DRAWN = 8

_WEEK_H = 168


def dispatch_section(data: ReportData) -> Section:
    """Dispatch by technology, load duration and residual load, energy balance."""
    time = TimeAxis(data.head.start, data.head.hours)
    s = data.schedule or Schedule()
    by_technology = _by_technology(s)
    blocks: list[Block] = []
    if by_technology:
        blocks.append(_dispatch(s, by_technology, time))
    else:
        blocks.append(missing("Dispatch by technology"))
    blocks += _duration(s, by_technology)
    blocks += _curtailment(s, time)
    if by_technology:
        blocks.append(_balance(s, by_technology, time))
    return Section("dispatch", "Dispatch and energy balance", "Dispatch", blocks)


def _by_technology(s: Schedule) -> dict[str, FloatArray]:
    """Infeed of each technology in MW, (hour,), in stacking order; storages and HVDC are not in it."""
    if s.unit_p_mw is None:
        return {}
    kinds = ["other"] * s.unit_p_mw.shape[1] if s.unit_technology is None else [str(t) for t in s.unit_technology]
    found = {}
    for technology in technology_style(kinds):
        chosen = np.array([k == technology for k in kinds])
        found[technology] = s.unit_p_mw[:, chosen].sum(axis=1)
    return found


def _dispatch(s: Schedule, by_technology: dict[str, FloatArray], time: TimeAxis) -> Figure:
    whole = "All hours" if time.bin_h == 1 else "Whole period, daily means"
    views = [View(whole, *_dispatch_view(s, by_technology, time, 0, time.hours))]
    if time.bin_h > 1 and s.load_mw is not None:
        residual = _residual(s, by_technology)
        weeks = residual[: residual.size // _WEEK_H * _WEEK_H].reshape(-1, _WEEK_H)
        for name, week in (
            ("Week with the highest residual load", int(weeks.max(axis=1).argmax())),
            ("Week with the lowest residual load", int(weeks.min(axis=1).argmin())),
        ):
            first = week * _WEEK_H
            views.append(View(f"{name}, hourly", *_dispatch_view(s, by_technology, time, first, first + _WEEK_H)))
    note = "Infeed above the load line covers losses, charging and exports over HVDC lines."
    return Figure("Dispatch by technology", views, 420, note, label="Period")


def _dispatch_view(
    s: Schedule, by_technology: dict[str, FloatArray], time: TimeAxis, first: int, last: int
) -> tuple[list[Spec], Spec]:
    hourly = (first, last) != (0, time.hours)
    x = time.span(first, last, 1) if hourly else time.x

    def shown(values: FloatArray) -> FloatArray:
        return values[first:last] if hourly else time.mean(values)

    style = technology_style(by_technology)
    layers = [(style[t][0], style[t][1], shown(np.maximum(p, 0.0)) / 1e3) for t, p in by_technology.items()]
    storage_colour = TECHNOLOGY["storage"][1]
    below = [
        (f"{style[t][0]}, drawn", style[t][1], shown(np.minimum(p, 0.0)) / 1e3) for t, p in by_technology.items()
    ]
    below = [layer for layer in below if layer[2].min() < -1e-6]
    if s.storage_p_mw is not None and s.storage_p_mw.shape[1]:
        charge = s.storage_p_mw.sum(axis=1)
        layers.append(("Storage, discharging", storage_colour, shown(np.maximum(charge, 0)) / 1e3))
        below.append(("Storage, charging", storage_colour, shown(np.minimum(charge, 0)) / 1e3))
    if s.shed_mw is not None and s.shed_mw.max(initial=0.0) > 1e-6:
        layers.append(("Load shed", "--alarm", shown(s.shed_mw) / 1e3))
    drawn = [{**trace, "showlegend": False} for trace in stacked(x, below, ".2f} GW", "below")]
    traces = stacked(x, layers, ".2f} GW") + drawn
    if s.load_mw is not None:
        traces.append(line(x, shown(s.load_mw) / 1e3, "Load", "--ink", ".2f} GW"))
    return traces, {"yaxis": axis("Power in GW"), "hovermode": "x unified"}


def _residual(s: Schedule, by_technology: dict[str, FloatArray]) -> FloatArray:
    """Load less available variable infeed, (hour,); curtailed infeed counts as available."""
    assert s.load_mw is not None
    variable = [p for t, p in by_technology.items() if t.startswith(_VARIABLE)]
    residual = s.load_mw - np.sum(variable, axis=0) if variable else s.load_mw.copy()
    return residual if s.unit_curtailed_mw is None else residual - s.unit_curtailed_mw.sum(axis=1)


def _duration(s: Schedule, by_technology: dict[str, FloatArray]) -> list[Block]:
    if s.load_mw is None:
        return [missing("Load duration curve")]
    share = np.linspace(0, 100, min(_CURVE_POINTS, s.load_mw.size))
    x = {"x": numbers(share, 4)}
    traces = [line(x, _quantiles(s.load_mw, share) / 1e3, "Load", CATEGORICAL[0], ".2f} GW")]
    if by_technology:
        residual = _quantiles(_residual(s, by_technology), share) / 1e3
        traces.append(line(x, residual, "Residual load", CATEGORICAL[1], ".2f} GW"))
    layout = {
        "xaxis": axis("Share of hours in %", type="linear", range=[0, 100]),
        "yaxis": axis("Power in GW", rangemode="tozero"),
    }
    note = "Residual load = load less available wind, sun and run-of-river infeed."
    return [Figure("Load duration curve", [View("", traces, layout)], 300, note, half=True)]


def _quantiles(values: FloatArray, share: FloatArray) -> FloatArray:
    return np.percentile(values, 100 - share)


def _curtailment(s: Schedule, time: TimeAxis) -> list[Block]:
    if s.unit_curtailed_mw is None or s.unit_technology is None:
        return [missing("Curtailment")]
    style = technology_style(str(t) for t in s.unit_technology)
    layers = []
    for technology, (label, colour) in style.items():
        total = s.unit_curtailed_mw[:, s.unit_technology == technology].sum(axis=1)
        if total.max(initial=0.0) > 1e-3:
            layers.append((label, colour, time.total(total) / 1e3))
    if not layers:
        return [missing("Curtailment", "Nothing was curtailed.")]
    layout = {"yaxis": axis(f"Curtailed energy in GWh per {time.per_bin}"), "barmode": "stack", "bargap": 0}
    traces = stacked_bars(time.x, layers, ".3f} GWh")
    return [Figure("Curtailment by technology", [View("", traces, layout)], 300, half=True)]


def _balance(s: Schedule, by_technology: dict[str, FloatArray], time: TimeAxis) -> TableBlock:
    """Energy by technology, and what balances it; the remainder is shown, not hidden."""
    load = None if s.load_mw is None else float(s.load_mw.sum())
    style = technology_style(by_technology)
    rows = []
    for technology, p in by_technology.items():
        chosen = slice(None) if s.unit_technology is None else s.unit_technology == technology
        capacity = None if s.unit_p_mw_max is None else float(s.unit_p_mw_max[chosen].sum())
        curtailed = None if s.unit_curtailed_mw is None else float(s.unit_curtailed_mw[:, chosen].sum())
        rows.append(_balance_row(style[technology][0], p, load, time.hours, capacity, curtailed))
    supply = float(np.sum([p.sum() for p in by_technology.values()]))
    rest: list[tuple[str, float, float]] = []
    if s.storage_p_mw is not None and s.storage_p_mw.shape[1]:
        rest.append(("Storage, net", float(np.nansum(s.storage_p_mw)), 1.0))
    if s.shed_mw is not None:
        rest.append(("Load shed", float(np.nansum(s.shed_mw)), 1.0))
    if load is not None:
        rest.append(("Load", load, -1.0))
    if s.losses_mw is not None:
        rest.append(("Network losses", float(np.nansum(s.losses_mw)), -1.0))
    for name, energy, sign in rest:
        share = None if not load else 100 * energy / load
        rows.append((name, number(sign * energy / 1e3, 1), number(share, 1, "%"), "", "", ""))
    total = None
    if load is not None and s.losses_mw is not None:
        remainder = supply + sum(sign * energy for _, energy, sign in rest)
        share = 100 * remainder / load if load else None
        total = ("Remainder", number(remainder / 1e3, 1), number(share, 2, "%"), "", "", "")
    header = ("", "Energy in GWh", "Share of load", "Capacity in MW", "Capacity factor", "Curtailed in GWh")
    note = "Supply positive, use negative. The remainder holds HVDC losses and what the steps round."
    return TableBlock("Energy balance", Cells(header, tuple(rows), total), note=note)


def _balance_row(
    label: str, p: FloatArray, load: float | None, hours: int, capacity: float | None, curtailed: float | None
) -> tuple[str, ...]:
    energy = float(p.sum())
    return (
        label,
        number(energy / 1e3, 1),
        number(100 * energy / load, 1, "%") if load else "",
        number(capacity),
        number(100 * energy / (capacity * hours), 1, "%") if capacity else "",
        number(curtailed / 1e3, 2) if curtailed else "",
    )


def costs_section(data: ReportData) -> Section:
    """Costs by kind, and prices."""
    time = TimeAxis(data.head.start, data.head.hours)
    s = data.schedule or Schedule()
    blocks: list[Block] = []
    if s.cost_eur:
        kinds = [(kind, values) for kind, values in s.cost_eur.items() if np.abs(values).sum() > 0]
        layers = [
            (kind.capitalize(), CATEGORICAL[i % len(CATEGORICAL)], time.total(values) / 1e3)
            for i, (kind, values) in enumerate(kinds)
        ]
        layout = {"yaxis": axis(f"Cost in k EUR per {time.per_bin}"), "barmode": "relative", "bargap": 0}
        traces = stacked_bars(time.x, layers, ",.1f} k EUR")
        blocks.append(Figure("Operating cost by kind", [View("", traces, layout)], 320))
        blocks.append(_cost_table(s))
    else:
        blocks.append(missing("Costs by kind"))
    blocks += _prices(s, time)
    return Section("costs", "Costs and prices", "Costs", blocks)


def _cost_table(s: Schedule) -> TableBlock:
    assert s.cost_eur is not None
    total = float(sum(values.sum() for values in s.cost_eur.values()))
    energy = float(s.load_mw.sum()) if s.load_mw is not None else 0.0

    def row(kind: str, cost: float) -> tuple[str, ...]:
        share = number(100 * cost / total, 1, "%") if total else ""
        return (kind.capitalize(), number(cost / 1e3, 1), share, number(cost / energy, 2) if energy else "")

    rows = tuple(row(kind, float(values.sum())) for kind, values in s.cost_eur.items())
    header = ("Kind", "Cost in k EUR", "Share", "EUR per MWh of load")
    note = ""
    if "adjustment" in s.cost_eur:
        note = (
            "Adjustment = what the adjusted hours cost more; the other kinds are those of the schedule before it."
        )
    return TableBlock("Operating cost", Cells(header, rows, row("total", total)), note=note)


def _prices(s: Schedule, time: TimeAxis) -> list[Block]:
    if s.lmp_eur_per_mwh is None or not s.lmp_eur_per_mwh.size:
        return [missing("Nodal prices")]
    bands = percentile_bands(s.lmp_eur_per_mwh, time)
    layout = {"yaxis": axis("Nodal price in EUR/MWh")}
    note = "Median, 5 to 95 % of the buses, and the extremes. A spread over the buses is congestion."
    spread = np.ptp(s.lmp_eur_per_mwh, axis=1)
    share = np.linspace(0, 100, min(_CURVE_POINTS, spread.size))
    x = {"x": numbers(share, 4)}
    curves = [
        line(x, _quantiles(s.lmp_eur_per_mwh.mean(axis=1), share), "Mean price", CATEGORICAL[0], ".2f} EUR/MWh"),
        line(x, _quantiles(spread, share), "Spread over buses", CATEGORICAL[1], ".2f} EUR/MWh"),
    ]
    curve_layout = {
        "xaxis": axis("Share of hours in %", type="linear", range=[0, 100]),
        "yaxis": axis("EUR/MWh"),
    }
    return [
        Figure(
            "Nodal prices over buses",
            [View("", fan(time.x, bands, CATEGORICAL[0], ".2f} EUR/MWh"), layout)],
            300,
            note,
            half=True,
        ),
        Figure("Duration of prices", [View("", curves, curve_layout)], 300, half=True),
    ]


def network_use_section(data: ReportData) -> Section:
    """Congestion, losses and the voltage profile."""
    time = TimeAxis(data.head.start, data.head.hours)
    s = data.schedule or Schedule()
    blocks = [*_congestion(s), *_voltage_profile(s, time), *_losses(s, time)]
    return Section("use", "Congestion, voltages and losses", "Congestion, voltage", blocks)


def _congestion(s: Schedule) -> list[Block]:
    if s.branch_loading is None or s.branch_name is None:
        return [missing("Congestion hours")]
    ceiling = np.ones(s.branch_name.size) if s.branch_loading_max is None else s.branch_loading_max
    hours = np.nansum(s.branch_loading >= CONGESTED_AT * ceiling, axis=0).astype(float)
    after = (
        np.zeros_like(hours) if s.branch_overload_hours_n1 is None else s.branch_overload_hours_n1.astype(float)
    )
    worst = np.nanmax(np.nan_to_num(s.branch_loading, nan=0.0), axis=0)
    order = np.lexsort((-worst, -after, -hours))[:TOP_BRANCHES]
    order = order[(hours + after)[order] > 0]
    note = f"A branch is congested in an hour when its loading reaches {100 * CONGESTED_AT:g} % of its limit."
    if not order.size:
        top = np.argsort(-worst, kind="stable")[:TOP_BRANCHES]
        names = _unique([str(n) for n in s.branch_name[top]])
        traces = [ranking(names, 100 * worst[top], CATEGORICAL[0], ".1f} %")]
        layout = ranking_layout(names, "Highest loading in %")
        return [Figure("Highest loading (no branch is congested)", [View("", traces, layout)], 420, note)]
    names = _unique([str(n) for n in s.branch_name[order]])
    base = ranking(names, hours[order], CATEGORICAL[0], ".0f} h", "Base case")
    layout = {**ranking_layout(names, "Congestion in h"), "barmode": "group"}
    traces = [base]
    if after.any():
        # horizontal groups are drawn from the bottom, so the first of the legend comes last
        traces = [ranking(names, after[order], CATEGORICAL[1], ".0f} h", "After a contingency"), base]
        layout |= {"showlegend": True, "legend": {"traceorder": "reversed"}}
    title = f"Congestion hours by branch: the {order.size} most congested"
    height = 130 + (26 if after.any() else 19) * order.size
    return [Figure(title, [View("", traces, layout)], height, note)]


def _unique(names: Sequence[str]) -> list[str]:
    """Names made distinct, so that two branches of one name stay two bars."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _voltage_profile(s: Schedule, time: TimeAxis) -> list[Block]:
    if s.bus_vm_pu is None:
        return [missing("Voltage profile")]
    groups: list[tuple[str, np.ndarray]] = [("All buses", np.arange(s.bus_vm_pu.shape[1]))]
    if s.bus_base_kv is not None and np.unique(s.bus_base_kv).size > 1:
        kv = s.bus_base_kv
        groups += [(f"{v:g} kV", np.flatnonzero(kv == v)) for v in np.unique(kv)[::-1] if (kv == v).sum() > 1]
    views = []
    for label, buses in groups[:8]:
        bands = percentile_bands(s.bus_vm_pu[:, buses], time)
        layout: Spec = {"yaxis": axis("Voltage in p.u.")}
        if s.bus_vm_pu_min is not None and s.bus_vm_pu_max is not None:
            low, high = float(s.bus_vm_pu_min[buses].min()), float(s.bus_vm_pu_max[buses].max())
            layout = with_limits(layout, (limit(low, f"lowest {low:g}"), limit(high, f"highest {high:g}")))
        views.append(View(label, fan(time.x, bands, CATEGORICAL[0], ".4f} p.u."), layout))
    note = "Median, 5 to 95 % of the buses, and the extremes; base case."
    return [Figure("Voltage profile over buses", views, 320, note, half=True, label="Level")]


def _losses(s: Schedule, time: TimeAxis) -> list[Block]:
    if s.losses_mw is None:
        return [missing("Network losses")]
    traces = [line(time.x, time.mean(s.losses_mw), "Losses", CATEGORICAL[0], ".1f} MW", showlegend=False)]
    layout = {"yaxis": axis("Losses in MW", rangemode="tozero")}
    note = "Daily means." if time.bin_h > 1 else ""
    return [Figure("Network losses", [View("", traces, layout)], 320, note, half=True)]


def commitment_section(data: ReportData, store: PackStore) -> Section:
    """Commitment map, reserve, storage and HVDC."""
    time = TimeAxis(data.head.start, data.head.hours)
    s = data.schedule or Schedule()
    blocks = [*_commitment(s, time, store), *_reserve(s, time), *_storage(s, time), *_hvdc(s, time)]
    return Section("commitment", "Commitment, reserve, storage and HVDC", "Commitment", blocks)


def _commitment(s: Schedule, time: TimeAxis, store: PackStore) -> list[Block]:
    if s.unit_on is None or s.unit_name is None:
        return [missing("Commitment")]
    chosen = np.arange(s.unit_name.size) if s.unit_committable is None else np.flatnonzero(s.unit_committable)
    if not chosen.size:
        return [missing("Commitment", "No unit has an on/off decision.")]
    kinds = ["other"] * s.unit_name.size if s.unit_technology is None else [str(t) for t in s.unit_technology]
    style = technology_style(kinds[u] for u in chosen)
    rank = {t: i for i, t in enumerate(style)}
    on_hours = s.unit_on[:, chosen].sum(axis=0)
    order = chosen[np.lexsort((-on_hours, [rank[kinds[u]] for u in chosen]))]
    groups = [style[kinds[u]][0] for u in order]
    on = s.unit_on[:, order].astype(float)
    names = [f"Unit {s.unit_name[u]}" for u in order]
    trace = heat_map(
        store.add(100 * time.mean(on).T, 0.5), time.x, names, "% of the time on", ".0f} % of the time on"
    )
    trace |= {"zmin": 0, "zmax": 100, "showscale": time.bin_h > 1}
    layout = {"yaxis": row_groups(groups), "shapes": group_borders(groups), "hovermode": "closest"}
    note = (
        "Light: off, dark: on (on a dark page the other way round)."
        if time.bin_h == 1
        else "Share of each day on."
    )
    height = int(np.clip(120 + 3.2 * len(order), 240, 560))
    return [
        Figure("Commitment of units", [View("", [trace], layout)], height, note),
        _commitment_table(s, order, groups, time),
    ]


def _commitment_table(s: Schedule, order: np.ndarray, groups: list[str], time: TimeAxis) -> TableBlock:
    assert s.unit_on is not None
    on = s.unit_on[:, order]
    starts = (on[1:] & ~on[:-1]).sum(axis=0)
    rows = []
    for label in dict.fromkeys(groups):
        chosen = np.array([g == label for g in groups])
        capacity = None if s.unit_p_mw_max is None else float(s.unit_p_mw_max[order[chosen]].sum())
        share = 100 * float(on[:, chosen].mean())
        total = int(starts[chosen].sum())
        count = int(chosen.sum())
        rows.append(
            (
                label,
                number(count),
                number(capacity),
                number(share, 1, "%"),
                number(total),
                number(total / count, 1),
            )
        )
    header = ("Technology", "Units", "Capacity in MW", "Time on", "Starts", "Starts a unit")
    return TableBlock("Commitment by technology", Cells(header, tuple(rows)))


def _reserve(s: Schedule, time: TimeAxis) -> list[Block]:
    blocks: list[Block] = []
    for name, held, required in (
        ("Positive", s.reserve_up_mw, s.reserve_up_required_mw),
        ("Negative", s.reserve_down_mw, s.reserve_down_required_mw),
    ):
        if held is None:
            blocks.append(missing(f"{name} reserve"))
            continue
        hour = time.scarcest(held if required is None else held - required)
        traces = [line(time.x, held[hour], "held", CATEGORICAL[0], ",.0f} MW")]
        note = "The hour of each day with the least margin." if time.bin_h > 1 else ""
        if required is not None:
            dashed = {"color": "--limit", "width": 1.4, "dash": "dash"}
            traces.append(line(time.x, required[hour], "required", "--limit", ",.0f} MW", line=dashed))
            short = int((held < required - 1e-3).sum())
            note = f"Short in {number(short)} of {number(time.hours)} hours. {note}".strip()
        layout = {"yaxis": axis("Reserve in MW", rangemode="tozero")}
        blocks.append(Figure(f"{name} spinning reserve", [View("", traces, layout)], 280, note, half=True))
    return blocks


def _storage(s: Schedule, time: TimeAxis) -> list[Block]:
    if s.storage_p_mw is None or s.storage_name is None:
        return [missing("Storage")]
    if not s.storage_name.size:
        return [missing("Storage", "The network has none.")]
    names = [str(n) for n in s.storage_name]
    blocks: list[Block] = [_storage_power(s.storage_p_mw, names, time)]
    if s.storage_energy_mwh is not None:
        note = "At the end of each day." if time.bin_h > 1 else ""
        energy = time.last(s.storage_energy_mwh)
        blocks.append(_devices("Storage energy", "Energy stored in MWh", energy, names, time, ",.1f} MWh", note))
    return blocks


def _storage_power(p_mw: FloatArray, names: list[str], time: TimeAxis) -> Figure:
    """Power by hour; for a longer run the energy of each day, as a daily mean of cycling storages is nothing."""
    if time.bin_h == 1:
        return _devices("Storage power", "Power in MW", p_mw, names, time, ",.1f} MW", "Positive: discharging.")
    largest = np.sort(np.argsort(-np.abs(p_mw).sum(axis=0), kind="stable")[:_DEVICES_DRAWN])
    layout = {"yaxis": axis("Energy in GWh per day"), "barmode": "relative", "bargap": 0}
    views = []
    for label, source in [("All", p_mw), *((names[d], p_mw[:, [d]]) for d in largest)]:
        layers = [
            ("Discharged", CATEGORICAL[2], time.total(np.maximum(source, 0.0).sum(axis=1)) / 1e3),
            ("Charged", CATEGORICAL[1], time.total(np.minimum(source, 0.0).sum(axis=1)) / 1e3),
        ]
        views.append(View(label, stacked_bars(time.x, layers, ",.3f} GWh"), layout))
    return Figure("Storage, charged and discharged", views, 300, half=True, label="Storage")


def _hvdc(s: Schedule, time: TimeAxis) -> list[Block]:
    if s.hvdc_p_mw is None or s.hvdc_name is None:
        return [missing("HVDC")]
    if not s.hvdc_name.size:
        return [missing("HVDC", "The network has none.")]
    names = [str(n) for n in s.hvdc_name]
    note = "Sent from the from end." + (" Daily means." if time.bin_h > 1 else "")
    return [_devices("HVDC lines", "Power in MW", time.mean(s.hvdc_p_mw), names, time, ",.1f} MW", note)]


def _devices(
    title: str, quantity: str, binned: FloatArray, names: list[str], time: TimeAxis, hover: str, note: str
) -> Figure:
    """Curves of a few devices, (bin, device); with many, of the largest; and their sum as a further view."""
    largest = np.sort(np.argsort(-np.abs(binned).max(axis=0), kind="stable")[:_DEVICES_DRAWN])
    traces = [
        line(time.x, binned[:, d], names[d], CATEGORICAL[i % len(CATEGORICAL)], hover)
        for i, d in enumerate(largest)
    ]
    layout = {"yaxis": axis(quantity)}
    views = [View("Each" if len(names) <= _DEVICES_DRAWN else f"Largest {_DEVICES_DRAWN}", traces, layout)]
    if len(names) > 1:
        views.append(View("Sum", [line(time.x, binned.sum(axis=1), "Sum", CATEGORICAL[0], hover)], layout))
    return Figure(title, views, 300, note, half=True)
