"""Slot contracts: what a program is given, what it must return, and how both are checked.

Inputs and outputs of a slot are frozen dataclasses whose array fields are annotated with `Array`. The
annotation names the axes, the unit and the bounds; `check` verifies a value against them and returns all
findings. Axis sizes must agree across the fields of one dataclass.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from bos_core.objects.errors import Finding
from bos_core.objects.extension import Extension


@dataclass(frozen=True)
class Array:
    """Annotation of an array field.

    Attributes
    ----------
    axes : tuple of str
        Names of the axes, in order; an axis name means the same size everywhere in one dataclass.
    unit : str
        Unit of the values (``"MW"``, ``"p.u."``, ``"1"`` for dimensionless).
    doc : str
        What the values are.
    kind : {"f", "i", "b", "U"}
        numpy dtype kind: float, integer, boolean, string.
    minimum, maximum : float
        Inclusive bounds.
    finite : bool
        Whether NaN and infinity are forbidden.
    """

    axes: tuple[str, ...]
    unit: str
    doc: str = ""
    kind: Literal["f", "i", "b", "U"] = "f"
    minimum: float = -np.inf
    maximum: float = np.inf
    finite: bool = True


_KINDS = {"f": "float", "i": "integer", "b": "boolean", "U": "string"}


def array_fields(cls: type) -> dict[str, Array]:
    """Return the annotated array fields of a dataclass, in order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found: dict[str, Array] = {}
    for field in dataclasses.fields(cls):
        for extra in getattr(hints[field.name], "__metadata__", ()):
            if isinstance(extra, Array):
                found[field.name] = extra
    return found


def check(value: object) -> list[Finding]:
    """Check every annotated array of a dataclass instance; nested dataclasses are checked too.

    Returns
    -------
    list of Finding
        Empty when all shapes, dtypes and bounds hold.
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return [Finding(type(value).__name__, (), "is not a dataclass instance", "return the contract's type")]
    findings: list[Finding] = []
    name = type(value).__name__
    sizes: dict[str, tuple[int, str]] = {}
    specs = array_fields(type(value))
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if field.name in specs:
            findings += _check_array(name, field.name, specs[field.name], item, sizes)
        elif dataclasses.is_dataclass(item) and not isinstance(item, type):
            findings += check(item)
    return findings


def _check_array(
    owner: str, field: str, spec: Array, value: object, sizes: dict[str, tuple[int, str]]
) -> list[Finding]:
    def finding(problem: str, remedy: str, where: Sequence[str] = ()) -> list[Finding]:
        return [Finding(owner, tuple(where), problem, remedy, field)]

    if not isinstance(value, np.ndarray):
        return finding(f"is a {type(value).__name__}", "give a numpy array")
    if value.dtype.kind != spec.kind and not (spec.kind == "i" and value.dtype.kind == "u"):
        return finding(f"has dtype {value.dtype}", f"give {_KINDS[spec.kind]} values")
    if value.ndim != len(spec.axes):
        return finding(f"has {value.ndim} axes", f"give the axes {spec.axes}")
    for axis, size in zip(spec.axes, value.shape, strict=True):
        known, first = sizes.setdefault(axis, (size, field))
        if known != size:
            return finding(f"has {size} along {axis!r} but {first} has {known}", "give equal sizes")
    if spec.kind in "bU" or value.size == 0:
        return []
    bad = np.zeros(value.shape, bool)
    if spec.finite and spec.kind == "f":
        bad = ~np.isfinite(value)
    if bad.any():
        return finding(f"has {int(bad.sum())} values that are not finite", "give finite values", _places(bad))
    low, high = value < spec.minimum, value > spec.maximum
    if low.any():
        return finding(f"has {np.nanmin(value):g} {spec.unit}", f"give at least {spec.minimum:g}", _places(low))
    if high.any():
        return finding(f"has {np.nanmax(value):g} {spec.unit}", f"give at most {spec.maximum:g}", _places(high))
    return []


def _places(mask: np.ndarray) -> list[str]:
    return [str(tuple(int(i) for i in place)) for place in np.argwhere(mask)[:20]]


class ProgramParameters(BaseModel):
    """Base of every program's parameter model; forms and validation come from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


CO_SCHEDULING = "co-scheduling"
"""The service of BOS itself that matches tasks and containers; its algorithms are programs in slots too."""


@dataclass(frozen=True)
class SlotContract:
    """The promise of a program slot.

    Attributes
    ----------
    name : str
        Slot name, e.g. ``"unit_commitment"``.
    version : int
        Raised whenever inputs or outputs change.
    kind : {"algorithm", "model"}
        Program type of the paper's custom program index.
    summary : str
        One sentence for users.
    inputs, outputs : type
        Frozen dataclasses with `Array` annotations.
    default : str
        Name of the program used when the user names none.
    verify : callable
        ``verify(inputs, outputs) -> list of Finding``: physical laws every program's answer must obey.
    services : tuple of str
        The services that call the slot, as ``bos run`` names them, with those that they are part of in front:
        ``"planning-chain/unit-commitment"``; or `CO_SCHEDULING`.
    """

    name: str
    version: int
    kind: Literal["algorithm", "model"]
    summary: str
    inputs: type
    outputs: type
    default: str
    verify: Callable[[Any, Any], list[Finding]]
    services: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProgramManifest:
    """Metadata of a pluggable program: what a registry lists and a user selects.

    Attributes
    ----------
    name, slot, version : str
        Unique name within the slot; semantic version of the program.
    title, description : str
        What users see in lists and forms.
    parameters : type of ProgramParameters
        Validated parameters with defaults.
    references : tuple of str
        Published sources of the method.
    elements : tuple of str
        Corresponding database elements (models only).
    extends : tuple of Extension
        What the program adds to the ontology. It is then called as ``run(inputs, parameters, elements)``.
    """

    name: str
    slot: str
    version: str
    title: str
    description: str
    parameters: type[ProgramParameters] = ProgramParameters
    references: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    extends: tuple[Extension, ...] = ()
