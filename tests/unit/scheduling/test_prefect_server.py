"""Where the server is, and what is wrong with an address."""

from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path

import pytest

from bos_core.objects.errors import OptionError
from bos_core.scheduling import prefect_environment
from bos_core.scheduling.prefect_server import (
    AUTHENTICATION_VARIABLE,
    ServerRecord,
    check_address,
    confine_pages,
    remove_record,
    running_server,
    server_environment,
    server_url,
    wait_until_healthy,
    write_record,
)


def test_a_record_is_found_while_its_process_lives(tmp_path: Path) -> None:
    assert server_url(tmp_path) is None
    record = ServerRecord.of_this_process("127.0.0.1", 4200)
    write_record(tmp_path, record)
    assert running_server(tmp_path) == record
    assert server_url(tmp_path) == "http://127.0.0.1:4200/api"
    remove_record(tmp_path)
    remove_record(tmp_path)
    assert server_url(tmp_path) is None


def test_the_record_of_a_dead_process_counts_for_nothing(tmp_path: Path) -> None:
    recycled = dataclasses.replace(ServerRecord.of_this_process("127.0.0.1", 4200), started_s=1.0)
    write_record(tmp_path, recycled)
    assert server_url(tmp_path) is None
    write_record(tmp_path, dataclasses.replace(recycled, pid=2**22 + 1))
    assert server_url(tmp_path) is None
    (tmp_path / "prefect" / "bos-server.json").write_text("{torn")
    assert server_url(tmp_path) is None


def test_flows_use_the_running_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PREFECT_HOME": "/mine"})
    prefect_environment.apply(tmp_path / "none")
    assert "PREFECT_API_URL" not in os.environ
    assert os.environ["PREFECT_HOME"] == "/mine"
    assert os.environ["DO_NOT_TRACK"] == "1"
    write_record(tmp_path, ServerRecord.of_this_process("127.0.0.1", 4711))
    prefect_environment.apply(tmp_path)
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:4711/api"


def test_a_taken_port_is_named_with_its_user() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OptionError) as caught:
            check_address("127.0.0.1", port)
    assert f"option.port {port}: is in use on 127.0.0.1 by " in str(caught.value)
    assert f"(pid {os.getpid()}); stop that program or choose another with --port" in str(caught.value)
    check_address("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("nowhere.invalid", 4200, "option.host nowhere.invalid: is not an address"),
        ("127.0.0.1", 99999, "option.port 99999: is not a port; give a number from 1 to 65535"),
        ("127.0.0.1", 0, "option.port 0: is not a port"),
        ("127.0.0.1", -1, "option.port -1: is not a port"),
        ("0.0.0.0", 4200, "is open to the network and the server would ask for no password"),
        ("203.0.113.7", 4200, "is open to the network"),
    ],
)
def test_addresses_that_cannot_be_used(
    host: str, port: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(AUTHENTICATION_VARIABLE, raising=False)
    with pytest.raises(OptionError) as caught:
        check_address(host, port)
    assert message in str(caught.value)


def test_an_open_address_is_fine_with_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AUTHENTICATION_VARIABLE, "planner:secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    check_address("0.0.0.0", port)
    with pytest.raises(OptionError, match="is not an address of this machine"):
        check_address("203.0.113.7", port)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgres://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgresql+psycopg://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("sqlite:////tmp/x.db", "sqlite+aiosqlite:////tmp/x.db"),
    ],
)
def test_prefects_own_database(tmp_path: Path, given: str, used: str) -> None:
    found = server_environment(tmp_path, "127.0.0.1", 4200, given)
    assert found["PREFECT_API_DATABASE_CONNECTION_URL"] == used
    assert found["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert "PREFECT_API_DATABASE_CONNECTION_URL" not in server_environment(tmp_path, "127.0.0.1", 4200)


def test_another_database_is_refused_without_showing_its_password(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="neither a PostgreSQL nor a SQLite URL") as caught:
        server_environment(tmp_path, "127.0.0.1", 4200, "mysql://u:hunter2@h/d")
    assert "hunter2" not in str(caught.value)


def test_pages_are_confined_once(tmp_path: Path) -> None:
    page = tmp_path / "prefect" / "ui" / "v2" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html><head><title>x</title></head></html>")
    confine_pages(tmp_path)
    once = page.read_text()
    assert once.count("Content-Security-Policy") == 1
    assert "default-src 'self'" in once
    confine_pages(tmp_path)
    assert page.read_text() == once


def test_waiting_ends_when_the_process_does() -> None:
    assert not wait_until_healthy("http://127.0.0.1:9/api", lambda: False)
    assert not wait_until_healthy("http://127.0.0.1:9/api", lambda: True, timeout_s=0.3)
