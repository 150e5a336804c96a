"""Unit commitment as a Pyomo model written for reading and extending: every rule as one constraint.

An independent second formulation of the slot: textbook constraints instead of tightened ones, bus angles
instead of shift factors, all branch limits from the start. Good for tens of units; `highs_uc` is for hundreds.
`build` returns the model, so that a notebook can add to it before `solve`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyomo.environ as pyo
from pydantic import Field
from pyomo.contrib.appsi.solvers import Highs

from bos_core.grid.dc import susceptance
from bos_core.grid.model import BoolArray, FloatArray
from bos_core.grid.schedule import PeriodLimits, waive_unreachable
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from bos_core.objects.errors import ProgramError
from slots.glpk_session import glpsol
from slots.plant import reserve_ability, share_reserve
from slots.unit_commitment.contract import FREE, Inputs, Outputs
from slots.unit_commitment.horizon import relative_gap
from slots.unit_commitment.prescribed import contradicts_minimum_times, prescribed, validate
from slots.unit_commitment.relaxed import (
    counts_as_on,
    relaxed_low_mw,
    relaxed_start_eur_per_h,
    relaxed_units,
)
from slots.unit_commitment.start_costs import start_classes


class Parameters(ProgramParameters):
    """What a user may choose."""

    gap: float = Field(0.002, ge=0, le=0.2)
    """Relative gap between the cost and its proven bound that is good enough."""
    solver: Literal["highs", "glpk"] = "highs"
    """Optimiser behind Pyomo."""
    time_limit_s: float = Field(600.0, gt=0)
    """Safety net; results are reproducible as long as it does not bind."""


MANIFEST = ProgramManifest(
    name="pyomo_uc",
    slot="unit_commitment",
    version="1.0.0",
    title="Unit commitment, readable model (Pyomo)",
    description="Textbook three-binary model with bus angles, to read and to extend; for small grids.",
    parameters=Parameters,
    references=(
        "Carrion & Arroyo, A computationally efficient mixed-integer linear formulation for the thermal unit "
        "commitment problem, IEEE Trans. Power Syst. 21 (2006)",
        "Bynum et al., Pyomo - Optimization Modeling in Python, 3rd ed., Springer (2021)",
    ),
)


class _Case:
    """The horizon's data as the model reads them."""

    def __init__(self, inputs: Inputs) -> None:
        validate(inputs)
        units = inputs.grid.units
        self.inputs, self.h = inputs, inputs.period_h
        self.periods = range(inputs.load_p_mw.shape[0])
        self.known = prescribed(inputs)
        self.relaxed = relaxed_units(inputs, self.known).tolist()
        self.committable = np.setdiff1d(np.flatnonzero(units.committable), self.relaxed).tolist()
        self.limits = PeriodLimits.of(units, self.h)
        self.loose = contradicts_minimum_times(self.known, inputs, self.limits)
        off = self.known == 0
        self.high = np.where(off, 0.0, np.minimum(inputs.available_mw, units.p_mw_max))
        self.low = np.where(units.variable, 0.0, np.minimum(units.p_mw_min, self.high))
        self.low = np.where(off & ~units.committable, 0.0, self.low)
        self.ramps_waived, self.stops_waived = self._waived()

    def _waived(self) -> tuple[BoolArray, BoolArray]:
        inputs, units = self.inputs, self.inputs.grid.units
        on = self.known != 0
        before = on[0] if inputs.free_start else inputs.initial_on | ~units.committable
        known = inputs.initial_on & (not inputs.free_start)
        power = np.where(known, inputs.initial_p_mw, np.nan)
        step, stop = waive_unreachable(self.low, self.high, on, power, before, self.limits)
        return step, stop | ~inputs.in_service

    def segments(self, unit: int) -> tuple[FloatArray, FloatArray]:
        """Return widths and prices of a unit's cost segments; the last is open-ended, none means free."""
        units = self.inputs.grid.units
        chosen = np.flatnonzero(units.segment_unit == unit)
        if not chosen.size:
            return np.array([np.inf]), np.zeros(1)
        if units.variable[unit]:
            chosen = chosen[:1]
        width = units.segment_mw[chosen].copy()
        width[-1] = np.inf
        return width, units.segment_eur_per_mwh[chosen]


