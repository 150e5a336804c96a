"""The decision log: what the machine saw, what it chose and what it asked for, as JSON and in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bos_core.scheduling.fleet_state import ContainerState
from bos_core.scheduling.instructions import (
    AssignTask,
    CompleteTask,
    FailTask,
    Instruction,
    RefuseTask,
    RetryTask,
    ShortOfResources,
    StartContainer,
)


@dataclass(frozen=True)
class Choice:
    """Why a task went to a container.

    Attributes
    ----------
    task, container : str
    weight : float
        By A2; `ahead` of the tasks that wait weigh more.
    ahead : int
    duration_s : float
        Forecast by A1 for this container.
    need_mb, container_mb : int
        Forecast peak memory with its margin; the reservation.
    observations : int
        Outcomes behind the forecast; 0: the prior of a program never seen.
    waited_s : float
    slack_s : float
        Until the deadline, less the forecast duration; infinite without a deadline.
    """

    task: str
    container: str
    weight: float
    ahead: int
    duration_s: float
    need_mb: int
    container_mb: int
    observations: int
    waited_s: float
    slack_s: float

    def __str__(self) -> str:
        basis = f"{self.observations} outcomes" if self.observations else "the prior of a program never seen"
        slack = f", {self.slack_s:.0f} s to spare" if self.slack_s < float("inf") else ""
        return (
            f"chosen for {self.container}: weight {self.weight:.3g}, {self.ahead} of those waiting weigh more; "
            f"waited {self.waited_s:.0f} s{slack}; {self.duration_s:.3g} s and {self.need_mb} MB forecast from "
            f"{basis}, {self.container_mb} MB reserved"
        )


@dataclass(frozen=True)
class Decision:
    """What one event led to.

    Attributes
    ----------
    number : int
    at_s : float
    cause : str
        Name of the event.
    snapshot : tuple of ContainerState
        The containers as a cycle found them, and as they stayed while it decided; empty for other events.
    waiting : int
        Tasks that were ready to start.
    mode : str
        ``normal`` or ``guarantee``; empty when containers were not looked at.
    choices : tuple of Choice
    instructions : tuple of Instruction
    """

    number: int
    at_s: float
    cause: str
    snapshot: tuple[ContainerState, ...]
    waiting: int
    mode: str
    choices: tuple[Choice, ...]
    instructions: tuple[Instruction, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the decision as what JSON can hold."""
        plain = dataclasses.asdict(self)
        plain["instructions"] = [as_json(instruction) for instruction in self.instructions]
        for choice in plain["choices"]:
            if choice["slack_s"] == float("inf"):
                choice["slack_s"] = None
        return plain


def as_json(message: Any) -> dict[str, Any]:
    """Return an event or an instruction as what JSON can hold, with its name as ``kind``."""
    return {"kind": type(message).__name__, **_plain(message)}


def _plain(message: Any) -> dict[str, Any]:
    found = dict(vars(message))
    for name, value in found.items():
        if dataclasses.is_dataclass(value):
            found[name] = _plain(value)
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            found[name] = [_plain(item) for item in value]
    return found


def words(instruction: Instruction) -> str:
    """Return an instruction as a sentence."""
    match instruction:
        case AssignTask():
            return f"attempt {instruction.attempt} runs in {instruction.container}"
        case RetryTask():
            return f"attempt {instruction.attempt} came to nothing: {instruction.why}"
        case CompleteTask():
            return f"attempt {instruction.attempt} succeeded"
        case FailTask():
            lack = ""
            if instruction.shortfall_mb:
                lack = f" ({instruction.needed_mb} MB or more, {instruction.largest_mb} MB are the most)"
            detail = f": {instruction.detail}" if instruction.detail else ""
            return f"given up, {instruction.reason}{lack}{detail}"
        case RefuseTask():
            return f"refused: {instruction.limit} tasks wait in queue {instruction.queue}; submit it again later"
        case ShortOfResources():
            return (
                f"{instruction.late} tasks will miss their deadline although all resources are in use; "
                f"{instruction.missing_cpu_cores:g} cores and {instruction.missing_memory_mb} MB more would do"
            )
        case StartContainer():
            kind = "trial container" if instruction.trial else "container"
            quota = f"{instruction.cpu_cores:g} cores, {instruction.memory_mb} MB"
            return f"start {kind} {instruction.container} on {instruction.server}: {quota}"
    return " ".join(f"{key} {value}" for key, value in as_json(instruction).items())


def why(task: str, decisions: Iterable[Decision]) -> Iterator[str]:
    """Yield what was decided about a task, in words, oldest first."""
    for decision in decisions:
        lines = [str(choice) for choice in decision.choices if choice.task == task]
        lines += [words(i) for i in decision.instructions if getattr(i, "task", None) == task]
        for line in lines:
            yield f"{decision.at_s:.1f} s, decision {decision.number}: {line}"
