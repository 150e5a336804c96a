"""power-grid-model: a power flow, or a batch of branch outages or of hours. Arguments: in.npz out.npz.

It knows no voltage-controlled buses: they are given the injections of the reference solution, so that a base case
has the same answer, and an outage a different one. All nodes have 100 kV and the base is 100 MVA, so 1 p.u. is
100 ohm.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from power_grid_model import CalculationMethod, LoadGenType, PowerGridModel, initialize_array

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import best_of

KV, MVA = 100e3, 100e6
OHM = KV**2 / MVA


def model_input(a: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return power-grid-model's tables: branches as generic ones, all injections as generators."""
    n, m = a["p_pu"].size, a["from_bus"].size
    node = initialize_array("input", "node", n)
    node["id"], node["u_rated"] = np.arange(n), KV
    branch = initialize_array("input", "generic_branch", m)
    branch["id"] = n + np.arange(m)
    branch["from_node"], branch["to_node"] = a["from_bus"], a["to_bus"]
    branch["from_status"] = branch["to_status"] = 1
    branch["r1"], branch["x1"] = a["r_pu"] * OHM, a["x_pu"] * OHM
    branch["g1"], branch["b1"] = 2 * a["g_to_pu"] / OHM, 2 * a["b_to_pu"] / OHM
    branch["k"], branch["theta"], branch["sn"] = a["ratio"], a["shift_rad"], MVA
    shunt_at = np.flatnonzero(a["g_shunt_pu"] + 1j * a["b_shunt_pu"])
    shunt = initialize_array("input", "shunt", shunt_at.size)
    shunt["id"] = n + m + np.arange(shunt_at.size)
    shunt["node"], shunt["status"] = shunt_at, 1
    shunt["g1"], shunt["b1"] = a["g_shunt_pu"][shunt_at] / OHM, a["b_shunt_pu"][shunt_at] / OHM
    slack = int(a["slack"])
    others = np.flatnonzero(np.arange(n) != slack)
    generator = initialize_array("input", "sym_gen", others.size)
    generator["id"] = n + m + shunt_at.size + np.arange(others.size)
    generator["node"], generator["status"], generator["type"] = others, 1, LoadGenType.const_power
    generator["p_specified"], generator["q_specified"] = a["p_pu"][others] * MVA, a["q_pu"][others] * MVA
    source = initialize_array("input", "source", 1)
    source["id"], source["node"], source["status"] = n + m + shunt_at.size + others.size, slack, 1
    source["u_ref"], source["u_ref_angle"], source["sk"] = a["vm_slack"], a["va_slack"], 1e20
    return {"node": node, "generic_branch": branch, "shunt": shunt, "sym_gen": generator, "source": source}


def outages(a: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """Return a batch in which every case opens one branch."""
    update = initialize_array("update", "generic_branch", (a["outage"].size, 1))
    update["id"] = n + a["outage"][:, None]
    update["from_status"] = update["to_status"] = 0
    return {"generic_branch": update}


def series(a: dict[str, np.ndarray], tables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a batch in which every case has the injections of an hour."""
    generator = tables["sym_gen"]
    update = initialize_array("update", "sym_gen", (a["p_hours"].shape[0], generator.size))
    update["id"] = generator["id"]
    update["p_specified"] = a["p_hours"][:, generator["node"]] * MVA
    update["q_specified"] = a["q_hours"][:, generator["node"]] * MVA
    return {"sym_gen": update}


def main() -> None:
    with np.load(sys.argv[1]) as found:
        a = dict(found)
    tables = model_input(a)
    n = a["p_pu"].size
    options = {
        "symmetric": True, "error_tolerance": float(a["tolerance"]), "max_iterations": 30,
        "calculation_method": CalculationMethod.newton_raphson,
    }  # fmt: skip
    facts: dict[str, object] = {"version": version("power-grid-model")}
    if "outage" in a or "p_hours" in a:
        model = PowerGridModel(tables)
        changes = series(a, tables) if "p_hours" in a else outages(a, n)
        timing, answer = best_of(
            lambda: model.calculate_power_flow(
                update_data=changes, threading=-1, continue_on_batch_error=True, **options
            ),
            budget_s=float(a["budget"]), runs_max=3,
        )  # fmt: skip
        failed = model.batch_error.failed_scenarios if model.batch_error is not None else np.zeros(0, int)
        facts |= {"timing": vars(timing), "failed": [int(case) for case in failed]}
        node = answer["node"]
        np.savez(sys.argv[2], v=node["u_pu"] * np.exp(1j * node["u_angle"]))
    else:
        first, _ = best_of(
            lambda: PowerGridModel(tables).calculate_power_flow(**options), budget_s=float(a["budget"])
        )
        model = PowerGridModel(tables)
        again, answer = best_of(lambda: model.calculate_power_flow(**options), budget_s=float(a["budget"]))
        facts |= {"first": vars(first), "again": vars(again)}
        node = answer["node"]
        np.savez(sys.argv[2], v=node["u_pu"] * np.exp(1j * node["u_angle"]))
    print(json.dumps(facts))


main()
