"""What every program of every slot must keep, whatever it computes."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect

import pytest

from bos_core.objects.contracts import CO_SCHEDULING, array_fields
from bos_core.programs import registry
from flows.request import SLOT_OF_STEP

PROGRAMS = [(slot, name) for slot in registry.slots() for name in registry.program_names(slot)]


@pytest.mark.parametrize("slot", registry.slots())
def test_a_slot_has_a_default_and_described_arrays(slot: str) -> None:
    contract = registry.contract(slot)
    assert contract.default in registry.program_names(slot)
    for side in (contract.inputs, contract.outputs):
        assert dataclasses.is_dataclass(side)
        assert inspect.getdoc(side)
        assert all(spec.unit is not None and spec.axes for spec in array_fields(side).values())


@pytest.mark.parametrize(("slot", "name"), PROGRAMS)
def test_a_program_has_a_manifest_and_described_parameters(slot: str, name: str) -> None:
    program = registry.resolve(slot, name)
    manifest = program.manifest
    assert manifest.title
    assert manifest.description
    for field, info in manifest.parameters.model_fields.items():
        assert info.description, f"{field} has no description"
        assert not info.is_required(), f"{field} has no default"
    assert list(inspect.signature(program.module.run).parameters) == ["inputs", "parameters"]
    assert len(program.digest) == 64


@pytest.mark.parametrize(("slot", "name"), PROGRAMS)
def test_a_program_refuses_unknown_parameters_by_name(slot: str, name: str) -> None:
    with pytest.raises(registry.OptionError, match="no_such_parameter"):
        registry.resolve(slot, name).parameters({"no_such_parameter": 1})


@pytest.mark.parametrize("slot", registry.slots())
def test_a_slot_names_the_services_that_call_it(slot: str) -> None:
    businesses = set(importlib.metadata.entry_points(group="bos.businesses").names)
    services = registry.contract(slot).services
    assert services
    assert {part for service in services for part in service.split("/")} <= businesses | {CO_SCHEDULING}
    steps = {step.replace("_", "-") for step, used in SLOT_OF_STEP.items() if used == slot}
    assert steps <= {service.rpartition("/")[2] for service in services}
