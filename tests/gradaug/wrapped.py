"""What two processes do with DistributedDataParallel around the network, beside the mean that one process works out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DataParallel, DistributedDataParallel

import gradaug
import netslim
from gradaug.distributed import processes as sync
from gradaug.distributed.reduction import Reduction
from gradaug.subnets.sampler import Draw
from gradaug.training.folder import RunFolder
from gradaug.training.run import Run
from netslim.errors import InputError
from netslim.versions import COMPILES

from .processes import LAST_SKIPS, MODES, Blocks, Digitals, batch, doubled, step_of

NORMS = {"frozen norms": True, "live norms": False}
WRAPPERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "looking": {"find_unused_parameters": True},
    "views": {"gradient_as_bucket_view": True},
    "small buckets": {"bucket_cap_mb": 1e-4},
    "looking views": {"find_unused_parameters": True, "gradient_as_bucket_view": True},
}
ONLY_WHAT_IS_FROZEN = (Draw(0.5), Draw(skip=("bodies.0", "bodies.1", "bodies.2")))


class Spare(Blocks):
    """With a layer that forward never uses, and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)
        self.stem.bias.requires_grad_(False)  # type: ignore[union-attr]


def network(frozen_norms: bool = True) -> netslim.SlimNet:
    return doubled(_built(), frozen_norms)


@functools.cache
def _built() -> netslim.SlimNet:
    torch.manual_seed(2)
    return netslim.convert(Spare(), torch.randn(2, 1, 12, 12), prove=False)


def parts(step: int, rank: int, accumulate: int = 1) -> list[tuple[Tensor, Tensor]]:
    """What a process sees in a step."""
    images, labels = batch(step)
    return [(images[i::2][k::accumulate], labels[i::2][k::accumulate]) for i in (rank,) for k in range(accumulate)]


Draws = Callable[[int, int], tuple[Draw, ...] | None]
"""Of a step and a process."""


def sampled(*_: int) -> None:
    return None


def optimizer_of(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)


def expected(net: netslim.SlimNet, mode: str, steps: int, draws: Draws = sampled, **options: Any) -> list[Any]:
    """The gradients of every step, and the weights at last, of one process that takes the mean over both's batches."""
    optimizer, found = optimizer_of(net), []
    own = options.pop("own", False)
    steppers = [step_of(mode, net, rank=rank if own else 0, **options) for rank in range(2)]
    for step in range(steps):
        every = []
        for rank, ga in enumerate(steppers):
            net.zero_grad()
            for images, labels in parts(step, rank, options.get("accumulate", 1)):
                ga.backward(images, labels, draws(step, rank))
            every.append({name: p.grad for name, p in net.named_parameters()})
        for name, parameter in net.named_parameters():
            each = [gradient for one in every if (gradient := one[name]) is not None]
            parameter.grad = sum(each[1:], start=each[0]) / 2 if each else None
        found.append(gradients(net))
        optimizer.step()
    return [*found, weights(net)]


def given(
    net: netslim.SlimNet, ga: gradaug.GradAug, steps: int, draws: Draws = sampled
) -> list[dict[str, Tensor | None]]:
    """The same from this process's part, through the wrapper that `ga` was given."""
    optimizer, found, rank = optimizer_of(net), [], sync.current().rank
    for step in range(steps):
        optimizer.zero_grad()
        for images, labels in parts(step, rank, ga.accumulate):
            ga.backward(images, labels, draws(step, rank))
        found.append(gradients(net))
        optimizer.step()
    return [*found, weights(net)]


def gradients(net: nn.Module) -> dict[str, Tensor | None]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in net.named_parameters()}


def weights(net: nn.Module) -> dict[str, Tensor | None]:
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def pair(
    mode: str,
    wrapper: dict[str, Any] | None = None,
    frozen_norms: bool = True,
    draws: Draws = sampled,
    steps: int = 2,
    **options: Any,
) -> tuple[Any, Any]:
    """What comes out with DDP, and what should."""
    net, twin = network(frozen_norms), network(frozen_norms)
    own = options.get("own", False)
    mine = {name: value for name, value in options.items() if name != "own"}
    ddp = DistributedDataParallel(net, **(wrapper or {}))
    ga = step_of(mode, ddp, rank=sync.current().rank if own else 0, **mine)  # type: ignore[arg-type]
    return given(net, ga, steps, draws), expected(twin, mode, steps, draws, **options)


def answers() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for mode in ("none", *MODES):
        for norms, frozen in NORMS.items():
            found[f"{mode}, {norms}"] = pair(mode, frozen_norms=frozen)
    for name, wrapper in WRAPPERS.items():
        found[f"{name}, last pass skips"] = pair("randdepth", wrapper, steps=2, draws=lambda *_: LAST_SKIPS)
        found[f"{name}, in parts"] = pair("both", wrapper, steps=2, accumulate=2, own=True)
    found["steps"] = steps()
    found["scaled"] = scaled()
    found["frozen"] = [little(looks) for looks in (False, True)]
    found["other ways"] = other_ways()
    found["further"] = [further(first) for first in (True, False)]
    found["compressed"] = compressed()
    found["overlap"] = overlap()
    found["buffers"] = buffers()
    found["runs"] = runs()
    found["said"] = said()
    return found


