"""The linear programme of redispatch: least cost of |dP| and shedding under cuts with priced slacks.

One programme serves all rounds of an hour. Its columns are deviations from the state that the hour began with, so
a later round may take back what an earlier one has moved; its rows stay, and each AC check only shifts their
limits. So a round starts from the basis of the round before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.injections import sum_by_bus
from bos_core.grid.model import BoolArray, FloatArray, Grid, IntArray, Snapshot
from bos_core.objects.errors import ProgramError
from slots.highs_session import HighsSession
from slots.linear_model import LinearModel
from slots.state_adjustment.cuts import BASE_CASE, Cuts, Pairs

_TIME_LIMIT_S = 120.0
_PASSED_MW = 1e-4
_LEAST_MW = 1e-6
_FURTHER_SHARE = 0.3
"""An overload of a branch after one more outage counts by this share beside its worst one."""


@dataclass(frozen=True)
class Prices:
    """EUR/MWh of shedding and of overload, and what is added to every MW moved."""

    shed: float
    overload: float
    premium: float


@dataclass(frozen=True, eq=False)
class Move:
    """Change of output against the start (unit,), load shed of the start's (load,), loading of each cut (cut,)."""

    unit_mw: FloatArray
    shed_mw: FloatArray
    loading: FloatArray
    objective: float


@dataclass(frozen=True, eq=False)
class Pieces:
    """Runs of one price that units may move along, up (+1) or down (-1); arrays are (piece,).

    Attributes
    ----------
    unit, sign : int
    begin, length : float
        MW; a piece begins where the unit has moved by `begin` in its direction.
    price : float
        EUR/MWh.
    """

    unit: IntArray
    sign: FloatArray
    begin: FloatArray
    length: FloatArray
    price: FloatArray

    @classmethod
    def of(cls, grid: Grid, p_mw: FloatArray, low: FloatArray, high: FloatArray, premium: float) -> Pieces:
        """Cut the room of each unit at the ends of its cost segments.

        More costs the segments above, less earns those below. Both are shifted by the dearest and the cheapest
        price so that no move pays by itself: redispatch removes violations, it does not trade. The shift adds the
        same to every MW moved up and down, so that the cheapest pair of units still goes first.
        """
        units = grid.units
        free = np.setdiff1d(np.arange(units.n), units.segment_unit)  # without a segment: at no cost
        unit = np.concatenate([units.segment_unit, free])
        order, nothing = np.argsort(unit, kind="stable"), np.zeros(free.size)
        unit = unit[order]
        mw = np.concatenate([units.segment_mw, nothing])[order]
        price = np.concatenate([units.segment_eur_per_mwh, nothing])[order]
        first, last = np.r_[True, unit[1:] != unit[:-1]], np.r_[unit[1:] != unit[:-1], True]
        level = np.where(units.committable, np.minimum(units.p_mw_min, units.p_mw_max), 0.0)
        total = np.cumsum(mw)
        upper = (
            level[unit] + total - np.repeat((total - mw)[first], np.diff(np.r_[np.flatnonzero(first), unit.size]))
        )
        lower = np.where(first, -np.inf, upper - mw)
        upper = np.where(last, np.inf, upper)
        p, curtailing = p_mw[unit], np.where(units.variable, units.curtailment_eur_per_mwh, 0.0)[unit]
        up = np.maximum(lower - p, 0.0), np.minimum(upper, high[unit]) - p
        down = np.maximum(p - upper, 0.0), p - np.maximum(lower, low[unit])
        begin, end = (np.concatenate(ends) for ends in zip(up, down, strict=True))
        sign = np.repeat([1.0, -1.0], unit.size)
        kept = end > begin + _LEAST_MW
        value = np.concatenate([price, price - curtailing])
        dearest = float(value[kept & (sign > 0)].max(initial=0.0))
        cheapest = float(value[kept & (sign < 0)].min(initial=0.0))
        cost = np.where(sign > 0, value - cheapest, dearest - value) + premium
        return cls(np.tile(unit, 2)[kept], sign[kept], begin[kept], (end - begin)[kept], cost[kept])

    def filled(self, deviation: FloatArray) -> FloatArray:
        """Return what deviations (unit,) take of each piece, MW."""
        along = np.clip(self.sign * deviation[self.unit] - self.begin, 0.0, self.length)
        return np.asarray(along)


