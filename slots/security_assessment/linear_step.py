"""One step of successive linear programming: linearise the state, solve an LP, round, solve again.

The LP minimises cost and priced violations over what `controls` offers, unit commitment, voltage set points
and taps, subject to the AC-linearised limits of the monitored branches, buses and reactive ranges. Commitment,
taps and shunt steps are continuous at first; rounded and fixed, everything else is optimised once more.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from bos_core.grid.assembly import with_state
from bos_core.grid.model import BoolArray, FloatArray, IntArray, Snapshot
from bos_core.grid.sensitivity import Rows, Sensitivities
from bos_core.objects.errors import ProgramError
from slots.highs_session import HighsSession
from slots.linear_model import INF, LinearModel
from slots.security_assessment.assessment import Assessment, Assessor
from slots.security_assessment.controls import (
    MOVE_EUR,
    SHED,
    SHUNT,
    VARIABLE,
    Injections,
    applied,
    held_buses,
    injection_controls,
)
from slots.security_assessment.initial_state import full_load_cost, segments_above

TIME_LIMIT_S = 120.0
"""Safety net of one LP; it takes a second."""

_CHUNK = 128
_NEAR_VOLTAGE_PU = 0.003
_NEGLIGIBLE = 1e-5
"""Effects of a control over its whole range that the LP leaves out (p.u., loading, MW, Mvar)."""
_LARGEST_RANGE = 1e4
_RUNNING_MW = 1e-3
_COMMITMENT_REACH = 0.02
"""Below this trust region units neither start nor stop."""
_REACTIVE_MARGIN_MVAR = 1.0
_BUSES_PER_ROW = 30
"""A subnet gets a second, third, ... voltage row for this many buses each."""
_VOLTAGE_ROWS = 150
"""Largest number of voltage rows on either side."""
_EUR = 1e-3
"""The LP counts in thousands of EUR: better scaled."""
_BALANCE, _BRANCH, _VOLTAGE, _REACTIVE = range(4)
_VM_MOVE_EUR_PER_PU = 100.0
_TAP_MOVE_EUR = 0.1
_START_SHARE = 0.5
"""A unit runs when the relaxed LP gives it this share of its technical minimum."""


@dataclass(frozen=True)
class Settings:
    """How far a step reaches."""

    loading_margin: float
    voltage_margin_pu: float
    reactive_margin: float
    vm_step_pu: float
    tap_steps: float
    candidates: int


@dataclass(eq=False)
class Monitored:
    """What the LP watches, as masks that only grow: branches, buses, buses with a reactive range."""

    branch: BoolArray
    bus: BoolArray
    reactive: BoolArray

    @property
    def size(self) -> int:
        """Number of monitored limits."""
        return int(self.branch.sum() + self.bus.sum() + self.reactive.sum())

    @classmethod
    def nothing(cls, n_branch: int, n_bus: int) -> Monitored:
        """Watch nothing yet."""
        return cls(np.zeros(n_branch, bool), np.zeros(n_bus, bool), np.zeros(n_bus, bool))

    def look(self, assessor: Assessor, state: Assessment, near: float) -> None:
        """Add what is violated or near its limit.

        Of every galvanic subnet only the buses furthest outside are added, a few more of large subnets: their
        neighbours follow them. What troubles many subnets at once comes from above, so the subnets of the
        highest voltage come first and their number is limited.
        """
        self.branch |= state.loading > near * assessor.inputs.loading_max
        for excess in (state.low_pu, state.high_pu):
            self.bus[_furthest_outside(assessor, excess)] = True
        q, given = state.solution.q_control_pu, state.injections
        width = given.q_pu_max - given.q_pu_min
        close = (q > given.q_pu_max - 0.1 * width) | (q < given.q_pu_min + 0.1 * width)
        self.reactive |= held_buses(assessor, state) & close


def _furthest_outside(assessor: Assessor, excess: FloatArray) -> IntArray:
    near = np.flatnonzero(excess > -_NEAR_VOLTAGE_PU)
    subnet = assessor.subnet
    order = near[np.lexsort((near, -excess[near], subnet[near]))]
    rank = np.arange(order.size) - np.searchsorted(subnet[order], subnet[order])
    allowed = 1 + np.bincount(subnet)[subnet[order]] // _BUSES_PER_ROW
    chosen = order[rank < allowed]
    level = assessor.grid.network.base_kv[chosen]
    inside = excess[chosen] <= 0
    return chosen[np.lexsort((chosen, -excess[chosen], -level, inside))][:_VOLTAGE_ROWS]


@dataclass(frozen=True, eq=False)
class _Effects:
    """Change of rows for one unit of each control, (row, control).

    `unit` is for 1 MW of a thermal unit, `commitment` for its being on, which brings its reactive range.
    """

    injection: FloatArray
    unit: FloatArray
    vm: FloatArray
    tap: FloatArray
    commitment: FloatArray


@dataclass(frozen=True, eq=False)
class _Limits:
    """Linearised rows: value + coefficients x change must lie between lower and upper, give or take slack."""

    value: FloatArray
    lower: FloatArray
    upper: FloatArray
    effects: _Effects
    relief: IntArray
    """(row,) which slack relaxes the row; rows with the same number share it, each side has its own."""
    price: FloatArray
    """(row,) price of the slack, EUR/h per unit of the row."""


class LinearStep:
    """The linearisation of one state; proposes snapshots for shrinking trust regions."""

    def __init__(self, assessor: Assessor, state: Assessment, settings: Settings) -> None:
        self.assessor, self.state, self.settings = assessor, state, settings
        grid, snapshot = assessor.grid, state.snapshot
        self.controls: Injections = injection_controls(assessor, state)
        self.held = np.flatnonzero(held_buses(assessor, state))
        tap_up, tap_down = (
            with_state(grid.network, snapshot.tap + d, snapshot.shunt_step, grid.shunts) for d in (1, -1)
        )
        settled = replace(state.solution, q_state=np.zeros_like(state.solution.q_state))
        self.sensitivities = Sensitivities(state.network, state.injections, settled, tap_up, tap_down)
        units = grid.units
        self.high = np.where(
            assessor.inputs.unit_in_service, np.minimum(units.p_mw_max, assessor.inputs.available_mw), 0.0
        )
        self.low = np.minimum(units.p_mw_min, self.high)
        runnable = units.committable & assessor.inputs.unit_in_service & (self.high > 0)
        self.thermal = np.flatnonzero(runnable & (units.bus != grid.network.slack))
        self._done = Monitored.nothing(grid.network.n_branch, grid.network.n_bus)
        self._limits: list[_Limits] = [self._slack_limit()]

    def watch(self, monitored: Monitored) -> None:
        """Linearise what is monitored and has not been yet."""
        new = {
            name: np.flatnonzero(getattr(monitored, name) & ~getattr(self._done, name))
            for name in ("branch", "bus", "reactive")
        }
        for name, build in (
            ("branch", self._branch_limits),
            ("bus", self._voltage_limits),
            ("reactive", self._reactive_limits),
        ):
            for start in range(0, new[name].size, _CHUNK):
                self._limits += build(new[name][start : start + _CHUNK])
            getattr(self._done, name)[new[name]] = True

    def _effects(self, rows: Rows, scale: FloatArray) -> _Effects:
        """Turn sensitivities into effects of the controls on rows multiplied by `scale` (row,)."""
        grid, c, factor = self.assessor.grid, self.controls, scale[:, None]
        on_injection = np.asarray((c.p_per_unit.T @ rows.d_p.T + c.q_per_unit.T @ rows.d_q.T).T)
        on_unit = rows.d_p[:, grid.units.bus[self.thermal]] / grid.network.base_mva
        return _Effects(
            injection=on_injection * factor,
            unit=on_unit * factor,
            vm=rows.d_vm_set[:, self.held] * factor,
            tap=rows.d_tap * factor,
            commitment=np.zeros((scale.size, self.thermal.size)),
        )

    def _relief(self, kind: int, number: IntArray) -> IntArray:
        network = self.assessor.grid.network
        return kind * max(network.n_bus, network.n_branch) + number

    def _slack_limit(self) -> _Limits:
        """The slack's power, between the limits of its units."""
        assessor, base = self.assessor, self.assessor.grid.network.base_mva
        slack = assessor.grid.network.slack
        effects = self._effects(self.sensitivities.slack_power(), np.full(1, base))
        own = self.controls.p_per_unit[slack].toarray() * base
        low, high = assessor.slack_range(self.state.snapshot)
        return _Limits(
            value=np.array([assessor.slack_power(self.state.snapshot, self.state.solution)]),
            lower=np.array([low]),
            upper=np.array([high]),
            effects=replace(effects, injection=effects.injection - own),
            relief=self._relief(_BALANCE, np.zeros(1, dtype=np.int64)),
            price=np.array([assessor.prices.balance_eur_per_mwh]),
        )

    def _branch_limits(self, branch: IntArray) -> list[_Limits]:
        network, assessor = self.state.network, self.assessor
        i_from, i_to = network.branch_currents(self.state.solution.v_pu)
        from_load = np.abs(i_from[branch]) / network.i_max_from_pu[branch]
        to_load = np.abs(i_to[branch]) / network.i_max_to_pu[branch]
        at_from = from_load >= to_load
        rating = np.where(at_from, network.i_max_from_pu[branch], network.i_max_to_pu[branch])
        rows = self.sensitivities.branch_currents(branch, at_from)
        mva = network.i_max_from_pu[branch] * network.base_mva
        limit = assessor.inputs.loading_max[branch] * (1 - self.settings.loading_margin)
        # Along its present phase a current that turns round comes out negative: the lower limit is for it.
        limits = _Limits(
            value=rows.value / rating,
            lower=-limit,
            upper=limit,
            effects=self._effects(rows, 1.0 / rating),
            relief=self._relief(_BRANCH, branch),
            price=assessor.prices.overload_eur_per_mvah * mva,
        )
        return [limits]

    def _voltage_limits(self, bus: IntArray) -> list[_Limits]:
        inputs, margin = self.assessor.inputs, self.settings.voltage_margin_pu
        rows = self.sensitivities.voltages(bus)
        low, high = inputs.vm_pu_min[bus], inputs.vm_pu_max[bus]
        inside = np.minimum(margin, (high - low) / 4)
        limits = _Limits(
            value=rows.value,
            lower=low + inside,
            upper=high - inside,
            effects=self._effects(rows, np.ones(bus.size)),
            relief=self._relief(_VOLTAGE, self.assessor.subnet[bus]),
            price=np.full(bus.size, self.assessor.prices.voltage_eur_per_pu_h),
        )
        return [limits]

    def _reactive_limits(self, bus: IntArray) -> list[_Limits]:
        """Upper and lower limits apart: units that start or stop move them."""
        base, given, units = self.assessor.grid.network.base_mva, self.state.injections, self.assessor.grid.units
        effects = self._effects(self.sensitivities.reactive_powers(bus), np.full(bus.size, base))
        own = self.controls.q_per_unit[bus].toarray() * base
        effects = replace(effects, injection=effects.injection - own)
        here = bus[:, None] == units.bus[self.thermal][None, :]
        on = self.state.snapshot.unit_on[self.thermal].astype(np.float64)
        value = self.state.solution.q_control_pu[bus] * base
        low, high = given.q_pu_min[bus] * base, given.q_pu_max[bus] * base
        inside = np.minimum(self.settings.reactive_margin * (high - low), _REACTIVE_MARGIN_MVAR)
        brought = [np.where(here, limit[self.thermal], 0.0) for limit in (units.q_mvar_min, units.q_mvar_max)]
        none = np.full(bus.size, INF)
        relief, price = self._relief(_REACTIVE, bus), self.assessor.prices.reactive_eur_per_mvarh
        return [
            _Limits(
                value=value - side @ on,
                lower=lower - side @ on,
                upper=upper - side @ on,
                effects=replace(effects, commitment=-side),
                relief=relief,
                price=np.full(bus.size, price),
            )
            for side, lower, upper in ((brought[0], low + inside, none), (brought[1], -none, high - inside))
        ]

    def propose(self, reach: float) -> Snapshot:
        """Solve the LP within a trust region and return the snapshot to try.

        Parameters
        ----------
        reach : float
            Part of its range, or of the largest step, that a control may move, up to 1.
        """
        limits = _joined(self._limits)
        return _Program(self, limits, reach).solve()


