"""Ultralytics' models: converted, and trained by its own trainer with sub-networks beside them."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor

import netslim
from gradaug import GradAug, SubnetSettings
from gradaug.subnets.sampler import draw
from gradaug.tasks.ultralytics import Ultralytics
from gradaug.ultralytics import converted, detector, save, trainer
from gradaug.ultralytics.letterbox import frame
from gradaug.ultralytics.training import Criterion, scaled
from netslim.errors import InputError, SubnetError

from .interrupt import StopAfter, StopError

pytestmark = [pytest.mark.ultralytics, pytest.mark.filterwarnings("default")]

DETECTORS = ("yolov8n", "yolo11n", "yolo26n")
OTHERS = ("yolov8n-seg", "yolo26n-seg", "yolo26n-pose", "yolo11n-obb", "yolo11n-cls")
QUIET = {"amp": False, "plots": False, "workers": 0, "verbose": False, "device": "cpu"}


@pytest.fixture(scope="session")
def yolo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """YOLO, which asks nothing of a network and writes its settings to a folder of the test's."""
    os.environ |= {
        "YOLO_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "0",
        "YOLO_VERBOSE": "0",
        "YOLO_CONFIG_DIR": str(tmp_path_factory.mktemp("settings")),
    }
    pytest.importorskip("ultralytics")
    from ultralytics import YOLO

    def seeded(name: str) -> Any:
        torch.manual_seed(0)
        return YOLO(name if name.endswith(".pt") else f"{name}.yaml")

    return seeded


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images to train on and two to look at, with a square in one of two colours, in the layout of YOLO."""
    root, rng = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    for i in range(8):
        part = "train" if i < 6 else "val"
        pixels, (x, y) = rng.integers(0, 80, (64, 64, 3), dtype=np.uint8), rng.integers(4, 30, 2)
        pixels[y : y + 24, x : x + 24] = [250, 20, 20] if i % 2 else [20, 250, 20]
        for kind in ("images", "labels"):
            (root / kind / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "images" / part / f"{i}.png")
        box = f"{i % 2} {(x + 12) / 64} {(y + 12) / 64} {24 / 64} {24 / 64}\n"
        (root / "labels" / part / f"{i}.txt").write_text(box)
    (root / "data.yaml").write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: [green, red]\n")
    return root / "data.yaml"


def leaves(found: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(found) if isinstance(leaf, Tensor)]


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))


# ------------------------------------------------------------------------------------------- converted models


@pytest.mark.parametrize("name", DETECTORS)
def test_a_converted_model_is_the_model_at_full_width_and_a_sub_network_where_it_is_told(
    name: str, yolo: Callable[[str], Any]
) -> None:
    given = yolo(name).model.eval()
    model, images = converted(given, prove=False), torch.rand(2, 3, 96, 64)
    assert model.__class__ is type(given)
    assert isinstance(model, type(given))
    assert list(model.state_dict()) == list(given.state_dict())
    assert (model.names, model.end2end, model.yaml) == (given.names, given.end2end, given.yaml)
    with torch.no_grad():
        whole = given(images)
        assert same(model(images), whole)
        assert same(model.net(images), whole)
        narrow = model.set_subnet(width=0.5)(images)
        assert not torch.equal(narrow[0], whole[0])
        assert same(copy.deepcopy(model)(images), narrow)
        with model.net.sub(width=0.5):
            assert same(model.net(images), narrow)
        assert same(model.set_subnet()(images), whole)


def test_what_moves_the_model_moves_its_network(yolo: Callable[[str], Any]) -> None:
    model = converted(yolo("yolov8n"), prove=False).eval().set_subnet(width=0.5)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(images)[0]
        after = copy.deepcopy(model).double()(images.double())[0]
        assert after.dtype is torch.float64
        assert torch.allclose(after.float(), before, atol=1e-3, rtol=1e-3)
        model.model[-1].cv3[0][-1].bias.add_(1)
        assert not torch.equal(model(images)[0], before)


def test_predict_and_val_run_a_converted_model_at_the_width_that_it_was_told(
    yolo: Callable[[str], Any], data: Path, tmp_path: Path
) -> None:
    net, images = yolo("yolov8n"), str(data.parent / "images/val")
    net.model = converted(net, prove=False)
    raw: dict[float, Tensor] = {}
    for width in (1.0, 0.5):
        net.model.set_subnet(width)
        net.predictor = None
        assert len(net.predict(images, imgsz=64, project=tmp_path, **QUIET)) == 2
        raw[width] = net.predictor.model(torch.full((1, 3, 64, 64), 0.5))[0]
        net.val(data=str(data), imgsz=64, batch=2, project=tmp_path, **QUIET)
    assert not torch.equal(raw[1.0], raw[0.5])


@pytest.mark.parametrize("name", ["yolov8n", "yolo26n"])
def test_export_is_of_the_whole_model_and_says_so(
    name: str, yolo: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net, images = yolo(name), torch.rand(1, 3, 64, 64)
    found = []
    for model in (net.model, converted(net, prove=False)):
        net.model = model
        file = net.export(format="torchscript", imgsz=64, device="cpu", verbose=False)
        found.append(torch.jit.load(file)(images))
    assert same(*found)
    net.model.set_subnet(width=0.5)
    with pytest.raises(InputError, match=r"export writes the whole model: set_subnet\(\) first"):
        net.export(format="torchscript", imgsz=64, device="cpu", verbose=False)
    narrow = net.model.eval()(images)
    assert same(net.model.net.extract(width=0.5)(images), narrow)


READ = """
import sys
sys.modules |= {"netslim": None, "gradaug": None}  # as where they are not installed
from ultralytics import YOLO
yolo = YOLO(sys.argv[1])
found = yolo.predict(sys.argv[2], imgsz=64, verbose=False, save=False)
print(type(yolo.model).__module__, type(yolo.model).__name__, len(found))
"""


def read(checkpoint: Path, data: Path) -> str:
    """What a process that has no netslim says of a checkpoint."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", READ, str(checkpoint), str(data.parent / "images/val")]
    done = subprocess.run(command, cwd=checkpoint.parent, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def test_a_converted_model_is_saved_as_the_ordinary_one(yolo: Callable[[str], Any], data: Path, tmp_path: Path) -> None:
    net = yolo("yolo26n")
    net.model = converted(net, prove=False)
    net.save(tmp_path / "saved.pt")
    assert read(tmp_path / "saved.pt", data) == "ultralytics.nn.tasks DetectionModel 2"
    assert same(yolo(str(tmp_path / "saved.pt")).model.state_dict(), net.model.half().float().state_dict())


# -------------------------------------------------------------------------------------------------- a step


def boxes(count: int = 3) -> dict[str, Tensor]:
    return {
        "img": torch.rand(2, 3, 96, 96),
        "batch_idx": torch.tensor([0.0, 0.0, 1.0])[:count],
        "cls": torch.tensor([[0.0], [2.0], [1.0]])[:count],
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.6, 0.5, 0.3], [0.6, 0.4, 0.3, 0.6]])[:count],
    }


