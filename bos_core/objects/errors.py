"""The error tree: surprises are exceptions, bad input is a list of findings.

A finding says what is wrong, which element it concerns, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong with an input.

    Attributes
    ----------
    component : str
        Kind of element, e.g. ``"branch"`` or ``"option"``.
    ids : tuple of str
        The elements concerned, as the user knows them (names or ids of the source file).
    problem : str
        What is wrong, with the offending value.
    remedy : str
        The next step for the user.
    field : str
        Column or option name, empty when the whole element is meant.
    """

    component: str
    ids: tuple[str, ...]
    problem: str
    remedy: str
    field: str = ""

    MAX_IDS_SHOWN: ClassVar[int] = 5

    def __str__(self) -> str:
        shown = ", ".join(self.ids[: self.MAX_IDS_SHOWN])
        more = len(self.ids) - self.MAX_IDS_SHOWN
        which = f" {shown}" if shown else ""
        if more > 0:
            which += f" (+{more} more)"
        column = f".{self.field}" if self.field else ""
        return f"{self.component}{column}{which}: {self.problem}; {self.remedy}"


class BosError(Exception):
    """Root of every error that BOS raises on purpose; shown to users without a traceback."""

    exit_code: ClassVar[int] = 1


@dataclass
class InputError(BosError):
    """The input cannot be used; carries every finding at once."""

    findings: Sequence[Finding] = field(default_factory=tuple)
    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        head = f"{len(self.findings)} problem{'s' if len(self.findings) != 1 else ''} in the input"
        return "\n".join([head, *(f"  - {finding}" for finding in self.findings)])


class FormatError(InputError):
    """A file is not what its name or content claims."""


class GridError(InputError):
    """The grid model is inconsistent (islands, zero impedance, missing slack, ...)."""


class OptionError(InputError):
    """A command or parameter has an impossible value."""


class ProgramError(BosError):
    """A slot program is unknown, breaks its contract, or failed."""

    exit_code: ClassVar[int] = 3


class ContractError(ProgramError):
    """A program was given, or returned, arrays that its slot contract forbids."""

    def __init__(self, slot: str, program: str, findings: Iterable[Finding]) -> None:
        self.slot, self.program, self.findings = slot, program, tuple(findings)
        lines = [f"program {program!r} breaks the contract of slot {slot!r}:"]
        super().__init__("\n".join([*lines, *(f"  - {finding}" for finding in self.findings)]))

    def __reduce__(self) -> tuple[type[ContractError], tuple[str, str, tuple[Finding, ...]]]:
        return type(self), (self.slot, self.program, self.findings)


class LedgerError(BosError):
    """The task ledger refused an operation."""

    exit_code: ClassVar[int] = 4


class IllegalTransitionError(LedgerError):
    """A task state change that is not one of the legal moves."""


class FencedError(LedgerError):
    """Another attempt owns the task now; this attempt's outcome must be dropped."""


class StorageError(BosError):
    """The result store or the index cannot be reached, is full, or refuses access."""

    exit_code: ClassVar[int] = 5


class NotFoundError(BosError):
    """No such run, scenario, result or element."""

    exit_code: ClassVar[int] = 6


class ConflictError(BosError):
    """Somebody else was first: what was to be changed has changed since it was read."""

    exit_code: ClassVar[int] = 9


class RunFailedError(BosError):
    """A run ended with tasks that did not succeed."""

    exit_code: ClassVar[int] = 7


class TaskGivenUpError(BosError):
    """The co-scheduler will not run a task any more; the message is its verdict."""

    exit_code: ClassVar[int] = 7


class ServiceError(BosError):
    """A service that BOS runs or needs (Prefect, Docker, a graph) did not start or cannot be reached."""

    exit_code: ClassVar[int] = 8


def raise_if_any(findings: Sequence[Finding], error: type[InputError] = InputError) -> None:
    """Raise `error` with all `findings`, or return when there are none."""
    if findings:
        raise error(tuple(findings))
