"""Two processes of one run (gloo on the CPU): what each of them does, and how a test gets their answers."""

from __future__ import annotations

import copy
import functools
import os
import socket
import tempfile
import unittest.mock
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import gradaug
import netslim
from gradaug import data
from gradaug.distributed import processes as sync
from gradaug.distributed.batch_norm import synchronised_norms
from gradaug.subnets.sampler import Draw
from gradaug.training.folder import RunFolder
from gradaug.training.run import Run

MODES = ("randwidth", "randdepth", "both")


class Blocks(nn.Module):
    """Three residual blocks between a stem and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.bodies = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(8, 12, 3, padding=1, bias=False),
                nn.BatchNorm2d(12),
                nn.ReLU(),
                nn.Conv2d(12, 8, 3, padding=1, bias=False),
                nn.BatchNorm2d(8),
            )
            for _ in range(3)
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for body in self.bodies:
            x = torch.relu(x + body(x))
        return self.head(x.mean((2, 3)))


class Digitals(nn.Module):
    """For 8x8 digits: small, with dropout, a residual block and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.drop((x + self.body(x)).relu().mean((2, 3))))


def network(frozen_norms: bool = True) -> netslim.SlimNet:
    """In double precision, the same in every process."""
    return doubled(_converted(), frozen_norms)


def doubled(net: netslim.SlimNet, frozen_norms: bool) -> netslim.SlimNet:
    """A copy in double precision, training, its batch norms frozen or not."""
    net = copy.deepcopy(net).double().train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(not frozen_norms)
    return net


@functools.cache
def _converted() -> netslim.SlimNet:
    torch.manual_seed(2)
    return netslim.convert(Blocks(), torch.randn(2, 1, 12, 12))


def batch(step: int = 0, count: int = 8) -> tuple[Tensor, Tensor]:
    """The joined batch of all processes."""
    generator = torch.Generator().manual_seed(100 + step)
    images = torch.randn(count, 1, 12, 12, dtype=torch.float64, generator=generator)
    return images, torch.randint(5, (count,), generator=generator)


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def step_of(mode: str, net: netslim.SlimNet, **options: Any) -> gradaug.GradAug:
    return gradaug.GradAug(net, mode, alpha=0.5, survival=0.3, round_to=1, resolutions=(12, 9), seed=4, **options)


def one_step(mode: str, frozen_norms: bool, draws: tuple[Draw, ...] | None = None) -> dict[str, Tensor]:
    """Gradients of one step on this process's part of the batch, averaged over the processes."""
    net, world = network(frozen_norms), sync.current()
    mine = slice(world.rank, None, world.size)
    images, labels = batch()
    with synchronised_norms():
        step_of(mode, net).backward(images[mine], labels[mine], draws)
    sync.average_gradients(net.parameters())
    return gradients(net) | ({} if frozen_norms else dict(net.named_buffers()))


def many_steps(mode: str, steps: int = 20, **options: Any) -> tuple[dict[str, Tensor], int]:
    """Parameters after so many steps from different weights per process, and the exchanges of gradients."""
    net, world = network(), sync.current()
    with torch.no_grad():
        net.head.bias += world.rank  # type: ignore[union-attr]
    sync.share_state(net)
    ga = step_of(mode, net, **options)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    count, reduce = 0, dist.all_reduce

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return reduce(*args, **kwargs)

    dist.all_reduce = counted
    for step in range(steps):
        images, labels = (t[world.rank :: world.size] for t in batch(step))
        optimizer.zero_grad()
        ga.backward(images, labels)
        sync.average_gradients(net.parameters())
        optimizer.step()
    dist.all_reduce = reduce
    return dict(net.named_parameters()), count


LAST_SKIPS = (Draw(skip=()), Draw(skip=("bodies.1",)), Draw(skip=("bodies.0", "bodies.1")))
"""A block that earlier passes used and that no process uses in the last."""


def answers() -> dict[str, Any]:
    """Everything that the tests ask of one process."""
    found: dict[str, Any] = {}
    for mode in MODES:
        found[f"gradients {mode}"] = one_step(mode, frozen_norms=True)
        found[f"steps {mode}"] = many_steps(mode)
    found["last pass skips"] = one_step("randdepth", True, LAST_SKIPS)
    found["own sub-networks"] = many_steps("both", rank=sync.current().rank)
    found["norms"] = one_step("randwidth", frozen_norms=False)
    found["unused"] = unused()
    found["figures"] = figures()
    found["means"] = means()
    found["exchanges"] = exchanges()
    found["steps by GradAug"] = steps_by_gradaug()
    found["running mean"] = running_mean()
    found["taught"] = taught()
    return found


