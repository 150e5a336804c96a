"""`bos governor`: the co-scheduling machine with its programs, a Dask scheduler and this machine's containers.

Work pools and runs without one start it; see `bos_core/scheduling/governor.py` for what it does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import dask
import psutil
from distributed import Scheduler

from blocks import run_settings
from bos_core.access.workspace import Workspace
from bos_core.coscheduling import policies
from bos_core.objects.settings import Settings
from bos_core.objects.task import TaskState
from bos_core.scheduling.forecasts import Outcome
from bos_core.scheduling.governor import Governor
from bos_core.scheduling.governor_plugin import DASK_SETTINGS
from bos_core.scheduling.machine import Machine
from bos_core.scheduling.policies import Level, Limits
from bos_core.scheduling.process_fleet import ProcessFleet

HISTORY_RUNS = 20
"""Runs whose tasks the first forecasts rest on."""
SMALLEST_MB = 500
PATIENCE_S = 1.0
"""This machine is there anyway: a task without a deadline may have all of it."""
_WORKER_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
    "DASK_LOGGING__DISTRIBUTED": "critical",
}


def govern(port: int, cores: int = 0, memory_mb: int = 0) -> None:
    """Run a governor for this machine until SIGTERM or SIGINT.

    Parameters
    ----------
    port : int
        Of Dask's scheduler, on the loopback interface; 0: any.
    cores : int
        How many containers may run at the same time; 0: one a core.
    memory_mb : int
        R_limit: what containers may reserve together; 0: nine tenths of what is free now.
    """
    dask.config.set(DASK_SETTINGS)
    for name in ("distributed", "tornado"):
        logging.getLogger(name).setLevel(logging.ERROR)
    asyncio.run(_govern(run_settings(), port, cores, memory_mb))


async def _govern(settings: Settings, port: int, cores: float, memory_mb: int) -> None:
    cores = float(cores or psutil.cpu_count() or 1)
    memory_mb = memory_mb or int(psutil.virtual_memory().available * 0.9 / 1e6)
    limits = Limits(levels=tuple(levels(memory_mb)), patience_s=PATIENCE_S)
    machine = Machine(policies(), limits, history(Workspace.open(settings)))
    async with Scheduler(host="127.0.0.1", port=port, dashboard=False) as scheduler:
        governor = Governor(scheduler, machine)
        directory, environment = settings.home / "containers", _WORKER_ENVIRONMENT | _settings_of_tasks()
        governor.join(ProcessFleet(scheduler.address, governor.tell, directory, cores, memory_mb, environment))
        running = asyncio.get_running_loop().create_task(governor.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        try:
            await running
        except asyncio.CancelledError:
            pass
        finally:
            await governor.close()


def _settings_of_tasks() -> dict[str, str]:
    """Return what the environment says of BOS, with the key of tasks in the place of the owner's."""
    own = Settings.load().of_task().environment()
    return {name: value for name, value in own.items() if name in os.environ}


def levels(memory_mb: int) -> Iterator[Level]:
    """Yield the quotas that a container may have: one core, and memory from 500 MB doubling to what there is."""
    size = SMALLEST_MB
    while size < memory_mb:
        yield Level(1.0, size, 1.0 + size / memory_mb)
        size *= 2
    yield Level(1.0, memory_mb, 2.0)


def history(workspace: Workspace) -> Iterator[Outcome]:
    """Yield what tasks of earlier runs took, oldest first."""
    for record in reversed(workspace.ledger.task_sets(HISTORY_RUNS)):
        for task in workspace.ledger.tasks(record.trace_id, states=[TaskState.SUCCESS]):
            what = features(task.subtasks, task.parameters)
            yield Outcome(f"{task.slot}/{task.program}", what, 1.0, task.wall_s, task.peak_rss_mb, False)


def features(subtasks: int, parameters: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """Return what duration and memory of a task depend on."""
    hours = int(parameters.get("stop", 1)) - int(parameters.get("start", 0))
    return (("hours", float(max(1, hours))), ("subtasks", float(max(1, subtasks))))
