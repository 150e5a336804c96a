"""Reactive dispatch by Ipopt: the nonlinear programme is built once a network, hours are its parameters."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import casadi as ca
import numpy as np
from pydantic import Field

from bos_core.grid.model import FloatArray
from bos_core.grid.optimal_flow import (
    EXCESS_ABOVE_PU,
    EXCESS_BELOW_PU,
    P_FROM,
    P_TO,
    Q_FROM,
    Q_TO,
    FlowAnswer,
    FlowHour,
    FlowNetwork,
    FlowWeights,
    limited,
)
from bos_core.objects.contracts import ProgramManifest
from slots.reactive_dispatch.choices import ReactiveParameters, dispatch
from slots.reactive_dispatch.contract import Inputs, Outputs

_PROGRAMMES_KEPT = 6
_UNLIMITED = 1e6
"""Stands for the limit of an unrated branch, p.u."""


class Parameters(ReactiveParameters):
    """What a planner may set."""

    iterations_max: int = Field(150, ge=10, le=3000)
    """Limit on the iterations of one solve; an hour has two or three."""


MANIFEST = ProgramManifest(
    name="ipopt_rpd",
    slot="reactive_dispatch",
    version="1.0.0",
    title="Interior point (Ipopt)",
    description="Minimises losses and voltage deviation hour by hour with Ipopt; taps and shunts are rounded and "
    "the rest is solved again; a power flow with reactive limits confirms every hour.",
    parameters=Parameters,
    references=(
        "Waechter, Biegler: On the implementation of an interior-point filter line-search algorithm, 2006",
        "Andersson et al.: CasADi: a software framework for nonlinear optimization and optimal control, 2019",
    ),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Dispatch every hour of the block."""

    def solve(flow: FlowNetwork, hour: FlowHour, weights: FlowWeights, _: FlowAnswer | None) -> FlowAnswer:
        return solve_flow(flow, hour, weights, parameters.iterations_max)

    return dispatch(inputs, parameters, solve)


@dataclass(frozen=True)
class _Programme:
    """A nonlinear programme and the sizes of its variable and constraint groups."""

    solver: Any
    x_sizes: dict[str, int]
    g_sizes: dict[str, int]


_programmes: OrderedDict[tuple[str, bool, bool, bool, int], _Programme] = OrderedDict()


def solve_flow(flow: FlowNetwork, hour: FlowHour, weights: FlowWeights, iterations_max: int = 150) -> FlowAnswer:
    """Solve one optimal flow with Ipopt."""
    rated = bool(limited(hour).any())
    programme = _programme(flow, rated, weights, iterations_max)
    lower, upper, start = _variables(flow, hour, weights, programme)
    low, high = _constraints(flow, hour, weights, rated)
    answer = programme.solver(x0=start, p=_numbers(flow, hour, weights), lbx=lower, ubx=upper, lbg=low, ubg=high)
    stats = programme.solver.stats()
    x = _split(np.asarray(answer["x"]).ravel(), programme.x_sizes)
    ratio = hour.inverse_ratio.copy()
    ratio[flow.tap_branch] = x["ratio"]
    return FlowAnswer(
        solved=bool(stats["success"]),
        iterations=int(stats.get("iter_count", 0)),
        objective=float(answer["f"]),
        vm=x["vm"],
        va=x["va"],
        inverse_ratio=ratio,
        q=x["q"],
        p=x["p"],
        balance_pu=float(x["balance"][0]),
        reason=str(stats["return_status"]),
    )


def _programme(flow: FlowNetwork, rated: bool, weights: FlowWeights, iterations_max: int) -> _Programme:
    """Return the programme of a network, building it when it is new."""
    digest = hashlib.sha256()
    for item in (flow.from_bus, flow.to_bus, flow.tap_branch, flow.q_bus, flow.p_bus):
        digest.update(np.ascontiguousarray(item).tobytes())
    elastic = np.isfinite(weights.loading_price)
    key = (f"{flow.n_bus}/{flow.reference}/{elastic}/{digest.hexdigest()}", rated, weights.apparent,
           bool(np.isfinite(weights.voltage_price)), iterations_max)  # fmt: skip
    if key not in _programmes:
        _programmes[key] = _build(flow, rated, weights, iterations_max)
        if len(_programmes) > _PROGRAMMES_KEPT:
            _programmes.popitem(last=False)
    _programmes.move_to_end(key)
    return _programmes[key]


