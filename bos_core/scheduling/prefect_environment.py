"""Prefect's settings for BOS: own home, no telemetry, quiet. Apply before prefect is imported."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from bos_core.scheduling.prefect_server import AUTHENTICATION_VARIABLE, server_url


def apply(home: Path) -> None:
    """Set Prefect's environment unless the user has set it already.

    The server that `bos up` runs for this home is used where there is one; else Prefect starts one for the run.

    Parameters
    ----------
    home : Path
        The BOS home; Prefect's database and profiles go below it.
    """
    defaults = {
        "PREFECT_HOME": str(home / "prefect"),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_CLI_PROMPT": "false",
    }
    url = server_url(home)
    if url:
        defaults["PREFECT_API_URL"] = url
    if AUTHENTICATION_VARIABLE in os.environ:
        defaults["PREFECT_API_AUTH_STRING"] = os.environ[AUTHENTICATION_VARIABLE]
    with suppress(OSError):  # the workspace reports a home that cannot be written
        (home / "prefect").mkdir(parents=True, exist_ok=True)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
