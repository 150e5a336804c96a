"""The graph embedded in this process: ladybug, one file, one process that writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import ladybug

from bos_core.index.graph import BY_KEY, Statement, Topology
from bos_core.objects.errors import StorageError

_BUFFER_BYTES = 256 << 20
_SIZE_BYTES_MAX = 64 << 30
_THREADS = 1
_KEYS_LOOKED_UP = 50
"""Up to so many keys are looked up one by one, 2 ms each; a list of keys is joined with all elements."""

_TABLES = (
    "CREATE NODE TABLE IF NOT EXISTS "
    "Element(key STRING PRIMARY KEY, topology STRING, uuid STRING, kind STRING, name STRING)",
    "CREATE NODE TABLE IF NOT EXISTS Topology(digest STRING PRIMARY KEY)",
    "CREATE REL TABLE IF NOT EXISTS CONTAINS(FROM Element TO Element)",
    "CREATE REL TABLE IF NOT EXISTS CONNECTS(FROM Element TO Element, terminal STRING)",
)


class LadybugGraph:
    """Graphs of topologies in a file.

    Parameters
    ----------
    path : Path
        Its folder is made where it is missing.

    Raises
    ------
    StorageError
        If the file cannot be opened: another process has it, no permission, no graph.
    """

    engine = "ladybug"

    def __init__(self, path: Path) -> None:
        self.url = str(path)
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = ladybug.Database(
                str(path), buffer_pool_size=_BUFFER_BYTES, max_db_size=_SIZE_BYTES_MAX
            )
            self._connection = ladybug.Connection(self._database, num_threads=_THREADS)
            for statement in _TABLES:
                self._connection.execute(statement)

    def put(self, topology: Topology) -> bool:
        """Build a graph in one transaction."""
        if topology.digest in self.topologies():
            return False
        nodes, contains, connects = topology.keyed()
        with self._transaction():
            for name, table in (("Element", nodes), ("CONTAINS", contains), ("CONNECTS", connects)):
                if table.num_rows:
                    self._connection.execute(f"COPY {name} FROM $rows", {"rows": table})
            self._connection.execute("CREATE (:Topology {digest: $digest})", {"digest": topology.digest})
        return True

    def topologies(self) -> frozenset[str]:
        """Return the digests of the complete graphs."""
        return frozenset(row["digest"] for row in self._rows("MATCH (t:Topology) RETURN t.digest AS digest", {}))

    def drop(self, digest: str) -> None:
        """Delete a graph."""
        with self._transaction():
            for statement in (
                "MATCH (t:Topology {digest: $digest}) DELETE t",
                "MATCH (e:Element) WHERE e.topology = $digest DETACH DELETE e",
            ):
                self._connection.execute(statement, {"digest": digest})

    def ask(self, statement: Statement, **parameters: Any) -> list[dict[str, Any]]:
        """Return the rows that answer a statement."""
        keys = parameters.get("keys")
        if keys is None or len(keys) > _KEYS_LOOKED_UP:
            return self._rows(statement.value, parameters)
        single = statement.value.replace(BY_KEY, "MATCH (a:Element {key: $key})")
        return [row for key in keys for row in self._rows(single, {"key": key})]

    def close(self) -> None:
        """Let other processes open the file."""
        self._connection.close()
        self._database.close()

    def _rows(self, statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        with self._translated():
            result = self._connection.execute(statement, parameters)
            assert isinstance(result, ladybug.QueryResult)  # a list only for several statements at once
            with closing(result):
                rows: list[dict[str, Any]] = result.get_as_arrow().to_pylist()
            return rows

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated():
            self._connection.execute("BEGIN TRANSACTION")
            try:
                yield
            except BaseException:
                with suppress(RuntimeError):  # the engine may have ended the transaction itself
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, OSError) as error:
            first = str(error).strip().splitlines()[0]
            remedy = "`bos doctor` checks the graph"
            if "lock" in first.lower():
                remedy = "another process has it open: end that one, or use Neo4j (BOS_GRAPH_URL)"
            raise StorageError(f"graph {self.url}: {first}; {remedy}") from error
