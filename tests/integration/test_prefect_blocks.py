"""Blocks on a real Prefect server: what is saved, what is refused, what never shows."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from blocks import (
    BLOCK_NAME,
    ContainerHost,
    GraphIndex,
    RelationalIndex,
    ResultStoreBlock,
    container_hosts,
    save_blocks,
    settings_from_blocks,
)
from bos_core.objects.errors import BosError, OptionError, ServiceError, StorageError
from bos_core.objects.settings import Settings

PASSWORD = "hunter2-must-not-show"


@pytest.fixture(scope="module", autouse=True)
def _api(service: Any) -> Iterator[None]:
    with temporary_settings({PREFECT_API_URL: service.api}):
        yield


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _post(service: Any, path: str, body: dict[str, Any]) -> str:
    request = urllib.request.Request(
        f"{service.api}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def test_the_service_saves_its_settings_as_blocks(service: Any) -> None:
    found = settings_from_blocks(BLOCK_NAME, Settings(home=service.settings.home, user="planner"))
    assert found.database == service.settings.database
    assert found.store == service.settings.store
    assert found.store_options == service.settings.store_options
    assert found.environment() == service.settings.environment()


def test_all_block_types_are_offered(service: Any) -> None:
    types = json.loads(_post(service, "block_types/filter", {}))
    slugs = {t["slug"] for t in types}
    assert {"bos-relational-index", "bos-graph-index", "bos-result-store", "bos-container-host"} <= slugs


def test_secrets_show_neither_in_the_api_nor_in_logs(service: Any) -> None:
    secret = service.settings.store_options.secret.get_secret_value()
    documents = _post(service, "block_documents/filter", {})
    assert "bos-result-store" in documents
    answers = documents + _post(service, "work_pools/filter", {}) + _post(service, "deployments/filter", {})
    answers += _post(service, "flow_runs/filter", {}) + _post(service, "logs/filter", {})
    assert secret not in answers
    assert service.settings.database not in documents
    for log in (service.log, *service.prefect_home.glob("*.log")):
        assert secret not in log.read_text()
    with get_client(sync_client=True) as client:
        name = "bos-relational-index"
        document = client.read_block_document_by_name(BLOCK_NAME, name, include_secrets=False)
    assert set(document.data["url"]) == {"*"}


def _cases(port: int, folder: Path) -> list[tuple[Any, type[BosError], str, str]]:
    return [
        (
            RelationalIndex(url=SecretStr(f"postgresql://planner:{PASSWORD}@127.0.0.1:{port}/bos")),
            StorageError,
            "cannot be reached",
            "start the database server",
        ),
        (RelationalIndex(url=SecretStr("mysql://127.0.0.1/bos")), OptionError, "neither", "correct"),
        (
            GraphIndex(url=f"bolt://127.0.0.1:{port}", password=SecretStr(PASSWORD)),
            ServiceError,
            f"cannot reach bolt://127.0.0.1:{port}: connection refused",
            "start Neo4j",
        ),
        (GraphIndex(url="http://127.0.0.1:7474"), OptionError, "is not a Bolt URL", "use bolt://"),
        (GraphIndex(url=f"bolt://neo4j:{PASSWORD}@127.0.0.1"), OptionError, "carries", "their own fields"),
        (ResultStoreBlock(url="ftp://127.0.0.1/x"), OptionError, "neither a folder", "correct"),
        (
            ResultStoreBlock(
                url="s3://bos/x",
                endpoint_url=f"http://127.0.0.1:{port}",
                key=SecretStr("k"),
                secret=SecretStr(PASSWORD),
                attempts_max=1,
            ),
            StorageError,
            "s3://bos/x",
            "",
        ),
        (
            ContainerHost(url=f"unix://{folder}/none.sock"),
            ServiceError,
            "no such file or directory",
            "start Docker",
        ),
        (
            ContainerHost(url=f"tcp://127.0.0.1:{port}"),
            ServiceError,
            f"cannot reach tcp://127.0.0.1:{port}: connection refused",
            "start Docker",
        ),
        (ContainerHost(url="localhost"), OptionError, "is not a Docker URL", "use unix://"),
    ]


@pytest.mark.parametrize("case", range(10))
def test_what_cannot_be_used_is_not_saved(case: int, closed_port: int, tmp_path: Path) -> None:
    block, error, problem, remedy = _cases(closed_port, tmp_path)[case]
    with pytest.raises(error) as caught:
        block.save(f"bad-{case}")
    message = str(caught.value)
    assert problem in message
    assert remedy in message
    assert PASSWORD not in message
    with pytest.raises(ValueError, match="Unable to find block"):
        type(block).load(f"bad-{case}")


def test_hosts_of_settings_and_blocks_come_together_and_a_bad_block_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ContainerHost, "check", lambda self: None)  # as the UI saves
    for name, url in (("east", "tcp://east:2376"), ("one", "tcp://other:2376"), ("bad", "localhost")):
        ContainerHost(url=url, memory_reserve_mb=2_000).save(name)
    own = ({"url": "unix:///one.sock", "name": "one"}, {"url": "tcp://twice:1"})
    ContainerHost(url="tcp://twice:1").save("twice")
    said: list[str] = []
    hosts = container_hosts(Settings.load(container_hosts=own), said.append)
    assert [(h.url, h.name, h.memory_reserve_mb) for h in hosts] == [
        ("unix:///one.sock", "one", 1024),
        ("tcp://twice:1", "", 1024),
        ("tcp://east:2376", "east", 2_000),
    ]
    assert sorted(line.split(":")[0] for line in said) == [
        "container host bad is left out",
        "container host one is left out",
    ]
    for name in ("east", "one", "bad", "twice"):
        ContainerHost.delete(name)


def test_a_server_that_does_not_speak_bolt_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(20)
                connection.sendall(bytes(4))  # no version in common

        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        with pytest.raises(ServiceError, match="not as a Bolt server"):
            GraphIndex(url=f"bolt://127.0.0.1:{port}").save("http")
        thread.join()


def test_a_neo4j_that_lets_us_in_is_accepted(graph_settings: dict[str, str]) -> None:
    url, user = graph_settings["graph_url"], graph_settings["graph_user"]
    with pytest.raises(StorageError, match="user or password is refused") as caught:
        GraphIndex(url=url, user=user, password=SecretStr(PASSWORD)).save("graph")
    assert PASSWORD not in str(caught.value)
    block = GraphIndex.from_settings(Settings.load(**graph_settings))
    block.save("graph")
    loaded = GraphIndex.load("graph")
    assert loaded.settings(Settings()).graph_password == SecretStr(graph_settings["graph_password"])
    assert graph_settings["graph_password"] not in repr(loaded)


def test_a_graph_that_is_embedded_again_leaves_no_block(
    service: Any, graph_settings: dict[str, str], tmp_path: Path
) -> None:
    server = Settings.load(home=tmp_path, **graph_settings)
    save_blocks(server, "moved")
    assert settings_from_blocks("moved", Settings(home=tmp_path)).graph_url == server.graph_url
    save_blocks(Settings(home=tmp_path), "moved")
    assert settings_from_blocks("moved", server).graph_url == ""


def test_saving_from_async_code_checks_too(closed_port: int) -> None:
    async def save() -> None:
        await GraphIndex(url=f"bolt://127.0.0.1:{closed_port}").save("bad")

    with pytest.raises(ServiceError, match="connection refused"):
        asyncio.run(save())
