"""What is known of a commitment before any optimisation: outages, prescriptions, running minimum times."""

from __future__ import annotations

import numpy as np

from bos_core.grid.model import BoolArray, IntArray
from bos_core.grid.schedule import PeriodLimits
from bos_core.objects.errors import Finding, InputError
from slots.unit_commitment.contract import FREE, Inputs


def validate(inputs: Inputs) -> None:
    """Raise InputError with everything about the horizon that contradicts itself."""
    findings: list[Finding] = []
    storages, units = inputs.grid.storages, inputs.grid.units
    energy = inputs.storage_initial_mwh
    wrong = (energy > storages.energy_mwh_max + 1e-6) | (energy < storages.energy_mwh_min - 1e-6)
    if wrong.any():
        findings.append(
            Finding(
                "storage",
                tuple(map(str, storages.id[wrong])),
                "starts outside its energy limits",
                "give an initial energy between energy_mwh_min and energy_mwh_max",
                "storage_initial_mwh",
            )
        )
    if inputs.period_h < 1:
        findings.append(Finding("option", (), f"is {inputs.period_h}", "give whole hours, at least 1", "period_h"))
    if not 0 <= inputs.look_ahead < inputs.load_p_mw.shape[0]:
        problem = f"is {inputs.look_ahead} of {inputs.load_p_mw.shape[0]} periods"
        findings.append(Finding("option", (), problem, "leave at least one period to decide", "look_ahead"))
    off = ~np.isfinite(inputs.initial_p_mw[inputs.initial_on & units.committable])
    if off.any() and not inputs.free_start:
        findings.append(Finding("unit", (), "is on with unknown output", "give initial_p_mw", "initial_p_mw"))
    if findings:
        raise InputError(tuple(findings))


def prescribed(inputs: Inputs) -> IntArray:
    """Return the commitment that is already known, (period, unit): 1 on, 0 off, -1 free.

    In this order: a unit out of service is off; `fixed_on` holds; the minimum time that is still running at the
    start holds (not for relaxed units); a must-run unit is on. Units that are not committable are on while in
    service.
    """
    units, n_period = inputs.grid.units, inputs.load_p_mw.shape[0]
    known = np.where(units.must_run, 1, FREE) * np.ones((n_period, 1), np.int64)
    if not inputs.free_start:
        running = np.where(inputs.initial_on, units.min_up_h, units.min_down_h) - np.abs(inputs.initial_h)
        locked = (np.arange(n_period)[:, None] * inputs.period_h < running) & inputs.integer
        known = np.where(locked, inputs.initial_on.astype(np.int64)[None, :], known)
    known = np.where(inputs.fixed_on != FREE, inputs.fixed_on, known)
    known = np.where(units.committable[None, :], known, 1)
    return np.asarray(np.where(inputs.in_service, known, 0), dtype=np.int64)


def contradicts_minimum_times(known: IntArray, inputs: Inputs, limits: PeriodLimits) -> BoolArray:
    """Return the units, (unit,), whose known commitment cannot keep its own minimum times.

    Their minimum times are left out of the models, as prescriptions and outages prevail.
    """
    before = inputs.initial_on.astype(np.int64) if not inputs.free_start else np.full(known.shape[1], FREE)
    path = np.vstack([before[None, :], known])
    found = np.zeros(known.shape[1], bool)
    for now, then, least in ((1, 0, limits.min_up), (0, 1, limits.min_down)):
        since = np.full(known.shape[1], -1)
        for t in range(1, path.shape[0]):
            since = np.where((path[t] == now) & (path[t - 1] == then), t, since)
            found |= (path[t] == then) & (since >= 0) & (t - since < least)
            since = np.where(path[t] == then, -1, since)
    return found
