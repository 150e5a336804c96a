"""The `bos` command. Thin: it parses, calls the API and shows; errors come without a traceback."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import logging
import os
import re
import sys
import traceback
import uuid
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bos_core import container_commands, listings, program_commands, scenario_commands, simulation_commands
from bos_core.objects.errors import BosError, Finding, OptionError, StorageError
from bos_core.objects.settings import Settings

DEMO_GRID = "1-complete_data-mixed-all-0-no_sw"
DEMO_NAME = "simbench-complete"
DEMO_HOURS = 168

app = typer.Typer(
    name="bos",
    help="A business operating system for power-system planning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(scenario_commands.app)
app.add_typer(program_commands.app)
app.command()(container_commands.containers)
app.command()(simulation_commands.simulate)
out = Console()
err = Console(stderr=True)


class Profile(StrEnum):
    """What `bos up` stands on: files of this machine where no server is named, or three servers."""

    EMBEDDED = "embedded"
    FULL = "full"


Reference = Annotated[str, typer.Argument(help="Trace id of the run or the start of it; default: the newest.")]


def main() -> None:
    """Run the command; exit code 0 only when everything went well."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run the command with these arguments and return its exit code; never shows a traceback."""
    try:
        code = app(args=arguments, prog_name="bos", standalone_mode=False)
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        err.print("interrupted")
        return 130
    except BosError as error:
        err.print(f"[bold red]error:[/] {_escaped(str(error))}", highlight=False)
        return error.exit_code
    except Exception as error:
        return _explain(error)
    return code if isinstance(code, int) else 0  # what `typer.Exit` and Ctrl-C leave behind


def _explain(error: Exception) -> int:
    """Show what is not one of our own errors: usage, or a surprise whose traceback goes to a file."""
    if hasattr(error, "format_message"):
        err.print(f"[bold red]error:[/] {_escaped(error.format_message())}; see `bos --help`", highlight=False)
        return 2
    cause = error.__cause__ or error.__context__
    for candidate in (error, cause):
        if isinstance(candidate, BosError):
            err.print(f"[bold red]error:[/] {_escaped(str(candidate))}", highlight=False)
            return candidate.exit_code
    path = Settings.load().home / "logs" / "unexpected-error.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc())
        where = f"; details in {path}"
    except OSError:
        where = ""
    err.print(f"[bold red]unexpected error:[/] {_escaped(repr(error))}{where}", highlight=False)
    return 70


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _prepare(settings: Settings) -> None:
    """Set up this process for flows: Prefect's own settings, and where workers find the workspace."""
    from bos_core.scheduling.prefect_environment import apply

    apply(settings.home)
    os.environ.update(settings.environment())


def _business(name: str) -> Any:
    """Return a business flow by name; flows are found by entry point, the core never imports them."""
    return _check_business(name).load()


def _check_business(name: str) -> importlib.metadata.EntryPoint:
    """Return the entry point of a business; loading it takes seconds, a wrong name should not."""
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group="bos.businesses")}
    if name not in entries:
        known = ", ".join(sorted(entries))
        raise OptionError((Finding("business", (name,), "does not exist", f"known: {known}"),))
    return entries[name]


