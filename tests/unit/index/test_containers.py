"""The container index's suite on SQLite."""

from container_suite import *  # noqa: F403
