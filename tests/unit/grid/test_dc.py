"""DC network: factors agree with the physics they stand for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from bos_core.grid import dc
from bos_core.grid.model import Network


def meshed(seed: int = 0, n_bus: int = 12, extra: int = 9) -> Network:
    """A random tree with `extra` chords, transformers and one phase shifter; the last branch is a bridge."""
    rng = np.random.default_rng(seed)
    tree = [(int(rng.integers(i)), i) for i in range(1, n_bus)]
    chords = [tuple(int(b) for b in rng.choice(n_bus, 2, replace=False)) for _ in range(extra)]
    ends = np.array([*tree, *chords, (0, n_bus)])
    n, m = n_bus + 1, len(ends)
    shift = np.zeros(m)
    shift[n_bus + 2] = 0.07
    none = np.zeros(0, int)
    return Network(
        base_mva=100.0,
        bus_id=np.array([f"bus{i}" for i in range(n)]),
        bus_name=np.array([f"bus {i}" for i in range(n)]),
        base_kv=np.full(n, 380.0),
        vm_pu_min=np.full(n, 0.9),
        vm_pu_max=np.full(n, 1.1),
        g_shunt_pu=np.zeros(n),
        b_shunt_pu=np.zeros(n),
        longitude_deg=np.full(n, np.nan),
        latitude_deg=np.full(n, np.nan),
        slack=2,
        branch_id=np.array([f"branch{i}" for i in range(m)]),
        branch_name=np.array([f"branch {i}" for i in range(m)]),
        branch_kind=np.zeros(m, int),
        from_bus=ends[:, 0],
        to_bus=ends[:, 1],
        r_pu=np.full(m, 0.002),
        x_pu=rng.uniform(0.01, 0.2, m),
        g_from_pu=np.zeros(m),
        b_from_pu=np.zeros(m),
        g_to_pu=np.zeros(m),
        b_to_pu=np.zeros(m),
        ratio=np.where(np.arange(m) % 4 == 0, 1.05, 1.0),
        shift_rad=shift,
        i_max_from_pu=np.full(m, np.inf),
        i_max_to_pu=np.full(m, np.inf),
        outage_candidate=np.ones(m, bool),
        tap_branch=none,
        tap=none,
        tap_min=none,
        tap_max=none,
        tap_neutral=none,
        tap_step=np.zeros(0),
        tap_step_rad=np.zeros(0),
        tap_at_from=np.zeros(0, bool),
        tap_phase_shifter=np.zeros(0, bool),
    )


def without(network: Network, branch: int) -> Network:
    fields = [
        "branch_id",
        "branch_name",
        "branch_kind",
        "from_bus",
        "to_bus",
        "r_pu",
        "x_pu",
        "g_from_pu",
        "b_from_pu",
    ]
    fields += ["g_to_pu", "b_to_pu", "ratio", "shift_rad", "i_max_from_pu", "i_max_to_pu", "outage_candidate"]
    return replace(network, **{f: np.delete(getattr(network, f), branch) for f in fields})


def injections(network: Network, hours: int = 3) -> np.ndarray:
    values = np.random.default_rng(1).normal(0, 200, (hours, network.n_bus))
    values[:, network.slack] -= values.sum(1)
    return values


def test_flows_balance_at_every_bus() -> None:
    network = meshed()
    injection = injections(network)
    flow = dc.dc_flow(network, injection)
    np.testing.assert_allclose(flow @ dc.incidence(network), injection, atol=1e-8)


def test_flows_obey_the_angles_with_ratio_and_shift() -> None:
    network = meshed()
    model = dc.DcModel.of(network)
    injection = injections(network)
    va = model.angles(injection / network.base_mva)
    assert np.all(va[:, network.slack] == 0)
    across = va[:, network.from_bus] - va[:, network.to_bus] - network.shift_rad
    expected = network.base_mva * across / (network.x_pu * network.ratio)
    np.testing.assert_allclose(model.flow_mw(injection), expected, atol=1e-9)


def test_ptdf_and_shift_flow_reproduce_the_flows() -> None:
    network = meshed()
    injection = injections(network)
    expected = dc.dc_flow(network, injection)
    np.testing.assert_allclose(injection @ dc.ptdf(network).T + dc.phase_shift_flow(network), expected, atol=1e-8)
    assert np.abs(dc.phase_shift_flow(network)).max() > 1


def test_rows_on_demand_equal_the_dense_factors() -> None:
    network = meshed()
    chosen = np.array([4, 0, 17])
    np.testing.assert_allclose(dc.DcModel.of(network).rows(chosen), dc.ptdf(network)[chosen], atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_lodf_equals_the_flow_without_the_branch(seed: int) -> None:
    network = meshed(seed)
    injection = injections(network)
    flow = dc.dc_flow(network, injection)
    factors, bridge = dc.lodf(dc.ptdf(network), network)
    for k in np.flatnonzero(~bridge):
        after = np.delete(flow + flow[:, [k]] * factors[:, k], k, axis=1)
        np.testing.assert_allclose(after, dc.dc_flow(without(network, int(k)), injection), atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_bridges_are_exactly_the_outages_that_island(seed: int) -> None:
    network = meshed(seed)
    bridge = dc.bridges(network)
    assert bridge[-1]
    assert not bridge.all()
    for k in range(network.n_branch):
        reduced = without(network, k)
        if bridge[k]:
            with pytest.raises(ValueError, match="not connected"):
                dc.DcModel.of(reduced)
        else:
            dc.DcModel.of(reduced)


def test_parallel_branches_are_no_bridges() -> None:
    network = meshed()
    doubled = replace(
        network, to_bus=np.r_[network.to_bus[:-2], 12, 12], from_bus=np.r_[network.from_bus[:-2], 0, 0]
    )
    assert not dc.bridges(doubled)[-2:].any()


def test_zero_reactance_is_named() -> None:
    network = meshed()
    x = network.x_pu.copy()
    x[5] = 0.0
    with pytest.raises(ValueError, match="branch 5: x_pu is 0"):
        dc.ptdf(replace(network, x_pu=x))


@pytest.mark.parametrize("count", [1, 3, 100])
def test_most_loading_outages_are_those_of_a_full_search(count: int) -> None:
    network = meshed(seed=3)
    m = network.n_branch
    rng = np.random.default_rng(4)
    factors, bridge = dc.lodf(dc.ptdf(network), network)
    flow, per_flow = rng.normal(size=m), rng.uniform(0.5, 2.0, m)
    per_flow[1] = 0.0
    outage, least = np.flatnonzero(~bridge), rng.uniform(0.0, 1.0, m)
    kept = np.where(bridge | (np.arange(m)[:, None] == np.arange(m)), 0.0, factors)
    rows = sp.csr_array(kept)
    found = dc.most_loading(rows.indptr, rows.indices, rows.data, flow, per_flow, least, count)
    loading = np.abs(flow[:, None] + kept[:, outage] * flow[outage]) * per_flow[:, None]
    loading[kept[:, outage] == 0.0] = 0.0
    expected = {
        (int(outage[k]), branch)
        for branch in range(m)
        for k in np.argsort(-loading[branch])[:count]
        if loading[branch, k] > least[branch]
    }
    assert set(zip(found[0].tolist(), found[1].tolist(), strict=True)) == expected
    for out, branch, value in zip(*found, strict=True):
        assert value == pytest.approx(loading[branch, np.searchsorted(outage, out)])