BATCHES: dict[str, Callable[[], dict[str, Tensor]]] = {
    "": boxes,
    "-seg": lambda: boxes() | {"masks": torch.randint(0, 3, (2, 24, 24)).float(), "sem_masks": torch.zeros(2, 24, 24)},
    "-pose": lambda: boxes() | {"cls": torch.zeros(3, 1), "keypoints": torch.rand(3, 17, 3)},
    "-obb": lambda: boxes() | {"bboxes": torch.cat([boxes()["bboxes"], torch.full((3, 1), 0.3)], 1)},
    "-cls": lambda: {"img": torch.rand(2, 3, 64, 64), "cls": torch.tensor([1, 5])},
}


def a_run(subnet_from: float = 0.0, **settings: Any) -> Any:
    """What a criterion asks of Ultralytics' trainer."""
    from ultralytics.cfg import get_cfg

    return SimpleNamespace(
        settings=SubnetSettings(**{"num_subnets": 2, "alpha": 0.5, "round_to": 1} | settings),
        subnet_weight=0.7,
        subnet_from=subnet_from,
        epochs=8,
        track_stats=False,
        prove=False,
        args=get_cfg(overrides={"imgsz": 96, "seed": 5}),
        stride=32,
        start_epoch=0,
        train_loader=[None],
        world_size=0,
        scaler=torch.amp.GradScaler("cpu", init_scale=4.0),
    )


