"""Adjustment under N-1 by redispatch on linear cuts, checked by AC power flow of every outage each round."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from bos_core.grid import power_flow
from bos_core.grid.elimination import elimination_of
from bos_core.grid.injections import bus_injections, sum_by_bus, update_snapshot
from bos_core.grid.model import FloatArray, IntArray, Snapshot, stack
from bos_core.grid.n1 import DIVERGED as OUTAGE_DIVERGED
from bos_core.grid.n1 import Criteria, verify_outages
from bos_core.grid.n1_cases import CRITERION_TOLERANCE
from bos_core.grid.optimal_flow_barrier import solve_from_power_flow
from bos_core.grid.optimal_flow_reactive import OPTIMAL, SOFT, Limits, ReactiveDispatch, ReactiveOptions
from bos_core.grid.schedule import production_cost_eur_per_h
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.state_adjustment.contract import DIVERGED, RELAXED, SECURE, Inputs, Outputs
from slots.state_adjustment.cuts import (
    BASE_CASE,
    BaseFlows,
    Known,
    OutageFactors,
    Pairs,
    estimated_loading,
    linearise,
    threatened,
    worst_pairs,
)
from slots.state_adjustment.redispatch_model import Move, least_cost_move, marginal_prices
from slots.state_adjustment.shedding import least_shedding

logger = logging.getLogger(__name__)

_PASSES = 2
_VOLTAGE_ROUNDS = 2
_DIVERGED_EXCESS = 10.0
_LEAST_PROMISE, _LEAST_IMPROVEMENT = 0.0003, 0.003
"""A round that promises by its cuts, or takes away, less than this share of the excess is the last, and so is one
that adds less. Outages without a solution do not count as excess here."""
_BALANCE_PASSES = 3
_BALANCE_TOLERANCE_MW = 0.01
_NO_PAIRS = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


class Parameters(ProgramParameters):
    """What a planner may set."""

    rounds_max: int = Field(4, ge=1, le=20)
    """Rounds of redispatch and AC check of all outages."""
    outages_per_branch: int = Field(20, ge=1, le=1000)
    """Worst outages of a monitored branch that become cuts in a round."""
    cuts_max: int = Field(3000, ge=1, le=20_000)
    """Worst cuts of a round; the others wait for the next one."""
    watched_share: float = Field(0.97, ge=0.5, le=1.0)
    """Outages that load a branch above this share of its limit by estimate are cuts as well, unharmed so far."""
    loading_margin: float = Field(0.002, ge=0, le=0.2)
    """Loading kept free of the limit for what the linear cuts do not see."""
    base_margin: float = Field(0.012, ge=0, le=0.2)
    """The same before any outage: losses and voltages of every outage add a little to a branch that is full."""
    trust_share: float = Field(0.4, gt=0, le=1)
    """Most change of a unit in one round, as a share of its greatest power (and not less than of 100 MW)."""
    move_premium_eur_per_mwh: float = Field(1.0, ge=0, le=1e3)
    """Added to every MW moved, so that nothing moves without need."""
    improve_voltages: bool = True
    """Dispatch reactive power anew, within tighter limits, where voltages after an outage leave their limits."""
    voltage_margin_pu: float = Field(0.002, ge=0, le=0.05)
    """Added to those tighter limits."""
    enforce_q_limits: bool = True
    """Whether voltage control ends at reactive limits in the AC checks."""


MANIFEST = ProgramManifest(
    name="security_constrained_redispatch",
    slot="state_adjustment",
    version="1.0.0",
    title="Security-constrained redispatch",
    description="Turns violations into linear cuts corrected by AC results, moves units at least cost, sheds or "
    "relaxes at a price where nothing else helps, tightens voltages, and checks every outage by AC power flow "
    "each round.",
    parameters=Parameters,
    references=(
        "Stott, Alsac, Monticelli: Security analysis and optimization, 1987",
        "Stott, Jardim, Alsac: DC power flow revisited, 2009",
    ),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Adjust every hour on its own."""
    tools = _Tools(inputs, parameters)
    hours = [tools.adjust(position) for position in range(inputs.states.vm_pu.shape[0])]
    instead = [tools.shedding_instead(position, hour) for position, hour in enumerate(hours)]
    return _collected(inputs, hours, instead)