class _Terminal:
    """Shows the progress of the steps in the terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def started(self, step: str, title: str, subtasks: int) -> None:
        self._bars[step] = self._progress.add_task(title, total=subtasks)

    def advanced(self, step: str, subtasks: int) -> None:
        self._progress.advance(self._bars[step], subtasks)

    def finished(self, step: str, message: str) -> None:
        self._progress.stop_task(self._bars[step])
        description = self._progress.tasks[self._bars[step]].description
        self._progress.console.print(f"[dim]{description}:[/] {_escaped(message)}", highlight=False)


@contextmanager
def _progress() -> Iterator[_Terminal]:
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out, refresh_per_second=4) as progress:
        yield _Terminal(progress)


@app.command()
def demo(
    hours: Annotated[int, typer.Option(help="Hours to plan.")] = DEMO_HOURS,
    start: Annotated[str, typer.Option(help="First hour: number or date, e.g. 01-18.")] = "01-18",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last, unfinished demo.")] = False,
) -> None:
    """Run the planning chain for one week on a grid of 34,479 buses that comes with the packages."""
    from bos_core.api import connect

    bos = connect()
    known = {s.name for s in bos.workspace.scenarios.scenarios() if s.versions}
    if DEMO_NAME not in known:
        with out.status(f"importing {DEMO_GRID} ..."):
            _show_notes(_import(DEMO_GRID, DEMO_NAME, None))
    first = bos.workspace.scenarios.versions(DEMO_NAME)[0]
    if resume:
        _resume(_last_unfinished(first.label))
        return
    request = {"scenario": first.label, "horizon": {"start_hour": hour_of(start), "hours": hours}}
    _carry_out("planning-chain", request, "")


@app.command()
def run(
    business: Annotated[
        str, typer.Argument(help="planning-chain, power-flow, or one step like n1-verification.")
    ] = "planning-chain",
    grid: Annotated[
        str, typer.Option(help="Scenario name or version; or a grid file, folder or SimBench code to import.")
    ] = "",
    hours: Annotated[
        int | None,
        typer.Option(
            help="Hours; 8760 is the year. Default: 168; all that the scenario holds, of power-flow and of steps "
            "after unit commitment."
        ),
    ] = None,
    start: Annotated[str, typer.Option(help="First hour of the year: number, or date like 01-18.")] = "",
    from_step: Annotated[str, typer.Option(help="First step; earlier ones are taken from the scenario.")] = "",
    to_step: Annotated[str, typer.Option(help="Last step.")] = "",
    program: Annotated[list[str] | None, typer.Option(help="slot=program, may be repeated.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Field of the request, e.g. base_kv_min=380.")
    ] = None,
    overlay: Annotated[Path | None, typer.Option(help="Overlay file for an import.")] = None,
    resume: Annotated[
        str, typer.Option(help="Go on with this run (trace id, or 'last'); finished tasks are kept.")
    ] = "",
    request: Annotated[str, typer.Option(help="The whole request as JSON.", hidden=True)] = "",
    trace_id: Annotated[str, typer.Option(help="Trace id to use.", hidden=True)] = "",
) -> None:
    """Run a business, e.g. the planning chain, in this terminal."""
    business = business.replace("_", "-")
    _check_business(business)
    if resume:
        _resume(_last_unfinished() if resume == "last" else resume)
        return
    if request:
        _carry_out(business, json.loads(request), trace_id)
        return
    if not grid:
        raise OptionError((Finding("option", ("--grid",), "is missing", "name a scenario or a grid to import"),))
    scenario = _scenario(grid, overlay)
    wanted: dict[str, Any] = {
        "scenario": scenario,
        **_horizon(start, hours),
        "programs": {_name(key): _name(value) for key, value in (_pair(p, "--program") for p in program or [])},
        **{key: _value(value) for key, value in (_pair(item, "--set") for item in set_ or [])},
    }
    if from_step:
        wanted["from_step"] = _name(from_step)
    if to_step:
        wanted["to_step"] = _name(to_step)
    _carry_out(business, wanted, trace_id)


def _horizon(start: str, hours: int | None) -> dict[str, Any]:
    """Return the horizon of a request; what is not asked for is left to the business."""
    given: dict[str, int] = {"start_hour": hour_of(start)} if start else {}
    if hours is not None:
        given["hours"] = hours
    return {"horizon": given} if given else {}


def _carry_out(business: str, request: dict[str, Any], trace_id: str) -> None:
    from bos_core.api import connect
    from bos_core.scheduling.run_server import server_of_a_run

    settings = Settings.load()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"  # the terminal belongs to the progress
    _prepare(settings)
    bos = connect()
    trace_id = trace_id or str(uuid.uuid4())
    with server_of_a_run(settings.home) as server:
        with out.status("starting ..."):
            flow = _business(business)  # takes seconds, as does the server
            parsed = _validated(flow, request)
            server.wait()
        try:
            _watch(flow, parsed, trace_id)
        except BaseException:
            _say_how_to_go_on(bos, trace_id)
            raise
    _show_result(bos.open(trace_id))


def _watch(flow: Any, request: Any, trace_id: str) -> None:
    """Run a flow and show its progress."""
    for name in ("distributed", "httpx"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    watched_by = import_module(flow.fn.__module__.split(".")[0] + ".progress").watched_by
    try:
        with _progress() as terminal, watched_by(terminal):
            flow(request, trace_id)
    finally:
        for handler in logging.getLogger("prefect.flow_runs").handlers:
            handler.flush()  # while the server still listens


def _say_how_to_go_on(bos: Any, trace_id: str) -> None:
    """Name the run that ended early; nothing to say when it had not begun, or the index cannot be read."""
    with suppress(BosError):
        counts = bos.workspace.ledger.counts(bos.open(trace_id).trace_id)
        done = sum(count for state, count in counts.items() if state.value == "success")
        err.print(
            f"run {trace_id} stopped; {done} finished tasks are kept. "
            f"Go on with: bos run --resume {trace_id[:8]}; look at it with: bos ps {trace_id[:8]}",
            highlight=False,
            soft_wrap=True,
        )


def _validated(flow: Any, request: dict[str, Any]) -> Any:
    """Validate a request against the flow's parameter model; all findings at once."""
    import typing

    from pydantic import ValidationError

    model = typing.get_type_hints(flow.fn)["request"]
    try:
        return model.model_validate(request)
    except ValidationError as error:
        findings = []
        for item in error.errors(include_url=False):
            field = ".".join(map(str, item["loc"]))
            problem = str(item["msg"]).removeprefix("Value error, ").replace("Input should", "should")
            if item["type"] == "extra_forbidden":
                problem, remedy = "is no field of it", f"known: {', '.join(model.model_fields)}"
            else:
                remedy = "correct it"
            given = f" (got {item['input']!r})" if isinstance(item["input"], str | int | float) else ""
            findings.append(Finding("request", (), problem + given, remedy, field))
        raise OptionError(tuple(findings)) from None


