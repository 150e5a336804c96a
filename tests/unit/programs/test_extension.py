"""What programs add to the ontology, with the index on SQLite."""

from extension_suite import *  # noqa: F403
