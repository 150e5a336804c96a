"""What a user asks for: the parameters of each business, as forms and as validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from blocks import run_settings
from bos_core.access.workspace import Workspace
from bos_core.objects.ontology import HOURS_PER_YEAR
from bos_core.programs import registry
from bos_core.programs.catalogue import Catalogue

StepName = Literal[
    "system_model",
    "snapshot",
    "equivalence",
    "annual_states",
    "unit_commitment",
    "active_dispatch",
    "reactive_dispatch",
    "n1_verification",
    "state_adjustment",
]

RECORDED: Mapping[str, bool] = {"recorded": True}
"""Context of validation for what was asked once: its tasks name their programs by digest, be they there or not."""

STEP_ORDER: tuple[StepName, ...] = get_args(StepName)

SLOT_OF_STEP: Mapping[StepName, str] = {
    "system_model": "system_model",
    "snapshot": "security_assessment",
    "equivalence": "equivalence",
    "annual_states": "scenario_sequence",
    "unit_commitment": "unit_commitment",
    "active_dispatch": "active_dispatch",
    "reactive_dispatch": "reactive_dispatch",
    "n1_verification": "n1_verification",
    "state_adjustment": "state_adjustment",
}
"""Which slot a step calls."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Horizon(_Model):
    """The hours to plan."""

    start_hour: Annotated[
        int,
        Field(
            title="First hour",
            description="Hour of the year, 0 = 1 January 00:00; 29 February does not exist.",
            ge=0,
            lt=HOURS_PER_YEAR,
        ),
    ] = 0
    hours: Annotated[
        int, Field(title="Hours", description="How many hours to plan; 8760 is the year.", ge=1, le=HOURS_PER_YEAR)
    ] = 168

    @model_validator(mode="after")
    def _inside_the_year(self) -> Horizon:
        if self.start_hour + self.hours > HOURS_PER_YEAR:
            last = HOURS_PER_YEAR - self.hours
            raise ValueError(
                f"hours {self.start_hour} to {self.stop_hour - 1} leave the year; start at {last} or earlier"
            )
        return self

    @property
    def stop_hour(self) -> int:
        """The hour after the last."""
        return self.start_hour + self.hours


class Programs(_Model):
    """Which program fills each slot; empty = the slot's default."""

    system_model: Annotated[str, Field(title="System model")] = ""
    security_assessment: Annotated[str, Field(title="Snapshot validation")] = ""
    equivalence: Annotated[str, Field(title="Network equivalence")] = ""
    scenario_sequence: Annotated[str, Field(title="Annual states")] = ""
    unit_commitment: Annotated[str, Field(title="Unit commitment")] = ""
    active_dispatch: Annotated[str, Field(title="Active power dispatch")] = ""
    reactive_dispatch: Annotated[str, Field(title="Reactive power dispatch")] = ""
    n1_verification: Annotated[str, Field(title="N-1 verification")] = ""
    state_adjustment: Annotated[str, Field(title="State adjustment")] = ""


class BusinessRequest(_Model):
    """What every business is asked for: a scenario, and programs with their parameters."""

    scenario: Annotated[
        str, Field(title="Scenario", description="Name, name@version or version id, as listed by `bos scenarios`.")
    ]

    @model_validator(mode="after")
    def _known_programs(self, info: ValidationInfo) -> BusinessRequest:
        if info.context is RECORDED:
            return self
        problems = []
        known_slots = type(self.programs).model_fields
        for slot in known_slots:
            name = self.program(slot)
            if name and name not in registry.program_names(slot):  # then an expert may have added it
                known = Catalogue(Workspace.open(run_settings())).names(slot)
                if name not in known:
                    problems.append(f"slot {slot} has no program {name!r}; known: {', '.join(known)}")
        unknown = sorted(set(self.program_parameters) - set(known_slots))
        problems += [f"program_parameters: {slot!r} is no slot" for slot in unknown]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def program(self, slot: str) -> str | None:
        """Return the program chosen for a slot, None for the default."""
        return getattr(self.programs, slot, "") or None

    def slots(self) -> tuple[str, ...]:
        """Return the slots whose programs will run."""
        return tuple(type(self.programs).model_fields)


