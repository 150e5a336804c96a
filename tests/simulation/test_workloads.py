"""Workload files, the paper's Table 6, and the command that plays them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bos_core.scheduling
from bos_core import cli
from bos_core.coscheduling import policies
from bos_core.objects.errors import FormatError
from bos_core.scheduling.machine import Machine
from bos_core.scheduling.policies import Level, Limits
from bos_core.scheduling.simulation import Result, Simulation, World
from bos_core.scheduling.workload import Workload, read

SERVER = {"server": "one", "cpu_cores": 4, "memory_mb": 8000}
TABLE_6 = Path(bos_core.scheduling.__file__).with_name("table6.json")


def written(path: Path, stages: list[dict[str, object]], **more: object) -> Path:
    path.write_text(json.dumps({"servers": [SERVER], "stages": stages, **more}))
    return path


def played(workload: Workload, **limits: object) -> tuple[Machine, Result]:
    known = Limits(**{"levels": workload.levels or Limits().levels, **limits})  # type: ignore[arg-type]
    machine = Machine(policies({"container_sizing": "greedy_levels"}, checked=False), known)
    return machine, Simulation(machine, workload, World(rest_s=200.0), Random(1)).run()


def test_table_6_has_the_counts_and_mean_times_of_the_paper() -> None:
    workload = read(TABLE_6)
    paper = {  # stage: subtasks (tasks elsewhere), mean s
        "unit commitment": (377, 10.56),
        "active dispatch": (366, 6.12),
        "reactive dispatch": (8761, 1.35),
        "N-1 verification": (6_175_800, 0.85),
        "state adjustment": (8761, 18.47),
    }
    for name, (count, mean_s) in paper.items():
        arrivals = [a for stage in workload.stages if stage.name.startswith(name) for a in stage.arrivals]
        assert sum(a.request.subtasks for a in arrivals) == count
        assert sum(a.duration_s for a in arrivals) / count == pytest.approx(mean_s, rel=0.02)
    assert sum(server.cpu_cores for server in workload.servers) == 280


def test_scaling_up_and_down_with_a_deadline_and_without_flapping(tmp_path: Path) -> None:
    stages = [
        {"name": "calm", "tasks": 10, "duration_s": 5, "memory_mb": 500, "every_s": 20},
        {"name": "burst", "tasks": 20, "duration_s": 10, "memory_mb": 500, "at_s": 100, "deadline_s": 80},
    ]
    _, result = played(read(written(tmp_path / "burst.json", stages)), prior_memory_mb=500.0)
    assert all(run.outcome == "success" and run.ended_s <= run.due_s for run in result.tasks.values())
    most = max(count for _, count, _, _ in result.containers)
    assert most == 4
    before = [count for at_s, count, _, _ in result.containers if 50 < at_s < 100]
    assert max(before, default=1) == 1
    assert result.containers[-1][1] == 0
    assert result.starts <= 8


def test_forecasts_get_better_from_run_to_run(tmp_path: Path) -> None:
    stages = [
        {"name": "day", "tasks": 40, "duration_s": 10, "duration_spread": 0.1, "memory_mb": 3000,
         "memory_spread": 0.1},
    ]  # fmt: skip
    workload = read(written(tmp_path / "days.json", stages))
    machine, first = played(workload)
    history = machine.forecasts.history()
    again = Machine(policies(checked=False), Limits(), history)
    second = Simulation(again, workload, World(), Random(1)).run()
    assert first.kills > 0
    assert second.kills == 0
    assert second.makespan_s < first.makespan_s
    assert machine.forecasts.duration_error[0] < 0.15


def test_a_parquet_file_says_the_tasks_themselves(tmp_path: Path) -> None:
    table = pa.table(
        {"name": ["a", "a", "b"], "at_s": [0.0, 5.0, 1.0], "duration_s": [3.0, 4.0, 5.0], "memory_mb": [300.0] * 3,
         "queue": ["normal", "normal", "urgent"]}
    )  # fmt: skip
    table = table.replace_schema_metadata({"servers": json.dumps([SERVER])})
    pq.write_table(table, tmp_path / "tasks.parquet")
    workload = read(tmp_path / "tasks.parquet")
    assert [a.duration_s for a in workload.stages[0].arrivals] == [3.0, 4.0, 5.0]
    _, result = played(workload)
    assert [run.arrived_s for run in sorted(result.tasks.values(), key=lambda r: r.arrived_s)] == [0.0, 1.0, 5.0]
    assert all(run.outcome == "success" for run in result.tasks.values())


def test_a_wrong_file_is_told_everything_at_once(tmp_path: Path) -> None:
    stages: list[dict[str, object]] = [
        {"name": "a", "duration_s": -1, "memory_mb": 500},
        {"name": "b", "duration_s": 1, "memory_mb": "much", "colour": "red"},
    ]
    with pytest.raises(FormatError) as error:
        read(written(tmp_path / "wrong.json", stages))
    said = str(error.value)
    assert "stages.0.duration_s" in said
    assert "stages.1.memory_mb" in said
    assert "stages.1.colour" in said
    ordered: list[dict[str, object]] = [
        {"name": "a", "duration_s": 1, "memory_mb": 500, "after": ["b"]},
        {"name": "a", "duration_s": 1, "memory_mb": 500},
    ]
    with pytest.raises(FormatError, match="comes after 'b'") as error:
        read(written(tmp_path / "order.json", ordered))
    assert "stands twice" in str(error.value)
    for name, content in (("none.json", None), ("text.json", "hello"), ("text.parquet", "hello")):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(FormatError):
            read(tmp_path / name)


def test_what_no_server_can_hold_is_named_and_ends(tmp_path: Path) -> None:
    stages: list[dict[str, object]] = [{"name": "huge", "tasks": 2, "duration_s": 5, "memory_mb": 50_000}]
    _, result = played(read(written(tmp_path / "huge.json", stages)))
    assert {run.outcome for run in result.tasks.values()} == {"out of memory"}


def test_quotas_in_cpu_and_memory_and_the_milp_of_formula_2(tmp_path: Path) -> None:
    stages: list[dict[str, object]] = [
        {"name": "small", "tasks": 12, "duration_s": 8, "memory_mb": 500},
        {"name": "large", "tasks": 3, "duration_s": 16, "memory_mb": 3000, "deadline_s": 120},
    ]
    levels = [
        {"cpu_cores": 1, "memory_mb": 1000, "cost_per_h": 1},
        {"cpu_cores": 2, "memory_mb": 4000, "cost_per_h": 2},
    ]
    workload = read(written(tmp_path / "two.json", stages, levels=levels))
    assert workload.levels == (Level(1.0, 1000, 1.0), Level(2.0, 4000, 2.0))
    machine = Machine(policies(), Limits(levels=workload.levels))
    result = Simulation(machine, workload, World(), Random(1)).run()
    assert all(run.outcome == "success" for run in result.tasks.values())


def test_the_command_prints_the_table_and_the_story_of_a_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    path = written(tmp_path / "one.json", [{"name": "day", "tasks": 5, "duration_s": 5, "memory_mb": 500}])
    log = tmp_path / "log.jsonl"
    arguments = ["simulate", str(path), "--why", "0/1", "--log", str(log), "--policy", "task-priority=least-slack"]
    assert cli.run_command(arguments) == 0
    said = capsys.readouterr().out
    assert "makespan" in said
    assert "independent check of the log: 0 findings" in said
    assert "attempt 1 succeeded" in said
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(line["kind"] == "CompleteTask" for line in lines) == 5
    assert cli.run_command(["simulate", str(path), "--why", "7/7"]) == 2
    assert cli.run_command(["simulate", str(path), "--policy", "task_priority"]) == 2
    assert cli.run_command(["simulate", str(tmp_path / "none.json")]) == 2
