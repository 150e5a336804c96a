"""A3: every program keeps formula (1); sorting, assignment problem, both MILPs and enumeration agree."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from bos_core.programs import registry
from slots.task_assignment import formula_milp, sort_or_lsa
from slots.task_assignment.contract import Inputs, admissible, objective

WAYS: list[tuple[str, dict[str, Any]]] = [
    ("sort_or_lsa", {}),
    ("formula_milp", {"solver": "highs"}),
    ("formula_milp", {"solver": "glpk"}),
]


def case(seed: int, tasks: int, containers: int, equally_quick: bool) -> Inputs:
    random = np.random.default_rng(seed)
    need = random.choice([500, 1000, 2000, 4000], tasks)
    memory = random.choice([1000, 2000, 4000], containers)
    duration = np.repeat(random.uniform(1, 100, tasks)[:, None], containers, axis=1)
    trial, is_trial = random.random(tasks) < 0.2, random.random(containers) < 0.3
    if not equally_quick:
        duration = duration * random.uniform(0.5, 2, containers)
    return Inputs(
        weight=random.uniform(0.1, 100, tasks),
        duration_s=duration,
        allowed=(need[:, None] <= memory) & (trial[:, None] == is_trial),
        slack_s=random.choice([5.0, 50.0, 500.0, np.inf], tasks),
        deferred_s=np.full(tasks, duration.max(initial=1.0) + 5),
        container_memory_mb=memory.astype(np.int64),
    )


def enumerated(inputs: Inputs) -> float:
    """The least value of formula (1) over all assignments."""
    may = admissible(inputs)
    choices = [[-1, *np.flatnonzero(row).tolist()] for row in may]
    best = np.inf
    for chosen in itertools.product(*choices):
        used = [place for place in chosen if place >= 0]
        if len(used) == len(set(used)):
            best = min(best, objective(inputs, np.array(chosen)))
    return best


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(("name", "parameters"), WAYS)
def test_every_way_finds_the_least_value_that_enumeration_finds(
    name: str, parameters: dict[str, Any], seed: int
) -> None:
    inputs = case(seed, tasks=5, containers=4, equally_quick=seed % 2 == 0)
    answer = registry.resolve("task_assignment", name).run(inputs, parameters)
    assert answer.objective == pytest.approx(enumerated(inputs), rel=1e-6)
    assert answer.bound <= answer.objective * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_sort_and_assignment_problem_agree_with_the_milp_on_larger_cases(seed: int) -> None:
    inputs = case(seed, tasks=40, containers=15, equally_quick=seed % 2 == 0)
    ours = registry.resolve("task_assignment", "sort_or_lsa").run(inputs, {})
    milp = registry.resolve("task_assignment", "formula_milp").run(inputs, {})
    assert ours.objective == pytest.approx(milp.objective, rel=1e-6)
    assert ours.method == ("sort" if seed % 2 == 0 else "linear sum assignment") or inputs.slack_s.min() < 100


def test_equally_quick_containers_are_matched_by_sorting() -> None:
    inputs = case(2, tasks=30, containers=10, equally_quick=True)
    assert sort_or_lsa.run(inputs, None).method == "sort"


def test_a_task_that_is_late_everywhere_still_runs_and_one_that_is_not_keeps_its_deadline() -> None:
    inputs = Inputs(
        weight=np.array([1.0, 1.0]),
        duration_s=np.array([[10.0, 2.0], [10.0, 10.0]]),
        allowed=np.ones((2, 2), bool),
        slack_s=np.array([5.0, 1.0]),
        deferred_s=np.array([20.0, 20.0]),
        container_memory_mb=np.array([1000, 1000]),
    )
    for name, parameters in WAYS:
        answer = registry.resolve("task_assignment", name).run(inputs, parameters)
        assert answer.container.tolist() == [1, 0]


@pytest.mark.parametrize(("name", "parameters"), WAYS)
def test_nothing_to_do_is_done(name: str, parameters: dict[str, Any]) -> None:
    for tasks, containers in ((0, 3), (3, 0), (0, 0)):
        inputs = case(0, tasks, containers, equally_quick=True)
        answer = registry.resolve("task_assignment", name).run(inputs, parameters)
        assert (answer.container == -1).all()


def test_a_milp_without_time_says_what_to_do() -> None:
    inputs = case(1, tasks=120, containers=80, equally_quick=False)
    with pytest.raises(registry.ProgramError, match="raise time_limit_s"):
        formula_milp.run(inputs, formula_milp.Parameters(time_limit_s=1e-6))


def test_the_contract_refuses_a_wrong_answer() -> None:
    contract = registry.contract("task_assignment")
    inputs = case(4, tasks=6, containers=4, equally_quick=True)
    good = sort_or_lsa.run(inputs, None)
    assert contract.verify(inputs, good) == []
    wrong: dict[str, np.ndarray] = {
        "several tasks": np.where(good.container >= 0, good.container.max(), -1),
        "waits beside": np.full(6, -1),
        "may not run there": np.arange(6) % 4,
    }
    for said, container in wrong.items():
        value = objective(inputs, container)
        findings = contract.verify(inputs, type(good)(container, value, value, "test"))
        assert any(said in str(finding) for finding in findings), said
