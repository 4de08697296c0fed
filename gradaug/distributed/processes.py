"""Several processes as one run: who is who, the same weights everywhere, one exchange of gradients per step.

    with joined("auto") as world:                     # reads torchrun's environment; a world of one without it
        share_state(net)                              # the weights and buffers of rank 0, everywhere
        ...                                           # n backward passes, gradients add up in .grad
        sums = average_gradients(net.parameters(), figures)

One flat all-reduce after all passes is exact whatever parts of the network they used. DistributedDataParallel around
the network exchanges while the last backward runs: :mod:`gradaug.distributed.reduction`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gradaug.errors import TrainingError
from netslim.errors import NetslimError
from netslim.source.sharded import is_spread

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """One process of a run; rank 0 of 1 is a run of its own."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number on its machine, which chooses its GPU."""

    @property
    def main(self) -> bool:
        """Whether it writes the files and speaks."""
        return self.rank == 0


def current(group: dist.ProcessGroup | None = None) -> World:
    """This process among those that have joined, or of a `group` of them."""
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    return World(dist.get_rank(group), dist.get_world_size(group), int(os.environ.get("LOCAL_RANK", "0")))


@contextlib.contextmanager
def joined(cuda: bool, patience: float = 600.0) -> Iterator[World]:
    """Joins the processes that torchrun started (NCCL between GPUs, gloo between CPUs), and leaves them at the end.

    Without torchrun's environment, or where the caller has joined already, nothing happens. `patience`: seconds that
    each waits for the others, now and in every exchange; where they do not come, TrainingError.
    """
    started = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if not (started and dist.is_available()) or dist.is_initialized():
        yield current()
        return
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    with peers():
        _join("cpu:gloo,cuda:nccl" if cuda else "gloo", dt.timedelta(seconds=patience))
    try:
        yield current()
    finally:
        time.sleep(_LETTING_GO)
        dist.destroy_process_group()


_LETTING_GO = 0.1
"""Seconds for gloo's thread to let go of the last exchange's tensors: for that it wants Python's lock, which the end of
a group holds in torch 2.6 while it waits for the thread, for ever."""


def _join(backend: str, timeout: dt.timedelta) -> None:
    store, rank, size = next(iter(dist.rendezvous("env://", timeout=timeout)))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        # The launcher's store outlives a restart, with the addresses of processes that are gone. On one machine all
        # processes count the restarts alike.
        store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)


def restarted() -> bool:
    """Whether torchrun has started this process again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@torch.no_grad()
def share_state(net: nn.Module) -> None:
    """Rank 0's parameters and buffers, in every process."""
    _share([*net.parameters(), *net.buffers()])


@torch.no_grad()
def share_buffers(net: nn.Module) -> None:
    """Rank 0's buffers (running statistics), in every process."""
    _share(list(net.buffers()))


def _own(tensors: Iterable[T]) -> list[T]:
    """Those that each process has for itself; what processes hold together (fully_shard), they also exchange."""
    return [tensor for tensor in tensors if not is_spread(tensor)]


def _share(tensors: list[Tensor]) -> None:
    if current().size == 1:
        return
    for tensor in _own(tensors):
        plain = tensor.detach().to(torch.uint8 if tensor.dtype == torch.bool else tensor.dtype).contiguous().clone()
        with peers():
            dist.broadcast(plain, src=0)
        tensor.copy_(plain)


