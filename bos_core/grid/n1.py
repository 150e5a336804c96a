"""N-1 by AC power flow: every outage in every hour of a block, its extremes and its violations.

An outage that cuts the network leaves its larger part (by buses; of equals the one with the slack) as the main
island; the smaller part is dead: its load and generation are lost and it leaves all extremes. Where the larger
part has no slack, its bus with the widest reactive range of voltage control becomes the slack; where it has no
voltage control at all, the part with the slack is the main island whatever its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bos_core.grid.elimination import Elimination, Factors, elimination_of
from bos_core.grid.injections import BusInjections, bus_injections, hvdc_injections, sum_by_bus
from bos_core.grid.islands import find_cut_offs
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
from bos_core.grid.n1_kernels import KERNELS, solve_outages
from bos_core.grid.n1_lanes import Outages
from bos_core.grid.newton import (
    FIXED,
    Control,
    State,
    Workspace,
    advance,
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
        Outages that Newton's method solved one by one, after the kernel had given them up.
    kernel : str
        What solved the others; one of `bos_core.grid.n1_kernels.KERNELS`.
    kernel_s : dict
        Time that it took by part of the work, s; empty where the kernel keeps none.
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
    kernel: str
    kernel_s: dict[str, float]


@dataclass(frozen=True, eq=False)
class _Split:
    """What the outages of an hour cut off; see `Outages`.

    case_of_dead, dead_bus: a case and a bus that is dead in it. slack_lost: (contingency,).
    """

    outages: Outages
    case_of_dead: IntArray
    dead_bus: IntArray
    slack_lost: BoolArray

    def dead_buses(self, case: int) -> IntArray:
        """Return the buses that are dead in a case."""
        return self.dead_bus[self.outages.dead_first[case] : self.outages.dead_last[case]]


def verify_outages(
    grid: Grid,
    states: Snapshot,
    contingency_branch: IntArray,
    criteria: Criteria,
    *,
    enforce_q_limits: bool = True,
    distributed_slack: bool = False,
    tol: float = TOLERANCE_PU,
    kernel: str = KERNELS[0],
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
    kernel : str
        One of `bos_core.grid.n1_kernels.KERNELS`.
    """
    elimination = elimination_of(grid.network)
    results: list[_Hour] = []
    expected = np.zeros(contingency_branch.size, np.int64)
    for h in range(states.vm_pu.shape[0]):
        results.append(
            _verify_hour(
                grid, states.hour(h), contingency_branch, criteria, elimination, expected, enforce_q_limits,
                distributed_slack, tol, kernel,
            )
        )  # fmt: skip
        expected = results[-1].extremes.iterations
    return _joined(results, contingency_branch.size, grid.network, kernel)


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
    kernel_s: dict[str, float]


def _verify_hour(
    grid: Grid,
    snapshot: Snapshot,
    contingency_branch: IntArray,
    criteria: Criteria,
    elimination: Elimination,
    expected: IntArray,
    enforce: bool,
    distributed: bool,
    tol: float,
    kernel: str,
) -> _Hour:
    network, injections = network_at(grid, snapshot), bus_injections(grid, snapshot)
    weights = participation(grid, snapshot) if distributed else None
    v0 = snapshot.vm_pu * np.exp(1j * snapshot.va_rad)
    state, control = prepare(elimination, network, injections, v0, weights)
    g, b = admittances_with_loads(elimination, network, injections)
    pattern, slack = elimination.pattern, int(elimination.position[network.slack])
    hour = _HourCase(elimination, g, b, state, control, slack, elimination.new_factors(), new_workspace(pattern))
    _, _, balance, solved = newton_with_limits(
        pattern, g, b, state, control, slack, hour.factors, hour.room, tol, MAX_ITERATIONS, enforce
    )
    split = _split(grid, contingency_branch, expected, elimination, injections)
    lost_load, lost_generation = _lost(grid, snapshot, split)
    extremes = new_extremes(contingency_branch.size)
    if not solved:
        nothing = np.full(network.n_branch, np.nan), np.full(network.n_bus, np.nan)
        empty = new_list(0)
        return _Hour(extremes, lost_load, lost_generation, DIVERGED, *nothing, empty, empty, 0, {})
    state.p[:] += balance * state.weight
    v = (state.vr + 1j * state.vi)[elimination.position]
    monitor = _monitor(network, elimination, criteria, v)
    hour.factorize()
    solved_together = solve_outages(
        kernel, pattern, hour.factors, state, control, g, b, slack, split.outages, monitor, extremes, tol, enforce,
        distributed,
    )  # fmt: skip
    overloads, voltages = solved_together.overloads, solved_together.voltages
    found = _Findings(extremes, overloads, overloads.case.size, voltages, voltages.case.size)
    for case in solved_together.left:
        given_back = _stranded_hvdc(grid, snapshot, elimination, split.dead_buses(case))
        _solve_alone(hour, split, int(case), given_back, monitor, tol, enforce, found)
    return _Hour(
        extremes,
        lost_load,
        lost_generation,
        CONVERGED,
        network.loading(v),
        np.abs(v),
        _in_order(found.overloads, found.n_overloads),
        _in_order(found.voltages, found.n_voltages),
        solved_together.left.size,
        solved_together.seconds,
    )


