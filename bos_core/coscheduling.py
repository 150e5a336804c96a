"""Where the co-scheduling machine gets its algorithms from: the programs of four slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bos_core.objects.contracts import CO_SCHEDULING
from bos_core.objects.errors import OptionError
from bos_core.programs import registry
from bos_core.programs.registry import Program
from bos_core.scheduling.policies import Policies

SLOTS = {
    "task_forecast": "forecast",
    "task_priority": "prioritise",
    "task_assignment": "assign",
    "container_sizing": "size",
}
"""The slots of A1, A2, A3 and formula (2), and what the machine calls them."""


def policies(programs: Mapping[str, str] | None = None, checked: bool = True) -> Policies:
    """Return the machine's algorithms.

    Parameters
    ----------
    programs : mapping, optional
        Program by slot; the slot's default elsewhere.
    checked : bool
        Check every call against the contract of its slot, as for any program.

    Raises
    ------
    OptionError
        If there is no such slot or program.
    """
    chosen = dict(programs or {})
    unknown = [registry.unknown(f"slot of {CO_SCHEDULING}", slot, list(SLOTS)) for slot in chosen.keys() - SLOTS]
    if unknown:
        raise OptionError(tuple(unknown))
    calls = {name: _caller(registry.resolve(slot, chosen.get(slot)), checked) for slot, name in SLOTS.items()}
    return Policies(**calls)


def _caller(program: Program, checked: bool) -> Callable[..., Any]:
    inputs, parameters, run = program.contract.inputs, program.parameters({}), program.module.run
    if checked:
        return lambda **arrays: program.run(inputs(**arrays), {})
    return lambda **arrays: run(inputs(**arrays), parameters)
