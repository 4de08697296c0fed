"""gradaug report: a run's folder read back, in a terminal and as a page that opens offline and runs nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import gradaug
from gradaug.config.settings import TrainConfig
from gradaug.pages.curves import Curve, Panel, panels, svg, thinned
from gradaug.pages.page import POLICY, page
from gradaug.subnets.sampler import Draw, draw
from gradaug.subnets.space import Space
from gradaug.training.log import drawn
from gradaug.training.record import read
from netslim.errors import InputError
from netslim_cli import main

pytest.importorskip("matplotlib")

HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&$\\frac{"
SCORE = {"top1": 10.0, "loss": 2.3, "images": 8, "top5": None, "calibration_error": None}


def step(number: int, **more: Any) -> dict[str, Any]:
    epoch = (number - 1) // 10 + 1
    return {"event": "step", "step": number, "epoch": epoch, "loss": 1.0, "subnet_loss": 0.1, "lr": 0.05, **more}


def epoch(number: int, **more: Any) -> dict[str, Any]:
    done = {"epoch": number, "step": 10 * number, "train_loss": 1.5 / number, "subnet_loss": 0.2, "train_top1": 50.0}
    return {"event": "epoch", **done, "val_loss": 1.2, "val_top1": 60.0 + number, "lr": 0.05, "seconds": 61.0, **more}


def start(**settings: Any) -> dict[str, Any]:
    config = {**TrainConfig().to_dict(), "epochs": 4, **settings}
    return {"event": "start", "step": 0, "config": config, "versions": {"torch": "2.9"}, "steps_per_epoch": 10}


def folder(path: Path, *lines: dict[str, Any], result: dict[str, Any] | None = None) -> Path:
    path.mkdir(parents=True)
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result is not None:
        (path / "result.json").write_text(json.dumps(result))
    return path


def finished(epochs: int = 2, **settings: Any) -> dict[str, Any]:
    row = {"width": 1.0, "params": 5000, "flops": 2_000_000, "recalibrated": False, "skipped": 0, "full": True}
    narrow = {**row, "width": 0.5, "recalibrated": True, "full": False}
    config = {**TrainConfig().to_dict(), "epochs": epochs, **settings}
    scores = [{**row, **SCORE, "top1": 77.25}, {**narrow, **SCORE}]
    return {"config": config, "before": SCORE, "subnets": scores, "epochs": epochs, "seconds": 3725.0}


class Tags(HTMLParser):
    """What a browser would make of a page: its tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main.gradaug, ["report", *map(str, arguments)])


# ------------------------------------------------------------------------------------------- what a run records


def test_a_run_records_what_it_is_and_what_it_draws(
    run: Callable[..., Any], short: gradaug.TrainConfig, tmp_path: Path
) -> None:
    run(replace(short, mode="both", epochs=3, batch_size=32, resolutions=(12, 10)), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "epoch", "epoch", "step", "epoch"]
    assert lines[0]["config"]["mode"] == "both"
    assert lines[0]["steps_per_epoch"] == 4
    assert {"torch", "python", "netslim-gradaug", "device"} <= lines[0]["versions"].keys()
    found = read(tmp_path / "run")
    assert (found.done, found.finished, found.state) == (3, True, "finished: 3 epochs")
    assert found.steps[0].widths[-1] == 0.8
    assert len(found.steps[0].widths) == 3
    assert set(found.steps[0].resolutions) <= {12, 10}
    names = [panel.title for panel in panels([found])]
    assert names[:5] == ["loss", "top-1 %", "learning rate", "widths drawn", "resolutions drawn"]
    shown = call(tmp_path / "run", "--html", tmp_path / "page.html")
    assert shown.exit_code == 0, shown.output
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_what_is_recorded_of_the_sub_networks_of_a_step() -> None:
    assert drawn(()) == {}
    assert drawn((Draw(0.9), Draw(0.5))) == {"widths": [0.9, 0.5]}
    assert drawn((Draw((("a", 0.5), ("b", 1.0)), ("x", "y"), 24), Draw(1.0))) == {
        "widths": [0.75, 1.0],
        "resolutions": [24, 0],
        "skipped": [2, 0],
    }
    assert drawn(draw(Space(mode="randwidth", alpha=0.6), 3, 7))["widths"][-1] == 0.6


