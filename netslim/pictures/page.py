"""A scene as one page of HTML that holds all that it needs, and opens offline."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from netslim.files import atomic_write
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.pictures.drawing import drawing
from netslim.pictures.scene import Scene, document


def write_page(
    net: SlimNet, path: str | Path, title: str = "", progress: Callable[[str, float], None] = lambda _stage, _done: None
) -> None:
    """Draws a network as a page: its modules, groups, blocks, what is frozen, and what a width keeps and costs.

    progress: called with a stage and the fraction of it that is done. Raises ArchiveError where `path` cannot be
    written.
    """
    text = page(drawing(net, title or runtime(net).plan.model, progress))
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def page(scene: Scene) -> str:
    """The page. Names are whatever a model calls its parts: they are data of the page, never markup."""
    parts = {name: _part(name) for name in _PARTS} | {"scene": embedded(scene)}
    return re.sub(r"\{\{([\w./-]+)\}\}", lambda found: parts[found[1]], _part("page.html"))


def embedded(scene: Scene) -> str:
    """JSON that no name in it can end, in ASCII."""
    text = json.dumps(document(scene), separators=(",", ":"), allow_nan=False)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


_PARTS = ("page.css", "page.js", "vendor/LICENSES.txt", "vendor/cytoscape.min.js", "vendor/dagre.min.js")


def _part(name: str) -> str:
    text = files("netslim.pictures").joinpath(name).read_text(encoding="utf-8")
    return re.sub(r"(?m)^//# sourceMappingURL=.*$", "", text)