def _show_result(run: Any, output: Path | None = None) -> Path:
    """Print what a planner wants to know first; write the report and return its path."""
    from bos_core.report.charts import TimeAxis
    from bos_core.report.collection import collect, report_path
    from bos_core.report.page import write
    from bos_core.report.tables import power_flow, table6, violations

    data = collect(run.workspace, run.trace_id)
    if data.power_flow is not None:
        out.print(power_flow(data.power_flow, TimeAxis(data.head.start, data.head.hours).label))
    out.print(table6(data.table6))
    figures = data.figures
    if figures.pairs_verified is not None:
        when, after = ":", ""
        if figures.violations_after is not None:
            when = "; after adjustment"
            after = f"; {figures.violations_after:,} after adjustment of {figures.hours_adjusted} hours"
        out.print(
            f"N-1: {figures.pairs_verified:,} pairs verified{when} {figures.pairs_converged:,} converged, "
            f"{figures.pairs_islanded:,} islanded, {figures.pairs_diverged:,} diverged; pairs with violations: "
            f"{figures.violations_before:,}{after}"
        )
    if data.security is not None and data.security.remaining is not None:
        out.print(violations(data.security.remaining, data.security.adjusted))
    for warning in data.head.warnings:
        out.print(f"[yellow]note:[/] {_escaped(warning)}")
    path = write(data, output or report_path(run.workspace.settings, run.trace_id))
    out.print(f"run     {run.trace_id}")
    out.print(f"report  {path}", soft_wrap=True)
    return path


def hour_of(text: str) -> int:
    """Return the hour of the year of a number or a date ``MM-DD`` (29 February does not exist)."""
    from bos_core.objects import plan_hours

    try:
        return plan_hours.hour_of(text)
    except ValueError:
        raise OptionError(
            (Finding("option", ("--start",), f"{text!r} is no hour and no date", "give 0 to 8759, or MM-DD"),)
        ) from None


def _name(text: str) -> str:
    """Return a step, slot or program as the code spells it; people write hyphens, and steps as deployments do."""
    return re.sub(r"^step_\d[a-c]?_", "", text.strip().lower().replace("-", "_"))