def _build(flow: FlowNetwork, rated: bool, weights: FlowWeights, iterations_max: int) -> _Programme:
    """Write the programme down symbolically."""
    n, m = flow.n_bus, flow.n_branch
    soft_v = n if np.isfinite(weights.voltage_price) else 0
    soft_i = 2 * m if rated and np.isfinite(weights.loading_price) else 0
    x_sizes = {
        "va": n, "vm": n, "ratio": flow.tap_branch.size, "q": flow.q_bus.size, "p": flow.p_bus.size,
        "balance": 1, "voltage_excess": soft_v, "loading_excess": soft_i,
    }  # fmt: skip
    x = {name: ca.SX.sym(name, size) for name, size in x_sizes.items()}
    p_sizes = {
        "p_pu": n, "q_pu": n, "p_linear": n, "q_linear": n, "p_square": n, "q_square": n,
        "coefficient": 24 * m, "ratio": m, "limit_from": m, "limit_to": m, "target": n, "cost1": flow.p_bus.size,
        "cost2": flow.p_bus.size, "ratio_given": flow.tap_branch.size, "weight": 5,
    }  # fmt: skip
    p = {name: ca.SX.sym(name, size) for name, size in p_sizes.items()}
    ratio = ca.SX(p["ratio"])
    if flow.tap_branch.size:
        ratio[flow.tap_branch.tolist()] = x["ratio"]
    power = _branch_expressions(flow, p["coefficient"], x["va"], x["vm"], ratio)
    into_from, into_to = _incidence(flow.from_bus, n), _incidence(flow.to_bus, n)
    vm = x["vm"]
    balance_p = (
        ca.mtimes(into_from, power[0]) + ca.mtimes(into_to, power[2]) + p["p_linear"] * vm + p["p_square"] * vm**2
        - p["p_pu"] - ca.mtimes(_incidence(np.array([flow.reference]), n), x["balance"])
        - ca.mtimes(_incidence(flow.p_bus, n), x["p"])
    )  # fmt: skip
    balance_q = (
        ca.mtimes(into_from, power[1]) + ca.mtimes(into_to, power[3]) + p["q_linear"] * vm + p["q_square"] * vm**2
        - p["q_pu"] - ca.mtimes(_incidence(flow.q_bus, n), x["q"])
    )  # fmt: skip
    rows = [balance_p, balance_q, _angles(flow, x["va"])]
    g_sizes = {"p": n, "q": n, "angle": m}
    if soft_v:
        rows += [vm + x["voltage_excess"], vm - x["voltage_excess"]]
        g_sizes |= {"low": n, "high": n}
    if rated:
        excess = ca.vertsplit(x["loading_excess"], m) if soft_i else (0.0, 0.0)
        rows += _limits(flow, vm, ratio, power, p, excess, weights.apparent)
        g_sizes |= {"limit_from": m, "limit_to": m}
    weight = p["weight"]
    objective = (
        weight[0] * x["balance"]
        + weight[1] * ca.sumsqr(vm - p["target"])
        + weight[2] * ca.sumsqr(x["ratio"] - p["ratio_given"])
        + ca.dot(p["cost1"], x["p"])
        + ca.dot(p["cost2"], x["p"] ** 2)
        + weight[3] * ca.sum1(x["voltage_excess"])
        + weight[4] * ca.sum1(x["loading_excess"])
    )
    problem = {"x": ca.vertcat(*x.values()), "p": ca.vertcat(*p.values()), "f": objective, "g": ca.vertcat(*rows)}
    solver = ca.nlpsol("flow", "ipopt", problem, {
        "print_time": False, "error_on_fail": False,
        "ipopt": {"print_level": 0, "sb": "yes", "linear_solver": "mumps", "tol": 1e-7, "max_iter": iterations_max,
                  "mu_strategy": "adaptive", "acceptable_iter": 0, "fixed_variable_treatment": "make_parameter"},
    })  # fmt: skip
    return _Programme(solver, x_sizes, g_sizes)


def _incidence(bus: np.ndarray, n_bus: int) -> Any:
    """Return the (bus, element) matrix that sums elements into their buses."""
    rows = [int(b) for b in bus]
    return ca.DM.triplet(rows, list(range(len(rows))), ca.DM.ones(len(rows)), n_bus, len(rows))


def _branch_expressions(flow: FlowNetwork, coefficient: Any, va: Any, vm: Any, ratio: Any) -> list[Any]:
    """Return the six quantities of all branches; coefficients come as (quantity, term, branch)."""
    f, t, m = flow.from_bus.tolist(), flow.to_bus.tolist(), flow.n_branch
    theta, u, vt = va[f] - va[t], ratio * vm[f], vm[t]
    terms = (u * u, vt * vt, u * vt * ca.cos(theta), u * vt * ca.sin(theta))
    absent = {(P_FROM, 1), (Q_FROM, 1), (P_TO, 0), (Q_TO, 0)}

    def term(k: int, c: int) -> Any:
        start = (4 * k + c) * m
        return 0.0 if (k, c) in absent else coefficient[start : start + m] * terms[c]

    return [sum(term(k, c) for c in range(4)) for k in range(6)]


