"""From ontology tables to files; the suffix decides the format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from bos_core.exchange.model import Note, Series
from bos_core.exchange.native import write_native
from bos_core.objects.errors import Finding, FormatError


def export_grid(
    tables: Mapping[str, pa.Table], path: Path, series: Mapping[str, Series] | None = None
) -> tuple[Note, ...]:
    """Write a grid: ``.zip`` everything, ``.json`` pandapower, ``.m`` and ``.mat`` MATPOWER, ``.xiidm`` PowSyBl.

    Returns
    -------
    tuple of Note
        What the format cannot hold.

    Raises
    ------
    FormatError
        Unknown suffix or a folder that does not exist; nothing is written.
    """
    path = Path(path)
    if not os.path.isdir(path.parent):
        raise _refused(path, f"its folder {path.parent.name} does not exist", "make the folder first")
    suffix = path.suffix.lower()
    if suffix == ".zip":
        write_native(tables, path, series)
        return ()
    if suffix == ".json":
        from bos_core.exchange.pandapower_export import write_pandapower_json

        return write_pandapower_json(tables, path)
    if suffix in (".m", ".mat"):
        from bos_core.exchange.matpower_export import write_matpower

        return write_matpower(tables, path)
    if suffix == ".xiidm":
        from bos_core.exchange.powsybl_export import write_powsybl

        return write_powsybl(tables, path)
    remedy = "give .zip (everything), .json, .m, .mat or .xiidm"
    raise _refused(path, f"has the unknown suffix '{path.suffix}'", remedy)


def _refused(path: Path, problem: str, remedy: str) -> FormatError:
    return FormatError((Finding("file", (path.name,), problem, remedy),))
