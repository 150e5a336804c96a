"""What a monitor knows of servers and containers: observations in, changes of the index out; no I/O, no clock.

The sources (`docker_source`, `process_source`) say what they see, in any order and also twice; `ContainerWatch`
says what is new in it, and turns counters of used CPU time into samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from bos_core.objects.container import (
    ENDED,
    Changes,
    Container,
    Sample,
    Server,
    ServerKind,
    ServerState,
    merged,
)

UNSEEN = "gone when looked at again"
NOT_WATCHED = "its server is not watched any more"


@dataclass(frozen=True)
class Reading:
    """Counters of a server or container.

    Attributes
    ----------
    cpu_s : float
        CPU time used since it began; seconds of one core.
    memory_mb : float
        Used now.
    clock_s : float
        When they were read, by a clock that only runs forward.
    """

    cpu_s: float
    memory_mb: float
    clock_s: float


@dataclass(frozen=True)
class Looked:
    """A source has looked at a whole server: these are its containers, and there are no others."""

    server: Server
    containers: tuple[Container, ...]
    at_s: float


@dataclass(frozen=True)
class Seen:
    """A container began, changed or ended."""

    container: Container
    at_s: float


@dataclass(frozen=True)
class Gone:
    """A container ended and was removed at once; nothing more is known of it."""

    container_id: str
    at_s: float
    message: str


@dataclass(frozen=True)
class Lost:
    """A server cannot be reached; `address`, and perhaps a name, is all that is known of one that never was."""

    address: str
    at_s: float
    message: str
    name: str = ""


@dataclass(frozen=True)
class Measured:
    """Counters of a server's containers at a full second.

    Attributes
    ----------
    server : str
        Id.
    at_s : int
    readings : mapping of container id to Reading
    machine : Reading or None
        Of the whole server; None: it counts as what its containers use together.
    """

    server: str
    at_s: int
    readings: Mapping[str, Reading]
    machine: Reading | None = None


Observation = Looked | Seen | Gone | Lost | Measured


@dataclass
class ContainerWatch:
    """The servers of one monitor and their live containers.

    Parameters
    ----------
    monitor : str
        Its name.
    known : Changes
        What the index holds of this monitor's servers, so that what ended while it was away leaves the tree.
    """

    monitor: str
    known: Changes = field(default_factory=Changes)
    _servers: dict[str, Server] = field(init=False)
    _live: dict[str, Container] = field(init=False)
    _readings: dict[str, Reading] = field(init=False, default_factory=dict)
    _sampled: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._servers = {server.id: server for server in self.known.servers}
        self._live = {container.id: container for container in self.known.containers if container.is_live}

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers as they are known now."""
        return tuple(self._servers.values())

    @property
    def live(self) -> tuple[Container, ...]:
        """The live containers as they are known now."""
        return tuple(self._live.values())

    def see(self, observation: Observation) -> Changes:
        """Take in an observation; return what it changes."""
        match observation:
            case Looked():
                return self._looked(observation)
            case Seen():
                return self._seen(observation.container, observation.at_s)
            case Gone():
                return self._gone(observation.container_id, observation.at_s, observation.message)
            case Lost():
                return self._lost(observation)
            case Measured():
                return self._measured(observation)

    def keep_only(self, addresses: Iterable[str], at_s: float) -> Changes:
        """Give up the servers that are at none of these addresses."""
        kept = set(addresses)
        return self._give_up([server for server in self.servers if server.address not in kept], at_s)

    def _looked(self, looked: Looked) -> Changes:
        server = replace(looked.server, state=ServerState.UP, message="", monitor=self.monitor, seen_s=looked.at_s)
        replaced = [s for s in self.servers if s.address == server.address and s.id != server.id]
        seen = [c for c in looked.containers if c.is_live or c.id in self._live]
        there = {container.id for container in looked.containers}
        return merged(
            [
                self._give_up(replaced, looked.at_s),
                self._remember(server),
                *(self._seen(container, looked.at_s) for container in seen),
                self._end_others(server.id, there, looked.at_s, UNSEEN),
            ]
        )

    def _seen(self, container: Container, at_s: float) -> Changes:
        before = self._live.get(container.id)
        if not container.is_live:
            self._forget(container.id)
            ended = replace(container, state=ENDED, ended_s=container.ended_s or at_s)
            return Changes(containers=(ended,)) if before else Changes()
        self._live[container.id] = container
        return Changes() if container == before else Changes(containers=(container,))

    def _gone(self, container_id: str, at_s: float, message: str) -> Changes:
        before = self._live.get(container_id)
        if before is None:
            return Changes()
        self._forget(container_id)
        return Changes(containers=(replace(before, state=ENDED, ended_s=at_s, message=message),))

    def _end_others(self, server: str, there: set[str], at_s: float, message: str) -> Changes:
        others = [c.id for c in self.live if c.server == server and c.id not in there]
        return merged(self._gone(other, at_s, message) for other in others)

    def _lost(self, lost: Lost) -> Changes:
        known = [s for s in self.servers if s.address == lost.address and s.state is not ServerState.REMOVED]
        nameless = Server(
            lost.address, lost.name or lost.address, ServerKind.DOCKER, lost.address, monitor=self.monitor
        )
        servers = known or [nameless]
        for container in self.live:
            if container.server in {server.id for server in servers}:
                self._readings.pop(container.id, None)
        told = [replace(s, state=ServerState.LOST, message=lost.message, seen_s=lost.at_s) for s in servers]
        return merged(self._remember(server) for server in told)

    def _give_up(self, servers: Iterable[Server], at_s: float) -> Changes:
        parts = []
        for server in servers:
            if server.state is not ServerState.REMOVED:
                parts.append(self._end_others(server.id, set(), at_s, NOT_WATCHED))
                parts.append(self._remember(replace(server, state=ServerState.REMOVED, message="", seen_s=at_s)))
        return merged(parts)

    def _measured(self, measured: Measured) -> Changes:
        own = [self._sample(c, r, measured.at_s) for c, r in measured.readings.items() if c in self._live]
        samples = [sample for sample in own if sample is not None]
        if measured.machine is not None:
            whole = self._sample(measured.server, measured.machine, measured.at_s)
            samples += [whole] if whole else []
        elif (samples or not measured.readings) and self._sampled.get(measured.server) != measured.at_s:
            self._sampled[measured.server] = measured.at_s
            cpu_cores, memory_mb = (sum(s.cpu_cores for s in samples), sum(s.memory_mb for s in samples))
            samples.append(Sample(measured.server, measured.at_s, cpu_cores, memory_mb))
        return Changes(samples=tuple(samples))

    def _sample(self, subject: str, reading: Reading, at_s: int) -> Sample | None:
        """Return what was used since the reading before; None where there was none, or the counter began anew."""
        before = self._readings.get(subject)
        self._readings[subject] = reading
        if before is None or reading.clock_s <= before.clock_s or reading.cpu_s < before.cpu_s:
            return None
        if self._sampled.get(subject) == at_s:
            return None
        self._sampled[subject] = at_s
        used = (reading.cpu_s - before.cpu_s) / (reading.clock_s - before.clock_s)
        return Sample(subject, at_s, used, reading.memory_mb)

    def _remember(self, server: Server) -> Changes:
        """Keep a server; it is a change unless only the time is new."""
        before = self._servers.get(server.id)
        self._servers[server.id] = server
        same = before is not None and replace(before, seen_s=server.seen_s) == server
        return Changes() if same else Changes(servers=(server,))

    def _forget(self, container_id: str) -> None:
        self._live.pop(container_id, None)
        self._readings.pop(container_id, None)
        self._sampled.pop(container_id, None)
