"""The training run: from a converted network and a TrainConfig to trained.pt and result.json.

    result = train(netslim.load("converted.pt"), TrainConfig(mode="randwidth"), out="runs/randwidth")

The run's folder: metrics.jsonl and tensorboard/ as it goes, checkpoint.pt every epoch, then trained.pt and result.json.
Every mode runs this same loop on the same images in the same order from the same weights; "none" draws no sub-network.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import netslim
from gradaug import checkpoint as ck
from gradaug import data
from gradaug.evaluate import Score, SubnetScore, require_fit, score, subnetworks
from gradaug.fit import image_shape, runs_channels_last
from gradaug.folder import RunFolder
from gradaug.log import Epoch, RunLog
from gradaug.optim import cosine, sgd
from gradaug.report import Silent
from gradaug.result import Result
from gradaug.step import GradAug
from gradaug.tally import Tally
from netslim import SlimNet
from netslim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradaug.config import TrainConfig


def train(
    net: SlimNet,
    config: TrainConfig,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Silent | None = None,
) -> Result:
    """Trains `net` in place and writes the run to the folder `out`. Seeds torch's global generator.

    Raises:
        OutputError: `out` holds a run already (and neither `resume` nor `overwrite`), or cannot be written.
        InputError, DataError: a setting or the data does not fit the network.
        CheckpointError: there is nothing to resume from, or it is another run.
        TrainingError: the loss is no longer finite; the last good checkpoint is kept.
    """
    folder = RunFolder(Path(out))
    folder.require_free(resume, overwrite)
    saved = ck.load(folder.checkpoint) if resume else None
    run = Run(net, config, folder, saved)
    folder.create(overwrite)
    run.begin(saved)
    with RunLog(folder.path, step=run.ga.steps) as log, progress or Silent() as shown:
        shown.note(run.describe())
        shown.start(run.config.epochs, run.steps, run.ga.steps)
        batches = run.batches()
        while run.done < run.config.epochs:
            record = train_epoch(run, batches, log, shown)
            run.done += 1
            log.epoch(record)  # before the checkpoint: a resume drops what the checkpoint does not cover
            run.save()
            shown.epoch(record)
    return finish(run)


def train_epoch(run: Run, batches: Iterator[data.Batch], log: RunLog, shown: Silent) -> Epoch:
    """One epoch and its validation: everything that happens to the weights happens in these lines."""
    tally = Tally(run.done, run.config.lr, run.folder.checkpoint)
    run.net.train()
    for _ in range(run.per_epoch):
        images, labels = run.to_device(next(batches))
        run.optimizer.zero_grad()
        losses = run.ga.backward(images, labels)
        tally.add(losses, labels, run.ga.steps)
        run.optimizer.step()
        log.step(run.ga.steps, run.done + 1, tally.last_full, tally.last_subnets, run.lr)
        shown.step(run.done + 1, tally.loss, tally.top1, tally.images_per_second)
        run.schedule.step()
    speed = tally.images_per_second
    return tally.epoch(run.ga.steps, run.validate(), run.lr, speed)


def finish(run: Run) -> Result:
    """Scores the network and its sub-networks, writes trained.pt and result.json."""
    seconds = run.seconds
    space = run.ga.space
    widths = reported_widths(run.config.alpha) if space.random_width or space.mode == "none" else [1.0]
    skips = reported_skips(len(space.blocks)) if space.random_depth else [0]
    rows = score_subnetworks(run.net, run.source, run.config, widths, skips)
    result = Result(run.config, run.before, run.validate(), rows, run.steps, seconds, run.folder.path)
    run.net.eval()
    netslim.save(run.net, run.folder.trained)
    run.folder.write_result(result.to_dict())
    return result


class Run:
    """What a run consists of; building it checks everything and writes nothing. `saved` is continued from, if given."""

    def __init__(self, net: SlimNet, config: TrainConfig, folder: RunFolder, saved: ck.Checkpoint | None) -> None:
        if saved:
            config = ck.merge(saved, config, folder.checkpoint)
        self.device = choose_device(config.device)
        self.net = net.to(self.device)
        self.source = data.load(config.data, image_shape(net), config.seed)
        require_fit(net, self.source)
        self.config = config = resolve(config, net)
        if config.channels_last:
            net.to(memory_format=torch.channels_last)
        torch.manual_seed(config.seed)
        self.folder = folder
        self.per_epoch = data.steps_per_epoch(self.source, config.batch_size)
        self.steps = config.epochs * self.per_epoch
        self.ga = grad_aug(net, config)
        self.optimizer = sgd(net, config)
        self.schedule = cosine(self.optimizer, self.steps)
        self.done = 0
        self._started = time.perf_counter()

    def begin(self, saved: ck.Checkpoint | None) -> None:
        """Continues from `saved`; a new run scores the untrained network and writes its first checkpoint."""
        if saved:
            self._restore(saved)
        else:
            self.before = self.validate()
            self.save()

    def describe(self) -> str:
        """One line about what is going to happen."""
        space, config = self.ga.space, self.config
        parameters = sum(parameter.numel() for parameter in self.net.parameters())
        subnets = f"{space.num_subnets} sub-networks a step ({space.mode})"
        if space.random_width:
            subnets += f", widths from {space.alpha:g} in steps of {space.round_to} channels"
        if space.random_depth:
            chances = f"kept with chances from {space.survival_first:g} to {space.survival:g}"
            fixed = f"{space.skip_blocks} of them left out"
            subnets += f", {len(space.blocks)} blocks {chances if space.skip_blocks is None else fixed}"
        if space.resolutions:
            subnets += f", resolutions {', '.join(map(str, space.resolutions))}"
        if space.mode == "none":
            subnets = "no sub-networks"
        return (
            f"training {parameters:,} parameters on {len(self.source.train):,} images of {self.source.name}, "
            f"{config.epochs} epochs of {self.per_epoch} steps on {self.device}; {subnets}"
        )

    @property
    def lr(self) -> float:
        """The learning rate of the coming optimizer step."""
        return float(self.schedule.get_last_lr()[0])

    @property
    def seconds(self) -> float:
        """Wall time since the run began, without the time between an interruption and the resume."""
        return time.perf_counter() - self._started

    def batches(self) -> Iterator[data.Batch]:
        """The training batches that are still to come."""
        config, pin = self.config, self.device.type == "cuda"
        start = self.ga.steps
        return iter(
            data.train_batches(self.source, config.batch_size, config.seed, start, self.steps, config.workers, pin)
        )

    def to_device(self, batch: data.Batch) -> data.Batch:
        images, labels = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        if self.config.channels_last and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, labels

    def validate(self) -> Score:
        with self.net.scaled(self.ga.space.chances if self.config.scale_residuals else {}):
            return score(self.net, data.evaluation_batches(self.source.validation))

    def save(self) -> None:
        """Writes the checkpoint that :meth:`begin` continues from."""
        checkpoint = ck.Checkpoint(
            config=self.config.to_dict(),
            epoch=self.done,
            step=self.ga.steps,
            model=self.net.state_dict(),
            optimizer=self.optimizer.state_dict(),
            schedule=self.schedule.state_dict(),
            random=ck.random_state(),
            before=asdict(self.before),
            seconds=self.seconds,
        )
        ck.save(checkpoint, self.folder.checkpoint)

    def _restore(self, saved: ck.Checkpoint) -> None:
        ck.load_weights(saved, self.net, self.folder.checkpoint)
        self.optimizer.load_state_dict(saved.optimizer)
        self.schedule.load_state_dict(saved.schedule)
        self.before = Score(**saved.before)
        self.done, self.ga.steps = saved.epoch, saved.step
        self._started -= saved.seconds
        ck.set_random_state(saved.random)


def grad_aug(net: SlimNet, config: TrainConfig) -> GradAug:
    """The step that `config` describes."""
    return GradAug(
        net,
        config.mode,
        alpha=config.alpha,
        num_subnets=config.num_subnets,
        resolutions=config.resolutions,
        round_to=config.round_to,
        survival=config.survival,
        survival_first=config.survival_first,
        skip_blocks=config.skip_blocks,
        stage_limit=config.stage_limit,
        seed=config.seed,
    )


def resolve(config: TrainConfig, net: SlimNet) -> TrainConfig:
    """`config` with every choice that was left to the network and the machine written down."""
    space = grad_aug(net, config).space
    channels_last = runs_channels_last(net) if config.channels_last is None else config.channels_last
    return replace(config, resolutions=space.resolutions or None, round_to=space.round_to, channels_last=channels_last)


def score_subnetworks(
    net: SlimNet, source: data.DataSource, config: TrainConfig, widths: list[float], skips: list[int]
) -> list[SubnetScore]:
    """Validation scores of sub-networks at `widths` and without `skips` blocks, recalibrated on training images."""
    calibration = data.calibration_batches(source, config.batch_size, config.calibration_batches, config.seed)
    validation = data.evaluation_batches(source.validation)
    return subnetworks(net, widths, calibration, validation, config.round_to or 1, skips)


def reported_widths(alpha: float, count: int = 5) -> list[float]:
    """Widths from 1 down to alpha, evenly spaced: those the network was trained for."""
    return [round(1 - (1 - alpha) * i / (count - 1), 4) for i in range(count)]


def reported_skips(blocks: int) -> list[int]:
    """Numbers of blocks left out: none, a tenth, a fifth, two fifths of them."""
    return sorted({round(share * blocks) for share in (0, 0.1, 0.2, 0.4)})


def choose_device(name: str) -> torch.device:
    """ "auto" is the first GPU, or the CPU; InputError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used ({reason}); take --device cpu or auto") from error