@dataclass(frozen=True, eq=False)
class _Check:
    """What an AC check of one state found; outages by branch, base case -1."""

    overloads: Pairs
    voltage_outage: IntArray
    voltage_bus: IntArray
    voltage_vm_pu: FloatArray
    diverged: IntArray

    def outages(self) -> IntArray:
        """Return the outages that violate something or diverge."""
        named = np.concatenate([self.overloads.outage, self.voltage_outage, self.diverged])
        return np.unique(named[named != BASE_CASE])


@dataclass(frozen=True, eq=False)
class _Hour:
    """The adjusted state of one hour and its remaining violations."""

    state: Snapshot
    outcome: int
    rounds: int
    residual_pu: float
    shed_mw: FloatArray
    check: _Check


def loading_limits(inputs: Inputs, pairs: Pairs) -> FloatArray:
    """Return the loading limit of each pair."""
    base = pairs.outage == BASE_CASE
    return np.where(base, inputs.loading_max[pairs.branch], inputs.loading_contingency_max[pairs.branch])


def voltage_excess(inputs: Inputs, check: _Check) -> FloatArray:
    """Return how far each listed voltage is outside its limits: negative below, positive above."""
    bus, vm, base = check.voltage_bus, check.voltage_vm_pu, check.voltage_outage == BASE_CASE
    low = np.where(base, inputs.vm_pu_min[bus], inputs.vm_contingency_pu_min[bus])
    high = np.where(base, inputs.vm_pu_max[bus], inputs.vm_contingency_pu_max[bus])
    return np.minimum(vm - low, 0.0) + np.maximum(vm - high, 0.0)


