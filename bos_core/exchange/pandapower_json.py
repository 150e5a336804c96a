"""pandapower's JSON, read without letting the file name code: only tables, arrays and numbers are built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bos_core.objects.errors import Finding, FormatError

SAFE_CLASSES = frozenset(
    {
        ("pandapower.auxiliary", "pandapowerNet"),
        ("pandas.core.frame", "DataFrame"),
        ("pandas.core.series", "Series"),
        ("pandas", "DataFrame"),
        ("pandas", "Series"),
        ("numpy", "array"),
        ("numpy", "bool"),
        ("numpy", "bool_"),
        ("numpy", "float64"),
        ("numpy", "float32"),
        ("numpy", "int64"),
        ("numpy", "int32"),
        ("numpy", "uint32"),
        ("numpy", "uint64"),
        ("builtins", "tuple"),
        ("builtins", "set"),
        ("builtins", "frozenset"),
        ("builtins", "complex"),
    }
)
"""What a file may ask for; anything else could run code of its choice (pandapower imports what it names)."""

DEPTH_MAX = 50
WRITE_WITH = "give a file that pandapower.to_json wrote"


def read_pandapower_json(path: Path) -> Any:
    """Read a net that ``pandapower.to_json`` wrote.

    Raises
    ------
    FormatError
        Not JSON, not a net, or naming a class outside `SAFE_CLASSES`.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except (UnicodeDecodeError, ValueError) as error:
        raise _refused(path, f"is not JSON ({error})"[:200], WRITE_WITH) from error
    if not isinstance(content, dict) or content.get("_class") != "pandapowerNet":
        raise _refused(path, "is JSON but not a pandapower net", WRITE_WITH)
    foreign: dict[str, None] = {}
    _collect(content, foreign, 0)
    if foreign:
        raise FormatError(
            tuple(
                Finding(
                    "file",
                    (path.name,),
                    f"asks for {name}, which may run code",
                    "remove it (e.g. controllers) and save the net again",
                )
                for name in foreign
            )
        )
    import pandapower

    try:
        net = pandapower.from_json_string(text, convert=True)
    except Exception as error:
        problem = f"cannot be read by pandapower ({type(error).__name__}: {error})"[:300]
        raise _refused(path, problem, "open it with pandapower and save it again") from error
    if not isinstance(net, pandapower.pandapowerNet):
        raise _refused(path, "is not a pandapower net", WRITE_WITH)
    return net


def _collect(value: object, foreign: dict[str, None], depth: int) -> None:
    """Collect the classes that a decoded file asks for, also those inside strings that hold JSON."""
    if depth > DEPTH_MAX:
        foreign["a structure deeper than any net's"] = None
        return
    if isinstance(value, dict):
        if "_module" in value or "_class" in value:
            pair = (str(value.get("_module", "")), str(value.get("_class", "")))
            if pair not in SAFE_CLASSES:
                foreign[".".join(pair)] = None
        for item in value.values():
            _collect(item, foreign, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _collect(item, foreign, depth + 1)
    elif isinstance(value, str) and ("_module" in value or "_class" in value):
        try:
            inner = json.loads(value)
        except ValueError:
            # Not JSON, so pandapower cannot decode an object from it either; refuse rather than guess.
            foreign["an object in a malformed string"] = None
            return
        _collect(inner, foreign, depth + 1)


def _refused(path: Path, problem: str, remedy: str) -> FormatError:
    return FormatError((Finding("file", (path.name,), problem, remedy),))
