"""Long horizons as a chain of windows: each is decided with a look at what follows, then fixed.

The time of a linear program grows faster than its horizon, and a decision hardly depends on what lies a week
ahead. The cost is that of the whole horizon, dispatched at once with all decisions fixed. The bound is the sum of
the windows' relaxations with everything that couples them left free (state before the window, storage energy,
energy budgets), so that it holds for the whole horizon.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bos_core.grid.model import BoolArray, FloatArray, IntArray
from slots.linear_model import LinearModel, Session
from slots.unit_commitment.contract import Inputs, Outputs
from slots.unit_commitment.outline import Outline
from slots.unit_commitment.search import TIMED_OUT, Search, SearchLimits

log = logging.getLogger(__name__)
LOOK_AHEAD_H = 24
"""How far a window looks beyond what it decides."""
WINDOW_PERIODS = 18
"""Periods of a window with its look-ahead; it decides at least as long as it looks ahead."""
_SERIES = ("load_p_mw", "available_mw", "in_service", "reserve_up_mw", "reserve_down_mw", "fixed_on")


@dataclass(frozen=True, eq=False)
class _State:
    """What one window hands to the next."""

    on: BoolArray
    hours: IntArray
    p_mw: FloatArray
    energy_mwh: FloatArray
    budget_mwh: FloatArray
    free: bool


def commit(
    inputs: Inputs, open_session: Callable[[LinearModel], Session], limits: SearchLimits, window_periods_max: int
) -> Outputs:
    """Commit a horizon at once, or in windows if it has more periods than `window_periods_max`."""
    n_period = inputs.load_p_mw.shape[0]
    if n_period <= window_periods_max:
        return Search(inputs, open_session, limits).run()
    ahead = -(-LOOK_AHEAD_H // inputs.period_h)
    decided = max(min(WINDOW_PERIODS, window_periods_max) - ahead, min(ahead, window_periods_max), 1)
    count = -(-n_period // decided)
    edges = np.linspace(0, n_period, count + 1).round().astype(int)
    # There are many windows: only small ones may take a MIP.
    short = replace(limits, mip_binaries_max=limits.mip_binaries_max // 4)
    state = _State(
        inputs.initial_on,
        inputs.initial_h,
        inputs.initial_p_mw,
        inputs.storage_initial_mwh,
        inputs.energy_mwh_max,
        inputs.free_start,
    )
    found = limits.outline(inputs, open_session)
    on = np.zeros(inputs.available_mw.shape, bool)
    timed_out = False
    for first, stop in itertools.pairwise(edges.tolist()):
        last = min(stop + ahead, n_period)
        window = Search(_window(inputs, first, last, state), open_session, short, found.part(first, last))
        outputs = window.run()
        timed_out |= window.timed_out
        on[first:stop] = outputs.on[: stop - first]
        state = _after(inputs, state, outputs, stop - first)
        found.limits[first:stop] |= window.horizon.limits.generated[: stop - first]
        log.debug("periods %d to %d: gap %.2f %% within the window", first, stop - 1, 100 * outputs.gap)
    bound = 0.0
    for first, stop in itertools.pairwise(edges.tolist()):
        window = _bounding_window(inputs, first, stop, open_session, limits, found.part(first, stop))
        bound += window.relaxation_bound()
        timed_out |= window.timed_out
    decided = np.where(inputs.integer, on, inputs.fixed_on)
    whole = Search(replace(inputs, fixed_on=decided), open_session, limits, found)
    outputs = whole.dispatch(bound, f"decided in {count} windows")
    return replace(outputs, fallback=TIMED_OUT) if timed_out else outputs


def _window(inputs: Inputs, first: int, last: int, state: _State) -> Inputs:
    n_period = inputs.load_p_mw.shape[0]
    share = (last - first) / (n_period - first)
    return replace(
        inputs,
        **{name: getattr(inputs, name)[first:last] for name in _SERIES},
        look_ahead=0,
        free_start=state.free,
        initial_on=state.on,
        initial_h=state.hours,
        initial_p_mw=state.p_mw,
        energy_mwh_max=state.budget_mwh * share,
        storage_initial_mwh=state.energy_mwh,
    )


def _after(inputs: Inputs, state: _State, outputs: Outputs, count: int) -> _State:
    """Return the state after the first `count` periods of a window."""
    on = outputs.on[:count]
    changed = on[::-1] != on[-1]
    run = np.where(changed.any(0), changed.argmax(0), count)
    before = ~changed.any(0) & (state.on == on[-1]) & (not state.free)
    hours = run * inputs.period_h + np.where(before, np.abs(state.hours), 0)
    storages = inputs.grid.storages
    energy = np.clip(outputs.storage_energy_mwh[count - 1], storages.energy_mwh_min, storages.energy_mwh_max)
    used = outputs.p_mw[:count].sum(0) * inputs.period_h
    return _State(
        on[-1],
        np.where(on[-1], hours, -hours),
        outputs.p_mw[count - 1],
        energy,
        np.maximum(state.budget_mwh - used, 0.0),
        False,
    )


def _bounding_window(
    inputs: Inputs,
    first: int,
    stop: int,
    open_session: Callable[[LinearModel], Session],
    limits: SearchLimits,
    found: Outline,
) -> Search:
    """Return a search whose relaxation holds whatever happens before and after; `found` is its outline."""
    start = _State(
        inputs.initial_on,
        inputs.initial_h,
        inputs.initial_p_mw,
        inputs.storage_initial_mwh if first == 0 else np.full(inputs.grid.storages.id.size, np.nan),
        np.full(inputs.grid.units.n, np.inf),
        inputs.free_start or first > 0,
    )
    window = _window(inputs, first, stop, start)
    ends = stop == inputs.load_p_mw.shape[0]
    final = inputs.storage_final_mwh if ends else np.zeros_like(inputs.storage_final_mwh)
    return Search(replace(window, storage_final_mwh=final), open_session, limits, found)
