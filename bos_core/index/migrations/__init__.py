"""The schema's history: a revision a file in `versions`, applied forward by Alembic and never edited afterwards.

A change of `bos_core.index.tables` needs a new file there and its revision in `bos_core.index.database.REVISION`;
the tests compare both, on SQLite and PostgreSQL, and carry data from every revision to the newest.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

_BEFORE_REVISIONS = "schema_version"
_FIRST = "0001"


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring a database to a revision, within the caller's transaction.

    Raises
    ------
    alembic.util.CommandError
        If the database holds a revision that is none of this program's.
    """
    config = _config()
    config.attributes["connection"] = connection
    if sa.inspect(connection).has_table(_BEFORE_REVISIONS):  # made before revisions were counted
        connection.execute(sa.text(f"DROP TABLE {_BEFORE_REVISIONS}"))
        command.stamp(config, _FIRST)
    command.upgrade(config, revision)


def revisions() -> list[str]:
    """Return all revisions, oldest first."""
    script = ScriptDirectory.from_config(_config())
    return [found.revision for found in script.walk_revisions()][::-1]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
