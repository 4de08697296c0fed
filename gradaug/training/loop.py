"""The training run: from a converted network and a TrainConfig to trained.pt and result.json.

    result = train(netslim.load("converted.pt"), TrainConfig(mode="randwidth"), out="runs/randwidth")

The run's folder: metrics.jsonl and tensorboard/ as it goes, checkpoint.pt every epoch, then trained.pt and result.json,
and predictions.png of tasks that have such a picture.
Every mode runs this same loop on the same images in the same order from the same weights; "none" draws no sub-network.
Started by torchrun, every process runs it on its part of each batch, and rank 0 writes.
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import netslim
from gradaug import data
from gradaug.data.pictures import write
from gradaug.distributed import processes as sync
from gradaug.distributed.batch_norm import synchronised_norms
from gradaug.distributed.signals import stop_requests
from gradaug.errors import Stopped
from gradaug.evaluation.examples import examples
from gradaug.evaluation.score import CLASSIFICATION, SubnetScore, reported_skips, subnetworks
from gradaug.subnets.sampler import draw
from gradaug.training import checkpoint as ck
from gradaug.training.configured import resolve
from gradaug.training.device import choose_device, wants_cuda
from gradaug.training.folder import RunFolder
from gradaug.training.log import NoLog, RunLog, keep_until
from gradaug.training.machine import versions
from gradaug.training.metrics import Readout
from gradaug.training.progress import Silent
from gradaug.training.result import Result
from gradaug.training.run import Run, Step
from gradaug.training.trackers import require_all
from netslim.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradaug.config.kinds import JSON
    from gradaug.config.settings import TrainConfig
    from gradaug.subnets.space import Space
    from gradaug.tasks.task import AnyTask
    from gradaug.training.log import Epoch
    from gradaug.training.metrics import Tally
    from netslim import SlimNet

__all__ = ["choose_device", "resolve", "score_subnetworks", "train"]


def train(
    net: SlimNet,
    config: TrainConfig,
    out: str | Path | RunFolder,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Silent | None = None,
    trust: bool = False,
) -> Result:
    """Trains `net` in place and writes the run to the folder `out`. Seeds torch's global generator.

    Under torchrun every process calls it, with its copy of `net`; sub-networks are scored in rank 0 alone, which also
    keeps other runs out of the folder until the end. trust: the file of a teacher may run code that it brings.

    Raises:
        OutputError: `out` holds a run already (and neither `resume` nor `overwrite`), another run is writing to it, or
            it cannot be written.
        MissingError: a tracker that was asked for is not installed.
        InputError, DataError: a setting or the data does not fit the network.
        CheckpointError: there is nothing to resume from, or it is another run.
        TrainingError: the loss is no longer finite, or another process is gone; the last good checkpoint is kept.
        Stopped: SIGTERM came; the step in hand was finished and a checkpoint written.
    """
    folder = out if isinstance(out, RunFolder) else RunFolder(Path(out))
    require_all(config.trackers)
    joined = sync.joined(wants_cuda(config.device), config.dist_timeout)
    with joined as world, stop_requests() as asked, contextlib.ExitStack() as stack:
        warning = sync.from_main(lambda: stack.enter_context(folder.held()))
        if world.again and folder.checkpoint.exists():
            resume, overwrite = True, False
        saved = sync.from_main(lambda: _open(folder, resume, overwrite))
        run = Run(net, config, folder, saved, world, trust)
        sync.from_main(lambda: _clear(folder, overwrite, saved))
        tally = run.begin(saved)
        log = RunLog(folder.path, run.ga.steps, config.trackers, config.to_dict()) if world.main else NoLog()
        with log, progress if progress and world.main else Silent() as shown:
            if not saved or run.lengths != saved.lengths:
                log.start(run.ga.steps, _about(run))
            if warning:
                shown.note(f"warning: {warning}")
            shown.note(describe(run))
            for remark in (*run.remarks, *run.source.remarks):
                shown.note(remark)
            with _training(run):
                for line in run.warm_up(shown.compiling):
                    shown.note(line)
            shown.start(run.config.epochs, run.steps, run.ga.steps)
            batches = run.batches()
            while run.done < run.config.epochs:
                due = run.due
                record = train_epoch(run, batches, tally, log, shown, asked)
                run.done += 1
                log.epoch(record)  # before the checkpoint: a resume drops what the checkpoint does not cover
                if due:
                    run.save(None)
                shown.epoch(record)
                for line in run.compilation.news() if run.compilation else ():
                    shown.note(line)
                tally = run.tally()
        return finish(run)


def train_epoch(
    run: Run, batches: Iterator[Step], tally: Tally, log: RunLog, shown: Silent, asked: Callable[[], bool]
) -> Epoch:
    """One epoch, or the rest of it, and its validation: all that happens to the weights happens in these lines."""
    readout = Readout()
    run.net.train()
    with _training(run):
        while run.ga.steps < (run.done + 1) * run.per_epoch:
            sums = run.backward(batches, tally, asked())
            _note(readout.push(sums), run, tally, log, shown)  # first: a loss that is not finite stops the run
            run.update()
            every = run.config.checkpoint_every
            if tally.stopping or (every and run.ga.steps % every == 0 and run.ga.steps % run.per_epoch):
                _note(readout.flush(), run, tally, log, shown)
                run.save(tally)
            if tally.stopping:
                raise Stopped(f"stopped by SIGTERM after step {run.ga.steps}; go on with --resume")
    _note(readout.flush(), run, tally, log, shown)
    speed = tally.speed()
    return tally.epoch(run.validate() if run.due else None, run.lr, speed)


@contextlib.contextmanager
def _training(run: Run) -> Iterator[None]:
    """Around the passes of steps."""
    with synchronised_norms() if run.config.sync_bn else contextlib.nullcontext(), run.net.through(run.droppers):
        yield


def _note(ready: list[list[float]], run: Run, tally: Tally, log: RunLog, shown: Silent) -> None:
    """Takes in and shows the figures of steps."""
    for vector in ready:
        tally.add(vector)
        draws = functools.partial(draw, run.ga.space, run.ga.seed, tally.step - 1, run.ga.rank)
        log.step(tally.step, run.done + 1, *tally.last, run.lr, draws)
        shown.step(run.done + 1, tally.loss, tally.measured, tally.images_per_second)


def finish(run: Run) -> Result:
    """Scores the network and its sub-networks, writes trained.pt and result.json."""
    seconds, net = run.seconds, run.result
    after, rows = run.validate(), []
    net.eval()
    if run.world.main:
        space = run.ga.space
        widths = reported_widths(run.config.alpha) if space.random_width or space.mode == "none" else [1.0]
        skips = reported_skips(len(space.blocks)) if space.random_depth else [0]
        rows = score_subnetworks(net, run.source, run.config, widths, skips, run.ga.task)
    result = Result(run.config, run.before, after, rows, run.steps, seconds, run.folder.path, run.lengths)
    if run.world.main:
        netslim.save(net, run.folder.trained)
        _draw(run)
        run.folder.write_result(result.to_dict())
    return result


def _draw(run: Run) -> None:
    """Writes a picture of the network's answers, of tasks that have one, where there is Pillow to do it."""
    picture = examples(run.result, run.source, run.ga.task)
    if picture is not None:
        with contextlib.suppress(MissingError):
            write(picture, run.folder.predictions)


