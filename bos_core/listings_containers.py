"""What `bos containers` prints: servers with their containers, or everything about one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import mul

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from bos_core.index.containers import ContainerNode, ContainerTree, ServerNode, Use
from bos_core.listings import listing, moment, pairs
from bos_core.objects.container import Container, Sample

TASKS_SHOWN = 3
UNWATCHED = "no monitor is running (`bos up` starts one): this is what was found just now, and nothing is kept"


def tree(found: ContainerTree) -> Iterator[RenderableType]:
    """Yield a heading and a table a server."""
    for node in found.servers:
        yield _heading(node)
        if node.containers:
            yield _table(node)
    if not found.is_fresh:
        yield f"[dim]{UNWATCHED}[/]"


def server(node: ServerNode, use: Use) -> Table:
    """Return everything about one server."""
    known, live = node.server, sum(found.container.is_live for found in node.containers)
    values = {
        "server": known.name,
        "id": known.id,
        "address": known.address or "this machine",
        "state": f"{known.state}: {known.message}" if known.message else str(known.state),
        "has": f"{known.cpu_cores:g} cores, {known.memory_mb:,} MB; {known.memory_reserve_mb:,} MB are left alone",
        "reserved": f"{node.reserved_mb:,} MB by {live} container{'' if live == 1 else 's'}",
        **_use(node.use, use),
        **{name: _facts(facts) for name, facts in known.attributes.items()},
        "watched by": known.monitor,
    }
    return pairs(values)


def container(node: ContainerNode, use: Use) -> Table:
    """Return everything about one container."""
    own = node.container
    values = {
        "container": own.name,
        "id": own.id,
        "image": f"{own.image}, {own.image_digest}" if own.image else "",
        "state": own.state + (f", {own.message}" if own.message else ""),
        "services": ", ".join(f"{i.service} at {i.address}" for i in own.instances) or "none of BOS",
        "programs": f"{own.mode}, of {', '.join(own.slots) or 'every slot'}" if own.executes else "",
        "quota": f"{_limit(own.cpu_cores, 'cores')}, {_limit(own.memory_mb, 'MB')}",
        **_use(node.use, use),
        **{name: _facts(facts) for name, facts in own.attributes.items()},
        "tasks": "; ".join(f"{task.step} {task.chunk} {task.id}" for task in node.tasks),
        "started": moment(own.started_s) if own.started_s else "",
        "ended": moment(own.ended_s) if own.ended_s else "",
    }
    return pairs({name: value for name, value in values.items() if value})


def _heading(node: ServerNode) -> str:
    known = node.server
    if not node.is_up:
        return f"[bold red]{escape(known.name)}[/] {known.state}: {escape(known.message)}"
    used = f"{node.use.cpu_cores:.2f} of " if node.use else ""
    memory = f"{node.use.memory_mb:,.0f} of " if node.use else ""
    where = f" [dim]{escape(known.address)}[/]" if known.address else ""
    has = f"{used}{known.cpu_cores:g} cores, {memory}{known.memory_mb:,} MB"
    return f"[bold]{escape(known.name)}[/] {has}; {node.reserved_mb:,} MB reserved{where}"


def _table(node: ServerNode) -> Table:
    table = listing("container", "service", "state", "cores", "MB", "task")
    table.columns[0].overflow = table.columns[5].overflow = "ellipsis"
    for found in node.containers:
        own = found.container
        table.add_row(
            escape(own.name),
            escape(_services(own)),
            own.state if own.is_live else escape(own.message or own.state),
            *_cells(found),
            escape(_tasks(found)),
        )
    return table


def _services(own: Container) -> str:
    return ", ".join(i.service for i in own.instances) + (" (trial)" if own.mode == "trial" else "")


def _tasks(node: ContainerNode) -> str:
    shown = [f"{task.step} {task.chunk}" for task in node.tasks[:TASKS_SHOWN]]
    more = len(node.tasks) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _cells(node: ContainerNode) -> tuple[str, str]:
    own, use = node.container, node.use
    if not own.is_live:
        return "", ""
    cores, memory = (f"{use.cpu_cores:.2f}", f"{use.memory_mb:,.0f}") if use else ("–", "–")
    return _of(cores, own.cpu_cores), _of(memory, own.memory_mb)


def _of(used: str, quota: float) -> str:
    return f"{used} of {quota:,g}" if quota else used


def _limit(quota: float, unit: str) -> str:
    return f"{quota:,g} {unit}" if quota else f"no limit of {unit}"


def _use(newest: Sample | None, use: Use) -> dict[str, str]:
    shown = {"uses": f"{newest.cpu_cores:.2f} cores, {newest.memory_mb:,.0f} MB"} if newest else {}
    if use.at_s:
        seconds = sum(use.span_s)
        cores, mb = (sum(map(mul, means, use.span_s)) / seconds for means in (use.cpu_cores, use.memory_mb))
        shown["last hour"] = (
            f"mean {cores:.2f} cores, {mb:,.0f} MB; "
            f"most {max(use.cpu_cores_max):.2f} cores, {max(use.memory_mb_max):,.0f} MB"
        )
    return shown


def _facts(facts: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in facts.items())
