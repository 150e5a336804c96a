"""A1 without a model: the quantiles of the outcomes whose features are nearest."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from bos_core.grid.model import FloatArray
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.task_forecast.contract import Inputs, Outputs


class Parameters(ProgramParameters):
    """What an operator may set."""

    nearest: int = Field(20, ge=1, le=1000)
    """Outcomes that a forecast rests on."""
    killed_factor: float = Field(1.5, ge=1, le=10)
    """A killed attempt counts as one that needed so much times the memory it had."""
    prior_factor: float = Field(5.0, ge=1, le=1000)
    """How far the extreme quantiles of the prior are from its duration."""


MANIFEST = ProgramManifest(
    name="similar_tasks",
    slot="task_forecast",
    version="1.0.0",
    title="Quantiles of similar tasks",
    description="Takes the outcomes of the program with the nearest features; of few outcomes the extremes are "
    "stretched.",
    parameters=Parameters,
    references=("Hyndman, Fan: Sample quantiles in statistical packages, 1996",),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Forecast every query."""
    queries, quantile = inputs.query_program.size, inputs.quantile
    duration = inputs.prior_duration_s * parameters.prior_factor ** np.outer(np.ones(queries), 2 * quantile - 1)
    memory = np.full((queries, quantile.size), float(inputs.prior_memory_mb))
    observations = np.zeros(queries, np.int64)
    errors = np.full((2, queries), np.nan)
    history, asked = np.log(inputs.history_feature), np.log(inputs.query_feature)
    need = inputs.history_memory_mb * np.where(inputs.history_killed, parameters.killed_factor, 1.0)
    for program in np.unique(inputs.query_program):
        seen, query = inputs.history_program == program, np.flatnonzero(inputs.query_program == program)
        observations[query] = seen.sum()
        whole = seen & ~inputs.history_killed
        parts = ((whole, inputs.history_duration_s, duration), (seen, need, memory))
        for part, (rows, values, answer) in enumerate(parts):
            if not rows.any():
                continue
            known, outcome = history[rows], values[rows]
            for place in query:
                answer[place] = _quantiles(_near(known, outcome, asked[place], parameters.nearest), quantile)
            errors[part, query] = _error(known, outcome, parameters.nearest)
    return Outputs(duration, memory, observations, errors[0], errors[1])


def _near(known: FloatArray, outcome: FloatArray, feature: FloatArray, count: int) -> FloatArray:
    """Return the outcomes with the nearest features; of equally near ones the newest."""
    distance = np.abs(known - feature).sum(axis=1)
    order = np.lexsort((-np.arange(distance.size), distance.round(9)))
    return outcome[order[:count]]


def _quantiles(sample: FloatArray, quantile: FloatArray) -> FloatArray:
    """Return quantiles, spread as if the sample's extremes were further out by their share of it."""
    stretch = (1 + 1 / sample.size) ** np.sign(quantile - 0.5)
    found = np.quantile(sample, quantile, method="weibull") * stretch
    return np.maximum.accumulate(found)


def _error(known: FloatArray, outcome: FloatArray, count: int) -> float:
    """Return the mean absolute percentage error of each outcome's forecast from the others."""
    if outcome.size < 2:
        return float("nan")
    found = []
    for place in range(outcome.size):
        others = np.arange(outcome.size) != place
        median = float(np.median(_near(known[others], outcome[others], known[place], count)))
        found.append(abs(median - outcome[place]) / max(outcome[place], 1e-9))
    return float(np.mean(found))
