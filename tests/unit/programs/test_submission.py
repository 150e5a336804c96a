"""Programs that experts give, with the index on SQLite."""

from submission_suite import *  # noqa: F403