class Programme:
    """The redispatch of one hour.

    Parameters
    ----------
    start : Snapshot
        The state from which changes count.
    low, high : (unit,)
        Room of each unit, MW.
    cuts : Cuts
        May grow from round to round.
    """

    def __init__(
        self, grid: Grid, start: Snapshot, low: FloatArray, high: FloatArray, prices: Prices, cuts: Cuts
    ) -> None:
        self.grid, self.start, self.prices, self.cuts = grid, start, prices, cuts
        p = start.unit_p_mw
        self.low = np.where(start.unit_on, low - p, 0.0)
        self.high = np.where(start.unit_on, high - p, 0.0)
        self.pieces = pieces = Pieces.of(grid, p, p + self.low, p + self.high, prices.premium)
        self.shed_at = np.flatnonzero(grid.loads.sheddable & (start.load_p_mw > 0))
        model = LinearModel()
        self.moved = model.add_columns((pieces.unit.size,), 0.0, pieces.length, pieces.price)
        self.shed = model.add_columns((self.shed_at.size,), 0.0, start.load_p_mw[self.shed_at], prices.shed)
        # forced moves (a unit outside its room) may leave a balance that nobody can take: the slack bus has it
        rest = model.add_columns((2,), 0.0, np.inf, 10 * prices.shed)
        self.columns = np.concatenate([self.moved, self.shed])
        self.sign = np.concatenate([pieces.sign, np.ones(self.shed_at.size)])
        self.at = np.concatenate([grid.units.bus[pieces.unit], grid.loads.bus[self.shed_at]])
        balance = [(self.columns[None, :], self.sign[None, :]), (rest[None, :], np.array([[1.0, -1.0]]))]
        self.balance = model.add_rows(balance, 0.0, 0.0, (1,))
        self.model, self.session = model, HighsSession(model, _TIME_LIMIT_S, presolve=False)
        self.worst = np.full(grid.network.n_branch, -1)
        self.row, self.slack = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def cost_eur_per_h(self, state: Snapshot) -> float:
        """Return the cost of a state's changes as the programme counts them."""
        deviation = state.unit_p_mw - self.start.unit_p_mw
        shed = np.maximum(self.start.load_p_mw - state.load_p_mw, 0.0).sum()
        return float(self.pieces.price @ self.pieces.filled(deviation) + self.prices.shed * shed)

    def overload_eur_per_h(self, pairs: Pairs, over_mw: FloatArray) -> float:
        """Return what overloads cost.

        A branch that is overloaded after many outages is one overload: the worst one has the price, the others
        add `_FURTHER_SHARE` each. Otherwise their number would outbid the price of shedding. Before any outage
        load is shed, unless that takes more than 2 MW for each MW of overload.
        """
        before = pairs.outage == BASE_CASE
        worst = np.zeros(self.grid.network.n_branch)
        np.maximum.at(worst, pairs.branch[~before], over_mw[~before])
        after = float(worst.sum() + _FURTHER_SHARE * over_mw[~before].sum())
        return self.prices.overload * after + 2 * self.prices.shed * float(over_mw[before].sum())

    def least_cost_move(self, state: Snapshot, trust_mw: FloatArray) -> Move:
        """Return the cheapest total move from the start.

        Most cuts do not bind: those that are violated now come first, others when a solution passes them.

        Parameters
        ----------
        state : Snapshot
            The one that the cuts have looked at.
        trust_mw : (unit,)
            Most change against `state`.

        Raises
        ------
        ProgramError
            The solver found no optimum, though every cut has a slack.
        """
        deviation = state.unit_p_mw - self.start.unit_p_mw
        shed_mw = np.maximum(self.start.load_p_mw - state.load_p_mw, 0.0)
        grid, n = self.grid, self.grid.network.n_bus
        injected = sum_by_bus(grid.units.bus, deviation, n) + sum_by_bus(grid.loads.bus, shed_mw, n)
        cuts = self.cuts
        self.row, self.slack = (np.r_[old, np.full(cuts.n - old.size, -1)] for old in (self.row, self.slack))
        least = np.maximum(self.low, np.minimum(deviation - trust_mw, self.high))
        most = np.minimum(self.high, np.maximum(deviation + trust_mw, self.low))
        pieces, session = self.pieces, self.session
        ends = (
            np.where(pieces.sign > 0, least[pieces.unit], -most[pieces.unit]),
            np.where(pieces.sign > 0, most[pieces.unit], -least[pieces.unit]),
        )
        lower, upper = (np.clip(end - pieces.begin, 0.0, pieces.length) for end in ends)
        session.set_bounds(self.moved, lower, upper)
        total = np.array([injected.sum()])
        session.set_row_bounds(self.balance, total, total)
        room = (cuts.limit - cuts.loading) * cuts.mw + cuts.factor_mw @ injected
        present = self.row >= 0
        session.set_row_bounds(self.row[present], np.full(present.sum(), -np.inf), room[present])
        wanted = cuts.loading > cuts.limit
        while True:
            self._add(np.flatnonzero(wanted & (self.row < 0)), room)
            move, passed = self._solve(room, injected)
            wanted = passed
            if not (wanted & (self.row < 0)).any():
                return move

    def _add(self, chosen: IntArray, room: FloatArray) -> None:
        """Add some cuts with their slacks."""
        if not chosen.size:
            return
        model, prices, cuts = self.model, self.prices, self.cuts
        before = cuts.outage[chosen] == BASE_CASE
        price = np.where(before, 2 * prices.shed, _FURTHER_SHARE * prices.overload)
        slack = self.slack[chosen] = model.add_columns((chosen.size,), 0.0, np.inf, price)
        branch = cuts.branch[chosen][~before]
        new = np.setdiff1d(branch, np.flatnonzero(self.worst >= 0))
        self.worst[new] = model.add_columns((new.size,), 0.0, np.inf, prices.overload)
        worst = self.worst[branch]
        model.add_rows([(worst[:, None], 1.0), (slack[~before, None], -1.0)], 0.0, np.inf, (branch.size,))
        factor = cuts.factor_mw[chosen][:, self.at] * self.sign
        columns = np.broadcast_to(self.columns, factor.shape)
        terms = [(columns, factor), (slack[:, None], -1.0)]
        self.row[chosen] = model.add_rows(terms, -np.inf, room[chosen], (chosen.size,))

    def _solve(self, room: FloatArray, injected: FloatArray) -> tuple[Move, BoolArray]:
        """Return the move, and the cuts that it passes by more than their slack allows, (cut,)."""
        solution = self.session.solve_relaxation()
        if not solution.found:
            raise ProgramError(f"the redispatch programme is {solution.status}; lower the number of cuts")
        x, present, grid = solution.x, self.row >= 0, self.grid
        pieces = self.pieces
        unit_mw = np.zeros(grid.units.n)
        np.add.at(unit_mw, pieces.unit, pieces.sign * x[self.moved])
        shed_mw = np.zeros(grid.loads.n)
        shed_mw[self.shed_at] = np.maximum(x[self.shed], 0.0)
        slack_mw = np.where(present, np.maximum(x[self.slack], 0.0), 0.0)
        change_mw = self.cuts.factor_mw @ np.bincount(self.at, self.sign * x[self.columns], grid.network.n_bus)
        passed: BoolArray = change_mw > room + slack_mw + _PASSED_MW
        loading = self.cuts.limit + (change_mw - room) / self.cuts.mw
        return Move(unit_mw, shed_mw, loading, solution.objective), passed
