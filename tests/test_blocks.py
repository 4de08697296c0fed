"""Skippable blocks: which are found, that skipping them is right and costs nothing, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import netslim
from netslim import cost
from netslim.errors import PlanError, SubnetError
from netslim.net import runtime as module_of_runtime
from netslim.net.runtime import runtime
from netslim.proof.equivalence import check, failing_blocks
from netslim.proof.harness import prepare

IMAGES = torch.randn(2, 3, 8, 8)


class Body(nn.Module):
    """A residual body of one shape, and whatever a test makes of it."""

    def __init__(self, forward: Callable[..., Tensor], **extra: Any) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
        for name, value in extra.items():
            setattr(self, name, value)
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.run(self, self.stem(x)).mean((2, 3)))


def in_place(m: Any, x: Tensor) -> Tensor:
    out = m.body(x)
    out += x
    return F.relu(out, inplace=True)


def onto_the_shortcut(m: Any, x: Tensor) -> Tensor:
    out = x.clone()
    out += m.body(x)
    return out


def pre_activation(m: Any, x: Tensor) -> Tensor:
    active = F.relu(m.norm(x))
    return m.shortcut(active) + m.body(active)


def nested(m: Any, x: Tensor) -> Tensor:
    inner = m.inner(x)
    return x + m.body(inner + m.tail(inner))


def normed_by_hand(m: Any, x: Tensor) -> Tensor:
    out = m.body(x)
    away = out - out.mean(1, keepdim=True)
    return x + (m.gamma * away / (away.square().mean(1, keepdim=True) + 1e-5).sqrt() + m.beta)


def affine() -> dict[str, nn.Parameter]:
    return {"gamma": nn.Parameter(torch.ones(8, 1, 1)), "beta": nn.Parameter(torch.zeros(8, 1, 1))}


def dual_path(m: Any, x: Tensor) -> Tensor:
    out = m.body(x)
    return m.mix(torch.cat([x[:, :6] + out[:, :6], x[:, 6:], out[:, 6:]], 1))


def dual_path_projected(m: Any, x: Tensor) -> Tensor:
    out = m.deep(F.relu(m.body(x)))
    x = m.shortcut(x)
    return m.mix(torch.cat([x[:, :6] + out[:, :6], x[:, 6:], out[:, 6:]], 1))


def dual_path_of_two_layers(m: Any, x: Tensor) -> Tensor:
    kept, more = m.shortcut(x).tensor_split([6], 1)
    out = F.relu(m.body(x))
    return m.mix(torch.cat([kept + m.added(out), more, m.joined(out)], 1))


def dual_paths_apart(m: Any, x: Tensor) -> Tensor:
    kept, more = x, m.dense(x)
    out = m.body(m.before(torch.cat([kept, more], 1)))
    added, joined = out.split([6, 2], 1)
    return m.after(torch.cat([kept[:, :6] + added, more, joined], 1))


def twice(m: Any, x: Tensor) -> Tensor:
    x = F.relu(x + m.body(x), inplace=True)
    return F.relu(x + m.body(x), inplace=True)


SPELLINGS: dict[str, tuple[Callable[..., Tensor], dict[str, Any], int]] = {
    "plus": (lambda m, x: x + m.body(x), {}, 1),
    "plus, the body first": (lambda m, x: m.body(x) + x, {}, 1),
    "in place": (in_place, {}, 1),
    "onto the shortcut": (onto_the_shortcut, {}, 1),
    "torch.add": (lambda m, x: torch.add(x, m.body(x), alpha=0.3), {}, 1),
    "Tensor.add_": (lambda m, x: m.body(x).add_(x), {}, 1),
    "FloatFunctional": (lambda m, x: m.sum.add(x, m.body(x)), {"sum": torch.ao.nn.quantized.FloatFunctional()}, 1),
    "scaled sum": (lambda m, x: (x + 0.2 * m.body(x)) * 0.7, {}, 1),
    "three branches": (lambda m, x: x + m.body(x) + m.other(x), {"other": nn.Conv2d(8, 8, 1)}, 1),
    "layer scale": (lambda m, x: x + m.gamma * m.body(x), {"gamma": nn.Parameter(torch.ones(8, 1, 1))}, 1),
    "scale and shift": (lambda m, x: (m.gamma * m.body(x) + m.beta) + x, affine(), 1),
    "shift in place": (lambda m, x: x + (m.gamma * m.body(x)).add_(m.beta), affine(), 1),
    "shift of the sum": (lambda m, x: x + m.gamma * m.body(x) + m.beta, affine(), 1),
    "frozen norm": (lambda m, x: m.norm(m.body(x)) + x, {"norm": torchvision.ops.FrozenBatchNorm2d(8)}, 1),
    "norm by hand": (normed_by_hand, affine(), 1),
    "drop path": (lambda m, x: x + m.drop(m.body(x)), {"drop": nn.Dropout(0.5)}, 1),
    "pre-activation": (pre_activation, {"norm": nn.BatchNorm2d(8), "shortcut": nn.Conv2d(8, 8, 1)}, 1),
    "downsampling": (lambda m, x: m.pool(m.body(x)) + m.shortcut(x),
                     {"pool": nn.MaxPool2d(2), "shortcut": nn.Conv2d(8, 8, 2, 2)}, 1),
    "nested": (nested, {"inner": nn.Conv2d(8, 8, 1), "tail": nn.Conv2d(8, 8, 1)}, 2),
    "two blocks with shared layers": (twice, {}, 2),
    "dense": (lambda m, x: m.mix(torch.cat([x, m.body(x)], 1)), {"mix": nn.Conv2d(16, 8, 1)}, 1),
    "dual path": (dual_path, {"mix": nn.Conv2d(10, 8, 1)}, 1),
    "dual path of two layers": (
        dual_path_of_two_layers,
        {"shortcut": nn.Conv2d(8, 8, 1), "added": nn.Conv2d(8, 6, 1), "joined": nn.Conv2d(8, 2, 1),
         "mix": nn.Conv2d(10, 8, 1)},
        1,
    ),
    "dual path, subsampled": (
        dual_path_projected,
        {"shortcut": nn.Conv2d(8, 8, 1, 2), "deep": nn.Conv2d(8, 8, 1, 2), "mix": nn.Conv2d(10, 8, 1)},
        1,
    ),
    "dual paths apart": (dual_paths_apart,
                         {"dense": nn.Conv2d(8, 4, 1), "before": nn.Conv2d(12, 8, 1), "after": nn.Conv2d(12, 8, 1)}, 1),
    "an inner level": (lambda m, x: m.mix(torch.cat([m.up(m.body(m.down(x))), x], 1)),
                       {"down": nn.MaxPool2d(2), "up": nn.Upsample(scale_factor=2), "mix": nn.Conv2d(16, 8, 1)}, 1),
}  # fmt: skip


@pytest.fixture(params=SPELLINGS, scope="module")
def net(request: pytest.FixtureRequest) -> netslim.SlimNet:
    torch.manual_seed(0)
    forward, extra, _ = SPELLINGS[request.param]
    made = netslim.convert(Body(forward, **copy.deepcopy(extra)).eval(), IMAGES)
    made.spelling = request.param  # type: ignore[assignment]
    return made


def test_a_residual_is_found_however_it_is_written(net: netslim.SlimNet) -> None:
    assert len(net.blocks) == SPELLINGS[str(net.spelling)][2], net.plan.refused
    assert net.proof is not None
    assert net.proof.passed
    assert len(net.proof.cases) == 4  # widths alone once, then three times with depths


def every(net: netslim.SlimNet) -> dict[str, bool]:
    return {block.name: False for block in net.blocks}


def test_skipping_costs_no_compute(net: netslim.SlimNet) -> None:
    """FLOPs as torch counts them: the full network's without those of the layers in the bodies, exactly."""
    skips = [part for block in net.blocks for part in block.skips[False].parts]
    skipped = {name for skip in skips for name in (*skip.body, *skip.bodies)}
    inside = {n.target for n in net.plan.regions[""].programs[False] if n.name in skipped and n.op == "module"}
    ran: list[str] = []
    handles = [
        net.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: ran.append(name)) for name in inside
    ]
    with torch.no_grad(), FlopCounterMode(display=False) as full:
        net(IMAGES)
    assert set(ran) == inside
    ran.clear()
    with torch.no_grad(), net.sub(depth=every(net)), FlopCounterMode(display=False) as short:
        net(IMAGES)
    assert not ran
    for handle in handles:
        handle.remove()
    by_layer = {str(name): sum(ops.values()) for name, ops in full.get_flop_counts().items()}
    bodies = sum(by_layer.get(f"SlimNet.{name}", 0) for name in inside)
    assert bodies > 0
    assert short.get_total_flops() == full.get_total_flops() - bodies
    assert cost.count(net, depth=every(net)).flops == short.get_total_flops() // len(IMAGES)


