"""Branch kernels of the optimal flow: values, and second-order blocks for the interior-point method.

Local variables of a branch, in this order: va_from, vm_from, va_to, vm_to, inverse ratio. Every branch quantity is
a form in theta = va_from - va_to, u = ratio vm_from and vt = vm_to (see `bos_core.grid.optimal_flow`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.grid.optimal_flow_blocks import BlockPattern

LOCAL = 5


class Branches(NamedTuple):
    """The branches of one hour and their flow limits; what the compiled functions take.

    Attributes
    ----------
    coefficient : (branch, 6, 4)
    tap : (branch,)
        Position of each branch's ratio variable, -1 where its ratio is held.
    limit_branch, limit_end : (limit,)
        Branch and end (0 = from) of each flow limit.
    limit_square : (limit,)
        The limits squared.
    apparent : bool
        Limits are apparent powers instead of currents.
    """

    from_bus: IntArray
    to_bus: IntArray
    coefficient: FloatArray
    tap: IntArray
    limit_branch: IntArray
    limit_end: IntArray
    limit_square: FloatArray
    apparent: bool


def tap_of_branch(n_branch: int, tap_branch: IntArray, movable: BoolArray) -> IntArray:
    """Return the position of each branch's ratio variable, -1 where its ratio is held."""
    position = np.full(n_branch, -1)
    position[tap_branch[movable]] = np.flatnonzero(movable)
    return position


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def evaluate_branches(
    branches: Branches,
    ratio: FloatArray,
    vm: FloatArray,
    va: FloatArray,
    p: FloatArray,
    q: FloatArray,
    turn: FloatArray,
    excess: FloatArray,
) -> None:
    """Add branch powers to the bus sums `p` and `q`; fill cosines and sines, and (flow / limit)^2 - 1.

    Parameters
    ----------
    ratio : (branch,)
        Inverse ratios.
    turn : (branch, 2)
    excess : (limit,)
    """
    c = branches.coefficient
    for k in range(branches.from_bus.size):
        i, j = branches.from_bus[k], branches.to_bus[k]
        theta = va[i] - va[j]
        cosine, sine = np.cos(theta), np.sin(theta)
        turn[k, 0], turn[k, 1] = cosine, sine
        u, vt = ratio[k] * vm[i], vm[j]
        uu, tt, utc, uts = u * u, vt * vt, u * vt * cosine, u * vt * sine
        p[i] += c[k, 0, 0] * uu + c[k, 0, 1] * tt + c[k, 0, 2] * utc + c[k, 0, 3] * uts
        q[i] += c[k, 1, 0] * uu + c[k, 1, 1] * tt + c[k, 1, 2] * utc + c[k, 1, 3] * uts
        p[j] += c[k, 2, 0] * uu + c[k, 2, 1] * tt + c[k, 2, 2] * utc + c[k, 2, 3] * uts
        q[j] += c[k, 3, 0] * uu + c[k, 3, 1] * tt + c[k, 3, 2] * utc + c[k, 3, 3] * uts
    for m in range(branches.limit_branch.size):
        k, end = branches.limit_branch[m], branches.limit_end[m]
        vf, vt, a = vm[branches.from_bus[k]], vm[branches.to_bus[k]], ratio[k]
        u, r = a * vf, 4 + end
        wave = c[k, r, 2] * turn[k, 0] + c[k, r, 3] * turn[k, 1]
        value = c[k, r, 0] * u * u + c[k, r, 1] * vt * vt + u * vt * wave
        excess[m] = value * _outer(end, branches.apparent, a, vf, vt) / branches.limit_square[m] - 1.0


@njit(cache=True, inline="always")
def _outer(end: int, apparent: bool, ratio: float, vf: float, vt: float) -> float:
    """Factor that turns a squared inner current into the limited quantity."""
    if end == 0:
        return ratio * ratio * vf * vf if apparent else ratio * ratio
    return vt * vt if apparent else 1.0


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def differentiate_branches(
    branches: Branches,
    ratio: FloatArray,
    vm: FloatArray,
    turn: FloatArray,
    price_p: FloatArray,
    price_q: FloatArray,
    hessian: FloatArray,
    jacobian: FloatArray,
) -> None:
    """Fill the local Hessians of prices x powers and the Jacobians of (p_from, q_from, p_to, q_to).

    Parameters
    ----------
    hessian : (branch, 5, 5)
        Upper triangles, here and wherever local Hessians are.
    jacobian : (branch, 4, 5)
    """
    c = branches.coefficient
    for k in range(branches.from_bus.size):
        i, j = branches.from_bus[k], branches.to_bus[k]
        vf, vt, a = vm[i], vm[j], ratio[k]
        u = a * vf
        cosine, sine = turn[k, 0], turn[k, 1]
        s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
        for m in range(4):
            c0, c1, c2, c3 = c[k, m, 0], c[k, m, 1], c[k, m, 2], c[k, m, 3]
            wave, turned = c2 * cosine + c3 * sine, c3 * cosine - c2 * sine
            by_u = 2 * c0 * u + vt * wave
            jacobian[k, m, 0], jacobian[k, m, 2] = u * vt * turned, -u * vt * turned
            jacobian[k, m, 1], jacobian[k, m, 4] = a * by_u, vf * by_u
            jacobian[k, m, 3] = 2 * c1 * vt + u * wave
            bus = i if m < 2 else j
            price = price_q[bus] if m % 2 else price_p[bus]
            s0, s1, s2, s3 = s0 + price * c0, s1 + price * c1, s2 + price * c2, s3 + price * c3
        h = hessian[k]
        for m in range(LOCAL):
            for n in range(LOCAL):
                h[m, n] = 0.0
        _add_curvature(h, s0, s1, s2, s3, a, vf, vt, cosine, sine, 1.0)


