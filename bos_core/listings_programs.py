"""What `bos programs` prints: the tree of services, slots and programs, one program, its history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from bos_core.index.programs import ProgramChange, ProgramRecord
from bos_core.listings import listing, moment, pairs
from bos_core.objects.extension import Extension, from_json
from bos_core.programs.catalogue import Entry
from bos_core.programs.registry import INSTALLED

DIGEST_SHOWN = 8
COMMIT_SHOWN = 12


def tree(entries: Iterable[Entry]) -> Tree:
    """Return services, the slots that they call, and the programs of each slot under its first service."""
    by_slot: dict[str, list[Entry]] = {}
    for entry in entries:
        by_slot.setdefault(entry.contract.name, []).append(entry)
    root = Tree("services ► slots ► programs", guide_style="dim")
    domains: dict[str, Tree] = {}
    for slot, programs in by_slot.items():
        for place, address in enumerate(programs[0].contract.services):
            domain, _, service = address.rpartition("/")
            if domain:
                domains[domain] = domains.get(domain) or root.add(domain)
            branch = domains.get(domain, root).add(
                f"{service} ► [bold]{slot}[/]" + " [dim](above)[/]" * bool(place)
            )
            if not place:
                branch.add(_programs(programs))
    return root


def _programs(entries: Sequence[Entry]) -> Table:
    table = Table.grid(padding=(0, 1))
    for entry in entries:
        mark = f"{entry.name} *" if entry.name == entry.contract.default else entry.name
        if entry.problem:
            table.add_row(mark, "[red]cannot be loaded[/]; `bos doctor` says why")
            continue
        digest = entry.digest[:DIGEST_SHOWN]
        table.add_row(mark, entry.type, entry.version, digest, entry.state)
    return table


CAPTION = "* default; `bos programs SLOT` lists parameters, `bos programs show NAME` the rest"


def parameters(entry: Entry, schema: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield the head of a program and its parameters."""
    fields = schema.get("properties", {})
    default = " (default)" if entry.name == entry.contract.default else ""
    yield f"[bold]{entry.name}[/] {entry.version}{default}: {escape(entry.title)}" + (
        "" if fields else "; no parameters"
    )
    if fields:
        table = listing("parameter", "default")
        table.add_column("meaning", ratio=1)
        for key, field in fields.items():
            table.add_row(key, escape(str(field.get("default"))), escape(field.get("description", "")))
        yield table


def program(
    entry: Entry, records: Sequence[ProgramRecord], changes: Sequence[ProgramChange]
) -> Iterator[RenderableType]:
    """Yield everything about one program: its row of the index, and what became of it."""
    contract = entry.contract
    head = {
        "program": f"{entry.name} {entry.version}, {entry.title}",
        "type": entry.type,
        "state": entry.state,
        "slot": f"{contract.name}, contract {contract.version}: {contract.summary}",
        "services": ", ".join(contract.services),
        "elements": ", ".join(entry.elements) or "none beyond those of the slot",
        "digest": entry.digest,
        "code": entry.storage_address,
    }
    if entry.problem:
        head = {"program": entry.name, "slot": contract.name, "problem": entry.problem}
    yield pairs(head)
    if not entry.problem:
        yield from _added(entry.extends)
    earlier = [record for record in records if record.digest != entry.digest]
    if earlier:
        table = listing("recorded", "version", "digest")
        table.add_column("code", overflow="fold")
        for record in earlier:
            digest = record.digest[:DIGEST_SHOWN]
            table.add_row(moment(record.created_s), record.version, digest, _code(record.storage_address))
        yield "earlier code:"
        yield table
    if changes:
        yield log(changes)


def additions(change: ProgramChange) -> Iterator[RenderableType]:
    """Yield what a change adds to the ontology."""
    yield from _added(from_json(change.declaration.get("extends", ())))


def _added(extensions: Sequence[Extension]) -> Iterator[RenderableType]:
    if not extensions:
        return
    table = listing("added to the ontology", "type", "unit", "default", "bounds")
    table.add_column("meaning", ratio=1)
    for extension in extensions:
        if extension.terminals:
            ends = " and ".join(extension.terminals)
            table.add_row(extension.table, f"kind of device at {ends}", "", "", "", escape(extension.doc))
        for column in extension.columns:
            bounds = "" if column.minimum is None else f"from {column.minimum:g} "
            bounds += "" if column.maximum is None else f"to {column.maximum:g}"
            name, default = f"{extension.table}.{column.name}", escape(str(column.default))
            table.add_row(name, column.type, escape(column.unit), default, bounds.strip(), escape(column.doc))
    yield table


def _code(address: str) -> str:
    place, _, commit = address.rpartition("@")
    return escape(address if place.startswith(INSTALLED) else f"{place}@{commit[:COMMIT_SHOWN]}")


def log(changes: Sequence[ProgramChange]) -> Table:
    """Return the history of a program, newest first."""
    table = listing("when", "who", "what", "version", "repository", "commit")
    table.add_column("message", ratio=1, overflow="fold")
    for change in changes:
        table.add_row(
            moment(change.created_s),
            escape(change.author),
            change.action,
            change.version,
            change.repository,
            change.commit[:COMMIT_SHOWN],
            escape(change.message),
        )
    return table
