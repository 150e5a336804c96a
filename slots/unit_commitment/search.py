"""The search for a commitment: relaxation with lazy limits, a reduced MIP, the full MIP if the gap asks for it.

1. The LP relaxation is solved until it breaks no branch limit. Its objective bounds the problem from below.
2. What the relaxation leaves whole is fixed, the rest is decided by a MIP (relaxation induced neighbourhood,
   Berthold 2014). In tight formulations this is mostly within the gap already, by the bound of step 1.
3. If it is not, the full MIP goes on from there, to the gap or the node limit.
4. With the commitment fixed, the dispatch is solved again with the branch limits that it breaks; new limits go
   back into step 3 while they cost more than the gap allows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import FloatArray, IntArray
from bos_core.objects.errors import ProgramError
from slots.linear_model import LinearModel, Session, Solution
from slots.unit_commitment.contract import Inputs, Outputs
from slots.unit_commitment.horizon import Horizon, relative_gap
from slots.unit_commitment.rounding import rounded_commitment

log = logging.getLogger(__name__)
WHOLE = 1e-6
"""A relaxed binary this near to 0 or 1 counts as decided."""


@dataclass(frozen=True)
class SearchLimits:
    """When to stop.

    Attributes
    ----------
    gap : float
        Relative gap that is good enough.
    nodes_max : int
        Most nodes of one MIP.
    network_rounds_max : int
        Most rounds of new branch limits, for the relaxation and again for the integer solution.
    tolerance_mw, tolerance_share : float
        A limit counts as violated beyond both the absolute and the relative excess.
    rows_per_period_max : int
        Most new limits of one period in a round: the worst ones often mend the others.
    """

    gap: float
    nodes_max: int
    network_rounds_max: int
    tolerance_mw: float
    tolerance_share: float
    rows_per_period_max: int


@dataclass
class _Best:
    x: FloatArray
    objective: float
    bound: float


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
        self.fallback = ""

    def run(self) -> Outputs:
        """Search and translate the best commitment."""
        relaxed = self._relax()
        bound = relaxed.objective
        best = self._decide(relaxed, bound)
        gap = relative_gap(best.objective, best.bound)
        status = (
            "optimal" if gap <= self.limits.gap else f"gap {gap:.2%} is above the wanted {self.limits.gap:.2%}"
        )
        return self.horizon.outputs(best.x, best.objective, best.bound, status, self.fallback)

    def _relax(self) -> Solution:
        """Solve the relaxation until it breaks no branch limit; bounds of the columns are the model's own."""
        solution = self._solve_relaxation()
        for round_ in range(self.limits.network_rounds_max):
            count = self._add_violated(solution.x)
            if not count:
                break
            log.debug("relaxation round %d: %d new branch limits", round_, count)
            solution = self._solve_relaxation()
        return solution

    def _solve_relaxation(self) -> Solution:
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

    def _decide(self, relaxed: Solution, bound: float) -> _Best:
        """Find a whole commitment within the gap, or the best that the limits allow."""
        best = self._neighbourhood(relaxed, bound)
        if best is None or relative_gap(best.objective, bound) > self.limits.gap:
            best = self._full(best, bound)
        if best is None:
            best = self._rounded(relaxed, bound)
        if best is None:
            raise ProgramError("no commitment found, not even a rounded one; keep this input and report it")
        return best

    def _neighbourhood(self, relaxed: Solution, bound: float) -> _Best | None:
        """Decide what the relaxation left open; None if that cannot be done."""
        value = relaxed.x[self.binary]
        whole = np.abs(value - np.round(value)) < WHOLE
        log.debug("%d of %d binaries are open", int((~whole).sum()), whole.size)
        if whole.all():
            return self._dispatch(np.round(value), bound)
        self._fix(self.binary[whole], np.round(value[whole]))
        found = self.session.solve_integer(self.limits.gap / 2, self.limits.nodes_max)
        self._release(self.binary[whole])
        return self._dispatch(np.round(found.x[self.binary]), bound) if found.found else None

    def _full(self, best: _Best | None, bound: float) -> _Best | None:
        """Go on with the whole MIP; the better one of the old and the new commitment."""
        start = None
        if best is not None:
            start = np.append(best.x, np.zeros(self.model.n_column - best.x.size))
        found = self.session.solve_integer(self.limits.gap, self.limits.nodes_max, start)
        bound = max(bound, found.bound)
        better = self._dispatch(np.round(found.x[self.binary]), bound) if found.found else None
        candidates = [c for c in (best, better) if c is not None]
        if not candidates:
            return None
        chosen = min(candidates, key=lambda c: c.objective)
        chosen.bound = bound
        return chosen

    def _rounded(self, relaxed: Solution, bound: float) -> _Best | None:
        """Round the relaxation and mend its minimum times: the last resort."""
        self.fallback = "rounded relaxation with mended minimum times; the integer search found nothing"
        log.warning("unit commitment: %s", self.fallback)
        u = relaxed.x[self.horizon.free.u]
        on = rounded_commitment(u, self.horizon.free)
        values = np.zeros(self.model.n_column)
        values[self.horizon.free.u] = on
        return self._dispatch(values[self.binary], bound)

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
        return _Best(solution.x, solution.objective, bound)

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
