from dataclasses import replace

import numpy as np
import pytest

from bos_core.grid.model import Network, Snapshot
from bos_core.grid.optimal_flow import branch_coefficients, branch_quantities, sum_at
from bos_core.grid.optimal_flow_blocks import (
    AREA,
    BLOCK,
    block_pattern,
    factorize,
    invert_block,
    solve_blocks,
)
from bos_core.grid.optimal_flow_branches import (
    Branches,
    add_limit_curvature,
    differentiate_branches,
    differentiate_limits,
    evaluate_branches,
)
from bos_core.grid.optimal_flow_reactive import TapTable, distribute
from bos_core.grid.six_bus import six_bus


class _Flow:
    def __init__(self, network: Network) -> None:
        self.from_bus, self.to_bus, self.n_bus = network.from_bus, network.to_bus, network.n_bus


def voltages(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.uniform(0.95, 1.05, n), rng.uniform(-0.2, 0.2, n)


def test_branch_quantities_are_those_of_the_admittances() -> None:
    network = six_bus().network
    vm, va = voltages(network.n_bus)
    v = vm * np.exp(1j * va)
    i_from, i_to = network.branch_currents(v)
    s_from, s_to = v[network.from_bus] * np.conj(i_from), v[network.to_bus] * np.conj(i_to)
    value = branch_quantities(_Flow(network), branch_coefficients(network), vm, va, 1 / network.ratio)
    np.testing.assert_allclose(value[:, 0], s_from.real, atol=1e-12)
    np.testing.assert_allclose(value[:, 1], s_from.imag, atol=1e-12)
    np.testing.assert_allclose(value[:, 2], s_to.real, atol=1e-12)
    np.testing.assert_allclose(value[:, 3], s_to.imag, atol=1e-12)
    np.testing.assert_allclose(value[:, 4] / network.ratio**2, np.abs(i_from) ** 2, atol=1e-12)
    np.testing.assert_allclose(value[:, 5], np.abs(i_to) ** 2, atol=1e-12)


@pytest.mark.parametrize("apparent", [False, True])
def test_second_order_blocks_are_the_derivatives(apparent: bool) -> None:
    network = six_bus().network
    n, m = network.n_bus, network.n_branch
    rng = np.random.default_rng(3)
    vm, va = voltages(n)
    ratio = rng.uniform(0.9, 1.1, m)
    price_p, price_q, weight = rng.normal(size=n), rng.normal(size=n), rng.uniform(0.5, 1.5, (m, 2))
    curvature = rng.uniform(size=(m, 2))
    branches = Branches(
        from_bus=network.from_bus,
        to_bus=network.to_bus,
        coefficient=branch_coefficients(network),
        tap=np.arange(m),
        limit_branch=np.repeat(np.arange(m), 2),
        limit_end=np.tile([0, 1], m),
        limit_square=np.full(2 * m, 4.0),
        apparent=apparent,
    )

    def derivatives(vm: np.ndarray, va: np.ndarray, ratio: np.ndarray) -> tuple[np.ndarray, ...]:
        """Local Hessians and Jacobians of the branches, slopes and values of their limits."""
        p, q, turn, excess = np.zeros(n), np.zeros(n), np.empty((m, 2)), np.empty(2 * m)
        evaluate_branches(branches, ratio, vm, va, p, q, turn, excess)
        h, j, slope = np.empty((m, 5, 5)), np.empty((m, 4, 5)), np.empty((2 * m, 5))
        differentiate_branches(branches, ratio, vm, turn, price_p, price_q, h, j)
        differentiate_limits(branches, ratio, vm, turn, slope)
        add_limit_curvature(branches, ratio, vm, turn, slope, weight.ravel(), curvature.ravel(), h)
        return np.triu(h) + np.triu(h, 1).transpose(0, 2, 1), j, slope.reshape(m, 2, 5), excess.reshape(m, 2)

    def gradient(k: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Local derivatives at other local variables of branch k, and the values of its six quantities."""
        vm_k, va_k, ratio_k = vm.copy(), va.copy(), ratio.copy()
        va_k[network.from_bus[k]], vm_k[network.from_bus[k]], va_k[network.to_bus[k]] = x[0], x[1], x[2]
        vm_k[network.to_bus[k]], ratio_k[k] = x[3], x[4]
        _, j, slope, excess = derivatives(vm_k, va_k, ratio_k)
        return j[k], slope[k], excess[k]

    hessian = derivatives(vm, va, ratio)[0]
    step = 1e-6
    for k in range(m):
        f, t = network.from_bus[k], network.to_bus[k]
        x = np.array([va[f], vm[f], va[t], vm[t], ratio[k]])
        prices = np.array([price_p[f], price_q[f], price_p[t], price_q[t]])
        numeric, slope_numeric = np.empty((5, 5)), np.empty((2, 5))
        for variable in range(5):
            ahead, behind = x.copy(), x.copy()
            ahead[variable] += step
            behind[variable] -= step
            (j1, s1, e1), (j0, s0, e0) = gradient(k, ahead), gradient(k, behind)
            numeric[variable] = (prices @ (j1 - j0) + weight[k] @ (s1 - s0)) / (2 * step)
            slope_numeric[:, variable] = (e1 - e0) / (2 * step)
        slope = gradient(k, x)[1]
        np.testing.assert_allclose(slope, slope_numeric, rtol=1e-5, atol=1e-6)
        expected = numeric + np.einsum("e,ea,eb->ab", curvature[k], slope, slope)
        np.testing.assert_allclose(hessian[k], expected, rtol=1e-5, atol=2e-5)


def test_block_inverse_counts_negative_eigenvalues() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        a = rng.normal(size=(BLOCK, BLOCK)) * 10.0 ** rng.integers(-3, 3, BLOCK)[:, None]
        a = a + a.T
        if rng.random() < 0.5:
            a[2:, 2:] = 0.0
        inverse = a.copy()
        assert invert_block(inverse) == (np.linalg.eigvalsh(a) < 0).sum()
        np.testing.assert_allclose(inverse @ a, np.eye(BLOCK), atol=1e-7)


def test_singular_block_is_told() -> None:
    assert invert_block(np.zeros((BLOCK, BLOCK))) == -1


def test_block_factorization_solves_and_tells_the_inertia() -> None:
    rng = np.random.default_rng(2)
    n = 30
    ends = np.array([(i, j) for i in range(n) for j in range(i + 1, n) if j == i + 1 or rng.random() < 0.06])
    from_bus, to_bus = ends[:, 0], ends[:, 1]
    pattern = block_pattern(n, from_bus, to_bus)
    blocks = np.zeros((pattern.n_block, BLOCK, BLOCK))
    blocks[:n] = rng.normal(size=(n, BLOCK, BLOCK))
    blocks[:n] += blocks[:n].transpose(0, 2, 1)
    dense = np.zeros((n, BLOCK, n, BLOCK))
    for k in range(n):
        dense[k, :, k, :] = blocks[k]
    for k, (i, j) in enumerate(ends):
        block = rng.normal(size=(BLOCK, BLOCK))
        blocks[pattern.branch_block[k]] = block
        row, column = (j, i) if pattern.branch_flipped[k] else (i, j)
        dense[row, :, column, :], dense[column, :, row, :] = block, block.T
    matrix = dense.reshape(n * BLOCK, n * BLOCK)
    right = rng.normal(size=(n, BLOCK))
    factor = blocks.reshape(-1, AREA)
    negative = factorize(pattern, factor)
    assert negative == (np.linalg.eigvalsh(matrix) < 0).sum()
    x = right.copy()
    solve_blocks(pattern, factor, x)
    np.testing.assert_allclose(matrix @ x.ravel(), right.ravel(), atol=1e-7)


def test_distribution_by_room_and_its_end() -> None:
    grid = six_bus()
    units = grid.units
    none = np.zeros(0)
    blank = Snapshot(*[none] * 19)
    start = replace(blank, unit_on=np.ones(units.n, bool), unit_p_mw=units.p_mw_max - 10.0)
    moved = distribute(grid, start, 24.0) - start.unit_p_mw
    assert moved.sum() == pytest.approx(24.0)
    assert (moved[units.variable] == 0).all()
    np.testing.assert_allclose(moved[~units.variable], 24.0 / (~units.variable).sum())
    most = distribute(grid, start, 1e6)
    np.testing.assert_allclose(most[~units.variable], units.p_mw_max[~units.variable])


def test_tap_table_knows_both_windings_and_leaves_phase_shifters() -> None:
    network = replace(
        six_bus().network,
        tap_branch=np.array([8, 5, 3]),
        tap=np.array([0, 2, 0]),
        tap_min=np.array([-2, -4, -3]),
        tap_max=np.array([2, 4, 3]),
        tap_neutral=np.array([0, 0, 0]),
        tap_step=np.array([0.02, 0.01, 0.01]),
        tap_step_rad=np.array([0.0, 0.0, 0.02]),
        tap_at_from=np.array([True, False, True]),
        tap_phase_shifter=np.array([False, False, True]),
    )
    table = TapTable.of(network)
    assert table.tap.tolist() == [0, 1]
    inverse = 1.0 / network.ratio
    low, high = table.inverse_ratio_range(inverse, network.tap)
    np.testing.assert_allclose([low[0], high[0]], [inverse[8] / 1.04, inverse[8] / 0.96])
    np.testing.assert_allclose([low[1], high[1]], [inverse[5] * 0.96 / 1.02, inverse[5] * 1.04 / 1.02])
    wanted = inverse.copy()
    wanted[8] = inverse[8] / 1.019
    wanted[5] = inverse[5] * 0.97 / 1.02
    assert table.nearest(inverse, network.tap, wanted).tolist() == [1, -3]


def test_sums_are_float_even_when_empty() -> None:
    assert sum_at(np.zeros(0, int), np.zeros(0), 3).dtype == np.float64