@dataclass(frozen=True, eq=False)
class _HourCase:
    """The solved base case of an hour and the room to solve outages from it."""

    elimination: Elimination
    g: FloatArray
    b: FloatArray
    state: State
    control: Control
    slack: int
    factors: Factors
    room: Workspace

    def factorize(self) -> None:
        """Factorize the Jacobian at the base case's voltages."""
        advance(self.elimination.pattern, self.g, self.b, self.state, 0.0, self.factors, self.room)


@dataclass
class _Findings:
    """Results of an hour while they grow."""

    extremes: Extremes
    overloads: Listed
    n_overloads: int
    voltages: Listed
    n_voltages: int


def _solve_alone(
    hour: _HourCase,
    split: _Split,
    case: int,
    given_back: _Stranded,
    monitor: Monitor,
    tol: float,
    enforce: bool,
    found: _Findings,
) -> None:
    """Solve one outage by Newton's method from the base case, and record it."""
    base, outages, extremes = hour.control, split.outages, found.extremes
    k = int(outages.branch[case])
    g, b = hour.g.copy(), hour.b.copy()
    admittance = monitor.admittance[k].reshape(4, 2)
    np.subtract.at(g, hour.elimination.branch_slot[k], admittance[:, 0])
    np.subtract.at(b, hour.elimination.branch_slot[k], admittance[:, 1])
    cut_off = outages.dead[outages.dead_first[case] : outages.dead_last[case]]
    dead = np.zeros(hour.state.vr.size, np.bool_)
    dead[cut_off] = True
    kind, weight = hour.state.kind.copy(), hour.state.weight.copy()
    kind[cut_off], weight[cut_off] = FIXED, 0.0
    p, q, q_fixed = hour.state.p.copy(), hour.state.q.copy(), base.q_fixed.copy()
    np.add.at(p, given_back.position, given_back.p_pu)
    np.add.at(q_fixed, given_back.position, given_back.q_pu)
    slack = hour.slack
    if split.slack_lost[case]:
        width = np.where(base.active & ~dead, base.q_max - base.q_min, -1.0)
        position = hour.elimination.position
        slack = int(position[np.argmax(width[position])])
        kind[slack], weight[slack] = FIXED, 1.0
    control = base._replace(q_fixed=q_fixed, state=base.state.copy())
    state = hour.state._replace(
        kind=kind, p=p, q=q, weight=weight, vr=hour.state.vr.copy(), vi=hour.state.vi.copy()
    )
    iterations, residual, _, solved = newton_with_limits(
        hour.elimination.pattern,
        g,
        b,
        state,
        control,
        slack,
        hour.factors,
        hour.room,
        tol,
        MAX_ITERATIONS,
        enforce,
    )
    extremes.iterations[case], extremes.residual_pu[case] = iterations, residual
    if not solved:
        return
    extremes.outcome[case] = ISLANDED if cut_off.size else CONVERGED
    extremes.q_switches[case] = np.sum(base.active & ~dead & (control.state != base.state))
    found.overloads = with_room(found.overloads, found.n_overloads, monitor.from_position.size)
    found.voltages = with_room(found.voltages, found.n_voltages, dead.size)
    found.n_overloads = watch_branches(
        monitor, case, k, state.vr, state.vi, dead, extremes, found.overloads, found.n_overloads
    )
    found.n_voltages = watch_buses(
        monitor, case, state.vr, state.vi, dead, extremes, found.voltages, found.n_voltages
    )


