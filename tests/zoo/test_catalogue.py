"""Every network of the catalogue, held to what theory says of it and to everything that a conversion promises."""

from __future__ import annotations

import copy
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

import netslim
from netslim.proof.equivalence import draw_counts
from netslim.proof.masked import masked_run
from netslim.proof.random_weights import randomize
from netslim.trace.contexts import fast_path_off
from netslim.trace.meta import computed

from .catalogue import CATALOGUE
from .specimen import Specimen

# What netslim does not manage yet. A case that passes again fails here, so that it leaves the list.
KNOWN: dict[str, str] = {}
NAMES = [
    pytest.param(name, marks=pytest.mark.xfail(reason=KNOWN[name], strict=True) if name in KNOWN else ())
    for name in CATALOGUE
]


def run(net: nn.Module, inputs: Any) -> list[Tensor]:
    """The output tensors, in order."""
    with fast_path_off():
        out = net(**copy.deepcopy(inputs)) if isinstance(inputs, dict) else net(inputs.clone())
    return [t for t in tree_leaves(out) if isinstance(t, Tensor)]


def frozen(net: netslim.SlimNet) -> dict[str, str]:
    """Reasons by slot, without those at the ends of the network."""
    ends = ("model input", "model output")
    return {f"{s.param}[{s.dim}]": f.reason for f in net.frozen if f.reason not in ends for s in f.slots}


def holds_theory(net: netslim.SlimNet, specimen: Specimen) -> None:
    assert {group.name: group.size for group in net.groups} == dict(specimen.groups)
    reasons = frozen(net)
    assert reasons.keys() == specimen.frozen.keys()
    assert all(part in reasons[slot] for slot, part in specimen.frozen.items()), reasons


def is_proved(net: netslim.SlimNet, specimen: Specimen) -> None:
    """Followed as a whole, by rules only, and right with nothing given up for it."""
    assert not net.plan.refusal
    assert not net.plan.unknown
    assert net.proof is not None
    assert net.proof.passed, net.proof.failures
    assert net.proof.idle == specimen.idle
    assert bool(net.proof.cases) == bool(net.groups or net.blocks)


def is_the_original(net: netslim.SlimNet, model: nn.Module, specimen: Specimen) -> None:
    """Bit by bit, in both modes, at every size; running statistics included."""
    net, model = copy.deepcopy(net), copy.deepcopy(model, computed(model))
    for inputs in (specimen.inputs, *specimen.others):
        for mode in (False, True):
            found = []
            for either in (model, net):
                torch.manual_seed(1)
                with torch.no_grad():
                    found.append(run(either.train(mode), inputs))
            assert len(found[0]) == len(found[1])
            assert all(map(torch.equal, *found)), f"another output in {'training' if mode else 'eval'} mode"
    ours, theirs = net.state_dict(), model.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def masked(net: netslim.SlimNet, inputs: Any, counts: list[int]) -> list[Tensor]:
    """Outputs of the masked network; one that divides by a buffer is masked in its parameters only."""
    kept = [((0, k),) for k in counts]
    found = masked_run(net, inputs, kept)
    return found if all(bool(t.isfinite().all()) for t in found) else masked_run(net, inputs, kept, buffers=False)


def equals_the_masked_network(net: netslim.SlimNet, specimen: Specimen) -> None:
    """A random sub-network, and what is extracted from it, at sizes that the proof has not seen."""
    randomized = copy.deepcopy(net).double().eval()
    randomize(randomized, seed=1)
    close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
    counts = draw_counts(net.groups, random.Random(1))
    width = {g.name: k for g, k in zip(net.groups, counts, strict=True)}
    small = randomized.extract(width)
    assert not [m for m in small.modules() if type(m).__module__.startswith("netslim")]
    for inputs in (specimen.inputs, *specimen.others):
        inputs = tree_map_only(Tensor, lambda t: t.double() if t.is_floating_point() else t, inputs)
        named = inputs if isinstance(inputs, dict) else [inputs.clone()]
        wanted = masked(randomized, named, counts)
        with torch.no_grad(), randomized.sub(width):
            got = run(randomized, inputs)
        with torch.no_grad():
            extracted = run(small, inputs)
        close(got, wanted)
        close(extracted, got)


def survives_the_archive(net: netslim.SlimNet, specimen: Specimen, folder: Path) -> None:
    netslim.save(net, folder / "converted.pt")
    loaded = netslim.load(folder / "converted.pt").eval()
    assert loaded.plan == net.plan
    with torch.no_grad(), net.sub(0.5), loaded.sub(0.5):
        assert all(map(torch.equal, run(loaded, specimen.inputs), run(net, specimen.inputs)))


def trains(net: netslim.SlimNet, specimen: Specimen) -> None:
    """One step of a sub-network: what is kept learns, what is dropped has no gradient."""
    net.train()
    width = {g.name: max(1, g.size // 2) for g in net.groups}
    with net.sub(width):
        outputs = [out for out in run(net, specimen.inputs) if out.requires_grad]
        sum(out.square().mean() for out in outputs).backward() if outputs else None  # type: ignore[union-attr]
    kept, learns = net.kept(width), False
    for name, parameter in net.named_parameters():
        if parameter.grad is not None:
            learns = learns or bool(parameter.grad.any())
            for dim, indices in enumerate(kept[name]):
                dropped = torch.ones(parameter.shape[dim], dtype=torch.bool)
                dropped[indices] = False
                assert not parameter.grad.movedim(dim, 0)[dropped].any(), f"{name}: a dropped channel has a gradient"
    assert learns == any(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_the_catalogue(name: str, tmp_path: Path) -> None:
    specimen = CATALOGUE[name]
    model = specimen.build().eval()
    net = netslim.convert(model, specimen.inputs).eval()
    holds_theory(net, specimen)
    is_proved(net, specimen)
    is_the_original(net, model, specimen)
    equals_the_masked_network(net, specimen)
    survives_the_archive(net, specimen, tmp_path)
    trains(net, specimen)


def test_known_shortcomings_are_those_of_networks_that_exist() -> None:
    assert KNOWN.keys() <= CATALOGUE.keys()
