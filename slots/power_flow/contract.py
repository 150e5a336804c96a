"""The promise of the power-flow slot: AC power flow of a block of hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import FloatArray, Grid, IntArray, Snapshot
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding

CONVERGED, DIVERGED = 0, 1


@dataclass(frozen=True, eq=False)
class Inputs:
    """A grid and its states; a block of hours."""

    grid: Grid
    states: Snapshot
    enforce_q_limits: bool = True


@dataclass(frozen=True, eq=False)
class Outputs:
    """Solved states, hour by hour; a diverged hour keeps its start values and says so."""

    states: Snapshot
    outcome: Annotated[IntArray, Array(("hour",), "1", "0 converged, 1 diverged", "i", 0, 1)]
    iterations: Annotated[IntArray, Array(("hour",), "1", "Newton iterations", "i", 0)]
    residual_pu: Annotated[FloatArray, Array(("hour",), "p.u.", "largest power mismatch", finite=False)]
    slack_p_mw: Annotated[FloatArray, Array(("hour",), "MW", "power that the slack adds to its set point")]
    losses_mw: Annotated[FloatArray, Array(("hour",), "MW", "active losses")]


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """A converged hour has a small residual."""
    bad = np.flatnonzero((outputs.outcome == CONVERGED) & ~(outputs.residual_pu <= 1e-6))
    if bad.size:
        return [
            Finding(
                "hour",
                tuple(map(str, bad)),
                "is called converged with a residual above 1e-6 p.u.",
                "iterate on",
            )
        ]
    return []


CONTRACT = SlotContract(
    name="power_flow",
    version=1,
    kind="algorithm",
    summary="Solve the AC power flow of every hour.",
    inputs=Inputs,
    outputs=Outputs,
    default="newton",
    verify=verify,
)