# ------------------------------------------------------------------------------------------- the page


def test_a_page_has_curves_tables_and_settings_and_fetches_nothing(tmp_path: Path) -> None:
    lines = [
        start(lr=0.07, epochs=2),
        *(step(n, widths=[0.9, 0.8], skipped=[1, 0]) for n in (10, 20)),
        epoch(1),
        epoch(2),
    ]
    text = page([read(folder(tmp_path / "mine", *lines, result=finished(lr=0.07)))])
    found = Tags(text)
    assert not found.open
    assert found.tags.count("svg") == 5
    assert "script" not in found.tags
    for said in ("mine", "finished: 2 epochs", "1 h 2 min 5 s", "top-1 10.00 %", "top-1 77.25 %", "widths drawn",
                 "blocks skipped", "5,000", "width 0.5 *", "lr", "0.07", "as by default", "2.9"):  # fmt: skip
        assert said in found.text or any(said in part for part in found.text), said
    links = [value for name, value in found.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith("#") for value in links)
    assert ("content", POLICY) in found.attributes
    assert "url(http" not in text
    ids = [value for name, value in found.attributes if name == "id"]
    assert all(f"#{value}" in text for value in ids)


def test_names_from_a_run_are_text_whatever_they_are(tmp_path: Path) -> None:
    begun = {**start(data=HOSTILE, views=[HOSTILE]), "about": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    lines = [begun, epoch(1, **{f"val_{HOSTILE}": 1.0}), {"event": HOSTILE, "step": 1}]
    path = folder(tmp_path / HOSTILE.replace("/", "_"), *lines)
    (path / "predictions.png").write_bytes(b"\x89PNG")
    text = page([read(path)])
    found = Tags(text)
    assert not found.open
    assert "script" not in found.tags
    assert found.tags.count("img") == 1
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "<script" not in text
    assert sum(HOSTILE in part for part in found.text) >= 5
    shown = call(path)
    assert shown.exit_code == 0, shown.output


def test_runs_stand_side_by_side_and_what_differs_is_marked(tmp_path: Path) -> None:
    one = folder(tmp_path / "a" / "run", start(lr=0.1), epoch(1), result=finished(1, lr=0.1))
    two = folder(tmp_path / "b" / "run", start(lr=0.02), epoch(1), epoch(2))
    text = page([read(one), read(two)])
    (row,) = re.findall(r'<tr class="differs"><th>lr</th>(.*?)</tr>', text)
    assert re.findall(r"<td>(.*?)</td>", row) == ["0.1", "0.02"]
    assert str(one) in text
    assert str(two) in text
    assert "unfinished: 2 of 4 epochs" in text
    assert text.count("#0072b2") > 2
    assert text.count("#d55e00") > 2


# ------------------------------------------------------------------------------------------- unfinished, old, damaged


def test_an_unfinished_run_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    path = folder(tmp_path / "run", start(), step(10), epoch(1))
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "step", "st')
    found = read(path)
    assert (found.finished, found.state, found.seconds) == (False, "unfinished: 1 of 4 epochs", 61.0)
    text = page([found])
    assert "They are scored at the end of the run." in text
    assert "unfinished: 1 of 4 epochs" in call(path).stdout


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "Nothing is recorded yet."),
        ((start(), step(10)), "Nothing is validated yet."),
        ((start(), epoch(1, val_loss=None, val_top1=None)), "Nothing is validated yet."),
        ((epoch(1),), "They are not recorded in these runs."),
        ((start(), epoch(1, val_loss=1e308, val_top1=-1e308), epoch(2, val_loss=-1e308)), "unfinished: 2 of 4"),
        ((start(mode="none"), epoch(1, subnet_loss=0.0, val_top1=float("nan"))), "unfinished: 1 of 4"),
    ],
)
def test_a_run_that_has_not_come_far(tmp_path: Path, lines: tuple[dict[str, Any], ...], said: str) -> None:
    path = folder(tmp_path / "run", *lines)
    assert said in page([read(path)])
    assert call(path).exit_code == 0


