"""The promise of the task-forecast slot, algorithm A1: how long a task takes and how much memory it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.objects.contracts import CO_SCHEDULING, Array, SlotContract
from bos_core.objects.errors import Finding

_OUTCOME, _QUERY = ("outcome",), ("query",)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What attempts took, oldest first, and what is asked for. Programs are numbers; features are above 0.

    The first feature is the CPU cores of the container, the others are what the tasks say: buses, hours, ... The
    prior is for a program without any outcome; its memory is meant to be safe.
    """

    history_program: Annotated[IntArray, Array(_OUTCOME, "1", "", "i", 0)]
    history_feature: Annotated[FloatArray, Array(("outcome", "feature"), "1", "", minimum=1e-12)]
    history_duration_s: Annotated[FloatArray, Array(_OUTCOME, "s", "", minimum=0)]
    history_memory_mb: Annotated[FloatArray, Array(_OUTCOME, "MB", "peak; of a kill the limit", minimum=0)]
    history_killed: Annotated[BoolArray, Array(_OUTCOME, "1", "killed for memory: duration means nothing", "b")]
    query_program: Annotated[IntArray, Array(_QUERY, "1", "", "i", 0)]
    query_feature: Annotated[FloatArray, Array(("query", "feature"), "1", "", minimum=1e-12)]
    quantile: Annotated[FloatArray, Array(("quantile",), "1", "ascending", minimum=0.01, maximum=0.99)]
    prior_duration_s: float
    prior_memory_mb: float


@dataclass(frozen=True, eq=False)
class Outputs:
    """Quantiles of duration and peak memory, what they rest on, and how wrong they were.

    Errors are mean absolute percentage errors, as a share, of the medians for the program's outcomes, each
    forecast from the others; NaN where there are fewer than two.
    """

    duration_s: Annotated[FloatArray, Array(("query", "quantile"), "s", "", minimum=0)]
    memory_mb: Annotated[FloatArray, Array(("query", "quantile"), "MB", "", minimum=0)]
    observations: Annotated[IntArray, Array(_QUERY, "1", "outcomes of the program", "i", 0)]
    duration_error: Annotated[FloatArray, Array(_QUERY, "1", "", minimum=0, finite=False)]
    memory_error: Annotated[FloatArray, Array(_QUERY, "1", "", minimum=0, finite=False)]


def verify(inputs: Inputs, outputs: Outputs) -> list[Finding]:
    """Quantiles ascend, and a program that was never seen gets at least the memory of the prior."""
    findings: list[Finding] = []
    for name in ("duration_s", "memory_mb"):
        falls = (np.diff(getattr(outputs, name), axis=1) < 0).any(axis=1)
        if falls.any():
            where = tuple(map(str, np.flatnonzero(falls)))
            findings.append(Finding("query", where, "has quantiles that fall", "sort them", name))
    unseen = ~np.isin(inputs.query_program, inputs.history_program)
    unsafe = unseen & (outputs.memory_mb < inputs.prior_memory_mb).any(axis=1)
    if unsafe.any():
        where = tuple(map(str, np.flatnonzero(unsafe)))
        findings.append(Finding("query", where, "was never seen and gets less than the prior", "give the prior"))
    return findings


CONTRACT = SlotContract(
    name="task_forecast",
    version=1,
    kind="algorithm",
    summary="Forecast duration and peak memory of tasks from resources, features, program and history (A1).",
    inputs=Inputs,
    outputs=Outputs,
    default="log_regression",
    verify=verify,
    services=(CO_SCHEDULING,),
)
