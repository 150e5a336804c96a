"""The whole commitment model of a horizon, and the way back from a solution to the slot's outputs."""

from __future__ import annotations

import numpy as np

from bos_core.grid.injections import sum_by_bus
from bos_core.grid.model import BoolArray, FloatArray, IntArray
from slots.linear_model import INF, LinearModel, Solution
from slots.network_limits import NetworkLimits
from slots.plant import Plant, reserve_ability, share_reserve
from slots.unit_commitment.contract import FREE, Inputs, Outputs
from slots.unit_commitment.envelopes import Envelopes, add_envelopes
from slots.unit_commitment.formulation import FreeUnits
from slots.unit_commitment.outline import load_share
from slots.unit_commitment.prescribed import contradicts_minimum_times
from slots.unit_commitment.relaxed import (
    counts_as_on,
    relaxed_low_mw,
    relaxed_start_eur_per_h,
    relaxed_units,
)
from slots.unit_commitment.schedule_choice import (
    PricedUnits,
    Prices,
    ScheduleChoice,
    depend_on_prices_alone,
)
from slots.unit_commitment.start_costs import switching_cost_eur


class Horizon:
    """Columns and rows of a horizon.

    Parameters
    ----------
    inputs : Inputs
    known : (period, unit) int
        Commitment known in advance; -1 free.
    factors : (branch, bus)
        From `recentred_ptdf`.
    prices : Prices, optional
        Units that depend on nothing but prices choose among schedules, the first of which is the best at these
        prices; without prices, all units have binary decisions.

    Attributes
    ----------
    model : LinearModel
    plant : Plant
    choice : ScheduleChoice
        Units with something to decide that choose among schedules.
    free : FreeUnits
        Units with binary decisions.
    relaxed : Envelopes
        Units whose decisions are left to others.
    limits : NetworkLimits
    """

    def __init__(self, inputs: Inputs, known: IntArray, factors: FloatArray, prices: Prices | None = None) -> None:
        grid, units, h = inputs.grid, inputs.grid.units, inputs.period_h
        n_period = inputs.load_p_mw.shape[0]
        self.inputs = inputs
        self.model = LinearModel()
        reserve = bool(inputs.reserve_up_mw.any() or inputs.reserve_down_mw.any())
        self.plant = Plant(self.model, grid, n_period, h, reserve)
        self.known = known
        self.loose = contradicts_minimum_times(self.known, inputs, self.plant.limits)
        self.high_mw = np.where(self.known == 0, 0.0, np.minimum(inputs.available_mw, units.p_mw_max))
        self._add_units(prices)
        missing = inputs.unserved_eur_per_mwh
        self.storage = self.plant.add_storages(inputs.storage_initial_mwh, inputs.storage_final_mwh, missing)
        self.hvdc = self.plant.add_hvdc()
        self.plant.add_budgets(inputs.energy_mwh_max, missing)
        share = load_share(grid, inputs.load_p_mw)
        self.unserved = self.model.add_columns((n_period,), 0.0, INF, missing * h)
        self.surplus = self.model.add_columns((n_period,), 0.0, INF, missing * h)
        self.plant.spread(self.unserved, share)
        self.plant.spread(self.surplus, -share)
        self.short = self.plant.add_reserve(
            inputs.reserve_up_mw, inputs.reserve_down_mw, inputs.reserve_eur_per_mwh
        )
        self.plant.fixed_mw -= sum_by_bus(grid.loads.bus, inputs.load_p_mw, grid.network.n_bus)
        self.balance = self.plant.add_balance()
        self.limits = NetworkLimits(
            self.model,
            grid.network,
            inputs.branch_mw_max,
            self.plant.fixed_mw,
            self.plant.points,
            self.plant.spreads,
            inputs.overload_eur_per_mwh * h,
            factors,
        )

    def _add_units(self, prices: Prices | None) -> None:
        inputs, units = self.inputs, self.inputs.grid.units
        undecided = units.committable & (self.known == FREE).any(0)
        self._count_known_switching(np.flatnonzero(units.committable & ~undecided))
        settled = np.flatnonzero(~undecided & ~units.variable & (self.known == 1).any(0))
        variable = np.flatnonzero(units.variable)
        on = self.known[:, settled] == 1
        before = on[0] if inputs.free_start else inputs.initial_on[settled] | ~units.committable[settled]
        power = np.where(inputs.free_start | ~inputs.initial_on[settled], np.nan, inputs.initial_p_mw[settled])
        self.settled = self.plant.add_settled(settled, on, self.high_mw[:, settled], before, power)
        self.variable = self.plant.add_variable(variable, self.high_mw[:, variable])
        self.relaxed = self._add_relaxed(relaxed_units(inputs, self.known))
        priced = np.zeros(0, np.int64)
        if prices is not None:
            priced = depend_on_prices_alone(inputs, self.known, self.loose, self.high_mw)
        alone = PricedUnits(inputs, priced, self.known, self.high_mw)
        first = np.zeros((self.known.shape[0], 0), bool) if prices is None else alone.best(prices).on
        self.choice = ScheduleChoice(self.plant, alone, first)
        free = np.setdiff1d(np.flatnonzero(undecided & inputs.integer), priced)
        self.free = FreeUnits(self.plant, inputs, free, self.known, self.loose, self.high_mw)

    def _add_relaxed(self, unit: IntArray) -> Envelopes:
        """Add units without commitment, which give all their room as reserve."""
        high = self.high_mw[:, unit]
        low = relaxed_low_mw(self.inputs, unit, self.known, self.high_mw)
        added = add_envelopes(self.plant, unit, low, high, relaxed_start_eur_per_h(self.inputs, unit))
        if self.plant.reserve:
            self.plant.up += [(columns, -factor) for columns, factor in added.output]
            self.plant.up_fixed_mw += high.sum(1)
            self.plant.down += added.output
            self.plant.down_fixed_mw -= low.sum(1)
        return added

    def _count_known_switching(self, unit: IntArray) -> None:
        """Count the start and stop costs of known commitments, which are constants."""
        inputs = self.inputs
        on, initial = np.zeros(self.known.shape, bool), np.zeros(self.known.shape[1], bool)
        on[:, unit] = self.known[:, unit] == 1
        initial[unit] = on[0, unit] if inputs.free_start else inputs.initial_on[unit]
        cost = switching_cost_eur(
            inputs.grid.units, on, initial, inputs.initial_h, inputs.period_h, inputs.free_start
        )
        self.model.offset += float(cost[:, unit].sum())

    def prices(self, solution: Solution) -> Prices:
        """Return the prices of a relaxation or dispatch."""
        limits, dual, h = self.limits, solution.row_dual, self.inputs.period_h
        energy = dual[self.balance][:, None] + limits.congestion_eur_per_mwh(dual, h) * h
        none = np.zeros(self.known.shape[0])
        up, down = (dual[rows] if rows.size else none for rows in self.plant.reserve_rows)
        return Prices(energy, up, down)

    def outputs(self, x: FloatArray, objective: float, bound: float, status: str, fallback: str) -> Outputs:
        """Translate a solution into the slot's outputs."""
        inputs, grid = self.inputs, self.inputs.grid
        p, on = np.zeros(self.known.shape), self.known == 1
        low, high = np.zeros(p.shape), np.where(on, self.high_mw, 0.0)
        p[:, self.settled.unit] = x[self.settled.columns]
        low[:, self.settled.unit], high[:, self.settled.unit] = self.settled.low_mw, self.settled.high_mw
        p[:, self.variable.unit] = self.variable.p_mw(x)
        self._read_choice(x, on, p, low, high)
        self._read_free(x, on, p, low, high)
        relaxed = self.relaxed
        p[:, relaxed.unit] = relaxed.p_mw(x)
        on[:, relaxed.unit] = counts_as_on(inputs, relaxed.unit, self.known, p)
        initial = np.where(inputs.initial_on & (not inputs.free_start), inputs.initial_p_mw, np.nan)
        up, down = reserve_ability(grid, self.plant.limits, on, p, (low, high), initial)
        up[:, relaxed.unit] = np.maximum(relaxed.high_mw - p[:, relaxed.unit], 0.0)
        down[:, relaxed.unit] = np.maximum(p[:, relaxed.unit] - relaxed.low_mw, 0.0)
        short_up, short_down = (np.maximum(x[columns], 0.0) for columns in self.short)
        waived = self.settled.waived + int(self.free.range.step_waived.sum())
        waived += int(self.choice.priced.range.step_waived.sum())
        notes = [status]
        if waived:
            notes.append(f"{waived} ramp or stop limits that the prescriptions cannot keep are waived")
        if self.loose.any():
            notes.append(f"minimum times of {int(self.loose.sum())} units contradict the prescriptions")
        return Outputs(
            on=on,
            p_mw=p,
            reserve_up_mw=share_reserve(inputs.reserve_up_mw, short_up, up),
            reserve_down_mw=share_reserve(inputs.reserve_down_mw, short_down, down),
            storage_p_mw=x[self.storage[:, :, 1]] - x[self.storage[:, :, 0]],
            storage_energy_mwh=x[self.storage[:, :, 2]],
            hvdc_p_mw=x[self.hvdc[:, :, 0]] - x[self.hvdc[:, :, 1]],
            unserved_mw=x[self.unserved],
            surplus_mw=x[self.surplus],
            reserve_short_mw=short_up + short_down,
            overload_mw=self.limits.excess_mw(x).sum(1),
            objective_eur=objective,
            bound_eur=min(bound, objective),
            gap=relative_gap(objective, bound),
            network_limits=self.limits.n_generated,
            status="; ".join(notes),
            fallback=fallback,
        )

    def _read_choice(self, x: FloatArray, on: BoolArray, p: FloatArray, low: FloatArray, high: FloatArray) -> None:
        """Fill in the units that choose among schedules."""
        choice, share = self.choice, self.choice.shares(x)
        place = np.flatnonzero(share > 0.5)
        unit = choice.unit[choice.owner[place]]
        on[:, unit] = choice.on[place].T
        p[:, choice.unit] = choice.p_mw(x)
        low[:, unit] = choice.priced.range.low_mw[:, choice.owner[place]] * on[:, unit]
        high[:, unit] = low[:, unit] + choice.room[place].sum(2).T

    def _read_free(self, x: FloatArray, on: BoolArray, p: FloatArray, low: FloatArray, high: FloatArray) -> None:
        """Fill in the free units."""
        free = self.free
        u = x[free.u]
        on[:, free.unit] = u > 0.5
        p[:, free.unit] = free.p_mw(x)
        stops = np.vstack([x[free.w[1:]], np.zeros((1, free.unit.size))])
        r = free.range
        cut = np.maximum(r.after_start_mw * x[free.v], r.before_stop_mw * stops)
        low[:, free.unit] = r.low_mw * u
        high[:, free.unit] = (r.low_mw + r.width_mw) * u - cut


def relative_gap(objective: float, bound: float) -> float:
    """Return (objective - bound) / |objective|, at least 0; the absolute gap where the objective is below 1."""
    return max(objective - bound, 0.0) / max(abs(objective), 1.0)
