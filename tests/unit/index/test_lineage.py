"""Lineage on SQLite."""

from lineage_suite import *  # noqa: F403
