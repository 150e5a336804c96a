"""Files of a real grid to ontology tables and back."""

from bos_core.exchange.model import ImportedGrid, Note, Series, to_columns

__all__ = ["ImportedGrid", "Note", "Series", "to_columns"]
