"""Where the Prefect server of a BOS home is: its address, its health, its record for other processes."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from bos_core.objects.errors import Finding, OptionError, ServiceError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 4200
PORT_MAX = 65535
START_S_MAX = 120.0
DISK_MB_MIN = 16.0
"""A server that does not start with less than this free lacks room for its database."""
DATABASE_VARIABLE = "BOS_PREFECT_DATABASE_URL"
AUTHENTICATION_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"

_DATABASES = {
    "postgresql://": "postgresql+asyncpg://",
    "postgres://": "postgresql+asyncpg://",
    "postgresql+psycopg://": "postgresql+asyncpg://",
    "postgresql+asyncpg://": "postgresql+asyncpg://",
    "sqlite:///": "sqlite+aiosqlite:///",
    "sqlite+aiosqlite:///": "sqlite+aiosqlite:///",
}


_POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:\">"
)


@dataclass(frozen=True)
class ServerRecord:
    """What `bos up` writes down so that other processes of the same home find its server.

    Attributes
    ----------
    url : str
        Address of the API.
    ui_url : str
        What people open in a browser.
    pid : int
        The supervising process.
    started_s : float
        When that process started; a recycled pid has another.
    loopback : bool
        Whether only this machine reaches the server.
    """

    url: str
    ui_url: str
    pid: int
    started_s: float
    loopback: bool = False

    @classmethod
    def of_this_process(cls, host: str, port: int) -> ServerRecord:
        """Make the record of a server that this process supervises."""
        shown = f"[{host}]" if ":" in host else host
        base = f"http://{'127.0.0.1' if host == '0.0.0.0' else shown}:{port}"
        return cls(f"{base}/api", base, os.getpid(), psutil.Process().create_time(), _is_loopback(host))

    @property
    def alive(self) -> bool:
        """Whether the supervising process still runs."""
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.started_s) < 1.0)
        except psutil.Error:
            return False


def _record_path(home: Path) -> Path:
    return home / "prefect" / "bos-server.json"


def write_record(home: Path, record: ServerRecord) -> None:
    """Write the record, whole or not at all."""
    path = _record_path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(asdict(record)))
    temporary.replace(path)


def remove_record(home: Path) -> None:
    """Remove the record."""
    _record_path(home).unlink(missing_ok=True)


def running_server(home: Path) -> ServerRecord | None:
    """Return the server that runs for this home; None when there is none, or only the record of a dead one."""
    try:
        record = ServerRecord(**json.loads(_record_path(home).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return record if record.alive else None


def server_url(home: Path) -> str | None:
    """Return the API address of the server that runs for this home, or None."""
    record = running_server(home)
    return record.url if record else None


def is_healthy(url: str, timeout_s: float = 2.0) -> bool:
    """Whether a Prefect server answers at this API address; proxies are passed by."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/health", timeout=timeout_s) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def wait_until_healthy(url: str, alive: Callable[[], bool], timeout_s: float = START_S_MAX) -> bool:
    """Wait until the server answers; False when its process ends first or the time is over."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s and alive():
        if is_healthy(url):
            return True
        time.sleep(0.2)
    return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(host: str, port: int) -> None:
    """Check that a server can listen there.

    Raises
    ------
    OptionError
        When the port is taken, forbidden, the host is not an address of this machine, or the address is open
        to the network while the server asks for no password.
    """
    if not 1 <= port <= PORT_MAX:
        raise _bad("port", str(port), "is not a port", f"give a number from 1 to {PORT_MAX}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise _bad("host", host, f"is not an address ({error.strerror})", "use 127.0.0.1") from None
    if not _is_loopback(str(address[0])) and not os.environ.get(AUTHENTICATION_VARIABLE):
        remedy = f"use 127.0.0.1, or set {AUTHENTICATION_VARIABLE}=user:password"
        raise _bad("host", host, "is open to the network and the server would ask for no password", remedy)
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            raise _cannot_listen(host, port, error) from None


def _cannot_listen(host: str, port: int, error: OSError) -> OptionError:
    if error.errno == errno.EADDRINUSE:
        remedy = "stop that program or choose another with --port"
        return _bad("port", str(port), f"is in use on {host}{_user_of(port)}", remedy)
    if error.errno == errno.EADDRNOTAVAIL:
        return _bad("host", host, "is not an address of this machine", "use 127.0.0.1")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return _bad("port", str(port), "may not be used by this user", "use a port above 1023")
    return _bad("port", str(port), error.strerror or str(error), "choose another with --port")


def _bad(option: str, value: str, problem: str, remedy: str) -> OptionError:
    return OptionError((Finding("option", (value,), problem, remedy, option),))


def _user_of(port: int) -> str:
    """Name the process that listens on a port, where this user may know it."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""


def server_environment(home: Path, host: str, port: int, database_url: str = "") -> dict[str, str]:
    """Return the environment of the server's process.

    Parameters
    ----------
    home : Path
        The BOS home; Prefect's own home is a folder in it.
    host, port
        Where it listens.
    database_url : str
        A SQLite or PostgreSQL URL for Prefect's own tables; empty = SQLite in its home. May hold a password:
        it goes to the server's process only.

    Raises
    ------
    OptionError
        If the URL is of neither kind.
    """
    record = ServerRecord.of_this_process(host, port)
    found = {
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": record.url,
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(_pages(home)),
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_HOME": str(home / "prefect"),
    }
    if database_url:
        prefix = next((p for p in _DATABASES if database_url.startswith(p)), None)
        if prefix is None:
            remedy = "use postgresql://user:password@host/database or sqlite:////folder/file"
            raise _bad(DATABASE_VARIABLE, "", "is neither a PostgreSQL nor a SQLite URL", remedy)
        found["PREFECT_API_DATABASE_CONNECTION_URL"] = _DATABASES[prefix] + database_url.removeprefix(prefix)
    return found


def confine_pages(home: Path) -> None:
    """Forbid the UI's pages to load or send anything beyond this server; call it when the server is up.

    Prefect's newer UI asks amplitude.com for its settings even with analytics off (3.8.8), and pictures of block
    types come from the network. The server leaves its copy of the pages alone from now on.
    """
    for page in _pages(home).glob("v*/index.html"):
        text = page.read_text(encoding="utf-8")
        if _POLICY not in text:
            temporary = page.with_suffix(".new")
            temporary.write_text(text.replace("<head>", f"<head>\n    {_POLICY}", 1), encoding="utf-8")
            temporary.replace(page)


def publish_page(home: Path, page: Path) -> str | None:
    """Have the server that runs for this home show a page; return the page's address.

    Browsers do not follow a link from a server to a file. None where no server runs, where it can be reached from
    the network (its password guards the API only), and where the page cannot be copied.
    """
    record = running_server(home)
    folder = _pages(home) / "v1"
    if record is None or not record.loopback or not folder.is_dir():
        return None
    target = folder / "reports" / page.name
    try:
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_suffix(".new")
        shutil.copyfile(page, temporary)
        temporary.replace(target)
    except OSError:
        return None
    return f"{record.ui_url}/reports/{page.name}"


def _pages(home: Path) -> Path:
    return home / "prefect" / "ui"


def not_healthy(log_tail: str, log: Path) -> ServiceError:
    """Return the error for a server that did not come up."""
    free_mb = shutil.disk_usage(log.parent).free / 1e6
    if free_mb < DISK_MB_MIN:
        cause = f"its disk has {free_mb:.0f} MB free; free some space on the disk of {log.parent}"
    else:
        cause = f"see {log}, which ends with:\n{log_tail}"
    return ServiceError(f"the Prefect server did not start; {cause}")