def model_for(name: str, yolo: Callable[[str], Any], run: Any) -> Any:
    model = yolo(name).model.train()
    model.args = run.args
    return model


@pytest.mark.parametrize("name", [*DETECTORS, *OTHERS])
def test_a_step_has_the_gradient_of_the_sum_of_the_losses(name: str, yolo: Callable[[str], Any]) -> None:
    run, batch = a_run(), BATCHES["-" + name.partition("-")[2] if "-" in name else ""]()
    model = model_for(name, yolo, run)
    other = copy.deepcopy(model)
    model.criterion = Criterion(model.init_criterion(), run, model)
    whole = model(batch)[0].sum()
    run.scaler.scale(whole).backward()

    net = netslim.convert(other, torch.zeros(2, 3, 64, 64), prove=False).train()
    own, draws = other.init_criterion(), draw(model.criterion.space, 5, 0)
    assert len(draws) == 2
    expected = own(net(batch["img"]), batch)[0].sum()
    assert torch.allclose(whole, expected, rtol=1e-5)
    for chosen, seen in zip(draws, model.criterion.losses, strict=True):
        images = scaled(batch["img"], chosen.resolution, 96, 32)
        with net.sub(**chosen.sub()):
            loss = own(net(images), batch | {"img": images})[0].sum()
        assert torch.allclose(loss.detach(), seen, rtol=1e-5)
        expected = expected + 0.7 * loss
    (4.0 * expected).backward()
    theirs = dict(net.named_parameters())
    for key, parameter in model.named_parameters():
        mine, reference = parameter.grad, theirs[key].grad
        if reference is None:
            assert mine is None or "flow_model" in key  # of the loss itself, in which the reference has no part
        else:
            scale = reference.abs().max().clamp(min=1e-3)
            assert mine is not None
            assert (mine - reference).abs().max() <= 2e-4 * scale, key


def test_running_statistics_are_the_whole_networks_alone(yolo: Callable[[str], Any]) -> None:
    run = a_run()
    model, batch = model_for("yolov8n", yolo, run), boxes()
    other = copy.deepcopy(model)
    model.criterion = Criterion(model.init_criterion(), run, model)
    model(batch)
    other(batch)
    assert same(dict(model.named_buffers()), dict(other.named_buffers()))


def test_a_norm_that_ultralytics_froze_is_frozen_in_sub_networks(yolo: Callable[[str], Any]) -> None:
    run = a_run()
    model = model_for("yolov8n", yolo, run)
    model.criterion = Criterion(model.init_criterion(), run, model)
    model.model[0].bn.eval()
    model(boxes())
    assert not model.criterion.net.get_submodule("model.0.bn").training
    assert model.criterion.net.get_submodule("model.1.bn").training


def test_an_image_without_boxes_and_sub_networks_of_other_depths(yolo: Callable[[str], Any]) -> None:
    run = a_run(mode="both", resolutions=(64,))
    model = model_for("yolo11n", yolo, run)
    model.criterion = Criterion(model.init_criterion(), run, model)
    model(boxes(0))[0].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert len(model.criterion.losses) == 2


def test_sub_networks_come_in_some_batches_only_and_late(yolo: Callable[[str], Any]) -> None:
    run = a_run(subnet_every=2, subnet_from=0.25)
    model = model_for("yolov8n", yolo, run)
    model.criterion = Criterion(model.init_criterion(), run, model)
    counts = []
    for _ in range(6):
        model(boxes())
        counts.append(len(model.criterion.losses))
    assert counts == [0, 0, 0, 2, 0, 2]


