"""The GradAug step (Yang, Zhu, Chen, NeurIPS 2020, algorithm 1), usable in anyone's training loop.

    ga = GradAug(net, mode="randwidth")             # net = netslim.convert(model, example_inputs)
    for images, labels in loader:
        optimizer.zero_grad()
        losses = ga.backward(images, labels)        # the full network, then n sub-networks; gradients add up
        optimizer.step()                            # these three lines are ga.step(images, labels, optimizer)

Each pass ends with its own backward, so one graph is alive at a time and the peak memory is that of plain training; the
gradient is that of the paper's summed loss, because the target of the sub-networks is detached.

With several processes give it ``DistributedDataParallel(net)`` in place of the network, which exchanges while the last
backward runs; or call ``gradaug.average_gradients(net.parameters())`` after `backward` (:meth:`GradAug.step` does so
itself). One exchange a step either way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn

from gradaug.arguments import drawn, learnable, loss_scaler, one_number, precision, require_common, update
from gradaug.config.values import checked, function, truth, whole
from gradaug.distributed.processes import current
from gradaug.distributed.reduction import Reduction, network_in
from gradaug.distributed.sharding import begin
from gradaug.inputs import copied, device_of
from gradaug.losses import Losses as Losses
from gradaug.scopes import fresh_autocast
from gradaug.subnets.sampler import Draw, draw
from gradaug.subnets.space import Space, space_of
from gradaug.subnets.views import View
from gradaug.tasks.classification import Classification
from gradaug.tasks.losses import without_autocast
from gradaug.tasks.task import AnyTask, adapted
from gradaug.tasks.teacher import Teacher, require_taught
from netslim import SlimNet
from netslim.source.sharded import settle

_TASKS: Any = object()
"""Default of a setting that is the task's own."""


