"""The compiled primal-dual interior-point method of `bos_core.grid.optimal_flow_barrier`.

Stacked variables x: angles, magnitudes, inverse ratios, reactive sources, active sources, balance. An inequality
h <= 0 has a slack and a multiplier; a soft one also has an excess at a price: h + slack - excess = 0,
slack x multiplier = excess x (price - multiplier) = barrier parameter. Slack and excess are eliminated in closed
form; steps are predictor and corrector (Mehrotra 1992).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.grid.optimal_flow_blocks import AREA, BLOCK, BlockPattern, factorize, solve_blocks, subtract_product
from bos_core.grid.optimal_flow_branches import (
    LOCAL,
    Branches,
    add_limit_curvature,
    differentiate_branches,
    differentiate_limits,
    evaluate_branches,
    fill_blocks,
    hold_angle,
)

SOLVED, ITERATION_LIMIT, NO_DIRECTION, NOT_FINITE, FAR_OUTSIDE = range(5)
REASONS = (
    "",
    "iteration limit",
    "no descent direction",
    "lost in numbers that are not finite",
    "voltages far outside their limits",
)

_SHORTEN = 0.9995
_HALVINGS = 6
_SHIFTS = 30
_LEAST_BARRIER = 0.01
_TELLING = 0.01
"""The step is not corrected for a predictor that goes less far."""
_DAMPING, _LIMIT_DAMPING = 1e-10, 1e-6
"""Keep the curvature of active limits finite; that of flow limits spreads over two blocks and would cancel."""
_SLOPE_KEPT = 1e-9
_PRICE_DAMPING, _PRICE_DAMPING_MAX, _PRICE_DAMPING_FACTOR = 1e-9, 1e-4, 1e3
"""Taken from the diagonal of the prices: a bus whose voltage and reactive power are both at limits is nearly
singular by itself. Iterative refinement takes the effect away; it grows by the factor where that fails."""
_ACCURATE, _ACCEPTABLE, _REFINEMENTS = 1e-8, 1e-4, 5
"""Relative residuals of the linear system that end the refinement, and that need no more damping; most of them."""


class Layout(NamedTuple):
    """Where each group of variables begins in x, and how many variables there are."""

    magnitude: int
    ratio: int
    reactive: int
    active: int
    balance: int
    size: int


class Problem(NamedTuple):
    """One optimal flow as the compiled functions take it; (bus,), (tap,), (q_source,), (p_source,) as in FlowHour.

    Attributes
    ----------
    held : (variable,)
        Variables that cannot move.
    price : (row,)
        Of each inequality, flow limits first; inf = hard.
    bound_at, bound_sign, bound_value : (bound,)
        Simple bounds sign (x[at] - value) <= 0: the inequalities after the flow limits.
    scale : float
        Factor of the objective.
    """

    branches: Branches
    pattern: BlockPattern
    layout: Layout
    reference: int
    balanced: bool
    p_pu: FloatArray
    q_pu: FloatArray
    p_linear: FloatArray
    q_linear: FloatArray
    p_square: FloatArray
    q_square: FloatArray
    inverse_ratio: FloatArray
    tap_branch: IntArray
    q_bus: IntArray
    p_bus: IntArray
    p_cost_linear: FloatArray
    p_cost_square: FloatArray
    vm_target: FloatArray
    held: BoolArray
    price: FloatArray
    bound_at: IntArray
    bound_sign: FloatArray
    bound_value: FloatArray
    balance_weight: float
    voltage_weight: float
    tap_weight: float
    scale: float


class Point(NamedTuple):
    """Variables, prices of the mismatch (2 bus,), and of each inequality slack, excess and multiplier."""

    x: FloatArray
    prices: FloatArray
    slack: FloatArray
    excess: FloatArray
    mu: FloatArray


class Values(NamedTuple):
    """What a point gives: mismatch (2 bus,), inequalities (row,), inverse ratios (branch,), cosines and sines."""

    mismatch: FloatArray
    h: FloatArray
    ratio: FloatArray
    turn: FloatArray


class Curves(NamedTuple):
    """Derivatives at a point.

    Attributes
    ----------
    hessian, jacobian : local ones of the branches, (branch, 5, 5) and (branch, 4, 5).
    slope : (limit, 5), of the flow limits.
    gradient : (variable,), of objective + prices x mismatch.
    diagonal : (variable,), curvature of objective and bounds.
    room : (row,), price - mu.
    curvature : (row,), of the inequalities.
    """

    hessian: FloatArray
    jacobian: FloatArray
    slope: FloatArray
    gradient: FloatArray
    diagonal: FloatArray
    room: FloatArray
    curvature: FloatArray


class Newton(NamedTuple):
    """The linear system of a step: matrix and factor (block, 16), eliminated ratios (tap, 8) and (tap,)."""

    matrix: FloatArray
    factor: FloatArray
    tap_row: FloatArray
    tap_pivot: FloatArray


@njit(cache=True, error_model="numpy")
def new_point(problem: Problem) -> Point:
    """Return room for a point or a step."""
    n, rows = problem.p_pu.size, problem.price.size
    return Point(np.zeros(problem.layout.size), np.zeros(2 * n), np.zeros(rows), np.zeros(rows), np.zeros(rows))


@njit(cache=True, error_model="numpy")
def new_values(problem: Problem) -> Values:
    """Return room for the values of a point."""
    m = problem.branches.from_bus.size
    return Values(
        np.empty(2 * problem.p_pu.size),
        np.empty(problem.price.size),
        problem.inverse_ratio.copy(),
        np.empty((m, 2)),
    )


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def evaluate(problem: Problem, x: FloatArray, values: Values) -> None:
    """Fill the values of a point."""
    n, at = problem.p_pu.size, problem.layout
    vm = x[at.magnitude : at.ratio]
    mismatch, ratio = values.mismatch, values.ratio
    for i in range(n):
        v = vm[i]
        mismatch[i] = problem.p_linear[i] * v + problem.p_square[i] * v * v - problem.p_pu[i]
        mismatch[n + i] = problem.q_linear[i] * v + problem.q_square[i] * v * v - problem.q_pu[i]
    for k in range(problem.q_bus.size):
        mismatch[n + problem.q_bus[k]] -= x[at.reactive + k]
    for k in range(problem.p_bus.size):
        mismatch[problem.p_bus[k]] -= x[at.active + k]
    mismatch[problem.reference] -= x[at.balance]
    for k in range(problem.tap_branch.size):
        ratio[problem.tap_branch[k]] = x[at.ratio + k]
    limits = problem.branches.limit_branch.size
    evaluate_branches(
        problem.branches, ratio, vm, x[:n], mismatch[:n], mismatch[n:], values.turn, values.h[:limits]
    )
    for r in range(problem.bound_at.size):
        values.h[limits + r] = problem.bound_sign[r] * (x[problem.bound_at[r]] - problem.bound_value[r])


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _objective(problem: Problem, x: FloatArray) -> float:
    at = problem.layout
    total = problem.balance_weight * x[at.balance]
    for i in range(problem.p_pu.size):
        total += problem.voltage_weight * (x[at.magnitude + i] - problem.vm_target[i]) ** 2
    for k in range(problem.tap_branch.size):
        total += problem.tap_weight * (x[at.ratio + k] - problem.inverse_ratio[problem.tap_branch[k]]) ** 2
    for k in range(problem.p_bus.size):
        p = x[at.active + k]
        total += (problem.p_cost_linear[k] + problem.p_cost_square[k] * p) * p
    scaled: float = total * problem.scale
    return scaled


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _objective_gradient(problem: Problem, x: FloatArray, gradient: FloatArray) -> None:
    at, scale = problem.layout, problem.scale
    gradient[:] = 0.0
    for i in range(problem.p_pu.size):
        gradient[at.magnitude + i] = (
            2 * scale * problem.voltage_weight * (x[at.magnitude + i] - problem.vm_target[i])
        )
    for k in range(problem.tap_branch.size):
        gradient[at.ratio + k] = (
            2 * scale * problem.tap_weight * (x[at.ratio + k] - problem.inverse_ratio[problem.tap_branch[k]])
        )
    for k in range(problem.p_bus.size):
        gradient[at.active + k] = scale * (
            problem.p_cost_linear[k] + 2 * problem.p_cost_square[k] * x[at.active + k]
        )
    gradient[at.balance] = scale * problem.balance_weight


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _differentiate(problem: Problem, point: Point, values: Values, curves: Curves) -> None:
    """Fill the derivatives at a point."""
    n, at, branches = problem.p_pu.size, problem.layout, problem.branches
    x, price_p, price_q = point.x, point.prices[:n], point.prices[n:]
    vm, limits = x[at.magnitude : at.ratio], branches.limit_branch.size
    for r in range(problem.price.size):
        give = point.slack[r] / point.mu[r] + (_LIMIT_DAMPING if r < limits else _DAMPING)
        room = problem.price[r] - point.mu[r]
        curves.room[r] = room
        if np.isfinite(room):
            give += point.excess[r] / room
        curves.curvature[r] = 1.0 / give
    differentiate_branches(
        branches, values.ratio, vm, values.turn, price_p, price_q, curves.hessian, curves.jacobian
    )
    differentiate_limits(branches, values.ratio, vm, values.turn, curves.slope)
    add_limit_curvature(
        branches, values.ratio, vm, values.turn, curves.slope, point.mu[:limits], curves.curvature[:limits],
        curves.hessian,
    )  # fmt: skip
    hold_angle(branches, problem.reference, curves.hessian, curves.jacobian)
    _fill_gradient(problem, point, curves)
    _fill_diagonal(problem, curves)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _fill_gradient(problem: Problem, point: Point, curves: Curves) -> None:
    """Fill the gradient of objective + prices x mismatch."""
    n, at, branches, gradient = problem.p_pu.size, problem.layout, problem.branches, curves.gradient
    x, prices, jacobian = point.x, point.prices, curves.jacobian
    _objective_gradient(problem, x, gradient)
    for k in range(branches.from_bus.size):
        i, j, tap = branches.from_bus[k], branches.to_bus[k], branches.tap[k]
        w0, w1, w2, w3 = prices[i], prices[n + i], prices[j], prices[n + j]
        local = jacobian[k]
        gradient[i] += w0 * local[0, 0] + w1 * local[1, 0] + w2 * local[2, 0] + w3 * local[3, 0]
        gradient[n + i] += w0 * local[0, 1] + w1 * local[1, 1] + w2 * local[2, 1] + w3 * local[3, 1]
        gradient[j] += w0 * local[0, 2] + w1 * local[1, 2] + w2 * local[2, 2] + w3 * local[3, 2]
        gradient[n + j] += w0 * local[0, 3] + w1 * local[1, 3] + w2 * local[2, 3] + w3 * local[3, 3]
        if tap >= 0:
            gradient[at.ratio + tap] += w0 * local[0, 4] + w1 * local[1, 4] + w2 * local[2, 4] + w3 * local[3, 4]
    for i in range(n):
        v = x[n + i]
        gradient[n + i] += prices[i] * (problem.p_linear[i] + 2 * problem.p_square[i] * v)
        gradient[n + i] += prices[n + i] * (problem.q_linear[i] + 2 * problem.q_square[i] * v)
    for k in range(problem.q_bus.size):
        gradient[at.reactive + k] -= prices[n + problem.q_bus[k]]
    for k in range(problem.p_bus.size):
        gradient[at.active + k] -= prices[problem.p_bus[k]]
    gradient[at.balance] -= prices[problem.reference]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _fill_diagonal(problem: Problem, curves: Curves) -> None:
    """Fill the curvature of objective and bounds by single variables."""
    at, scale, diagonal = problem.layout, problem.scale, curves.diagonal
    diagonal[:] = 0.0
    diagonal[at.magnitude : at.ratio] = 2 * scale * problem.voltage_weight
    diagonal[at.ratio : at.reactive] = 2 * scale * problem.tap_weight
    diagonal[at.reactive : at.active] = _SLOPE_KEPT
    for k in range(problem.p_bus.size):
        diagonal[at.active + k] = 2 * scale * problem.p_cost_square[k] + _SLOPE_KEPT
    limits = problem.branches.limit_branch.size
    for r in range(problem.bound_at.size):
        diagonal[problem.bound_at[r]] += curves.curvature[limits + r]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _with_inequalities(problem: Problem, curves: Curves, rows: FloatArray, out: FloatArray) -> None:
    """Set `out` to the gradient plus the transposed derivative of the inequalities times `rows`; 0 where held."""
    at, branches = problem.layout, problem.branches
    limits = branches.limit_branch.size
    out[:] = curves.gradient
    for m in range(limits):
        k = branches.limit_branch[m]
        i, j, tap = branches.from_bus[k], branches.to_bus[k], branches.tap[k]
        out[i] += rows[m] * curves.slope[m, 0]
        out[at.magnitude + i] += rows[m] * curves.slope[m, 1]
        out[j] += rows[m] * curves.slope[m, 2]
        out[at.magnitude + j] += rows[m] * curves.slope[m, 3]
        if tap >= 0:
            out[at.ratio + tap] += rows[m] * curves.slope[m, 4]
    for r in range(problem.bound_at.size):
        out[problem.bound_at[r]] += problem.bound_sign[r] * rows[limits + r]
    for i in range(out.size):
        if problem.held[i]:
            out[i] = 0.0


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _fill_matrix(problem: Problem, point: Point, curves: Curves, newton: Newton, shift: float) -> int:
    """Fill the matrix of a step; return the number of negative pivots of the ratios, which are eliminated."""
    n, at = problem.p_pu.size, problem.layout
    matrix, diagonal, ref = newton.matrix, curves.diagonal, problem.reference
    matrix[:] = 0.0
    for i in range(n):
        v, price_p, price_q = point.x[n + i], point.prices[i], point.prices[n + i]
        bend = 2 * (price_p * problem.p_square[i] + price_q * problem.q_square[i])
        matrix[i, 0] = shift
        matrix[i, 5] = diagonal[at.magnitude + i] + bend + shift
        matrix[i, 6] = problem.p_linear[i] + 2 * problem.p_square[i] * v
        matrix[i, 7] = problem.q_linear[i] + 2 * problem.q_square[i] * v
    for k in range(problem.p_bus.size):
        if not problem.held[at.active + k]:
            matrix[problem.p_bus[k], 10] -= 1.0 / diagonal[at.active + k]
    for k in range(problem.q_bus.size):
        if not problem.held[at.reactive + k]:
            matrix[problem.q_bus[k], 15] -= 1.0 / diagonal[at.reactive + k]
    # the reference angle stands still: its place is the balance variable's, or empty
    if problem.balanced:
        matrix[ref, 0] = _SLOPE_KEPT
        matrix[ref, 2] = -1.0
    else:
        matrix[ref, 0] = 1.0
    negative: int = fill_blocks(
        problem.branches, diagonal[at.ratio : at.reactive] + shift, problem.pattern, curves.hessian,
        curves.jacobian, matrix, newton.tap_row, newton.tap_pivot,
    )  # fmt: skip
    return negative


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _factorized(
    problem: Problem, point: Point, curves: Curves, newton: Newton, last: float, damping: float
) -> tuple[float, float]:
    """Factorize with the right inertia; return the shift that it needed (-1: none was enough) and the damping.

    A wrong inertia may be a sign of an unstable factorization: the damping of the prices is raised first.
    """
    n, factor = problem.p_pu.size, newton.factor
    shift, given = 0.0, damping
    for _ in range(_SHIFTS):
        negative = _fill_matrix(problem, point, curves, newton, shift)
        factor[:] = newton.matrix
        factor[:n, 10] -= damping
        factor[:n, 15] -= damping
        found = factorize(problem.pattern, factor)
        if found >= 0 and found + negative == 2 * n:
            return shift, damping if shift == 0.0 else given
        if shift == 0.0 and damping < _PRICE_DAMPING_MAX:
            damping = _PRICE_DAMPING_MAX
        else:
            shift = max(1e-4, last / 3) if shift == 0.0 else 8 * shift
            last = 0.0
    return -1.0, given


@njit(cache=True, error_model="numpy")
def _largest(values: FloatArray, first: int) -> float:
    """Return the largest size in two columns, from the first on."""
    largest = 0.0
    for i in range(values.shape[0]):
        largest = max(largest, abs(values[i, first]), abs(values[i, first + 1]))
    return largest


@njit(cache=True, error_model="numpy")
def _solve_refined(problem: Problem, newton: Newton, right: FloatArray, wanted: float, y: FloatArray) -> float:
    """Solve the damped system and refine to the relative residual wanted; return the one reached.

    The residuals of the rows of variables and of those of prices are each relative to their own right side.
    """
    y[:] = right
    solve_blocks(problem.pattern, newton.factor, y)
    rest, share = np.empty_like(right), np.inf
    of_variables, of_prices = _largest(right, 0) + 1e-300, _largest(right, 2) + 1e-300
    for _ in range(_REFINEMENTS):
        rest[:] = right
        subtract_product(problem.pattern, newton.matrix, y, rest)
        share = max(_largest(rest, 0) / of_variables, _largest(rest, 2) / of_prices)
        if share <= wanted or not np.isfinite(share):
            break
        solve_blocks(problem.pattern, newton.factor, rest)
        y += rest
    return share


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _fill_right_side(
    problem: Problem, residual: FloatArray, mismatch: FloatArray, diagonal: FloatArray, newton: Newton,
    right: FloatArray,
) -> None:  # fmt: skip
    """Fill the right side of the linear system; what the eliminated variables leave goes to their buses."""
    n, at, ref, branches = problem.p_pu.size, problem.layout, problem.reference, problem.branches
    for i in range(n):
        right[i, 0], right[i, 1] = -residual[i], -residual[at.magnitude + i]
        right[i, 2], right[i, 3] = -mismatch[i], -mismatch[n + i]
    right[ref, 0] = -residual[at.balance] if problem.balanced else 0.0
    for k in range(problem.p_bus.size):
        if not problem.held[at.active + k]:
            right[problem.p_bus[k], 2] -= residual[at.active + k] / diagonal[at.active + k]
    for k in range(problem.q_bus.size):
        if not problem.held[at.reactive + k]:
            right[problem.q_bus[k], 3] -= residual[at.reactive + k] / diagonal[at.reactive + k]
    for k in range(problem.tap_branch.size):
        if not problem.held[at.ratio + k]:
            f, t = branches.from_bus[problem.tap_branch[k]], branches.to_bus[problem.tap_branch[k]]
            pushed = residual[at.ratio + k] / newton.tap_pivot[k]
            for m in range(4):
                right[f, m] += newton.tap_row[k, m] * pushed
                right[t, m] += newton.tap_row[k, 4 + m] * pushed


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _recover(
    problem: Problem, residual: FloatArray, diagonal: FloatArray, newton: Newton, y: FloatArray, step: Point
) -> None:
    """Fill the steps of all variables and prices from the solution of the linear system, (bus, 4)."""
    n, at, ref, branches = problem.p_pu.size, problem.layout, problem.reference, problem.branches
    dx = step.x
    dx[:] = 0.0
    for i in range(n):
        dx[i], dx[at.magnitude + i] = y[i, 0], y[i, 1]
        step.prices[i], step.prices[n + i] = y[i, 2], y[i, 3]
    dx[ref] = 0.0
    if problem.balanced:
        dx[at.balance] = y[ref, 0]
    for k in range(problem.p_bus.size):
        if not problem.held[at.active + k]:
            dx[at.active + k] = (y[problem.p_bus[k], 2] - residual[at.active + k]) / diagonal[at.active + k]
    for k in range(problem.q_bus.size):
        if not problem.held[at.reactive + k]:
            dx[at.reactive + k] = (y[problem.q_bus[k], 3] - residual[at.reactive + k]) / diagonal[at.reactive + k]
    for k in range(problem.tap_branch.size):
        if not problem.held[at.ratio + k]:
            f, t = branches.from_bus[problem.tap_branch[k]], branches.to_bus[problem.tap_branch[k]]
            total = -residual[at.ratio + k]
            for m in range(4):
                total -= newton.tap_row[k, m] * y[f, m] + newton.tap_row[k, 4 + m] * y[t, m]
            dx[at.ratio + k] = total / newton.tap_pivot[k]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _solve(
    problem: Problem, residual: FloatArray, mismatch: FloatArray, curves: Curves, newton: Newton, wanted: float,
    step: Point,
) -> bool:  # fmt: skip
    """Solve for the steps of the variables and of the prices; return whether the solution is accurate."""
    right, y = np.empty((mismatch.size // 2, BLOCK)), np.empty((mismatch.size // 2, BLOCK))
    _fill_right_side(problem, residual, mismatch, curves.diagonal, newton, right)
    share: float = _solve_refined(problem, newton, right, wanted, y)
    _recover(problem, residual, curves.diagonal, newton, y, step)
    return share <= _ACCEPTABLE


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _step(
    problem: Problem, point: Point, values: Values, curves: Curves, newton: Newton, gamma: float, before: Point,
    corrected: bool, step: Point,
) -> bool:  # fmt: skip
    """Fill the Newton step towards a barrier parameter; return whether it is accurate.

    `before` is the predictor, and `corrected` whether to correct for it.
    """
    rows, limits, branches = problem.price.size, problem.branches.limit_branch.size, problem.branches
    at, slack, excess, mu = problem.layout, point.slack, point.excess, point.mu
    target_slack, target_excess = np.empty(rows), np.zeros(rows)
    target, weighted, residual = np.empty(rows), np.empty(rows), np.empty(problem.layout.size)
    for r in range(rows):
        soft = np.isfinite(problem.price[r])
        of_slack, of_excess = gamma, gamma
        if corrected:
            of_slack -= before.slack[r] * before.mu[r]
            of_excess += before.excess[r] * before.mu[r]
        target_slack[r] = of_slack / mu[r]
        if soft:
            target_excess[r] = of_excess / curves.room[r]
        gap = values.h[r] + slack[r] - excess[r]
        target[r] = gap + (target_slack[r] - slack[r]) - (target_excess[r] - excess[r])
        weighted[r] = mu[r] + curves.curvature[r] * target[r]
    _with_inequalities(problem, curves, weighted, residual)
    wanted = _ACCURATE if gamma > 0.0 else _ACCEPTABLE  # a predictor need not be exact
    accurate: bool = _solve(problem, residual, values.mismatch, curves, newton, wanted, step)
    dx = step.x
    for r in range(rows):
        if r < limits:
            k = branches.limit_branch[r]
            i, j, tap = branches.from_bus[k], branches.to_bus[k], branches.tap[k]
            s = curves.slope[r]
            forward = s[0] * dx[i] + s[1] * dx[at.magnitude + i] + s[2] * dx[j] + s[3] * dx[at.magnitude + j]
            if tap >= 0:
                forward += s[4] * dx[at.ratio + tap]
        else:
            forward = problem.bound_sign[r - limits] * dx[problem.bound_at[r - limits]]
        change = curves.curvature[r] * (forward + target[r])
        step.mu[r] = change
        step.slack[r] = target_slack[r] - slack[r] - slack[r] / mu[r] * change
        if np.isfinite(problem.price[r]):
            step.excess[r] = target_excess[r] - excess[r] + excess[r] / curves.room[r] * change
    return accurate


@njit(cache=True, error_model="numpy")
def _longest(problem: Problem, point: Point, room: FloatArray, step: Point) -> tuple[float, float]:
    """Return the longest primal and dual steps up to 1 that keep all positive that must be."""
    primal, dual = 1.0 / _SHORTEN, 1.0 / _SHORTEN
    for r in range(problem.price.size):
        if step.slack[r] * primal < -point.slack[r]:
            primal = -point.slack[r] / step.slack[r]
        if step.mu[r] * dual < -point.mu[r]:
            dual = -point.mu[r] / step.mu[r]
        if step.excess[r] * primal < -point.excess[r]:
            primal = -point.excess[r] / step.excess[r]
        if step.mu[r] * dual > room[r]:
            dual = room[r] / step.mu[r]
    return _SHORTEN * primal, _SHORTEN * dual


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _gap(problem: Problem, point: Point, step: Point, primal: float, dual: float) -> float:
    """Return the complementarity after a step, summed over slacks and excesses."""
    total = 0.0
    for r in range(problem.price.size):
        mu = point.mu[r] + dual * step.mu[r]
        total += (point.slack[r] + primal * step.slack[r]) * mu
        if np.isfinite(problem.price[r]):
            total += (point.excess[r] + primal * step.excess[r]) * (problem.price[r] - mu)
    return total


@njit(cache=True, error_model="numpy")
def _move(point: Point, step: Point, primal: float, dual: float, out: Point) -> None:
    """Set `out` to the point after a step; the prices of the equations go with the variables."""
    for i in range(point.x.size):
        out.x[i] = point.x[i] + primal * step.x[i]
    for i in range(point.prices.size):
        out.prices[i] = point.prices[i] + primal * step.prices[i]
    for r in range(point.mu.size):
        out.slack[r] = point.slack[r] + primal * step.slack[r]
        out.excess[r] = point.excess[r] + primal * step.excess[r]
        out.mu[r] = point.mu[r] + dual * step.mu[r]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _merit(problem: Problem, point: Point, values: Values, gamma: float) -> tuple[float, float]:
    """Return the barrier function and the sum of infeasibilities."""
    value, logs, off = _objective(problem, point.x), 0.0, 0.0
    for r in range(problem.price.size):
        logs += np.log(point.slack[r])
        if np.isfinite(problem.price[r]):
            logs += np.log(point.excess[r])
            value += problem.price[r] * point.excess[r]
        off += abs(values.h[r] - point.excess[r] + point.slack[r])
    for i in range(values.mismatch.size):
        off += abs(values.mismatch[i])
    return value - gamma * logs, off


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _search(
    problem: Problem, point: Point, values: Values, step: Point, gamma: float, primal: float, dual: float,
    trial: Point, found: Values,
) -> float:  # fmt: skip
    """Return the step at which the exact penalty function falls enough, halving from the longest.

    `trial` and `found` are the point there and its values.
    """
    penalty = 0.0
    for i in range(point.prices.size):
        penalty = max(penalty, abs(point.prices[i] + step.prices[i]))
    for r in range(point.mu.size):
        penalty = max(penalty, abs(point.mu[r] + step.mu[r]))
    penalty *= 1.2
    value, off = _merit(problem, point, values, gamma)
    before = value + penalty * off
    gradient = np.empty(problem.layout.size)
    _objective_gradient(problem, point.x, gradient)
    slope = -penalty * off
    for i in range(gradient.size):
        slope += gradient[i] * step.x[i]
    for r in range(problem.price.size):
        slope -= gamma * step.slack[r] / point.slack[r]
        if np.isfinite(problem.price[r]):
            slope += (problem.price[r] - gamma / point.excess[r]) * step.excess[r]
    for halving in range(_HALVINGS + 1):
        _move(point, step, primal, dual, trial)
        evaluate(problem, trial.x, found)
        value, off = _merit(problem, trial, found, gamma)
        after = value + penalty * off
        if halving == _HALVINGS or after <= before + 1e-4 * primal * min(slope, 0.0) + 1e-10 * abs(before):
            break
        primal *= 0.5
    return primal


@njit(cache=True, error_model="numpy")
def _converged(
    problem: Problem, point: Point, values: Values, curves: Curves, gap: float, tolerance: float
) -> bool:
    gradient = np.empty(problem.layout.size)
    _with_inequalities(problem, curves, point.mu, gradient)
    violation, largest = 0.0, np.abs(point.prices).max()
    for r in range(problem.price.size):
        violation = max(violation, values.h[r] - point.excess[r])
        largest = max(largest, point.mu[r])
    feasible = max(np.abs(values.mismatch).max(), violation) <= tolerance
    stationary = np.abs(gradient).max() <= tolerance * (1 + largest)
    return feasible and stationary and gap <= 0.1 * tolerance * point.mu.size


@njit(cache=True, error_model="numpy")
def iterate(problem: Problem, point: Point, tolerance: float, iterations_max: int) -> tuple[int, int, Point]:
    """Iterate until the optimality conditions hold; return how it ended, the iterations, and the last point."""
    m, rows = problem.branches.from_bus.size, problem.price.size
    values, found = new_values(problem), new_values(problem)
    predictor, step, trial = new_point(problem), new_point(problem), new_point(problem)
    size, taps = problem.layout.size, problem.tap_branch.size
    limits = problem.branches.limit_branch.size
    curves = Curves(
        np.empty((m, LOCAL, LOCAL)), np.empty((m, 4, LOCAL)), np.empty((limits, LOCAL)), np.empty(size),
        np.empty(size), np.empty(rows), np.empty(rows),
    )  # fmt: skip
    blocks = problem.pattern.column.size
    newton = Newton(np.empty((blocks, AREA)), np.empty((blocks, AREA)), np.zeros((taps, 8)), np.ones(taps))
    pairs = rows + np.isfinite(problem.price).sum()
    least = _LEAST_BARRIER * tolerance
    shift, damping, iteration = 0.0, _PRICE_DAMPING, 0
    evaluate(problem, point.x, values)
    while True:
        _differentiate(problem, point, values, curves)
        gap = _gap(problem, point, step, 0.0, 0.0)
        if _converged(problem, point, values, curves, gap, tolerance):
            return SOLVED, iteration, point
        if iteration == iterations_max:
            return ITERATION_LIMIT, iteration, point
        iteration += 1
        while True:
            shift, damping = _factorized(problem, point, curves, newton, shift, damping)
            if shift < 0.0:
                return NO_DIRECTION, iteration, point
            accurate = _step(problem, point, values, curves, newton, 0.0, predictor, False, predictor)
            if accurate or damping >= _PRICE_DAMPING_MAX:
                break
            damping = min(_PRICE_DAMPING_FACTOR * damping, _PRICE_DAMPING_MAX)
        primal, dual = _longest(problem, point, curves.room, predictor)
        telling = shift == 0.0 and min(primal, dual) >= _TELLING
        centering = min(_gap(problem, point, predictor, primal, dual) / gap, 1.0) ** 3
        gamma = max(centering * gap / pairs, least)
        _step(problem, point, values, curves, newton, gamma, predictor, telling, step)
        primal, dual = _longest(problem, point, curves.room, step)
        _search(problem, point, values, step, gamma, primal, dual, trial, found)
        if not np.isfinite(trial.x).all():
            return NOT_FINITE, iteration, point
        point, trial = trial, point
        values, found = found, values
