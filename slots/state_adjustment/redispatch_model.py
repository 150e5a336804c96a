"""The linear programme of redispatch: least cost of |dP| and shedding under cuts with priced slacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, Grid, IntArray
from bos_core.objects.errors import ProgramError
from slots.highs_session import HighsSession
from slots.linear_model import LinearModel
from slots.state_adjustment.cuts import BASE_CASE, Cuts

_TIME_LIMIT_S = 120.0
_PASSED_MW = 1e-4
_FURTHER_SHARE = 0.2
"""An overload of a branch after one more outage counts by this share beside its worst one."""


@dataclass(frozen=True, eq=False)
class Prices:
    """EUR/MWh: (unit,) for more and for less output, then shedding and overload."""

    up: FloatArray
    down: FloatArray
    shed: float
    overload: float


@dataclass(frozen=True, eq=False)
class Move:
    """Change of output (unit,), load shed (load,), loading of each cut's pair as the cut has it (cut,)."""

    unit_mw: FloatArray
    shed_mw: FloatArray
    loading: FloatArray


def marginal_prices(
    grid: Grid, p_mw: FloatArray, shed_eur_per_mwh: float, overload_eur_per_mwh: float, premium_eur_per_mwh: float
) -> Prices:
    """Return prices of moving each unit from its present output.

    More costs the segment above, less earns the segment below. Both are shifted by the dearest and the cheapest
    price so that no move pays by itself: redispatch removes violations, it does not trade. The shift adds the same
    to every MW moved up and down, so that the cheapest pair of units still goes first.
    """
    units = grid.units
    up, down = np.zeros(units.n), np.zeros(units.n)
    level = np.where(units.committable, np.minimum(units.p_mw_min, units.p_mw_max), 0.0)
    order = np.argsort(units.segment_unit, kind="stable")
    count = np.bincount(units.segment_unit, minlength=units.n)
    start = np.cumsum(count) - count
    for k in range(int(count.max(initial=0))):
        unit = np.flatnonzero(count > k)
        segment = order[start[unit] + k]
        price, above = units.segment_eur_per_mwh[segment], p_mw[unit] - level[unit]
        down[unit] = np.where((k == 0) | (above > 1e-6), price, down[unit])
        up[unit] = np.where((k == 0) | (above >= -1e-6), price, up[unit])
        level[unit] += units.segment_mw[segment]
    down = down - np.where(units.variable, units.curtailment_eur_per_mwh, 0.0)
    dearest, cheapest = float(up.max(initial=0.0)), float(down.min(initial=0.0))
    return Prices(
        up=up - cheapest + premium_eur_per_mwh,
        down=dearest - down + premium_eur_per_mwh,
        shed=shed_eur_per_mwh,
        overload=overload_eur_per_mwh,
    )


def least_cost_move(
    grid: Grid, cuts: Cuts, prices: Prices, room_down: FloatArray, room_up: FloatArray, load_mw: FloatArray
) -> Move:
    """Solve the programme.

    A branch that is overloaded after many outages is one overload: the worst one has the price, the others add
    `_FURTHER_SHARE` each. Otherwise their number would outbid the price of shedding. Most cuts do not bind: those
    that are violated now come first, others when a solution passes them.

    Parameters
    ----------
    room_down, room_up : (unit,)
        Least and greatest change of output, MW; an interval without 0 forces a move.
    load_mw : (load,)
        What can be shed; 0 or less: nothing.

    Raises
    ------
    ProgramError
        The solver found no optimum, though every cut has a slack.
    """
    programme = _Programme(grid, cuts, prices, room_down, room_up, load_mw)
    wanted = cuts.pairs.loading > cuts.limit
    while True:
        programme.add_cuts(np.flatnonzero(wanted & ~programme.present))
        move, passed = programme.solve()
        wanted = passed
        if not (wanted & ~programme.present).any():
            return move


