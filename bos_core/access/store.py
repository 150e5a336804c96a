"""The result store: a folder or an S3 bucket behind one small interface.

Addresses are relative to the store's root and use ``/``. Objects are written whole or not at all, and never
changed: a folder gets a temporary file, fsync and rename; S3 puts are atomic by themselves.
"""

from __future__ import annotations

import io
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from bos_core.access.digest import table_digest
from bos_core.access.store_faults import S3_LIBRARIES, explain, patiently, s3_code
from bos_core.objects.errors import Finding, NotFoundError, OptionError, StorageError
from bos_core.objects.settings import StoreOptions

COMPRESSION = "zstd"
TEMPORARY = ".tmp-"
PROBES = ".probe"
"""Folder of the small objects that checks write."""
YOUNG_S = 6 * 3600.0
"""An object younger than this need not be touched on S3, where touching means writing."""
_DELETED_AT_ONCE = 1000
"""S3 takes no more in one request."""

_T = TypeVar("_T")


class StoredChunk(NamedTuple):
    """A chunk in the store: digest of its content, size of its file, and whether it was written just now."""

    digest: str
    bytes: int
    is_new: bool


class Files(Protocol):
    """What a store needs from a place that keeps files."""

    url: str

    def put(self, address: str, data: bytes) -> None:
        """Write or replace an object, whole or not at all."""

    def put_new(self, address: str, data: bytes) -> bool:
        """Write an object that must not exist; False when it does."""

    def get(self, address: str) -> bytes:
        """Read an object."""

    def open(self, address: str) -> Any:
        """Open an object for random reads."""

    def exists(self, address: str) -> bool:
        """Say whether an object exists."""

    def walk(self, prefix: str) -> Iterator[tuple[str, float]]:
        """Yield address and age in seconds of every object under a prefix."""

    def delete(self, addresses: Sequence[str]) -> None:
        """Delete objects; absent ones are no error."""

    def touch(self, address: str) -> int | None:
        """Make an object young again and return its size in bytes; None when it does not exist."""


class LocalFiles:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.url = root, str(root)

    def _path(self, address: str) -> Path:
        parts = address.split("/")
        if not address or any(part in {"", ".", ".."} for part in parts):
            raise ValueError(f"{address!r} is no address in the store")
        return self.root.joinpath(*parts)

    def put(self, address: str, data: bytes) -> None:
        """Write to a temporary file, flush it to the disk, then rename."""
        path = self._path(address)
        with self._temporary(path, data) as temporary:
            os.replace(temporary, path)
            _sync_folder(path.parent)

    def put_new(self, address: str, data: bytes) -> bool:
        """Link a finished temporary file to its name: the link fails when the name is taken."""
        path = self._path(address)
        with self._temporary(path, data) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            _sync_folder(path.parent)
        return True

    @contextmanager
    def _temporary(self, path: Path, data: bytes) -> Iterator[str]:
        handle, temporary = _make_temporary(path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)

    def get(self, address: str) -> bytes:
        """Read the file."""
        return self._path(address).read_bytes()

    def open(self, address: str) -> Any:
        """Map the file into memory: only touched pages are read."""
        return pa.memory_map(str(self._path(address)))

    def exists(self, address: str) -> bool:
        """Say whether the file exists."""
        return self._path(address).is_file()

    def walk(self, prefix: str) -> Iterator[tuple[str, float]]:
        """Yield the files under a folder, abandoned temporary files included."""
        top = self._path(prefix)
        for folder, _, names in os.walk(top):
            for name in names:
                path = Path(folder) / name
                with suppress(FileNotFoundError):
                    age_s = time.time() - path.stat().st_mtime
                    yield path.relative_to(self.root).as_posix(), age_s

    def delete(self, addresses: Sequence[str]) -> None:
        """Unlink files and the folders that this leaves empty."""
        for address in addresses:
            path = self._path(address)
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self.root or not folder.is_dir() or any(folder.iterdir()):
                    break
                with suppress(OSError):  # a writer came back in between
                    folder.rmdir()

    def touch(self, address: str) -> int | None:
        """Set the modification time to now."""
        path = self._path(address)
        try:
            os.utime(path)
            return path.stat().st_size
        except FileNotFoundError:
            return None


