"""Switches keep every rule, and their gains are what the prices say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from slots.unit_commitment.switches import SwitchRules, best_switches


def legal(path: np.ndarray, initial_on: bool | None, up: int, down: int) -> bool:
    state, age = (bool(path[0]), 99) if initial_on is None else (initial_on, 99)
    for value in path:
        if bool(value) != state:
            if age < (up if state else down):
                return False
            state, age = bool(value), 0
        age += 1
    return True


@pytest.mark.parametrize("seed", range(25))
def test_best_switch_is_legal_and_the_best_single_piece(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, up, down = 8, int(rng.integers(1, 4)), int(rng.integers(1, 4))
    initial = [True, False, None][seed % 3]
    paths = [
        np.array(p, bool) for p in itertools.product((0, 1), repeat=n) if legal(np.array(p), initial, up, down)
    ]
    on = paths[int(rng.integers(len(paths)))]
    price = rng.normal(0, 1, n)
    rules = SwitchRules(
        known=np.full((n, 1), -1),
        initial_on=np.array([bool(initial)]),
        free_start=initial is None,
        min_up=np.array([up]),
        min_down=np.array([down]),
        first_stop_barred=np.zeros(1, bool),
    )
    found = best_switches(on[:, None], price[:, None], rules, 1e-9)

    def inside_one_run(path: np.ndarray) -> bool:
        changed = np.flatnonzero(path != on)
        return bool(changed.size) and changed.size == np.ptp(changed) + 1 and np.unique(on[changed]).size == 1

    gains = [float(price @ on - price @ p) for p in paths if inside_one_run(p)]
    best = max([*gains, 0.0])
    if best < 1e-9:
        assert not found
        return
    assert found[0].gain_eur == pytest.approx(best)
    after = on.copy()
    after[found[0].first : found[0].stop] = found[0].on
    assert legal(after, initial, up, down)
    assert price @ on - price @ after == pytest.approx(best)


def test_known_periods_and_barred_stops_are_left_alone() -> None:
    on = np.ones((4, 1), bool)
    rules = SwitchRules(
        known=np.array([[-1], [-1], [1], [-1]]),
        initial_on=np.array([True]),
        free_start=False,
        min_up=np.array([1]),
        min_down=np.array([1]),
        first_stop_barred=np.array([True]),
    )
    found = best_switches(on, np.array([[9.0], [1.0], [50.0], [2.0]]), rules, 1e-9)
    assert [(s.first, s.stop, s.on) for s in found] == [(3, 4, False)]
