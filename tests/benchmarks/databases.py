"""Where benchmarks keep what they measure: a folder on the disk, a database on the server of infra/services."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from frame import CACHE


def disk() -> Path:
    """Return a folder on the disk of the working copy; the system's temporary one may lie in memory."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return CACHE


@contextmanager
def new_postgresql() -> Iterator[str]:
    """URL of a database of its own on the server that infra/services has started."""
    script = Path(__file__).parents[2] / "infra" / "services"
    status = subprocess.run([sys.executable, str(script), "status"], capture_output=True, text=True, check=False)
    if status.returncode:
        raise RuntimeError("RuntimeError: no server runs; `infra/services start` starts one")
    server = json.loads(status.stdout)["postgresql"]["url"]
    name = f"bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    try:
        yield server.rpartition("/")[0] + f"/{name}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
