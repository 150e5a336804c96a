"""Formula (2) as a mixed-integer programme, solved by HiGHS or GLPK."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from bos_core.grid.model import IntArray
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.container_sizing import greedy_levels
from slots.container_sizing.contract import Inputs, Outputs, must_stay, objective, usable
from slots.glpk_session import GlpkSession
from slots.highs_session import HighsSession
from slots.linear_model import LinearModel, Session


class Parameters(ProgramParameters):
    """What an operator may set."""

    solver: Literal["highs", "glpk"] = "highs"
    """The optimiser."""
    gap: float = Field(1e-4, ge=0, le=0.1)
    """Relative gap between the cost and its bound that is good enough."""
    nodes_max: int = Field(2000, ge=0, le=10_000_000)
    """Nodes of the search tree; GLPK knows a time limit only."""
    time_limit_s: float = Field(5.0, gt=0)
    """Safety net for one cycle; after it the better one of what was found and of greedy_levels is taken."""


MANIFEST = ProgramManifest(
    name="level_milp",
    slot="container_sizing",
    version="1.0.0",
    title="Formula (2) as a MILP",
    description="Containers by server and size that keep all deadlines at the least cost, with a bound.",
    parameters=Parameters,
    references=("Baruah, Rosier, Howell: The preemptive uniprocessor scheduling of sporadic tasks, 1990",),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Decide."""
    model, containers = _model(inputs)
    session: Session
    if parameters.solver == "glpk":
        session = GlpkSession(model, parameters.time_limit_s)
    else:
        session = HighsSession(model, parameters.time_limit_s)
    solution = session.solve_integer(parameters.gap, parameters.nodes_max)
    greedy = greedy_levels.run(inputs, None)
    if not solution.found:
        return Outputs(greedy.containers, greedy.late, greedy.objective, solution.bound)
    found = np.rint(solution.x[containers]).astype(np.int64)
    late = np.clip(solution.x[-inputs.count.size :], 0, inputs.count) if inputs.count.size else np.zeros(0)
    value = objective(inputs, found, late)
    if greedy.objective < value:
        return Outputs(greedy.containers, greedy.late, greedy.objective, solution.bound)
    return Outputs(found, late, value, solution.bound)


def _model(inputs: Inputs) -> tuple[LinearModel, IntArray]:
    """Return the programme, with the late tasks as its last columns, and the columns of the containers."""
    model = LinearModel()
    servers, sizes = inputs.current.shape
    current = inputs.current.sum(axis=0)
    largest = np.minimum(
        inputs.server_memory_mb[:, None] // inputs.size_memory_mb,
        np.floor(inputs.server_cpu_cores[:, None] / np.maximum(inputs.size_cpu_cores, 1e-9) + 1e-9),
    )
    most = np.maximum(largest, inputs.current) if inputs.may_grow else inputs.current
    containers = model.add_columns((servers, sizes), must_stay(inputs), most, inputs.size_cost, integer=True)
    change = model.add_columns((servers, sizes), 0.0, cost=inputs.change_cost)
    for sign in (1.0, -1.0):
        here = sign * inputs.current
        model.add_rows([(containers[..., None], sign), (change[..., None], -1.0)], -np.inf, here, (servers, sizes))
    kept = model.add_columns((sizes,), 0.0, current)
    grows = model.add_columns((sizes,), 0.0, float(inputs.may_grow), integer=True)
    in_time = model.add_columns(inputs.fits.shape, 0.0, np.where(usable(inputs), inputs.count[:, None], 0.0))
    late = model.add_columns(inputs.count.shape, 0.0, inputs.count, inputs.late_cost)
    # A server that holds more than it has (its limits were lowered) need not give up anything for this programme.
    for use, limit in (
        (inputs.size_memory_mb, inputs.server_memory_mb),
        (inputs.size_cpu_cores, inputs.server_cpu_cores),
    ):
        model.add_rows([(containers, use)], -np.inf, np.maximum(limit, inputs.current @ use), (servers,))
    # What is kept are the busy containers; there are others beside them only where all are kept.
    model.add_rows([(containers.T, 1.0), (kept[:, None], -1.0)], 0.0, np.inf, (sizes,))
    room = most.sum(axis=0) - current
    model.add_rows(
        [(containers.T, 1.0), (kept[:, None], -1.0), (grows[:, None], -np.maximum(room, 0.0)[:, None])],
        -np.inf, 0.0, (sizes,),
    )  # fmt: skip
    model.add_rows(
        [(kept[:, None], 1.0), (grows[:, None], -current[:, None].astype(float))], 0.0, np.inf, (sizes,)
    )
    model.add_rows([(in_time, 1.0), (late[:, None], 1.0)], inputs.count, inputs.count, inputs.count.shape)
    busy_each = inputs.busy_s / np.maximum(current, 1)
    for row in range(inputs.count.size):
        work = in_time[: row + 1].T
        slack = np.broadcast_to(-inputs.slack_s[row], (sizes, servers))
        terms = [
            (work, inputs.duration_s[: row + 1].T),
            (containers.T, slack),
            (kept[:, None], busy_each[row][:, None]),
        ]
        model.add_rows(terms, -np.inf, 0.0, (sizes,))
    return model, containers
