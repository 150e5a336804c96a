"""Load a program file in a process of its own and say what its parameters are.

`python -m bos_core.programs.probe SLOT FILE` prints one JSON object: the schema of the parameters, and what is
wrong. The process gets no setting of BOS, so that code that nobody has looked at meets no credential there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from bos_core.objects.errors import Finding
from bos_core.programs import registry

TIMEOUT_S = 120.0


def probe(slot: str, path: Path) -> tuple[dict[str, Any], list[Finding]]:
    """Return the JSON schema of the parameters of a program file, and findings where it cannot be loaded."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BOS_", "PREFECT_", "AWS_"))}
    command = [sys.executable, "-m", __name__, slot, str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=kept, cwd=path.parent
        )
        said = json.loads(done.stdout.rpartition("\n")[2])
        return said["schema"], [Finding(**{**f, "ids": tuple(f["ids"])}) for f in said["findings"]]
    except subprocess.TimeoutExpired:
        problem = f"is not loaded after {TIMEOUT_S:g} s"
    except (ValueError, KeyError, TypeError):
        last = done.stderr.strip().rpartition("\n")[2] or "it said nothing"
        problem = f"ended the process that loaded it ({done.returncode}): {last}"
    return {}, [Finding("program", (path.stem,), problem, "do no work while the module is imported")]


def _examine(slot: str, path: Path) -> dict[str, Any]:
    name, findings, schema = path.stem, list[Finding](), dict[str, Any]()

    def finding(problem: str, remedy: str, field: str = "") -> None:
        findings.append(Finding("program", (name,), problem, remedy, field))

    try:
        module = registry.load(slot, name, path)
    except Exception as error:
        finding(f"cannot be loaded: {error!r}", "correct it or install what it needs")
        return {"schema": schema, "findings": [asdict(f) for f in findings]}
    manifest = getattr(module, "MANIFEST", None)
    parameters = getattr(manifest, "parameters", None)
    if not isinstance(manifest, ProgramManifest):
        finding("MANIFEST is no ProgramManifest", "import it from bos_core.objects.contracts")
    elif not (isinstance(parameters, type) and issubclass(parameters, ProgramParameters)):
        finding("parameters is no model", "derive it from ProgramParameters", "parameters")
    else:
        for field, info in parameters.model_fields.items():
            if not info.description:
                finding("has no description", "write a docstring under it", field)
            if info.is_required():
                finding("has no default", "give one, so that the program runs without a choice", field)
        schema = parameters.model_json_schema()
    return {"schema": schema, "findings": [asdict(f) for f in findings]}


if __name__ == "__main__":
    kept = os.dup(1)
    os.dup2(2, 1)  # what the module prints while it is loaded must not pass for the answer
    answer = json.dumps(_examine(sys.argv[1], Path(sys.argv[2])))
    os.write(kept, f"\n{answer}".encode())
