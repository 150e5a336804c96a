"""Plotly specs of the chart kinds that the report uses, and the time axis they share."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import FloatArray, IntArray
from bos_core.report.blocks import Spec

_NOTHING = 1e-9
"""Values below are the rounding of a zero and drawn as such."""

HOURS_SHOWN_MAX = 1000
"""Up to so many hours are drawn one by one; more are binned by day."""


@dataclass(frozen=True)
class TimeAxis:
    """Hours of the report, and bins of them for charts that do not draw every hour."""

    start: str
    hours: int

    @property
    def bin_h(self) -> int:
        """Hours in a bin."""
        return 1 if self.hours <= HOURS_SHOWN_MAX else 24

    @property
    def leap_hour(self) -> int | None:
        """Hour that would begin 29 February, which the plan year does not have; None if it is not crossed."""
        first = dt.datetime.fromisoformat(self.start)
        for year in (first.year, first.year + 1):
            if calendar.isleap(year) and first < dt.datetime(year, 2, 29):
                hour = int((dt.datetime(year, 2, 29) - first).total_seconds() // 3600)
                return hour if hour < self.hours else None
        return None

    @property
    def x(self) -> Spec:
        """Where the bins of a trace lie."""
        return self.span(0, self.hours)

    def span(self, first: int, last: int, step_h: int | None = None) -> Spec:
        """Where bins of `step_h` hours from hour `first` to before `last` lie; the page expands it to dates."""
        step = step_h or self.bin_h
        return {"x": {"first": first, "step": step, "count": -(-(last - first) // step)}}

    @property
    def per_bin(self) -> str:
        """``"hour"`` or ``"day"``."""
        return "hour" if self.bin_h == 1 else "day"

    def date(self, hour: int) -> dt.datetime:
        """Date and time of an hour; 29 February is skipped."""
        leap = self.leap_hour
        skipped = 24 if leap is not None and hour >= leap else 0
        return dt.datetime.fromisoformat(self.start) + dt.timedelta(hours=hour + skipped)

    def iso(self, hour: int) -> str:
        """The same as ISO 8601, to the minute."""
        return self.date(hour).isoformat(timespec="minutes")

    def label(self, hour: int) -> str:
        """Date and time of an hour for people."""
        return self.iso(hour).replace("T", " ")

    def mean(self, values: FloatArray) -> FloatArray:
        """Mean over each bin, along the first axis."""
        return self.total(values) / self._sizes(values.ndim)

    def total(self, values: FloatArray) -> FloatArray:
        """Sum over each bin, along the first axis."""
        return np.add.reduceat(np.asarray(values, float), self._edges(), axis=0)

    def largest(self, values: FloatArray) -> FloatArray:
        """Largest value in each bin that is not NaN, along the first axis."""
        return np.asarray(np.fmax.reduceat(np.asarray(values, float), self._edges(), axis=0))

    def smallest(self, values: FloatArray) -> FloatArray:
        """Smallest value in each bin that is not NaN, along the first axis."""
        return np.asarray(np.fmin.reduceat(np.asarray(values, float), self._edges(), axis=0))

    def last(self, values: FloatArray) -> FloatArray:
        """Value of the last hour of each bin, along the first axis."""
        return np.asarray(values[np.append(self._edges()[1:], self.hours) - 1], float)

    def scarcest(self, margin: FloatArray) -> IntArray:
        """Hour of each bin in which a margin, (hour,), is smallest; NaN counts as ample."""
        ample = np.where(np.isnan(margin), np.inf, margin)
        return np.array([e + int(ample[e : e + self.bin_h].argmin()) for e in self._edges()], np.int64)

    def farthest(self, values: FloatArray, centre: float) -> FloatArray:
        """Value of each bin that lies farthest from `centre`, along the first axis."""
        high, low = self.largest(values), self.smallest(values)
        return np.asarray(np.where(high - centre >= centre - low, high, low))

    def _edges(self) -> np.ndarray:
        return np.arange(0, self.hours, self.bin_h)

    def _sizes(self, axes: int) -> FloatArray:
        sizes = np.diff(np.append(self._edges(), self.hours)).astype(float)
        return sizes.reshape(-1, *([1] * (axes - 1)))


def numbers(values: FloatArray, significant: int = 5) -> list[float | None]:
    """Return values as JSON numbers, rounded; None for NaN."""
    known = np.where(np.abs(values) < _NOTHING, 0.0, np.asarray(values, float))
    return [float(f"{v:.{significant}g}") if np.isfinite(v) else None for v in known]


def axis(title: str, **more: object) -> Spec:
    """An axis with its title (quantity and unit)."""
    return {"title": {"text": title}, **more}


def line(x: Spec, values: FloatArray, name: str, colour: str, hover: str, **more: object) -> Spec:
    """A line; `hover` is the format of a value, e.g. ``".0f} MW"`` less the leading brace."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        **x,
        "y": numbers(values),
        "line": {"color": colour, "width": 1.6},
        "hovertemplate": f"{name}: %{{y:{hover}<extra></extra>",
        **more,
    }


def limit(value: float, name: str, axis_reference: str = "y") -> tuple[Spec, Spec]:
    """A dashed line at a limit, over the whole width, and its label: (shape, annotation)."""
    shape = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "yref": axis_reference,
        "y0": value,
        "y1": value,
        "line": {"color": "--limit", "width": 1.2, "dash": "dash"},
    }
    label = {
        "xref": "paper",
        "x": 1,
        "xanchor": "right",
        "yref": axis_reference,
        "y": value,
        "yanchor": "bottom",
        "text": name,
        "showarrow": False,
        "font": {"size": 11, "color": "--limit"},
    }
    return shape, label


