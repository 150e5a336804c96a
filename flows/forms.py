"""Run forms: the parameter schemas of the flows, with drop-downs of what exists at this moment.

Prefect derives a schema from a flow's signature. Programs and scenarios are plain text there, because the registry
and the index change while a deployment lives; here the schema gets the present choices. The flow validates
again: a form is a help, not a guard.
"""

from __future__ import annotations

import copy
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect import Flow
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bos_core.access.workspace import Workspace
from bos_core.programs import registry
from bos_core.programs.catalogue import Catalogue
from flows.planned_hours import needs_plan
from flows.request import STEP_ORDER, PowerFlowPrograms, Programs, StepName

VERSIONS_SHOWN = 20
"""Newest versions of a scenario that a form offers."""


@dataclass(frozen=True)
class SlotChoices:
    """The programs of a slot, its default first, and what the slot is for."""

    programs: tuple[str, ...]
    summary: str


@dataclass(frozen=True)
class Choices:
    """What the forms offer.

    Attributes
    ----------
    scenarios : tuple of str
        Newest first; a name stands for its newest version that no run made, ``name@N`` for one of its versions.
    slots : mapping
        By slot.
    made_by : mapping
        By step: the versions that it made, among `scenarios`, newest first.
    """

    scenarios: tuple[str, ...]
    slots: Mapping[str, SlotChoices]
    made_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def present(cls, workspace: Workspace) -> Choices:
        """Read the programs and the scenario index."""
        slots, catalogue = {}, Catalogue(workspace)
        for name in (*Programs.model_fields, *PowerFlowPrograms.model_fields):
            contract = registry.contract(name)
            programs = sorted(catalogue.names(name), key=lambda p: (p != contract.default, p))
            slots[name] = SlotChoices(tuple(programs), contract.summary)
        scenarios = sorted(workspace.scenarios.scenarios(), key=lambda s: (-s.created_s, s.name))
        labels: list[str] = []
        for scenario in scenarios:
            newest = range(scenario.versions, max(scenario.versions - VERSIONS_SHOWN, 0), -1)
            labels += [scenario.name] if scenario.versions else []
            labels += [f"{scenario.name}@{number}" for number in newest]
        made_by: dict[str, tuple[str, ...]] = {}
        for version in sorted(workspace.scenarios.versions(), key=lambda v: -v.created_s):
            if version.label in labels:
                made_by[version.step] = (*made_by.get(version.step, ()), version.label)
        return cls(tuple(labels), slots, made_by)

    def starting_with(self, step: str) -> tuple[str, ...]:
        """Return the scenarios, those first that this step made."""
        first = self.made_by.get(step, ())
        return (*first, *(label for label in self.scenarios if label not in first))


def form(flow: Flow[..., Any], choices: Choices, single: StepName | None = None) -> dict[str, Any]:
    """Return the parameter schema of a flow, with titles, descriptions and drop-downs.

    Parameters
    ----------
    flow : Flow
        Its first parameter may be a `BusinessRequest`.
    choices : Choices
    single : StepName or None
        The step that the flow runs by itself: the versions that it can start from come first in the form.
    """
    schema = copy.deepcopy(parameter_schema(flow).model_dump(exclude_unset=True))
    _name_parameters(schema, flow)
    definitions = schema.get("definitions", {})
    request = schema["properties"].get("request", {})
    if request:
        fields = _definition(definitions, request)["properties"]
        _offer_programs(definitions, fields["programs"], choices.slots)
        before = step_before(single)
        _offer_scenarios(fields["scenario"], choices.starting_with(before))
        if single:
            del fields["from_step"], fields["to_step"]
        if single and needs_plan(single):
            _leave_hours_open(definitions, fields["horizon"])
        if before:
            fields["scenario"]["description"] += f" Choose one that the step {before} made."
        _describe_references(definitions)
    return schema


def step_before(step: StepName | None) -> str:
    """Return the step whose version a step starts from; empty for the first step and for a whole chain."""
    position = STEP_ORDER.index(step) if step else 0
    return STEP_ORDER[position - 1] if position else ""


def _name_parameters(schema: dict[str, Any], flow: Flow[..., Any]) -> None:
    """Give the parameters the titles and descriptions of their annotations; Prefect shows bare names."""
    hints = typing.get_type_hints(flow.fn, include_extras=True)
    for name, entry in schema["properties"].items():
        hint = hints.get(name)
        entry["title"] = name.replace("_", " ").capitalize()
        for extra in getattr(hint, "__metadata__", ()):
            if isinstance(extra, FieldInfo):
                entry["title"] = extra.title or entry["title"]
                entry["description"] = extra.description or ""
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            entry["description"] = (hint.__doc__ or "").split("\n", 1)[0]


def _definition(definitions: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Return the model that an entry refers to."""
    reference = entry.get("$ref") or entry["allOf"][0]["$ref"]
    model: dict[str, Any] = definitions[reference.rpartition("/")[2]]
    return model


def _offer_programs(definitions: dict[str, Any], used: dict[str, Any], slots: Mapping[str, SlotChoices]) -> None:
    offered = _definition(definitions, used)["properties"]
    for name, entry in offered.items():
        slot = slots[name]
        if not slot.programs:
            continue
        # The empty text stays legal: it is what a request without a choice carries.
        entry["enum"] = [*slot.programs, ""]
        entry["default"] = slot.programs[0]
        entry["description"] = slot.summary
    used["default"] = {name: slots[name].programs[0] for name in offered if slots[name].programs}


def _leave_hours_open(definitions: dict[str, Any], horizon: dict[str, Any]) -> None:
    """Preset no hours: what is left empty is every hour that the scenario has planned."""
    horizon.pop("default", None)
    for entry in _definition(definitions, horizon)["properties"].values():
        entry.pop("default", None)
    horizon["description"] = "Empty: every hour that the scenario has planned."


def _offer_scenarios(entry: dict[str, Any], scenarios: Sequence[str]) -> None:
    if scenarios:
        entry["enum"] = list(scenarios)
        entry["description"] = "A name means its newest version that no run made, name@number one of its versions."
    else:
        entry["description"] = "None yet: import a grid first, then it appears here."


def _describe_references(definitions: dict[str, Any]) -> None:
    """Repeat title and description of a nested model where it is used; forms show only those."""
    for model in definitions.values():
        for entry in model.get("properties", {}).values():
            target = definitions.get(str(entry.get("$ref", "")).rpartition("/")[2])
            if target:
                entry.setdefault("title", target["title"])
                entry.setdefault("description", target.get("description", ""))