def _joined(parts: list[_Limits]) -> _Limits:
    joined = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(_Limits)
        if f.name != "effects"
    }
    effects = {f.name: np.concatenate([getattr(p.effects, f.name) for p in parts]) for f in fields(_Effects)}
    return _Limits(**joined, effects=_Effects(**effects))


class _Program:
    """The LP of one proposal."""

    def __init__(self, step: LinearStep, limits: _Limits, reach: float) -> None:
        self.step, self.limits, self.reach = step, limits, reach
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
        c = self.step.controls
        chosen = self.chosen = _candidates(
            c, self.limits.effects.injection[violated], self.step.settings.candidates
        )
        width = self.reach * (c.upper - c.lower)[chosen]
        value = c.value[chosen]
        low, high = np.maximum(c.lower[chosen], value - width), np.minimum(c.upper[chosen], value + width)
        self.inject = self._pair(value, low, high, c.cost[chosen], np.full(chosen.size, MOVE_EUR))
        self._couple(self.inject, self.limits.effects.injection[:, chosen])

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
        self.was_on = snapshot.unit_on[thermal].astype(np.float64)
        self.rows += [(self.power, self.limits.effects.unit), (self.on, self.limits.effects.commitment)]

    def _set_points(self) -> None:
        step, settings = self.step, self.step.settings
        network, vm = step.assessor.grid.network, step.state.solution.vm_pu[step.held]
        inputs = step.assessor.inputs
        reach = settings.vm_step_pu * self.reach
        low = np.maximum(vm - reach, np.minimum(vm, inputs.vm_pu_min[step.held]))
        high = np.minimum(vm + reach, np.maximum(vm, inputs.vm_pu_max[step.held]))
        free = np.zeros(vm.size)
        self.vm = self._pair(vm, low, high, free, free + _VM_MOVE_EUR_PER_PU)
        self._couple(self.vm, self.limits.effects.vm)
        tap = step.state.snapshot.tap.astype(np.float64)
        steps = max(settings.tap_steps * self.reach, min(settings.tap_steps, 1.0))
        low, high = np.maximum(network.tap_min, tap - steps), np.minimum(network.tap_max, tap + steps)
        free = np.zeros(tap.size)
        self.tap = self._pair(tap, low, high, free, free + _TAP_MOVE_EUR)
        self._couple(self.tap, self.limits.effects.tap)

    def _couple(self, pair: tuple[IntArray, IntArray], effect: FloatArray) -> None:
        self.rows += [(pair[0], effect), (pair[1], -effect)]

    def _limit_rows(self) -> None:
        limits, model = self.limits, self.model
        shift = limits.value - limits.effects.unit @ self.given - limits.effects.commitment @ self.was_on
        lower, upper = limits.lower - shift, limits.upper - shift
        # The first row is the slack's power: a column of its own with its units' limits and price.
        low, high = self.step.assessor.slack_range(self.step.state.snapshot)
        slack_power = model.add_columns((1,), low, high, _EUR * self._slack_price())
        lower[0] = upper[0] = -shift[0]
        rows = model.add_rows([], lower, upper, limits.value.shape)
        model.add_entries(rows[:1], slack_power, np.full(1, -1.0))
        for columns, effect in self.rows:
            range_ = np.minimum(model.upper[columns], _LARGEST_RANGE)
            row, column = np.nonzero(np.abs(effect) * range_ > _NEGLIGIBLE)
            model.add_entries(rows[row], columns[column], effect[row, column])
        for side, bounded in ((-1.0, np.isfinite(limits.upper)), (1.0, np.isfinite(limits.lower))):
            number, first, member = np.unique(limits.relief[bounded], return_index=True, return_inverse=True)
            relief = model.add_columns(number.shape, 0.0, INF, _EUR * limits.price[bounded][first])
            model.add_entries(rows[bounded], relief[member.reshape(-1)], np.full(member.size, side))

    def _slack_price(self) -> float:
        grid, on = self.step.assessor.grid, self.step.state.snapshot.unit_on
        members = np.flatnonzero((grid.units.bus == grid.network.slack) & on)
        if not members.size:
            return 0.0
        return float(
            np.average(full_load_cost(grid)[members], weights=np.maximum(grid.units.p_mw_max[members], 1e-6))
        )

    def solve(self) -> Snapshot:
        """Solve, round what comes in steps, solve the rest again."""
        session = HighsSession(self.model, TIME_LIMIT_S)
        if self.reach < _COMMITMENT_REACH:
            on = self.step.state.snapshot.unit_on[self.step.thermal].astype(np.float64)
            session.set_bounds(self.on, on, on)
        x = self._solved(session)
        low = self.step.low[self.step.thermal]
        if self.reach >= _COMMITMENT_REACH:
            on = (x[self.power] >= np.maximum(_START_SHARE * low, _RUNNING_MW)).astype(np.float64)
            session.set_bounds(self.on, on, on)
        shunts = self.step.controls.kind[self.chosen] == SHUNT
        for up, down in (self.tap, (self.inject[0][shunts], self.inject[1][shunts])):
            steps = np.rint(x[up] - x[down])
            session.set_bounds(up, np.maximum(steps, 0.0), np.maximum(steps, 0.0))
            session.set_bounds(down, np.maximum(-steps, 0.0), np.maximum(-steps, 0.0))
        return self._snapshot(self._solved(session), on > 0)

    def _solved(self, session: HighsSession) -> FloatArray:
        solution = session.solve_relaxation()
        if not solution.found:
            raise ProgramError(
                f"the redispatch LP ended {solution.status}; its limits can all be relaxed, so scale prices"
            )
        x: FloatArray = solution.x
        return x

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
            tap=moved.tap + np.rint(x[self.tap[0]] - x[self.tap[1]]).astype(np.int64),
        )


def _candidates(controls: Injections, effect: FloatArray, count: int) -> IntArray:
    """Choose the controls that enter the LP.

    Loads and variable units are many: those already shed or curtailed, and for every violated row the `count`
    of each kind with the largest effect over their whole range. Of the other kinds, all.
    """
    many = (controls.kind == SHED) | (controls.kind == VARIABLE)
    wanted = ~many
    wanted |= (controls.kind == SHED) & (controls.value > 0)
    wanted |= (controls.kind == VARIABLE) & (controls.value < controls.upper - _RUNNING_MW)
    for kind in (SHED, VARIABLE):
        if not effect.size:
            break
        mine = np.flatnonzero(controls.kind == kind)
        score = np.abs(effect[:, mine]) * (controls.upper - controls.lower)[mine]
        if mine.size > count:
            mine = mine[np.unique(np.argpartition(-score, count, axis=1)[:, :count])]
        wanted[mine] = True
    return np.flatnonzero(wanted)
