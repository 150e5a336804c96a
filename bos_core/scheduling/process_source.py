"""The machine itself as a server: its containers are the processes of a BOS home, where there is no Docker.

A process is marked by ``BOS_SERVICE`` in its environment; with it counts what it starts, unless that has another
mark. What Prefect's worker starts runs a flow, and so does who starts Dask workers, as `bos run` does.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bos_core.objects.container import (
    CPU_CORES_VARIABLE,
    EXECUTOR,
    MEMORY_MB_VARIABLE,
    SERVICE_VARIABLE,
    Container,
    Server,
    ServerKind,
    ServiceInstance,
)
from bos_core.scheduling.cgroup import Cgroup, cgroup_of
from bos_core.scheduling.container_watch import Looked, Measured, Reading

FLOW_RUN = "flow-run"
FLOW_RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
"""Prefect's own mark of a process that its worker starts."""
_MB = 1e6
_PACKAGES = (
    "bos",
    "prefect",
    "distributed",
    "numpy",
    "scipy",
    "numba",
    "pandapower",
    "highspy",
    "pyomo",
    "casadi",
)
_PROGRAMS = ("glpsol", "docker", "postgres", "c++", "git")
_MACHINE = uuid.UUID("6f0a1f6e-37ad-4a0e-9f7e-0d8f5b9f2a11")


@dataclass(frozen=True)
class Process:
    """What the kernel says of a process that matters here.

    Attributes
    ----------
    pid, parent : int
    started_s : float
    marks : mapping
        Of its environment, what BOS reads: home, service, quotas. Empty where it may not be read.
    """

    pid: int
    parent: int
    started_s: float
    marks: Mapping[str, str]


def containers_of(processes: Mapping[int, Process], home: str) -> dict[int, tuple[str, frozenset[int]]]:
    """Say which processes are containers: pid to service, and the pids that count with it.

    Parameters
    ----------
    processes : mapping of pid to Process
    home : str
        Only processes of this BOS home, what they started, and who started them.
    """
    marks = {
        pid: process.marks[SERVICE_VARIABLE]
        for pid, process in processes.items()
        if process.marks.get("BOS_HOME") == home and SERVICE_VARIABLE in process.marks
    }
    opens = {pid: service for pid, service in marks.items() if marks.get(processes[pid].parent) != service}
    for pid, service in list(opens.items()):
        parent = processes[pid].parent
        if service == EXECUTOR and parent in processes and parent > 1:
            opens[parent] = FLOW_RUN
    members: dict[int, set[int]] = {pid: set() for pid in opens}
    for pid in processes:
        line, above = [], pid
        while above in processes and above not in opens and above not in line:
            line.append(above)
            above = processes[above].parent
        if above in opens:
            members[above].add(pid)
    return {pid: (service, frozenset(members[pid])) for pid, service in opens.items()}


