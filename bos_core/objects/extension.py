"""What programs add to the ontology: columns of its tables, and kinds of device of their own.

An added column is null where nobody has given a value; its default then holds. So a table whose added columns are
all null has the content, and the digest, that it has without them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from bos_core.objects.errors import Finding
from bos_core.objects.ontology import TABLES, Column, DataType, Tables, TableSchema

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
DOC_LENGTH_MAX = 300
COLUMNS_MAX = 50
_RESERVED = frozenset({"content", "id"})
_TYPES: Mapping[str, tuple[pa.DataType, type | tuple[type, ...]]] = MappingProxyType(
    {
        "float": (pa.float64(), (int, float)),
        "int": (pa.int64(), int),
        "bool": (pa.bool_(), bool),
        "text": (pa.string(), str),
    }
)

Value: TypeAlias = float | int | bool | str
Elements: TypeAlias = Mapping[str, Mapping[str, np.ndarray]]
"""What a program that extends the ontology is handed: kind ► column ► values (element,).

See `bos_core.access.added_elements`.
"""


@dataclass(frozen=True)
class AddedColumn:
    """A column that a program adds.

    Attributes
    ----------
    name : str
        With its unit last, as in ``emission_t_per_mwh``.
    type : {"float", "int", "bool", "text"}
    unit : str
        ``"1"`` = dimensionless, ``""`` = not a quantity.
    doc : str
        What the values are.
    default : float, int, bool or str
        What holds where no value is given.
    minimum, maximum : float, optional
        Inclusive bounds of numbers.
    """

    name: str
    type: Literal["float", "int", "bool", "text"]
    unit: str
    doc: str
    default: Value
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Extension:
    """What a program adds to one table.

    Attributes
    ----------
    table : str
        A table of static models (E_SM), such as ``"unit"``; any other name makes a new kind of device.
    columns : tuple of AddedColumn
    terminals : tuple of str
        Of a new kind: ``("bus",)``, or ``("from", "to")``.
    doc : str
        Of a new kind: what it is.
    """

    table: str
    columns: tuple[AddedColumn, ...] = ()
    terminals: tuple[str, ...] = ()
    doc: str = ""


_TERMINALS: tuple[tuple[str, ...], ...] = (("bus",), ("from", "to"))


def terminal_columns(schema: TableSchema) -> dict[str, str]:
    """Return the terminals of an added kind and the columns that name their buses; none of any other table."""
    if not schema.added:
        return {}
    return {c.name.removesuffix("_bus"): c.name for c in schema.columns if c.references == "bus"}


def extended(extensions: Iterable[Extension], base: Tables = TABLES) -> Tables:
    """Return an ontology with what programs add to it; columns that are there already are not added twice."""
    tables = dict(base)
    for extension in extensions:
        schema = tables.get(extension.table) or _new_kind(extension)
        known = {column.name for column in schema.columns}
        added = tuple(_column(c) for c in extension.columns if c.name not in known)
        tables[extension.table] = dataclasses.replace(schema, columns=schema.columns + added)
    return MappingProxyType(tables)


def _new_kind(extension: Extension) -> TableSchema:
    ends = tuple(
        Column(
            terminal if terminal == "bus" else f"{terminal}_bus", pa.string(), "", "where it is connected",
            references="bus",
        )
        for terminal in extension.terminals
    )  # fmt: skip
    columns = (Column("id", pa.string(), "", "UUID of the element"), *ends)
    return TableSchema(extension.table, DataType.E_SM, extension.doc, columns, added=True)


def _column(added: AddedColumn) -> Column:
    return Column(
        added.name, _TYPES[added.type][0], added.unit, added.doc, nullable=True, added=True, default=added.default,
        minimum=added.minimum, maximum=added.maximum,
    )  # fmt: skip


# --- as text in the index


def to_json(extensions: Sequence[Extension]) -> list[dict[str, Any]]:
    """Return extensions as what a database keeps as JSON."""
    return [dataclasses.asdict(extension) for extension in extensions]


def from_json(values: Iterable[Mapping[str, Any]]) -> tuple[Extension, ...]:
    """Return what `to_json` was given."""
    return tuple(
        Extension(
            value["table"],
            tuple(AddedColumn(**column) for column in value["columns"]),
            tuple(value["terminals"]),
            value["doc"],
        )
        for value in values
    )


# --- checks


def check_extensions(extensions: Sequence[Extension]) -> list[Finding]:
    """Return everything that is wrong with what a program wants to add."""
    findings = []
    tables = [extension.table for extension in extensions]
    for extension in extensions:
        if tables.count(extension.table) > 1:
            findings.append(_finding(extension.table, "is extended twice", "put the columns together"))
        findings += _check_table(extension)
        names = [column.name for column in extension.columns]
        if len(names) > COLUMNS_MAX:
            findings.append(_finding(extension.table, f"gains {len(names)} columns", f"add up to {COLUMNS_MAX}"))
        for column in extension.columns:
            findings += _check_column(extension.table, column, names.count(column.name) > 1)
    return list(dict.fromkeys(findings))


def _finding(table: str, problem: str, remedy: str, column: str = "") -> Finding:
    return Finding("extension", (f"{table}.{column}" if column else table,), problem, remedy)


def _check_table(extension: Extension) -> list[Finding]:
    table = extension.table
    known = TABLES.get(table)
    if known is None:
        findings = []
        if not NAME.fullmatch(table):
            findings.append(_finding(table, "is no name of a table", "use up to 40 small letters, digits and _"))
        if extension.terminals not in _TERMINALS:
            remedy = "give terminals=('bus',) or ('from', 'to')"
            findings.append(_finding(table, f"is a new kind with terminals {extension.terminals}", remedy))
        if not extension.doc.strip() or len(extension.doc) > DOC_LENGTH_MAX:
            remedy = f"say in doc what it is, in up to {DOC_LENGTH_MAX} characters"
            findings.append(_finding(table, "is a new kind that nobody knows", remedy))
        return findings
    kinds = ", ".join(name for name, schema in TABLES.items() if schema.data_type is DataType.E_SM)
    if known.data_type is not DataType.E_SM:
        remedy = f"extend {kinds}, or name a new kind"
        return [_finding(table, f"holds {known.data_type}, no static models", remedy)]
    if extension.terminals or extension.doc:
        return [_finding(table, "is there already, with terminals and meaning", "leave terminals and doc out")]
    if not extension.columns:
        return [_finding(table, "gains no column", "add some, or leave it out")]
    return []


def _check_column(table: str, column: AddedColumn, twice: bool) -> list[Finding]:
    findings = []

    def finding(problem: str, remedy: str) -> None:
        findings.append(_finding(table, problem, remedy, column.name))

    taken = {c.name for c in TABLES[table].columns} if table in TABLES else set[str]()
    if not NAME.fullmatch(column.name) or column.name in _RESERVED:
        finding("is no name of a column", "use up to 40 small letters, digits and _, not id or content")
    elif column.name in taken or column.name in ("bus", "from_bus", "to_bus"):
        finding("is a column already", "choose another name")
    if twice:
        finding("is added twice", "add it once")
    if not column.doc.strip() or max(len(column.doc), len(column.unit)) > DOC_LENGTH_MAX:
        finding("says nothing, or too much", f"say what it is in up to {DOC_LENGTH_MAX} characters")
    if column.type not in _TYPES:
        finding(f"has type {column.type!r}", f"use one of {', '.join(_TYPES)}")
        return findings
    wanted = _TYPES[column.type][1]
    if not isinstance(column.default, wanted) or (column.type != "bool" and isinstance(column.default, bool)):
        finding(f"has default {column.default!r}", f"give a {column.type}")
        return findings
    bounds = [bound for bound in (column.minimum, column.maximum) if bound is not None]
    if bounds and (column.type not in ("float", "int") or not all(isinstance(b, int | float) for b in bounds)):
        finding("has bounds that are none", "bound numbers only, by numbers")
    elif column.type in ("float", "int"):
        values = [value for value in (column.minimum, column.default, column.maximum) if value is not None]
        if not np.isfinite(np.array(values, float)).all() or values != sorted(values, key=float):
            finding("has a default outside its bounds, or one that is not finite", "order them")
    return findings


def check_together(extensions: Mapping[str, Sequence[Extension]]) -> list[Finding]:
    """Return where programs disagree on what they add; `extensions` by name of the program."""
    findings = []
    columns: dict[tuple[str, str], tuple[str, AddedColumn]] = {}
    kinds: dict[str, tuple[str, tuple[str, ...]]] = {}
    for program, added in extensions.items():
        for extension in added:
            other, ends = kinds.setdefault(extension.table, (program, extension.terminals))
            if ends != extension.terminals:
                problem = f"has terminals {ends} for {other}, {extension.terminals} for {program}"
                findings.append(_finding(extension.table, problem, "choose another name of the kind"))
            for column in extension.columns:
                first, known = columns.setdefault((extension.table, column.name), (program, column))
                if known != column:
                    problem = f"is declared otherwise by {first} than by {program}"
                    findings.append(
                        _finding(extension.table, problem, "declare it alike or choose another name", column.name)
                    )
    return findings
