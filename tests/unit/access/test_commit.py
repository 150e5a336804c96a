"""Atomic commit on SQLite and a folder."""

from commit_suite import *  # noqa: F403
