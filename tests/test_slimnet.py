"""A converted network is an ordinary module; a sub-network leaves nothing behind."""

from __future__ import annotations

import copy
import gc
import io
import linecache
import pickle
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim.errors import InputError, SubnetError
from netslim.net.runtime import runtime

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 16, 3, padding=1))
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = torch.cat([x, self.blocks(x)], 1)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def model() -> nn.Module:
    return Net().eval()


@pytest.fixture
def net(model: nn.Module) -> netslim.SlimNet:
    return netslim.convert(model, IMAGES).eval()


def outputs(net: nn.Module, **width: object) -> Tensor:
    with torch.no_grad():
        return net(IMAGES)


def test_full_width_is_the_original_bit_for_bit(model: nn.Module, net: netslim.SlimNet) -> None:
    assert torch.equal(outputs(net), outputs(model))
    assert list(net.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_run_at_every_width(net: netslim.SlimNet, again: object) -> None:
    other = again(net)  # type: ignore[operator]
    for width in (1.0, 0.5):
        with net.sub(width), other.sub(width):
            assert torch.equal(outputs(net), outputs(other))


def test_it_moves_to_other_dtypes_and_memory_formats(net: netslim.SlimNet) -> None:
    with net.sub(0.5):
        narrow = outputs(net)
        net.to(memory_format=torch.channels_last)
        torch.testing.assert_close(outputs(net), narrow)
        net.double()
        assert net(IMAGES.double()).dtype == torch.float64


def test_hooks_on_leaves_fire(net: netslim.SlimNet) -> None:
    seen = []
    net.stem.register_forward_hook(lambda _module, _args, out: seen.append(out.shape[1]))  # type: ignore[union-attr]
    with net.sub(0.5):
        outputs(net)
    outputs(net)
    assert seen == [8, 16]


def test_functional_call_uses_the_given_weights(net: netslim.SlimNet) -> None:
    zeros = {"head.weight": torch.zeros_like(net.head.weight), "head.bias": torch.ones(5)}  # type: ignore[union-attr, arg-type]
    assert torch.equal(torch.func.functional_call(net, zeros, IMAGES), torch.ones(2, 5))


@pytest.mark.filterwarnings("ignore")
def test_it_compiles_once_per_width_without_graph_breaks(net: netslim.SlimNet) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    for width in (0.75, 0.5, 0.75, 0.5):
        with net.sub(width), torch.no_grad():
            assert torch.equal(compiled(IMAGES), net(IMAGES))
    assert counter.frame_count == 2


@pytest.mark.filterwarnings("ignore")
def test_it_compiles_for_sizes_that_change(net: netslim.SlimNet) -> None:
    compiled = torch.compile(net, backend="eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for images in (IMAGES, torch.cat([IMAGES, IMAGES])):
            assert torch.allclose(compiled(images), net(images), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_it_compiles_with_its_backward(net: netslim.SlimNet) -> None:
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with net.sub(0.5):
        compiled(IMAGES).sum().backward()
        found = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
        net.zero_grad()
        net(IMAGES).sum().backward()
    assert found
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


def test_a_copy_made_inside_a_sub_network_is_a_full_network(net: netslim.SlimNet) -> None:
    full = outputs(net)
    with net.sub(0.5):
        other = copy.deepcopy(net)
    assert torch.equal(outputs(other), full)


def test_a_checkpoint_of_the_original_fits(model: nn.Module, net: netslim.SlimNet) -> None:
    other = Net().eval()
    net.load_state_dict(other.state_dict())
    assert torch.equal(outputs(net), outputs(other))
    assert not torch.equal(outputs(net), outputs(model))


def test_the_model_is_not_changed_by_its_conversion() -> None:
    model = Net().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    net = netslim.convert(model, IMAGES)
    with torch.no_grad():
        net.stem.weight.zero_()  # type: ignore[union-attr, operator]
    assert model.training
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_seed_gives_the_same_outputs_in_training_at_full_width(model: nn.Module, net: netslim.SlimNet) -> None:
    assert torch.equal(net.train()(IMAGES), model.train()(IMAGES))
    assert torch.equal(net.norm.running_var, model.norm.running_var)  # type: ignore[union-attr, arg-type]


def test_a_function_of_weights_differentiates_a_sub_network(net: netslim.SlimNet) -> None:
    weights = {n: p.detach() for n, p in net.named_parameters() if not n.startswith("blocks")}
    with net.sub(0.5):
        grads = torch.func.grad(lambda w: torch.func.functional_call(net, w, IMAGES).sum())(weights)
    assert grads["stem.weight"][:8].abs().sum() > 0
    assert not grads["stem.weight"][8:].any()


def test_functional_call_reaches_a_child_called_like_a_property(net: netslim.SlimNet) -> None:
    torch.func.functional_call(net, {"blocks.0.bias": torch.zeros(24)}, IMAGES)


def test_nothing_stays_changed_after_an_error(net: netslim.SlimNet) -> None:
    before = outputs(net)
    with pytest.raises(ZeroDivisionError), net.sub(0.5):
        raise ZeroDivisionError
    assert torch.equal(outputs(net), before)


def test_contexts_nest(net: netslim.SlimNet) -> None:
    with net.sub(0.5):
        half = outputs(net)
        with net.sub(0.25):
            assert not torch.equal(outputs(net), half)
        assert torch.equal(outputs(net), half)


def test_running_statistics_are_left_alone_in_a_sub_network(net: netslim.SlimNet) -> None:
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for width in (1.0, 0.5):
        with net.sub(width):
            net(IMAGES)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    net(IMAGES)
    assert not torch.equal(before["norm.running_mean"], net.state_dict()["norm.running_mean"])


def test_tracking_updates_the_kept_statistics_only(net: netslim.SlimNet) -> None:
    net.train()
    before = net.state_dict()["norm.running_mean"].clone()
    with net.sub(0.5, track_running_stats=True):
        net(IMAGES)
    changed = net.state_dict()["norm.running_mean"] != before
    assert changed[:8].all()
    assert not changed[8:].any()


def test_kept_are_the_channels_at_their_places(net: netslim.SlimNet) -> None:
    kept = net.kept(width=0.5)
    assert kept["stem.weight"][0].tolist() == list(range(8))
    assert kept["head.weight"][1].tolist() == [*range(8), *range(16, 24)]


def test_widths_round_to_a_grid(net: netslim.SlimNet) -> None:
    assert len(net.kept(width=0.6, round_to=8)["stem.weight"][0]) == 8
    assert len(net.kept(width=0.1, round_to=8)["stem.weight"][0]) == 8


def test_single_groups_take_counts_and_ratios(net: netslim.SlimNet) -> None:
    kept = net.kept(width={"stem": 5, "blocks.0": 0.5})
    assert [len(kept[name][0]) for name in ("stem.weight", "blocks.0.weight", "blocks.2.weight")] == [5, 12, 16]


def test_a_ranking_chooses_the_channels(net: netslim.SlimNet) -> None:
    order = list(range(15, -1, -1))
    small = net.extract(width={"stem": 4}, ranking={"stem": order})
    assert torch.equal(small.stem.weight, net.stem.weight[12:])  # type: ignore[union-attr, index]
    with net.sub({"stem": 4}, ranking={"stem": order}):
        torch.testing.assert_close(outputs(small), outputs(net))


def test_an_extracted_network_is_plain_and_equal(net: netslim.SlimNet) -> None:
    small = net.extract(width=0.5)
    with net.sub(0.5):
        assert torch.equal(outputs(small), outputs(net))
    assert not [m for m in small.modules() if type(m).__module__.startswith("netslim")]
    assert (small.head.in_features, small.stem.out_channels) == (16, 8)  # type: ignore[union-attr]


def test_trained_weights_go_back_into_the_model(model: nn.Module, net: netslim.SlimNet) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1)
    assert torch.equal(outputs(net.restore(model)), outputs(net))
    with pytest.raises(InputError, match="not the model that was converted"):
        net.restore(nn.Linear(2, 2))


def test_gradients_reach_the_kept_part_only(net: netslim.SlimNet) -> None:
    with net.sub(0.5):
        net(IMAGES).sum().backward()
    grad = net.stem.weight.grad  # type: ignore[union-attr]
    assert grad is not None
    assert grad[:8].abs().sum() > 0
    assert not grad[8:].any()


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (0.0, "a width is a ratio in"),
        (1.5, "a width is a ratio in"),
        ({"stemm": 4}, "no group 'stemm'; did you mean stem"),
        ({"stem": 17}, "has 16 channels and cannot keep 17"),
        ({"stem": 0}, "cannot keep 0; give a count from 1 to 16"),
        ({"stem": -0.5}, "a width is a ratio in"),
        (float("nan"), "a width is a ratio in"),
    ],
)
def test_impossible_widths_are_refused(net: netslim.SlimNet, width: object, message: str) -> None:
    with pytest.raises(SubnetError, match=message), net.sub(width):  # type: ignore[arg-type]
        pass


