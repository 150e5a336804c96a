"""A2: urgency raises the weight, and nothing starves."""

from __future__ import annotations

import numpy as np
import pytest

from bos_core.programs import registry
from slots.task_priority.contract import Inputs

PROGRAMS = registry.program_names("task_priority")


def weight(name: str, **columns: list[float]) -> np.ndarray:
    size = len(next(iter(columns.values())))
    usual = {"criticality": 1.0, "waited_s": 0.0, "slack_s": np.inf, "duration_s": 10.0}
    arrays = {key: np.array(columns.get(key, [value] * size), float) for key, value in usual.items()}
    found: np.ndarray = registry.resolve("task_priority", name).run(Inputs(**arrays), {}).weight
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_criticality_age_and_lack_of_time_raise_the_weight(name: str) -> None:
    assert (np.diff(weight(name, criticality=[1, 2, 10, 1000])) > 0).all()
    assert (np.diff(weight(name, waited_s=[0, 10, 1000, 1e6])) > 0).all()
    assert (np.diff(weight(name, slack_s=[np.inf, 1000, 100, 0])) > 0).all()
    late = weight(name, slack_s=[0, -50])
    assert late[0] == late[1]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_task_that_waits_long_enough_passes_any_other(name: str) -> None:
    found = weight(name, criticality=[1, 1000], waited_s=[1e8, 0], slack_s=[np.inf, 0])
    assert found[0] > found[1]


@pytest.mark.parametrize("name", PROGRAMS)
def test_random_tasks_keep_the_contract(name: str) -> None:
    random = np.random.default_rng(0)
    columns = {
        "criticality": random.choice([1.0, 10.0, 100.0], 500),
        "waited_s": random.uniform(0, 1e4, 500),
        "slack_s": random.choice([np.inf, 10.0, -5.0, 1e4], 500),
        "duration_s": random.choice([1.0, 60.0], 500),
    }
    assert (weight(name, **{key: list(value) for key, value in columns.items()}) > 0).all()
