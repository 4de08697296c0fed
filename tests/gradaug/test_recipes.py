"""Every recipe: its settings are the paper's, and it runs."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import gradaug
import netslim
from gradaug import models, recipes
from gradaug.config.settings import TrainConfig
from gradaug.tasks import detector
from gradaug.training.configured import grad_aug
from gradaug.training.estimate import estimate, known_images, saved_bytes
from netslim.errors import InputError
from netslim.source.spec import load_source
from netslim_cli.recipes import recipes as list_recipes
from netslim_cli.train import train

from . import boxed_files, detectors, formats

SGD = {"momentum": 0.9, "num_subnets": 3}
PAPER: dict[str, dict[str, Any]] = {
    "imagenet_resnet50": {
        "epochs": 120, "batch_size": 512, "lr": 0.2, "schedule": "cosine", "weight_decay": 1e-4, "alpha": 0.9,
        "resolutions": (224, 192, 160, 128), "mode": "randwidth", "augment": "color",
    },
    "cifar100_wrn28_10": {
        "epochs": 200, "batch_size": 128, "lr": 0.1, "schedule": "cosine", "weight_decay": 5e-4, "alpha": 0.8,
        "resolutions": (32, 28, 24), "mode": "randwidth",
    },
    "cifar100_pyramidnet200": {
        "epochs": 300, "batch_size": 64, "lr": 0.25, "schedule": "step", "milestones": (150, 225),
        "weight_decay": 1e-4, "alpha": 0.8, "resolutions": (32, 28, 24), "mode": "randwidth",
    },
    "cifar10_resnet110_depth": {
        "epochs": 200, "batch_size": 128, "lr": 0.1, "schedule": "cosine", "weight_decay": 1e-4, "survival": 0.8,
        "survival_first": 1.0, "resolutions": (32, 28, 24), "mode": "randdepth", "scale_residuals": True,
    },
}  # fmt: skip
BASE = "cifar10_wrn28_2_250"


@pytest.mark.parametrize("name", PAPER)
def test_settings_are_the_papers(name: str) -> None:
    config = TrainConfig.from_dict(recipes.load(name).settings)
    assert {key: getattr(config, key) for key in PAPER[name] | SGD} == PAPER[name] | SGD
    assert (config.label_smoothing, config.decay_norms, config.ema, config.warmup) == (0, True, None, 0)


def small(inputs: int, classes: int) -> netslim.SlimNet:
    """Converted; with a block, for every mode."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, 4, 1)
            self.body = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
            self.head = nn.Linear(8, classes)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head((x + self.body(x)).mean((2, 3)))

    return netslim.convert(Small(), torch.randn(2, 3, inputs, inputs))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Small data in the real format of a data set: its specification."""
    write = {
        name: getattr(formats, name.replace("-", "_"))
        for name in ("cifar10", "cifar100", "stl10", "voc-masks", "ade20k", "cityscapes")
    }

    @functools.cache
    def made(name: str) -> str:
        return f"{name}:{write.get(name, formats.image_folder)(tmp_path_factory.mktemp(name))}"

    return made


def task(name: str) -> str:
    return recipes.load(name).settings.get("task", "classification")


@pytest.mark.parametrize("name", [name for name in recipes.names() if task(name) == "classification"])
def test_every_recipe_of_a_classifier_runs_two_steps(name: str, folders: Callable[[str], str], tmp_path: Path) -> None:
    recipe = recipes.load(name)
    recipe = recipe if recipe.model else recipes.load(f"{BASE},{name}")
    assert recipe.model is not None
    config = TrainConfig.from_dict({**recipe.settings, "warmup": 0.0, "epochs": 2, "validate_every": 1})
    classes = {"folder": 3, "cifar100": 100}.get(config.data, 10)
    config = replace(config, data=folders(config.data), labels=config.labels and 20, batch_size=32, lr=0.01)
    config = replace(config, batch_size=12 if classes == 3 else 20 if config.labels else 100)
    net = small(recipe.model.input[-1], classes)
    result = gradaug.train(net, config, tmp_path)
    assert result.steps == (4 if config.data.startswith("cifar100") else 2)
    assert all(value.isfinite().all() for value in net.state_dict().values())


DETECTORS = {
    "torchvision:maskrcnn_resnet50_fpn": "mask", "torchvision:fasterrcnn_resnet50_fpn": "faster",
    "torchvision:retinanet_resnet50_fpn": "retina", "torchvision:fcos_resnet50_fpn": "retina",
}  # fmt: skip
"""A small network of the kind."""
OF_DETECTORS = [name for name in recipes.names() if task(name) == "detection"]
SCHEDULE_1X = {
    "epochs": 12, "batch_size": 16, "schedule": "step", "milestones": (8, 11), "momentum": 0.9, "nesterov": False,
    "weight_decay": 1e-4, "augment": "standard", "sync_bn": True,
}  # fmt: skip


@pytest.mark.parametrize("name", OF_DETECTORS)
def test_every_recipe_of_a_detector_runs_two_steps(name: str, tmp_path: Path) -> None:
    recipe = recipes.load(name)
    assert recipe.model is not None
    folder = boxed_files.coco(tmp_path / "coco")
    config = TrainConfig.from_dict({**recipe.settings, "epochs": 1, "batch_size": 3, "data": f"coco:{folder}"})
    config = replace(config, resolutions=config.resolutions and (48, 41, 34, 27), lr=1e-3)
    net = detectors.converted(DETECTORS[recipe.model.source]).float()
    before = net.backbone.first.weight.clone()
    result = gradaug.train(net, config, tmp_path / "run")
    assert result.steps == 2
    assert not torch.equal(net.backbone.first.weight, before)
    assert all(value.isfinite().all() for value in net.state_dict().values())


@pytest.mark.parametrize("name", OF_DETECTORS)
def test_recipes_of_detectors_have_the_schedule_1x_and_a_network_for_coco(name: str) -> None:
    recipe = recipes.load(name)
    config = TrainConfig.from_dict(recipe.settings)
    assert {key: getattr(config, key) for key in SCHEDULE_1X} == SCHEDULE_1X
    assert config.lr == (0.01 if "retinanet" in name or "fcos" in name else 0.02)
    assert config.warmup * 118_287 // 16 == pytest.approx(500, abs=5)
    assert recipe.model is not None
    recipe.model.require_allowed(())
    with torch.device("meta"):
        model = load_source(recipe.model.source, args=recipe.model.arguments).model
    assert (detector.classes(model), detector.side(model)) == (91, 800)
    assert config.mode == "none" or config.resolutions == tuple(round(800 * r / 224) for r in (224, 192, 160, 128))
    norms = [module for module in model.backbone.body.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 53
    assert all(parameter.requires_grad for norm in norms for parameter in norm.parameters())


def pixel_wise(channels: int, side: int, classes: int) -> netslim.SlimNet:
    """Converted; answers every pixel, with an auxiliary head, as torchvision's models do."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv2d(channels, 8, 3, 4, 1), nn.BatchNorm2d(8)
            self.head, self.aux = nn.Conv2d(8, classes, 1), nn.Conv2d(8, classes, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            features, size = self.norm(self.stem(x)).relu(), x.shape[-2:]
            heads = {"out": self.head(features), "aux": self.aux(features)}
            return {name: F.interpolate(value, size=size, mode="bilinear") for name, value in heads.items()}

    return netslim.convert(Small(), torch.randn(2, channels, side, side), prove=False)


@pytest.mark.parametrize("name", [name for name in recipes.names() if task(name) == "segmentation"])
@pytest.mark.parametrize("on_top", ["", ",baseline"])
def test_every_recipe_of_segmentation_runs_two_steps(
    name: str, on_top: str, folders: Callable[[str], str], tmp_path: Path
) -> None:
    recipe = recipes.load(f"{name}{on_top}")
    assert recipe.model is not None
    config = TrainConfig.from_dict({**recipe.settings, "epochs": 1, "calibration_batches": 1, "device": "cpu"})
    embedded = config.data == "digit-masks"
    config = replace(config, data=config.data if embedded else folders(config.data), batch_size=718 if embedded else 2)
    net = pixel_wise(recipe.model.input[0], recipe.model.input[-1], recipe.model.arguments["num_classes"])  # type: ignore[arg-type]
    result = gradaug.train(net, config, tmp_path)
    assert result.steps == 2
    assert all(value.isfinite().all() for value in net.state_dict().values())


def test_the_settings_of_deeplabv3_are_torchvisions() -> None:
    config = TrainConfig.from_dict(recipes.load("voc_deeplabv3_resnet50").settings)
    reference = {"lr": 0.02, "batch_size": 32, "epochs": 30, "momentum": 0.9, "weight_decay": 1e-4, "schedule": "poly"}
    assert {key: getattr(config, key) for key in reference} == reference
    assert config.sync_bn
    imagenet = TrainConfig.from_dict(recipes.load("imagenet_resnet50").settings)
    assert (config.alpha, config.num_subnets, config.round_to) == (imagenet.alpha, imagenet.num_subnets, 1)


def test_recipes_are_put_on_top_of_each_other() -> None:
    both = recipes.load("cifar100_wrn28_10,shakedrop")
    assert both.model == recipes.load("cifar100_wrn28_10").model
    assert (both.settings["mode"], both.settings["drop_rate"], both.settings["epochs"]) == ("none", 0.5, 200)
    assert recipes.load("cutmix,shakedrop").settings["regularizers"] == ["cutmix", "shakedrop"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"

    def load(text: str) -> recipes.Recipe:
        own.write_text(text)
        return recipes.load(str(own))

    with pytest.raises(InputError, match="no recipe 'cifar100_wrn28'; did you mean cifar100_wrn28_10"):
        recipes.load("cifar100_wrn28")
    with pytest.raises(InputError, match=r"unknown setting epoch: .* did you mean epochs"):
        load("settings: {epoch: 3}")
    with pytest.raises(InputError, match="the key 'setting'; did you mean settings"):
        load("setting: {epochs: 3}")
    with pytest.raises(InputError, match="is not YAML"):
        load("settings: {epochs: 3")
    with pytest.raises(InputError, match="model needs source and input"):
        load("model: {source: x}")
    with pytest.raises(InputError, match=r"--epochs must be at least 1, not 0"):
        load("settings: {epochs: 0}")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        recipes.load(str(tmp_path / "none.yaml"))
    assert load("settings: {epochs: 3}").settings == {"epochs": 3}


OWN = """
about: A small network on digits.
model: {source: "gradaug.models:resnet20", input: [1, 8, 8], arguments: {in_channels: 1}}
settings: {epochs: 2, batch_size: 479, mode: none, lr: 0.02}
"""


def call(*arguments: object) -> Any:
    return CliRunner().invoke(train, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_recipe_converts_its_network_once_and_the_command_line_wins(tmp_path: Path) -> None:
    own, out = tmp_path / "own.yaml", tmp_path / "run"
    own.write_text(OWN)
    first = call("--recipe", own, "--out", out, "--epochs", "1", "--json")
    assert first.exit_code == 0
    config = json.loads(first.stdout)["config"]
    assert (config["epochs"], config["batch_size"], config["lr"], config["mode"]) == (1, 479, 0.02, "none")
    assert "converting gradaug.models:resnet20" in first.stderr
    again = call("--recipe", own, "--out", out, "--resume", "--json")
    assert "converting" not in again.stderr
    assert json.loads(again.stdout)["config"]["epochs"] == 1


def test_a_dry_run_trains_nothing_and_says_what_it_costs(tmp_path: Path) -> None:
    own, out = tmp_path / "own.yaml", tmp_path / "run"
    own.write_text(OWN)
    shown = call("--recipe", own, "--out", out, "--dry-run", "--tflops", "0.1")
    assert "plain steps" in shown.stdout
    assert "hours" in shown.stdout
    assert not out.exists()
    values = json.loads(call("--recipe", own, "--dry-run", "--mode", "randwidth", "--json").stdout)
    assert (values["steps"], values["images"], values["images_known"]) == (6, 1437, True)
    assert 2 < values["ratio"] < 4
    missing = call("--recipe", f"{own},cifar10_wrn28_2_250", "--dry-run", "--json")
    assert json.loads(missing.stdout)["images_known"] is False


def test_recipes_are_listed_and_printed() -> None:
    listed = CliRunner().invoke(list_recipes, []).stdout
    assert "imagenet_resnet50" in listed
    assert CliRunner().invoke(list_recipes, ["shakedrop"]).stdout == recipes.text("shakedrop")


def test_flops_are_those_that_torch_counts_for_a_step() -> None:
    net = netslim.convert(models.wrn_16_2(), torch.randn(2, 3, 32, 32)).train()
    config = TrainConfig("randwidth", batch_size=4, alpha=0.8, round_to=1, resolutions=(32, 24), epochs=1)
    ga = grad_aug(net, config)
    found = estimate(net, config, ga.space, images=40)
    images, labels = torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.long)
    with FlopCounterMode(display=False) as plain:
        F.cross_entropy(net(images), labels).backward()
    assert found.plain_flops == pytest.approx(plain.get_total_flops(), rel=0.02)  # the images need no gradient
    with FlopCounterMode(display=False) as steps:
        for _ in range(8):
            ga.backward(images, labels)
    assert found.step_flops == pytest.approx(steps.get_total_flops() / 8, rel=0.02)
    assert found.steps == 10


def test_the_papers_cost_is_found_again() -> None:
    config = TrainConfig.from_dict(recipes.load("cifar100_wrn28_10").settings)
    net = netslim.convert(models.WideResNet(10, 10, 100), torch.randn(2, 3, 32, 32))
    found = estimate(net, config, grad_aug(net, config).space, known_images(config))
    assert 2.7 < found.ratio < 3.0  # about 2.8 plain steps
    assert found.steps == 200 * 390


def test_saved_tensors_are_counted_once() -> None:
    net = netslim.convert(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.Flatten()), torch.randn(2, 3, 8, 8))
    assert saved_bytes(net) == 4 * (3 * 64 + 4 * 64)  # the image, and what the sigmoid gives
