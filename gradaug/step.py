"""The GradAug step (Yang, Zhu, Chen, NeurIPS 2020, algorithm 1), usable in anyone's training loop.

    ga = GradAug(net, mode="randwidth")             # net = netslim.convert(model, example_inputs)
    for images, labels in loader:
        optimizer.zero_grad()
        losses = ga.backward(images, labels)        # the full network, then n sub-networks; gradients add up
        optimizer.step()                            # these three lines are ga.step(images, labels, optimizer)

Each pass ends with its own backward, so one graph is alive at a time and the peak memory is that of plain training; the
gradient is the same as that of the paper's summed loss, because the target of the sub-networks is detached.

With several processes call ``gradaug.average_gradients(net.parameters())`` after `backward`: one exchange a step
(:meth:`GradAug.step` does so itself).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradaug.arguments import (
    drawn,
    loss_scaler,
    one_number,
    precision,
    require_common,
)  # fmt: skip
from gradaug.config.values import checked, function, truth, whole
from gradaug.distributed.processes import average_gradients, current, require_own
from gradaug.inputs import device_of
from gradaug.subnets.sampler import Draw, draw
from gradaug.subnets.space import Space, space_of
from gradaug.subnets.views import View
from gradaug.tasks.classification import Classification
from gradaug.tasks.losses import without_autocast
from gradaug.tasks.task import AnyTask, adapted
from netslim import SlimNet
from netslim.errors import InputError

_TASKS: Any = object()
"""Default of a setting that is the task's own."""


def _plain(loss: Tensor) -> None:
    loss.backward()


