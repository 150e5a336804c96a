"""The promise of the system-model slot: judge the static model before any state is put on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import FloatArray, Grid, IntArray, StrArray
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding


@dataclass(frozen=True, eq=False)
class Inputs:
    """The grid as assembled from the static tables."""

    grid: Grid


@dataclass(frozen=True, eq=False)
class Outputs:
    """Islands, and what an engineer should review; a remark never changes the model by itself.

    `rating_factor` scales the current rating of a branch (1 = as given).
    """

    island: Annotated[IntArray, Array(("bus",), "1", "number of the island; 0 holds the slack", "i", 0)]
    rating_factor: Annotated[FloatArray, Array(("branch",), "1", "", minimum=1e-3, maximum=10)]
    remark_element: Annotated[StrArray, Array(("remark",), "", "id of the element", "U")]
    remark_text: Annotated[StrArray, Array(("remark",), "", "what to review and why", "U")]


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """Island 0 holds the slack and no branch joins two islands."""
    network = inputs.grid.network
    findings: list[Finding] = []
    if outputs.island[network.slack] != 0:
        findings.append(
            Finding("bus", (str(network.bus_name[network.slack]),), "slack not in island 0", "renumber")
        )
    joined = outputs.island[network.from_bus] != outputs.island[network.to_bus]
    if joined.any():
        names = tuple(network.branch_name[np.flatnonzero(joined)])
        findings.append(Finding("branch", names, "joins two islands", "give both ends one number"))
    return findings


CONTRACT = SlotContract(
    name="system_model",
    version=1,
    kind="model",
    summary="Judge the static model: islands, ratings, implausible parameters.",
    inputs=Inputs,
    outputs=Outputs,
    default="plausibility",
    verify=verify,
    services=("planning-chain/system-model",),
)
