"""The network that `netslim extract` writes is the one that `gradaug eval` scored, or the file and the command say not.

The network's batch norms are lively: statistics of the full network ruin a narrow one.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

import netslim
from gradaug import data
from netslim.export import WRITERS, Writer
from netslim.export.written import Written
from netslim.notes import Notes, notes_of
from netslim_cli.main import gradaug as command
from netslim_cli.main import netslim as cutter

Run = Callable[..., Result]


class Lively(nn.Module):
    """Two stages with a residual body; trained for one short epoch by the fixture."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.body, self.body_norm = nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.top, self.top_norm = nn.Conv2d(12, 20, 3, stride=2), nn.BatchNorm2d(20)
        self.head = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(x)).relu()
        x = (x + self.body_norm(self.body(x))).relu()
        return self.head(self.top_norm(self.top(x)).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = netslim.convert(Lively(), torch.randn(2, 1, 12, 12), prove=False).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    source = data.load("digits", (1, 12, 12))
    for images, labels in data.train_batches(source, 48, 0, 0, 29):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("trained") / "trained.pt"
    netslim.save(net, path)
    return path


def assessed(model: str | Path, *options: str) -> dict[str, Any]:
    """The one row of `gradaug eval --json`, or more."""
    result = CliRunner().invoke(command, ["eval", "--model", str(model), "--json", *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Equal rows; losses may differ by what the order of additions does."""
    return first == pytest.approx(second, rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        ["--seed", "0"],
        ["--round-to", "4"],
        ["--calibration-batches", "2", "--batch-size", "32", "--seed", "5"],
    ],
    ids=" ".join,
)
def test_eval_scores_the_extracted_file_as_it_scored_the_sub_network(
    run: Run, trained: Path, options: list[str]
) -> None:
    assert run("extract", trained, "--width", "0.6", "-o", "slim.pt", "--data", "digits", *options).exit_code == 0
    (before,) = assessed(trained, "--widths", "0.6", *options)["scores"]
    (after,) = assessed("slim.pt", "--trust")["scores"]
    assert before["recalibrated"]
    assert same(before, after)


def test_with_a_block_left_out_too(run: Run, trained: Path) -> None:
    (block,) = netslim.load(trained).blocks
    said = run("extract", trained, "--width", "0.8", "--depth", block.name, "-o", "slim.pt", "--data", "digits").stdout
    assert "batch norm recalibrated on 16 batches of 64 training images of digits" in said
    (before,) = assessed(trained, "--widths", "0.8", "--skips", "1")["scores"]
    assert same(before, assessed("slim.pt", "--trust")["scores"][0])


def test_the_full_network_keeps_its_statistics_as_in_eval(run: Run, trained: Path) -> None:
    result = run("extract", trained, "--width", "1", "-o", "full.pt", "--data", "digits")
    assert "nothing to recalibrate (running statistics: its own)" in result.stdout
    assert same(assessed(trained)["scores"][0], assessed("full.pt", "--trust")["scores"][0])
    kept, own = torch.load("full.pt", weights_only=False).state_dict(), netslim.load(trained).state_dict()
    assert all(torch.equal(kept[name], own[name]) for name in kept)


def test_without_data_a_cut_network_says_that_its_batch_norm_does_not_fit(run: Run, trained: Path) -> None:
    result = run("extract", trained, "--width", "0.6", "-o", "slim.pt")
    assert "warning: its batch norm has the running statistics of the full network" in result.stderr
    assert "--data" in result.stderr
    found = json.loads(run("extract", trained, "--width", "0.6", "-o", "slim.pt", "--json").stdout)
    notes = notes_of("slim.pt")
    assert notes is not None
    assert found["warning"] == notes.warning
    assert assessed("slim.pt", "--trust")["warning"] == notes.warning
    (before,) = assessed(trained, "--widths", "0.6")["scores"]
    assert assessed("slim.pt", "--trust")["scores"][0]["loss"] > before["loss"]


def test_onnx_files_carry_the_notes_and_the_recalibrated_statistics(run: Run, trained: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from onnx.reference import ReferenceEvaluator

    run("extract", trained, "--width", "0.6", "-o", "slim.pt", "--data", "digits")
    assert "warning" in run("extract", trained, "--width", "0.6", "-o", "plain.onnx").stderr
    assert run("extract", trained, "--width", "0.6", "-o", "slim.onnx", "--data", "digits").exit_code == 0
    said = {name: onnx.load(name).metadata_props for name in ("plain.onnx", "slim.onnx")}
    values = {name: json.loads({p.key: p.value for p in props}["netslim"]) for name, props in said.items()}
    assert values["plain.onnx"]["warning"]
    assert values["slim.onnx"]["statistics"] == "recalibrated"
    images = torch.randn(3, 1, 12, 12)
    program = onnx.load("slim.onnx")
    (answer,) = ReferenceEvaluator(program).run(None, {program.graph.input[0].name: images.numpy()})
    expected = torch.load("slim.pt", weights_only=False)(images)
    torch.testing.assert_close(torch.from_numpy(answer), expected.detach(), atol=1e-3, rtol=1e-3)


def test_an_extracted_file_is_a_pickle_and_opens_with_trust_only(run: Run, trained: Path) -> None:
    run("extract", trained, "--width", "0.6", "-o", "slim.pt", "--data", "digits")
    refused = CliRunner().invoke(command, ["eval", "--model", "slim.pt"])
    assert refused.exit_code == 1
    assert "opening it runs code that it holds; if you trust the file, add --trust" in refused.stderr
    cut = CliRunner().invoke(command, ["eval", "--model", "slim.pt", "--trust", "--widths", "0.5"])
    assert cut.exit_code == 2
    assert "--widths are for converted ones" in " ".join(cut.stderr.split())


def test_options_that_choose_images_want_data(run: Run, trained: Path) -> None:
    result = run("extract", trained, "--width", "0.6", "-o", "slim.pt", "--calibration-batches", "3")
    assert result.exit_code == 2
    assert "--calibration-batches choose training images: say of which data, with --data" in result.stderr


def test_images_that_do_not_fit_are_a_sentence(run: Run, trained: Path) -> None:
    for spec, words in (
        ("digts", "did you mean digits"),
        ("cifar10:.", "images with 3 channels"),
        ("folder", "DIR"),
        ("synthetic:5x50", "has 10 outputs"),
    ):
        result = run("extract", trained, "--width", "0.6", "-o", "slim.pt", "--data", spec)
        assert result.exit_code == 1, spec
        assert not Path("slim.pt").exists()
        assert words in result.stderr or "looked for" in result.stderr


def test_a_network_whose_functions_normalise(run: Run) -> None:
    """What has no layer to recalibrate is warned about all the same."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, 10)
            self.register_buffer("mean", torch.zeros(8))
            self.register_buffer("var", torch.ones(8))

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.batch_norm(self.conv(x), self.mean, self.var, training=self.training)
            return self.head(x.relu().mean((2, 3)))

    netslim.save(netslim.convert(Functional(), torch.randn(2, 1, 12, 12)), "functional.pt")
    assert "warning" in run("extract", "functional.pt", "--width", "0.5", "-o", "slim.pt").stderr
    run("extract", "functional.pt", "--width", "0.5", "-o", "slim.pt", "--data", "digits")
    before, after = assessed("functional.pt", "--widths", "0.5"), assessed("slim.pt", "--trust")
    for name in ("top1", "loss"):
        assert before["scores"][0][name] == pytest.approx(after["scores"][0][name], rel=1e-4)


def test_what_recalibration_does_not_reach_is_said(run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradaug.evaluation.score.recalibrate", lambda net, _: net)
    result = run("extract", trained, "--width", "0.6", "-o", "slim.pt", "--data", "digits")
    assert "warning: some of its norms keep the running statistics of the full network" in result.stderr


@pytest.mark.parametrize("output", ["slim.pt", "slim", "slim.pt2"])
def test_the_summary_says_what_was_compared_and_that_batch_norm_was_not_recalibrated(
    run: Run, trained: Path, output: str
) -> None:
    said = " ".join(run("extract", trained, "--width", "0.6", "-o", output).stdout.split())
    modes = (
        "outputs in evaluation" if output.endswith("2") else "outputs, gradients and buffers in evaluation and training"
    )
    assert f"read back and found to be the same: {modes} mode" in said
    assert "batch norm not recalibrated" in said
    data = ("--data", "digits", "--calibration-batches", "2")
    again = run("extract", trained, "--width", "0.6", "-o", output, "--json", *data)
    told = json.loads(again.stdout)
    assert told["compared"].startswith(f"{modes} mode")
    assert told["open"] == (["batch", "height", "width"] if output.endswith("2") else None)
    assert told["bytes"] > 0
    assert told["speed"]["runtime"] == "torch"
    assert "ms an image in torch here (the full network:" in said


def test_a_folder_is_a_module_of_python_that_loads_its_weights(run: Run, trained: Path) -> None:
    assert run("extract", trained, "--width", "0.6", "-o", "slim", "--data", "digits").exit_code == 0
    assert run("extract", trained, "--width", "0.6", "-o", "slim.pt", "--data", "digits").exit_code == 0
    assert sorted(path.name for path in Path("slim").iterdir()) == ["model.py", "weights.safetensors"]
    network = runpy.run_path("slim/model.py")["load"]()
    images = torch.randn(3, 1, 12, 12)
    assert torch.equal(network(images), torch.load("slim.pt", weights_only=False).eval()(images))
    assert "import netslim" not in Path("slim/model.py").read_text()
    with safetensors.safe_open("slim/weights.safetensors", "pt") as file:
        assert json.loads(file.metadata()["netslim"])["statistics"] == "recalibrated"


def test_a_place_that_cannot_be_a_folder_is_a_sentence(run: Run, trained: Path) -> None:
    Path("taken").write_text("")
    result = run("extract", trained, "--width", "0.6", "-o", "taken")
    assert result.exit_code == 1
    assert "taken is not a folder" in result.stderr


def test_a_runtime_goes_with_a_time(run: Run, trained: Path) -> None:
    result = run("extract", trained, "--width", "0.6", "--runtime", "torch", "-o", "slim.pt")
    assert result.exit_code == 2
    assert "--runtime goes with --latency" in result.stderr


def test_a_row_is_all_that_a_form_needs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(model: nn.Module, _: object, path: Path, notes: Notes) -> Written:
        path.write_text(f"{len(list(model.parameters()))} {notes.width}")
        return Written("", "nothing reads it")

    monkeypatch.setitem(WRITERS, ".txt", Writer(write))
    cut = ["extract", str(trained), "--width", "0.5", "-o"]
    made = CliRunner().invoke(cutter, [*cut, str(tmp_path / "a.txt")])
    assert made.exit_code == 0, made.output
    assert (tmp_path / "a.txt").read_text().endswith(" 0.5")
    other = CliRunner().invoke(cutter, [*cut, "a.tflite"])
    assert other.exit_code == 2
    assert "a.tflite does not end in .pt, .pth, .pt2, .onnx, .txt, nor is it a folder" in other.stderr
