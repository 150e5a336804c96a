"""What a program file declares about itself, read without running it.

A file that an expert gives is not trusted: its `MANIFEST` is taken from the syntax tree, where every value but the
parameter model must stand as a literal.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bos_core.objects.contracts import ProgramManifest
from bos_core.objects.errors import Finding
from bos_core.objects.extension import AddedColumn, Extension, check_extensions
from bos_core.objects.text import check_lengths, check_texts
from bos_core.programs import registry

BYTES_MAX = 1_000_000
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")
LENGTHS_MAX = {"title": 200, "description": 4000, "references": 1000}

_FIELDS = tuple(field.name for field in dataclasses.fields(ProgramManifest))
_TEXTS = ("name", "slot", "version", "title", "description")
_PARTS: Mapping[str, type] = {part.__name__: part for part in (Extension, AddedColumn)}
_OUT_OF_BOUNDS = frozenset(
    {"flows", "blocks", "prefect", "dask", "distributed", "sqlmodel", "sqlalchemy", "fsspec", "s3fs", "neo4j"}
)
_OPEN_ROOMS = frozenset({"objects", "grid", "dynamics"})


class _NotLiteralError(ValueError):
    """An expression whose value the file would have to be run for."""


@dataclass(frozen=True)
class Declared:
    """What could be read of a file, and everything that is wrong with it."""

    manifest: ProgramManifest
    findings: tuple[Finding, ...]


def declared(source: bytes, name: str, slot: str = "") -> Declared:
    """Read the manifest of a program file and check the file against the slot's contract, without running it.

    Parameters
    ----------
    source : bytes
    name : str
        Name of the file without ``.py``: that of the program.
    slot : str
        The slot that it shall fill; empty for the one that the file names.

    Returns
    -------
    Declared
        The manifest with empty texts in the place of what could not be read.
    """
    empty: dict[str, Any] = dict.fromkeys(_TEXTS, "")
    try:
        tree = _parsed(source)
    except ValueError as error:
        return Declared(ProgramManifest(**empty), (_finding(name, str(error), "correct the file"),))
    values, findings = _manifest(name, tree)
    manifest = ProgramManifest(**{**empty, "name": name, "slot": slot, **values})
    findings += _check_names(manifest, name, slot)
    findings += _check_texts(name, manifest, unread={finding.field for finding in findings})
    findings += check_extensions(manifest.extends)
    findings += _check_run(name, tree, manifest)
    findings += _check_imports(name, tree)
    return Declared(manifest, tuple(findings))


def _finding(name: str, problem: str, remedy: str, field: str = "") -> Finding:
    return Finding("program", (name,), problem, remedy, field)


def _parsed(source: bytes) -> ast.Module:
    if len(source) > BYTES_MAX:
        raise ValueError(f"has {len(source):,} bytes, more than {BYTES_MAX:,}")
    try:
        return ast.parse(source.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    except SyntaxError as error:
        raise ValueError(f"is no Python, line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"cannot be read as Python ({type(error).__name__})") from None


# --- the manifest


def _manifest(name: str, tree: ast.Module) -> tuple[dict[str, Any], list[Finding]]:
    """Return the values of the manifest that can be read, and what is wrong with the others."""
    assigned = [value for target, value in _assignments(tree) if target == "MANIFEST"]
    if len(assigned) != 1:
        problem = f"assigns MANIFEST {len(assigned)} times" if assigned else "has no MANIFEST"
        return {}, [_finding(name, problem, "give one: MANIFEST = ProgramManifest(...)")]
    call = assigned[0]
    if not (isinstance(call, ast.Call) and _callee(call) == ProgramManifest.__name__):
        return {}, [
            _finding(name, "MANIFEST is no call of ProgramManifest", "write MANIFEST = ProgramManifest(...)")
        ]
    given, findings = _arguments(name, call)
    values: dict[str, Any] = {}
    for field, node in given.items():
        if field == "parameters":
            continue  # a class of the file; what it holds is asked of a process of its own
        try:
            values[field] = _typed(field, _value(node))
        except ValueError as error:
            findings.append(_finding(name, str(error), "write the value itself", field))
    missing = [field for field in _TEXTS if field not in given]
    findings += [_finding(name, "is missing in MANIFEST", f"give {field}=...", field) for field in missing]
    return values, findings


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from ((t.id, node.value) for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


def _callee(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _arguments(name: str, call: ast.Call) -> tuple[dict[str, ast.expr], list[Finding]]:
    given = dict(zip(_FIELDS, call.args, strict=False))
    findings = []
    for keyword in call.keywords:
        if keyword.arg not in _FIELDS or keyword.arg in given:
            problem = f"MANIFEST has {keyword.arg or '**'}, which is no field or given twice"
            findings.append(_finding(name, problem, f"fields: {', '.join(_FIELDS)}"))
            continue
        given[keyword.arg] = keyword.value
    return given, findings


def _value(node: ast.expr) -> Any:
    """Return the value of a literal, or of a call that says what the ontology gains; a list counts as a tuple."""
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Call) and (part := _PARTS.get(_callee(node))):
        return _part(part, node)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError, SyntaxError):
        raise _NotLiteralError("is no literal: BOS reads it without running the file") from None


def _part(part: type, call: ast.Call) -> Any:
    """Return an extension or an added column that is written as a call with literal arguments."""
    hints = {field.name: field.type for field in dataclasses.fields(part)}
    given = dict(zip(hints, map(_value, call.args), strict=False))
    keywords = {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}
    odd = sorted((keywords.keys() - hints.keys()) | (keywords.keys() & given.keys()))
    if odd or len(call.args) > len(hints):
        raise ValueError(f"{part.__name__} has {', '.join(odd) or 'too many values'}; it takes {', '.join(hints)}")
    values = given | keywords
    texts = [
        name for name in ("table", "name", "type", "unit", "doc") if not isinstance(values.get(name, ""), str)
    ]
    if texts:
        raise ValueError(f"{part.__name__} has {', '.join(texts)} that is no text")
    for name, kind in (("columns", AddedColumn), ("terminals", str)):
        if not _are(values.get(name, ()), kind):
            raise ValueError(f"{part.__name__} has {name} that is no tuple of {kind.__name__}")
    try:
        return part(**values)
    except TypeError:
        missing = [f.name for f in dataclasses.fields(part) if f.default is dataclasses.MISSING]
        missing = [name for name in missing if name not in values]
        raise ValueError(f"{part.__name__} lacks {', '.join(missing)}") from None


def _typed(field: str, value: Any) -> Any:
    if field in _TEXTS and not isinstance(value, str):
        raise ValueError(f"is a {type(value).__name__}, not a text")
    if field in ("references", "elements") and not _are(value, str):
        raise ValueError("is no tuple of texts")
    if field == "extends" and not _are(value, Extension):
        raise ValueError("is no tuple of Extension")
    return value


def _are(values: Any, kind: type) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, kind) for value in values)


# --- names, texts, run, imports


def _check_names(manifest: ProgramManifest, name: str, slot: str) -> list[Finding]:
    findings = []
    if not NAME.fullmatch(name):
        remedy = "use up to 64 small letters, digits and _, a letter first"
        findings.append(_finding(name, "is no name of a program", remedy, "name"))
    if manifest.name != name:
        problem = f"MANIFEST says name={manifest.name!r}"
        findings.append(_finding(name, problem, f"call the file {manifest.name}.py or write {name!r}", "name"))
    if slot and manifest.slot != slot:
        problem = f"MANIFEST says slot={manifest.slot!r}, asked for is {slot!r}"
        findings.append(_finding(name, problem, "name the same slot", "slot"))
    slots = registry.slots()
    for wanted in dict.fromkeys((slot or manifest.slot, manifest.slot)):
        if wanted not in slots:
            near = difflib.get_close_matches(wanted, slots, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            findings.append(Finding("slot", (wanted,), "takes no programs", f"{hint}slots: {', '.join(slots)}"))
        elif NAME.fullmatch(name) and registry.is_taken(wanted, name):
            findings.append(_finding(name, f"comes with BOS in slot {wanted}", "choose another name", "name"))
    if manifest.version and not VERSION.fullmatch(manifest.version):
        findings.append(_finding(name, f"has version {manifest.version!r}", "number it like 1.0.0", "version"))
    return findings


def _check_texts(name: str, manifest: ProgramManifest, unread: set[str]) -> list[Finding]:
    texts = {field: getattr(manifest, field) for field in (*_TEXTS, "references", "elements")}
    findings = check_texts("program", texts)
    for field, length in LENGTHS_MAX.items():
        value = texts[field]
        findings += check_lengths("program", field, [value] if isinstance(value, str) else value, length)
    for field in ("title", "description"):
        if not texts[field].strip() and field not in unread:
            findings.append(_finding(name, "says nothing", f"give a {field}", field))
    return findings


def _check_run(name: str, tree: ast.Module, manifest: ProgramManifest) -> list[Finding]:
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    wanted = ["inputs", "parameters", *(["elements"] if manifest.extends else [])]
    asked = f"def run({', '.join(wanted)})"
    if not found:
        return [_finding(name, "has no function run", f"write {asked}")]
    arguments = found[-1].args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    if names != wanted or arguments.vararg or arguments.kwarg:
        return [_finding(name, f"run takes {', '.join(names) or 'nothing'}", f"write {asked}", "run")]
    return []


def _check_imports(name: str, tree: ast.Module) -> list[Finding]:
    findings = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            problem = f"line {node.lineno} imports from its own folder"
            findings.append(
                _finding(name, problem, "write the whole name, as from slots.SLOT.contract import Inputs")
            )
            continue
        else:
            continue
        for module in modules:
            top, _, rest = module.partition(".")
            room = rest.partition(".")[0]
            if top in _OUT_OF_BOUNDS or (top == "bos_core" and room not in _OPEN_ROOMS):
                problem = f"line {node.lineno} imports {module}"
                remedy = (
                    "a program gets arrays and gives arrays: only bos_core.objects, .grid and .dynamics are open"
                )
                findings.append(_finding(name, problem, remedy))
    return findings
