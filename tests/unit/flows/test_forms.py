"""Run forms without a server: the schema that a deployment gets."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from prefect import flow
from pydantic import Field

from flows.forms import Choices, SlotChoices, form
from flows.request import PlanRequest, Programs

SLOTS = {name: SlotChoices((f"{name}_a", f"{name}_b"), f"Does {name}.") for name in Programs.model_fields}


@flow(name="toy")
def toy(
    request: PlanRequest, trace_id: Annotated[str, Field(title="Trace id", description="Of a run.")] = ""
) -> str:
    """Do nothing."""
    return trace_id


@pytest.fixture
def schema() -> dict[str, Any]:
    return form(toy, Choices(("big", "big@1"), SLOTS))


def test_programs_and_scenarios_are_drop_downs(schema: dict[str, Any]) -> None:
    programs = schema["definitions"]["Programs"]["properties"]
    assert programs["active_dispatch"]["enum"] == ["active_dispatch_a", "active_dispatch_b", ""]
    assert programs["active_dispatch"]["default"] == "active_dispatch_a"
    assert programs["active_dispatch"]["description"] == "Does active_dispatch."
    request = schema["definitions"]["PlanRequest"]["properties"]
    assert request["scenario"]["enum"] == ["big", "big@1"]
    assert request["programs"]["default"] == {name: f"{name}_a" for name in Programs.model_fields}


def test_parameters_have_titles_and_descriptions(schema: dict[str, Any]) -> None:
    assert (
        schema["properties"]["trace_id"] | {"title": "Trace id", "description": "Of a run."}
        == (schema["properties"]["trace_id"])
    )
    assert schema["properties"]["request"]["title"] == "Request"
    assert schema["properties"]["request"]["description"] == PlanRequest.__doc__
    assert schema["definitions"]["PlanRequest"]["properties"]["horizon"]["description"] == "The hours to plan."


def test_without_scenarios_the_form_says_what_to_do() -> None:
    entry = form(toy, Choices((), SLOTS))["definitions"]["PlanRequest"]["properties"]["scenario"]
    assert "enum" not in entry
    assert "import a grid first" in entry["description"]


def test_a_slot_without_programs_stays_a_text_field() -> None:
    slots = {**SLOTS, "equivalence": SlotChoices((), "Reduces.")}
    schema = form(toy, Choices(("big",), slots))
    assert "enum" not in schema["definitions"]["Programs"]["properties"]["equivalence"]
    assert "equivalence" not in schema["definitions"]["PlanRequest"]["properties"]["programs"]["default"]


def test_forms_do_not_share_state() -> None:
    first = form(toy, Choices(("a",), SLOTS))
    second = form(toy, Choices(("b",), SLOTS))
    assert first["definitions"]["PlanRequest"]["properties"]["scenario"]["enum"] == ["a"]
    assert second["definitions"]["PlanRequest"]["properties"]["scenario"]["enum"] == ["b"]


def test_the_form_of_a_step_begins_with_what_the_step_before_made() -> None:
    made = {"reactive_dispatch": ("big@3", "big@2")}
    choices = Choices(("big", "big@3", "big@2", "big@1"), SLOTS, made)
    fields = form(toy, choices, "n1_verification")["definitions"]["PlanRequest"]["properties"]
    assert fields["scenario"]["enum"] == ["big@3", "big@2", "big", "big@1"]
    assert fields["scenario"]["description"].endswith("Choose one that the step reactive_dispatch made.")
    assert not {"from_step", "to_step"} & set(fields)
    assert form(toy, choices)["definitions"]["PlanRequest"]["properties"]["scenario"]["enum"][0] == "big"


def test_a_step_behind_the_plan_presets_no_hours() -> None:
    choices = Choices(("big",), SLOTS)
    for step, preset in (("unit_commitment", True), ("n1_verification", False)):
        definitions = form(toy, choices, step)["definitions"]
        horizon = definitions["PlanRequest"]["properties"]["horizon"]
        hours = definitions["Horizon"]["properties"]
        assert ["default" in entry for entry in (horizon, *hours.values())] == [preset] * 3
