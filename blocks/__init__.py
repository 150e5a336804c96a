"""Prefect blocks of BOS. Importing this package registers them (entry-point group ``prefect.collections``)."""

from blocks.container_host import ContainerHost
from blocks.graph_index import GraphIndex
from blocks.relational_index import RelationalIndex
from blocks.result_store import ResultStoreBlock
from blocks.saved_settings import (
    BLOCK_NAME,
    BLOCK_VARIABLE,
    container_hosts,
    run_settings,
    save_blocks,
    settings_from_blocks,
)

__all__ = [
    "BLOCK_NAME",
    "BLOCK_VARIABLE",
    "ContainerHost",
    "GraphIndex",
    "RelationalIndex",
    "ResultStoreBlock",
    "container_hosts",
    "run_settings",
    "save_blocks",
    "settings_from_blocks",
]
