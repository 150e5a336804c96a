"""Linear cuts of post-contingency loadings in bus injections, corrected by AC results.

The flow of branch m after the outage of branch l is F_m + c_ml F_l with AC base-case flows F. For an outage that
keeps the grid together c is the line outage distribution factor; for a bridge it is what the near end feeds or
lacks once the far side is gone. A loading seen in an AC solution replaces the estimate of its pair, and the ratio
of the two corrects the estimates of later rounds. Factors below 1 % are dropped: the AC check sees what they do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bos_core.grid.dc import lodf, most_loading, ptdf
from bos_core.grid.model import FloatArray, IntArray, Network

BASE_CASE = -1
_SMALL_FACTOR = 1e-2


@dataclass(frozen=True, eq=False)
class Pairs:
    """Loadings after outages: outaged branch (-1 = base case), loaded branch, current / rating."""

    outage: IntArray
    branch: IntArray
    loading: FloatArray

    def joined(self, other: Pairs) -> Pairs:
        """Return both lists; where a pair is in both, the first counts."""
        outage = np.concatenate([self.outage, other.outage])
        branch = np.concatenate([self.branch, other.branch])
        loading = np.concatenate([self.loading, other.loading])
        first = _first_of_each(outage, branch)
        return Pairs(outage[first], branch[first], loading[first])

    def chosen(self, which: np.ndarray) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.outage[which], self.branch[which], self.loading[which])


@dataclass(frozen=True, eq=False)
class Known:
    """Pairs that were violated in some round, and AC loading over estimate when they last were, (pair,)."""

    pairs: Pairs
    correction: FloatArray

    def joined(self, other: Known) -> Known:
        """Return both; where a pair is in both, the first counts."""
        mine, others = self.pairs, other.pairs
        outage, branch = np.concatenate([mine.outage, others.outage]), np.concatenate([mine.branch, others.branch])
        first = _first_of_each(outage, branch)
        pairs = Pairs(outage[first], branch[first], np.concatenate([mine.loading, others.loading])[first])
        return Known(pairs, np.concatenate([self.correction, other.correction])[first])


def _first_of_each(outage: IntArray, branch: IntArray) -> IntArray:
    """Return where each pair comes first, in the order of outages and branches."""
    places: IntArray = np.unique(outage * (branch.max(initial=0) + 1) + branch, return_index=True)[1]
    return places


@dataclass(frozen=True, eq=False)
class Cuts:
    """Rows ``loading + factor @ change of injection <= limit``.

    Attributes
    ----------
    pairs : Pairs
    limit : (cut,)
    factor : (cut, bus)
        Change of loading for one MW more injection, balanced at the slack; small ones are zero.
    mw : (cut,)
        Rating in MW: what a loading of 1 stands for.
    """

    pairs: Pairs
    limit: FloatArray
    factor: FloatArray
    mw: FloatArray


class OutageFactors:
    """Distribution factors of a network, computed once for all hours of a block."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.ptdf = ptdf(network)
        self.coupling, bridge = lodf(self.ptdf, network)
        for outage in np.flatnonzero(bridge):
            f, t = network.from_bus[outage], network.to_bus[outage]
            near_is_from = abs(self.ptdf[outage, f]) < 0.5
            self.coupling[:, outage] = self.ptdf[:, f] if near_is_from else -self.ptdf[:, t]
            self.coupling[outage, outage] = -1.0

    def post_flow(self, flow: FloatArray, outage: IntArray, branch: IntArray) -> FloatArray:
        """Return the estimated active flow of each pair, in the unit of `flow` (branch,)."""
        out = np.maximum(outage, 0)
        extra: FloatArray = np.where(outage >= 0, self.coupling[branch, out] * flow[out], 0.0)
        return flow[branch] + extra

    def rows(self, outage: IntArray, branch: IntArray) -> FloatArray:
        """Return MW of post-contingency flow per MW of injection, (pair, bus)."""
        out = np.maximum(outage, 0)
        weight = np.where(outage >= 0, self.coupling[branch, out], 0.0)
        rows: FloatArray = self.ptdf[branch] + weight[:, None] * self.ptdf[out]
        rows[np.abs(rows) < _SMALL_FACTOR] = 0.0
        return rows


