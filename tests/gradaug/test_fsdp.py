"""fully_shard on a converted network: the gradients, weights and networks that one process has, in every mode."""

from __future__ import annotations

from typing import Any

import pytest

from .processes import MODES, in_processes
from .sharded import LAYOUTS, answers
from .test_ddp import assert_equal

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return in_processes(2, tmp_path_factory.mktemp("sharded"), answers)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_and_steps_are_those_of_the_mean_over_processes(
    found: list[dict[str, Any]], layout: str, mode: str
) -> None:
    for process in found:
        assert_equal(process[f"{layout}, {mode}"])


@pytest.mark.parametrize("layout", ["leaves and root", "containers and root"])
def test_a_block_that_the_last_pass_skips_keeps_its_gradient(found: list[dict[str, Any]], layout: str) -> None:
    for process in found:
        assert_equal(process[f"{layout}, last pass skips"])


@pytest.mark.parametrize("name", ["little", "own_widths", "stepped", "further", "around", "exempt", "python"])
def test_so_they_are_in_other_loops_and_networks(found: list[dict[str, Any]], name: str) -> None:
    for process in found:
        assert_equal(process[name])


def test_a_space_that_is_tried_out_on_it_leaves_it_sharded(found: list[dict[str, Any]]) -> None:
    for process in found:
        assert process["blank_space"] == [(12,), {"DTensor"}]


@pytest.mark.parametrize("name", ["run", "extracted", "original", "restored", "saved"])
def test_what_is_made_of_it_is_what_one_process_makes(found: list[dict[str, Any]], name: str) -> None:
    for process in found:
        assert_equal(process[name])


def test_it_is_shown_and_counted_as_in_one_process(found: list[dict[str, Any]]) -> None:
    for process in found:
        for mine, wanted in (process["shown"], process["counted"]):
            assert mine == wanted


SAID = {
    "no root": "call fully_shard on it too, last",
    "no root, alone": "call fully_shard on it too, last",
    "blocks": "must leave out the same blocks in every pass",
    "own blocks": "must leave out the same blocks in every pass",
    "optimizer": "the optimizer holds none of the network's parameters",
    "around": "by something around the network",
    "around, before": "by something around the network",
    "compiled": "shard its layers and the network itself, or leave torch.compile out",
    "model": "convert a model before it is sharded",
    "flat": "FullyShardedDataParallel flattens parameters",
    "flat, inside": "FullyShardedDataParallel flattens parameters",
    "in parts": "the parts of this network are called one by one",
}


@pytest.mark.parametrize("name", SAID)
def test_what_would_hang_or_go_wrong_is_said(found: list[dict[str, Any]], name: str) -> None:
    for process in found:
        assert SAID[name] in process["said"][name]