class ProcessSource:
    """Looks at this machine.

    Parameters
    ----------
    home : Path
        Of BOS.
    """

    address = ""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._known: dict[int, tuple[Process, bool]] = {}
        self._handles: dict[int, psutil.Process] = {}
        self._containers: dict[int, tuple[str, frozenset[int]]] = {}
        self._cgroup = cgroup_of("self")
        self._server = self._describe()

    def look(self, at_s: float) -> Looked:
        """Find the processes again that are containers."""
        self._scan()
        found = tuple(self._container(pid, service) for pid, (service, _) in self._containers.items())
        return Looked(self._server, found, at_s)

    def measure(self, at_s: int) -> Measured:
        """Read the counters of the containers that were found, and of the machine."""
        readings = {}
        for pid, (_, members) in self._containers.items():
            cpu_s, memory_mb = 0.0, 0.0
            for member in members:
                with suppress(psutil.Error, KeyError):
                    handle = self._handles[member]
                    with handle.oneshot():
                        times = handle.cpu_times()
                        cpu_s += times.user + times.system
                        memory_mb += handle.memory_info().rss / _MB
            readings[self._id(pid)] = Reading(cpu_s, memory_mb, time.monotonic())
        return Measured(self._server.id, at_s, readings, _machine(self._cgroup))

    def _scan(self) -> None:
        """Look at new processes, twice: until it executes its command one still has its parent's environment."""
        present = set(psutil.pids())
        unsettled = {pid for pid, (_, settled) in self._known.items() if not settled}
        if present == self._known.keys() and not unsettled:
            return
        for gone in self._known.keys() - present:
            del self._known[gone]
            self._handles.pop(gone, None)
        for pid in (present - self._known.keys()) | (unsettled & present):
            self._examine(pid, pid in unsettled)
        self._containers = containers_of(
            {pid: process for pid, (process, _) in self._known.items()}, str(self._home)
        )
        counted = frozenset().union(*(members for _, members in self._containers.values()))
        for pid in self._handles.keys() - counted:
            del self._handles[pid]
        for pid in counted - self._handles.keys():
            with suppress(psutil.Error):
                self._handles[pid] = psutil.Process(pid)

    def _examine(self, pid: int, settled: bool) -> None:
        try:
            handle = psutil.Process(pid)
            with handle.oneshot():
                parent, started_s = handle.ppid() or 0, handle.create_time()
        except psutil.Error:
            self._known.pop(pid, None)
            return
        marks: dict[str, str] = {}
        with suppress(psutil.Error, OSError):
            environment = handle.environ()
            names = ("BOS_HOME", SERVICE_VARIABLE, CPU_CORES_VARIABLE, MEMORY_MB_VARIABLE)
            marks = {name: environment[name] for name in names if name in environment}
            if FLOW_RUN_VARIABLE in environment and marks.get(SERVICE_VARIABLE) != EXECUTOR:
                marks[SERVICE_VARIABLE] = FLOW_RUN
        self._known[pid] = Process(pid, parent, started_s, marks), settled

    def _id(self, pid: int) -> str:
        return f"{platform.node()}/{pid}/{self._known[pid][0].started_s:.2f}"

    def _container(self, pid: int, service: str) -> Container:
        process = self._known[pid][0]
        marks = process.marks if process.marks.get(SERVICE_VARIABLE) == service else {}
        return Container(
            id=self._id(pid),
            server=self._server.id,
            name=f"{service}-{pid}",
            instances=(ServiceInstance(service, self._id(pid)),),
            cpu_cores=float(marks.get(CPU_CORES_VARIABLE, 0)),
            memory_mb=int(marks.get(MEMORY_MB_VARIABLE, 0)),
            started_s=process.started_s,
        )

    def _describe(self) -> Server:
        cores, memory_mb = psutil.cpu_count() or 1, psutil.virtual_memory().total / _MB
        if self._cgroup is not None:
            cores = min(cores, self._cgroup.cpu_cores_max() or cores)
            memory_mb = min(memory_mb, self._cgroup.memory_mb_max() or memory_mb)
        return Server(
            id=str(uuid.uuid5(_MACHINE, f"{platform.node()}:{self._home}")),
            name=platform.node(),
            kind=ServerKind.MACHINE,
            cpu_cores=float(cores),
            memory_mb=int(memory_mb),
            attributes={"hardware": _hardware(self._home), "os": _system(), "software": _software()},
        )


def _machine(cgroup: Cgroup | None) -> Reading:
    """Return what the whole machine has used, or the control group that BOS is confined to."""
    if cgroup is not None and cgroup.memory_mb_max() is not None:
        with suppress(OSError):
            return cgroup.read()
    times, memory = psutil.cpu_times(), psutil.virtual_memory()
    busy = times.user + times.nice + times.system + getattr(times, "irq", 0) + getattr(times, "softirq", 0)
    return Reading(busy, (memory.total - memory.available) / _MB, time.monotonic())


def _hardware(home: Path) -> dict[str, str]:
    cores = {"cores": str(psutil.cpu_count(logical=False) or ""), "logical cores": str(psutil.cpu_count() or "")}
    facts = {"processor": _processor(), "architecture": platform.machine(), **cores}
    facts["memory"] = f"{psutil.virtual_memory().total / 1e9:.1f} GB"
    with suppress(OSError):
        facts["disk of the home"] = f"{shutil.disk_usage(home).total / 1e9:.0f} GB"
    return {name: value for name, value in facts.items() if value}


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _system() -> dict[str, str]:
    facts = {"kernel": f"{platform.system()} {platform.release()}"}
    with suppress(OSError):
        facts = {"name": platform.freedesktop_os_release()["PRETTY_NAME"], **facts}
    return facts


def _software() -> dict[str, str]:
    facts = {"Python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            facts[name] = importlib.metadata.version(name)
    return facts | {name: path for name in _PROGRAMS if (path := shutil.which(name))}
