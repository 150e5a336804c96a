"""The programs that come with BOS, and how a program's file becomes one that can be called.

Slots live in packages named by the entry-point group ``bos.slots``. A slot is a sub-package with a
``contract`` module; every other module of it that has a ``MANIFEST`` is a program. Nothing is listed by hand.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import logging
import pkgutil
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from bos_core.objects.contracts import ProgramManifest, ProgramParameters, SlotContract, check
from bos_core.objects.errors import BosError, ContractError, Finding, OptionError, ProgramError
from bos_core.objects.extension import Elements
from bos_core.objects.task import ProgramRef

ENTRY_POINT_GROUP = "bos.slots"

_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]+)|import[ \t]+([^\n#]+))", re.MULTILINE
)

INSTALLED = "installed"
"""Where programs lie that come with BOS, in a storage address."""
_LOADING = threading.Lock()

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Program:
    """A program that can be called: manifest, contract, code, the digest of that code and where it lies."""

    manifest: ProgramManifest
    contract: SlotContract
    module: ModuleType
    digest: str
    storage_address: str = ""

    @property
    def ref(self) -> ProgramRef:
        """The pinned reference that a task carries."""
        return ProgramRef(self.contract.name, self.manifest.name, self.manifest.version, self.digest)

    def parameters(self, values: Mapping[str, object]) -> ProgramParameters:
        """Validate parameter values; raises OptionError with every finding."""
        try:
            return self.manifest.parameters.model_validate(dict(values))
        except ValidationError as error:
            known = ", ".join(self.manifest.parameters.model_fields) or "none"
            raise OptionError(
                tuple(
                    Finding(
                        f"{self.contract.name}/{self.manifest.name}",
                        (),
                        f"{e['msg']} (got {e['input']!r})",
                        f"known parameters: {known}",
                        ".".join(map(str, e["loc"])),
                    )
                    for e in error.errors()
                )
            ) from None

    @property
    def type(self) -> str:
        """``"model"`` where the slot takes models or the program extends the ontology, else ``"algorithm"``."""
        return "model" if self.manifest.extends else self.contract.kind

    def run(self, inputs: object, values: Mapping[str, object], elements: Elements | None = None) -> Any:
        """Check the inputs, run the program, check the outputs against the slot's promise.

        Parameters
        ----------
        inputs : object
            Of the contract's type.
        values : mapping
            Parameters that differ from their defaults.
        elements : mapping of kind to column to array, optional
            What the program has added to the ontology; only for a program that does.

        Raises
        ------
        ContractError
            When inputs or outputs break the contract.
        ProgramError
            When the program itself fails; the cause is chained and logged.
        """
        name, slot = self.manifest.name, self.contract.name
        findings = check(inputs)
        if findings:
            raise ContractError(slot, name, findings)
        parameters = self.parameters(values)
        try:
            added = (elements or {},) if self.manifest.extends else ()
            outputs = self.module.run(inputs, parameters, *added)
        except BosError:
            raise
        except Exception as error:
            _log.exception("program %s of slot %s failed", name, slot)
            raise ProgramError(f"program {name!r} of slot {slot!r} failed: {error!r}") from error
        if not isinstance(outputs, self.contract.outputs):
            wanted = self.contract.outputs.__qualname__
            found = Finding(slot, (), f"returned a {type(outputs).__name__}", f"return {wanted}")
            raise ContractError(slot, name, [found])
        findings = check(outputs) or self.contract.verify(inputs, outputs)
        if findings:
            raise ContractError(slot, name, findings)
        return outputs


def slots() -> tuple[str, ...]:
    """Return the names of all slots."""
    return tuple(sorted(_slot_packages()))


def contract(slot: str) -> SlotContract:
    """Return a slot's contract; raises OptionError for an unknown slot."""
    found = importlib.import_module(f"{_slot_package(slot)}.contract").CONTRACT
    assert isinstance(found, SlotContract)
    return found


def program_names(slot: str) -> tuple[str, ...]:
    """Return the names of the programs of a slot, without importing them."""
    contract(slot)
    package = importlib.import_module(_slot_packages()[slot])
    modules = (m.name for m in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in modules if _has_manifest(f"{package.__name__}.{name}")))


def is_taken(slot: str, name: str) -> bool:
    """Say whether a slot's package has a module of this name: a program, or a part of programs."""
    return importlib.util.find_spec(f"{_slot_package(slot)}.{name}") is not None


