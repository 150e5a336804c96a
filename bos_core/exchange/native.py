"""The native file: one zip with a Parquet file a table and a series, and a manifest with their digests.

Reading gives back exactly what was written. Nothing in the file is executed; sizes are limited before reading.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bos_core.exchange.model import ImportedGrid, Note, Series
from bos_core.objects.errors import Finding, FormatError
from bos_core.objects.ontology import SERIES, TABLES, Tables, TableSchema

MANIFEST = "bos.json"
FORMAT, VERSION = "bos-grid", 1
BYTES_MAX = 16 * 2**30
"""Largest total size of an unpacked file."""

_UNKNOWN = "update BOS, or add the program that brings it"
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


def write_native(
    tables: Mapping[str, pa.Table],
    path: Path,
    series: Mapping[str, Series] | None = None,
    notes: tuple[Note, ...] = (),
) -> None:
    """Write tables and series; the same content gives the same bytes."""
    members = {f"tables/{name}.parquet": table for name, table in tables.items()}
    members |= {f"series/{name}.parquet": _series_table(s) for name, s in (series or {}).items()}
    partial = path.with_name(path.name + ".part")
    digests: dict[str, dict[str, Any]] = {}
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for name, table in members.items():
                buffer = io.BytesIO()
                pq.write_table(table, buffer, compression="zstd")
                data = buffer.getvalue()
                digests[name] = {"sha256": hashlib.sha256(data).hexdigest(), "rows": table.num_rows}
                archive.writestr(zipfile.ZipInfo(name, _TIMESTAMP), data)
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "members": digests,
                "notes": [[n.component, n.count, n.what] for n in notes],
            }
            archive.writestr(zipfile.ZipInfo(MANIFEST, _TIMESTAMP), json.dumps(manifest, indent=1))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _series_table(series: Series) -> pa.Table:
    schema = SERIES[series.name]
    columns = [pa.array(series.values[:, k], type=schema.type) for k in range(len(series.elements))]
    fields = [pa.field(e, schema.type, nullable=False) for e in series.elements]
    return pa.Table.from_arrays(
        columns, schema=pa.schema(fields, metadata={"series": series.name, "unit": schema.unit})
    )


def _refused(path: Path, problem: str, remedy: str) -> FormatError:
    return FormatError((Finding("file", (path.name,), problem, remedy),))


def is_native(path: Path) -> bool:
    """Return whether a zip holds the manifest of this format."""
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def read_native(path: Path, ontology: Tables = TABLES) -> ImportedGrid:
    """Read a native file, as tables of an ontology.

    Raises
    ------
    FormatError
        Truncated, altered, of another version, or not of this format.
    """
    again = "export the grid again or copy the file again"
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _manifest(path, archive)
            if sum(i.file_size for i in archive.infolist()) > BYTES_MAX:
                raise _refused(path, f"unpacks to more than {BYTES_MAX >> 30} GiB", "split the grid")
            tables, series = {}, {}
            for name, entry in manifest["members"].items():
                folder, _, rest = str(name).partition("/")
                item = rest.removesuffix(".parquet")
                known = {"tables": ontology, "series": SERIES}.get(folder, {})
                if item not in known:
                    raise _refused(path, f"holds {name}, which this installation does not know", _UNKNOWN)
                data = archive.read(name)
                if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                    raise _refused(path, f"{name} was altered", again)
                table = pq.read_table(io.BytesIO(data))
                if folder == "tables":
                    tables[item] = _conform(path, ontology[item], table)
                else:
                    series[item] = _read_series(item, table)
    except (zipfile.BadZipFile, EOFError, pa.ArrowInvalid, OSError, KeyError, TypeError, AttributeError) as error:
        raise _refused(path, f"cannot be read ({type(error).__name__})", again) from error
    absent = {name: schema.empty() for name, schema in ontology.items() if name not in tables}
    notes = tuple(Note(str(c), int(k), str(w)) for c, k, w in manifest.get("notes", ()))
    return ImportedGrid({name: {**absent, **tables}[name] for name in ontology}, series, notes)


def _manifest(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(archive.read(MANIFEST))
    except ValueError as error:
        raise _refused(path, "its manifest is not JSON", "export the grid again") from error
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise _refused(
            path,
            f"is of format {manifest.get('format')} version {manifest.get('version')}",
            f"give {FORMAT} version {VERSION}",
        )
    return manifest


def _conform(path: Path, schema: TableSchema, table: pa.Table) -> pa.Table:
    """Give the table its schema."""
    extra = set(table.column_names) - set(schema.arrow.names)
    if extra:
        raise _refused(path, f"table {schema.name} has unknown columns {sorted(extra)}", _UNKNOWN)
    return schema.conform(table).cast(schema.arrow)


def _read_series(name: str, table: pa.Table) -> Series:
    values = [table.column(k).to_numpy() for k in range(table.num_columns)]
    kind = np.dtype({"bool": "bool", "int64": "int64"}.get(str(SERIES[name].type), "float64"))
    stacked = np.stack(values, axis=1).astype(kind) if values else np.zeros((table.num_rows, 0), kind)
    return Series(name, tuple(table.column_names), stacked)
