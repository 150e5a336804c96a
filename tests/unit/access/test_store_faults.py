"""What is tried again, how often and for how long, on a clock of our own."""

from __future__ import annotations

import errno

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from bos_core.access.store_faults import PAUSE_S_MAX, explain, may_pass, patiently
from bos_core.objects.settings import StoreOptions


def answer(status: int, code: str = "") -> Exception:
    response = {"Error": {"Code": code or str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetObject")


def translated(error: Exception) -> OSError:
    """As s3fs does it."""
    made = OSError(errno.EIO, "translated")
    made.__cause__ = error
    return made


BUSY = answer(503, "SlowDown")
SILENT = ReadTimeoutError(endpoint_url="http://here")


class Clock:
    """Time passes by sleeping, and by what an action takes."""

    def __init__(self, action_s: float = 0.0) -> None:
        self.now, self.pauses, self.action_s, self.asked = 0.0, list[float](), action_s, 0

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def ask(self, error: Exception, times: int = 1000) -> str:
        self.asked += 1
        self.now += self.action_s
        if self.asked <= times:
            raise error
        return "done"

    def run(self, error: Exception, times: int = 1000, **options: float) -> str:
        chosen = StoreOptions.model_validate(options)
        return patiently(lambda: self.ask(error, times), chosen, self.sleep, lambda: self.now, lambda: 1.0)


@pytest.mark.parametrize(
    "error",
    [
        *(answer(status) for status in (429, 500, 502, 503, 504)),
        translated(BUSY),
        answer(400, "RequestTimeout"),
        SILENT,
        translated(SILENT),
        EndpointConnectionError(endpoint_url="http://here"),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=str,
)
def test_what_may_pass(error: Exception) -> None:
    assert may_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        *(answer(status) for status in (400, 403, 404, 409, 412, 501, 507)),
        answer(503, "QuotaExceeded"),
        OSError(errno.ENOSPC, "full"),
        SSLError(endpoint_url="http://here", error="expired"),
        NoCredentialsError(),
        ValueError(),
    ],
    ids=str,
)
def test_what_will_not_pass(error: Exception) -> None:
    assert not may_pass(error)
    clock = Clock()
    with pytest.raises(type(error)):
        clock.run(error)
    assert clock.asked == 1


def test_pauses_double_up_to_a_limit() -> None:
    clock = Clock()
    with pytest.raises(ClientError):
        clock.run(BUSY, attempts_max=8)
    assert clock.pauses == [0.25, 0.5, 1, 2, 4, PAUSE_S_MAX, PAUSE_S_MAX]


def test_what_passes_is_sat_out() -> None:
    clock = Clock()
    assert clock.run(BUSY, times=3, attempts_max=4) == "done"
    assert clock.asked == 4


def test_a_server_that_is_slow_to_fail_is_not_asked_for_ever() -> None:
    clock = Clock(action_s=25.0)
    with pytest.raises(ReadTimeoutError):
        clock.run(SILENT, attempts_max=20, retry_s_max=60.0)
    assert clock.asked == 3


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BUSY, "the server answers 503 SlowDown"),
        (answer(503), "the server answers 503"),
        (translated(answer(500, "InternalError")), "the server answers 500 InternalError"),
        (SILENT, "the store does not answer in time"),
    ],
)
def test_a_service_that_fails_is_explained(error: Exception, words: str) -> None:
    problem, remedy = explain(error)
    assert problem == words
    assert "go on with `bos run --resume last`" in remedy
