"""Make lost or changed files of a run again, byte by byte, without touching the ledger."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bos_core.access.audit import Losses, losses
from bos_core.access.workspace import Workspace
from bos_core.objects.errors import Finding, OptionError, ProgramError, RunFailedError
from bos_core.programs.catalogue import Catalogue

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""As workers have it: the order of a sum, and with it the last bit, may depend on the number of threads."""


@dataclass(frozen=True)
class Rebuilt:
    """What was made again.

    Attributes
    ----------
    checked : int
        Files that were compared with the index.
    restored : tuple of str
        Addresses of files that are as committed again.
    failures : tuple of str
        Address and reason of each file that could not be made again; nothing was written there.
    """

    checked: int
    restored: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def rebuild(
    workspace: Workspace,
    trace_id: str,
    step: str = "",
    output: str = "",
    told: Callable[[str], None] = lambda address: None,
) -> Rebuilt:
    """Carry out again what is needed to have all files of a run, of a step or of one output as committed.

    Parameters
    ----------
    told : callable
        Gets the address of each file that was restored, as it is.

    Raises
    ------
    ProgramError
        With every program whose installed code is not the one that made the results.
    OptionError
        With everything that the run reads and that is lost itself.
    """
    record = workspace.ledger.task_set(trace_id)
    lost = losses(workspace, record.trace_id, step, output)
    if not lost:
        return Rebuilt(lost.checked)
    _check_inputs(lost)
    _check_programs(workspace, lost)
    business = importlib.metadata.entry_points(group="bos.businesses", name=record.business)
    room = next(iter(business)).module.split(".")[0]
    arguments = [record.trace_id, *filter(None, (step, output))]
    restored: list[str] = []
    failures: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", f"{room}.rebuild", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **workspace.settings.environment(), **_ONE_THREAD},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            found = json.loads(line)
            if found["problem"]:
                failures.append(f"{found['address']}: {found['problem']}".removeprefix(": "))
            else:
                restored.append(found["address"])
                told(found["address"])
        surprise = process.stderr.read().strip().rpartition("\n")[2]
    if process.returncode and not failures:
        raise RunFailedError(f"rebuilding run {record.trace_id[:8]} broke off: {surprise}")
    return Rebuilt(lost.checked, tuple(restored), tuple(failures))


def _check_inputs(lost: Losses) -> None:
    if lost.inputs:
        raise OptionError(tuple(Finding("input", (), *line.rsplit(": ", 1)) for line in lost.inputs))


def _check_programs(workspace: Workspace, lost: Losses) -> None:
    """Refuse to compute with other code than that which made the results."""
    tasks = [workspace.ledger.task(task_id) for task_id in lost.tasks]
    catalogue, problems = Catalogue(workspace), []
    for slot, name, version, digest in sorted(
        {(t.slot, t.program, t.program_version, t.program_digest) for t in tasks}
    ):
        try:
            catalogue.resolve(slot, name, digest)
        except ProgramError as error:
            problems.append(f"  - version {version} of {error}")
    if problems:
        raise ProgramError("\n".join(["the programs that made the results are not at hand:", *problems]))
