"""DistributedDataParallel around the network: the mean of both processes' gradients, in one exchange, in every mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .processes import MODES, in_processes
from .wrapped import NORMS, WRAPPERS
from .wrapped_loops import LOOPS, UNDER, answers

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return in_processes(2, tmp_path_factory.mktemp("wrapped"), answers)


def assert_equal(pair: tuple[Any, Any], rtol: float = 1e-9) -> None:
    mine, wanted = pair
    assert len(mine) == len(wanted)
    for first, second in zip(mine, wanted, strict=True):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert (value is None) == (second[name] is None), name
            if value is not None:
                torch.testing.assert_close(value, second[name], rtol=rtol, atol=rtol / 100, msg=name)


@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize("mode", ["none", *MODES])
def test_gradients_and_steps_are_those_of_the_mean_over_processes(
    found: list[dict[str, Any]], mode: str, norms: str
) -> None:
    for process in found:
        assert_equal(process[f"{mode}, {norms}"])


@pytest.mark.parametrize("case", ["last pass skips", "in parts"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_so_they_are_however_the_wrapper_was_built(found: list[dict[str, Any]], wrapper: str, case: str) -> None:
    for process in found:
        assert_equal(process[f"{wrapper}, {case}"])


def test_a_parameter_that_nothing_uses_has_no_gradient(found: list[dict[str, Any]]) -> None:
    for process in found:
        for wrapper in WRAPPERS:
            assert process[f"{wrapper}, in parts"][0][0]["spare.weight"] is None


def test_a_last_pass_without_anything_that_is_trained_ends_the_exchange(found: list[dict[str, Any]]) -> None:
    for process in found:
        for pair in process["frozen"]:
            assert_equal(pair)


@pytest.mark.parametrize("wrapper", UNDER)
@pytest.mark.parametrize("name", LOOPS)
def test_gradients_that_a_loop_takes_itself_are_exact_however_it_does(
    found: list[dict[str, Any]], name: str, wrapper: str
) -> None:
    for process in found:
        assert_equal(process["loops"][f"{name}, {wrapper}"])


@pytest.mark.parametrize("name", ["parts in turn", "parts summed", "frozen last", "waiting", "another's exchange"])
def test_so_they_are_where_not_every_loop_ends_a_step(found: list[dict[str, Any]], name: str) -> None:
    for process in found:
        assert_equal(process["loops"][name])


@pytest.mark.parametrize("name", ["steps", "scaled"])
def test_steps_in_parts_and_with_a_scaler_are_exact(found: list[dict[str, Any]], name: str) -> None:
    for process in found:
        assert_equal(process[name])


def test_a_run_comes_to_the_same_weights_by_either_exchange(found: list[dict[str, Any]]) -> None:
    for process in found:
        assert_equal(process["runs"], rtol=1e-4)


@pytest.mark.parametrize("way", range(5))
def test_the_wrapper_is_found_wherever_it_is_handed_in(found: list[dict[str, Any]], way: int) -> None:
    for process in found:
        assert_equal(process["other ways"][way])


@pytest.mark.parametrize("order", range(2))
def test_a_further_loss_counts_before_and_after_the_exchange(found: list[dict[str, Any]], order: int) -> None:
    for process in found:
        assert_equal(process["further"][order])


def test_a_hook_of_the_exchange_is_called(found: list[dict[str, Any]]) -> None:
    first, second = (process["compressed"][0][0] for process in found)
    used = [name for name, value in first.items() if value is not None]
    assert all(torch.equal(first[name], second[name]) for name in used)
    wanted = found[0]["compressed"][1][0]
    assert not all(torch.allclose(first[name], wanted[name], rtol=1e-6) for name in used)
    for name in used:
        assert float((first[name] - wanted[name]).norm() / wanted[name].norm()) < 0.02, name


def test_each_bucket_is_sent_once_a_step_and_the_first_before_the_last_backward_ends(
    found: list[dict[str, Any]],
) -> None:
    for process in found:
        first, events = process["overlap"]
        assert [event for event in first if event != "stem"] == ["bucket 0"]  # until DDP knows the order, it has one
        sent = [event for event in events if event != "stem"]
        last = len(events) - 1 - events[::-1].index("stem")
        assert len(set(sent)) == len(sent)
        assert events[: events.index(sent[0])] == ["stem"] * 3  # the passes before the last
        assert sum(event != "stem" for event in events[:last]) > 2


def test_a_step_begins_with_the_running_statistics_of_the_first_process(found: list[dict[str, Any]]) -> None:
    first, second = (process["buffers"]["mean"] for process in found)
    assert float(first.norm()) > 0
    assert torch.equal(first, second)


SAID = {
    "wrapper": "fine",
    "bare": "would exchange nothing: give GradAug the wrapper",
    "compiled": "would exchange nothing: give GradAug the wrapper",
    "function": "would exchange nothing: give GradAug the wrapper",
    "another's": "does not hold the network",
    "frozen later": "frozen, freed or replaced after the DistributedDataParallel was built",
    "joined": "give every process as many batches",
    "static": "without static_graph",
    "copies": "DataParallel runs copies",
    "no network": "Linear is no converted network",
    "later": "would exchange nothing",
    "later, in a loop": "would exchange nothing",
    "left at once": "fine",
    "left then": "the gradients of the step before were not exchanged",
    "left before": "fine",
    "last first": "take them in the order in which losses() gives them, or of their sum",
    "left": "fine",
}


@pytest.mark.parametrize("name", SAID)
def test_what_would_go_wrong_is_said(found: list[dict[str, Any]], name: str) -> None:
    for process in found:
        assert SAID[name] in process["said"][name]
