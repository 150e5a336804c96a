"""Months and days of the unit commitment: what waits for what."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bos_core.objects.task import ProgramRef, Task, TaskInput
from flows.request import PlanRequest
from flows.step5a_unit_commitment import energy_within_limits, plan


def planned(start_hour: int, hours: int) -> dict[str, Task]:
    """Tasks by the first word of their chunk, in the order of the plan."""
    request = PlanRequest.model_validate(
        {"scenario": "rts", "horizon": {"start_hour": start_hour, "hours": hours}}
    )

    def task(step: str, slot: str, chunk: str, subtasks: int, needs: list[str], **parameters: object) -> Task:
        made = TaskInput("rts@1", "digest", chunk, parameters)
        return Task("trace", step, made, ProgramRef(slot, "any", "1", "digest"), subtasks, tuple(needs))

    run: Any = SimpleNamespace(request=request, task=task)
    return {t.input.chunk.split()[0]: t for t in plan(run)}


def waits_for(tasks: dict[str, Task], name: str) -> set[str]:
    known = {task.id: name for name, task in tasks.items()}
    return {known[needed] for needed in tasks[name].depends_on}


def test_the_year_has_every_month_and_day_and_predecessors_come_first() -> None:
    tasks = planned(0, 8760)
    assert {n for n in tasks if n.startswith("month")} == {f"month={m:02d}" for m in range(1, 13)}
    assert {n for n in tasks if n.startswith("day")} == {f"day={d:03d}" for d in range(1, 366)}
    place = {task.id: k for k, task in enumerate(tasks.values())}
    assert all(place[n] < place[task.id] for task in tasks.values() for n in task.depends_on)


def test_months_have_chains_of_their_own_that_meet_at_midnight() -> None:
    tasks = planned(0, 8760)
    assert waits_for(tasks, "month=02") == {"month=01"}
    assert waits_for(tasks, "day=001") == {"month=01"}
    assert waits_for(tasks, "day=002") == {"month=01", "day=001"}
    assert waits_for(tasks, "day=031") == {"month=01", "day=030", "day=032"}
    assert waits_for(tasks, "day=032") == {"month=02", "month=01"}
    assert waits_for(tasks, "day=365") == {"month=12", "day=364"}


@pytest.mark.parametrize(("start", "hours", "last"), [(30, 48, 24), (30, 40, 16), (29, 72, 24)])
def test_a_horizon_across_two_months(start: int, hours: int, last: int) -> None:
    tasks = planned(24 * start, hours)
    assert waits_for(tasks, "day=032") == {"month=02", "month=01"}
    assert "day=032" in waits_for(tasks, "day=031")
    parameters = tasks["day=032"].input.parameters
    assert int(parameters["stop"]) - int(parameters["start"]) == last  # type: ignore[call-overload]


def test_a_day_starts_within_the_limits_that_the_solver_kept_to_a_tolerance() -> None:
    """The next day's contract refuses an energy below zero, be it by 3e-14 MWh."""
    storages: Any = SimpleNamespace(
        energy_mwh_min=np.array([0.0, 1.0, 0.0]), energy_mwh_max=np.array([5.0, 5.0, 5.0])
    )
    energy = energy_within_limits(np.array([-2.62e-14, 3.0, 5.0 + 1e-9]), storages)
    assert energy.tolist() == [0.0, 3.0, 5.0]
