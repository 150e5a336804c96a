"""HiGHS as a back end of `LinearModel`: warm starts, single thread, fixed seed."""

from __future__ import annotations

import logging

import highspy
import numpy as np
import scipy.sparse as sp

from bos_core.grid.model import FloatArray, IntArray
from bos_core.objects.errors import ProgramError
from slots.linear_model import LinearModel, Solution

log = logging.getLogger(__name__)
_STATUS = {
    highspy.HighsModelStatus.kOptimal: "optimal",
    highspy.HighsModelStatus.kInfeasible: "infeasible",
    highspy.HighsModelStatus.kUnbounded: "unbounded",
    highspy.HighsModelStatus.kUnboundedOrInfeasible: "infeasible",
}
_NO_VERDICT = {highspy.HighsModelStatus.kNotset, highspy.HighsModelStatus.kUnknown}
_OTHER_WAYS = (("presolve", "off", "choose"), ("solver", "ipm", "choose"))
"""Options to try, one at a time, where a badly scaled model ends without a verdict, and their usual values."""

INTERIOR_ROWS = 80_000
"""From this many rows on, a solve without a basis takes the interior point method, in half the simplex time."""

FRESH_ROWS = 200
"""From this many new rows on, presolving afresh is quicker than going on from the last basis (about 3 times)."""