def _pair(text: str, option: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise OptionError((Finding("option", (option,), f"{text!r} is no pair", "write key=value"),))
    return key, value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _scenario(grid: str, overlay: Path | None) -> str:
    """Return a version label: of a known scenario, or of the import of a grid."""
    from bos_core.api import connect
    from bos_core.objects.errors import NotFoundError

    bos = connect()
    try:
        return bos.scenarios.get(grid).label
    except NotFoundError:
        pass
    with out.status(f"importing {grid} ..."):
        label, notes = _import(grid, None, overlay)
    _show_notes((label, notes))
    return label


def _import(source: str, name: str | None, overlay: Path | None) -> tuple[str, tuple[Any, ...]]:
    from bos_core.api import connect, imported_from
    from bos_core.exchange import import_grid

    scenarios = connect().scenarios
    imported = import_grid(source, overlay=overlay, ontology=scenarios.workspace.scenarios.ontology())
    version = scenarios.add(imported, name or Path(source).stem, imported_from(source))
    return version.label, imported.notes


def _show_notes(imported: tuple[str, tuple[Any, ...]]) -> None:
    label, notes = imported
    out.print(f"imported as [bold]{label}[/]")
    for note in notes:
        out.print(f"  [dim]{_escaped(str(note))}[/]")


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(help="Grid file or folder, SimBench code, or pandapower:NAME.")],
    name: Annotated[str, typer.Option(help="Scenario name; default: the file's name.")] = "",
    overlay: Annotated[Path | None, typer.Option(help="File with costs, ramps, HVDC lines, ... to add.")] = None,
) -> None:
    """Import a grid as a new scenario version."""
    with out.status(f"importing {file} ..."):
        imported = _import(file, name or None, overlay)
    _show_notes(imported)


@app.command()
def export(
    scenario: Annotated[str, typer.Argument(help="Scenario version to export.")],
    path: Annotated[Path, typer.Argument(help="Target: .zip (everything), .json (pandapower), .m, .mat, .xiidm.")],
) -> None:
    """Export a scenario version to a file."""
    from bos_core.api import connect

    notes = connect().scenarios.export(scenario, path)
    out.print(f"wrote {path}")
    for note in notes:
        out.print(f"  {note}")


@app.command()
def scenarios() -> None:
    """List scenarios and their versions."""
    from bos_core.api import connect

    out.print(listings.scenarios(connect().workspace.scenarios.versions()))


@app.command()
def elements(
    scenario: Annotated[str, typer.Argument(help="Scenario version.")],
    kind: Annotated[str, typer.Argument(help="What to list: bus, line, transformer, unit, load, station, ...")],
    near: Annotated[str, typer.Option(help="Only near this element: uuid or name.")] = "",
    within: Annotated[str, typer.Option(help="Only within this station, region or system: uuid or name.")] = "",
    cut_off_by: Annotated[
        list[str] | None,
        typer.Option(help="Only what loses its supply when this element is lost; may be repeated."),
    ] = None,
    start_kind: Annotated[str, typer.Option(help="Kind of the element named, where its name is not enough.")] = "",
    hops: Annotated[int, typer.Option(help="How far, in devices crossed from bus to bus.", min=0)] = 3,
    columns: Annotated[str, typer.Option(help="Further columns of the kind's table, by comma.")] = "",
    rows: Annotated[int, typer.Option(help="How many to show.", min=1)] = 50,
) -> None:
    """List elements near, within or cut off by others: the graph says which, the tables say what they are."""
    from bos_core.api import connect

    options = {"--near": near, "--within": within, "--cut-off-by": cut_off_by}
    given = [name for name, value in options.items() if value]
    if len(given) != 1:
        problem = "are given together" if given else "are all missing"
        finding = Finding("option", tuple(given or options), problem, f"give one of {', '.join(options)}")
        raise OptionError((finding,))
    with out.status("asking the graph ...") as status, connect().ontology(scenario) as grid:
        named = [grid.element(name, start_kind) for name in cut_off_by or [near or within]]
        question: Any
        if near:
            question = grid.near(named[0], kind, hops)
        else:
            question = grid.within(named[0], kind) if within else grid.cut_off(*named, kind=kind)
        answer = question.select(*filter(None, (name.strip() for name in columns.split(",")))).run()
        status.stop()
    out.print(listings.elements(answer.table.slice(0, rows)))
    if answer.table.num_rows > rows:
        out.print(f"{answer.table.num_rows - rows:,} more; --rows shows more of them")
    out.print(f"[dim]{_escaped(str(answer.plan))}[/]", highlight=False)


