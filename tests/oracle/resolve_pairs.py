"""Solve random N-1 pairs of a finished run again with pandapower, and compare.

    python tests/oracle/resolve_pairs.py [--run TRACE] [--pairs 1000] [--seed 1]

Every pair is solved from the exported grid and the hour's set points by another tool with other code: Newton with
reactive limits enforced. pandapower takes units that reach a limit out of voltage control for good, while BOS
gives control back where the voltage asks for it; pairs that pandapower leaves with a unit at its upper limit above
its set point, or at its lower limit below it, are counted apart.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass

import numpy as np
import pandapower
import pyarrow as pa

from bos_core.access.state_series import read_states
from bos_core.access.state_tables import snapshot_tables
from bos_core.access.workspace import Workspace
from bos_core.exchange.pandapower_export import pandapower_net
from bos_core.grid.model import Grid, Snapshot
from bos_core.grid.power_flow import network_at
from bos_core.objects.ontology import TABLES
from bos_core.objects.settings import Settings
from slots.n1_verification.contract import CONVERGED, DIVERGED, ISLANDED

TABLE_OF = {"l": "line", "t": "trafo", "t3": "trafo3w"}
HOW = {
    "enforce_q_lims": True, "trafo_model": "pi", "calculate_voltage_angles": True, "tolerance_mva": 1e-7,
    "max_iteration": 40,
}  # fmt: skip
SAME_PU, SAME_LOADING = 1e-5, 1e-4


@dataclass(frozen=True)
class Comparison:
    """One pair: classes by both, largest difference of extreme voltages (p.u.) and of the largest loading.

    `stuck`: pandapower keeps a unit at a reactive limit though its voltage asks for control.
    """

    hour: int
    branch: str
    ours: int
    theirs: int
    vm_pu: float
    loading: float
    stuck: bool


def compare(workspace: Workspace, trace: str, count: int, seed: int) -> list[Comparison]:
    """Solve `count` random pairs of a run again."""
    pairs = workspace.results.table(trace, "n1_verification", "pairs")
    version = next(v for v in workspace.scenarios.versions(trace_id=trace) if v.step == "reactive_dispatch")
    reader = workspace.reader(version.id)
    grid, base = reader.grid()
    chosen = np.sort(np.random.default_rng(seed).choice(pairs.num_rows, min(count, pairs.num_rows), replace=False))
    rows = pairs.take(pa.array(chosen)).to_pylist()
    tables = {name: reader.table(name) for name in TABLES}
    found: list[Comparison] = []
    for hour in sorted({row["hour"] for row in rows}):
        state = read_states(reader, grid, base, slice(hour, hour + 1)).hour(0)
        net, place, _ = pandapower_net(snapshot_tables(tables, grid, state))
        _put_at_limits(net, grid, state)
        slack = grid.network.slack
        net.ext_grid = net.ext_grid.iloc[:0]
        net.gen["slack"] = False
        pandapower.create_ext_grid(net, slack, state.vm_pu[slack], np.rad2deg(state.va_rad[slack]))
        found += [_again(net, place, grid, state, row) for row in rows if row["hour"] == hour]
    return found


def _put_at_limits(net: pandapower.pandapowerNet, grid: Grid, state: Snapshot) -> None:
    """Give the units that are at a reactive limit before the outage their power instead of a voltage."""
    gen, bus = net.gen, net.gen.bus.to_numpy()
    away = gen.in_service & (np.abs(gen.vm_pu - state.vm_pu[bus]) > SAME_PU) & (bus != grid.network.slack)
    q_mvar = np.zeros(grid.network.n_bus)
    controls = state.unit_on & np.isfinite(state.unit_vm_set_pu)
    np.add.at(q_mvar, grid.units.bus, np.where(controls, state.unit_q_mvar, 0.0))
    for where, p_mw in gen[away].groupby("bus").p_mw.sum().items():
        pandapower.create_sgen(net, where, p_mw, q_mvar[where])
    net.gen.loc[away, "in_service"] = False
    net.gen["at_limit"] = np.where(away, np.sign(q_mvar[bus]), 0.0)


def _again(
    net: pandapower.pandapowerNet, place: dict[str, tuple[str, int]], grid: Grid, state: Snapshot, row: dict
) -> Comparison:
    network, branch = grid.network, row["contingency"]
    start = (state.vm_pu, np.rad2deg(state.va_rad))
    kind, at = place[str(network.branch_id[branch])]
    table = net[TABLE_OF[kind]]
    before = table.in_service.copy()
    table.loc[at, "in_service"] = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pandapower.runpp(net, init_vm_pu=start[0], init_va_degree=start[1], **HOW)
        vm = net.res_bus.vm_pu.to_numpy()[: network.n_bus]
        theirs = ISLANDED if np.isnan(vm).any() else CONVERGED
    except pandapower.LoadflowNotConverged:
        vm, theirs = np.full(network.n_bus, np.nan), DIVERGED
    finally:
        net[TABLE_OF[kind]]["in_service"] = before
    off_v, off_loading, stuck = float("nan"), float("nan"), False
    if theirs != DIVERGED and row["outcome"] == theirs:
        va = np.deg2rad(net.res_bus.va_degree.to_numpy()[: network.n_bus])
        loading = network_at(grid, state).loading(np.nan_to_num(vm * np.exp(1j * va)))
        loading[branch] = 0.0
        dead = np.isnan(vm)
        loading[dead[network.from_bus] | dead[network.to_bus]] = 0.0
        off_v = max(abs(np.nanmin(vm) - row["vm_min_pu"]), abs(np.nanmax(vm) - row["vm_max_pu"]))
        off_loading = abs(float(loading.max()) - row["loading_max"])
        q_mvar, gen = net.res_gen.q_mvar.fillna(0.0), net.gen
        reached = 1.0 * (q_mvar >= gen.max_q_mvar - 1e-3) - 1.0 * (q_mvar <= gen.min_q_mvar + 1e-3)
        reached = np.where(gen.in_service, reached, gen.at_limit)
        stuck = bool((reached * (vm[gen.bus] - gen.vm_pu) > SAME_PU).any())
    return Comparison(
        row["hour"], str(network.branch_name[branch]), row["outcome"], theirs, off_v, off_loading, stuck
    )


def report(found: list[Comparison]) -> str:
    """Say how many pairs agree, and name those that do not."""
    agree = [c for c in found if c.ours == c.theirs]
    solved = [c for c in agree if c.ours != DIVERGED]
    same = [c for c in solved if c.vm_pu < SAME_PU and c.loading < SAME_LOADING]
    lines = [
        f"{len(found)} pairs; same class: {len(agree)}; solved by both: {len(solved)}, "
        f"of these equal to {SAME_PU:g} p.u. and {SAME_LOADING:g} loading: {len(same)}",
    ]
    if same:
        lines.append(f"largest difference of these: {max(c.vm_pu for c in same):.1e} p.u., "
                     f"{100 * max(c.loading for c in same):.1e} % loading")  # fmt: skip
    lines += [
        f"  class {c.ours} here, {c.theirs} there: hour {c.hour}, {c.branch}" for c in found if c not in agree
    ]
    other = sorted((c for c in solved if c not in same), key=lambda c: -c.vm_pu)
    stuck = sum(c.stuck for c in other)
    lines.append(
        f"different: {len(other)}, of these with a unit that pandapower does not give control back: {stuck}"
    )
    lines += [f"  hour {c.hour}, {c.branch}: {c.vm_pu:.1e} p.u., {c.loading:.1e}" for c in other if not c.stuck]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="", help="trace id; default: the newest run")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    opened = Workspace.open(Settings.load())
    run = opened.ledger.task_set(options.run) if options.run else opened.ledger.task_sets()[0]
    print(report(compare(opened, run.trace_id, options.pairs, options.seed)))
