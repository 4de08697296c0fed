"""Photographs with boxes, from small files in the layouts of COCO, Pascal VOC and YOLO, whole ones and broken ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_masks
from torchvision import tv_tensors

from gradaug import data
from gradaug.data.boxed import aspect
from gradaug.data.decode import decode
from gradaug.errors import DataError

from . import boxed_files as files

SHAPE = (3, 64, 64)
SETS: dict[str, Callable[[Path], Path]] = {
    "coco": files.coco,
    "roboflow": files.roboflow,
    "voc": files.voc,
    "yolo": files.yolo,
    "outlines": lambda root: files.yolo(root, outlined=True),
}
NAMES = {"roboflow": "coco", "outlines": "yolo"}


@pytest.fixture(scope="module", params=SETS)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A layout, and its specification."""
    kind = request.param
    return kind, f"{NAMES.get(kind, kind)}:{SETS[kind](tmp_path_factory.mktemp(kind))}"


def everything(images: data.Images, epoch: int = 0) -> tuple[list[torch.Tensor], list[data.Target]]:
    pictures, targets = images.__getitems__([(epoch, index) for index in range(len(images))])
    assert isinstance(pictures, list)
    assert isinstance(targets, list)
    return pictures, targets


def test_every_layout_gives_the_same_images_and_boxes(found: tuple[str, str]) -> None:
    kind, spec = found
    source = data.load(spec, SHAPE)
    assert source.task == "detection"
    first = 2 if kind == "roboflow" else 1
    assert source.categories == ("background", *["things"][: first - 1], *files.NAMES)
    assert source.classes == len(source.categories)
    assert source.remarks == ()
    for part in (source.calibration, source.validation):
        images, targets = everything(part)
        for number, (image, target) in enumerate(zip(images, targets, strict=True)):
            assert torch.equal((image * 255).round().byte(), torch.tensor(files.pixels(number)).permute(2, 0, 1))
            wanted = torch.tensor(files.corners(number)).view(-1, 4)
            torch.testing.assert_close(target["boxes"], wanted, atol=1e-3, rtol=0)
            assert target["labels"].tolist() == [box[0] + first for box in files.boxes(number)]
            assert target["labels"].dtype == torch.int64


def test_masks_come_where_every_object_has_an_outline(found: tuple[str, str]) -> None:
    kind, spec = found
    for target, (width, height) in zip(everything(data.load(spec, SHAPE).calibration)[1], files.SIZES, strict=True):
        if kind in ("voc", "yolo"):
            assert "masks" not in target
            continue
        assert target["masks"].shape == (len(target["labels"]), height, width)
        assert target["masks"].dtype == torch.uint8
        for mask, (left, top, right, bottom) in zip(target["masks"], target["boxes"].round().long(), strict=True):
            wanted = torch.zeros_like(mask)
            wanted[top:bottom, left:right] = 1
            assert torch.equal(mask, wanted)


def test_validation_says_what_an_evaluation_asks(found: tuple[str, str]) -> None:
    targets = everything(data.load(found[1], SHAPE).validation)[1]
    assert len({int(target["image_id"]) for target in targets}) == len(targets)
    for number, target in enumerate(targets):
        assert target["iscrowd"].tolist() == [0] * len(target["boxes"])
        wanted = torch.tensor([float(box[3] * box[4]) for box in files.boxes(number)])
        torch.testing.assert_close(target["area"], wanted, atol=0.1, rtol=0)


def test_augmentation_mirrors_image_and_boxes_alike(found: tuple[str, str]) -> None:
    source, state = data.load(found[1], SHAPE), torch.get_rng_state()
    still, wanted = everything(source.calibration)
    mirrored = 0
    for epoch in range(4):
        images, targets = everything(source.train, epoch)
        again = everything(source.train, epoch)[0]
        assert all(map(torch.equal, images, again))
        for image, target, plain, boxes in zip(images, targets, still, wanted, strict=True):
            flipped = not torch.equal(image, plain)
            mirrored += flipped
            kept = boxes["boxes"].clone()
            if flipped:
                assert torch.equal(image, plain.flip(-1))
                kept[:, [0, 2]] = plain.shape[-1] - kept[:, [2, 0]]
                if "masks" in target:
                    assert torch.equal(target["masks"], boxes["masks"].flip(-1))
            assert torch.equal(target["boxes"], kept)
    assert 4 < mirrored < 20
    assert torch.equal(torch.get_rng_state(), state)


