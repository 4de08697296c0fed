"""The settings of a run apart from its sub-networks, by section: each a frozen base of TrainConfig.

Sources: PAPER = Yang, Zhu, Chen, "GradAug", NeurIPS 2020 (arXiv 2006.07989); defaults are its CIFAR settings where
it gives one (WRN-28-10: learning rate 0.1 cosine, Nesterov momentum 0.9, weight decay 5e-4, alpha 0.8, n = 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradaug.config import ranges
from gradaug.config.fields import setting
from gradaug.config.ranges import BELOW_ONE, COUNT, NATURAL, NON_NEGATIVE, POSITIVE, RATIO, one_of, some_of
from gradaug.config.registry import REGULARIZERS, SCHEDULES, SOURCES, TASKS, TRACKERS, VIEWS

_PATIENCE: ranges.Range[float] = ranges.Range("from 1 to 604800 seconds (a week)", lambda value: 1 <= value <= 604_800)
_EPOCHS: ranges.Range[Sequence[int]] = ranges.each("a list of epochs, such as 150,225", lambda epoch: epoch >= 1)

TEACHER_WEIGHT, TEACHER_TEMPERATURE = 0.9, 4.0
"""Tian et al., "Contrastive representation distillation", ICLR 2020, for the distillation of Hinton et al. 2015."""


@dataclass(frozen=True)
class StepSettings:
    """What sub-networks see and learn."""

    scale_residuals: bool = setting(
        False, "GradAug", "Evaluate with each block's result times its chance to be kept, as the paper's code does."
    )
    track_stats: bool = setting(
        False, "GradAug", "Sub-networks update running statistics too, as the paper's random-depth code does."
    )
    views: tuple[str, ...] = setting(
        (), "GradAug", f"Further transforms of a sub-network's images: {', '.join(VIEWS)}.", some_of(*VIEWS)
    )
    divergence: str = setting(
        "kl",
        "GradAug",
        "What ties a sub-network to the full network: kl, or alpha (AlphaNet's).",
        one_of("kl", "alpha"),
    )
    subnet_target: str = setting(
        "truth",
        "GradAug",
        "Detection: sub-networks learn the labelled boxes (truth), or what the full network says of each place (full).",
        one_of("truth", "full"),
    )
    temperature: float = setting(1.0, "GradAug", "Temperature of that loss; the paper has none (1).", POSITIVE)
    subnet_weight: float = setting(1.0, "GradAug", "Weight of each sub-network's loss.", NON_NEGATIVE)
    subnet_from: float = setting(
        0.0, "GradAug", "Share of the run that passes before sub-networks begin; its steps are plain ones.", BELOW_ONE
    )


@dataclass(frozen=True)
class DataSettings:
    """Images, with and without labels."""

    task: str = setting(
        "classification",
        "Data",
        f"What is learned: {', '.join(TASKS)}. Detectors begin with "
        f"{', '.join(f'{name} {value:g}' for name, value in TASKS['detection'].usual.items())}.",
        one_of(*TASKS),
    )
    data: str = setting(
        "digits", "Data", f"Images to train on: {', '.join(row.spelt(name) for name, row in SOURCES.items())}."
    )
    labels: int | None = setting(
        None, "Data", "Use this many labels only, as many of each class; the other images are unlabelled.", COUNT
    )
    augment: str = setting(
        "standard",
        "Data",
        "Augmentation: the data set's own, the paper's ImageNet one (color; needs folders), a random scale too (scale; "
        "needs photographs with boxes), or none.",
        one_of("standard", "color", "scale", "none"),
    )
    semi: str = setting(
        "none",
        "Data",
        "Use of unlabelled images: none, gradaug (sub-network losses), or mean-teacher.",
        one_of("none", "gradaug", "mean-teacher"),
    )
    unlabelled_batch: int | None = setting(
        None, "Data", "Unlabelled images per step.  [default: as many as labelled ones]", COUNT
    )
    teacher_decay: float = setting(0.99, "Data", "Mean teacher: decay of its weights.", BELOW_ONE)
    consistency: float = setting(
        100.0,
        "Data",
        "Mean teacher: weight of the consistency loss, reached after a fifth of the epochs.",
        NON_NEGATIVE,
    )


@dataclass(frozen=True)
class OptimSettings:
    """How long, in what batches, at what rate."""

    epochs: int = setting(15, "Optimisation", "Passes over the training images.", COUNT)
    batch_size: int = setting(64, "Optimisation", "Images per optimizer step, over all processes.", COUNT)
    accumulate: int = setting(1, "Optimisation", "Parts that a batch is computed in, one after another.", COUNT)
    lr: float = setting(0.1, "Optimisation", "Peak learning rate.", POSITIVE)
    schedule: str = setting(
        "cosine",
        "Optimisation",
        "Learning rate: cosine or poly (power 0.9) to zero, step (a tenth at --milestones), or constant.",
        one_of(*SCHEDULES),
    )
    milestones: tuple[int, ...] | None = setting(
        None, "Optimisation", "Epochs after which the step schedule divides by 10.", _EPOCHS
    )
    warmup: float = setting(0.0, "Optimisation", "Epochs of linear warm-up.", NON_NEGATIVE)
    momentum: float = setting(0.9, "Optimisation", "Momentum.", BELOW_ONE)
    nesterov: bool = setting(True, "Optimisation", "Nesterov's kind of momentum, as the paper has it.")
    weight_decay: float = setting(5e-4, "Optimisation", "Weight decay.", NON_NEGATIVE, flag="--wd")
    decay_norms: bool = setting(
        True, "Optimisation", "Decay biases and the parameters of norms too, as the paper does."
    )
    clip_norm: float | None = setting(None, "Optimisation", "Largest norm of the gradient; off if not given.", POSITIVE)
    ema: float | None = setting(
        None,
        "Optimisation",
        "Decay of a running mean of the weights, which is then the result; off if not given.",
        BELOW_ONE,
    )
    backbone: str | None = setting(
        None,
        "Optimisation",
        "File of a classifier's weights that a detector's backbone starts from: trained.pt, or a state_dict.",
    )


@dataclass(frozen=True)
class TeacherSettings:
    """Distillation from another network."""

    teacher: str | None = setting(
        None,
        "Distillation",
        "Learn what this network says, too: a file that gradaug train, netslim convert or netslim extract wrote.",
        runtime=True,
    )
    teacher_weight: float = setting(
        TEACHER_WEIGHT, "Distillation", "Share of its answers in the loss; the labels have the rest.", ranges.SHARE
    )
    teacher_temperature: float = setting(
        TEACHER_TEMPERATURE,
        "Distillation",
        "Temperature that both answers are compared at (Hinton et al. 2015).",
        POSITIVE,
    )


@dataclass(frozen=True)
class RegularizerSettings:
    """Which regularisers, and how strong."""

    regularizers: tuple[str, ...] = setting(
        (), "Regularisation", f"Any of {', '.join(REGULARIZERS)}.", some_of(*REGULARIZERS)
    )
    label_smoothing: float = setting(
        0.0, "Regularisation", "Share of a label that is spread over all classes.", BELOW_ONE
    )
    mix_probability: float = setting(
        1.0, "Regularisation", "Share of the batches that Mixup or CutMix mixes.", ranges.SHARE
    )
    mixup_alpha: float = setting(1.0, "Regularisation", "Mixup: parameter of the Beta distribution.", POSITIVE)
    cutmix_alpha: float = setting(1.0, "Regularisation", "CutMix: parameter of the Beta distribution.", POSITIVE)
    cutout_size: float = setting(0.5, "Regularisation", "Cutout: side of the hole as a share of the image's.", RATIO)
    drop_rate: float = setting(
        0.2,
        "Regularisation",
        "Stochastic depth, DropPath, ShakeDrop: chance to drop the last block, linear from 0.",
        BELOW_ONE,
    )
    dropblock_rate: float = setting(
        0.1, "Regularisation", "DropBlock: share of the features that is dropped, reached at the end.", BELOW_ONE
    )
    dropblock_size: int = setting(7, "Regularisation", "DropBlock: side of a dropped square in feature pixels.", COUNT)


@dataclass(frozen=True)
class RunSettings:
    """Where and how exactly it runs."""

    seed: int = setting(0, "Run", "The run is a function of it (on CPU bit for bit).", NATURAL)
    calibration_batches: int = setting(
        16, "Run", "Training batches that re-estimate a sub-network's batch norm.", COUNT
    )
    validate_every: int = setting(
        1, "Run", "Epochs between validations, and their checkpoints; the last epoch has both.", COUNT
    )
    amp: str = setting(
        "none", "Run", "Mixed precision: bf16, or fp16 with a loss scaler.", one_of("none", "bf16", "fp16")
    )
    channels_last: bool | None = setting(
        None, "Run", "Keep images and weights in channels_last memory format.  [default: if the network runs that way]"
    )
    compile: bool = setting(False, "Run", "Compile the network with torch.compile.")
    sync_bn: bool = setting(False, "Run", "Batch norm of the full network over the batches of all processes.")
    sync: str = setting(
        "flat",
        "Run",
        "Exchange of gradients: after the last pass (flat), or DistributedDataParallel's during its backward (ddp).",
        one_of("flat", "ddp"),
    )
    subnets_per_rank: bool = setting(False, "Run", "Every process draws sub-networks of its own.")
    dist_timeout: float = setting(
        600.0,
        "Run",
        "Seconds that a process waits for the others, longer than the first batch or a checkpoint takes any of them.",
        _PATIENCE,
        runtime=True,
    )
    device: str = setting("auto", "Run", "Where to compute: auto, cpu, cuda, cuda:1, ...", runtime=True)
    workers: int = setting(
        0, "Run", "Processes that prepare images; the result does not depend on it.", NATURAL, runtime=True
    )
    checkpoint_every: int | None = setting(
        None, "Run", "Steps between checkpoints within an epoch; every epoch ends with one.", COUNT, runtime=True
    )
    trackers: tuple[str, ...] = setting(
        (),
        "Run",
        f"Who gets the run's figures too, any of {', '.join(TRACKERS)}; TensorBoard does wherever it is installed.",
        some_of(*TRACKERS),
        runtime=True,
    )
