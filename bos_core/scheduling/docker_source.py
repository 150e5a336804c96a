"""A Docker daemon as a server: what it is, its containers, what they use, and what happens to them.

A container's counters are read from its control group where the daemon runs on this machine, which costs a
fraction of asking the daemon; else the daemon is asked.
"""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Literal

import docker
from docker.errors import DockerException, NotFound

from bos_core.objects.container import (
    LIVE_STATES,
    MODE_LABEL,
    SERVICE_LABEL,
    SLOTS_LABEL,
    Container,
    Server,
    ServerKind,
    ServiceInstance,
)
from bos_core.objects.errors import Finding, OptionError, ServiceError
from bos_core.objects.settings import HostOptions
from bos_core.scheduling.cgroup import Cgroup, cgroup_of
from bos_core.scheduling.container_watch import Gone, Looked, Measured, Observation, Reading, Seen

TIMEOUT_S = 3.0
SCHEMES = ("unix://", "tcp://", "ssh://", "http://", "https://")
SHORT_ID = 12
"""Docker's own short form of a container's id, and the host name in the container."""
_ASKED_AT_ONCE = 32
_MB = 1e6
_DAEMON = uuid.UUID("0c6f4c8f-0a80-4f4a-8a6d-6f1b1df0b7c4")
_ACTIONS = frozenset(
    {"create", "start", "restart", "pause", "unpause", "update", "rename", "oom", "die", "destroy"}
)
_OUT_OF_MEMORY = "a process in it was killed: out of memory"


def check_host(url: str) -> None:
    """Ping a Docker daemon.

    Raises
    ------
    OptionError
        If the URL is none of Docker's.
    ServiceError
        If it does not answer.
    """
    if not url.startswith(SCHEMES):
        remedy = "use unix:///var/run/docker.sock or tcp://host:2376"
        raise OptionError((Finding("container host", (url,), "is not a Docker URL", remedy, "url"),))
    DockerSource(HostOptions(url=url)).close()


def check_hosts(hosts: tuple[HostOptions, ...]) -> list[Finding]:
    """Return a finding for every daemon that cannot be used, and for one that is named twice."""
    findings: list[Finding] = []
    known: dict[str, str] = {}
    for host in hosts:
        try:
            source = DockerSource(host)
            server = source.look(0.0).server
            source.close()
        except ServiceError as error:
            problem, _, remedy = str(error).rpartition("; ")
            findings.append(Finding("server", (host.name or host.url,), problem, remedy))
            continue
        if server.id in known:
            problem = f"is the same Docker daemon as {known[server.id]}"
            findings.append(Finding("server", (host.url,), problem, "name it once in BOS_CONTAINER_HOSTS"))
        known.setdefault(server.id, host.url)
    return findings