def resolve(slot: str, name: str | None = None) -> Program:
    """Return a program by name, or the slot's default.

    Raises
    ------
    OptionError
        When there is none of this name.
    ProgramError
        When it cannot be imported, or its manifest names another.
    """
    promise = contract(slot)
    name = name or promise.default
    if name not in program_names(slot):
        raise OptionError((unknown(f"program of slot {slot}", name, program_names(slot)),))
    try:
        module = importlib.import_module(f"{_slot_packages()[slot]}.{name}")
    except Exception as error:
        raise ProgramError(
            f"program {name!r} of slot {slot!r} cannot be loaded: {error!r}; correct it or choose another"
        ) from error
    manifest = module.MANIFEST
    if manifest.slot != slot or manifest.name != name:
        raise ProgramError(
            f"{module.__name__}: MANIFEST says {manifest.slot}/{manifest.name}; name the file as the program"
        )
    address = f"{INSTALLED}:{module.__name__.replace('.', '/')}.py@{_version()}"
    return Program(manifest, promise, module, code_digest(module.__name__), address)


def load(slot: str, name: str, path: Path) -> ModuleType:
    """Import the file of a program that does not lie in its slot's package; one of the same content only once.

    It counts as a module of that package, so that it imports and logs as the programs there do. Whatever it raises
    while it is imported is passed on.
    """
    package = importlib.import_module(_slot_package(slot)).__name__
    module_name = f"{package}.{name}_{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    with _LOADING:
        if module_name in sys.modules:
            return sys.modules[module_name]
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
        return module


def loaded(slot: str, name: str, path: Path, storage_address: str) -> Program:
    """Return the program of a file that does not lie in its slot's package.

    Raises
    ------
    ProgramError
        When it cannot be imported.
    """
    promise = contract(slot)
    try:
        module = load(slot, name, path)
    except Exception as error:
        raise ProgramError(
            f"program {name!r} of slot {slot!r} cannot be loaded: {error!r}; correct it or choose another"
        ) from error
    return Program(module.MANIFEST, promise, module, file_digest(slot, name, path.read_bytes()), storage_address)


def programs() -> Iterator[Program]:
    """Yield every program of every slot."""
    for slot in slots():
        for name in program_names(slot):
            yield resolve(slot, name)


def _slot_package(slot: str) -> str:
    package = _slot_packages().get(slot)
    if package is None:
        raise OptionError((unknown("slot", slot, slots()),))
    return package


@cache
def _version() -> str:
    return importlib.metadata.version("bos")


@cache
def _slot_packages() -> Mapping[str, str]:
    found: dict[str, str] = {}
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        root = importlib.import_module(entry.value)
        for info in pkgutil.iter_modules(root.__path__):
            package = f"{entry.value}.{info.name}"
            if info.ispkg and importlib.util.find_spec(f"{package}.contract"):
                found[info.name] = package
    return found


def _has_manifest(module: str) -> bool:
    source = _source(module) or b""
    try:
        compile(source, module, "exec")
    except SyntaxError:
        return True  # listed, so that whoever chooses it is told; one broken file must not hide the others
    return bool(re.search(rb"^MANIFEST\b[^=\n]*=", source, re.MULTILINE))


@cache
def code_digest(module: str) -> str:
    """Return the sha256 over a module and everything it imports from the slots and the kernels.

    A changed kernel is a changed program: its results must not be taken for the old one's.
    """
    return _digest(module, {})


def file_digest(slot: str, name: str, source: bytes) -> str:
    """Return what `code_digest` would, if the file lay in its slot's package."""
    module = f"{_slot_package(slot)}.{name}"
    return _digest(module, {module: source})


def _digest(module: str, given: Mapping[str, bytes]) -> str:
    roots = {package.split(".")[0] for package in _slot_packages().values()}
    seen: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or not (name.split(".")[0] in roots or name.startswith("bos_core.grid")):
            continue
        source = given.get(name) or _source(name)
        if source is None:
            continue
        seen[name] = source
        waiting += _imported(source)
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + seen[name] + b"\0")
    return digest.hexdigest()


def _imported(source: bytes) -> Iterator[str]:
    """Yield the names that a source imports, and perhaps more: names that are no module are passed over.

    Read by pattern: building syntax trees is not safe while other threads do so too (CPython 3.11,
    "AST constructor recursion depth mismatch").
    """
    for match in _IMPORT.finditer(source.decode()):
        package, names, modules = match.groups()
        if package:
            yield package
            yield from (f"{package}.{name}" for name in re.findall(r"\w+", names))
        else:
            yield from re.findall(r"[\w.]+", modules)


def _source(module: str) -> bytes | None:
    """Return the source of a module; of a compiled extension, its files in the folder `native` beside it."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin)
    if path.name.endswith(tuple(EXTENSION_SUFFIXES)):
        sources = sorted((path.parent / "native").glob("*"))
        return b"\0".join(source.name.encode() + b"\0" + source.read_bytes() for source in sources)
    return path.read_bytes() if path.suffix == ".py" else None


def unknown(what: str, name: str, known: Sequence[str]) -> Finding:
    """Return the finding about a name that does not exist, with the one that may have been meant."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return Finding(what, (name,), "does not exist", f"{hint}known: {', '.join(known)}")
