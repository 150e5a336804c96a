"""The scenario and program index on SQLite."""

from scenario_suite import *  # noqa: F403
