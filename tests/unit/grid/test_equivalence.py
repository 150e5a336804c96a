"""Static equivalents against dense algebra and against the full power flow."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import scipy.sparse as sp

from bos_core.grid import equivalence as eq
from bos_core.grid.injections import bus_injections
from bos_core.grid.model import BranchKind
from bos_core.grid.power_flow import CONVERGED, network_at, solve_hours
from bos_core.grid.reduction import Links, reduce_grid, reduce_snapshot, replay, undivided_buses


def solved(grid, snapshot):
    hours = solve_hours(grid, snapshot.block(), enforce_q_limits=False, tol=1e-11)
    assert hours.outcome[0] == CONVERGED
    return hours.states.hour(0)


def kept(grid, *eliminated):
    keep = np.ones(grid.network.n_bus, bool)
    keep[list(eliminated)] = False
    return keep


def reduced(grid, snapshot, keep, *, support=True, weak_mva=0.0):
    network = network_at(grid, snapshot)
    v = snapshot.vm_pu * np.exp(1j * snapshot.va_rad)
    parts = eq.partition(network, keep)
    shares = eq.participation(network, parts, undivided_buses(grid), 0.01)
    held = np.zeros(network.n_bus, bool)
    on = snapshot.unit_on & np.isfinite(snapshot.unit_vm_set_pu)
    held[grid.units.bus[on]] = True
    shunts = eq.support_shunts(network, parts, v, held) if support else None
    equivalent = eq.reduce_network(network, parts, v, shares, shunts, weak_mva)
    return equivalent, reduce_grid(grid, equivalent, snapshot), parts


@pytest.fixture(params=[(3,), (3, 4), (2, 4), (1, 2, 6)], ids=str)
def eliminated(request):
    return request.param


@pytest.fixture
def case(spur_case):
    """The eight-bus grid with a phase shifter in a loop, solved."""
    grid, snapshot = spur_case()
    shift = grid.network.shift_rad.copy()
    shift[4] = 0.1
    grid = replace(grid, network=replace(grid.network, shift_rad=shift))
    return grid, solved(grid, snapshot)


def test_schur_complement_is_that_of_dense_algebra(case, eliminated):
    grid, snapshot = case
    network = network_at(grid, snapshot)
    parts = eq.partition(network, kept(grid, *eliminated))
    y = network.admittance_matrix()
    dense = y.toarray()
    k, e = parts.kept, parts.eliminated
    full = -dense[np.ix_(k, e)] @ np.linalg.solve(dense[np.ix_(e, e)], dense[np.ix_(e, k)])
    found = np.zeros_like(full)
    found[np.ix_(parts.boundary, parts.boundary)] = eq.schur_complement(y, parts)
    np.testing.assert_allclose(found, full, atol=1e-10)


def test_the_reduced_network_has_the_admittances_of_the_schur_complement(case, eliminated):
    grid, snapshot = case
    equivalent, reduction, parts = reduced(grid, snapshot, kept(grid, *eliminated), support=False)
    y = network_at(grid, snapshot).admittance_matrix()
    expected = y[parts.kept][:, parts.kept].toarray()
    expected[np.ix_(parts.boundary, parts.boundary)] += eq.schur_complement(y, parts)
    network = network_at(reduction.grid, reduce_snapshot(reduction, snapshot))
    np.testing.assert_allclose(network.admittance_matrix().toarray(), expected, atol=1e-9)
    assert equivalent.pruned == 0


@pytest.mark.parametrize("weak_mva", [0.0, 1e3, 1e9])
@pytest.mark.parametrize("support", [True, False])
def test_the_base_point_is_exact_whatever_is_dropped(case, eliminated, support, weak_mva):
    grid, snapshot = case
    _, reduction, _ = reduced(grid, snapshot, kept(grid, *eliminated), support=support, weak_mva=weak_mva)
    state = reduce_snapshot(reduction, snapshot)
    injections = bus_injections(reduction.grid, state)
    v = state.vm_pu * np.exp(1j * state.va_rad)
    network = network_at(reduction.grid, state)
    gap = v * np.conj(network.admittance_matrix() @ v) - injections.p_pu
    gap += injections.p_current_pu * state.vm_pu + injections.p_impedance_pu * state.vm_pu**2
    np.testing.assert_allclose(gap.real, 0.0, atol=1e-9)
    solution = replay(reduction, snapshot)
    assert solution.outcome == CONVERGED
    np.testing.assert_allclose(solution.vm_pu, snapshot.vm_pu[reduction.bus], atol=1e-8)


def test_dropping_weak_branches_keeps_row_sums_where_nothing_shifts(spur_case):
    grid, snapshot = spur_case()
    snapshot = solved(grid, snapshot)
    rows = []
    for weak_mva in (0.0, 1e9):
        _, reduction, _ = reduced(grid, snapshot, kept(grid, 3, 4), support=False, weak_mva=weak_mva)
        rows.append(np.asarray(reduction.grid.network.admittance_matrix().sum(axis=1)).ravel())
    np.testing.assert_allclose(*rows, atol=1e-9)


def test_any_pair_of_admittances_becomes_branches():
    rng = np.random.default_rng(3)
    n = 6
    added = rng.normal(size=(n, n)) + 1j * (5 + rng.normal(size=(n, n)))
    parts = eq.Partition(np.arange(n), np.zeros(0, np.int64), np.arange(n))
    v = np.exp(1j * rng.uniform(-0.5, 0.5, n))
    branches = eq.equivalent_branches(added, parts, v)
    turn = np.exp(1j * branches.shift_rad)
    found = np.zeros((n, n), complex)
    np.add.at(found, (branches.from_kept, branches.to_kept), -branches.y_pu * turn)
    np.add.at(found, (branches.to_kept, branches.from_kept), -branches.y_pu / turn)
    np.testing.assert_allclose(found, added - np.diag(np.diag(added)), atol=1e-12)


def test_a_vector_group_keeps_its_turn(spur_case):
    """A shift of 150 degrees must not come out as -30 with a negative impedance."""
    grid, snapshot = spur_case()
    shift = grid.network.shift_rad.copy()
    shift[9] = np.deg2rad(150.0)
    grid = replace(grid, network=replace(grid.network, shift_rad=shift))
    angle = np.where(np.isin(np.arange(8), [6, 7]), -np.deg2rad(150.0), 0.0)
    snapshot = solved(grid, replace(snapshot, va_rad=angle))
    equivalent, _, _ = reduced(grid, snapshot, kept(grid, 6))
    assert (equivalent.x_pu > 0).all()
    np.testing.assert_allclose(np.abs(equivalent.shift_rad), np.deg2rad(150.0))


def test_shares_follow_dc_participation_and_sum_to_one(case):
    grid, _ = case
    network = replace(grid.network, shift_rad=np.zeros(grid.network.n_branch))
    parts = eq.partition(network, kept(grid, 2, 4, 6))
    nowhere = np.zeros(network.n_bus, bool)
    shares = eq.participation(network, parts, nowhere, 0.0)
    total = np.bincount(shares.source, shares.weight, network.n_bus)
    np.testing.assert_allclose(total[parts.eliminated], 1.0, atol=1e-12)
    f, t, b = network.from_bus, network.to_bus, 1 / network.x_pu
    n = network.n_bus
    laplacian = sp.coo_matrix(
        (np.concatenate([b, b, -b, -b]), (np.concatenate([f, t, f, t]), np.concatenate([f, t, t, f]))), (n, n)
    ).toarray()
    e, k = parts.eliminated, parts.kept
    expected = -np.linalg.solve(laplacian[np.ix_(e, e)], laplacian[np.ix_(e, k)])
    found = np.zeros((n, n))
    found[shares.source, shares.target] = shares.weight
    np.testing.assert_allclose(found[np.ix_(e, k)], expected, atol=1e-12)


def test_small_shares_are_dropped_and_undivided_buses_have_one(case):
    grid, _ = case
    nowhere, whole = np.zeros(grid.network.n_bus, bool), np.zeros(grid.network.n_bus, bool)
    whole[4] = True
    parts = eq.partition(grid.network, kept(grid, 3, 4))
    dense, sparse = (eq.participation(grid.network, parts, nowhere, least) for least in (0.0, 0.16))
    assert dense.weight.min() < 0.13 < 0.16 < sparse.weight.min()
    assert sparse.weight.sum() == pytest.approx(2.0)
    shares = eq.participation(grid.network, eq.partition(grid.network, kept(grid, 3, 4, 6)), whole, 0.0)
    assert (shares.source == 4).sum() == 1
    np.testing.assert_allclose(np.bincount(shares.source, shares.weight)[[3, 4, 6]], 1.0)


def test_support_answers_to_voltage_as_the_eliminated_part_does(case):
    """The boundary's power, for a common change of the boundary voltages, to first order."""
    grid, snapshot = case
    network = network_at(grid, snapshot)
    y = network.admittance_matrix().toarray()
    v = snapshot.vm_pu * np.exp(1j * snapshot.va_rad)
    parts = eq.partition(network, kept(grid, 3, 4))
    edge, out = parts.kept[parts.boundary], parts.eliminated
    held = np.zeros(network.n_bus, bool)
    held[3] = True
    shunts = eq.support_shunts(network, parts, v, held)
    power = (v * np.conj(y @ v))[out]

    def drawn(step):
        """Power into the eliminated part with the boundary voltages raised by `step`."""
        w = v.copy()
        w[edge] *= 1 + step / np.abs(w[edge])
        free = np.flatnonzero(~held[out])
        for _ in range(30):
            gap = (w * np.conj(y @ w))[out] - power
            gap = np.concatenate([gap.real, gap.imag[free]])
            if np.abs(gap).max() < 1e-13:
                break
            columns = []
            for unknown in range(out.size + free.size):
                bus = out[unknown] if unknown < out.size else out[free[unknown - out.size]]
                change = np.zeros_like(w)
                change[bus] = 1j * w[bus] if unknown < out.size else w[bus] / abs(w[bus])
                slope = (change * np.conj(y @ w) + w * np.conj(y @ change))[out]
                columns.append(np.concatenate([slope.real, slope.imag[free]]))
            move = -np.linalg.solve(np.array(columns).T, gap)
            magnitude = np.abs(w[out])
            magnitude[free] += move[out.size :]
            w[out] = magnitude * np.exp(1j * (np.angle(w[out]) + move[: out.size]))
        return w[edge] * np.conj(y[np.ix_(edge, out)] @ w[out])

    real = (drawn(1e-5) - drawn(-1e-5)) / 2e-5
    added = eq.schur_complement(network.admittance_matrix(), parts) + np.diag(shunts)
    unit = v[edge] / np.abs(v[edge])
    answer = unit * np.conj(added @ v[edge]) + v[edge] * np.conj(added @ unit)
    np.testing.assert_allclose(answer, real, atol=1e-6)


