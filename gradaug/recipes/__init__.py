"""Recipes: the paper's experiments as YAML files beside this one, and whatever a person writes like them.

    recipe = load("cifar100_wrn28_10")              # a network and its settings
    recipe = load("cifar100_wrn28_10,shakedrop")    # settings on top of it: a baseline of the paper's tables
    recipe = load("my/recipe.yaml")

A file has ``about`` (where the numbers come from), ``settings`` (names of :class:`gradaug.TrainConfig`) and, unless it
goes on top of others, ``model``: ``source`` and ``arguments`` as ``netslim convert`` takes them, ``input`` the shape.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from gradaug.config import TrainConfig
from netslim.errors import InputError
from netslim.extras import needed

KEYS = ("about", "model", "settings")


@dataclass(frozen=True)
class Model:
    """What to convert: ``netslim convert SOURCE --arg ... --input-shape ...``."""

    source: str
    input: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)

    def command(self) -> str:
        """The command that converts it."""
        arguments = "".join(f" --arg {name}={value}" for name, value in self.arguments.items())
        return f"netslim convert {self.source}{arguments} --input-shape {','.join(map(str, self.input))}"


@dataclass(frozen=True)
class Recipe:
    """A network, or None, and settings that differ from the defaults."""

    name: str
    about: str
    model: Model | None
    settings: dict[str, Any]


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
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"the recipe {name} cannot be read: {error.strerror or error}") from error
    near = difflib.get_close_matches(name, names(), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "gradaug recipes lists them"
    raise InputError(f"there is no recipe {name!r}; {hint}")


def load(name: str) -> Recipe:
    """A recipe, or several joined by commas: the settings of later ones win, and one of them names the network.

    InputError says which key of which recipe is wrong, and suggests the nearest one.
    """
    parts = [_parsed(part) for part in name.split(",")]
    settings: dict[str, Any] = {}
    for part in parts:
        both = [*settings.get("regularizers", ()), *part.settings.get("regularizers", ())]
        settings |= part.settings | ({"regularizers": list(dict.fromkeys(both))} if both else {})
    models = [part.model for part in parts if part.model]
    return Recipe(name, "\n\n".join(part.about for part in parts), models[-1] if models else None, settings)


def _parsed(name: str) -> Recipe:
    with needed("pyyaml", "recipes"):
        import yaml

    try:
        content = yaml.safe_load(text(name))
    except yaml.YAMLError as error:
        raise InputError(f"the recipe {name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"the recipe {name} is empty; it needs settings")
    for key in content:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1) or [", ".join(KEYS)]
            raise InputError(f"the recipe {name} has the key {key!r}; did you mean {near[0]}?")
    settings = content.get("settings") or {}
    try:
        TrainConfig.from_dict(settings)
    except InputError as error:
        raise InputError(f"the recipe {name}: {error}") from error
    model = content.get("model")
    if model is not None:
        try:
            model = Model(model["source"], tuple(model["input"]), dict(model.get("arguments") or {}))
        except (KeyError, TypeError) as error:
            raise InputError(f"the recipe {name}: model needs source and input, such as [3, 32, 32]") from error
    return Recipe(name, str(content.get("about", "")).strip(), model, settings)