def steps() -> tuple[Any, Any]:
    """Weights after GradAug.step, in parts."""
    net, rank = network(), sync.current().rank
    ga, optimizer = step_of("both", DistributedDataParallel(net), accumulate=2), optimizer_of(net)  # type: ignore[arg-type]
    for step in range(3):
        for images, labels in parts(step, rank, 2):
            ga.step(images, labels, optimizer)
    return [weights(net)], expected(network(), "both", 3, accumulate=2)[-1:]


def scaled() -> tuple[Any, Any]:
    """Weights where a scaler stands around a loop's own step, and the scales that it comes to after an overflow."""
    net, rank = network(), sync.current().rank
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    ga, optimizer = step_of("both", DistributedDataParallel(net), scaler=scaler), optimizer_of(net)  # type: ignore[arg-type]
    for step in range(3):
        optimizer.zero_grad()
        ga.backward(*parts(step, rank)[0])
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    good = weights(net)
    optimizer.zero_grad()
    (images, labels), before = parts(0, rank)[0], weights(net)
    ga.backward(images * (float("inf") if rank else 1.0), labels)
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(value, before[name]) for name, value in weights(net).items())  # type: ignore[arg-type]
    return [good, {"scale": torch.tensor(scaler.get_scale())}], [
        *expected(network(), "both", 3)[-1:],
        {"scale": torch.tensor(32.0)},
    ]


def little(looks: bool) -> tuple[Any, Any]:
    """Where the last pass holds nothing that is trained."""
    pairs = []
    for make in (network, network):
        net = make()
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name.startswith("bodies"))
        pairs.append(net)
    net, twin = pairs
    ga = step_of("both", DistributedDataParallel(net, find_unused_parameters=looks))  # type: ignore[arg-type]
    draws = lambda *_: ONLY_WHAT_IS_FROZEN  # noqa: E731
    return given(net, ga, 2, draws), expected(twin, "both", 2, draws)


class Around(nn.Module):
    """A person's module that the converted network is a part of."""

    def __init__(self, net: netslim.SlimNet) -> None:
        super().__init__()
        self.net, self.gain = net, nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images) * self.gain


def other_ways() -> list[tuple[Any, Any]]:
    """Handed in as forward, around torch.compile and inside it, and around a module that holds the network."""
    wanted, found = expected(network(), "randdepth", 1), []

    def tried(make: Callable[[netslim.SlimNet], gradaug.GradAug]) -> None:
        net = network()
        found.append((given(net, make(net), 1), wanted))

    def ga(*given: Any, **options: Any) -> gradaug.GradAug:
        return step_of("randdepth", *given, **options)

    tried(lambda net: ga(net, forward=DistributedDataParallel(net)))
    tried(lambda net: ga(DistributedDataParallel(net), forward=net))
    tried(lambda net: ga(DistributedDataParallel(_compiled(net))))
    tried(lambda net: ga(_compiled(DistributedDataParallel(net))))
    tried(lambda net: ga(net, forward=DistributedDataParallel(Around(net))))
    return found


def _compiled(model: nn.Module) -> Any:
    """By torch.compile, with a compiler that hands every graph back as it is; the model itself where that fails."""
    return torch.compile(model, backend=lambda graph, _: graph.forward) if COMPILES else model


def further(first: bool) -> tuple[Any, Any]:
    """With a loss of one's own, before the step's passes or after them."""
    found = []
    for wrapped in (True, False):
        net = network()
        ga = step_of("both", DistributedDataParallel(net) if wrapped else net)  # type: ignore[arg-type]
        total: dict[str, Any] = {}
        for rank in [sync.current().rank] if wrapped else range(2):
            net.zero_grad()
            ga.steps = 0
            images, labels = parts(0, rank)[0]
            if first:
                ga.accumulate_loss(net(images).square().mean())
            ga.backward(images, labels)
            if not first:
                ga.accumulate_loss(net(images).square().mean())
            share = 1 if wrapped else 2
            for name, gradient in gradients(net).items():
                more = None if gradient is None else gradient / share
                total[name] = more if total.get(name) is None else total[name] + more
        found.append([total])
    return found[0], found[1]


def compressed() -> tuple[Any, Any]:
    """Gradients that travel in bfloat16."""
    net = network()
    ddp = DistributedDataParallel(net)
    ddp.register_comm_hook(None, bf16_compress_hook)
    return given(net, step_of("both", ddp), 1)[:1], expected(network(), "both", 1)[:1]  # type: ignore[arg-type]


