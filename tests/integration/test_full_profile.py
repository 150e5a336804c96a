"""`bos up --profile full` on real PostgreSQL, S3 and Neo4j: runs, blocks, projector, and where secrets are not."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pyarrow.parquet as pq
import pytest
from fault_proxy import FaultProxy
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from blocks import BLOCK_NAME, settings_from_blocks
from bos_core.access.projection import opened_graph
from bos_core.access.workspace import Workspace
from bos_core.api import Scenarios
from bos_core.index.graph import topology_digest
from bos_core.objects.settings import Settings, StoreOptions
from bos_core.objects.task import TaskState

S3_SECRETS = ("secret", "worker_secret", "task_secret")
WRONG = "wr0ng-pa55word-that-must-not-show"
REQUEST = {"scenario": "six", "horizon": {"start_hour": 0, "hours": 24}}


@pytest.fixture(scope="module")
def s3_proxy(s3_options: StoreOptions) -> Iterator[FaultProxy]:
    """Stands in front of the store, so that it can be cut off."""
    server = urlsplit(s3_options.endpoint_url)
    proxy = FaultProxy(server.hostname or "", server.port or 0)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[], AbstractContextManager[str]],
    services: dict[str, Any],
    s3_options: StoreOptions,
    s3_proxy: FaultProxy,
    graph_settings: dict[str, str],
) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("full")
    through = s3_options.model_copy(update={"endpoint_url": f"http://127.0.0.1:{s3_proxy.port}"})
    bucket = f"s3://{services['s3']['bucket']}/{uuid.uuid4().hex}"
    with new_database() as url:
        yield Settings.load(
            home=home,
            user="planner",
            database_url=url,
            store_url=bucket,
            store_options=through,
            **graph_settings,
        )


@pytest.fixture(scope="module")
def full(settings: Settings, new_service: Callable[..., Any]) -> Iterator[Any]:
    Scenarios(Workspace.open(settings)).import_("pandapower:case6ww", name="six")
    running = new_service(settings, "--profile", "full")
    running.start()
    with temporary_settings({PREFECT_API_URL: running.api}):
        yield running
    running.stop()


@pytest.fixture(scope="module")
def client(full: Any) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as found:
        yield found


@pytest.fixture(scope="module")
def trace_id(full: Any, client: SyncPrefectClient, settings: Settings) -> str:
    """A finished run of a deployment."""
    run = run_deployment(
        "step-1-system-model/default", parameters={"request": REQUEST}, timeout=120, poll_interval=0.3
    )
    state = client.read_flow_run(run.id).state
    assert state is not None
    assert state.type is StateType.COMPLETED, state.message
    return Workspace.open(settings).ledger.task_sets(1)[0].trace_id


def test_the_blocks_hold_all_three_services_and_the_worker_key(full: Any, settings: Settings) -> None:
    found = settings_from_blocks(BLOCK_NAME, Settings(home=settings.home, user="planner"))
    worker = settings.store_options.of_worker()
    assert worker.key != settings.store_options.key
    assert found == settings.model_copy(update={"store_options": worker})


def test_runs_of_deployments_take_their_settings_from_the_blocks(
    full: Any, trace_id: str, settings: Settings
) -> None:
    workspace = Workspace.open(settings)
    assert workspace.ledger.task_set(trace_id).state is TaskState.SUCCESS
    assert workspace.store.walk(f"attempts/{trace_id}")
    (worker,) = [p for p in full.processes() if p.cmdline()[1:5] == ["-m", "prefect", "worker", "start"]]
    assert not {"BOS_DATABASE_URL", "BOS_STORE_OPTIONS", "BOS_GRAPH_PASSWORD"} & worker.environ().keys()
    assert not [f for f in settings.home.iterdir() if f.name in {"index.sqlite", "store", "graph.lbug"}]


def test_the_projector_takes_what_a_run_makes_into_tables_and_graph(
    full: Any, trace_id: str, settings: Settings
) -> None:
    workspace = Workspace.open(settings)
    end = time.monotonic() + 60
    while workspace.ledger.outbox(1) and time.monotonic() < end:
        time.sleep(0.2)
    assert workspace.ledger.outbox() == []
    wanted = {
        topology_digest(workspace.reader(version.id).table_digests()) for version in workspace.scenarios.versions()
    }
    with opened_graph(settings) as graph:
        assert wanted <= graph.topologies()
    assert "not brought up to date" not in full.output()


@pytest.fixture(scope="module")
def said(full: Any, trace_id: str, settings: Settings, s3_proxy: FaultProxy) -> dict[str, str]:
    """What commands say, and the command lines of their processes: all well, wrong secrets, a store cut off."""
    run = ("run", "power-flow", "--grid", "six")
    texts, lines = {}, [process.cmdline() for process in full.processes()]
    for words in (run, ("doctor",), ("ps",), ("logs",), ("trace",)):
        texts[" ".join(words)] = _said(full, lines, *words)
    assert list((settings.home / "reports").glob("*.html")), texts[" ".join(run)]
    wrong = _with_wrong_secrets(settings)
    for name, value in wrong.items():
        for words in (run, ("doctor",)):
            texts[f"{name}: {' '.join(words)}"] = _said(full, lines, *words, **{name: value})
    s3_proxy.refuse()
    texts["cut: run"] = _said(full, lines, *run)
    texts["cut: doctor"] = _said(full, lines, "doctor")
    state = run_deployment(
        "step-1-system-model/default", parameters={"request": REQUEST}, timeout=120, poll_interval=0.3
    ).state
    s3_proxy.heal()
    assert state is not None
    assert state.type is StateType.FAILED
    return texts | {"cut: deployment": str(state.message), "command lines": json.dumps(lines)}


def _with_wrong_secrets(settings: Settings) -> dict[str, str]:
    """Return variables that a user might have mistyped, each alone."""
    password = settings.database.split(":")[2].split("@")[0]
    names = [f"{user}{part}" for user in ("", "worker_", "task_") for part in ("key", "secret")]
    options = settings.store_options.model_copy(update={name: SecretStr(WRONG) for name in names})
    mistyped = settings.model_copy(
        update={
            "database_url": SecretStr(settings.database.replace(password, WRONG)),
            "store_options": options,
            "graph_password": SecretStr(WRONG),
        }
    ).environment()
    return {name: mistyped[name] for name in ("BOS_DATABASE_URL", "BOS_STORE_OPTIONS", "BOS_GRAPH_PASSWORD")}


def test_failures_are_told(said: dict[str, str]) -> None:
    for name, words in {
        "BOS_DATABASE_URL: doctor": "the user or password is refused",
        "BOS_STORE_OPTIONS: doctor": "the access key is unknown",
        "BOS_GRAPH_PASSWORD: doctor": "the user or password is refused",
        "cut: run": "the store cannot be reached",
        "cut: deployment": "the store cannot be reached",
    }.items():
        assert words in " ".join(said[name].split()), said[name]
    assert not [name for name, text in said.items() if "Traceback" in text]


def test_secrets_show_nowhere(
    full: Any, said: dict[str, str], settings: Settings, services: dict[str, Any]
) -> None:
    """Grep the database, every object, every file at home, Prefect's answers, what commands say and are called."""
    marks = [services["s3"][name] for name in S3_SECRETS]
    marks += [services["neo4j"]["password"], settings.database.split(":")[2].split("@")[0], WRONG]
    assert all(len(mark) > 20 for mark in marks)
    texts = {
        "database": _dump(settings.database),
        **_objects(Workspace.open(settings)),
        **_files(settings.home),
        **_answers(full.api),
        **said,
    }
    assert len(texts) > 40
    assert "six" in texts["database"]
    assert settings.store in texts["doctor"].replace("\n", "")
    found = [(name, marks.index(mark)) for name, text in texts.items() for mark in marks if mark in text]
    assert found == []


