"""Files of a real grid to ontology tables and back."""

from bos_core.exchange.exporter import export_grid
from bos_core.exchange.importer import import_grid
from bos_core.exchange.model import ImportedGrid, Note, Series, to_columns
from bos_core.exchange.validation import validate_grid, validate_tables

__all__ = [
    "ImportedGrid",
    "Note",
    "Series",
    "export_grid",
    "import_grid",
    "to_columns",
    "validate_grid",
    "validate_tables",
]
