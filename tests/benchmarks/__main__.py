"""Run the benchmarks, each in a process of its own: print tables, keep JSON, draw pictures.

python tests/benchmarks [--only NAME ...] [--budget SECONDS] [--draw]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from frame import RESULTS, Bench, show, terminal
from rich.console import Console
from summary import write_summary

NAMES = (
    "power_flow", "time_series", "n1", "unit_commitment", "active_dispatch", "reactive_dispatch", "equivalence",
    "adjustment", "annual_states", "ontology", "scenarios", "coscheduling", "ledger", "containers",
)  # fmt: skip
INTERRUPTED = 130
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=[], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for the largest series of a benchmark")
    parser.add_argument("--draw", action="store_true", help="only draw and show what was measured")
    parser.add_argument("--inside", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(options.inside, options.budget)
    console, chosen, codes = terminal(), options.only or list(NAMES), []
    for name in [] if options.draw else chosen:
        codes.append(alone(name, options.budget, console))
        if codes[-1] == INTERRUPTED:
            console.print("[yellow]interrupted: what is finished is kept[/]")
            break
    for name in chosen:
        path = RESULTS / f"{name}.json"
        if path.exists():
            show(json.loads(path.read_text(encoding="utf-8")), console)
    write_summary(NAMES)
    if INTERRUPTED not in codes:
        draw(chosen, console)
    return next((code for code in codes if code), 0)


def alone(name: str, budget_s: float, console: Console) -> int:
    """Run one benchmark in a process of its own, so that none inherits memory, threads or a crash."""
    console.rule(name)
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}
    command = [sys.executable, str(Path(__file__).parent), "--inside", name, "--budget", str(budget_s)]
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        return INTERRUPTED
    if code not in (0, INTERRUPTED):
        console.print(f"[red]{name} ended with code {code}[/]; its finished rows are kept")
    console.print(f"[dim]{name}: {time.monotonic() - started:.0f} s[/]", highlight=False)
    return code


def inside(name: str, budget_s: float) -> int:
    """Run one benchmark in this process."""
    try:
        module = importlib.import_module(name)
        bench = Bench(name, module.TITLE, module.PACKAGES, getattr(module, "SIZE", "buses"))
        module.run(bench, budget_s)
    except KeyboardInterrupt:
        return INTERRUPTED
    bench.finished = True
    bench.save()
    return 0


def draw(names: list[str], console: Console) -> None:
    """Draw the pictures; without a browser there are none."""
    from draw import draw_all

    try:
        draw_all(names)
    except Exception as error:
        console.print(f"[yellow]no pictures: {str(error).splitlines()[0]}[/]", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
