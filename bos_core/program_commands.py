"""`bos programs ...`: list, add, promote and remove the programs that fill the slots."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup


class _SlotOrCommand(TyperGroup):
    """`bos programs` lists, and so does `bos programs SLOT`; anything else is a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="programs",
    help="List the programs of the slots; add, promote and remove your own.",
    cls=_SlotOrCommand,
    add_completion=False,
)
out = Console()

Name = Annotated[str, typer.Argument(help="Program: NAME, or SLOT/NAME.")]
DropValues = Annotated[
    bool, typer.Option("--drop-values", help="Even where scenarios hold values of what it added to the ontology.")
]
Message = Annotated[str, typer.Option("--message", "-m", help="Why; default: what was done.")]


@app.command("list")
def list_(slot: Annotated[str, typer.Argument(help="Only this slot, with all parameters.")] = "") -> None:
    """List services, slots and programs; or the parameters of one slot's programs."""
    from bos_core import listings_programs
    from bos_core.api import connect

    catalogue = connect().programs.catalogue
    name = re.sub(r"^step_\d[a-c]?_", "", slot.strip().lower().replace("-", "_"))
    entries = list(catalogue.entries(name))
    out.print(listings_programs.tree(entries))
    if not name:
        out.print(listings_programs.CAPTION, style="dim")
        return
    for entry in entries:
        if not entry.problem:
            schema = catalogue.resolve(name, entry.name).manifest.parameters.model_json_schema()
            for part in listings_programs.parameters(entry, schema):
                out.print(part)


@app.command()
def show(name: Name) -> None:
    """Show everything about one program: slot, services, elements, where its code lies, its history."""
    from bos_core import listings_programs
    from bos_core.api import connect

    catalogue = connect().programs.catalogue
    entry = catalogue.entry(name)
    records = catalogue.versions(entry.contract.name, entry.name)
    changes = catalogue.changes(entry.contract.name, entry.name)
    for part in listings_programs.program(entry, records, changes):
        out.print(part, highlight=False)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="The program, one file: NAME.py.")],
    slot: Annotated[str, typer.Option(help="The slot that it fills; default: what the file says.")] = "",
    message: Message = "",
    drop_values: DropValues = False,
) -> None:
    """Check a program and put it into the custom repository; from then on --program SLOT=NAME takes it."""
    from bos_core import listings_programs
    from bos_core.api import connect

    with out.status(f"checking {file.name} ..."):
        added = connect().programs.add(file, slot.strip().replace("-", "_"), message, drop_values)
    change = added.change
    if not added.is_new:
        out.print(f"[bold]{change.name}[/] has just this code already", highlight=False)
        return
    said = f"{change.slot}/{change.name}[/] {change.version}: custom repository, commit {change.commit[:12]}"
    out.print(f"added [bold]{said}", highlight=False)
    for part in listings_programs.additions(change):
        out.print(part, highlight=False)
    out.print(f"use it: bos run ... --program {change.slot}={change.name}", highlight=False)


@app.command()
def promote(name: Name, message: Message = "") -> None:
    """Move a program that has proved itself on tasks to the official repository."""
    from bos_core.api import connect

    change = connect().programs.promote(name, message)
    said = f"{change.slot}/{change.name}[/] {change.version}: official repository, commit {change.commit[:12]}"
    out.print(f"promoted [bold]{said}", highlight=False)


@app.command()
def remove(name: Name, message: Message = "", drop_values: DropValues = False) -> None:
    """Take a program out, with what it added to the ontology; what it made stays, and so does every commit."""
    from bos_core.api import connect

    for change in connect().programs.remove(name, message, drop_values):
        said = f"{change.slot}/{change.name}[/]: {change.repository} repository, commit {change.commit[:12]}"
        out.print(f"removed [bold]{said}", highlight=False)


@app.command()
def log(name: Name) -> None:
    """List what became of a program, newest first; also of one that is gone."""
    from bos_core import listings_programs
    from bos_core.api import connect

    found = connect().programs.log(name)
    out.print(listings_programs.log(found))
    out.print(f"[dim]{escape('git -C REPOSITORY.git show COMMIT')} shows a commit[/]", highlight=False)