@dataclass(frozen=True, slots=True)
class Losses:
    """What one step measured; everything is detached and stays on the device."""

    full: Tensor
    """Task loss of the full network, a scalar."""
    subnets: tuple[Tensor, ...]
    """Distillation loss of each sub-network, in the order drawn."""
    output: Any
    """What sub-networks learn of the full network's answer to the labelled images, of a classifier (N, classes)."""
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
        space: what sub-networks are drawn from, or a mode alone: "randwidth" (the default), "randdepth", "both", or
            "none" for the plain step.
        settings: in place of a space, those of :class:`gradaug.SubnetSettings`: mode, alpha, num_subnets, resolutions,
            round_to, ..., for this network. Resolutions are image sides that a sub-network may see; None takes the full
            side, 7/8 and 3/4 of it, as far as the network runs on them; () leaves the images alone.
        per_group: every channel group draws a width of its own, as with widths="per-group".
        seed, rank: with the step number they fix the sub-networks; a rank of its own gives a process others.
        transform: applied to the batch once per sub-network, before the resizing; any callable Tensor -> Tensor. Where
            the network answers every pixel, it must leave them in their places.
        view: as `transform`, but it is told (seed, step, number of the sub-network), so that it can be repeated, and
            also says how the full network's probabilities are to be mixed, or None (:mod:`gradaug.subnets.views`). For
            networks (N, classes) only.
        task: what is learned (:mod:`gradaug.tasks`); classification, if not given.
        criterion, temperature, divergence: the task's settings of these names, instead of its own:
            :class:`gradaug.tasks.Classification`.
        subnet_weight: of each sub-network's loss; the paper has 1.
        track_stats: sub-networks update the running statistics too (the paper's random-depth code does).
        accumulate: calls of :meth:`backward` that make up one optimizer step, each with an equal part of its batch.
        amp: run the passes in this dtype (torch.bfloat16, torch.float16), by autocast; None leaves it to an autocast
            around the step, if there is one.
        scaler: a torch.amp.GradScaler, which scales every loss; :meth:`step` unscales and updates it, and after
            :meth:`backward` that is the caller's.
        forward: what to call for the network's output, e.g. ``torch.compile(net)``.
        backward: called with every loss in place of ``loss.backward()``, e.g. ``fabric.backward`` or
            ``accelerator.backward``, which scale it themselves: leave `scaler` out then.

    Raises:
        netslim.errors.InputError: `net` is no converted network; an argument has a wrong type or is out of range; the
            mode needs residual blocks and there are none, or a resolution or the grid cannot work.
    """

    def __init__(
        self,
        net: SlimNet,
        space: Space | str | None = None,
        *,
        per_group: bool = False,
        seed: int = 0,
        rank: int = 0,
        transform: Callable[[Tensor], Tensor] | None = None,
        view: View | None = None,
        task: AnyTask | None = None,
        criterion: Callable[[Any, Tensor], Tensor] = _TASKS,
        temperature: float = _TASKS,
        divergence: str = _TASKS,
        subnet_weight: float = 1.0,
        track_stats: bool = False,
        accumulate: int = 1,
        amp: torch.dtype | None = None,
        scaler: torch.amp.GradScaler | None = None,
        forward: Callable[..., Any] | None = None,
        backward: Callable[[Tensor], object] | None = None,
        **settings: object,
    ) -> None:
        self.net = net
        own = {"criterion": criterion, "temperature": temperature, "divergence": divergence}
        said = {name: value for name, value in own.items() if value is not _TASKS}
        self.task: AnyTask = adapted(Classification() if task is None else task, said)
        settings |= {"widths": "per-group"} if truth("per_group", per_group) else {}
        self.space = space_of(net, space, settings, self.task)
        self.seed, self.rank = checked("seed", seed), whole("rank", rank)
        self.transform = function("transform", transform)
        self.view = function("view", view)
        self.subnet_weight = checked("subnet_weight", subnet_weight)
        self.track_stats = checked("track_stats", track_stats)
        self.accumulate = checked("accumulate", accumulate)
        self.amp, self.scaler = precision(amp), loss_scaler(scaler, backward)
        self._backward: Callable[[Tensor], object] = _plain if backward is None else function("backward", backward)
        self.forward: Callable[..., Any] = net if forward is None else function("forward", forward)
        self.steps = 0
        """Optimizer steps taken so far; set it when you resume, and the same sub-networks follow."""
        self._part = 0
        self._seen = self._own = False
        require_own(net, self.forward)

    def backward(
        self,
        images: object,
        labels: object,
        draws: Sequence[Draw] | None = None,
        unlabelled: object = None,
    ) -> Losses:
        """Adds the step's gradients to the parameters' ``.grad``; zeroing them and the optimizer step are the caller's.

        `images` (N, ...), `labels` (N,) class numbers or (N, classes) probabilities; (N, ...) or (N, classes, ...) for
        a network that answers every position. `draws` overrides the sampler. `unlabelled` (M, ...): images without
        labels, which take part in the sub-networks' losses only, with the full network's output on them as the target
        (GradAug-semi). Raises InputError, before it adds any gradient, where sub-networks cannot learn from the output.
        """
        if not self._own:  # once more: a wrapper may have come after this object
            require_own(self.net, self.forward)
            self._own = True
        losses = self.losses(images, labels, draws, unlabelled)
        while True:
            try:
                self.accumulate_loss(next(losses))
            except StopIteration as end:
                return end.value

    def losses(
        self,
        images: object,
        labels: object,
        draws: Sequence[Draw] | None = None,
        unlabelled: object = None,
    ) -> Generator[Tensor, None, Losses]:
        """The losses that :meth:`backward` takes gradients of, one after another, each with its graph.

        For a loop that takes gradients itself: it is to take each loss's before it asks for the next one, so that one
        graph is alive at a time. First comes the full network's; then those of the sub-networks, times their weight;
        one in which nothing learns is left out. `accumulate` and `scaler` are not in them. What was measured is the
        generator's return value. Arguments and errors are those of :meth:`backward`.
        """
        draws = draw(self.space, self.seed, self.steps, self.rank) if draws is None else drawn(draws)
        every, count, total = self.task.batch(images, unlabelled)
        self.task.require_batch(self.net, every, labels)
        with self._passing(0), self._autocast():
            output = self.task.answer(self.forward, every, labels)
            target = self.task.target(output)
            answer = self.task.first(target, count, total)
            if draws:
                self._require_target(answer, labels)
            full = self.task.loss(self.task.first(output, count, total), labels)
        del output
        yield one_number(full)
        full, subnets = full.detach(), []
        for i, chosen in enumerate(draws):
            subnets.append((yield from self._subnet_loss(every, target, chosen, i)))
        self._part = (self._part + 1) % self.accumulate
        self.steps += self._part == 0
        return Losses(full, tuple(subnets), answer, self.subnet_weight)

    def seek(self, steps: int, part: int = 0) -> None:
        """Goes on as after so many optimizer steps, and parts of the next one: for a loop that counts them itself.

        The same sub-networks follow as without an interruption.
        """
        self.steps, self._part = whole("steps", steps), whole("part", part)

    def step(self, images: object, labels: object, optimizer: torch.optim.Optimizer) -> Losses:
        """:meth:`backward` on one part of a batch, with what stands around it in a loop.

        The gradients are zeroed before the first of `accumulate` parts; after the last, their mean over the processes
        is taken and the optimizer steps, through the scaler where there is one. Raises InputError for an optimizer that
        holds none of the network's parameters.
        """
        if self._part == 0:
            require_common(optimizer, self.net)
            optimizer.zero_grad()
        losses = self.backward(images, labels)
        if self._part == 0:
            average_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])
            self._update(optimizer)
        return losses

    def _update(self, optimizer: torch.optim.Optimizer) -> None:
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()

    def _subnet_loss(self, images: Any, target: object, chosen: Draw, number: int) -> Generator[Tensor, None, Tensor]:
        images = self.transform(images) if self.transform else images
        images, mix = self.view(images, (self.seed, self.steps, self._part, number)) if self.view else (images, None)
        scaled = self.task.scaled(self.net, images, target, chosen.resolution)
        with self._passing(1 + number), scaled as (images, target):
            with self._autocast():
                target = self.task.at_images(self.net, images, target)
            with self.net.sub(**chosen.sub(), track_running_stats=self.track_stats):
                with self._autocast():
                    output = self.task.subnet_answer(self.net, self.forward, images, target)
                loss = self.task.subnet_loss(output, target, mix)
                del output
                if loss.requires_grad:  # else nothing that is trained is in this sub-network
                    yield self.subnet_weight * loss
        return loss.detach()

    def _passing(self, number: int) -> contextlib.AbstractContextManager[object]:
        return self.task.passing(self.net, (self.seed, self.steps, self._part, number, self.rank, current().rank))

    def accumulate_loss(self, loss: Tensor) -> None:
        """Adds the gradient of a further loss on this part of the step's batch."""
        if not loss.requires_grad:
            raise InputError(
                "the loss has no gradient: all parameters are frozen, gradients are off (torch.no_grad) or the "
                "criterion returns a detached number"
            )
        loss = loss / self.accumulate
        with without_autocast(loss):
            self._backward(loss if self.scaler is None else self.scaler.scale(loss))

    def _require_target(self, target: object, labels: object) -> None:
        """InputError unless the full network's output is a target for sub-networks."""
        on_cpu = isinstance(labels, Tensor) and labels.device.type == "cpu"
        self.task.require_target(target, labels, values=on_cpu or not self._seen, moves=self.view is not None)
        self._seen = True

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        """Around one pass: `amp`, or whatever the caller has around this."""
        torch.clear_autocast_cache()  # of casts from a pass before: they hold its graph, or weights before an update
        return contextlib.nullcontext() if self.amp is None else torch.autocast(device_of(self.net).type, self.amp)
