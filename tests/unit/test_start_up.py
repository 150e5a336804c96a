"""What a command loads before it does anything: what is slow and not needed by all stays out."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "slow"),
    [
        ("bos_core.cli", {"numpy", "pyarrow", "sqlalchemy"}),
        ("bos_core.api", {"jinja2", "ladybug", "neo4j", "numba", "pandas", "prefect", "bos_core.exchange"}),
    ],
)
def test_what_is_slow_is_loaded_where_it_is_needed(module: str, slow: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert loaded & slow == set()
