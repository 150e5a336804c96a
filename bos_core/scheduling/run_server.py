"""A Prefect server for the length of one run, where no `bos up` serves the home.

Prefect would start one by itself in the flow's process and another in each Dask worker, and a Ctrl-C in the
terminal would end them before the flow has told them so. This one is shared, started while the flow is still being
loaded, and deaf to Ctrl-C; it ends with the run, on Linux also after a kill -9.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bos_core.scheduling.prefect_server import DEFAULT_HOST, not_healthy, wait_until_healthy
from bos_core.scheduling.supervisor import Child, environment

API_VARIABLE = "PREFECT_API_URL"
STOP_S_MAX = 5.0


class RunServer:
    """The server that a run talks to; `wait` before the first flow."""

    def __init__(self, child: Child | None, url: str) -> None:
        self._child, self._url = child, url

    def wait(self) -> None:
        """Wait until it answers.

        Raises
        ------
        ServiceError
            When it does not; with the end of its log.
        """
        child = self._child
        if child is not None and not wait_until_healthy(self._url, lambda: child.running):
            raise not_healthy(child.tail(), child.log)


@contextmanager
def server_of_a_run(home: Path) -> Iterator[RunServer]:
    """Have a Prefect server for the block: the one that the environment names, or a new one.

    Enter it before prefect is imported: it sets PREFECT_API_URL, here and for the processes that the run starts.

    Parameters
    ----------
    home : Path
        The BOS home; Prefect's database is in it.
    """
    if os.environ.get(API_VARIABLE):
        yield RunServer(None, "")
        return
    port = _free_port()
    url = f"http://{DEFAULT_HOST}:{port}/api"
    log = home / "prefect" / "run-server.log"
    child = Child("Prefect server", _command(port), environment(_variables(home)), log)
    child.start()
    os.environ[API_VARIABLE] = url
    try:
        yield RunServer(child, url)
    finally:
        os.environ.pop(API_VARIABLE, None)
        child.stop(STOP_S_MAX)


def _command(port: int) -> tuple[str, ...]:
    application = ("--factory", "prefect.server.api.server:create_app", "--lifespan", "on")
    address = ("--host", DEFAULT_HOST, "--port", str(port))
    return (sys.executable, "-m", "uvicorn", *application, *address, "--log-level", "error")


def _variables(home: Path) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_UI_ENABLED": "false",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((DEFAULT_HOST, 0))
        return int(probe.getsockname()[1])
