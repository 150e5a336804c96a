"""Collect a run's committed results into the data of its report; a partial run gives a partial report."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bos_core.access.criteria import Criteria, criteria
from bos_core.access.scenario_data import ScenarioReader
from bos_core.access.workspace import Workspace
from bos_core.grid.model import BranchKind, FloatArray, IntArray
from bos_core.index.records import StepReport, TaskSetRecord
from bos_core.index.scenarios import VersionRecord
from bos_core.objects.errors import NotFoundError
from bos_core.objects.settings import Settings
from bos_core.objects.task import TaskState
from bos_core.report.data import (
    BASE_CASE,
    CONVERGED,
    DIVERGED,
    ISLANDED,
    Adjustment,
    AnnualStates,
    Contingencies,
    Head,
    KeyFigures,
    Monitored,
    Network,
    Pair,
    Program,
    Provenance,
    ReportData,
    Schedule,
    Security,
    Table6Row,
    Violation,
)

STAGES: Mapping[str, str] = {
    "system_model": "System model",
    "snapshot": "Validated snapshot",
    "equivalence": "Network equivalence",
    "annual_states": "Annual states",
    "unit_commitment": "Unit commitment",
    "active_dispatch": "Active power dispatch",
    "reactive_dispatch": "Reactive power dispatch",
    "n1_verification": "N-1 verification",
    "state_adjustment": "State adjustment",
}
CONTINGENCIES_SHOWN = 100
WORST_SHOWN = 20
VIOLATIONS_LISTED = 2_000
BASE_TOLERANCE = 1e-4
"""A base-case loading this far above its limit is rounding of set points."""
_FIRST_DAY = dt.datetime(2016, 1, 1)
_LEAP_DAY_HOUR = 59 * 24


def table6_rows(workspace: Workspace, trace_id: str) -> list[Table6Row]:
    """Return Table 6 of a run, by SQL over its task rows."""
    found = {report.step: report for report in workspace.ledger.report(trace_id)}
    return [_table6_row(title, found[step]) for step, title in STAGES.items() if step in found]


def _table6_row(title: str, report: StepReport) -> Table6Row:
    done = report.wall_s_sum > 0
    return Table6Row(
        stage=title,
        tasks=report.tasks,
        subtasks=report.subtasks,
        mean_subtask_s=report.wall_s_mean_subtask if done else None,
        wall_s=report.elapsed_s if done else None,
        io_share=report.io_s_sum / report.wall_s_sum if done else None,
    )


def collect(workspace: Workspace, trace_id: str) -> ReportData:
    """Return everything that a report of the run can show now.

    Raises
    ------
    NotFoundError
        If there is no such run, or it has not made a scenario version yet.
    """
    return _Collector(workspace, workspace.ledger.task_set(trace_id)).collect()


def report_path(settings: Settings, trace_id: str) -> Path:
    """Return where the report of a run is written."""
    return settings.home / "reports" / f"{trace_id}.html"


def date_of(hour: int) -> dt.datetime:
    """Return the date of an hour of the plan year, which has no 29 February."""
    return _FIRST_DAY + dt.timedelta(hours=hour + (24 if hour >= _LEAP_DAY_HOUR else 0))


class _Collector:
    """Reads what the sections of one report share once."""

    def __init__(self, workspace: Workspace, record: TaskSetRecord) -> None:
        self.workspace, self.record = workspace, record
        self.trace = record.trace_id
        self.versions: list[VersionRecord] = workspace.scenarios.versions(trace_id=self.trace)
        if not self.versions:
            raise NotFoundError(f"run {self.trace} has made no scenario version yet; see `bos ps` and `bos logs`")
        self.versions = sorted(self.versions, key=lambda v: v.number)
        self.reader: ScenarioReader = workspace.reader(self.versions[-1].id)
        self.grid, _ = self.reader.grid()
        horizon = record.parameters.get("horizon", {})
        self.start = int(horizon.get("start_hour", 0))
        self.hours = int(horizon.get("hours", 1))
        self.span = slice(self.start, self.start + self.hours)
        self.limits: Criteria = criteria(self.grid, self.reader.table)
        self._tables: dict[tuple[str, str], pa.Table | None] = {}

    def collect(self) -> ReportData:
        schedule = self.schedule()
        security = self.security()
        return ReportData(
            head=self.head(),
            figures=self.figures(schedule, security),
            programs=self.programs(),
            table6=tuple(table6_rows(self.workspace, self.trace)),
            network=self.network(schedule),
            schedule=schedule,
            contingencies=self.contingencies(),
            security=security,
            adjustment=self.adjustment(),
            snapshot_log=self.chunk_table("snapshot", "rounds", "snapshot"),
            equivalence=self.table("equivalence", "errors"),
            annual=self.annual(),
            provenance=self.provenance(),
        )

    # --- sources

    def table(self, step: str, name: str) -> pa.Table | None:
        """Return a committed output of a step, None when there is none."""
        if (step, name) not in self._tables:
            try:
                self._tables[step, name] = self.workspace.results.table(self.trace, step, name)
            except NotFoundError:
                self._tables[step, name] = None
        return self._tables[step, name]

    def chunk_table(self, step: str, name: str, chunk: str) -> pa.Table | None:
        """Return the output of one task of a step."""
        for output in self.workspace.ledger.outputs(self.trace, step, name):
            if output.chunk == chunk:
                return self.workspace.store.get_table(output.address)
        return None

    def series(self, name: str, ids: Sequence[str] | np.ndarray) -> FloatArray | None:
        """Return a series over the run's hours, None when the version lacks it or has no such element."""
        if not self.reader.has_series(name) or not len(ids):
            return None
        return self.reader.aligned(name, ids, self.span).astype(np.float64)

    # --- sections

    def head(self) -> Head:
        network = self.grid.network
        sizes = {
            "buses": network.n_bus,
            "branches": network.n_branch,
            "units": self.grid.units.n,
            "loads": self.grid.loads.n,
            "HVDC lines": int(self.grid.hvdc.id.size),
        }
        before = self.table("equivalence", "sizes")
        source = {}
        if before is not None:
            words = {"bus": "buses", "branch": "branches", "unit": "units", "load": "loads", "hvdc": "HVDC lines"}
            source = {words[row["what"]]: row["before"] for row in before.to_pylist()}
        return Head(
            title=f"Planning of {self.record.scenario}, {self.hours} hours",
            outcome=self.outcome(),
            trace_id=self.trace,
            scenario=self.record.scenario,
            scenario_version=self.versions[-1].label,
            created=dt.datetime.now().strftime("%Y-%m-%d %H:%M"),
            start=date_of(self.start).isoformat(timespec="minutes"),
            hours=self.hours,
            sizes=sizes,
            source_sizes=source,
            user=self.record.user,
            project=self.record.project,
            warnings=tuple(self.warnings()),
        )

    def outcome(self) -> str:
        steps = self.workspace.ledger.report(self.trace)
        failed = sum(step.states[TaskState.FAILED] for step in steps)
        if failed:
            return f"{failed} tasks failed; the run is not complete."
        left = self.remaining()
        if left is None:
            return f"The run ends after {STAGES.get(self.versions[-1].step, self.versions[-1].step).lower()}."
        if not left:
            return "Every hour is secure against every single-branch outage."
        hours = len({violation.hour for violation in left})
        return f"{hours} of {self.hours} hours still have violations after adjustment; each is listed below."

    def warnings(self) -> list[str]:
        found: list[str] = []
        verdict = self.chunk_table("snapshot", "verdict", "snapshot")
        if verdict is not None and not verdict["accepted"][0].as_py():
            overloads = self.chunk_table("snapshot", "overloads", "snapshot")
            count = overloads.num_rows if overloads is not None else 0
            found.append(f"The snapshot could not be made secure: {count} branches stay overloaded.")
        for step, name in (
            ("annual_states", "summary"),
            ("unit_commitment", "summary"),
            ("active_dispatch", "hours"),
        ):
            table = self.table(step, name)
            fallbacks = sorted(set(table["fallback"].to_pylist()) - {""}) if table is not None else []
            found += [f"{STAGES[step]}: {text}" for text in fallbacks]
        dispatch = self.table("active_dispatch", "hours")
        if dispatch is not None:
            for column, text in (("shed_mw", "MWh of load shed"), ("overload_mw", "MWh above branch limits")):
                total = float(pc.sum(dispatch[column]).as_py() or 0.0)
                if total > 0.5:
                    found.append(f"Active power dispatch: {total:,.0f} {text}.")
        reactive = self.table("reactive_dispatch", "hours")
        if reactive is not None:
            outcome = np.bincount(reactive["outcome"].to_numpy(), minlength=4)
            for code, text in ((1, "with softened limits"), (2, "by power flow only"), (3, "diverged")):
                if outcome[code]:
                    found.append(f"Reactive power dispatch: {outcome[code]} hours {text}.")
        return found

    def programs(self) -> tuple[Program, ...]:
        seen = {
            (t.step, t.slot, t.program, t.program_version, t.program_digest)
            for t in self.workspace.ledger.tasks(self.trace)
        }
        order = list(STAGES)
        return tuple(Program(*row) for row in sorted(seen, key=lambda row: order.index(row[0])))

    def provenance(self) -> tuple[Provenance, ...]:
        made = {version.step: version for version in self.versions}
        labels = {version.id: version.label for version in self.versions}
        rows = []
        for report in self.workspace.ledger.report(self.trace):
            tasks = self.workspace.ledger.tasks(self.trace, report.step)
            version = made.get(report.step)
            source = tasks[0].scenario_version
            rows.append(
                Provenance(
                    step=STAGES.get(report.step, report.step),
                    program=f"{tasks[0].slot}/{tasks[0].program}@{tasks[0].program_digest[:12]}",
                    tasks=report.tasks,
                    succeeded=report.states[TaskState.SUCCESS],
                    failed=report.states[TaskState.FAILED],
                    retried=report.attempts - report.tasks if report.attempts > report.tasks else 0,
                    subtasks=report.subtasks,
                    scenario_in=labels.get(source) or self.workspace.scenarios.get(source).label,
                    scenario_out=version.label if version else "",
                )
            )
        return tuple(sorted(rows, key=lambda row: list(STAGES.values()).index(row.step)))

    def schedule(self) -> Schedule | None:
        if not self.reader.has_series("unit.p_mw"):
            return None
        grid, network = self.grid, self.grid.network
        units = grid.units
        p = self.series("unit.p_mw", units.id)
        on = self.series("unit.on", units.id)
        available = self.series("unit.available_mw", units.id)
        assert p is not None
        load = self.series("load.p_mw", grid.loads.id)
        shed = self.series("load.shed_mw", grid.loads.id)
        set_points = self.series("bus.vm_set_pu", network.bus_id)
        unit_set = None
        if set_points is not None and on is not None:
            unit_set = np.where(units.voltage_control & (on > 0.5), set_points[:, units.bus], np.nan)
        reactive = self.table("reactive_dispatch", "hours")
        dispatch = self.table("active_dispatch", "hours")
        reserve_up = self.series("unit.reserve_up_mw", units.id)
        reserve_down = self.series("unit.reserve_down_mw", units.id)
        curtailed = None
        if available is not None:
            curtailed = np.where(units.variable, np.maximum(available - p, 0.0), 0.0)
        return Schedule(
            unit_name=units.name,
            unit_technology=units.technology,
            unit_p_mw_max=units.p_mw_max,
            unit_p_mw=p,
            unit_on=None if on is None else on > 0.5,
            unit_committable=units.committable,
            unit_vm_set_pu=unit_set,
            unit_curtailed_mw=curtailed,
            svg_name=grid.svgs.id if grid.svgs.id.size else None,
            svg_q_mvar=self.series("svg.q_mvar", grid.svgs.id),
            bus_name=network.bus_name,
            bus_base_kv=network.base_kv,
            bus_vm_pu=self.series("bus.vm_pu", network.bus_id),
            bus_vm_pu_min=self.limits.vm_pu_min,
            bus_vm_pu_max=self.limits.vm_pu_max,
            branch_name=network.branch_name,
            branch_loading=self.branch_loading(),
            branch_loading_max=self.limits.loading_max,
            branch_overload_hours_n1=self.congested_hours(),
            load_mw=None if load is None else load.sum(axis=1),
            losses_mw=None if reactive is None else self.by_hour(reactive, "losses_mw"),
            shed_mw=None if shed is None else shed.sum(axis=1),
            reserve_up_mw=None if reserve_up is None else reserve_up.sum(axis=1),
            reserve_down_mw=None if reserve_down is None else reserve_down.sum(axis=1),
            reserve_up_required_mw=None if dispatch is None else self.by_hour(dispatch, "reserve_required_mw"),
            storage_name=grid.storages.id if grid.storages.id.size else None,
            storage_p_mw=self.series("storage.p_mw", grid.storages.id),
            storage_energy_mwh=self.series("storage.energy_mwh", grid.storages.id),
            hvdc_name=grid.hvdc.name if grid.hvdc.id.size else None,
            hvdc_p_mw=self.series("hvdc.p_mw", grid.hvdc.id),
            lmp_eur_per_mwh=self.series("bus.price_eur_per_mwh", network.bus_id),
            cost_eur=self.costs(p, on, shed),
            co2_t=(p * units.co2_t_per_mwh).sum(axis=1),
        )

    def by_hour(self, table: pa.Table, column: str) -> FloatArray:
        """Return a column of an hourly table along the run's hours; hours without a row are NaN."""
        values = np.full(self.hours, np.nan)
        rows = table["hour"].to_numpy() - self.start
        values[rows] = table[column].to_numpy()
        return values

    def branch_loading(self) -> FloatArray | None:
        loading = self.series("branch.loading", self.grid.network.branch_id)
        if loading is None:
            return None
        network = self.grid.network
        rated = np.isfinite(np.minimum(network.i_max_from_pu, network.i_max_to_pu))
        return np.where(rated, loading, np.nan)

    def costs(self, p: FloatArray, on: FloatArray | None, shed: FloatArray | None) -> dict[str, FloatArray]:
        units = self.grid.units
        committed = on if on is not None else np.ones_like(p)
        above = np.maximum(p - np.where(units.committable, units.p_mw_min, 0.0) * committed, 0.0)
        energy = np.zeros(p.shape[0])
        taken = np.zeros_like(p)
        for k in range(units.segment_unit.size):
            unit = units.segment_unit[k]
            used = np.clip(above[:, unit] - taken[:, unit], 0.0, units.segment_mw[k])
            taken[:, unit] += used
            energy += used * units.segment_eur_per_mwh[k]
        running = committed * units.committable
        kinds = {"energy": energy, "no load": (running * units.no_load_eur_per_h).sum(axis=1)}
        if on is not None:
            kinds["start-up"] = self.start_costs(on > 0.5)
        if shed is not None:
            kinds["shedding"] = shed.sum(axis=1) * 10_000.0
        return kinds

    def start_costs(self, on: np.ndarray) -> FloatArray:
        """Return start-up costs by hour; a unit off since before the first hour counts as cold."""
        units = self.grid.units
        cost = np.zeros(on.shape[0])
        for unit in np.flatnonzero(units.committable):
            classes = np.flatnonzero(units.start_unit == unit)
            if not classes.size:
                continue
            off_h = 10_000
            for hour in range(on.shape[0]):
                if on[hour, unit]:
                    if off_h and hour:
                        usable = classes[units.start_off_h[classes] <= off_h]
                        cost[hour] += units.start_eur[usable[-1] if usable.size else classes[0]]
                    off_h = 0
                else:
                    off_h += 1
        return cost

    def network(self, schedule: Schedule | None) -> Network | None:
        network = self.grid.network
        titles, loading, voltage = [], [], []
        if schedule is not None and schedule.branch_loading is not None and schedule.bus_vm_pu is not None:
            finite = np.where(np.isnan(schedule.branch_loading), -1.0, schedule.branch_loading)
            for title, hour in (
                ("Highest loading", int(finite.max(axis=1).argmax())),
                ("Highest load", int(np.argmax(schedule.load_mw)) if schedule.load_mw is not None else 0),
                ("Lowest load", int(np.argmin(schedule.load_mw)) if schedule.load_mw is not None else 0),
            ):
                titles.append(f"{title} ({date_of(self.start + hour):%a %d %b %H:%M})")
                loading.append(schedule.branch_loading[hour])
                voltage.append(schedule.bus_vm_pu[hour])
        return Network(
            bus_name=network.bus_name,
            base_kv=network.base_kv,
            longitude_deg=network.longitude_deg,
            latitude_deg=network.latitude_deg,
            branch_name=network.branch_name,
            from_bus=network.from_bus,
            to_bus=network.to_bus,
            is_transformer=network.branch_kind == BranchKind.TRANSFORMER,
            is_fictitious=network.branch_kind == BranchKind.EQUIVALENT,
            snapshot_title=np.array(titles, dtype=np.str_),
            loading=np.array(loading).reshape(len(titles), network.n_branch),
            vm_pu=np.array(voltage).reshape(len(titles), network.n_bus),
        )

    # --- N-1

    def pairs(self) -> pa.Table | None:
        """Return the pair rows as they are now: re-verified hours replace those of step 6."""
        first = self.table("n1_verification", "pairs")
        again = self.table("state_adjustment", "verified.pairs")
        return first if first is None or again is None else _replace_hours(first, again)

    def contingencies(self) -> Contingencies | None:
        pairs = self.pairs()
        if pairs is None:
            return None
        table = pairs.sort_by([("hour", "ascending"), ("contingency", "ascending")])
        branches = np.unique(table["contingency"].to_numpy())
        shape = (self.hours, branches.size)
        if table.num_rows != self.hours * branches.size:
            return None
        outcome, loading = (
            table["outcome"].to_numpy().reshape(shape),
            table["loading_max"].to_numpy().reshape(shape),
        )
        worst = np.nan_to_num(loading, nan=np.inf).max(axis=0)
        shown = np.sort(np.argsort(-worst, kind="stable")[:CONTINGENCIES_SHOWN])
        return Contingencies(
            name=self.grid.network.branch_name[branches[shown]],
            total=int(branches.size),
            outcome=outcome[:, shown].astype(np.int64),
            loading_max=loading[:, shown],
            vm_min_pu=table["vm_min_pu"].to_numpy().reshape(shape)[:, shown],
            vm_max_pu=table["vm_max_pu"].to_numpy().reshape(shape)[:, shown],
            loading_limit=float(self.limits.loading_contingency_max.max(initial=1.0)),
            vm_pu_low=float(self.limits.vm_contingency_pu_min.min(initial=np.inf)),
            vm_pu_high=float(self.limits.vm_contingency_pu_max.max(initial=0.0)),
            stage="after adjustment" if self.table("state_adjustment", "verified.pairs") is not None else "",
        )

    def security(self) -> Security | None:
        before, after = self.table("n1_verification", "pairs"), self.pairs()
        if before is None or after is None:
            return None
        classes = np.bincount(after["outcome"].to_numpy(), minlength=3)
        adjusted = self.table("state_adjustment", "verified.pairs") is not None
        left = self.remaining()
        return Security(
            outcome_pairs={
                "converged": int(classes[CONVERGED]),
                "islanded": int(classes[ISLANDED]),
                "diverged": int(classes[DIVERGED]),
            },
            violations_before=self.violating_pairs(
                before, self.table("n1_verification", "overloads"), self.table("n1_verification", "voltages")
            ),
            violations_after=self.violating_pairs(after, self.overloads(), self.voltages()) if adjusted else None,
            worst=self.worst(after),
            monitored=self.monitored(),
            remaining=None if left is None else tuple(left[:VIOLATIONS_LISTED]),
        )

    def violating_pairs(self, pairs: pa.Table, overloads: pa.Table | None, voltages: pa.Table | None) -> IntArray:
        """Count pairs by hour that diverged or have a violation that is new or worse than before the outage."""
        keys = [pairs.filter(pc.equal(pairs["outcome"], DIVERGED)).select(["hour", "contingency"])]
        for table in (overloads, voltages):
            if table is not None:
                keys.append(table.select(["hour", "contingency"]))
        hour = np.concatenate([k["hour"].to_numpy() for k in keys])
        contingency = np.concatenate([k["contingency"].to_numpy() for k in keys])
        unique = np.unique(np.stack([hour, contingency]), axis=1)
        return np.bincount(unique[0] - self.start, minlength=self.hours)

    def worst(self, pairs: pa.Table) -> tuple[Pair, ...]:
        severity = np.nan_to_num(pairs["loading_max"].to_numpy(), nan=np.inf)
        rows = pairs.take(np.argsort(-severity, kind="stable")[:WORST_SHOWN]).to_pylist()
        branch, bus = self.grid.network.branch_name, self.grid.network.bus_name

        def name(names: np.ndarray, k: int) -> str:
            return str(names[k]) if k >= 0 else ""

        return tuple(
            Pair(
                hour=row["hour"] - self.start,
                contingency=str(branch[row["contingency"]]),
                outcome=row["outcome"],
                loading=row["loading_max"],
                loading_branch=name(branch, row["loading_branch"]),
                vm_min_pu=row["vm_min_pu"],
                vm_min_bus=name(bus, row["vm_min_bus"]),
                vm_max_pu=row["vm_max_pu"],
                vm_max_bus=name(bus, row["vm_max_bus"]),
                lost_load_mw=row["lost_load_mw"],
            )
            for row in rows
        )

    def overloads(self) -> pa.Table | None:
        first = self.table("n1_verification", "overloads")
        again = self.table("state_adjustment", "verified.overloads")
        verified = self.table("state_adjustment", "verified.base")
        if first is None or again is None or verified is None:
            return first
        return pa.concat_tables([_without_hours(first, verified["hour"].to_numpy()), again])

    def voltages(self) -> pa.Table | None:
        first = self.table("n1_verification", "voltages")
        again = self.table("state_adjustment", "verified.voltages")
        verified = self.table("state_adjustment", "verified.base")
        if first is None or again is None or verified is None:
            return first
        return pa.concat_tables([_without_hours(first, verified["hour"].to_numpy()), again])

    def congested_hours(self) -> IntArray | None:
        table = self.overloads()
        if table is None:
            return None
        seen = table.group_by(["branch", "hour"]).aggregate([])
        return np.bincount(seen["branch"].to_numpy(), minlength=self.grid.network.n_branch)

    def monitored(self) -> tuple[Monitored, ...]:
        table = self.overloads()
        if table is None or not table.num_rows:
            return ()
        name = self.grid.network.branch_name
        grouped = table.group_by("branch").aggregate(
            [("loading", "max"), ("hour", "count_distinct"), ("hour", "count")]
        )
        rows = grouped.sort_by([("hour_count", "descending"), ("branch", "ascending")]).slice(0, WORST_SHOWN)
        found = []
        for row in rows.to_pylist():
            of_branch = table.filter(pc.equal(table["branch"], row["branch"]))
            top = of_branch.take(pa.array([int(np.argmax(of_branch["loading"].to_numpy()))])).to_pylist()[0]
            found.append(
                Monitored(
                    branch=str(name[row["branch"]]),
                    pairs=row["hour_count"],
                    hours=row["hour_count_distinct"],
                    loading_worst=row["loading_max"],
                    worst_contingency=str(name[top["contingency"]]),
                )
            )
        return tuple(found)

    def remaining(self) -> list[Violation] | None:
        """Return what is still violated after the last verification, worst first; None before step 6."""
        overloads, voltages, pairs = self.overloads(), self.voltages(), self.pairs()
        if overloads is None or voltages is None or pairs is None:
            return None
        branch, bus = self.grid.network.branch_name, self.grid.network.bus_name
        relaxed = self.relaxations()
        limit = self.limits.loading_contingency_max
        found = []
        ordered = overloads.sort_by([("loading", "descending"), ("hour", "ascending"), ("branch", "ascending")])
        for row in ordered.slice(0, VIOLATIONS_LISTED).to_pylist():
            key = (row["hour"], row["contingency"], row["branch"], -1)
            found.append(
                Violation(
                    hour=row["hour"] - self.start,
                    outage=str(branch[row["contingency"]]),
                    element=str(branch[row["branch"]]),
                    kind="overload",
                    value=row["loading"],
                    limit=float(limit[row["branch"]]),
                    relaxation=relaxed.get(key, np.nan),
                )
            )
        for row in voltages.slice(0, VIOLATIONS_LISTED).to_pylist():
            low = row["vm_pu"] < self.limits.vm_contingency_pu_min[row["bus"]]
            bound = self.limits.vm_contingency_pu_min if low else self.limits.vm_contingency_pu_max
            found.append(
                Violation(
                    hour=row["hour"] - self.start,
                    outage=str(branch[row["contingency"]]) if row["contingency"] >= 0 else BASE_CASE,
                    element=str(bus[row["bus"]]),
                    kind="undervoltage" if low else "overvoltage",
                    value=row["vm_pu"],
                    limit=float(bound[row["bus"]]),
                    relaxation=relaxed.get((row["hour"], row["contingency"], -1, row["bus"]), np.nan),
                )
            )
        found += self.base_overloads()
        diverged = pairs.filter(pc.equal(pairs["outcome"], DIVERGED)).slice(0, VIOLATIONS_LISTED)
        for hour, contingency in zip(
            diverged["hour"].to_pylist(), diverged["contingency"].to_pylist(), strict=True
        ):
            found.append(Violation(hour - self.start, str(branch[contingency]), "", "diverged"))
        return found

    def base_overloads(self) -> list[Violation]:
        """Return overloads before any outage, in the last verified states."""
        loading = self.branch_loading()
        if loading is None:
            return []
        limit = self.limits.loading_max
        hour, branch = np.nonzero(np.nan_to_num(loading) > limit + BASE_TOLERANCE)
        names = self.grid.network.branch_name
        return [
            Violation(int(h), BASE_CASE, str(names[b]), "overload", float(loading[h, b]), float(limit[b]))
            for h, b in zip(hour, branch, strict=True)
        ]

    def relaxations(self) -> dict[tuple[int, int, int, int], float]:
        table = self.table("state_adjustment", "relaxed")
        if table is None:
            return {}
        rows = zip(
            *(table[c].to_pylist() for c in ("hour", "contingency", "branch", "bus", "amount")), strict=True
        )
        return {(h, c, b, n): amount for h, c, b, n, amount in rows}

    def adjustment(self) -> Adjustment | None:
        table = self.table("state_adjustment", "summary")
        if table is None:
            return None
        ordered = table.sort_by([("hour", "ascending"), ("round", "ascending")])
        hours = ordered["hour"].to_numpy()
        last = np.append(np.flatnonzero(np.diff(hours)), hours.size - 1)
        column = {name: ordered[name].to_numpy() for name in ordered.column_names}

        def total(name: str) -> FloatArray:
            return np.add.reduceat(column[name], np.append(0, last[:-1] + 1))

        return Adjustment(
            hour=hours[last] - self.start,
            outcome=column["outcome"][last],
            rounds=column["round"][last],
            moved_mw=total("moved_mw"),
            curtailed_mw=total("curtailed_mw"),
            shed_mw=column["shed_mw"][last],
            cost_eur=total("cost_eur"),
        )

    # --- figures and statistics

    def figures(self, schedule: Schedule | None, security: Security | None) -> KeyFigures:
        def total(values: FloatArray | None) -> float | None:
            return None if values is None else float(np.nansum(values))

        reports = self.workspace.ledger.report(self.trace)
        starts = [r.started_s for r in reports if r.started_s is not None]
        ends = [r.finished_s for r in reports if r.finished_s is not None]
        wall = max(ends) - min(starts) if starts and ends else None
        figures = KeyFigures(wall_s=wall)
        known: dict[str, float | int | None] = {"wall_s": wall}
        if schedule is not None and schedule.unit_p_mw is not None:
            load = total(schedule.load_mw)
            variable = self.grid.units.variable & ~np.char.startswith(self.grid.units.technology, "import")
            renewable = float(schedule.unit_p_mw[:, variable].sum())
            known |= {
                "cost_eur": sum(float(v.sum()) for v in (schedule.cost_eur or {}).values()),
                "co2_t": total(schedule.co2_t),
                "load_mwh": load,
                "renewable_share": renewable / load if load else None,
                "curtailed_mwh": total(schedule.unit_curtailed_mw),
                "shed_mwh": total(schedule.shed_mw),
                "losses_mwh": total(schedule.losses_mw),
            }
        if security is not None:
            after = security.violations_after if security.violations_after is not None else None
            known |= {
                "pairs_verified": sum(security.outcome_pairs.values()),
                "pairs_converged": security.outcome_pairs["converged"],
                "pairs_islanded": security.outcome_pairs["islanded"],
                "pairs_diverged": security.outcome_pairs["diverged"],
                "violations_before": None
                if security.violations_before is None
                else int(security.violations_before.sum()),
                "violations_after": None if after is None else int(after.sum()),
            }
        adjusted = self.adjustment()
        known["hours_adjusted"] = None if adjusted is None else int(adjusted.hour.size)
        return KeyFigures(**{**vars(figures), **known})

    def annual(self) -> AnnualStates | None:
        made = next((v for v in self.versions if v.step == "annual_states"), None)
        if made is None or made.parent is None:
            return None
        planned, history = self.workspace.reader(made.id), self.workspace.reader(made.parent)
        tasks = self.workspace.ledger.tasks(self.trace, "annual_states")
        assignment = planned.table("profile_assignment")
        groups = self.profile_groups(planned)
        values, old = planned.series("profile.value"), history.series("profile.value")
        totals = {"planned": [], "historical": []}  # type: dict[str, list[FloatArray]]
        names = []
        for title, devices, quantity in groups:
            rows = assignment.filter(
                pc.and_(
                    pc.is_in(assignment["device"], pa.array(devices, pa.string())),
                    pc.equal(assignment["quantity"], quantity),
                )
            )
            if not rows.num_rows:
                continue
            position = {str(i): k for k, i in enumerate(values.ids)}
            column = np.array([position[name] for name in rows["profile"].to_pylist()])
            weight = np.bincount(column, rows["scale"].to_numpy(), values.ids.size)
            names.append(title)
            totals["planned"].append(values.values @ weight)
            totals["historical"].append(old.values @ weight)
        if not names:
            return None
        return AnnualStates(
            program=tasks[0].program if tasks else "",
            name=np.array(names, dtype=np.str_),
            historical_mw=np.stack(totals["historical"], axis=1),
            planned_mw=np.stack(totals["planned"], axis=1),
            outage_mw=self.outages(planned),
        )

    def profile_groups(self, reader: ScenarioReader) -> list[tuple[str, list[str], str]]:
        units = self.grid.units
        wind = np.char.find(units.technology, "wind") >= 0
        solar = (np.char.find(units.technology, "solar") >= 0) | (np.char.find(units.technology, "pv") >= 0)
        return [
            ("Load", self.grid.loads.id.tolist(), "p_mw"),
            ("Wind", units.id[wind].tolist(), "available_mw"),
            ("Solar", units.id[solar].tolist(), "available_mw"),
            ("Other variable", units.id[units.variable & ~wind & ~solar].tolist(), "available_mw"),
        ]

    def outages(self, reader: ScenarioReader) -> dict[str, FloatArray] | None:
        if not reader.has_series("unit.in_service"):
            return None
        units = self.grid.units
        series = reader.series("unit.in_service", None, units.id)
        out = np.where(series.values, 0.0, units.p_mw_max)
        by_kind = {
            str(technology): out[:, units.technology == technology].sum(axis=1)
            for technology in np.unique(units.technology[units.committable])
        }
        return {name: values for name, values in by_kind.items() if values.any()} or None


def _replace_hours(table: pa.Table, newer: pa.Table) -> pa.Table:
    return pa.concat_tables([_without_hours(table, newer["hour"].to_numpy()), newer])


def _without_hours(table: pa.Table, hours: IntArray) -> pa.Table:
    return table.filter(pa.array(~np.isin(table["hour"].to_numpy(), np.unique(hours))))
