"""The order in which the report names contingencies."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from bos_core.report.data import DIVERGED
from bos_core.report.pair_survey import survey_pairs


class _Sources:
    """Two hours of four outages: one diverges twice, one once, two converge."""

    start, hours = 0, 2
    grid = None

    def __init__(self) -> None:
        outcome = np.array([0, DIVERGED, 0, 0, 0, DIVERGED, DIVERGED, 0])
        self.pairs = pa.table({
            "hour": np.repeat([0, 1], 4), "contingency": np.tile(np.arange(4), 2), "outcome": outcome,
            "loading_max": np.where(outcome == DIVERGED, np.nan, [0.5, 0.5, 0.9, 1.5, 0.7, 0.5, 0.9, 1.2]),
            "vm_min_pu": np.ones(8), "vm_max_pu": np.ones(8),
        })  # fmt: skip
        self.grid = type("Grid", (), {"network": type("Network", (), {"n_branch": 4})})

    def has_table(self, step: str, name: str) -> bool:
        return (step, name) == ("n1_verification", "pairs")

    def pieces(self, step: str, name: str, columns: object = None) -> list[pa.Table]:
        return [self.pairs.slice(0, 4), self.pairs.slice(4)]


def test_contingencies_that_diverge_most_often_come_first_then_the_highest_loading() -> None:
    survey = survey_pairs(_Sources())
    worst = survey.worst.select(["contingency", "diverged_hours", "hour"]).to_pydict()
    assert worst == {"contingency": [1, 2, 3, 0], "diverged_hours": [2, 1, 0, 0], "hour": [0, 1, 0, 1]}
    assert survey.outcome_pairs.tolist() == [5, 0, 3]
