"""Addresses of the values that a report shows: what `bos trace` wants to have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bos_core.objects.address import ValueAddress
from bos_core.report.data import ReportData
from bos_core.report.violations import BASE_CASE, DIVERGENCE, OVERLOAD

FIRST, AGAIN = "n1_verification", "state_adjustment"


def of_result(data: ReportData, step: str, output: str, column: str = "", **keys: object) -> str:
    """Return the address of a value of the run."""
    named = {name: str(value) for name, value in keys.items()}
    return str(ValueAddress(data.head.trace_id[:8], (step, output), named, column))


def of_series(data: ReportData, series: str, **keys: object) -> str:
    """Return the address of a series of the version that the report shows, or of a value of it."""
    named = {name: str(value) for name, value in keys.items()}
    return str(ValueAddress(data.head.scenario_version, (series,), named))


def of_verification(data: ReportData, hour: int, output: str, column: str = "", **keys: object) -> str:
    """Return the address of what was verified last in an hour of the report: adjusted ones were verified again."""
    adjusted = data.adjustment is not None and hour in data.adjustment.hour
    step, name = (AGAIN, f"verified.{output}") if adjusted else (FIRST, output)
    return of_result(data, step, name, column, hour=hour + data.head.first_hour, **keys)


def of_violation(data: ReportData, row: Mapping[str, Any]) -> str:
    """Return the address of what is still violated; see `bos_core.report.violations.SCHEMA`."""
    hour, outage, element = row["hour"], row["outage"], row["element"]
    base = outage == BASE_CASE
    if row["kind"] == DIVERGENCE:
        return of_verification(data, hour, "pairs", "outcome", contingency=outage)
    if row["kind"] == OVERLOAD and base:
        return of_verification(data, hour, "base_overloads", "loading", branch=element)
    if row["kind"] == OVERLOAD:
        return of_verification(data, hour, "overloads", "loading", branch=element, contingency=outage)
    if base:
        return of_series(data, "bus.vm_pu", hour=hour + data.head.first_hour, element=element)
    return of_verification(data, hour, "voltages", "vm_pu", bus=element, contingency=outage)
