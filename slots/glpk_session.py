"""GLPK as a back end of `LinearModel`, through its `glpsol` command."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bos_core.grid.model import FloatArray, IntArray
from bos_core.objects.errors import ProgramError
from slots.linear_model import LinearModel, Solution

log = logging.getLogger(__name__)
_PROGRESS = re.compile(rb"mip =\s+\S+ >=\s+(\S+)")
_FOUND = {"o": "optimal", "f": "feasible"}


def glpsol() -> str:
    """Return the path of glpsol.

    Raises
    ------
    ProgramError
        It is not installed.
    """
    path = shutil.which("glpsol")
    if path is None:
        raise ProgramError("GLPK's command glpsol is not installed; install glpk-utils or choose a HiGHS program")
    return path


class GlpkSession:
    """glpsol called once a solve, with a free MPS file in a temporary folder."""

    def __init__(self, model: LinearModel, time_limit_s: float) -> None:
        self.model = model
        self.timed_out = False
        self._command = glpsol()
        self._time_limit_s = time_limit_s
        self._changed: list[tuple[IntArray, FloatArray, FloatArray]] = []

    def set_bounds(self, columns: IntArray, lower: FloatArray, upper: FloatArray) -> None:
        """Replace the bounds of some columns."""
        self._changed.append((columns, lower, upper))

    def _bounds(self) -> tuple[FloatArray, FloatArray]:
        lower, upper = self.model.lower.copy(), self.model.upper.copy()
        for columns, low, high in self._changed:
            lower[columns], upper[columns] = low, high
        return lower, upper

    def solve_relaxation(self) -> Solution:
        """Solve without integrality."""
        return self._solve(["--nomip"], 0.0)

    def solve_integer(self, gap: float, nodes_max: int, start: FloatArray | None = None) -> Solution:
        """Solve with integrality to a relative gap; glpsol takes neither a node limit nor a known solution."""
        del nodes_max, start
        return self._solve(["--mipgap", repr(float(gap)), "--cuts", "--fpump"], gap)

    def _solve(self, options: list[str], gap: float) -> Solution:
        with tempfile.TemporaryDirectory(prefix="glpk-") as folder:
            problem, answer = Path(folder, "model.mps"), Path(folder, "answer.txt")
            lower, upper = self._bounds()
            with problem.open("w", encoding="ascii") as stream:
                stream.writelines(_mps(self.model, lower, upper))
            limit = ["--tmlim", str(int(np.ceil(self._time_limit_s)))]
            command = [self._command, "--freemps", str(problem), "--write", str(answer), *limit, *options]
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode or not answer.exists():
                raise ProgramError(f"glpsol failed: {done.stdout[-400:].decode(errors='replace').strip()}")
            self.timed_out |= b"TIME LIMIT EXCEEDED" in done.stdout
            return _read(answer, done.stdout, self.model, gap)


def _mps(model: LinearModel, lower: FloatArray, upper: FloatArray) -> Iterator[str]:
    """Write the model in the free MPS format, column by column."""
    row_lower, row_upper = model.row_lower, model.row_upper
    equal = row_lower == row_upper
    free = np.isinf(row_lower) & np.isinf(row_upper)
    kind = np.where(free, "N", np.where(equal, "E", np.where(np.isinf(row_upper), "G", "L")))
    yield "NAME model\nROWS\n N cost\n"
    yield from (f" {k} r{i}\n" for i, k in enumerate(kind))
    yield "COLUMNS\n"
    matrix = model.matrix().tocsc()
    cost, integer = model.cost.tolist(), model.integer.tolist()
    inside = False
    for j in range(model.n_column):
        if integer[j] != inside:
            marker = "INTORG" if integer[j] else "INTEND"
            yield f" m{j} 'MARKER' '{marker}'\n"
            inside = integer[j]
        yield f" c{j} cost {cost[j]!r}\n"
        span = slice(matrix.indptr[j], matrix.indptr[j + 1])
        pairs = zip(matrix.indices[span].tolist(), matrix.data[span].tolist(), strict=True)
        yield from (f" c{j} r{i} {value!r}\n" for i, value in pairs)
    if inside:
        yield " mend 'MARKER' 'INTEND'\n"
    yield "RHS\n"
    right = np.where(kind == "G", row_lower, row_upper)
    yield from (f" rhs r{i} {value!r}\n" for i, value in enumerate(right.tolist()) if kind[i] != "N" and value)
    yield "RANGES\n"
    ranged = np.flatnonzero(np.isfinite(row_lower) & np.isfinite(row_upper) & ~equal)
    yield from (f" range r{i} {float(row_upper[i] - row_lower[i])!r}\n" for i in ranged)
    yield "BOUNDS\n"
    yield from _mps_bounds(lower.tolist(), upper.tolist())
    yield "ENDATA\n"


def _mps_bounds(lower: list[float], upper: list[float]) -> Iterator[str]:
    infinite = float("inf")
    for j, (low, high) in enumerate(zip(lower, upper, strict=True)):
        if low == high:
            yield f" FX b c{j} {low!r}\n"
        elif low == -infinite and high == infinite:
            yield f" FR b c{j}\n"
        else:
            yield f" MI b c{j}\n" if low == -infinite else f" LO b c{j} {low!r}\n"
            yield f" PL b c{j}\n" if high == infinite else f" UP b c{j} {high!r}\n"


def _read(answer: Path, printed: bytes, model: LinearModel, gap: float) -> Solution:
    """Read glpsol's solution file (GLPK reference manual, `glp_write_sol` and `glp_write_mip`)."""
    x, reduced, dual = np.zeros(model.n_column), np.zeros(model.n_column), np.zeros(model.n_row + 1)
    head: list[str] = []
    with answer.open(encoding="ascii") as stream:
        for line in stream:
            part = line.split()
            if part[0] == "s":
                head = part
            elif part[0] == "j":
                j = int(part[1]) - 1
                x[j] = float(part[2] if head[1] == "mip" else part[3])
                reduced[j] = 0.0 if head[1] == "mip" else float(part[4])
            elif part[0] == "i" and head[1] == "bas":
                dual[int(part[1]) - 1] = float(part[4])
    mixed = head[1] == "mip"
    objective = float(head[-1]) + model.offset
    status = _FOUND.get(head[4], "no solution") if mixed else _basic_status(head[4], head[5])
    if status not in {"optimal", "feasible"}:
        proven = b"NO PRIMAL FEASIBLE" in printed or b"NO INTEGER FEASIBLE" in printed
        status = "unbounded" if status == "unbounded" else "infeasible" if proven else "no solution"
        return Solution.missing(status)
    if not mixed:
        first = int(head[2]) - model.n_row
        return Solution(status, x, objective, objective, dual[first : first + model.n_row], reduced)
    bounds = [float(text) + model.offset for text in _PROGRESS.findall(printed) if text not in {b"-inf", b"tree"}]
    bound = bounds[-1] - 1e-8 * abs(bounds[-1]) if bounds else -np.inf
    if status == "optimal":
        bound = max(bound, objective - gap * abs(float(head[-1])))
    return Solution(status, x, objective, min(bound, objective))


def _basic_status(primal: str, dual: str) -> str:
    if primal == "f" and dual == "f":
        return "optimal"
    if primal == "f" and dual == "n":
        return "unbounded"
    return "no solution"