def test_what_must_be_kept(case):
    grid, _ = case
    keep = eq.necessary_buses(grid, np.zeros(grid.network.n_bus, bool), 1e9)
    assert keep[grid.network.slack]
    assert keep[grid.hvdc.from_bus].all()
    assert keep[grid.hvdc.to_bus].all()
    assert keep[grid.svgs.bus].all()
    everywhere = eq.necessary_buses(grid, np.zeros(grid.network.n_bus, bool), 0.0)
    assert everywhere.all()


def test_an_island_without_a_kept_bus_is_found(case):
    grid, _ = case
    spur = np.flatnonzero((grid.network.from_bus == 5) & (grid.network.to_bus == 6))
    f = grid.network.from_bus.copy()
    f[spur] = 6
    cut = replace(grid.network, from_bus=f)
    assert eq.unreachable_buses(cut, kept(grid, 6, 7)).tolist() == [6, 7]


def test_nothing_to_eliminate_changes_nothing(case):
    grid, snapshot = case
    equivalent, reduction, _ = reduced(grid, snapshot, np.ones(8, bool))
    assert equivalent.from_bus.size == 0
    assert reduction.grid.network.n_bus == 8
    np.testing.assert_array_equal(reduce_snapshot(reduction, snapshot).load_p_mw, snapshot.load_p_mw)


