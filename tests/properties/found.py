"""Networks that netslim once got wrong, as small as they could be made, each with its story."""

from __future__ import annotations

from .steps import Network, Step

FOUND = {
    # an instance norm without weights was extracted with the full number of features, and warned at every call
    "instance norm without weights": Network(2, 3, 4, "linear", (Step("conv", 8, 1, 2),)),
}
