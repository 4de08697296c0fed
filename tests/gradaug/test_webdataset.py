"""Tar shards: the images of folders, after a resume and over processes too; what is said of bad ones."""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from gradaug import data
from gradaug.data import webdataset
from gradaug.errors import DataError

from . import formats
from .test_formats import everything

SHAPE = (3, 32, 32)


def counted(images: torch.Tensor, labels: torch.Tensor) -> Counter[tuple[float, int]]:
    return Counter((float(image.sum()), int(label)) for image, label in zip(images, labels, strict=True))


def test_images_are_those_of_a_folder(tmp_path: Path) -> None:
    formats.webdataset(tmp_path / "tar")
    formats.image_folder(tmp_path / "plain")
    for part in ("calibration", "validation"):
        found, plain = (
            everything(getattr(data.load(f"{name}:{tmp_path / place}", SHAPE), part))
            for name, place in (("webdataset", "tar"), ("folder", "plain"))
        )
        both = [
            Counter((image.sum().item(), int(label)) for image, label in zip(*each, strict=True))
            for each in (found, plain)
        ]
        assert both[0] == both[1]


def test_a_pattern_is_what_a_shell_makes_of_it() -> None:
    assert list(webdataset.expanded("in-{train-{008..010},val-{0..1}}.tar")) == [
        "in-train-008.tar", "in-train-009.tar", "in-train-010.tar", "in-val-0.tar", "in-val-1.tar",
    ]  # fmt: skip
    assert list(webdataset.expanded("{a,b}{1..2}")) == ["a1", "a2", "b1", "b2"]
    assert list(webdataset.expanded("plain.tar")) == ["plain.tar"]
    assert list(webdataset.expanded("open{a,b")) == ["open{a,b"]


def test_a_pattern_and_folders_name_the_same_shards(tmp_path: Path) -> None:
    root = formats.webdataset(tmp_path)
    whole = everything(data.load(f"webdataset:{root}", SHAPE).train)
    again = everything(data.load(f"webdataset:{root}/set-{{train-{{000..001}},val-000}}.tar", SHAPE).train)
    for name in ("train", "val"):
        (root / "parts" / name).mkdir(parents=True)
        for file in root.glob(f"set-{name}-*.tar"):
            file.rename(root / "parts" / name / file.name.replace(f"{name}-", ""))
    torch.testing.assert_close(whole, again)
    torch.testing.assert_close(whole, everything(data.load(f"webdataset:{root}/parts", SHAPE).train))


@pytest.mark.parametrize(("start", "world"), [(0, 1), (2, 1), (0, 2)])
def test_processes_and_a_resume_see_the_batches_of_one_whole_run(tmp_path: Path, start: int, world: int) -> None:
    source = data.load(f"webdataset:{formats.webdataset(tmp_path)}", SHAPE)
    whole = list(data.train_batches(source, 4, 0, 0, 5))
    parts = [
        list(data.train_batches(source, 4, 0, start, 5, workers=world - 1, rank=r, world=world)) for r in range(world)
    ]
    for step, batch in enumerate(zip(*parts, strict=True), start):
        images, labels = (torch.cat(each) for each in zip(*batch, strict=True))
        assert torch.equal(images, whole[step][0])
        assert torch.equal(labels, whole[step][1])
    epoch = [int(label) for _, labels in whole[:3] for label in labels]
    assert Counter(epoch) == {0: 4, 1: 4, 2: 4}


def test_an_index_is_made_once_and_again_for_another_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = formats.webdataset(tmp_path)
    first = everything(data.load(f"webdataset:{root}", SHAPE).train)
    made: list[str] = []
    make = webdataset._made
    monkeypatch.setattr(webdataset, "_made", lambda shard: (made.append(shard.name), make(shard))[1])
    torch.testing.assert_close(first, everything(data.load(f"webdataset:{root}", SHAPE).train))
    assert made == []
    one, other = sorted(root.glob("set-train*.tar"))
    os.utime(one, ns=(1, 1))
    (root / f"{other.name}.gradaug.npz").write_bytes(b"damaged")
    torch.testing.assert_close(first, everything(data.load(f"webdataset:{root}", SHAPE).train))
    assert sorted(made) == [one.name, other.name]


