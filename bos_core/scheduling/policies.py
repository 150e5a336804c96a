"""What the co-scheduling machine leaves to programs: algorithms A1, A2, A3 and formula (2), and its own limits.

The machine calls them with arrays by name and reads arrays from what they return; names, axes and units are those
of the contracts of the slots ``task_forecast``, ``task_priority``, ``task_assignment`` and ``container_sizing``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

QUANTILES = (0.05, 0.5, 0.95)
"""Of duration and memory, that the machine asks A1 for."""


class Forecast(Protocol):
    """Answer of A1; axes (query, quantile) and (query,)."""

    duration_s: FloatArray
    memory_mb: FloatArray
    observations: IntArray
    duration_error: FloatArray
    memory_error: FloatArray


class Priority(Protocol):
    """Answer of A2; axis (task,)."""

    weight: FloatArray


class Assignment(Protocol):
    """Answer of A3: the container of each task, -1 where it waits."""

    container: IntArray


class Sizing(Protocol):
    """Answer of formula (2): containers by server and size, and the tasks of each class that will be late."""

    containers: IntArray
    late: FloatArray


@dataclass(frozen=True)
class Policies:
    """The programs that fill the machine's four slots."""

    forecast: Callable[..., Forecast]
    prioritise: Callable[..., Priority]
    assign: Callable[..., Assignment]
    size: Callable[..., Sizing]


@dataclass(frozen=True)
class Level:
    """A quota that a container may have, and its cost.

    Attributes
    ----------
    cpu_cores, memory_mb : float, int
    cost_per_h : float
        Of an hour, in any currency; only ratios matter.
    """

    cpu_cores: float
    memory_mb: int
    cost_per_h: float


@dataclass(frozen=True)
class Limits:
    """Bounds and times of the machine.

    Attributes
    ----------
    levels : tuple of Level
        Discrete quotas, by memory.
    queue_max : int
        Tasks that may wait in one queue; more are refused.
    queue_weight : (3,)
        What the criticality of urgent, normal and trial tasks is multiplied by.
    prior_duration_s, prior_memory_mb : float
        Of a program that was never seen.
    memory_margin : float
        What the 95 % quantile of the forecast memory is multiplied by.
    growth : float
        How much more memory a killed task gets at least.
    crashes_max : int
        Containers that a task may bring down before it is quarantined.
    attempts_max : int
        Attempts that may come to nothing, whoever is to blame.
    patience_s : float
        A task without a deadline is to be complete so long after it was submitted, if resources allow.
    start_s : float
        What a container is expected to take to start: time that its tasks do not have.
    sizing_period_s : float
        Least time between two runs of formula (2).
    hold_s : float
        How long a container must have been superfluous before it is stopped.
    silence_s : float
        After so long without a word about a start, a stop or a task that was assigned, the machine acts.
    change_cost : float
        Cost of starting or stopping a container, against flapping.
    window : int
        Idle containers that A3 is given at once; a cycle has as many rounds as it takes.
    candidates : {"best", "random"}
        Relaxed virtual assignment of guarantee mode: the sizes that a task is offered are those with the least
        predicted duration, or, as in the paper, random ones.
    candidates_max : int
        Sizes that a class of tasks is offered.
    history_max : int
        Outcomes that are kept of each program.
    forecast_period_s : float
        Least time between two forecasts of all groups.
    decisions_max : int
        Decisions that are kept for `why`.
    """

    levels: tuple[Level, ...] = (
        Level(1.0, 1000, 1.0),
        Level(1.0, 2000, 1.2),
        Level(1.0, 4000, 1.6),
        Level(1.0, 8000, 2.4),
    )
    queue_max: int = 100_000
    queue_weight: tuple[float, float, float] = (100.0, 10.0, 1.0)
    prior_duration_s: float = 60.0
    prior_memory_mb: float = 1500.0
    memory_margin: float = 1.1
    growth: float = 1.5
    crashes_max: int = 2
    attempts_max: int = 10
    patience_s: float = 300.0
    start_s: float = 2.0
    sizing_period_s: float = 5.0
    hold_s: float = 60.0
    silence_s: float = 60.0
    change_cost: float = 0.5
    window: int = 500
    candidates: Literal["best", "random"] = "best"
    candidates_max: int = 3
    history_max: int = 200
    forecast_period_s: float = 5.0
    decisions_max: int = 10_000
