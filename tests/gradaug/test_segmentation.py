"""Segmentation of networks as libraries have them: auxiliary heads in dicts, objects, logits of a part of the size."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

import gradaug
import netslim
from gradaug.errors import DataError
from gradaug.evaluation.score import require_fit
from gradaug.tasks import Segmentation
from gradaug.tasks.batch import first_of
from gradaug.tasks.outputs import main_output
from gradaug.tasks.segmentation import pixel_loss
from netslim.errors import InputError

from . import formats, pixels
from .interrupt import StopAfter, StopError
from .processes import in_processes

# ------------------------------------------------------------------------------------------------------------ step


def parts(output: Any) -> list[Tensor]:
    """The main logits, and those of the auxiliary head where there is one."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, list):
        return output
    found = output if isinstance(output, dict) else vars(output)
    return [found[name] for name in ("out", "logits", "aux") if name in found]


def cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """-log p of the labelled pixels, mean over them, of logits enlarged to the masks."""
    logits = F.interpolate(logits, masks.shape[1:], mode="bilinear", align_corners=False)
    logarithms = logits - logits.exp().sum(1, keepdim=True).log()
    chosen = sum(logarithms[:, label][masks == label].sum() for label in range(logits.shape[1]))
    return -chosen / (masks != 255).sum()


def reference(net: netslim.SlimNet, images: Tensor, masks: Tensor, draws: Any) -> list[Tensor]:
    """Losses of one step, written out."""
    main, *auxiliary = parts(net(images))
    losses = [cross_entropy(main, masks) + sum(0.5 * cross_entropy(each, masks) for each in auxiliary)]
    teacher = main.detach() - main.detach().exp().sum(1, keepdim=True).log()
    for draw in draws:
        small = F.interpolate(images, (draw.resolution,) * 2, mode="bilinear", align_corners=True)
        with net.sub(**draw.sub()):
            answer = parts(net(small))[0]
        answer = F.interpolate(answer, main.shape[2:], mode="bilinear", align_corners=True)
        student = answer - answer.exp().sum(1, keepdim=True).log()
        losses.append((teacher.exp() * (teacher - student)).sum(1).mean())
    return losses


@pytest.mark.parametrize("form", pixels.FORMS)
def test_a_step_is_the_one_written_out(form: str) -> None:
    net = pixels.network(form).double()
    images, masks = pixels.batch()
    ga = pixels.step_of(net)
    draws = gradaug.draw(ga.space, 0, 0)
    losses = ga.backward(images, masks)
    found = pixels.gradients(net)
    net.zero_grad()
    expected = reference(net, images, masks, draws)
    torch.testing.assert_close([losses.full, *losses.subnets], [one.detach() for one in expected], rtol=1e-9, atol=1e-9)
    sum(expected, start=torch.zeros((), dtype=torch.float64)).backward()
    assert set(found) == set(pixels.gradients(net))
    for name, gradient in pixels.gradients(net).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9, msg=name)


def test_auxiliary_heads_learn_from_masks_alone() -> None:
    net = pixels.network("dict").double()
    images, masks = pixels.batch()
    pixels.step_of(net).backward(images, masks)
    found = net.get_parameter("aux.weight").grad
    net.zero_grad()
    (0.5 * cross_entropy(net(images)["aux"], masks)).backward()
    torch.testing.assert_close(found, net.get_parameter("aux.weight").grad)


def test_an_output_class_comes_back_from_a_converted_network() -> None:
    images = torch.randn(2, 1, pixels.SIDE, pixels.SIDE)
    output = pixels.network("model output")(images)
    assert type(output) is pixels.Output
    assert output.logits is output["logits"] is main_output(output)
    assert type(pixels.network("dataclass")(images)) is pixels.Answer
    narrow = pixels.network("model output").extract(0.5)(images)  # which needs torch alone
    assert main_output(narrow) is narrow["logits"]


