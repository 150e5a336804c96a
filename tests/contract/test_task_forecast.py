"""A1: every program gives safe priors, learns from history and says how wrong it was."""

from __future__ import annotations

import numpy as np
import pytest

from bos_core.programs import registry
from slots.task_forecast.contract import Inputs, Outputs

PROGRAMS = registry.program_names("task_forecast")
QUANTILE = np.array([0.05, 0.5, 0.95])


def asked(seed: int, outcomes: int, killed: bool = False, queries: tuple[float, ...] = (10.0, 100.0)) -> Inputs:
    """A program whose duration grows with the 1.5th power of its hours, and its memory with the square root."""
    random = np.random.default_rng(seed)
    hours = random.choice([5.0, 10.0, 20.0, 50.0, 100.0], outcomes)
    noise = np.exp(random.normal(0, 0.1, (2, outcomes)))
    return Inputs(
        history_program=np.zeros(outcomes, np.int64),
        history_feature=np.column_stack([np.ones(outcomes), hours]),
        history_duration_s=0.3 * hours**1.5 * noise[0],
        history_memory_mb=200 * hours**0.5 * noise[1],
        history_killed=np.full(outcomes, killed),
        query_program=np.array([0] * len(queries) + [1]),
        query_feature=np.array([[1.0, h] for h in queries] + [[1.0, 10.0]]),
        quantile=QUANTILE,
        prior_duration_s=60.0,
        prior_memory_mb=1500.0,
    )


def forecast(name: str, inputs: Inputs) -> Outputs:
    found: Outputs = registry.resolve("task_forecast", name).run(inputs, {})
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_never_seen_gets_the_prior(name: str) -> None:
    answer = forecast(name, asked(0, 0))
    assert (answer.observations == 0).all()
    assert (answer.memory_mb >= 1500).all()
    assert (answer.duration_s[:, 0] < 60).all()
    assert answer.duration_s[:, 1] == pytest.approx(60)
    assert np.isnan(answer.duration_error).all()


@pytest.mark.parametrize("name", PROGRAMS)
def test_history_is_learnt_and_the_error_falls(name: str) -> None:
    few, many = forecast(name, asked(1, 4)), forecast(name, asked(1, 120))
    truth = 0.3 * np.array([10.0, 100.0]) ** 1.5
    assert np.abs(many.duration_s[:2, 1] / truth - 1).max() < 0.15
    assert many.duration_error[0] < few.duration_error[0]
    assert many.memory_error[0] < 0.15
    assert many.observations.tolist() == [120, 120, 0]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_interval_of_ninety_percent_holds_what_it_promises(name: str) -> None:
    held = []
    for seed in range(60):
        inputs = asked(seed, 40, queries=(20.0,))
        random = np.random.default_rng(1000 + seed)
        answer, truth = forecast(name, inputs), 0.3 * 20**1.5 * np.exp(random.normal(0, 0.1))
        held.append(answer.duration_s[0, 0] <= truth <= answer.duration_s[0, 2])
    assert np.mean(held) >= 0.85


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_kill_asks_for_more_than_what_was_not_enough(name: str) -> None:
    inputs = asked(2, 5, killed=True)
    answer = forecast(name, inputs)
    assert answer.memory_mb[0, 2] > np.median(inputs.history_memory_mb)
    assert answer.duration_s[0, 1] == pytest.approx(60)  # of a killed attempt the duration means nothing


def test_power_laws_reach_beyond_what_was_seen() -> None:
    answer = forecast("log_regression", asked(3, 60, queries=(10.0, 1000.0)))
    assert answer.duration_s[1, 1] == pytest.approx(0.3 * 1000**1.5, rel=0.4)
    width = answer.duration_s[:, 2] / answer.duration_s[:, 0]
    assert width[1] > width[0]
