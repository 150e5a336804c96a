"""The same unit commitment solved by GLPK (glpsol): slower, another optimiser's answer."""

from __future__ import annotations

from pydantic import Field

from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.glpk_session import GlpkSession
from slots.unit_commitment.contract import Inputs, Outputs
from slots.unit_commitment.search import SearchLimits
from slots.unit_commitment.windows import commit


class Parameters(ProgramParameters):
    """What a user may choose."""

    gap: float = Field(0.002, ge=0, le=0.2)
    """Relative gap between the cost and its proven bound that is good enough."""
    mip_binaries_max: int = Field(300, ge=0, le=10_000_000)
    """Most on/off decisions of a horizon whose whole MIP is solved; larger ones stop after the responses."""
    responses_max: int = Field(10, ge=0, le=100_000)
    """How often a unit is given its best schedule, all others keeping theirs."""
    network_rounds_max: int = Field(20, ge=0, le=1000)
    """Most rounds of finding violated branch limits; what is left is reported as overload."""
    tolerance_mw: float = Field(0.1, gt=0, le=100)
    """A branch limit counts as violated beyond this excess and the relative one."""
    tolerance_share: float = Field(0.001, ge=0, le=0.1)
    """Relative excess, as a share of the limit."""
    rows_per_period_max: int = Field(30, ge=1, le=100_000)
    """Most branch limits that one round adds in a period."""
    window_periods_max: int = Field(60, ge=8, le=100_000)
    """Most periods that are decided at once; longer horizons are decided in windows."""
    time_limit_s: float = Field(600.0, gt=0)
    """Safety net for one solve; results are reproducible as long as it does not bind."""


NODES_MAX = 0
"""Glpsol takes no node limit."""

MANIFEST = ProgramManifest(
    name="glpk_uc",
    slot="unit_commitment",
    version="1.0.0",
    title="Unit commitment, tight MILP (GLPK)",
    description="The model and search of highs_uc solved by GLPK's glpsol; needs glpk-utils.",
    parameters=Parameters,
    references=("GLPK, GNU Linear Programming Kit, https://www.gnu.org/software/glpk/",),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Commit units over the horizon."""
    limits = SearchLimits(
        **parameters.model_dump(exclude={"time_limit_s", "window_periods_max"}), nodes_max=NODES_MAX
    )
    return commit(
        inputs, lambda model: GlpkSession(model, parameters.time_limit_s), limits, parameters.window_periods_max
    )
