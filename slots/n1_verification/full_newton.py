"""One outage at a time by textbook Newton with a general sparse solver: slow, short, and independent.

Shares no numerical code with the default program: the admittance matrix is built anew for every outage, islands
are found by graph search, and the Jacobian is that of complex-matrix notation (Zimmerman 2010, "AC power flows,
generalized OPF costs and their derivatives using complex matrix notation").
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace

import numpy as np
import scipy.sparse as sp
from pydantic import Field
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

from bos_core.grid.injections import BusInjections, bus_injections, hvdc_injections
from bos_core.grid.model import BoolArray, ComplexArray, FloatArray, Grid, IntArray, Network, Snapshot
from bos_core.grid.n1 import WORSE_BY
from bos_core.grid.n1_cases import CRITERION_TOLERANCE
from bos_core.grid.newton import LIMIT_TOLERANCE_PU, MAX_RETURNS
from bos_core.grid.power_flow import network_at
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.n1_verification.contract import CONVERGED, DIVERGED, ISLANDED, Inputs, Outputs

logger = logging.getLogger(__name__)


class Parameters(ProgramParameters):
    """Parameters of the one-by-one N-1 verification."""

    tolerance_pu: float = Field(default=1e-8, gt=0, le=1e-6)
    """Largest power mismatch of a solution, p.u."""

    iterations_max: int = Field(default=30, ge=1, le=200)
    """Newton iterations of one round; every round of reactive-limit switching starts anew."""

    rounds_max: int = Field(default=60, ge=1, le=1000)
    """Rounds of reactive-limit switching."""


MANIFEST = ProgramManifest(
    name="full_newton",
    slot="n1_verification",
    version="1.0.0",
    title="Full Newton, one by one",
    description=(
        "Every outage by its own textbook Newton iterations with a general sparse solver. Hundreds of times "
        "slower than the default; meant for cross-checks and small grids. Single slack."
    ),
    parameters=Parameters,
    references=(
        "R. D. Zimmerman, AC power flows, generalized OPF costs and their derivatives using complex matrix "
        "notation, MATPOWER Technical Note 2 (2010)",
    ),
)


@dataclass(frozen=True, eq=False)
class _Start:
    """Where a power flow starts: voltages, and the state of every voltage control (-1, 0, +1)."""

    v: ComplexArray
    q_state: IntArray


@dataclass(frozen=True, eq=False)
class _Solution:
    v: ComplexArray
    q_state: IntArray
    iterations: int
    residual: float
    solved: bool


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Verify every pair of hour and outage."""
    hours = inputs.states.vm_pu.shape[0]
    book = _Book.open(hours, inputs)
    for h in range(hours):
        _verify_hour(inputs, parameters, h, book)
    return book.outputs()


def _verify_hour(inputs: Inputs, parameters: Parameters, h: int, book: _Book) -> None:
    grid, snapshot = inputs.grid, inputs.states.hour(h)
    network, injections = network_at(grid, snapshot), bus_injections(grid, snapshot)
    v0 = snapshot.vm_pu * np.exp(1j * snapshot.va_rad)
    start = _Start(v0, np.zeros(network.n_bus, np.int64))
    everyone = np.ones(network.n_bus, bool)
    base = _solve(network, injections, start, everyone, network.slack, inputs.enforce_q_limits, parameters)
    if not base.solved:
        logger.warning("n-1: the base case of hour %d diverged", h)
    book.enter_base(h, network, base)
    for c, branch in enumerate(inputs.contingency_branch):
        after = _without(network, int(branch))
        live, slack = _main_island(after, injections)
        book.enter_losses(h, c, grid, snapshot, ~live)
        if not base.solved:
            continue
        given = _without_stranded_hvdc(grid, snapshot, injections, live)
        case = _solve(after, given, _Start(base.v, base.q_state), live, slack, inputs.enforce_q_limits, parameters)
        book.enter(h, c, network, int(branch), live, slack, base, case)


def _without(network: Network, branch: int) -> Network:
    kept = np.arange(network.n_branch) != branch
    columns = {
        f.name: getattr(network, f.name)[kept]
        for f in fields(Network)
        if f.name.startswith(("branch_", "r_pu", "x_pu", "g_from", "b_from", "g_to", "b_to", "i_max", "outage"))
        or f.name in ("from_bus", "to_bus", "ratio", "shift_rad")
    }
    return replace(network, **columns)


