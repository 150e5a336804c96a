"""Workloads for the simulator: servers, and the tasks that arrive, with what they will really need.

A workload file is JSON::

    {"servers": [{"server": "one", "cpu_cores": 256, "memory_mb": 756000}],
     "levels":  [{"cpu_cores": 1, "memory_mb": 2000, "cost_per_h": 1.0}],
     "stages":  [{"name": "unit commitment", "tasks": 377, "duration_s": 10.56, "memory_mb": 900,
                  "duration_spread": 0.2, "memory_spread": 0.1, "queue": "normal", "after": [],
                  "at_s": 0, "every_s": 0, "deadline_s": null, "criticality": 1, "subtasks": 1, "features": {}}]}

A stage begins at `at_s`, or when all stages that it comes `after` are complete; its tasks arrive `every_s`.
Deadlines count from the arrival. Spreads are standard deviations of the logarithm; the means are kept. Levels may
be left out.

A Parquet file has a row a task: the columns ``name, at_s, duration_s, memory_mb`` and any of ``queue, deadline_s,
criticality, subtasks``; tasks of one name are of one program. Its servers, and levels if it has any, stand in the
metadata of the schema, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bos_core.objects.errors import Finding, FormatError
from bos_core.scheduling.events import Queue, TaskSubmitted
from bos_core.scheduling.policies import Level

Positive = Annotated[float, Field(gt=0, le=1e12)]
NotNegative = Annotated[float, Field(ge=0, le=1e12)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerPart(_Part):
    """A server of a workload."""

    server: Annotated[str, Field(min_length=1, max_length=63)]
    cpu_cores: Positive
    memory_mb: Annotated[int, Field(gt=0)]


class LevelPart(_Part):
    """A quota that containers may have."""

    cpu_cores: Positive
    memory_mb: Annotated[int, Field(gt=0)]
    cost_per_h: Positive


class StagePart(_Part):
    """Tasks of one kind."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    tasks: Annotated[int, Field(ge=1, le=10_000_000)] = 1
    duration_s: Positive
    memory_mb: Positive
    duration_spread: Annotated[float, Field(ge=0, le=3)] = 0.0
    memory_spread: Annotated[float, Field(ge=0, le=3)] = 0.0
    queue: Queue = Queue.NORMAL
    after: tuple[str, ...] = ()
    at_s: NotNegative = 0.0
    every_s: NotNegative = 0.0
    deadline_s: Positive | None = None
    criticality: Positive = 1.0
    subtasks: Annotated[int, Field(ge=1)] = 1
    features: dict[str, Positive] = Field(default_factory=dict)


