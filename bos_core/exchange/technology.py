"""What a grid file lacks about units: costs and operating limits by technology, from ``technology.csv``.

Rules, all deterministic:

* Efficiency falls linearly from its full value at `mw_large` to `efficiency_small_share` of it at `mw_small`.
* Marginal cost = (fuel + CO2 content x CO2 price) / efficiency x (1 - no_load_share) + variable O&M; the rest of
  the full-load fuel is the no-load cost per hour.
* `segments` equal segments between the technical minimum (0 for units without commitment) and the maximum; their
  fuel cost rises evenly from (1 - segment_spread) to (1 + segment_spread) of the mean.
* Start costs per MW of `p_mw_max` in three classes by time off; equal classes are merged.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from bos_core.grid.model import FloatArray, IntArray, StrArray

OTHER = "other"


@dataclass(frozen=True, eq=False)
class Technologies:
    """The technology table: one array a column, rows by `key`."""

    key: tuple[str, ...]
    source: tuple[str, ...]
    columns: dict[str, FloatArray]

    def rows(self, technology: StrArray) -> IntArray:
        """Return the row of every technology; unknown ones get the row of `OTHER`."""
        place = {k: i for i, k in enumerate(self.key)}
        return np.array([place.get(k, place[OTHER]) for k in technology.tolist()], dtype=np.int64)


@cache
def technologies() -> Technologies:
    """Read ``technology.csv``."""
    text = files("bos_core.exchange").joinpath("technology.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    numbers = [c for c in rows[0] if c not in ("technology", "source")]
    return Technologies(
        tuple(r["technology"] for r in rows),
        tuple(r["source"] for r in rows),
        {c: np.array([float(r[c]) for r in rows]) for c in numbers},
    )


@dataclass(frozen=True, eq=False)
class UnitFigures:
    """Columns of the tables of units and their costs; `owner` is the position of the unit."""

    limits: dict[str, np.ndarray]
    cost: dict[str, np.ndarray]
    segments: dict[str, np.ndarray]
    starts: dict[str, np.ndarray]


def figures(
    technology: StrArray, p_mw_min: FloatArray, p_mw_max: FloatArray, *, technical_minimum: bool = True
) -> UnitFigures:
    """Return what the technology table says about units.

    Parameters
    ----------
    technology : (unit,) str
    p_mw_min : (unit,)
        Minimum of the source; the larger of it and the technical minimum holds for committable units.
    p_mw_max : (unit,)
    technical_minimum : bool
        Off: `p_mw_min` holds as it is.
    """
    table = technologies()
    row = table.rows(technology)
    t = {name: values[row] for name, values in table.columns.items()}
    committable = t["committable"] > 0
    size = np.maximum(p_mw_max, 0.0)
    share = t["p_min_share"] if technical_minimum else np.zeros(size.size)
    technical = np.clip(share * size, p_mw_min, np.maximum(size, p_mw_min))
    low = np.where(committable | (t["must_run"] > 0), technical, p_mw_min)
    low = np.where(t["variable"] > 0, np.minimum(p_mw_min, 0.0), low)
    limits = {
        "p_mw_min": low,
        "variable": t["variable"] > 0,
        "committable": committable & (size > 0),
        "must_run": t["must_run"] > 0,
        "ramp_up_mw_per_h": t["ramp_share_per_h"] * size,
        "ramp_down_mw_per_h": t["ramp_share_per_h"] * size,
        "startup_mw": np.maximum(low, t["start_share"] * size),
        "shutdown_mw": np.maximum(low, t["start_share"] * size),
        "min_up_h": t["min_up_h"].astype(np.int64),
        "min_down_h": t["min_down_h"].astype(np.int64),
    }
    efficiency = _efficiency(t, size)
    fuel = (t["fuel_eur_per_mwh_th"] + t["co2_t_per_mwh_th"] * t["co2_eur_per_t"]) / efficiency
    cost = {
        "no_load_eur_per_h": t["no_load_share"] * fuel * size,
        "shutdown_eur": np.zeros(size.size),
        "co2_t_per_mwh": t["co2_t_per_mwh_th"] / efficiency,
        "curtailment_eur_per_mwh": t["curtailment_eur_per_mwh"],
        "source": np.array(table.source, dtype=object)[row],
    }
    return UnitFigures(limits, cost, _segments(t, limits, fuel, size), _starts(t, limits["committable"], size))


def _efficiency(t: dict[str, FloatArray], size: FloatArray) -> FloatArray:
    span = (size - t["mw_small"]) / (t["mw_large"] - t["mw_small"])
    share = t["efficiency_small_share"] + (1.0 - t["efficiency_small_share"]) * np.clip(span, 0.0, 1.0)
    return np.asarray(t["efficiency"] * share)


def _segments(
    t: dict[str, FloatArray], limits: dict[str, np.ndarray], fuel: FloatArray, size: FloatArray
) -> dict[str, np.ndarray]:
    first = np.where(limits["committable"], limits["p_mw_min"], 0.0)
    count = np.where(size > first, t["segments"], 1).astype(np.int64)
    owner = np.repeat(np.arange(size.size), count)
    step = np.arange(owner.size) - np.repeat(np.cumsum(count) - count, count)
    width = np.maximum(size - first, 0.0)[owner] / count[owner]
    tilt = np.where(count > 1, 2.0 * t["segment_spread"] / np.maximum(count - 1, 1), 0.0)[owner]
    level = 1.0 - np.where(count > 1, t["segment_spread"], 0.0)[owner] + step * tilt
    mean = (fuel * (1.0 - t["no_load_share"]))[owner]
    return {
        "owner": owner,
        "segment": step,
        "p_mw_from": first[owner] + step * width,
        "p_mw_to": first[owner] + (step + 1) * width,
        "marginal_eur_per_mwh": mean * level + t["vom_eur_per_mwh"][owner],
    }


def _starts(t: dict[str, FloatArray], committable: np.ndarray, size: FloatArray) -> dict[str, np.ndarray]:
    owner, hours, price = [], [], []
    below = np.full(size.size, -1.0)
    for name, after in (("hot", None), ("warm", "warm_off_h"), ("cold", "cold_off_h")):
        rows = np.flatnonzero(committable & (t[f"start_{name}_eur_per_mw"] > below))
        below = t[f"start_{name}_eur_per_mw"]
        owner.append(rows)
        hours.append(np.ones(rows.size) if after is None else t[after][rows])
        price.append((t[f"start_{name}_eur_per_mw"] * size)[rows])
    who, off, eur = np.concatenate(owner), np.concatenate(hours), np.concatenate(price)
    order = np.lexsort((off, who))
    return {"owner": who[order], "off_h_min": off[order].astype(np.int64), "cost_eur": eur[order]}
