"""Linear cuts of post-contingency loadings in bus injections, corrected by AC results.

The flow of branch m after the outage of branch l is F_m + c_ml F_l with AC base-case flows F. For an outage that
keeps the grid together c is the line outage distribution factor; for a bridge it is what the near end feeds or
lacks once the far side is gone. A loading seen in an AC solution replaces the estimate of its pair, and the ratio
of the two corrects the estimates of later rounds. Factors below 1 % are dropped: the AC check sees what they do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

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
        """Return both lists, one after the other."""
        return Pairs(
            np.concatenate([self.outage, other.outage]),
            np.concatenate([self.branch, other.branch]),
            np.concatenate([self.loading, other.loading]),
        )

    def chosen(self, which: np.ndarray) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.outage[which], self.branch[which], self.loading[which])


class OutageFactors:
    """Distribution factors of a network, computed once for all hours of a block.

    Parameters
    ----------
    network : Network
    contingency : (contingency,) int
        Branches that may fail.
    """

    def __init__(self, network: Network, contingency: IntArray) -> None:
        self.network = network
        self.ptdf = ptdf(network)
        self.coupling, bridge = lodf(self.ptdf, network)
        for outage in np.flatnonzero(bridge):
            f, t = network.from_bus[outage], network.to_bus[outage]
            near_is_from = abs(self.ptdf[outage, f]) < 0.5
            self.coupling[:, outage] = self.ptdf[:, f] if near_is_from else -self.ptdf[:, t]
            self.coupling[outage, outage] = -1.0
        strong = np.abs(self.coupling) >= _SMALL_FACTOR
        np.fill_diagonal(strong, val=False)
        strong[:, np.setdiff1d(np.arange(network.n_branch), contingency)] = False
        self.strong = sp.csr_array(np.where(strong, self.coupling, 0.0).astype(np.float32))

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


def threatened(factors: OutageFactors, base: BaseFlows, limit: FloatArray, share: float, count: int) -> Pairs:
    """Return, for each rated branch, the outages that load it most by estimate, where above share x limit.

    Parameters
    ----------
    limit : (branch,)
        Loading after a contingency.
    count : int
        Most outages a branch.
    """
    per_pu = np.divide(1.0, base.vm_pu * base.rating_pu)  # 0 where unrated
    strong = factors.strong
    return Pairs(
        *most_loading(strong.indptr, strong.indices, strong.data, base.p_pu, per_pu, share * limit, count)
    )


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


class Cuts:
    """Rows ``loading * mw + factor_mw @ change of injection <= limit * mw``; the list grows, its rows stay.

    Arrays are (cut,) unless said otherwise.

    Attributes
    ----------
    outage, branch : int
    direction : float
        Of the flow that the cut limits: +1 from►to, -1 to►from.
    limit : float
        Loading, kept free of margins.
    mw : float
        Rating in MW: what a loading of 1 stands for.
    factor_mw : (cut, bus)
        MW of loading for one MW more injection, balanced at the slack; small ones are zero.
    loading : float
        At the last state that `look_at` was given; negative where the flow has turned.
    """

    def __init__(self, factors: OutageFactors) -> None:
        self.factors = factors
        nothing = np.zeros(0)
        self.outage, self.branch = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.direction, self.limit, self.mw, self.loading, self._correction = (nothing,) * 5
        self.factor_mw = np.zeros((0, factors.network.n_bus))

    @property
    def n(self) -> int:
        """How many there are."""
        return self.limit.size

    def add(self, base: BaseFlows, pairs: Pairs, limit: FloatArray) -> None:
        """Add the pairs that are no cuts yet, for their flows of a state.

        A current of which the share c is active changes by c times what the active flow changes by.

        Parameters
        ----------
        base : BaseFlows
            The state.
        pairs : Pairs
        limit : (pair,)
        """
        flow = self.factors.post_flow(base.p_pu, pairs.outage, pairs.branch)
        keys = self._keys(pairs.outage, pairs.branch, np.sign(flow))
        first = np.unique(keys, return_index=True)[1]
        new = np.sort(first[~np.isin(keys[first], self._keys(self.outage, self.branch, self.direction))])
        outage, branch, flow = pairs.outage[new], pairs.branch[new], flow[new]
        per_loading = base.rating_pu[branch] * base.vm_pu[branch]
        apparent = np.maximum(pairs.loading[new] * per_loading, 1e-9)
        active = np.clip(np.abs(flow) / apparent, 0.2, 1.0)
        factor = self.factors.rows(outage, branch) * (np.sign(flow) * active)[:, None]
        self.outage, self.branch = np.r_[self.outage, outage], np.r_[self.branch, branch]
        self.direction, self.limit = np.r_[self.direction, np.sign(flow)], np.r_[self.limit, limit[new]]
        self.mw = np.r_[self.mw, per_loading * self.factors.network.base_mva]
        self.loading = np.r_[self.loading, pairs.loading[new]]
        self._correction = np.r_[self._correction, np.ones(new.size)]
        self.factor_mw = np.concatenate([self.factor_mw, factor])

    def look_at(self, base: BaseFlows, seen: Pairs, limit: FloatArray) -> None:
        """Take the loadings of a state: those seen in AC solutions, others by estimate, at their limits at most.

        Parameters
        ----------
        base : BaseFlows
        seen : Pairs
            Every pair that is beyond its limit.
        limit : (cut,)
            Loading beyond which a pair would have been seen.
        """
        flow = self.factors.post_flow(base.p_pu, self.outage, self.branch)
        estimate = self.direction * flow / (base.vm_pu[self.branch] * base.rating_pu[self.branch])
        seen_flow = self.factors.post_flow(base.p_pu, seen.outage, seen.branch)
        keys = self._keys(self.outage, self.branch, self.direction)
        wanted = self._keys(seen.outage, seen.branch, np.sign(seen_flow))
        _, cut, known = np.intersect1d(keys, wanted, assume_unique=True, return_indices=True)
        loading = seen.loading[known]
        self._correction[cut] = np.clip(loading / np.maximum(estimate[cut], 1e-3), 0.8, 2.0)
        self.loading = np.minimum(estimate * self._correction, limit)
        self.loading[cut] = loading

    def _keys(self, outage: IntArray, branch: IntArray, direction: FloatArray) -> IntArray:
        keys: IntArray = ((outage + 1) * self.factors.network.n_branch + branch) * 2 + (direction > 0)
        return keys
