"""Primal-dual interior-point method for optimal AC flow on bus blocks.

Follows the method of Wang, Murillo-Sanchez, Zimmerman and Thomas (2007, "On computational issues of market-based
optimal power flow"), with four additions: elastic limits (a price makes a limit soft; the excess is eliminated in
closed form), elimination of the reactive and active sources, an inertia correction, and a line search on the exact
penalty function.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.grid.optimal_flow import (
    EXCESS_ABOVE_PU,
    EXCESS_BELOW_PU,
    FlowAnswer,
    FlowHour,
    FlowNetwork,
    FlowWeights,
    sum_at,
)
from bos_core.grid.optimal_flow_blocks import (
    BlockPattern,
    block_pattern,
    factorize,
    multiply_blocks,
    solve_blocks,
)
from bos_core.grid.optimal_flow_branches import (
    assemble_branches,
    evaluate_branches,
    fill_blocks,
    gather,
    tap_of_branch,
)

_SHORTEN = 0.9995
_HALVINGS = 6
_SHIFTS = 30
_LEAST_BARRIER = 0.01
_DAMPING, _LIMIT_DAMPING = 1e-10, 1e-6
"""Keep the curvature of active limits finite; that of flow limits spreads over two blocks and would cancel."""
_COST_GRADIENT_MAX = 100.0
_SLOPE_KEPT = 1e-9
_PATTERNS_KEPT = 8
_patterns: OrderedDict[str, BlockPattern] = OrderedDict()


@dataclass(frozen=True)
class BarrierOptions:
    """Stopping and start of the method.

    Attributes
    ----------
    tolerance : float
        On mismatch (p.u.), gradient and complementarity, each relative to the size of its variables.
    iterations_max : int
    centering : float
        Factor of the barrier parameter from step to step.
    slack_start : float
        Least start slack of an inequality: small when the start is nearly optimal.
    barrier_start : float
    """

    tolerance: float = 1e-6
    iterations_max: int = 120
    centering: float = 0.1
    slack_start: float = 1.0
    barrier_start: float = 1.0


COLD = BarrierOptions()
WARM = BarrierOptions(slack_start=1e-2, barrier_start=1e-3)
"""For a start that nearly solves the power flow."""


def solve_flow(
    flow: FlowNetwork, hour: FlowHour, weights: FlowWeights, options: BarrierOptions = COLD
) -> FlowAnswer:
    """Solve one optimal flow; an answer that is not `solved` says why in `reason`."""
    return _Barrier(flow, hour, weights, options).solve()


def solve_from_power_flow(
    flow: FlowNetwork, hour: FlowHour, weights: FlowWeights, iterations_max: int = COLD.iterations_max
) -> FlowAnswer:
    """Solve one optimal flow from a power-flow solution: a warm start first, a cold one if that fails."""
    first = solve_flow(flow, hour, weights, replace(WARM, iterations_max=iterations_max))
    if first.solved:
        return first
    second = solve_flow(flow, hour, weights, replace(COLD, iterations_max=iterations_max))
    return replace(second, iterations=first.iterations + second.iterations)


def _pattern(flow: FlowNetwork) -> BlockPattern:
    digest = hashlib.sha256(flow.from_bus.tobytes() + flow.to_bus.tobytes())
    key = f"{flow.n_bus}/{digest.hexdigest()}"
    if key not in _patterns:
        _patterns[key] = block_pattern(flow.n_bus, flow.from_bus, flow.to_bus)
        if len(_patterns) > _PATTERNS_KEPT:
            _patterns.popitem(last=False)
    _patterns.move_to_end(key)
    return _patterns[key]


@dataclass(frozen=True, eq=False)
class _Bounds:
    """Simple bounds: rows ``sign (x[at] - value) <= 0`` on the stacked variables."""

    at: IntArray
    sign: FloatArray
    value: FloatArray


@dataclass(frozen=True, eq=False)
class _Point:
    """Stacked variables, prices of the mismatch (2 bus,), and of each inequality slack, excess and multiplier."""

    x: FloatArray
    prices: FloatArray
    slack: FloatArray
    excess: FloatArray
    mu: FloatArray

    def stepped(self, step: _Point, primal: float, dual: float) -> _Point:
        """Return the point after a step; the prices of the equations go with the variables."""
        return _Point(
            self.x + primal * step.x,
            self.prices + primal * step.prices,
            self.slack + primal * step.slack,
            self.excess + primal * step.excess,
            self.mu + dual * step.mu,
        )


@dataclass(frozen=True, eq=False)
class _Values:
    """Mismatch (2 bus,), inequalities h <= 0, slopes of the flow limits (branch, 2, 5)."""

    mismatch: FloatArray
    h: FloatArray
    slope: FloatArray


@dataclass(frozen=True, eq=False)
class _Matrix:
    """Second-order pieces: branch Hessians and Jacobians, diagonal of the rest, demand slopes and curvature."""

    hessian: FloatArray
    jacobian: FloatArray
    diagonal: FloatArray
    slope_p: FloatArray
    slope_q: FloatArray
    bend: FloatArray


class _Barrier:
    """One solve. Stacked variables x: angle, magnitude, ratio, reactive source, active source, balance."""

    def __init__(self, flow: FlowNetwork, hour: FlowHour, weights: FlowWeights, options: BarrierOptions) -> None:
        self.flow, self.hour, self.weights, self.options = flow, hour, weights, options
        self.pattern = _pattern(flow)
        n, sizes = flow.n_bus, (flow.n_bus, flow.n_bus, flow.tap_branch.size, flow.q_bus.size, flow.p_bus.size, 1)
        ends = np.cumsum(sizes)
        self.va, self.vm, self.ratio, self.q, self.p, self.balance = (
            slice(int(e) - s, int(e)) for e, s in zip(ends, sizes, strict=True)
        )
        self.n, self.n_x = n, int(ends[-1])
        movable: BoolArray = hour.inverse_ratio_max - hour.inverse_ratio_min > 1e-9
        self.tap = tap_of_branch(flow.n_branch, flow.tap_branch, movable)
        self.tap_free = np.flatnonzero(movable)
        self.q_free = np.flatnonzero(hour.q_max - hour.q_min > 1e-9)
        self.p_free = np.flatnonzero(hour.p_max - hour.p_min > 1e-9)
        self.bounds, prices = self._make_bounds()
        self.limit = np.stack([hour.limit_from, hour.limit_to], axis=1)
        self.limited = np.isfinite(self.limit)
        cost = np.abs(hour.p_cost_linear + 2 * hour.p_cost_square * hour.p_max).max(initial=0.0)
        self.scale = min(1.0, _COST_GRADIENT_MAX / max(cost, abs(weights.balance), 1e-9))
        n_limit = int(self.limited.sum())
        self.price = np.concatenate([np.full(n_limit, weights.loading_price), prices]) * self.scale
        self.soft = np.isfinite(self.price)
        self.n_limit = n_limit
        self.damping = np.full(self.price.size, _DAMPING)
        self.damping[:n_limit] = _LIMIT_DAMPING

    def _make_bounds(self) -> tuple[_Bounds, FloatArray]:
        hour, weights = self.hour, self.weights
        bus = np.arange(self.n) + self.vm.start
        groups = (
            (bus, hour.vm_min, hour.vm_max, weights.voltage_price),
            (bus, hour.vm_min - EXCESS_BELOW_PU, hour.vm_max + EXCESS_ABOVE_PU, np.inf),
            (self.tap_free + self.ratio.start, hour.inverse_ratio_min[self.tap_free],
             hour.inverse_ratio_max[self.tap_free], np.inf),
            (self.q_free + self.q.start, hour.q_min[self.q_free], hour.q_max[self.q_free], np.inf),
            (self.p_free + self.p.start, hour.p_min[self.p_free], hour.p_max[self.p_free], np.inf),
        )  # fmt: skip
        at, sign, value, price = [], [], [], []
        for where, low, high, cost in groups:
            for bound, direction in ((low, -1.0), (high, 1.0)):
                finite = np.isfinite(bound)
                at.append(where[finite])
                sign.append(np.full(int(finite.sum()), direction))
                value.append(bound[finite])
                price.append(np.full(int(finite.sum()), cost))
        return _Bounds(np.concatenate(at), np.concatenate(sign), np.concatenate(value)), np.concatenate(price)

    # --- values

    def _start(self) -> FloatArray:
        hour, flow = self.hour, self.flow
        x = np.zeros(self.n_x)
        x[self.va], x[self.vm] = hour.va, hour.vm
        x[self.ratio] = hour.inverse_ratio[flow.tap_branch]
        x[self.q] = np.clip(hour.q_start, hour.q_min, hour.q_max)
        x[self.p] = np.clip(hour.p_start, hour.p_min, hour.p_max)
        return x

    def _full_ratio(self, x: FloatArray) -> FloatArray:
        ratio = self.hour.inverse_ratio.copy()
        ratio[self.flow.tap_branch] = x[self.ratio]
        return ratio

    def _evaluate(self, x: FloatArray) -> _Values:
        flow, hour, n = self.flow, self.hour, self.n
        vm = x[self.vm]
        p = hour.p_linear * vm + hour.p_square * vm**2 - hour.p_pu - sum_at(flow.p_bus, x[self.p], n)
        q = hour.q_linear * vm + hour.q_square * vm**2 - hour.q_pu - sum_at(flow.q_bus, x[self.q], n)
        p[flow.reference] -= x[-1]
        excess, slope = np.zeros((flow.n_branch, 2)), np.zeros((flow.n_branch, 2, 5))
        evaluate_branches(
            flow.from_bus, flow.to_bus, self.hour.coefficient, self._full_ratio(x), vm, x[self.va], p, q,
            self.limit, self.weights.apparent, excess, slope,
        )  # fmt: skip
        simple = self.bounds.sign * (x[self.bounds.at] - self.bounds.value)
        return _Values(np.concatenate([p, q]), np.concatenate([excess[self.limited], simple]), slope)

    def _objective_gradient(self, x: FloatArray) -> FloatArray:
        hour, weights = self.hour, self.weights
        gradient = np.zeros(self.n_x)
        gradient[self.vm] = 2 * weights.voltage * (x[self.vm] - hour.vm_target)
        gradient[self.ratio] = 2 * weights.tap * (x[self.ratio] - hour.inverse_ratio[self.flow.tap_branch])
        gradient[self.p] = hour.p_cost_linear + 2 * hour.p_cost_square * x[self.p]
        gradient[self.balance] = weights.balance
        gradient *= self.scale
        return gradient

    def _limit_array(self, values: FloatArray) -> FloatArray:
        """Spread values of the flow limits over (branch, 2)."""
        full = np.zeros(self.limit.shape)
        full[self.limited] = values[: self.n_limit]
        return full

    def _transposed(self, slope: FloatArray, values: FloatArray) -> FloatArray:
        """Return the derivative of the inequalities, transposed, times `values`."""
        out = np.zeros(self.n_x)
        if self.n_limit:
            local = np.einsum("ke,kea->ka", self._limit_array(values), slope)
            gather(
                self.flow.from_bus, self.flow.to_bus, self.tap, local, out[self.va], out[self.vm], out[self.ratio]
            )
        out += sum_at(self.bounds.at, self.bounds.sign * values[self.n_limit :], self.n_x)
        return out

    def _forward(self, slope: FloatArray, dx: FloatArray) -> FloatArray:
        """Return the derivative of the inequalities times `dx`."""
        simple = self.bounds.sign * dx[self.bounds.at]
        if not self.n_limit:
            return simple
        flow, va, vm = self.flow, dx[self.va], dx[self.vm]
        ratio = np.zeros(flow.n_branch)
        ratio[flow.tap_branch] = dx[self.ratio]
        f, t = flow.from_bus, flow.to_bus
        local = np.stack([va[f], vm[f], va[t], vm[t], ratio], axis=1)
        return np.concatenate([np.einsum("kea,ka->ke", slope, local)[self.limited], simple])

    # --- the method

    def solve(self) -> FlowAnswer:
        """Iterate until the optimality conditions hold."""
        gamma = self.options.barrier_start
        x = self._start()
        values = self._evaluate(x)
        point = self._first_point(x, values.h, gamma)
        iteration, reason, shift = 0, "", 0.0
        while True:
            blocks = self._branch_blocks(point)
            if self._converged(point, values, blocks[1]):
                break
            if iteration == self.options.iterations_max:
                reason = "iteration limit"
                break
            iteration += 1
            found = self._step(point, values, gamma, blocks, shift)
            if found is None:
                reason = "no descent direction"
                break
            step, shift = found
            soft = self.soft
            primal = min(_longest(point.slack, step.slack), _longest(point.excess[soft], step.excess[soft]))
            dual = min(_longest(point.mu, step.mu), _longest((self.price - point.mu)[soft], -step.mu[soft]))
            primal = self._search(point, values, step, gamma, primal)
            point = point.stepped(step, primal, dual)
            if not np.isfinite(point.x).all():
                reason = "lost in numbers that are not finite"
                break
            least = _LEAST_BARRIER * self.options.tolerance
            gamma = max(self.options.centering * self._gap(point) / (point.mu.size + int(soft.sum())), least)
            values = self._evaluate(point.x)
        return self._answer(point.x, iteration, reason)

    def _first_point(self, x: FloatArray, h: FloatArray, gamma: float) -> _Point:
        """Return slacks and multipliers for a start; a soft limit that is passed starts with its excess."""
        soft = self.soft
        slack = np.maximum(-h, self.options.slack_start)
        mu = np.minimum(gamma / slack, np.where(soft, 0.5 * self.price, np.inf))
        room = np.where(soft, self.price - mu, np.inf)
        excess = np.where(soft, np.maximum(h + slack, gamma / room), 0.0)
        return _Point(x, np.zeros(2 * self.n), np.where(soft, excess - h, slack), excess, mu)

    def _gap(self, point: _Point) -> float:
        soft = self.soft
        return float(point.slack @ point.mu + point.excess[soft] @ (self.price - point.mu)[soft])

    def _converged(self, point: _Point, values: _Values, jacobian: FloatArray) -> bool:
        gradient = self._gradient(point, jacobian) + self._transposed(values.slope, point.mu)
        self._hold(gradient)
        tolerance, size = self.options.tolerance, 1 + float(np.abs(point.x).max())
        violation = float((values.h - point.excess).max(initial=0.0))
        feasible = max(float(np.abs(values.mismatch).max()), violation) <= tolerance * size
        largest = max(float(np.abs(point.prices).max()), float(point.mu.max(initial=0.0)))
        stationary = float(np.abs(gradient).max()) <= tolerance * (1 + largest)
        return feasible and stationary and self._gap(point) <= 0.1 * tolerance * point.mu.size

    def _search(self, point: _Point, values: _Values, step: _Point, gamma: float, longest: float) -> float:
        """Return the step at which the exact penalty function falls enough, halving from the longest."""
        soft = self.soft
        multipliers = np.concatenate([point.prices + step.prices, point.mu + step.mu])
        penalty = 1.2 * float(np.abs(multipliers).max())

        def barrier(at: _Point) -> float:
            logs = float(np.log(at.slack).sum() + np.log(at.excess[soft]).sum())
            value: float = self._objective(at.x) * self.scale - gamma * logs
            return value + float(self.price[soft] @ at.excess[soft])

        def infeasible(at: _Point, found: _Values) -> float:
            return float(np.abs(found.mismatch).sum() + np.abs(found.h - at.excess + at.slack).sum())

        off = infeasible(point, values)
        before = barrier(point) + penalty * off
        slope = (
            float(self._objective_gradient(point.x) @ step.x)
            + float(self.price[soft] @ step.excess[soft])
            - gamma * float((step.slack / point.slack).sum() + (step.excess[soft] / point.excess[soft]).sum())
            - penalty * off
        )
        length = longest
        for _ in range(_HALVINGS):
            trial = point.stepped(step, length, 0.0)
            after = barrier(trial) + penalty * infeasible(trial, self._evaluate(trial.x))
            if after <= before + 1e-4 * length * min(slope, 0.0) + 1e-10 * abs(before):
                break
            length *= 0.5
        return length

    def _objective(self, x: FloatArray) -> float:
        hour, weights = self.hour, self.weights
        return float(
            weights.balance * x[-1]
            + weights.voltage * ((x[self.vm] - hour.vm_target) ** 2).sum()
            + weights.tap * ((x[self.ratio] - hour.inverse_ratio[self.flow.tap_branch]) ** 2).sum()
            + hour.p_cost_linear @ x[self.p]
            + hour.p_cost_square @ x[self.p] ** 2
        )

    def _curvature(self, point: _Point) -> FloatArray:
        room = np.where(self.soft, self.price - point.mu, 1.0)
        give = point.slack / point.mu + np.where(self.soft, point.excess / room, 0.0)
        curvature: FloatArray = 1.0 / (give + self.damping)
        return curvature

    def _branch_blocks(self, point: _Point) -> tuple[FloatArray, FloatArray]:
        """Return the local Hessians and Jacobians of the branches."""
        flow, n, x = self.flow, self.n, point.x
        hessian, jacobian = np.empty((flow.n_branch, 5, 5)), np.empty((flow.n_branch, 4, 5))
        assemble_branches(
            flow.from_bus, flow.to_bus, self.hour.coefficient, self._full_ratio(x), self.tap, x[self.vm],
            x[self.va], point.prices[:n], point.prices[n:], self.limit, self.weights.apparent,
            self._limit_array(point.mu), self._limit_array(self._curvature(point)), flow.reference, hessian,
            jacobian,
        )  # fmt: skip
        return hessian, jacobian

    def _demand_slope(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        hour, vm = self.hour, x[self.vm]
        return hour.p_linear + 2 * hour.p_square * vm, hour.q_linear + 2 * hour.q_square * vm

    def _gradient(self, point: _Point, jacobian: FloatArray) -> FloatArray:
        """Return the gradient of objective + prices x mismatch."""
        flow, n, x = self.flow, self.n, point.x
        gradient = self._objective_gradient(x)
        price_p, price_q = point.prices[:n], point.prices[n:]
        ends = np.stack(
            [price_p[flow.from_bus], price_q[flow.from_bus], price_p[flow.to_bus], price_q[flow.to_bus]], 1
        )
        local = np.einsum("kq,kqa->ka", ends, jacobian)
        gather(
            flow.from_bus, flow.to_bus, self.tap, local, gradient[self.va], gradient[self.vm], gradient[self.ratio]
        )
        slope_p, slope_q = self._demand_slope(x)
        gradient[self.vm] += price_p * slope_p + price_q * slope_q
        gradient[self.q] -= price_q[flow.q_bus]
        gradient[self.p] -= price_p[flow.p_bus]
        gradient[self.balance] -= price_p[flow.reference]
        return gradient

    def _hold(self, gradient: FloatArray) -> None:
        """Clear the entries of variables that cannot move."""
        gradient[self.va.start + self.flow.reference] = 0.0
        for part, free in ((self.ratio, self.tap_free), (self.q, self.q_free), (self.p, self.p_free)):
            held = np.ones(part.stop - part.start, bool)
            held[free] = False
            gradient[part][held] = 0.0
        if not self.hour.balanced:
            gradient[self.balance] = 0.0

    def _step(
        self, point: _Point, values: _Values, gamma: float, blocks: tuple[FloatArray, FloatArray], shift: float
    ) -> tuple[_Point, float] | None:
        """Return the Newton step of all variables, and the shift that the inertia needed."""
        hour, n, soft = self.hour, self.n, self.soft
        x, slack, excess, mu = point.x, point.slack, point.excess, point.mu
        room, curvature = np.where(soft, self.price - mu, 1.0), self._curvature(point)
        target = values.h + gamma / mu - np.where(soft, gamma / room, 0.0)
        residual = self._gradient(point, blocks[1]) + self._transposed(values.slope, mu + curvature * target)
        self._hold(residual)
        diagonal = sum_at(self.bounds.at, curvature[self.n_limit :], self.n_x)
        diagonal[self.vm] += 2 * self.weights.voltage * self.scale
        diagonal[self.ratio] += 2 * self.weights.tap * self.scale
        diagonal[self.p] += 2 * hour.p_cost_square * self.scale + _SLOPE_KEPT
        diagonal[self.q] += _SLOPE_KEPT
        bend = 2 * (point.prices[:n] * hour.p_square + point.prices[n:] * hour.q_square)
        matrix = _Matrix(*blocks, diagonal, *self._demand_slope(x), bend)
        solved = self._newton(residual, values.mismatch, matrix, shift)
        if solved is None:
            return None
        dx, d_prices, shift = solved
        d_mu = curvature * (self._forward(values.slope, dx) + target)
        d_slack = gamma / mu - slack - slack / mu * d_mu
        d_excess = np.where(soft, gamma / room - excess + excess / room * d_mu, 0.0)
        return _Point(dx, d_prices, d_slack, d_excess, d_mu), shift

    def _newton(
        self, residual: FloatArray, mismatch: FloatArray, matrix: _Matrix, shift: float
    ) -> tuple[FloatArray, FloatArray, float] | None:
        """Factorize with the right inertia and solve for (dx, change of prices)."""
        flow, pattern, n = self.flow, self.pattern, self.n
        blocks = np.empty((n, 4, 4))
        trial, last = 0.0, shift
        for _ in range(_SHIFTS):
            self._own_blocks(blocks, matrix, trial)
            beside = np.zeros((int(pattern.first[-1]), 4, 4))
            tap_row, tap_pivot = np.zeros((flow.tap_branch.size, 8)), np.ones(flow.tap_branch.size)
            eliminated = fill_blocks(
                flow.from_bus, flow.to_bus, self.tap, matrix.diagonal[self.ratio] + trial, pattern.branch_block,
                pattern.branch_flipped, matrix.hessian, matrix.jacobian, blocks, beside, tap_row, tap_pivot,
            )  # fmt: skip
            factor, factor_beside = blocks.copy(), beside.copy()
            negative = factorize(
                pattern.order, pattern.first, pattern.row, pattern.first_target, pattern.target, factor,
                factor_beside,
            )  # fmt: skip
            if negative >= 0 and negative + eliminated == 2 * n:
                break
            trial = max(1e-4, last / 3) if trial == 0.0 else 8 * trial
            last = 0.0
        else:
            return None
        right = self._right_side(residual, mismatch, matrix.diagonal, tap_row, tap_pivot)
        y = right.copy()
        solve_blocks(pattern.order, pattern.first, pattern.row, factor, factor_beside, y)
        rest = right - multiply_blocks(
            flow.from_bus, flow.to_bus, pattern.branch_block, pattern.branch_flipped, blocks, beside, y
        )
        solve_blocks(pattern.order, pattern.first, pattern.row, factor, factor_beside, rest)
        y += rest
        return *self._unpack(y, residual, matrix.diagonal, tap_row, tap_pivot), trial

    def _own_blocks(self, blocks: FloatArray, matrix: _Matrix, shift: float) -> None:
        """Start the diagonal blocks with everything that is not a branch."""
        diagonal = matrix.diagonal
        flow, n, ref = self.flow, self.n, self.flow.reference
        blocks[:] = 0.0
        blocks[:, 0, 0] = shift
        blocks[:, 1, 1] = diagonal[self.vm] + matrix.bend + shift
        blocks[:, 1, 2] = blocks[:, 2, 1] = matrix.slope_p
        blocks[:, 1, 3] = blocks[:, 3, 1] = matrix.slope_q
        blocks[:, 2, 2] = -sum_at(flow.p_bus[self.p_free], 1.0 / diagonal[self.p][self.p_free], n)
        blocks[:, 3, 3] = -sum_at(flow.q_bus[self.q_free], 1.0 / diagonal[self.q][self.q_free], n)
        if self.hour.balanced:
            blocks[ref, 0, 0] = _SLOPE_KEPT
            blocks[ref, 0, 2] = blocks[ref, 2, 0] = -1.0
        else:
            blocks[ref, 0, 0] = 1.0

    def _right_side(
        self,
        residual: FloatArray,
        mismatch: FloatArray,
        diagonal: FloatArray,
        tap_row: FloatArray,
        tap_pivot: FloatArray,
    ) -> FloatArray:
        flow, n = self.flow, self.n
        right = np.empty((n, 4))
        right[:, 0], right[:, 1] = -residual[self.va], -residual[self.vm]
        right[flow.reference, 0] = -residual[-1] if self.hour.balanced else 0.0
        right[:, 2], right[:, 3] = -mismatch[:n], -mismatch[n:]
        q, p = self.q_free, self.p_free
        right[:, 2] -= sum_at(flow.p_bus[p], residual[self.p][p] / diagonal[self.p][p], n)
        right[:, 3] -= sum_at(flow.q_bus[q], residual[self.q][q] / diagonal[self.q][q], n)
        pushed = residual[self.ratio] / tap_pivot
        f, t = flow.from_bus[flow.tap_branch], flow.to_bus[flow.tap_branch]
        np.add.at(right, f, tap_row[:, :4] * pushed[:, None])
        np.add.at(right, t, tap_row[:, 4:] * pushed[:, None])
        return right

    def _unpack(
        self,
        y: FloatArray,
        residual: FloatArray,
        diagonal: FloatArray,
        tap_row: FloatArray,
        tap_pivot: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        """Recover the eliminated variables."""
        flow = self.flow
        dx = np.zeros(self.n_x)
        dx[self.va], dx[self.vm] = y[:, 0], y[:, 1]
        dx[self.va.start + flow.reference] = 0.0
        if self.hour.balanced:
            dx[-1] = y[flow.reference, 0]
        q, p = self.q_free, self.p_free
        dx[self.q.start + q] = (y[flow.q_bus[q], 3] - residual[self.q][q]) / diagonal[self.q][q]
        dx[self.p.start + p] = (y[flow.p_bus[p], 2] - residual[self.p][p]) / diagonal[self.p][p]
        ends = np.concatenate([y[flow.from_bus[flow.tap_branch]], y[flow.to_bus[flow.tap_branch]]], axis=1)
        change = (-residual[self.ratio] - (tap_row * ends).sum(1)) / tap_pivot
        dx[self.ratio.start + self.tap_free] = change[self.tap_free]
        return dx, np.concatenate([y[:, 2], y[:, 3]])

    def _answer(self, x: FloatArray, iterations: int, reason: str) -> FlowAnswer:
        return FlowAnswer(
            solved=not reason,
            iterations=iterations,
            objective=self._objective(x),
            vm=x[self.vm].copy(),
            va=x[self.va].copy(),
            inverse_ratio=self._full_ratio(x),
            q=x[self.q].copy(),
            p=x[self.p].copy(),
            balance_pu=float(x[-1]),
            reason=reason,
        )


def _longest(value: FloatArray, change: FloatArray) -> float:
    """Return the step that keeps values positive."""
    falling = change < 0
    if not falling.any():
        return 1.0
    return min(1.0, _SHORTEN * float(np.min(value[falling] / -change[falling])))
