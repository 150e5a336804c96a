"""The default dispatch: one LP a day with lazily generated PTDF limits, solved by HiGHS."""

from __future__ import annotations

from pydantic import Field

from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.active_dispatch.contract import Inputs, Outputs
from slots.active_dispatch.lazy_rows import dispatch
from slots.highs_session import HighsSession


class Parameters(ProgramParameters):
    """What a user may choose."""

    tolerance_mw: float = Field(0.001, gt=0, le=10)
    """A limit counts as violated from this excess on."""
    rounds_max: int = Field(30, ge=1, le=1000)
    """Most rounds of finding violated limits."""
    time_limit_s: float = Field(600.0, gt=0)
    """Safety net for one solve."""


MANIFEST = ProgramManifest(
    name="lazy_ptdf",
    slot="active_dispatch",
    version="1.0.0",
    title="Network-constrained dispatch, lazy PTDF (HiGHS)",
    description="One linear program a day: reserve, ramps, storage, HVDC, curtailment, priced shedding and "
    "overloads; branch limits are generated when violated; locational prices from the duals.",
    parameters=Parameters,
    references=(
        "Stott, Jardim & Alsac, DC Power Flow Revisited, IEEE Trans. Power Syst. 24 (2009)",
        "Tejada-Arango, Sanchez-Martin & Ramos, Security constrained unit commitment using line outage "
        "distribution factors, IEEE Trans. Power Syst. 33 (2018)",
    ),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Dispatch a day."""
    return dispatch(
        inputs,
        lambda model: HighsSession(model, parameters.time_limit_s),
        parameters.tolerance_mw,
        parameters.rounds_max,
    )
