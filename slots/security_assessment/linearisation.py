"""The linearised limits of one state: what the LP of a round watches, and what every control does to it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from bos_core.grid.assembly import with_state
from bos_core.grid.model import BoolArray, ComplexArray, FloatArray, IntArray, Network
from bos_core.grid.sensitivity import Rows, Sensitivities
from slots.linear_model import INF
from slots.security_assessment.assessment import Assessment, Assessor
from slots.security_assessment.controls import Injections, held_buses, injection_controls

NEGLIGIBLE = 1e-4
"""Effects of a control over its whole range that the LP leaves out (p.u., loading, MW, Mvar)."""
_CHUNK = 128
_NEAR_VOLTAGE_PU = 0.003
_REACTIVE_MARGIN_MVAR = 1.0
_BUSES_PER_ROW = 30
"""A subnet gets a second, third, ... voltage row for this many buses each."""
_VOLTAGE_ROWS = 150
"""Largest number of voltage rows on either side."""
_BALANCE, _BRANCH, _VOLTAGE, _REACTIVE = range(4)
_TOLERANCE = np.array([0.0, 3e-4, 5e-5, 0.05])
"""By how much the LP's answer may pass a limit of each kind before the limit becomes a row of the LP."""


@dataclass(frozen=True)
class Settings:
    """How far a step reaches."""

    loading_margin: float
    voltage_margin_pu: float
    reactive_margin: float
    move_eur_per_mwh: float
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
class Effects:
    """Change of rows for one unit of each control, (row, control).

    `injection` is sparse: most of the many small loads and plants have no effect to speak of. `unit` is for
    1 MW of a thermal unit, `commitment` for its being on, which brings its reactive range.
    """

    injection: sp.csr_matrix
    unit: FloatArray
    vm: FloatArray
    tap: FloatArray
    commitment: FloatArray


@dataclass(frozen=True, eq=False)
class Limits:
    """Linearised rows: value + coefficients x change must lie between lower and upper, give or take slack.

    A current takes two rows, its parts along its present phase and a quarter turn ahead, each a share of the
    rating; `upper` of the first limits their geometric sum.
    """

    value: FloatArray
    lower: FloatArray
    upper: FloatArray
    effects: Effects
    kind: IntArray
    element: IntArray
    relief: IntArray
    """(row,) which slack relaxes the row; rows with the same number share it, each side has its own."""
    price: FloatArray
    """(row,) price of the slack, EUR/h per unit of the row."""
    direction: ComplexArray
    """(row,) of currents: what turns one into the row's value; 0 elsewhere."""
    at_from: BoolArray
    """(row,) of currents: at which end."""
    first_part: BoolArray
    """(row,) whether the row is the first of a current's two."""

    def broken(self, value: FloatArray, relief_up: FloatArray, relief_down: FloatArray) -> Cuts:
        """Return the limits that values (row,) break beyond their slacks (row,), those of row 0 aside."""
        tolerance = _TOLERANCE[self.kind]
        magnitude, turn = value.copy(), np.ones(value.size, dtype=np.complex128)
        first = np.flatnonzero(self.first_part)
        current = value[first] + 1j * value[first + 1]
        magnitude[first] = np.abs(current)
        turn[first] = np.exp(1j * np.angle(current))
        over = magnitude - relief_up > self.upper + tolerance
        under = value + relief_down < self.lower - tolerance
        over[0] = under[0] = False
        up, down = np.flatnonzero(over), np.flatnonzero(under)
        row, side = np.concatenate([up, down]), np.repeat([1.0, -1.0], [up.size, down.size])
        cut = np.arange(row.size)
        two = np.flatnonzero(self.first_part[row])
        weights = sp.csr_matrix(
            (
                np.concatenate([side * turn[row].real, turn[row[two]].imag]),
                (np.concatenate([cut, cut[two]]), np.concatenate([row, row[two] + 1])),
            ),
            (row.size, value.size),
        )
        return Cuts(weights, np.where(side > 0, self.upper[row], -self.lower[row]), row, side)