def _main_island(network: Network, injections: BusInjections) -> tuple[BoolArray, int]:
    """Return the live buses and their slack; see `bos_core.grid.n1` for the rule."""
    graph = sp.coo_matrix((np.ones(network.n_branch), (network.from_bus, network.to_bus)), (network.n_bus,) * 2)
    _, part = connected_components(graph, directed=False)
    live = part == part[network.slack]
    others = ~live
    if 2 * others.sum() <= network.n_bus or not injections.voltage_control[others].any():
        return live, network.slack
    width = injections.q_pu_max - injections.q_pu_min
    candidates = others & injections.voltage_control
    return others, int(np.argmax(np.where(candidates, width, -1.0)))


def _without_stranded_hvdc(
    grid: Grid, snapshot: Snapshot, injections: BusInjections, live: BoolArray
) -> BusInjections:
    hvdc, base = grid.hvdc, grid.network.base_mva
    p, q = injections.p_pu.copy(), injections.q_pu.copy()
    powers = hvdc_injections(hvdc, snapshot.hvdc_p_mw)
    reactive = (snapshot.hvdc_q_from_mvar, snapshot.hvdc_q_to_mvar)
    set_points = (snapshot.hvdc_vm_from_set_pu, snapshot.hvdc_vm_to_set_pu)
    for line in np.flatnonzero(live[hvdc.from_bus] != live[hvdc.to_bus]):
        end = 0 if live[hvdc.from_bus[line]] else 1
        bus = (hvdc.from_bus, hvdc.to_bus)[end][line]
        p[bus] -= powers[end][line] / base
        if not np.isfinite(set_points[end][line]):
            q[bus] -= reactive[end][line] / base
    return replace(injections, p_pu=p, q_pu=q)


def _solve(
    network: Network,
    injections: BusInjections,
    start: _Start,
    live: BoolArray,
    slack: int,
    enforce: bool,
    parameters: Parameters,
) -> _Solution:
    """Solve one state, switching between voltage control and reactive limits until all agree."""
    admittance = network.admittance_matrix()
    controlled = injections.voltage_control & live
    controlled[slack] = False
    v, q_state = start.v.copy(), start.q_state.copy()
    v[slack] *= injections.vm_set_pu[slack] / np.abs(v[slack])
    returns = np.zeros(v.size, np.int64)
    total, share, good = 0, 0.0, None
    for _ in range(parameters.rounds_max):
        held = controlled & (q_state == 0)
        v[held] *= injections.vm_set_pu[held] / np.abs(v[held])
        limit = np.where(q_state > 0, injections.q_pu_max, injections.q_pu_min)
        q_given = injections.q_pu + np.where(controlled & (q_state != 0), limit, 0.0)
        p_free = live.copy()
        p_free[slack] = False
        v, flow, iterations, residual = _newton(
            admittance, injections, q_given, v, p_free, p_free & ~held, parameters
        )
        total += iterations
        solved = residual <= parameters.tolerance_pu
        if solved and not enforce:
            return _Solution(v, q_state, total, residual, True)
        if solved:
            good = (v, flow, q_state.copy())
        elif share == 1.0 or good is None:
            return _Solution(v, q_state, total, residual, False)
        else:
            share = 0.5 if share == 0.0 else 1.0
            v, flow, q_state = good[0].copy(), good[1], good[2].copy()
        switched = _switch(injections, controlled, v, flow.imag, q_state, returns, share)
        if switched == 0:
            return _Solution(v, q_state, total, residual, bool(solved))
    return _Solution(v, q_state, total, residual, False)


