"""Published AC optimal power flow objectives of PGLib-OPF v23.07, reached with our network equations."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matpowercaseframes import CaseFrames

from bos_core.grid.optimal_flow import FlowAnswer, FlowHour, FlowNetwork, FlowWeights, balance_residual
from bos_core.grid.optimal_flow_barrier import AGAIN
from bos_core.grid.optimal_flow_barrier import solve_flow as barrier
from slots.reactive_dispatch.ipopt_rpd import solve_flow as ipopt

CASES = Path(__file__).parents[3] / "shared" / "yardsticks" / "pglib_opf"
PUBLISHED = {
    "case3_lmbd": 5.8126e3,
    "case5_pjm": 1.7552e4,
    "case14_ieee": 2.1781e3,
    "case30_ieee": 8.2085e3,
    "case118_ieee": 9.7214e4,
    "case300_ieee": 5.6522e5,
    "case588_sdet": 3.1314e5,
}
WEIGHTS = FlowWeights(balance=0.0, voltage=0.0, tap=0.0, voltage_price=np.inf, loading_price=np.inf, apparent=True)

pytestmark = pytest.mark.skipif(not CASES.exists(), reason="the yardsticks are not here")


def read_case(path: Path) -> tuple[FlowNetwork, FlowHour, float]:
    """Read a MATPOWER file straight into an optimal flow; also the sum of the constant cost terms."""
    case = CaseFrames(str(path))
    base = float(case.baseMVA)
    bus, gen, branch, cost = (getattr(case, name).to_numpy(float) for name in ("bus", "gen", "branch", "gencost"))
    position = {int(number): i for i, number in enumerate(bus[:, 0])}
    running = gen[:, 7] > 0
    gen, cost = gen[running], cost[running]
    branch = branch[branch[:, 10] > 0]
    n, m = len(bus), len(branch)
    from_bus = np.array([position[int(b)] for b in branch[:, 0]])
    to_bus = np.array([position[int(b)] for b in branch[:, 1]])
    at = np.array([position[int(b)] for b in gen[:, 0]])
    ratio = np.where(branch[:, 8] == 0, 1.0, branch[:, 8])
    flow = FlowNetwork(
        n_bus=n,
        reference=int(np.flatnonzero(bus[:, 1] == 3)[0]),
        from_bus=from_bus,
        to_bus=to_bus,
        tap_branch=np.zeros(0, int),
        q_bus=at,
        p_bus=at,
    )
    assert (cost[:, 0] == 2).all()
    assert (cost[:, 3] == 3).all()
    limit = np.where(branch[:, 5] == 0, np.inf, branch[:, 5] / base)
    zero = np.zeros(n)
    hour = FlowHour(
        p_pu=-bus[:, 2] / base,
        q_pu=-bus[:, 3] / base,
        p_linear=zero,
        q_linear=zero,
        p_square=bus[:, 4] / base,
        q_square=-bus[:, 5] / base,
        balanced=False,
        coefficient=coefficients(branch),
        inverse_ratio=1 / ratio,
        inverse_ratio_min=np.zeros(0),
        inverse_ratio_max=np.zeros(0),
        q_min=gen[:, 4] / base,
        q_max=gen[:, 3] / base,
        q_start=(gen[:, 4] + gen[:, 3]) / 2 / base,
        p_min=gen[:, 9] / base,
        p_max=gen[:, 8] / base,
        p_start=(gen[:, 9] + gen[:, 8]) / 2 / base,
        p_cost_linear=cost[:, 5] * base,
        p_cost_square=cost[:, 4] * base**2,
        vm_min=bus[:, 12],
        vm_max=bus[:, 11],
        vm_target=np.ones(n),
        limit_from=limit,
        limit_to=limit,
        angle_max=np.deg2rad(np.full(m, 30.0)),
        vm=np.ones(n),
        va=zero,
    )
    assert (branch[:, 12] == 30.0).all()
    assert (branch[:, 11] == -30.0).all()
    return flow, hour, float(cost[:, 6].sum())


def coefficients(branch: np.ndarray) -> np.ndarray:
    """The six branch rows from MATPOWER's columns, through the product's own network type."""
    from types import SimpleNamespace

    from bos_core.grid.optimal_flow import branch_coefficients

    zero = np.zeros(len(branch))
    network = SimpleNamespace(
        n_branch=len(branch),
        r_pu=branch[:, 2],
        x_pu=branch[:, 3],
        g_from_pu=zero,
        g_to_pu=zero,
        b_from_pu=branch[:, 4] / 2,
        b_to_pu=branch[:, 4] / 2,
        shift_rad=np.deg2rad(branch[:, 9]),
    )
    return branch_coefficients(network)


@pytest.mark.parametrize("solve", [barrier, ipopt], ids=["barrier", "ipopt"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_objective(name: str, solve: Callable[..., FlowAnswer]) -> None:
    flow, hour, constant = read_case(CASES / f"pglib_opf_{name}.m")
    answer = solve(flow, hour, WEIGHTS)
    assert answer.solved, answer.reason
    assert answer.objective + constant == pytest.approx(PUBLISHED[name], rel=1e-4)
    assert np.abs(balance_residual(flow, hour, answer)).max() < 1e-6


@pytest.mark.parametrize("name", ["case14_ieee", "case118_ieee", "case300_ieee"])
def test_free_transformer_ratios_agree_with_ipopt(name: str) -> None:
    """With ratios free the problem is less convex: some eliminated ratios have negative pivots."""
    flow, hour, _ = read_case(CASES / f"pglib_opf_{name}.m")
    taps = np.flatnonzero(np.abs(hour.inverse_ratio - 1.0) > 1e-6)
    flow = replace(flow, tap_branch=taps)
    hour = replace(hour, inverse_ratio_min=np.full(taps.size, 0.9), inverse_ratio_max=np.full(taps.size, 1.1))
    elastic = replace(WEIGHTS, voltage_price=1e5, loading_price=1e5)
    own, peer = barrier(flow, hour, elastic), ipopt(flow, hour, elastic)
    assert own.solved, own.reason
    assert peer.solved, peer.reason
    assert own.objective == pytest.approx(peer.objective, rel=2e-4)
    assert np.abs(balance_residual(flow, hour, own)).max() < 1e-5


def test_a_start_from_the_answer_before_gives_the_same_answer_sooner() -> None:
    flow, hour, _ = read_case(CASES / "pglib_opf_case118_ieee.m")
    first = barrier(flow, hour, WEIGHTS)
    other = replace(hour, p_pu=1.01 * hour.p_pu, q_pu=1.01 * hour.q_pu)
    alone, after = barrier(flow, other, WEIGHTS), barrier(flow, other, WEIGHTS, AGAIN, first)
    assert alone.solved
    assert after.solved
    assert after.objective == pytest.approx(alone.objective, rel=1e-6)
    assert after.iterations < alone.iterations
