"""What a training run consists of, built from a network and a TrainConfig: data, step, optimizer, averages, state.

:mod:`gradaug.training.loop` says what happens in which order; this file says with what.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gradaug import data, tasks
from gradaug.arguments import update
from gradaug.distributed import processes as sync
from gradaug.evaluation.score import measure, require_fit
from gradaug.inputs import image_shape, on_device
from gradaug.regularizers.hooks import Regularizers
from gradaug.scopes import Generators, random_state, set_random_state
from gradaug.subnets.views import views
from gradaug.tasks.task import TaskScore
from gradaug.training import checkpoint as ck
from gradaug.training import resuming
from gradaug.training.averages import Average, MeanTeacher
from gradaug.training.backbone import fill
from gradaug.training.compilation import Compilation, example
from gradaug.training.configured import PRECISIONS, grad_aug, resolve
from gradaug.training.device import choose_device
from gradaug.training.metrics import Tally, figures
from gradaug.training.optim import lay_out, schedule, sgd
from gradaug.training.teaching import fingerprint, teacher_of
from netslim import SlimNet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradaug.config.settings import TrainConfig
    from gradaug.training.folder import RunFolder

Step = tuple[data.Batch, data.Batch | None]
"""Labelled images of a part of a step, and unlabelled ones."""


class Run:
    """Building it checks everything and writes nothing. `saved` is continued from, if given."""

    def __init__(
        self,
        net: SlimNet,
        config: TrainConfig,
        folder: RunFolder,
        saved: ck.Checkpoint | None,
        world: sync.World,
        trust: bool = False,
    ) -> None:
        if saved:
            config = resuming.merge(saved, config, folder.checkpoint)
        self.device = choose_device(config.device, world.local_rank)
        self.net, self.folder, self.world = net.to(self.device), folder, world
        self.source = data.load(
            config.data, image_shape(net), config.seed, labels=config.labels, augment=config.augment
        )
        self.task = tasks.of(config)
        require_fit(net, self.source, self.task)
        self.config = config = resolve(config, net)
        if config.channels_last:
            net.to(memory_format=torch.channels_last)
        teacher = teacher_of(config, net, self.source, self.task, trust)
        self.taught = None if teacher is None else fingerprint(teacher.net)
        torch.manual_seed(config.seed + 1_000_003 * world.rank)
        start = None if saved else config.backbone
        self.remarks = [] if start is None else [sync.from_main(lambda: fill(net, start))]
        sync.share_state(net)
        self.per_epoch = data.steps_per_epoch(self.source, config.batch_size)
        self.steps = config.epochs * self.per_epoch
        self.scaler = torch.amp.GradScaler(self.device.type) if config.amp == "fp16" else None
        self.compilation = Compilation(net, synchronised=config.sync_bn) if config.compile else None
        self.ga = grad_aug(net, config, world.rank, self.scaler, teacher)
        if not saved:
            self._begin_subnets()
        self.ga.view = views(config, self.source.mean, self.source.std)
        self.regularizers = Regularizers(config, self.source.classes)
        self.droppers = self.regularizers.on_blocks(net)
        self.optimizer = sgd(net, config)
        self.schedule = schedule(self.optimizer, config, self.per_epoch)
        self.averages = self._averages()
        self.done, self.lengths = 0, tuple[ck.Length, ...]()
        self._started = time.perf_counter()

    def _averages(self) -> dict[str, Average]:
        found: dict[str, Average] = {}
        net, config = self.net, self.config
        if config.ema is not None:
            found["ema"] = Average(net, config.ema)
        if config.semi == "mean-teacher":
            found["teacher"] = MeanTeacher(net, config.teacher_decay, config.consistency, self.steps, self.task)
        return found

    def begin(self, saved: ck.Checkpoint | None) -> Tally:
        """Continues from `saved`; a new run scores the untrained network and writes its first checkpoint."""
        if saved:
            self._restore(saved)
        else:
            self.before = self.validate()
            self.save(None)
        return self.tally(saved.tally if saved else None)

    def _begin_subnets(self, lengths: tuple[ck.Length, ...] = ()) -> None:
        first = resuming.first_step(self.config, self.per_epoch, lengths)
        self.ga.space = replace(self.ga.space, subnet_from=first)

    @property
    def lr(self) -> float:
        """The learning rate of the coming optimizer step."""
        return float(self.schedule.get_last_lr()[0])

    @property
    def seconds(self) -> float:
        """Wall time since the run began, without the time between an interruption and the resume."""
        return time.perf_counter() - self._started

    @property
    def due(self) -> bool:
        """Whether the epoch in hand ends with a validation and a checkpoint."""
        return (self.done + 1) % self.config.validate_every == 0 or self.done + 1 == self.config.epochs

    @property
    def result(self) -> SlimNet:
        """The network that the run is for: the mean teacher, the running mean of the weights, or the network itself."""
        average = self.averages.get("teacher") or self.averages.get("ema")
        return average.net if average else self.net

    def warm_up(self, shown: Callable[[int, int], object]) -> list[str]:
        """Compiles what steps run, where that was asked for; returns a line about it."""
        if self.compilation is None:
            return []
        config, amp = self.config, PRECISIONS[self.config.amp]
        images = example(self.net, config.batch_size // (self.world.size * config.accumulate), config.channels_last)
        around = partial(torch.autocast, self.device.type, amp, enabled=amp is not None)
        return [self.compilation.warm_up(images, self.ga.space, around, shown, config.track_stats)]

    # -- one optimizer step, in its parts

    def batches(self) -> Iterator[Step]:
        """The training batches that are still to come, each with its unlabelled images where the run uses them."""
        config, pin = self.config, self.device.type == "cuda"
        share = {"rank": self.world.rank, "world": self.world.size, "parts": config.accumulate}
        steps = self.ga.steps, self.steps
        labelled = data.train_batches(self.source, config.batch_size, config.seed, *steps, config.workers, pin, **share)
        if config.semi == "none":
            return zip(labelled, itertools.repeat(None))
        source = self.source
        if config.semi == "mean-teacher" and source.unlabelled is not None:
            source = replace(source, unlabelled=data.TwoViews(source.unlabelled))
        count = config.unlabelled_batch or config.batch_size
        others = data.unlabelled_batches(source, count, config.seed, *steps, config.workers, pin, **share)
        return zip(labelled, others, strict=True)

    def backward(self, batches: Iterator[Step], tally: Tally, stop: bool) -> Tensor:
        """The gradients of one step, averaged over the processes; returns its figures, summed over them."""
        self.optimizer.zero_grad()
        self.regularizers.on_progress(self.ga.steps / self.steps)
        total = torch.zeros((), device=self.device)
        for part in range(self.config.accumulate):
            begun = time.perf_counter()
            labelled, unlabelled = next(batches)
            tally.waited += time.perf_counter() - begun
            images, labels = self.to_device(labelled)
            key = self.config.seed, self.ga.steps, part, self.world.rank
            images, labels = self.regularizers.on_batch(images, labels, key)
            others = None if unlabelled is None else self.to_device(unlabelled)[0]
            teacher = self.averages.get("teacher")
            if isinstance(teacher, MeanTeacher) and others is not None:
                self.ga.accumulate_loss(teacher.loss(self.net, data.one_tensor(others), self.ga.steps))
                others = None
            losses = self.ga.backward(images, labels, None, others)
            total = total + figures(self.task, losses, labels, stop)
        return self.ga.average_gradients(self.net.parameters(), total)

    def update(self) -> None:
        """The optimizer step, and what follows it."""
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip_norm)
        update(self.optimizer, self.scaler)
        self.schedule.step()
        for average in self.averages.values():
            average.update(self.net)

    def to_device(self, batch: data.Batch) -> data.Batch:
        images, labels = on_device(batch, self.device)
        if self.config.channels_last and isinstance(images, Tensor) and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, labels

    # -- the state of a run

    def validate(self) -> TaskScore:
        """The score of :attr:`result` on the validation images, with the running statistics of rank 0."""
        for net in (self.net, *(average.net for average in self.averages.values())):
            sync.share_buffers(net)
        rank, size = self.world.rank, self.world.size
        share = data.evaluation_batches(self.source.validation, workers=self.config.workers, rank=rank, world=size)
        with self.result.scaled(self.ga.space.chances if self.config.scale_residuals else {}):
            meter = measure(self.result, share, task=self.task)
        if size > 1:
            meter.merge(sync.gathered(meter.state()))
        return meter.score()

    def tally(self, sums: dict[str, float] | None = None) -> Tally:
        """The running means of the epoch that begins, or goes on after `sums`."""
        here = self.task, self.done, self.ga.steps, self.config.lr, self.folder.checkpoint
        return Tally(*here, sums, self.ga.space.plain)

    def save(self, tally: Tally | None) -> None:
        """Writes the checkpoint that :meth:`begin` continues from; `tally` in mid-epoch."""
        states = sync.gathered(random_state())
        sync.from_main(lambda: ck.save(self._checkpoint(tally, states), self.folder.checkpoint))

    def _checkpoint(self, tally: Tally | None, states: list[Generators]) -> ck.Checkpoint:
        return ck.Checkpoint(
            config=self.config.to_dict(),
            epoch=self.done,
            step=self.ga.steps,
            model=self.net.state_dict(),
            optimizer=self.optimizer.state_dict(),
            schedule=self.schedule.state_dict(),
            scaler=self.scaler.state_dict() if self.scaler else None,
            averages={name: average.state_dict() for name, average in self.averages.items()},
            tally=tally.state() if tally else None,
            random=states,
            before=asdict(self.before),
            seconds=self.seconds,
            lengths=self.lengths,
            teacher=self.taught,
        )

    def _restore(self, saved: ck.Checkpoint) -> None:
        path = self.folder.checkpoint
        resuming.require_teacher(saved, self.taught, path)
        self.lengths = resuming.lengths(saved, self.config.epochs, self.per_epoch, path)
        self._begin_subnets(self.lengths)
        self.remarks += resuming.said(saved, self.lengths, self.config)
        resuming.load_weights(saved.model, self.net, path)
        for name, average in self.averages.items():
            resuming.load_weights(saved.averages.get(name, {}), average.model, path)
        resuming.load_optimizer(saved, self.optimizer, path)
        resuming.load_state(saved, "schedule", self.schedule, path)
        lay_out(self.schedule)
        if self.scaler:
            resuming.load_state(saved, "scaler", self.scaler, path)
        self.before = resuming.score(saved, path, self.task.scored)
        self.done, self.ga.steps = saved.epoch, saved.step
        self._started -= saved.seconds
        if len(saved.random) == self.world.size:
            set_random_state(saved.random[self.world.rank])
