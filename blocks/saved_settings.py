"""Settings kept as blocks: what `bos up` saves, and how another machine gets them back."""

from __future__ import annotations

import os
from functools import cache

from blocks.container_host import ContainerHost
from blocks.graph_index import GraphIndex
from blocks.relational_index import RelationalIndex
from blocks.result_store import ResultStoreBlock
from bos_core.objects.settings import Settings

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
