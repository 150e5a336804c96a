"""What one outage looks like when it is solved: its extremes and its violations.

Everything here is numbered by elimination position except branches and what is reported.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from bos_core.grid.elimination import Int32Array
from bos_core.grid.model import BoolArray, FloatArray, IntArray

CONVERGED, ISLANDED, DIVERGED = 0, 1, 2

CRITERION_TOLERANCE = 1e-4
"""An excess of a criterion up to this, as a loading or in p.u., is rounding: no measurement sees it."""


class Monitor(NamedTuple):
    """What is watched in one hour.

    admittance: (branch, 8) yff, yft, ytf, ytt as real and imaginary parts. per_rating_*: (branch,) 1 / rating,
    0 where unrated. loading_limit: (branch,) criterion; loading_listed: what an entry of the violation list
    must pass (above the criterion where the base case violates it already). The same for voltages, (bus,).
    """

    order: IntArray
    from_position: Int32Array
    to_position: Int32Array
    admittance: FloatArray
    per_rating_from: FloatArray
    per_rating_to: FloatArray
    loading_limit: FloatArray
    loading_listed: FloatArray
    vm_low: FloatArray
    vm_low_listed: FloatArray
    vm_high: FloatArray
    vm_high_listed: FloatArray


class Extremes(NamedTuple):
    """Results of the outages of one hour, (contingency,)."""

    outcome: IntArray
    iterations: IntArray
    residual_pu: FloatArray
    loading_max: FloatArray
    loading_branch: IntArray
    overloaded: IntArray
    vm_min_pu: FloatArray
    vm_min_bus: IntArray
    vm_max_pu: FloatArray
    vm_max_bus: IntArray
    voltage_violations: IntArray
    q_switches: IntArray


class Listed(NamedTuple):
    """A growing list of violations: contingency, element, value."""

    case: IntArray
    element: IntArray
    value: FloatArray


def new_extremes(cases: int) -> Extremes:
    """Return the results of outages that have not been solved."""

    def numbers(value: int) -> IntArray:
        return np.full(cases, value, np.int64)

    def unknown() -> FloatArray:
        return np.full(cases, np.nan)

    return Extremes(
        outcome=numbers(DIVERGED),
        iterations=numbers(0),
        residual_pu=unknown(),
        loading_max=unknown(),
        loading_branch=numbers(-1),
        overloaded=numbers(0),
        vm_min_pu=unknown(),
        vm_min_bus=numbers(-1),
        vm_max_pu=unknown(),
        vm_max_bus=numbers(-1),
        voltage_violations=numbers(0),
        q_switches=numbers(0),
    )


def new_list(room: int = 1024) -> Listed:
    """Return an empty list of violations with room for some."""
    return Listed(np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room))


@nb.njit(cache=True, nogil=True)
def with_room(listed: Listed, used: int, more: int) -> Listed:
    """Return the list with room for more entries."""
    size = listed.case.size
    if used + more <= size:
        return listed
    larger = max(2 * size, used + more)
    case, element, value = np.empty(larger, np.int64), np.empty(larger, np.int64), np.empty(larger)
    case[:used], element[:used], value[:used] = listed.case[:used], listed.element[:used], listed.value[:used]
    return Listed(case, element, value)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def watch_branches(
    monitor: Monitor,
    case: int,
    outage: int,
    vr: FloatArray,
    vi: FloatArray,
    dead: BoolArray,
    extremes: Extremes,
    listed: Listed,
    used: int,
) -> int:
    """Record loadings of the live branches; listed has room for all. Return how many entries are used."""
    highest, where, overloaded = -1.0, -1, 0
    for k in range(monitor.from_position.size):
        f, t = monitor.from_position[k], monitor.to_position[k]
        if k == outage or dead[f] or dead[t]:
            continue
        a, b, c, d = vr[f], vi[f], vr[t], vi[t]
        y = monitor.admittance[k]
        cr, ci = y[0] * a - y[1] * b + y[2] * c - y[3] * d, y[0] * b + y[1] * a + y[2] * d + y[3] * c
        at_from = (cr * cr + ci * ci) * monitor.per_rating_from[k] ** 2
        cr, ci = y[4] * a - y[5] * b + y[6] * c - y[7] * d, y[4] * b + y[5] * a + y[6] * d + y[7] * c
        square = max(at_from, (cr * cr + ci * ci) * monitor.per_rating_to[k] ** 2)
        if square > highest and (monitor.per_rating_from[k] > 0.0 or monitor.per_rating_to[k] > 0.0):
            highest, where = square, k
        limit = monitor.loading_limit[k] + CRITERION_TOLERANCE
        if square > limit * limit:
            overloaded += 1
            loading = np.sqrt(square)
            if loading > monitor.loading_listed[k]:
                listed.case[used], listed.element[used], listed.value[used] = case, k, loading
                used += 1
    extremes.loading_max[case] = np.sqrt(highest) if where >= 0 else 0.0
    extremes.loading_branch[case] = where
    extremes.overloaded[case] = overloaded
    return used


@nb.njit(cache=True, nogil=True, error_model="numpy")
def watch_buses(
    monitor: Monitor,
    case: int,
    vr: FloatArray,
    vi: FloatArray,
    dead: BoolArray,
    extremes: Extremes,
    listed: Listed,
    used: int,
) -> int:
    """Record voltages of the live buses; listed has room for all. Return how many entries are used."""
    lowest, highest, at_lowest, at_highest, outside = np.inf, -np.inf, -1, -1, 0
    for i in range(vr.size):
        if dead[i]:
            continue
        vm = np.sqrt(vr[i] * vr[i] + vi[i] * vi[i])
        if vm < lowest:
            lowest, at_lowest = vm, i
        if vm > highest:
            highest, at_highest = vm, i
        low, high = vm < monitor.vm_low[i] - CRITERION_TOLERANCE, vm > monitor.vm_high[i] + CRITERION_TOLERANCE
        if low or high:
            outside += 1
            if (low and vm < monitor.vm_low_listed[i]) or (high and vm > monitor.vm_high_listed[i]):
                listed.case[used], listed.element[used], listed.value[used] = case, monitor.order[i], vm
                used += 1
    extremes.vm_min_pu[case], extremes.vm_max_pu[case] = lowest, highest
    extremes.vm_min_bus[case] = monitor.order[at_lowest]
    extremes.vm_max_bus[case] = monitor.order[at_highest]
    extremes.voltage_violations[case] = outside
    return used
