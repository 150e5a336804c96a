"""Shares the program that extends the ontology with the tests of programs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "programs"))
