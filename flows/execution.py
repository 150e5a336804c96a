"""Carry out one ledger task on a worker: claim, bind, run, commit. What Dask runs is `execute`."""

from __future__ import annotations

import logging
import os
import platform
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from bos_core.access.commit import commit_outputs
from bos_core.access.workspace import Workspace
from bos_core.index.ledger import AlreadyDone, Busy, Claim, Ledger
from bos_core.index.records import LogLine, TaskRecord
from bos_core.objects.errors import BosError, FencedError
from bos_core.objects.settings import Settings
from bos_core.objects.task import ContextFilter, Receipt, TaskSetContext, TaskState, task_set_scope
from bos_core.programs.catalogue import Catalogue
from flows.request import BusinessRequest
from flows.step import Job
from flows.steps import STEPS

LEASE_S = 120.0
_LOG_LINES_MAX = 2_000
_LOG_PERIOD_S = 2.0

_log = logging.getLogger("bos")


def holder() -> str:
    """Name this process: host, pid and its start time, so that a recycled pid is not mistaken for it."""
    pid = os.getpid()
    return f"{platform.node()}/{pid}/{psutil.Process(pid).create_time():.2f}"


def is_alive(name: str) -> bool:
    """Whether a holder still runs; a holder on another host is taken for alive until its lease ends."""
    host, _, rest = name.partition("/")
    pid, _, started = rest.partition("/")
    if host != platform.node():
        return True
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 1.0
    except (psutil.Error, ValueError):
        return False


def execute(task_id: str, settings: Settings, request: BusinessRequest) -> Receipt:
    """Carry out a task unless the ledger says that it is done; never raises for what a task can do wrong.

    If a predecessor did not succeed, the task waits: it stays pending.
    """
    workspace = Workspace.open(settings)
    if _waits(workspace.ledger, task_id):
        return _waiting(workspace.ledger.task(task_id))
    while True:
        claim = _claim(workspace.ledger, task_id)
        if isinstance(claim, AlreadyDone):
            return claim.receipt
        record = workspace.ledger.task(task_id)
        context = workspace.ledger.task_set(record.task_set).context
        with task_set_scope(context, task_id), _logging_to(workspace.ledger, context, record, claim.attempt):
            receipt = _attempt(workspace, request, record, context, claim)
        if receipt is not None:
            return receipt


def give_up(settings: Settings, task_id: str, verdict: str) -> Receipt:
    """Fail a task that the co-scheduler will not run any more; what waits for such a task goes on waiting."""
    ledger = Workspace.open(settings).ledger
    if _waits(ledger, task_id):
        return _waiting(ledger.task(task_id))
    record = ledger.task(task_id)
    if record.state is TaskState.EXECUTING:  # by a container that the co-scheduler has ended
        ledger.release_dead(record.task_set, {record.holder})
    ledger.fail_waiting([task_id], verdict)
    return ledger.task(task_id).receipt()


def _waits(ledger: Ledger, task_id: str) -> bool:
    return any(ledger.task(needed).state is not TaskState.SUCCESS for needed in ledger.depends_on(task_id))


def _waiting(record: TaskRecord) -> Receipt:
    return Receipt(record.id, record.state, record.attempt, False, 0, 0, 0, "a predecessor did not succeed")


def _claim(ledger: Ledger, task_id: str) -> Claim | AlreadyDone:
    """Claim, waiting for a live holder and taking over from a dead one."""
    while True:
        claim = ledger.claim(task_id, holder(), LEASE_S)
        if not isinstance(claim, Busy):
            return claim
        if not is_alive(claim.holder):
            ledger.release_dead(ledger.task(task_id).task_set, {claim.holder})
            continue
        time.sleep(min(1.0, claim.remaining_s))


def _attempt(
    workspace: Workspace, request: BusinessRequest, record: TaskRecord, context: TaskSetContext, claim: Claim
) -> Receipt | None:
    """Carry out one attempt; None where the ledger knows better how the task ended, or who has it now."""
    start = time.perf_counter()
    _forget_peak_rss()
    try:
        program = Catalogue(workspace).resolve(record.slot, record.program, record.program_digest)
        job = Job(record, workspace, request, program, workspace.ledger.depends_on(record.id))
        _log.info("%s %s starts, attempt %d", record.step, record.chunk, claim.attempt)
        with _renewing(workspace.ledger, claim):
            tables = STEPS[record.step].carry_out(job)
            return commit_outputs(
                workspace.store,
                workspace.ledger,
                record,
                claim.attempt,
                tables,
                context,
                wall_s=time.perf_counter() - start,
                io_s=job.io_s,
                peak_rss_mb=_peak_rss_mb(),
            )
    except FencedError as error:
        _log.warning("attempt %d of %s was overtaken: %s", claim.attempt, record.chunk, error)
        return None
    except Exception as error:
        message = str(error) if isinstance(error, BosError) else repr(error)
        _log.error(
            "%s %s failed: %s", record.step, record.chunk, message, exc_info=not isinstance(error, BosError)
        )
        with suppress(FencedError):  # its commit was done after all, only the answer was lost
            return workspace.ledger.finish(
                record.id,
                claim.attempt,
                TaskState.FAILED,
                wall_s=time.perf_counter() - start,
                peak_rss_mb=_peak_rss_mb(),
                message=message,
            )
        return None


def _forget_peak_rss() -> None:
    """Let the peak of the resident memory start anew, so that it is the task's own; Linux only."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_rss_mb() -> float:
    """Return the most memory since `_forget_peak_rss`; where that does nothing, since the process began."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


@contextmanager
def _renewing(ledger: Ledger, claim: Claim) -> Iterator[None]:
    """Renew the lease while the block runs; a lost claim is found out when the attempt finishes."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(LEASE_S / 3):
            try:
                ledger.renew(claim.task_id, claim.attempt, LEASE_S)
            except BosError as error:
                _log.warning("lease of %s not renewed: %s", claim.task_id, error)

    thread = threading.Thread(target=renew, name="bos-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class _LedgerHandler(logging.Handler):
    """Collects the log lines of one attempt; the ledger keeps them with trace id and task."""

    def __init__(self, ledger: Ledger, context: TaskSetContext, record: TaskRecord, attempt: int) -> None:
        super().__init__(logging.INFO)
        self.addFilter(ContextFilter())
        self._ledger, self._context, self._task, self._attempt = ledger, context, record, attempt
        self._lines: list[LogLine] = []
        self._written_s = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._lines) < _LOG_LINES_MAX:
            text = self.format(record)
            self._lines.append(
                LogLine(
                    self._context.trace_id,
                    self._task.id,
                    self._attempt,
                    record.levelname,
                    record.name,
                    text,
                    record.created,
                )
            )

        if time.monotonic() - self._written_s > _LOG_PERIOD_S:
            self.write()

    def write(self) -> None:
        """Hand the lines over; while the index cannot be reached they wait, and what logs them goes on."""
        lines, self._lines, self._written_s = self._lines, [], time.monotonic()
        try:
            self._ledger.log(lines)
        except BosError:
            self._lines = lines + self._lines


@contextmanager
def _logging_to(ledger: Ledger, context: TaskSetContext, record: TaskRecord, attempt: int) -> Iterator[None]:
    handler = _LedgerHandler(ledger, context, record, attempt)
    loggers = [logging.getLogger(name) for name in ("bos", "bos_core", "slots", "flows")]
    for logger in loggers:
        logger.setLevel(min(logger.level or logging.INFO, logging.INFO))
        logger.addHandler(handler)
        logger.propagate = False  # the ledger keeps the lines; the terminal belongs to the progress
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.write()
