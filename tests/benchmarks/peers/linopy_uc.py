"""An independent unit commitment in linopy: three binaries a unit and hour. Arguments: in.npz out.npz.

Output of a committable unit is p_min u + the output above it; start costs by classes of the time off, each allowed
only within its window (Morales-Espana et al. 2013); reserve within capacity and ramps.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import linopy
import numpy as np
import pandas as pd
import xarray as xr
from linopy import Variable

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import best_of


def build(a: dict[str, np.ndarray]) -> linopy.Model:
    """Return the model of a horizon."""
    hours = a["load"].size
    own, other = np.flatnonzero(a["committable"]), np.flatnonzero(~a["committable"])
    hour = pd.RangeIndex(hours, name="hour")
    m = linopy.Model()

    def of(name: str, kind: np.ndarray) -> xr.DataArray:
        return xr.DataArray(a[name][kind].astype(float), coords=[pd.Index(kind, name="unit")])

    g = pd.Index(own, name="unit")
    high = xr.DataArray(a["high"][:, own], coords=[hour, g])
    low = np.minimum(of("p_mw_min", own), high)
    u, v, w = (m.add_variables(binary=True, coords=[hour, g], name=name) for name in ("on", "start", "stop"))
    above = m.add_variables(0, high - low, coords=[hour, g], name="above")
    reserve = m.add_variables(lower=0, coords=[hour, g], name="reserve")
    free = bool(a["free_start"])
    before = xr.DataArray(a["initial_on"][own].astype(float), coords=[g])
    later = hour[1:]
    if not free:
        m.add_constraints(u.sel(hour=0) - v.sel(hour=0) + w.sel(hour=0) == before, name="first switch")
    else:
        m.add_constraints(v.sel(hour=0) + w.sel(hour=0) == 0, name="first switch")
    previous = u.shift(hour=1)
    m.add_constraints((u - previous - v + w).sel(hour=later) == 0, name="switch")
    width = high - low
    start_cap = np.maximum(np.minimum(of("startup_mw", own), high) - low, 0.0)
    stop_cap = np.maximum(np.minimum(of("shutdown_mw", own), high) - low, 0.0)
    m.add_constraints(above + reserve - width * u + (width - start_cap) * v <= 0, name="capacity at a start")
    next_stop = w.shift(hour=-1)
    m.add_constraints(
        (above + reserve - width * u + (width - stop_cap) * next_stop).sel(hour=hour[:-1]) <= 0,
        name="capacity at a stop",
    )
    up, down = of("ramp_up_mw_per_h", own), of("ramp_down_mw_per_h", own)
    over = above.shift(hour=1)
    m.add_constraints((above + reserve - over).sel(hour=later) <= up, name="ramp up")
    m.add_constraints((over - above).sel(hour=later) <= down, name="ramp down")
    m.add_constraints(reserve <= up, name="reserve within an hour")
    if not free:
        known = np.maximum(a["initial_p"] - a["p_mw_min"], 0.0)[own] * a["initial_on"][own]
        start = xr.DataArray(known, coords=[g])
        m.add_constraints((above + reserve).sel(hour=0) <= up + start, name="first ramp up")
        m.add_constraints(above.sel(hour=0) >= start - down, name="first ramp down")
        can_stop = xr.DataArray((a["initial_p"] <= a["shutdown_mw"] + 1e-6)[own].astype(float), coords=[g])
        m.add_constraints(w.sel(hour=0) <= can_stop, name="first stop")
    _minimum_times(m, a, own, u, v, w)
    must = own[a["must_run"][own]]
    if must.size:
        m.add_constraints(u.sel(unit=must) == 1, name="must run")
    if not free:
        _held(m, a, own, u, hours)
    start_cost = _start_costs(m, a, own, v, w, hours, free)
    others = pd.Index(other, name="unit")
    top = xr.DataArray(a["high"][:, other], coords=[hour, others])
    bottom = xr.DataArray(
        np.where(a["variable"][other], 0.0, np.minimum(a["p_mw_min"][other], a["high"][:, other])),
        coords=[hour, others],
    )
    p = m.add_variables(bottom, top, coords=[hour, others], name="p")
    energy = _segments(m, a, own, above, "committable", False) + _segments(m, a, other, p, "others", True)
    unserved, surplus, short = (
        m.add_variables(lower=0, coords=[hour], name=n) for n in ("unserved", "surplus", "short")
    )
    total = above.sum("unit") + (low * u).sum("unit") + p.sum("unit")
    m.add_constraints(total + unserved - surplus == xr.DataArray(a["load"], coords=[hour]), name="balance")
    m.add_constraints(reserve.sum("unit") + short >= xr.DataArray(a["reserve"], coords=[hour]), name="reserve")
    lost = xr.DataArray(np.where(a["variable"], a["curtailment_eur_per_mwh"], 0.0)[other], coords=[others])
    m.add_objective(
        energy + (of("minimum_output_eur_per_h", own) * u).sum() + (of("shutdown_eur", own) * w).sum() + start_cost
        - (lost * p).sum() + float(a["unserved"]) * (unserved.sum() + surplus.sum())
        + float(a["short"]) * short.sum()
    )  # fmt: skip
    return m


def _minimum_times(
    m: linopy.Model, a: dict[str, np.ndarray], own: np.ndarray, u: Variable, v: Variable, w: Variable
) -> None:
    """A unit that started lately is on, one that stopped lately is off; units of equal times together."""
    for least in np.unique(a["min_up_h"][own]):
        some = own[a["min_up_h"][own] == least]
        recent = v.sel(unit=some).rolling(hour=max(int(least), 1), min_periods=1).sum()
        m.add_constraints(recent - u.sel(unit=some) <= 0, name=f"up {least}")
    for least in np.unique(a["min_down_h"][own]):
        some = own[a["min_down_h"][own] == least]
        recent = w.sel(unit=some).rolling(hour=max(int(least), 1), min_periods=1).sum()
        m.add_constraints(recent + u.sel(unit=some) <= 1, name=f"down {least}")


def _held(m: linopy.Model, a: dict[str, np.ndarray], own: np.ndarray, u: Variable, hours: int) -> None:
    """Units whose minimum time still runs at the start stay as they are."""
    least = np.where(a["initial_on"], a["min_up_h"], a["min_down_h"]) - np.abs(a["initial_h"])
    for k in own[least[own] > 0]:
        last = min(int(least[k]), hours) - 1
        m.add_constraints(u.sel(unit=k, hour=slice(0, last)) == int(a["initial_on"][k]), name=f"held {k}")


def _start_costs(
    m: linopy.Model, a: dict[str, np.ndarray], own: np.ndarray, v: Variable, w: Variable, hours: int, free: bool
) -> linopy.LinearExpression:
    """Return the cost of all starts: a class but the coldest needs a stop within its hours before."""
    total, hour = 0.0, np.arange(hours)
    single = [k for k in own if np.ptp(a["start_eur"][a["start_unit"] == k]) == 0]
    price = xr.DataArray(
        [a["start_eur"][a["start_unit"] == k][0] for k in single], coords=[pd.Index(single, name="unit")]
    )
    if single:
        total = total + (v.sel(unit=single) * price).sum()
    for k in np.setdiff1d(own, single):
        rows = np.flatnonzero(a["start_unit"] == k)
        off = a["start_off_h"][rows].astype(int)
        kinds = pd.RangeIndex(rows.size, name="kind")
        d = m.add_variables(0, 1, coords=[pd.RangeIndex(hours, name="hour"), kinds], name=f"kind {k}")
        m.add_constraints(d.sum("kind") - v.sel(unit=k) == 0, name=f"kinds {k}")
        stopped = 0 if a["initial_on"][k] or free else abs(int(a["initial_h"][k]))
        for s in range(rows.size - 1):
            ago = hour + stopped
            already = ((ago >= off[s]) & (ago < off[s + 1]) & (stopped > 0)).astype(float)
            stops = (1 * w.sel(unit=k)).rolling(hour=int(off[s + 1] - off[s]), min_periods=1).sum()
            left = d.sel(kind=s) - stops.shift(hour=int(off[s]))
            m.add_constraints(
                left <= xr.DataArray(already, coords=[pd.RangeIndex(hours, name="hour")]), name=f"kind {k} {s}"
            )
        total = total + (d * xr.DataArray(a["start_eur"][rows], coords=[kinds])).sum()
    return total


def _segments(
    m: linopy.Model, a: dict[str, np.ndarray], kind: np.ndarray, output: Variable, name: str, free_below: bool
) -> linopy.LinearExpression:
    """Return the energy cost of some units: their output is the sum of their segments, the last one open-ended."""
    rows = np.flatnonzero(np.isin(a["segment_unit"], kind))
    owner = a["segment_unit"][rows]
    last = np.append(owner[1:] != owner[:-1], True)
    first = np.insert(owner[1:] != owner[:-1], 0, True)
    hour = pd.RangeIndex(a["load"].size, name="hour")
    segment = pd.Index(rows, name="segment")
    top = np.where(last, 1e6, a["segment_mw"][rows])
    bottom = np.where(first & free_below & ~a["variable"][owner], -1e6, 0.0)
    z = m.add_variables(
        xr.DataArray(bottom, coords=[segment]), xr.DataArray(top, coords=[segment]), coords=[hour, segment],
        name=f"segment {name}",
    )  # fmt: skip
    priced = np.unique(owner)
    grouped = z.groupby(xr.DataArray(owner, coords=[segment], name="unit")).sum()
    m.add_constraints(output.sel(unit=priced) - grouped == 0, name=f"segments {name}")
    return (z * xr.DataArray(a["segment_price"][rows], coords=[segment])).sum()


def main() -> None:
    with np.load(sys.argv[1]) as found:
        a = dict(found)
    lost = np.where(a["variable"], a["high"] * a["curtailment_eur_per_mwh"], 0.0).sum()

    def work() -> linopy.Model:
        model = build(a)
        model.solve(
            solver_name="highs", io_api="direct", output_flag=False, threads=1, mip_rel_gap=float(a["gap"]),
            time_limit=float(a["limit_s"]),
        )  # fmt: skip
        return model

    timing, model = best_of(work, runs_max=1, warm_up=False)
    info = model.solver_model.getInfo()
    objective, bound = model.objective.value + lost, info.mip_dual_bound + lost
    np.savez(sys.argv[2], on=model.solution["on"].to_numpy())
    print(json.dumps({
        "timing": vars(timing), "objective_eur": objective, "bound_eur": bound,
        "gap": (objective - bound) / objective, "status": str(model.termination_condition),
        "versions": {"linopy": version("linopy"), "highspy of linopy": version("highspy")},
    }))  # fmt: skip


main()
