"""Unit commitment of a day: ours against Pyomo with two solvers, and an independent formulation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import tools
from frame import OURS, Accuracy, Bench, Row
from home import planned_day
from timing import Timing, best_of

from bos_core.grid.six_bus import six_bus
from flows.schedule_inputs import schedule_hours
from slots.unit_commitment import glpk_uc, highs_uc, pyomo_uc
from slots.unit_commitment.contract import FREE, Inputs, Outputs

TITLE = "Unit commitment of 24 hours to a gap of 0.5 %"
PACKAGES = ("numpy", "scipy", "highspy", "pyomo", "simbench")
SIZE = "hours"
GAP = 0.005
HOURS = 24
LIMIT_S = 45.0
ORACLE = Path(__file__).parents[1] / "oracle"


def run(bench: Bench, budget_s: float) -> None:
    """Commit the RTS-GMLC day of PGLib-UC where it is there, and a day of SimBench's units on one bus."""
    bench.settings |= {
        "all": f"a gap of {GAP:.1%} is good enough; {LIMIT_S:g} s a solve; HiGHS and GLPK on one thread",
        "answers": "'bracket' is how far a tool's cost and proven bound miss ours: 0 when the two intervals meet",
        OURS: "highs_uc: the whole program; its bound is proven by HiGHS",
        "Pyomo+HiGHS": "textbook formulation of the slot's readable program, solved by HiGHS through appsi",
        "Pyomo+GLPK": "the same model solved by glpsol (child processes counted)",
        "BOS GLPK": "our formulation and search, solved by GLPK",
        "linopy+HiGHS": "an independent three-binary model in another modelling language",
    }
    with bench.doing("preparing the planned day"):
        one_bus, with_network = _simbench(bench)
    for label, inputs in [*_pglib(bench), (f"SimBench, {one_bus.grid.units.n} units on one bus", one_bus)]:
        _compare(bench, f"{HOURS} hours, {label}", inputs)
    grid = with_network.grid
    group = f"{HOURS} hours, SimBench, {grid.units.n} units, {grid.network.n_branch} branches"
    with bench.peer(OURS, group):
        times, answer = best_of(lambda: _ours(with_network), runs_max=1, warm_up=False)
        note = f"{_about(answer)}; {answer.network_limits} branch limits"
        bench.add(Row(group, HOURS, OURS, "day", times, figures=_figures(answer), note=note, reference=True))


def _pglib(bench: Bench) -> list[tuple[str, Inputs]]:
    sys.path.insert(0, str(ORACLE))
    import test_uc_oracle as oracle

    if not oracle.INSTANCE.exists():
        reason = "its file is not beside the repository (../shared/yardsticks)"
        bench.absent.append({"tool": "all", "what": "PGLib-UC, RTS-GMLC", "why": reason})
        return []
    inputs = oracle.pglib_inputs(HOURS)
    return [(f"PGLib-UC RTS-GMLC, {inputs.grid.units.n} units", inputs)]


def _simbench(bench: Bench) -> tuple[Inputs, Inputs]:
    """Return the day's units on one bus with spinning reserve, and the day with its network."""
    day = planned_day(bench)
    data = schedule_hours(day.reader("annual_states"), day.hours)
    units = data.grid.units
    count = day.hours.stop - day.hours.start
    load = data.load_p_mw + data.load_p_mw / data.load_p_mw.sum(1, keepdims=True) * data.losses_mw[:, None]
    storages = data.grid.storages
    middle = 0.5 * (storages.energy_mwh_min + storages.energy_mwh_max)
    network = Inputs(
        grid=data.grid, period_h=1, look_ahead=0, free_start=True, load_p_mw=load, available_mw=data.available_mw,
        in_service=data.in_service, reserve_up_mw=data.reserve_up_mw, reserve_down_mw=data.reserve_down_mw,
        branch_mw_max=data.branch_mw_max, integer=units.committable, fixed_on=np.full((count, units.n), FREE),
        initial_on=np.zeros(units.n, bool), initial_h=np.full(units.n, -1000), initial_p_mw=np.zeros(units.n),
        energy_mwh_max=np.full(units.n, np.inf), storage_initial_mwh=middle, storage_final_mwh=middle,
    )  # fmt: skip
    six = six_bus()

    def first(devices: Any, some: int) -> Any:
        return type(devices)(**{f.name: getattr(devices, f.name)[:some] for f in fields(devices)})

    merged = replace(units, bus=np.zeros(units.n, int))
    grid = replace(
        six, units=merged, loads=first(six.loads, 1), storages=first(six.storages, 0), hvdc=first(six.hvdc, 0)
    )
    one_bus = replace(
        network, grid=grid, load_p_mw=load.sum(1, keepdims=True), reserve_down_mw=np.zeros(count),
        in_service=np.ones((count, units.n), bool), branch_mw_max=np.full(grid.network.n_branch, np.inf),
        storage_initial_mwh=np.zeros(0), storage_final_mwh=np.zeros(0),
    )  # fmt: skip
    return one_bus, network