def _angles(flow: FlowNetwork, va: Any) -> Any:
    return va[flow.from_bus.tolist()] - va[flow.to_bus.tolist()]


def _limits(
    flow: FlowNetwork,
    vm: Any,
    ratio: Any,
    power: list[Any],
    p: dict[str, Any],
    excess: Sequence[Any],
    apparent: bool,
) -> list[Any]:
    """Return (flow / limit)^2 - excess of both ends of every branch; each end has its own excess."""
    f, t = flow.from_bus.tolist(), flow.to_bus.tolist()
    scale_from = (ratio * vm[f]) ** 2 if apparent else ratio**2
    scale_to = vm[t] ** 2 if apparent else 1.0
    return [
        power[4] * scale_from / p["limit_from"] ** 2 - excess[0],
        power[5] * scale_to / p["limit_to"] ** 2 - excess[1],
    ]


def _numbers(flow: FlowNetwork, hour: FlowHour, weights: FlowWeights) -> FloatArray:
    """Return the parameter vector of an hour, in the order of `_build`."""
    finite_price = [
        price if np.isfinite(price) else 0.0 for price in (weights.voltage_price, weights.loading_price)
    ]
    return np.concatenate([
        hour.p_pu, hour.q_pu, hour.p_linear, hour.q_linear, hour.p_square, hour.q_square,
        hour.coefficient.transpose(1, 2, 0).ravel(), hour.inverse_ratio,
        np.minimum(hour.limit_from, _UNLIMITED), np.minimum(hour.limit_to, _UNLIMITED), hour.vm_target,
        hour.p_cost_linear, hour.p_cost_square, hour.inverse_ratio[flow.tap_branch],
        np.array([weights.balance, weights.voltage, weights.tap, *finite_price]),
    ])  # fmt: skip


def _variables(
    flow: FlowNetwork, hour: FlowHour, weights: FlowWeights, programme: _Programme
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return bounds and start of the variables."""
    sizes, n = programme.x_sizes, flow.n_bus
    va_low, va_high = np.full(n, -np.inf), np.full(n, np.inf)
    va_low[flow.reference] = va_high[flow.reference] = hour.va[flow.reference]
    below, above = (EXCESS_BELOW_PU, EXCESS_ABOVE_PU) if np.isfinite(weights.voltage_price) else (0.0, 0.0)
    vm_low, vm_high = hour.vm_min - below, hour.vm_max + above
    balanced = np.inf if hour.balanced else 0.0
    nothing_v, nothing_i = np.zeros(sizes["voltage_excess"]), np.zeros(sizes["loading_excess"])
    lower = [va_low, vm_low, hour.inverse_ratio_min, hour.q_min, hour.p_min, [-balanced], nothing_v, nothing_i]
    upper = [
        va_high, vm_high, hour.inverse_ratio_max, hour.q_max, hour.p_max, [balanced], nothing_v + np.inf,
        nothing_i + np.inf,
    ]  # fmt: skip
    start = [
        hour.va, hour.vm, hour.inverse_ratio[flow.tap_branch], hour.q_start, hour.p_start, [0.0], nothing_v,
        nothing_i,
    ]  # fmt: skip
    return np.concatenate(lower), np.concatenate(upper), np.concatenate(start)


def _constraints(
    flow: FlowNetwork, hour: FlowHour, weights: FlowWeights, rated: bool
) -> tuple[FloatArray, FloatArray]:
    """Return the bounds of the constraints."""
    n, m = flow.n_bus, flow.n_branch if rated else 0
    low, high = [np.zeros(2 * n), -hour.angle_max], [np.zeros(2 * n), hour.angle_max]
    if np.isfinite(weights.voltage_price):
        low += [hour.vm_min, np.full(n, -np.inf)]
        high += [np.full(n, np.inf), hour.vm_max]
    if m:
        low.append(np.full(2 * m, -np.inf))
        high.append(np.ones(2 * m))
    return np.concatenate(low), np.concatenate(high)


def _split(x: FloatArray, sizes: dict[str, int]) -> dict[str, FloatArray]:
    """Cut a vector into its named groups."""
    ends = np.cumsum(list(sizes.values()))
    return {name: x[end - size : end] for (name, size), end in zip(sizes.items(), ends, strict=True)}
