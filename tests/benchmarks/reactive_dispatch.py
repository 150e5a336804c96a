"""Reactive dispatch: our interior-point method against Ipopt, and against pandapower's optimal power flow."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandapower
import tools
from frame import OURS, Accuracy, Bench, Row
from home import PlannedDay, planned_day
from n1 import hours_of
from networks import Case, builtin
from timing import best_of

from slots.reactive_dispatch import barrier_rpd, ipopt_rpd
from slots.reactive_dispatch.contract import OPTIMAL, SOFT, Inputs, Outputs

TITLE = "Reactive dispatch: losses within limits of voltage, reactive power and current"
PACKAGES = ("numpy", "scipy", "numba", "casadi", "pandapower", "simbench")
SAME_LOSSES, SAME_ROUNDED = 1e-4, 5e-3
"""Relative; the second where taps and shunts are rounded, which two methods may do differently."""
PLAIN = {
    "voltage_weight": 0.0, "optimise_taps": False, "optimise_shunts": False, "distribute_balance": False,
}  # fmt: skip
CHAIN_HOURS = 6
PRICE_MW = 100.0
"""Prices of softened limits are in units of 100 MW of losses."""
CASES = ("case118", "case300", "case1354pegase")


def run(bench: Bench, budget_s: float) -> None:
    """Dispatch hours of the planned day as the chain does, then one state of several networks for losses alone."""
    bench.settings |= {
        "as in the chain": "losses and voltage deviation; taps and shunts decided and rounded; soft limits",
        "losses alone": "voltages and Q are free, taps and shunts stay, the slack balances: the same for all",
        OURS: "barrier_rpd; a power flow that confirms every answer included",
        "Ipopt": "ipopt_rpd: casadi, Ipopt with MUMPS; the same confirmation",
        "pandapower OPF": "runopp (PIPS) from the power flow's voltages; least power of the slack",
    }
    with bench.doing("preparing the planned day"):
        day = planned_day(bench)
    count = min(CHAIN_HOURS, day.states.vm_pu.shape[0])
    states = hours_of(day.dispatched, np.arange(count) * (day.states.vm_pu.shape[0] // count))
    c = day.criteria
    inputs = Inputs(day.grid, states, c.vm_pu_min, c.vm_pu_max, c.loading_max)
    n = day.grid.network.n_bus
    _ours_and_ipopt(bench, f"{n} buses (SimBench EHV), {count} hours, as in the chain", n, inputs, {}, "chain")
    for case in [*map(builtin, CASES), _hour(day)]:
        network = case.grid.network
        limits = Inputs(
            case.grid, case.snapshot.block(), network.vm_pu_min, network.vm_pu_max, np.full(network.n_branch, 1.0)
        )
        label = f"{case.n_bus:,} buses ({case.name}), losses alone"
        reference = _ours_and_ipopt(bench, label, case.n_bus, limits, PLAIN)
        with bench.peer("pandapower OPF", label):
            _pandapower(bench, label, case, reference)


def _hour(day: PlannedDay) -> Case:
    case = day.case(day.dispatched.hour(0), "ehv")
    return replace(case, name="SimBench EHV, an hour")


def _ours_and_ipopt(
    bench: Bench, group: str, size: int, inputs: Inputs, options: dict[str, Any], panel: str = "losses alone"
) -> Outputs:
    hours = inputs.states.vm_pu.shape[0]
    reference: Outputs | None = None
    for tool, program in ((OURS, barrier_rpd), ("Ipopt", ipopt_rpd)):
        with bench.peer(tool, group):
            times, answer = best_of(
                lambda p=program: p.run(inputs, p.Parameters(**options)), runs_max=3, budget_s=5.0
            )
            accuracy = ()
            if reference is not None:
                comparable = (answer.outcome <= SOFT) & (reference.outcome <= SOFT)
                far = np.abs(_priced(answer) / _priced(reference) - 1)[comparable]
                limit = SAME_LOSSES if panel != "chain" else SAME_ROUNDED
                accuracy = (Accuracy("priced losses, relative", float(far.max(initial=0.0)), limit),)
                if not comparable.all():
                    accuracy += (Accuracy("hours without an answer", float((~comparable).sum()), 0),)
            figures = {
                "losses_mw": answer.losses_mw, "residual_pu": float(np.nanmax(answer.residual_pu)),
                "iterations": answer.iterations, "outcome": answer.outcome,
                "voltage_excess_pu": float(answer.voltage_excess_pu.sum()),
                "loading_excess": float(answer.loading_excess.sum()),
            }  # fmt: skip
            figures = {
                key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in figures.items()
            }
            note = (
                f"Losses {answer.losses_mw.mean():.2f} MW, residual {np.nanmax(answer.residual_pu):.0e} p.u., "
                f"{(answer.outcome == OPTIMAL).sum()} optimal, {(answer.outcome == SOFT).sum()} soft"
            )
            bench.add(
                Row(group, size, tool, "hour", times.per(hours), accuracy, figures, note, panel, tool == OURS)
            )
            if tool == OURS:
                reference = answer
    if reference is None:
        raise RuntimeError("the default program failed")
    return reference


def _priced(answer: Outputs) -> np.ndarray:
    """Return losses with what softened limits cost at the program's prices, MW; the losses where none is."""
    prices = barrier_rpd.Parameters()
    excess = prices.voltage_price * answer.voltage_excess_pu + prices.loading_price * answer.loading_excess
    return np.asarray(answer.losses_mw + PRICE_MW * excess)


