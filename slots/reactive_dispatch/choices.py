"""What a planner may choose in every reactive-dispatch program, and the way from and to the contract."""

from __future__ import annotations

from pydantic import Field

from bos_core.grid.optimal_flow import FlowWeights
from bos_core.grid.optimal_flow_reactive import Limits, ReactiveOptions, Solver, dispatch_block
from bos_core.objects.contracts import ProgramParameters
from slots.reactive_dispatch.contract import Inputs, Outputs


class ReactiveParameters(ProgramParameters):
    """Parameters that do not depend on the solver."""

    voltage_target_pu: float = Field(1.03, ge=0.8, le=1.2)
    """Voltage that deviations are counted from, moved into the limits of each bus."""
    voltage_weight: float = Field(0.05, ge=0, le=1e3)
    """Weight of the squared voltage deviations (p.u. squared), against losses in units of 100 MW."""
    tap_weight: float = Field(0.05, ge=0, le=1e3)
    """Weight of the squared moves of transformer ratios; keeps taps from moving without effect."""
    voltage_price: float = Field(50.0, ge=1, le=1e4)
    """Price of 1 p.u. outside a voltage limit, in units of 100 MW."""
    loading_price: float = Field(1.0, ge=0.01, le=10)
    """Price of a (current / limit) squared above 1 by 1, at each end of a branch, in units of 100 MW."""
    optimise_taps: bool = True
    """Whether transformer taps are decided; otherwise they stay as given."""
    optimise_shunts: bool = True
    """Whether steps of controllable shunts are decided; otherwise they stay as given."""
    distribute_balance: bool = True
    """Spread the imbalance of the schedule over dispatchable units with room; otherwise the slack bus takes it."""


def dispatch(inputs: Inputs, parameters: ReactiveParameters, solver: Solver) -> Outputs:
    """Dispatch every hour of the block on its own with the given solver."""
    options = ReactiveOptions(
        voltage_target_pu=parameters.voltage_target_pu,
        optimise_taps=parameters.optimise_taps,
        optimise_shunts=parameters.optimise_shunts,
        distribute_balance=parameters.distribute_balance,
        weights=FlowWeights(
            voltage=parameters.voltage_weight,
            tap=parameters.tap_weight,
            voltage_price=parameters.voltage_price,
            loading_price=parameters.loading_price,
        ),
    )
    limits = Limits(inputs.vm_pu_min, inputs.vm_pu_max, inputs.loading_max)
    return Outputs(**vars(dispatch_block(inputs.grid, inputs.states, limits, options, solver)))
