"""N-1 by AC power flow: every outage in every hour of a block, its extremes and its violations.

An outage that cuts the network leaves its larger part (by buses; of equals the one with the slack) as the main
island; the smaller part is dead: its load and generation are lost and it leaves all extremes. Where the larger
part has no slack, its bus with the widest reactive range of voltage control becomes the slack; where it has no
voltage control at all, the part with the slack is the main island whatever its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np

from bos_core.grid.elimination import Elimination, Factors, Pattern, eliminate, factorize
from bos_core.grid.injections import BusInjections, bus_injections, hvdc_injections, sum_by_bus
from bos_core.grid.islands import CutOffs, find_cut_offs
from bos_core.grid.model import BoolArray, ComplexArray, FloatArray, Grid, IntArray, Network, Snapshot
from bos_core.grid.n1_cases import (
    CONVERGED,
    CRITERION_TOLERANCE,
    DIVERGED,
    ISLANDED,
    Extremes,
    Listed,
    Monitor,
    new_extremes,
    new_list,
    watch_branches,
    watch_buses,
    with_room,
)
from bos_core.grid.n1_lanes import Outages, prepare_base, solve_in_lanes
from bos_core.grid.newton import (
    FIXED,
    Control,
    State,
    Workspace,
    bus_powers,
    jacobian,
    new_workspace,
    newton_with_limits,
)
from bos_core.grid.power_flow import (
    MAX_ITERATIONS,
    TOLERANCE_PU,
    admittances_with_loads,
    network_at,
    participation,
    prepare,
)

WORSE_BY = 1e-3
"""A violation that the base case has already is listed when it is worse by this (p.u., or loading as a ratio)."""

LANE_ITERATIONS = 40


@dataclass(frozen=True, eq=False)
class Criteria:
    """Limits after a contingency: voltages (bus,) in p.u., loading (branch,) as a ratio."""

    vm_pu_min: FloatArray
    vm_pu_max: FloatArray
    loading_max: FloatArray


@dataclass(frozen=True, eq=False)
class Violations:
    """A list of violations, by hour, contingency and element."""

    hour: IntArray
    contingency: IntArray
    element: IntArray
    value: FloatArray


@dataclass(frozen=True, eq=False)
class N1Result:
    """Results of a block.

    Attributes
    ----------
    extremes : Extremes
        Each array (hour, contingency).
    lost_load_mw, lost_generation_mw : (hour, contingency)
    base_outcome : (hour,) int
    base_loading : (hour, branch)
        NaN where the base case diverged.
    base_vm_pu : (hour, bus)
    overloads, voltages : Violations
        Elements beyond their criterion that are new, or worse than in the base case by `WORSE_BY`.
    solved_alone : (hour,) int
        Outages that Newton's method solved one by one, after the lanes had given them up.
    """

    extremes: Extremes
    lost_load_mw: FloatArray
    lost_generation_mw: FloatArray
    base_outcome: IntArray
    base_loading: FloatArray
    base_vm_pu: FloatArray
    overloads: Violations
    voltages: Violations
    solved_alone: IntArray


@dataclass(frozen=True, eq=False)
class _Split:
    """What the outages of a block do to the topology, by elimination position; see `Outages`."""

    outages: Outages
    dead_buses: list[IntArray]
    slack_lost: BoolArray


def verify_outages(
    grid: Grid,
    states: Snapshot,
    contingency_branch: IntArray,
    criteria: Criteria,
    *,
    enforce_q_limits: bool = True,
    distributed_slack: bool = False,
    tol: float = TOLERANCE_PU,
    lanes: bool = True,
) -> N1Result:
    """Solve every outage in every hour of a block.

    Parameters
    ----------
    states : Snapshot
        A block; every hour starts from its own voltages, so results do not depend on the rest of the block.
    contingency_branch : (contingency,) int
    enforce_q_limits : bool
        Whether voltage control ends at reactive limits, in the base case and after each outage.
    distributed_slack : bool
        Whether running units share the balance (`bos_core.grid.power_flow.participation`).
    tol : float
        Largest power mismatch, p.u.
    lanes : bool
        Whether outages are solved side by side with the factors of the base case; otherwise each one by
        Newton's method from the base case.
    """
    elimination = eliminate(grid.network)
    hours = states.vm_pu.shape[0]
    cut_offs = find_cut_offs(grid.network)
    results = [
        _verify_hour(
            grid, states.hour(h), contingency_branch, criteria, elimination, cut_offs,
            enforce_q_limits, distributed_slack, tol, lanes,
        )
        for h in range(hours)
    ]  # fmt: skip
    return _joined(results, contingency_branch.size, grid.network)


@dataclass(frozen=True, eq=False)
class _Hour:
    extremes: Extremes
    lost_load_mw: FloatArray
    lost_generation_mw: FloatArray
    base_outcome: int
    base_loading: FloatArray
    base_vm_pu: FloatArray
    overloads: Listed
    voltages: Listed
    solved_alone: int


def _verify_hour(
    grid: Grid,
    snapshot: Snapshot,
    contingency_branch: IntArray,
    criteria: Criteria,
    elimination: Elimination,
    cut_offs: CutOffs,
    enforce: bool,
    distributed: bool,
    tol: float,
    use_lanes: bool,
) -> _Hour:
    network, injections = network_at(grid, snapshot), bus_injections(grid, snapshot)
    weights = participation(grid, snapshot) if distributed else None
    v0 = snapshot.vm_pu * np.exp(1j * snapshot.va_rad)
    state, control = prepare(elimination, network, injections, v0, weights)
    g, b = admittances_with_loads(elimination, network, injections)
    pattern, slack = elimination.pattern, int(elimination.position[network.slack])
    factors, room = elimination.new_factors(), new_workspace(elimination.pattern)
    _, _, balance, solved = newton_with_limits(
        pattern, g, b, state, control, slack, factors, room, tol, MAX_ITERATIONS, enforce
    )
    cases = contingency_branch.size
    extremes, overloads, voltages = new_extremes(cases), new_list(), new_list()
    split = _split(grid, contingency_branch, elimination, cut_offs, injections)
    lost_load, lost_generation = _lost(grid, snapshot, split.dead_buses)
    if not solved:
        nothing = np.full(network.n_branch, np.nan), np.full(network.n_bus, np.nan)
        empty = new_list(0)
        return _Hour(extremes, lost_load, lost_generation, DIVERGED, *nothing, empty, empty, 0)
    state.p[:] += balance * state.weight
    v = (state.vr + 1j * state.vi)[elimination.position]
    monitor = _monitor(network, elimination, criteria, v)
    outages, left = split.outages, np.arange(cases)
    n_overloads = n_voltages = 0
    if use_lanes:
        _factorize_base(pattern, g, b, state, factors, room)
        base = prepare_base(pattern, g, b, state, control, slack, factors)
        overloads, n_overloads, voltages, n_voltages, left = solve_in_lanes(
            base, outages, monitor, tol, LANE_ITERATIONS, enforce, extremes, overloads, voltages
        )
    extra_p, extra_q = _stranded_hvdc(grid, snapshot, elimination, split.dead_buses)
    for case in left:
        overloads, n_overloads, voltages, n_voltages = _solve_alone(
            pattern, g, b, state, control, slack, factors, room, outages, split.slack_lost, case,
            extra_p.get(int(case), _NOTHING), extra_q.get(int(case), _NOTHING), elimination.branch_slot, monitor,
            tol, enforce, extremes, overloads, n_overloads, voltages, n_voltages,
        )  # fmt: skip
    return _Hour(
        extremes,
        lost_load,
        lost_generation,
        CONVERGED,
        network.loading(v),
        np.abs(v),
        _in_order(overloads, n_overloads),
        _in_order(voltages, n_voltages),
        left.size,
    )


_NOTHING = np.zeros((0, 2))


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _factorize_base(
    pattern: Pattern, g: FloatArray, b: FloatArray, state: State, factors: Factors, room: Workspace
) -> bool:
    bus_powers(pattern, g, b, state.vr, state.vi, room.p, room.q)
    jacobian(pattern, g, b, state, room.p, room.q, room.jacobian)
    regular: bool = factorize(pattern, room.jacobian, factors, room.work)
    return regular


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _solve_alone(
    pattern: Pattern,
    g_base: FloatArray,
    b_base: FloatArray,
    base_state: State,
    base_control: Control,
    slack: int,
    factors: Factors,
    room: Workspace,
    outages: Outages,
    slack_lost: BoolArray,
    case: int,
    extra_p: FloatArray,
    extra_q: FloatArray,
    branch_slot: IntArray,
    monitor: Monitor,
    tol: float,
    enforce: bool,
    extremes: Extremes,
    overloads: Listed,
    n_overloads: int,
    voltages: Listed,
    n_voltages: int,
) -> tuple[Listed, int, Listed, int]:
    """Solve one outage by Newton's method from the base case, and record it."""
    k = outages.branch[case]
    g, b = g_base.copy(), b_base.copy()
    for part in range(4):
        g[branch_slot[k, part]] -= monitor.admittance[k, 2 * part]
        b[branch_slot[k, part]] -= monitor.admittance[k, 2 * part + 1]
    dead = np.zeros(base_state.vr.size, np.bool_)
    kind, weight = base_state.kind.copy(), base_state.weight.copy()
    for i in outages.dead[outages.dead_first[case] : outages.dead_last[case]]:
        dead[i], kind[i], weight[i] = True, FIXED, 0.0
    p, q_fixed = base_state.p.copy(), base_control.q_fixed.copy()
    for row in range(extra_p.shape[0]):
        p[np.int64(extra_p[row, 0])] += extra_p[row, 1]
    for row in range(extra_q.shape[0]):
        q_fixed[np.int64(extra_q[row, 0])] += extra_q[row, 1]
    control = Control(
        base_control.active, base_control.vm_set, q_fixed, base_control.q_min, base_control.q_max,
        base_control.state.copy(),
    )  # fmt: skip
    if slack_lost[case]:
        slack = _deputy(control, dead)
        kind[slack] = FIXED
        weight[slack] = 1.0
    state = State(
        kind, p, base_state.q.copy(), base_state.p_current, base_state.q_current, weight,
        base_state.vr.copy(), base_state.vi.copy(),
    )  # fmt: skip
    iterations, residual, _, solved = newton_with_limits(
        pattern, g, b, state, control, slack, factors, room, tol, MAX_ITERATIONS, enforce
    )
    extremes.iterations[case], extremes.residual_pu[case] = iterations, residual
    if not solved:
        return overloads, n_overloads, voltages, n_voltages
    extremes.outcome[case] = ISLANDED if dead.any() else CONVERGED
    for i in range(dead.size):
        if control.active[i] and not dead[i] and control.state[i] != base_control.state[i]:
            extremes.q_switches[case] += 1
    overloads = with_room(overloads, n_overloads, monitor.from_position.size)
    voltages = with_room(voltages, n_voltages, dead.size)
    n_overloads = watch_branches(monitor, case, k, state.vr, state.vi, dead, extremes, overloads, n_overloads)
    n_voltages = watch_buses(monitor, case, state.vr, state.vi, dead, extremes, voltages, n_voltages)
    return overloads, n_overloads, voltages, n_voltages


