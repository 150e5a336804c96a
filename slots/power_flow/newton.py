"""Newton's power flow: the default program of the power-flow slot."""

from __future__ import annotations

import logging

import numpy as np
from pydantic import Field

from bos_core.grid.power_flow import CONVERGED, solve_hours
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.power_flow.contract import Inputs, Outputs

logger = logging.getLogger(__name__)


class Parameters(ProgramParameters):
    """Parameters of Newton's power flow."""

    tolerance_pu: float = Field(default=1e-8, gt=0, le=1e-6)
    """Largest power mismatch of a solution, p.u."""

    iterations_max: int = Field(default=30, ge=1, le=200)
    """Newton iterations of one round; every round of reactive-limit switching starts anew."""


MANIFEST = ProgramManifest(
    name="newton",
    slot="power_flow",
    version="2.0.0",
    title="Newton power flow",
    description=(
        "Polar Newton with sparse elimination; reactive limits by switching between voltage control and limit, "
        "with return. Every hour starts from its own voltages where they are near a solution, else from DC angles."
    ),
    parameters=Parameters,
    references=("W. F. Tinney and C. E. Hart, Power flow solution by Newton's method, IEEE Trans. PAS 86 (1967)",),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Solve every hour of the block."""
    solution = solve_hours(
        inputs.grid,
        inputs.states,
        tol=parameters.tolerance_pu,
        max_iterations=parameters.iterations_max,
        enforce_q_limits=inputs.enforce_q_limits,
        distributed_slack=inputs.distributed_slack,
    )
    diverged = np.flatnonzero(solution.outcome != CONVERGED)
    if diverged.size:
        logger.warning("power flow: %d of %d hours diverged", diverged.size, solution.outcome.size)
    return Outputs(
        states=solution.states,
        outcome=solution.outcome,
        iterations=solution.iterations,
        residual_pu=solution.residual_pu,
        slack_p_mw=solution.slack_p_mw,
        losses_mw=solution.losses_mw,
        q_state=solution.q_state,
    )