class S3Files:
    """A bucket, or a prefix in one."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        self.url = url.rstrip("/")
        self.root = self.url.removeprefix("s3://")
        self._options = options
        self._conditional: bool | None = None
        self._lock = threading.Lock()
        self._fs: Any = None
        self._pid = -1

    @property
    def fs(self) -> Any:
        """The s3fs file system of this process (its event loop does not survive a fork)."""
        with self._lock:
            if self._fs is None or self._pid != os.getpid():
                self._fs, self._pid = fsspec.filesystem("s3", **_s3_arguments(self._options)), os.getpid()
                self._fs.retries = 1  # the store tries again, see `store_faults`
            return self._fs

    def _path(self, address: str) -> str:
        return f"{self.root}/{address}"

    def put(self, address: str, data: bytes) -> None:
        """Put the object; S3 makes it visible whole."""
        self.fs.pipe_file(self._path(address), data)

    def put_new(self, address: str, data: bytes) -> bool:
        """Put with If-None-Match; where the server ignores that, check and put (see `conditional`)."""
        if not self.conditional:
            if self.exists(address):
                return False
            self.put(address, data)
            return True
        return self._put_if_none_match(self._path(address), data)

    @property
    def conditional(self) -> bool:
        """Whether the server honours conditional puts; asked once a process, without the right to delete.

        An object that is there must not be written again: the first question may make it.
        """
        if self._conditional is None:
            path = self._path(f"{PROBES}/conditional")
            try:
                self._conditional = not (self._put_if_none_match(path, b"") and self._put_if_none_match(path, b""))
            except NotImplementedError:
                self._conditional = False
        return self._conditional

    def _put_if_none_match(self, path: str, data: bytes) -> bool:
        bucket, _, key = path.partition("/")
        try:
            self.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except FileExistsError:
            return False
        except OSError as error:
            code = s3_code(error)
            if code in {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}:
                return False
            if code in {"NotImplemented", "501"}:
                raise NotImplementedError from error
            raise
        return True

    def get(self, address: str) -> bytes:
        """Read the object."""
        data: bytes = self.fs.cat_file(self._path(address))
        return data

    def open(self, address: str) -> Any:
        """Open for range reads; Parquet's own buffering plans the ranges."""
        return self.fs.open(self._path(address), "rb", cache_type="readahead", block_size=1 << 20)

    def exists(self, address: str) -> bool:
        """Ask for the object's head."""
        return self._head(address) is not None

    def _head(self, address: str) -> Any:
        bucket, _, key = self._path(address).partition("/")
        try:
            return self.fs.call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None

    def walk(self, prefix: str) -> Iterator[tuple[str, float]]:
        """List the objects under a prefix."""
        now = time.time()
        try:
            found = self.fs.find(self._path(prefix), detail=True, refresh=True)
        except FileNotFoundError:
            return
        for path, info in found.items():
            yield path.removeprefix(self.root + "/"), now - info["LastModified"].timestamp()

    def delete(self, addresses: Sequence[str]) -> None:
        """Delete in bulk; what is refused is in the answer, which s3fs would not look at."""
        from botocore.exceptions import ClientError

        bucket = self.root.partition("/")[0]
        for first in range(0, len(addresses), _DELETED_AT_ONCE):
            keys = [
                self._path(address).partition("/")[2] for address in addresses[first : first + _DELETED_AT_ONCE]
            ]
            wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
            answer = self.fs.call_s3("delete_objects", Bucket=bucket, Delete=wanted)
            for error in answer.get("Errors", ()):
                raise ClientError({"Error": error}, "DeleteObjects")

    def touch(self, address: str) -> int | None:
        """Write an old object again: portable over servers that refuse a copy onto itself."""
        head = self._head(address)
        if head is None:
            return None
        if time.time() - head["LastModified"].timestamp() > YOUNG_S:
            self.put(address, self.get(address))
        return int(head["ContentLength"])


