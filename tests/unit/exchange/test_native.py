"""The native file keeps everything: every table of the ontology and every example of its data types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bos_core.exchange import ImportedGrid, Note, Series
from bos_core.exchange.native import read_native, write_native
from bos_core.objects.ontology import HOURS_PER_YEAR, SERIES, TABLES, DataType, check_table

_TEXT = "id-{}"

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    # The examples of Table 5 of the paper, one or more rows each.
    "system": [{"id": "s", "name": "China Southern", "base_mva": 100.0, "frequency_hz": 50.0}],
    "region": [{"id": "r1", "name": "North", "system": "s"}, {"id": "r2", "name": "Süd ✓", "system": "s"}],
    "interface": [{"id": "i", "name": "North-South", "limit_forward_mw": 3200.0, "limit_backward_mw": 2800.0}],
    "interface_branch": [{"interface": "i", "branch": "l", "direction": -1.0}],
    "reserve_requirement": [
        {"id": "p", "region": None, "product": "positive", "share_of_load": 0.03},
        {"id": "n", "region": "r1", "product": "negative", "minimum_mw": 150.0},
        {"id": "u", "region": "r2", "product": "ramp_up", "share_of_renewable": 0.1},
    ],
    "agc_control": [
        {"id": "a", "region": "r1", "target_interchange_mw": 120.0, "frequency_bias_mw_per_hz": 900.0}
    ],
    "avc_control": [{"id": "v", "pilot_bus": "b", "target_vm_pu": 1.03, "deadband_pu": 0.005}],
    "system_state": [
        {
            "hour": 17,
            "area": "s",
            "reserve_up_mw": 900.0,
            "renewable_mw": 2200.0,
            "load_shed_mw": 3.0,
            "losses_mw": None,
        }
    ],
    "market_bid": [{"id": "m", "side": "sell", "hour": 8759, "segment": 2, "quantity_mw": 50.0, "price": 31.5}],
    "contingency": [{"id": "c", "name": "Line 1 and 2", "set": "N-2"}],
    "contingency_element": [
        {"contingency": "c", "element": "l"},
        {"contingency": "c", "element": "l2"},
    ],
    "adjustment_coefficient": [{"id": "k", "region": "r1", "kind": "load", "coefficient": 1.08}],
    "line": [{"id": "l", "from_bus": "b", "to_bus": "b2", "r_ohm": 0.5, "x_ohm": 5.0, "i_max_ka": None}],
    "transformer": [{"id": "t", "model": "t", "x_pu": 0.12, "tap_min": -9, "tap_max": None, "rated_mva": 300.0}],
    "dynamic_model": [
        {
            "id": "d",
            "device": "g",
            "model": "synchronous_machine_6",
            "equations": r"\dot\delta = \omega",
        }
    ],
    "dynamic_parameter": [
        {"model": "d", "name": "h_s", "value": 6.5, "unit": "s"},
        {"model": "d", "name": "xd1_pu", "value": 0.3, "unit": "p.u."},
    ],
    "protection": [{"id": "x", "device": "t", "model": "differential", "pickup_current_pu": 0.3, "slope_1": 0.25}],
    "unit_cost": [{"device": "g", "no_load_eur_per_h": 210.0, "source": "dispatch cost model"}],
    "cost_segment": [{"device": "g", "segment": 0, "p_mw_from": 10.0, "p_mw_to": 80.0, "marginal": 32.0}],
    "construction_cost": [{"device": "l", "formula": "linear in length", "fixed_eur": 1e6, "lifetime_a": 40.0}],
    "service_period": [
        {"id": "1", "device": "g", "kind": "commissioned", "hour_from": 0, "hour_to": 8000},
        {"id": "2", "device": "g", "kind": "maintenance", "hour_from": 100, "hour_to": 340},
    ],
    "unit_state": [
        {"id": "g", "in_service": True, "on": False, "p_mw": 0.0, "q_mvar": -0.0, "vm_set_pu": None},
        {"id": "h", "in_service": False, "on": True, "p_mw": 80.0, "q_mvar": 5.0, "vm_set_pu": 1.02},
    ],
    "branch_state": [{"id": "t", "in_service": True, "tap": -3}, {"id": "l", "in_service": False, "tap": None}],
    "transient_event": [
        {"id": "e1", "kind": "line_short_circuit", "device": "l", "location": 0.3, "start_s": 0.1, "end_s": 0.2},
        {"id": "e2", "kind": "dc_blocking", "device": "h", "location": None, "start_s": 0.1, "end_s": 0.15},
        {"id": "e3", "kind": "load_step", "device": "ld", "start_s": 1.0, "end_s": 1.0, "magnitude": 0.2},
    ],
    "contains": [{"parent": "s", "child": "r1"}, {"parent": "r1", "child": "st"}, {"parent": "st", "child": "g"}],
    "connects": [{"device": "l", "terminal": "from", "bus": "b"}, {"device": "l", "terminal": "to", "bus": "b2"}],
}


def filled(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Build a table from examples; columns that an example leaves out get a value of their type."""
    schema = TABLES[name]
    columns: dict[str, list[Any]] = {}
    for position, column in enumerate(schema.columns):
        default: Any = f"{column.name} {position}"
        if pa.types.is_floating(column.type):
            default = 0.1 + position
        elif pa.types.is_integer(column.type):
            default = position
        elif pa.types.is_boolean(column.type):
            default = bool(position % 2)
        columns[column.name] = [row.get(column.name, default) for row in rows]
    for k, row in enumerate(rows):
        if all(row.get(key, "x") == rows[0].get(key, "x") for key in schema.key) and k:
            columns[schema.key[0]][k] = f"{columns[schema.key[0]][k]} {k}"
    return schema.build(columns)


