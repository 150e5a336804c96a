"""Rules that hold within one row of an ontology table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bos_core.grid.columns import MISSING_INT
from bos_core.objects.ontology import HOURS_PER_YEAR

Columns = Mapping[str, NDArray[Any]]
Bad = Callable[[Columns], NDArray[np.bool_]]


@dataclass(frozen=True)
class Rule:
    """A row is wrong where `bad` is true; ``{value}`` in the problem quotes column `field`."""

    table: str
    field: str
    problem: str
    remedy: str
    bad: Bad


def _flags(values: Any) -> NDArray[np.bool_]:
    return np.asarray(values, dtype=np.bool_)


def _not_positive(table: str, field: str, remedy: str) -> Rule:
    return Rule(table, field, f"{field} is {{value}}", remedy, lambda c: _flags(c[field] <= 0))


def _negative(table: str, field: str, remedy: str) -> Rule:
    return Rule(table, field, f"{field} is {{value}}", remedy, lambda c: _flags(c[field] < 0))


def _ordered(table: str, low: str, high: str) -> Rule:
    return Rule(
        table,
        low,
        f"{low} is {{value}}, above {high}",
        f"swap or correct {low} and {high}",
        lambda c: _flags(c[low] > c[high]),
    )


def _one_of(table: str, field: str, *words: str) -> Rule:
    return Rule(
        table,
        field,
        f"{field} is '{{value}}'",
        f"use one of {', '.join(words)}",
        lambda c: ~np.isin(c[field], words),
    )


def _between(table: str, field: str, low: float, high: float, remedy: str) -> Rule:
    return Rule(
        table, field, f"{field} is {{value}}", remedy, lambda c: _flags((c[field] < low) | (c[field] > high))
    )


def _itself(table: str, left: str, right: str) -> Rule:
    return Rule(
        table,
        "",
        "begins and ends at the same bus",
        "connect it to another bus or drop it",
        lambda c: _flags((c[left] == c[right]) & (c[left] != "")),
    )


_MERGE = "merge its buses or give {} > 0"

RULES: tuple[Rule, ...] = (
    _not_positive("system", "base_mva", "give the system base in MVA"),
    _not_positive("system", "frequency_hz", "give 50 or 60"),
    Rule(
        "system",
        "calendar_year",
        "calendar_year is {value}",
        "give the year of the profiles, e.g. 2016, or nothing",
        lambda c: _flags(
            (c["calendar_year"] != MISSING_INT) & ((c["calendar_year"] < 1) | (c["calendar_year"] > 9999))
        ),
    ),
    _not_positive("bus", "base_kv", "give the nominal voltage in kV"),
    _ordered("bus", "vm_pu_min", "vm_pu_max"),
    _not_positive("bus", "vm_pu_min", "give a lowest voltage above 0"),
    _between("bus", "longitude_deg", -180, 180, "give degrees of WGS 84"),
    _between("bus", "latitude_deg", -90, 90, "give degrees of WGS 84"),
    Rule("line", "x_ohm", "x_ohm is 0", _MERGE.format("x_ohm"), lambda c: _flags(c["x_ohm"] == 0)),
    _not_positive("line", "i_max_ka", "give the permanent rating in kA, or nothing if unrated"),
    _negative("line", "length_km", "give a length of 0 or more"),
    _not_positive("line", "loading_max", "give 1 for the rating, or nothing for the criterion"),
    _itself("line", "from_bus", "to_bus"),
    _not_positive("transformer", "rated_mva", "give the rated power in MVA"),
    _not_positive("transformer", "rated_from_kv", "give the rated voltage in kV"),
    _not_positive("transformer", "rated_to_kv", "give the rated voltage in kV"),
    Rule("transformer", "x_pu", "x_pu is 0", _MERGE.format("x_pu"), lambda c: _flags(c["x_pu"] == 0)),
    _not_positive("transformer", "i_max_from_ka", "give the rating in kA, or nothing"),
    _not_positive("transformer", "loading_max", "give 1 for rated power, or nothing for the criterion"),
    _one_of("transformer", "model", "t", "pi", "gamma"),
    _one_of("transformer", "tap_side", "from", "to", "none"),
    _ordered("transformer", "tap_min", "tap_max"),
    _itself("transformer", "from_bus", "to_bus"),
    *(
        _not_positive("transformer3", f"rated_{w}_{q}", f"give the rated {n}")
        for w in ("high", "medium", "low")
        for q, n in (("mva", "power in MVA"), ("kv", "voltage in kV"))
    ),
    *(
        Rule(
            "transformer3",
            f"x_{w}_pu",
            f"x_{w}_pu is 0",
            f"give x_{w}_pu other than 0",
            lambda c, w=w: _flags(c[f"x_{w}_pu"] == 0),  # type: ignore[misc]
        )
        for w in ("high", "medium", "low")
    ),
    _one_of("transformer3", "tap_side", "high", "medium", "low", "none"),
    _ordered("transformer3", "tap_min", "tap_max"),
    Rule(
        "equivalent_branch",
        "x_pu",
        "r_pu and x_pu are 0",
        _MERGE.format("x_pu"),
        lambda c: _flags((c["x_pu"] == 0) & (c["r_pu"] == 0)),
    ),
    _not_positive("equivalent_branch", "ratio", "give 1 for the nominal ratio"),
    _not_positive("equivalent_branch", "rating_mva", "give the rating in MVA, or nothing"),
    _itself("equivalent_branch", "from_bus", "to_bus"),
    _ordered("shunt", "step_min", "step_max"),
    _ordered("svg", "q_mvar_min", "q_mvar_max"),
    _negative("switch", "r_ohm", "give 0 for an ideal switch"),
    Rule(
        "unit",
        "technology",
        "has no technology",
        "give a key of the technology table",
        lambda c: _flags(c["technology"] == ""),
    ),
    _ordered("unit", "p_mw_min", "p_mw_max"),
    _ordered("unit", "q_mvar_min", "q_mvar_max"),
    *(
        _negative("unit", f, "give 0 or more")
        for f in ("ramp_up_mw_per_h", "ramp_down_mw_per_h", "min_up_h", "min_down_h", "energy_mwh_max")
    ),
    *(
        Rule(
            "unit",
            f,
            f"{f} is {{value}}, below p_mw_min: it could never {word}",
            f"give {f} of p_mw_min or more",
            lambda c, f=f: _flags(c["committable"] & (c[f] < c["p_mw_min"] - 1e-9)),  # type: ignore[misc]
        )
        for f, word in (("startup_mw", "start"), ("shutdown_mw", "stop"))
    ),
    Rule(
        "unit",
        "",
        "is variable and committable",
        "choose one: bounded by an availability series, or switched on and off",
        lambda c: _flags(c["variable"] & c["committable"]),
    ),
    _between("load", "share_z", 0, 1, "give a share of 0 to 1"),
    _between("load", "share_i", 0, 1, "give a share of 0 to 1"),
    Rule(
        "load",
        "share_z",
        "share_z and share_i are more than 1 together",
        "leave 0 or more for the constant-power share",
        lambda c: _flags(c["share_z"] + c["share_i"] > 1 + 1e-9),
    ),
    *(
        _negative("storage", f, "give 0 or more")
        for f in ("p_charge_mw_max", "p_discharge_mw_max", "energy_mwh_min")
    ),
    _ordered("storage", "energy_mwh_min", "energy_mwh_max"),
    _ordered("storage", "q_mvar_min", "q_mvar_max"),
    *(
        Rule(
            "storage",
            f,
            f"{f} is {{value}}",
            "give an efficiency above 0, up to 1",
            lambda c, f=f: _flags((c[f] <= 0) | (c[f] > 1)),  # type: ignore[misc]
        )
        for f in ("efficiency_charge", "efficiency_discharge")
    ),
    _ordered("hvdc", "p_mw_min", "p_mw_max"),
    _ordered("hvdc", "q_from_mvar_min", "q_from_mvar_max"),
    _ordered("hvdc", "q_to_mvar_min", "q_to_mvar_max"),
    _between("hvdc", "loss_percent", 0, 99, "give 0 to 99 % of the power sent"),
    _negative("hvdc", "loss_mw", "give 0 or more"),
    _itself("hvdc", "from_bus", "to_bus"),
    _ordered("cost_segment", "p_mw_from", "p_mw_to"),
    _negative("start_cost", "off_h_min", "give 0 or more hours"),
    _negative("start_cost", "cost_eur", "give 0 or more"),
    _ordered("voltage_criterion", "vm_pu_min", "vm_pu_max"),
    _ordered("voltage_criterion", "vm_contingency_pu_min", "vm_contingency_pu_max"),
    _one_of("loading_criterion", "kind", "line", "transformer"),
    _not_positive("loading_criterion", "loading_max", "give 1 for the rating"),
    _not_positive("loading_criterion", "loading_contingency_max", "give 1 for the rating"),
    _one_of("reserve_requirement", "product", "positive", "negative", "ramp_up", "ramp_down"),
    *(
        _negative("reserve_requirement", f, "give 0 or more")
        for f in ("share_of_load", "share_of_renewable", "minimum_mw")
    ),
    _negative("interface", "limit_forward_mw", "give the largest forward flow"),
    _negative("interface", "limit_backward_mw", "give the largest backward flow as a positive number"),
    _one_of("profile_assignment", "quantity", "p_mw", "q_mvar", "available_mw"),
    _one_of("market_bid", "side", "sell", "buy"),
    _between("market_bid", "hour", 0, HOURS_PER_YEAR - 1, "give an hour of the year, 0 to 8759"),
    _between("service_period", "hour_from", 0, HOURS_PER_YEAR, "give an hour of the year"),
    _between("service_period", "hour_to", 0, HOURS_PER_YEAR, "give an hour of the year"),
    _ordered("service_period", "hour_from", "hour_to"),
    _one_of("service_period", "kind", "commissioned", "maintenance", "forced_outage"),
    _ordered("transient_event", "start_s", "end_s"),
    _between("transient_event", "location", 0, 1, "give a position along the line, 0 to 1"),
)
