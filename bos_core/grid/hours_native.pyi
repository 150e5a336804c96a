from bos_core.grid.elimination import Pattern
from bos_core.grid.hours_lanes import Found, Networks
from bos_core.grid.injections import BusInjections
from bos_core.grid.model import FloatArray, IntArray

def instruction_sets() -> list[str]: ...
def solve(
    pattern: Pattern,
    order: IntArray,
    slack: int,
    networks: Networks,
    injections: BusInjections,
    weight: FloatArray | None,
    found: Found,
    *,
    tolerance: float,
    iterations_max: int,
    enforce: bool,
    limit_tolerance: float,
    returns_max: int,
    rounds_max: int,
    lost: int,
    diverged: float,
    instruction_set: str,
) -> None: ...
