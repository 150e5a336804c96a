"""`bos scenario ...`: branch, edit, compare and merge scenarios."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from bos_core.objects.errors import Finding, OptionError

app = typer.Typer(
    name="scenario", help="Branch, edit, compare and merge scenarios.", no_args_is_help=True, add_completion=False
)
out = Console()

Message = Annotated[str, typer.Option("--message", "-m", help="Why; default: what was done.")]
_VERSION = "Scenario: NAME, NAME@VERSION or id."


@app.command()
def branch(
    source: Annotated[str, typer.Argument(help=_VERSION)],
    name: Annotated[str, typer.Argument(help="Name of the new scenario.")],
    message: Message = "",
) -> None:
    """Start a new scenario with the content of a version; nothing is copied."""
    from bos_core.api import connect

    version = connect().scenarios.branch(source, name, message)
    out.print(f"[bold]{escape(version.label)}[/]: {escape(version.message)}", highlight=False)


@app.command()
def edit(
    scenario: Annotated[str, typer.Argument(help=_VERSION)],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="TARGET:ELEMENT[HOURS]=VALUE, may be repeated. TARGET: a series like load.p_mw, or table.column "
            "like line.i_max_ka. ELEMENT: name or id; * for all; *@NAME for all within a station or region. "
            "HOURS, of a series: 408, 0:24, 01-18, 01-18:01-25; default all. *= scales, += adds.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="CSV, Parquet or JSON with columns target, element, hours, operation, value."),
    ] = None,
    message: Message = "",
) -> None:
    """Change values of tables and series, as the scenario's next version."""
    from bos_core import listings_scenario
    from bos_core.access.scenario_edit import parse_edits
    from bos_core.api import connect

    done = connect().scenarios.edit(scenario, *parse_edits(set_ or []), file=file, message=message)
    out.print(listings_scenario.applied(done.applied))
    if done.version == done.before:
        out.print(f"every value was so already; [bold]{escape(done.version.label)}[/] stays", highlight=False)
    else:
        out.print(f"[bold]{escape(done.version.label)}[/] from {escape(done.before.label)}", highlight=False)


@app.command()
def overlay(
    scenario: Annotated[str, typer.Argument(help=_VERSION)],
    file: Annotated[Path, typer.Argument(help="TOML or CSV, as beside `bos import`.")],
    message: Message = "",
) -> None:
    """Change columns of devices and add devices, as the scenario's next version."""
    from bos_core.api import connect

    version, before, notes = connect().scenarios.overlay(scenario, file, message)
    if version == before:
        out.print(f"every value was so already; [bold]{escape(version.label)}[/] stays", highlight=False)
        return
    out.print(f"[bold]{escape(version.label)}[/] from {escape(before.label)}", highlight=False)
    for note in notes:
        out.print(f"  [dim]{escape(str(note))}[/]", highlight=False)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help=_VERSION)],
    after: Annotated[str, typer.Argument(help=_VERSION)],
    rows: Annotated[int, typer.Option(help="How many values of tables to show.", min=0)] = 20,
    picture: Annotated[Path | None, typer.Option(help="Also draw it: path of an HTML file.")] = None,
) -> None:
    """Show what differs between two versions."""
    from bos_core import listings_scenario
    from bos_core.api import connect

    if picture is not None and picture.suffix != ".html":
        remedy = "end it with .html; the camera above each figure there saves it as a picture"
        raise OptionError((Finding("option", ("--picture",), f"{picture.name} is no HTML file", remedy),))
    scenarios = connect().scenarios
    found = scenarios.diff(before, after)
    for part in listings_scenario.difference(found, rows):
        out.print(part, highlight=False)
    if picture is not None:
        from bos_core.report.difference import write

        out.print(
            f"picture  {write(found, scenarios.read(before), scenarios.read(after), picture)}", soft_wrap=True
        )


@app.command()
def log(scenario: Annotated[str, typer.Argument(help=_VERSION)]) -> None:
    """List a version and all that it was made from, newest first."""
    from bos_core import listings_scenario
    from bos_core.api import connect

    out.print(listings_scenario.log(connect().scenarios.log(scenario)))


@app.command()
def merge(
    ours: Annotated[str, typer.Argument(help=_VERSION + " It gets the merged version.")],
    theirs: Annotated[str, typer.Argument(help=_VERSION + " Its changes are taken over.")],
    into: Annotated[str, typer.Option(help="New scenario for the merged version, instead.")] = "",
    take_ours: Annotated[bool, typer.Option("--ours", help="Conflicts: keep the first one's values.")] = False,
    take_theirs: Annotated[
        bool, typer.Option("--theirs", help="Conflicts: take the second one's values.")
    ] = False,
    message: Message = "",
) -> None:
    """Merge what a version changed since the nearest common ancestor into another."""
    from bos_core.api import connect

    if take_ours and take_theirs:
        raise OptionError((Finding("option", ("--ours", "--theirs"), "are both given", "give one"),))
    settle = "ours" if take_ours else "theirs" if take_theirs else None
    done = connect().scenarios.merge(ours, theirs, into, settle, message)
    if done.version == done.before:
        out.print(f"[bold]{escape(done.version.label)}[/] has all of {escape(theirs)} already", highlight=False)
        return
    for finding in done.settled:
        what = replace(finding, remedy=f"{settle} counts")
        out.print(f"[dim]settled: {escape(str(what))}[/]", highlight=False, soft_wrap=True)
    said = f"{escape(done.version.message)}; common ancestor {escape(done.ancestor.label)}"
    out.print(f"[bold]{escape(done.version.label)}[/]: {said}", highlight=False)
