"""The claims on modular addition."""

from __future__ import annotations

from gradquake.paper.claim import Claim
from gradquake.paper.modadd.evidence import Evidence

__all__ = ["CLAIMS"]

CLAIMS: tuple[Claim[Evidence], ...] = ()
