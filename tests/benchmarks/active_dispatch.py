"""Active dispatch of a day: lazily generated PTDF limits against bus angles, by us and by an independent model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tools
from frame import OURS, Accuracy, Bench, Row
from home import planned_day
from timing import Timing, best_of

from bos_core.grid.dc import susceptance
from bos_core.grid.injections import sum_by_bus
from flows.schedule_inputs import schedule_hours
from flows.step5b_active_dispatch import dispatch_inputs
from slots.active_dispatch import angle_formulation, glpk_dispatch, lazy_ptdf
from slots.active_dispatch.contract import Inputs, Outputs

TITLE = "Active dispatch of 24 hours with network limits"
PACKAGES = ("numpy", "scipy", "highspy", "simbench")
SIZE = "hours"
SAME_COST = 1e-6
NEVER = 1e6


def run(bench: Bench, budget_s: float) -> None:
    """Dispatch the planned day's commitment."""
    bench.settings |= {
        OURS: "lazy_ptdf, HiGHS: the whole program, model building and prices included",
        "BOS angles": "the slot's second program: bus angles, all limits at once, HiGHS",
        "BOS GLPK": "the slot's third program: lazy PTDF rows, GLPK",
        "linopy": "independent B-theta model of the same day, HiGHS; building and solving",
    }
    with bench.doing("preparing the planned day"):
        inputs = _inputs(bench)
    hours, units = inputs.on.shape
    size = f"{hours} hours, {inputs.grid.network.n_bus} buses, {units} units"
    _programs(bench, f"{size}, as in the chain", inputs)
    plain = _plain(inputs)
    cost = _programs(bench, f"{size}, without ramps and reserve", plain)
    with bench.peer("linopy"):
        facts, _ = tools.in_environment("linopy_dispatch.py", arrays(plain))
        bench.versions |= facts["versions"]
        accuracy = Accuracy("objective, relative", abs(facts["objective"] / cost - 1), SAME_COST)
        figures = {"objective_eur": facts["objective"], "solve_s": facts["solve_s"]}
        group = f"{size}, without ramps and reserve"
        bench.add(Row(group, hours, "linopy", "day", Timing(**facts["timing"]), (accuracy,), figures))


def _inputs(bench: Bench) -> Inputs:
    day = planned_day(bench)
    reader = day.reader("unit_commitment")
    data = schedule_hours(reader, day.hours)
    units = data.grid.units
    on = reader.aligned("unit.on", units.id, day.hours).astype(bool)
    return dispatch_inputs(data, on, np.zeros(units.n, bool), np.full(units.n, np.nan))


def _plain(inputs: Inputs) -> Inputs:
    """Take away what the independent model has not."""
    units = inputs.grid.units
    free = np.full(units.n, NEVER)
    units = replace(units, ramp_up_mw_per_h=free, ramp_down_mw_per_h=free, startup_mw=free, shutdown_mw=free)
    nothing = np.zeros_like(inputs.reserve_up_mw)
    return replace(inputs, grid=replace(inputs.grid, units=units), reserve_up_mw=nothing, reserve_down_mw=nothing)


def _programs(bench: Bench, group: str, inputs: Inputs) -> float:
    """Run the slot's programs and return the objective of the default one."""
    hours = inputs.on.shape[0]
    reference: Outputs | None = None
    programs: tuple[tuple[str, Callable[[], Outputs]], ...] = (
        (OURS, lambda: lazy_ptdf.run(inputs, lazy_ptdf.Parameters())),
        ("BOS angles", lambda: angle_formulation.run(inputs, angle_formulation.Parameters())),
        ("BOS GLPK", lambda: glpk_dispatch.run(inputs, glpk_dispatch.Parameters())),
    )
    for tool, work in programs:
        with bench.peer(tool, group):
            times, answer = best_of(work, runs_max=3, budget_s=4.0)
            accuracy = ()
            if reference is not None:
                far = abs(answer.objective_eur / reference.objective_eur - 1)
                accuracy = (Accuracy("objective, relative", far, SAME_COST),)
            figures = {
                "objective_eur": answer.objective_eur, "status": answer.status, "fallback": answer.fallback,
                "overload_mwh": float(answer.overload_mw.sum()), "shed_mwh": float(answer.shed_mw.sum()),
            }  # fmt: skip
            bench.add(Row(group, hours, tool, "day", times, accuracy, figures, reference=tool == OURS))
            if tool == OURS:
                reference = answer
    if reference is None:
        raise RuntimeError("the default program failed")
    return reference.objective_eur


def arrays(inputs: Inputs) -> dict[str, np.ndarray]:
    """Return the day as plain arrays; it has no storages and no HVDC lines."""
    grid, units, network = inputs.grid, inputs.grid.units, inputs.grid.network
    if grid.storages.id.size or grid.hvdc.id.size:
        raise ValueError("the independent model has no storages and no HVDC lines")
    high = np.where(inputs.on, np.minimum(inputs.available_mw, units.p_mw_max), 0.0)
    low = np.where(units.variable, 0.0, np.minimum(units.p_mw_min, high))
    low = np.where(inputs.on, low, 0.0)
    rated = np.flatnonzero(np.isfinite(inputs.branch_mw_max))
    demand = np.maximum(inputs.load_p_mw, 0.0)
    by_bus = sum_by_bus(grid.loads.bus, demand, network.n_bus)
    share = by_bus / by_bus.sum(axis=1, keepdims=True)
    sheddable = sum_by_bus(grid.loads.bus, np.where(grid.loads.sheddable, demand, 0.0), network.n_bus)
    load = sum_by_bus(grid.loads.bus, inputs.load_p_mw, network.n_bus) + share * inputs.losses_mw[:, None]
    rest = by_bus - sheddable
    total = rest.sum(axis=1, keepdims=True)
    order = np.argsort(units.segment_unit, kind="stable")
    return {
        "on": inputs.on, "low": low, "high": high, "unit_bus": units.bus, "variable": units.variable,
        "committable": units.committable, "no_load": units.minimum_output_eur_per_h,
        "curtail": units.curtailment_eur_per_mwh,
        "segment_unit": units.segment_unit[order], "segment_mw": units.segment_mw[order],
        "segment_price": units.segment_eur_per_mwh[order], "load": load, "sheddable": sheddable, "share": share,
        "rest_share": rest / np.where(total > 0, total, 1.0),
        "from_bus": network.from_bus, "to_bus": network.to_bus,
        "b_mw": susceptance(network) * network.base_mva, "shift": network.shift_rad, "rated": rated,
        "limit": inputs.branch_mw_max[rated], "slack": np.array(network.slack),
        "unserved": np.array(inputs.unserved_eur_per_mwh), "overload": np.array(inputs.overload_eur_per_mwh),
    }  # fmt: skip
