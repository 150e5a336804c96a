"""A program that extends the ontology: loads grow, and electrolysers are a new kind of device."""

from __future__ import annotations

GROWTH = """
    Extension("load", (
        AddedColumn("growth", "float", "1", "demand of the planning year per demand of today", 1.0, 0.0, 10.0),
        AddedColumn("priority", "int", "1", "order of connection", 3),
    )),
"""
ELECTROLYSER = """
    Extension(
        "electrolyser",
        (
            AddedColumn("p_mw", "float", "MW", "power drawn", default=0.0, minimum=0.0),
            AddedColumn("owner", "text", "", "who runs it", default="unknown"),
            AddedColumn("flexible", "bool", "", "may be switched off", default=False),
        ),
        terminals=("bus",),
        doc="Makes hydrogen from electric energy.",
    ),
"""
PROGRAM = '''
"""Power flow of a planning year: demand grows, electrolysers draw power."""

from dataclasses import replace

import numpy as np

from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from bos_core.objects.extension import AddedColumn, Elements, Extension
from slots.power_flow import newton
from slots.power_flow.contract import Inputs, Outputs


class Parameters(ProgramParameters):
    """None."""


MANIFEST = ProgramManifest(
    name="{name}",
    slot="power_flow",
    version="{version}",
    title="Power flow of a planning year",
    description="Loads grow; electrolysers add to the loads of their bus.",
    parameters=Parameters,
    extends=({extends}),
)


def run(inputs: Inputs, parameters: Parameters, elements: Elements) -> Outputs:
    """Solve with the demand of the planning year."""
    loads, growth = inputs.grid.loads, elements["load"]["growth"]
    demand = inputs.states.load_p_mw * growth
    if "electrolyser" in elements:
        made = elements["electrolyser"]
        drawn = np.bincount(made["bus"], made["p_mw"], inputs.grid.network.n_bus)[loads.bus]
        demand = demand + drawn / np.bincount(loads.bus)[loads.bus]
    return newton.run(replace(inputs, states=replace(inputs.states, load_p_mw=demand)), newton.Parameters())
'''


def program(name: str = "year", version: str = "1.0.0", extends: str = GROWTH + ELECTROLYSER) -> str:
    return PROGRAM.format(name=name, version=version, extends=extends)