def test_impossible_grids_rankings_and_blocks_are_refused(net: netslim.SlimNet) -> None:
    with pytest.raises(SubnetError, match="round_to is 0; it must be a positive number"):
        net.kept(0.5, round_to=0)
    with pytest.raises(SubnetError, match="no permutation of its 16 channels"):
        net.kept(0.5, ranking={"stem": [0] * 16})
    with pytest.raises(SubnetError, match="the ranking names 'sten', which is no group; did you mean stem"):
        net.kept(0.5, ranking={"sten": range(16)})
    with pytest.raises(SubnetError, match="no block 'layer1'"), net.sub(depth={"layer1": False}):
        pass


def test_other_inputs_than_those_converted_for_are_refused(net: netslim.SlimNet) -> None:
    with pytest.raises(InputError, match="converted for the inputs x"):
        net(IMAGES, IMAGES)
    with pytest.raises(InputError, match="converted for the inputs x"):
        net(y=IMAGES)
    assert torch.equal(net(x=IMAGES), net(IMAGES))


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, double: bool = False, mask: Tensor | None = None, more: Any = ()) -> Tensor:
        y = self.first(x + more["a"] - more["b"][0])
        return self.head(2 * y if double else y) if mask is None else self.head(y * mask)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"double": True}, "argument 'double' is True, and this network was converted for False"),
        ({"double": 0}, "argument 'double' is 0, and this network was converted for False"),
        ({"double": None}, "argument 'double' is None"),
        ({"mask": torch.ones(2, 8)}, "argument 'mask' is a tensor, and this network was converted for None"),
        ({"x": None}, "argument 'x' is None, and this network was converted for a tensor"),
        ({"x": [[0.0] * 4]}, "argument 'x' is a list of 1"),
        ({"more": {"a": torch.ones(2, 4)}}, "argument 'more' is a dict of 'a', .* for a dict of 'a', 'b'"),
        ({"more": {"a": torch.ones(4), "b": (torch.ones(4),)}}, r"argument \"more\['b'\]\" is a tuple of 1"),
        ({"more": {"a": torch.ones(4), "b": [None]}}, r"argument \"more\['b'\]\[0\]\" is None"),
        ({"more": [torch.ones(4)] * 2}, "argument 'more' is a list of 2"),
        ({"mask_": None}, "converted for the inputs x, double, mask, more; it was given 'mask_'"),
    ],
)
def test_arguments_that_the_recorded_forward_does_not_cover_are_refused(change: dict[str, Any], message: str) -> None:
    example = {
        "x": torch.randn(2, 4),
        "double": False,
        "mask": None,
        "more": {"a": torch.ones(4), "b": [torch.ones(4)]},
    }
    model = Optional()
    net = netslim.convert(model, example)
    assert torch.equal(net(**example), model(**example))
    swapped = {"more": {"b": [torch.zeros(4)], "a": torch.ones(4)}}  # the order of a dict's items does not matter
    assert torch.equal(net(**example | swapped), model(**example | swapped))
    assert torch.equal(net(example["x"], False, more=example["more"]), model(**example))
    with pytest.raises(InputError, match=message):
        net(**example | change)
    with pytest.raises(InputError, match="argument 'double' is missing"):
        net(example["x"], more=example["more"])
    with pytest.raises(InputError, match="argument 'x' is given twice"):
        net(example["x"], **example)
    with pytest.raises(InputError, match="given 5 positional ones"):
        net(*example.values(), None)


