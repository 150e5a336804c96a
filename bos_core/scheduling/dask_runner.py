"""The flow's side of co-scheduling: how flows and ledger tasks reach a governor.

Every flow and subflow attaches to the governor at ``BOS_DASK_ADDRESS``, which a work pool sets for the runs that
it starts. Without one the outermost flow starts a governor of its own and lends it to its subflows.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import dask
import distributed
from prefect_dask import DaskTaskRunner

from bos_core.objects.errors import ServiceError, TaskGivenUpError
from bos_core.objects.settings import Settings
from bos_core.objects.task import Receipt
from bos_core.scheduling.governor_plugin import ANNOTATION
from bos_core.scheduling.governor_process import GovernorProcess
from bos_core.scheduling.lease import Lease

ADDRESS_VARIABLE = "BOS_DASK_ADDRESS"
RETURN_S_MAX = 120.0
"""How long a flow waits for a governor that is gone."""


@dataclass(frozen=True)
class WorkOrder:
    """One ledger task on its way to a container, with what the co-scheduler needs to know of it.

    Attributes
    ----------
    task_id, task_set : str
    slot, program : str
        Tasks of one program with equal features are forecast alike.
    features : tuple of (str, float)
        What duration and memory depend on, above 0.
    subtasks : int
    depends_on : tuple of str
        Task ids that must have ended first; those that are not among the orders have.
    """

    task_id: str
    task_set: str = ""
    slot: str = ""
    program: str = ""
    features: tuple[tuple[str, float], ...] = ()
    subtasks: int = 1
    depends_on: tuple[str, ...] = ()


def _address_of_this_worker() -> str | None:
    """Return the scheduler of the Dask worker that runs this code; Prefect enters the runner there again."""
    try:
        return str(distributed.get_worker().scheduler.address)
    except ValueError:
        return None


class GovernedDaskTaskRunner(DaskTaskRunner):
    """A Dask task runner whose governor is lent, not owned, unless it is the first to need one."""

    def __init__(self) -> None:
        super().__init__()
        self._governor: GovernorProcess | None = None

    def duplicate(self) -> Self:
        """Return a fresh runner; the address is looked up again when it is entered."""
        return type(self)()

    def __enter__(self) -> Self:
        # Prefect's logging set-up raises these to INFO; the governor tells of lost containers, not tracebacks.
        for name in ("distributed", "bokeh", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        address = os.environ.get(ADDRESS_VARIABLE) or _address_of_this_worker()
        if not address:
            home = Settings.load().home
            self._governor = GovernorProcess(os.environ, home / "governor.log")
            self._governor.wait()
            address = os.environ[ADDRESS_VARIABLE] = self._governor.address
        self.address = address
        super().__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        try:
            super().__exit__(*args)
        finally:
            if self._governor is not None:
                os.environ.pop(ADDRESS_VARIABLE, None)
                self._governor.stop()
                self._governor = None


def governed_map(
    function: Callable[..., Receipt],
    orders: Sequence[WorkOrder],
    *arguments: Any,
    given_up: Callable[[str, str], Receipt],
) -> Iterator[Receipt]:
    """Run ``function(task_id, *arguments)`` in a container for every order.

    Must be called from the flow's process: a task that waits for tasks would hold a container for nothing. A
    governor that is started again gets all orders again that have not ended; the ledger knows what is done.

    Parameters
    ----------
    function : callable
    orders : sequence of WorkOrder
    given_up : callable
        Takes task id and verdict of a task that the co-scheduler will not run any more; returns its receipt.

    Yields
    ------
    Receipt
        In order of completion; results are freed at once.

    Raises
    ------
    ServiceError
        If the governor is gone for two minutes.
    """
    remaining = {key(order.task_id): order for order in orders}
    gone_s = time.monotonic()
    while remaining:
        try:
            with distributed.Client(os.environ[ADDRESS_VARIABLE], set_as_default=False, timeout=5) as client:
                sent = distributed.as_completed(_submit(client, function, remaining, arguments), loop=client.loop)
                for future in sent:
                    gone_s = time.monotonic()
                    if future.cancelled():  # as the governor is gone; it will forget nothing that has ended
                        break
                    order = remaining.pop(future.key)
                    yield _receipt(future, order, given_up)
        except OSError as error:
            if time.monotonic() - gone_s > RETURN_S_MAX:
                raise ServiceError(f"the governor has been gone for {RETURN_S_MAX:g} s: {error}") from error
        if remaining:
            time.sleep(0.5)


def key(task_id: str) -> str:
    """Return what Dask calls a ledger task."""
    return f"bos-{task_id}"


def _submit(
    client: distributed.Client,
    function: Callable[..., Receipt],
    orders: Mapping[str, WorkOrder],
    arguments: Sequence[Any],
) -> list[distributed.Future]:
    lease = Lease.of_this_process()
    futures = []
    for name, order in orders.items():
        known = {
            "task_set": order.task_set,
            "slot": order.slot,
            "program": order.program,
            "queue": lease.queue.value,
            "features": order.features,
            "criticality": lease.criticality,
            "deadline_s": lease.deadline_s,
            "depends_on": [key(task) for task in order.depends_on if key(task) in orders],
            "subtasks": order.subtasks,
        }
        with dask.annotate(**{ANNOTATION: known}):
            futures.append(client.submit(function, order.task_id, *arguments, key=name, pure=False))
    return futures


def _receipt(future: distributed.Future, order: WorkOrder, given_up: Callable[[str, str], Receipt]) -> Receipt:
    try:
        receipt: Receipt = future.result()
    except TaskGivenUpError as verdict:
        return given_up(order.task_id, str(verdict))
    finally:
        future.release()
    return receipt
