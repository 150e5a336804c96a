"""Pictures of what was measured: a line chart where the size grows, bars elsewhere. Plotly, drawn by Chromium."""

from __future__ import annotations

import base64
import json
import math
from typing import Any
from urllib.parse import unquote

import plotly.graph_objects as go
from frame import OURS, RESULTS, duration, times_ours
from plotly.offline import get_plotlyjs

COLOURS = {
    OURS: "#0b3c5d", "pandapower": "#d95f02", "lightsim2grid": "#1b9e77", "OpenLoadFlow": "#7570b3",
    "power-grid-model": "#999999", "pandapower OPF": "#d95f02",
}  # fmt: skip
OTHERS = ("#e7298a", "#66a61e", "#a6761d", "#e6ab02", "#386cb0")
WIDTH = 900
CHROMIUM = "/usr/bin/chromium"
LINES_FROM = 3
"""A chart with at least this many sizes becomes lines."""


def draw_all(names: list[str]) -> None:
    """Draw every benchmark that has results; one SVG each, for N-1 also its growth with the pairs."""
    figures = {}
    for name in names:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        document = json.loads(path.read_text(encoding="utf-8"))
        for panel in dict.fromkeys(row["panel"] for row in document["rows"]):
            figure = _figure(document, panel)
            if figure is not None:
                figures[f"{name}_{panel}".replace(" ", "_") if panel else name] = figure
        if document["facts"].get("growth"):
            figures[f"{name}_growth"] = _growth(document)
    for name, svg in _rendered(figures).items():
        (RESULTS / f"{name}.svg").write_text(svg, encoding="utf-8")


def _figure(document: dict[str, Any], panel: str) -> go.Figure | None:
    rows = [row for row in document["rows"] if row["panel"] == panel and row["times"]]
    if not rows:
        return None
    title = document["title"] + (f" ({panel})" if panel else "")
    if len({row["size"] for row in rows}) >= LINES_FROM and len(rows) > LINES_FROM:
        return _lines(document, rows, title)
    return _bars(rows, title)


def _colour(tool: str, tools: list[str]) -> str:
    if tools[0].startswith(OURS) and tool == tools[0]:
        return COLOURS[OURS]
    rest = [t for t in tools if t not in COLOURS]
    return COLOURS.get(tool) or OTHERS[rest.index(tool) % len(OTHERS)]


def _state(row: dict[str, Any]) -> str:
    if not row["comparable"]:
        return "another problem"
    return "" if row["agrees"] in (True, None) else "answers disagree"


def _lines(document: dict[str, Any], rows: list[dict[str, Any]], title: str) -> go.Figure:
    figure, tools = go.Figure(), list(dict.fromkeys(row["tool"] for row in rows))
    symbols = {"": "circle", "answers disagree": "x", "another problem": "circle-open"}
    for tool in tools:
        own = sorted((row for row in rows if row["tool"] == tool), key=lambda row: row["size"])
        states = [_state(row) for row in own]
        colour, dash = _colour(tool, tools), "dot" if "another problem" in states else "solid"
        figure.add_scatter(
            x=[row["size"] for row in own],
            y=[row["times"]["cpu_s"] for row in own],
            name=tool,
            mode="lines+markers",
            line={"color": colour, "width": 3 if tool == OURS else 1.8, "dash": dash},
            marker={"size": 8, "symbol": [symbols[s] for s in states]},
        )
    unit = rows[0]["unit"]
    _time_axis(figure, "yaxis", [row["times"]["cpu_s"] for row in rows], f"CPU time a {unit}")
    figure.update_xaxes(type="log", title=document["size"], tickvals=sorted({row["size"] for row in rows}),
                        ticktext=[f"{s:,.0f}" for s in sorted({row["size"] for row in rows})])  # fmt: skip
    found = {_state(row) for row in rows}
    marks = [
        text
        for key, text in (
            ("answers disagree", "x: answers disagree"),
            ("another problem", "open, dotted: another problem"),
        )
        if key in found
    ]
    return _dressed(figure, title, marks, 480)


