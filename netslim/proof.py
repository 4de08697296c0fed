"""The proof: a sub-network equals the full network in which the dropped channels of every parameter are zero.

The comparison runs in double precision, on weights that are made lively first, and a group that no output depends on
is named rather than counted as proved.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from netslim.axes import Elastic, Layout, leaves, positions
from netslim.errors import NetslimError
from netslim.inputs import drawn, of_two
from netslim.lively import Balance, enliven
from netslim.masked import masked_run, tensors_of
from netslim.plan import Group, groups_in
from netslim.slimnet import SlimNet
from netslim.subnet import IndexSets

TOLERANCE = 1e-6
"""Largest relative difference, in float64, that counts as equal."""


@dataclass(frozen=True, slots=True)
class Case:
    """One sub-network: how far it is from the masked network, and from the full one, relative to the output."""

    name: str
    max_rel_diff: float
    effect: float
    passed: bool


@dataclass(frozen=True)
class Proof:
    """The outcome of `verify`."""

    cases: tuple[Case, ...] = ()
    failures: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()  # groups that no output depends on: the proof says nothing of them

    @property
    def passed(self) -> bool:
        return not self.failures and all(case.passed for case in self.cases)

    def summary(self) -> str:
        worst = max((case.max_rel_diff for case in self.cases), default=0.0)
        verdict = "equal their masked full network" if self.passed else "DIFFER from their masked full network"
        text = f"{len(self.cases)} random sub-networks {verdict} (largest relative difference {worst:.1e})"
        return text + (f"; {len(self.idle)} groups have no effect on the output" if self.idle else "")

    def to_data(self) -> dict[str, Any]:
        """Plain data, for the archive and for --json."""
        return {"cases": [asdict(c) for c in self.cases], "failures": list(self.failures), "idle": list(self.idle)}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Proof:
        return Proof(tuple(Case(**c) for c in data["cases"]), tuple(data["failures"]), tuple(data["idle"]))


@dataclass
class Bench:
    """A double-precision copy of the network with lively weights, and inputs for it."""

    net: SlimNet
    inputs: dict[str, Any]
    modes: tuple[bool, ...]
    idle: tuple[str, ...] = ()
    full: dict[bool, list[Tensor]] = field(default_factory=dict)


def verify(net: SlimNet, *, cases: int = 3, seed: int = 0) -> Proof:
    """Hold random sub-networks of `net`, in every form that it has, to mask-equivalence. `net` is not changed."""
    if not net.groups:
        return Proof()
    bench = prepare(net, seed)
    found: list[Case] = []
    failures: list[str] = []
    for i in range(cases):
        counts = draw_counts(net.groups, random.Random(seed * 1000 + i))
        for mode in bench.modes:
            name = f"random widths {i + 1}" + (", training" if mode else "")
            case, failure = check(bench, counts, mode, name)
            found.append(case)
            failures += [failure] if failure else []
    return Proof(tuple(found), tuple(failures), bench.idle)


def draw_counts(groups: Sequence[Group], rng: random.Random) -> list[int]:
    """Between a quarter and all but one of every group's channels."""
    return [rng.randint(max(1, g.size // 4), g.size - 1) for g in groups]


def prepare(net: SlimNet, seed: int = 0) -> Bench:
    """The copy that is put to the test. The program of the training form is tested where it is one of its own."""
    whole = net.plan.whole
    run_modes = (False,) if whole is None or whole.same else (False, True)
    lively: SlimNet = copy.deepcopy(net).to("cpu", torch.float64)
    enliven(lively, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    inputs = drawn(of_two(net.plan.inputs), generator, torch.float64)
    lively.eval()
    with torch.no_grad(), Balance(lively):
        lively(**inputs)
    bench = Bench(lively, inputs, run_modes)
    idle = set(range(len(net.groups)))
    for mode in run_modes:
        idle &= _idle(bench, mode)
    bench.idle = tuple(net.groups[i].name for i in sorted(idle))
    return bench


@contextlib.contextmanager
def _mode(bench: Bench, training: bool) -> Iterator[None]:
    """The network in one mode, with random layers doing nothing."""
    bench.net.train(training)
    for module in bench.net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ == "StochasticDepth":
            module.eval()
    with Calm():
        yield


class Calm(TorchDispatchMode):
    """Dropout drops nothing and random draws are all the same, so that two runs can be compared."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
            return args[0].clone() if name != "native_dropout" else (args[0].clone(), torch.ones_like(args[0]))
        out = func(*args, **(kwargs or {}))
        if name in ("bernoulli", "bernoulli_", "rand", "rand_like", "randn", "randn_like", "uniform_", "normal_"):
            out.fill_(1.0)
        return out


def check(bench: Bench, counts: Sequence[int], mode: bool, name: str = "") -> tuple[Case, str]:
    """One sub-network against its masked network; the failure is a sentence, or empty."""
    net = bench.net
    width = {g.name: int(k) for g, k in zip(net.groups, counts, strict=True)}
    try:
        with torch.inference_mode(), _mode(bench, mode):
            if mode not in bench.full:
                bench.full[mode] = tensors_of(net(**bench.inputs))
            with net.sub(width):
                got = tensors_of(net(**bench.inputs))
            wanted = masked_run(net, bench.inputs, [((0, k),) for k in counts])
    except NetslimError:
        raise
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        text = f"{name or 'a sub-network'} does not run: {type(error).__name__}: {first}"
        return Case(name, float("inf"), 0.0, False), text
    difference = max((_relative(a, b) for a, b in zip(got, wanted, strict=True)), default=0.0)
    effect = max((_relative(a, b) for a, b in zip(got, bench.full[mode], strict=True)), default=0.0)
    dead = effect <= TOLERANCE and len(bench.idle) < len(net.groups)
    passed = difference <= TOLERANCE and not dead
    failure = "" if passed else f"{name}: relative difference {difference:.1e}"
    return Case(name, difference, effect, passed), failure if not dead else f"{name}: the widths have no effect"


def _relative(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    a, b = a.double(), b.double()
    difference = (a - b).abs().max() / b.abs().max().clamp_min(1e-30) if a.numel() else torch.zeros(())
    return float("inf") if not torch.isfinite(difference) else float(difference)


# ------------------------------------------------------------------------------------------------ able to fail


def _idle(bench: Bench, mode: bool) -> set[int]:
    """Groups whose last channel has no gradient in any parameter: no output depends on it."""
    net = bench.net
    with _mode(bench, mode), torch.enable_grad():
        outputs = [o for o in tensors_of(net(**bench.inputs)) if o.requires_grad]
        if not outputs:
            return set()
        generator = torch.Generator().manual_seed(7)
        losses = [(o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum() for o in outputs]
        parameters = dict(net.named_parameters(remove_duplicate=False))
        try:
            found = torch.autograd.grad(losses, list(parameters.values()), allow_unused=True)
        except RuntimeError:  # the model overwrites what its own backward needs: it can run, but not train
            return set()
        grads = dict(zip(parameters, found, strict=True))
    alive: set[int] = set()
    for name, layouts in net.plan.layouts.items():
        grad = grads.get(name)
        if grad is None:
            continue
        for dim, layout in enumerate(layouts):
            weight = grad.abs().movedim(dim, 0).flatten(1).sum(1) if grad.dim() > 1 else grad.abs()
            alive |= _touched(layout, weight)
    return set(range(len(net.groups))) - alive


def _touched(layout: Layout, weight: Tensor) -> set[int]:
    found = set()
    for group in groups_in(layout):
        others = {g: ((0, _size(layout, g)),) for g in groups_in(layout)}
        kept = set(positions(IndexSets({**others, group: ((0, 1),)}).of(layout)))
        dropped = [i for i in range(layout.size) if i not in kept]
        if float(weight[dropped].sum()) > 0:
            found.add(group)
    return found


def _size(layout: Layout, group: int) -> int:
    return next(leaf.size for leaf in leaves(layout) if isinstance(leaf, Elastic) and leaf.group == group)


# -------------------------------------------------------------------------------- the proof inside a conversion


def failing_groups(net: SlimNet, bench: Bench, seed: int = 0) -> set[int]:
    """The groups to freeze so that the rest is right, found by halving: empty when everything is right."""
    rng = random.Random(seed)
    counts = draw_counts(net.groups, rng)

    def wrong(active: Sequence[int]) -> bool:
        chosen = [counts[i] if i in active else g.size for i, g in enumerate(net.groups)]
        return any(not _equal(bench, chosen, mode) for mode in bench.modes)

    return _bisect(list(range(len(net.groups))), wrong)


def _equal(bench: Bench, counts: Sequence[int], mode: bool) -> bool:
    case, _ = check(bench, counts, mode)
    return case.max_rel_diff <= TOLERANCE


def _bisect(active: list[int], wrong: Callable[[Sequence[int]], bool]) -> set[int]:
    if not wrong(active):
        return set()
    if len(active) == 1:
        return set(active)
    half = len(active) // 2
    found = _bisect(active[:half], wrong) | _bisect(active[half:], wrong)
    return found or set(active)  # wrong only together