@dataclass(frozen=True, eq=False)
class Cuts:
    """Linear conditions on rows: weights (cut, row) x values must not exceed `bound`, give or take slack."""

    weights: sp.csr_matrix
    bound: FloatArray
    row: IntArray
    """(cut,) whose slack relaxes it,"""
    side: FloatArray
    """(cut,) and on which side, 1 above, -1 below."""

    def widened(self, rows: int) -> Cuts:
        """Return the cuts for limits that have grown to this many rows."""
        entries = self.weights
        return replace(
            self, weights=sp.csr_matrix((entries.data, entries.indices, entries.indptr), (self.row.size, rows))
        )

    @classmethod
    def joined(cls, parts: list[Cuts]) -> Cuts:
        """Return the cuts of all parts, which have the same rows."""
        return cls(
            sp.vstack([part.weights for part in parts], format="csr"),
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("bound", "row", "side")),
        )


class Linearisation:
    """One state, its controls, and the linearised limits that are watched."""

    def __init__(self, assessor: Assessor, state: Assessment, settings: Settings) -> None:
        self.assessor, self.state, self.settings = assessor, state, settings
        grid, snapshot = assessor.grid, state.snapshot
        self.controls: Injections = injection_controls(assessor, state)
        self.held = np.flatnonzero(held_buses(assessor, state))
        tap_up, tap_down = (
            with_state(grid.network, snapshot.tap + d, snapshot.shunt_step, grid.shunts) for d in (1, -1)
        )
        self.tap_group = _tap_groups(grid.network, snapshot.tap)
        settled = replace(state.solution, q_state=np.zeros_like(state.solution.q_state))
        self.sensitivities = Sensitivities(
            state.network, state.injections, settled, tap_up, tap_down, assessor.elimination
        )
        units = grid.units
        self.high = np.where(
            assessor.inputs.unit_in_service, np.minimum(units.p_mw_max, assessor.inputs.available_mw), 0.0
        )
        self.low = np.minimum(units.p_mw_min, self.high)
        runnable = units.committable & assessor.inputs.unit_in_service & (self.high > 0)
        self.thermal = np.flatnonzero(runnable & (units.bus != grid.network.slack))
        self._done = Monitored.nothing(grid.network.n_branch, grid.network.n_bus)
        self._parts: list[Limits] = [self._slack_limit()]

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
                self._parts += build(new[name][start : start + _CHUNK])
            getattr(self._done, name)[new[name]] = True

    def _effects(self, rows: Rows, scale: FloatArray, own: FloatArray | None = None) -> Effects:
        """Turn sensitivities into effects of the controls on rows multiplied by `scale` (row,).

        Parameters
        ----------
        own : (row, injecting control), optional
            What a control injects at the row's own bus, for rows that watch a device there.
        """
        grid, c, factor = self.assessor.grid, self.controls, scale[:, None]
        on_injection = np.asarray((c.p_per_unit.T @ rows.d_p.T + c.q_per_unit.T @ rows.d_q.T).T) * factor
        if own is not None:
            on_injection -= own
        settings = self.settings
        return Effects(
            injection=sp.csr_matrix(_without_small(on_injection, c.upper - c.lower)),
            unit=_without_small(
                rows.d_p[:, grid.units.bus[self.thermal]] / grid.network.base_mva * factor, self.high[self.thermal]
            ),
            vm=_without_small(rows.d_vm_set[:, self.held] * factor, settings.vm_step_pu),
            tap=_without_small((rows.d_tap @ self.tap_group) * factor, settings.tap_steps),
            commitment=np.zeros((scale.size, self.thermal.size)),
        )

    def _slack_limit(self) -> Limits:
        """The slack's power, between the limits of its units."""
        assessor, base = self.assessor, self.assessor.grid.network.base_mva
        slack = assessor.grid.network.slack
        own = self.controls.p_per_unit[slack].toarray() * base
        effects = self._effects(self.sensitivities.slack_power(), np.full(1, base), own)
        low, high = assessor.slack_range(self.state.snapshot)
        return Limits(
            value=np.array([assessor.slack_power(self.state.snapshot, self.state.solution)]),
            lower=np.array([low]),
            upper=np.array([high]),
            effects=effects,
            price=np.array([assessor.prices.balance_eur_per_mwh]),
            **_described(_BALANCE, np.zeros(1, dtype=np.int64)),
        )

    def _worse_end(self, state: Assessment, branch: IntArray) -> tuple[BoolArray, ComplexArray]:
        """Return at which end a branch is loaded more, and the current's phase there."""
        network = state.network
        i_from, i_to = (i[branch] for i in network.branch_currents(state.solution.v_pu))
        at_from = np.abs(i_from) / network.i_max_from_pu[branch] >= np.abs(i_to) / network.i_max_to_pu[branch]
        current = np.where(at_from, i_from, i_to)
        return at_from, np.exp(1j * np.angle(current))

    def _branch_limits(self, branch: IntArray) -> list[Limits]:
        network, assessor = self.state.network, self.assessor
        at_from, phase = self._worse_end(self.state, branch)
        rating = np.where(at_from, network.i_max_from_pu[branch], network.i_max_to_pu[branch])
        # Two rows for each branch, side by side.
        branch, at_from, rating = (np.repeat(each, 2) for each in (branch, at_from, rating))
        phase = np.column_stack([phase, 1j * phase]).ravel()
        first = np.arange(branch.size) % 2 == 0
        rows = self.sensitivities.branch_currents(branch, at_from, phase)
        mva = network.i_max_from_pu[branch] * network.base_mva
        limit = assessor.inputs.loading_max[branch] * (1 - self.settings.loading_margin)
        described = _described(_BRANCH, branch) | {
            "direction": np.asarray(np.conj(phase) / rating, dtype=np.complex128),
            "at_from": at_from,
            "first_part": first,
        }
        return [
            Limits(
                value=rows.value / rating,
                lower=np.full(branch.size, -INF),
                upper=np.where(first, limit, INF),
                effects=self._effects(rows, 1.0 / rating),
                price=assessor.prices.overload_eur_per_mvah * mva,
                **described,
            )
        ]

    def _voltage_limits(self, bus: IntArray) -> list[Limits]:
        inputs, margin = self.assessor.inputs, self.settings.voltage_margin_pu
        rows = self.sensitivities.voltages(bus)
        low, high = inputs.vm_pu_min[bus], inputs.vm_pu_max[bus]
        inside = np.minimum(margin, (high - low) / 4)
        limits = Limits(
            value=rows.value,
            lower=low + inside,
            upper=high - inside,
            effects=self._effects(rows, np.ones(bus.size)),
            price=np.full(bus.size, self.assessor.prices.voltage_eur_per_pu_h),
            **(_described(_VOLTAGE, bus) | {"relief": _number(_VOLTAGE, self.assessor.subnet[bus])}),
        )
        return [limits]

    def _reactive_limits(self, bus: IntArray) -> list[Limits]:
        """Upper and lower limits apart: units that start or stop move them."""
        base, given, units = self.assessor.grid.network.base_mva, self.state.injections, self.assessor.grid.units
        own = self.controls.q_per_unit[bus].toarray() * base
        effects = self._effects(self.sensitivities.reactive_powers(bus), np.full(bus.size, base), own)
        here = bus[:, None] == units.bus[self.thermal][None, :]
        on = self.state.snapshot.unit_on[self.thermal].astype(np.float64)
        value = self.state.solution.q_control_pu[bus] * base
        low, high = given.q_pu_min[bus] * base, given.q_pu_max[bus] * base
        inside = np.minimum(self.settings.reactive_margin * (high - low), _REACTIVE_MARGIN_MVAR)
        brought = [np.where(here, limit[self.thermal], 0.0) for limit in (units.q_mvar_min, units.q_mvar_max)]
        none = np.full(bus.size, INF)
        price = np.full(bus.size, self.assessor.prices.reactive_eur_per_mvarh)
        return [
            Limits(
                value=value - side @ on,
                lower=lower - side @ on,
                upper=upper - side @ on,
                effects=replace(effects, commitment=-side),
                price=price,
                **_described(_REACTIVE, bus),
            )
            for side, lower, upper in ((brought[0], low + inside, none), (brought[1], -none, high - inside))
        ]

    def limits(self) -> Limits:
        """Return all linearised limits, the slack's power first."""
        if len(self._parts) > 1:
            self._parts = [_joined(self._parts)]
        return self._parts[0]

    def measured(self, limits: Limits, other: Assessment) -> FloatArray:
        """Return the values of the rows in another, solved state, (row,)."""
        kind, element = limits.kind, limits.element
        value = limits.value.copy()
        value[kind == _BALANCE] = self.assessor.slack_power(other.snapshot, other.solution)
        current = kind == _BRANCH
        i_from, i_to = other.network.branch_currents(other.solution.v_pu)
        branch, at_from = element[current], limits.at_from[current]
        value[current] = (limits.direction[current] * np.where(at_from, i_from[branch], i_to[branch])).real
        value[kind == _VOLTAGE] = other.solution.vm_pu[element[kind == _VOLTAGE]]
        reactive = kind == _REACTIVE
        on = other.snapshot.unit_on[self.thermal].astype(np.float64)
        q_mvar = other.solution.q_control_pu[element[reactive]] * self.assessor.grid.network.base_mva
        value[reactive] = q_mvar + limits.effects.commitment[reactive] @ on
        return value


