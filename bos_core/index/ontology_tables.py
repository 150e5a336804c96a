"""The ontology in SQL: a table for each element type whose values do not vary in time, ``t_<name>``.

Rows belong to the content they were part of, named by its digest, as the files of the result store are: versions
that share a table share its rows. What varies in time stays in Parquet.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from bos_core.index import tables
from bos_core.objects.ontology import TABLES, TIME_VARYING, TableSchema

METADATA = tables.METADATA
PREFIX = "t_"
_TYPES: dict[pa.DataType, Any] = {
    pa.string(): sa.String,
    pa.float64(): sa.Double,
    pa.int64(): sa.BigInteger,
    pa.bool_(): sa.Boolean,
}

STATIC: dict[str, TableSchema] = {
    name: schema for name, schema in TABLES.items() if schema.data_type not in TIME_VARYING
}

CONTENT = sa.Table(
    "ontology_content",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("digest", sa.String, nullable=False, unique=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("stored_s", sa.Float, nullable=False),
)
"""Which contents are stored; a content is there with all its rows or not at all."""


def _table(schema: TableSchema, metadata: sa.MetaData = METADATA) -> sa.Table:
    name = PREFIX + schema.name
    columns = [
        sa.Column(c.name, _TYPES[c.type], primary_key=c.name in schema.key, nullable=c.nullable)
        for c in schema.columns
    ]
    references = [c.name for c in schema.columns if c.references and c.name != schema.key[0]]
    indexes = [sa.Index(f"{name}_by_{column}", "content", column) for column in references]
    content: sa.Column[int] = sa.Column(
        "content", sa.ForeignKey(CONTENT.c.id, ondelete="CASCADE"), primary_key=True
    )
    return sa.Table(name, metadata, content, *columns, *indexes, sqlite_with_rowid=False)


ONTOLOGY: dict[str, sa.Table] = {name: _table(schema) for name, schema in STATIC.items()}
"""By name of the ontology's table."""


@cache
def sql_table(schema: TableSchema) -> sa.Table:
    """Return the table of a schema in SQL, also of one that programs have extended."""
    known = STATIC.get(schema.name)
    return ONTOLOGY[schema.name] if schema == known else _table(schema, sa.MetaData())


def sql_type(type: pa.DataType) -> Any:
    """Return the SQL type of a column's Arrow type."""
    return _TYPES[type]
