"""The search for a commitment: relaxation with lazy limits, rounding, responses, and the MIP where it is small.

1. A dispatch without commitment shows the branch limits that matter and the units that clearly hold one state;
   only the other units get decisions (`slots.unit_commitment.outline`, `slots.unit_commitment.holding`).
2. The LP relaxation is solved until it breaks no branch limit. Its objective, less what held units would save at
   its prices, bounds the problem from below.
3. A dive fixes the binaries that are nearly whole, solves again, and so on, until all are whole.
4. One unit after the other is then given its best schedule (`slots.unit_commitment.responses`), those first that
   the dispatch's prices promise most of (`slots.unit_commitment.switches`).
5. If the gap is still too wide and the problem small enough, the whole MIP goes on from there.

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
from slots.unit_commitment.holding import holders, regret_eur
from slots.unit_commitment.horizon import Horizon, relative_gap
from slots.unit_commitment.outline import Outline, outline
from slots.unit_commitment.prescribed import prescribed, validate
from slots.unit_commitment.responses import PeriodCosts
from slots.unit_commitment.switches import SwitchRules, best_switches
from slots.unit_commitment.unit_schedules import unit_schedules

log = logging.getLogger(__name__)
TIMED_OUT = "a solve reached its time limit"
HOLD_EUR_PER_H = 8.0
"""A unit is held at first if every other schedule costs at least this much more, per hour of the horizon."""
LEAVE_OUT_EUR_PER_H = 110.0
"""A held unit has no columns at all if every other schedule costs at least this much more."""
REGRET_SHARE = 0.1
"""Share of the gap that is good enough that held units may take off the bound."""
WHOLE = 1e-6
"""A relaxed binary this near to 0 or 1 counts as decided."""
ROUGH_UP = 0.1
"""Use of a unit in a dispatch without commitment from which it runs where nobody betters the answer."""
DIVE_UP, DIVE_DOWN = 0.9, 0.2
"""Relaxed values from which a dive rounds up, and to which it rounds down."""
NEARER_ON = 0.5
"""Value from which being on is nearer than being off."""
DIVE_SHARE, DIVE_LEAST = 0.25, 8
"""Share and number of the open binaries that a dive step rounds at least."""
FAILED_RESPONSES_MAX = 3
"""After so many units in a row whose best schedule betters nothing, none is asked any more."""


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


@dataclass
class _Best:
    solution: Solution
    bound: float

    @property
    def objective(self) -> float:
        return self.solution.objective

    @property
    def gap(self) -> float:
        return relative_gap(self.solution.objective, self.bound)


class Search:
    """One horizon, one session."""

    def __init__(
        self,
        inputs: Inputs,
        open_session: Callable[[LinearModel], Session],
        limits: SearchLimits,
        known_outline: Outline | None = None,
    ) -> None:
        self.inputs, self.limits, self._open_session = inputs, limits, open_session
        self._known = prescribed(inputs)
        self._timed_out = False
        self.outline = known_outline or limits.outline(inputs, open_session)
        self._hours = inputs.load_p_mw.shape[0] * inputs.period_h
        left_out = holders(inputs, self._known, self.outline, LEAVE_OUT_EUR_PER_H * self._hours)
        self._build(left_out, self.outline.limits)

    def _build(self, held: IntArray, wanted: BoolArray) -> None:
        """Build the model with the commitment of `held` (period, unit) and branch limits that likely matter."""
        self.horizon = Horizon(self.inputs, held, self.outline.factors)
        self.horizon.limits.add(*np.nonzero(wanted))
        self.model = self.horizon.model
        self.session = self._open_session(self.model)
        self.binary = np.flatnonzero(self.model.integer)
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
        """Dispatch a horizon without binary decisions and translate it; `bound` is known to hold."""
        best = self._dispatch(np.zeros(0), bound)
        if best is None:
            raise self._failure("the known commitment has no dispatch")
        return self._outputs(best, note)

    def _outputs(self, best: _Best, note: str) -> Outputs:
        status = (
            "optimal" if best.gap <= self.limits.gap else f"gap {best.gap:.2%} instead of {self.limits.gap:.2%}"
        )
        status = "; ".join(filter(None, [status, note]))
        fallback = TIMED_OUT if self.timed_out else ""
        return self.horizon.outputs(best.solution.x, best.objective, best.bound, status, fallback)

    def _relax(self) -> tuple[Solution, float]:
        """Solve the relaxation until it breaks no branch limit; returns it and the bound that it proves.

        Held units that would rather not be held at its prices take what they would save off the bound. If that is
        too much, they are set free; those that were left out need a new model. Where the time limit ends this, the
        relaxation is missing and the bound that of a dispatch without commitment.
        """
        held = holders(self.inputs, self._known, self.outline, HOLD_EUR_PER_H * self._hours)
        while True:
            unit = self.horizon.free.unit
            still = (held[:, unit] != FREE).all(0)
            columns = self.horizon.free.u[:, still]
            self._fix(columns.ravel(), held[:, unit[still]].ravel().astype(float))
            solution = self._relax_limits()
            self._release(columns.ravel())
            if not solution.found:
                return solution, self._outline_bound()
            regret = regret_eur(self.inputs, self._known, held, self.horizon.prices(solution))
            total = float(regret.sum())
            log.debug(
                "%d of %d units held, relaxation %.8g, regret of %d %.6g",
                int(still.sum()),
                unit.size,
                solution.objective,
                int((regret > 0).sum()),
                total,
            )
            bearable = REGRET_SHARE * self.limits.gap * abs(solution.objective)
            if total <= bearable:
                return solution, solution.objective - total
            left_out = (regret > 0) & (self.horizon.known != FREE).all(0)
            held = np.where(regret > 0, self._known, held)
            if regret[left_out].sum() > bearable / 2:
                self._timed_out |= self.session.timed_out
                self._build(np.where(left_out, self._known, self.horizon.known), self.horizon.limits.generated)

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
        free, on = self.horizon.free, self.horizon.known.copy()
        on[:, free.unit] = self._nearest_on(np.nan_to_num(self.outline.used[:, free.unit]), ROUGH_UP)
        settled = Search(replace(self.inputs, fixed_on=on), self._open_session, self.limits, self.outline)
        outputs = settled.dispatch(bound, "units run as in a dispatch without commitment")
        return replace(outputs, fallback=TIMED_OUT)

    def _fix(self, columns: IntArray, values: FloatArray) -> None:
        self.session.set_bounds(columns, values, values)

    def _release(self, columns: IntArray) -> None:
        self.session.set_bounds(columns, self.model.lower[columns], self.model.upper[columns])

    def _decide(self, relaxed: Solution, bound: float) -> _Best:
        """Find a whole commitment within the gap, or the best that the limits allow."""
        best = self._dispatch(self._dive(relaxed), bound)
        if best is None:
            best = self._dispatch(self._nearest(relaxed.x[self.binary]), bound)
        if best is not None and best.gap > self.limits.gap:
            best = self._respond(best)
        if (best is None or best.gap > self.limits.gap) and self.binary.size <= self.limits.mip_binaries_max:
            best = self._whole(best, bound)
        if best is None:
            raise self._failure("no commitment found that keeps all hard limits")
        return best

    def _dive(self, relaxed: Solution) -> FloatArray:
        """Round the relaxation step by step, solving after each; returns values of the binaries.

        Roundings of one step may contradict each other's minimum times: then the nearest schedule that keeps
        them is taken, which also ends the dive.
        """
        value = relaxed.x[self.binary]
        fixed = np.zeros(self.binary.size, bool)
        while True:
            open_ = (np.abs(value - np.round(value)) > WHOLE) & ~fixed
            if not open_.any():
                break
            log.debug("dive: %d of %d binaries are open", int(open_.sum()), open_.size)
            up, down = open_ & (value >= DIVE_UP), open_ & (value <= DIVE_DOWN)
            least = max(int(np.ceil(DIVE_SHARE * open_.sum())), DIVE_LEAST)
            missing = least - int((up | down).sum())
            if missing > 0:
                rest = np.flatnonzero(open_ & ~up & ~down)
                up[rest[np.argsort(-value[rest], kind="stable")][:missing]] = True
            self._fix(self.binary[up], np.ones(int(up.sum())))
            self._fix(self.binary[down], np.zeros(int(down.sum())))
            fixed |= up | down
            solution = self.session.solve_relaxation()
            if not solution.found:
                break
            value = solution.x[self.binary]
            self.limits.add_violated(self.horizon.limits, solution.x)
        self._release(self.binary)
        return self._nearest(value)

    def _nearest(self, value: FloatArray) -> FloatArray:
        """Return the whole commitment nearest to relaxed binaries that keeps all minimum times."""
        free = self.horizon.free
        nearest = np.zeros(self.model.n_column)
        nearest[self.binary] = value
        nearest[free.u] = self._nearest_on(nearest[free.u], NEARER_ON)
        return nearest[self.binary]

    def _nearest_on(self, value: FloatArray, up: float) -> BoolArray:
        """Return the commitment nearest to relaxed values that keeps all minimum times, both (period, free).

        From `up` on, being on is nearer.
        """
        free, inputs = self.horizon.free, self.horizon.inputs
        lasted = -(-np.abs(inputs.initial_h[free.unit]) // inputs.period_h)
        return cheapest_schedule(
            up - value,
            np.where(free.range.first_stop_barred & (np.arange(free.shape[0]) == 0)[:, None], 1, free.known),
            free.initial_on > 0,
            np.zeros(free.unit.size, np.int64) if inputs.free_start else np.maximum(lasted, 1),
            free.min_up,
            free.min_down,
        )

    def _respond(self, best: _Best) -> _Best:
        """Give one unit after the other its best schedule, those first that the prices promise most of.

        Each unit is asked once before any is asked again.
        """
        free, limits, rules = self.horizon.free, self.limits, self._rules()
        asked: set[int] = set()
        improved, failed = False, 0
        for round_ in range(limits.responses_max):
            on = best.solution.x[free.u] > 0.5
            least = max(limits.gap * abs(best.objective), 1.0) / 100
            promising = best_switches(on, best.solution.column_dual[free.u], rules, least)
            switch = next((s for s in promising if s.unit not in asked), None)
            if switch is None and improved and promising:
                asked, improved, switch = set(), False, promising[0]
            if switch is None or best.gap <= limits.gap or failed == FAILED_RESPONSES_MAX:
                break
            asked.add(switch.unit)
            failed += 1
            own = self._best_schedule(best, on, switch.unit)
            if own is None or (own == on[:, switch.unit]).all():
                continue
            tried = self._dispatch(self._binaries(_with(on, switch.unit, own)), best.bound)
            better = tried is not None and tried.objective < best.objective - 1e-9 * abs(best.objective)
            log.debug("response %d promises %.0f, better: %s", round_, switch.gain_eur, better)
            if tried is not None and better:
                best, improved, failed = tried, True, 0
        return best

    def _best_schedule(self, best: _Best, on: BoolArray, unit: int) -> BoolArray | None:
        """Return the best schedule of a free unit while all others keep theirs, (period,); None if unknown."""
        free, units = self.horizon.free, self.inputs.grid.units
        known = free.known[:, unit].copy()
        if free.range.first_stop_barred[unit]:
            known[0] = 1
        solutions = []
        for state in (False, True):
            path = np.where(known == FREE, state, known == 1)
            same = bool((path == on[:, unit]).all())
            solution = best.solution if same else self._trial(_with(on, unit, path))
            if solution is None:
                return None
            solutions.append(solution)
        if self.model.n_column > self._period_costs.n_column:
            self._period_costs = self._split()
        off, running = (self._period_costs.of(solution.x) for solution in solutions)
        worth = running - off + units.minimum_output_eur_per_h[free.unit[unit]] * self.inputs.period_h
        found = unit_schedules(self.inputs, free.unit[unit : unit + 1], known[:, None], worth[:, None])
        return found.on[:, 0] if np.isfinite(found.least_eur[0]) else None

    def _rules(self) -> SwitchRules:
        free = self.horizon.free
        return SwitchRules(
            known=free.known,
            initial_on=free.initial_on > 0,
            free_start=self.horizon.inputs.free_start,
            min_up=free.min_up,
            min_down=free.min_down,
            first_stop_barred=free.range.first_stop_barred,
        )

    def _split(self) -> PeriodCosts:
        free = self.horizon.free
        fixed = [columns.ravel() for columns in (free.u, free.v, free.w)]
        return PeriodCosts(self.model, self.horizon.balance, np.concatenate(fixed))

    def _binaries(self, on: BoolArray) -> FloatArray:
        """Return the values of the binaries of a commitment (period, free)."""
        values = np.zeros(self.model.n_column)
        values[self.horizon.free.u] = on
        return values[self.binary]

    def _trial(self, on: BoolArray) -> Solution | None:
        """Dispatch a commitment (period, free) with the branch limits at hand; None if impossible."""
        self._fix(self.binary, self._binaries(on))
        solution = self.session.solve_relaxation()
        self._release(self.binary)
        return solution if solution.found else None

    def _whole(self, best: _Best | None, bound: float) -> _Best | None:
        """Go on with the whole MIP; the better one of the old and the new commitment."""
        start = None
        if best is not None:
            start = np.append(best.solution.x, np.zeros(self.model.n_column - best.solution.x.size))
        found = self.session.solve_integer(self.limits.gap, self.limits.nodes_max, start)
        bound = max(bound, found.bound)
        better = self._dispatch(np.round(found.x[self.binary]), bound) if found.found else None
        candidates = [c for c in (best, better) if c is not None]
        if not candidates:
            return None
        return _Best(min(candidates, key=lambda c: c.objective).solution, bound)

    def _dispatch(self, commitment: FloatArray, bound: float) -> _Best | None:
        """Solve the rest with the binaries fixed, with all branch limits that matter; None if impossible."""
        self._fix(self.binary, commitment)
        plant = self.horizon.plant
        solution = self._solve_directions()
        for _ in range(self.limits.network_rounds_max):
            if not solution.found:
                break
            new = self.limits.add_violated(self.horizon.limits, solution.x)
            if not new and not plant.settle_rivals(solution.x):
                break
            solution = self._solve_directions()
        self._release(self.binary)
        if not solution.found:
            return None
        return _Best(solution, bound)

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
    """Return a commitment (period, free) with the schedule of one unit replaced."""
    changed = on.copy()
    changed[:, unit] = path
    return changed
