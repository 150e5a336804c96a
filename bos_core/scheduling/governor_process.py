"""The governor as a child process: started by who needs it, kept running, known by its address.

Its port stays the same from start to start: flows find a governor that was started again where the old one was.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from bos_core.objects.errors import ServiceError
from bos_core.scheduling.supervisor import Backoff, Child

READY_S_MAX = 60.0


class GovernorProcess:
    """A governor that this process started.

    Parameters
    ----------
    environment : mapping
        The whole environment of the process.
    log : Path
    backoff : Backoff
        When it is started again after a crash; it is never given up.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, backoff: Backoff | None = None) -> None:
        self._port = _free_port()
        self.address = f"tcp://127.0.0.1:{self._port}"
        self._backoff = backoff or Backoff()
        command = (sys.executable, "-m", "bos_core.cli", "governor", "--port", str(self._port))
        self._child = Child("governor", command, environment, log)
        self._child.start()

    @property
    def pid(self) -> int:
        """Process id, of the last start."""
        assert self._child.process is not None
        return self._child.process.pid

    def wait(self) -> None:
        """Wait until it takes tasks.

        Raises
        ------
        ServiceError
            If it ends, or takes none for a minute.
        """
        deadline_s = time.monotonic() + READY_S_MAX
        while time.monotonic() < deadline_s:
            if not self._child.running:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.05)
        raise ServiceError(
            f"the governor did not start; see {self._child.log}, which ends with:\n{self._child.tail()}"
        )

    def watch(self) -> str:
        """Start it again if it has crashed and is due; return what happened, or nothing."""
        if self._child.running:
            return ""
        now_s = time.monotonic()
        if self._child.restart_at_s is None:
            self._child.crashes = self._backoff.crashes(self._child.crashes, now_s - self._child.started_s)
            delay_s = self._backoff.delay_s(self._child.crashes) or self._backoff.longest_s
            self._child.restart_at_s = now_s + delay_s
            return f"the governor ended; it starts again in {delay_s:g} s"
        if now_s < self._child.restart_at_s:
            return ""
        self._child.start()
        return "the governor started again"

    def stop(self) -> None:
        """End it; its containers end with it."""
        self._child.stop(10.0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