def test_every_device_goes_somewhere_with_all_its_weight(case, eliminated):
    grid, snapshot = case
    loads = replace(grid.loads, share_z=np.zeros(4), share_i=np.zeros(4))
    grid = replace(grid, loads=loads)
    snapshot = solved(grid, snapshot)
    _, reduction, _ = reduced(grid, snapshot, kept(grid, *eliminated))
    for links, n in ((reduction.unit, grid.units.n), (reduction.load, grid.loads.n)):
        np.testing.assert_allclose(np.bincount(links.source, links.weight, n), 1.0, atol=1e-12)
        order = np.lexsort((links.source, links.target))
        assert (order == np.arange(order.size)).all()
    state = reduce_snapshot(reduction, snapshot)
    assert state.unit_p_mw.sum() == pytest.approx((snapshot.unit_p_mw * snapshot.unit_on).sum())
    assert state.load_p_mw.sum() - reduction.residual_p_mw.sum() == pytest.approx(snapshot.load_p_mw.sum())
    units = reduction.grid.units
    assert units.p_mw_max.sum() == pytest.approx(grid.units.p_mw_max.sum())
    assert units.segment_mw.sum() == pytest.approx(grid.units.segment_mw.sum())
    for ids in (units.id, reduction.grid.loads.id, reduction.grid.network.branch_id, reduction.grid.shunts.id):
        assert np.unique(ids).size == ids.size


