import dataclasses

import numpy as np
import pytest

from bos_core.report.layout import place, schematic


def grid_graph(side):
    bus = np.arange(side * side).reshape(side, side)
    from_bus = np.concatenate([bus[:, :-1].ravel(), bus[:-1].ravel()])
    return side * side, from_bus, np.concatenate([bus[:, 1:].ravel(), bus[1:].ravel()])


def test_neighbours_of_a_mesh_are_drawn_close():
    buses, f, t = grid_graph(12)
    x, y = schematic(buses, f, t)
    along = np.hypot(x[f] - x[t], y[f] - y[t]).mean()
    apart = np.hypot(x[:, None] - x, y[:, None] - y).mean()
    assert along < 0.3 * apart
    assert min(x.min(), y.min()) >= 0
    assert max(x.max(), y.max()) <= 1
    assert np.unique(np.stack([x, y]).round(6), axis=1).shape[1] == buses


@pytest.mark.parametrize("buses", [1, 2, 3, 5])
def test_small_and_disconnected_networks(buses):
    x, y = schematic(buses, np.array([], np.int64), np.array([], np.int64))
    assert np.isfinite(x).all()
    assert np.isfinite(y).all()


def test_a_large_network_has_a_schematic_too():
    buses, f, t = grid_graph(60)
    x, y = schematic(buses, f, t)
    assert np.isfinite([x, y]).all()


def test_is_the_same_every_time():
    buses, f, t = grid_graph(8)
    np.testing.assert_array_equal(schematic(buses, f, t), schematic(buses, f, t))


def test_coordinates_are_used_when_half_of_them_are_known(example):
    network = example.make(24, 60, 90, 20).network
    layout = place(network)
    assert layout.geographic
    np.testing.assert_array_equal(layout.x, network.longitude_deg)
    some = network.longitude_deg.copy()
    some[:40] = np.nan
    assert not place(dataclasses.replace(network, longitude_deg=some)).geographic


def test_equal_coordinates_are_no_map(example):
    network = example.make(24, 60, 90, 20).network
    same = dataclasses.replace(network, longitude_deg=np.zeros(60), latitude_deg=np.zeros(60))
    assert not place(same).geographic
