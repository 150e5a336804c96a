"""AC power flow of every hour that a scenario holds: results by hour, bus and branch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from bos_core.access.criteria import Criteria, criteria
from bos_core.access.given_states import GivenStates, Schedule, read_given_states
from bos_core.access.result_table import result_table
from bos_core.access.scenario_data import ScenarioReader
from bos_core.grid.model import BoolArray, FloatArray, IntArray
from bos_core.grid.power_flow import BranchFlows, branch_flows
from bos_core.objects.errors import Finding, OptionError
from bos_core.objects.task import Task
from flows.request import Horizon, PowerFlowRequest
from flows.step import Job, Step, StepRun, hour_blocks
from slots.power_flow.contract import CONVERGED, Inputs, Outputs

LIMIT_TOLERANCE = 1e-6
"""A voltage or loading counts as beyond its limit when it is beyond by this."""

ELEMENT_ROWS_MAX = 250_000_000
"""Rows of buses and branches that a run may keep, some 20 bytes each."""

BAND_PERCENT = (5, 50, 95)
"""Percentiles of the bus voltages that every hour keeps."""


def horizon_of(reader: ScenarioReader, request: PowerFlowRequest) -> tuple[GivenStates, Horizon]:
    """Return what states the version holds, and the hours to solve.

    Raises
    ------
    OptionError
        When hours are asked for that have no state.
    """
    given, label = GivenStates.of(reader), reader.version.label
    hours, wanted = given.hours, request.horizon
    if wanted is None:
        return given, Horizon(start_hour=hours.start, hours=hours.stop - hours.start)
    if given.schedule is Schedule.SNAPSHOT:
        problem = "holds no hourly states, only its snapshot"
        remedy = (
            "leave --hours and --start out to solve the snapshot, or make hourly states: bos run planning-chain"
        )
    elif wanted.start_hour < hours.start or wanted.stop_hour > hours.stop:
        problem = (
            f"holds hours {hours.start} to {hours.stop - 1}, not {wanted.start_hour} to {wanted.stop_hour - 1}"
        )
        remedy = "ask within them, or leave --hours and --start out for all of them"
    else:
        return given, wanted
    raise OptionError((Finding("scenario", (label,), problem, remedy),))


def plan(run: StepRun) -> list[Task]:
    """Blocks of hours; an hour is a subtask."""
    _, horizon = horizon_of(run.reader, run.request)
    _check_size(run, horizon)
    blocks = hour_blocks(run.request.model_copy(update={"horizon": horizon}))
    return [
        run.task("power_flow", "power_flow", f"hours={a:04d}-{b - 1:04d}", b - a, start=a, stop=b)
        for a, b in blocks
    ]


def _check_size(run: StepRun, horizon: Horizon) -> None:
    """Refuse to fill the disk with rows of elements that nobody may have meant to keep."""
    network = run.reader.grid()[0].network
    rows = horizon.hours * (network.n_bus + network.n_branch)
    if run.request.elements and rows > ELEMENT_ROWS_MAX:
        problem = (
            f"{horizon.hours} hours of {network.n_bus:,} buses and {network.n_branch:,} branches are {rows:,} rows"
        )
        remedy = f"keep totals and extremes only (--set elements=false), or at most {ELEMENT_ROWS_MAX:,} rows"
        raise OptionError((Finding("request", (), problem, remedy, "elements"),))


def carry_out(job: Job) -> Mapping[str, pa.Table]:
    """Solve one block of hours."""
    with job.reading() as reader:
        given = GivenStates.of(reader)
        grid, states = read_given_states(reader, given, job.hours)
        limits = criteria(grid, reader.table)
    request: PowerFlowRequest = job.request
    shared = request.distributed_slack or given.schedule is Schedule.BALANCED
    outputs = job.run(Inputs(grid, states, request.enforce_q_limits, shared))
    assert isinstance(outputs, Outputs)
    hours = np.arange(job.hours.start, job.hours.stop)
    flows = branch_flows(grid, outputs.states)
    return results(hours, outputs, flows, limits, given.schedule, request.elements)


def results(
    hours: IntArray, outputs: Outputs, flows: BranchFlows, limits: Criteria, schedule: str, elements: bool
) -> dict[str, pa.Table]:
    """Return the tables of a block of hours; those of elements hold the hours that converged, and need one.

    Flows are kept in single precision: they follow from the voltages, which are kept in full.
    """
    tables = {
        "hours": _hours(hours, outputs, flows, limits, schedule),
        "limited": _limited(hours, outputs.q_state),
    }
    solved = outputs.outcome == CONVERGED
    if not solved.any():
        return tables
    hours, vm_pu, va_rad = hours[solved], outputs.states.vm_pu[solved], outputs.states.va_rad[solved]
    flows = BranchFlows(**{name: values[solved] for name, values in vars(flows).items()})
    tables["bus_extremes"] = _bus_extremes(hours, vm_pu, limits)
    tables["branch_extremes"] = _branch_extremes(hours, flows, limits)
    if elements:
        single = {name: values.astype(np.float32) for name, values in vars(flows).items()}
        tables["buses"] = _by_element(hours, "bus", {"vm_pu": vm_pu, "va_rad": va_rad})
        tables["branches"] = _by_element(hours, "branch", single)
    return tables


def _hours(hours: IntArray, outputs: Outputs, flows: BranchFlows, limits: Criteria, schedule: str) -> pa.Table:
    """Return a row an hour: outcome, balance, extremes with their elements, the voltage band, limits passed."""
    solved, states = outputs.outcome == CONVERGED, outputs.states

    def known(values: FloatArray) -> FloatArray:
        return np.where(solved, values, np.nan)

    loading, (top, worst) = flows.loading, _largest(flows.loading)
    vm, at = states.vm_pu, np.arange(hours.size)
    low, high = vm.argmin(axis=1), vm.argmax(axis=1)
    band = np.percentile(vm, BAND_PERCENT, axis=1)
    overloaded = (loading > limits.loading_max + LIMIT_TOLERANCE).sum(axis=1)
    columns = {
        "hour": hours,
        "outcome": outputs.outcome.astype(np.int8),
        "iterations": outputs.iterations.astype(np.int16),
        "residual_pu": np.where(np.isfinite(outputs.residual_pu), outputs.residual_pu, np.nan),
        "load_mw": states.load_p_mw.sum(axis=1),
        "generation_mw": known(np.where(states.unit_on, states.unit_p_mw, 0.0).sum(axis=1)),
        "losses_mw": known(outputs.losses_mw),
        "slack_p_mw": known(outputs.slack_p_mw),
        "loading_max": known(worst),
        "loading_branch": np.where(solved, top, -1).astype(np.int32),
        "overloaded": np.where(solved, overloaded, 0).astype(np.int32),
        "vm_min_pu": known(vm[at, low]),
        "vm_min_bus": np.where(solved, low, -1).astype(np.int32),
        "vm_max_pu": known(vm[at, high]),
        "vm_max_bus": np.where(solved, high, -1).astype(np.int32),
        **{f"vm_{p:02d}_pu": known(band[k]) for k, p in enumerate(BAND_PERCENT)},
        "voltage_violations": np.where(solved, _beyond(vm, limits).sum(axis=1), 0).astype(np.int32),
        "q_limited": (outputs.q_state != 0).sum(axis=1).astype(np.int32),
    }
    table = result_table(columns)
    return table.append_column("schedule", pa.array([str(schedule)] * hours.size, pa.string()))


def _largest(loading: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the branch with the highest loading in every hour, -1 where none is rated, and its loading."""
    rated = np.where(np.isnan(loading), -1.0, loading)
    if not rated.shape[1]:
        return np.full(rated.shape[0], -1), np.full(rated.shape[0], np.nan)
    top = rated.argmax(axis=1)
    worst = rated[np.arange(top.size), top]
    return np.where(worst >= 0.0, top, -1), np.where(worst >= 0.0, worst, np.nan)


