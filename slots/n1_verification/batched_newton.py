"""All outages of an hour side by side with one factorization: the default program of the N-1 slot."""

from __future__ import annotations

import logging

from pydantic import Field, field_validator

from bos_core.grid.n1 import Criteria, verify_outages
from bos_core.grid.n1_kernels import KERNELS
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.n1_verification.contract import CONVERGED, Inputs, Outputs

logger = logging.getLogger(__name__)


class Parameters(ProgramParameters):
    """Parameters of the batched N-1 verification."""

    tolerance_pu: float = Field(default=1e-8, gt=0, le=1e-6)
    """Largest power mismatch of a solution, p.u."""

    distributed_slack: bool = False
    """Share the active balance among all running units that are not variable, by p_mw_max, instead of the slack
    alone."""

    kernel: str = "fastest"
    """avx512, avx2 or generic: the compiled extension with that instruction set; numba: where it is not built;
    one_by_one: every outage by its own Newton iterations. Default: the fastest of the machine."""

    @field_validator("kernel")
    @classmethod
    def _known(cls, kernel: str) -> str:
        if kernel not in ("fastest", *KERNELS):
            raise ValueError(f"this machine has no kernel {kernel}; it has: fastest, {', '.join(KERNELS)}")
        return kernel


MANIFEST = ProgramManifest(
    name="batched_newton",
    slot="n1_verification",
    version="1.0.0",
    title="Batched Newton",
    description=(
        "Full AC power flow of every outage with float64 residuals. Outages of an hour are iterated side by side "
        "with the compensated factors of the base case; those that do not settle get their own Newton iterations."
    ),
    parameters=Parameters,
    references=(
        "W. F. Tinney and C. E. Hart, Power flow solution by Newton's method, IEEE Trans. PAS 86 (1967)",
        "O. Alsac, B. Stott and W. F. Tinney, Sparsity-oriented compensation methods for modified network "
        "solutions, IEEE Trans. PAS 102 (1983)",
    ),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Verify every pair of hour and outage."""
    kernel = KERNELS[0] if parameters.kernel == "fastest" else parameters.kernel
    result = verify_outages(
        inputs.grid,
        inputs.states,
        inputs.contingency_branch,
        Criteria(inputs.vm_pu_min, inputs.vm_pu_max, inputs.loading_max),
        enforce_q_limits=inputs.enforce_q_limits,
        distributed_slack=parameters.distributed_slack,
        tol=parameters.tolerance_pu,
        kernel=kernel,
    )
    hours = result.base_outcome.size
    logger.info(
        "n-1 with the %s kernel: %d hours, %d pairs, %d of them solved one by one",
        result.kernel,
        hours,
        hours * inputs.contingency_branch.size,
        int(result.solved_alone.sum()),
    )
    diverged = int((result.base_outcome != CONVERGED).sum())
    if diverged:
        logger.warning("n-1: the base case of %d of %d hours diverged", diverged, hours)
    return Outputs(
        **result.extremes._asdict(),
        lost_load_mw=result.lost_load_mw,
        lost_generation_mw=result.lost_generation_mw,
        base_outcome=result.base_outcome,
        base_loading=result.base_loading,
        base_vm_pu=result.base_vm_pu,
        overload_hour=result.overloads.hour,
        overload_contingency=result.overloads.contingency,
        overload_branch=result.overloads.element,
        overload_loading=result.overloads.value,
        voltage_hour=result.voltages.hour,
        voltage_contingency=result.voltages.contingency,
        voltage_bus=result.voltages.element,
        voltage_vm_pu=result.voltages.value,
    )
