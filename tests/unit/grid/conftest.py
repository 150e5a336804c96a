"""An eight-bus grid with every kind of device and a radial spur, and a state of it."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

from bos_core.grid.model import Grid, Network, Snapshot
from bos_core.grid.six_bus import six_bus

Case = tuple[Grid, Snapshot]


def with_spur(network: Network) -> Network:
    """Hang bus 6 on bus 5 and bus 7 on bus 6; give branch 8 a tap changer."""
    columns = {}
    for field in fields(Network):
        values = getattr(network, field.name)
        if not isinstance(values, np.ndarray):
            continue
        if values.size == network.n_bus:
            columns[field.name] = np.concatenate([values, values[-2:]])
        elif values.size == network.n_branch:
            columns[field.name] = np.concatenate([values, values[:2]])
    columns["bus_id"] = columns["bus_name"] = np.array([f"bus {i}" for i in range(8)])
    columns["branch_id"] = columns["branch_name"] = np.array([f"branch {i}" for i in range(11)])
    columns["from_bus"] = np.concatenate([network.from_bus, [5, 7]])
    columns["to_bus"] = np.concatenate([network.to_bus, [6, 6]])
    one = np.zeros(1, np.int64)
    return replace(
        network,
        **columns,
        tap_branch=one + 8,
        tap=one,
        tap_min=one - 9,
        tap_max=one + 9,
        tap_neutral=one,
        tap_step=np.full(1, 0.01),
        tap_step_rad=np.zeros(1),
        tap_at_from=np.ones(1, bool),
        tap_phase_shifter=np.zeros(1, bool),
    )


@pytest.fixture
def spur_case() -> Callable[..., Case]:
    """Return a maker of the grid and one hour: ``spur_case(load=1.0, slack=0, share_z=0.2, share_i=0.1)``."""

    def make(load: float = 1.0, slack: int = 0, share_z: float = 0.2, share_i: float = 0.1) -> Case:
        grid = six_bus()
        network = replace(with_spur(grid.network), slack=slack)
        loads = replace(
            grid.loads,
            bus=np.array([1, 3, 6, 5]),
            share_z=np.full(4, share_z),
            share_i=np.full(4, share_i),
        )
        units = replace(grid.units, bus=np.array([0, 0, 1, 2, 3, 7, 4, 4, 4]))
        grid = replace(
            grid, network=network, loads=loads, units=units, hvdc=replace(grid.hvdc, to_bus=np.array([7]))
        )
        on = np.array([True, True, True, True, False, True, True, True, True])
        vm_set = np.where(np.array([1, 1, 1, 1, 1, 1, 0, 0, 0], bool), 1.02, np.nan)
        snapshot = Snapshot(
            unit_on=on,
            unit_p_mw=np.array([200.0, 100.0, 80.0, 90.0, 0.0, 20.0, 60.0, 30.0, 10.0]),
            unit_q_mvar=np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 3.0, 2.0]),
            unit_vm_set_pu=vm_set,
            load_p_mw=load * np.array([120.0, 200.0, 90.0, 170.0]),
            load_q_mvar=load * np.array([30.0, 60.0, 20.0, 50.0]),
            storage_p_mw=np.array([10.0]),
            storage_q_mvar=np.array([4.0]),
            svg_q_mvar=np.array([0.0]),
            svg_vm_set_pu=np.array([1.0]),
            hvdc_p_mw=np.array([40.0]),
            hvdc_q_from_mvar=np.array([-6.0]),
            hvdc_q_to_mvar=np.array([3.0]),
            hvdc_vm_from_set_pu=np.full(1, np.nan),
            hvdc_vm_to_set_pu=np.full(1, np.nan),
            tap=np.zeros(1, np.int64),
            shunt_step=np.array([1]),
            vm_pu=np.full(8, 1.0),
            va_rad=np.zeros(8),
        )
        return grid, snapshot

    return make
