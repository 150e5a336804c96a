from bos_core.grid.elimination import Factors, Pattern
from bos_core.grid.model import FloatArray, IntArray
from bos_core.grid.n1_cases import Extremes, Monitor
from bos_core.grid.n1_lanes import Outages
from bos_core.grid.newton import Control, State

_List = tuple[IntArray, IntArray, FloatArray]

def instruction_sets() -> list[str]: ...
def solve(
    pattern: Pattern,
    factors: Factors,
    state: State,
    control: Control,
    g: FloatArray,
    b: FloatArray,
    outages: Outages,
    monitor: Monitor,
    extremes: Extremes,
    *,
    tolerance: float,
    iterations_max: int,
    enforce: bool,
    distributed: bool,
    criterion_tolerance: float,
    limit_tolerance: float,
    returns_max: int,
    instruction_set: str,
) -> tuple[_List, _List, IntArray, dict[str, float]]: ...
