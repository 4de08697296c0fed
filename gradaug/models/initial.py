"""The initial weights that the paper's code gives its CIFAR networks."""

from __future__ import annotations

from torch import nn


def fan_out_normal(model: nn.Module) -> None:
    """Convolutions from a normal distribution by their fan-out (He et al. 2015); norms start as the identity."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