def test_a_part_of_a_batch_is_refused() -> None:
    pytest.importorskip("ultralytics")
    from ultralytics.models.yolo.detect import DetectionTrainer

    with pytest.raises(InputError, match="losses are over whole batches: leave subnet_share out"):
        trainer(DetectionTrainer, subnet_share=0.5)
    assert trainer(DetectionTrainer, subnet_from=0.5).subnet_from == 0.5
    with pytest.raises(InputError, match=r"subnet_from must be in \[0, 1\), not 800"):
        trainer(DetectionTrainer, subnet_from=800)


def test_a_copy_of_the_model_has_its_plain_criterion(yolo: Callable[[str], Any]) -> None:
    run = a_run()
    model = model_for("yolo26n", yolo, run)
    model.criterion = Criterion(model.init_criterion(), run, model)
    assert type(copy.deepcopy(model).criterion).__name__ == "E2ELoss"
    before = model.criterion.o2m
    model.criterion.update()
    assert model.criterion.own.updates == 1
    assert model.criterion.o2m <= before


def test_sizes_are_filled_up_to_the_stride() -> None:
    assert scaled(torch.rand(1, 3, 96, 160), 96, 160, 32).shape[-2:] == (64, 96)
    assert scaled(torch.rand(1, 3, 96, 160), 160, 160, 32).shape[-2:] == (96, 160)


# ------------------------------------------------------------------------------------ Ultralytics' own trainer


@pytest.mark.parametrize("name", DETECTORS)
def test_gradaug_in_ultralytics_trainer_ends_in_an_ordinary_checkpoint(
    name: str, yolo: Callable[[str], Any], data: Path, tmp_path: Path
) -> None:
    steps: list[tuple[Tensor, ...]] = []
    base = trainer(yolo(name), alpha=0.5, num_subnets=2, prove=False)

    class Watched(base):  # type: ignore[misc,valid-type]
        def run_callbacks(self, event: str) -> None:
            super().run_callbacks(event)
            if event == "on_train_batch_end":
                steps.append(self.model.criterion.losses)

    net = yolo(name)
    settings = {"epochs": 1, "imgsz": 96, "batch": 2, "project": tmp_path, "name": "run", **QUIET}
    net.train(trainer=Watched, data=str(data), **settings)
    assert [len(losses) for losses in steps] == [2, 2, 2]
    assert all(torch.isfinite(loss) for losses in steps for loss in losses)
    for checkpoint in ("best.pt", "last.pt"):
        assert read(tmp_path / "run/weights" / checkpoint, data) == "ultralytics.nn.tasks DetectionModel 2"
    assert type(net.model).__name__ == "DetectionModel"
    assert net.model.names == {0: "green", 1: "red"}


def test_without_sub_networks_it_is_ultralytics_own_training(
    yolo: Callable[[str], Any], data: Path, tmp_path: Path
) -> None:
    weights = []
    for number, made in enumerate((trainer(yolo("yolov8n"), "none", prove=False), None)):
        net = yolo("yolov8n")
        settings = {"epochs": 1, "imgsz": 64, "batch": 2, "project": tmp_path, "name": f"run{number}", **QUIET}
        net.train(trainer=made, data=str(data), **settings)
        weights.append(net.model.state_dict())
    assert same(*weights)


class KilledError(Exception):
    """The run was killed."""


def test_a_run_that_was_killed_goes_on_with_the_sub_networks_that_come_next(
    yolo: Callable[[str], Any], data: Path, tmp_path: Path
) -> None:
    def killed(training: Any) -> None:
        raise KilledError

    settings = {"epochs": 2, "imgsz": 64, "batch": 2, "project": tmp_path, "name": "run", **QUIET}
    made, net, ends = trainer(yolo("yolov8n"), num_subnets=1, prove=False), yolo("yolov8n"), []
    net.add_callback("on_model_save", killed)
    with pytest.raises(KilledError):
        net.train(trainer=made, data=str(data), **settings)
    again = yolo(str(tmp_path / "run/weights/last.pt"))
    again.add_callback("on_train_batch_end", lambda run: ends.append((run.epoch, run.model.criterion.steps)))
    again.train(trainer=made, resume=True, **QUIET)
    assert ends == [(1, 4), (1, 5), (1, 6)]
    assert read(tmp_path / "run/weights/last.pt", data) == "ultralytics.nn.tasks DetectionModel 2"


