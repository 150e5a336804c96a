"""Progress of a run, for whoever watches: the terminal, Prefect's UI, or nobody."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

ARTIFACT_PERIOD_S = 2.0


class Watcher(Protocol):
    """Gets told how a step goes; subtasks are the unit."""

    def started(self, step: str, title: str, subtasks: int) -> None:
        """Tell that a step starts with so many subtasks."""

    def advanced(self, step: str, subtasks: int) -> None:
        """Tell that so many more subtasks are done."""

    def finished(self, step: str, message: str) -> None:
        """Tell that the step's results are committed."""


_watcher: contextvars.ContextVar[Watcher | None] = contextvars.ContextVar("bos_watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Send the progress of the flows inside the block to `watcher`."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


class StepProgress:
    """Progress of one step: to the watcher at once, to Prefect's artifact every few seconds."""

    def __init__(self, step: str, title: str, subtasks: int) -> None:
        self._step, self._total, self._done = step, max(subtasks, 1), 0
        self._watcher = _watcher.get()
        self._last_s = time.monotonic()
        self._artifact = create_progress_artifact(
            progress=0.0,
            key=f"progress-{step.replace('_', '-')}",
            description=f"{title}: {subtasks:,} subtask{'s' if subtasks != 1 else ''}",
        )
        if self._watcher:
            self._watcher.started(step, title, subtasks)

    def advance(self, subtasks: int) -> None:
        """Count subtasks as done."""
        self._done += subtasks
        if self._watcher:
            self._watcher.advanced(self._step, subtasks)
        if time.monotonic() - self._last_s > ARTIFACT_PERIOD_S:
            self._publish()

    def finish(self, message: str) -> None:
        """Tell that the step is committed."""
        self._publish()
        if self._watcher:
            self._watcher.finished(self._step, message)

    def _publish(self) -> None:
        self._last_s = time.monotonic()
        assert isinstance(self._artifact, UUID)
        update_progress_artifact(self._artifact, progress=100.0 * min(self._done / self._total, 1.0))
