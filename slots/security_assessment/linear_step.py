"""The LP of one round: least cost and priced violations within a trust region around a state.

It decides over what `controls` offers, unit commitment, voltage set points and taps, subject to the linearised
limits. Commitment, taps and shunt steps are continuous at first; rounded and fixed, everything else is
optimised once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from bos_core.grid.model import BoolArray, FloatArray, IntArray, Snapshot
from bos_core.objects.errors import ProgramError
from slots.highs_session import HighsSession
from slots.linear_model import INF, LinearModel, Solution
from slots.security_assessment.controls import SHED, SHUNT, VARIABLE, Injections, applied
from slots.security_assessment.initial_state import full_load_cost, segments_above
from slots.security_assessment.linearisation import NEGLIGIBLE, Linearisation

TIME_LIMIT_S = 120.0
"""Safety net of one LP; it takes a second."""

_VM_MOVE_EUR_PER_PU = 1000.0
_TAP_MOVE_EUR = 5.0
"""Prices of moving what costs nothing: they keep it in place where a move does not help."""
_START_SHARE = 0.5
"""A unit runs when the relaxed LP gives it this share of its technical minimum."""
_THRESHOLDS = (0.5, 0.25, 0.08)
"""Fractions of a step from which it becomes a whole one."""
_TURNS = 6
"""Largest number of units that are turned over on trial after rounding."""
_TURN_EUR = 500.0
_TURN_SHARE = 1e-3
"""A unit is turned over for a gain of more than this, in EUR/h and as a share of the objective."""
_COMMITMENT_REACH = 0.2
"""Below this trust region units neither start nor stop."""
_RUNNING_MW = 1e-3
_LARGEST_RANGE = 1e4
_EUR = 1e-3
"""The LP counts in thousands of EUR: better scaled."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A snapshot to try, and the values of the limits that the linearisation expects of it."""

    snapshot: Snapshot
    predicted: FloatArray


