"""From what a person writes on the command line to a model: a file, an importable name, torchvision or timm.

mymodel.py                  --entry NAME picks a class, factory or instance; the only candidate needs no picking
package.module:callable     called with the --arg values; may also name an instance
torchvision:resnet50        built without weights
timm:resnet50               built without weights
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from netslim.errors import SourceError, did_you_mean
from netslim.extras import needed
from netslim.source.factory import build
from netslim.source.shapes import Shapes, library_shapes, offered_shapes
from netslim.source.userfile import choose, failure, import_file, importing_from
from netslim.source.weights import load_weights

_FORMS = "mymodel.py, package.module:callable, torchvision:NAME or timm:NAME"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and where it came from."""

    model: nn.Module
    spec: str
    """The source with the entry that was taken: mymodel.py:Net, torchvision:resnet50."""
    shapes: Shapes | None
    """Shapes of the inputs, without the batch dimension, when the model or its file says them."""


def is_source(text: str) -> bool:
    """Whether `text` names a model's code rather than a converted file."""
    return text.endswith(".py") or (":" in text and not Path(text).exists())


def load_source(
    source: str,
    entry: str | None = None,
    args: Mapping[str, object] | None = None,
    weights: Path | None = None,
) -> Loaded:
    """The model that `source` names, built with the keyword arguments `args`, with `weights` loaded into it.

    SourceError, in one sentence, when it cannot be found, imported, chosen, built or filled.
    """
    args = dict(args or {})
    if source.endswith(".py") or Path(source).exists():
        loaded = _from_file(Path(source), entry, args)
    elif entry is not None:
        raise SourceError(f"--entry picks a name in a Python file; {source!r} names its model itself.")
    else:
        kind, found, name = source.partition(":")
        if not (kind and found and name):
            raise SourceError(f"{source!r} is neither a Python file nor a name; write {_FORMS}.")
        loaded = _LIBRARIES.get(kind, _from_module)(kind, name, args)
    if weights is not None:
        load_weights(loaded.model, weights)
    return loaded


def _from_file(path: Path, entry: str | None, args: dict[str, object]) -> Loaded:
    with importing_from(path.resolve().parent):
        module = import_file(path)
        name, model = choose(module, path, entry, args)
    return Loaded(model, f"{path}:{name}", offered_shapes(module, model))


def _from_module(package: str, name: str, args: dict[str, object]) -> Loaded:
    with importing_from(Path.cwd()):
        try:
            found: object = importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{package}.".startswith(f"{error.name}."):
                raise failure(f"{package} cannot be imported", error) from error
            raise SourceError(f"there is no module {error.name!r} to import {name!r} from; write {_FORMS}.") from error
        except (Exception, SystemExit) as error:
            raise failure(f"{package} cannot be imported", error) from error
        for part in name.split("."):
            if not hasattr(found, part):
                raise SourceError(f"{package} has no {name!r}{did_you_mean(part, dir(found))}")
            found = getattr(found, part)
        model = build(found, f"{package}:{name}", args)
    return Loaded(model, f"{package}:{name}", offered_shapes(None, model))


def _from_torchvision(library: str, name: str, args: dict[str, object]) -> Loaded:
    from torchvision import models

    if name not in models.list_models():
        raise SourceError(f"torchvision has no model {name!r}{did_you_mean(name, models.list_models())}")
    builder = models.get_model_builder(name)
    # weights_backbone has a default that downloads
    unfilled = {key: None for key in ("weights", "weights_backbone") if key in inspect.signature(builder).parameters}
    model = _quietly(builder, f"{library}:{name}", unfilled | args)
    return Loaded(model, f"{library}:{name}", library_shapes(name, builder.__module__))


def _from_timm(library: str, name: str, args: dict[str, object]) -> Loaded:
    with needed("timm", "timm's models"):
        import timm
    if not timm.is_model(name):
        raise SourceError(f"timm has no model {name!r}{did_you_mean(name, timm.list_models())}")

    def create(**options: Any) -> nn.Module:
        return timm.create_model(name, pretrained=False, **options)

    model = _quietly(create, f"{library}:{name}", args)
    return Loaded(model, f"{library}:{name}", offered_shapes(None, model))


_LIBRARIES = {"torchvision": _from_torchvision, "timm": _from_timm}


def _quietly(make: Callable[..., nn.Module], label: str, args: dict[str, object]) -> nn.Module:
    """Builds a library's model without the library's remarks on its own defaults."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build(make, label, args)
