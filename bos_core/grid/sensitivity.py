"""AC sensitivities by adjoint solves: one LU of the Jacobian, one transposed solve a monitored quantity.

The linearised power flow reads J dx = du, with every bus's angle and magnitude in x. The rows of J are the power
balances; where a bus holds its voltage (and where the slack holds its angle) the row is that of the identity,
so that du there is the change of the set point. For a quantity f(x) the adjoint J^-T df/dx is at once the
derivative with respect to every active injection, reactive injection and voltage set point. J is the Jacobian of
Newton's method (`bos_core.grid.newton`), whose magnitudes are logarithms.

Constant-current and constant-impedance loads are in J. Balance is the slack's alone.

References
----------
H. W. Dommel, W. F. Tinney, "Optimal power flow solutions", IEEE Transactions PAS-87 (1968).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numba as nb
import numpy as np
import scipy.sparse as sp

from bos_core.grid.elimination import Elimination, Factors, Int32Array, Pattern, eliminate, factorize
from bos_core.grid.injections import BusInjections
from bos_core.grid.model import BoolArray, ComplexArray, FloatArray, IntArray, Network
from bos_core.grid.newton import FIXED, PQ, PV, bus_powers, jacobian, new_workspace
from bos_core.grid.power_flow import PowerFlowSolution, admittances_with_loads, prepare


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
    elimination : Elimination, optional
        Of the same topology, to save its computation.
    """

    def __init__(
        self,
        network: Network,
        injections: BusInjections,
        solution: PowerFlowSolution,
        tap_up: Network | None = None,
        tap_down: Network | None = None,
        elimination: Elimination | None = None,
    ) -> None:
        self.network = network
        self._elimination = elimination or eliminate(network)
        self.v_pu: ComplexArray = solution.v_pu
        held: BoolArray = injections.voltage_control & (solution.q_state == 0)
        held[network.slack] = True
        self.held = held
        self._injections = injections
        self._taps = (tap_up, tap_down) if tap_up is not None and tap_down is not None else None

    @cached_property
    def _factors(self) -> Factors:
        elimination, network = self._elimination, self.network
        state, _ = prepare(elimination, network, self._injections, self.v_pu, None)
        state.kind[:] = np.where(self.held[elimination.order], PV, PQ)
        state.kind[elimination.position[network.slack]] = FIXED
        pattern, room, factors = elimination.pattern, new_workspace(elimination.pattern), elimination.new_factors()
        g, b = admittances_with_loads(elimination, network, self._injections)
        bus_powers(pattern, g, b, state.vr, state.vi, room.p, room.q)
        jacobian(pattern, g, b, state, room.p, room.q, room.jacobian)
        if not factorize(pattern, room.jacobian, factors, room.work):
            raise ValueError("the Jacobian of the solved state is singular")
        return factors

    @cached_property
    def _admittance(self) -> sp.csr_matrix:
        return self.network.admittance_matrix()

    @cached_property
    def _power(self) -> ComplexArray:
        """Power that each bus puts into the network and its shunts, (bus,)."""
        power: ComplexArray = self.v_pu * np.conj(self._admittance @ self.v_pu)
        return power

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
        return self._rows(self._powers(np.array([self.network.slack]), reactive=False))

    def losses(self) -> Rows:
        """Linearise the active losses of branches and shunts, one row.

        Voltage-dependent loads are not losses: their change is left out of `value` but not of the derivatives,
        which are those of the slack's power plus the injection itself.
        """
        slack = self.slack_power()
        d_p = slack.d_p + 1.0
        d_p[:, self.network.slack] = 0.0
        return Rows(np.array([self._power.real.sum()]), d_p, slack.d_q, slack.d_vm_set, slack.d_tap)

    def reactive_powers(self, bus: IntArray) -> Rows:
        """Linearise the reactive power that buses put into the network; sensible where they hold a voltage."""
        return self._rows(self._powers(bus, reactive=True))

    def _powers(self, bus: IntArray, *, reactive: bool) -> _Quantity:
        """Active or reactive power of buses."""
        n, v, row = self.network.n_bus, self.v_pu, np.arange(bus.size)
        unit = v / np.abs(v)
        near = self._admittance[bus].tocoo()
        at, other = bus[near.row], near.col
        drawn = np.conj(self._power[bus] / v[bus])
        gradient = [
            (row, bus, 1j * self._power[bus]),
            (near.row, other, -1j * v[at] * np.conj(near.data * v[other])),
            (row, n + bus, unit[bus] * np.conj(drawn)),
            (near.row, n + other, v[at] * np.conj(near.data * unit[other])),
        ]
        rows, columns, values = (np.concatenate(part) for part in zip(*gradient, strict=True))
        part = values.imag if reactive else values.real
        return _Quantity(
            value=(self._power.imag if reactive else self._power.real)[bus],
            gradient=sp.csr_matrix((part, (rows, columns)), (bus.size, 2 * n)),
            direct=self._tap_power[n * reactive + bus],
        )

    def _rows(self, quantity: _Quantity) -> Rows:
        n, count, elimination = self.network.n_bus, quantity.value.size, self._elimination
        vm = np.abs(self.v_pu)
        gradient = sp.csr_matrix(quantity.gradient @ sp.diags(np.concatenate([np.ones(n), vm])))
        d_p, d_q, d_vm_set = (np.zeros((count, n)) for _ in range(3))
        _adjoint(
            elimination.pattern, self._factors, elimination.order, elimination.position,
            gradient.indptr, gradient.indices, gradient.data, self.held, vm, d_p, d_q, d_vm_set,
        )  # fmt: skip
        d_p[:, self.network.slack] = 0.0
        moved = self._tap_power.T.tocsr()
        touched = np.unique(moved.indices)
        at_angle, at_magnitude = touched[touched < n], touched[touched >= n] - n
        adjoint = np.concatenate([d_p[:, at_angle], d_q[:, at_magnitude]], axis=1)
        d_tap = quantity.direct.toarray() - (moved[:, touched] @ adjoint.T).T
        return Rows(quantity.value, d_p, d_q, d_vm_set, d_tap)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _adjoint(
    pattern: Pattern,
    factors: Factors,
    order: IntArray,
    position: IntArray,
    gradient_ptr: Int32Array,
    gradient_column: Int32Array,
    gradient_value: FloatArray,
    held: BoolArray,
    vm_pu: FloatArray,
    d_p: FloatArray,
    d_q: FloatArray,
    d_vm_set: FloatArray,
) -> None:
    """Solve with the transposed Jacobian for each row of a sparse gradient; write the derivatives (row, bus).

    Gradients have few entries, and the zeros of the forward way are skipped.
    """
    lower, upper, inverse = factors.lower, factors.upper, factors.diagonal_inverse
    n = order.size
    x = np.empty((n, 2))
    for r in range(d_p.shape[0]):
        x[:] = 0.0
        for p in range(gradient_ptr[r], gradient_ptr[r + 1]):
            column = gradient_column[p]
            x[position[column % n], column // n] += gradient_value[p]
        for i in range(n):
            a, b = x[i, 0], x[i, 1]
            if a == 0.0 and b == 0.0:
                continue
            s, t = inverse[i, 0] * a + inverse[i, 2] * b, inverse[i, 1] * a + inverse[i, 3] * b
            x[i, 0], x[i, 1] = s, t
            for p in range(pattern.u_ptr[i], pattern.u_ptr[i + 1]):
                k = pattern.u_column[p]
                x[k, 0] -= upper[p, 0] * s + upper[p, 2] * t
                x[k, 1] -= upper[p, 1] * s + upper[p, 3] * t
        for i in range(n - 1, -1, -1):
            s, t = x[i, 0], x[i, 1]
            for p in range(pattern.l_ptr[i], pattern.l_ptr[i + 1]):
                k = pattern.l_column[p]
                x[k, 0] -= lower[p, 0] * s + lower[p, 2] * t
                x[k, 1] -= lower[p, 1] * s + lower[p, 3] * t
            bus = order[i]
            d_p[r, bus] = s
            if held[bus]:
                d_vm_set[r, bus] = t / vm_pu[bus]
            else:
                d_q[r, bus] = t