class GradAug:
    """Trains `net` and sub-networks of it that share its weights.

    Args:
        net: a converted network, alone, sharded by fully_shard or in DistributedDataParallel (:meth:`backward` then
            ends with the mean over the processes) or torch.compile; batch norm keeps the running statistics of the
            full network alone.
        space: what sub-networks are drawn from, or a mode alone: "randwidth" (the default), "randdepth", "both", or
            "none" for the plain step.
        settings: in place of a space, those of :class:`gradaug.SubnetSettings`: mode, alpha, num_subnets, resolutions,
            round_to, ..., for this network; and subnet_from, the number of plain steps before sub-networks begin.
            Resolutions are image sides that a sub-network may see; None takes the full side, 7/8 and 3/4 of it, as far
            as the network runs on them; () leaves the images alone.
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
        teacher: a trained network that the full network learns from, too, a :class:`gradaug.Teacher`.
        subnet_weight: of each sub-network's loss; the paper has 1.
        track_stats: sub-networks update the running statistics too (the paper's random-depth code does).
        accumulate: calls of :meth:`backward` that make up one optimizer step, each with an equal part of its batch.
        amp: run the passes in this dtype (torch.bfloat16, torch.float16), by autocast; None leaves it to an autocast
            around the step, if there is one.
        scaler: a torch.amp.GradScaler, which scales every loss; :meth:`step` unscales and updates it, and after
            :meth:`backward` that is the caller's.
        forward: what to call for the network's output, e.g. ``torch.compile(net)``, where it is not `net`.
        backward: called with every loss in place of ``loss.backward()``, e.g. ``fabric.backward`` or
            ``accelerator.backward``, which scale it themselves: leave `scaler` out then.

    Raises:
        netslim.errors.InputError: `net` is no converted network; an argument has a wrong type or is out of range; the
            mode needs residual blocks and there are none, or a resolution or the grid cannot work.
    """

    def __init__(
        self,
        net: nn.Module,
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
        teacher: Teacher | None = None,
        subnet_weight: float = 1.0,
        track_stats: bool = False,
        accumulate: int = 1,
        amp: torch.dtype | None = None,
        scaler: torch.amp.GradScaler | None = None,
        forward: Callable[..., Any] | None = None,
        backward: Callable[[Tensor], object] | None = None,
        **settings: object,
    ) -> None:
        called = net if forward is None else function("forward", forward)
        self.reduction = Reduction(net, called, function("backward", backward))
        self.net: SlimNet = network_in(net)
        self.reduction.require(self.net, self.net)  # a space is tried out on it
        own = {"criterion": criterion, "temperature": temperature, "divergence": divergence}
        said = {name: value for name, value in own.items() if value is not _TASKS}
        self.task: AnyTask = adapted(Classification() if task is None else task, said)
        self.teacher = require_taught(self.task, teacher)
        settings |= {"widths": "per-group"} if truth("per_group", per_group) else {}
        self.space = space_of(self.net, space, settings, self.task)
        self.seed, self.rank = checked("seed", seed), whole("rank", rank)
        self.transform = function("transform", transform)
        self.view = function("view", view)
        self.subnet_weight = checked("subnet_weight", subnet_weight)
        self.track_stats = checked("track_stats", track_stats)
        self.accumulate = checked("accumulate", accumulate)
        self.amp, self.scaler = precision(amp), loss_scaler(scaler, backward)
        self.forward: Callable[..., Any] = called
        self.steps = 0
        """Optimizer steps taken so far; set it when you resume, and the same sub-networks follow."""
        self._part, self._seen = 0, False

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
        (GradAug-semi); a step without sub-networks leaves them out. Raises InputError, before it adds any gradient,
        where sub-networks cannot learn from the output.
        """
        done, found = self._part == self.accumulate - 1, list[Losses]()
        passes = self._passes(images, labels, draws, unlabelled, found)
        with closing(passes), self.reduction.adding_in_place(self.net):
            for loss, last in passes:
                self._add(loss, done and last)
                del loss  # and its graph, before the next pass
        return found[0]

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

        With DistributedDataParallel the backward of the last loss, of its own or of a sum that it is in, ends with the
        mean over the processes of all that was added up, unless the loop is under its ``no_sync``. InputError for the
        gradient of another loss after that.
        """
        found, tied = list[Losses](), self.reduction.tied(self._part == self.accumulate - 1)
        with closing(self._passes(images, labels, draws, unlabelled, found)) as passes:
            for loss, last in passes:
                loss = tied(loss, last)
                if loss.requires_grad:
                    yield loss
                del loss
        return found[0]

    def _passes(
        self, images: object, labels: object, draws: Sequence[Draw] | None, unlabelled: object, found: list[Losses]
    ) -> Generator[tuple[Tensor, bool], None, None]:
        """The loss of every pass, inside which its gradient is to be taken, and whether it is the last one's.

        What was measured is added to `found` at the end.
        """
        self.reduction.require_once(self.net, self.forward)
        draws = draw(self.space, self.seed, self.steps, self.rank) if draws is None else drawn(draws)
        begin(self.net, [chosen.skip for chosen in draws])
        every, count, total = self.task.batch(images, unlabelled if draws else None)
        self.task.require_batch(self.net, every, labels)
        with self._passing(0), self._autocast():
            output = self.task.answer(self._forward, every, labels)
            target = self.task.target(output)
            answer = self.task.first(target, count, total)
            if draws:
                self._require_target(answer, labels)
            known = self.task.first(output, count, total)
            full = one_number(self.task.loss(known, labels))
            if self.teacher is not None:
                full = self.teacher.loss(self.task, full, known, self.task.first(every, count, total))
            full = learnable(full)
        del output, known
        yield full, not draws
        full, subnets = full.detach(), list[Tensor]()
        for i, chosen in enumerate(draws):
            with self._subnet_pass(every, target, total, chosen, i) as loss:
                subnets.append(loss.detach())
                yield self.subnet_weight * loss, i == len(draws) - 1
                del loss
        settle(self.net)  # a pass without anything that learns has left it gathered
        self._part = (self._part + 1) % self.accumulate
        self.steps += self._part == 0
        found.append(Losses(full, tuple(subnets), answer, self.subnet_weight))

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
            settle(self.net)
            require_common(optimizer, self.net)
            optimizer.zero_grad()
        losses = self.backward(images, labels)
        if self._part == 0:
            self.average_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])
            update(optimizer, self.scaler)
        return losses

    @contextlib.contextmanager
    def _subnet_pass(self, images: Any, target: object, of: int, chosen: Draw, number: int) -> Iterator[Tensor]:
        """The loss of a sub-network, with the network at that one as long as it is open; `of`: how many images."""
        key = (self.seed, self.steps, self._part, number)
        images, target = self.task.seen(images, target, of, chosen.share, f"{key}/{self.rank}")
        images = self.transform(copied(images)) if self.transform else images
        images, mix = self.view(copied(images), key) if self.view else (images, None)
        scaled = self.task.scaled(self.net, images, target, chosen.resolution)
        with self._passing(1 + number), scaled as (images, target):
            with self._autocast():
                target = self.task.at_images(self.net, images, target)
            with self.net.sub(**chosen.sub(), track_running_stats=self.track_stats):
                with self._autocast():
                    output = self.task.subnet_answer(self.net, self._forward, images, target)
                yield self.task.subnet_loss(output, target, mix)

    def _forward(self, *args: object, **kwargs: object) -> Any:
        """What tasks call: a pass may write to its images and targets, and the next one has those of the batch."""
        with self.reduction.quiet():
            return self.forward(*copied(args), **copied(kwargs))

    def _passing(self, number: int) -> contextlib.AbstractContextManager[object]:
        return self.task.passing(self.net, (self.seed, self.steps, self._part, number, self.rank, current().rank))

    def accumulate_loss(self, loss: Tensor) -> None:
        """Adds the gradient of a further loss on this part of the step's batch, before :meth:`backward` or after it."""
        loss = learnable(loss) / self.accumulate
        with without_autocast(loss):
            self.reduction.aside(self._scaled(loss))

    def average_gradients(self, parameters: Iterable[nn.Parameter], figures: Tensor | None = None) -> Tensor:
        """:func:`gradaug.average_gradients`, of those that :meth:`backward` has not exchanged; returns its figures."""
        return self.reduction.average(parameters, figures)

    def _add(self, loss: Tensor, last: bool) -> None:
        """Adds the gradient of a pass; where nothing that is trained was in it, there is none."""
        loss = loss / self.accumulate
        with without_autocast(loss):
            self.reduction.backward(self._scaled(loss), last)

    def _scaled(self, loss: Tensor) -> Tensor:
        return loss if self.scaler is None else self.scaler.scale(loss)

    def _require_target(self, target: object, labels: object) -> None:
        """InputError unless the full network's output is a target for sub-networks."""
        on_cpu = isinstance(labels, Tensor) and labels.device.type == "cpu"
        self.task.require_target(target, labels, values=on_cpu or not self._seen, moves=self.view is not None)
        self._seen = True

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        """Around one pass: `amp`, or whatever the caller has around this."""
        return fresh_autocast(device_of(self.net), self.amp)
