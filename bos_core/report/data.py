"""What a report is made of: plain arrays, tables and strings, filled by the caller.

Everything beyond the head may be absent; the report then says what is missing. Axis ``hour`` counts the hours of
the report from its start on; 29 February is skipped, as in the plan year. Powers are in MW and Mvar, voltages in
p.u., loadings relative to the rating (1 = 100 %), money in EUR. NaN in an array means "no value" (a unit without
voltage control, a diverged pair).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from bos_core.grid.model import BoolArray, FloatArray, IntArray, StrArray
from bos_core.objects.errors import Finding, InputError

CONVERGED, ISLANDED, DIVERGED = 0, 1, 2
"""Outcomes of an N-1 pair, as in the n1_verification slot."""
OUTCOME_NAMES = ("converged", "islanded", "diverged")
"""What to call them."""


@dataclass(frozen=True)
class Head:
    """What the report is about.

    Attributes
    ----------
    title : str
        e.g. ``"Planning chain: SimBench complete, one week"``.
    outcome : str
        The result in one sentence.
    trace_id, run_id : str
        Ids of the task set and of the run.
    scenario, scenario_version : str
        Name of the scenario and the version that the results belong to.
    created : str
        Date and time of the report, as it is to be shown.
    start : str
        ISO date and time of hour 0, e.g. ``"2016-01-01T00:00"``.
    hours : int
        Length of axis ``hour``.
    first_hour : int
        Hour of the year of hour 0.
    sizes : mapping of str to int
        Network size: ``{"buses": 571, "branches": 1058, ...}``.
    source_sizes : mapping of str to int
        The same before equivalence, empty when there was none.
    user, project : str
    warnings : tuple of str
        Degraded answers, named: fallbacks, relaxed limits, tasks that failed.
    """

    title: str
    outcome: str
    trace_id: str
    scenario: str
    created: str
    start: str
    hours: int
    first_hour: int = 0
    run_id: str = ""
    scenario_version: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    source_sizes: Mapping[str, int] = field(default_factory=dict)
    user: str = ""
    project: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyFigures:
    """Totals over the report's hours; None where the run does not have them yet."""

    cost_eur: float | None = None
    co2_t: float | None = None
    load_mwh: float | None = None
    renewable_share: float | None = None
    """Renewable infeed / load, 0 to 1."""
    curtailed_mwh: float | None = None
    shed_mwh: float | None = None
    losses_mwh: float | None = None
    pairs_verified: int | None = None
    pairs_converged: int | None = None
    pairs_islanded: int | None = None
    pairs_diverged: int | None = None
    violations_before: int | None = None
    """Pairs with a violation before adjustment."""
    violations_after: int | None = None
    """Pairs with a violation after adjustment."""
    hours_adjusted: int | None = None
    wall_s: float | None = None
    memory_gib: float | None = None
    """Peak memory of all processes together."""


@dataclass(frozen=True)
class Table6Row:
    """One stage of the paper's Table 6.

    Attributes
    ----------
    stage : str
        e.g. ``"Unit commitment"``.
    tasks : int
        Ledger tasks.
    subtasks : int
        The paper's tasks: an hour, or a (contingency, hour) pair.
    mean_subtask_s : float or None
        Mean measured time of a subtask.
    wall_s : float or None
        Actual time of the stage.
    io_share : float or None
        Reading and writing / busy time, 0 to 1.
    memory_gib : float or None
        Most memory that a process held during a task of the stage.
    """

    stage: str
    tasks: int
    subtasks: int
    mean_subtask_s: float | None = None
    wall_s: float | None = None
    io_share: float | None = None
    memory_gib: float | None = None

    @property
    def serial_s(self) -> float | None:
        """Estimated serial time: subtasks x mean measured time (the paper's definition), not measured serially."""
        return None if self.mean_subtask_s is None else self.subtasks * self.mean_subtask_s

    @property
    def speed_up(self) -> float | None:
        """Estimated serial time / actual time (the paper's definition); an estimate as well."""
        return self.serial_s / self.wall_s if self.serial_s is not None and self.wall_s else None


@dataclass(frozen=True)
class Program:
    """A program that a step used."""

    step: str
    slot: str
    name: str
    version: str
    digest: str


