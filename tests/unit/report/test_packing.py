import numpy as np
import pytest

from bos_core.report.packing import pack, unpack


@pytest.mark.parametrize("resolution", [1e-4, 0.05, 1.0])
def test_values_come_back_within_half_a_step(resolution):
    values = np.random.default_rng(0).normal(1.0, 50 * resolution, (7, 300))
    packed = pack(values, resolution)
    assert packed.step == resolution
    assert np.abs(unpack(packed) - values).max() <= resolution / 2 + 1e-12


def test_a_range_too_wide_for_the_resolution_gets_a_coarser_step():
    values = np.linspace(-1e6, 1e6, 1000)[None]
    packed = pack(values, 0.05)
    assert packed.step > 0.05
    assert np.abs(unpack(packed) - values).max() <= packed.step / 2 * (1 + 1e-9)


def test_missing_values_stay_missing():
    values = np.array([[1.0, np.nan, 3.0], [np.inf, 2.0, -np.inf]])
    back = unpack(pack(values, 0.1))
    np.testing.assert_array_equal(np.isnan(back), [[False, True, False], [True, False, True]])
    assert back[0, 2] == pytest.approx(3.0, abs=0.06)


def test_all_missing_and_empty():
    assert np.isnan(unpack(pack(np.full((2, 3), np.nan), 0.1))).all()
    assert unpack(pack(np.zeros((0, 5)), 0.1)).shape == (0, 5)


def test_a_smooth_series_packs_well():
    wave = 1.0 + 0.02 * np.sin(2 * np.pi * np.arange(8760) / 24)
    assert len(pack(wave[None], 1e-4).data) < 0.1 * 8 * 8760
