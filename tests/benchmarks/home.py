"""A planned day on SimBench's extra-high-voltage grid, made once by the product's own chain and kept."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from frame import CACHE, Bench
from networks import Case, exported

from bos_core.access.criteria import Criteria, criteria
from bos_core.access.scenario_data import ScenarioReader
from bos_core.access.state_series import read_states
from bos_core.access.state_tables import snapshot_tables
from bos_core.access.workspace import Workspace
from bos_core.grid.injections import bus_injections
from bos_core.grid.model import Grid, IntArray, Snapshot
from bos_core.objects.ontology import TABLES
from bos_core.objects.settings import Settings
from flows.request import PlanRequest
from flows.step6_n1_verification import contingencies

HOME = CACHE / "home"
HOURS = 24


@dataclass(frozen=True, eq=False)
class PlannedDay:
    """A finished run of the chain over `HOURS` hours, read by step."""

    workspace: Workspace
    trace: str

    def reader(self, step: str) -> ScenarioReader:
        """Return the version that a step made."""
        version = next(v for v in self.workspace.scenarios.versions(trace_id=self.trace) if v.step == step)
        return self.workspace.reader(version.id)

    @cached_property
    def hours(self) -> slice:
        covered = self.reader("reactive_dispatch").hours("bus.vm_pu")
        return slice(covered.start, covered.stop)

    @cached_property
    def grid(self) -> Grid:
        return self.reader("reactive_dispatch").grid()[0]

    @cached_property
    def states(self) -> Snapshot:
        """The AC-solved states of step 5."""
        reader = self.reader("reactive_dispatch")
        grid, base = reader.grid()
        return read_states(reader, grid, base, self.hours)

    @cached_property
    def dispatched(self) -> Snapshot:
        """The states before the reactive dispatch: what it is given."""
        reader = self.reader("active_dispatch")
        grid, base = reader.grid()
        return read_states(reader, grid, base, self.hours)

    @cached_property
    def criteria(self) -> Criteria:
        return criteria(self.grid, self.reader("reactive_dispatch").table)

    @cached_property
    def outages(self) -> IntArray:
        request = PlanRequest.model_validate({"scenario": "simbench-complete"})
        return contingencies(self.grid, request)

    @cached_property
    def tables(self) -> dict[str, Any]:
        reader = self.reader("reactive_dispatch")
        return {name: reader.table(name) for name in TABLES}

    def case(self, state: Snapshot, name: str) -> Case:
        """Return the grid in one state, for the peers."""
        return exported(name, snapshot_tables(self.tables, self.grid, state))


def planned_day(bench: Bench) -> PlannedDay:
    """Open the day, planning it first where that has not been done yet (some minutes)."""
    if not (HOME / "finished").exists():
        with bench.doing(f"planning {HOURS} hours with the chain, once"):
            _plan()
    workspace = Workspace.open(Settings(home=HOME))
    return PlannedDay(workspace, (HOME / "finished").read_text().strip())


def _plan() -> None:
    root = Path(__file__).parents[2]
    HOME.mkdir(parents=True, exist_ok=True)
    own = {key: value for key, value in os.environ.items() if not key.startswith(("BOS_", "PREFECT_"))}
    environment = {**own, "BOS_HOME": str(HOME), "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "bos_core.cli", "demo", "--hours", str(HOURS)]
    with (HOME / "planning.log").open("w") as log:
        code = subprocess.run(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code:
        raise RuntimeError(f"the chain that prepares the day ended with code {code}; see planning.log in its home")
    run = Workspace.open(Settings(home=HOME)).ledger.task_sets()[0]
    (HOME / "finished").write_text(run.trace_id + "\n")


def steady(grid: Grid, states: Snapshot) -> Snapshot:
    """Return the hours with one set of units and voltage controls, and the first hour's taps, shunts and voltages.

    Units that run in some hour are on in all, at the power of each hour; a set point is the first one of its bus.
    What is left to change is what every peer can change in a series: the power of loads and units.
    """
    count = states.vm_pu.shape[0]

    def first(values: np.ndarray) -> np.ndarray:
        return np.repeat(values[:1], count, axis=0)

    kept = (
        "svg_vm_set_pu", "hvdc_vm_from_set_pu", "hvdc_vm_to_set_pu", "tap", "shunt_step", "vm_pu", "va_rad",
    )  # fmt: skip
    earliest = np.isfinite(states.unit_vm_set_pu).argmax(axis=0)
    set_point = states.unit_vm_set_pu[earliest, np.arange(earliest.size)][None]
    on = np.repeat(states.unit_on.any(axis=0)[None], count, axis=0)
    one = replace(
        states,
        **{name: first(getattr(states, name)) for name in kept},
        unit_on=on,
        unit_vm_set_pu=first(set_point),
    )
    by_bus = bus_injections(grid, one.hour(0)).vm_set_pu[grid.units.bus]
    return replace(one, unit_vm_set_pu=first(np.where(np.isfinite(set_point), by_bus, np.nan)))
