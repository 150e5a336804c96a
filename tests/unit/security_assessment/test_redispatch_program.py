"""Who runs is decided by turning over units one at a time; a turn that fails leaves no trace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bos_core.exchange import import_grid, to_columns
from bos_core.grid.assembly import assemble
from slots.highs_session import HighsSession
from slots.linear_model import Solution
from slots.security_assessment import successive_lp
from slots.security_assessment.contract import Inputs, Outputs
from slots.security_assessment.linear_step import RedispatchProgram


def two_units_run() -> Inputs:
    """The cheapest two units of the case cover its load, but not its reactive power: others have to start."""
    grid, snapshot = assemble(to_columns(import_grid("pandapower:case14").tables))
    snapshot = replace(snapshot, unit_on=snapshot.unit_on & (np.arange(grid.units.n) < 2))
    n, m = grid.network.n_bus, grid.network.n_branch
    available = np.maximum(grid.units.p_mw_max, 0.0)
    limits = np.full(n, 0.94), np.full(n, 1.06), np.ones(m)
    return Inputs(grid, snapshot, np.ones(grid.units.n, bool), available, *limits)


def run() -> Outputs:
    return successive_lp.run(two_units_run(), successive_lp.Parameters())


def test_limits_that_a_failed_turn_adds_do_not_change_the_answer_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = run()
    solved = RedispatchProgram._solution

    def with_another_row(self: RedispatchProgram, session: HighsSession, cuts_max: int) -> Solution:
        answer = solved(self, session, cuts_max)
        self.model.add_rows([], -np.inf, 1.0, (1,))
        return answer

    monkeypatch.setattr(RedispatchProgram, "_solution", with_another_row)
    found = run()
    assert found.accepted == expected.accepted
    np.testing.assert_array_equal(found.snapshot.unit_on, expected.snapshot.unit_on)
    np.testing.assert_allclose(found.snapshot.unit_p_mw, expected.snapshot.unit_p_mw, atol=1e-6)