class HighsSession:
    """HiGHS holding a growing model; a later solve starts from the basis of the last one.

    Parameters
    ----------
    model : LinearModel
    time_limit_s : float
        Safety net for one solve; results stay reproducible as long as it does not bind.
    presolve : bool
        Off pays for small, dense models, whose presolve takes longer than the simplex method.
    """

    def __init__(self, model: LinearModel, time_limit_s: float, *, presolve: bool = True) -> None:
        self.model = model
        self.timed_out = False
        self._columns = 0
        self._rows = 0
        self._highs = highspy.Highs()
        options: dict[str, object] = {"output_flag": False, "threads": 1, "random_seed": 0, "parallel": "off"}
        options |= {"time_limit": float(time_limit_s), "presolve": "choose" if presolve else "off"}
        for name, value in options.items():
            self._highs.setOptionValue(name, value)
        self._time_limit_s = time_limit_s
        self._integral = False
        self._has_basis = False

    def _send_new(self) -> None:
        model, highs = self.model, self._highs
        columns, rows = self._columns, self._rows
        if model.n_column > self._columns:
            new = slice(self._columns, model.n_column)
            count = model.n_column - self._columns
            cost, lower, upper = model.cost[new], model.lower[new], model.upper[new]
            known = model.columns_matrix(columns, rows)
            start, index = known.indptr[:-1].astype(np.int32), known.indices.astype(np.int32)
            highs.addCols(count, cost, lower, upper, known.nnz, start, index, known.data)
            self._columns = model.n_column
        if model.n_row > self._rows:
            matrix = model.matrix(self._rows)
            lower, upper = model.row_lower[self._rows :], model.row_upper[self._rows :]
            start, index = matrix.indptr[:-1].astype(np.int32), matrix.indices.astype(np.int32)
            highs.addRows(model.n_row - self._rows, lower, upper, matrix.nnz, start, index, matrix.data)
            self._rows = model.n_row
            if rows and matrix.shape[0] > FRESH_ROWS:
                highs.clearSolver()
                self._has_basis = False
            elif rows and model.n_column > columns:
                self._pivot_definitions(columns, rows, matrix)
        highs.changeObjectiveOffset(model.offset)

    def _pivot_definitions(self, first_column: int, first_row: int, matrix: sp.csr_matrix) -> None:
        """Put new free columns that new equality rows define into the basis: they need no simplex step."""
        model = self.model
        free = np.zeros(model.n_column, bool)
        free[first_column:] = np.isinf(model.lower[first_column:]) & np.isinf(model.upper[first_column:])
        if not free.any():
            return
        basis = self._highs.getBasis()
        if not basis.valid:
            return
        equal = model.row_lower[first_row:] == model.row_upper[first_row:]
        marks = sp.csr_matrix((free[matrix.indices].astype(np.int64), matrix.indices, matrix.indptr), matrix.shape)
        definition = np.flatnonzero(equal & (np.asarray(marks.sum(axis=1)).ravel() == 1))
        marks = marks[definition]
        marks.eliminate_zeros()
        defined, which = np.unique(marks.indices, return_index=True)
        column, row = basis.col_status, basis.row_status
        for j, i in zip(defined.tolist(), (definition[which] + first_row).tolist(), strict=True):
            column[j] = highspy.HighsBasisStatus.kBasic
            row[i] = highspy.HighsBasisStatus.kLower
        basis.col_status, basis.row_status = column, row
        self._highs.setBasis(basis)

    def set_bounds(self, columns: IntArray, lower: FloatArray, upper: FloatArray) -> None:
        """Replace the bounds of some columns."""
        self._send_new()
        if columns.size:
            self._highs.changeColsBounds(columns.size, columns.astype(np.int32), lower, upper)

    def set_row_bounds(self, rows: IntArray, lower: FloatArray, upper: FloatArray) -> None:
        """Replace the bounds of some rows."""
        self._send_new()
        if rows.size:
            self._highs.changeRowsBounds(rows.size, rows.astype(np.int32), lower, upper)

    def _set_integrality(self, wanted: bool) -> None:
        self._integral = wanted
        integer = np.flatnonzero(self.model.integer).astype(np.int32)
        kind = highspy.HighsVarType.kInteger if wanted else highspy.HighsVarType.kContinuous
        if integer.size:
            self._highs.changeColsIntegrality(integer.size, integer, np.full(integer.size, kind))

    def _run(self) -> str:
        limit = self._highs.getRunTime() + self._time_limit_s
        self._highs.setOptionValue("time_limit", limit)
        self._highs.run()
        status = self._highs.getModelStatus()
        for option, value, usual in _OTHER_WAYS:
            if status not in _NO_VERDICT:
                break
            self._highs.clearSolver()
            self._highs.setOptionValue(option, value)
            self._highs.run()
            self._highs.setOptionValue(option, usual)
            status = self._highs.getModelStatus()
        if status in {highspy.HighsModelStatus.kSolveError, highspy.HighsModelStatus.kModelError}:
            said = self._highs.modelStatusToString(status)
            raise ProgramError(f"HiGHS failed with {said!r}; try the GLPK program")
        late = status in _NO_VERDICT and self._highs.getRunTime() >= limit
        if late or status == highspy.HighsModelStatus.kTimeLimit:
            self.timed_out = True
            if not self._integral:
                self._highs.clearSolver()  # an unfinished basis is a worse start than none
                self._has_basis = False
        return _STATUS.get(status, "feasible")

    def solve_relaxation(self) -> Solution:
        """Solve without integrality."""
        self._send_new()
        self._set_integrality(False)
        interior = self._rows >= INTERIOR_ROWS and not self._has_basis
        self._highs.setOptionValue("solver", "ipm" if interior else "choose")
        status = self._run()
        self._highs.setOptionValue("solver", "choose")
        if status != "optimal":
            status = "no solution" if status == "feasible" else status
            return Solution.missing(status)
        self._has_basis = True
        found = self._highs.getSolution()
        objective = float(self._highs.getInfo().objective_function_value)
        x, row_dual, column_dual = (np.array(v) for v in (found.col_value, found.row_dual, found.col_dual))
        return Solution(status, x, objective, objective, row_dual, column_dual)

    def solve_integer(self, gap: float, nodes_max: int, start: FloatArray | None = None) -> Solution:
        """Solve with integrality to a relative gap; `start` is a known solution."""
        self._send_new()
        self._set_integrality(True)
        self._highs.setOptionValue("mip_rel_gap", float(gap))
        self._highs.setOptionValue("mip_max_nodes", int(nodes_max))
        if start is not None:
            known = highspy.HighsSolution()
            known.col_value = start.tolist()
            self._highs.setSolution(known)
        status = self._run()
        info = self._highs.getInfo()
        bound = float(info.mip_dual_bound)
        if status in {"infeasible", "unbounded"} or info.primal_solution_status != 2:
            status = "no solution" if status not in {"infeasible", "unbounded"} else status
            return Solution.missing(status, bound)
        x = np.array(self._highs.getSolution().col_value)
        return Solution(status, x, float(info.objective_function_value), bound)
