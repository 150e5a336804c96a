"""Steady-state security assessment of one snapshot: AC power flow, violations, and one figure of merit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from bos_core.grid.elimination import Elimination
from bos_core.grid.injections import BusInjections, bus_injections, update_snapshot
from bos_core.grid.model import BranchKind, FloatArray, Grid, IntArray, Network, Snapshot
from bos_core.grid.power_flow import CONVERGED, PowerFlowSolution, network_at, solve
from slots.security_assessment.contract import Inputs
from slots.security_assessment.initial_state import segments_above

Q_TOLERANCE_MVAR = 0.1
P_TOLERANCE_MW = 0.01


@dataclass(frozen=True)
class Prices:
    """What a violation counts in the figure of merit."""

    overload_eur_per_mvah: float
    voltage_eur_per_pu_h: float
    balance_eur_per_mwh: float
    reactive_eur_per_mvarh: float


@dataclass(frozen=True, eq=False)
class Assessment:
    """A solved snapshot and what is wrong with it.

    Attributes
    ----------
    snapshot : Snapshot
        With the solution written to its devices.
    network, injections, solution
        What the power flow was given and found.
    loading : (branch,)
    low_pu, high_pu : (bus,)
        How far the voltage is below and above the criterion, negative inside.
    q_excess_mvar : (unit,)
    slack_excess_mw : float
        Balance that the slack's running units cannot give.
    cost_eur_per_h : float
        Generation, curtailment and shedding.
    merit_eur_per_h : float
        Cost and priced violations.
    """

    snapshot: Snapshot
    network: Network
    injections: BusInjections
    solution: PowerFlowSolution
    loading: FloatArray
    low_pu: FloatArray
    high_pu: FloatArray
    q_excess_mvar: FloatArray
    slack_excess_mw: float
    cost_eur_per_h: float
    merit_eur_per_h: float

    def secure(self, loading_max: FloatArray) -> bool:
        """Whether every criterion holds."""
        return bool(
            (self.loading <= loading_max).all()
            and (self.low_pu <= 0).all()
            and (self.high_pu <= 0).all()
            and self.q_violations() == 0
            and self.slack_excess_mw <= P_TOLERANCE_MW
        )

    def q_violations(self) -> int:
        """Return how many units are outside their reactive range."""
        return int((self.q_excess_mvar > Q_TOLERANCE_MVAR).sum())


def voltage_levels(network: Network) -> IntArray:
    """Return the galvanic subnet of each bus: buses joined by branches other than transformers, (bus,)."""
    joined = network.branch_kind != int(BranchKind.TRANSFORMER)
    ends = (network.from_bus[joined], network.to_bus[joined])
    graph = sp.csr_matrix((np.ones(ends[0].size), ends), shape=(network.n_bus, network.n_bus))
    _, label = connected_components(graph, directed=False)
    return np.asarray(label, dtype=np.int64)


class Assessor:
    """Solves and judges snapshots of one grid."""

    def __init__(self, inputs: Inputs, elimination: Elimination, prices: Prices) -> None:
        self.inputs = inputs
        self.grid: Grid = inputs.grid
        self.prices = prices
        self.subnet = voltage_levels(inputs.grid.network)
        self.elimination = elimination

    def assess(self, snapshot: Snapshot, *, warm: bool) -> Assessment | None:
        """Solve the power flow and judge the state; None where it diverges.

        Every controlling bus holds its set point; a device beyond its reactive range is a violation like any
        other, so that the state depends smoothly on the controls. Without violations it is the solution with
        limits enforced as well.

        Parameters
        ----------
        warm : bool
            Start from the snapshot's voltages; otherwise from a DC solution.
        """
        network = network_at(self.grid, snapshot)
        injections = bus_injections(self.grid, snapshot)
        start = snapshot.vm_pu * np.exp(1j * snapshot.va_rad) if warm else None
        solution = solve(network, injections, start, enforce_q_limits=False, elimination=self.elimination)
        if solution.outcome != CONVERGED:
            return None
        solved = update_snapshot(
            self.grid, snapshot, solution.vm_pu, solution.va_rad, solution.p_slack_pu, solution.q_control_pu
        )
        return self._judge(solved, network, injections, solution)

    def _judge(
        self, snapshot: Snapshot, network: Network, injections: BusInjections, solution: PowerFlowSolution
    ) -> Assessment:
        units, inputs = self.grid.units, self.inputs
        loading = network.loading(solution.v_pu)
        low, high = inputs.vm_pu_min - solution.vm_pu, solution.vm_pu - inputs.vm_pu_max
        q = snapshot.unit_q_mvar
        q_excess = np.where(snapshot.unit_on, np.maximum(units.q_mvar_min - q, q - units.q_mvar_max), 0.0)
        slack_low, slack_high = self.slack_range(snapshot)
        slack_power = self.slack_power(snapshot, solution)
        slack_excess = max(slack_low - slack_power, slack_power - slack_high, 0.0)
        cost = self.cost(snapshot)
        over = np.maximum(loading - inputs.loading_max, 0.0)
        rated = np.isfinite(network.i_max_from_pu)
        mva = np.where(rated, network.i_max_from_pu, 0.0) * network.base_mva
        prices = self.prices
        merit = (
            cost
            + prices.overload_eur_per_mvah * float(over @ mva)
            + prices.voltage_eur_per_pu_h * (self._worst(low).sum() + self._worst(high).sum())
            + prices.balance_eur_per_mwh * slack_excess
            + prices.reactive_eur_per_mvarh * float(np.maximum(q_excess, 0.0).sum())
        )
        return Assessment(
            snapshot, network, injections, solution, loading, low, high, q_excess, slack_excess, cost, float(merit)
        )

    def _worst(self, excess: FloatArray) -> FloatArray:
        """Largest excess of each subnet: neighbouring buses have one trouble in common, so it counts once."""
        worst = np.zeros(self.subnet.max() + 1)
        np.maximum.at(worst, self.subnet, excess)
        return worst

    def slack_power(self, snapshot: Snapshot, solution: PowerFlowSolution) -> float:
        """Return the power of the slack's running units, or the balance from outside where none runs, MW."""
        slack = self.grid.network.slack
        members = (self.grid.units.bus == slack) & snapshot.unit_on
        if not members.any():
            return float(solution.p_slack_pu[slack] * self.grid.network.base_mva)
        return float(snapshot.unit_p_mw[members].sum())

    def slack_range(self, snapshot: Snapshot) -> tuple[float, float]:
        """Return the limits of the slack's running units together, MW; (0, 0) where there are none."""
        units = self.grid.units
        members = (units.bus == self.grid.network.slack) & snapshot.unit_on
        high = np.minimum(units.p_mw_max, self.inputs.available_mw)[members]
        return float(np.minimum(units.p_mw_min[members], high).sum()), float(high.sum())

    def cost(self, snapshot: Snapshot) -> float:
        """Return the cost of generation, curtailment and shedding, EUR/h."""
        units, inputs = self.grid.units, self.inputs
        on = snapshot.unit_on
        p = np.where(on, snapshot.unit_p_mw, 0.0)
        bottom = np.where(units.committable, np.minimum(units.p_mw_min, p), np.minimum(0.0, p))
        unit, width, price = segments_above(self.grid, bottom, p)
        curtailed = self.curtailed(snapshot)
        return float(
            (units.minimum_output_eur_per_h[on & units.committable]).sum()
            + (width * price * on[unit]).sum()
            + curtailed @ units.curtailment_eur_per_mwh
            + self.shed(snapshot).sum() * inputs.shed_eur_per_mwh
        )

    def curtailed(self, snapshot: Snapshot) -> FloatArray:
        """Return the power of variable units that is available and not taken, MW, (unit,)."""
        units, inputs = self.grid.units, self.inputs
        usable = np.where(inputs.unit_in_service, np.minimum(units.p_mw_max, inputs.available_mw), 0.0)
        given = np.where(snapshot.unit_on, snapshot.unit_p_mw, 0.0)
        return np.where(units.variable, np.maximum(usable - given, 0.0), 0.0)

    def shed(self, snapshot: Snapshot) -> FloatArray:
        """Return the load that is not served, MW, (load,)."""
        return np.maximum(self.inputs.snapshot.load_p_mw - snapshot.load_p_mw, 0.0)
