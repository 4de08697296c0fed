"""The GradAug step (Yang, Zhu, Chen, NeurIPS 2020, algorithm 1), usable in anyone's training loop.

    ga = GradAug(net, mode="randwidth")             # net = netslim.convert(model, example_inputs)
    for images, labels in loader:
        optimizer.zero_grad()
        losses = ga.backward(images, labels)        # the full network, then n sub-networks; gradients add up
        optimizer.step()                            # these three lines are ga.step(images, labels, optimizer)

Each pass ends with its own backward, so one graph is alive at a time and the peak memory is that of plain training; the
gradient is the same as that of the paper's summed loss, because the target of the sub-networks is detached.

With several processes call ``gradaug.average_gradients(net.parameters())`` after `backward`: one exchange a step.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from gradaug.fit import fit
from gradaug.losses import distillation, main_output, require_answers, task_loss, without_autocast
from gradaug.sampler import Draw, Space, draw
from gradaug.settings import checked, whole
from gradaug.views import resize
from netslim import SlimNet
from netslim.errors import InputError

Mix = Callable[[Tensor], Tensor]
"""Probabilities (N, classes) of the images as they were -> of the images as a view mixed them, the same shape."""
View = Callable[[Tensor, tuple[int, ...]], tuple[Tensor, "Mix | None"]]


@dataclass(frozen=True, slots=True)
class Losses:
    """What one step measured; everything is detached and stays on the device."""

    full: Tensor
    """Task loss of the full network, a scalar."""
    subnets: tuple[Tensor, ...]
    """Distillation loss of each sub-network, in the order drawn."""
    output: Tensor
    """The full network's main logits for the labelled images (N, classes, ...)."""
    weight: float = 1.0
    """Of each sub-network's loss."""

    @property
    def total(self) -> Tensor:
        """The loss whose gradient was taken: the plain sum, never divided by 1 + n."""
        return sum((self.weight * subnet for subnet in self.subnets), start=self.full)


