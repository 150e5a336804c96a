"""The container host as a block."""

from __future__ import annotations

from pydantic import Field

from blocks.checked_block import CheckedBlock
from bos_core.objects.settings import HostOptions, Settings


class ContainerHost(CheckedBlock):
    """Where containers run: a Docker engine reached over its socket or a URL."""

    _block_type_name = "BOS container host"
    _block_type_slug = "bos-container-host"
    _description = "Docker engine on which BOS runs tasks in containers."

    url: str = Field(
        "unix:///var/run/docker.sock",
        title="Docker URL",
        description="unix:///socket, tcp://host:2376 or ssh://host.",
    )
    memory_reserve_mb: int = Field(
        1024, title="Memory reserve (MB)", description="Memory of the host that BOS leaves alone.", ge=0
    )

    def options(self, name: str, others: tuple[HostOptions, ...] = ()) -> tuple[HostOptions, ...]:
        """Return other hosts and this one, as a server of this name.

        Raises
        ------
        OptionError
            If the URL is none of Docker's, or another has the name.
        """
        host = {"url": self.url, "name": name, "memory_reserve_mb": self.memory_reserve_mb}
        return Settings.load(container_hosts=(*others, host)).container_hosts

    def check(self) -> None:
        """Ping the engine."""
        from bos_core.scheduling.docker_source import check_host

        check_host(self.url)
