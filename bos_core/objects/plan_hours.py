"""Hours of the plan year as people write them: numbers, dates, and ranges of both."""

from __future__ import annotations

import datetime as dt

import numpy as np

from bos_core.objects.ontology import HOURS_PER_YEAR

_YEAR = 2015
"""Any year without a 29 February."""


def hour_of(text: str) -> int:
    """Return the hour of the year of a number or a date ``MM-DD``, whose first hour it is.

    Raises
    ------
    ValueError
        If it is neither; 29 February does not exist.
    """
    if text.isdecimal():
        return int(text)
    date = dt.datetime.strptime(f"{_YEAR}-{text}", "%Y-%m-%d")
    return (date - dt.datetime(_YEAR, 1, 1)).days * 24


def hours_of(text: str, within: slice) -> list[slice]:
    """Return the hours that a text names, as ranges that do not touch.

    Parameters
    ----------
    text : str
        Parts by comma: an hour (``408``), a day (``01-18``), or a range up to before its end (``408:576``,
        ``01-18:01-25``, ``408:``, ``:24``); empty means all.
    within : slice
        All hours.

    Raises
    ------
    ValueError
        If a part is none of these, or reaches beyond `within`; the message says which.
    """
    chosen = np.zeros(HOURS_PER_YEAR + 2, bool)
    for part in text.split(",") if text.strip() else [":"]:
        start, stop = _range(part.strip(), within)
        if not within.start <= start < stop <= within.stop:
            raise ValueError(f"{part.strip()!r} is not within hours {within.start} to {within.stop - 1}")
        chosen[start + 1 : stop + 1] = True
    edges = np.flatnonzero(np.diff(chosen)).tolist()
    return [slice(first, last) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _range(part: str, within: slice) -> tuple[int, int]:
    first, colon, last = part.partition(":")
    try:
        if colon:
            return (hour_of(first) if first else within.start), (hour_of(last) if last else within.stop)
        start = hour_of(part)
    except ValueError:
        raise ValueError(f"{part!r} is no hour, no date and no range of them") from None
    return start, start + (1 if part.isdecimal() else 24)