class _File(_Part):
    servers: Annotated[tuple[ServerPart, ...], Field(min_length=1)]
    levels: tuple[LevelPart, ...] = ()
    stages: Annotated[tuple[StagePart, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Arrival:
    """A task with what only the simulated world knows of it.

    Attributes
    ----------
    request : TaskSubmitted
        Its deadline counts from the arrival.
    at_s : float
        From the beginning of its stage.
    duration_s : float
        On one core, alone.
    peak_mb : float
    behaviour : str
        ``works``, ``fails`` (the program ends with an error) or ``crashes`` (it brings its container down).
    """

    request: TaskSubmitted
    at_s: float
    duration_s: float
    peak_mb: float
    behaviour: str = "works"


@dataclass(frozen=True)
class Stage:
    """Tasks that arrive together, after others."""

    name: str
    arrivals: tuple[Arrival, ...]
    after: tuple[str, ...] = ()
    at_s: float = 0.0


@dataclass(frozen=True)
class Workload:
    """Servers and stages; `levels` are empty where the machine's own shall hold."""

    servers: tuple[ServerPart, ...]
    stages: tuple[Stage, ...]
    levels: tuple[Level, ...] = ()

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return sum(len(stage.arrivals) for stage in self.stages)

    @property
    def subtasks(self) -> int:
        """Number of subtasks."""
        return sum(arrival.request.subtasks for stage in self.stages for arrival in stage.arrivals)


def read(path: Path, seed: int = 0) -> Workload:
    """Read a workload file, JSON or Parquet.

    Parameters
    ----------
    seed : int
        For the spreads of a JSON file.

    Raises
    ------
    FormatError
        With everything that is wrong with the file.
    """
    try:
        if path.suffix == ".parquet":
            return _of_tasks(*_parquet(path))
        file = _File.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise FormatError([_wrong(path, dict(e)) for e in error.errors()]) from None
    except FileNotFoundError:
        raise FormatError((Finding("workload", (str(path),), "does not exist", "name a workload file"),)) from None
    except (OSError, ValueError) as error:
        remedy = "give a workload as JSON or Parquet"
        raise FormatError((Finding("workload", (path.name,), f"cannot be read: {error}", remedy),)) from None
    _check_order(path, file)
    random = np.random.default_rng(seed)
    stages = tuple(_stage(place, part, random) for place, part in enumerate(file.stages))
    return Workload(file.servers, stages, _levels(file.levels))


def _levels(parts: tuple[LevelPart, ...]) -> tuple[Level, ...]:
    levels = (Level(part.cpu_cores, part.memory_mb, part.cost_per_h) for part in parts)
    return tuple(sorted(levels, key=lambda level: level.memory_mb))


def _wrong(path: Path, error: dict[str, Any]) -> Finding:
    place = ".".join(map(str, error["loc"])) or "file"
    return Finding("workload", (path.name,), f"{error['msg']} (got {_short(error['input'])})", "correct it", place)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_order(path: Path, file: _File) -> None:
    names = [stage.name for stage in file.stages]
    findings = [
        Finding("workload", (path.name,), f"stage {name!r} stands twice", "give it another name", "stages")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    for place, stage in enumerate(file.stages):
        for other in stage.after:
            if other not in names[:place]:
                problem = f"stage {stage.name!r} comes after {other!r}, which is no earlier stage"
                findings.append(Finding("workload", (path.name,), problem, "order the stages", "stages"))
    if findings:
        raise FormatError(tuple(findings))


def _parquet(path: Path) -> tuple[_File, list[StagePart]]:
    """Return servers and levels of a Parquet file, and its tasks."""
    table = pq.read_table(path)
    metadata = table.schema.metadata or {}
    parts = {name: json.loads(metadata.get(name.encode(), b"[]")) for name in ("servers", "levels")}
    rows = [{key: value for key, value in row.items() if value is not None} for row in table.to_pylist()]
    file = _File.model_validate({**parts, "stages": rows})
    return file, list(file.stages)


def _of_tasks(file: _File, rows: list[StagePart]) -> Workload:
    """Return the workload whose tasks are given one by one: one stage, in which they arrive at their times."""
    random = np.random.default_rng(0)
    parts = [_stage(place, row, random) for place, row in enumerate(rows)]
    arrivals = tuple(replace(a, at_s=stage.at_s) for stage in parts for a in stage.arrivals)
    return Workload(file.servers, (Stage("tasks", arrivals),), _levels(file.levels))


def _stage(place: int, part: StagePart, random: np.random.Generator) -> Stage:
    duration = part.duration_s * _spread(part.duration_spread, part.tasks, random)
    memory = part.memory_mb * _spread(part.memory_spread, part.tasks, random)
    request = TaskSubmitted(
        task="",
        task_set=part.name,
        slot="simulated",
        program=part.name,
        queue=part.queue,
        features=tuple(sorted(part.features.items())),
        criticality=part.criticality,
        deadline_s=part.deadline_s,
        subtasks=part.subtasks,
    )
    arrivals = tuple(
        Arrival(replace(request, task=f"{place}/{number}"), number * part.every_s, d, m)
        for number, (d, m) in enumerate(zip(duration.tolist(), memory.tolist(), strict=True))
    )
    return Stage(part.name, arrivals, part.after, part.at_s)


def _spread(spread: float, count: int, random: np.random.Generator) -> np.ndarray:
    """Return factors with mean 1 whose logarithm has this standard deviation."""
    return np.exp(random.normal(-0.5 * spread**2, spread, count)) if spread else np.ones(count)


def truths(workload: Workload) -> Iterator[Arrival]:
    """Yield all tasks."""
    return (arrival for stage in workload.stages for arrival in stage.arrivals)
