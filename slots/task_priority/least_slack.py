"""A2: deadlines first. The slack in units of the task's duration decides, criticality scales it."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.task_priority.contract import Inputs, Outputs


class Parameters(ProgramParameters):
    """What an operator may set."""

    aging_s: float = Field(3600.0, gt=0)
    """Waiting time that counts as much as the criticality."""


MANIFEST = ProgramManifest(
    name="least_slack",
    slot="task_priority",
    version="1.0.0",
    title="Least slack first",
    description="Criticality divided by (1 + slack / duration), plus the waiting time.",
    parameters=Parameters,
    references=(
        "Mok: Fundamental design problems of distributed systems for the hard-real-time environment, 1983",
    ),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Weigh every task."""
    durations = np.maximum(inputs.slack_s, 0) / np.maximum(inputs.duration_s, 1e-3)
    urgent = inputs.criticality / (1 + durations)
    return Outputs(urgent + inputs.criticality * (1e-6 + inputs.waited_s / parameters.aging_s))