@app.command()
def outage(
    scenario: Annotated[str, typer.Argument(help="Scenario version.")],
    lost: Annotated[
        list[str], typer.Argument(help="What is lost: devices, buses, stations, ...; uuids or names.")
    ],
    kind: Annotated[str, typer.Option(help="Kind of the elements named, where their names are not enough.")] = "",
    rows: Annotated[int, typer.Option(help="How many islands to show.", min=1)] = 20,
) -> None:
    """Show which islands are left when elements are lost, and what loses its supply."""
    from bos_core.api import connect

    with out.status("asking the graph ...") as status, connect().ontology(scenario) as grid:
        answer = grid.outage(*(grid.element(name, kind) for name in lost)).run()
        status.stop()
    out.print(listings.elements(answer.islands.slice(0, rows)))
    if answer.islands.num_rows > rows:
        out.print(f"{answer.islands.num_rows - rows:,} more; --rows shows more of them")
    if answer.impact.num_rows:
        out.print(listings.elements(answer.impact))
        out.print("which ones: bos elements SCENARIO KIND --cut-off-by ELEMENT", highlight=False)
    else:
        out.print("nothing loses its supply")
    out.print(f"[dim]{_escaped(str(answer.plan))}[/]", highlight=False)


@app.command()
def ps(
    run: Annotated[str, typer.Argument(help="Everything about this run: trace id or the start of it.")] = "",
    limit: Annotated[int, typer.Option(help="How many runs.", min=1)] = 20,
) -> None:
    """List runs and the state of their tasks; name one to see its steps and what failed."""
    from bos_core.api import connect

    ledger = connect().workspace.ledger
    out.print(listings.run(ledger, ledger.task_set(run)) if run else listings.runs(ledger, limit))


@app.command()
def logs(
    run: Reference = "",
    task: Annotated[str, typer.Option(help="Only this task id.")] = "",
    limit: Annotated[int, typer.Option(help="How many lines.")] = 1000,
) -> None:
    """Show the log lines of a run's tasks; each carries the trace id."""
    from bos_core.api import connect

    ledger = connect().workspace.ledger
    trace = ledger.task_set(run or _newest()).trace_id
    for line in ledger.logs(trace, task or None, limit):
        stamp = dt.datetime.fromtimestamp(line.created_s).strftime("%H:%M:%S")
        text = f"{stamp} {trace[:8]} {line.task[:8]}/{line.attempt} {line.level:<7} {line.logger}: {line.message}"
        out.print(text, highlight=False, markup=False, soft_wrap=True)


