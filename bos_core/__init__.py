"""BOS: a business operating system for power-system planning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bos_core.api import Bos

__all__ = ["connect"]


def connect(**settings: Any) -> Bos:
    """Open an installation; see `bos_core.api.connect`. Imported late: kernels must not pay for it."""
    from bos_core import api

    return api.connect(**settings)