def _open(folder: RunFolder, resume: bool, overwrite: bool) -> ck.Checkpoint | None:
    folder.require_free(resume, overwrite)
    return ck.load(folder.checkpoint) if resume else None


def _clear(folder: RunFolder, overwrite: bool, saved: ck.Checkpoint | None) -> None:
    """Removes what the run that begins does not go on from."""
    folder.clear(overwrite)
    keep_until(folder.metrics, saved.step if saved else 0)


def _about(run: Run) -> dict[str, JSON]:
    """What the record of a run begins with, and goes on with to another number of epochs."""
    return {
        "about": describe(run),
        "config": run.config.to_dict(),
        "versions": versions(run.device),
        "processes": run.world.size,
        "steps_per_epoch": run.per_epoch,
    }


def describe(run: Run) -> str:
    """One line about what is going to happen."""
    space, config = run.ga.space, run.config
    parameters = sum(parameter.numel() for parameter in run.net.parameters())
    many = f"{space.num_subnets} sub-networks" if space.num_subnets > 1 else "1 sub-network"
    subnets = f"{many} {_often(space)} ({space.mode})"
    if space.random_width:
        where = f" of {space.scope} alone" if space.narrowed else ""
        subnets += f", widths{where} from {space.alpha:g} in steps of {space.round_to} channels"
    if space.random_depth:
        chances = f"kept with chances from {space.survival_first:g} to {space.survival:g}"
        fixed = f"{space.skip_blocks} of them left out"
        subnets += f", {len(space.blocks)} blocks {chances if space.skip_blocks is None else fixed}"
    if space.resolutions:
        subnets += f", resolutions {', '.join(map(str, space.resolutions))}"
    if space.subnet_share < 1:
        subnets += f", each on {space.subnet_share:g} of the images"
    if space.mode == "none":
        subnets = "no sub-networks"
    if config.teacher is not None:
        subnets += f"; taught by {config.teacher} ({config.teacher_weight:g} of the loss)"
    where = str(run.device) if run.world.size == 1 else f"{run.world.size} processes ({run.device.type})"
    return (
        f"training {parameters:,} parameters on {len(run.source.train):,} images of {run.source.name}, "
        f"{config.epochs} epochs of {run.per_epoch} steps on {where}; {subnets}"
    )


def _often(space: Space) -> str:
    """Which steps have sub-networks."""
    often = "a step" if space.subnet_every == 1 else f"every {space.subnet_every} steps"
    return often if space.subnet_from == 0 else f"{often} from step {space.subnet_from + space.subnet_every} on"


def score_subnetworks(
    net: SlimNet,
    source: data.DataSource,
    config: TrainConfig,
    widths: list[float],
    skips: list[int],
    task: AnyTask = CLASSIFICATION,
) -> list[SubnetScore]:
    """Validation scores of sub-networks at `widths` and without `skips` blocks, recalibrated on training images."""
    calibration = data.calibration_batches(source, config.batch_size, config.calibration_batches, config.seed)
    validation = data.evaluation_batches(source.validation)
    return subnetworks(net, widths, calibration, validation, config.round_to or 1, skips, task=task, scope=config.scope)


def reported_widths(alpha: float, count: int = 5) -> list[float]:
    """Widths from 1 down to alpha, evenly spaced: those the network was trained for."""
    return [round(1 - (1 - alpha) * i / (count - 1), 4) for i in range(count)]
