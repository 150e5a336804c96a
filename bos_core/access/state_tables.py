"""Write a solved snapshot back as entity-state tables (E_ES)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from bos_core.grid.model import Grid, Snapshot, StrArray
from bos_core.objects.ontology import TABLES


def snapshot_tables(before: Mapping[str, pa.Table], grid: Grid, snapshot: Snapshot) -> dict[str, pa.Table]:
    """Return the state tables with the snapshot's values; elements that are not in the grid stay as they were.

    Parameters
    ----------
    before : mapping of table name to pa.Table
        The state tables that the grid was assembled from.
    grid, snapshot
        One hour; axes as in `grid`.
    """
    network = grid.network
    branch_ids = network.branch_id
    angle_deg = np.rad2deg(snapshot.va_rad)
    changes: dict[str, tuple[StrArray, dict[str, np.ndarray]]] = {
        "bus_state": (network.bus_id, {"vm_pu": snapshot.vm_pu, "va_deg": angle_deg}),
        "branch_state": (branch_ids[network.tap_branch], {"tap": snapshot.tap}),
        "unit_state": (
            grid.units.id,
            {
                "on": snapshot.unit_on,
                "p_mw": snapshot.unit_p_mw,
                "q_mvar": snapshot.unit_q_mvar,
                "vm_set_pu": snapshot.unit_vm_set_pu,
            },
        ),
        "load_state": (grid.loads.id, {"p_mw": snapshot.load_p_mw, "q_mvar": snapshot.load_q_mvar}),
        "shunt_state": (grid.shunts.id, {"step": snapshot.shunt_step}),
        "svg_state": (grid.svgs.id, {"q_mvar": snapshot.svg_q_mvar, "vm_set_pu": snapshot.svg_vm_set_pu}),
        "storage_state": (
            grid.storages.id,
            {"p_mw": snapshot.storage_p_mw, "q_mvar": snapshot.storage_q_mvar},
        ),
        "hvdc_state": (
            grid.hvdc.id,
            {
                "p_mw": snapshot.hvdc_p_mw,
                "q_from_mvar": snapshot.hvdc_q_from_mvar,
                "q_to_mvar": snapshot.hvdc_q_to_mvar,
                "vm_from_set_pu": snapshot.hvdc_vm_from_set_pu,
                "vm_to_set_pu": snapshot.hvdc_vm_to_set_pu,
            },
        ),
    }
    written = {
        name: _overwrite(name, before[name], ids, values)
        for name, (ids, values) in changes.items()
        if name in before and before[name].num_rows
    }
    return {**before, **written}


def _overwrite(name: str, table: pa.Table, ids: StrArray, values: Mapping[str, np.ndarray]) -> pa.Table:
    """Replace columns of the rows whose id is in `ids`; NaN becomes null."""
    position = {key: row for row, key in enumerate(table["id"].to_pylist())}
    rows = np.array([position.get(str(i), -1) for i in ids], dtype=np.int64)
    found = rows >= 0
    for column, new in values.items():
        field = TABLES[name].arrow.field(column)
        old = table[column].to_pylist()
        for row, value in zip(rows[found].tolist(), np.asarray(new)[found].tolist(), strict=True):
            old[row] = value
        array = pa.array(old, type=field.type, from_pandas=True)
        table = table.set_column(table.schema.get_field_index(column), field, array)
    return table
