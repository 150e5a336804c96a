"""The search for a commitment: schedules priced one by one, rounding, responses, and the MIP where it is small.

1. A dispatch without commitment shows the branch limits that matter and prices to begin with
   (`slots.unit_commitment.outline`).
2. Units that depend on nothing but prices start with the schedules that are best at and near these. The LP
   relaxation is solved until it breaks no branch limit; units that find a better schedule at its prices get it as
   a choice, and so on (`slots.unit_commitment.schedule_choice`). The cost, less what units would still save,
   bounds the problem from below. Other units have binaries (`slots.unit_commitment.formulation`).
3. A dive settles the units that are nearly decided, solves again, and so on, until all are.
4. One unit after the other is then given its best schedule (`slots.unit_commitment.responses`), those first that
   the dispatch's prices promise most of.
5. If the gap is still too wide, states that the bound rules out are fixed, and the MIP of the rest goes on from
   there if it is small enough.

Every number of steps is limited by a count, not by time, so that a search can be repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.grid.schedule import cheapest_schedule
from bos_core.objects.errors import ProgramError
from slots.linear_model import LinearModel, Session, Solution
from slots.network_limits import NetworkLimits
from slots.unit_commitment.contract import FREE, Inputs, Outputs
from slots.unit_commitment.horizon import Horizon, relative_gap
from slots.unit_commitment.outline import Outline, outline
from slots.unit_commitment.prescribed import prescribed, validate
from slots.unit_commitment.responses import PeriodCosts
from slots.unit_commitment.schedule_choice import Offers
from slots.unit_commitment.switches import SwitchRules, best_switches
from slots.unit_commitment.unit_schedules import unit_schedules

log = logging.getLogger(__name__)
TIMED_OUT = "a solve reached its time limit"
REGRET_SHARE = 0.1
"""Share of the gap that is good enough that schedules not yet found may take off the bound."""
PRICINGS_MAX = 60
"""Most times that units are asked for better schedules at the prices of a relaxation."""
SCALES = (0.9, 1.1)
"""Units begin with the schedules that are best at the outline's prices, and at these scaled."""
WHOLE = 1e-6
"""A relaxed binary this near to 0 or 1 counts as decided."""
ROUGH_UP = 0.1
"""Use of a unit in a dispatch without commitment from which it runs where nobody betters the answer."""
SETTLE_UP, SETTLE_SHARE, SETTLE_LEAST = 0.8, 0.4, 2
"""Share from which a dive settles a schedule; share and number of the open units that it settles at least."""
ROUND_UP, ROUND_DOWN, ROUND_SHARE, ROUND_LEAST = 0.9, 0.1, 0.25, 8
"""Values from which a dive rounds binaries up and down; share and number of open ones that it rounds at least."""
NEARER_ON = 0.5
"""Value from which being on is nearer than being off."""
FAILED_RESPONSES_MAX, FAILED_RESPONSES_SMALL_MAX, SMALL_ROWS = 3, 20, 15_000
"""After so many units in a row whose best schedule betters nothing, none is asked any more. A model of so few rows
takes so little time that more units may be asked."""


@dataclass(frozen=True)
class SearchLimits:
    """When to stop.

    Attributes
    ----------
    gap : float
        Relative gap that is good enough.
    nodes_max : int
        Most nodes of one MIP.
    mip_binaries_max : int
        Most binaries of a problem whose whole MIP is solved.
    responses_max : int
        How often a unit is given its best schedule.
    network_rounds_max : int
        Most rounds of new branch limits, for the relaxation and again for each commitment.
    tolerance_mw, tolerance_share : float
        A limit counts as violated beyond both the absolute and the relative excess.
    rows_per_period_max : int
        Most new limits of one period in a round: the worst ones often mend the others.
    """

    gap: float
    nodes_max: int
    mip_binaries_max: int
    responses_max: int
    network_rounds_max: int
    tolerance_mw: float
    tolerance_share: float
    rows_per_period_max: int

    def add_violated(self, network: NetworkLimits, x: FloatArray) -> int:
        """Add the branch limits that a solution breaks; returns how many."""
        period, branch = network.violated(x, self.tolerance_mw, self.rows_per_period_max, self.tolerance_share)
        network.add(period, branch)
        return int(period.size)

    def outline(self, inputs: Inputs, open_session: Callable[[LinearModel], Session]) -> Outline:
        """Dispatch a valid horizon without commitment."""
        validate(inputs)
        return outline(inputs, prescribed(inputs), open_session, self.add_violated, self.network_rounds_max)