def build(inputs: Inputs) -> pyo.ConcreteModel:
    """Return the Pyomo model of a horizon; powers in MW, money in EUR."""
    case = _Case(inputs)
    m = pyo.ConcreteModel("unit commitment")
    m.case = case
    m.costs = []
    m.constraint = pyo.ConstraintList()
    _add_commitment(m, case)
    _add_output(m, case)
    _add_ramps(m, case)
    _add_reserve(m, case)
    _add_storages(m, case)
    _add_hvdc(m, case)
    _add_network(m, case)
    m.cost = pyo.Objective(expr=pyo.quicksum(m.costs))
    return m


def _add_commitment(m: Any, case: _Case) -> None:
    """Add on, start and stop, minimum times, costs of minimum output, starts and shutdowns."""
    units, inputs, c = case.inputs.grid.units, case.inputs, case.committable
    m.on = pyo.Var(case.periods, c, within=pyo.UnitInterval)
    m.start = pyo.Var(case.periods, c, within=pyo.UnitInterval)
    m.stop = pyo.Var(case.periods, c, within=pyo.UnitInterval)
    for i in c:
        for t in case.periods:
            if case.known[t, i] != FREE:
                m.on[t, i].fix(int(case.known[t, i]))
            else:
                m.on[t, i].domain = pyo.Binary
            m.costs.append(units.minimum_output_eur_per_h[i] * case.h * m.on[t, i])
            m.costs.append(units.shutdown_eur[i] * m.stop[t, i])
            if t == 0 and inputs.free_start:
                m.start[t, i].fix(0)
                m.stop[t, i].fix(0)
                continue
            before = m.on[t - 1, i] if t else int(inputs.initial_on[i])
            m.constraint.add(m.on[t, i] - before == m.start[t, i] - m.stop[t, i])
            up = 1 if case.loose[i] else int(case.limits.min_up[i])
            down = 1 if case.loose[i] else int(case.limits.min_down[i])
            m.constraint.add(sum(m.start[k, i] for k in range(max(t - up + 1, 0), t + 1)) <= m.on[t, i])
            m.constraint.add(sum(m.stop[k, i] for k in range(max(t - down + 1, 0), t + 1)) <= 1 - m.on[t, i])
        _add_start_cost(m, case, i)


def _add_start_cost(m: Any, case: _Case, i: int) -> None:
    """A start belongs to a class; a class needs a stop that long ago."""
    inputs, h = case.inputs, case.h
    hours, cost = start_classes(inputs.grid.units, i)
    if not cost.size:
        return
    edges = [0, *hours[1:].tolist()]
    off_before = not inputs.free_start and not inputs.initial_on[i]
    for t in case.periods:
        kinds = [m.add_component(f"class_{i}_{t}_{s}", v) or v for s, v in enumerate(_class_vars(cost.size))]
        m.constraint.add(sum(kinds) == m.start[t, i])
        m.costs += [float(eur) * kind for eur, kind in zip(cost, kinds, strict=True)]
        for s, kind in enumerate(kinds[:-1]):
            ages = range(t + 1)
            stops = [m.stop[t - k, i] for k in ages if edges[s] <= k * h < edges[s + 1] and k > 0]
            age = abs(int(inputs.initial_h[i])) + t * h
            m.constraint.add(kind <= sum(stops) + int(off_before and edges[s] <= age < edges[s + 1]))


def _class_vars(count: int) -> list[Any]:
    return [pyo.Var(within=pyo.UnitInterval) for _ in range(count)]


