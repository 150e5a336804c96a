"""A run as OpenLineage events, for catalogues of data that read that format (specification 2-0-2).

The run, each of its tasks and each version that it made are runs of OpenLineage: a START, then a COMPLETE or FAIL
when they have ended. Datasets are scenario versions and the files of results.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from bos_core.access.workspace import Workspace
from bos_core.index.records import Output, TaskRecord, TaskSetRecord
from bos_core.index.scenarios import VersionRecord
from bos_core.objects.task import TaskState

Event = dict[str, Any]

NAMESPACE = "bos"
_SPEC = "https://openlineage.io/spec"
_EVENT = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_JOB_FACET = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/JobFacet"
_FACETS: Mapping[str, str] = {
    "parent": "1-2-0/ParentRunFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
    "storage": "1-0-1/StorageDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
}
_ENDED: Mapping[TaskState, str] = {TaskState.SUCCESS: "COMPLETE", TaskState.FAILED: "FAIL"}


def openlineage_events(workspace: Workspace, trace_id: str) -> Iterator[Event]:
    """Yield the events of a run in order of time.

    Raises
    ------
    NotFoundError
        If there is no such run.
    """
    events = list(_Events(workspace, trace_id).all())
    yield from sorted(events, key=lambda event: str(event["eventTime"]))


class _Events:
    """Makes the events of one run."""

    def __init__(self, workspace: Workspace, trace_id: str) -> None:
        self.workspace = workspace
        self.record: TaskSetRecord = workspace.ledger.task_set(trace_id)
        self.producer = f"urn:bos:{importlib.metadata.version('bos')}"

    def all(self) -> Iterator[Event]:
        """Yield the events of the run, its tasks and its versions."""
        record, ledger = self.record, self.workspace.ledger
        job = self.job(record.business, "DAG")
        run = self.run(record.trace_id, None)
        yield self.event("START", record.created_s, run, job)
        if record.finished_s is not None and record.state in _ENDED:
            ended = self.run(record.trace_id, None, record.message if record.state is TaskState.FAILED else "")
            yield self.event(_ENDED[record.state], record.finished_s, ended, job)
        by_task: dict[str, list[Output]] = {}
        for output in ledger.outputs(record.trace_id):
            by_task.setdefault(output.task_id, []).append(output)
        for task in ledger.tasks(record.trace_id):
            if task.started_s is not None:
                yield from self.task_events(task, by_task)
        for version in self.workspace.scenarios.versions(trace_id=record.trace_id):
            yield from self.version_events(version, by_task)

    def task_events(self, task: TaskRecord, by_task: Mapping[str, list[Output]]) -> Iterator[Event]:
        job = self.job(f"{self.record.business}.{task.step}", "TASK", task)
        inputs = [self.version(self.workspace.scenarios.get(task.scenario_version))]
        for needed in self.workspace.ledger.depends_on(task.id):
            inputs += [self.file(output) for output in by_task.get(needed, ())]
        assert task.started_s is not None
        yield self.event("START", task.started_s, self.run(task.id, self.record), job, inputs)
        if task.finished_s is not None and task.state in _ENDED:
            outputs = [self.file(output, written=True) for output in by_task.get(task.id, ())]
            run = self.run(task.id, self.record, task.message if task.state is TaskState.FAILED else "")
            yield self.event(_ENDED[task.state], task.finished_s, run, job, inputs, outputs)

    def version_events(self, version: VersionRecord, by_task: Mapping[str, list[Output]]) -> Iterator[Event]:
        """Writing the results of a step back as a version; no time of its beginning is kept."""
        job = self.job(f"{self.record.business}.{version.step}.backfill", "TASK")
        run = self.run(version.id, self.record)
        inputs = [self.version(self.workspace.scenarios.get(version.parent))] if version.parent else []
        for task in self.workspace.ledger.tasks(self.record.trace_id, version.step):
            inputs += [self.file(output) for output in by_task.get(task.id, ())]
        yield self.event("START", version.created_s, run, job, inputs)
        yield self.event("COMPLETE", version.created_s, run, job, inputs, [self.version(version)])

    def event(
        self,
        kind: str,
        stamp_s: float,
        run: Event,
        job: Event,
        inputs: list[Event] | None = None,
        outputs: list[Event] | None = None,
    ) -> Event:
        return {
            "eventType": kind,
            "eventTime": dt.datetime.fromtimestamp(stamp_s, dt.UTC).isoformat(timespec="microseconds"),
            "producer": self.producer,
            "schemaURL": _EVENT,
            "run": run,
            "job": job,
            "inputs": inputs or [],
            "outputs": outputs or [],
        }

    def run(self, id: str, parent: TaskSetRecord | None, error: str = "") -> Event:
        facets = {}
        if parent is not None:
            job = {"namespace": NAMESPACE, "name": parent.business}
            facets["parent"] = self.facet("parent", run={"runId": parent.trace_id}, job=job)
        if error:
            facets["errorMessage"] = self.facet("errorMessage", message=error, programmingLanguage="PYTHON")
        return {"runId": str(uuid.UUID(id)), "facets": facets}

    def job(self, name: str, kind: str, task: TaskRecord | None = None) -> Event:
        facets = {"jobType": self.facet("jobType", processingType="BATCH", integration="BOS", jobType=kind)}
        if task is not None:
            facets["bos_program"] = {
                "_producer": self.producer,
                "_schemaURL": _JOB_FACET,
                "slot": task.slot,
                "name": task.program,
                "version": task.program_version,
                "digest": task.program_digest,
            }
        return {"namespace": NAMESPACE, "name": name, "facets": facets}

    def version(self, version: VersionRecord) -> Event:
        facets = {"version": self.facet("version", datasetVersion=version.digest)}
        return {"namespace": NAMESPACE, "name": version.label, "facets": facets}

    def file(self, output: Output, written: bool = False) -> Event:
        """A result's file, named as OpenLineage names files: by bucket and key, or by path."""
        place = self.workspace.store.url
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        remote = place.startswith("s3://")
        path = "/".join(filter(None, (prefix if remote else place, output.address)))
        columns = [
            {"name": name, "type": about["type"]} for name, about in output.columns.items() if name != "..."
        ]
        made = {
            "namespace": f"s3://{bucket}" if remote else "file",
            "name": path,
            "facets": {
                "schema": self.facet("schema", fields=columns),
                "version": self.facet("version", datasetVersion=output.content_digest),
                "storage": self.facet("storage", storageLayer="s3" if remote else "file", fileFormat="parquet"),
            },
        }
        if written:
            counts = self.facet("outputStatistics", rowCount=output.rows, size=output.bytes, fileCount=1)
            made["outputFacets"] = {"outputStatistics": counts}
        return made

    def facet(self, name: str, **content: Any) -> Event:
        path = _FACETS[name]
        url = f"{_SPEC}/facets/{path}.json#/$defs/{path.partition('/')[2]}"
        return {"_producer": self.producer, "_schemaURL": url, **content}
