"""Random workloads and faults for the co-scheduling machine, from seeds; an independent checker reads the log.

python tests/simulation/fault_scenarios.py 20000          # a campaign
python tests/simulation/fault_scenarios.py --seed 17      # one seed, with its log as JSON lines
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from random import Random

from bos_core.coscheduling import policies
from bos_core.objects.errors import BosError
from bos_core.scheduling.events import Queue, TaskSubmitted
from bos_core.scheduling.log_checker import LogChecker
from bos_core.scheduling.machine import Machine
from bos_core.scheduling.policies import Level, Limits, Policies
from bos_core.scheduling.simulation import Outage, Simulation, World
from bos_core.scheduling.workload import Arrival, ServerPart, Stage, Workload

LEVELS = (Level(1.0, 1000, 1.0), Level(1.0, 2000, 1.2), Level(1.0, 4000, 1.6))
POLICIES = policies({"container_sizing": "greedy_levels"}, checked=False)


@dataclass(frozen=True)
class Scenario:
    """What a seed stands for."""

    workload: Workload
    world: World
    limits: Limits


def scenario(seed: int) -> Scenario:
    """Draw servers, tasks and faults; many seeds have none of a given kind."""
    random = Random(seed)
    servers = tuple(
        ServerPart(server=f"s{n}", cpu_cores=random.choice([2, 4]), memory_mb=random.choice([4000, 6000, 9000]))
        for n in range(random.choice([1, 2, 2]))
    )
    stages = [_stage(random, place) for place in range(random.randint(1, 3))]
    for place in range(1, len(stages)):
        if random.random() < 0.5:
            stages[place] = replace(stages[place], after=(stages[place - 1].name,))
    often = random.choice([0.0, 0.0, 0.05, 0.15])
    outages = [
        Outage(random.choice(servers).server, random.uniform(0, 100), random.uniform(2, 60), random.random() < 0.5)
        for _ in range(random.choice([0, 0, 1, 2]))
    ]
    world = World(
        start_s=(1.0, random.choice([2.0, 10.0, 25.0])),
        message_s=random.choice([0.0, 0.05, 1.0]),
        start_failure=often,
        container_loss=often,
        lost_assignment=random.choice([0.0, 0.0, 0.05]),
        repeated_event=random.choice([0.0, 0.1]),
        stopped_from_outside=often,
        outages=tuple(outages),
        end_s=4000.0,
        rest_s=random.choice([0.0, 150.0]),
        tick_s=5.0,
    )
    limits = Limits(
        levels=LEVELS,
        queue_max=random.choice([5, 20, 1000]),
        attempts_max=12,
        patience_s=random.choice([30.0, 120.0]),
        silence_s=30.0,
        candidates=random.choice(["best", "random"]),
        prior_duration_s=20.0,
        prior_memory_mb=random.choice([500.0, 1500.0]),
    )
    return Scenario(Workload(servers, tuple(stages)), world, limits)


def _stage(random: Random, place: int) -> Stage:
    request = TaskSubmitted(
        task="",
        slot="test",
        program=f"p{place}",
        queue=random.choice([Queue.NORMAL, Queue.NORMAL, Queue.URGENT, Queue.TRIAL]),
        features=(("hours", random.choice([24.0, 168.0])),),
        deadline_s=random.choice([None, None, 60.0, 300.0]),
    )
    duration, memory = random.choice([2.0, 10.0, 30.0]), random.choice([300.0, 900.0, 1800.0])
    every = random.choice([0.0, 0.0, 3.0])
    heavy, broken = random.choice([0.0, 0.1, 0.3]), random.choice([0.0, 0.05, 0.15])
    arrivals: list[Arrival] = []
    for number in range(random.randint(1, 14)):
        needs = (random.choice(arrivals).request.task,) if arrivals and random.random() < 0.15 else ()
        peak = memory * random.uniform(0.7, 1.2)
        if random.random() < heavy:
            peak = random.choice([1.5, 3.0, 6.0]) * memory
        behaviour = random.choice(["fails", "crashes"]) if random.random() < broken else "works"
        task = replace(request, task=f"{place}/{number}", depends_on=needs)
        arrivals.append(Arrival(task, number * every, duration * random.uniform(0.5, 1.5), peak, behaviour))
    return Stage(f"stage {place}", tuple(arrivals), at_s=random.choice([0.0, 0.0, 20.0]))


def play(
    seed: int, algorithms: Policies = POLICIES, change: Callable[[Machine], None] | None = None
) -> tuple[Simulation, list[str]]:
    """Run a seed and return the simulation with what is broken.

    Parameters
    ----------
    change : callable, optional
        Does something to the machine before it runs.
    """
    drawn = scenario(seed)
    machine = Machine(algorithms, drawn.limits, random=Random(seed))
    if change is not None:
        change(machine)
    simulation = Simulation(machine, drawn.workload, drawn.world, Random(seed + 1))
    try:
        simulation.run()
    except BosError as error:
        return simulation, [f"{type(error).__name__}: {error}"]
    limits = drawn.limits
    levels = [level.memory_mb for level in limits.levels]
    checker = LogChecker(levels, limits.queue_max, limits.attempts_max, limits.hold_s)
    broken = checker.read(simulation.lines())
    if not broken and simulation.result.unfinished:
        broken = [f"{simulation.result.unfinished} tasks never ended"]
    return simulation, broken


def _broken(seed: int) -> tuple[int, list[str]]:
    return seed, play(seed)[1]


def campaign(seeds: Iterable[int], workers: int = 2) -> dict[int, list[str]]:
    """Run seeds side by side and return what is broken by seed."""
    with ProcessPoolExecutor(workers) as pool:
        return {seed: broken for seed, broken in pool.map(_broken, seeds, chunksize=50) if broken}


def main() -> int:
    """Run a campaign, or one seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int, nargs="?", default=2000)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    if options.seed is not None:
        simulation, broken = play(options.seed)
        for at_s, sort, message in simulation.lines():
            print(json.dumps({"at_s": at_s, "sort": sort, **message}))
        print("\n".join(broken) or "nothing is broken", file=sys.stderr)
        return bool(broken)
    started = time.monotonic()
    broken_seeds = campaign(range(options.seeds))
    for seed, broken in list(broken_seeds.items())[:20]:
        print(f"seed {seed}: {broken[0]} ({len(broken)} findings)")
    print(f"{options.seeds} seeds, {len(broken_seeds)} broken, {time.monotonic() - started:.0f} s")
    return bool(broken_seeds)


if __name__ == "__main__":
    sys.exit(main())
