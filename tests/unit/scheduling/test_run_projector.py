"""The projector's loop: what it says and when it tries again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from bos_core.access.projection import Projected
from bos_core.objects.errors import StorageError
from bos_core.scheduling.run_projector import LONGEST_S, attempts


def _said(*outcomes: Exception | Projected) -> list[tuple[str, float]]:
    left: Iterator[Exception | Projected] = iter(outcomes)

    def drain() -> Projected:
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return list(itertools.islice(attempts(drain, poll_s=2.0), len(outcomes)))


def test_nothing_is_said_while_it_works() -> None:
    assert _said(Projected(), Projected(("a",))) == [("", 2.0), ("", 2.0)]


def test_a_failure_is_said_once_and_tried_again_ever_later() -> None:
    down = StorageError("graph bolt://x: it cannot be reached; start it")
    said = _said(*[down] * 7, Projected(("a", "b")), Projected())
    assert said[0] == (f"the graph is not brought up to date: {down} (it is tried again)", 2.0)
    assert [text for text, _ in said[1:7]] == [""] * 6
    assert [delay_s for _, delay_s in said[:7]] == [2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_S, LONGEST_S]
    assert said[7:] == [("the graph is up to date again; versions projected: 2", 2.0), ("", 2.0)]


def test_another_failure_is_said_and_none_ends_the_loop() -> None:
    said = [text for text, _ in _said(StorageError("a; b"), ValueError("bug"), Projected())]
    assert "a; b" in said[0]
    assert "ValueError('bug')" in said[1]
    assert "again" in said[2]