@pytest.mark.parametrize("form", pixels.FORMS)
def test_images_without_masks_train_sub_networks_alone(form: str) -> None:
    images, masks = (t.float() if t.is_floating_point() else t for t in pixels.batch())
    losses = pixels.step_of(pixels.network(form)).backward(images[:2], masks[:2], unlabelled=images[2:])
    assert len(losses.output) == 2
    torch.testing.assert_close(losses.full, pixels.step_of(pixels.network(form)).backward(images[:2], masks[:2]).full)


def test_a_part_of_an_object_is_one_of_its_class() -> None:
    whole = pixels.Answer(torch.arange(4), torch.arange(4) + 4)
    part = first_of(whole, 3, 4)
    assert (part.logits.tolist(), part.aux.tolist()) == ([0, 1, 2], [4, 5, 6])
    assert len(whole.logits) == 4


@pytest.mark.parametrize("form", ["tensor", "dict"])
def test_masks_without_any_label_add_nothing(form: str) -> None:
    """A crop can hold nothing else."""
    net = pixels.network(form).double()
    images, masks = pixels.batch()
    losses = pixels.step_of(net, num_subnets=1).backward(images, torch.full_like(masks, 255))
    assert float(losses.full) == 0
    assert all(gradient.isfinite().all() for gradient in pixels.gradients(net).values())
    assert gradaug.score(net, [(images, torch.full_like(masks, 255))], task=Segmentation(ignore_index=255)).loss == 0


@pytest.mark.parametrize("size", [(6, 3), (3, 6), (7, 6), (25, 24), (48, 48), (1, 12)])
def test_logits_that_are_no_smaller_picture_of_the_masks_are_refused(size: tuple[int, int]) -> None:
    logits, masks = torch.randn(2, 4, *size), torch.zeros(2, 24, 24, dtype=torch.long)
    with pytest.raises(InputError, match=r"no smaller picture of masks of 24 x 24: both sides are to be"):
        pixel_loss(logits, masks)
    with pytest.raises(InputError, match="no smaller picture"):
        pixel_loss({"out": torch.randn(2, 4, 24, 24), "aux": logits}, masks)


@pytest.mark.parametrize(
    ("size", "masks"), [((6, 8), (24, 32)), ((47, 63), (375, 500)), ((9, 17), (33, 65)), ((3, 7), (31, 63))]
)
def test_layers_with_strides_may_round(size: tuple[int, int], masks: tuple[int, int]) -> None:
    assert pixel_loss(torch.randn(1, 4, *size), torch.zeros(1, *masks, dtype=torch.long)).isfinite()


def test_figures_are_those_at_the_masks_size() -> None:
    net, task = pixels.network("tensor").eval(), Segmentation(ignore_index=255)
    images, masks = (t.float() if t.is_floating_point() else t for t in pixels.batch())
    enlarged = F.interpolate(net(images), masks.shape[1:], mode="bilinear", align_corners=False).detach()
    known, answers = masks != 255, enlarged.argmax(1)
    found = gradaug.score(net, [(images, masks)], task=task)
    assert found.pixel_accuracy == pytest.approx(100 * float((answers == masks)[known].float().mean()))
    assert found.loss == pytest.approx(float(F.cross_entropy(enlarged, masks, ignore_index=255)), rel=1e-6)
    shares = [float((answers == label)[masks == label].float().mean()) for label in range(pixels.CLASSES)]
    assert found.class_accuracy == pytest.approx(100 * sum(shares) / len(shares))
    assert float(task.train_sums(net(images), masks)["right"]) > 0


def test_half_precision_is_enlarged_in_single() -> None:
    logits, masks = torch.randn(2, 4, 6, 6), torch.zeros(2, 24, 24, dtype=torch.long)
    with torch.autocast("cpu", torch.bfloat16):
        found = pixel_loss(logits.bfloat16(), masks)
    assert found.dtype == torch.float32
    assert found == pixel_loss(logits.bfloat16().float(), masks)


# ------------------------------------------------------------------------------------------------------------- run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(formats.voc_masks(tmp_path_factory.mktemp("voc"), 8, 4))


