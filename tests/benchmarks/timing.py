"""Best of repeated runs, in CPU and wall time. Only the standard library: peers' own environments use it too."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """The least CPU time (threads and ended children of the process) and wall time of some runs, in seconds."""

    cpu_s: float
    wall_s: float
    runs: int

    def per(self, count: float) -> Timing:
        """Return the times of one of `count` equal parts of the work."""
        return Timing(self.cpu_s / count, self.wall_s / count, self.runs)


def cpu_s() -> float:
    """Return the CPU time of all threads of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def best_of(
    work: Callable[..., Any],
    *,
    prepare: Callable[[], tuple[Any, ...]] = tuple,
    runs_max: int = 15,
    budget_s: float = 2.0,
    warm_up: bool = True,
) -> tuple[Timing, Any]:
    """Run `work` until the budget is used, at least once, and return its best times and its last result.

    Parameters
    ----------
    prepare : callable, optional
        Makes the arguments of `work` anew for every run; its time does not count.
    warm_up : bool
        Whether a first run does not count: it compiles, loads and fills caches.
    """
    if warm_up:
        started = time.perf_counter()
        work(*prepare())
        if time.perf_counter() - started > budget_s:
            runs_max = 1
    cpu, wall, runs = float("inf"), float("inf"), 0
    end = time.perf_counter() + budget_s
    gc.collect()
    gc.disable()
    try:
        while runs == 0 or (runs < runs_max and time.perf_counter() < end):
            arguments = prepare()
            wall_before, cpu_before = time.perf_counter(), cpu_s()
            result = work(*arguments)
            cpu_after, wall_after = cpu_s(), time.perf_counter()
            cpu, wall = min(cpu, cpu_after - cpu_before), min(wall, wall_after - wall_before)
            runs += 1
    finally:
        gc.enable()
    return Timing(cpu, wall, runs), result
