"""Overlays: a small file that changes columns of an imported grid and adds devices to it.

TOML::

    [[set]]                       # change columns of devices
    table = "unit"
    element = "EHV Gen 1"         # name, id or source id; or where = {technology = "lignite"}
    values = {p_mw_min = 120, min_up_h = 12}

    [[add]]                       # add a device with its state
    table = "hvdc"
    name = "North-South"
    values = {from_bus = "EHV Bus 1", to_bus = "EHV Bus 9", p_mw_min = -1000, p_mw_max = 1000, ...}
    state = {p_mw = 0}

CSV: columns table, element, column, value (changes only).
"""

from __future__ import annotations

import csv
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from bos_core.exchange.model import ImportedGrid, Note
from bos_core.exchange.tables import BUS_COLUMNS
from bos_core.exchange.validation import STATES
from bos_core.objects.errors import Finding, FormatError, GridError, raise_if_any
from bos_core.objects.extension import terminal_columns
from bos_core.objects.ontology import TABLES, Column, Tables, TableSchema, element_id

KEY_COLUMNS = ("id", "device")


@dataclass(frozen=True)
class _Change:
    table: str
    values: Mapping[str, Any]
    element: str = ""
    where: Mapping[str, Any] | None = None
    place: str = ""


@dataclass(frozen=True)
class _Addition:
    table: str
    name: str
    values: Mapping[str, Any]
    state: Mapping[str, Any]
    place: str


def apply_overlay(grid: ImportedGrid, path: Path, ontology: Tables = TABLES) -> ImportedGrid:
    """Return the grid with an overlay applied; devices of kinds that programs have added have no state.

    Raises
    ------
    FormatError
        The file cannot be read.
    GridError
        It names tables, columns or devices that do not exist, or gives values of the wrong type; all findings.
    """
    changes, additions = _read(path)
    overlay = _Overlay(grid, path.name, ontology)
    for addition in additions:
        overlay.add(addition)
    for change in changes:
        overlay.change(change)
    raise_if_any(overlay.findings, GridError)
    return overlay.result()


def _refused(path: Path, problem: str, remedy: str) -> FormatError:
    return FormatError((Finding("overlay", (path.name,), problem, remedy),))


