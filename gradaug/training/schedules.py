"""Learning rates over a run, as factors of the peak rate.

A new one is a function here of (share of the run after its warm-up, epochs done, settings), and a row in
gradaug/config/registry.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradaug.config.sections import OptimSettings

STEP_FACTOR = 0.1
"""What a milestone of the step schedule multiplies the learning rate by."""
POWER = 0.9
"""Of the poly schedule."""


def cosine(share: float, _epochs: float, _settings: OptimSettings) -> float:
    """From 1 to 0 along half a wave."""
    return (1 + math.cos(math.pi * share)) / 2


def step(_share: float, epochs: float, settings: OptimSettings) -> float:
    """A tenth less at every milestone."""
    return STEP_FACTOR ** sum(epochs >= each for each in settings.milestones or ())


def poly(share: float, _epochs: float, _settings: OptimSettings) -> float:
    """From 1 to 0 as (1 - share) ** 0.9, nearly along a line: segmentation's since DeepLab (Chen et al. 2016)."""
    return (1 - share) ** POWER


def constant(_share: float, _epochs: float, _settings: OptimSettings) -> float:
    return 1.0
