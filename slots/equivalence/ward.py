"""Ward equivalent: Schur complement and DC shares, without voltage support of the eliminated part."""

from __future__ import annotations

from bos_core.objects.contracts import ProgramManifest
from slots.equivalence.contract import Inputs, Outputs
from slots.equivalence.static_equivalent import Parameters, build

MANIFEST = ProgramManifest(
    name="ward",
    slot="equivalence",
    version="1.0.0",
    title="Ward equivalent",
    description="Eliminates buses by a sparse Schur complement and moves injections by DC participation.",
    parameters=Parameters,
    references=("J. B. Ward, Equivalent circuits for power-flow studies, AIEE Trans. 68, 1949",),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Reduce the grid."""
    return build(inputs, parameters, support=False)