def _beyond(vm_pu: FloatArray, limits: Criteria) -> BoolArray:
    below = vm_pu < limits.vm_pu_min - LIMIT_TOLERANCE
    return below | (vm_pu > limits.vm_pu_max + LIMIT_TOLERANCE)


def _bus_extremes(hours: IntArray, vm_pu: FloatArray, limits: Criteria) -> pa.Table:
    """Return a row a bus: extreme voltages with their hours, and hours beyond a limit."""
    bus = np.arange(vm_pu.shape[1], dtype=np.int32)
    low, high = vm_pu.argmin(axis=0), vm_pu.argmax(axis=0)
    return result_table(
        {
            "bus": bus,
            "vm_min_pu": vm_pu[low, bus],
            "vm_min_hour": hours[low].astype(np.int32),
            "vm_max_pu": vm_pu[high, bus],
            "vm_max_hour": hours[high].astype(np.int32),
            "violation_hours": _beyond(vm_pu, limits).sum(axis=0).astype(np.int32),
        }
    )


def _branch_extremes(hours: IntArray, flows: BranchFlows, limits: Criteria) -> pa.Table:
    """Return a row a branch: highest loading with its hour, hours overloaded, energy lost."""
    loading = flows.loading
    branch = np.arange(loading.shape[1], dtype=np.int32)
    top = np.where(np.isnan(loading), -1.0, loading).argmax(axis=0)
    return result_table(
        {
            "branch": branch,
            "loading_max": loading[top, branch],
            "loading_max_hour": hours[top].astype(np.int32),
            "overload_hours": (loading > limits.loading_max + LIMIT_TOLERANCE).sum(axis=0).astype(np.int32),
            "losses_mwh": (flows.p_from_mw + flows.p_to_mw).sum(axis=0),
        }
    )


def _limited(hours: IntArray, q_state: np.ndarray) -> pa.Table:
    """Return a row for every bus whose voltage control stood at a reactive limit in an hour."""
    hour, bus = np.nonzero(q_state)
    return result_table(
        {"hour": hours[hour], "bus": bus.astype(np.int32), "limit": q_state[hour, bus].astype(np.int8)}
    )


def _by_element(hours: IntArray, name: str, values: Mapping[str, FloatArray]) -> pa.Table:
    """Return rows with all hours of an element together, so that one element is read without the others."""
    count = next(iter(values.values())).shape[1]
    columns = {
        name: np.repeat(np.arange(count, dtype=np.int32), hours.size),
        "hour": np.tile(hours.astype(np.int32), count),
    }
    return result_table(columns | {key: np.ascontiguousarray(array.T).ravel() for key, array in values.items()})


def conclude(run: StepRun) -> str:
    """Say how many hours converged."""
    outcome = run.tables("power_flow", "hours")["outcome"].to_numpy()
    diverged = int((outcome != CONVERGED).sum())
    return f"{outcome.size - diverged} of {outcome.size} hours converged, {diverged} diverged"


STEP = Step("power_flow", "Power flow", plan, carry_out, conclude=conclude)
