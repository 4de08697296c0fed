"""Weights that make the proof able to fail: no channel is zero, constant or a copy of another."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn


def randomize(net: nn.Module, seed: int, keep: Collection[str] = ()) -> None:
    """Random parameters and running statistics, in place: every channel matters, and activations stay near one.

    Tensors named in `keep` stay as they are: tables and constants that no width changes.

    Matrices and kernels are scaled by their fan-in; vectors are scales around one (where they were all equal and not
    zero, or are called weight) or shifts around zero; running variances are positive.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
            if tensor.is_floating_point() and tensor.numel() and name not in keep:
                tensor.copy_(_draw(name.rsplit(".", 1)[-1], tensor, generator))


def _draw(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    positive = name == "running_var" or (not isinstance(tensor, nn.Parameter) and bool((tensor > 0).all()))
    wide = sum(n > 1 for n in tensor.shape) > 1
    if wide and name not in ("running_mean", "running_var") and not positive:
        fan_in = tensor.numel() / tensor.shape[0]
        return _normal(tensor, generator).mul_((2.0 / max(fan_in, 1.0)) ** 0.5)
    if name == "running_mean" or ("bias" in name and not positive):
        return _normal(tensor, generator).mul_(0.5)
    return (
        torch.rand(tensor.shape, generator=generator, dtype=_DRAWN.get(tensor.dtype, torch.float32))
        .add_(0.5)
        .to(tensor)
    )


def _normal(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=generator, dtype=_DRAWN.get(tensor.dtype, torch.float32)).to(tensor)


_DRAWN = {torch.float64: torch.float64}
"""Precision in which the numbers of a tensor are drawn, if it is not single."""


class Balance:
    """While open, a forward in training mode leaves each linear or convolution output with a spread near one.

    Each layer's weight is divided by the spread it produced, from the first layer to the last.
    """

    def __init__(self, net: nn.Module) -> None:
        kinds = (nn.Linear, nn.modules.conv._ConvNd)
        self.layers = [m for m in net.modules() if isinstance(m, kinds)]
        self.handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> None:
        self.handles = [layer.register_forward_hook(_divide) for layer in self.layers]

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


def _divide(layer: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
    spread = float(output.detach().std()) if output.numel() > 1 else 1.0
    if not 1e-12 < spread < 1e12:
        return None
    with torch.no_grad():
        for tensor in layer.parameters(recurse=False):
            tensor.div_(spread)
    return output / spread
