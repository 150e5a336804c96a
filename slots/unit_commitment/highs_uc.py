"""The default unit commitment: tight MILP with lazily generated branch limits, solved by HiGHS."""

from __future__ import annotations

from pydantic import Field

from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.highs_session import HighsSession
from slots.unit_commitment.contract import Inputs, Outputs
from slots.unit_commitment.search import SearchLimits
from slots.unit_commitment.windows import commit


class Parameters(ProgramParameters):
    """What a user may choose."""

    gap: float = Field(0.002, ge=0, le=0.2)
    """Relative gap between the cost and its proven bound that is good enough."""
    nodes_max: int = Field(200, ge=0, le=10_000_000)
    """Most branch-and-bound nodes of one MIP."""
    mip_binaries_max: int = Field(2000, ge=0, le=10_000_000)
    """Most on/off decisions of a horizon whose whole MIP is solved; larger ones stop after the responses."""
    responses_max: int = Field(20, ge=0, le=100_000)
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


MANIFEST = ProgramManifest(
    name="highs_uc",
    slot="unit_commitment",
    version="1.0.0",
    title="Unit commitment, tight MILP (HiGHS)",
    description="Three-binary formulation with minimum times, start classes, ramps, reserve, storage, HVDC and "
    "priced slacks; branch limits are generated on the relaxation; the gap is proven.",
    parameters=Parameters,
    references=(
        "Morales-Espana, Latorre & Ramos, Tight and compact MILP formulation for the thermal unit commitment "
        "problem, IEEE Trans. Power Syst. 28 (2013)",
        "Knueven, Ostrowski & Watson, On mixed-integer programming formulations for the unit commitment problem, "
        "INFORMS J. Comput. 32 (2020)",
    ),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Commit units over the horizon."""
    limits = SearchLimits(**parameters.model_dump(exclude={"time_limit_s", "window_periods_max"}))
    return commit(
        inputs, lambda model: HighsSession(model, parameters.time_limit_s), limits, parameters.window_periods_max
    )