def _switch(
    injections: BusInjections,
    controlled: BoolArray,
    v: ComplexArray,
    q_flow: FloatArray,
    q_state: IntArray,
    returns: IntArray,
    share: float,
) -> int:
    vm = np.abs(v)
    own = q_flow - injections.q_pu + injections.q_current_pu * vm + injections.q_impedance_pu * vm**2
    above, below = own - injections.q_pu_max, injections.q_pu_min - own
    back = (q_state != 0) & ((vm - injections.vm_set_pu) * q_state > LIMIT_TOLERANCE_PU) & (returns < MAX_RETURNS)
    new = np.where(back, 0, q_state)
    new = np.where((q_state == 0) & (above > LIMIT_TOLERANCE_PU), 1, new)
    new = np.where((q_state == 0) & (above <= LIMIT_TOLERANCE_PU) & (below > LIMIT_TOLERANCE_PU), -1, new)
    changed = controlled & (new != q_state)
    excess = np.where(changed & (new != 0), np.maximum(above, below), 0.0)
    changed &= (new == 0) | (excess >= share * excess.max(initial=0.0))
    returns[changed & (new == 0)] += 1
    q_state[changed] = new[changed]
    return int(changed.sum())


def _newton(
    admittance: sp.csr_matrix,
    injections: BusInjections,
    q_given: FloatArray,
    v: ComplexArray,
    p_free: BoolArray,
    q_free: BoolArray,
    parameters: Parameters,
) -> tuple[ComplexArray, ComplexArray, int, float]:
    """Return voltages, flows out of the buses, iterations and the largest mismatch."""
    rows_p, rows_q = np.flatnonzero(p_free), np.flatnonzero(q_free)
    constant = injections.p_pu + 1j * q_given
    current = injections.p_current_pu + 1j * injections.q_current_pu
    impedance = injections.p_impedance_pu + 1j * injections.q_impedance_pu
    residual, iteration = np.inf, 0
    while True:
        vm, i = np.abs(v), admittance @ v
        flow = v * np.conj(i)
        gap = flow - (constant - current * vm - impedance * vm**2)
        mismatch = np.concatenate([gap.real[rows_p], gap.imag[rows_q]])
        residual = float(np.abs(mismatch).max(initial=0.0))
        stop = residual <= parameters.tolerance_pu or iteration == parameters.iterations_max
        if stop or not residual < 1e8:
            return v, flow, iteration, residual
        unit = sp.diags(v / vm)
        by_vm = sp.diags(v) @ (admittance @ unit).conj() + sp.diags(np.conj(i)) @ unit
        by_vm = (by_vm + sp.diags(current + 2 * impedance * vm)).tocsr()
        by_va = (1j * sp.diags(v) @ (sp.diags(i) - admittance @ sp.diags(v)).conj()).tocsr()
        matrix = sp.bmat(
            [
                [by_va[rows_p][:, rows_p].real, by_vm[rows_p][:, rows_q].real],
                [by_va[rows_q][:, rows_p].imag, by_vm[rows_q][:, rows_q].imag],
            ],
            format="csc",
        )
        step = np.atleast_1d(spsolve(matrix, mismatch))
        va = np.angle(v)
        va[rows_p] -= step[: rows_p.size]
        vm[rows_q] -= step[rows_p.size :]
        v = vm * np.exp(1j * va)
        iteration += 1