def figures() -> list[list[float]]:
    """Sums of figures that half or single precision, or a sum in them, would spoil."""
    half = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    half.grad = torch.ones_like(half)
    rank = sync.current().rank
    given = [257.0, 16777217.0, 65504.0, 0.1, float("inf") if rank else 1.0]
    return [
        sync.average_gradients([half], torch.tensor(given, dtype=torch.float64)).tolist(),
        sync.average_gradients([], torch.tensor([1.0 + rank])).tolist(),
        sync.average_gradients([nn.Parameter(torch.zeros(2), requires_grad=False)], torch.tensor([3])).tolist(),
        sync.average_gradients([half], torch.tensor([40000.0], dtype=torch.float16)).tolist(),
    ]


def means() -> list[Any]:
    """Mean gradients of parameters in several dtypes, which a sum in half precision would spoil."""
    found = []
    for dtype, value in (
        (torch.float16, 60000),
        (torch.bfloat16, 257),
        (torch.complex64, 1 + 2j),
        (torch.float64, 0.1),
    ):
        parameter = nn.Parameter(torch.zeros(2, 2, dtype=dtype).to(memory_format=torch.contiguous_format).t())
        parameter.grad = torch.full_like(parameter, value)
        parameter.grad[0, 1] = sync.current().rank
        found.append(parameter)
    sync.average_gradients(found)
    return [parameter.grad.tolist() for parameter in found if parameter.grad is not None]


def exchanges() -> int:
    """How many there are for gradients in three dtypes and figures."""
    parameters = [nn.Parameter(torch.zeros(2, dtype=dtype)) for dtype in (torch.float16, torch.float32, torch.bfloat16)]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    with unittest.mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce) as counted:
        sync.average_gradients(parameters, torch.ones(5))
    return counted.call_count


def steps_by_gradaug() -> dict[str, Tensor]:
    """Parameters after steps that GradAug takes as a whole."""
    net, world = network(), sync.current()
    ga, optimizer = step_of("both", net), torch.optim.SGD(net.parameters(), lr=0.05)
    for step in range(3):
        ga.step(*(t[world.rank :: world.size] for t in batch(step)), optimizer)
    return dict(net.named_parameters())


def running_mean() -> dict[str, Any]:
    """Buffers of an EMA after validation, the score, and that of all images."""
    torch.manual_seed(5)
    net = netslim.convert(Digitals(), torch.randn(2, 1, 8, 8), prove=False)
    config = gradaug.TrainConfig("none", batch_size=96, ema=0.5, device="cpu", lr=0.05)
    run = Run(net, config, RunFolder(Path("nowhere")), None, sync.current())
    batches, tally = run.batches(), run.tally()
    for _ in range(3):
        run.net.train()
        run.backward(batches, tally, stop=False)
        run.update()
    shared = run.validate()
    return {
        "buffers": dict(run.result.named_buffers()),
        "shared": asdict(shared),
        "alone": asdict(gradaug.score(run.result, data.evaluation_batches(run.source.validation))),
    }


def taught(teacher: bool = True) -> dict[str, Tensor]:
    """The network of a run after three steps under a teacher that comes from a file."""
    torch.manual_seed(5)
    model = Digitals()
    model.drop = nn.Identity()
    net, large = (netslim.convert(each, torch.randn(2, 1, 8, 8), prove=False) for each in (model, Digitals()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.pt"
        netslim.save(large, path)
        config = gradaug.TrainConfig(
            "randwidth", batch_size=96, device="cpu", lr=0.05, round_to=1, resolutions=(8,), sync_bn=True,
            teacher=str(path) if teacher else None,
        )  # fmt: skip
        run = Run(net, config, RunFolder(Path("nowhere")), None, sync.current())
    batches, tally = run.batches(), run.tally()
    run.net.train()
    with synchronised_norms():
        for _ in range(3):
            run.backward(batches, tally, stop=False)
            run.update()
    return dict(run.net.state_dict())


def unused() -> list[Any]:
    """Gradients of three parameters: used by all, by one process, by none."""
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad = torch.full((2,), 1.0 + sync.current().rank)
    if sync.current().main:
        parameters[1].grad = torch.full((2,), 4.0)
    figures = sync.average_gradients(parameters, torch.tensor([1.0, 10.0 * sync.current().rank]))
    return [None if p.grad is None else p.grad.tolist() for p in parameters] + [figures.tolist()]


def _process(rank: int, size: int, port: int, folder: str, work: Callable[[], Any]) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="localhost", MASTER_PORT=str(port)
    )
    with sync.joined(cuda=False):
        torch.save(work(), Path(folder) / f"{rank}.pt")


def in_processes(size: int, folder: Path, work: Callable[[], Any]) -> list[Any]:
    """What `work`, a function of this module, gives in each of `size` processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_process, (size, port, str(folder), work), nprocs=size)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]
