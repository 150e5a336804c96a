"""The migrations that make and undo, in the tables ``t_<name>``, what programs add to the ontology."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from bos_core.index.ontology_tables import CONTENT, PREFIX, sql_table, sql_type
from bos_core.index.scenarios import newest_given
from bos_core.index.tables import CHUNK, SCENARIO, VERSION
from bos_core.objects.ontology import Tables

ADDED = "added_columns"
"""In the detail of a table's chunk: added columns that have values there."""


@dataclass(frozen=True)
class Held:
    """Values that nobody could see any more: where they are, and in which scenarios."""

    what: str
    scenarios: tuple[str, ...]


def migrate_ontology(connection: Connection, before: Tables, after: Tables) -> None:
    """Change the tables of the ontology in SQL from one extension to another, within the transaction that is open.

    Contents whose rows would lack values that their files have are forgotten; they are projected again when asked
    for.
    """
    if before == after:
        return
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    operations = Operations(MigrationContext.configure(connection))
    for name in sorted(before.keys() - after.keys()):
        operations.drop_table(PREFIX + name)
        _forget(connection, sa.select(CONTENT.c.digest).where(CONTENT.c.name == name))
    for name in sorted(after.keys() - before.keys()):
        sql_table(after[name]).create(connection)
    for name in sorted(before.keys() & after.keys()):
        old, new = ({c.name: c for c in tables[name].columns} for tables in (before, after))
        lost = [c.name for c in old.values() if c.name not in new or new[c.name].type != c.type]
        gained = [c for c in new.values() if c.name not in old or c.name in lost]
        for gone in lost:
            operations.drop_column(PREFIX + name, gone)
        for column in gained:
            operations.add_column(PREFIX + name, sa.Column(column.name, sql_type(column.type), nullable=True))
        _forget(connection, _contents_with(connection, name, {c.name for c in gained}))


def _forget(connection: Connection, digests: Any) -> None:
    connection.execute(sa.delete(CONTENT).where(CONTENT.c.digest.in_(digests)))


def _contents_with(connection: Connection, name: str, columns: set[str]) -> list[str]:
    """Return the contents of a table whose files have values in some of these columns."""
    query = sa.select(CHUNK.c.digest, CHUNK.c.detail).where(CHUNK.c.key == f"table/{name}")
    return sorted({digest for digest, detail in connection.execute(query) if columns & set(detail.get(ADDED, ()))})


def held_values(connection: Connection, before: Tables, after: Tables) -> Sequence[Held]:
    """Return what scenarios, by the version that their name means, hold of that which `after` lacks."""
    newest = sa.and_(VERSION.c.scenario == SCENARIO.c.id, VERSION.c.number == newest_given())
    query = (
        sa.select(SCENARIO.c.name, CHUNK.c.rows, CHUNK.c.detail)
        .select_from(SCENARIO)
        .join(VERSION, newest)
        .join(CHUNK, CHUNK.c.version == VERSION.c.id)
        .order_by(SCENARIO.c.name)
    )
    found: dict[str, list[str]] = {}
    for name, schema in before.items():
        later = {c.name: c.type for c in after[name].columns} if name in after else {}
        lost = [c.name for c in schema.columns if c.added and later.get(c.name) != c.type]
        if not lost and name in after:
            continue
        for scenario, rows, detail in connection.execute(query.where(CHUNK.c.key == f"table/{name}")):
            if name not in after and rows:
                found.setdefault(f"table {name}", []).append(scenario)
            elif name in after:
                for column in set(lost) & set(detail.get(ADDED, ())):
                    found.setdefault(f"{name}.{column}", []).append(scenario)
    return [Held(what, tuple(scenarios)) for what, scenarios in sorted(found.items())]
