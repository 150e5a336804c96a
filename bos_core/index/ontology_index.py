"""Rows of the ontology in SQL: stored once a content, read by id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from bos_core.index.database import DatabaseClock, insert_new, pieces, reading, writing
from bos_core.index.ontology_tables import CONTENT, sql_table
from bos_core.index.programs import ontology_of
from bos_core.objects.errors import NotFoundError


class OntologyIndex:
    """The static tables of all scenario versions, by the digest of their content."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def put(self, name: str, digest: str, table: pa.Table) -> bool:
        """Store the rows of a static table, all or none; return whether they were not there yet."""
        with reading(self.engine) as connection:
            if _content(connection, digest) is not None:
                return False
        schema = ontology_of(self.engine)[name]
        target, columns = sql_table(schema), [c.name for c in schema.columns]
        values = [column.to_pylist() for column in schema.conform(table).columns]
        with writing(self.engine) as connection:
            row = {"digest": digest, "name": name, "rows": table.num_rows, "stored_s": DatabaseClock()}
            stored = insert_new(self.engine, CONTENT).values(**row).returning(CONTENT.c.id)
            content = connection.execute(stored).scalar()
            if content is None:
                return False
            rows = zip([content] * table.num_rows, *values, strict=True)
            _insert(connection, target, ["content", *columns], rows)
        return True

    def rows(
        self, name: str, digest: str, ids: Iterable[str] | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return rows of a content in order of their key, with the schema of the ontology.

        Parameters
        ----------
        ids : iterable of str, optional
            Only rows whose first key column is one of these.
        columns : sequence of str, optional

        Raises
        ------
        NotFoundError
            If the content is not stored, or the table has no such column.
        """
        schema = ontology_of(self.engine)[name]
        table = sql_table(schema)
        wanted = [c.name for c in schema.columns] if columns is None else list(columns)
        unknown = sorted(set(wanted) - {c.name for c in schema.columns})
        if unknown:
            known = ", ".join(c.name for c in schema.columns)
            raise NotFoundError(f"table {name} has no column {', '.join(unknown)}; it has {known}")
        key = [table.c[k] for k in schema.key]
        with reading(self.engine) as connection:
            content = _content(connection, digest)
            if content is None:
                raise NotFoundError(f"the index holds no rows of {name} with digest {digest}; see `bos doctor`")
            query = sa.select(*(table.c[c] for c in wanted)).where(table.c.content == content).order_by(*key)
            if ids is None:
                found = connection.execute(query).all()
            else:
                found = [
                    row
                    for some in pieces(sorted(set(ids)))
                    for row in connection.execute(query.where(key[0].in_(some)))
                ]
        values = list(zip(*found, strict=True)) or [()] * len(wanted)
        arrow = pa.schema([schema.arrow.field(c) for c in wanted], metadata=schema.arrow.metadata)
        return pa.Table.from_arrays(
            [pa.array(v, f.type) for v, f in zip(values, arrow, strict=True)], schema=arrow
        )

    def contents(self) -> frozenset[str]:
        """Return the digests of all stored contents."""
        with reading(self.engine) as connection:
            return frozenset(connection.execute(sa.select(CONTENT.c.digest)).scalars())

    def drop(self, digests: Iterable[str]) -> None:
        """Forget contents with their rows; unknown ones are no error."""
        with writing(self.engine) as connection:
            for some in pieces(sorted(set(digests))):
                connection.execute(sa.delete(CONTENT).where(CONTENT.c.digest.in_(some)))


def _content(connection: Connection, digest: str) -> int | None:
    """Return the number of a stored content."""
    return connection.execute(sa.select(CONTENT.c.id).where(CONTENT.c.digest == digest)).scalar()


def _insert(connection: Connection, table: sa.Table, columns: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert many rows the fast way of each database."""
    names = ", ".join(f'"{column}"' for column in columns)
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
            for row in rows:
                copy.write_row(row)
        return
    marks = ", ".join("?" * len(columns))
    if values := list(rows):
        connection.exec_driver_sql(f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', values)