@dataclass(frozen=True, eq=False)
class _Best:
    """A dispatch of a whole commitment; `on` is (period, decided), `horizon` the model that it is of."""

    on: BoolArray
    solution: Solution
    bound: float
    horizon: Horizon

    @property
    def objective(self) -> float:
        return self.solution.objective

    @property
    def gap(self) -> float:
        return relative_gap(self.solution.objective, self.bound)


class Search:
    """One horizon, one session.

    The decided units of a commitment (period, decided) are those that choose among schedules, then those with
    binaries.

    Parameters
    ----------
    known_outline : Outline, optional
        Made from the inputs where it is missing.
    by_schedules : bool
        Let units that depend on nothing but prices choose among schedules; else all have binaries.
    """

    def __init__(
        self,
        inputs: Inputs,
        open_session: Callable[[LinearModel], Session],
        limits: SearchLimits,
        known_outline: Outline | None = None,
        *,
        by_schedules: bool = True,
    ) -> None:
        self.inputs, self.limits, self._open_session = inputs, limits, open_session
        self._known = prescribed(inputs)
        self._timed_out = False
        self.outline = known_outline or limits.outline(inputs, open_session)
        self._prices = self.outline.prices(inputs.period_h)
        self.horizon = Horizon(inputs, self._known, self.outline.factors, self._prices if by_schedules else None)
        self.horizon.limits.add(*np.nonzero(self.outline.limits))
        self.model, self.choice, self.free = self.horizon.model, self.horizon.choice, self.horizon.free
        self.session = open_session(self.model)
        self.binary = self.free.u[self.free.known == FREE]
        self.decided = np.concatenate([self.choice.unit, self.free.unit])
        for factor in SCALES:
            scaled = replace(self._prices, energy=factor * self._prices.energy)
            on = self.choice.priced.best(scaled).on
            self.choice.take(np.arange(self.choice.unit.size), np.ascontiguousarray(on.T))
        self._hold_agreed()
        self._period_costs = self._split()

    def run(self) -> Outputs:
        """Search and translate the best commitment."""
        relaxed, bound = self._relax()
        return self._outputs(self._decide(relaxed, bound), "") if relaxed.found else self._decide_roughly(bound)

    def relaxation_bound(self) -> float:
        """Return what the relaxation proves: no commitment costs less."""
        return self._relax()[1]

    @property
    def timed_out(self) -> bool:
        """Whether any solve was ended by its time limit."""
        return self._timed_out or self.session.timed_out

    def dispatch(self, bound: float, note: str) -> Outputs:
        """Dispatch a horizon without decisions and translate it; `bound` is known to hold."""
        best = self._dispatch(np.zeros((self.inputs.load_p_mw.shape[0], 0), bool), bound)
        if best is None:
            raise self._failure("the known commitment has no dispatch")
        return self._outputs(best, note)

    def _outputs(self, best: _Best, note: str) -> Outputs:
        status = (
            "optimal" if best.gap <= self.limits.gap else f"gap {best.gap:.2%} instead of {self.limits.gap:.2%}"
        )
        status = "; ".join(filter(None, [status, note]))
        fallback = TIMED_OUT if self.timed_out else ""
        return best.horizon.outputs(best.solution.x, best.objective, best.bound, status, fallback)

    def _hold_agreed(self) -> None:
        """Keep the columns in place about which all schedules of a unit agree."""
        self.session.set_bounds(*self.choice.bounds())

    def _relax(self) -> tuple[Solution, float]:
        """Solve the relaxation until no unit finds a much better schedule; returns it and the bound it proves.

        Where the time limit ends this, the relaxation is missing and the bound that of a dispatch without
        commitment.
        """
        bound = -np.inf
        for _ in range(PRICINGS_MAX):
            solution = self._relax_limits()
            if not solution.found:
                return solution, max(bound, self._outline_bound())
            prices = self.horizon.prices(solution)
            offers = self.choice.offers(prices)
            total = float(offers.regret_eur.sum())
            if solution.objective - total > bound:
                bound, self._prices = solution.objective - total, prices
            log.debug(
                "relaxation %.8g, regret of %d units %.6g, %d schedules",
                solution.objective,
                int((offers.regret_eur > 0).sum()),
                total,
                self.choice.owner.size,
            )
            bearable = REGRET_SHARE * self.limits.gap * abs(solution.objective)
            if total <= bearable or not self._take(offers, bearable / self.choice.unit.size):
                break
        return solution, bound

    def _take(self, offers: Offers, least_eur: float) -> bool:
        """Let units choose what they regret by some amount not to have; returns whether that is new."""
        count = self.choice.owner.size
        who = np.flatnonzero(offers.regret_eur > least_eur)
        self.choice.take(who, offers.on.T[who])
        self._hold_agreed()
        return self.choice.owner.size > count

    def _relax_limits(self) -> Solution:
        """Solve the relaxation until it breaks no branch limit."""
        solution = self.session.solve_relaxation()
        for _ in range(self.limits.network_rounds_max):
            if not solution.found or not self.limits.add_violated(self.horizon.limits, solution.x):
                break
            solution = self.session.solve_relaxation()
        if not solution.found and not self.session.timed_out:
            raise self._failure(f"the relaxed commitment is {solution.status}")
        return solution

    def _failure(self, problem: str) -> ProgramError:
        step = "give more time_limit_s" if self.timed_out else "keep this input and report it"
        return ProgramError(f"{problem}; {step}")

    def _outline_bound(self) -> float:
        known = self.outline.bound_eur
        return known if np.isfinite(known) else self.limits.outline(self.inputs, self._open_session).bound_eur

    def _decide_roughly(self, bound: float) -> Outputs:
        """Commit units as the dispatch without commitment uses them: the answer where the time is too short."""
        free, on = self.free, self.horizon.known.copy()
        on[:, self.choice.unit] = self.choice.on[: self.choice.unit.size].T
        on[:, free.unit] = self._nearest_on(np.nan_to_num(self.outline.used[:, free.unit]), ROUGH_UP)
        settled = Search(replace(self.inputs, fixed_on=on), self._open_session, self.limits, self.outline)
        outputs = settled.dispatch(bound, "units run as in a dispatch without commitment")
        return replace(outputs, fallback=TIMED_OUT)

    def _fix(self, columns: IntArray, values: FloatArray) -> None:
        self.session.set_bounds(columns, values, values)

    def _release(self, columns: IntArray) -> None:
        self.session.set_bounds(columns, self.model.lower[columns], self.model.upper[columns])

    def _commit(self, on: BoolArray) -> None:
        """Hold the model at a commitment (period, decided)."""
        n = self.choice.unit.size
        count = self.choice.owner.size
        place = self.choice.take(np.arange(n), np.ascontiguousarray(on[:, :n].T))
        if self.choice.owner.size > count:
            self._hold_agreed()
        chosen = np.isin(np.arange(self.choice.owner.size), place).astype(float)
        self._fix(self.choice.column[n:], chosen[n:])
        self._fix(self.free.u.ravel(), on[:, n:].ravel().astype(float))

    def _uncommit(self) -> None:
        """Leave all decisions open again."""
        self._release(self.choice.column[self.choice.unit.size :])
        self._release(self.free.u.ravel())

    def _decide(self, relaxed: Solution, bound: float) -> _Best:
        """Find a whole commitment within the gap, or the best that the limits allow."""
        best = self._dispatch(self._dive(relaxed), bound)
        if best is None:
            best = self._dispatch(self._whole_near(relaxed), bound)
        if best is not None and best.gap > self.limits.gap:
            best = self._respond(best)
        if best is None or best.gap > self.limits.gap:
            best = self._finish(best, bound)
        if best is None:
            raise self._failure("no commitment found that keeps all hard limits")
        return best

    def _whole_near(self, relaxed: Solution) -> BoolArray:
        """Return the commitment (period, decided) nearest to a relaxation that keeps all minimum times."""
        return np.column_stack([self._likeliest(relaxed), self._nearest_on(relaxed.x[self.free.u], NEARER_ON)])

    def _likeliest(self, relaxed: Solution) -> BoolArray:
        """Return the schedule with the largest share of each unit that chooses, (period, choosing)."""
        return self.choice.on[self._largest(self.choice.shares(relaxed.x))].T

    def _largest(self, share: FloatArray) -> IntArray:
        """Return the place of the largest share of each unit that chooses, (choosing,)."""
        order = np.lexsort((-share, self.choice.owner))
        return order[np.searchsorted(self.choice.owner[order], np.arange(self.choice.unit.size))]

    def _dive(self, relaxed: Solution) -> BoolArray:
        """Settle the relaxation step by step, solving after each; returns a commitment (period, decided).

        Units still open may take better schedules at the prices of a step. Roundings of binaries in one step may
        contradict each other's minimum times: the nearest schedules that keep them are taken in the end.
        """
        solution = relaxed
        settled = np.zeros(self.choice.unit.size, bool)
        fixed = np.zeros(self.binary.size, bool)
        while True:
            chosen = self._settle_schedules(solution, settled)
            rounded = self._round_binaries(solution, fixed)
            if not chosen and not rounded:
                break
            found = self.session.solve_relaxation()
            if not found.found:
                break
            solution = found
            offers = self.choice.offers(self.horizon.prices(solution))
            self.limits.add_violated(self.horizon.limits, solution.x)
            least = REGRET_SHARE * self.limits.gap * abs(solution.objective) / max(settled.size, 1)
            self._take(Offers(offers.on, np.where(settled, 0.0, offers.regret_eur)), least)
        self._uncommit()
        return self._whole_near(solution)

    def _settle_schedules(self, solution: Solution, settled: BoolArray) -> int:
        """Fix the schedules of units that are nearly decided, at least some; returns how many.

        Large units come first: the smaller ones can make up for them afterwards.
        """
        choice = self.choice
        share = choice.shares(solution.x)
        largest = self._largest(share)
        most = share[largest]
        open_ = ~settled & (most < 1.0 - WHOLE)
        if not open_.any():
            return 0
        least = max(int(np.ceil(SETTLE_SHARE * open_.sum())), SETTLE_LEAST)
        weight = np.where(open_, most * self.inputs.grid.units.p_mw_max[choice.unit], -1.0)
        first = np.argsort(-weight, kind="stable")[:least]
        now = open_ & (most >= SETTLE_UP)
        now[first] |= open_[first]
        log.debug("dive: %d units are open, %d settled", int(open_.sum()), int(now.sum()))
        settled |= now
        of_settled = np.flatnonzero(now[choice.owner] & (choice.column >= 0))
        self._fix(choice.column[of_settled], np.isin(of_settled, largest).astype(float))
        return int(now.sum())

    def _round_binaries(self, solution: Solution, fixed: BoolArray) -> int:
        """Fix the binaries that are nearly whole, at least some; returns how many."""
        value = solution.x[self.binary]
        open_ = (np.abs(value - np.round(value)) > WHOLE) & ~fixed
        if not open_.any():
            return 0
        log.debug("dive: %d of %d binaries are open", int(open_.sum()), open_.size)
        up, down = open_ & (value >= ROUND_UP), open_ & (value <= ROUND_DOWN)
        least = max(int(np.ceil(ROUND_SHARE * open_.sum())), ROUND_LEAST)
        missing = least - int((up | down).sum())
        if missing > 0:
            rest = np.flatnonzero(open_ & ~up & ~down)
            up[rest[np.argsort(-value[rest], kind="stable")][:missing]] = True
        self._fix(self.binary[up], np.ones(int(up.sum())))
        self._fix(self.binary[down], np.zeros(int(down.sum())))
        fixed |= up | down
        return int((up | down).sum())

    def _nearest_on(self, value: FloatArray, up: float) -> BoolArray:
        """Return the commitment nearest to relaxed values that keeps all minimum times, both (period, free).

        From `up` on, being on is nearer.
        """
        free, inputs = self.free, self.inputs
        lasted = -(-np.abs(inputs.initial_h[free.unit]) // inputs.period_h)
        return cheapest_schedule(
            up - value,
            self._free_known(),
            free.initial_on > 0,
            np.zeros(free.unit.size, np.int64) if inputs.free_start else np.maximum(lasted, 1),
            free.min_up,
            free.min_down,
        )

    def _free_known(self) -> IntArray:
        """Return what is known of the units with binaries, first stops that are barred included."""
        known = self.free.known.copy()
        known[0] = np.where(self.free.range.first_stop_barred, 1, known[0])
        return known

    def _respond(self, best: _Best) -> _Best:
        """Give one unit after the other its best schedule, those first that the prices promise most of.

        Each unit is asked once before any is asked again.
        """
        limits = self.limits
        asked: set[int] = set()
        improved, failed = False, 0
        failed_max = FAILED_RESPONSES_SMALL_MAX if self.model.n_row <= SMALL_ROWS else FAILED_RESPONSES_MAX
        for round_ in range(limits.responses_max):
            promising = self._promising(best, max(limits.gap * abs(best.objective), 1.0) / 100)
            unit = next((unit for _, unit in promising if unit not in asked), None)
            if unit is None and improved and promising:
                asked, improved, unit = set(), False, promising[0][1]
            if unit is None or best.gap <= limits.gap or failed == failed_max:
                break
            asked.add(unit)
            failed += 1
            own = self._best_schedule(best, unit)
            if own is None or (own == best.on[:, unit]).all():
                continue
            tried = self._dispatch(_with(best.on, unit, own), best.bound)
            better = tried is not None and tried.objective < best.objective - 1e-9 * abs(best.objective)
            log.debug("response %d: better: %s", round_, better)
            if tried is not None and better:
                best, improved, failed = tried, True, 0
        return best

    def _promising(self, best: _Best, least_eur: float) -> list[tuple[float, int]]:
        """Return what a better schedule may gain at most, and for which decided unit, the most first."""
        n = self.choice.unit.size
        place = self.choice.take(np.arange(n), np.ascontiguousarray(best.on[:, :n].T))
        gain = self.choice.offers(self.horizon.prices(best.solution), place).regret_eur
        found = [(float(gain[i]), int(i)) for i in np.flatnonzero(gain >= least_eur)]
        price = best.solution.column_dual[self.free.u]
        switches = best_switches(best.on[:, n:], price, self._rules(), least_eur)
        return sorted([*found, *((s.gain_eur, n + s.unit) for s in switches)], reverse=True)

    def _best_schedule(self, best: _Best, unit: int) -> BoolArray | None:
        """Return the best schedule of a decided unit while all others keep theirs, (period,); None if unknown."""
        units = self.inputs.grid.units
        known = np.column_stack([self.choice.priced.known, self._free_known()])[:, unit]
        solutions = []
        for state in (False, True):
            path = np.where(known == FREE, state, known == 1)
            same = bool((path == best.on[:, unit]).all())
            solution = best.solution if same else self._trial(_with(best.on, unit, path))
            if solution is None:
                return None
            solutions.append(solution)
        if self.model.n_column > self._period_costs.n_column:
            self._period_costs = self._split()
        off, running = (self._period_costs.of(solution.x) for solution in solutions)
        worth = running - off + units.minimum_output_eur_per_h[self.decided[unit]] * self.inputs.period_h
        found = unit_schedules(self.inputs, self.decided[unit : unit + 1], known[:, None], worth[:, None])
        return found.on[:, 0] if np.isfinite(found.least_eur[0]) else None

    def _rules(self) -> SwitchRules:
        free = self.free
        return SwitchRules(
            known=free.known,
            initial_on=free.initial_on > 0,
            free_start=self.inputs.free_start,
            min_up=free.min_up,
            min_down=free.min_down,
            first_stop_barred=free.range.first_stop_barred,
        )

    def _split(self) -> PeriodCosts:
        free, choice = self.free, self.choice
        fixed = [columns.ravel() for columns in (free.u, free.v, free.w, choice.u)]
        fixed.append(choice.column[choice.unit.size :])
        return PeriodCosts(self.model, self.horizon.balance, np.concatenate(fixed))

    def _trial(self, on: BoolArray) -> Solution | None:
        """Dispatch a commitment (period, decided) with the branch limits at hand; None if impossible."""
        self._commit(on)
        solution = self.session.solve_relaxation()
        self._uncommit()
        return solution if solution.found else None

    def _finish(self, best: _Best | None, bound: float) -> _Best | None:
        """Go on with the MIP of what the bound leaves open, if it is small; the better one of old and new."""
        search, left_out_eur = self._exactly(best, bound) if self.choice.unit.size else (self, np.inf)
        if search.binary.size > self.limits.mip_binaries_max:
            return best
        found = search._whole(best, bound, left_out_eur)
        self._timed_out |= search.session.timed_out
        return found

    def _exactly(self, best: _Best | None, bound: float) -> tuple[Search, float]:
        """Return a search with binaries for all units that leaves some states out, and what these cost at least.

        They are those at whose cost, by the prices of the bound, the best commitment is already within the gap.
        """
        known, left_out_eur = self._known.copy(), np.inf
        if best is not None:
            choice = self.choice
            found = choice.priced.best(self._prices)
            through_eur = bound + found.through_eur - found.least_eur
            left_out_eur = best.objective - self.limits.gap * abs(best.objective)
            dear = through_eur > left_out_eur
            known[:, choice.unit] = np.where(dear[:, 0], 1, np.where(dear[:, 1], 0, known[:, choice.unit]))
        outline = replace(self.outline, limits=self.horizon.limits.generated)
        inputs = replace(self.inputs, fixed_on=known)
        return Search(inputs, self._open_session, self.limits, outline, by_schedules=False), left_out_eur

    def _whole(self, best: _Best | None, bound: float, left_out_eur: float) -> _Best | None:
        """Solve the whole MIP; the better one of the old and the new commitment.

        No commitment that the MIP leaves out costs less than `left_out_eur`.
        """
        start = None
        if best is not None:
            known = np.zeros(self._known.shape, bool)
            known[:, np.concatenate([best.horizon.choice.unit, best.horizon.free.unit])] = best.on
            start = self._dispatch(known[:, self.decided], bound)
        first = None if start is None else _longer(start.solution.x, self.model.n_column)
        found = self.session.solve_integer(self.limits.gap, self.limits.nodes_max, first)
        bound = max(bound, min(found.bound, left_out_eur))
        better = self._dispatch(found.x[self.free.u] > 0.5, bound) if found.found else None
        candidates = [replace(c, bound=bound) for c in (best, better) if c is not None]
        return min(candidates, key=lambda c: c.objective, default=None)

    def _dispatch(self, on: BoolArray, bound: float) -> _Best | None:
        """Dispatch a commitment (period, decided) with all branch limits that matter; None if impossible."""
        self._commit(on)
        plant = self.horizon.plant
        solution = self._solve_directions()
        for _ in range(self.limits.network_rounds_max):
            if not solution.found:
                break
            new = self.limits.add_violated(self.horizon.limits, solution.x)
            if not new and not plant.settle_rivals(solution.x):
                break
            solution = self._solve_directions()
        self._uncommit()
        return _Best(on, solution, bound, self.horizon) if solution.found else None

    def _solve_directions(self) -> Solution:
        """Solve with the commitment fixed; storages and HVDC lines that ran both ways get one direction."""
        directions = self.horizon.plant.directions
        if directions.size:
            self._release(directions)
            mixed = self.session.solve_integer(self.limits.gap, self.limits.nodes_max)
            if mixed.found:
                self._fix(directions, np.round(mixed.x[directions]))
        solution = self.session.solve_relaxation()
        if directions.size:
            self._release(directions)
        return solution


def _with(on: BoolArray, unit: int, path: BoolArray) -> BoolArray:
    """Return a commitment (period, decided) with the schedule of one unit replaced."""
    changed = on.copy()
    changed[:, unit] = path
    return changed


def _longer(x: FloatArray, size: int) -> FloatArray:
    """Return a solution with zeros for columns that were added since."""
    return np.append(x, np.zeros(size - x.size))
