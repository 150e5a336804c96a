"""The ontology in SQL on a real PostgreSQL."""

from ontology_suite import *  # noqa: F403