class _Tools:
    """What all hours of a block share, and the steps of one hour."""

    def __init__(self, inputs: Inputs, parameters: Parameters) -> None:
        self.inputs, self.parameters, self.grid = inputs, parameters, inputs.grid
        self.elimination = elimination_of(inputs.grid.network)
        self.factors = OutageFactors(inputs.grid.network)
        self.reactive = ReactiveDispatch(
            inputs.grid,
            Limits(inputs.vm_pu_min, inputs.vm_pu_max, inputs.loading_max),
            ReactiveOptions(distribute_balance=False),
            solve_from_power_flow,
        )
        self.criteria = Criteria(
            inputs.vm_contingency_pu_min, inputs.vm_contingency_pu_max, inputs.loading_contingency_max
        )

    # --- one hour

    def adjust(self, position: int) -> _Hour:
        """Adjust one hour: redispatch, solve, check, until nothing is left or nothing gets better.

        Rounds check the outages in question, at first those that the caller found to violate something; a full
        check follows, and once more rounds for what it adds.
        """
        inputs, parameters = self.inputs, self.parameters
        given = inputs.states.hour(position)
        low, high = inputs.p_mw_low[position], inputs.p_mw_high[position]
        nothing_shed = np.zeros(self.grid.loads.n)
        state, residual = self._solved(given, low, high)
        if state is None:
            nothing = _Check(Pairs(*_NO_PAIRS), *_NO_PAIRS, np.zeros(0, np.int64))
            return _Hour(given, DIVERGED, 0, residual, nothing_shed, nothing)
        everything, listed = inputs.contingency_branch, self._listed(position)
        suspects = self._suspects(position, state)
        given_state = _Hour(state, SECURE, 0, residual, nothing_shed, self._checked(state, suspects))
        best, limits = given_state, (inputs.vm_pu_min, inputs.vm_pu_max)
        for number in range(_PASSES):
            tried = self._redispatched(best, listed, suspects, low, high)
            if tried.check.voltage_bus.size and parameters.improve_voltages:
                tried, limits = self._with_better_voltages(tried, suspects, low, high, limits)
            if tried is best and number:
                break
            best = replace(tried, check=self._checked(tried.state, everything))
            seen, suspects = suspects, np.union1d(suspects, best.check.outages())
            if suspects.size == seen.size:
                break
        if self._score(best.check) > self._score(given_state.check):  # of the suspects alone
            given_state = replace(given_state, check=self._checked(state, everything))
            if self._score(best.check) > self._score(given_state.check):
                best = given_state
        return replace(best, outcome=SECURE if self._score(best.check) == 0.0 else RELAXED)

    def _suspects(self, position: int, state: Snapshot) -> IntArray:
        """Return the outages that the caller listed for an hour, and those that load a branch nearly fully."""
        inputs = self.inputs
        near = threatened(
            self.factors, self._base(state), inputs.contingency_branch, inputs.loading_contingency_max,
            self.parameters.watched_share, self.parameters.outages_per_branch,
        )  # fmt: skip
        voltage = inputs.voltage_outage[inputs.voltage_hour == position]
        named = np.concatenate([self._listed(position).outage, voltage, near.outage])
        return np.unique(named[named != BASE_CASE])

    def _redispatched(
        self, best: _Hour, listed: Pairs, suspects: IntArray, low: FloatArray, high: FloatArray
    ) -> _Hour:
        """Move from the best state so far; a round that makes things worse is undone and halves the trust."""
        trust, score = self.parameters.trust_share, self._score(best.check)
        known = self._known(best, Known(listed, np.ones(listed.outage.size)))
        first = best.rounds + 1
        for number in range(first, first + self.parameters.rounds_max):
            if not best.check.overloads.outage.size:
                break
            move, promised = self._move(best, known, low, high, trust)
            removable = score - _DIVERGED_EXCESS * best.check.diverged.size
            if promised < _LEAST_PROMISE * removable:
                break
            solved, residual = self._solved(self._moved(best.state, move, low, high), low, high)
            if solved is None:
                trust *= 0.5
                continue
            check = self._checked(solved, suspects)
            trial = _Hour(solved, SECURE, number, residual, best.shed_mw + move.shed_mw, check)
            known, now = self._known(trial, known), self._score(check)
            logger.debug("round %d: excess %.4f, then %.4f", number, score, now)
            if now >= score:
                if now - score < _LEAST_IMPROVEMENT * removable:
                    break
                trust *= 0.5
                continue
            enough = score - now < _LEAST_IMPROVEMENT * removable
            best, score = trial, now
            if enough:
                break
        return best

    def _with_better_voltages(
        self,
        best: _Hour,
        suspects: IntArray,
        low: FloatArray,
        high: FloatArray,
        limits: tuple[FloatArray, FloatArray],
    ) -> tuple[_Hour, tuple[FloatArray, FloatArray]]:
        """Dispatch reactive power within limits tightened by what the outages do to the voltages.

        The limits reached are returned too: the next pass goes on from them.
        """
        score, trial = self._score(best.check), best
        for _ in range(_VOLTAGE_ROUNDS):
            limits = self._tightened(trial, limits)
            solved, residual = self._solved(self._reactive(best.state, limits), low, high)
            if solved is None:
                break
            check = self._checked(solved, suspects)
            trial = replace(best, state=solved, residual_pu=residual, rounds=trial.rounds + 1, check=check)
            now = self._score(trial.check)
            logger.debug("voltages: excess %.4f, then %.4f", score, now)
            if now < score:
                best, score = trial, now
            if not trial.check.voltage_bus.size:
                break
        return best, limits

    def _score(self, check: _Check) -> float:
        """Sum of excesses: loadings, voltages in units of 10 %, and a large one for each outage that diverges."""
        loading = np.maximum(check.overloads.loading - loading_limits(self.inputs, check.overloads), 0.0)
        voltage = np.abs(voltage_excess(self.inputs, check))
        return float(loading.sum() + 10.0 * voltage.sum()) + _DIVERGED_EXCESS * check.diverged.size

    # --- power flow

    def _solved(self, state: Snapshot, low: FloatArray, high: FloatArray) -> tuple[Snapshot | None, float]:
        """Return the AC solution; the balance goes to running units with room, the rest to the slack bus."""
        grid, injections = self.grid, bus_injections(self.grid, state)
        network, start = power_flow.network_at(grid, state), state.vm_pu * np.exp(1j * state.va_rad)
        for left in reversed(range(_BALANCE_PASSES)):
            solution = power_flow.solve(
                network,
                injections,
                start,
                enforce_q_limits=self.parameters.enforce_q_limits,
                elimination=self.elimination,
            )
            if solution.outcome == power_flow.DIVERGED:
                return None, float(solution.residual_pu)
            balance = float(solution.p_slack_pu.sum()) * network.base_mva
            change = self._spread(state.unit_p_mw, balance, low, high) - state.unit_p_mw
            if not left or np.abs(change).max(initial=0.0) < _BALANCE_TOLERANCE_MW:
                break
            state, start = replace(state, unit_p_mw=state.unit_p_mw + change), solution.v_pu
            moved = sum_by_bus(grid.units.bus, change, network.n_bus) / network.base_mva
            injections = replace(injections, p_pu=injections.p_pu + moved)
        solved = update_snapshot(
            grid, state, solution.vm_pu, solution.va_rad, solution.p_slack_pu, solution.q_control_pu
        )
        return solved, float(solution.residual_pu)

    def _spread(self, p: FloatArray, balance_mw: float, low: FloatArray, high: FloatArray) -> FloatArray:
        units = self.grid.units
        end = high if balance_mw > 0 else low
        room = np.where(units.variable, 0.0, np.maximum((end - p) * np.sign(balance_mw), 0.0))
        total = float(room.sum())
        if total <= 0.0:
            return p
        moved: FloatArray = p + np.sign(balance_mw) * room * min(1.0, abs(balance_mw) / total)
        return moved

    # --- violations

    def _listed(self, position: int) -> Pairs:
        """Return the overloads that the caller listed for an hour."""
        inputs = self.inputs
        mine = inputs.overload_hour == position
        return Pairs(inputs.overload_outage[mine], inputs.overload_branch[mine], inputs.overload_loading[mine])

    def _with_base(self, check: _Check, state: Snapshot) -> _Check:
        """Add the base-case violations of a state."""
        inputs = self.inputs
        network = power_flow.network_at(self.grid, state)
        loading = network.loading(state.vm_pu * np.exp(1j * state.va_rad))
        over = np.flatnonzero(loading > inputs.loading_max + CRITERION_TOLERANCE)
        base = Pairs(np.full(over.size, BASE_CASE), over, loading[over])
        vm = state.vm_pu
        off = (vm < inputs.vm_pu_min - CRITERION_TOLERANCE) | (vm > inputs.vm_pu_max + CRITERION_TOLERANCE)
        bus = np.flatnonzero(off)
        after = check.voltage_outage != BASE_CASE
        return replace(
            check,
            overloads=base.joined(check.overloads),
            voltage_outage=np.concatenate([np.full(bus.size, BASE_CASE), check.voltage_outage[after]]),
            voltage_bus=np.concatenate([bus, check.voltage_bus[after]]),
            voltage_vm_pu=np.concatenate([vm[bus], check.voltage_vm_pu[after]]),
        )

    def _checked(self, state: Snapshot, outage: IntArray) -> _Check:
        """Solve some outages of a state."""
        result = verify_outages(
            self.grid,
            state.block(),
            outage,
            self.criteria,
            enforce_q_limits=self.parameters.enforce_q_limits,
        )
        over, volt = result.overloads, result.voltages
        check = _Check(
            overloads=Pairs(outage[over.contingency], over.element, over.value),
            voltage_outage=outage[volt.contingency],
            voltage_bus=volt.element,
            voltage_vm_pu=volt.value,
            diverged=outage[result.extremes.outcome[0] == OUTAGE_DIVERGED],
        )
        return self._with_base(check, state)

    def _known(self, hour: _Hour, known: Known) -> Known:
        """Return the pairs found so far, with AC loading over estimate where they were found last."""
        base, found = self._base(hour.state), hour.check.overloads
        estimate = estimated_loading(self.factors, base, found.outage, found.branch)
        fresh = Known(found, np.clip(found.loading / np.maximum(estimate, 1e-3), 0.8, 2.0))
        return fresh.joined(known)

    def _present(self, hour: _Hour, known: Known) -> Pairs:
        """Return the violated pairs of a state, and other known ones by estimate, at their limits at most."""
        base, old = self._base(hour.state), known.pairs
        estimate = estimated_loading(self.factors, base, old.outage, old.branch) * known.correction
        old = Pairs(old.outage, old.branch, np.minimum(estimate, loading_limits(self.inputs, old)))
        return hour.check.overloads.joined(old)

    def _base(self, state: Snapshot) -> BaseFlows:
        return BaseFlows.of(power_flow.network_at(self.grid, state), state.vm_pu, state.va_rad)

    # --- moves

    def _move(
        self, hour: _Hour, known: Known, low: FloatArray, high: FloatArray, trust_share: float
    ) -> tuple[Move, float]:
        """Return the cheapest move that the cuts ask for, and the excess that it takes away as they have it."""
        inputs, parameters, grid, state = self.inputs, self.parameters, self.grid, hour.state
        base = self._base(state)
        watched = threatened(
            self.factors, base, inputs.contingency_branch, inputs.loading_contingency_max,
            parameters.watched_share, 2,
        )  # fmt: skip
        watched = replace(watched, loading=np.minimum(watched.loading, loading_limits(inputs, watched)))
        near = np.flatnonzero(base.loading > parameters.watched_share * inputs.loading_max)
        near_pairs = Pairs(np.full(near.size, BASE_CASE), near, base.loading[near])
        pairs = self._present(hour, known).joined(near_pairs).joined(watched)
        pairs = worst_pairs(
            pairs, loading_limits(inputs, pairs), parameters.outages_per_branch, parameters.cuts_max
        )
        cuts = linearise(
            self.factors, base, pairs, inputs.loading_max - parameters.base_margin,
            inputs.loading_contingency_max - parameters.loading_margin, grid.network.base_mva,
        )  # fmt: skip
        p, trust = state.unit_p_mw, np.maximum(trust_share * np.abs(grid.units.p_mw_max), 100.0 * trust_share)
        prices = marginal_prices(
            grid, p, inputs.shed_eur_per_mwh, inputs.overload_eur_per_mwh, parameters.move_premium_eur_per_mwh
        )
        down = np.where(state.unit_on, np.maximum(low - p, np.minimum(-trust, high - p)), 0.0)
        up = np.where(state.unit_on, np.minimum(high - p, np.maximum(trust, low - p)), 0.0)
        move = least_cost_move(grid, cuts, prices, down, up, state.load_p_mw)
        limit = loading_limits(inputs, pairs)
        excess = np.maximum(pairs.loading - limit, 0.0) - np.maximum(move.loading - limit, 0.0)
        return move, float(excess.sum())

    def _moved(self, state: Snapshot, move: Move, low: FloatArray, high: FloatArray) -> Snapshot:
        """Return the state with a move made; loads keep their power factor."""
        p = np.where(state.unit_on, np.clip(state.unit_p_mw + move.unit_mw, low, high), 0.0)
        kept = 1.0 - np.divide(
            move.shed_mw, state.load_p_mw, out=np.zeros_like(move.shed_mw), where=state.load_p_mw > 0
        )
        return replace(state, unit_p_mw=p, load_p_mw=state.load_p_mw * kept, load_q_mvar=state.load_q_mvar * kept)

    def shedding_instead(self, position: int, hour: _Hour) -> FloatArray:
        """Return the load that would have to be shed to remove each overload left, alone; (overload,) in MW."""
        inputs, grid, state, pairs = self.inputs, self.grid, hour.state, hour.check.overloads
        cuts = linearise(
            self.factors, self._base(state), pairs, inputs.loading_max, inputs.loading_contingency_max,
            grid.network.base_mva,
        )  # fmt: skip
        return least_shedding(
            cuts.factor,
            pairs.loading - cuts.limit,
            grid.loads.bus,
            np.where(grid.loads.sheddable, np.maximum(state.load_p_mw, 0.0), 0.0),
            grid.units.bus,
            np.where(state.unit_on, np.maximum(state.unit_p_mw - inputs.p_mw_low[position], 0.0), 0.0),
        )

    # --- voltages

    def _tightened(self, hour: _Hour, limits: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Raise and lower base-case limits by what the outages take the voltages beyond theirs."""
        state, excess, bus = hour.state, voltage_excess(self.inputs, hour.check), hour.check.voltage_bus
        margin = self.parameters.voltage_margin_pu
        wanted = state.vm_pu[bus] - excess
        low, high = limits[0].copy(), limits[1].copy()
        np.maximum.at(low, bus[excess < 0], wanted[excess < 0] + margin)
        np.minimum.at(high, bus[excess > 0], wanted[excess > 0] - margin)
        middle = np.clip((low + high) / 2, self.inputs.vm_pu_min, self.inputs.vm_pu_max)
        crossed = low > high
        low, high = np.where(crossed, middle, low), np.where(crossed, middle, high)
        return np.minimum(low, self.inputs.vm_pu_max), np.maximum(high, self.inputs.vm_pu_min)

    def _reactive(self, state: Snapshot, limits: tuple[FloatArray, FloatArray]) -> Snapshot:
        """Dispatch reactive power within the tighter limits; active power stays."""
        dispatch = self.reactive.within(Limits(limits[0], limits[1], self.inputs.loading_max))
        answer = dispatch.hour(state)
        if answer.outcome not in {OPTIMAL, SOFT}:
            return state
        return replace(answer.state, unit_p_mw=state.unit_p_mw)


def _collected(inputs: Inputs, hours: list[_Hour], instead: list[FloatArray]) -> Outputs:
    """Join the hours, and what would have to be shed for each overload left, into the slot's outputs."""
    units, states = inputs.grid.units, inputs.states
    adjusted = stack([hour.state for hour in hours]) if hours else states
    change = np.where(adjusted.unit_on, adjusted.unit_p_mw - states.unit_p_mw, 0.0)
    shed = np.stack([hour.shed_mw for hour in hours]) if hours else np.zeros((0, inputs.grid.loads.n))
    curtailed = np.where(units.variable, np.maximum(-change, 0.0), 0.0)
    available = np.broadcast_to(units.p_mw_max, states.unit_p_mw.shape)
    before, after = (
        production_cost_eur_per_h(units, s.unit_on, s.unit_p_mw, available).sum(1) for s in (states, adjusted)
    )
    penalty = shed.sum(1) * inputs.shed_eur_per_mwh  # curtailment is part of the production cost
    relaxed = [_relaxations(inputs, k, hour, instead[k]) for k, hour in enumerate(hours)]
    columns = [np.concatenate(part) for part in zip(*relaxed, strict=True)] if relaxed else [np.zeros(0)] * 6
    whole = [column.astype(np.int64) for column in columns[:4]]
    return Outputs(
        states=adjusted,
        outcome=np.array([hour.outcome for hour in hours], np.int64),
        rounds=np.array([hour.rounds for hour in hours], np.int64),
        residual_pu=np.array([hour.residual_pu for hour in hours], np.float64),
        moved_mw=np.abs(change).sum(1) / 2,
        curtailed_mw=curtailed.sum(1),
        shed_mw=shed,
        cost_eur=after - before + penalty,
        relaxed_hour=whole[0],
        relaxed_outage=whole[1],
        relaxed_branch=whole[2],
        relaxed_bus=whole[3],
        relaxed_amount=columns[4].astype(np.float64),
        relaxed_shed_mw=columns[5].astype(np.float64),
    )


def _relaxations(inputs: Inputs, position: int, hour: _Hour, instead: FloatArray) -> tuple[np.ndarray, ...]:
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