@nb.njit(cache=True, nogil=True)
def _deputy(control: Control, dead: BoolArray) -> int:
    """Return the live bus with the widest reactive range of voltage control."""
    best, widest = -1, -1.0
    for i in range(dead.size):
        if control.active[i] and not dead[i] and control.q_max[i] - control.q_min[i] > widest:
            best, widest = i, control.q_max[i] - control.q_min[i]
    return best


def _split(
    grid: Grid,
    contingency_branch: IntArray,
    elimination: Elimination,
    cut_offs: CutOffs,
    injections: BusInjections,
) -> _Split:
    """Say what every outage cuts off and which outages must be solved alone."""
    network, hvdc = grid.network, grid.hvdc
    cases = contingency_branch.size
    dead_buses: list[IntArray] = []
    slack_lost, alone = np.zeros(cases, bool), network.from_bus == network.to_bus
    alone = alone[contingency_branch]
    nobody = np.zeros(0, np.int64)
    mask = np.zeros(network.n_bus, bool)
    for case, branch in enumerate(contingency_branch):
        far = cut_offs.far_side(int(branch))
        if far.size == 0:
            dead_buses.append(nobody)
            continue
        controlled = far[injections.voltage_control[far]]
        if 2 * far.size > network.n_bus and controlled.size:
            mask[:] = True
            slack_lost[case] = True
        else:
            mask[:] = False
        mask[far] = ~mask[far]
        dead_buses.append(np.flatnonzero(mask))
        stranded = mask[hvdc.from_bus] != mask[hvdc.to_bus]
        alone[case] |= slack_lost[case] or bool(stranded.any())
    ends = np.cumsum([0, *(dead.size for dead in dead_buses)])
    outages = Outages(
        branch=contingency_branch.astype(np.int64),
        dead_first=ends[:-1].astype(np.int64),
        dead_last=ends[1:].astype(np.int64),
        dead=elimination.position[np.concatenate([nobody, *dead_buses])],
        alone=alone,
    )
    return _Split(outages, dead_buses, slack_lost)


