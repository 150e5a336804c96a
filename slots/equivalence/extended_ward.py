"""Extended Ward equivalent: Schur complement, DC shares, and the voltage support of the eliminated part."""

from __future__ import annotations

from bos_core.objects.contracts import ProgramManifest
from slots.equivalence.contract import Inputs, Outputs
from slots.equivalence.static_equivalent import Parameters, build

MANIFEST = ProgramManifest(
    name="extended_ward",
    slot="equivalence",
    version="1.0.0",
    title="Extended Ward equivalent",
    description=(
        "Eliminates buses by a sparse Schur complement, moves injections by DC participation, and adds shunts "
        "whose answer to voltage equals, to first order, that of the eliminated part with its voltage control."
    ),
    parameters=Parameters,
    references=(
        "J. B. Ward, Equivalent circuits for power-flow studies, AIEE Trans. 68, 1949",
        "A. Monticelli et al., Real-time external equivalents for static security analysis, IEEE PAS-98, 1979",
    ),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Reduce the grid."""
    return build(inputs, parameters, support=True)
