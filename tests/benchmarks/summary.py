"""All results on one page of Markdown: what we take, and how many times that each peer takes."""

from __future__ import annotations

import json
from typing import Any

from frame import RESULTS, duration, fact_line, times_ours


def write_summary(names: tuple[str, ...]) -> None:
    """Write `results/summary.md` from the JSON of the benchmarks."""
    parts = [
        "# Results",
        "Made by `make bench` from the JSON files beside it. *Ours* is CPU time a unit of work, *x* how often "
        "that fits into a peer's. **!** marks answers that disagree, *(other)* tools that solve another problem.",
    ]
    for name in names:
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts += _benchmark(json.loads(path.read_text(encoding="utf-8")))
    (RESULTS / "summary.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _benchmark(document: dict[str, Any]) -> list[str]:
    machine = document["machine"]
    measured = f"{machine['cpu']}, {machine['cores']} cores, {document['date']}, commit {document['commit']}"
    unfinished = "" if document["finished"] else " Not finished."
    lines = ["| case | ours | peers | largest difference |", "|---|---|---|---|"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in document["rows"]:
        groups.setdefault(row["group"], []).append(row)
    for group, rows in groups.items():
        ours = next((row for row in rows if row["reference"] and row["times"]), None)
        time = f"{duration(ours['times']['cpu_s'])} a {ours['unit']}" if ours else "none"
        peers = ", ".join(_peer(row) for row in rows if row is not ours)
        lines.append(f"| {group} | {time} | {peers} | {_difference(rows)} |".replace("|dV|", "dV"))
    parts = [f"## {document['title']}", f"{measured}.{unfinished}", "\n".join(lines)]
    for name, fact in document["facts"].items():
        items = fact if isinstance(fact, list) else [fact]
        parts.append("\n".join(f"- {name.replace('_', ' ')}: {fact_line(item)}" for item in items))
    absent = [f"{a['tool']} {a['what']}: {a['why']}" for a in document["absent"]]
    if absent:
        parts.append("Not measured: " + "; ".join(absent))
    pictures = sorted(path.name for path in RESULTS.glob(f"{document['benchmark']}*.svg"))
    return [*parts, *(f"![{document['title']}]({picture})" for picture in pictures)]


def _peer(row: dict[str, Any]) -> str:
    ratio = f"{times_ours(row['ratio'])} x" if row["ratio"] else "-"
    mark = " (other)" if not row["comparable"] else " **!**" if row["agrees"] is False else ""
    return f"{row['tool']} {ratio}{mark}"


def _difference(rows: list[dict[str, Any]]) -> str:
    """Return the largest difference of each kind to the tools that agree."""
    found: dict[str, float] = {}
    for row in rows:
        for a in row["accuracy"] if row["agrees"] else []:
            found[a["what"]] = max(found.get(a["what"], 0.0), a["difference"])
    return ", ".join(f"{what} {value:.1g}" for what, value in found.items())
