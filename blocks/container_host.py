"""The container host as a block."""

from __future__ import annotations

from pydantic import Field

from blocks.checked_block import CheckedBlock
from bos_core.objects.errors import Finding, OptionError, ServiceError

TIMEOUT_S = 5


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

    def check(self) -> None:
        """Ping the engine."""
        import docker
        from docker.errors import DockerException

        if not self.url.startswith(("unix://", "tcp://", "ssh://", "http://", "https://")):
            remedy = "use unix:///var/run/docker.sock or tcp://host:2376"
            raise OptionError((Finding("container host", (self.url,), "is not a Docker URL", remedy, "url"),))
        try:
            client = docker.DockerClient(base_url=self.url, timeout=TIMEOUT_S, version="auto")
            try:
                client.ping()
            finally:
                client.close()
        except (DockerException, OSError) as error:
            raise ServiceError(
                f"cannot reach {self.url}: {_cause(error)}; start Docker or correct the URL"
            ) from None


def _cause(error: BaseException) -> str:
    """Return the operating system's words, which docker and requests wrap several times."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.lower()
        nested = next((a for a in seen.args if isinstance(a, BaseException)), None)
        seen = nested or seen.__cause__ or seen.__context__
    return str(error).splitlines()[0] if str(error) else type(error).__name__
