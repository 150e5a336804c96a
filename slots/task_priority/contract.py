"""The promise of the task-priority slot, algorithm A2: the weight of each task that waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import FloatArray
from bos_core.objects.contracts import CO_SCHEDULING, Array, SlotContract
from bos_core.objects.errors import Finding

_TASK = ("task",)


@dataclass(frozen=True, eq=False)
class Inputs:
    """The tasks that wait; slack is what is left until the deadline after the task's duration."""

    criticality: Annotated[FloatArray, Array(_TASK, "1", "of queue and business", minimum=1e-9)]
    waited_s: Annotated[FloatArray, Array(_TASK, "s", "", minimum=0)]
    slack_s: Annotated[FloatArray, Array(_TASK, "s", "infinite without one; below 0: late", finite=False)]
    duration_s: Annotated[FloatArray, Array(_TASK, "s", "forecast", minimum=0)]


@dataclass(frozen=True, eq=False)
class Outputs:
    """Weights: the coefficients B of formula (1)."""

    weight: Annotated[FloatArray, Array(_TASK, "1", "", minimum=1e-12)]


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """A task that is as critical or more, and in no respect less urgent than another, weighs no less."""
    order = np.argsort(-outputs.weight, kind="stable")
    first, second = order[:-1], order[1:]
    dominated = (
        (inputs.criticality[second] >= inputs.criticality[first])
        & (inputs.waited_s[second] >= inputs.waited_s[first])
        & (inputs.slack_s[second] <= inputs.slack_s[first])
        & (inputs.duration_s[second] == inputs.duration_s[first])
        & (outputs.weight[second] < outputs.weight[first] * (1 - 1e-9))
    )
    if dominated.any():
        where = tuple(map(str, second[dominated]))
        return [Finding("task", where, "weighs less than a less urgent one", "let urgency raise the weight")]
    return []


CONTRACT = SlotContract(
    name="task_priority",
    version=1,
    kind="algorithm",
    summary="Weigh tasks by criticality, deadline and waiting time (A2).",
    inputs=Inputs,
    outputs=Outputs,
    default="urgency_aging",
    verify=verify,
    services=(CO_SCHEDULING,),
)
