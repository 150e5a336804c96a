"""The request of a planning run: what is refused, and how it is said."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from flows.request import STEP_ORDER, Horizon, PlanRequest, Programs


def _problems(**values: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        PlanRequest.model_validate({"scenario": "six", **values})
    return {".".join(map(str, e["loc"])): e["msg"] for e in caught.value.errors()}


def test_the_defaults_are_a_week_of_the_whole_chain() -> None:
    request = PlanRequest(scenario="six")
    assert (request.horizon.start_hour, request.horizon.stop_hour) == (0, 168)
    assert request.steps() == STEP_ORDER
    assert request.program("unit_commitment") is None


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("horizon.hours", {"horizon": {"hours": 0}}, "greater than or equal to 1"),
        ("horizon.hours", {"horizon": {"hours": 8761}}, "less than or equal to 8760"),
        ("horizon.hours", {"horizon": {"hours": 1.5}}, "valid integer"),
        ("horizon.hours", {"horizon": {"hours": "many"}}, "valid integer"),
        ("horizon.start_hour", {"horizon": {"start_hour": -1}}, "greater than or equal to 0"),
        ("horizon.start_hour", {"horizon": {"start_hour": 8760}}, "less than 8760"),
        ("horizon", {"horizon": {"start_hour": 8700, "hours": 168}}, "8700 to 8867 leave the year; start at 8592"),
        ("horizon.houers", {"horizon": {"houers": 3}}, "Extra inputs are not permitted"),
        ("base_kv_min", {"base_kv_min": -1}, "greater than or equal to 0"),
        ("base_kv_min", {"base_kv_min": "high"}, "valid number"),
        ("contingencies", {"contingencies": "busbars"}, "'all', 'lines' or 'transformers'"),
        ("snapshot_hour", {"snapshot_hour": 9000}, "less than 8760"),
        ("adjustment_rounds", {"adjustment_rounds": 6}, "less than or equal to 5"),
        ("chunk_hours", {"chunk_hours": 0}, "greater than or equal to 1"),
        ("seed", {"seed": -1}, "greater than or equal to 0"),
        ("programs.unit_comitment", {"programs": {"unit_comitment": "x"}}, "Extra inputs are not permitted"),
        ("program_parameters.active_dispatch", {"program_parameters": {"active_dispatch": 3}}, "valid dictionary"),
        ("from_step", {"from_step": "dispatch"}, "'system_model', 'snapshot'"),
        ("", {"from_step": "n1_verification", "to_step": "snapshot"}, "comes after last step snapshot"),
        ("scenaro", {"scenaro": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_planned_is_refused(field: str, values: dict[str, Any], message: str) -> None:
    problems = _problems(**values)
    assert list(problems) == [field]
    assert message in problems[field]


def test_every_problem_is_told_at_once() -> None:
    found = _problems(seed=-1, chunk_hours=0, horizon={"hours": 0})
    assert set(found) == {"seed", "chunk_hours", "horizon.hours"}


def test_a_scenario_is_needed() -> None:
    with pytest.raises(ValidationError, match="scenario\n  Field required"):
        PlanRequest.model_validate({})


@pytest.mark.parametrize(("start", "hours"), [(8759, 1), (0, 8760), (8592, 168)])
def test_the_year_may_be_used_to_its_end(start: int, hours: int) -> None:
    assert Horizon(start_hour=start, hours=hours).stop_hour <= 8760


def test_steps_are_a_piece_of_the_chain() -> None:
    request = PlanRequest(scenario="six", from_step="unit_commitment", to_step="reactive_dispatch")
    assert request.steps() == ("unit_commitment", "active_dispatch", "reactive_dispatch")
    single = PlanRequest(scenario="six", from_step="snapshot", to_step="snapshot")
    assert single.steps() == ("snapshot",)


def test_a_request_survives_json_and_cannot_be_changed() -> None:
    request = PlanRequest(scenario="six", programs=Programs(active_dispatch="lazy_ptdf"))
    assert PlanRequest.model_validate_json(request.model_dump_json()) == request
    assert request.program("active_dispatch") == "lazy_ptdf"
    with pytest.raises(ValidationError, match="frozen"):
        request.seed = 2  # type: ignore[misc]
