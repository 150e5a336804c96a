"""The way of a program of one's own: added, run, traced, replaced, rebuilt, promoted, removed, at the command."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from bos_core.api import Bos, connect
from bos_core.cli import run_command
from flows.execution import execute
from flows.forms import Choices
from flows.power_flow_step import plan
from flows.request import PowerFlowRequest
from flows.step import StepRun
from flows.task_set import open_task_set

PROGRAM = '''
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.power_flow import newton
from slots.power_flow.contract import Inputs, Outputs


class Parameters(ProgramParameters):
    """None."""


MANIFEST = ProgramManifest(
    name="mine", slot="power_flow", version="{version}", title="Mine", description="As the default.",
    parameters=Parameters,
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Solve."""
    return newton.run(inputs, newton.Parameters())
'''


@pytest.fixture
def bos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bos:
    monkeypatch.setenv("BOS_HOME", str(tmp_path / "home"))
    opened = connect()
    opened.scenarios.import_("pandapower:case9", name="nine")
    return opened


def test_a_program_of_ones_own_from_file_to_official(
    bos: Bos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PROGRAM.format(version="1.0.0"))

    def told(*arguments: str) -> str:
        capsys.readouterr()
        assert run_command(["programs", *arguments]) == 0
        return capsys.readouterr().out

    assert "--program power_flow=mine" in told("add", str(file), "--slot", "power-flow")
    tree = told()
    assert "power-flow ► power_flow" in tree
    assert "trial" in next(line for line in tree.splitlines() if " mine " in line)
    assert "mine" in Choices.present(bos.workspace).slots["power_flow"].programs

    asked = {"scenario": "nine", "programs": {"power_flow": "mine"}}
    request = PowerFlowRequest.model_validate(asked)
    context, version = open_task_set(bos.workspace, request, str(uuid.uuid4()), "power-flow")
    (task,) = plan(StepRun(bos.workspace, request, context, version))
    bos.workspace.ledger.register([task])
    assert execute(task.id, bos.workspace.settings, request).message == ""
    (traced,) = bos.trace(task.id).tasks
    first = bos.programs.log("mine")[0]
    assert traced.program_address == first.address

    output = bos.workspace.ledger.task_outputs(task.id)[0]
    bos.workspace.store.delete([output.address])
    file.write_text(PROGRAM.format(version="2.0.0"))
    told("add", str(file))
    assert output.address in bos.open(context.trace_id).rebuild().restored

    assert run_command(["programs", "promote", "mine"]) == 2
    assert "finished no task yet" in " ".join(capsys.readouterr().err.split())
    file.write_text(PROGRAM.format(version="1.0.0"))
    told("add", str(file), "-m", "back to the first")
    assert "official repository" in told("promote", "mine")
    shown = told("show", "mine")
    assert "official:power_flow/mine.py@" in shown
    assert "planning-chain" not in shown
    assert "removed power_flow/mine" in told("remove", "mine")
    log = told("log", "mine")
    assert log.count("added") == 3
    assert "back to the" in log
    with pytest.raises(ValueError, match="no program 'mine'; known: newton"):
        PowerFlowRequest.model_validate(asked)
    assert run_command(["doctor", "--programs"]) == 0
