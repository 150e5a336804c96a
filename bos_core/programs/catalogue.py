"""The programs of an installation: those that come with BOS, and those that experts have added to it.

What experts have added lies in two git repositories under the BOS home, ``programs/custom.git`` and
``programs/official.git``. The index says which commit holds which program; code is loaded from that commit.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bos_core.access.workspace import Workspace
from bos_core.index.programs import ProgramChange, ProgramRecord
from bos_core.objects.contracts import SlotContract
from bos_core.objects.errors import Finding, NotFoundError, OptionError, ProgramError, StorageError
from bos_core.objects.extension import Extension
from bos_core.programs import registry
from bos_core.programs.registry import Program
from bos_core.programs.repository import Repository

CUSTOM, OFFICIAL = "custom", "official"


@dataclass(frozen=True)
class Entry:
    """A program as the catalogue shows it.

    Attributes
    ----------
    contract : SlotContract
        Of the slot that it fills.
    name, version, title, type, digest : str
        ``type`` is ``"algorithm"`` or ``"model"``.
    repository : str
        ``"installed"``, ``"custom"`` or ``"official"``.
    storage_address : str
        ``repository:path@commit``; in the place of the commit the version of BOS where it comes with it.
    elements : tuple of str
        Database elements that a model corresponds to.
    problem : str
        Why it cannot be loaded; empty where it can.
    extends : tuple of Extension
        What it adds to the ontology.
    """

    contract: SlotContract
    name: str
    version: str = ""
    title: str = ""
    type: str = ""
    digest: str = ""
    repository: str = registry.INSTALLED
    storage_address: str = ""
    elements: tuple[str, ...] = ()
    problem: str = ""
    extends: tuple[Extension, ...] = ()

    @property
    def state(self) -> str:
        """``"trial"``, ``"official"``, or ``"installed"`` where it comes with BOS."""
        return "trial" if self.repository == CUSTOM else self.repository


class Catalogue:
    """Names, code and history of all programs of a workspace.

    Parameters
    ----------
    workspace : Workspace
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.index = workspace, workspace.programs
        folder = workspace.settings.home / "programs"
        self.repositories = {name: Repository(name, folder / f"{name}.git") for name in (CUSTOM, OFFICIAL)}
        self._files = folder / "loaded"

    def names(self, slot: str) -> tuple[str, ...]:
        """Return the names of the programs of a slot; raises OptionError for an unknown slot."""
        added = (name for of_slot, name in self.index.present() if of_slot == slot)
        return tuple(sorted({*registry.program_names(slot), *added}))

    def resolve(self, slot: str, name: str | None = None, digest: str | None = None) -> Program:
        """Return a program by name, or the slot's default.

        Parameters
        ----------
        digest : str, optional
            Of the code that it must have; an older commit of a repository is taken where that holds it.

        Raises
        ------
        OptionError
            When there is none of this name.
        ProgramError
            When it cannot be loaded, or there is no code of this digest.
        """
        name = name or registry.contract(slot).default
        if name in registry.program_names(slot):
            found = registry.resolve(slot, name)
        elif (present := self.index.present().get((slot, name))) is not None:
            found = self._loaded(slot, name, present.address)
        elif digest is None:
            raise OptionError((registry.unknown(f"program of slot {slot}", name, self.names(slot)),))
        else:
            found = self._of_digest(slot, name, digest)
        if digest is None or found.digest == digest:
            return found
        return self._of_digest(slot, name, digest, found.digest)

    def _of_digest(self, slot: str, name: str, digest: str, present: str = "") -> Program:
        """Return the program of a digest, from the commit that the index has for it."""
        now = f"the installed one has {present[:12]}" if present else "there is none of this name now"
        error = ProgramError(
            f"{slot}/{name}: its code had digest {digest[:12]}, {now}; install the code with digest "
            f"{digest[:12]}, or start a new run"
        )
        try:
            record = self.index.get(slot, name, digest)
        except NotFoundError:
            raise error from None
        if record.storage_address.partition(":")[0] not in self.repositories:
            raise error
        found = self._loaded(slot, name, record.storage_address)
        if found.digest != digest:
            raise ProgramError(
                f"{slot}/{name}: {record.storage_address} had digest {digest[:12]}; what it imports from BOS has "
                f"changed since, with it the digest is {found.digest[:12]}; install that BOS, or start a new run"
            )
        return found

    def record(self, used: Iterable[Program]) -> None:
        """Put programs into the index that it does not know by this digest."""
        programs = list(used)
        known = self.index.digests()
        for program in programs:
            if (program.contract.name, program.manifest.name, program.digest) not in known:
                self.index.record(program.manifest, program.digest, program.type, program.storage_address)

    def entries(self, slot: str = "") -> Iterator[Entry]:
        """Yield the programs of one slot or of all, by slot and name; raises OptionError for an unknown slot."""
        present = self.index.present()
        for of_slot in [slot] if slot else registry.slots():
            contract = registry.contract(of_slot)
            names = {*registry.program_names(of_slot), *(name for key, name in present if key == of_slot)}
            for name in sorted(names, key=lambda n: (n != contract.default, n)):
                yield self._entry(contract, name, present.get((of_slot, name)))

    def _entry(self, contract: SlotContract, name: str, change: ProgramChange | None) -> Entry:
        repository = change.repository if change else registry.INSTALLED
        try:
            program = self.resolve(contract.name, name)
        except (ProgramError, StorageError) as error:
            return Entry(contract, name, repository=repository, problem=str(error))
        return Entry(
            contract,
            name,
            program.manifest.version,
            program.manifest.title,
            program.type,
            program.digest,
            repository,
            program.storage_address,
            program.manifest.elements,
            extends=program.manifest.extends,
        )

    def entry(self, reference: str) -> Entry:
        """Return a program by its name, or by ``slot/name`` where slots share the name.

        Raises
        ------
        NotFoundError
            If there is none, or more than one.
        """
        slot, _, name = reference.rpartition("/")
        everything = list(self.entries())
        found = [e for e in everything if e.name == name and slot in ("", e.contract.name)]
        if len(found) == 1:
            return found[0]
        if found:
            which = " or ".join(f"{e.contract.name}/{e.name}" for e in found)
            raise NotFoundError(f"{len(found)} programs are called {name!r}; say {which}")
        finding = registry.unknown("program", name, [e.name for e in everything])
        raise NotFoundError(f"{finding}")

    def history(self, reference: str) -> tuple[ProgramChange, ...]:
        """Return what became of a program in both repositories, newest first, also of one that is gone.

        Parameters
        ----------
        reference : str
            Name, or ``slot/name``.

        Raises
        ------
        NotFoundError
            If no program was ever called so.
        """
        slot, _, name = reference.rpartition("/")
        changes = self.index.changes()
        found = tuple(c for c in reversed(changes) if c.name == name and slot in ("", c.slot))
        if not found:
            known = ", ".join(sorted({c.name for c in changes})) or "none"
            raise NotFoundError(f"no program {reference!r} was ever added; known: {known}")
        return found

    def changes(self, slot: str, name: str) -> tuple[ProgramChange, ...]:
        """Return what became of a program, newest first; nothing where it comes with BOS."""
        return tuple(c for c in reversed(self.index.changes()) if (c.slot, c.name) == (slot, name))

    def versions(self, slot: str, name: str) -> tuple[ProgramRecord, ...]:
        """Return the rows that the program index has of a program, newest first."""
        return tuple(record for record in self.index.list(slot) if record.name == name)

    def source(self, address: str) -> bytes:
        """Return the file at a storage address of a repository; raises StorageError where it is lost."""
        repository, _, place = address.partition(":")
        path, _, commit = place.rpartition("@")
        return self.repositories[repository].read(commit, path)

    def _loaded(self, slot: str, name: str, address: str) -> Program:
        data = self.source(address)
        path = self._files / hashlib.sha256(data).hexdigest()[:32] / f"{name}.py"
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{uuid.uuid4().hex}.part")
            partial.write_bytes(data)
            os.replace(partial, path)
        return registry.loaded(slot, name, path, address)

    def check(self) -> list[Finding]:
        """Return where repositories and index differ."""
        findings = []
        for name, commit in heads(self.index.changes()).items():
            repository = self.repositories[name]
            if not repository.has(commit):
                problem = f"lacks commit {commit[:12]}, which the index names"
                findings.append(
                    Finding("repository", (name,), problem, f"restore {repository.path} from a backup")
                )
            elif repository.head() != commit:
                problem = f"does not stand at commit {commit[:12]}, as the index says"
                findings.append(Finding("repository", (name,), problem, "`bos doctor --programs` moves it there"))
        return findings

    def follow(self) -> tuple[str, ...]:
        """Bring both branches to the commits of the index; return the repositories that were elsewhere."""
        moved: dict[str, None] = {}
        while behind := self._behind():
            for name, commit in behind.items():
                self.repositories[name].follow(commit)
                moved[name] = None
        return tuple(moved)

    def _behind(self) -> dict[str, str]:
        """Return the commits of the repositories that stand elsewhere."""
        wanted = heads(self.index.changes())
        return {name: commit for name, commit in wanted.items() if self.repositories[name].head() != commit}


def heads(changes: Iterable[ProgramChange]) -> Mapping[str, str]:
    """Return the commit at which a history leaves each repository that it names."""
    return {change.repository: change.commit for change in changes}