def everything() -> dict[str, pa.Table]:
    return {name: filled(name, EXAMPLES.get(name, [{}, {}])) for name in TABLES}


@pytest.mark.parametrize("name", list(TABLES))
def test_every_table_round_trips(name: str, tmp_path: Path) -> None:
    table = filled(name, EXAMPLES.get(name, [{}, {}]))
    assert check_table(name, table) == []
    path = tmp_path / "grid.zip"
    write_native({name: table}, path)
    again = read_native(path).tables
    assert again[name].equals(table, check_metadata=True)
    assert set(again) == set(TABLES)
    assert all(again[other].num_rows == 0 for other in TABLES if other != name)


def test_every_data_type_has_a_table() -> None:
    covered = {TABLES[name].data_type for name in everything()}
    assert covered | {DataType.R_ORGANISATION, DataType.R_TOPOLOGY} == set(DataType)


def test_whole_grid_with_series_and_notes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    series = {}
    for name, schema in SERIES.items():
        values = rng.normal(size=(HOURS_PER_YEAR, 2))
        kind = {"bool": bool, "int64": np.int64}.get(str(schema.type), np.float64)
        series[name] = Series(name, ("one", "two / ½"), values.astype(kind))
    series["bus.vm_set_pu"].values[3, 1] = np.nan
    path = tmp_path / "grid.zip"
    tables = everything()
    write_native(tables, path, series, (Note("line", 3, "unrated"),))
    again = read_native(path)
    assert isinstance(again, ImportedGrid)
    for name, table in tables.items():
        assert again.tables[name].equals(table, check_metadata=True), name
    assert set(again.series) == set(SERIES)
    for name, one in series.items():
        np.testing.assert_array_equal(again.series[name].values, one.values)
        assert again.series[name].values.dtype == one.values.dtype
        assert again.series[name].elements == one.elements
    assert again.notes == (Note("line", 3, "unrated"),)


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        write_native(everything(), tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.zip", "two.zip"]


def test_columns_that_the_ontology_gained_are_null(tmp_path: Path) -> None:
    old = filled("transformer3", [{}]).drop_columns(["magnetizing_at"])
    path = tmp_path / "old.zip"
    write_native({"transformer3": old}, path)
    again = read_native(path).tables["transformer3"]
    assert again.schema.equals(TABLES["transformer3"].arrow)
    assert again["magnetizing_at"].null_count == 1
