"""Networks of other packages as they are, built from configurations without weights: what `--models thirdparty` runs.

A file a package. None of the packages is needed by anything but the benchmark; a model whose package is not installed
costs one row.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any
from unittest import mock

import torch
from torch import nn

from thirdparty import (
    backbones,
    detectors,
    diffusion,
    medical,
    restoration,
    segmentation,
    sounds,
    vision,
    vits,
)
from thirdparty.nets import Net

PACKAGES: dict[str, dict[str, Net]] = {
    "ultralytics": detectors.MODELS,
    "transformers": vision.MODELS | sounds.TRANSFORMERS,
    "diffusers": diffusion.MODELS,
    "torchaudio": sounds.TORCHAUDIO,
    "monai": medical.MODELS,
    "segmentation_models_pytorch": segmentation.MODELS,
    "vit_pytorch": vits.MODELS,
    "spandrel": restoration.MODELS,
    "pytorchcv": backbones.MODELS,
}

DISTRIBUTIONS = (
    "ultralytics transformers diffusers torchaudio monai segmentation-models-pytorch vit-pytorch spandrel pytorchcv "
    "efficientnet-pytorch"
).split()


def imported(package: str) -> None:
    """Imports a package. ImportError, or what the package raises, when it cannot be."""
    # torchaudio refuses to be imported beside another CUDA than its own; transformers and diffusers import it where it
    # is installed; and none of the models here uses what it refuses for.
    with mock.patch.object(torch.version, "cuda", None), contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("torchaudio")
    importlib.import_module(package)


def built(name: str) -> tuple[nn.Module, Any]:
    """The network package/model with random weights, and its inputs."""
    package, _, model = name.partition("/")
    imported(package)
    net = PACKAGES[package][model]
    return net.make(), net.inputs()
