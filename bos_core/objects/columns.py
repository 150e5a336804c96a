"""Tables as numpy columns: the form in which the kernels take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bos_core.grid.columns import MISSING_INT

_MISSING = {"double": np.nan, "string": "", "int64": MISSING_INT, "bool": False}


def numpy_columns(table: pa.Table) -> dict[str, NDArray[Any]]:
    """Return a table's columns as numpy arrays: null is NaN, ``""``, `MISSING_INT` or False by type."""
    columns = {}
    for name in table.column_names:
        values = table.column(name)
        kind = str(values.type)
        if values.null_count:
            values = pc.fill_null(values, pa.scalar(_MISSING[kind], values.type))
        array = values.to_numpy()
        columns[name] = array.astype(np.str_) if kind == "string" else array
    return columns
