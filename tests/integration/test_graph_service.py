"""The graph server that the tests use is a real Neo4j."""

from __future__ import annotations

from typing import Any

import pytest
from neo4j import GraphDatabase
from neo4j.exceptions import AuthError


def test_neo4j_keeps_a_graph_and_its_password(services: dict[str, Any]) -> None:
    service = services["neo4j"]
    with GraphDatabase.driver(service["url"], auth=(service["user"], service["password"])) as driver:
        driver.execute_query("MERGE (:Probe {uuid: 'a'})-[:CONNECTS]->(:Probe {uuid: 'b'})")
        found = driver.execute_query("MATCH (:Probe {uuid: 'a'})-[:CONNECTS]->(n) RETURN n.uuid AS uuid").records
        assert [record["uuid"] for record in found] == ["b"]
        driver.execute_query("MATCH (n:Probe) DETACH DELETE n")
    with (
        GraphDatabase.driver(service["url"], auth=("neo4j", "wrong")) as stranger,
        pytest.raises(AuthError),
    ):
        stranger.verify_connectivity()
