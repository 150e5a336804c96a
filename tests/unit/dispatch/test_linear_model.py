"""The sparse model gives the same answers through every back end."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from bos_core.objects.errors import ProgramError
from slots.glpk_session import GlpkSession
from slots.highs_session import HighsSession
from slots.linear_model import INF, LinearModel

SESSIONS = [HighsSession, GlpkSession]


def small() -> tuple[LinearModel, np.ndarray]:
    """Max 3a + 2b + 4c, 2a + b + 3c <= 7.5 + y, with a price on y; ranges and an offset."""
    model = LinearModel()
    model.offset = 7.0
    x = model.add_columns(
        (3,), 0.0, np.array([4.0, 5.0, 6.0]), np.array([-3.0, -2.0, -4.0]), np.array([True, True, False])
    )
    y = model.add_columns((1,), 0.0, INF, 2.5)
    model.add_rows([(x[None, :], np.array([[2.0, 1.0, 3.0]])), (y, -1.0)], -INF, 7.5, (1,))
    model.add_rows([(x[:2], 1.0)], 0.5, np.array([3.2, 4.4]), (2,))
    return model, x


@pytest.mark.parametrize("session_type", SESSIONS)
def test_relaxation_integers_and_growth(session_type: type[HighsSession]) -> None:
    model, x = small()
    session = session_type(model, 60.0)
    relaxed = session.solve_relaxation()
    assert relaxed.objective == pytest.approx(7 - 3 * 1.55 - 2 * 4.4)
    assert relaxed.row_dual[0] == pytest.approx(-1.5)
    reduced = model.cost - model.matrix().T @ relaxed.row_dual
    np.testing.assert_allclose(relaxed.column_dual, reduced, atol=1e-9)
    whole = session.solve_integer(1e-6, 1000)
    assert whole.status == "optimal"
    assert whole.objective == pytest.approx(7 - 3 - 8 - 4 * 0.5)
    assert whole.bound <= whole.objective + 1e-9
    assert whole.bound >= whole.objective - 1e-3
    extra = model.add_columns((1,), 0.0, INF, 0.5)
    model.add_rows([(x[None, :], 1.0), (extra, -1.0)], -INF, 2.0, (1,))
    grown = session.solve_relaxation()
    assert grown.objective == pytest.approx(-6.45 + 0.5 * 3.95)
    session.set_bounds(x[:1], np.zeros(1), np.zeros(1))
    model.add_rows([(x[:1], 1.0)], 1.0, INF, (1,))
    assert session.solve_relaxation().status == "infeasible"
    assert not session.solve_integer(1e-3, 10).found


def test_highs_puts_defined_columns_into_the_basis() -> None:
    model, x = small()
    session = HighsSession(model, 60.0)
    session.solve_relaxation()
    total = model.add_columns((1,), -INF, INF)
    model.add_rows([(x[None, :], 1.0), (total, -1.0)], 0.0, 0.0, (1,))
    model.add_rows([(total, 1.0)], -INF, 5.0, (1,))
    found = session.solve_relaxation()
    assert found.x[total[0]] == pytest.approx(5.0)
    fresh = HighsSession(model, 60.0).solve_relaxation()
    assert found.objective == pytest.approx(fresh.objective)


def test_absent_glpsol_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ProgramError, match="install glpk-utils"):
        GlpkSession(LinearModel(), 60.0)


def test_row_bounds_change_for_the_solves_that_follow() -> None:
    model, _ = small()
    session = HighsSession(model, 60.0)
    before = session.solve_relaxation().objective
    session.set_row_bounds(np.array([0]), np.array([-INF]), np.array([6.5]))
    assert session.solve_relaxation().objective == pytest.approx(before + 1.5)
    assert model.row_upper[0] == 7.5
