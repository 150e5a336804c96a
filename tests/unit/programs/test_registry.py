"""The program registry on a slot package made for the test."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bos_core.objects.errors import ContractError, OptionError, ProgramError
from bos_core.programs import registry

CONTRACT = """
from dataclasses import dataclass
from typing import Annotated
import numpy as np
from bos_core.objects.contracts import Array, SlotContract
from bos_core.objects.errors import Finding

@dataclass(frozen=True)
class Inputs:
    load_mw: Annotated[np.ndarray, Array(("bus",), "MW", "demand", minimum=0.0)]

@dataclass(frozen=True)
class Outputs:
    p_mw: Annotated[np.ndarray, Array(("bus",), "MW", "generation")]

def verify(inputs, outputs):
    if abs(outputs.p_mw.sum() - inputs.load_mw.sum()) > 1e-6:
        return [Finding("balance", (), "does not hold", "serve the load")]
    return []

CONTRACT = SlotContract("toy", 1, "algorithm", "Serve the load.", Inputs, Outputs, "copying", verify)
"""

COPYING = '''
from pydantic import Field
from bos_core.grid import dc
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from toyslots.toy.contract import Outputs
from toyslots import kernel

class Parameters(ProgramParameters):
    factor: float = Field(1.0, gt=0)
    """How much of the load is served."""

MANIFEST = ProgramManifest("copying", "toy", "1.0.0", "Copying", "Copies the load.", Parameters)

def run(inputs, parameters):
    return Outputs(kernel.scaled(inputs.load_mw, parameters.factor))
'''

OTHERS = {
    "crashing": "def run(inputs, parameters):\n    raise ZeroDivisionError('no load')\n",
    "wrong_type": "def run(inputs, parameters):\n    return 17\n",
    "not_finite": (
        "import numpy as np\nfrom toyslots.toy.contract import Outputs\n"
        "def run(inputs, parameters):\n    return Outputs(np.full(2, np.nan))\n"
    ),
}
HEAD = (
    "from bos_core.objects.contracts import ProgramManifest\n"
    'MANIFEST = ProgramManifest("{name}", "toy", "1.0.0", "Title", "Text.")\n'
)


def _forget() -> None:
    registry._slot_packages.cache_clear()
    registry.code_digest.cache_clear()
    for name in [n for n in sys.modules if n.split(".")[0] == "toyslots"]:
        del sys.modules[name]


@pytest.fixture
def slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of the slot ``toy``; the registry knows only the package that it is in."""
    root = tmp_path / "toyslots"
    folder = root / "toy"
    folder.mkdir(parents=True)
    (root / "__init__.py").touch()
    (root / "kernel.py").write_text("def scaled(values, factor):\n    return values * factor\n")
    (folder / "__init__.py").touch()
    (folder / "contract.py").write_text(CONTRACT)
    (folder / "copying.py").write_text(COPYING)
    (folder / "helper_of_copying.py").write_text("NOT_A_PROGRAM = 1\n")
    for name, code in OTHERS.items():
        (folder / f"{name}.py").write_text(HEAD.format(name=name) + code)
    entries = [SimpleNamespace(name="toy", value="toyslots")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries)
    monkeypatch.syspath_prepend(str(tmp_path))
    _forget()
    yield folder
    monkeypatch.undo()
    _forget()


def _inputs(slot: Path, load: list[float]) -> object:
    return registry.contract("toy").inputs(np.array(load))


def test_programs_are_found_by_their_manifest(slot: Path) -> None:
    assert registry.slots() == ("toy",)
    assert registry.program_names("toy") == ("copying", "crashing", "not_finite", "wrong_type")
    assert {program.manifest.name for program in registry.programs()} == {"copying", *OTHERS}


