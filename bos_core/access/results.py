"""Committed results by run, step and name: the only way to a result leads through the index."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from bos_core.access.store import ResultStore
from bos_core.index.ledger import Ledger
from bos_core.index.records import Output
from bos_core.objects.errors import NotFoundError
from bos_core.objects.result import ResultMetadata


class ResultReader:
    """Reads what successful tasks committed."""

    def __init__(self, store: ResultStore, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger

    def outputs(self, trace_id: str, step: str, name: str, hours: slice | None = None) -> list[Output]:
        """Return the outputs of this name of all successful tasks of a step, in the order of their chunks.

        Parameters
        ----------
        hours : slice, optional
            Only of tasks that work on some of these hours of the year.

        Raises
        ------
        NotFoundError
            If no such task has committed such an output.
        """
        found = self._ledger.outputs(trace_id, step, name, hours)
        if not found:
            known = ", ".join(sorted({output.name for output in self._ledger.outputs(trace_id, step)})) or "none"
            raise NotFoundError(
                f"run {trace_id} has no committed output {name!r} of step {step!r} (it has: {known}); "
                "see `bos ps` for the state of its tasks"
            )
        return sorted(found, key=lambda output: _natural(output.chunk))

    def rows(self, trace_id: str, step: str, name: str) -> int:
        """Return the number of rows without reading any."""
        return sum(output.rows for output in self.outputs(trace_id, step, name))

    def table(
        self,
        trace_id: str,
        step: str,
        name: str,
        columns: Sequence[str] | None = None,
        filters: Any = None,
        hours: slice | None = None,
    ) -> pa.Table:
        """Return one table over all successful tasks, in the order of chunks.

        Parameters
        ----------
        columns : sequence of str, optional
            Read only these.
        filters : optional
            pyarrow's filters, e.g. ``[("outcome", "==", 2)]``; row groups that cannot match are not read.
        hours : slice, optional
            Only of tasks that work on some of these hours of the year.
        """
        parts = [
            self._store.get_table(output.address, columns, filters)
            for output in self.outputs(trace_id, step, name, hours)
        ]
        return without_result_metadata(pa.concat_tables(parts))

    def batches(
        self, trace_id: str, step: str, name: str, columns: Sequence[str] | None = None, rows: int = 262_144
    ) -> Iterator[pa.RecordBatch]:
        """Yield the same rows piece by piece, at most `rows` at once."""
        for output in self.outputs(trace_id, step, name):
            yield from self._store.batches(output.address, columns, rows)

    def task_table(self, task_id: str, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return an output of one task, with its result metadata in the schema.

        Raises
        ------
        NotFoundError
            If the task has not committed it.
        """
        return self._store.get_table(self._output(task_id, name).address, columns)

    def metadata(self, task_id: str, name: str) -> ResultMetadata:
        """Return where an output came from, as its file says."""
        return ResultMetadata.from_schema(self._store.get_schema(self._output(task_id, name).address).metadata)

    def _output(self, task_id: str, name: str) -> Output:
        outputs = {output.name: output for output in self._ledger.task_outputs(task_id)}
        if name not in outputs:
            known = ", ".join(sorted(outputs)) or "none"
            raise NotFoundError(f"task {task_id} has no committed output {name!r} (it has: {known})")
        return outputs[name]


def without_result_metadata(table: pa.Table) -> pa.Table:
    """Drop the ``bos.*`` entries: a table joined from many tasks is no single task's result."""
    metadata = table.schema.metadata or {}
    return table.replace_schema_metadata({k: v for k, v in metadata.items() if not k.startswith(b"bos.")})


def _natural(chunk: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which numbers count as numbers: ``month=2`` before ``month=10``."""
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", chunk) if part
    )