def _add_output(m: Any, case: _Case) -> None:
    """Add outputs within their limits, priced by segments, and curtailment."""
    units, inputs = case.inputs.grid.units, case.inputs
    m.p = pyo.Var(case.periods, range(units.n))
    m.part = pyo.Var(pyo.Any, dense=False)
    for i in np.setdiff1d(np.arange(units.n), case.relaxed).tolist():
        width, price = case.segments(i)
        for t in case.periods:
            low, high = float(case.low[t, i]), float(case.high[t, i])
            on = m.on[t, i] if units.committable[i] else 1
            m.constraint.add(m.p[t, i] >= low * on)
            m.constraint.add(m.p[t, i] <= high * on)
            base = low * on if units.committable[i] else 0.0
            parts = []
            for s, (mw, eur) in enumerate(zip(width, price, strict=True)):
                part = m.part[t, i, s]
                part.setlb(min(low, 0.0) if s == 0 else 0.0)
                part.setub(float(mw) if np.isfinite(mw) else None)
                parts.append(part)
                m.costs.append(float(eur) * case.h * part)
            m.constraint.add(m.p[t, i] == base + sum(parts))
            if units.variable[i]:
                m.costs.append(units.curtailment_eur_per_mwh[i] * case.h * (high - m.p[t, i]))
    _add_relaxed_output(m, case)
    budget = np.flatnonzero(np.isfinite(inputs.energy_mwh_max))
    m.over_budget = pyo.Var(budget.tolist(), within=pyo.NonNegativeReals)
    for i in budget.tolist():
        used = sum(m.p[t, i] * case.h for t in case.periods)
        m.constraint.add(used - m.over_budget[i] <= float(inputs.energy_mwh_max[i]))
        m.costs.append(inputs.unserved_eur_per_mwh * m.over_budget[i])


def _add_relaxed_output(m: Any, case: _Case) -> None:
    """Add units of which any share runs in a period: all that they do and cost shrinks with the share."""
    units = case.inputs.grid.units
    m.share = pyo.Var(case.periods, case.relaxed, within=pyo.UnitInterval)
    unit = np.array(case.relaxed, int)
    start = relaxed_start_eur_per_h(case.inputs, unit)
    low = relaxed_low_mw(case.inputs, unit, case.known, case.high)
    for k, i in enumerate(case.relaxed):
        width, price = case.segments(i)
        for t in case.periods:
            share = m.share[t, i]
            parts = [m.part[t, i, s] for s in range(len(width))]
            for mw, eur, part in zip(width, price, parts, strict=True):
                part.setlb(0.0)
                if np.isfinite(mw):
                    m.constraint.add(part <= float(mw) * share)
                m.costs.append(float(eur) * case.h * part)
            m.constraint.add(m.p[t, i] == float(units.p_mw_min[i]) * share + sum(parts))
            m.constraint.add(m.p[t, i] <= float(max(units.p_mw_max[i], units.p_mw_min[i])) * share)
            m.costs.append(float(units.minimum_output_eur_per_h[i] + start[k]) * case.h * share)
            m.p[t, i].setub(float(case.high[t, i]))
            m.p[t, i].setlb(float(low[t, k]))


def _add_ramps(m: Any, case: _Case) -> None:
    """Limit steps of output, with what is held in reserve, and outputs next to starts and stops."""
    units, inputs = case.inputs.grid.units, case.inputs
    m.up = pyo.Var(case.periods, case.committable, within=pyo.NonNegativeReals)
    m.down = pyo.Var(case.periods, case.committable, within=pyo.NonNegativeReals)
    last = len(case.periods) - 1
    for i in np.setdiff1d(np.flatnonzero(~units.variable), case.relaxed).tolist():
        limits, own = case.limits, bool(units.committable[i])
        for t in case.periods:
            up, down = (m.up[t, i], m.down[t, i]) if own else (0.0, 0.0)
            start, stop, on = (m.start[t, i], m.stop[t, i], m.on[t, i]) if own else (0, 0, 1)
            high = float(case.high[t, i])
            if own:
                m.constraint.add(m.p[t, i] + up <= high * on)
                m.constraint.add(m.p[t, i] - down >= float(case.low[t, i]) * on)
                m.constraint.add(up <= float(units.ramp_up_mw_per_h[i]) * on)
                m.constraint.add(down <= float(units.ramp_down_mw_per_h[i]) * on)
                if not case.ramps_waived[t, i]:
                    first = min(high, max(limits.startup_mw[i], case.low[t, i]))
                    m.constraint.add(m.p[t, i] + up <= high * on - (high - first) * start)
                if t < last and not case.stops_waived[t + 1, i]:
                    end = min(high, max(limits.shutdown_mw[i], case.low[t, i]))
                    m.constraint.add(m.p[t, i] + up <= high * on - (high - end) * m.stop[t + 1, i])
            if t == 0 and (inputs.free_start or np.isnan(inputs.initial_p_mw[i]) or not inputs.initial_on[i]):
                continue
            before = m.p[t - 1, i] if t else float(inputs.initial_p_mw[i])
            loose = float(max(case.high[:, i].max(), inputs.initial_p_mw[i] if t == 0 else 0.0) * 2)
            if case.ramps_waived[t, i]:
                continue
            m.constraint.add(m.p[t, i] + up - before <= float(limits.ramp_up_mw[i]) + loose * start)
            if own and t == 0 and not case.stops_waived[0, i] and before > limits.shutdown_mw[i] + 1e-3:
                m.stop[0, i].fix(0)
            m.constraint.add(before - m.p[t, i] + down <= float(limits.ramp_down_mw[i]) + loose * stop)


