"""Versions that merge two, and who made a version."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the second parent and the author."""
    # Written out, because Alembic does not add a column with a reference to a table of SQLite.
    op.execute("ALTER TABLE scenario_version ADD COLUMN merged VARCHAR REFERENCES scenario_version (id)")
    op.execute("ALTER TABLE scenario_version ADD COLUMN author VARCHAR NOT NULL DEFAULT ''")
    op.create_index("ix_scenario_version_merged", "scenario_version", ["merged"], unique=False)
