"""Container definition: what BOS asks of a container host (Docker's vocabulary)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class Mount(BaseModel):
    """A host path made visible in the container."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    target: Annotated[str, Field(pattern=r"^/")]
    read_only: bool = True


class ContainerSpec(BaseModel):
    """Standard definition of a container (OSDS-C1).

    CPU is in cores, memory in MB (10^6 bytes); swap is never added, so the memory limit is the truth.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
    image: Annotated[str, Field(min_length=1)]
    command: tuple[str, ...] = ()
    environment: dict[str, SecretStr] = Field(default_factory=dict)
    cpu_cores: Annotated[float, Field(gt=0, le=1024)]
    memory_mb: Annotated[int, Field(ge=64, le=16_000_000)]
    pids_max: Annotated[int, Field(ge=8)] = 512
    mounts: tuple[Mount, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    network: str = "bridge"
    mode: Literal["launched", "trial"] = "launched"
