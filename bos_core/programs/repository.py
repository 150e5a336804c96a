"""A bare git repository of programs, by the `git` command.

A commit is prepared without moving the branch. It counts when the index has it; then the branch follows.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bos_core.objects.errors import StorageError
from bos_core.objects.text import storable

BRANCH = "refs/heads/main"
TIMEOUT_S = 60.0
LOCK_TIMEOUT_MS = "30000"
"""How long git waits for another process that moves the branch."""


@dataclass(frozen=True)
class Repository:
    """A repository, made on first use.

    Attributes
    ----------
    name : str
        ``"custom"`` or ``"official"``.
    path : Path
        Its folder, ``<name>.git``.
    """

    name: str
    path: Path

    def prepare(self, parent: str | None, files: Mapping[str, bytes | None], author: str, message: str) -> str:
        """Make a commit that changes files of its parent, and leave the branch where it is.

        Parameters
        ----------
        parent : str or None
            Commit to start from; None for the first.
        files : mapping of path to bytes or None
            New content; None takes the file out.
        author, message : str

        Returns
        -------
        str
            The commit.

        Raises
        ------
        StorageError
            If git is missing or fails, or the repository has lost the parent.
        """
        self._make()
        if parent is not None and not self.has(parent):
            raise self._lost(parent)
        with tempfile.TemporaryDirectory(prefix="bos-git-") as folder:
            own = {"GIT_INDEX_FILE": str(Path(folder) / "index"), **_identity(author)}
            self._git("read-tree", parent or "--empty", own=own)
            entries = [self._entry(path, data) for path, data in files.items()]
            self._git("update-index", "--index-info", data="".join(entries).encode(), own=own)
            tree = self._git("write-tree", own=own)
            parents = ("-p", parent) if parent else ()
            return self._git("commit-tree", tree, *parents, data=storable(message).encode(), own=own)

    def _entry(self, path: str, data: bytes | None) -> str:
        """Return the line of git's index for a file; mode 0 takes it out."""
        mode, blob = (
            ("0", "0" * 40) if data is None else ("100644", self._git("hash-object", "-w", "--stdin", data=data))
        )
        return f"{mode} {blob}\t{path}\n"

    def follow(self, commit: str) -> None:
        """Move the branch to a commit of the index."""
        self._make()
        if not self.has(commit):
            raise self._lost(commit)
        self._git("update-ref", BRANCH, commit)

    def head(self) -> str | None:
        """Return the commit of the branch, None where there is none."""
        if not self.path.exists():
            return None
        return self._git("for-each-ref", "--format=%(objectname)", BRANCH) or None

    def has(self, commit: str) -> bool:
        """Say whether the repository holds a commit with all its files."""
        if not self.path.exists():
            return False
        try:
            self._git("rev-list", "--objects", "--max-count=1", commit)
        except StorageError:
            return False
        return True

    def read(self, commit: str, path: str) -> bytes:
        """Return a file of a commit.

        Raises
        ------
        StorageError
            If the repository does not hold it.
        """
        try:
            return self._run("cat-file", "blob", f"{commit}:{path}")
        except StorageError as error:
            raise self._lost(commit) from error

    def _make(self) -> None:
        if (self.path / "HEAD").exists():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=f"{self.name}-") as folder:
            fresh = Repository(self.name, Path(folder) / "new.git")
            fresh._run("init", "--quiet", "--bare", "--initial-branch=main", str(fresh.path), inside=False)
            fresh._git("config", "gc.auto", "0")  # a commit that the index does not name yet must stay
            fresh._git("config", "core.filesRefLockTimeout", LOCK_TIMEOUT_MS)
            with suppress(OSError):  # somebody else was first
                fresh.path.rename(self.path)

    def _git(self, *arguments: str, data: bytes = b"", own: Mapping[str, str] | None = None) -> str:
        return self._run(*arguments, data=data, own=own).decode().strip()

    def _run(
        self, *arguments: str, data: bytes = b"", own: Mapping[str, str] | None = None, inside: bool = True
    ) -> bytes:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "BOS_"))}
        environment = {**kept, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
        place = (f"--git-dir={self.path}",) if inside else ()
        try:
            done = subprocess.run(
                ["git", *place, *arguments],
                input=data,
                capture_output=True,
                check=False,
                timeout=TIMEOUT_S,
                env={**environment, **(own or {})},
            )
        except FileNotFoundError as error:
            raise StorageError("there is no git command; install git to keep programs of one's own") from error
        except subprocess.TimeoutExpired as error:
            raise StorageError(
                f"git took longer than {TIMEOUT_S:g} s in {self.path}; see whether its disk answers"
            ) from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise StorageError(f"git refused in {self.path}: {said[-1]}; see `bos doctor`")
        return done.stdout

    def _lost(self, commit: str) -> StorageError:
        return StorageError(
            f"the {self.name} repository {self.path} lacks commit {commit[:12]}, which the index names; restore "
            "the folder from a backup"
        )


def _identity(author: str) -> dict[str, str]:
    """Return who git shall say it was; git takes out what it cannot keep, and refuses what is nothing then."""
    name = re.sub(r"[\x00-\x1f<>]", "", storable(author)).strip(" .,:;\"'\\") or "unknown"
    return {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", name), ("EMAIL", "bos"))
    }