def _dump(url: str) -> str:
    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname NOT LIKE 'pg_%'")
        rows = [
            connection.execute(f'SELECT t::text FROM "{name}" t'.encode()).fetchall()
            for (name,) in names
            if not name.startswith("sql_")
        ]
    return json.dumps(rows)


def _objects(workspace: Workspace) -> dict[str, str]:
    """Return the content of every object, Parquet unpacked with its metadata."""
    texts = {}
    for address, _ in workspace.store.walk("attempts") + workspace.store.walk("chunks"):
        data = workspace.store.get(address)
        texts[address] = data.decode("latin-1")
        if address.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(data))
            texts[address] += repr(table.schema.metadata) + json.dumps(table.to_pylist(), default=str)
    return texts


def _files(home: Path) -> dict[str, str]:
    texts = {}
    for path in home.rglob("*"):
        if path.is_file() and "ui" not in path.relative_to(home).parts:
            data = path.read_bytes()
            texts[str(path)] = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("latin-1")
    return texts


def _answers(api: str) -> dict[str, str]:
    """Return what Prefect's API answers to everyone who may list."""
    kinds = (
        "flow_runs",
        "task_runs",
        "deployments",
        "logs",
        "artifacts",
        "work_pools",
        "block_documents",
        "variables",
    )
    texts = {}
    for kind in kinds:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{api}/{kind}/filter", b"{}", headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            texts[kind] = answer.read().decode()
    assert "BOS relational index" in texts["block_documents"]
    return texts


def _said(full: Any, lines: list[list[str]], *words: str, **variables: str) -> str:
    """Return what a command says; adds the command lines of its processes, seen from time to time."""
    with tempfile.TemporaryFile("w+") as file:
        environment = full.environment() | variables
        command = psutil.Popen(full.command(*words), env=environment, stdout=file, stderr=subprocess.STDOUT)
        end = time.monotonic() + 180
        while command.poll() is None:
            assert time.monotonic() < end, words
            for process in (command, *command.children(recursive=True)):
                with suppress(psutil.Error):
                    lines.append(process.cmdline())
            time.sleep(0.2)
        file.seek(0)
        return file.read()


def test_every_missing_service_is_named_at_once(new_service: Callable[..., Any], tmp_path: Path) -> None:
    options = StoreOptions.model_validate({"endpoint_url": "http://127.0.0.1:9", "key": "k", "secret": "s3cr3t"})
    settings = Settings.load(
        home=tmp_path / "home",
        database_url="postgresql://bos:s3cr3t@127.0.0.1:9/bos",
        store_url="s3://bucket/bos",
        store_options=options,
        graph_url="bolt://127.0.0.1:9",
        graph_password="s3cr3t",
    )
    said = _refused(new_service(settings))
    for words in (
        "index: postgresql://bos:***@127.0.0.1:9/bos: it cannot be reached; start the database server",
        "store: s3://bucket/bos at http://127.0.0.1:9",
        "the store cannot be reached; start it",
        "graph: bolt://127.0.0.1:9: it cannot be reached; start the Neo4j server",
    ):
        assert words in said
    assert "s3cr3t" not in said
    said = _refused(new_service(Settings(home=tmp_path / "empty")))
    for words in ("index: no server is named; set BOS_DATABASE_URL", "store: no server", "graph: no server"):
        assert words in said


def _refused(service: Any) -> str:
    done = subprocess.run(
        service.command("up", "--profile", "full", "--port", str(service.port)),
        env=service.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 8
    assert "Traceback" not in done.stderr
    assert not (service.settings.home / "prefect" / "server.log").exists()
    return " ".join(done.stderr.split())