@app.command()
def report(
    run: Reference = "",
    output: Annotated[Path | None, typer.Option(help="Where to write the HTML file.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the HTML report of a run and say where; show Table 6 and what is still violated."""
    from bos_core.api import connect

    bos = connect()
    path = _show_result(bos.open(run or _newest()), output)
    if open_ and not webbrowser.open(path.absolute().as_uri()):
        out.print("[yellow]note:[/] there is no browser here; open the file yourself")


@app.command()
def trace(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="Address of a value, or its front part: RUN, RUN/step, RUN/step/output, NAME@8/series; a step of "
            "the newest run; a task, a scenario version, a Parquet file. Default: the newest run."
        ),
    ] = None,
    hour: Annotated[int | None, typer.Option(help="Hour of the year.", min=0)] = None,
    element: Annotated[str | None, typer.Option(help="Name or id of a bus, branch, unit, ...")] = None,
    column: Annotated[str, typer.Option(help="Quantity, e.g. loading or vm_pu.")] = "",
    json_: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    openlineage: Annotated[
        Path | None, typer.Option(help="Write the events of a whole run to this file, a line of JSON each.")
    ] = None,
) -> None:
    """Show where a value comes from: task, program, process, scenario versions, back to the imported grid."""
    from bos_core import listings_lineage
    from bos_core.api import connect

    if openlineage is not None:
        count = connect().open("/".join(what or ()) or _newest()).openlineage(openlineage)
        out.print(f"wrote {count:,} events to {openlineage}", highlight=False)
        return
    found = connect().trace("/".join(what or ()), hour=hour, element=element, column=column)
    if json_:
        out.print_json(json.dumps(found.as_dict()))
    else:
        for part in listings_lineage.trace(found):
            out.print(part, highlight=False, soft_wrap=isinstance(part, str))
    if found.bad_files:
        bad = ", ".join(f"{file.address} is {file.state.value}" for file in found.bad_files)
        run_id = found.run.trace_id[:8] if found.run else ""
        raise StorageError(f"{bad}; `bos rebuild {run_id}` makes it again")


@app.command()
def uses(
    what: Annotated[
        str, typer.Argument(help="Scenario, version, run, RUN/step, task, or program (slot/name, or its digest).")
    ],
    json_: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Show what was made from something: results, scenario versions, reports."""
    from bos_core import listings_lineage
    from bos_core.api import connect

    found = connect().uses(what)
    if json_:
        out.print_json(json.dumps(found.as_dict()))
        return
    for part in listings_lineage.uses(found):
        out.print(part, highlight=False, soft_wrap=isinstance(part, str))


@app.command()
def rebuild(
    what: Annotated[str, typer.Argument(help="RUN, RUN/step or RUN/step/output; default: the newest run.")] = "",
    check: Annotated[bool, typer.Option("--check", help="Only compare the files with the index.")] = False,
) -> None:
    """Make lost or changed result files again, byte by byte as they were committed."""
    from bos_core import listings_lineage
    from bos_core.api import connect

    trace_id, _, part = what.partition("/")
    step, _, output = part.partition("/")
    found = connect().open(trace_id or _newest())
    if check:
        with out.status("comparing files with the index ..."):
            lost = found.losses(_name(step), output)
        for line in listings_lineage.losses(lost):
            out.print(line, highlight=False, soft_wrap=True)
        raise typer.Exit(1 if lost else 0)
    with out.status("comparing files with the index ...") as status:
        rebuilt = found.rebuild(_name(step), output, lambda address: status.update(f"restored {address}"))
    for address in rebuilt.restored:
        out.print(f"[green]✓[/] restored {_escaped(address)}", highlight=False, soft_wrap=True)
    out.print(f"{rebuilt.checked:,} files compared, {len(rebuilt.restored):,} restored", highlight=False)
    if rebuilt.failures:
        raise StorageError("\n".join(["these could not be made again:", *(f"  - {f}" for f in rebuilt.failures)]))


@app.command()
def doctor(
    graph: Annotated[bool, typer.Option("--graph", help="Compare the graph with the tables and mend it.")] = False,
    programs: Annotated[
        bool,
        typer.Option("--programs", help="Bring the repositories of programs to the commits of the index."),
    ] = False,
) -> None:
    """Check index, store, programs, servers and solvers; say what is wrong and what to do."""
    if graph or programs:
        if graph:
            _mend_graph()
        if programs:
            _mend_programs()
        return
    import platform
    import shutil

    from bos_core.access.services import check_graph
    from bos_core.access.workspace import broken, check_workspace
    from bos_core.api import connect
    from bos_core.grid import hours_lanes, n1_kernels
    from bos_core.index.containers import ContainerIndex
    from bos_core.index.database import shown
    from bos_core.programs import registry
    from bos_core.scheduling.container_monitor import daemons
    from bos_core.scheduling.docker_source import check_hosts

    settings = Settings.load()
    findings = list(check_workspace(settings))
    count, servers = 0, settings.container_hosts
    try:
        check_graph(settings)
    except BosError as error:
        findings.append(broken("graph", error))
    with suppress(StorageError):  # said above
        bos = connect()
        servers = daemons(settings, ContainerIndex(bos.workspace.engine))
        findings += check_hosts(servers)
        catalogue = bos.programs.catalogue
        findings += catalogue.check()
        for count, entry in enumerate(catalogue.entries(), 1):  # noqa: B007
            if entry.problem:
                name = f"{entry.contract.name}/{entry.name}"
                findings.append(Finding("program", (name,), entry.problem, "install what it needs"))
    if shutil.which("glpsol") is None:
        findings.append(
            Finding("solver", ("glpk",), "glpsol is not on the path", "install glpk-utils to use GLPK programs")
        )
    slower = {"n1_native": (n1_kernels, "outages"), "hours_native": (hours_lanes, "hours of a power flow")}
    for extension, (kernels, what) in slower.items():
        if not kernels.INSTRUCTION_SETS:
            problem = f"is not built: {what} take several times longer with numba"
            todo = "install a C++ compiler, then `pip install -e .`"
            findings.append(Finding("extension", (extension,), problem, todo))
    out.print(
        listings.pairs(
            {
                "bos": f"{importlib.metadata.version('bos')}, Python {platform.python_version()}",
                "home": str(settings.home),
                "index": shown(settings.database),
                "store": settings.store,
                "graph": settings.graph_url or f"embedded, {settings.home / 'graph.lbug'}",
                "programs": f"{count} in {len(registry.slots())} slots",
                "N-1 kernel": n1_kernels.KERNELS[0],
                "servers": ", ".join(["this machine", *(host.name or host.url for host in servers)]),
                "service": _service(settings.home),
            }
        )
    )
    for finding in findings:
        out.print(f"[yellow]•[/] {_escaped(str(finding))}", highlight=False)
    if findings:
        raise typer.Exit(1)
    out.print("[green]✓[/] index, store, graph, programs, servers and solvers are in order")


def _mend_graph() -> None:
    """Bring the projections up to the index, and build the graphs anew that differ from the tables."""
    from bos_core.access.projection import Projector, opened_graph
    from bos_core.api import connect

    workspace = connect().workspace
    differ = 0
    with out.status("comparing graph and tables ..."), opened_graph(workspace.settings) as store:
        projector = Projector(workspace, store)
        for topology in projector.collect():
            out.print(f"[yellow]•[/] topology {topology[:12]}: no version has it; dropped", highlight=False)
        for found in projector.mend():
            said = f"{found.version.label} (topology {found.drift.topology[:12]}): "
            if found.drift.is_none:
                out.print(f"[green]✓[/] {said}graph and tables agree", highlight=False)
                continue
            mended = "built anew" if found.left.is_none else "still differs after it was built anew"
            out.print(f"[yellow]•[/] {said}{_escaped(str(found.drift))}; {mended}", highlight=False)
            differ += not found.left.is_none
    if differ:
        raise typer.Exit(1)


def _mend_programs() -> None:
    """Move the branches of the repositories to the commits of the index, and say which were elsewhere."""
    from bos_core.api import connect

    catalogue = connect().programs.catalogue
    moved = catalogue.follow()
    for name in catalogue.repositories:
        said = "moved to the commit of the index" if name in moved else "agrees with the index"
        out.print(f"[green]✓[/] {name} repository: {said}", highlight=False)


def _service(home: Path) -> str:
    from bos_core.scheduling.prefect_server import running_server

    running = running_server(home)
    return f"up at {running.ui_url}" if running else "not up; `bos up` starts it"


@app.command()
def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the Prefect server.")] = 4200,
    profile: Annotated[
        Profile, typer.Option(help="full: index, store and graph must all be servers, and answer.")
    ] = Profile.EMBEDDED,
) -> None:
    """Start Prefect's server, work pool, worker, projector, monitor and deployments; stop with Ctrl-C."""
    settings = Settings.load()
    _prepare(settings)
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group="bos.services")}
    entries["up"].load()(settings, host=host, port=port, full=profile is Profile.FULL)


