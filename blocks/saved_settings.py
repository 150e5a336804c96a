"""Settings kept as blocks: what `bos up` saves, and how another machine gets them back."""

from __future__ import annotations

from blocks.container_host import ContainerHost
from blocks.graph_index import GraphIndex
from blocks.relational_index import RelationalIndex
from blocks.result_store import ResultStoreBlock
from bos_core.objects.settings import Settings

BLOCK_NAME = "bos"


def save_blocks(settings: Settings, name: str = BLOCK_NAME) -> None:
    """Save index and store of these settings as blocks, and offer the types of the optional ones in the UI.

    Raises
    ------
    BosError
        If index or store cannot be used.
    """
    RelationalIndex.from_settings(settings).save(name, overwrite=True)
    ResultStoreBlock.from_settings(settings).save(name, overwrite=True)
    for optional in (GraphIndex, ContainerHost):
        optional.register_type_and_schema()


def settings_from_blocks(name: str = BLOCK_NAME, base: Settings | None = None) -> Settings:
    """Return `base` (default: the environment's settings) with index and store of the saved blocks."""
    settings = RelationalIndex.load(name).settings(base or Settings.load())
    return ResultStoreBlock.load(name).settings(settings)
