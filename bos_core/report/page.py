"""The report as one HTML file that works offline: plotly.js, data and styles are inside it."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from bos_core.objects.errors import StorageError
from bos_core.report.blocks import (
    ContingencyExplorer,
    Download,
    Explorer,
    Figure,
    PackStore,
    Paragraph,
    Section,
    TableBlock,
)
from bos_core.report.charts import TimeAxis
from bos_core.report.data import Head, ReportData, check
from bos_core.report.packing import deflated
from bos_core.report.palette import SCALES
from bos_core.report.sections_method import annual_section, method_section
from bos_core.report.sections_operation import (
    commitment_section,
    costs_section,
    dispatch_section,
    network_use_section,
)
from bos_core.report.sections_overview import key_figures, network_section, provenance_section, table6_section
from bos_core.report.sections_power_flow import power_flow_section
from bos_core.report.sections_schedule import schedule_section
from bos_core.report.sections_security import adjustment_section, contingency_section, security_section
from bos_core.report.tables import number


@dataclass(frozen=True)
class Cover:
    """Top of a page: title, outcome, warnings, key figures, and facts as (label, text, code)."""

    title: str
    outcome: str
    warnings: Sequence[str]
    figures: Sequence[tuple[str, str, str]]
    facts: Sequence[tuple[str, str, str]]


def render(data: ReportData) -> str:
    """Return the report as one self-contained HTML page.

    What the data lack is named in its section; arrays that do not fit each other raise InputError with all
    findings.
    """
    check(data)
    time = TimeAxis(data.head.start, data.head.hours)
    store = PackStore()
    with np.errstate(all="ignore"):
        sections = _sections(data, store)
    head = data.head
    cover = Cover(head.title, head.outcome, head.warnings, key_figures(data.figures), _facts(head, time))
    return render_page(cover, time, sections, store, head.first_hour)


def render_page(
    cover: Cover, time: TimeAxis, sections: Sequence[Section], store: PackStore, first_hour: int = 0
) -> str:
    """Return sections as one self-contained HTML page.

    `time` gives the dates of its hours, `first_hour` the hour of the year of the first.
    """
    specs = {}
    for section in sections:
        for position, block in enumerate(section.blocks):
            if isinstance(block, Figure | Explorer | ContingencyExplorer):
                specs[f"{section.id}-{position}"] = block.spec()
    page = {
        "start": time.iso(0),
        "hours": time.hours,
        "first_hour": first_hour,
        "leap_hour": time.leap_hour,
        "scales": SCALES,
        "charts": specs,
        "packs": {name: pack.header() for name, pack in store.packs.items()},
    }
    text: str = _template().render(
        cover=cover,
        sections=sections,
        kind=_kind,
        packs=store.packs,
        page=_script_json(page),
        plotly=_plotly(),
        style=_resource("report.css"),
        script=_inline(_resource("report.js")),
    )
    return text


def _facts(head: Head, time: TimeAxis) -> list[tuple[str, str, str]]:
    """Return what the run was about."""
    hours = f"{head.hours} h, from {time.label(0)} to {time.label(head.hours - 1)}"
    facts = [("Scenario", head.scenario, head.scenario_version), ("Hours", hours, "")]
    if head.sizes:
        before = f"; before equivalence {_sizes(head.source_sizes)}" if head.source_sizes else ""
        facts.append(("Network", _sizes(head.sizes) + before, ""))
    if head.project or head.user:
        facts.append(("Project", ", ".join(filter(None, (head.project, head.user))), ""))
    facts.append(("Trace id", "", head.trace_id))
    if head.run_id:
        facts.append(("Run", "", head.run_id))
    return [*facts, ("Made", head.created, "")]


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{number(count)} {name}" for name, count in sizes.items())


def write(data: ReportData, path: str | os.PathLike[str]) -> Path:
    """Write the report to a local file; see `write_page`."""
    return write_page(render(data), path)


def write_page(text: str, path: str | os.PathLike[str]) -> Path:
    """Write a page to a local file, whole or not at all, and return its path.

    Raises
    ------
    StorageError
        When the file cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise StorageError(f"report {target}: {error.strerror}; choose a directory that can be written") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise StorageError(f"report {target}: {error.strerror}; free space or choose another directory") from error
    return target


def _sections(data: ReportData, store: PackStore) -> list[Section]:
    if data.power_flow is not None:
        parts = (power_flow_section, network_section, table6_section, provenance_section)
        return [_paired(part(data)) for part in parts]
    sections = [
        table6_section(data),
        network_section(data),
        schedule_section(data, store),
        contingency_section(data, store),
        dispatch_section(data),
        costs_section(data),
        network_use_section(data),
        commitment_section(data, store),
        security_section(data),
        adjustment_section(data),
        method_section(data),
        annual_section(data),
        provenance_section(data),
    ]
    return [_paired(section) for section in sections]


def _paired(section: Section) -> Section:
    """A figure of half width that has no neighbour to share the row with takes the whole row."""
    blocks = list(section.blocks)
    position = 0
    while position < len(blocks):
        both = [isinstance(b, Figure) and b.half for b in blocks[position : position + 2]]
        if both == [True, True]:
            position += 2
            continue
        block = blocks[position]
        if isinstance(block, Figure) and block.half:
            blocks[position] = replace(block, half=False)
        position += 1
    return replace(section, blocks=blocks)


def _kind(block: object) -> str:
    if isinstance(block, Paragraph):
        return "paragraph"
    if isinstance(block, Download):
        return "download"
    return "table" if isinstance(block, TableBlock) else "chart"


def _script_json(value: object) -> str:
    """JSON that may stand in a script element: no tag can close it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _inline(script: str) -> str:
    """Script text that may stand in a script element."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


@cache
def _plotly() -> str:
    return deflated(get_plotlyjs().encode())


def _resource(name: str) -> str:
    return (files("bos_core.report") / name).read_text(encoding="utf-8")


@cache
def _template():  # type: ignore[no-untyped-def]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_resource("template.html"))