def test_a_random_scale_keeps_sizes_and_objects_in_their_image(found: tuple[str, str]) -> None:
    source = data.load(found[1], SHAPE, augment="scale")
    changed = 0
    for epoch in range(3):
        for image, target, (width, height) in zip(*everything(source.train, epoch), files.SIZES, strict=True):
            assert image.shape == (3, height, width)
            assert target["boxes"].shape == (len(target["labels"]), 4)
            assert (target["boxes"] <= torch.tensor([width, height, width, height])).all()
            changed += len(target["labels"])
    assert 0 < changed < 3 * sum(len(files.boxes(number)) for number in range(6))


def test_batches_are_of_one_shape_and_evaluation_does_not_pad(found: tuple[str, str]) -> None:
    source = data.load(found[1], SHAPE)
    wide = [
        len({image.shape[2] > image.shape[1] for image in images})
        for images, _ in data.train_batches(source, 2, 0, 0, 3)
    ]
    assert wide.count(1) >= 2
    assert [len(images) for images, _ in data.evaluation_batches(source.validation)] == [1] * 6


@pytest.mark.parametrize(
    ("size", "group"), [((480, 640), 1), ((640, 480), -1), ((500, 500), 0), ((100, 900), 3), ((900, 100), -3)]
)
def test_images_are_grouped_by_their_shape(size: tuple[int, int], group: int) -> None:
    assert aspect(*size) == aspect(size[0] * 3, size[1] * 3) == group


# ------------------------------------------------------------------------------------------ COCO in particular


def loaded(root: Path, change: Callable[[dict[str, Any]], object], augment: str = "standard") -> data.DataSource:
    content = files.document()
    change(content)
    return data.load(f"coco:{files.coco(root, content)}", SHAPE, augment=augment)


def test_labels_are_the_ids_of_the_file_where_they_can_be(tmp_path: Path) -> None:
    content = files.document(first=3)
    source = data.load(f"coco:{files.coco(tmp_path, content, both=True)}", SHAPE)
    assert source.categories == ("background", "N/A", "N/A", *files.NAMES)
    assert source.classes == 6
    content["categories"][2]["id"] = 77
    for one in content["annotations"]:
        one["category_id"] = {5: 77}.get(one["category_id"], one["category_id"])
    assert data.load(f"coco:{files.coco(tmp_path, content, both=True)}", SHAPE).categories == (
        "background",
        *files.NAMES,
    )


@pytest.mark.parametrize("year", ["2014", ""])
def test_other_names_of_the_parts_are_found(tmp_path: Path, year: str) -> None:
    assert len(data.load(f"coco:{files.coco(tmp_path, year=year)}", SHAPE).train) == 6


def test_run_lengths_are_masks_however_they_are_written(tmp_path: Path) -> None:
    masks = [torch.zeros(30, 40, dtype=torch.uint8), torch.zeros(40, 30, dtype=torch.uint8)]
    masks[0][3:20, 5:9] = masks[1][0:40:3, ::2] = 1

    def change(content: dict[str, Any]) -> None:
        text = coco_masks.encode(masks[0].numpy().astype("uint8", order="F"))["counts"].decode()
        content["annotations"][0]["segmentation"] = {"size": [30, 40], "counts": text}
        column = masks[1].T.reshape(-1)
        ends = [0, *(column.diff().nonzero().view(-1) + 1).tolist(), len(column)]
        counts = [b - a for a, b in itertools.pairwise(ends)]
        content["annotations"][1]["segmentation"] = {"size": [40, 30], "counts": [0, *counts] if column[0] else counts}

    targets = everything(loaded(tmp_path, change).calibration)[1]
    assert torch.equal(targets[0]["masks"][0], masks[0])
    assert torch.equal(targets[1]["masks"][0], masks[1])


def test_crowds_are_ignored_and_not_learned(tmp_path: Path) -> None:
    content = files.document()
    content["annotations"][1].update(iscrowd=1, segmentation={"size": [40, 30], "counts": [600, 600]})
    source = data.load(f"coco:{files.coco(tmp_path, content, both=True)}", SHAPE)
    assert everything(source.train)[1][1]["labels"].tolist() == [2]
    target = everything(source.validation)[1][1]
    assert target["iscrowd"].tolist() == [1, 0]
    assert int(target["masks"][0].sum()) == 600