def _split(
    grid: Grid, branch: IntArray, expected: IntArray, elimination: Elimination, injections: BusInjections
) -> _Split:
    """Say what every outage cuts off and which outages must be solved alone."""
    network, hvdc, cut_offs = grid.network, grid.hvdc, find_cut_offs(grid.network)
    n, order, cases = network.n_bus, cut_offs.order, branch.size
    first, last = cut_offs.first[branch], cut_offs.last[branch]
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)

    def is_far(bus: IntArray) -> BoolArray:
        return (first[:, None] <= place[bus]) & (place[bus] < last[:, None])

    stranded = (is_far(hvdc.from_bus) != is_far(hvdc.to_bus)).any(axis=1)
    controlled = np.concatenate([[0], np.cumsum(injections.voltage_control[order])])
    slack_lost = (2 * (last - first) > n) & (controlled[last] > controlled[first])
    # dead are the buses of a run of the walk, or, where the slack is lost, those of the two runs beside it
    run_case = np.concatenate([np.arange(cases), np.flatnonzero(slack_lost)])
    run_first = np.concatenate([np.where(slack_lost, 0, first), last[slack_lost]])
    run_last = np.concatenate([np.where(slack_lost, first, last), np.full(slack_lost.sum(), n)])
    run, length = np.repeat(np.arange(run_case.size), run_last - run_first), np.cumsum(run_last - run_first)
    at = np.arange(run.size) + (run_last - length)[run]
    case_of_dead, dead_bus = np.divmod(np.sort(run_case[run] * n + order[at]), n)
    size = np.bincount(case_of_dead, minlength=cases)
    ends = np.cumsum(size)
    alone = (network.from_bus == network.to_bus)[branch] | slack_lost | stranded
    outages = Outages(branch.astype(np.int64), ends - size, ends, elimination.position[dead_bus], alone, expected)
    return _Split(outages, case_of_dead, dead_bus, slack_lost)


def _lost(grid: Grid, snapshot: Snapshot, split: _Split) -> tuple[FloatArray, FloatArray]:
    """Return the load and the generation at the dead buses of every outage, MW, at scheduled powers.

    Storages and HVDC ends count as load while they draw power and as generation while they give it.
    """
    n, cases = grid.network.n_bus, split.slack_lost.size
    from_mw, to_mw = hvdc_injections(grid.hvdc, snapshot.hvdc_p_mw)
    buses = (grid.units.bus, grid.storages.bus, grid.hvdc.from_bus, grid.hvdc.to_bus, grid.loads.bus)
    powers = (
        np.where(snapshot.unit_on, snapshot.unit_p_mw, 0.0),
        snapshot.storage_p_mw,
        from_mw,
        to_mw,
        -snapshot.load_p_mw,
    )
    given, drawn = np.zeros(n), np.zeros(n)
    for bus, p in zip(buses, powers, strict=True):
        given += sum_by_bus(bus, np.maximum(p, 0.0), n)
        drawn += sum_by_bus(bus, np.maximum(-p, 0.0), n)
    load, generation = (sum_by_bus(split.case_of_dead, power[split.dead_bus], cases) for power in (drawn, given))
    return load, generation


@dataclass(frozen=True, eq=False)
class _Stranded:
    """What the live ends of HVDC lines with a dead end give back: bus positions and injections, p.u."""

    position: IntArray
    p_pu: FloatArray
    q_pu: FloatArray


def _stranded_hvdc(grid: Grid, snapshot: Snapshot, elimination: Elimination, dead: IntArray) -> _Stranded:
    hvdc, base = grid.hvdc, grid.network.base_mva
    from_mw, to_mw = hvdc_injections(hvdc, snapshot.hvdc_p_mw)
    fixed_from = np.where(np.isfinite(snapshot.hvdc_vm_from_set_pu), 0.0, snapshot.hvdc_q_from_mvar)
    fixed_to = np.where(np.isfinite(snapshot.hvdc_vm_to_set_pu), 0.0, snapshot.hvdc_q_to_mvar)
    from_dead, to_dead = np.isin(hvdc.from_bus, dead), np.isin(hvdc.to_bus, dead)
    a, b = to_dead & ~from_dead, from_dead & ~to_dead
    return _Stranded(
        elimination.position[np.concatenate([hvdc.from_bus[a], hvdc.to_bus[b]])],
        -np.concatenate([from_mw[a], to_mw[b]]) / base,
        -np.concatenate([fixed_from[a], fixed_to[b]]) / base,
    )


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


def _joined(hours: list[_Hour], cases: int, network: Network, kernel: str) -> N1Result:
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

    parts = dict.fromkeys(part for hour in hours for part in hour.kernel_s)
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
        kernel=kernel,
        kernel_s={part: sum(hour.kernel_s.get(part, 0.0) for hour in hours) for part in parts},
    )
