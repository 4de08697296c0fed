"""The proof: a sub-network equals the full network in which the dropped channels of every parameter are zero.

The comparison runs in double precision (on a large network only where single precision leaves a doubt), on weights
that are drawn at random first, and a group that no output depends on is named rather than counted as proved.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from netslim.errors import NetslimError
from netslim.ir.plan import Block, Group
from netslim.ir.proof import Case, Proof
from netslim.layouts.axes import Misaligned
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.proof.blame import must_be_the_networks
from netslim.proof.harness import FLOPS_LARGE, Bench, no_randomness, prepare, to_double
from netslim.proof.masked import everything, masked_run
from netslim.proof.parity import copied, parity


def verify(net: SlimNet, model: nn.Module | None = None, *, cases: int = 3, seed: int = 0) -> Proof:
    """Hold random sub-networks of `net`, in every form that it has, to mask-equivalence. `net` is not changed.

    model: the original, with whatever weights; the full network is held to it too, with the weights of `net`.
    A network that does not even run at full width fails, with the reason. Raises InputError where `model` is not the
    one that was converted.
    """
    found = _of_sub_networks(net, cases, seed)
    return found if model is None else replace(found, failures=(*_unlike(model, net), *found.failures))


def _unlike(model: nn.Module, net: SlimNet) -> tuple[str, ...]:
    found = parity(net.restore(copied(model)), net)
    return () if found is None else (f"the full network differs from the model: {found}",)


def _of_sub_networks(net: SlimNet, cases: int, seed: int) -> Proof:
    plan = runtime(net).plan
    if not plan.groups and not plan.blocks:
        return Proof()
    try:
        bench = prepare(net, seed)
    except Exception as error:
        must_be_the_networks(error)
        return Proof(failures=(f"the full network does not run: {told(error)}",))
    try:
        return judge(bench, cases=cases, seed=seed)
    except Misaligned as error:
        return Proof(failures=(f"the plan is wrong: {error}",))


def judge(bench: Bench, *, cases: int = 3, seed: int = 0) -> Proof:
    """The same for a prepared copy: random widths, or, where there are blocks, these once and then widths and depths.

    On a large network only the latter. More cases are drawn until one has an effect on the output.
    Raises Misaligned where the plan is wrong.
    """
    proof = _judged(bench, cases, seed)
    if bench.single_precision and not proof.passed:
        to_double(bench)
        proof = _judged(bench, cases, seed)
    return proof


def _judged(bench: Bench, cases: int, seed: int) -> Proof:
    plan = runtime(bench.net).plan
    wide = cases if not plan.blocks else 0 if bench.flops > FLOPS_LARGE else 1
    drawn = wide + (cases if plan.blocks else 0)
    found: list[Case] = []
    failures: list[str] = []
    idle = tuple(name for name in bench.idle if plan.group(name))
    living = len(idle) < len(plan.groups)
    for i in range(drawn + _FURTHER):
        if i >= drawn and (not living or any(case.effect > bench.tolerance for case in found)):
            break
        rng = random.Random(seed * 1000 + i)
        counts, deep = draw_counts(plan.groups, rng), wide <= i < drawn
        run = draw_run(plan.blocks, rng) if deep else (True,) * len(plan.blocks)
        for mode in bench.modes:
            kind = f"random widths and depths {i - wide + 1}" if deep else f"random widths {i + 1}"
            case, failure = check(bench, counts, mode, kind + (", training" if mode else ""), run)
            found.append(case)
            failures += [failure] if failure else []
    if living and not any(case.effect > bench.tolerance for case in found):
        failures.append("the widths have no effect on the output")
    return Proof(tuple(found), tuple(failures), idle)


def draw_run(blocks: Sequence[Block], rng: random.Random) -> tuple[bool, ...]:
    """Each block runs or not, with equal chances; at least one does not."""
    run = [rng.random() < 0.5 for _ in blocks]
    run[rng.randrange(len(run))] = False
    return tuple(run)


_FURTHER = 5


def told(error: BaseException) -> str:
    """An error's class and first line."""
    lines = str(error).strip().split("\n")
    return f"{type(error).__name__}: {lines[0]}"


