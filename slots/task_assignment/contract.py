"""The promise of the task-assignment slot, algorithm A3: formula (1) of the paper, mended.

min 1/|T| sum_t B_t E_t, where E_t is the predicted completion time from now (X2): the duration on the container
that t is assigned to, or `deferred_s` where it waits. Constraint 1 bounds completion times and binds only tasks
that can keep their deadline in this cycle (X1); memory is part of what is allowed (X3); a container takes one
task, a task one container, containers are running ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.objects.contracts import CO_SCHEDULING, Array, SlotContract
from bos_core.objects.errors import Finding

_TASK, _PAIR = ("task",), ("task", "container")


@dataclass(frozen=True, eq=False)
class Inputs:
    """Tasks that wait and containers that run and are idle."""

    weight: Annotated[FloatArray, Array(_TASK, "1", "B by A2", minimum=1e-12)]
    duration_s: Annotated[FloatArray, Array(_PAIR, "s", "D by A1", minimum=0)]
    allowed: Annotated[BoolArray, Array(_PAIR, "1", "memory fits, and trial programs meet trial containers", "b")]
    slack_s: Annotated[FloatArray, Array(_TASK, "s", "until the deadline; infinite without", finite=False)]
    deferred_s: Annotated[FloatArray, Array(_TASK, "s", "E of a task that waits; above all durations", minimum=0)]
    container_memory_mb: Annotated[IntArray, Array(("container",), "MB", "reservation", "i", 0)]


@dataclass(frozen=True, eq=False)
class Outputs:
    """The container of each task, -1 where it waits; the value of the objective and the proven bound of it."""

    container: Annotated[IntArray, Array(_TASK, "1", "", "i", -1)]
    objective: float
    bound: float
    method: str


def admissible(inputs: Inputs) -> BoolArray:
    """Return which pairs may be chosen: those in time; of a task that is late everywhere, all that are allowed."""
    in_time = inputs.allowed & (inputs.duration_s <= inputs.slack_s[:, None])
    late = ~in_time.any(axis=1)
    in_time[late] = inputs.allowed[late]
    return in_time


def objective(inputs: Inputs, container: IntArray) -> float:
    """Return the weighted mean completion time of an assignment, s."""
    if not container.size:
        return 0.0
    rows = np.flatnonzero(container >= 0)
    completion = inputs.deferred_s.copy()
    completion[rows] = inputs.duration_s[rows, container[rows]]
    return float((inputs.weight * completion).mean())


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """The constraints of formula (1) hold, its value is right, and nothing waits beside a container it may use."""
    chosen = np.flatnonzero(outputs.container >= 0)
    places = outputs.container[chosen]
    n = inputs.container_memory_mb.size
    if (places >= n).any():
        return [Finding("task", tuple(map(str, chosen[places >= n])), "has no such container", "give a position")]
    findings: list[Finding] = []
    may = admissible(inputs)
    wrong = chosen[~may[chosen, places]]
    if wrong.size:
        findings.append(
            Finding("task", tuple(map(str, wrong)), "may not run there", "keep to the admissible pairs")
        )
    twice = np.flatnonzero(np.bincount(places, minlength=n) > 1)
    if twice.size:
        findings.append(Finding("container", tuple(map(str, twice)), "has several tasks", "assign one"))
    value = objective(inputs, outputs.container)
    if abs(outputs.objective - value) > 1e-6 * max(1.0, abs(value)):
        findings.append(
            Finding("objective", (), f"is {outputs.objective:g}, not {value:g}", "evaluate formula (1)")
        )
    idle = np.ones(n, bool)
    idle[places] = False
    useful = may & (inputs.duration_s < inputs.deferred_s[:, None])
    waits = np.flatnonzero((outputs.container < 0) & (useful & idle).any(axis=1))
    if waits.size:
        findings.append(Finding("task", tuple(map(str, waits)), "waits beside an idle container", "assign it"))
    return findings


CONTRACT = SlotContract(
    name="task_assignment",
    version=1,
    kind="algorithm",
    summary="Assign tasks to containers at the least weighted completion time (A3, formula 1).",
    inputs=Inputs,
    outputs=Outputs,
    default="sort_or_lsa",
    verify=verify,
    services=(CO_SCHEDULING,),
)