@app.command(hidden=True)
def governor(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on the loopback interface; 0: any.")] = 0,
    cores: Annotated[
        int, typer.Option(min=0, envvar="BOS_WORKERS", help="Containers at the same time; 0: one a core.")
    ] = 0,
    memory_mb: Annotated[
        int,
        typer.Option(
            min=0,
            envvar="BOS_MEMORY_MB",
            help="What containers may reserve together; 0: nine tenths of what is free.",
        ),
    ] = 0,
) -> None:
    """Run the co-scheduler of this machine; work pools and runs start it themselves."""
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group="bos.services")}
    entries["governor"].load()(port, cores, memory_mb)


def _newest() -> str:
    from bos_core.api import connect
    from bos_core.objects.errors import NotFoundError

    found = connect().workspace.ledger.task_sets(1)
    if not found:
        raise NotFoundError("there is no run yet; start one with `bos demo` or `bos run`")
    return found[0].trace_id


def _last_unfinished(scenario: str = "") -> str:
    """Return the trace id of the newest run that did not succeed, of any scenario or of this one."""
    from bos_core.api import connect
    from bos_core.objects.errors import NotFoundError
    from bos_core.objects.task import TaskState

    for record in connect().workspace.ledger.task_sets():
        if record.state is not TaskState.SUCCESS and scenario in {"", record.scenario}:
            return record.trace_id
    raise NotFoundError("no unfinished run to resume; `bos ps` lists the runs")


def _resume(reference: str) -> None:
    """Go on with a run as it was asked for."""
    from bos_core.api import connect

    record = connect().workspace.ledger.task_set(reference)
    _carry_out(record.business, record.request, record.trace_id)


if __name__ == "__main__":
    main()
