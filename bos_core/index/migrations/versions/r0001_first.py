"""The first schema: users, projects, machines, scenarios, tasks, outputs, programs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from bos_core.index.tables import task_triggers

revision = "0001"
down_revision = None

TEXT = sa.String()
JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Create all tables and the triggers that guard the states of tasks."""
    op.create_table(
        "outbox",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("drained_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("ix_outbox_drained_s", "outbox", ["drained_s"], unique=False)
    op.create_table(
        "program",
        sa.Column("slot", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("version", TEXT, nullable=False),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("elements", JSON, nullable=False),
        sa.Column("references", JSON, nullable=False),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("storage_address", TEXT, nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("slot", "name", "digest"),
    )
    op.create_table(
        "project",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "server",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attributes", JSON, nullable=False),
        sa.Column("seen_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "user_account",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "container",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("server", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("image", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("mode", TEXT, nullable=False),
        sa.Column("cpu_cores", sa.Float(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("attributes", JSON, nullable=False),
        sa.Column("seen_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["server"], ["server.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_container_server", "container", ["server"], unique=False)
    op.create_table(
        "scenario",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("project", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("versions", sa.Integer(), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["user_account.name"]),
        sa.ForeignKeyConstraint(["project"], ["project.name"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "task_set",
        sa.Column("trace_id", TEXT, nullable=False),
        sa.Column("business", TEXT, nullable=False),
        sa.Column("user", TEXT, nullable=False),
        sa.Column("project", TEXT, nullable=False),
        sa.Column("scenario", TEXT, nullable=False),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("finished_s", sa.Float(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'executing', 'success', 'failed', 'retrying')", name="task_set_state"
        ),
        sa.ForeignKeyConstraint(["project"], ["project.name"]),
        sa.ForeignKeyConstraint(["user"], ["user_account.name"]),
        sa.PrimaryKeyConstraint("trace_id"),
    )
    op.create_table(
        "service_instance",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("container", TEXT, nullable=False),
        sa.Column("service", TEXT, nullable=False),
        sa.Column("address", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("seen_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["container"], ["container.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_service_instance_container", "service_instance", ["container"], unique=False)
    op.create_table(
        "task",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("task_set", TEXT, nullable=False),
        sa.Column("step", TEXT, nullable=False),
        sa.Column("slot", TEXT, nullable=False),
        sa.Column("program", TEXT, nullable=False),
        sa.Column("program_version", TEXT, nullable=False),
        sa.Column("program_digest", TEXT, nullable=False),
        sa.Column("chunk", TEXT, nullable=False),
        sa.Column("input_digest", TEXT, nullable=False),
        sa.Column("scenario_version", TEXT, nullable=False),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("subtasks", sa.Integer(), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("lease_until_s", sa.Float(), nullable=True),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("started_s", sa.Float(), nullable=True),
        sa.Column("finished_s", sa.Float(), nullable=True),
        sa.Column("wall_s", sa.Float(), nullable=False),
        sa.Column("io_s", sa.Float(), nullable=False),
        sa.Column("peak_rss_mb", sa.Float(), nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.CheckConstraint(
            "state <> 'executing' OR (holder <> '' AND lease_until_s IS NOT NULL)", name="task_executing_is_leased"
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'executing', 'success', 'failed', 'retrying')", name="task_state"
        ),
        sa.CheckConstraint("attempt >= 0 AND subtasks >= 0 AND memory_mb >= 0", name="task_counts"),
        sa.ForeignKeyConstraint(["task_set"], ["task_set.trace_id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task_set", "step", "slot", "program_digest", "input_digest", "chunk"),
    )
    op.create_index("task_by_step", "task", ["task_set", "step", "state"], unique=False)
    op.create_table(
        "task_log",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("trace_id", TEXT, nullable=False),
        sa.Column("task", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("level", TEXT, nullable=False),
        sa.Column("logger", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["trace_id"], ["task_set.trace_id"]),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("ix_task_log_task", "task_log", ["task"], unique=False)
    op.create_index("ix_task_log_trace_id", "task_log", ["trace_id"], unique=False)
    op.create_table(
        "scenario_version",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("scenario", TEXT, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("parent", TEXT, nullable=True),
        sa.Column("made_by_task", TEXT, nullable=True),
        sa.Column("trace_id", TEXT, nullable=False),
        sa.Column("step", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["made_by_task"], ["task.id"]),
        sa.ForeignKeyConstraint(["parent"], ["scenario_version.id"]),
        sa.ForeignKeyConstraint(["scenario"], ["scenario.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("scenario", "number"),
    )
    op.create_index("ix_scenario_version_digest", "scenario_version", ["digest"], unique=False)
    op.create_index("ix_scenario_version_made_by_task", "scenario_version", ["made_by_task"], unique=False)
    op.create_index("ix_scenario_version_parent", "scenario_version", ["parent"], unique=False)
    op.create_index("ix_scenario_version_trace_id", "scenario_version", ["trace_id"], unique=False)
    op.create_table(
        "task_dependency",
        sa.Column("task", TEXT, nullable=False),
        sa.Column("needs", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["task"], ["task.id"]),
        sa.PrimaryKeyConstraint("task", "needs"),
    )
    op.create_index("ix_task_dependency_needs", "task_dependency", ["needs"], unique=False)
    op.create_table(
        "task_output",
        sa.Column("task", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("address", TEXT, nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("content_digest", TEXT, nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("columns", JSON, nullable=False),
        sa.ForeignKeyConstraint(["task"], ["task.id"]),
        sa.PrimaryKeyConstraint("task", "name"),
        sa.UniqueConstraint("address"),
    )
    op.create_table(
        "scenario_chunk",
        sa.Column("version", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.ForeignKeyConstraint(["version"], ["scenario_version.id"]),
        sa.PrimaryKeyConstraint("version", "key"),
    )
    op.create_index("ix_scenario_chunk_digest", "scenario_chunk", ["digest"], unique=False)
    for statement in task_triggers(op.get_bind().dialect.name):
        op.execute(statement)
