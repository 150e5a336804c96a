"""From a file, a folder, a code or the name of a built-in case to ontology tables."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bos_core.exchange.model import ImportedGrid, Note, to_columns
from bos_core.exchange.native import is_native, read_native
from bos_core.exchange.overlay import apply_overlay
from bos_core.exchange.tables import TableBuilder
from bos_core.exchange.validation import busy_buses, island_findings, validate_tables
from bos_core.grid.topology import find_islands
from bos_core.objects.errors import Finding, FormatError, GridError, raise_if_any
from bos_core.objects.ontology import TABLES, Tables, element_id

POWSYBL_SUFFIXES = (".raw", ".rawx", ".xiidm", ".iidm", ".jiidm", ".uct", ".ucte", ".txt", ".xml", ".zip")

FORMATS = (
    ".zip (native or CGMES), .json (pandapower), .m or .mat (MATPOWER), .raw (PSS/E), .xiidm, .uct (UCTE), "
    ".txt (IEEE-CDF), an RTS-GMLC folder, a SimBench code, pandapower:NAME"
)


def import_grid(
    source: str | Path,
    *,
    overlay: Path | None = None,
    drop_islands: bool = False,
    check: bool = True,
    ontology: Tables = TABLES,
) -> ImportedGrid:
    """Import a grid.

    Parameters
    ----------
    source : str or Path
        File, folder, SimBench code (``1-EHV-mixed--0-no_sw``) or built-in case (``pandapower:case118``).
    overlay : Path, optional
        TOML or CSV file that changes columns and adds devices, see the room's README.
    drop_islands : bool
        Keep the largest island that has a slack and take the rest out of service, instead of refusing the file.
    check : bool
        Validate; off only to look at a broken grid.
    ontology : mapping of table name to TableSchema
        With what programs have added; only a native file or an overlay can hold that.

    Returns
    -------
    ImportedGrid
        Every ontology table; `notes` say what was dropped or assumed.

    Raises
    ------
    FormatError
        The source cannot be read.
    GridError
        The grid or the overlay is wrong; carries every finding.
    """
    grid = _complete(_read(str(source), ontology), ontology)
    if overlay is not None:
        grid = apply_overlay(grid, overlay, ontology)
    if check:
        found = validate_tables(grid.tables, grid.series, ontology=ontology)
        if any(f.component != "island" for f in found):
            raise GridError(tuple(found))
        settled = settle_islands(grid, drop_islands)
        raise_if_any(island_findings(to_columns(settled.tables)) if drop_islands else found, GridError)
        grid = settled
    return grid


def _complete(grid: ImportedGrid, ontology: Tables) -> ImportedGrid:
    """Return a grid with every table and column of the ontology."""
    empty = {name: schema.empty() for name, schema in ontology.items()}
    return replace(grid, tables=empty | {n: ontology[n].conform(table) for n, table in grid.tables.items()})


def _read(source: str, ontology: Tables) -> ImportedGrid:
    from bos_core.exchange.simbench_data import is_code, read_simbench

    if is_code(source):
        return _built(read_simbench(source))
    if source.startswith("pandapower:"):
        return _built(_builtin(source.removeprefix("pandapower:")))
    path = Path(source)
    if not os.path.exists(path):  # False for what is no path at all, too
        raise _refused(source, "does not exist", f"give an existing path or one of: {FORMATS}")
    try:
        if path.is_dir():
            return _built(_folder(path))
        if path.stat().st_size == 0:
            raise _refused(path.name, "is empty", "copy or export the file again")
        return _file(path, ontology)
    except PermissionError as error:
        raise _refused(path.name, "may not be read", "ask for read permission") from error


def _built(builder: TableBuilder) -> ImportedGrid:
    raise_if_any(builder.findings, GridError)
    return builder.finish()


def _folder(path: Path) -> TableBuilder:
    if (path / "SourceData" / "bus.csv").exists():
        from bos_core.exchange.rts_gmlc import read_rts_gmlc

        return read_rts_gmlc(path)
    raise _refused(path.name, "is a folder without SourceData/bus.csv", "give an RTS-GMLC folder or a file")


def _file(path: Path, ontology: Tables) -> ImportedGrid:
    suffix = path.suffix.lower()
    if suffix == ".zip":
        _check_zip(path)
        if is_native(path):
            return read_native(path, ontology)
    if suffix == ".json":
        from bos_core.exchange.pandapower_json import read_pandapower_json
        from bos_core.exchange.pandapower_net import NetReader

        return _built(NetReader(read_pandapower_json(path), path.stem).read())
    if suffix in (".m", ".mat"):
        from bos_core.exchange.matpower import read_matpower

        return _built(read_matpower(path))
    if suffix in POWSYBL_SUFFIXES:
        from bos_core.exchange.powsybl import read_powsybl

        return _built(read_powsybl(path))
    raise _refused(path.name, f"has the unknown suffix '{path.suffix}'", f"give one of: {FORMATS}")


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise _refused(path.name, "is not a whole zip file", "copy or export it again") from error
    if broken:
        raise _refused(path.name, f"is damaged at {broken}", "copy or export it again")


def _builtin(name: str) -> TableBuilder:
    import pandapower
    import pandapower.networks

    from bos_core.exchange.pandapower_net import NetReader

    maker: Callable[[], object] | None = getattr(pandapower.networks, name, None)
    if name.startswith("_") or not callable(maker) or isinstance(maker, type):
        words = ("case", "example", "mv_", "create_cigre")
        cases = sorted(n for n in dir(pandapower.networks) if n.startswith(words))
        near = [n for n in cases if n[:5] == name[:5]][:8] or cases[:8]
        raise _refused(f"pandapower:{name}", "is not a case of pandapower", f"use one of {', '.join(near)}, ...")
    try:
        net = maker()
    except TypeError as error:
        remedy = "save the net as JSON and import the file"
        raise _refused(f"pandapower:{name}", "needs arguments", remedy) from error
    if not isinstance(net, pandapower.pandapowerNet):
        raise _refused(f"pandapower:{name}", "does not make a net", "use the name of a case")
    return NetReader(net, name).read()


def _refused(what: str, problem: str, remedy: str) -> FormatError:
    return FormatError((Finding("source", (what,), problem, remedy),))


def settle_islands(grid: ImportedGrid, drop: bool) -> ImportedGrid:
    """Take buses out of service that nothing supplies.

    Islands without any device are always taken out; with `drop` so is every island but the largest with a slack.
    """
    columns = to_columns(grid.tables)
    if not columns["bus"]["id"].size:
        return grid
    islands = find_islands(columns)
    if not islands.slack.size:
        return grid
    if drop:
        candidates = islands.bus[islands.slack]
        home = max(dict.fromkeys(candidates.tolist()), key=lambda k: int((islands.bus == k).sum()))
    else:
        home = int(islands.bus[islands.slack[0]])
    outside = (islands.bus >= 0) & (islands.bus != home)
    busy = np.isin(columns["bus"]["id"], list(busy_buses(columns)))
    if not drop:
        outside &= ~np.isin(islands.bus, np.unique(islands.bus[busy]))
    if not outside.any():
        return grid
    gone = columns["bus"]["id"][outside]
    what = "in islands that were dropped" if drop else "with nothing connected"
    note = Note("bus", int(gone.size), f"{what}: out of service ({int((busy & outside).sum())} with devices)")
    notes = [*grid.notes, note]
    tables, cut, controls = _with_fixed_exchange(grid.tables, set(gone.tolist()))
    if cut:
        notes.append(Note("hvdc", cut, "leads to a dropped island: a load of its present power stands for it"))
    if controls:
        notes.append(Note("hvdc", controls, "leads to a dropped island: its voltage control is left out"))
    return ImportedGrid(_out_of_service(tables, set(gone.tolist())), grid.series, tuple(notes))


def _with_fixed_exchange(tables: Mapping[str, pa.Table], gone: set[str]) -> tuple[dict[str, pa.Table], int, int]:
    """Add loads for what HVDC lines exchange with buses that are dropped.

    Returns
    -------
    tables, number of such lines, number of their kept ends that control the voltage
    """
    states = {row["id"]: row for row in tables["hvdc_state"].to_pylist()}
    entities = {row["id"]: row for row in tables["entity"].to_pylist()}
    parents = {row["child"]: row["parent"] for row in tables["contains"].to_pylist()}
    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("load", "load_state", "entity", "contains", "connects")
    }
    controls = 0
    for line in tables["hvdc"].to_pylist():
        state = states.get(line["id"], {"in_service": False})
        ends = [end for end in ("from", "to") if line[f"{end}_bus"] not in gone]
        if len(ends) != 1 or not state["in_service"]:
            continue
        end, sent = ends[0], state["p_mw"]
        received = abs(sent) * (1.0 - line["loss_percent"] / 100.0) - (line["loss_mw"] if sent else 0.0)
        drawn = abs(sent) if (sent >= 0) == (end == "from") else -received
        bus = line[f"{end}_bus"]
        name = f"{entities[line['id']]['name']} (exchange)"
        load = element_id(line["id"], "load", name)
        controls += state[f"vm_{end}_set_pu"] is not None
        rows["load"].append({"id": load, "bus": bus, "share_z": 0.0, "share_i": 0.0, "sheddable": False})
        reactive = -state[f"q_{end}_mvar"]
        rows["load_state"].append({"id": load, "in_service": True, "p_mw": drawn, "q_mvar": reactive})
        rows["entity"].append({"id": load, "kind": "load", "name": name, "source_id": name})
        rows["connects"].append({"device": load, "terminal": "bus", "bus": bus})
        if bus in parents:
            rows["contains"].append({"parent": parents[bus], "child": load})
    added = {
        name: pa.concat_tables([tables[name], pa.Table.from_pylist(new, schema=tables[name].schema)])
        for name, new in rows.items()
        if new
    }
    return {**tables, **added}, len(rows["load"]), controls


def _out_of_service(tables: Mapping[str, pa.Table], buses: set[str]) -> dict[str, pa.Table]:
    state = tables["bus_state"]
    gone = pc.is_in(state["id"], pa.array(sorted(buses)))
    live = pc.and_(state["in_service"], pc.invert(gone))
    position = state.schema.get_field_index("in_service")
    changed = state.set_column(position, state.schema.field(position), live)
    return {**tables, "bus_state": changed.cast(TABLES["bus_state"].arrow)}
