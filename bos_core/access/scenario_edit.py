"""Edits of a scenario version: which values of which elements, and what becomes of them.

    load.p_mw:Load 7[0:24]=12.5            a series: element, hours, value
    load.p_mw:*@North*=1.1                 all elements within a region, station or system; no hours: all
    line.i_max_ka:EHV Line 11=2.1          a table: column, element
    unit.p_mw_max:*+=5                     a whole column

An element is named by id or name; a name with ``[``, ``=`` or ``"`` in it stands in JSON quotes. What is wrong
with any edit is found before anything is written.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bos_core.access.ontology_names import OntologyNames
from bos_core.access.scenario_data import ScenarioReader, ScenarioWriter
from bos_core.access.series_chunks import differs
from bos_core.objects.errors import Finding, NotFoundError, OptionError, raise_if_any
from bos_core.objects.ontology import SERIES, Column, TableSchema, check_table
from bos_core.objects.plan_hours import hours_of

FIELDS = ("target", "element", "hours", "operation", "value")
"""Columns of a file of edits; `hours` and `operation` may be left out."""

_TEXT = re.compile(
    r'(?P<target>[a-z0-9_]+\.[a-z0-9_]+):(?P<element>"(?:[^"\\]|\\.)*"|.+?)(?:\[(?P<hours>[0-9:,\- ]*)\])?'
    r"\s*(?P<operation>\*=|\+=|=)(?P<value>.*)",
    re.DOTALL,
)
_SYNTAX = "write TARGET:ELEMENT[HOURS]=VALUE, e.g. load.p_mw:Load 7[0:24]=12.5 or line.i_max_ka:*@North*=1.1"
_WHOLE_MAX = 2**53
"""Whole numbers beyond this are no longer exact as a product."""

TableCheck = Callable[[Mapping[str, pa.Table], Mapping[str, pa.Table]], Sequence[Finding]]
"""Returns what is wrong with the second tables and was not with the first."""


class Operation(StrEnum):
    """What an edit does with the values that it finds."""

    SET = "="
    SCALE = "*="
    ADD = "+="


@dataclass(frozen=True)
class Edit:
    """One edit.

    Attributes
    ----------
    target : str
        A series, or ``table.column``.
    element : str
        Id or name; ``*`` for all, ``*@NAME`` for all within a station, region or system.
    value : object
        The new value, factor or summand: a number, bool, text or None, or a text that stands for one.
    operation : Operation
    hours : str
        As `hours_of` reads them; only of a series.
    place : str
        Where it was written, for messages.
    """

    target: str
    element: str
    value: object
    operation: Operation = Operation.SET
    hours: str = ""
    place: str = field(default="", compare=False)

    def __str__(self) -> str:
        hours = f"[{self.hours}]" if self.hours else ""
        return f"{self.target}:{self.element}{hours}{self.operation}{self.value}"


@dataclass(frozen=True)
class Applied:
    """What an edit did: how many elements (rows of a table) it named, and how many values it changed."""

    edit: Edit
    elements: int
    values: int


def parse_edits(texts: Iterable[str]) -> list[Edit]:
    """Read edits as people type them.

    Raises
    ------
    OptionError
        With every text that is none.
    """
    edits, findings = [], []
    for text in texts:
        match = _TEXT.fullmatch(text.strip())
        try:
            if match is None:
                raise ValueError
            element = match["element"]
            element = json.loads(element) if element.startswith('"') else element.strip()
            hours = (match["hours"] or "").strip()
            value = match["value"].strip()
            edits.append(Edit(match["target"], element, value, Operation(match["operation"]), hours))
        except ValueError:
            findings.append(Finding("edit", (text,), "cannot be read", _SYNTAX))
    raise_if_any(findings, OptionError)
    return edits


def read_edits(path: Path) -> list[Edit]:
    """Read a file of edits: CSV, Parquet or JSON (a list of objects) with the columns `FIELDS`.

    Raises
    ------
    OptionError
        If it cannot be read, lacks columns, or has a row that is no edit; with every finding.
    """
    try:
        rows = _rows_of(path)
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        remedy = "give a .csv, .parquet or .json file"
        raise OptionError((Finding("file", (str(path),), f"cannot be read: {reason}", remedy),)) from error
    edits, findings = [], []
    for number, row in enumerate(rows, 1):
        place = f"{path.name}, row {number}"
        missing = [name for name in ("target", "element", "value") if name not in row]
        unknown = [str(name) for name in row if name not in FIELDS]
        operation = str(row.get("operation") or Operation.SET)
        if missing or unknown or operation not in set(Operation):
            problem = "; ".join(
                [f"lacks {', '.join(missing)}"] * bool(missing)
                + [f"has unknown columns {', '.join(unknown)}"] * bool(unknown)
                + [f"has operation {operation!r}"] * (operation not in set(Operation))
            )
            findings.append(
                Finding("file", (place,), problem, f"use {', '.join(FIELDS)}; operation is =, *= or +=")
            )
            continue
        hours = str(row.get("hours") if row.get("hours") is not None else "")
        edits.append(
            Edit(str(row["target"]), str(row["element"]), row["value"], Operation(operation), hours, place)
        )
    raise_if_any(findings, OptionError)
    return edits


def _rows_of(path: Path) -> list[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[Mapping[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".json":
        found = json.loads(text)
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise ValueError("it is no list of objects")
        return found
    if path.suffix != ".csv":
        raise ValueError(f"{path.suffix or 'a name without suffix'} is no known format")
    return [{str(k): v for k, v in row.items()} for row in csv.DictReader(text.splitlines())]


def apply_edits(
    reader: ScenarioReader, writer: ScenarioWriter, edits: Sequence[Edit], check: TableCheck
) -> list[Applied]:
    """Make edits in the order given, each on what the ones before it left.

    Tables are checked and kept in memory until all edits are known to be sound. A table is written anew: tables
    are small, and their digests say which rows in SQL and which graph belong to a version. Series get overlays.

    Parameters
    ----------
    reader : ScenarioReader
        The version that is edited.
    writer : ScenarioWriter
        Started from the same version.
    check : callable
        Finds what is wrong with the edited tables as a whole.

    Raises
    ------
    InputError
        With all findings; the writer must be thrown away then.
    """
    names = OntologyNames(reader)
    findings: list[Finding] = []
    tables: dict[str, pa.Table] = {}
    blocks: list[_SeriesBlock] = []
    done: dict[int, Applied] = {}
    for position, edit in enumerate(edits):
        try:
            if edit.target in SERIES:
                blocks.append(_series_block(reader, names, edit, position))
                continue
            name, column = _table_column(reader, edit)
            table = tables[name] if name in tables else reader.table(name)
            tables[name], applied = _edit_table(names, edit, table, reader.ontology[name], column)
            done[position] = applied
        except _RefusedError as refused:
            findings.append(refused.finding)
    if not findings and tables:
        findings += [finding for n, t in tables.items() for finding in check_table(n, t, reader.ontology)]
        before = {name: reader.table(name) for name in reader.ontology}
        findings += [] if findings else check(before, before | tables)
    raise_if_any(findings)
    for block in blocks:
        done[block.position] = block.apply(writer, findings)
    raise_if_any(findings)
    for name, table in tables.items():
        if not table.equals(reader.table(name)):
            writer.put_table(name, table)
    return [done[position] for position in range(len(edits))]


class _RefusedError(Exception):
    """An edit that cannot be made, and why."""

    def __init__(self, edit: Edit, problem: str, remedy: str) -> None:
        said = f"{edit} ({edit.place})" if edit.place else str(edit)
        self.finding = Finding("edit", (said,), problem, remedy)


# --- tables


def _table_column(reader: ScenarioReader, edit: Edit) -> tuple[str, Column]:
    name, _, wanted = edit.target.partition(".")
    if name not in reader.tables():
        known = ", ".join([*reader.tables(), *reader.series_names()])
        raise _RefusedError(
            edit, f"{edit.target} is neither a series nor a column of a table", f"there is {known}"
        )
    schema = reader.ontology[name]
    column = next((c for c in schema.columns if c.name == wanted), None)
    if column is None:
        known = ", ".join(c.name for c in schema.columns if c.name not in schema.key)
        raise _RefusedError(edit, f"table {name} has no column {wanted!r}", f"it has {known}")
    if wanted in schema.key or column.references:
        raise _RefusedError(
            edit, f"{edit.target} says which element a row is about", "import the changed grid as a new version"
        )
    if edit.hours:
        raise _RefusedError(edit, f"{edit.target} is a table's column and has no hours", "leave [hours] out")
    return name, column


def _edit_table(
    names: OntologyNames, edit: Edit, table: pa.Table, schema: TableSchema, column: Column
) -> tuple[pa.Table, Applied]:
    """Return the table after an edit, and what it did."""
    rows = _rows(names, edit, table, schema.key)
    value = _value(edit, column.type, column.nullable)
    old = table[column.name].to_pylist()
    new = list(old)
    for row in rows:
        new[row] = _changed(edit, old[row], value)
    changed = sum(a != b for a, b in zip(old, new, strict=True))
    array = pa.array(new, column.type)
    position = table.schema.get_field_index(column.name)
    return table.set_column(position, table.schema.field(position), array), Applied(edit, len(rows), changed)


def _rows(names: OntologyNames, edit: Edit, table: pa.Table, key: tuple[str, ...]) -> list[int]:
    """Return the rows that an edit names: by the first part of their key, or by all of it."""
    keys = [tuple(row.values()) for row in table.select(list(key)).to_pylist()]
    chosen = _selection(names, edit)
    if chosen is not None:
        found = [row for row, parts in enumerate(keys) if chosen(str(parts[0]))]
        if not found:
            raise _RefusedError(edit, "names no row", "look at `bos elements`")
        return found
    wanted = edit.element
    found = [row for row, parts in enumerate(keys) if wanted in _spellings(names, parts)]
    elements = {keys[row][0] for row in found}
    if len(elements) != 1:
        raise _RefusedError(edit, *_not_one(names, edit, sorted(map(str, elements)), [str(k[0]) for k in keys]))
    return found


def _spellings(names: OntologyNames, key: tuple[object, ...]) -> set[str]:
    """Return all ways to write the key of a row: its element by id or name, then the rest of the key."""
    element, rest = str(key[0]), "".join(f"/{part}" for part in key[1:])
    return {spelling + end for spelling in (element, names.name(element)) for end in ("", rest)}


def _changed(edit: Edit, before: Any, value: Any) -> Any:
    """Return what becomes of one value; what is not known stays so unless it is set."""
    if edit.operation is Operation.SET:
        return value
    if before is None:
        return None
    after = before * value if edit.operation is Operation.SCALE else before + value
    if (math.isfinite(before) and not math.isfinite(after)) or (
        isinstance(after, int) and abs(after) > _WHOLE_MAX
    ):
        raise _RefusedError(edit, f"makes {before} too large", "give a smaller value")
    return after


# --- series


@dataclass(frozen=True)
class _SeriesBlock:
    """An edit of a series whose elements, hours and value are known to be sound."""

    edit: Edit
    position: int
    ids: np.ndarray
    hours: Sequence[slice]
    value: Any

    def apply(self, writer: ScenarioWriter, findings: list[Finding]) -> Applied:
        """Write the block; a value that it makes too large is added to the findings."""
        name, changed = self.edit.target, 0
        for hours in self.hours:
            _, before, _ = writer.stored.read(name, hours.start, hours.stop, self.ids)
            after = self._after(before)
            if before.dtype.kind == "f" and (np.isfinite(before) & np.isinf(after)).any():
                findings.append(_RefusedError(self.edit, "makes values infinite", "give a smaller value").finding)
            elif before.dtype.kind == "i" and (np.abs(after.astype(float)) > _WHOLE_MAX).any():
                findings.append(_RefusedError(self.edit, "makes values too large", "give a smaller value").finding)
            elif differs(before, after).any():
                changed += writer.edit_series(name, hours, self.ids, after)
        return Applied(self.edit, self.ids.size, changed)

    def _after(self, before: np.ndarray) -> np.ndarray:
        if self.edit.operation is Operation.SET:
            return np.full_like(before, self.value)
        with np.errstate(over="ignore"):
            return np.asarray(
                before * self.value if self.edit.operation is Operation.SCALE else before + self.value
            )


def _series_block(reader: ScenarioReader, names: OntologyNames, edit: Edit, position: int) -> _SeriesBlock:
    if not reader.has_series(edit.target):
        known = ", ".join(reader.series_names()) or "none"
        raise _RefusedError(edit, f"this version has no series {edit.target}", f"it has {known}")
    try:
        hours = hours_of(edit.hours, reader.hours(edit.target))
    except ValueError as error:
        raise _RefusedError(edit, str(error), "give hours like 408, 0:24, 01-18 or 01-18:01-25") from None
    ids = reader.elements(edit.target)
    chosen = _selection(names, edit)
    if chosen is not None:
        found = [i for i in ids.tolist() if chosen(i)]
        if not found:
            raise _RefusedError(edit, "names no element", "look at `bos elements`")
    else:
        found = [i for i in ids.tolist() if edit.element in (i, names.name(i))]
        if len(found) != 1:
            raise _RefusedError(edit, *_not_one(names, edit, found, ids.tolist()))
    value = _value(edit, SERIES[edit.target].type, False)
    return _SeriesBlock(edit, position, np.array(found, np.str_), hours, value)


# --- elements and values


def _selection(names: OntologyNames, edit: Edit) -> Callable[[str], bool] | None:
    """Return which elements ``*`` and ``*@NAME`` mean; None for anything else."""
    if edit.element == "*":
        return lambda element: True
    if not edit.element.startswith("*@"):
        return None
    try:
        inside = names.within(edit.element.removeprefix("*@"))
    except NotFoundError as error:
        problem, _, remedy = str(error).partition("; ")
        raise _RefusedError(edit, problem, remedy) from None
    return lambda element: element in inside


def _not_one(names: OntologyNames, edit: Edit, found: Sequence[str], among: Iterable[str]) -> tuple[str, str]:
    if found:
        return f"{len(found)} elements are called {edit.element!r}", f"give one id: {', '.join(found[:5])}"
    hint = names.similar(edit.element, among) or "`bos elements` lists them"
    return f"{edit.target} has no element {edit.element!r}", hint


def _value(edit: Edit, kind: pa.DataType, nullable: bool) -> Any:
    """Return the value of an edit in the type of its column."""
    given = edit.value
    if edit.operation is not Operation.SET and not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise _RefusedError(edit, f"{edit.target} holds no numbers", "set the value with =")
    if given is None or given in ("null", ""):
        if nullable and edit.operation is Operation.SET:
            return None
        if not (pa.types.is_string(kind) and given == ""):
            raise _RefusedError(edit, f"{edit.target} cannot be null", "give a value")
    try:
        value = _READERS[str(kind)](given)
    except (ValueError, TypeError):
        hint = "; *= scales and += adds" if str(given)[:1] in ("*", "+") else ""
        raise _RefusedError(edit, f"{given!r} is {_KINDS[str(kind)]}", f"give another value{hint}") from None
    series = edit.target in SERIES
    if isinstance(value, float) and not math.isfinite(value):
        if edit.operation is not Operation.SET or (math.isnan(value) and not series):
            raise _RefusedError(edit, f"{given!r} is no number", "give a number, or null where it is not known")
        if math.isinf(value) and series:
            raise _RefusedError(edit, f"{given!r} is infinite", "give a finite number")
    return value


def _read_float(given: object) -> float:
    if isinstance(given, bool):
        raise TypeError
    return float(str(given))


def _read_whole(given: object) -> int:
    if isinstance(given, bool):
        raise TypeError
    value = int(given) if isinstance(given, float) and given.is_integer() else int(str(given))
    if abs(value) > _WHOLE_MAX:
        raise ValueError
    return value


def _read_bool(given: object) -> bool:
    text = str(given).lower()
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _read_text(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError
    return given


_READERS: Mapping[str, Callable[[object], Any]] = {
    "double": _read_float,
    "int64": _read_whole,
    "bool": _read_bool,
    "string": _read_text,
}
_KINDS = {"double": "no number", "int64": "no whole number", "bool": "neither true nor false", "string": "no text"}
