"""A1 as Bayesian linear regression of logarithms: power laws in CPU cores and features, one for each program."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy.special import ndtri

from bos_core.grid.model import FloatArray
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.task_forecast.contract import Inputs, Outputs


class Parameters(ProgramParameters):
    """What an operator may set."""

    duration_spread: float = Field(0.5, gt=0, le=3)
    """Standard deviation of the logarithm of durations that is expected before any outcome."""
    memory_spread: float = Field(0.2, gt=0, le=3)
    """The same of peak memory."""
    spread_weight: float = Field(2.0, gt=0, le=1000)
    """How many outcomes that expectation counts for."""
    slope_spread: float = Field(1.0, gt=0, le=10)
    """Standard deviation of the exponents of the power laws that is expected before any outcome."""
    killed_factor: float = Field(1.5, ge=1, le=10)
    """A killed attempt counts as one that needed so much times the memory it had."""


MANIFEST = ProgramManifest(
    name="log_regression",
    slot="task_forecast",
    version="1.0.0",
    title="Power laws by regression",
    description="Duration and memory as power laws of CPU cores and features, by Bayesian linear regression of "
    "logarithms for each program; quantiles widen with the distance to what was seen.",
    parameters=Parameters,
    references=("Gelman et al.: Bayesian data analysis, chapter 14",),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Forecast every query."""
    queries, z = inputs.query_program.size, ndtri(inputs.quantile)
    duration = inputs.prior_duration_s * np.exp(np.outer(np.ones(queries), z) * 2 * parameters.duration_spread)
    memory = np.full((queries, z.size), float(inputs.prior_memory_mb))
    observations = np.zeros(queries, np.int64)
    errors = np.full((2, queries), np.nan)
    history, asked = np.log(inputs.history_feature), np.log(inputs.query_feature)
    need = inputs.history_memory_mb * np.where(inputs.history_killed, parameters.killed_factor, 1.0)
    for program in np.unique(inputs.query_program):
        seen, query = inputs.history_program == program, inputs.query_program == program
        observations[query] = seen.sum()
        whole = seen & ~inputs.history_killed
        for part, (rows, values, spread, answer) in enumerate(
            (
                (whole, inputs.history_duration_s, parameters.duration_spread, duration),
                (seen, need, parameters.memory_spread, memory),
            )
        ):
            if rows.any():
                logs = np.log(np.maximum(values[rows], 1e-6))
                middle, deviation, error = _fit(history[rows], logs, asked[query], spread, parameters)
                answer[query] = np.exp(middle[:, None] + deviation[:, None] * z)
                errors[part, query] = error
    return Outputs(duration, memory, observations, errors[0], errors[1])


def _fit(
    x: FloatArray, y: FloatArray, asked: FloatArray, spread: float, parameters: Parameters
) -> tuple[FloatArray, FloatArray, float]:
    """Return mean and standard deviation of the prediction for `asked`, and the leave-one-out error."""
    centre, level = x.mean(axis=0), y.mean()
    design, target = x - centre, y - level
    ridge = np.eye(x.shape[1]) * (spread / parameters.slope_spread) ** 2
    inverse = np.linalg.inv(design.T @ design + ridge)
    slope = inverse @ design.T @ target
    residual = target - design @ slope
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design) + 1 / y.size
    weight = parameters.spread_weight
    variance = (residual @ residual + weight * spread**2) / (y.size + weight)
    moved = asked - centre
    reach = np.einsum("ij,jk,ik->i", moved, inverse, moved) + 1 / y.size
    error = np.nan
    if y.size > 1:
        error = float(np.abs(np.expm1(-residual / np.maximum(1 - leverage, 1e-6))).mean())
    return level + moved @ slope, np.sqrt(variance * (1 + reach)), error