# ---------------------------------------------------------------------------------------------- what is refused


def test_models_whose_loss_runs_more_than_the_network_are_refused(yolo: Callable[[str], Any]) -> None:
    from ultralytics import RTDETR

    with pytest.raises(InputError, match=r"RTDETRDetectionModel has a predict of its own"):
        converted(RTDETR("rtdetr-l.yaml"))


def test_what_cannot_be_converted_is_said_in_a_sentence(yolo: Callable[[str], Any]) -> None:
    with pytest.raises(InputError, match="Linear is no model of Ultralytics"):
        converted(torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="this model is fused"):
        converted(yolo("yolov8n").model.fuse())
    with pytest.raises(InputError, match="there is no setting 'alhpa'; did you mean alpha"):
        trainer(yolo("yolov8n"), alhpa=0.5)
    with pytest.raises(InputError, match="alpha"):
        trainer(yolo("yolov8n"), alpha=2)
    with pytest.raises(InputError, match="neither a YOLO nor a trainer"):
        trainer("detect")
    model = converted(yolo("yolov8n"), prove=False)
    with pytest.raises(SubnetError):
        model.set_subnet(width={"nothing": 0.5})


# ------------------------------------------------------------------------------------- as a detector in gradaug


def objects() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """An image with two objects, and one without any."""
    images = [torch.rand(3, 60, 80), torch.rand(3, 90, 50)]
    full = {
        "boxes": torch.tensor([[5.0, 5.0, 40.0, 50.0], [20.0, 10.0, 70.0, 30.0]]),
        "labels": torch.tensor([1, 3]),
        "masks": torch.ones(2, 60, 80, dtype=torch.uint8),
        "keypoints": torch.rand(2, 17, 3) * 40,
    }
    empty = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 90, 50, dtype=torch.uint8),
        "keypoints": torch.zeros(0, 17, 3),
    }
    return images, [full, empty]


@pytest.mark.parametrize("name", [*DETECTORS, "yolo26n-seg", "yolov8n-pose"])
def test_a_detector_takes_three_steps_and_ends_in_an_ordinary_checkpoint(
    name: str, yolo: Callable[[str], Any], tmp_path: Path
) -> None:
    made = detector(yolo(name), size=64, num_classes=4)
    netslim.save(netslim.convert(made, torch.rand(2, 3, 64, 64), prove=False), tmp_path / "net.pt")
    net, (images, targets) = netslim.load(tmp_path / "net.pt", trust=True).train(), objects()
    with torch.random.fork_rng():
        whole = made.train()(images, targets)
    step = GradAug(net, task=Ultralytics(), alpha=0.5, num_subnets=2, round_to=1)
    optimizer = torch.optim.SGD(net.parameters(), 1e-4)
    first = step.step(images, targets, optimizer)
    assert torch.allclose(first.full, torch.stack(list(whole.values())).sum(), rtol=1e-5)
    for _ in range(2):
        losses = step.step(images, targets, optimizer)
        assert all(torch.isfinite(loss) for loss in (losses.full, *losses.subnets))
    net.eval()
    assert all({"boxes", "labels", "scores"} <= one.keys() for one in net(images))
    save(net, tmp_path / "trained.pt", ["a", "b", "c"])
    back = yolo(str(tmp_path / "trained.pt"))
    assert back.names == {0: "a", 1: "b", 2: "c"}
    trained = {key.removeprefix("yolo."): value for key, value in net.state_dict().items()}
    for key, value in back.model.state_dict().items():
        assert torch.allclose(value.float(), trained[key].float(), atol=1e-2, rtol=1e-2), key