def _lost(grid: Grid, snapshot: Snapshot, dead_buses: list[IntArray]) -> tuple[FloatArray, FloatArray]:
    """Return the load and the generation at the dead buses of every outage, MW, at scheduled powers.

    Storages and HVDC ends count as load while they draw power and as generation while they give it.
    """
    n = grid.network.n_bus
    from_mw, to_mw = hvdc_injections(grid.hvdc, snapshot.hvdc_p_mw)
    buses = (grid.units.bus, grid.storages.bus, grid.hvdc.from_bus, grid.hvdc.to_bus, grid.loads.bus)
    powers = (
        np.where(snapshot.unit_on, snapshot.unit_p_mw, 0.0),
        snapshot.storage_p_mw,
        from_mw,
        to_mw,
        -snapshot.load_p_mw,
    )
    given = sum(sum_by_bus(bus, np.maximum(p, 0.0), n) for bus, p in zip(buses, powers, strict=True))
    drawn = sum(sum_by_bus(bus, np.maximum(-p, 0.0), n) for bus, p in zip(buses, powers, strict=True))
    load = np.array([np.sum(np.asarray(drawn)[dead]) for dead in dead_buses], dtype=np.float64)
    generation = np.array([np.sum(np.asarray(given)[dead]) for dead in dead_buses], dtype=np.float64)
    return load, generation


