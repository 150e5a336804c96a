"""What a flow run may claim from the co-scheduler: handed to its process in environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from bos_core.scheduling.events import Queue

_QUEUE, _CRITICALITY, _DEADLINE = "BOS_QUEUE", "BOS_CRITICALITY", "BOS_DEADLINE_S"


@dataclass(frozen=True)
class Lease:
    """Queue, criticality and deadline of the tasks of a flow run.

    Attributes
    ----------
    queue : Queue
    criticality : float
        Above 0; counts within the queue.
    deadline_s : float or None
        Seconds from the submission of a task to its completion; None: as soon as possible.
    """

    queue: Queue = Queue.NORMAL
    criticality: float = 1.0
    deadline_s: float | None = None

    def environment(self) -> dict[str, str]:
        """Return the variables that say so."""
        deadline = {} if self.deadline_s is None else {_DEADLINE: f"{self.deadline_s:g}"}
        return {_QUEUE: self.queue.value, _CRITICALITY: f"{self.criticality:g}", **deadline}

    @classmethod
    def of_this_process(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the lease of the flow run that this process carries out; without one: normal."""
        deadline = environment.get(_DEADLINE)
        return cls(
            Queue(environment.get(_QUEUE, Queue.NORMAL)),
            float(environment.get(_CRITICALITY, "1")),
            float(deadline) if deadline else None,
        )
