"""Every data set, from small files in its real format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gradaug import data
from gradaug.errors import DataError

from . import formats

SETS: dict[str, tuple[Callable[[Path], Path], tuple[int, ...], int]] = {
    "cifar10": (formats.cifar10, (3, 32, 32), 10),
    "cifar100": (formats.cifar100, (3, 32, 32), 100),
    "stl10": (formats.stl10, (3, 96, 96), 10),
    "fashion-mnist": (formats.idx, (3, 28, 28), 10),
    "idx": (lambda root: formats.idx(root, classes=4, first=1, zipped=False), (3, 28, 28), 4),
    "folder": (formats.image_folder, (3, 48, 48), 3),
    "webdataset": (formats.webdataset, (3, 48, 48), 3),
}


@pytest.fixture(scope="module", params=SETS)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, tuple[int, ...], int]:
    """The specification of a data set, the shape and the number of its classes."""
    write, shape, classes = SETS[request.param]
    root = write(tmp_path_factory.mktemp(request.param))
    return f"{request.param}:{root}", shape, classes


def everything(images: data.Images, epoch: int = 0) -> tuple[Tensor, Tensor]:
    return images.__getitems__([(epoch, index) for index in range(len(images))])


def test_images_and_labels_are_read(found: tuple[str, tuple[int, ...], int]) -> None:
    spec, shape, classes = found
    source = data.load(spec, shape)
    for part in (source.train, source.calibration, source.validation):
        images, labels = everything(part)
        assert images.shape == (len(part), *shape)
        assert images.dtype == torch.float32
        assert set(labels.tolist()) == set(range(classes))
    assert source.classes == classes
    assert len(source.mean) == len(source.std) == 3


def test_augmentation_moves_training_images_alone(found: tuple[str, tuple[int, ...], int]) -> None:
    spec, shape, _ = found
    source, state = data.load(spec, shape), torch.get_rng_state()
    first, again, other = (everything(source.train, epoch)[0] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    for part in (source.validation, source.calibration):
        assert torch.equal(everything(part, 0)[0], everything(part, 1)[0])
    still = data.load(spec, shape, augment="none")
    assert torch.equal(everything(still.train, 0)[0], everything(source.calibration)[0])
    assert not torch.equal(first, everything(data.load(spec, shape, seed=1).train)[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_few_labels_are_balanced_and_the_rest_has_none(found: tuple[str, tuple[int, ...], int]) -> None:
    spec, shape, classes = found
    whole, few = data.load(spec, shape), data.load(spec, shape, labels=classes)
    assert sorted(everything(few.train)[1].tolist()) == list(range(classes))
    assert len(few.calibration) == classes
    extra = 0 if whole.unlabelled is None else len(whole.unlabelled)
    assert few.unlabelled is not None
    assert len(few.unlabelled) == len(whole.train) - classes + extra
    images, labels = everything(few.unlabelled)
    assert set(labels.tolist()) == {-1}
    assert images.shape[1:] == shape
    with pytest.raises(DataError, match=f"cannot be shared evenly by {classes} classes; take --labels {classes}"):
        data.load(spec, shape, labels=classes + 1)
    with pytest.raises(DataError, match="images of each class, and class"):
        data.load(spec, shape, labels=1000 * classes)


def test_other_sides_are_resized(found: tuple[str, tuple[int, ...], int]) -> None:
    spec, _, _ = found
    assert everything(data.load(spec, (3, 40, 40)).train)[0].shape[-2:] == (40, 40)


def test_other_channels_are_a_clear_error(found: tuple[str, tuple[int, ...], int]) -> None:
    with pytest.raises(DataError, match=r"but the network takes inputs of shape \(4, 32, 32\)"):
        data.load(found[0], (4, 32, 32))


@pytest.mark.parametrize("augment", ["standard", "color", "none"])
def test_a_network_may_see_photographs_in_grey(tmp_path: Path, augment: str) -> None:
    root = formats.image_folder(tmp_path)
    source = data.load(f"folder:{root}", (1, 32, 32), augment=augment)
    for part in (source.train, source.calibration, source.validation):
        images, _ = everything(part)
        assert images.shape == (len(part), 1, 32, 32)
        assert 0.3 < float(images.std()) < 3
    assert (len(source.mean), len(source.std)) == (1, 1)


def test_missing_files_say_where_they_were_looked_for(tmp_path: Path) -> None:
    for name, place in {"cifar10": "cifar-10-batches-py", "stl10": "stl10_binary", "folder": "train"}.items():
        with pytest.raises(DataError, match=f"{tmp_path / place}.* not there.* --data {name}:"):
            data.load(f"{name}:{tmp_path}", (3, 32, 32))
        with pytest.raises(DataError, match=f"--data {name}:DIR"):
            data.load(name, (3, 32, 32))


def test_the_archives_own_folder_will_do(tmp_path: Path) -> None:
    root = formats.cifar10(tmp_path)
    assert len(data.load(f"cifar10:{root}/cifar-10-batches-py", (3, 32, 32)).train) == 50


def test_damaged_files_are_a_clear_error(tmp_path: Path) -> None:
    root = formats.cifar10(tmp_path)
    (root / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"\x80\x04")
    with pytest.raises(DataError, match=r"cifar-10-batches-py are damaged .*unpack them again"):
        data.load(f"cifar10:{root}", (3, 32, 32))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named(tmp_path: Path, workers: int) -> None:
    broken = formats.image_folder(tmp_path) / "train" / "class1" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[:40])
    source = data.load(f"folder:{tmp_path}", (3, 32, 32))
    with pytest.raises(DataError, match=f"^{broken} cannot be read as an image"):
        list(data.train_batches(source, 12, 0, 0, 1, workers))


def test_classes_must_agree(tmp_path: Path) -> None:
    root = formats.image_folder(tmp_path)
    (root / "val" / "class1").rename(root / "val" / "class9")
    with pytest.raises(DataError, match="different classes: class1, class9"):
        data.load(f"folder:{root}", (3, 32, 32))


def test_the_papers_colours_are_for_photographs(tmp_path: Path) -> None:
    root = formats.image_folder(tmp_path)
    plain, coloured = (
        everything(data.load(f"folder:{root}", (3, 32, 32), augment=name).train)[0] for name in ("standard", "color")
    )
    assert not torch.equal(plain, coloured)
    with pytest.raises(DataError, match="--augment color is for folders of photographs"):
        data.load("digits", (1, 8, 8), augment="color")


def test_stl_pixels_are_upright(tmp_path: Path) -> None:
    source = data.load(f"stl10:{formats.stl10(tmp_path)}", (3, 96, 96))
    expected = formats._pixels(20, 96, 1)[3].astype(np.float32) / 255
    images, _ = source.validation.__getitems__([(0, 3)])
    found = images[0] * torch.tensor(source.std).view(3, 1, 1) + torch.tensor(source.mean).view(3, 1, 1)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-6)


def test_synthetic_images_fit_any_network() -> None:
    source = data.load("synthetic:7x50", (2, 5), labels=14)
    assert (source.classes, len(source.train), len(source.unlabelled or ())) == (7, 14, 36)
    assert everything(source.train)[0].shape == (14, 2, 5)
    with pytest.raises(DataError, match="write synthetic:CLASSESxIMAGES"):
        data.load("synthetic:7", (2, 5))


def test_two_views_are_two_augmentations_of_the_same_images() -> None:
    source = data.load("digits", (1, 16, 16), labels=100)
    assert source.unlabelled is not None
    images, labels = data.TwoViews(source.unlabelled).__getitems__([(0, 3), (0, 4)])
    assert images.shape[0] == len(labels) == 4
    assert torch.equal(images[:2], source.unlabelled.__getitems__([(0, 3), (0, 4)])[0])
    assert not torch.equal(images[:2], images[2:])


def test_images_without_labels_stay_when_all_labels_are_used(tmp_path: Path) -> None:
    spec, shape = f"stl10:{formats.stl10(tmp_path)}", (3, 96, 96)
    whole = data.load(spec, shape)
    every = data.load(spec, shape, labels=len(whole.train))
    assert whole.unlabelled is not None
    assert every.unlabelled is not None
    assert len(every.unlabelled) == len(whole.unlabelled)