class GradAug:
    """Trains `net` and sub-networks of it that share its weights.

    Args:
        net: a converted network; batch norm keeps the running statistics of the full network alone.
        mode: "randwidth", "randdepth", "both", or "none" for the plain step.
        alpha, num_subnets, survival, survival_first, skip_blocks, stage_limit: see :class:`gradaug.sampler.Space`.
        per_group: every channel group draws a width of its own.
        resolutions: image sides a sub-network may see; None takes the full side, 7/8 and 3/4 of it, as far as the
            network runs on them; () leaves the images alone.
        round_to: widths are multiples of this many channels; None chooses for the hardware, 1 is the paper.
        seed, rank: with the step number they fix the sub-networks; a rank of its own gives a process others.
        transform: applied to the batch once per sub-network, before the resizing; any callable Tensor -> Tensor. Where
            the network answers every pixel, it must leave them in their places.
        view: as `transform`, but it is told (seed, step, number of the sub-network), so that it can be repeated, and
            also says how the full network's probabilities are to be mixed, or None (:mod:`gradaug.transforms`). For
            networks (N, classes) only.
        criterion: loss of the full network, (output, labels) -> scalar.
        temperature, divergence: of the distillation, see :func:`gradaug.losses.distillation`.
        subnet_weight: of each sub-network's loss; the paper has 1.
        track_stats: sub-networks update the running statistics too (the paper's random-depth code does).
        accumulate: calls of :meth:`backward` that make up one optimizer step, each with an equal part of its batch.
        amp: run the passes in this dtype (torch.bfloat16, torch.float16), by autocast; None leaves it to an autocast
            around the step, if there is one.
        scaler: a torch.amp.GradScaler, which scales every loss; :meth:`step` unscales and updates it, and after
            :meth:`backward` that is the caller's.
        forward: what to call for the network's output, e.g. ``torch.compile(net)``.

    Raises:
        netslim.errors.InputError: `net` is no converted network; an argument has a wrong type or is out of range; the
            mode needs residual blocks and there are none, or a resolution or the grid cannot work.
    """

    def __init__(
        self,
        net: SlimNet,
        mode: str = "randwidth",
        *,
        alpha: float = 0.8,
        num_subnets: int = 3,
        per_group: bool = False,
        resolutions: Sequence[int] | None = None,
        round_to: int | None = None,
        survival: float = 0.8,
        survival_first: float = 1.0,
        skip_blocks: int | None = None,
        stage_limit: int | None = None,
        seed: int = 0,
        rank: int = 0,
        transform: Callable[[Tensor], Tensor] | None = None,
        view: View | None = None,
        criterion: Callable[[Any, Tensor], Tensor] = task_loss,
        temperature: float = 1.0,
        divergence: str = "kl",
        subnet_weight: float = 1.0,
        track_stats: bool = False,
        accumulate: int = 1,
        amp: torch.dtype | None = None,
        scaler: torch.amp.GradScaler | None = None,
        forward: Callable[[Tensor], Any] | None = None,
    ) -> None:
        self.net = net
        self.space: Space = fit(
            net,
            mode,
            alpha=alpha,
            num_subnets=num_subnets,
            resolutions=resolutions,
            round_to=round_to,
            survival=survival,
            survival_first=survival_first,
            skip_blocks=skip_blocks,
            stage_limit=stage_limit,
            per_group=per_group,
        )
        self.seed, self.rank = checked("seed", seed), whole("rank", rank)
        self.transform = _callable("transform", transform)
        self.view = _callable("view", view)
        self.criterion: Callable[[Any, Tensor], Tensor] = _callable("criterion", criterion, needed=True)
        self.temperature, self.divergence = checked("temperature", temperature), checked("divergence", divergence)
        self.subnet_weight = checked("subnet_weight", subnet_weight)
        self.track_stats = checked("track_stats", track_stats)
        self.accumulate = checked("accumulate", accumulate)
        self.amp, self.scaler = _precision(amp), _scaler(scaler)
        self.forward: Callable[[Tensor], Any] = net if forward is None else _callable("forward", forward)
        self.steps = 0
        """Optimizer steps taken so far; set it when you resume, and the same sub-networks follow."""
        self._part = 0
        self._seen = False

    def backward(
        self,
        images: Tensor,
        labels: Tensor,
        draws: Sequence[Draw] | None = None,
        unlabelled: Tensor | None = None,
    ) -> Losses:
        """Adds the step's gradients to the parameters' ``.grad``; zeroing them and the optimizer step are the caller's.

        `images` (N, ...), `labels` (N,) class numbers or (N, classes) probabilities; (N, ...) or (N, classes, ...) for
        a network that answers every position. `draws` overrides the sampler. `unlabelled` (M, ...): images without
        labels, which take part in the sub-networks' losses only, with the full network's output on them as the target
        (GradAug-semi). Raises InputError, before it adds any gradient, where sub-networks cannot learn from the output.
        """
        draws = draw(self.space, self.seed, self.steps, self.rank) if draws is None else _draws(draws)
        every = _together(images, unlabelled)
        with self._autocast(every):
            output = self.forward(every)
            target = main_output(output).detach()
            if draws:
                self._require_target(target[: len(images)], labels)
            full = self.criterion(_first(output, len(images), len(every)), labels)
        del output
        self.accumulate_loss(_scalar(full))
        subnets = tuple(self._subnet_backward(every, target, chosen, i) for i, chosen in enumerate(draws))
        self._part = (self._part + 1) % self.accumulate
        self.steps += self._part == 0
        return Losses(full.detach(), subnets, target[: len(images)], self.subnet_weight)

    def step(self, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> Losses:
        """:meth:`backward` on one part of a batch, with what stands around it in a loop.

        The gradients are zeroed before the first of `accumulate` parts; the optimizer steps after the last, through the
        scaler where there is one. Raises InputError for an optimizer that holds none of the network's parameters.
        """
        if self._part == 0:
            _require_common(optimizer, self.net)
            optimizer.zero_grad()
        losses = self.backward(images, labels)
        if self._part == 0:
            self._update(optimizer)
        return losses

    def _update(self, optimizer: torch.optim.Optimizer) -> None:
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()

    def _subnet_backward(self, images: Tensor, target: Tensor, chosen: Draw, number: int) -> Tensor:
        images = self.transform(images) if self.transform else images
        images, mix = self.view(images, (self.seed, self.steps, self._part, number)) if self.view else (images, None)
        images = resize(images, chosen.resolution)
        with self.net.sub(**chosen.sub(), track_running_stats=self.track_stats):
            with self._autocast(images):
                output = self.forward(images)
            loss = distillation(output, target, self.temperature, self.divergence, mix)
            if loss.requires_grad:  # else nothing that is trained is in this sub-network
                self.accumulate_loss(self.subnet_weight * loss)
        return loss.detach()

    def accumulate_loss(self, loss: Tensor) -> None:
        """Adds the gradient of a further loss on this part of the step's batch."""
        if not loss.requires_grad:
            raise InputError(
                "the loss has no gradient: all parameters are frozen, gradients are off (torch.no_grad) or the "
                "criterion returns a detached number"
            )
        loss = loss / self.accumulate
        with without_autocast(loss):
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def _require_target(self, target: Tensor, labels: Any) -> None:
        """InputError unless the full network's output is a target for sub-networks."""
        on_cpu = isinstance(labels, Tensor) and labels.device.type == "cpu"
        require_answers(target, labels, values=on_cpu or not self._seen)
        self._seen = True
        if self.view is not None and target.ndim > 2:
            raise InputError(
                f"the network answers every position, {tuple(target.shape)}, and a view may move them: leave `view` "
                "out, or give a `transform` that leaves every pixel in its place"
            )

    def _autocast(self, images: Tensor) -> contextlib.AbstractContextManager[Any]:
        """Around one pass: `amp`, or whatever the caller has around this."""
        torch.clear_autocast_cache()  # of casts from a pass before: they hold its graph, or weights before an update
        return contextlib.nullcontext() if self.amp is None else torch.autocast(images.device.type, self.amp)


def _first(output: Any, count: int, of: int) -> Any:
    """The output for the first `count` images of `of`."""
    if count == of:
        return output
    if isinstance(output, Mapping):  # of any class, such as a library's own kind of dict
        cut: Any = copy.copy(output)
        for key, value in output.items():
            cut[key] = _first(value, count, of)
        return cut
    return tree_map_only(Tensor, lambda t: t[:count] if t.ndim and len(t) == of else t, output)


def _together(images: Tensor, unlabelled: Tensor | None) -> Tensor:
    for batch in (images,) if unlabelled is None else (images, unlabelled):
        if not isinstance(batch, Tensor) or batch.ndim == 0 or len(batch) == 0:
            shown = f"shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else f"a {type(batch).__name__}"
            raise InputError(f"images are to be a tensor (N, ...) with one image at least, not {shown}")
        if batch.shape[1:] != images.shape[1:]:
            raise InputError(
                f"unlabelled images of shape {tuple(batch.shape[1:])} do not go with labelled ones of shape "
                f"{tuple(images.shape[1:])}: give both the same shape"
            )
    return images if unlabelled is None else torch.cat([images, unlabelled])


def _scalar(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shown = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise InputError(f"the criterion is to return one number, a mean over the batch, and returned {shown}")
    return loss


def _draws(draws: Sequence[Draw]) -> tuple[Draw, ...]:
    for one in draws:
        if not isinstance(one, Draw):
            raise InputError(f"draws are a list of gradaug.Draw, and this one holds {one!r}")
    return tuple(draws)


def _require_common(optimizer: torch.optim.Optimizer, net: SlimNet) -> None:
    """InputError unless the optimizer holds some of the network's parameters: those of a part may be all that learn."""
    own = {id(parameter) for parameter in net.parameters() if parameter.requires_grad}
    groups = getattr(optimizer, "param_groups", ())
    if not any(id(parameter) in own for group in groups for parameter in group["params"]):
        raise InputError(
            "the optimizer holds none of the network's parameters that want a gradient: build it with net.parameters() "
            "of the converted network, after anything that replaces them"
        )


def _callable(name: str, value: Any, needed: bool = False) -> Any:
    if not callable(value) and (needed or value is not None):
        raise InputError(f"{name} must be a function{'' if needed else ' or None'}, not {value!r}")
    return value


def _precision(amp: Any) -> torch.dtype | None:
    if amp not in (None, torch.bfloat16, torch.float16):
        raise InputError(f"amp must be torch.bfloat16, torch.float16 or None, not {amp!r}")
    return amp


def _scaler(scaler: Any) -> torch.amp.GradScaler | None:
    if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
        raise InputError(f"scaler must be a torch.amp.GradScaler or None, not {scaler!r}")
    return scaler
