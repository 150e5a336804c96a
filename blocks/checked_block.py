"""A block that is tried before it is saved."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any
from uuid import UUID

from prefect._internal.compatibility.async_dispatch import async_dispatch
from prefect.blocks.core import Block
from prefect.utilities.asyncutils import run_sync_in_worker_thread


class CheckedBlock(Block):
    """Base of the BOS blocks: `save` reaches out to what the block names, and refuses what cannot be used."""

    _code_example = "See the block's fields; saving checks that the service answers."

    @abstractmethod
    def check(self) -> None:
        """Reach out to the service.

        Raises
        ------
        BosError
            With what is wrong and the next step; never with a secret.
        """

    async def asave(self, name: str | None = None, overwrite: bool = False, client: Any = None) -> UUID:
        """Check, then save."""
        await run_sync_in_worker_thread(self.check)
        found: UUID = await super().asave(name, overwrite, client=client)
        return found

    @async_dispatch(asave)
    def save(self, name: str | None = None, overwrite: bool = False, client: Any = None) -> UUID:
        """Check, then save."""
        self.check()
        return self._save_sync(name=name, overwrite=overwrite)