def _without_small(effect: FloatArray, range_: FloatArray | float) -> FloatArray:
    """Put effects (row, control) to 0 in place that are negligible over a control's range; return them."""
    effect[np.abs(effect) * range_ <= NEGLIGIBLE] = 0.0
    return effect


def _tap_groups(network: Network, tap: IntArray) -> sp.csr_matrix:
    """Return which taps move together, (tap, group): those of parallel transformers in the same position.

    Moved apart they would drive a current round their loop.
    """
    branch = network.tap_branch
    keys = np.column_stack(
        [
            network.from_bus[branch],
            network.to_bus[branch],
            tap,
            network.tap_min,
            network.tap_max,
            network.tap_step,
            network.tap_step_rad,
            network.tap_at_from,
            network.tap_phase_shifter,
        ]
    )
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    size = int(group.max(initial=-1)) + 1
    return sp.csr_matrix((np.ones(tap.size), (np.arange(tap.size), group)), shape=(tap.size, size))


def _number(kind: int, element: IntArray) -> IntArray:
    """Number the slacks of all kinds apart."""
    return element * (_REACTIVE + 1) + kind


def _described(kind: int, element: IntArray) -> dict[str, Any]:
    """Return what a row is and what relaxes it, for rows that are no currents."""
    return {
        "kind": np.full(element.size, kind),
        "element": element,
        "relief": _number(kind, element),
        "direction": np.zeros(element.size, dtype=np.complex128),
        "at_from": np.zeros(element.size, dtype=np.bool_),
        "first_part": np.zeros(element.size, dtype=np.bool_),
    }


def _joined(parts: list[Limits]) -> Limits:
    joined = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(Limits)
        if f.name != "effects"
    }
    dense = {
        f.name: np.concatenate([getattr(part.effects, f.name) for part in parts])
        for f in fields(Effects)
        if f.name != "injection"
    }
    injection = sp.vstack([part.effects.injection for part in parts], format="csr")
    return Limits(**joined, effects=Effects(injection=injection, **dense))
