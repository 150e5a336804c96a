"""Default judge of a static model: connectivity and parameters outside what equipment can have."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from pydantic import Field
from scipy.sparse.csgraph import connected_components

from bos_core.grid.model import BoolArray, BranchKind, IntArray, Network
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.system_model.contract import Inputs, Outputs


class Parameters(ProgramParameters):
    """Bounds of what counts as plausible."""

    impedance_pu_min: float = Field(default=1e-6, gt=0)
    """Series impedance below this makes power flows ill-conditioned."""
    r_over_x_max: float = Field(default=20.0, gt=0)
    """Lines with a higher R/X are suspicious."""
    ratio_deviation_max: float = Field(default=0.25, gt=0)
    """Off-nominal transformer ratios further from 1 are suspicious."""


MANIFEST = ProgramManifest(
    name="plausibility",
    slot="system_model",
    version="1.0.0",
    title="Plausibility of the static model",
    description="Finds islands, missing ratings and parameters that no equipment has.",
    parameters=Parameters,
    elements=("line", "transformer", "equivalent_branch", "bus"),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Judge the model; see `Outputs`."""
    network = inputs.grid.network
    impedance = np.abs(network.r_pu + 1j * network.x_pu)
    line = network.branch_kind == BranchKind.LINE
    transformer = network.branch_kind == BranchKind.TRANSFORMER
    unrated = ~np.isfinite(np.minimum(network.i_max_from_pu, network.i_max_to_pu))
    ratio_off = np.abs(network.ratio - 1) > parameters.ratio_deviation_max
    steep = np.abs(network.r_pu) > parameters.r_over_x_max * np.abs(network.x_pu)
    remarks: list[tuple[BoolArray, str]] = [
        (
            impedance < parameters.impedance_pu_min,
            f"impedance below {parameters.impedance_pu_min:g} p.u.; merge its buses",
        ),
        (line & steep, f"R/X above {parameters.r_over_x_max:g}; check the unit of x"),
        (transformer & ratio_off, "ratio far from nominal; check rated voltages and tap"),
        (network.outage_candidate & unrated, "has no rating; its loading is never checked"),
        (network.x_pu < 0, "negative reactance; a series capacitor or a star winding?"),
    ]
    elements = [network.branch_id[mask] for mask, _ in remarks]
    texts = [np.repeat(text, int(mask.sum())) for mask, text in remarks]
    return Outputs(
        island=_islands(network),
        rating_factor=np.ones(network.n_branch),
        remark_element=np.concatenate(elements).astype(np.str_),
        remark_text=np.concatenate(texts).astype(np.str_),
    )


def _islands(network: Network) -> IntArray:
    joined = sp.coo_matrix(
        (np.ones(network.n_branch), (network.from_bus, network.to_bus)), shape=(network.n_bus, network.n_bus)
    )
    _, label = connected_components(joined, directed=False)
    main = label[network.slack]
    swapped = np.where(label == main, 0, np.where(label == 0, main, label))
    return swapped.astype(np.int64)
