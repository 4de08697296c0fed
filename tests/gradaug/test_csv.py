"""Images beside a table: what is read of it, and what is said of one that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradaug import data
from gradaug.errors import DataError

from . import formats
from .test_formats import everything


def test_labels_and_their_gaps_are_read(tmp_path: Path) -> None:
    root = formats.csv_labels(tmp_path)
    source = data.load(f"csv-labels:{root}", (3, 32, 32), augment="none")
    images, labels = everything(source.train)
    assert (source.task, source.classes) == ("multilabel", 3)
    assert images.shape == (6, 3, 32, 32)
    assert labels.dtype == torch.float32
    assert labels.isnan().nonzero().tolist() == [[0, 0]]
    middle = images[:, :, 16, 16] * torch.tensor(source.std) + torch.tensor(source.mean)
    known = ~labels.isnan()
    assert torch.equal((middle > 0.5).float()[known], labels[known])


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_and_byte_order_marks_are_read(tmp_path: Path, separator: str) -> None:
    root = formats.csv_values(tmp_path)
    plain = everything(data.load(f"csv-values:{root}", (1, 32, 32)).train)
    for name in ("train.csv", "val.csv"):
        text = (root / name).read_text().replace(",", separator).replace("\n", "\r\n")
        (root / name).write_text("\ufeff" + text + "\r\n", newline="")
    again = everything(data.load(f"csv-values:{root}", (1, 32, 32)).train)
    torch.testing.assert_close(plain, again, equal_nan=True)


def test_some_labels_are_any_of_the_images(tmp_path: Path) -> None:
    root = formats.csv_labels(tmp_path)
    source = data.load(f"csv-labels:{root}", (3, 32, 32), labels=4)
    assert source.unlabelled is not None
    assert [len(part) for part in (source.train, source.calibration, source.unlabelled)] == [4, 4, 2]
    with pytest.raises(DataError, match="--labels 7 is more than the 6 training images"):
        data.load(f"csv-labels:{root}", (3, 32, 32), labels=7)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "train.csv is empty"),
        ("file\nimages/train0.jpg\n", "has one column, file"),
        ("file,red,green,blue\n", "has no image"),
        ("file,red,green,blue\nimages/train0.jpg,1,0\n", "line 2, has 3 cells where its first row has 4"),
        ("file,red,green,blue\nimages/train9.jpg,1,0,1\n", "line 2, names images/train9.jpg, and there is no file"),
        ("file,red,green,blue\n\nimages/train0.jpg,1,0,2\n", "line 3: '2' is no label, which is 0 or 1"),
        ("file,red,green,blue\nimages/train0.jpg,1,0,-1\n", "line 2: '-1' is no label.*leave a cell empty"),
        ("file,red,green,blue\nimages/train0.jpg,1,0,yes\n", "line 2: 'yes' is no number"),
        ("file,red,blue,green\nimages/train0.jpg,1,0,1\n", "both are to have the same, in one order"),
        ("\x00\xff", "not there|has one column|has no image"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(tmp_path: Path, table: str, said: str) -> None:
    root = formats.csv_labels(tmp_path)
    (root / "train.csv").write_text(table, encoding="latin-1")
    with pytest.raises(DataError, match=said):
        data.load(f"csv-labels:{root}", (3, 32, 32))


def test_a_missing_table_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train.csv and is not there .*a row an image"):
        data.load(f"csv-values:{tmp_path}", (3, 32, 32))
    with pytest.raises(DataError, match=r"--data csv-labels:DIR with DIR/train.csv"):
        data.load("csv-labels", (3, 32, 32))
