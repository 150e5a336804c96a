"""The graph on a Neo4j server, reached over Bolt."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from neo4j import Driver, GraphDatabase, ManagedTransaction
from neo4j.exceptions import AuthError, DriverError, Neo4jError, ServiceUnavailable

from bos_core.index.graph import Statement, Topology
from bos_core.objects.errors import Finding, OptionError, StorageError
from bos_core.objects.settings import bolt_server

_BATCH_ROWS = 10_000
_CONNECT_TIMEOUT_S = 10.0
_RETRY_S_MAX = 5.0
"""Who asks has the tables to fall back on, and the projector comes again."""
logging.getLogger("neo4j").setLevel(logging.CRITICAL)  # what goes wrong is raised, and told once

_CONSTRAINTS = (
    "CREATE CONSTRAINT element_key IF NOT EXISTS FOR (e:Element) REQUIRE e.key IS UNIQUE",
    "CREATE CONSTRAINT topology_digest IF NOT EXISTS FOR (t:Topology) REQUIRE t.digest IS UNIQUE",
    "CREATE INDEX element_of_name IF NOT EXISTS FOR (e:Element) ON (e.topology, e.name)",
)
_NODES = (
    "UNWIND $rows AS row MERGE (e:Element {key: row.key}) "
    "SET e.topology = row.topology, e.uuid = row.uuid, e.kind = row.kind, e.name = row.name"
)
_ENDS = "UNWIND $rows AS row MATCH (a:Element {key: row.from}) MATCH (b:Element {key: row.to}) "
_CONTAINS = _ENDS + "MERGE (a)-[:CONTAINS]->(b)"
_CONNECTS = _ENDS + "MERGE (a)-[:CONNECTS {terminal: row.terminal}]->(b)"
_COMPLETE = "MERGE (t:Topology {digest: $digest})"
_INCOMPLETE = "MATCH (t:Topology {digest: $digest}) DELETE t"
_TOPOLOGIES = "MATCH (t:Topology) RETURN t.digest AS digest"
_DROP = (
    "MATCH (e:Element) WHERE e.topology = $digest WITH e LIMIT $limit DETACH DELETE e RETURN count(e) AS deleted"
)


class Neo4jGraph:
    """Graphs of topologies in a Neo4j database.

    Parameters
    ----------
    url : str
        ``bolt://host:port`` or ``neo4j+s://host``.
    user, password : str

    Raises
    ------
    OptionError
        If the URL is none of Neo4j's.
    StorageError
        If the server cannot be reached or refuses the user.
    """

    engine = "neo4j"

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        try:
            bolt_server(url)
        except ValueError as error:
            remedy = "use bolt://host:7687 or neo4j+s://host"
            raise OptionError((Finding("setting", (), str(error), remedy, "graph_url"),)) from None
        self._driver: Driver = GraphDatabase.driver(
            url,
            auth=(user, password),
            connection_timeout=_CONNECT_TIMEOUT_S,
            max_transaction_retry_time=_RETRY_S_MAX,
            user_agent="bos",
            notifications_disabled_classifications=["UNRECOGNIZED"],  # an empty database knows none of the labels
        )
        try:
            with self._translated():
                self._driver.verify_connectivity()
        except BaseException:
            self._driver.close()
            raise

    def put(self, topology: Topology) -> bool:
        """Build a graph in batches; the node that makes it visible comes last."""
        if topology.digest in self.topologies():
            return False
        nodes, contains, connects = topology.keyed()
        with self._translated(), self._driver.session() as session:
            for statement in _CONSTRAINTS:
                session.run(statement).consume()
            for statement, table in ((_NODES, nodes), (_CONTAINS, contains), (_CONNECTS, connects)):
                for rows in _batches(table):
                    session.execute_write(_write, statement, rows=rows)
            session.execute_write(_write, _COMPLETE, digest=topology.digest)
        return True

    def topologies(self) -> frozenset[str]:
        """Return the digests of the complete graphs."""
        with self._translated(), self._driver.session() as session:
            return frozenset(row["digest"] for row in session.execute_read(_read, _TOPOLOGIES, {}))

    def drop(self, digest: str) -> None:
        """Delete a graph, first what makes it visible."""
        with self._translated(), self._driver.session() as session:
            session.execute_write(_write, _INCOMPLETE, digest=digest)
            while session.execute_write(_deleted, digest):
                pass

    def ask(self, statement: Statement, **parameters: Any) -> list[dict[str, Any]]:
        """Return the rows that answer a statement."""
        with self._translated(), self._driver.session() as session:
            return session.execute_read(_read, statement.value, parameters)

    def close(self) -> None:
        """Close the connections."""
        self._driver.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except AuthError as error:
            raise StorageError(
                f"graph {self.url}: the user or password is refused; correct BOS_GRAPH_USER and BOS_GRAPH_PASSWORD"
            ) from error
        except ServiceUnavailable as error:
            raise StorageError(
                f"graph {self.url}: it cannot be reached; start the Neo4j server or correct BOS_GRAPH_URL"
            ) from error
        except (Neo4jError, DriverError) as error:
            first = str(error).strip().splitlines()[0]
            raise StorageError(f"graph {self.url}: {first}; `bos doctor` checks the graph") from error


def _batches(table: pa.Table) -> Iterator[list[dict[str, Any]]]:
    for batch in table.to_batches(_BATCH_ROWS):
        yield batch.to_pylist()


def _write(transaction: ManagedTransaction, /, statement: str, **parameters: Any) -> None:
    transaction.run(statement, parameters).consume()


def _read(transaction: ManagedTransaction, statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    return [record.data() for record in transaction.run(statement, parameters)]


def _deleted(transaction: ManagedTransaction, digest: str) -> int:
    record = transaction.run(_DROP, digest=digest, limit=_BATCH_ROWS).single(strict=True)
    return int(record["deleted"])