def test_an_extracted_network_has_neither_the_bodies_nor_their_weights(net: netslim.SlimNet) -> None:
    width = {group.name: max(1, group.size // 2) for group in net.groups}
    with torch.no_grad(), net.sub(width, every(net)):
        wanted = net(IMAGES)
    small = net.extract(width, every(net))
    with torch.no_grad():
        torch.testing.assert_close(small(IMAGES), wanted)
    assert sum(p.numel() for p in small.parameters()) == cost.count(net, width, every(net)).params
    assert not any(name.startswith("body") for name, _ in small.named_parameters())


def test_a_copy_and_a_loaded_network_skip_the_same(net: netslim.SlimNet, tmp_path: Path) -> None:
    netslim.save(net, tmp_path / "net.pt")
    others = copy.deepcopy(net), netslim.load(tmp_path / "net.pt")
    with torch.no_grad(), net.sub(depth=every(net)):
        wanted = net(IMAGES)
    for other in others:
        assert [b.name for b in other.blocks] == [b.name for b in net.blocks]
        with torch.no_grad(), other.sub(depth=every(net)):
            assert torch.equal(other(IMAGES), wanted)


def test_a_sub_network_of_random_depth_trains(net: netslim.SlimNet) -> None:
    trained = copy.deepcopy(net).train()
    keys = list(trained.state_dict())
    with trained.sub(depth=every(net)):
        trained(IMAGES).square().mean().backward()
    assert all(p.grad is None for name, p in trained.named_parameters() if name.startswith("body"))
    trained(IMAGES).square().mean().backward()
    assert all(p.grad is not None for p in trained.parameters())
    assert list(trained.state_dict()) == keys


def test_scaling_by_one_changes_nothing_and_by_zero_skips(net: netslim.SlimNet) -> None:
    with torch.no_grad():
        full = net(IMAGES)
        with net.scaled(dict.fromkeys(every(net), 1.0)):
            torch.testing.assert_close(net(IMAGES), full)
        with net.scaled(dict.fromkeys(every(net), 0.0)):
            zero = net(IMAGES)
        with net.sub(depth=every(net)):
            torch.testing.assert_close(net(IMAGES), zero)
        with net.scaled(dict.fromkeys(every(net), 0.5)), net.sub(depth=every(net)):
            torch.testing.assert_close(net(IMAGES), zero)
        assert torch.equal(net(IMAGES), full)


def test_results_of_blocks_go_through_functions(net: netslim.SlimNet) -> None:
    calls: list[float] = []

    def doubled(x: Tensor) -> Tensor:
        calls.append(float(x.abs().sum()))
        return 2 * x

    blocks = every(net)
    with torch.no_grad():
        full, keys = net(IMAGES), list(net.state_dict())
        with net.through(dict.fromkeys(blocks, nn.Identity())):
            assert torch.equal(net(IMAGES), full)
        with net.scaled(dict.fromkeys(blocks, 2.0)):
            expected = net(IMAGES)
        with net.through(dict.fromkeys(blocks, doubled)):
            torch.testing.assert_close(net(IMAGES), expected)
            assert calls
            with net.scaled(dict.fromkeys(blocks, 0.5)):
                torch.testing.assert_close(net(IMAGES), full)
            copied = copy.deepcopy(net)
            assert torch.equal(copied(IMAGES), full)
            calls.clear()
            with net.sub(depth=blocks):
                skipped = net(IMAGES)
            assert not any(calls)  # nothing, or the zeros that stand for features
            with net.sub(0.5):
                net(IMAGES)
            assert calls
            assert list(net.state_dict()) == keys
        with net.sub(depth=blocks):
            assert torch.equal(net(IMAGES), skipped)
        assert torch.equal(net(IMAGES), full)


def test_a_function_for_an_unknown_block_is_an_error(net: netslim.SlimNet) -> None:
    with pytest.raises(SubnetError, match="no block 'nowhere'"), net.through({"nowhere": nn.Identity()}):
        pass


REFUSED: dict[str, tuple[Callable[..., Tensor], dict[str, Any], str]] = {
    "a branch that something else uses": (
        lambda m, x: (lambda b: m.mix(torch.cat([x + b, b], 1)))(m.body(x)), {"mix": nn.Conv2d(16, 8, 1)},
        "the branch is also used by cat",
    ),
    "branches of one weight": (lambda m, x: m.a(x) + m.b(x), {"a": nn.Conv2d(8, 8, 1), "b": nn.Conv2d(8, 8, 1)},
                               "both branches weigh the same"),
    "a gate that is broadcast": (lambda m, x: x.mean((2, 3), keepdim=True) + m.body(x), {},
                                 "does not have the shape of the sum"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_looks_like_a_block_is_refused_with_a_reason(name: str) -> None:
    forward, extra, reason = REFUSED[name]
    net = netslim.convert(Body(forward, **copy.deepcopy(extra)), IMAGES, prove=False)
    assert not net.blocks
    assert any(reason in refused.reason and "test_blocks.py" in refused.where for refused in net.plan.refused)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.body(x),
        lambda _, x: x + F.relu(x),
        lambda m, x: m.body(x) + m.position,
        lambda m, x: torch.cat([m.body(x)[:, :4], x[:, 4:]], 1),
    ],
    ids=["a chain", "no parameters", "a position embedding", "a body that replaces what it reads"],
)
def test_what_is_no_residual_is_not_a_block(forward: Callable[..., Tensor]) -> None:
    net = netslim.convert(Body(forward, position=nn.Parameter(torch.randn(1, 8, 8, 8))), IMAGES, prove=False)
    assert not net.blocks


def test_an_unknown_block_is_said() -> None:
    net = netslim.convert(Body(lambda m, x: x + m.body(x)), IMAGES, prove=False)
    with pytest.raises(SubnetError, match="no block 'bdy'; did you mean body"), net.sub(depth={"bdy": False}):
        pass


def test_the_proof_catches_a_block_that_is_skipped_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: the shortcut is taken from before the stem's activation."""
    net = netslim.convert(Body(lambda m, x: (lambda y: y + m.body(y))(x.tanh())), IMAGES, prove=False)
    (block,) = net.blocks
    (wrong,) = [n.args[0].name for n in net.plan.regions[""].programs[False] if n.name == block.skips[False].value]
    from dataclasses import replace

    skips = {mode: replace(skip, value=wrong) for mode, skip in block.skips.items()}
    plan = replace(net.plan, blocks=(replace(block, skips=skips),))
    with pytest.raises(PlanError, match="something else than a sum of its branches"):
        runtime(net).rebuilt(plan)
    monkeypatch.setattr(module_of_runtime, "check_plan", lambda *_: None)  # the proof sees it too
    runtime(net).rebuilt(plan)
    assert not netslim.verify(net).passed
    bench = prepare(net)
    assert failing_blocks(bench) == {0}
    full = [group.size for group in net.groups]
    assert check(bench, full, False, run=(False,))[0].max_rel_diff > 0.01


def test_wrapped_for_data_parallel_training_it_keeps_its_sub_networks(tmp_path: Path) -> None:
    """Gradients of a pass that skips blocks add up under no_sync, as a GradAug step takes them."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    net = netslim.convert(Body(lambda m, x: x + m.body(x)), IMAGES, prove=False)
    alone = copy.deepcopy(net)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(net)
        with wrapped.no_sync(), net.sub(depth={"body": False}):
            wrapped(IMAGES).square().mean().backward()
        wrapped(IMAGES).square().mean().backward()
    finally:
        dist.destroy_process_group()
    with alone.sub(depth={"body": False}):
        alone(IMAGES).square().mean().backward()
    alone(IMAGES).square().mean().backward()
    assert list(wrapped.state_dict()) == [f"module.{name}" for name in alone.state_dict()]
    for a, b in zip(net.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
