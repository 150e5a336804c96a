"""Dispatch by shift factors: limits enter the model only when they are violated (lazy constraints)."""

from __future__ import annotations

from collections.abc import Callable

from slots.active_dispatch.contract import Inputs, Outputs
from slots.active_dispatch.day_model import DayModel
from slots.linear_model import LinearModel, Session
from slots.network_limits import NetworkLimits


def dispatch(
    inputs: Inputs, open_session: Callable[[LinearModel], Session], tolerance_mw: float, rounds_max: int
) -> Outputs:
    """Solve a day; the flows come from the full PTDF, the prices from the duals."""
    day = DayModel(inputs)
    balance = day.plant.add_balance()
    limits = NetworkLimits(
        day.model,
        inputs.grid.network,
        inputs.branch_mw_max,
        day.plant.fixed_mw,
        day.plant.points,
        day.plant.spreads,
        inputs.overload_eur_per_mwh,
    )
    session = open_session(day.model)
    fallback = f"{rounds_max} rounds did not find every violated limit; overload_mw tells the rest"
    for _ in range(rounds_max):
        solution = day.solve(session)
        period, branch = limits.violated(solution.x, tolerance_mw, inputs.branch_mw_max.size)
        limits.add(period, branch)
        if not period.size and not day.plant.settle_rivals(solution.x):
            fallback = ""
            break
    if session.timed_out:
        fallback = "; ".join(filter(None, [fallback, "a solve reached its time limit"]))
    price = solution.row_dual[balance][:, None] + limits.congestion_eur_per_mwh(solution.row_dual, 1)
    flow = limits.flow_mw(solution.x)
    return day.outputs(solution.x, solution.objective, flow, price, solution.status, fallback)
