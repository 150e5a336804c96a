"""The linear programme of redispatch: least cost of |dP| and shedding under cuts with priced slacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import FloatArray, Grid
from bos_core.objects.errors import ProgramError
from slots.highs_session import HighsSession
from slots.linear_model import LinearModel
from slots.state_adjustment.cuts import BASE_CASE, Cuts

_TIME_LIMIT_S = 120.0
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
    """Change of output (unit,), load shed (load,), slack of each cut as a loading (cut,)."""

    unit_mw: FloatArray
    shed_mw: FloatArray
    slack: FloatArray


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
    seen = np.zeros(units.n, bool)
    for segment in np.argsort(units.segment_unit, kind="stable"):
        unit, price = units.segment_unit[segment], units.segment_eur_per_mwh[segment]
        if not seen[unit] or p_mw[unit] > level[unit] + 1e-6:
            down[unit] = price
        if not seen[unit] or p_mw[unit] >= level[unit] - 1e-6:
            up[unit] = price
        level[unit] += units.segment_mw[segment]
        seen[unit] = True
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
    `_FURTHER_SHARE` each. Otherwise their number would outbid the price of shedding.

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
    units, loads = grid.units, grid.loads
    movable = np.flatnonzero((room_up > 0) | (room_down < 0))
    shed_at = np.flatnonzero(loads.sheddable & (load_mw > 0))
    model = LinearModel()
    low, high = room_down[movable], room_up[movable]
    up = model.add_columns((movable.size,), np.maximum(low, 0.0), np.maximum(high, 0.0), prices.up[movable])
    down = model.add_columns((movable.size,), np.maximum(-high, 0.0), np.maximum(-low, 0.0), prices.down[movable])
    shed = model.add_columns((shed_at.size,), 0.0, load_mw[shed_at], prices.shed)
    # forced moves (a unit outside its room) may leave a balance that nobody can take: the slack bus has it
    rest = model.add_columns((2,), 0.0, np.inf, 10 * prices.shed)
    # an overload before any outage is not run: load is shed instead
    before = cuts.pairs.outage == BASE_CASE
    price = np.where(before, 2 * prices.shed, _FURTHER_SHARE * prices.overload)
    slack = model.add_columns((cuts.limit.size,), 0.0, np.inf, price)
    branch, of_branch = np.unique(cuts.pairs.branch[~before], return_inverse=True)
    worst = model.add_columns((branch.size,), 0.0, np.inf, prices.overload)
    model.add_rows([(worst[of_branch, None], 1.0), (slack[~before, None], -1.0)], 0.0, np.inf, (of_branch.size,))
    bus, place = np.unique(np.concatenate([units.bus[movable], loads.bus[shed_at]]), return_inverse=True)
    injection = model.add_columns((bus.size,), -np.inf, np.inf)
    rows = model.add_rows([(injection[:, None], -1.0)], 0.0, 0.0, (bus.size,))
    at_unit, at_load = place[: movable.size], place[movable.size :]
    for columns, at, sign in ((up, at_unit, 1.0), (down, at_unit, -1.0), (shed, at_load, 1.0)):
        model.add_entries(rows[at], columns, np.full(at.size, sign))
    model.add_rows([(injection[None, :], 1.0), (rest[None, :1], 1.0), (rest[None, 1:], -1.0)], 0.0, 0.0, (1,))
    factor_mw = cuts.factor[:, bus] * cuts.mw[:, None]
    model.add_rows(
        [(np.broadcast_to(injection, factor_mw.shape), factor_mw), (slack[:, None], -1.0)],
        -np.inf,
        (cuts.limit - cuts.pairs.loading) * cuts.mw,
        (cuts.limit.size,),
    )
    solution = HighsSession(model, _TIME_LIMIT_S).solve_relaxation()
    if not solution.found:
        raise ProgramError(f"the redispatch programme is {solution.status}; lower the number of cuts")
    unit_mw, shed_mw = np.zeros(units.n), np.zeros(loads.n)
    unit_mw[movable] = solution.x[up] - solution.x[down]
    shed_mw[shed_at] = solution.x[shed]
    return Move(unit_mw, np.maximum(shed_mw, 0.0), np.maximum(solution.x[slack], 0.0) / cuts.mw)
