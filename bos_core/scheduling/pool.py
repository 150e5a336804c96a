"""Work pool types of BOS. Importing this module registers their workers with Prefect.

A worker of these types keeps a governor running beside it. Every flow run that it starts gets the governor's
address and a lease: its queue, how critical it is, and when it is to be complete.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Self

import anyio.abc
from prefect.client.schemas.objects import FlowRun
from prefect.settings import get_current_settings
from prefect.workers.process import (
    ProcessJobConfiguration,
    ProcessVariables,
    ProcessWorker,
    ProcessWorkerResult,
)
from pydantic import Field

from bos_core.scheduling.dask_runner import ADDRESS_VARIABLE
from bos_core.scheduling.events import Queue
from bos_core.scheduling.governor_process import GovernorProcess
from bos_core.scheduling.lease import Lease

WATCH_S = 0.5

_CRITICALITY = Field(
    default=1.0,
    gt=0,
    title="Criticality",
    description="How much the tasks of a run count against others of its queue.",
)
_DEADLINE = Field(
    default=None,
    gt=0,
    title="Deadline (s)",
    description="When a task is to be complete, in seconds after its submission; empty: as soon as can be.",
)


class CoschedulingProcessConfiguration(ProcessJobConfiguration):
    """What one flow run is started with."""

    criticality: float = _CRITICALITY
    deadline_s: float | None = _DEADLINE


class CoschedulingProcessVariables(ProcessVariables):
    """What users may set for the pool, a deployment or a run."""

    criticality: float = _CRITICALITY
    deadline_s: float | None = _DEADLINE


class CoschedulingProcessWorker(ProcessWorker):
    """Flow runs and their containers are processes of this machine; no Docker needed."""

    type = "bos-coscheduling-process"
    job_configuration = CoschedulingProcessConfiguration
    job_configuration_variables = CoschedulingProcessVariables  # type: ignore[assignment]  # declared as None
    _display_name = "BOS co-scheduling, processes"
    _description = (
        "Co-schedules tasks and containers so that memory never runs out. Containers are processes of the "
        "worker's machine."
    )
    _documentation_url = ""
    _logo_url = ""

    async def __aenter__(self) -> Self:
        """Start the governor, then take runs."""
        log = Path(get_current_settings().home) / "governor.log"
        self._governor = GovernorProcess(os.environ, log)
        self._watcher = asyncio.get_running_loop().create_task(self._keep_governor())
        await super().__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        """End the runs, then the governor."""
        try:
            await super().__aexit__(*exc_info)
        finally:
            self._watcher.cancel()
            await asyncio.to_thread(self._governor.stop)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Run a flow with its lease and the address of the governor."""
        await asyncio.to_thread(self._governor.wait)
        assert isinstance(configuration, CoschedulingProcessConfiguration)
        queue = flow_run.work_queue_name
        lease = Lease(
            Queue(queue) if queue in set(Queue) else Queue.NORMAL,
            configuration.criticality,
            configuration.deadline_s,
        )
        configuration.env.update({ADDRESS_VARIABLE: self._governor.address, **lease.environment()})
        return await super().run(flow_run, configuration, task_status)

    async def _keep_governor(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            if said := self._governor.watch():
                self._logger.warning(said)
