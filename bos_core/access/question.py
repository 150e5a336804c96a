"""How a question about the elements of a version is answered: its steps, its plan, its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import pyarrow as pa

from bos_core.index.graph import LEVELS
from bos_core.objects.errors import Finding
from bos_core.objects.ontology import DataType, Tables


@dataclass(frozen=True)
class PlanStep:
    """One step of a question: who answers, what is done, and, once it was done, what came of it."""

    source: str
    action: str
    found: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        done = "" if self.found is None else f": {self.found:,} found"
        took = "" if self.seconds is None else f" in {1e3 * self.seconds:.1f} ms"
        return f"{self.source}: {self.action}{done}{took}"


@dataclass(frozen=True)
class Plan:
    """The steps of a question, and why a projection does not answer where it could."""

    steps: tuple[PlanStep, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{number}  {step}" for number, step in enumerate(self.steps, 1)]
        return "\n".join([*lines, *(f"   {note}" for note in self.notes)])


@dataclass(frozen=True, eq=False)
class Answer:
    """The rows that answer a question, and the plan as it was carried out."""

    table: pa.Table
    plan: Plan


_Found = TypeVar("_Found")
Steps: TypeAlias = list[tuple[PlanStep, Callable[[_Found], int]]]
"""What is done, and how: each step adds to what the others have found, and returns how much it found itself."""


def carry_out(steps: Steps[_Found], found: _Found) -> tuple[PlanStep, ...]:
    """Do the steps, and return them with what came of each and how long it took."""
    done = []
    for step, work in steps:
        begin = time.perf_counter()
        count = work(found)
        done.append(replace(step, found=count, seconds=time.perf_counter() - begin))
    return tuple(done)


def kinds(ontology: Tables) -> tuple[str, ...]:
    """Return the kinds of element that the graph has nodes of."""
    return tuple(n for n, schema in ontology.items() if n in LEVELS or schema.data_type is DataType.E_SM)


def check_kind(ontology: Tables, kind: str, columns: Sequence[str]) -> list[Finding]:
    """Return findings where the graph has no elements of a kind, or the kind's table lacks a column."""
    if kind not in kinds(ontology):
        remedy = f"use one of {', '.join(kinds(ontology))}"
        return [Finding("option", (kind,), "is no kind of element", remedy, "kind")]
    known = {c.name for c in ontology[kind].columns}
    unknown = tuple(c for c in columns if c not in known)
    if not unknown:
        return []
    remedy = f"table {kind} has {', '.join(sorted(known))}"
    return [Finding("option", unknown, "are no columns of the table", remedy, "columns")]
