"""The GradAug step (Yang, Zhu, Chen, NeurIPS 2020, algorithm 1), usable in anyone's training loop.

    ga = GradAug(net, mode="randwidth")             # net = netslim.convert(model, example_inputs)
    for images, labels in loader:
        optimizer.zero_grad()
        losses = ga.backward(images, labels)        # the full network, then n sub-networks; gradients add up
        optimizer.step()

Each pass ends with its own backward, so one graph is alive at a time and the peak memory is that of plain training; the
gradient is the same as that of the paper's summed loss, because the target of the sub-networks is detached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradaug.fit import fit
from gradaug.losses import distillation, main_output, task_loss
from gradaug.sampler import Draw, Space, draw
from gradaug.views import resize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import Tensor

    from netslim import SlimNet


@dataclass(frozen=True, slots=True)
class Losses:
    """What one step measured; everything is detached and stays on the device."""

    full: Tensor
    """Task loss of the full network, a scalar."""
    subnets: tuple[Tensor, ...]
    """Distillation loss of each sub-network, in the order drawn."""
    output: Tensor
    """The full network's main logits (N, classes)."""

    @property
    def total(self) -> Tensor:
        """The loss whose gradient was taken: the plain sum, never divided by 1 + n."""
        return sum(self.subnets, start=self.full)


class GradAug:
    """Trains `net` and sub-networks of it that share its weights.

    Args:
        net: a converted network; batch norm keeps the running statistics of the full network alone.
        mode: "randwidth", "randdepth", "both", or "none" for the plain step.
        alpha, num_subnets, survival, survival_first, skip_blocks, stage_limit: see :class:`gradaug.sampler.Space`.
        resolutions: image sides a sub-network may see; None takes the full side, 7/8 and 3/4 of it, as far as the
            network runs on them; () leaves the images alone.
        round_to: widths are multiples of this many channels; None chooses for the hardware, 1 is the paper.
        seed: with the step number it fixes the sub-networks.
        transform: applied to the batch once per sub-network, before the resizing; any callable Tensor -> Tensor.
        criterion: loss of the full network, (output, labels) -> scalar.
        temperature: of the distillation; the paper has none (1.0).

    Raises:
        netslim.errors.InputError: the mode needs residual blocks and there are none, or a resolution or the grid
            cannot work.
    """

    def __init__(
        self,
        net: SlimNet,
        mode: str = "randwidth",
        *,
        alpha: float = 0.8,
        num_subnets: int = 3,
        resolutions: Sequence[int] | None = None,
        round_to: int | None = None,
        survival: float = 0.8,
        survival_first: float = 1.0,
        skip_blocks: int | None = None,
        stage_limit: int | None = None,
        seed: int = 0,
        transform: Callable[[Tensor], Tensor] | None = None,
        criterion: Callable[[Any, Tensor], Tensor] = task_loss,
        temperature: float = 1.0,
    ) -> None:
        self.net = net
        self.space: Space = fit(
            net,
            mode,
            alpha=alpha,
            num_subnets=num_subnets,
            resolutions=None if resolutions is None else tuple(resolutions),
            round_to=round_to,
            survival=survival,
            survival_first=survival_first,
            skip_blocks=skip_blocks,
            stage_limit=stage_limit,
        )
        self.seed = seed
        self.transform = transform
        self.criterion = criterion
        self.temperature = temperature
        self.steps = 0
        """Steps taken so far; set it when you resume, and the same sub-networks follow."""

    def backward(self, images: Tensor, labels: Tensor, draws: Sequence[Draw] | None = None) -> Losses:
        """Adds the step's gradients to the parameters' ``.grad``; zeroing them and the optimizer step are the caller's.

        `images` (N, ...), `labels` (N,) class numbers or (N, classes) probabilities. `draws` overrides the sampler.
        """
        if draws is None:
            draws = draw(self.space, self.seed, self.steps)
        output = self.net(images)
        full = self.criterion(output, labels)
        full.backward()
        target = main_output(output).detach()
        del output
        subnets = tuple(self._subnet_backward(images, target, chosen) for chosen in draws)
        self.steps += 1
        return Losses(full.detach(), subnets, target)

    def step(self, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> Losses:
        """Zero the gradients, :meth:`backward`, one optimizer step."""
        optimizer.zero_grad()
        losses = self.backward(images, labels)
        optimizer.step()
        return losses

    def _subnet_backward(self, images: Tensor, target: Tensor, chosen: Draw) -> Tensor:
        view = self.transform(images) if self.transform else images
        view = resize(view, chosen.resolution)
        with self.net.sub(**chosen.sub()):
            loss = distillation(self.net(view), target, self.temperature)
            loss.backward()
        return loss.detach()
