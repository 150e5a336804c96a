"""The seeded example that the tests of the report share."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def example():
    """Module with `make(hours, ...) -> ReportData`."""
    folder = next(p for p in Path(__file__).parents if p.name == "tests")
    spec = importlib.util.spec_from_file_location("report_example", folder / "report_example.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
