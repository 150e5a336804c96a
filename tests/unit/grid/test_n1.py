"""N-1 on a small grid with every kind of device: two independent programs, islands, lists, determinism."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bos_core.grid.islands import find_cut_offs
from bos_core.grid.model import Grid, Snapshot, stack
from bos_core.grid.n1 import Criteria, verify_outages
from bos_core.grid.n1_kernels import INSTRUCTION_SETS, KERNELS, ONE_BY_ONE
from bos_core.grid.power_flow import solve_hours
from bos_core.objects.contracts import check
from slots.n1_verification import batched_newton, full_newton
from slots.n1_verification.contract import CONTRACT, CONVERGED, DIVERGED, ISLANDED, Inputs, Outputs

Case = tuple[Grid, Snapshot]
SPUR, TIP = 9, 10
"""Branches that cut off buses 6 and 7, and bus 7 alone."""

TIES = ("iterations", "residual_pu", "vm_max_bus", "vm_min_bus")
"""Outputs in which two right programs may differ: buses at one set point tie for the extreme."""


def inputs_of(
    grid: Grid, states: Snapshot, low: float = 0.97, high: float = 1.03, loading: float = 0.5, q: bool = True
) -> Inputs:
    n, m = grid.network.n_bus, grid.network.n_branch
    return Inputs(grid, states, np.arange(m), np.full(n, low), np.full(n, high), np.full(m, loading), q)


def batched(inputs: Inputs, **parameters: object) -> Outputs:
    outputs = batched_newton.run(inputs, batched_newton.Parameters(**parameters))
    assert check(outputs) == []
    assert CONTRACT.verify(inputs, outputs) == []
    return outputs


def assert_same(a: Outputs, b: Outputs, atol: float = 2e-7) -> None:
    for field in fields(Outputs):
        if field.name not in TIES:
            np.testing.assert_allclose(
                getattr(a, field.name), getattr(b, field.name), atol=atol, rtol=0, err_msg=field.name
            )


@pytest.mark.parametrize("enforce", [False, True])
@pytest.mark.parametrize("slack", [0, 7])
@pytest.mark.parametrize("load", [0.2, 1.0, 1.2])
def test_two_independent_programs_agree(
    spur_case: Callable[..., Case], enforce: bool, slack: int, load: float
) -> None:
    grid, snapshot = spur_case(load=load, slack=slack)
    inputs = inputs_of(grid, snapshot.block(), q=enforce)
    mine = batched(inputs)
    other = full_newton.run(inputs, full_newton.Parameters())
    assert check(other) == []
    assert mine.base_outcome[0] == CONVERGED
    assert_same(mine, other)


def test_the_compiled_extension_is_there() -> None:
    assert INSTRUCTION_SETS, "no extension: install the package where a C++ compiler is"


@pytest.mark.parametrize("kernel", KERNELS[:-1])
@pytest.mark.parametrize("distributed", [False, True])
@pytest.mark.parametrize("load", [0.2, 1.2])
def test_kernels_agree_with_one_by_one(
    spur_case: Callable[..., Case], kernel: str, distributed: bool, load: float
) -> None:
    grid, snapshot = spur_case(load=load)
    inputs = inputs_of(grid, snapshot.block())
    assert_same(
        batched(inputs, distributed_slack=distributed, kernel=kernel),
        batched(inputs, distributed_slack=distributed, kernel=ONE_BY_ONE),
    )


def test_kernels_with_one_rounding_have_the_same_bits(spur_case: Callable[..., Case]) -> None:
    """AVX2 and AVX-512 both fuse multiply and add."""
    grid, snapshot = spur_case(load=1.2)
    inputs = inputs_of(grid, snapshot.block())
    fused = [batched(inputs, kernel=kernel) for kernel in INSTRUCTION_SETS if kernel != "generic"]
    for field in fields(Outputs):
        for other in fused[1:]:
            np.testing.assert_array_equal(getattr(fused[0], field.name), getattr(other, field.name))


def test_unknown_kernel_is_named() -> None:
    with pytest.raises(ValueError, match="this machine has no kernel abacus; it has: fastest"):
        batched_newton.Parameters(kernel="abacus")


def test_limits_change_the_answer_and_switches_are_counted(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case(load=1.2)
    free, limited = (batched(inputs_of(grid, snapshot.block(), q=q)) for q in (False, True))
    assert free.q_switches.sum() == 0
    assert limited.q_switches.sum() > 0
    assert np.nanmax(np.abs(free.vm_min_pu - limited.vm_min_pu)) > 1e-4


def test_island_is_lost_and_leaves_the_extremes(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    inputs = inputs_of(grid, snapshot.block(), loading=0.0)
    outputs = batched(inputs)
    assert outputs.outcome[0, [SPUR, TIP]].tolist() == [ISLANDED, ISLANDED]
    assert (outputs.outcome[0, :SPUR] == CONVERGED).all()
    assert outputs.lost_load_mw[0, SPUR] == pytest.approx(90.0)
    assert outputs.lost_load_mw[0, TIP] == 0.0
    received = 40.0 * 0.97 - 0.5
    np.testing.assert_allclose(outputs.lost_generation_mw[0, [SPUR, TIP]], 20.0 + received)
    dead = {SPUR: {SPUR, TIP}, TIP: {TIP}}
    for case, gone in dead.items():
        listed = set(outputs.overload_branch[outputs.overload_contingency == case].tolist())
        assert not listed & gone
    assert outputs.overloaded[0, SPUR] == grid.network.n_branch - 2
    assert outputs.lost_load_mw[0, :SPUR].max() == 0.0


def test_hvdc_line_stops_when_an_end_is_cut_off(spur_case: Callable[..., Case]) -> None:
    """Losing bus 7 equals a case without its devices and without the HVDC line."""
    grid, snapshot = spur_case()
    lost = batched(inputs_of(grid, snapshot.block(), q=False))
    on = snapshot.unit_on & (grid.units.bus != 7)
    bare = replace(snapshot, unit_on=on, hvdc_p_mw=np.zeros(1), hvdc_q_from_mvar=np.zeros(1))
    bare = replace(bare, hvdc_q_to_mvar=np.zeros(1))
    grid = replace(grid, hvdc=replace(grid.hvdc, loss_mw=np.zeros(1)))
    state = solve_hours(grid, bare.block(), enforce_q_limits=False).states
    v = state.vm_pu[0] * np.exp(1j * state.va_rad[0])
    watched = np.delete(np.arange(grid.network.n_branch), TIP)
    # The idle tip still charges its line: take it out of the reference as well.
    network = grid.network
    kept = replace(
        network,
        b_from_pu=np.where(np.arange(11) == TIP, 0.0, network.b_from_pu),
        b_to_pu=np.where(np.arange(11) == TIP, 0.0, network.b_to_pu),
    )
    state = solve_hours(replace(grid, network=kept), bare.block(), enforce_q_limits=False).states
    v = state.vm_pu[0] * np.exp(1j * state.va_rad[0])
    assert lost.loading_max[0, TIP] == pytest.approx(kept.loading(v)[watched].max(), abs=1e-7)
    assert lost.vm_min_pu[0, TIP] == pytest.approx(np.abs(v)[:7].min(), abs=1e-7)


@pytest.mark.parametrize("kernel", INSTRUCTION_SETS)
def test_dead_bus_at_its_reactive_limit_settles_beside_the_others(
    spur_case: Callable[..., Case], kernel: str
) -> None:
    """A limit asks nothing of a dead bus, so no outage is left for Newton's method."""
    grid, snapshot = spur_case()
    at_tip = grid.units.bus == 7
    units = replace(grid.units, q_mvar_max=np.where(at_tip, 0.5, grid.units.q_mvar_max))
    grid = replace(grid, units=units, hvdc=replace(grid.hvdc, to_bus=np.array([2])))
    base = solve_hours(grid, snapshot.block())
    np.testing.assert_allclose(base.states.unit_q_mvar[0, at_tip & snapshot.unit_on], 0.5)
    n, m = grid.network.n_bus, grid.network.n_branch
    criteria = Criteria(np.full(n, 0.97), np.full(n, 1.03), np.full(m, 0.5))
    result = verify_outages(grid, snapshot.block(), np.arange(m), criteria, kernel=kernel)
    assert result.extremes.outcome[0, [SPUR, TIP]].tolist() == [ISLANDED, ISLANDED]
    assert result.solved_alone.tolist() == [0]


