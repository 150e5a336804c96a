"""Sections about the run as a whole: head, Table 6, network map, provenance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray
from bos_core.report.blocks import Block, Figure, Paragraph, Section, Spec, TableBlock, View, missing
from bos_core.report.charts import axis
from bos_core.report.data import KeyFigures, Network, ReportData, Unfinished
from bos_core.report.layout import Layout, place
from bos_core.report.palette import LOADING_CLASS, VOLTAGE_LEVEL
from bos_core.report.tables import TABLE6_NOTE, Cells, duration, number, table6_cells

UNFINISHED_SHOWN = 50


def key_figures(figures: KeyFigures) -> list[tuple[str, str, str]]:
    """Return (label, value, remark) of the figures that are known."""
    f = figures
    cards: list[tuple[str, str, str]] = []

    def card(label: str, value: float | None, text: str, remark: str = "") -> None:
        if value is not None:
            cards.append((label, text, remark))

    card("Operating cost", f.cost_eur, _money(f.cost_eur), _per(f.cost_eur, f.load_mwh, "EUR/MWh"))
    card("Load", f.load_mwh, _energy(f.load_mwh))
    share = None if f.renewable_share is None else 100 * f.renewable_share
    card("Renewables", share, number(share, 1, "%"), "of the load")
    card("CO₂", f.co2_t, _mass(f.co2_t), _per(f.co2_t, f.load_mwh, "t/MWh", 3))
    card("Curtailment", f.curtailed_mwh, _energy(f.curtailed_mwh))
    card("Load shed", f.shed_mwh, _energy(f.shed_mwh))
    losses = f.losses_mwh
    card("Network losses", losses, _energy(losses), _share(losses, f.load_mwh, "of the load"))
    card("N-1 pairs verified", f.pairs_verified, number(f.pairs_verified), _classes(f))
    card("Violations before", f.violations_before, number(f.violations_before), "pairs, before adjustment")
    after = _share(f.violations_after, f.pairs_verified, "of all pairs") if f.violations_after else "none left"
    card("Violations after", f.violations_after, number(f.violations_after), after)
    card("Hours adjusted", f.hours_adjusted, number(f.hours_adjusted))
    card("Computing time", f.wall_s, duration(f.wall_s))
    card("Peak memory", f.memory_gib, number(f.memory_gib, 2, "GiB"), "of one process")
    return cards


def _money(value: float | None) -> str:
    if value is None:
        return number(None)
    return number(value / 1e6, 2, "M EUR") if abs(value) >= 1e6 else number(value / 1e3, 1, "k EUR")


def _energy(value: float | None) -> str:
    if value is None:
        return number(None)
    if abs(value) >= 1e6:
        return number(value / 1e6, 2, "TWh")
    return number(value / 1e3, 1, "GWh") if abs(value) >= 1e3 else number(value, 1, "MWh")


def _mass(value: float | None) -> str:
    if value is None:
        return number(None)
    return number(value / 1e6, 2, "Mt") if abs(value) >= 1e6 else number(value / 1e3, 1, "kt")


def _per(value: float | None, base: float | None, unit: str, digits: int = 2) -> str:
    return number(value / base, digits, unit) if value is not None and base else ""


def _share(value: float | None, base: float | None, what: str) -> str:
    return f"{number(100 * value / base, 2, '%')} {what}" if value is not None and base else ""


def _classes(f: KeyFigures) -> str:
    parts = (("converged", f.pairs_converged), ("islanded", f.pairs_islanded), ("diverged", f.pairs_diverged))
    return ", ".join(f"{number(count)} {name}" for name, count in parts if count is not None)


def table6_section(data: ReportData) -> Section:
    """Table 6 in the paper's form."""
    if not data.table6:
        blocks: list[Block] = [missing("Table 6", "No stage has been timed.")]
    else:
        note = f"{TABLE6_NOTE} Peak memory is that of one process."
        blocks = [TableBlock("", table6_cells(data.table6), note=note)]
    return Section("table6", "Computing effort by stage (Table 6)", "Table 6", blocks)


