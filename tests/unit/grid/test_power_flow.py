"""Laws that every power flow obeys, on a small grid with every kind of device."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bos_core.grid.dc import DcModel
from bos_core.grid.elimination import eliminate, factorize, substitute
from bos_core.grid.hours_lanes import INSTRUCTION_SETS, KERNELS, ONE_BY_ONE
from bos_core.grid.injections import bus_injections, hvdc_injections, share_q, sum_by_bus
from bos_core.grid.model import Grid, Network, Snapshot, stack
from bos_core.grid.power_flow import (
    CONVERGED,
    DIVERGED,
    branch_flows,
    dc_start,
    network_at,
    participation,
    solve,
    solve_hours,
)
from bos_core.objects.contracts import check
from slots.power_flow import newton
from slots.power_flow.contract import CONTRACT, Inputs

Case = tuple[Grid, Snapshot]


def relabelled(network: Network, order: np.ndarray) -> Network:
    """Number the buses so that new bus k is old bus order[k]."""
    new = np.argsort(order)
    buses = ("bus_id", "bus_name", "base_kv", "vm_pu_min", "vm_pu_max", "g_shunt_pu", "b_shunt_pu")
    return replace(
        network,
        **{name: getattr(network, name)[order] for name in (*buses, "longitude_deg", "latitude_deg")},
        slack=int(new[network.slack]),
        from_bus=new[network.from_bus],
        to_bus=new[network.to_bus],
    )


def gap_at_buses(grid: Grid, snapshot: Snapshot) -> np.ndarray:
    """Kirchhoff: what all devices put into each bus, less what flows into the network, p.u."""
    v = snapshot.vm_pu * np.exp(1j * snapshot.va_rad)
    flow = v * np.conj(network_at(grid, snapshot).admittance_matrix() @ v)
    vm = snapshot.vm_pu
    free = replace(
        snapshot,
        unit_vm_set_pu=np.full(grid.units.n, np.nan),
        svg_vm_set_pu=np.full(grid.svgs.bus.size, np.nan),
    )
    given = bus_injections(grid, free)
    p = given.p_pu - given.p_current_pu * vm - given.p_impedance_pu * vm**2
    fixed = np.bincount(grid.svgs.bus, snapshot.svg_q_mvar, 8) + np.bincount(
        grid.units.bus, snapshot.unit_q_mvar, 8
    )
    q_slack = fixed[grid.network.slack] / 100.0
    q = given.q_pu - given.q_current_pu * vm - given.q_impedance_pu * vm**2
    slack = grid.network.slack
    q[slack] = q_slack - (-snapshot.hvdc_q_from_mvar[0] / 100.0 if slack == 0 else 0.0)
    return (p + 1j * q) - flow


@pytest.mark.parametrize("enforce", [False, True])
@pytest.mark.parametrize("load", [0.4, 1.0, 1.5])
@pytest.mark.parametrize("distributed", [False, True])
def test_devices_balance_at_every_bus(
    spur_case: Callable[..., Case], enforce: bool, load: float, distributed: bool
) -> None:
    grid, snapshot = spur_case(load=load)
    result = solve_hours(grid, snapshot.block(), enforce_q_limits=enforce, distributed_slack=distributed)
    assert result.outcome[0] == CONVERGED
    assert np.abs(gap_at_buses(grid, result.states.hour(0))).max() < 1e-8
    p_before = snapshot.unit_p_mw.sum()
    assert result.states.unit_p_mw.sum() - p_before == pytest.approx(result.slack_p_mw[0], abs=1e-9)


def test_voltage_is_held_or_the_reactive_limit_is(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case(load=1.5)
    given = bus_injections(grid, snapshot)
    solution = solve(network_at(grid, snapshot), given)
    assert solution.outcome == CONVERGED
    controlled = given.voltage_control & (np.arange(8) != grid.network.slack)
    held = controlled & (solution.q_state == 0)
    np.testing.assert_allclose(solution.vm_pu[held], given.vm_set_pu[held], atol=1e-12)
    assert (solution.q_control_pu[held] <= given.q_pu_max[held] + 2e-6).all()
    assert (solution.q_control_pu[held] >= given.q_pu_min[held] - 2e-6).all()
    top = controlled & (solution.q_state > 0)
    assert top.any()
    np.testing.assert_allclose(solution.q_control_pu[top], given.q_pu_max[top], atol=1e-8)
    assert (solution.vm_pu[top] <= given.vm_set_pu[top] + 1e-6).all()


def test_control_returns_when_it_can(spur_case: Callable[..., Case]) -> None:
    """Start at a limit that the solution does not need: the answer is that of a fresh start."""
    grid, snapshot = spur_case(load=0.9)
    network = network_at(grid, snapshot)
    given = bus_injections(grid, snapshot)
    fresh = solve(network, given)
    poor = solve(network, given, 0.8 * dc_start(network, given))
    np.testing.assert_allclose(poor.vm_pu, fresh.vm_pu, atol=1e-8)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(8)), load=st.floats(0.3, 1.4))
def test_relabelling_buses_changes_nothing(spur_case: Callable[..., Case], order: list[int], load: float) -> None:
    grid, snapshot = spur_case(load=load)
    network, given = network_at(grid, snapshot), bus_injections(grid, snapshot)
    a = solve(network, given)
    by = np.array(order)
    moved = type(given)(**{name: getattr(given, name)[by] for name in given.__dataclass_fields__})
    b = solve(relabelled(network, by), moved)
    np.testing.assert_allclose(b.vm_pu, a.vm_pu[by], atol=1e-7)
    np.testing.assert_allclose(b.va_rad, a.va_rad[by], atol=1e-7)
    assert (b.q_state == a.q_state[by]).all()


def test_hours_do_not_depend_on_their_block(spur_case: Callable[..., Case]) -> None:
    hours = [spur_case(load=load)[1] for load in (0.5, 1.0, 1.3)]
    grid = spur_case()[0]
    together = solve_hours(grid, stack(hours)).states
    alone = solve_hours(grid, hours[2].block()).states
    for name in alone.__dataclass_fields__:
        assert np.array_equal(getattr(together, name)[2], getattr(alone, name)[0], equal_nan=True), name


def test_solution_is_a_fixed_point(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    first = solve_hours(grid, snapshot.block())
    again = solve_hours(grid, first.states)
    assert abs(again.slack_p_mw[0]) < 1e-5
    np.testing.assert_allclose(again.states.vm_pu, first.states.vm_pu, atol=1e-8)


def test_distributed_slack_shares_by_size(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    weights = participation(grid, snapshot)
    solution = solve(network_at(grid, snapshot), bus_injections(grid, snapshot), participation=weights)
    assert solution.outcome == CONVERGED
    share = solution.p_slack_pu / solution.p_slack_pu.sum()
    np.testing.assert_allclose(share, weights / weights.sum(), atol=1e-6)


def test_taps_and_shunts_of_the_hour_count(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    moved = replace(snapshot, tap=np.array([5]), shunt_step=np.array([3]))
    result = solve_hours(grid, stack([snapshot, moved]))
    assert (result.outcome == CONVERGED).all()
    assert np.abs(gap_at_buses(grid, result.states.hour(1))).max() < 1e-8
    assert not np.allclose(result.states.vm_pu[0], result.states.vm_pu[1])


def test_diverged_hour_says_so_and_keeps_its_start(spur_case: Callable[..., Case]) -> None:
    grid, good = spur_case()
    bad = spur_case(load=9.0)[1]
    inputs = Inputs(grid, stack([good, bad]))
    outputs = newton.run(inputs, newton.Parameters())
    assert outputs.outcome.tolist() == [CONVERGED, DIVERGED]
    np.testing.assert_array_equal(outputs.states.vm_pu[1], bad.vm_pu)
    assert check(outputs) == []
    assert CONTRACT.verify(inputs, outputs) == []


def test_hvdc_receives_less_than_it_sends(spur_case: Callable[..., Case]) -> None:
    hvdc = spur_case()[0].hvdc
    for p in (40.0, -40.0):
        at_from, at_to = hvdc_injections(hvdc, np.array([p]))
        sent, received = (-at_from, at_to) if p > 0 else (-at_to, at_from)
        assert sent[0] == 40.0
        assert received[0] == pytest.approx(40.0 * 0.97 - 0.5)


def test_shared_reactive_power_adds_up_and_keeps_ranges(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    given = bus_injections(grid, snapshot)
    q = 0.3 * given.q_pu_min + 0.7 * given.q_pu_max
    unit_q, svg_q, _, _ = share_q(grid, snapshot, q)
    controlling = snapshot.unit_on & np.isfinite(snapshot.unit_vm_set_pu)
    total = sum_by_bus(grid.units.bus, np.where(controlling, unit_q, 0.0), 8)
    total += sum_by_bus(grid.svgs.bus, svg_q, 8)
    np.testing.assert_allclose(total, np.where(given.voltage_control, q, 0.0) * 100.0, atol=1e-9)
    assert (unit_q[controlling] <= grid.units.q_mvar_max[controlling] + 1e-9).all()
    np.testing.assert_array_equal(unit_q[6:], snapshot.unit_q_mvar[6:])
    assert unit_q[4] == 0.0


def test_elimination_solves_like_a_dense_solver(spur_case: Callable[..., Case]) -> None:
    elimination = eliminate(spur_case()[0].network)
    pattern, n = elimination.pattern, 8
    rng = np.random.default_rng(3)
    blocks = rng.normal(size=(pattern.y_column.size, 4))
    blocks[pattern.y_diagonal] += [8.0, 0.0, 0.0, 8.0]
    dense = np.zeros((2 * n, 2 * n))
    for i in range(n):
        for k in range(pattern.y_ptr[i], pattern.y_ptr[i + 1]):
            j = pattern.y_column[k]
            dense[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = blocks[k].reshape(2, 2)
    x = rng.normal(size=(n, 2))
    expected = np.linalg.solve(dense, x.ravel()).reshape(n, 2)
    factors = elimination.new_factors()
    assert factorize(pattern, blocks, factors, np.empty((n, 4)))
    substitute(pattern, factors, x)
    np.testing.assert_allclose(x, expected, rtol=1e-9, atol=1e-12)


def random_network(template: Network, edges: np.ndarray) -> Network:
    """Return a network of these edges, (branch, 2), with slack 0 and small random impedances."""
    buses, count = int(edges.max()) + 1, edges.shape[0]
    rng = np.random.default_rng(buses)
    columns = {}
    for field in fields(Network):
        values = getattr(template, field.name)
        if isinstance(values, np.ndarray) and field.name.startswith(("tap",)):
            columns[field.name] = values[:0]
        elif isinstance(values, np.ndarray):
            columns[field.name] = np.repeat(values[:1], buses if values.size == template.n_bus else count)
    columns |= {"x_pu": rng.uniform(0.01, 0.1, count), "r_pu": rng.uniform(0.001, 0.01, count)}
    columns |= {"from_bus": edges[:, 0], "to_bus": edges[:, 1]}
    return replace(template, **columns, slack=0)


@pytest.mark.parametrize(("buses", "meshes"), [(2, 0), (40, 0), (40, 12), (300, 60)])
def test_radial_parts_cause_no_fill_and_admittances_keep_their_places(
    spur_case: Callable[..., Case], buses: int, meshes: int
) -> None:
    rng = np.random.default_rng(buses + meshes)
    tree = np.array([[rng.integers(k), k] for k in range(1, buses)])
    extra = rng.integers(0, buses, (meshes, 2))
    network = random_network(spur_case()[0].network, np.concatenate([tree, extra[extra[:, 0] != extra[:, 1]]]))
    elimination = eliminate(network)
    pattern = elimination.pattern
    assert np.array_equal(np.sort(elimination.order), np.arange(buses))
    assert np.array_equal(elimination.order[elimination.position], np.arange(buses))
    if meshes == 0:
        assert pattern.u_column.size == buses - 1
    g, b = elimination.admittances(network)
    at = sp.csr_matrix((g + 1j * b, pattern.y_column, pattern.y_ptr))
    expected = network.admittance_matrix()[elimination.order][:, elimination.order]
    assert abs(at - expected).max() < 1e-9


def test_start_angles_are_those_of_the_dc_network(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    network = replace(grid.network, shift_rad=np.where(np.arange(11) == 2, 0.1, grid.network.shift_rad))
    injections = bus_injections(grid, snapshot)
    expected = DcModel.of(network).angles(injections.p_nominal_pu)
    expected -= expected[network.slack]
    np.testing.assert_allclose(np.angle(dc_start(network, injections, 0.3)), expected + 0.3, atol=1e-12)


def test_flows_at_the_ends_of_branches_add_up_to_what_buses_put_in(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    moved = replace(snapshot, tap=np.array([5]), shunt_step=np.array([3]))
    solved = solve_hours(grid, stack([snapshot, moved]))
    flows = branch_flows(grid, solved.states)
    network = grid.network
    for hour, state in enumerate((snapshot, moved)):
        at = network_at(grid, state)
        power = np.zeros(8, complex)
        np.add.at(power, network.from_bus, flows.p_from_mw[hour] + 1j * flows.q_from_mvar[hour])
        np.add.at(power, network.to_bus, flows.p_to_mw[hour] + 1j * flows.q_to_mvar[hour])
        power += (at.g_shunt_pu - 1j * at.b_shunt_pu) * solved.states.vm_pu[hour] ** 2 * network.base_mva
        given = bus_injections(grid, solved.states.hour(hour))
        vm = solved.states.vm_pu[hour]
        p = given.p_pu - given.p_current_pu * vm - given.p_impedance_pu * vm**2
        assert power.real / network.base_mva == pytest.approx(p, abs=1e-7)
        assert (flows.p_from_mw + flows.p_to_mw)[hour].sum() <= solved.losses_mw[hour] + 1e-6
    loading = at.loading(solved.states.vm_pu[1] * np.exp(1j * solved.states.va_rad[1]))
    rated = np.isfinite(at.i_max_from_pu) | np.isfinite(at.i_max_to_pu)
    assert flows.loading[1, rated] == pytest.approx(loading[rated])
    assert np.isnan(flows.loading[1, ~rated]).all()


def test_an_hour_does_not_depend_on_its_block(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    hours = [spur_case(load)[1] for load in (0.4, 1.3, 0.8)] + [snapshot]
    block = solve_hours(grid, stack(hours))
    for k, hour in enumerate(hours):
        alone = solve_hours(grid, hour.block())
        assert np.array_equal(alone.states.vm_pu[0], block.states.vm_pu[k])
        assert np.array_equal(alone.q_state[0], block.q_state[k])


def test_an_hour_that_fails_from_its_voltages_is_tried_from_dc_angles(spur_case: Callable[..., Case]) -> None:
    grid, snapshot = spur_case()
    lost = replace(snapshot, vm_pu=np.full(8, np.nan))
    again, plain = solve_hours(grid, lost.block()), solve_hours(grid, snapshot.block())
    assert again.outcome[0] == CONVERGED
    np.testing.assert_allclose(again.states.vm_pu, plain.states.vm_pu, atol=1e-7)


@pytest.mark.parametrize("slack_deg", [0.0, 30.0])
def test_slack_keeps_its_angle_from_dc_angles_too(spur_case: Callable[..., Case], slack_deg: float) -> None:
    grid, snapshot = spur_case()
    angle = np.full(8, np.deg2rad(slack_deg))
    angle[3] += 2.5
    for kernel in KERNELS:
        solved = solve_hours(grid, replace(snapshot, va_rad=angle).block(), kernel=kernel)
        assert solved.outcome[0] == CONVERGED
        assert solved.states.va_rad[0, grid.network.slack] == pytest.approx(np.deg2rad(slack_deg), abs=1e-12)


def hours_of_every_kind(spur_case: Callable[..., Case]) -> tuple[Grid, Snapshot]:
    """Return hours at several loads, taps and set points, one at lost voltages, one without solution."""
    grid, snapshot = spur_case()
    hours = [spur_case(load)[1] for load in (0.4, 0.9, 1.2, 1.5, 0.7, 1.1, 0.3, 1.3, 1.0, 25.0)]
    hours += [replace(spur_case(load)[1], tap=np.array([4]), shunt_step=np.array([2])) for load in (0.8, 1.4)]
    off = np.arange(grid.units.n) == 2
    hours.append(replace(snapshot, unit_vm_set_pu=np.where(off, np.nan, snapshot.unit_vm_set_pu)))
    hours.append(replace(snapshot, vm_pu=np.full(8, np.nan)))
    return grid, stack(hours)


@pytest.mark.parametrize("kernel", INSTRUCTION_SETS)
@pytest.mark.parametrize("distributed", [False, True])
@pytest.mark.parametrize("enforce", [False, True])
def test_hours_side_by_side_agree_with_one_by_one(
    spur_case: Callable[..., Case], kernel: str, distributed: bool, enforce: bool
) -> None:
    grid, states = hours_of_every_kind(spur_case)
    options = {"enforce_q_limits": enforce, "distributed_slack": distributed}
    mine, other = (solve_hours(grid, states, kernel=k, **options) for k in (kernel, ONE_BY_ONE))
    assert DIVERGED in mine.outcome
    for name in ("outcome", "q_state"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))
    for name in ("slack_p_mw", "losses_mw"):
        np.testing.assert_allclose(getattr(mine, name), getattr(other, name), atol=1e-5)
    for field in fields(Snapshot):
        np.testing.assert_allclose(
            getattr(mine.states, field.name), getattr(other.states, field.name), atol=1e-5, err_msg=field.name
        )


def test_hours_have_the_same_bits_alone_and_with_every_fused_kernel(spur_case: Callable[..., Case]) -> None:
    """AVX2 and AVX-512 both fuse multiply and add; a lane never sees its neighbours."""
    assert INSTRUCTION_SETS, "no extension: install the package where a C++ compiler is"
    grid, states = hours_of_every_kind(spur_case)
    together = solve_hours(grid, states)
    kernels = [kernel for kernel in INSTRUCTION_SETS if kernel != "generic"]
    others = [solve_hours(grid, states, kernel=kernel) for kernel in kernels]
    alone = [solve_hours(grid, states.hour(h).block()).states for h in range(together.outcome.size)]
    for field in fields(Snapshot):
        expected = getattr(together.states, field.name)
        for other in others:
            np.testing.assert_array_equal(getattr(other.states, field.name), expected)
        np.testing.assert_array_equal(np.concatenate([getattr(one, field.name) for one in alone]), expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_order_of_arrays_in_memory_changes_nothing(spur_case: Callable[..., Case], kernel: str) -> None:
    grid, snapshot = spur_case()
    block = stack([snapshot] * 3)
    turned = Snapshot(**{f.name: np.asfortranarray(getattr(block, f.name)) for f in fields(Snapshot)})
    one, other = (solve_hours(grid, states, kernel=kernel) for states in (block, turned))
    assert (one.states.vm_pu == other.states.vm_pu).all()
