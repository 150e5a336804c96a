"""Texts that users give, and which of them can be kept everywhere: in databases, graphs and files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from bos_core.objects.errors import Finding

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""PostgreSQL keeps no zero character, and UTF-8 has no half of a surrogate pair."""


def is_storable(text: str) -> bool:
    """Whether a text can be kept as it is."""
    return not _UNSTORABLE.search(text)


def storable(text: str) -> str:
    """Return a text that only tells something, as it can be kept: U+FFFD in the place of what cannot."""
    return _UNSTORABLE.sub("\ufffd", text)


def check_texts(component: str, values: Mapping[str, object]) -> list[Finding]:
    """Return a finding for every field whose texts, at any depth, cannot be kept."""
    remedy = "remove zero characters and halves of surrogate pairs"
    return [
        Finding(component, (storable(bad[0]),), "holds a character that no database keeps", remedy, name)
        for name, value in values.items()
        if (bad := [text for text in _texts(value) if not is_storable(text)])
    ]


def check_lengths(component: str, field: str, texts: Iterable[str | None], length_max: int) -> list[Finding]:
    """Return a finding when texts are too long for the indexes of databases and graphs."""
    long = tuple(f"{text[:40]}..." for text in texts if text is not None and len(text) > length_max)
    problem, remedy = f"is longer than {length_max} characters", "shorten it"
    return [Finding(component, long, problem, remedy, field)] if long else []


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