class RedispatchProgram:
    """The LP of one proposal.

    Parameters
    ----------
    step : Linearisation
    reach : float
        Part of its range, or of the largest step, that a control may move, up to 1.
    error : (row,)
        What the linearisation missed in an earlier proposal, added to the rows' values.
    """

    def __init__(self, step: Linearisation, reach: float, error: FloatArray) -> None:
        limits = step.limits()
        self.step, self.limits, self.reach, self.error = step, limits, reach, error
        self.model = LinearModel()
        self.rows: list[tuple[IntArray, FloatArray]] = []
        violated = (limits.value > limits.upper) | (limits.value < limits.lower)
        self._inject(violated)
        self._units()
        self._set_points()
        self._limit_rows()

    def _pair(
        self, value: FloatArray, low: FloatArray, high: FloatArray, cost: FloatArray, move: FloatArray
    ) -> tuple[IntArray, IntArray]:
        """Add columns for the way up and the way down from `value`; moving costs `move` both ways."""
        up = self.model.add_columns(value.shape, 0.0, np.maximum(high - value, 0.0), _EUR * (cost + move))
        down = self.model.add_columns(value.shape, 0.0, np.maximum(value - low, 0.0), _EUR * (move - cost))
        return up, down

    def _inject(self, violated: BoolArray) -> None:
        c, step_move = self.step.controls, self.step.settings.move_eur_per_mwh
        chosen = self.chosen = _candidates(
            c, self.limits.effects.injection[violated], self.step.settings.candidates
        )
        width = self.reach * (c.upper - c.lower)[chosen]
        value = c.value[chosen]
        low, high = np.maximum(c.lower[chosen], value - width), np.minimum(c.upper[chosen], value + width)
        self.inject = self._pair(value, low, high, c.cost[chosen], np.full(chosen.size, step_move))
        self._couple(self.inject, self.limits.effects.injection[:, chosen].toarray())

    def _units(self) -> None:
        step, model = self.step, self.model
        units, snapshot = step.assessor.grid.units, step.state.snapshot
        thermal = step.thermal
        self.on = model.add_columns(thermal.shape, 0.0, 1.0, _EUR * units.no_load_eur_per_h[thermal])
        owner, width, price = segments_above(step.assessor.grid, step.low, step.high)
        place = np.full(units.n, -1, dtype=np.int64)
        place[thermal] = np.arange(thermal.size)
        mine = (place[owner] >= 0) & (width > 0)
        owner, width, price = place[owner[mine]], width[mine], price[mine]
        self.segment = model.add_columns(width.shape, 0.0, width, _EUR * price)
        self.owner = owner
        low, high = step.low[thermal], step.high[thermal]
        self.power = model.add_columns(thermal.shape, 0.0, high)
        given = np.where(snapshot.unit_on, snapshot.unit_p_mw, 0.0)[thermal]
        if self.reach < 1.0:
            bottom, top = given - self.reach * high, given + self.reach * high
            bottom = np.where(bottom <= low, 0.0, bottom)
            model.add_rows([(self.power, 1.0)], bottom, np.maximum(top, low), thermal.shape)
        sums = model.add_rows([(self.power, -1.0), (self.on, low)], 0.0, 0.0, thermal.shape)
        model.add_entries(sums[owner], self.segment, np.ones(owner.size))
        room = model.add_rows([(self.on, -(high - low))], -INF, 0.0, thermal.shape)
        model.add_entries(room[owner], self.segment, np.ones(owner.size))
        self.given = given
        away = self._pair(
            given,
            np.zeros(given.size),
            high,
            np.zeros(given.size),
            np.full(given.size, step.settings.move_eur_per_mwh),
        )
        model.add_rows([(self.power, 1.0), (away[0], -1.0), (away[1], 1.0)], given, given, thermal.shape)
        self.was_on = snapshot.unit_on[thermal].astype(np.float64)
        self.rows += [(self.power, self.limits.effects.unit), (self.on, self.limits.effects.commitment)]

    def _set_points(self) -> None:
        step, settings = self.step, self.step.settings
        network, vm = step.assessor.grid.network, step.state.solution.vm_pu[step.held]
        inputs = step.assessor.inputs
        # Voltages answer to set points almost linearly: what shrinks the trust region is mostly active power.
        reach = settings.vm_step_pu * np.sqrt(self.reach)
        low = np.maximum(vm - reach, np.minimum(vm, inputs.vm_pu_min[step.held]))
        high = np.minimum(vm + reach, np.maximum(vm, inputs.vm_pu_max[step.held]))
        free = np.zeros(vm.size)
        self.vm = self._pair(vm, low, high, free, free + _VM_MOVE_EUR_PER_PU)
        self._couple(self.vm, self.limits.effects.vm)
        _, first = np.unique(step.tap_group.indices, return_index=True)
        tap = step.state.snapshot.tap[first].astype(np.float64)
        steps = max(settings.tap_steps * self.reach, min(settings.tap_steps, 1.0))
        low, high = (
            np.maximum(network.tap_min[first], tap - steps),
            np.minimum(network.tap_max[first], tap + steps),
        )
        free = np.zeros(tap.size)
        self.tap = self._pair(tap, low, high, free, free + _TAP_MOVE_EUR)
        self._couple(self.tap, self.limits.effects.tap)

    def _couple(self, pair: tuple[IntArray, IntArray], effect: FloatArray) -> None:
        self.rows += [(pair[0], effect), (pair[1], -effect)]

    def _limit_rows(self) -> None:
        limits, effects = self.limits, self.limits.effects
        shift = limits.value + self.error - effects.unit @ self.given - effects.commitment @ self.was_on
        # The first row is the slack's power: a column of its own with its units' limits and price.
        low, high = self.step.assessor.slack_range(self.step.state.snapshot)
        slack_power = self.model.add_columns((1,), low, high, _EUR * self._slack_price())
        # Sides are rows of their own: rows that share a relief may need it on opposite sides.
        for side, bound in ((1.0, limits.upper), (-1.0, limits.lower)):
            chosen = np.flatnonzero(np.isfinite(bound))
            room = side * (bound - shift)[chosen]
            room[chosen == 0] = side * -shift[0]
            rows = self.model.add_rows([], -INF, room, chosen.shape)
            self.model.add_entries(rows[chosen == 0], slack_power, np.full(1, -side))
            for columns, effect in self.rows:
                range_ = np.minimum(self.model.upper[columns], _LARGEST_RANGE)
                row, column = np.nonzero(np.abs(effect[chosen]) * range_ > NEGLIGIBLE)
                self.model.add_entries(rows[row], columns[column], side * effect[chosen[row], column])
            number, first, member = np.unique(limits.relief[chosen], return_index=True, return_inverse=True)
            relief = self.model.add_columns(number.shape, 0.0, INF, _EUR * limits.price[chosen[first]])
            self.model.add_entries(rows, relief[member.reshape(-1)], np.full(member.size, -1.0))

    def _slack_price(self) -> float:
        grid, on = self.step.assessor.grid, self.step.state.snapshot.unit_on
        members = np.flatnonzero((grid.units.bus == grid.network.slack) & on)
        if not members.size:
            return 0.0
        return float(
            np.average(full_load_cost(grid)[members], weights=np.maximum(grid.units.p_mw_max[members], 1e-6))
        )

    def solve(self) -> Proposal:
        """Solve, round what comes in steps, solve the rest again."""
        session = HighsSession(self.model, TIME_LIMIT_S)
        on = self.was_on
        if self.reach < _COMMITMENT_REACH:
            session.set_bounds(self.on, on, on)
        x = self._solution(session).x
        if self.reach >= _COMMITMENT_REACH:
            on = self._commitment(session, x)
        x = self._rounded(session, x)
        return Proposal(self._snapshot(x, on > 0), self._predicted(x))

    def _rounded(self, session: HighsSession, relaxed: FloatArray) -> FloatArray:
        """Fix taps and shunts at whole steps and solve the rest.

        A fraction of a step may be all that a voltage lacks, and rounding it off would never supply it: several
        thresholds are tried for when a fraction becomes a whole step, and the best LP counts.
        """
        shunts = self.step.controls.kind[self.chosen] == SHUNT
        up = np.concatenate([self.tap[0], self.inject[0][shunts]])
        down = np.concatenate([self.tap[1], self.inject[1][shunts]])
        wanted = relaxed[up] - relaxed[down]
        best: Solution | None = None
        tried: set[bytes] = set()
        for threshold in _THRESHOLDS:
            steps = np.sign(wanted) * np.floor(np.abs(wanted) + 1.0 - threshold)
            if steps.tobytes() in tried:
                continue
            tried.add(steps.tobytes())
            session.set_bounds(up, np.maximum(steps, 0.0), np.maximum(steps, 0.0))
            session.set_bounds(down, np.maximum(-steps, 0.0), np.maximum(-steps, 0.0))
            found = self._solution(session)
            if best is None or found.objective < best.objective:
                best = found
        assert best is not None
        x: FloatArray = best.x
        return x

    def _commitment(self, session: HighsSession, relaxed: FloatArray) -> FloatArray:
        """Decide who runs: round the relaxed LP, then turn over units while that pays.

        What turning a unit over promises is its reduced cost in the LP with rounded commitment; the most
        promising ones are tried one at a time.
        """
        low = self.step.low[self.step.thermal]
        on = (relaxed[self.power] >= np.maximum(_START_SHARE * low, _RUNNING_MW)).astype(np.float64)
        session.set_bounds(self.on, on, on)
        best = self._solution(session)
        tried = np.zeros(on.size, dtype=np.bool_)
        matrix = self.model.matrix().tocsc()[:, self.on]
        for _ in range(_TURNS):
            reduced = self.model.cost[self.on] - matrix.T @ best.row_dual
            promise = np.where(tried, 0.0, np.where(on > 0, reduced, -reduced))
            unit = int(np.argmax(promise))
            if promise[unit] <= max(_EUR * _TURN_EUR, _TURN_SHARE * best.objective):
                break
            tried[unit] = True
            other = on.copy()
            other[unit] = 1.0 - on[unit]
            session.set_bounds(self.on, other, other)
            # Within a small trust region a unit may be too far from its minimum to stop.
            found = session.solve_relaxation()
            if found.objective < best.objective - _EUR * _TURN_EUR:
                on, best = other, found
        session.set_bounds(self.on, on, on)
        return on

    def _solution(self, session: HighsSession) -> Solution:
        solution: Solution = session.solve_relaxation()
        if not solution.found:
            raise ProgramError(
                f"the redispatch LP ended {solution.status}; its limits can all be relaxed, so scale prices"
            )
        return solution

    def _predicted(self, x: FloatArray) -> FloatArray:
        limits, effects = self.limits, self.limits.effects
        return np.asarray(
            limits.value
            + effects.injection[:, self.chosen] @ (x[self.inject[0]] - x[self.inject[1]])
            + effects.unit @ (x[self.power] - self.given)
            + effects.commitment @ (x[self.on] - self.was_on)
            + effects.vm @ (x[self.vm[0]] - x[self.vm[1]])
            + effects.tap @ (x[self.tap[0]] - x[self.tap[1]])
        )

    def _snapshot(self, x: FloatArray, on: BoolArray) -> Snapshot:
        step = self.step
        state, grid, controls = step.state, step.assessor.grid, step.controls
        value = controls.value.copy()
        value[self.chosen] += x[self.inject[0]] - x[self.inject[1]]
        value = np.clip(value, controls.lower, controls.upper)
        moved = applied(grid, state.snapshot, controls, value, step.assessor.inputs.snapshot)
        unit_on, unit_p = moved.unit_on.copy(), moved.unit_p_mw.copy()
        unit_on[step.thermal] = on
        unit_p[step.thermal] = np.where(
            on, np.clip(x[self.power], step.low[step.thermal], step.high[step.thermal]), 0.0
        )
        vm = state.solution.vm_pu.copy()
        vm[step.held] += x[self.vm[0]] - x[self.vm[1]]

        def at(bus: IntArray, vm_set: FloatArray) -> FloatArray:
            return np.where(np.isfinite(vm_set), vm[bus], np.nan)

        return replace(
            moved,
            unit_on=unit_on,
            unit_p_mw=unit_p,
            unit_q_mvar=np.where(unit_on, moved.unit_q_mvar, 0.0),
            unit_vm_set_pu=at(grid.units.bus, moved.unit_vm_set_pu),
            svg_vm_set_pu=at(grid.svgs.bus, moved.svg_vm_set_pu),
            hvdc_vm_from_set_pu=at(grid.hvdc.from_bus, moved.hvdc_vm_from_set_pu),
            hvdc_vm_to_set_pu=at(grid.hvdc.to_bus, moved.hvdc_vm_to_set_pu),
            tap=moved.tap + np.rint(step.tap_group @ (x[self.tap[0]] - x[self.tap[1]])).astype(np.int64),
        )


def _candidates(controls: Injections, effect: sp.csr_matrix, count: int) -> IntArray:
    """Choose the controls that enter the LP.

    Loads and variable units are many: those already shed or curtailed, and for every violated row the `count`
    of each kind with the largest effect over their whole range. Of the other kinds, all.
    """
    many = (controls.kind == SHED) | (controls.kind == VARIABLE)
    wanted = ~many
    wanted |= (controls.kind == SHED) & (controls.value > 0)
    wanted |= (controls.kind == VARIABLE) & (controls.value < controls.upper - _RUNNING_MW)
    reach = controls.upper - controls.lower
    for row in range(effect.shape[0]):
        entry = slice(effect.indptr[row], effect.indptr[row + 1])
        column = effect.indices[entry]
        score = np.abs(effect.data[entry]) * reach[column]
        for kind in (SHED, VARIABLE):
            mine = np.flatnonzero(controls.kind[column] == kind)
            wanted[column[mine[np.argsort(-score[mine], kind="stable")[:count]]]] = True
    return np.flatnonzero(wanted)
