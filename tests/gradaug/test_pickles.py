"""CIFAR's pickles are data: whatever else one would do is not done, and is one sentence with the file's name."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradaug import data
from gradaug.data.pickles import Array, plain
from gradaug.errors import DataError

from . import formats

PIXELS = np.arange(2 * 3072, dtype=np.uint16).astype(np.uint8).reshape(2, 3072)


def of_python_2(pixels: np.ndarray) -> bytes:
    """A batch as the published files have it: protocol 2, bytes as texts."""
    count, size = pixels.shape
    return b"".join(
        [
            b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05(K\x06K\x09e",
            b"U\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09",
            b"(K\x01K" + bytes([count]) + b"M" + struct.pack("<H", size) + b"\x86cnumpy\ndtype\nq\x0aU\x02u1q\x0b",
            b"K\x00K\x01\x87Rq\x0c(K\x03U\x01|q\x0dNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"q\x0etbu.",
        ]
    )


def test_the_published_form_is_read() -> None:
    content = plain(of_python_2(PIXELS))
    assert (content["labels"], content["batch_label"]) == ([6, 9], "training batch 1 of 5")
    np.testing.assert_array_equal(content["data"].numpy(), PIXELS)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        PIXELS, np.asfortranarray(PIXELS), np.array([3, -4]), np.array([[1], [2]], ">i4"), np.int64(7),
    ],
)  # fmt: skip
def test_arrays_of_every_protocol_are_themselves(array: Any, protocol: int) -> None:
    value = {"array": array, "rest": [1, -(2**70), 0.5, "caf\xe9", b"\xff", None, True, False, (), (1,), (1, 2), {}]}
    found = plain(pickle.dumps(value, protocol))
    assert isinstance(found["array"], Array)
    np.testing.assert_array_equal(found["array"].numpy(), array)
    assert found["rest"] == value["rest"]


class Calls:
    """Something whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


HOSTILE = {
    "a command": pickle.dumps(Calls(os.system, "touch ran")),
    "a command, old": pickle.dumps(Calls(os.system, "touch ran"), 0),
    "a command inside": pickle.dumps({"data": [Calls(os.system, "touch ran")], "labels": []}, 2),
    "an instance": b"ios\nsystem\n(S'touch ran'\n.",
    "an object": b"(cos\nsystem\nS'touch ran'\no.",
    "a name with dots": b"\x80\x04\x8c\x05numpy\x8c\x0cdtype.__init__\x93.",
    "a module inside": b"\x80\x04\x8c\x05numpy\x8c\x09os.system\x93.",
    "numpy's own": b"\x80\x04\x8c\x05numpy\x8c\x04load\x93\x8c\x01x\x85R.",
    "an evaluation": b"c__builtin__\neval\n(S'1'\ntR.",
    "state of a list": b"\x80\x02](K\x01tb.",
    "a call of a class": b"cnumpy\nndarray\n(K\x01tR.",
    "a new object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "an id": b"Px\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "a memo far away": b"\x80\x02Nr\xff\xff\xff\xff.",
    "a set": b"\x80\x04\x8f.",
    "tuples in tuples as a key": b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.",
    "a long text that ends": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.",
    "many bytes that end": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "a number without end": b"L" + b"9" * 100_000 + b"L\n.",
    "nothing": b"",
    "no end": b"\x80\x04}",
    "no beginning": b".",
    "no pickle": b"<html>",
    "a mark alone": b"\x80\x04(.",
    "an odd dictionary": b"\x80\x02}(K\x01u.",
    "objects": pickle.dumps({"data": np.array([None, {}]), "labels": []}),
    "records": pickle.dumps({"data": np.zeros(2, "u1,u1"), "labels": []}),
    "dates": pickle.dumps({"data": np.zeros(2, "M8[s]"), "labels": []}),
    "floats": pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 0]}),
    "another shape": pickle.dumps({"data": np.zeros((2, 3072, 1), np.uint8), "labels": [0, 0]}),
    "a column too many": pickle.dumps({"data": np.zeros((2, 3073), np.uint8), "labels": [0, 0]}),
    "no images": pickle.dumps({"data": np.zeros((0, 3072), np.uint8), "labels": []}),
    "a list": pickle.dumps([PIXELS, [0, 0]]),
    "no data": pickle.dumps({"labels": [0, 0]}),
    "no labels": pickle.dumps({"data": PIXELS}),
    "fewer labels": pickle.dumps({"data": PIXELS, "labels": [0]}),
    "a label too large": pickle.dumps({"data": PIXELS, "labels": [0, 10]}),
    "a label below zero": pickle.dumps({"data": PIXELS, "labels": [0, -1]}),
    "labels that are texts": pickle.dumps({"data": PIXELS, "labels": ["0", "1"]}),
    "labels that are true": pickle.dumps({"data": PIXELS, "labels": [True, False]}),
    "labels of halves": pickle.dumps({"data": PIXELS, "labels": np.array([0.0, 1.0])}),
    "labels in a text": pickle.dumps({"data": PIXELS, "labels": "01"}),
    "a shape without its data": of_python_2(PIXELS).replace(b"K\x02M\x00\x0c", b"K\x03M\x00\x0c"),
    "cut short": of_python_2(PIXELS)[:-2000],
    "another type": of_python_2(PIXELS).replace(b"U\x02u1", b"U\x02O1"),
    "another order": of_python_2(PIXELS).replace(b"U\x01|q\x0d", b"U\x01Oq\x0d"),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=list(HOSTILE))
