"""Dispatch with bus angles as variables (B-theta): every limit from the start, no shift factors."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from bos_core.grid.dc import susceptance
from bos_core.grid.model import FloatArray, IntArray
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.active_dispatch.contract import Inputs, Outputs
from slots.active_dispatch.day_model import DayModel
from slots.highs_session import HighsSession
from slots.linear_model import INF


class Parameters(ProgramParameters):
    """What a user may choose."""

    time_limit_s: float = Field(600.0, gt=0)
    """Safety net for one solve."""


MANIFEST = ProgramManifest(
    name="angle_formulation",
    slot="active_dispatch",
    version="1.0.0",
    title="Network-constrained dispatch, bus angles (HiGHS)",
    description="The second formulation: power balance at every bus and all limits in one linear program; slower "
    "than lazy_ptdf and independent of it.",
    parameters=Parameters,
    references=("Stott, Jardim & Alsac, DC Power Flow Revisited, IEEE Trans. Power Syst. 24 (2009)",),
)

ROUNDS_MAX = 30


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Dispatch a day."""
    day = DayModel(inputs)
    angle, balance = _add_network(inputs, day)
    session = HighsSession(day.model, parameters.time_limit_s)
    fallback = "storages or HVDC lines run both ways at once in some hours"
    for _ in range(ROUNDS_MAX):
        solution = day.solve(session)
        if not day.plant.settle_rivals(solution.x):
            fallback = ""
            break
    flow = _flow_mw(inputs, solution.x[angle])
    price = solution.row_dual[balance]
    return day.outputs(solution.x, solution.objective, flow, price, solution.status, fallback)


def _flow_mw(inputs: Inputs, va_rad: FloatArray) -> FloatArray:
    network = inputs.grid.network
    across = va_rad[:, network.from_bus] - va_rad[:, network.to_bus] - network.shift_rad
    return np.asarray(across * susceptance(network) * network.base_mva)


def _add_network(inputs: Inputs, day: DayModel) -> tuple[IntArray, IntArray]:
    """Add angles, bus balances and branch limits; returns the columns and rows of shape (hour, bus)."""
    network, plant, model = inputs.grid.network, day.plant, day.model
    n_hour, n_bus = plant.fixed_mw.shape
    b_mw = susceptance(network) * network.base_mva
    bound = np.full((n_hour, n_bus), INF)
    bound[:, network.slack] = 0.0
    angle = model.add_columns((n_hour, n_bus), -bound, bound)
    shift_mw = b_mw * network.shift_rad
    drawn = np.zeros(n_bus)
    np.add.at(drawn, network.from_bus, -shift_mw)
    np.add.at(drawn, network.to_bus, shift_mw)
    demand = -plant.fixed_mw + drawn
    balance = model.add_rows([], demand, demand, (n_hour, n_bus))
    for point in plant.points:
        model.add_entries(balance[:, point.bus], point.columns, np.broadcast_to(point.factor, point.columns.shape))
    for spread in plant.spreads:
        model.add_entries(balance, np.broadcast_to(spread.columns[:, None], balance.shape), spread.share)
    across = np.broadcast_to(b_mw, (n_hour, b_mw.size))
    for near, far in ((network.from_bus, network.to_bus), (network.to_bus, network.from_bus)):
        model.add_entries(balance[:, near], angle[:, near], -across)
        model.add_entries(balance[:, near], angle[:, far], across)
    rated = np.flatnonzero(np.isfinite(inputs.branch_mw_max))
    slack = model.add_columns((n_hour, rated.size, 2), 0.0, INF, inputs.overload_eur_per_mwh)
    f, t, b = network.from_bus[rated], network.to_bus[rated], b_mw[rated]
    limit, offset = inputs.branch_mw_max[rated], shift_mw[rated]
    model.add_rows(
        [(angle[:, f], b), (angle[:, t], -b), (slack, np.array([-1.0, 1.0]))],
        offset - limit,
        offset + limit,
        (n_hour, rated.size),
    )
    return angle, balance
