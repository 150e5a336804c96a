"""A dispatch without commitment: a cheap look at prices and branch limits before the commitment model is built.

Units with something to decide may run at any output from zero on, along the convex envelope of their costs. What
remains is a small linear program without any coupling by commitments. It finds nearly all branch limits that the
commitment model needs and shows which units are far from any decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bos_core.grid.injections import sum_by_bus
from bos_core.grid.model import BoolArray, FloatArray, Grid, IntArray
from bos_core.objects.errors import ProgramError
from slots.linear_model import INF, LinearModel, Session
from slots.network_limits import NetworkLimits
from slots.plant import Plant
from slots.unit_commitment.contract import FREE, Inputs
from slots.unit_commitment.envelopes import add_envelopes
from slots.unit_commitment.relaxed import relaxed_start_eur_per_h
from slots.unit_commitment.schedule_choice import Prices

_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Outline:
    """What a dispatch without commitment tells.

    Attributes
    ----------
    price_eur_per_mwh : (period, bus)
    limits : (period, branch) bool
        Branch limits that matter.
    used : (period, unit)
        Use of the range that an undecided unit runs through first, 0 to 1; NaN for other units.
    factors : (branch, bus)
        From `recentred_ptdf`.
    bound_eur : float
        Cost of the dispatch: no commitment costs less. -inf where unknown.
    """

    price_eur_per_mwh: FloatArray
    limits: BoolArray
    used: FloatArray
    factors: FloatArray
    bound_eur: float

    def prices(self, period_h: int) -> Prices:
        """Return the prices per period; reserve has none."""
        none = np.zeros(self.used.shape[0])
        return Prices(self.price_eur_per_mwh * period_h, none, none)

    def part(self, first: int, stop: int) -> Outline:
        """Return the outline of some periods."""
        span = slice(first, stop)
        return Outline(self.price_eur_per_mwh[span], self.limits[span], self.used[span], self.factors, -INF)


def outline(
    inputs: Inputs,
    known: IntArray,
    open_session: Callable[[LinearModel], Session],
    add_violated: Callable[[NetworkLimits, FloatArray], int],
    rounds_max: int,
) -> Outline:
    """Dispatch without commitment.

    Parameters
    ----------
    known : (period, unit)
        Commitment known in advance; -1 free.
    add_violated
        Adds the branch limits that a solution breaks and returns how many.
    rounds_max : int
        Most rounds of that.

    Raises
    ------
    ProgramError
        No solution, which the priced slacks should prevent.
    """
    grid, units, h = inputs.grid, inputs.grid.units, inputs.period_h
    n_period = known.shape[0]
    model = LinearModel()
    plant = Plant(model, grid, n_period, h, reserve=False)
    high = np.where(known == 0, 0.0, np.minimum(inputs.available_mw, units.p_mw_max))
    undecided = units.committable & (known == FREE).any(0)
    settled = np.flatnonzero(~undecided & ~units.variable & (known == 1).any(0))
    variable, free = np.flatnonzero(units.variable), np.flatnonzero(undecided)
    on = known[:, settled] == 1
    plant.add_settled(settled, on, high[:, settled], on[0], np.full(settled.size, np.nan))
    plant.add_variable(variable, high[:, variable])
    low = np.zeros((n_period, free.size))
    first = add_envelopes(plant, free, low, high[:, free], relaxed_start_eur_per_h(inputs, free)).first
    plant.add_storages(inputs.storage_initial_mwh, inputs.storage_final_mwh, inputs.unserved_eur_per_mwh)
    plant.add_hvdc()
    share = load_share(grid, inputs.load_p_mw)
    for sign in (1.0, -1.0):
        plant.spread(model.add_columns((n_period,), 0.0, INF, inputs.unserved_eur_per_mwh * h), sign * share)
    plant.fixed_mw -= sum_by_bus(grid.loads.bus, inputs.load_p_mw, grid.network.n_bus)
    balance = plant.add_balance()
    limits = NetworkLimits(
        model,
        grid.network,
        inputs.branch_mw_max,
        plant.fixed_mw,
        plant.points,
        plant.spreads,
        inputs.overload_eur_per_mwh * h,
    )
    session = open_session(model)
    solution = session.solve_relaxation()
    for _ in range(rounds_max):
        if not solution.found or not add_violated(limits, solution.x):
            break
        solution = session.solve_relaxation()
    if not solution.found:
        if session.timed_out:
            raise ProgramError("the time limit ends even the dispatch without commitment; give more time_limit_s")
        raise ProgramError(f"the dispatch without commitment is {solution.status}; keep this input and report it")
    price = solution.row_dual[balance][:, None] / h + limits.congestion_eur_per_mwh(solution.row_dual, h)
    used = np.full(known.shape, np.nan)
    used[:, free] = solution.x[first] / np.maximum(model.upper[first], _TINY)
    return Outline(price, limits.generated, used, limits.factors, solution.bound)


def load_share(grid: Grid, load_p_mw: FloatArray) -> FloatArray:
    """Return each bus's share of the demand, (period, bus); all alike in a period without demand."""
    n_bus = grid.network.n_bus
    by_bus = sum_by_bus(grid.loads.bus, np.maximum(load_p_mw, 0.0), n_bus)
    total = by_bus.sum(1, keepdims=True)
    return np.where(total > 0, by_bus / np.where(total > 0, total, 1.0), 1.0 / n_bus)