def test_anything_else_is_one_sentence(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = formats.cifar10(tmp_path)
    (root / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match=rf"{root}/cifar-10-batches-py are damaged \(data_batch_3: .*unpack") as caught:
        data.load(f"cifar10:{root}", (3, 32, 32))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not Path("ran").exists()


def test_labels_may_be_numbers_of_numpy(tmp_path: Path) -> None:
    root = formats.cifar10(tmp_path)
    for labels in (np.array([3, 4]), [np.int64(3), np.int64(4)], np.array([3, 4], np.uint8)):
        batch = {"data": PIXELS, "labels": labels}
        (root / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(batch))
        validation = data.load(f"cifar10:{root}", (3, 32, 32)).validation
        assert validation.__getitems__([(0, 0), (0, 1)])[1].tolist() == [3, 4]


def test_a_batch_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    root = formats.cifar10(tmp_path)
    batch = root / "cifar-10-batches-py" / "test_batch"
    batch.unlink()
    os.mkfifo(batch)
    with pytest.raises(DataError, match="test_batch: it is not a file"):
        data.load(f"cifar10:{root}", (3, 32, 32))


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("train_X.bin", b"\0" * 1000, "has 1,000 bytes, which is no number of images of 3x96x96"),
        ("train_X.bin", b"", "has 0 bytes"),
        ("unlabeled_X.bin", b"\0", "has 1 bytes"),
        ("test_y.bin", b"\1" * 19, "has 20 images and 19 labels"),
        ("test_y.bin", b"\1" * 200, "has 20 images and 21 labels"),
        ("test_y.bin", b"\0" * 20, "labels that are not from 0 to 9"),
        ("train_y.bin", b"\x0b" * 40, "labels that are not from 0 to 9"),
    ],
)
def test_stl_files_of_another_size_are_one_sentence(part: str, content: bytes, message: str, tmp_path: Path) -> None:
    root = formats.stl10(tmp_path)
    (root / "stl10_binary" / part).write_bytes(content)
    with pytest.raises(DataError, match=rf"stl10_binary are damaged \({part}: .*{message}"):
        data.load(f"stl10:{root}", (3, 96, 96))


def test_the_home_of_nobody_is_no_folder() -> None:
    for name in ("cifar10", "stl10", "folder"):
        with pytest.raises(DataError, match="there is no folder ~nobody-of-this-name/data"):
            data.load(f"{name}:~nobody-of-this-name/data", (3, 32, 32))
