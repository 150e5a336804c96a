import numpy as np
import pytest

from bos_core.report.charts import TimeAxis, numbers, percentile_bands, row_groups
from bos_core.report.palette import TECHNOLOGY, technology_style


class TestTimeAxis:
    def test_29_february_is_skipped(self):
        axis = TimeAxis("2016-01-01T00:00", 8760)
        assert axis.leap_hour == 59 * 24
        assert axis.iso(59 * 24 - 1) == "2016-02-28T23:00"
        assert axis.iso(59 * 24) == "2016-03-01T00:00"
        assert axis.iso(8759) == "2016-12-31T23:00"

    @pytest.mark.parametrize(
        ("start", "hours", "leap"),
        [
            ("2015-01-01T00:00", 8760, None),
            ("2016-01-01T00:00", 168, None),
            ("2016-03-01T00:00", 4000, None),
            ("2016-02-28T12:00", 48, 12),
            ("2015-12-31T00:00", 8760, 60 * 24),
        ],
    )
    def test_leap_hour(self, start, hours, leap):
        assert TimeAxis(start, hours).leap_hour == leap

    def test_a_week_is_drawn_by_hour_and_a_year_by_day(self):
        assert TimeAxis("2015-01-01T00:00", 168).x == {"x": {"first": 0, "step": 1, "count": 168}}
        assert TimeAxis("2015-01-01T00:00", 8760).x == {"x": {"first": 0, "step": 24, "count": 365}}

    def test_bins(self):
        axis = TimeAxis("2015-01-01T00:00", 1010)
        values = np.arange(1010.0)
        assert axis.mean(values)[0] == pytest.approx(11.5)
        assert axis.mean(values)[-1] == pytest.approx(1008.5)
        assert axis.total(np.ones((1010, 2))).shape == (43, 2)
        assert axis.largest(values)[1] == 47
        assert axis.smallest(values)[1] == 24

    def test_last_and_scarcest_hours(self):
        axis = TimeAxis("2015-01-01T00:00", 1010)
        values = np.arange(1010.0)
        assert list(axis.last(values)[[0, 1, -1]]) == [23, 47, 1009]
        margin = np.ones(1010)
        margin[30], margin[5] = -2, np.nan
        assert list(axis.scarcest(margin)[:3]) == [0, 30, 48]

    def test_the_farthest_value_keeps_violations_visible(self):
        axis = TimeAxis("2015-01-01T00:00", 2400)
        values = np.full((2400, 1), 1.02)
        values[30], values[60], values[100] = 0.85, np.nan, 1.12
        found = axis.farthest(values, 1.0)[:, 0]
        assert found[[0, 1, 2, 4]] == pytest.approx([1.02, 0.85, 1.02, 1.12])


def test_numbers_are_json_and_missing_ones_none():
    assert numbers(np.array([1.23456789, np.nan, np.inf, 7e-14])) == [1.2346, None, None, 0.0]


def test_percentiles_ignore_missing_elements():
    values = np.tile(np.append(np.arange(101.0), np.nan), (5, 1))
    bands = percentile_bands(values, TimeAxis("2015-01-01T00:00", 5))
    assert [bands[k][0] for k in ("min", "p05", "p50", "p95", "max")] == [0, 5, 50, 95, 100]


def test_row_groups_label_large_groups_in_their_middle():
    found = row_groups(["a"] * 50 + ["b"] + ["c"] * 49)
    assert found["ticktext"] == ["a", "c"]
    assert found["tickvals"] == [24.5, 75.0]


def test_colours_of_a_technology_do_not_depend_on_the_others():
    few, many = technology_style(["solar", "nuclear"]), technology_style(TECHNOLOGY)
    assert few["solar"] == many["solar"]
    assert list(few) == ["nuclear", "solar"]


def test_unknown_and_related_technologies_get_colours_of_their_own():
    style = technology_style(["gas_ccgt", "gas_steam", "fusion", "hydro_reservoir"])
    assert style["fusion"][0] == "Fusion"
    assert style["hydro_reservoir"] == ("Hydro reservoir", TECHNOLOGY["hydro"][1])
    assert len({colour for _, colour in style.values()}) == 4
