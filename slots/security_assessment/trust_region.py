"""One round of the successive LP: proposals around a state, corrected by what the AC solution shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bos_core.grid.model import Snapshot
from slots.security_assessment.assessment import Assessment, Assessor
from slots.security_assessment.controls import held_buses
from slots.security_assessment.linear_step import Proposal, RedispatchProgram
from slots.security_assessment.linearisation import Linearisation, Monitored, Settings

_REACH_MIN = 1e-3
_SHRINK, _TIGHTEN, _GROW = 0.3, 0.6, 2.0
"""What becomes of the reach where no proposal helps, where only a corrected one does, where the first one does."""
_NEAR_REACH = 0.3
"""Largest reach from a state whose violations count less than its cost."""
_CORRECTIONS = 4
"""How often a proposal is corrected with the same linearisation,"""
_CONTRACTION = 0.6
"""as long as each correction brings what violations count down to this share."""


class TrustRegion:
    """Finds better states round by round and remembers how far a step may go.

    Parameters
    ----------
    assessor : Assessor
    watch_loading : float
        Branches above this share of their limit are watched.

    Attributes
    ----------
    reach : float
        Part of its range, or of the largest step, that a control may move, up to 1.
    """

    def __init__(self, assessor: Assessor, watch_loading: float) -> None:
        self.assessor = assessor
        self.reach = 1.0
        self._watch_loading = watch_loading
        self._once_overloaded = np.zeros(assessor.grid.network.n_branch, dtype=np.bool_)

    def improved(self, state: Assessment, settings: Settings) -> Assessment | None:
        """Return a better state, or None where even the smallest step brings none.

        The reach shrinks until a step helps; a state that is secure already has one try.
        """
        step = Linearisation(self.assessor, state, settings)
        monitored = Monitored.nothing(state.network.n_branch, state.network.n_bus)
        monitored.branch |= self._once_overloaded
        monitored.look(self.assessor, state, self._watch_loading)
        step.watch(monitored)
        shrunk = False
        while self.reach >= _REACH_MIN:
            best, at_once = self._best_proposal(step, monitored)
            if best is not None:
                self.reach = min(1.0, self.reach * _GROW) if at_once and not shrunk else self.reach * _TIGHTEN
                if best.merit_eur_per_h - best.cost_eur_per_h < best.cost_eur_per_h:
                    self.reach = min(self.reach, _NEAR_REACH)
                return best
            if self._secure(state):
                break
            self.reach *= _SHRINK
            shrunk = True
        return None

    def _best_proposal(self, step: Linearisation, monitored: Monitored) -> tuple[Assessment | None, bool]:
        """Return the best state found within the reach, and whether the first proposal was better already.

        A proposal is corrected by what its AC solution shows: limits that it broke unseen, and by how much the
        linearisation was wrong (second-order correction). Who runs and where taps stand is decided once more if
        the first proposal is no better, then stays.
        """
        state = step.state
        best: Assessment | None = None
        proposal: Proposal | None = None
        decided: Proposal | None = None
        error, last, at_once = np.zeros(step.limits().value.size), np.inf, False
        for attempt in range(1 + _CORRECTIONS):
            proposal = RedispatchProgram(step, self.reach, error, proposal).solve(decided)
            trial = self._solved(proposal.snapshot)
            if trial is None:
                break
            if self._better(trial, best or state):
                best = trial
            penalty = trial.merit_eur_per_h - trial.cost_eur_per_h
            if attempt == 0:
                at_once = best is not None
            if self._secure(trial) or penalty > _CONTRACTION * last:
                break
            last = penalty
            decided = proposal if at_once or attempt else None
            error = step.measured(step.limits(), trial) - proposal.predicted
            self._watch_broken(step, monitored, trial)
            error = np.concatenate([error, np.zeros(step.limits().value.size - error.size)])
        return best, at_once

    def _solved(self, snapshot: Snapshot) -> Assessment | None:
        """Solve a proposal; units that have just started then hold the voltage that their reactive power makes."""
        assessor = self.assessor
        trial = assessor.assess(snapshot, warm=True)
        units = assessor.grid.units
        free = units.voltage_control & snapshot.unit_on & ~np.isfinite(snapshot.unit_vm_set_pu)
        if trial is None or not free.any():
            return trial
        vm_set = np.where(free, trial.solution.vm_pu[units.bus], snapshot.unit_vm_set_pu)
        return assessor.assess(replace(trial.snapshot, unit_vm_set_pu=vm_set), warm=True)

    def _watch_broken(self, step: Linearisation, monitored: Monitored, trial: Assessment) -> None:
        """Watch what a trial breaks, overloaded branches in later rounds as well."""
        assessor = self.assessor
        self._once_overloaded |= trial.loading > assessor.inputs.loading_max
        monitored.look(assessor, trial, 1.0)
        monitored.reactive |= held_buses(assessor, step.state) & ~held_buses(assessor, trial)
        step.watch(monitored)

    def _secure(self, state: Assessment) -> bool:
        return state.secure(self.assessor.inputs.loading_max)

    def _better(self, trial: Assessment, state: Assessment) -> bool:
        """Whether a trial is secure where the state is not, or else better by the figure of merit."""
        secure = self._secure(trial)
        if secure != self._secure(state):
            return secure
        return trial.merit_eur_per_h < state.merit_eur_per_h * (1 - 1e-9)
