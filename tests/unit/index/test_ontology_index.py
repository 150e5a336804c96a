"""The ontology in SQL on SQLite."""

from ontology_suite import *  # noqa: F403