def _read(path: Path) -> tuple[list[_Change], list[_Addition]]:
    if not os.path.exists(path):
        raise _refused(path, "does not exist", "give an existing TOML or CSV file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(path, "cannot be read as UTF-8 text", "save it as UTF-8") from error
    if path.suffix.lower() == ".csv":
        return _read_csv(path, text), []
    if path.suffix.lower() != ".toml":
        raise _refused(path, f"has the unknown suffix '{path.suffix}'", "give .toml or .csv")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _refused(path, f"is not TOML ({error})", "correct that line") from error
    return _read_toml(path, content)


def _read_csv(path: Path, text: str) -> list[_Change]:
    rows = csv.DictReader(text.splitlines())
    wanted = ["table", "element", "column", "value"]
    if list(rows.fieldnames or []) != wanted:
        raise _refused(path, f"has the columns {rows.fieldnames}", f"give the columns {','.join(wanted)}")
    changes = []
    for row in rows:
        table, element, column, value = (row[name] or "" for name in wanted)
        changes.append(_Change(table, {column: value}, element, None, f"line {rows.line_num}"))
    return changes


def _read_toml(path: Path, content: dict[str, Any]) -> tuple[list[_Change], list[_Addition]]:
    unknown = set(content) - {"set", "add"}
    if unknown or not all(isinstance(v, list) and all(isinstance(e, dict) for e in v) for v in content.values()):
        raise _refused(path, f"has sections other than set and add: {sorted(unknown)}", "use [[set]] and [[add]]")
    changes, additions, findings = [], [], []
    known = {"set": {"table", "element", "where", "values"}, "add": {"table", "name", "values", "state"}}
    for section, keys in known.items():
        for number, entry in enumerate(content.get(section, ()), 1):
            place = f"[[{section}]] number {number}"
            wrong = sorted(set(entry) - keys)
            if wrong or not isinstance(entry.get("values", {}), dict) or "table" not in entry:
                need = "table, values" + (", element or where" if section == "set" else ", name")
                findings.append(Finding("overlay", (place,), f"has odd keys {wrong}", f"give {need}"))
            elif section == "set":
                changes.append(
                    _Change(
                        str(entry["table"]),
                        entry.get("values", {}),
                        str(entry.get("element", "")),
                        entry.get("where"),
                        place,
                    )
                )
            else:
                name = str(entry.get("name", ""))
                values, state = entry.get("values", {}), entry.get("state", {})
                additions.append(_Addition(str(entry["table"]), name, values, state, place))
    if findings:
        raise FormatError(tuple(findings))
    return changes, additions


class _Overlay:
    """Applies changes to Python rows of the tables concerned."""

    def __init__(self, grid: ImportedGrid, name: str, ontology: Tables) -> None:
        self.grid, self.name, self.ontology = grid, name, ontology
        self.findings: list[Finding] = []
        self.rows: dict[str, list[dict[str, Any]]] = {}
        entity = grid.tables["entity"].to_pydict()
        self.ids: dict[str, dict[str, str]] = {}
        self.names = dict(zip(entity["id"], entity["name"], strict=True))
        for kind, identifier, title, source in zip(
            entity["kind"], entity["id"], entity["name"], entity["source_id"], strict=True
        ):
            known = self.ids.setdefault(kind, {})
            for word in (identifier, title, source):
                known.setdefault(word, identifier)
        self.system = (grid.tables["system"]["name"].to_pylist() or [""])[0]
        self.counts: dict[tuple[str, str], int] = {}

    def table(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a table, to be changed in place."""
        if name not in self.rows:
            self.rows[name] = self.grid.tables[name].to_pylist()
        return self.rows[name]

    def report(self, place: str, problem: str, remedy: str, field: str = "") -> None:
        """Record what is wrong with an entry of the overlay."""
        self.findings.append(Finding("overlay", (place,), problem, remedy, field))

    def change(self, change: _Change) -> None:
        """Change columns of the rows that match."""
        if not self._known_table(change.table, change.place):
            return
        rows = self._matching(change)
        if not rows:
            return
        for column, value in self._typed(change.table, change.values, change.place).items():
            for row in rows:
                row[column] = value
            self._count(change.table, f"{column} from overlay {self.name}", len(rows))

    def add(self, addition: _Addition) -> None:
        """Add a device with its entity, terminals, station and state."""
        table, place = addition.table, addition.place
        if not self._known_table(table, place):
            return
        terminals = BUS_COLUMNS.get(table) or terminal_columns(self.ontology[table])
        if not terminals:
            self._add_row(addition)
            return
        if not addition.name or addition.name in self.ids.get(table, {}):
            self.report(place, f"has no new name ('{addition.name}')", f"give the {table} a name of its own")
            return
        identifier = element_id(self.system, table, f"overlay {addition.name}")
        values = self._typed(table, addition.values, place)
        rows = {table: {"id": identifier, **values}}
        if state_table := STATES.get(table):
            state = self._typed(state_table, {**_STATE_DEFAULTS.get(table, _LIVE), **addition.state}, place)
            rows[state_table] = {"id": identifier, **state}
        elif addition.state:
            self.report(place, f"gives a {table} a state", f"leave it out: a {table} has none")
        whole = [self._complete(name, set(row), place) for name, row in rows.items()]
        if not all(whole) or self.findings:
            return
        for name, row in rows.items():
            self.table(name).append(row)
        entity = {"id": identifier, "kind": table, "name": addition.name, "source_id": f"overlay {addition.name}"}
        self.table("entity").append(entity)
        self.ids.setdefault(table, {})[addition.name] = identifier
        for terminal, column in terminals.items():
            self.table("connects").append({"device": identifier, "terminal": terminal, "bus": values[column]})
        home = values[next(iter(terminals.values()))]
        parents = {r["child"]: r["parent"] for r in self.table("contains")}
        if home in parents:
            self.table("contains").append({"parent": parents[home], "child": identifier})
        self._count(table, f"added by overlay {self.name}", 1)

    def _add_row(self, addition: _Addition) -> None:
        table, place = addition.table, addition.place
        values = self._typed(table, addition.values, place)
        if "id" in {c.name for c in self.ontology[table].columns}:
            values.setdefault("id", element_id(self.system, table, f"overlay {addition.name or place}"))
        if "name" in {c.name for c in self.ontology[table].columns}:
            values.setdefault("name", addition.name)
        if self._complete(table, set(values), place):
            self.table(table).append(values)
            self._count(table, f"added by overlay {self.name}", 1)

    def _count(self, table: str, what: str, number: int) -> None:
        self.counts[table, what] = self.counts.get((table, what), 0) + number

    def _known_table(self, table: str, place: str) -> bool:
        if table in self.ontology:
            return True
        remedy = f"use one of {', '.join(self.ontology)}"
        self.report(place, f"names table '{table}', which does not exist", remedy)
        return False

    def _complete(self, table: str, given: set[str], place: str) -> bool:
        missing = [c.name for c in self.ontology[table].columns if not c.nullable and c.name not in given]
        if missing:
            self.report(place, f"lacks {', '.join(missing)} of {table}", "give a value for each")
        return not missing

    def _matching(self, change: _Change) -> list[dict[str, Any]]:
        rows, key = self.table(change.table), _key_of(self.ontology[change.table])
        if change.where is not None:
            where = self._typed(change.table, change.where, change.place)
            found = [r for r in rows if len(where) and all(r[c] == v for c, v in where.items())]
            if not found and len(where) == len(change.where):
                self.report(change.place, f"no {change.table} has {dict(change.where)}", "correct the condition")
            return found
        identifier = self._resolve(change.table, change.element)
        # Systems, regions and stations are no devices: their own table holds their names.
        found = [r for r in rows if identifier in (r.get(key), r.get("name"))]
        if not found:
            near = [n for n in self.names.values() if n.lower()[:4] == change.element.lower()[:4]][:3]
            hint = f"use a name such as {', '.join(near)}" if near else "use a name of the source file"
            self.report(change.place, f"names {change.table} '{change.element}', which does not exist", hint)
        return found

    def _resolve(self, table: str, element: str) -> str:
        for kind in (table, *(k for k, s in STATES.items() if s == table), *self.ids):
            if element in self.ids.get(kind, {}):
                return self.ids[kind][element]
        return element

    def _typed(self, table: str, values: Mapping[str, Any], place: str) -> dict[str, Any]:
        columns = {c.name: c for c in self.ontology[table].columns}
        typed: dict[str, Any] = {}
        for name, value in values.items():
            if name not in columns:
                self.report(place, f"{table} has no column '{name}'", f"use one of {', '.join(columns)}", name)
                continue
            if columns[name].references:
                typed[name] = self._reference(columns[name], str(value), place)
                continue
            try:
                typed[name] = _cast(columns[name], value)
            except (ValueError, TypeError):
                self.report(place, f"{name} is '{value}'", f"give a {columns[name].type}", name)
        return typed

    def _reference(self, column: Column, value: str, place: str) -> str:
        for target in column.references.split("|"):
            kinds = list(self.ids) if target == "entity" else [target]
            for kind in kinds:
                if value in self.ids.get(kind, {}):
                    return self.ids[kind][value]
            if target in TABLES and "name" in {c.name for c in TABLES[target].columns}:
                for row in self.table(target):
                    if value in (row["id"], row["name"]):
                        return str(row["id"])
        problem = f"{column.name} is '{value}', which does not exist"
        self.report(place, problem, "use a name of the grid", column.name)
        return value

    def result(self) -> ImportedGrid:
        """Return the changed grid."""
        tables = dict(self.grid.tables)
        for name, rows in self.rows.items():
            tables[name] = pa.Table.from_pylist(rows, schema=self.ontology[name].arrow)
        notes = [Note(table, count, what) for (table, what), count in self.counts.items()]
        return replace(self.grid, tables=tables, notes=(*self.grid.notes, *notes))


_LIVE: Mapping[str, Any] = {"in_service": True}
_STATE_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "unit": {**_LIVE, "on": True, "p_mw": 0.0, "q_mvar": 0.0},
    "load": {**_LIVE, "q_mvar": 0.0},
    "svg": {**_LIVE, "q_mvar": 0.0},
    "storage": {**_LIVE, "p_mw": 0.0, "q_mvar": 0.0, "energy_mwh": 0.0},
    "hvdc": {**_LIVE, "p_mw": 0.0, "q_from_mvar": 0.0, "q_to_mvar": 0.0},
    "shunt": {**_LIVE, "step": 0},
    "switch": {"closed": True},
}


def _key_of(schema: TableSchema) -> str:
    names = {c.name for c in schema.columns}
    return next((k for k in KEY_COLUMNS if k in names), schema.key[0])


def _cast(column: Column, value: Any) -> Any:
    """Return a value of the column's type; empty text is null where that is allowed."""
    if value is None or value == "":
        if column.nullable:
            return None
        raise ValueError
    if pa.types.is_boolean(column.type):
        if isinstance(value, bool):
            return value
        words = {"true": True, "false": False, "1": True, "0": False}
        if str(value).lower() not in words:
            raise ValueError
        return words[str(value).lower()]
    if pa.types.is_integer(column.type):
        if isinstance(value, bool) or float(value) != int(float(value)):
            raise ValueError
        return int(float(value))
    if pa.types.is_floating(column.type):
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    return str(value)
