"""`bos up`: Prefect server, work pool, deployments, blocks, worker, projector, monitor of a home, kept running."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bos_core.access.services import check_services
from bos_core.access.workspace import Workspace
from bos_core.objects.container import SERVICE_VARIABLE
from bos_core.objects.errors import BosError, ServiceError
from bos_core.objects.settings import HostOptions, Settings
from bos_core.scheduling import prefect_environment
from bos_core.scheduling.prefect_server import (
    DATABASE_VARIABLE,
    DEFAULT_HOST,
    DEFAULT_PORT,
    ServerRecord,
    check_address,
    confine_pages,
    not_healthy,
    remove_record,
    running_server,
    server_environment,
    wait_until_healthy,
    write_record,
)
from bos_core.scheduling.supervisor import Child, Supervisor, environment

POLL_S = 2.0
RUNS_MAX = 2
"""Flow runs at the same time; each uses every core of the machine."""
FORMS_PERIOD_S = 5.0

_log = logging.getLogger(__name__)

Echo = Callable[[str], None]


def up(
    settings: Settings | None = None,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    *,
    full: bool = False,
    database_url: str = "",
    poll_s: float = POLL_S,
    runs_max: int = RUNS_MAX,
    echo: Echo = print,
) -> None:
    """Start everything and keep it running until SIGINT or SIGTERM; return at once if it runs already.

    Call it from the main thread of a process of its own.

    Parameters
    ----------
    settings : Settings
        Default: the environment's. Server, worker and flow runs get the same.
    host, port
        Where the server listens; loopback unless told otherwise.
    full : bool
        Refuse to start unless index, store and graph are all servers (PostgreSQL, S3, Neo4j).
    database_url : str
        PostgreSQL or SQLite URL for Prefect's own tables; empty = what BOS_PREFECT_DATABASE_URL says, else SQLite
        in the BOS home. Only the server's process gets it.
    poll_s : float
        How often the worker asks for work.
    runs_max : int
        Flow runs at the same time.
    echo : callable
        Gets one line of text for the user at a time.

    Raises
    ------
    OptionError
        If the address is taken or no address, or the URL is none.
    ServiceError
        If a service is not named or cannot be used, with all of them at once; if server or worker do not start, or
        crash again and again.
    """
    settings = settings or Settings.load()
    running = running_server(settings.home)
    if running:
        echo(f"BOS is already up (pid {running.pid}): {running.ui_url}")
        return
    check_address(host, port)
    prefect_home = settings.home / "prefect"
    own = server_environment(settings.home, host, port, database_url or os.environ.pop(DATABASE_VARIABLE, ""))
    missing = check_services(settings, full)
    if missing:
        raise ServiceError("\n  - ".join(["BOS cannot start; nothing was started:", *map(str, missing)]))
    workspace = Workspace.open(settings)
    prefect_environment.apply(settings.home)
    record = ServerRecord.of_this_process(host, port)
    supervisor = Supervisor()
    with _stop_signals() as stopped:
        try:
            server = Child(
                "Prefect server",
                _prefect("server", "start"),
                environment(own, settings.identity(), {SERVICE_VARIABLE: "prefect-server"}),
                prefect_home / "server.log",
            )
            echo("starting the Prefect server ...")
            supervisor.start(server)
            importlib.import_module("flows.deployments")  # takes a while, as does the server
            if not wait_until_healthy(record.url, lambda: server.running and not stopped.is_set()):
                if stopped.is_set():
                    return
                raise not_healthy(server.tail(), server.log)
            confine_pages(settings.home)
            write_record(settings.home, record)
            names, container_hosts = _register(record.url, workspace, echo)
            supervisor.start(_worker(settings, record.url, prefect_home / "worker.log", poll_s, runs_max))
            watching = settings.model_copy(update={"container_hosts": container_hosts})
            supervisor.start(_background("projector", settings, prefect_home))
            supervisor.start(_background("monitor", watching, prefect_home))
            for line in (
                f"Prefect UI   {record.ui_url}",
                f"Prefect API  {record.url}",
                f"logs         {prefect_home}",
            ):
                echo(line)
            echo("deployments  " + "\n             ".join(names))
            echo("Ctrl-C stops everything.")
            _watch(supervisor, stopped, record.url, workspace, echo)
        finally:
            supervisor.stop()
            remove_record(settings.home)
            echo("stopped.")


def refresh_forms(settings: Settings | None = None) -> bool:
    """Refresh the run forms on the running server; False when none runs for this home."""
    settings = settings or Settings.load()
    running = running_server(settings.home)
    if running is None:
        return False
    prefect_environment.apply(settings.home)
    from flows import deployments

    with _api(running.url):
        deployments.refresh_forms(Workspace.open(settings))
    return True


def _prefect(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "prefect", *arguments)


def _register(url: str, workspace: Workspace, echo: Echo) -> tuple[list[str], tuple[HostOptions, ...]]:
    from blocks import container_hosts, save_blocks
    from flows import deployments
    from flows.abandoned_runs import mark_abandoned

    with _api(url):
        abandoned = mark_abandoned(deployments.POOL_NAME)
        if abandoned:
            echo(f"{abandoned} runs that an earlier service left unfinished are marked as crashed")
        names = deployments.register(workspace)
        save_blocks(workspace.settings)
        return names, container_hosts(workspace.settings, echo)


def _worker(settings: Settings, url: str, log: Path, poll_s: float, runs_max: int) -> Child:
    from blocks import BLOCK_NAME, BLOCK_VARIABLE
    from flows.deployments import POOL_NAME, POOL_TYPE

    variables = {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": f"{poll_s:g}",
        "PREFECT_LOGGING_LEVEL": "INFO",
        BLOCK_VARIABLE: BLOCK_NAME,
        SERVICE_VARIABLE: "prefect-worker",
    }
    command = _prefect(
        *("worker", "start", "--pool", POOL_NAME, "--type", POOL_TYPE, "--limit", str(runs_max)),
        *("--name", f"bos@{platform.node()}", "--install-policy", "never"),
    )
    own = environment(settings.identity(), variables)
    for name in settings.environment().keys() - settings.identity().keys():
        own.pop(name, None)  # runs take index, store and graph from the blocks
    return Child("worker", command, own, log)


def _background(service: str, settings: Settings, folder: Path) -> Child:
    """Return a child that serves the settings' installation, and without which the others go on."""
    command = (sys.executable, "-m", f"bos_core.scheduling.run_{service}")
    own = environment(settings.environment(), {SERVICE_VARIABLE: service})
    return Child(service, command, own, folder / f"{service}.log", vital=False)


def _watch(supervisor: Supervisor, stopped: threading.Event, url: str, workspace: Workspace, echo: Echo) -> None:
    """Restart what crashes and keep the forms up to date until told to stop."""
    from flows import deployments
    from flows.forms import Choices

    shown = Choices.present(workspace)
    next_s = time.monotonic() + FORMS_PERIOD_S
    while not stopped.wait(0.5):
        for event in supervisor.watch():
            echo(event)
        for child in supervisor.children:
            if not child.vital:
                for line in child.news():
                    echo(line)
        if time.monotonic() < next_s:
            continue
        next_s = time.monotonic() + FORMS_PERIOD_S
        try:
            present = Choices.present(workspace)
            if present != shown:
                with _api(url):
                    shown = deployments.refresh_forms(workspace, present)
                _log.info("run forms refreshed")
        except Exception as error:  # the server may be on its way up again, a program half-written
            _log.warning("run forms not refreshed: %s", error if isinstance(error, BosError) else repr(error))


@contextmanager
def _api(url: str) -> Iterator[None]:
    """Talk to this server inside the block, whatever the profile says."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}):
        yield


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into an event inside the block."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