@pytest.mark.skipif(not hasattr(tv_tensors, "KeyPoints"), reason="torchvision moves keypoints from 0.23 on")
def test_keypoints_are_read_and_mirrored_where_left_and_right_are_known(tmp_path: Path) -> None:
    content = files.document()
    for one in content["annotations"]:
        x, y = one["bbox"][:2]
        one["keypoints"] = [value for k in range(17) for value in (x + k % 3, y + k % 2, 2 if k else 0)]
    source = data.load(f"coco:{files.coco(tmp_path, content, both=True)}", SHAPE)
    (still, plain), mirrored = everything(source.calibration), 0
    assert plain[0]["keypoints"].shape == (1, 17, 3)
    assert plain[2]["keypoints"].shape == (0, 17, 3)
    for image, target, before, wanted in zip(*everything(source.train), still, plain, strict=True):
        points = wanted["keypoints"].clone()
        if not torch.equal(image, before):
            mirrored += 1
            points[..., 0] = before.shape[-1] - 1 - points[..., 0]
            points = points[:, [0, *(k + 1 if k % 2 else k - 1 for k in range(1, 17))]]
        torch.testing.assert_close(target["keypoints"], points, atol=1.0, rtol=0)
    assert mirrored
    for one in content["annotations"]:
        one["keypoints"] = one["keypoints"][:9]
    source = data.load(f"coco:{files.coco(tmp_path, content, both=True)}", SHAPE)
    assert all(map(torch.equal, everything(source.train)[0], everything(source.calibration)[0]))