@njit(cache=True, inline="always")
def _add_curvature(
    h: FloatArray,
    c0: float,
    c1: float,
    c2: float,
    c3: float,
    a: float,
    vf: float,
    vt: float,
    cosine: float,
    sine: float,
    weight: float,
) -> None:
    """Add weight times the second derivatives of a form by the local variables, upper triangle."""
    u = a * vf
    wave, turned = weight * (c2 * cosine + c3 * sine), weight * (c3 * cosine - c2 * sine)
    tt, tu, tv, uu = -u * vt * wave, vt * turned, u * turned, 2 * weight * c0
    mixed = 2 * u * uu + vt * wave
    h[0, 0] += tt
    h[0, 1] += a * tu
    h[0, 2] -= tt
    h[0, 3] += tv
    h[0, 4] += vf * tu
    h[1, 1] += a * a * uu
    h[1, 2] -= a * tu
    h[1, 3] += a * wave
    h[1, 4] += mixed
    h[2, 2] += tt
    h[2, 3] -= tv
    h[2, 4] -= vf * tu
    h[3, 3] += 2 * weight * c1
    h[3, 4] += vf * wave
    h[4, 4] += vf * vf * uu


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def differentiate_limits(
    branches: Branches, ratio: FloatArray, vm: FloatArray, turn: FloatArray, slope: FloatArray
) -> None:
    """Fill the derivatives of (flow / limit)^2 by the local variables, (limit, 5)."""
    c = branches.coefficient
    for m in range(branches.limit_branch.size):
        k, end = branches.limit_branch[m], branches.limit_end[m]
        vf, vt, a = vm[branches.from_bus[k]], vm[branches.to_bus[k]], ratio[k]
        u, r, s = a * vf, 4 + end, slope[m]
        wave = c[k, r, 2] * turn[k, 0] + c[k, r, 3] * turn[k, 1]
        turned = c[k, r, 3] * turn[k, 0] - c[k, r, 2] * turn[k, 1]
        value = c[k, r, 0] * u * u + c[k, r, 1] * vt * vt + u * vt * wave
        over = 1.0 / branches.limit_square[m]
        outer = over * _outer(end, branches.apparent, a, vf, vt)
        by_u = outer * (2 * c[k, r, 0] * u + vt * wave)
        s[0], s[2] = outer * u * vt * turned, -outer * u * vt * turned
        s[1], s[4] = a * by_u, vf * by_u
        s[3] = outer * (2 * c[k, r, 1] * vt + u * wave)
        if end == 0:
            s[4] += 2 * value * outer / a
            if branches.apparent:
                s[1] += 2 * value * outer / vf
        elif branches.apparent:
            s[3] += 2 * value * outer / vt


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def add_limit_curvature(
    branches: Branches,
    ratio: FloatArray,
    vm: FloatArray,
    turn: FloatArray,
    slope: FloatArray,
    multiplier: FloatArray,
    curvature: FloatArray,
    hessian: FloatArray,
) -> None:
    """Add to the local Hessians what the flow limits contribute.

    That is multiplier times second derivative plus curvature times the outer product of the slope; `multiplier`
    and `curvature` are (limit,).
    """
    c = branches.coefficient
    inner, outer = np.empty(LOCAL), np.empty(LOCAL)
    for m in range(branches.limit_branch.size):
        k, end = branches.limit_branch[m], branches.limit_end[m]
        vf, vt, a = vm[branches.from_bus[k]], vm[branches.to_bus[k]], ratio[k]
        u, r, h, s = a * vf, 4 + end, hessian[k], slope[m]
        weight = multiplier[m] / branches.limit_square[m]
        scale = _outer(end, branches.apparent, a, vf, vt)
        _add_curvature(
            h, c[k, r, 0], c[k, r, 1], c[k, r, 2], c[k, r, 3], a, vf, vt, turn[k, 0], turn[k, 1], weight * scale
        )
        wave = c[k, r, 2] * turn[k, 0] + c[k, r, 3] * turn[k, 1]
        value = c[k, r, 0] * u * u + c[k, r, 1] * vt * vt + u * vt * wave
        # the product rule: inner current times outer factor
        for i in range(LOCAL):
            outer[i] = 0.0
        if end == 0:
            outer[4] = 2 * scale / a
            h[4, 4] += weight * value * 2 * scale / (a * a)
            if branches.apparent:
                outer[1] = 2 * scale / vf
                h[1, 1] += weight * value * 2 * scale / (vf * vf)
                h[1, 4] += weight * value * 4 * scale / (a * vf)
        elif branches.apparent:
            outer[3] = 2 * vt
            h[3, 3] += weight * value * 2
        for i in range(LOCAL):
            inner[i] = (s[i] * branches.limit_square[m] - value * outer[i]) / scale
        for i in range(LOCAL):
            for j in range(i, LOCAL):
                h[i, j] += weight * (inner[i] * outer[j] + outer[i] * inner[j]) + curvature[m] * s[i] * s[j]


