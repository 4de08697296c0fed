"""netslim finds which channels of a network depend on which, and makes it run at any width without a change of code.

net = netslim.convert(model, example_inputs)
with net.sub(width=0.75):
    net(x)
small = net.extract(width=0.5)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netslim.analysis.analyse import analyse as analyse
    from netslim.archive.network import load as load
    from netslim.archive.network import save as save
    from netslim.choosing.importance import importance as importance
    from netslim.choosing.ranking import rank as rank
    from netslim.choosing.searched import choose as choose
    from netslim.conversion import convert as convert
    from netslim.net.slimnet import SlimNet as SlimNet
    from netslim.proof.equivalence import verify as verify

_HOME = {
    "SlimNet": "netslim.net.slimnet",
    "analyse": "netslim.analysis.analyse",
    "choose": "netslim.choosing.searched",
    "convert": "netslim.conversion",
    "importance": "netslim.choosing.importance",
    "load": "netslim.archive.network",
    "rank": "netslim.choosing.ranking",
    "save": "netslim.archive.network",
    "verify": "netslim.proof.equivalence",
}
__all__ = ["SlimNet", "analyse", "choose", "convert", "importance", "load", "rank", "save", "verify"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    """Public names load on first use, so that importing the package does not import torch."""
    if name == "__version__":
        from importlib.metadata import version

        return version("netslim-gradaug")
    if name not in _HOME:
        raise AttributeError(f"module 'netslim' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value
