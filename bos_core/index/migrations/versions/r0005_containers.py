"""Servers, containers and what they use."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"

TEXT = sa.String()
REAL: sa.REAL[float] = sa.REAL()
JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Add what a server is and who watches it, how a container ended, and the tables of samples."""
    op.add_column("server", sa.Column("kind", TEXT, nullable=False, server_default="machine"))
    for name in ("address", "message", "monitor"):
        op.add_column("server", sa.Column(name, TEXT, nullable=False, server_default=""))
    op.add_column("server", sa.Column("cpu_cores", sa.Float(), nullable=False, server_default="0"))
    for name in ("memory_mb", "memory_reserve_mb"):
        op.add_column("server", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    for name in ("image_digest", "message"):
        op.add_column("container", sa.Column(name, TEXT, nullable=False, server_default=""))
    op.add_column("container", sa.Column("slots", JSON, nullable=False, server_default="[]"))
    for name in ("started_s", "ended_s"):
        op.add_column("container", sa.Column(name, sa.Float(), nullable=True))
    op.create_index("ix_container_ended_s", "container", ["ended_s"], unique=False)
    op.create_table(
        "use_second",
        sa.Column("at_s", sa.BigInteger(), nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("cpu_cores", REAL, nullable=False),
        sa.Column("memory_mb", REAL, nullable=False),
        sa.PrimaryKeyConstraint("at_s", "subject"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "use_minute",
        sa.Column("at_s", sa.BigInteger(), nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("cpu_cores", REAL, nullable=False),
        sa.Column("cpu_cores_max", REAL, nullable=False),
        sa.Column("memory_mb", REAL, nullable=False),
        sa.Column("memory_mb_max", REAL, nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("at_s", "subject"),
        sqlite_with_rowid=False,
    )
