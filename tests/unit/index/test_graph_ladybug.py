"""The embedded graph."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from graph_suite import *  # noqa: F403
from graph_suite import topology

from bos_core.index.graph import Graph
from bos_core.index.graph_ladybug import LadybugGraph
from bos_core.objects.errors import StorageError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LadybugGraph]:
    store = LadybugGraph(tmp_path / "sub" / "graph.lbug")
    yield store
    store.close()


def test_a_graph_outlives_its_process(tmp_path: Path) -> None:
    made = topology(1)
    first = LadybugGraph(tmp_path / "graph.lbug")
    first.put(made)
    first.close()
    second = LadybugGraph(tmp_path / "graph.lbug")
    assert len(Graph(second, made.digest).all()) == made.elements.num_rows
    second.close()


def test_a_second_process_is_told_who_is_in_the_way(tmp_path: Path) -> None:
    store = LadybugGraph(tmp_path / "graph.lbug")
    program = (
        "import sys; from pathlib import Path; from bos_core.index.graph_ladybug import LadybugGraph\n"
        "try: LadybugGraph(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    other = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "graph.lbug")], capture_output=True, text=True, check=False
    )
    assert other.stdout.startswith("StorageError graph ")
    assert "another process has it open" in other.stdout
    store.close()


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    path = tmp_path / "graph.lbug"
    path.write_bytes(b"no graph" * 1000)
    with pytest.raises(StorageError, match=r"^graph .*bos doctor"):
        LadybugGraph(path)
