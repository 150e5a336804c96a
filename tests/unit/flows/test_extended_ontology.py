"""A model with columns and a kind of its own: added, given values, run, seen, traced, reduced and taken back."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from extending_program import program

from bos_core.access.added_elements import added_elements, added_to_reduced, buses_of_added_kinds
from bos_core.access.reduced_model import reduced_tables
from bos_core.access.scenario_data import ScenarioReader
from bos_core.api import Bos, connect
from bos_core.cli import run_command
from bos_core.grid.equivalence import Equivalent
from bos_core.grid.power_flow import solve_hours
from bos_core.grid.reduction import reduce_grid, reduce_snapshot
from bos_core.objects.ontology import TABLES
from flows.execution import execute
from flows.power_flow_step import plan
from flows.request import PowerFlowRequest
from flows.step import StepRun
from flows.task_set import open_task_set
from slots.equivalence import ward
from slots.equivalence.contract import Inputs

OVERLAY = """
[[add]]
table = "electrolyser"
name = "H2 North"
values = {bus = "5", p_mw = 20, owner = "Gas AG"}
"""


@pytest.fixture
def bos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bos:
    monkeypatch.setenv("BOS_HOME", str(tmp_path / "home"))
    opened = connect()
    opened.scenarios.import_("pandapower:case9", name="nine")
    (tmp_path / "year.py").write_text(program())
    (tmp_path / "h2.toml").write_text(OVERLAY)
    return opened


def run(bos: Bos, name: str) -> tuple[str, str]:
    """Run the power flow of the scenario by a program; return task set and task."""
    request = PowerFlowRequest.model_validate({"scenario": "nine", "programs": {"power_flow": name}})
    context, version = open_task_set(bos.workspace, request, str(uuid.uuid4()), "power-flow")
    (task,) = plan(StepRun(bos.workspace, request, context, version))
    bos.workspace.ledger.register([task])
    assert execute(task.id, bos.workspace.settings, request).message == ""
    return context.trace_id, task.id


def slack_mw(bos: Bos, trace_id: str) -> float:
    table = bos.workspace.results.table(trace_id, "power_flow", "hours")
    return float(table["slack_p_mw"][0].as_py())


def reduced(reader: ScenarioReader, keep: np.ndarray) -> tuple[dict[str, pa.Table], dict[str, pa.Table]]:
    """Return the tables of a version's static equivalent, and those of them that programs have added to."""
    grid, start = reader.grid()
    state = solve_hours(grid, start.block(), enforce_q_limits=False).states.hour(0)
    outputs = ward.run(Inputs(grid=grid, snapshot=state, keep_bus=keep, second=state), ward.Parameters())
    reduction = reduce_grid(grid, Equivalent.of(outputs), state)
    tables = {name: schema.conform(reader.table(name)) for name, schema in TABLES.items()}
    made = reduced_tables(tables, grid, reduction, reduce_snapshot(reduction, state))
    return made, added_to_reduced(reader, made, grid, state, reduction)


