"""A synthetic year: block bootstrap of historical days, correlated noise, rescaling to energy and peak.

1. Blocks of days are drawn for every profile at once, so that load, wind and sun of a day stay together. A block
   comes from a season window around its date, has the same day types (workday, Saturday, Sunday), and is drawn
   among those whose last hours before it resemble the end of the block before (matched-block bootstrap,
   Carlstein et al., Bernoulli 4(3), 1998).
2. AR(1) noise with a Gaussian copula across load, wind and PV. Load gets it as a factor; wind and the clear-sky
   index of the sun get it in the normal scores of their own historical distribution, which therefore is kept.
3. Rescaling by a monotone power law that meets energy and peak exactly: load as a system total, wind and sun each
   profile.

Profiles are treated in the order of their names and each draws from a stream of its own.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.grid.statistics import autocorrelation, correlation
from bos_core.objects.contracts import ProgramManifest
from bos_core.objects.errors import Finding, InputError, OptionError, raise_if_any
from bos_core.objects.ontology import HOURS_PER_YEAR
from slots.scenario_sequence.contract import Inputs, Outputs, validate, weekdays
from slots.scenario_sequence.outages import OutageParameters, random_stream, sample_availability

_DAYS = HOURS_PER_YEAR // 24

_NOISY = ("load_p", "wind", "solar")

_EXPONENT_LOW, _EXPONENT_HIGH = 0.05, 20.0


class Parameters(OutageParameters):
    """Parameters of the block bootstrap."""

    block_days: int = Field(3, ge=1, le=14)
    """Consecutive historical days in a block."""
    season_days: int = Field(30, ge=3, le=90)
    """A block comes from at most so many days before or after its date."""
    neighbours: int = Field(8, ge=1, le=100)
    """Number of best-matching blocks among which one is drawn."""
    load_noise: float = Field(0.01, ge=0, le=0.2)
    """Standard deviation of the load noise, relative."""
    wind_noise: float = Field(0.2, ge=0, le=0.9)
    """Share of the noise in the normal scores of wind."""
    solar_noise: float = Field(0.2, ge=0, le=0.9)
    """Share of the noise in the normal scores of the clear-sky index."""
    load_energy_factor: float = Field(1.0, gt=0, le=10)
    """Energy of the year relative to history."""
    load_peak_factor: float = Field(1.0, gt=0, le=10)
    """Peak of the system load relative to history."""
    wind_energy_factor: float = Field(1.0, gt=0, le=10)
    """Energy of each wind profile relative to history."""
    wind_peak_factor: float = Field(1.0, gt=0, le=10)
    """Peak of each wind profile relative to history."""
    solar_energy_factor: float = Field(1.0, gt=0, le=10)
    """Energy of each solar profile relative to history."""
    solar_peak_factor: float = Field(1.0, gt=0, le=10)
    """Peak of each solar profile relative to history."""


MANIFEST = ProgramManifest(
    name="block_bootstrap",
    slot="scenario_sequence",
    version="1.0.0",
    title="Synthetic year (block bootstrap)",
    description="Draws blocks of historical days, adds correlated noise and rescales to target energy and peak.",
    parameters=Parameters,
    references=(
        "Carlstein et al., Matched-block bootstrap for dependent data, Bernoulli 4(3), 1998",
        "Grigg et al., The IEEE Reliability Test System-1996, IEEE Trans. Power Systems 14(3), 1999",
    ),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Return a synthetic year and a sampled availability of units."""
    raise_if_any(validate(inputs))
    order = np.argsort(inputs.profile_name, kind="stable")
    back = np.argsort(order, kind="stable")
    history = inputs.profile_value[:, order]
    kind, scale = inputs.profile_kind[order], inputs.profile_scale_mw[order]
    names = [str(name) for name in inputs.profile_name[order]]
    partner = inputs.profile_partner[order]
    partner = np.where(partner >= 0, back[partner], -1)

    days = _draw_days(history, kind, scale, weekdays(inputs), inputs.seed, parameters)
    value = history.reshape(_DAYS, 24, -1)[days].reshape(HOURS_PER_YEAR, -1)
    factor = np.ones_like(value)
    noisy = np.flatnonzero(np.isin(kind, _NOISY) & (np.ptp(history, axis=0) > 0))
    noise = np.zeros_like(value)
    if noisy.size:
        noise[:, noisy] = _noise(history[:, noisy], [names[i] for i in noisy], inputs.seed, parameters)
    load, wind, solar = (kind == k for k in _NOISY)
    factor[:, load] = np.maximum(1.0 + parameters.load_noise * noise[:, load], 0.0)
    value[:, wind] = _shift_scores(value[:, wind], history[:, wind], noise[:, wind], parameters.wind_noise)
    value[:, solar] = _shift_sun(value[:, solar], history[:, solar], noise[:, solar], days, parameters)

    value[:, wind] = _rescale(
        value[:, wind], history[:, wind], "wind", parameters.wind_energy_factor, parameters.wind_peak_factor
    )
    value[:, solar] = _rescale(
        value[:, solar], history[:, solar], "solar", parameters.solar_energy_factor, parameters.solar_peak_factor
    )
    if load.any():
        factor *= _load_factor(value * factor, history, load, scale, parameters)[:, None]
    follows = (kind == "load_q") & (partner >= 0)
    factor[:, follows] = factor[:, partner[follows]]
    scaled = load | (kind == "load_q")
    value[:, scaled] *= factor[:, scaled]

    load_mw = np.einsum("hp,p->h", value[:, load], scale[load])
    availability = sample_availability(inputs, load_mw, parameters)
    return Outputs(np.ascontiguousarray(value[:, back]), availability.in_service, availability.fallback)