def with_limits(layout: Spec, limits: Sequence[tuple[Spec, Spec]]) -> Spec:
    """Add limits to a layout."""
    return {**layout, "shapes": [s for s, _ in limits], "annotations": [a for _, a in limits]}


def stacked(x: Spec, layers: Sequence[tuple[str, str, FloatArray]], hover: str, group: str = "all") -> list[Spec]:
    """Stacked areas from (label, colour, values), bottom first."""
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": label,
            "stackgroup": group,
            **x,
            "y": numbers(values),
            "line": {"width": 0, "color": colour},
            "fillcolor": colour,
            "hovertemplate": f"{label}: %{{y:{hover}<extra></extra>",
        }
        for label, colour, values in layers
    ]


def stacked_bars(x: Spec, layers: Sequence[tuple[str, str, FloatArray]], hover: str) -> list[Spec]:
    """Stacked bars from (label, colour, values), bottom first."""
    return [
        {
            "type": "bar",
            "name": label,
            **x,
            "y": numbers(values),
            "marker": {"color": colour, "line": {"width": 0}},
            "hovertemplate": f"{label}: %{{y:{hover}<extra></extra>",
        }
        for label, colour, values in layers
    ]


def ranking(names: Sequence[str], values: FloatArray, colour: str, hover: str, name: str = "") -> Spec:
    """Horizontal bars, the first on top."""
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": list(names)[::-1],
        "x": numbers(values)[::-1],
        "marker": {"color": colour},
        "hovertemplate": f"%{{y}}: %{{x:{hover}<extra></extra>",
    }


def ranking_layout(names: Sequence[str], title: str) -> Spec:
    """Layout of a ranking; labels are categories even where they look like numbers."""
    return {
        "yaxis": {"type": "category", "automargin": True, "showgrid": False, "tickfont": {"size": 11}},
        "xaxis": axis(title, rangemode="tozero"),
        "hovermode": "closest",
        "showlegend": False,
        "bargap": 0.3,
    }


def fan(x: Spec, bands: Mapping[str, FloatArray], colour: str, hover: str) -> list[Spec]:
    """A fan of percentiles: ``min``, ``p05``, ``p50``, ``p95``, ``max``, each of shape (bin,)."""

    def edge(key: str, name: str, **more: object) -> Spec:
        return line(x, bands[key], name, colour, hover, **{"showlegend": False, "line": {"width": 0}, **more})

    return [
        edge("max", "highest"),
        edge("p95", "95 %", fill="tonexty", fillcolor="--fan-outer"),
        edge(
            "p05", "5 to 95 % of buses", fill="tonexty", fillcolor="--fan-inner", showlegend=True, legendrank=1001
        ),
        edge(
            "min", "lowest to highest", fill="tonexty", fillcolor="--fan-outer", showlegend=True, legendrank=1002
        ),
        line(x, bands["p50"], "median", colour, hover, legendrank=1),
    ]


def percentile_bands(values: FloatArray, time: TimeAxis) -> dict[str, FloatArray]:
    """Percentiles over elements of (hour, element); the extremes of a bin, the mean of the percentiles."""
    inner = np.full((3, values.shape[0]), np.nan)
    missing = np.isnan(values).sum(axis=1)
    whole, some = missing == 0, (missing > 0) & (missing < values.shape[1])
    inner[:, whole] = np.percentile(values[whole], [5, 50, 95], axis=1)  # the other is a hundred times slower
    inner[:, some] = np.nanpercentile(values[some], [5, 50, 95], axis=1)
    return {
        "min": time.smallest(np.fmin.reduce(values, axis=1)),
        "p05": time.mean(inner[0]),
        "p50": time.mean(inner[1]),
        "p95": time.mean(inner[2]),
        "max": time.largest(np.fmax.reduce(values, axis=1)),
    }


def heat_map(
    reference: Mapping[str, str], x: Spec, rows: Sequence[str], bar: str, hover: str, **more: object
) -> Spec:
    """A heat map over packed (row, bin) values; `bar` titles its colour bar."""
    return {
        "type": "heatmap",
        "z": dict(reference),
        **x,
        "y": list(range(len(rows))),
        "rows": list(rows),
        "colorscale": "--sequential",
        "colorbar": {"title": {"text": bar, "side": "right"}, "thickness": 12, "len": 1, "outlinewidth": 0},
        "hovertemplate": f"%{{customdata}}<br>%{{x}}: %{{z:{hover}<extra></extra>",
        **more,
    }


def row_groups(groups: Sequence[str]) -> Spec:
    """Y axis of a heat map whose rows are sorted into groups: a tick in the middle of each large enough one."""
    ticks: list[float] = []
    labels: list[str] = []
    start = 0
    for stop in range(1, len(groups) + 1):
        if stop == len(groups) or groups[stop] != groups[start]:
            if stop - start >= max(1.0, 0.035 * len(groups)):
                ticks.append((start + stop - 1) / 2)
                labels.append(groups[start])
            start = stop
    return {
        "tickvals": ticks,
        "ticktext": labels,
        "showgrid": False,
        "zeroline": False,
        "automargin": True,
        "ticks": "",
    }


def group_borders(groups: Sequence[str]) -> list[Spec]:
    """Thin lines between the groups of a heat map's rows."""
    return [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": row - 0.5,
            "y1": row - 0.5,
            "line": {"color": "--page", "width": 1.2},
        }
        for row in range(1, len(groups))
        if groups[row] != groups[row - 1]
    ]