def _stranded_hvdc(
    grid: Grid, snapshot: Snapshot, elimination: Elimination, dead_buses: list[IntArray]
) -> tuple[dict[int, FloatArray], dict[int, FloatArray]]:
    """Return, per outage, what the live ends of HVDC lines with a dead end must give back: rows (bus, p.u.)."""
    hvdc, base = grid.hvdc, grid.network.base_mva
    p: dict[int, FloatArray] = {}
    q: dict[int, FloatArray] = {}
    if hvdc.from_bus.size == 0:
        return p, q
    from_mw, to_mw = hvdc_injections(hvdc, snapshot.hvdc_p_mw)
    fixed_from = np.where(np.isfinite(snapshot.hvdc_vm_from_set_pu), 0.0, snapshot.hvdc_q_from_mvar)
    fixed_to = np.where(np.isfinite(snapshot.hvdc_vm_to_set_pu), 0.0, snapshot.hvdc_q_to_mvar)
    mask = np.zeros(grid.network.n_bus, bool)
    for case, dead in enumerate(dead_buses):
        mask[:] = False
        mask[dead] = True
        from_alive = mask[hvdc.to_bus] & ~mask[hvdc.from_bus]
        to_alive = mask[hvdc.from_bus] & ~mask[hvdc.to_bus]
        if not (from_alive | to_alive).any():
            continue
        live = elimination.position[np.concatenate([hvdc.from_bus[from_alive], hvdc.to_bus[to_alive]])]
        p[case] = np.column_stack([live, -np.concatenate([from_mw[from_alive], to_mw[to_alive]]) / base])
        q[case] = np.column_stack([live, -np.concatenate([fixed_from[from_alive], fixed_to[to_alive]]) / base])
    return p, q