def _draw_days(
    history: FloatArray, kind: np.ndarray, scale: FloatArray, weekday: IntArray, seed: int, parameters: Parameters
) -> IntArray:
    """Return the historical day behind each day of the year."""
    day_type = np.maximum(weekday - 4, 0)
    signature = _signature(history, kind, scale)
    before = np.vstack([signature[:1], signature[23:-1:24]])
    stream = random_stream(seed, "days", "")
    drawn = np.empty(_DAYS, np.int64)
    for start in range(0, _DAYS, parameters.block_days):
        length = min(parameters.block_days, _DAYS - start)
        block = np.arange(length)
        candidate = np.arange(_DAYS - length + 1)
        away = np.abs(candidate - start)
        near = np.minimum(away, _DAYS - away) <= parameters.season_days
        alike = (day_type[candidate[:, None] + block] == day_type[start + block]).all(axis=1)
        candidate = candidate[near & alike]
        if start:
            end = signature[24 * drawn[start - 1] + 23]
            distance = ((before[candidate] - end) ** 2).sum(axis=1)
            candidate = candidate[np.argsort(distance, kind="stable")[: parameters.neighbours]]
        drawn[start : start + length] = candidate[stream.integers(candidate.size)] + block
    return drawn


def _signature(history: FloatArray, kind: np.ndarray, scale: FloatArray) -> FloatArray:
    """System totals of load and wind, standardized: (hour, 2). What must fit where two blocks meet."""
    columns = []
    for name in ("load_p", "wind"):
        chosen = kind == name
        weight = scale[chosen] if scale[chosen].sum() > 0 else np.ones(int(chosen.sum()))
        total = np.einsum("hp,p->h", history[:, chosen], weight)
        spread = total.std()
        columns.append((total - total.mean()) / spread if spread > 0 else np.zeros(HOURS_PER_YEAR))
    return np.stack(columns, axis=1)


def _noise(history: FloatArray, names: list[str], seed: int, parameters: Parameters) -> FloatArray:
    """AR(1) noise, (hour, profile), standard normal at each hour, correlated as the historical residuals are."""
    score = _normal_scores(history - _hourly_mean(history, parameters.season_days))
    matrix = correlation(score)
    persistence = np.clip(autocorrelation(score, (1,))[0], 0.0, 0.99)
    mix = np.linalg.cholesky(matrix + 1e-6 * np.eye(len(names)))
    mix /= np.sqrt((mix * mix).sum(axis=1))[:, None]
    shock = np.stack([random_stream(seed, "noise", n).standard_normal(HOURS_PER_YEAR) for n in names], axis=1)
    shock = np.einsum("hj,ij->hi", shock, mix)
    shock[1:] *= np.sqrt(1.0 - persistence**2)
    columns = [lfilter([1.0], [1.0, -persistence[i]], shock[:, i]) for i in range(len(names))]
    return np.stack(columns, axis=1)


def _hourly_mean(history: FloatArray, window_days: int) -> FloatArray:
    """Mean of the same hour of the day over the season window, (hour, profile)."""
    days = history.reshape(_DAYS, 24, -1)
    padded = np.concatenate([days[-window_days:], days, days[:window_days]])
    total = np.concatenate([np.zeros_like(days[:1]), np.cumsum(padded, axis=0)])
    width = 2 * window_days + 1
    return np.asarray((total[width:] - total[:-width]) / width).reshape(history.shape)


def _normal_scores(series: FloatArray) -> FloatArray:
    ranks = np.argsort(np.argsort(series, axis=0, kind="stable"), axis=0, kind="stable")
    return np.asarray(ndtri((ranks + 0.5) / series.shape[0]), float)


