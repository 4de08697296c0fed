"""Networks as people write them, by theme: what a module holds is one way to treat channels.

SPECIMENS of a theme: name -> Specimen. A network that was once converted wrongly goes to its theme.
"""

from __future__ import annotations

from tests.zoo.catalogue import (
    arguments,
    attention,
    backbones,
    concat,
    convolutions,
    forms,
    frozen,
    order,
    parameters,
    pixelwise,
    recurrent,
    residual,
    split,
    weights,
)  # fmt: skip
from tests.zoo.specimen import Specimen

THEMES = (
    residual, concat, split, order, convolutions, weights, parameters, attention, recurrent, forms, frozen, backbones,
    pixelwise, arguments,
)  # fmt: skip

CATALOGUE: dict[str, Specimen] = {}
for theme in THEMES:
    twice = CATALOGUE.keys() & theme.SPECIMENS.keys()
    if twice:
        raise AssertionError(f"{sorted(twice)} are in two themes")
    CATALOGUE |= theme.SPECIMENS
