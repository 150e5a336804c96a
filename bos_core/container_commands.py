"""`bos containers`: servers, containers and service instances, once or as they change."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live

if TYPE_CHECKING:  # `bos --help` must not pay for them
    from bos_core.api import Bos
    from bos_core.index.containers import ContainerNode, ContainerTree, ServerNode

PERIOD_S = 1.0
ENDED_WITHIN_S = 3600.0
out = Console(highlight=False)


def containers(
    name: Annotated[
        str, typer.Argument(help="Everything about this server or container: name, id or address.")
    ] = "",
    ended: Annotated[
        bool, typer.Option("--ended", help="Also those that ended in the last hour, and how.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every second, until Ctrl-C.")] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Everything, as JSON; with --watch a line a second.")
    ] = False,
) -> None:
    """Show servers, their containers and the services in them: quotas, use, tasks in hand."""
    from bos_core.api import connect

    bos = connect()

    def found() -> ContainerTree | ServerNode | ContainerNode:
        tree = bos.containers(ENDED_WITHIN_S if ended or name else None)
        return tree.find(name) if name else tree

    if not watch:
        if json_:
            out.print_json(json.dumps(asdict(found())))
        else:
            out.print(_shown(bos, found()))
        return
    with suppress(KeyboardInterrupt):
        if json_:
            while True:
                print(json.dumps(asdict(found())), flush=True)
                time.sleep(PERIOD_S)
        with Live(console=out, auto_refresh=False) as live:
            while True:
                live.update(_shown(bos, found()), refresh=True)
                time.sleep(PERIOD_S)


def _shown(bos: Bos, found: ContainerTree | ServerNode | ContainerNode) -> RenderableType:
    from bos_core import listings_containers
    from bos_core.index.containers import ContainerTree, ServerNode

    if isinstance(found, ContainerTree):
        return Group(*listings_containers.tree(found))
    if isinstance(found, ServerNode):
        return listings_containers.server(found, bos.used(found.server.id))
    return listings_containers.container(found, bos.used(found.container.id))
