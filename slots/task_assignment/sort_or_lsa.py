"""A3 exactly and fast: by sorting where no container is quicker than another, else as a linear sum assignment.

Where each task takes equally long on all containers that it may use, and those sets are nested or disjoint (as
memory makes them), the tasks that can be served together form a transversal matroid: taking tasks by gain, each on
the free container that the fewest others may use, is optimal. Otherwise formula (1) is a linear sum assignment
problem, because leaving a task where it is costs nothing beyond a constant.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.objects.contracts import ProgramManifest
from slots.task_assignment.contract import Inputs, Outputs, admissible, objective

MANIFEST = ProgramManifest(
    name="sort_or_lsa",
    slot="task_assignment",
    version="1.0.0",
    title="Sort, or linear sum assignment",
    description="Exact for formula (1): a greedy order where containers are equally quick and memory alone "
    "decides, the assignment problem elsewhere.",
    references=(
        "Edmonds: Matroids and the greedy algorithm, 1971",
        "Crouse: On implementing 2D rectangular assignment algorithms, 2016",
    ),
)


def run(inputs: Inputs, parameters: object) -> Outputs:
    """Assign the tasks."""
    may = admissible(inputs)
    gain = inputs.weight[:, None] * (inputs.deferred_s[:, None] - inputs.duration_s)
    may &= gain > 0
    patterns, of_task = _patterns(may)
    if _equally_quick(inputs.duration_s, may) and _nested(patterns):
        best = np.where(may, gain, 0.0).max(axis=1, initial=0.0)
        container, method = _by_gain(best, patterns, of_task), "sort"
    else:
        container, method = _lsa(np.where(may, gain, 0.0), may), "linear sum assignment"
    value = objective(inputs, container)
    return Outputs(container, value, value, method)


def _patterns(may: BoolArray) -> tuple[BoolArray, IntArray]:
    """Return the different sets of containers that tasks may use, and which is whose."""
    packed = np.ascontiguousarray(np.packbits(may, axis=1))
    if not packed.size:
        return may[:0], np.zeros(may.shape[0], np.int64)
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, of_task = np.unique(keys, return_index=True, return_inverse=True)
    return may[first], of_task.astype(np.int64)


def _equally_quick(duration_s: FloatArray, may: BoolArray) -> bool:
    low = np.where(may, duration_s, np.inf).min(axis=1, initial=np.inf)
    high = np.where(may, duration_s, -np.inf).max(axis=1, initial=-np.inf)
    return bool((high <= low).all())


def _nested(patterns: BoolArray) -> bool:
    """Whether any two sets are disjoint, or one contains the other."""
    sets = patterns.astype(np.int64)
    common = sets @ sets.T
    size = np.diag(common)
    return bool(((common == 0) | (common == np.minimum(size[:, None], size))).all())


def _by_gain(gain: FloatArray, patterns: BoolArray, of_task: IntArray) -> IntArray:
    """Take tasks by gain, each on the free container that the fewest sets hold."""
    container = np.full(gain.size, -1, np.int64)
    shared = patterns.sum(axis=0)
    order = np.argsort(shared, kind="stable")
    queues = [order[row[order]].tolist()[::-1] for row in patterns]
    free = np.ones(shared.size, bool)
    left = int((shared > 0).sum())
    for task in np.lexsort((np.arange(gain.size), -gain)).tolist():
        if not left:
            break
        queue = queues[of_task[task]]
        while queue and not free[queue[-1]]:
            queue.pop()
        if queue:
            place = queue.pop()
            container[task], free[place], left = place, False, left - 1
    return container


def _lsa(gain: FloatArray, may: BoolArray) -> IntArray:
    container = np.full(gain.shape[0], -1, np.int64)
    task, place = linear_sum_assignment(gain, maximize=True)
    chosen = may[task, place]
    container[task[chosen]] = place[chosen]
    return container