def _ours(inputs: Inputs) -> Outputs:
    return highs_uc.run(inputs, highs_uc.Parameters(gap=GAP, time_limit_s=LIMIT_S))


def _figures(answer: Outputs) -> dict[str, Any]:
    slack = answer.unserved_mw.sum() + answer.surplus_mw.sum() + answer.reserve_short_mw.sum()
    return {
        "objective_eur": answer.objective_eur, "bound_eur": answer.bound_eur, "gap": answer.gap,
        "slack_mwh": float(slack), "status": answer.status, "fallback": answer.fallback,
    }  # fmt: skip


def _about(answer: Outputs) -> str:
    return f"{answer.objective_eur / 1e6:.4f} M EUR, gap {answer.gap:.2%}"


def _compare(bench: Bench, group: str, inputs: Inputs) -> None:
    programs: tuple[tuple[str, Callable[[], Outputs]], ...] = (
        (OURS, lambda: _ours(inputs)),
        ("Pyomo+HiGHS", lambda: pyomo_uc.run(inputs, pyomo_uc.Parameters(gap=GAP, time_limit_s=LIMIT_S))),
        (
            "Pyomo+GLPK",
            lambda: pyomo_uc.run(inputs, pyomo_uc.Parameters(gap=GAP, solver="glpk", time_limit_s=LIMIT_S)),
        ),
        ("BOS GLPK", lambda: glpk_uc.run(inputs, glpk_uc.Parameters(gap=GAP, time_limit_s=LIMIT_S))),
    )
    reference: Outputs | None = None
    for tool, work in programs:
        with bench.peer(tool, group):
            times, answer = best_of(work, runs_max=1, warm_up=tool == OURS)
            accuracy = ()
            if reference is not None:
                accuracy = (_bracket(reference, answer.objective_eur, answer.bound_eur),)
            bench.add(
                Row(group, HOURS, tool, "day", times, accuracy, _figures(answer), _about(answer),
                    reference=tool == OURS)
            )  # fmt: skip
            if tool == OURS:
                reference = answer
    with bench.peer("linopy+HiGHS", group):
        facts, _ = tools.in_environment("linopy_uc.py", arrays(inputs))
        bench.versions |= facts["versions"]
        figures = {key: facts[key] for key in ("objective_eur", "bound_eur", "gap", "status")}
        note = f"{facts['objective_eur'] / 1e6:.4f} M EUR, gap {facts['gap']:.2%}"
        accuracy = (_bracket(reference, facts["objective_eur"], facts["bound_eur"]),) if reference else ()
        bench.add(Row(group, HOURS, "linopy+HiGHS", "day", Timing(**facts["timing"]), accuracy, figures, note))


def _bracket(ours: Outputs, objective: float, bound: float) -> Accuracy:
    """Return by how much the intervals of two tools, from bound to cost, miss each other, relative."""
    miss = max(bound - ours.objective_eur, ours.bound_eur - objective, 0.0)
    return Accuracy("bracket", miss / ours.objective_eur, 1e-6)


def arrays(inputs: Inputs) -> dict[str, np.ndarray]:
    """Return the instance as plain arrays: one bus, hours, no storages, everything in service."""
    units = inputs.grid.units
    order = np.argsort(units.segment_unit, kind="stable")
    high = np.minimum(inputs.available_mw, units.p_mw_max)
    names = (
        "committable", "variable", "must_run", "p_mw_min", "ramp_up_mw_per_h", "ramp_down_mw_per_h", "startup_mw",
        "shutdown_mw", "min_up_h", "min_down_h", "minimum_output_eur_per_h", "shutdown_eur",
        "curtailment_eur_per_mwh", "start_unit", "start_off_h", "start_eur",
    )  # fmt: skip
    return {
        **{name: getattr(units, name) for name in names},
        "high": high, "segment_unit": units.segment_unit[order], "segment_mw": units.segment_mw[order],
        "segment_price": units.segment_eur_per_mwh[order], "load": inputs.load_p_mw.sum(axis=1),
        "reserve": inputs.reserve_up_mw, "initial_on": inputs.initial_on, "initial_h": inputs.initial_h,
        "initial_p": inputs.initial_p_mw, "free_start": np.array(inputs.free_start),
        "unserved": np.array(inputs.unserved_eur_per_mwh), "short": np.array(inputs.reserve_eur_per_mwh),
        "gap": np.array(GAP), "limit_s": np.array(LIMIT_S),
    }  # fmt: skip
