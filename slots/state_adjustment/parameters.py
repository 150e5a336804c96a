"""What a planner may set of the redispatch."""

from __future__ import annotations

from pydantic import Field

from bos_core.objects.contracts import ProgramParameters


class Parameters(ProgramParameters):
    """What a planner may set."""

    rounds_max: int = Field(4, ge=1, le=20)
    """Rounds of redispatch and AC check of all outages."""
    outages_per_branch: int = Field(20, ge=1, le=1000)
    """Worst outages of a monitored branch that become cuts in a round."""
    cuts_max: int = Field(3000, ge=1, le=20_000)
    """Worst cuts of a round; the others wait for the next one."""
    watched_share: float = Field(0.97, ge=0.5, le=1.0)
    """Outages that load a branch above this share of its limit by estimate are cuts as well, unharmed so far."""
    loading_margin: float = Field(0.002, ge=0, le=0.2)
    """Loading kept free of the limit for what the linear cuts do not see."""
    base_margin: float = Field(0.012, ge=0, le=0.2)
    """The same before any outage: losses and voltages of every outage add a little to a branch that is full."""
    trust_share: float = Field(0.4, gt=0, le=1)
    """Most change of a unit in one round, as a share of its greatest power (and not less than of 100 MW)."""
    move_premium_eur_per_mwh: float = Field(1.0, ge=0, le=1e3)
    """Added to every MW moved, so that nothing moves without need."""
    improve_voltages: bool = True
    """Dispatch reactive power anew, within tighter limits, where voltages after an outage leave their limits."""
    voltage_margin_pu: float = Field(0.002, ge=0, le=0.05)
    """Added to those tighter limits."""
    enforce_q_limits: bool = True
    """Whether voltage control ends at reactive limits in the AC checks."""
