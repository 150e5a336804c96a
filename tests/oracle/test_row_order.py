"""The order of rows in the data is nobody's business: the same grid, shuffled, gives the same answers."""

import warnings

import numpy as np
import pyarrow as pa
import pytest

from bos_core.exchange import import_grid, to_columns
from bos_core.grid.assembly import assemble
from bos_core.grid.model import Grid
from bos_core.grid.n1 import Criteria, N1Result, verify_outages
from bos_core.grid.n1_kernels import KERNELS

TABLES_IN_ORDER = {"cost_segment", "start_cost", "connects"}
"""Their rows carry their own order."""


def shuffled(tables: dict[str, pa.Table], seed: int) -> dict[str, pa.Table]:
    rng = np.random.default_rng(seed)
    return {
        name: table if name in TABLES_IN_ORDER else table.take(rng.permutation(table.num_rows))
        for name, table in tables.items()
    }


def verify(tables: dict[str, pa.Table], kernel: str) -> tuple[Grid, N1Result]:
    grid, snapshot = assemble(to_columns(tables))
    n, m = grid.network.n_bus, grid.network.n_branch
    criteria = Criteria(np.full(n, 0.95), np.full(n, 1.05), np.full(m, 0.8))
    return grid, verify_outages(grid, snapshot.block(), np.arange(m), criteria, kernel=kernel)


@pytest.mark.parametrize("kernel", [KERNELS[0], "numba"])
@pytest.mark.parametrize("name", ["case39", "case118"])
def test_shuffled_rows_change_no_outage(name: str, kernel: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tables = import_grid(f"pandapower:{name}").tables
    grid, one = verify(tables, kernel)
    mixed, other = verify(shuffled(tables, 7), kernel)
    assert grid.network.branch_id.tolist() != mixed.network.branch_id.tolist()
    place = {name: k for k, name in enumerate(mixed.network.branch_id)}
    order = np.array([place[name] for name in grid.network.branch_id])
    for field in ("outcome", "overloaded", "voltage_violations", "q_switches"):
        np.testing.assert_array_equal(
            getattr(one.extremes, field)[0], getattr(other.extremes, field)[0][order], err_msg=field
        )
    for field in ("loading_max", "vm_min_pu", "vm_max_pu"):
        np.testing.assert_allclose(
            getattr(one.extremes, field)[0],
            getattr(other.extremes, field)[0][order],
            atol=1e-7,
            rtol=0,
            err_msg=field,
        )
    np.testing.assert_allclose(one.lost_load_mw[0], other.lost_load_mw[0][order], atol=1e-9)
    assert (one.extremes.q_switches > 0).any()
