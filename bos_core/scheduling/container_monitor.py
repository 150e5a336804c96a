"""Watches servers and containers: this machine's processes and Docker daemons, every second, into the index.

Each source has threads of its own, so that a daemon that hangs holds up nobody; one loop takes what they see
through `ContainerWatch` and writes what is new. While the index cannot be written, changes wait: the last state
of each server and container, and the newest 200,000 samples.
"""

from __future__ import annotations

import math
import platform
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bos_core.index.containers import ContainerIndex, ContainerTree, tree_of
from bos_core.objects.container import Changes, Sample, ServerKind, ServerState, merged
from bos_core.objects.errors import BosError, ServiceError
from bos_core.objects.settings import HostOptions, Settings
from bos_core.scheduling.container_watch import ContainerWatch, Lost, Observation
from bos_core.scheduling.process_source import ProcessSource

if TYPE_CHECKING:  # where no daemon is named, the client is not loaded
    from bos_core.scheduling.docker_source import DockerSource

LOOK_S = 30
"""So often a daemon is asked for all its containers, in case an event was lost."""
PING_S = 2
RECONNECT_S = 2.0
GATHER_S = 0.05
"""What is seen within this time is written together."""
CONDENSE_S = 60.0
SAMPLES_WAITING_MAX = 200_000
LONGEST_S = 60.0
GLANCE_S = 0.5
"""So long lie between two readings where no monitor runs."""

Put = Callable[[Observation | Exception], None]
Clock = Callable[[], float]


@dataclass
class Writer:
    """Writes changes; keeps what cannot be written now and tries again after 1, 2, 4 … 60 s.

    Parameters
    ----------
    write : callable
        Writes changes or raises.
    """

    write: Callable[[Changes], None]
    waiting: Changes = field(default_factory=Changes)
    _failure: str = ""
    _delay_s: float = 1.0
    _retry_s: float = 0.0

    def offer(self, changes: Changes, now_s: float) -> str:
        """Write what waits and these changes; return what is new for the user, mostly nothing."""
        self.waiting = merged((self.waiting, changes))
        if not self.waiting or now_s < self._retry_s:
            return ""
        try:
            self.write(self.waiting)
        except BosError as error:
            self.waiting = replace(self.waiting, samples=self.waiting.samples[-SAMPLES_WAITING_MAX:])
            before, self._failure = self._failure, str(error)
            self._retry_s, self._delay_s = now_s + self._delay_s, min(2 * self._delay_s, LONGEST_S)
            return "" if self._failure == before else f"containers are not recorded: {error} (it is tried again)"
        said = "containers are recorded again" if self._failure else ""
        self.waiting, self._failure, self._delay_s, self._retry_s = Changes(), "", 1.0, 0.0
        return said


def monitor_of(settings: Settings) -> str:
    """Name the monitor of a home: two homes, or two machines, may share an index."""
    return f"{platform.node()}:{settings.home}"


def watch(settings: Settings, index: ContainerIndex, say: Callable[[str], None]) -> None:
    """Watch the servers of these settings until the process is ended.

    Raises
    ------
    StorageError
        When the index cannot be reached at the start; later failures wait.
    """
    offset_s = index.clock_s() - time.time()

    def now_s() -> float:
        return time.time() + offset_s

    seen: queue.SimpleQueue[Observation | Exception] = queue.SimpleQueue()
    known = ContainerWatch(monitor_of(settings), index.watched(monitor_of(settings)))
    hosts = settings.container_hosts
    writer = Writer(_recording(index, now_s))
    writer.offer(known.keep_only(["", *(host.url for host in hosts)], now_s()), time.monotonic())
    _start(_watch_machine, ProcessSource(settings.home), now_s, seen.put)
    for host in hosts:
        _start(_watch_daemon, host, now_s, seen.put)
    for observations in _gathered(seen):
        changes = merged(known.see(one) for one in observations)
        for server in changes.servers:
            if server.kind is ServerKind.DOCKER:
                say(_news(server.name, server.state, server.message))
        if said := writer.offer(changes, time.monotonic()):
            say(said)


def _recording(index: ContainerIndex, now_s: Clock) -> Callable[[Changes], None]:
    """Return what writes changes, and every minute condenses what is old."""
    condensed_s = -math.inf

    def record(changes: Changes) -> None:
        nonlocal condensed_s
        index.apply(changes)
        if time.monotonic() - condensed_s >= CONDENSE_S:
            index.condense(now_s())
            condensed_s = time.monotonic()

    return record


