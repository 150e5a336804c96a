"""AC sensitivities by adjoint solves: one LU of the Jacobian, one transposed solve a monitored quantity.

The linearised power flow reads J dx = du, with every bus's angle and magnitude in x. The rows of J are the power
balances; where a bus holds its voltage (and where the slack holds its angle) the row is that of the identity,
so that du there is the change of the set point. For a quantity f(x) the adjoint J^-T df/dx is at once the
derivative with respect to every active injection, reactive injection and voltage set point.

Constant-current and constant-impedance loads are in J. Balance is the slack's alone.

References
----------
H. W. Dommel, W. F. Tinney, "Optimal power flow solutions", IEEE Transactions PAS-87 (1968).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from bos_core.grid.injections import BusInjections
from bos_core.grid.model import BoolArray, ComplexArray, FloatArray, IntArray, Network
from bos_core.grid.power_flow import PowerFlowSolution

_COLUMNS = 128


@dataclass(frozen=True, eq=False)
class Rows:
    """Monitored quantities, linearised.

    Attributes
    ----------
    value : (row,)
        At the solved state, p.u.
    d_p : (row, bus)
        Change for 1 p.u. more active injection, balanced by the slack; 0 at the slack.
    d_q : (row, bus)
        For 1 p.u. more reactive injection; 0 where the bus holds its voltage. A shunt susceptance db injects
        db vm^2.
    d_vm_set : (row, bus)
        For 1 p.u. more voltage set point; 0 where the bus does not hold its voltage.
    d_tap : (row, tap)
        For one step more.
    """

    value: FloatArray
    d_p: FloatArray
    d_q: FloatArray
    d_vm_set: FloatArray
    d_tap: FloatArray


@dataclass(frozen=True, eq=False)
class _Quantity:
    """Values (row,), gradient with respect to angles and magnitudes (row, 2 bus), direct effect of taps."""

    value: FloatArray
    gradient: sp.csr_matrix
    direct: sp.csr_matrix


class Sensitivities:
    """Sensitivities of one solved state.

    Parameters
    ----------
    network : Network
        At the taps and shunt steps of the state.
    injections : BusInjections
        What the power flow was given.
    solution : PowerFlowSolution
    tap_up, tap_down : Network, optional
        The network with every tap one step up and down; without them `Rows.d_tap` is 0.
    """

    def __init__(
        self,
        network: Network,
        injections: BusInjections,
        solution: PowerFlowSolution,
        tap_up: Network | None = None,
        tap_down: Network | None = None,
    ) -> None:
        self.network = network
        self.v_pu: ComplexArray = solution.v_pu
        held: BoolArray = injections.voltage_control & (solution.q_state == 0)
        held[network.slack] = True
        self.held = held
        self._injections = injections
        self._taps = (tap_up, tap_down) if tap_up is not None and tap_down is not None else None

    @cached_property
    def _power_jacobian(self) -> sp.csr_matrix:
        """Derivatives of the power that each bus puts into the network and its shunts, (2 bus, 2 bus)."""
        y, v = self.network.admittance_matrix(), self.v_pu
        unit = v / np.abs(v)
        current = np.conj(y @ v)
        by_angle = sp.diags(1j * v) @ (sp.diags(current) - (y @ sp.diags(v)).conj())
        by_magnitude = sp.diags(unit * current) + sp.diags(v) @ (y @ sp.diags(unit)).conj()
        return sp.bmat([[by_angle.real, by_magnitude.real], [by_angle.imag, by_magnitude.imag]], format="csr")

    @cached_property
    def _solver(self) -> Any:
        n, loads, vm = self.network.n_bus, self._injections, np.abs(self.v_pu)
        by_voltage = np.concatenate(
            [
                loads.p_current_pu + 2 * loads.p_impedance_pu * vm,
                loads.q_current_pu + 2 * loads.q_impedance_pu * vm,
            ]
        )
        bus = np.arange(n)
        drawn = sp.csr_matrix((by_voltage, (np.arange(2 * n), n + np.concatenate([bus, bus]))), (2 * n, 2 * n))
        free = sp.diags(self._balanced.astype(float))
        fixed = sp.diags((~self._balanced).astype(float))
        return splu((free @ (self._power_jacobian + drawn) + fixed).tocsc())

    @cached_property
    def _balanced(self) -> BoolArray:
        """Which of the 2 bus rows are power balances."""
        active = np.ones(self.network.n_bus, dtype=np.bool_)
        active[self.network.slack] = False
        return np.concatenate([active, ~self.held])

    @cached_property
    def _tap_admittances(self) -> ComplexArray:
        """Change of (yff, yft, ytf, ytt) of each tapped branch for one step, (4, tap)."""
        taps = self.network.tap_branch
        if self._taps is None:
            return np.zeros((4, taps.size), dtype=np.complex128)
        up, down = (np.stack(n.branch_admittances())[:, taps] for n in self._taps)
        half: ComplexArray = (up - down) / 2
        return half

    @cached_property
    def _tap_power(self) -> sp.csr_matrix:
        """Change of the power into the network for one step at fixed voltages, (2 bus, tap)."""
        n, taps = self.network.n_bus, self.network.tap_branch
        f, t = self.network.from_bus[taps], self.network.to_bus[taps]
        ff, ft, tf, tt = self._tap_admittances
        at_f = self.v_pu[f] * np.conj(ff * self.v_pu[f] + ft * self.v_pu[t])
        at_t = self.v_pu[t] * np.conj(tf * self.v_pu[f] + tt * self.v_pu[t])
        column = np.arange(taps.size)
        values = np.concatenate([at_f.real, at_t.real, at_f.imag, at_t.imag])
        rows = np.concatenate([f, t, n + f, n + t])
        return sp.csr_matrix((values, (rows, np.tile(column, 4))), (2 * n, taps.size))

    def branch_currents(self, branch: IntArray, at_from: BoolArray, phase: ComplexArray | None = None) -> Rows:
        """Linearise the current at one end of each branch along a phase, p.u.

        Parameters
        ----------
        branch : (row,) int
        at_from : (row,) bool
            Which end.
        phase : (row,) complex, optional
            Unit direction. The part of the current along it is nearly linear over long ways and never larger
            than the magnitude; along the present phase (the default) its value is the magnitude and so is its
            derivative. A limit on the magnitude wants several directions when reactive flows change much.
        """
        return self._rows(self._branch_currents(branch, at_from, phase))

    def _branch_currents(self, branch: IntArray, at_from: BoolArray, phase: ComplexArray | None) -> _Quantity:
        n, v = self.network.n_bus, self.v_pu
        yff, yft, ytf, ytt = (y[branch] for y in self.network.branch_admittances())
        f, t = self.network.from_bus[branch], self.network.to_bus[branch]
        on_f, on_t = np.where(at_from, yff, ytf) * v[f], np.where(at_from, yft, ytt) * v[t]
        current = on_f + on_t
        turn = np.conj(current / np.maximum(np.abs(current), 1e-12) if phase is None else phase)
        vm = np.abs(v)
        values = [(1j * on_f), (1j * on_t), on_f / vm[f], on_t / vm[t]]
        row = np.arange(branch.size)
        gradient = sp.csr_matrix(
            (
                np.concatenate([(turn * value).real for value in values]),
                (np.tile(row, 4), np.concatenate([f, t, n + f, n + t])),
            ),
            (branch.size, 2 * n),
        )
        step = self._tap_admittances
        taps = self.network.tap_branch
        place = np.full(self.network.n_branch, -1, dtype=np.int64)
        place[taps] = np.arange(taps.size)
        own = np.flatnonzero(place[branch] >= 0)
        tap = place[branch[own]]
        end_f = np.where(at_from[own], step[0, tap], step[2, tap]) * v[f[own]]
        end_t = np.where(at_from[own], step[1, tap], step[3, tap]) * v[t[own]]
        direct = sp.csr_matrix(((turn[own] * (end_f + end_t)).real, (own, tap)), (branch.size, taps.size))
        return _Quantity((turn * current).real, gradient, direct)

    def voltages(self, bus: IntArray) -> Rows:
        """Linearise voltage magnitudes, p.u."""
        n, row = self.network.n_bus, np.arange(bus.size)
        gradient = sp.csr_matrix((np.ones(bus.size), (row, n + bus)), (bus.size, 2 * n))
        direct = sp.csr_matrix((bus.size, self.network.tap_branch.size))
        return self._rows(_Quantity(np.abs(self.v_pu[bus]), gradient, direct))

    def slack_power(self) -> Rows:
        """Linearise the active power that the slack bus puts into the network, one row."""
        return self._rows(self._powers(np.array([self.network.slack])))

    def losses(self) -> Rows:
        """Linearise the active losses of branches and shunts, one row.

        Voltage-dependent loads are not losses: their change is left out of `value` but not of the derivatives,
        which are those of the slack's power plus the injection itself.
        """
        slack = self.slack_power()
        power = self.v_pu * np.conj(self.network.admittance_matrix() @ self.v_pu)
        d_p = slack.d_p + 1.0
        d_p[:, self.network.slack] = 0.0
        return Rows(np.array([power.real.sum()]), d_p, slack.d_q, slack.d_vm_set, slack.d_tap)

    def reactive_powers(self, bus: IntArray) -> Rows:
        """Linearise the reactive power that buses put into the network; sensible where they hold a voltage."""
        return self._rows(self._powers(self.network.n_bus + bus))

    def _powers(self, row: IntArray) -> _Quantity:
        """Rows of the power Jacobian, 0 to bus - 1 active, then reactive."""
        power = self.v_pu * np.conj(self.network.admittance_matrix() @ self.v_pu)
        value = np.concatenate([power.real, power.imag])[row]
        return _Quantity(value, self._power_jacobian[row], self._tap_power[row])

    def _rows(self, quantity: _Quantity) -> Rows:
        n, count = self.network.n_bus, quantity.value.size
        adjoint = np.empty((count, 2 * n))
        transposed = quantity.gradient.T.tocsc()
        for start in range(0, count, _COLUMNS):
            chunk = slice(start, start + _COLUMNS)
            adjoint[chunk] = self._solver.solve(transposed[:, chunk].toarray(), trans="T").T
        d_tap = quantity.direct.toarray() - (self._tap_power.T @ (adjoint * self._balanced).T).T
        d_p, reactive = adjoint[:, :n], adjoint[:, n:]
        d_p[:, self.network.slack] = 0.0
        return Rows(
            value=quantity.value,
            d_p=d_p,
            d_q=np.where(self.held, 0.0, reactive),
            d_vm_set=np.where(self.held, reactive, 0.0),
            d_tap=d_tap,
        )
