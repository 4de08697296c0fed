"""In transformers' Trainer a step trains sub-networks too; all else is the Trainer's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradaug
from netslim.errors import InputError

pytest.importorskip("transformers")

from transformers.modeling_outputs import ImageClassifierOutput, SemanticSegmenterOutput

from . import transformers_loops
from .loops import BATCHES, batches, by_hand, optimizer_of
from .processes import in_processes
from .transformers_loops import OPTIONS, Segmenter, converted, trained

pytestmark = pytest.mark.filterwarnings("ignore")


def weights(net: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in net.parameters()]


def test_steps_are_those_of_a_loop_with_clipping_and_accumulation(tmp_path: Path) -> None:
    net = converted()
    trainer = trained(net, tmp_path, gradient_accumulation_steps=2, max_grad_norm=0.5, logging_steps=1)
    torch.testing.assert_close(weights(net), by_hand(batches(), clip=0.5, accumulate=2))
    logged = [entry["subnet_loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == BATCHES // 2
    assert min(logged) > 0


def test_the_mean_loss_of_sub_networks_is_over_the_steps_that_have_some(tmp_path: Path) -> None:
    net, other = converted(), converted()
    options = {"subnet_every": 2, "subnet_share": 0.5}
    trainer = trained(net, tmp_path, options=OPTIONS | options, logging_steps=5)
    ga, optimizer, sums = gradaug.GradAug(other, **OPTIONS, **options), optimizer_of(other), []
    for images, labels in batches():
        sums.append(sum(float(one) for one in ga.step(images, labels, optimizer).subnets))
    torch.testing.assert_close(weights(net), weights(other))
    (logged,) = [entry["subnet_loss"] for entry in trainer.state.log_history if "subnet_loss" in entry]
    assert [value > 0 for value in sums] == [False, True] * 3
    assert logged == pytest.approx((sums[1] + sums[3]) / 2, rel=1e-4)


def test_outputs_keep_their_class_and_evaluation_has_the_tasks_loss(tmp_path: Path) -> None:
    net = converted()
    assert isinstance(net(pixel_values=torch.zeros(1, 1, 8, 8)), ImageClassifierOutput)
    found = trained(net, tmp_path, data=batches()[:1]).evaluate()
    images, labels = batches()[0]
    with torch.no_grad():
        expected = nn.functional.cross_entropy(net(images).logits, labels)
    assert found["eval_loss"] == pytest.approx(float(expected), rel=1e-4)
    assert (found["eval_images"], found["eval_classes"]) == (8, 10)


def test_a_run_that_resumes_goes_on_with_the_sub_networks_that_were_next(tmp_path: Path) -> None:
    whole, half = converted(), converted()
    trained(whole, tmp_path / "whole", save_strategy="steps", save_steps=3)
    trained(half, tmp_path / "half", str(tmp_path / "whole" / "checkpoint-3"))
    torch.testing.assert_close(weights(half), weights(whole), rtol=0, atol=0)


def test_masks_are_learned_at_their_size(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    masks = torch.randint(3, (16, 8, 8), generator=generator)
    masks[:, 0] = 255
    data = [(images, masks[8 * i : 8 * i + 8]) for i, (images, _) in enumerate(batches()[:2])]
    options: dict[str, Any] = {"task": gradaug.Segmentation(ignore_index=255), "mode": "randwidth", "resolutions": ()}
    net, other = converted(Segmenter), converted(Segmenter)
    found = trained(net, tmp_path, options=options, data=data).evaluate()
    assert isinstance(net(torch.zeros(1, 1, 8, 8)), SemanticSegmenterOutput)
    assert found["eval_classes"] == 3
    ga, optimizer = gradaug.GradAug(other, **(OPTIONS | options)), optimizer_of(other)
    for images, labels in data:
        ga.step(images, labels, optimizer)
    torch.testing.assert_close(weights(net), weights(other))


def test_two_processes_are_one(tmp_path: Path) -> None:
    alone = by_hand(batches(), clip=0.5, accumulate=2)
    for found in in_processes(2, tmp_path, transformers_loops.in_a_pair):
        torch.testing.assert_close(found, alone)


@pytest.mark.parametrize("name", ["accumulate", "scaler", "amp", "backward", "forward"])
def test_what_the_trainer_says_is_not_said_twice(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"leave {name} out"):
        trained(converted(), tmp_path, options={name: 2})


def test_a_model_that_is_not_converted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Linear is no converted network: give what netslim.convert returned"):
        trained(nn.Linear(1, 1), tmp_path)  # type: ignore[arg-type]
