"""Adjustment under N-1 by redispatch on linear cuts, checked by AC power flow of every outage."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bos_core.grid.model import FloatArray, stack
from bos_core.grid.schedule import production_cost_eur_per_h
from bos_core.objects.contracts import ProgramManifest
from slots.state_adjustment.checks import AcChecks, Check, Hour, loading_limits, voltage_excess
from slots.state_adjustment.contract import DIVERGED, RELAXED, SECURE, Inputs, Outputs
from slots.state_adjustment.cuts import Cuts, OutageFactors
from slots.state_adjustment.parameters import Parameters
from slots.state_adjustment.rounds import Rounds
from slots.state_adjustment.shedding import least_shedding

_PASSES = 2

MANIFEST = ProgramManifest(
    name="security_constrained_redispatch",
    slot="state_adjustment",
    version="1.2.0",
    title="Security-constrained redispatch",
    description="Turns violations into linear cuts corrected by AC results, moves units at least cost against the "
    "start of the hour, sheds or relaxes at a price where nothing else helps, tightens voltages, and checks every "
    "outage by AC power flow before an answer counts.",
    parameters=Parameters,
    references=(
        "Stott, Alsac, Monticelli: Security analysis and optimization, 1987",
        "Stott, Jardim, Alsac: DC power flow revisited, 2009",
    ),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Adjust every hour on its own."""
    checks, factors = AcChecks(inputs, parameters), OutageFactors(inputs.grid.network, inputs.contingency_branch)
    hours = [_adjust(checks, factors, position) for position in range(inputs.states.vm_pu.shape[0])]
    return _collected(inputs, hours)


@dataclass(frozen=True, eq=False)
class _Adjusted:
    """An hour with its outcome, and what would have to be shed for each overload left, (overload,) in MW."""

    hour: Hour
    outcome: int
    instead_mw: FloatArray


def _adjust(checks: AcChecks, factors: OutageFactors, position: int) -> _Adjusted:
    """Adjust one hour: redispatch, solve, check, until nothing is left or nothing gets better.

    Rounds check the outages in question, at first those that the caller found to violate something and those that
    load a branch nearly fully; a full check follows, and once more rounds for what it adds. The best of the states
    that were fully checked is the answer.
    """
    inputs = checks.inputs
    given, low, high = inputs.states.hour(position), inputs.p_mw_low[position], inputs.p_mw_high[position]
    state, residual = checks.solved(given, low, high)
    if state is None:
        return _Adjusted(Hour(given, 0, residual, Check.nothing()), DIVERGED, np.zeros(0))
    rounds, listed = Rounds(checks, factors, state, low, high), checks.listed(position)
    unchecked = Hour(state, 0, residual, checks.base_case(state))
    unlisted = checks.outages(state, np.setdiff1d(rounds.suspects, listed.outages()))
    best = start = replace(unchecked, check=unchecked.check.joined(listed).joined(unlisted))
    rounds.suspect(start.check.outages())
    for number in range(_PASSES):
        tried = rounds.improve(best)
        if tried is best and number:
            break
        whole = checks.whole(unchecked if tried is start else tried)
        best = min(best, whole, key=rounds.cost_eur_per_h) if number else whole
        if not rounds.suspect(whole.check.outages()):
            break
    if rounds.cost_eur_per_h(best) > rounds.cost_eur_per_h(start):  # of the suspects alone
        best = min(best, checks.whole(unchecked), key=rounds.cost_eur_per_h)
    outcome = SECURE if best.check.clean else RELAXED
    return _Adjusted(best, outcome, _shedding_instead(checks, factors, position, best))


def _shedding_instead(checks: AcChecks, factors: OutageFactors, position: int, hour: Hour) -> FloatArray:
    """Return the load that would have to be shed to remove each overload left, alone; (overload,) in MW."""
    inputs, grid, state, pairs = checks.inputs, checks.grid, hour.state, hour.check.overloads
    limit, cuts = loading_limits(inputs, pairs), Cuts(factors)
    cuts.add(checks.base_flows(state), pairs, limit)
    return least_shedding(
        cuts.factor_mw / cuts.mw[:, None],
        pairs.loading - limit,
        grid.loads.bus,
        np.where(grid.loads.sheddable, np.maximum(state.load_p_mw, 0.0), 0.0),
        grid.units.bus,
        np.where(state.unit_on, np.maximum(state.unit_p_mw - inputs.p_mw_low[position], 0.0), 0.0),
    )


def _collected(inputs: Inputs, adjusted: list[_Adjusted]) -> Outputs:
    """Join the hours into the slot's outputs."""
    units, before, hours = inputs.grid.units, inputs.states, [one.hour for one in adjusted]
    after = stack([hour.state for hour in hours]) if hours else before
    change = np.where(after.unit_on, after.unit_p_mw - before.unit_p_mw, 0.0)
    shed = np.maximum(before.load_p_mw - after.load_p_mw, 0.0)
    curtailed = np.where(units.variable, np.maximum(-change, 0.0), 0.0)
    available = np.broadcast_to(units.p_mw_max, before.unit_p_mw.shape)
    cost_before, cost_after = (
        production_cost_eur_per_h(units, s.unit_on, s.unit_p_mw, available).sum(1) for s in (before, after)
    )
    penalty = shed.sum(1) * inputs.shed_eur_per_mwh  # curtailment is part of the production cost
    relaxed = [_relaxations(inputs, k, one.hour, one.instead_mw) for k, one in enumerate(adjusted)]
    columns = [np.concatenate(part) for part in zip(*relaxed, strict=True)] if relaxed else [np.zeros(0)] * 6
    whole = [column.astype(np.int64) for column in columns[:4]]
    return Outputs(
        states=after,
        outcome=np.array([one.outcome for one in adjusted], np.int64),
        rounds=np.array([hour.rounds for hour in hours], np.int64),
        residual_pu=np.array([hour.residual_pu for hour in hours], np.float64),
        moved_mw=np.abs(change).sum(1) / 2,
        curtailed_mw=curtailed.sum(1),
        shed_mw=shed,
        cost_eur=cost_after - cost_before + penalty,
        relaxed_hour=whole[0],
        relaxed_outage=whole[1],
        relaxed_branch=whole[2],
        relaxed_bus=whole[3],
        relaxed_amount=columns[4].astype(np.float64),
        relaxed_shed_mw=columns[5].astype(np.float64),
    )


def _relaxations(inputs: Inputs, position: int, hour: Hour, instead: FloatArray) -> tuple[np.ndarray, ...]:
    """Return (hour, outage, branch, bus, amount, shed) of overloads, voltages and outages that do not converge."""
    check = hour.check
    over = np.maximum(check.overloads.loading - loading_limits(inputs, check.overloads), 0.0)
    beyond = np.abs(voltage_excess(inputs, check))
    counts = (over.size, beyond.size, check.diverged.size)
    none = np.full(sum(counts), -1)
    branch, bus = none.copy(), none.copy()
    branch[: counts[0]] = check.overloads.branch
    bus[counts[0] : counts[0] + counts[1]] = check.voltage_bus
    return (
        np.full(sum(counts), position),
        np.concatenate([check.overloads.outage, check.voltage_outage, check.diverged]),
        branch,
        bus,
        np.concatenate([over, beyond, np.zeros(counts[2])]),
        np.concatenate([instead, np.full(counts[1] + counts[2], np.nan)]),
    )
