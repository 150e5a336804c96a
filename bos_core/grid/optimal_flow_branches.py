"""Branch kernels of the optimal flow: values, and second-order blocks for the interior-point method.

Local variables of a branch, in this order: va_from, vm_from, va_to, vm_to, inverse ratio.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bos_core.grid.model import BoolArray, FloatArray, IntArray

LOCAL = 5


@njit(cache=True)
def _form(
    c: FloatArray, u: float, vt: float, cosine: float, sine: float, first: FloatArray, second: FloatArray
) -> float:
    """Value of c0 u^2 + c1 vt^2 + u vt (A cos + B sin); derivatives by (theta, u, vt)."""
    wave = c[2] * cosine + c[3] * sine
    turned = c[3] * cosine - c[2] * sine
    first[0] = u * vt * turned
    first[1] = 2 * c[0] * u + vt * wave
    first[2] = 2 * c[1] * vt + u * wave
    second[0, 0] = -u * vt * wave
    second[0, 1] = second[1, 0] = vt * turned
    second[0, 2] = second[2, 0] = u * turned
    second[1, 1] = 2 * c[0]
    second[2, 2] = 2 * c[1]
    second[1, 2] = second[2, 1] = wave
    value: float = c[0] * u * u + c[1] * vt * vt + u * vt * wave
    return value


@njit(cache=True)
def _widen(ratio: float, vf: float, first: FloatArray, gradient: FloatArray) -> None:
    """Turn derivatives by (theta, u, vt) into those by the local variables."""
    gradient[0] = first[0]
    gradient[1] = ratio * first[1]
    gradient[2] = -first[0]
    gradient[3] = first[2]
    gradient[4] = vf * first[1]


@njit(cache=True)
def _widen_second(
    ratio: float, vf: float, first: FloatArray, second: FloatArray, weight: float, hessian: FloatArray
) -> None:
    """Add weight times the second derivatives by the local variables."""
    outer = np.zeros((3, LOCAL))
    outer[0, 0], outer[0, 2] = 1.0, -1.0
    outer[1, 1], outer[1, 4] = ratio, vf
    outer[2, 3] = 1.0
    half = np.zeros((3, LOCAL))
    for i in range(3):
        for j in range(LOCAL):
            half[i, j] = second[i, 0] * outer[0, j] + second[i, 1] * outer[1, j] + second[i, 2] * outer[2, j]
    for i in range(LOCAL):
        for j in range(LOCAL):
            total = outer[0, i] * half[0, j] + outer[1, i] * half[1, j] + outer[2, i] * half[2, j]
            hessian[i, j] += weight * total
    hessian[1, 4] += weight * first[1]
    hessian[4, 1] += weight * first[1]


@njit(cache=True)
def _scale(
    at_from: bool, apparent: bool, ratio: float, vf: float, vt: float, gradient: FloatArray, hessian: FloatArray
) -> float:
    """Factor that turns a squared inner current into the limited quantity, with its derivatives."""
    gradient[:] = 0.0
    hessian[:, :] = 0.0
    if at_from and apparent:
        gradient[1], gradient[4] = 2 * ratio * ratio * vf, 2 * ratio * vf * vf
        hessian[1, 1], hessian[4, 4] = 2 * ratio * ratio, 2 * vf * vf
        hessian[1, 4] = hessian[4, 1] = 4 * ratio * vf
        return ratio * ratio * vf * vf
    if at_from:
        gradient[4], hessian[4, 4] = 2 * ratio, 2.0
        return ratio * ratio
    if apparent:
        gradient[3], hessian[3, 3] = 2 * vt, 2.0
        return vt * vt
    return 1.0


@njit(cache=True)
def evaluate_branches(
    from_bus: IntArray,
    to_bus: IntArray,
    coefficient: FloatArray,
    ratio: FloatArray,
    vm: FloatArray,
    va: FloatArray,
    p: FloatArray,
    q: FloatArray,
    limit: FloatArray,
    apparent: bool,
    excess: FloatArray,
    slope: FloatArray,
) -> None:
    """Add branch powers to the bus sums `p` and `q`; fill (flow / limit)^2 - 1 and its derivatives.

    Parameters
    ----------
    limit, excess : (branch, 2)
        Both ends; unlimited ends are left alone.
    slope : (branch, 2, 5)
    """
    first, gradient = np.empty(3), np.empty(LOCAL)
    second, hessian = np.empty((3, 3)), np.empty((LOCAL, LOCAL))
    scale_gradient = np.empty(LOCAL)
    for k in range(from_bus.size):
        i, j = from_bus[k], to_bus[k]
        theta = va[i] - va[j]
        cosine, sine = np.cos(theta), np.sin(theta)
        u, vt = ratio[k] * vm[i], vm[j]
        c = coefficient[k]
        uu, tt, ut = u * u, vt * vt, u * vt
        p[i] += c[0, 0] * uu + c[0, 1] * tt + ut * (c[0, 2] * cosine + c[0, 3] * sine)
        q[i] += c[1, 0] * uu + c[1, 1] * tt + ut * (c[1, 2] * cosine + c[1, 3] * sine)
        p[j] += c[2, 0] * uu + c[2, 1] * tt + ut * (c[2, 2] * cosine + c[2, 3] * sine)
        q[j] += c[3, 0] * uu + c[3, 1] * tt + ut * (c[3, 2] * cosine + c[3, 3] * sine)
        for end in range(2):
            if not np.isfinite(limit[k, end]):
                continue
            value = _form(c[4 + end], u, vt, cosine, sine, first, second)
            _widen(ratio[k], vm[i], first, gradient)
            scale = _scale(end == 0, apparent, ratio[k], vm[i], vt, scale_gradient, hessian)
            over = 1.0 / limit[k, end] ** 2
            excess[k, end] = value * scale * over - 1.0
            for a in range(LOCAL):
                slope[k, end, a] = (gradient[a] * scale + value * scale_gradient[a]) * over


@njit(cache=True)
def assemble_branches(
    from_bus: IntArray,
    to_bus: IntArray,
    coefficient: FloatArray,
    ratio: FloatArray,
    tap: IntArray,
    vm: FloatArray,
    va: FloatArray,
    price_p: FloatArray,
    price_q: FloatArray,
    limit: FloatArray,
    apparent: bool,
    multiplier: FloatArray,
    curvature: FloatArray,
    reference: int,
    hessian_out: FloatArray,
    jacobian_out: FloatArray,
) -> None:
    """Fill the local Hessian (branch, 5, 5) and the Jacobian of (p_from, q_from, p_to, q_to), (branch, 4, 5).

    `multiplier` and `curvature`, (branch, 2), belong to the flow limits: the Hessian gets multiplier times second
    derivative plus curvature times the outer product of the slope. The reference angle's entries are zero, and so
    are those of the ratio where `tap` is -1.
    """
    first, gradient, scale_gradient = np.empty(3), np.empty(LOCAL), np.empty(LOCAL)
    second, scale_hessian = np.empty((3, 3)), np.empty((LOCAL, LOCAL))
    summed = np.empty(4)
    prices = np.empty(4)
    for k in range(from_bus.size):
        i, j = from_bus[k], to_bus[k]
        theta = va[i] - va[j]
        cosine, sine = np.cos(theta), np.sin(theta)
        vf, vt, a = vm[i], vm[j], ratio[k]
        u = a * vf
        hessian, jacobian = hessian_out[k], jacobian_out[k]
        hessian[:, :] = 0.0
        prices[0], prices[1], prices[2], prices[3] = price_p[i], price_q[i], price_p[j], price_q[j]
        for n in range(4):
            summed[n] = 0.0
            for m in range(4):
                summed[n] += prices[m] * coefficient[k, m, n]
        for m in range(4):
            _form(coefficient[k, m], u, vt, cosine, sine, first, second)
            _widen(a, vf, first, jacobian[m])
        _form(summed, u, vt, cosine, sine, first, second)
        _widen_second(a, vf, first, second, 1.0, hessian)
        for end in range(2):
            if not np.isfinite(limit[k, end]):
                continue
            over = 1.0 / limit[k, end] ** 2
            weight = multiplier[k, end] * over
            value = _form(coefficient[k, 4 + end], u, vt, cosine, sine, first, second)
            _widen(a, vf, first, gradient)
            scale = _scale(end == 0, apparent, a, vf, vt, scale_gradient, scale_hessian)
            _widen_second(a, vf, first, second, weight * scale, hessian)
            for m in range(LOCAL):
                own = gradient[m] * scale + value * scale_gradient[m]
                for n in range(LOCAL):
                    other = gradient[n] * scale + value * scale_gradient[n]
                    hessian[m, n] += (
                        weight
                        * (
                            gradient[m] * scale_gradient[n]
                            + scale_gradient[m] * gradient[n]
                            + value * scale_hessian[m, n]
                        )
                        + curvature[k, end] * own * other * over * over
                    )
        if tap[k] < 0:
            _clear(hessian, jacobian, 4)
        if i == reference:
            _clear(hessian, jacobian, 0)
        if j == reference:
            _clear(hessian, jacobian, 2)


@njit(cache=True)
def _clear(hessian: FloatArray, jacobian: FloatArray, variable: int) -> None:
    hessian[variable, :] = 0.0
    hessian[:, variable] = 0.0
    jacobian[:, variable] = 0.0


@njit(cache=True)
def fill_blocks(
    from_bus: IntArray,
    to_bus: IntArray,
    tap: IntArray,
    tap_diagonal: FloatArray,
    branch_block: IntArray,
    branch_flipped: IntArray,
    hessian: FloatArray,
    jacobian: FloatArray,
    diagonal: FloatArray,
    beside: FloatArray,
    tap_row: FloatArray,
    tap_pivot: FloatArray,
) -> int:
    """Add the branches to the block matrix and eliminate the ratios; return the number of negative ratio pivots.

    Bus unknowns: (angle, magnitude, active price, reactive price). `tap_row` (tap, 8) holds the coupling of a
    ratio to the unknowns of its from and to bus, `tap_pivot` (tap,) its pivot.
    """
    whole = np.empty((9, 9))
    where = np.array([0, 1, 4, 5, 8])
    rows = np.array([2, 3, 6, 7])
    negative = 0
    for k in range(from_bus.size):
        whole[:, :] = 0.0
        for m in range(LOCAL):
            for n in range(LOCAL):
                whole[where[m], where[n]] = hessian[k, m, n]
            for n in range(4):
                whole[where[m], rows[n]] = jacobian[k, n, m]
                whole[rows[n], where[m]] = jacobian[k, n, m]
        if tap[k] >= 0:
            pivot = whole[8, 8] + tap_diagonal[tap[k]]
            tap_pivot[tap[k]] = pivot
            negative += pivot <= 0.0
            for m in range(8):
                tap_row[tap[k], m] = whole[8, m]
                for n in range(8):
                    whole[m, n] -= whole[m, 8] * whole[8, n] / pivot
        i, j, block = from_bus[k], to_bus[k], branch_block[k]
        for m in range(4):
            for n in range(4):
                diagonal[i, m, n] += whole[m, n]
                diagonal[j, m, n] += whole[4 + m, 4 + n]
                beside[block, m, n] += whole[m, 4 + n] if branch_flipped[k] else whole[4 + m, n]
    return negative


@njit(cache=True)
def gather(
    from_bus: IntArray,
    to_bus: IntArray,
    tap: IntArray,
    local: FloatArray,
    va: FloatArray,
    vm: FloatArray,
    ratio: FloatArray,
) -> None:
    """Add local derivatives (branch, 5) to those by angles, magnitudes and ratios."""
    for k in range(from_bus.size):
        va[from_bus[k]] += local[k, 0]
        vm[from_bus[k]] += local[k, 1]
        va[to_bus[k]] += local[k, 2]
        vm[to_bus[k]] += local[k, 3]
        if tap[k] >= 0:
            ratio[tap[k]] += local[k, 4]


def tap_of_branch(n_branch: int, tap_branch: IntArray, movable: BoolArray) -> IntArray:
    """Return the position of each branch's ratio variable, -1 where its ratio is held."""
    position = np.full(n_branch, -1)
    position[tap_branch[movable]] = np.flatnonzero(movable)
    return position
