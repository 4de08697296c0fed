"""What has to hold of every converted network. Each check raises AssertionError (or whatever broke)."""

from __future__ import annotations

import copy
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import netslim
from netslim.ir.plan import Plan
from netslim.layouts.axes import Concat, Const, Elastic, Layout, Product
from netslim.trace.contexts import fast_path_off

from .networks import build
from .steps import Network


def hold(network: Network, seed: int = 0) -> netslim.SlimNet:
    """Convert a network, and hold the conversion to everything."""
    model = build(network)
    net = netslim.convert(model, torch.zeros(network.image))
    proved(net)
    width = random_width(net, seed)
    images = torch.randn(3, *network.image[1:], generator=torch.Generator().manual_seed(seed))
    same_weights(net, model)
    same_output(net, model, images)
    same_gradients(net, model, images)
    depth = random_depth(net, seed)
    extracts(net, width, depth, images)
    survives_the_archive(net, width, depth, images)
    trains(net, width, depth, images)
    return net


def random_width(net: netslim.SlimNet, seed: int) -> dict[str, int]:
    rng = random.Random(seed)
    return {group.name: rng.randint(1, group.size) for group in net.groups}


def random_depth(net: netslim.SlimNet, seed: int) -> dict[str, bool]:
    rng = random.Random(seed + 1)
    return {block.name: rng.random() < 0.5 for block in net.blocks}


def outputs(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def proved(net: netslim.SlimNet) -> None:
    """Nothing had to be frozen for the proof, and no operator was without a rule."""
    assert net.proof is not None
    assert net.proof.passed, net.proof.failures
    assert not [f for f in net.frozen if "proof" in f.reason], [f.slots for f in net.frozen if "proof" in f.reason]
    assert not [r for r in net.plan.refused if "proof" in r.reason], net.plan.refused
    assert not net.plan.unknown, net.plan.unknown


def same_weights(net: netslim.SlimNet, model: nn.Module) -> None:
    ours, theirs = net.state_dict(), model.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def same_output(net: netslim.SlimNet, model: nn.Module, images: Tensor) -> None:
    """Bit by bit, in both modes, on another batch than the example's; running statistics included."""
    net, model = copy.deepcopy(net), copy.deepcopy(model)
    for mode in (False, True):
        with torch.no_grad(), fast_path_off():
            torch.manual_seed(1)
            wanted = outputs(model.train(mode)(images))
            torch.manual_seed(1)
            got = outputs(net.train(mode)(images))
        assert len(wanted) == len(got)
        assert all(map(torch.equal, wanted, got)), f"another output in {'training' if mode else 'eval'} mode"
    same_weights(net, model)


def same_gradients(net: netslim.SlimNet, model: nn.Module, images: Tensor) -> None:
    """Gradients flow where they do in the original (past no_grad and detach, too), here and in an extracted network."""
    small = net.train().extract(1.0)
    wanted: dict[str, Tensor | None] | None = None
    for module in (copy.deepcopy(model).train(), copy.deepcopy(net).train(), small):
        torch.manual_seed(1)
        loss = torch.stack([out.square().mean() for out in outputs(module(images))]).sum()
        if loss.requires_grad:
            loss.backward()
        found = {name: parameter.grad for name, parameter in module.named_parameters()}
        wanted = wanted or found
        for name, grad in found.items():
            expected = wanted[name]
            assert (grad is None) == (expected is None), name
            if grad is not None:
                torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-5)


def extracts(net: netslim.SlimNet, width: dict[str, int], depth: dict[str, bool], images: Tensor) -> None:
    """The extracted network is a plain one that computes what the sub-network computes."""
    net.eval()
    small = net.extract(width, depth)
    with torch.no_grad(), net.sub(width, depth):
        wanted = outputs(net(images))
    with torch.no_grad():
        torch.testing.assert_close(outputs(small(images)), wanted, rtol=1e-5, atol=1e-5)
    assert not [m for m in small.modules() if type(m).__module__.startswith("netslim")]


def survives_the_archive(net: netslim.SlimNet, width: dict[str, int], depth: dict[str, bool], images: Tensor) -> None:
    net.eval()
    with tempfile.TemporaryDirectory() as folder:
        netslim.save(net, Path(folder) / "converted.pt")
        loaded = netslim.load(Path(folder) / "converted.pt").eval()
    assert loaded.plan == net.plan
    same_weights(loaded, net)
    with torch.no_grad(), net.sub(width, depth), loaded.sub(width, depth):
        assert all(map(torch.equal, outputs(net(images)), outputs(loaded(images))))


def trains(net: netslim.SlimNet, width: dict[str, int], depth: dict[str, bool], images: Tensor) -> None:
    """One step of a sub-network: every gradient is finite, and dropped channels get none."""
    net.train()
    with net.sub(width, depth):
        loss = torch.stack([out.square().mean() for out in outputs(net(images))]).sum()
        if loss.requires_grad:
            loss.backward()
    kept = net.kept(width)
    for name, parameter in net.named_parameters():
        if parameter.grad is None:
            continue
        assert bool(parameter.grad.isfinite().all()), name
        for dim, indices in enumerate(kept[name]):
            dropped = torch.ones(parameter.shape[dim], dtype=torch.bool)
            dropped[indices] = False
            assert not parameter.grad.movedim(dim, 0)[dropped].any(), f"{name}: a dropped channel has a gradient"
    net.zero_grad()


# ---------------------------------------------------------------------------------------------- how elastic


def elastic_channels(plan: Plan) -> tuple[int, int]:
    """Output channels of weights that can go, and all of them; those of the heads, which are outputs, left out."""
    can = total = 0
    for name, layouts in plan.layouts.items():
        if name.startswith("steps.") and name.endswith("weight") and len(layouts) > 1:
            can += elastic_part(layouts[0])
            total += layouts[0].size
    return can, total


def elastic_part(layout: Layout) -> int:
    if isinstance(layout, Concat):
        return sum(map(elastic_part, layout.parts))
    if isinstance(layout, Product):
        return layout.size if any(map(elastic_part, layout.factors)) else 0
    assert isinstance(layout, (Elastic, Const))
    return layout.size if isinstance(layout, Elastic) else 0
