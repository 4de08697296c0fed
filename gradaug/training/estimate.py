"""What a run will cost, before it starts: FLOPs and memory of a step, steps, hours at a given speed.

FLOPs are counted by torch on the meta device: no weight is touched, no image needed. A network that stays Python, as a
detector does, is run on random images on the CPU, and finds there what it finds: its numbers are rough. A backward pass
counts as two forwards. Memory is that of one full pass, whose saved tensors are counted, beside weights, gradients and
momentum.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradaug import tasks
from gradaug.config.registry import SOURCES
from gradaug.evaluation.score import CLASSIFICATION
from gradaug.inputs import images_in_example
from gradaug.subnets.parts import part_size
from gradaug.subnets.sampler import Draw, draw
from gradaug.training.resuming import first_step
from netslim import SlimNet, cost
from netslim.ir.inputs import of_one, of_two, tensors_in
from netslim.net.runtime import runtime
from netslim.trace.meta import OneDevice

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig
    from gradaug.subnets.space import Space
    from gradaug.tasks.task import AnyTask

SAMPLED = 8
"""Steps whose sub-networks are counted for the mean."""
IMAGENET = 1_281_167
"""Training images."""


@dataclass(frozen=True)
class Estimate:
    """FLOPs count two for a multiply-add; bytes are those of one process."""

    parameters: int
    plain_flops: float
    """Of a plain step: forward and backward of the full network on the whole batch."""
    step_flops: float
    """The same with the sub-networks, the mean over the steps of the run."""
    memory: float
    """Weights, gradients, momentum, running means, and the saved tensors of one pass, in bytes."""
    steps: int

    @property
    def ratio(self) -> float:
        """Cost of a step in plain steps."""
        return self.step_flops / self.plain_flops

    def hours(self, tflops: float) -> float:
        """Of the whole run at `tflops` TFLOP/s over all processes."""
        return self.steps * self.step_flops / (tflops * 1e12) / 3600

    def to_dict(self) -> dict[str, float]:
        return {**asdict(self), "ratio": self.ratio}


def estimate(
    net: SlimNet, config: TrainConfig, space: Space, images: int, processes: int = 1, teacher: SlimNet | None = None
) -> Estimate:
    """What ``gradaug train`` of `net` with `config`, and a teacher's network, costs on `images` training images."""
    task, images_counted = tasks.of(config), images_in_example(net)
    whole = _count(net, Draw(), task)
    full = whole.flops / images_counted
    always = replace(space, subnet_every=1, subnet_from=0)
    drawn = [one for step in range(SAMPLED) for one in draw(always, config.seed, step)]
    subnets = sum(_count(net, one, task).flops for one in drawn) / images_counted / SAMPLED
    batch = min(config.batch_size, images)
    steps = config.epochs * (images // batch)
    extra = 0
    if config.semi != "none":
        extra = config.unlabelled_batch or batch
    taught = batch + (extra if config.semi == "gradaug" else 0)
    often = replace(space, subnet_from=first_step(config, images // batch)).trained(steps) / steps
    parts = config.accumulate * processes
    seen = taught if config.subnet_share == 1 else parts * part_size(config.subnet_share, taught // parts, task.fewest)
    plain = 3 * full * batch
    passes = plain + often * (3 * full * (taught - batch) + 3 * subnets * seen)
    if config.semi == "mean-teacher":
        passes += 3 * full * extra + full * extra
    if teacher is not None:
        passes += _count(teacher, Draw(), task).flops / images_counted * batch
    copies = 3 + (config.ema is not None) + (config.semi == "mean-teacher")
    held = copies * sum(p.numel() * p.element_size() for p in net.parameters())
    part = max(1, (batch + extra) // parts)
    memory = held + part * saved_bytes(net, task) * (0.5 if config.amp != "none" else 1.0)
    return Estimate(whole.params, plain, passes, memory, steps)


def known_images(config: TrainConfig) -> int:
    """Training images of a run whose data is not there yet: those of the published sets, ImageNet's for folders."""
    row = SOURCES.get(config.data.partition(":")[0])
    return config.labels or (row and row.images) or IMAGENET


def saved_bytes(net: SlimNet, task: AnyTask = CLASSIFICATION) -> float:
    """Bytes that one image's forward keeps for its backward, counted on the meta device."""
    sizes: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)  # alive, so that its storage's number is not given to another
        sizes[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    count = max(2, images_in_example(net))
    copied, given = cost.light(net, of_two(of_one(runtime(net).plan.inputs)))
    copied.train()
    own = {p.untyped_storage()._cdata for p in copied.parameters()}
    with OneDevice(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        task.rehearse(copied, given)
    return sum(size for storage, size in sizes.items() if storage not in own) / count


def _count(net: SlimNet, one: Draw, task: AnyTask) -> cost.Count:
    """A sub-network's parameters, and its forward FLOPs on the example's images at its resolution."""
    chosen = one.sub()
    with task.scaled(net, task.blank(net), None, one.resolution) as (images, _):
        shape, inputs = tuple(images[0].shape), tensors_in(runtime(net).plan.inputs)
        shapes = tuple((2, *shape) if len(one.shape) > len(shape) else shape for one in inputs)
        return cost.count(net, chosen["width"], chosen["depth"], round_to=one.round_to, shapes=shapes)
