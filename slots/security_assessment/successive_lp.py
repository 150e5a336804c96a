"""Security assessment with iterative adjustment by successive linear programming.

Every round solves the AC power flow, linearises it by adjoint sensitivities, and moves units, load, voltage set
points, taps and reactive sources at least cost. The LP is corrected a few times by what its AC solution shows. A
step counts only when the figure of merit (cost and priced violations) falls, or when it makes the state secure;
otherwise the trust region shrinks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from pydantic import Field

from bos_core.grid.elimination import elimination_of
from bos_core.grid.model import FloatArray, IntArray, Snapshot
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.security_assessment.assessment import Assessment, Assessor, Prices
from slots.security_assessment.contract import Inputs, Outputs
from slots.security_assessment.initial_state import merit_order_snapshot, with_set_points
from slots.security_assessment.linearisation import Settings
from slots.security_assessment.trust_region import TrustRegion

_log = logging.getLogger(__name__)


class Parameters(ProgramParameters):
    """Parameters of the successive LP."""

    rounds_max: int = Field(25, ge=0, le=200)
    """Largest number of accepted rounds."""
    loss_share: float = Field(0.02, ge=0, le=0.2)
    """Losses as a share of load, for the merit-order start only."""
    overload_eur_per_mvah: float = Field(100_000.0, gt=0)
    """Price of an overload: load is shed where that removes more than shed price / this price in MVA per MW."""
    voltage_eur_per_pu_h: float = Field(10_000_000.0, gt=0)
    """Price of the worst voltage of a galvanic subnet outside its limits."""
    reactive_eur_per_mvarh: float = Field(1_000.0, gt=0)
    """Price of reactive power beyond a unit's range."""
    watch_loading: float = Field(0.6, gt=0, le=1)
    """Branches above this share of their limit are watched by the LP."""
    loading_margin: float = Field(0.001, ge=0, le=0.1)
    """Distance that the LP keeps from loading limits, so that the AC solution meets them."""
    voltage_margin_pu: float = Field(0.0002, ge=0, le=0.02)
    """Distance that the LP keeps from voltage limits."""
    reactive_margin: float = Field(0.002, ge=0, le=0.2)
    """Distance that the LP keeps from reactive limits, as a share of the range, at most 1 Mvar."""
    move_eur_per_mwh: float = Field(5.0, ge=0)
    """Price of moving a unit away from where it is, from the second round on."""
    vm_step_pu: float = Field(0.03, gt=0, le=0.2)
    """Largest change of a voltage set point in one round."""
    tap_steps: float = Field(4.0, ge=0)
    """Largest change of a tap in one round."""
    candidates: int = Field(60, ge=1)
    """Loads and variable units that enter the LP for each violated limit, the most effective ones."""
    gain_min: float = Field(1e-2, gt=0, lt=1)
    """The rounds of a secure state end when one improves the figure of merit by less than this share."""


MANIFEST = ProgramManifest(
    name="successive_lp",
    slot="security_assessment",
    version="1.0.0",
    title="Successive linear programming",
    description=(
        "Adjusts a snapshot until AC power flow, loading, voltage and reactive criteria hold, at least cost: "
        "redispatch, commitment, curtailment, load shedding, voltage set points, taps and shunts."
    ),
    parameters=Parameters,
    references=(
        "O. Alsac, J. Bright, M. Prais, B. Stott, Further developments in LP-based optimal power flow, "
        "IEEE Trans. Power Systems 5, 1990",
    ),
)

