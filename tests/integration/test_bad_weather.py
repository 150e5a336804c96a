"""Services that are down, cut off, slow or overloaded, and back: nothing lost, nothing twice, and a clear word.

A fault proxy of our own stands in front of real PostgreSQL, S3 and Neo4j.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fault_proxy import FaultProxy
from one_run import Verdict, begin, check, run

from bos_core.access.ontology_query import opened_ontology
from bos_core.access.projection import opened_graph
from bos_core.access.services import check_services
from bos_core.access.workspace import Workspace
from bos_core.api import Scenarios
from bos_core.exchange import import_grid
from bos_core.objects.errors import StorageError
from bos_core.objects.settings import Settings, StoreOptions

NAMES = ("index", "store", "graph")
REMEDIES = {"index": "start the database server", "store": "start it", "graph": "start the Neo4j server"}


@dataclass
class Weather:
    """An installation behind proxies, the same one as it is directly, and a log of what its processes said."""

    proxies: dict[str, FaultProxy]
    settings: Settings
    direct: Settings
    log: Path

    def said(self) -> str:
        text = self.log.read_text()
        assert "Traceback" not in text, text
        return text


@pytest.fixture
def weather(
    tmp_path: Path,
    new_database: Callable[[], AbstractContextManager[str]],
    s3_url: str,
    s3_options: StoreOptions,
    graph_settings: dict[str, str],
) -> Iterator[Weather]:
    with new_database() as url:
        addresses = (urlsplit(url), urlsplit(s3_options.endpoint_url), urlsplit(graph_settings["graph_url"]))
        proxies = {n: FaultProxy(a.hostname or "", a.port or 0) for n, a in zip(NAMES, addresses, strict=True)}
        own = {"home": tmp_path, "store_url": s3_url, **graph_settings}
        direct = Settings.load(**own, database_url=url, store_options=s3_options)
        endpoint = {"endpoint_url": f"http://127.0.0.1:{proxies['store'].port}", "attempts_max": 2}
        own["graph_url"] = f"bolt://127.0.0.1:{proxies['graph'].port}"
        settings = Settings.load(
            **own,
            database_url=url.replace(f":{addresses[0].port}/", f":{proxies['index'].port}/"),
            store_options=s3_options.model_copy(update=endpoint),
        )
        workspace = Workspace.open(direct)
        Scenarios(workspace).add(import_grid("pandapower:case6ww"), "six", "imported")
        with opened_graph(direct) as graph:
            for digest in graph.topologies():
                graph.drop(digest)
        (tmp_path / "log.txt").touch()
        yield Weather(proxies, settings, direct, tmp_path / "log.txt")
        for proxy in proxies.values():
            proxy.close()
        workspace.engine.dispose()


_UNDISTURBED: dict[str, Any] = {}


@pytest.fixture
def undisturbed() -> Verdict:
    """What a run in fair weather leaves."""
    if not _UNDISTURBED:
        pytest.skip("test_fair_weather comes first")
    verdict: Verdict = _UNDISTURBED["verdict"]
    return verdict


def test_fair_weather(weather: Weather) -> None:
    trace_id = str(uuid.uuid4())
    assert run(weather.settings, trace_id, weather.log) == 0, weather.said()
    _UNDISTURBED["bytes"] = {name: proxy.passed for name, proxy in weather.proxies.items()}
    _UNDISTURBED["verdict"] = check(weather.direct, trace_id)
    assert all(_UNDISTURBED["bytes"].values())


@pytest.mark.parametrize("name", NAMES)
def test_a_service_that_is_down_at_the_start_is_named(weather: Weather, undisturbed: Verdict, name: str) -> None:
    weather.proxies[name].refuse()
    (finding,) = check_services(weather.settings, full=True)
    assert finding.component == name
    assert str(weather.proxies[name].port) in str(finding)
    assert REMEDIES[name] in finding.remedy
    trace_id = str(uuid.uuid4())
    assert run(weather.settings, trace_id, weather.log) == 1
    assert str(weather.proxies[name].port) in weather.said()
    assert REMEDIES[name] in weather.said()
    weather.proxies[name].heal()
    assert run(weather.settings, trace_id, weather.log) == 0, weather.said()
    assert check(weather.direct, trace_id).contents == undisturbed.contents


@pytest.mark.parametrize(("name", "share"), [("index", 0.5), ("store", 0.5), ("graph", 0.7)])
def test_a_service_that_goes_away_in_the_middle_comes_back(
    weather: Weather, undisturbed: Verdict, name: str, share: float
) -> None:
    """Cut after some of the bytes that a run needs: in a question, in an answer, in a commit."""
    proxy, trace_id = weather.proxies[name], str(uuid.uuid4())
    proxy.cut_after = int(share * _UNDISTURBED["bytes"][name])
    assert run(weather.settings, trace_id, weather.log) == 1, weather.said()
    assert str(proxy.port) in weather.said()
    assert REMEDIES[name] in weather.said()
    proxy.heal()
    assert run(weather.settings, trace_id, weather.log) == 0, weather.said()
    assert check(weather.direct, trace_id).contents == undisturbed.contents


def test_slow_services_are_waited_for(weather: Weather, undisturbed: Verdict) -> None:
    for proxy in weather.proxies.values():
        proxy.delay_s = 0.02
    trace_id = str(uuid.uuid4())
    assert run(weather.settings, trace_id, weather.log) == 0, weather.said()
    verdict = check(weather.direct, trace_id)
    assert (verdict.contents, verdict.attempts) == (undisturbed.contents, 1)


def test_a_burst_of_errors_of_the_store_is_sat_out(weather: Weather, undisturbed: Verdict) -> None:
    weather.proxies["store"].errors = 3
    trace_id = str(uuid.uuid4())
    options = weather.settings.store_options
    usual = options.model_copy(update={"attempts_max": StoreOptions().attempts_max})
    settings = weather.settings.model_copy(update={"store_options": usual})
    assert run(settings, trace_id, weather.log) == 0, weather.said()
    assert weather.proxies["store"].errors == 0
    verdict = check(weather.direct, trace_id)
    assert (verdict.contents, verdict.attempts) == (undisturbed.contents, 1)


def test_a_store_that_only_says_503_is_named_and_the_run_goes_on_later(
    weather: Weather, undisturbed: Verdict
) -> None:
    trace_id, proxy = str(uuid.uuid4()), weather.proxies["store"]
    proxy.errors = requests = 1000
    assert run(weather.settings, trace_id, weather.log) == 1
    assert requests - proxy.errors <= 2 * weather.settings.store_options.attempts_max
    said = weather.said()
    assert f"at http://127.0.0.1:{proxy.port}" in said
    assert "the server answers 503" in said
    assert "when it serves again (see its log), go on with `bos run --resume last`" in said
    proxy.heal()
    assert run(weather.settings, trace_id, weather.log) == 0, weather.said()
    assert check(weather.direct, trace_id).contents == undisturbed.contents


@pytest.mark.parametrize("fault", ["refused", "cut", "503"])
def test_every_request_is_made_so_often_and_no_more(weather: Weather, fault: str) -> None:
    """Whatever is asked: neither botocore nor s3fs tries again by itself.

    aiohttp sends a question a second time, at once, when a connection that it had kept open is cut.
    """
    proxy, store = weather.proxies["store"], Workspace.open(weather.settings).store
    store.put("attempts/a", b"1" * 100_000)
    for ask in (
        lambda: store.put("attempts/b", b"1" * 100_000),
        lambda: store.put_if_absent("attempts/c", b"1"),
        lambda: store.get("attempts/a"),
        lambda: store.exists("attempts/a"),
        lambda: store.walk("attempts"),
        lambda: list(store.batches("attempts/a")),
    ):
        proxy.heal()
        proxy.errors, connections = (1000 if fault == "503" else 0), proxy.connections
        proxy.cut_after = 0 if fault == "cut" else None
        if fault == "refused":
            proxy.refuse()
        with pytest.raises(StorageError, match="503" if fault == "503" else "cannot be reached; start it"):
            ask()
        attempts = weather.settings.store_options.attempts_max
        assert proxy.connections - connections <= attempts * (2 if fault == "cut" else 1)


def test_two_processes_at_the_same_task_commit_once(weather: Weather, undisturbed: Verdict) -> None:
    trace_id = str(uuid.uuid4())
    both = [begin(weather.direct, trace_id, weather.log, None) for _ in range(2)]
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0], weather.said()
    verdict = check(weather.direct, trace_id)
    assert (verdict.contents, verdict.attempts, verdict.orphans) == (undisturbed.contents, 1, 0)


def test_the_projector_says_that_the_graph_is_down_and_catches_up(weather: Weather) -> None:
    """And while the graph is behind, the tables answer and say why."""
    weather.proxies["graph"].refuse()
    with weather.log.open("w") as log:
        command = [sys.executable, "-m", "bos_core.scheduling.run_projector"]
        environment = {**os.environ, **weather.settings.environment()}
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        assert _eventually(lambda: "the graph is not brought up to date" in weather.said())
        assert REMEDIES["graph"] in weather.said()
        with opened_ontology(Workspace.open(weather.settings), "six") as grid:
            answer = grid.near(grid.element(_name(weather), "bus"), "line", hops=1).run()
        assert answer.table.num_rows
        assert any("cannot be reached" in note for note in answer.plan.notes)
        weather.proxies["graph"].heal()
        assert _eventually(lambda: "the graph is up to date again; versions projected: 1" in weather.said())
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert Workspace.open(weather.direct).ledger.outbox() == []
    with opened_ontology(Workspace.open(weather.direct), "six") as grid:
        again = grid.near(grid.element(_name(weather), "bus"), "line", hops=1).run()
    assert again.plan.notes == ()
    assert again.table.equals(answer.table)


def _name(weather: Weather) -> str:
    entity = Workspace.open(weather.direct).reader("six").table("entity").to_pylist()
    return next(str(row["id"]) for row in entity if row["kind"] == "bus")


def _eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False
