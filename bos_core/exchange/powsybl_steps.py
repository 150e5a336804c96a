"""Steps of tap changers and shunts in pypowsybl networks, where the ontology can move them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bos_core.grid.model import ComplexArray, FloatArray

LINEAR = 1e-9
SECTION = 1e-4
"""Sections of shunts may differ by this share of a step; files round them."""


class Taps:
    """Tap changers whose steps add equal voltages, or turn by equal angles; the rest is fixed at its position.

    Attributes
    ----------
    present : (transformer,) complex
        Turn of the from side at the present position, relative to neutral.
    """

    def __init__(self, network: Any, frame: pd.DataFrame) -> None:
        n = len(frame)
        self.movable = np.zeros(n, bool)
        self.shifter = np.zeros(n, bool)
        self.neutral, self.low, self.high, self.position = np.full((4, n), np.nan)
        self.step_percent, self.step_deg = np.full((2, n), np.nan)
        self.present = np.ones(n, complex)
        self.frozen = 0
        ratio = (network.get_ratio_tap_changers(), network.get_ratio_tap_changer_steps())
        phase = (network.get_phase_tap_changers(), network.get_phase_tap_changer_steps())
        for k, identifier in enumerate(frame.index):
            found = [(c, s) for c, s in (ratio, phase) if identifier in c.index]
            moved = False
            for changers, steps in found:
                if not moved:
                    moved = self._read(k, changers.loc[identifier], steps.loc[identifier].sort_index())
            self.frozen += len(found) - int(moved)

    def _read(self, k: int, changer: Any, steps: pd.DataFrame) -> bool:
        """Take the changer as transformer `k`'s movable one; say whether the ontology can hold it."""
        position = np.asarray(steps.index, dtype=float)
        alpha = steps["alpha"].to_numpy(dtype=float) if "alpha" in steps else np.zeros(position.size)
        turn = np.exp(-1j * np.deg2rad(alpha)) / steps["rho"].to_numpy(dtype=float)
        at = int(np.argmin(np.abs(turn - 1.0)))
        turn = turn / turn[at]
        angle = np.rad2deg(np.angle(turn))
        # Impedances may differ by step; what the transformer has is that of the present one.
        constant = bool((np.ptp(steps[["r", "x", "g", "b"]].to_numpy(dtype=float), axis=0) < LINEAR).all())
        adds = _even(position, turn)
        turns = bool((np.abs(np.abs(turn) - 1.0) < LINEAR).all()) and _even(position, angle)
        if position.size < 2 or not constant or not (adds or turns):
            return False
        steps_apart = position[-1] - position[0]
        if adds:
            added = (turn[-1] - turn[0]) / steps_apart
            along = abs(added.imag) < LINEAR
            self.step_percent[k] = 100.0 * (added.real if along else abs(added))
            self.step_deg[k] = 0.0 if along else np.rad2deg(np.angle(added))
        else:
            self.shifter[k], self.step_deg[k] = True, (angle[-1] - angle[0]) / steps_apart
        now = int(changer["tap"])
        self.movable[k] = True
        self.neutral[k], self.position[k] = position[at], now
        self.low[k], self.high[k] = position[0], position[-1]
        self.present[k] = turn[int(np.flatnonzero(position == now)[0])]
        return True


def _even(position: FloatArray, values: NDArray[Any]) -> bool:
    """Whether values, real or complex, lie at equal distances along a straight line."""
    line = values[0] + (values[-1] - values[0]) * (position - position[0]) / max(position[-1] - position[0], 1.0)
    return bool(np.abs(line - values).max() <= 1e-6 * max(1.0, float(np.abs(values[-1] - values[0]))))


def section_admittances(network: Any, shunts: pd.DataFrame) -> list[ComplexArray]:
    """Return for every shunt its admittance in siemens with 0, 1, ... sections on."""
    linear = network.get_linear_shunt_compensator_sections().fillna(0.0)
    listed = network.get_non_linear_shunt_compensator_sections().fillna(0.0)
    found = []
    for identifier, most in zip(shunts.index, shunts["max_section_count"].tolist(), strict=True):
        if identifier in linear.index:
            row = linear.loc[identifier]
            found.append(np.arange(most + 1) * complex(row["g_per_section"], row["b_per_section"]))
        else:
            rows = listed.loc[identifier].sort_index()
            found.append(np.append(0j, rows["g"].to_numpy() + 1j * rows["b"].to_numpy()))
    return found


def shunt_steps(y: ComplexArray, present: int) -> tuple[complex, int, int, int] | None:
    """Return (admittance of a step, lowest, highest, present step) of a shunt that switches whole steps.

    `y` are the admittances with 0, 1, ... sections on. None: the sections are no whole multiples of a step.
    """
    unit = y[np.argmin(np.where(y == 0, np.inf, np.abs(y)))]
    if unit == 0:
        return None
    share = y / unit
    step = np.round(share.real).astype(np.int64)
    if np.abs(share - step).max() > SECTION or np.unique(step).size != np.ptp(step) + 1:
        return None
    return complex(unit), int(step.min()), int(step.max()), int(step[present])