def test_a_model_extends_the_ontology_and_takes_it_back(
    bos: Bos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert run_command([*arguments]) == code
        said = capsys.readouterr()
        return " ".join((said.err if code else said.out).split())

    said = told("programs", "add", str(tmp_path / "year.py"), "--slot", "power_flow")
    assert "load.growth float 1 1.0 from 0 to 10" in said
    assert "electrolyser kind of device at bus" in said
    assert "load.priority int" in told("programs", "show", "year")
    plain, _ = run(bos, "newton")
    default, _ = run(bos, "year")
    assert slack_mw(bos, default) == slack_mw(bos, plain)

    assert "nine@2 from nine@1" in told("scenario", "edit", "nine", "--set", "load.growth:*=1.1")
    assert "1 x electrolyser: added by overlay h2.toml" in told(
        "scenario", "overlay", "nine", str(tmp_path / "h2.toml")
    )
    assert "every value was so already" in told(
        "scenario", "edit", "nine", "--set", "electrolyser.p_mw:H2 North=20"
    )
    said = told(
        "elements", "nine", "electrolyser", "--near", "5", "--start-kind", "bus", "--columns", "p_mw,owner"
    )
    assert "H2 North 0 20 Gas AG" in said.replace("20.0", "20")
    assert "electrolyser" in told("scenario", "diff", "nine@1", "nine")
    grown, task = run(bos, "year")
    demand = sum(bos.workspace.reader("nine").table("load_state")["p_mw"].to_pylist())
    assert slack_mw(bos, grown) - slack_mw(bos, plain) == pytest.approx(0.1 * demand + 20, rel=0.05)
    assert slack_mw(bos, run(bos, "newton")[0]) == slack_mw(bos, plain)
    (traced,) = bos.trace(task).tasks
    assert traced.program_address == bos.programs.log("year")[0].address
    row = bos.workspace.reader("nine").table("load").to_pylist()[0]
    found = bos.trace("nine@3/load", element=row["id"], column="growth")
    assert found.found[0].rows[0]["growth"] == 1.1
    assert "load.growth:*=1.1" in told("trace", f"nine@3/load[element={row['id']}].growth")

    refused = told("programs", "remove", "year", code=2)
    assert "ontology load.growth: holds values in 1 scenarios (nine)" in refused
    assert "ontology table electrolyser: holds values in 1 scenarios (nine); keep the program, or" in refused
    told("programs", "remove", "year", "--drop-values")
    assert bos.workspace.scenarios.ontology() == TABLES
    assert "has no column 'growth'" in told("scenario", "edit", "nine", "--set", "load.growth:*=1", code=2)

    output = bos.workspace.ledger.task_outputs(task)[0]
    bos.workspace.store.delete([output.address])
    assert output.address in bos.open(grown).rebuild().restored


def test_what_was_added_reaches_the_reduced_model(bos: Bos, tmp_path: Path) -> None:
    bos.programs.add(tmp_path / "year.py")
    bos.scenarios.overlay("nine", tmp_path / "h2.toml")
    names = bos.scenarios.read("nine").table("entity").filter(pc.field("kind") == "load")["name"].to_pylist()
    for name, growth, priority in zip(names, (1.0, 2.0, 4.0), (1, 2, 5), strict=True):
        bos.scenarios.edit("nine", f"load.growth:{name}={growth}", f"load.priority:{name}={priority}")
    reader = bos.scenarios.read("nine")
    grid, _ = reader.grid()
    located = buses_of_added_kinds(reader)
    assert grid.network.bus_name[located].tolist() == ["5"]
    keep = np.zeros(grid.network.n_bus, bool)
    keep[[*range(4), *located]] = True
    made, added = reduced(reader, keep)
    loads = {row["id"]: row for row in added["load"].to_pylist()}
    at_home = {i: n for i, n in zip(grid.loads.id.tolist(), grid.loads.bus.tolist(), strict=True) if i in loads}
    growth = dict(zip(grid.loads.id.tolist(), (1.0, 2.0, 4.0), strict=True))
    assert at_home
    assert all(loads[i]["growth"] == growth[i] for i in at_home)
    merged = [row for i, row in loads.items() if i not in at_home and row["growth"] is not None]
    assert merged
    assert all(2.0 <= row["growth"] <= 4.0 and row["priority"] in (2, 5) for row in merged)
    assert added["electrolyser"]["p_mw"].to_pylist() == [20.0]
    kinds = added["entity"]["kind"].to_pylist()
    assert kinds.count("electrolyser") == 1
    assert added["connects"].num_rows == made["connects"].num_rows + 1
    assert added["contains"].num_rows == made["contains"].num_rows + 1
    writer = bos.workspace.writer(scenario="reduced")
    for name, table in {**made, **added}.items():
        writer.put_table(name, table)
    version = writer.commit("reduced")
    small = bos.workspace.reader(version)
    extensions = bos.programs.catalogue.resolve("power_flow", "year").manifest.extends
    found = added_elements(small, extensions, small.grid()[0])
    assert small.grid()[0].network.bus_name[found["electrolyser"]["bus"]].tolist() == ["5"]


def test_a_reduced_model_without_values_is_as_without_the_program(bos: Bos, tmp_path: Path) -> None:
    bos.programs.add(tmp_path / "year.py")
    reader = bos.scenarios.read("nine")
    grid, _ = reader.grid()
    assert buses_of_added_kinds(reader).size == 0
    keep = np.zeros(grid.network.n_bus, bool)
    keep[:5] = True
    made, added = reduced(reader, keep)
    assert all(table.equals(made[name]) for name, table in added.items())
