"""Servers, containers and service instances: what BOS asks of a host, and what it sees there.

A server runs containers, a container has a quota and holds service instances, the endpoints where tasks run. What
carries no mark of BOS is somebody else's: it uses its server, and executes nothing for BOS. Words are Docker's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Mode = Literal["launched", "trial"]

EXECUTOR = "dask-worker"
"""The service whose instances execute tasks."""

SERVICE_LABEL = "bos.service"
MODE_LABEL = "bos.mode"
SLOTS_LABEL = "bos.slots"
"""Labels of a Docker container: services and slots by comma."""
SERVICE_VARIABLE = "BOS_SERVICE"
CPU_CORES_VARIABLE = "BOS_QUOTA_CPU_CORES"
MEMORY_MB_VARIABLE = "BOS_QUOTA_MEMORY_MB"
"""Marks of a process that is a container by itself, where there is no Docker."""


class Mount(BaseModel):
    """A host path made visible in the container."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    target: Annotated[str, Field(pattern=r"^/")]
    read_only: bool = True


class ContainerSpec(BaseModel):
    """Standard definition of a container (OSDS-C1).

    CPU is in cores, memory in MB (10^6 bytes); swap is never added, so the memory limit is the truth. Programs of
    `slots` may run in it; empty: of every slot.
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
    mode: Mode = "launched"
    service: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] = EXECUTOR
    slots: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], ...] = ()

    @property
    def marked_labels(self) -> dict[str, str]:
        """The labels, with those that the container tree reads."""
        marks = {SERVICE_LABEL: self.service, MODE_LABEL: self.mode, SLOTS_LABEL: ",".join(self.slots)}
        return self.labels | marks


class ServerKind(StrEnum):
    """What runs the containers of a server."""

    MACHINE = "machine"
    """This machine: its containers are the processes of a BOS home."""
    DOCKER = "docker"


class ServerState(StrEnum):
    """Whether a server can be used."""

    UP = "up"
    LOST = "lost"
    REMOVED = "removed"
    """Not among the servers of its monitor any more."""


LIVE_STATES = frozenset({"created", "restarting", "running", "paused"})
"""Docker's states of a container that is in the tree; the others are ``removing``, ``exited`` and ``dead``."""
ENDED = "exited"


@dataclass(frozen=True)
class Server:
    """A machine, or one Docker daemon on it, that runs containers.

    Attributes
    ----------
    id : str
    name : str
        As people call it.
    kind : ServerKind
    address : str
        Where it is reached; empty for this machine.
    state : ServerState
    message : str
        Why it is lost.
    cpu_cores, memory_mb : float, int
        What it has; memory in MB (10^6 bytes).
    memory_reserve_mb : int
        What BOS leaves alone of it.
    attributes : mapping
        Groups of facts: hardware, os, software; texts by name.
    monitor : str
        Who watches it: the host and home of a monitor.
    seen_s : float
        When the state was last found to be so.
    """

    id: str
    name: str
    kind: ServerKind
    address: str = ""
    state: ServerState = ServerState.UP
    message: str = ""
    cpu_cores: float = 0.0
    memory_mb: int = 0
    memory_reserve_mb: int = 0
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    monitor: str = ""
    seen_s: float = 0.0

    @property
    def memory_limit_mb(self) -> int:
        """What the containers of BOS may reserve together."""
        return max(0, self.memory_mb - self.memory_reserve_mb)


@dataclass(frozen=True)
class ServiceInstance:
    """A service in a container.

    Attributes
    ----------
    service : str
        ``dask-worker``, ``flow-run``, ``prefect-server``, ...
    address : str
        What the ledger calls the holder of its tasks: ``host/pid/start`` of a process, the host in a container.
    """

    service: str
    address: str


@dataclass(frozen=True)
class Container:
    """A container on a server: what is measured, limited and permitted together.

    Attributes
    ----------
    id : str
        The first twelve digits of Docker's id, which are the host name in the container; ``host/pid/start`` of a
        process.
    server : str
        Id of its server.
    name, image, image_digest : str
        Image and digest are empty for a process.
    state : str
        Docker's word for it.
    instances : tuple of ServiceInstance
        None: it is not one of BOS's.
    mode, slots : str, tuple of str
        Which programs may run in it; see `refusal`.
    cpu_cores, memory_mb : float, int
        Its quota, which is also its reservation; 0: no limit.
    attributes : mapping
        ``access``: what it may reach of its host, texts by name.
    started_s, ended_s : float or None
    message : str
        How it ended.
    """

    id: str
    server: str
    name: str
    image: str = ""
    image_digest: str = ""
    state: str = "running"
    instances: tuple[ServiceInstance, ...] = ()
    mode: Mode = "launched"
    slots: tuple[str, ...] = ()
    cpu_cores: float = 0.0
    memory_mb: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    started_s: float | None = None
    ended_s: float | None = None
    message: str = ""

    @property
    def is_live(self) -> bool:
        """Whether it is in the tree."""
        return self.state in LIVE_STATES

    @property
    def executes(self) -> bool:
        """Whether tasks run in it."""
        return any(instance.service == EXECUTOR for instance in self.instances)

    def refusal(self, slot: str, mode: Mode = "launched") -> str:
        """Return why a program may not run in this container; empty when it may.

        Parameters
        ----------
        slot : str
            Of the program.
        mode : str
            Of the program: ``trial`` until it is launched.
        """
        if not self.executes:
            return f"{self.name} executes no tasks"
        if self.state != "running":
            return f"{self.name} is {self.state}"
        if self.mode != mode:
            return f"{self.name} takes {self.mode} programs only"
        if self.slots and slot not in self.slots:
            return f"{self.name} takes programs of {', '.join(self.slots)} only"
        return ""


@dataclass(frozen=True)
class Sample:
    """What a server or container used, on average over the second before `at_s`.

    Attributes
    ----------
    subject : str
        Id of the server or container.
    at_s : int
    cpu_cores : float
    memory_mb : float
        At `at_s`.
    """

    subject: str
    at_s: int
    cpu_cores: float
    memory_mb: float


@dataclass(frozen=True)
class Changes:
    """What is new in the tree: whole servers and containers as they are now, and samples."""

    servers: tuple[Server, ...] = ()
    containers: tuple[Container, ...] = ()
    samples: tuple[Sample, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.servers or self.containers or self.samples)


def merged(parts: Iterable[Changes]) -> Changes:
    """Return changes as one; of a server or container the last word counts."""
    servers: dict[str, Server] = {}
    containers: dict[str, Container] = {}
    samples: list[Sample] = []
    for part in parts:
        servers |= {server.id: server for server in part.servers}
        containers |= {container.id: container for container in part.containers}
        samples += part.samples
    return Changes(tuple(servers.values()), tuple(containers.values()), tuple(samples))
