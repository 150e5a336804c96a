"""Branches, edits and merges on a real PostgreSQL and S3 server."""

from scenario_versions_suite import *  # noqa: F403
