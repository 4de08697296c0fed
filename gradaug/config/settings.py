"""Every setting of a training run, once: name, default, meaning, legal range, section.

The command line builds its options from this table, recipes fill it in, a checkpoint stores it, and ``--resume``
compares it, so a setting is described nowhere else. Importing this file does not import torch.

Sources: PAPER = Yang, Zhu, Chen, "GradAug", NeurIPS 2020 (arXiv 2006.07989); defaults are its CIFAR settings where
it gives one (WRN-28-10: learning rate 0.1 cosine, Nesterov momentum 0.9, weight decay 5e-4, alpha 0.8, n = 3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradaug.config import kinds, ranges
from gradaug.config.ranges import BELOW_ONE, COUNT, NATURAL, NON_NEGATIVE, POSITIVE, RATIO, at_least, one_of, some_of
from netslim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

MODES = ("randwidth", "randdepth", "both", "none")
TASKS = ("classification", "segmentation")
MIXERS = ("cutout", "mixup", "cutmix")
DROPPERS = ("dropblock", "stochastic-depth", "droppath", "shakedrop")
VIEWS = ("rotation", "crop", "color", "randaugment", "cutmix", "cutout")
AUTOMATIC = ("round_to", "resolutions", "channels_last")
"""Settings whose None is a choice left to the network and the machine; every other None means "not used"."""

_SIDES = ranges.each("a list of image sides in pixels, such as 32,28,24", lambda side: side >= 1)
_EPOCHS = ranges.each("a list of epochs, such as 150,225", lambda epoch: epoch >= 1)


def _setting(
    default: Any,
    section: str,
    meaning: str,
    legal: ranges.Range = ranges.ANYTHING,
    flag: str = "",
    runtime: bool = False,
) -> Any:
    """A field with its description. A `runtime` setting is about where to run, not what: a resume may change it."""
    described = {"section": section, "help": meaning, "range": legal, "flag": flag, "runtime": runtime}
    return dataclasses.field(default=default, metadata=described)


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one run, checked when built (:class:`netslim.errors.InputError` names the setting and its range).

    ``None`` means "chosen from the network and the hardware" for those in AUTOMATIC, which
    :func:`gradaug.training.loop.resolve` fills in, and "not used" for the others.
    """

    mode: str = _setting(
        "randwidth",
        "GradAug",
        "Sub-networks: random width, random depth, both, or none (plain training).",
        one_of(*MODES),
    )
    num_subnets: int = _setting(
        3,
        "GradAug",
        "Sub-networks per step; with random width the smallest is always among them.",
        at_least(1, "(--mode none trains without sub-networks)"),
    )
    alpha: float = _setting(0.8, "GradAug", "Smallest width of a sub-network, in (0, 1].", RATIO)
    widths: str = _setting(
        "uniform",
        "GradAug",
        "One width for a whole sub-network, or one for every channel group.",
        one_of("uniform", "per-group"),
    )
    round_to: int | None = _setting(
        None,
        "GradAug",
        "Widths are multiples of this many channels; 1 is the paper.  [default: what the hardware runs best]",
        at_least(1, "channel"),
    )
    survival: float = _setting(0.8, "GradAug", "Random depth: chance to keep the last block.", RATIO)
    survival_first: float = _setting(
        1.0, "GradAug", "Random depth: chance to keep the first block; linear in between.", RATIO
    )
    skip_blocks: int | None = _setting(
        None, "GradAug", "Random depth: leave out exactly this many blocks, all equally likely.", NATURAL
    )
    stage_limit: int | None = _setting(
        None, "GradAug", "Random depth: leave out at most this many blocks of one stage.", NATURAL
    )
    scale_residuals: bool = _setting(
        False, "GradAug", "Evaluate with each block's result times its chance to be kept, as the paper's code does."
    )
    track_stats: bool = _setting(
        False, "GradAug", "Sub-networks update running statistics too, as the paper's random-depth code does."
    )
    resolutions: tuple[int, ...] | None = _setting(
        None,
        "GradAug",
        "Image sides for the sub-networks, e.g. 32,28,24.  [default: the full side, 7/8 and 3/4 of it]",
        _SIDES,
    )
    views: tuple[str, ...] = _setting(
        (), "GradAug", f"Further transforms of a sub-network's images: {', '.join(VIEWS)}.", some_of(*VIEWS)
    )
    divergence: str = _setting(
        "kl",
        "GradAug",
        "What ties a sub-network to the full network: kl, or alpha (AlphaNet's).",
        one_of("kl", "alpha"),
    )
    temperature: float = _setting(1.0, "GradAug", "Temperature of that loss; the paper has none (1).", POSITIVE)
    subnet_weight: float = _setting(1.0, "GradAug", "Weight of each sub-network's loss.", NON_NEGATIVE)

    task: str = _setting("classification", "Data", "What is learned: a class an image, or one a pixel.", one_of(*TASKS))
    data: str = _setting(
        "digits", "Data", "Images: digits, digit-masks, cifar10:DIR, cifar100:DIR, stl10:DIR, folder:DIR, synthetic."
    )
    labels: int | None = _setting(
        None, "Data", "Use this many labels only, as many of each class; the other images are unlabelled.", COUNT
    )
    augment: str = _setting(
        "standard",
        "Data",
        "Augmentation: the data set's own, the paper's ImageNet one (needs folders), or none.",
        one_of("standard", "color", "none"),
    )
    semi: str = _setting(
        "none",
        "Data",
        "Use of unlabelled images: none, gradaug (sub-network losses), or mean-teacher.",
        one_of("none", "gradaug", "mean-teacher"),
    )
    unlabelled_batch: int | None = _setting(
        None, "Data", "Unlabelled images per step.  [default: as many as labelled ones]", COUNT
    )
    teacher_decay: float = _setting(0.99, "Data", "Mean teacher: decay of its weights.", BELOW_ONE)
    consistency: float = _setting(
        100.0, "Data", "Mean teacher: weight of its loss, reached after a fifth of the epochs.", NON_NEGATIVE
    )

    epochs: int = _setting(15, "Optimisation", "Passes over the training images.", COUNT)
    batch_size: int = _setting(64, "Optimisation", "Images per optimizer step, over all processes.", COUNT)
    accumulate: int = _setting(1, "Optimisation", "Parts that a batch is computed in, one after another.", COUNT)
    lr: float = _setting(0.1, "Optimisation", "Peak learning rate.", POSITIVE)
    schedule: str = _setting(
        "cosine",
        "Optimisation",
        "Learning rate: cosine to zero, divided by 10 at --milestones, or constant.",
        one_of("cosine", "step", "constant"),
    )
    milestones: tuple[int, ...] | None = _setting(
        None, "Optimisation", "Epochs after which the step schedule divides by 10.", _EPOCHS
    )
    warmup: float = _setting(0.0, "Optimisation", "Epochs of linear warm-up.", NON_NEGATIVE)
    momentum: float = _setting(0.9, "Optimisation", "Nesterov momentum.", BELOW_ONE)
    weight_decay: float = _setting(5e-4, "Optimisation", "Weight decay.", NON_NEGATIVE, flag="--wd")
    decay_norms: bool = _setting(
        True, "Optimisation", "Decay biases and the parameters of norms too, as the paper does."
    )
    clip_norm: float | None = _setting(
        None, "Optimisation", "Largest norm of the gradient; off if not given.", POSITIVE
    )
    ema: float | None = _setting(
        None,
        "Optimisation",
        "Decay of a running mean of the weights, which is then the result; off if not given.",
        BELOW_ONE,
    )

    regularizers: tuple[str, ...] = _setting(
        (), "Regularisation", f"Any of {', '.join((*MIXERS, *DROPPERS))}.", some_of(*MIXERS, *DROPPERS)
    )
    label_smoothing: float = _setting(
        0.0, "Regularisation", "Share of a label that is spread over all classes.", BELOW_ONE
    )
    mix_probability: float = _setting(
        1.0, "Regularisation", "Share of the batches that Mixup or CutMix mixes.", ranges.SHARE
    )
    mixup_alpha: float = _setting(1.0, "Regularisation", "Mixup: parameter of the Beta distribution.", POSITIVE)
    cutmix_alpha: float = _setting(1.0, "Regularisation", "CutMix: parameter of the Beta distribution.", POSITIVE)
    cutout_size: float = _setting(0.5, "Regularisation", "Cutout: side of the hole as a share of the image's.", RATIO)
    drop_rate: float = _setting(
        0.2,
        "Regularisation",
        "Stochastic depth, DropPath, ShakeDrop: chance to drop the last block, linear from 0.",
        BELOW_ONE,
    )
    dropblock_rate: float = _setting(
        0.1, "Regularisation", "DropBlock: share of the features that is dropped, reached at the end.", BELOW_ONE
    )
    dropblock_size: int = _setting(7, "Regularisation", "DropBlock: side of a dropped square in feature pixels.", COUNT)

    seed: int = _setting(0, "Run", "The run is a function of it (on CPU bit for bit).", NATURAL)
    calibration_batches: int = _setting(
        16, "Run", "Training batches that re-estimate a sub-network's batch norm.", COUNT
    )
    validate_every: int = _setting(
        1, "Run", "Epochs between validations, and their checkpoints; the last epoch has both.", COUNT
    )
    amp: str = _setting(
        "none", "Run", "Mixed precision: bf16, or fp16 with a loss scaler.", one_of("none", "bf16", "fp16")
    )
    channels_last: bool | None = _setting(
        None, "Run", "Keep images and weights in channels_last memory format.  [default: if the network runs that way]"
    )
    compile: bool = _setting(False, "Run", "Compile the network with torch.compile.")
    sync_bn: bool = _setting(False, "Run", "Batch norm of the full network over the batches of all processes.")
    subnets_per_rank: bool = _setting(False, "Run", "Every process draws sub-networks of its own.")
    device: str = _setting("auto", "Run", "Where to compute: auto, cpu, cuda, cuda:1, ...", runtime=True)
    workers: int = _setting(
        0, "Run", "Processes that prepare images; the result does not depend on it.", NATURAL, runtime=True
    )
    checkpoint_every: int | None = _setting(
        None, "Run", "Steps between checkpoints within an epoch; every epoch ends with one.", COUNT, runtime=True
    )

    def __post_init__(self) -> None:
        vars(self).update(checked(vars(self)))
        for holds, sentence in _together(self):
            if not holds:
                raise InputError(sentence)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, in the order above."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> TrainConfig:
        """The inverse of :meth:`to_dict`; an unknown name is an InputError that suggests the nearest one."""
        return cls(**checked(settings))


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Each of some settings as its annotated type in plain Python; what they ask of each other is TrainConfig's to say.

    InputError for a name that does not exist, a value of another type, or one out of its range.
    """
    if not isinstance(settings, Mapping):
        raise InputError(f"settings are names with a value each, such as epochs: 3, not {kinds.shown(settings)}")
    for name in settings:
        if name not in TrainConfig.__dataclass_fields__:
            hint = did_you_mean(name, TrainConfig.__dataclass_fields__, 1)
            said = name if isinstance(name, str) and name.isidentifier() else kinds.shown(name)
            raise InputError(f"unknown setting {said}: this version of gradaug does not have it{hint}")
    return {name: read(name, value, flag(name)) for name, value in settings.items()}


def read(name: str, value: Any, called: str) -> Any:
    """One setting as its type in plain Python; InputError, in which it is `called` so, for another type or range."""
    kind, legal = kinds.of_fields(TrainConfig)[name], TrainConfig.__dataclass_fields__[name].metadata["range"]
    try:
        made = kind.read(value)
    except ValueError as error:
        words = kind.words if legal is ranges.ANYTHING else f"{kind.words} ({legal.words})"
        raise InputError(f"{called} must be {words}, not {kinds.shown(value)}") from error
    if made is not None and not legal.holds(made):
        raise InputError(f"{called} must be {legal.words}, not {kinds.shown(made)}")
    return made


def flag(name: str) -> str:
    """The command line's name of a setting."""
    return TrainConfig.__dataclass_fields__[name].metadata["flag"] or "--" + name.replace("_", "-")


def differences(old: TrainConfig, new: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that change what is computed: name -> (old value, new value)."""
    return {
        field.name: (getattr(old, field.name), getattr(new, field.name))
        for field in dataclasses.fields(TrainConfig)
        if not field.metadata["runtime"] and getattr(old, field.name) != getattr(new, field.name)
    }


def _together(config: TrainConfig) -> Iterable[tuple[bool, str]]:
    """What settings ask of each other."""
    yield (
        config.schedule != "step" or config.milestones is not None,
        "--schedule step needs --milestones, such as 150,225",
    )
    yield (
        config.warmup < config.epochs,
        f"--warmup {config.warmup:g} leaves none of the {config.epochs} epochs to train at the full rate",
    )
    yield (
        config.accumulate <= config.batch_size,
        f"--accumulate {config.accumulate} cuts a batch of {config.batch_size} images into parts without images",
    )
    yield (
        not (config.sync_bn and config.subnets_per_rank),
        "--subnets-per-rank gives every process other channels, whose batch norm cannot be shared: leave out --sync-bn",
    )
    yield (
        config.semi != "gradaug" or config.mode != "none",
        "--semi gradaug needs sub-networks: choose another --mode than none",
    )
