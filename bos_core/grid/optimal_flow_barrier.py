"""Primal-dual interior-point method for optimal AC flow on bus blocks.

Follows the method of Wang, Murillo-Sanchez, Zimmerman and Thomas (2007, "On computational issues of market-based
optimal power flow"), and adds elastic limits (a price makes a limit soft; the excess is eliminated in closed
form), elimination of the reactive and active sources, an inertia correction, predictor and corrector (Mehrotra
1992), a line search on the exact penalty function, and a start from the answer to nearly the same problem. The
iterations are compiled: `bos_core.grid.optimal_flow_interior`.
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
)
from bos_core.grid.optimal_flow_blocks import BlockPattern, block_pattern
from bos_core.grid.optimal_flow_branches import Branches, tap_of_branch
from bos_core.grid.optimal_flow_interior import (
    FAR_OUTSIDE,
    REASONS,
    SOLVED,
    Layout,
    Point,
    Problem,
    evaluate,
    iterate,
    new_point,
    new_values,
)

_COST_GRADIENT_MAX = 100.0
_LEAST_RANGE = 1e-9
_INSIDE = 0.1
"""How far inside their ranges sources begin, as a share."""
_LEAST_SLACK = 1e-6
_MOST_OF_PRICE_COLD, _MOST_OF_PRICE_AGAIN = 0.5, 0.9999
"""A start multiplier of a soft limit is at most this share of its price."""
_PATTERNS_KEPT = 8
_patterns: OrderedDict[str, BlockPattern] = OrderedDict()


@dataclass(frozen=True)
class BarrierOptions:
    """Stopping and start of the method.

    Attributes
    ----------
    tolerance : float
        On mismatch and passed limits (p.u.), on the gradient relative to the largest multiplier, and on the mean
        complementarity (a tenth of it).
    iterations_max : int
    slack_start : float
        Least start slack of an inequality: small when the start is nearly optimal.
    barrier_start : float
    """

    tolerance: float = 1e-6
    iterations_max: int = 120
    slack_start: float = 1.0
    barrier_start: float = 1.0


COLD = BarrierOptions()
WARM = BarrierOptions(slack_start=0.1, barrier_start=1e-2)
"""For a start that nearly solves the power flow."""
AGAIN = BarrierOptions(slack_start=1e-2, barrier_start=1e-3)
"""For a start from the answer to nearly the same problem."""


def solve_flow(
    flow: FlowNetwork,
    hour: FlowHour,
    weights: FlowWeights,
    options: BarrierOptions = COLD,
    before: FlowAnswer | None = None,
) -> FlowAnswer:
    """Solve one optimal flow; an answer that is not `solved` says why in `reason`.

    `before` answers nearly the same problem: its reactive powers, prices and multipliers are the start.
    """
    rows = _inequalities(flow, hour, weights)
    problem = _problem(flow, hour, weights, rows)
    point = _first_point(problem, rows, _start(problem.layout, flow, hour, before), options, before)
    ended, iterations, last = iterate(problem, point, options.tolerance, options.iterations_max)
    vm = last.x[problem.layout.magnitude : problem.layout.ratio]
    if ended == SOLVED and ((vm < hour.vm_min - EXCESS_BELOW_PU) | (vm > hour.vm_max + EXCESS_ABOVE_PU)).any():
        ended = FAR_OUTSIDE
    return _answer(problem, flow, rows, last, ended, iterations)


def solve_from_power_flow(
    flow: FlowNetwork,
    hour: FlowHour,
    weights: FlowWeights,
    before: FlowAnswer | None = None,
    iterations_max: int = COLD.iterations_max,
    tolerance: float = COLD.tolerance,
) -> FlowAnswer:
    """Solve one optimal flow from a power-flow solution or an answer before; from a cold start if that fails."""
    warm, cold = (
        replace(start, iterations_max=iterations_max, tolerance=tolerance)
        for start in (WARM if before is None else AGAIN, COLD)
    )
    first = solve_flow(flow, hour, weights, warm, before)
    if first.solved:
        return first
    second = solve_flow(flow, hour, weights, cold)
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
class _Inequalities:
    """Flow limits (limit,), then simple bounds (bound,); `price` and `place` hold both, (row,).

    `place` is where an inequality stands among all that the network may have: both ends of each branch, then
    lower and upper bounds by group of variables.
    """

    branch: IntArray
    end: IntArray
    at: IntArray
    sign: FloatArray
    value: FloatArray
    price: FloatArray
    place: IntArray
    held: BoolArray


def _layout(flow: FlowNetwork) -> Layout:
    sizes = (flow.n_bus, flow.n_bus, flow.tap_branch.size, flow.q_bus.size, flow.p_bus.size)
    magnitude, ratio, reactive, active, balance = np.cumsum(sizes).tolist()
    return Layout(magnitude, ratio, reactive, active, balance, balance + 1)


def _inequalities(flow: FlowNetwork, hour: FlowHour, weights: FlowWeights) -> _Inequalities:
    layout = _layout(flow)
    held = np.zeros(layout.size, bool)
    held[flow.reference], held[-1] = True, not hour.balanced
    groups = (
        (layout.magnitude, hour.vm_min, hour.vm_max),
        (layout.ratio, hour.inverse_ratio_min, hour.inverse_ratio_max),
        (layout.reactive, hour.q_min, hour.q_max),
        (layout.active, hour.p_min, hour.p_max),
    )
    for first, low, high in groups[1:]:
        held[first : first + low.size] = high - low <= _LEAST_RANGE
    limited = np.stack([np.isfinite(hour.limit_from), np.isfinite(hour.limit_to)], axis=1)
    branch, end = map(np.ascontiguousarray, np.nonzero(limited))  # as the kernels are compiled for
    at, sign, value, place = [], [], [], [np.flatnonzero(limited)]
    for side, direction in enumerate((-1.0, 1.0)):
        for first, *bounds in groups:
            bound = bounds[side]
            free = np.flatnonzero(np.isfinite(bound) & ~held[first : first + bound.size])
            at.append(first + free)
            sign.append(np.full(free.size, direction))
            value.append(bound[free])
            place.append(limited.size + side * layout.size + first + free)
    where = np.concatenate(at)
    of_voltage = (where >= layout.magnitude) & (where < layout.ratio)
    price = [
        np.full(branch.size, float(weights.loading_price)),
        np.where(of_voltage, weights.voltage_price, np.inf),
    ]
    return _Inequalities(
        branch=branch,
        end=end,
        at=where,
        sign=np.concatenate(sign),
        value=np.concatenate(value),
        price=np.concatenate(price),
        place=np.concatenate(place),
        held=held,
    )


def _problem(flow: FlowNetwork, hour: FlowHour, weights: FlowWeights, rows: _Inequalities) -> Problem:
    """Return an hour as the compiled method takes it."""
    layout = _layout(flow)
    movable = ~rows.held[layout.ratio : layout.reactive]
    limit = np.stack([hour.limit_from, hour.limit_to], axis=1)
    cost = np.abs(hour.p_cost_linear + 2 * hour.p_cost_square * hour.p_max).max(initial=0.0)
    scale = min(1.0, _COST_GRADIENT_MAX / max(float(cost), abs(weights.balance), 1e-9))
    return Problem(
        branches=Branches(
            from_bus=flow.from_bus,
            to_bus=flow.to_bus,
            coefficient=hour.coefficient,
            tap=tap_of_branch(flow.n_branch, flow.tap_branch, movable),
            limit_branch=rows.branch,
            limit_end=rows.end,
            limit_square=limit[rows.branch, rows.end] ** 2,
            apparent=weights.apparent,
        ),
        pattern=_pattern(flow),
        layout=layout,
        reference=flow.reference,
        balanced=hour.balanced,
        p_pu=hour.p_pu,
        q_pu=hour.q_pu,
        p_linear=hour.p_linear,
        q_linear=hour.q_linear,
        p_square=hour.p_square,
        q_square=hour.q_square,
        inverse_ratio=hour.inverse_ratio,
        tap_branch=flow.tap_branch,
        q_bus=flow.q_bus,
        p_bus=flow.p_bus,
        p_cost_linear=hour.p_cost_linear,
        p_cost_square=hour.p_cost_square,
        vm_target=hour.vm_target,
        held=rows.held,
        price=rows.price * scale,
        bound_at=rows.at,
        bound_sign=rows.sign,
        bound_value=rows.value,
        balance_weight=float(weights.balance),
        voltage_weight=float(weights.voltage),
        tap_weight=float(weights.tap),
        scale=float(scale),
    )


def _start(layout: Layout, flow: FlowNetwork, hour: FlowHour, before: FlowAnswer | None) -> FloatArray:
    """Return the start of the variables; sources begin inside their ranges."""
    x = np.zeros(layout.size)
    inside, ratio = _INSIDE, hour.inverse_ratio[flow.tap_branch]
    va, vm, q, p = hour.va, hour.vm, hour.q_start, hour.p_start
    if before is not None:
        inside, ratio = (
            0.0,
            np.clip(before.inverse_ratio[flow.tap_branch], hour.inverse_ratio_min, hour.inverse_ratio_max),
        )
        va, vm, q, p = before.va, before.vm, before.q, before.p
    q_margin, p_margin = inside * (hour.q_max - hour.q_min), inside * (hour.p_max - hour.p_min)
    x[: layout.magnitude], x[layout.ratio : layout.reactive] = va, ratio
    x[layout.magnitude : layout.ratio] = np.clip(vm, hour.vm_min - EXCESS_BELOW_PU, hour.vm_max + EXCESS_ABOVE_PU)
    x[layout.reactive : layout.active] = np.clip(q, hour.q_min + q_margin, hour.q_max - q_margin)
    x[layout.active : layout.balance] = np.clip(p, hour.p_min + p_margin, hour.p_max - p_margin)
    return x


def _first_point(
    problem: Problem, rows: _Inequalities, x: FloatArray, options: BarrierOptions, before: FlowAnswer | None
) -> Point:
    """Return a start of which every pair of slack and multiplier has the same product."""
    point, values = new_point(problem), new_values(problem)
    evaluate(problem, x, values)
    gamma, price = options.barrier_start, problem.price
    slack = np.maximum(-values.h, options.slack_start)
    if before is None or not before.multipliers.size:
        prices = point.prices
        if problem.balanced:
            prices[: problem.p_pu.size] = problem.balance_weight * problem.scale
        mu, most = gamma / slack, _MOST_OF_PRICE_COLD
    else:
        prices, known = before.prices.copy(), before.multipliers[rows.place]
        slack = np.where(known * slack > gamma, np.maximum(gamma / np.maximum(known, gamma), _LEAST_SLACK), slack)
        mu, most = np.maximum(known, gamma / slack), _MOST_OF_PRICE_AGAIN
    mu = np.minimum(mu, most * price)
    excess = np.where(np.isfinite(price), gamma / (price - mu), 0.0)
    return Point(x, prices, slack, excess, mu)


def _answer(
    problem: Problem, flow: FlowNetwork, rows: _Inequalities, point: Point, ended: int, iterations: int
) -> FlowAnswer:
    x, layout, target = point.x, problem.layout, problem.inverse_ratio
    multipliers = np.zeros(2 * (flow.n_branch + layout.size))
    multipliers[rows.place] = point.mu
    vm, ratio, p = x[layout.magnitude : layout.ratio], target.copy(), x[layout.active : layout.balance]
    ratio[flow.tap_branch] = x[layout.ratio : layout.reactive]
    objective = (
        problem.balance_weight * x[-1]
        + problem.voltage_weight * ((vm - problem.vm_target) ** 2).sum()
        + problem.tap_weight * ((ratio - target) ** 2).sum()
        + problem.p_cost_linear @ p
        + problem.p_cost_square @ p**2
    )
    return FlowAnswer(
        solved=ended == SOLVED,
        iterations=iterations,
        objective=float(objective),
        vm=vm,
        va=x[: layout.magnitude],
        inverse_ratio=ratio,
        q=x[layout.reactive : layout.active],
        p=p,
        balance_pu=float(x[-1]),
        reason=REASONS[ended],
        prices=point.prices,
        multipliers=multipliers,
    )