def _add_reserve(m: Any, case: _Case) -> None:
    """Hold reserve, or pay for what is missing."""
    units, inputs = case.inputs.grid.units, case.inputs
    m.short_up = pyo.Var(case.periods, within=pyo.NonNegativeReals)
    m.short_down = pyo.Var(case.periods, within=pyo.NonNegativeReals)
    variable = np.flatnonzero(units.variable).tolist()
    for t in case.periods:
        up = sum(m.up[t, i] for i in case.committable) + sum(m.p[t, i].ub - m.p[t, i] for i in case.relaxed)
        down = sum(m.down[t, i] for i in case.committable) + sum(m.p[t, i] for i in variable)
        down += sum(m.p[t, i] - m.p[t, i].lb for i in case.relaxed)
        m.constraint.add(up + m.short_up[t] >= float(inputs.reserve_up_mw[t]))
        m.constraint.add(down + m.short_down[t] >= float(inputs.reserve_down_mw[t]))
        m.costs.append(inputs.reserve_eur_per_mwh * case.h * (m.short_up[t] + m.short_down[t]))


def _add_storages(m: Any, case: _Case) -> None:
    """Charge or discharge; the least energy at the end may be missed at the price of unserved demand."""
    s, inputs = case.inputs.grid.storages, case.inputs
    each = range(s.id.size)
    m.charge = pyo.Var(case.periods, each, within=pyo.NonNegativeReals)
    m.discharge = pyo.Var(case.periods, each, within=pyo.NonNegativeReals)
    m.charging = pyo.Var(case.periods, each, within=pyo.Binary)
    m.energy = pyo.Var(case.periods, each)
    m.missing = pyo.Var(each, within=pyo.NonNegativeReals)
    for k in each:
        for t in case.periods:
            m.constraint.add(m.charge[t, k] <= float(s.p_charge_mw_max[k]) * m.charging[t, k])
            m.constraint.add(m.discharge[t, k] <= float(s.p_discharge_mw_max[k]) * (1 - m.charging[t, k]))
            before = m.energy[t - 1, k] if t else float(inputs.storage_initial_mwh[k])
            gain = s.efficiency_charge[k] * m.charge[t, k] - m.discharge[t, k] / s.efficiency_discharge[k]
            m.constraint.add(m.energy[t, k] == before + case.h * gain)
            m.energy[t, k].setlb(float(s.energy_mwh_min[k]))
            m.energy[t, k].setub(float(s.energy_mwh_max[k]))
        wanted = float(min(inputs.storage_final_mwh[k], s.energy_mwh_max[k]))
        m.constraint.add(m.energy[case.periods[-1], k] + m.missing[k] >= wanted)
        m.costs.append(inputs.unserved_eur_per_mwh * m.missing[k])


def _add_hvdc(m: Any, case: _Case) -> None:
    """Send forwards or backwards."""
    hvdc = case.inputs.grid.hvdc
    each = range(hvdc.id.size)
    m.forward = pyo.Var(case.periods, each, within=pyo.NonNegativeReals)
    m.back = pyo.Var(case.periods, each, within=pyo.NonNegativeReals)
    m.forwards = pyo.Var(case.periods, each, within=pyo.Binary)
    for k in each:
        for t in case.periods:
            m.constraint.add(m.forward[t, k] <= float(max(hvdc.p_mw_max[k], 0.0)) * m.forwards[t, k])
            m.constraint.add(m.back[t, k] <= float(max(-hvdc.p_mw_min[k], 0.0)) * (1 - m.forwards[t, k]))
            m.constraint.add(m.forward[t, k] - m.back[t, k] >= float(hvdc.p_mw_min[k]))
            m.constraint.add(m.forward[t, k] - m.back[t, k] <= float(hvdc.p_mw_max[k]))


