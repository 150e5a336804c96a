"""One BOS home that is up, with a real Prefect server and worker, for every test that needs one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from bos_core.access.workspace import Workspace
from bos_core.objects.settings import Settings, StoreOptions

START_S_MAX = 180
SECRET = "s3-secret-that-must-not-show"


@dataclass
class Service:
    """`bos up` in a process of its own."""

    settings: Settings
    port: int
    log: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    @property
    def prefect_home(self) -> Path:
        return self.settings.home / "prefect"

    def environment(self) -> dict[str, str]:
        """Environment of a user of this home: no Prefect setting of their own, two Dask workers."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "BOS_"))}
        return own | self.settings.environment() | {"BOS_WORKERS": "1", "OMP_NUM_THREADS": "1"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "bos_core.cli", *arguments]

    def start(self) -> None:
        with self.log.open("wb") as log:
            command = self.command("up", "--port", str(self.port), *self.options)
            self.process = subprocess.Popen(command, env=self.environment(), stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + START_S_MAX
        while "Ctrl-C" not in self.output():
            if time.monotonic() > end or self.process.poll() is not None:
                self.process.kill()
                pytest.fail(f"bos up did not start:\n{self.output()}", pytrace=False)
            time.sleep(0.2)

    def output(self) -> str:
        return self.log.read_text()

    def processes(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> None:
        """Stop it as a user would, and check that nothing stays behind."""
        assert self.process is not None
        started = self.processes()
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, self.output()
        left = [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        assert left == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def new_service() -> Callable[..., Service]:
    """Make a service of some settings, not started yet."""

    def make(settings: Settings, *options: str) -> Service:
        return Service(settings, free_port(), settings.home / "up.log", options)

    return make


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running BOS home with one scenario, ``six`` (six buses)."""
    from bos_core.api import Scenarios

    home = tmp_path_factory.mktemp("bos-home")
    settings = Settings(
        home=home, user="planner", store_options=StoreOptions.model_validate({"key": "k", "secret": SECRET})
    )
    Scenarios(Workspace.open(settings)).import_("pandapower:case6ww", name="six")
    running = Service(settings, free_port(), home / "up.log")
    running.start()
    yield running
    running.stop()