def draw_counts(groups: Sequence[Group], rng: random.Random) -> list[int]:
    """Between a quarter and all but one of every group's channels."""
    return [rng.randint(max(1, g.size // 4), g.size - 1) for g in groups]


def check(
    bench: Bench, counts: Sequence[int], mode: bool, name: str = "", run: tuple[bool, ...] = ()
) -> tuple[Case, str]:
    """One sub-network against its masked network; the failure is a sentence, or empty. Raises Misaligned."""
    net, plan = bench.net, runtime(bench.net).plan
    width = {g.name: int(k) for g, k in zip(plan.groups, counts, strict=True)}
    depth = {block.name: runs for block, runs in zip(plan.blocks, run, strict=False)}
    try:
        with no_randomness(net, mode):
            kept = [((0, k),) for k in counts]
            wanted = masked_run(net, bench.inputs, kept, run)
            if not all(bool(torch.isfinite(t).all()) for t in wanted if t.is_floating_point()):
                wanted = masked_run(net, bench.inputs, kept, run, buffers=False)
        with torch.inference_mode(), no_randomness(net, mode), net.sub(width, depth):
            got = everything(net, bench.inputs)
    except (NetslimError, Misaligned):
        raise
    except Exception as error:
        must_be_the_networks(error)
        return Case(name, float("inf"), 0.0, False), f"{name or 'a sub-network'} does not run: {told(error)}"
    difference, effect = _farthest(got, wanted), _farthest(got, bench.full[mode])
    passed = difference <= bench.tolerance
    failure = "" if passed else f"{name}: relative difference {difference:.1e}"
    return Case(name, difference, effect, passed), failure


def _farthest(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    if len(ours) != len(theirs):
        return float("inf")
    return max((_relative(a, b) for a, b in zip(ours, theirs, strict=True)), default=0.0)


def _relative(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    a, b = a.double(), b.double()
    difference = (a - b).abs().max() / b.abs().max().clamp_min(1e-30) if a.numel() else torch.zeros(())
    return float("inf") if not torch.isfinite(difference) else float(difference)


# -------------------------------------------------------------------------------- the proof inside a conversion


def failing_groups(bench: Bench, seed: int = 0) -> set[int]:
    """The groups to freeze so that the rest is right, found by halving: empty when everything is right."""
    groups = runtime(bench.net).plan.groups
    counts = draw_counts(groups, random.Random(seed))

    def wrong(active: Sequence[int]) -> bool:
        chosen = [counts[i] if i in active else g.size for i, g in enumerate(groups)]
        return any(not _equal(bench, chosen, mode) for mode in bench.modes)

    return _bisect(list(range(len(groups))), wrong)


def failing_blocks(bench: Bench) -> set[int]:
    """The blocks to leave alone so that the rest is right, at full width: empty when everything is right."""
    plan = runtime(bench.net).plan
    counts = [group.size for group in plan.groups]

    def wrong(active: Sequence[int]) -> bool:
        run = tuple(i not in active for i in range(len(plan.blocks)))
        return any(not _equal(bench, counts, mode, run) for mode in bench.modes)

    return _bisect(list(range(len(plan.blocks))), wrong)


def _equal(bench: Bench, counts: Sequence[int], mode: bool, run: tuple[bool, ...] = ()) -> bool:
    try:
        case, _ = check(bench, counts, mode, run=run)
    except Misaligned:
        return False
    return case.max_rel_diff <= bench.tolerance


def _bisect(active: list[int], wrong: Callable[[Sequence[int]], bool]) -> set[int]:
    if not active or not wrong(active):
        return set()
    if len(active) == 1:
        return set(active)
    half = len(active) // 2
    found = _bisect(active[:half], wrong) | _bisect(active[half:], wrong)
    return found or set(active)  # wrong only together