def _pandapower(bench: Bench, group: str, case: Case, reference: Outputs) -> None:
    net, network = case.net, case.grid.network
    net.bus["min_vm_pu"], net.bus["max_vm_pu"] = 0.0, 2.0
    rows = net.bus.index[: case.n_bus]
    net.bus.loc[rows, "min_vm_pu"], net.bus.loc[rows, "max_vm_pu"] = network.vm_pu_min, network.vm_pu_max
    for table in ("gen", "sgen"):
        net[table]["controllable"] = table == "gen"
    net.gen["min_p_mw"] = net.gen["max_p_mw"] = net.gen.p_mw
    net.ext_grid["min_p_mw"], net.ext_grid["max_p_mw"] = -1e6, 1e6
    units = case.grid.units.bus == network.slack
    net.ext_grid["min_q_mvar"] = case.grid.units.q_mvar_min[units].sum() if units.any() else -1e6
    net.ext_grid["max_q_mvar"] = case.grid.units.q_mvar_max[units].sum() if units.any() else 1e6
    net.ext_grid["controllable"] = True
    for table in ("line", "trafo"):
        net[table]["max_loading_percent"] = 100.0
    net.poly_cost = net.poly_cost.iloc[:0]
    for index in net.ext_grid.index:
        pandapower.create_poly_cost(net, index, "ext_grid", cp1_eur_per_mw=1.0)
    tools.run_pandapower(case, start=case.start)

    def work() -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pandapower.runopp(net, init="pf", calculate_voltage_angles=True, trafo_model="t", verbose=False)
            except pandapower.OPFNotConverged:
                return False
        return True

    times, converged = best_of(work, runs_max=2, budget_s=5.0, warm_up=False)
    if not converged:
        bench.add(
            Row(group, case.n_bus, "pandapower OPF", "hour", times,
                (Accuracy("hours without an answer", 1.0, 0),), note="Did not converge; the time of its attempt",
                panel="losses alone")
        )  # fmt: skip
        return
    losses = _losses(net)
    far = abs(losses / reference.losses_mw[0] - 1)
    note = f"Losses {losses:.2f} MW"
    bench.add(
        Row(group, case.n_bus, "pandapower OPF", "hour", times, (Accuracy("losses, relative", far, SAME_LOSSES),),
            {"losses_mw": losses}, note, "losses alone")
    )  # fmt: skip


def _losses(net: Any) -> float:
    given = net.res_ext_grid.p_mw.sum() + net.res_gen.p_mw.sum() + net.res_sgen.p_mw.sum()
    return float(given - net.res_load.p_mw.sum())
