"""Small data sets in their real on-disk formats: CIFAR's pickles, STL-10's binaries, idx, folders of JPEG files."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def _pixels(count: int, side: int, seed: int) -> np.ndarray:
    """Smooth random images, uint8 (count, 3, side, side)."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 3, 4, 4))
    return np.kron(coarse, np.ones((side // 4, side // 4), dtype=int)).astype(np.uint8)


def cifar10(root: Path, train: int = 50, test: int = 20) -> Path:
    """As cifar-10-python.tar.gz unpacks: five batches to train on, one to test."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    parts = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for seed, part in enumerate(parts):
        count = test if part == "test_batch" else train // 5
        data = {"data": _pixels(count, 32, seed).reshape(count, -1), "labels": [i % 10 for i in range(count)]}
        (folder / part).write_bytes(pickle.dumps(data))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))
    return root


def cifar100(root: Path, train: int = 200, test: int = 100) -> Path:
    """As cifar-100-python.tar.gz unpacks."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for seed, (part, count) in enumerate({"train": train, "test": test}.items()):
        labels = [i % 100 for i in range(count)]
        data = {"data": _pixels(count, 32, seed).reshape(count, -1), "fine_labels": labels}
        (folder / part).write_bytes(pickle.dumps(data))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    return root


def stl10(root: Path, train: int = 40, test: int = 20, unlabelled: int = 30) -> Path:
    """As stl10_binary.tar.gz unpacks: column-major pixels, labels from 1."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for seed, (part, count) in enumerate({"train": train, "test": test, "unlabeled": unlabelled}.items()):
        _pixels(count, 96, seed).transpose(0, 1, 3, 2).tofile(folder / f"{part}_X.bin")
        if part != "unlabeled":
            np.array([i % 10 + 1 for i in range(count)], dtype=np.uint8).tofile(folder / f"{part}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(map(str, range(10))))
    (folder / "fold_indices.txt").write_text("0")
    return root


def idx(
    root: Path, name: str = "", tests: str = "t10k", classes: int = 10, first: int = 0, zipped: bool = True
) -> Path:
    """As Fashion-MNIST, MNIST and EMNIST are published: grey images of 28x28 and labels from `first`, big-endian."""
    root.mkdir(parents=True, exist_ok=True)
    for seed, (part, count) in enumerate({"train": 4 * classes, tests: 2 * classes}.items()):
        content = {
            "images-idx3": struct.pack(">HBBIII", 0, 8, 3, count, 28, 28) + _pixels(count, 28, seed)[:, 0].tobytes(),
            "labels-idx1": struct.pack(">HBBI", 0, 8, 1, count) + bytes(first + i % classes for i in range(count)),
        }
        for kind, raw in content.items():
            path = root / f"{name}{part}-{kind}-ubyte{'.gz' * zipped}"
            path.write_bytes(gzip.compress(raw) if zipped else raw)
    return root


def image_folder(root: Path, classes: int = 3, train: int = 4, val: int = 2) -> Path:
    """train/CLASS/*.jpg and val/CLASS/*.jpg, landscape and portrait; `train` and `val` images a class."""
    for seed, (part, count) in enumerate({"train": train, "val": val}.items()):
        for name in range(classes):
            folder = root / part / f"class{name}"
            folder.mkdir(parents=True)
            for i, image in enumerate(_pixels(count, 96, 100 * seed + name)):
                cut = image[:, :, :64] if i % 2 else image[:, :72]
                Image.fromarray(cut.transpose(1, 2, 0)).save(folder / f"{i}.jpg")
    return root


def csv_labels(root: Path, train: int = 6, val: int = 4) -> Path:
    """train.csv and val.csv, a row an image: is its middle red, green, blue? One cell is empty, one file a PNG."""
    return _table(root, {"train": train, "val": val}, "red,green,blue", lambda colour: [int(c > 127) for c in colour])


def csv_values(root: Path, train: int = 6, val: int = 4) -> Path:
    """The same with one number an image: the brightness of its middle, about 0."""
    return _table(root, {"train": train, "val": val}, "brightness", lambda colour: [(sum(colour) - 382) / 200])


def _table(root: Path, parts: dict[str, int], names: str, known: Callable[[list[int]], list[float]]) -> Path:
    (root / "images").mkdir(parents=True)
    generator = np.random.default_rng(7)
    for part, count in parts.items():
        rows = [f"file,{names}"]
        for number in range(count):
            file = f"images/{part}{number}.{'png' if number == 1 else 'jpg'}"
            colour = generator.choice([20, 70, 190, 240], 3).tolist()  # far from the middle, as JPEG rounds
            Image.new("RGB", (40, 36 + number % 3), tuple(colour)).save(root / file)
            cells = list(map(str, known(colour)))
            rows.append(",".join([file, *(cells if number else ["", *cells[1:]])]))
        (root / f"{part}.csv").write_text("\n".join(rows) + "\n")
    return root


def webdataset(root: Path, classes: int = 3, train: int = 4, val: int = 2) -> Path:
    """Two shards to train on and one to validate: the images of :func:`image_folder`, their classes as cls or json."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = image_folder(Path(place), classes, train, val)
        for part in ("train", "val"):
            files = sorted((folder / part).glob("*/*.jpg"), key=lambda path: (path.name, path))
            middle = len(files) // 2 if part == "train" else len(files)
            for number, some in enumerate((files[:middle], files[middle:])):
                if some:
                    shard(root / f"set-{part}-{number:03}.tar", [(int(f.parent.name[-1]), f) for f in some])
    return root


def shard(path: Path, samples: list[tuple[int, Path]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for number, (label, image) in enumerate(samples):
            ending, text = ("json", json.dumps({"label": label, "who": "x"})) if number % 2 else ("cls", f"{label}\n")
            member = tarfile.TarInfo(f"a/{number:06}.{ending}")
            member.size = len(text)
            tar.add(image, f"a/{number:06}.jpg")
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def _scene(number: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey picture (height, width) of bars, and the number of each pixel's bar, 0 to 3."""
    bars = np.tile(np.arange(width) * 4 // width, (height, 1))
    bars = np.roll(bars, number, 1).astype(np.uint8)
    return bars * 60 + 20, bars


def _write(image: Path, mask: Path, number: int, values: tuple[int, ...], palette: bool = False) -> None:
    """A photograph and its mask, of other sides for every number; `values` are the numbers of the bars."""
    picture, bars = _scene(number, 40 + 8 * (number % 3), 48 - 4 * (number % 2))
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).convert("RGB").save(image, **({"quality": 95} if image.suffix == ".jpg" else {}))
    stored = Image.fromarray(np.array(values, dtype=np.uint8)[bars])
    if palette:
        stored = Image.frombytes("P", stored.size, stored.tobytes())
        stored.putpalette([(37 * i) % 256 for i in range(768)])
    stored.save(mask)


def voc_masks(root: Path, train: int = 4, val: int = 3) -> Path:
    """As VOCdevkit/VOC2012 is: masks with a palette, lists of names, other files beside them."""
    names = [f"2007_{i:06}" for i in range(train + val)]
    for number, name in enumerate(names):
        paths = root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClass" / f"{name}.png"
        _write(*paths, number, (0, 5, 20, 255), palette=True)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(names[:train]) + "\n")
    (lists / "val.txt").write_text("\r\n".join(names[train:]) + "\r\n\r\n")
    Image.new("RGB", (9, 9)).save(root / "JPEGImages" / "2008_000001.jpg")  # of another list
    return root


def ade20k(root: Path, train: int = 4, val: int = 3) -> Path:
    """As ADEChallengeData2016 is: masks in grey, 0 for no label."""
    for part, short, count in (("training", "train", train), ("validation", "val", val)):
        for number in range(count):
            name = f"ADE_{short}_{number + 1:08}"
            paths = root / "images" / part / f"{name}.jpg", root / "annotations" / part / f"{name}.png"
            _write(*paths, number, (0, 1, 77, 150))
    return root


def cityscapes(root: Path, train: int = 4, val: int = 3, ids: str = "labelIds") -> Path:
    """As leftImg8bit and gtFine unpack into one folder; two cities a part."""
    values = {"labelIds": (0, 7, 33, 26), "labelTrainIds": (255, 0, 18, 13)}[ids]
    for part, count in (("train", train), ("val", val)):
        for number in range(count):
            city = f"{part}{number % 2}"
            name = f"{city}_{number:06}_000019"
            image = root / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png"
            _write(image, root / "gtFine" / part / city / f"{name}_gtFine_{ids}.png", number, values)
            (root / "gtFine" / part / city / f"{name}_gtFine_polygons.json").write_text("{}")
    return root