def test_boxes_are_cut_to_their_image_and_those_without_area_counted(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        boxes = [[-3, -2, 10, 8], [25, 35, 50, 50], [300, 2, 5, 5], [4, 4, 0, 6]]
        for one, box in zip(content["annotations"], boxes, strict=False):
            one["bbox"] = box

    source = loaded(tmp_path, change)
    where = tmp_path / "annotations/instances_train2017.json"
    assert source.remarks == (
        f"{where}: boxes outside of the image are left out (1)",
        f"{where}: boxes without area are left out (1)",
    )
    targets = everything(source.calibration)[1]
    assert targets[0]["boxes"].tolist() == [[0, 0, 7, 6]]
    assert targets[1]["boxes"].tolist() == [[25, 35, 30, 40]]
    assert targets[3]["boxes"].tolist() == []


def test_masks_and_keypoints_that_not_every_object_has_are_left_out_and_this_is_said(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0].update(segmentation=[], keypoints=[1, 2, 2])

    source = loaded(tmp_path, change)
    where = tmp_path / "annotations/instances_train2017.json"
    assert source.remarks == (
        f"{where}: masks are left out, as 1 of 9 objects have none",
        f"{where}: keypoints are left out, as not all objects have as many",
    )
    for part in (source.train, source.validation):
        assert not {"masks", "keypoints"} & everything(part)[1][0].keys()


def setting(place: int, **values: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][place].update(values)


def image(place: int, **values: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["images"][place].update(values)


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "category": (setting(1, category_id=9), r"annotation 100 of 1.png has the category 9, which is not listed; repair"),
    "image": (setting(1, image_id=900), r"annotation 100 is of image 900, which is not listed"),
    "id": (setting(1, id=0), r"has two annotations with the id 0"),
    "images": (image(1, id=7), r"lists two images with the id 7"),
    "negative": (
        setting(0, bbox=[1, 1, -4, 3]),
        r"annotation 0 of 0.png has the box \[1.0, 1.0, -4.0, 3.0\], which is",
    ),
    "text": (
        setting(1, bbox=["1", 1, 4, 3]),
        r"annotations\[1\] \(id 100, image_id 8\): Expected `float`, got `str` at",
    ),
    "short": (setting(1, bbox=[1, 1, 4]), r"annotations\[1\] \(id 100, image_id 8\): Expected `array` of length 4"),
    "missing": (
        lambda content: content["annotations"][0].pop("bbox"),
        r"annotations\[0\].*missing required field `bbox`",
    ),
    "side": (image(0, width=0), r"images\[0\] \(id 7, file_name 0.png\): Expected `int` >= 1"),
    "section": (lambda content: content.pop("categories"), r"annotations .missing required field `categories`"),
    "list": (lambda content: content.update(images={}), r"annotations .Expected `array`, got `object` at `images`"),
    "nothing": (lambda content: content.update(annotations=[]), r"has no objects: its 6 images are without a box"),
    "no images": (lambda content: content.update(images=[]), r"lists no images"),
    "no categories": (lambda content: content.update(categories=[]), r"has no categories"),
    "twice": (lambda content: content["categories"][1].update(id=1), r"has two categories of one id"),
    "odd": (
        setting(0, segmentation=[[1, 2, 3, 4, 5, 6, 7]]),
        r"annotation 0 of 0.png has a polygon that is no list of",
    ),
    "line": (setting(0, segmentation=[[1, 2, 3, 4]]), r"has a polygon that is no list of three or more points"),
    "runs": (
        setting(0, segmentation={"size": [30, 40], "counts": [5, 6]}),
        r"of 0.png has a damaged mask: its run len",
    ),
    "below": (
        setting(0, segmentation={"size": [30, 40], "counts": [-5, 1205]}),
        r"has a damaged mask: its run lengths",
    ),
    "code": (
        setting(0, segmentation={"size": [30, 40], "counts": "~~~"}),
        r"a damaged mask: its run lengths cannot be re",
    ),
    "cut": (
        setting(0, segmentation={"size": [30, 40], "counts": "0T"}),
        r"a damaged mask: its run lengths end in the mid",
    ),
    "of another": (
        setting(0, segmentation={"size": [3, 4], "counts": [12]}),
        r"a mask of 4 x 3 pixels, in an image of 40",
    ),
    "area": (setting(0, area=-2), r"annotation 0 of 0.png has the area -2; repair or remove it"),
    "points": (setting(0, keypoints=[1, 2]), r"has keypoints that are not x, y, visibility of each"),
    "above": (image(0, file_name="../../etc/passwd"), r"has an image '../../etc/passwd'; a name is to be a path below"),
    "absolute": (
        image(0, file_name="/etc/passwd"),
        r"has an image '/etc/passwd'; a name is to be a path below the fold",
    ),
    "windows": (image(0, file_name="C:\\x.png"), r"a name is to be a path below the folder of the images"),
    "empty": (image(0, file_name=""), r"has an image ''; a name is to be a path below"),
    "others": (lambda content: content["categories"][0].update(name="cow"), r"have different categories: cat, cow"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_damaged_annotation_is_one_sentence_when_the_set_is_opened(tmp_path: Path, kind: str) -> None:
    change, said = BROKEN[kind]
    with pytest.raises(DataError, match=said) as raised:
        loaded(tmp_path, change)
    assert "instances_train2017.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"[" * 100_000, b"\xff\xfe{}", b'{"images": [NaN]}', b"null"])
def test_a_file_that_is_no_json_of_coco_is_one_sentence(tmp_path: Path, text: bytes) -> None:
    path = files.coco(tmp_path) / "annotations/instances_val2017.json"
    path.write_bytes(text)
    with pytest.raises(DataError, match=r"instances_val2017.json cannot be read as COCO's annotations"):
        data.load(f"coco:{tmp_path}", SHAPE)


def test_images_are_checked_when_they_are_decoded(tmp_path: Path) -> None:
    source = data.load(f"coco:{files.coco(tmp_path)}", SHAPE)
    (tmp_path / "train2017/0.png").unlink()
    with pytest.raises(DataError, match=r"train2017/0.png cannot be read as an image \(No such file or directory\)"):
        source.train.__getitems__([(0, 0)])
    Image.new("RGB", (20, 30)).save(tmp_path / "train2017/1.png")
    with pytest.raises(
        DataError, match=r"1.png has 20 x 30 pixels, and .*instances_train2017.json says 30 x 40; repair"
    ):
        list(data.train_batches(source, 6, 0, 0, 1, workers=1))


def test_images_are_turned_as_their_metadata_says(tmp_path: Path) -> None:
    source = data.load(f"yolo:{files.yolo(tmp_path)}", SHAPE)
    path = tmp_path / "images/train/0.png"
    turned = Image.open(path).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6
    turned.save(path, exif=exif)
    again = data.load(f"yolo:{tmp_path}", SHAPE)
    assert all(map(torch.equal, everything(source.calibration)[0], everything(again.calibration)[0]))


def test_pictures_of_sixteen_bits_keep_their_brightness_upright_too(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray((files.pixels(0)[..., 0].astype("uint16") << 8) + 7).save(path)
    assert torch.equal(decode(path, upright=True), decode(path))
    assert decode(path, upright=True)[0].tolist() == files.pixels(0)[..., 0].tolist()


@pytest.mark.parametrize("name", ["coco", "voc", "yolo"])
def test_a_folder_of_something_else_is_told_what_is_needed(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name} needs the folder of its files: --data {name}:DIR"):
        data.load(name, SHAPE)
    with pytest.raises(DataError, match=r"nowhere, which is no folder"):
        data.load(f"{name}:{tmp_path}/nowhere", SHAPE)
    with pytest.raises(DataError, match=r"(looked for|cannot be read).*DIR"):
        data.load(f"{name}:{tmp_path}", SHAPE)
    root = {"coco": files.coco, "voc": files.voc, "yolo": files.yolo}[name](tmp_path / "whole")
    with pytest.raises(DataError, match="has photographs with 3 channels, but the network takes inputs of shape"):
        data.load(f"{name}:{root}", (1, 8, 8))
    with pytest.raises(DataError, match="no labels to choose from: leave out --labels"):
        data.load(f"{name}:{root}", SHAPE, labels=3)
    with pytest.raises(
        DataError, match=f"--augment color is for folders of photographs; {name} has standard and scale"
    ):
        data.load(f"{name}:{root}", SHAPE, augment="color")


def test_half_a_layout_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    root = files.coco(tmp_path)
    (root / "val2017").rename(root / "elsewhere")
    with pytest.raises(DataError, match=r"instances_val2017.json were looked for in .*val2017, which is no folder"):
        data.load(f"coco:{root}", SHAPE)
    (root / "annotations/instances_val2017.json").unlink()
    with pytest.raises(DataError, match=r"and annotations/instances_train2017.json is there alone; needed are"):
        data.load(f"coco:{root}", SHAPE)


# ---------------------------------------------------------------------------------------------- VOC and YOLO


def test_difficult_objects_are_ignored_and_not_learned(tmp_path: Path) -> None:
    root = files.voc(tmp_path)
    for name in ("t1", "v1"):
        (root / f"Annotations/{name}.xml").write_text(files.xml(1, difficult=1))
    source = data.load(f"voc:{root}", SHAPE)
    assert len(everything(source.calibration)[1][1]["labels"]) == 0
    assert everything(source.validation)[1][1]["iscrowd"].tolist() == [1, 1]


def test_voc_s_own_classes_keep_their_numbers(tmp_path: Path) -> None:
    root = files.voc(tmp_path)
    for path in (root / "Annotations").iterdir():
        path.write_text(path.read_text().replace(">tree<", ">car<"))
    source = data.load(f"voc:{root}", SHAPE)
    assert source.classes == 21
    assert source.categories[7] == "car"
    assert len(data.load(f"voc:{root.rename(root.parent / 'VOC2012').parent}", SHAPE).train) == 6


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb">]>'
XML: dict[str, tuple[Callable[[str], str], str]] = {
    "bomb": (lambda text: BOMB + text, r"cannot be read as XML \(it declares a document type"),
    "cut": (lambda text: text[:-9], r"t1.xml cannot be read as XML"),
    "empty": (lambda _: "", r"t1.xml cannot be read as XML \(no element found"),
    "encoding": (lambda text: f'<?xml version="1.0" encoding="nonsense"?>{text}', r"t1.xml cannot be read as XML"),
    "no size": (lambda text: text.replace("size>", "sizes>"), r"t1.xml has no size/width where one is needed"),
    "size": (lambda text: text.replace("<width>30", "<width>0"), r"t1.xml gives its image the size 0 x 40"),
    "no name": (lambda text: text.replace("<name>cat</name>", ""), r"t1.xml has no name where one is needed"),
    "no box": (lambda text: text.replace("bndbox", "box"), r"t1.xml has no bndbox/xmin where one is needed"),
    "number": (lambda text: text.replace("<xmin>3", "<xmin>three"), r"t1.xml has a bndbox/xmin that is no number"),
    "nan": (lambda text: text.replace("<xmin>3", "<xmin>nan"), r"t1.xml has a bndbox/xmin that is no number"),
    "turned": (
        lambda text: text.replace("<xmax>8", "<xmax>1"),
        r"annotation 1 of t1.png has the box .*which is not x, y",
    ),
}


@pytest.mark.parametrize("kind", XML)
def test_a_damaged_file_of_xml_is_one_sentence(tmp_path: Path, kind: str) -> None:
    change, said = XML[kind]
    root = files.voc(tmp_path)
    (root / "Annotations/t1.xml").write_text(change(files.xml(1)))
    with pytest.raises(DataError, match=said) as raised:
        data.load(f"voc:{root}", SHAPE)
    assert "\n" not in str(raised.value)


def test_names_of_voc_s_images_are_held_to_their_folder(tmp_path: Path) -> None:
    root = files.voc(tmp_path)
    listing = root / "ImageSets/Main/train.txt"
    listing.write_text(listing.read_text() + "\n../../etc/passwd")
    with pytest.raises(DataError, match=r"train.txt has the image '../../etc/passwd', which is no plain name"):
        data.load(f"voc:{root}", SHAPE)
    listing.write_text("gone")
    with pytest.raises(DataError, match=r"Annotations/gone.xml cannot be read as XML \(No such file"):
        data.load(f"voc:{root}", SHAPE)
    files.picture(root / "JPEGImages/v0.png", 0)
    listing.write_text("t0\nt3")
    (root / "Annotations/v1.xml").write_text(files.xml(1).replace("dog", "yak"))
    with pytest.raises(DataError, match=r"v1.xml has an object of the class 'yak', which no training image has"):
        data.load(f"voc:{root}", SHAPE)


LINES = {
    "0 0.5 0.5 1.2 0.1": r"train/1.txt has a number outside of 0 to 1, .* in line 2; repair or remove it",
    "0 -0.5 0.5 0.2 0.1": r"a number outside of 0 to 1",
    "0 0.5 0.5 nan 0.1": r"a number outside of 0 to 1",
    "0 0.5 0.5 wide 0.1": r"something that is no number in line 2",
    "3 0.5 0.5 0.2 0.1": r"the class 3, and there are 3, from 0 on, in line 2",
    "-1 0.5 0.5 0.2 0.1": r"the class -1, and there are 3",
    "0.5 0.5 0.5 0.2 0.1": r"the class 0.5, and there are 3",
    "0 0.5 0.5 0.2": r"3 numbers after the class, which are no box and no outline in line 2",
    "0": r"0 numbers after the class",
    "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4": r"7 numbers after the class",
}


@pytest.mark.parametrize("line", LINES)
def test_a_damaged_line_of_yolo_is_one_sentence(tmp_path: Path, line: str) -> None:
    root = files.yolo(tmp_path)
    path = root / "labels/train/1.txt"
    path.write_text(path.read_text().splitlines()[0] + f"\n{line}\n")
    with pytest.raises(DataError, match=LINES[line]):
        data.load(f"yolo:{root}", SHAPE)


YAML = {
    "train: images/train\nval: images/val": r"data.yaml does not say names",
    "names: [a, b, c]\nval: images/val": r"data.yaml does not say train",
    "names: {0: a, 2: c}\ntrain: images/train\nval: images/val": r"data.yaml does not say names",
    "- 1": r"data.yaml does not say train, val and names",
    "names: [": r"data.yaml cannot be read \(",
    "names: !!python/object/apply:os.system [x]": r"data.yaml cannot be read \(",
    "names: [a, b, c]\ntrain: /etc\nval: images/val": r"data.yaml has images in /etc; move them below",
    "names: [a, b, c]\ntrain: ../../etc\nval: images/val": r"data.yaml has images in ../../etc; move them below",
    "names: [a, b, c]\ntrain: images/gone\nval: images/val": r"images in images/gone, and nothing is there",
    "names: [a, b, c]\ntrain: images/train\nval: images/val\nkpt_shape: [17, 3]": r"is of keypoints \(kpt_shape\)",
}


@pytest.mark.parametrize("text", YAML)
def test_a_wrong_data_yaml_is_one_sentence(tmp_path: Path, text: str) -> None:
    root = files.yolo(tmp_path)
    (root / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=YAML[text]):
        data.load(f"yolo:{root}", SHAPE)


def test_ways_in_which_data_yaml_names_its_images(tmp_path: Path) -> None:
    root = files.yolo(tmp_path / "set")
    names = "names:\n  0: cat\n  1: dog\n  2: tree\n"
    (root / "train.txt").write_text("./images/train/0.png\n./images/train/4.png\n")
    for said, count in (
        ("train: ../images/train\nval: ../images/val", 6),
        ("path: .\ntrain: train.txt\nval: images/val", 2),
        ("path: images\ntrain: [train, val]\nval: val", 12),
        ("path: ../set/images\ntrain: images/train\nval: images/val", 6),
    ):
        (root / "data.yaml").write_text(f"{names}{said}\n")
        source = data.load(f"yolo:{root}", SHAPE)
        assert len(source.train) == count
        assert everything(source.calibration)[1][1]["boxes"].tolist()
    (root / "train.txt").write_text("../../etc/passwd.png\n")
    (root / "data.yaml").write_text(f"{names}train: train.txt\nval: images/val\n")
    with pytest.raises(
        DataError, match=r"data.yaml has an image '../../etc/passwd.png'; a name is to be a path below the folder"
    ):
        data.load(f"yolo:{root}", SHAPE)
