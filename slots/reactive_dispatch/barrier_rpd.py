"""Reactive dispatch by an interior-point method of our own on bus blocks: fast, no optimiser package needed."""

from __future__ import annotations

from pydantic import Field

from bos_core.grid.optimal_flow import FlowAnswer, FlowHour, FlowNetwork, FlowWeights
from bos_core.grid.optimal_flow_barrier import solve_from_power_flow
from bos_core.objects.contracts import ProgramManifest
from slots.reactive_dispatch.choices import ReactiveParameters, dispatch
from slots.reactive_dispatch.contract import Inputs, Outputs


class Parameters(ReactiveParameters):
    """What a planner may set."""

    iterations_max: int = Field(120, ge=10, le=3000)
    """Limit on the iterations of one solve; an hour has two or three."""


MANIFEST = ProgramManifest(
    name="barrier_rpd",
    slot="reactive_dispatch",
    version="1.0.0",
    title="Interior point on bus blocks",
    description="Minimises losses and voltage deviation hour by hour with elastic limits; taps and shunts are "
    "rounded and the rest is solved again; a power flow with reactive limits confirms every hour.",
    parameters=Parameters,
    references=(
        "Wang et al.: On computational issues of market-based optimal power flow, 2007",
        "Mehrotra: On the implementation of a primal-dual interior point method, 1992",
        "Bunch, Parlett: Direct methods for solving symmetric indefinite systems of linear equations, 1971",
    ),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Dispatch every hour of the block."""

    def solve(flow: FlowNetwork, hour: FlowHour, weights: FlowWeights, before: FlowAnswer | None) -> FlowAnswer:
        return solve_from_power_flow(flow, hour, weights, before, parameters.iterations_max)

    return dispatch(inputs, parameters, solve)
