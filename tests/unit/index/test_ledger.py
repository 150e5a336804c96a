"""The ledger's suite on SQLite."""

from ledger_suite import *  # noqa: F403
