"""What every program of the scenario-sequence slot must do, on synthetic profiles and on RTS-GMLC's year."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bos_core.grid import statistics
from bos_core.grid.model import Units
from bos_core.objects.contracts import check
from bos_core.objects.errors import InputError, OptionError
from slots.scenario_sequence import block_bootstrap, historical
from slots.scenario_sequence.contract import CONTRACT, Inputs, weekdays
from slots.scenario_sequence.outages import RATES

HOURS = 8760
RTS = Path(__file__).parents[3] / "shared" / "yardsticks" / "rts_gmlc"
PROGRAMS = [historical, block_bootstrap]


def make_units(count: int, technology: tuple[str, ...] = ("nuclear", "hard_coal", "gas_ccgt", "oil")) -> Units:
    """Units of mixed size; every fifth is a wind farm without commitment."""
    rng = np.random.default_rng(5)
    committable = np.arange(count) % 5 != 4
    technologies = [technology[i % len(technology)] if committable[i] else "wind_onshore" for i in range(count)]
    size = rng.uniform(50, 800, count)
    ids = np.array([f"u{i:03d}" for i in range(count)], dtype="U8")
    zero, one = np.zeros(count), np.ones(count)
    empty_f, empty_i = np.zeros(0), np.zeros(0, np.int64)
    return Units(
        id=ids,
        name=np.array([f"unit {i}" for i in ids], dtype="U20"),
        technology=np.array(technologies, dtype="U20"),
        bus=np.zeros(count, np.int64),
        p_mw_min=0.4 * size * committable,
        p_mw_max=size,
        q_mvar_min=-0.3 * size,
        q_mvar_max=0.3 * size,
        voltage_control=committable,
        variable=~committable,
        committable=committable,
        must_run=np.zeros(count, bool),
        ramp_up_mw_per_h=size,
        ramp_down_mw_per_h=size,
        startup_mw=size,
        shutdown_mw=size,
        min_up_h=one.astype(np.int64),
        min_down_h=one.astype(np.int64),
        energy_mwh_max=np.full(count, np.inf),
        minimum_output_eur_per_h=zero,
        shutdown_eur=zero,
        co2_t_per_mwh=zero,
        curtailment_eur_per_mwh=zero,
        segment_unit=empty_i,
        segment_mw=empty_f,
        segment_eur_per_mwh=empty_f,
        start_unit=empty_i,
        start_off_h=empty_i,
        start_eur=empty_f,
    )


def make_inputs(seed: int = 7) -> Inputs:
    """A year with seasons, weekends, weather that persists, and a reactive partner of each load."""
    rng = np.random.default_rng(11)
    hour = np.arange(HOURS)
    season, clock = np.cos(2 * np.pi * hour / HOURS), hour % 24
    weekend = np.isin((hour // 24 + 4) % 7, [5, 6])
    weather = np.zeros((HOURS, 3))
    for t in range(1, HOURS):
        weather[t] = 0.97 * weather[t - 1] + 0.24 * rng.standard_normal(3)
    load_1 = 0.6 + 0.1 * season + 0.2 * np.sin(np.pi * (clock - 6) / 12) - 0.1 * weekend + 0.02 * weather[:, 0]
    load_2 = 0.5 + 0.05 * season + 0.1 * np.sin(np.pi * (clock - 8) / 12) - 0.15 * weekend + 0.02 * weather[:, 0]
    wind_1 = np.clip(0.35 + 0.1 * season + 0.2 * weather[:, 1], 0, 1)
    wind_2 = np.clip(0.3 + 0.1 * season + 0.2 * (0.8 * weather[:, 1] + 0.6 * weather[:, 2]), 0, 1)
    height = np.sin(np.pi * (clock - 6 - season) / (12 - 2 * season))
    up = (clock > 6 + season) & (clock < 18 - season)
    sun = np.clip(height, 0, None) * up * (0.75 - 0.2 * season) * np.clip(0.8 + 0.2 * weather[:, 2], 0.1, 1.1)
    water = 0.5 + 0.2 * season
    value = np.stack([load_1, 0.2 * load_1, load_2, 0.3 * load_2, wind_1, wind_2, sun, water, water * 0 + 0.4], 1)
    return Inputs(
        profile_value=value,
        profile_name=np.array(["L1p", "L1q", "L2p", "L2q", "W1", "W2", "S1", "R1", "X1"]),
        profile_kind=np.array(
            ["load_p", "load_q", "load_p", "load_q", "wind", "wind", "solar", "hydro", "exchange"]
        ),
        profile_partner=np.array([-1, 0, -1, 2, -1, -1, -1, -1, -1]),
        profile_scale_mw=np.array([3000.0, 3000, 4000, 4000, 2000, 1500, 2500, 400, 100]),
        units=make_units(30),
        first_weekday=4,
        seed=seed,
    )


def read_rts() -> Inputs:
    """RTS-GMLC's series, 29 February 2020 dropped, relative to each column's maximum."""
    columns, kinds, names = [], [], []
    for file, kind in (("regional_Load", "load_p"), ("wind", "wind"), ("pv", "solar"), ("rtpv", "solar")):
        with (RTS / "timeseries" / f"DAY_AHEAD_{file}.csv").open() as stream:
            rows = list(csv.reader(stream))
        keep = [row for row in rows[1:] if (row[1], row[2]) != ("2", "29")]
        columns.append(np.array([[float(cell) for cell in row[4:]] for row in keep]))
        names += [f"{file} {name}" for name in rows[0][4:]]
        kinds += [kind] * (len(rows[0]) - 4)
    value = np.concatenate(columns, axis=1)
    scale = value.max(axis=0)
    return Inputs(
        profile_value=value / scale,
        profile_name=np.array(names),
        profile_kind=np.array(kinds),
        profile_partner=np.full(len(names), -1),
        profile_scale_mw=scale,
        units=make_units(40),
        first_weekday=2,
        seed=3,
        leap_year=True,
    )


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return make_inputs()


@pytest.fixture(scope="module")
def rts() -> Inputs:
    return read_rts()


def totals(inputs: Inputs, value: np.ndarray) -> np.ndarray:
    """System load, wind and sun in MW, (hour, 3)."""
    return np.stack(
        [
            value[:, inputs.profile_kind == k] @ inputs.profile_scale_mw[inputs.profile_kind == k]
            for k in ("load_p", "wind", "solar")
        ],
        axis=1,
    )


def shuffled(inputs: Inputs) -> tuple[Inputs, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    profiles, units = rng.permutation(inputs.profile_name.size), rng.permutation(inputs.units.n)
    place = np.argsort(profiles)
    partner = inputs.profile_partner[profiles]
    unit_fields = {
        f.name: getattr(inputs.units, f.name)[units]
        for f in dataclasses.fields(Units)
        if getattr(inputs.units, f.name).shape == (inputs.units.n,)
    }
    mixed = dataclasses.replace(
        inputs,
        profile_value=inputs.profile_value[:, profiles],
        profile_name=inputs.profile_name[profiles],
        profile_kind=inputs.profile_kind[profiles],
        profile_partner=np.where(partner >= 0, place[partner], -1),
        profile_scale_mw=inputs.profile_scale_mw[profiles],
        units=dataclasses.replace(inputs.units, **unit_fields),
    )
    return mixed, profiles, units


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.MANIFEST.name)
class TestEveryProgram:
    def test_keeps_the_contract(self, program, inputs):
        outputs = program.run(inputs, program.Parameters())
        assert check(inputs) == []
        assert check(outputs) == []
        assert CONTRACT.verify(inputs, outputs) == []
        assert outputs.fallback == ""

    def test_keeps_the_contract_on_rts_gmlc(self, program, rts):
        outputs = program.run(rts, program.Parameters())
        assert check(outputs) == []
        assert CONTRACT.verify(rts, outputs) == []

    def test_every_hour_is_a_state_of_its_own(self, program, inputs):
        value = program.run(inputs, program.Parameters()).profile_value
        assert len(np.unique(value.round(12), axis=0)) == HOURS

    def test_same_seed_gives_the_same_bits_and_another_seed_does_not(self, program, inputs):
        first, second = (program.run(inputs, program.Parameters()) for _ in range(2))
        other = program.run(dataclasses.replace(inputs, seed=8), program.Parameters())
        assert first.profile_value.tobytes() == second.profile_value.tobytes()
        assert first.unit_in_service.tobytes() == second.unit_in_service.tobytes()
        assert (first.unit_in_service != other.unit_in_service).any()

    def test_order_of_profiles_and_units_changes_nothing(self, program, inputs):
        plain = program.run(inputs, program.Parameters())
        mixed, profiles, units = shuffled(inputs)
        other = program.run(mixed, program.Parameters())
        np.testing.assert_array_equal(other.profile_value, plain.profile_value[:, profiles])
        np.testing.assert_array_equal(other.unit_in_service, plain.unit_in_service[:, units])

    def test_inputs_stay_untouched(self, program, inputs):
        before = inputs.profile_value.copy()
        outputs = program.run(inputs, program.Parameters())
        assert not np.shares_memory(outputs.profile_value, inputs.profile_value)
        np.testing.assert_array_equal(before, inputs.profile_value)

    def test_infeed_slightly_below_zero_leaves_no_gap(self, program, inputs):
        value = inputs.profile_value.copy()
        value[:, 4] = np.where(value[:, 4] == 0, -3.6e-6, value[:, 4])  # a wind farm at rest draws a little
        assert (value[:, 4] < 0).any()
        outputs = program.run(dataclasses.replace(inputs, profile_value=value), program.Parameters())
        assert check(outputs) == []

    def test_outages_can_be_switched_off(self, program, inputs):
        parameters = program.Parameters(maintenance=False, forced_outages=False)
        assert program.run(inputs, parameters).unit_in_service.all()

    def test_forced_outages_follow_their_rates(self, program, inputs):
        many = dataclasses.replace(inputs, units=make_units(1000, ("nuclear",)))
        in_service = program.run(many, program.Parameters(maintenance=False)).unit_in_service
        out = ~in_service[:, many.units.committable]
        rate = RATES["nuclear"]
        share = rate.mean_time_to_repair_h / (rate.mean_time_to_repair_h + rate.mean_time_to_failure_h)
        assert out.mean() == pytest.approx(share, rel=0.03)
        failures = (out[1:] & ~out[:-1]).sum() / (~out[:-1]).sum()
        assert failures == pytest.approx(1 / rate.mean_time_to_failure_h, rel=0.03)

    def test_maintenance_is_whole_days_once_a_year_in_low_load_under_the_limit(self, program, inputs):
        parameters = program.Parameters(forced_outages=False, maintenance_share_max=0.12)
        outputs = program.run(inputs, parameters)
        out = ~outputs.unit_in_service
        units = inputs.units
        starts = (out[1:] & ~out[:-1]).sum(axis=0) + out[0]
        assert set(starts[units.committable]) == {1}
        assert (out.sum(axis=0) % 24 == 0).all()
        capacity = out @ units.p_mw_max
        assert capacity.max() <= 0.12 * units.p_mw_max[units.committable].sum() + 1e-6
        load = totals(inputs, outputs.profile_value)[:, 0].reshape(365, 24).max(axis=1)
        weighted = np.average(load, weights=capacity[::24])
        assert weighted < load.mean()
        assert capacity[load.argmax() * 24] == 0

    def test_maintenance_without_room_is_named(self, program, inputs):
        outputs = program.run(inputs, program.Parameters(maintenance_share_max=0.02, forced_outages=False))
        assert "no room for the maintenance of" in outputs.fallback

    def test_a_technology_without_rates_is_named(self, program, inputs):
        odd = dataclasses.replace(inputs, units=make_units(10, ("fusion",)))
        assert "fusion" in program.run(odd, program.Parameters()).fallback
        own = {"fusion": {"mean_time_to_failure_h": 100, "mean_time_to_repair_h": 10, "maintenance_weeks": 0}}
        outputs = program.run(odd, program.Parameters.model_validate({"outage_rates": own}))
        assert outputs.fallback == ""

    def test_bad_input_gives_all_findings_at_once(self, program, inputs):
        bad = dataclasses.replace(
            inputs,
            profile_value=inputs.profile_value[:24],
            profile_name=np.array(["L1p", "L1p", *inputs.profile_name[2:]]),
            profile_kind=np.array(["coal", *inputs.profile_kind[1:]]),
            first_weekday=9,
            seed=-1,
        )
        with pytest.raises(InputError) as caught:
            program.run(bad, program.Parameters())
        text = str(caught.value)
        assert text.startswith("5 problems")
        for part in ("24 hours", "L1p", "unknown kind", "first_weekday", "seed"):
            assert part in text

    def test_a_grid_without_committable_units_or_loads(self, program, inputs):
        only = np.isin(inputs.profile_kind, ["wind", "solar"])
        bare = dataclasses.replace(
            inputs,
            profile_value=inputs.profile_value[:, only],
            profile_name=inputs.profile_name[only],
            profile_kind=inputs.profile_kind[only],
            profile_partner=inputs.profile_partner[only],
            profile_scale_mw=inputs.profile_scale_mw[only],
            units=make_units(0),
        )
        outputs = program.run(bare, program.Parameters())
        assert check(outputs) == []
        assert CONTRACT.verify(bare, outputs) == []


def test_weekdays_jump_where_29_february_was_dropped(inputs):
    leap = dataclasses.replace(inputs, first_weekday=4, leap_year=True)
    assert list(weekdays(leap)[[0, 58, 59, 364]]) == [4, 6, 1, 5]
    assert weekdays(dataclasses.replace(leap, leap_year=False))[59] == 0


def test_weekends_of_rts_gmlc_are_where_its_load_is_low(rts):
    load = totals(rts, rts.profile_value)[:, 0].reshape(365, 24).max(axis=1)
    weekend = weekdays(rts) >= 5
    for part in (slice(0, 59), slice(59, 365)):
        assert load[part][weekend[part]].mean() < load[part][~weekend[part]].mean()


def test_historical_keeps_every_value(inputs):
    outputs = historical.run(inputs, historical.Parameters())
    np.testing.assert_array_equal(outputs.profile_value, inputs.profile_value)


class TestBlockBootstrap:
    @pytest.mark.parametrize("data", ["inputs", "rts"])
    def test_statistics_resemble_history(self, data, request):
        given = request.getfixturevalue(data)
        value = block_bootstrap.run(given, block_bootstrap.Parameters()).profile_value
        found = statistics.compare(totals(given, value), totals(given, given.profile_value))
        assert (found.duration_distance < 0.05).all(), found.duration_distance
        assert found.mean[1] == pytest.approx(found.mean[0], rel=1e-9)
        early = found.lags_h <= 24
        np.testing.assert_allclose(found.autocorrelation[1, early], found.autocorrelation[0, early], atol=0.1)
        assert found.correlation_error < 0.1
        np.testing.assert_allclose(found.ramp_p99[1], found.ramp_p99[0], rtol=0.25)
        np.testing.assert_allclose(found.ramp_p01[1], found.ramp_p01[0], rtol=0.25)

    def test_is_a_new_year(self, inputs):
        value = block_bootstrap.run(inputs, block_bootstrap.Parameters()).profile_value
        different = np.abs(value - inputs.profile_value).max(axis=0) > 0.05
        assert different[np.isin(inputs.profile_kind, ["load_p", "wind", "solar"])].all()

    def test_energy_and_peak_factors_are_met(self, inputs):
        parameters = block_bootstrap.Parameters(
            load_energy_factor=1.1, load_peak_factor=1.2, wind_energy_factor=1.3, solar_energy_factor=0.9
        )
        value = block_bootstrap.run(inputs, parameters).profile_value
        new, old = totals(inputs, value), totals(inputs, inputs.profile_value)
        assert new.mean(axis=0) / old.mean(axis=0) == pytest.approx([1.1, 1.3, 0.9], rel=1e-9)
        assert new[:, 0].max() / old[:, 0].max() == pytest.approx(1.2, rel=1e-9)
        for name in ("W1", "W2", "S1"):
            column = list(inputs.profile_name).index(name)
            assert value[:, column].max() == pytest.approx(inputs.profile_value[:, column].max(), rel=1e-9)

    def test_an_energy_that_the_peak_forbids_is_refused(self, inputs):
        with pytest.raises(OptionError, match="wind_energy_factor"):
            block_bootstrap.run(inputs, block_bootstrap.Parameters(wind_energy_factor=10))

    def test_reactive_load_follows_its_partner(self, inputs):
        value = block_bootstrap.run(inputs, block_bootstrap.Parameters()).profile_value
        np.testing.assert_allclose(value[:, 1], 0.2 * value[:, 0], rtol=1e-9)
        np.testing.assert_allclose(value[:, 3], 0.3 * value[:, 2], rtol=1e-9)

    def test_nights_stay_dark(self, rts):
        value = block_bootstrap.run(rts, block_bootstrap.Parameters()).profile_value
        sun = rts.profile_kind == "solar"
        midnight = np.arange(HOURS) % 24 == 0
        assert value[np.ix_(midnight, sun)].max() == 0

    def test_weekends_stay_weekends(self, inputs):
        value = block_bootstrap.run(inputs, block_bootstrap.Parameters()).profile_value
        weekend = np.isin((np.arange(HOURS) // 24 + inputs.first_weekday) % 7, [5, 6])
        drop = value[~weekend, 2].mean() - value[weekend, 2].mean()
        assert drop == pytest.approx(0.15, abs=0.02)

    def test_another_profile_does_not_change_the_days_of_the_rest(self, inputs):
        more = dataclasses.replace(
            inputs,
            profile_value=np.hstack([inputs.profile_value, inputs.profile_value[:, :1] * 0 + 0.5]),
            profile_name=np.array([*inputs.profile_name, "A0"]),
            profile_kind=np.array([*inputs.profile_kind, "other"]),
            profile_partner=np.append(inputs.profile_partner, -1),
            profile_scale_mw=np.append(inputs.profile_scale_mw, 10.0),
        )
        plain = block_bootstrap.run(inputs, block_bootstrap.Parameters()).profile_value
        other = block_bootstrap.run(more, block_bootstrap.Parameters()).profile_value
        np.testing.assert_array_equal(other[:, :-1], plain)


def test_rates_are_those_of_rts_gmlc():
    with (RTS / "SourceData" / "gen.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    source = {
        "nuclear": ("Nuclear", 400),
        "hard_coal": ("Coal", 350),
        "lignite": ("Coal", 350),
        "gas_ccgt": ("Gas CC", 355),
        "gas_ocgt": ("Gas CT", 55),
        "oil": ("Oil CT", 20),
        "biomass": ("Coal", 76),
        "hydro": ("Hydro", 50),
    }
    for technology, (category, size) in source.items():
        row = next(r for r in rows if r["Category"] == category and float(r["PMax MW"]) == size)
        rate = RATES[technology]
        assert rate.mean_time_to_failure_h == float(row["MTTF Hr"]), technology
        assert rate.mean_time_to_repair_h == float(row["MTTR Hr"]), technology
        assert rate.maintenance_weeks == float(row["Scheduled Maint Weeks"]), technology
