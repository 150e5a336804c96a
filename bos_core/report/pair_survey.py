"""What the report says of all N-1 pairs, found in passes over them: a year has more than memory should hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bos_core.grid.model import FloatArray, IntArray
from bos_core.report.data import DIVERGED
from bos_core.report.run_sources import RunSources

CONTINGENCIES_SHOWN = 100

_FIRST, _AGAIN = ("n1_verification", "pairs"), ("state_adjustment", "verified.pairs")
_EXTREMES = ("outcome", "loading_max", "vm_min_pu", "vm_max_pu")


@dataclass(frozen=True, eq=False)
class PairSurvey:
    """The pairs of a run, those of adjusted hours as they were verified again.

    Attributes
    ----------
    rows : int
    outcome_pairs : (class,) int
    diverged : (2, pair) int
        Hour and contingency of the pairs without a solution.
    diverged_before : (2, pair) int
        The same before any hour was adjusted.
    worst : pa.Table
        The most severe pair of each contingency with `diverged_hours`, how often it has no solution: those that
        diverge most often first, then by loading.
    shown : (contingency,) int
        The most severe contingencies, ascending.
    extremes : mapping of name to (hour, contingency) of those shown
    """

    rows: int
    outcome_pairs: IntArray
    diverged: IntArray
    diverged_before: IntArray
    worst: pa.Table
    shown: IntArray
    extremes: dict[str, FloatArray]


def survey_pairs(sources: RunSources) -> PairSurvey | None:
    """Read the pairs of a run; None before step 6."""
    if not sources.has_table(*_FIRST):
        return None
    outcome_pairs = np.zeros(3, np.int64)
    rows, diverged, worst = 0, [], []
    for piece in _verified_last(sources, None):
        rows += piece.num_rows
        outcome_pairs += np.bincount(piece["outcome"].to_numpy(), minlength=3)
        diverged.append(_diverged(piece))
        worst.append(piece.take(_worst_of_each_contingency(piece)))
    candidates = pa.concat_tables(worst)
    without_solution = np.concatenate(diverged, axis=1)
    ranked = _most_often_diverged_first(candidates.take(_worst_of_each_contingency(candidates)), without_solution)
    shown = np.sort(ranked["contingency"].to_numpy()[:CONTINGENCIES_SHOWN])
    before = [_diverged(piece) for piece in sources.pieces(*_FIRST, ["hour", "contingency", "outcome"])]
    return PairSurvey(
        rows=rows,
        outcome_pairs=outcome_pairs,
        diverged=without_solution,
        diverged_before=np.concatenate(before, axis=1),
        worst=ranked,
        shown=shown,
        extremes=_extremes(sources, shown),
    )


def _verified_last(sources: RunSources, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    """Yield the pairs, those of hours that were verified again after the others."""
    if not sources.has_table(*_AGAIN):
        yield from sources.pieces(*_FIRST, columns)
        return
    again = sources.table("state_adjustment", "verified.base")
    assert again is not None
    renewed = np.unique(again["hour"].to_numpy())
    for piece in sources.pieces(*_FIRST, columns):
        yield piece.filter(pa.array(~np.isin(piece["hour"].to_numpy(), renewed)))
    yield from sources.pieces(*_AGAIN, columns)


def _diverged(piece: pa.Table) -> IntArray:
    gone = piece["outcome"].to_numpy() == DIVERGED
    return np.stack([piece[name].to_numpy()[gone].astype(np.int64) for name in ("hour", "contingency")])


def _worst_of_each_contingency(pairs: pa.Table) -> IntArray:
    """Return one row of each contingency, most severe first, of equals the first."""
    severity = np.nan_to_num(pairs["loading_max"].to_numpy(), nan=np.inf)
    order = np.argsort(-severity, kind="stable")
    _, first = np.unique(pairs["contingency"].to_numpy()[order], return_index=True)
    return order[np.sort(first)]


def _most_often_diverged_first(worst: pa.Table, diverged: IntArray) -> pa.Table:
    contingency = worst["contingency"].to_numpy()
    hours = np.bincount(diverged[1], minlength=int(contingency.max(initial=0)) + 1)[contingency]
    return worst.append_column("diverged_hours", pa.array(hours)).take(np.argsort(-hours, kind="stable"))


def _extremes(sources: RunSources, shown: IntArray) -> dict[str, FloatArray]:
    column = np.full(sources.grid.network.n_branch, -1)
    column[shown] = np.arange(shown.size)
    found = {name: np.full((sources.hours, shown.size), np.nan) for name in _EXTREMES}
    for piece in _verified_last(sources, ["hour", "contingency", *_EXTREMES]):
        place = column[piece["contingency"].to_numpy()]
        kept = place >= 0
        hour = piece["hour"].to_numpy()[kept] - sources.start
        for name, values in found.items():
            values[hour, place[kept]] = piece[name].to_numpy()[kept]
    return found
