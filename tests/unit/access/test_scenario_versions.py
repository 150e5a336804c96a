"""Branches, edits and merges on SQLite and a folder."""

from scenario_versions_suite import *  # noqa: F403
