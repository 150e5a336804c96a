"""The graph on a real Neo4j."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from graph_suite import *  # noqa: F403

from bos_core.index.graph_neo4j import Neo4jGraph
from bos_core.objects.errors import OptionError, StorageError


@pytest.fixture(scope="module")
def store(services: dict[str, Any]) -> Iterator[Neo4jGraph]:
    service = services["neo4j"]
    store = Neo4jGraph(service["url"], service["user"], service["password"])
    yield store
    store.close()


def test_a_wrong_password_is_named_without_showing_it(services: dict[str, Any]) -> None:
    service = services["neo4j"]
    with pytest.raises(StorageError, match="user or password is refused") as error:
        Neo4jGraph(service["url"], service["user"], "wr0ng-secret")
    assert "wr0ng-secret" not in str(error.value)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(StorageError, match=r"bolt://127.0.0.1:9.*cannot be reached; start"):
        Neo4jGraph("bolt://127.0.0.1:9", "neo4j", "x")


def test_a_constructor_that_fails_leaves_no_driver_open() -> None:
    gc.collect()  # what other tests left behind says so now, outside
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with pytest.raises(StorageError):
            Neo4jGraph("bolt://127.0.0.1:9", "neo4j", "x")
        gc.collect()
    assert [str(warning.message) for warning in found] == []


@pytest.mark.parametrize("url", ["", "http://host", "nonsense", "bolt://h:x", "bolt+ssl://h", "bolt://u:hidden@h"])
def test_another_url_is_a_finding(url: str) -> None:
    with pytest.raises(OptionError) as error:
        Neo4jGraph(url, "neo4j", "x")
    assert error.value.findings[0].field == "graph_url"
    assert "hidden" not in str(error.value)
