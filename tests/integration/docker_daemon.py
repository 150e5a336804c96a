"""Docker daemons of the tests' own, and an image that needs no registry."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import psutil

REPOSITORY = "bos-test"
IMAGE = f"{REPOSITORY}:1"
START_S_MAX = 60
STOP_S_MAX = 20


class DockerDaemon:
    """A daemon with its own root, socket and containers, which can be killed; use it as a context manager."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="bos-dockerd-"))  # short: the path of a socket has 107 bytes
        self.url = f"unix://{self.root}/d.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DockerDaemon:
        try:
            self.start()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._clean()

    @property
    def client(self) -> Any:
        return docker.DockerClient(base_url=self.url, timeout=60)

    def start(self) -> None:
        """Start it, with the image, and wait until it answers."""
        folders = (f"--{name}={self.root}/{name}" for name in ("data-root", "exec-root"))
        network = ("--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false")
        command = ("dockerd", f"--host={self.url}", f"--pidfile={self.root}/pid", *folders, *network)
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + START_S_MAX
        while True:
            with suppress(docker.errors.DockerException):
                if not self.client.images.list(IMAGE):
                    self.client.api.import_image_from_data(_busybox(), repository=REPOSITORY, tag="1")
                return
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"dockerd does not start:\n{(self.root / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def run(self, name: str = "", command: str = "sleep 1000", **options: Any) -> Any:
        """Start a container; it ends at once when it is asked to."""
        given = {"name": name or None, "init": False, "network_mode": "none", "stop_signal": "SIGKILL", **options}
        return self.client.containers.run(IMAGE, command, detach=True, **given)

    def kill(self) -> None:
        """Kill the daemon as a power cut does; its containers live on until it is started again."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        # Its containerd dies with it, but where nobody collects the zombie the next daemon would wait for that.
        (self.root / "exec-root/containerd/containerd.pid").unlink(missing_ok=True)

    def _clean(self) -> None:
        """End the daemon and everything that belongs to its root: containers outlive a daemon that is killed."""
        if self._process is not None and self._process.poll() is None:
            with suppress(docker.errors.DockerException):
                for container in self.client.containers.list(all=True):
                    container.remove(force=True)
            self._process.terminate()
            try:
                self._process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.kill()
        for process in self._left():
            with suppress(psutil.Error):
                process.kill()
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (mounted := line.split()[1]).startswith(f"{self.root}/"):
                subprocess.run(("umount", "--lazy", mounted), check=False, capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def _left(self) -> list[psutil.Process]:
        """Return containerd and the shims of this root, and what runs in their containers."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if any(str(self.root) in argument for argument in process.cmdline()):
                    found += [process, *process.children(recursive=True)]
        return found


def _busybox() -> bytes:
    """Return the root file system of the image: busybox alone, which is linked statically."""
    path = shutil.which("busybox")
    if path is None:
        raise RuntimeError("there is no busybox; infra/packages installs it")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(Path(path).resolve(), "bin/busybox")
        for name in ("sh", "sleep", "cat", "dd", "true"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return content.getvalue()
