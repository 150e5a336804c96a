"""The store's suite on a folder, and what only a file system can do wrong."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from store_suite import *  # noqa: F403

from bos_core.access.store import ResultStore
from bos_core.objects.errors import OptionError, StorageError


@contextmanager
def powerless() -> Iterator[None]:
    """Drop root's rights, which would ignore file modes."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("url", ["", "ftp://host/x", "s3://", "s3:///prefix"])
def test_bad_urls_are_findings(url: str) -> None:
    with pytest.raises(OptionError):
        ResultStore(url)


@pytest.mark.parametrize("address", ["", "/etc/x", "../x", "a/../../x", "a//b", "."])
def test_addresses_cannot_leave_the_store(store: ResultStore, address: str) -> None:
    with pytest.raises(StorageError, match="no address"):
        store.put(address, b"1")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_failing_disk_leaves_the_old_object(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    store.put("a", b"old")

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    for put in (store.put, store.put_if_absent):
        with pytest.raises(StorageError, match=words):
            put("a", b"new")
        with pytest.raises(StorageError, match=words):
            put("b", b"new")
    assert store.get("a") == b"old"
    assert not store.exists("b")
    assert not list(Path(store.url).rglob(".tmp-*"))


def test_no_permission(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    with powerless(), pytest.raises(StorageError, match="access is refused; check owner"):
        ResultStore(str(folder)).put("a/b", b"1")


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("I am a file")
    with pytest.raises(StorageError, match="part of the path is a file"):
        ResultStore(str(tmp_path / "store")).put("a/b", b"1")


def test_a_torn_temporary_file_is_never_read(store: ResultStore) -> None:
    store.put("a/1", b"1")
    (Path(store.url) / "a" / ".tmp-torn").write_bytes(b"half")
    assert not store.exists("a/2")
    assert store.get("a/1") == b"1"


def test_deleting_leaves_no_empty_folders(store: ResultStore) -> None:
    store.put("a/b/c/1", b"1")
    store.put("a/2", b"1")
    store.delete(["a/b/c/1"])
    assert sorted(p.name for p in Path(store.url).rglob("*")) == ["2", "a"]


def test_file_urls(tmp_path: Path) -> None:
    ResultStore(f"file://{tmp_path}/s").put("a", b"1")
    assert (tmp_path / "s" / "a").read_bytes() == b"1"
