"""The steps of the businesses by name; those of the planning chain in order."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from flows import (
    power_flow_step,
    step1_system_model,
    step2_snapshot,
    step3_equivalence,
    step4_annual_states,
    step5a_unit_commitment,
    step5b_active_dispatch,
    step5c_reactive_dispatch,
    step6_n1_verification,
    step7_state_adjustment,
)
from flows.step import Step

STEPS: Mapping[str, Step] = MappingProxyType(
    {
        step.name: step
        for step in (
            step1_system_model.STEP,
            step2_snapshot.STEP,
            step3_equivalence.STEP,
            step4_annual_states.STEP,
            step5a_unit_commitment.STEP,
            step5b_active_dispatch.STEP,
            step5c_reactive_dispatch.STEP,
            step6_n1_verification.STEP,
            step7_state_adjustment.STEP,
            power_flow_step.STEP,
        )
    }
)
