"""What goes wrong with a store: whether it may pass, how long it is sat out, and how it is explained.

Here alone is decided what is tried again: s3fs and botocore would each do so by rules of their own, and every try
of one would be several of the other.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import TypeVar

from bos_core.objects.settings import StoreOptions

S3_LIBRARIES = frozenset({"botocore", "aiobotocore", "aiohttp", "s3fs", "fsspec"})
PAUSE_S, PAUSE_S_MAX = 0.25, 8.0
"""Before the second try, doubled before each further one."""

_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500
_LASTING = frozenset({501, 505, 507})
"""Errors of a server that trying again does not change: it cannot do it, or is full."""
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"})
_PASSING = frozenset({"RequestTimeout", "OperationAborted", "Throttling", "ThrottlingException"})

_WHEN_IT_SERVES = "when it serves again (see its log), go on with `bos run --resume last`"
_SILENCE = frozenset({"ReadTimeoutError", "FSTimeoutError", "TimeoutError"})

_T = TypeVar("_T")


def patiently(
    action: Callable[[], _T],
    options: StoreOptions,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    chance: Callable[[], float] = random.random,
) -> _T:
    """Do something that may be done twice, again after an error that may pass.

    Parameters
    ----------
    options : StoreOptions
        `attempts_max`, and `retry_s_max`: seconds after the start when the last try may begin.
    chance : callable
        Between 0 and 1: pauses are half fixed and half random, so that many workers do not come back at once.
    """
    begin = clock()
    for attempt in count(1):
        try:
            return action()
        except Exception as error:
            pause = min(PAUSE_S * 2 ** (attempt - 1), PAUSE_S_MAX) * (1 + chance()) / 2
            late = clock() + pause - begin > options.retry_s_max
            if attempt >= options.attempts_max or late or not may_pass(error):
                raise
        sleep(pause)
    raise AssertionError("unreachable")


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later: the server is busy, or was not heard."""
    status, code = _status(error), s3_code(error)
    if status or code:
        busy = status >= _SERVER_ERROR and status not in _LASTING
        return code in _PASSING or status == _TOO_MANY_REQUESTS or (busy and code not in _FULL)
    return any(_was_not_heard(cause) for cause in _causes(error))


def _was_not_heard(error: BaseException) -> bool:
    from aiohttp import ClientError
    from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, HTTPClientError
    from botocore.parsers import ResponseParserError

    kinds = (ClientError, ConnectTimeoutError, EndpointConnectionError, HTTPClientError, ResponseParserError)
    return isinstance(error, (*kinds, ConnectionError, TimeoutError))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _answer(error: BaseException) -> Mapping[str, Mapping[str, object]]:
    """Return what an S3 server has answered, behind an exception of s3fs; empty where it has not."""
    answers = (getattr(cause, "response", None) for cause in _causes(error))
    return next((answer for answer in answers if isinstance(answer, dict)), {})


def s3_code(error: BaseException) -> str:
    """Return the S3 error code behind an exception of s3fs, empty when there is none."""
    return str(_answer(error).get("Error", {}).get("Code", ""))


def _status(error: BaseException) -> int:
    """Return the HTTP status behind an exception of s3fs, 0 when there is none."""
    return int(str(_answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)))


_S3_CODES: Mapping[str, tuple[str, str]] = {
    "NoSuchBucket": ("the bucket does not exist", "create it or correct BOS_STORE_URL"),
    "InvalidAccessKeyId": ("the access key is unknown", "correct key in BOS_STORE_OPTIONS"),
    "XAdminUserNotFound": ("the access key is unknown", "correct key in BOS_STORE_OPTIONS"),
    "SignatureDoesNotMatch": ("the secret key is wrong", "correct secret in BOS_STORE_OPTIONS"),
    "AccessDenied": ("access is refused", "give the key the right to read, write and list this bucket"),
    "403": ("access is refused", "correct key and secret in BOS_STORE_OPTIONS, or the bucket's policy"),
    "ExpiredToken": ("the session token has expired", "get a new one"),
    "QuotaExceeded": ("the quota of the bucket is used up", "raise it or collect garbage"),
    "XMinioStorageFull": ("the store is full", "free some space"),
    "InsufficientStorage": ("the store is full", "free some space"),
}

_ERRNOS: Mapping[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", "free some space and run again with --resume"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run again with --resume"),
    errno.EACCES: ("access is refused", "check owner and mode of the folder, or set BOS_STORE_URL"),
    errno.EPERM: ("access is refused", "check owner and mode of the folder, or set BOS_STORE_URL"),
    errno.EROFS: ("the file system is read-only", "set BOS_STORE_URL to a place you may write"),
    errno.ENOTDIR: ("a part of the path is a file", "set BOS_STORE_URL to a folder"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
}


def explain(error: BaseException) -> tuple[str, str]:
    """Return what is wrong and the next step."""
    code, status, name = s3_code(error), _status(error), type(error).__name__
    if code in _S3_CODES:
        return _S3_CODES[code]
    if status and may_pass(error):
        answer = f"{status}" if code in {"", str(status)} else f"{status} {code}"
        return f"the server answers {answer}", _WHEN_IT_SERVES
    if name in {"NoCredentialsError", "PartialCredentialsError"}:
        return "no credentials were given", "set key and secret in BOS_STORE_OPTIONS"
    if name in {"EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError", "ClientConnectorError"}:
        return "the store cannot be reached", "start it or correct endpoint_url in BOS_STORE_OPTIONS"
    if isinstance(error, OSError) and error.errno is not None and error.errno in _ERRNOS and not code:
        return _ERRNOS[error.errno]
    if name in _SILENCE:
        return "the store does not answer in time", _WHEN_IT_SERVES
    return f"{code or name}: {str(error).splitlines()[0] if str(error) else 'no message'}", "see the store's log"
