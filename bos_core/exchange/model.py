"""What an import gives: ontology tables, series, and a list of everything that was dropped or assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from bos_core.objects.columns import numpy_columns
from bos_core.objects.ontology import TABLES, Tables


@dataclass(frozen=True)
class Note:
    """One thing that an import dropped, assumed or changed, with its count; never an error."""

    component: str
    count: int
    what: str

    def __str__(self) -> str:
        return f"{self.count} x {self.component}: {self.what}"


@dataclass(frozen=True, eq=False)
class Series:
    """An hourly quantity: one row an hour, one column an element.

    Attributes
    ----------
    name : str
        Key of `bos_core.objects.ontology.SERIES`.
    elements : tuple of str
        Ids of the columns (UUIDs; names for ``profile.value``).
    values : (hour, element) array
    """

    name: str
    elements: tuple[str, ...]
    values: NDArray[Any]


@dataclass(frozen=True, eq=False)
class ImportedGrid:
    """A grid as ontology tables (every table of the ontology is present, possibly empty) and series."""

    tables: Mapping[str, pa.Table]
    series: Mapping[str, Series] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


def to_columns(tables: Mapping[str, pa.Table], ontology: Tables = TABLES) -> dict[str, dict[str, NDArray[Any]]]:
    """Return ontology tables as numpy columns, the input of `bos_core.grid.assembly.assemble`."""
    return {name: numpy_columns(table) for name, table in tables.items() if name in ontology}
