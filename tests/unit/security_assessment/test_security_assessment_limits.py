"""Limits become tangents and half-spaces where a proposal breaks them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from slots.security_assessment.linearisation import Cuts, Effects, Limits

FREE = np.inf


@pytest.fixture
def limits() -> Limits:
    """The slack's balance, a current in two parts, and a voltage; no control at all."""
    none = np.zeros((4, 0))
    return Limits(
        value=np.array([0.0, 0.9, 0.0, 1.0]),
        lower=np.array([0.0, -FREE, -FREE, 0.95]),
        upper=np.array([0.0, 1.0, FREE, 1.05]),
        effects=Effects(sp.csr_matrix((4, 0)), none, none, none, none),
        kind=np.array([0, 1, 1, 2]),
        element=np.array([0, 7, 7, 3]),
        relief=np.array([0, 29, 29, 14]),
        price=np.ones(4),
        direction=np.zeros(4, dtype=np.complex128),
        at_from=np.ones(4, dtype=np.bool_),
        first_part=np.array([False, True, False, False]),
    )


def broken(limits: Limits, value: list[float], up: float = 0.0, down: float = 0.0) -> Cuts:
    return limits.broken(np.array(value), np.full(4, up), np.full(4, down))


def test_nothing_is_broken_inside(limits):
    assert broken(limits, [5.0, 0.6, 0.79, 1.0]).row.size == 0


def test_a_current_is_cut_along_its_phase(limits):
    cuts = broken(limits, [0.0, 0.9, 1.2, 1.0])
    assert cuts.row.tolist() == [1]
    assert cuts.bound == pytest.approx([1.0])
    weights = cuts.weights.toarray()[0]
    assert weights[1:3] == pytest.approx(np.array([0.9, 1.2]) / 1.5)
    assert weights @ [0.0, 0.9, 1.2, 1.0] == pytest.approx(1.5)


def test_a_tangent_keeps_every_admissible_current(limits):
    weights = broken(limits, [0.0, -0.9, 1.2, 1.0]).weights.toarray()[0]
    angle = np.linspace(0, 2 * np.pi, 100)
    assert (weights[1] * np.cos(angle) + weights[2] * np.sin(angle) <= 1.0 + 1e-12).all()


@pytest.mark.parametrize(("vm_pu", "side", "bound"), [(1.08, 1.0, 1.05), (0.92, -1.0, -0.95)])
def test_a_voltage_is_cut_on_the_side_that_it_leaves(limits, vm_pu, side, bound):
    cuts = broken(limits, [0.0, 0.9, 0.0, vm_pu])
    assert cuts.row.tolist() == [3]
    assert cuts.side.tolist() == [side]
    assert cuts.bound == pytest.approx([bound])
    assert cuts.weights.toarray()[0].tolist() == [0, 0, 0, side]


def test_slack_in_use_counts(limits):
    assert broken(limits, [0.0, 0.9, 0.0, 1.08], up=0.03).row.size == 0
    assert broken(limits, [0.0, 0.9, 0.0, 0.92], up=0.03).row.size == 1


def test_cuts_are_kept_when_limits_are_added(limits):
    cuts = broken(limits, [0.0, 0.9, 1.2, 1.08])
    wider = Cuts.joined([cuts.widened(6), cuts.widened(6)])
    assert wider.weights.shape == (4, 6)
    np.testing.assert_array_equal(wider.weights.toarray()[:2, :4], cuts.weights.toarray())
    assert wider.row.tolist() == [1, 3, 1, 3]
