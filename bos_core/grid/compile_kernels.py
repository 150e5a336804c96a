"""Compile every kernel once, on a small grid, so that no run waits for it.

Run it as ``python -m bos_core.grid.compile_kernels``.

Compiled code is cached beside the sources; workers that start later only load it.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from bos_core.grid import hours_lanes
from bos_core.grid.dc import lodf, most_loading, ptdf
from bos_core.grid.injections import bus_injections
from bos_core.grid.model import Grid, Snapshot
from bos_core.grid.n1 import Criteria, verify_outages
from bos_core.grid.n1_kernels import INSTRUCTION_SETS, KERNELS, ONE_BY_ONE
from bos_core.grid.optimal_flow_barrier import solve_from_power_flow
from bos_core.grid.optimal_flow_reactive import Limits, ReactiveOptions, dispatch_block
from bos_core.grid.power_flow import branch_flows, solve, solve_hours
from bos_core.grid.schedule import cheapest_schedule
from bos_core.grid.sensitivity import Sensitivities
from bos_core.grid.six_bus import six_bus


def example_hour(grid: Grid) -> Snapshot:
    """Return a feasible hour of a small grid: load at the even buses, units share it by size."""
    units, loads, hvdc, svgs, storages = grid.units, grid.loads, grid.hvdc, grid.svgs, grid.storages
    demand = np.full(loads.n, 0.3 * units.p_mw_max[~units.variable].sum() / max(loads.n, 1))
    share = np.where(units.variable, 0.0, np.maximum(units.p_mw_max, 0.0))
    none_hvdc, none_svg = np.full(hvdc.id.size, np.nan), np.full(svgs.id.size, np.nan)
    network = grid.network
    return Snapshot(
        unit_on=np.ones(units.n, bool),
        unit_p_mw=demand.sum() * share / share.sum(),
        unit_q_mvar=np.zeros(units.n),
        unit_vm_set_pu=np.where(units.voltage_control, 1.0, np.nan),
        load_p_mw=demand,
        load_q_mvar=0.2 * demand,
        storage_p_mw=np.zeros(storages.id.size),
        storage_q_mvar=np.zeros(storages.id.size),
        svg_q_mvar=np.zeros(svgs.id.size),
        svg_vm_set_pu=none_svg,
        hvdc_p_mw=np.zeros(hvdc.id.size),
        hvdc_q_from_mvar=np.zeros(hvdc.id.size),
        hvdc_q_to_mvar=np.zeros(hvdc.id.size),
        hvdc_vm_from_set_pu=none_hvdc,
        hvdc_vm_to_set_pu=none_hvdc,
        tap=network.tap,
        shunt_step=grid.shunts.step,
        vm_pu=np.ones(network.n_bus),
        va_rad=np.zeros(network.n_bus),
    )


def main() -> None:
    """Solve the example once with every compiled kernel."""
    grid = six_bus()
    network = grid.network
    hour = example_hour(grid)
    states, injections = hour.block(), bus_injections(grid, hour)
    for kernel in {hours_lanes.KERNELS[0], hours_lanes.ONE_BY_ONE}:
        solved = solve_hours(grid, states, kernel=kernel).states
    branch_flows(grid, solved)
    Sensitivities(network, injections, solve(network, injections)).slack_power()
    low, high = np.full(network.n_bus, 0.9), np.full(network.n_bus, 1.1)
    loading = np.ones(network.n_branch)
    for kernel in (KERNELS[0], ONE_BY_ONE):
        verify_outages(grid, solved, np.arange(network.n_branch), Criteria(low, high, loading), kernel=kernel)
    factors = sp.csr_array(lodf(ptdf(network), network)[0].astype(np.float32))
    rows = factors.indptr, factors.indices, factors.data
    most_loading(*rows, np.zeros(network.n_branch), np.ones(network.n_branch), loading, 2)
    dispatch_block(grid, solved, Limits(low, high, loading), ReactiveOptions(), solve_from_power_flow)
    one = np.ones(1, np.int64)
    cheapest_schedule(np.ones((2, 1)), np.full((2, 1), -1), one > 0, one, one, one)
    if not (INSTRUCTION_SETS and hours_lanes.INSTRUCTION_SETS):
        print("note: no C++ compiler was found: kernels run on numba, several times slower; see `bos doctor`")


if __name__ == "__main__":
    main()
