"""Recipes: the paper's experiments as YAML files beside this one, and whatever a person writes like them.

    recipe = load("cifar100_wrn28_10")              # a network and its settings
    recipe = load("cifar100_wrn28_10,shakedrop")    # settings on top of it: a baseline of the paper's tables
    recipe = load("my/recipe.yaml")

A file has ``about`` (where the numbers come from), ``settings`` (names of :class:`gradaug.TrainConfig`) and, unless it
goes on top of others, ``model``: ``source`` and ``arguments`` as ``netslim convert`` takes them, ``input`` the shape.
Reading one runs nothing; what its network may be is in :mod:`gradaug.recipes.network`.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from gradaug.config.settings import checked
from gradaug.recipes import network
from gradaug.recipes.network import Model as Model
from netslim.errors import InputError, did_you_mean
from netslim.extras import needed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradaug.config.kinds import JSON

KEYS = ("about", "model", "settings")
LARGEST = 2**16
"""Bytes of a recipe."""


@dataclass(frozen=True)
class Recipe:
    """A network, or None, and settings that differ from the defaults."""

    name: str
    about: str
    model: Model | None
    settings: dict[str, object]


def names() -> list[str]:
    """Those that come with gradaug."""
    return sorted(
        path.name.removesuffix(".yaml") for path in files(__package__).iterdir() if path.name.endswith(".yaml")
    )


def text(name: str) -> str:
    """The YAML of a recipe, by name or path. InputError for one that is not there."""
    path = Path(name)
    if name in names():
        return files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    if path.suffix in (".yaml", ".yml"):
        return _read(path)
    raise InputError(f"there is no recipe {name!r}{did_you_mean(name, names()) or '; gradaug recipes lists them'}")


def load(name: str) -> Recipe:
    """A recipe, or several joined by commas: the settings of later ones win, and one of them names the network.

    InputError says which key of which recipe is wrong, and suggests the nearest one.
    """
    parts = [_parsed(part) for part in name.split(",")]
    settings: dict[str, object] = {}
    for part in parts:
        both = [*_regularizers(settings), *_regularizers(part.settings)]
        settings |= part.settings | ({"regularizers": list(dict.fromkeys(both))} if both else {})
    models = [part.model for part in parts if part.model]
    return Recipe(name, "\n\n".join(part.about for part in parts), models[-1] if models else None, settings)


def _regularizers(settings: Mapping[str, object]) -> Sequence[object]:
    chosen = settings.get("regularizers")
    return chosen if isinstance(chosen, (list, tuple)) else ()


def _read(path: Path) -> str:
    """A person's file, which may be anything."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise InputError(f"the recipe {path} is not a file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"the recipe {path} cannot be read: {reason}") from error
    if len(content) > LARGEST:
        raise InputError(f"the recipe {path} is longer than {LARGEST:,} bytes: it is no recipe")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the recipe {path} is no text in UTF-8 (byte {error.start}); save it as such") from error


def _parsed(name: str) -> Recipe:
    content = _content(name)
    if not isinstance(content, dict):
        raise InputError(
            f"the recipe {name} is empty or no mapping; it needs settings, such as settings: {{epochs: 3}}"
        )
    for key in content:
        if key not in KEYS:
            hint = did_you_mean(key, KEYS, 1) or f"; it may have {', '.join(KEYS)}"
            raise InputError(f"the recipe {name} has the key {key!r}{hint}")
    about, model, settings = (content.get(key) for key in KEYS)
    try:
        if about is not None and not isinstance(about, str):
            raise ValueError(f"about must be a text, not a {type(about).__name__}")
        found = None if model is None else network.parsed(model)
        return Recipe(name, (about or "").strip(), found, {} if settings is None else checked(settings))
    except (ValueError, InputError) as error:
        raise InputError(f"the recipe {name}: {error}") from error


def _content(name: str) -> JSON:
    with needed("pyyaml", "recipes"):
        from gradaug.recipes.reading import plain
    written = text(name)
    try:
        return plain(written)
    except ValueError as error:
        raise InputError(f"the recipe {name} is not YAML as recipes have it: {error}") from error