def _bars(rows: list[dict[str, Any]], title: str) -> go.Figure:
    """Draw a bar a row under the name of its group, from the top down."""
    figure, tools = go.Figure(), list(dict.fromkeys(row["tool"] for row in rows))
    places, place = [], 0.0
    for group in dict.fromkeys(row["group"] for row in rows):
        figure.add_annotation(
            x=0, xref="paper", y=place, text=f"<b>{group}</b>", showarrow=False, xanchor="left", xshift=4
        )
        for row in (r for r in rows if r["group"] == group):
            place += 1.0
            places.append((place, row))
        place += 1.4
    values = [row["times"]["cpu_s"] for _, row in places]
    low, high = min(values) / 3, max(values) * 8
    figure.add_bar(
        y=[y for y, _ in places], x=values, orientation="h", text=[_said(row) for _, row in places], width=0.75,
        textposition="outside", cliponaxis=False,
        marker={
            "color": [_colour(row["tool"], tools) for _, row in places],
            "pattern": {"shape": ["/" if _state(row) else "" for _, row in places]},
        },
    )  # fmt: skip
    units = dict.fromkeys(row["unit"] for row in rows)
    _time_axis(figure, "xaxis", [low, high], f"CPU time a {' or '.join(units)}")
    figure.update_xaxes(range=[math.log10(low), math.log10(high)])
    figure.update_yaxes(
        tickvals=[y for y, _ in places], ticktext=[row["tool"] for _, row in places], range=[place - 0.7, -0.6],
        automargin=True, showgrid=False,
    )  # fmt: skip
    found = dict.fromkeys(_state(row) for _, row in places if _state(row))
    marks = [f"hatched: {' or '.join(found)}"] if found else []
    return _dressed(figure, title, marks, 150 + int(25 * place))


def _said(row: dict[str, Any]) -> str:
    ratio = f", {times_ours(row['ratio'])} x" if row["ratio"] else ""
    state = f", {_state(row)}" if _state(row) else ""
    return f"{duration(row['times']['cpu_s'])}{ratio}{state}"


def _growth(document: dict[str, Any]) -> go.Figure:
    points = [p for p in document["facts"]["growth"] if "cpu_s" in p]
    figure = go.Figure()
    pairs = [p["pairs"] for p in points]
    for name, key, dash in (("wall", "wall_s", "solid"), ("CPU", "cpu_s", "dot")):
        figure.add_scatter(
            x=pairs,
            y=[p[key] for p in points],
            name=name,
            mode="lines+markers",
            line={"dash": dash, "color": COLOURS[OURS]},
        )
    _time_axis(figure, "yaxis", [p["cpu_s"] for p in points] + [p["wall_s"] for p in points], "time, one process")
    peak = [f"{p['pairs']:,}<br>{p['peak_mib']:,.0f} MiB" for p in points]
    figure.update_xaxes(
        type="log",
        title="pairs of hour and outage; below: peak memory of the process",
        tickvals=pairs,
        ticktext=peak,
    )
    skipped = [f"{p['pairs']:,} pairs: {p['skipped']}" for p in document["facts"]["growth"] if "skipped" in p]
    return _dressed(figure, "N-1 with reactive limits: growth with the number of pairs", skipped, 420)


def _time_axis(figure: go.Figure, axis: str, values: list[float], title: str) -> None:
    """Make a logarithmic axis of times with readable ticks."""
    steps = [
        m * 10.0**e for e in range(-7, 5) for m in (1, 3) if min(values) / 3.2 < m * 10.0**e < max(values) * 3.2
    ]
    figure.update_layout(
        {axis: {"type": "log", "title": title, "tickvals": steps, "ticktext": [duration(s) for s in steps]}}
    )


def _dressed(figure: go.Figure, title: str, marks: list[str], height: int) -> go.Figure:
    if marks:
        figure.add_annotation(
            text="; ".join(marks), xref="paper", yref="paper", x=0, y=1.01, xanchor="left", yanchor="bottom",
            showarrow=False, font={"size": 12, "color": "#555555"},
        )  # fmt: skip
    return figure.update_layout(
        title={"text": title, "font": {"size": 16}}, template="plotly_white", width=WIDTH, height=height,
        font={"family": "Helvetica, Arial, sans-serif", "size": 13}, margin={"l": 80, "r": 40, "t": 80, "b": 60},
    )  # fmt: skip


def _rendered(figures: dict[str, go.Figure]) -> dict[str, str]:
    """Return the figures as SVG, made by Plotly in a browser without a window."""
    from playwright.sync_api import sync_playwright

    made = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_content("<html><body></body></html>")
        page.add_script_tag(content=get_plotlyjs())
        for name, figure in figures.items():
            layout = figure.layout
            size = {"format": "svg", "width": layout.width, "height": layout.height}
            uri = page.evaluate(
                "([figure, size]) => Plotly.toImage(figure, size)", [json.loads(figure.to_json()), size]
            )
            head, _, data = uri.partition(",")
            made[name] = base64.b64decode(data).decode() if head.endswith("base64") else unquote(data)
        browser.close()
    return made