@pytest.fixture(scope="module")
def processes(files: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    return in_processes(2, folder, functools.partial(pixels.share, files, folder / "run"))


def test_two_processes_have_the_gradients_of_one(processes: list[dict[str, Any]]) -> None:
    """That of the joined batch where each has as many labelled pixels, and of the same batch in two parts anyway."""
    images, masks = pixels.batch()
    joined, divided = pixels.network("dict").double(), pixels.network("dict").double()
    pixels.step_of(joined).backward(images, masks[:1].expand(4, -1, -1))
    ga = pixels.step_of(divided, accumulate=2)
    for part in (slice(2), slice(2, 4)):
        ga.backward(images[part], masks[part])
    for process in processes:
        for name, net in (("equal", joined), ("unequal", divided)):
            expected = pixels.gradients(net)
            assert process[name].keys() == expected.keys()
            for key, gradient in expected.items():
                torch.testing.assert_close(process[name][key], gradient, rtol=1e-9, atol=1e-11, msg=key)


def test_a_run_of_two_processes_is_the_run_of_one(processes: list[dict[str, Any]], files: str, tmp_path: Path) -> None:
    alone, score = pixels.run(files, tmp_path / "alone", accumulate=2)
    for process in processes:
        weights, found = process["run"]
        for name, value in alone.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-6)
        assert found.miou == pytest.approx(score.miou, rel=1e-3)
        assert found.images == score.images == 4


@pytest.mark.parametrize("steps", [1, 3])
def test_a_run_that_was_stopped_ends_with_the_same_weights(files: str, tmp_path: Path, steps: int) -> None:
    config, nets = pixels.settings(files), [pixels.network("dict of parts", 21, 3) for _ in range(3)]
    whole = gradaug.train(nets[0], config, tmp_path / "whole")
    with pytest.raises(StopError):
        gradaug.train(nets[1], config, tmp_path / "cut", progress=StopAfter(steps))
    result = gradaug.train(nets[2], config, tmp_path / "cut", resume=True)
    assert (result.before, result.after, result.subnets) == (whole.before, whole.after, whole.subnets)
    trained = [netslim.load(tmp_path / name / "trained.pt").state_dict() for name in ("whole", "cut")]
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[2].parameters(), strict=True))


def test_a_network_for_other_classes_is_refused(files: str) -> None:
    source = gradaug.data.load(f"voc-masks:{files}", (3, pixels.SIDE, pixels.SIDE))
    with pytest.raises(DataError, match="has 4 outputs and voc-masks has 21 classes"):
        require_fit(pixels.network("dict", channels=3), source, Segmentation())


# ------------------------------------------------------------------------------------------------ torchvision's own

MODELS = sorted(torchvision.models.list_models(torchvision.models.segmentation))
SMALL = "lraspp_mobilenet_v3_large"
"""What CI has the time for."""
OTHERS = [pytest.param(name, marks=pytest.mark.zoo) for name in MODELS if name != SMALL]


@pytest.mark.parametrize("name", [SMALL, *OTHERS])
def test_torchvisions_models_take_a_step(name: str) -> None:
    torch.manual_seed(0)
    auxiliary = {} if name == SMALL else {"aux_loss": True}
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=5, **auxiliary)
    net = netslim.convert(model, torch.randn(2, 3, 64, 64), prove=False).train()
    ga = gradaug.GradAug(net, task=Segmentation(ignore_index=255), num_subnets=1, resolutions=(48,), alpha=0.5)
    masks = torch.randint(5, (2, 64, 64))
    masks[:, :9] = 255
    before = {key: value.clone() for key, value in net.named_parameters()}
    losses = ga.step(torch.randn(2, 3, 64, 64), masks, torch.optim.SGD(net.parameters(), lr=0.01))
    assert losses.total.isfinite()
    unused = [key for key, value in net.named_parameters() if torch.equal(value, before[key]) and value.grad is None]
    assert unused == []


def test_there_are_six_of_them() -> None:
    assert len(MODELS) == 6
