"""A3 as the mixed-integer programme that formula (1) is, written in Pyomo and solved by HiGHS or GLPK."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyomo.environ as pyo
from pydantic import Field

from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from bos_core.objects.errors import ProgramError
from slots.glpk_session import glpsol
from slots.task_assignment.contract import Inputs, Outputs, admissible, objective


class Parameters(ProgramParameters):
    """What an operator may set."""

    solver: Literal["highs", "glpk"] = "highs"
    """The optimiser."""
    gap: float = Field(1e-6, ge=0, le=0.1)
    """Relative gap between the value and its bound that is good enough."""
    time_limit_s: float = Field(60.0, gt=0)
    """Safety net for one cycle."""


MANIFEST = ProgramManifest(
    name="formula_milp",
    slot="task_assignment",
    version="1.0.0",
    title="Formula (1) as a MILP",
    description="The programme as the paper states it, with the mended deadlines, for any optimiser of Pyomo's; "
    "slow for more than some hundred tasks.",
    parameters=Parameters,
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Assign the tasks."""
    may = admissible(inputs) & (inputs.duration_s < inputs.deferred_s[:, None])
    pairs = [(int(t), int(p)) for t, p in np.argwhere(may)]
    container = np.full(inputs.weight.size, -1, np.int64)
    if not pairs:
        value = objective(inputs, container)
        return Outputs(container, value, value, parameters.solver)
    model = pyo.ConcreteModel()
    model.pairs = pyo.Set(initialize=pairs, dimen=2)
    model.assigned = pyo.Var(model.pairs, domain=pyo.Binary)
    of_task: dict[int, list[int]] = {}
    of_container: dict[int, list[int]] = {}
    for task, place in pairs:
        of_task.setdefault(task, []).append(place)
        of_container.setdefault(place, []).append(task)
    model.one_container = pyo.Constraint(
        list(of_task), rule=lambda m, t: pyo.quicksum(m.assigned[t, p] for p in of_task[t]) <= 1
    )
    model.one_task = pyo.Constraint(
        list(of_container), rule=lambda m, p: pyo.quicksum(m.assigned[t, p] for t in of_container[p]) <= 1
    )
    constant = float(inputs.weight @ inputs.deferred_s)
    change = inputs.weight[:, None] * (inputs.duration_s - inputs.deferred_s[:, None])
    model.completion = pyo.Objective(
        expr=constant + pyo.quicksum(float(change[pair]) * model.assigned[pair] for pair in pairs)
    )
    bound = _solve(model, parameters)
    for task, place in pairs:
        if pyo.value(model.assigned[task, place]) > 0.5:
            container[task] = place
    return Outputs(container, objective(inputs, container), bound / inputs.weight.size, parameters.solver)


def _solve(model: pyo.ConcreteModel, parameters: Parameters) -> float:
    """Solve, leave the values in the model and return the bound."""
    if parameters.solver == "glpk":
        solver = pyo.SolverFactory("glpk", executable=glpsol())
        solver.options["mipgap"], solver.options["tmlim"] = parameters.gap, max(1, round(parameters.time_limit_s))
    else:
        solver = pyo.SolverFactory("appsi_highs")
        solver.options = {"mip_rel_gap": parameters.gap, "time_limit": parameters.time_limit_s, "threads": 1}
    results = solver.solve(model, load_solutions=False)
    if results.solver.termination_condition != pyo.TerminationCondition.optimal:
        raise ProgramError(
            f"{parameters.solver} found no proven assignment within {parameters.time_limit_s:g} s; raise "
            "time_limit_s or gap, or choose sort_or_lsa"
        )
    if parameters.solver == "glpk":
        model.solutions.load_from(results)
    else:
        solver.load_vars()
    return float(results.problem.lower_bound)
