"""The kernels that solve the outages of an hour, fastest first, and one way to call them.

The compiled extension `n1_native` (sources in `native/`) has one copy for every instruction set. Where it is not
built, numba's lanes do the same at a fraction of the speed; Newton's method, one outage after the other, is the
last resort of both and can be chosen for comparison.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bos_core.grid.elimination import Factors, Pattern
from bos_core.grid.model import FloatArray, IntArray
from bos_core.grid.n1_cases import CRITERION_TOLERANCE, Extremes, Listed, Monitor, new_list
from bos_core.grid.n1_lanes import Outages, prepare_base, solve_in_lanes
from bos_core.grid.newton import LIMIT_TOLERANCE_PU, MAX_RETURNS, Control, State

try:
    from bos_core.grid import n1_native

    INSTRUCTION_SETS = tuple(n1_native.instruction_sets())
except ImportError:
    INSTRUCTION_SETS = ()

NUMBA, ONE_BY_ONE = "numba", "one_by_one"
KERNELS = (*INSTRUCTION_SETS, NUMBA, ONE_BY_ONE)
"""Kernels of this machine, fastest first."""

LANE_ITERATIONS = 40


class Solved(NamedTuple):
    """What became of an hour's outages beside their extremes.

    overloads, voltages: the violations. left: (case,) int, outages that did not settle or cannot be solved side by
    side, for Newton's method. seconds: time of each part of the work; empty where the kernel keeps no time.
    """

    overloads: Listed
    voltages: Listed
    left: IntArray
    seconds: dict[str, float]


def solve_outages(
    kernel: str,
    pattern: Pattern,
    factors: Factors,
    state: State,
    control: Control,
    g: FloatArray,
    b: FloatArray,
    slack: int,
    outages: Outages,
    monitor: Monitor,
    extremes: Extremes,
    tol: float,
    enforce: bool,
    distributed: bool,
) -> Solved:
    """Solve the outages of an hour into `extremes`; `factors` are those of its solved base case."""
    if kernel == ONE_BY_ONE:
        return Solved(new_list(0), new_list(0), np.arange(outages.branch.size), {})
    if kernel == NUMBA:
        base = prepare_base(pattern, g, b, state, control, slack, factors)
        room = new_list(), new_list()
        limits = tol, LANE_ITERATIONS
        overloads, n_overloads, voltages, n_voltages, left = solve_in_lanes(
            base, outages, monitor, limits, enforce, distributed, extremes, *room
        )
        return Solved(_used(overloads, n_overloads), _used(voltages, n_voltages), left, {})
    overloads_found, voltages_found, left, seconds = n1_native.solve(
        pattern,
        factors,
        state,
        control,
        g,
        b,
        outages,
        monitor,
        extremes,
        tolerance=tol,
        iterations_max=LANE_ITERATIONS,
        enforce=enforce,
        distributed=distributed,
        criterion_tolerance=CRITERION_TOLERANCE,
        limit_tolerance=LIMIT_TOLERANCE_PU,
        returns_max=MAX_RETURNS,
        instruction_set=kernel,
    )
    return Solved(Listed(*overloads_found), Listed(*voltages_found), left, seconds)


def _used(listed: Listed, used: int) -> Listed:
    return Listed(listed.case[:used], listed.element[:used], listed.value[:used])
