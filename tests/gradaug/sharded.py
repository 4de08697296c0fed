"""What two processes do with a network that `fully_shard` has spread over them, beside what one process works out."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

import gradaug
import netslim
from gradaug.distributed import processes as sync
from gradaug.subnets.sampler import Draw
from netslim.archive.network import tensors
from netslim.errors import InputError
from netslim.net.runtime import runtime

from .processes import LAST_SKIPS, MODES, Blocks, batch, doubled, step_of
from .wrapped import ONLY_WHAT_IS_FROZEN, Around, Draws, Spare, expected, network, optimizer_of, parts, sampled

Found = list[dict[str, Tensor | None]]


def shard(module: nn.Module, **options: Any) -> None:
    """`fully_shard` over all processes, on the CPU."""
    from torch.distributed.fsdp import fully_shard

    fully_shard(module, mesh=init_device_mesh("cpu", (sync.current().size,)), **options)


def _leaves(net: nn.Module) -> list[nn.Module]:
    return [m for m in net.modules() if not list(m.children()) and list(m.parameters())]


def _bodies(net: nn.Module) -> list[nn.Module]:
    return [module for name, module in net.named_modules() if name.rpartition(".")[0].endswith("bodies")]


LAYOUTS: dict[str, Callable[[nn.Module], list[nn.Module]]] = {
    "root": lambda net: [net],
    "leaves": _leaves,
    "leaves and root": lambda net: [*_leaves(net), net],
    "containers and root": lambda net: [*_bodies(net)[:2], net],
    "all": lambda net: [*_leaves(net), *_bodies(net), net],
}


def spread(net: netslim.SlimNet, layout: str) -> netslim.SlimNet:
    for module in LAYOUTS[layout](net):
        shard(module)
    return net


def whole(tensor: Tensor | None) -> Any:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def gradients(net: nn.Module) -> dict[str, Tensor | None]:
    return {name: whole(p.grad) for name, p in net.named_parameters()}


def weights(net: nn.Module) -> dict[str, Tensor | None]:
    return {name: whole(p.detach()) for name, p in net.named_parameters()}


def given(net: netslim.SlimNet, ga: gradaug.GradAug, steps: int = 2, draws: Draws = sampled) -> Found:
    """The gradients of every step from this process's part, and the weights at last."""
    optimizer, found = optimizer_of(net), []
    for step in range(steps):
        optimizer.zero_grad()
        for images, labels in parts(step, sync.current().rank, ga.accumulate):
            ga.backward(images, labels, draws(step, sync.current().rank))
        sync.average_gradients(net.parameters())
        found.append({name: None if g is None else g.clone() for name, g in gradients(net).items()})
        optimizer.step()
    return [*found, weights(net)]


@functools.cache
def wanted(mode: str, draws: Draws = sampled, steps: int = 2) -> Found:
    return expected(network(), mode, steps, draws)


def trained(mode: str, layout: str, first: bool) -> tuple[Found, Found]:
    """`first`: GradAug comes before the sharding."""
    net = network()
    early = step_of(mode, net) if first else None
    spread(net, layout)
    return given(net, early or step_of(mode, net)), wanted(mode)


def _last_skips(*_: int) -> tuple[Draw, ...]:
    return LAST_SKIPS


def _frozen_last(*_: int) -> tuple[Draw, ...]:
    return ONLY_WHAT_IS_FROZEN


def answers() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for i, layout in enumerate(LAYOUTS):
        for j, mode in enumerate(MODES):
            found[f"{layout}, {mode}"] = trained(mode, layout, first=(i + j) % 2 == 0)
    for layout in ("leaves and root", "containers and root"):
        net = spread(network(), layout)
        found[f"{layout}, last pass skips"] = (
            given(net, step_of("randdepth", net), 2, _last_skips),
            wanted("randdepth", _last_skips),
        )
    for one in (little, own_widths, stepped, further, around, exempt, python, blank_space, said):
        found[one.__name__] = one()
    found |= afterwards()
    return found


def little() -> tuple[Found, Found]:
    """Where the last pass holds nothing that is trained: the next step has the new weights all the same."""
    pair = [network(), network()]
    for net in pair:
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name.startswith("bodies"))
    net = spread(pair[0], "containers and root")
    return given(net, step_of("both", net), 2, _frozen_last), expected(pair[1], "both", 2, _frozen_last)


def own_widths() -> tuple[Found, Found]:
    """Widths of each process's own, in parts of a batch, with live norms."""
    net, options = spread(network(False), "all"), {"accumulate": 2}
    ga = step_of("randwidth", net, rank=sync.current().rank, **options)
    return given(net, ga), expected(network(False), "randwidth", 2, own=True, **options)


def stepped() -> tuple[Found, Found]:
    """Weights after GradAug.step, with a scaler and evaluations in between."""
    net = spread(network(), "all")
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    ga, optimizer = step_of("both", net, scaler=scaler), optimizer_of(net)
    for step in range(2):
        ga.step(*parts(step, sync.current().rank)[0], optimizer)
        with torch.no_grad():
            net(batch()[0])
    ga.average_gradients(net.parameters())
    held = zip(dict(net.named_parameters()), optimizer.param_groups[0]["params"], strict=True)
    return [{name: whole(parameter.detach()) for name, parameter in held}], wanted("both")[-1:]


def further() -> tuple[Found, Found]:
    """With a loss of one's own after the step's passes."""
    totals = []
    for net in (spread(network(), "leaves and root"), network()):
        ga, sharing = step_of("randwidth", net), not totals
        for rank in [sync.current().rank] if sharing else range(2):
            ga.steps = 0
            images, labels = parts(0, rank)[0]
            ga.backward(images, labels)
            ga.accumulate_loss(net(images).square().mean())
        share = 1 if sharing else 2
        totals.append([{name: None if g is None else g / share for name, g in gradients(net).items()}])
    return totals[0], totals[1]


