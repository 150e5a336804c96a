"""Values of what programs have added to the ontology: as a program gets them, and in a reduced model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bos_core.access.scenario_data import ScenarioReader
from bos_core.grid.assembly import locate_buses
from bos_core.grid.model import FloatArray, Grid, IntArray, Snapshot, StrArray
from bos_core.grid.reduction import Links, Reduction
from bos_core.objects.columns import numpy_columns
from bos_core.objects.extension import Elements, Extension, extended, terminal_columns
from bos_core.objects.ontology import Column, TableSchema

_AXES: Mapping[str, Callable[[Grid], StrArray]] = {
    "bus": lambda grid: grid.network.bus_id,
    "unit": lambda grid: grid.units.id,
    "load": lambda grid: grid.loads.id,
    "shunt": lambda grid: grid.shunts.id,
    "svg": lambda grid: grid.svgs.id,
    "storage": lambda grid: grid.storages.id,
    "hvdc": lambda grid: grid.hvdc.id,
}
"""Kinds that have an axis of their own in the grid."""


def added_elements(reader: ScenarioReader, extensions: Sequence[Extension], grid: Grid | None) -> Elements:
    """Return what a version holds of a program's extensions, also of those that the ontology no longer has.

    Parameters
    ----------
    reader : ScenarioReader
    extensions : sequence of Extension
    grid : Grid or None
        What the program works on.

    Returns
    -------
    mapping of kind to column to (element,) array
        ``id`` and the added columns, defaults where no value is given. Kinds that are an axis of the grid come in
        its order, others in that of their table. Devices of a new kind have the position of their bus in
        ``grid.network`` for each terminal, -1 where it is not energized.
    """
    ontology = extended(extensions)
    found = {}
    for extension in extensions:
        schema = ontology[extension.table]
        table = reader.table_as(schema)
        axis = _AXES.get(schema.name)
        ids = _texts(table["id"]) if axis is None or grid is None else axis(grid)
        rows = _rows(table, ids)
        found[schema.name] = {
            "id": ids,
            **_positions(reader, schema, table),
            **{c.name: _filled(c, table[c.name].take(rows)) for c in schema.columns if c.added},
        }
    return found


def _rows(table: pa.Table, ids: StrArray) -> pa.Array:
    """Return the rows of a table for some ids, null where it has none."""
    return pc.index_in(pa.array(ids.tolist(), pa.string()), value_set=table["id"].combine_chunks())


def _texts(values: pa.ChunkedArray) -> StrArray:
    return np.array(values.to_pylist(), dtype=np.str_)


def _filled(column: Column, values: pa.ChunkedArray) -> np.ndarray:
    whole = pc.fill_null(values, pa.scalar(column.default, column.type))
    return numpy_columns(pa.table({column.name: whole}))[column.name]


def _positions(reader: ScenarioReader, schema: TableSchema, table: pa.Table) -> dict[str, IntArray]:
    ends = terminal_columns(schema)
    if not ends:
        return {}
    place = _places(reader)
    return {
        column: np.array([place.get(bus, -1) for bus in table[column].to_pylist()], dtype=np.int64)
        for column in ends.values()
    }


def _places(reader: ScenarioReader) -> dict[str, int]:
    """Return the position in the network of every bus of a version."""
    columns = reader.columns()
    return dict(zip(columns["bus"]["id"].tolist(), locate_buses(columns).tolist(), strict=True))


# --- in a reduced model


def buses_of_added_kinds(reader: ScenarioReader) -> IntArray:
    """Return the positions in the network of the buses to which devices of added kinds are connected."""
    kinds = [schema for schema in reader.ontology.values() if schema.added]
    tables = {schema: reader.table(schema.name) for schema in kinds}
    if not any(table.num_rows for table in tables.values()):
        return np.empty(0, np.int64)
    parts = [at for schema, table in tables.items() for at in _positions(reader, schema, table).values()]
    found = np.unique(np.concatenate(parts))
    return found[found >= 0]


def added_to_reduced(
    reader: ScenarioReader, made: Mapping[str, pa.Table], original: Grid, state: Snapshot, reduction: Reduction
) -> dict[str, pa.Table]:
    """Return the tables of a reduced model that programs have added to, with the values of the original.

    A device that was kept keeps its values. Where several were merged, a real number is their mean, weighted by
    the power that each brings (units: p_mw_max, loads: |p_mw| of the state); any other value is that of the one
    that brings most. Devices of added kinds stay at their buses, which are kept.

    Parameters
    ----------
    reader : ScenarioReader
        Of the original model.
    made : mapping of table name to pa.Table
        The reduced model without added columns.
    original, state
        What was reduced, and its state.
    reduction : Reduction
    """
    merged = {
        "unit": (reduction.unit, original.units.id, reduction.grid.units.id, original.units.p_mw_max),
        "load": (reduction.load, original.loads.id, reduction.grid.loads.id, np.abs(state.load_p_mw)),
    }
    found: dict[str, pa.Table] = {}
    for name, schema in reader.ontology.items():
        if schema.added or not any(c.added for c in schema.columns):
            continue
        table, whole = reader.table(name), schema.conform(made[name])
        for column in (c for c in schema.columns if c.added and table[c.name].null_count < table.num_rows):
            values = _kept(table, column, made[name])
            if name in merged:
                values = _merged(table, column, made[name], values, *merged[name])
            position = whole.schema.get_field_index(column.name)
            whole = whole.set_column(position, schema.arrow.field(column.name), pa.array(values, column.type))
        found[name] = schema.trimmed(whole)
    return found | _added_kinds(reader, made, original)


def _kept(table: pa.Table, column: Column, made: pa.Table) -> list[Any]:
    """Return the values of the devices that are in both models, None for the others."""
    values: list[Any] = table[column.name].take(_rows(table, _texts(made["id"]))).to_pylist()
    return values


def _merged(
    table: pa.Table,
    column: Column,
    made: pa.Table,
    kept: Sequence[Any],
    links: Links,
    old: StrArray,
    new: StrArray,
    power: FloatArray,
) -> list[Any]:
    """Return the values of kept devices, and for merged ones what their parts come to."""
    given = dict(zip(table["id"].to_pylist(), table[column.name].to_pylist(), strict=True))
    parts: dict[str, list[tuple[float, Any]]] = {}
    brought = links.weight * power[links.source]
    for source, target, weight in zip(old[links.source], new[links.target], brought.tolist(), strict=True):
        parts.setdefault(str(target), []).append((weight, given.get(str(source))))
    return [
        value if value is not None or name in given else _together(column, parts.get(name, []))
        for name, value in zip(made["id"].to_pylist(), kept, strict=True)
    ]


def _together(column: Column, parts: Sequence[tuple[float, Any]]) -> Any:
    if all(value is None for _, value in parts):
        return None
    whole: list[tuple[float, Any]] = [
        (weight, column.default if value is None else value) for weight, value in parts
    ]
    total = sum(weight for weight, _ in whole)
    if not pa.types.is_floating(column.type) or total <= 0.0:
        return max(whole, key=lambda part: part[0])[1]
    return sum((weight * float(value) for weight, value in whole), 0.0) / total


def _added_kinds(reader: ScenarioReader, made: Mapping[str, pa.Table], original: Grid) -> dict[str, pa.Table]:
    """Return the energized devices of added kinds at the buses that stand for theirs, with what joins them."""
    found: dict[str, pa.Table] = {}
    for name, schema in reader.ontology.items():
        table = reader.table(name) if schema.added else schema.empty()
        if not table.num_rows:
            continue
        positions = _positions(reader, schema, table)
        for column, at in positions.items():
            buses = pa.array(original.network.bus_id[at].tolist(), pa.string())
            position = table.schema.get_field_index(column)
            table = table.set_column(position, table.schema.field(position), buses)
        energized = np.all([at >= 0 for at in positions.values()], axis=0)
        found[name] = schema.trimmed(table.filter(pa.array(energized)))
    return found | _joined(reader, made, found)


def _joined(
    reader: ScenarioReader, made: Mapping[str, pa.Table], kinds: Mapping[str, pa.Table]
) -> dict[str, pa.Table]:
    """Return entities, containment and terminals of a reduced model together with those of added kinds."""
    if not kinds:
        return {}
    ids = pa.chunked_array([chunk for table in kinds.values() for chunk in table["id"].chunks], pa.string())
    terminals = [
        {"device": row["id"], "terminal": terminal, "bus": row[column]}
        for name, table in kinds.items()
        for terminal, column in terminal_columns(reader.ontology[name]).items()
        for row in table.to_pylist()
    ]
    rows = {name: reader.table(name) for name in ("entity", "contains")}
    added = {
        "entity": rows["entity"].filter(pc.is_in(rows["entity"]["id"], ids)),
        "contains": rows["contains"].filter(pc.is_in(rows["contains"]["child"], ids)),
        "connects": pa.Table.from_pylist(terminals, schema=made["connects"].schema),
    }
    return {name: pa.concat_tables([made[name], table.cast(made[name].schema)]) for name, table in added.items()}