class _Programme:
    """The programme with the cuts added so far."""

    def __init__(
        self,
        grid: Grid,
        cuts: Cuts,
        prices: Prices,
        room_down: FloatArray,
        room_up: FloatArray,
        load_mw: FloatArray,
    ) -> None:
        units, loads = grid.units, grid.loads
        self.grid, self.cuts, self.prices = grid, cuts, prices
        self.movable = np.flatnonzero((room_up > 0) | (room_down < 0))
        self.shed_at = np.flatnonzero(loads.sheddable & (load_mw > 0))
        low, high = room_down[self.movable], room_up[self.movable]
        count = self.movable.size
        model = LinearModel()
        cost_up, cost_down = prices.up[self.movable], prices.down[self.movable]
        self.up = model.add_columns((count,), np.maximum(low, 0.0), np.maximum(high, 0.0), cost_up)
        self.down = model.add_columns((count,), np.maximum(-high, 0.0), np.maximum(-low, 0.0), cost_down)
        self.shed = model.add_columns((self.shed_at.size,), 0.0, load_mw[self.shed_at], prices.shed)
        # forced moves (a unit outside its room) may leave a balance that nobody can take: the slack bus has it
        rest = model.add_columns((2,), 0.0, np.inf, 10 * prices.shed)
        self.columns = np.concatenate([self.up, self.down, self.shed])
        sign = np.repeat([1.0, -1.0, 1.0], [count, count, self.shed_at.size])
        balance = [(self.columns[None, :], sign[None, :]), (rest[None, :], np.array([[1.0, -1.0]]))]
        model.add_rows(balance, 0.0, 0.0, (1,))
        at = np.concatenate([units.bus[self.movable], units.bus[self.movable], loads.bus[self.shed_at]])
        self.factor_mw = cuts.factor[:, at] * sign * cuts.mw[:, None]
        self.room_mw = (cuts.limit - cuts.pairs.loading) * cuts.mw
        self.slack = np.full(cuts.limit.size, -1)
        self.worst = np.full(grid.network.n_branch, -1)
        self.model, self.session = model, HighsSession(model, _TIME_LIMIT_S, presolve=False)

    @property
    def present(self) -> BoolArray:
        """Which cuts have been added."""
        present: BoolArray = self.slack >= 0
        return present

    def add_cuts(self, chosen: IntArray) -> None:
        """Add some cuts with their slacks."""
        model, prices, pairs = self.model, self.prices, self.cuts.pairs
        # before any outage load is shed, unless that takes more than 2 MW for each MW of overload
        before = pairs.outage[chosen] == BASE_CASE
        price = np.where(before, 2 * prices.shed, _FURTHER_SHARE * prices.overload)
        slack = self.slack[chosen] = model.add_columns((chosen.size,), 0.0, np.inf, price)
        branch = pairs.branch[chosen][~before]
        new = np.setdiff1d(branch, np.flatnonzero(self.worst >= 0))
        self.worst[new] = model.add_columns((new.size,), 0.0, np.inf, prices.overload)
        worst = self.worst[branch]
        model.add_rows([(worst[:, None], 1.0), (slack[~before, None], -1.0)], 0.0, np.inf, (branch.size,))
        factor = self.factor_mw[chosen]
        columns = np.broadcast_to(self.columns, factor.shape)
        terms = [(columns, factor), (slack[:, None], -1.0)]
        model.add_rows(terms, -np.inf, self.room_mw[chosen], (chosen.size,))

    def solve(self) -> tuple[Move, BoolArray]:
        """Return the move, and the cuts that it passes by more than their slack allows, (cut,)."""
        solution = self.session.solve_relaxation()
        if not solution.found:
            raise ProgramError(f"the redispatch programme is {solution.status}; lower the number of cuts")
        x, present = solution.x, self.present
        unit_mw, shed_mw = np.zeros(self.grid.units.n), np.zeros(self.grid.loads.n)
        unit_mw[self.movable] = x[self.up] - x[self.down]
        shed_mw[self.shed_at] = x[self.shed]
        slack_mw = np.where(present, np.maximum(x[self.slack], 0.0), 0.0)
        change_mw = self.factor_mw @ x[self.columns]
        passed: BoolArray = change_mw > self.room_mw + slack_mw + _PASSED_MW
        loading = self.cuts.pairs.loading + change_mw / self.cuts.mw
        return Move(unit_mw, np.maximum(shed_mw, 0.0), loading), passed
