"""The promise of the container-sizing slot: formula (2) of the paper over classes of tasks and container sizes.

min sum_sp cost_p n_sp + change_cost (containers that come or go) + sum_c late_cost_c late_c

subject to, for every size p and class k (classes by slack), the work of all classes c <= k that p takes on:

sum_(c <= k) D_cp x_cp <= slack_k n_p - busy_kp min(1, n_p / current_p),    sum_p x_cp + late_c = count_c

and to the limits of every server on CPU and memory (R_limit). This is the demand bound of earliest deadline first
with work taken as divisible; containers n are integers, quotas the discrete levels that the sizes are (X4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.objects.contracts import CO_SCHEDULING, Array, SlotContract
from bos_core.objects.errors import Finding

_CLASS, _SIZE, _SERVER, _PAIR = ("class",), ("size",), ("server",), ("class", "size")


@dataclass(frozen=True, eq=False)
class Inputs:
    """Demand by class, sizes, and servers; `current` are the containers that would stay if nothing were done."""

    count: Annotated[IntArray, Array(_CLASS, "1", "tasks", "i", 1)]
    slack_s: Annotated[FloatArray, Array(_CLASS, "s", "until they are to be complete, ascending", minimum=1e-9)]
    late_cost: Annotated[FloatArray, Array(_CLASS, "1/h", "of a task that is not in time", minimum=0)]
    fits: Annotated[BoolArray, Array(_PAIR, "1", "a size may take tasks of a class", "b")]
    duration_s: Annotated[FloatArray, Array(_PAIR, "s", "", minimum=1e-9)]
    busy_s: Annotated[FloatArray, Array(_PAIR, "s", "taken of a size within the slack of a class", minimum=0)]
    size_cpu_cores: Annotated[FloatArray, Array(_SIZE, "1", "", minimum=0)]
    size_memory_mb: Annotated[IntArray, Array(_SIZE, "MB", "", "i", 1)]
    size_cost: Annotated[FloatArray, Array(_SIZE, "1/h", "", minimum=0)]
    server_cpu_cores: Annotated[FloatArray, Array(_SERVER, "1", "", minimum=0)]
    server_memory_mb: Annotated[IntArray, Array(_SERVER, "MB", "", "i", 0)]
    current: Annotated[IntArray, Array(("server", "size"), "1", "", "i", 0)]
    change_cost: float
    may_grow: bool


@dataclass(frozen=True, eq=False)
class Outputs:
    """Containers of each size on each server; tasks that will not be in time; the objective's value and bound."""

    containers: Annotated[IntArray, Array(("server", "size"), "1", "", "i", 0)]
    late: Annotated[FloatArray, Array(_CLASS, "1", "", minimum=0)]
    objective: float
    bound: float


def usable(inputs: Inputs) -> BoolArray:
    """Return which sizes can complete a task of a class in time."""
    return inputs.fits & (inputs.duration_s <= inputs.slack_s[:, None])


def capacity_s(inputs: Inputs, containers: IntArray) -> FloatArray:
    """Return the time that sizes have for tasks within the slack of each class: (class, size), s.

    Parameters
    ----------
    containers : (size,)
        On all servers.
    """
    current = inputs.current.sum(axis=0)
    kept = np.minimum(containers, current) / np.maximum(current, 1)
    return np.maximum(inputs.slack_s[:, None] * containers - inputs.busy_s * kept, 0.0)


def must_stay(inputs: Inputs) -> IntArray:
    """Return the containers of each size that must stay: (server, size).

    In guarantee mode the smallest size stays that serves every class: to exchange its busy containers for fresh
    ones of another size would only look like capacity, as they finish their tasks first.
    """
    found = np.zeros_like(inputs.current)
    every = np.flatnonzero(inputs.fits.all(axis=0))
    if inputs.may_grow and every.size:
        smallest = every[inputs.size_memory_mb[every].argmin()]
        found[:, smallest] = inputs.current[:, smallest]
    return found


def objective(inputs: Inputs, containers: IntArray, late: FloatArray) -> float:
    """Return the value of formula (2)."""
    change = np.abs(containers - inputs.current).sum()
    return float((containers @ inputs.size_cost).sum() + inputs.change_cost * change + inputs.late_cost @ late)


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """Servers keep their limits, shrinking adds nothing, and no more tasks are called in time than can be."""
    findings: list[Finding] = []
    n = outputs.containers
    over = (n @ inputs.size_memory_mb > inputs.server_memory_mb) | (
        n @ inputs.size_cpu_cores > inputs.server_cpu_cores + 1e-6
    )
    grown = (n > inputs.current).any(axis=1)
    wrong = np.flatnonzero(over & grown)
    if wrong.size:
        findings.append(Finding("server", tuple(map(str, wrong)), "holds more than it has", "keep to R_limit"))
    if not inputs.may_grow and grown.any():
        where = tuple(map(str, np.flatnonzero(grown)))
        findings.append(Finding("server", where, "gets containers in normal mode", "only take away"))
    may, totals = usable(inputs), n.sum(axis=0)
    in_time = inputs.count - outputs.late
    least = np.where(may & (totals > 0), inputs.duration_s, np.inf).min(axis=1, initial=np.inf)
    work = np.cumsum(np.where(in_time > 1e-6, in_time * np.where(np.isfinite(least), least, 0.0), 0.0))
    room = capacity_s(inputs, totals).sum(axis=1)
    false = np.flatnonzero((work > room * (1 + 1e-6) + 1e-3) | ((in_time > 1e-6) & ~np.isfinite(least)))
    if false.size:
        findings.append(Finding("class", tuple(map(str, false)), "cannot be in time", "count it as late"))
    if (n < must_stay(inputs)).any():
        findings.append(
            Finding("size", (), "loses the smallest containers that serve every class", "keep them when growing")
        )
    value = objective(inputs, n, outputs.late)
    if abs(value - outputs.objective) > 1e-6 * max(1.0, abs(value)):
        findings.append(
            Finding("objective", (), f"is {outputs.objective:g}, not {value:g}", "evaluate formula (2)")
        )
    return findings


CONTRACT = SlotContract(
    name="container_sizing",
    version=1,
    kind="algorithm",
    summary="Decide how many containers of which size run on each server at the least cost (formula 2).",
    inputs=Inputs,
    outputs=Outputs,
    default="level_milp",
    verify=verify,
    services=(CO_SCHEDULING,),
)
