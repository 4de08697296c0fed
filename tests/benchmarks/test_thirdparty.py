"""The list of other packages' networks: what the words on the command line stand for, and a few of them converted."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import thirdparty
import torch
import zoo_models
from thirdparty import nets
from torch.utils._pytree import tree_leaves
from zoo_netslim import described
from zoo_summary import summaries

import netslim

SAMPLE = """
transformers/vit transformers/resnet diffusers/VQModel vit_pytorch/normalized_vit monai/UNet pytorchcv/nin_cifar10
segmentation_models_pytorch/Unet-resnet18 spandrel/NAFNet ultralytics/yolov8n-cls torchaudio/DeepSpeech
""".split()


def test_the_word_stands_for_every_network_of_every_package() -> None:
    entries = zoo_models.chosen(["thirdparty"])
    assert len(entries) >= 120
    assert {e.family for e in entries} == set(thirdparty.PACKAGES)
    assert len({e.source for e in entries}) == len(entries)


def test_one_package_and_one_network_can_be_named() -> None:
    package = zoo_models.chosen(["thirdparty:monai"])
    assert {e.family for e in package} == {"monai"}
    assert zoo_models.chosen(["thirdparty:monai", "thirdparty:monai/UNet"]) == package
    assert zoo_models.chosen(["thirdparty:monai/UNet"]) == [zoo_models.Entry("thirdparty:monai/UNet", "monai")]


def test_every_package_is_summed_up_for_itself() -> None:
    sources = "thirdparty:monai/UNet", "thirdparty:monai/ViT", "thirdparty:diffusers/VQModel", "timm:a", "mine:Net"
    rows = [{"model": source, "tool": "netslim", "family": zoo_models.library(source)} for source in sources]
    found = [(s.library, s.models) for s in summaries(rows)]
    assert found == [("monai", 2), ("diffusers", 1), ("timm", 1), ("other", 1)]


def test_inputs_are_the_same_every_time_and_told_by_shape() -> None:
    make = nets.given(images=nets.images(4), words=nets.numbers(9, 5))
    assert all(map(torch.equal, tree_leaves(make()), tree_leaves(make())))
    assert described(make()) == "2,3,4,4 and 2,5"
    assert int(make()["words"].max()) < 9


@pytest.mark.filterwarnings("ignore")
@pytest.mark.zoo
@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_converts_and_is_proved(name: str) -> None:
    if find_spec(name.partition("/")[0]) is None:
        pytest.skip("not installed")
    model, inputs = thirdparty.built(name)
    proof = netslim.convert(model, inputs).proof
    assert proof is not None
    assert proof.passed
