"""Fashion-MNIST and its relatives: where the files may be, what is in them, and what is said of others."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gradaug import data
from gradaug.config.settings import TrainConfig
from gradaug.data import idx
from gradaug.errors import DataError

from . import formats

GREY = (1, 28, 28)
PIXELS = "train-images-idx3-ubyte"


def everything(images: data.Images) -> tuple[torch.Tensor, list[int]]:
    found, labels = images.__getitems__([(0, index) for index in range(len(images))])
    assert isinstance(found, torch.Tensor)
    assert isinstance(labels, torch.Tensor)
    return found, labels.tolist()


@pytest.mark.parametrize("zipped", [True, False])
def test_pixels_and_labels_are_those_of_the_files(tmp_path: Path, zipped: bool) -> None:
    source = data.load(f"fashion-mnist:{formats.idx(tmp_path, zipped=zipped)}", GREY)
    raw = (tmp_path / f"{PIXELS}{'.gz' * zipped}").read_bytes()
    written = np.frombuffer(gzip.decompress(raw) if zipped else raw, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    images, labels = everything(source.calibration)
    shown = (images * source.std[0] + source.mean[0]) * 255
    torch.testing.assert_close(shown, torch.tensor(written).float(), atol=1e-3, rtol=0)
    assert labels == [index % 10 for index in range(40)]
    assert abs(float(images.mean())) < 1e-5
    assert float(images.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert len(source.validation) == 20


def test_a_network_of_three_channels_sees_grey(tmp_path: Path) -> None:
    images, _ = everything(data.load(f"fashion-mnist:{formats.idx(tmp_path)}", (3, 28, 28)).train)
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])


def test_the_package_of_debian_is_found_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "PACKAGED", tmp_path / "fashion-mnist")
    with pytest.raises(DataError, match=r"looked for in .* not there; `apt install dataset-fashion-mnist`.*:DIR$"):
        data.load("fashion-mnist", GREY)
    formats.idx(tmp_path / "fashion-mnist")
    assert len(data.load("fashion-mnist", GREY).train) == 40


@pytest.mark.parametrize("place", [".", "FashionMNIST/raw"])
def test_a_folder_may_be_torchvisions(tmp_path: Path, place: str) -> None:
    """Which keeps the gzipped file beside the plain one."""
    for zipped in (True, False):
        formats.idx(tmp_path / place, zipped=zipped)
    assert len(data.load(f"fashion-mnist:{tmp_path}", GREY).train) == 40


@pytest.mark.parametrize("missing", [PIXELS, "t10k-labels-idx1-ubyte"])
def test_a_missing_file_is_said(tmp_path: Path, missing: str) -> None:
    formats.idx(tmp_path, zipped=False)
    (tmp_path / missing).unlink()
    with pytest.raises(DataError, match=rf"{tmp_path} and is not there"):
        data.load(f"fashion-mnist:{tmp_path}", GREY)
    with pytest.raises(DataError, match=rf"{tmp_path} does not have the four idx files"):
        data.load(f"idx:{tmp_path}", GREY)


def test_idx_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="idx needs the folder of its files: --data idx:DIR"):
        data.load("idx", GREY)
    with pytest.raises(DataError, match="does not have the four idx files"):
        data.load(f"idx:{tmp_path}/none/at/all", GREY)


def test_one_of_several_sets_is_named(tmp_path: Path) -> None:
    """As EMNIST's archive has them; its letters begin with 1."""
    formats.idx(tmp_path, "emnist-letters-", "test", classes=26, first=1)
    formats.idx(tmp_path, "emnist-digits-", "test", classes=10)
    with pytest.raises(
        DataError, match=rf"2 sets; say which: --data idx:{tmp_path}/emnist-digits, --data idx:\S+letters$"
    ):
        data.load(f"idx:{tmp_path}", GREY)
    letters = data.load(f"idx:{tmp_path}/emnist-letters", GREY, labels=26)
    assert letters.classes == 26
    assert sorted(everything(letters.train)[1]) == list(range(26))
    assert data.load(f"idx:{tmp_path}/emnist-digits", GREY).classes == 10


def test_one_set_needs_no_name_and_characters_are_not_mirrored(tmp_path: Path) -> None:
    """MNIST as Kaggle names its files; a bright left border stays on the left."""
    formats.idx(tmp_path, zipped=False)
    (tmp_path / PIXELS).rename(tmp_path / "train-images.idx3-ubyte")
    content = bytearray((tmp_path / "train-images.idx3-ubyte").read_bytes())
    image = np.zeros((40, 28, 28), np.uint8)
    image[:, :, :14] = 200
    content[16:] = image.tobytes()
    (tmp_path / "train-images.idx3-ubyte").write_bytes(bytes(content))
    images, _ = everything(data.load(f"idx:{tmp_path}", GREY).train)
    assert (images[..., 4:10].mean((1, 2, 3)) > images[..., 18:].mean((1, 2, 3))).all()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda content: content[:-7],
    "cut in the heading": lambda content: content[:9],
    "no pixels": lambda content: content[:16],
    "something else": lambda _: b"<html>not found</html>",
    "of labels": lambda _: struct.pack(">HBBI", 0, 8, 1, 3) + b"abc",
    "floats": lambda content: struct.pack(">HBBIII", 0, 13, 3, 40, 28, 7) + content[16:],
    "of an unknown type": lambda content: b"\0\0\x0a" + content[3:],
    "of another size": lambda content: struct.pack(">HBBIII", 0, 8, 3, 160, 14, 14) + content[16:],
    "gzipped in part": lambda content: gzip.compress(content)[:-30],
    "gzipped wrongly": lambda content: b"\x1f\x8b" + content,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = formats.idx(tmp_path, zipped=False) / PIXELS
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(
        DataError, match=rf"^the files of {tmp_path} are damaged \({PIXELS}: .*\); unpack them again, or download them$"
    ):
        data.load(f"fashion-mnist:{tmp_path}", GREY)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (bytes(39), "it has 39 labels for 40 images"),
        (bytes([200] * 40), "it has the label 200, and labels are from 0 to 9"),
    ],
)
def test_labels_that_do_not_fit_are_said(tmp_path: Path, labels: bytes, sentence: str) -> None:
    formats.idx(tmp_path, zipped=False)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, len(labels)) + labels)
    with pytest.raises(DataError, match=sentence):
        data.load(f"fashion-mnist:{tmp_path}", GREY)


def test_a_class_of_test_images_alone_is_said(tmp_path: Path) -> None:
    formats.idx(tmp_path, zipped=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 20) + bytes([12] * 20))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte has the label 12, which no training image has"):
        data.load(f"idx:{tmp_path}", GREY)


def test_the_help_shows_that_the_folder_may_be_left_out() -> None:
    assert "fashion-mnist[:DIR], idx:DIR" in TrainConfig.__dataclass_fields__["data"].metadata["help"]


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(DataError, match=f"^{tmp_path} cannot be read: Permission denied$"):
        data.load(f"fashion-mnist:{tmp_path}", GREY)
