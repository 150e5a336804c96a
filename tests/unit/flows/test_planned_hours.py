"""A request that begins behind unit commitment takes the hours that its scenario has planned."""

from __future__ import annotations

import numpy as np
import pytest

from bos_core.api import Bos, connect
from bos_core.objects.errors import OptionError
from flows.planned_hours import with_planned_hours
from flows.request import PlanRequest
from flows.task_set import open_task_set


@pytest.fixture(scope="module")
def bos(tmp_path_factory: pytest.TempPathFactory) -> Bos:
    """An installation with a scenario whose second version holds a plan of hours 408 to 455."""
    opened = connect(home=tmp_path_factory.mktemp("home"), user="planner", project="tests")
    first = opened.scenarios.import_("pandapower:case14", name="one")
    units = opened.workspace.reader(first.id).grid()[0].units
    writer = opened.workspace.writer(parent=first.id)
    writer.put_series("unit.on", units.id, np.ones((48, units.n), bool), first_hour=408)
    writer.commit("planned")
    return opened


def asked(step: str, scenario: str = "one", **horizon: int) -> PlanRequest:
    fields = {"horizon": horizon} if horizon else {}
    return PlanRequest.model_validate({"scenario": scenario, "from_step": step, **fields})


@pytest.mark.parametrize("step", ["active_dispatch", "n1_verification", "state_adjustment"])
@pytest.mark.parametrize(
    ("horizon", "start", "hours"),
    [
        ({}, 408, 48),
        ({"start_hour": 432}, 432, 24),
        ({"hours": 24}, 408, 24),
        ({"start_hour": 410, "hours": 4}, 410, 4),
    ],
)
def test_hours_left_open_are_those_of_the_plan(
    bos: Bos, step: str, horizon: dict[str, int], start: int, hours: int
) -> None:
    found = with_planned_hours(bos.workspace, asked(step, **horizon)).horizon
    assert (found.start_hour, found.hours) == (start, hours)


@pytest.mark.parametrize("horizon", [{"start_hour": 0}, {"start_hour": 450, "hours": 24}, {"hours": 168}])
def test_hours_without_a_plan_are_refused(bos: Bos, horizon: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="holds planned hours 408 to 455, not"):
        with_planned_hours(bos.workspace, asked("n1_verification", **horizon))


def test_a_scenario_without_a_plan_is_refused(bos: Bos) -> None:
    with pytest.raises(OptionError, match="holds no planned hours for n1-verification"):
        with_planned_hours(bos.workspace, asked("n1_verification", "one@1"))


def test_a_request_that_plans_by_itself_or_is_resumed_keeps_its_hours(bos: Bos) -> None:
    chain = PlanRequest(scenario="one@1")
    assert with_planned_hours(bos.workspace, chain) is chain
    request = asked("n1_verification", start_hour=1, hours=2)
    open_task_set(bos.workspace, request, "resumed", "n1-verification")
    assert with_planned_hours(bos.workspace, request, "resumed") is request
