"""Statistics of annual sequences against values known by hand or by construction."""

import numpy as np
import pytest

from bos_core.grid import statistics


def test_duration_curve_descends():
    series = np.array([[3.0, 1.0], [1.0, 5.0], [2.0, 4.0]])
    np.testing.assert_array_equal(statistics.duration_curve(series), [[3, 5], [2, 4], [1, 1]])


def test_duration_distance_is_zero_for_a_permutation_and_the_shift_for_a_shift():
    series = np.random.default_rng(0).random((500, 2)) + 1
    assert statistics.duration_distance(series[::-1], series) == pytest.approx([0, 0])
    assert statistics.duration_distance(series + 0.3, series) == pytest.approx(0.3 / series.mean(axis=0))


def test_autocorrelation_of_an_ar1_process():
    rng = np.random.default_rng(1)
    series = np.zeros(200_000)
    for i in range(1, series.size):
        series[i] = 0.8 * series[i - 1] + rng.standard_normal()
    found = statistics.autocorrelation(series, (0, 1, 2, 5))[:, 0]
    np.testing.assert_allclose(found, 0.8 ** np.array([0, 1, 2, 5]), atol=0.02)


def test_autocorrelation_of_a_daily_wave_peaks_at_24_hours():
    wave = np.sin(2 * np.pi * np.arange(24 * 100) / 24)
    one, half, day = statistics.autocorrelation(wave, (1, 12, 24))[:, 0]
    assert half == pytest.approx(-0.995, abs=0.01)
    assert day == pytest.approx(0.99, abs=0.01)
    assert one == pytest.approx(np.cos(2 * np.pi / 24), abs=0.01)


def test_autocorrelation_refuses_a_lag_beyond_the_series():
    with pytest.raises(ValueError, match="lag 10 h: the series has 10 hours"):
        statistics.autocorrelation(np.arange(10.0), (10,))


def test_correlation_agrees_with_numpy_and_is_zero_towards_a_constant():
    rng = np.random.default_rng(2)
    series = rng.standard_normal((300, 4))
    series[:, 1] += series[:, 0]
    np.testing.assert_allclose(statistics.correlation(series), np.corrcoef(series.T), atol=1e-12)
    series[:, 2] = 7
    found = statistics.correlation(series)
    assert np.isfinite(found).all()
    assert found[2, 2] == 1
    assert (found[2, [0, 1, 3]] == 0).all()


def test_ramps_over_several_hours():
    np.testing.assert_array_equal(statistics.ramps(np.array([1.0, 4, 2, 8]), 2)[:, 0], [1, 4])
    with pytest.raises(ValueError, match="give a step"):
        statistics.ramps(np.arange(3.0), 3)


def test_compare_of_equal_sequences_shows_no_difference():
    series = np.random.default_rng(3).random((400, 3))
    found = statistics.compare(series, series)
    assert found.duration_distance == pytest.approx([0, 0, 0])
    assert found.correlation_error == 0
    np.testing.assert_array_equal(found.autocorrelation[0], found.autocorrelation[1])
    np.testing.assert_array_equal(found.ramp_p99[0], found.ramp_p99[1])
    assert found.lags_h.max() == 168


def test_compare_sees_shuffled_hours_although_the_distribution_is_equal():
    wave = np.sin(2 * np.pi * np.arange(24 * 30) / 24)[:, None]
    found = statistics.compare(np.random.default_rng(4).permutation(wave), wave)
    assert found.duration_distance[0] == pytest.approx(0, abs=1e-9)
    assert found.autocorrelation[0, 0, 0] > 0.9 > 0.2 > abs(found.autocorrelation[1, 0, 0])
    assert found.ramp_p99[1, 0, 0] > 3 * found.ramp_p99[0, 0, 0]


def test_compare_refuses_unequal_shapes():
    with pytest.raises(ValueError, match="differ"):
        statistics.compare(np.ones((10, 2)), np.ones((10, 3)))