def test_the_default_is_the_contracts(slot: Path) -> None:
    program = registry.resolve("toy")
    assert (program.ref.slot, program.ref.name, program.ref.version) == ("toy", "copying", "1.0.0")
    assert program.ref.digest == program.digest
    outputs = program.run(_inputs(slot, [1.0, 2.0]), {})
    assert outputs.p_mw.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("slot_name", "program", "message"),
    [
        ("tey", None, "slot tey: does not exist; did you mean 'toy'? known: toy"),
        ("toy", "coping", "program of slot toy coping: does not exist; did you mean 'copying'?"),
        ("toy", "zzz", "program of slot toy zzz: does not exist; known: copying, crashing"),
        ("toy", "helper_of_copying", "does not exist"),
        ("toy", "contract", "does not exist"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(
    slot: Path, slot_name: str, program: str | None, message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        registry.resolve(slot_name, program)
    assert message in str(caught.value)


def test_a_manifest_must_name_its_file(slot: Path) -> None:
    (slot / "renamed.py").write_text(HEAD.format(name="copying"))
    with pytest.raises(ProgramError, match=r"toyslots\.toy\.renamed: MANIFEST says toy/copying"):
        registry.resolve("toy", "renamed")


def test_a_broken_file_hides_no_other_program(slot: Path) -> None:
    (slot / "broken.py").write_text("MANIFEST = (\n")
    (slot / "needy.py").write_text("import does_not_exist_xyz\n" + HEAD.format(name="needy"))
    assert {"broken", "needy", "copying"} <= set(registry.program_names("toy"))
    assert registry.resolve("toy").manifest.name == "copying"
    for name, cause in (("broken", "SyntaxError"), ("needy", "does_not_exist_xyz")):
        with pytest.raises(ProgramError, match=f"program '{name}' of slot 'toy' cannot be loaded.*{cause}"):
            registry.resolve("toy", name)


def test_inputs_that_break_the_contract_never_reach_the_program(slot: Path) -> None:
    with pytest.raises(ContractError) as caught:
        registry.resolve("toy", "crashing").run(_inputs(slot, [1.0, -2.0]), {})
    assert "Inputs.load_mw (1,): has -2 MW; give at least 0" in str(caught.value)


@pytest.mark.parametrize(
    ("program", "values", "message"),
    [
        ("wrong_type", {}, "returned a int; return Outputs"),
        ("not_finite", {}, "Outputs.p_mw (0,), (1,): has 2 values that are not finite"),
        ("copying", {"factor": 0.5}, "balance: does not hold; serve the load"),
    ],
)
def test_outputs_are_checked(slot: Path, program: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(ContractError) as caught:
        registry.resolve("toy", program).run(_inputs(slot, [1.0, 2.0]), values)
    assert message in str(caught.value)
    assert (caught.value.slot, caught.value.program) == ("toy", program)


def test_a_crash_is_a_program_error_with_its_cause(slot: Path) -> None:
    with pytest.raises(ProgramError, match="program 'crashing' of slot 'toy' failed: ZeroDivisionError") as caught:
        registry.resolve("toy", "crashing").run(_inputs(slot, [1.0]), {})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_every_bad_parameter_is_told_at_once(slot: Path) -> None:
    with pytest.raises(OptionError) as caught:
        registry.resolve("toy").parameters({"factor": -1, "fuctor": 2})
    assert [f.field for f in caught.value.findings] == ["factor", "fuctor"]
    assert "greater than 0 (got -1)" in str(caught.value)
    assert all("known parameters: factor" in f.remedy for f in caught.value.findings)


def _digest(name: str = "copying") -> str:
    _forget()
    return registry.resolve("toy", name).digest


def test_the_digest_covers_everything_that_the_program_imports(
    slot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _digest()
    assert _digest() == first
    (slot / "unrelated.py").write_text("X = 1\n")
    assert _digest() == first
    kernel = slot.parent / "kernel.py"
    kernel.write_text(kernel.read_text() + "# changed\n")
    second = _digest()
    assert second != first
    (slot / "contract.py").write_text(CONTRACT + "# changed\n")
    third = _digest()
    assert third not in {first, second}
    source = registry._source
    monkeypatch.setattr(
        registry,
        "_source",
        lambda module: (source(module) or b"") + (b"# changed" if module == "bos_core.grid.dc" else b""),
    )
    assert _digest() not in {first, second, third}


def test_a_kernel_that_a_program_does_not_import_leaves_its_digest_alone(slot: Path) -> None:
    first = _digest("wrong_type")
    (slot.parent / "kernel.py").write_text("def scaled(values, factor):\n    return values\n")
    assert _digest("wrong_type") == first


def test_every_registered_program_resolves() -> None:
    _forget()
    for slot_name in registry.slots():
        promise = registry.contract(slot_name)
        assert promise.name == slot_name
        assert promise.summary.endswith(".")