def network_section(data: ReportData) -> Section:
    """Map of the network with the loading of chosen snapshots."""
    title, short = "Network", "Network"
    if data.network is None or data.network.bus_name.size == 0:
        return Section("network", title, short, [missing("Network map")])
    network = data.network
    layout = place(network)
    views = [
        View(str(name), _map(network, layout, network.loading[i], network.vm_pu[i]), _map_layout(layout))
        for i, name in enumerate(network.snapshot_title)
    ]
    none = np.full(network.branch_name.size, np.nan)
    views.append(
        View(
            "Voltage levels",
            _map(network, layout, none, np.full(network.bus_name.size, np.nan)),
            _map_layout(layout),
        )
    )
    notes = ["Lines by base-case loading, buses by voltage level; wider lines have the higher voltage."]
    if not layout.geographic:
        notes.append("The buses have no coordinates: this is a schematic of the topology without scale.")
    left_out = int(np.isnan(layout.x).sum())
    if left_out:
        notes.append(f"{left_out} buses without coordinates are not drawn.")
    if network.is_fictitious.any():
        notes.append(f"{int(network.is_fictitious.sum())} fictitious branches of the equivalent are not drawn.")
    figure = Figure("Network map", views, 640, " ".join(notes), label="Snapshot")
    return Section("network", title, short, [figure])


def _map(network: Network, layout: Layout, loading: FloatArray, vm_pu: FloatArray) -> list[Spec]:
    real = ~network.is_fictitious
    by_loading = np.isfinite(loading).any()
    traces: list[Spec] = []
    level = np.maximum(network.base_kv[network.from_bus], network.base_kv[network.to_bus])
    wide = level >= VOLTAGE_LEVEL[0][0]
    if by_loading:
        low = 0.0
        traces += _branches(network, layout, real & ~np.isfinite(loading), wide, "--faint", "unrated")
        for high, colour, label in LOADING_CLASS:
            chosen = real & (loading >= low) & (loading < high)
            traces += _branches(network, layout, chosen, wide, colour, label)
            low = high
    else:
        for (lowest, colour, label), highest in zip(VOLTAGE_LEVEL, (np.inf, 300.0, 200.0), strict=True):
            chosen = real & (level >= lowest) & (level < highest)
            traces += _branches(network, layout, chosen, wide, colour, label)
    traces.append(_branch_hover(network, layout, loading, real))
    traces += _buses(network, layout, vm_pu)
    return traces


def _branches(
    network: Network, layout: Layout, chosen: BoolArray, wide: BoolArray, colour: str, label: str
) -> list[Spec]:
    traces: list[Spec] = []
    for heavy in (False, True):
        rows = np.flatnonzero(chosen & (wide == heavy))
        f, t = network.from_bus[rows], network.to_bus[rows]
        gap = np.full(rows.size, np.nan)
        x = np.stack([layout.x[f], layout.x[t], gap], axis=1).ravel()
        y = np.stack([layout.y[f], layout.y[t], gap], axis=1).ravel()
        if rows.size:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": label,
                    "legendgroup": label,
                    "showlegend": not traces,
                    "x": _coordinates(x),
                    "y": _coordinates(y),
                    "line": {"color": colour, "width": 2.4 if heavy else 1.3},
                    "hoverinfo": "skip",
                }
            )
    return traces


def _branch_hover(network: Network, layout: Layout, loading: FloatArray, real: BoolArray) -> Spec:
    rows = np.flatnonzero(real)
    f, t = network.from_bus[rows], network.to_bus[rows]
    text = []
    for row in rows:
        kind = "Transformer" if network.is_transformer[row] else "Line"
        load = f"<br>loading {100 * loading[row]:.1f} %" if np.isfinite(loading[row]) else ""
        text.append(f"{kind} {network.branch_name[row]}{load}")
    return {
        "type": "scatter",
        "mode": "markers",
        "x": _coordinates((layout.x[f] + layout.x[t]) / 2),
        "y": _coordinates((layout.y[f] + layout.y[t]) / 2),
        "text": text,
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"size": 9, "color": "rgba(0,0,0,0)"},
        "showlegend": False,
    }


