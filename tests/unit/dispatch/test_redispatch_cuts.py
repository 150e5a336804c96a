"""Pieces of cost and the list of cuts of the redispatch, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bos_core.grid.six_bus import six_bus
from slots.state_adjustment.cuts import BASE_CASE, BaseFlows, Cuts, OutageFactors, Pairs
from slots.state_adjustment.redispatch_model import Pieces


def test_pieces_cover_the_room_at_rising_prices_and_no_trade_pays() -> None:
    grid = six_bus()
    units = grid.units
    p = 0.5 * (units.p_mw_min + units.p_mw_max)
    low, high = units.p_mw_min, units.p_mw_max
    pieces = Pieces.of(grid, p, low, high, premium=1.0)
    for sign, room in ((1.0, high - p), (-1.0, p - low)):
        mine = pieces.sign == sign
        covered = np.bincount(pieces.unit[mine], pieces.length[mine], units.n)
        np.testing.assert_allclose(covered, room, atol=1e-9)
        for unit in np.unique(pieces.unit[mine]):
            of_unit = np.flatnonzero(mine & (pieces.unit == unit))
            order = of_unit[np.argsort(pieces.begin[of_unit])]
            assert (np.diff(pieces.price[order]) >= -1e-9).all()
            np.testing.assert_allclose(pieces.begin[order][1:], np.cumsum(pieces.length[order])[:-1])
    cheapest = [pieces.price[pieces.sign == sign].min() for sign in (1.0, -1.0)]
    assert sum(cheapest) >= 2.0
    deviation = np.linspace(-1.0, 1.0, units.n) * 0.3 * (high - low)
    filled = pieces.filled(deviation)
    np.testing.assert_allclose(np.bincount(pieces.unit, pieces.sign * filled, units.n), deviation, atol=1e-9)


def test_a_pair_is_one_cut_for_each_direction_of_its_flow() -> None:
    network = six_bus().network
    rated = np.where(np.isfinite(network.i_max_from_pu), network.i_max_from_pu, 1.0)
    flow = np.linspace(0.4, 0.9, network.n_branch) * rated
    base = BaseFlows(flow, np.ones(network.n_branch), rated, flow / rated)
    pairs = Pairs(np.full(2, BASE_CASE), np.array([0, 3]), np.array([1.2, 1.1]))
    cuts = Cuts(OutageFactors(network, np.arange(network.n_branch)))
    cuts.add(base, pairs, np.ones(2))
    cuts.add(base, pairs.joined(pairs), np.ones(4))
    assert cuts.n == 2
    turned = replace(base, p_pu=-flow)
    cuts.add(turned, pairs.chosen(np.array([0])), np.ones(1))
    assert list(zip(cuts.branch, cuts.direction, strict=True)) == [(0, 1.0), (3, 1.0), (0, -1.0)]
    np.testing.assert_allclose(cuts.factor_mw[2], -cuts.factor_mw[0])


def test_loadings_seen_replace_estimates_and_others_stay_within_their_limits() -> None:
    network = six_bus().network
    ones = np.ones(network.n_branch)
    base = BaseFlows(0.9 * ones, ones, ones, 0.9 * ones)
    pairs = Pairs(np.full(3, BASE_CASE), np.arange(3), np.array([1.2, 0.9, 0.9]))
    cuts = Cuts(OutageFactors(network, np.arange(network.n_branch)))
    cuts.add(base, pairs, ones[:3])
    cuts.look_at(base, pairs.chosen(np.array([0])), ones[:3])
    np.testing.assert_allclose(cuts.loading, [1.2, 0.9, 0.9])
    nothing = pairs.chosen(np.zeros(0, np.int64))
    cuts.look_at(base, nothing, ones[:3])  # 0.9 x 1.2 / 0.9, but nobody has seen it beyond 1
    np.testing.assert_allclose(cuts.loading, [1.0, 0.9, 0.9])
    cuts.look_at(replace(base, p_pu=0.6 * ones), nothing, ones[:3])
    np.testing.assert_allclose(cuts.loading, [0.8, 0.6, 0.6])