@dataclass(frozen=True, eq=False)
class Network:
    """The network as it is drawn; axes ``bus``, ``branch``, ``snapshot``.

    Attributes
    ----------
    bus_name : (bus,) str
    base_kv : (bus,)
    longitude_deg, latitude_deg : (bus,)
        NaN where unknown; a schematic is drawn when fewer than half of the buses have coordinates.
    branch_name : (branch,) str
    from_bus, to_bus : (branch,) int
    is_transformer : (branch,) bool
    is_fictitious : (branch,) bool
        Branches of an equivalent; drawn faintly or not at all.
    snapshot_title : (snapshot,) str
        e.g. ``"Highest loading (hour 113), after adjustment"``. The first is shown first.
    loading : (snapshot, branch)
        Base-case loading, NaN where unrated.
    vm_pu : (snapshot, bus)
    """

    bus_name: StrArray
    base_kv: FloatArray
    longitude_deg: FloatArray
    latitude_deg: FloatArray
    branch_name: StrArray
    from_bus: IntArray
    to_bus: IntArray
    is_transformer: BoolArray
    is_fictitious: BoolArray
    snapshot_title: StrArray
    loading: FloatArray
    vm_pu: FloatArray


@dataclass(frozen=True, eq=False)
class Schedule:
    """The hourly states of the final schedule; every field may be None, names go with their arrays.

    Attributes
    ----------
    unit_name, unit_technology : (unit,) str
    unit_p_mw_max : (unit,)
    unit_p_mw : (hour, unit)
    unit_on : (hour, unit) bool
    unit_committable : (unit,) bool
        Units shown in the commitment map; None = all.
    unit_vm_set_pu : (hour, unit)
        NaN where the unit does not control voltage.
    unit_curtailed_mw : (hour, unit)
        Available but not used infeed of variable units.
    svg_name : (svg,) str
    svg_q_mvar : (hour, svg)
    bus_name : (bus,) str
    bus_base_kv : (bus,)
    bus_vm_pu : (hour, bus)
    bus_vm_pu_min, bus_vm_pu_max : (bus,)
        Base-case limits.
    branch_name : (branch,) str
    branch_loading : (hour, branch)
        Base case, NaN where unrated.
    branch_loading_max : (branch,)
        Base-case limit; None = 1.
    branch_overload_hours_n1 : (branch,) int
        Hours in which the branch is congested after at least one contingency.
    load_mw, losses_mw, shed_mw : (hour,)
    reserve_up_mw, reserve_down_mw, reserve_up_required_mw, reserve_down_required_mw : (hour,)
    storage_name : (storage,) str
    storage_p_mw : (hour, storage)
        Positive: discharging.
    storage_energy_mwh : (hour, storage)
        At the end of the hour.
    hvdc_name : (hvdc,) str
    hvdc_p_mw : (hour, hvdc)
        Sent from the from end.
    lmp_eur_per_mwh : (hour, bus)
    cost_eur : mapping of str to (hour,)
        Costs by kind: ``minimum output``, ``energy above``, ``curtailment``, ``start-up`` and ``shedding`` of the
        schedule before adjustment, ``adjustment`` = what the adjusted states cost more; their sum is the
        schedule's cost.
    co2_t : (hour,)
    """

    unit_name: StrArray | None = None
    unit_technology: StrArray | None = None
    unit_p_mw_max: FloatArray | None = None
    unit_p_mw: FloatArray | None = None
    unit_on: BoolArray | None = None
    unit_committable: BoolArray | None = None
    unit_vm_set_pu: FloatArray | None = None
    unit_curtailed_mw: FloatArray | None = None
    svg_name: StrArray | None = None
    svg_q_mvar: FloatArray | None = None
    bus_name: StrArray | None = None
    bus_base_kv: FloatArray | None = None
    bus_vm_pu: FloatArray | None = None
    bus_vm_pu_min: FloatArray | None = None
    bus_vm_pu_max: FloatArray | None = None
    branch_name: StrArray | None = None
    branch_loading: FloatArray | None = None
    branch_loading_max: FloatArray | None = None
    branch_overload_hours_n1: IntArray | None = None
    load_mw: FloatArray | None = None
    losses_mw: FloatArray | None = None
    shed_mw: FloatArray | None = None
    reserve_up_mw: FloatArray | None = None
    reserve_down_mw: FloatArray | None = None
    reserve_up_required_mw: FloatArray | None = None
    reserve_down_required_mw: FloatArray | None = None
    storage_name: StrArray | None = None
    storage_p_mw: FloatArray | None = None
    storage_energy_mwh: FloatArray | None = None
    hvdc_name: StrArray | None = None
    hvdc_p_mw: FloatArray | None = None
    lmp_eur_per_mwh: FloatArray | None = None
    cost_eur: Mapping[str, FloatArray] | None = None
    co2_t: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Contingencies:
    """Results of contingencies over all hours (Fig. 12); axes ``hour``, ``contingency``.

    Attributes
    ----------
    name : (contingency,) str
        The contingencies given; the report shows the most severe of them.
    total : int
        How many were verified in the run; more than given when the caller chose.
    outcome : (hour, contingency) int
        `CONVERGED`, `ISLANDED` or `DIVERGED`.
    loading_max : (hour, contingency)
        Highest loading, NaN where diverged.
    vm_min_pu, vm_max_pu : (hour, contingency)
        Extreme voltages, NaN where diverged.
    loading_limit, vm_pu_low, vm_pu_high : float
        Limits after a contingency.
    stage : str
        e.g. ``"after adjustment"``.
    """

    name: StrArray
    total: int
    outcome: IntArray
    loading_max: FloatArray
    vm_min_pu: FloatArray
    vm_max_pu: FloatArray
    loading_limit: float = 1.0
    vm_pu_low: float = 0.9
    vm_pu_high: float = 1.1
    stage: str = ""


