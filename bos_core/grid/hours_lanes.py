"""Hours of a series side by side in vector registers, by the compiled extension `hours_native`.

Every hour goes through Newton's method with values of its own, in the voltage control and limit switching of
`bos_core.grid.newton`; hours share the pattern of the factors alone. Where the extension is not built, and for
hours that do not settle there, `bos_core.grid.power_flow` solves one after the other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bos_core.grid.elimination import Elimination
from bos_core.grid.injections import BusInjections
from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.grid.newton import DIVERGED_PU, LIMIT_TOLERANCE_PU, LOST, MAX_RETURNS, MAX_ROUNDS

try:
    from bos_core.grid import hours_native

    INSTRUCTION_SETS = tuple(hours_native.instruction_sets())
except ImportError:
    INSTRUCTION_SETS = ()

ONE_BY_ONE = "one_by_one"
KERNELS = (*INSTRUCTION_SETS, ONE_BY_ONE)
"""Kernels of this machine, fastest first."""


class Networks(NamedTuple):
    """The different networks of a block, by taps and shunt steps.

    g, b: (network, entry), admittances on the y pattern without loads. dc: (entry,), the susceptance matrix of the
    DC power flow at the grid's own taps, regular. dc_power: (bus,), active power that phase shifts add there, p.u.
    of_hour: (hour,), the network of each hour.
    """

    g: FloatArray
    b: FloatArray
    dc: FloatArray
    dc_power: FloatArray
    of_hour: IntArray


class Found(NamedTuple):
    """Voltages, to begin with the start values, and what else became of the hours; (hour, bus) or (hour,).

    p, q: power from each bus into the network and its loads of constant impedance, p.u. balance: active power
    shared by the weights, p.u. residual: largest mismatch, p.u. control: 0 in control, +1 at the upper limit, -1
    at the lower. solved: whether the rest is a solution.
    """

    vr: FloatArray
    vi: FloatArray
    p: FloatArray
    q: FloatArray
    balance: FloatArray
    residual: FloatArray
    control: NDArray[np.int8]
    iterations: IntArray
    solved: BoolArray


def start_at(vm_pu: FloatArray, va_rad: FloatArray) -> Found:
    """Return what hours that start at these voltages, (hour, bus), have found so far."""
    hours, shape = vm_pu.shape[0], vm_pu.shape
    return Found(
        vr=np.ascontiguousarray(vm_pu * np.cos(va_rad)),
        vi=np.ascontiguousarray(vm_pu * np.sin(va_rad)),
        p=np.zeros(shape),
        q=np.zeros(shape),
        balance=np.zeros(hours),
        residual=np.full(hours, np.inf),
        control=np.zeros(shape, np.int8),
        iterations=np.zeros(hours, np.int64),
        solved=np.zeros(hours, np.bool_),
    )


def solve_in_lanes(
    kernel: str,
    elimination: Elimination,
    slack: int,
    networks: Networks,
    injections: BusInjections,
    weight: FloatArray | None,
    found: Found,
    tol: float,
    max_iterations: int,
    enforce: bool,
) -> None:
    """Solve hours into `found`; hours that do not settle there keep their start values.

    Parameters
    ----------
    kernel : str
        One of `INSTRUCTION_SETS`.
    weight : (hour, bus), optional
        Shares in the active balance, their sum 1 in every hour; default the slack alone.
    """
    hours_native.solve(
        elimination.pattern,
        elimination.order,
        int(elimination.position[slack]),
        networks,
        injections,
        weight,
        found,
        tolerance=tol,
        iterations_max=max_iterations,
        enforce=enforce,
        limit_tolerance=LIMIT_TOLERANCE_PU,
        returns_max=MAX_RETURNS,
        rounds_max=MAX_ROUNDS,
        lost=LOST,
        diverged=DIVERGED_PU,
        instruction_set=kernel,
    )
