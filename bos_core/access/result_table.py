"""Small result tables: column types are fixed even without rows, units follow from the names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

_UNITS = {
    "mw": "MW",
    "mwh": "MWh",
    "mvar": "Mvar",
    "mva": "MVA",
    "pu": "p.u.",
    "rad": "rad",
    "deg": "deg",
    "eur": "EUR",
    "s": "s",
    "hour": "h",
    "loading": "1",
}


def unit_of(column: str) -> str:
    """Return the unit that a column's name ends with (``p_mw_max`` ► MW), ``"1"`` when it names none."""
    words = column.removesuffix("_min").removesuffix("_max").split("_")
    return _UNITS.get(words[-1], "1")


def _array(values: np.ndarray | Sequence[object]) -> pa.Array:
    if isinstance(values, np.ndarray) and values.dtype.kind != "U":
        return pa.array(values)
    items = [item.item() if isinstance(item, np.generic) else item for item in values]
    text = not items or isinstance(items[0], str)
    return pa.array(items, pa.string()) if text else pa.array(items)


def result_table(columns: Mapping[str, np.ndarray | Sequence[object]]) -> pa.Table:
    """Make a table; a numpy array keeps its type, a list of numbers becomes one, an empty list is text.

    Parameters
    ----------
    columns : mapping of name to values
        Names carry the unit as everywhere in BOS.
    """
    arrays = {name: _array(values) for name, values in columns.items()}
    fields = [
        pa.field(name, array.type, metadata=None if array.type == pa.string() else {"unit": unit_of(name)})
        for name, array in arrays.items()
    ]
    return pa.Table.from_arrays(list(arrays.values()), schema=pa.schema(fields))