class ResultStore:
    """Bytes and tables by address; scenario chunks by content.

    Parameters
    ----------
    url : str
        A folder, ``file:///folder`` or ``s3://bucket/prefix``.
    options : StoreOptions
        Endpoint and credentials of S3.

    Raises
    ------
    StorageError
        From every method: no permission, disk full, missing bucket, wrong credentials, no answer.
    NotFoundError
        From readers: no object at this address.
    """

    def __init__(self, url: str, options: StoreOptions | None = None) -> None:
        self.url = url
        self.options = options or StoreOptions()
        self._files = _files(url, self.options)

    def __reduce__(self) -> tuple[type[ResultStore], tuple[str, StoreOptions]]:
        return type(self), (self.url, self.options)

    @property
    def conditional_put(self) -> bool:
        """Whether `put_if_absent` is one atomic operation here (a folder: always; S3: probed)."""
        if isinstance(self._files, S3Files):
            files = self._files
            return self._run("", lambda: files.conditional)
        return True

    def check(self) -> None:
        """Write a small object and read it back.

        Raises
        ------
        StorageError
            If that does not work.
        """
        address, data = f"{PROBES}/{uuid.uuid4().hex}", os.urandom(64)
        self.put(address, data)
        if self.get(address) != data:
            raise StorageError(f"store {self.url}: it does not keep what is written; use another store")
        with suppress(StorageError):  # who may write need not have the right to delete
            self.delete([address])

    def put(self, address: str, data: bytes) -> None:
        """Write an object, whole or not at all."""
        self._run(address, lambda: self._files.put(address, data), writes=True)

    def put_if_absent(self, address: str, data: bytes) -> bool:
        """Write an object unless the address is taken; return whether it was written."""
        return self._run(address, lambda: self._files.put_new(address, data), writes=True)

    def get(self, address: str) -> bytes:
        """Read an object."""
        return self._run(address, lambda: self._files.get(address))

    def exists(self, address: str) -> bool:
        """Say whether there is an object at this address."""
        return self._run(address, lambda: self._files.exists(address))

    def walk(self, prefix: str) -> list[tuple[str, float]]:
        """Return (address, age in seconds) of every object under a prefix, sorted."""
        return self._run(prefix, lambda: sorted(self._files.walk(prefix)))

    def delete(self, addresses: Sequence[str]) -> None:
        """Delete objects; absent ones are no error."""
        self._run(", ".join(addresses[:3]), lambda: self._files.delete(addresses))

    def put_table(
        self,
        address: str,
        table: pa.Table,
        metadata: Mapping[bytes, bytes] | None = None,
        row_group_rows: int = 262_144,
    ) -> bytes:
        """Write a table as Parquet; return the file's bytes (for digests).

        Parameters
        ----------
        metadata : mapping
            Added to the schema's own metadata.
        row_group_rows : int
            Rows of a row group: the least a filtered read fetches.
        """
        data = encode(table, metadata, row_group_rows)
        self.put(address, data)
        return data

    def get_table(
        self,
        address: str,
        columns: Sequence[str] | None = None,
        filters: Any = None,
        row_groups: Sequence[int] | None = None,
    ) -> pa.Table:
        """Read a table, or some columns, rows (`filters` as in pyarrow) or row groups of it."""

        def read() -> pa.Table:
            with self._files.open(address) as file:
                names = list(columns) if columns is not None else None
                if row_groups is not None:
                    return _parquet(file).read_row_groups(list(row_groups), columns=names, use_threads=False)
                if filters is None:
                    return _parquet(file).read(columns=names, use_threads=False)
                return pq.read_table(file, columns=names, filters=filters, use_threads=False)

        return self._run(address, read)

    def batches(
        self, address: str, columns: Sequence[str] | None = None, rows: int = 262_144
    ) -> Iterator[pa.RecordBatch]:
        """Read a table piece by piece, at most `rows` a piece; memory stays at one row group."""

        def row_groups() -> int:
            with self._files.open(address) as file:
                return int(_parquet(file).num_row_groups)

        for group in range(self._run(address, row_groups)):
            yield from self.get_table(address, columns, row_groups=[group]).to_batches(max_chunksize=rows)

    def get_schema(self, address: str) -> pa.Schema:
        """Read a table's schema with its metadata, not its rows."""

        def read() -> pa.Schema:
            with self._files.open(address) as file:
                return _parquet(file).schema_arrow

        return self._run(address, read)

    # --- content-addressed chunks

    @staticmethod
    def chunk_address(digest: str) -> str:
        """Return where the chunk with this content digest lies."""
        return f"chunks/{digest[:2]}/{digest}.parquet"

    def put_chunk(self, table: pa.Table, row_group_rows: int = 262_144) -> StoredChunk:
        """Store a table under the digest of its content, unless it is there.

        A chunk that is there already becomes young again, so that the collector of old unreferenced chunks does
        not take it away before the version that needs it is committed.
        """
        digest = table_digest(table)
        address = self.chunk_address(digest)
        size = self._run(address, lambda: self._files.touch(address))
        if size is not None:
            return StoredChunk(digest, size, is_new=False)
        data = self.put_table(address, table, row_group_rows=row_group_rows)
        return StoredChunk(digest, len(data), is_new=True)

    # --- errors

    def _run(self, address: str, action: Callable[[], _T], writes: bool = False) -> _T:
        with self._translated(address, writes):
            return patiently(action, self.options) if isinstance(self._files, S3Files) else action()

    @contextmanager
    def _translated(self, address: str, writes: bool = False) -> Iterator[None]:
        endpoint = self.options.endpoint_url if isinstance(self._files, S3Files) else ""
        where = f"store {self.url}" + (f" at {endpoint}" if endpoint else "") + (f", {address}" if address else "")
        try:
            yield
        except FileNotFoundError as error:
            if isinstance(self._files, S3Files) and s3_code(error) == "NoSuchBucket":
                raise _storage(where, "the bucket does not exist", "create it or correct BOS_STORE_URL") from error
            if writes:
                raise _storage(where, "its folder cannot be made", "set BOS_STORE_URL to another place") from error
            raise NotFoundError(f"{where}: no such object; `bos doctor` compares index and store") from error
        except pa.ArrowInvalid as error:
            problem = f"the file is damaged ({str(error).splitlines()[0]})"
            raise _storage(where, problem, "restore it, or run its step again") from error
        except (OSError, ValueError) as error:
            raise _storage(where, *explain(error)) from error
        except Exception as error:
            if type(error).__module__.split(".")[0] not in S3_LIBRARIES:
                raise
            raise _storage(where, *explain(error)) from error


