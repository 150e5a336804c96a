"""Show a finished run in Prefect's UI: its report, Table 6, and what is still violated."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_table_artifact

from bos_core.access.workspace import Workspace
from bos_core.report.collection import collect, report_path
from bos_core.report.page import write
from bos_core.report.tables import Cells, table6_cells, violated, violation_cells
from bos_core.scheduling.prefect_server import publish_page

VIOLATIONS_SHOWN = 100


def publish(workspace: Workspace, trace_id: str) -> None:
    """Write the report; show Table 6, what is still violated and the report's link in Prefect's UI."""
    data = collect(workspace, trace_id)
    path = write(data, report_path(workspace.settings, trace_id))
    time_by_stage = _rows(table6_cells(data.table6))
    create_table_artifact(time_by_stage, key="table-6", description=f"Time by stage, run {trace_id}")
    security = data.security
    if security is not None and security.remaining is not None:
        remaining = security.remaining
        shown = violation_cells(remaining, VIOLATIONS_SHOWN)
        create_table_artifact(
            _rows(shown),
            key="violations",
            description=f"{violated(security.adjusted)}: {len(remaining):,}, shown: {len(shown.rows):,}",
        )
    create_link_artifact(
        publish_page(workspace.settings.home, path) or path.as_uri(),
        key="report",
        link_text="Open the report",
        description=f"Report of run {trace_id}, also in the file {path}",
    )
    get_run_logger().info("%s report: %s", trace_id[:8], path)


def _rows(cells: Cells) -> list[dict[str, str]]:
    lines = [*cells.rows, cells.total] if cells.total else cells.rows
    return [dict(zip(cells.header, line, strict=True)) for line in lines]
