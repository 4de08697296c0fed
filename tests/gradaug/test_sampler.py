"""Laws of the sub-networks that are drawn."""

from __future__ import annotations

import itertools
import random
import statistics
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradaug.subnets.sampler import Draw, draw
from gradaug.subnets.space import Space, survivals
from netslim.errors import InputError

alphas = st.floats(0.05, 1.0)
counts = st.integers(1, 6)
steps = st.integers(0, 10**9)
seeds = st.integers(0, 2**40)


@given(alphas, counts, seeds, steps)
def test_widths_fall_to_alpha_which_is_always_there(alpha: float, count: int, seed: int, step: int) -> None:
    widths = [one.width for one in draw(Space(alpha=alpha, num_subnets=count), seed, step)]
    assert len(widths) == count
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == alpha
    assert max(widths) <= 1


@given(counts, seeds, steps)
def test_resolutions_come_from_the_list(count: int, seed: int, step: int) -> None:
    draws = draw(Space(num_subnets=count, resolutions=(32, 28, 24)), seed, step)
    assert {one.resolution for one in draws} <= {32, 28, 24}
    assert {one.resolution for one in draw(Space(num_subnets=count), seed, step)} == {None}


@given(seeds, steps)
def test_a_draw_is_a_function_of_seed_and_step_alone(seed: int, step: int) -> None:
    space = Space("both", resolutions=(32, 24), blocks=tuple("abcdef"))
    state = random.getstate()
    first = draw(space, seed, step)
    assert random.getstate() == state
    random.seed(step)
    assert draw(space, seed, step) == first
    assert draw(space, seed, step + 1) != first
    assert draw(space, seed + 1, step) != first


@given(st.integers(2, 60), st.floats(0.05, 1.0))
def test_survival_falls_linearly_from_one(count: int, last: float) -> None:
    chances = survivals(count, last)
    assert chances[0] == 1
    assert chances[-1] == pytest.approx(last)
    assert [a - b for a, b in itertools.pairwise(chances)] == pytest.approx([(1 - last) / (count - 1)] * (count - 1))


@given(seeds, steps)
def test_random_depth_keeps_the_width_and_the_first_block(seed: int, step: int) -> None:
    draws = draw(Space("randdepth", blocks=("a", "b", "c"), survival=0.3), seed, step)
    assert len(draws) == 3
    assert all(one.width == 1 and "a" not in one.skip for one in draws)


def test_blocks_are_kept_as_often_as_their_survival_says() -> None:
    space = Space("randdepth", blocks=tuple(map(str, range(54))), num_subnets=1)
    kept = [54 - len(one.skip) for step in range(2000) for one in draw(space, 0, step)]
    assert statistics.mean(kept) == pytest.approx(48.6, abs=0.25)


def test_widths_are_uniform() -> None:
    space = Space(alpha=0.5, num_subnets=2)
    widths = [draw(space, 3, step)[0].width for step in range(2000)]
    assert statistics.mean(widths) == pytest.approx(0.75, abs=0.015)
    assert statistics.stdev(widths) == pytest.approx(0.5 / 12**0.5, abs=0.01)


def test_plain_training_draws_nothing() -> None:
    assert draw(Space("none"), 0, 0) == ()


def test_a_draw_speaks_the_language_of_sub() -> None:
    assert Draw(0.75, ("layer1.0",), 24, 16).sub() == {"width": 0.75, "depth": {"layer1.0": False}, "round_to": 16}
    assert Draw(0.75).sub()["depth"] is None


@pytest.mark.parametrize("mode", ["randdepth", "both"])
def test_depth_without_blocks_points_to_width(mode: str) -> None:
    with pytest.raises(InputError, match="none were found in this network; use mode 'randwidth'"):
        Space(mode)


def test_unknown_modes_and_ranges_are_named() -> None:
    with pytest.raises(InputError, match="one of randwidth, randdepth, both, none"):
        Space("width")
    with pytest.raises(InputError, match=r"must be in \(0, 1\]"):
        Space(alpha=0)


@given(seeds, steps, st.integers(0, 6))
def test_a_fixed_number_of_blocks_is_left_out(seed: int, step: int, count: int) -> None:
    space = Space("randdepth", blocks=tuple("abcdef"), skip_blocks=count)
    assert {len(one.skip) for one in draw(space, seed, step)} == {count}


