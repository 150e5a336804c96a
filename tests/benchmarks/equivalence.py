"""Static equivalents: ours against pandapower's ward and xward, by the full power flow at a second point."""

from __future__ import annotations

import copy
import logging
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandapower
from frame import OURS, Accuracy, Bench, Row
from networks import Case, builtin
from timing import Timing, best_of

from bos_core.grid.model import BoolArray, Snapshot
from bos_core.grid.power_flow import CONVERGED, solve_hours
from slots.equivalence import extended_ward, ward
from slots.equivalence.contract import Inputs

TITLE = "Static equivalent: time, and voltage error at kept buses against the full power flow"
PACKAGES = ("numpy", "scipy", "pandapower")
SAME_PU = 1e-6
SECOND_LIMIT_PU = 0.01
"""A voltage error at the second point up to this is called good."""
LOAD_CHANGE = 1.05
CASES = (("case118", 0.0), ("case300", 0.0), ("case1354pegase", 380.0), ("case2869pegase", 380.0))
"""Name and least voltage to keep, kV; 0: the first half of the buses, as they are numbered by area."""
PEER_S_MAX = 90.0
GROWTH = 5.0
"""About how much longer pandapower takes from one network to the next."""


@dataclass(frozen=True, eq=False)
class Points:
    """A case solved at two points, and what to keep: the second has 5 % more load at kept buses."""

    case: Case
    keep: BoolArray
    base: Snapshot
    second: Snapshot


def run(bench: Bench, budget_s: float) -> None:
    """Reduce every network with every method."""
    bench.settings |= {
        "second point": f"load at kept buses x {LOAD_CHANGE}, the slack balances; the full network is right",
        OURS: "extended_ward as the chain uses it, both replays included; weak branches dropped",
        "BOS ward": "the slot's plain Ward equivalent",
        "pandapower": "grid_equivalents.get_equivalent of the same kept buses; its checks by power flow included",
        "answers": "largest voltage error at kept buses at the base point, and the second's beside 0.01 p.u.",
    }
    cost: dict[str, float] = {}
    for name, kv in CASES:
        with bench.doing(f"solving {name}"):
            points = _points(builtin(name), kv)
        n, kept = points.case.n_bus, int(points.keep.sum())
        group = f"{n:,} buses ({name}) to about {kept:,}"
        _ours(bench, group, points)
        for kind in ("ward", "xward"):
            tool = f"pandapower {kind}"
            expected = cost.get(kind, 0.0) * GROWTH
            if expected > PEER_S_MAX:
                why = f"about {expected:.0f} s by growth from the size before; the limit is {PEER_S_MAX:g} s"
                bench.absent.append({"tool": tool, "what": group, "why": why})
                continue
            with bench.peer(tool, group):
                cost[kind] = _pandapower(bench, group, tool, kind, points)


def _points(case: Case, kv: float) -> Points:
    grid = case.grid
    keep = grid.network.base_kv >= kv if kv else np.arange(case.n_bus) < case.n_bus // 2
    keep[grid.network.slack] = True
    base = solve_hours(grid, case.snapshot.block(), enforce_q_limits=False, tol=1e-10)
    scale = np.where(keep[grid.loads.bus], LOAD_CHANGE, 1.0)
    more = replace(
        base.states, load_p_mw=base.states.load_p_mw * scale, load_q_mvar=base.states.load_q_mvar * scale
    )
    second = solve_hours(grid, more, enforce_q_limits=False, tol=1e-10)
    if base.outcome[0] != CONVERGED or second.outcome[0] != CONVERGED:
        raise RuntimeError(f"{case.name} has no solution at one of the points")
    return Points(case, keep, base.states.hour(0), second.states.hour(0))


def _row(
    group: str,
    tool: str,
    size: int,
    times: Timing,
    base: np.ndarray,
    second: np.ndarray,
    buses: int,
    reference: bool = False,
) -> Row:
    accuracy = (
        Accuracy("base dV p.u.", float(np.abs(base).max()), SAME_PU),
        Accuracy("second dV p.u.", float(np.abs(second).max()), SECOND_LIMIT_PU),
    )
    figures = {"buses": buses, "second_dvm_median_pu": float(np.median(np.abs(second)))}
    note = f"{buses:,} buses, second point: median {figures['second_dvm_median_pu']:.1e} p.u."
    return Row(group, size, tool, "reduction", times, accuracy, figures, note, reference=reference)


def _ours(bench: Bench, group: str, points: Points) -> None:
    inputs = Inputs(points.case.grid, points.base, points.keep, points.second)
    for tool, program in ((OURS, extended_ward), ("BOS ward", ward)):
        with bench.peer(tool, group):
            times, made = best_of(lambda p=program: p.run(inputs, p.Parameters()), budget_s=3.0, runs_max=5)
            bench.add(
                _row(
                    group, tool, points.case.n_bus, times, made.base_dvm_pu, made.second_dvm_pu,
                    made.kept_bus.size, reference=tool == OURS,
                )
            )  # fmt: skip


def _pandapower(bench: Bench, group: str, tool: str, kind: str, points: Points) -> float:
    from pandapower.grid_equivalents import get_equivalent

    logging.getLogger("pandapower").setLevel(logging.CRITICAL)
    case, network = points.case, points.case.grid.network
    net = copy.deepcopy(case.net)
    how: dict[str, Any] = {
        "trafo_model": "t",
        "calculate_voltage_angles": True,
        "tolerance_mva": 1e-7,
        "init": "dc",
    }
    kept = np.flatnonzero(points.keep)
    crossing = points.keep[network.from_bus] != points.keep[network.to_bus]
    ends = np.concatenate([network.from_bus[crossing], network.to_bus[crossing]])
    boundary = np.unique(ends[points.keep[ends]])
    index = net.bus.index.to_numpy()
    inside = np.setdiff1d(kept, boundary)

    def work() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return get_equivalent(
                net, kind, index[boundary].tolist(), index[inside].tolist(), calculate_voltage_angles=True,
                show_computing_time=False,
            )  # fmt: skip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pandapower.runpp(net, **how)
        times, made = best_of(work, runs_max=1, warm_up=False)
        errors = []
        for state, scale in ((points.base, 1.0), (points.second, LOAD_CHANGE)):
            changed = copy.deepcopy(made)
            own = changed.load.bus.isin(index[kept]) & changed.load.index.isin(net.load.index)
            changed.load.loc[own, ["p_mw", "q_mvar"]] *= scale
            pandapower.runpp(changed, **how)
            found = changed.res_bus.vm_pu.reindex(index[kept]).to_numpy()
            errors.append(found - state.vm_pu[kept])
    bench.add(_row(group, tool, case.n_bus, times, *errors, buses=len(made.bus)))
    return times.cpu_s