def _monitor(network: Network, elimination: Elimination, criteria: Criteria, v: ComplexArray) -> Monitor:
    """Return what is watched, with the thresholds that make a violation new or worse than the base case."""
    order, vm, loading = elimination.order, np.abs(v), network.loading(v)
    admittances = np.stack(network.branch_admittances(), axis=1)
    worse = CRITERION_TOLERANCE
    return Monitor(
        order=order,
        from_position=elimination.from_position,
        to_position=elimination.to_position,
        admittance=np.ascontiguousarray(admittances).view(np.float64),
        per_rating_from=1.0 / network.i_max_from_pu,
        per_rating_to=1.0 / network.i_max_to_pu,
        loading_limit=criteria.loading_max,
        loading_listed=np.where(loading > criteria.loading_max + worse, loading + WORSE_BY, 0.0),
        vm_low=criteria.vm_pu_min[order],
        vm_low_listed=np.where(vm < criteria.vm_pu_min - worse, vm - WORSE_BY, np.inf)[order],
        vm_high=criteria.vm_pu_max[order],
        vm_high_listed=np.where(vm > criteria.vm_pu_max + worse, vm + WORSE_BY, 0.0)[order],
    )


def _in_order(listed: Listed, used: int) -> Listed:
    case, element, value = listed.case[:used], listed.element[:used], listed.value[:used]
    order = np.lexsort((element, case))
    return Listed(case[order], element[order], value[order])


def _joined(hours: list[_Hour], cases: int, network: Network) -> N1Result:
    def rows(values: list[FloatArray], width: int) -> FloatArray:
        return np.stack(values) if values else np.zeros((0, width))

    def violations(lists: list[Listed]) -> Violations:
        lists = [*lists, new_list(0)]
        sizes = np.array([part.case.size for part in lists])
        return Violations(
            np.repeat(np.arange(sizes.size), sizes),
            np.concatenate([part.case for part in lists]),
            np.concatenate([part.element for part in lists]),
            np.concatenate([part.value for part in lists]),
        )

    def stacked(name: str) -> Any:
        columns = [getattr(hour.extremes, name) for hour in hours]
        return np.stack(columns) if columns else getattr(new_extremes(cases), name)[None][:0]

    return N1Result(
        extremes=Extremes(**{name: stacked(name) for name in Extremes._fields}),
        lost_load_mw=rows([hour.lost_load_mw for hour in hours], cases),
        lost_generation_mw=rows([hour.lost_generation_mw for hour in hours], cases),
        base_outcome=np.array([hour.base_outcome for hour in hours], dtype=np.int64),
        base_loading=rows([hour.base_loading for hour in hours], network.n_branch),
        base_vm_pu=rows([hour.base_vm_pu for hour in hours], network.n_bus),
        overloads=violations([hour.overloads for hour in hours]),
        voltages=violations([hour.voltages for hour in hours]),
        solved_alone=np.array([hour.solved_alone for hour in hours], dtype=np.int64),
    )
