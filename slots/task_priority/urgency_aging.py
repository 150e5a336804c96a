"""A2: criticality, times urgency near the deadline, times an age that grows without bound."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.task_priority.contract import Inputs, Outputs


class Parameters(ProgramParameters):
    """What an operator may set."""

    urgency: float = Field(10.0, ge=0, le=1e6)
    """By how much a task without slack weighs more, as a multiple of its criticality."""
    horizon_s: float = Field(600.0, gt=0)
    """Slack at which this has fallen to a third."""
    aging_s: float = Field(1800.0, gt=0)
    """Waiting time that doubles the weight; twice as long triples it: nothing starves."""


MANIFEST = ProgramManifest(
    name="urgency_aging",
    slot="task_priority",
    version="1.0.0",
    title="Criticality, urgency and age",
    description="Criticality times (1 + urgency that rises as the slack falls) times (1 + waiting time).",
    parameters=Parameters,
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Weigh every task."""
    urgency = 1 + parameters.urgency * np.exp(-np.maximum(inputs.slack_s, 0) / parameters.horizon_s)
    age = 1 + inputs.waited_s / parameters.aging_s
    return Outputs(inputs.criticality * urgency * age)
