"""Tasks onto given containers: dear classes first, each on the smallest sizes with time before its deadline."""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from slots.container_sizing.contract import Inputs, capacity_s, usable


class Filling:
    """Says which tasks containers leave late; work is divisible."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        may: BoolArray = usable(inputs)
        sizes = np.lexsort((inputs.size_cost, inputs.size_memory_mb))
        self._sizes = [[int(size) for size in sizes if row[size]] for row in may]
        dearness = inputs.late_cost / inputs.duration_s.min(axis=1, initial=np.inf)
        self._order = np.argsort(-dearness, kind="stable").tolist()

    def late(self, containers: IntArray) -> FloatArray:
        """Return the tasks of each class that the containers of each size cannot complete in time."""
        inputs = self.inputs
        room = capacity_s(inputs, containers)
        duration, late = inputs.duration_s, inputs.count.astype(float)
        for row in self._order:
            for size in self._sizes[row]:
                # What a class takes is missing at its own deadline and at all later ones.
                tasks = min(late[row], room[row:, size].min() / duration[row, size])
                if tasks > 1e-9:
                    room[row:, size] -= tasks * duration[row, size]
                    late[row] -= tasks
                if late[row] <= 1e-9:
                    late[row] = 0.0
                    break
        return late