@dataclass(frozen=True)
class Pair:
    """A (contingency, hour) pair among the worst, and in how many hours its contingency diverges."""

    hour: int
    contingency: str
    outcome: int
    loading: float
    loading_branch: str
    vm_min_pu: float
    vm_min_bus: str
    vm_max_pu: float
    vm_max_bus: str
    lost_load_mw: float = 0.0
    diverged_hours: int = 0


@dataclass(frozen=True)
class Monitored:
    """A branch that is overloaded after contingencies."""

    branch: str
    pairs: int
    """Pairs in which it is overloaded."""
    hours: int
    """Hours with at least one such pair."""
    loading_worst: float
    worst_contingency: str


@dataclass(frozen=True, eq=False)
class Security:
    """Overview of N-1 verification.

    Attributes
    ----------
    outcome_pairs : mapping of str to int
        Pairs by class: ``converged``, ``islanded``, ``diverged``.
    violations_before, violations_after : (hour,) int or None
        Pairs with a violation in each hour, before and after adjustment.
    worst : tuple of Pair
        Most severe first, one a contingency; the report shows 20.
    monitored : tuple of Monitored
        Most frequent first; the report shows 20.
    remaining : pa.Table or None
        What is still violated, worst first, as in `bos_core.report.violations.SCHEMA` with the report's hours;
        None = not known, empty = nothing.
    """

    outcome_pairs: Mapping[str, int]
    violations_before: IntArray | None = None
    violations_after: IntArray | None = None
    worst: tuple[Pair, ...] = ()
    monitored: tuple[Monitored, ...] = ()
    remaining: pa.Table | None = None

    @property
    def adjusted(self) -> bool:
        """Whether the figures, those of `violations_before` apart, are those of the adjusted hours."""
        return self.violations_after is not None


@dataclass(frozen=True, eq=False)
class Adjustment:
    """Adjusted hours; axis ``adjusted``.

    Attributes
    ----------
    hour : (adjusted,) int
    outcome : (adjusted,) int
        0 secure, 1 limits relaxed, 2 not converged.
    rounds : (adjusted,) int
    moved_mw, curtailed_mw, shed_mw, cost_eur : (adjusted,)
    """

    hour: IntArray
    outcome: IntArray
    rounds: IntArray
    moved_mw: FloatArray
    curtailed_mw: FloatArray
    shed_mw: FloatArray
    cost_eur: FloatArray


@dataclass(frozen=True, eq=False)
class AnnualStates:
    """Step 4: the plan year beside the historical one, as system totals; axes ``hour`` (8760), ``series``.

    Attributes
    ----------
    program : str
    name : (series,) str
        e.g. ``Load``, ``Wind``, ``Solar``.
    historical_mw, planned_mw : (hour, series)
    outage_mw : mapping of str to (hour,) or None
        Capacity out of service by kind or technology.
    """

    program: str
    name: StrArray
    historical_mw: FloatArray
    planned_mw: FloatArray
    outage_mw: Mapping[str, FloatArray] | None = None