def _buses(network: Network, layout: Layout, vm_pu: FloatArray) -> list[Spec]:
    traces: list[Spec] = []
    for (low, colour, label), high in zip(VOLTAGE_LEVEL, (np.inf, 300.0, 200.0), strict=True):
        rows = np.flatnonzero((network.base_kv >= low) & (network.base_kv < high))
        if not rows.size:
            continue
        text = [
            f"Bus {network.bus_name[b]}<br>{network.base_kv[b]:g} kV"
            + (f"<br>{vm_pu[b]:.4f} p.u." if np.isfinite(vm_pu[b]) else "")
            for b in rows
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"bus {label}",
                "x": _coordinates(layout.x[rows]),
                "y": _coordinates(layout.y[rows]),
                "text": text,
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {"size": 5 if low else 3.5, "color": colour, "line": {"color": "--page", "width": 0.8}},
            }
        )
    return traces


def _coordinates(values: FloatArray) -> list[float | None]:
    return [round(float(v), 4) if np.isfinite(v) else None for v in values]


def _map_layout(layout: Layout) -> Spec:
    blank = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": "", "showline": False}
    return {
        "xaxis": {**axis(""), **blank},
        "yaxis": {**axis(""), **blank, "scaleanchor": "x", "scaleratio": layout.aspect},
        "hovermode": "closest",
        "dragmode": "pan",
        "margin": {"l": 4, "r": 4, "t": 44, "b": 4},
        "legend": {"itemsizing": "constant"},
    }


def _unfinished(tasks: Sequence[Unfinished]) -> TableBlock:
    shown = tasks[:UNFINISHED_SHOWN]
    rows = tuple((t.step, t.part, t.state, t.message, t.log, number(t.attempts)) for t in shown)
    header = ("Step", "Part", "State", "Message", "End of its log", "Attempts")
    more = len(tasks) - len(shown)
    note = "The results of all other tasks are in this report and stay when the run is resumed."
    note += f" {number(more)} more are not shown." if more else ""
    return TableBlock("Tasks without a result", Cells(header, rows), 5, note)


def provenance_section(data: ReportData) -> Section:
    """Where every number comes from: tasks, programs, scenario versions."""
    blocks: list[Block] = []
    if data.provenance:
        header = (
            *("Step", "Program", "Scenario in", "Scenario out"),
            *("Tasks", "Succeeded", "Failed", "Retried", "Subtasks"),
        )
        rows = tuple(
            (
                *(p.step, p.program, p.scenario_in, p.scenario_out),
                *(number(n) for n in (p.tasks, p.succeeded, p.failed, p.retried, p.subtasks)),
            )
            for p in data.provenance
        )
        blocks.append(TableBlock("Steps", Cells(header, rows), 4))
    if data.programs:
        rows = tuple((p.step, p.slot, p.name, p.version, p.digest) for p in data.programs)
        blocks.append(TableBlock("Programs", Cells(("Step", "Slot", "Program", "Version", "Digest"), rows), 5))
    if data.unfinished:
        blocks.append(_unfinished(data.unfinished))
    if not blocks:
        blocks.append(missing("Provenance"))
    trace = f"Trace id {data.head.trace_id}" + (f", run {data.head.run_id}" if data.head.run_id else "") + "."
    how = (
        "A value of an hour and element leads to the task, program and scenario versions that made it: click a "
        "point of a curve, or a row of worst branches, pairs or violations, for the command. Totals are sums over "
        f"such values of this run; bos trace {data.head.trace_id[:8]} shows where all of them come from."
    )
    return Section("provenance", "Provenance", "Provenance", [Paragraph(trace), Paragraph(how), *blocks])
