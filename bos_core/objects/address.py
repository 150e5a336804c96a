"""The address of a value: where any number of a report or a result file can be asked for.

``RUN/step/output[hour=410,branch=Line 17].loading`` is a value of a run's result,
``NAME@8/bus.vm_pu[hour=410,element=Bus 12]`` one of a scenario version. Everything behind the first part may be
left out: the rest then names many values. A step without a run means the newest run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bos_core.objects.errors import Finding, OptionError

_VERSION = re.compile(r"(?P<version>[^@\n]+@\d+)(?:/(?P<rest>.*))?", re.DOTALL)
_KEYED = re.compile(r"(?P<path>[^\[]*)(?:\[(?P<keys>.*)\](?:\.(?P<column>[\w-]+))?)?", re.DOTALL)
_NEXT_KEY = re.compile(r",\s*(?=\w+\s*=)")


@dataclass(frozen=True)
class ValueAddress:
    """Which value, or which values, somebody means.

    Attributes
    ----------
    root : str
        Run (trace id or the start of it), ``name@number`` of a scenario version, or empty for the newest run.
    parts : tuple of str
        Step and output of a run; table or series of a version.
    keys : mapping of str to str
        Rows: column to what it must be; ``hour`` as a number, elements by name or id. ``element`` stands for the
        column that says whose row it is, ``part`` for the part of the work that the row's task does.
    column : str
    """

    root: str = ""
    parts: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    column: str = ""

    @property
    def is_of_version(self) -> bool:
        """Whether the value lies in a scenario version."""
        return "@" in self.root

    @property
    def part(self) -> str:
        """Step of a run, table or series of a version; empty when none is named."""
        return self.parts[0] if self.parts else ""

    @property
    def output(self) -> str:
        """Output of a step; empty when none is named."""
        return self.parts[1] if len(self.parts) > 1 else ""

    def with_keys(self, column: str = "", **keys: str | None) -> ValueAddress:
        """Return the address with further keys (those that are None left out) and another column."""
        more = {name: value for name, value in keys.items() if value is not None}
        return replace(self, keys={**self.keys, **more}, column=column or self.column)

    def __str__(self) -> str:
        path = "/".join(filter(None, (self.root, *self.parts)))
        keys = ",".join(f"{name}={value}" for name, value in self.keys.items())
        return path + (f"[{keys}]" if keys else "") + (f".{self.column}" if keys and self.column else "")


def parse_address(text: str, steps: frozenset[str] = frozenset()) -> ValueAddress:
    """Read an address.

    Parameters
    ----------
    text : str
    steps : frozenset of str
        Names that are steps and no runs: an address may begin with one.

    Raises
    ------
    OptionError
        When brackets do not close, a key has no value, or there are too many parts.
    """
    version = _VERSION.fullmatch(text.partition("[")[0])
    root = version["version"] if version else ""
    rest = text[len(root) :].removeprefix("/") if version else text
    match = _KEYED.fullmatch(rest)
    if match is None:
        raise _refused(text, "has brackets that do not close")
    parts = [part.strip() for part in match["path"].strip("/").split("/")] if match["path"].strip("/") else []
    if not version and parts and parts[0].replace("-", "_") not in steps:
        root = parts.pop(0)
    if len(parts) > (1 if version else 2):
        raise _refused(text, f"has {len(parts)} parts behind what it begins with")
    if parts and not version:
        parts[0] = parts[0].replace("-", "_")
    keys = _keys(text, match["keys"] or "")
    return ValueAddress(root, tuple(parts), keys, match["column"] or "")


def _keys(text: str, inside: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    for item in _NEXT_KEY.split(inside) if inside.strip() else ():
        name, sign, value = (part.strip() for part in item.partition("="))
        if not sign or not name or not value:
            raise _refused(text, f"has {item.strip()!r} in its brackets")
        keys[name] = value
    return keys


def _refused(text: str, problem: str) -> OptionError:
    remedy = "write RUN/step/output[hour=410,element=NAME].column or NAME@8/series[hour=410,element=NAME]"
    return OptionError((Finding("address", (text,), problem, remedy),))
