"""Hugging Face data on disk: saved, or as parquet files; the images of folders, and what is said of bad ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gradaug import data
from gradaug.errors import DataError

from . import formats
from .test_formats import everything
from .test_webdataset import counted

datasets = pytest.importorskip("datasets")

SHAPE = (3, 32, 32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows(folder: Path) -> dict[str, list[Any]]:
    files = sorted(folder.glob("*/*.jpg"))
    labels = [int(file.parent.name[-1]) for file in files]
    return {"image": [{"bytes": file.read_bytes(), "path": file.name} for file in files], "label": labels}


def written(root: Path, label: Any = None, change: Callable[[dict[str, list[Any]]], None] = lambda _: None) -> Any:
    """train and test, with images of :func:`formats.image_folder` below `root`."""
    folder = formats.image_folder(root / "plain")
    features = datasets.Features({"image": datasets.Image(), "label": label or datasets.ClassLabel(names=list("abc"))})
    found = {"train": rows(folder / "train"), "test": rows(folder / "val")}
    for part in found.values():
        change(part)
    return datasets.DatasetDict({name: datasets.Dataset.from_dict(each, features) for name, each in found.items()})


def saved(found: Any, place: Path) -> Path:
    found.save_to_disk(str(place))
    return place


def as_parquet(found: Any, place: Path) -> Path:
    (place / "data").mkdir(parents=True)
    for name, part in found.items():
        part.to_parquet(str(place / "data" / f"{name}-00000-of-00001.parquet"))
    return place


@pytest.mark.parametrize("write", [saved, as_parquet])
def test_images_are_those_of_a_folder(tmp_path: Path, write: Callable[[Any, Path], Path]) -> None:
    place = write(written(tmp_path), tmp_path / "hf")
    source, plain = data.load(f"hf:{place}", SHAPE), data.load(f"folder:{tmp_path / 'plain'}", SHAPE)
    assert (source.task, source.classes, len(source.train), len(source.validation)) == ("classification", 3, 12, 6)
    for part in ("calibration", "validation"):
        assert counted(*everything(getattr(source, part))) == counted(*everything(getattr(plain, part)))
    first = [labels.tolist() for _, labels in data.train_batches(source, 4, 0, 0, 4)]
    assert [labels.tolist() for _, labels in data.train_batches(source, 4, 0, 2, 4, workers=1)] == first[2:]
    assert everything(data.load(f"hf:{place}", (1, 32, 32), labels=3).train)[0].shape == (3, 1, 32, 32)


def test_lists_of_classes_are_several_labels(tmp_path: Path) -> None:
    def several(part: dict[str, list[Any]]) -> None:
        part["label"] = [[label, 3] if label else [] for label in part["label"]]

    kind = datasets.List(datasets.ClassLabel(names=list("abcd")))
    source = data.load(f"hf:{saved(written(tmp_path, kind, several), tmp_path / 'hf')}", SHAPE, augment="none")
    _, labels = everything(source.train)
    assert (source.task, source.classes) == ("multilabel", 4)
    assert labels[0].tolist() == [0, 0, 0, 0]
    assert labels[-1].tolist() == [0, 0, 1, 1]


def test_plain_numbers_are_classes_by_their_columns_name(tmp_path: Path) -> None:
    source = data.load(f"hf:{saved(written(tmp_path, datasets.Value('int32')), tmp_path / 'hf')}", SHAPE)
    assert source.classes == 3


def test_rows_that_were_chosen_are_those_that_are_read(tmp_path: Path) -> None:
    found = written(tmp_path)
    chosen = datasets.DatasetDict({name: part.select([len(part) - 1, 0]) for name, part in found.items()})
    source = data.load(f"hf:{saved(chosen, tmp_path / 'hf')}", SHAPE, augment="none")
    assert everything(source.train)[1].tolist() == [2, 0]


def test_a_hidden_label_is_named(tmp_path: Path) -> None:
    def hidden(part: dict[str, list[Any]]) -> None:
        part["label"][4] = -1

    place = saved(written(tmp_path, None, hidden), tmp_path / "hf")
    with pytest.raises(DataError, match="row 4: -1 is no class number from 0 to 2; rows without a label"):
        data.load(f"hf:{place}", SHAPE)


def test_a_broken_or_missing_image_is_named(tmp_path: Path) -> None:
    def broken(part: dict[str, list[Any]]) -> None:
        part["image"][0]["bytes"] = b"no image"
        part["image"][1] = None

    source = data.load(f"hf:{saved(written(tmp_path, None, broken), tmp_path / 'hf')}", SHAPE)
    with pytest.raises(DataError, match=r"hf, image 0.* cannot be read as an image"):
        source.train.__getitems__([(0, 0)])
    with pytest.raises(DataError, match=r"hf, image 1.* is empty; leave the row out"):
        source.train.__getitems__([(0, 1)])


def test_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = written(tmp_path)
    one = saved(found["train"], tmp_path / "one")
    other = saved(datasets.DatasetDict({"train": found["train"], "extra": found["test"]}), tmp_path / "other")
    two = saved(
        found.map(lambda row: {"kind": row["label"]}).cast_column("kind", found["train"].features["label"]),
        tmp_path / "two",
    )
    for place, said in {
        tmp_path / "empty": "Hugging Face data was looked for in .*empty and is not there",
        one: "has one part alone; save a DatasetDict",
        other: "has the parts train, extra: one is to be called train, and one validation or test",
        two: r"has 2 columns of class numbers \(image, label, kind\), and one is needed",
    }.items():
        with pytest.raises(DataError, match=said):
            data.load(f"hf:{place}", SHAPE)
    with pytest.raises(DataError, match="needs the place of the images: --data hf:DIR"):
        data.load("hf", SHAPE)
    for file in saved(found, tmp_path / "damaged").glob("train/*.arrow"):
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DataError, match="damaged cannot be read as Hugging Face data"):
        data.load(f"hf:{tmp_path / 'damaged'}", SHAPE)


def test_sixteen_bits_and_grey_are_read_as_from_a_file(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray((torch.arange(40 * 40).reshape(40, 40) * 40).numpy().astype("uint16")).save(file, "PNG")

    def deep(part: dict[str, list[Any]]) -> None:
        part["image"] = [{"bytes": file.getvalue(), "path": None}] * len(part["image"])

    source = data.load(f"hf:{saved(written(tmp_path, None, deep), tmp_path / 'hf')}", (1, 32, 32))
    (tmp_path / "one.png").write_bytes(file.getvalue())
    plain = data.image_folder.decode(tmp_path / "one.png", channels=1)
    assert torch.equal(source.validation.records.pixels(0, 1), plain)  # type: ignore[attr-defined]
