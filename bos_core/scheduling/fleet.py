"""What the governor needs of a server that can run containers."""

from __future__ import annotations

from typing import Protocol

from bos_core.scheduling.events import ServerJoined
from bos_core.scheduling.instructions import ResizeContainer, StartContainer, StopContainer


class Fleet(Protocol):
    """The containers of one server, each a Dask worker with one thread.

    A fleet tells what happens through the function that it was made with: `ContainerStartFailed`,
    `ContainerStopped` for each that has ended, whoever ended it, `QuotaChanged` and `MemorySampled`. That a
    container has started, Dask says.
    """

    def joined(self) -> ServerJoined:
        """Return the server, its limits, and the containers that already run on it."""

    async def start(self, order: StartContainer) -> None:
        """Start a container."""

    async def stop(self, order: StopContainer) -> None:
        """Stop a container at once, whatever it executes; one that is unknown has stopped."""

    async def resize(self, order: ResizeContainer) -> None:
        """Change the quota of a container while it runs."""

    def forget_peak(self, container: str) -> None:
        """Let the peak memory of a container start anew."""

    def peak_memory_mb(self, container: str) -> float:
        """Return the most memory that a container has held since, in MB; 0 if that is not known."""

    async def close(self) -> None:
        """Stop all containers."""
