"""Where tasks run: the Dask cluster behind the flows, and the way ledger tasks reach it.

`GovernedDaskTaskRunner` attaches every flow and subflow to one Dask scheduler. Its address comes from
``BOS_DASK_ADDRESS``: a governed cluster sets it for the flow runs it starts. Without it the outermost flow
starts a local cluster and lends it to its subflows.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, Self

import dask
import distributed
import psutil
from prefect_dask import DaskTaskRunner

from bos_core.objects.container import CPU_CORES_VARIABLE, EXECUTOR, MEMORY_MB_VARIABLE, SERVICE_VARIABLE
from bos_core.objects.settings import Settings
from bos_core.objects.task import Receipt

ADDRESS_VARIABLE = "BOS_DASK_ADDRESS"
WORKERS_VARIABLE = "BOS_WORKERS"

_DASK_SETTINGS = {
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.work-stealing": True,
    "distributed.worker.profile.enabled": False,
    "distributed.comm.timeouts.connect": "60s",
    "distributed.admin.large-graph-warning-threshold": "1GB",
}
_WORKER_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
    "DASK_LOGGING__DISTRIBUTED": "critical",
}


@dataclass(frozen=True)
class WorkOrder:
    """One ledger task on its way to a worker, with what a co-scheduler needs to know of it.

    Attributes
    ----------
    task_id : str
    depends_on : tuple of str
        Task ids whose receipts must be there first.
    criticality : float
        Business criticality, higher runs earlier.
    deadline_s : float or None
        Seconds from submission.
    memory_mb : int or None
        Reservation.
    """

    task_id: str
    depends_on: tuple[str, ...] = ()
    criticality: float = 1.0
    deadline_s: float | None = None
    memory_mb: int | None = None


def local_cluster() -> distributed.LocalCluster:
    """Start a local cluster: one single-threaded process a core, loopback only."""
    count = int(os.environ.get(WORKERS_VARIABLE, "0")) or psutil.cpu_count(logical=True) or 1
    memory = int(psutil.virtual_memory().available * 0.9 / count)
    dask.config.set(_DASK_SETTINGS)
    # Prefect's logging set-up raises these to INFO; a lost worker is told by the ledger, not by tracebacks.
    for name in ("distributed", "bokeh", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    marks = {SERVICE_VARIABLE: EXECUTOR, CPU_CORES_VARIABLE: "1", MEMORY_MB_VARIABLE: str(memory // 10**6)}
    dask.config.set({"distributed.nanny.pre-spawn-environ": _WORKER_ENVIRONMENT | marks})
    with _interrupts_blocked(), _unmarked(marks):
        return distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            memory_limit=memory,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs="ERROR",
            env=_settings_of_tasks(),
        )


@contextmanager
def _unmarked(marks: Iterable[str]) -> Iterator[None]:
    """Keep marks of workers out of this process's environment, before and after workers are started.

    Dask gives a worker the variables of this process in place of its own, here those of who started the flow, and
    leaves the worker's behind, which other children of the flow would inherit.
    """
    for name in marks:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        for name in marks:
            os.environ.pop(name, None)


def _settings_of_tasks() -> dict[str, str]:
    """Return what the environment says of BOS, with the key of tasks in the place of the owner's."""
    own = Settings.load().of_task().environment()
    return {name: value for name, value in own.items() if name in os.environ}


class WorkerKeeper:
    """Replaces workers of a local cluster that are gone for good.

    A killed worker is started again by its nanny; but where it is still missing some time later
    (``distributed.deploy.lost-worker-timeout``), perhaps because it was killed again, the cluster drops the nanny,
    and after the next kill there is no worker: the tasks would wait for ever.
    """

    def __init__(self, cluster: distributed.LocalCluster, period_s: float = 5.0) -> None:
        self._cluster, self._period_s, self._count = cluster, period_s, len(cluster.worker_spec)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="worker-keeper", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(self._period_s):
            alive = len(self._cluster.scheduler_info["workers"])
            if max(alive, len(self._cluster.workers)) < self._count:
                self._cluster.scale(self._count)

    def close(self) -> None:
        """Close the cluster and replace nobody any more."""
        self._stopped.set()
        self._thread.join()
        self._cluster.close()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Keep Ctrl-C from every thread and process that the block starts, and from those that they start.

    A terminal sends it to the whole process group. Workers would die in the middle of a task and take the flow's
    orderly end with them; so they inherit a blocked signal, the flow alone hears it and closes its cluster.
    """
    resource_tracker.ensure_running()  # the first process to be spawned would start it, which unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _address_of_this_worker() -> str | None:
    """Return the scheduler of the Dask worker that runs this code; Prefect enters the runner there again."""
    try:
        return str(distributed.get_worker().scheduler.address)
    except ValueError:
        return None


class GovernedDaskTaskRunner(DaskTaskRunner):
    """A Dask task runner whose cluster is lent, not owned, unless it is the first to need one."""

    def __init__(self) -> None:
        super().__init__()
        self._keeper: WorkerKeeper | None = None

    def duplicate(self) -> Self:
        """Return a fresh runner; the address is looked up again when it is entered."""
        return type(self)()

    def __enter__(self) -> Self:
        address = os.environ.get(ADDRESS_VARIABLE) or _address_of_this_worker()
        if not address:
            cluster = local_cluster()
            self._keeper = WorkerKeeper(cluster)
            address = str(cluster.scheduler_address)
            os.environ[ADDRESS_VARIABLE] = address
        self.address = address
        super().__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        try:
            super().__exit__(*args)
        finally:
            if self._keeper is not None:
                os.environ.pop(ADDRESS_VARIABLE, None)
                self._keeper.close()
                self._keeper = None


def governed_map(
    function: Callable[..., Receipt], orders: Sequence[WorkOrder], *arguments: Any
) -> Iterator[Receipt]:
    """Run ``function(task_id, *arguments, *receipts of its predecessors)`` for every order.

    Must be called from the flow's process: a task that waits for tasks would deadlock a governed cluster.
    Orders must come after the orders they depend on; a dependency that is not among the orders counts as
    finished.

    Yields
    ------
    Receipt
        In order of completion; results are freed at once.
    """
    address = os.environ[ADDRESS_VARIABLE]
    with distributed.Client(address, set_as_default=False) as client:
        futures: dict[str, distributed.Future] = {}
        for order in orders:
            waits = [futures[t] for t in order.depends_on if t in futures]
            with dask.annotate(
                bos={"criticality": order.criticality, "deadline": order.deadline_s, "memory": order.memory_mb}
            ):
                futures[order.task_id] = client.submit(
                    function, order.task_id, *arguments, *waits, key=f"bos-{order.task_id}", pure=False
                )
        try:
            for future in distributed.as_completed(list(futures.values()), loop=client.loop):
                yield future.result()
        finally:
            client.cancel(list(futures.values()))
