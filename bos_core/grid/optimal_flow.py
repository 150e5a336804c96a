"""Optimal AC flow: the data that every solver of it shares.

The model is polar: angles and magnitudes of the bus voltages, inverse ratios of controlled transformers, reactive
(and, for an optimal power flow, active) sources with bounds, and one balance variable: active power injected at
the reference bus. With ``u = vm_from / ratio`` every branch quantity has one form,

    c0 u^2 + c1 vm_to^2 + u vm_to (A cos(theta) + B sin(theta)),    theta = va_from - va_to,

so that a branch is six rows of four coefficients: the active and reactive power into both ends and the squared
current at both inner ends. Apparent power squared is the squared current times the squared voltage.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray, Network

EXCESS_BELOW_PU, EXCESS_ABOVE_PU = 0.4, 0.2
"""How far outside its limits a voltage may be at any price."""

P_FROM, Q_FROM, P_TO, Q_TO, I2_FROM, I2_TO = range(6)


@dataclass(frozen=True, eq=False)
class FlowNetwork:
    """The structure of an optimal flow: what stays the same from hour to hour.

    Attributes
    ----------
    n_bus, reference : int
        Number of buses; bus whose angle is fixed.
    from_bus, to_bus : (branch,)
    tap_branch : (tap,)
        Branches whose inverse ratio is a variable.
    q_bus : (q_source,)
        Buses of reactive sources.
    p_bus : (p_source,)
        Buses of active sources (optimal power flow only).
    """

    n_bus: int
    reference: int
    from_bus: IntArray
    to_bus: IntArray
    tap_branch: IntArray
    q_bus: IntArray
    p_bus: IntArray

    @property
    def n_branch(self) -> int:
        """Number of branches."""
        return self.from_bus.size


@dataclass(frozen=True, eq=False)
class FlowHour:
    """The numbers of one hour, in p.u.

    Attributes
    ----------
    p_pu, q_pu : (bus,)
        Fixed injection less constant-power demand.
    p_linear, q_linear, p_square, q_square : (bus,)
        Demand that grows with the voltage magnitude and with its square; fixed shunts are part of the latter.
    balanced : bool
        Whether the reference bus injects the balance variable; otherwise the active sources do the balancing.
    coefficient : (branch, 6, 4)
        Coefficients (c0, c1, A, B) of the six branch quantities, see `branch_coefficients`.
    inverse_ratio : (branch,)
        1 / ratio; start value where it is a variable.
    inverse_ratio_min, inverse_ratio_max : (tap,)
        Equal bounds hold a tap.
    q_min, q_max, q_start : (q_source,)
    p_min, p_max, p_start, p_cost_linear, p_cost_square : (p_source,)
    vm_min, vm_max, vm_target : (bus,)
    limit_from, limit_to : (branch,)
        Current or apparent-power limits; inf = none.
    angle_max : (branch,)
        Limit of the angle difference, both ways; inf = none.
    vm, va : (bus,)
        Start.
    """

    p_pu: FloatArray
    q_pu: FloatArray
    p_linear: FloatArray
    q_linear: FloatArray
    p_square: FloatArray
    q_square: FloatArray
    balanced: bool
    coefficient: FloatArray
    inverse_ratio: FloatArray
    inverse_ratio_min: FloatArray
    inverse_ratio_max: FloatArray
    q_min: FloatArray
    q_max: FloatArray
    q_start: FloatArray
    p_min: FloatArray
    p_max: FloatArray
    p_start: FloatArray
    p_cost_linear: FloatArray
    p_cost_square: FloatArray
    vm_min: FloatArray
    vm_max: FloatArray
    vm_target: FloatArray
    limit_from: FloatArray
    limit_to: FloatArray
    angle_max: FloatArray
    vm: FloatArray
    va: FloatArray


@dataclass(frozen=True)
class FlowWeights:
    """The objective: the balance variable (losses) plus costs of active sources plus these terms.

    Attributes
    ----------
    balance : float
        Price of the balance variable, per p.u.
    voltage : float
        Weight of the squared deviation from `FlowHour.vm_target`, per p.u. squared.
    tap : float
        Weight of the squared move of an inverse ratio; keeps taps from moving without effect.
    voltage_price : float
        Price of a voltage outside its limits, per p.u.; inf makes the limits hard.
    loading_price : float
        Price of (flow / limit)^2 above 1, at each end of a branch; inf makes the limits hard.
    apparent : bool
        Limits are apparent powers instead of currents.
    """

    balance: float = 1.0
    voltage: float = 0.05
    tap: float = 0.05
    voltage_price: float = 50.0
    loading_price: float = 1.0
    apparent: bool = False


@dataclass(frozen=True, eq=False)
class FlowAnswer:
    """What a solver returns; `solved` says whether the optimality conditions hold to its tolerance.

    `prices` of the balance equations and `multipliers` of the limits are the solver's own, to start from in the
    next solve of the same network; empty where it has none.
    """

    solved: bool
    iterations: int
    objective: float
    vm: FloatArray
    va: FloatArray
    inverse_ratio: FloatArray
    """(branch,)"""
    q: FloatArray
    p: FloatArray
    balance_pu: float
    reason: str = ""
    prices: FloatArray = field(default_factory=lambda: np.zeros(0))
    multipliers: FloatArray = field(default_factory=lambda: np.zeros(0))


def sum_at(place: IntArray, values: FloatArray, size: int) -> FloatArray:
    """Return the sums of `values` by place, (size,) float."""
    total: FloatArray = np.bincount(place, values, size).astype(np.float64)
    return total


def branch_coefficients(network: Network) -> FloatArray:
    """Return the coefficients (c0, c1, A, B) of the six quantities of every branch, (branch, 6, 4)."""
    series = 1.0 / (network.r_pu + 1j * network.x_pu)
    at_from = series + network.g_from_pu + 1j * network.b_from_pu
    at_to = series + network.g_to_pu + 1j * network.b_to_pu
    g, b = series.real, series.imag
    cross_from, cross_to = at_from * np.conj(series), at_to * np.conj(series)
    zero = np.zeros(network.n_branch)
    rows = (
        (at_from.real, zero, -g, -b),
        (-at_from.imag, zero, b, -g),
        (zero, at_to.real, -g, b),
        (zero, -at_to.imag, b, g),
        (np.abs(at_from) ** 2, np.abs(series) ** 2, -2 * cross_from.real, 2 * cross_from.imag),
        (np.abs(series) ** 2, np.abs(at_to) ** 2, -2 * cross_to.real, -2 * cross_to.imag),
    )
    coefficient = np.stack([np.stack(row, axis=1) for row in rows], axis=1)
    cosine, sine = np.cos(network.shift_rad)[:, None], np.sin(network.shift_rad)[:, None]
    a, b2 = coefficient[:, :, 2].copy(), coefficient[:, :, 3].copy()
    coefficient[:, :, 2] = a * cosine - b2 * sine
    coefficient[:, :, 3] = a * sine + b2 * cosine
    return np.ascontiguousarray(coefficient)


def branch_quantities(
    flow: FlowNetwork, coefficient: FloatArray, vm: FloatArray, va: FloatArray, inverse_ratio: FloatArray
) -> FloatArray:
    """Return the six quantities of every branch, (branch, 6); currents are those of the inner ends."""
    theta = va[flow.from_bus] - va[flow.to_bus]
    u, vt = inverse_ratio * vm[flow.from_bus], vm[flow.to_bus]
    terms = np.stack([u**2, vt**2, u * vt * np.cos(theta), u * vt * np.sin(theta)], axis=1)
    value: FloatArray = np.einsum("kqc,kc->kq", coefficient, terms)
    return value


def balance_residual(flow: FlowNetwork, hour: FlowHour, answer: FlowAnswer) -> FloatArray:
    """Return the power mismatch of an answer, (2 bus,): active, then reactive, p.u."""
    n = flow.n_bus
    power = branch_quantities(flow, hour.coefficient, answer.vm, answer.va, answer.inverse_ratio)
    p = sum_at(flow.from_bus, power[:, P_FROM], n) + sum_at(flow.to_bus, power[:, P_TO], n)
    q = sum_at(flow.from_bus, power[:, Q_FROM], n) + sum_at(flow.to_bus, power[:, Q_TO], n)
    p += hour.p_linear * answer.vm + hour.p_square * answer.vm**2 - hour.p_pu
    p[flow.reference] -= answer.balance_pu
    q += hour.q_linear * answer.vm + hour.q_square * answer.vm**2 - hour.q_pu
    p -= sum_at(flow.p_bus, answer.p, n)
    q -= sum_at(flow.q_bus, answer.q, n)
    return np.concatenate([p, q])


def limited(hour: FlowHour) -> BoolArray:
    """Return which branches carry a flow limit."""
    return np.isfinite(hour.limit_from) | np.isfinite(hour.limit_to)