class PlanRequest(BusinessRequest):
    """Everything that decides the result of a planning run."""

    horizon: Annotated[Horizon, Field(title="Horizon")] = Horizon()
    base_kv_min: Annotated[
        float,
        Field(
            title="Kept voltage level (kV)",
            description="The equivalence keeps buses of this nominal voltage and above; 0 keeps the whole grid.",
            ge=0,
        ),
    ] = 220.0
    contingencies: Annotated[
        Literal["all", "lines", "transformers"],
        Field(title="Contingencies", description="Which single-branch outages are verified."),
    ] = "all"
    snapshot_hour: Annotated[
        int | None,
        Field(
            title="Snapshot hour",
            description="Hour whose state is validated first; empty = the hour of highest demand in the horizon.",
            ge=0,
            lt=HOURS_PER_YEAR,
        ),
    ] = None
    adjustment_rounds: Annotated[
        int,
        Field(title="Adjustment rounds", description="Rounds of adjustment and re-verification.", ge=0, le=5),
    ] = 1
    chunk_hours: Annotated[
        int,
        Field(title="Hours a task", description="Hours in one task of reactive dispatch and N-1.", ge=1, le=744),
    ] = 24
    seed: Annotated[int, Field(title="Seed", description="Seed of every random draw.", ge=0)] = 1
    programs: Annotated[Programs, Field(title="Programs")] = Programs()
    program_parameters: Annotated[
        dict[str, dict[str, object]],
        Field(title="Program parameters", description="By slot: parameters of the chosen program."),
    ] = {}
    from_step: Annotated[
        StepName, Field(title="First step", description="Start here; earlier steps are taken from the scenario.")
    ] = "system_model"
    to_step: Annotated[StepName, Field(title="Last step", description="Stop after this step.")] = (
        "state_adjustment"
    )

    @model_validator(mode="after")
    def _steps_in_order(self) -> PlanRequest:
        if STEP_ORDER.index(self.from_step) > STEP_ORDER.index(self.to_step):
            raise ValueError(f"first step {self.from_step} comes after last step {self.to_step}")
        return self

    def steps(self) -> tuple[StepName, ...]:
        """Return the steps to run, in order."""
        return STEP_ORDER[STEP_ORDER.index(self.from_step) : STEP_ORDER.index(self.to_step) + 1]

    def slots(self) -> tuple[str, ...]:
        """Return the slots whose programs will run."""
        return tuple(SLOT_OF_STEP[step] for step in self.steps())


class PowerFlowPrograms(_Model):
    """Which program solves; empty = the slot's default."""

    power_flow: Annotated[str, Field(title="Power flow")] = ""


class PowerFlowRequest(BusinessRequest):
    """Everything that decides the result of a time-series power flow."""

    horizon: Annotated[
        Horizon | None,
        Field(
            title="Horizon",
            description="Empty: every hour whose state the scenario holds; where it holds none, its snapshot.",
        ),
    ] = None
    enforce_q_limits: Annotated[
        bool,
        Field(title="Reactive limits", description="Let voltage control give way at reactive limits."),
    ] = True
    distributed_slack: Annotated[
        bool,
        Field(
            title="Distributed slack",
            description=(
                "Running units share the active balance by size, instead of the slack alone. Hours without a "
                "planned dispatch always do."
            ),
        ),
    ] = False
    elements: Annotated[
        bool,
        Field(
            title="Keep every bus and branch",
            description="Off: only totals and extremes of each hour and of each element are kept.",
        ),
    ] = True
    chunk_hours: Annotated[int, Field(title="Hours a task", description="Hours in one task.", ge=1, le=744)] = 24
    programs: Annotated[PowerFlowPrograms, Field(title="Programs")] = PowerFlowPrograms()
    program_parameters: Annotated[
        dict[str, dict[str, object]],
        Field(title="Program parameters", description="By slot: parameters of the chosen program."),
    ] = {}