def test_boxes_and_masks_go_into_the_square_and_out_again() -> None:
    at = frame(60, 80, 64)
    boxes = torch.tensor([[5.0, 5.0, 40.0, 50.0]])
    assert torch.allclose(at.boxes_out(at.boxes_in(boxes)), boxes, atol=1e-4)
    assert at.boxes_in(torch.tensor([[0.0, 0.0, 80.0, 60.0]])).tolist() == [[0.0, 8.0, 64.0, 56.0]]
    masks = torch.zeros(1, 60, 80)
    masks[:, 20:40, 20:60] = 1
    assert (at.masks_out(at.masks_in(masks, 64)) != masks).float().mean() < 0.05
    assert at.image_in(torch.zeros(3, 60, 80), 64)[0, [0, 7, 8, 55, 56], 0].tolist() == pytest.approx(
        [114 / 255, 114 / 255, 0, 0, 114 / 255]
    )


def test_a_detector_says_in_a_sentence_what_it_cannot_do(yolo: Callable[[str], Any]) -> None:
    with pytest.raises(InputError, match="this model is for 'classify'"):
        detector(yolo("yolo11n-cls"))
    with pytest.raises(InputError, match=r"there is no file nothing\.pt"):
        detector("nothing.pt")
    images, targets = objects()
    made = detector(yolo("yolov8n-seg"), size=64).train()
    with pytest.raises(InputError, match="target 0 has no masks"):
        made(images, [{"boxes": t["boxes"], "labels": t["labels"]} for t in targets])
    with pytest.raises(InputError, match="takes truth"):
        Ultralytics(subnet_target="full")
    with pytest.raises(InputError, match="1 names for 80 classes"):
        save(made, "never.pt", ["one"])
    with pytest.raises(InputError, match="holds no model of Ultralytics"):
        save(torch.nn.Linear(1, 1), "never.pt")


# ------------------------------------------------------------------------------------------------- by the commands


def call(name: str, *arguments: str) -> Result:
    main = pytest.importorskip("netslim_cli.main", reason="the commands are there where the project is installed")
    group, _, command = name.partition(" ")
    return CliRunner().invoke(getattr(main, group), [command, *arguments], catch_exceptions=False)


@pytest.mark.parametrize(("source", "classes"), [("scenes:8", 11), ("yolo:", 3)])
def test_the_commands_train_a_model_of_ultralytics_and_go_on_after_a_stop(
    source: str,
    classes: int,
    yolo: Callable[[str], Any],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    place = source if source.startswith("scenes") else f"{source}{data.parent}"
    given = ["--arg", "model=yolov8n.yaml", "--arg", "size=64", "--arg", f"num_classes={classes}"]
    call("netslim convert", "gradaug.ultralytics:detector", *given, "--input-shape", "3,64,64", "-o", "yolo.pt")
    run = ["--model", "yolo.pt", "--trust", "--task", "ultralytics", "--data", place, "--epochs", "2", "--batch-size"]
    run += ["2", "--num-subnets", "1", "--alpha", "0.5", "--checkpoint-every", "1", "--calibration-batches", "1"]
    run += ["--device", "cpu"]
    assert call("gradaug train", *run, "--out", "whole").exit_code == 0
    with monkeypatch.context() as stopping:
        stopping.setattr("gradaug.training.progress.progress_for", lambda _: StopAfter(4))
        with pytest.raises(StopError):
            call("gradaug train", *run, "--out", "cut")
    assert not Path("cut/trained.pt").exists()
    assert call("gradaug train", *run[:3], "--out", "cut", "--resume").exit_code == 0
    net, other = (netslim.load(f"{folder}/trained.pt", trust=True) for folder in ("whole", "cut"))
    assert same(net.state_dict(), other.state_dict())
    result = json.loads(Path("cut/result.json").read_text())
    assert result["config"]["scope"] == "all"
    assert "ap" in result["after"]
    narrow = ["--widths", "1,0.5", "--scope", "all", "--calibration-batches", "1", "--device", "cpu", "--json"]
    scored = json.loads(call("gradaug eval", "--model", "cut/trained.pt", "--trust", "--data", place, *narrow).stdout)
    assert [row["width"] for row in scored["scores"]] == [1.0, 0.5]
    save(net, tmp_path / "yolo-trained.pt", [f"class {i}" for i in range(classes - 1)])
    assert read(tmp_path / "yolo-trained.pt", data) == "ultralytics.nn.tasks DetectionModel 2"