def test_larger_part_stays_when_the_slack_is_cut_off(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case(slack=7)
    outputs = batched(inputs_of(grid, snapshot.block()))
    assert outputs.outcome[0, TIP] == ISLANDED
    assert outputs.lost_load_mw[0, TIP] == 0.0
    assert outputs.lost_load_mw[0, SPUR] == pytest.approx(90.0)
    assert outputs.vm_min_bus[0, SPUR] < 6


def test_hours_do_not_depend_on_their_block(spur_case: Callable[..., Case]) -> None:
    grid, _ = spur_case()
    hours = [spur_case(load=load)[1] for load in (0.7, 1.0, 1.3)]
    together = batched(inputs_of(grid, stack(hours)))
    again = batched(inputs_of(grid, stack(hours)))
    alone = batched(inputs_of(grid, hours[1].block()))
    for field in fields(Outputs):
        values = getattr(together, field.name)
        assert np.array_equal(values, getattr(again, field.name), equal_nan=True), field.name
        if values.ndim == 2:
            assert np.array_equal(values[1], getattr(alone, field.name)[0], equal_nan=True), field.name
    mine = together.overload_hour == 1
    np.testing.assert_array_equal(together.overload_loading[mine], alone.overload_loading)
    mine = together.voltage_hour == 1
    np.testing.assert_array_equal(together.voltage_vm_pu[mine], alone.voltage_vm_pu)


def test_results_do_not_depend_on_the_other_outages(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    inputs = inputs_of(grid, snapshot.block())
    every = batched(inputs)
    some = batched(replace(inputs, contingency_branch=np.array([8, 3])))
    for name in ("loading_max", "vm_min_pu", "vm_max_pu", "iterations", "residual_pu"):
        np.testing.assert_array_equal(getattr(some, name)[0], getattr(every, name)[0, [8, 3]])


@pytest.mark.parametrize("kernel", KERNELS[:-1])
def test_every_outage_has_the_iterations_and_residual_of_its_own(
    spur_case: Callable[..., Case], kernel: str
) -> None:
    grid, snapshot = spur_case(load=1.2)
    inputs = inputs_of(grid, snapshot.block())
    every = batched(inputs, kernel=kernel)
    for case in range(every.residual_pu.shape[1]):
        alone = batched(replace(inputs, contingency_branch=np.array([case])), kernel=kernel)
        for name in ("iterations", "residual_pu"):
            np.testing.assert_array_equal(getattr(alone, name)[0, 0], getattr(every, name)[0, case])


def test_lists_hold_what_is_new_or_worse(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case(load=1.2)
    outputs = batched(inputs_of(grid, snapshot.block(), loading=0.4, low=1.0))
    base = outputs.base_loading[0, outputs.overload_branch]
    assert (outputs.overload_loading > 0.4).all()
    assert ((base <= 0.4 + 1e-6) | (outputs.overload_loading > base + 1e-3)).all()
    assert (outputs.base_loading[0] > 0.4).any()
    listed = np.bincount(outputs.overload_contingency, minlength=11)
    assert (listed <= outputs.overloaded[0]).all()
    assert (listed < outputs.overloaded[0]).any()
    base = outputs.base_vm_pu[0, outputs.voltage_bus]
    low = outputs.voltage_vm_pu < 1.0
    assert ((base[low] >= 1.0 - 1e-6) | (outputs.voltage_vm_pu[low] < base[low] - 1e-3)).all()
    keys = outputs.overload_contingency * 100 + outputs.overload_branch
    assert (np.diff(keys) > 0).all()


def test_long_lists_grow(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    inputs = inputs_of(grid, snapshot.block(), loading=0.0)
    many = replace(inputs, contingency_branch=np.tile(np.arange(9), 200))
    outputs = batched(many)
    assert outputs.overloaded.sum() == 1800 * 10
    once = batched(replace(inputs, contingency_branch=np.arange(9)))
    assert outputs.overload_loading.size == 200 * once.overload_loading.size


def test_diverged_base_case_leaves_its_pairs_unknown(spur_case: Callable[..., Case]) -> None:
    grid, good = spur_case()
    bad = spur_case(load=9.0)[1]
    outputs = batched(inputs_of(grid, stack([bad, good])))
    assert outputs.base_outcome.tolist() == [DIVERGED, CONVERGED]
    assert (outputs.outcome[0] == DIVERGED).all()
    for name in ("loading_max", "vm_min_pu", "vm_max_pu"):
        assert np.isnan(getattr(outputs, name)[0]).all()
    assert np.isnan(outputs.base_loading[0]).all()
    assert (outputs.overload_hour == 1).all()


def test_diverged_outage_is_unknown(spur_case: Callable[..., Case]) -> None:
    """Near collapse some outages have no solution; both programs say which."""
    grid, snapshot = spur_case(load=4.2, share_z=0.0, share_i=0.0)
    inputs = inputs_of(grid, snapshot.block(), q=False)
    outputs = batched(inputs)
    other = full_newton.run(inputs, full_newton.Parameters())
    assert outputs.base_outcome[0] == CONVERGED
    np.testing.assert_array_equal(outputs.outcome, other.outcome)
    lost = outputs.outcome == DIVERGED
    assert lost.any()
    assert np.isnan(outputs.loading_max[lost]).all()
    assert (outputs.loading_branch[lost] == -1).all()


def test_cut_offs_agree_with_graph_search(spur_case: Callable[..., Case]) -> None:
    network = spur_case()[0].network
    rng = np.random.default_rng(5)
    for _ in range(30):
        m = 14
        ends = np.array(
            [[rng.integers(0, k), k] for k in range(1, 10)] + [rng.integers(0, 10, 2) for _ in range(m - 9)]
        )
        ends = ends[ends[:, 0] != ends[:, 1]]
        names = np.array([str(i) for i in range(10)])
        grown = replace(
            network,
            bus_id=names,
            branch_id=np.array([str(i) for i in range(len(ends))]),
            from_bus=ends[:, 0],
            to_bus=ends[:, 1],
            slack=int(rng.integers(0, 10)),
        )
        cut = find_cut_offs(grown)
        for k in range(len(ends)):
            rest = np.delete(ends, k, axis=0)
            graph = coo_matrix((np.ones(len(rest)), (rest[:, 0], rest[:, 1])), (10, 10))
            _, part = connected_components(graph, directed=False)
            assert set(cut.far_side(k).tolist()) == set(np.flatnonzero(part != part[grown.slack]).tolist())
