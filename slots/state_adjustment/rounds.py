"""The rounds of one hour: a move by the programme, voltages where they need it, an AC check of the suspects."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from bos_core.grid.model import FloatArray, IntArray, Snapshot
from slots.state_adjustment.checks import AcChecks, Hour, loading_limits, voltage_excess
from slots.state_adjustment.cuts import BASE_CASE, BaseFlows, Cuts, OutageFactors, Pairs, threatened, worst_pairs
from slots.state_adjustment.redispatch_model import Move, Prices, Programme

logger = logging.getLogger(__name__)

_LEAST_IMPROVEMENT = 0.01
"""A round that takes away less than this share of the cost is the last."""
_VOLTAGE_MW, _DIVERGED_MW = 6_000.0, 6_000.0
"""Overload that costs as much as 1 p.u. of voltage beyond its limits, and as an outage without a solution."""
_FULL = 0.01
"""Outages that bring a cut this near to its limit, by the programme, are suspects as well."""


class Rounds:
    """What the rounds of an hour share: the programme with its cuts, the suspects, the voltage limits reached.

    Parameters
    ----------
    checks : AcChecks
    factors : OutageFactors
    start : Snapshot
        The solved state from which changes count.
    low, high : (unit,)
        Room of each unit, MW.
    """

    def __init__(
        self, checks: AcChecks, factors: OutageFactors, start: Snapshot, low: FloatArray, high: FloatArray
    ) -> None:
        inputs, parameters = checks.inputs, checks.parameters
        self.checks, self.factors, self.start, self.low, self.high = checks, factors, start, low, high
        self.cuts = Cuts(factors)
        prices = Prices(inputs.shed_eur_per_mwh, inputs.overload_eur_per_mwh, parameters.move_premium_eur_per_mwh)
        self.programme = Programme(checks.grid, start, low, high, prices, self.cuts)
        self.limits = inputs.vm_pu_min, inputs.vm_pu_max
        near = self._threatened(checks.base_flows(start), parameters.outages_per_branch)
        self.suspects: IntArray = np.unique(near.outage)

    def suspect(self, outage: IntArray) -> bool:
        """Let the rounds look at outages; return whether any is new."""
        before = self.suspects.size
        self.suspects = np.union1d(self.suspects, outage)
        return self.suspects.size > before

    def cost_eur_per_h(self, hour: Hour) -> float:
        """Return what an hour's changes cost, and what its check found at the prices of the programme."""
        checks, check = self.checks, hour.check
        pairs, base = check.overloads, checks.base_flows(hour.state)
        over = np.maximum(pairs.loading - loading_limits(checks.inputs, pairs), 0.0)
        over_mw = over * base.rating_pu[pairs.branch] * base.vm_pu[pairs.branch] * checks.grid.network.base_mva
        beyond = _VOLTAGE_MW * float(np.abs(voltage_excess(checks.inputs, check)).sum())
        beyond += _DIVERGED_MW * check.diverged.size
        changes = self.programme.cost_eur_per_h(hour.state)
        left = self.programme.overload_eur_per_h(pairs, over_mw)
        return changes + left + beyond * checks.inputs.overload_eur_per_mwh

    def improve(self, best: Hour) -> Hour:
        """Go on from the best state so far; a round that makes things worse is undone and halves the trust."""
        checks, parameters = self.checks, self.checks.parameters
        trust, cost, latest, ways = parameters.trust_share, self.cost_eur_per_h(best), best, self._ways(best)
        for number in range(best.rounds + 1, best.rounds + 1 + parameters.rounds_max):
            if not ways:
                break
            redispatch, voltages = ways.pop(0)
            state = self._redispatched(best, trust) if redispatch else best.state
            if voltages:
                self.limits = checks.tightened(latest, self.limits)
                state = checks.reactive(state, self.limits)
            solved, residual = checks.solved(state, self.low, self.high)
            if solved is not None:
                check = checks.base_case(solved).joined(checks.outages(solved, self.suspects))
                latest = Hour(solved, number, residual, check, self.suspects)
                now = self.cost_eur_per_h(latest)
                logger.debug("round %d: %.0f, then %.0f EUR/h", number, cost, now)
                if now < cost:
                    enough = cost - now < _LEAST_IMPROVEMENT * cost
                    best, cost, ways = latest, now, self._ways(latest)
                    if enough:
                        break
                    continue
            trust *= 0.5
        return best

    def _ways(self, hour: Hour) -> list[tuple[bool, bool]]:
        """Return what to try from a state, one after the other: (redispatch, voltages)."""
        redispatch = hour.check.overloads.outage.size + hour.check.diverged.size > 0
        voltages = hour.check.voltage_bus.size > 0 and self.checks.parameters.improve_voltages
        if redispatch and voltages:
            return [(True, True), (True, False), (False, True)]
        return [(redispatch, voltages)] * 2 if redispatch or voltages else []

    def _threatened(self, base: BaseFlows, count: int) -> Pairs:
        inputs = self.checks.inputs
        share = self.checks.parameters.watched_share
        return threatened(self.factors, base, inputs.loading_contingency_max, share, count)

    def _redispatched(self, hour: Hour, trust: float) -> Snapshot:
        """Return the state with the move that the cuts ask for; outages without a solution count by estimate."""
        checks, cuts, state, check = self.checks, self.cuts, hour.state, hour.check
        inputs, parameters, base = checks.inputs, checks.parameters, checks.base_flows(state)
        near = np.flatnonzero(base.loading > parameters.watched_share * inputs.loading_max)
        pairs = check.overloads.joined(Pairs(np.full(near.size, BASE_CASE), near, base.loading[near]))
        pairs = pairs.joined(self._threatened(base, 2))
        pairs = worst_pairs(
            pairs, loading_limits(inputs, pairs), parameters.outages_per_branch, parameters.cuts_max
        )
        margin = np.where(pairs.outage == BASE_CASE, parameters.base_margin, parameters.loading_margin)
        cuts.add(base, pairs, loading_limits(inputs, pairs) - margin)
        most = np.where(np.isin(cuts.outage, check.diverged), np.inf, loading_limits(inputs, cuts))
        cuts.look_at(base, check.overloads, most)
        move = self.programme.least_cost_move(state, trust * np.maximum(np.abs(checks.grid.units.p_mw_max), 100.0))
        full = (move.loading > cuts.limit - _FULL) & (cuts.outage != BASE_CASE)
        self.suspect(cuts.outage[full])
        return self._moved(state, move)

    def _moved(self, state: Snapshot, move: Move) -> Snapshot:
        """Return a state with a move from the start made; loads keep their power factor."""
        start = self.start
        p = np.where(state.unit_on, np.clip(start.unit_p_mw + move.unit_mw, self.low, self.high), 0.0)
        kept = 1.0 - np.divide(
            move.shed_mw, start.load_p_mw, out=np.zeros_like(move.shed_mw), where=start.load_p_mw > 0
        )
        return replace(state, unit_p_mw=p, load_p_mw=start.load_p_mw * kept, load_q_mvar=start.load_q_mvar * kept)
