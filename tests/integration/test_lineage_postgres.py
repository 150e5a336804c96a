"""Lineage on a real PostgreSQL."""

from lineage_suite import *  # noqa: F403
