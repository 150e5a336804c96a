"""The parts of a page: sections made of paragraphs, tables, figures and selectors over packed arrays."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from bos_core.grid.model import FloatArray
from bos_core.report.packing import Pack, pack
from bos_core.report.tables import Cells

Spec: TypeAlias = dict[str, Any]
"""A plotly trace, layout or part of one. ``--name`` strings are colours or scales of the page's theme; a
``{"pack": id}`` stands for a packed array, with ``"row"`` for one of its rows."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `kind` is plain, missing (the run lacks what would be here) or warning."""

    text: str
    kind: str = "plain"

    @property
    def html(self) -> str:
        """The text, escaped."""
        return html.escape(self.text)


@dataclass(frozen=True)
class TableBlock:
    """A table; the first `text_columns` columns and those `also_text` are text, the others numbers."""

    title: str
    cells: Cells
    text_columns: int = 1
    note: str = ""
    also_text: tuple[int, ...] = ()
    folded: bool = False
    """Shown when its title is clicked."""
    traces: Sequence[str] = ()
    """Address of each row; a click on the row tells it."""

    def align(self, column: int) -> str:
        """Return the CSS class of a column's cells."""
        return "" if column < self.text_columns or column in self.also_text else "n"


@dataclass(frozen=True)
class Download:
    """A file that the page carries and hands out when its button is pressed; `data` is base64 of deflated text."""

    label: str
    file_name: str
    data: str
    note: str = ""


@dataclass(frozen=True)
class View:
    """One view of a figure: traces and layout."""

    label: str
    data: Sequence[Spec]
    layout: Spec


@dataclass(frozen=True)
class Figure:
    """A figure with one or several views to choose from."""

    title: str
    views: Sequence[View]
    height: int = 320
    note: str = ""
    half: bool = False
    """Takes half of the width on a wide page."""
    label: str = "View"
    """What the views differ in."""

    def spec(self) -> Spec:
        """Return what the page's script draws."""
        views = [{"label": v.label, "data": list(v.data), "layout": v.layout} for v in self.views]
        return {"kind": "figure", "label": self.label, "views": views}


@dataclass(frozen=True)
class Explorer:
    """A selector over elements: the hourly curve of the chosen one and its hours by day.

    Attributes
    ----------
    quantity, unit : str
    names, groups : sequence of str
        Elements in the order of the pack's rows, and the group each is listed under.
    values : mapping
        Reference to the packed array, (element, hour).
    digits : int
        Decimals shown.
    low, high : sequence of float or None
        Limits of each element.
    trace : str
        Address of the series; empty when the values are of none.
    """

    title: str
    element: str
    quantity: str
    unit: str
    names: Sequence[str]
    groups: Sequence[str]
    values: Mapping[str, str]
    digits: int
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    note: str = ""
    trace: str = ""
    height: int = 260
    half: bool = False

    def spec(self) -> Spec:
        """Return what the page's script draws."""
        return {
            "kind": "explorer",
            "trace": self.trace,
            "element": self.element,
            "quantity": self.quantity,
            "unit": self.unit,
            "names": list(self.names),
            "groups": list(self.groups),
            "values": dict(self.values),
            "digits": self.digits,
            "low": None if self.low is None else list(self.low),
            "high": None if self.high is None else list(self.high),
        }


@dataclass(frozen=True)
class ContingencyExplorer:
    """A selector over contingencies (Fig. 12): extremes over all hours with the limits drawn."""

    title: str
    names: Sequence[str]
    summaries: Sequence[str]
    loading: Mapping[str, str]
    vm_min: Mapping[str, str]
    vm_max: Mapping[str, str]
    outcome: Mapping[str, str]
    overview: Mapping[str, str]
    """Packed (contingency, time bin): highest loading."""
    overview_bin_h: int
    loading_limit: float
    vm_low: float
    vm_high: float
    note: str = ""
    traces: Mapping[str, str] = field(default_factory=dict)
    """Addresses of the pairs, by ``first`` and, of hours that were verified again, by ``again``."""
    adjusted: Sequence[int] = ()
    """Hours that were verified again."""
    height: int = 640
    half: bool = False

    def spec(self) -> Spec:
        """Return what the page's script draws."""
        return {
            "kind": "contingency",
            "traces": dict(self.traces),
            "adjusted": list(self.adjusted),
            "names": list(self.names),
            "summaries": list(self.summaries),
            "loading": dict(self.loading),
            "vm_min": dict(self.vm_min),
            "vm_max": dict(self.vm_max),
            "outcome": dict(self.outcome),
            "overview": dict(self.overview),
            "overview_bin_h": self.overview_bin_h,
            "loading_limit": self.loading_limit,
            "vm_low": self.vm_low,
            "vm_high": self.vm_high,
        }


Block: TypeAlias = Paragraph | TableBlock | Download | Figure | Explorer | ContingencyExplorer


@dataclass(frozen=True)
class Section:
    """A section of the page; `short` is its entry in the table of contents."""

    id: str
    title: str
    short: str
    blocks: Sequence[Block]
    lead: str = ""


@dataclass
class PackStore:
    """Collects the packed arrays of a page."""

    packs: dict[str, Pack] = field(default_factory=dict)

    def add(self, values: FloatArray, resolution: float) -> dict[str, str]:
        """Pack (row, column) values and return the reference that a spec holds."""
        name = f"p{len(self.packs)}"
        self.packs[name] = pack(np.atleast_2d(np.asarray(values, float)), resolution)
        return {"pack": name}


def missing(what: str, why: str = "The run has no such results yet.") -> Paragraph:
    """Return the note that stands where something is missing."""
    return Paragraph(f"{what}: not available. {why}", "missing")
