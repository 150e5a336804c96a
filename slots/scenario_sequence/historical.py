"""The historical year as it was, with sampled maintenance and forced outages of committable units."""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import FloatArray
from bos_core.objects.contracts import ProgramManifest
from bos_core.objects.errors import raise_if_any
from slots.scenario_sequence.contract import RENEWABLE_KINDS, Inputs, Outputs, validate
from slots.scenario_sequence.outages import OutageParameters, sample_availability


class Parameters(OutageParameters):
    """Parameters of the historical year."""


MANIFEST = ProgramManifest(
    name="historical",
    slot="scenario_sequence",
    version="1.0.0",
    title="Historical year",
    description="Takes the historical profiles as they are, negative renewable infeed set to 0, and samples "
    "maintenance and forced outages of units.",
    parameters=Parameters,
    references=(
        "Grigg et al., The IEEE Reliability Test System-1996, IEEE Trans. Power Systems 14(3), 1999",
        "Garver, Effective load carrying capability and levelised maintenance, IEEE Trans. PAS, 1972",
    ),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Return the historical profiles and a sampled availability of units."""
    raise_if_any(validate(inputs))
    by_name = np.argsort(inputs.profile_name, kind="stable")
    load = by_name[inputs.profile_kind[by_name] == "load_p"]
    load_mw = np.einsum("hp,p->h", inputs.profile_value[:, load], inputs.profile_scale_mw[load])
    availability = sample_availability(inputs, load_mw, parameters)
    value, clipped = _without_own_use(inputs)
    notes = [text for text in (clipped, availability.fallback) if text]
    return Outputs(value, availability.in_service, "; ".join(notes))


def _without_own_use(inputs: Inputs) -> tuple[FloatArray, str]:
    """Return the profiles with renewable infeed at least 0, and how many hours that changed.

    Measured infeed is negative when a plant draws its own consumption from the grid.
    """
    renewable = np.isin(inputs.profile_kind, RENEWABLE_KINDS)
    value = np.where(renewable, np.maximum(inputs.profile_value, 0.0), inputs.profile_value)
    changed = int((value != inputs.profile_value).sum())
    return value, f"{changed} hours of negative renewable infeed set to 0" if changed else ""
