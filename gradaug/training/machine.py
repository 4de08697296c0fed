"""What a run is computed with: versions, and the device."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

PACKAGES = ("netslim-gradaug", "torch", "torchvision", "numpy")


def versions(device: torch.device) -> dict[str, str]:
    """By name, for the record of a run."""
    found = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {**found, "device": f"{device} ({name})", "system": platform.system()}
