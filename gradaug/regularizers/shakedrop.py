"""ShakeDrop (Yamada, Iwamura, Akiba, Kise, 2018, arXiv 1802.02375): random factors, forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction, FunctionCtx

from gradaug.regularizers.blocks import AtEveryBlock


class Shaken(AtEveryBlock):
    """ShakeDrop behind every block, evaluated as the identity."""

    def at_rate(self, rate: float) -> nn.Module:
        return ShakeDrop(rate, inverted=True)


class ShakeDrop(nn.Module):
    """Multiplies the results of a body by one random number forward and by another one backward.

    Forward b + alpha - b alpha, backward b + beta - b beta, with b = 1 at the chance 1 - `rate`, alpha uniform in
    [-1, 1] and beta uniform in [0, 1]. b is drawn for the batch, alpha and beta for each image and all its elements
    (the paper's PyramidNet experiments draw them for each element).
    The paper evaluates with the expectation 1 - `rate` of the forward factor. `inverted` divides by it in training
    instead, as dropout does, so that evaluation is the identity: the same function with the body's result in other
    units.
    """

    def __init__(self, rate: float, inverted: bool = False) -> None:
        super().__init__()
        self.rate, self.inverted = rate, inverted

    def forward(self, x: Tensor) -> Tensor:
        """Results of a body (N, ...)."""
        kept = 1 - self.rate
        if not self.training:
            return x if self.inverted else x * kept
        alpha, beta = torch.rand((2, len(x)) + (1,) * (x.ndim - 1), device=x.device)
        b = torch.rand((), device=x.device) < kept
        forward, backward = shake_factors(b, 2 * alpha - 1, beta)
        scale = kept if self.inverted else 1.0
        return _Shake.apply(x, (forward / scale).to(x.dtype), (backward / scale).to(x.dtype))

    def extra_repr(self) -> str:
        return f"rate={self.rate}, inverted={self.inverted}"


def shake_factors(b: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """ShakeDrop's forward and backward factors b + alpha - b alpha and b + beta - b beta: 1 where b, else the other."""
    return torch.where(b, 1.0, alpha), torch.where(b, 1.0, beta)


class _Shake(torch.autograd.Function):
    """x times a factor, and its gradient times another one."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        ctx.save_for_backward(backward)
        return x * forward

    @staticmethod
    def backward(ctx: BackwardCFunction, *grads: Tensor) -> tuple[Tensor, None, None]:
        (factor,) = ctx.saved_tensors
        return grads[0] * factor, None, None