def overlap() -> list[list[str]]:
    """What happened in each of two steps: gradients that reached the stem, and buckets that were sent."""
    net, events = network(), []
    ddp = DistributedDataParallel(net, bucket_cap_mb=1e-4)

    def sent(bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        events.append(f"bucket {bucket.index()}")
        done: torch.futures.Future[list[Tensor]] = dist.all_reduce(bucket.buffer().div_(2), async_op=True).get_future()
        return done.then(lambda future: future.value()[0])

    ddp.register_comm_hook(None, lambda _, bucket: sent(bucket))
    net.get_parameter("stem.weight").register_post_accumulate_grad_hook(lambda _: events.append("stem"))
    ga, every = step_of("both", ddp), []  # type: ignore[arg-type]
    for step in range(2):
        net.zero_grad()
        ga.backward(*parts(step, sync.current().rank)[0])
        every.append(list(events))
        events.clear()
    return every


def buffers() -> dict[str, Tensor]:
    """Running statistics of a network in training mode, at the beginning of a further step."""
    net, rank = network(frozen_norms=False), sync.current().rank
    ga = step_of("both", DistributedDataParallel(net))  # type: ignore[arg-type]
    for step in range(2):
        ga.backward(*parts(step, rank)[0])
    seen: dict[str, Tensor] = {}
    mean = net.get_submodule("bodies.0.1").running_mean
    assert isinstance(mean, Tensor)
    net.get_submodule("stem").register_forward_pre_hook(lambda *_: seen.update(mean=mean.clone()) if not seen else None)
    ga.backward(*parts(2, rank)[0])
    return seen


def runs() -> tuple[Any, Any]:
    """Weights after steps of `gradaug train --sync ddp`, and of the flat exchange; with their figures."""
    found = []
    for exchange in ("ddp", "flat"):
        torch.manual_seed(5)
        net = netslim.convert(Digitals(), torch.randn(2, 1, 8, 8), prove=False)
        config = gradaug.TrainConfig("both", batch_size=96, accumulate=2, sync=exchange, device="cpu", lr=0.05)
        run = Run(net, config, RunFolder(Path("nowhere")), None, sync.current())
        batches, tally = run.batches(), run.tally()
        run.net.train()
        figures = []
        for _ in range(3):
            figures.append(run.backward(batches, tally, stop=False))
            run.update()
        found.append([weights(run.net) | {"figures": torch.stack(figures)}])
    return found[0], found[1]


def said() -> dict[str, str]:
    """What is said to those who hand in something else."""
    found = {}

    def tried(name: str, work: Callable[[], object]) -> None:
        try:
            work()
            found[name] = "fine"
        except InputError as error:
            found[name] = str(error)

    net = network()
    ddp = DistributedDataParallel(net)
    images, labels = parts(0, sync.current().rank)[0]
    ga = step_of("both", ddp)  # type: ignore[arg-type]
    tried("wrapper", lambda: ga.backward(images, labels))
    tried("bare", lambda: step_of("both", net))
    tried("compiled", lambda: step_of("both", net, forward=_compiled(net)))
    tried("function", lambda: step_of("both", net, forward=lambda x: ddp(x)))
    tried("another's", lambda: step_of("both", network(), forward=ddp))
    net.get_parameter("head.bias").requires_grad_(False)
    tried("frozen later", lambda: ga.backward(images, labels))
    net.get_parameter("head.bias").requires_grad_(True)
    with ddp.join():
        tried("joined", lambda: Reduction(ddp, ddp).aside(torch.zeros((), requires_grad=True)))
    static = DistributedDataParallel(network(), static_graph=True)
    tried("static", lambda: step_of("both", static))  # type: ignore[arg-type]
    tried("copies", lambda: step_of("both", DataParallel(network())))  # type: ignore[arg-type]
    tried("no network", lambda: step_of("both", DistributedDataParallel(nn.Linear(2, 2))))  # type: ignore[arg-type]
    late = step_of("both", network())
    wrapper = DistributedDataParallel(nn.Sequential(late.net))
    tried("later", lambda: late.backward(images, labels))
    tried("later, in a loop", lambda: next(late.losses(images, labels)))
    del wrapper
    tried("left", lambda: late.backward(images, labels))
    turned = step_of("both", DistributedDataParallel(network()))  # type: ignore[arg-type]
    begun = step_of("both", DistributedDataParallel(network()))  # type: ignore[arg-type]
    next(begun.losses(images, labels))  # given up before any gradient, as where it is not finite
    tried("left at once", lambda: next(begun.losses(images, labels)).backward())
    tried("left then", lambda: begun.backward(images, labels))
    tried("left before", lambda: begun.backward(images, labels))
    tried("last first", lambda: [loss.backward() for loss in reversed(list(turned.losses(images, labels)))])
    return found
