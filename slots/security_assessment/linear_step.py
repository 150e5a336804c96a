"""The LP of one round: least cost and priced violations within a trust region around a state.

It decides over what `controls` offers, unit commitment, voltage set points and taps, subject to the linearised
limits. Commitment, taps and shunt steps are continuous at first; rounded and fixed, everything else is
optimised once more. Limits become rows of the LP when its answer breaks them; that of a current's magnitude, which
is quadratic, becomes as many tangents as it takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from bos_core.grid.model import BoolArray, FloatArray, IntArray, Snapshot
from bos_core.objects.errors import ProgramError
from slots.highs_session import HighsSession
from slots.linear_model import INF, LinearModel, Solution
from slots.security_assessment.controls import SHED, SHUNT, STARTABLE, VARIABLE, Injections, applied
from slots.security_assessment.initial_state import full_load_cost, segments_above
from slots.security_assessment.linearisation import Cuts, Linearisation

TIME_LIMIT_S = 120.0
"""Safety net of one LP; it takes a second."""

_VM_MOVE_EUR_PER_PU = 1000.0
_TAP_MOVE_EUR = 5.0
"""Prices of moving what costs nothing: they keep it in place where a move does not help."""
_CUTS_MAX, _CUTS_EARLY = 20, 4
"""How often limits are added to one LP: at the end, and before everything that comes in steps is decided."""
_START_SHARE = 0.2
"""A unit runs when the relaxed LP gives it this share of its technical minimum: to lack one costs more."""
_REPAIRS = 2
"""How often taps are moved on after rounding, for limits that are relaxed."""
_TURNS = 4
"""Largest number of units that are turned over on trial after rounding."""
_TURN_EUR = 500.0
_TURN_SHARE = 1e-3
"""A unit is turned over for a gain of more than this, in EUR/h and as a share of the objective."""
_COMMITMENT_REACH = 0.2
"""Below this trust region units neither start nor stop."""
_RUNNING_MW = 1e-3
_EUR = 1e-3
"""The LP counts in thousands of EUR: better scaled."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A snapshot to try.

    Attributes
    ----------
    snapshot : Snapshot
    predicted : (row,)
        The values of the limits that the linearisation expects of it.
    on : (thermal unit,)
        Who runs, 0 or 1.
    steps : (stepped control,)
        Steps up of taps, then of shunts.
    cuts : Cuts
        Limits that took part, to start the next LP of the same linearisation with.
    """

    snapshot: Snapshot
    predicted: FloatArray
    on: FloatArray
    steps: FloatArray
    cuts: Cuts


class RedispatchProgram:
    """The LP of one proposal.

    Parameters
    ----------
    step : Linearisation
    reach : float
        Part of its range, or of the largest step, that a control may move, up to 1.
    error : (row,)
        What the linearisation missed in an earlier proposal, added to the rows' values.
    earlier : Proposal, optional
        Of the same linearisation: its limits take part from the start.
    """

    def __init__(
        self, step: Linearisation, reach: float, error: FloatArray, earlier: Proposal | None = None
    ) -> None:
        limits = step.limits()
        self.step, self.limits, self.reach, self.error = step, limits, reach, error
        self.model = LinearModel()
        self.rows: list[tuple[IntArray, FloatArray]] = []
        self.relief: dict[tuple[int, float], int] = {}
        nothing = np.zeros(limits.value.size)
        broken = limits.broken(limits.value, nothing, nothing)
        self._inject(broken.row)
        self._units()
        self._set_points()
        self._balance()
        self.cuts: list[Cuts] = []
        self._add(limits.broken(limits.value + error, nothing, nothing) if earlier is None else earlier.cuts)

    def _pair(
        self, value: FloatArray, low: FloatArray, high: FloatArray, cost: FloatArray, move: FloatArray
    ) -> tuple[IntArray, IntArray]:
        """Add columns for the way up and the way down from `value`; moving costs `move` both ways."""
        up = self.model.add_columns(value.shape, 0.0, np.maximum(high - value, 0.0), _EUR * (cost + move))
        down = self.model.add_columns(value.shape, 0.0, np.maximum(value - low, 0.0), _EUR * (move - cost))
        return up, down

    def _inject(self, broken: IntArray) -> None:
        c, step_move = self.step.controls, self.step.settings.move_eur_per_mwh
        chosen = self.chosen = _candidates(c, self.limits.effects.injection[broken], self.step.settings.candidates)
        width = self.reach * (c.upper - c.lower)[chosen]
        value = c.value[chosen]
        low, high = np.maximum(c.lower[chosen], value - width), np.minimum(c.upper[chosen], value + width)
        self.inject = self._pair(value, low, high, c.cost[chosen], np.full(chosen.size, step_move))
        self._couple(self.inject, self.limits.effects.injection[:, chosen].toarray())

    def _units(self) -> None:
        step, model = self.step, self.model
        units, snapshot = step.assessor.grid.units, step.state.snapshot
        thermal = step.thermal
        self.on = model.add_columns(thermal.shape, 0.0, 1.0, _EUR * units.minimum_output_eur_per_h[thermal])
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
        self._start(place)

    def _start(self, place: IntArray) -> None:
        """Let units at rest inject reactive power as far as they start; `place` (unit,) is where they stand."""
        controls, model = self.step.controls, self.model
        which = np.flatnonzero(controls.kind[self.chosen] == STARTABLE)
        column = self.chosen[which]
        on = self.on[place[controls.element[column]]]
        for sign, bound in ((1.0, controls.upper), (-1.0, controls.lower)):
            own = [(self.inject[0][which], sign), (self.inject[1][which], -sign), (on, -sign * bound[column])]
            model.add_rows(own, -INF, 0.0, which.shape)

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

    def _balance(self) -> None:
        """Give the slack's power a column of its own, with its units' limits and price."""
        limits, model = self.limits, self.model
        low, high = self.step.assessor.slack_range(self.step.state.snapshot)
        power = model.add_columns((1,), low, high, _EUR * self._slack_price())
        relief = model.add_columns((2,), 0.0, INF, _EUR * limits.price[0])
        room = -self._constant(np.arange(1))
        row = model.add_rows([(power, -1.0), (relief[:1], -1.0), (relief[1:], 1.0)], room, room, (1,))
        for columns, effect in self.rows:
            model.add_entries(np.repeat(row, columns.size), columns, effect[0])

    def _constant(self, row: IntArray) -> FloatArray:
        """Return the values of rows where all columns are 0."""
        limits, effects = self.limits, self.limits.effects
        value = limits.value[row] + self.error[row]
        return np.asarray(value - effects.unit[row] @ self.given - effects.commitment[row] @ self.was_on)

    def _add(self, cuts: Cuts) -> None:
        """Add limits as rows, each with its slack."""
        model, limits = self.model, self.limits
        cuts = cuts.widened(limits.value.size)
        self.cuts.append(cuts)
        everything = np.arange(limits.value.size)
        rows = model.add_rows([], -INF, cuts.bound - cuts.weights @ self._constant(everything), cuts.bound.shape)
        for columns, effect in self.rows:
            part = np.asarray(cuts.weights @ effect)
            row, column = np.nonzero(part)
            model.add_entries(rows[row], columns[column], part[row, column])
        for row, cut, side in zip(rows.tolist(), cuts.row.tolist(), cuts.side.tolist(), strict=True):
            key = (int(limits.relief[cut]), side)
            if key not in self.relief:
                self.relief[key] = int(model.add_columns((1,), 0.0, INF, _EUR * limits.price[cut])[0])
            model.add_entries(np.array([row]), np.array([self.relief[key]]), np.array([-1.0]))

    def _reliefs(self, x: FloatArray, side: float) -> FloatArray:
        """Return how far each row's slack on one side is used, (row,)."""
        used = {number: x[column] for (number, which), column in self.relief.items() if which == side}
        return np.array([used.get(number, 0.0) for number in self.limits.relief.tolist()])

    def _slack_price(self) -> float:
        grid, on = self.step.assessor.grid, self.step.state.snapshot.unit_on
        members = np.flatnonzero((grid.units.bus == grid.network.slack) & on)
        if not members.size:
            return 0.0
        return float(
            np.average(full_load_cost(grid)[members], weights=np.maximum(grid.units.p_mw_max[members], 1e-6))
        )

    def solve(self, decided: Proposal | None = None) -> Proposal:
        """Solve, round what comes in steps, solve the rest again.

        Parameters
        ----------
        decided : Proposal, optional
            Says who runs and where taps and shunts stand, from the same linearisation; by default both are
            decided, who runs only in a wide trust region.
        """
        session = HighsSession(self.model, TIME_LIMIT_S)
        if decided is not None:
            on = decided.on
        elif self.reach < _COMMITMENT_REACH:
            on = self.was_on
        else:
            on = self._commitment(session, self._solution(session, _CUTS_EARLY).x)
        session.set_bounds(self.on, on, on)
        up, down = self._stepped()
        if decided is not None:
            wanted = decided.steps
        else:
            relaxed = self._solution(session, _CUTS_EARLY).x
            wanted = relaxed[up] - relaxed[down]
        steps, x = self._rounded(session, wanted)
        return Proposal(self._snapshot(x, on > 0), self._predicted(x), on, steps, Cuts.joined(self.cuts))

    def _stepped(self) -> tuple[IntArray, IntArray]:
        """Return the columns up and down of taps, then of shunts."""
        shunts = self.step.controls.kind[self.chosen] == SHUNT
        return (
            np.concatenate([self.tap[0], self.inject[0][shunts]]),
            np.concatenate([self.tap[1], self.inject[1][shunts]]),
        )

    def _rounded(self, session: HighsSession, wanted: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Fix taps and shunts at whole steps near what is wanted and solve the rest; return steps and answer.

        A fraction of a step may be all that a voltage lacks, and rounding it off would never supply it: where a
        limit is relaxed after rounding, the most effective tap goes one step further if that pays.
        """
        up, down = self._stepped()
        most, least = np.floor(self.model.upper[up]), np.ceil(-self.model.upper[down])

        def fixed(steps: FloatArray) -> Solution:
            session.set_bounds(up, np.maximum(steps, 0.0), np.maximum(steps, 0.0))
            session.set_bounds(down, np.maximum(-steps, 0.0), np.maximum(-steps, 0.0))
            return self._solution(session, _CUTS_MAX)

        best_steps = np.clip(np.rint(wanted), least, most)
        best = fixed(best_steps)
        for _ in range(_REPAIRS):
            steps = np.clip(best_steps + self._helpful(best.x, up.size), least, most)
            if np.array_equal(steps, best_steps):
                break
            found = fixed(steps)
            if found.objective >= best.objective:
                break
            best, best_steps = found, steps
        return best_steps, best.x

    def _helpful(self, x: FloatArray, size: int) -> FloatArray:
        """Return one step, up or down, of the most effective tap for each limit that is relaxed, (size,)."""
        steps = np.zeros(size)
        tap = self.limits.effects.tap
        for (number, side), column in self.relief.items():
            if x[column] * self.model.cost[column] <= _EUR * _TAP_MOVE_EUR:
                continue
            rows = np.flatnonzero(self.limits.relief == number)
            effect = tap[rows]
            if effect.size and np.abs(effect).max() > 0:
                row, group = np.unravel_index(np.argmax(np.abs(effect)), effect.shape)
                steps[group] = -side * np.sign(effect[row, group])
        return steps

    def _commitment(self, session: HighsSession, relaxed: FloatArray) -> FloatArray:
        """Decide who runs: round the relaxed LP, then turn over units while that pays.

        What turning a unit over promises is its reduced cost in the LP with rounded commitment; the most
        promising ones are tried one at a time.
        """
        low = self.step.low[self.step.thermal]
        on = (relaxed[self.power] >= np.maximum(_START_SHARE * low, _RUNNING_MW)).astype(np.float64)
        session.set_bounds(self.on, on, on)
        best = self._solution(session, _CUTS_EARLY)
        tried = np.zeros(on.size, dtype=np.bool_)
        for _ in range(_TURNS):
            # limits that a failed turn has added since do not bind the best answer
            known = self.model.matrix().tocsc()[: best.row_dual.size, self.on]
            reduced = self.model.cost[self.on] - known.T @ best.row_dual
            promise = np.where(tried, 0.0, np.where(on > 0, reduced, -reduced))
            unit = int(np.argmax(promise))
            if promise[unit] <= max(_EUR * _TURN_EUR, _TURN_SHARE * best.objective):
                break
            tried[unit] = True
            other = on.copy()
            other[unit] = 1.0 - on[unit]
            session.set_bounds(self.on, other, other)
            # Within a small trust region a unit may be too far from its minimum to stop.
            if session.solve_relaxation().objective < best.objective - _EUR * _TURN_EUR:
                found = self._solution(session, _CUTS_EARLY)
                if found.objective < best.objective:
                    on, best = other, found
        return on

    def _solution(self, session: HighsSession, cuts_max: int) -> Solution:
        """Solve; limits that the answer breaks become rows until it breaks none."""
        for _ in range(cuts_max):
            solution: Solution = session.solve_relaxation()
            if not solution.found:
                raise ProgramError(
                    f"the redispatch LP ended {solution.status}; its limits can all be relaxed, so scale prices"
                )
            x = solution.x
            cuts = self.limits.broken(
                self._predicted(x) + self.error, self._reliefs(x, 1.0), self._reliefs(x, -1.0)
            )
            if not cuts.row.size:
                break
            self._add(cuts)
        return session.solve_relaxation() if cuts.row.size else solution

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

        started = np.zeros(unit_on.size, dtype=np.bool_)
        started[controls.element[self.chosen[controls.kind[self.chosen] == STARTABLE]]] = True
        started &= unit_on

        return replace(
            moved,
            unit_on=unit_on,
            unit_p_mw=unit_p,
            unit_q_mvar=np.where(unit_on, moved.unit_q_mvar, 0.0),
            unit_vm_set_pu=np.where(started, np.nan, at(grid.units.bus, moved.unit_vm_set_pu)),
            svg_vm_set_pu=at(grid.svgs.bus, moved.svg_vm_set_pu),
            hvdc_vm_from_set_pu=at(grid.hvdc.from_bus, moved.hvdc_vm_from_set_pu),
            hvdc_vm_to_set_pu=at(grid.hvdc.to_bus, moved.hvdc_vm_to_set_pu),
            tap=moved.tap + np.rint(step.tap_group @ (x[self.tap[0]] - x[self.tap[1]])).astype(np.int64),
        )


def _candidates(controls: Injections, effect: sp.csr_matrix, count: int) -> IntArray:
    """Choose the controls that enter the LP.

    Loads, variable units and units at rest are many: those already shed or curtailed, and for every violated row
    the `count` of each kind with the largest effect over their whole range. Of the other kinds, all.
    """
    kinds = (SHED, VARIABLE, STARTABLE)
    many = np.isin(controls.kind, kinds)
    wanted = ~many
    wanted |= (controls.kind == SHED) & (controls.value > 0)
    wanted |= (controls.kind == VARIABLE) & (controls.value < controls.upper - _RUNNING_MW)
    reach = controls.upper - controls.lower
    for row in range(effect.shape[0]):
        entry = slice(effect.indptr[row], effect.indptr[row + 1])
        column = effect.indices[entry]
        score = np.abs(effect.data[entry]) * reach[column]
        for kind in kinds:
            mine = np.flatnonzero(controls.kind[column] == kind)
            wanted[column[mine[np.argsort(-score[mine], kind="stable")[:count]]]] = True
    return np.flatnonzero(wanted)
