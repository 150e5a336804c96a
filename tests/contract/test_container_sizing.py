"""Formula (2): every program keeps limits and deadlines; the MILP is as good as enumeration."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from bos_core.programs import registry
from slots.container_sizing.contract import Inputs, capacity_s, must_stay, objective, usable

PROGRAMS = registry.program_names("container_sizing")
EXACT: list[dict[str, Any]] = [{"solver": "highs", "gap": 0.0}, {"solver": "glpk", "gap": 0.0}]


def case(seed: int, classes: int = 3, servers: int = 1, scale: int = 1, may_grow: bool = True) -> Inputs:
    random = np.random.default_rng(seed)
    memory = np.array([1000, 2000, 4000])
    need = random.choice([500, 1500, 3000], classes)
    current = random.integers(0, 2, (servers, 3)) * scale
    slack = np.sort(random.choice([20.0, 60.0, 200.0], classes))
    return Inputs(
        count=random.integers(1, 6, classes) * scale,
        slack_s=slack,
        late_cost=random.choice([1.0, 10.0, 1000.0], classes),
        fits=need[:, None] <= memory,
        duration_s=np.repeat(random.uniform(5, 40, classes)[:, None], 3, axis=1),
        busy_s=np.minimum(slack[:, None], random.uniform(0, 30, 3)) * (current.sum(axis=0) > 0),
        size_cpu_cores=np.ones(3),
        size_memory_mb=memory,
        size_cost=np.array([1.0, 1.2, 1.6]),
        server_cpu_cores=np.full(servers, 4.0 * scale),
        server_memory_mb=np.full(servers, 9000 * scale),
        current=current,
        change_cost=0.05,
        may_grow=may_grow,
    )


def least_late(inputs: Inputs, totals: np.ndarray) -> np.ndarray | None:
    """The cheapest late tasks that given containers leave, as a linear programme of its own."""
    classes, sizes = inputs.fits.shape
    room, may = capacity_s(inputs, totals), usable(inputs)
    cost = np.concatenate([np.zeros(classes * sizes), inputs.late_cost])
    upper, limit = [], []
    for size in range(sizes):
        for last in range(classes):
            row = np.zeros(cost.size)
            for c in range(last + 1):
                row[c * sizes + size] = inputs.duration_s[c, size]
            upper.append(row)
            limit.append(room[last, size])
    equal = np.zeros((classes, cost.size))
    for c in range(classes):
        equal[c, c * sizes : (c + 1) * sizes] = equal[c, classes * sizes + c] = 1
    bounds = [(0, inputs.count[c] if may[c, p] else 0) for c in range(classes) for p in range(sizes)]
    bounds += [(0, n) for n in inputs.count]
    found = linprog(cost, upper, limit, equal, inputs.count, bounds)
    return found.x[classes * sizes :] if found.success else None


def enumerated(inputs: Inputs) -> float:
    """The least value of formula (2) over all numbers of containers on one server."""
    most = [4, 4, 2] if inputs.may_grow else inputs.current[0].tolist()
    best = np.inf
    for numbers in itertools.product(*(range(n + 1) for n in most)):
        containers = np.array([numbers])
        if (
            (containers >= must_stay(inputs)).all()
            and containers.sum() <= 4
            and (containers @ inputs.size_memory_mb)[0] <= 9000
        ):
            late = least_late(inputs, containers[0])
            assert late is not None
            best = min(best, objective(inputs, containers, late))
    return best


@pytest.mark.parametrize("may_grow", [True, False])
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("parameters", EXACT)
def test_the_milp_finds_the_least_cost_that_enumeration_finds(
    parameters: dict[str, Any], seed: int, may_grow: bool
) -> None:
    inputs = case(seed, may_grow=may_grow)
    answer = registry.resolve("container_sizing", "level_milp").run(inputs, parameters)
    assert answer.objective == pytest.approx(enumerated(inputs), rel=1e-5, abs=1e-5)
    assert answer.bound <= answer.objective * (1 + 1e-6) + 1e-6


@pytest.mark.parametrize("may_grow", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_greedy_is_never_better_than_the_milp_and_seldom_much_worse(seed: int, may_grow: bool) -> None:
    inputs = case(seed, classes=6, servers=2, scale=10, may_grow=may_grow)
    milp = registry.resolve("container_sizing", "level_milp").run(inputs, {"gap": 1e-6})
    greedy = registry.resolve("container_sizing", "greedy_levels").run(inputs, {})
    assert milp.objective <= greedy.objective * (1 + 1e-5)
    kept = (inputs.current @ inputs.size_cost).sum() if may_grow else 0.0  # it does not shrink while it grows
    assert greedy.objective <= milp.objective * 1.25 + 5 + kept


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_demand_and_normal_mode_leave_nothing(name: str) -> None:
    some = case(3)
    nothing = dataclasses.replace(
        some,
        current=np.full((1, 3), 1),
        may_grow=False,
        **{field: getattr(some, field)[:0] for field in ("count", "slack_s", "late_cost", "fits", "duration_s")},
        busy_s=some.busy_s[:0],
    )
    assert registry.resolve("container_sizing", name).run(nothing, {}).containers.sum() == 0


@pytest.mark.parametrize("name", PROGRAMS)
def test_at_r_limit_the_shortfall_is_named(name: str) -> None:
    inputs = dataclasses.replace(case(5, classes=1), count=np.array([1000]), late_cost=np.array([1000.0]))
    answer = registry.resolve("container_sizing", name).run(inputs, {})
    assert answer.late[0] > 900
    assert answer.containers.sum() > 0


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_shrunk_server_breaks_nothing(name: str) -> None:
    inputs = dataclasses.replace(
        case(7), current=np.array([[2, 2, 2]]), server_memory_mb=np.array([3000]), may_grow=False
    )
    registry.resolve("container_sizing", name).run(inputs, {})
