"""The search for a commitment: relaxation with lazy limits, dive, switches, and the MIP where it is small.

1. The LP relaxation is solved until it breaks no branch limit. Its objective bounds the problem from below.
2. A small MIP decides the binaries that the relaxation leaves open; what the relaxation decides clearly (the other
   binaries, outputs at a limit that it pays for) keeps its value there. Where too many are open, or the result is
   far from the bound, a dive fixes what is nearly whole, solves again, and so on.
3. The dispatch of a commitment prices each unit's state; switches that these prices promise to pay are tried in
   batches and kept if they do (`slots.unit_commitment.switches`).
4. If the gap is still too wide and the problem small enough, the whole MIP goes on from there.

Every number of steps is limited by a count, not by time, so that a search can be repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.grid.schedule import cheapest_schedule
from bos_core.objects.errors import ProgramError
from slots.linear_model import LinearModel, Session, Solution
from slots.unit_commitment.contract import Inputs, Outputs
from slots.unit_commitment.horizon import Horizon, relative_gap
from slots.unit_commitment.switches import SwitchRules, best_switches, switched

log = logging.getLogger(__name__)
WHOLE = 1e-6
"""A relaxed binary this near to 0 or 1 counts as decided."""
DIVE_UP, DIVE_DOWN = 0.6, 0.1
"""Relaxed values from which a dive rounds up, and to which it rounds down."""
DIVE_SHARE = 0.25
"""Share of the open binaries that a dive step rounds at least."""
CORE_EUR_PER_MWH = 0.2
"""Outputs that the relaxation holds at a limit for more than this stay there in the MIP over open binaries."""
CORE_GAP = 2.5
"""Gap of that MIP, as a multiple of the gap that is good enough: its own bound is higher."""

FAR_GAP = 5.0
"""From this multiple of the gap that is good enough on, a dive is tried besides that MIP."""
FAILURES_MAX = 4
"""So many vain switches in a row after that MIP end the search: most of what they could find, it has found."""
CORE_NODES_MAX = 5
"""Most nodes of that MIP: what the heuristics at its root do not find, many nodes hardly find either."""


@dataclass(frozen=True)
class SearchLimits:
    """When to stop.

    Attributes
    ----------
    gap : float
        Relative gap that is good enough.
    nodes_max : int
        Most nodes of one MIP.
    open_binaries_max : int
        Most binaries that the relaxation may leave open for a MIP to decide; a dive rounds more of them.
    mip_binaries_max : int
        Most binaries of a problem whose whole MIP is solved.
    switch_rounds_max : int
        Most batches of switches that are tried.
    network_rounds_max : int
        Most rounds of new branch limits, for the relaxation and again for each commitment.
    tolerance_mw, tolerance_share : float
        A limit counts as violated beyond both the absolute and the relative excess.
    rows_per_period_max : int
        Most new limits of one period in a round: the worst ones often mend the others.
    """

    gap: float
    nodes_max: int
    open_binaries_max: int
    mip_binaries_max: int
    switch_rounds_max: int
    network_rounds_max: int
    tolerance_mw: float
    tolerance_share: float
    rows_per_period_max: int


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
        self, inputs: Inputs, open_session: Callable[[LinearModel], Session], limits: SearchLimits
    ) -> None:
        self.horizon = Horizon(inputs)
        self.limits = limits
        self.model = self.horizon.model
        self.session = open_session(self.model)
        self.binary = np.flatnonzero(self.model.integer)

    def run(self) -> Outputs:
        """Search and translate the best commitment."""
        return self._outputs(self._decide(self._relax()), "")

    def relaxation_bound(self) -> float:
        """Return the objective of the relaxation: no commitment costs less."""
        return self._relax().objective

    def expect_limits(self, wanted: BoolArray) -> None:
        """Take branch limits (period, branch) into the first relaxation that are likely to matter."""
        self.horizon.limits.add(*np.nonzero(wanted))

    def evaluate(self, on: BoolArray, bound: float, note: str) -> Outputs:
        """Dispatch a commitment (period, unit) of the units with binary decisions and translate it."""
        free = self.horizon.free
        values = np.zeros(self.model.n_column)
        values[free.u] = on[:, free.unit]
        best = self._dispatch(values[self.binary], bound)
        if best is None:
            raise ProgramError("the commitment of the windows has no dispatch; keep this input and report it")
        return self._outputs(best, note)

    def _outputs(self, best: _Best, note: str) -> Outputs:
        status = (
            "optimal" if best.gap <= self.limits.gap else f"gap {best.gap:.2%} instead of {self.limits.gap:.2%}"
        )
        status = "; ".join(filter(None, [status, note]))
        fallback = "a solve reached its time limit" if self.session.timed_out else ""
        return self.horizon.outputs(best.solution.x, best.objective, best.bound, status, fallback)

    def _relax(self) -> Solution:
        """Solve the relaxation until it breaks no branch limit; bounds of the columns are the model's own."""
        solution = self.session.solve_relaxation()
        for _ in range(self.limits.network_rounds_max):
            if not solution.found or not self._add_violated(solution.x):
                break
            solution = self.session.solve_relaxation()
        if not solution.found:
            raise ProgramError(f"the relaxed commitment is {solution.status}; keep this input and report it")
        return solution

    def _add_violated(self, x: FloatArray) -> int:
        limits = self.limits
        period, branch = self.horizon.limits.violated(
            x, limits.tolerance_mw, limits.rows_per_period_max, limits.tolerance_share
        )
        self.horizon.limits.add(period, branch)
        return int(period.size)

    def _fix(self, columns: IntArray, values: FloatArray) -> None:
        self.session.set_bounds(columns, values, values)

    def _release(self, columns: IntArray) -> None:
        self.session.set_bounds(columns, self.model.lower[columns], self.model.upper[columns])

    def _decide(self, relaxed: Solution) -> _Best:
        """Find a whole commitment within the gap, or the best that the limits allow."""
        commitment = self._decide_open(relaxed)
        best = None if commitment is None else self._dispatch(commitment, relaxed.objective)
        if best is not None and best.gap > self.limits.gap:
            best = self._switch(best, 1, FAILURES_MAX)
        if best is None or best.gap > FAR_GAP * self.limits.gap:
            dived = self._dispatch(self._dive(relaxed), relaxed.objective)
            if dived is not None and dived.gap > self.limits.gap:
                dived = self._switch(dived, 8, self.limits.switch_rounds_max)
            best = min(filter(None, (best, dived)), key=lambda c: c.objective, default=None)
        if (best is None or best.gap > self.limits.gap) and self.binary.size <= self.limits.mip_binaries_max:
            best = self._whole(best, relaxed.objective)
        if best is None:
            raise ProgramError("no commitment found that keeps all hard limits; keep this input and report it")
        return best

    def _decide_open(self, relaxed: Solution) -> FloatArray | None:
        """Decide the open binaries of the relaxation in a small MIP; None if there are too many or it fails."""
        value = relaxed.x[self.binary]
        open_ = np.abs(value - np.round(value)) > WHOLE
        if not 0 < open_.sum() <= self.limits.open_binaries_max:
            return None
        settled, held = self.binary[~open_], self._held_outputs(relaxed)
        self._fix(settled, np.round(relaxed.x[settled]))
        self._fix(held, relaxed.x[held])
        nodes = min(CORE_NODES_MAX, self.limits.nodes_max)
        found = self.session.solve_integer(CORE_GAP * self.limits.gap, nodes)
        self._release(settled)
        self._release(held)
        log.debug("%d of %d binaries open: %s, %.6g", int(open_.sum()), open_.size, found.status, found.objective)
        return np.round(found.x[self.binary]) if found.found else None

    def _held_outputs(self, relaxed: Solution) -> IntArray:
        """Return the columns of output that stay at their limit; those next to open binaries move freely."""
        free, model = self.horizon.free, self.model
        columns = np.concatenate(self.horizon.plant.power)
        x, dear = relaxed.x[columns], CORE_EUR_PER_MWH * self.horizon.inputs.period_h
        at_limit = (x <= model.lower[columns] + 1e-9) | (x >= model.upper[columns] - 1e-9)
        held = np.zeros(model.n_column, bool)
        held[columns] = at_limit & (np.abs(relaxed.column_dual[columns]) > dear)
        value = relaxed.x[free.u]
        open_ = np.abs(value - np.round(value)) > WHOLE
        near = open_.copy()
        near[1:] |= open_[:-1]
        near[:-1] |= open_[1:]
        held[free.p[near]] = False
        return np.flatnonzero(held)

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
            missing = int(np.ceil(DIVE_SHARE * open_.sum())) - int((up | down).sum())
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
            self._add_violated(solution.x)
        self._release(self.binary)
        return self._nearest(value)

    def _nearest(self, value: FloatArray) -> FloatArray:
        """Return the whole commitment nearest to relaxed binaries that keeps all minimum times."""
        free, inputs = self.horizon.free, self.horizon.inputs
        relaxed = np.zeros(self.model.n_column)
        relaxed[self.binary] = value
        lasted = -(-np.abs(inputs.initial_h[free.unit]) // inputs.period_h)
        on = cheapest_schedule(
            0.5 - relaxed[free.u],
            np.where(free.range.first_stop_barred & (np.arange(free.shape[0]) == 0)[:, None], 1, free.known),
            free.initial_on > 0,
            np.zeros(free.unit.size, np.int64) if inputs.free_start else np.maximum(lasted, 1),
            free.min_up,
            free.min_down,
        )
        relaxed[free.u] = on
        return relaxed[self.binary]

    def _switch(self, best: _Best, batch: int, failures_max: int) -> _Best:
        """Try switches that the dispatch's prices promise to pay; halve the batch when it does not pay.

        The first batch has `batch` switches; `failures_max` batches in a row that do not pay end the search.
        """
        free = self.horizon.free
        rules = SwitchRules(
            known=np.where(self.model.integer[free.u], free.known, 0),
            initial_on=free.initial_on > 0,
            free_start=self.horizon.inputs.free_start,
            min_up=free.min_up,
            min_down=free.min_down,
            first_stop_barred=free.range.first_stop_barred,
        )
        failures = 0
        failed: set[tuple[int, int, int, bool]] = set()
        for round_ in range(self.limits.switch_rounds_max):
            on = best.solution.x[free.u] > 0.5
            least = max(self.limits.gap * abs(best.objective), 1.0) / 100
            promising = best_switches(on, best.solution.column_dual[free.u], rules, least)
            found = [s for s in promising if s.key not in failed][:batch]
            if not found or best.gap <= self.limits.gap or failures == failures_max:
                break
            values = np.zeros(self.model.n_column)
            values[free.u] = switched(on, found)
            tried = self._dispatch(values[self.binary], best.bound)
            better = tried is not None and tried.objective < best.objective - 1e-9 * abs(best.objective)
            log.debug("switches %d: %d promise %.0f, better: %s", round_, len(found), found[0].gain_eur, better)
            failures = 0 if better else failures + 1
            if tried is not None and better:
                best, batch = tried, batch * 2
            elif batch > 1:
                batch //= 2
            else:
                failed.add(found[0].key)
        return best

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
            if not solution.found or not (self._add_violated(solution.x) or plant.settle_rivals(solution.x)):
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