def test_other_batches_and_resolutions_run(model: nn.Module, net: netslim.SlimNet) -> None:
    images = torch.randn(5, 3, 24, 20)
    with torch.no_grad():
        assert torch.equal(net(images), model(images))


def test_questions_have_answers(net: netslim.SlimNet) -> None:
    graph = net.graph()
    assert isinstance(graph, nx.Graph)
    assert graph.edges["stem", "blocks.0"]["params"] == ["blocks.0.weight"]
    assert "norm.weight dim 0" in str(net.why("stem.weight"))
    assert "model output" in str(net.why("head.bias"))
    with pytest.raises(SubnetError, match=r"did you mean head\.weight"):
        net.why("head.wieght")
    assert isinstance(net.get_submodule("blocks.0"), nn.Conv2d)


@pytest.mark.parametrize(
    "normed", [torch.nn.utils.parametrizations.spectral_norm, torch.nn.utils.spectral_norm], ids=["new", "by hooks"]
)
def test_sub_networks_leave_what_a_forward_writes_to(normed: Any) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), normed(nn.Conv2d(8, 12, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = netslim.convert(nn.Sequential(model, nn.Linear(12, 4)), torch.randn(2, 3, 8, 8)).train()
    images, before = torch.randn(2, 3, 8, 8), {name: buffer.clone() for name, buffer in net.named_buffers()}

    def changed() -> bool:
        return not all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())

    with net.sub(0.5):
        net(images)
    assert not changed()
    with net.sub(0.5, track_running_stats=True):
        net(images)
    assert changed()


# ------------------------------------------------------------------------------------------- names, copies, contexts

OURS = sorted(n for n in vars(netslim.SlimNet) if not n.startswith("_"))
OF_MODULES = ["forward", "train", "eval", "parameters", "state_dict", "apply", "to"]
HIDDEN = ["_slim", "_ready", "_point", "_run", "runtime", "point", "root", "origin", "name", "member"]


class Namesakes(nn.Module):
    """Children of one name: at the root, in a container, and a parameter and a buffer beside them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.conv, self.outer, self.head = nn.Conv2d(3, 8, 1), nn.Module(), nn.Linear(8, 4)
        self._modules[name] = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())
        self.outer._modules[name] = nn.Conv2d(8, 8, 1)
        self.called = name

    def forward(self, x: Tensor) -> Tensor:
        x = self.outer._modules[self.called](self._modules[self.called](self.conv(x)))  # type: ignore[misc]
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def zeroed(net: nn.Module, name: str) -> Tensor:
    found: Tensor = torch.func.functional_call(net, {f"{name}.0.weight": torch.zeros(8, 8, 1, 1)}, IMAGES)
    return found


@pytest.mark.parametrize(
    "name", [*OURS, *HIDDEN, "forward", "train", "eval", "parameters", "state_dict", "apply", "to"]
)
def test_a_child_may_be_called_anything(name: str) -> None:
    torch.manual_seed(0)
    net = netslim.convert(Namesakes(name), IMAGES, prove=False).eval()
    full, child = outputs(net), net._modules[name]
    assert isinstance(child, nn.Sequential)
    assert net.get_submodule(name) is child
    assert net.get_submodule(f"{name}.0") is child[0]
    assert getattr(net, name) is child or [*getattr(net, name).parameters()] == [*child.parameters()]
    assert [group.size for group in net.groups] == [8, 8, 8]
    assert dict(net.named_parameters())[f"{name}.0.weight"] is child[0].weight
    assert net.get_parameter(f"outer.{name}.weight") is net.state_dict(keep_vars=True)[f"outer.{name}.weight"]
    changed = zeroed(net, name)
    assert not torch.equal(changed, full)
    assert torch.equal(outputs(net), full)
    with net.sub(0.5):
        narrow = outputs(net)
    stored = io.BytesIO()
    torch.save(net, stored)
    stored.seek(0)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), torch.load(stored, weights_only=False)):
        assert torch.equal(outputs(other), full)
        assert torch.equal(zeroed(other, name), changed)
        with other.sub(0.5):
            assert torch.equal(outputs(other), narrow)
    torch.testing.assert_close(net.extract(0.5)(IMAGES), narrow)


@pytest.mark.parametrize("name", [n for n in [*OURS, *HIDDEN] if not hasattr(nn.Module, n)])  # torch refuses those
@pytest.mark.parametrize("kind", ["parameter", "buffer"])
def test_a_tensor_may_be_called_anything_too(kind: str, name: str) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)
            value = torch.rand(8, 1, 1)
            setattr(self, name, nn.Parameter(value) if kind == "parameter" else nn.Buffer(value))

        def forward(self, x: Tensor) -> Tensor:
            return self.head((self.conv(x) * getattr(self, name)).mean((2, 3)))  # type: ignore[no-any-return]

    model = Scaled().eval()
    net = netslim.convert(model, IMAGES, prove=False).eval()
    held = net.get_parameter(name) if kind == "parameter" else net.get_buffer(name)
    assert held is net.state_dict(keep_vars=True)[name]
    weights = {name: torch.zeros(8, 1, 1)}
    assert torch.equal(
        torch.func.functional_call(net, weights, IMAGES), torch.func.functional_call(model, weights, IMAGES)
    )
    assert torch.equal(outputs(copy.deepcopy(net)), outputs(model))


def test_contexts_may_close_in_any_order(net: netslim.SlimNet) -> None:
    full, block = outputs(net), net.blocks[0].name if net.blocks else None
    with net.sub(0.5):
        half = outputs(net)
    first, second = net.sub(0.25), net.sub(0.5)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.equal(outputs(net), half)
    second.__exit__(None, None, None)
    assert torch.equal(outputs(net), full)
    if block is not None:
        more, width = net.scaled({block: 0.5}), net.sub(0.5)
        more.__enter__()
        width.__enter__()
        more.__exit__(None, None, None)
        assert torch.equal(outputs(net), half)
        width.__exit__(None, None, None)
        assert torch.equal(outputs(net), full)


def test_the_source_of_a_forward_goes_when_nothing_runs_it(net: netslim.SlimNet) -> None:
    def held() -> int:
        gc.collect()
        return sum(name.startswith("<netslim forward") for name in linecache.cache)

    net = copy.deepcopy(net)
    before = held()
    for i in range(5):
        with net.scaled({net.blocks[0].name: 1 / (i + 2)}):
            outputs(net)
    assert held() == before


def test_the_sub_networks_used_last_are_remembered(net: netslim.SlimNet) -> None:
    resolver, sizes = runtime(net).resolver, [group.size for group in net.groups]
    smallest = tuple(((0, 1),) for _ in sizes)
    point = resolver.point(smallest, False)
    for i in range(200):
        resolver.point((((i % sizes[0], 1),), *smallest[1:]), bool(i & 1), None)
        assert resolver.point(smallest, False) is point


def test_indices_lie_where_the_weights_do_and_can_be_trained_through(net: netslim.SlimNet) -> None:
    net = copy.deepcopy(net)
    ranking = {group.name: [*range(1, group.size), 0][::-1] for group in net.groups}
    with torch.inference_mode(), net.sub(0.5, ranking=ranking):
        outputs(net)
    with net.sub(0.5, ranking=ranking):
        net(IMAGES).sum().backward()
    for device in ("cpu", "meta", "cpu"):
        net.to_empty(device=device)
        with net.sub(0.5, ranking=ranking):
            cuts = [
                part for kept in runtime(net).point.layers.values() for cut in kept.tensors.values() for part in cut
            ]  # type: ignore[union-attr]
        indices = [part[1] for part in cuts if len(part) == 2]
        assert indices
        assert all(index.device.type == device for index in indices)