class DockerSource:
    """Looks at one daemon; usable from several threads.

    Parameters
    ----------
    host : HostOptions

    Raises
    ------
    ServiceError
        From every method, when the daemon cannot be reached.
    """

    def __init__(self, host: HostOptions) -> None:
        self.host = host
        self.is_closed = False
        with self._reached():
            self._client = docker.DockerClient(
                base_url=host.url,
                timeout=TIMEOUT_S,
                version="auto",
                max_pool_size=_ASKED_AT_ONCE,
                use_ssh_client=host.url.startswith("ssh://"),
            )
        self._server_id = ""
        self._known: dict[str, Container] = {}
        self._groups: dict[str, Cgroup | None] = {}
        self._short_of_memory: set[str] = set()
        self._askers = ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="docker-stats")
        self._events: Any = None
        self._turn = threading.Lock()

    @property
    def address(self) -> str:
        """Where the daemon is."""
        return self.host.url

    def close(self) -> None:
        """Give up the connections; a thread that follows events ends."""
        self.is_closed = True
        with suppress(DockerException, OSError, AttributeError):
            if self._events is not None:
                self._events.close()
        self._client.close()
        self._askers.shutdown(wait=False, cancel_futures=True)

    def ping(self) -> None:
        """Ask whether the daemon still answers."""
        with self._reached():
            self._client.ping()

    def look(self, at_s: float) -> Looked:
        """Look at the whole server; only containers that are new or have changed are inspected."""
        with self._reached():
            server = _server(self.host, self._client.info(), self._client.version())
            self._server_id = server.id
            listed = self._client.api.containers(all=True)
        containers = []
        for entry in listed:
            short = str(entry["Id"])[:SHORT_ID]
            known = self._known.get(short)
            if known is None or known.state != entry["State"]:
                known = self._inspected(str(entry["Id"]))
            if known is not None:
                containers.append(known)
        for short in self._known.keys() - {str(entry["Id"])[:SHORT_ID] for entry in listed}:
            self._forget(short)
        return Looked(server, tuple(containers), at_s)

    def look_into(self, now_s: Callable[[], float], put: Callable[[Observation], None]) -> None:
        """Put the whole server, at no time between an event and what is put of it."""
        with self._turn:
            put(self.look(now_s()))

    def follow(self, now_s: Callable[[], float], put: Callable[[Observation], None]) -> None:
        """Put the whole server, then what happens to its containers, until the connection ends.

        Raises
        ------
        ServiceError
            Always: when the daemon or `close` ends it.
        """
        with self._reached():
            self._events = self._client.api.events(decode=True, filters={"type": "container"})
            self.look_into(now_s, put)  # what happens meanwhile is waiting in the stream
            for event in self._events:
                if event.get("Action") in _ACTIONS:
                    with self._turn:
                        put(self._happened(event, now_s()))
        raise ServiceError(f"{self.host.url} has closed the connection; start Docker or correct the URL")

    def measure(self, at_s: int) -> Measured:
        """Read the counters of the running containers."""
        readings: dict[str, Reading] = {}
        asked: list[str] = []
        for short, group in list(self._groups.items()):
            if group is None:
                asked.append(short)
                continue
            with suppress(OSError, ValueError):  # gone since; the daemon will say so
                readings[short] = group.read()
        if asked:
            answers = zip(asked, self._askers.map(self._ask, asked), strict=True)
            readings |= {short: reading for short, reading in answers if reading is not None}
        return Measured(self._server_id, at_s, readings)

    def _ask(self, short: str) -> Reading | None:
        try:
            with self._reached():
                return _reading(self._client.api.stats(short, stream=False, one_shot=True))
        except (NotFound, ServiceError):
            return None

    def _happened(self, event: Mapping[str, Any], at_s: float) -> Observation:
        full, attributes = str(event["Actor"]["ID"]), event["Actor"]["Attributes"]
        short = full[:SHORT_ID]
        if event["Action"] == "oom":
            self._short_of_memory.add(short)
        found = None if event["Action"] == "destroy" else self._inspected(full)
        if found is not None:
            return Seen(found, at_s)
        self._forget(short)
        code = attributes.get("exitCode")
        return Gone(short, at_s, _ending(int(code), short in self._short_of_memory) if code else "removed")

    def _inspected(self, full: str) -> Container | None:
        """Return a container as it is now, and note where to measure it; None when it is gone."""
        short = full[:SHORT_ID]
        try:
            with self._reached():
                found = self._client.api.inspect_container(full)
        except NotFound:
            return None
        container = _container(self._server_id, found, short in self._short_of_memory)
        self._known[short] = container
        self._groups.pop(short, None)
        if container.state == "running":
            group = cgroup_of(found["State"]["Pid"])
            ours = group is not None and any(full in str(folder) for folder in (group.cpu, group.memory))
            self._groups[short] = group if ours else None
        return container

    def _forget(self, short: str) -> None:
        self._known.pop(short, None)
        self._groups.pop(short, None)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn what the client raises into an error with a next step; that a container is gone is none."""
        try:
            yield
        except NotFound:
            raise
        except (DockerException, OSError, ValueError) as error:
            problem = f"cannot reach {self.host.url}: {_cause(error)}"
            raise ServiceError(f"{problem}; start Docker or correct the URL") from None


def _server(host: HostOptions, info: Mapping[str, Any], version: Mapping[str, Any]) -> Server:
    # Before version 23, Docker keeps its id in /etc: all daemons of a machine have the same.
    identity = f"{info['ID']}:{info['Name']}:{info['DockerRootDir']}"
    parts = {part["Name"]: part["Version"] for part in version.get("Components", ())}
    software = {
        "Docker": info["ServerVersion"],
        **{name: parts[name] for name in ("containerd", "runc") if name in parts},
        "storage driver": info["Driver"],
        "control groups": f"version {info.get('CgroupVersion', '1')}, {info['CgroupDriver']}",
        "security": ", ".join(option.partition("=")[2] for option in info.get("SecurityOptions") or ()),
        "daemon": info["ID"],
        "data": info["DockerRootDir"],
    }
    return Server(
        id=str(uuid.uuid5(_DAEMON, identity)),
        name=host.name or info["Name"],
        kind=ServerKind.DOCKER,
        address=host.url,
        cpu_cores=float(info["NCPU"]),
        memory_mb=int(info["MemTotal"] / _MB),
        memory_reserve_mb=host.memory_reserve_mb,
        attributes={
            "hardware": {
                "architecture": info["Architecture"],
                "logical cores": str(info["NCPU"]),
                "memory": f"{info['MemTotal'] / 1e9:.1f} GB",
            },
            "os": {"name": info["OperatingSystem"], "kernel": f"{info['OSType']} {info['KernelVersion']}"},
            "software": {name: text for name, text in software.items() if text},
        },
    )


def _container(server: str, found: Mapping[str, Any], short_of_memory: bool) -> Container:
    """Make a container of what the daemon tells; never of its environment or command, which may hold secrets."""
    state, config, host = found["State"], found["Config"], found["HostConfig"]
    short, labels = str(found["Id"])[:SHORT_ID], config.get("Labels") or {}
    ended_s = None if state["Status"] in LIVE_STATES else _moment(state["FinishedAt"])
    message = _OUT_OF_MEMORY if short_of_memory else ""
    mode: Literal["launched", "trial"] = "trial" if labels.get(MODE_LABEL) == "trial" else "launched"
    return Container(
        id=short,
        server=server,
        name=str(found["Name"]).lstrip("/"),
        image=str(config["Image"]),
        image_digest=str(found["Image"]),
        state=str(state["Status"]),
        instances=tuple(
            ServiceInstance(name, config["Hostname"] or short) for name in _listed(labels, SERVICE_LABEL)
        ),
        mode=mode,
        slots=_listed(labels, SLOTS_LABEL),
        cpu_cores=_quota(host),
        memory_mb=int(host["Memory"] / _MB),
        attributes={"access": _access(config, host, found.get("Mounts") or ())},
        started_s=_moment(state["StartedAt"]),
        ended_s=ended_s,
        message=message if ended_s is None else _ending(state["ExitCode"], short_of_memory or state["OOMKilled"]),
    )


def _listed(labels: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in labels.get(name, "").split(",") if part.strip())


def _quota(host: Mapping[str, Any]) -> float:
    if host.get("NanoCpus"):
        return float(host["NanoCpus"]) / 1e9
    return float(host["CpuQuota"]) / float(host["CpuPeriod"] or 100_000) if host.get("CpuQuota", 0) > 0 else 0.0


def _access(config: Mapping[str, Any], host: Mapping[str, Any], mounts: Any) -> dict[str, str]:
    """Say what a container may reach of its host (OIOS-C3)."""
    dropped, added = host.get("CapDrop") or (), host.get("CapAdd") or ()
    capabilities = " ".join([*(f"-{name}" for name in dropped), *(f"+{name}" for name in added)])
    shared = [f"{m['Source']} at {m['Destination']}{'' if m['RW'] else ', read-only'}" for m in mounts]
    texts = {
        "user": config.get("User") or "root",
        "network": host.get("NetworkMode") or "default",
        "root file system": "read-only" if host.get("ReadonlyRootfs") else "writable",
        "capabilities": "all (privileged)" if host.get("Privileged") else capabilities or "Docker's default",
        "security": ", ".join(host.get("SecurityOpt") or ()),
        "processes": str(host.get("PidsLimit") or "no limit"),
        "mounts": ", ".join(shared),
    }
    return {name: text for name, text in texts.items() if text}


def _ending(code: int, out_of_memory: bool) -> str:
    if out_of_memory:
        return f"out of memory (exit code {code})"
    return f"killed (exit code {code})" if code == 137 else f"exit code {code}"


def _moment(text: str) -> float | None:
    """Return seconds since 1970; None for Docker's year 1, which means never."""
    moment = dt.datetime.fromisoformat(text)
    return None if moment.year == 1 else moment.timestamp()


def _reading(stats: Mapping[str, Any]) -> Reading | None:
    """Return the counters of an answer; None from a container that has just ended."""
    memory = stats.get("memory_stats") or {}
    read_s = _moment(str(stats["read"]))
    if "usage" not in memory or read_s is None:
        return None
    parts = memory.get("stats") or {}
    dropped = parts.get("total_inactive_file", parts.get("inactive_file", 0))
    used = stats["cpu_stats"]["cpu_usage"]["total_usage"]
    return Reading(used / 1e9, max(0, memory["usage"] - dropped) / _MB, read_s)


def _cause(error: BaseException) -> str:
    """Return the operating system's words, which docker and requests wrap several times."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.lower()
        nested = next((a for a in seen.args if isinstance(a, BaseException)), None)
        seen = nested or seen.__cause__ or seen.__context__
    return str(error).splitlines()[0] if str(error) else type(error).__name__
