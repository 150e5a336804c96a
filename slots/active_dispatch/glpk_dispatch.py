"""The same dispatch solved by GLPK: slower, another optimiser's answer."""

from __future__ import annotations

from pydantic import Field

from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.active_dispatch.contract import Inputs, Outputs
from slots.active_dispatch.lazy_rows import dispatch
from slots.glpk_session import GlpkSession


class Parameters(ProgramParameters):
    """What a user may choose."""

    tolerance_mw: float = Field(0.001, gt=0, le=10)
    """A limit counts as violated from this excess on."""
    rounds_max: int = Field(30, ge=1, le=1000)
    """Most rounds of finding violated limits."""
    time_limit_s: float = Field(600.0, gt=0)
    """Safety net for one solve."""


MANIFEST = ProgramManifest(
    name="glpk_dispatch",
    slot="active_dispatch",
    version="1.0.0",
    title="Network-constrained dispatch, lazy PTDF (GLPK)",
    description="The model of lazy_ptdf solved by GLPK's glpsol; needs glpk-utils.",
    parameters=Parameters,
    references=("GLPK, GNU Linear Programming Kit, https://www.gnu.org/software/glpk/",),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Dispatch a day."""
    return dispatch(
        inputs,
        lambda model: GlpkSession(model, parameters.time_limit_s),
        parameters.tolerance_mw,
        parameters.rounds_max,
    )
