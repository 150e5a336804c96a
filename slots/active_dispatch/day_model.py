"""The linear model of a day's dispatch without its network, and the way back from a solution to set points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.injections import sum_by_bus
from bos_core.grid.model import FloatArray, IntArray
from bos_core.grid.schedule import production_cost_eur_per_h
from bos_core.objects.errors import Finding, InputError, ProgramError
from slots.active_dispatch.contract import Inputs, Outputs
from slots.linear_model import INF, LinearModel, Session, Solution
from slots.plant import Plant, SettledUnits, VariablePools, reserve_ability, share_reserve

NOT_SHEDDABLE_FACTOR = 10.0
"""How much dearer it is to shed a load that is not to be shed: the last resort that keeps a day solvable."""
DIRECTION_GAP = 2e-3
"""Enough for the rare hours whose prices are below zero; the set points are optimal for the directions found."""
NODES_MAX = 500


def validate(inputs: Inputs) -> None:
    """Raise InputError when the day contradicts itself."""
    s = inputs.grid.storages
    wrong = (inputs.storage_initial_mwh > s.energy_mwh_max + 1e-6) | (
        inputs.storage_initial_mwh < s.energy_mwh_min - 1e-6
    )
    if wrong.any():
        raise InputError(
            (
                Finding(
                    "storage",
                    tuple(map(str, s.id[wrong])),
                    "starts outside its energy limits",
                    "give an initial energy between energy_mwh_min and energy_mwh_max",
                    "storage_initial_mwh",
                ),
            )
        )


@dataclass(frozen=True, eq=False)
class Shedding:
    """Columns of load shedding: by bus for sheddable loads, one an hour for the others."""

    bus: IntArray
    columns: IntArray
    sheddable_mw: FloatArray
    rest: IntArray
    rest_share: FloatArray


class DayModel:
    """Columns, balance terms and injections of a day; the programs add the network.

    Attributes
    ----------
    model : LinearModel
    plant : Plant
    """

    def __init__(self, inputs: Inputs) -> None:
        validate(inputs)
        grid, units = inputs.grid, inputs.grid.units
        n_hour = inputs.load_p_mw.shape[0]
        self.inputs = inputs
        self.model = LinearModel()
        reserve = bool(inputs.reserve_up_mw.any() or inputs.reserve_down_mw.any())
        self.plant = Plant(self.model, grid, n_hour, 1, reserve)
        self.high_mw = np.where(inputs.on, np.minimum(inputs.available_mw, units.p_mw_max), 0.0)
        thermal, variable = np.flatnonzero(~units.variable), np.flatnonzero(units.variable)
        self.thermal: SettledUnits = self.plant.add_settled(
            thermal,
            inputs.on[:, thermal],
            self.high_mw[:, thermal],
            inputs.initial_on[thermal] | ~units.committable[thermal],
            inputs.initial_p_mw[thermal],
        )
        self.variable: VariablePools = self.plant.add_variable(variable, self.high_mw[:, variable])
        price = inputs.unserved_eur_per_mwh
        self.storage = self.plant.add_storages(inputs.storage_initial_mwh, inputs.storage_final_mwh, price)
        self.hvdc = self.plant.add_hvdc()
        self.shedding = self._add_shedding()
        self.surplus = self.model.add_columns((n_hour,), 0.0, INF, price)
        self.plant.spread(self.surplus, -self._shares(np.maximum(inputs.load_p_mw, 0.0)))
        self.short = self.plant.add_reserve(
            inputs.reserve_up_mw, inputs.reserve_down_mw, inputs.reserve_eur_per_mwh
        )
        self.plant.fixed_mw -= sum_by_bus(grid.loads.bus, inputs.load_p_mw, grid.network.n_bus)
        self.plant.fixed_mw -= self._shares(np.maximum(inputs.load_p_mw, 0.0)) * inputs.losses_mw[:, None]

    def solve(self, session: Session) -> Solution:
        """Solve the day; with binary directions of storages and HVDC lines, the prices are those of the LP left.

        Raises
        ------
        ProgramError
            No solution, which the priced slacks should prevent.
        """
        directions = self.plant.directions
        if directions.size:
            session.set_bounds(directions, np.zeros(directions.size), np.ones(directions.size))
            mixed = session.solve_integer(DIRECTION_GAP, NODES_MAX)
            if mixed.found:
                chosen = np.round(mixed.x[directions])
                session.set_bounds(directions, chosen, chosen)
        solution = session.solve_relaxation()
        if not solution.found:
            raise ProgramError(f"the dispatch model is {solution.status}; keep this day's input and report it")
        return solution

    def _shares(self, load_mw: FloatArray) -> FloatArray:
        """Return the buses' shares of some load, (hour, bus); all buses alike in an hour without any."""
        n_bus = self.inputs.grid.network.n_bus
        by_bus = sum_by_bus(self.inputs.grid.loads.bus, load_mw, n_bus)
        total = by_bus.sum(1, keepdims=True)
        return np.where(total > 0, by_bus / np.where(total > 0, total, 1.0), 1.0 / n_bus)

    def _add_shedding(self) -> Shedding:
        inputs, loads = self.inputs, self.inputs.grid.loads
        demand = np.maximum(inputs.load_p_mw, 0.0)
        sheddable = np.where(loads.sheddable, demand, 0.0)
        by_bus = sum_by_bus(loads.bus, sheddable, inputs.grid.network.n_bus)
        bus = np.flatnonzero(by_bus.any(0))
        price = inputs.unserved_eur_per_mwh
        columns = self.model.add_columns((demand.shape[0], bus.size), 0.0, by_bus[:, bus], price)
        self.plant.inject(columns, bus)
        rest = np.where(loads.sheddable & (demand > sheddable).any(), 0.0, demand)
        column = self.model.add_columns((demand.shape[0],), 0.0, INF, price * NOT_SHEDDABLE_FACTOR)
        self.plant.spread(column, self._shares(rest))
        return Shedding(bus, columns, sheddable, column, rest)

    def shed_mw(self, x: FloatArray) -> FloatArray:
        """Return the shed of each load, (hour, load): a bus's shed is shared by demand."""
        shedding, loads = self.shedding, self.inputs.grid.loads
        by_bus = np.zeros((shedding.rest.size, self.inputs.grid.network.n_bus))
        by_bus[:, shedding.bus] = x[shedding.columns]
        total = sum_by_bus(loads.bus, shedding.sheddable_mw, by_bus.shape[1])
        ratio = np.divide(by_bus, total, out=np.zeros_like(by_bus), where=total > 0)
        rest_total = shedding.rest_share.sum(1)
        rest = np.divide(x[shedding.rest], rest_total, out=np.zeros_like(rest_total), where=rest_total > 0)
        return np.asarray(ratio[:, loads.bus] * shedding.sheddable_mw + rest[:, None] * shedding.rest_share)

    def outputs(
        self, x: FloatArray, objective: float, flow_mw: FloatArray, price: FloatArray, status: str, fallback: str
    ) -> Outputs:
        """Translate a solution into the slot's outputs."""
        inputs, grid = self.inputs, self.inputs.grid
        p = np.zeros(inputs.on.shape)
        p[:, self.thermal.unit] = x[self.thermal.columns]
        p[:, self.variable.unit] = self.variable.p_mw(x)
        low, high = np.zeros(p.shape), self.high_mw.copy()
        low[:, self.thermal.unit], high[:, self.thermal.unit] = self.thermal.low_mw, self.thermal.high_mw
        initial = np.where(inputs.initial_on, inputs.initial_p_mw, np.nan)
        up, down = reserve_ability(grid, self.plant.limits, inputs.on, p, (low, high), initial)
        short_up, short_down = (np.maximum(x[columns], 0.0) for columns in self.short)
        if self.plant.directions.size:
            status += f"; {self.plant.directions.size} directions of storage or HVDC within {DIRECTION_GAP:.1%}"
        if self.thermal.waived:
            status += f"; {self.thermal.waived} ramp or stop limits that the commitment cannot keep are waived"
        return Outputs(
            p_mw=p,
            reserve_up_mw=share_reserve(inputs.reserve_up_mw, short_up, up),
            reserve_down_mw=share_reserve(inputs.reserve_down_mw, short_down, down),
            storage_p_mw=x[self.storage[:, :, 1]] - x[self.storage[:, :, 0]],
            storage_energy_mwh=x[self.storage[:, :, 2]],
            hvdc_p_mw=x[self.hvdc[:, :, 0]] - x[self.hvdc[:, :, 1]],
            shed_mw=self.shed_mw(x),
            flow_mw=flow_mw,
            overload_mw=np.maximum(np.abs(flow_mw) - inputs.branch_mw_max, 0.0),
            surplus_mw=x[self.surplus],
            reserve_short_mw=short_up + short_down,
            price_eur_per_mwh=price,
            cost_eur=production_cost_eur_per_h(grid.units, inputs.on, p, inputs.available_mw).sum(1),
            objective_eur=objective,
            status=status,
            fallback=fallback,
        )