@given(seeds, steps, st.integers(0, 3))
def test_a_stage_loses_no_more_than_its_limit(seed: int, step: int, limit: int) -> None:
    stages = (0, 0, 0, 1, 1, 2)
    space = Space("randdepth", blocks=tuple("abcdef"), survival=0.1, stage_limit=limit, stages=stages)
    for one in draw(space, seed, step):
        lost = [stages["abcdef".index(block)] for block in one.skip]
        assert all(lost.count(stage) <= limit for stage in stages)


def test_both_ends_of_the_survival_can_be_set() -> None:
    space = Space("randdepth", blocks=tuple("abc"), survival_first=0.9, survival=0.5)
    assert list(space.chances.values()) == pytest.approx([0.9, 0.7, 0.5])


def test_more_blocks_than_there_are_cannot_be_left_out() -> None:
    with pytest.raises(InputError, match="skip_blocks is 4, and this network has 3 blocks"):
        Space("randdepth", blocks=tuple("abc"), skip_blocks=4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": True}, {"width": 2}, {"width": 0}, {"width": None}, {"width": "0.5"}, {"width": [0.5]},
        {"width": {"a": 0}}, {"width": {"a": True}}, {"width": [("a", 0.5), ("a", 1.0)]}, {"width": [("a", 1.5)]},
        {"skip": "ab"}, {"skip": ("a", "a")}, {"skip": (1,)}, {"skip": None},
        {"resolution": 0}, {"resolution": 8.5}, {"resolution": "8"}, {"round_to": 0}, {"round_to": True},
    ],
    ids=repr,
)  # fmt: skip
def test_a_wrong_draw_is_an_error_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be"):
        Draw(**wrong)


def test_a_draw_is_plain_and_hashable_whatever_it_was_made_of() -> None:
    made = Draw(np.float32(0.5), ["a", "b"], np.int64(24), torch.tensor(8))  # type: ignore[arg-type]
    assert made == Draw(0.5, ("a", "b"), 24, 8)
    assert repr(made) == repr(Draw(0.5, ("a", "b"), 24, 8))
    assert Draw(1) == Draw(1.0)
    pairs = Draw({"a": 0.5, "b": np.int64(3)})  # type: ignore[arg-type]
    assert pairs == Draw((("a", 0.5), ("b", 3)))
    assert hash(pairs) == hash(Draw((("a", 0.5), ("b", 3))))
    assert pairs.sub()["width"] == {"a": 0.5, "b": 3}
    assert isinstance(pairs.sub()["width"]["b"], int)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mode": "width"}, "mode must be one of"),
        ({"alpha": 0}, "alpha must be"),
        ({"alpha": True}, "alpha must be"),
        ({"num_subnets": 0}, "num_subnets must be"),
        ({"num_subnets": 1.5}, "num_subnets must be"),
        ({"resolutions": 32}, "resolutions must be"),
        ({"resolutions": (0,)}, "resolutions must be"),
        ({"round_to": 0}, "round_to must be"),
        ({"blocks": "ab"}, "blocks must be"),
        ({"blocks": ("a", "a")}, "blocks must be"),
        ({"groups": "ab"}, "groups must be"),
        ({"stages": (0,)}, "stages has 1 entries for 0 blocks"),
        ({"mode": "both", "blocks": ("a", "b"), "skip_blocks": 3}, "skip_blocks is 3"),
        ({"mode": "both", "blocks": ("a", "b"), "skip_blocks": 2, "stage_limit": 1}, "skip 1 blocks at most"),
        ({"mode": "both", "blocks": ("a",), "skip_blocks": -1}, "skip_blocks must be"),
        ({"mode": "both", "blocks": ("a",), "stage_limit": 0.5}, "stage_limit must be"),
    ],
)
def test_a_wrong_space_is_an_error_when_it_is_made(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Space(**wrong)


def test_exactly_as_many_blocks_as_asked_for_are_left_out() -> None:
    space = Space("randdepth", blocks=tuple("abcd"), stages=(0, 0, 1, 1), skip_blocks=2, stage_limit=1)
    assert {len(one.skip) for step in range(20) for one in draw(space, 0, step)} == {2}


def test_seeds_and_steps_are_whole_numbers_of_any_kind() -> None:
    assert draw(Space(), np.int64(3), torch.tensor(2), np.uint8(1)) == draw(Space(), 3, 2, 1)  # type: ignore[arg-type]
    for wrong in ((0.5, 0, 0), (0, -1, 0), (0, 1.0, 0), (True, 0, 0), (0, 0, "1"), (None, 0, 0)):
        with pytest.raises(InputError, match="must be a whole number"):
            draw(Space(), *wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"drawn from a gradaug\.Space"):
        draw("randwidth", 0, 0)  # type: ignore[arg-type]
