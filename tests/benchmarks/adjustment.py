"""Adjustment of hours that fail N-1: no peer does it, so time and what AC verification finds left are shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from frame import OURS, Accuracy, Bench, Row
from home import PlannedDay, planned_day
from n1 import hours_of
from timing import best_of

from bos_core.grid.model import IntArray
from bos_core.grid.n1 import DIVERGED, Criteria, N1Result, verify_outages
from bos_core.grid.n1_cases import CRITERION_TOLERANCE
from flows.step7_state_adjustment import room
from slots.state_adjustment import security_constrained_redispatch as redispatch
from slots.state_adjustment.contract import Inputs, Outputs

TITLE = "Adjustment of hours under N-1; no peer exists"
PACKAGES = ("numpy", "scipy", "numba", "highspy", "simbench")
SIZE = "hours"
HOURS = 3
BASE_CASE = -1
RESIDUAL_PU = 1e-6


def run(bench: Bench, budget_s: float) -> None:
    """Adjust hours of the planned day as the chain's step 7 does, and verify every outage again."""
    bench.settings |= {
        "peer": "none: no tool redispatches for every outage by AC and shows what cannot be removed",
        "judge": "verify_outages of all outages with reactive limits, before and after",
    }
    with bench.doing("preparing the planned day"):
        day = planned_day(bench)
    count = day.states.vm_pu.shape[0]
    chosen = np.linspace(0, count - 1, HOURS).astype(int)
    for hour in chosen:
        _adjust(bench, day, int(hour))


def _adjust(bench: Bench, day: PlannedDay, hour: int) -> None:
    inputs, before = _inputs(day, hour)
    group = f"hour {day.hours.start + hour}, {day.grid.network.n_bus} buses, {day.outages.size:,} outages"
    with bench.doing(group):
        times, answer = best_of(
            lambda: redispatch.run(inputs, redispatch.Parameters()), runs_max=2, budget_s=10.0, warm_up=hour == 0
        )
    after = _verify(day, answer.states)
    figures = {
        **{f"{key}_before": value for key, value in _violations(before).items()},
        **{f"{key}_after": value for key, value in _violations(after).items()},
        **_moved(answer),
    }
    note = (
        f"Pairs with violations {figures['pairs_before']} to {figures['pairs_after']}, excess of loading "
        f"{figures['excess_before']:.1f} to {figures['excess_after']:.1f}, {figures['moved_mw']:.0f} MW moved, "
        f"{figures['relaxed']} limits relaxed"
    )
    accuracy = (
        Accuracy("residual p.u.", float(answer.residual_pu.max()), RESIDUAL_PU),
        Accuracy("excess after over before", figures["excess_after"] / max(figures["excess_before"], 1e-9), 1.0),
    )
    bench.add(Row(group, 1, OURS, "hour", times, accuracy, figures, note, reference=True))


def _moved(answer: Outputs) -> dict[str, Any]:
    return {
        "moved_mw": float(answer.moved_mw.sum()), "curtailed_mw": float(answer.curtailed_mw.sum()),
        "shed_mw": float(answer.shed_mw.sum()), "relaxed": int(answer.relaxed_hour.size),
        "rounds": int(answer.rounds[0]), "outcome": int(answer.outcome[0]),
    }  # fmt: skip


def _verify(day: PlannedDay, states: Any) -> N1Result:
    c = day.criteria
    criteria = Criteria(c.vm_contingency_pu_min, c.vm_contingency_pu_max, c.loading_contingency_max)
    return verify_outages(day.grid, states, day.outages, criteria)


def _violations(result: N1Result) -> dict[str, float]:
    pairs = set(result.overloads.contingency.tolist()) | set(result.voltages.contingency.tolist())
    return {
        "pairs": len(pairs),
        "overloads": int(result.overloads.value.size),
        "voltages": int(result.voltages.value.size),
        "excess": float((result.overloads.value - 1.0).clip(0).sum()),
        "diverged": int((result.extremes.outcome == DIVERGED).sum()),
    }  # fmt: skip


def _inputs(day: PlannedDay, hour: int) -> tuple[Inputs, N1Result]:
    states = hours_of(day.states, np.array([hour]))
    found, c, outages = _verify(day, states), day.criteria, day.outages
    low, high = room(day.reader("reactive_dispatch"), day.grid, np.array([day.hours.start + hour]))
    base_hour, base_branch = np.nonzero(found.base_loading > c.loading_max + CRITERION_TOLERANCE)

    def joined(after: np.ndarray, base: np.ndarray) -> IntArray:
        return np.concatenate([after, base])

    inputs = Inputs(
        grid=day.grid, states=states, contingency_branch=outages, p_mw_low=low, p_mw_high=high,
        vm_pu_min=c.vm_pu_min, vm_pu_max=c.vm_pu_max, vm_contingency_pu_min=c.vm_contingency_pu_min,
        vm_contingency_pu_max=c.vm_contingency_pu_max, loading_max=c.loading_max,
        loading_contingency_max=c.loading_contingency_max,
        overload_hour=joined(found.overloads.hour, base_hour),
        overload_outage=joined(outages[found.overloads.contingency], np.full(base_hour.size, BASE_CASE)),
        overload_branch=joined(found.overloads.element, base_branch),
        overload_loading=np.concatenate([found.overloads.value, found.base_loading[base_hour, base_branch]]),
        voltage_hour=found.voltages.hour, voltage_outage=outages[found.voltages.contingency],
        voltage_bus=found.voltages.element, voltage_vm_pu=found.voltages.value,
    )  # fmt: skip
    return inputs, found
