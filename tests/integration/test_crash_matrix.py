"""Every write of claim, commit, backfill and projection: killed before and after it, and its answer lost.

The process is run again; the checker must find what an undisturbed run leaves. Real PostgreSQL, S3 and Neo4j.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from bos_core.access.projection import opened_graph
from bos_core.access.workspace import Workspace
from bos_core.api import Scenarios
from bos_core.exchange import import_grid
from bos_core.objects.settings import Settings, StoreOptions

from one_run import MODES, POINTS, Fault, Verdict, check, run  # isort: skip

GRID = "pandapower:case6ww"


@pytest.fixture
def settings(
    tmp_path: Path,
    new_database: Callable[[], AbstractContextManager[str]],
    s3_url: str,
    s3_options: StoreOptions,
    graph_settings: dict[str, str],
) -> Iterator[Settings]:
    """An installation of its own, with one scenario; its graph is not built yet."""
    with new_database() as url:
        made = Settings.load(
            home=tmp_path, database_url=url, store_url=s3_url, store_options=s3_options, **graph_settings
        )
        workspace = Workspace.open(made)
        Scenarios(workspace).add(import_grid(GRID), "six", "imported")
        with opened_graph(made) as graph:
            for digest in graph.topologies():
                graph.drop(digest)
        yield made
        workspace.engine.dispose()


@pytest.fixture(scope="module")
def matrix() -> Iterator[list[str]]:
    """A row a case; shown at the end (pytest -s)."""
    rows: list[str] = [f"{'write':<22}{'fault':<12}{'exit':>5}{'attempts':>10}{'orphans':>9}{'resumed':>9}"]
    yield rows
    print("\n" + "\n".join(rows))


_UNDISTURBED: dict[str, Verdict] = {}


def test_an_undisturbed_run(settings: Settings, tmp_path: Path) -> None:
    trace_id = str(uuid.uuid4())
    assert run(settings, trace_id, tmp_path / "log.txt") == 0, (tmp_path / "log.txt").read_text()
    verdict = check(settings, trace_id)
    assert (verdict.attempts, verdict.orphans) == (1, 0)
    _UNDISTURBED["first"] = verdict


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_a_write_loses_and_doubles_nothing(
    settings: Settings, tmp_path: Path, matrix: list[str], point: str, mode: str
) -> None:
    trace_id, log = str(uuid.uuid4()), tmp_path / "log.txt"
    code = run(settings, trace_id, log, Fault(point, mode))
    said = log.read_text()
    assert "Traceback" not in said, said
    assert code in ((0, 1) if mode == "reply lost" else (-9,)), said
    begin = time.perf_counter()
    assert run(settings, trace_id, log) == 0, log.read_text()
    seconds = time.perf_counter() - begin
    verdict = check(settings, trace_id)
    assert verdict.contents == _UNDISTURBED["first"].contents
    assert verdict.attempts <= 2
    if (point, mode) == ("commit: transaction", "reply lost"):
        assert (code, verdict.attempts) == (0, 1), "the ledger knows that it was done"
    row: list[Any] = [code, verdict.attempts, verdict.orphans, f"{seconds:.1f} s"]
    matrix.append(f"{point:<22}{mode:<12}{row[0]:>5}{row[1]:>10}{row[2]:>9}{row[3]:>9}")
