"""Solve random N-1 pairs of a finished run again with OpenLoadFlow, and compare.

    python tests/oracle/resolve_pairs.py [--run TRACE] [--pairs 10000] [--hours 500] [--seed 1]

The pairs are drawn from random hours of the run: writing and reading the grid of an hour takes longer than its
pairs. Each hour goes to OpenLoadFlow as a file with its set points; its security analysis solves the base case and
the chosen outages with reactive limits enforced, and gives control back where a voltage asks for it, as BOS does.
It keeps the slack's part of a network that an outage cuts, BOS the larger part: outages that cut off the slack are
another question, and only counted. The exchange format knows a transformer's magnetizing branch at one end only:
the other end's part is a shunt of its own in the file and stays when the transformer is lost, which moves voltages
there by some 1e-5 p.u.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pypowsybl.loadflow as lf
import pypowsybl.network as pw
import pypowsybl.security as ps

from bos_core.access.state_series import read_states
from bos_core.access.state_tables import snapshot_tables
from bos_core.access.workspace import Workspace
from bos_core.exchange.powsybl_export import write_powsybl
from bos_core.grid.model import FloatArray, Grid, Snapshot
from bos_core.grid.power_flow import network_at
from bos_core.objects.ontology import TABLES
from bos_core.objects.settings import Settings
from slots.n1_verification.contract import CONVERGED, DIVERGED, ISLANDED

SAME_PU, SAME_LOADING = 1e-5, 1e-4
NAMES = {CONVERGED: "converged", ISLANDED: "islanded", DIVERGED: "diverged"}


@dataclass(frozen=True)
class Comparison:
    """One pair: classes by both, largest difference of extreme voltages (p.u.) and of the largest loading.

    `without_slack`: the outage cuts off the slack.
    """

    hour: int
    branch: str
    ours: int
    theirs: int
    vm_pu: float
    loading: float
    without_slack: bool


def compare(workspace: Workspace, trace: str, count: int, hours: int, seed: int) -> Iterator[Comparison]:
    """Solve `count` random pairs of at most `hours` random hours of a run again, hour by hour."""
    pairs = workspace.results.table(trace, "n1_verification", "pairs")
    version = next(v for v in workspace.scenarios.versions(trace_id=trace) if v.step == "reactive_dispatch")
    reader = workspace.reader(version.id)
    grid, base = reader.grid()
    rng, hour_of = np.random.default_rng(seed), pairs["hour"].to_numpy()
    all_hours = np.unique(hour_of)
    drawn = rng.choice(all_hours, min(hours, all_hours.size), replace=False)
    candidates = np.flatnonzero(np.isin(hour_of, drawn))
    chosen = np.sort(rng.choice(candidates, min(count, candidates.size), replace=False))
    rows = pairs.take(pa.array(chosen)).to_pylist()
    tables = {name: reader.table(name) for name in TABLES}
    for hour in sorted({row["hour"] for row in rows}):
        state = read_states(reader, grid, base, slice(hour, hour + 1)).hour(0)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hour.xiidm"
            write_powsybl(snapshot_tables(tables, grid, state), path)
            network = pw.load(str(path))
        _hold_slack(network, grid, state)
        yield from _hour(network, grid, state, [row for row in rows if row["hour"] == hour])


def _hold_slack(network: Any, grid: Grid, state: Snapshot) -> None:
    """Put a generator without limits at the slack: BOS holds its voltage whatever its own units do."""
    n = grid.network
    bus = str(n.bus_id[n.slack])
    level = f"VL {bus}"
    network.create_generators(
        id="slack", voltage_level_id=level, bus_id=bus, min_p=-1e5, max_p=1e5, target_p=0.0, target_q=0.0,
        voltage_regulator_on=True, target_v=float(state.vm_pu[n.slack] * n.base_kv[n.slack]),
    )  # fmt: skip
    network.create_minmax_reactive_limits(id="slack", min_q=-1e5, max_q=1e5)
    network.remove_extensions("slackTerminal", [level])
    network.create_extensions("slackTerminal", voltage_level_id=level, element_id="slack")


def _parameters(grid: Grid) -> lf.Parameters:
    return lf.Parameters(
        voltage_init_mode=lf.VoltageInitMode.DC_VALUES,
        distributed_slack=False,
        use_reactive_limits=True,
        transformer_voltage_control_on=False,
        phase_shifter_regulation_on=False,
        shunt_compensator_voltage_control_on=False,
        hvdc_ac_emulation=False,
        provider_parameters={
            "newtonRaphsonStoppingCriteriaType": "PER_EQUATION_TYPE_CRITERIA",
            "maxActivePowerMismatch": "1e-6",
            "maxReactivePowerMismatch": "1e-6",
            "maxVoltageMismatch": "1e-8",
            "reactiveLimitsMaxPqPvSwitch": "10",
            "maxNewtonRaphsonIterations": "40",
            "slackBusSelectionMode": "NAME",
            "slackBusesIds": str(grid.network.bus_id[grid.network.slack]),
            "voltageRemoteControl": "false",
            "generatorsWithZeroMwTargetAreNotStarted": "false",
            "disableVoltageControlOfGeneratorsOutsideActivePowerLimits": "false",
            "plausibleActivePowerLimit": "1000000",
            "minPlausibleTargetVoltage": "0.3",
            "maxPlausibleTargetVoltage": "2.0",
            "contingencyPropagation": "false",
        },
    )


def _hour(network: Any, grid: Grid, state: Snapshot, rows: list[dict[str, Any]]) -> Iterator[Comparison]:
    n = grid.network
    levels = np.char.add("VL ", n.bus_id)
    outages = [str(n.branch_id[row["contingency"]]) for row in rows]
    analysis = ps.create_analysis()
    analysis.add_single_element_contingencies(outages)
    analysis.add_postcontingency_monitored_elements(contingency_ids=outages, voltage_level_ids=levels.tolist())
    answer = analysis.run_ac(network, _parameters(grid))
    found = answer.bus_results.reset_index().set_index("contingency_id")
    nominal = network.get_voltage_levels().nominal_v
    position = {level: k for k, level in enumerate(levels.tolist())}
    rated = network_at(grid, state)
    for row, key in zip(rows, outages, strict=True):
        v = np.full(n.n_bus, np.nan + 0j)
        if key in found.index and _solved(answer, key):
            buses = found.loc[[key]]
            vm = buses.v_mag.to_numpy() / nominal.loc[buses.voltage_level_id].to_numpy()
            places = [position[level] for level in buses.voltage_level_id]
            v[places] = vm * np.exp(1j * np.deg2rad(buses.v_angle.to_numpy()))
        live = np.isfinite(v)
        theirs = DIVERGED if not live.any() else CONVERGED if live.all() else ISLANDED
        off = _distances(rated.loading(np.where(live, v, 0.0)), np.abs(v), live, grid, row)
        without_slack = row["outcome"] == ISLANDED and 2 * int(live.sum()) < n.n_bus
        name = str(n.branch_name[row["contingency"]])
        yield Comparison(row["hour"], name, row["outcome"], theirs, *off, without_slack)


def _solved(answer: Any, key: str) -> bool:
    return str(answer.post_contingency_results[key].status) == "ComputationStatus.CONVERGED"


def _distances(
    loading: FloatArray, vm: FloatArray, live: FloatArray, grid: Grid, row: dict[str, Any]
) -> tuple[float, float]:
    if not live.any() or row["outcome"] == DIVERGED:
        return float("nan"), float("nan")
    n = grid.network
    loading = np.where(live[n.from_bus] & live[n.to_bus], loading, 0.0)
    loading[row["contingency"]] = 0.0
    off = (np.nanmin(vm) - row["vm_min_pu"], np.nanmax(vm) - row["vm_max_pu"])
    return float(np.abs(off).max()), abs(float(loading.max()) - row["loading_max"])


def report(found: list[Comparison]) -> str:
    """Say how many pairs agree, and name those that do not."""
    asked = [c for c in found if not c.without_slack]
    agree = [c for c in asked if c.ours == c.theirs]
    solved = [c for c in agree if c.ours != DIVERGED]
    same = [c for c in solved if c.vm_pu < SAME_PU and c.loading < SAME_LOADING]
    lines = [
        f"{len(found):,} pairs, {len(found) - len(asked):,} of them without the slack; of the others",
        f"  same class: {len(agree):,} of {len(asked):,}",
        f"  equal to {SAME_PU:g} p.u. and {SAME_LOADING:g} loading: {len(same):,} of {len(solved):,} solved",
    ]
    if same:
        lines.append(f"  largest difference of these: {max(c.vm_pu for c in same):.1e} p.u., "
                     f"{100 * max(c.loading for c in same):.1e} % loading")  # fmt: skip
    lines += [
        f"hour {c.hour}, {c.branch}: {NAMES[c.ours]} here, {NAMES[c.theirs]} there"
        for c in asked
        if c.ours != c.theirs
    ]
    apart = sorted((c for c in solved if c not in same), key=lambda c: -c.vm_pu)
    lines += [f"hour {c.hour}, {c.branch}: {c.vm_pu:.1e} p.u., {c.loading:.1e} loading apart" for c in apart]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="", help="trace id; default: the newest run")
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--hours", type=int, default=500, help="random hours that the pairs are drawn from")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("powsybl").setLevel(logging.CRITICAL)
    opened = Workspace.open(Settings.load())
    run = opened.ledger.task_set(options.run) if options.run else opened.ledger.task_sets()[0]
    print(report(list(compare(opened, run.trace_id, options.pairs, options.hours, options.seed))))
