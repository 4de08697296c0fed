"""How many images a second a folder of photographs gives, decoded by torchvision and by Pillow alone.

    python benchmarks/loader.py                                    # seconds: 48 JPEG files that it writes itself
    python benchmarks/loader.py --images 512 --workers 0,2,4,8     # what a GPU would wait for

Photographs are noise over smooth colours, quality 90. "decode" is a file to pixels in this process; "batches" is the
training images of `folder:DIR`: read, decoded, cropped at random, resized, mirrored and normalised, by so many workers.
Workers start anew for every figure, which counts. Rows take turns, and the best of --repeat rounds is shown.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torchvision.transforms.v2.functional import to_pil_image

from gradaug import data
from gradaug.data import decode

DECODERS = ("torchvision", "Pillow")


def write(root: Path, count: int, height: int, width: int) -> list[Path]:
    """Two classes, half of the images each; the same files are both parts."""
    files = []
    for number in range(count):
        smooth = F.interpolate(torch.rand(1, 3, height // 16, width // 16), (height, width), mode="bicubic")[0]
        pixels = (smooth + 0.05 * torch.rand(3, height, width)).clamp(0, 1)
        file = root / "train" / str(number % 2) / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        to_pil_image((255 * pixels).byte()).save(file, quality=90)
        files.append(file)
    (root / "val").symlink_to(root / "train")
    return files


@contextmanager
def decoder(name: str) -> Iterator[None]:
    """Inside, files are decoded by it; workers that start inside do the same."""
    before = decode.alike
    if name == "Pillow":
        decode.alike = lambda: False  # type: ignore[assignment]
    try:
        yield
    finally:
        decode.alike = before


def rate(count: int, work: Callable[[], object]) -> float:
    """Images a second."""
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


@click.command()
@click.option("--images", default=48, show_default=True, type=click.IntRange(4), help="Files.")
@click.option("--size", default="375,500", show_default=True, help="Height and width of a file.")
@click.option("--side", default=224, show_default=True, help="Side of the network's images.")
@click.option("--workers", default="0,2", show_default=True, help="Processes that prepare batches, one row each.")
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(1), help="Rounds.")
def main(images: int, size: str, side: int, workers: str, repeat: int) -> None:
    """Prints a table."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    height, width = map(int, size.split(","))
    if not decode.alike():
        click.echo(
            "torchvision and Pillow decode to different pixels here: files are decoded by Pillow alone", err=True
        )
    with tempfile.TemporaryDirectory() as place:
        files = write(Path(place), images, height, width)
        source = data.load(f"folder:{place}", (3, side, side))
        batch = images // 4
        works: dict[str, Callable[[], object]] = {
            "decode": lambda: [decode.decode(each) for each in files[: 4 * batch]]
        }
        for count in map(int, workers.split(",")):
            works[f"batches, {count} workers"] = lambda count=count: list(
                data.train_batches(source, batch, 0, 0, 4, count)
            )
        best: dict[tuple[str, str], float] = {}
        for _ in range(repeat):
            for name, work in works.items():
                for by in DECODERS:
                    with decoder(by):
                        best[name, by] = max(best.get((name, by), 0.0), rate(4 * batch, work))
    table = Table(
        "images a second", *DECODERS, "ratio", title=f"{images} JPEG files of {height}x{width}, best of {repeat}"
    )
    for name in works:
        quick, slow = (best[name, by] for by in DECODERS)
        table.add_row(name, f"{quick:.0f}", f"{slow:.0f}", f"{quick / slow:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