@dataclass(frozen=True, eq=False)
class BaseFlows:
    """The AC base case as the cuts see it.

    Attributes
    ----------
    p_pu : (branch,)
        Active flow at the from end.
    vm_pu : (branch,)
        The lower of the end voltages.
    rating_pu : (branch,)
        The lower of the end ratings; inf = unrated.
    loading : (branch,)
    """

    p_pu: FloatArray
    vm_pu: FloatArray
    rating_pu: FloatArray
    loading: FloatArray

    @classmethod
    def of(cls, network: Network, vm_pu: FloatArray, va_rad: FloatArray) -> BaseFlows:
        """Take the flows of a solved state."""
        v = vm_pu * np.exp(1j * va_rad)
        current, _ = network.branch_currents(v)
        f, t = network.from_bus, network.to_bus
        return cls(
            p_pu=np.ascontiguousarray(np.real(v[f] * np.conj(current))),  # as the kernels are compiled for
            vm_pu=np.minimum(vm_pu[f], vm_pu[t]),
            rating_pu=np.minimum(network.i_max_from_pu, network.i_max_to_pu),
            loading=network.loading(v),
        )


def estimated_loading(factors: OutageFactors, base: BaseFlows, outage: IntArray, branch: IntArray) -> FloatArray:
    """Return the loading of pairs by distribution factors, active power only."""
    flow = factors.post_flow(base.p_pu, outage, branch)
    loading: FloatArray = np.abs(flow) / (base.vm_pu[branch] * base.rating_pu[branch])
    return loading


def threatened(
    factors: OutageFactors, base: BaseFlows, contingency: IntArray, limit: FloatArray, share: float, count: int
) -> Pairs:
    """Return, for each rated branch, the outages that load it most by estimate, where above share x limit.

    Parameters
    ----------
    contingency : (contingency,)
    limit : (branch,)
        Loading after a contingency.
    count : int
        Most outages a branch.
    """
    per_pu = np.divide(1.0, base.vm_pu * base.rating_pu)  # 0 where unrated
    found = most_loading(factors.coupling, base.p_pu, per_pu, contingency, share * limit, count)
    return Pairs(*found)


def worst_pairs(pairs: Pairs, limit: FloatArray, per_branch: int, total: int) -> Pairs:
    """Return at most `per_branch` worst outages a branch (the base case beside them), and `total` pairs."""
    over = pairs.loading - limit
    order = np.lexsort((pairs.outage, -over, pairs.branch))
    branch, base = pairs.branch[order], pairs.outage[order] == BASE_CASE
    rank = np.zeros(order.size, np.int64)
    counted = ~base
    starts = np.r_[True, branch[1:] != branch[:-1]] if order.size else np.zeros(0, bool)
    before = np.cumsum(counted) - counted
    rank = before - np.maximum.accumulate(np.where(starts, before, 0)) if order.size else rank
    kept = order[base | (rank < per_branch)]
    kept = kept[np.argsort(-over[kept], kind="stable")][:total]
    return pairs.chosen(np.sort(kept))


def linearise(
    factors: OutageFactors,
    base: BaseFlows,
    pairs: Pairs,
    limit_base: FloatArray,
    limit_contingency: FloatArray,
    base_mva: float,
) -> Cuts:
    """Return the cuts of pairs with known loadings.

    A current of which the share c is active changes by c times what the active flow changes by.
    """
    branch, outage = pairs.branch, pairs.outage
    flow = factors.post_flow(base.p_pu, outage, branch)
    volt, rating = base.vm_pu[branch], base.rating_pu[branch]
    apparent = np.maximum(pairs.loading * rating * volt, 1e-9)
    active = np.clip(np.abs(flow) / apparent, 0.2, 1.0)
    per_mw = np.sign(flow) * active / (volt * rating * base_mva)
    return Cuts(
        pairs=pairs,
        limit=np.where(outage == BASE_CASE, limit_base[branch], limit_contingency[branch]),
        factor=factors.rows(outage, branch) * per_mw[:, None],
        mw=rating * volt * base_mva,
    )
