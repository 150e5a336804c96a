"""Content digests of tables: equal content gives an equal digest, whatever wrote the file or cut it in chunks."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_METADATA_LEFT_OUT = (b"bos.", b"ARROW:", b"pandas")


def table_digest(table: pa.Table) -> str:
    """Return the sha256 of a table's content.

    Names, types, nullability, units, the schema's own metadata and every value count. Chunk boundaries, bytes
    under nulls, NaN payloads, documentation texts and result metadata (``bos.*``) do not.

    Raises
    ------
    TypeError
        For a column type that no table of BOS uses.
    """
    digest = hashlib.sha256(_header(table).encode())
    for column in table.columns:
        _add(digest, column.combine_chunks() if column.num_chunks != 1 else column.chunk(0))
    return digest.hexdigest()


def _header(table: pa.Table) -> str:
    fields = [
        [f.name, str(f.type), f.nullable, (f.metadata or {}).get(b"unit", b"").decode()] for f in table.schema
    ]
    metadata = {
        key.decode(): value.decode()
        for key, value in (table.schema.metadata or {}).items()
        if not key.startswith(_METADATA_LEFT_OUT)
    }
    return json.dumps([table.num_rows, fields, metadata], sort_keys=True)


def _add(digest: Any, values: pa.Array) -> None:
    kind = values.type
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    digest.update(np.packbits(valid).tobytes())
    if pa.types.is_fixed_size_list(kind):
        if values.null_count:
            raise TypeError("a list column with nulls has no canonical form")
        _add(digest, values.flatten())
    elif pa.types.is_dictionary(kind):
        present = pc.drop_null(pc.unique(values.indices))  # in order of appearance, whatever the dictionary's
        _add(digest, values.dictionary.take(present))
        _add(digest, pc.index_in(values.indices, value_set=present))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        filled = pc.fill_null(values, b"" if pa.types.is_binary(kind) else "")
        digest.update(pc.binary_length(filled).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        digest.update(_text(filled))
    elif pa.types.is_floating(kind):
        numbers = pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False)
        unknown = np.isnan(numbers)
        if unknown.any():
            numbers = np.where(unknown, numbers.dtype.type(np.nan), numbers)
        digest.update(np.ascontiguousarray(numbers.astype(numbers.dtype.newbyteorder("<"), copy=False)).data)
    elif pa.types.is_boolean(kind):
        digest.update(np.packbits(pc.fill_null(values, False).to_numpy(zero_copy_only=False)).tobytes())
    elif pa.types.is_integer(kind):
        whole = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
        digest.update(np.ascontiguousarray(whole.astype(whole.dtype.newbyteorder("<"), copy=False)).data)
    else:
        raise TypeError(f"columns of type {kind} have no canonical form")


def _text(values: pa.Array) -> bytes:
    """Return the texts one after the other."""
    wide = pa.types.is_large_string(values.type)
    offsets = (
        np.frombuffer(values.buffers()[1], "<i8" if wide else "<i4")[
            values.offset : values.offset + len(values) + 1
        ]
        if len(values)
        else np.zeros(1, np.int64)
    )
    data = values.buffers()[2]
    return b"" if data is None else bytes(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