@dataclass(frozen=True)
class BranchExtreme:
    """A branch at its highest loading over the hours."""

    name: str
    loading_max: float
    hour: int
    overload_hours: int
    losses_mwh: float


@dataclass(frozen=True)
class BusExtreme:
    """A bus at its voltage farthest beyond, or nearest to, its limits."""

    name: str
    vm_pu: float
    hour: int
    vm_pu_min: float
    vm_pu_max: float
    violation_hours: int


@dataclass(frozen=True, eq=False)
class PowerFlow:
    """A time-series power flow; axis ``hour``, values NaN and elements "" where an hour did not converge.

    Attributes
    ----------
    schedule : str
        Where the units' powers come from: ``planned``, ``balanced`` or ``snapshot``.
    outcome : (hour,) int
        0 converged, 1 diverged, -1 not solved yet.
    iterations : (hour,) int
    residual_pu : (hour,)
    load_mw, losses_mw, slack_p_mw : (hour,)
    loading_max : (hour,)
    loading_branch : (hour,) str
    overloaded, voltage_violations, q_limited : (hour,) int
        Branches above their limit, buses beyond theirs, buses whose voltage control stands at a reactive limit.
    vm_min_pu, vm_p05_pu, vm_p50_pu, vm_p95_pu, vm_max_pu : (hour,)
        Extremes and percentiles over the buses.
    vm_min_bus, vm_max_bus : (hour,) str
    vm_pu_low, vm_pu_high : float
        Widest voltage limits of all buses.
    branches : tuple of BranchExtreme
        Highest loading first.
    buses : tuple of BusExtreme
        Farthest beyond a limit first.
    """

    schedule: str
    outcome: IntArray
    iterations: IntArray
    residual_pu: FloatArray
    load_mw: FloatArray
    losses_mw: FloatArray
    slack_p_mw: FloatArray
    loading_max: FloatArray
    loading_branch: StrArray
    overloaded: IntArray
    voltage_violations: IntArray
    q_limited: IntArray
    vm_min_pu: FloatArray
    vm_p05_pu: FloatArray
    vm_p50_pu: FloatArray
    vm_p95_pu: FloatArray
    vm_max_pu: FloatArray
    vm_min_bus: StrArray
    vm_max_bus: StrArray
    vm_pu_low: float
    vm_pu_high: float
    branches: tuple[BranchExtreme, ...] = ()
    buses: tuple[BusExtreme, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """Where a step's results come from."""

    step: str
    program: str
    """``slot/name@digest``."""
    tasks: int
    succeeded: int
    failed: int
    retried: int
    subtasks: int
    scenario_in: str
    scenario_out: str


@dataclass(frozen=True)
class Unfinished:
    """A task without a result: what is known of it.

    Attributes
    ----------
    step, part, state : str
    attempts : int
    message, log : str
        Why it failed; the last lines of its log.
    """

    step: str
    part: str
    state: str
    attempts: int
    message: str
    log: str


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything a report shows.

    `snapshot_log` (iterations of step 2) and `equivalence` (errors at the base and a second operating point) are
    tables as they are; a column's unit is taken from its field metadata ``unit``.
    """

    head: Head
    figures: KeyFigures = KeyFigures()
    programs: tuple[Program, ...] = ()
    table6: tuple[Table6Row, ...] = ()
    network: Network | None = None
    schedule: Schedule | None = None
    contingencies: Contingencies | None = None
    security: Security | None = None
    adjustment: Adjustment | None = None
    snapshot_log: pa.Table | None = None
    equivalence: pa.Table | None = None
    annual: AnnualStates | None = None
    power_flow: PowerFlow | None = None
    provenance: tuple[Provenance, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    """Tasks without a result, failed ones first."""


_SCHEDULE_AXES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("unit_name", "unit_technology", "unit_p_mw_max", "unit_committable"), ("unit",)),
    **dict.fromkeys(("unit_p_mw", "unit_on", "unit_vm_set_pu", "unit_curtailed_mw"), ("hour", "unit")),
    "svg_name": ("svg",),
    "svg_q_mvar": ("hour", "svg"),
    **dict.fromkeys(("bus_name", "bus_base_kv", "bus_vm_pu_min", "bus_vm_pu_max"), ("bus",)),
    **dict.fromkeys(("bus_vm_pu", "lmp_eur_per_mwh"), ("hour", "bus")),
    **dict.fromkeys(("branch_name", "branch_loading_max", "branch_overload_hours_n1"), ("branch",)),
    "branch_loading": ("hour", "branch"),
    **dict.fromkeys(
        (
            *("load_mw", "losses_mw", "shed_mw", "co2_t", "reserve_up_mw", "reserve_down_mw"),
            *("reserve_up_required_mw", "reserve_down_required_mw"),
        ),
        ("hour",),
    ),
    "storage_name": ("storage",),
    **dict.fromkeys(("storage_p_mw", "storage_energy_mwh"), ("hour", "storage")),
    "hvdc_name": ("hvdc",),
    "hvdc_p_mw": ("hour", "hvdc"),
}

_CONTINGENCY_AXES: Mapping[str, tuple[str, ...]] = {
    "name": ("contingency",),
    **dict.fromkeys(("outcome", "loading_max", "vm_min_pu", "vm_max_pu"), ("hour", "contingency")),
}

_NETWORK_AXES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("bus_name", "base_kv", "longitude_deg", "latitude_deg"), ("bus",)),
    **dict.fromkeys(("branch_name", "from_bus", "to_bus", "is_transformer", "is_fictitious"), ("branch",)),
    "snapshot_title": ("snapshot",),
    "loading": ("snapshot", "branch"),
    "vm_pu": ("snapshot", "bus"),
}

_ADJUSTMENT_AXES: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    ("hour", "outcome", "rounds", "moved_mw", "curtailed_mw", "shed_mw", "cost_eur"), ("adjusted",)
)

_POWER_FLOW_AXES: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    (
        *("outcome", "iterations", "residual_pu", "load_mw", "losses_mw", "slack_p_mw", "loading_max"),
        *("loading_branch", "overloaded", "voltage_violations", "q_limited", "vm_min_pu", "vm_p05_pu"),
        *("vm_p50_pu", "vm_p95_pu", "vm_max_pu", "vm_min_bus", "vm_max_bus"),
    ),
    ("hour",),
)

_SECURITY_AXES: Mapping[str, tuple[str, ...]] = dict.fromkeys(("violations_before", "violations_after"), ("hour",))


def check(data: ReportData) -> None:
    """Raise InputError with every array whose shape does not fit the others, or the head's hours."""
    findings: list[Finding] = []
    if data.head.hours < 1:
        findings.append(Finding("head", (), f"has {data.head.hours} hours", "give at least 1", "hours"))
    try:
        dt.datetime.fromisoformat(data.head.start)
    except ValueError:
        findings.append(Finding("head", (), f"start {data.head.start!r} is no date", "give ISO 8601", "start"))
    for part, axes in (
        (data.schedule, _SCHEDULE_AXES),
        (data.contingencies, _CONTINGENCY_AXES),
        (data.network, _NETWORK_AXES),
        (data.adjustment, _ADJUSTMENT_AXES),
        (data.security, _SECURITY_AXES),
        (data.power_flow, _POWER_FLOW_AXES),
    ):
        if part is not None:
            findings += _check_shapes(part, axes, data.head.hours)
    if findings:
        raise InputError(tuple(findings))


def _check_shapes(part: object, axes: Mapping[str, tuple[str, ...]], hours: int) -> list[Finding]:
    sizes: dict[str, tuple[int, str]] = {"hour": (hours, "head.hours")}
    findings = []
    for name, wanted in axes.items():
        value = getattr(part, name)
        if value is None:
            continue
        if value.ndim != len(wanted):
            findings.append(
                Finding(type(part).__name__, (), f"has {value.ndim} axes", f"give the axes {wanted}", name)
            )
            continue
        for axis, size in zip(wanted, value.shape, strict=True):
            known, first = sizes.setdefault(axis, (size, name))
            if known != size:
                problem = f"has {size} along {axis!r} but {first} has {known}"
                findings.append(Finding(type(part).__name__, (), problem, "give equal sizes", name))
    return findings
