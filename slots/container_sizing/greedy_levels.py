"""Formula (2) by taking away what nobody misses, and adding or exchanging containers for what would be late."""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import FloatArray, IntArray
from bos_core.objects.contracts import ProgramManifest
from slots.container_sizing.contract import Inputs, Outputs, must_stay, objective
from slots.container_sizing.filling import Filling

MANIFEST = ProgramManifest(
    name="greedy_levels",
    slot="container_sizing",
    version="1.0.0",
    title="Grow and prune",
    description="Normal mode takes away what is superfluous, guarantee mode adds or exchanges containers for late "
    "tasks; quick, but without a bound.",
)

ROUNDS_MAX = 200


def run(inputs: Inputs, parameters: object) -> Outputs:
    """Decide."""
    filling = Filling(inputs)
    change = _grown if inputs.may_grow else _pruned
    containers = change(inputs, filling, inputs.current.copy())
    late = filling.late(containers.sum(axis=0))
    return Outputs(containers, late, objective(inputs, containers, late), 0.0)


def _value(inputs: Inputs, filling: Filling, containers: IntArray) -> float:
    return objective(inputs, containers, filling.late(containers.sum(axis=0)))


def _grown(inputs: Inputs, filling: Filling, containers: IntArray) -> IntArray:
    """Add containers for the late class that costs most, as many as it lacks and as fit, until nothing helps."""
    hopeless = np.zeros(inputs.count.size, bool)
    for _ in range(ROUNDS_MAX):
        late = filling.late(containers.sum(axis=0))
        cost = np.where(hopeless, 0.0, inputs.late_cost * late)
        if not (cost > 1e-6).any():
            break
        row = int(cost.argmax())
        if (better := _better(inputs, filling, containers, late, row)) is None:
            hopeless[row] = True
        else:
            containers, hopeless = better, np.zeros_like(hopeless)
    return containers


def _better(inputs: Inputs, filling: Filling, containers: IntArray, late: FloatArray, row: int) -> IntArray | None:
    """Return more containers of the cheapest size that lets tasks of a class be in time; None if none does.

    Where servers have no room, containers make way that the class does not fit, or larger ones.
    """
    value = objective(inputs, containers, late)
    in_time = inputs.fits[row] & (inputs.duration_s[row] <= inputs.slack_s[row])
    cheapest = np.lexsort((inputs.size_memory_mb, inputs.size_cost))
    for size in cheapest[in_time[cheapest]].tolist():
        lack = max(1, int(np.ceil(late[row] * inputs.duration_s[row, size] / inputs.slack_s[row] - 1e-9)))
        trial = _filled(inputs, containers, size, lack)
        if _value(inputs, filling, trial) < value - 1e-9:
            return trial
        for server, other in np.argwhere(containers > must_stay(inputs)).tolist():
            if inputs.fits[row, other] and inputs.size_memory_mb[other] <= inputs.size_memory_mb[size]:
                continue
            for step in (1, int(containers[server, other] - must_stay(inputs)[server, other])):
                trial = containers.copy()
                trial[server, other] -= step
                trial = _filled(inputs, trial, size, lack)
                if _value(inputs, filling, trial) < value - 1e-9:
                    return trial
    return None


def _filled(inputs: Inputs, containers: IntArray, size: int, lack: int) -> IntArray:
    """Return containers with up to `lack` more of a size, on the servers with most memory left."""
    found = containers.copy()
    for server in np.argsort(-_free_mb(inputs, containers), kind="stable").tolist():
        fitting = min(lack, _room(inputs, found, server, size))
        found[server, size] += fitting
        lack -= fitting
    return found


def _free_mb(inputs: Inputs, containers: IntArray) -> IntArray:
    return inputs.server_memory_mb - containers @ inputs.size_memory_mb


def _room(inputs: Inputs, containers: IntArray, server: int, size: int) -> int:
    """Return how many more containers of a size a server takes."""
    memory = _free_mb(inputs, containers)[server] // inputs.size_memory_mb[size]
    cpu = inputs.server_cpu_cores[server] - containers[server] @ inputs.size_cpu_cores
    per_core = inputs.size_cpu_cores[size]
    return max(0, int(min(memory, np.floor(cpu / per_core + 1e-9) if per_core > 0 else memory)))


def _pruned(inputs: Inputs, filling: Filling, containers: IntArray) -> IntArray:
    """Take away the containers whose cost is above what they save, the dearest size first."""
    value = _value(inputs, filling, containers)
    for size in np.argsort(-inputs.size_cost, kind="stable").tolist():
        for server in np.argsort(_free_mb(inputs, containers), kind="stable").tolist():
            step = int(containers[server, size])
            while step:
                trial = containers.copy()
                trial[server, size] -= step
                if trial[server, size] >= 0 and (less := _value(inputs, filling, trial)) < value - 1e-9:
                    containers, value = trial, less
                else:
                    step //= 2
    return containers