def _shift_scores(
    value: FloatArray, history: FloatArray, noise: FloatArray, share: float, where: BoolArray | None = None
) -> FloatArray:
    """Mix noise into the normal scores of each profile's historical distribution.

    `value` holds historical values, so its scores are standard normal; so is the mixture, and the distribution
    is kept. `where` limits the change (and the distribution) to some hours, (hour, profile).
    """
    shifted = value.copy()
    if share == 0:
        return shifted
    for i in range(value.shape[1]):
        chosen = np.ones(len(value), bool) if where is None else where[:, i]
        known = np.sort(history[chosen, i])
        if known.size == 0 or known[0] == known[-1]:
            continue
        probability = (np.arange(known.size) + 0.5) / known.size
        old = value[chosen, i]
        middle = (np.searchsorted(known, old, "left") + np.searchsorted(known, old, "right")) / 2
        score = ndtri(np.clip(middle / known.size, probability[0], probability[-1]))
        mixed = np.sqrt(1 - share**2) * score + share * noise[chosen, i]
        shifted[chosen, i] = np.interp(ndtr(mixed), probability, known)
    return shifted


def _shift_sun(
    value: FloatArray, history: FloatArray, noise: FloatArray, source: IntArray, parameters: Parameters
) -> FloatArray:
    """Noise on the clear-sky index: sun relative to the brightest same hour of the season; nights stay dark."""
    if not value.shape[1]:
        return value
    days = history.reshape(_DAYS, 24, -1)
    reach = parameters.season_days // 2
    padded = np.concatenate([days[-reach:], days, days[:reach]])
    brightest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0).max(axis=-1)
    clear = brightest.reshape(history.shape)
    clear_source = brightest[source].reshape(history.shape)
    day = clear > 0.01 * history.max(axis=0)
    index = np.divide(value, clear_source, out=np.zeros_like(value), where=clear_source > 0)
    known = np.divide(history, clear, out=np.zeros_like(value), where=clear > 0)
    shifted = _shift_scores(index, known, noise, parameters.solar_noise, day)
    return np.asarray(np.where(day, shifted * clear, index * clear))


def _rescale(value: FloatArray, history: FloatArray, kind: str, energy: float, peak: float) -> FloatArray:
    """Map each profile by a power law so that its energy and peak are the factors times the historical ones.

    What a plant at rest draws from the grid is taken for none: it is no resource to scale.
    """
    live = (history.max(axis=0, initial=0.0) > 0) & (value.max(axis=0, initial=0.0) > 0)
    scaled = value.copy()
    top = peak * history[:, live].max(axis=0, initial=0.0)
    scaled[:, live] = _power_law(
        np.maximum(value[:, live], 0.0), top, energy * history[:, live].mean(axis=0), kind
    )
    return scaled


def _load_factor(
    value: FloatArray, history: FloatArray, load: BoolArray, scale: FloatArray, parameters: Parameters
) -> FloatArray:
    """Factor of each hour that brings the system load to the target energy and peak, (hour,)."""
    weight = scale[load] if scale[load].sum() > 0 else np.ones(int(load.sum()))
    total = np.einsum("hp,p->h", value[:, load], weight)
    known = np.einsum("hp,p->h", history[:, load], weight)
    if total.min() < 0 or known.max() <= 0:
        problem, remedy = "is negative or zero in total", "give a positive demand, or use the program 'historical'"
        raise InputError((Finding("load", (), problem, remedy),))
    top, mean = parameters.load_peak_factor * known.max(), parameters.load_energy_factor * known.mean()
    target = _power_law(total[:, None], np.array([top]), np.array([mean]), "load")[:, 0]
    return np.divide(target, total, out=np.ones_like(total), where=total > 0)


def _power_law(value: FloatArray, top: FloatArray, mean: FloatArray, kind: str) -> FloatArray:
    """Return ``top * (value / max) ** exponent`` with the exponents that give the wanted means.

    The mean falls as the exponent rises, so bisection finds it.
    """
    share = value / value.max(axis=0, initial=np.finfo(float).tiny)

    def mean_at(exponent: FloatArray) -> FloatArray:
        return np.asarray(top * (share**exponent).mean(axis=0))

    low, high = np.full(top.size, _EXPONENT_LOW), np.full(top.size, _EXPONENT_HIGH)
    if (mean_at(low) < mean).any() or (mean_at(high) > mean).any():
        problem = "cannot meet the energy with this peak"
        remedy = f"choose {kind}_energy_factor and {kind}_peak_factor closer to each other"
        raise OptionError((Finding("option", (), problem, remedy, f"{kind}_energy_factor"),))
    for _ in range(60):
        middle = (low + high) / 2
        above = mean_at(middle) > mean
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray(top * share ** ((low + high) / 2))