def test_a_folder_that_cannot_be_written_keeps_no_index(tmp_path: Path) -> None:
    root = formats.webdataset(tmp_path)
    for shard in root.glob("*.tar"):
        (root / f"{shard.name}.gradaug.npz").mkdir()
    source = data.load(f"webdataset:{root}", SHAPE)
    assert len(source.train) == 12
    assert source.remarks == ("The index of 3 shards could not be kept beside them, and is made anew by every run.",)


def picture(form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), (255, 0, 0)).save(file, form)
    return file.getvalue()


def written(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "has no images"),
        ({"a.cls": b"0"}, "has 0 images of the name a"),
        ({"a.png": b"", "a.jpg": b"", "a.cls": b"0"}, "has 2 images of the name a"),
        ({"a.png": b"", "b.cls": b"0"}, "says no class of a"),
        ({"a.png": b"", "a.cls": b"cat"}, "says no class of a: .*a.cls with a number from 0"),
        ({"a.png": b"", "a.cls": b"-1"}, "says no class of a"),
        ({"a.png": b"", "a.json": b'{"label": "cat"}'}, "says no class of a"),
        ({"a.png": b"", "a.json": b"[" * 100_000}, "says no class of a"),
    ],
)
def test_a_shard_without_an_answer_is_one_sentence(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    written(tmp_path / "train-0.tar", files)
    written(tmp_path / "val-0.tar", {"a.png": picture(), "a.cls": b"0"})
    with pytest.raises(DataError, match=f"train-0.tar {said}"):
        data.load(f"webdataset:{tmp_path}", SHAPE)


def test_other_files_of_a_sample_are_left_alone(tmp_path: Path) -> None:
    for part in ("train", "test"):
        files = {
            "__meta__": b"x",
            "a.seg.png": b"x",
            "a.jpg": picture("JPEG"),
            "a.cls": b"1",
            "a.txt": b"a cat",
            ".x": b"",
        }
        written(tmp_path / f"{part}.tar", files)
    source = data.load(f"webdataset:{tmp_path}", SHAPE)
    assert (len(source.train), len(source.validation), source.classes) == (1, 1, 2)


def test_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    place = formats.webdataset(tmp_path / "tar")
    for spec, said in {
        "": "needs the place of the images: --data webdataset:DIR",
        str(tmp_path / "empty"): "tar shards were looked for in .*empty and are not there",
        f"{place}/set-{{train,val}}-{{000..003}}.tar": "5 of the 8 shards .* are not there, such as .*train-002.tar",
        f"{place}/set-train-{{000..001}}.tar": "no file is for val",
    }.items():
        with pytest.raises(DataError, match=said):
            data.load(f"webdataset:{spec}", SHAPE)
    (place / "set-train-000.tar").rename(place / "set-000.tar")
    with pytest.raises(DataError, match=r"set-000.tar is for training or for validation\?"):
        data.load(f"webdataset:{place}", SHAPE)
    (place / "set-000.tar").unlink()
    (place / "set-train-001.tar").write_bytes(b"\x1f\x8bxx" * 400)
    with pytest.raises(DataError, match=r"set-train-001.tar cannot be read as a tar file"):
        data.load(f"webdataset:{place}", SHAPE)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    for part in ("train", "val"):
        written(tmp_path / f"{part}.tar", {"a.png": picture()[:50], "a.cls": b"0"})
    source = data.load(f"webdataset:{tmp_path}", SHAPE)
    with pytest.raises(DataError, match=r"train.tar, the image at byte 512, cannot be read as an image"):
        everything(source.train)