def look_now(settings: Settings, index: ContainerIndex) -> ContainerTree:
    """Look at the servers for a moment, where no monitor runs; nothing is written."""
    known, samples = ContainerWatch(monitor_of(settings)), dict[str, Sample]()
    sources: list[ProcessSource | DockerSource] = [ProcessSource(settings.home)]
    with ExitStack() as opened:
        for host in daemons(settings, index):
            from bos_core.scheduling.docker_source import DockerSource

            try:
                daemon = DockerSource(host)
            except ServiceError as error:
                known.see(Lost(host.url, time.time(), str(error), host.name))
                continue
            opened.callback(daemon.close)
            sources.append(daemon)
        for second in (0, 1):
            time.sleep(second * GLANCE_S)
            for source in sources:
                try:
                    if not second:
                        known.see(source.look(time.time()))
                    samples |= {s.subject: s for s in known.see(source.measure(second)).samples}
                except ServiceError as error:
                    known.see(Lost(source.address, time.time(), str(error)))
    return tree_of(known.servers, known.live, samples, index.tasks_in_hand(), time.time())


def daemons(settings: Settings, index: ContainerIndex) -> tuple[HostOptions, ...]:
    """Return the Docker daemons of these settings, and those that a monitor of this home was given by blocks."""
    named = {host.url: host for host in settings.container_hosts}
    for server in index.watched(monitor_of(settings)).servers:
        if server.kind is ServerKind.DOCKER and server.state is not ServerState.REMOVED:
            told = HostOptions(url=server.address, memory_reserve_mb=server.memory_reserve_mb)
            named.setdefault(server.address, told)
    return tuple(named.values())


def _watch_machine(source: ProcessSource, now_s: Clock, put: Put) -> None:
    try:
        for at_s in _full_seconds(now_s):
            put(source.look(now_s()))
            put(source.measure(at_s))
    except Exception as error:  # the process ends with it, and is started again
        put(error)


def _watch_daemon(host: HostOptions, now_s: Clock, put: Put) -> None:
    """Follow a daemon, and again whenever it is lost."""
    from bos_core.scheduling.docker_source import DockerSource

    while True:
        first: list[Exception] = []
        try:
            source = DockerSource(host)
            _start(_measure_daemon, source, now_s, put, first)
            try:
                source.follow(now_s, put)
            finally:
                source.close()
        except Exception as error:
            put(Lost(host.url, now_s(), str((first or [error])[0]), host.name))
        time.sleep(RECONNECT_S)


def _measure_daemon(source: DockerSource, now_s: Clock, put: Put, failed: list[Exception]) -> None:
    """Measure every second; close the source when it does not answer, which ends its `follow`."""
    looked_s = time.monotonic()
    try:
        for at_s in _full_seconds(now_s):
            if source.is_closed:
                return
            put(source.measure(at_s))
            if at_s % PING_S == 0:
                source.ping()
            if time.monotonic() - looked_s >= LOOK_S:
                looked_s = time.monotonic()
                source.look_into(now_s, put)
    except Exception as error:
        failed.append(error)
        source.close()


def _full_seconds(now_s: Clock) -> Iterator[int]:
    """Yield every full second when it comes; those that were overslept are left out."""
    while True:
        at_s = int(now_s()) + 1
        time.sleep(max(0.0, at_s - now_s()))
        yield at_s


def _gathered(seen: queue.SimpleQueue[Observation | Exception]) -> Iterator[list[Observation]]:
    """Yield what was seen, as soon as there is something, with what comes right behind it."""
    while True:
        found = [seen.get()]
        time.sleep(GATHER_S)
        while not seen.empty():
            found.append(seen.get())
        yield [_sound(one) for one in found]


def _sound(one: Observation | Exception) -> Observation:
    if isinstance(one, Exception):
        raise one
    return one


def _start(function: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, daemon=True, name=function.__name__).start()


def _news(name: str, state: ServerState, message: str) -> str:
    match state:
        case ServerState.LOST:
            return f"server {name} is lost: {message}"
        case ServerState.REMOVED:
            return f"server {name} is watched no more"
        case ServerState.UP:
            return f"server {name} is up"
