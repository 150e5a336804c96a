"""The container index on a real PostgreSQL."""

from container_suite import *  # noqa: F403