def _add_network(m: Any, case: _Case) -> None:
    """Balance every bus with angles; branch limits and demand give way at their price."""
    inputs, grid = case.inputs, case.inputs.grid
    network, b_mw = grid.network, susceptance(grid.network) * grid.network.base_mva
    rated = np.flatnonzero(np.isfinite(inputs.branch_mw_max)).tolist()
    m.angle = pyo.Var(case.periods, range(network.n_bus))
    m.flow = pyo.Var(case.periods, range(network.n_branch))
    m.over = pyo.Var(case.periods, rated, within=pyo.NonNegativeReals)
    m.unserved = pyo.Var(case.periods, within=pyo.NonNegativeReals)
    m.surplus = pyo.Var(case.periods, within=pyo.NonNegativeReals)
    for t in case.periods:
        m.angle[t, network.slack].fix(0.0)
        inflow = _bus_injections(m, case, t)
        for k in range(network.n_branch):
            f, g = int(network.from_bus[k]), int(network.to_bus[k])
            across = m.angle[t, f] - m.angle[t, g] - float(network.shift_rad[k])
            m.constraint.add(m.flow[t, k] == float(b_mw[k]) * across)
            inflow[f] = inflow[f] - m.flow[t, k]
            inflow[g] = inflow[g] + m.flow[t, k]
        for expression in inflow:
            m.constraint.add(expression == 0)
        for k in rated:
            m.constraint.add(m.flow[t, k] - m.over[t, k] <= float(inputs.branch_mw_max[k]))
            m.constraint.add(-m.flow[t, k] - m.over[t, k] <= float(inputs.branch_mw_max[k]))
            m.costs.append(inputs.overload_eur_per_mwh * case.h * m.over[t, k])
        m.costs.append(inputs.unserved_eur_per_mwh * case.h * (m.unserved[t] + m.surplus[t]))


def _bus_injections(m: Any, case: _Case, t: int) -> list[Any]:
    """Return an expression of the injection at each bus: devices, demand, slacks spread by demand."""
    inputs, grid = case.inputs, case.inputs.grid
    hvdc, demand = grid.hvdc, np.zeros(grid.network.n_bus)
    np.add.at(demand, grid.loads.bus, inputs.load_p_mw[t])
    positive = np.zeros_like(demand)
    np.add.at(positive, grid.loads.bus, np.maximum(inputs.load_p_mw[t], 0.0))
    share = positive / positive.sum() if positive.sum() > 0 else np.full(demand.size, 1.0 / demand.size)
    inflow: list[Any] = [
        float(s) * (m.unserved[t] - m.surplus[t]) - float(d) for s, d in zip(share, demand, strict=True)
    ]
    for i, bus in enumerate(grid.units.bus):
        inflow[bus] = inflow[bus] + m.p[t, i]
    for k, bus in enumerate(grid.storages.bus):
        inflow[bus] = inflow[bus] + m.discharge[t, k] - m.charge[t, k]
    for k in range(hvdc.id.size):
        near, far, kept = int(hvdc.from_bus[k]), int(hvdc.to_bus[k]), 1.0 - float(hvdc.loss_share[k])
        receiver = near if hvdc.p_mw_max[k] <= 0 and hvdc.p_mw_min[k] < 0 else far
        inflow[near] = inflow[near] - m.forward[t, k] + kept * m.back[t, k]
        inflow[far] = inflow[far] - m.back[t, k] + kept * m.forward[t, k]
        inflow[receiver] = inflow[receiver] - float(hvdc.loss_mw[k])
    return inflow


