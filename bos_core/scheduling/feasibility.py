"""Can the containers that there are keep all deadlines? Earliest deadline first, by list simulation."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from bos_core.scheduling.policies import FloatArray


def completion_s(
    duration_s: FloatArray, fits: np.ndarray, deadline_s: FloatArray, free_s: Sequence[Sequence[float]]
) -> FloatArray:
    """Return when each task would be complete if tasks started by deadline, each on the first container that fits.

    Parameters
    ----------
    duration_s : (task, size)
        Predicted duration on a container of a size.
    fits : (task, size) bool
        Whether the task may run there.
    deadline_s : (task,)
    free_s : sequence by size of sequences
        When each container of a size is free.

    Returns
    -------
    (task,) array
        Seconds on the clock of `free_s`; infinite for a task that fits nowhere.
    """
    heaps = [list(times) for times in free_s]
    for heap in heaps:
        heapq.heapify(heap)
    usable = (fits & np.array([bool(heap) for heap in heaps])).tolist()
    sizes = range(len(heaps))
    length = duration_s.tolist()
    done = np.full(deadline_s.size, np.inf)
    for task in np.argsort(deadline_s, kind="stable").tolist():
        best, best_end = -1, np.inf
        for size in sizes:
            if usable[task][size] and (end := heaps[size][0] + length[task][size]) < best_end:
                best, best_end = size, end
        if best >= 0:
            heapq.heapreplace(heaps[best], best_end)
            done[task] = best_end
    return done
