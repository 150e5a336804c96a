"""One frame for all benchmarks: rows of us and of peers, the table of ratios, and the JSON that is kept."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from machine import commit, machine, versions
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from timing import Timing

RESULTS = Path(__file__).parent / "results"
CACHE = Path(__file__).parents[2] / "build" / "benchmarks"
OURS = "BOS"


@dataclass(frozen=True)
class Accuracy:
    """How far an answer is from the other's: `difference` of `what`, which should be within `limit`."""

    what: str
    difference: float
    limit: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is a number within the limit."""
        return bool(self.difference <= self.limit)


@dataclass(frozen=True)
class Row:
    """One tool on one case.

    Attributes
    ----------
    group : the case and what is done with it; ratios are within a group, against its reference row.
    size : what grows from group to group (buses, pairs, hours).
    times : per `unit` of work; None where the tool gave no answer.
    accuracy : against the group's reference answer, each entry with its limit.
    figures : further figures of this row.
    note : what must be known to read the row; starts with a capital letter.
    """

    group: str
    size: float
    tool: str
    unit: str
    times: Timing | None
    accuracy: tuple[Accuracy, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    panel: str = ""
    """Chart that the row belongs to, where a benchmark has several."""
    reference: bool = False
    comparable: bool = True
    """False where the tool solves a different problem and only its time is compared."""

    @property
    def agrees(self) -> bool | None:
        """Whether all answers agree; None where there is nothing to compare."""
        return all(a.agrees for a in self.accuracy) if self.accuracy else None


class Bench:
    """A running benchmark: collects rows, keeps them after each one, shows what goes on."""

    def __init__(self, name: str, title: str, packages: Sequence[str], size: str = "buses") -> None:
        self.name, self.title, self.size = name, title, size
        self.rows: list[Row] = []
        self.absent: list[dict[str, str]] = []
        self.facts: dict[str, Any] = {}
        self.settings: dict[str, str] = {}
        """How each tool was used: what must be known to judge its rows."""
        self.versions = versions(*packages)
        self.console = terminal()
        self.finished = False

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show what is being done."""
        with self.console.status(f"{escape(self.name)}: {escape(what)} ..."):
            yield

    @contextmanager
    def peer(self, tool: str, what: str = "") -> Iterator[None]:
        """Run a peer; one that is absent or fails is named and the benchmark goes on."""
        try:
            with self.doing(f"{tool} {what}".strip()):
                yield
        except Exception as error:
            said = f"{type(error).__name__}: {error}".strip().splitlines()
            reason = next((line for line in reversed(said) if "Error" in line or ":" in line), said[0])[:200]
            self.absent.append({"tool": tool, "what": what, "why": reason})
            self.console.print(f"[yellow]{escape(self.name)}: {escape(tool)} {escape(what)}:[/] {escape(reason)}")
            self.save()

    def add(self, row: Row) -> Row:
        """Keep a row."""
        self.rows.append(row)
        self.save()
        time = f"{duration(row.times.cpu_s)} a {row.unit}" if row.times else "no answer"
        self.console.print(
            f"[dim]{escape(self.name)}: {escape(row.group)}: {escape(row.tool)}: {time}[/]", highlight=False
        )
        return row

    def ratio(self, row: Row) -> float | None:
        """Return the row's CPU time over that of its group's reference; None for the reference itself."""
        base = next((r for r in self.rows if r.group == row.group and r.reference and r.times), None)
        if base is None or base is row or row.times is None or base.times is None:
            return None
        return row.times.cpu_s / base.times.cpu_s

    def save(self) -> None:
        """Write all rows so far."""
        RESULTS.mkdir(exist_ok=True)
        rows = []
        for row in self.rows:
            entry = asdict(row)
            entry["accuracy"] = [{**asdict(a), "agrees": a.agrees} for a in row.accuracy]
            entry |= {"ratio": self.ratio(row), "agrees": row.agrees}
            rows.append(entry)
        document = {
            "benchmark": self.name,
            "title": self.title,
            "size": self.size,
            "finished": self.finished,
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "commit": commit(),
            "machine": machine(),
            "versions": self.versions,
            "settings": self.settings,
            "absent": self.absent,
            "facts": self.facts,
            "rows": rows,
        }
        text = json.dumps(_plain(document), indent=1, ensure_ascii=False, allow_nan=False)
        (RESULTS / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")


def terminal() -> Console:
    """Return a console that is wide enough for tables, also where the output goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _plain(value: Any) -> Any:
    """Return what JSON can hold: numbers to four digits, those that are none as null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        return _plain(value.item())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def duration(seconds: float) -> str:
    """Return a time with three digits and a fitting unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale or unit == "us":
            return f"{seconds / scale:.3g} {unit}"
    return ""


def times_ours(ratio: float) -> str:
    """Return a ratio with three digits, in full."""
    return f"{float(f'{ratio:.3g}'):,g}"


def show(document: dict[str, Any], console: Console) -> None:
    """Print the table of a benchmark from its JSON."""
    title = document["title"] + ("" if document["finished"] else " (not finished)")
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    for name in ("case", "tool"):
        table.add_column(name, overflow="fold")
    for name in ("CPU", "wall", "times ours"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("answers", overflow="fold")
    table.add_column("note", overflow="fold")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in document["rows"]:
        groups.setdefault(row["group"], []).append(row)
    for group, rows in groups.items():
        table.add_section()
        for row in rows:
            times = row["times"]
            cells = [duration(times["cpu_s"]), duration(times["wall_s"])] if times else ["-", "-"]
            ratio = times_ours(row["ratio"]) if row["ratio"] else ("1" if row["reference"] else "-")
            tool = f"[bold]{escape(row['tool'])}[/]" if row["reference"] else escape(row["tool"])
            case = escape(f"{group}, a {row['unit']}") if row is rows[0] else ""
            table.add_row(case, tool, *cells, ratio, _answers(row), escape(row["note"]))
    console.print(table)
    for tool, how in document["settings"].items():
        console.print(f"[dim]{escape(tool)}: {escape(how)}[/]", highlight=False)
    for name, fact in document["facts"].items():
        for item in fact if isinstance(fact, list) else [fact]:
            console.print(f"{escape(name.replace('_', ' '))}: {escape(fact_line(item))}", highlight=False)
    for absent in document["absent"]:
        what = f"{absent['tool']} {absent['what']}".strip()
        console.print(f"[yellow]not measured:[/] {escape(what)}: {escape(absent['why'])}")


def fact_line(fact: dict[str, Any]) -> str:
    """Return a further fact of a benchmark in one line."""
    return ", ".join(
        f"{key.replace('_', ' ')} "
        + (f"{value:,}" if isinstance(value, int) else str(value) if isinstance(value, str) else f"{value:,.4g}")
        for key, value in fact.items()
    )


def _answers(row: dict[str, Any]) -> str:
    if not row["accuracy"]:
        return "reference" if row["reference"] else ("" if row["comparable"] else "another problem")
    parts = []
    for a in row["accuracy"]:
        value = "none" if a["difference"] is None else f"{a['difference']:.2g}"
        text = f"{a['what']} {value}"
        parts.append(
            escape(text) if a["agrees"] else f"[bold white on red]DISAGREES:[/] {escape(text)} > {a['limit']:g}"
        )
    return "; ".join(parts)