def around() -> tuple[Found, Found]:
    """A module that holds the network is what is sharded."""
    net = network()
    outer = Around(net)
    outer.gain = nn.Parameter(torch.ones(1, dtype=torch.float64))
    ga = step_of("both", net, forward=outer)
    shard(outer)
    return given(net, ga, 1), expected(network(), "both", 1)


def exempt() -> tuple[Found, Found]:
    """With parameters that are not sharded, which average_gradients sees to."""
    net = network()
    shard(net, ignored_params=set(net.get_submodule("head").parameters()))
    return given(net, step_of("both", net)), wanted("both")


class Guarded(nn.Module):
    """Its forward looks at values, so that a part of it stays Python."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Blocks()

    def forward(self, x: Tensor) -> Tensor:
        if float(x.detach().mean()) > 1e6:
            x = x / 2
        return self.inner(x)


def python() -> tuple[Found, Found]:
    torch.manual_seed(2)
    made = netslim.convert(Guarded(), torch.randn(2, 1, 12, 12), prove=False)
    assert runtime(made).plan.whole is None
    net = spread(doubled(made, True), "containers and root")
    twin = doubled(made, True)
    found = given(net, step_of("both", net)), expected(twin, "both", 2)
    images = batch()[0]
    narrow, same = (one.extract(0.5).eval() for one in (net, twin))
    return [*found[0], {"narrow": narrow(images)}], [*found[1], {"narrow": same(images)}]


class Flat(nn.Module):
    """Runs on images of one size alone."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()), nn.Linear(8 * 144, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


def blank_space() -> list[Any]:
    """A space that is worked out on the sharded network, some of whose trials fail: what an optimizer then gets."""
    net = netslim.convert(Flat(), torch.randn(2, 1, 12, 12), prove=False)
    for module in (net.get_submodule("features"), net):
        shard(module)
    ga = gradaug.GradAug(net)
    return [ga.space.resolutions, {type(parameter).__name__ for parameter in net.parameters()}]


def afterwards() -> dict[str, Any]:
    """What is made of a trained network: pairs of tensors by name."""
    net, twin, images = spread(network(), "all"), network(), batch()[0]
    given(net, step_of("both", net), 1)
    expected(twin, "both", 1)
    net.eval(), twin.eval()
    with torch.no_grad():
        net(images)  # which leaves parameters gathered
        with net.sub(0.5), twin.sub(0.5):
            run = [{"narrow": net(images)}], [{"narrow": twin(images)}]
    cut = [one.extract(0.5, {"bodies.1": False}) for one in (net, twin)]
    stored = io.BytesIO()
    torch.save(copy.deepcopy(cut[0]), stored)
    stored.seek(0)
    cut[0] = torch.load(stored, weights_only=False)
    restored = net.restore(Spare().double())
    with TemporaryDirectory() as folder:
        netslim.save(net, Path(folder) / "slim.pt")
        saved = tensors(Path(folder) / "slim.pt")
    return {
        "run": run,
        "extracted": tuple([{"narrow": one(images), **one.state_dict()}] for one in cut),
        "shown": tuple(map(str, cut)),
        "original": ([net.original_state_dict()], [twin.original_state_dict()]),
        "restored": ([restored.state_dict()], [twin.state_dict()]),
        "saved": ([{name: saved[name] for name in twin.state_dict()}], [twin.state_dict()]),
        "counted": (netslim.cost.count(net, 0.5), netslim.cost.count(twin, 0.5)),
    }


def said() -> dict[str, str]:
    """Messages where it cannot work."""

    def message(call: Callable[[], object]) -> str:
        try:
            call()
        except InputError as error:
            return str(error)
        return "fine"

    from torch.distributed.fsdp import FullyShardedDataParallel

    rank = sync.current().rank
    images, labels = parts(0, rank)[0]
    bare, late = network(), network()
    ga, optimizer = step_of("both", late), optimizer_of(late)
    for body in _bodies(bare):
        shard(body)
    spread(late, "root")
    root, layers, compiled = (spread(network(), one) for one in ("root", "leaves and root", "containers and root"))
    held = network()
    before = step_of("both", held)
    outer = Around(held)
    outer.gain = nn.Parameter(torch.ones(1, dtype=torch.float64))
    shard(outer)
    model = Spare()
    shard(model)
    flat = FullyShardedDataParallel(network(), device_id=torch.device("cpu"), use_orig_params=True)
    others = (Draw(skip=("bodies.0",) if rank else ()),)
    return {
        "no root": message(lambda: step_of("both", bare)),
        "no root, alone": message(lambda: bare(images)),
        "blocks": message(lambda: step_of("randdepth", layers).backward(images, labels, others)),
        "own blocks": message(
            lambda: [step_of("randdepth", layers, rank=rank, num_subnets=8).backward(images, labels) for _ in range(2)]
        ),
        "optimizer": message(lambda: ga.step(images, labels, optimizer)),
        "around": message(lambda: step_of("both", held)),
        "around, before": message(lambda: before.backward(images, labels)),
        "compiled": message(
            lambda: step_of("both", compiled, forward=torch.compile(compiled)).backward(images, labels)
        ),
        "model": message(lambda: netslim.convert(model, torch.randn(2, 1, 12, 12))),
        "flat": message(lambda: step_of("both", flat)),  # type: ignore[arg-type]
        "flat, inside": message(lambda: step_of("both", flat.module)),
        "in parts": message(lambda: runtime(root).parts().__enter__()),
    }