def solve(m: Any, parameters: Parameters) -> tuple[float, float, str]:
    """Solve the model in place; returns (objective, bound, status)."""
    if parameters.solver == "glpk":
        glpsol()
        options = {"mipgap": parameters.gap, "tmlim": int(np.ceil(parameters.time_limit_s))}
        results = pyo.SolverFactory("glpk").solve(m, options=options, load_solutions=False)
        if not len(results.solution):
            raise ProgramError(f"glpk found no commitment ({results.solver.termination_condition})")
        m.solutions.load_from(results)
        bound, ended = results.problem.lower_bound, str(results.solver.termination_condition)
    else:
        solver = Highs()
        solver.config.mip_gap, solver.config.time_limit = parameters.gap, parameters.time_limit_s
        solver.config.load_solution = False
        solver.highs_options = {"threads": 1, "random_seed": 0}
        found = solver.solve(m)
        if found.best_feasible_objective is None:
            raise ProgramError(f"HiGHS found no commitment ({found.termination_condition.name})")
        found.solution_loader.load_vars()
        bound, ended = found.best_objective_bound, found.termination_condition.name
    objective = float(pyo.value(m.cost))
    if bound is None or not np.isfinite(bound):
        bound = objective - parameters.gap * abs(objective)
    return objective, min(float(bound), objective), ended


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Commit units over the horizon."""
    m = build(inputs)
    objective, bound, status = solve(m, parameters)
    case, grid = m.case, inputs.grid
    p = _values(m.p, len(case.periods), grid.units.n)
    u = (case.known == 1).astype(float)
    u[:, case.committable] = [[pyo.value(m.on[t, i]) for i in case.committable] for t in case.periods]
    on = u > 0.5
    relaxed = np.array(case.relaxed, int)
    on[:, relaxed] = counts_as_on(inputs, relaxed, case.known, p)
    initial = np.where(inputs.initial_on & (not inputs.free_start), inputs.initial_p_mw, np.nan)
    able = reserve_ability(grid, case.limits, on, p, (case.low * u, _upper(m, case, u)), initial)
    low = relaxed_low_mw(inputs, relaxed, case.known, case.high)
    able[0][:, relaxed] = np.maximum(case.high - p, 0.0)[:, relaxed]
    able[1][:, relaxed] = np.maximum(p[:, relaxed] - low, 0.0)
    short = [_values(v, len(case.periods)) for v in (m.short_up, m.short_down)]
    flow = _values(m.flow, len(case.periods), grid.network.n_branch)
    n_hvdc, n_storage = grid.hvdc.id.size, grid.storages.id.size
    return Outputs(
        on=on,
        p_mw=p,
        reserve_up_mw=share_reserve(inputs.reserve_up_mw, short[0], able[0]),
        reserve_down_mw=share_reserve(inputs.reserve_down_mw, short[1], able[1]),
        storage_p_mw=_values(m.discharge, len(p), n_storage) - _values(m.charge, len(p), n_storage),
        storage_energy_mwh=_values(m.energy, len(p), n_storage),
        hvdc_p_mw=_values(m.forward, len(p), n_hvdc) - _values(m.back, len(p), n_hvdc),
        unserved_mw=_values(m.unserved, len(p)),
        surplus_mw=_values(m.surplus, len(p)),
        reserve_short_mw=short[0] + short[1],
        overload_mw=np.maximum(np.abs(flow) - inputs.branch_mw_max, 0.0).sum(1),
        objective_eur=objective,
        bound_eur=bound,
        gap=relative_gap(objective, bound),
        network_limits=int(np.isfinite(inputs.branch_mw_max).sum()) * len(p),
        status=status,
        fallback="",
    )


def _upper(m: Any, case: _Case, u: FloatArray) -> FloatArray:
    """Return the highest output that the start and stop limits allow, (period, unit)."""
    upper = case.high * u
    for i in case.committable:
        for t in case.periods:
            started, ended = pyo.value(m.start[t, i]) > 0.5, t + 1 < len(u) and pyo.value(m.stop[t + 1, i]) > 0.5
            if started and not case.ramps_waived[t, i]:
                upper[t, i] = min(upper[t, i], max(case.limits.startup_mw[i], case.low[t, i]))
            if ended and not case.stops_waived[t + 1, i]:
                upper[t, i] = min(upper[t, i], max(case.limits.shutdown_mw[i], case.low[t, i]))
    return np.asarray(upper)


def _values(variable: Any, *shape: int) -> FloatArray:
    """Return a variable's values; what a solver leaves a hair below zero is zero where zero is the bound."""
    found = np.zeros(shape)
    for place in np.ndindex(*shape):
        item = variable[place if len(place) > 1 else place[0]]
        value = 0.0 if item.value is None else item.value
        found[place] = max(value, 0.0) if item.lb == 0 else value
    return found
