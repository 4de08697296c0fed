"""Which models the zoo run measures: torchvision's list, two small ones of every timm family, those of other
packages, and anything named."""

from __future__ import annotations

import importlib
import inspect
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import thirdparty
import torch
import torchvision

THIRDPARTY = "thirdparty"
LARGE = 300_000_000
"""Models with more parameters are listed apart."""


SAMPLE = (
    *(f"torchvision:{name}" for name in (
        "resnet18 densenet121 efficientnet_b1 swin_t vit_b_16 regnet_y_32gf ssd300_vgg16 retinanet_resnet50_fpn "
        "maskrcnn_resnet50_fpn keypointrcnn_resnet50_fpn"
    ).split()),
    "timm:crossvit_tiny_240",
    "timm:gmlp_ti16_224",
    "timm:gemma4_vit_167m",
)  # fmt: skip
"""Usual networks, and those that take longest: what a change of conversion is measured on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A model as `netslim convert` takes it, and the family it stands for."""

    source: str
    family: str


def chosen(names: Iterable[str], variants: int = 2) -> list[Entry]:
    """The models that the words stand for, in a fixed order, each once."""
    entries: list[Entry] = []
    for name in names:
        if name == "torchvision":
            entries += torchvision_models()
        elif name == "sample":
            entries += [Entry(source, library(source)) for source in SAMPLE]
        elif name == "timm":
            entries += timm_models(variants)
        elif name.partition(":")[0] == THIRDPARTY and "/" not in name:
            entries += thirdparty_models(name.partition(":")[2])
        else:
            entries.append(Entry(name, library(name)))
    return list(dict.fromkeys(entries))


def torchvision_models() -> list[Entry]:
    """Every registered model but the quantized ones; the family is the module that defines it."""
    models = torchvision.models
    names = sorted(name for name in models.list_models() if not name.startswith("quantized_"))
    return [Entry(f"torchvision:{name}", _module(models.get_model_builder(name).__module__)) for name in names]


def thirdparty_models(package: str = "") -> list[Entry]:
    """The networks of one package, or of all; the family is the package."""
    return [
        Entry(f"{THIRDPARTY}:{name}/{model}", name)
        for name, models in thirdparty.PACKAGES.items()
        for model in models
        if package in ("", name)
    ]


def library(source: str) -> str:
    """Whose model it is: torchvision, timm, another package, or the module that a source names."""
    kind, _, name = source.partition(":")
    return name.partition("/")[0] if kind == THIRDPARTY else kind


def timm_models(variants: int) -> list[Entry]:
    """The `variants` models of fewest parameters of every family; a family is a module of entry points."""
    return [
        Entry(f"timm:{name}", family)
        for family, names in sorted(timm_families().items())
        for name in sorted(names, key=lambda n: (timm_parameters(n), n))[:variants]
    ]


def timm_families() -> dict[str, list[str]]:
    """Names of timm's models by the module that registers them."""
    import timm

    registry = importlib.import_module("timm.models")
    families: dict[str, list[str]] = defaultdict(list)
    for name in timm.list_models():
        families[_module(registry.model_entrypoint(name).__module__)].append(name)
    return families


def timm_parameters(name: str) -> int:
    """Counted on the meta device; a model that cannot be built there comes last."""
    import timm

    try:
        with torch.device("meta"):
            return sum(p.numel() for p in timm.create_model(name, pretrained=False).parameters())
    except Exception:
        return 1 << 62


def _module(dotted: str) -> str:
    return dotted.rpartition(".")[2]


def home(entry: Entry) -> str:
    """The dotted name of the module that defines a torchvision model, else ''."""
    library, _, name = entry.source.partition(":")
    if library != "torchvision":
        return ""
    return inspect.unwrap(torchvision.models.get_model_builder(name)).__module__