@torch.no_grad()
def average_gradients(
    parameters: Iterable[nn.Parameter], figures: Tensor | None = None, *, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Puts the mean over the processes into every ``.grad``; returns `figures` (K,), in double, summed over them.

    One all-reduce (one more where some parameters are double, or on another device). Gradients in half precision are
    added up in single, and rounded once. Figures travel as bytes, so that their sum is exact to double. A parameter
    without gradient counts as zeros where another process has one, and stays without where none has; those that
    processes hold together (fully_shard) are left alone, since their gradients are means already. With equal parts
    of a batch in every process the result is the gradient of the joined batch's mean loss. `group`: the processes, all
    if not given.
    """
    figures = exact(torch.zeros(0) if figures is None else figures)
    world = current(group)
    if world.size == 1:
        return figures
    kinds: dict[tuple[torch.device, torch.dtype], list[nn.Parameter]] = {}
    for parameter in _own(parameters):
        if parameter.requires_grad:
            kinds.setdefault((parameter.device, _wide(parameter.dtype)), []).append(parameter)
    sums = figures
    for i, ((device, dtype), alike) in enumerate((kinds or {(figures.device, torch.float32): []}).items()):
        head = _letters(figures, world).to(device, dtype) if i == 0 else torch.zeros(0, device=device, dtype=dtype)
        used = torch.tensor([p.grad is not None for p in alike], device=device, dtype=dtype)
        flat = torch.cat([head, used, *(_real(_gradient(p)).to(dtype).reshape(-1) for p in alike)])
        with peers():
            dist.all_reduce(flat, group=group)
        letters, counts, *means = flat.split([len(head), len(alike), *(_real(p).numel() for p in alike)])
        for parameter, mean, count in zip(alike, means, counts, strict=True):
            if count > 0:
                parameter.grad = _gradient(parameter)
                real = _real(parameter.grad)
                real.copy_(mean.div_(world.size).view_as(real))
        if i == 0:
            sums = _read(letters).to(figures.device).view(world.size, *figures.shape).sum(0)
    return sums


def exact(figures: Tensor) -> Tensor:
    """In double precision, where the device has it."""
    return figures.to(torch.float32 if figures.device.type == "mps" else torch.float64)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """In which real dtype gradients of `dtype` are added up: single, or double for double."""
    return torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32


def _gradient(parameter: nn.Parameter) -> Tensor:
    """Zeros where there is none."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _real(tensor: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _letters(figures: Tensor, world: World) -> Tensor:
    """The bytes of this process's figures (K,) in its row of a table of all processes, flat: sums leave them alone."""
    table = torch.zeros(world.size, 8 * figures.numel(), dtype=torch.uint8, device=figures.device)
    table[world.rank] = figures.double().reshape(-1).view(torch.uint8)
    return table.reshape(-1)


def _read(letters: Tensor) -> Tensor:
    """The figures of all processes, flat, in the order of their ranks."""
    return letters.to(torch.uint8).view(torch.float64)


def gathered(value: T) -> list[T]:
    """`value` of every process, in the order of their ranks."""
    world = current()
    if world.size == 1:
        return [value]
    values: list[Any] = [None] * world.size
    with peers():
        dist.all_gather_object(values, value)
    return values


def from_main(call: Callable[[], T]) -> T:
    """What `call` gives in rank 0, in every process; its NetslimError is raised in every one of them."""
    world = current()
    if world.size == 1:
        return call()
    found: list[Any] = [None]
    if world.main:
        try:
            found = [call()]
        except NetslimError as error:
            found = [error]
    with peers():
        dist.broadcast_object_list(found, src=0)
    if isinstance(found[0], NetslimError):
        raise found[0]
    return found[0]


_LOST = re.compile(r"connect|timed? ?out|socket|broken pipe|by peer|remote process", re.IGNORECASE)
"""In the messages of exchanges that failed because a process is gone: gloo's errors have no class of their own."""
_ADDED = re.compile(r"^\[\S+:\d+\] | This is typically caused by.*")
"""What gloo puts around a reason: a place in its source, and a guess."""


@contextlib.contextmanager
def peers() -> Iterator[None]:
    """Around an exchange: that a process has ended is a TrainingError; other errors are as they are."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistNetworkError | dist.DistStoreError) or _LOST.search(str(error))):
            raise
        reason = _ADDED.sub("", str(error).strip().splitlines()[0]).rstrip(".")
        alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
        raise TrainingError(
            f"process {os.environ.get('RANK', '0')} of {os.environ.get('WORLD_SIZE', '1')}: another process of this "
            f"run has ended or does not answer ({reason}); see its own message. Continue with --resume"
            + (", or let torchrun do it with --max-restarts" if alone else " on every machine")
        ) from error