def test_thermal_units_move_whole_and_give_up_voltage_control(case):
    grid, snapshot = case
    _, reduction, _ = reduced(grid, snapshot, kept(grid, 1, 2))
    moved = np.flatnonzero(np.isin(grid.units.bus, [1, 2]) & ~grid.units.variable)
    for unit in moved:
        place = int(np.flatnonzero(reduction.unit_kept == unit)[0])
        assert reduction.grid.units.id[place] == grid.units.id[unit]
        assert not reduction.grid.units.voltage_control[place]
        assert np.isnan(reduce_snapshot(reduction, snapshot).unit_vm_set_pu[place])


def test_equivalent_branches_have_no_rating_and_no_outage(case):
    grid, snapshot = case
    equivalent, reduction, _ = reduced(grid, snapshot, kept(grid, 3, 4))
    network = reduction.grid.network
    made = reduction.branch < 0
    assert made.sum() == equivalent.from_bus.size > 0
    assert (network.branch_kind[made] == BranchKind.EQUIVALENT).all()
    assert np.isinf(network.i_max_from_pu[made]).all()
    assert not network.outage_candidate[made].any()


def test_a_block_of_hours_is_carried_over_hour_by_hour(case):
    grid, snapshot = case
    _, reduction, _ = reduced(grid, snapshot, kept(grid, 3, 4))
    single = reduce_snapshot(reduction, snapshot)
    block = reduce_snapshot(reduction, snapshot.block()).hour(0)
    for field in fields(single):
        np.testing.assert_array_equal(getattr(single, field.name), getattr(block, field.name), field.name)


def test_the_same_reduction_gives_the_same_ids(case):
    grid, snapshot = case
    first, second = (reduced(grid, snapshot, kept(grid, 3, 4))[1].grid for _ in range(2))
    np.testing.assert_array_equal(first.network.branch_id, second.network.branch_id)
    np.testing.assert_array_equal(first.loads.id, second.loads.id)


def test_links_sum_quantities():
    links = Links(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([1.0, 0.25, 0.75]))
    np.testing.assert_allclose(links.sums(np.array([[2.0, 4.0], [0.0, 8.0]]), 2), [[3.0, 3.0], [2.0, 6.0]])
