"""Algorithm A1 at work: groups of tasks that are forecast alike, the outcomes that forecasts learn from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bos_core.scheduling.events import Queue, TaskSubmitted
from bos_core.scheduling.policies import QUANTILES, FloatArray, Forecast, IntArray, Limits

CPU = "cpu_cores"
_MIDDLE, _HIGH = 1, 2


@dataclass(frozen=True)
class Outcome:
    """What an attempt used: the history that forecasts learn from. The ledger keeps it from run to run.

    Attributes
    ----------
    program : str
        Slot and name, ``slot/name``.
    features : tuple of (str, float)
        Of the task.
    cpu_cores : float
        Of its container.
    duration_s, memory_mb : float
        Wall time and peak memory; of a killed attempt the memory that was not enough.
    killed : bool
        It was killed for memory: it needs more than `memory_mb`, and its duration means nothing.
    """

    program: str
    features: tuple[tuple[str, float], ...]
    cpu_cores: float
    duration_s: float
    memory_mb: float
    killed: bool = False


def coarse(value: float) -> float:
    """Return a number to two significant digits: tasks whose features differ by less are forecast alike."""
    return float(f"{value:.1e}")


class Forecasts:
    """Duration by container level and memory of each group of tasks.

    Attributes
    ----------
    duration_s : (group, level)
        Median.
    duration_s_high : (group, level)
        95 % quantile.
    memory_mb : (group,)
        95 % quantile with the margin, within the largest level.
    observations : (group,)
        Outcomes behind a forecast; 0: the prior.
    duration_error, memory_error : (group,)
        Mean absolute percentage error (as a share) of the outcomes, each forecast from the others; NaN without.
    """

    def __init__(self, call: Callable[..., Forecast], limits: Limits, history: Iterable[Outcome] = ()) -> None:
        self._call, self._limits = call, limits
        self._group_of: dict[tuple[object, ...], int] = {}
        self._groups: list[tuple[str, tuple[tuple[str, float], ...]]] = []
        self._history: dict[str, deque[Outcome]] = {}
        self._cpu = sorted({level.cpu_cores for level in limits.levels})
        self._cpu_of_level = [self._cpu.index(level.cpu_cores) for level in limits.levels]
        self._is_stale, self._next_s = False, -np.inf
        self._fill(0, None)
        for outcome in history:
            self.learn(outcome)

    def group(self, request: TaskSubmitted) -> int:
        """Return the group of a task, a new one where there was none."""
        features = tuple(sorted((name, coarse(value)) for name, value in request.features))
        program = f"{request.slot}/{request.program}"
        key = (program, features, request.queue is Queue.TRIAL)
        if key not in self._group_of:
            self._group_of[key] = len(self._groups)
            self._groups.append((program, features))
        return self._group_of[key]

    def learn(self, outcome: Outcome) -> None:
        """Add an outcome; forecasts follow with the next refresh."""
        kept = self._history.setdefault(outcome.program, deque(maxlen=self._limits.history_max))
        kept.append(outcome)
        self._is_stale = True

    def history(self) -> list[Outcome]:
        """Return all outcomes that are kept, program by program, oldest first."""
        return [outcome for kept in self._history.values() for outcome in kept]

    def refresh(self, now_s: float) -> None:
        """Forecast anew where groups are new, or outcomes are and the last forecast is old enough."""
        is_new = len(self._groups) > self.memory_mb.size
        if not is_new and not (self._is_stale and now_s >= self._next_s):
            return
        self._is_stale, self._next_s = False, now_s + self._limits.forecast_period_s
        programs = sorted({program for program, _ in self._groups})
        kept = [outcome for program in programs for outcome in self._history.get(program, ())]
        names = sorted({name for _, features in self._groups for name, _ in features})
        queries = [(program, features, cpu) for program, features in self._groups for cpu in self._cpu]
        code = {program: place for place, program in enumerate(programs)}
        answer = self._call(
            history_program=np.array([code[o.program] for o in kept], np.int64),
            history_feature=_matrix(names, [(o.features, o.cpu_cores) for o in kept]),
            history_duration_s=np.array([o.duration_s for o in kept], float),
            history_memory_mb=np.array([o.memory_mb for o in kept], float),
            history_killed=np.array([o.killed for o in kept], bool),
            query_program=np.array([code[program] for program, _, _ in queries], np.int64),
            query_feature=_matrix(names, [(features, cpu) for _, features, cpu in queries]),
            quantile=np.array(QUANTILES),
            prior_duration_s=self._limits.prior_duration_s,
            prior_memory_mb=self._limits.prior_memory_mb,
        )
        self._fill(len(self._groups), answer)

    def _fill(self, groups: int, answer: Forecast | None) -> None:
        cpus = len(self._cpu)
        shape = (groups, cpus, len(QUANTILES))
        duration = np.zeros(shape) if answer is None else answer.duration_s.reshape(shape)
        memory = np.zeros(shape) if answer is None else answer.memory_mb.reshape(shape)
        self.duration_s: FloatArray = duration[:, self._cpu_of_level, _MIDDLE]
        self.duration_s_high: FloatArray = duration[:, self._cpu_of_level, _HIGH]
        wanted = np.ceil(memory[:, :, _HIGH].max(axis=1) * self._limits.memory_margin)
        largest = max(level.memory_mb for level in self._limits.levels)
        self.memory_mb: IntArray = np.minimum(wanted, largest).astype(np.int64)
        none = np.zeros(groups * cpus)
        first = slice(None, None, cpus)
        self.observations: IntArray = (none if answer is None else answer.observations)[first].astype(np.int64)
        self.duration_error: FloatArray = (none if answer is None else answer.duration_error)[first]
        self.memory_error: FloatArray = (none if answer is None else answer.memory_error)[first]


def _matrix(names: Sequence[str], rows: Sequence[tuple[tuple[tuple[str, float], ...], float]]) -> FloatArray:
    """Return features by row: CPU cores first, then `names`; 1 where a row lacks one."""
    found = np.ones((len(rows), 1 + len(names)))
    column = {name: place for place, name in enumerate(names, 1)}
    for row, (features, cpu) in enumerate(rows):
        found[row, 0] = cpu
        for name, value in features:
            if name in column:
                found[row, column[name]] = value
    return found