@njit(cache=True, error_model="numpy")
def hold_angle(branches: Branches, bus: int, hessian: FloatArray, jacobian: FloatArray) -> None:
    """Clear the local derivatives by the angle of a bus."""
    for k in range(branches.from_bus.size):
        for local, end in ((0, branches.from_bus[k]), (2, branches.to_bus[k])):
            if end == bus:
                hessian[k, local, :] = 0.0
                hessian[k, :, local] = 0.0
                jacobian[k, :, local] = 0.0


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def fill_blocks(
    branches: Branches,
    tap_diagonal: FloatArray,
    pattern: BlockPattern,
    hessian: FloatArray,
    jacobian: FloatArray,
    matrix: FloatArray,
    tap_row: FloatArray,
    tap_pivot: FloatArray,
) -> int:
    """Add the branches to the block matrix and eliminate the ratios; return the number of negative ratio pivots.

    Bus unknowns: (angle, magnitude, active price, reactive price). `matrix` is (block, 16), diagonal blocks by bus
    first. `tap_row` (tap, 8) holds the coupling of a ratio to the unknowns of its from and to bus, `tap_pivot`
    (tap,) its pivot.
    """
    whole = np.zeros((8, 8))
    negative = 0
    for k in range(branches.from_bus.size):
        i, j, block, tap = branches.from_bus[k], branches.to_bus[k], pattern.branch_block[k], branches.tap[k]
        _spread(hessian[k], jacobian[k], whole)
        if tap >= 0:
            pivot, row = hessian[k, 4, 4] + tap_diagonal[tap], tap_row[tap]
            tap_pivot[tap] = pivot
            negative += pivot <= 0.0
            for m in range(2):
                row[m], row[4 + m] = hessian[k, m, 4], hessian[k, 2 + m, 4]
                row[2 + m], row[6 + m] = jacobian[k, m, 4], jacobian[k, 2 + m, 4]
            for m in range(8):
                for n in range(m, 8):
                    whole[m, n] -= row[m] * row[n] / pivot
        for m in range(4):
            for n in range(m, 4):
                matrix[i, 4 * m + n] += whole[m, n]
                matrix[j, 4 * m + n] += whole[4 + m, 4 + n]
            for n in range(4):
                place = 4 * n + m if pattern.branch_flipped[k] else 4 * m + n
                matrix[block, place] += whole[m, 4 + n]
    for i in range(pattern.order.size):
        for m in range(4):
            for n in range(m):
                matrix[i, 4 * m + n] = matrix[i, 4 * n + m]
    return negative


@njit(cache=True, inline="always")
def _spread(h: FloatArray, j: FloatArray, whole: FloatArray) -> None:
    """Set the upper triangle over the unknowns of the from bus and of the to bus, (8, 8)."""
    for end in range(2):
        a, b = 4 * end, 2 * end
        whole[a, a], whole[a, a + 1], whole[a + 1, a + 1] = h[b, b], h[b, b + 1], h[b + 1, b + 1]
        for m in range(2):
            for n in range(2):
                whole[a + m, a + 2 + n] = j[b + n, b + m]
                whole[a + 2 + m, a + 2 + n] = 0.0
    for m in range(2):
        for n in range(2):
            whole[m, 4 + n] = h[m, 2 + n]
            whole[m, 6 + n] = j[2 + n, m]
            whole[2 + m, 4 + n] = j[m, 2 + n]
            whole[2 + m, 6 + n] = 0.0