_RESTARTS, _RESTART_REACH = 2, 0.3
"""How often a state that is stuck before it is secure or sheds no load is tried with a wide trust region again."""
_PENALTY_SHARE = 0.05
"""A state is stuck when a round takes away less than this share of what its violations count."""


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Adjust the snapshot."""
    grid = inputs.grid
    prices = Prices(
        parameters.overload_eur_per_mvah,
        parameters.voltage_eur_per_pu_h,
        inputs.shed_eur_per_mwh,
        parameters.reactive_eur_per_mvarh,
    )
    assessor = Assessor(inputs, elimination_of(grid.network), prices)
    start = inputs.snapshot
    if not start.unit_on.any():
        start = merit_order_snapshot(
            grid, start, inputs.available_mw, inputs.unit_in_service, parameters.loss_share
        )
    start = with_set_points(grid, start)
    first = _solved(assessor, start)
    log: list[Assessment | None] = [first]
    state = first or _recovered(assessor, start, parameters)
    if state is None:
        _log.warning("no power-flow solution, not even with all load shed")
        return _outputs(assessor, log, start)
    if first is None:
        log.append(state)
    region, restarts = TrustRegion(assessor, parameters.watch_loading), 0
    for number in range(1, parameters.rounds_max + 1):
        move = 0.0 if number == 1 else parameters.move_eur_per_mwh
        improved = region.improved(state, _settings(parameters, move))
        worthwhile = _worthwhile(state, inputs, parameters)
        gain = -np.inf
        if improved is not None:
            newly_secure = improved.secure(inputs.loading_max) and not state.secure(inputs.loading_max)
            gain = np.inf if newly_secure else state.merit_eur_per_h - improved.merit_eur_per_h
            state = improved
            log.append(state)
            _report(number, assessor, state, region.reach)
        if gain <= worthwhile:
            satisfied = state.secure(inputs.loading_max) and not assessor.shed(state.snapshot).any()
            if satisfied or restarts == _RESTARTS:
                break
            region.reach, restarts = _RESTART_REACH, restarts + 1
    return _outputs(assessor, log, state.snapshot)


def _worthwhile(state: Assessment, inputs: Inputs, parameters: Parameters) -> float:
    """Return the gain below which rounds are at their end, EUR/h: of the cost, or of what violations count."""
    gain = parameters.gain_min * abs(state.merit_eur_per_h)
    if state.secure(inputs.loading_max):
        return gain
    return min(gain, _PENALTY_SHARE * (state.merit_eur_per_h - state.cost_eur_per_h))


def _settings(parameters: Parameters, move_eur_per_mwh: float) -> Settings:
    return Settings(
        parameters.loading_margin,
        parameters.voltage_margin_pu,
        parameters.reactive_margin,
        move_eur_per_mwh,
        parameters.vm_step_pu,
        parameters.tap_steps,
        parameters.candidates,
    )


def _solved(assessor: Assessor, snapshot: Snapshot) -> Assessment | None:
    return assessor.assess(snapshot, warm=False) or assessor.assess(snapshot, warm=True)


def _recovered(assessor: Assessor, start: Snapshot, parameters: Parameters) -> Assessment | None:
    """Shed as little of all load as makes the power flow solvable; the rounds give back what they can."""
    inputs, grid = assessor.inputs, assessor.grid
    served = np.where(grid.loads.sheddable & (start.load_p_mw > 0), 1.0, 0.0)
    for part in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0):
        left = 1.0 - served * (1.0 - part)
        lighter = replace(start, load_p_mw=start.load_p_mw * left, load_q_mvar=start.load_q_mvar * left)
        lighter = merit_order_snapshot(
            grid, lighter, inputs.available_mw, inputs.unit_in_service, parameters.loss_share
        )
        state = _solved(assessor, lighter)
        if state is not None:
            _log.warning("the snapshot has no power-flow solution; started with %.0f %% of the load", 100 * part)
            return state
    return None


def _report(number: int, assessor: Assessor, state: Assessment, reach: float) -> None:
    _log.info(
        "round %d: merit %.6g EUR/h, loading %.1f %%, %d overloads, %d voltages, shed %.1f MW, reach %.2g",
        number,
        state.merit_eur_per_h,
        100 * state.loading.max(initial=0.0),
        (state.loading > assessor.inputs.loading_max).sum(),
        ((state.low_pu > 0) | (state.high_pu > 0)).sum(),
        assessor.shed(state.snapshot).sum(),
        reach,
    )


def _outputs(assessor: Assessor, log: list[Assessment | None], snapshot: Snapshot) -> Outputs:
    inputs, last = assessor.inputs, log[-1]
    before = [None, *log[:-1]]
    over = np.zeros(0, np.int64) if last is None else np.flatnonzero(last.loading > inputs.loading_max)
    outside = np.zeros(0, np.int64) if last is None else np.flatnonzero((last.low_pu > 0) | (last.high_pu > 0))

    def each(measure: Callable[[Assessment], float], missing: float = np.nan) -> FloatArray:
        return np.array([missing if s is None else float(measure(s)) for s in log])

    def count(measure: Callable[[Assessment], float]) -> IntArray:
        return each(measure, 0.0).astype(np.int64)

    def moved(state: Assessment, old: Assessment | None) -> float:
        if old is None:
            return 0.0
        running = [np.where(s.snapshot.unit_on, s.snapshot.unit_p_mw, 0.0) for s in (state, old)]
        return float(np.abs(running[0] - running[1]).sum() / 2)

    def taps(state: Assessment, old: Assessment | None) -> int:
        return 0 if old is None else int(np.abs(state.snapshot.tap - old.snapshot.tap).sum())

    pairs = list(zip(log, before, strict=True))
    return Outputs(
        snapshot=snapshot,
        converged=last is not None,
        accepted=last is not None and last.secure(inputs.loading_max),
        round_merit_eur_per_h=each(lambda s: s.merit_eur_per_h),
        round_loading_max=each(lambda s: s.loading.max(initial=0.0)),
        round_overloaded=count(lambda s: (s.loading > inputs.loading_max).sum()),
        round_vm_min_pu=each(lambda s: s.solution.vm_pu.min()),
        round_vm_max_pu=each(lambda s: s.solution.vm_pu.max()),
        round_voltage_violations=count(lambda s: ((s.low_pu > 0) | (s.high_pu > 0)).sum()),
        round_q_violations=count(lambda s: s.q_violations()),
        round_residual_pu=each(lambda s: s.solution.residual_pu),
        round_moved_mw=np.array([0.0 if s is None else moved(s, old) for s, old in pairs]),
        round_curtailed_mw=each(lambda s: assessor.curtailed(s.snapshot).sum(), 0.0),
        round_shed_mw=each(lambda s: assessor.shed(s.snapshot).sum(), 0.0),
        round_taps_moved=np.array([0 if s is None else taps(s, old) for s, old in pairs], dtype=np.int64),
        load_shed_mw=assessor.shed(snapshot),
        overloaded_branch=over,
        overloaded_loading=np.zeros(0) if last is None else last.loading[over],
        violated_bus=outside,
        violated_vm_pu=np.zeros(0) if last is None else last.solution.vm_pu[outside],
        slack_excess_mw=0.0 if last is None else last.slack_excess_mw,
    )