def encode(table: pa.Table, metadata: Mapping[bytes, bytes] | None = None, row_group_rows: int = 262_144) -> bytes:
    """Return a table as Parquet bytes; equal input gives equal bytes.

    Floats are split into byte streams (better compression); strings keep their dictionaries, without which
    repeated names would fill the file.
    """
    if metadata:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    split = _leaf_paths(table.schema, pa.types.is_floating)
    dictionary = _leaf_paths(
        table.schema, lambda t: pa.types.is_string(t) or pa.types.is_integer(t) or pa.types.is_dictionary(t)
    )
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        compression=COMPRESSION,
        row_group_size=row_group_rows,
        use_byte_stream_split=split or False,
        use_dictionary=dictionary or False,
        write_statistics=dictionary or False,
        store_schema=True,
    )
    return sink.getvalue()


def _leaf_paths(schema: pa.Schema, wanted: Callable[[pa.DataType], bool]) -> list[str]:
    paths = []
    for field in schema:
        nested = pa.types.is_fixed_size_list(field.type) or pa.types.is_list(field.type)
        if wanted(field.type.value_type if nested else field.type):
            paths.append(f"{field.name}.list.element" if nested else field.name)
    return paths


def _parquet(file: Any) -> pq.ParquetFile:
    return pq.ParquetFile(file, pre_buffer=True)


def _files(url: str, options: StoreOptions) -> Files:
    if url.startswith("s3://"):
        if not url.removeprefix("s3://").split("/")[0]:
            raise _bad_url(url, "names no bucket")
        return S3Files(url, options)
    path = url.removeprefix("file://")
    if "://" in path or not path:
        raise _bad_url(url, "is neither a folder, a file:// nor an s3:// URL")
    return LocalFiles(Path(os.path.abspath(os.path.expanduser(path))))


def _bad_url(url: str, problem: str) -> OptionError:
    return OptionError((Finding("setting", (url,), problem, "use a folder or s3://bucket/prefix", "store_url"),))


def _s3_arguments(options: StoreOptions) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "key": options.key.get_secret_value() or None,
        "secret": options.secret.get_secret_value() or None,
        "token": options.token.get_secret_value() or None,
        "endpoint_url": options.endpoint_url or None,
        "use_listings_cache": False,
        "skip_instance_cache": True,
        "client_kwargs": {"region_name": options.region},
        "config_kwargs": {
            # servers other than Amazon's reject the checksum trailers that boto adds by default
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "connect_timeout": options.connect_timeout_s,
            "read_timeout": options.read_timeout_s,
            "retries": {"total_max_attempts": 1, "mode": "standard"},  # the store tries again, see `store_faults`
            "s3": {"addressing_style": options.addressing},
        },
    }
    if options.ca_bundle:
        arguments["client_kwargs"]["verify"] = options.ca_bundle
    return arguments


def _storage(where: str, problem: str, remedy: str) -> StorageError:
    return StorageError(f"{where}: {problem}; {remedy}")


def _make_temporary(folder: Path) -> tuple[int, str]:
    """Open a temporary file; the collector may remove the empty folder just after it was made, so try again."""
    for last in (False, False, True):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return tempfile.mkstemp(prefix=TEMPORARY, dir=folder)
        except FileNotFoundError:
            if last:
                raise
    raise AssertionError("unreachable")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: the folder's entry reaches the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
