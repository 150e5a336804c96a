"""Settings kept as blocks: what `bos up` saves, and how another machine gets them back."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

from prefect.client.orchestration import get_client

from blocks.container_host import ContainerHost
from blocks.graph_index import GraphIndex
from blocks.relational_index import RelationalIndex
from blocks.result_store import ResultStoreBlock
from bos_core.objects.errors import OptionError
from bos_core.objects.settings import HostOptions, Settings

BLOCK_NAME = "bos"
BLOCK_VARIABLE = "BOS_SETTINGS_BLOCK"
"""Names the blocks that a flow run takes its settings from; `bos up` sets it for its worker."""


def save_blocks(settings: Settings, name: str = BLOCK_NAME) -> None:
    """Save index, store and graph of these settings as blocks; an embedded graph has none.

    Raises
    ------
    BosError
        If one of them cannot be used.
    """
    RelationalIndex.from_settings(settings).save(name, overwrite=True)
    ResultStoreBlock.from_settings(settings).save(name, overwrite=True)
    for optional in (GraphIndex, ContainerHost):
        optional.register_type_and_schema()
    if settings.graph_url:
        GraphIndex.from_settings(settings).save(name, overwrite=True)
    elif _saved_graph(name):
        GraphIndex.delete(name)


def settings_from_blocks(name: str = BLOCK_NAME, base: Settings | None = None) -> Settings:
    """Return `base` (default: the environment's settings) with index, store and graph of the saved blocks."""
    settings = RelationalIndex.load(name).settings(base or Settings.load())
    settings = ResultStoreBlock.load(name).settings(settings)
    graph = _saved_graph(name)
    return graph.settings(settings) if graph else Settings.load(**{**dict(settings), "graph_url": ""})


def container_hosts(settings: Settings, say: Callable[[str], None]) -> tuple[HostOptions, ...]:
    """Return the container hosts of these settings and of all blocks, each URL once; the settings come first.

    A block that cannot be used is left out and named: one made in the UI was never checked.
    """
    hosts = {host.url: host for host in settings.container_hosts}
    with get_client(sync_client=True) as client:
        documents = client.read_block_documents_by_type(ContainerHost.get_block_type_slug())
    for document in documents:
        name = str(document.name)
        block = ContainerHost.load(name)
        if block.url in hosts:
            continue
        try:
            hosts |= {h.url: h for h in block.options(name, tuple(hosts.values()))}
        except OptionError as error:
            say(f"container host {name} is left out: {error}")
    return tuple(hosts.values())


def run_settings() -> Settings:
    """Return the settings of this flow run: those of the blocks that the environment names, else its own.

    Blocks are read once a process: all steps of a run work with the same index and store.
    """
    name = os.environ.get(BLOCK_VARIABLE, "")
    return _read_once(name) if name else Settings.load()


@cache
def _read_once(name: str) -> Settings:
    return settings_from_blocks(name)


def _saved_graph(name: str) -> GraphIndex | None:
    try:
        return GraphIndex.load(name)
    except ValueError:
        return None
