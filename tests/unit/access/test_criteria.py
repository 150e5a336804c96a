"""Security criteria along a grid's axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from bos_core.access.criteria import Criteria, criteria
from bos_core.exchange import import_grid, to_columns
from bos_core.grid.assembly import assemble


def with_columns(table: pa.Table, **columns: list[Any]) -> pa.Table:
    for name, values in columns.items():
        position = table.schema.get_field_index(name)
        table = table.set_column(
            position, table.schema.field(name), pa.array(values, table.schema.field(name).type)
        )
    return table


def of(**changes: dict[str, list[Any]]) -> tuple[Criteria, np.ndarray]:
    tables = dict(import_grid("pandapower:case9").tables)
    for name, columns in changes.items():
        tables[name] = with_columns(tables[name], **columns)
    grid, _ = assemble(to_columns(tables))
    return criteria(grid, tables.__getitem__), grid.network.branch_id


def test_a_branchs_own_limit_is_its_criterion() -> None:
    lines = import_grid("pandapower:case9").tables["line"]
    own = [0.7, None, 1.3, *[None] * (lines.num_rows - 3)]
    found, branches = of(line={"loading_max": own}, loading_criterion={"loading_max": [0.9, 1.0]})
    at = {name: k for k, name in enumerate(branches.tolist())}
    k = [at[i] for i in lines["id"].to_pylist()]
    np.testing.assert_array_equal(found.loading_max[k[:4]], [0.7, 0.9, 1.3, 0.9])
    # After a contingency the wider of the own limit and the criterion holds.
    np.testing.assert_array_equal(found.loading_contingency_max[k[:4]], [1.0, 1.0, 1.3, 1.0])


def test_a_buss_own_limits_are_those_of_the_base_case() -> None:
    found, _ = of(bus={"vm_pu_min": [0.97, *[None] * 8]})
    assert found.vm_pu_min[0] == 0.97
    assert (found.vm_contingency_pu_min <= found.vm_pu_min).all()