@dataclass(frozen=True, eq=False)
class _Book:
    """Results while they grow."""

    inputs: Inputs
    pair: dict[str, FloatArray | IntArray]
    base_outcome: IntArray
    base_loading: FloatArray
    base_vm: FloatArray
    overloads: list[tuple[int, int, int, float]]
    voltages: list[tuple[int, int, int, float]]

    @classmethod
    def open(cls, hours: int, inputs: Inputs) -> _Book:
        shape, network = (hours, inputs.contingency_branch.size), inputs.grid.network
        pair: dict[str, FloatArray | IntArray] = {"outcome": np.full(shape, DIVERGED)}
        for name in ("residual_pu", "loading_max", "vm_min_pu", "vm_max_pu"):
            pair[name] = np.full(shape, np.nan)
        for name in ("loading_branch", "vm_min_bus", "vm_max_bus"):
            pair[name] = np.full(shape, -1)
        for name in ("iterations", "overloaded", "voltage_violations", "q_switches"):
            pair[name] = np.zeros(shape, np.int64)
        for name in ("lost_load_mw", "lost_generation_mw"):
            pair[name] = np.zeros(shape)
        return cls(
            inputs,
            pair,
            np.full(hours, DIVERGED),
            np.full((hours, network.n_branch), np.nan),
            np.full((hours, network.n_bus), np.nan),
            [],
            [],
        )

    def enter_base(self, h: int, network: Network, base: _Solution) -> None:
        if base.solved:
            self.base_outcome[h] = CONVERGED
            self.base_loading[h] = network.loading(base.v)
            self.base_vm[h] = np.abs(base.v)

    def enter_losses(self, h: int, c: int, grid: Grid, snapshot: Snapshot, dead: BoolArray) -> None:
        from_mw, to_mw = hvdc_injections(grid.hvdc, snapshot.hvdc_p_mw)
        at_dead = np.concatenate(
            [
                np.where(snapshot.unit_on, snapshot.unit_p_mw, 0.0)[dead[grid.units.bus]],
                snapshot.storage_p_mw[dead[grid.storages.bus]],
                from_mw[dead[grid.hvdc.from_bus]],
                to_mw[dead[grid.hvdc.to_bus]],
                -snapshot.load_p_mw[dead[grid.loads.bus]],
            ]
        )
        self.pair["lost_generation_mw"][h, c] = at_dead[at_dead > 0].sum()
        self.pair["lost_load_mw"][h, c] = -at_dead[at_dead < 0].sum()

    def enter(
        self,
        h: int,
        c: int,
        network: Network,
        branch: int,
        live: BoolArray,
        slack: int,
        base: _Solution,
        case: _Solution,
    ) -> None:
        pair, inputs = self.pair, self.inputs
        pair["iterations"][h, c], pair["residual_pu"][h, c] = case.iterations, case.residual
        if not case.solved:
            return
        pair["outcome"][h, c] = CONVERGED if live.all() else ISLANDED
        pair["q_switches"][h, c] = np.sum((case.q_state != base.q_state)[live])
        loading = network.loading(case.v)
        watched = live[network.from_bus] & live[network.to_bus]
        watched[branch] = False
        rated = watched & (np.isfinite(network.i_max_from_pu) | np.isfinite(network.i_max_to_pu))
        if rated.any():
            worst = int(np.argmax(np.where(rated, loading, -1.0)))
            pair["loading_max"][h, c], pair["loading_branch"][h, c] = loading[worst], worst
        else:
            pair["loading_max"][h, c] = 0.0
        slip = CRITERION_TOLERANCE
        over = watched & (loading > inputs.loading_max + slip)
        pair["overloaded"][h, c] = over.sum()
        before = self.base_loading[h]
        listed = over & ((before <= inputs.loading_max + slip) | (loading > before + WORSE_BY))
        self.overloads.extend((h, c, int(k), float(loading[k])) for k in np.flatnonzero(listed))
        vm, before = np.abs(case.v), self.base_vm[h]
        lowest, highest = int(np.argmin(np.where(live, vm, np.inf))), int(np.argmax(np.where(live, vm, -np.inf)))
        pair["vm_min_pu"][h, c], pair["vm_min_bus"][h, c] = vm[lowest], lowest
        pair["vm_max_pu"][h, c], pair["vm_max_bus"][h, c] = vm[highest], highest
        low, high = live & (vm < inputs.vm_pu_min - slip), live & (vm > inputs.vm_pu_max + slip)
        pair["voltage_violations"][h, c] = np.sum(low | high)
        listed = low & ((before >= inputs.vm_pu_min - slip) | (vm < before - WORSE_BY))
        listed |= high & ((before <= inputs.vm_pu_max + slip) | (vm > before + WORSE_BY))
        self.voltages.extend((h, c, int(i), float(vm[i])) for i in np.flatnonzero(listed))

    def outputs(self) -> Outputs:
        over, volt = _columns(self.overloads), _columns(self.voltages)
        return Outputs(
            **self.pair,
            base_outcome=self.base_outcome,
            base_loading=self.base_loading,
            base_vm_pu=self.base_vm,
            overload_hour=over[0],
            overload_contingency=over[1],
            overload_branch=over[2],
            overload_loading=over[3],
            voltage_hour=volt[0],
            voltage_contingency=volt[1],
            voltage_bus=volt[2],
            voltage_vm_pu=volt[3],
        )


def _columns(rows: list[tuple[int, int, int, float]]) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    hour, contingency, element = table[:, :3].astype(np.int64).T
    return hour, contingency, element, table[:, 3].copy()
