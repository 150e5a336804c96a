"""The promise of the power-flow slot: AC power flow of a block of hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from bos_core.grid.model import FloatArray, Grid, IntArray, Snapshot
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding

CONVERGED, DIVERGED = 0, 1


@dataclass(frozen=True, eq=False)
class Inputs:
    """A grid and its states; a block of hours.

    `distributed_slack`: running units that are not variable share the active balance by p_mw_max, instead of the
    slack alone.
    """

    grid: Grid
    states: Snapshot
    enforce_q_limits: bool = True
    distributed_slack: bool = False


@dataclass(frozen=True, eq=False)
class Outputs:
    """Solved states, hour by hour; a diverged hour keeps its start values and says so."""

    states: Snapshot
    outcome: Annotated[IntArray, Array(("hour",), "1", "0 converged, 1 diverged", "i", 0, 1)]
    iterations: Annotated[IntArray, Array(("hour",), "1", "Newton iterations", "i", 0)]
    residual_pu: Annotated[FloatArray, Array(("hour",), "p.u.", "largest power mismatch", finite=False)]
    slack_p_mw: Annotated[FloatArray, Array(("hour",), "MW", "power that the balance adds to the set points")]
    losses_mw: Annotated[FloatArray, Array(("hour",), "MW", "active losses")]
    q_state: Annotated[
        NDArray[np.int8],
        Array(("hour", "bus"), "1", "1 held at the upper reactive limit, -1 at the lower, else 0", "i", -1, 1),
    ]


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
    version=2,
    kind="algorithm",
    summary="Solve the AC power flow of every hour.",
    inputs=Inputs,
    outputs=Outputs,
    default="newton",
    verify=verify,
    services=("power-flow",),
)