def test_one_epoch_is_one(tmp_path: Path) -> None:
    assert read(folder(tmp_path / "run", start(epochs=1), epoch(1), result=finished(1))).state == "finished: 1 epoch"


def test_a_run_that_was_prolonged_is_unfinished_until_its_end(tmp_path: Path) -> None:
    lines = [start(epochs=2), epoch(1), epoch(2), start(epochs=4)]
    found = read(folder(tmp_path / "begun", *lines, result=finished(2)))
    assert (found.finished, found.scored, found.state) == (False, 2, "unfinished: 2 of 4 epochs")
    found = read(folder(tmp_path / "run", *lines, epoch(3), result=finished(2)))
    assert (found.finished, found.scored, found.state) == (False, 2, "unfinished: 3 of 4 epochs")
    assert "after 2 epochs" in page([found])


@pytest.mark.parametrize(
    ("metrics", "result", "said"),
    [
        (None, None, "is no run of gradaug train, as it has no metrics.jsonl"),
        ("[1]\n", None, "line 1 of .*metrics.jsonl is damaged: delete that line"),
        ("{}\nnonsense\n{}\n", None, "line 2 of .*metrics.jsonl is damaged"),
        ('{"event": "step", "step": "x"}\n', None, "line 1 of .*metrics.jsonl is damaged"),
        ('{"event": "epoch", "val_loss": 1}\n', None, "line 1 of .*metrics.jsonl is damaged"),
        ('{"event": "epoch", "epoch": 1, "step": 1, "val_loss": [1]}\n', None, "line 1 of .*metrics.jsonl is damaged"),
        ('{"event": "epoch", "epoch": 1e300, "step": 1}\n', None, "line 1 of .*metrics.jsonl is damaged"),
        ('{"event": "epoch", "epoch": 1, "step": -1}\n', None, "line 1 of .*metrics.jsonl is damaged"),
        ("", "{", "result.json is damaged"),
        ("", "{}", "result.json is damaged"),
        ("", json.dumps({**finished(), "subnets": [{}]}), "result.json is damaged"),
        ("", json.dumps(finished(task="poetry")), "a task that this gradaug does not have: 'poetry'"),
    ],
)
def test_a_folder_that_is_no_run_is_one_sentence(
    tmp_path: Path, metrics: str | None, result: str | None, said: str
) -> None:
    for name, text in (("metrics.jsonl", metrics), ("result.json", result)):
        if text is not None:
            (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read(tmp_path)
    shown = call(tmp_path)
    assert shown.exit_code == 1
    assert shown.stderr.startswith("error: ")
    assert "bug" not in shown.stderr


def test_other_mistakes(tmp_path: Path) -> None:
    assert "there is no folder" in call(tmp_path / "nothing").stderr
    assert call().exit_code == 2
    path = folder(tmp_path / "run", start(), epoch(1))
    refused = call(path, "--html", tmp_path)
    assert refused.exit_code == 1
    assert "it is a folder" in " ".join(refused.stderr.split())


# ------------------------------------------------------------------------------------------- curves


def test_long_curves_are_thinned_to_means() -> None:
    x, y = thinned([float(i) for i in range(10)], [float(i) for i in range(10)], 4)
    assert x == y == [1.0, 4.0, 7.0, 9.0]


def test_a_curve_without_numbers_is_drawn() -> None:
    gap = Curve(0, "validation", ([1.0, 2.0], [float("nan"), float("inf")]))
    assert svg(Panel("loss", (gap,))).startswith("<svg")
