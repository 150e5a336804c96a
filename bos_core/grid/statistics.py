"""Statistics that tell whether a synthetic year behaves like the historical one.

Series are arrays of shape (hour,) or (hour, series). Constant series have no correlation; theirs is given as 0.
Source: the validation set of the RTS-GMLC and of ENTSO-E adequacy studies: duration curve, autocorrelation,
cross correlation and ramps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.model import FloatArray, IntArray

LAGS_H = (1, 2, 3, 6, 12, 24, 48, 168)
"""Lags at which autocorrelation is compared."""

RAMP_STEPS_H = (1, 3)
"""Durations over which ramps are compared."""


def duration_curve(series: FloatArray) -> FloatArray:
    """Return the values in descending order along the hour axis; same shape."""
    return np.sort(series, axis=0)[::-1]


def duration_distance(synthetic: FloatArray, historical: FloatArray) -> FloatArray:
    """Return the mean distance of two duration curves, relative to the mean size of the historical one.

    This is the first Wasserstein distance of the two distributions. Series must have equal hours.

    Returns
    -------
    (series,)
        0 = equal; the plain distance where the historical series is all zero.
    """
    gap = np.abs(duration_curve(_columns(synthetic)) - duration_curve(_columns(historical))).mean(axis=0)
    size = np.abs(_columns(historical)).mean(axis=0)
    return np.asarray(gap / np.where(size > 0, size, 1.0), float)


def autocorrelation(series: FloatArray, lags_h: tuple[int, ...] | IntArray) -> FloatArray:
    """Return the sample autocorrelation, (lag, series).

    A lag must lie between 0 and the number of hours less one.
    """
    centred = _columns(series) - _columns(series).mean(axis=0)
    power = (centred * centred).sum(axis=0)
    safe = np.where(power > 0, power, 1.0)
    hours = centred.shape[0]
    rows = []
    for lag in (int(lag) for lag in lags_h):
        if not 0 <= lag < hours:
            raise ValueError(f"lag {lag} h: the series has {hours} hours; give a lag from 0 to {hours - 1}")
        rows.append((centred[lag:] * centred[: hours - lag]).sum(axis=0) / safe)
    return np.asarray(rows, float).reshape(len(rows), centred.shape[1])


def correlation(series: FloatArray) -> FloatArray:
    """Return the correlation matrix, (series, series); 1 on the diagonal, 0 towards constant series."""
    centred = _columns(series) - _columns(series).mean(axis=0)
    norm = np.sqrt((centred * centred).sum(axis=0))
    unit = centred / np.where(norm > 0, norm, 1.0)
    matrix = np.clip(np.einsum("hi,hj->ij", unit, unit), -1.0, 1.0)
    np.fill_diagonal(matrix, 1.0)
    return np.asarray(matrix, float)


def ramps(series: FloatArray, step_h: int = 1) -> FloatArray:
    """Return the changes over `step_h` hours, (hour - step_h, series)."""
    columns = _columns(series)
    if not 1 <= step_h < columns.shape[0]:
        raise ValueError(f"step {step_h} h: give a step from 1 to {columns.shape[0] - 1}")
    return columns[step_h:] - columns[:-step_h]


@dataclass(frozen=True, eq=False)
class Comparison:
    """A synthetic sequence beside the historical one; axis ``series``.

    Attributes
    ----------
    mean, standard_deviation, minimum, maximum : (2, series)
        Row 0 historical, row 1 synthetic; in the unit of the series.
    duration_distance : (series,)
        Mean distance of the duration curves, relative.
    lags_h : (lag,) int
    autocorrelation : (2, lag, series)
    ramp_steps_h : (step,) int
    ramp_p01, ramp_p99 : (2, step, series)
        1st and 99th percentile of the ramps, in the unit of the series.
    correlation : (2, series, series)
    correlation_error : float
        Root mean square difference of the off-diagonal correlations.
    """

    mean: FloatArray
    standard_deviation: FloatArray
    minimum: FloatArray
    maximum: FloatArray
    duration_distance: FloatArray
    lags_h: IntArray
    autocorrelation: FloatArray
    ramp_steps_h: IntArray
    ramp_p01: FloatArray
    ramp_p99: FloatArray
    correlation: FloatArray
    correlation_error: float


def compare(synthetic: FloatArray, historical: FloatArray) -> Comparison:
    """Compare two sequences of equal shape, (hour, series)."""
    pair = (_columns(historical), _columns(synthetic))
    if pair[0].shape != pair[1].shape:
        raise ValueError(f"shapes {pair[1].shape} and {pair[0].shape} differ; compare equal sequences")
    hours, count = pair[0].shape
    lags = np.array([lag for lag in LAGS_H if lag < hours], np.int64)
    steps = np.array([step for step in RAMP_STEPS_H if step < hours], np.int64)
    both = np.stack([correlation(p) for p in pair])
    off = ~np.eye(count, dtype=bool)
    gap = (both[1] - both[0])[off]
    percentile = np.array(
        [[np.percentile(ramps(p, int(s)), [1.0, 99.0], axis=0) for s in steps] for p in pair]
    ).reshape(2, steps.size, 2, count)
    return Comparison(
        mean=np.stack([p.mean(axis=0) for p in pair]),
        standard_deviation=np.stack([p.std(axis=0) for p in pair]),
        minimum=np.stack([p.min(axis=0) for p in pair]),
        maximum=np.stack([p.max(axis=0) for p in pair]),
        duration_distance=duration_distance(synthetic, historical),
        lags_h=lags,
        autocorrelation=np.stack([autocorrelation(p, lags) for p in pair]),
        ramp_steps_h=steps,
        ramp_p01=percentile[:, :, 0],
        ramp_p99=percentile[:, :, 1],
        correlation=both,
        correlation_error=float(np.sqrt((gap * gap).mean())) if gap.size else 0.0,
    )


def _columns(series: FloatArray) -> FloatArray:
    values = np.asarray(series, float)
    return values[:, None] if values.ndim == 1 else values
